//! Looks into every executor, again and again, while everything else goes on.

use crate::check::invariants::{Invariants, Judgement, Sighting};
use crate::history::Fnv;
use crate::record::Recorder;
use holdfast_server::executor::Executor;
use holdfast_server::seam::ExecutorHandle;
use madsim::time::sleep;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Between two looks.
const LOOK: Duration = Duration::from_millis(20);
/// Between two looks when the first has left a question.
const LOOK_AGAIN: Duration = Duration::from_millis(1);
/// Looks between two digests of a copy that has not moved.
const DIGEST_EVERY: u64 = 16;

/// What all nodes were seen to hold; clones are the same.
#[derive(Clone)]
pub struct Watch {
    record: Recorder,
    since: Instant,
    inner: Arc<Mutex<(Invariants, BTreeSet<String>)>>,
}

impl Watch {
    /// A watch over a run that began at `since`.
    pub fn new(record: Recorder, since: Instant) -> Watch {
        Watch {
            record,
            since,
            inner: Arc::default(),
        }
    }

    /// Looks at one node for as long as its executor lives.
    pub async fn over(self, machine: usize, executor: ExecutorHandle) {
        let mut last = None;
        for n in 0u64.. {
            let watch = self.clone();
            // A digest costs more than all else; a copy that has not moved is digested now and then.
            let known = last.filter(|_| n % DIGEST_EVERY > 0);
            // Judged on the spot, so that the order of judging is the order of what was seen.
            let look = move |executor: &mut Executor| watch.look(machine, executor, known);
            let Ok((index, again)) = executor.run(look).await else {
                return;
            };
            last = index;
            sleep(if again { LOOK_AGAIN } else { LOOK }).await;
        }
    }

    /// How often two copies were compared.
    pub fn compared(&self) -> u64 {
        let inner = self.inner.lock().unwrap_or_else(|e| e.into_inner());
        inner.0.compared()
    }

    /// Returns the index at which a digest was taken, and whether to look again soon.
    fn look(
        &self,
        machine: usize,
        executor: &mut Executor,
        known: Option<u64>,
    ) -> (Option<u64>, bool) {
        let Some(sighting) = sighting(machine, executor, known) else {
            return (None, false);
        };
        let digested = sighting.digest.map(|_| sighting.index).or(known);
        let mut inner = self.inner.lock().unwrap_or_else(|e| e.into_inner());
        let Judgement { broken, look_again } = inner.0.saw(sighting);
        for what in broken {
            // What is wrong once is wrong a hundred times.
            let kind: String = what.chars().filter(|c| !c.is_ascii_digit()).collect();
            if inner.1.insert(kind) {
                let now_us = self.since.elapsed().as_micros() as u64;
                self.record.problem(now_us, what);
            }
        }
        (digested, look_again)
    }
}

fn sighting(machine: usize, executor: &mut Executor, known: Option<u64>) -> Option<Sighting> {
    let term = executor
        .journal
        .serving()
        .filter(|_| executor.journal.lease_valid());
    let serves = term
        .zip(executor.owned_slots.as_ref())
        .map(|(term, slots)| {
            let mut bits = Vec::with_capacity(2048);
            slots.write_bitmap(&mut bits);
            (term, bits)
        });
    let unsent = !executor.fx.bytes().is_empty();
    let journal = executor.quorum()?;
    let whole = journal.readable() && journal.replica().pending_len() == 0 && !unsent;
    let replica = journal.replica();
    let index = replica.last_applied()?.index;
    let mut sighting = Sighting {
        machine,
        shard: replica.slots().shard().0,
        node: *replica.me().as_bytes(),
        index,
        digest: None,
        serves,
    };
    let slots = replica.slots().encode();
    sighting.digest = (whole && known != Some(index)).then(|| {
        let mut digest = Fnv::new();
        digest.update(&executor.engine.digest());
        digest.update(&slots);
        digest.finish()
    });
    Some(sighting)
}
