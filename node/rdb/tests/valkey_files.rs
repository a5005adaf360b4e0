//! Files of a real Valkey are read, and files of ours are loaded by a real Valkey: judged by `DEBUG DIGEST`.

mod common;

use common::valkey::Valkey;
use holdfast_engine::types::hash_value::ALL_FIELDS;
use holdfast_engine::types::list_value::End;
use holdfast_engine::types::{HashValue, ListValue, SetValue, TypeLimits, ZsetValue};
use holdfast_engine::{Engine, EngineConfig, SlotFilter, StrValue, Value};
use holdfast_rdb::{DumpCodec, Event, RdbError, RdbReader, RdbSink, RdbVersion};
use holdfast_resp::reply::Reply;

/// Written by Debian's valkey-server 8.0.1, with every encoding that it has for our types.
const VALKEY_8: &[u8] = include_bytes!("data/valkey-8.0.1.rdb");
/// What `DEBUG DIGEST` said there.
const VALKEY_8_DIGEST: &str = "db878a935cd298859966af42c280111064d028db";

fn engine() -> Engine {
    Engine::new(EngineConfig::default(), Box::new(DumpCodec::default()))
}

fn hex(digest: [u8; 20]) -> String {
    digest.iter().map(|b| format!("{b:02x}")).collect()
}

/// Loads a file that comes in chunks of `chunk` bytes; the auxiliary fields.
fn load(engine: &mut Engine, file: &[u8], chunk: usize) -> Result<Vec<(String, String)>, RdbError> {
    let mut reader = RdbReader::default();
    let mut aux = Vec::new();
    for part in file.chunks(chunk) {
        reader.feed(part);
        while let Some(event) = reader.poll()? {
            match event {
                Event::Aux { name, value } => aux.push((
                    String::from_utf8_lossy(&name).into_owned(),
                    String::from_utf8_lossy(&value).into_owned(),
                )),
                Event::Key {
                    db,
                    key,
                    expire_at_ms,
                    value,
                    ..
                } => {
                    engine.load_key(db as u16, &key, expire_at_ms, value);
                }
                _ => {}
            }
        }
    }
    reader.end_of_input()?;
    Ok(aux)
}

#[test]
fn reads_a_file_of_valkey_8() {
    for chunk in [1, 13, 4096, VALKEY_8.len()] {
        let mut engine = engine();
        let aux = load(&mut engine, VALKEY_8, chunk).unwrap();
        assert_eq!(aux[0], ("valkey-ver".into(), "8.0.1".into()));
        assert_eq!(engine.dbsize(0), 22);
        assert_eq!(engine.dbsize(3), 1);
        assert_eq!(hex(engine.digest()), VALKEY_8_DIGEST);
    }
}

#[test]
fn each_damaged_byte_of_it_is_an_error() {
    let whole = |file: &[u8]| {
        let mut reader = RdbReader::default();
        reader.feed(file);
        while reader.poll()?.is_some() {}
        reader.end_of_input()
    };
    whole(VALKEY_8).unwrap();
    for at in (0..VALKEY_8.len()).step_by(41) {
        let mut bad = VALKEY_8.to_vec();
        bad[at] = !bad[at];
        assert!(whole(&bad).is_err(), "byte {at}");
        assert!(whole(&VALKEY_8[..at]).is_err(), "cut at {at}");
    }
}

/// An engine with values of all types and forms.
fn filled() -> Engine {
    let mut engine = engine();
    let limits = TypeLimits::default();
    let mut put = |key: &str, expire: Option<u64>, value: Value| {
        engine.load_key(0, key.as_bytes(), expire, value);
    };
    for n in [0i64, -1, 127, -129, 40_000, -3_000_000_000, i64::MAX] {
        put(
            &format!("int:{n}"),
            None,
            Value::Str(StrValue::new(n.to_string().as_bytes())),
        );
    }
    put(
        "string",
        Some(4_102_444_800_123),
        Value::Str(StrValue::new(&[0, 255, 13, 10])),
    );
    put(
        "long",
        None,
        Value::Str(StrValue::new(&vec![b'x'; 100_000])),
    );
    for n in [3usize, 3000] {
        let mut list = ListValue::new();
        let mut set = SetValue::new();
        let mut ints = SetValue::new();
        let mut hash = HashValue::new();
        let mut zset = ZsetValue::new();
        for i in 0..n {
            let s = format!("element-{i}");
            list.prepare(s.len(), 1, &limits);
            list.push(End::Right, s.as_bytes(), &limits);
            set.insert(s.as_bytes(), &limits);
            ints.insert(
                (i as i64 * 1_000_000_007 - 5).to_string().as_bytes(),
                &limits,
            );
            hash.set(s.as_bytes(), i.to_string().as_bytes(), &limits);
            zset.insert(s.as_bytes(), i as f64 / 3.0, &limits);
        }
        zset.insert(b"bottom", f64::NEG_INFINITY, &limits);
        put(&format!("list:{n}"), None, Value::List(list));
        put(&format!("set:{n}"), None, Value::Set(set));
        put(
            &format!("ints:{n}"),
            Some(4_102_444_800_000),
            Value::Set(ints),
        );
        put(&format!("hash:{n}"), None, Value::Hash(hash));
        put(&format!("zset:{n}"), None, Value::Zset(zset));
    }
    let mut list = ListValue::new();
    for s in [&b"small"[..], &[b'P'; 20_000], b"7"] {
        list.prepare(s.len(), 1, &limits);
        list.push(End::Right, s, &limits);
    }
    put("list:plain", None, Value::List(list));
    engine.load_key(5, b"other", None, Value::Str(StrValue::new(b"db")));
    engine
}

/// The engine's snapshot as a file, drained every few keys.
fn snapshot(engine: &mut Engine, version: RdbVersion) -> Vec<u8> {
    let mut sink = RdbSink::new(version);
    sink.writer.aux("valkey-ver", b"8.0.1");
    let id = engine.snapshot_begin(SlotFilter::All, Box::new(sink));
    let mut file = Vec::new();
    loop {
        let progress = engine.snapshot_step(id, 3);
        let sink = engine.snapshot_sink(id).unwrap();
        let sink: &mut RdbSink = sink.as_any_mut().downcast_mut().unwrap();
        file.extend(sink.writer.take());
        if progress != holdfast_engine::snapshot::SnapshotProgress::More {
            break;
        }
    }
    let sink = engine.snapshot_finish(id).unwrap().into_any();
    let mut sink = sink.downcast::<RdbSink>().unwrap();
    assert_eq!(sink.keys() as usize, engine.dbsize(0) + engine.dbsize(5));
    sink.writer.finish();
    file.extend(sink.writer.take());
    file
}

#[test]
fn a_snapshot_loads_into_an_equal_engine() {
    let mut source = filled();
    for version in [RdbVersion::V11, RdbVersion::V80] {
        let file = snapshot(&mut source, version);
        let mut copy = engine();
        load(&mut copy, &file, 1000).unwrap();
        assert_eq!(copy.digest(), source.digest());
    }
}

#[test]
fn a_real_valkey_loads_our_snapshot() {
    let mut source = filled();
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(
        dir.path().join("ours.rdb"),
        snapshot(&mut source, RdbVersion::V11),
    )
    .unwrap();
    let Some(mut valkey) = Valkey::start(&[
        ("dbfilename", "ours.rdb"),
        ("dir", &dir.path().to_string_lossy()),
    ]) else {
        return;
    };
    let digest = Reply::Simple(hex(source.digest()).into());
    assert_eq!(valkey.call(&["DEBUG", "DIGEST"]), digest);
}

#[test]
fn payloads_of_valkey_8_are_restored() {
    // `DUMP` of `HSET h f1 v1 f2 22 n -1`.
    let payload: &[u8] = &[
        16, 27, 27, 0, 0, 0, 6, 0, 130, 102, 49, 3, 130, 118, 49, 3, 130, 102, 50, 3, 22, 1, 129,
        110, 2, 223, 255, 2, 255, 11, 0, 187, 213, 163, 149, 122, 163, 243, 25,
    ];
    let Value::Hash(hash) = DumpCodec::default().decode(payload).unwrap() else {
        panic!("not a hash");
    };
    assert_eq!(hash.get(b"f2", ALL_FIELDS).unwrap().to_vec(), b"22");
    assert_eq!(hash.len(), 3);
    // Ours are the same bytes.
    assert_eq!(
        DumpCodec::default().encode(Value::Hash(hash).as_ref()),
        payload
    );
}
