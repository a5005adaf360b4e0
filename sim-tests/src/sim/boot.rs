//! What runs on a machine of the node subject: the server itself.

use super::cluster_client::PORT;
use super::world::Machine;
use crate::plan::Plan;
use crate::record::Recorder;
use holdfast_rdb::DumpCodec;
use holdfast_server::config::{Config, Settings};
use holdfast_server::driver::{self, Clock};
use holdfast_server::executor::{Executor, Host, engine_config};
use holdfast_server::seam::{ControlOut, ExecutorInbox, Wake, executor_queue};
use std::io;
use std::time::Duration;
use tokio::net::TcpListener;

/// What the simulator does for an executor.
struct SimHost;

impl Host for SimHost {
    fn sleep(&self, _time: Duration) {}

    fn memory(&self) -> (u64, u64) {
        (1 << 20, 1 << 20)
    }

    fn cpu_seconds(&self) -> (f64, f64) {
        (0.0, 0.0)
    }

    fn seed(&self) -> u64 {
        madsim::rand::random()
    }
}

/// An executor as a process of the simulator has it.
fn executor(config: Config, control: ControlOut, clock: Clock) -> io::Result<Executor> {
    let settings = Settings::of(&config);
    let limits = engine_config(&config, &settings, [0; 2]).limits;
    let codec = Box::new(DumpCodec {
        limits,
        ..DumpCodec::default()
    });
    Executor::new(config, codec, control, Box::new(SimHost), clock.now()).map_err(io::Error::other)
}

async fn serve(
    machine: &Machine,
    executor: Executor,
    inbox: ExecutorInbox,
    clock: Clock,
) -> io::Result<()> {
    let listener = TcpListener::bind((machine.ip, PORT)).await?;
    driver::tokio::run(executor, inbox, listener, clock).await?;
    Ok(())
}

/// A server by itself: no log, no cluster.
#[cfg(test)]
pub async fn standalone(machine: Machine) -> io::Result<()> {
    let config = Config::from_args(&["--port", "7000", "--dir", "/data", "--protected-mode", "no"])
        .map_err(io::Error::other)?;
    let clock = Clock::skewed(machine.skew_ms);
    let (_handle, inbox) = executor_queue(Wake::Channel);
    let executor = executor(config, ControlOut::default(), clock)?;
    serve(&machine, executor, inbox, clock).await
}

/// One process, from start to exit.
pub async fn process(_plan: Plan, record: Recorder, machine: Machine) {
    record.note(
        0,
        format_args!("n{}: the node cannot be started yet", machine.index),
    );
}
