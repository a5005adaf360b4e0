//! The jobs of this node, as a task of the control thread: it owns [`Migrations`] and does what they want done.
//!
//! Everything that happens comes in by one queue of [`Input`]s: from the executor, from links, from answers of other
//! shards, from commands. Actions are carried out in their order, those for the executor by waiting for it.

use super::commands;
use super::directory::{Peer, SharedDirectory};
use super::exec::{ExecEvent, ExportStep, Flow, PauseId};
use super::link::{Link, LinkEvent};
use super::peer::{Credentials, call_shard};
use crate::seam::{DeferredToken, ExecutorHandle, ToExecutor};
use bytes::Bytes;
use holdfast_raft_log::planted::planted;
use holdfast_resp::reply::Reply;
use holdfast_resp::{Proto, write};
use holdfast_slot_migration::{
    Action, Answer, ClaimAction, ClaimId, GrantAction, JobId, JobOutcome, Limits, LinkMessage,
    Migrations, NodeId, Now, Request, RequestId, ShardId, SlotRanges, SlotRecord, SourceAction,
    SourceState, TargetAction, encode_command, followed_views,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::{mpsc, oneshot};

/// How often a running job's figures are looked at, beside the events that it has.
const LOOK_MS: u64 = 20;
/// How long the snapshot sleeps when enough of it is on its way.
const WINDOW_WAIT: Duration = Duration::from_millis(1);

/// What the task is told.
#[derive(Debug)]
pub enum Input {
    /// By the executor.
    Exec(ExecEvent),
    /// A command of a client, to be answered.
    Command {
        /// Which client.
        token: DeferredToken,
        /// The whole command.
        argv: Vec<Bytes>,
        /// The client's protocol.
        proto: Proto,
    },
    /// By a link of ours.
    Link(JobId, LinkEvent),
    /// A step of a job's snapshot was made.
    Snapshot(JobId, ExportStep),
    /// A target shard was told of a hand-off.
    Delivered(JobId, Result<(), String>),
    /// A source shard was asked for an outcome.
    Answered(JobId, Result<JobOutcome, String>),
    /// A source shard was asked for something on behalf of a claim.
    Claimed(ClaimId, ClaimAnswer),
    /// `SETSLOT … NODE <this node>`.
    Take {
        /// The slot.
        slot: u16,
        /// Its owner by the bus.
        from: NodeId,
        /// The outcome.
        done: oneshot::Sender<Result<(), String>>,
    },
    /// `SETSLOT … NODE <another node>`.
    Give {
        /// The slot.
        slot: u16,
        /// The outcome.
        done: oneshot::Sender<Result<(), String>>,
    },
    /// The configuration has changed.
    Limits(Limits, usize),
}

/// An answer to a claim's request.
#[derive(Debug)]
pub enum ClaimAnswer {
    /// To the request for a job.
    Exported(Result<JobId, String>),
    /// To the request for the hand-off.
    HandedOff(Result<(), String>),
    /// To the question for the outcome.
    Outcome(Result<JobOutcome, String>),
}

/// What the task needs.
#[derive(Clone, Debug)]
pub struct MigrationContext {
    /// This node.
    pub me: NodeId,
    /// The executor.
    pub executor: ExecutorHandle,
    /// The cluster, kept up to date by the bus's driver.
    pub directory: SharedDirectory,
    /// How nodes authenticate with each other.
    pub credentials: Credentials,
    /// Limits of jobs.
    pub limits: Limits,
    /// `cluster-slot-migration-log-max-len`
    pub log_max: usize,
}

/// A handle of the task; clones are the same.
#[derive(Clone, Debug)]
pub struct Migration {
    tx: mpsc::UnboundedSender<Input>,
}

impl Migration {
    /// Starts the task, and has the executor tell it what happens from now on.
    ///
    /// # Errors
    /// The executor has ended.
    pub async fn start(context: MigrationContext) -> Result<Migration, crate::seam::ExecutorGone> {
        let (tx, rx) = mpsc::unbounded_channel();
        let events = tx.clone();
        let executor = context.executor.clone();
        tokio::spawn(Task::new(context, tx.clone()).run(rx));
        executor
            .run(move |ex| {
                ex.migrate.connect(events);
                ex.migrate_on_office();
            })
            .await?;
        Ok(Migration { tx })
    }

    /// Whether a command is one of ours: the `CLUSTER` subcommands of slot migration.
    pub fn is_ours(argv: &[Bytes]) -> bool {
        let word = |i: usize, word: &str| {
            argv.get(i)
                .is_some_and(|a| a.eq_ignore_ascii_case(word.as_bytes()))
        };
        word(0, "cluster")
            && [
                "migrateslots",
                "getslotmigrations",
                "cancelslotmigrations",
                "syncslots",
            ]
            .iter()
            .any(|name| word(1, name))
    }

    /// Takes a command that is ours. Its answer goes to the executor.
    pub fn command(&self, token: DeferredToken, argv: Vec<Bytes>, proto: Proto) {
        self.send(Input::Command { token, argv, proto });
    }

    /// Takes a slot over in the older way: returns when it is ours, durably, or with an error's text.
    ///
    /// # Errors
    /// The source holds keys of it still, or could not be asked.
    pub async fn take_slot(&self, slot: u16, from: NodeId) -> Result<(), String> {
        let (done, answer) = oneshot::channel();
        self.send(Input::Take { slot, from, done });
        answer
            .await
            .unwrap_or_else(|_| Err("the node is stopping".into()))
    }

    /// Gives a slot away in the older way: fine when the new owner has taken it already.
    ///
    /// # Errors
    /// It is still ours: the new owner must be told first, and takes it.
    pub async fn give_slot(&self, slot: u16) -> Result<(), String> {
        let (done, answer) = oneshot::channel();
        self.send(Input::Give { slot, done });
        answer
            .await
            .unwrap_or_else(|_| Err("the node is stopping".into()))
    }

    /// Puts other limits in force for new jobs.
    pub fn set_limits(&self, limits: Limits, log_max: usize) {
        self.send(Input::Limits(limits, log_max));
    }

    fn send(&self, input: Input) {
        // The task runs as long as the process.
        let _ = self.tx.send(input);
    }
}

struct Running {
    link: Link,
    flow: Arc<Flow>,
}

struct Task {
    cx: MigrationContext,
    tx: mpsc::UnboundedSender<Input>,
    jobs: Migrations,
    started: Instant,
    running: BTreeMap<JobId, Running>,
    /// Clients whose `ESTABLISH` waits for its job.
    establishing: BTreeMap<JobId, DeferredToken>,
    /// Clients, that is other primaries, whose question waits.
    asking: BTreeMap<RequestId, DeferredToken>,
    taking: BTreeMap<ClaimId, oneshot::Sender<Result<(), String>>>,
    claim_sources: BTreeMap<ClaimId, NodeId>,
    next_request: u64,
}

fn is_lost(outcome: &Reply) -> String {
    format!("an answer of an unknown kind: {outcome:?}")
}

fn outcome_of(reply: Result<Reply, String>) -> Result<JobOutcome, String> {
    match reply? {
        Reply::Simple(text) if text == b"HANDED-OFF" => Ok(JobOutcome::HandedOff),
        Reply::Simple(text) if text == b"ABORTED" => Ok(JobOutcome::Aborted),
        other => Err(is_lost(&other)),
    }
}

fn done_of(reply: Result<Reply, String>) -> Result<(), String> {
    match reply? {
        reply if reply.is_ok() => Ok(()),
        other => Err(is_lost(&other)),
    }
}

fn job_of(reply: Result<Reply, String>) -> Result<JobId, String> {
    match reply? {
        Reply::Simple(text) => JobId::parse(&text).ok_or_else(|| "a malformed job id".to_string()),
        other => Err(is_lost(&other)),
    }
}

impl Task {
    fn new(cx: MigrationContext, tx: mpsc::UnboundedSender<Input>) -> Task {
        Task {
            jobs: Migrations::new(cx.me, cx.limits, cx.log_max),
            cx,
            tx,
            started: Instant::now(),
            running: BTreeMap::new(),
            establishing: BTreeMap::new(),
            asking: BTreeMap::new(),
            taking: BTreeMap::new(),
            claim_sources: BTreeMap::new(),
            next_request: 0,
        }
    }

    fn now(&self) -> Now {
        let unix = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        Now {
            mono_ms: self.started.elapsed().as_millis() as u64,
            unix_s: unix.as_secs(),
        }
    }

    async fn run(mut self, mut rx: mpsc::UnboundedReceiver<Input>) {
        loop {
            let now = self.now().mono_ms;
            let mut due = self.jobs.poll_timeout().unwrap_or(now + 3_600_000);
            if !self.running.is_empty() {
                due = due.min(now + LOOK_MS);
            }
            // Sleeping less than a millisecond is not sleeping.
            let wait = Duration::from_millis(due.saturating_sub(now).max(1));
            match tokio::time::timeout(wait, rx.recv()).await {
                Ok(None) => return,
                Ok(Some(input)) => self.on_input(input).await,
                Err(_) => {}
            }
            self.look();
            let now = self.now();
            if self.jobs.poll_timeout().is_some_and(|at| at <= now.mono_ms) {
                self.jobs.on_tick(now);
            }
            self.drive().await;
        }
    }

    /// Tells the running jobs how long their streams are.
    fn look(&mut self) {
        let now = self.now();
        for (&job, running) in &self.running {
            let streamed = running.flow.streamed.load(Ordering::Relaxed);
            let executed = running.flow.executed.load(Ordering::Relaxed);
            self.jobs.source(job, now, |it| {
                it.on_streamed(streamed, streamed.saturating_sub(executed), now);
            });
        }
    }

    async fn on_input(&mut self, input: Input) {
        let now = self.now();
        match input {
            Input::Exec(event) => self.on_exec(event),
            Input::Command { token, argv, proto } => self.on_command(token, &argv, proto).await,
            Input::Link(job, event) => self.on_link(job, event),
            Input::Snapshot(job, step) => {
                self.look();
                self.jobs.source(job, now, |it| {
                    it.on_snapshot_progress(step.keys, step.done, now)
                });
            }
            Input::Delivered(job, result) => {
                self.jobs.source(job, now, |it| it.on_delivery(result, now));
            }
            Input::Answered(job, answer) => {
                self.jobs.target(job, now, |it| it.on_answer(answer, now));
            }
            Input::Claimed(id, answer) => self.jobs.on_claim(id, now, |it| match answer {
                ClaimAnswer::Exported(result) => it.on_exported(result),
                ClaimAnswer::HandedOff(result) => it.on_hand_off(result, now),
                ClaimAnswer::Outcome(result) => it.on_answer(result, now),
            }),
            Input::Take { slot, from, done } => self.take(slot, from, done),
            Input::Give { slot, done } => {
                let owns = self.jobs.slots().is_some_and(|slots| slots.owns(slot));
                // Whoever asked may have gone.
                let _ = done.send(match owns {
                    false => Ok(()),
                    true => Err(
                        "Set the slot's owner on its new owner first, which takes it over".into(),
                    ),
                });
            }
            Input::Limits(limits, log_max) => self.jobs.set_limits(limits, log_max),
        }
    }

    fn on_exec(&mut self, event: ExecEvent) {
        let now = self.now();
        match event {
            ExecEvent::Office(Some(slots)) => self.jobs.on_office(*slots, now),
            ExecEvent::Office(None) => self.jobs.on_office_lost(now),
            ExecEvent::Record(record) => self.jobs.on_record(&record, now),
            ExecEvent::Message(job, message, executed) => {
                self.jobs
                    .target(job, now, |it| it.on_message(message, executed, now));
            }
            ExecEvent::Executed(job, executed) => {
                self.jobs
                    .target(job, now, |it| it.on_executed(executed, now));
            }
            ExecEvent::DataError(job, error) => {
                self.jobs
                    .target(job, now, |it| it.on_data_error(&error, now));
            }
            ExecEvent::LinkClosed(job) => self.jobs.target(job, now, |it| it.on_link_down(now)),
            ExecEvent::Flushed => self.jobs.on_flushed(now),
        }
    }

    fn on_link(&mut self, job: JobId, event: LinkEvent) {
        let now = self.now();
        if let LinkEvent::Message(LinkMessage::Ack(Some(executed))) = &event
            && let Some(running) = self.running.get(&job)
        {
            running
                .flow
                .executed
                .fetch_max(*executed, Ordering::Relaxed);
        }
        self.look();
        self.jobs.source(job, now, |it| match event {
            LinkEvent::Authenticating => it.on_authenticating(now),
            LinkEvent::Connected => it.on_connected(now),
            LinkEvent::Established(reply) => it.on_establish_reply(reply, now),
            LinkEvent::Message(message) => it.on_message(message, now),
            LinkEvent::Down(reason) => it.on_link_down(&reason, now),
        });
    }

    fn take(&mut self, slot: u16, from: NodeId, done: oneshot::Sender<Result<(), String>>) {
        let now = self.now();
        let Some(source) = self.cx.directory.get().peer(from).map(|peer| peer.shard) else {
            let _ = done.send(Err("The slot's owner is not known".into()));
            return;
        };
        match self.jobs.claim(SlotRanges::single(slot), source, now) {
            Err(error) => drop(done.send(Err(error))),
            Ok(id) => {
                self.taking.insert(id, done);
                self.claim_sources.insert(id, from);
            }
        }
    }

    async fn on_command(&mut self, token: DeferredToken, argv: &[Bytes], proto: Proto) {
        let args: Vec<&[u8]> = argv.iter().map(|a| &a[..]).collect();
        let now = self.now();
        let name = args
            .get(1)
            .map(|a| a.to_ascii_lowercase())
            .unwrap_or_default();
        let rest = args.get(2..).unwrap_or_default();
        let result = match name.as_slice() {
            b"migrateslots" if rest.len() >= 2 => self.migrate_slots(rest, now).map(|()| ok()),
            b"getslotmigrations" if rest.is_empty() => Ok(self.views(proto).await),
            b"cancelslotmigrations"
                if rest.is_empty() || rest.len() == 1 && rest[0].eq_ignore_ascii_case(b"all") =>
            {
                self.jobs
                    .cancel_all(now)
                    .map(|()| ok())
                    .map_err(|error| format!("ERR {error}"))
            }
            b"syncslots" if !rest.is_empty() => match self.sync_slots(token, rest, now) {
                Ok(()) => return,
                Err(error) => Err(error),
            },
            other => Err(format!(
                "ERR wrong number of arguments for 'cluster|{}' command",
                String::from_utf8_lossy(other)
            )),
        };
        self.answer(token, result).await;
    }

    async fn answer(&self, token: DeferredToken, result: Result<Vec<u8>, String>) {
        let bytes = result.unwrap_or_else(|error| {
            let mut out = Vec::new();
            write::error(&mut out, error.as_bytes());
            out
        });
        // Without an executor nobody waits.
        let _ = self
            .cx
            .executor
            .send(ToExecutor::Reply { token, bytes })
            .await;
    }

    async fn views(&self, proto: Proto) -> Vec<u8> {
        let mut views = self.jobs.views();
        if self.jobs.slots().is_none() {
            let slots = self.cx.executor.run(|ex| ex.journal.slots().cloned()).await;
            if let Ok(Some(slots)) = slots {
                views.splice(0..0, followed_views(&slots));
            }
        }
        let mut out = Vec::new();
        commands::write_views(&views, proto, &mut out);
        out
    }

    fn migrate_slots(&mut self, args: &[&[u8]], now: Now) -> Result<(), String> {
        let Some(slots) = self.jobs.slots() else {
            return Err("ERR Slot migration can only be used on primary nodes.".into());
        };
        let directory = self.cx.directory.get();
        let moves = commands::migrate_slots(args, self.cx.me, |slot| slots.owns(slot), &directory)?;
        // All or none: an error of one group leaves the others unstarted, too.
        for m in &moves {
            let record = SlotRecord::Export {
                job: fresh(),
                slots: m.slots.clone(),
                target: m.target,
                target_node: m.target_node,
            };
            slots
                .check(&record)
                .map_err(|error| format!("ERR {error}"))?;
        }
        for m in moves {
            let job = fresh();
            tracing::info!(
                "Slot migration {job} of {} to {} begins",
                m.slots,
                m.target_node
            );
            self.jobs
                .start(job, m.slots, m.target, m.target_node, now)
                .map_err(|error| format!("ERR {error}"))?;
        }
        Ok(())
    }

    /// An `Ok` means that the answer comes later.
    fn sync_slots(&mut self, token: DeferredToken, args: &[&[u8]], now: Now) -> Result<(), String> {
        if args[0].eq_ignore_ascii_case(b"establish") {
            let directory = self.cx.directory.get();
            let e = commands::establish(&args[1..], self.cx.me, &directory)?;
            self.jobs
                .establish(e.job, e.slots, e.source, e.source_node, now)
                .map_err(|error| format!("ERR {error}"))?;
            self.establishing.insert(e.job, token);
            return Ok(());
        }
        if let Some(parsed) = commands::request(args) {
            let (asked, request) = parsed?;
            if self.jobs.slots().is_none_or(|slots| slots.shard() != asked) {
                return Err(
                    "NOTPRIMARY This node is not the primary of the shard that is asked".into(),
                );
            }
            self.next_request += 1;
            let id = RequestId(self.next_request);
            self.asking.insert(id, token);
            self.jobs.on_request(id, request, fresh(), now);
            return Ok(());
        }
        let word = String::from_utf8_lossy(args[0]).to_ascii_uppercase();
        Err(match LinkMessage::parse(args) {
            Some(_) => format!(
                "ERR CLUSTER SYNCSLOTS {word} should only be used by slot migration clients"
            ),
            None => "ERR syntax error".into(),
        })
    }

    /// Does what the jobs want done.
    async fn drive(&mut self) {
        while let Some(action) = self.jobs.poll_action() {
            match action {
                Action::Propose(record) => self.propose(record).await,
                Action::Source(job, action) => self.drive_source(job, action).await,
                Action::Target(job, action) => self.drive_target(job, action).await,
                Action::Claim(id, action) => self.drive_claim(id, action).await,
                Action::Grant(job, action) => self.drive_grant(job, action).await,
                Action::Reply(id, answer) => {
                    if let Some(token) = self.asking.remove(&id) {
                        self.answer_peer(token, answer).await;
                    }
                }
            }
        }
    }

    /// Proposes a record. If this node has lost its office, the jobs hear of that by itself.
    async fn propose(&self, record: SlotRecord) {
        let _ = self
            .cx
            .executor
            .run(move |ex| ex.propose_slots(record))
            .await;
    }

    /// Answers another primary, if a lease says that what was applied here is all that was decided.
    async fn answer_peer(&self, token: DeferredToken, answer: Result<Answer, String>) {
        let mut bytes = Vec::new();
        match answer {
            Ok(Answer::Done) => write::ok(&mut bytes),
            Ok(Answer::Job(job)) => write::simple(&mut bytes, &job.to_string()),
            Ok(Answer::Outcome(JobOutcome::HandedOff)) => write::simple(&mut bytes, "HANDED-OFF"),
            Ok(Answer::Outcome(JobOutcome::Aborted)) => write::simple(&mut bytes, "ABORTED"),
            Ok(Answer::Outcome(JobOutcome::Undecided)) => {
                write::error(&mut bytes, b"ERR undecided")
            }
            Err(error) => write::error(&mut bytes, format!("ERR {error}").as_bytes()),
        }
        let task = move |ex: &mut crate::executor::Executor| {
            if !ex.journal.lease_valid() {
                bytes = b"-NOTPRIMARY This node holds no lease of its office\r\n".to_vec();
            }
            ex.on_message(ToExecutor::Reply { token, bytes });
        };
        let _ = self
            .cx
            .executor
            .send(ToExecutor::Task(Box::new(task)))
            .await;
    }

    async fn drive_source(&mut self, job: JobId, action: SourceAction) {
        let now = self.now();
        match action {
            SourceAction::Propose(record) => {
                let decides = matches!(record, SlotRecord::HandOff { .. });
                if let SlotRecord::Forget { .. } = record {
                    // The target has adopted: whoever waits may go there.
                    let node = self
                        .jobs
                        .slots()
                        .and_then(|s| s.handed_off().get(&job))
                        .map(|h| h.target_node);
                    if let Some(node) = node {
                        let _ = self
                            .cx
                            .executor
                            .run(move |ex| ex.release_handed_off(job, node))
                            .await;
                    }
                }
                let proposed = self
                    .cx
                    .executor
                    .run(move |ex| ex.propose_slots(record))
                    .await;
                if decides && !matches!(proposed, Ok(true)) {
                    self.jobs.source(job, now, |it| {
                        it.on_refused("The hand-off could not be proposed", now)
                    });
                }
            }
            SourceAction::Connect(node) => {
                let Some(peer) = self.cx.directory.get().peer(node).cloned() else {
                    self.jobs
                        .source(job, now, |it| it.on_link_down("target node not found", now));
                    return;
                };
                let tx = self.tx.clone();
                let limit = Duration::from_millis(self.cx.limits.handshake_timeout_ms);
                let link = Link::open(peer, self.cx.credentials.clone(), limit, move |event| {
                    // The task outlives its links.
                    let _ = tx.send(Input::Link(job, event));
                });
                self.running.insert(
                    job,
                    Running {
                        link,
                        flow: Arc::default(),
                    },
                );
            }
            SourceAction::Establish => {
                let (Some(running), Some(it)) = (self.running.get(&job), self.jobs.source_job(job))
                else {
                    return;
                };
                let mut bytes = Vec::new();
                encode_command(
                    &commands::establish_argv(job, self.cx.me, it.slots()),
                    &mut bytes,
                );
                // A link that is down says so itself.
                let _ = running.link.out.send(bytes);
            }
            SourceAction::BeginSnapshot => {
                let (Some(running), Some(it)) = (self.running.get(&job), self.jobs.source_job(job))
                else {
                    return;
                };
                let (out, flow, slots) = (
                    running.link.out.clone(),
                    running.flow.clone(),
                    it.slots().clone(),
                );
                let shared = flow.clone();
                let begun = self
                    .cx
                    .executor
                    .run(move |ex| ex.begin_export(job, &slots, out, shared))
                    .await;
                match begun {
                    Ok(Some(keys)) => {
                        self.jobs
                            .source(job, now, |it| it.on_snapshot_begun(keys, now));
                        let window = self.cx.limits.window_bytes;
                        tokio::spawn(pump(
                            job,
                            self.cx.executor.clone(),
                            flow,
                            window,
                            self.tx.clone(),
                        ));
                    }
                    _ => self.jobs.source(job, now, |it| {
                        it.on_refused("Failed to start snapshot", now)
                    }),
                }
            }
            SourceAction::Send(message) => {
                if let Some(running) = self.running.get(&job) {
                    let mut bytes = Vec::new();
                    message.encode(&mut bytes);
                    let _ = running.link.out.send(bytes);
                }
            }
            SourceAction::Pause => {
                let Some(slots) = self.jobs.source_job(job).map(|it| it.slots().clone()) else {
                    return;
                };
                let paused = self
                    .cx
                    .executor
                    .run(move |ex| ex.pause_slots(PauseId::Job(job), &slots))
                    .await;
                let now = self.now();
                match paused {
                    Ok(position) => self.jobs.source(job, now, |it| it.on_paused(position, now)),
                    Err(_) => self
                        .jobs
                        .source(job, now, |it| it.on_refused("The node is stopping", now)),
                }
            }
            SourceAction::Resume => {
                let _ = self
                    .cx
                    .executor
                    .run(move |ex| ex.resume_slots(PauseId::Job(job)))
                    .await;
            }
            SourceAction::CloseLink => {
                self.running.remove(&job);
                let _ = self.cx.executor.run(move |ex| ex.end_export(job)).await;
            }
            SourceAction::Deliver(handed_off) => {
                let tx = self.tx.clone();
                let shard = handed_off.target;
                self.ask(
                    shard,
                    Some(handed_off.target_node),
                    Request::HandedOff(job),
                    move |reply| {
                        let _ = tx.send(Input::Delivered(job, done_of(reply)));
                    },
                );
            }
            SourceAction::Finished(ending) => {
                self.running.remove(&job);
                let state = self.jobs.source_job(job).map(|it| it.state());
                debug_assert!(state.is_none_or(|s| s != SourceState::Deciding));
                tracing::info!("Slot migration {job} away from here: {}", ending.as_str());
            }
        }
    }

    async fn drive_target(&mut self, job: JobId, action: TargetAction) {
        match action {
            TargetAction::Propose(record) => self.propose(record).await,
            TargetAction::ReplyEstablish(reply) => {
                let Some(token) = self.establishing.remove(&job) else {
                    return;
                };
                let Some(slots) = self
                    .jobs
                    .slots()
                    .and_then(|s| s.stagings().get(&job))
                    .map(|s| s.slots.clone())
                else {
                    let error = reply.err().unwrap_or_else(|| "the job is over".into());
                    return self.answer(token, Err(format!("ERR {error}"))).await;
                };
                match reply {
                    Err(error) => self.answer(token, Err(format!("ERR {error}"))).await,
                    Ok(()) => {
                        let begun = self
                            .cx
                            .executor
                            .run(move |ex| {
                                let begun = ex.begin_import(token.conn, job, &slots);
                                ex.on_message(ToExecutor::Reply { token, bytes: ok() });
                                begun
                            })
                            .await;
                        if !matches!(begun, Ok(true)) {
                            let now = self.now();
                            self.jobs.target(job, now, |it| it.on_link_down(now));
                        }
                    }
                }
            }
            TargetAction::Send(message) => {
                if message == LinkMessage::RequestFailover && planted("target_adopts_too_early") {
                    self.propose(SlotRecord::Adopt { job }).await;
                }
                let _ = self
                    .cx
                    .executor
                    .run(move |ex| ex.send_on_import(job, message))
                    .await;
            }
            TargetAction::CloseLink => {
                let _ = self.cx.executor.run(move |ex| ex.close_import(job)).await;
            }
            TargetAction::Ask {
                source,
                source_node,
            } => {
                let tx = self.tx.clone();
                self.ask(
                    source,
                    Some(source_node),
                    Request::Outcome(job),
                    move |reply| {
                        let _ = tx.send(Input::Answered(job, outcome_of(reply)));
                    },
                );
            }
            TargetAction::Finished(ending) => {
                tracing::info!("Slot migration {job} to here: {}", ending.as_str());
            }
        }
    }

    async fn drive_claim(&mut self, id: ClaimId, action: ClaimAction) {
        let first = self.claim_sources.get(&id).copied();
        let tx = self.tx.clone();
        match action {
            ClaimAction::Propose(record) => self.propose(record).await,
            ClaimAction::RequestExport(source) => {
                let (Some(slots), Some(me)) = (
                    self.jobs.claim_slots(id).cloned(),
                    self.jobs.slots().map(|s| s.shard()),
                ) else {
                    return;
                };
                let request = Request::Export {
                    slots,
                    target: me,
                    target_node: self.cx.me,
                };
                self.ask(source, first, request, move |reply| {
                    let _ = tx.send(Input::Claimed(id, ClaimAnswer::Exported(job_of(reply))));
                });
            }
            ClaimAction::RequestHandOff(source, job) => {
                self.ask(source, first, Request::HandOff(job), move |reply| {
                    let _ = tx.send(Input::Claimed(id, ClaimAnswer::HandedOff(done_of(reply))));
                });
            }
            ClaimAction::Ask(source, job) => {
                self.ask(source, first, Request::Outcome(job), move |reply| {
                    let _ = tx.send(Input::Claimed(id, ClaimAnswer::Outcome(outcome_of(reply))));
                });
            }
            ClaimAction::Finished(result) => {
                self.claim_sources.remove(&id);
                if let Some(done) = self.taking.remove(&id) {
                    // Whoever asked may have gone.
                    let _ = done.send(result);
                }
            }
        }
    }

    async fn drive_grant(&mut self, job: JobId, action: GrantAction) {
        match action {
            GrantAction::Propose(record) => self.propose(record).await,
            GrantAction::ProposeIfEmpty(record, slots) => {
                let result = self
                    .cx
                    .executor
                    .run(move |ex| ex.propose_hand_off_if_empty(job, record, &slots))
                    .await
                    .unwrap_or_else(|gone| Err(gone.to_string()));
                if let Err(reason) = result {
                    let now = self.now();
                    self.jobs.on_grant(job, now, |it| it.on_refused(&reason));
                }
            }
            GrantAction::Resume => {
                let _ = self
                    .cx
                    .executor
                    .run(move |ex| ex.resume_slots(PauseId::Job(job)))
                    .await;
            }
            // The jobs answer these themselves.
            GrantAction::ReplyExport(_)
            | GrantAction::ReplyHandOff(_)
            | GrantAction::Finished(_) => {}
        }
    }

    /// Asks a shard's primary, on a connection and in a task of its own; `then` gets the reply or an error's text.
    fn ask(
        &self,
        shard: ShardId,
        first: Option<NodeId>,
        request: Request,
        then: impl FnOnce(Result<Reply, String>) + Send + 'static,
    ) {
        let peers: Vec<Peer> = self.cx.directory.get().of_shard(shard, first);
        let credentials = self.cx.credentials.clone();
        let argv = commands::request_argv(shard, &request);
        tokio::spawn(async move {
            then(call_shard(&peers, &credentials, &argv).await);
        });
    }
}

/// Takes a job's snapshot step by step, as fast as the link takes it.
async fn pump(
    job: JobId,
    executor: ExecutorHandle,
    flow: Arc<Flow>,
    window: u64,
    tx: mpsc::UnboundedSender<Input>,
) {
    let mut told = 0;
    while !flow.ended.load(Ordering::Relaxed) {
        let on_its_way = flow
            .streamed
            .load(Ordering::Relaxed)
            .saturating_sub(flow.executed.load(Ordering::Relaxed));
        if on_its_way >= window {
            tokio::time::sleep(WINDOW_WAIT).await;
            continue;
        }
        match executor.run(move |ex| ex.export_step(job)).await {
            Ok(Some(step)) => {
                // Not every step is news.
                if step.done || step.keys >= told + 1000 {
                    told = step.keys;
                    let _ = tx.send(Input::Snapshot(job, step));
                }
                if step.done {
                    return;
                }
            }
            // The job is over.
            Ok(None) | Err(_) => return,
        }
    }
}

fn ok() -> Vec<u8> {
    b"+OK\r\n".to_vec()
}

fn fresh() -> JobId {
    JobId(rand::random())
}
