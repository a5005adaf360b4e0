//! The simulated disk: what a node's storage sees in the simulator, in place of the operating system.

mod core;
mod sim;

pub use self::core::{CrashReport, DiskCore, DiskStats, Faults, Inode, SECTOR};
pub use self::sim::SimDisk;

#[cfg(test)]
mod tests;
