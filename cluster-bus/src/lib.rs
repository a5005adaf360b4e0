//! Who is in the cluster and who owns which of its 16384 slots: Valkey's bus protocol, gossip, failure detection,
//! slot ownership as peers see it, and `nodes.conf`.
//!
//! This crate owns no socket, file, thread, clock or source of randomness: [`Bus`] is told what happened and when, and
//! says what to do. It does not move keys, does not replicate, and elects nobody: it votes in the elections of
//! Valkey replicas, while the primary of a quorum shard is its Raft leader, whose word it spreads ([`Bus::set_self`]).

mod api;
pub mod bus;
mod conf;
mod ids;
mod node;
mod slots;
mod view;
pub mod wire;

pub use api::{Action, BusConfig, ShardRole, ShardTruth, Stats};
pub use bus::{Bus, DownReason, EpochError, ForgetError, MeetError, SlotError};
pub use conf::{ConfError, ConfNode, NodesConf};
pub use ids::{BadName, LinkId, NAME_LEN, NodeId, Now, SLOTS, ShardId};
pub use slots::{BITMAP_LEN, SlotSet};
pub use view::{LinkView, NodeView};
