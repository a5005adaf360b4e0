//! Which keys go when memory is full.

mod common;

use std::collections::BTreeSet;

use common::Node;
use holdfast_engine::Eviction;

fn node(policy: &str) -> Node {
    let mut node = Node::new(false, 3);
    node.engine.config_mut().eviction = Eviction::named(policy).expect("a policy");
    node
}

fn evict(node: &mut Node, count: usize) -> usize {
    (0..count)
        .take_while(|_| {
            node.engine
                .evict_one(node.now_ms, &mut node.rng, &mut node.fx)
        })
        .count()
}

/// The numbers of the keys `k…` that are still there, without an access to them.
fn left(node: &mut Node) -> BTreeSet<usize> {
    let keys = node.run("KEYS k*");
    keys.split(|c: char| !c.is_ascii_digit())
        .filter_map(|n| n.parse().ok())
        .collect()
}

#[test]
fn lru_takes_what_was_not_used_for_long() {
    let mut node = node("allkeys-lru");
    for n in 0..2000 {
        node.now_ms += 1000;
        node.run(&format!("SET k{n} value"));
    }
    // The first 500 are used again: now the oldest are 500 to 999.
    for n in 0..500 {
        node.now_ms += 1000;
        node.run(&format!("GET k{n}"));
    }
    assert_eq!(evict(&mut node, 500), 500);
    let left = left(&mut node);
    assert_eq!(left.len(), 1500);
    let old_gone = (500..1000).filter(|n| !left.contains(n)).count();
    let fresh_gone = (0..500).filter(|n| !left.contains(n)).count();
    // Valkey's own test of its sampling asks for as much.
    assert!(old_gone > 350 && fresh_gone < 5, "{old_gone} {fresh_gone}");
}

#[test]
fn lfu_keeps_what_is_used_often() {
    let mut node = node("allkeys-lfu");
    for n in 0..1000 {
        node.run(&format!("SET k{n} value"));
    }
    for _ in 0..60 {
        for n in 0..100 {
            node.run(&format!("GET k{n}"));
        }
    }
    assert!(
        node.run("OBJECT FREQ k1")
            .parse::<u8>()
            .is_ok_and(|f| f > 5)
    );
    assert_eq!(evict(&mut node, 800), 800);
    let left = left(&mut node);
    let hot = (0..100).filter(|n| left.contains(n)).count();
    assert!(hot > 97, "{hot}");
}

#[test]
fn volatile_policies_take_nothing_else() {
    for policy in [
        "volatile-lru",
        "volatile-lfu",
        "volatile-ttl",
        "volatile-random",
    ] {
        let mut node = node(policy);
        for n in 0..3000 {
            let ttl = if n % 10 == 0 {
                format!(" EX {}", 10_000 + n)
            } else {
                String::new()
            };
            node.run(&format!("SET k{n} value{ttl}"));
        }
        assert_eq!(evict(&mut node, 100), 100, "{policy}");
        if policy == "volatile-ttl" {
            let left = left(&mut node);
            let soon = (0..1500).step_by(10).filter(|n| !left.contains(n)).count();
            assert!(soon > 90, "{soon}");
        }
        assert_eq!(evict(&mut node, 1000), 200, "{policy}");
        assert!(left(&mut node).iter().all(|n| n % 10 != 0));
        assert_eq!(node.engine.stats().evicted_keys, 300);
    }
}

#[test]
fn every_key_of_every_database_may_go_and_goes_as_an_effect() {
    for policy in ["allkeys-random", "allkeys-lru", "allkeys-lfu"] {
        let mut node = node(policy);
        for db in [0, 3, 7] {
            node.db = db;
            (0..50).for_each(|n| drop(node.run(&format!("SET k{n} v"))));
        }
        node.fx.clear_turn();
        assert_eq!(evict(&mut node, 1000), 150, "{policy}");
        let effects = String::from_utf8_lossy(node.fx.bytes()).into_owned();
        assert_eq!(effects.matches("UNLINK").count(), 150);
        assert!(node.engine.is_empty());
    }
    assert_eq!(evict(&mut node("noeviction"), 1), 0);
}
