//! What is due by the clock: deadlines, idle clients, limits, expiry.

use super::{Close, ConnId, Connection, Ending, Executor, State};
use crate::config::{OutputLimit, Settings};

/// Keys, and fields, deleted by one step of active expiry, behind which clients have their turn: far below a millisecond.
const EXPIRE_STEP_KEYS: usize = 200;
/// Entries of flushed keyspaces freed by one step: some 200 µs, and less where clients are waiting.
const FREE_STEP_ENTRIES: usize = 1000;
const FREE_STEP_ENTRIES_BUSY: usize = 500;
/// Clients looked at in one go, at least.
const CLIENTS_AT_ONCE_MIN: usize = 64;
/// How long a client has sent nothing when its buffers are given back altogether.
const SILENT_MS: u64 = 5000;
/// Unsent replies of a client that has not authenticated.
const STRANGER_OUTPUT_BYTES_MAX: usize = 1024;
/// How long effects gather at most while an entry is on its way to a quorum.
const GATHER_MS: u64 = 2;
/// Effects that have gathered to this length become an entry at once.
const GATHERED_BYTES_MAX: usize = 256 * 1024;

impl Executor {
    /// When the driver must begin a turn at the latest, by the monotonic clock, even if nothing arrives.
    pub fn next_deadline_ms(&self) -> u64 {
        let mut at = self.next_cron_ms;
        if let Some(deadline) = self.waiting.next_deadline_ms() {
            at = at.min(deadline);
        }
        if !self.fx.bytes().is_empty() {
            at = at.min(self.entry_at_ms + GATHER_MS);
        }
        if let Some(due) = self.persistence_deadline_ms() {
            at = at.min(due);
        }
        if self.control.is_congested() || self.evict_more {
            at = at.min(self.now.mono_ms() + 1);
        }
        if let Some(due) = self.defrag_deadline_ms() {
            at = at.min(due);
        }
        if self.expire_more || self.caching.has_work() {
            at = at.min(self.now.mono_ms());
        }
        if !self.retrying.is_empty() || self.is_serving() {
            at = self.now.mono_ms();
        }
        at.min(self.pause.map_or(u64::MAX, |p| p.until_ms))
    }

    /// Whether the end of this turn does more than to finish what clients have asked for, so that its time is worth a look.
    pub fn has_work_of_its_own(&self) -> bool {
        self.expire_more
            || self.evict_more
            || self.defrag.effort > 0
            || self.persist.saving.is_some()
            || self.persist.loading.is_some()
            || self.followers.transfer.is_some()
            || self.snapshot.is_some()
            || self.now.mono_ms() >= self.next_cron_ms
    }

    /// Ends a turn: what is due is done, the effects of the turn become one journal entry, and whatever
    /// may leave is released.
    pub fn end_turn(&mut self) {
        let commands_ns = self.stats.command_ns;
        let took_ns = self.timed(Self::do_what_is_due);
        // Those of clients that could go on just now.
        let commands_ns = self.stats.command_ns.saturating_sub(commands_ns);
        self.stats.cron_ns += took_ns.saturating_sub(commands_ns);
    }

    fn do_what_is_due(&mut self) {
        self.stats.turns += 1;
        // Before anything that evicts keys.
        self.evict_clients();
        self.serve_copies();
        self.check_pause();
        if self.is_serving() {
            self.serve_more();
        }
        if !self.retrying.is_empty() && !self.is_serving() {
            self.retry_some();
        }
        self.resume_unblocked();
        let now = self.now.mono_ms();
        if self.waiting.next_deadline_ms().is_some_and(|at| at <= now) {
            self.expire_waiting();
        }
        if now >= self.next_cron_ms {
            if !self.cron_paused {
                self.cron();
            }
            self.next_cron_ms = now + 1000 / self.settings.hz;
        }
        if self.expire_more {
            self.expire_cycle();
        }
        self.evict_keys();
        self.defrag_turn();
        self.persistence_turn();
        self.followers_turn();
        self.shutdown_turn();
        self.behind = self.is_saving_behind();
        if !self.gathers_effects() {
            self.flush_effects();
        }
        self.migrate_end_turn();
        self.caching_turn();
        if self.gated {
            self.release_held();
        }
        if self.control.is_congested() {
            self.was_congested = true;
            if self.control.retry() && self.was_congested {
                self.was_congested = false;
                self.resume_all();
            }
        }
        // What could go on just now has executed commands: their effects belong into the journal now, not
        // whenever something else begins a turn.
        while !self.unblocked.is_empty() && !self.is_serving() {
            self.resume_unblocked();
        }
        if !self.fx.bytes().is_empty() && !self.gathers_effects() {
            self.flush_effects();
        }
        self.broadcast();
    }

    /// Whether the effects so far wait for those of the next turns, to become one entry with them, as long as an entry
    /// is on its way to a quorum. Each costs every member a write to its disk and the leader two messages, however
    /// little is in it; and behind another one it would hardly be committed sooner. The commit of that one flushes what
    /// has gathered, as any task of the control thread does.
    fn gathers_effects(&self) -> bool {
        self.gated
            && self.journal.in_flight() > 0
            && self.fx.bytes().len() < GATHERED_BYTES_MAX
            && self.now.mono_ms() < self.entry_at_ms + GATHER_MS
            && !self.migrates()
            && self.ending == Ending::Running
    }

    /// Hands the effects so far to the journal, as one entry.
    pub fn flush_effects(&mut self) {
        if !self.fx.bytes().is_empty() {
            self.tap_effects();
            let end = self.journal.append(self.fx.bytes());
            if self.followers.is_active() {
                self.feed_followers(end);
            }
            self.fx.clear_turn();
            self.entry_at_ms = self.now.mono_ms();
            if self.gated {
                // Each entry of a shard's log can be applied by itself.
                self.fx.reset_stream();
            }
        }
    }

    fn cron(&mut self) {
        let now = self.now.mono_ms();
        self.stats.sample(now);
        if self.gated {
            self.expire_held();
        }
        self.check_clients();
        self.memory_peak = self.memory_peak.max(self.used_memory());
        self.make_room();
        self.persistence_cron();
        self.followers_cron();
        self.expire_cycle();
        self.defrag_cron();
        self.tls.reload_if_due(&self.config, now);
    }

    fn expire_cycle(&mut self) {
        let took_ns = self.timed(Self::expire_keys);
        self.stats.expire_ns += took_ns;
        self.note_latency("expire-cycle", took_ns);
    }

    fn expire_keys(&mut self) {
        let is_busy = self.stats.commands != self.commands_seen;
        self.commands_seen = self.stats.commands;
        self.expire_more = self.engine.free_step(match is_busy {
            true => FREE_STEP_ENTRIES_BUSY,
            false => FREE_STEP_ENTRIES,
        });
        // A follower waits for the deletions of its leader.
        if !self.active_expire
            || self.pause().is_some()
            || self.ending != Ending::Running
            || self.is_loading()
            || self.settings.import_mode
            || matches!(self.office, crate::seam::Office::Follower { .. })
        {
            return;
        }
        self.expire_more |=
            self.engine
                .active_expire_step(self.now.unix_ms(), EXPIRE_STEP_KEYS, &mut self.fx);
        self.note_background_writes();
    }

    /// Effects that no client asked for: watches break and later reads depend on them.
    pub(super) fn note_background_writes(&mut self) {
        if self.gated {
            self.gate_touched();
        }
        self.after_effects();
    }

    /// Looks at some of the clients: at each once a second, or more often where there are few.
    fn check_clients(&mut self) {
        let now = self.now.mono_ms();
        let timeout_ms = self.settings.timeout_s * 1000;
        let mut doomed: Vec<(ConnId, bool)> = Vec::new();
        let (normal, pubsub) = (self.settings.output_normal, self.settings.output_pubsub);
        let replica = self.settings.output_replica;
        let at_once = self.conns.len() / self.settings.hz as usize;
        let from = std::mem::take(&mut self.clients_seen);
        let (some, next) = self.conns.some_mut(from, at_once.max(CLIENTS_AT_ONCE_MIN));
        self.clients_seen = next;
        for c in some {
            let idle_ms = now.saturating_sub(c.last_seen_ms);
            c.shrink_query(idle_ms);
            let is_silent = idle_ms >= SILENT_MS;
            if is_silent {
                c.parser.give_back();
            }
            let told = c
                .out
                .shrink_elsewhere(idle_ms, is_silent, self.resizes_replies);
            if told && !c.dirty {
                c.dirty = true;
                self.dirty.push(c.conn);
            }
            if self.resizes_replies {
                c.out.shrink(now, self.reply_peak_ms, is_silent);
            }
            let limit = if c.follows {
                replica
            } else if c.is_subscriber() {
                pubsub
            } else {
                normal
            };
            if over_soft_limit(counted_bytes(c), limit, &mut c.soft_limit_since_ms, now) {
                doomed.push((c.conn, true));
            } else if timeout_ms > 0
                && !c.is_subscriber()
                && !c.follows
                && matches!(c.state, State::Ready)
                && idle_ms > timeout_ms
            {
                doomed.push((c.conn, false));
            }
        }
        for (id, by_output) in doomed {
            if by_output {
                self.stats.output_limit_disconnections += 1;
                self.warn_output_limit(id);
            } else {
                tracing::trace!("Closing idle client");
            }
            self.close_client(id, Close::Now);
        }
    }

    /// What limits a client's output.
    pub(super) fn output_limit_of(&self, id: ConnId) -> Option<OutputLimit> {
        self.conns.get(id).map(|c| limit_of(&self.settings, c))
    }

    /// Whether a connection's output is above its hard limit; it is closed at once then.
    pub fn check_output_limit(&mut self, id: ConnId) -> bool {
        let Some(c) = self.conns.get_mut(id) else {
            return false;
        };
        if c.close == Close::Now {
            return true;
        }
        let limit = limit_of(&self.settings, c);
        // Strangers are not worth much memory.
        let pending = c.out.pending_bytes();
        let stranger = !c.was_authenticated
            && (pending > STRANGER_OUTPUT_BYTES_MAX || self.strangers_get_nothing && pending > 0);
        let over = limit.hard_bytes > 0 && counted_bytes(c) > limit.hard_bytes;
        if !over && !stranger {
            return false;
        }
        self.stats.output_limit_disconnections += 1;
        self.warn_output_limit(id);
        self.close_client(id, Close::Now);
        true
    }

    pub(super) fn warn_output_limit(&self, id: ConnId) {
        if let Some(c) = self.conns.get(id) {
            tracing::warn!(
                "Client id={} addr={:?} closed for overcoming of output buffer limits.",
                c.id,
                c.info.peer
            );
        }
    }
}

fn limit_of(settings: &Settings, c: &Connection) -> OutputLimit {
    if c.follows {
        settings.output_replica
    } else if c.is_subscriber() {
        settings.output_pubsub
    } else {
        settings.output_normal
    }
}

/// What counts for a client's limit.
fn counted_bytes(c: &Connection) -> usize {
    match c.follows {
        true => c.out.pending_bytes(),
        false => c.out.listed_bytes(),
    }
}

fn over_soft_limit(bytes: usize, limit: OutputLimit, since: &mut Option<u64>, now: u64) -> bool {
    if limit.soft_bytes == 0 || bytes <= limit.soft_bytes {
        *since = None;
        return false;
    }
    let start = *since.get_or_insert(now);
    // Whole seconds, as Valkey counts them: never early.
    now.saturating_sub(start) / 1000 > limit.soft_seconds
}
