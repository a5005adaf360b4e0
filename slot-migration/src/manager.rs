//! All jobs of one node, and what its primary says about them to other shards.
//!
//! [`Migrations`] keeps a mirror of the shard's [`ShardSlots`]: it is given the state when the node
//! takes office, and every record that is applied after. So it answers questions from applied state
//! without asking anyone.

use std::collections::{BTreeMap, VecDeque};

use crate::{
    ClaimAction, ClaimJob, GrantAction, GrantJob, JobId, JobOutcome, JobView, Limits, NodeId, Now,
    Operation, Progress, ShardId, ShardSlots, SlotRanges, SlotRecord, SourceAction, SourceJob,
    SourceState, TargetAction, TargetJob, Unfinished,
};

/// Names a claim of this node, from [`Migrations::claim`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClaimId(pub u64);

/// Names a question that another shard's primary has put to this one; drawn by the driver, used once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// What one shard's primary asks another's, by a connection of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Target to source: what became of the job? Answered by [`Answer::Outcome`].
    Outcome(JobId),
    /// Source to target: the job was handed off. Answered by [`Answer::Done`] once adopted.
    HandedOff(JobId),
    /// Target to source, the older way: export a job for these slots. Answered by [`Answer::Job`].
    Export {
        /// Slots that the source owns.
        slots: SlotRanges,
        /// The asking shard.
        target: ShardId,
        /// The asking node.
        target_node: NodeId,
    },
    /// Target to source, the older way: hand the job off. Answered by [`Answer::Done`].
    HandOff(JobId),
}

/// What a primary answers. Every answer is committed before it is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Never [`JobOutcome::Undecided`].
    Outcome(JobOutcome),
    /// It is so.
    Done,
    /// The job that was exported.
    Job(JobId),
}

/// What a driver does for the jobs of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// For a job of which this shard is the source.
    Source(JobId, SourceAction),
    /// For a job of which this shard is the target.
    Target(JobId, TargetAction),
    /// For a claim in the older way.
    Claim(ClaimId, ClaimAction),
    /// For a hand-off in the older way: to propose or to resume. Its replies come as
    /// [`Action::Reply`], its end not at all.
    Grant(JobId, GrantAction),
    /// Propose the record in this shard's log.
    Propose(SlotRecord),
    /// Answer a request, or give this error's text. Look at the lease before sending it.
    Reply(RequestId, Result<Answer, String>),
}

/// Why jobs cannot be started. The text is the command's error.
pub type StartError = String;

const NOT_PRIMARY: &str = "Slot migration can only be used on primary nodes.";

#[derive(Debug, Default)]
struct Waiting {
    /// Questions that an `Abort` in the log will answer.
    outcome: BTreeMap<JobId, Vec<RequestId>>,
    /// Sources that wait for an `Adopt`.
    adoption: BTreeMap<JobId, Vec<RequestId>>,
    /// Targets that wait for an `Export`, the older way.
    export: BTreeMap<JobId, RequestId>,
    /// Targets that wait for a `HandOff`, the older way.
    hand_off: BTreeMap<JobId, Vec<RequestId>>,
}

/// The jobs of one node. See the crate's documentation for what its driver keeps to.
#[derive(Debug)]
pub struct Migrations {
    me: NodeId,
    limits: Limits,
    /// The state as applied, while this node is its shard's primary.
    slots: Option<ShardSlots>,
    sources: BTreeMap<JobId, SourceJob>,
    targets: BTreeMap<JobId, TargetJob>,
    claims: BTreeMap<ClaimId, ClaimJob>,
    grants: BTreeMap<JobId, GrantJob>,
    waiting: Waiting,
    actions: VecDeque<Action>,
    next_claim: u64,
    /// Newest first.
    finished: VecDeque<JobView>,
    finished_max: usize,
}

impl Migrations {
    /// No jobs, out of office. Keeps the `finished_max` newest finished jobs for display
    /// (`cluster-slot-migration-log-max-len`).
    pub fn new(me: NodeId, limits: Limits, finished_max: usize) -> Self {
        Self {
            me,
            limits,
            slots: None,
            sources: BTreeMap::new(),
            targets: BTreeMap::new(),
            claims: BTreeMap::new(),
            grants: BTreeMap::new(),
            waiting: Waiting::default(),
            actions: VecDeque::new(),
            next_claim: 0,
            finished: VecDeque::new(),
            finished_max,
        }
    }

    /// The limits of jobs started from now on.
    pub fn set_limits(&mut self, limits: Limits, finished_max: usize) {
        self.limits = limits;
        self.finished_max = finished_max;
        self.finished.truncate(finished_max);
    }

    /// The shard's slots as applied, while this node is its primary.
    pub fn slots(&self) -> Option<&ShardSlots> {
        self.slots.as_ref()
    }

    /// This node has become its shard's primary and has applied everything before its own term,
    /// with this result. What earlier primaries left is taken up.
    pub fn on_office(&mut self, slots: ShardSlots, now: Now) {
        self.on_office_lost(now);
        for unfinished in slots.unfinished() {
            match unfinished {
                Unfinished::AbortExport(job) => {
                    if let Some(export) = slots.exports().get(&job).cloned() {
                        let it = SourceJob::recover_export(job, export, self.me, self.limits, now);
                        self.sources.insert(job, it);
                    }
                }
                Unfinished::DeliverHandOff(job, handed_off) => {
                    self.deliver(job, handed_off, now);
                }
                Unfinished::AbortStaging(job) => {
                    if let Some(staging) = slots.stagings().get(&job).cloned() {
                        let it = TargetJob::recover(job, staging, self.me, self.limits, now);
                        self.targets.insert(job, it);
                    }
                }
                Unfinished::ResolveStaging(job, staging) => {
                    let it = TargetJob::recover(job, staging, self.me, self.limits, now);
                    self.targets.insert(job, it);
                }
                Unfinished::ResolveClaim(job, claim) => {
                    let it = ClaimJob::recover(job, claim, self.limits, now);
                    let id = self.next_claim_id();
                    self.claims.insert(id, it);
                }
            }
        }
        self.slots = Some(slots);
        self.collect(now);
    }

    /// This node is no longer its shard's primary, or can no longer know.
    pub fn on_office_lost(&mut self, now: Now) {
        for job in self.sources.values_mut() {
            job.on_office_lost(now);
        }
        for job in self.targets.values_mut() {
            job.on_office_lost(now);
        }
        for job in self.claims.values_mut() {
            job.on_office_lost();
        }
        for job in self.grants.values_mut() {
            job.on_office_lost();
        }
        self.collect(now);
        self.slots = None;
        let waiting = std::mem::take(&mut self.waiting);
        let all = waiting.outcome.into_values().flatten();
        let all = all.chain(waiting.adoption.into_values().flatten());
        let all = all.chain(waiting.export.into_values());
        for request in all.chain(waiting.hand_off.into_values().flatten()) {
            self.reply(request, Err(NOT_PRIMARY.into()));
        }
    }

    /// A record was applied from the log of the shard that this node is the primary of.
    pub fn on_record(&mut self, record: &SlotRecord, now: Now) {
        let Some(slots) = &mut self.slots else { return };
        let result = slots.apply(record);
        let Some(job) = record.job() else { return };
        if let Some(it) = self.sources.get_mut(&job) {
            it.on_applied(record, &result, now);
        }
        if let Some(it) = self.targets.get_mut(&job) {
            it.on_applied(record, &result, now);
        }
        if let Some(it) = self.grants.get_mut(&job) {
            it.on_applied(record, &result);
        }
        for it in self.claims.values_mut() {
            it.on_applied(record, &result);
        }
        self.collect(now);
        let outcome = self.slots.as_ref().map(|slots| slots.outcome(job));
        if let Some(outcome) = outcome.filter(|&o| o != JobOutcome::Undecided) {
            for request in self.waiting.outcome.remove(&job).unwrap_or_default() {
                self.reply(request, Ok(Answer::Outcome(outcome)));
            }
        }
        if self.slots.as_ref().is_some_and(|s| s.has_settled(job)) {
            for request in self.waiting.adoption.remove(&job).unwrap_or_default() {
                self.reply(request, Ok(Answer::Done));
            }
        }
    }

    /// Starts a job (`CLUSTER MIGRATESLOTS`); `job` is 20 fresh random bytes.
    pub fn start(
        &mut self,
        job: JobId,
        slots: SlotRanges,
        target: ShardId,
        target_node: NodeId,
        now: Now,
    ) -> Result<(), StartError> {
        let record = SlotRecord::Export {
            job,
            slots: slots.clone(),
            target,
            target_node,
        };
        let state = self.slots.as_ref().ok_or(NOT_PRIMARY)?;
        if state.all_importing().next().is_some() {
            return Err("Slots are being manually imported".into());
        }
        if state.all_migrating().next().is_some() {
            return Err("Slots are being manually migrated".into());
        }
        let running = self.sources.values().filter(|s| !s.is_over());
        if let Some(slot) = running.filter_map(|s| s.slots().first_common(&slots)).min() {
            return Err(format!("I am already migrating slot {slot}."));
        }
        state.check(&record).map_err(|error| error.to_string())?;
        let it = SourceJob::new(job, slots, target, target_node, self.me, self.limits, now);
        self.sources.insert(job, it);
        self.collect(now);
        Ok(())
    }

    /// Whether a job moves any slot away at present.
    pub fn is_exporting(&self) -> bool {
        self.sources
            .values()
            .any(|s| !s.is_over() && s.state() != SourceState::HandedOff)
    }

    /// Whether a job brings any slot in at present.
    pub fn is_importing(&self) -> bool {
        self.targets.values().any(|t| !t.is_over())
    }

    /// `CLUSTER CANCELSLOTMIGRATIONS`: an error's text when there is nothing to cancel.
    pub fn cancel_all(&mut self, now: Now) -> Result<(), StartError> {
        if !self.is_exporting() {
            return Err("No migrations ongoing".into());
        }
        for job in self.sources.values_mut() {
            job.cancel(now);
        }
        self.collect(now);
        Ok(())
    }

    /// A source opened a link with `ESTABLISH`. An error is the answer; otherwise it comes by
    /// [`TargetAction::ReplyEstablish`].
    pub fn establish(
        &mut self,
        job: JobId,
        slots: SlotRanges,
        source: ShardId,
        source_node: NodeId,
        now: Now,
    ) -> Result<(), StartError> {
        let record = SlotRecord::Stage {
            job,
            slots: slots.clone(),
            source,
            source_node,
        };
        let state = self.slots.as_ref().ok_or(NOT_PRIMARY)?;
        if state.all_importing().next().is_some() {
            return Err("Slots are being manually imported".into());
        }
        if state.all_migrating().next().is_some() {
            return Err("Slots are being manually migrated".into());
        }
        let running = self.targets.values().filter(|t| !t.is_over());
        if self.targets.contains_key(&job)
            || running
                .filter_map(|t| t.slots().first_common(&slots))
                .min()
                .is_some()
        {
            return Err(
                "Slot is already being imported on the target by a different migration".into(),
            );
        }
        state.check(&record).map_err(|error| error.to_string())?;
        let it = TargetJob::new(job, slots, source, source_node, self.me, self.limits, now);
        self.targets.insert(job, it);
        self.collect(now);
        Ok(())
    }

    /// Takes slots over in the older way (`CLUSTER SETSLOT … NODE <this node>`). The command is
    /// answered by [`ClaimAction::Finished`].
    pub fn claim(
        &mut self,
        slots: SlotRanges,
        source: ShardId,
        now: Now,
    ) -> Result<ClaimId, StartError> {
        if self.slots.is_none() {
            return Err(NOT_PRIMARY.into());
        }
        let mut running = self.claims.values();
        if running.any(|c| c.slots().first_common(&slots).is_some()) {
            return Err("The slot is being taken over already".into());
        }
        let id = self.next_claim_id();
        self.claims
            .insert(id, ClaimJob::new(slots, source, self.limits));
        self.collect(now);
        Ok(id)
    }

    fn next_claim_id(&mut self) -> ClaimId {
        self.next_claim += 1;
        ClaimId(self.next_claim)
    }

    /// Another shard's primary asks. `fresh` is 20 fresh random bytes, used when a job is to be made.
    /// Whatever happens, one [`Action::Reply`] follows.
    pub fn on_request(&mut self, id: RequestId, request: Request, fresh: JobId, now: Now) {
        let Some(slots) = &self.slots else {
            self.reply(id, Err(NOT_PRIMARY.into()));
            return;
        };
        match request {
            Request::Outcome(job) => match slots.outcome(job) {
                JobOutcome::Undecided => {
                    let waiting = self.waiting.outcome.entry(job).or_default();
                    waiting.push(id);
                    if waiting.len() == 1 {
                        self.actions
                            .push_back(Action::Propose(SlotRecord::Abort { job }));
                    }
                }
                decided => self.reply(id, Ok(Answer::Outcome(decided))),
            },
            Request::HandedOff(job) => {
                if slots.has_settled(job) {
                    self.reply(id, Ok(Answer::Done));
                    return;
                }
                self.waiting.adoption.entry(job).or_default().push(id);
                if let Some(it) = self.targets.get_mut(&job) {
                    it.on_told_handed_off(now);
                }
                for it in self.claims.values_mut() {
                    if it.job() == Some(job) {
                        it.on_told_handed_off();
                    }
                }
            }
            Request::Export {
                slots: ranges,
                target,
                target_node,
            } => {
                let record = SlotRecord::Export {
                    job: fresh,
                    slots: ranges.clone(),
                    target,
                    target_node,
                };
                if let Err(error) = slots.check(&record) {
                    self.reply(id, Err(error.to_string()));
                    return;
                }
                let it = GrantJob::new(fresh, ranges, target, target_node, self.limits, now);
                self.grants.insert(fresh, it);
                self.waiting.export.insert(fresh, id);
            }
            Request::HandOff(job) => match self.grants.get_mut(&job) {
                Some(it) => {
                    self.waiting.hand_off.entry(job).or_default().push(id);
                    it.on_hand_off_requested();
                }
                None => match slots.outcome(job) {
                    JobOutcome::HandedOff => self.reply(id, Ok(Answer::Done)),
                    JobOutcome::Undecided | JobOutcome::Aborted => {
                        self.reply(id, Err("No such hand-off".into()));
                    }
                },
            },
        }
        self.collect(now);
    }

    fn reply(&mut self, request: RequestId, answer: Result<Answer, String>) {
        self.actions.push_back(Action::Reply(request, answer));
    }

    fn deliver(&mut self, job: JobId, handed_off: crate::HandedOff, now: Now) {
        let it = SourceJob::recover_handed_off(job, handed_off, self.me, self.limits, now);
        self.sources.insert(job, it);
    }

    /// Hands an event to a source job, if there is one of this id.
    pub fn source(&mut self, job: JobId, now: Now, event: impl FnOnce(&mut SourceJob)) {
        if let Some(it) = self.sources.get_mut(&job) {
            event(it);
            self.collect(now);
        }
    }

    /// Hands an event to a target job, if there is one of this id.
    pub fn target(&mut self, job: JobId, now: Now, event: impl FnOnce(&mut TargetJob)) {
        if let Some(it) = self.targets.get_mut(&job) {
            event(it);
            self.collect(now);
        }
    }

    /// Hands an event to a claim, if there is one of this id.
    pub fn on_claim(&mut self, id: ClaimId, now: Now, event: impl FnOnce(&mut ClaimJob)) {
        if let Some(it) = self.claims.get_mut(&id) {
            event(it);
            self.collect(now);
        }
    }

    /// Hands an event to a grant, if there is one of this id.
    pub fn on_grant(&mut self, job: JobId, now: Now, event: impl FnOnce(&mut GrantJob)) {
        if let Some(it) = self.grants.get_mut(&job) {
            event(it);
            self.collect(now);
        }
    }

    /// The slots of a running claim.
    pub fn claim_slots(&self, id: ClaimId) -> Option<&SlotRanges> {
        self.claims.get(&id).map(ClaimJob::slots)
    }

    /// A look at a running source job.
    pub fn source_job(&self, job: JobId) -> Option<&SourceJob> {
        self.sources.get(&job)
    }

    /// `FLUSHALL` or `FLUSHDB` was executed here.
    pub fn on_flushed(&mut self, now: Now) {
        for job in self.sources.values_mut() {
            job.on_flushed(now);
        }
        for job in self.targets.values_mut() {
            job.on_flushed(now);
        }
        self.collect(now);
    }

    /// Moves the jobs' actions into the one queue, and jobs that are over into the log.
    fn collect(&mut self, now: Now) {
        for (&job, it) in &mut self.sources {
            while let Some(action) = it.poll_action() {
                self.actions.push_back(Action::Source(job, action));
            }
        }
        for (&job, it) in &mut self.targets {
            while let Some(action) = it.poll_action() {
                self.actions.push_back(Action::Target(job, action));
            }
        }
        for (&id, it) in &mut self.claims {
            while let Some(action) = it.poll_action() {
                self.actions.push_back(Action::Claim(id, action));
            }
        }
        let mut handed_off = Vec::new();
        for (&job, it) in &mut self.grants {
            while let Some(action) = it.poll_action() {
                match action {
                    GrantAction::ReplyExport(answer) => {
                        if let Some(request) = self.waiting.export.remove(&job) {
                            let answer = answer.map(Answer::Job);
                            self.actions.push_back(Action::Reply(request, answer));
                        }
                    }
                    GrantAction::ReplyHandOff(answer) => {
                        let answer = answer.map(|()| Answer::Done);
                        for request in self.waiting.hand_off.remove(&job).unwrap_or_default() {
                            self.actions
                                .push_back(Action::Reply(request, answer.clone()));
                        }
                    }
                    GrantAction::Finished(outcome) => {
                        handed_off.extend(outcome.map(|outcome| (job, outcome)));
                    }
                    other => self.actions.push_back(Action::Grant(job, other)),
                }
            }
        }
        self.grants.retain(|_, it| !it.is_over());
        self.claims.retain(|_, it| !it.is_over());
        let over: Vec<JobView> = (self.sources.values().filter(|s| s.is_over()))
            .map(SourceJob::view)
            .chain(
                self.targets
                    .values()
                    .filter(|t| t.is_over())
                    .map(TargetJob::view),
            )
            .collect();
        for view in over {
            self.finished.push_front(view);
        }
        self.finished.truncate(self.finished_max);
        self.sources.retain(|_, it| !it.is_over());
        self.targets.retain(|_, it| !it.is_over());
        if !handed_off.is_empty() {
            for (job, outcome) in handed_off {
                self.deliver(job, outcome, now);
            }
            self.collect(now);
        }
    }

    /// The next thing to do; poll until `None` after every event.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// The next moment, on the monotonic clock, at which [`Migrations::on_tick`] has something to do.
    pub fn poll_timeout(&self) -> Option<u64> {
        let sources = self.sources.values().filter_map(SourceJob::poll_timeout);
        let targets = self.targets.values().filter_map(TargetJob::poll_timeout);
        let claims = self.claims.values().filter_map(ClaimJob::poll_timeout);
        let grants = self.grants.values().filter_map(GrantJob::poll_timeout);
        sources.chain(targets).chain(claims).chain(grants).min()
    }

    /// Time has passed.
    pub fn on_tick(&mut self, now: Now) {
        for job in self.sources.values_mut() {
            job.on_tick(now);
        }
        for job in self.targets.values_mut() {
            job.on_tick(now);
        }
        for job in self.claims.values_mut() {
            job.on_tick(now);
        }
        for job in self.grants.values_mut() {
            job.on_tick(now);
        }
        self.collect(now);
    }

    /// `CLUSTER GETSLOTMIGRATIONS`: running jobs, then finished ones, the newest first.
    pub fn views(&self) -> Vec<JobView> {
        let mut running: Vec<JobView> = (self.sources.values().map(SourceJob::view))
            .chain(self.targets.values().map(TargetJob::view))
            .collect();
        running.sort_by(|a, b| b.create_time.cmp(&a.create_time).then(a.job.cmp(&b.job)));
        running.extend(self.finished.iter().cloned());
        running
    }
}

/// How a node that is not the primary shows the jobs that its shard takes in: it merely follows.
pub fn followed_views(slots: &ShardSlots) -> Vec<JobView> {
    let stagings = slots.stagings().iter();
    stagings
        .map(|(&job, staging)| JobView {
            job,
            operation: Operation::Import,
            slots: staging.slots.clone(),
            nodes: None,
            create_time: 0,
            last_update_time: 0,
            last_ack_time: 0,
            state: "occurring-on-primary",
            message: String::new(),
            remaining_bytes: 0,
            progress: Progress::default(),
        })
        .collect()
}
