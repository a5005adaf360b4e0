//! Errors, by who is at fault.

use std::io;
use std::path::PathBuf;

use crate::ids::NodeId;

/// Why a group did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Another process, or another group in this one, uses the directory.
    #[error("{dir}: in use by another process")]
    InUse {
        /// The group's directory.
        dir: PathBuf,
    },
    /// A file holds what was never written there.
    #[error("{file}: corrupt at offset {offset}: {what}")]
    Corrupt {
        /// The file.
        file: PathBuf,
        /// Where in it, in bytes.
        offset: u64,
        /// What is wrong.
        what: String,
    },
    /// The directory belongs to another node or shard, or part of it is gone.
    ///
    /// A node that lost its log may not vote again under its id: it could help to elect a leader
    /// that lacks what it had acknowledged.
    #[error("{dir}: {what}")]
    Identity {
        /// The group's directory.
        dir: PathBuf,
        /// What does not fit.
        what: String,
    },
    /// A setting makes no sense.
    #[error("{0}")]
    Config(String),
    /// The disk failed.
    #[error("{0}")]
    Disk(#[from] io::Error),
    /// The server could not listen.
    #[error("{addr}: {error}")]
    Listen {
        /// Where.
        addr: String,
        /// Why not.
        error: String,
    },
    /// Raft itself did not start.
    #[error("{0}")]
    Raft(String),
}

/// Why a proposal was not taken. In every case it has no effect, now or later, and neither has any
/// further proposal of the same office.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// This office is over.
    #[error("no longer the leader of that term")]
    NotLeader,
    /// More than `backlog_bytes_max` wait to be committed, or this one alone has almost a GiB; the
    /// office ends with this.
    #[error("too much waits to be committed")]
    Backlog,
    /// The group was stopped, or its disk failed.
    #[error("the log has stopped")]
    Stopped,
}

/// Why a change of the group (members, leader) did not happen.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// Only the leader can; ask it.
    #[error("not the leader; the leader is {leader:?} at {addr}")]
    NotLeader {
        /// Who leads, where known.
        leader: Option<NodeId>,
        /// Its Raft address; empty where unknown.
        addr: String,
    },
    /// Another change is under way, or a quorum does not answer: try again later.
    #[error("not now: {0}")]
    Busy(String),
    /// It cannot be.
    #[error("refused: {0}")]
    Refused(String),
    /// The group was stopped, or its disk failed.
    #[error("the log has stopped")]
    Stopped,
}

/// Why committed entries could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The log was cut behind a snapshot that covers more: begin again from the newest snapshot.
    #[error("the log was cut up to {upto}")]
    Purged {
        /// Index of the last entry that is gone.
        upto: u64,
    },
    /// The disk failed, or the log is corrupt.
    #[error("{0}")]
    Disk(#[from] io::Error),
    /// The group was stopped.
    #[error("the log has stopped")]
    Stopped,
}
