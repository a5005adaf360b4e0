//! String and key commands: replies, errors and effects as Valkey gives them.

mod common;
use common::Node;

fn check(script: &str) {
    for cluster in [false, true] {
        Node::new(cluster, 5).script(script);
    }
}

/// Runs commands and compares what they propagate (without the first SELECT).
fn effects(setup: &[&str], command: &str, expect: &[&str]) {
    let mut node = Node::new(false, 5);
    node.run("SET warm up");
    for line in setup {
        node.run(line);
    }
    node.effects();
    node.now_ms += 1000;
    node.run(command);
    assert_eq!(node.effects(), expect, "{command}");
}

#[test]
fn set_and_its_options() {
    check(
        r#"
        SET k v => OK
        GET k => "v"
        SET k v2 NX => nil
        SET k v2 XX => OK
        SET n v XX => nil
        SET n v NX GET => nil
        GET n => "v"
        SET n w GET => "v"
        SET n x IFEQ v => nil
        SET n x IFEQ w => OK
        SET none x IFEQ w => nil
        SET n y IFEQ x GET => "x"
        SET n z IFEQ x GET => "y"
        GET n => "y"
        SET k v EX 10 => OK
        TTL k => 10
        SET k v KEEPTTL => OK
        PTTL k => 10000
        SET k v => OK
        TTL k => -1
        SET k v PXAT 1005000 => OK
        PTTL k => 5000
        SET k v EXAT 1 => OK
        EXISTS k => 0
        SET k v EX 0 => (error) ERR invalid expire time in 'set' command
        SET k v EX -1 => (error) ERR invalid expire time in 'set' command
        SET k v EX 9223372036854775807 => (error) ERR invalid expire time in 'set' command
        SET k v PX 9223372036854775807 => (error) ERR invalid expire time in 'set' command
        SET k v EX ten => (error) ERR value is not an integer or out of range
        SET k v EX 1 PX 1 => (error) ERR syntax error
        SET k v EX 1 KEEPTTL => (error) ERR syntax error
        SET k v KEEPTTL EX 1 => (error) ERR syntax error
        SET k v NX XX => (error) ERR syntax error
        SET k v NX IFEQ a => (error) ERR syntax error
        SET k v IFEQ => (error) ERR syntax error
        SET k v WHAT => (error) ERR syntax error
        SET k v EX => (error) ERR syntax error
        SET k => (error) ERR wrong number of arguments for 'set' command
        SETNX s 1 => 1
        SETNX s 2 => 0
        SETEX s 10 v => OK
        TTL s => 10
        PSETEX s 1500 v => OK
        PTTL s => 1500
        SETEX s 0 v => (error) ERR invalid expire time in 'setex' command
        GETSET s w => "v"
        TTL s => -1
        GETDEL s => "w"
        GETDEL s => nil
        SET d x => OK
        DELIFEQ d y => 0
        DELIFEQ d x => 1
        DELIFEQ d x => 0
        "#,
    );
}

#[test]
fn wrong_types_are_refused() {
    check(
        r#"
        RPUSH l a => 1
        GET l => (error) WRONGTYPE Operation against a key holding the wrong kind of value
        SET l v GET => (error) WRONGTYPE Operation against a key holding the wrong kind of value
        SET l v IFEQ a => (error) WRONGTYPE Operation against a key holding the wrong kind of value
        APPEND l v => (error) WRONGTYPE Operation against a key holding the wrong kind of value
        INCR l => (error) WRONGTYPE Operation against a key holding the wrong kind of value
        GETRANGE l 0 1 => (error) WRONGTYPE Operation against a key holding the wrong kind of value
        SETRANGE l 0 x => (error) WRONGTYPE Operation against a key holding the wrong kind of value
        MGET l => [nil]
        TYPE l => list
        SET l v => OK
        TYPE l => string
        "#,
    );
}

#[test]
fn numbers() {
    check(
        r#"
        INCR n => 1
        INCRBY n 41 => 42
        DECR n => 41
        DECRBY n 41 => 0
        OBJECT ENCODING n => "int"
        SET n 9223372036854775807 => OK
        INCR n => (error) ERR increment or decrement would overflow
        DECRBY n -9223372036854775808 => (error) ERR decrement would overflow
        SET n " 1" => OK
        INCR n => (error) ERR value is not an integer or out of range
        SET n 1.5 => OK
        INCRBYFLOAT n 0.1 => "1.6"
        INCRBYFLOAT n 2.5 => "4.1"
        INCRBYFLOAT n abc => (error) ERR value is not a valid float
        INCRBYFLOAT new 3 => "3"
        SET x abc => OK
        INCRBYFLOAT x 1 => (error) ERR value is not a valid float
        OBJECT ENCODING x => "embstr"
        SET y aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa => OK
        OBJECT ENCODING y => "raw"
        SET z 1 => OK
        APPEND z 2 => 2
        OBJECT ENCODING z => "raw"
        INCR z => 13
        OBJECT ENCODING z => "int"
        SETRANGE z 0 x => 2
        OBJECT ENCODING z => "raw"
        SET z x => OK
        OBJECT ENCODING z => "embstr"
        "#,
    );
}

#[test]
fn ranges() {
    check(
        r#"
        SET s "Hello World" => OK
        GETRANGE s 0 4 => "Hello"
        GETRANGE s -5 -1 => "World"
        GETRANGE s 0 -1 => "Hello World"
        GETRANGE s 5 1 => ""
        GETRANGE s -1 -5 => ""
        GETRANGE s 100 200 => ""
        GETRANGE s -100 2 => "Hel"
        GETRANGE none 0 1 => ""
        SUBSTR s 0 0 => "H"
        SET num 12345 => OK
        GETRANGE num 1 3 => "234"
        SETRANGE s 6 Redis => 11
        GET s => "Hello Redis"
        SETRANGE pad 3 x => 4
        GET pad => "\x00\x00\x00x"
        SETRANGE s -1 x => (error) ERR offset is out of range
        SETRANGE s 536870912 x => (error) ERR string exceeds maximum allowed size (proto-max-bulk-len)
        SETRANGE none2 5 "" => 0
        EXISTS none2 => 0
        APPEND num 6 => 6
        GET num => "123456"
        APPEND fresh ab => 2
        APPEND fresh cd => 4
        STRLEN fresh => 4
        STRLEN none => 0
        MSET a 1 b 2 => OK
        MGET a b nope => ["1" "2" nil]
        MSET a => (error) ERR wrong number of arguments for 'mset' command
        MSET a 1 b => (error) ERR wrong number of arguments for 'mset' command
        MSETNX a 1 c 2 => 0
        EXISTS c => 0
        MSETNX c 1 d 2 => 1
        MSETEX 2 e 1 f 2 EX 10 => 1
        TTL f => 10
        MSETEX 2 e 1 g 2 NX => 0
        MSETEX 3 e 1 => (error) ERR syntax error
        SET lcs1 ohmytext => OK
        SET lcs2 mynewtext => OK
        LCS lcs1 lcs2 => "mytext"
        LCS lcs1 lcs2 LEN => 6
        LCS lcs1 lcs2 IDX MINMATCHLEN 4 WITHMATCHLEN => ["matches" [[[4 7] [5 8] 4]] "len" 6]
        "#,
    );
}

#[test]
fn expiry() {
    check(
        r#"
        EXPIRE none 10 => 0
        SET k v => OK
        TTL k => -1
        TTL none => -2
        EXPIRE k 10 => 1
        EXPIRE k 20 NX => 0
        EXPIRE k 5 GT => 0
        EXPIRE k 20 GT => 1
        EXPIRE k 30 LT => 0
        EXPIRE k 10 LT => 1
        EXPIRE k 10 XX => 1
        TTL k => 10
        EXPIRETIME k => 1010
        PEXPIRETIME k => 1010000
        PERSIST k => 1
        PERSIST k => 0
        EXPIRE k 10 GT => 0
        EXPIRE k 10 XX => 0
        EXPIRE k 10 NX XX => (error) ERR NX and XX, GT or LT options at the same time are not compatible
        EXPIRE k 10 GT LT => (error) ERR GT and LT options at the same time are not compatible
        EXPIRE k 10 WHAT => (error) ERR Unsupported option WHAT
        EXPIRE k 9223372036854775807 => (error) ERR invalid expire time in 'expire' command
        PEXPIRE k 9223372036854775807 => (error) ERR invalid expire time in 'pexpire' command
        PEXPIREAT k 1001500 => 1
        TTL k => 2
        PTTL k => 1500
        GETEX k PERSIST => "v"
        TTL k => -1
        GETEX k EX 100 => "v"
        TTL k => 100
        GETEX k EXAT 1 => "v"
        EXISTS k => 0
        SET k v => OK
        EXPIRE k -1 => 1
        EXISTS k => 0
        "#,
    );
}

#[test]
fn an_expired_key_is_gone_and_its_deletion_an_effect() {
    let mut node = Node::new(false, 1);
    node.script("SET k v PX 100 => OK\nSET other v PX 100 => OK\nSET third v PX 100 => OK");
    node.effects();
    node.now_ms += 100;
    assert_eq!(node.run("GET k"), "\"v\"", "the last millisecond counts");
    node.now_ms += 1;
    assert_eq!(node.run("GET k"), "nil");
    assert_eq!(node.effects(), ["UNLINK k"]);
    assert_eq!(node.run("SET other w"), "OK");
    assert_eq!(
        node.effects(),
        ["MULTI", "UNLINK other", "SET other w", "EXEC"]
    );
    assert_eq!(node.run("DEL third"), "0");
    assert_eq!(node.effects(), ["UNLINK third"]);
    assert_eq!(node.engine.stats().expired_keys, 3);
    let touched: Vec<_> = node.fx.touched().iter().map(|(_, k)| k.to_vec()).collect();
    assert!(touched.contains(&b"third".to_vec()));
}

#[test]
fn a_replica_hides_expired_keys_and_keeps_them() {
    let mut node = Node::new(false, 1);
    node.run("SET k v PX 100");
    node.effects();
    node.now_ms += 200;
    node.mode = holdfast_engine::Mode::Replica;
    node.script(
        "GET k => nil\nEXISTS k => 0\nTTL k => -2\nDBSIZE => 1\nKEYS * => []\nSCAN 0 => [\"0\" []]",
    );
    assert!(node.effects().is_empty());
}

#[test]
fn active_expiry_deletes_what_is_due() {
    for cluster in [false, true] {
        let mut node = Node::new(cluster, 1);
        for i in 0..100 {
            node.run(&format!("SET k{i} v PX {}", 1 + i));
            node.run(&format!("SET stays{i} v"));
        }
        node.effects();
        node.now_ms += 51;
        let mut rounds = 0;
        while node.engine.active_expire_step(node.now_ms, 7, &mut node.fx) {
            rounds += 1;
        }
        assert_eq!(node.run("DBSIZE"), "150");
        assert_eq!(node.effects().len(), 50);
        assert_eq!(rounds, 7);
        node.now_ms += 1000;
        assert!(
            !node
                .engine
                .active_expire_step(node.now_ms, 1000, &mut node.fx)
        );
        assert_eq!(node.run("DBSIZE"), "100");
    }
}

#[test]
fn keys() {
    check(
        r#"
        MSET a 1 b 2 c 3 => OK
        DEL a nope => 1
        UNLINK b => 1
        EXISTS c c nope => 2
        TOUCH c nope => 1
        TYPE c => string
        TYPE nope => none
        RENAME nope x => (error) ERR no such key
        RENAME c d => OK
        GET d => "3"
        EXISTS c => 0
        RENAME d d => OK
        SET e 5 EX 100 => OK
        RENAMENX d e => 0
        RENAMENX d d => 0
        RENAME e d => OK
        TTL d => 100
        GET d => "5"
        COPY d f => 1
        TTL f => 100
        COPY d f => 0
        COPY d f REPLACE => 1
        COPY d d => (error) ERR source and destination objects are the same
        COPY nope x => 0
        COPY d d DB 1 => 1
        COPY d d DB 16 => (error) ERR DB index is out of range
        MOVE d 1 => 0
        MOVE f 1 => 1
        MOVE f 0 => (error) ERR source and destination objects are the same
        EXISTS f => 0
        DBSIZE => 1
        RANDOMKEY => "d"
        KEYS d* => ["d"]
        KEYS x* => []
        OBJECT REFCOUNT d => 1
        OBJECT IDLETIME d => 0
        OBJECT FREQ nope => nil
        OBJECT ENCODING nope => nil
        OBJECT WHAT d => (error) ERR unknown subcommand 'WHAT'. Try OBJECT HELP.
        FLUSHDB => OK
        DBSIZE => 0
        RANDOMKEY => nil
        FLUSHALL SYNC => OK
        FLUSHALL NOW => (error) ERR syntax error
        "#,
    );
}

#[test]
fn dump_and_restore() {
    check(
        r#"
        SET k v => OK
        DUMP k => "Sv"
        DUMP nope => nil
        RESTORE k 0 Sw => (error) BUSYKEY Target key name already exists.
        RESTORE k 0 Sw REPLACE => OK
        GET k => "w"
        RESTORE k2 1000 Sx => OK
        PTTL k2 => 1000
        RESTORE k3 1001000 Sx ABSTTL IDLETIME 50 => OK
        OBJECT IDLETIME k3 => 50
        RESTORE k3 -1 Sx REPLACE => (error) ERR Invalid TTL value, must be >= 0
        RESTORE k4 0 bad => (error) ERR DUMP payload version or checksum are wrong
        RESTORE k3 1 Sx REPLACE ABSTTL => OK
        EXISTS k3 => 0
        "#,
    );
}

#[test]
fn effects_are_what_valkey_replicates() {
    effects(&[], "SET k v", &["SET k v"]);
    effects(&[], "SET k v EX 10", &["SET k v PXAT 1011000"]);
    effects(&[], "SET k v XX EX 10", &[]);
    effects(
        &["SET k a"],
        "SET k v XX GET PX 10",
        &["SET k v PXAT 1001010"],
    );
    effects(&["SET k a"], "SET k v get XX", &["SET k v XX"]);
    effects(&[], "SET k v PXAT 9000000", &["SET k v PXAT 9000000"]);
    effects(&["SET k a"], "SET k v PXAT 5", &["UNLINK k"]);
    effects(&[], "SET k v PXAT 5", &[]);
    effects(&[], "SETEX k 10 v", &["SET k v PXAT 1011000"]);
    effects(&[], "SETNX k v", &["SETNX k v"]);
    effects(&["SET k a"], "GETSET k v", &["SET k v"]);
    effects(&["SET k a"], "GETDEL k", &["DEL k"]);
    effects(&[], "GETDEL k", &[]);
    effects(&["SET k a"], "GETEX k EX 10", &["PEXPIREAT k 1011000"]);
    effects(&["SET k a EX 10"], "GETEX k PERSIST", &["PERSIST k"]);
    effects(&["SET k a"], "GETEX k PERSIST", &[]);
    effects(&[], "INCRBYFLOAT k 1.5", &["SET k 1.5 KEEPTTL"]);
    effects(&[], "MSETEX 1 k v EX 10", &["MSETEX 1 k v PXAT 1011000"]);
    effects(&["SET k a"], "EXPIRE k 10", &["PEXPIREAT k 1011000"]);
    effects(&["SET k a"], "EXPIRE k 10 NX", &["PEXPIREAT k 1011000 NX"]);
    effects(&["SET k a"], "EXPIRE k 0", &["UNLINK k"]);
    effects(&["SET k a"], "DEL k nope", &["DEL k nope"]);
    effects(&[], "DEL nope", &[]);
    effects(&["SET k a"], "RENAME k l", &["RENAME k l"]);
    effects(&[], "FLUSHALL", &["FLUSHALL"]);
    effects(&[], "RESTORE k 1000 Sx", &["RESTORE k 1002000 Sx ABSTTL"]);
    effects(&["SET k a"], "GET k", &[]);
}

#[test]
fn scan_finds_everything_in_any_setting() {
    for cluster in [false, true] {
        let mut node = Node::new(cluster, 3);
        for i in 0..500 {
            node.run(&format!("SET key:{i} v"));
        }
        node.run("RPUSH list a");
        node.run("SET {tag}x v");
        let scan = |node: &mut Node, options: &str| {
            let mut cursor = "0".to_string();
            let mut found = std::collections::BTreeSet::new();
            loop {
                let reply = node.run(&format!("SCAN {cursor} {options}"));
                let mut parts = reply.trim_matches(['[', ']']).splitn(2, ' ');
                cursor = parts.next().unwrap().trim_matches('"').into();
                found.extend(
                    parts
                        .next()
                        .unwrap()
                        .trim_matches(['[', ']'])
                        .split_whitespace()
                        .map(String::from),
                );
                if cursor == "0" {
                    return found;
                }
            }
        };
        assert_eq!(scan(&mut node, "").len(), 502);
        assert_eq!(scan(&mut node, "COUNT 1000").len(), 502);
        assert_eq!(scan(&mut node, "MATCH key:1?").len(), 10);
        assert_eq!(scan(&mut node, "MATCH key:7").len(), 1);
        assert_eq!(scan(&mut node, "MATCH {tag}*").len(), 1);
        assert_eq!(scan(&mut node, "TYPE list").len(), 1);
        node.script(
            "SCAN x => (error) ERR invalid cursor\nSCAN 0 COUNT 0 => (error) ERR syntax error\n\
             SCAN 0 TYPE what => (error) ERR unknown type name 'what'",
        );
        if cluster {
            let mut hidden = holdfast_engine::SlotSet::new();
            hidden.insert(holdfast_engine::key_slot(b"{tag}x"));
            node.engine.set_hidden_slots(hidden);
            assert_eq!(scan(&mut node, "").len(), 501);
            assert_eq!(node.run("DBSIZE"), "501");
            assert_eq!(node.run("KEYS {tag}*"), "[]");
            for _ in 0..50 {
                assert_ne!(node.run("RANDOMKEY"), "\"{tag}x\"");
            }
        }
    }
}

#[test]
fn slots() {
    let mut node = Node::new(true, 3);
    let slot = holdfast_engine::key_slot(b"{a}");
    for i in 0..10 {
        node.run(&format!("SET {{a}}{i} v EX 100"));
        node.run(&format!("SET {{b}}{i} v"));
    }
    assert_eq!(node.engine.slot_count(slot), 10);
    assert_eq!(node.engine.slot_keys(0, slot, 3).len(), 3);
    assert_eq!(node.engine.slot_keys(0, slot, 30).len(), 10);
    assert_eq!(node.engine.flush_slots(&[slot].into_iter().collect()), 10);
    assert_eq!(
        (node.engine.slot_count(slot), node.engine.expiries_len(0)),
        (0, 0)
    );
    assert_eq!(node.run("DBSIZE"), "10");
    while node.engine.free_step(3) {}
}

#[test]
fn large_values_are_freed_in_steps() {
    type Element = fn(u32) -> String;
    let fill: [(&str, Element); 4] = [
        ("RPUSH", |i| format!("element-{i}-{}", "x".repeat(100))),
        // Members, and values of fields, that have allocations of their own.
        ("SADD", |i| format!("m{i}{}", "x".repeat(1100))),
        ("HSET", |i| format!("f{i} {}", "v".repeat(1100))),
        ("ZADD", |i| format!("{i} m{i}{}", "x".repeat(1100))),
    ];
    for removal in [
        "DEL k",
        "UNLINK k",
        "SET k v",
        "RENAME other k",
        "COPY other k REPLACE",
        "FLUSHALL",
        "EXPIRE k 0",
    ] {
        for (command, element) in fill {
            let mut node = Node::new(false, 1);
            let elements: Vec<String> = (0..3000).map(element).collect();
            node.run(&format!("{command} k {}", elements.join(" ")));
            node.run("SET other v");
            node.run(removal);
            let mut steps = 0;
            while node.engine.free_step(100) {
                steps += 1;
            }
            assert!(
                (15..60).contains(&steps),
                "{removal} after {command}: {steps} steps"
            );
        }
    }
}

#[test]
fn draws_do_not_fill_the_memory() {
    let mut node = Node::new(false, 1);
    node.engine.config_mut().reply_bytes_max = 10_000;
    node.script(
        "HSET h f v => 1\nSADD s m => 1\nZADD z 1 m => 1\n\
         HRANDFIELD h -100000000 => (error) ERR reply exceeds the output buffer limit\n\
         SRANDMEMBER s -100000000 => (error) ERR reply exceeds the output buffer limit\n\
         ZRANDMEMBER z -100000000 => (error) ERR reply exceeds the output buffer limit\n\
         SRANDMEMBER s -2 => [\"m\" \"m\"]",
    );
}

/// What is fetched ahead may be of any kind, absent, or in no database: nothing changes. (Run it with `cargo +nightly asan`.)
#[test]
fn fetching_keys_ahead_changes_nothing() {
    for cluster in [false, true] {
        let mut node = Node::new(cluster, 5);
        let long = "x".repeat(5000);
        for n in 0..400 {
            for line in [
                format!("SET str{n} value EX 100"),
                format!("SET int{n} {n}"),
                format!("SET long{n} {long}"),
                format!("SET {long}{n} {n}"),
                format!("RPUSH list{n} a b c"),
                format!("SADD ints{n} 1 2 3"),
                format!("SADD set{n} a b c"),
                format!("ZADD zset{n} 1 a 2 b"),
                format!("HSET hash{n} f v"),
                format!("XADD stream{n} 1-1 f v"),
            ] {
                node.run(&line);
            }
        }
        let before = node.engine.digest();
        for n in 0..500 {
            let names = [
                "str", "int", "long", &long, "list", "ints", "set", "zset", "hash", "stream",
            ];
            let keys: Vec<String> = names.iter().map(|name| format!("{name}{n}")).collect();
            let keys: Vec<&[u8]> = keys.iter().map(|key| key.as_bytes()).collect();
            for db in [0, 900] {
                let mut fetched = node.engine.prefetch_keys(db, keys.iter().copied());
                node.engine.prefetch_entries(&mut fetched);
                node.engine.prefetch_values(&fetched);
            }
        }
        assert_eq!(node.engine.digest(), before);

        // What has changed between the steps does no harm, even if nothing is left.
        let names: Vec<String> = (0..64).map(|n| format!("list{n}")).collect();
        let mut fetched = node
            .engine
            .prefetch_keys(0, names.iter().map(|n| n.as_bytes()));
        let mut others = node
            .engine
            .prefetch_keys(0, names.iter().map(|n| n.as_bytes()));
        node.run(&format!("DEL {}", names.join(" ")));
        node.engine.prefetch_entries(&mut fetched);
        node.engine.prefetch_entries(&mut others);
        node.engine.prefetch_values(&others);
        node.run("FLUSHALL SYNC");
        node.engine.prefetch_values(&fetched);
    }
}
