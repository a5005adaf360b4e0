//! What the bus knows, for the CLUSTER commands and for routing.

use crate::api::ShardTruth;
use crate::bus::Bus;
use crate::ids::{NodeId, Now, SLOTS, ShardId};
use crate::node::{Ix, Node};
use crate::slots::SlotSet;
use crate::wire::{MessageType, flags};
use std::collections::BTreeMap;
use std::fmt::Write;

/// A node, as clients may learn of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeView {
    /// Its name.
    pub id: NodeId,
    /// Its shard.
    pub shard: ShardId,
    /// Address text; empty if not known.
    pub ip: String,
    /// Address for clients: the announced one, or else `ip`.
    pub client_ip: String,
    /// Port for clients.
    pub port: u16,
    /// TLS port for clients; 0 if none.
    pub tls_port: u16,
    /// Bus port.
    pub bus_port: u16,
    /// Host name; may be empty.
    pub hostname: String,
    /// Availability zone; may be empty.
    pub availability_zone: String,
    /// It is this node.
    pub myself: bool,
    /// It is a replica.
    pub replica: bool,
    /// Its primary, if it is a replica and its primary is known.
    pub primary: Option<NodeId>,
    /// It votes in shards but keeps no data: not to be shown to clients as a place to go.
    pub witness: bool,
    /// A majority could not reach it.
    pub failed: bool,
    /// This node cannot reach it.
    pub suspect: bool,
    /// Its real name is not known yet.
    pub handshake: bool,
    /// A link of ours to it stands (always, for this node).
    pub connected: bool,
    /// Replication offset, in bytes.
    pub offset: u64,
    /// Config epoch: its primary's, if it is a replica.
    pub epoch: u64,
    /// Slots.
    pub slots: SlotSet,
    /// Where its Raft server listens, as `host:port`, if it has said so.
    pub raft_addr: Option<String>,
    /// It is a Holdfast node whose shard is under `durability quorum`.
    pub quorum: bool,
}

/// A link, for `CLUSTER LINKS`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LinkView {
    /// The other node made it.
    pub inbound: bool,
    /// The other node.
    pub node: NodeId,
    /// When it was made, in Unix milliseconds.
    pub created_unix_ms: u64,
    /// Bytes that wait to be sent.
    pub queued: u64,
}

/// Flags as `CLUSTER NODES` shows them.
pub(crate) fn flag_names(bits: u16) -> String {
    const NAMES: [(u16, &str); 8] = [
        (flags::MYSELF, "myself"),
        (flags::PRIMARY, "master"),
        (flags::REPLICA, "slave"),
        (flags::PFAIL, "fail?"),
        (flags::FAIL, "fail"),
        (flags::HANDSHAKE, "handshake"),
        (flags::NOADDR, "noaddr"),
        (flags::NOFAILOVER, "nofailover"),
    ];
    let names: Vec<&str> = NAMES
        .iter()
        .filter(|(bit, _)| bits & bit != 0)
        .map(|(_, name)| *name)
        .collect();
    if names.is_empty() {
        "noflags".into()
    } else {
        names.join(",")
    }
}

impl NodeView {
    /// The port for clients by TLS, or for others.
    pub fn port_for(&self, tls: bool) -> u16 {
        if tls { self.tls_port } else { self.port }
    }
}

/// Slots as `CLUSTER NODES` shows them: ` 7 10-20`.
pub(crate) fn write_slots(out: &mut String, slots: &SlotSet) {
    for (start, end) in slots.ranges() {
        // Writing to a string does not fail.
        let _ = if start == end {
            write!(out, " {start}")
        } else {
            write!(out, " {start}-{end}")
        };
    }
}

impl Bus {
    fn view_of(&self, ix: Ix, node: &Node) -> NodeView {
        let port = |announced: u16, port: u16| if announced != 0 { announced } else { port };
        let holdfast = node.holdfast.as_ref();
        NodeView {
            id: node.id,
            shard: node.shard,
            ip: node.ip.clone(),
            client_ip: [&node.client_ipv4, &node.client_ipv6, &node.ip]
                .into_iter()
                .find(|ip| !ip.is_empty())
                .cloned()
                .unwrap_or_default(),
            port: port(node.client_port, node.port),
            tls_port: port(node.client_tls_port, node.tls_port),
            bus_port: node.bus_port,
            hostname: node.hostname.clone(),
            availability_zone: node.availability_zone.clone(),
            myself: node.has(flags::MYSELF),
            replica: node.is_replica(),
            primary: node.replica_of.map(|primary| self.table().node(primary).id),
            witness: node.is_witness(),
            failed: node.has(flags::FAIL),
            suspect: node.has(flags::PFAIL),
            handshake: node.has(flags::HANDSHAKE),
            connected: self.is_linked(node) || node.has(flags::MYSELF),
            offset: node.offset,
            epoch: self.table().epoch(ix),
            slots: node.slots.clone(),
            raft_addr: holdfast
                .map(|info| info.raft_addr.clone())
                .filter(|addr| !addr.is_empty()),
            quorum: holdfast.is_some_and(|info| info.quorum),
        }
    }

    /// This node's name.
    pub fn my_id(&self) -> NodeId {
        self.table().node(self.me_ix()).id
    }

    /// This node's shard.
    pub fn my_shard(&self) -> ShardId {
        self.table().node(self.me_ix()).shard
    }

    /// This node.
    pub fn myself(&self) -> NodeView {
        self.view_of(self.me_ix(), self.table().node(self.me_ix()))
    }

    /// One node.
    pub fn node(&self, id: &NodeId) -> Option<NodeView> {
        let ix = self.table().lookup(id)?;
        Some(self.view_of(ix, self.table().node(ix)))
    }

    /// All nodes, by name.
    pub fn nodes(&self) -> Vec<NodeView> {
        self.table()
            .iter()
            .map(|(ix, node)| self.view_of(ix, node))
            .collect()
    }

    /// How many nodes are known, ourselves included.
    pub fn node_count(&self) -> usize {
        self.table().len()
    }

    /// A number that grows whenever what routing depends on changes.
    pub fn view_version(&self) -> u64 {
        self.version()
    }

    /// Under `durability quorum`, what the shard's log has said last.
    pub fn truth(&self) -> Option<&ShardTruth> {
        self.shard_truth()
    }

    /// The owner of a slot.
    pub fn slot_owner(&self, slot: u16) -> Option<NodeId> {
        self.table()
            .owner(slot)
            .map(|owner| self.table().node(owner).id)
    }

    /// The runs of slots with one owner, ascending, both ends included.
    pub fn slot_ranges(&self) -> Vec<(u16, u16, NodeId)> {
        let mut ranges: Vec<(u16, u16, Ix)> = Vec::new();
        for slot in 0..SLOTS {
            let Some(owner) = self.table().owner(slot) else {
                continue;
            };
            match ranges.last_mut() {
                Some((_, end, last)) if *last == owner && *end + 1 == slot => *end = slot,
                _ => ranges.push((slot, slot, owner)),
            }
        }
        ranges
            .into_iter()
            .map(|(start, end, ix)| (start, end, self.table().node(ix).id))
            .collect()
    }

    /// The replicas of a primary, by name.
    pub fn replicas_of(&self, primary: &NodeId) -> Vec<NodeView> {
        match self.table().lookup(primary) {
            Some(ix) => self
                .table()
                .replicas(ix)
                .map(|(ix, node)| self.view_of(ix, node))
                .collect(),
            None => Vec::new(),
        }
    }

    /// Slots on their way out by SETSLOT, and where to.
    pub fn migrating(&self) -> BTreeMap<u16, NodeId> {
        self.open_slots()
            .0
            .iter()
            .map(|(slot, peer)| (*slot, self.table().node(*peer).id))
            .collect()
    }

    /// Slots on their way in by SETSLOT, and where from.
    pub fn importing(&self) -> BTreeMap<u16, NodeId> {
        self.open_slots()
            .1
            .iter()
            .map(|(slot, peer)| (*slot, self.table().node(*peer).id))
            .collect()
    }

    /// The links of all nodes: ours to it first, then its to us.
    pub fn link_views(&self) -> Vec<LinkView> {
        let mut views = Vec::new();
        for (_, node) in self.table().iter() {
            for link in [node.link, node.inbound].into_iter().flatten() {
                if let Some((inbound, created_unix_ms, queued)) = self.link_facts(link) {
                    views.push(LinkView {
                        inbound,
                        node: node.id,
                        created_unix_ms,
                        queued,
                    });
                }
            }
        }
        views
    }

    /// A node's line of `CLUSTER NODES`, without the line's end.
    pub fn describe(&self, id: &NodeId, tls: bool, now: Now) -> Option<String> {
        let ix = self.table().lookup(id)?;
        Some(self.line(ix, self.table().node(ix), tls, now))
    }

    fn line(&self, ix: Ix, node: &Node, tls: bool, now: Now) -> String {
        let view = self.view_of(ix, node);
        let mut out = format!(
            "{} {}:{}@{}",
            node.id,
            view.client_ip,
            view.port_for(tls),
            node.bus_port
        );
        if !node.hostname.is_empty() {
            out.push(',');
            out.push_str(&node.hostname);
        }
        crate::conf::write_tail(self, &mut out, ix, node, now);
        out
    }

    /// The text of `CLUSTER NODES`, with the ports for a client by TLS or for others.
    pub fn describe_all(&self, tls: bool, now: Now) -> String {
        let mut out = String::new();
        for (ix, node) in self.table().iter() {
            out.push_str(&self.line(ix, node, tls, now));
            out.push('\n');
        }
        out
    }

    /// The text of `CLUSTER INFO`.
    pub fn info(&self) -> String {
        let (mut assigned, mut ok, mut pfail, mut fail) = (0, 0, 0, 0);
        let (mut nodes_pfail, mut nodes_fail, mut voting_pfail, mut voting_fail) = (0, 0, 0, 0);
        for (_, node) in self.table().iter() {
            assigned += node.slot_count;
            if node.has(flags::FAIL) {
                fail += node.slot_count;
            } else if node.has(flags::PFAIL) {
                pfail += node.slot_count;
            } else {
                ok += node.slot_count;
            }
            if node.has(flags::PFAIL) {
                nodes_pfail += 1;
                voting_pfail += usize::from(node.votes());
            }
            if node.has(flags::FAIL) {
                nodes_fail += 1;
                voting_fail += usize::from(node.votes());
            }
        }
        let mut out = String::new();
        let mut line = |name: &str, value: &dyn std::fmt::Display| {
            // Writing to a string does not fail.
            let _ = write!(out, "{name}:{value}\r\n");
        };
        line("cluster_state", &if self.is_ok() { "ok" } else { "fail" });
        line("cluster_slots_assigned", &assigned);
        line("cluster_slots_ok", &ok);
        line("cluster_slots_pfail", &pfail);
        line("cluster_slots_fail", &fail);
        line("cluster_nodes_pfail", &nodes_pfail);
        line("cluster_nodes_fail", &nodes_fail);
        line("cluster_voting_nodes_pfail", &voting_pfail);
        line("cluster_voting_nodes_fail", &voting_fail);
        line("cluster_known_nodes", &self.table().len());
        line("cluster_size", &self.size());
        line("cluster_current_epoch", &self.epochs().0);
        line("cluster_my_epoch", &self.table().epoch(self.me_ix()));
        let stats = self.stats();
        for (direction, counts) in [("sent", &stats.sent), ("received", &stats.received)] {
            for kind in MessageType::ALL {
                let count = counts[kind as usize];
                if count != 0 {
                    line(
                        &format!("cluster_stats_messages_{}_{direction}", kind.name()),
                        &count,
                    );
                }
            }
            line(
                &format!("cluster_stats_messages_{direction}"),
                &counts.iter().sum::<u64>(),
            );
        }
        line("cluster_stats_bytes_sent", &stats.bytes_sent);
        line("cluster_stats_bytes_received", &stats.bytes_received);
        line("cluster_stats_pubsub_bytes_sent", &stats.pubsub_bytes_sent);
        line(
            "cluster_stats_pubsub_bytes_received",
            &stats.pubsub_bytes_received,
        );
        line("cluster_stats_module_bytes_sent", &0);
        line(
            "cluster_stats_module_bytes_received",
            &stats.module_bytes_received,
        );
        line(
            "total_cluster_links_buffer_limit_exceeded",
            &stats.links_over_limit,
        );
        out
    }
}
