//! Values in the encodings that Redis 7.2 and every Valkey read.

use crate::format::{container, kind};
use holdfast_engine::ValueRef;
use holdfast_engine::types::list_value::Node;
use holdfast_engine::types::{HashValue, ListValue, SetValue, ZsetValue};
use holdfast_resp::parse_i64;

/// Appends a length: 6, 14, 32 or 64 bits, the two high bits of the first byte saying which.
pub(crate) fn length(out: &mut Vec<u8>, n: u64) {
    match n {
        0..=0x3f => out.push(n as u8),
        0x40..=0x3fff => out.extend_from_slice(&(0x4000 | n as u16).to_be_bytes()),
        _ => match u32::try_from(n) {
            Ok(n) => {
                out.push(0x80);
                out.extend_from_slice(&n.to_be_bytes());
            }
            Err(_) => {
                out.push(0x81);
                out.extend_from_slice(&n.to_be_bytes());
            }
        },
    }
}

/// Appends a string; small integers take one, two or four bytes.
pub(crate) fn string(out: &mut Vec<u8>, s: &[u8]) {
    if s.len() <= 11
        && let Some(v) = parse_i64(s)
    {
        if let Ok(v) = i8::try_from(v) {
            out.extend_from_slice(&[0xc0, v as u8]);
            return;
        }
        if let Ok(v) = i16::try_from(v) {
            out.push(0xc1);
            out.extend_from_slice(&v.to_le_bytes());
            return;
        }
        if let Ok(v) = i32::try_from(v) {
            out.push(0xc2);
            out.extend_from_slice(&v.to_le_bytes());
            return;
        }
    }
    raw_string(out, s);
}

fn raw_string(out: &mut Vec<u8>, s: &[u8]) {
    length(out, s.len() as u64);
    out.extend_from_slice(s);
}

/// The type under which [`value`] encodes a value.
pub(crate) fn kind_of(v: ValueRef<'_>) -> u8 {
    match v {
        ValueRef::Str(_) => kind::STRING,
        ValueRef::List(_) => kind::LIST_QUICKLIST_2,
        ValueRef::Hash(HashValue::Pack(_)) => kind::HASH_LISTPACK,
        ValueRef::Hash(HashValue::Table(_)) => kind::HASH,
        ValueRef::Set(SetValue::Ints(_)) => kind::SET_INTSET,
        ValueRef::Set(SetValue::Pack(_)) => kind::SET_LISTPACK,
        ValueRef::Set(SetValue::Table(_)) => kind::SET,
        ValueRef::Zset(ZsetValue::Pack(_)) => kind::ZSET_LISTPACK,
        ValueRef::Zset(ZsetValue::Ordered(_)) => kind::ZSET_2,
    }
}

/// Appends a value without its type.
pub(crate) fn value(out: &mut Vec<u8>, v: ValueRef<'_>) {
    match v {
        ValueRef::Str(s) => string(out, &s.text()),
        ValueRef::List(ListValue::Pack(lp)) => {
            length(out, 1);
            length(out, container::PACKED);
            raw_string(out, lp.as_bytes());
        }
        ValueRef::List(ListValue::Quick(q)) => {
            length(out, q.nodes().len() as u64);
            for node in q.nodes() {
                match node {
                    Node::Pack(lp) => {
                        length(out, container::PACKED);
                        raw_string(out, lp.as_bytes());
                    }
                    Node::Plain(s) => {
                        length(out, container::PLAIN);
                        raw_string(out, s);
                    }
                }
            }
        }
        ValueRef::Hash(HashValue::Pack(lp))
        | ValueRef::Set(SetValue::Pack(lp))
        | ValueRef::Zset(ZsetValue::Pack(lp)) => raw_string(out, lp.as_bytes()),
        ValueRef::Set(SetValue::Ints(ints)) => raw_string(out, ints.as_bytes()),
        ValueRef::Hash(HashValue::Table(t)) => {
            length(out, t.len() as u64);
            for f in t.iter() {
                string(out, &f.name);
                string(out, &f.value);
            }
        }
        ValueRef::Set(SetValue::Table(t)) => {
            length(out, t.len() as u64);
            t.iter().for_each(|m| string(out, m));
        }
        ValueRef::Zset(z @ ZsetValue::Ordered(_)) => {
            length(out, z.len() as u64);
            // From the greatest down, as Valkey writes it.
            for (m, score) in z.range(0..z.len(), true) {
                string(out, m.bytes(&mut None));
                out.extend_from_slice(&score.to_le_bytes());
            }
        }
    }
}
