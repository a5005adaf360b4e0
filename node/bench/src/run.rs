//! Runs a plan: starts the threads, and gathers what they count.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use crate::Failure;
use crate::cluster::Topology;
use crate::net::{self, Link};
use crate::plan::{Load, Pace, Plan, Until};
use crate::tally::Tally;
use crate::worker::{PUBLISH_NANOS, Shared, Worker};

/// How often whoever watches is told.
const TICK: Duration = Duration::from_nanos(PUBLISH_NANOS);
/// So long after the threads' moment of handing over what they counted is looked for.
const LATER: Duration = Duration::from_millis(40);

/// A look at a run that is under way.
#[derive(Debug)]
pub struct Tick<'a> {
    /// Since the first command was sent.
    pub elapsed: Duration,
    /// Since the last tick.
    pub interval: Duration,
    /// Whether this still is the warm-up.
    pub warming_up: bool,
    /// From 0 to 1, if that can be told.
    pub progress: f64,
    /// Of the interval. Of the warm-up nothing is counted.
    pub tally: &'a Tally,
}

/// What happens while a plan runs.
pub trait Watcher {
    /// What begins, in a few words.
    fn phase(&mut self, _title: &str) {}
    /// The measured time begins.
    fn on_begin(&mut self) {}
    /// Now and then.
    fn on_tick(&mut self, _tick: &Tick) {}
    /// The measured time is over; replies may still be waited for.
    fn on_end(&mut self) {}
    /// Whether the run is to end early.
    fn is_interrupted(&self) -> bool {
        false
    }
}

/// Watches nothing.
#[derive(Debug, Default)]
pub struct Unwatched;

impl Watcher for Unwatched {}

/// Throughput and latency of a piece of time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Point {
    /// When it ended, in seconds since the measuring began.
    pub at: f64,
    /// Replies a second.
    pub rate: f64,
    /// In nanoseconds.
    pub p50: u64,
    /// In nanoseconds.
    pub p99: u64,
    /// In nanoseconds.
    pub p999: u64,
}

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The measured time.
    pub elapsed: Duration,
    /// All that was counted in it.
    pub tally: Tally,
    /// By time.
    pub series: Vec<Point>,
    /// The part of its threads' time that the generator was busy; near 1, it may have been what limited the load.
    pub generator_busy: f64,
}

impl Outcome {
    /// Replies a second.
    pub fn per_second(&self) -> f64 {
        self.tally.done() as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }
}

/// Runs a plan to its end.
///
/// # Errors
/// The plan cannot be carried out, or the server closes a connection or stops answering.
pub fn run(plan: &Plan, watcher: &mut dyn Watcher) -> Result<Outcome, Failure> {
    let plan = &with_sane_threads(plan);
    let load = &plan.load;
    let topology = match plan.cluster {
        true => Some(Topology::ask(&plan.target)?),
        false => None,
    };
    let nodes = topology.as_ref().map_or(1, |t| t.nodes.len());
    net::allow_descriptors((load.clients * nodes + load.idle + 64) as u64)?;
    let ready = plan.ready()?;
    let idle: Vec<Link> = (0..load.idle)
        .map(|_| plan.target.connect())
        .collect::<Result<_, _>>()?;

    let shared = Shared {
        start: OnceLock::new(),
        stop: AtomicBool::new(false),
        tallies: (0..load.threads)
            .map(|_| Mutex::new(Tally::new(ready.templates.len())))
            .collect(),
        failure: Mutex::new(None),
        last_reply: AtomicU64::new(0),
        busy_nanos: AtomicU64::new(0),
    };
    let outcome = thread::scope(|scope| {
        let (connected, all_connected) = mpsc::channel::<()>();
        let mut threads = Vec::new();
        for number in 0..load.threads {
            let (shared, ready, topology) = (&shared, &ready, topology.as_ref());
            let connected = connected.clone();
            let work = move || {
                let worker = Worker::new(plan, ready, shared, topology, number);
                if let Err(failure) = &worker {
                    fail(shared, failure.clone());
                }
                drop(connected);
                if let Err(failure) = worker.and_then(Worker::run) {
                    fail(shared, failure);
                }
            };
            let builder = thread::Builder::new().name(format!("bench-{number}"));
            match builder.spawn_scoped(scope, work) {
                Ok(thread) => threads.push(thread),
                Err(error) => fail(shared, Failure::new(format!("a thread: {error}"))),
            }
        }
        // Nobody sends anything; it ends when the last thread has its connections.
        drop(connected);
        let _ = all_connected.recv();
        let start = *shared.start.get_or_init(Instant::now);
        gather(plan, &shared, start, watcher, || {
            threads.iter().all(thread::ScopedJoinHandle::is_finished)
        })
    });
    drop(idle);
    let failure = shared
        .failure
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner);
    match failure {
        Some(failure) => Err(failure),
        None => Ok(outcome),
    }
}

fn fail(shared: &Shared, failure: Failure) {
    shared.stop.store(true, Ordering::Relaxed);
    shared
        .failure
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .get_or_insert(failure);
}

/// A thread without a client would have nothing to do.
fn with_sane_threads(plan: &Plan) -> Plan {
    let clients = plan.load.clients.max(1);
    let load = Load {
        clients,
        threads: plan.load.threads.clamp(1, clients),
        pipeline: plan.load.pipeline.max(1),
        ..plan.load.clone()
    };
    Plan {
        load,
        ..plan.clone()
    }
}

fn gather(
    plan: &Plan,
    shared: &Shared,
    start: Instant,
    watcher: &mut dyn Watcher,
    finished: impl Fn() -> bool,
) -> Outcome {
    let load = &plan.load;
    let begin = start + load.warm_up;
    let end = match load.until {
        Until::Time(time) => Some(begin + time),
        Until::Requests(_) => None,
    };
    let mut total = Tally::default();
    let mut series: Vec<Point> = Vec::new();
    // The threads hand over what they counted at moments that lie `TICK` from each other and from the beginning. A little
    // later it is here: then all of it is of the time up to that moment.
    let handed_over = |now: Instant| match now.checked_duration_since(begin + LATER) {
        Some(since) => begin + TICK * (since.as_millis() / TICK.as_millis()) as u32,
        None => start,
    };
    let mut covered = start;
    let (mut begun, mut ended) = (false, false);
    loop {
        let now = Instant::now();
        let done = finished();
        if !begun && now >= begin {
            begun = true;
            covered = begin;
            watcher.on_begin();
        }
        if begun && !ended && (done || end.is_some_and(|end| now >= end)) {
            ended = true;
            watcher.on_end();
        }
        let until = match done {
            true => end.map_or(now, |end| end.min(now)).max(covered),
            false => handed_over(now),
        };
        let warming_up = now < begin + LATER;
        let took = until.saturating_duration_since(covered);
        if took > Duration::ZERO || done {
            covered = until;
            let mut interval = Tally::default();
            for tally in &shared.tallies {
                let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
                interval.add(&tally);
                tally.clear();
            }
            let latency = interval.total().latency;
            // The rest of a run that ends between two moments may be too short to tell anything.
            if !warming_up && until > begin && (took >= TICK / 2 || series.is_empty()) {
                series.push(Point {
                    at: (until - begin).as_secs_f64(),
                    rate: interval.done() as f64 / took.as_secs_f64().max(1e-3),
                    p50: latency.percentile(50.0),
                    p99: latency.percentile(99.0),
                    p999: latency.percentile(99.9),
                });
            }
            total.add(&interval);
            let progress = match load.until {
                Until::Time(time) => {
                    (now - start).as_secs_f64() / (load.warm_up + time).as_secs_f64().max(1e-9)
                }
                Until::Requests(all) => total.done() as f64 / all.max(1) as f64,
            };
            watcher.on_tick(&Tick {
                elapsed: now - start,
                interval: took,
                warming_up,
                progress: progress.min(1.0),
                tally: &interval,
            });
        } else if warming_up {
            watcher.on_tick(&Tick {
                elapsed: now - start,
                interval: TICK,
                warming_up,
                progress: 0.0,
                tally: &Tally::default(),
            });
        }
        if done {
            break;
        }
        if watcher.is_interrupted() {
            shared.stop.store(true, Ordering::Relaxed);
        }
        // Not past the moments at which measuring begins and ends.
        let mut next = now + TICK;
        let handing_over = handed_over(now).max(begin) + TICK + LATER;
        for moment in [Some(begin), end, Some(handing_over)].into_iter().flatten() {
            if moment > now {
                next = next.min(moment);
            }
        }
        if shared.stop.load(Ordering::Relaxed) || (begun && end.is_none()) || ended {
            next = next.min(now + Duration::from_millis(2));
        }
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    let last_reply = Duration::from_nanos(shared.last_reply.load(Ordering::Relaxed));
    let elapsed = match load.until {
        Until::Time(time) if !shared.stop.load(Ordering::Relaxed) => time,
        _ => last_reply.saturating_sub(load.warm_up),
    };
    let busy = Duration::from_nanos(shared.busy_nanos.load(Ordering::Relaxed));
    Outcome {
        elapsed,
        tally: total,
        series,
        generator_busy: busy.as_secs_f64()
            / (elapsed.as_secs_f64() * load.threads as f64).max(1e-9),
    }
}

/// Fills what the commands of a plan look for.
///
/// # Errors
/// As [`run`], and if the server refuses a command.
pub fn preload(plan: &Plan, watcher: &mut dyn Watcher) -> Result<u64, Failure> {
    let mut all = 0;
    for (work, count) in plan.work.preparations() {
        all += fill(plan, work, count, watcher)?;
    }
    Ok(all)
}

/// Runs a filling ([`crate::plan::Work::filling`]) against a plan's server.
///
/// # Errors
/// As [`run`], and if the server refuses a command.
pub fn fill(
    plan: &Plan,
    work: crate::plan::Work,
    count: u64,
    watcher: &mut dyn Watcher,
) -> Result<u64, Failure> {
    let big = work.data.max() > 16 * 1024;
    let plan = Plan {
        work,
        load: Load {
            clients: 8,
            threads: 1,
            pipeline: if big { 2 } else { 64 },
            pace: Pace::Closed,
            until: Until::Requests(count),
            warm_up: Duration::ZERO,
            idle: 0,
            reconnect: false,
            seed: plan.load.seed,
        },
        ..plan.clone()
    };
    let outcome = run(&plan, watcher)?;
    match outcome.tally.errors.first() {
        Some((text, _)) => Err(Failure::new(format!("preloading: {text}"))),
        None => Ok(outcome.tally.done()),
    }
}
