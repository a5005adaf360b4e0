//! `maxmemory-clients`: while the clients' buffers together take more than that, the largest client is closed.
//!
//! What each takes is noted at the end of a turn in which it was looked at; only when the sum of the notes is too large are all clients
//! looked at, and closed as far as it is.

use super::large_argument::LARGE_ARGUMENT;
use super::{Close, ConnId, Connection, Executor, LargeArguments};

/// The least that a query buffer has room for.
pub const QUERY_BYTES_MIN: usize = 16 * 1024;
/// A query buffer that wastes less than this is left alone.
const QUERY_WASTE_BYTES: usize = 4 * 1024;
/// A larger one is made smaller even while it is in use.
const QUERY_LARGE_BYTES: usize = 32 * 1024;
/// How long a client has been silent when its query buffer is given back.
const QUERY_IDLE_MS: u64 = 3000;

/// About what a watched key or a subscription takes beside the key or channel itself.
const NODE_BYTES: usize = 64;
/// About what a prefix of `CLIENT TRACKING` takes beside itself.
const PREFIX_BYTES: usize = 24;

/// Whether a query buffer with so many bytes has so much room that some of it may have to be given back.
pub(super) fn wants_less(len: usize, capacity: usize, idle_ms: u64) -> bool {
    capacity - len.min(capacity) > QUERY_WASTE_BYTES
        && (idle_ms >= QUERY_IDLE_MS || capacity > QUERY_LARGE_BYTES)
}

/// Gives back what a query buffer has not needed lately: since the last look there were `peak` bytes at most. `awaited`: where an argument
/// begins that is on its way, and its length.
pub fn shrink_query(
    query: &mut Vec<u8>,
    peak: &mut usize,
    awaited: Option<(usize, usize)>,
    idle_ms: u64,
) {
    // Large ones lie elsewhere.
    let awaited = awaited.filter(|(_, len)| *len < LARGE_ARGUMENT);
    let awaited = awaited.map_or(0, |(_, len)| len + 2);
    let capacity = query.capacity();
    if wants_less(query.len(), capacity, idle_ms) {
        if idle_ms >= QUERY_IDLE_MS {
            query.shrink_to_fit();
        } else if capacity / 2 > *peak {
            query.shrink_to((*peak).max(awaited));
        }
    }
    *peak = query.len().max(awaited);
}

/// Gives back what is kept for large arguments and was not needed lately.
pub fn shrink_large(large: &mut Option<Box<LargeArguments>>, idle_ms: u64) {
    if let Some(some) = large {
        some.shrink(idle_ms >= QUERY_IDLE_MS);
        large.take_if(|large| large.capacity() == 0);
    }
}

impl Connection {
    /// Keeps bytes that cannot be executed yet.
    pub(super) fn keep_query(&mut self, data: &[u8]) {
        self.intake().keep(data);
        self.query_peak = self.query_peak.max(self.query.len());
    }

    /// Gives back what the query buffer has not needed lately.
    pub(super) fn shrink_query(&mut self, idle_ms: u64) {
        let awaited = self.parser.awaited_bulk();
        shrink_query(&mut self.query, &mut self.query_peak, awaited, idle_ms);
        shrink_large(&mut self.large, idle_ms);
    }

    /// Bytes that this client takes: its buffers, what it has queued, watches and listens to.
    pub(crate) fn memory(&self) -> usize {
        let subscriptions = self.subs.as_ref().map_or(0, |s| {
            s.channels.len() + s.patterns.len() + s.shard_channels.len()
        });
        let multi = self.multi.as_ref().map_or(0, |m| {
            m.bytes + m.queue.len() * size_of::<super::OwnedArgv>()
        });
        let tracking = self.tracking.as_ref().map_or(0, |t| {
            let prefixes = t.prefixes.as_ref().map_or(0, |p| p.len());
            size_of::<super::ClientTracking>() + prefixes * PREFIX_BYTES
        });
        size_of::<Connection>()
            + tracking
            + self.argv_bytes()
            + self.query_capacity()
            + self.out.room()
            + self.out.blobs.bytes()
            + self.out.in_flight()
            + multi
            + (self.watched.len() + subscriptions) * NODE_BYTES
    }

    /// Whether it is closed when clients take too much.
    fn is_evictable(&self) -> bool {
        !self.no_evict && !self.follows && !self.internal && self.close != Close::Now
    }
}

impl Executor {
    /// Notes what the clients take that were looked at in this turn, and closes the largest ones if it is too much.
    pub(super) fn evict_clients(&mut self) {
        let max = self.settings.client_bytes_max;
        if max == 0 {
            return;
        }
        for at in 0..self.dirty.len() {
            let id = self.dirty[at];
            // What is above its output limit goes first, and makes room.
            self.check_output_limit(id);
            self.note_memory(id);
        }
        if self.clients_bytes > max {
            self.close_largest(max);
        }
    }

    /// Notes what a client takes that is about to execute a command, and closes the largest clients if it is too much. Whether this
    /// is one of them.
    pub(super) fn is_evicted(&mut self, id: ConnId) -> bool {
        self.note_memory(id);
        let max = self.settings.client_bytes_max;
        if self.clients_bytes > max {
            self.close_largest(max);
        }
        let state = self.conns.get(id).map(|c| c.close);
        state.is_none_or(|close| close == Close::Now)
    }

    /// Notes what all clients take: the limit is another one.
    pub(super) fn note_memory_of_all(&mut self) {
        let ids: Vec<ConnId> = self.conns.iter().map(|c| c.conn).collect();
        ids.into_iter().for_each(|id| self.note_memory(id));
    }

    /// How many clients take how much, by powers of two; `DEBUG CLIENT-EVICTION`.
    pub(crate) fn describe_client_memory(&self) -> String {
        /// The first line tells of those with less than so many bits, the last one of those with as many or more.
        const BITS: [u32; 2] = [15, 33];
        let mut lines = [(0, 0); (BITS[1] - BITS[0] + 1) as usize];
        for c in self.conns.iter().filter(|c| c.is_evictable()) {
            let bytes = c.memory();
            let bits = usize::BITS - bytes.leading_zeros();
            let line = &mut lines[(bits.clamp(BITS[0], BITS[1]) - BITS[0]) as usize];
            *line = (line.0 + bytes, line.1 + 1);
        }
        let mut out = String::new();
        for (bits, (bytes, clients)) in (BITS[0]..).zip(lines) {
            let from = if bits == BITS[0] {
                0
            } else {
                1_u64 << (bits - 1)
            };
            let range = match bits == BITS[1] {
                true => format!("{from:>10}+            "),
                false => format!("{from:>10} - {:>10}", (1_u64 << bits) - 1),
            };
            out += &format!("bucket {range}: tot-mem: {bytes:>10}, clients: {clients}\n");
        }
        out
    }

    fn note_memory(&mut self, id: ConnId) {
        if let Some(c) = self.conns.get_mut(id) {
            let bytes = if c.is_evictable() { c.memory() } else { 0 };
            let before = std::mem::replace(&mut c.noted_bytes, bytes);
            self.clients_bytes = self.clients_bytes + bytes - before;
        }
    }

    #[cold]
    fn close_largest(&mut self, max: usize) {
        // What has been written since it was noted does not count.
        self.note_memory_of_all();
        if self.clients_bytes <= max {
            return;
        }
        let all = self.conns.iter().filter(|c| c.is_evictable());
        let mut clients: Vec<(usize, ConnId)> = all.map(|c| (c.noted_bytes, c.conn)).collect();
        clients.sort_unstable_by_key(|(bytes, id)| (std::cmp::Reverse(*bytes), id.index));
        for (bytes, id) in clients {
            if self.clients_bytes <= max {
                break;
            }
            if let Some(c) = self.conns.get(id) {
                let (id, addr) = (c.id, c.info.peer);
                tracing::info!("Evicting client: id={id} addr={addr:?} tot-mem={bytes}");
            }
            self.stats.evicted_clients += 1;
            self.close_client(id, Close::Now);
            if let Some(c) = self.conns.get_mut(id) {
                // It is room that is wanted now, not at the end of the turn.
                c.out.abandon();
                (c.query, c.large) = (Vec::new(), None);
            }
            self.note_memory(id);
        }
    }
}
