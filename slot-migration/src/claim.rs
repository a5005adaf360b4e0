//! The target's side of the older way: `CLUSTER SETSLOT slot NODE <this node>`.
//!
//! ```text
//! Exporting ─ source shard exported a job ► Claiming ─ Claim applied ► Asking
//!   ─ source shard committed the hand-off, or says what it decided ► Adopting ─ Adopt applied ► Ended
//! ```
//!
//! The source shard draws the job's id and exports it when asked to, so that a late duplicate of any
//! request names a job that is over. Then the claim is logged here, so that a new primary of this
//! shard knows to ask; only then is the source asked for the hand-off, which it proposes when it
//! holds no key of the slots.

use std::collections::VecDeque;

use crate::limits::Backoff;
use crate::{
    Applied, Claim, JobId, JobOutcome, Limits, Now, ShardId, SlotError, SlotRanges, SlotRecord,
};

/// What a driver does for a [`ClaimJob`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClaimAction {
    /// Have the source shard's primary export a job for the slots; then `on_exported`.
    RequestExport(ShardId),
    /// Propose the record in this shard's log; then `on_applied` or `on_office_lost`.
    Propose(SlotRecord),
    /// Have the source shard's primary commit the hand-off; then `on_hand_off`.
    RequestHandOff(ShardId, JobId),
    /// Ask the source shard's primary for the outcome; then `on_answer`.
    Ask(ShardId, JobId),
    /// The command's answer: the slots are ours, or this error.
    Finished(Result<(), String>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Exporting,
    Claiming(JobId),
    HandingOff(JobId),
    Resolving(JobId),
    Adopting(JobId),
    Aborting(JobId, String),
    Over,
}

/// One claim on the target's primary.
#[derive(Debug)]
pub struct ClaimJob {
    slots: SlotRanges,
    source: ShardId,
    state: State,
    reason: String,
    actions: VecDeque<ClaimAction>,
    backoff: Backoff,
    ask_at_ms: Option<u64>,
}

impl ClaimJob {
    /// A new claim. Its first action asks the source shard for a job.
    pub fn new(slots: SlotRanges, source: ShardId, limits: Limits) -> Self {
        Self {
            slots,
            source,
            state: State::Exporting,
            reason: String::new(),
            actions: VecDeque::from([ClaimAction::RequestExport(source)]),
            backoff: Backoff::new(&limits),
            ask_at_ms: None,
        }
    }

    /// On a new primary, a claim that an earlier one made: it is in doubt.
    pub fn recover(job: JobId, claim: Claim, limits: Limits, now: Now) -> Self {
        let mut it = Self::new(claim.slots, claim.source, limits);
        it.actions.clear();
        it.reason = "A failover occurred during the hand-off".into();
        it.resolve(job, now);
        it
    }

    /// The slots claimed.
    pub fn slots(&self) -> &SlotRanges {
        &self.slots
    }

    /// The job, once the source shard has drawn it.
    pub fn job(&self) -> Option<JobId> {
        match self.state {
            State::Claiming(job)
            | State::HandingOff(job)
            | State::Resolving(job)
            | State::Adopting(job)
            | State::Aborting(job, _) => Some(job),
            State::Exporting | State::Over => None,
        }
    }

    /// Whether nothing more will come of the claim.
    pub fn is_over(&self) -> bool {
        self.state == State::Over
    }

    /// The next thing to do; poll until `None` after every event.
    pub fn poll_action(&mut self) -> Option<ClaimAction> {
        self.actions.pop_front()
    }

    fn finish(&mut self, result: Result<(), String>) {
        self.state = State::Over;
        self.ask_at_ms = None;
        self.actions.push_back(ClaimAction::Finished(result));
    }

    fn resolve(&mut self, job: JobId, now: Now) {
        self.state = State::Resolving(job);
        self.ask_at_ms = Some(now.mono_ms);
        self.on_tick(now);
    }

    fn adopt(&mut self, job: JobId) {
        self.ask_at_ms = None;
        self.state = State::Adopting(job);
        self.actions
            .push_back(ClaimAction::Propose(SlotRecord::Adopt { job }));
    }

    /// The source shard exported this job for us, or refused.
    pub fn on_exported(&mut self, result: Result<JobId, String>) {
        if self.state != State::Exporting {
            return;
        }
        match result {
            Err(error) => self.finish(Err(error)),
            Ok(job) => {
                self.state = State::Claiming(job);
                let slots = self.slots.clone();
                let source = self.source;
                let claim = SlotRecord::Claim { job, slots, source };
                self.actions.push_back(ClaimAction::Propose(claim));
            }
        }
    }

    /// A record about this claim's job was applied, or was no legal step.
    pub fn on_applied(&mut self, record: &SlotRecord, result: &Result<Applied, SlotError>) {
        if record.job().is_none() || record.job() != self.job() {
            return;
        }
        match (record, result, self.state.clone()) {
            (SlotRecord::Claim { .. }, Ok(_), State::Claiming(job)) => {
                self.state = State::HandingOff(job);
                self.actions
                    .push_back(ClaimAction::RequestHandOff(self.source, job));
            }
            (SlotRecord::Claim { .. }, Err(error), State::Claiming(_)) => {
                self.finish(Err(error.to_string()));
            }
            (SlotRecord::Adopt { .. }, Ok(_), _) => self.finish(Ok(())),
            (SlotRecord::Abort { .. }, _, State::Aborting(_, reason)) => self.finish(Err(reason)),
            _ => {}
        }
    }

    /// The source shard's primary answered the request for the hand-off. Any error leaves the job
    /// in doubt: the request may have been carried out all the same.
    pub fn on_hand_off(&mut self, result: Result<(), String>, now: Now) {
        if let State::HandingOff(job) = self.state {
            match result {
                Ok(()) => self.adopt(job),
                Err(reason) => {
                    self.reason = reason;
                    self.resolve(job, now);
                }
            }
        }
    }

    /// The source shard's primary answered the question, or it could not be asked.
    pub fn on_answer(&mut self, answer: Result<JobOutcome, String>, now: Now) {
        let State::Resolving(job) = self.state else {
            return;
        };
        match answer {
            Ok(JobOutcome::HandedOff) => self.adopt(job),
            Ok(JobOutcome::Aborted) => {
                self.state = State::Aborting(job, std::mem::take(&mut self.reason));
                self.actions
                    .push_back(ClaimAction::Propose(SlotRecord::Abort { job }));
            }
            Ok(JobOutcome::Undecided) | Err(_) => {
                self.ask_at_ms = Some(now.mono_ms + self.backoff.step());
            }
        }
    }

    /// The source shard's primary says by itself that it has handed off.
    pub fn on_told_handed_off(&mut self) {
        match self.state {
            State::HandingOff(job) | State::Resolving(job) => self.adopt(job),
            State::Exporting
            | State::Claiming(_)
            | State::Adopting(_)
            | State::Aborting(..)
            | State::Over => {}
        }
    }

    /// This node is no longer the primary of its shard: what became of the claim is not known here.
    pub fn on_office_lost(&mut self) {
        if !self.is_over() {
            self.finish(Err("A failover occurred during the hand-off".into()));
        }
    }

    /// The next moment, on the monotonic clock, at which [`ClaimJob::on_tick`] has something to do.
    pub fn poll_timeout(&self) -> Option<u64> {
        self.ask_at_ms
    }

    /// Time has passed.
    pub fn on_tick(&mut self, now: Now) {
        if let State::Resolving(job) = self.state
            && self.ask_at_ms.is_some_and(|at| now.mono_ms >= at)
        {
            self.ask_at_ms = None;
            self.actions.push_back(ClaimAction::Ask(self.source, job));
        }
    }
}
