//! The nodes that the bus knows, and the table of slots that ties owners to them.

use crate::ids::{LinkId, NodeId, SLOTS, ShardId};
use crate::slots::SlotSet;
use crate::wire::{HoldfastInfo, flags};
use std::collections::BTreeMap;

/// A node's place in the [`Table`]. Places of removed nodes are used again; removal clears what refers to them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Ix(u32);

/// A known node. All times are of the monotonic clock, in milliseconds.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub id: NodeId,
    pub shard: ShardId,
    /// See [`flags`].
    pub flags: u16,
    pub config_epoch: u64,
    pub slots: SlotSet,
    pub slot_count: usize,
    pub replica_of: Option<Ix>,
    pub created: u64,
    /// The pending ping, if one is.
    pub ping_sent: Option<u64>,
    pub pong_received: Option<u64>,
    pub data_received: u64,
    pub meet_sent: Option<u64>,
    pub fail_since: u64,
    pub connect_tried: Option<u64>,
    pub inbound_freed: u64,
    pub offset: u64,
    /// Text of an address; empty if not known.
    pub ip: String,
    pub port: u16,
    pub tls_port: u16,
    pub bus_port: u16,
    pub hostname: String,
    pub human_nodename: String,
    pub availability_zone: String,
    pub client_ipv4: String,
    pub client_ipv6: String,
    pub client_port: u16,
    pub client_tls_port: u16,
    /// It has shown [`crate::wire::HOLDFAST_MARK`].
    pub is_holdfast: bool,
    pub holdfast: Option<HoldfastInfo>,
    /// The link that we made.
    pub link: Option<LinkId>,
    /// The link that it made.
    pub inbound: Option<LinkId>,
    /// Who says that it cannot reach this node, and when it said so last.
    pub fail_reports: BTreeMap<Ix, u64>,
}

impl Node {
    pub fn new(id: NodeId, shard: ShardId, flags: u16, now_ms: u64) -> Node {
        Node {
            id,
            shard,
            flags,
            config_epoch: 0,
            slots: SlotSet::new(),
            slot_count: 0,
            replica_of: None,
            created: now_ms,
            ping_sent: None,
            pong_received: None,
            data_received: 0,
            meet_sent: None,
            fail_since: 0,
            connect_tried: None,
            inbound_freed: now_ms,
            offset: 0,
            ip: String::new(),
            port: 0,
            tls_port: 0,
            bus_port: 0,
            hostname: String::new(),
            human_nodename: String::new(),
            availability_zone: String::new(),
            client_ipv4: String::new(),
            client_ipv6: String::new(),
            client_port: 0,
            client_tls_port: 0,
            is_holdfast: false,
            holdfast: None,
            link: None,
            inbound: None,
            fail_reports: BTreeMap::new(),
        }
    }

    pub fn has(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }

    pub fn set(&mut self, flag: u16, on: bool) {
        if on {
            self.flags |= flag;
        } else {
            self.flags &= !flag;
        }
    }

    pub fn is_primary(&self) -> bool {
        self.has(flags::PRIMARY)
    }

    pub fn is_replica(&self) -> bool {
        self.has(flags::REPLICA)
    }

    /// A primary with slots: what a majority is counted of.
    pub fn votes(&self) -> bool {
        self.is_primary() && self.slot_count > 0
    }

    pub fn is_witness(&self) -> bool {
        self.holdfast.as_ref().is_some_and(|info| info.witness)
    }

    /// Neither joining nor in trouble.
    pub fn is_normal(&self) -> bool {
        !self.has(flags::HANDSHAKE | flags::MEET | flags::PFAIL | flags::FAIL)
    }
}

/// All nodes, and who owns which slot.
///
/// Always true: `owners[s] == Some(n)` exactly if node `n` has `s` in its `slots`, and `slot_count` is their number.
#[derive(Debug)]
pub(crate) struct Table {
    nodes: Vec<Option<Node>>,
    by_id: BTreeMap<NodeId, Ix>,
    owners: Box<[Option<Ix>]>,
}

impl Table {
    pub fn new() -> Table {
        Table {
            nodes: Vec::new(),
            by_id: BTreeMap::new(),
            owners: vec![None; usize::from(SLOTS)].into_boxed_slice(),
        }
    }

    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    pub fn lookup(&self, id: &NodeId) -> Option<Ix> {
        self.by_id.get(id).copied()
    }

    /// The node in this place. Holding an `Ix` of a removed node is a bug of the bus, so it stops the program.
    pub fn node(&self, ix: Ix) -> &Node {
        self.nodes[ix.0 as usize]
            .as_ref()
            .expect("the node of a live index")
    }

    /// As [`Table::node`].
    pub fn node_mut(&mut self, ix: Ix) -> &mut Node {
        self.nodes[ix.0 as usize]
            .as_mut()
            .expect("the node of a live index")
    }

    /// All nodes, by name.
    pub fn iter(&self) -> impl Iterator<Item = (Ix, &Node)> {
        self.by_id.values().map(|ix| (*ix, self.node(*ix)))
    }

    /// All places, by the nodes' names: for loops that change nodes.
    pub fn places(&self) -> Vec<Ix> {
        self.by_id.values().copied().collect()
    }

    /// Adds a node whose name is not there yet.
    pub fn insert(&mut self, node: Node) -> Ix {
        let place = self
            .nodes
            .iter()
            .position(Option::is_none)
            .unwrap_or(self.nodes.len());
        let ix = Ix(place as u32);
        let before = self.by_id.insert(node.id, ix);
        assert!(before.is_none(), "a node name is in the table once");
        if place == self.nodes.len() {
            self.nodes.push(Some(node));
        } else {
            self.nodes[place] = Some(node);
        }
        ix
    }

    /// Gives a node its real name. False, and nothing changed, if another node has that name.
    pub fn rename(&mut self, ix: Ix, id: NodeId) -> bool {
        if self.by_id.contains_key(&id) {
            return false;
        }
        let old = std::mem::replace(&mut self.node_mut(ix).id, id);
        self.by_id.remove(&old);
        self.by_id.insert(id, ix);
        true
    }

    /// Removes a node, its slots, its failure reports, and what others say of it.
    pub fn remove(&mut self, ix: Ix) -> Node {
        let gone = self.nodes[ix.0 as usize]
            .take()
            .expect("the node of a live index");
        self.by_id.remove(&gone.id);
        for slot in gone.slots.iter() {
            self.owners[usize::from(slot)] = None;
        }
        for node in self.nodes.iter_mut().flatten() {
            node.fail_reports.remove(&ix);
            if node.replica_of == Some(ix) {
                node.replica_of = None;
            }
        }
        gone
    }

    pub fn owner(&self, slot: u16) -> Option<Ix> {
        *self.owners.get(usize::from(slot))?
    }

    /// Binds a slot to a node, taking it from its owner.
    pub fn assign(&mut self, slot: u16, to: Ix) {
        self.unassign(slot);
        self.owners[usize::from(slot)] = Some(to);
        let node = self.node_mut(to);
        node.slots.insert(slot);
        node.slot_count += 1;
    }

    /// Leaves a slot without an owner; returns the one that it had.
    pub fn unassign(&mut self, slot: u16) -> Option<Ix> {
        let owner = self.owners[usize::from(slot)].take()?;
        let node = self.node_mut(owner);
        node.slots.remove(slot);
        node.slot_count -= 1;
        Some(owner)
    }

    /// The config epoch that counts for a node: its primary's, if it is a replica.
    pub fn epoch(&self, ix: Ix) -> u64 {
        let node = self.node(ix);
        self.node(node.replica_of.unwrap_or(ix)).config_epoch
    }

    /// The replicas of a primary, by name.
    pub fn replicas(&self, primary: Ix) -> impl Iterator<Item = (Ix, &Node)> {
        self.iter()
            .filter(move |(_, node)| node.is_replica() && node.replica_of == Some(primary))
    }
}
