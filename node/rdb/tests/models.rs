//! Random commands on strings, lists, sets and sorted sets with expiry, against simple models; with a copy that applies the
//! effects, snapshots in steps between the commands, restarts from their files, and `DUMP` and `RESTORE` in between.

mod common;

use common::model::{Held, Model};
use common::{Pair, execute, text};
use holdfast_engine::{Effects, Engine, Mode, Rng, SnapshotId, TypeLimits};

/// How many elements there are to draw from, by round: few for the small encodings, many for the large ones.
const ELEMENTS: [u64; 3] = [8, 60, 600];

struct World {
    pair: Pair,
    model: Model,
    /// A snapshot under way, with what was there when it began and when that was.
    snapshot: Option<(SnapshotId, [u8; 20], Model, u64)>,
    elements: u64,
}

fn small_limits() -> TypeLimits {
    TypeLimits {
        set_intset_entries: 5,
        set_entries: 6,
        set_value: 12,
        zset_entries: 6,
        zset_value: 12,
        list_size: 4,
        ..TypeLimits::default()
    }
}

impl World {
    fn new(seed: u64) -> World {
        let limits = match seed % 2 {
            0 => small_limits(),
            _ => TypeLimits::default(),
        };
        World {
            pair: Pair::new(seed, limits),
            model: Model::default(),
            snapshot: None,
            elements: ELEMENTS[(seed % 3) as usize],
        }
    }

    fn below(&mut self, n: u64) -> u64 {
        self.pair.rng.below(n)
    }

    fn pick(&mut self, words: &[&str]) -> String {
        words[self.pair.rng.index(words.len())].to_string()
    }

    /// Each type has its keys, now and then a command meets one of another.
    fn key(&mut self, kind: &str) -> String {
        let kind = if self.below(40) == 0 {
            self.pick(&["s", "l", "m", "z"])
        } else {
            kind.into()
        };
        format!("{kind}{}", self.below(4))
    }

    fn element(&mut self) -> String {
        let n = self.below(self.elements);
        match n % 5 {
            0 => format!("element-{n}"),
            1 if n.is_multiple_of(3) => "x".repeat(20 + n as usize % 80),
            2 => format!("-{n}"),
            _ => n.to_string(),
        }
    }

    fn elements(&mut self) -> String {
        let count = 1 + self.below(6);
        let all: Vec<String> = (0..count).map(|_| self.element()).collect();
        all.join(" ")
    }

    fn index(&mut self) -> String {
        let span = self.elements + 4;
        (self.below(span) as i64 - span as i64 / 2).to_string()
    }

    fn score(&mut self) -> String {
        ((self.below(80) as f64 - 30.0) / 2.0).to_string()
    }

    fn string_command(&mut self) -> String {
        let k = self.key("s");
        let value = match self.below(6) {
            0 => "y".repeat(self.pair.rng.index(2500) + 1),
            1..3 => self.element(),
            _ => self.below(100_000).to_string(),
        };
        let n = self.below(1000);
        match self.below(12) {
            0 => format!("SET {k} {value}"),
            1 => format!("SET {k} {value} PX {}", n + 1),
            2 => format!("SET {k} {value} KEEPTTL"),
            3 => format!("APPEND {k} {value}"),
            4 | 5 => format!("INCRBY {k} {}", n as i64 - 500),
            6 => format!("SETRANGE {k} {} {value}", n % 300),
            7 => format!("GETRANGE {k} {} {}", self.index(), self.index()),
            8 => format!("GETDEL {k}"),
            _ => format!("GET {k}"),
        }
    }

    fn list_command(&mut self) -> String {
        let (k, j, e) = (self.key("l"), self.key("l"), self.element());
        let (from, to) = (self.index(), self.index());
        let end = |world: &mut World| world.pick(&["LEFT", "RIGHT"]);
        match self.below(18) {
            0..5 => {
                let command = self.pick(&["LPUSH", "RPUSH"]);
                format!("{command} {k} {}", self.elements())
            }
            5 | 6 => {
                let command = self.pick(&["LPOP", "RPOP"]);
                format!("{command} {k} {}", 1 + self.below(4))
            }
            7 => format!("LLEN {k}"),
            8 => format!("LINDEX {k} {from}"),
            9 => format!("LSET {k} {from} {e}"),
            10 | 11 => {
                let place = self.pick(&["BEFORE", "AFTER"]);
                format!("LINSERT {k} {place} {} {e}", self.element())
            }
            12 => format!("LREM {k} {} {e}", self.below(5) as i64 - 2),
            13 if self.below(4) == 0 => format!("LTRIM {k} {from} {to}"),
            14 | 15 => format!("LMOVE {k} {j} {} {}", end(self), end(self)),
            _ => format!("LRANGE {k} {from} {to}"),
        }
    }

    fn set_command(&mut self) -> String {
        let (k, j, i) = (self.key("m"), self.key("m"), self.key("m"));
        match self.below(14) {
            0..5 => format!("SADD {k} {}", self.elements()),
            5..7 => format!("SREM {k} {}", self.elements()),
            7 | 8 => format!("SMOVE {k} {j} {}", self.element()),
            9 => format!("SCARD {k}"),
            10 => {
                let command = self.pick(&["SINTERSTORE", "SUNIONSTORE", "SDIFFSTORE"]);
                format!("{command} {k} {j} {i}")
            }
            _ => format!("SISMEMBER {k} {}", self.element()),
        }
    }

    fn zset_command(&mut self) -> String {
        let (k, j, i) = (self.key("z"), self.key("z"), self.key("z"));
        let (from, to) = (self.index(), self.index());
        let (low, high, e) = (self.score(), self.score(), self.element());
        match self.below(22) {
            0..6 => {
                let option = self.pick(&["", "", "NX ", "XX ", "GT ", "LT ", "CH ", "XX CH "]);
                let count = 1 + self.below(5);
                let pairs: Vec<String> = (0..count)
                    .map(|_| format!("{} {}", self.score(), self.element()))
                    .collect();
                format!("ZADD {k} {option}{}", pairs.join(" "))
            }
            6 | 7 => format!("ZINCRBY {k} {low} {e}"),
            8..10 => format!("ZREM {k} {}", self.elements()),
            10 => format!("ZCARD {k}"),
            11 => format!("ZSCORE {k} {e}"),
            12 | 13 => format!("ZRANK {k} {e}"),
            14 => format!("ZRANGEBYSCORE {k} {low} {high}"),
            15 if self.below(3) == 0 => format!("ZREMRANGEBYRANK {k} {from} {to}"),
            16 if self.below(3) == 0 => format!("ZREMRANGEBYSCORE {k} {low} {high}"),
            17 => {
                let command = self.pick(&["ZPOPMIN", "ZPOPMAX"]);
                format!("{command} {k} {}", self.below(4))
            }
            18 => {
                let command = self.pick(&["ZUNIONSTORE", "ZINTERSTORE"]);
                format!("{command} {k} 2 {j} {i}")
            }
            19 => format!("ZRANGESTORE {k} {j} {from} {to}"),
            _ => format!("ZRANGE {k} {from} {to} WITHSCORES"),
        }
    }

    fn general_command(&mut self) -> String {
        let kind = self.pick(&["s", "l", "m", "z"]);
        let (k, j) = (self.key(&kind), self.key(&kind));
        match self.below(14) {
            0 => format!("DEL {k} {j}"),
            1 => format!("RENAME {k} {j}"),
            2 => format!("COPY {k} {j} REPLACE"),
            3..9 => format!("PEXPIREAT {k} {}", self.pair.now_ms + self.below(400)),
            9 | 10 => format!("PERSIST {k}"),
            11 => format!("EXISTS {k}"),
            _ => format!("TYPE {k}"),
        }
    }

    /// A command that draws: what it says it drew must have been there.
    fn draw(&mut self) {
        let k = self.key("m");
        self.model.expire(self.pair.now_ms);
        let count = self.below(self.elements);
        let command = self.pick(&["SPOP", "SRANDMEMBER"]);
        let reply = self.pair.run(&format!("{command} {k} {count}"));
        let Some(key) = self.model.keys.get_mut(&k) else {
            return assert_eq!(reply, "");
        };
        let Held::Set(set) = &mut key.held else {
            return assert!(reply.starts_with("error: WRONGTYPE"), "{reply}");
        };
        let mut rest = set.clone();
        let drawn = reply.split(' ').filter(|w| !w.is_empty());
        let drawn = drawn.inspect(|m| assert!(rest.remove(*m), "{m} twice, or never there"));
        assert_eq!(drawn.count(), set.len().min(count as usize));
        if command == "SPOP" {
            *set = rest;
            if set.is_empty() {
                self.model.keys.remove(&k);
            }
        }
    }

    /// Takes a key out as a payload and puts it back.
    fn restore(&mut self) {
        let kind = self.pick(&["s", "l", "m", "z"]);
        let (from, to) = (self.key(&kind), self.key(&kind));
        self.model.expire(self.pair.now_ms);
        let dump = self.pair.run_argv(&[b"DUMP", from.as_bytes()]);
        let Some(payload) = dump.as_bytes() else {
            return assert!(!self.model.keys.contains_key(&from), "{from} is not there");
        };
        let ttl = self.below(500).to_string();
        let argv: [&[u8]; 5] = [
            b"RESTORE",
            to.as_bytes(),
            ttl.as_bytes(),
            payload,
            b"REPLACE",
        ];
        assert_eq!(text(&self.pair.run_argv(&argv)), "OK");
        let mut key = self.model.keys[&from].clone();
        let ttl: u64 = ttl.parse().unwrap();
        key.expires_ms = (ttl > 0).then_some(self.pair.now_ms + ttl);
        self.model.keys.insert(to, key);
    }

    /// Goes on with the snapshot, or begins one. Its file has what was there when it began.
    fn save(&mut self) {
        let Some((id, digest, model, began_ms)) = self.snapshot.take() else {
            let digest = self.pair.engine.digest();
            let id = self.pair.begin();
            self.snapshot = Some((id, digest, self.model.clone(), self.pair.now_ms));
            return;
        };
        if self.pair.step(id) {
            self.snapshot = Some((id, digest, model, began_ms));
            return;
        }
        let file = self.pair.finish(id);
        let mut loaded = self.pair.load(&file, began_ms);
        assert_eq!(loaded.digest(), digest, "the file is of another instant");
        check(&mut loaded, model, began_ms);
    }

    /// Ends the process and starts it again, with what a snapshot of now has.
    fn restart(&mut self) {
        if let Some((id, ..)) = self.snapshot.take() {
            self.pair.engine.snapshot_abort(id);
        }
        let id = self.pair.begin();
        while self.pair.step(id) {}
        let file = self.pair.finish(id);
        self.pair.restart_from(&file);
    }

    fn step(&mut self) {
        let line = match self.below(100) {
            0 => return self.restore(),
            1 => {
                self.pair.now_ms += self.below(60);
                return;
            }
            2 => {
                let budget = self.pair.rng.index(5);
                self.pair.expire(budget);
                self.pair.engine.free_step(budget);
                return;
            }
            3..6 => return self.save(),
            6 | 7 => return self.draw(),
            8..14 => self.general_command(),
            14..30 => self.string_command(),
            30..52 => self.list_command(),
            52..72 => self.set_command(),
            _ => self.zset_command(),
        };
        let want = self.model.run(&line, self.pair.now_ms);
        assert_eq!(self.pair.run(&line), want, "{line}");
    }
}

/// The engine has what the model has, no more and no less.
fn check(engine: &mut Engine, mut model: Model, now_ms: u64) {
    model.expire(now_ms);
    let mut run = |line: &str| {
        let argv: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        // Looking changes nothing, not even by deleting what has expired.
        let (rng, fx) = (&mut Rng::new(1), &mut Effects::new());
        text(&execute(engine, &argv, now_ms, Mode::Replica, rng, fx))
    };
    let sorted = |text: String| {
        let mut words: Vec<String> = text.split(' ').map(String::from).collect();
        words.sort();
        words.retain(|w| !w.is_empty());
        words
    };
    for kind in ["s", "l", "m", "z"] {
        for k in (0..4).map(|n| format!("{kind}{n}")) {
            for command in ["TYPE", "PEXPIRETIME"] {
                let line = format!("{command} {k}");
                assert_eq!(run(&line), model.run(&line, now_ms), "{line}");
            }
            let line = match model.keys.get(&k).map(|key| &key.held) {
                None => continue,
                Some(Held::Str(_)) => format!("GET {k}"),
                Some(Held::List(_)) => format!("LRANGE {k} 0 -1"),
                Some(Held::Zset(_)) => format!("ZRANGE {k} 0 -1 WITHSCORES"),
                Some(Held::Set(set)) => {
                    let members = sorted(run(&format!("SMEMBERS {k}")));
                    assert!(members.iter().eq(set), "{k}: {members:?} for {set:?}");
                    continue;
                }
            };
            assert_eq!(run(&line), model.run(&line, now_ms), "{line}");
        }
    }
}

#[test]
fn values_behave_as_their_models() {
    for seed in 0..12 {
        let mut world = World::new(seed);
        for round in 0..4_000 {
            world.step();
            if round % 50 == 0 {
                let now_ms = world.pair.now_ms;
                check(&mut world.pair.engine, world.model.clone(), now_ms);
                world.pair.check_copy();
            }
            if round % 1_000 == 999 {
                world.restart();
            }
        }
        // Everything that expires is gone in the end, on both.
        world.pair.now_ms += 10_000;
        while world.pair.expire(10) {}
        world.model.expire(world.pair.now_ms);
        assert_eq!(world.pair.engine.expiries_len(0), 0);
        assert_eq!(world.pair.engine.dbsize(0), world.model.keys.len());
        world.pair.check_copy();
    }
}
