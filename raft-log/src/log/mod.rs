//! The log on disk: segments of records ([`format`]), opened by [`recover`], written by [`writer`],
//! and seen by openraft through [`store`]; on a stopped node [`offline`].

mod format;
mod identity;
mod index;
mod offline;
mod recover;
mod store;
mod writer;

#[cfg(test)]
mod tests;

pub use format::Record;
pub use offline::Offline;
pub use recover::Owner;
pub use store::{Limits, LogStore, gap_in};
