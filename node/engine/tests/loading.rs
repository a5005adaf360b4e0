//! Keys that are put in many at a time are what the same keys put in one by one are.

use holdfast_engine::types::list_value::End;
use holdfast_engine::types::{HashValue, ListValue};
use holdfast_engine::{
    AccessNote, Engine, EngineConfig, LoadBatch, LoadError, LoadHead, LoadMode, Rng, StrValue,
    Value,
};

mod common;

const NOW_MS: u64 = 1_700_000_000_000;
const MODE: LoadMode = LoadMode {
    now_ms: NOW_MS,
    merge: false,
};

fn engine(cluster: bool) -> Engine {
    let config = EngineConfig {
        cluster,
        ..EngineConfig::default()
    };
    Engine::new(config, Box::new(common::StringCodec))
}

fn value(rng: &mut Rng) -> Value {
    let limits = Default::default();
    let text = |n: usize| (0..n).map(|i| b'a' + i as u8 % 26).collect::<Vec<_>>();
    match rng.below(6) {
        0 => Value::Str(StrValue::new(rng.next_u64().to_string().as_bytes())),
        1 => Value::Str(StrValue::new(
            (rng.next_u64() as i32).to_string().as_bytes(),
        )),
        2 => Value::Str(StrValue::new(&text(rng.index(60)))),
        3 => Value::Str(StrValue::new(&text(rng.index(3000)))),
        4 => {
            let mut list = ListValue::new();
            list.push(End::Right, &text(1 + rng.index(9)), &limits);
            Value::List(list)
        }
        _ => {
            let mut hash = HashValue::new();
            hash.set(b"f", b"v", &limits);
            Value::Hash(hash)
        }
    }
}

#[test]
fn batches_and_single_keys_come_to_the_same() {
    for (seed, cluster) in (0..8).flat_map(|s| [(s, false), (s, true)]) {
        let mut rng = Rng::new(seed);
        let (mut many, mut one) = (engine(cluster), engine(cluster));
        let count = [10, 700, 5000][rng.index(3)];
        let expected = count / 4 * rng.index(9);
        while many.load_reserve(3, None, expected) {}
        let mut batch = LoadBatch::new(many.placer());
        let mut loaded = 0;
        for n in 0..count {
            let mut key = format!("key:{n}").into_bytes();
            key.resize(key.len() + [0, 0, 0, 300, 6000][rng.index(5)], b'-');
            let expire_at_ms = match rng.below(4) {
                0 => Some(NOW_MS + rng.below(1000)),
                1 => Some(NOW_MS - 1 - rng.below(1000)),
                _ => None,
            };
            let value = value(&mut rng);
            if expire_at_ms.is_none_or(|at| at >= NOW_MS) {
                one.load_key(3, &key, expire_at_ms, value.clone());
            }
            let head = LoadHead {
                db: 3,
                key: &key,
                expire_at_ms,
                access: None,
            };
            match value {
                Value::Str(text) if rng.below(2) == 0 => {
                    batch.push_str(&head, &text.as_ref().text());
                }
                value => batch.push(&head, value),
            }
            if rng.below(50) == 0 {
                loaded += many.load(&mut batch, MODE).expect("all are new").loaded;
                assert!(batch.is_empty());
            }
        }
        loaded += many.load(&mut batch, MODE).expect("all are new").loaded;
        while many.load_settle() {}
        assert_eq!(loaded, one.dbsize(3) as u64);
        assert_eq!(many.dbsize(3), one.dbsize(3));
        assert_eq!(many.expiries_len(3), one.expiries_len(3));
        assert_eq!(many.digest(), one.digest());
        // They expire as others do.
        let fx = &mut holdfast_engine::Effects::new();
        while many.active_expire_step(NOW_MS + 500, 100, fx) {}
        while one.active_expire_step(NOW_MS + 500, 100, fx) {}
        assert!(many.dbsize(3) < loaded as usize || count < 100);
        assert_eq!(many.digest(), one.digest());
    }
}

#[test]
fn what_is_there_already_is_an_error_or_replaced() {
    let mut engine = engine(false);
    let mut batch = LoadBatch::new(engine.placer());
    let head = |key| LoadHead {
        db: 0,
        key,
        expire_at_ms: None,
        access: Some(AccessNote::IdleSeconds(77)),
    };
    batch.push_str(&head(b"a"), b"1");
    batch.push_str(&head(b"b"), b"2");
    assert_eq!(engine.load(&mut batch, MODE).map(|c| c.loaded), Ok(2));
    assert_eq!(
        engine.access_note(0, b"a", NOW_MS),
        Some(AccessNote::IdleSeconds(77))
    );
    batch.push_str(&head(b"c"), b"3");
    batch.push_str(&head(b"b"), b"4");
    batch.push_str(&head(b"d"), b"5");
    assert_eq!(
        engine.load(&mut batch, MODE),
        Err(LoadError::Duplicate {
            db: 0,
            key: b"b".to_vec()
        })
    );
    assert_eq!(engine.dbsize(0), 3);
    batch.push_str(&head(b"b"), b"a longer one");
    let merge = LoadMode {
        merge: true,
        ..MODE
    };
    assert_eq!(engine.load(&mut batch, merge).map(|c| c.loaded), Ok(1));
    assert_eq!(engine.dbsize(0), 3);
    batch.push_str(
        &LoadHead {
            db: 16,
            ..head(b"x")
        },
        b"",
    );
    assert_eq!(engine.load(&mut batch, MODE), Err(LoadError::Database(16)));
}
