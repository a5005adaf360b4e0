//! Same commands, times and random numbers: same replies, effects and digest. And whoever only applies the effects ends
//! up with the same data.

mod common;

use common::Node;
use holdfast_engine::Rng;

/// A random command of any type; not all of them succeed.
fn command(rng: &mut Rng) -> String {
    let k = |rng: &mut Rng| format!("{{t}}{}", rng.below(30));
    let (a, b, c) = (k(rng), k(rng), k(rng));
    let n = rng.below(50);
    let commands = [
        format!("SET {a} {n}"),
        format!("SET {a} v{n} PX {}", 1 + rng.below(100)),
        format!("SET {a} v{n} EX {} GET", 1 + rng.below(3)),
        format!("SET {a} v{n} KEEPTTL NX GET"),
        format!("SETEX {a} 1 v"),
        format!("GETSET {a} v{n}"),
        format!("GETDEL {a}"),
        format!("GETEX {a} PX {}", 1 + rng.below(100)),
        format!("GETEX {a} PXAT {}", 999_990 + rng.below(2000)),
        format!("GETEX {a} PERSIST"),
        format!("APPEND {a} x{n}"),
        format!("INCRBY {a} {n}"),
        format!("INCRBYFLOAT {a} 0.{n}"),
        format!("SETRANGE {a} {n} abc"),
        format!("MSETNX {a} 1 {b} 2"),
        format!("MSETEX 2 {a} 1 {b} 2 PX {}", 1 + rng.below(100)),
        format!("DEL {a} {b} {c}"),
        format!("UNLINK {a}"),
        format!("RENAME {a} {b}"),
        format!("RENAMENX {a} {b}"),
        format!("COPY {a} {b}"),
        format!("MOVE {a} {}", rng.below(3)),
        format!("PEXPIRE {a} {}", rng.below(100)),
        format!("EXPIRE {a} -1"),
        format!("PEXPIREAT {a} {} GT", 1_000_000 + rng.below(3000)),
        format!("PERSIST {a}"),
        format!("GET {a}"),
        format!("MGET {a} {b} {c}"),
        format!("EXISTS {a} {b}"),
        "SCAN 0 COUNT 5".to_string(),
        "RANDOMKEY".to_string(),
        "KEYS *".to_string(),
        "DBSIZE".to_string(),
        format!("RPUSH {a} {n} b {n}"),
        format!("LPUSH {a} x y"),
        format!("LPOP {a}"),
        format!("RPOP {a} 2"),
        format!("LREM {a} 0 b"),
        format!("LTRIM {a} 1 -2"),
        format!("LINSERT {a} BEFORE b i{n}"),
        format!("LSET {a} 0 s{n}"),
        format!("LMOVE {a} {b} LEFT RIGHT"),
        format!("RPOPLPUSH {a} {b}"),
        format!("BLPOP {a} {b} 0"),
        format!("BRPOP {a} {b} 0"),
        format!("BLMOVE {a} {b} LEFT LEFT 0"),
        format!("LMPOP 2 {a} {b} LEFT COUNT 2"),
        format!("SADD {a} {n} m{n} other"),
        format!("SREM {a} {n} m{n}"),
        format!("SPOP {a}"),
        format!("SPOP {a} 3"),
        format!("SRANDMEMBER {a} 3"),
        format!("SMOVE {a} {b} other"),
        format!("SUNIONSTORE {a} {b} {c}"),
        format!("SINTERSTORE {a} {b} {c}"),
        format!("SDIFFSTORE {a} {b} {c}"),
        format!("HSET {a} f{n} {n} g x"),
        format!("HDEL {a} f{n} g"),
        format!("HINCRBY {a} g {n}"),
        format!("HINCRBYFLOAT {a} h 0.{n}"),
        format!("HSETNX {a} f{n} y"),
        format!("HRANDFIELD {a} 2"),
        format!("HSETEX {a} PX {n} FIELDS 2 f{n} {n} g x"),
        format!("HSETEX {a} FNX KEEPTTL FIELDS 1 f{n} y"),
        format!("HSETEX {a} KEEPTTL FIELDS 2 g 7 f{n} y"),
        format!("HSETEX {a} XX EX 0 FIELDS 2 g 7 f{n} y"),
        format!("HGETEX {a} PX {n} FIELDS 2 f{n} g"),
        format!("HGETEX {a} PERSIST FIELDS 2 f{n} g"),
        format!("HPEXPIRE {a} {n} FIELDS 3 f{n} g h"),
        format!("HPEXPIRE {a} {n} GT FIELDS 3 f1 g h"),
        format!("HPERSIST {a} FIELDS 2 g h"),
        format!("HGETDEL {a} FIELDS 2 f{n} g"),
        format!("HGETALL {a}"),
        format!("SORT {a} BY nosort GET {{t}}1*->g GET {{t}}2*->h STORE {b}"),
        format!("ZADD {a} {n} m{n} 1 other"),
        format!("ZADD {a} XX INCR 1.5 other"),
        format!("ZINCRBY {a} 0.{n} m{n}"),
        format!("ZREM {a} m{n}"),
        format!("ZPOPMIN {a}"),
        format!("ZPOPMAX {a} 2"),
        format!("BZPOPMIN {a} {b} 0"),
        format!("ZREMRANGEBYRANK {a} 0 0"),
        format!("ZUNIONSTORE {a} 2 {b} {c}"),
        format!("ZRANGESTORE {a} {b} 0 1"),
        format!("ZRANDMEMBER {a} 2"),
    ];
    if rng.below(600) == 0 {
        return ["FLUSHDB", "FLUSHALL"][rng.index(2)].into();
    }
    commands[rng.index(commands.len())].clone()
}

#[test]
fn same_input_same_everything_and_effects_are_enough() {
    for seed in 0..12 {
        let cluster = seed % 2 == 0;
        let mut rng = Rng::new(seed);
        // The twins have the same hash seed, since the order of SCAN and the draw of RANDOMKEY may depend on it. The copy
        // has another: what it applies must not.
        let (mut one, mut two) = (Node::new(cluster, seed), Node::new(cluster, seed));
        let mut copy = Node::new(cluster, seed + 1000);
        for step in 0..4000 {
            match rng.below(30) {
                0 => {
                    let by = rng.below(30);
                    one.now_ms += by;
                    two.now_ms += by;
                    // The copy's clock is its own.
                    copy.now_ms += rng.below(100);
                }
                1 => {
                    let budget = rng.index(5);
                    let now_ms = one.now_ms;
                    one.engine.active_expire_step(now_ms, budget, &mut one.fx);
                    two.engine.active_expire_step(now_ms, budget, &mut two.fx);
                }
                2 => {
                    one.db = rng.below(3) as u16;
                    two.db = one.db;
                }
                _ => {
                    let line = command(&mut rng);
                    assert_eq!(
                        one.run(&line),
                        two.run(&line),
                        "seed {seed} step {step}: {line}"
                    );
                }
            }
            let effects = one.fx.take_bytes();
            assert_eq!(effects, two.fx.take_bytes(), "seed {seed} step {step}");
            let now_ms = copy.now_ms;
            if let Err(error) = copy.engine.apply(&effects, &mut copy.apply, now_ms) {
                panic!(
                    "seed {seed} step {step}: {error}\n{}",
                    String::from_utf8_lossy(&effects)
                );
            }
            if step % 50 == 0 {
                let digest = one.engine.digest();
                assert_eq!(digest, two.engine.digest());
                assert_eq!(
                    digest,
                    copy.engine.digest(),
                    "seed {seed} step {step}: the copy differs"
                );
            }
        }
        assert_eq!(one.engine.digest(), copy.engine.digest(), "seed {seed}");
    }
}
