//! `maxmemory`: making room before commands, in bounded steps.

use super::Executor;
use crate::seam::Office;

/// Keys evicted in one go at `maxmemory-eviction-tenacity 10`, the default: about half a millisecond, as in Valkey.
const EVICT_KEYS: u32 = 128;
/// Steps, and flushed keys or elements in each, that are freed before anything is evicted: some 100 µs.
const FREE_FIRST: (usize, usize) = (16, 64);
/// The same when there is nothing left to evict.
const FREE_LAST: (usize, usize) = (64, 1000);

impl Executor {
    /// Bytes in use: what the allocator has given out, and what entries take of the engine's own pages.
    pub fn used_memory(&self) -> u64 {
        self.host.used_memory() + self.engine.entry_bytes() as u64
    }

    /// Bytes of the replication backlog.
    pub(crate) fn backlog_bytes(&self) -> u64 {
        self.followers.backlog().map_or(0, |(_, len)| len as u64)
    }

    /// Evicts keys while memory is above `maxmemory`. `false` if it is and stays above because nothing may go: what would need more
    /// memory must be refused then. When many keys have to go, the rest goes at the end of the turns that follow.
    pub(super) fn make_room(&mut self) -> bool {
        let max = self.settings.memory_bytes_max;
        if max == 0 || self.used_memory() <= max {
            self.evict_more = false;
            return true;
        }
        let mut room = true;
        let took_ns = self.timed(|ex| room = ex.evict_above(max));
        self.note_latency("eviction-cycle", took_ns);
        room
    }

    #[cold]
    fn evict_above(&mut self, max: u64) -> bool {
        // During an import nothing is evicted.
        if self.settings.import_mode {
            return false;
        }
        // Copies do as their primary does, and during a pause nothing changes.
        if matches!(self.office, Office::Follower { .. })
            || self.is_loading()
            || self.pause().is_some()
        {
            return true;
        }
        let keys = match self.settings.eviction_tenacity {
            tenacity @ 0..=10 => EVICT_KEYS * (tenacity + 1) / 11,
            tenacity @ 11..100 => EVICT_KEYS << ((tenacity - 10) / 8).min(12),
            _ => u32::MAX,
        };
        // What is gone already is freed before anything else has to go.
        self.free_down_to(max, FREE_FIRST);
        let mut room = false;
        let mut found = true;
        for _ in 0..keys.max(1) {
            if self.used_memory() <= max {
                room = true;
                break;
            }
            let now_ms = self.now.unix_ms();
            found = self.engine.evict_one(now_ms, &mut self.rng, &mut self.fx);
            if !found {
                break;
            }
        }
        if !found {
            self.free_down_to(max, FREE_LAST);
            room = self.used_memory() <= max;
        }
        self.note_background_writes();
        self.evict_more = found && !room;
        room || found
    }

    /// Frees what was flushed or set aside while memory is above this.
    fn free_down_to(&mut self, max: u64, (steps, keys): (usize, usize)) {
        for _ in 0..steps {
            if self.used_memory() <= max || !self.engine.free_step(keys) {
                break;
            }
        }
    }

    /// Goes on with an eviction that was too long for one turn.
    pub(super) fn evict_keys(&mut self) {
        if self.evict_more {
            self.make_room();
        }
    }
}
