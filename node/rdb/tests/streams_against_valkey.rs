//! Streams beside a real `valkey-server`: random commands must give the same replies, the same effects (as a replica of it hears
//! them) and the same `DUMP` payloads, and each must read the other's.
//!
//! Skipped, with a message, where there is no `valkey-server`.

mod common;

use std::time::{SystemTime, UNIX_EPOCH};

use common::valkey::{Link, Valkey};
use holdfast_engine::types::TypeLimits;
use holdfast_engine::{ApplyState, Call, Effects, Engine, EngineConfig, Mode, Outcome, Rng};
use holdfast_rdb::DumpCodec;
use holdfast_resp::Proto;
use holdfast_resp::reply::{self, Reply};

const NODE_BYTES: usize = 300;
const NODE_ENTRIES: usize = 7;

/// A server, and a replica of it.
struct Watched {
    valkey: Valkey,
    replica: Link,
}

impl Watched {
    fn start() -> Option<Self> {
        let dir = tempfile::tempdir().expect("a directory");
        let valkey = Valkey::start(&[
            ("rdbcompression", "no"),
            ("repl-diskless-sync", "no"),
            ("stream-node-max-bytes", &NODE_BYTES.to_string()),
            ("stream-node-max-entries", &NODE_ENTRIES.to_string()),
            ("dir", &dir.path().to_string_lossy()),
        ])?;
        let mut replica = valkey.connect();
        replica.follow();
        Some(Watched { valkey, replica })
    }

    /// Executes, where nothing blocks, and gives the reply and the effects.
    fn call(&mut self, argv: &[Vec<u8>]) -> (Reply, Vec<String>) {
        let reply = self.valkey.call(argv);
        self.valkey.call(&["PUBLISH", "marker", "1"]);
        let mut effects = Vec::new();
        loop {
            let line = shown(&self.replica.read());
            match line.split(' ').next() {
                Some("PUBLISH") => return (reply, effects),
                Some("SELECT" | "PING" | "ping") => {}
                _ => effects.push(line),
            }
        }
    }
}

fn argv_of(line: &str) -> Vec<Vec<u8>> {
    line.split(' ').map(|w| w.as_bytes().to_vec()).collect()
}

/// An effect as a line, without times.
fn shown(effect: &Reply) -> String {
    let Reply::Array(items) = effect else {
        panic!("an effect is an array: {effect:?}")
    };
    let mut words: Vec<String> = items
        .iter()
        .map(|i| String::from_utf8_lossy(i.as_bytes().unwrap()).into_owned())
        .collect();
    if let Some(at) = words.iter().position(|w| w == "TIME") {
        words[at + 1] = "now".into();
    }
    words[0].make_ascii_uppercase();
    words.join(" ")
}

struct Ours {
    engine: Engine,
    copy: Engine,
    state: ApplyState,
    fx: Effects,
    rng: Rng,
    proto: Proto,
}

fn limits() -> TypeLimits {
    TypeLimits {
        stream_node_bytes: NODE_BYTES,
        stream_node_entries: NODE_ENTRIES,
        ..TypeLimits::default()
    }
}

impl Ours {
    fn new() -> Self {
        let engine = || {
            let config = EngineConfig {
                limits: limits(),
                ..EngineConfig::default()
            };
            Engine::new(config, Box::new(DumpCodec::default()))
        };
        let mut fx = Effects::new();
        fx.set_enabled(true);
        Ours {
            engine: engine(),
            copy: engine(),
            state: ApplyState::default(),
            fx,
            rng: Rng::new(42),
            proto: Proto::Resp2,
        }
    }

    fn call(&mut self, argv: &[Vec<u8>]) -> (Reply, Vec<String>) {
        let args: Vec<&[u8]> = argv.iter().map(|a| &a[..]).collect();
        let mut reply = Vec::new();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let now_ms = now.as_millis() as u64;
        let outcome = self.engine.execute(
            Engine::command(args[0]).unwrap(),
            &mut Call {
                argv: &args,
                db: 0,
                slot: None,
                proto: self.proto,
                now_ms,
                mode: Mode::Primary,
                may_block: false,
                rng: &mut self.rng,
                reply: &mut reply,
                blobs: None,
                fx: &mut self.fx,
            },
        );
        assert!(!matches!(outcome, Outcome::Block(_)));
        let bytes = self.fx.take_bytes();
        // By another clock, which must not matter.
        self.copy
            .apply(&bytes, &mut self.state, now_ms - 5000)
            .unwrap();
        let mut effects = Vec::new();
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let (effect, n) = reply::parse(rest).unwrap().unwrap();
            effects.push(shown(&effect));
            rest = &rest[n..];
        }
        effects.retain(|line| !line.starts_with("SELECT"));
        let (parsed, n) = reply::parse(&reply).unwrap().expect("a whole reply");
        assert_eq!(n, reply.len(), "one reply to {argv:?}");
        (parsed, effects)
    }
}

/// Replies without what depends on the moment.
fn timeless(command: &str, reply: &mut Reply) {
    let mask = |item: &mut Reply| {
        if matches!(item, Reply::Int(n) if *n > 0) {
            *item = Reply::Int(1);
        }
    };
    fn named(reply: &mut Reply, mask: &dyn Fn(&mut Reply)) {
        const TIMES: [&[u8]; 4] = [b"idle", b"inactive", b"seen-time", b"active-time"];
        let (mut is_time, mut is_pending) = (false, false);
        if let Reply::Array(items) = reply {
            for item in items {
                if is_time {
                    *item = match item {
                        Reply::Int(-1) => Reply::Int(-1),
                        _ => Reply::Int(0),
                    };
                }
                if let (true, Reply::Array(all)) = (is_pending, &mut *item) {
                    for one in all {
                        if let Reply::Array(parts) = one {
                            let at = parts.len() - 2;
                            mask(&mut parts[at]);
                        }
                    }
                }
                named(item, mask);
                let name = item.as_bytes().unwrap_or_default();
                is_time = TIMES.contains(&name);
                is_pending = name == b"pending";
            }
        } else if let Reply::Map(pairs) = reply {
            let mut flat: Vec<Reply> = pairs.drain(..).flat_map(|(k, v)| [k, v]).collect();
            let mut array = Reply::Array(std::mem::take(&mut flat));
            named(&mut array, mask);
            *reply = array;
        }
    }
    match command {
        "XINFO" => named(reply, &mask),
        "XPENDING" => {
            if let Reply::Array(items) = reply {
                for item in items {
                    if let Reply::Array(parts) = item
                        && parts.len() == 4
                    {
                        parts[2] = Reply::Int(0);
                    }
                }
            }
        }
        _ => {}
    }
}

struct Draw(Rng);

impl Draw {
    fn pick(&mut self, all: &[&str]) -> String {
        all[self.0.index(all.len())].to_string()
    }

    fn id(&mut self, top: u64) -> String {
        match self.0.index(30) {
            0 => "x".into(),
            1 => "-".into(),
            2 => "+".into(),
            3 => "0".into(),
            4 => format!("{}-0", u64::MAX),
            5..12 => format!("{}", self.0.below(top + 3)),
            _ => format!("{}-{}", self.0.below(top + 3), self.0.below(3)),
        }
    }

    fn new_id(&mut self, top: &mut u64) -> String {
        match self.0.index(12) {
            0 => self.id(*top),
            1 => format!("{}-*", *top),
            2 => format!("{}-*", self.0.below(*top + 2)),
            3 => format!("{}-{}", *top, self.0.below(4)),
            _ => {
                *top += self.0.below(3);
                format!("{}-{}", *top, self.0.below(3))
            }
        }
    }

    fn trim(&mut self, top: u64) -> String {
        let operator = self.pick(&["", "= ", "~ ", "~ "]);
        let limit = self.pick(&["", "", " LIMIT 0", " LIMIT 10", " LIMIT 3"]);
        match self.0.index(2) {
            0 => format!("MAXLEN {operator}{}{limit}", self.0.below(40)),
            _ => format!("MINID {operator}{}{limit}", self.id(top)),
        }
    }

    fn line(&mut self, top: &mut u64) -> String {
        let key = self.pick(&["s1", "s1", "s1", "s2", "s2", "s3", "plain", "none"]);
        let group = self.pick(&["g1", "g1", "g1", "g2", "g3"]);
        let consumer = self.pick(&["alice", "bob", "carol"]);
        let count = self.pick(&["1", "2", "5", "100", "0", "-3", "x"]);
        let bound = |draw: &mut Draw, top: u64| {
            let open = if draw.0.index(6) == 0 { "(" } else { "" };
            format!("{open}{}", draw.id(top))
        };
        let at = *top;
        match self.0.index(52) {
            0..14 => {
                let options = match self.0.index(8) {
                    0 => format!("{} ", self.trim(at)),
                    1 => "NOMKSTREAM ".into(),
                    _ => String::new(),
                };
                let fields = self.pick(&["f 1", "f 22", "f abc g 12", "g x f y", "f", "12 007"]);
                let value = self.pick(&[
                    "",
                    "",
                    "",
                    " h aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
                ]);
                format!("XADD {key} {options}{} {fields}{value}", self.new_id(top))
            }
            14..17 => format!("XDEL {key} {} {} {}", self.id(at), self.id(at), self.id(at)),
            17 => format!("XTRIM {key} {}", self.trim(at)),
            18..21 => {
                let (a, b) = (bound(self, at), bound(self, at));
                let command = self.pick(&["XRANGE", "XREVRANGE"]);
                let tail = self.pick(&["", "", " COUNT 3", " COUNT 0", " COUNT -1", " COUNT"]);
                format!("{command} {key} {a} {b}{tail}")
            }
            21 => format!("XRANGE {key} - +"),
            22 => format!("XREVRANGE {key} + -"),
            23 => format!("XLEN {key}"),
            24 => format!(
                "XSETID {key} {} {}",
                self.id(at + 3),
                self.pick(&["ENTRIESADDED 1000", "MAXDELETEDID 3-0", "ENTRIESADDED -1"])
            ),
            25 | 26 => {
                let other = self.pick(&["s1", "s2", "none"]);
                let ids = self.pick(&["0 0", "$ $", "+ +", "5-1 +", "0"]);
                format!("XREAD COUNT {count} STREAMS {key} {other} {ids}")
            }
            27..34 => {
                let no_ack = self.pick(&["", "", "", "NOACK "]);
                let id = self.pick(&[">", ">", ">", ">", "0", "3-1", "$"]);
                format!(
                    "XREADGROUP GROUP {group} {consumer} COUNT {count} {no_ack}STREAMS {key} {id}"
                )
            }
            34 => format!(
                "XREADGROUP GROUP g1 {consumer} COUNT 3 STREAMS s1 s2 > {}",
                self.pick(&[">", "0"])
            ),
            35..38 => {
                let tail = self.pick(&[
                    "",
                    " MKSTREAM",
                    " ENTRIESREAD 3",
                    " MKSTREAM ENTRIESREAD -2",
                    " X",
                ]);
                let id = if self.0.index(3) == 0 {
                    "$".into()
                } else {
                    self.id(at)
                };
                format!("XGROUP CREATE {key} {group} {id}{tail}")
            }
            38 => {
                let id = if self.0.index(3) == 0 {
                    "$".into()
                } else {
                    self.id(at)
                };
                let tail = self.pick(&["", " ENTRIESREAD 3", " MKSTREAM"]);
                format!("XGROUP SETID {key} {group} {id}{tail}")
            }
            39 => match self.0.index(4) {
                0 => format!("XGROUP DESTROY {key} {group}"),
                1 => format!("XGROUP DELCONSUMER {key} {group} {consumer}"),
                _ => format!("XGROUP CREATECONSUMER {key} {group} {consumer}"),
            },
            40..43 => format!(
                "XACK {key} {group} {} {} {}",
                self.id(at),
                self.id(at),
                self.id(at)
            ),
            43 => format!("XPENDING {key} {group}"),
            44 => {
                let idle = self.pick(&["", "", "IDLE 100000000 "]);
                let whom = self.pick(&["", " alice", " nobody"]);
                let (a, b) = (bound(self, at), bound(self, at));
                format!("XPENDING {key} {group} {idle}{a} {b} {count}{whom}")
            }
            45 => format!("XPENDING {key} {group} - + 100"),
            46 | 47 => {
                let idle = self.pick(&["0", "0", "100000000", "x"]);
                let tail = self.pick(&[
                    "",
                    "",
                    " JUSTID",
                    " FORCE",
                    " FORCE JUSTID",
                    " RETRYCOUNT 7",
                    " LASTID 9-9",
                    " TIME 5",
                    " Y",
                ]);
                let (a, b) = (self.id(at), self.id(at));
                format!("XCLAIM {key} {group} {consumer} {idle} {a} {b}{tail}")
            }
            48 => {
                let idle = self.pick(&["0", "0", "100000000"]);
                let tail = self.pick(&["", " COUNT 2", " COUNT 1 JUSTID", " COUNT 0"]);
                format!(
                    "XAUTOCLAIM {key} {group} {consumer} {idle} {}{tail}",
                    bound(self, at)
                )
            }
            49 => {
                let tail = self.pick(&["", " FULL", " FULL COUNT 0", " FULL COUNT 2", " HALF"]);
                format!("XINFO STREAM {key}{tail}")
            }
            50 => format!("XINFO GROUPS {key}"),
            _ => match self.0.index(6) {
                0 => format!("COPY {key} s3 REPLACE"),
                1 => "DEL s3".into(),
                2 => format!("OBJECT ENCODING {key}"),
                _ => format!("XINFO CONSUMERS {key} {group}"),
            },
        }
    }
}

/// What only a radix tree has.
fn without_tree(reply: &mut Reply) {
    if let Reply::Array(items) = reply
        && let Some(at) = items
            .iter()
            .position(|i| i.as_bytes() == Some(b"radix-tree-nodes"))
    {
        items.drain(at..at + 2);
    }
}

#[test]
fn replies_effects_and_payloads_are_valkeys() {
    let Some(mut valkey) = Watched::start() else {
        return;
    };
    if !valkey.valkey.is_at_least(9, 1) {
        eprintln!("SKIPPED: this valkey-server is older than 9.1, and counts otherwise");
        return;
    }
    for seed in 0..12 {
        let mut ours = Ours::new();
        valkey.call(&argv_of("FLUSHALL"));
        let proto = if seed % 3 == 2 { "3" } else { "2" };
        valkey.call(&[b"HELLO".to_vec(), proto.into()]);
        ours.proto = if proto == "3" {
            Proto::Resp3
        } else {
            Proto::Resp2
        };
        let mut draw = Draw(Rng::new(seed));
        let mut top = 0;
        for setup in ["SET plain text", "XGROUP CREATE s1 g1 0 MKSTREAM"] {
            ours.call(&argv_of(setup));
            valkey.call(&argv_of(setup));
        }
        for step in 0..1500 {
            let line = draw.line(&mut top);
            let argv = argv_of(&line);
            let (mut own, own_effects) = ours.call(&argv);
            let (mut theirs, their_effects) = valkey.call(&argv);
            let command = line.split(' ').next().unwrap();
            for reply in [&mut own, &mut theirs] {
                timeless(command, reply);
                without_tree(reply);
            }
            assert_eq!(own, theirs, "seed {seed}, step {step}: {line}");
            assert_eq!(
                own_effects, their_effects,
                "seed {seed}, step {step}: {line}"
            );
            if step % 50 == 49 {
                payloads(&mut ours, &mut valkey, &format!("seed {seed}, step {step}"));
            }
        }
        assert_eq!(ours.engine.digest(), ours.copy.digest());
    }
}

/// Streams without groups have equal payloads; those with groups are read by each other.
fn payloads(ours: &mut Ours, valkey: &mut Watched, place: &str) {
    for key in ["s1", "s2", "s3"] {
        let dump = argv_of(&format!("DUMP {key}"));
        let (own, theirs) = (ours.call(&dump).0, valkey.call(&dump).0);
        let (Some(own), Some(theirs)) = (own.as_bytes(), theirs.as_bytes()) else {
            assert_eq!(own, theirs, "{place}: {key}");
            continue;
        };
        // Up to the version and checksum; times differ by milliseconds.
        let groups = ours.call(&argv_of(&format!("XINFO GROUPS {key}"))).0;
        if groups == Reply::Array(Vec::new()) {
            assert_eq!(
                own[..own.len() - 10],
                theirs[..theirs.len() - 10],
                "{place}: {key}"
            );
        }
        let restore = |payload: &[u8]| {
            let mut argv = argv_of("RESTORE copy 0");
            argv.push(payload.to_vec());
            argv.push(b"REPLACE".to_vec());
            argv
        };
        assert_eq!(
            ours.call(&restore(theirs)).0,
            Reply::Simple("OK".into()),
            "{place}: {key}"
        );
        assert_eq!(
            valkey.call(&restore(own)).0,
            Reply::Simple("OK".into()),
            "{place}: {key}"
        );
        let full = argv_of("XINFO STREAM copy FULL COUNT 0");
        let (mut own, mut theirs) = (ours.call(&full).0, valkey.call(&full).0);
        for reply in [&mut own, &mut theirs] {
            timeless("XINFO", reply);
            without_tree(reply);
        }
        assert_eq!(own, theirs, "{place}: {key}");
    }
}
