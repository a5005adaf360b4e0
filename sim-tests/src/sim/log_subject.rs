//! The first subject: one replicated log, two data nodes and a witness or three data nodes.

use super::log_app::{Ledger, LogApp, Request, Server};
use super::workload::{self, Service};
use super::world::{Machine, World};
use crate::check::model::Op;
use crate::plan::{Fault, Plan};
use crate::record::{Outcome, Recorder};
use crate::rng::Rng;
use holdfast_raft_log::disk::Disk;
use holdfast_raft_log::{
    Group, GroupConfig, NoApp, NodeId, Office, RaftServer, Role, ShardId, StartError,
};
use madsim::time::{sleep, timeout};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};

const PORT: u16 = 7001;
const OBJECTS: u32 = 8;

/// What the outside sees of a node's process.
#[derive(Clone)]
struct Door {
    requests: mpsc::UnboundedSender<Request>,
    group: Option<Group>,
}

/// The processes that run, by index.
#[derive(Clone, Default)]
struct Doors(Arc<Mutex<BTreeMap<usize, Door>>>);

impl Doors {
    fn get(&self, node: usize) -> Option<Door> {
        self.0
            .lock()
            .unwrap_or_else(|e| e.into_inner())
            .get(&node)
            .cloned()
    }

    fn set(&self, node: usize, door: Door) {
        self.0
            .lock()
            .unwrap_or_else(|e| e.into_inner())
            .insert(node, door);
    }

    fn groups(&self) -> Vec<(usize, Group)> {
        let doors = self.0.lock().unwrap_or_else(|e| e.into_inner());
        doors
            .iter()
            .filter_map(|(i, d)| d.group.clone().map(|g| (*i, g)))
            .collect()
    }
}

fn node_id(index: usize) -> NodeId {
    NodeId::from_bytes([index as u8 + 1; 20])
}

fn address(index: usize) -> String {
    format!("10.0.0.{}:{PORT}", index + 1)
}

fn config(plan: &Plan, machine: &Machine) -> GroupConfig {
    let role = if plan.witness && machine.index + 1 == plan.nodes() {
        Role::Witness
    } else {
        Role::Data
    };
    let dir = PathBuf::from("/data/raft");
    let mut c = GroupConfig::new(
        ShardId::from_bytes([9; 20]),
        node_id(machine.index),
        role,
        address(machine.index),
        dir,
    );
    // Small, so that segments close, snapshots are taken and the log is cut many times in a run.
    let mut rng = Rng::new(plan.seed).derive("sizes", 0);
    c.segment_bytes = rng.range(2, 16) * 1024;
    c.log_bytes_max = c.segment_bytes * rng.range(3, 8);
    c.log_bytes_keep = c.log_bytes_max / rng.range(2, 6);
    c.cache_bytes = rng.range(1, 64) * 1024;
    c
}

/// One process, from start to exit.
async fn process(world: World, doors: Doors, ledger: Ledger, machine: Machine) {
    let config = config(&world.plan, &machine);
    let (me, role) = (config.me, config.role);
    let addr = SocketAddr::new(machine.ip, PORT);
    let disk: Arc<dyn Disk> = Arc::new(machine.disk.clone());
    if let Err(e) = disk.create_dir_all(&PathBuf::from("/data")).await {
        world.note(format_args!("n{} {e}", machine.index));
        return;
    }
    let server = match RaftServer::listen(addr).await {
        Ok(server) => server,
        Err(e) => return world.note(format_args!("n{} cannot listen: {e}", machine.index)),
    };
    let started = |result: Result<Group, StartError>| match result {
        Ok(group) => Some(group),
        Err(e) => {
            // The faults of the plan never damage what was synced: these two would be the log's own doing.
            if matches!(e, StartError::Corrupt { .. } | StartError::Identity { .. }) {
                world.record.problem(
                    world.now_us(),
                    format!("n{} cannot start: {e}", machine.index),
                );
            }
            world.note(format_args!("n{} does not start: {e}", machine.index));
            None
        }
    };
    let (requests, incoming) = mpsc::unbounded_channel();
    let join = |group: Group| {
        let index = machine.index;
        let nodes = world.plan.nodes();
        doors.set(
            index,
            Door {
                requests: requests.clone(),
                group: Some(group.clone()),
            },
        );
        madsim::task::spawn(async move {
            if index == 0 {
                if !group.is_initialized() {
                    let _ = group.initialize().await;
                }
                return;
            }
            let others: Vec<String> = (0..nodes).filter(|n| *n != index).map(address).collect();
            while group.join(&others).await.is_err() {
                sleep(Duration::from_millis(200)).await;
            }
        });
    };
    if role == Role::Witness {
        let Some(group) = started(Group::start(config, disk, NoApp, &server).await) else {
            return;
        };
        let mut office = group.office();
        join(group);
        while office.changed().await.is_ok() {}
    } else {
        let (app, events) = LogApp::new(disk.clone());
        let start = async {
            let group = started(Group::start(config, disk, app, &server).await)?;
            join(group.clone());
            Some(group)
        };
        Server::run(
            world.clone(),
            machine.clone(),
            me,
            ledger,
            events,
            start,
            incoming,
        )
        .await;
    }
    server.stop().await;
}

/// Clients reach the processes through queues of their own, with some delay; a process that dies drops its queue.
#[derive(Clone)]
struct Doorbell {
    world: World,
    doors: Doors,
    rng: Arc<Mutex<Rng>>,
    /// Where each client found the leader last.
    last: Arc<Mutex<BTreeMap<usize, usize>>>,
}

impl Doorbell {
    fn draw(&self, lo: u64, hi: u64) -> u64 {
        self.rng
            .lock()
            .unwrap_or_else(|e| e.into_inner())
            .range(lo, hi)
    }
}

impl Service for Doorbell {
    async fn attempt(&self, client: usize, object: u32, op: &Op) -> Outcome {
        let data = self.world.plan.data_nodes;
        let node = *self
            .last
            .lock()
            .unwrap_or_else(|e| e.into_inner())
            .entry(client)
            .or_insert(client % data);
        let elsewhere = || {
            self.last
                .lock()
                .unwrap_or_else(|e| e.into_inner())
                .insert(client, (node + 1) % data);
        };
        sleep(Duration::from_micros(self.draw(1_000, 3_000))).await;
        let Some(door) = self.doors.get(node) else {
            elsewhere();
            return Outcome::Refused;
        };
        let (reply, answer) = oneshot::channel();
        if !self.world.is_up(node)
            || door
                .requests
                .send(Request {
                    object,
                    op: op.clone(),
                    reply,
                })
                .is_err()
        {
            elsewhere();
            return Outcome::Refused;
        }
        let outcome = match timeout(Duration::from_secs(2), answer).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) | Err(_) => Outcome::Unknown,
        };
        if !matches!(outcome, Outcome::Done(_)) {
            elsewhere();
        }
        sleep(Duration::from_micros(self.draw(1_000, 2_000))).await;
        outcome
    }
}

/// At most one node may hold a lease, at any moment. Looked at every simulated millisecond.
async fn watch_leases(world: World, doors: Doors) {
    loop {
        sleep(Duration::from_millis(1)).await;
        let now = Instant::now();
        let up = |(i, g): &(usize, Group)| world.is_up(*i) && g.lease_valid(now);
        let holders: Vec<usize> = doors
            .groups()
            .iter()
            .filter(|g| up(g))
            .map(|(i, _)| *i)
            .collect();
        if holders.len() > 1 {
            world
                .record
                .problem(world.now_us(), format!("{holders:?} hold a lease at once"));
            return;
        }
    }
}

async fn operate(world: &World, doors: &Doors, fault: Fault) {
    let which = match fault {
        Fault::Failover { which } => which,
        Fault::IsolateLeader { us, .. } => {
            let leads = |(index, group): &(usize, Group)| {
                world.is_up(*index) && matches!(group.office().get(), Office::Leader(_))
            };
            if let Some((node, _)) = doors.groups().into_iter().find(leads) {
                world.suffer_later(0, Fault::Isolate { node, us });
            }
            return;
        }
        _ => return,
    };
    for (index, group) in doors.groups() {
        if world.is_up(index) && matches!(group.office().get(), Office::Leader(_)) {
            let to = (index + 1 + which as usize % (world.plan.data_nodes - 1).max(1))
                % world.plan.data_nodes;
            world.note(format_args!("transfer n{index} -> n{to}"));
            let world = world.clone();
            madsim::task::spawn(async move {
                let done = timeout(Duration::from_secs(5), group.transfer_to(node_id(to))).await;
                world.note(format_args!("transfer n{index} -> n{to}: {done:?}"));
            });
            return;
        }
    }
}

/// Runs the whole plan.
pub async fn run(plan: Plan, record: Recorder) {
    let (doors, ledger) = (Doors::default(), Ledger::default());
    let root = Rng::new(plan.seed);
    // The processes need the world and the world makes the processes.
    let cell: Arc<OnceLock<World>> = Arc::default();
    let world = {
        let (cell, doors, ledger) = (cell.clone(), doors.clone(), ledger.clone());
        World::new(plan, record, move |machine| {
            let (cell, doors, ledger) = (cell.clone(), doors.clone(), ledger.clone());
            Box::pin(async move {
                while cell.get().is_none() {
                    sleep(Duration::from_millis(1)).await;
                }
                let Some(world) = cell.get().cloned() else {
                    return;
                };
                process(world, doors, ledger, machine).await;
            })
        })
    };
    let _ = cell.set(world.clone());
    madsim::task::spawn(world.clone().supervise());
    madsim::task::spawn(watch_leases(world.clone(), doors.clone()));
    let service = Doorbell {
        world: world.clone(),
        doors: doors.clone(),
        rng: Arc::new(Mutex::new(root.derive("doorbell", 0))),
        last: Arc::default(),
    };
    let clients: Vec<_> = (0..world.plan.clients)
        .map(|c| {
            let rng = root.derive("client", c as u64);
            madsim::task::spawn(workload::client(
                world.clone(),
                service.clone(),
                c,
                OBJECTS,
                rng,
            ))
        })
        .collect();
    world
        .play(async |fault| operate(&world, &doors, fault).await)
        .await;
    for client in clients {
        let _ = client.await;
    }
    workload::finish(world.clone(), service, OBJECTS, root.derive("finish", 0)).await;
    // Followers level out: every data node ends at the same place, with the same digest.
    let goal = ledger.highest();
    let level = |doors: &Doors| {
        let applied = |g: &Group| g.applied().get().unwrap_or(0) >= goal;
        doors
            .groups()
            .iter()
            .filter(|(i, _)| *i < world.plan.data_nodes && !world.is_lost(*i))
            .all(|(_, g)| applied(g))
    };
    let deadline = world.now_us() + 20_000_000;
    while !level(&doors) {
        if world.now_us() > deadline {
            world.record.problem(
                world.now_us(),
                format!("not every data node came to index {goal} after healing"),
            );
            break;
        }
        sleep(Duration::from_millis(50)).await;
    }
    world.note(format_args!("end applied={goal}"));
}
