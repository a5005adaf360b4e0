//! Nodes as processes.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::client::{Client, text};
use super::router::Router;

const BUS: u16 = 10_000;
const RAFT: u16 = 20_000;
const TLS: u16 = 3_000;

/// How long a cluster may take to do what it is asked to, on a slow machine with other work.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The server under test.
pub fn server_program() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_holdfast-server"))
}

/// Names a node of a [`Cluster`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeRef(pub usize);

#[derive(Debug)]
struct Node {
    program: PathBuf,
    port: u16,
    dir: PathBuf,
    witness: bool,
    config: Vec<String>,
    child: Option<Child>,
}

/// Some nodes, and the folder that holds theirs.
#[derive(Debug)]
pub struct Cluster {
    dir: PathBuf,
    nodes: Vec<Node>,
    common: Vec<String>,
    keep: bool,
}

impl Default for Cluster {
    fn default() -> Self {
        Cluster::new()
    }
}

impl Cluster {
    /// No nodes yet. They are slower to call an election than by default, since a busy machine may keep a process
    /// from running for longer than that.
    pub fn new() -> Cluster {
        Cluster::in_dir(&std::env::temp_dir()).common("raft-election-timeout 1000")
    }

    /// No nodes yet; their folders are made in `parent`.
    pub fn in_dir(parent: &Path) -> Cluster {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let dir = parent.join(format!("holdfast-test-{}-{number}", std::process::id()));
        fs::create_dir_all(&dir).expect("a temporary folder");
        Cluster {
            dir,
            nodes: Vec::new(),
            common: Vec::new(),
            keep: std::env::var_os("HOLDFAST_TEST_KEEP").is_some(),
        }
    }

    /// A directive for every node that is added from here on. `{tls-port}` and `{bus-port}` in it stand for the node's.
    pub fn common(mut self, directive: &str) -> Cluster {
        self.common.push(directive.to_owned());
        self
    }

    /// One shard of two data nodes and a witness, all 16384 slots, formed and well.
    pub fn one_durable_shard() -> (Cluster, [NodeRef; 3]) {
        let mut cluster = Cluster::new();
        let nodes = cluster.add_durable_shard();
        (cluster, nodes)
    }

    /// As [`Cluster::one_durable_shard`], in a cluster that has no node yet.
    pub fn add_durable_shard(&mut self) -> [NodeRef; 3] {
        let (shards, witness) = self.add_durable_shards(1);
        let [primary, replica] = shards[0];
        [primary, replica, witness]
    }

    /// `shards` shards of two data nodes each and one witness for all, formed and well.
    pub fn durable_shards(shards: u16) -> (Cluster, Vec<[NodeRef; 2]>, NodeRef) {
        let mut cluster = Cluster::new();
        let (nodes, witness) = cluster.add_durable_shards(shards);
        (cluster, nodes, witness)
    }

    /// As [`Cluster::durable_shards`], in a cluster that has no node yet.
    pub fn add_durable_shards(&mut self, shards: u16) -> (Vec<[NodeRef; 2]>, NodeRef) {
        let data: Vec<[NodeRef; 2]> = (0..shards)
            .map(|_| {
                [
                    self.add_node(&["durability quorum"]),
                    self.add_node(&["durability quorum"]),
                ]
            })
            .collect();
        let witness = self.add_witness();
        self.start_all();
        let at = |n: u16| u32::from(n) * 16384 / u32::from(shards);
        for (n, [primary, _]) in (0u16..).zip(&data) {
            self.client(*primary)
                .ok(&format!("CLUSTER SET-CONFIG-EPOCH {}", n + 1));
            self.add_slots(*primary, at(n), at(n + 1) - 1);
        }
        let first = data[0][0];
        for index in 1..self.nodes.len() {
            self.meet(first, NodeRef(index));
        }
        self.wait_acquainted();
        for [primary, replica] in &data {
            self.replicate(*replica, *primary);
            self.replicate(witness, *primary);
        }
        self.wait_voters(
            &data.iter().map(|[primary, _]| *primary).collect::<Vec<_>>(),
            3,
        );
        self.wait_well();
        (data, witness)
    }

    /// Adds a data node, not yet started. `config` holds lines of its configuration file.
    pub fn add_node(&mut self, config: &[&str]) -> NodeRef {
        self.add_program(server_program(), config, false)
    }

    /// Adds a witness, not yet started.
    pub fn add_witness(&mut self) -> NodeRef {
        self.add_program(
            server_program(),
            &["durability quorum", "witness yes"],
            true,
        )
    }

    /// Adds a node that runs another program with the same command line, such as `valkey-server`.
    pub fn add_program(&mut self, program: PathBuf, config: &[&str], witness: bool) -> NodeRef {
        let port = free_port();
        let dir = self.dir.join(format!("node-{port}"));
        let mut lines = vec![
            "bind 127.0.0.1".to_owned(),
            format!("port {port}"),
            format!("dir \"{}\"", dir.display()),
            "cluster-enabled yes".to_owned(),
            "cluster-config-file nodes.conf".to_owned(),
            "cluster-node-timeout 5000".to_owned(),
        ];
        if program == server_program() {
            lines.push(format!("raft-port {}", port + RAFT));
            lines.push("enable-debug-command yes".to_owned());
        }
        let ours = program == server_program();
        let common = self
            .common
            .iter()
            .filter(|line| ours || !line.starts_with("raft-"));
        lines.extend(common.cloned());
        for line in config {
            // A later directive of the same name takes its place.
            let name = line.split(' ').next().unwrap_or(line);
            lines.retain(|l| l.split(' ').next() != Some(name));
            lines.push((*line).to_owned());
        }
        for line in &mut lines {
            *line = line
                .replace("{tls-port}", &(port + TLS).to_string())
                .replace("{bus-port}", &(port + BUS).to_string());
        }
        self.nodes.push(Node {
            program,
            port,
            dir,
            witness,
            config: lines,
            child: None,
        });
        NodeRef(self.nodes.len() - 1)
    }

    /// All nodes, in the order in which they were added.
    pub fn nodes(&self) -> impl Iterator<Item = NodeRef> + use<> {
        (0..self.nodes.len()).map(NodeRef)
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn port(&self, node: NodeRef) -> u16 {
        self.nodes[node.0].port
    }

    /// Where `{tls-port}` is.
    pub fn tls_port(&self, node: NodeRef) -> u16 {
        self.port(node) + TLS
    }

    /// Where the node's bus listens, and its Raft server.
    pub fn inner_ports(&self, node: NodeRef) -> [u16; 2] {
        [self.port(node) + BUS, self.port(node) + RAFT]
    }

    pub fn node_dir(&self, node: NodeRef) -> &Path {
        &self.nodes[node.0].dir
    }

    pub fn pid(&self, node: NodeRef) -> u32 {
        self.nodes[node.0]
            .child
            .as_ref()
            .expect("the node runs")
            .id()
    }

    /// What the node has written so far.
    pub fn log(&self, node: NodeRef) -> String {
        let bytes = fs::read(self.log_path(node)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn log_path(&self, node: NodeRef) -> PathBuf {
        self.dir
            .join(format!("node-{}.log", self.nodes[node.0].port))
    }

    /// Starts a node and waits until it answers.
    pub fn start(&mut self, node: NodeRef) {
        self.spawn(node);
        self.wait_answers(node);
    }

    /// Starts a node without waiting.
    pub fn spawn(&mut self, node: NodeRef) {
        let mut command = self.command(node);
        let place = &mut self.nodes[node.0];
        assert!(place.child.is_none(), "the node runs already");
        place.child = Some(command.spawn().expect("the server starts"));
    }

    /// The command that starts a node; writes the node's configuration file.
    pub fn command(&self, node: NodeRef) -> Command {
        let place = &self.nodes[node.0];
        fs::create_dir_all(&place.dir).expect("a folder for the node");
        let config = self.dir.join(format!("node-{}.conf", place.port));
        fs::write(&config, place.config.join("\n") + "\n").expect("a configuration file");
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log_path(node))
            .expect("a log file");
        let mut command = Command::new(&place.program);
        command
            .arg(config)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log);
        command
    }

    pub fn start_all(&mut self) {
        let stopped: Vec<NodeRef> = self
            .nodes()
            .filter(|n| self.nodes[n.0].child.is_none())
            .collect();
        for node in &stopped {
            self.spawn(*node);
        }
        for node in stopped {
            self.wait_answers(node);
        }
    }

    pub fn wait_answers(&mut self, node: NodeRef) {
        let port = self.port(node);
        self.wait(&format!("port {port} to answer"), |cluster| {
            if let Some(status) = cluster.ended(node) {
                panic!(
                    "the node on port {port} ended ({status}):\n{}",
                    tail(&cluster.log(node))
                );
            }
            let answer = Client::connect_within(port, Duration::from_secs(2))
                .and_then(|mut c| c.try_run("PING"));
            answer.is_ok_and(|reply| text(&reply).is_some_and(|t| t == "PONG"))
        });
    }

    /// How the node's process ended, if it has.
    pub fn ended(&mut self, node: NodeRef) -> Option<ExitStatus> {
        let child = self.nodes[node.0].child.as_mut()?;
        child.try_wait().expect("waitpid")
    }

    /// `kill -9`.
    pub fn kill(&mut self, node: NodeRef) {
        if let Some(mut child) = self.nodes[node.0].child.take() {
            child.kill().expect("SIGKILL");
            child.wait().expect("waitpid");
        }
    }

    /// SIGTERM; returns how it ended.
    pub fn stop(&mut self, node: NodeRef) -> ExitStatus {
        let mut child = self.nodes[node.0].child.take().expect("the node runs");
        rustix::process::kill_process(
            rustix::process::Pid::from_child(&child),
            rustix::process::Signal::TERM,
        )
        .expect("SIGTERM");
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = child.try_wait().expect("waitpid") {
                return status;
            }
            if Instant::now() > deadline {
                let _ = child.kill();
                let _ = child.wait();
                panic!(
                    "did not stop within {PATIENCE:?}:\n{}",
                    tail(&self.log(node))
                );
            }
            sleep(Duration::from_millis(10));
        }
    }

    /// Stops the process where it stands (SIGSTOP), or lets it go on (SIGCONT).
    pub fn pause(&self, node: NodeRef, paused: bool) {
        let child = self.nodes[node.0].child.as_ref().expect("the node runs");
        let signal = if paused {
            rustix::process::Signal::STOP
        } else {
            rustix::process::Signal::CONT
        };
        rustix::process::kill_process(rustix::process::Pid::from_child(child), signal)
            .expect("a signal");
    }

    /// The disk is lost: the node's folder is emptied.
    pub fn wipe(&self, node: NodeRef) {
        fs::remove_dir_all(self.node_dir(node)).expect("the folder is removed");
    }

    pub fn client(&self, node: NodeRef) -> Client {
        let port = self.port(node);
        Client::connect(port).unwrap_or_else(|e| panic!("connecting to port {port}: {e}"))
    }

    /// A client that follows redirections.
    pub fn router(&self) -> Router {
        Router::new(self.data_ports())
    }

    /// Ports of all nodes that serve clients.
    pub fn data_ports(&self) -> Vec<u16> {
        self.nodes
            .iter()
            .filter(|n| !n.witness)
            .map(|n| n.port)
            .collect()
    }

    pub fn id(&self, node: NodeRef) -> String {
        self.client(node).ask("CLUSTER MYID")
    }

    pub fn meet(&self, node: NodeRef, other: NodeRef) {
        self.client(node)
            .ok(&format!("CLUSTER MEET 127.0.0.1 {}", self.port(other)));
    }

    /// `CLUSTER ADDSLOTSRANGE`, repeated while the node's own shard has no leader yet.
    pub fn add_slots(&mut self, node: NodeRef, first: u32, last: u32) {
        self.wait("CLUSTER ADDSLOTSRANGE to be accepted", |cluster| {
            cluster
                .client(node)
                .run(&format!("CLUSTER ADDSLOTSRANGE {first} {last}"))
                .is_ok()
        });
    }

    /// `CLUSTER REPLICATE`, repeated while the primary is not known yet.
    pub fn replicate(&mut self, node: NodeRef, primary: NodeRef) {
        let id = self.id(primary);
        self.wait("CLUSTER REPLICATE to be accepted", |cluster| {
            cluster
                .client(node)
                .run(&format!("CLUSTER REPLICATE {id}"))
                .is_ok()
        });
    }

    fn running(&self) -> Vec<NodeRef> {
        self.nodes()
            .filter(|n| self.nodes[n.0].child.is_some())
            .collect()
    }

    /// Waits until all running nodes see each other well.
    pub fn wait_acquainted(&mut self) {
        let running = self.running();
        self.wait("all nodes to know each other", |cluster| {
            running.iter().all(|node| {
                let nodes = cluster.client(*node).ask("CLUSTER NODES");
                let well = nodes.lines().filter(|line| {
                    let mut fields = line.split_ascii_whitespace();
                    let flags = fields.nth(2).unwrap_or_default();
                    let link = fields.nth(4).unwrap_or_default();
                    !["fail", "handshake", "noaddr"]
                        .iter()
                        .any(|f| flags.contains(f))
                        && (link == "connected" || flags.contains("myself"))
                });
                well.count() >= running.len()
            })
        });
    }

    /// Waits until the shards of these nodes have so many voters.
    pub fn wait_voters(&mut self, primaries: &[NodeRef], voters: usize) {
        self.wait(&format!("{voters} voters"), |cluster| {
            primaries.iter().all(|node| {
                let count = cluster
                    .client(*node)
                    .info("durability", "durability_voters");
                count.and_then(|v| v.parse::<usize>().ok()) == Some(voters)
            })
        });
    }

    /// Waits until every running data node sees the cluster well.
    pub fn wait_well(&mut self) {
        let running: Vec<NodeRef> = self
            .running()
            .into_iter()
            .filter(|n| !self.nodes[n.0].witness)
            .collect();
        self.wait("cluster_state:ok everywhere", |cluster| {
            running.iter().all(|node| {
                cluster
                    .client(*node)
                    .ask("CLUSTER INFO")
                    .contains("cluster_state:ok")
            })
        });
    }

    /// The node that serves `slot` now, as the nodes themselves say.
    pub fn primary_of(&mut self, slot: u16) -> NodeRef {
        let mut found = None;
        self.wait(&format!("a primary of slot {slot}"), |cluster| {
            found = cluster.running().into_iter().find(|node| {
                let mut client = cluster.client(*node);
                let reply = client
                    .try_run("CLUSTER NODES")
                    .ok()
                    .and_then(|r| text(&r))
                    .unwrap_or_default();
                let own = reply
                    .lines()
                    .find(|line| line.contains("myself"))
                    .unwrap_or_default();
                own.contains("master")
                    && own.split_ascii_whitespace().skip(8).any(|range| {
                        let (first, last) = range.split_once('-').unwrap_or((range, range));
                        let first = first.parse::<u16>().unwrap_or(u16::MAX);
                        let last = last.parse::<u16>().unwrap_or(0);
                        (first..=last).contains(&slot)
                    })
            });
            found.is_some()
        });
        found.expect("found")
    }

    /// Polls until `done`, at most [`PATIENCE`].
    pub fn wait(&mut self, what: &str, mut done: impl FnMut(&mut Cluster) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !done(self) {
            if Instant::now() > deadline {
                self.keep = true;
                for node in self.nodes() {
                    eprintln!(
                        "--- node on port {}:\n{}",
                        self.port(node),
                        tail(&self.log(node))
                    );
                }
                panic!(
                    "waited {PATIENCE:?} for {what}; the logs are in {}",
                    self.dir.display()
                );
            }
            sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in self.nodes() {
            self.kill(node);
        }
        if self.keep || std::thread::panicking() {
            eprintln!("the nodes' folders are kept in {}", self.dir.display());
        } else {
            let _ = fs::remove_dir_all(&self.dir);
        }
    }
}

/// The end of a log.
pub fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}

/// A port that is free together with its bus port and its log port, and is not given out again by this process.
/// All three lie below the range that the system uses for outgoing connections.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    const FIRST: u16 = 10_100;
    const COUNT: u16 = 2_600;
    let offset = (std::process::id() as u16).wrapping_mul(37) % COUNT;
    for _ in 0..COUNT {
        let port = FIRST + (offset + NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT;
        let free = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
        if free(port) && free(port + BUS) && free(port + RAFT) && free(port + TLS) {
            return port;
        }
    }
    panic!("no free port");
}
