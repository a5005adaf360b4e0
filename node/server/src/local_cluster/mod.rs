//! `holdfast local-cluster`: a whole cluster on one machine, for trying it out and for tests.
//!
//! Every node is a process of its own (this same executable, sub-command `server`) with a folder and a
//! configuration file of its own under `--dir`. The cluster is formed through the public commands that an
//! operator would use, over an ordinary client connection; nothing here knows the inside of a node.
//!
//! This module owns the children's processes and the folder's shape file. What the nodes keep in their
//! folders is theirs.

mod client;
mod form;
mod options;
mod plan;
mod process;
mod view;

use std::ffi::OsString;
use std::io::Write;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use options::{Durability, Options, Request};
use plan::{NodePlan, Shape};
use process::Process;

/// How long a node has to end after it was asked to.
const STOP_PATIENCE: Duration = Duration::from_secs(10);

/// How long a node that ended is left alone before it is started again: long enough that a person (or a
/// test) who kills a node and its disk has done both.
const RESTART_DELAY: Duration = Duration::from_secs(3);

/// How often in a row a node that ends within [`STEADY`] is started again.
const RESTARTS_MAX: u32 = 5;

/// A node that ran this long is no longer counted as failing to start.
const STEADY: Duration = Duration::from_secs(30);

/// How often the children and the signals are looked at.
const WATCH_INTERVAL: Duration = Duration::from_millis(50);

/// Why the command ends before its time.
#[derive(Debug, thiserror::Error)]
enum Failure {
    /// Ctrl-C, or asked to by SIGTERM.
    #[error("interrupted")]
    Interrupted,
    /// For the user.
    #[error("{0}")]
    Said(String),
}

/// Runs the command with the arguments behind `local-cluster` until it is interrupted.
///
/// The exit code is 0 after Ctrl-C, 1 after a failure and 2 for a wrong command line.
/// Must be called on the main thread: the children die with it.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let options = match options::parse(args) {
        Ok(Request::Run(options)) => options,
        Ok(Request::Help) => {
            print!("{}", options::USAGE);
            return ExitCode::SUCCESS;
        }
        Err(reason) => {
            eprintln!("holdfast local-cluster: {reason}\n\n{}", options::USAGE);
            return ExitCode::from(2);
        }
    };
    match LocalCluster::prepare(options).and_then(LocalCluster::run) {
        Ok(()) | Err(Failure::Interrupted) => ExitCode::SUCCESS,
        Err(Failure::Said(reason)) => {
            eprintln!("holdfast local-cluster: {reason}");
            ExitCode::FAILURE
        }
    }
}

/// Tells the user, with the time that has passed.
struct Progress {
    begin: Instant,
    /// With `--json`, standard output belongs to the one line.
    to_stderr: bool,
}

impl Progress {
    fn line(&self, text: &str) {
        // A closed pipe on the reader's side is no reason to stop the cluster.
        let _ = if self.to_stderr {
            writeln!(std::io::stderr(), "{text}")
        } else {
            writeln!(std::io::stdout(), "{text}")
        };
    }

    fn step(&self, text: &str) {
        self.line(&format!(
            "{:7.1} s  {text}",
            self.begin.elapsed().as_secs_f64()
        ));
    }
}

/// A node's place: its plan, its process while it runs, and when to start it again.
struct Place {
    plan: NodePlan,
    process: Option<Process>,
    started: Instant,
    failures: u32,
    restart_at: Option<Instant>,
}

struct LocalCluster {
    shape: Shape,
    dir: PathBuf,
    json: bool,
    restart: bool,
    formed: bool,
    places: Vec<Place>,
    progress: Progress,
    interrupted: Arc<AtomicBool>,
}

impl LocalCluster {
    fn prepare(options: Options) -> Result<LocalCluster, Failure> {
        let dir = options
            .dir
            .clone()
            .unwrap_or_else(|| PathBuf::from("local-cluster"));
        let dir = std::path::absolute(&dir)
            .map_err(|e| Failure::Said(format!("{}: {e}", dir.display())))?;
        let found = plan::read(&dir).map_err(Failure::Said)?;
        if found.is_some_and(|f| !f.formed) {
            return Err(Failure::Said(format!(
                "the cluster in {0} was never ready, so it holds no data: remove the folder (rm -r {0}) and try again",
                dir.display()
            )));
        }
        let shape = plan::settle(found.as_ref(), &options).map_err(Failure::Said)?;
        let interrupted = Arc::new(AtomicBool::new(false));
        for signal in [
            signal_hook::consts::SIGINT,
            signal_hook::consts::SIGTERM,
            signal_hook::consts::SIGHUP,
        ] {
            signal_hook::flag::register(signal, interrupted.clone())
                .map_err(|e| Failure::Said(format!("cannot handle signals: {e}")))?;
        }
        let now = Instant::now();
        let places = shape
            .nodes(&dir)
            .into_iter()
            .map(|plan| Place {
                plan,
                process: None,
                started: now,
                failures: 0,
                restart_at: None,
            })
            .collect();
        let cluster = LocalCluster {
            shape,
            dir,
            json: options.json,
            restart: !options.no_restart,
            formed: found.is_some(),
            places,
            progress: Progress {
                begin: now,
                to_stderr: options.json,
            },
            interrupted,
        };
        cluster.check_ports()?;
        Ok(cluster)
    }

    /// A port that another program holds would show only as a node that cannot start; say so beforehand.
    fn check_ports(&self) -> Result<(), Failure> {
        let offsets = [0, plan::BUS_PORT_OFFSET, plan::RAFT_PORT_OFFSET];
        let ports = self
            .places
            .iter()
            .flat_map(|p| offsets.map(|offset| p.plan.port + offset));
        for port in ports {
            if let Err(error) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
                return Err(Failure::Said(format!(
                    "port {port} cannot be used ({error}); choose another --port, or stop what listens there"
                )));
            }
        }
        Ok(())
    }

    fn run(mut self) -> Result<(), Failure> {
        let result = self.run_until_interrupted();
        let running: Vec<Process> = self
            .places
            .iter_mut()
            .filter_map(|p| p.process.take())
            .collect();
        if !running.is_empty() {
            self.progress.step("stopping all nodes");
            let killed = process::stop_all(running.into_iter(), STOP_PATIENCE);
            self.progress.step(&match killed {
                0 => "all nodes have stopped".to_owned(),
                n => format!(
                    "{n} nodes did not stop in {} s and were killed",
                    STOP_PATIENCE.as_secs()
                ),
            });
        }
        result
    }

    fn run_until_interrupted(&mut self) -> Result<(), Failure> {
        self.introduce();
        std::fs::create_dir_all(&self.dir)
            .map_err(|e| Failure::Said(format!("{}: {e}", self.dir.display())))?;
        if !self.formed {
            self.remember(false)?;
        }
        let (first, last) = (
            self.shape.port,
            u32::from(self.shape.port) + self.shape.node_count() - 1,
        );
        self.progress.step(&format!(
            "starting {} processes on ports {first} to {last}",
            self.places.len()
        ));
        for index in 0..self.places.len() {
            self.start(index)?;
        }
        if self.formed {
            form::come_back(self)?;
        } else {
            form::form(self)?;
            self.remember(true)?;
        }
        self.announce()?;
        loop {
            self.check_interrupted()?;
            self.look_after_nodes()?;
            sleep(WATCH_INTERVAL);
        }
    }

    fn introduce(&self) {
        let Shape {
            shards,
            replicas,
            witnesses,
            durability,
            ..
        } = self.shape;
        let plural =
            |n: u16, one: &str, many: &str| format!("{n} {}", if n == 1 { one } else { many });
        let witnesses = match witnesses {
            0 => String::new(),
            n => format!(" + {}", plural(n, "witness", "witnesses")),
        };
        self.progress.line(&format!(
            "Holdfast: {} x {}{witnesses}, durability {}, in {}",
            plural(shards, "shard", "shards"),
            plural(1 + replicas, "data node", "data nodes"),
            durability.as_str(),
            self.dir.display()
        ));
        if durability == Durability::Quorum && self.shape.voters() < 3 {
            self.progress.line("Note: with fewer than 3 voters a shard, no node may be lost; add replicas or a witness.");
        }
    }

    fn remember(&mut self, formed: bool) -> Result<(), Failure> {
        self.formed = formed;
        plan::write(&self.dir, &self.shape, formed).map_err(|e| {
            Failure::Said(format!(
                "{}: {e}",
                self.dir.join(plan::SHAPE_FILE).display()
            ))
        })
    }

    fn start(&mut self, index: usize) -> Result<(), Failure> {
        let place = &mut self.places[index];
        place.started = Instant::now();
        place.restart_at = None;
        place.process = Some(
            process::start(&self.shape, &place.plan).map_err(|e| Failure::Said(e.to_string()))?,
        );
        Ok(())
    }

    fn check_interrupted(&self) -> Result<(), Failure> {
        match self.interrupted.load(Ordering::Relaxed) {
            true => Err(Failure::Interrupted),
            false => Ok(()),
        }
    }

    /// Before the cluster is ready, a node that ends is a failure.
    fn check_all_running(&mut self) -> Result<(), Failure> {
        self.check_interrupted()?;
        for place in &mut self.places {
            let ended = place.process.as_mut().and_then(|p| p.ended().transpose());
            if let Some(status) = ended {
                let how = status.map_or_else(|e| e.to_string(), process::describe);
                return Err(Failure::Said(format!(
                    "the node on port {} {how}; it said last (all of it is in {}):\n{}",
                    place.plan.port,
                    place.plan.log_file().display(),
                    process::last_words(&place.plan)
                )));
            }
        }
        Ok(())
    }

    /// Starts again what has ended, and says so.
    fn look_after_nodes(&mut self) -> Result<(), Failure> {
        for index in 0..self.places.len() {
            let place = &mut self.places[index];
            let port = place.plan.port;
            let ended = place.process.as_mut().and_then(|p| p.ended().transpose());
            if let Some(status) = ended {
                let how = status.map_or_else(|e| e.to_string(), process::describe);
                place.process = None;
                place.failures = if place.started.elapsed() > STEADY {
                    0
                } else {
                    place.failures + 1
                };
                let next = if !self.restart {
                    format!(
                        "start it again with: holdfast-server {}",
                        place.plan.config_file().display()
                    )
                } else if place.failures > RESTARTS_MAX {
                    format!(
                        "it ended {RESTARTS_MAX} times in a row and is left alone; see {}",
                        place.plan.log_file().display()
                    )
                } else {
                    place.restart_at = Some(Instant::now() + RESTART_DELAY);
                    format!("it is started again in {} s", RESTART_DELAY.as_secs())
                };
                self.progress
                    .step(&format!("the node on port {port} {how}; {next}"));
            } else if place.restart_at.is_some_and(|at| Instant::now() >= at) {
                let blank = !place.plan.config_file().exists();
                self.start(index)?;
                let lost = match self.shape.durability {
                    Durability::Async => "; what it had not saved is gone",
                    Durability::Quorum => "",
                };
                self.progress
                    .step(&format!("the node on port {port} was started again{lost}"));
                if blank {
                    self.explain_replacement(index);
                }
            }
        }
        Ok(())
    }

    /// A node whose folder is gone comes back as a stranger: voting under its old id could undo what was promised.
    fn explain_replacement(&self, index: usize) {
        let port = self.places[index].plan.port;
        let known = self
            .places
            .iter()
            .map(|p| p.plan.port)
            .find(|p| *p != port)
            .unwrap_or(port);
        if self.shape.durability == Durability::Async {
            return self.progress.line(&format!(
                "           its folder was gone, so it is a new and empty node with a new id. To put it in the lost one's place:\n\
                 \x20            valkey-cli -p {port} cluster meet 127.0.0.1 {known}\n\
                 \x20            valkey-cli -p <every other port> cluster forget <id of the lost node>\n\
                 \x20            valkey-cli -p {port} cluster addslotsrange <first and last of the lost node's slots>"
            ));
        }
        self.progress.line(&format!(
            "           its folder was gone, so it is a new and empty node with a new id. To put it in the lost one's place:\n\
             \x20            valkey-cli -p {port} cluster meet 127.0.0.1 {known}\n\
             \x20            valkey-cli -p {port} cluster replicate <id of the shard's primary>\n\
             \x20            valkey-cli -p <every other port> cluster forget <id of the lost node>"
        ));
    }

    fn announce(&mut self) -> Result<(), Failure> {
        let mut members = Vec::new();
        for place in &self.places {
            let pid = place.process.as_ref().map_or(0, Process::pid);
            let member = client::Client::connect(place.plan.port, form::PATIENCE)
                .and_then(|mut client| view::member(&mut client, &place.plan, pid))
                .map_err(|e| Failure::Said(format!("the node on port {}: {e}", place.plan.port)))?;
            members.push(member);
        }
        self.progress.step("ready");
        self.progress.line(&format!("\n{}", view::draw(&members)));
        let port = self.shape.port;
        let again = match self.shape.durability {
            Durability::Quorum => "the same command brings it back with its data",
            Durability::Async => {
                "the same command brings it back, with what was last saved: writes are in memory until then"
            }
        };
        self.progress.line(&format!(
            "  connect  valkey-cli -c -p {port}      any Valkey or Redis cluster client: 127.0.0.1:{port}\n  \
             look     valkey-cli -p {port} cluster nodes      valkey-cli -p {port} info durability\n  \
             stop     Ctrl-C; {again}\n"
        ));
        if self.json {
            let mut out = std::io::stdout().lock();
            let _ = writeln!(out, "{}", view::json(&members)).and_then(|()| out.flush());
        }
        Ok(())
    }

    fn dir(&self) -> &Path {
        &self.dir
    }
}
