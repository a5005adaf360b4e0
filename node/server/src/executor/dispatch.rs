//! One command of a client: found, checked, routed, executed, its reply held if it depends on something.

use super::observe::bytes_on_wire;
use super::{Close, ConnId, DurabilityChoice, Executor, HeldKind, Multi, ReplyMode, State};
use crate::commands::{Entry, Run, Special};
use crate::journal::JournalPos;
use crate::routing::{KeyPresence, MyRole, Query, Route};
use crate::seam::Office;
use holdfast_engine::{Call, Command, Flags, Group, Key, Mode, Outcome, key_slot};
use holdfast_resp::{Proto, write};
use smallvec::SmallVec;

/// What the reply of the command under way depends on.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Depends {
    needs: JournalPos,
    wrote: bool,
    read: bool,
}

const NO_AUTH: &str = "NOAUTH Authentication required.";
const NOT_LEADING: &str = "CLUSTERDOWN This node does not lead its shard (yet)";
const STAGING: &str = "TRYAGAIN Slots that are on their way to this shard would be emptied with it";
const TOO_LARGE: &str = "ERR The write is larger than one entry of this shard's log may be";
const NO_REPLICAS: &str = "NOREPLICAS Not enough good replicas to write.";
const OUT_OF_MEMORY: &str = "OOM command not allowed when used memory > 'maxmemory'.";
const READ_ONLY: &str = "READONLY You can't write against a read only replica.";

/// How the engine answers when a reply would be longer than it makes any.
const REPLY_TOO_LONG: &[u8] = b"-ERR reply exceeds the output buffer limit";
/// With more effects than this a turn becomes several entries.
const TURN_BYTES_MAX: usize = 8 << 20;
/// What an argument takes in the log beside its own bytes, at most.
const ARGUMENT_OVERHEAD: usize = 16;

/// About how many bytes a command's effects have, if it is logged as it was sent.
fn bytes_of<'a>(argv: impl Iterator<Item = &'a [u8]>) -> usize {
    argv.map(|arg| arg.len() + ARGUMENT_OVERHEAD).sum()
}

impl Executor {
    /// Executes a command of a client.
    pub(super) fn dispatch(&mut self, id: ConnId, argv: &[&[u8]]) {
        self.dispatch_found(id, self.table.find(argv), argv);
    }

    /// [`Executor::dispatch`] with the command's row at hand.
    pub(super) fn dispatch_found(
        &mut self,
        id: ConnId,
        entry: Option<&'static Entry>,
        argv: &[&[u8]],
    ) {
        let Some(c) = self.conns.get_mut(id) else {
            return;
        };
        if c.internal {
            self.import_command(id, argv);
            self.after_effects();
            return self.bound_turn();
        }
        let start = c.out.buf.len();
        if c.reply == ReplyMode::SkipNext {
            c.reply = ReplyMode::Skip;
        }
        let was_asking = c.asking;
        self.depends = Depends::default();
        self.pushed = false;
        // Commands that had to wait may be executed by the one that lets them go on.
        let outer = (self.executing.replace(id), self.reply_start);
        self.reply_start = start;
        match entry {
            Some(entry) => self.checked(id, entry, argv),
            None => self.unknown_command(id, argv),
        }
        if self.caching.is_active() {
            self.after_tracked_command(id, entry);
        }
        let start = self.reply_start;
        (self.executing, self.reply_start) = outer;
        self.after_command(id, start, was_asking);
        self.bound_turn();
    }

    /// What many commands of one turn have written does not become one huge entry.
    fn bound_turn(&mut self) {
        if self.gated && self.fx.bytes().len() > TURN_BYTES_MAX {
            self.settle_group();
            self.flush_effects();
            self.observer.start();
        }
    }

    /// [`Executor::dispatch`] for a command that was kept.
    pub(crate) fn execute_owned(&mut self, id: ConnId, argv: &[Box<[u8]>]) {
        let argv: SmallVec<[&[u8]; 16]> = argv.iter().map(|a| &a[..]).collect();
        self.observer.start();
        self.observer.request_bytes = bytes_on_wire(&argv);
        self.dispatch(id, &argv);
    }

    fn after_command(&mut self, id: ConnId, start: usize, was_asking: bool) {
        let Some(c) = self.conns.get_mut(id) else {
            return;
        };
        // A client that is closed for its memory has been stripped of all replies.
        let start = start.min(c.out.buf.len());
        if was_asking {
            c.asking = false;
        }
        if c.reply != ReplyMode::On {
            match c.reply {
                ReplyMode::Skip => {
                    c.reply = ReplyMode::On;
                    if !self.pushed {
                        c.out.truncate(start);
                    }
                }
                ReplyMode::Off if self.pushed => {}
                ReplyMode::Off => c.out.truncate(start),
                ReplyMode::On | ReplyMode::SkipNext => {}
            }
        }
        if self.gated {
            self.gate_reply(id, start);
        } else if self.followers.is_active() {
            let end = self.journal.position().0 + self.fx.bytes().len() as u64;
            if let Some(c) = self.conns.get_mut(id) {
                c.last_write = JournalPos(end);
            }
        }
        if self.slept_us > 0 {
            self.wake();
        }
        if !self.self_pushes.is_empty() {
            self.deliver_self_pushes(id);
        }
        self.after_effects();
    }

    /// What must follow a command's effects: keyspace events, broken watches, and clients that may go on.
    #[inline]
    pub(super) fn after_effects(&mut self) {
        if self.tracking {
            self.deliver_events();
            self.note_touched();
            self.serve_ready();
        }
    }

    pub(super) fn gate_reply(&mut self, id: ConnId, start: usize) {
        let Some(c) = self.conns.get_mut(id) else {
            return;
        };
        let d = self.depends;
        if d.wrote {
            c.last_write = d.needs;
        }
        let kind = match c.durability {
            DurabilityChoice::Async => HeldKind::Free,
            _ if d.wrote => HeldKind::Write,
            _ if d.read => HeldKind::Read,
            _ => HeldKind::Free,
        };
        let needs = if kind == HeldKind::Free {
            JournalPos(0)
        } else {
            d.needs
        };
        self.hold_reply(id, start, needs, kind);
    }

    fn checked(&mut self, id: ConnId, entry: &'static Entry, argv: &[&[u8]]) {
        let Some(c) = self.conns.get_mut(id) else {
            return;
        };
        c.last_command = entry.id;
        let flags = entry.spec.flags;
        // Strangers learn nothing, not even which commands there are.
        if !c.authenticated && !flags.has(Flags::NO_AUTH) {
            return self.reject(id, entry, NO_AUTH);
        }
        if !entry.spec.arity_ok(argv.len()) {
            let text = format!(
                "ERR wrong number of arguments for '{}' command",
                entry.full_name
            );
            return self.reject(id, entry, &text);
        }
        let container = !entry.subs.is_empty() && argv.len() > 1;
        if container && entry.spec.name != "cluster" {
            self.mark_transaction_failed(id);
            self.stats.reject(entry.id);
            return crate::commands::unknown_subcommand(self, id, argv);
        }
        let in_multi = c.multi.is_some();
        if flags.has(Flags::PROTECTED) && !self.permits_protected(id, entry) {
            let text = protected_text(entry.spec.name);
            return self.reject(id, entry, &text);
        }
        if in_multi && flags.has(Flags::NO_MULTI) {
            let text = format!(
                "ERR Command '{}' not allowed inside a transaction",
                entry.full_name
            );
            return self.reject(id, entry, &text);
        }
        if let Err(()) = self.check_route(id, entry, argv) {
            return;
        }
        if self.persist.restricts
            && let Some(text) = self.persistence_forbids(
                flags.has(Flags::LOADING),
                flags.has(Flags::WRITE) || entry.spec.name == "ping",
            )
        {
            return self.reject(id, entry, text);
        }
        if self.settings.replicas_min > 0
            && !self.gated
            && self.has_flags(id, entry, Flags::WRITE)
            && self.lacks_followers()
        {
            return self.reject(id, entry, NO_REPLICAS);
        }
        let Some(c) = self.conns.get_mut(id) else {
            return;
        };
        if c.proto == Proto::Resp2
            && c.subs.as_ref().is_some_and(|s| !s.is_empty())
            && !matches!(
                entry.special,
                Special::Subscriber | Special::SubscriberNotQueued
            )
        {
            let text = format!(
                "ERR Can't execute '{}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context",
                entry.full_name
            );
            return self.reject(id, entry, &text);
        }
        if self.pause.is_some() && self.is_paused(id, entry) {
            return self.park(id, argv.iter().map(|a| Box::from(*a)).collect());
        }
        // Clients before keys: what they are owed may be what memory is full of.
        if self.settings.client_bytes_max > 0 && self.is_evicted(id) {
            return;
        }
        if self.settings.memory_bytes_max > 0
            && !self.ahead_of_reply(id, Executor::make_room)
            && self.has_flags(id, entry, Flags::DENYOOM)
        {
            return self.reject(id, entry, OUT_OF_MEMORY);
        }
        if self.caching.is_active() && self.tracks_too_much() {
            self.ahead_of_reply(id, Executor::bound_tracking);
        }
        if in_multi && matches!(entry.special, Special::None | Special::Subscriber) {
            self.queue(id, argv);
            return;
        }
        self.run(id, entry, argv, !in_multi);
    }

    /// Does something before the command under way: what its client is told of it comes before the reply.
    fn ahead_of_reply<T>(&mut self, id: ConnId, f: impl FnOnce(&mut Executor) -> T) -> T {
        let executing = self.executing.take();
        let result = f(self);
        self.executing = executing;
        if let Some(c) = self.conns.get(id) {
            self.reply_start = c.out.buf.len();
        }
        result
    }

    /// Whether a command, or one in the transaction that it ends, has any of these flags.
    pub(super) fn has_flags(&self, id: ConnId, entry: &Entry, flags: Flags) -> bool {
        if entry.spec.flags.has_any(flags) {
            return true;
        }
        let queue = self.conns.get(id).and_then(|c| c.multi.as_ref());
        entry.special == Special::Exec
            && queue.is_some_and(|m| {
                m.queue.iter().any(|argv| {
                    let argv: SmallVec<[&[u8]; 16]> = argv.iter().map(|a| &a[..]).collect();
                    let entry = self.table.find(&argv);
                    entry.is_some_and(|e| e.spec.flags.has_any(flags))
                })
            })
    }

    /// Executes a checked command.
    pub(super) fn run(
        &mut self,
        id: ConnId,
        entry: &'static Entry,
        argv: &[&[u8]],
        may_block: bool,
    ) {
        let grouped = self.observe_next(entry);
        let begin_ns = self.observer.at_ns();
        let start = self.conns.get(id).map_or(0, |c| c.out.buf.len());
        match entry.run {
            Run::Data(command) => {
                self.run_data(id, entry.id, command, argv, may_block);
            }
            Run::Server(f) => {
                f(self, id, argv);
                // The error itself was counted when it was written.
                if self
                    .conns
                    .get(id)
                    .is_some_and(|c| c.out.buf.get(start) == Some(&b'-'))
                {
                    self.stats.fail_quietly(entry.id);
                }
            }
        }
        match grouped {
            true => self.observe_grouped(id, entry, argv, start),
            false => self.observe(id, entry, argv, begin_ns, start),
        }
    }

    /// How a command is executed while data are imported (`import-mode`): nothing expires, but only the client from which the data
    /// come sees what should have. What others overwrite is deleted first.
    #[cold]
    fn import_mode_of(&mut self, id: ConnId, command: &'static Command, argv: &[&[u8]]) -> Mode {
        let Some(c) = self.conns.get(id) else {
            return Mode::Replica;
        };
        let db = c.db;
        if c.import_source {
            return Mode::Apply;
        }
        let spec = &command.resolve(argv).spec;
        if !spec.flags.has(Flags::WRITE) {
            return Mode::Replica;
        }
        let mut keys = Vec::new();
        // Arguments that fit no rule are refused by the command itself.
        let _ = spec.each_key(argv, &mut |i, _| keys.extend(argv.get(i)));
        let mut reply = Vec::new();
        for key in keys {
            let mut call = Call {
                argv,
                db,
                slot: None,
                proto: Proto::Resp2,
                now_ms: self.now.unix_ms(),
                mode: Mode::Primary,
                may_block: false,
                rng: &mut self.rng,
                reply: &mut reply,
                blobs: None,
                fx: &mut self.fx,
            };
            self.engine.exists(&mut call, key);
        }
        Mode::Apply
    }

    fn run_data(
        &mut self,
        id: ConnId,
        entry: u16,
        command: &'static Command,
        argv: &[&[u8]],
        may_block: bool,
    ) {
        let before = self.fx.bytes().len();
        // During a pause nothing changes, not even by expiry, or by what `PFCOUNT` keeps.
        let paused = self.pause.is_some() || self.paused_slots.is_some();
        let keeps = paused && !command.spec.flags.has(Flags::WRITE);
        let mode = if matches!(self.office, Office::Follower { .. }) || keeps {
            Mode::Replica
        } else if self.settings.import_mode {
            self.import_mode_of(id, command, argv)
        } else {
            Mode::Primary
        };
        let Some(c) = self.conns.get_mut(id) else {
            return;
        };
        let start = c.out.buf.len();
        let mut call = Call {
            argv,
            db: c.db,
            slot: None,
            proto: c.proto,
            now_ms: self.now.unix_ms(),
            mode,
            may_block,
            rng: &mut self.rng,
            reply: &mut c.out.buf,
            blobs: Some(&mut c.out.blobs),
            fx: &mut self.fx,
        };
        self.engine.set_no_touch(c.no_touch);
        match self.engine.execute(command, &mut call) {
            Outcome::Done => {
                if self
                    .persist
                    .flushall
                    .is_some_and(|f| std::ptr::eq(f, command))
                {
                    self.persistence_on_flushall();
                }
            }
            Outcome::Failed => {
                let error = &c.out.buf[start..];
                let too_long = error.starts_with(REPLY_TOO_LONG);
                self.stats.fail(entry, error);
                if too_long {
                    self.close_for_long_reply(id);
                }
            }
            Outcome::Block(block) => {
                let db = c.db;
                self.block(id, db, argv, *block);
                return;
            }
        }
        if self.caching.is_active() {
            self.cache_read(id, command, argv);
        }
        if self.gated {
            self.note_dependence(id, command, argv, before);
        }
    }

    /// A reply was given up on the way because of its length: it is above the client's limit as well, if there is one.
    #[cold]
    fn close_for_long_reply(&mut self, id: ConnId) {
        let Some(limit) = self.output_limit_of(id).map(|l| l.hard_bytes) else {
            return;
        };
        if limit > 0 && limit <= self.engine.config().reply_bytes_max {
            self.stats.output_limit_disconnections += 1;
            self.warn_output_limit(id);
            self.close_client(id, Close::Now);
        }
    }

    /// Adds what a command just executed depends on to what the reply under way does.
    pub(super) fn note_dependence(
        &mut self,
        id: ConnId,
        command: &'static Command,
        argv: &[&[u8]],
        before: usize,
    ) {
        let Some(c) = self.conns.get(id) else { return };
        let db = c.db;
        let last = JournalPos(self.journal.position().0 + self.fx.bytes().len() as u64);
        if self.fx.bytes().len() > before {
            self.depends.wrote = true;
            self.depends.needs = last;
            self.gate_touched();
            return;
        }
        if matches!(self.office, Office::Follower { .. }) {
            return;
        }
        self.depends.read = true;
        let spec = &command.resolve(argv).spec;
        let mut any = false;
        let mut needs = self.depends.needs;
        let gate = &self.gate;
        let found = spec.each_key(argv, &mut |i, _| {
            any = true;
            if let Some(key) = argv.get(i) {
                needs = needs.max(gate.of_key(db, key));
            }
        });
        if !any || found.is_err() || spec.has_unknown_keys() {
            // It looks at the whole keyspace, at keys that others name, or at none; waiting for the last position is right for both.
            needs = needs.max(if gate.is_empty() { JournalPos(0) } else { last });
        }
        self.depends.needs = needs;
    }

    /// The keys touched since they were last looked at depend on the position behind the effects so far.
    pub(super) fn gate_touched(&mut self) {
        let last = JournalPos(self.journal.position().0 + self.fx.bytes().len() as u64);
        let within = self.fx.touched_within().iter();
        for (db, key) in self.fx.touched().iter().chain(within) {
            self.gate.on_write(db, key, last);
        }
        if !self.fx.flushed().is_empty() {
            self.gate.on_write_all(last);
        }
    }

    /// A unit of several effects was closed, which has moved the position behind them.
    pub(super) fn settle_unit(&mut self) {
        if self.gated && self.depends.wrote {
            self.depends.needs =
                JournalPos(self.journal.position().0 + self.fx.bytes().len() as u64);
            self.gate_touched();
        }
    }

    /// Breaks the watches of keys that were changed, and forgets the changes.
    pub(super) fn note_touched(&mut self) {
        self.invalidate_touched(None);
        self.caching.on_touched_cleared();
        if self.fx.touched().is_empty() && self.fx.flushed().is_empty() {
            return self.fx.clear_touched();
        }
        self.note_lost_keys();
        if !self.watchers.is_empty() {
            let now_ms = self.now.unix_ms();
            for (db, key) in self.fx.touched().iter() {
                let key = (db, Box::from(key));
                let Some(ids) = self.watchers.get(&key) else {
                    continue;
                };
                let absent = self.engine.key_type(db, &key.1, now_ms).is_none();
                for id in ids {
                    // A key that was absent, or expired, when it was watched and is absent now has not changed.
                    if let Some(c) = self.conns.get_mut(*id)
                        && !(absent && c.watched.get(&key) == Some(&false))
                    {
                        c.watch_broken = true;
                    }
                }
            }
            for flushed in self.fx.flushed() {
                for (key, ids) in &self.watchers {
                    if flushed.is_some_and(|f| f != key.0) {
                        continue;
                    }
                    // After an exchange of databases it may be there now.
                    let absent = self.engine.key_type(key.0, &key.1, now_ms).is_none();
                    for id in ids {
                        // A key that was absent before and is now is no other.
                        if let Some(c) = self.conns.get_mut(*id)
                            && !(absent && c.watched.get(key) == Some(&false))
                        {
                            c.watch_broken = true;
                        }
                    }
                }
            }
        }
        let exchanged = self.fx.flushed().to_vec();
        if !exchanged.is_empty() {
            self.signal_exchanged(&exchanged);
        }
        self.fx.clear_touched();
    }

    /// Decides who answers. `Err` means that somebody else does, and that the client has been told or waits.
    #[inline]
    fn check_route(&mut self, id: ConnId, entry: &'static Entry, argv: &[&[u8]]) -> Result<(), ()> {
        let alone = self.routing.is_none() && self.office == Office::Standalone;
        if alone && self.paused_slots.is_none() {
            return Ok(());
        }
        self.check_route_clustered(id, entry, argv)
    }

    fn check_route_clustered(
        &mut self,
        id: ConnId,
        entry: &'static Entry,
        argv: &[&[u8]],
    ) -> Result<(), ()> {
        let Some(c) = self.conns.get(id) else {
            return Err(());
        };
        let mut scan = KeyScan::default();
        let mut write = entry.spec.flags.has(Flags::WRITE);
        let mut data = matches!(entry.run, Run::Data(_));
        let empties = |e: &Entry| matches!(e.spec.name, "flushall" | "flushdb");
        let mut flushes = empties(entry);
        let mut bytes = 0;
        if entry.special == Special::Exec {
            for owned in c.multi.iter().flat_map(|m| &m.queue) {
                let queued: SmallVec<[&[u8]; 16]> = owned.iter().map(|a| &a[..]).collect();
                if let Some(e) = self.table.find(&queued) {
                    write |= e.spec.flags.has(Flags::WRITE);
                    data |= matches!(e.run, Run::Data(_));
                    flushes |= empties(e);
                    bytes += bytes_of(queued.iter().copied());
                    scan.add(e, &queued);
                }
            }
        } else {
            scan.add(entry, argv);
        }
        if flushes && self.has_staging_in_doubt() {
            self.reject(id, entry, STAGING);
            if entry.special == Special::Exec {
                self.discard(id);
            }
            return Err(());
        }
        let Some(c) = self.conns.get(id) else {
            return Err(());
        };
        let (readonly, asking) = (c.readonly, c.asking || entry.spec.flags.has(Flags::ASKING));
        let mut served_as_replica = false;
        if let Some(routing) = self.routing.clone()
            && scan.slot.is_some()
        {
            let slot = scan.slot;
            let query = Query {
                slot,
                crossslot: scan.crossslot,
                write,
                readonly,
                asking,
                shard_pubsub: scan.channels,
                migrate: entry.spec.name == "migrate",
                owned: self
                    .owned_slots
                    .as_ref()
                    .and_then(|set| Some(set.contains(slot?))),
            };
            if let Some(slot) = slot
                && query.owned == Some(false)
                && !query.crossslot
                && self.migrate.is_leaving(slot)
            {
                // Its new owner is about to serve it.
                let argv = argv.iter().map(|a| Box::from(*a)).collect();
                self.park(id, argv);
                return Err(());
            }
            let gone_to = slot
                .filter(|_| query.owned == Some(false) && !query.crossslot && !asking)
                .and_then(|slot| Some((slot, self.migrate.gone_to(slot)?)))
                .and_then(|(slot, node)| {
                    let mine = routing.owner(slot).is_some_and(|o| o.node == routing.me);
                    let node = holdfast_cluster_bus::NodeId::from_bytes(node.0);
                    mine.then(|| routing.endpoint(&node).map(|to| Route::Moved(slot, to)))?
                });
            let presence = || self.presence(id, entry, argv);
            let route = gone_to.unwrap_or_else(|| routing.route(&query, presence));
            match route {
                Route::Here => {
                    let paused = slot
                        .is_some_and(|s| self.paused_slots.as_ref().is_some_and(|p| p.contains(s)));
                    if paused && write {
                        let argv = argv.iter().map(|a| Box::from(*a)).collect();
                        self.park(id, argv);
                        return Err(());
                    }
                }
                elsewhere => {
                    let mut text = Vec::new();
                    elsewhere.write_error(self.conns[id].info.tls, &mut text);
                    self.stats.reject(entry.id);
                    self.reply_raw_error(id, &text);
                    if entry.special == Special::Exec {
                        self.discard(id);
                    } else {
                        self.mark_transaction_failed(id);
                    }
                    return Err(());
                }
            }
            served_as_replica = routing.role == MyRole::Replica;
        } else if write && self.routing.is_none() && self.paused_slots.is_some() {
            // Keys are on their way to another server. Without slots all writes wait: elsewhere, everything would.
            let argv = argv.iter().map(|a| Box::from(*a)).collect();
            self.park(id, argv);
            return Err(());
        }
        if data
            && self.gated
            && let Some(text) = self.journal.refusal(write)
        {
            self.reject(id, entry, text);
            if entry.special == Special::Exec {
                self.discard(id);
            }
            return Err(());
        }
        if write && self.gated {
            if entry.special != Special::Exec {
                bytes = bytes_of(argv.iter().copied());
            }
            if bytes > self.journal.entry_bytes_max() {
                self.reject(id, entry, TOO_LARGE);
                return Err(());
            }
        }
        if data && matches!(self.office, Office::Follower { .. }) {
            let error = if write && (scan.slot.is_none() || served_as_replica) {
                Some(READ_ONLY)
            } else if scan.slot.is_some() && !served_as_replica || write {
                Some(NOT_LEADING)
            } else {
                None
            };
            if let Some(text) = error {
                self.reject(id, entry, text);
                if entry.special == Special::Exec {
                    self.discard(id);
                }
                return Err(());
            }
        }
        Ok(())
    }

    /// Which keys of a command, or of the transaction that it ends, are there.
    fn presence(&mut self, id: ConnId, entry: &Entry, argv: &[&[u8]]) -> KeyPresence {
        let Some(c) = self.conns.get(id) else {
            return KeyPresence::default();
        };
        let db = c.db;
        let mut keys: Vec<Vec<u8>> = Vec::new();
        let mut collect = |e: &Entry, argv: &[&[u8]]| {
            // Arguments that fit no rule are refused by the command itself.
            let _ = e.spec.each_key(argv, &mut |i, _| {
                keys.extend(argv.get(i).map(|k| k.to_vec()))
            });
        };
        if entry.special == Special::Exec {
            for owned in c.multi.iter().flat_map(|m| &m.queue) {
                let queued: SmallVec<[&[u8]; 16]> = owned.iter().map(|a| &a[..]).collect();
                if let Some(e) = self.table.find(&queued) {
                    collect(e, &queued);
                }
            }
        } else {
            collect(entry, argv);
        }
        let existing = keys.iter().filter(|k| self.key_exists(db, k)).count();
        KeyPresence {
            existing,
            missing: keys.len() - existing,
            several: keys.iter().any(|k| *k != keys[0]),
        }
    }

    /// Whether a key is there and has not expired. Changes nothing.
    pub(crate) fn key_exists(&mut self, db: u16, key: &[u8]) -> bool {
        self.engine.key_type(db, key, self.now.unix_ms()).is_some()
    }

    /// What the engine knows of a key, if it is there.
    pub(crate) fn key_info(&mut self, db: u16, key: &[u8]) -> Option<holdfast_engine::KeyInfo> {
        let mut reply = Vec::new();
        let now_ms = self.now.unix_ms();
        let call = Call {
            argv: &[],
            db,
            slot: None,
            proto: Proto::Resp2,
            now_ms,
            mode: Mode::Replica,
            may_block: false,
            rng: &mut self.rng,
            reply: &mut reply,
            blobs: None,
            fx: &mut self.fx,
        };
        self.engine.key_info(&call, key)
    }

    fn queue(&mut self, id: ConnId, argv: &[&[u8]]) {
        let Some(c) = self.conns.get_mut(id) else {
            return;
        };
        let multi = c.multi.get_or_insert_with(|| Box::new(Multi::default()));
        // An aborted transaction will not run: what follows need not be kept.
        if !multi.aborted {
            multi.bytes += argv.iter().map(|a| a.len() + 16).sum::<usize>();
            multi
                .queue
                .push(argv.iter().map(|a| Box::from(*a)).collect());
        }
        write::simple(&mut c.out.buf, "QUEUED");
    }

    fn reject(&mut self, id: ConnId, entry: &Entry, text: &str) {
        self.mark_transaction_failed(id);
        self.stats.reject(entry.id);
        if entry.special == Special::Exec {
            // The reason replaces the transaction, which is over.
            let reason = text.strip_prefix("ERR ").unwrap_or(text);
            let text = format!("EXECABORT Transaction discarded because of: {reason}");
            self.discard(id);
            return self.reply_error(id, &text);
        }
        self.reply_error(id, text);
    }

    fn mark_transaction_failed(&mut self, id: ConnId) {
        if let Some(m) = self.conns.get_mut(id).and_then(|c| c.multi.as_mut()) {
            m.aborted = true;
        }
    }

    fn unknown_command(&mut self, id: ConnId, argv: &[&[u8]]) {
        // A web page may have made a browser send us an HTTP request whose body holds commands.
        if argv[0].eq_ignore_ascii_case(b"post") || argv[0].eq_ignore_ascii_case(b"host:") {
            tracing::warn!(
                "Possible SECURITY ATTACK detected. It looks like somebody is sending POST or Host: commands to \
                 Holdfast. Connection aborted."
            );
            return self.close_client(id, Close::Now);
        }
        self.mark_transaction_failed(id);
        if self.conns.get(id).is_some_and(|c| !c.authenticated) {
            return self.reply_error(id, NO_AUTH);
        }
        self.stats.unknown_commands += 1;
        let name = String::from_utf8_lossy(argv[0].get(..128).unwrap_or(argv[0]));
        let mut args = String::new();
        for a in &argv[1..] {
            if args.len() >= 128 {
                break;
            }
            let room = 128 - args.len();
            args.push_str(&format!(
                "'{}' ",
                String::from_utf8_lossy(a.get(..room).unwrap_or(a))
            ));
        }
        self.reply_error(
            id,
            &format!("ERR unknown command '{name}', with args beginning with: {args}"),
        );
    }

    /// Replies with an error, given with its code word, and counts it.
    pub(crate) fn reply_error(&mut self, id: ConnId, text: &str) {
        self.stats
            .count_error(text.split(' ').next().unwrap_or_default());
        if let Some(c) = self.conns.get_mut(id) {
            write::error(&mut c.out.buf, text.as_bytes());
        }
    }

    /// [`Executor::reply_error`] for an encoded error.
    pub(crate) fn reply_raw_error(&mut self, id: ConnId, encoded: &[u8]) {
        let text = String::from_utf8_lossy(encoded);
        self.stats.count_error(
            text.trim_start_matches('-')
                .split(' ')
                .next()
                .unwrap_or_default(),
        );
        if let Some(c) = self.conns.get_mut(id) {
            c.out.buf.extend_from_slice(encoded);
        }
    }

    /// Where a command's reply goes.
    ///
    /// # Panics
    /// If the connection is gone, which it cannot be while its command executes.
    pub(crate) fn out(&mut self, id: ConnId) -> &mut Vec<u8> {
        &mut self.conns[id].out.buf
    }

    /// Hands a command to the control thread; the client waits for its answer.
    pub(crate) fn defer(&mut self, id: ConnId, argv: &[&[u8]]) {
        if !self.control.is_present() {
            return self.reply_error(id, "ERR This instance has cluster support disabled");
        }
        let seq = self.next_deferred;
        self.next_deferred += 1;
        let keyspace_empty = (0..self.settings.databases).all(|db| self.engine.dbsize(db) == 0);
        let keys_in_slot = match argv {
            [_, sub, slot, ..] if sub.eq_ignore_ascii_case(b"setslot") => {
                holdfast_resp::parse_i64(slot)
                    .and_then(|n| u16::try_from(n).ok())
                    .map_or(0, |slot| self.engine.slot_count(slot) as u64)
            }
            _ => 0,
        };
        let c = &mut self.conns[id];
        let client = crate::seam::ClientInfo {
            keyspace_empty,
            keys_in_slot,
            id: c.id,
            proto: c.proto,
            db: c.db,
            peer: c.info.peer,
            local: c.info.local,
            tls: c.info.tls,
        };
        c.state = State::Deferred(seq);
        self.control.send(crate::seam::ToControl::Command {
            token: crate::seam::DeferredToken { conn: id, seq },
            argv: argv
                .iter()
                .map(|a| bytes::Bytes::copy_from_slice(a))
                .collect(),
            client,
        });
    }

    fn permits_protected(&self, id: ConnId, entry: &Entry) -> bool {
        let local = self.conns.get(id).is_some_and(|c| c.info.is_local());
        match entry.spec.name {
            "debug" => self.settings.debug_command.permits(local),
            _ => entry
                .parent
                .is_some_and(|p| self.permits_protected(id, self.table.entry(p))),
        }
    }

    /// Closes a connection, at the latest when `when` says.
    pub(crate) fn close_client(&mut self, id: ConnId, when: Close) {
        if let Some(c) = self.conns.get_mut(id) {
            c.close_when(when);
            self.mark_dirty(id);
        }
    }
}

/// The slots of a command's keys, or of all those of a transaction.
#[derive(Default)]
struct KeyScan {
    slot: Option<u16>,
    crossslot: bool,
    /// They are shard channels.
    channels: bool,
}

impl KeyScan {
    fn add(&mut self, entry: &Entry, argv: &[&[u8]]) {
        // Arguments that fit no rule are refused by the command itself.
        let _ = entry.spec.each_key(argv, &mut |i, flags| {
            self.channels |= flags.has(Key::NOT_KEY) && entry.spec.group == Group::PubSub;
            if let Some(key) = argv.get(i) {
                let slot = key_slot(key);
                self.crossslot |= *self.slot.get_or_insert(slot) != slot;
            }
        });
    }
}

fn protected_text(name: &str) -> String {
    let upper = name.to_ascii_uppercase();
    format!(
        "ERR {upper} command not allowed. If the enable-{name}-command option is set to \"local\", you can run it from a local connection, otherwise you need to set this option in the configuration file, and then restart the server."
    )
}
