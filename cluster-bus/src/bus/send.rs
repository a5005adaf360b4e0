//! Building and sending messages.

use super::{Bus, Ix, flags};
use crate::api::Action;
use crate::ids::{LinkId, Now};
use crate::node::Node;
use crate::wire::{
    Extensions, ForgottenNode, GossipOut, HeaderOut, MessageType, encode_bare, encode_fail,
    encode_ping, encode_publish, encode_publish_light, encode_update,
};
use bytes::Bytes;

/// The fewest gossip entries in a ping, if there are as many nodes to tell of.
const GOSSIP_MIN: usize = 3;

impl Bus {
    /// The header of everything that we send. A replica speaks of its primary's slots and epoch.
    fn header(&self) -> HeaderOut<'_> {
        let me = self.my();
        let speaks_of = self
            .table
            .node(me.replica_of.filter(|_| me.is_replica()).unwrap_or(self.me));
        HeaderOut {
            sender: me.id,
            port: self.ordered_ports(me.port, me.tls_port).0,
            other_port: self.ordered_ports(me.port, me.tls_port).1,
            bus_port: me.bus_port,
            current_epoch: self.current_epoch,
            config_epoch: speaks_of.config_epoch,
            offset: me.offset,
            slots: &speaks_of.slots,
            replica_of: me.replica_of.map(|primary| self.table.node(primary).id),
            address: &self.cfg.announce_ip,
            flags: me.flags,
            state: u8::from(self.down.is_some()),
            mflags: 0,
        }
    }

    /// Plain and TLS port in the order in which messages name them, or the other way round: first comes the one of the kind that the
    /// bus itself uses.
    pub(crate) fn ordered_ports(&self, first: u16, second: u16) -> (u16, u16) {
        if self.cfg.tls {
            (second, first)
        } else {
            (first, second)
        }
    }

    fn push(&mut self, link: LinkId, kind: MessageType, packet: Bytes) {
        self.stats.count_sent(kind, packet.len());
        self.actions.push_back(Action::Send { link, packet });
    }

    /// Sends to every node that has a link of ours and whose name is known.
    fn broadcast(&mut self, kind: MessageType, packet: &Bytes) {
        let links: Vec<LinkId> = self.live_links().map(|(_, link)| link).collect();
        for link in links {
            self.push(link, kind, packet.clone());
        }
    }

    fn live_links(&self) -> impl Iterator<Item = (&Node, LinkId)> {
        self.table
            .iter()
            .filter(|(_, node)| !node.has(flags::MYSELF | flags::HANDSHAKE))
            .filter_map(|(_, node)| node.link.map(|link| (node, link)))
            .filter(|(_, link)| self.links.get(link).is_some_and(|link| link.up))
    }

    /// Sends a `PING`, `PONG` or `MEET` with news of some other nodes, and of all suspects.
    pub(super) fn send_ping(&mut self, link_id: LinkId, kind: MessageType, now: Now) {
        let Some(link) = self.links.get(&link_id).filter(|link| link.up) else {
            return;
        };
        let to = link.node;
        let peer = to.map(|ix| self.table.node(ix));
        let extended = link.extensions || peer.is_some_and(|node| node.has(flags::EXTENSIONS));
        let to_holdfast = link.holdfast || peer.is_some_and(|node| node.is_holdfast);
        let inbound = link.inbound;

        let told = self.pick_gossip(to);
        let gossip: Vec<_> = told.iter().map(|ix| self.gossip_about(*ix, now)).collect();
        let extensions = extended.then(|| self.extensions(to_holdfast, now));
        let packet = encode_ping(kind, &self.header(), &gossip, extensions.as_ref());

        if let (false, Some(ix)) = (inbound, to) {
            let node = self.table.node_mut(ix);
            match kind {
                MessageType::Ping => node.ping_sent = Some(now.mono_ms),
                MessageType::Meet => node.meet_sent = Some(now.mono_ms),
                _ => {}
            }
        }
        self.push(link_id, kind, packet);
    }

    /// A tenth of the nodes (by default), but at least three, from a random place on; then every suspect, so that failure
    /// reports spread fast.
    fn pick_gossip(&mut self, to: Option<Ix>) -> Vec<Ix> {
        let places = self.table.places();
        let wanted = (places.len() * usize::from(self.cfg.gossip_percent) / 100)
            .max(GOSSIP_MIN)
            .min(places.len().saturating_sub(2));
        let mut told = Vec::with_capacity(wanted + self.suspects);
        if wanted > 0 {
            let start = self.rng.below(places.len());
            for ix in places.iter().cycle().skip(start).take(places.len()) {
                let node = self.table.node(*ix);
                let dull = node.has(flags::PFAIL | flags::HANDSHAKE | flags::NOADDR)
                    || (node.link.is_none() && node.slot_count == 0);
                if *ix != self.me && Some(*ix) != to && !dull {
                    told.push(*ix);
                    if told.len() == wanted {
                        break;
                    }
                }
            }
        }
        if self.suspects > 0 {
            told.extend(places.into_iter().filter(|ix| {
                let node = self.table.node(*ix);
                node.has(flags::PFAIL) && !node.has(flags::HANDSHAKE | flags::NOADDR)
            }));
        }
        told
    }

    fn gossip_about(&self, ix: Ix, now: Now) -> GossipOut<'_> {
        let node = self.table.node(ix);
        let seconds = |at: Option<u64>| at.map_or(0, |at| (now.unix_of(at) / 1000) as u32);
        GossipOut {
            node: node.id,
            ping_sent_s: seconds(node.ping_sent),
            pong_received_s: seconds(node.pong_received),
            address: &node.ip,
            port: self.ordered_ports(node.port, node.tls_port).0,
            bus_port: node.bus_port,
            flags: node.flags,
            other_port: self.ordered_ports(node.port, node.tls_port).1,
        }
    }

    fn extensions(&self, to_holdfast: bool, now: Now) -> Extensions {
        let me = self.my();
        let forgotten = self
            .forgotten
            .iter()
            .filter(|(_, until)| **until > now.mono_ms)
            .map(|(node, until)| ForgottenNode {
                node: *node,
                ttl_s: (until - now.mono_ms).div_ceil(1000),
            })
            .collect();
        Extensions {
            hostname: me.hostname.clone(),
            human_nodename: me.human_nodename.clone(),
            forgotten,
            shard: Some(me.shard),
            client_ipv4: me.client_ipv4.clone(),
            client_ipv6: me.client_ipv6.clone(),
            client_port: me.client_port,
            client_tls_port: me.client_tls_port,
            availability_zone: me.availability_zone.clone(),
            holdfast: me.holdfast.clone().filter(|_| to_holdfast),
        }
    }

    /// Tells every node our role, slots and epoch now, without waiting for the next ping.
    pub(super) fn broadcast_pong(&mut self, now: Now) {
        let links: Vec<LinkId> = self.live_links().map(|(_, link)| link).collect();
        for link in links {
            self.send_ping(link, MessageType::Pong, now);
        }
    }

    pub(super) fn send_fail(&mut self, failed: Ix) {
        let packet = encode_fail(&self.header(), &self.table.node(failed).id);
        self.broadcast(MessageType::Fail, &packet);
    }

    /// Tells `to` who owns what it claims. Slots that the owner itself has stopped claiming are left out.
    pub(super) fn send_update(&mut self, to: Ix, about: Ix) {
        let Some(link) = self
            .table
            .node(to)
            .link
            .filter(|link| self.links.get(link).is_some_and(|l| l.up))
        else {
            return;
        };
        let node = self.table.node(about);
        let mut slots = node.slots.clone();
        slots.subtract(&self.not_claimed);
        let packet = encode_update(&self.header(), &node.id, node.config_epoch, &slots);
        self.push(link, MessageType::Update, packet);
    }

    pub(super) fn send_vote(&mut self, to: Ix) {
        let Some(link) = self
            .table
            .node(to)
            .link
            .filter(|link| self.links.get(link).is_some_and(|l| l.up))
        else {
            return;
        };
        let packet = encode_bare(MessageType::FailoverAuthAck, &self.header());
        self.push(link, MessageType::FailoverAuthAck, packet);
    }

    /// Asks our primary to hand its office to us: the message with which a Valkey replica begins a manual failover. False if
    /// there is no primary, or no link to it.
    pub fn request_failover(&mut self) -> bool {
        let link = self
            .my()
            .replica_of
            .and_then(|primary| self.table.node(primary).link);
        let Some(link) = link.filter(|link| self.links.get(link).is_some_and(|l| l.up)) else {
            return false;
        };
        let packet = encode_bare(MessageType::MfStart, &self.header());
        self.push(link, MessageType::MfStart, packet);
        true
    }

    /// Passes a client's message on: to all nodes, or with `sharded` to those of this node's shard.
    pub fn publish(&mut self, sharded: bool, channel: &[u8], message: &[u8]) {
        let kind = if sharded {
            MessageType::PublishShard
        } else {
            MessageType::Publish
        };
        let shard = self.my().shard;
        let mut targets = Vec::new();
        for (node, link) in self.live_links() {
            if sharded && node.shard != shard {
                continue;
            }
            // A light message says nothing of its sender, so the other end must know it by this very link.
            let greeted = self
                .links
                .get(&link)
                .is_some_and(|l| node.pong_received.is_some_and(|at| at >= l.created));
            targets.push((link, greeted && node.has(flags::LIGHT_PUBLISH)));
        }
        let full = targets
            .iter()
            .any(|(_, light)| !light)
            .then(|| encode_publish(&self.header(), sharded, channel, message));
        let light = targets
            .iter()
            .any(|(_, light)| *light)
            .then(|| encode_publish_light(sharded, channel, message));
        for (link, is_light) in targets {
            if let Some(packet) = if is_light { &light } else { &full } {
                self.push(link, kind, packet.clone());
            }
        }
    }
}
