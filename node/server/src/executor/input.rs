//! Connections come, send bytes and go.

use super::{AcceptInfo, Close, ConnId, Connection, Executor, State};
use holdfast_resp::{Limits, Parse, write};
use smallvec::SmallVec;

/// A partly consumed query buffer is moved together when so much of it has been consumed.
const QUERY_KEEP_BYTES: usize = 64 * 1024;

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
        self.migrate_on_closed(id);
        self.forget_follower(id);
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
        self.stats.bytes_in += data.len() as u64;
        if c.query.is_empty() && c.is_ready() {
            let used = self.process(id, data);
            if used < data.len()
                && let Some(c) = self.conns.get_mut(id)
            {
                c.query.extend_from_slice(&data[used..]);
            }
        } else {
            c.query.extend_from_slice(data);
            self.resume(id);
        }
        self.check_query_limit(id);
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
        if let Some((at, len)) = c.parser.awaited_bulk() {
            // A large argument is on its way: make room once, but only as its bytes really come.
            let want = (at + len + 2)
                .saturating_sub(c.query.len())
                .min(c.query.len().max(32 * 1024));
            c.query.reserve(want);
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
    fn process(&mut self, id: ConnId, data: &[u8]) -> usize {
        let Some(c) = self.conns.get_mut(id) else {
            return data.len();
        };
        let mut parser = std::mem::take(&mut c.parser);
        let mut at = 0;
        loop {
            if self.control.is_congested() || self.is_serving() {
                break;
            }
            let Some(c) = self.conns.get_mut(id) else {
                return data.len();
            };
            if !c.is_ready() {
                if c.close != Close::Open {
                    at = data.len();
                }
                break;
            }
            let limits = Limits {
                bulk_bytes_max: self.settings.bulk_bytes_max,
                authenticated: c.authenticated,
            };
            let rest = &data[at..];
            match parser.parse(rest, &limits) {
                Ok(Parse::Command { consumed }) => {
                    at += consumed;
                    let argv: SmallVec<[&[u8]; 16]> = parser.args(rest).collect();
                    self.dispatch(id, &argv);
                }
                Ok(Parse::Empty { consumed }) => at += consumed,
                Ok(Parse::Incomplete { .. }) => break,
                Err(e) => {
                    tracing::debug!("Protocol error ({e}) from client id={}", c.id);
                    write::error(&mut c.out.buf, format!("ERR {e}").as_bytes());
                    c.close_when(Close::AfterReplies);
                    self.stats.count_error("ERR");
                    at = data.len();
                    break;
                }
            }
        }
        if let Some(c) = self.conns.get_mut(id) {
            c.parser = parser;
        }
        self.mark_dirty(id);
        at
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
