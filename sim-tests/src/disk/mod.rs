//! The simulated disk: what a node's storage sees in the simulator, in place of the operating system.

mod core;

pub use self::core::{CrashReport, DiskCore, DiskStats, Faults, Inode, SECTOR};

#[cfg(test)]
mod tests;
