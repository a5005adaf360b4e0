//! What the executor does for migrations. Its part of a job is small and passive: streams that it feeds at the end of
//! each turn, links whose commands it executes, slots whose writes wait. What happens is told to the control thread
//! in the order in which it happened.

use super::control::Input;
use super::stream::{KeySink, Stream, command_len, tap};
use crate::executor::{Close, ConnId, Executor, State};
use crate::journal::JournalPos;
use crate::seam::DeferredToken;
use holdfast_cluster_bus as bus;
use holdfast_engine::key_slot;
use holdfast_engine::{
    Call, Engine, Flags, Mode, Outcome, SlotFilter, SnapshotId, SnapshotProgress,
};
use holdfast_resp::Proto;
use holdfast_slot_migration::{
    Applied, JobId, LinkMessage, NodeId, ShardSlots, SlotError, SlotRanges, SlotRecord, SlotSet,
};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tokio::sync::mpsc;

/// What the executor tells the control thread.
#[derive(Debug)]
pub enum ExecEvent {
    /// This node serves its shard from now on, with these slots applied; or it no longer does.
    Office(Option<Box<ShardSlots>>),
    /// A slot record was applied while this node serves.
    Record(SlotRecord),
    /// A source said something on its link, behind so many executed bytes of data.
    Message(JobId, LinkMessage, u64),
    /// So many bytes of the link's data are executed, and committed.
    Executed(JobId, u64),
    /// A command of the link's data could not be executed.
    DataError(JobId, String),
    /// A link to this node is gone.
    LinkClosed(JobId),
    /// A database was emptied.
    Flushed,
}

/// Figures that the executor and the control thread share about one job of a source.
#[derive(Debug, Default)]
pub struct Flow {
    /// Bytes put into the stream.
    pub streamed: AtomicU64,
    /// Bytes that the target has executed.
    pub executed: AtomicU64,
    /// The stream is over.
    pub ended: AtomicBool,
}

struct Export {
    slots: SlotSet,
    stream: Stream,
    snapshot: Option<SnapshotId>,
    out: mpsc::UnboundedSender<Vec<u8>>,
    flow: Arc<Flow>,
    /// Writes wait: nothing more belongs into the stream.
    ended: bool,
    /// A database was emptied since it began: what the target has is not what is here.
    flushed: bool,
}

impl Export {
    fn send(&self) {
        self.flow
            .streamed
            .store(self.stream.position(), Ordering::Relaxed);
        let bytes = self.stream.take();
        if !bytes.is_empty() {
            // A link that is gone has been told of by its own task.
            let _ = self.out.send(bytes);
        }
    }
}

struct Import {
    job: JobId,
    slots: SlotSet,
    executed: u64,
    reported: u64,
    /// Executed, and committed once the journal is durable up to the position.
    unconfirmed: VecDeque<(JournalPos, u64)>,
    /// No more data is executed.
    closed: bool,
}

/// Why writes to slots wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PauseId {
    /// A job is about to be decided.
    Job(JobId),
    /// `MIGRATE` is sending keys.
    Command(DeferredToken),
}

/// How far a snapshot is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExportStep {
    /// Keys sent.
    pub keys: u64,
    /// All of them.
    pub done: bool,
}

/// What [`ExecMigrations`] is doing, for those who watch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MigrationFigures {
    /// Jobs whose slots are streamed away.
    pub exports: usize,
    /// Links on which slots come in.
    pub imports: usize,
    /// Slots whose writes wait.
    pub paused_slots: usize,
    /// Slots that are handed off, while their new owner is not known to serve them.
    pub leaving_slots: usize,
    /// Bytes of streams that targets have not executed yet.
    pub bytes_underway: u64,
    /// Bytes of streams that were executed here.
    pub bytes_executed: u64,
}

/// The executor's state for migrations.
#[derive(Default)]
pub struct ExecMigrations {
    events: Option<mpsc::UnboundedSender<Input>>,
    /// The term in which this node serves.
    office: Option<u64>,
    exports: BTreeMap<JobId, Export>,
    imports: BTreeMap<ConnId, Import>,
    paused: BTreeMap<PauseId, SlotRanges>,
    /// Connections that `MIGRATE` keeps for the next time.
    pub(crate) sockets: usize,
    /// Handed off, not yet known to be adopted: whoever asks for them waits.
    leaving: BTreeMap<JobId, SlotRanges>,
    /// Handed off and adopted, while the bus may not know it yet. The newest last.
    gone: VecDeque<(SlotRanges, NodeId)>,
}

/// Hand-offs that are remembered until the bus has spread them.
const GONE_MAX: usize = 64;
/// Keys that one step of a snapshot passes.
const STEP_KEYS: usize = 64;
/// A step ends when the stream has grown by this much, however many keys that were.
const STEP_BYTES: usize = 64 * 1024;

impl ExecMigrations {
    /// Events go here from now on. They are bounded by what causes them: committed records, changes of office, and for
    /// each link one figure a turn and what its source, which waits for answers, says.
    pub fn connect(&mut self, events: mpsc::UnboundedSender<Input>) {
        self.events = Some(events);
        self.office = None;
    }

    /// What is under way.
    pub fn figures(&self) -> MigrationFigures {
        let count = |all: &BTreeMap<JobId, SlotRanges>| all.values().map(SlotRanges::len).sum();
        let load = |n: &AtomicU64| n.load(Ordering::Relaxed);
        let flows = || self.exports.values().map(|e| &e.flow);
        let streamed: u64 = flows().map(|f| load(&f.streamed)).sum();
        let executed: u64 = flows().map(|f| load(&f.executed)).sum();
        MigrationFigures {
            exports: self.exports.len(),
            imports: self.imports.len(),
            paused_slots: self.paused.values().map(SlotRanges::len).sum(),
            leaving_slots: count(&self.leaving),
            bytes_underway: streamed.saturating_sub(executed),
            bytes_executed: self.imports.values().map(|i| i.executed).sum(),
        }
    }

    fn tell(&self, event: ExecEvent) {
        if let Some(events) = &self.events {
            // The control thread ends before the executor does.
            let _ = events.send(Input::Exec(event));
        }
    }

    /// Whether a command for this slot, which the shard's log has given away, must wait for the new owner to be ready.
    pub fn is_leaving(&self, slot: u16) -> bool {
        self.leaving.values().any(|slots| slots.contains(slot))
    }

    /// Who has this slot now, if this node's shard has handed it off.
    pub fn gone_to(&self, slot: u16) -> Option<NodeId> {
        self.gone
            .iter()
            .rev()
            .find(|(slots, _)| slots.contains(slot))
            .map(|(_, node)| *node)
    }
}

impl Executor {
    fn serving_slots(&self) -> Option<(u64, ShardSlots)> {
        Some((self.journal.serving()?, self.journal.slots()?.clone()))
    }

    /// The office may have changed. Told when it has.
    pub fn migrate_on_office(&mut self) {
        if self.migrate.events.is_none() {
            return;
        }
        let now = self.serving_slots();
        let office = now.as_ref().map(|(office, _)| *office);
        if office == self.migrate.office {
            return;
        }
        if self.migrate.office.is_some() {
            self.drop_migrations();
            self.migrate.tell(ExecEvent::Office(None));
        }
        self.migrate.office = office;
        if let Some((_, slots)) = now {
            let leaving = slots.handed_off().iter();
            self.migrate.leaving = leaving.map(|(job, h)| (*job, h.slots.clone())).collect();
            self.migrate.tell(ExecEvent::Office(Some(Box::new(slots))));
        }
    }

    /// Everything of an office that is over: its successor begins anew.
    fn drop_migrations(&mut self) {
        let jobs: Vec<JobId> = self.migrate.exports.keys().copied().collect();
        for job in jobs {
            self.end_export(job);
        }
        let links: Vec<ConnId> = self.migrate.imports.keys().copied().collect();
        self.migrate.imports.clear();
        for conn in links {
            self.close_client(conn, Close::Now);
        }
        self.migrate.paused.clear();
        self.migrate.leaving.clear();
        self.show_pauses();
    }

    /// A slot record was applied, and [`Executor::owned_slots`] follows it already.
    pub fn migrate_on_record(&mut self, record: &SlotRecord, outcome: &Result<Applied, SlotError>) {
        if self.migrate.office.is_some() {
            match outcome {
                Ok(Applied::HandedOff(job, handed_off)) => {
                    self.end_export(*job);
                    self.migrate.leaving.insert(*job, handed_off.slots.clone());
                    self.migrate.paused.remove(&PauseId::Job(*job));
                    self.show_pauses();
                    self.rerun_blocked(&handed_off.slots);
                }
                Ok(Applied::Forgotten(job, _)) => {
                    self.migrate.leaving.remove(job);
                }
                Ok(Applied::Adopted(_, slots)) => {
                    self.migrate
                        .gone
                        .retain(|(gone, _)| gone.first_common(slots).is_none());
                    let back = |gone: &SlotRanges| gone.first_common(slots).is_some();
                    self.migrate.leaving.retain(|_, gone| !back(gone));
                }
                _ => {}
            }
            self.migrate.tell(ExecEvent::Record(record.clone()));
        }
        self.retry_parked();
    }

    /// Clients that wait for keys of slots that are no longer here start over: they are sent on.
    fn rerun_blocked(&mut self, slots: &SlotRanges) {
        let gone = |keys: &[Box<[u8]>]| keys.iter().any(|key| slots.contains(key_slot(key)));
        let ids: Vec<ConnId> = self
            .conns
            .iter()
            .filter(|c| matches!(&c.state, State::Blocked(b) if gone(&b.keys)))
            .map(|c| c.conn)
            .collect();
        for id in ids {
            self.rerun_blocked_command(id);
        }
    }

    /// Begins a job's snapshot and its tap, at this instant. Returns the number of keys.
    pub(crate) fn begin_export(
        &mut self,
        job: JobId,
        slots: &SlotRanges,
        out: mpsc::UnboundedSender<Vec<u8>>,
        flow: Arc<Flow>,
    ) -> Option<u64> {
        self.flush_effects();
        self.migrate.office?;
        let keys: usize = slots.iter().map(|slot| self.engine.slot_count(slot)).sum();
        let stream = Stream::default();
        let filter = SlotFilter::Only(slots.iter().collect());
        let sink = Box::new(KeySink::new(stream.clone()));
        let snapshot = Some(self.engine.snapshot_begin(filter, sink));
        let mut set = SlotSet::default();
        set.insert_all(slots);
        let export = Export {
            slots: set,
            stream,
            snapshot,
            out,
            flow,
            ended: false,
            flushed: false,
        };
        self.migrate.exports.insert(job, export);
        Some(keys as u64)
    }

    /// One step of a job's snapshot. `None` if there is none.
    pub(crate) fn export_step(&mut self, job: JobId) -> Option<ExportStep> {
        let export = self.migrate.exports.get_mut(&job)?;
        let mut done = export.snapshot.is_none();
        if let Some(id) = export.snapshot {
            let before = export.stream.position();
            loop {
                match self.engine.snapshot_step(id, STEP_KEYS) {
                    SnapshotProgress::More => {}
                    SnapshotProgress::Done | SnapshotProgress::Unknown => {
                        self.engine.snapshot_finish(id);
                        export.snapshot = None;
                        done = true;
                    }
                }
                if done || export.stream.position() - before >= STEP_BYTES as u64 / 4 {
                    break;
                }
                // Steps without keys cost little, but not nothing: the executor has clients.
                if export.stream.position() == before {
                    break;
                }
            }
        }
        export.send();
        Some(ExportStep {
            keys: export.stream.keys(),
            done,
        })
    }

    /// Ends a job's snapshot and tap.
    pub(crate) fn end_export(&mut self, job: JobId) {
        if let Some(export) = self.migrate.exports.remove(&job) {
            export.flow.ended.store(true, Ordering::Relaxed);
            if let Some(id) = export.snapshot {
                self.engine.snapshot_abort(id);
            }
        }
    }

    /// Whether slots are on their way to or from this node.
    pub(crate) fn migrates(&self) -> bool {
        !self.migrate.exports.is_empty() || !self.migrate.imports.is_empty()
    }

    /// The effects of the turn, before they are journaled.
    pub(crate) fn tap_effects(&mut self) {
        if !self.migrates() {
            return;
        }
        let streams: Vec<(&SlotSet, &Stream)> = self
            .migrate
            .exports
            .values()
            .filter(|export| !export.ended)
            .map(|export| (&export.slots, &export.stream))
            .collect();
        let seen = tap(self.fx.bytes(), &streams);
        for export in self.migrate.exports.values_mut() {
            export.flushed |= seen.flushed;
            export.send();
        }
        if seen.flushed {
            self.migrate.tell(ExecEvent::Flushed);
        }
    }

    /// Lets writes to the slots wait from now on. Returns the position at which a job's stream ends.
    pub(crate) fn pause_slots(&mut self, id: PauseId, slots: &SlotRanges) -> u64 {
        self.flush_effects();
        self.migrate.paused.insert(id, slots.clone());
        self.show_pauses();
        let PauseId::Job(job) = id else { return 0 };
        let Some(export) = self.migrate.exports.get_mut(&job) else {
            return 0;
        };
        export.ended = true;
        export.send();
        export.stream.position()
    }

    /// Whether writes wait for this reason.
    pub(crate) fn is_paused_for(&self, id: PauseId) -> bool {
        self.migrate.paused.contains_key(&id)
    }

    /// Lets the writes go on.
    pub(crate) fn resume_slots(&mut self, id: PauseId) {
        if self.migrate.paused.remove(&id).is_some() {
            self.show_pauses();
        }
    }

    fn show_pauses(&mut self) {
        let mut all = bus::SlotSet::new();
        for slots in self.migrate.paused.values() {
            all.extend(&slots.iter().collect());
        }
        self.paused_slots = (!all.is_empty()).then_some(all);
        self.retry_parked();
    }

    /// Proposes a record that is about this shard alone.
    pub(crate) fn propose_slots(&mut self, record: SlotRecord) -> bool {
        self.flush_effects();
        match record {
            // Behind these nothing of the link's data may come; see the crate's rules.
            SlotRecord::Abort { job } | SlotRecord::Staged { job, .. } => {
                for import in self.migrate.imports.values_mut().filter(|i| i.job == job) {
                    import.closed = true;
                }
            }
            // The decision is for paused writes only, and for what the target has.
            SlotRecord::HandOff { job } => {
                let paused = self.is_paused_for(PauseId::Job(job));
                if !paused
                    || self
                        .migrate
                        .exports
                        .get(&job)
                        .is_some_and(|export| export.flushed)
                {
                    return false;
                }
            }
            _ => {}
        }
        self.journal.propose_slots(record)
    }

    /// Whether a staging is complete and its outcome not known: emptying a database would take what may be the only
    /// copy of another shard's acknowledged writes.
    pub(crate) fn has_staging_in_doubt(&self) -> bool {
        let closed = |job: &JobId| {
            self.migrate
                .imports
                .values()
                .any(|i| i.job == *job && i.closed)
        };
        self.journal.slots().is_some_and(|slots| {
            let mut stagings = slots.stagings().iter();
            stagings.any(|(job, staging)| staging.staged.is_some() || closed(job))
        })
    }

    /// Proposes a hand-off in the older way, if no key is left.
    pub(crate) fn propose_hand_off_if_empty(
        &mut self,
        job: JobId,
        record: SlotRecord,
        slots: &SlotRanges,
    ) -> Result<(), String> {
        if let Some(slot) = slots.iter().find(|&slot| self.engine.slot_count(slot) > 0) {
            return Err(format!(
                "Can't assign hashslot {slot} to a different node while I still hold keys for this hash slot."
            ));
        }
        self.pause_slots(PauseId::Job(job), slots);
        if self.propose_slots(record) {
            return Ok(());
        }
        self.resume_slots(PauseId::Job(job));
        Err("This node does not serve its shard".into())
    }

    /// A handed-off job's target is ready: whoever waited is sent there.
    pub(crate) fn release_handed_off(&mut self, job: JobId, target: NodeId) {
        if let Some(slots) = self.migrate.leaving.remove(&job) {
            self.migrate.gone.push_back((slots, target));
            if self.migrate.gone.len() > GONE_MAX {
                self.migrate.gone.pop_front();
            }
            self.retry_parked();
        }
    }

    /// A connection is a job's link from now on: what it sends is data.
    pub(crate) fn begin_import(&mut self, conn: ConnId, job: JobId, slots: &SlotRanges) -> bool {
        let Some(c) = self.conns.get_mut(conn) else {
            return false;
        };
        c.internal = true;
        let mut set = SlotSet::default();
        set.insert_all(slots);
        let import = Import {
            job,
            slots: set,
            executed: 0,
            reported: 0,
            unconfirmed: VecDeque::new(),
            closed: false,
        };
        self.migrate.imports.insert(conn, import);
        true
    }

    /// Sends a message to a job's source.
    pub(crate) fn send_on_import(&mut self, job: JobId, message: LinkMessage) {
        let Some(conn) = self.import_conn(job) else {
            return;
        };
        let mut bytes = Vec::new();
        message.encode(&mut bytes);
        self.append_free(conn, &bytes);
    }

    fn import_conn(&self, job: JobId) -> Option<ConnId> {
        self.migrate
            .imports
            .iter()
            .find(|(_, i)| i.job == job)
            .map(|(conn, _)| *conn)
    }

    /// Closes a job's link, once what was said has left.
    pub(crate) fn close_import(&mut self, job: JobId) {
        if let Some(conn) = self.import_conn(job) {
            self.migrate.imports.remove(&conn);
            self.close_client(conn, Close::AfterReplies);
        }
    }

    /// A connection has gone.
    pub(crate) fn migrate_on_closed(&mut self, conn: ConnId) {
        if let Some(import) = self.migrate.imports.remove(&conn) {
            self.migrate.tell(ExecEvent::LinkClosed(import.job));
        }
    }

    /// A command on a job's link. Never answered.
    pub(crate) fn import_command(&mut self, conn: ConnId, argv: &[&[u8]]) {
        let Some(import) = self.migrate.imports.get_mut(&conn) else {
            return self.close_client(conn, Close::Now);
        };
        let job = import.job;
        if let Some(message) = super::link::message(argv) {
            let executed = import.executed;
            return self
                .migrate
                .tell(ExecEvent::Message(job, message, executed));
        }
        if import.closed {
            return;
        }
        let result = self.execute_import(conn, argv);
        let Some(import) = self.migrate.imports.get_mut(&conn) else {
            return;
        };
        match result {
            Ok(()) => import.executed += command_len(argv),
            Err(error) => {
                import.closed = true;
                tracing::warn!("A command of slot migration {job} failed: {error}");
                self.migrate.tell(ExecEvent::DataError(job, error));
            }
        }
    }

    fn execute_import(&mut self, conn: ConnId, argv: &[&[u8]]) -> Result<(), String> {
        let (Some(import), Some(c)) = (self.migrate.imports.get(&conn), self.conns.get_mut(conn))
        else {
            return Err("the link is gone".into());
        };
        let name = argv.first().copied().unwrap_or_default();
        if name.eq_ignore_ascii_case(b"select") {
            let number = argv.get(1).and_then(|n| holdfast_resp::parse_i64(n));
            let db = number.and_then(|n| u16::try_from(n).ok());
            c.db = db
                .filter(|&db| db < self.settings.databases)
                .ok_or("no such database")?;
            return Ok(());
        }
        if [&b"multi"[..], b"exec", b"ping"]
            .iter()
            .any(|word| name.eq_ignore_ascii_case(word))
        {
            return Ok(());
        }
        let shown = String::from_utf8_lossy(name).into_owned();
        let command = Engine::command(name).ok_or_else(|| format!("unknown command '{shown}'"))?;
        let spec = &command.resolve(argv).spec;
        let mut stranger = !spec.flags.has(Flags::WRITE);
        let mut keys = 0;
        let found = spec.each_key(argv, &mut |i, _| {
            keys += 1;
            stranger |= argv
                .get(i)
                .is_none_or(|key| !import.slots.contains(key_slot(key)));
        });
        if stranger || keys == 0 || found.is_err() {
            return Err(format!("'{shown}' is not a write to the job's slots"));
        }
        let mut reply = Vec::new();
        let mut call = Call {
            argv,
            db: c.db,
            slot: None,
            proto: Proto::Resp2,
            now_ms: self.now.unix_ms(),
            // As a copy applies effects: whether a key has expired is the source's to say.
            mode: Mode::Apply,
            may_block: false,
            rng: &mut self.rng,
            reply: &mut reply,
            blobs: None,
            fx: &mut self.fx,
        };
        match self.engine.execute(command, &mut call) {
            Outcome::Done => Ok(()),
            Outcome::Failed => Err(String::from_utf8_lossy(&reply).trim_end().to_string()),
            Outcome::Block(_) => Err(format!("'{shown}' would wait")),
        }
    }

    /// The turn's effects are journaled: notes how far each link's data is committed, and tells it.
    pub(crate) fn migrate_end_turn(&mut self) {
        if self.migrate.imports.is_empty() {
            return;
        }
        let (position, durable) = (self.journal.position(), self.journal.durable());
        let mut told = Vec::new();
        for import in self.migrate.imports.values_mut() {
            let noted = import
                .unconfirmed
                .back()
                .map_or(import.reported, |(_, executed)| *executed);
            if import.executed > noted {
                import.unconfirmed.push_back((position, import.executed));
            }
            let mut confirmed = import.reported;
            while let Some((at, executed)) = import.unconfirmed.front().copied()
                && at <= durable
            {
                confirmed = executed;
                import.unconfirmed.pop_front();
            }
            if confirmed > import.reported {
                import.reported = confirmed;
                told.push((import.job, confirmed));
            }
        }
        for (job, executed) in told {
            self.migrate.tell(ExecEvent::Executed(job, executed));
        }
    }
}
