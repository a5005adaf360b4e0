//! Random commands on hashes whose fields expire, against a simple model; with a copy that applies the effects, snapshots
//! that are loaded again, and `DUMP` and `RESTORE` in between.

mod common;

use std::collections::BTreeMap;

use common::{Pair, execute, text};
use holdfast_engine::{Effects, Engine, Mode, Rng, TypeLimits, ValueCodec};
use holdfast_rdb::DumpCodec;

/// Field → value and expiry.
type Fields = BTreeMap<String, (String, Option<u64>)>;

struct World {
    pair: Pair,
    model: BTreeMap<String, Fields>,
}

impl World {
    fn live(&self, key: &str) -> Fields {
        let mut fields = self.model.get(key).cloned().unwrap_or_default();
        fields.retain(|_, (_, at)| at.is_none_or(|at| at >= self.pair.now_ms));
        fields
    }

    /// The model and the engine agree on a key, but for what nobody can see of it.
    fn check(&mut self, key: &str) {
        let live = self.live(key);
        let reply = self.pair.run(&format!("HGETALL {key}"));
        let words: Vec<&str> = reply.split(' ').filter(|w| !w.is_empty()).collect();
        let got: BTreeMap<&str, &str> = words.chunks(2).map(|p| (p[0], p[1])).collect();
        let want: BTreeMap<&str, &str> = live.iter().map(|(f, (v, _))| (&**f, &**v)).collect();
        assert_eq!(got, want, "{key}");
        for field in (0..30).map(|n| format!("f{n}")) {
            let want = match live.get(&field) {
                None => "-2".into(),
                Some((_, None)) => "-1".into(),
                Some((_, Some(at))) => at.to_string(),
            };
            let got = self
                .pair
                .run(&format!("HPEXPIRETIME {key} FIELDS 1 {field}"));
            assert_eq!(got, want, "{key} {field}");
        }
        let draws = self.pair.run(&format!("HRANDFIELD {key} -5"));
        for field in draws.split(' ').filter(|w| !w.is_empty()) {
            assert!(live.contains_key(field), "{field}");
        }
        let (mut cursor, mut seen) = ("0".to_string(), Vec::new());
        loop {
            let reply = self
                .pair
                .run(&format!("HSCAN {key} {cursor} NOVALUES COUNT 5"));
            let mut words = reply.split(' ').filter(|w| !w.is_empty());
            cursor = words.next().unwrap().into();
            seen.extend(words.map(String::from));
            if cursor == "0" {
                break;
            }
        }
        seen.sort();
        seen.dedup();
        assert!(seen.iter().eq(live.keys()), "{key}");
    }

    /// The copy has the very same content, expired fields included.
    fn check_copy(&mut self) {
        self.pair.check_copy();
        for key in (0..4).map(|n| format!("k{n}")) {
            let content = |engine: &mut Engine| {
                let argv: [&[u8]; 2] = [b"DUMP", key.as_bytes()];
                let (rng, fx) = (&mut Rng::new(0), &mut Effects::new());
                let payload = execute(engine, &argv, 0, Mode::Apply, rng, fx);
                let value = DumpCodec::default().load(payload.as_bytes()?).unwrap();
                let holdfast_engine::Value::Hash(hash) = value else {
                    panic!("not a hash");
                };
                let mut fields: Vec<_> = hash
                    .iter()
                    .map(|(f, v, at)| (f.to_vec(), v.to_vec(), at))
                    .collect();
                fields.sort();
                Some(fields)
            };
            assert_eq!(
                content(&mut self.pair.engine),
                content(&mut self.pair.copy),
                "{key}"
            );
        }
    }

    /// Loads a file from a snapshot during which the original goes on.
    fn reload(&mut self) {
        let id = self.pair.begin();
        let before = self.pair.engine.digest();
        while self.pair.step(id) {
            for _ in 0..8 {
                self.step();
            }
        }
        let file = self.pair.finish(id);
        assert_eq!(self.pair.load(&file, 77).digest(), before);
    }

    fn step(&mut self) {
        let key = format!("k{}", self.pair.rng.below(4));
        let field = |world: &mut World| format!("f{}", world.pair.rng.below(30));
        let (f, g) = (field(self), field(self));
        let n = self.pair.rng.below(1000);
        let soon = self.pair.rng.below(300);
        let at = self.pair.now_ms + soon;
        let live = self.live(&key);
        let mut set: Vec<(String, String, Option<u64>)> = Vec::new();
        let mut gone: Vec<String> = Vec::new();
        let there = |f: &str| live.contains_key(f);
        match self.pair.rng.below(16) {
            0 => {
                // Fields of both forms, more than a listpack takes.
                let long = "x".repeat(if n < 20 { 70 } else { 3 });
                self.pair.run(&format!("HSET {key} {f} {n} {g} {long}"));
                set.push((f, n.to_string(), None));
                set.push((g, long, None));
            }
            1 => {
                self.pair
                    .run(&format!("HSETEX {key} PX {soon} FIELDS 2 {f} {n} {g} b"));
                if soon == 0 {
                    gone.extend([f, g]);
                } else {
                    set.push((f, n.to_string(), Some(at)));
                    set.push((g, "b".into(), Some(at)));
                }
            }
            2 => {
                self.pair
                    .run(&format!("HSETEX {key} KEEPTTL FIELDS 1 {f} {n}"));
                let kept = live.get(&f).and_then(|(_, at)| *at);
                set.push((f, n.to_string(), kept));
            }
            3 => {
                let done = self
                    .pair
                    .run(&format!("HSETEX {key} FNX PXAT {at} FIELDS 1 {f} {n}"));
                assert_eq!(done == "1", !there(&f));
                if !there(&f) {
                    if soon == 0 {
                        gone.push(f);
                    } else {
                        set.push((f, n.to_string(), Some(at)));
                    }
                }
            }
            4 => {
                let answer = self
                    .pair
                    .run(&format!("HPEXPIREAT {key} {at} FIELDS 2 {f} {g}"));
                let mut want = Vec::new();
                for field in [&f, &g] {
                    let gone_before = gone.contains(field);
                    want.push(match live.get(field) {
                        Some((v, _)) if !gone_before && soon > 0 => {
                            set.push((field.clone(), v.clone(), Some(at)));
                            "1"
                        }
                        Some(_) if !gone_before => {
                            gone.push(field.clone());
                            "2"
                        }
                        _ => "-2",
                    });
                }
                assert_eq!(answer, want.join(" "));
            }
            5 => {
                let condition = ["NX", "XX", "GT", "LT"][self.pair.rng.index(4)];
                let answer = self.pair.run(&format!(
                    "HPEXPIRE {key} {} {condition} FIELDS 1 {f}",
                    soon + 1
                ));
                let current = live.get(&f).map(|(_, at)| *at);
                let fits = current.is_some_and(|current| match condition {
                    "NX" => current.is_none(),
                    "XX" => current.is_some(),
                    "GT" => current.is_some_and(|c| at + 1 > c),
                    _ => current.is_none_or(|c| at + 1 < c),
                });
                let want = match current {
                    None => "-2",
                    Some(_) if fits => "1",
                    Some(_) => "0",
                };
                assert_eq!(answer, want);
                if fits {
                    let value = live[&f].0.clone();
                    set.push((f, value, Some(at + 1)));
                }
            }
            6 => {
                self.pair.run(&format!("HPERSIST {key} FIELDS 2 {f} {g}"));
                for field in [f, g] {
                    if let Some((v, _)) = live.get(&field) {
                        set.push((field, v.clone(), None));
                    }
                }
            }
            7 => {
                let got = self
                    .pair
                    .run(&format!("HGETEX {key} PX {soon} FIELDS 1 {f}"));
                assert_eq!(got, live.get(&f).map_or("nil", |(v, _)| v));
                if let Some((v, _)) = live.get(&f) {
                    if soon == 0 {
                        gone.push(f);
                    } else {
                        set.push((f, v.clone(), Some(at)));
                    }
                }
            }
            8 => {
                let count = self.pair.run(&format!("HDEL {key} {f} {g}"));
                let want = usize::from(there(&f)) + usize::from(f != g && there(&g));
                assert_eq!(count, want.to_string());
                gone.extend([f, g].into_iter().filter(|f| there(f)));
            }
            9 => {
                let got = self.pair.run(&format!("HGETDEL {key} FIELDS 1 {f}"));
                assert_eq!(got, live.get(&f).map_or("nil", |(v, _)| v));
                gone.extend([f].into_iter().filter(|f| there(f)));
            }
            10 => {
                let old: Option<i64> = match live.get(&f) {
                    None => Some(0),
                    Some((v, _)) => v.parse().ok(),
                };
                let got = self.pair.run(&format!("HINCRBY {key} {f} {n}"));
                if let Some(old) = old {
                    let new = (old + n as i64).to_string();
                    assert_eq!(got, new);
                    set.push((f.clone(), new, live.get(&f).and_then(|(_, at)| *at)));
                }
            }
            11 => {
                let done = self.pair.run(&format!("HSETNX {key} {f} {n}"));
                assert_eq!(done == "1", !there(&f));
                if !there(&f) {
                    set.push((f, n.to_string(), None));
                }
            }
            12 => {
                let other = format!("k{}", self.pair.rng.below(4));
                let line = ["RENAME", "COPY"][self.pair.rng.index(2)];
                let hash = self.model.get(&key).cloned();
                let tail = if line == "COPY" { " REPLACE" } else { "" };
                let answer = self.pair.run(&format!("{line} {key} {other}{tail}"));
                if answer == "OK" || answer == "1" {
                    if key != other {
                        if line == "RENAME" {
                            self.model.remove(&key);
                        }
                        self.model.insert(other, hash.unwrap());
                    }
                } else {
                    assert!(hash.is_none() || key == other, "{answer}");
                }
                return;
            }
            13 => {
                let dump = self.pair.run_argv(&[b"DUMP", key.as_bytes()]);
                if let Some(payload) = dump.as_bytes() {
                    self.pair.run(&format!("DEL {key}"));
                    let done = self.pair.run_argv(&[
                        b"RESTORE",
                        key.as_bytes(),
                        b"0",
                        payload,
                        b"REPLACE",
                    ]);
                    assert_eq!(text(&done), "OK");
                } else {
                    assert!(!self.model.contains_key(&key));
                }
                return;
            }
            14 => {
                self.pair.now_ms += self.pair.rng.below(100);
                return;
            }
            _ => {
                let budget = self.pair.rng.index(6);
                let more = self.pair.expire(budget);
                // What the engine has deleted must have expired; without an end to the budget nothing that has is left.
                let len = |world: &mut World, key: &str| -> usize {
                    world.pair.run(&format!("HLEN {key}")).parse().unwrap()
                };
                for key in (0..4).map(|n| format!("k{n}")) {
                    let left = len(self, &key);
                    let live = self.live(&key);
                    let all = self.model.get(&key).map_or(0, BTreeMap::len);
                    assert!((live.len()..=all).contains(&left), "{key}");
                    let overdue = self.model.get(&key).map_or(0, |fields| {
                        let late =
                            |at: &Option<u64>| at.is_some_and(|at| at + 64 <= self.pair.now_ms);
                        fields.values().filter(|(_, at)| late(at)).count()
                    });
                    assert!(more || budget == 0 || left + overdue <= all, "{key}");
                    let dump = self.pair.run_argv(&[b"DUMP", key.as_bytes()]);
                    self.model.remove(&key);
                    if let Some(payload) = dump.as_bytes() {
                        let value = DumpCodec::default().load(payload).unwrap();
                        let holdfast_engine::Value::Hash(hash) = value else {
                            panic!("not a hash");
                        };
                        let fields = hash.iter().map(|(f, v, at)| {
                            let text = |b: Vec<u8>| String::from_utf8(b).unwrap();
                            let at = (at != u64::MAX).then_some(at);
                            (text(f.to_vec()), (text(v.to_vec()), at))
                        });
                        self.model.insert(key, fields.collect());
                    }
                }
                return;
            }
        }
        let fields = self.model.entry(key.clone()).or_default();
        for (field, value, at) in set {
            fields.insert(field, (value, at));
        }
        for field in gone {
            fields.remove(&field);
        }
        if fields.is_empty() {
            self.model.remove(&key);
        }
    }
}

#[test]
fn hashes_with_expiring_fields_behave_as_the_model() {
    for seed in 0..6 {
        let mut world = World {
            pair: Pair::new(seed, TypeLimits::default()),
            model: BTreeMap::new(),
        };
        for round in 0..3_000 {
            world.step();
            if round % 10 == 0 {
                let key = format!("k{}", world.pair.rng.below(4));
                world.check(&key);
            }
            if round % 100 == 0 {
                world.check_copy();
            }
            if round % 400 == 399 {
                world.reload();
            }
        }
        // Everything that expires is gone in the end, on both.
        world.pair.now_ms += 10_000;
        while world.pair.expire(10) {}
        assert_eq!(world.pair.engine.expiring_hashes_len(0), 0);
        world.check_copy();
    }
}
