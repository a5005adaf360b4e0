//! The seam between "executed" and "acknowledged": one way to append a turn's effects, one way to
//! learn how far they are durable.

use holdfast_slot_migration::{ShardSlots, SlotRecord};
use std::any::Any;
use std::fmt;

/// A position in the shard's effect stream: the number of bytes of effects up to and including it.
/// The same figure is the replication offset in every mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct JournalPos(pub u64);

impl fmt::Display for JournalPos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Where a turn's effects go. The executor owns one and asks it on its own thread; nothing here may block.
pub trait Journal: Send {
    /// Appends the effects of one turn, or of several, as one entry and returns the position behind them. Never called
    /// with nothing.
    fn append(&mut self, effects: &[u8]) -> JournalPos;

    /// The position behind the last entry appended.
    fn position(&self) -> JournalPos;

    /// Up to where nothing can be lost any more. Only ever grows while one journal lives.
    fn durable(&self) -> JournalPos;

    /// How many entries are on their way to durability.
    fn in_flight(&self) -> usize {
        0
    }

    /// Takes the news that all up to `upto` is durable.
    fn on_durable(&mut self, upto: JournalPos);

    /// Whether anybody reads the effects. If not, the engine does not encode them and replies wait for nothing.
    fn wants_effects(&self) -> bool;

    /// Whether replies wait for [`Journal::durable`].
    fn gates_replies(&self) -> bool;

    /// Whether, by a clock read now, this node may still answer reads. Asked after they have executed.
    fn lease_valid(&self) -> bool;

    /// The shard's slots as its log has decided them; `None` where there is no such log.
    fn slots(&self) -> Option<&ShardSlots> {
        None
    }

    /// The term in which this node serves its shard, with everything before the term applied; `None` if it does not.
    fn serving(&self) -> Option<u64> {
        None
    }

    /// Proposes a slot record, behind all effects appended so far. `false` if this node does not serve.
    fn propose_slots(&mut self, _: SlotRecord) -> bool {
        false
    }

    /// Bytes that the effects of one command or transaction may have.
    fn entry_bytes_max(&self) -> usize {
        usize::MAX
    }

    /// Nodes other than this one that surely have everything up to `upto` on their disks.
    fn copies(&self, _upto: JournalPos) -> usize {
        0
    }

    /// Why no data command (`write`: no write) may be executed now, as the text of the error.
    fn refusal(&self, _write: bool) -> Option<&'static str> {
        None
    }

    /// Adds `name:value` lines of its own to `INFO durability`.
    fn info(&self, _out: &mut String) {}

    /// The implementation itself, for those who know which it is.
    fn as_any(&mut self) -> &mut dyn Any;
}

/// `durability async`: nothing waits, and nothing is encoded unless somebody follows.
#[derive(Debug, Default)]
pub struct AsyncJournal {
    position: JournalPos,
    wants_effects: bool,
    /// How far each follower has said that it is.
    acks: Vec<u64>,
}

impl AsyncJournal {
    /// Whether somebody reads the effects from now on.
    pub fn set_wants_effects(&mut self, wants: bool) {
        self.wants_effects = wants;
    }

    /// How far each follower has said that it is.
    pub fn set_acks(&mut self, acks: Vec<u64>) {
        self.acks = acks;
    }
}

impl Journal for AsyncJournal {
    fn append(&mut self, effects: &[u8]) -> JournalPos {
        self.position.0 += effects.len() as u64;
        self.position
    }

    fn position(&self) -> JournalPos {
        self.position
    }

    fn durable(&self) -> JournalPos {
        self.position
    }

    fn on_durable(&mut self, _: JournalPos) {}

    fn wants_effects(&self) -> bool {
        self.wants_effects
    }

    fn copies(&self, upto: JournalPos) -> usize {
        self.acks.iter().filter(|acked| **acked >= upto.0).count()
    }

    fn gates_replies(&self) -> bool {
        false
    }

    fn lease_valid(&self) -> bool {
        true
    }

    fn as_any(&mut self) -> &mut dyn Any {
        self
    }
}
