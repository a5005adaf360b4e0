//! What runs on a machine of the node subject: the server itself.

use super::cluster_client::PORT;
use super::watch::Watch;
use super::world::Machine;
use crate::plan::Plan;
use crate::record::Recorder;
use crate::rng::Rng;
use holdfast_engine::Engine;
use holdfast_raft_log::disk::Disk;
use holdfast_rdb::DumpCodec;
use holdfast_server::config::{Config, Settings};
use holdfast_server::control;
use holdfast_server::driver::{self, Clock};
use holdfast_server::executor::{Executor, Host, engine_config};
use holdfast_server::seam::{ControlOut, ExecutorInbox, Wake, control_queue, executor_queue};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
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

fn arguments(plan: &Plan, machine: &Machine) -> Vec<String> {
    let witness = plan.witness && machine.index + 1 == plan.nodes();
    let ip = machine.ip.to_string();
    let mut rng = Rng::new(plan.seed).derive("sizes", 1);
    let segment_bytes = rng.range(4, 32) * 1024;
    let log_bytes = segment_bytes * rng.range(4, 10);
    [
        ("port", "7000"),
        ("bind", ip.as_str()),
        ("dir", "/data"),
        ("protected-mode", "no"),
        ("cluster-enabled", "yes"),
        ("cluster-node-timeout", "2000"),
        ("durability", "quorum"),
        ("durability-timeout", "2000"),
        ("enable-debug-command", "yes"),
        ("witness", if witness { "yes" } else { "no" }),
        // Small, so that snapshots are taken and the log is cut many times in a run.
        ("raft-segment-bytes", &segment_bytes.to_string()),
        ("raft-log-max-bytes", &log_bytes.to_string()),
    ]
    .iter()
    .flat_map(|(name, value)| [format!("--{name}"), (*value).to_string()])
    .collect()
}

/// One process, from start to exit; `since` is when the run began.
pub async fn process(plan: Plan, record: Recorder, machine: Machine, since: Instant, watch: Watch) {
    let name = format!("n{}", machine.index);
    if let Err(error) = run(&plan, &machine, watch).await {
        let text = error.to_string();
        let now_us = since.elapsed().as_micros() as u64;
        // The plan's faults never damage what was synced: such words would be the program's own doing.
        if ["corrupt", "log entry", "contradict", "is gone"]
            .iter()
            .any(|w| text.contains(w))
        {
            record.problem(now_us, format!("{name} stops: {text}"));
        }
        record.note_of(now_us, &name, format_args!("stops: {text}"));
    }
}

async fn run(plan: &Plan, machine: &Machine, watch: Watch) -> io::Result<()> {
    let config = Config::from_args(&arguments(plan, machine)).map_err(io::Error::other)?;
    let clock = Clock::skewed(machine.skew_ms);
    let disk: Arc<dyn Disk> = Arc::new(machine.disk.clone());
    disk.create_dir_all(Path::new("/data")).await?;
    let (handle, inbox) = executor_queue(Wake::Channel);
    let (out, control_inbox) = control_queue();
    let executor = executor(config.clone(), out, clock)?;
    let settings = Settings::of(&config);
    let engine = engine_config(&config, &settings, [0; 2]);
    let limits = engine.limits;
    let watching = watch.over(machine.index, handle.clone());
    let parts = control::Parts {
        config,
        executor: handle,
        inbox: control_inbox,
        disk,
        make_engine: Arc::new(move || {
            Engine::new(
                engine.clone(),
                Box::new(DumpCodec {
                    limits,
                    ..DumpCodec::default()
                }),
            )
        }),
        now_ms: Arc::new(move || clock.now().unix_ms()),
        tls: Default::default(),
    };
    tokio::select! {
        biased;
        ended = control::run(parts) => ended.map_err(|e| io::Error::other(e.to_string())),
        served = serve(machine, executor, inbox, clock) => served,
        () = watching => Err(io::Error::other("the executor has ended")),
    }
}
