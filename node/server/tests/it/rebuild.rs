//! A majority of a shard is gone for good, and the shard is rebuilt from a node that is left.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::harness::cluster::server_program;
use crate::harness::{Cluster, NodeRef};

const KEYS: usize = 300;

fn rebuild(cluster: &Cluster, node: NodeRef, more: &[&str]) -> (bool, String) {
    let dir = cluster.node_dir(node);
    let mut command = Command::new(server_program());
    command.arg("rebuild-shard").arg("--dir").arg(dir);
    crate::tools::run(command.args(more), Duration::from_secs(60))
}

fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("a copy");
        }
    }
}

fn assert_all_there(cluster: &Cluster) {
    let mut router = cluster.router();
    for i in 0..KEYS {
        let reply = router.run(&format!("GET k{i}"));
        assert_eq!(reply.as_bytes(), Some(i.to_string().as_bytes()), "k{i}");
    }
}

#[test]
fn a_shard_is_rebuilt_from_the_one_voter_that_is_left() {
    let mut cluster = Cluster::new();
    let nodes: Vec<NodeRef> = (0..3)
        .map(|_| cluster.add_node(&["durability quorum"]))
        .collect();
    cluster.start_all();
    cluster.add_slots(nodes[0], 0, 16383);
    for other in &nodes[1..] {
        cluster.meet(nodes[0], *other);
    }
    cluster.wait_acquainted();
    for other in &nodes[1..] {
        cluster.replicate(*other, nodes[0]);
    }
    cluster.wait_voters(&nodes[..1], 3);
    cluster.wait_well();
    let mut router = cluster.router();
    for i in 0..KEYS {
        router.run(&format!("SET k{i} {i}"));
    }
    let primary = cluster.primary_of(0);
    let survivor = *nodes.iter().find(|n| **n != primary).expect("a replica");
    let lost: Vec<NodeRef> = nodes.iter().copied().filter(|n| *n != survivor).collect();
    let lost_ids: Vec<String> = lost.iter().map(|n| cluster.id(*n)).collect();
    cluster.wait("the replica to have everything", |cluster| {
        let digest = |node| cluster.client(node).ask("DEBUG DIGEST");
        digest(survivor) == digest(primary)
    });

    let (success, output) = rebuild(&cluster, survivor, &["--accept-data-loss"]);
    assert!(!success && output.contains("in use"), "{output}");

    for node in &nodes {
        cluster.kill(*node);
    }
    let kept = cluster.dir().join("kept");
    for node in &lost {
        let to = kept.join(node.0.to_string());
        copy_dir(cluster.node_dir(*node), &to);
        cluster.wipe(*node);
    }

    // Without the confirmation it tells, and changes nothing.
    let (success, output) = rebuild(&cluster, survivor, &[]);
    assert!(!success, "{output}");
    for part in ["may be lost", "Nothing was changed", "--accept-data-loss"] {
        assert!(output.contains(part), "{part}: {output}");
    }
    for id in &lost_ids {
        assert!(output.contains(id), "{output}");
    }
    cluster.start(survivor);
    cluster.wait_voters(&[survivor], 3);
    cluster.kill(survivor);

    let (success, output) = rebuild(&cluster, survivor, &["--accept-data-loss"]);
    assert!(success, "{output}");
    cluster.start(survivor);
    assert_eq!(cluster.primary_of(0), survivor);
    cluster.wait_voters(&[survivor], 1);
    cluster.wait_well();
    assert_all_there(&cluster);
    cluster.router().run("SET after 1");

    // The lost ones come back with their old disks after all. They are a majority of what they know of, and would have
    // the survivor follow them.
    for node in &lost {
        copy_dir(&kept.join(node.0.to_string()), cluster.node_dir(*node));
        cluster.start(*node);
    }
    cluster.wait("the lost ones to elect one of themselves", |cluster| {
        lost.iter()
            .any(|n| cluster.client(*n).info("replication", "role") == Some("master".into()))
    });
    std::thread::sleep(Duration::from_secs(3));
    let mut direct = cluster.client(survivor);
    assert_eq!(direct.info("replication", "role"), Some("master".into()));
    assert_eq!(direct.ask("GET after"), "1");
    direct.ok("SET after 2");

    // As new nodes they are welcome.
    for node in &lost {
        cluster.kill(*node);
        cluster.wipe(*node);
    }
    for id in &lost_ids {
        cluster.client(survivor).ok(&format!("CLUSTER FORGET {id}"));
    }
    for node in &lost {
        cluster.start(*node);
        cluster.meet(*node, survivor);
        cluster.replicate(*node, survivor);
    }
    cluster.wait_voters(&[survivor], 3);
    cluster.kill(survivor);
    assert_all_there(&cluster);
    let reply = cluster.router().run("GET after");
    assert_eq!(reply.as_bytes(), Some(&b"2"[..]));
}

#[test]
fn a_witness_is_not_what_a_shard_is_rebuilt_from() {
    let (mut cluster, [_, _, witness]) = Cluster::one_durable_shard();
    cluster.kill(witness);
    let (success, output) = rebuild(&cluster, witness, &["--accept-data-loss"]);
    assert!(
        !success && output.contains("a witness holds no data"),
        "{output}"
    );
    cluster.start(witness);
    cluster.router().run("SET k 1");
}
