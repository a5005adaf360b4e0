//! The cluster's part of the control thread: bus, CLUSTER commands, routing table, messages for subscribers.
//!
//! [`ClusterHost`] brings [`BusNode`] and [`ClusterCtl`] together with the executor. Its owner runs one loop, handing in
//! the shard's [`ShardControl`] with each call; see `control`.
//!
//! ```text
//! loop {
//!     select! {
//!         event = host.next_event() => host.on_event(event, &mut shard),
//!         ToControl::Command { … }  => host.on_command(token, argv, client, &mut shard),
//!         a request has an outcome  => host.complete(token, result),
//!         the log's news            => host.node.bus.set_self(…),
//!     }
//!     host.settle().await?;
//! }
//! ```
//!
//! Nothing here waits for the executor: what does not fit into its queue stays in [`ClusterHost`]'s own and is tried again
//! at the next step, so that a long script does not make this node look dead.

use super::{
    Call, ClusterCtl, ClusterOptions, EndpointType, Outcome, ShardControl, ShardError, Token,
    routing_of,
};
use crate::bus::{BusEvent, BusNode, BusOutput, BusStartError};
use crate::config::{Config, is_plain};
use crate::executor::Executor;
use crate::seam::{ClientInfo, DeferredToken, ExecutorHandle, ToExecutor};
use crate::tls::Tls;
use bytes::Bytes;
use holdfast_cluster_bus::{BusConfig, NodeId};
use holdfast_raft_log::disk::Disk;
use holdfast_resp::write;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Messages for subscribers that wait for the executor; older ones are dropped, as for a subscriber that is too slow.
const PUBLISH_WAITING_MAX: usize = 4096;
/// From the clients' port to the bus port.
const BUS_PORT_OFFSET: u16 = 10_000;

/// A command whose client's keyspace has been looked at.
#[derive(Debug)]
pub struct LookedUp {
    token: DeferredToken,
    argv: Vec<Bytes>,
    client: ClientInfo,
    keyspace_empty: bool,
    keys_in_slot: u64,
}

/// What has happened; made by [`ClusterHost::next_event`], taken by [`ClusterHost::on_event`].
#[derive(Debug)]
pub enum HostEvent {
    /// On the bus.
    Bus(BusEvent),
    /// The executor has said what a command needs to know.
    LookedUp(LookedUp),
}

/// See the module's description.
#[derive(Debug)]
pub struct ClusterHost {
    /// The bus. After a change, call [`ClusterHost::settle`].
    pub node: BusNode,
    /// The CLUSTER commands.
    pub ctl: ClusterCtl,
    executor: ExecutorHandle,
    clients: BTreeMap<Token, DeferredToken>,
    replies: VecDeque<ToExecutor>,
    publishes: VecDeque<ToExecutor>,
    routing_due: bool,
    failover_to: Option<NodeId>,
    /// Where the bus listens.
    listen_port: u16,
    looked_up: mpsc::UnboundedReceiver<LookedUp>,
    looked_up_in: mpsc::UnboundedSender<LookedUp>,
}

fn port_of(config: &Config, name: &str) -> u16 {
    u16::try_from(config.int(name)).unwrap_or(0)
}

fn first_nonzero(ports: [u16; 2]) -> u16 {
    ports.into_iter().find(|port| *port != 0).unwrap_or(0)
}

/// The port of the clients that the other ports are counted from: the one that the bus is of a kind with.
pub(crate) fn base_port(config: &Config) -> u16 {
    let (plain, tls) = (port_of(config, "port"), port_of(config, "tls-port"));
    if config.yes("tls-cluster") {
        first_nonzero([tls, plain])
    } else {
        first_nonzero([plain, tls])
    }
}

/// The port that the bus listens on.
fn listen_port(config: &Config) -> u16 {
    let default = base_port(config).saturating_add(BUS_PORT_OFFSET);
    first_nonzero([port_of(config, "cluster-port"), default])
}

/// The bus's settings from the server's. `raft_addr` is where this node's Raft server is reached; empty if there is none.
pub fn bus_config(config: &Config, raft_addr: &str) -> BusConfig {
    let port = port_of(config, "port");
    let text = |name: &str| config.get(name).to_owned();
    let number = |name: &str| u64::try_from(config.int(name)).unwrap_or(0);
    BusConfig {
        node_timeout_ms: number("cluster-node-timeout").max(1),
        ping_interval_ms: Some(number("cluster-ping-interval")).filter(|interval| *interval != 0),
        require_full_coverage: config.yes("cluster-require-full-coverage"),
        blacklist_ttl_s: number("cluster-blacklist-ttl"),
        gossip_percent: u8::try_from(config.int("cluster-message-gossip-perc")).unwrap_or(10),
        link_sendbuf_limit: config.size("cluster-link-sendbuf-limit") as u64,
        announce_ip: text("cluster-announce-ip"),
        port: first_nonzero([port_of(config, "cluster-announce-port"), port]),
        tls_port: first_nonzero([
            port_of(config, "cluster-announce-tls-port"),
            port_of(config, "tls-port"),
        ]),
        tls: config.yes("tls-cluster"),
        bus_port: first_nonzero([
            port_of(config, "cluster-announce-bus-port"),
            listen_port(config),
        ]),
        hostname: text("cluster-announce-hostname"),
        human_nodename: text("cluster-announce-human-nodename"),
        // Any text is accepted, also what others could not read in `nodes.conf`.
        availability_zone: Some(text("availability-zone"))
            .filter(|zone| is_plain(zone))
            .unwrap_or_default(),
        client_ipv4: text("cluster-announce-client-ipv4"),
        client_ipv6: text("cluster-announce-client-ipv6"),
        client_port: port_of(config, "cluster-announce-client-port"),
        client_tls_port: port_of(config, "cluster-announce-client-tls-port"),
        no_failover: config.yes("cluster-replica-no-failover"),
        quorum: config.get("durability") == "quorum",
        witness: config.yes("witness"),
        raft_addr: raft_addr.to_owned(),
    }
}

/// The settings of what clients are told.
pub fn cluster_options(config: &Config) -> ClusterOptions {
    ClusterOptions {
        endpoint: match config.get("cluster-preferred-endpoint-type") {
            "hostname" => EndpointType::Hostname,
            "unknown-endpoint" => EndpointType::Unknown,
            _ => EndpointType::Ip,
        },
        reads_when_down: config.yes("cluster-allow-reads-when-down"),
        pubsubshard_when_down: config.yes("cluster-allow-pubsubshard-when-down"),
    }
}

impl ClusterHost {
    /// Reads or makes `nodes.conf` and listens on the bus port. `id` is this node's name if its log has given it one.
    pub async fn start(
        config: &Config,
        disk: Arc<dyn Disk>,
        executor: ExecutorHandle,
        raft_addr: &str,
        id: Option<NodeId>,
        tls: Tls,
    ) -> Result<ClusterHost, BusStartError> {
        let bind: Vec<String> = config
            .get("bind")
            .split_whitespace()
            .map(str::to_owned)
            .collect();
        let conf_path = config.path(config.get("cluster-config-file"));
        let bus = bus_config(config, raft_addr);
        let node =
            BusNode::start(bus, disk, conf_path, &bind, listen_port(config), id, tls).await?;
        let (looked_up_in, looked_up) = mpsc::unbounded_channel();
        Ok(ClusterHost {
            node,
            ctl: ClusterCtl::new(cluster_options(config)),
            executor,
            clients: BTreeMap::new(),
            replies: VecDeque::new(),
            publishes: VecDeque::new(),
            routing_due: true,
            failover_to: None,
            listen_port: listen_port(config),
            looked_up,
            looked_up_in,
        })
    }

    /// The next thing that happens. May be dropped and called again without loss.
    pub async fn next_event(&mut self) -> HostEvent {
        tokio::select! {
            biased;
            Some(command) = self.looked_up.recv() => HostEvent::LookedUp(command),
            event = self.node.next_event() => HostEvent::Bus(event),
        }
    }

    /// Takes an event.
    pub async fn on_event(&mut self, event: HostEvent, shard: &mut dyn ShardControl) {
        match event {
            HostEvent::Bus(event) => {
                let tick = matches!(event, BusEvent::Tick);
                self.node.on_event(event);
                if tick {
                    let now = self.node.now();
                    for done in self.ctl.on_tick(&self.node.bus, shard, now) {
                        self.reply(done.token, done.reply);
                    }
                }
            }
            HostEvent::LookedUp(command) => self.run(command, shard).await,
        }
    }

    /// A client's CLUSTER command, or an `INFO` with what stands before and behind `# Cluster Info`'s lines.
    pub async fn on_command(
        &mut self,
        token: DeferredToken,
        argv: Vec<Bytes>,
        client: ClientInfo,
        shard: &mut dyn ShardControl,
    ) {
        let mut command = LookedUp {
            token,
            argv,
            client,
            keyspace_empty: false,
            keys_in_slot: 0,
        };
        let looks = ["flushslots", "replicate", "reset", "setslot"];
        let named = command.argv.get(1).is_some_and(|name| {
            looks
                .iter()
                .any(|l| name.eq_ignore_ascii_case(l.as_bytes()))
        });
        if !named {
            return self.run(command, shard).await;
        }
        // The executor may be busy: this must not hold the bus up.
        let slot = ClusterCtl::setslot_slot(&command.argv);
        let (executor, back) = (self.executor.clone(), self.looked_up_in.clone());
        tokio::task::spawn(async move {
            let facts = executor.run(move |executor| {
                let empty =
                    (0..executor.settings.databases).all(|db| executor.engine.dbsize(db) == 0);
                (
                    empty,
                    slot.map_or(0, |slot| executor.engine.slot_count(slot) as u64),
                )
            });
            if let Ok((keyspace_empty, keys_in_slot)) = facts.await {
                command.keyspace_empty = keyspace_empty;
                command.keys_in_slot = keys_in_slot;
                // The control thread ends only with the process.
                let _ = back.send(command);
            }
        });
    }

    async fn run(&mut self, command: LookedUp, shard: &mut dyn ShardControl) {
        let mut reply = Vec::new();
        // The rest of the text is the executor's.
        if let [name, before, behind] = &command.argv[..]
            && name.eq_ignore_ascii_case(b"info")
        {
            let text = [&before[..], self.node.bus.info().as_bytes(), behind].concat();
            write::verbatim(&mut reply, command.client.proto, b"txt", &text);
            return self.replies.push_back(ToExecutor::Reply {
                token: command.token,
                bytes: reply,
            });
        }
        let call = Call {
            argv: &command.argv,
            proto: command.client.proto,
            keyspace_empty: command.keyspace_empty,
            keys_in_slot: command.keys_in_slot,
            tls: command.client.tls,
            now: self.node.now(),
        };
        match self
            .ctl
            .command(&mut self.node.bus, shard, &call, &mut reply)
        {
            Outcome::Done => {}
            Outcome::Pending(token) => {
                self.clients.insert(token, command.token);
                return;
            }
            Outcome::SaveConf => ClusterCtl::saved(self.node.save_conf().await, &mut reply),
        }
        // What a client has been told must be true after a restart, too: `settle` writes nodes.conf before this leaves.
        self.replies.push_back(ToExecutor::Reply {
            token: command.token,
            bytes: reply,
        });
    }

    /// A request to the shard has an outcome.
    pub fn complete(&mut self, token: Token, result: Result<(), ShardError>) {
        let now = self.node.now();
        if let Some(done) = self.ctl.complete(&mut self.node.bus, token, result, now) {
            self.reply(done.token, done.reply);
        }
    }

    fn reply(&mut self, token: Token, bytes: Vec<u8>) {
        if let Some(token) = self.clients.remove(&token) {
            self.replies.push_back(ToExecutor::Reply { token, bytes });
        }
    }

    /// The replica that has asked for the leadership of this node's shard, once: to be looked at after
    /// [`ClusterHost::settle`].
    pub fn take_failover(&mut self) -> Option<NodeId> {
        self.failover_to.take()
    }

    /// `CONFIG SET` has changed directives.
    pub fn on_config(&mut self, config: &Config) {
        let mut bus = bus_config(config, &self.node.bus.config().raft_addr);
        // The bus goes on listening where it began to.
        bus.bus_port = first_nonzero([
            port_of(config, "cluster-announce-bus-port"),
            self.listen_port,
        ]);
        self.node.bus.reconfigure(bus);
        self.ctl.options = cluster_options(config);
        self.routing_due = true;
    }

    /// Carries out what the bus wants, publishes a new routing table if there is one, and hands replies to the executor.
    /// An error is `nodes.conf` that cannot be written; the process must stop.
    /// Returns whether the bus's view has changed.
    pub async fn settle(&mut self) -> io::Result<bool> {
        let mut changed = false;
        for output in self.node.carry_out().await? {
            match output {
                BusOutput::FailoverRequested(replica) => self.failover_to = Some(replica),
                BusOutput::ViewChanged => {
                    self.routing_due = true;
                    changed = true;
                }
                BusOutput::Publish {
                    sharded,
                    channel,
                    message,
                } => {
                    if self.publishes.len() == PUBLISH_WAITING_MAX {
                        self.publishes.pop_front();
                    }
                    self.publishes.push_back(ToExecutor::Publish {
                        channel,
                        message,
                        sharded,
                    });
                }
                BusOutput::SlotsLost(slots) => {
                    let lost: Vec<u16> = slots.iter().collect();
                    let task = move |executor: &mut Executor| {
                        executor.lose_slots(lost.into_iter().collect());
                    };
                    self.replies.push_back(ToExecutor::Task(Box::new(task)));
                }
            }
        }
        if self.routing_due {
            let table = routing_of(&self.node.bus, &self.ctl.options);
            self.routing_due = self
                .executor
                .try_send(ToExecutor::Routing(Arc::new(table)))
                .is_err();
        }
        // A reply must not overtake the table that it speaks of.
        if !self.routing_due {
            for queue in [&mut self.replies, &mut self.publishes] {
                while let Some(message) = queue.pop_front() {
                    if let Err(message) = self.executor.try_send(message) {
                        queue.push_front(message);
                        break;
                    }
                }
            }
        }
        Ok(changed)
    }
}
