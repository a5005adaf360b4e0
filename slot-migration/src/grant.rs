//! The source's side of the older way: a hand-off that another shard asks for.
//!
//! ```text
//! Exporting ─ Export applied ► Granted ─ the hand-off is asked for, no key left ► Deciding
//!   ─ HandOff applied ► Ended          Granted, for too long ► Aborting ─ Abort applied ► Ended
//! ```

use std::collections::VecDeque;

use crate::{
    Applied, HandedOff, JobId, Limits, NodeId, Now, ShardId, SlotError, SlotRanges, SlotRecord,
};

/// What a driver does for a [`GrantJob`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GrantAction {
    /// Propose the record in this shard's log.
    Propose(SlotRecord),
    /// In one turn of the executor: if no key is left in the slots, let writes to them wait and
    /// propose the record; otherwise `on_refused`. Writes go on when the job is over.
    ProposeIfEmpty(SlotRecord, SlotRanges),
    /// Let writes to the slots go on.
    Resume,
    /// Answer the request for the job: its id, or an error's text.
    ReplyExport(Result<JobId, String>),
    /// Answer the request for the hand-off.
    ReplyHandOff(Result<(), String>),
    /// The job is over; `Some` when it was handed off, for delivery to the target shard.
    Finished(Option<HandedOff>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Exporting,
    Granted,
    Deciding,
    Aborting,
    Over,
}

/// One hand-off asked for by a target in the older way, on the source's primary.
#[derive(Debug)]
pub struct GrantJob {
    job: JobId,
    slots: SlotRanges,
    state: State,
    actions: VecDeque<GrantAction>,
    expires_at_ms: u64,
}

impl GrantJob {
    /// A request for the slots by `target`. The first action proposes the `Export`.
    pub fn new(
        job: JobId,
        slots: SlotRanges,
        target: ShardId,
        target_node: NodeId,
        limits: Limits,
        now: Now,
    ) -> Self {
        let export = SlotRecord::Export {
            job,
            slots: slots.clone(),
            target,
            target_node,
        };
        Self {
            job,
            slots,
            state: State::Exporting,
            actions: VecDeque::from([GrantAction::Propose(export)]),
            expires_at_ms: now.mono_ms + limits.pause_timeout_ms,
        }
    }

    /// The slots asked for.
    pub fn slots(&self) -> &SlotRanges {
        &self.slots
    }

    /// Whether nothing more will come of the job.
    pub fn is_over(&self) -> bool {
        self.state == State::Over
    }

    /// The next thing to do; poll until `None` after every event.
    pub fn poll_action(&mut self) -> Option<GrantAction> {
        self.actions.pop_front()
    }

    fn finish(&mut self, handed_off: Option<HandedOff>) {
        self.state = State::Over;
        self.actions.push_back(GrantAction::Finished(handed_off));
    }

    /// A record about this job was applied, or was no legal step.
    pub fn on_applied(&mut self, record: &SlotRecord, result: &Result<Applied, SlotError>) {
        if record.job() != Some(self.job) || self.is_over() {
            return;
        }
        match (record, result) {
            (SlotRecord::Export { .. }, Ok(_)) if self.state == State::Exporting => {
                self.state = State::Granted;
                self.actions
                    .push_back(GrantAction::ReplyExport(Ok(self.job)));
            }
            (SlotRecord::Export { .. }, Err(error)) if self.state == State::Exporting => {
                self.actions
                    .push_back(GrantAction::ReplyExport(Err(error.to_string())));
                self.finish(None);
            }
            (SlotRecord::HandOff { .. }, Ok(Applied::HandedOff(_, handed_off))) => {
                self.actions.push_back(GrantAction::ReplyHandOff(Ok(())));
                self.finish(Some(handed_off.clone()));
            }
            (SlotRecord::Abort { .. }, Ok(_)) => {
                if self.state == State::Deciding {
                    self.actions.push_back(GrantAction::Resume);
                    let refused = Err("The hand-off was given up".to_string());
                    self.actions.push_back(GrantAction::ReplyHandOff(refused));
                }
                self.finish(None);
            }
            _ => {}
        }
    }

    /// The target asks for the hand-off.
    pub fn on_hand_off_requested(&mut self) {
        match self.state {
            State::Granted => {
                self.state = State::Deciding;
                self.actions.push_back(GrantAction::ProposeIfEmpty(
                    SlotRecord::HandOff { job: self.job },
                    self.slots.clone(),
                ));
            }
            // Asked twice: one answer comes for both.
            State::Deciding => {}
            State::Exporting | State::Aborting | State::Over => {
                let refused = Err("No such hand-off".to_string());
                self.actions.push_back(GrantAction::ReplyHandOff(refused));
            }
        }
    }

    /// There were keys left, or the executor could not propose. Nothing was put into the log.
    pub fn on_refused(&mut self, reason: &str) {
        if self.state == State::Deciding {
            self.actions
                .push_back(GrantAction::ReplyHandOff(Err(reason.to_string())));
            self.abort();
        }
    }

    fn abort(&mut self) {
        self.state = State::Aborting;
        self.actions
            .push_back(GrantAction::Propose(SlotRecord::Abort { job: self.job }));
    }

    /// This node is no longer the primary of its shard.
    pub fn on_office_lost(&mut self) {
        let refused = "A failover occurred during the hand-off".to_string();
        match self.state {
            State::Exporting => self
                .actions
                .push_back(GrantAction::ReplyExport(Err(refused))),
            State::Deciding => {
                self.actions.push_back(GrantAction::Resume);
                self.actions
                    .push_back(GrantAction::ReplyHandOff(Err(refused)));
            }
            State::Granted | State::Aborting | State::Over => {}
        }
        if !self.is_over() {
            self.finish(None);
        }
    }

    /// The next moment, on the monotonic clock, at which [`GrantJob::on_tick`] has something to do.
    pub fn poll_timeout(&self) -> Option<u64> {
        (self.state == State::Granted).then_some(self.expires_at_ms)
    }

    /// Time has passed.
    pub fn on_tick(&mut self, now: Now) {
        if self.state == State::Granted && now.mono_ms >= self.expires_at_ms {
            self.abort();
        }
    }
}
