//! Linear-time oracles for long runs, where a full search would be too slow.
//!
//! They look for what every explanation of a history must satisfy: acknowledged writes are floors that later reads may not
//! fall below, nothing is seen before it was asked for, and reads do not go back in time. For append-only lists
//! of unique values, where each read shows the whole order, this is complete; for counters and registers it is
//! necessary, and the search in [`super::linear`] does the rest on shorter histories.

use super::model::{Op, Operation, Ret};
use std::collections::BTreeMap;

/// A broken promise, in words, with the operations' ids.
pub type Broken = String;

/// Judges one key's `RPUSH`es of unique values and its `LRANGE`s.
pub fn append_only_list(ops: &[Operation]) -> Result<(), Broken> {
    let mut longest: &[u64] = &[];
    let reads = || {
        ops.iter().filter_map(|o| match &o.ret {
            Some(Ret::List(l)) => Some((o, l)),
            _ => None,
        })
    };
    for (_, l) in reads() {
        if l.len() > longest.len() {
            longest = l;
        }
    }
    let mut index = BTreeMap::new();
    for (i, v) in longest.iter().enumerate() {
        if index.insert(*v, i).is_some() {
            return Err(format!("value {v} was applied twice"));
        }
    }
    for (o, l) in reads() {
        if !longest.starts_with(l) {
            return Err(format!(
                "read #{} is no prefix of the longest list: diverged or uncommitted state was shown",
                o.id
            ));
        }
    }
    let mut pushes = BTreeMap::new();
    for o in ops {
        if let Op::RPush(_, v) = o.op {
            pushes.insert(v, o);
        }
    }
    for v in longest {
        if !pushes.contains_key(v) {
            return Err(format!("value {v} was never pushed"));
        }
    }
    // Lower and upper bounds of the list's length over time: by every acknowledged push and every read.
    let mut floors: Vec<(u64, usize, u64)> = Vec::new();
    for o in ops {
        let (Some(at), Some(ret)) = (o.ret_us, &o.ret) else {
            continue;
        };
        match (&o.op, ret) {
            (Op::RPush(_, v), Ret::Int(len)) => {
                match index.get(v) {
                    Some(i) if *i as i64 + 1 == *len => {}
                    Some(i) => {
                        return Err(format!(
                            "push #{} was told length {len} and stands at {i}",
                            o.id
                        ));
                    }
                    // Acknowledged past the end of every read: judged below, against reads that came later.
                    None => {}
                }
                floors.push((at, usize::try_from(*len).unwrap_or(0), o.id));
            }
            (Op::LRange(_), Ret::List(l)) => floors.push((at, l.len(), o.id)),
            _ => {}
        }
    }
    floors.sort();
    let mut best = (0, 0);
    for f in &mut floors {
        best = best.max((f.1, f.2));
        (f.1, f.2) = best;
    }
    let floor_before = |t: u64| match floors.partition_point(|f| f.0 < t) {
        0 => (0, 0),
        n => (floors[n - 1].1, floors[n - 1].2),
    };
    // The earliest call of anything at or after a position bounds when a shorter list could last be seen.
    for o in ops {
        let Some(ret) = &o.ret else { continue };
        let len = match (&o.op, ret) {
            (Op::LRange(_), Ret::List(l)) => l.len(),
            (Op::RPush(..), Ret::Int(len)) => usize::try_from(len - 1).unwrap_or(0),
            _ => continue,
        };
        let (floor, by) = floor_before(o.call_us);
        if len < floor {
            return Err(format!(
                "#{} saw length {len} after #{by} had seen {floor}: an acknowledged write is missing or a read is stale",
                o.id
            ));
        }
        for v in longest.iter().take(len).rev().take(64) {
            let pushed = pushes[v];
            if o.ret_us.is_some_and(|t| pushed.call_us > t) {
                return Err(format!("#{} saw value {v} before it was pushed", o.id));
            }
        }
    }
    Ok(())
}

/// Judges one key's `INCR`s and `GET`s.
pub fn counter(ops: &[Operation]) -> Result<(), Broken> {
    let mut acked: Vec<u64> = Vec::new();
    let mut called: Vec<u64> = Vec::new();
    let mut answers = BTreeMap::new();
    for o in ops {
        if let Op::Incr(_) = o.op {
            called.push(o.call_us);
            if let (Some(ret_us), Some(Ret::Int(n))) = (o.ret_us, &o.ret) {
                acked.push(ret_us);
                if let Some(other) = answers.insert(*n, o.id) {
                    return Err(format!(
                        "#{} and #{other} were both told {n}: a lost update",
                        o.id
                    ));
                }
            }
        }
    }
    acked.sort_unstable();
    called.sort_unstable();
    for o in ops {
        let (Some(ret_us), Some(ret)) = (o.ret_us, &o.ret) else {
            continue;
        };
        let own = u64::from(matches!(o.op, Op::Incr(_)));
        let n = match ret {
            Ret::Int(n) => u64::try_from(*n).unwrap_or(0),
            Ret::Nil => 0,
            _ => continue,
        };
        let floor = acked.partition_point(|t| *t < o.call_us) as u64 + own;
        let ceiling = called.partition_point(|t| *t <= ret_us) as u64;
        if n < floor {
            return Err(format!(
                "#{} saw {n} when {floor} were acknowledged: a write is missing or a read is stale",
                o.id
            ));
        }
        if n > ceiling {
            return Err(format!(
                "#{} saw {n} when {ceiling} had been asked for: something was applied twice",
                o.id
            ));
        }
    }
    Ok(())
}

/// Judges one key's `SET`s of unique values and its `GET`s (histories with `DEL` are left to the search).
pub fn unique_register(ops: &[Operation]) -> Result<(), Broken> {
    let mut writes: BTreeMap<u64, &Operation> = BTreeMap::new();
    for o in ops {
        match o.op {
            Op::Set(_, v) => {
                writes.insert(v, o);
            }
            Op::Get(_) => {}
            _ => return Ok(()),
        }
    }
    // Of all acknowledged writes that were answered before t, the latest call: whatever was answered before that call
    // has been overwritten by t.
    let mut acked: Vec<(u64, u64, u64)> = writes
        .values()
        .filter_map(|o| o.ret_us.map(|r| (r, o.call_us, o.id)))
        .collect();
    acked.sort_unstable();
    let mut latest = (0, 0);
    for a in &mut acked {
        latest = latest.max((a.1, a.2));
        (a.1, a.2) = latest;
    }
    for o in ops {
        let (Some(ret_us), Some(ret)) = (o.ret_us, &o.ret) else {
            continue;
        };
        let n = acked.partition_point(|a| a.0 < o.call_us);
        let covered = n.checked_sub(1).map(|n| (acked[n].1, acked[n].2));
        match ret {
            Ret::Nil => {
                if let Some((_, by)) = covered {
                    return Err(format!(
                        "#{} saw nothing after #{by} was acknowledged: a write is missing",
                        o.id
                    ));
                }
            }
            Ret::Value(v) => {
                let Some(w) = writes.get(v) else {
                    return Err(format!("#{} saw {v}, which was never written", o.id));
                };
                if w.call_us > ret_us {
                    return Err(format!("#{} saw {v} before it was written", o.id));
                }
                if let (Some(w_ret), Some((call, by))) = (w.ret_us, covered)
                    && w_ret < call
                {
                    return Err(format!(
                        "#{} saw {v} of #{} although #{by} overwrote it: a stale read or a lost write",
                        o.id, w.id
                    ));
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// One expiring key's life, written once: `SET key value PX ttl`.
#[derive(Clone, Copy, Debug)]
pub struct Expiring {
    /// When the write was asked for and, if it was, acknowledged, in µs.
    pub call_us: u64,
    /// See `call_us`.
    pub ret_us: Option<u64>,
    /// Its time to live, in µs.
    pub ttl_us: u64,
}

/// Judges one read of an expiring key, where the nodes' clocks differ by at most `skew_us`.
pub fn expiry(
    w: &Expiring,
    read_call_us: u64,
    read_ret_us: u64,
    present: bool,
    skew_us: u64,
) -> Result<(), Broken> {
    if present {
        // At the latest it expires one time to live after it was executed, by the clock furthest behind.
        let last = w.ret_us.map(|r| r + w.ttl_us + skew_us);
        if last.is_some_and(|last| read_call_us > last) {
            return Err(format!(
                "a key was still there {} µs after it must have expired",
                read_call_us - last.unwrap_or(0)
            ));
        }
    } else if w.ret_us.is_some_and(|r| r < read_call_us)
        && read_ret_us + skew_us < w.call_us + w.ttl_us
    {
        return Err(format!(
            "an acknowledged key was gone {} µs before it could expire",
            w.call_us + w.ttl_us - read_ret_us
        ));
    }
    Ok(())
}

/// Runs every oracle that fits over a whole history, object by object and key by key.
pub fn check_all(operations: &[Operation]) -> Result<(), Broken> {
    let mut keys: BTreeMap<(u32, u8), Vec<Operation>> = BTreeMap::new();
    for o in operations {
        let key = match &o.op {
            Op::Get(k)
            | Op::Set(k, _)
            | Op::Del(k)
            | Op::Incr(k)
            | Op::RPush(k, _)
            | Op::LRange(k) => *k,
            Op::Txn(_) => continue,
        };
        keys.entry((o.object, key)).or_default().push(o.clone());
    }
    let transactional: std::collections::BTreeSet<u32> = operations
        .iter()
        .filter(|o| matches!(o.op, Op::Txn(_)))
        .map(|o| o.object)
        .collect();
    for ((object, key), ops) in &keys {
        if transactional.contains(object) {
            continue;
        }
        let judged = if ops
            .iter()
            .any(|o| matches!(o.op, Op::RPush(..) | Op::LRange(_)))
        {
            append_only_list(ops)
        } else if ops.iter().any(|o| matches!(o.op, Op::Incr(_))) {
            counter(ops)
        } else {
            unique_register(ops)
        };
        judged.map_err(|e| format!("object {object} key {key}: {e}"))?;
    }
    Ok(())
}
