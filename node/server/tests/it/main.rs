//! Stories about real processes: nodes, clients and tools as users run them.
//!
//! A test that lacks a tool prints `SKIPPED` with the reason and passes; `.ci/run` installs all tools.

mod harness;

mod bad_input;
mod bench;
mod cli;
mod clients;
mod config;
mod disk;
mod durable_shard;
mod hostile_clients;
mod introspection;
mod io_threads;
mod large_values;
mod local_cluster;
mod metrics;
mod migration;
mod operations;
mod persistence;
mod rebuild;
mod tls;
mod tools;
