//! A shard's replicated log: segments on disk, openraft around them, and the witness.
//!
//! Never knows what an entry means. Owns the group's files, the Raft RPC and its server, and one
//! thread (under the simulator: a task) that writes and syncs the log.

pub mod disk;
pub mod planted;

mod app;
mod drive;
mod error;
mod group;
mod ids;
mod log;
mod members;
mod net;
mod propose;
mod raft;
mod rt;
mod server;
mod sm;
mod snapshots;
mod types;
pub mod watch;

pub use app::{App, NoApp, SnapshotTask};
pub use error::{ChangeError, ProposeError, ReadError, StartError};
pub use group::Group;
pub use ids::{BadId, NodeId, ShardId};
pub use server::RaftServer;
pub use types::{
    Committed, EntryId, GroupConfig, GroupStatus, Member, MemberStatus, Office, OfficeId, Role,
    SnapshotInfo,
};
