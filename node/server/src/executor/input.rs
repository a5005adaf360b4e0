//! Connections come, send bytes and go.

use super::{
    AcceptInfo, Close, ConnId, Connection, Ending, Executor, LargeArgument, Parcel, State,
};
use crate::commands::{Entry, Table};
use holdfast_engine::{Engine, Prefetch};
use holdfast_resp::{Limits, Parse, ProtocolError, RequestParser, write};
use smallvec::SmallVec;
use std::ops::Range;
use std::sync::Arc;

/// A larger query buffer is not kept for the next command.
pub const QUERY_KEEP_BYTES: usize = 1024 * 1024;

/// What has been read of so many connections should be given to the executor at a time, if so many have sent something.
pub const READS_MAX: usize = 64;

/// Commands of a connection that are parsed before the first of them is executed, at most.
const AHEAD_MAX: usize = 16;
/// Arguments in them, beyond which no further command is parsed.
const AHEAD_ARGS_MAX: usize = 48;
/// Commands that have been parsed are executed in groups, of some connections each: with so many, those of no further one are added.
const GROUP_MAX: usize = AHEAD_MAX;
/// The same of arguments.
const GROUP_ARGS_MAX: usize = AHEAD_ARGS_MAX;
const GROUP_READS_MAX: usize = AHEAD_MAX;
/// Groups that are looked at between the parsing of one and its execution, and itself.
const STEPS: usize = 3;

/// The group that many steps ago, if there is, or was, one.
fn before(step: usize, ago: usize, count: usize) -> Option<usize> {
    step.checked_sub(ago).filter(|n| *n < count)
}

/// What has been read of a connection, as a part of a buffer.
#[derive(Debug, Clone, Copy)]
pub struct Read {
    /// Whose it is.
    pub conn: ConnId,
    /// Where it begins.
    pub from: usize,
    /// Where it ends.
    pub to: usize,
}

/// Commands, mostly of one connection, that have been parsed and are about to be executed.
#[derive(Default)]
struct Ahead<'a> {
    /// The arguments of all, one after the other.
    argv: SmallVec<[&'a [u8]; GROUP_ARGS_MAX + AHEAD_ARGS_MAX]>,
    commands: SmallVec<[Parsed; GROUP_MAX + AHEAD_MAX]>,
    /// So many commands are kept while those behind them are replaced.
    kept: usize,
}

/// The first commands of what was read of a connection.
struct Begun {
    read: Read,
    /// Which of those that have been parsed ahead. `None` if it was not looked at.
    parsed: Option<Share>,
}

/// Commands of some connections on their way to be executed.
#[derive(Default)]
struct Group<'a> {
    ahead: Ahead<'a>,
    begun: SmallVec<[Begun; GROUP_READS_MAX]>,
    keys: Prefetch,
}

/// One connection's part of an [`Ahead`].
struct Share {
    commands: Range<usize>,
    /// What the parser said to what follows the last of them, if it is known yet.
    end: Option<Result<Parse, ProtocolError>>,
}

struct Parsed {
    entry: Option<&'static Entry>,
    /// Where its arguments end.
    argv_end: usize,
    /// Where it ends in the bytes.
    end: usize,
}

impl<'a> Ahead<'a> {
    /// Parses commands from `at` on, beside those that are there. `large` are arguments of the first that lie elsewhere.
    fn parse(
        &mut self,
        parser: &mut RequestParser,
        (data, mut at): (&'a [u8], usize),
        mut large: &'a [LargeArgument],
        limits: &Limits,
        table: &'static Table,
    ) -> Share {
        let begin = self.commands.len();
        // What a client may send changes when it authenticates.
        let max = begin + if limits.authenticated { AHEAD_MAX } else { 1 };
        let args_max = self.argv.len() + AHEAD_ARGS_MAX;
        let mut end = None;
        while self.commands.len() < max && self.argv.len() < args_max {
            let rest = &data[at..];
            match parser.parse(rest, limits) {
                Ok(Parse::Command { consumed }) if !parser.is_inline() => {
                    let begin = self.argv.len();
                    self.argv
                        .extend((0..parser.argc()).map(|i| parser.span(rest, i)));
                    for LargeArgument { place, bytes, .. } in std::mem::take(&mut large) {
                        self.argv[begin + place] = bytes;
                    }
                    at += consumed;
                    self.commands.push(Parsed {
                        entry: table.find(&self.argv[begin..]),
                        argv_end: self.argv.len(),
                        end: at,
                    });
                }
                other => {
                    end = Some(other);
                    break;
                }
            }
        }
        Share {
            commands: begin..self.commands.len(),
            end,
        }
    }

    /// Keeps what has been parsed so far.
    fn keep(&mut self) {
        self.kept = self.commands.len();
    }

    /// Makes room for others behind what is kept.
    fn drop_rest(&mut self) {
        self.commands.truncate(self.kept);
        let argv_end = self.commands.last().map_or(0, |c| c.argv_end);
        self.argv.truncate(argv_end);
    }

    /// Whether those of another connection may be added.
    fn has_room(&self) -> bool {
        self.commands.len() < GROUP_MAX && self.argv.len() < GROUP_ARGS_MAX
    }

    /// A command: its row, its arguments, and where it ends.
    fn command(&self, i: usize) -> (Option<&'static Entry>, &[&'a [u8]], usize) {
        let begin = i.checked_sub(1).map_or(0, |i| self.commands[i].argv_end);
        let Parsed {
            entry,
            argv_end,
            end,
        } = self.commands[i];
        (entry, &self.argv[begin..argv_end], end)
    }
}

/// Keys that commands name.
struct Keys<'a>(SmallVec<[&'a [u8]; Engine::PREFETCH_MAX]>);

impl<'a> Keys<'a> {
    fn new() -> Self {
        Keys(SmallVec::new())
    }

    /// Adds those of a command, as far as there is room.
    fn add(&mut self, entry: Option<&'static Entry>, argv: &[&'a [u8]]) {
        let Some(entry) = entry else {
            return;
        };
        if let Some(at) = entry.only_key {
            return self.push(argv.get(usize::from(at)));
        }
        // Keys that fit no rule are refused by the command itself.
        let _ = entry
            .spec
            .each_key(argv, &mut |i, _| self.push(argv.get(i)));
    }

    /// [`Keys::add`] for a command of a parcel.
    fn add_of(&mut self, parcel: &'a Parcel, i: usize) {
        match parcel.commands[i].entry {
            Some(Entry {
                only_key: Some(at), ..
            }) => self.push(parcel.argv(i).nth(usize::from(*at)).as_ref()),
            entry => {
                let argv: SmallVec<[&[u8]; 16]> = parcel.argv(i).collect();
                self.add(entry, &argv);
            }
        }
    }

    fn push(&mut self, key: Option<&&'a [u8]>) {
        if self.0.len() < Engine::PREFETCH_MAX {
            self.0.extend(key.copied());
        }
    }
}

impl Executor {
    /// Takes a new connection.
    ///
    /// # Errors
    /// It is refused; these bytes are to be written to it before it is closed.
    pub fn on_accept(&mut self, info: AcceptInfo) -> Result<ConnId, &'static [u8]> {
        if self.conns.len() >= self.settings.maxclients {
            self.stats.rejected_connections += 1;
            return Err(b"-ERR max number of clients reached\r\n");
        }
        if self.settings.protected_mode && self.settings.requirepass.is_empty() && !info.is_local()
        {
            self.stats.rejected_connections += 1;
            return Err(crate::texts::PROTECTED_MODE);
        }
        self.stats.connections += 1;
        let client = self.next_client_id;
        self.next_client_id += 1;
        let authenticated = self.settings.requirepass.is_empty();
        let now = self.now;
        Ok(self.conns.insert(|id| {
            let mut c = Connection::new(id, client, info, now.unix_ms(), now.mono_ms());
            c.authenticated = authenticated;
            c.was_authenticated = authenticated;
            c
        }))
    }

    /// The connection is gone: the peer or the driver has closed it.
    pub fn on_closed(&mut self, id: ConnId) {
        if self.conns.get(id).is_none() {
            return;
        }
        self.unblock_quietly(id);
        self.drop_subscriptions(id);
        self.unwatch(id);
        self.stop_tracking(id);
        self.migrate_on_closed(id);
        self.forget_follower(id);
        self.stop_monitoring(id);
        if let Some(c) = self.conns.get(id) {
            self.clients_bytes -= c.noted_bytes;
        }
        self.conns.remove(id);
    }

    /// Bytes have come on a connection.
    pub fn on_bytes(&mut self, id: ConnId, data: &[u8]) {
        let read = Read {
            conn: id,
            from: 0,
            to: data.len(),
        };
        self.on_reads(&[read], data);
    }

    /// Bytes have come on several connections, of each in one piece. Their first commands are parsed before any is executed, so that the memory of all their
    /// keys can be fetched at once: for one group of connections the first step of that is made, for the one before it the second, and
    /// the one before that, whose memory has come meanwhile, is executed.
    pub fn on_reads(&mut self, reads: &[Read], buffer: &[u8]) {
        let mut groups: [Group; STEPS] = Default::default();
        let mut reads = reads.iter();
        let mut count = 0;
        for step in 0.. {
            if !reads.as_slice().is_empty() {
                self.begin_group(&mut groups[step % STEPS], &mut reads, buffer);
                count += 1;
            }
            if let Some(n) = before(step, 1, count) {
                self.engine.prefetch_entries(&mut groups[n % STEPS].keys);
            }
            if step >= 2 {
                let Some(n) = before(step, 2, count) else {
                    return;
                };
                self.execute_group(&mut groups[n % STEPS], buffer);
            }
        }
    }

    fn begin_group<'a>(
        &mut self,
        group: &mut Group<'a>,
        reads: &mut std::slice::Iter<'_, Read>,
        buffer: &'a [u8],
    ) {
        let Group { ahead, begun, keys } = group;
        begun.clear();
        ahead.kept = 0;
        ahead.drop_rest();
        while begun.len() < GROUP_READS_MAX
            && ahead.has_room()
            && let Some(read) = reads.next()
        {
            begun.push(self.begin(*read, buffer, ahead));
        }
        ahead.keep();
        *keys = self.prefetch_group(ahead, begun);
    }

    fn execute_group<'a>(&mut self, group: &mut Group<'a>, buffer: &'a [u8]) {
        self.engine.prefetch_values(&group.keys);
        for Begun { read, parsed } in group.begun.drain(..) {
            let data = &buffer[read.from..read.to];
            self.on_read(read.conn, data, &mut group.ahead, parsed);
        }
    }

    /// Notes what has come, and parses the first commands if they are next.
    fn begin<'a>(&mut self, read: Read, buffer: &'a [u8], ahead: &mut Ahead<'a>) -> Begun {
        let Some(c) = self.conns.get_mut(read.conn) else {
            return Begun { read, parsed: None };
        };
        let len = read.to - read.from;
        c.last_seen_ms = self.now.mono_ms();
        c.bytes_in += len as u64;
        c.out.make_room();
        self.stats.bytes_in += len as u64;
        self.stats.reads += 1;
        if !c.query.is_empty() || !c.is_ready() {
            return Begun { read, parsed: None };
        }
        let limits = Limits {
            bulk_bytes_max: self.settings.bulk_bytes_max,
            authenticated: c.authenticated,
        };
        let data = &buffer[read.from..read.to];
        let parsed = Some(ahead.parse(&mut c.parser, (data, 0), &[], &limits, self.table));
        Begun { read, parsed }
    }

    /// Begins to have the memory of the keys fetched of those connections that look at the database of the first.
    fn prefetch_group(&mut self, ahead: &Ahead<'_>, begun: &[Begun]) -> Prefetch {
        let mut keys = Keys::new();
        let mut first_db = None;
        for Begun { read, parsed } in begun {
            if let Some(Share { commands, .. }) = parsed
                && let Some(c) = self.conns.get(read.conn)
                && *first_db.get_or_insert(c.db) == c.db
            {
                commands.clone().for_each(|i| {
                    let (entry, argv, _) = ahead.command(i);
                    keys.add(entry, argv);
                });
            }
        }
        self.fetch(&keys, first_db)
    }

    /// Begins to have the memory of keys fetched, if there are several.
    fn fetch(&self, keys: &Keys<'_>, db: Option<u16>) -> Prefetch {
        match db {
            Some(db) if keys.0.len() > 1 && self.settings.prefetches => {
                self.engine.prefetch_keys(db, keys.0.iter().copied())
            }
            _ => Prefetch::default(),
        }
    }

    /// Executes what has come on a connection, as far as it may be.
    fn on_read<'a>(
        &mut self,
        id: ConnId,
        data: &'a [u8],
        ahead: &mut Ahead<'a>,
        parsed: Option<Share>,
    ) {
        let Some(c) = self.conns.get_mut(id) else {
            return;
        };
        if let Some(parsed) = parsed {
            if c.query.capacity() > 0 {
                c.query_peak = c.query_peak.max(data.len());
            }
            let used = self.process(id, data, &[], ahead, Some(parsed));
            if used < data.len()
                && let Some(c) = self.conns.get_mut(id)
            {
                c.keep_query(&data[used..]);
            }
        } else {
            c.keep_query(data);
            self.resume(id);
            self.mark_dirty(id);
        }
        self.check_query_limit(id);
    }

    /// Commands have come that another thread has found in the bytes of a connection.
    pub fn on_requests(&mut self, id: ConnId, parcel: &mut Parcel) {
        let mono_ms = self.now.mono_ms();
        let Some(c) = self.conns.get_mut(id) else {
            return;
        };
        // Strangers' limits are the parser's.
        if parcel.commands.is_empty() || !c.query.is_empty() || !c.is_ready() || !c.authenticated {
            return self.on_bytes(id, &parcel.all_bytes());
        }
        let large: usize = parcel.large.iter().map(LargeArgument::wire_bytes).sum();
        let bytes = parcel.bytes.len() + large;
        c.last_seen_ms = mono_ms;
        c.bytes_in += bytes as u64;
        self.stats.bytes_in += bytes as u64;
        self.stats.reads += 1;
        c.parcel_bytes = parcel.bytes.capacity() + large;
        c.out.use_room(&mut parcel.replies);
        let used = self.process_found(id, parcel);
        if let Some(c) = self.conns.get_mut(id) {
            c.parcel_bytes = 0;
        }
        if used < parcel.bytes.len()
            && let Some(c) = self.conns.get_mut(id)
        {
            match used {
                0 => c.query.extend_from_slice(&parcel.all_bytes()),
                _ => c.query.extend_from_slice(&parcel.bytes[used..]),
            }
            self.resume(id);
            self.check_query_limit(id);
        }
    }

    /// Executes the commands of a parcel and returns how many of its bytes they took.
    fn process_found(&mut self, id: ConnId, parcel: &Parcel) -> usize {
        let mut at = 0;
        let mut argv: SmallVec<[&[u8]; 16]> = SmallVec::new();
        self.observer.start_batch();
        for (i, command) in parcel.commands.iter().enumerate() {
            if i > 0 && i % AHEAD_MAX == 0 && parcel.commands.len() - i > 1 {
                let db = self.conns.get(id).map(|c| c.db);
                let many = parcel.commands.len().min(i + AHEAD_MAX);
                let mut keys = Keys::new();
                (i..many).for_each(|i| keys.add_of(parcel, i));
                let mut keys = self.fetch_found(&keys, db);
                self.engine.prefetch_entries(&mut keys);
                self.engine.prefetch_values(&keys);
            }
            if !self.may_execute(id) {
                break;
            }
            let end = command.end as usize;
            self.observer.request_bytes = end - at;
            at = end;
            argv.clear();
            argv.extend(parcel.argv(i));
            if i == 0 && !parcel.large.is_empty() {
                let bytes = parcel.large.iter().map(LargeArgument::wire_bytes);
                self.observer.request_bytes += bytes.sum::<usize>();
                self.offer(&parcel.large);
            }
            self.dispatch_found(id, command.entry, &argv);
            if i == 0 {
                self.engine.withdraw();
            }
        }
        self.end_batch();
        if self.conns.get(id).is_some_and(|c| c.close != Close::Open) {
            at = parcel.bytes.len();
        }
        self.mark_dirty(id);
        at
    }

    /// [`Executor::on_requests`] for several connections, in steps as [`Executor::on_reads`] makes them.
    pub fn on_parcels(&mut self, batch: &mut [(ConnId, Box<Parcel>)]) {
        let mut groups: [(Range<usize>, Prefetch); STEPS] = Default::default();
        let (mut from, mut count) = (0, 0);
        for step in 0.. {
            if from < batch.len() {
                groups[step % STEPS] = self.begin_parcels(batch, from);
                from = groups[step % STEPS].0.end;
                count += 1;
            }
            if let Some(n) = before(step, 1, count) {
                self.engine.prefetch_entries(&mut groups[n % STEPS].1);
            }
            if step >= 2 {
                let Some(n) = before(step, 2, count) else {
                    return;
                };
                let (parcels, keys) = std::mem::take(&mut groups[n % STEPS]);
                self.engine.prefetch_values(&keys);
                for (id, parcel) in &mut batch[parcels] {
                    self.on_requests(*id, parcel);
                }
            }
        }
    }

    /// The next group of parcels, and the keys of its first commands, whose memory is being fetched.
    fn begin_parcels(
        &mut self,
        batch: &[(ConnId, Box<Parcel>)],
        from: usize,
    ) -> (Range<usize>, Prefetch) {
        let mut keys = Keys::new();
        let mut first_db = None;
        let (mut end, mut commands) = (from, 0);
        while let Some((id, parcel)) = batch.get(end)
            && commands < GROUP_MAX
        {
            end += 1;
            let first = parcel.commands.len().min(AHEAD_MAX);
            commands += first.max(1);
            if let Some(c) = self.conns.get(*id)
                && *first_db.get_or_insert(c.db) == c.db
            {
                (0..first).for_each(|i| keys.add_of(parcel, i));
            }
        }
        (from..end, self.fetch_found(&keys, first_db))
    }

    fn fetch_found(&mut self, keys: &Keys<'_>, db: Option<u16>) -> Prefetch {
        if keys.0.len() > 1 && self.settings.prefetches {
            self.stats.prefetch_batches += 1;
            self.stats.prefetch_entries += keys.0.len() as u64;
        }
        self.fetch(keys, db)
    }

    /// Goes on with the commands that a connection has sent, if it may.
    pub fn resume(&mut self, id: ConnId) {
        let Some(c) = self.conns.get_mut(id) else {
            return;
        };
        if !c.is_ready() || c.query.is_empty() {
            return;
        }
        let query = std::mem::take(&mut c.query);
        let large = c.large.as_mut().map(|large| large.take_whole());
        let large = large.unwrap_or_default();
        let large_bytes: usize = large.iter().map(|a| a.bytes.capacity()).sum();
        c.parcel_bytes = query.capacity() + large_bytes;
        let used = self.process(id, &query, &large, &mut Ahead::default(), None);
        let Some(c) = self.conns.get_mut(id) else {
            return;
        };
        c.parcel_bytes = 0;
        // Commands do not touch their own connection's query buffer.
        c.query = query;
        if let Some(kept) = &mut c.large {
            if used == 0 {
                kept.put_back(large);
            } else if let Some(last) = large.into_iter().next_back() {
                kept.make_spare(last.wire_bytes(), Arc::into_inner(last.bytes));
            }
        }
        if used == c.query.len() {
            if c.query.capacity() > QUERY_KEEP_BYTES {
                c.query = Vec::new();
            } else {
                c.query.clear();
            }
        } else if used > 0 {
            c.query.drain(..used);
        }
    }

    /// Goes on with everybody whose commands had to wait because the queue to the control thread was full.
    pub fn resume_all(&mut self) {
        let ids: Vec<ConnId> = self
            .conns
            .iter()
            .filter(|c| c.is_ready() && !c.query.is_empty())
            .map(|c| c.conn)
            .collect();
        for id in ids {
            self.resume(id);
        }
    }

    pub(super) fn check_query_limit(&mut self, id: ConnId) {
        let Some(c) = self.conns.get_mut(id) else {
            return;
        };
        let queued = c.multi.as_ref().map_or(0, |m| m.bytes);
        let waiting = c.unexecuted_bytes();
        if waiting + queued > self.settings.query_buffer_bytes_max {
            tracing::warn!(
                "Closing client that reached max query buffer length: id={} addr={:?} qbuf={}",
                c.id,
                c.info.peer,
                waiting
            );
            self.stats.query_limit_disconnections += 1;
            c.close_when(Close::Now);
            self.mark_dirty(id);
        }
    }

    /// Executes the commands at the start of `data` and returns how many bytes they took.
    ///
    /// Several are parsed before the first is executed, so that the memory of all their keys can be fetched at once. What was parsed
    /// and may not be executed now is parsed again later.
    ///
    /// `large` are arguments of the first that lie elsewhere. `parsed` are the first of them, if they have been parsed already.
    fn process<'a>(
        &mut self,
        id: ConnId,
        data: &'a [u8],
        large: &'a [LargeArgument],
        ahead: &mut Ahead<'a>,
        mut parsed: Option<Share>,
    ) -> usize {
        let Some(c) = self.conns.get_mut(id) else {
            return data.len();
        };
        let mut parser = std::mem::take(&mut c.parser);
        let mut at = 0;
        'connection: while self.may_execute(id) {
            let Some(c) = self.conns.get_mut(id) else {
                return data.len();
            };
            let Share { commands, end } = match parsed.take() {
                Some(parsed) => parsed,
                None => {
                    let limits = Limits {
                        bulk_bytes_max: self.settings.bulk_bytes_max,
                        authenticated: c.authenticated,
                    };
                    let db = Some(c.db);
                    ahead.drop_rest();
                    let apart = if at == 0 { large } else { &[] };
                    let share = ahead.parse(&mut parser, (data, at), apart, &limits, self.table);
                    let mut keys = Keys::new();
                    for i in share.commands.clone() {
                        let (entry, argv, _) = ahead.command(i);
                        keys.add(entry, argv);
                    }
                    let mut keys = self.fetch(&keys, db);
                    self.engine.prefetch_entries(&mut keys);
                    self.engine.prefetch_values(&keys);
                    share
                }
            };
            if !commands.is_empty() {
                self.observer.start_batch();
            }
            for i in commands.clone() {
                if i > commands.start && !self.may_execute(id) {
                    parser.restart();
                    break 'connection;
                }
                let (entry, argv, end) = ahead.command(i);
                self.observer.request_bytes = end - at;
                if at == 0 && !large.is_empty() {
                    let bytes = large.iter().map(LargeArgument::wire_bytes);
                    self.observer.request_bytes += bytes.sum::<usize>();
                    self.offer(large);
                }
                self.dispatch_found(id, entry, argv);
                if at == 0 {
                    self.engine.withdraw();
                }
                at = end;
            }
            self.end_batch();
            let Some(end) = end else { continue };
            match end {
                Ok(Parse::Incomplete { .. }) => break,
                Ok(Parse::Empty { consumed }) => at += consumed,
                _ if !commands.is_empty() && !self.may_execute(id) => {
                    parser.restart();
                    break;
                }
                Ok(Parse::Command { consumed }) => {
                    let argv: SmallVec<[&[u8]; 16]> = parser.args(&data[at..]).collect();
                    at += consumed;
                    self.observer.request_bytes = consumed;
                    self.observer.start();
                    self.dispatch(id, &argv);
                }
                Err(e) => {
                    let Some(c) = self.conns.get_mut(id) else {
                        break;
                    };
                    tracing::debug!("Protocol error ({e}) from client id={}", c.id);
                    c.close_when(Close::AfterReplies);
                    let mut text = Vec::new();
                    write::error(&mut text, format!("ERR {e}").as_bytes());
                    // Behind replies that are held still.
                    self.append_free(id, &text);
                    self.stats.count_error("ERR");
                    break;
                }
            }
        }
        self.end_batch();
        if parsed.is_some() {
            // They may not be executed any more.
            parser.restart();
        }
        if let Some(c) = self.conns.get_mut(id) {
            c.parser = parser;
            if c.close != Close::Open {
                at = data.len();
            }
        }
        self.mark_dirty(id);
        at
    }

    /// Whether the next command of a connection may be executed now.
    fn may_execute(&self, id: ConnId) -> bool {
        self.ending == Ending::Running
            && !self.control.is_congested()
            && !self.is_serving()
            && self.conns.get(id).is_some_and(Connection::is_ready)
    }

    /// Whether the driver should read more of a connection: not while its unexecuted commands pile up.
    pub fn wants_bytes(&self, id: ConnId) -> bool {
        self.conns.get(id).is_some_and(|c| {
            c.close == Close::Open
                && (matches!(c.state, State::Ready) && !c.is_full()
                    || c.unexecuted_bytes() < super::WAITING_QUERY_BYTES_MAX)
        })
    }
}
