//! What the executor does for the shard's log. Runs between turns, as tasks from the control thread.

use super::apply::{self, AppliedRecord, Effect, Fault};
use super::journal::QuorumJournal;
use super::load::{AUX_POSITION, AUX_SLOTS, to_hex};
use super::replica::{RecordId, Replica};
use crate::executor::Executor;
use crate::journal::JournalPos;
use crate::seam::Office as ServingOffice;
use bytes::Bytes;
use holdfast_cluster_bus::SlotSet as BusSlots;
use holdfast_engine::{ApplyState, Engine, SlotFilter, SlotSet, SnapshotId, SnapshotProgress};
use holdfast_raft_log::planted::planted;
use holdfast_raft_log::{Committed, EntryId, Office};
use holdfast_rdb::{RdbSink, RdbVersion};
use holdfast_slot_migration::{Applied, SlotRecord};
use std::collections::VecDeque;

/// Keys that one step of a snapshot passes at most.
const SNAPSHOT_STEP_KEYS: usize = 256;

/// What applying a batch came to.
#[derive(Debug, Default)]
pub struct AppliedBatch {
    /// Slot records among the entries, in order.
    pub records: Vec<AppliedRecord>,
    /// Entries not applied because the memory must be rebuilt first.
    pub rest: VecDeque<Committed>,
    /// The log contradicts this node's data: it must stop.
    pub fault: Option<Fault>,
}

/// A snapshot of the shard under way.
#[derive(Debug)]
pub struct ShardSnapshot {
    id: SnapshotId,
    /// Settled once everything that was executed at the begin is committed.
    mark: u64,
    position: JournalPos,
    /// The last entry and the slots, as of the moment when that was so.
    settled: Option<(EntryId, Vec<u8>)>,
    finished: bool,
}

/// What a step of a snapshot gave.
#[derive(Debug)]
pub enum SnapshotStep {
    /// More bytes of the file, perhaps none yet.
    Bytes(Vec<u8>),
    /// The last bytes of the file, and the last entry that it contains.
    Done(Vec<u8>, EntryId),
    /// The memory that it was taken from turned out not to be committed, or was replaced.
    Aborted,
}

impl Executor {
    /// The journal, if this node is under `durability quorum`.
    pub fn quorum(&mut self) -> Option<&mut QuorumJournal> {
        self.journal.as_any().downcast_mut()
    }

    fn replica(&mut self) -> Option<&mut Replica> {
        self.quorum().map(QuorumJournal::replica_mut)
    }

    /// Applies committed entries in order.
    pub fn apply_committed(&mut self, mut entries: VecDeque<Committed>) -> AppliedBatch {
        let mut batch = AppliedBatch::default();
        let now_ms = self.now.unix_ms();
        let mut durable = None;
        while let Some(entry) = entries.front() {
            let wants_touched = self.wants_touched();
            let Some(journal) = self.journal.as_any().downcast_mut::<QuorumJournal>() else {
                break;
            };
            let mut state = ApplyState::default();
            state.fx.set_wanted_events(self.fx.wanted_events());
            state.fx.set_track_touched(wants_touched);
            let replica = journal.replica_mut();
            match apply::apply(&mut self.engine, replica, entry, now_ms, &mut state) {
                Ok(Effect::Nothing) => {}
                Ok(Effect::Mine(upto)) => durable = Some(upto),
                Ok(Effect::Record(record)) => batch.records.push(record),
                Ok(Effect::Rebuild) => {
                    journal.distrust();
                    batch.rest = entries;
                    break;
                }
                Err(fault) => {
                    batch.fault = Some(fault);
                    break;
                }
            }
            entries.pop_front();
            self.settle_snapshot();
            self.deliver_applied(&state.fx.take_events());
            self.invalidate_applied(&state.fx);
        }
        if let Some(upto) = durable {
            self.on_durable(upto);
        }
        if batch.records.iter().any(|record| record.outcome.is_ok()) {
            self.own_slots();
        }
        for applied in &batch.records {
            if let Ok(Applied::HandedOff(_, job)) = &applied.outcome {
                self.invalidate_slots(job.slots.iter());
            }
            self.migrate_on_record(&applied.record, &applied.outcome);
        }
        batch
    }

    /// Takes the news of an election. Returns whether the memory must be rebuilt before this node can serve.
    pub fn take_office(&mut self, office: Office) -> bool {
        let Some(journal) = self.quorum() else {
            return false;
        };
        let rebuild = journal.replica_mut().on_office(office);
        if rebuild {
            journal.distrust();
        }
        self.show_office();
        rebuild
    }

    fn show_office(&mut self) {
        let Some(replica) = self.replica() else {
            return;
        };
        let office = match (replica.serving(), replica.office()) {
            (Some(office), _) => ServingOffice::Leader { term: office.term },
            (None, Office::Leader(office)) => ServingOffice::Follower { term: office.term },
            (None, Office::Follower { term, .. }) => ServingOffice::Follower { term: *term },
        };
        self.on_office(office);
        self.migrate_on_office();
    }

    /// Makes this node a member of a shard of which it holds nothing yet. The old engine is dropped here: it is empty,
    /// or the process has just started.
    pub fn enter_shard(&mut self, journal: QuorumJournal, engine: Engine) {
        self.fail_held_writes();
        self.gate.clear();
        self.snapshot = None;
        let settings = self.engine.config().clone();
        self.replace_engine(engine);
        *self.engine.config_mut() = settings;
        self.set_journal(Box::new(journal));
        self.show_slots();
        self.show_office();
    }

    /// Routing follows what the log has decided about slots.
    fn show_slots(&mut self) {
        self.own_slots();
        self.retry_parked();
    }

    fn own_slots(&mut self) {
        let before = self.owned_slots.take();
        let owned = self.replica().map(|replica| {
            let slots = replica.slots();
            let mut owned: BusSlots = slots.owned().iter().collect();
            if planted("source_keeps_serving") {
                let before = before.iter().flat_map(BusSlots::iter);
                before.for_each(|slot| {
                    owned.insert(slot);
                });
            }
            owned
        });
        self.owned_slots = owned;
    }

    /// Replaces the state of this node, after a rebuild or by a snapshot. Returns the old engine, to be dropped
    /// elsewhere: that takes long when it is large.
    pub fn install_state(&mut self, engine: Engine, mut replica: Replica) -> Option<Engine> {
        let journal = self.quorum()?;
        // What was held on the old state's positions is lost: no committed history contains it.
        let office = *journal.replica().office();
        let group = journal.group_cell();
        replica.continue_names(journal.replica());
        let rebuild = replica.on_office(office);
        debug_assert!(!rebuild, "a replica without proposals has nothing to lose");
        self.fail_held_writes();
        self.gate.clear();
        self.snapshot = None;
        self.set_journal(Box::new(QuorumJournal::new(replica, group)));
        let settings = self.engine.config().clone();
        let old = self.replace_engine(engine);
        *self.engine.config_mut() = settings;
        self.show_slots();
        self.show_office();
        Some(old)
    }

    /// Proposes a slot record, behind everything executed so far. `None` if this node does not serve its shard.
    pub fn propose_record(&mut self, record: SlotRecord) -> Option<RecordId> {
        self.flush_turn();
        self.quorum()?.propose_record(record)
    }

    /// Under `durability async`: slots that the bus gave to another node. Their keys go.
    pub fn lose_slots(&mut self, slots: SlotSet) {
        let gone = self.engine.flush_slots(&slots);
        self.invalidate_slots(slots.iter());
        tracing::info!(
            "Dropped {gone} keys of {} slots that another node owns now",
            slots.len()
        );
    }

    /// Begins a snapshot of everything, as of now. `None` if nothing was ever applied, or one is under way.
    pub fn begin_shard_snapshot(&mut self) -> Option<()> {
        self.flush_turn();
        if self.snapshot.is_some() {
            return None;
        }
        let replica = self.replica()?;
        let (mark, position) = (replica.mark(), replica.position());
        replica.last_applied()?;
        let mut sink = RdbSink::new(RdbVersion::V80);
        sink.writer
            .aux("valkey-ver", crate::COMPATIBLE_VALKEY_VERSION.as_bytes());
        sink.writer
            .aux("repl-offset", position.to_string().as_bytes());
        let id = self.engine.snapshot_begin(SlotFilter::All, Box::new(sink));
        self.snapshot = Some(ShardSnapshot {
            id,
            mark,
            position,
            settled: None,
            finished: false,
        });
        self.settle_snapshot();
        Some(())
    }

    /// Notes the moment when everything that the running snapshot contains is committed.
    fn settle_snapshot(&mut self) {
        let Some(snapshot) = &mut self.snapshot else {
            return;
        };
        if snapshot.settled.is_some() {
            return;
        }
        let Some(journal) = self.journal.as_any().downcast_mut::<QuorumJournal>() else {
            return;
        };
        let replica = journal.replica();
        if replica.is_settled(snapshot.mark)
            && let Some(last) = replica.last_applied()
        {
            snapshot.settled = Some((last, replica.slots().encode()));
        }
    }

    /// Takes the running snapshot one step further.
    pub fn step_shard_snapshot(&mut self) -> SnapshotStep {
        let Some(snapshot) = &mut self.snapshot else {
            return SnapshotStep::Aborted;
        };
        if !snapshot.finished {
            let progress = self.engine.snapshot_step(snapshot.id, SNAPSHOT_STEP_KEYS);
            snapshot.finished = matches!(progress, SnapshotProgress::Done);
            let id = snapshot.id;
            let bytes = self
                .engine
                .snapshot_sink(id)
                .and_then(|sink| sink.as_any_mut().downcast_mut::<RdbSink>())
                .map(|sink| sink.writer.take())
                .unwrap_or_default();
            return SnapshotStep::Bytes(bytes);
        }
        let Some((last, slots)) = snapshot.settled.take() else {
            return SnapshotStep::Bytes(Vec::new());
        };
        let (id, position) = (snapshot.id, snapshot.position);
        self.snapshot = None;
        let sink = self
            .engine
            .snapshot_finish(id)
            .map(|sink| sink.into_any().downcast::<RdbSink>());
        let Some(Ok(mut sink)) = sink else {
            return SnapshotStep::Aborted;
        };
        sink.writer
            .aux(AUX_POSITION, position.to_string().as_bytes());
        sink.writer.aux(AUX_SLOTS, to_hex(&slots).as_bytes());
        sink.writer.finish();
        SnapshotStep::Done(sink.writer.take(), last)
    }

    /// Gives up the running snapshot.
    pub fn abort_shard_snapshot(&mut self) {
        if let Some(snapshot) = self.snapshot.take() {
            self.engine.snapshot_abort(snapshot.id);
        }
    }

    /// The effects of the turn so far become an entry, so that what follows comes behind them.
    pub fn flush_turn(&mut self) {
        self.flush_effects();
    }
}

/// Bytes of a batch of entries, for splitting it.
pub fn payload_bytes(entry: &Committed) -> usize {
    entry.payload.as_ref().map_or(0, Bytes::len)
}
