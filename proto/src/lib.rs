//! What Holdfast's nodes say to each other beside the cluster bus, as types: generated from the
//! `.proto` files in `proto/`, whose comments are the specification.
//!
//! Never looks inside a value, and knows no crate of ours.

/// What an entry of a shard's replicated log carries.
#[allow(missing_docs, clippy::all)]
pub mod journal {
    tonic::include_proto!("holdfast.journal.v1");
}

/// What the members of a shard's Raft group say to each other.
#[allow(missing_docs, clippy::all)]
pub mod raft {
    tonic::include_proto!("holdfast.raft.v1");
}

pub use prost::Message;
