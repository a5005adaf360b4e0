//! Client-side caching (`CLIENT TRACKING`): who is told when a key that he may have read changes.
//!
//! While no client tracks, all of it is one branch a command. Of a write that is not committed yet its invalidations are held as the
//! write's own reply is; when nobody can say what became of the write they are sent all the same, since to forget a key that has not
//! changed harms nobody. What a client's own command invalidates for itself is sent behind the command's reply.

use super::caching_table::{KeyTable, PrefixTable};
use super::{Close, ConnId, Executor, HeldKind};
use crate::commands::Entry;
use crate::journal::JournalPos;
use crate::seam::Office;
use holdfast_engine::{Command, EffectMarks, Flags, Key, SlotSet, key_slot};
use holdfast_resp::{Proto, write};
use std::collections::{BTreeMap, BTreeSet};

/// The channel on which clients that speak RESP2 hear of invalidated keys.
const CHANNEL: &[u8] = b"__redis__:invalidate";
/// Keys given up at once when there are more than `tracking-table-max-keys`; more if that was not enough the last time.
const GIVEN_UP_AT_ONCE: usize = 100;
/// But no more than that.
const GIVEN_UP_AT_ONCE_MAX: usize = 1000;
/// Keys that a turn looks at while some of them are to be forgotten with their slots.
const SEARCHED_A_TURN: usize = 500;
/// Keys whose memory a turn gives back after all were forgotten.
const FREED_A_TURN: usize = 1000;

/// What `CLIENT TRACKING` has set for a connection.
#[derive(Debug, Default)]
pub struct ClientTracking {
    /// The client that gets the messages in its place: its `CLIENT ID`, and its connection.
    pub redirect: Option<(u64, ConnId)>,
    /// That client was gone when a message was to be sent.
    pub broken: bool,
    /// It hears of all keys with these prefixes, whoever has read them.
    pub prefixes: Option<BTreeSet<Box<[u8]>>>,
    /// Only what it reads right after `CLIENT CACHING yes` counts.
    pub optin: bool,
    /// What it reads right after `CLIENT CACHING no` does not count.
    pub optout: bool,
    /// `CLIENT CACHING` was given for the next command.
    pub caching: bool,
    /// It does not hear of its own changes.
    pub noloop: bool,
}

impl ClientTracking {
    /// Whether it is in broadcasting mode.
    pub fn is_bcast(&self) -> bool {
        self.prefixes.is_some()
    }

    /// Whether what it reads now is to be remembered.
    fn remembers(&self) -> bool {
        let leaves_out = match self.caching {
            true => self.optout,
            false => self.optin,
        };
        !self.is_bcast() && !leaves_out
    }
}

/// Keys of slots that are gone, to be found among those that clients have read.
#[derive(Debug)]
struct Leaving {
    slots: SlotSet,
    /// How far the search has come.
    after: Option<Box<[u8]>>,
}

/// What is known of clients' caches.
#[derive(Debug, Default)]
pub(super) struct Caching {
    clients: usize,
    table: KeyTable,
    prefixes: PrefixTable,
    leaving: Option<Leaving>,
    /// How often in a row there were still too many keys.
    still_full: usize,
    /// How much of what the command under way has touched was looked at.
    seen: EffectMarks,
    freeing: bool,
}

impl Caching {
    /// Whether any client tracks.
    #[inline]
    pub fn is_active(&self) -> bool {
        self.clients > 0
    }

    /// What has been touched was forgotten.
    #[inline]
    pub fn on_touched_cleared(&mut self) {
        self.seen = EffectMarks::default();
    }

    /// Whether a turn has something to do for it.
    pub fn has_work(&self) -> bool {
        self.freeing || self.leaving.is_some() || self.still_full > 0
    }
}

/// What an invalidation names.
#[derive(Clone, Copy)]
enum Keys<'a> {
    All,
    One(&'a [u8]),
    /// Without those that this client has changed.
    But(&'a BTreeMap<Box<[u8]>, Option<ConnId>>, Option<ConnId>),
}

impl Keys<'_> {
    fn write(self, out: &mut Vec<u8>, proto: Proto) {
        match self {
            Keys::All => write::null(out, proto),
            Keys::One(key) => {
                write::array(out, 1);
                write::bulk(out, key);
            }
            Keys::But(keys, not) => {
                let others = || keys.iter().filter(|(_, by)| not.is_none() || **by != not);
                write::array(out, others().count());
                others().for_each(|(key, _)| write::bulk(out, key));
            }
        }
    }
}

impl Executor {
    /// For `INFO`: clients that track, keys and pairs of key and client in the table, prefixes.
    pub(crate) fn tracking_figures(&self) -> [usize; 4] {
        let c = &self.caching;
        [c.clients, c.table.keys(), c.table.items(), c.prefixes.len()]
    }

    /// Sets what a client tracks. The prefixes add up with those that it has.
    pub(crate) fn start_tracking(&mut self, id: ConnId, mut wanted: ClientTracking) {
        let Some(c) = self.conns.get_mut(id) else {
            return;
        };
        let before = c.tracking.take();
        self.caching.clients += usize::from(before.is_none());
        if let Some(prefixes) = &mut wanted.prefixes {
            for prefix in prefixes.iter() {
                self.caching.prefixes.add(prefix, id);
            }
            // The fewer to the many.
            if let Some(mut earlier) = before.and_then(|t| t.prefixes) {
                earlier.extend(std::mem::take(prefixes));
                *prefixes = earlier;
            }
        }
        c.tracking = Some(Box::new(wanted));
        self.update_tracking();
    }

    /// A client tracks nothing any more.
    pub(crate) fn stop_tracking(&mut self, id: ConnId) {
        let Some(tracking) = self.conns.get_mut(id).and_then(|c| c.tracking.take()) else {
            return;
        };
        for prefix in tracking.prefixes.iter().flatten() {
            self.caching.prefixes.remove(prefix, id);
        }
        self.caching.clients -= 1;
        if self.caching.clients == 0 {
            // Whatever is still in the table is nobody's.
            self.caching.table.clear();
            self.caching.freeing = true;
            self.caching.leaving = None;
            self.caching.still_full = 0;
            self.update_tracking();
        }
    }

    /// A command of a client has executed, or one of its transaction: what it has changed is told before what it has read is
    /// remembered.
    #[cold]
    pub(super) fn cache_read(&mut self, id: ConnId, command: &'static Command, argv: &[&[u8]]) {
        self.invalidate_touched(Some(id));
        let Some(c) = self.conns.get(id) else {
            return;
        };
        if !c.tracking.as_ref().is_some_and(|t| t.remembers()) {
            return;
        }
        let spec = &command.resolve(argv).spec;
        if !spec.flags.has(Flags::READONLY) {
            return;
        }
        let conns = &self.conns;
        let table = &mut self.caching.table;
        let is_alive = |other| {
            let client = conns.get(other).and_then(|c| c.tracking.as_ref());
            client.is_some_and(|t| !t.is_bcast())
        };
        // Keys that fit no rule were refused by the command itself.
        let _ = spec.each_key(argv, &mut |i, flags| {
            if let Some(key) = argv.get(i)
                && !flags.has(Key::NOT_KEY)
            {
                table.remember(key, id, is_alive);
            }
        });
    }

    /// A client's command is over: `CLIENT CACHING` was for this one, unless a transaction has begun.
    #[cold]
    pub(super) fn after_tracked_command(&mut self, id: ConnId, entry: Option<&'static Entry>) {
        self.invalidate_touched(Some(id));
        let parent = entry.and_then(|e| e.parent).map(|p| self.table.entry(p));
        let is_client_command = parent.is_some_and(|p| p.spec.name == "client");
        if let Some(c) = self.conns.get_mut(id)
            && c.multi.is_none()
            && !is_client_command
            && let Some(tracking) = &mut c.tracking
        {
            tracking.caching = false;
        }
    }

    /// Tells clients of what was touched since this was called last, changed by that client.
    pub(super) fn invalidate_touched(&mut self, by: Option<ConnId>) {
        if !self.caching.is_active() {
            return;
        }
        let from = std::mem::replace(&mut self.caching.seen, self.fx.marks());
        if from == self.caching.seen {
            return;
        }
        let behind = self.behind_effects();
        // The lists are in use as long as messages are written; nothing touches anything meanwhile.
        let fx = std::mem::take(&mut self.fx);
        if fx.flushed_since(from) {
            self.invalidate_all(behind);
        }
        for (_, key) in fx.touched_since(from) {
            self.invalidate(key, by, behind);
        }
        self.fx = fx;
    }

    /// What another node has executed, and its shard has committed.
    pub(crate) fn invalidate_applied(&mut self, fx: &holdfast_engine::Effects) {
        let free = (JournalPos(0), HeldKind::Free);
        let all = EffectMarks::default();
        if fx.flushed_since(all) {
            self.invalidate_all(free);
        }
        for (_, key) in fx.touched_since(all) {
            self.invalidate(key, None, free);
        }
    }

    /// Whether changes that others execute are to be listed for [`Executor::invalidate_applied`].
    pub(crate) fn wants_touched(&self) -> bool {
        self.caching.is_active()
    }

    /// What a message about the effects so far depends on.
    fn behind_effects(&self) -> (JournalPos, HeldKind) {
        if self.gated && !matches!(self.office, Office::Follower { .. }) {
            let last = JournalPos(self.journal.position().0 + self.fx.bytes().len() as u64);
            if last > self.journal.durable() {
                return (last, HeldKind::Invalidation);
            }
        }
        (JournalPos(0), HeldKind::Free)
    }

    fn invalidate(&mut self, key: &[u8], by: Option<ConnId>, behind: (JournalPos, HeldKind)) {
        if self.caching.prefixes.len() > 0 {
            self.caching.prefixes.on_change(key, by);
        }
        for id in self.caching.table.take(key).into_iter().flatten() {
            let client = self.conns.get(id).and_then(|c| c.tracking.as_ref());
            if client.is_some_and(|t| !t.is_bcast() && (!t.noloop || by != Some(id))) {
                self.send_invalidation(id, Keys::One(key), behind);
            }
        }
    }

    /// Tells all clients to forget everything.
    pub(super) fn invalidate_all(&mut self, behind: (JournalPos, HeldKind)) {
        if !self.caching.is_active() {
            return;
        }
        let tracking = |c: &&super::Connection| c.tracking.is_some();
        let ids: Vec<ConnId> = self.conns.iter().filter(tracking).map(|c| c.conn).collect();
        for id in ids {
            self.send_invalidation(id, Keys::All, behind);
        }
        self.caching.table.clear();
        self.caching.freeing = true;
        self.caching.leaving = None;
    }

    /// The memory has been replaced by another.
    pub(super) fn invalidate_replaced(&mut self) {
        self.invalidate_all((JournalPos(0), HeldKind::Free));
    }

    /// Slots have gone to another node, with their keys. Who hears of all keys of a prefix is told to forget everything; the keys
    /// that others have read are looked for in the turns that follow.
    pub(crate) fn invalidate_slots(&mut self, slots: impl Iterator<Item = u16>) {
        if !self.caching.is_active() {
            return;
        }
        let bcast = |c: &&super::Connection| c.tracking.as_ref().is_some_and(|t| t.is_bcast());
        let ids: Vec<ConnId> = self.conns.iter().filter(bcast).map(|c| c.conn).collect();
        for id in ids {
            self.send_invalidation(id, Keys::All, (JournalPos(0), HeldKind::Free));
        }
        let earlier = self.caching.leaving.take();
        let mut all: SlotSet = slots.collect();
        for slot in earlier.iter().flat_map(|l| l.slots.iter()) {
            all.insert(slot);
        }
        self.caching.leaving = Some(Leaving {
            slots: all,
            after: None,
        });
    }

    fn search_leaving(&mut self) {
        let Some(mut leaving) = self.caching.leaving.take() else {
            return;
        };
        let (keys, last) =
            self.caching
                .table
                .search(leaving.after.as_deref(), SEARCHED_A_TURN, |key| {
                    leaving.slots.contains(key_slot(key))
                });
        for key in keys {
            self.forget_key(&key);
        }
        if last.is_some() {
            leaving.after = last;
            self.caching.leaving = Some(leaving);
        }
    }

    /// Has the clients of a key forget it, though it has not changed.
    fn forget_key(&mut self, key: &[u8]) {
        for id in self.caching.table.take(key).into_iter().flatten() {
            let client = self.conns.get(id).and_then(|c| c.tracking.as_ref());
            if client.is_some_and(|t| !t.is_bcast()) {
                self.send_invalidation(id, Keys::One(key), (JournalPos(0), HeldKind::Free));
            }
        }
    }

    /// Whether there are more keys in the table than there may be.
    pub(super) fn tracks_too_much(&self) -> bool {
        let max = self.settings.tracked_keys_max;
        max > 0 && self.caching.table.keys() > max
    }

    /// Gives keys up while there are too many; the effort grows until it is enough.
    #[cold]
    pub(super) fn bound_tracking(&mut self) {
        let effort = GIVEN_UP_AT_ONCE * (self.caching.still_full + 1);
        for _ in 0..effort.min(GIVEN_UP_AT_ONCE_MAX) {
            let victim = match self.tracks_too_much() {
                true => self.caching.table.next_victim(),
                false => None,
            };
            let Some(key) = victim else {
                self.caching.still_full = 0;
                return;
            };
            self.forget_key(&key);
        }
        self.caching.still_full += usize::from(self.tracks_too_much());
        if !self.tracks_too_much() {
            self.caching.still_full = 0;
        }
    }

    /// What a turn does at its end.
    pub(super) fn caching_turn(&mut self) {
        if self.caching.freeing {
            self.caching.freeing = self.caching.table.free_step(FREED_A_TURN);
        }
        if !self.caching.is_active() {
            return;
        }
        self.search_leaving();
        if self.tracks_too_much() {
            self.bound_tracking();
        }
        self.broadcast();
    }

    /// Tells clients in broadcasting mode of what has changed since they were told.
    pub(super) fn broadcast(&mut self) {
        if !self.caching.prefixes.is_pending() {
            return;
        }
        let behind = self.behind_effects();
        for (clients, keys) in self.caching.prefixes.take_changes() {
            for id in clients {
                let client = self.conns.get(id).and_then(|c| c.tracking.as_ref());
                let not = Some(id).filter(|_| client.is_some_and(|t| t.noloop));
                if not.is_none() || keys.values().any(|by| *by != not) {
                    self.send_invalidation(id, Keys::But(&keys, not), behind);
                }
            }
        }
    }

    fn send_invalidation(&mut self, id: ConnId, keys: Keys<'_>, behind: (JournalPos, HeldKind)) {
        let Some(c) = self.conns.get_mut(id) else {
            return;
        };
        let Some(tracking) = &mut c.tracking else {
            return;
        };
        let mut to = id;
        if let Some((client, other)) = tracking.redirect {
            let proto = c.proto;
            let there = self.conns.get(other);
            if there.is_none_or(|c| c.close != Close::Open) {
                if let Some(tracking) = self.conns.get_mut(id).and_then(|c| c.tracking.as_mut()) {
                    tracking.broken = true;
                }
                if proto == Proto::Resp3 {
                    self.push_with(id, behind, |out, proto| {
                        write::push(out, proto, 2);
                        write::bulk(out, b"tracking-redir-broken");
                        write::int(out, client as i64);
                    });
                }
                return;
            }
            to = other;
        }
        let Some(c) = self.conns.get(to) else {
            return;
        };
        if c.proto == Proto::Resp3 {
            self.push_with(to, behind, |out, proto| {
                write::push(out, proto, 2);
                write::bulk(out, b"invalidate");
                keys.write(out, proto);
            });
        } else if to != id && c.is_subscriber() {
            self.push_with(to, behind, |out, proto| {
                write::push(out, proto, 3);
                write::bulk(out, b"message");
                write::bulk(out, CHANNEL);
                keys.write(out, proto);
            });
        }
    }
}
