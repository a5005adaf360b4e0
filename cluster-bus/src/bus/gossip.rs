//! What others tell of third nodes, and of themselves in extensions.

use super::{Bus, Ix, NODES_MAX, flags};
use crate::ids::{Now, ShardId};
use crate::node::Node;
use crate::wire::{DropReason, Extensions, Gossip, PingBody};
use tracing::info;

/// How far in the future another node's clock may put a pong.
const CLOCK_TOLERANCE_MS: u64 = 500;

/// Longest time that a forgotten node stays away by another's word, in seconds.
const FORGOTTEN_TTL_MAX_S: u64 = 24 * 3600;

/// What may be taken over from the flags in gossip about a node that is new to us.
const TOLD_FLAGS: u16 = flags::PRIMARY
    | flags::REPLICA
    | flags::PFAIL
    | flags::FAIL
    | flags::MIGRATE_TO
    | flags::NOFAILOVER
    | flags::EXTENSIONS
    | flags::LIGHT_PUBLISH
    | flags::LIGHT_MODULE
    | flags::MY_PRIMARY_FAIL;

impl Bus {
    /// Takes the gossip of a node, or with `None` that of a stranger who has just met us (nothing but its existence counts then).
    pub(super) fn take_gossip(&mut self, sender: Option<Ix>, body: &PingBody<'_>, now: Now) {
        let Some(entries) = &body.gossip else {
            // A name that is none: the sender's memory, or the wire, is not to be trusted. Nothing of it is taken.
            self.count_dropped(DropReason::BadNodeId);
            return;
        };
        for entry in entries {
            match self.table.lookup(&entry.node) {
                Some(ix) if ix == self.me => {}
                Some(ix) => self.take_gossip_about(sender, ix, entry, now),
                None => self.add_told_node(sender, entry, now),
            }
        }
    }

    fn take_gossip_about(&mut self, sender: Option<Ix>, ix: Ix, entry: &Gossip<'_>, now: Now) {
        let down = entry.flags & (flags::FAIL | flags::PFAIL) != 0;
        if let Some(sender) = sender {
            if down {
                if self.table.node(sender).votes() {
                    self.report_failure(ix, sender, now);
                }
                self.mark_failing_if_agreed(ix, now);
            } else {
                self.table.node_mut(ix).fail_reports.remove(&sender);
            }
        }
        let node = self.table.node_mut(ix);
        if !down && node.is_normal() && node.ping_sent.is_none() && node.fail_reports.is_empty() {
            // Somebody else had a pong of it: that saves us a ping.
            let told = u64::from(entry.pong_received_s) * 1000;
            if told <= now.unix_ms + CLOCK_TOLERANCE_MS {
                let at = now.mono_ms.saturating_sub(now.unix_ms.saturating_sub(told));
                if node.pong_received.is_none_or(|known| at > known) && told != 0 {
                    node.pong_received = Some(at.min(now.mono_ms));
                }
            }
        }
        if node.has(flags::FAIL | flags::PFAIL)
            && !down
            && entry.flags & flags::NOADDR == 0
            && !entry.address.is_empty()
        {
            // We cannot reach it where we thought it was, another can elsewhere.
            let (port, tls_port) = self.ordered_ports(entry.port, entry.other_port);
            self.set_address(ix, entry.address, port, tls_port, entry.bus_port, now);
        }
    }

    /// A node that we have not heard of. It is added under the name told, not by a handshake with its address: that may
    /// belong to a node of another cluster by now. For the same reason a stranger's word is not enough.
    fn add_told_node(&mut self, sender: Option<Ix>, entry: &Gossip<'_>, now: Now) {
        if sender.is_none()
            || entry.flags & flags::NOADDR != 0
            || entry.address.is_empty()
            || self.is_forgotten(&entry.node, now)
            || self.table.len() >= NODES_MAX
        {
            return;
        }
        let shard = ShardId::from_bytes(self.rng.bytes20());
        let mut node = Node::new(entry.node, shard, entry.flags & TOLD_FLAGS, now.mono_ms);
        node.ip = entry.address.to_owned();
        (node.port, node.tls_port) = self.ordered_ports(entry.port, entry.other_port);
        node.bus_port = entry.bus_port;
        if node.has(flags::FAIL) {
            node.fail_since = now.mono_ms;
        }
        self.table.insert(node);
        self.changed(false);
    }

    /// Takes what a node says of itself. What it does not say, it does not have.
    pub(super) fn take_extensions(&mut self, sender: Ix, ext: &Extensions, now: Now) {
        for gone in &ext.forgotten {
            let Some(ix) = self.table.lookup(&gone.node) else {
                continue;
            };
            if ix != self.me && ix != sender && self.my().replica_of != Some(ix) {
                let ttl_ms = gone.ttl_s.min(FORGOTTEN_TTL_MAX_S) * 1000;
                self.forgotten.insert(gone.node, now.mono_ms + ttl_ms);
                info!(
                    "Node {} was forgotten by {}",
                    gone.node,
                    self.table.node(sender).id
                );
                self.remove_node(ix, now);
            }
        }
        let node = self.table.node_mut(sender);
        let mut news = false;
        for (field, told) in [
            (&mut node.hostname, &ext.hostname),
            (&mut node.human_nodename, &ext.human_nodename),
            (&mut node.availability_zone, &ext.availability_zone),
            (&mut node.client_ipv4, &ext.client_ipv4),
            (&mut node.client_ipv6, &ext.client_ipv6),
        ] {
            if field != told {
                field.clone_from(told);
                news = true;
            }
        }
        if (node.client_port, node.client_tls_port) != (ext.client_port, ext.client_tls_port) {
            (node.client_port, node.client_tls_port) = (ext.client_port, ext.client_tls_port);
            news = true;
        }
        if ext.holdfast.is_some() && node.holdfast != ext.holdfast {
            node.holdfast.clone_from(&ext.holdfast);
            news = true;
        }
        if news {
            self.save(false);
        }
        // A node older than shard ids has its primary's, or keeps the one that we made up.
        let primary = self.table.node(sender).replica_of.unwrap_or(sender);
        let shard = ext.shard.unwrap_or(self.table.node(primary).shard);
        self.set_shard(sender, shard);
    }

    /// A replica is in its primary's shard, whatever it says: the primary's name for it decides.
    pub(super) fn set_shard(&mut self, ix: Ix, shard: ShardId) {
        let node = self.table.node(ix);
        if let Some(primary) = node.replica_of.filter(|_| node.is_replica())
            && self.table.node(primary).shard != shard
        {
            return;
        }
        if node.shard != shard {
            self.table.node_mut(ix).shard = shard;
            self.save(false);
        }
        // Our own shard's name follows our primary's, unless the shard's log gives it.
        if !self.cfg.quorum
            && self.truth.is_none()
            && ix != self.me
            && self.my().replica_of == Some(ix)
            && self.my().shard != shard
        {
            self.table.node_mut(self.me).shard = shard;
            self.save(true);
        }
    }
}
