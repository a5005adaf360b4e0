//! The replicated slot state of one shard.
//!
//! # What may be forgotten, and when
//!
//! An outcome is the source's to keep: the target's question "was job J handed off?" must have the
//! same answer for ever. Three facts keep the memory small.
//!
//! 1. *Aborted is what unknown means.* A job exists in the source's log (`Export`) before the target
//!    hears of it, and `HandOff` needs a live export. So once `Abort` has removed the export, no
//!    hand-off of that job can ever be committed, and "unknown" and "aborted" are one answer. Job
//!    ids are drawn by the source and never reused, so nobody can bring the job back.
//! 2. *A hand-off is kept until the target has adopted.* Adoption ends the target's doubt; nobody
//!    asks afterwards, and a late duplicate of the question is ignored by a target that has no such
//!    job open. The source forgets (`Forget`) when the target shard has confirmed, or when a slot of
//!    the job comes back by an `Adopt`: whoever handed it to us must have owned it.
//! 3. *Everything kept is disjoint in slots.* Live exports hold owned slots; a slot is handed off
//!    only while owned, and is owned again only by an `Adopt`, which forgets the earlier hand-off
//!    (`Assign` is refused meanwhile); stagings and claims exclude each other. So each of the four
//!    maps below holds at most 16384 entries, however long the cluster lives.

use std::collections::BTreeMap;
use std::fmt;

use crate::{JobId, NodeId, ShardId, SlotRanges, SlotRecord, SlotSet};

/// A job of which this shard is the source, not decided yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Export {
    /// Slots to move.
    pub slots: SlotRanges,
    /// The shard that shall own them.
    pub target: ShardId,
    /// The node it was started towards.
    pub target_node: NodeId,
}

/// A job that this shard has handed off and whose adoption is not confirmed yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandedOff {
    /// Slots that the target owns.
    pub slots: SlotRanges,
    /// The shard that owns them.
    pub target: ShardId,
    /// The node it was started towards: where to try first.
    pub target_node: NodeId,
}

/// A job of which this shard is the target, whose data is (or was) coming in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Staging {
    /// Slots to move; hidden from clients here.
    pub slots: SlotRanges,
    /// The shard that decides.
    pub source: ShardId,
    /// The node that opened the link.
    pub source_node: NodeId,
    /// `Some(position)` once all of the data is in the log: in doubt until the source has answered.
    pub staged: Option<u64>,
}

/// A hand-off that this shard has asked for in the older way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Slots to move.
    pub slots: SlotRanges,
    /// The shard that decides.
    pub source: ShardId,
}

/// What a source shard says about one of its jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobOutcome {
    /// Exported, neither handed off nor aborted. Never an answer to a target: commit
    /// [`SlotRecord::Abort`] first, then look again.
    Undecided,
    /// Handed off.
    HandedOff,
    /// Aborted, or unknown, which is the same.
    Aborted,
}

/// What an applied record means for the data and the routing of this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Applied {
    /// The slots are this shard's now.
    Assigned(SlotRanges),
    /// The slots are nobody's now.
    Unassigned(SlotRanges),
    /// A job may connect to its target now.
    Exported(JobId),
    /// Answer `-MOVED` for the slots from here on and drop their keys.
    HandedOff(JobId, HandedOff),
    /// A job of this source is off; writes to its slots go on.
    ExportAborted(JobId, Export),
    /// Hide the slots: their keys, from here on in the log, are staged.
    StagingBegun(JobId, Staging),
    /// The staging is complete and in doubt.
    Staged(JobId),
    /// The slots are this shard's now: show their keys, tell the bus.
    Adopted(JobId, SlotRanges),
    /// Drop the keys of the slots and stop hiding them.
    StagingDropped(JobId, Staging),
    /// The claim is in doubt until the source has answered.
    Claimed(JobId),
    /// The claim is off; its keys stay.
    ClaimDropped(JobId, Claim),
    /// A hand-off is confirmed: the slots may be said to be the target's.
    Forgotten(JobId, HandedOff),
    /// The migrating or importing state of one slot has changed.
    SlotMarked(u16),
}

/// Why a record is not a legal step from the present state. The record then changes nothing, on
/// every member alike: it is an answer to whoever proposed it, not a fault of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotError {
    /// No slot named.
    NoSlots,
    /// The shard does not own the slot.
    NotOwned(u16),
    /// The shard owns the slot already.
    AlreadyOwned(u16),
    /// An undecided job moves the slot away.
    BeingExported(u16),
    /// A staging or a claim of another job has the slot.
    BeingImported(u16),
    /// The slot was handed off and its adoption is not confirmed.
    HandOffUnconfirmed(u16),
    /// Source and target are the same shard.
    SameShard,
    /// The id belongs to another job of this shard.
    DuplicateJob(JobId),
    /// No such job, or it is over.
    UnknownJob(JobId),
    /// The job has been handed off: it can no longer be aborted.
    AlreadyHandedOff(JobId),
    /// The job's data has not all come.
    NotStaged(JobId),
    /// The job has been declared complete before.
    AlreadyStaged(JobId),
}

impl fmt::Display for SlotError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SlotError::NoSlots => write!(f, "no slots named"),
            SlotError::NotOwned(s) => write!(f, "slot {s} is not owned by this shard"),
            SlotError::AlreadyOwned(s) => write!(f, "slot {s} is already owned by this shard"),
            SlotError::BeingExported(s) => write!(f, "slot {s} is being migrated away"),
            SlotError::BeingImported(s) => write!(f, "slot {s} is already being imported"),
            SlotError::HandOffUnconfirmed(s) => {
                write!(
                    f,
                    "slot {s} was handed off and its new owner has not confirmed yet"
                )
            }
            SlotError::SameShard => write!(f, "source and target are the same shard"),
            SlotError::DuplicateJob(j) => write!(f, "job {j} exists already"),
            SlotError::UnknownJob(j) => write!(f, "job {j} is unknown or over"),
            SlotError::AlreadyHandedOff(j) => write!(f, "job {j} has been handed off"),
            SlotError::NotStaged(j) => write!(f, "job {j} is not completely staged"),
            SlotError::AlreadyStaged(j) => write!(f, "job {j} is completely staged already"),
        }
    }
}

impl std::error::Error for SlotError {}

/// What a new primary has to bring to an end. See [`ShardSlots::unfinished`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unfinished {
    /// Propose `Abort`: the job's driver is gone, and it was not decided.
    AbortExport(JobId),
    /// Tell the target shard until it confirms, then propose `Forget`.
    DeliverHandOff(JobId, HandedOff),
    /// Propose `Abort`: not all data came, so the source cannot have handed off.
    AbortStaging(JobId),
    /// Ask the source shard until it answers, then propose `Adopt` or `Abort`.
    ResolveStaging(JobId, Staging),
    /// The same for a claim.
    ResolveClaim(JobId, Claim),
}

/// The slots of one shard, as its log has decided them. Part of the replicated state: the same on
/// every member at the same log position, and part of every snapshot ([`ShardSlots::encode`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardSlots {
    pub(crate) me: ShardId,
    pub(crate) owned: SlotSet,
    pub(crate) exports: BTreeMap<JobId, Export>,
    pub(crate) handed_off: BTreeMap<JobId, HandedOff>,
    pub(crate) stagings: BTreeMap<JobId, Staging>,
    pub(crate) claims: BTreeMap<JobId, Claim>,
    pub(crate) migrating: BTreeMap<u16, NodeId>,
    pub(crate) importing: BTreeMap<u16, NodeId>,
}

impl ShardSlots {
    /// A shard without slots.
    pub fn new(me: ShardId) -> Self {
        Self {
            me,
            owned: SlotSet::default(),
            exports: BTreeMap::new(),
            handed_off: BTreeMap::new(),
            stagings: BTreeMap::new(),
            claims: BTreeMap::new(),
            migrating: BTreeMap::new(),
            importing: BTreeMap::new(),
        }
    }

    /// The shard that this is the state of.
    pub fn shard(&self) -> ShardId {
        self.me
    }

    /// The slots that the shard owns.
    pub fn owned(&self) -> &SlotSet {
        &self.owned
    }

    /// Whether the shard owns the slot.
    pub fn owns(&self, slot: u16) -> bool {
        self.owned.contains(slot)
    }

    /// Undecided jobs of which this shard is the source.
    pub fn exports(&self) -> &BTreeMap<JobId, Export> {
        &self.exports
    }

    /// Jobs handed off and not yet confirmed.
    pub fn handed_off(&self) -> &BTreeMap<JobId, HandedOff> {
        &self.handed_off
    }

    /// Jobs of which this shard is the target. Their slots are hidden.
    pub fn stagings(&self) -> &BTreeMap<JobId, Staging> {
        &self.stagings
    }

    /// Claims in the older way.
    pub fn claims(&self) -> &BTreeMap<JobId, Claim> {
        &self.claims
    }

    /// The slots whose keys no client may see.
    pub fn hidden(&self) -> SlotSet {
        let mut set = SlotSet::default();
        for staging in self.stagings.values() {
            set.insert_all(&staging.slots);
        }
        set
    }

    /// Where `SETSLOT … MIGRATING` sends the slot's keys.
    pub fn migrating(&self, slot: u16) -> Option<NodeId> {
        self.migrating.get(&slot).copied()
    }

    /// Where `SETSLOT … IMPORTING` gets the slot's keys from.
    pub fn importing(&self, slot: u16) -> Option<NodeId> {
        self.importing.get(&slot).copied()
    }

    /// All slots in migrating state, ascending.
    pub fn all_migrating(&self) -> impl Iterator<Item = (u16, NodeId)> + '_ {
        self.migrating.iter().map(|(&slot, &node)| (slot, node))
    }

    /// All slots in importing state, ascending.
    pub fn all_importing(&self) -> impl Iterator<Item = (u16, NodeId)> + '_ {
        self.importing.iter().map(|(&slot, &node)| (slot, node))
    }

    /// What this shard, as a source, knows of a job.
    pub fn outcome(&self, job: JobId) -> JobOutcome {
        if self.handed_off.contains_key(&job) {
            JobOutcome::HandedOff
        } else if self.exports.contains_key(&job) {
            JobOutcome::Undecided
        } else {
            JobOutcome::Aborted
        }
    }

    /// Whether this shard, told by the source that a job was handed off, has nothing left to do for
    /// it. A job that it does not know it has adopted: a staged job is never given up here without
    /// the source's word.
    pub fn has_settled(&self, job: JobId) -> bool {
        !self.stagings.contains_key(&job) && !self.claims.contains_key(&job)
    }

    /// What a new primary has to bring to an end, once it has applied everything before its term.
    pub fn unfinished(&self) -> Vec<Unfinished> {
        let mut out = Vec::new();
        out.extend(self.exports.keys().map(|&j| Unfinished::AbortExport(j)));
        out.extend(
            self.handed_off
                .iter()
                .map(|(&j, h)| Unfinished::DeliverHandOff(j, h.clone())),
        );
        for (&job, staging) in &self.stagings {
            out.push(match staging.staged {
                None => Unfinished::AbortStaging(job),
                Some(_) => Unfinished::ResolveStaging(job, staging.clone()),
            });
        }
        out.extend(
            self.claims
                .iter()
                .map(|(&j, c)| Unfinished::ResolveClaim(j, c.clone())),
        );
        out
    }

    fn check_new_job(&self, job: JobId) -> Result<(), SlotError> {
        let known = self.exports.contains_key(&job)
            || self.handed_off.contains_key(&job)
            || self.stagings.contains_key(&job)
            || self.claims.contains_key(&job);
        if known {
            Err(SlotError::DuplicateJob(job))
        } else {
            Ok(())
        }
    }

    fn check_owned(&self, slots: &SlotRanges) -> Result<(), SlotError> {
        if slots.is_empty() {
            return Err(SlotError::NoSlots);
        }
        match self.owned.first_missing(slots) {
            Some(slot) => Err(SlotError::NotOwned(slot)),
            None => Ok(()),
        }
    }

    fn check_not_exported(&self, slots: &SlotRanges) -> Result<(), SlotError> {
        let mut exports = self.exports.values();
        match exports.find_map(|e| e.slots.first_common(slots)) {
            Some(slot) => Err(SlotError::BeingExported(slot)),
            None => Ok(()),
        }
    }

    fn check_importable(&self, slots: &SlotRanges) -> Result<(), SlotError> {
        if slots.is_empty() {
            return Err(SlotError::NoSlots);
        }
        if let Some(slot) = self.owned.first_in(slots) {
            return Err(SlotError::AlreadyOwned(slot));
        }
        let stagings = self.stagings.values().map(|s| &s.slots);
        let mut all = stagings.chain(self.claims.values().map(|c| &c.slots));
        match all.find_map(|s| s.first_common(slots)) {
            Some(slot) => Err(SlotError::BeingImported(slot)),
            None => Ok(()),
        }
    }

    /// Whether [`ShardSlots::apply`] would take the record now. For answering a command early;
    /// what counts is the answer at the record's place in the log.
    pub fn check(&self, record: &SlotRecord) -> Result<(), SlotError> {
        match record {
            SlotRecord::Assign { slots } => {
                self.check_importable(slots)?;
                let mut kept = self.handed_off.values();
                match kept.find_map(|h| h.slots.first_common(slots)) {
                    Some(slot) => Err(SlotError::HandOffUnconfirmed(slot)),
                    None => Ok(()),
                }
            }
            SlotRecord::Unassign { slots } => {
                self.check_owned(slots)?;
                self.check_not_exported(slots)
            }
            SlotRecord::Export {
                job, slots, target, ..
            } => {
                self.check_new_job(*job)?;
                if *target == self.me {
                    return Err(SlotError::SameShard);
                }
                self.check_owned(slots)?;
                self.check_not_exported(slots)
            }
            SlotRecord::HandOff { job } => {
                if self.handed_off.contains_key(job) {
                    Err(SlotError::AlreadyHandedOff(*job))
                } else if self.exports.contains_key(job) {
                    Ok(())
                } else {
                    Err(SlotError::UnknownJob(*job))
                }
            }
            SlotRecord::Stage {
                job, slots, source, ..
            }
            | SlotRecord::Claim { job, slots, source } => {
                self.check_new_job(*job)?;
                if *source == self.me {
                    return Err(SlotError::SameShard);
                }
                self.check_importable(slots)
            }
            SlotRecord::Staged { job, .. } => match self.stagings.get(job) {
                None => Err(SlotError::UnknownJob(*job)),
                Some(staging) if staging.staged.is_some() => Err(SlotError::AlreadyStaged(*job)),
                Some(_) => Ok(()),
            },
            SlotRecord::Adopt { job } => match self.stagings.get(job) {
                Some(staging) if staging.staged.is_none() => Err(SlotError::NotStaged(*job)),
                Some(_) => Ok(()),
                None if self.claims.contains_key(job) => Ok(()),
                None => Err(SlotError::UnknownJob(*job)),
            },
            SlotRecord::Abort { job } => {
                if self.handed_off.contains_key(job) {
                    Err(SlotError::AlreadyHandedOff(*job))
                } else if self.check_new_job(*job).is_err() {
                    Ok(())
                } else {
                    Err(SlotError::UnknownJob(*job))
                }
            }
            SlotRecord::Forget { job } => {
                if self.handed_off.contains_key(job) {
                    Ok(())
                } else {
                    Err(SlotError::UnknownJob(*job))
                }
            }
            SlotRecord::SetMigrating { slot, .. } => {
                let slots = checked_single(*slot)?;
                self.check_owned(&slots)?;
                self.check_not_exported(&slots)
            }
            SlotRecord::SetImporting { slot, .. } => self.check_importable(&checked_single(*slot)?),
            SlotRecord::SetStable { slot } => checked_single(*slot).map(|_| ()),
        }
    }

    /// Applies one committed record. Deterministic; on an error nothing has changed.
    pub fn apply(&mut self, record: &SlotRecord) -> Result<Applied, SlotError> {
        self.check(record)?;
        let applied = match record {
            SlotRecord::Assign { slots } => {
                self.gain(slots);
                Applied::Assigned(slots.clone())
            }
            SlotRecord::Unassign { slots } => {
                self.lose(slots);
                Applied::Unassigned(slots.clone())
            }
            SlotRecord::Export {
                job,
                slots,
                target,
                target_node,
            } => {
                let export = Export {
                    slots: slots.clone(),
                    target: *target,
                    target_node: *target_node,
                };
                self.exports.insert(*job, export);
                Applied::Exported(*job)
            }
            SlotRecord::HandOff { job } => {
                let Some(export) = self.exports.remove(job) else {
                    return Err(SlotError::UnknownJob(*job));
                };
                self.lose(&export.slots);
                let handed_off = HandedOff {
                    slots: export.slots,
                    target: export.target,
                    target_node: export.target_node,
                };
                self.handed_off.insert(*job, handed_off.clone());
                Applied::HandedOff(*job, handed_off)
            }
            SlotRecord::Stage {
                job,
                slots,
                source,
                source_node,
            } => {
                let staging = Staging {
                    slots: slots.clone(),
                    source: *source,
                    source_node: *source_node,
                    staged: None,
                };
                self.stagings.insert(*job, staging.clone());
                Applied::StagingBegun(*job, staging)
            }
            SlotRecord::Staged { job, position } => {
                if let Some(staging) = self.stagings.get_mut(job) {
                    staging.staged = Some(*position);
                }
                Applied::Staged(*job)
            }
            SlotRecord::Claim { job, slots, source } => {
                let claim = Claim {
                    slots: slots.clone(),
                    source: *source,
                };
                self.claims.insert(*job, claim);
                Applied::Claimed(*job)
            }
            SlotRecord::Adopt { job } => {
                let staged = self.stagings.remove(job).map(|s| s.slots);
                let slots = staged.or_else(|| self.claims.remove(job).map(|c| c.slots));
                let slots = slots.ok_or(SlotError::UnknownJob(*job))?;
                self.gain(&slots);
                // Whoever handed these slots to us owned them, so our own earlier hand-off of any
                // of them has been adopted.
                self.handed_off
                    .retain(|_, h| h.slots.first_common(&slots).is_none());
                Applied::Adopted(*job, slots)
            }
            SlotRecord::Abort { job } => {
                if let Some(export) = self.exports.remove(job) {
                    Applied::ExportAborted(*job, export)
                } else if let Some(staging) = self.stagings.remove(job) {
                    Applied::StagingDropped(*job, staging)
                } else if let Some(claim) = self.claims.remove(job) {
                    Applied::ClaimDropped(*job, claim)
                } else {
                    return Err(SlotError::UnknownJob(*job));
                }
            }
            SlotRecord::Forget { job } => {
                let handed_off = self.handed_off.remove(job);
                Applied::Forgotten(*job, handed_off.ok_or(SlotError::UnknownJob(*job))?)
            }
            SlotRecord::SetMigrating { slot, node } => {
                self.migrating.insert(*slot, *node);
                Applied::SlotMarked(*slot)
            }
            SlotRecord::SetImporting { slot, node } => {
                self.importing.insert(*slot, *node);
                Applied::SlotMarked(*slot)
            }
            SlotRecord::SetStable { slot } => {
                self.migrating.remove(slot);
                self.importing.remove(slot);
                Applied::SlotMarked(*slot)
            }
        };
        self.assert_invariants(record);
        Ok(applied)
    }

    fn gain(&mut self, slots: &SlotRanges) {
        self.owned.insert_all(slots);
        self.importing.retain(|&slot, _| !slots.contains(slot));
    }

    fn lose(&mut self, slots: &SlotRanges) {
        self.owned.remove_all(slots);
        self.migrating.retain(|&slot, _| !slots.contains(slot));
    }

    /// Cheap ones only, about the slots of this record; kept in release builds.
    fn assert_invariants(&self, record: &SlotRecord) {
        let Some(job) = record.job() else { return };
        if let Some(export) = self.exports.get(&job) {
            let missing = self.owned.first_missing(&export.slots);
            assert_eq!(missing, None, "job {job} exports a slot that is not owned");
        }
        if let Some(handed_off) = self.handed_off.get(&job) {
            let kept = self.owned.first_in(&handed_off.slots);
            assert_eq!(
                kept, None,
                "job {job} handed off a slot that is still owned"
            );
        }
        if let Some(staging) = self.stagings.get(&job) {
            let owned = self.owned.first_in(&staging.slots);
            assert_eq!(owned, None, "job {job} stages a slot that is owned already");
        }
    }
}

fn checked_single(slot: u16) -> Result<SlotRanges, SlotError> {
    SlotRanges::new(&[(slot, slot)]).map_err(|_| SlotError::NotOwned(slot))
}
