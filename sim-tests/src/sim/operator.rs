//! What an operator does while everything fails: failovers, moving slots, cancelling that.

use super::cluster_client::{Clients, key};
use super::formation::Layout;
use super::world::World;
use crate::plan::Fault;
use holdfast_engine::key_slot;

/// Does one thing of the plan. Whether it succeeds is nobody's promise; what it must not do is lose anything.
pub async fn operate(
    world: &World,
    clients: &Clients,
    layout: &Layout,
    objects: u32,
    fault: Fault,
) {
    match fault {
        Fault::Failover { which } => failover(world, clients, layout, which).await,
        Fault::IsolateLeader { which, us } => {
            let object = (which % u64::from(objects)) as u32;
            let owner = clients.owner_of(object).await;
            if let Some(node) = owner.and_then(|addr| layout.machine_at(addr)) {
                world.suffer_later(0, Fault::Isolate { node, us });
            }
        }
        Fault::Migrate { which } => migrate(world, clients, layout, objects, which).await,
        Fault::CancelMigrations => {
            for shard in 0..world.plan.shards {
                for machine in layout.data_nodes(shard) {
                    let said = clients
                        .tell(layout.addrs[machine], &["CLUSTER", "CANCELSLOTMIGRATIONS"])
                        .await;
                    world.note(format_args!("cancel at n{machine}: {said:?}"));
                }
            }
        }
        _ => {}
    }
}

async fn failover(world: &World, clients: &Clients, layout: &Layout, which: u64) {
    let shard = which as usize % world.plan.shards;
    for machine in layout.data_nodes(shard) {
        // The primary refuses, the replica does it.
        let said = clients
            .tell(layout.addrs[machine], &["CLUSTER", "FAILOVER"])
            .await;
        world.note(format_args!("failover at n{machine}: {said:?}"));
        if said.as_deref() == Some("OK") {
            return;
        }
    }
}

/// Moves a few slots, among them that of one object, from its shard to another one's primary.
async fn migrate(world: &World, clients: &Clients, layout: &Layout, objects: u32, which: u64) {
    let object = (which % u64::from(objects)) as u32;
    let Some(source) = clients.owner_of(object).await else {
        return;
    };
    let Some(nodes) = clients.tell(source, &["CLUSTER", "NODES"]).await else {
        return;
    };
    let Some(shard) = layout.machine_at(source).map(|m| layout.shard_of(m)) else {
        return;
    };
    let targets: Vec<&str> = nodes
        .lines()
        .filter_map(|line| {
            let mut words = line.split(' ');
            let id = words.next()?;
            let flags = words.nth(1)?;
            let machine = layout.ids.iter().position(|i| i == id)?;
            let data = machine < world.plan.shards * world.plan.data_nodes;
            let primary = flags.split(',').any(|f| f == "master");
            (data && primary && layout.shard_of(machine) != shard).then_some(id)
        })
        .collect();
    let Some(target) = targets.get((which >> 8) as usize % targets.len().max(1)) else {
        return;
    };
    let slot = key_slot(key(object, 0).as_bytes());
    let width = (which >> 16) as u16 % 3;
    let last = slot.saturating_add(width).min(16383);
    let (first, last) = (slot.to_string(), last.to_string());
    let said = clients
        .tell(
            source,
            &[
                "CLUSTER",
                "MIGRATESLOTS",
                "SLOTSRANGE",
                &first,
                &last,
                "NODE",
                target,
            ],
        )
        .await;
    if said.as_deref() == Some("OK") {
        let ends = [
            layout.machine_at(source),
            layout.ids.iter().position(|id| id == target),
        ];
        strike(world, layout, ends, which >> 20);
    }
    world.note(format_args!(
        "migrate o{object} slots {first}-{last} to {}: {said:?}",
        &target[..8]
    ));
}

/// In half of the cases something fails that a migration which has just begun depends on, sooner or later within the time
/// that it takes: one of its ends, or the source loses its own shard while it still reaches the target's.
fn strike(world: &World, layout: &Layout, ends: [Option<usize>; 2], mut drawn: u64) {
    let mut draw = |n: u64| {
        let value = drawn % n;
        drawn /= n;
        value
    };
    let (struck, end, how) = (draw(2) == 0, draw(2), draw(5));
    let us = 1_000_000 + draw(8) * 400_000;
    let after_us = draw(25) * (1 << draw(4)) * 500;
    let [Some(source), Some(target)] = ends else {
        return;
    };
    if !struck {
        return;
    }
    let node = [source, target][end as usize];
    let fault = match how {
        0 => Fault::Crash { node, down_us: us },
        1 => Fault::Pause { node, us },
        2 => Fault::Isolate { node, us },
        _ => {
            let mut side: Vec<usize> = layout.data_nodes(layout.shard_of(target)).collect();
            side.push(source);
            Fault::Partition { side, us }
        }
    };
    world.suffer_later(after_us, fault);
}
