//! What must hold when everything has healed and nobody writes any more: the copies of a shard are equal, and
//! every slot has exactly one owner that everybody names.

use super::cluster_client::Clients;
use super::copies;
use super::formation::Layout;
use super::world::World;
use madsim::time::sleep;
use std::time::Duration;

/// How long it may take until it holds, in µs.
const SETTLE_US: u64 = 30_000_000;

/// Waits until all of it holds; a problem in the record if it does not in time.
pub async fn check(world: &World, clients: &Clients, layout: &Layout) {
    let deadline = world.now_us() + SETTLE_US;
    let mut wrong = Vec::new();
    loop {
        let last = world.now_us() > deadline;
        let before = std::mem::take(&mut wrong);
        copies::check(world, clients, layout, last, &mut wrong).await;
        owners(world, clients, layout, &mut wrong).await;
        if wrong.is_empty() {
            world.note(format_args!(
                "copies are equal and every slot has one owner"
            ));
            return;
        }
        if last {
            wrong.into_iter().for_each(|w| {
                world
                    .record
                    .problem(world.now_us(), format!("after healing: {w}"))
            });
            return;
        }
        if wrong != before {
            wrong
                .iter()
                .for_each(|w| world.note(format_args!("not yet: {w}")));
        }
        sleep(Duration::from_millis(500)).await;
    }
}

async fn owners(world: &World, clients: &Clients, layout: &Layout, wrong: &mut Vec<String>) {
    let data = world.plan.shards * world.plan.data_nodes;
    let mut owner: Vec<Option<usize>> = vec![None; 16384];
    for machine in (0..data).filter(|n| !world.is_lost(*n)) {
        let Some(nodes) = clients
            .tell(layout.addrs[machine], &["CLUSTER", "NODES"])
            .await
        else {
            wrong.push(format!("n{machine} does not answer"));
            continue;
        };
        // What every node says of itself.
        for line in nodes.lines().filter(|l| l.contains("myself")) {
            for slot in slots(line) {
                let known = &mut owner[usize::from(slot)];
                if let Some(other) = known {
                    wrong.push(format!("slot {slot} is owned by n{other} and n{machine}"));
                    return;
                }
                *known = Some(machine);
            }
        }
    }
    let lost = owner.iter().filter(|o| o.is_none()).count();
    if lost > 0 {
        let first = owner.iter().position(Option::is_none).unwrap_or(0);
        wrong.push(format!("{lost} slots have no owner, the first is {first}"));
    }
}

/// The slots of a line of `CLUSTER NODES`.
fn slots(line: &str) -> Vec<u16> {
    let mut out = Vec::new();
    for word in line
        .split_whitespace()
        .skip(8)
        .filter(|w| !w.starts_with('['))
    {
        let (first, last) = word.split_once('-').unwrap_or((word, word));
        if let (Ok(first), Ok(last)) = (first.parse::<u16>(), last.parse::<u16>()) {
            out.extend((first..=last).filter(|s| *s < 16384));
        }
    }
    out
}
