//! Active defragmentation: what lies in nearly empty pages is moved together, in small steps, and the pages go back to the system.
//!
//! Only what lies in the slabs is moved, which is the many small pieces: entries, with strings up to a kilobyte in them, and the groups of the tables.

use crate::engine::Engine;
use crate::keyspace::slabs::Clearing;

/// Chunks of pages (1 MiB each) that are looked at in a step: some ten µs.
const CHUNKS_A_STEP: usize = 64;
/// Pieces looked at in a step, about.
const PIECES_A_STEP: u64 = 600;
/// To move one costs as much as to look at so many, the pages included that go back to the system.
const COST_OF_MOVE: u64 = 4;

/// A run under way.
#[derive(Default)]
pub(crate) struct Run {
    clearing: Clearing,
    stage: Stage,
    db: usize,
    slot: usize,
    cursor: u64,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Choosing,
    Moving,
    Releasing,
}

impl Engine {
    /// Begins to move together what lies apart, unless that is under way.
    pub fn defrag_begin(&mut self) {
        self.defrag.get_or_insert_default();
    }

    /// Whether a run is under way.
    pub fn is_defragging(&self) -> bool {
        self.defrag.is_some()
    }

    /// Gives the run up; what has been moved stays where it is.
    pub fn defrag_end(&mut self) {
        if let Some(run) = &mut self.defrag
            && run.stage != Stage::Releasing
        {
            run.stage = Stage::Releasing;
            run.clearing.rewind();
        }
    }

    /// Goes on with a run. Whether there is more to do.
    pub fn defrag_step(&mut self) -> bool {
        let Some(run) = &mut self.defrag else {
            return false;
        };
        match run.stage {
            Stage::Choosing => {
                if !run.clearing.choose_step(&mut self.slabs, CHUNKS_A_STEP) {
                    run.stage = Stage::Moving;
                }
            }
            Stage::Moving => {
                let mut moved = (0, 0);
                while moved.0 * COST_OF_MOVE + moved.1 < PIECES_A_STEP {
                    let Some(space) = self.dbs.get_mut(run.db) else {
                        run.stage = Stage::Releasing;
                        run.clearing.rewind();
                        break;
                    };
                    let Some(slot) = space.next_slot(run.slot) else {
                        (run.db, run.slot, run.cursor) = (run.db + 1, 0, 0);
                        continue;
                    };
                    if slot != run.slot {
                        (run.slot, run.cursor) = (slot, 0);
                    }
                    if let Some(table) = space.table_mut(slot) {
                        run.cursor = table.relocate(run.cursor, &mut self.slabs, &mut moved);
                    }
                    if run.cursor == 0 {
                        run.slot += 1;
                    }
                }
                self.stats.defrag_moved += moved.0;
                self.stats.defrag_left += moved.1;
            }
            Stage::Releasing => {
                if !run.clearing.release_step(&mut self.slabs, CHUNKS_A_STEP) {
                    self.defrag = None;
                }
            }
        }
        self.defrag.is_some()
    }
}
