//! The bus beside a real `valkey-server`: both greet each other and agree on everything.
//!
//! Skipped, with a message, where `valkey-server` and `valkey-cli` are not installed.
#![cfg(not(madsim))]

use holdfast_cluster_bus::{BusConfig, NodeId, SlotSet};
use holdfast_raft_log::disk::StdDisk;
use holdfast_server::bus::{BusEvent, BusNode, BusOutput};
use holdfast_server::tls::Tls;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

const NODE_TIMEOUT_MS: u64 = 2000;

/// A Valkey process, killed at the end of the test.
struct Valkey {
    process: Child,
    port: u16,
}

impl Drop for Valkey {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A port whose bus port is free as well.
fn free_port() -> u16 {
    loop {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("its number").port();
        let (base, bus) = if port > 20_000 {
            (port - 10_000, port)
        } else {
            (port, port + 10_000)
        };
        drop(listener);
        if base > 1024
            && [base, bus]
                .iter()
                .all(|p| std::net::TcpListener::bind(("127.0.0.1", *p)).is_ok())
        {
            return base;
        }
    }
}

impl Valkey {
    fn start(dir: &Path) -> Option<Valkey> {
        let port = free_port();
        let process = Command::new("valkey-server")
            .args([
                "--port",
                &port.to_string(),
                "--cluster-enabled",
                "yes",
                "--bind",
                "127.0.0.1",
            ])
            .args([
                "--cluster-node-timeout",
                &NODE_TIMEOUT_MS.to_string(),
                "--save",
                "",
                "--logfile",
                "log",
                "--dir",
            ])
            .arg(dir)
            .stdout(Stdio::null())
            .spawn();
        let Ok(process) = process else {
            eprintln!("skipped: valkey-server is not installed");
            return None;
        };
        let valkey = Valkey { process, port };
        let deadline = Instant::now() + Duration::from_secs(10);
        while valkey.cli(&["PING"]).trim() != "PONG" {
            assert!(Instant::now() < deadline, "valkey-server answers");
            std::thread::sleep(Duration::from_millis(50));
        }
        Some(valkey)
    }

    fn cli(&self, args: &[&str]) -> String {
        let output = Command::new("valkey-cli")
            .args(["-p", &self.port.to_string()])
            .args(args)
            .output()
            .expect("valkey-cli is installed with valkey-server");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

async fn holdfast(dir: &Path) -> BusNode {
    let port = free_port();
    let cfg = BusConfig {
        node_timeout_ms: NODE_TIMEOUT_MS,
        port,
        bus_port: port + 10_000,
        hostname: "holdfast.example".into(),
        raft_addr: "127.0.0.1:1".into(),
        ..BusConfig::default()
    };
    let bind = ["127.0.0.1".to_owned()];
    let conf = dir.join("nodes.conf");
    BusNode::start(
        cfg,
        Arc::new(StdDisk::new()),
        conf,
        &bind,
        port + 10_000,
        None,
        Tls::default(),
    )
    .await
    .expect("the bus starts")
}

/// Drives the bus until `done`, or fails after `seconds`. Returns what the bus asked of the server meanwhile.
async fn drive(
    node: &mut BusNode,
    what: &str,
    seconds: u64,
    mut done: impl FnMut(&BusNode) -> bool,
) -> Vec<BusOutput> {
    let deadline = Instant::now() + Duration::from_secs(seconds);
    let mut outputs = Vec::new();
    loop {
        let event = node.next_event().await;
        let look = matches!(event, BusEvent::Tick);
        node.on_event(event);
        outputs.extend(node.carry_out().await.expect("nodes.conf can be written"));
        if look && done(node) {
            return outputs;
        }
        assert!(
            Instant::now() < deadline,
            "not in time: {what}\nour view:\n{}\n{}",
            node.bus.describe_all(false, node.now()),
            node.bus.info()
        );
    }
}

fn run(test: impl Future<Output = ()>) {
    let _ = tracing_subscriber::fmt().with_test_writer().try_init();
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(test);
}

/// Starts both, gives each half of the slots, and lets them greet each other.
async fn two_nodes(dir: &Path, we_greet: bool) -> Option<(Valkey, BusNode, NodeId)> {
    let (theirs, ours) = (dir.join("valkey"), dir.join("holdfast"));
    std::fs::create_dir_all(&theirs).expect("a folder");
    std::fs::create_dir_all(&ours).expect("a folder");
    let valkey = Valkey::start(&theirs)?;
    let mut node = holdfast(&ours).await;
    assert_eq!(
        valkey
            .cli(&["CLUSTER", "ADDSLOTSRANGE", "0", "8191"])
            .trim(),
        "OK"
    );
    node.bus
        .add_slots(&SlotSet::from_ranges([(8192, 16383)]))
        .expect("free slots");
    let id: NodeId = valkey
        .cli(&["CLUSTER", "MYID"])
        .trim()
        .parse()
        .expect("its id");
    let now = node.now();
    if we_greet {
        node.bus
            .meet("127.0.0.1", valkey.port, valkey.port + 10_000, now)
            .expect("a good address");
    } else {
        let (port, bus_port) = (
            node.bus.config().port.to_string(),
            node.bus.config().bus_port.to_string(),
        );
        assert_eq!(
            valkey
                .cli(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus_port])
                .trim(),
            "OK"
        );
    }
    drive(&mut node, "both see a whole cluster", 15, |node| {
        node.bus.is_ok()
            && node
                .bus
                .node(&id)
                .is_some_and(|n| n.slots.len() == 8192 && n.connected)
            && valkey
                .cli(&["CLUSTER", "INFO"])
                .contains("cluster_state:ok")
    })
    .await;
    Some((valkey, node, id))
}

fn agree(valkey: &Valkey, node: &BusNode, id: &NodeId) {
    let me = node.bus.my_id();
    let theirs = valkey.cli(&["CLUSTER", "NODES"]);
    let our_line = theirs
        .lines()
        .find(|line| line.starts_with(me.as_str()))
        .expect("we are known");
    assert!(our_line.contains(",holdfast.example "), "{our_line}");
    assert!(
        our_line.contains(" master - ") && our_line.ends_with(" connected 8192-16383"),
        "{our_line}"
    );
    assert!(!theirs.contains("fail"), "{theirs}");

    let them = node.bus.node(id).expect("it is known");
    assert_eq!(them.slots, SlotSet::from_ranges([(0, 8191)]));
    assert!(!them.failed && !them.suspect && !them.handshake && !them.quorum);
    assert_eq!(
        them.shard.as_str(),
        valkey.cli(&["CLUSTER", "MYSHARDID"]).trim()
    );
    // One of the two moved on to another epoch; both know.
    let epochs: Vec<&str> = theirs
        .lines()
        .filter_map(|line| line.split(' ').nth(6))
        .collect();
    assert_ne!(epochs[0], epochs[1]);
    assert!(our_line.contains(&format!(" {} connected", node.bus.myself().epoch)));
    assert_eq!(
        node.bus.stats().dropped.iter().sum::<u64>(),
        0,
        "{:?}",
        node.bus.stats()
    );
}

#[test]
fn greeting_from_either_side() {
    run(async {
        for we_greet in [true, false] {
            let dir = tempfile::tempdir().expect("a folder");
            let Some((valkey, mut node, id)) = two_nodes(dir.path(), we_greet).await else {
                return;
            };
            // Valkey 8.0 shows the names of other shards in its nodes.conf only.
            let conf = || {
                std::fs::read_to_string(dir.path().join("valkey/nodes.conf")).unwrap_or_default()
            };
            // Shard ids and host names come with the pings after the greeting.
            drive(&mut node, "the shard's name", 10, |node| {
                valkey
                    .cli(&["CLUSTER", "NODES"])
                    .contains("holdfast.example")
                    && node.bus.node(&id).is_some_and(|n| {
                        n.shard.as_str() == valkey.cli(&["CLUSTER", "MYSHARDID"]).trim()
                    })
                    && conf().contains(node.bus.my_shard().as_str())
            })
            .await;
            agree(&valkey, &node, &id);
            // Our own extensions go to Holdfast nodes only.
            let log = std::fs::read_to_string(dir.path().join("valkey/log")).unwrap_or_default();
            assert!(
                log.contains("Ready to accept connections") && !log.contains("unknown extension"),
                "{log}"
            );
        }
    });
}

#[test]
fn messages_reach_subscribers_on_both_sides() {
    run(async {
        let dir = tempfile::tempdir().expect("a folder");
        let Some((valkey, mut node, _)) = two_nodes(dir.path(), true).await else {
            return;
        };
        assert_eq!(valkey.cli(&["PUBLISH", "news", "hello"]).trim(), "0");
        let mut heard = Vec::new();
        for _ in 0..20 {
            heard.extend(drive(&mut node, "a while", 5, |_| true).await);
        }
        let hello = heard.iter().find_map(|output| match output {
            BusOutput::Publish {
                sharded: false,
                channel,
                message,
            } if &channel[..] == b"news" => Some(message.clone()),
            _ => None,
        });
        assert_eq!(hello.as_deref(), Some(&b"hello"[..]));

        let mut subscriber = Command::new("valkey-cli")
            .args(["-p", &valkey.port.to_string(), "SUBSCRIBE", "answers"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("valkey-cli");
        drive(&mut node, "the subscription", 5, |_| {
            valkey
                .cli(&["PUBSUB", "NUMSUB", "answers"])
                .trim()
                .ends_with('1')
        })
        .await;
        node.bus.publish(false, b"answers", b"hello to you");
        for _ in 0..5 {
            drive(&mut node, "a while", 5, |_| true).await;
        }
        subscriber.kill().expect("it runs");
        let output = subscriber.wait_with_output().expect("its output");
        assert!(String::from_utf8_lossy(&output.stdout).contains("hello to you"));
    });
}

#[test]
fn a_dead_peer_is_noticed_and_a_restarted_node_finds_its_way_back() {
    run(async {
        let dir = tempfile::tempdir().expect("a folder");
        let Some((valkey, mut node, id)) = two_nodes(dir.path(), true).await else {
            return;
        };

        // We go away and come back: our name and slots are in nodes.conf.
        let (me, shard, cfg) = (
            node.bus.my_id(),
            node.bus.my_shard(),
            node.bus.config().clone(),
        );
        drive(&mut node, "nodes.conf is written", 5, |_| true).await;
        drop(node);
        let conf = dir.path().join("holdfast/nodes.conf");
        let bind = ["127.0.0.1".to_owned()];
        let disk = Arc::new(StdDisk::new());
        let mut node = BusNode::start(
            cfg.clone(),
            disk,
            conf.clone(),
            &bind,
            cfg.bus_port,
            None,
            Tls::default(),
        )
        .await
        .expect("the bus starts again");
        assert_eq!((node.bus.my_id(), node.bus.my_shard()), (me, shard));
        drive(&mut node, "whole again", 15, |node| {
            node.bus.is_ok()
                && valkey
                    .cli(&["CLUSTER", "NODES"])
                    .lines()
                    .all(|line| line.contains(" connected"))
        })
        .await;

        // Valkey reads our nodes.conf: the format is the same.
        let text = std::fs::read_to_string(&conf).expect("nodes.conf");
        let theirs = dir.path().join("other");
        std::fs::create_dir_all(&theirs).expect("a folder");
        std::fs::write(theirs.join("nodes.conf"), &text).expect("a copy");
        let impostor = Valkey::start(&theirs).expect("valkey-server reads our nodes.conf");
        assert_eq!(impostor.cli(&["CLUSTER", "MYID"]).trim(), me.as_str());
        assert_eq!(
            impostor.cli(&["CLUSTER", "MYSHARDID"]).trim(),
            shard.as_str()
        );
        drop(impostor);

        drop(valkey);
        drive(&mut node, "the dead peer is suspected", 15, |node| {
            node.bus.node(&id).is_some_and(|n| n.suspect || n.failed)
        })
        .await;
    });
}

/// Servers, killed at the end of the test.
struct Servers(Vec<(Child, u16)>);

impl Drop for Servers {
    fn drop(&mut self) {
        for (process, _) in &mut self.0 {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

fn cluster_tool(args: &[&str]) -> (bool, String) {
    let output = Command::new("valkey-cli")
        .arg("--cluster")
        .args(args)
        .output()
        .expect("valkey-cli");
    (
        output.status.success(),
        String::from_utf8_lossy(&output.stdout).into_owned(),
    )
}

/// Two of our servers and a Valkey, made into one cluster by Valkey's own tool.
#[test]
fn valkeys_tool_makes_and_checks_a_mixed_cluster() {
    let dir = tempfile::tempdir().expect("a folder");
    let theirs = dir.path().join("valkey");
    std::fs::create_dir_all(&theirs).expect("a folder");
    let Some(valkey) = Valkey::start(&theirs) else {
        return;
    };
    let mut servers = Servers(Vec::new());
    for name in ["a", "b"] {
        let own = dir.path().join(name);
        std::fs::create_dir_all(&own).expect("a folder");
        let port = free_port();
        let process = Command::new(env!("CARGO_BIN_EXE_holdfast-server"))
            .args([
                "--port",
                &port.to_string(),
                "--bind",
                "127.0.0.1",
                "--cluster-enabled",
                "yes",
            ])
            .args([
                "--cluster-node-timeout",
                &NODE_TIMEOUT_MS.to_string(),
                "--dir",
            ])
            .arg(&own)
            .stdout(Stdio::null())
            .spawn()
            .expect("our server starts");
        servers.0.push((process, port));
    }
    std::thread::sleep(Duration::from_secs(1));
    let addresses: Vec<String> = [valkey.port, servers.0[0].1, servers.0[1].1]
        .iter()
        .map(|port| format!("127.0.0.1:{port}"))
        .collect();
    let (good, text) = cluster_tool(&[
        "create",
        &addresses[0],
        &addresses[1],
        &addresses[2],
        "--cluster-yes",
    ]);
    assert!(
        good && text.contains("[OK] All 16384 slots covered."),
        "{text}"
    );
    let deadline = Instant::now() + Duration::from_secs(15);
    for address in &addresses {
        loop {
            let (good, text) = cluster_tool(&["check", address]);
            if good
                && text.contains("All nodes agree about slots configuration")
                && text.contains("All 16384 slots covered")
            {
                break;
            }
            assert!(Instant::now() < deadline, "{text}");
            std::thread::sleep(Duration::from_millis(200));
        }
    }
    // A client that follows redirections reaches every slot through any node.
    for address in &addresses {
        let port = address.rsplit(':').next().unwrap_or_default();
        for key in ["a", "b", "c", "d", "e", "f"] {
            let output = Command::new("valkey-cli")
                .args(["-c", "-p", port, "SET", key, "value"])
                .output()
                .expect("valkey-cli");
            assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "OK");
        }
    }
}
