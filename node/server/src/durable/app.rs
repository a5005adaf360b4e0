//! The log's view of the shard's state: it lives in the executor, and this hands entries and snapshots over.

use super::apply::{self, AppliedRecord, Effect};
use super::exec::{SnapshotStep, payload_bytes};
use super::journal::GroupCell;
use super::load;
use super::replica::Replica;
use crate::control::member::MemberEvent;
use crate::seam::{ExecutorGone, ExecutorHandle};
use holdfast_engine::{ApplyState, Engine};
use holdfast_raft_log::disk::{Disk, OpenMode};
use holdfast_raft_log::{App, Committed, EntryId, NodeId, ReadError, SnapshotInfo, SnapshotTask};
use holdfast_slot_migration::{ShardId, ShardSlots};
use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tracing::{error, info};

/// Effects that are applied in one go: other tasks of the executor wait that long.
const APPLY_BYTES: usize = 256 * 1024;
/// How long a finished snapshot sleeps between looks at whether it is committed.
const SETTLE_POLL: Duration = Duration::from_millis(2);

/// What has happened to the shard's replicated state.
#[derive(Debug)]
pub enum ShardEvent {
    /// A slot record was applied.
    Record(Box<AppliedRecord>),
    /// The whole state was replaced, by a leader's snapshot or a rebuild.
    Replaced,
}

/// Makes an empty engine with the node's settings.
pub type MakeEngine = Arc<dyn Fn() -> Engine + Send + Sync>;

/// What the shard's state is made of, shared by the log and whoever rebuilds it.
#[derive(Clone)]
pub struct Shard {
    /// This node.
    pub me: NodeId,
    /// The shard.
    pub shard: ShardId,
    /// Where the state lives.
    pub executor: ExecutorHandle,
    /// The node's disk.
    pub disk: Arc<dyn Disk>,
    /// Makes an empty engine.
    pub make_engine: MakeEngine,
    /// The group.
    pub group: GroupCell,
    /// Unix time in milliseconds.
    pub now_ms: Arc<dyn Fn() -> u64 + Send + Sync>,
    /// News for the control thread go here.
    pub events: mpsc::Sender<MemberEvent>,
    /// Whoever applies or replaces the state holds this, across all steps of doing so.
    pub turn: Arc<tokio::sync::Mutex<()>>,
}

fn gone(_: ExecutorGone) -> io::Error {
    io::Error::other("the executor has ended")
}

impl Shard {
    async fn apply_all(&self, mut entries: VecDeque<Committed>) -> io::Result<()> {
        while !entries.is_empty() {
            let mut batch = VecDeque::new();
            let mut bytes = 0;
            while bytes < APPLY_BYTES
                && let Some(entry) = entries.pop_front()
            {
                bytes += payload_bytes(&entry);
                batch.push_back(entry);
            }
            let done = self
                .executor
                .run(move |executor| executor.apply_committed(batch))
                .await
                .map_err(gone)?;
            if let Some(fault) = done.fault {
                error!("{fault}");
                return Err(io::Error::other(fault.to_string()));
            }
            for record in done.records {
                // The control thread ends before the executor does; then nobody wants to know.
                let _ = self
                    .events
                    .send(MemberEvent::Shard(ShardEvent::Record(Box::new(record))))
                    .await;
            }
            if let Some(first) = done.rest.front() {
                self.rebuild_before(first.index).await?;
                entries = done.rest.into_iter().chain(entries).collect();
            }
        }
        Ok(())
    }

    /// Rebuilds the state from the newest snapshot and all entries below `end`, which were given to this node as
    /// committed. The caller holds `turn`.
    async fn rebuild_before(&self, end: u64) -> io::Result<()> {
        info!(
            "rebuilding the keyspace: this node lost its office with writes that were never committed"
        );
        let group = self
            .group
            .get()
            .cloned()
            .ok_or_else(|| io::Error::other("no group"))?;
        'snapshot: loop {
            let snapshot = group.latest_snapshot();
            let (mut engine, mut replica) = match &snapshot {
                Some(info) => self.load(info).await?,
                None => (
                    (self.make_engine)(),
                    Replica::new(self.me, ShardSlots::new(self.shard)),
                ),
            };
            let mut next = snapshot.map_or(0, |info| info.last.index + 1);
            while next < end {
                let entries = match group.read_committed(next, end, APPLY_BYTES as u64).await {
                    Ok(entries) => entries,
                    // A newer snapshot has been made meanwhile.
                    Err(ReadError::Purged { .. }) => continue 'snapshot,
                    Err(e) => return Err(io::Error::other(e.to_string())),
                };
                for entry in &entries {
                    let mut state = ApplyState::default();
                    let now_ms = (self.now_ms)();
                    match apply::apply(&mut engine, &mut replica, entry, now_ms, &mut state) {
                        // Records that an earlier life applied were told of then.
                        Ok(Effect::Nothing | Effect::Record(_)) => {}
                        Ok(effect) => {
                            return Err(io::Error::other(format!("{effect:?} while rebuilding")));
                        }
                        Err(fault) => return Err(io::Error::other(fault.to_string())),
                    }
                    next = entry.index + 1;
                }
                if entries.is_empty() {
                    return Err(io::Error::other(format!("log entry {next} is missing")));
                }
                tokio::task::yield_now().await;
            }
            self.install(engine, replica).await?;
            info!(
                "rebuilt the keyspace up to log entry {}",
                end.saturating_sub(1)
            );
            return Ok(());
        }
    }

    /// Rebuilds the state up to the last entry applied: for an office that begins on memory that is not to be trusted.
    ///
    /// # Errors
    /// Disk and log errors.
    pub async fn rebuild(&self) -> io::Result<()> {
        let _turn = self.turn.lock().await;
        let last = self
            .executor
            .run(|executor| executor.quorum().and_then(|j| j.replica().last_applied()))
            .await
            .map_err(gone)?;
        self.rebuild_before(last.map_or(0, |last: EntryId| last.index + 1))
            .await
    }

    async fn load(&self, info: &SnapshotInfo) -> io::Result<(Engine, Replica)> {
        load::load(&*self.disk, info, self.me, self.shard, (self.make_engine)()).await
    }

    async fn install(&self, engine: Engine, replica: Replica) -> io::Result<()> {
        let old = self
            .executor
            .run(move |executor| executor.install_state(engine, replica))
            .await
            .map_err(gone)?;
        drop_elsewhere(old);
        let _ = self
            .events
            .send(MemberEvent::Shard(ShardEvent::Replaced))
            .await;
        Ok(())
    }

    async fn write_snapshot(self, path: PathBuf) -> io::Result<EntryId> {
        let result = self.write_snapshot_inner(path).await;
        if result.is_err() {
            let _ = self
                .executor
                .run(|executor| executor.abort_shard_snapshot())
                .await;
        }
        result
    }

    async fn write_snapshot_inner(&self, path: PathBuf) -> io::Result<EntryId> {
        let file = self.disk.open(&path, OpenMode::CreateNew).await?;
        let mut offset = 0u64;
        loop {
            let step = self
                .executor
                .run(|executor| executor.step_shard_snapshot())
                .await
                .map_err(gone)?;
            let (bytes, last) = match step {
                SnapshotStep::Bytes(bytes) => (bytes, None),
                SnapshotStep::Done(bytes, last) => (bytes, Some(last)),
                SnapshotStep::Aborted => {
                    return Err(io::Error::other("the snapshot's state was replaced"));
                }
            };
            if bytes.is_empty() && last.is_none() {
                tokio::time::sleep(SETTLE_POLL).await;
                continue;
            }
            let len = bytes.len() as u64;
            file.write_at(offset, bytes.into()).await?;
            offset += len;
            if let Some(last) = last {
                file.sync().await?;
                return Ok(last);
            }
        }
    }
}

/// A large engine takes long to drop: on a thread of its own, where there are threads.
fn drop_elsewhere(engine: Option<Engine>) {
    #[cfg(not(madsim))]
    std::thread::spawn(move || drop(engine));
    #[cfg(madsim)]
    drop(engine);
}

/// The [`App`] of a data node.
pub struct ShardApp(pub Shard);

impl App for ShardApp {
    async fn apply(&mut self, entries: Vec<Committed>) -> io::Result<()> {
        let _turn = self.0.turn.lock().await;
        self.0.apply_all(entries.into()).await
    }

    async fn begin_snapshot(&mut self, path: PathBuf) -> io::Result<SnapshotTask> {
        let begun = self
            .0
            .executor
            .run(|executor| executor.begin_shard_snapshot())
            .await
            .map_err(gone)?;
        begun.ok_or_else(|| io::Error::other("nothing to snapshot, or one is under way"))?;
        Ok(Box::pin(self.0.clone().write_snapshot(path)))
    }

    async fn install_snapshot(&mut self, snapshot: SnapshotInfo) -> io::Result<()> {
        let _turn = self.0.turn.lock().await;
        let (engine, replica) = self.0.load(&snapshot).await?;
        info!(
            "installing a snapshot of {} bytes, up to log entry {}",
            snapshot.len, snapshot.last.index
        );
        self.0.install(engine, replica).await
    }
}
