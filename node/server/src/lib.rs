//! Holdfast: see ARCHITECTURE.md.

pub mod cluster;
pub mod routing;
#[cfg(not(madsim))]
pub mod local_cluster;
