//! From the bus's view to the executor's routing table.

use super::{ClusterOptions, replies};
use crate::routing::{Endpoint, MyRole, Routing};
use holdfast_cluster_bus::{Bus, NodeId, ShardRole};
use std::collections::BTreeMap;

/// The routing table for the bus's view as it is now.
pub fn routing_of(bus: &Bus, options: &ClusterOptions) -> Routing {
    let endpoint = |node: &holdfast_cluster_bus::NodeView| Endpoint {
        node: node.id,
        host: replies::endpoint(node, options).unwrap_or_default(),
        port: node.port,
        tls_port: node.tls_port,
    };
    let nodes = bus.nodes();
    // Clients are never sent to a witness, nor to a node whose name is not known yet.
    let shown: Vec<Endpoint> = nodes
        .iter()
        .filter(|node| !node.witness && !node.handshake)
        .map(endpoint)
        .collect();
    let places: BTreeMap<NodeId, usize> = shown
        .iter()
        .enumerate()
        .map(|(at, shown)| (shown.node, at))
        .collect();
    let owned = bus
        .slot_ranges()
        .into_iter()
        .filter_map(|(start, end, owner)| places.get(&owner).map(|at| (start..=end, *at)))
        .flat_map(|(slots, at)| slots.map(move |slot| (slot, at)));
    let me = bus.myself();
    let mut routing = Routing::new(me.id, shown, owned);
    routing.version = bus.view_version();
    (routing.role, routing.primary) = match bus.truth().map(|truth| truth.role) {
        _ if me.witness => (MyRole::Witness, None),
        Some(ShardRole::Witness) => (MyRole::Witness, None),
        Some(ShardRole::Leader) => (MyRole::Primary, None),
        Some(ShardRole::Follower { leader }) => (MyRole::Replica, leader),
        // A node of a quorum shard serves nothing before its log has said what it is.
        None if bus.config().quorum => (MyRole::Replica, None),
        None if me.replica => (MyRole::Replica, me.primary),
        None => (MyRole::Primary, None),
    };
    let siblings = nodes.iter().filter(|node| node.shard == bus.my_shard());
    routing.shard.extend(siblings.map(|node| node.id));
    routing.state_ok = bus.is_ok();
    routing.reads_when_down = options.reads_when_down;
    routing.pubsubshard_when_down = options.pubsubshard_when_down;
    for (slot, to) in bus.migrating() {
        if let Some(target) = routing.endpoint(&to).cloned() {
            routing.migrating.insert(slot, target);
        }
    }
    routing.importing = bus.importing();
    routing
}
