//! Wing and Gong's linearizability checker with Lowe's memoization, for one object.
//!
//! The search walks the history's calls and returns in order of time and tries to let each pending
//! operation take effect at each point where it might have; a configuration (which operations have taken
//! effect, what the object holds) is visited once. An operation without an answer has no return, so it can be left
//! over at the end, which is the same as never. Two rules keep those from doubling the search each:
//!
//! - a read without an answer, and a write without one whose value nobody ever saw, are left out, where
//!   nobody could have noticed them;
//! - of several equal operations without an answer (lost `INCR`s) the earliest takes effect first: it can go
//!   wherever the later could.

use super::model::{Op, Operation, Ret, State};
use std::collections::{BTreeSet, HashSet};

/// The checker's judgement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Some order explains all answers.
    Linearizable,
    /// No order does. The operation (by id) whose answer fits none of the explanations that came furthest,
    /// and the ids that the longest explanation ordered.
    Violation {
        /// The operation that could not be explained.
        stuck: u64,
        /// The longest explanation's order.
        explained: Vec<u64>,
    },
    /// The search was given up after its budget of configurations.
    GaveUp,
}

const NONE: usize = usize::MAX;

/// Judges the operations of one object, visiting at most `budget` configurations.
pub fn check(operations: &[Operation], budget: usize) -> Verdict {
    let ops = relevant(operations);
    let n = ops.len();
    let known = ops.iter().filter(|o| o.ret_us.is_some()).count();
    // Events in order of time; at equal times calls come before returns, which only allows more orders.
    let mut events: Vec<(u64, bool, usize)> = Vec::with_capacity(2 * n);
    for (i, o) in ops.iter().enumerate() {
        events.push((o.call_us, false, i));
        if let Some(ret) = o.ret_us {
            events.push((ret, true, i));
        }
    }
    events.sort();
    // A doubly linked list over the events, with a head before them; operations are lifted out of it as
    // they take effect and put back when the search returns.
    let m = events.len();
    let head = m;
    let mut next: Vec<usize> = (1..=m).map(|i| if i == m { NONE } else { i }).collect();
    next.push(if m == 0 { NONE } else { 0 });
    let mut prev: Vec<usize> = (0..m).map(|i| if i == 0 { head } else { i - 1 }).collect();
    prev.push(NONE);
    let (mut call_at, mut ret_at) = (vec![NONE; n], vec![NONE; n]);
    for (e, (_, is_ret, i)) in events.iter().enumerate() {
        if *is_ret {
            ret_at[*i] = e
        } else {
            call_at[*i] = e
        }
    }
    let twin = earlier_twins(&ops);

    let mut state = State::default();
    let mut done = vec![0u64; n.div_ceil(64)];
    let mut seen: HashSet<(Vec<u64>, State)> = HashSet::new();
    let mut stack: Vec<(usize, State)> = Vec::new();
    let mut left = known;
    let mut best: (Vec<usize>, usize) = (Vec::new(), NONE);
    let mut entry = next[head];
    while left > 0 {
        let (_, is_ret, i) = events[entry];
        if !is_ret {
            let blocked = twin[i].is_some_and(|t: usize| done[t / 64] >> (t % 64) & 1 == 0);
            if !blocked {
                let mut after = state.clone();
                let ret = after.run(&ops[i].op);
                if ops[i].ret.as_ref().is_none_or(|r| *r == ret) {
                    done[i / 64] |= 1 << (i % 64);
                    if seen.insert((done.clone(), after.clone())) {
                        if seen.len() > budget {
                            return Verdict::GaveUp;
                        }
                        stack.push((i, std::mem::replace(&mut state, after)));
                        for e in [call_at[i], ret_at[i]] {
                            if e != NONE {
                                next[prev[e]] = next[e];
                                if next[e] != NONE {
                                    prev[next[e]] = prev[e];
                                }
                            }
                        }
                        left -= usize::from(ops[i].ret_us.is_some());
                        entry = next[head];
                        continue;
                    }
                    done[i / 64] &= !(1 << (i % 64));
                }
            }
            entry = next[entry];
            continue;
        }
        // A return of something that has not taken effect: this path explains no more.
        if best.1 == NONE || stack.len() > best.0.len() {
            best = (stack.iter().map(|(i, _)| *i).collect(), i);
        }
        let Some((i, before)) = stack.pop() else {
            return Verdict::Violation {
                stuck: ops[best.1].id,
                explained: best.0.iter().map(|i| ops[*i].id).collect(),
            };
        };
        state = before;
        done[i / 64] &= !(1 << (i % 64));
        for e in [ret_at[i], call_at[i]] {
            if e != NONE {
                next[prev[e]] = e;
                if next[e] != NONE {
                    prev[next[e]] = e;
                }
            }
        }
        left += usize::from(ops[i].ret_us.is_some());
        entry = next[call_at[i]];
    }
    Verdict::Linearizable
}

/// For each operation without an answer, the latest earlier one that equals it and has no answer either.
fn earlier_twins(ops: &[&Operation]) -> Vec<Option<usize>> {
    (0..ops.len())
        .map(|i| {
            let o = ops[i];
            if o.ret_us.is_some() {
                return None;
            }
            let earlier = |t: &usize| {
                let t = ops[*t];
                t.ret_us.is_none() && t.op == o.op && (t.call_us, t.id) < (o.call_us, o.id)
            };
            (0..ops.len())
                .filter(earlier)
                .max_by_key(|t| (ops[*t].call_us, ops[*t].id))
        })
        .collect()
}

/// The operations less those without an answer that cannot matter.
fn relevant(operations: &[Operation]) -> Vec<&Operation> {
    let mut shown = BTreeSet::new();
    let (mut only_sets, mut only_lists) = (true, true);
    let (mut last_range, mut last_push) = (0, 0);
    for o in operations {
        if let Some(ret) = &o.ret {
            ret.each_value(&mut |v| {
                shown.insert(v);
            });
        }
        o.op.each(&mut |op| match op {
            Op::Get(_) | Op::Set(..) => only_lists = false,
            Op::RPush(..) => {
                only_sets = false;
                last_push = last_push.max(o.ret_us.unwrap_or(0));
            }
            Op::LRange(_) => {
                only_sets = false;
                if o.ret_us.is_some() {
                    last_range = last_range.max(o.call_us);
                }
            }
            Op::Del(_) | Op::Incr(_) => (only_sets, only_lists) = (false, false),
            Op::Txn(_) => {}
        });
    }
    let unnoticed = |o: &Operation| {
        if o.op.is_read() {
            return true;
        }
        let mut all_unseen = true;
        o.op.each(&mut |op| match op {
            Op::Set(_, v) | Op::RPush(_, v) => all_unseen &= !shown.contains(v),
            Op::Get(_) | Op::LRange(_) => {}
            Op::Del(_) | Op::Incr(_) | Op::Txn(_) => all_unseen = false,
        });
        // Nobody saw its value, and nobody's answer depends on whether it was there: a SET is covered by
        // the next one; an RPUSH would have shown in the last LRANGE, which comes after every counted length.
        all_unseen && (only_sets || (only_lists && last_range >= last_push))
    };
    operations
        .iter()
        .filter(|o| o.ret_us.is_some() || !unnoticed(o))
        .collect()
}

/// Splits a history by object and judges each; the objects that are not linearizable or were given up on.
pub fn check_all(operations: &[Operation], budget: usize) -> Vec<(u32, Verdict)> {
    let mut by_object: std::collections::BTreeMap<u32, Vec<Operation>> =
        std::collections::BTreeMap::new();
    for o in operations {
        by_object.entry(o.object).or_default().push(o.clone());
    }
    by_object
        .into_iter()
        .map(|(object, ops)| (object, check(&ops, budget)))
        .filter(|(_, v)| *v != Verdict::Linearizable)
        .collect()
}

/// The lines of a violation that a person needs: the operations of the object around the one that is stuck.
pub fn explain(operations: &[Operation], object: u32, verdict: &Verdict) -> String {
    use std::fmt::Write as _;
    let mut out = String::new();
    let Verdict::Violation { stuck, explained } = verdict else {
        return format!("object {object}: {verdict:?}");
    };
    let _ = writeln!(
        out,
        "object {object}: no order explains operation {stuck}; the longest explanation has {} operations",
        explained.len()
    );
    let explained: BTreeSet<u64> = explained.iter().copied().collect();
    let Some(at) = operations.iter().find(|o| o.id == *stuck) else {
        return out;
    };
    let horizon = at.call_us.saturating_sub(3_000_000);
    for o in operations
        .iter()
        .filter(|o| o.object == object && !(o.op.is_read() && o.ret.is_none()))
    {
        if o.ret_us.is_some_and(|r| r < horizon) || o.call_us > at.ret_us.unwrap_or(u64::MAX) {
            continue;
        }
        let mark = if o.id == *stuck {
            '>'
        } else if explained.contains(&o.id) {
            ' '
        } else {
            '?'
        };
        let ret = short(o.ret.as_ref());
        let _ = writeln!(
            out,
            "{mark} #{} [{}, {}] {:?} -> {ret}",
            o.id,
            o.call_us,
            o.ret_us.map_or("never".into(), |r| r.to_string()),
            o.op
        );
    }
    out
}

fn short(ret: Option<&Ret>) -> String {
    match ret {
        None => "no answer".into(),
        Some(Ret::List(l)) if l.len() > 8 => format!(
            "List({} elements, the last {:?})",
            l.len(),
            &l[l.len() - 8..]
        ),
        Some(r) => format!("{r:?}"),
    }
}
