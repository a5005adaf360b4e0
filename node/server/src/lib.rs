//! Holdfast: see ARCHITECTURE.md.

pub mod bus;
pub mod cluster;
#[cfg(not(madsim))]
pub mod local_cluster;
pub mod migrate;
pub mod routing;
