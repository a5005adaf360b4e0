//! The reply gate at work: holding, releasing, and what becomes of held replies when the office is lost.

use super::{Close, ConnId, Connection, Executor, HeldKind, OwnedArgv, State};
use crate::journal::JournalPos;
use crate::seam::Office;

/// A read whose state was never confirmed. It had no effect, so that it may be tried again anywhere.
const READ_LOST: &[u8] =
    b"-CLUSTERDOWN The primary of this shard has changed before the read was confirmed\r\n";
/// A read that waited too long for the quorum.
const READ_LATE: &[u8] = b"-CLUSTERDOWN The quorum of this shard does not answer\r\n";
/// A write of unknown outcome.
const WRITE_LATE: &[u8] =
    b"-UNCERTAIN The write was not confirmed by the quorum in time and may still take effect\r\n";
/// A write that a deposed primary executed and that nobody confirmed.
const WRITE_LOST: &[u8] =
    b"-UNCERTAIN The primary has changed before the write was confirmed; it may have taken effect\r\n";
/// Parked commands executed at once, when they may go on.
const RETRIES_A_TURN: usize = 256;
/// In place of a message about a write of unknown outcome.
const NO_MESSAGE: &[u8] = b"";

impl Executor {
    /// All up to `upto` is durable: what waited for it leaves.
    pub fn on_durable(&mut self, upto: JournalPos) {
        self.journal.on_durable(upto);
        self.gate.on_durable(self.journal.durable());
        self.release_held();
    }

    /// The office has changed. Losing it answers held reads with an error at once, since this memory may never
    /// be confirmed; held writes wait for [`Executor::on_durable`], [`Executor::fail_held_writes`] or their timeout.
    pub fn on_office(&mut self, office: Office) {
        let before = std::mem::replace(&mut self.office, office);
        if before == office {
            return;
        }
        if matches!(before, Office::Leader { .. }) {
            self.replace_held(|kind, _| (kind == HeldKind::Read).then_some(READ_LOST));
            self.gate.clear();
            self.unblock_all(
                b"-UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)\r\n",
            );
            for c in self.conns.iter_mut() {
                c.watch_broken |= !c.watched.is_empty();
            }
        }
        if matches!(office, Office::Leader { .. }) {
            // Positions of an earlier term may not release replies that were given in it.
            self.fail_held_writes();
        }
        self.retry_parked();
    }

    /// Answers every held write that is not durable: the memory that it changed is given up.
    pub fn fail_held_writes(&mut self) {
        let durable = self.journal.durable();
        for id in &self.holding {
            if let Some(c) = self.conns.get_mut(*id) {
                c.out.free_invalidations(|needs, _| needs > durable);
            }
        }
        self.replace_held(|kind, needs| match kind {
            HeldKind::Write if needs > durable => Some(WRITE_LOST),
            HeldKind::Message if needs > durable => Some(NO_MESSAGE),
            _ => None,
        });
    }

    /// Appends to a connection's output what depends on nothing.
    pub(crate) fn append_free(&mut self, id: ConnId, bytes: &[u8]) {
        self.append_held(id, bytes, JournalPos(0), HeldKind::Free);
    }

    /// Appends to a connection's output what depends on a position.
    pub(crate) fn append_held(
        &mut self,
        id: ConnId,
        bytes: &[u8],
        needs: JournalPos,
        kind: HeldKind,
    ) {
        let Some(c) = self.conns.get_mut(id) else {
            return;
        };
        let start = c.out.buf.len();
        c.out.buf.extend_from_slice(bytes);
        if self.gated {
            self.hold_reply(id, start, needs, kind);
        }
        self.mark_dirty(id);
    }

    fn replace_held(&mut self, mut f: impl FnMut(HeldKind, JournalPos) -> Option<&'static [u8]>) {
        for id in self.holding.clone() {
            if let Some(c) = self.conns.get_mut(id) {
                self.held_failed += c.out.replace(|kind, needs, _| f(kind, needs)) as u64;
            }
        }
        self.release_held();
    }

    /// Marks the reply appended since `start` as held, if it depends on anything. `wrote`: the command had effects.
    /// Only called while the journal gates replies.
    pub(super) fn hold_reply(
        &mut self,
        id: ConnId,
        start: usize,
        needs: JournalPos,
        kind: HeldKind,
    ) {
        let now = self.now.mono_ms();
        let Some(c) = self.conns.get_mut(id) else {
            return;
        };
        c.out.hold(start, needs, kind, now);
        if c.out.held_len() > 0 && !c.holding {
            c.holding = true;
            self.holding.push(id);
        }
    }

    /// Releases whatever may leave. The lease is asked at most once, after all commands of the turn have executed.
    pub(super) fn release_held(&mut self) {
        if self.holding.is_empty() {
            return;
        }
        let durable = self.journal.durable();
        let mut lease = None;
        let mut holding = std::mem::take(&mut self.holding);
        let mut resumable = Vec::new();
        holding.retain(|id| {
            let Some(c) = self.conns.get_mut(*id) else {
                return false;
            };
            // Asked once, after everything of the turn has executed.
            let may_read = || *lease.get_or_insert_with(|| self.journal.lease_valid());
            let full = c.is_full();
            if c.out.release(durable, may_read) && !c.dirty {
                c.dirty = true;
                self.dirty.push(*id);
            }
            if full && !c.is_full() {
                resumable.push(*id);
            }
            c.holding = c.out.held_len() > 0;
            c.holding
        });
        // Nothing can have been added meanwhile.
        self.holding = holding;
        for id in resumable {
            self.resume(id);
        }
    }

    /// Answers held replies that have waited longer than `durability-timeout`.
    pub(super) fn expire_held(&mut self) {
        let now = self.now.mono_ms();
        let limit = self.settings.durability_timeout_ms;
        let late = |since: u64| now.saturating_sub(since) >= limit;
        let mut any = false;
        for id in &self.holding {
            let Some(c) = self.conns.get_mut(*id) else {
                continue;
            };
            if c.out.held_since_ms().is_some_and(late) {
                c.out.free_invalidations(|_, since| late(since));
                let n = c.out.replace(|kind, _, since| match kind {
                    HeldKind::Write if late(since) => Some(WRITE_LATE),
                    HeldKind::Read if late(since) => Some(READ_LATE),
                    HeldKind::Message if late(since) => Some(NO_MESSAGE),
                    _ => None,
                });
                self.held_failed += n as u64;
                any = true;
            }
        }
        if any {
            self.release_held();
        }
    }

    /// Replies that are held, over all connections.
    pub fn held_replies(&self) -> usize {
        self.holding
            .iter()
            .filter_map(|id| self.conns.get(*id))
            .map(|c| c.out.held_len())
            .sum()
    }

    /// Keeps a command until its slot is served again, here or elsewhere ([`Executor::retry_parked`]).
    pub(super) fn park(&mut self, id: ConnId, argv: OwnedArgv) {
        if let Some(c) = self.conns.get_mut(id) {
            c.state = State::Parked(argv);
            self.parked.push(id);
        }
    }

    /// Executes the commands that were parked; those that still have to wait are parked again.
    pub fn retry_parked(&mut self) {
        let parked = std::mem::take(&mut self.parked);
        self.retrying.extend(parked);
        self.retry_some();
    }

    /// Executes some of the parked commands that may be tried again; the others have their turn later.
    pub(super) fn retry_some(&mut self) {
        for _ in 0..RETRIES_A_TURN {
            let Some(id) = self.retrying.pop_front() else {
                return;
            };
            let Some(c) = self.conns.get_mut(id) else {
                continue;
            };
            if !matches!(c.state, State::Parked(_)) {
                continue;
            }
            let State::Parked(argv) = std::mem::replace(&mut c.state, State::Ready) else {
                continue;
            };
            if c.close != Close::Open {
                continue;
            }
            self.execute_owned(id, &argv);
            // A reply that was not held must leave, too: nobody reads from this connection just now.
            self.mark_dirty(id);
            self.resume(id);
        }
    }
}

impl Connection {
    /// Whether so many replies are held that no more commands are executed for it until some have left.
    pub fn is_full(&self) -> bool {
        self.out.held_len() >= super::HELD_PER_CONNECTION_MAX
    }
}
