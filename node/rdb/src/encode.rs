//! Values in the encodings that Redis 7.2 and every Valkey read.

use crate::draft::Draft;
use crate::format::{container, kind};
use crate::stream;
use holdfast_engine::ValueRef;
use holdfast_engine::types::list_value::Node;
use holdfast_engine::types::{HashValue, ListValue, SetValue, ZsetValue};
use holdfast_resp::parse_i64;

/// Elements of a large collection that one piece has; other encodings than tables come whole.
pub(crate) const PIECE_ELEMENTS: usize = 512;
/// Bytes of a long string or of list nodes that one piece has.
pub(crate) const PIECE_BYTES: usize = 256 << 10;
/// Longer strings come in pieces, and are not compressed: their packer need not hold them whole.
const STRING_WHOLE_MAX: usize = 1 << 20;

/// Appends a length: 6, 14, 32 or 64 bits, the two high bits of the first byte saying which.
pub(crate) fn length(out: &mut Draft, n: u64) {
    let mut bytes = Vec::new();
    push_length(&mut bytes, n);
    out.extend_from_slice(&bytes);
}

/// [`length`], into plain bytes.
pub(crate) fn push_length(out: &mut Vec<u8>, n: u64) {
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
pub(crate) fn string(out: &mut Draft, s: &[u8]) {
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

fn raw_string(out: &mut Draft, s: &[u8]) {
    out.string(s);
}

/// The type under which [`value`] encodes a value.
pub(crate) fn kind_of(v: ValueRef<'_>) -> u8 {
    match v {
        ValueRef::Str(_) => kind::STRING,
        ValueRef::List(_) => kind::LIST_QUICKLIST_2,
        ValueRef::Hash(HashValue::Pack(_)) => kind::HASH_LISTPACK,
        ValueRef::Hash(HashValue::Table(t)) if t.expiring_len() > 0 => kind::HASH_2,
        ValueRef::Hash(HashValue::Table(_)) => kind::HASH,
        ValueRef::Set(SetValue::Ints(_)) => kind::SET_INTSET,
        ValueRef::Set(SetValue::Pack(_)) => kind::SET_LISTPACK,
        ValueRef::Set(SetValue::Table(_)) => kind::SET,
        ValueRef::Zset(ZsetValue::Pack(_)) => kind::ZSET_LISTPACK,
        ValueRef::Zset(ZsetValue::Ordered(_)) => kind::ZSET_2,
        ValueRef::Stream(_) => kind::STREAM_LISTPACKS_3,
    }
}

/// Appends a value without its type.
pub(crate) fn value(out: &mut Draft, v: ValueRef<'_>) {
    let mut from = Some(0);
    while let Some(at) = from {
        from = piece(out, v, at);
    }
}

/// Appends the part of a value that begins at `from`: 0, or what the piece before it returned. `None` when that was the
/// last one. Between two pieces the value must not have changed.
pub(crate) fn piece(out: &mut Draft, v: ValueRef<'_>, from: usize) -> Option<usize> {
    match v {
        ValueRef::Str(s) => {
            let text = s.text();
            if text.len() <= STRING_WHOLE_MAX {
                string(out, &text);
                return None;
            }
            if from == 0 {
                length(out, text.len() as u64);
            }
            let end = text.len().min(from + PIECE_BYTES);
            out.extend_from_slice(&text[from..end]);
            return (end < text.len()).then_some(end);
        }
        ValueRef::List(ListValue::Pack(lp)) => {
            length(out, 1);
            length(out, container::PACKED);
            raw_string(out, lp.as_bytes());
        }
        ValueRef::List(ListValue::Quick(q)) => {
            let count = q.nodes().len();
            if from == 0 {
                length(out, count as u64);
            }
            let start = out.len();
            for (n, node) in q.nodes().enumerate().skip(from) {
                if out.len() - start > PIECE_BYTES {
                    return Some(n);
                }
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
            let with_expiry = t.expiring_len() > 0;
            if from == 0 {
                length(out, t.len() as u64);
            }
            let start = out.len();
            let mut fields = t.iter_from(from);
            for _ in 0..PIECE_ELEMENTS {
                let field = fields.next()?;
                string(out, field.key);
                string(out, field.value);
                if with_expiry {
                    // In milliseconds; all ones (-1) for none, as in memory.
                    out.extend_from_slice(&field.expire_at_ms.to_le_bytes());
                }
                if out.len() - start > PIECE_BYTES {
                    break;
                }
            }
            return Some(fields.position());
        }
        ValueRef::Set(SetValue::Table(t)) => {
            if from == 0 {
                length(out, t.len() as u64);
            }
            let start = out.len();
            let mut members = t.iter_from(from);
            for _ in 0..PIECE_ELEMENTS {
                string(out, members.next()?.key);
                if out.len() - start > PIECE_BYTES {
                    break;
                }
            }
            return Some(members.position());
        }
        ValueRef::Zset(z @ ZsetValue::Ordered(_)) => {
            if from == 0 {
                length(out, z.len() as u64);
            }
            // From the greatest down, as Valkey writes it.
            let end = z.len() - from;
            let start = end.saturating_sub(PIECE_ELEMENTS);
            for (m, score) in z.range(start..end, true) {
                string(out, m.bytes(&mut None));
                out.extend_from_slice(&score.to_le_bytes());
            }
            return (start > 0).then_some(from + PIECE_ELEMENTS);
        }
        ValueRef::Stream(s) => return stream::piece(out, s, from),
    }
    None
}
