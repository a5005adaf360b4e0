//! The executor's journal under `durability quorum`: entries go to the shard's log as proposals, and are durable
//! once they come back committed.

use super::replica::{Proposal, RecordId, Replica};
use crate::journal::{Journal, JournalPos};
use bytes::Bytes;
use holdfast_raft_log::planted::planted;
use holdfast_raft_log::{Group, GroupStatus, OfficeId, ProposeError, Role};
use holdfast_slot_migration::{ShardSlots, SlotRecord};
use std::any::Any;
use std::fmt::{Display, Write};
use std::sync::Arc;
use std::sync::OnceLock;
use std::time::Instant;
use tracing::warn;

/// Bytes proposed and not yet committed beyond which writes are refused. Well below what ends the office
/// (`GroupConfig::backlog_bytes_max`).
pub const BACKLOG_BYTES_MAX: u64 = 256 << 20;

/// Effects of one command or transaction. With what may wait before it, still below what ends the office
/// (`GroupConfig::backlog_bytes_max`, 1 GiB), and far above the longest value (`proto-max-bulk-len`, 512 MiB by default).
const ENTRY_BYTES_MAX: usize = 640 << 20;

/// Memory is being rebuilt, or may hold what never commits.
const REBUILDING: &str = "LOADING This node has lost its office and does not know yet which of its writes were committed";
/// Too much waits for the quorum.
const BEHIND: &str =
    "NOREPLICAS Too many writes wait for the quorum of this shard. Try again later.";

/// The group, once it has been started: it and the executor begin independently of each other.
pub type GroupCell = Arc<OnceLock<Group>>;

/// See the module's description.
pub struct QuorumJournal {
    replica: Replica,
    group: GroupCell,
    /// Memory is being rebuilt, or may hold what never commits: nothing may be read from it.
    distrusted: bool,
}

impl QuorumJournal {
    /// A journal over what `replica` holds.
    pub fn new(replica: Replica, group: GroupCell) -> QuorumJournal {
        QuorumJournal {
            replica,
            group,
            distrusted: false,
        }
    }

    /// The bookkeeping.
    pub fn replica(&self) -> &Replica {
        &self.replica
    }

    /// The bookkeeping, to change.
    pub fn replica_mut(&mut self) -> &mut Replica {
        &mut self.replica
    }

    /// The shard's group, once started.
    pub fn group(&self) -> Option<&Group> {
        self.group.get()
    }

    /// The place where the shard's group is, once started.
    pub fn group_cell(&self) -> GroupCell {
        self.group.clone()
    }

    /// Marks the memory as not to be read until it has been rebuilt.
    pub fn distrust(&mut self) {
        self.distrusted = true;
    }

    /// Whether a follower may answer reads from memory: all of it is committed.
    pub fn readable(&self) -> bool {
        !self.distrusted && (self.replica.pending_len() == 0 || self.replica.serving().is_some())
    }

    /// Proposes a slot record behind everything executed so far.
    pub fn propose_record(&mut self, record: SlotRecord) -> Option<RecordId> {
        let (id, proposal) = self.replica.propose_record(record).ok()?;
        self.send(proposal);
        Some(id)
    }

    fn send(&self, proposal: Proposal) {
        // A refusal ends the office, now and for everything behind it; the entries stay pending until a later
        // office shows that they are lost.
        if let Err(error) = propose(&self.group, proposal.office, proposal.payload) {
            warn!("the log refused an entry: {error}");
        }
    }
}

fn propose(group: &GroupCell, office: OfficeId, payload: Bytes) -> Result<(), ProposeError> {
    group
        .get()
        .ok_or(ProposeError::Stopped)?
        .propose(office, payload)
}

impl Journal for QuorumJournal {
    fn append(&mut self, effects: &[u8]) -> JournalPos {
        match self
            .replica
            .propose_effects(Bytes::copy_from_slice(effects))
        {
            Ok(proposal) => self.send(proposal),
            // The executor writes in office only, and the office changes between turns.
            Err(_) => panic!("effects were executed on a node that does not serve its shard"),
        }
        self.replica.position()
    }

    fn position(&self) -> JournalPos {
        self.replica.position()
    }

    fn durable(&self) -> JournalPos {
        self.replica.committed()
    }

    fn in_flight(&self) -> usize {
        self.replica.pending_len()
    }

    fn on_durable(&mut self, _: JournalPos) {
        // The replica learned it when the entry was applied.
    }

    fn wants_effects(&self) -> bool {
        true
    }

    fn gates_replies(&self) -> bool {
        !planted("reply_before_commit")
    }

    fn lease_valid(&self) -> bool {
        if planted("read_without_lease") {
            return true;
        }
        self.group
            .get()
            .is_some_and(|group| group.lease_valid(Instant::now()))
    }

    fn slots(&self) -> Option<&ShardSlots> {
        Some(self.replica.slots())
    }

    fn serving(&self) -> Option<u64> {
        self.replica.serving().map(|office| office.term)
    }

    fn propose_slots(&mut self, record: SlotRecord) -> bool {
        self.propose_record(record).is_some()
    }

    fn entry_bytes_max(&self) -> usize {
        ENTRY_BYTES_MAX
    }

    fn copies(&self, upto: JournalPos) -> usize {
        match (self.group.get(), self.replica.entry_of(upto)) {
            (Some(group), Some(index)) => group.copies(index),
            _ => 0,
        }
    }

    fn refusal(&self, write: bool) -> Option<&'static str> {
        if !self.readable() {
            return Some(REBUILDING);
        }
        let uncommitted = self.replica.position().0 - self.replica.committed().0;
        let behind = write && uncommitted > BACKLOG_BYTES_MAX;
        behind.then_some(BEHIND)
    }

    fn info(&self, out: &mut String) {
        if let Some(group) = self.group.get() {
            describe(&group.status(), out);
        }
    }

    fn as_any(&mut self) -> &mut dyn Any {
        self
    }
}

/// The group's part of `INFO durability`. Offsets in the log are indexes of entries; `-` is none yet.
fn describe(status: &GroupStatus, out: &mut String) {
    let mut line = |name: &str, value: &dyn Display| {
        // Writing to a string does not fail.
        let _ = write!(out, "durability_{name}:{value}\r\n");
    };
    let index = |index: Option<u64>| index.map_or_else(|| "-".to_owned(), |i| i.to_string());
    let voters: Vec<_> = status.members.iter().filter(|m| m.voter).collect();
    let witnesses = voters
        .iter()
        .filter(|m| m.member.role == Role::Witness)
        .count();
    match status.leader {
        Some(leader) => line("leader", &leader),
        None => line("leader", &"-"),
    }
    line("voters", &voters.len());
    line("witnesses", &witnesses);
    line("learners", &(status.members.len() - voters.len()));
    line("log_appended", &index(status.appended));
    line("log_flushed", &index(status.flushed));
    line("log_committed", &index(status.committed));
    line("log_applied", &index(status.applied));
    line("log_snapshot", &index(status.snapshot));
    line("log_bytes", &status.log_bytes);
    line("log_backlog_bytes", &status.backlog_bytes);
    line(
        "log_state",
        &status
            .failed
            .as_ref()
            .or(status.stalled.as_ref())
            .map_or("ok", |s| s.as_str()),
    );
    line("lease_remaining_ms", &status.lease_remaining.as_millis());
    for (number, member) in status.members.iter().enumerate() {
        let role = match (member.voter, member.member.role) {
            (true, Role::Data) => "data",
            (true, Role::Witness) => "witness",
            (false, _) => "learner",
        };
        let value = format!(
            "id={},role={role},addr={},matched={}",
            member.node,
            member.member.addr,
            index(member.matched)
        );
        line(&format!("member{number}"), &value);
    }
}
