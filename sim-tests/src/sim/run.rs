//! One seed, in this process.

use super::{log_subject, node_subject};
use crate::plan::{Plan, Subject};
use crate::record::Recorder;
use std::time::{Duration, Instant};

/// What came of a run.
pub struct Report {
    /// The record.
    pub record: Recorder,
    /// What is wrong; empty for a good run.
    pub problems: Vec<String>,
    /// Objects for which the search was given up (the oracles judged them still).
    pub given_up: usize,
    /// Simulated time.
    pub simulated: Duration,
    /// Time of this machine.
    pub wall: Duration,
}

/// Simulated time after which a run is taken to hang.
const LIMIT: Duration = Duration::from_secs(180);

/// Runs one seed. A process may do this once: a second run in it would differ from the first in a fresh one.
pub fn run(plan: Plan) -> Report {
    let wall = Instant::now();
    let record = Recorder::new();
    let (recorder, seed) = (record.clone(), plan.seed);
    // A thread of its own: what a thread draws once, such as a hash map's keys, is then drawn inside the simulation.
    let run = std::thread::Builder::new()
        .stack_size(16 << 20)
        .spawn(move || {
            let mut runtime =
                madsim::runtime::Runtime::with_seed_and_config(seed, madsim::Config::default());
            runtime.set_time_limit(LIMIT);
            runtime.block_on(async move {
                let start = Instant::now();
                match plan.subject {
                    Subject::Log => log_subject::run(plan, recorder).await,
                    Subject::Node => node_subject::run(plan, recorder).await,
                }
                start.elapsed()
            })
        });
    let simulated = match run.map(std::thread::JoinHandle::join) {
        Ok(Ok(simulated)) => simulated,
        Ok(Err(panic)) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_string()));
            record.problem(u64::MAX, format!("panic: {}", text.unwrap_or_default()));
            LIMIT
        }
        Err(e) => {
            record.problem(0, format!("no thread: {e}"));
            Duration::ZERO
        }
    };
    let (problems, given_up) = record.judge();
    Report {
        record,
        problems,
        given_up,
        simulated,
        wall: wall.elapsed(),
    }
}
