//! The machines of a simulated cluster, and what a plan's faults do to them.

use crate::disk::{Faults, SimDisk};
use crate::plan::{Fault, Plan};
use crate::record::Recorder;
use crate::rng::Rng;
use madsim::net::NetSim;
use madsim::runtime::{Handle, NodeHandle};
use madsim::time::sleep;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::pin::Pin;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// What one machine lends to the process on it.
#[derive(Clone)]
pub struct Machine {
    /// Its index in the plan.
    pub index: usize,
    /// Its address.
    pub ip: IpAddr,
    /// Its disk.
    pub disk: SimDisk,
    /// How far its wall clock is off, in ms.
    pub skew_ms: &'static AtomicI64,
}

/// A process: runs until it exits or is ended.
pub type Process = Pin<Box<dyn Future<Output = ()>>>;

struct Node {
    machine: Machine,
    handle: NodeHandle,
    /// What holds it down at the moment.
    down: u32,
    paused: bool,
    /// It never comes back.
    lost: bool,
}

/// The cluster as the simulator sees it; clones are the same one.
#[derive(Clone)]
pub struct World {
    /// The plan.
    pub plan: Arc<Plan>,
    /// The record.
    pub record: Recorder,
    start: Instant,
    /// When the chaos began, in µs.
    begun_us: Arc<AtomicU64>,
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    nodes: Vec<Node>,
    /// How many faults cut a link at the moment.
    cuts: BTreeMap<(usize, usize), u32>,
}

const LATENCY: (u64, u64) = (100, 1_500);

impl World {
    /// Makes the machines of `plan`; `process` makes what runs on one, at every start of it.
    pub fn new(
        plan: Plan,
        record: Recorder,
        process: impl Fn(Machine) -> Process + Clone + Send + Sync + 'static,
    ) -> World {
        let root = Rng::new(plan.seed);
        let mut nodes = Vec::new();
        for index in 0..plan.nodes() {
            let ip = IpAddr::V4(Ipv4Addr::new(10, 0, 0, index as u8 + 1));
            let disk = SimDisk::new(root.derive("disk", index as u64));
            disk.core().set_faults(Faults {
                sync_us: plan.sync_us,
                ..Faults::default()
            });
            // A process of the simulator runs one seed, so what it leaks is bounded.
            let skew_ms: &'static AtomicI64 = Box::leak(Box::new(AtomicI64::new(
                plan.skew_ms.get(index).copied().unwrap_or(0),
            )));
            let machine = Machine {
                index,
                ip,
                disk,
                skew_ms,
            };
            let (process, on) = (process.clone(), machine.clone());
            let handle = Handle::current()
                .create_node()
                .name(format!("n{index}"))
                .ip(ip)
                .init(move || process(on.clone()))
                .build();
            nodes.push(Node {
                machine,
                handle,
                down: 0,
                paused: false,
                lost: false,
            });
        }
        let inner = Inner {
            nodes,
            cuts: BTreeMap::new(),
        };
        let world = World {
            plan: Arc::new(plan),
            record,
            start: Instant::now(),
            begun_us: Arc::default(),
            inner: Arc::new(Mutex::new(inner)),
        };
        world.network(0.0, LATENCY.1);
        world
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Microseconds since the run began.
    pub fn now_us(&self) -> u64 {
        self.start.elapsed().as_micros() as u64
    }

    /// The cluster stands: the plan's times count from now.
    pub fn begin(&self) {
        self.begun_us.store(self.now_us(), Ordering::Relaxed);
        self.note(format_args!("begin"));
    }

    /// Microseconds since [`World::begin`].
    pub fn plan_us(&self) -> u64 {
        self.now_us()
            .saturating_sub(self.begun_us.load(Ordering::Relaxed))
    }

    /// Whether faults and workload are over.
    pub fn chaos_over(&self) -> bool {
        self.plan_us() >= self.plan.chaos_us
    }

    /// A line in the history.
    pub fn note(&self, what: std::fmt::Arguments<'_>) {
        self.record.note(self.now_us(), what);
    }

    /// A line of one client that is no checked operation.
    pub fn note_of(&self, client: usize, what: std::fmt::Arguments<'_>) {
        self.record
            .note_of(self.now_us(), &format!("c{client}"), what);
    }

    /// A machine.
    pub fn machine(&self, index: usize) -> Machine {
        self.lock().nodes[index].machine.clone()
    }

    /// Whether the machine has its process running (paused counts).
    pub fn is_up(&self, index: usize) -> bool {
        self.lock().nodes[index].down == 0
    }

    /// Whether the machine is gone for good.
    pub fn is_lost(&self, index: usize) -> bool {
        self.lock().nodes[index].lost
    }

    fn network(&self, loss: f64, latency_us: u64) {
        NetSim::current().update_config(|c| {
            c.packet_loss_rate = loss;
            c.send_latency = Duration::from_micros(LATENCY.0)..Duration::from_micros(latency_us);
        });
    }

    fn cut(&self, from: usize, to: usize, on: bool) {
        let mut inner = self.lock();
        let (a, b) = (inner.nodes[from].handle.id(), inner.nodes[to].handle.id());
        let n = inner.cuts.entry((from, to)).or_insert(0);
        let was = *n;
        *n = if on { was + 1 } else { was.saturating_sub(1) };
        match (was, *n) {
            (0, 1) => NetSim::current().clog_link(a, b),
            (1, 0) => NetSim::current().unclog_link(a, b),
            _ => {}
        }
    }

    /// Ends the process and keeps it down; false when it is down already.
    fn stop(&self, node: usize, power: bool) -> bool {
        let (id, disk) = {
            let mut inner = self.lock();
            let n = &mut inner.nodes[node];
            if n.down > 0 {
                return false;
            }
            n.down = 1;
            n.paused = false;
            (n.handle.id(), n.machine.disk.clone())
        };
        Handle::current().kill(id);
        if power {
            let r = disk.crash();
            self.note(format_args!(
                "crashed n{node} kept={} lost={} torn={} names={}",
                r.kept, r.lost, r.torn, r.names_undone
            ));
        } else {
            disk.core().kill();
            self.note(format_args!("killed n{node}"));
        }
        true
    }

    /// Starts the process again.
    fn start(&self, node: usize) {
        let id = {
            let mut inner = self.lock();
            let n = &mut inner.nodes[node];
            if n.lost {
                return;
            }
            n.down = 0;
            n.handle.id()
        };
        self.note(format_args!("started n{node}"));
        Handle::current().restart(id);
    }

    /// Starts processes that ended by themselves (a failed disk ends one) again after a while, as an init
    /// system does. Never returns.
    pub async fn supervise(self) {
        loop {
            sleep(Duration::from_millis(250)).await;
            let exited: Vec<usize> = {
                let inner = self.lock();
                let up = |(_, n): &(usize, &Node)| {
                    n.down == 0 && Handle::current().is_exit(n.handle.id())
                };
                inner
                    .nodes
                    .iter()
                    .enumerate()
                    .filter(up)
                    .map(|(i, _)| i)
                    .collect()
            };
            for node in exited {
                self.note(format_args!("n{node} exited"));
                if self.stop(node, false) {
                    let world = self.clone();
                    madsim::task::spawn(async move {
                        sleep(Duration::from_millis(400)).await;
                        world.start(node);
                    });
                }
            }
        }
    }

    /// Does to the machines what the fault says, and undoes it when its time is over. Faults of the
    /// subject's own (failovers, migrations) are not the world's; for those it returns false.
    pub async fn suffer(&self, fault: Fault) -> bool {
        match fault {
            Fault::Crash { node, down_us } => {
                if self.stop(node, true) {
                    sleep(Duration::from_micros(down_us)).await;
                    self.start(node);
                }
            }
            Fault::Kill { node, down_us } => {
                if self.stop(node, false) {
                    sleep(Duration::from_micros(down_us)).await;
                    self.start(node);
                }
            }
            Fault::Lose { node } => {
                {
                    let mut inner = self.lock();
                    if inner.nodes.iter().any(|n| n.lost) {
                        return true;
                    }
                    inner.nodes[node].lost = true;
                }
                self.stop(node, true);
            }
            Fault::CrashAtDisk {
                node,
                changes,
                down_us,
            } => {
                let disk = self.machine(node).disk;
                disk.core().crash_after(changes);
                // A node that writes nothing for so long is left alone.
                if madsim::time::timeout(Duration::from_secs(3), disk.died())
                    .await
                    .is_err()
                {
                    disk.core().disarm();
                } else if self.stop(node, true) {
                    sleep(Duration::from_micros(down_us)).await;
                    self.start(node);
                }
            }
            Fault::Pause { node, us } => {
                let id = {
                    let mut inner = self.lock();
                    let n = &mut inner.nodes[node];
                    if n.down > 0 || n.paused {
                        return true;
                    }
                    n.paused = true;
                    n.handle.id()
                };
                Handle::current().pause(id);
                sleep(Duration::from_micros(us)).await;
                self.resume(node);
            }
            Fault::Isolate { node, us } => self.cut_off(&[node], us).await,
            Fault::Partition { side, us } => self.cut_off(&side, us).await,
            Fault::OneWay { from, to, us } => {
                self.cut(from, to, true);
                sleep(Duration::from_micros(us)).await;
                self.cut(from, to, false);
            }
            Fault::BadNetwork {
                loss,
                latency_us,
                us,
            } => {
                self.network(loss, latency_us.max(LATENCY.1));
                sleep(Duration::from_micros(us)).await;
                self.network(0.0, LATENCY.1);
            }
            Fault::Disk {
                node,
                mut faults,
                us,
            } => {
                let disk = self.machine(node).disk;
                // "This much is left", rather than an absolute size.
                faults.capacity_bytes = faults
                    .capacity_bytes
                    .map(|left| disk.core().used_bytes() + left);
                disk.core().set_faults(faults);
                sleep(Duration::from_micros(us)).await;
                disk.core().set_faults(Faults {
                    sync_us: self.plan.sync_us,
                    ..Faults::default()
                });
            }
            Fault::ClockJump { node, ms } => {
                self.machine(node).skew_ms.fetch_add(ms, Ordering::Relaxed);
            }
            Fault::Failover { .. }
            | Fault::IsolateLeader { .. }
            | Fault::Migrate { .. }
            | Fault::CancelMigrations => {
                return false;
            }
        }
        true
    }

    /// Does it, some time from now, while other things go on.
    pub fn suffer_later(&self, after_us: u64, fault: Fault) {
        let world = self.clone();
        madsim::task::spawn(async move {
            sleep(Duration::from_micros(after_us)).await;
            world.note(format_args!("fault {fault}"));
            world.suffer(fault).await;
        });
    }

    fn resume(&self, node: usize) {
        let id = {
            let mut inner = self.lock();
            let n = &mut inner.nodes[node];
            if !n.paused {
                return;
            }
            n.paused = false;
            n.handle.id()
        };
        self.note(format_args!("resumed n{node}"));
        Handle::current().resume(id);
    }

    async fn cut_off(&self, side: &[usize], us: u64) {
        let n = self.plan.nodes();
        let links: Vec<(usize, usize)> = (0..n)
            .flat_map(|a| (0..n).map(move |b| (a, b)))
            .filter(|(a, b)| a != b && side.contains(a) != side.contains(b))
            .collect();
        links.iter().for_each(|(a, b)| self.cut(*a, *b, true));
        sleep(Duration::from_micros(us)).await;
        links.iter().for_each(|(a, b)| self.cut(*a, *b, false));
    }

    /// Plays the plan's faults; the subject's own go to `operator`. Returns when all are over.
    pub async fn play(&self, operator: impl AsyncFn(Fault)) {
        let mut running = Vec::new();
        for (at_us, fault) in self.plan.faults.clone() {
            let wait = at_us.saturating_sub(self.plan_us());
            if wait > 0 {
                sleep(Duration::from_micros(wait)).await;
            }
            self.note(format_args!("fault {fault}"));
            if matches!(
                fault,
                Fault::Failover { .. }
                    | Fault::IsolateLeader { .. }
                    | Fault::Migrate { .. }
                    | Fault::CancelMigrations
            ) {
                operator(fault).await;
            } else {
                let world = self.clone();
                running.push(madsim::task::spawn(async move {
                    world.suffer(fault).await;
                }));
            }
        }
        for fault in running {
            let _ = fault.await;
        }
        let left = self.plan.chaos_us.saturating_sub(self.plan_us());
        sleep(Duration::from_micros(left.max(1000))).await;
        self.note(format_args!("healed"));
    }
}
