//! The runs themselves: only built with `--cfg madsim`.

mod afterwards;
mod boot;
pub mod cluster_client;
mod copies;
mod expiries;
pub mod formation;
pub mod log_app;
pub mod log_subject;
pub mod node_subject;
mod operator;
pub mod resp;
pub mod run;
mod watch;
pub mod workload;
pub mod world;

#[cfg(test)]
mod tests;
