//! Files and payloads that we write are read back equal, whatever the chunks; damaged ones never panic.

use holdfast_engine::types::hash_value::{ALL_FIELDS, FieldTtl};
use holdfast_engine::types::list_value::End;
use holdfast_engine::types::listpack::Listpack;
use holdfast_engine::types::stream_group::{Pending, StreamGroup};
use holdfast_engine::types::stream_id::StreamId;
use holdfast_engine::types::{HashValue, ListValue, SetValue, StreamValue, TypeLimits, ZsetValue};
use holdfast_engine::{Engine, EngineConfig, LoadBatch, LoadMode, StrValue, Value};
use holdfast_rdb::{BatchSize, DumpCodec, Event, RdbReader, RdbVersion, RdbWriter};
use proptest::prelude::*;

/// What a value holds, in a form to compare: sets and hashes sorted.
fn content(v: &Value) -> Vec<Vec<u8>> {
    let mut pairs: Vec<Vec<u8>> = match v {
        Value::Str(s) => return vec![s.as_ref().text().to_vec()],
        Value::List(l) => return l.iter().map(|e| e.to_vec()).collect(),
        Value::Zset(z) => {
            return z
                .iter()
                .flat_map(|(m, s)| [m.to_vec(), s.to_bits().to_be_bytes().to_vec()])
                .collect();
        }
        Value::Stream(_) => return vec![DumpCodec::default().encode(v.as_ref())],
        Value::Set(s) => s.iter().map(|e| e.to_vec()).collect(),
        Value::Hash(h) => h
            .iter()
            .map(|(f, v, at)| {
                [
                    f.to_vec(),
                    b"=".to_vec(),
                    v.to_vec(),
                    format!("={at}").into_bytes(),
                ]
                .concat()
            })
            .collect(),
    };
    pairs.sort();
    pairs
}

fn encoding(v: &Value) -> &'static str {
    v.as_ref().encoding()
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        3 => any::<i64>().prop_map(|n| n.to_string().into_bytes()),
        2 => (-200i64..200).prop_map(|n| n.to_string().into_bytes()),
        4 => prop::collection::vec(any::<u8>(), 0..20),
        1 => prop::collection::vec(any::<u8>(), 60..300),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    let limits = TypeLimits::default();
    let many = |n| prop::collection::vec(bytes(), 1..n);
    prop_oneof![
        bytes().prop_map(|s| Value::Str(StrValue::new(&s))),
        prop_oneof![
            many(20),
            many(400),
            prop::collection::vec(Just(vec![b'x'; 9000]), 1..4)
        ]
        .prop_map(move |all| {
            let mut v = ListValue::new();
            for s in all {
                v.prepare(s.len(), 1, &limits);
                v.push(End::Right, &s, &limits);
            }
            Value::List(v)
        }),
        prop_oneof![many(20), many(300)].prop_map(move |all| {
            let mut v = SetValue::new();
            for s in all {
                v.insert(&s, &limits);
            }
            Value::Set(v)
        }),
        prop::collection::vec(any::<i32>(), 1..600).prop_map(move |all| {
            let mut v = SetValue::new();
            for n in all {
                v.insert(n.to_string().as_bytes(), &limits);
            }
            Value::Set(v)
        }),
        prop_oneof![many(20), many(700)].prop_map(move |all| {
            let mut v = HashValue::new();
            for s in all {
                v.set(&s, &s, &limits);
            }
            Value::Hash(v)
        }),
        prop::collection::vec((bytes(), prop::option::of(0u64..1 << 45)), 1..30).prop_map(
            move |all| {
                let mut v = HashValue::new();
                for (s, at) in all {
                    let ttl = at.map_or(FieldTtl::Clear, FieldTtl::At);
                    v.put(&s, &s, ttl, ALL_FIELDS, &limits);
                }
                Value::Hash(v)
            }
        ),
        prop::collection::vec((0u64..5, bytes(), bytes()), 0..300).prop_map(move |all| {
            let mut v = StreamValue::new();
            for (step, field, value) in all {
                let StreamId { ms, seq } = v.entries.last_id;
                let id = StreamId::new(ms + step, seq + 1);
                v.entries.append(id, &[&field, &value], &limits);
            }
            let last = v.entries.last_id;
            v.entries.delete(StreamId::new(2, 2));
            v.groups.insert(b"g", StreamGroup::new(last, 7));
            if let Some(group) = v.groups.get_mut(b"g") {
                for n in 0..last.ms {
                    let (consumer, _) = group.find_or_create(format!("c{}", n % 3).as_bytes(), 5);
                    let pending = Pending {
                        delivered_ms: 1 << 40,
                        deliveries: n,
                        consumer,
                    };
                    group.assign(StreamId::new(n, 0), pending);
                }
            }
            Value::Stream(Box::new(v))
        }),
        prop::collection::vec((bytes(), any::<f64>()), 1..200).prop_map(move |all| {
            let mut v = ZsetValue::new();
            for (s, score) in all {
                let score = if score.is_nan() { 1.5 } else { score };
                v.insert(&s, score, &limits);
            }
            Value::Zset(v)
        }),
    ]
}

type Keys = Vec<(u32, Vec<u8>, Option<u64>, Value)>;

fn keys() -> impl Strategy<Value = Keys> {
    prop::collection::vec(
        (0u32..3, bytes(), prop::option::of(0u64..1 << 45), value()),
        0..8,
    )
}

fn file(keys: &Keys, version: RdbVersion, drain: usize) -> Vec<u8> {
    let mut w = RdbWriter::new(version);
    let mut out = Vec::new();
    w.aux("holdfast-test", b"1");
    w.resize_db(keys.len() as u64, 0);
    for (db, key, expire, value) in keys {
        w.key(*db, key, *expire, value.as_ref());
        if w.pending_bytes() > drain {
            out.extend(w.take());
        }
    }
    w.finish();
    out.extend(w.take());
    assert_eq!(w.total_bytes(), out.len() as u64);
    out
}

fn read(bytes: &[u8], chunk: usize) -> Result<Keys, holdfast_rdb::RdbError> {
    let mut r = RdbReader::default();
    let mut keys = Vec::new();
    for part in bytes.chunks(chunk) {
        r.feed(part);
        while let Some(event) = r.poll()? {
            if let Event::Key {
                db,
                key,
                expire_at_ms,
                value,
                ..
            } = event
            {
                keys.push((db, key, expire_at_ms, value));
            }
        }
    }
    r.end_of_input()?;
    Ok(keys)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn files_read_back_equal(keys in keys(), chunk in 1usize..5000, valkey in any::<bool>()) {
        // No older version has fields that expire.
        let expires = |v: &Value| matches!(v, Value::Hash(h) if h.expiring_len() > 0);
        let new = valkey || keys.iter().any(|(.., value)| expires(value));
        let version = if new { RdbVersion::V80 } else { RdbVersion::V11 };
        let back = read(&file(&keys, version, chunk), chunk).unwrap();
        prop_assert_eq!(back.len(), keys.len());
        for (a, b) in keys.iter().zip(&back) {
            prop_assert_eq!((a.0, &a.1, a.2), (b.0, &b.1, b.2));
            prop_assert_eq!(content(&a.3), content(&b.3));
            prop_assert_eq!(encoding(&a.3), encoding(&b.3));
        }
    }

    #[test]
    fn batches_hold_what_single_keys_do(
        keys in keys(), chunk in 1usize..5000, compress in any::<bool>(), size in 1usize..20, damage in prop::option::of(any::<prop::sample::Index>())
    ) {
        let mut w = RdbWriter::with_compression(RdbVersion::V80, compress);
        for (db, key, expire, value) in &keys {
            w.key(*db, key, *expire, value.as_ref());
        }
        w.finish();
        let mut bytes = w.take();
        if let Some(at) = damage {
            let at = at.index(bytes.len());
            bytes[at] ^= 4;
        }
        let engine = || Engine::new(EngineConfig::default(), Box::new(DumpCodec::default()));
        let (mut single, mut many) = (engine(), engine());
        let one_by_one = read(&bytes, chunk);
        let mut r = RdbReader::default();
        let mut batch = LoadBatch::new(many.placer());
        let mode = LoadMode { now_ms: 0, merge: true };
        let size = BatchSize { keys: size, bytes: 1000 };
        let mut load = |batch: &mut LoadBatch| {
            // Damage may have put a key into a database that is not there.
            let _ = many.load(batch, mode);
        };
        let mut error = None;
        'all: for part in bytes.chunks(chunk) {
            r.feed(part);
            loop {
                match r.poll_batch(&mut batch, size) {
                    Ok(None) => break,
                    Ok(Some(_)) => {
                        prop_assert!(batch.len() <= size.keys);
                        load(&mut batch);
                    }
                    Err(e) => {
                        error = Some(e);
                        break 'all;
                    }
                }
            }
        }
        load(&mut batch);
        let error = error.or_else(|| r.end_of_input().err());
        match one_by_one {
            Ok(all) => {
                prop_assert_eq!(error, None);
                for (db, key, expire, value) in all {
                    single.load_key(db as u16, &key, expire, value);
                }
                prop_assert_eq!(single.digest(), many.digest());
            }
            Err(e) => prop_assert_eq!(error, Some(e)),
        }
    }

    #[test]
    fn payloads_read_back_equal(value in value()) {
        let codec = DumpCodec::default();
        let back = codec.decode(&codec.encode(value.as_ref())).unwrap();
        prop_assert_eq!(content(&value), content(&back));
    }

    #[test]
    fn damage_is_an_error_not_a_panic(keys in keys(), at in any::<prop::sample::Index>(), to in any::<u8>()) {
        let good = file(&keys, RdbVersion::V80, 1 << 20);
        let at = at.index(good.len());
        prop_assert!(read(&good[..at], 997).is_err());
        let mut bad = good.clone();
        bad[at] ^= to;
        // Any change is an error, by the checksum if not before.
        prop_assert_eq!(read(&bad, 997).is_err(), to != 0);
    }

    /// Below the checksum: the value's bytes are damaged and the footer is right.
    #[test]
    fn damaged_payloads_with_a_right_footer(value in value(), at in any::<prop::sample::Index>(), to in any::<u8>()) {
        let codec = DumpCodec::default();
        let mut payload = codec.encode(value.as_ref());
        payload.truncate(payload.len() - 8);
        let at = at.index(payload.len() - 2);
        payload[at] = to;
        let sum = holdfast_rdb::crc64(&payload);
        payload.extend_from_slice(&sum.to_le_bytes());
        if let Ok(v) = codec.decode(&payload) {
            content(&v);
        }
    }

    /// Noise as a value of each type, whole or as the bytes of a small encoding.
    #[test]
    fn noise_as_values_never_panics(kind in 0u8..25, framed in any::<bool>(), noise in prop::collection::vec(any::<u8>(), 0..60)) {
        let mut payload = vec![kind];
        if framed {
            payload.push(noise.len() as u8);
        }
        payload.extend_from_slice(&noise);
        payload.extend_from_slice(&[11, 0]);
        let sum = holdfast_rdb::crc64(&payload);
        payload.extend_from_slice(&sum.to_le_bytes());
        if let Ok(v) = DumpCodec::default().decode(&payload) {
            content(&v);
        }
    }

    /// A listpack from outside that is accepted can be walked both ways, and is counted right.
    #[test]
    fn damaged_listpacks(
        items in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..70), 0..12),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
    ) {
        let mut lp = Listpack::new();
        items.iter().for_each(|item| lp.push_back(item));
        let mut bytes = lp.as_bytes().to_vec();
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(lp) = Listpack::from_bytes(bytes) {
            let mut back = 0;
            let mut at = lp.last();
            while let Some(n) = at {
                back += 1;
                at = lp.prev(n);
            }
            prop_assert_eq!((lp.iter().count(), back), (lp.len(), lp.len()));
        }
    }

    #[test]
    fn noise_never_panics(mut noise in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = read(&noise, 7);
        let mut framed = b"REDIS0011".to_vec();
        framed.append(&mut noise);
        let _ = read(&framed, 7);
    }
}

#[test]
fn errors_name_offset_and_reason() {
    let check = |bytes: &[u8], want: &str| {
        assert_eq!(read(bytes, 3).unwrap_err().to_string(), want);
    };
    check(
        b"RODIS0011",
        "RDB: Wrong signature trying to load DB from file: RODIS0011 at offset 0",
    );
    check(
        b"REDIS0012",
        "RDB: Can't handle RDB format version 12 at offset 0",
    );
    check(
        b"REDIS0080",
        "RDB: Can't handle RDB format version 80 at offset 0",
    );
    check(
        b"REDIS0011\x0f\x01s\x01\x02ab\x00",
        "RDB: stream node whose key is not the size of an id at offset 13",
    );
    check(b"REDIS0011\xfe", "RDB: unexpected end of file at offset 9");
    check(
        b"REDIS0011\x00\x01k\xc9",
        "RDB: unknown string encoding 9 at offset 12",
    );
    check(
        b"REDIS0011\x00\x01k\x81\xff\xff\xff\xff\xff\xff\xff\xff",
        "RDB: string of 18446744073709551615 bytes is longer than the limit of 536870912 at offset 12",
    );
    check(
        b"REDIS0011\xff12345678",
        "RDB: Wrong RDB checksum expected: (3837363534333231) but got (629738748d8a22c0). Aborting now. at offset 10",
    );
}

#[test]
fn bytes_behind_the_end_are_kept() {
    let mut bytes = file(&Vec::new(), RdbVersion::V11, 0);
    bytes.extend_from_slice(b"*1\r\n");
    let mut r = RdbReader::default();
    r.feed(&bytes);
    while r.poll().unwrap().is_some() {}
    assert!(r.is_finished());
    assert_eq!(r.into_rest(), b"*1\r\n");
}

#[test]
fn a_version_without_a_form_for_a_key_says_which_it_was() {
    let limits = TypeLimits::default();
    let mut hash = HashValue::new();
    hash.put(b"f", b"v", FieldTtl::At(1 << 44), ALL_FIELDS, &limits);
    let hash = Value::Hash(hash);
    for (version, refused) in [(RdbVersion::V11, true), (RdbVersion::V80, false)] {
        let mut w = RdbWriter::new(version);
        let text = Value::Str(StrValue::new(b"text"));
        w.key(0, b"plain", None, text.as_ref());
        assert_eq!(w.refused(), None);
        w.key(3, b"hash", None, hash.as_ref());
        w.key(3, b"behind", None, text.as_ref());
        assert_eq!(w.refused(), refused.then_some((3, &b"hash"[..])));
        w.finish();
        assert_eq!(read(&w.take(), 100).is_err(), refused);
    }
}
