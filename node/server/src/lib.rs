//! The Holdfast server: configuration, clients, executor, journal, control thread.
//!
//! [`executor`] is the heart: it owns the engine and does no I/O. [`driver`] moves bytes between sockets and it. What it
//! and the control thread say to each other is in [`seam`]; what "acknowledged" means is in [`journal`] and [`gate`].

pub mod bus;
#[cfg(not(madsim))]
pub mod check_rdb;
pub mod cluster;
pub mod commands;
pub mod config;
pub mod control;
pub mod driver;
pub mod durable;
pub mod executor;
pub mod followers;
pub mod gate;
pub mod journal;
#[cfg(not(madsim))]
pub mod local_cluster;
pub mod logging;
#[cfg(not(madsim))]
pub mod memory;
#[cfg(not(madsim))]
pub mod metrics;
pub mod migrate;
pub mod persist;
#[cfg(not(madsim))]
pub mod proc_title;
#[cfg(not(madsim))]
pub mod process;
#[cfg(not(madsim))]
mod reaper;
#[cfg(not(madsim))]
mod rebuild;
pub mod routing;
pub mod seam;
mod texts;
pub mod ticks;
pub mod tls;

/// This program's version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The version of Valkey whose commands and replies are followed.
pub const COMPATIBLE_VALKEY_VERSION: &str = "9.1.2";
/// The version of Redis that clients are told: what Valkey itself tells them.
pub const COMPATIBLE_REDIS_VERSION: &str = "7.2.4";
