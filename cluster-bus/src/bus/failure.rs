//! Who has failed, and whether the cluster is up.

use super::{Bus, DownReason, Ix, flags};
use crate::ids::{NodeId, Now, SLOTS};
use tracing::{info, warn};

/// A failure report counts for so many node time-outs.
const REPORT_VALIDITY: u64 = 2;
/// A failed primary that is back and whose slots nobody took is trusted again after so many node time-outs.
const FAIL_UNDO: u64 = 2;
/// A primary does not call the cluster ok sooner after its start: others may have news about its slots.
const WRITABLE_DELAY_MS: u64 = 2000;
/// Bounds of the time that a primary stays down after it was with the minority.
const REJOIN_DELAY_MS: std::ops::RangeInclusive<u64> = 500..=5000;

impl Bus {
    /// Notes that `sender`, a primary with slots, cannot reach `ix`.
    pub(super) fn report_failure(&mut self, ix: Ix, sender: Ix, now: Now) {
        if !self.table.node(ix).has(flags::FAIL) {
            self.table
                .node_mut(ix)
                .fail_reports
                .insert(sender, now.mono_ms);
        }
    }

    /// How many primaries have lately said that they cannot reach `ix`, ourselves not counted.
    pub(super) fn fail_reports(&mut self, ix: Ix, now: Now) -> usize {
        let valid_ms = self.cfg.node_timeout_ms * REPORT_VALIDITY;
        let reports = &mut self.table.node_mut(ix).fail_reports;
        reports.retain(|_, at| now.since(*at) <= valid_ms);
        reports.len()
    }

    /// `CLUSTER COUNT-FAILURE-REPORTS`; `None` if the node is not known.
    pub fn count_failure_reports(&mut self, node: &NodeId, now: Now) -> Option<usize> {
        let ix = self.table.lookup(node)?;
        Some(self.fail_reports(ix, now))
    }

    /// A suspect of ours whom a majority of the primaries suspects has failed: say so to everybody.
    pub(super) fn mark_failing_if_agreed(&mut self, ix: Ix, now: Now) {
        let node = self.table.node(ix);
        if !node.has(flags::PFAIL) || node.has(flags::FAIL) {
            return;
        }
        let reports = self.fail_reports(ix, now) + usize::from(self.my().votes());
        if reports < self.size / 2 + 1 {
            return;
        }
        info!(
            "Marking node {} as failing (quorum reached).",
            self.table.node(ix).id
        );
        self.mark_failing(ix, now);
        self.send_fail(ix);
    }

    pub(super) fn mark_failing(&mut self, ix: Ix, now: Now) {
        let node = self.table.node_mut(ix);
        node.set(flags::PFAIL, false);
        node.set(flags::FAIL, true);
        node.fail_since = now.mono_ms;
        if self.my().replica_of == Some(ix) {
            self.table
                .node_mut(self.me)
                .set(flags::MY_PRIMARY_FAIL, true);
        }
        self.changed(false);
    }

    /// A failed node has answered us.
    pub(super) fn clear_failure(&mut self, ix: Ix, now: Now) {
        let node = self.table.node(ix);
        if node.votes() && now.since(node.fail_since) <= self.cfg.node_timeout_ms * FAIL_UNDO {
            return;
        }
        info!(
            "Clear FAIL state for node {}: it is reachable again.",
            node.id
        );
        self.table.node_mut(ix).set(flags::FAIL, false);
        if self.my().replica_of == Some(ix) {
            self.table
                .node_mut(self.me)
                .set(flags::MY_PRIMARY_FAIL, false);
        }
        self.changed(false);
    }

    /// Decides whether the cluster is ok.
    ///
    /// A quorum shard's node looks at coverage only: whether it may serve is decided by its lease, not by how many primaries
    /// of other shards it can reach, and not by how long it has been up.
    pub(super) fn update_state(&mut self, now: Now) {
        let guarded = self.my().is_primary() && !self.cfg.quorum;
        if guarded && self.down.is_some() && now.since(self.started) < WRITABLE_DELAY_MS {
            self.safe_to_vote = false;
            self.count_size();
            return;
        }
        self.safe_to_vote = true;
        let reachable = self.count_size();
        let uncovered = || {
            (0..SLOTS).any(|slot| {
                self.table
                    .owner(slot)
                    .is_none_or(|owner| self.table.node(owner).has(flags::FAIL))
            })
        };
        let mut down =
            (self.cfg.require_full_coverage && uncovered()).then_some(DownReason::NotCovered);
        if reachable < self.size / 2 + 1 && !self.cfg.quorum {
            down = Some(DownReason::Minority);
            self.minority_at = Some(now.mono_ms);
        }
        if down.is_none() && self.down.is_some() && guarded {
            let delay_ms = self
                .cfg
                .node_timeout_ms
                .clamp(*REJOIN_DELAY_MS.start(), *REJOIN_DELAY_MS.end());
            if self.minority_at.is_some_and(|at| now.since(at) < delay_ms) {
                return;
            }
        }
        if down == self.down {
            return;
        }
        match down {
            None => info!("Cluster state changed: ok"),
            Some(DownReason::NotCovered) => warn!(
                "Cluster is currently down: At least one hash slot is not served by any available node. \
                 Please check the 'cluster-require-full-coverage' configuration."
            ),
            Some(DownReason::Minority) => {
                warn!("Cluster is currently down: I am part of a minority partition.")
            }
        }
        self.down = down;
        self.todo.view = true;
    }

    /// Counts the primaries with slots; returns how many of them can be reached.
    fn count_size(&mut self) -> usize {
        self.size = self.table.iter().filter(|(_, node)| node.votes()).count();
        self.table
            .iter()
            .filter(|(_, node)| node.votes() && !node.has(flags::FAIL | flags::PFAIL))
            .count()
    }

    /// Whether the cluster is ok.
    pub fn is_ok(&self) -> bool {
        self.down.is_none()
    }

    /// Why the cluster is down; `None` if it is ok.
    pub fn down_reason(&self) -> Option<DownReason> {
        self.down
    }

    /// How many primaries with slots there are.
    pub fn size(&self) -> usize {
        self.size
    }
}
