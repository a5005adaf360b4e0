//! The file that a follower is sent first: made of a snapshot, packed on another thread, for all that wait for one of its kind.

use super::Stage;
use crate::executor::{ConnId, Executor};
use crate::persist::save::Saving;
use crate::persist::{Framing, SaveRequest};
use holdfast_rdb::RdbVersion;

/// While a follower has more than this still to be written, it gets no more.
const PENDING_BYTES_MAX: usize = 512 << 10;

/// A file on its way.
pub(crate) struct Transfer {
    saving: Saving,
    to: Vec<ConnId>,
    /// The offset behind which the stream goes on.
    at: u64,
    /// It ends with a mark instead of having its length in front.
    marked: bool,
    outcome: Option<Result<(), String>>,
    nudged_at_ms: u64,
    /// When bytes could be handed to all of them, or there were none.
    flowed_at_ms: u64,
}

impl Transfer {
    pub(crate) fn is_due(&self, now_us: u64) -> bool {
        self.saving.is_due(now_us)
    }

    pub(crate) fn learn(&mut self, took_us: u64) {
        self.saving.learn(took_us);
    }
}

impl Executor {
    /// Begins a file for the first follower that waits, and all others that take the same one.
    pub(super) fn begin_transfer(&mut self) {
        self.flush_effects();
        let kind = |f: &super::Follower| {
            let version = match f.takes_eof_mark && f.version < 9 << 16 {
                // Older ones do not say their version: it is taken for 7.2.
                true => RdbVersion::V11,
                false => RdbVersion::V80,
            };
            (f.takes_eof_mark, version, f.without_keys)
        };
        let waiting = self
            .followers
            .all
            .iter()
            .filter(|(_, f)| f.stage == Stage::Waiting);
        let mut wanted = None;
        let to: Vec<ConnId> = waiting
            .filter(|(_, f)| *wanted.get_or_insert(kind(f)) == kind(f))
            .map(|(id, _)| *id)
            .collect();
        let Some((marked, version, without_keys)) = wanted else {
            return;
        };
        let mut mark = [0; 40];
        mark.copy_from_slice(&self.random_id().as_bytes()[..40]);
        let framing = match marked {
            true => Framing::Mark(mark),
            false => Framing::Length,
        };
        let temporary = self.temporary_rdb();
        let request = SaveRequest {
            path: temporary.clone(),
            temporary,
            checksum: self.config.yes("rdbchecksum"),
            incremental_sync: false,
            send: Some(framing),
        };
        let at = self.journal.position().0;
        let saving = match self.begin_snapshot(request, version, without_keys) {
            Ok(saving) => saving,
            Err(e) => {
                tracing::warn!("BGSAVE for replication failed: {e}");
                for id in to {
                    self.close_client(id, crate::executor::Close::Now);
                    self.forget_follower(id);
                }
                return;
            }
        };
        // The follower has no database selected.
        self.fx.reset_stream();
        let line = format!("+FULLRESYNC {} {at}\r\n", self.followers.id);
        for id in &to {
            let Some(f) = self.followers.all.get_mut(id) else {
                continue;
            };
            f.stage = Stage::Receiving(at);
            if !f.silent
                && let Some(c) = self.conns.get_mut(*id)
            {
                c.out.buf.extend_from_slice(line.as_bytes());
            }
            self.mark_dirty(*id);
        }
        tracing::info!(
            "Starting BGSAVE for SYNC with target: {}",
            if marked { "replicas sockets" } else { "disk" }
        );
        self.followers.transfer = Some(Transfer {
            saving,
            to,
            at,
            marked,
            outcome: None,
            nudged_at_ms: self.now.mono_ms(),
            flowed_at_ms: self.now.mono_ms(),
        });
    }

    pub(super) fn transfer_turn(&mut self) {
        let now = self.now.mono_ms();
        let timeout_ms = self.config.size("repl-timeout") as u64 * 1000;
        let mut stuck = Vec::new();
        let Some(t) = &mut self.followers.transfer else {
            return;
        };
        let followers = &self.followers.all;
        t.to.retain(|id| followers.contains_key(id));
        if t.to.is_empty() {
            let gone = self.followers.transfer.take();
            return self.end_snapshot(gone.map(|t| t.saving));
        }
        t.saving
            .feed(&mut self.engine, u64::MAX, self.now.mono_us, &*self.host);
        if t.outcome.is_none() {
            t.outcome = t.saving.outcome();
        }
        let mut empty = false;
        let mut progress = false;
        loop {
            let room = t.to.iter().all(|id| {
                self.conns
                    .get(*id)
                    .is_none_or(|c| c.out.pending_bytes() < PENDING_BYTES_MAX)
            });
            if !room {
                if now.saturating_sub(t.flowed_at_ms) > timeout_ms {
                    // It keeps the others from their file, and the snapshot in memory.
                    stuck.extend(t.to.iter().filter(|id| {
                        let c = self.conns.get(**id);
                        c.is_some_and(|c| c.out.pending_bytes() >= PENDING_BYTES_MAX)
                    }));
                }
                break;
            }
            t.flowed_at_ms = now;
            let Some(bytes) = t.saving.take_bytes() else {
                empty = true;
                break;
            };
            progress = true;
            for id in &t.to {
                if let Some(c) = self.conns.get_mut(*id) {
                    c.out.buf.extend_from_slice(&bytes);
                    if !c.dirty {
                        c.dirty = true;
                        self.dirty.push(*id);
                    }
                }
            }
        }
        if !progress && !t.marked && now.saturating_sub(t.nudged_at_ms) >= 1000 {
            // Empty lines say that we are alive, until the length comes.
            t.nudged_at_ms = now;
            if !t.saving.has_given_bytes() {
                for id in &t.to {
                    if let Some(c) = self.conns.get_mut(*id) {
                        c.out.buf.push(b'\n');
                        if !c.dirty {
                            c.dirty = true;
                            self.dirty.push(*id);
                        }
                    }
                }
            }
        }
        if empty
            && let Some(outcome) = t.outcome.take()
            && let Some(t) = self.followers.transfer.take()
        {
            self.end_transfer(t, outcome);
        }
        for id in stuck {
            tracing::warn!("Timeout sending the RDB file to a replica");
            self.close_client(id, crate::executor::Close::Now);
        }
    }

    fn end_transfer(&mut self, t: Transfer, outcome: Result<(), String>) {
        let Transfer {
            saving,
            to,
            at,
            marked,
            ..
        } = t;
        self.end_snapshot(Some(saving));
        if let Err(e) = outcome {
            tracing::warn!("SYNC failed. BGSAVE child returned an error: {e}");
            for id in to {
                self.close_client(id, crate::executor::Close::Now);
            }
            return;
        }
        for id in to {
            if !marked {
                self.put_online(id, at);
            } else if let Some(f) = self.followers.get_mut(id) {
                // It looks for the mark in the last bytes that it has: nothing may come behind them before it has seen it.
                f.stage = Stage::Ending(at);
                if f.rdb_only {
                    self.put_online(id, at);
                }
            }
        }
    }
}
