//! `nodes.conf`, in Valkey's format, so that either server starts from the other's file.
//!
//! One line a node, then one of variables:
//!
//! ```text
//! <id> <ip>:<port>@<bus port>,<hostname>[,<name>=<value>]* <flags> <primary|-> <ping> <pong> <epoch> <link> <slots>*
//! vars currentEpoch <n> lastVoteEpoch <n>
//! ```
//!
//! Slots are `7`, `0-99`, and on this node's line also `[7->-<node>]` (migrating) and `[7-<-<node>]` (importing).
//! The names: `availability-zone`, `client-tls-port`, `client-tcp-port`, `client-ipv6`, `client-ipv4`, `tls-port`,
//! `tcp-port`, `nodename`, `shard-id`. Empty lines are skipped; unknown variables, too. Whoever writes the file makes a
//! new one and renames it over the old, so that a crash leaves one of the two, whole.

use crate::bus::Bus;
use crate::ids::{NodeId, Now, SLOTS, ShardId};
use crate::node::{Ix, Node, Table};
use crate::slots::SlotSet;
use crate::view::{flag_names, write_slots};
use crate::wire::flags;
use std::fmt::Write;

/// What is wrong with a `nodes.conf`: the start must stop, as the node's name and votes are in it.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct ConfError {
    /// Counted from 1; 0 for the file as a whole.
    pub line: usize,
    /// The reason.
    pub what: &'static str,
}

/// A line of `nodes.conf`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ConfNode {
    /// Its name; always there after parsing.
    pub id: Option<NodeId>,
    /// Address text; may be empty.
    pub ip: String,
    /// Clients' port.
    pub port: u16,
    /// Clients' TLS port; 0 if none.
    pub tls_port: u16,
    /// Bus port.
    pub bus_port: u16,
    /// Host name; may be empty.
    pub hostname: String,
    /// Name for humans; may be empty.
    pub human_nodename: String,
    /// Availability zone; may be empty.
    pub availability_zone: String,
    /// Address for IPv4 clients; may be empty.
    pub client_ipv4: String,
    /// Address for IPv6 clients; may be empty.
    pub client_ipv6: String,
    /// Port for clients; 0 if none.
    pub client_port: u16,
    /// TLS port for clients; 0 if none.
    pub client_tls_port: u16,
    /// Its shard, unless the file is older than shards.
    pub shard: Option<ShardId>,
    /// See [`crate::wire::flags`].
    pub flags: u16,
    /// Its primary.
    pub replica_of: Option<NodeId>,
    /// A ping was pending.
    pub ping_pending: bool,
    /// A pong had been received.
    pub pong_seen: bool,
    /// Config epoch.
    pub config_epoch: u64,
    /// Slots.
    pub slots: SlotSet,
}

/// The contents of a `nodes.conf`. Exactly one node has [`flags::MYSELF`].
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct NodesConf {
    /// The nodes, in the file's order.
    pub nodes: Vec<ConfNode>,
    /// Slots of this node on their way out, and where to.
    pub migrating: Vec<(u16, NodeId)>,
    /// Slots on their way to this node, and where from.
    pub importing: Vec<(u16, NodeId)>,
    /// The greatest epoch seen.
    pub current_epoch: u64,
    /// The epoch of the last vote given.
    pub last_vote_epoch: u64,
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T, &'static str> {
    text.parse().map_err(|_| "not a number in range")
}

impl NodesConf {
    /// Reads a file. An empty one (a crash right after its creation) is an error: see [`NodesConf::is_blank`].
    pub fn parse(text: &str) -> Result<NodesConf, ConfError> {
        let mut conf = NodesConf::default();
        for (index, line) in text.lines().enumerate() {
            let fields: Vec<&str> = line.split_ascii_whitespace().collect();
            let read = match fields.first() {
                None => Ok(()),
                Some(first) if first.eq_ignore_ascii_case("vars") => conf.read_vars(&fields[1..]),
                Some(_) => conf.read_node(&fields),
            };
            read.map_err(|what| ConfError {
                line: index + 1,
                what,
            })?;
        }
        if conf
            .nodes
            .iter()
            .filter(|node| node.flags & flags::MYSELF != 0)
            .count()
            != 1
        {
            return Err(ConfError {
                line: 0,
                what: "not exactly one node is flagged as myself",
            });
        }
        Ok(conf)
    }

    /// Whether a file holds nothing: then the node is new.
    pub fn is_blank(text: &str) -> bool {
        text.trim().is_empty()
    }

    /// This node's name and shard.
    pub fn myself(&self) -> Option<(NodeId, Option<ShardId>)> {
        let me = self
            .nodes
            .iter()
            .find(|node| node.flags & flags::MYSELF != 0)?;
        Some((me.id?, me.shard))
    }

    fn read_vars(&mut self, fields: &[&str]) -> Result<(), &'static str> {
        for pair in fields.chunks(2) {
            let [name, value] = pair else {
                return Err("a variable without a value");
            };
            if name.eq_ignore_ascii_case("currentEpoch") {
                self.current_epoch = number(value)?;
            } else if name.eq_ignore_ascii_case("lastVoteEpoch") {
                self.last_vote_epoch = number(value)?;
            }
        }
        Ok(())
    }

    fn read_node(&mut self, fields: &[&str]) -> Result<(), &'static str> {
        let [
            id,
            address,
            flag_list,
            primary,
            ping,
            pong,
            epoch,
            _link,
            slots @ ..,
        ] = fields
        else {
            return Err("fewer than eight fields");
        };
        let id: NodeId = id.parse().map_err(|_| "bad node id")?;
        if self.nodes.iter().any(|node| node.id == Some(id)) {
            return Err("node id twice");
        }
        let mut node = ConfNode {
            id: Some(id),
            ..ConfNode::default()
        };
        node.read_address(address)?;
        for flag in flag_list.split(',') {
            node.flags |= match flag.to_ascii_lowercase().as_str() {
                "myself" => flags::MYSELF,
                "master" | "primary" => flags::PRIMARY,
                "slave" | "replica" => flags::REPLICA,
                "fail?" => flags::PFAIL,
                "fail" => flags::FAIL,
                "handshake" => flags::HANDSHAKE,
                "noaddr" => flags::NOADDR | flags::FAIL,
                "nofailover" => flags::NOFAILOVER,
                "noflags" => 0,
                _ => return Err("unknown flag"),
            };
        }
        if *primary != "-" {
            node.replica_of = Some(primary.parse().map_err(|_| "bad primary id")?);
        }
        node.ping_pending = number::<i64>(ping)? != 0;
        node.pong_seen = number::<i64>(pong)? != 0;
        node.config_epoch = number(epoch)?;
        if node.flags & flags::REPLICA != 0 && node.replica_of.is_some() {
            node.config_epoch = 0;
        }
        for item in slots {
            self.read_slots(&mut node, item)?;
        }
        self.nodes.push(node);
        Ok(())
    }

    fn read_slots(&mut self, node: &mut ConfNode, item: &str) -> Result<(), &'static str> {
        let slot = |text: &str| match number::<u16>(text) {
            Ok(slot) if slot < SLOTS => Ok(slot),
            _ => Err("slot out of range"),
        };
        if let Some(open) = item.strip_prefix('[') {
            let open = open.strip_suffix(']').ok_or("bad open slot")?;
            let (number, rest) = open.split_once('-').ok_or("bad open slot")?;
            let slot = slot(number)?;
            let (list, peer) = if let Some(peer) = rest.strip_prefix(">-") {
                (&mut self.migrating, peer)
            } else if let Some(peer) = rest.strip_prefix("<-") {
                (&mut self.importing, peer)
            } else {
                return Err("bad open slot");
            };
            list.push((
                slot,
                peer.parse().map_err(|_| "bad node id of an open slot")?,
            ));
            return Ok(());
        }
        let (start, end) = match item.split_once('-') {
            Some((start, end)) => (slot(start)?, slot(end)?),
            None => (slot(item)?, slot(item)?),
        };
        for slot in start..=end {
            node.slots.insert(slot);
        }
        Ok(())
    }

    /// Builds the table. Slots that two nodes claim go to the later one; primaries that are only named are added.
    pub(crate) fn to_table(&self, now: Now) -> (Table, Ix) {
        let mut table = Table::new();
        let mut me = None;
        for conf in &self.nodes {
            let Some(id) = conf.id else { continue };
            // Without a shard in the file, a primary is its own; a replica gets its primary's below.
            let shard = conf
                .shard
                .unwrap_or_else(|| ShardId::from_bytes(id.to_bytes().unwrap_or_default()));
            let mut node = Node::new(id, shard, conf.flags, now.mono_ms);
            node.config_epoch = conf.config_epoch;
            node.ip.clone_from(&conf.ip);
            node.port = conf.port;
            node.tls_port = conf.tls_port;
            node.bus_port = conf.bus_port;
            node.hostname.clone_from(&conf.hostname);
            node.human_nodename.clone_from(&conf.human_nodename);
            node.availability_zone.clone_from(&conf.availability_zone);
            node.client_ipv4.clone_from(&conf.client_ipv4);
            node.client_ipv6.clone_from(&conf.client_ipv6);
            node.client_port = conf.client_port;
            node.client_tls_port = conf.client_tls_port;
            node.ping_sent = conf.ping_pending.then_some(now.mono_ms);
            node.pong_received = conf.pong_seen.then_some(now.mono_ms);
            node.fail_since = now.mono_ms;
            let ix = table.insert(node);
            for slot in conf.slots.iter() {
                table.assign(slot, ix);
            }
            if conf.flags & flags::MYSELF != 0 {
                me = Some(ix);
            }
        }
        let peers = self
            .migrating
            .iter()
            .chain(&self.importing)
            .map(|(_, id)| *id);
        for id in self
            .nodes
            .iter()
            .filter_map(|conf| conf.replica_of)
            .chain(peers)
        {
            if table.lookup(&id).is_none() {
                let shard = ShardId::from_bytes(id.to_bytes().unwrap_or_default());
                table.insert(Node::new(id, shard, 0, now.mono_ms));
            }
        }
        for conf in &self.nodes {
            let (Some(id), Some(primary)) = (conf.id, conf.replica_of) else {
                continue;
            };
            let (Some(ix), Some(primary)) = (table.lookup(&id), table.lookup(&primary)) else {
                continue;
            };
            let shard = table.node(primary).shard;
            let node = table.node_mut(ix);
            node.replica_of = Some(primary);
            node.shard = shard;
        }
        (
            table,
            me.expect("parse has seen to it that one node is myself"),
        )
    }
}

impl ConfNode {
    /// `ip:port[@bus port][,hostname[,name=value]*]`
    fn read_address(&mut self, text: &str) -> Result<(), &'static str> {
        let mut parts = text.split(',');
        let address = parts.next().unwrap_or_default();
        self.hostname = parts.next().unwrap_or_default().to_owned();
        let (ip, ports) = address.rsplit_once(':').ok_or("bad address")?;
        self.ip = ip.to_owned();
        let (port, bus_port) = match ports.split_once('@') {
            Some((port, bus_port)) => (number::<u16>(port)?, Some(number::<u16>(bus_port)?)),
            None => (number(ports)?, None),
        };
        let (mut tcp, mut tls) = (None, None);
        for part in parts {
            let (name, value) = part.split_once('=').ok_or("bad auxiliary field")?;
            match name {
                "shard-id" => self.shard = Some(value.parse().map_err(|_| "bad shard id")?),
                "nodename" => self.human_nodename = value.to_owned(),
                "availability-zone" => self.availability_zone = value.to_owned(),
                "client-ipv4" => self.client_ipv4 = value.to_owned(),
                "client-ipv6" => self.client_ipv6 = value.to_owned(),
                "client-tcp-port" => self.client_port = number(value)?,
                "client-tls-port" => self.client_tls_port = number(value)?,
                "tcp-port" => tcp = Some(number(value)?),
                "tls-port" => tls = Some(number(value)?),
                _ => return Err("unknown auxiliary field"),
            }
        }
        // The port in front is the plain one, unless the plain one stands among the fields (a TLS bus wrote it).
        self.port = tcp.unwrap_or(port);
        self.tls_port = tls.unwrap_or(if tcp.is_some() { port } else { 0 });
        self.bus_port = match bus_port {
            Some(bus_port) => bus_port,
            None => port.checked_add(10_000).ok_or("no room for a bus port")?,
        };
        Ok(())
    }
}

/// The file's text for a bus.
pub(crate) fn text(bus: &Bus, now: Now) -> String {
    let table = bus.table();
    let mut out = String::new();
    for (ix, node) in table.iter().filter(|(_, node)| !node.has(flags::HANDSHAKE)) {
        // Writing to a string does not fail.
        let _ = write!(
            out,
            "{} {}:{}@{},{}",
            node.id,
            node.ip,
            bus.ordered_ports(node.port, node.tls_port).0,
            node.bus_port,
            node.hostname
        );
        for (name, text) in [("availability-zone", &node.availability_zone)] {
            if !text.is_empty() {
                let _ = write!(out, ",{name}={text}");
            }
        }
        for (name, port) in [
            ("client-tls-port", node.client_tls_port),
            ("client-tcp-port", node.client_port),
        ] {
            if port != 0 {
                let _ = write!(out, ",{name}={port}");
            }
        }
        for (name, text) in [
            ("client-ipv6", &node.client_ipv6),
            ("client-ipv4", &node.client_ipv4),
        ] {
            if !text.is_empty() {
                let _ = write!(out, ",{name}={text}");
            }
        }
        let _ = match bus.config().tls {
            true => write!(out, ",tcp-port={}", node.port),
            false => write!(out, ",tls-port={}", node.tls_port),
        };
        if !node.human_nodename.is_empty() {
            let _ = write!(out, ",nodename={}", node.human_nodename);
        }
        let _ = write!(out, ",shard-id={}", node.shard);
        write_tail(bus, &mut out, ix, node, now);
        out.push('\n');
    }
    let (current, voted) = bus.epochs();
    let _ = writeln!(out, "vars currentEpoch {current} lastVoteEpoch {voted}");
    out
}

/// What `nodes.conf` and `CLUSTER NODES` have in common: from the flags on.
pub(crate) fn write_tail(bus: &Bus, out: &mut String, ix: Ix, node: &Node, now: Now) {
    let table = bus.table();
    let primary = node
        .replica_of
        .map_or("-", |primary| table.node(primary).id.as_str());
    let unix = |at: Option<u64>| at.map_or(0, |at| now.unix_of(at));
    let linked = bus.is_linked(node) || node.has(flags::MYSELF);
    let _ = write!(
        out,
        " {} {primary} {} {} {} {}",
        flag_names(node.flags),
        unix(node.ping_sent),
        unix(node.pong_received),
        table.epoch(ix),
        if linked { "connected" } else { "disconnected" }
    );
    write_slots(out, &node.slots);
    if node.has(flags::MYSELF) {
        let (migrating, importing) = bus.open_slots();
        for (slot, peer) in migrating {
            let _ = write!(out, " [{slot}->-{}]", table.node(*peer).id);
        }
        for (slot, peer) in importing
            .iter()
            .filter(|(slot, _)| !migrating.contains_key(slot))
        {
            let _ = write!(out, " [{slot}-<-{}]", table.node(*peer).id);
        }
    }
}
