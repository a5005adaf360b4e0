//! Nodes come and go: MEET, FORGET, RESET.

use super::{Bus, HANDSHAKES_MAX, Ix, NODES_MAX, flags};
use crate::ids::{LinkId, NodeId, Now, ShardId};
use crate::node::Node;
use crate::wire::{Header, PingBody};
use std::net::IpAddr;
use tracing::{info, warn};

/// Why a `CLUSTER MEET` cannot be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MeetError {
    /// Not the text of an IP address.
    BadAddress,
    /// Too many nodes, or handshakes at one time.
    Full,
}

/// Why a `CLUSTER FORGET` cannot be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ForgetError {
    /// No node of that name is known, and none was forgotten lately.
    Unknown,
    /// It is this node.
    Myself,
    /// It is this node's primary.
    MyPrimary,
}

impl Bus {
    /// `CLUSTER MEET`: greets a node and asks it to take us in. A greeting under way is left to go on.
    pub fn meet(&mut self, ip: &str, port: u16, bus_port: u16, now: Now) -> Result<(), MeetError> {
        let ip = ip
            .parse::<IpAddr>()
            .map_err(|_| MeetError::BadAddress)?
            .to_string();
        // The port of the kind that the bus uses; the other one the node will tell.
        let (port, tls_port) = self.ordered_ports(port, 0);
        if self.handshake_with(&ip, (port, tls_port), bus_port) {
            return Ok(());
        }
        self.add_handshake(ip, port, tls_port, bus_port, flags::MEET, now)
            .map(drop)
            .ok_or(MeetError::Full)
    }

    fn handshake_with(&self, ip: &str, ports: (u16, u16), bus_port: u16) -> bool {
        self.table.iter().any(|(_, node)| {
            node.has(flags::HANDSHAKE)
                && node.ip == ip
                && (node.port, node.tls_port) == ports
                && node.bus_port == bus_port
        })
    }

    /// Adds a node under a name made up, until it tells its own.
    fn add_handshake(
        &mut self,
        ip: String,
        port: u16,
        tls: u16,
        bus_port: u16,
        more: u16,
        now: Now,
    ) -> Option<Ix> {
        let handshakes = self
            .table
            .iter()
            .filter(|(_, node)| node.has(flags::HANDSHAKE))
            .count();
        if handshakes >= HANDSHAKES_MAX || self.table.len() >= NODES_MAX {
            warn!("Too many nodes or handshakes: {ip}:{bus_port} is not added");
            return None;
        }
        let id = loop {
            let id = NodeId::from_bytes(self.rng.bytes20());
            if self.table.lookup(&id).is_none() {
                break id;
            }
        };
        let shard = ShardId::from_bytes(self.rng.bytes20());
        let mut node = Node::new(id, shard, flags::HANDSHAKE | more, now.mono_ms);
        node.ip = ip;
        node.port = port;
        node.tls_port = tls;
        node.bus_port = bus_port;
        let ix = self.table.insert(node);
        self.todo.view = true;
        Some(ix)
    }

    /// A `MEET` came: its sender is to be added, or believes that we do not know it.
    pub(super) fn on_meet(
        &mut self,
        link_id: LinkId,
        sender: Option<Ix>,
        header: &Header<'_>,
        body: &PingBody<'_>,
        now: Now,
    ) {
        if let Some(ix) = sender {
            let node = self.table.node(ix);
            if let Some(link) = node.link
                && link != link_id
                && now.since(node.created) > self.handshake_timeout_ms()
            {
                info!(
                    "Making the link to node {} anew after a MEET from it",
                    node.id
                );
                self.close_link(link, now);
            }
            return;
        }
        let Some(link) = self.links.get(&link_id) else {
            return;
        };
        if link.node.is_some() {
            return; // The same greeting again.
        }
        let extensions = link.extensions;
        let ip = if header.address.is_empty() {
            link.peer_ip.clone()
        } else {
            header.address.to_owned()
        };
        if ip.is_empty() {
            return;
        }
        let flags = if extensions { flags::EXTENSIONS } else { 0 };
        let (port, tls_port) = self.ordered_ports(header.port, header.other_port);
        if let Some(ix) = self.add_handshake(ip, port, tls_port, header.bus_port, flags, now) {
            self.table.node_mut(ix).inbound = Some(link_id);
            if let Some(link) = self.links.get_mut(&link_id) {
                link.node = Some(ix);
            }
        }
        self.take_gossip(None, body, now);
    }

    pub(super) fn is_forgotten(&self, node: &NodeId, now: Now) -> bool {
        self.forgotten
            .get(node)
            .is_some_and(|until| *until > now.mono_ms)
    }

    /// Whether `CLUSTER FORGET` of this node would succeed, without doing it: in a quorum shard the membership comes first.
    pub fn can_forget(&self, node: &NodeId, now: Now) -> Result<(), ForgetError> {
        match self.table.lookup(node) {
            None if self.is_forgotten(node, now) => Ok(()),
            None => Err(ForgetError::Unknown),
            Some(ix) if ix == self.me => Err(ForgetError::Myself),
            Some(ix) if self.my().replica_of == Some(ix) => Err(ForgetError::MyPrimary),
            Some(_) => Ok(()),
        }
    }

    /// `CLUSTER FORGET`: removes a node, tells the others, and does not take it in again for a while.
    pub fn forget(&mut self, node: &NodeId, now: Now) -> Result<(), ForgetError> {
        self.can_forget(node, now)?;
        if let Some(ix) = self.table.lookup(node) {
            self.forgotten
                .insert(*node, now.mono_ms + self.cfg.blacklist_ttl_s * 1000);
            self.remove_node(ix, now);
        }
        Ok(())
    }

    pub(super) fn remove_node(&mut self, ix: Ix, now: Now) {
        let node = self.table.node(ix);
        for link in [node.link, node.inbound].into_iter().flatten() {
            self.close_link(link, now);
        }
        self.migrating.retain(|_, peer| *peer != ix);
        self.importing.retain(|_, peer| *peer != ix);
        self.table.remove(ix);
        self.changed(false);
    }

    /// `CLUSTER RESET`: forgets all nodes, slots and, with a new `id` (a hard reset), all epochs; a shard of its own.
    pub fn reset(&mut self, id: Option<NodeId>, shard: ShardId, now: Now) {
        self.migrating.clear();
        self.importing.clear();
        self.not_claimed = Default::default();
        let mine = self.my().slots.clone();
        for slot in mine.iter() {
            self.table.unassign(slot);
        }
        for ix in self.table.places() {
            if ix != self.me {
                self.remove_node(ix, now);
            }
        }
        // Links that came in and were not tied to a node yet.
        let loose: Vec<LinkId> = self.links.keys().copied().collect();
        for link in loose {
            self.close_link(link, now);
        }
        self.forgotten.clear();
        self.truth = None;
        self.leader_wanted = None;
        if let Some(id) = id {
            self.current_epoch = 0;
            self.last_vote_epoch = 0;
            self.table.node_mut(self.me).config_epoch = 0;
            self.table.rename(self.me, id);
            info!("Node hard reset, now I'm {id}");
        }
        let me = self.table.node_mut(self.me);
        me.shard = shard;
        me.replica_of = None;
        me.set(flags::REPLICA | flags::MY_PRIMARY_FAIL, false);
        me.set(flags::PRIMARY, true);
        self.changed(true);
    }
}
