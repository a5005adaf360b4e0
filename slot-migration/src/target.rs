//! The target's side of one job.
//!
//! ```text
//! Establishing ─ Stage applied, +OK ► WaitingForAck ─ ACK ► ReceivingSnapshot ─ SNAPSHOT-EOF ►
//! WaitingForPaused ─ PAUSED ► Completing ─ Staged applied ► Requested ─ FAILOVER-GRANTED ►
//! Adopting ─ Adopt applied ► Ended
//!
//! before Completing, on failure ► Aborting ─ Abort applied ► Ended
//! from Completing on, on failure ► Resolving ─ the source shard's answer ► Adopting or Aborting
//! ```
//!
//! From the moment `Staged` is proposed the job is in doubt: the source may have decided. It is
//! given up only on the word of the source shard, asked again and again.

use std::collections::VecDeque;

use crate::limits::Backoff;
use crate::{
    Applied, Ending, JobId, JobOutcome, JobView, Limits, LinkMessage, NodeId, Now, Operation,
    Progress, ShardId, SlotError, SlotRanges, SlotRecord, Staging,
};

/// What a driver does for a [`TargetJob`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetAction {
    /// Propose the record in this shard's log. The job hears of it by `on_applied`, or by
    /// `on_office_lost`. With `Abort` or `Staged` the link's data is executed no further.
    Propose(SlotRecord),
    /// Answer `ESTABLISH`: `+OK`, or an error with this text. The link's data is executed from here.
    ReplyEstablish(Result<(), String>),
    /// Send the message on the link.
    Send(LinkMessage),
    /// Close the link.
    CloseLink,
    /// By a connection of its own, ask the source shard's primary (try the node first) for the job's
    /// outcome; then `on_answer`.
    Ask {
        /// The shard that knows.
        source: ShardId,
        /// The node of that shard that opened the link.
        source_node: NodeId,
    },
    /// The job is over; nothing follows.
    Finished(Ending),
}

/// Where a [`TargetJob`] stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetState {
    /// `Stage` is being committed.
    Establishing,
    /// Established; the source has not said a word yet.
    WaitingForAck,
    /// Executing the snapshot (and effects).
    ReceivingSnapshot,
    /// Executing effects; the source was asked to pause.
    WaitingForPaused,
    /// All data executed; `Staged` is being committed.
    Completing,
    /// The source was asked to decide.
    Requested,
    /// The source shard is asked what was decided.
    Resolving,
    /// `Adopt` is being committed.
    Adopting,
    /// `Abort` is being committed.
    Aborting,
    /// Over.
    Ended(Ending),
    /// This node lost its office; the shard's next primary goes on.
    Abandoned,
}

impl TargetState {
    /// Valkey's word for the state.
    pub fn as_str(self) -> &'static str {
        match self {
            TargetState::Establishing | TargetState::WaitingForAck => "waiting-for-ack",
            TargetState::ReceivingSnapshot => "receiving-snapshot",
            TargetState::WaitingForPaused => "waiting-for-paused",
            TargetState::Completing | TargetState::Requested | TargetState::Resolving => {
                "failover-requested"
            }
            TargetState::Adopting => "failover-granted",
            TargetState::Aborting => "cleaning-up",
            TargetState::Ended(ending) => ending.as_str(),
            // What goes on at the new primary is shown from the shard's slots.
            TargetState::Abandoned => Ending::Failed.as_str(),
        }
    }

    /// Whether data of the link may still be executed.
    pub fn takes_data(self) -> bool {
        matches!(
            self,
            TargetState::WaitingForAck
                | TargetState::ReceivingSnapshot
                | TargetState::WaitingForPaused
        )
    }
}

/// The target says how far it is after executing this much, so that the source knows its lag.
const ACK_BYTES: u64 = 32 << 10;
/// …or after this long with anything executed, in milliseconds.
const ACK_MS: u64 = 5;

const UNEXPECTED: &str = "Unexpected state machine transition";
const LINK_LOST: &str = "Connection lost to source. Check CLUSTER GETSLOTMIGRATIONS on the source node for more information.";

/// One job on its target's primary.
#[derive(Debug)]
pub struct TargetJob {
    job: JobId,
    slots: SlotRanges,
    source: ShardId,
    source_node: NodeId,
    target_node: NodeId,
    limits: Limits,
    state: TargetState,
    actions: VecDeque<TargetAction>,
    message: String,
    created_s: u64,
    updated_s: u64,
    acked_s: u64,
    entered_ms: u64,
    last_heard_ms: u64,
    last_sent_ms: u64,
    link_open: bool,
    reply_due: bool,
    executed: u64,
    acked: u64,
    backoff: Backoff,
    ask_at_ms: Option<u64>,
}

impl TargetJob {
    /// A job that a source asks for by `ESTABLISH`. Its first action proposes the `Stage`.
    pub fn new(
        job: JobId,
        slots: SlotRanges,
        source: ShardId,
        source_node: NodeId,
        target_node: NodeId,
        limits: Limits,
        now: Now,
    ) -> Self {
        let mut it = Self {
            job,
            slots,
            source,
            source_node,
            target_node,
            limits,
            state: TargetState::Establishing,
            actions: VecDeque::new(),
            message: String::new(),
            created_s: now.unix_s,
            updated_s: now.unix_s,
            acked_s: now.unix_s,
            entered_ms: now.mono_ms,
            last_heard_ms: now.mono_ms,
            last_sent_ms: now.mono_ms,
            link_open: true,
            reply_due: true,
            executed: 0,
            acked: 0,
            backoff: Backoff::new(&limits),
            ask_at_ms: None,
        };
        it.actions
            .push_back(TargetAction::Propose(SlotRecord::Stage {
                job,
                slots: it.slots.clone(),
                source,
                source_node,
            }));
        it
    }

    /// On a new primary, a job that an earlier one was the target of: aborted when its data is not
    /// complete, otherwise in doubt.
    pub fn recover(
        job: JobId,
        staging: Staging,
        target_node: NodeId,
        limits: Limits,
        now: Now,
    ) -> Self {
        let Staging {
            slots,
            source,
            source_node,
            staged,
        } = staging;
        let mut it = Self::new(job, slots, source, source_node, target_node, limits, now);
        it.actions.clear();
        it.link_open = false;
        it.reply_due = false;
        it.message = "A failover occurred during slot import".into();
        match staged {
            None => it.abort(now),
            Some(position) => {
                it.executed = position;
                it.resolve(now);
            }
        }
        it
    }

    /// The job's id.
    pub fn job(&self) -> JobId {
        self.job
    }

    /// The slots to move.
    pub fn slots(&self) -> &SlotRanges {
        &self.slots
    }

    /// Where the job stands.
    pub fn state(&self) -> TargetState {
        self.state
    }

    /// Whether nothing more will come of the job.
    pub fn is_over(&self) -> bool {
        matches!(self.state, TargetState::Ended(_) | TargetState::Abandoned)
    }

    /// The next thing to do; poll until `None` after every event.
    pub fn poll_action(&mut self) -> Option<TargetAction> {
        self.actions.pop_front()
    }

    /// The job as `CLUSTER GETSLOTMIGRATIONS` shows it.
    pub fn view(&self) -> JobView {
        JobView {
            job: self.job,
            operation: Operation::Import,
            slots: self.slots.clone(),
            nodes: Some((self.target_node, self.source_node)),
            create_time: self.created_s,
            last_update_time: self.updated_s,
            last_ack_time: self.acked_s,
            state: self.state.as_str(),
            message: self.message.clone(),
            remaining_bytes: 0,
            progress: Progress {
                bytes: self.executed,
                ..Progress::default()
            },
        }
    }

    fn enter(&mut self, state: TargetState, now: Now) {
        self.state = state;
        self.entered_ms = now.mono_ms;
        self.updated_s = now.unix_s;
    }

    fn send(&mut self, message: LinkMessage, now: Now) {
        if self.link_open {
            self.last_sent_ms = now.mono_ms;
            self.actions.push_back(TargetAction::Send(message));
        }
    }

    fn close_link(&mut self) {
        if std::mem::take(&mut self.link_open) {
            self.actions.push_back(TargetAction::CloseLink);
        }
    }

    fn refuse(&mut self, error: &str) {
        if std::mem::take(&mut self.reply_due) {
            self.actions
                .push_back(TargetAction::ReplyEstablish(Err(error.to_string())));
        }
    }

    fn abort(&mut self, now: Now) {
        self.enter(TargetState::Aborting, now);
        self.actions
            .push_back(TargetAction::Propose(SlotRecord::Abort { job: self.job }));
        let message = self.message.clone();
        self.refuse(&message);
        self.close_link();
    }

    fn resolve(&mut self, now: Now) {
        self.close_link();
        self.enter(TargetState::Resolving, now);
        self.ask_at_ms = Some(now.mono_ms);
        self.on_tick(now);
    }

    /// Whatever went wrong: give the job up where that is ours to do, ask where it is not.
    fn fail(&mut self, message: impl Into<String>, now: Now) {
        match self.state {
            TargetState::Establishing
            | TargetState::WaitingForAck
            | TargetState::ReceivingSnapshot
            | TargetState::WaitingForPaused => {
                self.message = message.into();
                self.abort(now);
            }
            TargetState::Completing | TargetState::Requested => {
                self.message = message.into();
                self.resolve(now);
            }
            TargetState::Resolving | TargetState::Adopting | TargetState::Aborting => {
                self.close_link();
            }
            TargetState::Ended(_) | TargetState::Abandoned => {}
        }
    }

    fn end(&mut self, ending: Ending, now: Now) {
        self.close_link();
        self.enter(TargetState::Ended(ending), now);
        self.actions.push_back(TargetAction::Finished(ending));
    }

    fn adopt(&mut self, now: Now) {
        self.ask_at_ms = None;
        self.enter(TargetState::Adopting, now);
        self.actions
            .push_back(TargetAction::Propose(SlotRecord::Adopt { job: self.job }));
    }

    /// A record about this job was applied, or was no legal step.
    pub fn on_applied(
        &mut self,
        record: &SlotRecord,
        result: &Result<Applied, SlotError>,
        now: Now,
    ) {
        if record.job() != Some(self.job) || self.is_over() {
            return;
        }
        match (record, result) {
            (SlotRecord::Stage { .. }, Ok(_)) if self.state == TargetState::Establishing => {
                self.reply_due = false;
                self.last_heard_ms = now.mono_ms;
                self.enter(TargetState::WaitingForAck, now);
                self.actions.push_back(TargetAction::ReplyEstablish(Ok(())));
            }
            (SlotRecord::Stage { .. }, Err(error)) if self.state == TargetState::Establishing => {
                // Nothing is staged under this job, so there is nothing to abort in the log.
                self.message = error.to_string();
                let message = self.message.clone();
                self.refuse(&message);
                self.end(Ending::Failed, now);
            }
            (SlotRecord::Staged { .. }, Ok(_)) if self.state == TargetState::Completing => {
                self.enter(TargetState::Requested, now);
                self.send(LinkMessage::RequestFailover, now);
            }
            (SlotRecord::Adopt { .. }, Ok(_)) => {
                self.message.clear();
                self.send(LinkMessage::Adopted, now);
                self.end(Ending::Success, now);
            }
            (SlotRecord::Abort { .. }, Ok(_) | Err(SlotError::UnknownJob(_))) => {
                self.end(Ending::Failed, now);
            }
            _ => {}
        }
    }

    /// The source said something on the link. `executed` is how many bytes of data came before it,
    /// all of them executed.
    pub fn on_message(&mut self, message: LinkMessage, executed: u64, now: Now) {
        self.last_heard_ms = now.mono_ms;
        self.on_executed(executed, now);
        match message {
            LinkMessage::Ack(_) => {
                self.acked_s = now.unix_s;
                if self.state == TargetState::WaitingForAck {
                    self.enter(TargetState::ReceivingSnapshot, now);
                }
            }
            LinkMessage::SnapshotEof if self.state == TargetState::ReceivingSnapshot => {
                self.enter(TargetState::WaitingForPaused, now);
                self.send(LinkMessage::Ack(Some(executed)), now);
                self.send(LinkMessage::RequestPause, now);
            }
            LinkMessage::Paused(position) if self.state == TargetState::WaitingForPaused => {
                if position.is_some_and(|p| p != executed) {
                    self.fail("The stream does not end where the source says", now);
                    return;
                }
                self.enter(TargetState::Completing, now);
                self.actions
                    .push_back(TargetAction::Propose(SlotRecord::Staged {
                        job: self.job,
                        position: executed,
                    }));
            }
            LinkMessage::FailoverGranted if self.state == TargetState::Requested => {
                self.adopt(now);
            }
            LinkMessage::SnapshotEof
            | LinkMessage::Paused(_)
            | LinkMessage::FailoverGranted
            | LinkMessage::RequestPause
            | LinkMessage::RequestFailover
            | LinkMessage::Adopted => self.fail(UNEXPECTED, now),
        }
    }

    /// So many bytes of the link's data have been executed.
    pub fn on_executed(&mut self, executed: u64, now: Now) {
        if executed > self.executed {
            self.executed = executed;
            self.last_heard_ms = now.mono_ms;
            self.try_ack(now);
        }
    }

    fn try_ack(&mut self, now: Now) {
        let unsaid = self.executed - self.acked;
        let long_ago = now.mono_ms >= self.last_sent_ms + ACK_MS;
        let established = self.state.takes_data() && self.state != TargetState::WaitingForAck;
        if established && (unsaid >= ACK_BYTES || (unsaid > 0 && long_ago)) {
            self.acked = self.executed;
            self.send(LinkMessage::Ack(Some(self.executed)), now);
        }
    }

    /// A command of the link's data could not be executed (also: out of memory).
    pub fn on_data_error(&mut self, message: &str, now: Now) {
        if self.state.takes_data() {
            self.fail(message, now);
        }
    }

    /// `FLUSHALL` or `FLUSHDB` was executed on the target.
    pub fn on_flushed(&mut self, now: Now) {
        if self.state.takes_data() {
            self.fail("Data was flushed", now);
        }
    }

    /// The link broke.
    pub fn on_link_down(&mut self, now: Now) {
        self.link_open = false;
        self.reply_due = false;
        self.fail(LINK_LOST, now);
    }

    /// The source shard's primary answered a question, or it could not be asked. It never answers
    /// `Undecided`.
    pub fn on_answer(&mut self, answer: Result<JobOutcome, String>, now: Now) {
        if self.state != TargetState::Resolving {
            return;
        }
        match answer {
            Ok(JobOutcome::HandedOff) => self.adopt(now),
            Ok(JobOutcome::Aborted) => self.abort(now),
            Ok(JobOutcome::Undecided) | Err(_) => {
                if let Err(error) = answer {
                    self.message = format!("Waiting for the source shard's decision: {error}");
                }
                self.ask_at_ms = Some(now.mono_ms + self.backoff.step());
            }
        }
    }

    /// The source shard's primary says by itself that it has handed off. The job is done for the
    /// source once `Adopt` is applied.
    pub fn on_told_handed_off(&mut self, now: Now) {
        match self.state {
            TargetState::Requested | TargetState::Resolving => self.adopt(now),
            // The `Staged` that the source heard of is an earlier primary's or ours in the log; the
            // outcome is known the moment it is applied.
            TargetState::Completing => self.resolve(now),
            TargetState::Establishing
            | TargetState::WaitingForAck
            | TargetState::ReceivingSnapshot
            | TargetState::WaitingForPaused
            | TargetState::Adopting
            | TargetState::Aborting
            | TargetState::Ended(_)
            | TargetState::Abandoned => {}
        }
    }

    /// This node is no longer the primary of its shard, or can no longer know.
    pub fn on_office_lost(&mut self, now: Now) {
        if self.is_over() {
            return;
        }
        self.message = "A failover occurred during slot import".into();
        let message = self.message.clone();
        self.refuse(&message);
        self.close_link();
        self.enter(TargetState::Abandoned, now);
        self.actions
            .push_back(TargetAction::Finished(Ending::Failed));
    }

    fn deadline(&self) -> Option<(u64, &'static str)> {
        match self.state {
            TargetState::WaitingForAck
            | TargetState::ReceivingSnapshot
            | TargetState::WaitingForPaused => Some((
                self.last_heard_ms + self.limits.silence_timeout_ms,
                "Timed out after too long with no interaction",
            )),
            TargetState::Requested => Some((
                self.entered_ms + self.limits.pause_timeout_ms,
                "The source did not decide in time",
            )),
            TargetState::Establishing
            | TargetState::Completing
            | TargetState::Resolving
            | TargetState::Adopting
            | TargetState::Aborting
            | TargetState::Ended(_)
            | TargetState::Abandoned => None,
        }
    }

    fn ack_due(&self) -> Option<u64> {
        if !self.state.takes_data() || self.state == TargetState::WaitingForAck {
            return None;
        }
        let wait = match self.executed > self.acked {
            true => ACK_MS,
            false => self.limits.ack_interval_ms,
        };
        Some(self.last_sent_ms + wait)
    }

    /// The next moment, on the monotonic clock, at which [`TargetJob::on_tick`] has something to do.
    pub fn poll_timeout(&self) -> Option<u64> {
        let deadline = self.deadline().map(|(at, _)| at);
        [deadline, self.ack_due(), self.ask_at_ms]
            .into_iter()
            .flatten()
            .min()
    }

    /// Time has passed.
    pub fn on_tick(&mut self, now: Now) {
        if let Some((at, message)) = self.deadline()
            && now.mono_ms >= at
        {
            self.fail(message, now);
            return;
        }
        if self.ack_due().is_some_and(|at| now.mono_ms >= at) {
            self.acked = self.executed;
            self.send(LinkMessage::Ack(Some(self.executed)), now);
        }
        if self.ask_at_ms.is_some_and(|at| now.mono_ms >= at) {
            self.ask_at_ms = None;
            self.actions.push_back(TargetAction::Ask {
                source: self.source,
                source_node: self.source_node,
            });
        }
    }
}
