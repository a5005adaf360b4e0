//! The second subject: the whole server, several shards of it with their witness.

use super::afterwards;
use super::boot;
use super::cluster_client::Clients;
use super::watch::Watch;
use super::workload;
use super::world::World;
use super::{expiries, formation, operator};
use crate::plan::Plan;
use crate::record::Recorder;
use crate::rng::Rng;
use madsim::runtime::Handle;
use madsim::task::spawn;
use madsim::time::sleep;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Objects, each in a slot of its own.
const OBJECTS: u32 = 12;

/// Runs the whole plan.
pub async fn run(plan: Plan, record: Recorder) {
    let root = Rng::new(plan.seed);
    let booting = plan.clone();
    let log = record.clone();
    let since = Instant::now();
    let watch = Watch::new(record.clone(), since);
    let watching = watch.clone();
    let world = World::new(plan, record, move |machine| {
        let (plan, log, watch) = (booting.clone(), log.clone(), watching.clone());
        Box::pin(boot::process(plan, log, machine, since, watch))
    });
    spawn(world.clone().supervise());
    let over = Arc::new(AtomicBool::new(false));
    // Clients live on a machine of their own, which no fault of the plan touches.
    let (outer, told) = (world.clone(), over.clone());
    Handle::current()
        .create_node()
        .name("clients")
        .ip(IpAddr::V4(Ipv4Addr::new(10, 0, 1, 1)))
        .init(move || {
            let (world, root, told) = (outer.clone(), root.clone(), told.clone());
            async move {
                play(world, root).await;
                told.store(true, Ordering::Relaxed);
            }
        })
        .build();
    while !over.load(Ordering::Relaxed) {
        sleep(Duration::from_millis(20)).await;
    }
    let compared = watch.compared();
    world.note(format_args!("end, copies compared {compared} times"));
}

async fn play(world: World, root: Rng) {
    let clients = Clients::new(world.clone(), root.derive("clients", 0));
    let Some(layout) = formation::form(&world, &clients).await else {
        return;
    };
    world.begin();
    let mut running = Vec::new();
    for c in 0..world.plan.clients {
        let rng = root.derive("client", c as u64);
        running.push(spawn(workload::client(
            world.clone(),
            clients.clone(),
            c,
            OBJECTS,
            rng,
        )));
    }
    running.push(spawn(expiries::client(
        world.clone(),
        clients.clone(),
        root.derive("expiries", 0),
    )));
    world
        .play(async |fault| operator::operate(&world, &clients, &layout, OBJECTS, fault).await)
        .await;
    for task in running {
        let _ = task.await;
    }
    workload::finish(
        world.clone(),
        clients.clone(),
        OBJECTS,
        root.derive("finish", 0),
    )
    .await;
    afterwards::check(&world, &clients, &layout).await;
}
