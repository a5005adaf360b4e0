//! What the bus is told and what it asks for.

use crate::ids::{LinkId, NodeId, ShardId};
use crate::slots::SlotSet;
use crate::wire::{DropReason, MESSAGE_TYPES, MessageType};
use bytes::Bytes;

/// The bus's settings. All may be changed while it runs, through [`crate::Bus::reconfigure`].
#[derive(Clone, Debug)]
pub struct BusConfig {
    /// `cluster-node-timeout`: silence for so long makes a node suspect.
    pub node_timeout_ms: u64,
    /// `cluster-ping-interval`; `None` is half the time-out.
    pub ping_interval_ms: Option<u64>,
    /// `cluster-require-full-coverage`.
    pub require_full_coverage: bool,
    /// `cluster-blacklist-ttl`.
    pub blacklist_ttl_s: u64,
    /// `cluster-message-gossip-perc`: share of the known nodes that a ping tells about, in percent.
    pub gossip_percent: u8,
    /// `cluster-link-sendbuf-limit`, in bytes; 0 is none.
    pub link_sendbuf_limit: u64,
    /// `cluster-announce-ip`; empty to let others take it from the socket.
    pub announce_ip: String,
    /// Clients' port, as announced.
    pub port: u16,
    /// Clients' TLS port, as announced; 0 if none.
    pub tls_port: u16,
    /// The bus runs over TLS: nodes then know each other by their TLS ports first.
    pub tls: bool,
    /// Bus port, as announced.
    pub bus_port: u16,
    /// `cluster-announce-hostname`.
    pub hostname: String,
    /// `cluster-announce-human-nodename`.
    pub human_nodename: String,
    /// `availability-zone`.
    pub availability_zone: String,
    /// `cluster-announce-client-ipv4`.
    pub client_ipv4: String,
    /// `cluster-announce-client-ipv6`.
    pub client_ipv6: String,
    /// `cluster-announce-client-port`; 0 if none.
    pub client_port: u16,
    /// `cluster-announce-client-tls-port`; 0 if none.
    pub client_tls_port: u16,
    /// `cluster-replica-no-failover`.
    pub no_failover: bool,
    /// The shard is under `durability quorum`: its slots and roles come from [`crate::Bus::set_self`].
    pub quorum: bool,
    /// This node is a witness.
    pub witness: bool,
    /// Where this node's Raft server listens, as `host:port`; empty if it has none.
    pub raft_addr: String,
}

impl Default for BusConfig {
    /// Valkey's defaults, on port 6379.
    fn default() -> Self {
        BusConfig {
            node_timeout_ms: 15_000,
            ping_interval_ms: None,
            require_full_coverage: true,
            blacklist_ttl_s: 60,
            gossip_percent: 10,
            link_sendbuf_limit: 0,
            announce_ip: String::new(),
            port: 6379,
            tls_port: 0,
            tls: false,
            bus_port: 16379,
            hostname: String::new(),
            human_nodename: String::new(),
            availability_zone: String::new(),
            client_ipv4: String::new(),
            client_ipv6: String::new(),
            client_port: 0,
            client_tls_port: 0,
            no_failover: false,
            quorum: false,
            witness: false,
            raft_addr: String::new(),
        }
    }
}

/// What the bus asks its driver to do, in this order.
///
/// The order matters: a [`Action::Persist`] that says `sync` must be on disk before any later action is carried out.
/// A vote, say, is persisted before it is sent, or a restart could vote twice in one epoch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// Open a connection; answer with `on_connected` or `on_disconnected`.
    Connect {
        /// The link that it will be.
        link: LinkId,
        /// Host, as text of an address.
        host: String,
        /// Bus port.
        port: u16,
    },
    /// Send one whole message.
    Send {
        /// Where.
        link: LinkId,
        /// The message.
        packet: Bytes,
    },
    /// Close a connection. The bus has forgotten the link already; no `on_disconnected` is needed.
    Close {
        /// Which.
        link: LinkId,
    },
    /// Replace `nodes.conf` by this text: write a new file, rename it over the old one.
    Persist {
        /// The whole file.
        text: String,
        /// Sync file and folder before going on.
        sync: bool,
    },
    /// What routing depends on has changed: publish a new table. At most one per round of actions.
    ViewChanged,
    /// Hand a message to this node's subscribers.
    Publish {
        /// A shard channel.
        sharded: bool,
        /// The channel.
        channel: Bytes,
        /// The message.
        message: Bytes,
    },
    /// Under `durability quorum`: this replica of ours was told to take over (`CLUSTER FAILOVER`). Transfer the leadership to it.
    FailoverRequested {
        /// The replica.
        replica: NodeId,
    },
    /// Under `durability async`: these slots of ours went to another node. Their keys must go.
    SlotsLost {
        /// The slots.
        slots: SlotSet,
    },
}

/// What a quorum shard's log says about this node; see [`crate::Bus::set_self`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ShardTruth {
    /// The shard: the id of the Raft group.
    pub shard: ShardId,
    /// This node's part in it.
    pub role: ShardRole,
    /// The slots that the shard owns, as far as this node has applied the log.
    pub slots: SlotSet,
    /// Slots that it has handed off, and to which shards, while these have not said yet that they have them: the leader goes
    /// on answering for them (its clients are redirected, not told that nobody serves the slot) until a primary of
    /// that shard claims them.
    pub leaving: Vec<(SlotSet, ShardId)>,
}

impl ShardTruth {
    /// The shard that a slot has been handed off to.
    pub(crate) fn leaves_to(&self, slot: u16) -> Option<ShardId> {
        self.leaving
            .iter()
            .find(|(slots, _)| slots.contains(slot))
            .map(|(_, shard)| *shard)
    }
}

/// A node's part in its quorum shard.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ShardRole {
    /// It leads, and its first entry has been committed.
    Leader,
    /// It follows, or does not know whom to follow.
    Follower {
        /// The leader, if there is a known one.
        leader: Option<NodeId>,
    },
    /// It is a witness: on the bus a primary without slots, in a shard of its own name.
    Witness,
}

/// Counters for `CLUSTER INFO` and metrics.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    /// Messages sent, by [`MessageType`].
    pub sent: [u64; MESSAGE_TYPES],
    /// Messages received and understood, by [`MessageType`].
    pub received: [u64; MESSAGE_TYPES],
    /// Bytes of messages sent.
    pub bytes_sent: u64,
    /// Bytes of messages received.
    pub bytes_received: u64,
    /// Of those sent, bytes of `PUBLISH` and `PUBLISHSHARD`.
    pub pubsub_bytes_sent: u64,
    /// Of those received, bytes of `PUBLISH` and `PUBLISHSHARD`.
    pub pubsub_bytes_received: u64,
    /// Of those received, bytes of `MODULE`. We send none.
    pub module_bytes_received: u64,
    /// Messages dropped, by [`DropReason::index`].
    pub dropped: [u64; DropReason::ALL.len()],
    /// Links closed because too much waited to be sent on them.
    pub links_over_limit: u64,
}

impl Stats {
    pub(crate) fn count_sent(&mut self, kind: MessageType, bytes: usize) {
        self.sent[kind as usize] += 1;
        self.bytes_sent += bytes as u64;
        if matches!(kind, MessageType::Publish | MessageType::PublishShard) {
            self.pubsub_bytes_sent += bytes as u64;
        }
    }

    pub(crate) fn count_received(&mut self, kind: MessageType, bytes: usize) {
        self.received[kind as usize] += 1;
        self.bytes_received += bytes as u64;
        match kind {
            MessageType::Publish | MessageType::PublishShard => {
                self.pubsub_bytes_received += bytes as u64
            }
            MessageType::Module => self.module_bytes_received += bytes as u64,
            _ => {}
        }
    }
}
