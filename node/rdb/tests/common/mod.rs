//! What model tests share: an engine, a copy that is led by its effects, and files made of snapshots in steps.
#![allow(dead_code)]

pub mod model;
#[path = "../../../engine/tests/common/valkey.rs"]
pub mod valkey;

use holdfast_engine::{
    ApplyState, Call, Effects, Engine, EngineConfig, Mode, Rng, SlotFilter, SnapshotId,
    SnapshotProgress, TypeLimits,
};
use holdfast_rdb::{DumpCodec, Event, RdbReader, RdbSink, RdbVersion};
use holdfast_resp::Proto;
use holdfast_resp::reply::{self, Reply};

/// A reply on one line; the elements of arrays stand side by side.
pub fn text(reply: &Reply) -> String {
    match reply {
        Reply::Bulk(b) | Reply::Simple(b) => String::from_utf8_lossy(b).into_owned(),
        Reply::Int(n) => n.to_string(),
        Reply::Null => "nil".into(),
        Reply::Array(items) => items.iter().map(text).collect::<Vec<_>>().join(" "),
        Reply::Error(e) => format!("error: {}", String::from_utf8_lossy(e)),
        other => panic!("{other:?}"),
    }
}

/// An engine and its copy.
pub struct Pair {
    pub engine: Engine,
    pub copy: Engine,
    apply: ApplyState,
    pub fx: Effects,
    pub rng: Rng,
    pub now_ms: u64,
    limits: TypeLimits,
}

impl Pair {
    pub fn new(seed: u64, limits: TypeLimits) -> Pair {
        let mut fx = Effects::new();
        fx.set_enabled(true);
        Pair {
            engine: engine(seed, limits),
            copy: engine(seed + 100, limits),
            apply: ApplyState::default(),
            fx,
            rng: Rng::new(seed),
            now_ms: 1_000_000,
            limits,
        }
    }

    /// Executes a command, and has the copy follow.
    pub fn run_argv(&mut self, argv: &[&[u8]]) -> Reply {
        let reply = execute(
            &mut self.engine,
            argv,
            self.now_ms,
            Mode::Primary,
            &mut self.rng,
            &mut self.fx,
        );
        self.pass_on();
        reply
    }

    /// As above; words separated by spaces.
    pub fn run(&mut self, line: &str) -> String {
        let argv: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        text(&self.run_argv(&argv))
    }

    /// Deletes what has expired, up to a number of keys and fields. Whether there may be more.
    pub fn expire(&mut self, budget: usize) -> bool {
        let more = self
            .engine
            .active_expire_step(self.now_ms, budget, &mut self.fx);
        self.pass_on();
        more
    }

    /// Gives the copy the effects so far.
    fn pass_on(&mut self) {
        let effects = self.fx.take_bytes();
        // The copy's clock is far off: it must not look at it.
        let now_ms = self.now_ms * 2;
        if let Err(error) = self.copy.apply(&effects, &mut self.apply, now_ms) {
            panic!("{error}: {}", String::from_utf8_lossy(&effects));
        }
    }

    /// The copy has the very same content, what has expired included.
    pub fn check_copy(&self) {
        assert_eq!(self.engine.digest(), self.copy.digest());
        assert_eq!(
            self.engine.expiring_hashes_len(0),
            self.copy.expiring_hashes_len(0)
        );
        assert_eq!(self.engine.expiries_len(0), self.copy.expiries_len(0));
    }

    /// Begins a snapshot for a file.
    pub fn begin(&mut self) -> SnapshotId {
        let sink = Box::new(RdbSink::new(RdbVersion::V80));
        self.engine.snapshot_begin(SlotFilter::All, sink)
    }

    /// Makes a step of the snapshot. Whether there is more to do.
    pub fn step(&mut self, id: SnapshotId) -> bool {
        self.engine.snapshot_step(id, 1) == SnapshotProgress::More
    }

    /// The file of a snapshot that is done.
    pub fn finish(&mut self, id: SnapshotId) -> Vec<u8> {
        let sink = self.engine.snapshot_finish(id).unwrap();
        let mut sink = sink.into_any().downcast::<RdbSink>().unwrap();
        sink.writer.finish();
        sink.writer.take()
    }

    /// An engine with the content of a file.
    pub fn load(&self, file: &[u8], seed: u64) -> Engine {
        let mut reader = RdbReader::default();
        reader.feed(file);
        let mut loaded = engine(seed, self.limits);
        while let Some(event) = reader.poll().unwrap() {
            if let Event::Key {
                db,
                key,
                expire_at_ms,
                value,
                ..
            } = event
            {
                assert!(loaded.load_key(db as u16, &key, expire_at_ms, value));
            }
        }
        loaded
    }

    /// Goes on with the content of a file, as after a restart; the copy, too.
    pub fn restart_from(&mut self, file: &[u8]) {
        let seed = self.rng.below(1000);
        self.engine = self.load(file, seed);
        self.copy = self.load(file, seed + 1);
    }
}

pub fn engine(seed: u64, limits: TypeLimits) -> Engine {
    let config = EngineConfig {
        hash_seed: [seed, 5],
        limits,
        ..EngineConfig::default()
    };
    Engine::new(config, Box::new(DumpCodec::default()))
}

/// Executes a command in database 0.
pub fn execute(
    engine: &mut Engine,
    argv: &[&[u8]],
    now_ms: u64,
    mode: Mode,
    rng: &mut Rng,
    fx: &mut Effects,
) -> Reply {
    let mut out = Vec::new();
    engine.execute(
        Engine::command(argv[0]).expect("a command"),
        &mut Call {
            argv,
            db: 0,
            slot: None,
            proto: Proto::Resp2,
            now_ms,
            mode,
            may_block: false,
            rng,
            reply: &mut out,
            blobs: None,
            fx,
        },
    );
    let (reply, used) = reply::parse(&out).unwrap().expect("a whole reply");
    assert_eq!(used, out.len(), "one reply");
    reply
}
