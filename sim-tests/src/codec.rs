//! Operations and states as text, for the log subject's entries and snapshots.
//!
//! One operation a line: `object op key [value]`; a transaction is `object T n` and its `n` lines.

use crate::check::model::{Op, State, Val};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

/// Adds an operation's line or lines.
pub fn put_op(out: &mut String, object: u32, op: &Op) {
    let _ = match op {
        Op::Get(k) => writeln!(out, "{object} G {k} 0"),
        Op::Set(k, v) => writeln!(out, "{object} S {k} {v}"),
        Op::Del(k) => writeln!(out, "{object} D {k} 0"),
        Op::Incr(k) => writeln!(out, "{object} I {k} 0"),
        Op::RPush(k, v) => writeln!(out, "{object} P {k} {v}"),
        Op::LRange(k) => writeln!(out, "{object} L {k} 0"),
        Op::Txn(ops) => {
            let head = writeln!(out, "{object} T {} 0", ops.len());
            ops.iter().for_each(|op| put_op(out, object, op));
            head
        }
    };
}

/// Reads what [`put_op`] wrote; `None` if that is not what it is.
pub fn get_ops(text: &str) -> Option<Vec<(u32, Op)>> {
    let mut lines = text.lines();
    let mut out = Vec::new();
    while let Some(op) = get_op(&mut lines) {
        out.push(op?);
    }
    Some(out)
}

fn get_op<'a>(lines: &mut impl Iterator<Item = &'a str>) -> Option<Option<(u32, Op)>> {
    let line = lines.next()?;
    let parse = |lines: &mut dyn Iterator<Item = &'a str>| {
        let mut words = line.split(' ');
        let object: u32 = words.next()?.parse().ok()?;
        let op = words.next()?;
        let k: u8 = words.next()?.parse().ok()?;
        let v: u64 = words.next()?.parse().ok()?;
        Some((
            object,
            match op {
                "G" => Op::Get(k),
                "S" => Op::Set(k, v),
                "D" => Op::Del(k),
                "I" => Op::Incr(k),
                "P" => Op::RPush(k, v),
                "L" => Op::LRange(k),
                "T" => {
                    let mut ops = Vec::new();
                    for _ in 0..k {
                        let inner = lines.next()?;
                        ops.push(get_ops(inner)?.pop()?.1);
                    }
                    Op::Txn(ops)
                }
                _ => return None,
            },
        ))
    };
    Some(parse(lines))
}

/// All objects as text.
pub fn put_states(states: &BTreeMap<u32, State>) -> String {
    let mut out = String::new();
    for (object, state) in states {
        for (key, val) in state.entries() {
            let _ = match val {
                Val::Set(v) => writeln!(out, "{object} {key} S {v}"),
                Val::Count(n) => writeln!(out, "{object} {key} C {n}"),
                Val::List(l) => {
                    let items: Vec<String> = l.iter().map(u64::to_string).collect();
                    writeln!(out, "{object} {key} L {}", items.join(","))
                }
            };
        }
    }
    out
}

/// Reads what [`put_states`] wrote.
pub fn get_states(text: &str) -> Option<BTreeMap<u32, State>> {
    let mut out: BTreeMap<u32, State> = BTreeMap::new();
    for line in text.lines() {
        let mut words = line.split(' ');
        let object: u32 = words.next()?.parse().ok()?;
        let key: u8 = words.next()?.parse().ok()?;
        let kind = words.next()?;
        let body = words.next()?;
        let val = match kind {
            "S" => Val::Set(body.parse().ok()?),
            "C" => Val::Count(body.parse().ok()?),
            "L" => Val::List(Arc::new(
                body.split(',')
                    .map(|v| v.parse().ok())
                    .collect::<Option<_>>()?,
            )),
            _ => return None,
        };
        out.entry(object).or_default().insert(key, val);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        let ops = vec![
            (3, Op::Set(0, 7)),
            (9, Op::Txn(vec![Op::Set(0, 1), Op::Get(1), Op::Incr(2)])),
            (1, Op::RPush(0, 12)),
            (1, Op::RPush(0, 13)),
            (1, Op::Del(4)),
        ];
        let mut text = String::new();
        ops.iter().for_each(|(o, op)| put_op(&mut text, *o, op));
        assert_eq!(get_ops(&text), Some(ops.clone()));
        assert_eq!(get_ops("1 X 0 0\n"), None);
        let mut states: BTreeMap<u32, State> = BTreeMap::new();
        for (o, op) in &ops {
            states.entry(*o).or_default().run(op);
        }
        states.retain(|_, s| s.entries().next().is_some());
        assert_eq!(get_states(&put_states(&states)), Some(states));
    }
}
