//! How long parsing and executing GET and SET takes, without any network.
//!
//! `cargo run --release -p holdfast-engine --example hot_path [keys]`

use std::hint::black_box;
use std::time::Instant;

use holdfast_engine::{
    BadPayload, Call, Effects, Engine, EngineConfig, Mode, Rng, Value, ValueCodec, ValueRef,
};
use holdfast_resp::{Limits, Parse, Proto, RequestParser, write};

struct NoCodec;

impl ValueCodec for NoCodec {
    fn dump(&self, _: ValueRef<'_>) -> Vec<u8> {
        Vec::new()
    }

    fn load(&self, _: &[u8]) -> Result<Value, BadPayload> {
        Err(BadPayload::VersionOrChecksum)
    }
}

fn main() {
    let keys: u64 = std::env::args()
        .nth(1)
        .and_then(|n| n.parse().ok())
        .unwrap_or(100_000);
    let commands = 2_000_000u64;
    for (cluster, effects) in [(false, false), (false, true), (true, true)] {
        let mut engine = Engine::new(
            EngineConfig {
                cluster,
                ..EngineConfig::default()
            },
            Box::new(NoCodec),
        );
        let mut fx = Effects::new();
        fx.set_enabled(effects);
        fx.set_track_touched(effects);
        let mut rng = Rng::new(1);
        let mut draw = Rng::new(2);
        println!("cluster {cluster}, effects {effects}, {keys} keys");
        for (name, value) in [
            ("SET", Some(&b"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"[..])),
            ("GET", None),
            ("INCR", None),
        ] {
            // Batches of 16, as a pipelining client sends them.
            let batches: Vec<Vec<u8>> = (0..2000)
                .map(|_| {
                    let mut batch = Vec::new();
                    for _ in 0..16 {
                        let prefix = if name == "INCR" { "cnt" } else { "key" };
                        let key = format!("{prefix}:{:012}", draw.below(keys));
                        match value {
                            Some(value) => write::command(
                                &mut batch,
                                &[name.as_bytes(), key.as_bytes(), value],
                            ),
                            None => write::command(&mut batch, &[name.as_bytes(), key.as_bytes()]),
                        }
                    }
                    batch
                })
                .collect();
            let mut parser = RequestParser::new();
            let limits = Limits::default();
            let mut reply = Vec::with_capacity(64 * 1024);
            let begin = Instant::now();
            let mut done = 0u64;
            'all: loop {
                for batch in &batches {
                    let mut rest = &batch[..];
                    while let Ok(Parse::Command { consumed }) = parser.parse(rest, &limits) {
                        let mut argv: [&[u8]; 4] = [&[]; 4];
                        let argc = parser.argc().min(4);
                        for (i, slot) in argv.iter_mut().enumerate().take(argc) {
                            *slot = parser.arg(rest, i);
                        }
                        if let Some(command) = Engine::command(argv[0]) {
                            engine.execute(
                                command,
                                &mut Call {
                                    argv: &argv[..argc],
                                    db: 0,
                                    slot: None,
                                    proto: Proto::Resp2,
                                    now_ms: 1_700_000_000_000,
                                    mode: Mode::Primary,
                                    may_block: true,
                                    rng: &mut rng,
                                    reply: &mut reply,
                                    blobs: None,
                                    fx: &mut fx,
                                },
                            );
                        }
                        rest = &rest[consumed..];
                        done += 1;
                    }
                    black_box(&reply);
                    reply.clear();
                    fx.clear_turn();
                    fx.clear_touched();
                    if done >= commands {
                        break 'all;
                    }
                }
            }
            println!(
                "  {name:5} {:6.1} ns a command",
                begin.elapsed().as_nanos() as f64 / done as f64
            );
        }
    }
}
