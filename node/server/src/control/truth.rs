//! What the shard's log says and the bus must know. The executor has it, and may be busy for a long time: it is asked by
//! a task, so that the bus goes on meanwhile.

use crate::seam::{ExecutorGone, ExecutorHandle};
use holdfast_cluster_bus::{NodeId, ShardId, SlotSet};
use holdfast_slot_migration::ShardSlots;
use tokio::sync::mpsc;

/// See the module's description.
#[derive(Default)]
pub struct Spoken {
    /// Which shard says so; `None` if there is none.
    pub shard: Option<ShardId>,
    /// Its slots.
    pub owned: SlotSet,
    /// Handed off, and to which shards; nobody has confirmed it yet. Until then the bus must not take them for nobody's.
    pub leaving: Vec<(SlotSet, ShardId)>,
    /// `SETSLOT … MIGRATING`.
    pub migrating: Vec<(u16, NodeId)>,
    /// `SETSLOT … IMPORTING`.
    pub importing: Vec<(u16, NodeId)>,
}

fn spoken_for(slots: &ShardSlots) -> Spoken {
    let bus_node =
        |(slot, node): (u16, holdfast_slot_migration::NodeId)| (slot, NodeId::from_bytes(node.0));
    Spoken {
        shard: Some(ShardId::from_bytes(slots.shard().0)),
        owned: slots.owned().iter().collect(),
        leaving: slots
            .handed_off()
            .values()
            .map(|given| {
                (
                    given.slots.iter().collect(),
                    ShardId::from_bytes(given.target.0),
                )
            })
            .collect(),
        migrating: slots.all_migrating().map(bus_node).collect(),
        importing: slots.all_importing().map(bus_node).collect(),
    }
}

/// Asks the executor, one question at a time. Questions and their answers have numbers.
pub struct Truth {
    executor: ExecutorHandle,
    answers: mpsc::Receiver<Result<Spoken, ExecutorGone>>,
    answered: mpsc::Sender<Result<Spoken, ExecutorGone>>,
    asked: u64,
    under_way: bool,
    again: bool,
}

impl Truth {
    /// Nothing asked yet.
    pub fn new(executor: ExecutorHandle) -> Truth {
        let (answered, answers) = mpsc::channel(1);
        Truth {
            executor,
            answers,
            answered,
            asked: 0,
            under_way: false,
            again: false,
        }
    }

    /// Asks. The answer with the number returned, and each later one, is true of now or later.
    pub fn ask(&mut self) -> u64 {
        if self.under_way {
            self.again = true;
            return self.asked + 1;
        }
        self.start();
        self.asked
    }

    fn start(&mut self) {
        self.asked += 1;
        self.under_way = true;
        let (executor, answered) = (self.executor.clone(), self.answered.clone());
        tokio::spawn(async move {
            let answer = executor
                .run(|executor| {
                    let slots = executor.quorum().map(|journal| journal.replica().slots());
                    slots.map(spoken_for).unwrap_or_default()
                })
                .await;
            // The loop ends before its tasks do; then nobody wants to know.
            let _ = answered.send(answer).await;
        });
    }

    /// The next answer and its number. May be dropped and called again without loss.
    ///
    /// # Errors
    /// The executor has ended.
    pub async fn next(&mut self) -> Result<(u64, Spoken), ExecutorGone> {
        let Some(answer) = self.answers.recv().await else {
            // It holds a sender itself.
            return std::future::pending().await;
        };
        let number = self.asked;
        self.under_way = false;
        if std::mem::take(&mut self.again) {
            self.start();
        }
        Ok((number, answer?))
    }
}
