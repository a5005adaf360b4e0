//! `holdfast bench`: a load generator for servers that speak RESP.
//!
//! [`plan::Plan`] says what to do, [`run::run`] does it, [`compare::compare`] does it to two servers in turns. Each thread ([`worker`]) owns
//! its clients and one epoll; commands are made from templates ([`template`]), and of replies only their ends are
//! looked for ([`skim`]), so that a generator costs less a command than any server that it measures.
//!
//! The crate knows nothing of Holdfast's inside: it is a client.

#![forbid(unsafe_code)]

pub mod app;
pub mod chart;
mod clockwork;
pub mod cluster;
pub mod compare;
mod connection;
pub mod histogram;
pub mod json;
pub mod live;
pub mod named;
pub mod net;
pub mod options;
pub mod plan;
pub mod random;
pub mod report;
pub mod run;
pub mod server;
pub mod sizes;
pub mod skim;
pub mod tally;
pub mod template;
pub mod tls;
mod worker;

/// Why a run came to nothing, for the user.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Failure(String);

impl Failure {
    /// With its text.
    pub fn new(text: impl Into<String>) -> Failure {
        Failure(text.into())
    }
}
