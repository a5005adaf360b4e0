//! A small client for engines in tests: commands as text, replies as values.
#![allow(dead_code)]

pub mod valkey;

use std::collections::VecDeque;

use holdfast_engine::{
    ApplyState, BadPayload, Blobs, Call, Effects, Engine, EngineConfig, Mode, Outcome, Rng, Value,
    ValueCodec, ValueRef,
};
use holdfast_resp::reply::{self, Reply};
use holdfast_resp::{Proto, write};

/// Knows strings only; what is dumped can be loaded again.
pub struct StringCodec;

impl ValueCodec for StringCodec {
    fn dump(&self, value: ValueRef<'_>) -> Vec<u8> {
        match value {
            ValueRef::Str(s) => [b"S", &*s.text()].concat(),
            _ => b"?".to_vec(),
        }
    }

    fn load(&self, payload: &[u8]) -> Result<Value, BadPayload> {
        match payload.strip_prefix(b"S") {
            Some(text) => Ok(Value::Str(holdfast_engine::StrValue::new(text))),
            None => Err(BadPayload::VersionOrChecksum),
        }
    }
}

/// An engine with everything that a call needs.
pub struct Node {
    pub engine: Engine,
    pub rng: Rng,
    pub fx: Effects,
    pub now_ms: u64,
    pub db: u16,
    pub proto: Proto,
    pub mode: Mode,
    pub apply: ApplyState,
    /// Replies whose strings were not copied, and what they were when they were given.
    pub sending: VecDeque<Sending>,
}

/// A reply on its way to a slow client.
pub struct Sending {
    buf: Vec<u8>,
    blobs: Blobs,
    bytes: Vec<u8>,
}

/// So many of them are on their way.
const SENDING_MAX: usize = 4;

impl Sending {
    /// Where its first long string is.
    pub fn address(&self) -> Option<*const u8> {
        let mut parts = self.blobs.parts(&self.buf, 0, self.buf.len());
        parts.nth(1).map(<[u8]>::as_ptr)
    }

    fn check(&self) {
        let parts = self.blobs.parts(&self.buf, 0, self.buf.len());
        let now = parts.collect::<Vec<_>>().concat();
        assert!(now == self.bytes, "a reply has changed on its way");
    }
}

impl Node {
    pub fn new(cluster: bool, seed: u64) -> Node {
        let config = EngineConfig {
            cluster,
            hash_seed: [seed, 17],
            shared_bytes_min: 0,
            ..EngineConfig::default()
        };
        let mut fx = Effects::new();
        fx.set_enabled(true);
        fx.set_track_touched(true);
        Node {
            engine: Engine::new(config, Box::new(StringCodec)),
            rng: Rng::new(1),
            fx,
            now_ms: 1_000_000,
            db: 0,
            proto: Proto::Resp2,
            mode: Mode::Primary,
            apply: ApplyState::default(),
            sending: VecDeque::new(),
        }
    }

    /// Executes, and returns the raw reply (empty if the command would block).
    pub fn raw(&mut self, argv: &[&[u8]]) -> Vec<u8> {
        let (mut out, mut blobs) = (Vec::new(), Blobs::default());
        let Some(command) = Engine::command(argv[0]) else {
            write::error(&mut out, b"ERR unknown command");
            return out;
        };
        let outcome = self.engine.execute(
            command,
            &mut Call {
                argv,
                db: self.db,
                slot: None,
                proto: self.proto,
                now_ms: self.now_ms,
                mode: self.mode,
                may_block: true,
                rng: &mut self.rng,
                reply: &mut out,
                blobs: Some(&mut blobs),
                fx: &mut self.fx,
            },
        );
        if matches!(outcome, Outcome::Block(_)) {
            assert!(out.is_empty(), "a blocked command has replied");
        }
        if blobs.is_empty() {
            return out;
        }
        let parts = blobs.parts(&out, 0, out.len());
        let bytes = parts.collect::<Vec<_>>().concat();
        self.sending.push_back(Sending {
            buf: out,
            blobs,
            bytes: bytes.clone(),
        });
        self.sending.iter().for_each(Sending::check);
        if self.sending.len() > SENDING_MAX {
            self.sending.pop_front();
        }
        bytes
    }

    /// Executes words separated by spaces (quotes as in `valkey-cli`) and returns the reply as `valkey-cli` would
    /// print it on one line.
    pub fn run(&mut self, line: &str) -> String {
        let words = words(line);
        let argv: Vec<&[u8]> = words.iter().map(|w| w.as_slice()).collect();
        let raw = self.raw(&argv);
        if raw.is_empty() {
            return "(blocked)".into();
        }
        let (reply, used) = reply::parse(&raw).expect("a reply").expect("a whole reply");
        assert_eq!(
            used,
            raw.len(),
            "one reply: {}",
            String::from_utf8_lossy(&raw)
        );
        show(&reply)
    }

    /// Checks one command a line: `command => reply`.
    pub fn script(&mut self, text: &str) {
        for line in text
            .lines()
            .map(str::trim)
            .filter(|l| !l.is_empty() && !l.starts_with('#'))
        {
            let (command, expect) = line.split_once("=>").expect(line);
            assert_eq!(
                self.run(command.trim()),
                expect.trim(),
                "{}",
                command.trim()
            );
        }
    }

    /// The effects since the last call, one command a line.
    pub fn effects(&mut self) -> Vec<String> {
        let bytes = self.fx.take_bytes();
        let mut rest = &bytes[..];
        let mut out = Vec::new();
        while !rest.is_empty() {
            let (reply, used) = reply::parse(rest).expect("effects").expect("whole effects");
            let Reply::Array(items) = reply else {
                panic!("an effect is an array")
            };
            let words: Vec<_> = items
                .iter()
                .map(|i| String::from_utf8_lossy(i.as_bytes().expect("bulk")).into_owned())
                .collect();
            out.push(words.join(" "));
            rest = &rest[used..];
        }
        out
    }
}

impl valkey::Valkey {
    /// As [`Node::run`].
    pub fn run(&mut self, line: &str) -> String {
        show(&self.call(&words(line)))
    }
}

pub fn words(line: &str) -> Vec<Vec<u8>> {
    let mut parser = holdfast_resp::RequestParser::new();
    let text = format!("{line}\n");
    parser
        .parse(text.as_bytes(), &Default::default())
        .expect(line);
    parser.args(text.as_bytes()).map(<[u8]>::to_vec).collect()
}

pub fn show(reply: &Reply) -> String {
    let list = |items: &[Reply]| items.iter().map(show).collect::<Vec<_>>().join(" ");
    match reply {
        Reply::Simple(s) => String::from_utf8_lossy(s).into_owned(),
        Reply::Error(s) => format!("(error) {}", String::from_utf8_lossy(s)),
        Reply::Int(n) => n.to_string(),
        Reply::Bulk(b) | Reply::BigNumber(b) | Reply::Verbatim(_, b) => {
            format!("\"{}\"", b.escape_ascii())
        }
        Reply::Null => "nil".into(),
        Reply::Array(items) | Reply::Set(items) | Reply::Push(items) => {
            format!("[{}]", list(items))
        }
        Reply::Map(pairs) => {
            let pairs: Vec<_> = pairs
                .iter()
                .map(|(k, v)| format!("{}:{}", show(k), show(v)))
                .collect();
            format!("{{{}}}", pairs.join(" "))
        }
        Reply::Double(d) => format!("{d}"),
        Reply::Bool(b) => b.to_string(),
    }
}
