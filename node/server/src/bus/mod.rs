//! Drives the cluster bus: listener, links, ticks and `nodes.conf`, on the control thread.
//!
//! [`BusNode`] owns the [`Bus`]. Its owner runs one loop:
//!
//! ```text
//! loop {
//!     select! {
//!         event = node.next_event() => node.on_event(event),
//!         …                         => a CLUSTER command, the Raft group's news: through `node.bus`
//!     }
//!     for output in node.carry_out().await? { … }
//! }
//! ```
//!
//! Each connection is a task of its own that cuts the stream into messages; all of them feed one bounded queue, so a
//! flood of messages slows its senders down and nobody else. What is to be sent waits in a queue per link, bounded by
//! `cluster-link-sendbuf-limit` and by [`LINK_QUEUE_MAX_BYTES`].

mod link;

use crate::tls::Tls;
use bytes::Bytes;
use holdfast_cluster_bus::wire::DropReason;
use holdfast_cluster_bus::{
    Action, Bus, BusConfig, LinkId, NodeId, NodesConf, Now, ShardId, SlotSet,
};
use holdfast_raft_log::disk::{self, Disk};
use link::LinkTask;
use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tracing::{debug, info, warn};

/// The bus's clock.
const TICK: Duration = Duration::from_millis(100);
/// Events that wait for the control thread before the links stop reading.
const EVENTS_MAX: usize = 1024;
/// Accepted connections at one time: two for each node of the largest cluster, and then some.
const ACCEPTED_MAX: usize = 4096;
/// A link is closed when so many bytes wait to be sent on it, whatever `cluster-link-sendbuf-limit` says.
pub const LINK_QUEUE_MAX_BYTES: u64 = 1 << 30;
/// A dropped message of each reason is logged so often at most.
const DROP_LOG_INTERVAL: Duration = Duration::from_secs(60);
/// The largest `nodes.conf` that is read.
const CONF_MAX_BYTES: u64 = 64 << 20;
/// Where the monotonic clock begins, so that "long ago" is a number.
const CLOCK_ORIGIN_MS: u64 = 1_000_000_000;

/// What has happened on the bus's side; made by [`BusNode::next_event`], taken by [`BusNode::on_event`].
#[derive(Debug)]
pub enum BusEvent {
    /// A tenth of a second has passed.
    Tick,
    /// Somebody has connected.
    Accepted(TcpStream, IpAddr),
    /// A connection of ours stands; the addresses of the other end and of ours.
    Connected(LinkId, Option<IpAddr>, Option<IpAddr>),
    /// A whole message.
    Packet(LinkId, Bytes),
    /// Not the protocol.
    Foreign(LinkId, DropReason),
    /// A connection has ended, or could not be made.
    Closed(LinkId),
}

/// What the bus asks of the rest of the server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum BusOutput {
    /// Routing depends on something that has changed: publish a new table (see [`crate::cluster::routing_of`]).
    ViewChanged,
    /// A message for this node's subscribers.
    Publish {
        /// A shard channel.
        sharded: bool,
        /// The channel.
        channel: Bytes,
        /// The message.
        message: Bytes,
    },
    /// Under `durability quorum`: this replica is to be given the leadership.
    FailoverRequested(NodeId),
    /// Under `durability async`: these slots of ours went elsewhere, and their keys must go.
    SlotsLost(SlotSet),
}

/// Why the bus did not start.
#[derive(Debug, thiserror::Error)]
pub enum BusStartError {
    /// `nodes.conf` cannot be read or written.
    #[error("cluster config file {0}: {1}")]
    Io(PathBuf, io::Error),
    /// `nodes.conf` is not what it should be. It holds this node's name and votes, so it is not made anew.
    #[error("cluster config file {0}: {1}")]
    Conf(PathBuf, holdfast_cluster_bus::ConfError),
    /// The bus port cannot be listened on.
    #[error("cluster bus port {0}: {1}")]
    Listen(u16, io::Error),
}

/// A random source for names and seeds, from the operating system (from the simulation's seed, there).
fn random<T>() -> T
where
    rand::distr::StandardUniform: rand::distr::Distribution<T>,
{
    rand::random()
}

/// The bus of this node with everything around it.
#[derive(Debug)]
pub struct BusNode {
    /// The state machine. Change it freely between [`BusNode::next_event`] and [`BusNode::carry_out`].
    pub bus: Bus,
    disk: DiskRef,
    conf_path: PathBuf,
    events: mpsc::Receiver<BusEvent>,
    events_in: mpsc::Sender<BusEvent>,
    links: BTreeMap<LinkId, LinkTask>,
    accepted: usize,
    helpers: Vec<JoinHandle<()>>,
    started: Instant,
    drops: BTreeMap<DropReason, (Instant, u64)>,
    tls: Tls,
}

struct DiskRef(Arc<dyn Disk>);

impl std::fmt::Debug for DiskRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Disk")
    }
}

impl Drop for BusNode {
    fn drop(&mut self) {
        for helper in &self.helpers {
            helper.abort();
        }
    }
}

impl BusNode {
    /// Reads `nodes.conf`, or makes one with new names (`id` is used if it is given, for a node whose log has one already),
    /// and listens on `listen_port` (which may not be the one announced) of every address in `bind`.
    pub async fn start(
        cfg: BusConfig,
        disk: Arc<dyn Disk>,
        conf_path: PathBuf,
        bind: &[String],
        listen_port: u16,
        id: Option<NodeId>,
        tls: Tls,
    ) -> Result<BusNode, BusStartError> {
        let started = Instant::now();
        let now = now_since(started);
        let at_conf = |error| BusStartError::Io(conf_path.clone(), error);
        let text = match disk.stat(&conf_path).await.map_err(at_conf)? {
            Some(_) => disk::read_all(&*disk, &conf_path, CONF_MAX_BYTES)
                .await
                .map_err(at_conf)?,
            None => Vec::new(),
        };
        let text = String::from_utf8_lossy(&text);
        let port = listen_port;
        let bus = if NodesConf::is_blank(&text) {
            let id = id.unwrap_or_else(|| NodeId::from_bytes(random()));
            info!("No cluster configuration found, I'm {id}");
            Bus::new(cfg, id, ShardId::from_bytes(random()), random(), now)
        } else {
            let conf = NodesConf::parse(&text)
                .map_err(|error| BusStartError::Conf(conf_path.clone(), error))?;
            let bus = Bus::restore(cfg, &conf, random(), now);
            info!("Node configuration loaded, I'm {}", bus.my_id());
            bus
        };
        let (events_in, events) = mpsc::channel(EVENTS_MAX);
        let mut node = BusNode {
            bus,
            disk: DiskRef(disk),
            conf_path,
            events,
            events_in,
            links: BTreeMap::new(),
            accepted: 0,
            helpers: Vec::new(),
            started,
            drops: BTreeMap::new(),
            tls,
        };
        let mut listening = 0;
        for address in bind {
            // As in `valkey.conf`: an address with "-" in front may be missing on this machine; "*" is any.
            let (address, optional) = match address.strip_prefix('-') {
                Some(address) => (address, true),
                None => (address.as_str(), false),
            };
            let host = match address {
                "*" => "0.0.0.0",
                "::*" => "::",
                host => host,
            };
            match TcpListener::bind((host, port)).await {
                Ok(listener) => {
                    let accept = link::accept(listener, node.events_in.clone());
                    node.helpers.push(tokio::task::spawn(accept));
                    listening += 1;
                }
                Err(_) if optional => {}
                Err(error) => return Err(BusStartError::Listen(port, error)),
            }
        }
        if listening == 0 {
            let error = io::Error::new(io::ErrorKind::AddrNotAvailable, "no address to listen on");
            return Err(BusStartError::Listen(port, error));
        }
        node.helpers
            .push(tokio::task::spawn(link::tick(TICK, node.events_in.clone())));
        Ok(node)
    }

    /// The clocks, as the bus wants them.
    pub fn now(&self) -> Now {
        now_since(self.started)
    }

    /// The next thing that happens. May be dropped and called again without loss.
    pub async fn next_event(&mut self) -> BusEvent {
        // This node holds a sender itself, so the queue never ends.
        self.events.recv().await.unwrap_or(BusEvent::Tick)
    }

    /// Tells the bus. [`BusNode::carry_out`] must follow.
    pub fn on_event(&mut self, event: BusEvent) {
        let now = self.now();
        match event {
            BusEvent::Tick => {
                for (id, link) in &self.links {
                    self.bus.on_send_queue(*id, link.queued());
                }
                let full = self
                    .links
                    .iter()
                    .filter(|(_, link)| link.queued() > LINK_QUEUE_MAX_BYTES);
                for id in full.map(|(id, _)| *id).collect::<Vec<_>>() {
                    self.end_link(id);
                    self.bus.on_disconnected(id, now);
                }
                self.bus.on_tick(now);
            }
            BusEvent::Accepted(stream, peer) => {
                if self.accepted >= ACCEPTED_MAX {
                    return; // Dropping the stream closes it.
                }
                let local = stream
                    .local_addr()
                    .map(|addr| addr.ip().to_string())
                    .unwrap_or_default();
                let id = self.bus.on_accepted(&peer.to_string(), &local, now);
                self.accepted += 1;
                let (tls, events) = (self.tls.clone(), self.events_in.clone());
                self.links
                    .insert(id, LinkTask::accepted(id, stream, tls, events));
            }
            BusEvent::Connected(id, peer, local) => {
                let text = |ip: Option<IpAddr>| ip.map(|ip| ip.to_string()).unwrap_or_default();
                self.bus.on_connected(id, &text(peer), &text(local), now);
            }
            BusEvent::Packet(id, packet) => {
                if let Err(reason) = self.bus.on_packet(id, &packet, now) {
                    self.log_drop(reason);
                }
            }
            BusEvent::Foreign(id, reason) => {
                self.bus.count_dropped(reason);
                self.log_drop(reason);
                self.end_link(id);
                self.bus.on_disconnected(id, now);
            }
            BusEvent::Closed(id) => {
                self.end_link(id);
                self.bus.on_disconnected(id, now);
            }
        }
    }

    fn end_link(&mut self, id: LinkId) {
        if self.links.remove(&id).is_some_and(|link| link.inbound()) {
            self.accepted -= 1;
        }
    }

    /// Carries out what the bus asks for, in order. An error is `nodes.conf` that cannot be written: a vote could
    /// then be given twice, so the process must stop.
    pub async fn carry_out(&mut self) -> Result<Vec<BusOutput>, io::Error> {
        let mut outputs = Vec::new();
        while let Some(action) = self.bus.poll_action(self.now()) {
            match action {
                Action::Connect { link, host, port } => {
                    let limit = Duration::from_millis(self.bus.config().node_timeout_ms.max(1000));
                    let task = LinkTask::connect(
                        link,
                        (host, port),
                        self.tls.clone(),
                        limit,
                        self.events_in.clone(),
                    );
                    self.links.insert(link, task);
                }
                Action::Send { link, packet } => {
                    if let Some(task) = self.links.get(&link) {
                        task.send(packet);
                    }
                }
                Action::Close { link } => self.end_link(link),
                Action::Persist { text, .. } => {
                    // The content is always synced before the rename; a file that is cut would stop the next start.
                    disk::replace(&*self.disk.0, &self.conf_path, Bytes::from(text)).await?;
                }
                Action::FailoverRequested { replica } => {
                    outputs.push(BusOutput::FailoverRequested(replica));
                }
                Action::ViewChanged => outputs.push(BusOutput::ViewChanged),
                Action::Publish {
                    sharded,
                    channel,
                    message,
                } => {
                    outputs.push(BusOutput::Publish {
                        sharded,
                        channel,
                        message,
                    });
                }
                Action::SlotsLost { slots } => outputs.push(BusOutput::SlotsLost(slots)),
            }
        }
        Ok(outputs)
    }

    /// `CLUSTER SAVECONFIG`: writes `nodes.conf` now.
    pub async fn save_conf(&mut self) -> io::Result<()> {
        let text = self.bus.nodes_conf(self.now());
        disk::replace(&*self.disk.0, &self.conf_path, Bytes::from(text)).await
    }

    fn log_drop(&mut self, reason: DropReason) {
        if reason == DropReason::UnknownSender {
            // Part of every greeting: the other node's pings come before it is known here.
            return debug!("Dropped a message on the cluster bus: {reason}");
        }
        let (last, dropped) = self.drops.entry(reason).or_insert((self.started, 0));
        *dropped += 1;
        if *dropped == 1 || last.elapsed() >= DROP_LOG_INTERVAL {
            warn!("Dropped a message on the cluster bus: {reason} ({dropped} so far)");
            *last = Instant::now();
        }
    }
}

fn now_since(started: Instant) -> Now {
    let unix = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Now {
        mono_ms: CLOCK_ORIGIN_MS + started.elapsed().as_millis() as u64,
        unix_ms: unix.as_millis() as u64,
    }
}
