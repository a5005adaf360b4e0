//! How a job looks in `CLUSTER GETSLOTMIGRATIONS`.

use crate::{JobId, NodeId, SlotRanges};

/// Which side of the job this node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// This node's shard takes the slots in.
    Import,
    /// This node's shard gives the slots away.
    Export,
}

impl Operation {
    /// Valkey's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Operation::Import => "IMPORT",
            Operation::Export => "EXPORT",
        }
    }
}

/// How a job ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The slots are the target's.
    Success,
    /// The source kept the slots.
    Failed,
    /// The source kept the slots, because the user said so.
    Cancelled,
}

impl Ending {
    /// Valkey's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Ending::Success => "success",
            Ending::Failed => "failed",
            Ending::Cancelled => "cancelled",
        }
    }
}

/// One entry of `CLUSTER GETSLOTMIGRATIONS`, in the order of its fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobView {
    /// `name`.
    pub job: JobId,
    /// `operation`.
    pub operation: Operation,
    /// `slot_ranges`.
    pub slots: SlotRanges,
    /// `target_node` and `source_node`; left out, like in Valkey, where this node merely follows.
    pub nodes: Option<(NodeId, NodeId)>,
    /// `create_time`, Unix seconds.
    pub create_time: u64,
    /// `last_update_time`, Unix seconds.
    pub last_update_time: u64,
    /// `last_ack_time`, Unix seconds.
    pub last_ack_time: u64,
    /// `state`.
    pub state: &'static str,
    /// `message`.
    pub message: String,
    /// `remaining_repl_size`, bytes on their way to the target.
    pub remaining_bytes: u64,
    /// How far the job has come; shown in `message` while it runs.
    pub progress: Progress,
}

/// Figures of a job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Keys of the snapshot that have been sent.
    pub keys_sent: u64,
    /// Keys in the slots when the snapshot began.
    pub keys_total: u64,
    /// Bytes of the data stream put out (source) or executed (target).
    pub bytes: u64,
    /// How long writes have waited, in milliseconds.
    pub pause_ms: u64,
}

impl Progress {
    /// Part of the snapshot that has been sent, 0 to 100.
    pub fn percent(&self) -> u64 {
        let sent = self.keys_sent.min(self.keys_total);
        (sent * 100).checked_div(self.keys_total).unwrap_or(100)
    }
}
