//! The slot decisions that a shard writes into its own replicated log.

use crate::{JobId, NodeId, ShardId, SlotRanges};

/// One decision about slots. It takes effect when it is committed, on every member of the shard at
/// the same place in the log, through [`ShardSlots::apply`](crate::ShardSlots::apply).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SlotRecord {
    /// An operator gave the slots to this shard (`CLUSTER ADDSLOTS`).
    Assign {
        /// Slots that no shard owns.
        slots: SlotRanges,
    },
    /// An operator took the slots from this shard (`CLUSTER DELSLOTS`, `FLUSHSLOTS`).
    Unassign {
        /// Slots that this shard owns.
        slots: SlotRanges,
    },
    /// Source: the job exists and may be decided later. Committed before the target hears of it.
    Export {
        /// Drawn by this shard, never used before.
        job: JobId,
        /// Slots that this shard owns.
        slots: SlotRanges,
        /// The shard that shall own them.
        target: ShardId,
        /// The node of that shard that the job was started towards; for display.
        target_node: NodeId,
    },
    /// Source: **the decision.** From here on the slots are the target's.
    HandOff {
        /// A job that was exported and not aborted.
        job: JobId,
    },
    /// Target: the job's data follows in this log, hidden from clients until it is adopted.
    Stage {
        /// The source's job.
        job: JobId,
        /// Slots that this shard does not own.
        slots: SlotRanges,
        /// The shard that owns them, and that knows the job's outcome.
        source: ShardId,
        /// The node of that shard that opened the link; for display.
        source_node: NodeId,
    },
    /// Target: all of the job's data is in this log before this record. The outcome is the
    /// source's from here on: this shard may no longer give the job up by itself.
    Staged {
        /// A job being staged.
        job: JobId,
        /// Bytes of the link's data stream that the staging consists of.
        position: u64,
    },
    /// Target: the older way. The keys have come by `MIGRATE`, visible to `ASKING` clients already;
    /// what is awaited is the source's decision alone.
    Claim {
        /// A job that the source shard has exported for this claim.
        job: JobId,
        /// Slots that this shard does not own.
        slots: SlotRanges,
        /// The shard that owns them, and that knows the job's outcome.
        source: ShardId,
    },
    /// Target: the source has handed off, and this shard owns the slots.
    Adopt {
        /// A job that is staged or claimed.
        job: JobId,
    },
    /// Either side: the job will not happen. On a source this is what makes "not handed off" final;
    /// on a target it drops what was staged (and of a claim only the claim, never its keys).
    Abort {
        /// A job of this shard that is not decided.
        job: JobId,
    },
    /// Source: the target shard has confirmed that it adopted; the outcome need not be kept.
    Forget {
        /// A job that was handed off.
        job: JobId,
    },
    /// `CLUSTER SETSLOT slot MIGRATING node`.
    SetMigrating {
        /// A slot that this shard owns.
        slot: u16,
        /// Where its keys go.
        node: NodeId,
    },
    /// `CLUSTER SETSLOT slot IMPORTING node`.
    SetImporting {
        /// A slot that this shard does not own.
        slot: u16,
        /// Where its keys come from.
        node: NodeId,
    },
    /// `CLUSTER SETSLOT slot STABLE`: neither migrating nor importing.
    SetStable {
        /// Any slot.
        slot: u16,
    },
}

impl SlotRecord {
    /// The job that the record is about, if it is about one.
    pub fn job(&self) -> Option<JobId> {
        match self {
            SlotRecord::Export { job, .. }
            | SlotRecord::HandOff { job }
            | SlotRecord::Stage { job, .. }
            | SlotRecord::Staged { job, .. }
            | SlotRecord::Claim { job, .. }
            | SlotRecord::Adopt { job }
            | SlotRecord::Abort { job }
            | SlotRecord::Forget { job } => Some(*job),
            SlotRecord::Assign { .. }
            | SlotRecord::Unassign { .. }
            | SlotRecord::SetMigrating { .. }
            | SlotRecord::SetImporting { .. }
            | SlotRecord::SetStable { .. } => None,
        }
    }
}
