//! The CLUSTER commands that need the bus or the shard. They run on the control thread.
//!
//! The executor answers `KEYSLOT`, `COUNTKEYSINSLOT`, `GETKEYSINSLOT` and `SLOT-STATS` itself, and the slot migrations have
//! theirs; it forwards the others here, with what they need to know of the keyspace ([`Call`]), and gets an encoded
//! reply back, at once or later ([`Outcome::Pending`]).
//!
//! - `command`: which subcommand, its arity, and who takes it.
//! - `changes`: those that change something; under `durability quorum` by way of [`ShardControl`].
//! - `replies`: those that only tell.

mod changes;
mod command;
mod control;
mod help;
mod host;
mod replies;
mod table;

pub use command::{Call, ClusterCtl, ClusterOptions, Completed, EndpointType, Outcome};
pub use control::{AsyncShard, ShardControl, ShardError, ShardRequest, Token};
pub(crate) use host::base_port;
pub use host::{ClusterHost, HostEvent, LookedUp, bus_config, cluster_options};
pub use table::routing_of;
