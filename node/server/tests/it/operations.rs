//! What an operator does to a quorum shard: failing over by force, resetting nodes, taking members out.

use std::time::{Duration, Instant};

use crate::harness::cluster::PATIENCE;
use crate::harness::{Cluster, Load, NodeRef};

/// The words of the line of `CLUSTER NODES` about the node itself.
fn own_line(cluster: &Cluster, node: NodeRef) -> Vec<String> {
    let nodes = cluster.client(node).ask("CLUSTER NODES");
    let line = nodes.lines().find(|line| line.contains("myself"));
    let line = line.expect("a line about itself");
    line.split_ascii_whitespace().map(str::to_owned).collect()
}

/// `FORCE` does not wait for the primary, nor for the time after which the replica would stand by itself.
#[test]
fn failover_force_campaigns_although_the_primary_does_not_answer() {
    let parent = std::env::temp_dir();
    let mut cluster = Cluster::in_dir(&parent).common("raft-election-timeout 10000");
    let [a, b, _] = cluster.add_durable_shard();
    let mut router = cluster.router();
    for i in 0..50 {
        router.run(&format!("SET k{i} {i}"));
    }
    let (primary, replica) = match cluster.primary_of(0) {
        node if node == a => (a, b),
        node => (node, a),
    };
    let refused = cluster.client(primary).error("CLUSTER FAILOVER FORCE");
    assert_eq!(refused, "ERR You should send CLUSTER FAILOVER to a replica");
    let refused = cluster.client(replica).error("CLUSTER FAILOVER TAKEOVER");
    assert!(
        refused.contains("not possible in a shard under 'durability quorum'"),
        "{refused}"
    );

    cluster.pause(primary, true);
    let since = Instant::now();
    cluster.client(replica).ok("CLUSTER FAILOVER FORCE");
    cluster.wait("the replica to lead", |cluster| {
        cluster.client(replica).info("replication", "role") == Some("master".into())
    });
    let took = since.elapsed();
    // The witness is bound for 10 s at most; by itself the replica would stand after 15 s at the earliest.
    assert!(took < Duration::from_secs(14), "took {took:?}");
    let mut direct = cluster.client(replica);
    assert_eq!(direct.ask("GET k7"), "7");
    direct.ok("SET k7 new");

    cluster.pause(primary, false);
    cluster.wait("the old primary to follow", |cluster| {
        cluster.client(primary).info("replication", "role") == Some("slave".into())
    });
    let mut router = cluster.router();
    for i in 0..50 {
        let expect = if i == 7 { "new".into() } else { i.to_string() };
        let reply = router.run(&format!("GET k{i}"));
        assert_eq!(reply.as_bytes(), Some(expect.as_bytes()), "k{i}");
    }
}

/// A living primary cannot be overruled, but it can be asked.
#[test]
fn failover_force_also_works_while_the_primary_is_well() {
    let (mut cluster, [a, b, _]) = Cluster::one_durable_shard();
    let load = Load::start(&cluster, "k", 4);
    for _ in 0..4 {
        load.wait_for(100, PATIENCE);
        let primary = cluster.primary_of(0);
        let replica = if primary == a { b } else { a };
        cluster.wait("the replica to take the command", |cluster| {
            let forced = cluster.client(replica).run("CLUSTER FAILOVER FORCE");
            forced.is_ok()
        });
        cluster.wait("the replica to lead", |cluster| {
            cluster.client(replica).info("replication", "role") == Some("master".into())
        });
    }
    load.wait_for(100, PATIENCE);
    load.finish().assert_nothing_lost(&mut cluster.router());
}

/// A node that its shard may have counted on already keeps what it has, and goes on joining when it is told again.
#[test]
fn a_join_that_takes_too_long_is_uncertain_and_can_be_repeated() {
    let mut cluster = Cluster::new();
    let nodes: Vec<NodeRef> = (0..3)
        .map(|_| cluster.add_node(&["durability quorum"]))
        .collect();
    let [a, b, c] = nodes[..] else {
        unreachable!("three nodes");
    };
    cluster.start_all();
    cluster.add_slots(a, 0, 16383);
    cluster.meet(a, b);
    cluster.meet(a, c);
    cluster.wait_acquainted();
    cluster.replicate(b, a);
    cluster.wait_voters(&[a], 2);
    cluster.client(a).ok("SET k 1");
    let id = cluster.id(a);
    // Without b there is no majority that could take c in.
    cluster.kill(b);
    let mut client = cluster.client(c);
    let minute = Some(Duration::from_secs(90));
    client.stream.set_read_timeout(minute).expect("a timeout");
    let refused = client.error(&format!("CLUSTER REPLICATE {id}"));
    assert!(refused.starts_with("UNCERTAIN "), "{refused}");
    cluster.kill(c);
    cluster.start(c);
    cluster.start(b);
    cluster.wait_acquainted();
    let primary = cluster.primary_of(0);
    cluster.replicate(c, primary);
    cluster.wait_voters(&[primary], 3);
    cluster.kill(primary);
    let reply = cluster.router().run("GET k");
    assert_eq!(reply.as_bytes(), Some(&b"1"[..]));
}

/// A replica can be given to another shard. The one that it was in does not count on it any more.
#[test]
fn a_replica_changes_its_shard() {
    let (mut cluster, shards, _) = Cluster::durable_shards(2);
    let mut router = cluster.router();
    for i in 0..50 {
        router.run(&format!("SET k{i} {i}"));
    }
    let [from, to] = [0, 16383].map(|slot| cluster.primary_of(slot));
    let moved = shards.iter().flatten().copied().find(|node| {
        let id = cluster.id(from);
        own_line(&cluster, *node).get(3) == Some(&id)
    });
    let moved = moved.expect("a replica of the first shard");
    let id = cluster.id(moved);
    let to_id = cluster.id(to);
    cluster
        .client(moved)
        .ok(&format!("CLUSTER REPLICATE {to_id}"));
    cluster.wait_voters(&[from], 2);
    cluster.wait_voters(&[to], 4);
    assert_eq!(cluster.id(moved), id);
    cluster.wait("the replica to have the other shard's data", |cluster| {
        let digest = |node| cluster.client(node).ask("DEBUG DIGEST");
        digest(moved) == digest(to)
    });
    cluster.kill(moved);
    cluster.start(moved);
    cluster.wait("the replica to follow its new primary", |cluster| {
        own_line(cluster, moved).get(3) == Some(&to_id)
    });
    // Both shards go on, with two voters and with four.
    let mut router = cluster.router();
    for i in 0..50 {
        let reply = router.run(&format!("GET k{i}"));
        assert_eq!(reply.as_bytes(), Some(i.to_string().as_bytes()), "k{i}");
        router.run(&format!("SET k{i} again"));
    }
}

/// `RESET` takes a replica out of its shard; it can then come back, and the shard was whole all the time.
#[test]
fn a_replica_that_is_reset_leaves_its_shard_and_can_come_back() {
    let (mut cluster, [a, b, _]) = Cluster::one_durable_shard();
    let mut router = cluster.router();
    for i in 0..50 {
        router.run(&format!("SET k{i} {i}"));
    }
    let primary = cluster.primary_of(0);
    let replica = if primary == a { b } else { a };
    for how in ["SOFT", "HARD"] {
        let (id, shard) = (
            cluster.id(replica),
            cluster.client(replica).ask("CLUSTER MYSHARDID"),
        );
        cluster.client(replica).ok(&format!("CLUSTER RESET {how}"));
        assert_eq!(cluster.id(replica) == id, how == "SOFT", "{how}");
        assert_ne!(cluster.client(replica).ask("CLUSTER MYSHARDID"), shard);
        let me = own_line(&cluster, replica);
        assert_eq!(me[2], "myself,master", "{how}: {me:?}");
        assert_eq!(me.len(), 8, "it has slots: {me:?}");
        assert_eq!(cluster.client(replica).ask("DBSIZE"), "0");
        cluster.wait_voters(&[primary], 2);
        // A majority of the members that are left: the shard did not lose one.
        cluster.router().run("SET alone 1");

        // It is well by itself, also after a restart.
        cluster.kill(replica);
        if how == "HARD" {
            // As if it had been killed before the last of its files was written.
            let file = cluster.node_dir(replica).join("raft/node");
            std::fs::write(file, format!("{id}\n")).expect("a file");
        }
        cluster.start(replica);
        assert_eq!(own_line(&cluster, replica)[2], "myself,master");
        cluster.meet(replica, primary);
        cluster.replicate(replica, primary);
        cluster.wait_voters(&[primary], 3);
        cluster.wait("the replica to have the data", |cluster| {
            let digest = |node| cluster.client(node).ask("DEBUG DIGEST");
            digest(replica) == digest(primary)
        });
    }
    // It votes and leads again.
    cluster.kill(primary);
    let mut router = cluster.router();
    for i in 0..50 {
        let reply = router.run(&format!("GET k{i}"));
        assert_eq!(reply.as_bytes(), Some(i.to_string().as_bytes()), "k{i}");
    }
    cluster.start(primary);
}

#[test]
fn replicate_no_one_makes_a_shard_of_its_own() {
    let (mut cluster, [a, b, _]) = Cluster::one_durable_shard();
    cluster.router().run("SET k 1");
    let primary = cluster.primary_of(0);
    let replica = if primary == a { b } else { a };
    let (id, shard) = (
        cluster.id(replica),
        cluster.client(replica).ask("CLUSTER MYSHARDID"),
    );
    cluster.client(primary).ok("CLUSTER REPLICATE NO ONE");
    assert_eq!(cluster.primary_of(0), primary, "a primary stays what it is");
    cluster.client(replica).ok("CLUSTER REPLICATE NO ONE");
    assert_eq!(cluster.id(replica), id);
    assert_ne!(cluster.client(replica).ask("CLUSTER MYSHARDID"), shard);
    assert_eq!(own_line(&cluster, replica)[2], "myself,master");
    assert_eq!(cluster.client(replica).ask("DBSIZE"), "0");
    cluster.wait_voters(&[primary], 2);
    // The others hear of it.
    cluster.wait("the primary to see a second primary", |cluster| {
        let nodes = cluster.client(primary).ask("CLUSTER NODES");
        let line = nodes.lines().find(|line| line.starts_with(&id));
        line.is_some_and(|line| line.contains(" master "))
    });
    cluster.router().run("SET k 2");
    cluster.replicate(replica, primary);
    cluster.wait_voters(&[primary], 3);
    cluster.kill(primary);
    let reply = cluster.router().run("GET k");
    assert_eq!(reply.as_bytes(), Some(&b"2"[..]));
    cluster.start(primary);
}

/// What cannot be done safely is refused, and changes nothing.
#[test]
fn a_member_that_cannot_leave_stays() {
    let (mut cluster, [a, b, witness]) = Cluster::one_durable_shard();
    cluster.router().run("SET k 1");
    let primary = cluster.primary_of(0);
    let replica = if primary == a { b } else { a };
    let refused = cluster.client(primary).error("CLUSTER RESET");
    assert_eq!(
        refused,
        "ERR CLUSTER RESET can't be called with master nodes containing keys"
    );
    // Without a majority nobody can be let go.
    cluster.kill(primary);
    cluster.kill(witness);
    let shard = cluster.client(replica).ask("CLUSTER MYSHARDID");
    let mut client = cluster.client(replica);
    let minute = Some(Duration::from_secs(60));
    client.stream.set_read_timeout(minute).expect("a timeout");
    let refused = client.error("CLUSTER RESET");
    assert!(refused.starts_with("UNCERTAIN "), "{refused}");
    assert_eq!(cluster.client(replica).ask("CLUSTER MYSHARDID"), shard);
    cluster.start(primary);
    cluster.start(witness);
    let reply = cluster.router().run("GET k");
    assert_eq!(reply.as_bytes(), Some(&b"1"[..]));
    cluster.wait_voters(&[primary], 3);
}

/// Whichever member is asked to forget another one: the shard has removed it when the answer is OK.
#[test]
fn a_follower_that_is_told_to_forget_has_the_member_removed() {
    let (mut cluster, [a, b, witness]) = Cluster::one_durable_shard();
    cluster.router().run("SET k 1");
    let primary = cluster.primary_of(0);
    let replica = if primary == a { b } else { a };
    let id = cluster.id(witness);
    cluster.kill(witness);
    cluster.kill(primary);

    // Without a majority nothing can be removed, and nothing is said to be.
    let mut client = cluster.client(replica);
    let minute = Some(Duration::from_secs(60));
    client.stream.set_read_timeout(minute).expect("a timeout");
    let refused = client.error(&format!("CLUSTER FORGET {id}"));
    assert!(refused.starts_with("UNCERTAIN "), "{refused}");
    assert!(client.ask("CLUSTER NODES").contains(&id));

    cluster.start(primary);
    let primary = cluster.primary_of(0);
    let follower = if primary == a { b } else { a };
    cluster.client(follower).ok(&format!("CLUSTER FORGET {id}"));
    // At once: nothing is under way any more.
    let voters = cluster
        .client(primary)
        .info("durability", "durability_voters");
    assert_eq!(voters.as_deref(), Some("2"));
    let nodes = cluster.client(follower).ask("CLUSTER NODES");
    assert!(!nodes.contains(&id), "{nodes}");
    let reply = cluster.router().run("GET k");
    assert_eq!(reply.as_bytes(), Some(&b"1"[..]));
}

/// A witness that is reset leaves each of its shards, and can be given to them again.
#[test]
fn a_witness_that_is_reset_leaves_its_shards() {
    let (mut cluster, shards, witness) = Cluster::durable_shards(2);
    let primaries: Vec<NodeRef> = shards.iter().map(|[primary, _]| *primary).collect();
    for how in ["SOFT", "HARD"] {
        let id = cluster.id(witness);
        cluster.client(witness).ok(&format!("CLUSTER RESET {how}"));
        assert_eq!(cluster.id(witness) == id, how == "SOFT");
        cluster.wait_voters(&primaries, 2);
        cluster.kill(witness);
        cluster.start(witness);
        cluster.meet(witness, primaries[0]);
        for primary in &primaries {
            cluster.wait("the witness to know the primary", |cluster| {
                let id = cluster.id(*primary);
                cluster.client(witness).ask("CLUSTER NODES").contains(&id)
            });
            cluster.replicate(witness, *primary);
        }
        cluster.wait_voters(&primaries, 3);
    }
    let primary = cluster.primary_of(0);
    cluster.kill(primary);
    cluster.router().run("SET k 1");
    cluster.start(primary);
}

/// `WAIT` counts what each voter has acknowledged itself, and goes on counting while it waits.
#[test]
fn wait_counts_the_voters_that_have_the_write() {
    let (mut cluster, [a, b, witness]) = Cluster::one_durable_shard();
    let primary = cluster.primary_of(0);
    let replica = if primary == a { b } else { a };
    let mut client = cluster.client(primary);
    assert_eq!(client.ask("WAIT 0 0"), "2", "nothing was written");
    client.ok("SET k 1");
    assert_eq!(client.ask("WAIT 2 20000"), "2");

    cluster.kill(replica);
    client.ok("SET k 2");
    assert_eq!(client.ask("WAIT 1 20000"), "1");
    let since = Instant::now();
    assert_eq!(client.ask("WAIT 2 1000"), "1");
    // The server looks at its clock once a turn, perhaps a little before it reads the command.
    assert!(since.elapsed() >= Duration::from_millis(900));
    // Sent together: it waits for the commit, too.
    client.send(&[b"SET", b"k", b"3"]).expect("sent");
    client.send(&[b"WAIT", b"1", b"20000"]).expect("sent");
    assert!(client.receive().expect("a reply").is_ok());
    let copies = client.receive().expect("a reply");
    assert_eq!(crate::harness::client::text(&copies).as_deref(), Some("1"));

    client.send(&[b"WAIT", b"2", b"0"]).expect("sent");
    cluster.start(replica);
    let copies = client.receive().expect("a reply");
    assert_eq!(crate::harness::client::text(&copies).as_deref(), Some("2"));

    // An office that ends takes those who wait with it.
    cluster.kill(witness);
    client.ok("SET k 4");
    client.send(&[b"WAIT", b"2", b"0"]).expect("sent");
    cluster.wait("the replica to be level", |cluster| {
        let digest = |node| cluster.client(node).ask("DEBUG DIGEST");
        digest(replica) == digest(primary)
    });
    cluster.wait("the replica to see its primary", |cluster| {
        cluster.client(replica).run("CLUSTER FAILOVER").is_ok()
    });
    let ended = client.receive().expect("a reply");
    assert!(
        matches!(&ended, crate::harness::client::Reply::Error(text) if text.starts_with(b"UNBLOCKED")),
        "{ended:?}"
    );
}

/// A primary whose executor stands still gives its office up, although the rest of its process is well.
#[test]
fn a_primary_that_executes_nothing_hands_its_office_over() {
    let parent = std::env::temp_dir();
    let mut cluster = Cluster::in_dir(&parent)
        .common("raft-election-timeout 1000")
        .common("cluster-node-timeout 2000");
    let [a, b, _] = cluster.add_durable_shard();
    let primary = cluster.primary_of(0);
    let replica = if primary == a { b } else { a };
    let load = Load::start(&cluster, "k", 4);
    load.wait_for(200, PATIENCE);
    let mut sleeper = cluster.client(primary);
    let since = Instant::now();
    sleeper.send(&[b"DEBUG", b"SLEEP", b"20"]).expect("sent");
    cluster.wait("the replica to lead", |cluster| {
        cluster.client(replica).info("replication", "role") == Some("master".into())
    });
    let took = since.elapsed();
    assert!(took < Duration::from_secs(15), "took {took:?}");
    load.wait_for(200, PATIENCE);
    cluster.wait("the old primary to follow", |cluster| {
        let client =
            crate::harness::Client::connect_within(cluster.port(primary), Duration::from_secs(1));
        let role = client.ok().and_then(|mut c| c.info("replication", "role"));
        role == Some("slave".into())
    });
    load.wait_for(200, PATIENCE);
    load.finish().assert_nothing_lost(&mut cluster.router());
    cluster.wait("equal digests on both data nodes", |cluster| {
        let digest = |node| cluster.client(node).ask("DEBUG DIGEST");
        digest(primary) == digest(replica)
    });
}

/// The bus does not wait for the executor.
#[test]
fn a_long_command_does_not_silence_the_bus() {
    let parent = std::env::temp_dir();
    let mut cluster = Cluster::in_dir(&parent)
        .common("raft-election-timeout 1000")
        .common("cluster-node-timeout 2000");
    let [a, b, _] = cluster.add_durable_shard();
    let primary = cluster.primary_of(0);
    let replica = if primary == a { b } else { a };
    let stranger = cluster.add_node(&["durability quorum"]);
    cluster.start(stranger);
    cluster.meet(stranger, replica);
    cluster.wait_acquainted();
    let (id, gone) = (cluster.id(replica), cluster.id(stranger));
    let mut forgetter = cluster.client(replica);
    let mut sleeper = cluster.client(replica);
    forgetter
        .send(&[b"CLUSTER", b"FORGET", gone.as_bytes()])
        .expect("sent");
    sleeper.send(&[b"DEBUG", b"SLEEP", b"6"]).expect("sent");
    let until = Instant::now() + Duration::from_millis(5500);
    while Instant::now() < until {
        let nodes = cluster.client(primary).ask("CLUSTER NODES");
        let line = nodes.lines().find(|line| line.starts_with(&id));
        let line = line.expect("the replica is known");
        assert!(!line.contains("fail"), "{line}");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(forgetter.receive().expect("a reply").is_ok());
}
