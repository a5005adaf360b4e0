//! Hashes, lists, sets and sorted sets beside a real `valkey-server`: the same commands must give the same replies, encodings
//! and digests, and our effects must lead a copy to the same state.
//!
//! Skipped, with a message, where there is no `valkey-server`.

mod common;

use common::valkey::Valkey;
use holdfast_engine::effects::Effects;
use holdfast_engine::{
    BadPayload, Call, Engine, EngineConfig, Mode, Outcome, Rng, TypeLimits, Value, ValueCodec,
    ValueRef,
};
use holdfast_resp::Proto;
use holdfast_resp::reply::{self, Reply};

const NOW_MS: u64 = 1_700_000_000_000;

struct NoCodec;

impl ValueCodec for NoCodec {
    fn dump(&self, _: ValueRef<'_>) -> Vec<u8> {
        Vec::new()
    }

    fn load(&self, _: &[u8]) -> Result<Value, BadPayload> {
        Err(BadPayload::VersionOrChecksum)
    }
}

fn limits() -> TypeLimits {
    TypeLimits {
        hash_entries: 8,
        hash_value: 12,
        set_intset_entries: 9,
        set_entries: 7,
        set_value: 12,
        zset_entries: 8,
        zset_value: 12,
        list_size: 6,
        ..TypeLimits::default()
    }
}

/// A server with our limits.
fn start() -> Option<Valkey> {
    let l = limits();
    let options = [
        ("hash-max-listpack-entries", l.hash_entries.to_string()),
        ("hash-max-listpack-value", l.hash_value.to_string()),
        ("set-max-intset-entries", l.set_intset_entries.to_string()),
        ("set-max-listpack-entries", l.set_entries.to_string()),
        ("set-max-listpack-value", l.set_value.to_string()),
        ("zset-max-listpack-entries", l.zset_entries.to_string()),
        ("zset-max-listpack-value", l.zset_value.to_string()),
        ("list-max-listpack-size", l.list_size.to_string()),
    ];
    Valkey::start(&options.each_ref().map(|(name, value)| (*name, &**value)))
}

/// Executes within a transaction, where nothing blocks.
fn call_unblocked(valkey: &mut Valkey, argv: &[Vec<u8>]) -> Reply {
    valkey.call(&["MULTI"]);
    let queued = valkey.call(argv);
    match valkey.call(&["EXEC"]) {
        Reply::Array(mut replies) => replies.remove(0),
        _ => queued,
    }
}

const KEYS: [&str; 14] = [
    "h1", "h2", "h3", "l1", "l2", "l3", "s1", "s2", "s3", "z1", "z2", "z3", "y1", "y2",
];

struct Ours {
    engine: Engine,
    copy: Engine,
    state: holdfast_engine::ApplyState,
    fx: Effects,
    rng: Rng,
    proto: Proto,
}

impl Ours {
    fn new() -> Self {
        let engine = || {
            let config = EngineConfig {
                limits: limits(),
                ..EngineConfig::default()
            };
            Engine::new(config, Box::new(NoCodec))
        };
        let mut fx = Effects::new();
        fx.set_enabled(true);
        Ours {
            engine: engine(),
            copy: engine(),
            state: Default::default(),
            fx,
            rng: Rng::new(42),
            proto: Proto::Resp2,
        }
    }

    /// Prints what both hold of a key if it differs, for a test that fails.
    fn dump(&mut self, key: &str, valkey: &mut Valkey) {
        let kind = valkey.call(&["TYPE", key]);
        let line: &[&str] = match kind.as_bytes() {
            Some(b"hash") => &["HGETALL", key],
            Some(b"list") => &["LRANGE", key, "0", "-1"],
            Some(b"set") => &["SMEMBERS", key],
            _ => &["ZRANGE", key, "0", "-1", "WITHSCORES"],
        };
        let argv: Vec<Vec<u8>> = line.iter().map(|a| a.as_bytes().to_vec()).collect();
        let text = |mut reply: Reply| {
            if line[0] != "LRANGE" {
                sort_reply(&mut reply);
            }
            format!("{reply:?}")
        };
        let (ours, theirs) = (text(self.call(&argv).0), text(valkey.call(&argv)));
        if ours != theirs {
            eprintln!("{key}: {ours}\n  / {theirs}");
        }
    }

    /// Executes, applies the effects to the copy, and gives the reply and the effects.
    fn call(&mut self, argv: &[Vec<u8>]) -> (Reply, Vec<u8>) {
        let args: Vec<&[u8]> = argv.iter().map(|a| &a[..]).collect();
        let mut reply = Vec::new();
        let command = Engine::command(args[0]).unwrap();
        let outcome = self.engine.execute(
            command,
            &mut Call {
                argv: &args,
                db: 0,
                slot: None,
                proto: self.proto,
                now_ms: NOW_MS,
                mode: Mode::Primary,
                may_block: false,
                rng: &mut self.rng,
                reply: &mut reply,
                blobs: None,
                fx: &mut self.fx,
            },
        );
        assert!(!matches!(outcome, Outcome::Block(_)));
        let effects = self.fx.take_bytes();
        self.copy.apply(&effects, &mut self.state, NOW_MS).unwrap();
        let (reply, n) = reply::parse(&reply)
            .expect("a reply")
            .unwrap_or_else(|| panic!("half a reply to {argv:?}: {reply:?}"));
        assert!(n > 0);
        (reply, effects)
    }
}

/// Draws command lines.
struct Draw {
    rng: Rng,
}

impl Draw {
    fn below(&mut self, n: usize) -> usize {
        self.rng.index(n)
    }

    fn pick<'a>(&mut self, all: &[&'a str]) -> &'a str {
        all[self.below(all.len())]
    }

    fn key(&mut self, kind: &str) -> String {
        // Now and then a key of another type, or one that is never there.
        match self.below(40) {
            0 => self.pick(&["h1", "l1", "s1", "z1"]).into(),
            1 => "absent".into(),
            _ => format!("{kind}{}", 1 + self.below(3)),
        }
    }

    fn element(&mut self) -> String {
        match self.below(20) {
            0 => "a value that is rather long".into(),
            1 => String::new(),
            2..=10 => self.below(14).to_string(),
            _ => format!("m{}", self.below(8)),
        }
    }

    fn int(&mut self) -> String {
        match self.below(30) {
            0 => "x".into(),
            1 => "-9223372036854775808".into(),
            2 => "9223372036854775807".into(),
            _ => (self.below(16) as i64 - 7).to_string(),
        }
    }

    fn count(&mut self) -> String {
        match self.below(15) {
            0 => self.int(),
            _ => self.below(4).to_string(),
        }
    }

    fn score(&mut self) -> String {
        match self.below(30) {
            0 => "nan".into(),
            1 => "inf".into(),
            2 => "-inf".into(),
            3 => "1e20".into(),
            4 => "3.14".into(),
            5 => "-1.5e-7".into(),
            6 => "abc".into(),
            _ => (self.below(10) as i64 - 3).to_string(),
        }
    }

    fn score_bound(&mut self) -> String {
        let s = self.score();
        if self.below(4) == 0 {
            format!("({s}")
        } else {
            s
        }
    }

    fn lex_bound(&mut self) -> String {
        match self.below(6) {
            0 => "-".into(),
            1 => "+".into(),
            2 => format!("({}", self.element()),
            3 if self.below(5) == 0 => self.element(),
            _ => format!("[{}", self.element()),
        }
    }

    /// The arguments for a template: each word is taken as it is, or stands for something drawn.
    fn line(&mut self, template: &str) -> Vec<Vec<u8>> {
        let mut out = Vec::new();
        for word in template.split(' ') {
            let drawn = match word {
                "H" => self.key("h"),
                "L" => self.key("l"),
                "S" => self.key("s"),
                "Z" => self.key("z"),
                "Y" => format!("y{}", 1 + self.below(2)),
                "e" => self.element(),
                "i" => self.int(),
                // Valkey cuts the index of LSET to 32 bits, which we do not follow.
                "j" => (self.below(16) as i64 - 7).to_string(),
                "n" => self.count(),
                // What a negative offset means depends on the encoding in Valkey.
                "u" => self.below(4).to_string(),
                "f" => self.score(),
                "fb" => self.score_bound(),
                // Nothing that makes -0, which Valkey keeps or not by the encoding.
                "w" => self.pick(&["0.5", "1", "2.5", "inf", "x", "3"]).into(),
                "lb" => self.lex_bound(),
                "end" => self.pick(&["LEFT", "RIGHT", "left", "up"]).into(),
                "e..." => {
                    for _ in 0..self.below(5) {
                        out.push(self.element().into_bytes());
                    }
                    self.element()
                }
                "ee..." => {
                    for _ in 0..1 + 2 * self.below(4) {
                        out.push(self.element().into_bytes());
                    }
                    self.element()
                }
                "fe..." => {
                    for _ in 0..self.below(4) {
                        out.push(self.score().into_bytes());
                        out.push(self.element().into_bytes());
                    }
                    out.push(self.score().into_bytes());
                    self.element()
                }
                "S..." | "Z..." => {
                    for _ in 0..self.below(3) {
                        let k = self.key(if word == "S..." { "s" } else { "z" });
                        out.push(k.into_bytes());
                    }
                    self.key(if word == "S..." { "s" } else { "z" })
                }
                _ => match word.strip_prefix('?') {
                    Some(option) if self.below(3) == 0 => option.to_string(),
                    Some(_) => continue,
                    None => word.to_string(),
                },
            };
            out.push(drawn.into_bytes());
        }
        out
    }
}

const TEMPLATES: &[&str] = &[
    "HSET H ee...",
    "HSET H ee...",
    "HSET H e",
    "HMSET H ee...",
    "HSETNX H e e",
    "HGET H e",
    "HMGET H e...",
    "HGETALL H",
    "HDEL H e...",
    "HDEL H e...",
    "HLEN H",
    "HEXISTS H e",
    "HKEYS H",
    "HVALS H",
    "HINCRBY H e i",
    "HINCRBYFLOAT H e f",
    "HSTRLEN H e",
    "HRANDFIELD H",
    "HRANDFIELD H i",
    "HRANDFIELD H n WITHVALUES",
    "LPUSH L e...",
    "RPUSH L e...",
    "RPUSH L e...",
    "LPUSHX L e...",
    "RPUSHX L e",
    "LPOP L",
    "RPOP L",
    "LPOP L n",
    "RPOP L n",
    "LPOP L n n",
    "LLEN L",
    "LRANGE L i i",
    "LRANGE L i i",
    "LINDEX L i",
    "LSET L j e",
    "LINSERT L BEFORE e e",
    "LINSERT L AFTER e e",
    "LINSERT L x e e",
    "LREM L i e",
    "LREM L i e",
    "LTRIM L i i",
    "LPOS L e",
    "LPOS L e ?RANK i ?COUNT n ?MAXLEN n",
    "LPOS L e RANK i COUNT n MAXLEN n",
    "LPOS L e COUNT n",
    "LMOVE L L end end",
    "RPOPLPUSH L L",
    "LMPOP 1 L end",
    "LMPOP 2 L L end COUNT n",
    "LMPOP i L end",
    "LMPOP 2 L L",
    "BLPOP L L 0",
    "BRPOP L 1.5",
    "BLPOP L f",
    "BLMOVE L L end end 0",
    "BRPOPLPUSH L L 0",
    "BLMPOP 0 2 L L end COUNT n",
    "SADD S e...",
    "SADD S e...",
    "SADD S i",
    "SREM S e...",
    "SISMEMBER S e",
    "SMISMEMBER S e...",
    "SMEMBERS S",
    "SCARD S",
    "SPOP S",
    "SPOP S n",
    "SPOP S i",
    "SPOP S 1 1",
    "SRANDMEMBER S",
    "SRANDMEMBER S i",
    "SMOVE S S e",
    "SINTER S...",
    "SUNION S...",
    "SDIFF S...",
    "SINTERSTORE S S...",
    "SUNIONSTORE S S...",
    "SDIFFSTORE S S...",
    "SINTERCARD 1 S",
    "SINTERCARD 2 S S LIMIT n",
    "SINTERCARD i S",
    "SINTERCARD 3 S S",
    "ZADD Z fe...",
    "ZADD Z fe...",
    "ZADD Z ?NX ?XX ?GT ?LT ?CH ?INCR fe...",
    "ZADD Z INCR f e",
    "ZADD Z GT CH fe...",
    "ZADD Z XX fe...",
    "ZINCRBY Z f e",
    "ZREM Z e...",
    "ZSCORE Z e",
    "ZMSCORE Z e...",
    "ZCARD Z",
    "ZCOUNT Z fb fb",
    "ZLEXCOUNT Y lb lb",
    "ZRANK Z e",
    "ZRANK Z e WITHSCORE",
    "ZREVRANK Z e ?WITHSCORE",
    "ZRANGE Z i i",
    "ZRANGE Z i i WITHSCORES",
    "ZRANGE Z i i REV WITHSCORES",
    "ZRANGE Z fb fb BYSCORE ?WITHSCORES",
    "ZRANGE Z fb fb BYSCORE ?REV LIMIT u i",
    "ZRANGE Y lb lb BYLEX ?REV",
    "ZRANGE Z i i LIMIT 0 1",
    "ZRANGE Y lb lb BYLEX WITHSCORES",
    "ZRANGE Z i i BYSCORE BYLEX",
    "ZREVRANGE Z i i ?WITHSCORES",
    "ZRANGEBYSCORE Z fb fb",
    "ZRANGEBYSCORE Z fb fb WITHSCORES LIMIT u i",
    "ZREVRANGEBYSCORE Z fb fb ?WITHSCORES",
    "ZREVRANGEBYSCORE Z fb fb LIMIT u n",
    "ZRANGESTORE Z Z i i ?REV",
    "ZRANGESTORE Z Z fb fb BYSCORE ?REV LIMIT u n",
    // Ranges by member are defined among members of one score only.
    "ZADD Y 0 e",
    "ZADD Y 0 e",
    "ZADD Y 0 e 0 e 0 e",
    "ZREM Y e",
    "ZRANGEBYLEX Y lb lb ?LIMIT u i",
    "ZRANGEBYLEX Y lb lb LIMIT u i",
    "ZREVRANGEBYLEX Y lb lb LIMIT u n",
    "ZREVRANGEBYLEX Y lb lb",
    "ZRANGESTORE Y Y lb lb BYLEX",
    "ZREMRANGEBYLEX Y lb lb",
    "ZREMRANGEBYRANK Z n n",
    "ZREMRANGEBYSCORE Z fb fb",
    "ZPOPMIN Z",
    "ZPOPMAX Z",
    "ZPOPMIN Z n",
    "ZPOPMAX Z n",
    "BZPOPMIN Z Z 0",
    "BZPOPMAX Z 1",
    "ZMPOP 1 Z MIN",
    "ZMPOP 2 Z Z MAX COUNT n",
    "BZMPOP 0 1 Z MIN",
    "ZUNION Z...",
    "ZUNION 2 Z S ?WITHSCORES",
    "ZUNION 2 Z Z WEIGHTS w w AGGREGATE MAX WITHSCORES",
    "ZINTER 2 Z Z WITHSCORES",
    "ZINTER 2 Z S AGGREGATE MIN WITHSCORES",
    "ZDIFF 2 Z Z ?WITHSCORES",
    "ZDIFF 1 Z WEIGHTS 1",
    "ZUNIONSTORE Z 2 Z Z ?AGGREGATE",
    "ZUNIONSTORE Z 2 Z S WEIGHTS w w",
    "ZINTERSTORE Z 2 Z Z AGGREGATE SUM",
    "ZDIFFSTORE Z 2 Z Z",
    "ZINTERCARD 2 Z Z LIMIT n",
    "ZINTERCARD i Z",
    "ZUNIONSTORE Z i Z",
    "ZRANDMEMBER Z",
    "ZRANDMEMBER Z i",
    "ZRANDMEMBER Z n WITHSCORES",
];

fn sort_reply(reply: &mut Reply) {
    if let Reply::Array(all) | Reply::Set(all) = reply {
        all.sort_by_key(|r| format!("{r:?}"));
    }
    if let Reply::Map(all) = reply {
        all.sort_by_key(|r| format!("{r:?}"));
    }
}

/// A flat list of pairs as a list of lists, so that it can be sorted.
fn pair_up(reply: &mut Reply) {
    if let Reply::Array(all) = reply {
        let pairs = all.chunks(2).map(|p| Reply::Array(p.to_vec())).collect();
        *reply = Reply::Array(pairs);
    }
}

fn shape(reply: &Reply) -> String {
    match reply {
        Reply::Array(all) => format!("array of {}", all.len()),
        Reply::Bulk(_) => "bulk".into(),
        other => format!("{other:?}"),
    }
}

fn show(argv: &[Vec<u8>]) -> String {
    argv.iter()
        .map(|a| format!("{:?}", String::from_utf8_lossy(a)))
        .collect::<Vec<_>>()
        .join(" ")
}

fn compare(seed: u64, rounds: usize, proto: Proto) {
    let Some(mut valkey) = start() else {
        return;
    };
    let mut ours = Ours::new();
    ours.proto = proto;
    if proto == Proto::Resp3 {
        valkey.call(&["HELLO", "3"]);
    }
    let mut draw = Draw {
        rng: Rng::new(seed),
    };
    for round in 0..rounds {
        let template = TEMPLATES[draw.below(TEMPLATES.len())];
        let argv = draw.line(template);
        let name = template.split(' ').next().unwrap();
        let (mut got, effects) = ours.call(&argv);
        if name == "SPOP" && !effects.is_empty() {
            // What we drew, it removes.
            let rest = &effects[..];
            let rest = rest
                .strip_prefix(b"*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n")
                .unwrap_or(rest);
            valkey.link.send(rest);
            let removed = valkey.link.read();
            let popped = match &got {
                Reply::Bulk(_) => 1,
                Reply::Array(all) | Reply::Set(all) => all.len() as i64,
                other => panic!("{other:?}"),
            };
            assert!(
                matches!(removed, Reply::Int(n) if n == popped || n == 1),
                "{}: {removed:?}",
                show(&argv)
            );
            continue;
        }
        let mut want = match name.starts_with('B') {
            true => call_unblocked(&mut valkey, &argv),
            false => valkey.call(&argv),
        };
        match name {
            "HGETALL" => {
                pair_up(&mut got);
                pair_up(&mut want);
                sort_reply(&mut got);
                sort_reply(&mut want);
            }
            "HKEYS" | "HVALS" | "SMEMBERS" | "SINTER" | "SUNION" | "SDIFF" => {
                sort_reply(&mut got);
                sort_reply(&mut want);
            }
            "SRANDMEMBER" | "HRANDFIELD" | "ZRANDMEMBER" => {
                assert_eq!(
                    shape(&got),
                    shape(&want),
                    "seed {seed}, round {round}: {}",
                    show(&argv)
                );
                continue;
            }
            _ => {}
        }
        assert_eq!(got, want, "seed {seed}, round {round}: {}", show(&argv));
        if round % 50 == 0 {
            let (Reply::Simple(want) | Reply::Bulk(want)) = valkey.call(&["DEBUG", "DIGEST"])
            else {
                panic!("no digest");
            };
            let hex = |d: [u8; 20]| d.iter().map(|b| format!("{b:02x}")).collect::<String>();
            if hex(ours.engine.digest()) != String::from_utf8_lossy(&want) {
                for key in KEYS {
                    ours.dump(key, &mut valkey);
                }
            }
            assert_eq!(
                hex(ours.engine.digest()),
                String::from_utf8(want).unwrap(),
                "seed {seed}, round {round}"
            );
            assert_eq!(
                ours.engine.digest(),
                ours.copy.digest(),
                "the effects lead elsewhere: seed {seed}, round {round}"
            );
            for key in [
                "h1", "h2", "h3", "s1", "s2", "s3", "z1", "z2", "z3", "y1", "y2",
            ] {
                let want = valkey.call(&["OBJECT", "ENCODING", key]);
                let (mut rng, mut reply, mut fx) = (Rng::new(0), Vec::new(), Effects::new());
                let call = Call {
                    argv: &[],
                    db: 0,
                    slot: None,
                    proto,
                    now_ms: NOW_MS,
                    mode: Mode::Primary,
                    may_block: false,
                    rng: &mut rng,
                    reply: &mut reply,
                    blobs: None,
                    fx: &mut fx,
                };
                let got = ours
                    .engine
                    .key_info(&call, key.as_bytes())
                    .map(|i| i.encoding);
                let want = want
                    .as_bytes()
                    .map(|b| String::from_utf8_lossy(b).into_owned());
                assert_eq!(
                    got.map(String::from),
                    want,
                    "encoding of {key}: seed {seed}, round {round}"
                );
            }
        }
    }
}

#[test]
fn random_commands_in_resp2() {
    compare(1, 20_000, Proto::Resp2);
}

#[test]
fn random_commands_in_resp3() {
    compare(11, 20_000, Proto::Resp3);
}
