//! Bitmaps, bit fields, HyperLogLogs and places beside a real `valkey-server`: the same commands must give the same replies,
//! encodings and digest.
//!
//! Skipped, with a message, where there is no `valkey-server`, or one older than 9.1 (which has no polygons).

mod common;

use std::time::{SystemTime, UNIX_EPOCH};

use common::Node;
use common::valkey::Valkey;
use holdfast_engine::Rng;

fn pick<'a>(rng: &mut Rng, words: &[&'a str]) -> &'a str {
    words[rng.index(words.len())]
}

/// A number as clients write it, now and then a bad one.
fn number(rng: &mut Rng, max: i64) -> String {
    match rng.index(30) {
        0 => pick(
            rng,
            &[
                "x",
                "-1",
                "1.5",
                "9223372036854775807",
                "-9223372036854775808",
                "\"\"",
                "+1",
            ],
        )
        .into(),
        1..6 => (-(rng.below(max as u64 / 2 + 1) as i64)).to_string(),
        _ => rng.below(max as u64 + 1).to_string(),
    }
}

fn bit_command(rng: &mut Rng) -> String {
    let k = |rng: &mut Rng| format!("k{}", rng.below(8));
    let (a, b, c) = (k(rng), k(rng), k(rng));
    let span = |rng: &mut Rng| match rng.index(4) {
        0 => String::new(),
        1 => number(rng, 40),
        2 => format!("{} {}", number(rng, 40), number(rng, 40)),
        _ => format!(
            "{} {} {}",
            number(rng, 150),
            number(rng, 150),
            pick(rng, &["BIT", "BYTE", "bit", "foo"])
        ),
    };
    let field = |rng: &mut Rng| {
        let encoding = format!("{}{}", pick(rng, &["i", "u", "i", "u", "x"]), rng.below(66));
        let offset = match rng.index(3) {
            0 => format!("#{}", rng.below(20)),
            _ => number(rng, 200),
        };
        let value = match rng.index(4) {
            0 => (rng.next_u64() as i64).to_string(),
            1 => pick(
                rng,
                &["9223372036854775807", "-9223372036854775808", "x", "-1"],
            )
            .into(),
            _ => (rng.below(600) as i64 - 300).to_string(),
        };
        match rng.index(8) {
            0..3 => format!("GET {encoding} {offset}"),
            3 | 4 => format!("SET {encoding} {offset} {value}"),
            5 | 6 => format!("INCRBY {encoding} {offset} {value}"),
            _ => format!(
                "OVERFLOW {}",
                pick(rng, &["WRAP", "SAT", "FAIL", "sat", "fail", "foo"])
            ),
        }
    };
    match rng.index(16) {
        0 => format!(
            "SET {a} {}",
            pick(
                rng,
                &[
                    "foobar",
                    "12345",
                    "\"\"",
                    "\"\\xff\\xff\\xf0\"",
                    "\"\\xff\\xff\""
                ]
            )
        ),
        1..3 => format!(
            "SETBIT {a} {} {}",
            number(rng, 300),
            pick(rng, &["0", "1", "1", "2", "x", "01"])
        ),
        3 => format!("GETBIT {a} {}", number(rng, 300)),
        4 => format!("BITCOUNT {a} {}", span(rng)),
        5 => format!(
            "BITPOS {a} {} {}",
            pick(rng, &["0", "1", "1", "0", "2", "x"]),
            span(rng)
        ),
        6 => {
            let op = pick(rng, &["AND", "OR", "XOR", "NOT", "xor", "NAND"]);
            let many = (0..rng.index(4)).map(|_| k(rng)).collect::<Vec<_>>();
            format!("BITOP {op} {a} {b} {}", many.join(" "))
        }
        7 => format!("BITOP NOT {a} {c}"),
        8..12 => {
            let steps: Vec<_> = (0..rng.index(5)).map(|_| field(rng)).collect();
            format!("BITFIELD {a} {}", steps.join(" "))
        }
        12 => format!("BITFIELD_RO {a} {}", field(rng)),
        13 => format!("GET {a}"),
        14 => pick(rng, &["DEL", "STRLEN", "INCR"]).to_string() + " " + &a,
        _ => format!("RPUSH {a} x"),
    }
}

fn hll_command(rng: &mut Rng) -> String {
    let k = |rng: &mut Rng| format!("k{}", rng.below(6));
    let (a, b, c) = (k(rng), k(rng), k(rng));
    match rng.index(14) {
        0..4 => {
            let count = rng.index(8) * if rng.index(10) == 0 { 200 } else { 1 };
            let range = [50, 1 << 40][rng.index(2)];
            let many: Vec<_> = (0..count).map(|_| rng.below(range).to_string()).collect();
            format!("PFADD {a} {}", many.join(" "))
        }
        4 | 5 => format!("PFCOUNT {a}"),
        6 => format!("PFCOUNT {a} {b} {c}"),
        7 => format!("PFMERGE {a} {b} {c}"),
        8 => format!("PFMERGE {a}"),
        9 => format!(
            "PFDEBUG {} {a}",
            pick(rng, &["ENCODING", "DECODE", "TODENSE", "GETREG", "x"])
        ),
        10 => format!("GET {a}"),
        11 => format!("DEL {a}"),
        // Only the header is spoilt: broken runs are an error here sooner than in Valkey.
        12 if rng.index(4) == 0 => format!(
            "SETRANGE {a} {} {}",
            rng.below(16),
            pick(rng, &["x", "\"\\x00\"", "\"\\x01\""])
        ),
        12 if rng.index(4) == 0 => format!("SET {a} {}", pick(rng, &["123", "foo"])),
        12 if rng.index(4) == 0 => format!("LPUSH {a} x"),
        _ => format!("OBJECT ENCODING {a}"),
    }
}

fn geo_command(rng: &mut Rng) -> String {
    let k = |rng: &mut Rng| format!("k{}", rng.below(4));
    let (a, b) = (k(rng), k(rng));
    let lon = |rng: &mut Rng| match rng.index(60) {
        0 => pick(rng, &["180", "-180", "180.1", "x", "inf", "-0", "1e400"]).to_string(),
        1..10 => format!("{:.3}", rng.unit() * 2.0 - 1.0),
        _ => format!("{:.6}", rng.unit() * 360.0 - 180.0),
    };
    let lat = |rng: &mut Rng| match rng.index(60) {
        0 => pick(rng, &["85.05112878", "-85.05112878", "86", "x", "-90"]).to_string(),
        1..10 => format!("{:.3}", rng.unit() * 2.0 - 1.0),
        _ => format!("{:.6}", rng.unit() * 170.0 - 85.0),
    };
    let m = |rng: &mut Rng| format!("m{}", rng.below(60));
    let unit = |rng: &mut Rng| pick(rng, &["m", "km", "ft", "mi", "KM", "x", "km", "km"]);
    let size = |rng: &mut Rng| match rng.index(20) {
        0 => pick(rng, &["0", "-1", "x", "1e300", "inf"]).to_string(),
        n => format!("{:.3}", rng.unit() * 10f64.powi(n as i32 % 6)),
    };
    let options = |rng: &mut Rng, store: bool| {
        let mut text = String::new();
        for _ in 0..rng.index(4) {
            text += match rng.index(if store { 7 } else { 9 }) {
                0 => " ASC",
                1 => " DESC",
                2 | 3 => " COUNT 5",
                4 => " COUNT 3 ANY",
                5 => pick(
                    rng,
                    &[" COUNT 0", " ANY", " COUNT x", " foo", " ASC", " ASC"],
                ),
                6 => " WITHDIST",
                7 => " WITHCOORD",
                _ => " WITHHASH",
            };
        }
        text
    };
    let from = |rng: &mut Rng| {
        if rng.index(2) == 0 {
            format!("FROMMEMBER {}", m(rng))
        } else {
            format!("FROMLONLAT {} {}", lon(rng), lat(rng))
        }
    };
    let area = |rng: &mut Rng| match rng.index(5) {
        0 | 1 => format!("{} BYRADIUS {} {}", from(rng), size(rng), unit(rng)),
        2 | 3 => format!(
            "{} BYBOX {} {} {}",
            from(rng),
            size(rng),
            size(rng),
            unit(rng)
        ),
        _ => {
            let corners = 3 + rng.index(4);
            let points: Vec<_> = (0..corners)
                .map(|_| format!("{} {}", lon(rng), lat(rng)))
                .collect();
            let said = if rng.index(20) == 0 {
                rng.index(6)
            } else {
                corners
            };
            format!("BYPOLYGON {said} {}", points.join(" "))
        }
    };
    match rng.index(20) {
        0..4 => {
            let flags = pick(rng, &["", "", "", "NX", "XX", "CH", "XX CH", "NX XX"]);
            let many: Vec<_> = (0..1 + rng.index(6))
                .map(|_| format!("{} {} {}", lon(rng), lat(rng), m(rng)))
                .collect();
            format!("GEOADD {a} {flags} {}", many.join(" "))
        }
        4 => format!(
            "GEODIST {a} {} {} {}",
            m(rng),
            m(rng),
            pick(rng, &["", "km", "mi", "x", "m m"])
        ),
        5 => format!("GEOHASH {a} {} {}", m(rng), m(rng)),
        6 => format!("GEOPOS {a} {} {}", m(rng), m(rng)),
        7 | 8 => format!(
            "GEORADIUS{} {a} {} {} {} {}{}",
            pick(rng, &["", "_RO"]),
            lon(rng),
            lat(rng),
            size(rng),
            unit(rng),
            options(rng, false)
        ),
        9 | 10 => format!(
            "GEORADIUSBYMEMBER{} {a} {} {} {}{}",
            pick(rng, &["", "_RO"]),
            m(rng),
            size(rng),
            unit(rng),
            options(rng, false)
        ),
        11 => format!(
            "GEORADIUS {a} {} {} {} {} {} {b}{}",
            lon(rng),
            lat(rng),
            size(rng),
            unit(rng),
            pick(rng, &["STORE", "STOREDIST"]),
            options(rng, true)
        ),
        12..16 => format!("GEOSEARCH {a} {}{}", area(rng), options(rng, false)),
        16 | 17 => format!(
            "GEOSEARCHSTORE {b} {a} {}{}{}",
            area(rng),
            options(rng, true),
            pick(rng, &["", " STOREDIST"])
        ),
        18 => format!(
            "ZADD {a} {} {}",
            pick(rng, &["-5", "1.5", "4503599627370496", "9007199254740992"]),
            m(rng)
        ),
        _ => match rng.index(6) {
            0 => format!("DEL {a}"),
            1 => format!("SET {a} x"),
            2 => format!("ZRANGE {a} 0 -1 WITHSCORES"),
            _ => format!(
                "GEOSEARCH {a} FROMMEMBER {} BYRADIUS 30000 km ASC WITHDIST WITHCOORD WITHHASH",
                m(rng)
            ),
        },
    }
}

fn compare(command: fn(&mut Rng) -> String, seeds: u64, steps: u32) {
    let Some(mut valkey) = Valkey::start(&[]) else {
        return;
    };
    if !valkey.is_at_least(9, 1) {
        eprintln!("SKIPPED: this valkey-server is older than 9.1");
        return;
    }
    for seed in 0..seeds {
        let mut rng = Rng::new(seed);
        let mut node = Node::new(false, seed);
        node.now_ms = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |d| d.as_millis() as u64);
        let mut copy = Node::new(false, seed + 1);
        valkey.run("FLUSHALL");
        for step in 0..steps {
            let line = command(&mut rng);
            let theirs = valkey.run(&line);
            let ours = node.run(&line);
            assert_eq!(ours, theirs, "seed {seed} step {step}: {line}");
        }
        let digest = |node: &Node| -> String {
            let digest = node.engine.digest();
            digest.iter().map(|b| format!("{b:02x}")).collect()
        };
        assert_eq!(digest(&node), valkey.run("DEBUG DIGEST"), "seed {seed}");
        let effects = node.fx.take_bytes();
        copy.engine
            .apply(&effects, &mut copy.apply, node.now_ms)
            .expect("effects apply");
        assert_eq!(digest(&copy), digest(&node), "seed {seed}: effects");
    }
}

#[test]
fn bits_as_in_valkey() {
    compare(bit_command, 20, 3000);
}

#[test]
fn hyperloglogs_as_in_valkey() {
    compare(hll_command, 10, 1000);
}

#[test]
fn places_as_in_valkey() {
    compare(geo_command, 20, 1500);
}
