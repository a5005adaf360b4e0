//! Snapshots of huge collections in small pieces, while commands change them: the file is of one instant all the same,
//! and no step gives much.

use holdfast_engine::{
    AccessNote, Call, Effects, Engine, EngineConfig, Eviction, Mode, Rng, SlotFilter, SnapshotId,
    SnapshotProgress,
};
use holdfast_rdb::{DumpCodec, Event, RdbReader, RdbSink, RdbVersion, RdbWriter};
use holdfast_resp::Proto;

struct Node {
    engine: Engine,
    fx: Effects,
    rng: Rng,
    db: u16,
}

fn engine() -> Engine {
    Engine::new(EngineConfig::default(), Box::new(DumpCodec::default()))
}

impl Node {
    fn run(&mut self, line: &str) {
        let argv: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        let mut reply = Vec::new();
        let command = Engine::command(argv[0]).unwrap();
        self.engine.execute(
            command,
            &mut Call {
                argv: &argv,
                db: self.db,
                slot: None,
                proto: Proto::Resp2,
                now_ms: 1_000_000,
                mode: Mode::Primary,
                may_block: false,
                rng: &mut self.rng,
                reply: &mut reply,
                blobs: None,
                fx: &mut self.fx,
            },
        );
        assert!(!reply.starts_with(b"-"), "{line}: {reply:?}");
    }

    fn fill(&mut self, tag: &str, count: u64) {
        for n in 0..count {
            self.run(&format!("HSET h{tag} field-{n} value-{n}"));
            self.run(&format!("SADD s{tag} member-{n}"));
            self.run(&format!("ZADD z{tag} {n} member-{n}"));
            self.run(&format!("RPUSH l{tag} element-{n}"));
        }
        self.run(&format!("SETRANGE str{tag} {} x", 3 << 19));
        self.run(&format!("SET small{tag} {count}"));
    }

    fn begin(&mut self, compress: bool) -> SnapshotId {
        let writer = RdbWriter::with_compression(RdbVersion::V80, compress);
        let sink = Box::new(RdbSink::of(writer));
        self.engine.snapshot_begin(SlotFilter::All, sink)
    }
}

fn sink(engine: &mut Engine, id: SnapshotId) -> &mut RdbSink {
    let sink = engine.snapshot_sink(id).unwrap();
    sink.as_any_mut().downcast_mut().unwrap()
}

fn finish(engine: &mut Engine, id: SnapshotId, file: &mut Vec<u8>) {
    let sink = engine.snapshot_finish(id).unwrap().into_any();
    let mut sink = sink.downcast::<RdbSink>().unwrap();
    sink.writer.finish();
    file.extend(sink.writer.take());
}

fn digest_of(file: &[u8]) -> [u8; 20] {
    let mut reader = RdbReader::default();
    let mut engine = engine();
    reader.feed(file);
    while let Some(event) = reader.poll().unwrap() {
        if let Event::Key {
            db,
            key,
            expire_at_ms,
            value,
            ..
        } = event
        {
            engine.load_key(db as u16, &key, expire_at_ms, value);
        }
    }
    assert!(reader.is_finished());
    engine.digest()
}

#[test]
fn huge_collections_come_in_pieces_and_as_they_were() {
    for seed in 0..6 {
        let mut node = Node {
            engine: engine(),
            fx: Effects::new(),
            rng: Rng::new(seed),
            db: 0,
        };
        node.fill("a", 2500);
        node.fill("b", 400);
        node.db = 1;
        node.fill("c", 900);
        let mut chaos = Rng::new(seed + 100);
        let before = node.engine.digest();
        let id = node.begin(seed % 2 == 0);
        let mut second = None;
        let mut file = Vec::new();
        let mut files = Vec::new();
        let mut steps = 0;
        loop {
            steps += 1;
            let pending = sink(&mut node.engine, id).writer.pending_bytes();
            let progress = node.engine.snapshot_step(id, 1);
            let given = sink(&mut node.engine, id).writer.pending_bytes() - pending;
            assert!(given < 400 << 10, "{given} bytes in one step");
            file.extend(sink(&mut node.engine, id).writer.take());
            if progress == SnapshotProgress::Done {
                break;
            }
            if steps == 20 && seed > 2 {
                // Another one, while something is half given.
                second = Some((node.begin(true), node.engine.digest()));
            }
            if chaos.below(3) > 0 {
                continue;
            }
            node.db = chaos.below(2) as u16;
            let tag = ["a", "b", "c"][chaos.below(3) as usize];
            let n = chaos.below(2500);
            node.run(&match chaos.below(if seed == 0 { 7 } else { 10 }) {
                0 => format!("HSET h{tag} field-{n} other"),
                1 => format!("SREM s{tag} member-{n}"),
                2 => format!("ZADD z{tag} 1.5 member-{n}"),
                3 => format!("LPUSH l{tag} first"),
                4 => format!("SET new{n} {n}"),
                5 => format!("APPEND small{tag} {n}"),
                6 => format!("SETRANGE str{tag} {n} y"),
                7 => format!("DEL h{tag} l{tag}"),
                8 if chaos.below(4) == 0 => "FLUSHDB".into(),
                8 => "SWAPDB 0 1".into(),
                _ => format!("COPY z{tag} z{n}"),
            });
        }
        finish(&mut node.engine, id, &mut file);
        files.push((file, before));
        if let Some((id, before)) = second {
            let mut file = Vec::new();
            while node.engine.snapshot_step(id, 100) == SnapshotProgress::More {}
            finish(&mut node.engine, id, &mut file);
            files.push((file, before));
        }
        for (file, before) in files {
            assert_eq!(digest_of(&file), before, "seed {seed}");
        }
        while node.engine.free_step(10_000) {}
    }
}

/// Under a policy that goes by accesses the file tells of them, also where one key comes in the midst of another.
#[test]
fn what_is_noted_of_accesses_is_written() {
    let (idle, often) = (AccessNote::IdleSeconds(7), AccessNote::Frequency(9));
    for (policy, note, told) in [
        ("allkeys-lru", idle, (Some(7), None)),
        ("volatile-lfu", often, (None, Some(9))),
        ("noeviction", idle, (None, None)),
    ] {
        let mut node = Node {
            engine: engine(),
            fx: Effects::new(),
            rng: Rng::new(1),
            db: 0,
        };
        let policy = Eviction::named(policy).unwrap();
        node.engine.config_mut().eviction = policy;
        node.fill("a", 600);
        let now_ms = 1_700_000_000_000;
        for key in ["ha", "sa", "za", "la", "stra", "smalla"] {
            node.engine.set_access(0, key.as_bytes(), note, now_ms);
        }
        let mut sink = RdbSink::new(RdbVersion::V80);
        sink.access = Some((policy, now_ms));
        let id = node.engine.snapshot_begin(SlotFilter::All, Box::new(sink));
        for step in 0.. {
            if node.engine.snapshot_step(id, 1) != SnapshotProgress::More {
                break;
            }
            if step == 3 {
                node.run("SET smalla 5");
            }
        }
        let mut file = Vec::new();
        finish(&mut node.engine, id, &mut file);
        let mut reader = RdbReader::default();
        reader.feed(&file);
        let mut seen = 0;
        while let Some(event) = reader.poll().unwrap() {
            if let Event::Key {
                key,
                idle_s,
                frequency,
                ..
            } = event
            {
                let key = String::from_utf8_lossy(&key);
                // Writing to it was an access, too.
                assert!((idle_s, frequency) == told || key == "smalla", "{key}");
                seen += 1;
            }
        }
        assert_eq!(seen, 6);
    }
}
