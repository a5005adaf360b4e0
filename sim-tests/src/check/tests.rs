use super::linear::{Verdict, check};
use super::model::{Op, Operation, Ret, State};
use super::oracle;
use crate::rng::Rng;

/// `(call, return, op, answer)`; a return of 0 means that no answer came.
fn history(lines: &[(u64, u64, Op, Ret)]) -> Vec<Operation> {
    lines
        .iter()
        .enumerate()
        .map(|(i, (call, ret, op, answer))| Operation {
            id: i as u64,
            object: 0,
            call_us: *call,
            ret_us: (*ret > 0).then_some(*ret),
            op: op.clone(),
            ret: (*ret > 0).then(|| answer.clone()),
        })
        .collect()
}

fn good(lines: &[(u64, u64, Op, Ret)]) {
    let h = history(lines);
    assert_eq!(check(&h, 1_000_000), Verdict::Linearizable);
    oracle::check_all(&h).unwrap();
}

/// Both judges must see it.
fn bad(lines: &[(u64, u64, Op, Ret)]) {
    bad_for_search(lines);
    assert!(
        oracle::check_all(&history(lines)).is_err(),
        "the oracle saw nothing"
    );
}

fn bad_for_search(lines: &[(u64, u64, Op, Ret)]) {
    assert!(
        matches!(check(&history(lines), 1_000_000), Verdict::Violation { .. }),
        "the search saw nothing"
    );
}

use Op::{Del, Get, Incr, LRange, RPush, Set, Txn};
use Ret::{Int, List, Many, Nil, Ok as Done, Value};

#[test]
fn registers() {
    good(&[(1, 2, Set(0, 7), Done), (3, 4, Get(0), Value(7))]);
    // Overlapping: either order.
    good(&[
        (1, 9, Set(0, 7), Done),
        (2, 3, Get(0), Nil),
        (4, 5, Get(0), Value(7)),
    ]);
    bad_for_search(&[
        (1, 9, Set(0, 7), Done),
        (2, 3, Get(0), Value(7)),
        (4, 5, Get(0), Nil),
    ]);
    // A lost write, a stale read, a value from nowhere.
    bad(&[(1, 2, Set(0, 7), Done), (3, 4, Get(0), Nil)]);
    bad(&[
        (1, 2, Set(0, 7), Done),
        (3, 4, Set(0, 8), Done),
        (5, 6, Get(0), Value(7)),
    ]);
    bad(&[(1, 2, Set(0, 7), Done), (3, 4, Get(0), Value(9))]);
    good(&[
        (1, 2, Set(0, 7), Done),
        (3, 4, Del(0), Int(1)),
        (5, 6, Get(0), Nil),
    ]);
    bad_for_search(&[(1, 2, Set(0, 7), Done), (3, 4, Del(0), Int(0))]);
}

#[test]
fn unknown_outcomes_take_effect_late_or_never() {
    good(&[
        (1, 0, Set(0, 7), Done),
        (2, 3, Get(0), Nil),
        (4, 5, Get(0), Value(7)),
    ]);
    good(&[
        (1, 0, Set(0, 7), Done),
        (2, 3, Get(0), Nil),
        (100, 101, Get(0), Nil),
    ]);
    // Once seen, it does not go away again.
    bad_for_search(&[
        (1, 0, Set(0, 7), Done),
        (2, 3, Get(0), Value(7)),
        (4, 5, Get(0), Nil),
    ]);
    // Nor is it seen before it was asked for.
    bad(&[(2, 3, Get(0), Value(7)), (4, 0, Set(0, 7), Done)]);
    // It may come between two later writes, but then not after both.
    good(&[
        (1, 0, Set(0, 7), Done),
        (2, 3, Set(0, 8), Done),
        (4, 5, Get(0), Value(7)),
        (6, 7, Set(0, 9), Done),
        (8, 9, Get(0), Value(9)),
    ]);
    bad_for_search(&[
        (1, 0, Set(0, 7), Done),
        (2, 3, Set(0, 8), Done),
        (4, 5, Get(0), Value(7)),
        (6, 7, Set(0, 9), Done),
        (8, 9, Get(0), Value(7)),
    ]);
}

#[test]
fn counters() {
    good(&[
        (1, 5, Incr(0), Int(2)),
        (2, 6, Incr(0), Int(1)),
        (7, 8, Get(0), Int(2)),
    ]);
    good(&[
        (1, 0, Incr(0), Done),
        (2, 0, Incr(0), Done),
        (3, 4, Incr(0), Int(2)),
        (5, 6, Get(0), Int(3)),
    ]);
    // A lost update, a duplicated apply, a lost write.
    bad(&[(1, 5, Incr(0), Int(1)), (2, 6, Incr(0), Int(1))]);
    bad(&[(1, 2, Incr(0), Int(1)), (3, 4, Get(0), Int(2))]);
    bad(&[(1, 0, Incr(0), Done), (3, 4, Incr(0), Int(3))]);
    bad(&[(1, 2, Incr(0), Int(1)), (3, 4, Get(0), Nil)]);
}

#[test]
fn lists() {
    good(&[
        (1, 2, RPush(0, 1), Int(1)),
        (3, 0, RPush(0, 2), Done),
        (4, 5, RPush(0, 3), Int(2)),
        (6, 7, LRange(0), List(vec![1, 3])),
    ]);
    good(&[
        (1, 2, RPush(0, 1), Int(1)),
        (3, 0, RPush(0, 2), Done),
        (4, 5, RPush(0, 3), Int(3)),
        (6, 7, LRange(0), List(vec![1, 2, 3])),
    ]);
    // Lost, stale, twice, diverged, dirty.
    bad(&[(1, 2, RPush(0, 1), Int(1)), (3, 4, LRange(0), List(vec![]))]);
    bad(&[
        (1, 2, RPush(0, 1), Int(1)),
        (3, 4, RPush(0, 2), Int(2)),
        (5, 6, LRange(0), List(vec![1])),
        (7, 8, LRange(0), List(vec![1, 2])),
    ]);
    bad(&[
        (1, 0, RPush(0, 1), Done),
        (3, 4, LRange(0), List(vec![1, 1])),
    ]);
    bad(&[
        (1, 0, RPush(0, 1), Done),
        (1, 0, RPush(0, 2), Done),
        (3, 4, LRange(0), List(vec![1])),
        (5, 6, LRange(0), List(vec![2])),
    ]);
    bad(&[
        (1, 0, RPush(0, 1), Done),
        (2, 3, LRange(0), List(vec![1])),
        (4, 5, LRange(0), List(vec![])),
    ]);
    bad(&[
        (1, 2, LRange(0), List(vec![1])),
        (3, 4, RPush(0, 1), Int(1)),
    ]);
}

#[test]
fn transactions_are_whole_or_not_at_all() {
    let write = |v| Txn(vec![Set(0, v), Set(1, v)]);
    let read = || Txn(vec![Get(0), Get(1)]);
    let ok = || Many(vec![Done, Done]);
    good(&[
        (1, 2, write(1), ok()),
        (3, 4, read(), Many(vec![Value(1), Value(1)])),
    ]);
    good(&[(1, 0, write(1), ok()), (3, 4, read(), Many(vec![Nil, Nil]))]);
    bad_for_search(&[
        (1, 0, write(1), ok()),
        (3, 4, read(), Many(vec![Value(1), Nil])),
    ]);
    bad_for_search(&[
        (1, 2, write(1), ok()),
        (3, 9, write(2), ok()),
        (4, 5, read(), Many(vec![Value(2), Value(1)])),
    ]);
}

#[test]
fn expiries() {
    let w = oracle::Expiring {
        call_us: 100,
        ret_us: Some(110),
        ttl_us: 1000,
    };
    assert!(oracle::expiry(&w, 200, 210, true, 50).is_ok());
    assert!(oracle::expiry(&w, 200, 210, false, 50).is_err());
    assert!(oracle::expiry(&w, 1120, 1130, true, 50).is_ok());
    assert!(oracle::expiry(&w, 1200, 1210, true, 50).is_err());
    assert!(oracle::expiry(&w, 1200, 1210, false, 50).is_ok());
}

/// Random histories of a correct object: clients overlap, answers get lost, effects of lost ones come late or never.
fn correct_history(rng: &mut Rng, kind: u64, len: usize) -> Vec<Operation> {
    let mut state = State::default();
    let mut pending: Vec<(u64, Op)> = Vec::new();
    let mut out = Vec::new();
    let mut clients = [0u64; 4];
    let mut now = 10;
    for id in 0..len as u64 {
        now += rng.below(5) + 1;
        let c = rng.index(clients.len());
        let call_us = now.max(clients[c] + 1);
        let op = match (kind, rng.below(3)) {
            (0, 0) => Get(0),
            (0, 1) => Set(0, id + 1),
            (0, _) => {
                if rng.chance(0.3) {
                    Del(0)
                } else {
                    Get(0)
                }
            }
            (1, 0) => Get(0),
            (1, _) => Incr(0),
            (2, 0) => LRange(0),
            (2, _) => RPush(0, id + 1),
            (_, 0) => Txn(vec![Get(0), Get(1)]),
            (_, _) => Txn(vec![Set(0, id + 1), Set(1, id + 1)]),
        };
        if rng.chance(0.1) {
            pending.push((call_us, op.clone()));
            out.push(Operation {
                id,
                object: 0,
                call_us,
                ret_us: None,
                op,
                ret: None,
            });
            clients[c] = call_us;
            continue;
        }
        if !pending.is_empty() && rng.chance(0.3) {
            let i = rng.index(pending.len());
            if pending[i].0 <= call_us {
                let (_, late) = pending.swap_remove(i);
                state.run(&late);
            }
        }
        let ret = state.run(&op);
        // It took effect at `call_us` plus a little; widen the answer past that, overlapping the next ones.
        let ret_us = call_us + 1 + rng.below(12);
        clients[c] = ret_us;
        now = now.max(call_us);
        out.push(Operation {
            id,
            object: 0,
            call_us,
            ret_us: Some(ret_us),
            op,
            ret: Some(ret),
        });
    }
    out
}

#[test]
fn correct_histories_pass_and_spoiled_ones_do_not() {
    let mut caught = [0; 4];
    let mut spoiled_total = [0; 4];
    for seed in 0..400u64 {
        let kind = seed % 4;
        let mut rng = Rng::new(seed);
        let h = correct_history(&mut rng, kind, 60);
        assert_eq!(check(&h, 2_000_000), Verdict::Linearizable, "seed {seed}");
        oracle::check_all(&h).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        // Give one read the answer of an earlier one: a stale read, when the answers differ.
        let reads: Vec<usize> = (0..h.len())
            .filter(|i| h[*i].op.is_read() && h[*i].ret.is_some())
            .collect();
        let (Some(first), Some(last)) = (reads.first(), reads.last()) else {
            continue;
        };
        if h[*first].ret == h[*last].ret {
            continue;
        }
        let mut spoiled = h.clone();
        spoiled[*last].ret = h[*first].ret.clone();
        spoiled_total[kind as usize] += 1;
        caught[kind as usize] += usize::from(matches!(
            check(&spoiled, 2_000_000),
            Verdict::Violation { .. }
        ));
    }
    for kind in 0..4 {
        assert!(
            caught[kind] * 10 >= spoiled_total[kind] * 7 && caught[kind] > 20,
            "{caught:?} of {spoiled_total:?}"
        );
    }
}

#[test]
fn long_histories_are_judged_in_time() {
    let mut rng = Rng::new(5);
    for kind in 0..4 {
        let h = correct_history(&mut rng, kind, 2000);
        assert_ne!(
            check(&h, 3_000_000),
            Verdict::Violation {
                stuck: 0,
                explained: vec![]
            }
        );
        oracle::check_all(&h).unwrap();
    }
}
