//! The bus as a state machine.
//!
//! # How to drive it
//!
//! 1. Tell it what happened: [`Bus::on_accepted`], [`Bus::on_connected`], [`Bus::on_disconnected`],
//!    [`Bus::on_packet`], ten times a second [`Bus::on_tick`]; or change something: [`Bus::meet`], [`Bus::set_self`] ….
//! 2. Then carry out [`Bus::poll_action`] until it returns `None`, in order.
//!
//! The bus does nothing by itself and knows no other time than the [`Now`] that comes with each call. Under one seed
//! and the same calls it gives the same actions.

mod claims;
mod failure;
mod gossip;
mod membership;
mod own;
mod receive;
mod send;
mod tick;

use crate::api::{Action, BusConfig, ShardTruth, Stats};
use crate::conf::NodesConf;
use crate::ids::{LinkId, NodeId, Now, Rng, ShardId};
use crate::node::{Ix, Node, Table};
use crate::slots::SlotSet;
use crate::wire::{DropReason, flags};
use std::collections::{BTreeMap, VecDeque};

pub use membership::{ForgetError, MeetError};
pub use own::{EpochError, SlotError};

/// Nodes beyond this number are not added: ten times what gossip is known to bear.
pub const NODES_MAX: usize = 16_384;

/// Handshakes at one time. An operator starts a handful; a foe that forges `MEET`s must not fill the table.
const HANDSHAKES_MAX: usize = 1024;

/// A connection.
#[derive(Debug)]
struct Link {
    /// Whose it is; `None` for an accepted one until its first message.
    node: Option<Ix>,
    inbound: bool,
    created: u64,
    created_unix: u64,
    up: bool,
    /// The other end, as text of an address; empty if not known.
    peer_ip: String,
    /// Our end, as text of an address; empty if not known.
    local_ip: String,
    extensions: bool,
    holdfast: bool,
    /// Bytes that wait to be sent, as the driver says.
    queued: u64,
}

/// What is to be done once, before the next actions are handed out.
#[derive(Default, Debug)]
struct Todo {
    save: bool,
    sync: bool,
    state: bool,
    broadcast: bool,
    view: bool,
}

/// Why the cluster is down.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DownReason {
    /// A slot has no owner, or one that has failed, and `cluster-require-full-coverage` is on.
    NotCovered,
    /// This node can reach a minority of the primaries only.
    Minority,
}

/// The bus. See the [module's documentation](self) for how to drive it.
#[derive(Debug)]
pub struct Bus {
    cfg: BusConfig,
    rng: Rng,
    table: Table,
    me: Ix,
    links: BTreeMap<LinkId, Link>,
    next_link: u64,
    current_epoch: u64,
    last_vote_epoch: u64,
    /// `None`: the cluster is ok.
    down: Option<DownReason>,
    safe_to_vote: bool,
    /// Primaries with slots.
    size: usize,
    started: u64,
    minority_at: Option<u64>,
    /// Forgotten nodes, and until when (monotonic milliseconds) they are not added again.
    forgotten: BTreeMap<NodeId, u64>,
    migrating: BTreeMap<u16, Ix>,
    importing: BTreeMap<u16, Ix>,
    /// Slots that their owner no longer claims: not to be spread as its own.
    not_claimed: SlotSet,
    /// Under `durability quorum`: what the shard's log says.
    truth: Option<ShardTruth>,
    /// A leader that the log names and the table does not know yet.
    leader_wanted: Option<NodeId>,
    /// When our claim was last raised above a foreign one.
    reclaimed_at: Option<u64>,
    todo: Todo,
    actions: VecDeque<Action>,
    view_version: u64,
    iteration: u64,
    suspects: usize,
    stats: Stats,
}

impl Bus {
    /// A node that has never been in a cluster. `seed` need not be secret, only different from other nodes'.
    pub fn new(cfg: BusConfig, id: NodeId, shard: ShardId, seed: u64, now: Now) -> Bus {
        let mut table = Table::new();
        let me = table.insert(Node::new(
            id,
            shard,
            flags::MYSELF | flags::PRIMARY,
            now.mono_ms,
        ));
        let mut bus = Bus::with_table(cfg, table, me, seed, now);
        bus.save(true);
        bus
    }

    /// A node that comes back with its `nodes.conf`.
    pub fn restore(cfg: BusConfig, conf: &NodesConf, seed: u64, now: Now) -> Bus {
        let (table, me) = conf.to_table(now);
        let mut bus = Bus::with_table(cfg, table, me, seed, now);
        bus.last_vote_epoch = conf.last_vote_epoch;
        bus.current_epoch = conf.current_epoch.max(bus.max_epoch());
        for (slot, node) in &conf.migrating {
            if let Some(ix) = bus.table.lookup(node) {
                bus.migrating.insert(*slot, ix);
            }
        }
        for (slot, node) in &conf.importing {
            if let Some(ix) = bus.table.lookup(node) {
                bus.importing.insert(*slot, ix);
            }
        }
        bus
    }

    fn with_table(cfg: BusConfig, table: Table, me: Ix, seed: u64, now: Now) -> Bus {
        let mut bus = Bus {
            cfg: BusConfig::default(),
            rng: Rng::new(seed),
            table,
            me,
            links: BTreeMap::new(),
            next_link: 1,
            current_epoch: 0,
            last_vote_epoch: 0,
            down: Some(DownReason::NotCovered),
            safe_to_vote: false,
            size: 1,
            started: now.mono_ms,
            minority_at: None,
            forgotten: BTreeMap::new(),
            migrating: BTreeMap::new(),
            importing: BTreeMap::new(),
            not_claimed: SlotSet::new(),
            truth: None,
            leader_wanted: None,
            reclaimed_at: None,
            todo: Todo {
                state: true,
                view: true,
                ..Todo::default()
            },
            actions: VecDeque::new(),
            view_version: 0,
            iteration: 0,
            suspects: 0,
            stats: Stats::default(),
        };
        bus.reconfigure(cfg);
        bus
    }

    /// Takes new settings.
    pub fn reconfigure(&mut self, cfg: BusConfig) {
        let me = self.table.node_mut(self.me);
        me.set(
            flags::EXTENSIONS | flags::LIGHT_PUBLISH | flags::LIGHT_MODULE,
            true,
        );
        me.set(flags::NOFAILOVER, cfg.no_failover);
        me.hostname.clone_from(&cfg.hostname);
        me.human_nodename.clone_from(&cfg.human_nodename);
        me.availability_zone.clone_from(&cfg.availability_zone);
        me.client_ipv4.clone_from(&cfg.client_ipv4);
        me.client_ipv6.clone_from(&cfg.client_ipv6);
        me.client_port = cfg.client_port;
        me.client_tls_port = cfg.client_tls_port;
        me.port = cfg.port;
        me.tls_port = cfg.tls_port;
        me.bus_port = cfg.bus_port;
        if !cfg.announce_ip.is_empty() {
            me.ip.clone_from(&cfg.announce_ip);
        }
        me.is_holdfast = true;
        me.holdfast = Some(crate::wire::HoldfastInfo {
            raft_addr: cfg.raft_addr.clone(),
            witness: cfg.witness,
            quorum: cfg.quorum,
        });
        self.cfg = cfg;
        self.save(false);
        self.todo.state = true;
    }

    /// The next thing to do; `None` when all is done. Call it after every event until then.
    pub fn poll_action(&mut self, now: Now) -> Option<Action> {
        self.settle(now);
        let action = self.actions.pop_front()?;
        Some(action)
    }

    /// Turns what has been noted into actions. What must be on disk first goes in front of what is waiting.
    fn settle(&mut self, now: Now) {
        if std::mem::take(&mut self.todo.state) {
            self.update_state(now);
        }
        if self.todo.sync {
            self.todo.sync = false;
            self.todo.save = false;
            let text = self.conf_text(now);
            self.actions
                .push_front(Action::Persist { text, sync: true });
        }
        if std::mem::take(&mut self.todo.broadcast) {
            self.broadcast_pong(now);
        }
        if std::mem::take(&mut self.todo.view) {
            self.view_version += 1;
            self.actions.push_back(Action::ViewChanged);
        }
    }

    /// Notes that `nodes.conf` has changed: written at the next tick, or with `sync` before anything else leaves.
    fn save(&mut self, sync: bool) {
        self.todo.save = true;
        self.todo.sync |= sync;
        self.todo.view = true;
    }

    /// Notes a change of nodes or slots that the state of the cluster may depend on.
    fn changed(&mut self, sync: bool) {
        self.save(sync);
        self.todo.state = true;
    }

    fn conf_text(&self, now: Now) -> String {
        crate::conf::text(self, now)
    }

    /// The whole of `nodes.conf` as it is now, for `CLUSTER SAVECONFIG`: to be written and synced by the caller.
    pub fn nodes_conf(&mut self, now: Now) -> String {
        self.todo.save = false;
        self.todo.sync = false;
        self.conf_text(now)
    }

    /// A connection was accepted. Both addresses are text without a port, empty if not known.
    pub fn on_accepted(&mut self, peer_ip: &str, local_ip: &str, now: Now) -> LinkId {
        let id = self.new_link(None, now);
        if let Some(link) = self.links.get_mut(&id) {
            link.inbound = true;
            link.up = true;
            link.peer_ip = peer_ip.into();
            link.local_ip = local_ip.into();
        }
        id
    }

    fn new_link(&mut self, node: Option<Ix>, now: Now) -> LinkId {
        let id = LinkId(self.next_link);
        self.next_link += 1;
        let link = Link {
            node,
            inbound: false,
            created: now.mono_ms,
            created_unix: now.unix_ms,
            up: false,
            peer_ip: String::new(),
            local_ip: String::new(),
            extensions: false,
            holdfast: false,
            queued: 0,
        };
        self.links.insert(id, link);
        id
    }

    /// A connection that [`Action::Connect`] asked for stands. Both addresses are text without a port.
    pub fn on_connected(&mut self, id: LinkId, peer_ip: &str, local_ip: &str, now: Now) {
        let Some(link) = self.links.get_mut(&id) else {
            return;
        };
        link.up = true;
        link.peer_ip = peer_ip.into();
        link.local_ip = local_ip.into();
        let Some(ix) = link.node else { return };
        // A ping at once, so that the time in which no link stood is not counted as silence; but one that
        // was pending before keeps its time, or a node that only accepts connections would look alive.
        let pending = self.table.node(ix).ping_sent;
        let meet = self.table.node(ix).has(flags::MEET);
        let kind = if meet {
            crate::wire::MessageType::Meet
        } else {
            crate::wire::MessageType::Ping
        };
        self.send_ping(id, kind, now);
        if pending.is_some() {
            self.table.node_mut(ix).ping_sent = pending;
        }
    }

    /// A connection ended, or could not be opened.
    pub fn on_disconnected(&mut self, id: LinkId, now: Now) {
        let Some(link) = self.links.get(&id) else {
            return;
        };
        // A connection that was refused counts as a ping without an answer: silence must be noticed.
        if let (false, Some(ix)) = (link.inbound, link.node) {
            self.table.node_mut(ix).ping_sent.get_or_insert(now.mono_ms);
        }
        self.drop_link(id, now);
    }

    /// How many bytes wait to be sent on a link, for `CLUSTER LINKS` and `cluster-link-sendbuf-limit`.
    pub fn on_send_queue(&mut self, id: LinkId, bytes: u64) {
        if let Some(link) = self.links.get_mut(&id) {
            link.queued = bytes;
        }
    }

    /// Counts bytes that were not even a message: the driver closes such a connection.
    pub fn count_dropped(&mut self, reason: DropReason) {
        self.stats.dropped[reason.index()] += 1;
    }

    /// Forgets a link without closing it.
    fn drop_link(&mut self, id: LinkId, now: Now) {
        let Some(link) = self.links.remove(&id) else {
            return;
        };
        let Some(ix) = link.node else { return };
        let node = self.table.node_mut(ix);
        if node.link == Some(id) {
            node.link = None;
        }
        if node.inbound == Some(id) {
            node.inbound = None;
            node.inbound_freed = now.mono_ms;
        }
    }

    /// Forgets a link and has it closed.
    fn close_link(&mut self, id: LinkId, now: Now) {
        if self.links.contains_key(&id) {
            self.drop_link(id, now);
            self.actions.push_back(Action::Close { link: id });
        }
    }

    /// Counters.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// The settings.
    pub fn config(&self) -> &BusConfig {
        &self.cfg
    }

    /// Sets this node's replication offset, in bytes, as headers carry it.
    pub fn set_offset(&mut self, offset: u64) {
        let me = self.table.node_mut(self.me);
        // Whether it is zero decides whether a replica is shown to clients.
        self.todo.view |= (me.offset == 0) != (offset == 0);
        me.offset = offset;
    }

    /// The greatest config epoch that is known.
    fn max_epoch(&self) -> u64 {
        self.table
            .iter()
            .map(|(_, node)| node.config_epoch)
            .max()
            .unwrap_or(0)
            .max(self.current_epoch)
    }

    fn my(&self) -> &Node {
        self.table.node(self.me)
    }

    pub(crate) fn version(&self) -> u64 {
        self.view_version
    }

    pub(crate) fn shard_truth(&self) -> Option<&ShardTruth> {
        self.truth.as_ref()
    }

    pub(crate) fn table(&self) -> &Table {
        &self.table
    }

    pub(crate) fn me_ix(&self) -> Ix {
        self.me
    }

    pub(crate) fn open_slots(&self) -> (&BTreeMap<u16, Ix>, &BTreeMap<u16, Ix>) {
        (&self.migrating, &self.importing)
    }

    pub(crate) fn epochs(&self) -> (u64, u64) {
        (self.current_epoch, self.last_vote_epoch)
    }

    /// Whether a link of ours to the node stands.
    pub(crate) fn is_linked(&self, node: &Node) -> bool {
        node.link
            .and_then(|link| self.links.get(&link))
            .is_some_and(|link| link.up)
    }

    pub(crate) fn link_facts(&self, id: LinkId) -> Option<(bool, u64, u64)> {
        self.links
            .get(&id)
            .map(|link| (link.inbound, link.created_unix, link.queued))
    }
}
