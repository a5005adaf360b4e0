//! The state machine as openraft sees it: passes everything on to the [`App`], and keeps account of
//! what was applied.
//!
//! [`App`]: crate::App

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use futures_util::stream::{Stream, StreamExt};
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::{OptionalSend, RaftSnapshotBuilder, Snapshot};

use crate::app::DynApp;
use crate::ids::NodeId;
use crate::raft::{LeaderId, LogId, Payload, SnapshotMeta, StoredMembership, Types};
use crate::snapshots::{Snapshots, Stored};
use crate::types::{Committed, Member, Role};
use crate::watch;

/// No more than about this much is given to the App at once.
const APPLY_BYTES: u64 = 4 << 20;
const APPLY_ENTRIES: usize = 4096;

/// What was applied, for others to look at.
pub struct Applied {
    state: Mutex<AppliedState>,
    pub index: watch::Sender<Option<u64>>,
}

#[derive(Default)]
struct AppliedState {
    last: Option<LogId>,
    /// The first applied entry of the newest leader seen.
    reign: Option<(LeaderId, u64)>,
    /// Memberships in the order of the log; all since the last snapshot, at least the last one.
    memberships: VecDeque<StoredMembership>,
}

impl Applied {
    pub fn new() -> Arc<Applied> {
        let (index, _) = watch::channel(None);
        Arc::new(Applied {
            state: Mutex::default(),
            index,
        })
    }

    fn lock(&self) -> MutexGuard<'_, AppliedState> {
        self.state
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    pub fn last(&self) -> Option<LogId> {
        self.lock().last
    }

    /// The index of the first entry that this leader committed, if it is applied.
    pub fn reign_of(&self, leader: LeaderId) -> Option<u64> {
        self.lock()
            .reign
            .filter(|(of, _)| *of == leader)
            .map(|(_, index)| index)
    }

    /// The membership as of an entry that was applied.
    pub fn membership_at(&self, index: u64) -> Option<StoredMembership> {
        let state = self.lock();
        state
            .memberships
            .iter()
            .rev()
            .find(|m| m.log_id().is_none_or(|id| id.index <= index))
            .cloned()
    }

    fn membership(&self) -> StoredMembership {
        self.lock().memberships.back().cloned().unwrap_or_default()
    }

    /// Memberships older than the one as of `index` are not asked for again.
    pub fn forget_before(&self, index: u64) {
        let mut state = self.lock();
        while state
            .memberships
            .get(1)
            .is_some_and(|m| m.log_id().is_some_and(|id| id.index <= index))
        {
            state.memberships.pop_front();
        }
    }
}

/// The state machine.
pub struct StateMachine {
    /// openraft wants to share what it uses through `&mut` only: the lock is never taken.
    app: Mutex<Box<dyn DynApp>>,
    role: Role,
    applied: Arc<Applied>,
    snapshots: Snapshots,
    /// Told of each entry that was applied: its leader, index and length.
    pub on_applied: Box<dyn FnMut(LeaderId, u64, u64) + Send + Sync>,
}

impl StateMachine {
    pub fn new(
        app: Box<dyn DynApp>,
        role: Role,
        applied: Arc<Applied>,
        snapshots: Snapshots,
        on_applied: Box<dyn FnMut(LeaderId, u64, u64) + Send + Sync>,
    ) -> StateMachine {
        StateMachine {
            app: Mutex::new(app),
            role,
            applied,
            snapshots,
            on_applied,
        }
    }

    fn app(&mut self) -> &mut dyn DynApp {
        self.app
            .get_mut()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
            .as_mut()
    }

    /// Begins a snapshot of the App.
    pub async fn begin_snapshot(
        &mut self,
        path: std::path::PathBuf,
    ) -> io::Result<crate::app::SnapshotTask> {
        self.app().begin_snapshot(&path).await
    }

    async fn apply_batch(&mut self, batch: &mut Vec<EntryResponder<Types>>) -> io::Result<()> {
        let Some((last, _)) = batch.last() else {
            return Ok(());
        };
        let last = last.id;
        let mut entries = Vec::with_capacity(batch.len());
        let mut memberships = Vec::new();
        let mut reign = self.applied.lock().reign;
        for (entry, _) in batch.iter() {
            let leader = entry.id.leader_id;
            if reign.is_none_or(|(of, _)| of != leader) {
                reign = Some((leader, entry.id.index));
            }
            if let Payload::Membership(membership) = &entry.payload {
                memberships.push(StoredMembership::new(Some(entry.id), membership.clone()));
            }
            entries.push(Committed {
                index: entry.id.index,
                term: leader.term,
                leader: leader.node_id,
                payload: entry.data().cloned(),
            });
        }
        if self.role == Role::Data {
            self.app().apply(entries).await?;
        }
        for (entry, responder) in batch.drain(..) {
            let len = entry.data().map_or(0, |data| data.len() as u64);
            (self.on_applied)(entry.id.leader_id, entry.id.index, len);
            if let Some(responder) = responder {
                responder.send(());
            }
        }
        {
            let mut state = self.applied.lock();
            state.last = Some(last);
            state.reign = reign;
            state.memberships.extend(memberships);
        }
        self.applied.index.set(Some(last.index));
        Ok(())
    }
}

impl RaftStateMachine<Types> for StateMachine {
    type SnapshotData = Stored;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        Ok((self.applied.last(), self.applied.membership()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<Types>, io::Error>> + Unpin + OptionalSend,
    {
        let mut batch = Vec::new();
        let mut bytes = 0;
        while let Some(item) = entries.next().await {
            let item = item?;
            bytes += item.0.bytes();
            batch.push(item);
            if bytes >= APPLY_BYTES || batch.len() >= APPLY_ENTRIES {
                self.apply_batch(&mut batch).await?;
                bytes = 0;
            }
        }
        self.apply_batch(&mut batch).await
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        Builder {
            snapshots: self.snapshots.clone(),
        }
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: Stored,
    ) -> Result<(), io::Error> {
        // Durable as this node's own before anything builds on it.
        let snapshot = self.snapshots.adopt(snapshot).await?;
        let path = snapshot.file.as_ref().map(|file| file.path.clone());
        if self.role == Role::Data {
            let Some(info) = snapshot.info() else {
                return Err(io::Error::other("a marker is no snapshot"));
            };
            self.app().install_snapshot(info).await?;
        }
        tracing::info!(last = ?meta.last_log_id, path = ?path, "snapshot installed");
        {
            let mut state = self.applied.lock();
            state.last = meta.last_log_id;
            state.memberships.clear();
            state.memberships.push_back(meta.last_membership.clone());
        }
        self.applied.index.set(meta.last_log_id.map(|id| id.index));
        Ok(())
    }

    async fn get_current_snapshot(
        &mut self,
    ) -> Result<Option<Snapshot<LeaderId, NodeId, Member, Stored>>, io::Error> {
        Ok(self.snapshots.current().map(to_openraft))
    }
}

fn to_openraft(stored: Stored) -> Snapshot<LeaderId, NodeId, Member, Stored> {
    Snapshot {
        meta: stored.meta.clone(),
        snapshot: stored,
    }
}

/// Snapshots are made before openraft is told to look (`crate::drive`); this only shows the newest, so that
/// it neither waits nor fails.
pub struct Builder {
    snapshots: Snapshots,
}

impl RaftSnapshotBuilder<Types> for Builder {
    type SnapshotData = Stored;

    async fn build_snapshot(
        &mut self,
    ) -> Result<Snapshot<LeaderId, NodeId, Member, Stored>, io::Error> {
        match self.snapshots.current() {
            Some(stored) => Ok(to_openraft(stored)),
            None => Err(io::Error::other("there is no snapshot")),
        }
    }
}
