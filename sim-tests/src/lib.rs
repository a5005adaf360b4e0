//! Deterministic simulations of Holdfast, and the checkers that judge what came of them.
//!
//! Built for the host, this crate holds the plain parts with their tests: the simulated disk, the history,
//! the checkers, and how a seed becomes a plan. Built with `--cfg madsim` (`cargo sim`), it also holds the
//! runs themselves: the real node, with its network, disk and clock simulated.

#![forbid(unsafe_code)]

pub mod check;
#[cfg(madsim)]
pub mod cli;
pub mod codec;
pub mod disk;
pub mod history;
pub mod plan;
pub mod record;
pub mod rng;
#[cfg(madsim)]
pub mod sim;
