//! The runs themselves: only built with `--cfg madsim`.

pub mod log_app;
pub mod log_subject;
pub mod run;
pub mod workload;
pub mod world;
