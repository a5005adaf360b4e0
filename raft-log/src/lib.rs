//! A shard's replicated log: segments on disk, openraft around them, and the witness.
//!
//! Never knows what an entry means. Owns the group's files, the Raft RPC and its server, and one
//! thread (under the simulator: a task) that writes and syncs the log.

pub mod disk;
pub mod planted;

mod app;
mod error;
mod group;
mod ids;
mod log;
mod propose;
mod raft;
mod rt;
mod types;
pub mod watch;

pub use app::{App, NoApp, SnapshotTask};
pub use error::{ChangeError, ProposeError, ReadError, StartError};
pub use group::{Group, RaftServer};
pub use ids::{BadId, NodeId, ShardId};
pub use types::{
    Committed, EntryId, GroupConfig, GroupStatus, Member, MemberStatus, Office, OfficeId, Role,
    SnapshotInfo,
};
