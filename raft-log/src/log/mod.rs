//! The log on disk: segments of records ([`format`]), opened by [`recover`], written by [`writer`],
//! and seen by openraft through [`store`].

mod format;
mod identity;
mod index;
mod recover;
mod store;
mod writer;

#[cfg(test)]
mod tests;

pub use recover::Owner;
pub use store::{Limits, LogStore};
