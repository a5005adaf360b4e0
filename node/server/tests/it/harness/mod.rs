//! Real processes for tests and benchmarks: nodes on free ports with folders of their own, a client, a load.
//!
//! A [`Cluster`] ends its processes, by id, and removes its folders when it is dropped. Nothing here uses
//! anything of a node but its command line, its configuration file and its client port.

#![allow(
    dead_code,
    unused_imports,
    reason = "compiled into the tests and into each benchmark, none of which uses all of it"
)]

pub mod client;
pub mod cluster;
pub mod load;
pub mod router;

pub use client::{Client, text};
pub use cluster::{Cluster, NodeRef};
pub use load::Load;
pub use router::Router;
