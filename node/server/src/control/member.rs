//! This node's membership in its shard's group: starting it, joining another shard, leaving.

use crate::durable::app::{MakeEngine, Shard, ShardApp, ShardEvent};
use crate::durable::journal::{GroupCell, QuorumJournal};
use crate::durable::replica::Replica;
use crate::seam::{ExecutorGone, ExecutorHandle};
use holdfast_raft_log::disk::Disk;
use holdfast_raft_log::{
    ChangeError, Group, GroupConfig, NoApp, NodeId, Office, RaftServer, Role, ShardId, StartError,
};
use holdfast_slot_migration::{ShardId as SlotShardId, ShardSlots};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tracing::{error, info, warn};

/// Pause between two attempts to join a shard.
const JOIN_RETRY: Duration = Duration::from_millis(300);

/// What every group of this process needs.
#[derive(Clone)]
pub struct Context {
    /// This node.
    pub me: NodeId,
    /// The executor.
    pub executor: ExecutorHandle,
    /// The node's disk.
    pub disk: Arc<dyn Disk>,
    /// Directory that has one directory for each group.
    pub raft_dir: PathBuf,
    /// Where others reach the Raft server.
    pub advertise: String,
    /// The Raft server.
    pub server: RaftServer,
    /// Makes an empty engine.
    pub make_engine: MakeEngine,
    /// Unix time in milliseconds.
    pub now_ms: Arc<dyn Fn() -> u64 + Send + Sync>,
    /// Settings that the configuration decides.
    pub tune: Arc<dyn Fn(&mut GroupConfig) + Send + Sync>,
    /// News for the control thread.
    pub events: mpsc::Sender<MemberEvent>,
}

/// What the control thread hears of its groups.
#[derive(Debug)]
pub enum MemberEvent {
    /// The office of the data group, seen by the executor already.
    Office(ShardId, Office),
    /// Something was applied.
    Shard(ShardEvent),
    /// A group has failed: its disk, or its data contradicts the log. The process must stop.
    Failed(String),
}

/// Why a member did not start.
#[derive(Debug, thiserror::Error)]
pub enum MemberError {
    /// The group did not.
    #[error("{0}")]
    Start(#[from] StartError),
    /// The process ends.
    #[error("{0}")]
    Executor(#[from] ExecutorGone),
    /// A new group could not be formed.
    #[error("{0}")]
    Change(#[from] ChangeError),
}

/// This data node in its shard.
pub struct Member {
    /// The shard's state.
    pub shard: Shard,
    /// The group.
    pub group: Group,
    watchers: [JoinHandle<()>; 2],
}

impl Context {
    /// Directory of a shard's group.
    pub fn dir(&self, shard: ShardId) -> PathBuf {
        self.raft_dir.join(shard.to_string())
    }

    fn config(&self, shard: ShardId, role: Role, must_exist: bool) -> GroupConfig {
        let mut config = GroupConfig::new(
            shard,
            self.me,
            role,
            self.advertise.clone(),
            self.dir(shard),
        );
        (self.tune)(&mut config);
        config.must_exist = must_exist;
        config
    }

    /// Starts the data group of `shard`; what the executor holds is replaced by what its log and snapshot hold.
    /// `must_exist`: the node has been a member, so that a log that is not there is lost.
    ///
    /// # Errors
    /// See [`MemberError`].
    pub async fn start_member(
        &self,
        shard: ShardId,
        must_exist: bool,
    ) -> Result<Member, MemberError> {
        let cell = GroupCell::default();
        let slot_shard = SlotShardId(*shard.as_bytes());
        let journal = QuorumJournal::new(
            Replica::new(self.me, ShardSlots::new(slot_shard)),
            cell.clone(),
        );
        let engine = (self.make_engine)();
        self.executor
            .run(move |executor| executor.enter_shard(journal, engine))
            .await?;
        let state = Shard {
            me: self.me,
            shard: slot_shard,
            executor: self.executor.clone(),
            disk: self.disk.clone(),
            make_engine: self.make_engine.clone(),
            group: cell.clone(),
            now_ms: self.now_ms.clone(),
            events: self.events.clone(),
            turn: Arc::default(),
        };
        let config = self.config(shard, Role::Data, must_exist);
        let app = ShardApp(state.clone());
        let group = Group::start(config, self.disk.clone(), app, &self.server).await?;
        // Nobody else has the cell before this returns.
        let _ = cell.set(group.clone());
        let watchers = [
            tokio::spawn(watch_office(
                state.clone(),
                group.clone(),
                self.events.clone(),
            )),
            tokio::spawn(watch_failure(group.clone(), self.events.clone())),
        ];
        Ok(Member {
            shard: state,
            group,
            watchers,
        })
    }

    /// Starts this process's membership in a group as its witness. `must_exist` as for a data node.
    ///
    /// # Errors
    /// See [`MemberError`].
    pub async fn start_witness(
        &self,
        shard: ShardId,
        must_exist: bool,
    ) -> Result<Group, MemberError> {
        let config = self.config(shard, Role::Witness, must_exist);
        let group = Group::start(config, self.disk.clone(), NoApp, &self.server).await?;
        tokio::spawn(watch_failure(group.clone(), self.events.clone()));
        Ok(group)
    }

    /// Shards of which there is a group's directory.
    ///
    /// # Errors
    /// Disk errors.
    pub async fn known_shards(&self) -> std::io::Result<Vec<ShardId>> {
        if self.disk.stat(&self.raft_dir).await?.is_none() {
            return Ok(Vec::new());
        }
        let entries = self.disk.list(&self.raft_dir).await?;
        let shard = |name: &str| name.parse::<ShardId>().ok();
        Ok(entries
            .iter()
            .filter(|e| e.is_dir)
            .filter_map(|e| shard(&e.name))
            .collect())
    }
}

impl Member {
    /// Whether `node` is one of the group's witnesses.
    pub fn is_witness(&self, node: &NodeId) -> bool {
        let members = self.group.status().members;
        members
            .iter()
            .any(|m| m.node == *node && m.member.role == Role::Witness)
    }

    /// While this node leads: the data node that is best to have the office instead.
    pub fn successor(&self) -> Option<NodeId> {
        let status = self.group.status();
        let others = status
            .voters()
            .filter(|voter| voter.node != self.group.me())
            .max_by_key(|voter| voter.matched);
        match status.office {
            Office::Leader(_) => others.map(|voter| voter.node),
            Office::Follower { .. } => None,
        }
    }

    /// Stops taking part.
    pub async fn stop(self) {
        for watcher in &self.watchers {
            watcher.abort();
        }
        self.group.stop().await;
    }
}

/// Asks until the group has taken this node in.
///
/// # Errors
/// It was refused for good, or `limit` has passed; it may still happen then.
pub async fn join(group: &Group, via: &[String], limit: Duration) -> Result<(), ChangeError> {
    let asking = async {
        loop {
            match group.join(via).await {
                Err(ChangeError::Busy(why)) => info!("Joining shard {}: {why}", group.shard()),
                Err(ChangeError::NotLeader { .. }) => {}
                other => return other,
            }
            tokio::time::sleep(JOIN_RETRY).await;
        }
    };
    match tokio::time::timeout(limit, asking).await {
        Ok(result) => result,
        Err(_) => Err(ChangeError::Busy(
            "the shard did not take this node in in time".into(),
        )),
    }
}

/// A log that has failed is not to be trusted again: the process must end.
async fn watch_failure(group: Group, events: mpsc::Sender<MemberEvent>) {
    let failure = group.failed().wait_for(Option::is_some).await;
    if let Ok(Some(why)) = failure
        && !group.is_stopping()
    {
        let _ = events
            .send(MemberEvent::Failed(format!(
                "shard {}: {why}",
                group.shard()
            )))
            .await;
    }
}

/// Shows each change of office to the executor, then to the control thread.
async fn watch_office(state: Shard, group: Group, events: mpsc::Sender<MemberEvent>) {
    let mut offices = group.office();
    let mut office = offices.get();
    loop {
        match state
            .executor
            .run(move |executor| executor.take_office(office))
            .await
        {
            Ok(false) => {}
            Ok(true) => {
                if let Err(e) = state.rebuild().await {
                    error!("The keyspace cannot be rebuilt: {e}");
                    let _ = events.send(MemberEvent::Failed(e.to_string())).await;
                    return;
                }
            }
            Err(ExecutorGone) => return,
        }
        if events
            .send(MemberEvent::Office(group.shard(), office))
            .await
            .is_err()
        {
            return;
        }
        office = match offices.changed().await {
            Ok(office) => office,
            Err(_) => {
                warn!("The log of shard {} has stopped", group.shard());
                let lost = Office::Follower {
                    leader: None,
                    term: 0,
                };
                let _ = state
                    .executor
                    .run(move |executor| executor.take_office(lost))
                    .await;
                let _ = events.send(MemberEvent::Office(group.shard(), lost)).await;
                return;
            }
        };
    }
}
