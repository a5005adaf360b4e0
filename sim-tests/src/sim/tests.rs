//! The clients and the judges against a store that is right by construction, and against ones that are not.

use super::boot;
use super::cluster_client::Clients;
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

/// The real executor, driver and commands, one process and no log: what clients see must be linearizable, and two
/// runs must be equal.
#[test]
fn one_server_by_itself() {
    let run = |seed: u64| {
        let record = Recorder::new();
        let recorder = record.clone();
        std::thread::spawn(move || {
            let runtime =
                madsim::runtime::Runtime::with_seed_and_config(seed, madsim::Config::default());
            runtime.block_on(async move {
                let mut plan = Plan::of(seed, Subject::Node);
                (plan.shards, plan.data_nodes, plan.witness) = (1, 1, false);
                plan.chaos_us = 5_000_000;
                plan.faults.clear();
                let world = World::new(plan, recorder, |machine| {
                    Box::pin(async move { boot::standalone(machine).await.unwrap() })
                });
                let over = Arc::new(std::sync::atomic::AtomicBool::new(false));
                let (outer, told) = (world.clone(), over.clone());
                madsim::runtime::Handle::current()
                    .create_node()
                    .ip("10.0.1.1".parse().unwrap())
                    .init(move || {
                        let (world, told) = (outer.clone(), told.clone());
                        async move {
                            let root = Rng::new(seed);
                            let clients = Clients::new(world.clone(), root.derive("clients", 0));
                            let running: Vec<_> = (0..4)
                                .map(|c| {
                                    let rng = root.derive("client", c as u64);
                                    madsim::task::spawn(workload::client(
                                        world.clone(),
                                        clients.clone(),
                                        c,
                                        12,
                                        rng,
                                    ))
                                })
                                .collect();
                            for task in running {
                                let _ = task.await;
                            }
                            workload::finish(world, clients, 12, root.derive("finish", 0)).await;
                            told.store(true, std::sync::atomic::Ordering::Relaxed);
                        }
                    })
                    .build();
                while !over.load(std::sync::atomic::Ordering::Relaxed) {
                    sleep(Duration::from_millis(20)).await;
                }
            });
        })
        .join()
        .unwrap();
        record
    };
    for seed in 0..3 {
        let record = run(seed);
        let (problems, given_up) = record.judge();
        assert_eq!((problems, given_up), (Vec::new(), 0), "seed {seed}");
        assert!(record.acked() > 200, "{}", record.acked());
    }
}
