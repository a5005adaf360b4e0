//! CLUSTER commands that only tell.

use super::command::{error, text};
use super::{ClusterOptions, EndpointType};
use bytes::Bytes;
use holdfast_cluster_bus::{Bus, NodeId, NodeView, Now, ShardId};
use holdfast_resp::{Proto, write};
use std::collections::BTreeMap;

/// The host that clients are sent to; `None` is "the one that you are connected to".
pub(super) fn endpoint(node: &NodeView, options: &ClusterOptions) -> Option<String> {
    match options.endpoint {
        EndpointType::Ip => Some(node.client_ip.clone()),
        EndpointType::Hostname if node.hostname.is_empty() => Some("?".into()),
        EndpointType::Hostname => Some(node.hostname.clone()),
        EndpointType::Unknown => None,
    }
}

/// A replica that may be shown as a place to read from. One that has nothing yet is not; but a voter of a quorum
/// shard that has nothing is level with a primary that has nothing.
fn is_available(node: &NodeView) -> bool {
    !node.failed && !node.witness && (node.offset != 0 || node.quorum)
}

fn pairs(reply: &mut Vec<u8>, proto: Proto, pairs: &[(&str, &str)]) {
    write::map(reply, proto, pairs.len());
    for (name, value) in pairs {
        write::bulk(reply, name.as_bytes());
        write::bulk(reply, value.as_bytes());
    }
}

fn node_of_slots(
    node: &NodeView,
    options: &ClusterOptions,
    tls: bool,
    proto: Proto,
    reply: &mut Vec<u8>,
) {
    write::array(reply, 4);
    match endpoint(node, options) {
        Some(host) => write::bulk(reply, host.as_bytes()),
        None => write::null(reply, proto),
    }
    write::int(reply, i64::from(node.port_for(tls)));
    write::bulk(reply, node.id.as_bytes());
    let mut more = Vec::new();
    if options.endpoint != EndpointType::Ip {
        more.push(("ip", node.client_ip.as_str()));
    }
    if options.endpoint != EndpointType::Hostname && !node.hostname.is_empty() {
        more.push(("hostname", node.hostname.as_str()));
    }
    if !node.availability_zone.is_empty() {
        more.push(("availability-zone", node.availability_zone.as_str()));
    }
    pairs(reply, proto, &more);
}

/// `CLUSTER SLOTS`.
pub(super) fn slots(
    bus: &Bus,
    options: &ClusterOptions,
    tls: bool,
    proto: Proto,
    reply: &mut Vec<u8>,
) {
    let ranges = bus.slot_ranges();
    let nodes: BTreeMap<NodeId, NodeView> = bus
        .nodes()
        .into_iter()
        .map(|node| (node.id, node))
        .collect();
    write::array(reply, ranges.len());
    for (start, end, owner) in ranges {
        let replicas: Vec<&NodeView> = nodes
            .values()
            .filter(|node| node.replica && node.primary == Some(owner) && is_available(node))
            .collect();
        write::array(reply, 3 + replicas.len());
        write::int(reply, i64::from(start));
        write::int(reply, i64::from(end));
        for node in nodes.get(&owner).into_iter().chain(replicas) {
            node_of_slots(node, options, tls, proto, reply);
        }
    }
}

fn node_of_shards(node: &NodeView, options: &ClusterOptions, proto: Proto, reply: &mut Vec<u8>) {
    enum Value<'a> {
        Text(&'a str),
        Int(i64),
    }
    use Value::{Int, Text};
    let host = endpoint(node, options).unwrap_or_default();
    let health = if node.failed {
        "fail"
    } else if node.replica && !is_available(node) {
        "loading"
    } else {
        "online"
    };
    let mut fields = vec![("id", Text(node.id.as_str()))];
    if node.port != 0 {
        fields.push(("port", Int(i64::from(node.port))));
    }
    if node.tls_port != 0 {
        fields.push(("tls-port", Int(i64::from(node.tls_port))));
    }
    fields.push(("ip", Text(&node.client_ip)));
    fields.push(("endpoint", Text(&host)));
    if !node.hostname.is_empty() {
        fields.push(("hostname", Text(&node.hostname)));
    }
    fields.push((
        "role",
        Text(if node.replica { "replica" } else { "master" }),
    ));
    fields.push(("replication-offset", Int(node.offset as i64)));
    fields.push(("health", Text(health)));
    if !node.availability_zone.is_empty() {
        fields.push(("availability-zone", Text(&node.availability_zone)));
    }
    write::map(reply, proto, fields.len());
    for (name, value) in fields {
        write::bulk(reply, name.as_bytes());
        match value {
            Text(text) => write::bulk(reply, text.as_bytes()),
            Int(number) => write::int(reply, number),
        }
    }
}

/// `CLUSTER SHARDS`. Witnesses, and nodes that are still greeting us, are in no shard.
pub(super) fn shards(bus: &Bus, options: &ClusterOptions, proto: Proto, reply: &mut Vec<u8>) {
    let mut shards: BTreeMap<ShardId, Vec<NodeView>> = BTreeMap::new();
    for node in bus
        .nodes()
        .into_iter()
        .filter(|node| !node.witness && !node.handshake)
    {
        shards.entry(node.shard).or_default().push(node);
    }
    write::array(reply, shards.len());
    for (shard, nodes) in shards {
        write::map(reply, proto, 3);
        write::bulk(reply, b"slots");
        match nodes.iter().find(|node| !node.slots.is_empty()) {
            Some(owner) => {
                let ranges: Vec<_> = owner.slots.ranges().collect();
                write::array(reply, ranges.len() * 2);
                for (start, end) in ranges {
                    write::int(reply, i64::from(start));
                    write::int(reply, i64::from(end));
                }
            }
            None => write::array(reply, 0),
        }
        write::bulk(reply, b"nodes");
        write::array(reply, nodes.len());
        for node in &nodes {
            node_of_shards(node, options, proto, reply);
        }
        write::bulk(reply, b"id");
        write::bulk(reply, shard.as_bytes());
    }
}

/// `CLUSTER LINKS`.
pub(super) fn links(bus: &Bus, proto: Proto, reply: &mut Vec<u8>) {
    let links = bus.link_views();
    write::array(reply, links.len());
    for link in links {
        write::map(reply, proto, 6);
        write::bulk(reply, b"direction");
        write::bulk(reply, if link.inbound { b"from" } else { b"to" });
        write::bulk(reply, b"node");
        write::bulk(reply, link.node.as_bytes());
        write::bulk(reply, b"create-time");
        write::int(reply, link.created_unix_ms as i64);
        write::bulk(reply, b"events");
        write::bulk(reply, if link.queued > 0 { b"rw" } else { b"r" });
        for name in ["send-buffer-allocated", "send-buffer-used"] {
            write::bulk(reply, name.as_bytes());
            write::int(reply, link.queued as i64);
        }
    }
}

/// `CLUSTER REPLICAS <node>`.
pub(super) fn replicas(bus: &Bus, args: &[Bytes], tls: bool, now: Now, reply: &mut Vec<u8>) {
    let name = args.first().map(|arg| &arg[..]).unwrap_or_default();
    let Some(node) = NodeId::parse(name).ok().and_then(|id| bus.node(&id)) else {
        return error(reply, format_args!("Unknown node {}", text(name)));
    };
    if node.replica {
        return error(reply, "The specified node is not a master");
    }
    let replicas = bus.replicas_of(&node.id);
    write::array(reply, replicas.len());
    for replica in replicas {
        write::bulk(
            reply,
            bus.describe(&replica.id, tls, now)
                .unwrap_or_default()
                .as_bytes(),
        );
    }
}

/// `CLUSTER COUNT-FAILURE-REPORTS <node>`.
pub(super) fn count_failure_reports(bus: &mut Bus, args: &[Bytes], now: Now, reply: &mut Vec<u8>) {
    let name = args.first().map(|arg| &arg[..]).unwrap_or_default();
    match NodeId::parse(name)
        .ok()
        .and_then(|id| bus.count_failure_reports(&id, now))
    {
        Some(count) => write::int(reply, count as i64),
        None => error(reply, format_args!("Unknown node {}", text(name))),
    }
}
