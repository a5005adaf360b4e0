//! How much processor time the commands of streams take, parsing included, without any network.
//!
//! `cargo run --release -p holdfast-engine --example stream_path`

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

/// Processor time of this process in nanoseconds; what others do on the machine does not count.
fn cpu_ns() -> u64 {
    let text = std::fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    let first = text.split(' ').next().and_then(|n| n.parse().ok());
    first.expect("/proc/self/schedstat")
}

fn main() {
    for effects in [false, true] {
        let mut engine = Engine::new(EngineConfig::default(), Box::new(NoCodec));
        let mut fx = Effects::new();
        fx.set_enabled(effects);
        let mut rng = Rng::new(1);
        println!("effects {effects}");
        for (line, count) in [
            ("XADD s * field value", 3_000_000),
            ("XADD m MAXLEN ~ 1000 * field value", 1_000_000),
            ("XADD e MAXLEN 1000 * field value other 12345", 1_000_000),
            ("XRANGE s - + COUNT 1", 1_000_000),
            ("XRANGE s - + COUNT 100", 100_000),
            ("XREVRANGE s + - COUNT 100", 100_000),
            ("XREAD COUNT 10 STREAMS e 0", 500_000),
            ("XREAD COUNT 10 STREAMS e $", 1_000_000),
            ("XGROUP CREATE s g 0", 1),
            ("XREADGROUP GROUP g c COUNT 10 STREAMS s >", 50_000),
            ("XPENDING s g", 1_000_000),
        ] {
            let mut request = Vec::new();
            let argv: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
            write::command(&mut request, &argv);
            let mut parser = RequestParser::new();
            let mut reply = Vec::new();
            let start = cpu_ns();
            for n in 0..count {
                let Ok(Parse::Command { .. }) = parser.parse(&request, &Limits::default()) else {
                    unreachable!("a request")
                };
                let argv: Vec<&[u8]> = parser.args(&request).collect();
                let command = Engine::command(argv[0]).expect("a command");
                reply.clear();
                engine.execute(
                    command,
                    &mut Call {
                        argv: &argv,
                        db: 0,
                        slot: None,
                        proto: Proto::Resp2,
                        now_ms: 1_700_000_000_000 + n / 3,
                        mode: Mode::Primary,
                        may_block: false,
                        rng: &mut rng,
                        reply: &mut reply,
                        blobs: None,
                        fx: &mut fx,
                    },
                );
                fx.clear_turn();
            }
            let ns = (cpu_ns() - start) as f64 / count as f64;
            println!("{ns:9.1} ns  {line}");
        }
    }
}
