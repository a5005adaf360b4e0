//! Two data nodes and a witness in the simulator: the data node that stayed away comes back when the
//! other one is gone, and the witness alone knows what was committed meanwhile.
//!
//! `RUSTFLAGS="--cfg madsim" cargo test -p holdfast-raft-log --test witness --target-dir target-sim`;
//! `SEED=n` chooses the run.
#![cfg(madsim)]

mod common;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::*;
use holdfast_raft_log::disk::{Crash, MemDisk};
use holdfast_raft_log::{Group, RaftServer, Role};
use madsim::net::NetSim;
use madsim::runtime::{Handle, NodeHandle, Runtime};

type Slot = Arc<Mutex<Option<Arc<Node>>>>;

struct Machine {
    n: u8,
    role: Role,
    disk: MemDisk,
    handle: NodeHandle,
    slot: Slot,
}

const LONG: Duration = Duration::from_secs(30);

fn addr(n: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, n + 1], 7000))
}

impl Machine {
    fn new(n: u8, role: Role) -> Machine {
        let handle = Handle::current().create_node().ip(addr(n).ip()).build();
        Machine {
            n,
            role,
            disk: MemDisk::new(),
            handle,
            slot: Slot::default(),
        }
    }

    /// Starts it, after a power cut if it ran before.
    async fn start(&self) -> Arc<Node> {
        self.disk.crash(Crash::LoseUnsynced);
        let (n, role, disk, slot) = (self.n, self.role, self.disk.clone(), self.slot.clone());
        *slot.lock().unwrap() = None;
        self.now().spawn(async move {
            let server = RaftServer::listen(addr(n)).await.unwrap();
            let list: Arc<Mutex<List>> = Arc::default();
            let app = ListApp {
                list: list.clone(),
                disk: Arc::new(disk.clone()),
            };
            let config = config(n, role, addr(n).to_string());
            let group = Group::start(config, Arc::new(disk), app, &server)
                .await
                .unwrap();
            *slot.lock().unwrap() = Some(Arc::new(Node {
                group,
                server,
                list,
            }));
            std::future::pending::<()>().await;
        });
        until("started", LONG, || self.slot.lock().unwrap().is_some()).await;
        self.slot.lock().unwrap().clone().unwrap()
    }

    /// The machine's present life: a restart makes a new one.
    fn now(&self) -> NodeHandle {
        Handle::current().get_node(self.handle.id()).unwrap()
    }

    /// Runs on the machine itself.
    async fn on<T: Send + 'static>(&self, task: impl Future<Output = T> + Send + 'static) -> T {
        self.now().spawn(task).await.unwrap()
    }
}

fn seed() -> u64 {
    std::env::var("SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or(1)
}

#[test]
fn the_witness_brings_the_lagging_data_node_level() {
    let runtime = Runtime::with_seed_and_config(seed(), madsim::Config::default());
    runtime.block_on(async {
        let machines = [
            Machine::new(0, Role::Data),
            Machine::new(1, Role::Data),
            Machine::new(2, Role::Witness),
        ];
        let a = machines[0].start().await;
        let group = a.group.clone();
        machines[0]
            .on(async move { group.initialize().await.unwrap() })
            .await;
        until("a leads", LONG, || a.office().is_some()).await;
        let b = machines[1].start().await;
        let w = machines[2].start().await;
        for (machine, node) in [(&machines[1], &b), (&machines[2], &w)] {
            let group = node.group.clone();
            machine
                .on(async move { group.join(&[addr(0).to_string()]).await.unwrap() })
                .await;
        }
        let writer = a.clone();
        let write = |from: u32| {
            let a = writer.clone();
            async move {
                for i in from..from + 10 {
                    assert!(a.write(&format!("x{i}")).await);
                }
            }
        };
        machines[0].on(write(0)).await;
        until("b follows", LONG, || b.items().len() == 10).await;

        // b is cut off; a and the witness go on.
        let net = NetSim::current();
        net.clog_node(machines[1].handle.id());
        machines[0].on(write(10)).await;
        assert_eq!(b.items().len(), 10);

        // a is gone for good, b is back: only the witness has the rest.
        Handle::current().kill(machines[0].handle.id());
        net.unclog_node(machines[1].handle.id());
        let since = Instant::now();
        until("b leads", LONG, || b.office().is_some()).await;
        println!(
            "seed {}: b leads {:?} after it came back",
            seed(),
            since.elapsed()
        );
        let expect: Vec<String> = (0..20).map(|i| format!("x{i}")).collect();
        assert_eq!(b.items(), expect, "everything that was acknowledged");
        assert!(w.office().is_none() && w.items().is_empty());
        let node = b.clone();
        assert!(machines[1].on(async move { node.write("y").await }).await);

        // The witness restarts, with its log; a comes back, and follows.
        Handle::current().kill(machines[2].handle.id());
        Handle::current().restart(machines[2].handle.id());
        let _w = machines[2].start().await;
        let node = b.clone();
        assert!(machines[1].on(async move { node.write("z").await }).await);
        Handle::current().restart(machines[0].handle.id());
        let a = machines[0].start().await;
        until("a follows", LONG, || a.items().len() == 22).await;
        assert_eq!(a.items(), b.items());
    });
}
