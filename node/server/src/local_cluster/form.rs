//! Forming the cluster, and waiting until it is well: only public commands, as an operator would type them.

use std::thread::sleep;
use std::time::{Duration, Instant};

use super::client::{Client, ClientError};
use super::options::Durability;
use super::plan::Part;
use super::view;
use super::{Failure, LocalCluster};

/// Bounds each single wait for a node's answer.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Bounds each step of forming.
const STEP_MAX: Duration = Duration::from_secs(60);

/// Between two looks at the nodes.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Makes a cluster of nodes that know nothing of each other.
pub fn form(cluster: &mut LocalCluster) -> Result<(), Failure> {
    let mut clients = connect_all(cluster)?;
    let ids = clients
        .iter_mut()
        .map(|(port, client)| said(*port, client.text(&["CLUSTER", "MYID"])))
        .collect::<Result<Vec<String>, Failure>>()?;
    let parts: Vec<Part> = cluster.places.iter().map(|p| p.plan.part).collect();

    for (index, part) in parts.iter().enumerate() {
        if let Part::Primary { shard } = part {
            let (port, client) = &mut clients[index];
            let epoch = (shard + 1).to_string();
            said(*port, client.call(&["CLUSTER", "SET-CONFIG-EPOCH", &epoch]))?;
            let slots = cluster.shape.slots(*shard);
            let (first, last) = (slots.start().to_string(), slots.end().to_string());
            // A node that has just started may not yet lead the shard that it is alone in.
            insist(
                cluster,
                *port,
                client,
                &["CLUSTER", "ADDSLOTSRANGE", &first, &last],
            )?;
        }
    }
    cluster
        .progress
        .step("CLUSTER ADDSLOTSRANGE: every slot has a primary");

    let ports: Vec<u16> = clients.iter().map(|(port, _)| *port).collect();
    for port in &ports[1..] {
        let (first, client) = &mut clients[0];
        said(
            *first,
            client.call(&["CLUSTER", "MEET", "127.0.0.1", &port.to_string()]),
        )?;
    }
    let known = ports.len();
    wait(cluster, "every node to know every other", || {
        all(&mut clients, |client| {
            let nodes = view::nodes(client)?;
            let well = nodes.iter().filter(|n| n.is_well()).count();
            Ok((well != known).then(|| format!("knows {well} of {known} nodes")))
        })
    })?;
    cluster
        .progress
        .step(&format!("CLUSTER MEET: {known} nodes know each other"));

    // The parts are in the order of the ports, primaries first: shard number n is led by node number n.
    for (index, part) in parts.iter().enumerate() {
        let leaders = match part {
            Part::Primary { .. } => 0..0,
            Part::Replica { shard } => usize::from(*shard)..usize::from(*shard) + 1,
            Part::Witness => 0..usize::from(cluster.shape.shards),
        };
        for leader in leaders {
            let (port, client) = &mut clients[index];
            // The primary may not yet have told everybody where its log listens.
            insist(
                cluster,
                *port,
                client,
                &["CLUSTER", "REPLICATE", &ids[leader]],
            )?;
        }
    }
    if cluster.shape.voters() > 1 {
        let voters = cluster.shape.voters();
        let shards = usize::from(cluster.shape.shards);
        wait(cluster, "every shard to have its voters", || {
            let primaries = &mut clients[..shards];
            all(primaries, |client| {
                let has = voters_of(client)?;
                Ok((has != voters).then(|| format!("has {has} of {voters} voters")))
            })
        })?;
        cluster.progress.step(&format!(
            "CLUSTER REPLICATE: every shard has {voters} voters"
        ));
    }
    wait_until_well(cluster, &mut clients)
}

/// Waits for a cluster that was formed by an earlier run.
pub fn come_back(cluster: &mut LocalCluster) -> Result<(), Failure> {
    let mut clients = connect_all(cluster)?;
    wait_until_well(cluster, &mut clients)
}

type Clients = Vec<(u16, Client)>;

fn said<T>(port: u16, result: Result<T, ClientError>) -> Result<T, Failure> {
    result.map_err(|error| Failure::Said(format!("the node on port {port}: {error}")))
}

/// A node that reads a large data set answers `LOADING` until it is done, and one that has just started
/// refuses connections.
fn connect_all(cluster: &mut LocalCluster) -> Result<Clients, Failure> {
    let ports: Vec<u16> = cluster.places.iter().map(|p| p.plan.port).collect();
    let mut clients = Clients::new();
    for port in ports {
        let mut connected = None;
        wait(cluster, "all nodes to answer", || {
            let mut client = match Client::connect(port, PATIENCE) {
                Ok(client) => client,
                Err(error) => return Ok(Some(format!("port {port}: {error}"))),
            };
            match client.call(&["PING"]) {
                Ok(_) => {
                    connected = Some(client);
                    Ok(None)
                }
                Err(error) => Ok(Some(format!("port {port}: {error}"))),
            }
        })?;
        clients.extend(connected.map(|client| (port, client)));
    }
    cluster.progress.step("all nodes answer");
    Ok(clients)
}

/// Sends a command that may be refused for a moment, until it is not.
fn insist(
    cluster: &mut LocalCluster,
    port: u16,
    client: &mut Client,
    args: &[&str],
) -> Result<(), Failure> {
    wait(cluster, &args.join(" "), || match client.call(args) {
        Ok(_) => Ok(None),
        Err(ClientError::Refused(text)) => Ok(Some(format!("port {port}: {text}"))),
        Err(error) => Err(Failure::Said(format!("the node on port {port}: {error}"))),
    })
}

fn wait_until_well(cluster: &mut LocalCluster, clients: &mut Clients) -> Result<(), Failure> {
    let parts: Vec<Part> = cluster.places.iter().map(|p| p.plan.part).collect();
    let shards = usize::from(cluster.shape.shards);
    let quorum = cluster.shape.durability == Durability::Quorum;
    wait(cluster, "the cluster to be well", || {
        let mut serving = 0;
        for (part, (port, client)) in parts.iter().zip(clients.iter_mut()) {
            if *part == Part::Witness {
                continue;
            }
            match data_node_is_well(client, quorum) {
                Ok(Health::Serves) => serving += 1,
                Ok(Health::Follows) => {}
                Ok(Health::Ill(why)) => return Ok(Some(format!("port {port}: {why}"))),
                Err(error) => return Ok(Some(format!("port {port}: {error}"))),
            }
        }
        Ok((serving != shards)
            .then(|| format!("{serving} of {shards} shards have a primary that serves")))
    })
}

enum Health {
    Serves,
    Follows,
    Ill(String),
}

fn data_node_is_well(client: &mut Client, quorum: bool) -> Result<Health, ClientError> {
    let info = client.text(&["CLUSTER", "INFO"])?;
    match view::field(&info, "cluster_state") {
        Some("ok") => {}
        state => {
            return Ok(Health::Ill(format!(
                "cluster_state {}",
                state.unwrap_or("missing")
            )));
        }
    }
    let nodes = view::nodes(client)?;
    let Some(own) = nodes.iter().find(|node| node.has("myself")) else {
        return Ok(Health::Ill("CLUSTER NODES without the node itself".into()));
    };
    if !own.has("master") {
        return Ok(Health::Follows);
    }
    let Some((slot, _)) = own.slots.first() else {
        return Ok(Health::Follows);
    };
    if quorum {
        // Looking for a key that is not there changes nothing, and takes a valid lease.
        match client.call(&["CLUSTER", "COUNTKEYSINSLOT", &slot.to_string()]) {
            Ok(_) => {}
            Err(ClientError::Refused(text)) => return Ok(Health::Ill(text)),
            Err(error) => return Err(error),
        }
    }
    Ok(Health::Serves)
}

/// How many voters the node's shard has, by `INFO durability`.
fn voters_of(client: &mut Client) -> Result<u16, ClientError> {
    let info = client.text(&["INFO", "durability"])?;
    Ok(view::field(&info, "durability_voters")
        .and_then(|v| v.parse().ok())
        .unwrap_or(0))
}

/// Asks all nodes; the answer is what the first of them still lacks.
fn all(
    clients: &mut [(u16, Client)],
    mut lacks: impl FnMut(&mut Client) -> Result<Option<String>, ClientError>,
) -> Result<Option<String>, Failure> {
    for (port, client) in clients {
        if let Some(lack) = said(*port, lacks(client))? {
            return Ok(Some(format!("port {port} {lack}")));
        }
    }
    Ok(None)
}

/// Polls until nothing is lacking. Ends early if a node has died or the user has had enough.
fn wait(
    cluster: &mut LocalCluster,
    what: &str,
    mut lacks: impl FnMut() -> Result<Option<String>, Failure>,
) -> Result<(), Failure> {
    let deadline = Instant::now() + STEP_MAX;
    loop {
        cluster.check_all_running()?;
        let Some(lack) = lacks()? else {
            return Ok(());
        };
        if Instant::now() >= deadline {
            return Err(Failure::Said(format!(
                "waited {} s for {what}: {lack}; the nodes' logs are in {}",
                STEP_MAX.as_secs(),
                cluster.dir().display()
            )));
        }
        sleep(POLL_INTERVAL);
    }
}
