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
/// How long `CLUSTER FORGET` and `CLUSTER RESET` wait for the shard to remove a member.
const CHANGE_LIMIT: Duration = Duration::from_secs(10);
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
    /// Groups that this witness serves from now on.
    pub witness: Vec<Group>,
    /// The node has another name from now on.
    pub renamed: Option<Context>,
    /// Shards that this node is no member of any more: their files can go, once `nodes.conf` says so.
    pub left: Vec<raft::ShardId>,
}

impl Completion {
    /// An outcome that changes nothing in this process.
    pub fn plain(token: Token, result: Result<(), ShardError>) -> Completion {
        Completion {
            token,
            result,
            member: None,
            witness: Vec::new(),
            renamed: None,
            left: Vec::new(),
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

/// Changes from the own shard to another one: from one that is empty, or that has other members.
pub async fn join_shard(
    context: Context,
    old: Member,
    shard: ShardId,
    via: String,
    token: Token,
) -> Completion {
    let ended = |result, member| Completion {
        member,
        ..Completion::plain(token, result)
    };
    let Some(target) = shard.to_bytes().map(raft::ShardId::from_bytes) else {
        return ended(Err(unnamed()), Some(old));
    };
    let before = old.group.shard();
    if before == target {
        let result = join(&old.group, &[via], JOIN_LIMIT)
            .await
            .map_err(change_error);
        return ended(result, Some(old));
    }
    let had_others = old.group.status().members.len() > 1;
    if had_others {
        // What it holds the others hold as well, and they must not count on this node any more.
        if let Err(error) = leave(&old.group).await {
            return ended(Err(error), Some(old));
        }
    } else {
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
            return ended(Err(refused(text)), Some(old));
        }
    }
    old.stop().await;
    info!("Leaving shard {before} to join shard {target}");
    let member = match context.start_member(target, false).await {
        Ok(member) => member,
        Err(error) => {
            let (result, member) = back(&context, before, refused(error)).await;
            return ended(result, member);
        }
    };
    match join(&member.group, &[via], JOIN_LIMIT).await {
        Ok(()) => Completion {
            left: vec![before],
            ..ended(Ok(()), Some(member))
        },
        // It may have been taken in nevertheless, and have acknowledged entries: it must not forget them.
        Err(ChangeError::Busy(why)) => Completion {
            left: vec![before],
            ..ended(
                Err(ShardError::Uncertain(format!(
                    "shard {target} has not taken this node in in time ({why}); say CLUSTER REPLICATE again"
                ))),
                Some(member),
            )
        },
        Err(error) if had_others => Completion {
            left: vec![before],
            ..ended(Err(change_error(error)), Some(member))
        },
        Err(error) => {
            member.stop().await;
            remove(&context, target).await;
            let (result, member) = back(&context, before, change_error(error)).await;
            ended(result, member)
        }
    }
}

/// Removes the files of a shard that this node is no member of.
pub async fn remove(context: &Context, shard: raft::ShardId) {
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
    match context.start_member(shard, false).await {
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
    token: Token,
) -> Completion {
    let Some(target) = shard.to_bytes().map(raft::ShardId::from_bytes) else {
        return Completion::plain(token, Err(unnamed()));
    };
    let group = match known {
        Some(group) => group,
        None => match context.start_witness(target, false).await {
            Ok(group) => group,
            Err(error) => return Completion::plain(token, Err(refused(error))),
        },
    };
    let result = join(&group, &[via], JOIN_LIMIT).await.map_err(change_error);
    Completion {
        witness: vec![group],
        ..Completion::plain(token, result)
    }
}

/// Has the shard remove this node, and returns once that is committed: only then may the log be forgotten.
async fn leave(group: &Group) -> Result<(), ShardError> {
    if group.status().members.len() <= 1 {
        return Ok(());
    }
    within(CHANGE_LIMIT, group.leave())
        .await
        .map_err(|error| match error {
            ChangeError::Busy(why) => ShardError::Uncertain(format!(
                "shard {} has not let this node leave in time ({why}). It stays a member until it does; say it again",
                group.shard()
            )),
            error => change_error(error),
        })
}

/// Leaves the shard and forms a new one. The old log is left to be removed once the new shard's name is on the disk.
pub async fn leave_and_reset(
    mut context: Context,
    old: Member,
    node: NodeId,
    shard: ShardId,
    token: Token,
) -> Completion {
    let before = old.group.shard();
    let (Some(node), Some(shard)) = (node.to_bytes(), shard.to_bytes()) else {
        return Completion {
            member: Some(old),
            ..Completion::plain(token, Err(unnamed()))
        };
    };
    if let Err(error) = leave(&old.group).await {
        return Completion {
            member: Some(old),
            ..Completion::plain(token, Err(error))
        };
    }
    old.stop().await;
    context.me = raft::NodeId::from_bytes(node);
    let target = raft::ShardId::from_bytes(shard);
    let member = match context.start_member(target, false).await {
        Ok(member) => member,
        Err(error) => return Completion::plain(token, Err(refused(error))),
    };
    let result = member.group.initialize().await.map_err(change_error);
    if result.is_ok() {
        // Whoever is told that it is done finds a primary here. A disk so slow that it takes longer only delays that.
        let _ = until_leading(&member.group).await;
    }
    Completion {
        member: Some(member),
        renamed: Some(context),
        left: vec![before],
        ..Completion::plain(token, result)
    }
}

/// A witness leaves all its shards.
pub async fn witness_leaves(
    mut context: Context,
    groups: Vec<Group>,
    node: NodeId,
    token: Token,
) -> Completion {
    let Some(node) = node.to_bytes() else {
        return Completion {
            witness: groups,
            ..Completion::plain(token, Err(unnamed()))
        };
    };
    let mut groups = groups.into_iter();
    while let Some(group) = groups.next() {
        if let Err(error) = leave(&group).await {
            return Completion {
                witness: std::iter::once(group).chain(groups).collect(),
                ..Completion::plain(token, Err(error))
            };
        }
        group.stop().await;
        remove(&context, group.shard()).await;
    }
    context.me = raft::NodeId::from_bytes(node);
    Completion {
        renamed: Some(context),
        ..Completion::plain(token, Ok(()))
    }
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

/// `FAILOVER FORCE`: stands for election without the leader's leave. A majority is still needed, and one that hears a
/// living leader does not vote: a leader that can be asked has been asked as well.
///
/// # Errors
/// As [`until_leading`]; this node may not lead at all.
pub async fn campaign(group: &Group) -> Result<(), ShardError> {
    // Whoever was bound to the old leader is free after an election's time-out.
    let limit = group.election_timeout() * 2 + COMMIT_LIMIT;
    group.campaign(limit).await.map_err(refused)
}

/// `FORGET` of a member of this shard, on any member: the leader removes it. A node that is no member of it needs no
/// removal.
///
/// # Errors
/// The shard refuses, or does not answer in time.
pub async fn remove_member(group: Group, node: NodeId) -> Result<(), ShardError> {
    let node = node
        .to_bytes()
        .map(raft::NodeId::from_bytes)
        .ok_or_else(unnamed)?;
    if !group.status().members.iter().any(|m| m.node == node) {
        return Ok(());
    }
    within(CHANGE_LIMIT, group.remove_member(node))
        .await
        .map_err(|error| match error {
            ChangeError::Busy(why) => ShardError::Uncertain(format!(
                "the node is still a member of shard {}, which has not removed it in time ({why}); say CLUSTER FORGET again",
                group.shard()
            )),
            error => change_error(error),
        })
}

/// A change of the members, at most for so long.
async fn within(
    limit: Duration,
    change: impl Future<Output = Result<(), ChangeError>>,
) -> Result<(), ChangeError> {
    tokio::time::timeout(limit, change)
        .await
        .unwrap_or_else(|_| Err(ChangeError::Busy("no answer".into())))
}
