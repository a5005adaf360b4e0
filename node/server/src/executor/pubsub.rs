//! Who listens to which channel, and delivering messages to them.

use super::{ConnId, Executor};
use holdfast_engine::glob;
use holdfast_resp::write;
use std::collections::{BTreeMap, BTreeSet};

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
            receivers += usize::from(self.push_to(id, &[kind, channel, message]));
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
                receivers +=
                    usize::from(self.push_to(id, &[b"pmessage", &pattern, channel, message]));
            }
        }
        receivers
    }

    /// Appends a push message to a connection's output. Returns whether it is still there.
    pub(crate) fn push_to(&mut self, id: ConnId, parts: &[&[u8]]) -> bool {
        let now = self.now.mono_ms();
        let Some(c) = self.conns.get_mut(id) else {
            return false;
        };
        let start = c.out.buf.len();
        write::push(&mut c.out.buf, c.proto, parts.len());
        for part in parts {
            write::bulk(&mut c.out.buf, part);
        }
        c.out
            .hold(start, Default::default(), super::HeldKind::Free, now);
        self.mark_dirty(id);
        true
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
    }
}
