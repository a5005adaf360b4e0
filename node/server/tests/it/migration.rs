//! Slots on the move while clients write to them.

use std::time::Duration;

use crate::harness::cluster::PATIENCE;
use crate::harness::router::slot_of;
use crate::harness::{Cluster, Load, NodeRef, text};

/// The slot that the load writes to.
const TAG: &str = "{moving}";

fn start_move(cluster: &mut Cluster, slot: u16, target: NodeRef) {
    let source = cluster.primary_of(slot);
    let target_id = cluster.id(target);
    cluster.client(source).ok(&format!(
        "CLUSTER MIGRATESLOTS SLOTSRANGE {slot} {slot} NODE {target_id}"
    ));
}

/// Where the slot is once all agree: on exactly one shard.
fn wait_settled(cluster: &mut Cluster, slot: u16) -> NodeRef {
    cluster.wait_well();
    cluster.wait("no migration to be under way", |cluster| {
        cluster.data_ports().into_iter().all(|port| {
            let Ok(mut client) = crate::harness::Client::connect(port) else {
                return false;
            };
            let Ok(reply) = client.try_run("CLUSTER GETSLOTMIGRATIONS") else {
                return false;
            };
            let shown = format!("{:?}", flat(&reply));
            ["success", "failed", "canceled", "cancelled"]
                .iter()
                .any(|s| shown.contains(s))
                || shown == "[]"
        })
    });
    cluster.primary_of(slot)
}

/// All texts inside a reply.
fn flat(reply: &crate::harness::client::Reply) -> Vec<String> {
    use crate::harness::client::Reply;
    match reply {
        Reply::Array(items) | Reply::Set(items) => items.iter().flat_map(flat).collect(),
        Reply::Map(pairs) => pairs
            .iter()
            .flat_map(|(k, v)| [flat(k), flat(v)].concat())
            .collect(),
        other => text(other).into_iter().collect(),
    }
}

#[test]
fn a_slot_moves_under_load() {
    let (mut cluster, shards, _) = Cluster::durable_shards(2);
    let slot = slot_of(TAG.as_bytes());
    let load = Load::start(&cluster, TAG, 4);
    load.wait_for(2000, PATIENCE);
    let source = cluster.primary_of(slot);
    let target = shards
        .iter()
        .map(|s| s[0])
        .find(|n| *n != source)
        .expect("another shard");
    start_move(&mut cluster, slot, target);
    cluster.wait("the slot to be on the target", |cluster| {
        cluster.primary_of(slot) == target
    });
    load.wait_for(1000, PATIENCE);
    let report = load.finish();
    // Writes wait while the slot changes hands, and are then answered or sent on.
    assert_eq!(report.unknown(), 0, "{}", report.last_refusal());
    assert!(
        report.longest_write() < Duration::from_secs(5),
        "{:?}",
        report.longest_write()
    );
    report.assert_nothing_lost(&mut cluster.router());
    let left = cluster.client(source).ask("DBSIZE");
    assert_eq!(left, "0", "keys of the slot are left on the source");
}

fn survives_a_kill_of(pick: impl Fn(NodeRef, NodeRef) -> NodeRef, after: Duration) {
    let (mut cluster, shards, _) = Cluster::durable_shards(2);
    let slot = slot_of(TAG.as_bytes());
    let load = Load::start(&cluster, TAG, 4);
    load.wait_for(2000, PATIENCE);
    let source = cluster.primary_of(slot);
    let target = shards
        .iter()
        .map(|s| s[0])
        .find(|n| *n != source)
        .expect("another shard");
    start_move(&mut cluster, slot, target);
    std::thread::sleep(after);
    let victim = pick(source, target);
    cluster.kill(victim);
    load.wait_for(200, PATIENCE);
    cluster.start(victim);
    wait_settled(&mut cluster, slot);
    load.wait_for(200, PATIENCE);
    load.finish().assert_nothing_lost(&mut cluster.router());
}

#[test]
fn the_source_is_killed_during_a_move() {
    for after in [0, 30, 150] {
        survives_a_kill_of(|source, _| source, Duration::from_millis(after));
    }
}

#[test]
fn the_target_is_killed_during_a_move() {
    for after in [0, 30, 150] {
        survives_a_kill_of(|_, target| target, Duration::from_millis(after));
    }
}

#[test]
fn a_move_can_be_cancelled() {
    let (mut cluster, shards, _) = Cluster::durable_shards(2);
    let slot = slot_of(TAG.as_bytes());
    let load = Load::start(&cluster, TAG, 2);
    load.wait_for(1000, PATIENCE);
    let source = cluster.primary_of(slot);
    let target = shards
        .iter()
        .map(|s| s[0])
        .find(|n| *n != source)
        .expect("another shard");
    start_move(&mut cluster, slot, target);
    // It may have been decided before it could be cancelled; either way the slot has one owner and all its keys.
    let _ = cluster.client(source).run("CLUSTER CANCELSLOTMIGRATIONS");
    wait_settled(&mut cluster, slot);
    load.wait_for(200, PATIENCE);
    load.finish().assert_nothing_lost(&mut cluster.router());
}

#[test]
fn a_move_to_a_stranger_is_refused() {
    let (mut cluster, _, witness) = Cluster::durable_shards(2);
    let source = cluster.primary_of(0);
    let mut client = cluster.client(source);
    let nobody = "0".repeat(40);
    assert!(
        client
            .error(&format!(
                "CLUSTER MIGRATESLOTS SLOTSRANGE 0 0 NODE {nobody}"
            ))
            .starts_with("ERR")
    );
    let own = cluster.id(source);
    assert!(
        client
            .error(&format!("CLUSTER MIGRATESLOTS SLOTSRANGE 0 0 NODE {own}"))
            .starts_with("ERR")
    );
    let witness = cluster.id(witness);
    // What a node is, it tells the others itself, some time after they have heard of it.
    cluster.wait("the source to know the witness for one", |cluster| {
        let shards = cluster.client(source).run("CLUSTER SHARDS");
        !flat(&shards).contains(&witness)
    });
    assert!(
        client
            .error(&format!(
                "CLUSTER MIGRATESLOTS SLOTSRANGE 0 0 NODE {witness}"
            ))
            .starts_with("ERR")
    );
    client.ok("SET {b} 1");
}

/// `CONFIG SET` of what concerns slot migrations takes effect at once.
#[test]
fn the_log_of_finished_moves_is_as_long_as_configured() {
    let (mut cluster, shards, _) = Cluster::durable_shards(2);
    let source = cluster.primary_of(0);
    let other = shards.iter().map(|s| s[0]).find(|n| *n != source);
    let other = other.expect("another shard");
    let shown = |cluster: &Cluster| {
        let reply = cluster.client(source).run("CLUSTER GETSLOTMIGRATIONS");
        let finished = flat(&reply);
        finished.iter().filter(|text| *text == "success").count()
    };
    for slot in 0..3 {
        start_move(&mut cluster, slot, other);
        cluster.wait("the move to be over", |cluster| {
            shown(cluster) == usize::from(slot) + 1
        });
    }
    let set = "CONFIG SET cluster-slot-migration-log-max-len";
    cluster.client(source).ok(&format!("{set} 1"));
    cluster.wait("one finished move to be shown", |cluster| {
        shown(cluster) == 1
    });
    cluster.client(source).ok(&format!("{set} 2"));
    start_move(&mut cluster, 3, other);
    cluster.wait("two finished moves to be shown", |cluster| {
        shown(cluster) == 2
    });
}

/// No write is lost between the moment in which a key's value is sent and that of its deletion here, without slots either.
fn keys_leave_under_writes(config: &[&str]) {
    let mut cluster = Cluster::new();
    let lines = [&["cluster-enabled no"], config].concat();
    let (source, target) = (cluster.add_node(&lines), cluster.add_node(&lines));
    cluster.start(source);
    cluster.start(target);
    cluster.wait("both to take writes", |c| {
        [source, target]
            .into_iter()
            .all(|node| c.client(node).run("SET ready 1") != c.client(node).run("GET none"))
    });
    let stop = std::sync::atomic::AtomicBool::new(false);
    let port = cluster.port(target);
    let (mut gone, written) = (0, std::sync::atomic::AtomicI64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..3 {
            let mut writer = cluster.client(source);
            let (stop, written) = (&stop, &written);
            scope.spawn(move || {
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    writer.run("INCR counter");
                    written.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                }
            });
        }
        let (mut here, mut there) = (cluster.client(source), cluster.client(target));
        for _ in 0..100 {
            let answer = here.ask(&format!("MIGRATE 127.0.0.1 {port} counter 0 5000"));
            if answer == "OK" {
                gone += there.ask("GETDEL counter").parse::<i64>().unwrap();
            }
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    let mut here = cluster.client(source);
    let left = here.ask("GET counter").parse::<i64>().unwrap_or(0);
    assert!(gone > 0);
    assert_eq!(gone + left, written.into_inner());
    // What is kept for the next time is closed when that does not come.
    assert_eq!(
        here.info("stats", "migrate_cached_sockets"),
        Some("1".into())
    );
}

#[test]
fn a_server_by_itself_loses_no_write_to_migrate() {
    keys_leave_under_writes(&["durability async"]);
}

#[test]
fn a_durable_server_by_itself_loses_no_write_to_migrate() {
    keys_leave_under_writes(&["durability quorum"]);
}
