//! Who listens to which channel, and delivering messages to them.

use super::{ConnId, Executor, HeldKind};
use crate::journal::JournalPos;
use crate::seam::Office;
use holdfast_engine::{EventClass, EventList, glob, key_slot};
use holdfast_resp::{Proto, write};
use std::collections::{BTreeMap, BTreeSet};

/// A message for the client whose command is under way, and what it depends on.
pub(super) type SelfPush = (Vec<u8>, JournalPos, HeldKind);

/// Depends on nothing.
pub(super) const FREE: (JournalPos, HeldKind) = (JournalPos(0), HeldKind::Free);

/// Subscriptions by channel. The connections' own side is [`super::Subscriptions`].
#[derive(Debug, Default)]
pub struct Channels {
    /// `SUBSCRIBE`
    pub channels: BTreeMap<Box<[u8]>, BTreeSet<ConnId>>,
    /// `PSUBSCRIBE`
    pub patterns: BTreeMap<Box<[u8]>, BTreeSet<ConnId>>,
    /// `SSUBSCRIBE`
    pub shard_channels: BTreeMap<Box<[u8]>, BTreeSet<ConnId>>,
}

impl Executor {
    /// Sends a message to this node's subscribers and returns how many there are.
    pub fn deliver_published(&mut self, channel: &[u8], message: &[u8], sharded: bool) -> usize {
        self.deliver(channel, message, sharded, FREE)
    }

    fn deliver(
        &mut self,
        channel: &[u8],
        message: &[u8],
        sharded: bool,
        behind: (JournalPos, HeldKind),
    ) -> usize {
        let mut receivers = 0;
        let map = if sharded {
            &self.channels.shard_channels
        } else {
            &self.channels.channels
        };
        let direct: Vec<ConnId> = map
            .get(channel)
            .map(|s| s.iter().copied().collect())
            .unwrap_or_default();
        let kind: &[u8] = if sharded { b"smessage" } else { b"message" };
        for id in direct {
            receivers += usize::from(self.push_to(id, &[kind, channel, message], behind));
        }
        if !sharded && !self.channels.patterns.is_empty() {
            let matching: Vec<(Box<[u8]>, ConnId)> = self
                .channels
                .patterns
                .iter()
                .filter(|(pattern, _)| glob::matches(pattern, channel))
                .flat_map(|(pattern, ids)| ids.iter().map(move |id| (pattern.clone(), *id)))
                .collect();
            for (pattern, id) in matching {
                let parts: [&[u8]; 4] = [b"pmessage", &pattern, channel, message];
                receivers += usize::from(self.push_to(id, &parts, behind));
            }
        }
        receivers
    }

    /// Sends the keyspace events that have gathered to this node's subscribers. What they say of writes that are not
    /// committed leaves no sooner than the writes' replies.
    pub(super) fn deliver_events(&mut self) {
        if !self.fx.has_events() {
            return;
        }
        let mut behind = FREE;
        if self.gated && !matches!(self.office, Office::Follower { .. }) {
            // Effects of one unit are one entry: any position in it is committed with all of it.
            let last = JournalPos(self.journal.position().0 + self.fx.bytes().len() as u64);
            if last > self.journal.durable() {
                behind = (last, HeldKind::Message);
            }
        }
        let events = self.fx.take_events();
        self.deliver_list(&events, behind);
    }

    /// Sends the keyspace events of a committed entry that another node has executed.
    pub(crate) fn deliver_applied(&mut self, events: &EventList) {
        self.deliver_list(events, FREE);
    }

    fn deliver_list(&mut self, events: &EventList, behind: (JournalPos, HeldKind)) {
        let wanted = self.settings.events;
        let mut channel = Vec::new();
        for (db, event, key) in events.iter() {
            for (to, word, name, message) in [
                (EventClass::KEYSPACE, "keyspace", key, event.as_bytes()),
                (EventClass::KEYEVENT, "keyevent", event.as_bytes(), key),
            ] {
                if wanted.meets(to) {
                    channel.clear();
                    channel.extend_from_slice(format!("__{word}@{db}__:").as_bytes());
                    channel.extend_from_slice(name);
                    self.deliver(&channel, message, false, behind);
                }
            }
        }
    }

    fn push_to(&mut self, id: ConnId, parts: &[&[u8]], behind: (JournalPos, HeldKind)) -> bool {
        self.push_with(id, behind, |out, proto| {
            write::push(out, proto, parts.len());
            for part in parts {
                write::bulk(out, part);
            }
        })
    }

    /// Appends a push message to a connection's output, to leave when what it depends on allows it. Returns whether the
    /// connection is still there.
    pub(super) fn push_with(
        &mut self,
        id: ConnId,
        (needs, kind): (JournalPos, HeldKind),
        encode: impl FnOnce(&mut Vec<u8>, Proto),
    ) -> bool {
        let Some(c) = self.conns.get_mut(id) else {
            return false;
        };
        let own = self.executing == Some(id);
        let mut kept = Vec::new();
        let start = c.out.buf.len();
        let out = if own { &mut kept } else { &mut c.out.buf };
        encode(out, c.proto);
        if own {
            self.self_pushes.push((kept, needs, kind));
            return true;
        }
        self.hold_reply(id, start, needs, kind);
        self.mark_dirty(id);
        true
    }

    /// Appends the messages that had to wait for the end of a client's own command.
    pub(super) fn deliver_self_pushes(&mut self, id: ConnId) {
        for (bytes, needs, kind) in std::mem::take(&mut self.self_pushes) {
            let Some(c) = self.conns.get_mut(id) else {
                continue;
            };
            let start = c.out.buf.len();
            c.out.buf.extend_from_slice(&bytes);
            self.hold_reply(id, start, needs, kind);
        }
    }

    /// Ends the subscriptions to shard channels whose slots belong to another shard now, and tells the subscribers.
    pub(super) fn drop_moved_channels(&mut self) {
        let Some(routing) = &self.routing else {
            return;
        };
        let moved: Vec<Box<[u8]>> = self
            .channels
            .shard_channels
            .keys()
            .filter(|name| routing.is_elsewhere(key_slot(name)))
            .cloned()
            .collect();
        for name in moved {
            let ids = self.channels.shard_channels.remove(&name);
            for id in ids.into_iter().flatten() {
                let Some(c) = self.conns.get_mut(id) else {
                    continue;
                };
                let Some(subs) = c.subs.as_mut() else {
                    continue;
                };
                subs.shard_channels.remove(&name);
                let left = subs.shard_channels.len();
                if subs.is_empty() {
                    c.subs = None;
                }
                let start = c.out.buf.len();
                write::push(&mut c.out.buf, c.proto, 3);
                write::bulk(&mut c.out.buf, b"sunsubscribe");
                write::bulk(&mut c.out.buf, &name);
                write::int(&mut c.out.buf, left as i64);
                self.hold_reply(id, start, Default::default(), HeldKind::Free);
                self.mark_dirty(id);
            }
        }
    }

    /// Removes every subscription of a connection that goes away.
    pub(crate) fn drop_subscriptions(&mut self, id: ConnId) {
        let Some(subs) = self.conns.get_mut(id).and_then(|c| c.subs.take()) else {
            return;
        };
        for (names, map) in [
            (&subs.channels, &mut self.channels.channels),
            (&subs.patterns, &mut self.channels.patterns),
            (&subs.shard_channels, &mut self.channels.shard_channels),
        ] {
            for name in names {
                if let Some(set) = map.get_mut(name) {
                    set.remove(&id);
                    if set.is_empty() {
                        map.remove(name);
                    }
                }
            }
        }
        self.update_tracking();
    }
}
