//! What hashes, lists, sets and sorted sets send to their copies, when they block, and how they scan.

use std::collections::BTreeMap;
use std::time::Duration;

use holdfast_engine::effects::Effects;
use holdfast_engine::{
    BadPayload, Block, Call, Engine, EngineConfig, Mode, Outcome, Rng, TimeoutReply, Value,
    ValueCodec, ValueRef, Wakes,
};
use holdfast_resp::Proto;
use holdfast_resp::reply::{self, Reply};

struct NoCodec;

impl ValueCodec for NoCodec {
    fn dump(&self, _: ValueRef<'_>) -> Vec<u8> {
        Vec::new()
    }

    fn load(&self, _: &[u8]) -> Result<Value, BadPayload> {
        Err(BadPayload::VersionOrChecksum)
    }
}

struct Node {
    engine: Engine,
    fx: Effects,
    rng: Rng,
    may_block: bool,
}

impl Node {
    fn new() -> Self {
        let mut fx = Effects::new();
        fx.set_enabled(true);
        fx.set_track_ready(true);
        let mut node = Node {
            engine: Engine::new(EngineConfig::default(), Box::new(NoCodec)),
            fx,
            rng: Rng::new(7),
            may_block: true,
        };
        // Selects the database, so that later effects stand alone.
        node.run("SADD first 1");
        node
    }

    fn run(&mut self, line: &str) -> (Outcome, Vec<u8>) {
        let argv: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        let mut reply = Vec::new();
        let outcome = self.engine.execute(
            Engine::command(argv[0]).unwrap(),
            &mut Call {
                argv: &argv,
                db: 0,
                slot: None,
                proto: Proto::Resp2,
                now_ms: 1_700_000_000_000,
                mode: Mode::Primary,
                may_block: self.may_block,
                rng: &mut self.rng,
                reply: &mut reply,
                blobs: None,
                fx: &mut self.fx,
            },
        );
        (outcome, reply)
    }

    fn reply(&mut self, line: &str) -> Reply {
        let (outcome, reply) = self.run(line);
        assert_ne!(outcome, Outcome::Failed, "{line}");
        reply::parse(&reply).unwrap().unwrap().0
    }

    /// The effects since the last call, as lines.
    fn effects(&mut self) -> Vec<String> {
        let bytes = self.fx.take_bytes();
        let mut at = 0;
        let mut lines = Vec::new();
        while let Some((Reply::Array(argv), n)) = reply::parse(&bytes[at..]).unwrap() {
            at += n;
            let words: Vec<_> = argv
                .iter()
                .map(|w| String::from_utf8_lossy(w.as_bytes().unwrap()).into_owned())
                .collect();
            lines.push(words.join(" "));
        }
        lines
    }
}

fn check(setup: &[&str], line: &str, want: &[&str]) {
    let mut node = Node::new();
    setup.iter().for_each(|s| {
        node.run(s);
    });
    node.effects();
    node.run(line);
    assert_eq!(node.effects(), want, "{line}");
}

#[test]
fn what_is_replicated() {
    check(&[], "HSET h f v", &["HSET h f v"]);
    check(&["HSET h f 1"], "HINCRBY h f 2", &["HINCRBY h f 2"]);
    check(&["HSET h f 0.1"], "HINCRBYFLOAT h f 0.2", &["HSET h f 0.3"]);
    check(&["HSET h f 1"], "HSETNX h f 2", &[]);
    check(&["HSET h f 1"], "HDEL h x", &[]);
    check(&["HSET h f x"], "HINCRBY h f 1", &[]);
    check(&["SADD s 1"], "SADD s 1", &[]);
    check(&["SADD s only"], "SPOP s", &["SREM s only"]);
    check(&["SADD s a b"], "SPOP s 5", &["UNLINK s"]);
    check(&["SADD s a"], "SPOP s 0", &[]);
    check(&["SADD s a"], "SMOVE s d a", &["SMOVE s d a"]);
    check(&[], "SINTERSTORE d a b", &[]);
    check(&["SADD d x"], "SINTERSTORE d a b", &["SINTERSTORE d a b"]);
    check(&["RPUSH l a b"], "BLPOP l 0", &["LPOP l"]);
    check(&["RPUSH l a b"], "BRPOP x l 0", &["RPOP l"]);
    check(
        &["RPUSH l a b c"],
        "BLMPOP 0 2 x l RIGHT COUNT 2",
        &["RPOP l 2"],
    );
    check(&["RPUSH l a b c"], "LMPOP 1 l LEFT COUNT 9", &["LPOP l 3"]);
    check(
        &["RPUSH l a"],
        "BLMOVE l d left right 0",
        &["LMOVE l d left right"],
    );
    check(&["RPUSH l a"], "BRPOPLPUSH l d 0", &["RPOPLPUSH l d"]);
    check(&["RPUSH l a"], "LTRIM l 0 -1", &[]);
    check(&["RPUSH l a"], "LREM l 0 x", &[]);
    check(&["ZADD z 1 a 2 b"], "BZPOPMIN z 0", &["ZPOPMIN z"]);
    check(&["ZADD z 1 a 2 b"], "BZPOPMAX z 0", &["ZPOPMAX z"]);
    check(
        &["ZADD z 1 a 2 b"],
        "ZMPOP 1 z MAX COUNT 5",
        &["ZPOPMAX z 2"],
    );
    check(&["ZADD z 1 a 2 b"], "BZMPOP 0 1 z MIN", &["ZPOPMIN z 1"]);
    check(&["ZADD z 1 a"], "ZADD z 1 a", &[]);
    check(&["ZADD z inf a"], "ZINCRBY z -inf a", &[]);
}

/// More members than fit one effect are several, applied as one.
#[test]
fn a_large_spop_is_one_unit() {
    let mut node = Node::new();
    for i in 0..3000 {
        node.run(&format!("SADD s m{i}"));
    }
    node.effects();
    node.run("SPOP s 2000");
    let lines = node.effects();
    assert_eq!(lines.len(), 4);
    assert_eq!((lines[0].as_str(), lines[3].as_str()), ("MULTI", "EXEC"));
    assert_eq!(lines[1].split(' ').count(), 1026);
    assert_eq!(lines[2].split(' ').count(), 2 + 976);
    assert_eq!(node.reply("SCARD s"), Reply::Int(1000));
}

#[test]
fn blocking() {
    let blocks = |line: &str, keys: &[&str], timeout: Option<u64>, on_timeout: TimeoutReply| {
        let mut node = Node::new();
        node.effects();
        let (outcome, reply) = node.run(line);
        let want = Block {
            keys: keys.iter().map(|k| k.as_bytes().into()).collect(),
            timeout: timeout.map(Duration::from_millis),
            on_timeout,
            replaced: Vec::new(),
            wakes: Wakes::OnValue,
        };
        assert_eq!(outcome, Outcome::Block(Box::new(want)), "{line}");
        assert!(reply.is_empty());
        assert!(node.effects().is_empty());
        // In a transaction the timeout is over at once.
        node.may_block = false;
        let (outcome, reply) = node.run(line);
        assert_eq!(outcome, Outcome::Done);
        let null: &[u8] = match on_timeout {
            TimeoutReply::Null => b"$-1\r\n",
            TimeoutReply::NullArray => b"*-1\r\n",
        };
        assert_eq!(reply, null, "{line}");
    };
    blocks("BLPOP a b 0", &["a", "b"], None, TimeoutReply::NullArray);
    blocks("BRPOP a 0.0101", &["a"], Some(11), TimeoutReply::NullArray);
    blocks(
        "BLMPOP 1.5 2 a b LEFT",
        &["a", "b"],
        Some(1500),
        TimeoutReply::NullArray,
    );
    blocks(
        "BLMOVE a b LEFT RIGHT 2",
        &["a"],
        Some(2000),
        TimeoutReply::Null,
    );
    blocks("BRPOPLPUSH a b 0", &["a"], None, TimeoutReply::Null);
    blocks("BZPOPMIN a b 0", &["a", "b"], None, TimeoutReply::NullArray);
    blocks("BZMPOP 0 1 a MAX", &["a"], None, TimeoutReply::NullArray);

    let mut node = Node::new();
    let mut fails = |line: &str, error: &str| {
        let (outcome, reply) = node.run(line);
        assert_eq!(
            (outcome, &*String::from_utf8_lossy(&reply)),
            (Outcome::Failed, error)
        );
    };
    fails("BLPOP a -1", "-ERR timeout is negative\r\n");
    fails(
        "BLPOP a x",
        "-ERR timeout is not a float or out of range\r\n",
    );
    fails("BLPOP a inf", "-ERR timeout is out of range\r\n");
    fails(
        "BLPOP first 0",
        "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n",
    );
}

#[test]
fn pushing_reports_readiness() {
    for line in [
        "RPUSH k a",
        "ZADD k 1 a",
        "LMOVE src k LEFT LEFT",
        "ZUNIONSTORE k 1 zsrc",
    ] {
        let mut node = Node::new();
        node.run("RPUSH src a");
        node.run("ZADD zsrc 1 a");
        node.fx.clear_ready();
        node.run(line);
        let ready = node.fx.take_ready();
        assert!(!ready.is_empty(), "{line}");
        assert!(ready.iter().all(|k| k == (0, b"k")), "{line}");
    }
}

/// A scan reports whatever is there from its begin to its end, with other elements coming and going.
#[test]
fn scans_miss_nothing_that_stays() {
    for (add, remove, scan) in [
        ("SADD k {}", "SREM k {}", "SSCAN k {} COUNT 7"),
        ("HSET k {} v", "HDEL k {}", "HSCAN k {} COUNT 7"),
        ("HSET k {} v", "HDEL k {}", "HSCAN k {} COUNT 7 NOVALUES"),
        ("ZADD k 1 {}", "ZREM k {}", "ZSCAN k {} COUNT 7"),
    ] {
        let mut node = Node::new();
        for i in 0..1000 {
            node.run(&add.replace("{}", &format!("stays{i}")));
        }
        let (mut cursor, mut seen, mut other) = ("0".to_string(), BTreeMap::new(), 0);
        loop {
            let Reply::Array(parts) = node.reply(&scan.replace("{}", &cursor)) else {
                panic!("not a scan's reply");
            };
            let Reply::Array(elements) = &parts[1] else {
                panic!("no elements");
            };
            assert!(elements.len() < 100, "COUNT is heeded");
            for e in elements {
                *seen.entry(e.as_bytes().unwrap().to_vec()).or_insert(0) += 1;
            }
            cursor = String::from_utf8_lossy(parts[0].as_bytes().unwrap()).into_owned();
            if cursor == "0" {
                break;
            }
            for _ in 0..20 {
                node.run(&add.replace("{}", &format!("other{other}")));
                node.run(&remove.replace("{}", &format!("other{}", other / 2)));
                other += 1;
            }
        }
        for i in 0..1000 {
            assert!(
                seen.contains_key(format!("stays{i}").as_bytes()),
                "{scan} {i}"
            );
        }
    }
    let mut node = Node::new();
    node.run("HSET k a 1 b 2");
    assert_eq!(
        node.reply("HSCAN k 0 MATCH b*"),
        Reply::Array(vec![
            Reply::Bulk(b"0".to_vec()),
            Reply::Array(vec![Reply::Bulk(b"b".to_vec()), Reply::Bulk(b"2".to_vec())])
        ])
    );
}

/// Each member comes about equally often, from all forms.
#[test]
fn random_picks_are_even() {
    for n in [5usize, 300] {
        let mut node = Node::new();
        for i in 0..n {
            node.run(&format!("SADD k m{i}"));
        }
        let mut seen = BTreeMap::new();
        for _ in 0..n * 100 {
            let reply = node.reply("SRANDMEMBER k");
            *seen
                .entry(reply.as_bytes().unwrap().to_vec())
                .or_insert(0u32) += 1;
        }
        assert_eq!(seen.len(), n);
        assert!(seen.values().all(|c| (40..200).contains(c)), "{seen:?}");
        let Reply::Array(some) = node.reply(&format!("SRANDMEMBER k {}", n - 1)) else {
            panic!("not an array");
        };
        let distinct: std::collections::BTreeSet<_> = some.iter().map(|r| r.as_bytes()).collect();
        assert_eq!(distinct.len(), n - 1);
    }
}

/// What is left open elsewhere must still be the same on every copy, whatever the form of its values.
#[test]
fn forms_do_not_show_in_the_data() {
    let mut large = Node::new();
    let mut small = Node::new();
    for i in 0..200 {
        large.run(&format!("ZADD z {} m{i}", i % 3));
    }
    large.run("ZREMRANGEBYRANK z 20 -1");
    let Reply::Array(all) = large.reply("ZRANGE z 0 -1 WITHSCORES") else {
        panic!("not an array");
    };
    for pair in all.chunks(2) {
        let text = |r: &Reply| String::from_utf8_lossy(r.as_bytes().unwrap()).into_owned();
        small.run(&format!("ZADD z {} {}", text(&pair[1]), text(&pair[0])));
    }
    for line in [
        "ZADD z -0 zero",
        "ZINCRBY z 5 m0",
        "ZREMRANGEBYLEX z [m1 [m3",
        "ZUNIONSTORE n 1 z WEIGHTS -1",
        "ZREMRANGEBYLEX z (m50 +",
        "ZREMRANGEBYLEX z - (m12",
        "ZADD z 0 n1 0 n2 1 a",
        "ZRANGESTORE r z [m [n1 BYLEX",
        "ZREMRANGEBYLEX z [n1 +",
        "ZREMRANGEBYLEX z - +",
    ] {
        assert_eq!(large.run(line), small.run(line), "{line}");
        assert_eq!(large.engine.digest(), small.engine.digest(), "{line}");
    }
}

#[test]
fn ranges_by_member_among_several_scores_follow_the_order_of_the_members() {
    let mut node = Node::new();
    node.run("ZADD z 1 a 2 b 3 c 4 d");
    let members = |reply: Reply| match reply {
        Reply::Array(all) => all
            .iter()
            .map(|m| String::from_utf8_lossy(m.as_bytes().unwrap()).into_owned())
            .collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    assert_eq!(members(node.reply("ZRANGE z [b [c BYLEX")), ["b", "c"]);
    assert_eq!(members(node.reply("ZREVRANGEBYLEX z + (b")), ["d", "c"]);
    assert_eq!(node.reply("ZLEXCOUNT z - +"), Reply::Int(4));
}
