//! The clients and the judges against a store that is right by construction, and against ones that are not.

use super::workload::{self, Service};
use super::world::World;
use crate::check::model::{Op, State};
use crate::plan::{Plan, Subject};
use crate::record::{Outcome, Recorder};
use crate::rng::Rng;
use madsim::time::sleep;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

#[derive(Clone, Copy, PartialEq)]
enum Mistake {
    None,
    /// Sometimes an acknowledged write is not done.
    Loses,
    /// Sometimes a read shows what was there a while ago.
    Stale,
    /// Sometimes a write is done twice.
    Twice,
    /// Sometimes a read shows a write that is then undone.
    Dirty,
}

/// What is there now, and what was there a while ago.
type Inner = (Rng, BTreeMap<u32, State>, BTreeMap<u32, State>);

#[derive(Clone)]
struct Store {
    mistake: Mistake,
    inner: Arc<Mutex<Inner>>,
}

impl Service for Store {
    async fn attempt(&self, _client: usize, object: u32, op: &Op) -> Outcome {
        let draw = |n| self.inner.lock().unwrap().0.below(n);
        sleep(Duration::from_millis(draw(6))).await;
        if draw(20) == 0 {
            return Outcome::Refused;
        }
        let ret = {
            let mut guard = self.inner.lock().unwrap();
            let (rng, states, old) = &mut *guard;
            let wrong = rng.chance(0.05);
            if rng.chance(0.01) {
                *old = states.clone();
            }
            let state = states.entry(object).or_default();
            let before = state.clone();
            let ret = match self.mistake {
                Mistake::Stale if wrong && op.is_read() => {
                    old.get(&object).cloned().unwrap_or_default().run(op)
                }
                _ => state.run(op),
            };
            match self.mistake {
                Mistake::Loses if wrong => *state = before,
                Mistake::Twice if wrong => drop(state.run(op)),
                Mistake::Dirty if wrong && op.is_read() => {
                    *state = old.get(&object).cloned().unwrap_or_default()
                }
                _ => {}
            }
            ret
        };
        sleep(Duration::from_millis(draw(6))).await;
        if draw(40) == 0 {
            Outcome::Unknown
        } else {
            Outcome::Done(ret)
        }
    }
}

fn problems(seed: u64, mistake: Mistake) -> Vec<String> {
    let record = Recorder::new();
    let recorder = record.clone();
    std::thread::spawn(move || {
        let runtime =
            madsim::runtime::Runtime::with_seed_and_config(seed, madsim::Config::default());
        runtime.block_on(async move {
            let mut plan = Plan::of(seed, Subject::Log);
            plan.chaos_us = 10_000_000;
            plan.faults.clear();
            let world = World::new(plan, recorder, |_| Box::pin(std::future::pending()));
            let root = Rng::new(seed);
            let store = Store {
                mistake,
                inner: Arc::new(Mutex::new((
                    root.derive("store", 0),
                    BTreeMap::new(),
                    BTreeMap::new(),
                ))),
            };
            let clients: Vec<_> = (0..5)
                .map(|c| {
                    let rng = root.derive("client", c as u64);
                    madsim::task::spawn(workload::client(world.clone(), store.clone(), c, 8, rng))
                })
                .collect();
            for client in clients {
                let _ = client.await;
            }
            workload::finish(world, store, 8, root.derive("finish", 0)).await;
        });
    })
    .join()
    .unwrap();
    assert!(record.acked() > 300);
    let (problems, given_up) = record.judge();
    assert_eq!(given_up, 0, "seed {seed}");
    problems
}

#[test]
fn a_right_store_passes() {
    for seed in 0..12 {
        assert_eq!(
            problems(seed, Mistake::None),
            Vec::<String>::new(),
            "seed {seed}"
        );
    }
}

#[test]
fn wrong_stores_are_caught() {
    for mistake in [
        Mistake::Loses,
        Mistake::Stale,
        Mistake::Twice,
        Mistake::Dirty,
    ] {
        let caught = (0..4)
            .filter(|seed| !problems(*seed, mistake).is_empty())
            .count();
        assert_eq!(caught, 4);
    }
}
