//! Random commands on hashes whose fields expire, against a simple model; with a copy that applies the effects, snapshots
//! that are loaded again, and `DUMP` and `RESTORE` in between.

use std::collections::BTreeMap;

use holdfast_engine::{
    ApplyState, Call, Effects, Engine, EngineConfig, Mode, Rng, SlotFilter, SnapshotProgress,
    ValueCodec,
};
use holdfast_rdb::{DumpCodec, Event, RdbReader, RdbSink, RdbVersion};
use holdfast_resp::Proto;
use holdfast_resp::reply::{self, Reply};

/// Field → value and expiry.
type Fields = BTreeMap<String, (String, Option<u64>)>;

struct Pair {
    engine: Engine,
    copy: Engine,
    apply: ApplyState,
    fx: Effects,
    rng: Rng,
    now_ms: u64,
    model: BTreeMap<String, Fields>,
}

fn engine(seed: u64) -> Engine {
    let config = EngineConfig {
        hash_seed: [seed, 5],
        ..EngineConfig::default()
    };
    Engine::new(config, Box::new(DumpCodec::default()))
}

fn text(reply: &Reply) -> String {
    match reply {
        Reply::Bulk(b) | Reply::Simple(b) => String::from_utf8_lossy(b).into_owned(),
        Reply::Int(n) => n.to_string(),
        Reply::Null => "nil".into(),
        Reply::Array(items) => items.iter().map(text).collect::<Vec<_>>().join(" "),
        Reply::Error(e) => format!("error: {}", String::from_utf8_lossy(e)),
        other => panic!("{other:?}"),
    }
}

impl Pair {
    fn run_argv(&mut self, argv: &[&[u8]]) -> Reply {
        let mut out = Vec::new();
        self.engine.execute(
            Engine::command(argv[0]).expect("a command"),
            &mut Call {
                argv,
                db: 0,
                slot: None,
                proto: Proto::Resp2,
                now_ms: self.now_ms,
                mode: Mode::Primary,
                may_block: false,
                rng: &mut self.rng,
                reply: &mut out,
                fx: &mut self.fx,
            },
        );
        self.pass_on();
        reply::parse(&out).unwrap().unwrap().0
    }

    fn run(&mut self, line: &str) -> String {
        let argv: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        text(&self.run_argv(&argv))
    }

    fn pass_on(&mut self) {
        let effects = self.fx.take_bytes();
        // The copy's clock is far off: it must not look at it.
        let now_ms = self.now_ms * 2;
        if let Err(error) = self.copy.apply(&effects, &mut self.apply, now_ms) {
            panic!("{error}: {}", String::from_utf8_lossy(&effects));
        }
    }

    fn live(&self, key: &str) -> Fields {
        let mut fields = self.model.get(key).cloned().unwrap_or_default();
        fields.retain(|_, (_, at)| at.is_none_or(|at| at >= self.now_ms));
        fields
    }

    /// The model and the engine agree on a key, but for what nobody can see of it.
    fn check(&mut self, key: &str) {
        let live = self.live(key);
        let reply = self.run(&format!("HGETALL {key}"));
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
            let got = self.run(&format!("HPEXPIRETIME {key} FIELDS 1 {field}"));
            assert_eq!(got, want, "{key} {field}");
        }
        let draws = self.run(&format!("HRANDFIELD {key} -5"));
        for field in draws.split(' ').filter(|w| !w.is_empty()) {
            assert!(live.contains_key(field), "{field}");
        }
        let (mut cursor, mut seen) = ("0".to_string(), Vec::new());
        loop {
            let reply = self.run(&format!("HSCAN {key} {cursor} NOVALUES COUNT 5"));
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
        assert_eq!(self.engine.digest(), self.copy.digest());
        assert_eq!(
            self.engine.expiring_hashes_len(0),
            self.copy.expiring_hashes_len(0)
        );
        for key in (0..4).map(|n| format!("k{n}")) {
            let content = |engine: &mut Engine| {
                let (mut out, mut fx) = (Vec::new(), Effects::new());
                let argv: [&[u8]; 2] = [b"DUMP", key.as_bytes()];
                engine.execute(
                    Engine::command(b"DUMP").unwrap(),
                    &mut Call {
                        argv: &argv,
                        db: 0,
                        slot: None,
                        proto: Proto::Resp2,
                        now_ms: 0,
                        mode: Mode::Apply,
                        may_block: false,
                        rng: &mut Rng::new(0),
                        reply: &mut out,
                        fx: &mut fx,
                    },
                );
                let payload = reply::parse(&out).unwrap().unwrap().0;
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
            assert_eq!(content(&mut self.engine), content(&mut self.copy), "{key}");
        }
    }

    /// Replaces the copy by one that is loaded from a snapshot, during which the original goes on.
    fn reload(&mut self) {
        let id = self
            .engine
            .snapshot_begin(SlotFilter::All, Box::new(RdbSink::new(RdbVersion::V80)));
        let before = self.engine.digest();
        while self.engine.snapshot_step(id, 1) == SnapshotProgress::More {
            self.step();
        }
        let sink = self.engine.snapshot_finish(id).unwrap();
        let mut sink = sink.into_any().downcast::<RdbSink>().unwrap();
        sink.writer.finish();
        let mut reader = RdbReader::default();
        reader.feed(&sink.writer.take());
        let mut loaded = engine(77);
        while let Some(event) = reader.poll().unwrap() {
            if let Event::Key {
                db,
                key,
                expire_at_ms,
                value,
                ..
            } = event
            {
                assert!(loaded.load_key(db as u16, &key, expire_at_ms, value));
            }
        }
        assert_eq!(loaded.digest(), before);
    }

    fn step(&mut self) {
        let key = format!("k{}", self.rng.below(4));
        let field = |pair: &mut Pair| format!("f{}", pair.rng.below(30));
        let (f, g) = (field(self), field(self));
        let n = self.rng.below(1000);
        let soon = self.rng.below(300);
        let at = self.now_ms + soon;
        let live = self.live(&key);
        let mut set: Vec<(String, String, Option<u64>)> = Vec::new();
        let mut gone: Vec<String> = Vec::new();
        let there = |f: &str| live.contains_key(f);
        match self.rng.below(16) {
            0 => {
                // Fields of both forms, more than a listpack takes.
                let long = "x".repeat(if n < 20 { 70 } else { 3 });
                self.run(&format!("HSET {key} {f} {n} {g} {long}"));
                set.push((f, n.to_string(), None));
                set.push((g, long, None));
            }
            1 => {
                self.run(&format!("HSETEX {key} PX {soon} FIELDS 2 {f} {n} {g} b"));
                if soon == 0 {
                    gone.extend([f, g]);
                } else {
                    set.push((f, n.to_string(), Some(at)));
                    set.push((g, "b".into(), Some(at)));
                }
            }
            2 => {
                self.run(&format!("HSETEX {key} KEEPTTL FIELDS 1 {f} {n}"));
                let kept = live.get(&f).and_then(|(_, at)| *at);
                set.push((f, n.to_string(), kept));
            }
            3 => {
                let done = self.run(&format!("HSETEX {key} FNX PXAT {at} FIELDS 1 {f} {n}"));
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
                let answer = self.run(&format!("HPEXPIREAT {key} {at} FIELDS 2 {f} {g}"));
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
                let condition = ["NX", "XX", "GT", "LT"][self.rng.index(4)];
                let answer = self.run(&format!(
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
                self.run(&format!("HPERSIST {key} FIELDS 2 {f} {g}"));
                for field in [f, g] {
                    if let Some((v, _)) = live.get(&field) {
                        set.push((field, v.clone(), None));
                    }
                }
            }
            7 => {
                let got = self.run(&format!("HGETEX {key} PX {soon} FIELDS 1 {f}"));
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
                let count = self.run(&format!("HDEL {key} {f} {g}"));
                let want = usize::from(there(&f)) + usize::from(f != g && there(&g));
                assert_eq!(count, want.to_string());
                gone.extend([f, g].into_iter().filter(|f| there(f)));
            }
            9 => {
                let got = self.run(&format!("HGETDEL {key} FIELDS 1 {f}"));
                assert_eq!(got, live.get(&f).map_or("nil", |(v, _)| v));
                gone.extend([f].into_iter().filter(|f| there(f)));
            }
            10 => {
                let old: Option<i64> = match live.get(&f) {
                    None => Some(0),
                    Some((v, _)) => v.parse().ok(),
                };
                let got = self.run(&format!("HINCRBY {key} {f} {n}"));
                if let Some(old) = old {
                    let new = (old + n as i64).to_string();
                    assert_eq!(got, new);
                    set.push((f.clone(), new, live.get(&f).and_then(|(_, at)| *at)));
                }
            }
            11 => {
                let done = self.run(&format!("HSETNX {key} {f} {n}"));
                assert_eq!(done == "1", !there(&f));
                if !there(&f) {
                    set.push((f, n.to_string(), None));
                }
            }
            12 => {
                let other = format!("k{}", self.rng.below(4));
                let line = ["RENAME", "COPY"][self.rng.index(2)];
                let hash = self.model.get(&key).cloned();
                let tail = if line == "COPY" { " REPLACE" } else { "" };
                let answer = self.run(&format!("{line} {key} {other}{tail}"));
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
                let dump = self.run_argv(&[b"DUMP", key.as_bytes()]);
                if let Some(payload) = dump.as_bytes() {
                    self.run(&format!("DEL {key}"));
                    let done =
                        self.run_argv(&[b"RESTORE", key.as_bytes(), b"0", payload, b"REPLACE"]);
                    assert_eq!(text(&done), "OK");
                } else {
                    assert!(!self.model.contains_key(&key));
                }
                return;
            }
            14 => {
                self.now_ms += self.rng.below(100);
                return;
            }
            _ => {
                let budget = self.rng.index(6);
                let more = self
                    .engine
                    .active_expire_step(self.now_ms, budget, &mut self.fx);
                self.pass_on();
                // What the engine has deleted must have expired; without an end to the budget nothing that has is left.
                let len = |pair: &mut Pair, key: &str| -> usize {
                    pair.run(&format!("HLEN {key}")).parse().unwrap()
                };
                for key in (0..4).map(|n| format!("k{n}")) {
                    let left = len(self, &key);
                    let live = self.live(&key);
                    let all = self.model.get(&key).map_or(0, BTreeMap::len);
                    assert!((live.len()..=all).contains(&left), "{key}");
                    let overdue = self.model.get(&key).map_or(0, |fields| {
                        let late = |at: &Option<u64>| at.is_some_and(|at| at + 64 <= self.now_ms);
                        fields.values().filter(|(_, at)| late(at)).count()
                    });
                    assert!(more || budget == 0 || left + overdue <= all, "{key}");
                    let dump = self.run_argv(&[b"DUMP", key.as_bytes()]);
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
        let mut fx = Effects::new();
        fx.set_enabled(true);
        let mut pair = Pair {
            engine: engine(seed),
            copy: engine(seed + 100),
            apply: ApplyState::default(),
            fx,
            rng: Rng::new(seed),
            now_ms: 1_000_000,
            model: BTreeMap::new(),
        };
        for round in 0..3_000 {
            pair.step();
            if round % 10 == 0 {
                let key = format!("k{}", pair.rng.below(4));
                pair.check(&key);
            }
            if round % 100 == 0 {
                pair.check_copy();
            }
            if round % 400 == 399 {
                pair.reload();
            }
        }
        // Everything that expires is gone in the end, on both.
        pair.now_ms += 10_000;
        while pair
            .engine
            .active_expire_step(pair.now_ms, 10, &mut pair.fx)
        {}
        pair.pass_on();
        assert_eq!(pair.engine.expiring_hashes_len(0), 0);
        pair.check_copy();
    }
}
