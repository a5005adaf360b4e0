//! A committed entry, and what it does to the engine and the slots: the same on every member.

use super::replica::{Broken, RecordId, Replica, Step};
use crate::journal::JournalPos;
use holdfast_engine::{ApplyState, Engine, SlotSet};
use holdfast_raft_log::Committed;
use holdfast_raft_log::planted::planted;
use holdfast_slot_migration::{Applied, SlotError, SlotRanges, SlotRecord};

/// A slot record that has been applied. The control thread hears of each.
#[derive(Clone, Debug)]
pub struct AppliedRecord {
    /// Its name, if this node proposed it.
    pub mine: Option<RecordId>,
    /// What it was.
    pub record: SlotRecord,
    /// What became of it.
    pub outcome: Result<Applied, SlotError>,
}

/// What one entry came to.
#[derive(Debug)]
pub enum Effect {
    /// Nothing that anybody waits for.
    Nothing,
    /// Up to here this node's own effects are committed.
    Mine(JournalPos),
    /// A slot record took effect, or was refused.
    Record(AppliedRecord),
    /// The entry was not consumed; see [`Step::Rebuild`].
    Rebuild,
}

/// Why an entry cannot be applied. The node stops.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The log contradicts this node's data.
    #[error("{0}")]
    Broken(#[from] Broken),
    /// Effects that the engine refuses: its state is not that of the node that executed them.
    #[error("log entry {index}: {error}")]
    Effects {
        /// The entry's index.
        index: u64,
        /// Why.
        error: String,
    },
}

/// Applies one committed entry. `now_ms` is the unix time, for what is not decided by the entry (access times). `state` is a
/// fresh one; it lists what its owner wants to know of the changes.
///
/// # Errors
/// See [`Fault`]; the node must stop.
pub fn apply(
    engine: &mut Engine,
    replica: &mut Replica,
    entry: &Committed,
    now_ms: u64,
    state: &mut ApplyState,
) -> Result<Effect, Fault> {
    Ok(match replica.on_committed(entry)? {
        Step::Nothing => Effect::Nothing,
        Step::Mine(upto) => Effect::Mine(upto),
        Step::Effects(effects) => {
            engine
                .apply(&effects, state, now_ms)
                .map_err(|error| Fault::Effects {
                    index: entry.index,
                    error: error.to_string(),
                })?;
            Effect::Nothing
        }
        Step::Record {
            mine,
            record,
            outcome,
        } => {
            if let Ok(applied) = &outcome {
                follow(engine, replica, applied);
            }
            Effect::Record(AppliedRecord {
                mine,
                record,
                outcome,
            })
        }
        Step::Rebuild => Effect::Rebuild,
    })
}

/// Does to the keys what a slot record means for them.
fn follow(engine: &mut Engine, replica: &Replica, applied: &Applied) {
    match applied {
        Applied::HandedOff(..) if planted("source_keeps_serving") => {}
        Applied::HandedOff(_, job) => drop(engine.flush_slots(&engine_slots(&job.slots))),
        Applied::StagingDropped(_, job) => {
            engine.flush_slots(&engine_slots(&job.slots));
            hide_staged(engine, replica);
        }
        Applied::StagingBegun(_, job) => {
            // Leftovers of a slot that this shard does not own must not become part of it.
            engine.flush_slots(&engine_slots(&job.slots));
            hide_staged(engine, replica);
        }
        Applied::Adopted(..) => hide_staged(engine, replica),
        Applied::Assigned(_)
        | Applied::Unassigned(_)
        | Applied::Exported(_)
        | Applied::ExportAborted(..)
        | Applied::Staged(_)
        | Applied::Claimed(_)
        | Applied::ClaimDropped(..)
        | Applied::Forgotten(..)
        | Applied::SlotMarked(_) => {}
    }
}

/// Hides the keys of the slots that are being staged, and only those.
pub fn hide_staged(engine: &mut Engine, replica: &Replica) {
    engine.set_hidden_slots(replica.slots().hidden().iter().collect());
}

/// The same slots as the engine writes them.
pub fn engine_slots(slots: &SlotRanges) -> SlotSet {
    slots.iter().collect()
}
