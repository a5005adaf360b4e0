//! Any words to any command: no panic, one whole reply, and a copy that applies the effects stays equal.

mod common;

use common::Node;
use holdfast_engine::{ApplyState, Command, Engine, Rng};
use holdfast_resp::{Proto, reply};

const WORDS: &[&str] = &[
    "{t}a",
    "{t}b",
    "{t}c",
    "{t}d",
    "{t}e",
    "{t}a",
    "{t}b",
    "{t}c",
    "0",
    "1",
    "2",
    "3",
    "-1",
    "-2",
    "10",
    "5.5",
    "-0.25",
    "1e3",
    "inf",
    "-inf",
    "nan",
    "+inf",
    "9223372036854775807",
    "-9223372036854775808",
    "9223372036854775808",
    "18446744073709551615",
    "1000000",
    "",
    " ",
    "x",
    "abc",
    "(1",
    "[a",
    "[",
    "(",
    "+",
    "-",
    "*",
    "?",
    "[a-",
    "\\",
    "NX",
    "XX",
    "GT",
    "LT",
    "CH",
    "INCR",
    "GET",
    "EX",
    "PX",
    "EXAT",
    "PXAT",
    "KEEPTTL",
    "PERSIST",
    "IFEQ",
    "COUNT",
    "MATCH",
    "TYPE",
    "NOVALUES",
    "NOSCORES",
    "WITHSCORES",
    "WITHSCORE",
    "WITHVALUES",
    "LIMIT",
    "BYSCORE",
    "BYLEX",
    "REV",
    "WEIGHTS",
    "AGGREGATE",
    "SUM",
    "MIN",
    "MAX",
    "LEFT",
    "RIGHT",
    "BEFORE",
    "AFTER",
    "RANK",
    "MAXLEN",
    "REPLACE",
    "ABSTTL",
    "DB",
    "IDLETIME",
    "FREQ",
    "ASYNC",
    "SYNC",
    "LEN",
    "IDX",
    "MINMATCHLEN",
    "WITHMATCHLEN",
    "ENCODING",
    "string",
    "hash",
    "FIELDS",
    "m",
    "f",
    "Sdump",
    "1000001000",
    "50",
];

/// Words beyond text: any bytes.
fn word(rng: &mut Rng) -> Vec<u8> {
    match rng.below(40) {
        0 => (0..rng.below(40)).map(|_| rng.below(256) as u8).collect(),
        1 => vec![b'y'; rng.index(300)],
        _ => WORDS[rng.index(WORDS.len())].as_bytes().to_vec(),
    }
}

fn argv(rng: &mut Rng, command: &Command) -> Vec<Vec<u8>> {
    let mut argv = vec![command.spec.name.as_bytes().to_vec()];
    let least = usize::from(command.spec.arity.unsigned_abs()).saturating_sub(1);
    // Keys first, as most commands have them, so that many calls get past the checks.
    let count = if command.spec.arity > 0 {
        least
    } else {
        least + rng.index(7)
    };
    let count = if rng.below(50) == 0 {
        rng.index(6)
    } else {
        count
    };
    for i in 0..count {
        if i == 0 && rng.below(4) > 0 {
            argv.push(WORDS[rng.index(8)].as_bytes().to_vec());
        } else {
            argv.push(word(rng));
        }
    }
    argv
}

#[test]
fn no_words_make_a_command_panic() {
    for seed in 0..6 {
        let mut rng = Rng::new(seed);
        let mut node = Node::new(seed % 2 == 0, seed);
        // What a client could really make the node allocate is bounded here, not by the machine.
        node.engine.config_mut().bulk_bytes_max = 1 << 20;
        node.engine.config_mut().reply_bytes_max = 1 << 20;
        let mut copy = Node::new(false, seed + 50);
        let commands = Engine::commands();
        for step in 0..25_000 {
            let command = commands[rng.index(commands.len())];
            if matches!(command.spec.name, "flushall" | "flushdb") && rng.below(20) > 0 {
                continue;
            }
            let words = argv(&mut rng, command);
            let argv: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
            node.proto = if rng.below(2) == 0 {
                Proto::Resp2
            } else {
                Proto::Resp3
            };
            if rng.below(30) == 0 {
                node.now_ms += rng.below(1000);
            }
            let line = || {
                words
                    .iter()
                    .map(|w| w.escape_ascii().to_string())
                    .collect::<Vec<_>>()
                    .join(" ")
            };
            let raw = node.raw(&argv);
            if !raw.is_empty() {
                match reply::parse(&raw) {
                    Ok(Some((_, used))) => {
                        assert_eq!(used, raw.len(), "more than one reply to {}", line())
                    }
                    other => panic!("{other:?} in reply to {}: {}", line(), raw.escape_ascii()),
                }
            }
            let effects = node.fx.take_bytes();
            let now_ms = copy.now_ms;
            if let Err(error) = copy.engine.apply(&effects, &mut copy.apply, now_ms) {
                panic!(
                    "seed {seed} step {step}: {error} after {}: {}",
                    line(),
                    effects.escape_ascii()
                );
            }
            if step % 500 == 0 {
                assert_eq!(
                    node.engine.digest(),
                    copy.engine.digest(),
                    "seed {seed} step {step}"
                );
            }
        }
        assert_eq!(node.engine.digest(), copy.engine.digest(), "seed {seed}");
    }
}

#[test]
fn no_bytes_make_apply_panic() {
    let mut rng = Rng::new(9);
    let mut node = Node::new(false, 1);
    for _ in 0..20_000 {
        let mut bytes = Vec::new();
        for _ in 0..rng.below(4) {
            let words: Vec<Vec<u8>> = (0..rng.below(5)).map(|_| word(&mut rng)).collect();
            holdfast_resp::write::command(&mut bytes, &words);
        }
        if !bytes.is_empty() && rng.below(3) == 0 {
            bytes.truncate(rng.index(bytes.len()));
        }
        if !bytes.is_empty() && rng.below(3) == 0 {
            let at = rng.index(bytes.len());
            bytes[at] = rng.below(256) as u8;
        }
        let _ = node.engine.apply(&bytes, &mut ApplyState::default(), 1);
    }
}
