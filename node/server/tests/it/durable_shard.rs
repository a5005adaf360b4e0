//! One shard of two data nodes and a witness: what is acknowledged stays, whoever dies.

use std::time::Duration;

use crate::harness::cluster::{PATIENCE, tail};
use crate::harness::{Cluster, Load, NodeRef};

/// Generous, for slow machines; `cargo bench --bench failover` measures what it takes.
const FAILOVER_MAX: Duration = Duration::from_secs(20);

fn survives_the_kill_of(pick: impl Fn(&mut Cluster, [NodeRef; 3]) -> NodeRef) {
    let (mut cluster, nodes) = Cluster::one_durable_shard();
    let load = Load::start(&cluster, "k", 8);
    load.wait_for(500, PATIENCE);

    let victim = pick(&mut cluster, nodes);
    cluster.kill(victim);
    load.wait_for(500, FAILOVER_MAX);

    // It rejoins by itself, and the shard can then lose another one.
    cluster.start(victim);
    load.wait_for(500, PATIENCE);
    let report = load.finish();
    report.assert_nothing_lost(&mut cluster.router());
    wait_until_level(&mut cluster, nodes);
}

/// Waits until both data nodes have the same data.
fn wait_until_level(cluster: &mut Cluster, [a, b, _]: [NodeRef; 3]) {
    cluster.wait("equal digests on both data nodes", |cluster| {
        let digest = |node| cluster.client(node).ask("DEBUG DIGEST");
        digest(a) == digest(b)
    });
}

#[test]
fn the_primary_is_killed_under_load() {
    survives_the_kill_of(|cluster, _| cluster.primary_of(0));
}

#[test]
fn the_replica_is_killed_under_load() {
    survives_the_kill_of(|cluster, [a, b, _]| if cluster.primary_of(0) == a { b } else { a });
}

#[test]
fn the_witness_is_killed_under_load() {
    survives_the_kill_of(|_, [_, _, witness]| witness);
}

/// Each data node in turn, again and again: the witness must pass on what only it and the dead one had.
#[test]
fn one_primary_after_the_other_is_killed() {
    let (mut cluster, nodes) = Cluster::one_durable_shard();
    let load = Load::start(&cluster, "k", 4);
    for _ in 0..4 {
        load.wait_for(200, FAILOVER_MAX);
        let primary = cluster.primary_of(0);
        cluster.kill(primary);
        load.wait_for(200, FAILOVER_MAX);
        cluster.start(primary);
    }
    load.wait_for(200, PATIENCE);
    load.finish().assert_nothing_lost(&mut cluster.router());
    wait_until_level(&mut cluster, nodes);
}

#[test]
fn a_node_that_lost_its_disk_is_replaced() {
    let (mut cluster, [a, b, witness]) = Cluster::one_durable_shard();
    // Started later; added now, so that the writers know its port.
    let replacement = cluster.add_node(&["durability quorum"]);
    let load = Load::start(&cluster, "k", 4);
    load.wait_for(500, PATIENCE);

    let lost = cluster.primary_of(0);
    let lost_id = cluster.id(lost);
    cluster.kill(lost);
    cluster.wipe(lost);
    load.wait_for(500, FAILOVER_MAX);

    let survivor = if lost == a { b } else { a };
    cluster.start(replacement);
    cluster.meet(replacement, survivor);
    cluster.replicate(replacement, survivor);
    for node in [survivor, witness, replacement] {
        cluster.wait("CLUSTER FORGET to be accepted", |cluster| {
            let reply = cluster
                .client(node)
                .run(&format!("CLUSTER FORGET {lost_id}"));
            let gone = !cluster.client(node).ask("CLUSTER NODES").contains(&lost_id);
            reply.is_ok() || gone
        });
    }
    cluster.wait_voters(&[survivor], 3);
    load.wait_for(500, PATIENCE);

    // The replacement is a full member: the shard lives on without the survivor.
    cluster.kill(survivor);
    load.wait_for(500, FAILOVER_MAX);
    let report = load.finish();
    cluster.start(survivor);
    report.assert_nothing_lost(&mut cluster.router());
}

#[test]
fn all_are_killed_at_once_and_come_back_with_the_data() {
    let (mut cluster, nodes) = Cluster::one_durable_shard();
    let load = Load::start(&cluster, "k", 8);
    load.wait_for(1000, PATIENCE);
    for node in nodes {
        cluster.kill(node);
    }
    let report = load.finish();
    cluster.start_all();
    cluster.wait_well();
    report.assert_nothing_lost(&mut cluster.router());
    wait_until_level(&mut cluster, nodes);
}

#[test]
fn all_are_stopped_and_come_back_with_the_data() {
    let (mut cluster, nodes) = Cluster::one_durable_shard();
    let load = Load::start(&cluster, "k", 2);
    load.wait_for(200, PATIENCE);
    let report = load.finish();
    for node in nodes {
        let status = cluster.stop(node);
        assert!(
            status.success(),
            "{status} after SIGTERM:\n{}",
            tail(&cluster.log(node))
        );
    }
    cluster.start_all();
    cluster.wait_well();
    report.assert_nothing_lost(&mut cluster.router());
}

#[test]
fn without_a_majority_nothing_is_acknowledged() {
    let (mut cluster, [a, b, witness]) = Cluster::one_durable_shard();
    cluster.router().run("SET before 1");
    let primary = cluster.primary_of(0);
    let other = if primary == a { b } else { a };
    cluster.kill(other);
    cluster.kill(witness);
    let mut router = cluster.router();
    let outcome = router.once(&[b"SET", b"alone", b"1"]);
    assert!(
        !matches!(outcome, crate::harness::router::Outcome::Done(_)),
        "acknowledged by one of three: {outcome:?}"
    );
    cluster.start(other);
    let mut router = cluster.router();
    let reply = router.run("GET before");
    assert_eq!(reply.as_bytes(), Some(&b"1"[..]));
    router.run("SET together 1");
}

/// A primary that stands still for longer than its lease has been replaced, and must not answer from before.
#[test]
fn a_primary_that_was_paused_does_not_answer_stale_reads() {
    let (mut cluster, _) = Cluster::one_durable_shard();
    cluster.router().run("SET k old");
    let old = cluster.primary_of(0);
    let mut direct = cluster.client(old);
    cluster.pause(old, true);
    let ports: Vec<u16> = cluster
        .data_ports()
        .into_iter()
        .filter(|p| *p != cluster.port(old))
        .collect();
    let mut others = crate::harness::Router::new(ports);
    others.patience = Duration::from_secs(1);
    others.run("SET k new");
    cluster.pause(old, false);
    let reply = direct.try_run("GET k");
    if let Ok(reply) = reply {
        assert_ne!(
            reply.as_bytes(),
            Some(&b"old"[..]),
            "a deposed primary answered"
        );
    }
}

#[test]
fn two_processes_on_one_folder_refuse() {
    let mut cluster = Cluster::new();
    let node = cluster.add_node(&["durability quorum"]);
    cluster.start(node);
    let dir = cluster.node_dir(node).display().to_string();
    let second = cluster.add_node(&["durability quorum", &format!("dir \"{dir}\"")]);
    let (success, output) = crate::tools::run(
        std::process::Command::new(cluster_program()).args(conf(&mut cluster, second)),
        Duration::from_secs(20),
    );
    assert!(!success, "the second process started");
    assert!(
        output.contains(&dir),
        "the message does not name the folder:\n{output}"
    );
    assert!(!output.contains("panicked"), "{output}");
    cluster.add_slots(node, 0, 16383);
}

fn cluster_program() -> std::path::PathBuf {
    crate::harness::cluster::server_program()
}

fn conf(cluster: &mut Cluster, node: NodeRef) -> Vec<std::ffi::OsString> {
    cluster
        .command(node)
        .get_args()
        .map(|a| a.to_owned())
        .collect()
}
