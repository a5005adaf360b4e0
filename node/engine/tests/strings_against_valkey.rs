//! Strings and keys beside a real `valkey-server`: the same commands must give the same replies and the same digest.
//!
//! Skipped, with a message, where there is no `valkey-server`. `VALKEY_SERVER` names another binary; one older than 9.1 is
//! not asked what it does not know.

mod common;

use std::time::{SystemTime, UNIX_EPOCH};

use common::valkey::Valkey;
use common::{Node, show};
use holdfast_engine::Rng;
use holdfast_resp::{reply, write};

/// A random command whose reply does not depend on how much time has passed since the last one.
fn command(rng: &mut Rng, newest: bool, now_ms: u64) -> String {
    let k = |rng: &mut Rng| format!("k{}", rng.below(12));
    let (a, b, c) = (k(rng), k(rng), k(rng));
    let n = rng.below(30) as i64 - 5;
    let later = now_ms + 1_000_000 + rng.below(1_000_000);
    let value = [
        "abc",
        "12",
        "-7",
        "3.25",
        "\"\"",
        "0",
        "9223372036854775807",
        "1e3",
        "007",
    ][rng.index(9)];
    let mut commands = vec![
        format!("SET {a} {value}"),
        format!("SET {a} {value} PXAT {later}"),
        format!("SET {a} {value} EXAT {}", later / 1000),
        format!("SET {a} {value} PXAT 5"),
        format!("SET {a} {value} NX"),
        format!("SET {a} {value} XX GET"),
        format!("SET {a} {value} KEEPTTL GET"),
        format!("SET {a} {value} PX {} NX", n.min(0)),
        format!("SET {a} {value} EXAT 5 EXAT {}", later / 1000),
        format!("SET {a} {value} EX"),
        format!("SET {a} {value} PX 1 PXAT 1"),
        format!("SETNX {a} {value}"),
        format!("SETEX {a} {} {value}", n.min(0)),
        format!("PSETEX {a} x {value}"),
        format!("GETSET {a} {value}"),
        format!("GETDEL {a}"),
        format!("GETEX {a} PXAT {later}"),
        format!("GETEX {a} PERSIST"),
        format!("GETEX {a} EXAT 5"),
        format!("GETEX {a} PERSIST EX 5"),
        format!("GETEX {a} KEEPTTL"),
        format!("GET {a}"),
        format!("MGET {a} {b} {c}"),
        format!("MSET {a} {value} {b} 1"),
        format!("MSETNX {a} {value} {b} 1"),
        format!("MSET {a} 1 {b}"),
        format!("APPEND {a} {value}"),
        format!("STRLEN {a}"),
        format!("INCR {a}"),
        format!("INCRBY {a} {n}"),
        format!("DECR {a}"),
        format!("DECRBY {a} {n}"),
        format!("INCRBY {a} {value}"),
        format!("INCRBYFLOAT {a} {value}"),
        format!("INCRBYFLOAT {a} 0.{n}"),
        format!("GETRANGE {a} {n} {}", rng.below(20) as i64 - 10),
        format!("SUBSTR {a} {n} -1"),
        format!("SETRANGE {a} {n} {value}"),
        format!("LCS {a} {b}"),
        format!("LCS {a} {b} IDX WITHMATCHLEN"),
        format!("LCS {a} {b} LEN"),
        format!("DEL {a} {b}"),
        format!("UNLINK {a}"),
        format!("EXISTS {a} {b} {a}"),
        format!("TOUCH {a} {b}"),
        format!("TYPE {a}"),
        format!("RENAME {a} {b}"),
        format!("RENAMENX {a} {b}"),
        format!("COPY {a} {b}"),
        format!("COPY {a} {b} REPLACE"),
        format!("COPY {a} {b} DB {}", n.rem_euclid(20)),
        format!("MOVE {a} {}", n.rem_euclid(20)),
        format!("PEXPIREAT {a} {later}"),
        format!("PEXPIREAT {a} {later} NX"),
        format!("PEXPIREAT {a} {later} XX GT"),
        format!("EXPIREAT {a} {} LT", later / 1000),
        format!("EXPIREAT {a} {n}"),
        format!(
            "EXPIRE {a} {}",
            [
                "abc",
                "-5",
                "0",
                "9223372036854775807",
                "-9223372036854775808"
            ][rng.index(5)]
        ),
        format!("EXPIRE {a} 10 GT LT"),
        format!("EXPIRE {a} 10 FOO"),
        format!("EXPIRETIME {a}"),
        format!("PEXPIRETIME {a}"),
        format!("PERSIST {a}"),
        format!("RPUSH {a} 3 1 2 {n}"),
        format!("RPUSH {a} 5 a 10"),
        format!("ZADD {a} {n} 7 2 {n}"),
        format!("SADD {a} 7 2 {n} b"),
        "DBSIZE".into(),
        format!("SELECT {}", n.rem_euclid(3)),
        format!("RPUSH {a} {value}"),
        format!("SADD {a} {value}"),
        format!("OBJECT REFCOUNT missing"),
        format!("OBJECT FREQ {a}"),
        format!("OBJECT WHAT {a}"),
        format!("OBJECT"),
        "OBJECT HELP".into(),
        format!("KEYS {a}"),
        "SCAN 0 COUNT 1000 MATCH nothing".into(),
        "SCAN abc".into(),
        "SCAN 0 TYPE nosuch".into(),
        "SCAN 0 COUNT 0".into(),
        "SCAN 0 NOVALUES".into(),
        format!("RESTORE {a} -1 x"),
        format!("RESTORE {a} 0 x REPLACE"),
        format!("RESTORE {a} 0 x IDLETIME -1"),
        format!("RESTORE {a} 0 x FREQ 256"),
        "GET".into(),
        "SET a".into(),
        "FLUSHALL foo".into(),
        "FLUSHDB SYNC ASYNC".into(),
    ];
    if newest {
        commands.extend([
            format!("SET {a} {value} IFEQ {}", ["abc", "12"][rng.index(2)]),
            format!("SET {a} {value} IFEQ 12 GET"),
            format!("SORT {a}"),
            format!("SORT {a} DESC LIMIT {n} 3"),
            format!("SORT {a} ALPHA"),
            format!("SORT {a} ALPHA DESC LIMIT 0 {n}"),
            format!("SORT {a} BY k* GET # GET k*"),
            format!("SORT {a} BY k*->f ALPHA GET h*->f"),
            format!("SORT {a} BY nosort GET #"),
            format!("SORT {a} BY nosort DESC LIMIT 1 2 STORE {b}"),
            format!("SORT {a} ALPHA STORE {b}"),
            format!("SORT {a} STORE {b} GET k*"),
            format!("SORT_RO {a} STORE {b}"),
            format!("SORT {a} LIMIT 1"),
            format!("SORT {a} BY"),
            format!("DELIFEQ {a} 12"),
            format!("MSETEX 2 {a} 1 {b} {value} PXAT {later}"),
            format!("MSETEX 2 {a} 1 {b} {value} XX KEEPTTL"),
            format!("MSETEX 1 {a} 1 {b} {value}"),
            format!("MSETEX {n} {a} 1"),
        ]);
    }
    commands[rng.index(commands.len())].clone()
}

#[test]
fn same_replies_and_digest_as_valkey() {
    let Some(mut valkey) = Valkey::start(&[]) else {
        return;
    };
    let newest = valkey.is_at_least(9, 1);
    for seed in 0..30 {
        let mut rng = Rng::new(seed);
        let mut node = Node::new(false, seed);
        node.now_ms = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |d| d.as_millis() as u64);
        valkey.run("FLUSHALL");
        valkey.run("SELECT 0");
        for step in 0..2000 {
            let line = command(&mut rng, newest, node.now_ms);
            let theirs = valkey.run(&line);
            let ours = match line.strip_prefix("SELECT ") {
                Some(db) => {
                    node.db = db.parse().expect("a number");
                    "OK".into()
                }
                None => node.run(&line),
            };
            // 8.0 says it in other words.
            let theirs = if newest {
                theirs
            } else {
                theirs.replace("wrong number of arguments for 'object|", "")
            };
            assert_eq!(ours, theirs, "seed {seed} step {step}: {line}");
        }
        let digest: String = node
            .engine
            .digest()
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect();
        assert_eq!(digest, valkey.run("DEBUG DIGEST"), "seed {seed}");
    }
}

/// What the rows say is what Valkey says, as far as the version beside us knows the command.
#[test]
fn command_info_is_valkeys() {
    let Some(mut valkey) = Valkey::start(&[]) else {
        return;
    };
    if !valkey.is_at_least(9, 1) {
        eprintln!("SKIPPED: this valkey-server is older than 9.1");
        return;
    }
    for command in holdfast_engine::Engine::commands() {
        let name = command.spec.name;
        let mut ours = Vec::new();
        holdfast_engine::docs::write_info(&mut ours, holdfast_resp::Proto::Resp2, None, command);
        let ours = reply::parse(&ours).expect("a reply").expect("whole").0;
        let theirs = valkey.run(&format!("COMMAND INFO {name}"));
        assert_eq!(
            normal(&format!("[{}]", show(&ours))),
            normal(&theirs),
            "{name}"
        );
        let mut ours = Vec::new();
        write::map(&mut ours, holdfast_resp::Proto::Resp2, 1);
        holdfast_engine::docs::write_docs(&mut ours, holdfast_resp::Proto::Resp2, None, command);
        let ours = reply::parse(&ours).expect("a reply").expect("whole").0;
        let theirs = valkey.run(&format!("COMMAND DOCS {name}"));
        assert_eq!(normal(&show(&ours)), normal(&theirs), "{name}");
    }
}

/// With subcommands in one order.
fn normal(info: &str) -> String {
    let mut text = info.replace(" \"subcommands\" [", "]] [\"");
    text = text.replace("]] \"", "]] [\"");
    let mut parts: Vec<&str> = text.split_inclusive("]] [\"").collect();
    parts.sort_unstable();
    parts.concat()
}
