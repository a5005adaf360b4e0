//! What one data node knows of its place in the shard's log: what it has executed, what of that is
//! committed, and whether its memory may be trusted. Pure: no I/O, no clock.
//!
//! ```text
//!   log        … committed ────────────────┐ proposed by me, not committed ─┐
//!   entries    [e1][e2][e3][e4]            │ [e5][e6][e7]                   │
//!   memory     e1 … e4 applied or executed │ e5 … e7 executed               │
//!                                 committed┘                        position┘
//! ```
//!
//! A primary executes first and proposes behind, so its memory is ahead of the commit by `pending`.
//! The rules that keep that honest:
//!
//! 1. Proposals are made only while *serving*: in office, which the group announces once everything before it
//!    is applied, and with nothing pending from an earlier office.
//! 2. A committed entry of the pending office and my own hand is the front of `pending`, in order: the log keeps a
//!    leader's order, and a proposal is never skipped (the group fences them to the office).
//! 3. A committed entry of a later leader while `pending` is not empty says that the rest of `pending` never
//!    commits: entries of one leader stand in the log before all of a later one. One term can have several leaders, the
//!    later with the greater id. So does an office of my own that begins while something is pending. Memory then holds what no history contains, and is thrown
//!    away ([`Step::Rebuild`]).
//!
//! Slot records are not executed ahead: they take effect when applied, on the primary too.

use super::entry::{Body, Entry, EntryError};
use crate::journal::JournalPos;
use bytes::Bytes;
use holdfast_raft_log::planted::planted;
use holdfast_raft_log::{Committed, EntryId, NodeId, Office, OfficeId};
use holdfast_slot_migration::{Applied, ShardSlots, SlotError, SlotRecord};
use std::collections::VecDeque;

/// Names a proposed slot record until its outcome is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordId(pub u64);

#[derive(Debug)]
enum PendingKind {
    Effects,
    Record(RecordId),
}

#[derive(Debug)]
struct Pending {
    office: OfficeId,
    start: JournalPos,
    end: JournalPos,
    kind: PendingKind,
}

/// What a committed entry asks of the executor.
#[derive(Debug)]
pub enum Step {
    /// Nothing to do to the data.
    Nothing,
    /// Executed here before: replies up to this position may leave.
    Mine(JournalPos),
    /// Effects of another node: to be applied to the engine.
    Effects(Bytes),
    /// A slot record has been applied to the slots; `mine` names it if it was proposed here.
    Record {
        /// The name that [`Replica::propose_record`] gave it, if this node proposed it.
        mine: Option<RecordId>,
        /// What it was.
        record: SlotRecord,
        /// What became of it: an error means that it changed nothing, on every member alike.
        outcome: Result<Applied, SlotError>,
    },
    /// The entry was not consumed: memory holds what will never commit. Rebuild the engine and the
    /// replica from the last snapshot and the committed log, then offer the entry again.
    Rebuild,
}

/// Committed entries whose place in the effect stream is remembered.
const ENDS_MAX: usize = 4096;

/// The replica's bookkeeping. Owned by the executor.
#[derive(Debug)]
pub struct Replica {
    me: NodeId,
    position: JournalPos,
    committed: JournalPos,
    last: Option<EntryId>,
    pending: VecDeque<Pending>,
    /// Where the newest committed entries with effects end, and their indexes.
    ends: VecDeque<(JournalPos, u64)>,
    /// Proposals made and proposals settled since this value was made; their difference is `pending.len()`.
    proposed: u64,
    settled: u64,
    next_record: u64,
    office: Office,
    slots: ShardSlots,
}

/// A proposal, ready for the group.
#[derive(Debug, PartialEq, Eq)]
pub struct Proposal {
    /// The office that it is fenced to.
    pub office: OfficeId,
    /// The encoded entry.
    pub payload: Bytes,
}

/// This node does not serve: nothing may be proposed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotServing;

/// The log contradicts what this node holds. Never to be survived: the node stops.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// An entry does not begin where the one before it ended.
    #[error("log entry {index} begins at position {start}, this node is at {at}")]
    Gap {
        /// Its index.
        index: u64,
        /// Where it says it begins.
        start: u64,
        /// Where this node's data ends.
        at: u64,
    },
    /// An entry cannot be read.
    #[error("log entry {index}: {error}")]
    Entry {
        /// Its index.
        index: u64,
        /// Why.
        error: EntryError,
    },
    /// An entry of this node's own hand is not the one that it proposed next.
    #[error(
        "log entry {index} is not what this node proposed (position {start}, expected {expected})"
    )]
    NotMine {
        /// Its index.
        index: u64,
        /// Where it begins.
        start: u64,
        /// Where the oldest proposal begins.
        expected: u64,
    },
    /// Entries come out of order.
    #[error("log entry {index} after {last}")]
    Order {
        /// Its index.
        index: u64,
        /// The last one applied.
        last: u64,
    },
}

impl Replica {
    /// A replica of an empty shard.
    pub fn new(me: NodeId, slots: ShardSlots) -> Replica {
        Replica::restored(me, slots, JournalPos(0), None)
    }

    /// A replica as a snapshot holds it: everything up to `last` is in memory and ends at `position`.
    pub fn restored(
        me: NodeId,
        slots: ShardSlots,
        position: JournalPos,
        last: Option<EntryId>,
    ) -> Replica {
        Replica {
            me,
            position,
            committed: position,
            last,
            pending: VecDeque::new(),
            ends: VecDeque::new(),
            proposed: 0,
            settled: 0,
            next_record: 0,
            office: Office::Follower {
                leader: None,
                term: 0,
            },
            slots,
        }
    }

    /// Goes on with the names of `before`, which this replica replaces: a name is never used twice.
    pub fn continue_names(&mut self, before: &Replica) {
        self.next_record = self.next_record.max(before.next_record);
    }

    /// This node.
    pub fn me(&self) -> NodeId {
        self.me
    }

    /// Behind everything executed here.
    pub fn position(&self) -> JournalPos {
        self.position
    }

    /// Behind everything committed and in memory here.
    pub fn committed(&self) -> JournalPos {
        self.committed
    }

    /// The last entry applied.
    pub fn last_applied(&self) -> Option<EntryId> {
        self.last
    }

    /// The shard's slots, as committed.
    pub fn slots(&self) -> &ShardSlots {
        &self.slots
    }

    /// Proposals without an outcome.
    pub fn pending_len(&self) -> usize {
        self.pending.len()
    }

    /// What the group says of this node's office.
    pub fn office(&self) -> &Office {
        &self.office
    }

    /// The office in which this node serves, if it does.
    pub fn serving(&self) -> Option<OfficeId> {
        match self.office {
            Office::Leader(office) if self.pending.iter().all(|p| p.office == office) => {
                Some(office)
            }
            Office::Leader(_) | Office::Follower { .. } => None,
        }
    }

    /// Takes the news of an election. Returns whether the memory is to be rebuilt before this node
    /// can serve: what an earlier office left pending is lost.
    #[must_use]
    pub fn on_office(&mut self, office: Office) -> bool {
        self.office = office;
        if matches!(office, Office::Leader(_)) && self.serving().is_none() {
            self.forgets_to_rebuild();
        }
        matches!(office, Office::Leader(_)) && self.serving().is_none()
    }

    /// The mistake of keeping memory that will never commit, where the simulator puts it back.
    fn forgets_to_rebuild(&mut self) -> bool {
        let forgets = planted("deposed_keeps_memory");
        if forgets {
            self.pending.clear();
            self.position = self.committed;
        }
        forgets
    }

    /// Makes an entry of effects that have been executed.
    ///
    /// # Errors
    /// This node does not serve; the effects must not have been executed.
    pub fn propose_effects(&mut self, effects: Bytes) -> Result<Proposal, NotServing> {
        let office = self.serving().ok_or(NotServing)?;
        let start = self.position;
        let end = JournalPos(start.0 + effects.len() as u64);
        self.position = end;
        self.push(office, start, end, PendingKind::Effects);
        Ok(Proposal {
            office,
            payload: Entry {
                start: start.0,
                body: Body::Effects(effects),
            }
            .encode(),
        })
    }

    /// Makes an entry of a slot record. It takes effect when it is applied.
    ///
    /// # Errors
    /// This node does not serve.
    pub fn propose_record(
        &mut self,
        record: SlotRecord,
    ) -> Result<(RecordId, Proposal), NotServing> {
        let office = self.serving().ok_or(NotServing)?;
        let id = RecordId(self.next_record);
        self.next_record += 1;
        let at = self.position;
        self.push(office, at, at, PendingKind::Record(id));
        let payload = Entry {
            start: at.0,
            body: Body::Record(record),
        }
        .encode();
        Ok((id, Proposal { office, payload }))
    }

    fn push(&mut self, office: OfficeId, start: JournalPos, end: JournalPos, kind: PendingKind) {
        self.proposed += 1;
        self.pending.push_back(Pending {
            office,
            start,
            end,
            kind,
        });
    }

    /// A mark behind everything proposed so far; see [`Replica::is_settled`].
    pub fn mark(&self) -> u64 {
        self.proposed
    }

    /// Whether everything proposed before the mark is committed and applied here.
    pub fn is_settled(&self, mark: u64) -> bool {
        self.settled >= mark
    }

    /// Names of slot records proposed here that have no outcome.
    pub fn pending_records(&self) -> Vec<RecordId> {
        let record = |p: &Pending| match p.kind {
            PendingKind::Record(id) => Some(id),
            PendingKind::Effects => None,
        };
        self.pending.iter().filter_map(record).collect()
    }

    fn note_end(&mut self, index: u64) {
        if self.ends.len() == ENDS_MAX {
            self.ends.pop_front();
        }
        self.ends.push_back((self.committed, index));
    }

    /// The entry that has the effects up to `position`, or a later one if that is long ago; `None` while it is not
    /// committed.
    pub fn entry_of(&self, position: JournalPos) -> Option<u64> {
        if position > self.committed {
            return None;
        }
        if position == JournalPos(0) {
            return Some(0);
        }
        let at = self.ends.partition_point(|(end, _)| *end < position);
        let known = self.ends.get(at).map(|(_, index)| *index);
        known.or(self.last.map(|last| last.index))
    }

    /// Takes the next committed entry.
    ///
    /// # Errors
    /// The log contradicts this node's data: the node must stop.
    pub fn on_committed(&mut self, entry: &Committed) -> Result<Step, Broken> {
        let index = entry.index;
        if let Some(last) = self.last
            && index <= last.index
        {
            return Err(Broken::Order {
                index,
                last: last.index,
            });
        }
        if let Some(front) = self.pending.front()
            && (entry.term, entry.leader) > (front.office.term, self.me)
            && !self.forgets_to_rebuild()
        {
            return Ok(Step::Rebuild);
        }
        let Some(payload) = &entry.payload else {
            self.last = Some(entry.id());
            return Ok(Step::Nothing);
        };
        let Entry { start, body } =
            Entry::decode(payload.clone()).map_err(|error| Broken::Entry { index, error })?;

        let mine = match self.pending.front() {
            Some(front) if front.office.proposed(self.me, entry) => {
                if front.start.0 != start {
                    return Err(Broken::NotMine {
                        index,
                        start,
                        expected: front.start.0,
                    });
                }
                self.pending.pop_front()
            }
            _ if start != self.position.0 => {
                return Err(Broken::Gap {
                    index,
                    start,
                    at: self.position.0,
                });
            }
            _ => None,
        };
        self.settled += u64::from(mine.is_some());
        self.last = Some(entry.id());
        match (body, mine) {
            (
                Body::Effects(_),
                Some(Pending {
                    end,
                    kind: PendingKind::Effects,
                    ..
                }),
            ) => {
                self.committed = end;
                self.note_end(index);
                Ok(Step::Mine(end))
            }
            (Body::Effects(effects), None) => {
                self.position = JournalPos(start + effects.len() as u64);
                self.committed = self.position;
                self.note_end(index);
                Ok(Step::Effects(effects))
            }
            (Body::Record(record), mine) => {
                let mine = match mine {
                    None => None,
                    Some(Pending {
                        kind: PendingKind::Record(id),
                        ..
                    }) => Some(id),
                    Some(front) => {
                        return Err(Broken::NotMine {
                            index,
                            start,
                            expected: front.start.0,
                        });
                    }
                };
                let outcome = self.slots.apply(&record);
                Ok(Step::Record {
                    mine,
                    record,
                    outcome,
                })
            }
            (Body::Effects(_), Some(front)) => Err(Broken::NotMine {
                index,
                start,
                expected: front.start.0,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_slot_migration::{ShardId, SlotRanges};

    const ME: NodeId = NodeId::from_bytes([1; 20]);
    const OTHER: NodeId = NodeId::from_bytes([2; 20]);

    fn replica() -> Replica {
        Replica::new(ME, ShardSlots::new(ShardId([9; 20])))
    }

    fn office(term: u64, first_index: u64) -> Office {
        Office::Leader(OfficeId { term, first_index })
    }

    fn entry(index: u64, term: u64, leader: NodeId, payload: Option<Bytes>) -> Committed {
        Committed {
            index,
            term,
            leader,
            payload,
        }
    }

    fn effects(start: u64, bytes: &'static [u8]) -> Bytes {
        Entry {
            start,
            body: Body::Effects(Bytes::from_static(bytes)),
        }
        .encode()
    }

    /// In office in term 1 since index 0, with two proposals of 3 and 2 bytes.
    fn leading() -> (Replica, Vec<Proposal>) {
        let mut replica = replica();
        assert!(!replica.on_office(office(1, 0)));
        assert!(matches!(
            replica.on_committed(&entry(0, 1, ME, None)),
            Ok(Step::Nothing)
        ));
        let one = replica.propose_effects(Bytes::from_static(b"abc")).unwrap();
        let two = replica.propose_effects(Bytes::from_static(b"de")).unwrap();
        (replica, vec![one, two])
    }

    #[test]
    fn a_leaders_own_entries_commit_in_order() {
        let (mut replica, proposals) = leading();
        assert_eq!(
            (replica.position(), replica.committed()),
            (JournalPos(5), JournalPos(0))
        );
        let mark = replica.mark();
        for (i, (proposal, end)) in proposals.into_iter().zip([3, 5]).enumerate() {
            assert!(!replica.is_settled(mark));
            let step = replica.on_committed(&entry(i as u64 + 1, 1, ME, Some(proposal.payload)));
            assert!(
                matches!(step, Ok(Step::Mine(at)) if at == JournalPos(end)),
                "{step:?}"
            );
        }
        assert!(replica.is_settled(mark));
        assert_eq!(replica.committed(), JournalPos(5));
    }

    #[test]
    fn the_entry_of_a_position_is_known_once_it_is_committed() {
        let (mut replica, proposals) = leading();
        assert_eq!(replica.entry_of(JournalPos(0)), Some(0));
        assert_eq!(replica.entry_of(JournalPos(3)), None);
        for (i, proposal) in proposals.into_iter().enumerate() {
            let committed = entry(i as u64 + 1, 1, ME, Some(proposal.payload));
            assert!(replica.on_committed(&committed).is_ok());
        }
        for (position, index) in [(1, 1), (3, 1), (4, 2), (5, 2)] {
            assert_eq!(replica.entry_of(JournalPos(position)), Some(index));
        }
        assert_eq!(replica.entry_of(JournalPos(6)), None);
        for i in 0..ENDS_MAX as u64 {
            let effects = replica.propose_effects(Bytes::from_static(b"x")).unwrap();
            let committed = entry(i + 3, 1, ME, Some(effects.payload));
            assert!(replica.on_committed(&committed).is_ok());
        }
        // Long ago: a later entry, which whoever has it has behind the right one.
        assert_eq!(replica.entry_of(JournalPos(3)), Some(3));
    }

    #[test]
    fn a_skipped_proposal_is_not_survived() {
        let (mut replica, proposals) = leading();
        let step = replica.on_committed(&entry(1, 1, ME, Some(proposals[1].payload.clone())));
        assert_eq!(
            step.unwrap_err(),
            Broken::NotMine {
                index: 1,
                start: 3,
                expected: 0
            }
        );
    }

    #[test]
    fn what_turns_out_committed_is_kept_and_the_rest_is_rebuilt() {
        let (mut replica, proposals) = leading();
        assert!(!replica.on_office(Office::Follower {
            leader: Some(OTHER),
            term: 2
        }));
        assert_eq!(replica.serving(), None);
        assert_eq!(
            replica.propose_effects(Bytes::from_static(b"x")),
            Err(NotServing)
        );
        let first = replica.on_committed(&entry(1, 1, ME, Some(proposals[0].payload.clone())));
        assert!(matches!(first, Ok(Step::Mine(JournalPos(3)))));
        // The other leader's opening entry is enough: the second proposal will never commit.
        assert!(matches!(
            replica.on_committed(&entry(2, 2, OTHER, None)),
            Ok(Step::Rebuild)
        ));
        assert_eq!(replica.last_applied().map(|last| last.index), Some(1));
    }

    #[test]
    fn a_later_leader_of_the_same_term_takes_over_as_well() {
        let (mut replica, _) = leading();
        let step = replica.on_committed(&entry(1, 1, OTHER, Some(effects(0, b"zz"))));
        assert!(matches!(step, Ok(Step::Rebuild)), "{step:?}");
        assert_eq!(replica.last_applied().map(|last| last.index), Some(0));
    }

    #[test]
    fn all_committed_means_nothing_to_rebuild() {
        let (mut replica, proposals) = leading();
        assert!(!replica.on_office(Office::Follower {
            leader: None,
            term: 1
        }));
        for (i, proposal) in proposals.into_iter().enumerate() {
            replica
                .on_committed(&entry(i as u64 + 1, 1, ME, Some(proposal.payload)))
                .unwrap();
        }
        let step = replica.on_committed(&entry(3, 2, OTHER, Some(effects(5, b"zz"))));
        assert!(matches!(step, Ok(Step::Effects(ref e)) if e.as_ref() == b"zz"));
        assert_eq!(replica.position(), JournalPos(7));
    }

    #[test]
    fn a_new_office_with_something_pending_serves_only_after_a_rebuild() {
        let (mut replica, _) = leading();
        assert!(replica.on_office(office(1, 7)));
        assert_eq!(replica.serving(), None);
    }

    #[test]
    fn entries_of_an_earlier_life_are_applied() {
        let mut replica = replica();
        let step = replica.on_committed(&entry(4, 1, ME, Some(effects(0, b"abc"))));
        assert!(matches!(step, Ok(Step::Effects(_))));
        assert_eq!(replica.committed(), JournalPos(3));
    }

    #[test]
    fn gaps_and_disorder_are_not_survived() {
        let mut replica = replica();
        replica
            .on_committed(&entry(4, 1, OTHER, Some(effects(0, b"abc"))))
            .unwrap();
        let gap = replica.on_committed(&entry(5, 1, OTHER, Some(effects(4, b"x"))));
        assert_eq!(
            gap.unwrap_err(),
            Broken::Gap {
                index: 5,
                start: 4,
                at: 3
            }
        );
        let again = replica.on_committed(&entry(4, 1, OTHER, None));
        assert_eq!(again.unwrap_err(), Broken::Order { index: 4, last: 4 });
    }

    #[test]
    fn records_take_effect_when_committed() {
        let (mut replica, proposals) = leading();
        let slots = SlotRanges::new(&[(0, 99)]).unwrap();
        let (id, proposal) = replica
            .propose_record(SlotRecord::Assign { slots })
            .unwrap();
        assert!(!replica.slots().owns(7));
        assert_eq!(replica.pending_records(), [id]);
        for (i, proposal) in proposals.into_iter().enumerate() {
            replica
                .on_committed(&entry(i as u64 + 1, 1, ME, Some(proposal.payload)))
                .unwrap();
        }
        match replica
            .on_committed(&entry(3, 1, ME, Some(proposal.payload)))
            .unwrap()
        {
            Step::Record { mine, outcome, .. } => {
                assert_eq!(mine, Some(id));
                assert!(matches!(outcome, Ok(Applied::Assigned(_))));
            }
            step => panic!("{step:?}"),
        }
        assert!(replica.slots().owns(7));
        assert_eq!(replica.pending_len(), 0);
    }
}
