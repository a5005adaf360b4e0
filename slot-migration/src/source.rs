//! The source's side of one job.
//!
//! ```text
//! Preparing ─ Export applied ► Connecting ► Authenticating ► Establishing ─ +OK ►
//! WaitingToSnapshot ► Snapshotting ► Streaming ─ REQUEST-PAUSE ► WaitingToPause ─ lag small ►
//! Pausing ► Paused ─ REQUEST-FAILOVER ► Deciding ─ HandOff applied ► HandedOff ─ adopted ► Ended
//!
//! anything before Deciding, on failure ► Aborting ─ Abort applied ► Ended
//! ```
//!
//! In `Deciding` nothing but the log ends the state: the record may be committed at any moment, so
//! neither a timeout nor a lost link nor a cancellation resumes the writes. A question by the target
//! puts an `Abort` behind the `HandOff` in the log, and the log's order answers it.

use std::collections::VecDeque;

use crate::limits::Backoff;
use crate::{
    Applied, Ending, HandedOff, JobId, JobView, Limits, LinkMessage, NodeId, Now, Operation,
    Progress, ShardId, SlotError, SlotRanges, SlotRecord,
};

/// What a driver does for a [`SourceJob`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceAction {
    /// Propose the record in this shard's log. The job hears of it by `on_applied`, or by
    /// `on_office_lost` when this node is not the primary.
    Propose(SlotRecord),
    /// Open the link to the node's client port and authenticate; then `on_connected`.
    Connect(NodeId),
    /// Send `CLUSTER SYNCSLOTS ESTABLISH SOURCE … NAME … SLOTSRANGE …`; then `on_establish_reply`.
    Establish,
    /// Begin the snapshot of the slots and the tap of their effects, at one instant.
    BeginSnapshot,
    /// Put the message into the stream, behind all data that was put there before.
    Send(LinkMessage),
    /// Let writes to the slots wait from now on; then `on_paused`.
    Pause,
    /// Let the waiting writes go on here.
    Resume,
    /// Drop snapshot, tap and link.
    CloseLink,
    /// By a connection of its own, tell the target shard's primary (try the node first) that the
    /// job was handed off; then `on_delivery`.
    Deliver(HandedOff),
    /// The job is over; nothing follows.
    Finished(Ending),
}

/// Where a [`SourceJob`] stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceState {
    /// `Export` is being committed.
    Preparing,
    /// The link is being opened.
    Connecting,
    /// The link is being authenticated.
    Authenticating,
    /// The target is committing its `Stage`.
    Establishing,
    /// The executor was asked to begin the snapshot.
    WaitingToSnapshot,
    /// The snapshot is being sent; effects are interleaved.
    Snapshotting,
    /// Effects alone are sent; the target executes what is left.
    Streaming,
    /// The target is ready; waiting for little to be on its way.
    WaitingToPause,
    /// The executor was asked to let writes wait.
    Pausing,
    /// Writes wait; the target commits what it has.
    Paused,
    /// `HandOff` is proposed.
    Deciding,
    /// `HandOff` is applied; waiting for the target shard to confirm.
    HandedOff,
    /// `Abort` is proposed.
    Aborting(Ending),
    /// Over.
    Ended(Ending),
    /// This node lost its office; the shard's next primary goes on.
    Abandoned,
}

impl SourceState {
    /// Valkey's word for the state.
    pub fn as_str(self) -> &'static str {
        match self {
            SourceState::Preparing | SourceState::Connecting => "connecting",
            SourceState::Authenticating => "reading-auth-response",
            SourceState::Establishing => "reading-establish-response",
            SourceState::WaitingToSnapshot => "waiting-to-snapshot",
            SourceState::Snapshotting => "snapshotting",
            SourceState::Streaming => "replicating",
            SourceState::WaitingToPause => "waiting-to-pause",
            SourceState::Pausing | SourceState::Paused => "failover-paused",
            SourceState::Deciding | SourceState::HandedOff => "failover-granted",
            SourceState::Aborting(ending) | SourceState::Ended(ending) => ending.as_str(),
            SourceState::Abandoned => Ending::Failed.as_str(),
        }
    }

    fn has_link(self) -> bool {
        matches!(
            self,
            SourceState::Connecting
                | SourceState::Authenticating
                | SourceState::Establishing
                | SourceState::WaitingToSnapshot
                | SourceState::Snapshotting
                | SourceState::Streaming
                | SourceState::WaitingToPause
                | SourceState::Pausing
                | SourceState::Paused
        )
    }
}

const UNEXPECTED: &str = "Unexpected state machine transition";
const LINK_LOST: &str = "Connection lost to target. Check CLUSTER GETSLOTMIGRATIONS on the target node for more information.";

/// One job on its source's primary.
#[derive(Debug)]
pub struct SourceJob {
    job: JobId,
    slots: SlotRanges,
    target: ShardId,
    target_node: NodeId,
    source_node: NodeId,
    limits: Limits,
    state: SourceState,
    actions: VecDeque<SourceAction>,
    message: String,
    created_s: u64,
    updated_s: u64,
    acked_s: u64,
    entered_ms: u64,
    last_heard_ms: u64,
    last_sent_ms: u64,
    paused_at_ms: Option<u64>,
    link_open: bool,
    streamed: u64,
    executed: Option<u64>,
    unsent: u64,
    progress: Progress,
    handed_off: Option<HandedOff>,
    backoff: Backoff,
    deliver_at_ms: Option<u64>,
    forgetting: bool,
}

impl SourceJob {
    /// A new job. Its first action proposes the `Export`.
    pub fn new(
        job: JobId,
        slots: SlotRanges,
        target: ShardId,
        target_node: NodeId,
        source_node: NodeId,
        limits: Limits,
        now: Now,
    ) -> Self {
        let mut it = Self {
            job,
            slots,
            target,
            target_node,
            source_node,
            limits,
            state: SourceState::Preparing,
            actions: VecDeque::new(),
            message: String::new(),
            created_s: now.unix_s,
            updated_s: now.unix_s,
            acked_s: now.unix_s,
            entered_ms: now.mono_ms,
            last_heard_ms: now.mono_ms,
            last_sent_ms: now.mono_ms,
            paused_at_ms: None,
            link_open: false,
            streamed: 0,
            executed: None,
            unsent: 0,
            progress: Progress::default(),
            handed_off: None,
            backoff: Backoff::new(&limits),
            deliver_at_ms: None,
            forgetting: false,
        };
        it.actions
            .push_back(SourceAction::Propose(SlotRecord::Export {
                job,
                slots: it.slots.clone(),
                target,
                target_node,
            }));
        it
    }

    /// On a new primary, a job that an earlier one left undecided: it is aborted.
    pub fn recover_export(
        job: JobId,
        export: crate::Export,
        source_node: NodeId,
        limits: Limits,
        now: Now,
    ) -> Self {
        let crate::Export {
            slots,
            target,
            target_node,
        } = export;
        let mut it = Self::new(job, slots, target, target_node, source_node, limits, now);
        it.actions.clear();
        it.message = "A failover occurred during slot export".into();
        it.abort(Ending::Failed, now);
        it
    }

    /// On a new primary, a job that an earlier one handed off: the target is told until it confirms.
    pub fn recover_handed_off(
        job: JobId,
        handed_off: HandedOff,
        source_node: NodeId,
        limits: Limits,
        now: Now,
    ) -> Self {
        let HandedOff {
            slots,
            target,
            target_node,
        } = handed_off.clone();
        let mut it = Self::new(job, slots, target, target_node, source_node, limits, now);
        it.actions.clear();
        it.enter(SourceState::HandedOff, now);
        it.handed_off = Some(handed_off);
        it.deliver_at_ms = Some(now.mono_ms);
        it.on_tick(now);
        it
    }

    /// The job's id.
    pub fn job(&self) -> JobId {
        self.job
    }

    /// The shard that shall own the slots.
    pub fn target(&self) -> ShardId {
        self.target
    }

    /// The slots to move.
    pub fn slots(&self) -> &SlotRanges {
        &self.slots
    }

    /// Where the job stands.
    pub fn state(&self) -> SourceState {
        self.state
    }

    /// Whether nothing more will come of the job.
    pub fn is_over(&self) -> bool {
        matches!(self.state, SourceState::Ended(_) | SourceState::Abandoned)
    }

    /// Whether a user may still cancel the job.
    pub fn is_cancellable(&self) -> bool {
        self.state == SourceState::Preparing || self.state.has_link()
    }

    /// The next thing to do; poll until `None` after every event.
    pub fn poll_action(&mut self) -> Option<SourceAction> {
        self.actions.pop_front()
    }

    /// Bytes put into the stream and not known to be executed by the target.
    pub fn lag_bytes(&self) -> u64 {
        match self.executed {
            Some(executed) => self.streamed.saturating_sub(executed),
            None => self.unsent,
        }
    }

    /// Whether the snapshot may make another step, or has to wait for the link.
    pub fn wants_snapshot_step(&self) -> bool {
        self.state == SourceState::Snapshotting && self.lag_bytes() < self.limits.window_bytes
    }

    /// The job as `CLUSTER GETSLOTMIGRATIONS` shows it.
    pub fn view(&self) -> JobView {
        let message = match self.state {
            SourceState::Snapshotting => format!(
                "{} of {} keys ({}%), {} bytes",
                self.progress.keys_sent,
                self.progress.keys_total,
                self.progress.percent(),
                self.progress.bytes
            ),
            _ => self.message.clone(),
        };
        JobView {
            job: self.job,
            operation: Operation::Export,
            slots: self.slots.clone(),
            nodes: Some((self.target_node, self.source_node)),
            create_time: self.created_s,
            last_update_time: self.updated_s,
            last_ack_time: self.acked_s,
            state: self.state.as_str(),
            message,
            remaining_bytes: if self.link_open { self.lag_bytes() } else { 0 },
            progress: self.progress,
        }
    }

    fn enter(&mut self, state: SourceState, now: Now) {
        self.state = state;
        self.entered_ms = now.mono_ms;
        self.updated_s = now.unix_s;
    }

    fn send(&mut self, message: LinkMessage, now: Now) {
        self.last_sent_ms = now.mono_ms;
        self.actions.push_back(SourceAction::Send(message));
    }

    fn close_link(&mut self) {
        if std::mem::take(&mut self.link_open) {
            self.actions.push_back(SourceAction::CloseLink);
        }
    }

    fn resume(&mut self, now: Now) {
        if let Some(since) = self.paused_at_ms.take() {
            self.progress.pause_ms = now.mono_ms.saturating_sub(since);
            self.actions.push_back(SourceAction::Resume);
        }
    }

    fn abort(&mut self, ending: Ending, now: Now) {
        self.close_link();
        self.resume(now);
        self.enter(SourceState::Aborting(ending), now);
        self.actions
            .push_back(SourceAction::Propose(SlotRecord::Abort { job: self.job }));
    }

    /// Fails the job if it is not decided and nothing is in the log that may decide it.
    fn fail(&mut self, message: impl Into<String>, now: Now) {
        if self.state == SourceState::Preparing || self.state.has_link() {
            self.message = message.into();
            self.abort(Ending::Failed, now);
        }
    }

    fn end(&mut self, ending: Ending, now: Now) {
        self.close_link();
        self.enter(SourceState::Ended(ending), now);
        self.actions.push_back(SourceAction::Finished(ending));
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
            (SlotRecord::Export { .. }, Ok(_)) if self.state == SourceState::Preparing => {
                self.enter(SourceState::Connecting, now);
                self.link_open = true;
                self.last_heard_ms = now.mono_ms;
                self.actions
                    .push_back(SourceAction::Connect(self.target_node));
            }
            (SlotRecord::Export { .. }, Err(error)) if self.state == SourceState::Preparing => {
                // Nothing was exported, so there is nothing to abort in the log.
                self.message = error.to_string();
                self.end(Ending::Failed, now);
            }
            (SlotRecord::HandOff { .. }, Ok(Applied::HandedOff(_, handed_off))) => {
                if let Some(since) = self.paused_at_ms.take() {
                    // The executor let go of the waiting writes by applying the record: `-MOVED`.
                    self.progress.pause_ms = now.mono_ms.saturating_sub(since);
                }
                self.handed_off = Some(handed_off.clone());
                self.enter(SourceState::HandedOff, now);
                if self.link_open {
                    self.send(LinkMessage::FailoverGranted, now);
                    self.deliver_at_ms = Some(now.mono_ms + self.limits.adopt_wait_ms);
                } else {
                    self.deliver_at_ms = Some(now.mono_ms);
                    self.on_tick(now);
                }
            }
            (SlotRecord::Abort { .. }, Ok(_)) => {
                let ending = match self.state {
                    SourceState::Aborting(ending) => ending,
                    _ => {
                        // Committed in answer to a question by the target.
                        self.message = "The target node gave up the job".into();
                        self.resume(now);
                        Ending::Failed
                    }
                };
                self.end(ending, now);
            }
            (SlotRecord::Abort { .. }, Err(SlotError::UnknownJob(_))) => {
                if let SourceState::Aborting(ending) = self.state {
                    self.end(ending, now);
                }
            }
            (SlotRecord::Forget { .. }, _) => {
                self.message = format!("Writes waited {} ms", self.progress.pause_ms);
                self.end(Ending::Success, now);
            }
            // A hand-off behind an abort, an abort behind a hand-off: the log has spoken already.
            _ => {}
        }
    }

    /// The link is open and authentication has begun.
    pub fn on_authenticating(&mut self, now: Now) {
        if self.state == SourceState::Connecting {
            self.enter(SourceState::Authenticating, now);
        }
    }

    /// The link is open (and authenticated).
    pub fn on_connected(&mut self, now: Now) {
        if matches!(
            self.state,
            SourceState::Connecting | SourceState::Authenticating
        ) {
            self.enter(SourceState::Establishing, now);
            self.last_heard_ms = now.mono_ms;
            self.actions.push_back(SourceAction::Establish);
        }
    }

    /// The target's answer to `ESTABLISH`: an error's text without the leading `-`.
    pub fn on_establish_reply(&mut self, reply: Result<(), String>, now: Now) {
        if self.state != SourceState::Establishing {
            return;
        }
        self.last_heard_ms = now.mono_ms;
        match reply {
            Ok(()) => {
                self.enter(SourceState::WaitingToSnapshot, now);
                self.send(LinkMessage::Ack(None), now);
                self.actions.push_back(SourceAction::BeginSnapshot);
            }
            Err(error) => self.fail(
                format!("Received error during handshake to target: {error}"),
                now,
            ),
        }
    }

    /// The snapshot has begun; `keys` are in it.
    pub fn on_snapshot_begun(&mut self, keys: u64, now: Now) {
        if self.state == SourceState::WaitingToSnapshot {
            self.progress.keys_total = keys;
            self.enter(SourceState::Snapshotting, now);
        }
    }

    /// So many keys of the snapshot are in the stream; `done` when that is all.
    pub fn on_snapshot_progress(&mut self, keys: u64, done: bool, now: Now) {
        self.progress.keys_sent = keys;
        if done && self.state == SourceState::Snapshotting {
            self.enter(SourceState::Streaming, now);
            self.send(LinkMessage::SnapshotEof, now);
        }
    }

    /// The stream is `position` bytes of data long, of which the link has not yet taken `unsent`.
    pub fn on_streamed(&mut self, position: u64, unsent: u64, now: Now) {
        self.streamed = self.streamed.max(position);
        self.unsent = unsent;
        self.progress.bytes = self.streamed;
        if self.lag_bytes() > self.limits.backlog_bytes_max {
            let message = format!(
                "Writes came faster than the link took them: more than {} bytes on their way",
                self.limits.backlog_bytes_max
            );
            self.fail(message, now);
        } else {
            self.try_pause(now);
        }
    }

    fn pause_threshold(&self, now: Now) -> u64 {
        let waited = now.mono_ms.saturating_sub(self.entered_ms);
        let late_s = waited.saturating_sub(self.limits.pause_patience_ms) / 1000;
        let doubled = self
            .limits
            .pause_lag_bytes
            .max(1)
            .saturating_mul(1u64 << late_s.min(40));
        if late_s == 0 {
            self.limits.pause_lag_bytes
        } else {
            doubled.min(self.limits.pause_lag_bytes_max)
        }
    }

    fn try_pause(&mut self, now: Now) {
        if self.state == SourceState::WaitingToPause
            && self.lag_bytes() <= self.pause_threshold(now)
        {
            self.enter(SourceState::Pausing, now);
            self.paused_at_ms = Some(now.mono_ms);
            self.actions.push_back(SourceAction::Pause);
        }
    }

    /// Writes wait, and the stream ends at `position`.
    pub fn on_paused(&mut self, position: u64, now: Now) {
        if self.state == SourceState::Pausing {
            self.streamed = self.streamed.max(position);
            self.enter(SourceState::Paused, now);
            self.send(LinkMessage::Paused(Some(position)), now);
        }
    }

    /// The target said something on the link.
    pub fn on_message(&mut self, message: LinkMessage, now: Now) {
        self.last_heard_ms = now.mono_ms;
        match message {
            LinkMessage::Ack(position) => {
                self.acked_s = now.unix_s;
                if let Some(position) = position {
                    self.executed = Some(self.executed.unwrap_or(0).max(position));
                }
                self.try_pause(now);
            }
            LinkMessage::RequestPause if self.state == SourceState::Streaming => {
                self.enter(SourceState::WaitingToPause, now);
                self.try_pause(now);
            }
            LinkMessage::RequestFailover if self.state == SourceState::Paused => {
                self.enter(SourceState::Deciding, now);
                self.actions
                    .push_back(SourceAction::Propose(SlotRecord::HandOff { job: self.job }));
            }
            LinkMessage::Adopted if self.state == SourceState::HandedOff => self.confirm(),
            LinkMessage::Adopted
            | LinkMessage::RequestPause
            | LinkMessage::RequestFailover
            | LinkMessage::SnapshotEof
            | LinkMessage::Paused(_)
            | LinkMessage::FailoverGranted => self.fail(UNEXPECTED, now),
        }
    }

    fn confirm(&mut self) {
        if !std::mem::replace(&mut self.forgetting, true) {
            self.deliver_at_ms = None;
            self.close_link();
            self.actions
                .push_back(SourceAction::Propose(SlotRecord::Forget { job: self.job }));
        }
    }

    /// The target shard's primary was told by a connection of its own. `Ok` when it has adopted.
    pub fn on_delivery(&mut self, result: Result<(), String>, now: Now) {
        if self.state != SourceState::HandedOff || self.forgetting {
            return;
        }
        match result {
            Ok(()) => self.confirm(),
            Err(error) => {
                self.message = format!("Waiting for the target to adopt: {error}");
                self.deliver_at_ms = Some(now.mono_ms + self.backoff.step());
            }
        }
    }

    /// The link could not be opened, or broke.
    pub fn on_link_down(&mut self, reason: &str, now: Now) {
        self.link_open = false;
        match self.state {
            SourceState::Connecting => {
                self.fail(format!("Unable to connect to target node: {reason}"), now);
            }
            SourceState::Authenticating => {
                self.fail(format!("Failed to AUTH to target node: {reason}"), now);
            }
            SourceState::HandedOff if !self.forgetting => {
                let at = self.deliver_at_ms.unwrap_or(now.mono_ms);
                self.deliver_at_ms = Some(at.min(now.mono_ms));
                self.on_tick(now);
            }
            _ => self.fail(LINK_LOST, now),
        }
        // The tap ends with the link; `fail` found it closed already.
        self.actions.push_back(SourceAction::CloseLink);
    }

    /// `FLUSHALL` or `FLUSHDB` was executed on the source.
    pub fn on_flushed(&mut self, now: Now) {
        if self.state != SourceState::Preparing {
            self.fail("Data was flushed", now);
        }
    }

    /// The executor could not do what was asked of it (begin the snapshot, pause, propose a
    /// hand-off whose pause is over). Nothing was put into the log.
    pub fn on_refused(&mut self, reason: &str, now: Now) {
        if self.state == SourceState::Deciding {
            self.enter(SourceState::Paused, now);
        }
        self.fail(reason, now);
    }

    /// `CLUSTER CANCELSLOTMIGRATIONS`. Whether it still made a difference.
    pub fn cancel(&mut self, now: Now) -> bool {
        let possible = self.is_cancellable();
        if possible {
            self.message.clear();
            self.abort(Ending::Cancelled, now);
        }
        possible
    }

    /// This node is no longer the primary of its shard, or can no longer know.
    pub fn on_office_lost(&mut self, now: Now) {
        if self.is_over() {
            return;
        }
        self.close_link();
        self.resume(now);
        self.message = "A failover occurred during slot export".into();
        self.enter(SourceState::Abandoned, now);
        self.actions
            .push_back(SourceAction::Finished(Ending::Failed));
    }

    fn deadline(&self) -> Option<(u64, &'static str)> {
        let limits = &self.limits;
        match self.state {
            SourceState::Connecting => Some((
                self.entered_ms + limits.handshake_timeout_ms,
                "Unable to connect to target node: timed out",
            )),
            SourceState::Authenticating => Some((
                self.entered_ms + limits.handshake_timeout_ms,
                "Target node did not respond to AUTH command",
            )),
            SourceState::Establishing => Some((
                self.entered_ms + limits.handshake_timeout_ms,
                "Target node did not respond to the ESTABLISH command",
            )),
            SourceState::WaitingToSnapshot
            | SourceState::Snapshotting
            | SourceState::Streaming
            | SourceState::WaitingToPause => Some((
                self.last_heard_ms + limits.silence_timeout_ms,
                "Timed out after too long with no interaction",
            )),
            SourceState::Pausing | SourceState::Paused => Some((
                self.paused_at_ms.unwrap_or(self.entered_ms) + limits.pause_timeout_ms,
                "Timed out before streaming completed",
            )),
            SourceState::Preparing
            | SourceState::Deciding
            | SourceState::HandedOff
            | SourceState::Aborting(_)
            | SourceState::Ended(_)
            | SourceState::Abandoned => None,
        }
    }

    fn ack_due(&self) -> Option<u64> {
        let quiet = matches!(
            self.state,
            SourceState::WaitingToSnapshot
                | SourceState::Snapshotting
                | SourceState::Streaming
                | SourceState::WaitingToPause
        );
        quiet.then(|| self.last_sent_ms + self.limits.ack_interval_ms)
    }

    /// The next moment, on the monotonic clock, at which [`SourceJob::on_tick`] has something to do.
    pub fn poll_timeout(&self) -> Option<u64> {
        let deadline = self.deadline().map(|(at, _)| at);
        let patience = (self.state == SourceState::WaitingToPause)
            .then(|| self.entered_ms + self.limits.pause_patience_ms + 1000)
            .map(|first| first.max(self.last_sent_ms + 1000));
        [deadline, self.ack_due(), self.deliver_at_ms, patience]
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
        self.try_pause(now);
        if self.ack_due().is_some_and(|at| now.mono_ms >= at) {
            self.send(LinkMessage::Ack(Some(self.streamed)), now);
        }
        if self.deliver_at_ms.is_some_and(|at| now.mono_ms >= at)
            && let Some(handed_off) = self.handed_off.clone()
        {
            self.deliver_at_ms = None;
            self.actions.push_back(SourceAction::Deliver(handed_off));
        }
    }
}
