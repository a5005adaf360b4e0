//! The CLUSTER commands that need the bus or the shard. They run on the control thread.

mod control;

pub use control::{AsyncShard, ShardControl, ShardError, ShardRequest, Token};
