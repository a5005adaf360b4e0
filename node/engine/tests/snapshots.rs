//! Snapshots are of one instant, and each key comes once, whatever happens between the steps.

mod common;

use std::any::Any;
use std::collections::BTreeMap;

use common::Node;
use holdfast_engine::digest::ValueDigest;
use holdfast_engine::{
    Rng, SlotFilter, SlotSet, SnapshotId, SnapshotProgress, SnapshotSink, ValueRef, key_slot,
};

type Content = BTreeMap<(u16, Vec<u8>), (Option<u64>, [u8; 20])>;

fn value_digest(value: ValueRef<'_>) -> [u8; 20] {
    let mut digest = ValueDigest::new();
    value.digest(&mut digest);
    digest.0
}

#[derive(Default)]
struct Gather {
    content: Content,
    cluster: bool,
}

impl SnapshotSink for Gather {
    fn key(
        &mut self,
        db: u16,
        slot: u16,
        key: &[u8],
        expire_at_ms: Option<u64>,
        value: ValueRef<'_>,
    ) {
        assert_eq!(slot, if self.cluster { key_slot(key) } else { 0 });
        let old = self
            .content
            .insert((db, key.to_vec()), (expire_at_ms, value_digest(value)));
        assert!(old.is_none(), "{} came twice", String::from_utf8_lossy(key));
    }

    fn pending_bytes(&self) -> usize {
        0
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }
}

fn gather(cluster: bool) -> Box<Gather> {
    Box::new(Gather {
        cluster,
        ..Gather::default()
    })
}

fn finish(node: &mut Node, id: SnapshotId) -> Content {
    let sink = node.engine.snapshot_finish(id).expect("running");
    sink.into_any()
        .downcast::<Gather>()
        .expect("our sink")
        .content
}

/// What is there now: a snapshot taken in one go.
fn content(node: &mut Node, cluster: bool, filter: &SlotFilter) -> Content {
    let id = node.engine.snapshot_begin(filter.clone(), gather(cluster));
    while node.engine.snapshot_step(id, 1_000_000) == SnapshotProgress::More {}
    finish(node, id)
}

fn check(seed: u64, found: &Content, expect: &Content) {
    let missing: Vec<_> = expect.keys().filter(|k| !found.contains_key(*k)).collect();
    let extra: Vec<_> = found.keys().filter(|k| !expect.contains_key(*k)).collect();
    let other: Vec<_> = expect
        .iter()
        .filter(|(k, v)| found.get(*k).is_some_and(|f| f != *v))
        .collect();
    assert!(
        missing.is_empty() && extra.is_empty() && other.is_empty(),
        "seed {seed}: missing {missing:?}, extra {extra:?}, different {other:?}"
    );
}

/// A random command over few keys, so that they meet often.
fn command(rng: &mut Rng, keys: u64) -> String {
    let k = |rng: &mut Rng| format!("{{t{}}}k{}", rng.below(5), rng.below(keys));
    let (a, b) = (k(rng), k(rng));
    let n = rng.below(1000);
    match rng.below(40) {
        0..10 => format!("SET {a} {n}"),
        10..13 => format!("SET {a} value-{n} PX {}", 1 + rng.below(50)),
        13..15 => format!("APPEND {a} x{n}"),
        15..18 => format!("INCR {a}"),
        18..21 => format!("DEL {a} {b}"),
        21..23 => format!("RENAME {a} {b}"),
        23..25 => format!("PEXPIRE {a} {}", rng.below(60)),
        25 => format!("PERSIST {a}"),
        26 => format!("COPY {a} {b} REPLACE"),
        27..29 => format!("RPUSH {a} {n} b c"),
        29..31 => format!("SADD {a} m{n}"),
        31..33 => format!("HSET {a} f{} {n}", rng.below(5)),
        33..35 => format!("ZADD {a} {n} m{}", rng.below(5)),
        35 => format!("LPOP {a}"),
        36 => format!("SPOP {a}"),
        37 => format!("MOVE {a} {}", rng.below(3)),
        38 => format!("GET {a}"),
        _ if rng.below(40) == 0 => "FLUSHALL".into(),
        _ if rng.below(10) == 0 => format!("SWAPDB {} {}", rng.below(3), rng.below(3)),
        _ if rng.below(20) == 0 => "FLUSHDB".into(),
        _ => format!("SETRANGE {a} {} y", rng.below(30)),
    }
}

#[test]
fn a_snapshot_is_of_one_instant() {
    let mut finished = 0;
    for seed in 0..24 {
        let cluster = seed % 2 == 1;
        let mut rng = Rng::new(seed);
        let mut node = Node::new(cluster, seed);
        let keys = [10, 300, 2000][(seed % 3) as usize];
        for _ in 0..rng.below(3000) {
            let line = command(&mut rng, keys);
            node.run(&line);
        }
        let mut running: Vec<(SnapshotId, Content)> = Vec::new();
        for _ in 0..1500 {
            if running.len() < 3 && rng.below(40) == 0 {
                let filter = match rng.below(3) {
                    0 if cluster => {
                        let slots: SlotSet = (0..3)
                            .map(|t| key_slot(format!("t{t}").as_bytes()))
                            .collect();
                        SlotFilter::Only(slots)
                    }
                    _ => SlotFilter::All,
                };
                // Begun before its expectation is gathered, so that the one is seen beside the other, too.
                let id = node.engine.snapshot_begin(filter.clone(), gather(cluster));
                let expect = content(&mut node, cluster, &filter);
                running.push((id, expect));
            }
            if !running.is_empty() && rng.below(3) == 0 {
                let at = rng.index(running.len());
                let id = running[at].0;
                if node.engine.snapshot_step(id, 1 + rng.index(40)) == SnapshotProgress::Done {
                    let (_, expect) = running.remove(at);
                    check(seed, &finish(&mut node, id), &expect);
                    finished += 1;
                } else if rng.below(100) == 0 {
                    node.engine.snapshot_abort(id);
                    running.remove(at);
                }
            }
            match rng.below(20) {
                0 => {
                    let slots: SlotSet = [key_slot(b"t4")].into_iter().collect();
                    if cluster && rng.below(10) == 0 {
                        node.engine.flush_slots(&slots);
                    }
                }
                1 => node.now_ms += rng.below(10),
                2 => {
                    node.engine.active_expire_step(node.now_ms, 3, &mut node.fx);
                }
                3 => {
                    node.engine.free_step(5);
                }
                4 => node.db = rng.below(3) as u16,
                _ => {
                    let line = command(&mut rng, keys);
                    node.run(&line);
                }
            }
        }
        for (id, expect) in running {
            while node.engine.snapshot_step(id, 50) == SnapshotProgress::More {}
            check(seed, &finish(&mut node, id), &expect);
            finished += 1;
        }
        let mut steps = 0;
        while node.engine.free_step(100) {
            steps += 1;
            assert!(steps < 100_000, "freeing does not end");
        }
        let ended = ended_id(&mut node);
        assert_eq!(
            node.engine.snapshot_step(ended, 1),
            SnapshotProgress::Unknown
        );
    }
    assert!(
        finished > 100,
        "only {finished} snapshots came to their end"
    );
}

/// The id of a snapshot that has ended.
fn ended_id(node: &mut Node) -> SnapshotId {
    let id = node.engine.snapshot_begin(SlotFilter::All, gather(false));
    node.engine.snapshot_abort(id);
    id
}

#[test]
fn steps_are_small_also_over_empty_slots() {
    let mut node = Node::new(true, 1);
    for i in 0..2000 {
        node.run(&format!("SET key{i} v"));
    }
    let id = node.engine.snapshot_begin(SlotFilter::All, gather(true));
    let mut steps = 0;
    while node.engine.snapshot_step(id, 10) == SnapshotProgress::More {
        steps += 1;
    }
    assert!(steps > 150, "{steps}");
    assert_eq!(finish(&mut node, id).len(), 2000);
}

/// Entries know only 16 bits of the snapshot that has them: they must not be taken for given when so many have come and gone.
#[test]
fn versions_survive_more_snapshots_than_they_count() {
    for maintained in [false, true] {
        let mut node = Node::new(false, 1);
        for n in 0..300 {
            node.run(&format!("SET k{n} {n}"));
        }
        for round in 0..(1u32 << 16) - 48 {
            let id = node.engine.snapshot_begin(SlotFilter::All, gather(false));
            node.engine.snapshot_abort(id);
            if maintained && round % 8 == 0 {
                node.engine.free_step(50);
            }
        }
        // In here the stamps of what was never given were equal again.
        for _ in 0..5 {
            let ids: Vec<_> = (0..97)
                .map(|_| node.engine.snapshot_begin(SlotFilter::All, gather(false)))
                .collect();
            assert_eq!(content(&mut node, false, &SlotFilter::All).len(), 300);
            for id in ids {
                assert_eq!(finish(&mut node, id).len(), 300);
            }
        }
    }
}

/// A snapshot speaks of databases by the numbers that they had when it began.
#[test]
fn databases_may_be_swapped_meanwhile() {
    let mut node = Node::new(false, 1);
    node.run("SET first 0");
    node.run("SWAPDB 0 1");
    node.run("SET second 0");
    let id = node.engine.snapshot_begin(SlotFilter::All, gather(false));
    node.run("SWAPDB 0 2");
    node.db = 2;
    node.run("SET second changed");
    node.run("SET third 0");
    node.db = 1;
    node.run("FLUSHDB");
    while node.engine.snapshot_step(id, 1) == SnapshotProgress::More {}
    let found: Vec<_> = finish(&mut node, id).into_keys().collect();
    assert_eq!(found, [(0, b"second".to_vec()), (1, b"first".to_vec())]);
}

/// Moving what lies apart changes nothing but where it lies, whatever else is under way.
#[test]
fn defragmentation_changes_no_key() {
    for seed in 0..2 {
        let cluster = seed % 2 == 1;
        let mut rng = Rng::new(seed);
        let mut node = Node::new(cluster, seed);
        let size = |n: u64| 200 + (n % 2) * 200;
        for n in 0..30_000 {
            node.run(&format!("SET key{n:06} {}", "v".repeat(size(n) as usize)));
            if n % 7 == 0 {
                node.run(&format!("PEXPIRE key{n:06} 1000000"));
            }
        }
        for n in (0..30_000).filter(|n| n % 4 > 1) {
            node.run(&format!("DEL key{n:06}"));
        }
        while node.engine.free_step(1000) {}
        let (digest, unused) = (node.engine.digest(), node.engine.unused_bytes());
        node.engine.defrag_begin();
        let mut steps = 0;
        let mut running = None;
        while node.engine.defrag_step() {
            steps += 1;
            let n = rng.below(30_000);
            // A snapshot on the way must not mind, nor keys that come and go.
            match running {
                None => {
                    let before = content(&mut node, cluster, &SlotFilter::All);
                    let id = node.engine.snapshot_begin(SlotFilter::All, gather(cluster));
                    running = Some((id, before));
                }
                Some((id, _)) => {
                    node.engine.snapshot_step(id, 500);
                }
            }
            node.run(&format!("SET abc{n:06} {}", "w".repeat(size(n) as usize)));
            node.run(&format!("DEL abc{n:06}"));
            node.run(&format!("GET key{n:06}"));
            assert!(steps < 10_000, "it does not end");
        }
        let (id, before) = running.expect("a snapshot");
        while node.engine.snapshot_step(id, 1000) == SnapshotProgress::More {}
        check(seed, &finish(&mut node, id), &before);
        assert_eq!(node.engine.digest(), digest, "seed {seed}");
        while node.engine.free_step(1000) {}
        let after = node.engine.unused_bytes();
        assert!(
            after * 2 < unused && steps > 5,
            "seed {seed}: {unused} unused, then {after}"
        );
        for n in (0..30_000).filter(|n| n % 4 <= 1) {
            let len = node.run(&format!("STRLEN key{n:06}"));
            assert_eq!(len, size(n).to_string(), "key{n}");
            node.run(&format!("DEL key{n:06}"));
        }
        assert_eq!(node.engine.dbsize(0), 0);
    }
}
