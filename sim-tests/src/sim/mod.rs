//! The runs themselves: only built with `--cfg madsim`.

pub mod cluster_client;
pub mod log_app;
pub mod log_subject;
pub mod resp;
pub mod run;
pub mod workload;
pub mod world;
