//! Holdfast: see ARCHITECTURE.md.

pub mod cluster;
pub mod routing;
