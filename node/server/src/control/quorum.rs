//! What CLUSTER commands ask of a quorum shard, carried out over its log.

use super::member::{Context, Member, join};
use crate::cluster::{ShardControl, ShardError, ShardRequest, Token};
use crate::durable::waiters::Waiters;
use crate::seam::ExecutorHandle;
use holdfast_cluster_bus::{NodeId, ShardId, SlotSet};
use holdfast_raft_log as raft;
use holdfast_raft_log::{ChangeError, Group, Office};
use holdfast_slot_migration::{NodeId as SlotNodeId, SlotRanges, SlotRecord};
use std::collections::VecDeque;
use std::time::{Duration, Instant};
use tracing::{info, warn};

/// How long a command waits for its record to be committed.
const COMMIT_LIMIT: Duration = Duration::from_secs(5);
/// How long a command waits for the shard to elect a leader.
const ELECTION_LIMIT: Duration = Duration::from_secs(3);
/// How often it looks.
const ELECTION_POLL: Duration = Duration::from_millis(20);
/// How long `CLUSTER REPLICATE` waits for the shard to take this node in.
const JOIN_LIMIT: Duration = Duration::from_secs(30);

/// The shard as the command layer sees it: requests are queued here, and the control loop starts them.
#[derive(Debug, Default)]
pub struct QuorumShard {
    /// This node leads its shard.
    pub leads: bool,
    /// Requests to be started.
    pub queue: VecDeque<(Token, ShardRequest)>,
}

impl ShardControl for QuorumShard {
    fn is_quorum(&self) -> bool {
        true
    }

    fn is_leader(&self) -> bool {
        self.leads
    }

    fn request(&mut self, token: Token, request: ShardRequest) -> Result<(), ShardError> {
        self.queue.push_back((token, request));
        Ok(())
    }
}

/// A request's outcome, and what has changed in this process with it.
pub struct Completion {
    /// Which request.
    pub token: Token,
    /// What to answer.
    pub result: Result<(), ShardError>,
    /// The data group that this node is in from now on, if it was exchanged.
    pub member: Option<Member>,
    /// A group that this witness serves from now on.
    pub witness: Option<Group>,
    /// The node has another name from now on.
    pub renamed: Option<Context>,
}

impl Completion {
    /// An outcome that changes nothing in this process.
    pub fn plain(token: Token, result: Result<(), ShardError>) -> Completion {
        Completion {
            token,
            result,
            member: None,
            witness: None,
            renamed: None,
        }
    }
}

fn refused(error: impl ToString) -> ShardError {
    ShardError::Refused(error.to_string())
}

/// Names on the bus are 40 characters; in the log they are 20 bytes.
fn unnamed() -> ShardError {
    ShardError::Refused("a name is not 40 hexadecimal digits".into())
}

fn change_error(error: ChangeError) -> ShardError {
    match error {
        ChangeError::NotLeader { .. } => ShardError::NotLeader,
        other => refused(other),
    }
}

/// The bus's set of slots as the log writes it.
pub fn ranges(slots: &SlotSet) -> Result<SlotRanges, ShardError> {
    let each: Vec<(u16, u16)> = slots.iter().map(|slot| (slot, slot)).collect();
    SlotRanges::new(&each).map_err(refused)
}

/// Proposes a slot record and waits until it is applied.
///
/// # Errors
/// It was refused, or its outcome is not known in time.
pub async fn commit(
    executor: &ExecutorHandle,
    waiters: &Waiters,
    record: SlotRecord,
) -> Result<(), ShardError> {
    let began = Instant::now();
    let id = loop {
        let record = record.clone();
        let proposed = executor.run(move |executor| {
            let id = executor.propose_record(record);
            let elects = executor.quorum().is_some_and(|journal| {
                matches!(
                    journal.replica().office(),
                    Office::Follower { leader: None, .. }
                )
            });
            (id, elects)
        });
        match proposed.await.map_err(refused)? {
            (Some(id), _) => break id,
            // Nobody leads, as in the first moments of a new shard.
            (None, true) if began.elapsed() < ELECTION_LIMIT => {
                tokio::time::sleep(ELECTION_POLL).await;
            }
            (None, _) => return Err(ShardError::NotLeader),
        }
    };
    match waiters.outcome(id, COMMIT_LIMIT).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(refused(error)),
        Err(_) => Err(ShardError::Uncertain(
            "the change was not committed in time".into(),
        )),
    }
}

/// The record that a request comes to, if it is one that the log alone decides.
pub fn record_of(request: &ShardRequest) -> Option<Result<SlotRecord, ShardError>> {
    let node = |id: &NodeId| id.to_bytes().map(SlotNodeId).ok_or_else(unnamed);
    Some(match request {
        ShardRequest::OwnSlots(slots) => ranges(slots).map(|slots| SlotRecord::Assign { slots }),
        ShardRequest::SetMigrating { slot, to } => {
            node(to).map(|node| SlotRecord::SetMigrating { slot: *slot, node })
        }
        ShardRequest::SetImporting { slot, from } => {
            node(from).map(|node| SlotRecord::SetImporting { slot: *slot, node })
        }
        ShardRequest::SetStable(slot) => Ok(SlotRecord::SetStable { slot: *slot }),
        _ => return None,
    })
}

/// `DELSLOTS` and `FLUSHSLOTS`: slots that the shard does not own are ignored.
pub async fn drop_slots(
    executor: &ExecutorHandle,
    waiters: &Waiters,
    slots: SlotSet,
) -> Result<(), ShardError> {
    let owned = executor
        .run(|executor| {
            executor
                .quorum()
                .map(|journal| journal.replica().slots().owned().to_ranges())
        })
        .await
        .map_err(refused)?
        .unwrap_or_default();
    let mine: Vec<(u16, u16)> = owned
        .iter()
        .filter(|slot| slots.contains(*slot))
        .map(|slot| (slot, slot))
        .collect();
    if mine.is_empty() {
        return Ok(());
    }
    let slots = SlotRanges::new(&mine).map_err(refused)?;
    commit(executor, waiters, SlotRecord::Unassign { slots }).await
}

/// Changes from the own, empty shard to another one.
pub async fn join_shard(
    context: Context,
    old: Member,
    shard: ShardId,
    via: String,
) -> (Result<(), ShardError>, Option<Member>) {
    let Some(target) = shard.to_bytes().map(raft::ShardId::from_bytes) else {
        return (Err(unnamed()), Some(old));
    };
    let before = old.group.shard();
    if before == target {
        let result = join(&old.group, &[via], JOIN_LIMIT)
            .await
            .map_err(change_error);
        return (result, Some(old));
    }
    let empty = context
        .executor
        .run(|executor| {
            executor.engine.is_empty()
                && executor
                    .quorum()
                    .is_some_and(|j| j.replica().slots().owned().is_empty())
        })
        .await;
    if !matches!(empty, Ok(true)) {
        let text = "To set a master the node must be empty and without assigned slots.";
        return (Err(refused(text)), Some(old));
    }
    old.stop().await;
    info!("Leaving shard {before} to join shard {target}");
    let member = match context.start_member(target).await {
        Ok(member) => member,
        Err(error) => return back(&context, before, refused(error)).await,
    };
    match join(&member.group, &[via], JOIN_LIMIT).await {
        Ok(()) => {
            remove(&context, before).await;
            (Ok(()), Some(member))
        }
        Err(error) => {
            member.stop().await;
            remove(&context, target).await;
            back(&context, before, change_error(error)).await
        }
    }
}

async fn remove(context: &Context, shard: raft::ShardId) {
    let dir = context.dir(shard);
    if let Err(error) = context.disk.remove_dir_all(&dir).await {
        warn!("{}: {error}", dir.display());
    }
}

async fn back(
    context: &Context,
    shard: raft::ShardId,
    error: ShardError,
) -> (Result<(), ShardError>, Option<Member>) {
    match context.start_member(shard).await {
        Ok(member) => (Err(error), Some(member)),
        Err(again) => (
            Err(refused(format!(
                "{error}; and back in the own shard: {again}"
            ))),
            None,
        ),
    }
}

/// A witness joins one more shard.
pub async fn join_as_witness(
    context: Context,
    known: Option<Group>,
    shard: ShardId,
    via: String,
) -> (Result<(), ShardError>, Option<Group>) {
    let Some(target) = shard.to_bytes().map(raft::ShardId::from_bytes) else {
        return (Err(unnamed()), None);
    };
    let group = match known {
        Some(group) => group,
        None => match context.start_witness(target).await {
            Ok(group) => group,
            Err(error) => return (Err(refused(error)), None),
        },
    };
    let result = join(&group, &[via], JOIN_LIMIT).await.map_err(change_error);
    (result, Some(group))
}

/// Leaves the shard and forms a new one, under a new name if the old one has voted beside others.
pub async fn leave_and_reset(
    mut context: Context,
    old: Member,
    node: NodeId,
    shard: ShardId,
) -> (Result<(), ShardError>, Option<Member>, Option<Context>) {
    let before = old.group.shard();
    if old.group.status().members.len() > 1 {
        let left = tokio::time::timeout(JOIN_LIMIT, old.group.leave()).await;
        if let Err(error) = left.unwrap_or_else(|_| Err(ChangeError::Busy("no answer".into()))) {
            return (Err(change_error(error)), Some(old), None);
        }
    }
    let (Some(node), Some(shard)) = (node.to_bytes(), shard.to_bytes()) else {
        return (Err(unnamed()), Some(old), None);
    };
    old.stop().await;
    remove(&context, before).await;
    context.me = raft::NodeId::from_bytes(node);
    let target = raft::ShardId::from_bytes(shard);
    let member = match context.start_member(target).await {
        Ok(member) => member,
        Err(error) => return (Err(refused(error)), None, None),
    };
    let result = member.group.initialize().await.map_err(change_error);
    (result, Some(member), Some(context))
}

/// Waits until this node leads its shard, after it has asked for that.
///
/// # Errors
/// It does not lead in time; it may still come to lead.
pub async fn until_leading(group: &Group) -> Result<(), ShardError> {
    let mut office = group.office();
    let leading = async {
        while !matches!(office.get(), raft::Office::Leader(_)) {
            if office.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    };
    tokio::time::timeout(COMMIT_LIMIT, leading)
        .await
        .map_err(|_| refused("this node was not given the leadership in time"))
}

/// `FORGET` of a member of this shard. On a follower there is nothing to do: the command is sent to every node, the
/// leader among them.
pub async fn remove_member(group: Group, node: NodeId) -> Result<(), ShardError> {
    let node = node
        .to_bytes()
        .map(raft::NodeId::from_bytes)
        .ok_or_else(unnamed)?;
    match group.remove_member(node).await {
        Ok(()) | Err(ChangeError::NotLeader { .. }) => Ok(()),
        Err(error) => Err(change_error(error)),
    }
}
