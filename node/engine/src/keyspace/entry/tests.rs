use super::*;
use crate::rng::Rng;
use std::collections::VecDeque;

fn text(entry: &Entry) -> Vec<u8> {
    entry
        .as_str()
        .map(|s| s.text().to_vec())
        .unwrap_or_default()
}

#[test]
fn strings_grow_shrink_and_change_kind() {
    let slabs = &mut Slabs::default();
    let mut e = Entry::new_str(slabs, b"key", b"value", 3);
    assert_eq!(
        (e.key(), &text(&e)[..], e.version(3), e.expiry()),
        (&b"key"[..], &b"value"[..], 3, None)
    );
    for len in [0, 1, 7, 8, 9, 100, 5, 255, 256, 10_000, 300, 900, 70_000, 3] {
        let bytes = vec![b'a' + (len % 26) as u8; len];
        e.set_str(&bytes, slabs);
        assert_eq!(text(&e), bytes);
        assert_eq!(e.key(), b"key");
    }
    e.set_int(-5, slabs);
    assert_eq!(e.as_str(), Some(StrRef::Int(-5)));
    e.str_mut(4, slabs)[2..].copy_from_slice(b"xy");
    assert_eq!((&text(&e)[..], e.encoding()), (&b"-5xy"[..], "raw"));
    assert_eq!(e.str_mut(6, slabs), b"-5xy\0\0");
    e.set_value(Value::List(ListValue::default()), slabs);
    assert!(matches!(e.value(), ValueRef::List(_)));
    e.set_value(Value::Hash(HashValue::default()), slabs);
    e.set_str(b"again", slabs);
    assert_eq!(text(&e), b"again");
    assert!(e.own_bytes() <= 16);
    assert!(matches!(e.into_value(slabs), Value::Str(StrValue::Bytes(b)) if b == b"again"));
    assert_eq!(slabs.live_bytes(), 0);
}

#[test]
fn a_key_of_16_bytes_with_a_string_of_32_takes_55() {
    let slabs = &mut Slabs::default();
    let mut e = Entry::new_str(slabs, &[b'k'; 16], &[b'v'; 32], 0);
    assert_eq!(e.own_bytes(), 55);
    for (at, bytes) in [
        (EXPIRY_EPOCH_MS, 60),
        (EXPIRY_EPOCH_MS + (1 << 40) - 1, 60),
        (EXPIRY_EPOCH_MS - 1, 63),
        (EXPIRY_EPOCH_MS + (1 << 40), 63),
        (0, 63),
        (NEVER - 1, 63),
        (NEVER, 55),
    ] {
        e.set_expire_at_ms(at, slabs);
        assert_eq!((e.own_bytes(), e.expire_at_ms()), (bytes, at));
    }
    e.free(slabs);
}

/// Anything that may happen to an entry, against what it should be then.
#[test]
fn any_change_keeps_the_rest() {
    let slabs = &mut Slabs::default();
    let mut rng = Rng::new(9);
    for key_len in [0, 1, 16, 200, 232, 233, 240, 255, 256, 3000, 5000] {
        let key: Vec<u8> = (0..key_len).map(|i| i as u8).collect();
        let mut e = Entry::new_str(slabs, &key, b"", 7);
        e.set_access(0x00ab_cdef);
        let (mut model, mut at) = (Vec::new(), NEVER);
        let mut shared = VecDeque::<(Arc<Vec<u8>>, Vec<u8>)>::new();
        for step in 0..3000 {
            let len = match rng.below(4) {
                0 => rng.index(8),
                1 => rng.index(300),
                2 => rng.index(1100),
                _ => rng.index(9000),
            };
            match rng.below(8) {
                6 | 7 => {
                    let text = e.share(len / 2);
                    assert!(text.as_ref().is_none_or(|t| t[..] == model));
                    assert!(text.is_some() || model.len() < (len / 2).max(1025));
                    shared.extend(text.map(|t| (t, model.clone())));
                    if shared.len() > rng.index(4) {
                        shared.pop_front();
                    }
                }
                0 => {
                    let value = rng.next_u64() as i64;
                    e.set_int(value, slabs);
                    model = value.to_string().into_bytes();
                }
                1 => {
                    model = vec![step as u8; len];
                    match len > INLINE_MAX && rng.below(2) == 0 {
                        true => {
                            let text = Arc::new(model.clone());
                            e.set_shared(text.clone(), slabs);
                            shared.push_back((text, model.clone()));
                        }
                        false => e.set_str(&model, slabs),
                    }
                }
                2 => {
                    model.resize(model.len().max(len), 0);
                    let bytes = e.str_mut(len, slabs);
                    if let (Some(a), Some(b)) = (bytes.last_mut(), model.last_mut()) {
                        (*a, *b) = (b'!', b'!');
                    }
                }
                3 => {
                    at = match rng.below(3) {
                        0 => rng.below(1 << 50),
                        _ => EXPIRY_EPOCH_MS + rng.below(1 << 40),
                    };
                    e.set_expire_at_ms(at, slabs);
                }
                4 => {
                    at = NEVER;
                    e.set_expire_at_ms(at, slabs);
                }
                _ => {
                    let values = [
                        Value::Set(SetValue::default()),
                        Value::Hash(HashValue::default()),
                        Value::Stream(Box::new(StreamValue::new())),
                    ];
                    for value in values {
                        let ty = value.ty();
                        e.set_value(value, slabs);
                        assert_eq!((e.value().ty(), e.expire_at_ms()), (ty, at));
                        assert!(e.take_owned().is_some());
                    }
                    model = vec![0; len % 40];
                    e.set_str(&model, slabs);
                }
            }
            assert_eq!(text(&e), model, "key of {key_len}, step {step}");
            assert_eq!((e.key(), e.expire_at_ms()), (&key[..], at));
            assert_eq!((e.version(7), e.access()), (7, 0x00ab_cdef));
            // What was sent is not changed, and not kept for longer than it takes.
            for (i, (text, was)) in shared.iter().enumerate() {
                assert!(**text == *was, "key of {key_len}, step {step}");
                let held = shared.iter().filter(|(t, _)| Arc::ptr_eq(t, text)).count();
                let own = e
                    .as_str()
                    .is_some_and(|s| s.text().as_ptr() == text.as_ptr());
                assert_eq!(Arc::strong_count(text), held + usize::from(own), "{i}");
            }
        }
        e.free(slabs);
        assert_eq!(slabs.live_bytes(), 0);
    }
}

#[test]
fn access_times_and_versions_wrap() {
    let slabs = &mut Slabs::default();
    let mut e = Entry::new_int(slabs, b"", 1, 0);
    e.touch(5_000);
    assert_eq!(e.idle_s(9_999), 4);
    e.touch((1 << 24) * 1000 - 1000);
    assert_eq!(e.idle_s((1 << 24) * 1000 + 2000), 3);
    e.set_version(70_000);
    assert_eq!(
        (e.version(70_000), e.version(70_005), e.version(135_535)),
        (70_000, 70_000, 70_000)
    );
    e.free(slabs);
}
