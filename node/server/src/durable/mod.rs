//! The durable shard: the journal whose entries a quorum holds, and everything between the executor and `raft-log`.
//!
//! - [`replica`]: what this node has executed, what of it is committed, whether its memory may be trusted. Pure.
//! - [`entry`]: the bytes of one log entry.
//! - [`apply`]: a committed entry and what it does to engine and slots.
//! - [`journal`]: the executor's journal under `durability quorum`.
//! - [`exec`]: what the executor does for the log: apply, take office, propose slot records, snapshot steps.
//! - [`load`]: a snapshot file into a fresh engine.
//! - [`app`]: the log's view of all that, on the control thread.
//!
//! Each entry selects its database itself, so any entry can be applied without those before it: the
//! journal resets the stream's selection after every turn.

pub mod app;
pub mod apply;
pub mod entry;
pub mod exec;
pub mod journal;
pub mod load;
pub mod replica;
pub mod waiters;
