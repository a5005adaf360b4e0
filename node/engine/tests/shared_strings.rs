//! Strings that are stored and sent without a copy, beside an engine that copies them: replies, effects and keyspace are the same, and nothing changes
//! on its way to a client.

mod common;

use std::sync::Arc;

use common::{Node, Sending};
use holdfast_engine::Rng;

/// Executes a command whose arguments are offered.
fn raw_offered(node: &mut Node, argv: &[Arc<Vec<u8>>]) -> Vec<u8> {
    node.engine.offer(argv.iter().cloned());
    let argv: Vec<&[u8]> = argv.iter().map(|a| &a[..]).collect();
    let reply = node.raw(&argv);
    node.engine.withdraw();
    reply
}

fn word(rng: &mut Rng, words: &[&str]) -> Vec<u8> {
    words[rng.index(words.len())].as_bytes().to_vec()
}

/// A command about one of a few keys with long strings.
fn command(rng: &mut Rng) -> Vec<Vec<u8>> {
    let keys = ["a", "b", "c"];
    let (key, other) = (word(rng, &keys), word(rng, &keys));
    let len = match rng.below(4) {
        0 => rng.index(50),
        1 => 900 + rng.index(300),
        _ => rng.index(100_000),
    };
    let text = vec![b'a' + rng.index(26) as u8; len];
    let number = |n: usize| n.to_string().into_bytes();
    let at = rng.index(120_000);
    let name = |s: &str| s.as_bytes().to_vec();
    match rng.below(26) {
        0..4 => vec![name("GET"), key],
        4 => vec![name("MGET"), key, other],
        5 => vec![name("GETSET"), key, text],
        6 => vec![name("SET"), key, text, name("GET")],
        7 => vec![name("GETDEL"), key],
        8 => vec![name("GETEX"), key, name("EX"), number(100 + at)],
        9 => vec![name("PERSIST"), key],
        10..14 => vec![name("SET"), key, text],
        14 => vec![name("APPEND"), key, text],
        15 => vec![name("SETRANGE"), key, number(at), text],
        16 => vec![name("SETBIT"), key, number(at * 8), name("1")],
        17 => vec![
            name("BITFIELD"),
            key,
            name("INCRBY"),
            name("u8"),
            number(at),
            name("3"),
        ],
        18 => vec![name("BITOP"), name("NOT"), other, key],
        19 => vec![name("RENAME"), key, other],
        20 => vec![name("COPY"), key, other, name("REPLACE")],
        21 => vec![word(rng, &["DEL", "UNLINK"]), key],
        22 => vec![name("PFADD"), key, text],
        23 => vec![name("GETRANGE"), key, number(at), number(at * 2)],
        24 => vec![name("SET"), key, number(at)],
        _ => vec![word(rng, &["STRLEN", "TYPE", "DUMP", "TTL"]), key],
    }
}

#[test]
fn nothing_else_is_different() {
    for seed in 0..20 {
        let mut rng = Rng::new(seed);
        let mut nodes = [Node::new(false, 1), Node::new(false, 1)];
        nodes[1].engine.config_mut().shared_bytes_min = usize::MAX;
        let mut longs = 0;
        for step in 0..600 {
            let argv: Vec<Arc<Vec<u8>>> = command(&mut rng).into_iter().map(Arc::new).collect();
            let mut offers = true;
            let [ours, theirs] = nodes.each_mut().map(|node| {
                node.now_ms += 10;
                let slices: Vec<&[u8]> = argv.iter().map(|a| &a[..]).collect();
                let reply = match std::mem::take(&mut offers) {
                    true => raw_offered(node, &argv),
                    false => node.raw(&slices),
                };
                (reply, node.effects(), node.run("OBJECT ENCODING a"))
            });
            assert!(ours == theirs, "seed {seed}, step {step}: {:?}", argv[0]);
            longs += nodes[0].sending.len();
            assert!(nodes[1].sending.is_empty());
            if step % 50 == 0 {
                assert_eq!(nodes[0].engine.digest(), nodes[1].engine.digest());
            }
        }
        assert!(longs > 600, "seed {seed}: {longs}");
    }
}

/// What is offered is the value, whichever command stores it, and nobody else has it afterwards.
#[test]
fn what_is_offered_is_not_copied() {
    let mut node = Node::new(false, 1);
    let word = |text: &str| Arc::new(text.as_bytes().to_vec());
    let commands: [(&[&str], usize); 9] = [
        (&["SET", "k"], 0),
        (&["SET", "k"], 0),
        (&["SET", "k"], 2),
        (&["SETEX", "k", "100"], 0),
        (&["GETSET", "k"], 0),
        (&["MSET", "other", "1", "k"], 0),
        (&["MSETEX", "1", "k"], 0),
        (&["DEL", "k"], 0),
        (&["SETNX", "k"], 0),
    ];
    for (i, (words, options)) in commands.into_iter().enumerate() {
        let text = Arc::new(vec![b'a' + i as u8; 40_000]);
        let mut argv: Vec<_> = words.iter().map(|w| word(w)).collect();
        argv.push(text.clone());
        argv.extend(["EX", "100"][..options].iter().map(|w| word(w)));
        raw_offered(&mut node, &argv);
        drop(argv);
        if words[0] == "DEL" {
            continue;
        }
        node.sending.clear();
        node.raw(&[b"GET", b"k"]);
        let address = node.sending.back().and_then(Sending::address);
        assert_eq!(address, Some(text.as_ptr()), "{words:?}");
        node.sending.clear();
        assert_eq!(Arc::strong_count(&text), 2, "{words:?}");
        // What is changed is another one.
        if i == 1 {
            node.raw(&[b"APPEND", b"k", b"x"]);
            assert_eq!((text.len(), Arc::strong_count(&text)), (40_000, 1));
        }
    }
    // A part of what is offered is copied, as is what is not offered any more.
    let text = Arc::new(vec![b'x'; 80_000]);
    node.engine.offer([text.clone()].into_iter());
    node.raw(&[b"SET", b"k", &text[..40_000]]);
    node.engine.withdraw();
    node.raw(&[b"SET", b"other", &text]);
    assert_eq!(Arc::strong_count(&text), 1);
}

/// The value goes from the key to the reply.
#[test]
fn what_is_got_and_deleted_is_not_copied() {
    let mut node = Node::new(false, 1);
    let text = vec![b'x'; 100_000];
    node.raw(&[b"SET", b"k", &text]);
    let [got, deleted] = [b"GET".as_slice(), b"GETDEL"].map(|command| {
        let reply = node.raw(&[command, b"k"]);
        assert_eq!(reply.len(), 100_000 + "$100000\r\n\r\n".len());
        node.sending.back().and_then(Sending::address)
    });
    assert!(got.is_some() && got == deleted);
    assert_eq!(node.run("EXISTS k"), "0");
    // An error takes a reply back, with what belongs into it.
    node.raw(&[b"SET", b"k", &text]);
    node.sending.clear();
    node.raw(&[b"LPUSH", b"list", b"x"]);
    assert!(node.run("SET list v GET").contains("WRONGTYPE"));
    assert!(node.run("MGET k list k").contains(" nil "));
    assert_eq!(node.sending.len(), 1);
}
