//! Clients that wait for a key: first come, first served, for each key. And those that wait for copies (`WAIT`).

use super::{Blocked, Close, ConnId, Executor, OwnedArgv, State};
use crate::journal::JournalPos;
use holdfast_engine::{Block, Call, Group, Mode, Outcome, Type, Wakes};
use holdfast_resp::write;
use smallvec::SmallVec;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

type Key = (u16, Box<[u8]>);

/// Waiting clients that are served in one step: far below a millisecond.
const SERVED_A_STEP: usize = 128;
/// How often it is looked at how many copies there are, while somebody waits for some.
const COPIES_POLL_MS: u64 = 2;
/// With more waiting clients than this it is looked at only so often, else with every turn.
const COPIES_EVERY_TURN_MAX: usize = 64;

/// What `WAIT` and `WAITAOF` wait for: so many copies of everything up to there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CopiesWanted {
    /// How many.
    pub count: i64,
    /// Up to where.
    pub upto: JournalPos,
    /// They must be on disks, and the answer says so.
    pub on_disk: bool,
}

/// Who waits for what.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    /// For each key, the clients in order of their coming.
    keys: BTreeMap<Key, BTreeMap<u64, ConnId>>,
    next_place: u64,
    /// Keys with something for those that wait, in order.
    ready: VecDeque<Key>,
    /// The key whose clients are being served: from this place to that.
    serving: Option<(Key, u64, u64)>,
    /// Deadlines, by the monotonic clock in milliseconds.
    deadlines: BTreeSet<(u64, ConnId)>,
    /// For copies.
    copies: BTreeMap<ConnId, CopiesWanted>,
    next_copies_ms: u64,
    clients: usize,
    /// The keys of whose end clients are to hear, and how many.
    any_change: BTreeMap<Key, usize>,
}

impl Waiting {
    /// Whether nobody waits for a key.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Whether there are clients left to be served, before anybody else has his turn.
    pub fn is_serving(&self) -> bool {
        self.serving.is_some() || !self.ready.is_empty()
    }

    /// Whether somebody is to hear that a key has gone or become another type.
    pub fn wants_any_change(&self) -> bool {
        !self.any_change.is_empty()
    }

    fn add_any_change(&mut self, db: u16, keys: &[Box<[u8]>]) {
        for key in keys {
            *self.any_change.entry((db, key.clone())).or_default() += 1;
        }
    }

    fn remove_any_change(&mut self, db: u16, keys: &[Box<[u8]>]) {
        for key in keys {
            let key = (db, key.clone());
            if let Some(count) = self.any_change.get_mut(&key) {
                *count -= 1;
                if *count == 0 {
                    self.any_change.remove(&key);
                }
            }
        }
    }

    /// How many clients wait.
    pub fn clients(&self) -> usize {
        self.clients
    }

    /// How many keys are waited for.
    pub fn keys(&self) -> usize {
        self.keys.len()
    }

    /// The next deadline.
    pub fn next_deadline_ms(&self) -> Option<u64> {
        let copies = (!self.copies.is_empty()).then_some(self.next_copies_ms);
        let first = self.deadlines.first().map(|(at, _)| *at);
        first.into_iter().chain(copies).min()
    }
}

impl Executor {
    /// How many clients wait in blocking commands, for how many keys, and of how many of those they are to hear the end.
    pub(crate) fn blocked_counts(&self) -> (usize, usize, usize) {
        let any_change = self.waiting.any_change.len();
        (self.waiting.clients(), self.waiting.keys(), any_change)
    }

    /// Makes a client wait.
    pub(super) fn block(&mut self, id: ConnId, db: u16, argv: &[&[u8]], block: Block) {
        let mut on_timeout = Vec::new();
        if let Some(c) = self.conns.get(id) {
            block.on_timeout.write(&mut on_timeout, c.proto);
        }
        let deadline_ms = block.timeout.map(|t| {
            // Rounded up: never early.
            let ms = t.as_micros().div_ceil(1000).min(u128::from(u64::MAX / 2)) as u64;
            self.now.mono_ms() + ms
        });
        let mut argv: OwnedArgv = argv.iter().map(|a| Box::from(*a)).collect();
        for (i, arg) in block.replaced {
            argv[i] = arg;
        }
        self.wait(
            id,
            db,
            Blocked {
                argv,
                keys: block.keys,
                place: 0,
                deadline_ms,
                on_timeout,
                wakes: block.wakes,
                took_ns: 0,
                request_bytes: 0,
            },
        );
    }

    /// Makes a client wait for keys (possibly none) or a deadline.
    pub(crate) fn wait(&mut self, id: ConnId, db: u16, mut blocked: Blocked) {
        blocked.place = self.waiting.next_place;
        self.waiting.next_place += 1;
        for key in &blocked.keys {
            let queue = self.waiting.keys.entry((db, key.clone())).or_default();
            queue.insert(blocked.place, id);
        }
        if let Some(at) = blocked.deadline_ms {
            self.waiting.deadlines.insert((at, id));
        }
        self.waiting.clients += 1;
        if blocked.wakes == Wakes::OnAnyChange {
            self.waiting.add_any_change(db, &blocked.keys);
        }
        if let Some(c) = self.conns.get_mut(id) {
            c.state = State::Blocked(Box::new(blocked));
        }
        self.update_tracking();
    }

    /// Makes a client wait until so many voters have everything up to its last write, or a deadline.
    pub(crate) fn wait_for_copies(
        &mut self,
        id: ConnId,
        argv: OwnedArgv,
        wanted: CopiesWanted,
        deadline_ms: Option<u64>,
    ) {
        let Some(db) = self.conns.get(id).map(|c| c.db) else {
            return;
        };
        let (_, on_timeout) = self.copies_there(wanted);
        let blocked = Blocked {
            argv,
            keys: Vec::new(),
            place: 0,
            deadline_ms,
            on_timeout,
            wakes: Wakes::OnValue,
            took_ns: 0,
            request_bytes: 0,
        };
        self.wait(id, db, blocked);
        self.waiting.copies.insert(id, wanted);
    }

    /// How many copies there are, and the answer that says so.
    pub(crate) fn copies_there(&self, wanted: CopiesWanted) -> (i64, Vec<u8>) {
        let mut copies = self.journal.copies(wanted.upto) as i64;
        let mut answer = Vec::new();
        if wanted.on_disk {
            // Followers of the backlog do not say what they have on their disks; voters say nothing else.
            if !self.gated {
                copies = 0;
            }
            write::array(&mut answer, 2);
            write::int(&mut answer, 0);
        }
        write::int(&mut answer, copies);
        (copies, answer)
    }

    /// Answers those that have waited for copies which are there now.
    pub(super) fn serve_copies(&mut self) {
        let now = self.now.mono_ms();
        let many = self.waiting.copies.len() > COPIES_EVERY_TURN_MAX;
        if self.waiting.copies.is_empty() || (many && now < self.waiting.next_copies_ms) {
            return;
        }
        self.waiting.next_copies_ms = now + COPIES_POLL_MS;
        let waiting: Vec<(ConnId, CopiesWanted)> = self
            .waiting
            .copies
            .iter()
            .map(|(id, w)| (*id, *w))
            .collect();
        for (id, wanted) in waiting {
            let (copies, reply) = self.copies_there(wanted);
            if copies >= wanted.count {
                self.unblock_with(id, &reply);
            } else if let Some(c) = self.conns.get_mut(id)
                && let State::Blocked(blocked) = &mut c.state
            {
                blocked.on_timeout = reply;
            }
        }
    }

    /// Forgets that a client waits, and returns what for.
    fn stop_waiting(&mut self, id: ConnId) -> Option<Box<Blocked>> {
        let c = self.conns.get_mut(id)?;
        if !matches!(c.state, State::Blocked(_)) {
            return None;
        }
        let State::Blocked(blocked) = std::mem::replace(&mut c.state, State::Ready) else {
            return None;
        };
        let db = c.db;
        for key in &blocked.keys {
            let key = (db, key.clone());
            if let Some(queue) = self.waiting.keys.get_mut(&key) {
                queue.remove(&blocked.place);
                if queue.is_empty() {
                    self.waiting.keys.remove(&key);
                }
            }
        }
        if let Some(at) = blocked.deadline_ms {
            self.waiting.deadlines.remove(&(at, id));
        }
        self.waiting.copies.remove(&id);
        self.waiting.clients -= 1;
        if blocked.wakes == Wakes::OnAnyChange {
            self.waiting.remove_any_change(db, &blocked.keys);
        }
        self.update_tracking();
        Some(blocked)
    }

    /// Starts a waiting client's command over: its slot is served elsewhere now.
    pub(crate) fn rerun_blocked_command(&mut self, id: ConnId) {
        if let Some(blocked) = self.stop_waiting(id) {
            self.execute_owned(id, &blocked.argv);
            self.mark_dirty(id);
            self.unblocked.push(id);
        }
    }

    /// The connection goes away.
    pub(super) fn unblock_quietly(&mut self, id: ConnId) {
        self.stop_waiting(id);
    }

    /// Reports the keys that clients wait for and that are in databases which have got another content, or lost it.
    pub(super) fn signal_exchanged(&mut self, databases: &[Option<u16>]) {
        let now_ms = self.now.unix_ms();
        for place in self.waiting.keys.keys() {
            let (db, key) = (place.0, &place.1);
            let concerned = databases.iter().any(|d| d.is_none_or(|d| d == db));
            let lost = self.waiting.any_change.contains_key(place);
            if concerned && (lost || self.engine.key_type(db, key, now_ms).is_some()) {
                self.fx.signal_ready(db, key);
            }
        }
    }

    /// Serves clients that wait for keys that have become ready, until there are none or enough for one step; the rest
    /// comes before anything else ([`Executor::is_serving`]).
    pub(super) fn serve_ready(&mut self) {
        for _ in 0..SERVED_A_STEP {
            let Some(id) = self.next_served() else {
                return;
            };
            // What was ready may be gone again, or be of another type by now.
            if let Some((key, ..)) = &self.waiting.serving {
                let found = self.engine.key_type(key.0, &key.1, self.now.unix_ms());
                if found.is_none() && !self.waiting.wants_any_change() {
                    self.waiting.serving = None;
                    continue;
                }
                self.try_serve(id, found);
            }
        }
    }

    /// The next client whose turn it is.
    fn next_served(&mut self) -> Option<ConnId> {
        loop {
            if self.waiting.ready.is_empty() && self.waiting.serving.is_none() {
                // Serving one client may make another key ready (BLMOVE): those come behind.
                let mut seen = BTreeSet::new();
                for (db, key) in self.fx.take_ready().iter() {
                    let key = (db, Box::from(key));
                    if self.waiting.keys.contains_key(&key) && seen.insert(key.clone()) {
                        self.waiting.ready.push_back(key);
                    }
                }
            }
            let (key, from, last) = match self.waiting.serving.take() {
                Some(serving) => serving,
                // Those that begin to wait while it is served have to wait for the next time.
                None => (self.waiting.ready.pop_front()?, 0, self.waiting.next_place),
            };
            let queue = self.waiting.keys.get(&key);
            if let Some((place, id)) = queue.and_then(|q| q.range(from..last).next()) {
                let (place, id) = (*place, *id);
                self.waiting.serving = Some((key, place + 1, last));
                return Some(id);
            }
        }
    }

    /// Whether clients are still being served that a command has made ready: no other command may come between.
    pub(super) fn is_serving(&self) -> bool {
        self.waiting.is_serving()
    }

    /// Goes on serving. When that is done, everybody may go on.
    pub(super) fn serve_more(&mut self) {
        self.serve_ready();
        if !self.is_serving() {
            self.resume_all();
        }
    }

    /// Lets those hear of it whose key has gone or become another type, if that is what they wait for.
    pub(super) fn note_lost_keys(&mut self) {
        if !self.waiting.wants_any_change() {
            return;
        }
        let now_ms = self.now.unix_ms();
        let mut lost: Vec<Key> = Vec::new();
        for (db, key) in self.fx.touched().iter() {
            let key = (db, Box::from(key));
            if self.waiting.any_change.contains_key(&key)
                && self.engine.key_type(key.0, &key.1, now_ms) != Some(Type::Stream)
            {
                lost.push(key);
            }
        }
        for (db, key) in lost {
            self.fx.signal_ready(db, &key);
        }
    }

    /// Executes a waiting client's command anew, if a key with a value of this type, or without a value, is what it waits for.
    fn try_serve(&mut self, id: ConnId, ready: Option<Type>) {
        let Some(c) = self.conns.get(id) else {
            return;
        };
        let State::Blocked(blocked) = &c.state else {
            return;
        };
        let wakes = blocked.wakes;
        let argv: Vec<Box<[u8]>> = blocked.argv.clone();
        let argv: SmallVec<[&[u8]; 16]> = argv.iter().map(|a| &a[..]).collect();
        let table = self.table;
        let Some(entry) = table.find(&argv) else {
            return;
        };
        let crate::commands::Run::Data(command) = entry.run else {
            return;
        };
        let wanted = match command.spec.group {
            Group::SortedSet => Type::Zset,
            Group::Stream => Type::Stream,
            _ => Type::List,
        };
        if ready != Some(wanted) && wakes == Wakes::OnValue {
            return;
        }
        if self.pause.is_some() && self.is_paused(id, entry) {
            // What has come during a pause is taken when it is over.
            if let Some(blocked) = self.stop_waiting(id) {
                self.park(id, blocked.argv);
            }
            return;
        }
        self.settle_group();
        let Some(c) = self.conns.get_mut(id) else {
            return;
        };
        let start = c.out.buf.len();
        let before = self.fx.bytes().len();
        self.depends = Default::default();
        self.observer.start();
        let begin_ns = self.observer.at_ns();
        let mut call = Call {
            argv: &argv,
            db: c.db,
            slot: None,
            proto: c.proto,
            now_ms: self.now.unix_ms(),
            mode: Mode::Primary,
            may_block: true,
            rng: &mut self.rng,
            reply: &mut c.out.buf,
            blobs: None,
            fx: &mut self.fx,
        };
        let outcome = self.engine.execute(command, &mut call);
        match outcome {
            Outcome::Block(_) => return,
            Outcome::Done => {}
            Outcome::Failed => self.stats.fail(entry.id, &c.out.buf[start..]),
        }
        let reply_bytes = c.out.buf.len() - start;
        let took_ns = self.observer.lap(begin_ns);
        if let Some(blocked) = self.stop_waiting(id) {
            let took_ns = took_ns + blocked.took_ns;
            let request_bytes = blocked.request_bytes;
            self.observe_unblocked(id, entry, &argv, took_ns, request_bytes, reply_bytes);
        }
        if self.gated {
            self.note_dependence(id, command, &argv, before);
            self.gate_reply(id, start);
        }
        if self.caching.is_active() {
            self.cache_read(id, command, &argv);
        }
        self.deliver_events();
        self.note_touched();
        self.mark_dirty(id);
        self.unblocked.push(id);
    }

    /// Ends a client's waiting with this reply.
    pub(crate) fn unblock_with(&mut self, id: ConnId, reply: &[u8]) -> bool {
        let Some(blocked) = self.stop_waiting(id) else {
            return false;
        };
        let argv: SmallVec<[&[u8]; 16]> = blocked.argv.iter().map(|a| &a[..]).collect();
        let table = self.table;
        if let Some(entry) = table.find(&argv) {
            let (took_ns, request_bytes) = (blocked.took_ns, blocked.request_bytes);
            self.observe_unblocked(id, entry, &argv, took_ns, request_bytes, reply.len());
            if reply.first() == Some(&b'-') {
                // It counts as refused as well, since it did not run to its end.
                self.stats.reject(entry.id);
                self.stats.note_error(reply);
            }
        }
        if let Some(c) = self.conns.get_mut(id)
            && c.close != Close::Now
        {
            let start = c.out.buf.len();
            c.out.buf.extend_from_slice(reply);
            if self.gated {
                self.hold_reply(id, start, Default::default(), super::HeldKind::Free);
            }
        }
        self.mark_dirty(id);
        self.unblocked.push(id);
        true
    }

    /// Ends a client's waiting as if its time were over.
    pub(crate) fn unblock_as_timeout(&mut self, id: ConnId) -> bool {
        let Some(State::Blocked(b)) = self.conns.get(id).map(|c| &c.state) else {
            return false;
        };
        let reply = b.on_timeout.clone();
        self.unblock_with(id, &reply)
    }

    /// Ends everybody's waiting with this error.
    pub(super) fn unblock_all(&mut self, error: &[u8]) {
        let ids: Vec<ConnId> = self
            .conns
            .iter()
            .filter(|c| {
                let copies = self.waiting.copies.contains_key(&c.conn);
                matches!(&c.state, State::Blocked(b) if copies || !b.keys.is_empty())
            })
            .map(|c| c.conn)
            .collect();
        for id in ids {
            self.unblock_with(id, error);
        }
    }

    /// Ends the waiting of those whose time is over.
    pub(super) fn expire_waiting(&mut self) {
        let now = self.now.mono_ms();
        while let Some((at, id)) = self.waiting.deadlines.first().copied()
            && at <= now
        {
            if !self.unblock_as_timeout(id) {
                self.waiting.deadlines.remove(&(at, id));
            }
        }
        self.resume_unblocked();
    }

    /// Goes on with the commands that served clients had sent meanwhile. Not from within a command.
    pub(super) fn resume_unblocked(&mut self) {
        if self.is_serving() {
            return;
        }
        while let Some(id) = self.unblocked.pop() {
            self.resume(id);
        }
    }
}
