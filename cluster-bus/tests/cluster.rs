//! Clusters of buses in memory.

mod world;

use holdfast_cluster_bus::wire::{
    HeaderOut, MessageType, decode, encode_bare, encode_ping, encode_update, flags,
};
use holdfast_cluster_bus::{
    Action, Bus, BusConfig, NodesConf, Now, ShardRole, ShardTruth, SlotSet,
};
use std::collections::BTreeSet;
use world::{World, config, name, shard};

fn quorum(n: usize) -> BusConfig {
    BusConfig {
        quorum: true,
        raft_addr: format!("127.0.0.1:{}", 27000 + n),
        ..config(n)
    }
}

fn half(first: bool) -> SlotSet {
    SlotSet::from_ranges([if first { (0, 8191) } else { (8192, 16383) }])
}

fn set_self(world: &mut World, n: usize, of_shard: usize, role: ShardRole, slots: SlotSet) {
    let now = world.now;
    world.buses[n].set_self(
        ShardTruth {
            shard: shard(of_shard),
            role,
            slots,
            leaving: Vec::new(),
        },
        now,
    );
    world.settle();
}

/// Shard 0 is nodes 0 and 1, led by 0, with the first half of the slots; shard 2 is nodes 2 and 3, led by 2.
fn two_quorum_shards() -> World {
    let mut world = World::new(4, quorum);
    world.meet_all();
    set_self(&mut world, 0, 0, ShardRole::Leader, half(true));
    set_self(&mut world, 2, 2, ShardRole::Leader, half(false));
    world.run(4000);
    set_self(
        &mut world,
        1,
        0,
        ShardRole::Follower {
            leader: Some(name(0)),
        },
        half(true),
    );
    set_self(
        &mut world,
        3,
        2,
        ShardRole::Follower {
            leader: Some(name(2)),
        },
        half(false),
    );
    world.run(4000);
    world.agreed(0, 0);
    world.agreed(16383, 2);
    for bus in &world.buses {
        assert!(bus.is_ok());
    }
    world
}

#[test]
fn five_nodes_that_one_of_them_meets_know_each_other() {
    let world = World::settled(5, config);
    let epochs: BTreeSet<u64> = world.buses.iter().map(|bus| bus.myself().epoch).collect();
    assert_eq!(epochs.len(), 5, "collisions are resolved");
    for (n, bus) in world.buses.iter().enumerate() {
        assert_eq!(bus.node_count(), 5);
        for (m, other) in world.buses.iter().enumerate() {
            let seen = bus.node(&name(m)).unwrap();
            assert_eq!(
                (seen.shard, seen.epoch, &seen.slots),
                (shard(m), other.myself().epoch, &other.myself().slots)
            );
            assert!(seen.connected && !seen.handshake, "{n} {m}");
        }
        assert!(bus.link_views().len() == 8, "both directions");
    }
}

#[test]
fn a_dead_primary_fails_by_majority_and_comes_back() {
    let mut world = World::settled(5, config);
    world.kill(4);
    world.run(2000);
    assert!(world.buses[0].is_ok(), "not before the time-out");
    world.run(4000);
    for bus in &world.buses[..4] {
        assert!(bus.node(&name(4)).unwrap().failed && !bus.is_ok());
        assert!(
            bus.info().contains("cluster_slots_fail:3280\r\n"),
            "{}",
            bus.info()
        );
    }
    world.restart(4);
    world.run(8000);
    for bus in &world.buses {
        assert!(bus.is_ok(), "{}", bus.describe_all(false, world.now));
    }
    world.agreed(16383, 4);
}

#[test]
fn one_suspicion_is_no_failure_and_a_minority_is_down() {
    let mut world = World::settled(5, config);
    for n in 1..5 {
        world.cut.insert((0, n));
    }
    world.run(6000);
    assert!(!world.buses[0].is_ok(), "the one that is alone");
    assert!(
        world.buses[0].nodes().iter().all(|node| !node.failed),
        "it has no majority to call anyone failed"
    );
    assert!(world.buses[1].node(&name(0)).unwrap().failed);
    world.cut.clear();
    world.run(10_000);
    assert!(world.buses.iter().all(Bus::is_ok));
}

#[test]
fn a_forgotten_node_stays_away_for_a_while() {
    let mut world = World::settled(4, config);
    let now = world.now;
    world.buses[0].forget(&name(3), now).unwrap();
    world.run(5000);
    // The others learn it by an extension.
    for bus in &world.buses[..3] {
        assert!(bus.node(&name(3)).is_none());
    }
    world.kill(3);
    world.run(61_000);
    let now = world.now;
    assert!(
        world.buses[0].forget(&name(3), now).is_err(),
        "nothing is remembered of it"
    );
}

#[test]
fn the_greater_epoch_takes_slots_under_async() {
    let mut world = World::settled(3, config);
    // Node 1 takes slots of node 0 as `SETSLOT … NODE` does at the end of a migration.
    for slot in 0..10 {
        assert!(world.buses[1].set_importing(slot, &name(0)));
        world.buses[1].assign_slot(slot, &name(1));
    }
    world.settle();
    world.run(1000);
    world.agreed(5, 1);
    world.agreed(10, 0);
    let lost: SlotSet = world
        .lost
        .iter()
        .filter(|(n, _)| *n == 0)
        .flat_map(|(_, slots)| slots.iter())
        .collect();
    assert_eq!(lost, SlotSet::from_ranges([(0, 9)]));
}

#[test]
fn a_new_leader_is_followed_at_once() {
    let mut world = two_quorum_shards();
    let seen = world.buses[3].node(&name(1)).unwrap();
    assert!(seen.replica && seen.primary == Some(name(0)) && seen.shard == shard(0) && seen.quorum);
    assert_eq!(seen.raft_addr.as_deref(), Some("127.0.0.1:27001"));
    world.kill(0);
    set_self(&mut world, 1, 0, ShardRole::Leader, half(true));
    // No tick has passed: the news has been sent, not gossiped.
    world.agreed(0, 1);
    assert!(world.buses[3].myself().replica);

    // The old leader comes back, with its old nodes.conf and claim.
    world.restart(0);
    world.run(3000);
    world.agreed(0, 1);
    set_self(
        &mut world,
        0,
        0,
        ShardRole::Follower {
            leader: Some(name(1)),
        },
        half(true),
    );
    world.run(1000);
    for n in [1, 2, 3] {
        let old = world.buses[n].node(&name(0)).unwrap();
        assert!(
            old.replica && old.primary == Some(name(1)) && old.slots.is_empty(),
            "node {n}"
        );
    }
    assert!(
        world.lost.is_empty(),
        "under quorum the bus never has keys deleted"
    );
}

#[test]
fn a_replica_asks_its_leader_for_the_office() {
    let mut world = two_quorum_shards();
    assert!(world.buses[1].request_failover());
    assert!(!world.buses[0].request_failover(), "it has no primary");
    world.settle();
    assert_eq!(world.failovers, [(0, name(1))]);
}

/// The new leader has not heard yet that the old one follows it; the request itself says so.
#[test]
fn an_old_leader_may_ask_for_the_office_at_once() {
    let mut world = two_quorum_shards();
    let now = world.now;
    let mut truth = world.buses[0].truth().unwrap().clone();
    world.buses[1].set_self(truth.clone(), now);
    truth.role = ShardRole::Follower {
        leader: Some(name(1)),
    };
    world.buses[0].set_self(truth, now);
    assert!(world.buses[0].request_failover());
    world.settle();
    assert_eq!(world.failovers, [(1, name(0))]);
}

#[test]
fn a_new_leader_wins_even_if_the_old_one_had_a_greater_epoch() {
    let mut world = two_quorum_shards();
    // The old leader has moved far ahead, unheard by its follower.
    world.cut.insert((0, 1));
    world.run(100);
    for _ in 0..5 {
        let now = world.now;
        let mut truth = world.buses[0].truth().unwrap().clone();
        truth.slots = SlotSet::from_ranges([(0, 8190)]);
        world.buses[0].set_self(truth.clone(), now);
        truth.slots = half(true);
        world.buses[0].set_self(truth, now);
        world.settle();
    }
    world.cut.insert((1, 2));
    world.cut.insert((1, 3));
    world.kill(0);
    set_self(&mut world, 1, 0, ShardRole::Leader, half(true));
    world.cut.clear();
    world.run(8000);
    world.agreed(0, 1);
}

#[test]
fn no_epoch_takes_a_slot_from_a_quorum_shard() {
    let mut world = World::new(3, |n| if n == 2 { config(n) } else { quorum(n) });
    world.meet_all();
    set_self(&mut world, 0, 0, ShardRole::Leader, half(true));
    set_self(&mut world, 1, 1, ShardRole::Leader, half(false));
    world.run(5000);
    // An async node (or a Valkey) takes the slot by force, under an epoch greater than all.
    world.buses[2].set_importing(7, &name(0));
    world.buses[2].assign_slot(7, &name(2));
    let before = world.buses[0].myself().epoch;
    world.settle();
    assert_eq!(world.owner(0, 7), Some(0), "at no time");
    world.run(3000);
    world.agreed(7, 0);
    assert!(world.buses[0].myself().epoch > before);
}

#[test]
fn slots_handed_over_by_the_log_move_at_once() {
    let mut world = two_quorum_shards();
    let moved = SlotSet::from_ranges([(0, 99)]);
    let (mut source, mut target) = (half(true), half(false));
    source.subtract(&moved);
    target.extend(&moved);
    // The source's log decides first; its clients are sent to the target from then on.
    world.buses[0].hand_over(&moved, &name(2));
    set_self(&mut world, 0, 0, ShardRole::Leader, source.clone());
    assert_eq!(world.owner(0, 50), Some(2));
    assert!(world.buses.iter().all(Bus::is_ok));
    set_self(&mut world, 2, 2, ShardRole::Leader, target);
    assert_eq!((world.owner(2, 50), world.owner(3, 50)), (Some(2), Some(2)));
    // The followers' logs come a moment later.
    set_self(
        &mut world,
        1,
        0,
        ShardRole::Follower {
            leader: Some(name(0)),
        },
        source,
    );
    world.run(5000);
    world.agreed(50, 2);
    world.agreed(100, 0);
}

#[test]
fn handed_off_slots_are_answered_for_until_their_new_owner_claims_them() {
    let mut world = two_quorum_shards();
    let moved = SlotSet::from_ranges([(0, 99)]);
    let (mut source, mut target) = (half(true), half(false));
    source.subtract(&moved);
    target.extend(&moved);
    // The source's epoch is far ahead of what the target will take.
    world.cut.insert((0, 2));
    world.cut.insert((0, 3));
    let now = world.now;
    let truth = |slots: &SlotSet, leaving| ShardTruth {
        shard: shard(0),
        role: ShardRole::Leader,
        slots: slots.clone(),
        leaving,
    };
    for _ in 0..20 {
        world.buses[0].set_self(truth(&source, Vec::new()), now);
        world.buses[0].set_self(truth(&half(true), Vec::new()), now);
    }
    world.settle();
    let epoch = world.buses[0].myself().epoch;
    world.buses[0].set_self(truth(&source, vec![(moved.clone(), shard(2))]), now);
    world.settle();
    assert_eq!(world.owner(0, 50), Some(0));
    assert!(world.buses[0].is_ok(), "no slot is nobody's");
    set_self(&mut world, 2, 2, ShardRole::Leader, target);
    // Whoever has heard of the source's epoch tells the target, which then goes above it.
    world.cut.clear();
    world.run(5000);
    assert_eq!(world.owner(0, 50), Some(2));
    assert_eq!(
        world.buses[0].myself().epoch,
        epoch,
        "the source does not fight for them"
    );
    set_self(
        &mut world,
        1,
        0,
        ShardRole::Follower {
            leader: Some(name(0)),
        },
        source,
    );
    world.run(8000);
    world.agreed(50, 2);
    world.agreed(100, 0);
}

#[test]
fn a_witness_is_a_node_without_slots() {
    let mut world = World::new(2, |n| BusConfig {
        witness: n == 1,
        ..quorum(n)
    });
    world.meet_all();
    set_self(&mut world, 0, 0, ShardRole::Leader, SlotSet::full());
    set_self(&mut world, 1, 0, ShardRole::Witness, SlotSet::full());
    world.run(5000);
    let seen = world.buses[0].node(&name(1)).unwrap();
    assert!(seen.witness && !seen.replica && seen.slots.is_empty() && seen.shard != shard(0));
    assert!(world.buses[1].is_ok());
    world.kill(1);
    world.run(8000);
    assert!(world.buses[0].is_ok());
}

#[test]
fn a_witness_that_leads_for_a_moment_is_nobodys_primary() {
    let mut world = World::new(3, |n| BusConfig {
        witness: n == 2,
        ..quorum(n)
    });
    world.meet_all();
    let follower = |of: usize| ShardRole::Follower {
        leader: Some(name(of)),
    };
    set_self(&mut world, 0, 0, ShardRole::Leader, SlotSet::full());
    set_self(&mut world, 2, 0, ShardRole::Witness, SlotSet::full());
    world.run(4000);
    set_self(&mut world, 1, 0, follower(0), SlotSet::full());
    world.run(4000);
    world.kill(0);
    set_self(&mut world, 1, 0, follower(2), SlotSet::full());
    world.run(1000);
    for n in [1, 2] {
        let seen = |of| world.buses[n].node(&name(of)).unwrap();
        assert_eq!(seen(1).primary, Some(name(0)), "as seen by {n}");
        assert_eq!((seen(1).shard, seen(2).shard), (shard(0), shard(2)));
    }
    // What is heard before the log has spoken does not name this node's shard.
    world.kill(1);
    world.restart(1);
    world.run(1000);
    assert_eq!(world.buses[1].my_shard(), shard(0));
    set_self(&mut world, 1, 0, ShardRole::Leader, SlotSet::full());
    world.run(1000);
    let seen = world.buses[2].node(&name(1)).unwrap();
    assert_eq!((seen.replica, seen.shard), (false, shard(0)));
}

/// A message as another node would send it.
fn forged<'a>(from: usize, slots: &'a SlotSet) -> HeaderOut<'a> {
    HeaderOut {
        sender: name(from),
        port: 7000 + from as u16,
        other_port: 0,
        bus_port: 17000 + from as u16,
        current_epoch: 100,
        config_epoch: 100,
        offset: 1,
        slots,
        replica_of: None,
        address: "127.0.0.1",
        flags: flags::PRIMARY | flags::MYSELF,
        state: 0,
        mflags: 0,
    }
}

fn drain(bus: &mut Bus, now: Now) -> Vec<Action> {
    std::iter::from_fn(|| bus.poll_action(now)).collect()
}

#[test]
fn a_vote_is_on_disk_before_it_is_sent_and_given_once_an_epoch() {
    let mut world = World::settled(4, config);
    let now = world.now;
    // Node 3 becomes a replica of node 2, which fails.
    let slots = SlotSet::from_bitmap(&{
        let mut bitmap = Vec::new();
        world.buses[2].myself().slots.write_bitmap(&mut bitmap);
        bitmap.try_into().unwrap()
    });
    let epoch = world.buses[2].myself().epoch;
    let link = world.buses[0].on_accepted("127.0.0.1", "127.0.0.1", now);
    let replica = HeaderOut {
        replica_of: Some(name(2)),
        flags: flags::REPLICA,
        current_epoch: epoch + 10,
        config_epoch: epoch,
        ..forged(3, &slots)
    };
    let bus = &mut world.buses[0];
    bus.on_packet(
        link,
        &encode_ping(MessageType::Ping, &replica, &[], None),
        now,
    )
    .unwrap();
    drain(bus, now);
    let request = encode_bare(MessageType::FailoverAuthRequest, &replica);
    bus.on_packet(link, &request, now).unwrap();
    let is_vote = |action: &Action| match action {
        Action::Send { packet, .. } => {
            decode(packet).unwrap().body.message_type() == MessageType::FailoverAuthAck
        }
        _ => false,
    };
    assert!(!drain(bus, now).iter().any(is_vote), "its primary is up");

    let bus = &mut world.buses[0];
    let none = SlotSet::new();
    let teller = forged(1, &none);
    let teller = HeaderOut {
        current_epoch: epoch + 10,
        config_epoch: 0,
        replica_of: Some(name(2)),
        ..teller
    };
    let other = bus.on_accepted("127.0.0.1", "127.0.0.1", now);
    bus.on_packet(
        other,
        &holdfast_cluster_bus::wire::encode_fail(&teller, &name(2)),
        now,
    )
    .unwrap();
    drain(bus, now);
    bus.on_packet(link, &request, now).unwrap();
    let actions = drain(bus, now);
    let vote = actions.iter().position(is_vote).expect("a vote");
    let saved = actions.iter().position(|action| {
        matches!(action, Action::Persist { text, sync: true }
        if text.contains(&format!("lastVoteEpoch {}", epoch + 10)))
    });
    assert!(saved.expect("it is persisted") < vote);
    bus.on_packet(link, &request, now).unwrap();
    assert!(!drain(bus, now).iter().any(is_vote), "once an epoch");
}

#[test]
fn an_update_corrects_a_stale_claim() {
    let mut world = World::settled(3, config);
    let now = world.now;
    let bus = &mut world.buses[0];
    let link = bus.on_accepted("127.0.0.1", "127.0.0.1", now);
    let none = SlotSet::new();
    let claim = SlotSet::from_ranges([(0, 3)]);
    let sender = HeaderOut {
        slots: &none,
        current_epoch: 50,
        config_epoch: 1,
        ..forged(1, &none)
    };
    bus.on_packet(link, &encode_update(&sender, &name(2), 50, &claim), now)
        .unwrap();
    drain(bus, now);
    assert_eq!(world.owner(0, 2), Some(2));
    let lost = SlotSet::from_ranges([(0, 3)]);
    assert!(!world.buses[0].myself().slots.intersects(&lost));
}

#[test]
fn foreign_bytes_change_nothing() {
    let mut world = World::settled(3, config);
    let before = world.buses[0].describe_all(false, world.now);
    let now = world.now;
    let link = world.buses[0].on_accepted("10.9.9.9", "127.0.0.1", now);
    let all = SlotSet::full();
    let stranger = HeaderOut {
        sender: name(100),
        ..forged(1, &all)
    };
    for packet in [
        encode_ping(MessageType::Ping, &stranger, &[], None),
        encode_update(&stranger, &name(1), 1000, &all),
        encode_bare(MessageType::FailoverAuthRequest, &stranger),
    ] {
        assert!(world.buses[0].on_packet(link, &packet, now).is_err());
    }
    for noise in [&b"GET / HTTP/1.0\r\n\r\n"[..], &[0; 5000], b"RCmb"] {
        assert!(world.buses[0].on_packet(link, noise, now).is_err());
    }
    assert_eq!(world.buses[0].describe_all(false, world.now), before);
    assert_eq!(world.buses[0].stats().dropped.iter().sum::<u64>(), 6);
}

#[test]
fn published_messages_reach_all_nodes_or_the_shard() {
    let mut world = two_quorum_shards();
    world.buses[0].publish(false, b"news", b"to all");
    world.buses[0].publish(true, b"{x}news", b"to the shard");
    world.settle();
    let heard = |text: &[u8]| -> Vec<usize> {
        let mut nodes: Vec<usize> = world
            .published
            .iter()
            .filter(|(_, m)| m == text)
            .map(|(n, _)| *n)
            .collect();
        nodes.sort_unstable();
        nodes
    };
    assert_eq!(heard(b"to all"), [1, 2, 3]);
    assert_eq!(heard(b"to the shard"), [1]);
}

#[test]
fn reset_makes_a_node_new() {
    let mut world = World::settled(3, config);
    let now = world.now;
    world.buses[2].reset(Some(name(9)), shard(9), now);
    world.settle();
    assert_eq!(world.buses[2].node_count(), 1);
    let me = world.buses[2].myself();
    assert_eq!(
        (me.id, me.shard, me.epoch, me.slots.is_empty()),
        (name(9), shard(9), 0, true)
    );
    world.run(5000);
    assert!(
        world.buses[0].node(&name(9)).is_none(),
        "a node that was reset is not taken back under its new name"
    );
    assert!(world.buses[0].node(&name(2)).unwrap().failed);
}

#[test]
fn the_same_seed_does_the_same() {
    let run = || {
        let mut world = World::new(4, config);
        world.log = Some(Vec::new());
        world.meet_all();
        world.run(3000);
        world.kill(3);
        world.run(5000);
        world.log.unwrap()
    };
    assert_eq!(run(), run());
}

#[test]
fn nodes_conf_of_valkey_and_back() {
    let text = include_str!("golden/nodes-valkey-9.1.2.conf");
    let conf = NodesConf::parse(text).unwrap();
    assert_eq!(conf.current_epoch, 8);
    let now = Now {
        mono_ms: 5000,
        unix_ms: 1_795_213_840_000,
    };
    let mut bus = Bus::restore(
        BusConfig {
            announce_ip: "127.0.0.1".into(),
            ..config(0)
        },
        &conf,
        1,
        now,
    );
    assert_eq!(
        bus.my_id().as_str(),
        "e27ab0642835a025b72c35eda2b207e413d2db80"
    );
    let mut again = NodesConf::parse(&bus.nodes_conf(now)).unwrap();
    // The settings of the node that reads it are newer than the file.
    for node in again
        .nodes
        .iter_mut()
        .filter(|node| node.flags & flags::MYSELF != 0)
    {
        (node.port, node.bus_port) = (21311, 31311);
        node.hostname = "node0.example".into();
        node.human_nodename = "human0".into();
    }
    assert_eq!(again, conf);

    for (text, line, what) in [
        ("", 0, "not exactly one node is flagged as myself"),
        ("vars currentEpoch", 1, "a variable without a value"),
        ("abc", 1, "fewer than eight fields"),
        ("x 127.0.0.1:1@2 myself - 0 0 0 connected", 1, "bad node id"),
    ] {
        let error = NodesConf::parse(text).unwrap_err();
        assert_eq!((error.line, error.what), (line, what));
    }
    let line = |rest: &str| format!("{} 127.0.0.1:1@2,,shard-id={} {rest}\n", name(0), shard(0));
    assert!(NodesConf::parse(&line("myself,master - 0 0 0 connected 0-16384")).is_err());
    assert!(NodesConf::parse(&line("myself,master - 0 0 0 connected [5->-zz]")).is_err());
    let open = format!(
        "myself,master - 0 0 3 connected 1 5-9 [5->-{}] [77-<-{}]",
        name(1),
        name(2)
    );
    let conf = NodesConf::parse(&line(&open)).unwrap();
    assert_eq!(
        (conf.migrating, conf.importing),
        (vec![(5, name(1))], vec![(77, name(2))])
    );
}

#[test]
fn thirty_nodes_find_each_other() {
    let mut world = World::new(30, config);
    world.meet_all();
    world.run(6000);
    for bus in &world.buses {
        assert_eq!(bus.node_count(), 30);
        assert!(
            bus.nodes()
                .iter()
                .all(|node| node.connected && !node.handshake)
        );
    }
}
