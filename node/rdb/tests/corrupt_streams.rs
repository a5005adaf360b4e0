//! Streams whose payloads have been damaged: an error with a reason, or a stream that all commands can work on. Never a panic, never
//! memory out of proportion.

use holdfast_engine::{BadPayload, Call, Effects, Engine, EngineConfig, Mode, Rng};
use holdfast_rdb::{DumpCodec, crc64};
use holdfast_resp::Proto;

struct Node {
    engine: Engine,
    fx: Effects,
    rng: Rng,
}

impl Node {
    fn new() -> Self {
        let mut fx = Effects::new();
        fx.set_enabled(true);
        Node {
            engine: Engine::new(EngineConfig::default(), Box::new(DumpCodec::default())),
            fx,
            rng: Rng::new(1),
        }
    }

    fn call(&mut self, argv: &[&[u8]]) -> Vec<u8> {
        let mut reply = Vec::new();
        let command = Engine::command(argv[0]).unwrap();
        self.engine.execute(
            command,
            &mut Call {
                argv,
                db: 0,
                slot: None,
                proto: Proto::Resp3,
                now_ms: 1_000_000,
                mode: Mode::Primary,
                may_block: true,
                rng: &mut self.rng,
                reply: &mut reply,
                blobs: None,
                fx: &mut self.fx,
            },
        );
        self.fx.clear_turn();
        reply
    }

    fn run(&mut self, line: &str) -> Vec<u8> {
        let argv: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        self.call(&argv)
    }

    /// Puts a payload in the place of `s`. Whether it was accepted.
    fn restore(&mut self, payload: &[u8]) -> bool {
        self.call(&[b"RESTORE", b"s", b"0", payload, b"REPLACE"]) == b"+OK\r\n"
    }
}

/// A stream with several nodes, deleted entries, and groups with pending entries.
fn sample(rng: &mut Rng) -> Vec<u8> {
    let mut node = Node::new();
    node.engine.config_mut().limits.stream_node_entries = 6;
    node.run("XGROUP CREATE s g 0 MKSTREAM");
    node.run("XGROUP CREATE s h 0 ENTRIESREAD 3");
    for n in 1..30 {
        let fields = ["f 1", "f 2 g abc", "h 123456789", "f -5000"];
        node.run(&format!("XADD s {n}-{} {}", n % 3, fields[rng.index(4)]));
    }
    for (group, consumer) in [("g", "alice"), ("g", "bob"), ("h", "carol")] {
        node.run(&format!(
            "XREADGROUP GROUP {group} {consumer} COUNT 4 STREAMS s >"
        ));
    }
    for id in ["3-0", "4-1", "18-0"] {
        node.run(&format!("XDEL s {id}"));
    }
    let reply = node.run("DUMP s");
    let start = reply.iter().position(|b| *b == b'\n').unwrap() + 1;
    reply[start..reply.len() - 2].to_vec()
}

/// Makes version and checksum right again.
fn sealed(body: &[u8]) -> Vec<u8> {
    let mut payload = body.to_vec();
    payload.extend_from_slice(&11u16.to_le_bytes());
    let sum = crc64(&payload);
    payload.extend_from_slice(&sum.to_le_bytes());
    payload
}

/// Every command on whatever `s` is now.
fn use_it(node: &mut Node, rng: &mut Rng) {
    let id = format!("{}-{}", rng.below(32), rng.below(3));
    for line in [
        "XINFO STREAM s FULL COUNT 0".to_string(),
        "XINFO STREAM s".into(),
        "XINFO GROUPS s".into(),
        "XRANGE s - +".into(),
        "XREVRANGE s + -".into(),
        format!("XRANGE s {id} + COUNT 3"),
        format!("XREVRANGE s {id} - COUNT 3"),
        "XREADGROUP GROUP g dora COUNT 3 STREAMS s >".into(),
        "XREADGROUP GROUP g alice STREAMS s 0".into(),
        "XPENDING s g".into(),
        "XPENDING s g - + 10".into(),
        format!("XCLAIM s g erin 0 {id} 5-2 FORCE"),
        "XAUTOCLAIM s g bob 0 0 COUNT 5".into(),
        format!("XACK s g {id} 1-1"),
        format!("XDEL s {id}"),
        "XADD s * f 1".into(),
        "XADD s 7-* f 1".into(),
        "XSETID s 900-0".into(),
        "XADD s MAXLEN ~ 20 * f 1 g 2".into(),
        "COPY s t REPLACE".into(),
        "XTRIM s MAXLEN 9".into(),
        "XTRIM s MINID 25".into(),
        "XGROUP DELCONSUMER s g alice".into(),
        "XGROUP DESTROY s h".into(),
        "XREAD STREAMS s 3-0".into(),
    ] {
        node.run(&line);
    }
    // What is left is a stream again.
    let dump = node.run("DUMP s");
    if dump.starts_with(b"$") && !dump.starts_with(b"$-1") {
        let start = dump.iter().position(|b| *b == b'\n').unwrap() + 1;
        let again = dump[start..dump.len() - 2].to_vec();
        assert!(node.restore(&again), "what was read cannot be written");
    }
    node.run("DEL s t");
    while node.engine.free_step(10) {}
}

#[test]
fn damaged_payloads_are_errors_or_streams() {
    let mut rng = Rng::new(2);
    let (mut refused, mut accepted) = (0, 0);
    for round in 0..30 {
        let whole = sample(&mut rng);
        let body = &whole[..whole.len() - 10];
        let mut node = Node::new();
        assert!(node.restore(&whole));
        use_it(&mut node, &mut rng);
        for _ in 0..100 {
            let mut bad = body.to_vec();
            for _ in 0..1 + rng.index(3) {
                let at = 1 + rng.index(bad.len() - 1);
                match rng.index(5) {
                    0 => bad[at] = rng.next_u64() as u8,
                    1 => bad[at] ^= 1 << rng.index(8),
                    2 => bad[at] = [0, 1, 0x7f, 0x80, 0x81, 0xff, 0xf4, 0xc3][rng.index(8)],
                    3 => drop(bad.remove(at)),
                    _ => {
                        let from = 1 + rng.index(bad.len() - 1);
                        let len = rng.index(20).min(bad.len() - from.max(at));
                        bad.copy_within(from..from + len, at);
                    }
                }
            }
            match node.restore(&sealed(&bad)) {
                true => {
                    accepted += 1;
                    use_it(&mut node, &mut rng);
                }
                false => refused += 1,
            }
        }
        // Cut off anywhere it is an error.
        for _ in 0..20 {
            let len = 1 + rng.index(body.len() - 1);
            assert!(!node.restore(&sealed(&body[..len])), "round {round}, {len}");
        }
    }
    assert!(refused > 1000 && accepted > 150, "{refused} {accepted}");
}

/// What is wrong is said, for each check that is there.
#[test]
fn errors_have_reasons() {
    let mut rng = Rng::new(3);
    let whole = sample(&mut rng);
    let body = &whole[..whole.len() - 10];
    let reason = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bad = body.to_vec();
        change(&mut bad);
        match DumpCodec::default().decode(&sealed(&bad)) {
            Err(BadPayload::Malformed(reason)) => reason,
            other => panic!("{other:?}"),
        }
    };
    let check = |want: &str, change: &dyn Fn(&mut Vec<u8>)| {
        let reason = reason(change);
        assert!(reason.contains(want), "{reason} / {want}");
    };
    // | type | nodes | 16 | id | length, of two bytes | listpack: 6 bytes, live, deleted, fields …
    let lp = 1 + 1 + 1 + 16 + 2;
    check("size of an id", &|b| b[2] = 15);
    check("listpack", &|b| b[lp] ^= 1);
    check("counts of entries", &|b| b[lp + 6] += 1);
    check("counts", &|b| b[lp + 8] = 0x80);
    check("impossible number of fields", &|b| b[lp + 10] = 0x7e);
    check("out of order", &|b| b[1 + 1 + 1 + 7] = 9);
    check("size of an id", &|b| b[1] = 0x3f);
    // Numbers of things that are not there take neither time nor memory.
    check("short", &|b| {
        b.truncate(1);
        b.extend_from_slice(&[0x81, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
    });
    let empty = [19u8, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let with = |tail: &[u8]| sealed(&[&empty[..], tail].concat());
    let decode = |payload: Vec<u8>| match DumpCodec::default().decode(&payload) {
        Err(BadPayload::Malformed(reason)) => reason,
        other => panic!("{other:?}"),
    };
    assert!(DumpCodec::default().decode(&with(&[0])).is_ok());
    let huge = [0x81, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
    assert!(decode(with(&huge)).contains("short"));
    let group = [&[1u8, 1, b'g', 0, 0, 0][..], &huge].concat();
    assert!(decode(with(&group)).contains("short"));
    let nobody = [&[1u8, 1, b'g', 0, 0, 0, 1][..], &[0; 16], &[0; 8], &[1, 0]].concat();
    assert!(decode(with(&nobody)).contains("pending for nobody"));
    let foreign = [
        &[1u8, 1, b'g', 0, 0, 0, 0, 1, 1, b'c'][..],
        &[0; 8],
        &[1],
        &[0; 16],
    ]
    .concat();
    assert!(decode(with(&foreign)).contains("does not have"));
}
