//! What commands count and tell beside their replies: hits and misses, changes, keyspace events, broken watches.

mod common;

use std::collections::BTreeMap;

use common::Node;
use holdfast_engine::{EventClass, Type};

/// Written down from a real server; its first lines say what is in it.
const VALKEYS: &str = include_str!("data/notices.txt");

const KEYS: [&str; 3] = ["k", "j", "d"];

fn is_there(node: &Node, key: &str) -> Option<Type> {
    node.engine.key_type(0, key.as_bytes(), node.now_ms)
}

/// What a command does, as the lines say it.
fn notices(node: &mut Node, command: &str) -> String {
    let before = KEYS.map(|key| is_there(node, key));
    node.fx.clear_touched();
    node.fx.take_events();
    node.engine.reset_stats();
    let dirty = node.fx.dirty();
    node.run(command);
    let stats = node.engine.stats();
    let touched: Vec<Vec<u8>> = node.fx.touched().iter().map(|(_, k)| k.to_vec()).collect();
    // A key that was absent before and is absent now is the same.
    let broken = KEYS.iter().zip(before).any(|(key, before)| {
        let known = before.is_some() || is_there(node, key).is_some();
        known && touched.iter().any(|k| k == key.as_bytes())
    });
    let mut line = format!(
        "{}/{} {}{}",
        stats.keyspace_hits,
        stats.keyspace_misses,
        node.fx.dirty() - dirty,
        if broken { "!" } else { "" }
    );
    for (_, event, key) in node.fx.take_events().iter() {
        line += &format!(" {event}:{}", String::from_utf8_lossy(key));
    }
    line
}

#[test]
fn commands_count_and_tell_as_in_valkey() {
    let mut states: BTreeMap<&str, Vec<&str>> = BTreeMap::from([("none", Vec::new())]);
    let mut wrong = Vec::new();
    let mut checked = 0;
    for line in VALKEYS.lines().filter(|line| !line.starts_with('#')) {
        if let Some(state) = line.strip_prefix("state ") {
            let (name, commands) = state.split_once(": ").expect(line);
            states.insert(name, commands.split("; ").collect());
            continue;
        }
        let (given, want) = line.split_once(" => ").expect(line);
        let (given, command) = given.split_once(": ").expect(line);
        let (k, j) = given.split_once(", ").expect(line);
        let mut node = Node::new(false, 1);
        node.fx
            .set_wanted_events(EventClass::parse("KEAnm").expect("letters of classes"));
        for (key, state) in [("k", k), ("j", j)] {
            for setup in &states[state] {
                let words: Vec<&str> = setup.split(' ').collect();
                let named = words.iter().map(|w| if *w == "K" { key } else { w });
                node.run(&named.collect::<Vec<_>>().join(" "));
            }
        }
        node.now_ms += 10;
        let got = notices(&mut node, command);
        if got != want {
            wrong.push(format!("{given}: {command} => {got}, not {want}"));
        }
        checked += 1;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(checked > 1000);
}
