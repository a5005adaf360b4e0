//! Forming a cluster in the simulator, with the commands that an operator would type.

use super::cluster_client::{Clients, PORT};
use super::world::World;
use madsim::time::sleep;
use std::net::SocketAddr;
use std::time::Duration;

/// Simulated time that forming may take, in µs.
const FORMING_US: u64 = 60_000_000;

/// Where everybody is, once the cluster stands.
#[derive(Clone, Debug)]
pub struct Layout {
    /// Node ids, by machine.
    pub ids: Vec<String>,
    /// Addresses for clients, by machine.
    pub addrs: Vec<SocketAddr>,
    shards: usize,
    data_nodes: usize,
}

impl Layout {
    /// The machines of a shard's data nodes. Machine n leads shard n at first; replicas follow, shard by shard.
    pub fn data_nodes(&self, shard: usize) -> impl Iterator<Item = usize> + '_ {
        (0..self.data_nodes).map(move |r| r * self.shards + shard)
    }

    /// The shard of a data node.
    pub fn shard_of(&self, machine: usize) -> usize {
        machine % self.shards
    }

    /// The machine with this client address.
    pub fn machine_at(&self, addr: SocketAddr) -> Option<usize> {
        self.addrs.iter().position(|a| *a == addr)
    }
}

/// Forms the cluster; `None` (and a problem in the record) when that does not succeed in time.
pub async fn form(world: &World, clients: &Clients) -> Option<Layout> {
    let plan = &world.plan;
    let addrs: Vec<SocketAddr> = (0..plan.nodes())
        .map(|n| SocketAddr::new(world.machine(n).ip, PORT))
        .collect();
    let mut ids = Vec::new();
    for addr in &addrs {
        ids.push(
            until(world, "CLUSTER MYID", async || {
                clients
                    .tell(*addr, &["CLUSTER", "MYID"])
                    .await
                    .filter(|id| id.len() == 40)
            })
            .await?,
        );
    }
    for (shard, addr) in addrs.iter().enumerate().take(plan.shards) {
        let (first, last) = (
            16384 * shard / plan.shards,
            16384 * (shard + 1) / plan.shards - 1,
        );
        let (first, last, epoch) = (first.to_string(), last.to_string(), (shard + 1).to_string());
        // A shard that has elected its leader already has an epoch, and says so; tools go on then.
        clients
            .tell(*addr, &["CLUSTER", "SET-CONFIG-EPOCH", &epoch])
            .await;
        said(
            world,
            clients,
            *addr,
            &["CLUSTER", "ADDSLOTSRANGE", &first, &last],
        )
        .await?;
    }
    for addr in &addrs[1..] {
        let (ip, port) = (addr.ip().to_string(), addr.port().to_string());
        said(world, clients, addrs[0], &["CLUSTER", "MEET", &ip, &port]).await?;
    }
    for addr in &addrs {
        until(world, "every node to know every other", async || {
            let nodes = clients.tell(*addr, &["CLUSTER", "NODES"]).await?;
            let well = nodes.lines().filter(|l| {
                l.contains("connected") && !l.contains("handshake") && !l.contains("fail")
            });
            (well.count() == addrs.len()).then_some(())
        })
        .await?;
    }
    for (machine, addr) in addrs.iter().enumerate().skip(plan.shards) {
        let witness = plan.witness && machine + 1 == plan.nodes();
        let primaries = if witness {
            0..plan.shards
        } else {
            machine % plan.shards..machine % plan.shards + 1
        };
        for primary in primaries {
            said(
                world,
                clients,
                *addr,
                &["CLUSTER", "REPLICATE", &ids[primary]],
            )
            .await?;
        }
    }
    let voters = format!(
        "durability_voters:{}",
        plan.data_nodes + usize::from(plan.witness)
    );
    for addr in addrs.iter().take(plan.shards) {
        until(world, "every shard to have its voters", async || {
            let info = clients.tell(*addr, &["INFO", "durability"]).await?;
            info.lines().any(|l| l.trim_end() == voters).then_some(())
        })
        .await?;
    }
    for addr in &addrs {
        until(world, "cluster_state:ok", async || {
            let info = clients.tell(*addr, &["CLUSTER", "INFO"]).await?;
            info.contains("cluster_state:ok").then_some(())
        })
        .await?;
    }
    Some(Layout {
        ids,
        addrs,
        shards: plan.shards,
        data_nodes: plan.data_nodes,
    })
}

async fn said(world: &World, clients: &Clients, addr: SocketAddr, words: &[&str]) -> Option<()> {
    let mut last = String::new();
    let what = words.join(" ");
    until(world, &what, async || {
        let reply = clients.tell(addr, words).await?;
        // Nobody else gives slots away here: they are taken by the same command, whose answer was lost.
        if reply == "OK" || reply.ends_with("is already busy") {
            return Some(());
        }
        if reply != last {
            world.note(format_args!("{addr} {what}: {reply}"));
            last.clone_from(&reply);
        }
        None
    })
    .await
}

async fn until<T>(
    world: &World,
    what: &str,
    mut look: impl AsyncFnMut() -> Option<T>,
) -> Option<T> {
    let deadline = world.now_us() + FORMING_US;
    loop {
        if let Some(found) = look().await {
            return Some(found);
        }
        if world.now_us() > deadline {
            world.record.problem(
                world.now_us(),
                format!("the cluster does not form: waited for {what}"),
            );
            return None;
        }
        sleep(Duration::from_millis(100)).await;
    }
}
