//! Connections come, send bytes and go.

use super::{AcceptInfo, Close, ConnId, Connection, Executor, Parcel, State};
use crate::commands::{Entry, Table};
use holdfast_engine::Engine;
use holdfast_resp::{Limits, Parse, ProtocolError, RequestParser, write};
use smallvec::SmallVec;

/// A larger query buffer is not kept for the next command.
const QUERY_KEEP_BYTES: usize = 1024 * 1024;

/// Commands that are parsed before the first of them is executed, at most.
const AHEAD_MAX: usize = 16;
/// Arguments in them, beyond which no further command is parsed.
const AHEAD_ARGS_MAX: usize = 48;

/// Commands of one connection that have been parsed and are about to be executed.
#[derive(Default)]
struct Ahead<'a> {
    /// The arguments of all, one after the other.
    argv: SmallVec<[&'a [u8]; 64]>,
    commands: SmallVec<[Parsed; AHEAD_MAX]>,
}

struct Parsed {
    entry: Option<&'static Entry>,
    /// Where its arguments end.
    argv_end: usize,
    /// Where it ends in the bytes.
    end: usize,
}

impl<'a> Ahead<'a> {
    /// Parses commands from `at` on. Returns what the parser said to what follows the last of them, if it is known yet.
    fn parse(
        &mut self,
        parser: &mut RequestParser,
        data: &'a [u8],
        mut at: usize,
        limits: &Limits,
        table: &'static Table,
    ) -> Option<Result<Parse, ProtocolError>> {
        self.argv.clear();
        self.commands.clear();
        // What a client may send changes when it authenticates.
        let max = if limits.authenticated { AHEAD_MAX } else { 1 };
        while self.commands.len() < max && self.argv.len() < AHEAD_ARGS_MAX {
            let rest = &data[at..];
            match parser.parse(rest, limits) {
                Ok(Parse::Command { consumed }) if !parser.is_inline() => {
                    let begin = self.argv.len();
                    self.argv
                        .extend((0..parser.argc()).map(|i| parser.span(rest, i)));
                    at += consumed;
                    self.commands.push(Parsed {
                        entry: table.find(&self.argv[begin..]),
                        argv_end: self.argv.len(),
                        end: at,
                    });
                }
                other => return Some(other),
            }
        }
        None
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

    /// Has the memory of their keys fetched, if there are several.
    fn prefetch(&self, engine: &Engine, db: u16) {
        let mut keys: SmallVec<[&[u8]; Engine::PREFETCH_MAX]> = SmallVec::new();
        for i in 0..self.commands.len() {
            let (Some(entry), argv, _) = self.command(i) else {
                continue;
            };
            // Keys that fit no rule are refused by the command itself.
            let _ = entry.spec.each_key(argv, &mut |i, _| {
                if keys.len() < Engine::PREFETCH_MAX {
                    keys.extend(argv.get(i).copied());
                }
            });
        }
        if keys.len() > 1 {
            engine.prefetch(db, &keys);
        }
    }
}

/// Keys that commands name.
struct Keys<'a>(SmallVec<[&'a [u8]; Engine::PREFETCH_MAX]>);

impl<'a> Keys<'a> {
    fn new() -> Self {
        Keys(SmallVec::new())
    }

    /// Adds those of a command of a parcel, as far as there is room.
    fn add(&mut self, parcel: &'a Parcel, i: usize) {
        let Some(entry) = parcel.commands[i].entry else {
            return;
        };
        let argv: SmallVec<[&[u8]; 16]> = parcel.argv(i).collect();
        // Keys that fit no rule are refused by the command itself.
        let _ = entry.spec.each_key(&argv, &mut |i, _| {
            if self.0.len() < Engine::PREFETCH_MAX {
                self.0.extend(argv.get(i).copied());
            }
        });
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
        let mono_ms = self.now.mono_ms();
        let Some(c) = self.conns.get_mut(id) else {
            return;
        };
        c.last_seen_ms = mono_ms;
        c.bytes_in += data.len() as u64;
        c.out.make_room();
        self.stats.bytes_in += data.len() as u64;
        self.stats.reads += 1;
        if c.query.is_empty() && c.is_ready() {
            if c.query.capacity() > 0 {
                c.query_peak = c.query_peak.max(data.len());
            }
            let used = self.process(id, data);
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
    pub fn on_requests(&mut self, id: ConnId, parcel: &Parcel) {
        let mono_ms = self.now.mono_ms();
        let Some(c) = self.conns.get_mut(id) else {
            return;
        };
        // Strangers' limits are the parser's.
        if parcel.commands.is_empty() || !c.query.is_empty() || !c.is_ready() || !c.authenticated {
            return self.on_bytes(id, &parcel.bytes);
        }
        c.last_seen_ms = mono_ms;
        c.bytes_in += parcel.bytes.len() as u64;
        self.stats.bytes_in += parcel.bytes.len() as u64;
        self.stats.reads += 1;
        c.parcel_bytes = parcel.bytes.capacity();
        let used = self.process_found(id, parcel);
        if let Some(c) = self.conns.get_mut(id) {
            c.parcel_bytes = 0;
        }
        if used < parcel.bytes.len()
            && let Some(c) = self.conns.get_mut(id)
        {
            c.query.extend_from_slice(&parcel.bytes[used..]);
            self.resume(id);
            self.check_query_limit(id);
        }
    }

    /// Executes the commands of a parcel and returns how many of its bytes they took.
    fn process_found(&mut self, id: ConnId, parcel: &Parcel) -> usize {
        let mut at = 0;
        let mut argv: SmallVec<[&[u8]; 16]> = SmallVec::new();
        for (i, command) in parcel.commands.iter().enumerate() {
            if i % AHEAD_MAX == 0 && parcel.commands.len() - i > 1 {
                let db = self.conns.get(id).map_or(0, |c| c.db);
                let many = parcel.commands.len().min(i + AHEAD_MAX);
                let mut keys = Keys::new();
                (i..many).for_each(|i| keys.add(parcel, i));
                self.stats.prefetch_batches += 1;
                self.stats.prefetch_entries += keys.0.len() as u64;
                self.engine.prefetch(db, &keys.0);
            }
            if !self.may_execute(id) {
                break;
            }
            at = command.end as usize;
            argv.clear();
            argv.extend(parcel.argv(i));
            self.dispatch_found(id, command.entry, &argv);
        }
        if self.conns.get(id).is_some_and(|c| c.close != Close::Open) {
            at = parcel.bytes.len();
        }
        self.mark_dirty(id);
        at
    }

    /// Has the memory fetched of the keys that the first commands of several connections name.
    pub fn prefetch_requests(&mut self, batch: &[(ConnId, Box<Parcel>)]) {
        for some in batch.chunks(AHEAD_MAX) {
            let mut keys = Keys::new();
            let mut db = 0;
            for (id, parcel) in some {
                // A parcel with several commands does it for itself.
                if parcel.commands.len() == 1
                    && let Some(c) = self.conns.get(*id)
                {
                    if keys.0.is_empty() {
                        db = c.db;
                    }
                    if c.db == db {
                        keys.add(parcel, 0);
                    }
                }
            }
            if keys.0.len() > 1 {
                self.stats.prefetch_batches += 1;
                self.stats.prefetch_entries += keys.0.len() as u64;
                self.engine.prefetch(db, &keys.0);
            }
        }
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
        let used = self.process(id, &query);
        let Some(c) = self.conns.get_mut(id) else {
            return;
        };
        // Commands do not touch their own connection's query buffer.
        c.query = query;
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

    fn check_query_limit(&mut self, id: ConnId) {
        let Some(c) = self.conns.get_mut(id) else {
            return;
        };
        let queued = c.multi.as_ref().map_or(0, |m| m.bytes);
        if c.query.len() + queued > self.settings.query_buffer_bytes_max {
            tracing::warn!(
                "Closing client that reached max query buffer length: id={} addr={:?} qbuf={}",
                c.id,
                c.info.peer,
                c.query.len()
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
    fn process(&mut self, id: ConnId, data: &[u8]) -> usize {
        let Some(c) = self.conns.get_mut(id) else {
            return data.len();
        };
        let mut parser = std::mem::take(&mut c.parser);
        let mut ahead = Ahead::default();
        let mut at = 0;
        'connection: while self.may_execute(id) {
            let Some(c) = self.conns.get_mut(id) else {
                return data.len();
            };
            let limits = Limits {
                bulk_bytes_max: self.settings.bulk_bytes_max,
                authenticated: c.authenticated,
            };
            let db = c.db;
            let end = ahead.parse(&mut parser, data, at, &limits, self.table);
            ahead.prefetch(&self.engine, db);
            if !ahead.commands.is_empty() {
                self.observer.start_batch();
            }
            for i in 0..ahead.commands.len() {
                if i > 0 && !self.may_execute(id) {
                    parser.restart();
                    break 'connection;
                }
                let (entry, argv, end) = ahead.command(i);
                self.observer.request_bytes = end - at;
                at = end;
                self.dispatch_found(id, entry, argv);
            }
            self.end_batch();
            let Some(end) = end else { continue };
            match end {
                Ok(Parse::Incomplete { .. }) => break,
                Ok(Parse::Empty { consumed }) => at += consumed,
                _ if !ahead.commands.is_empty() && !self.may_execute(id) => {
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
        !self.control.is_congested()
            && !self.is_serving()
            && self.conns.get(id).is_some_and(Connection::is_ready)
    }

    /// Whether the driver should read more of a connection: not while its unexecuted commands pile up.
    pub fn wants_bytes(&self, id: ConnId) -> bool {
        self.conns.get(id).is_some_and(|c| {
            c.close == Close::Open
                && (matches!(c.state, State::Ready) && !c.is_full()
                    || c.query.len() < super::WAITING_QUERY_BYTES_MAX)
        })
    }
}
