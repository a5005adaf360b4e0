//! What CLUSTER commands ask of the shard, started as tasks.

use super::quorum::{self, Completion};
use super::{Control, raft_shard};
use crate::cluster::{ShardError, ShardRequest, Token};
use holdfast_raft_log::Group;

impl Control {
    /// Starts a request; its outcome comes as a [`Completion`].
    pub(super) fn begin(&mut self, token: Token, request: ShardRequest) {
        let Some(context) = self.context.clone() else {
            return;
        };
        let completed = self.completed.clone();
        let executor = self.executor.clone();
        let waiters = self.waiters.clone();
        let finish = move |completion: Completion| async move {
            // The loop ends before its tasks do; then nobody waits.
            let _ = completed.send(completion).await;
        };
        if let Some(record) = quorum::record_of(&request) {
            tokio::spawn(async move {
                let result = match record {
                    Ok(record) => quorum::commit(&executor, &waiters, record).await,
                    Err(error) => Err(error),
                };
                finish(Completion::plain(token, result)).await;
            });
            return;
        }
        let refuse = |text: &str| Err(ShardError::Refused(text.into()));
        match request {
            ShardRequest::Join {
                shard, raft_addr, ..
            } if self.settings.witness => {
                let known = raft_shard(&shard).and_then(|shard| self.witness.get(&shard).cloned());
                tokio::spawn(async move {
                    let joined = quorum::join_as_witness(context, known, shard, raft_addr, token);
                    finish(joined.await).await;
                });
            }
            ShardRequest::LeaveAndReset { node, .. } if self.settings.witness => {
                // They serve on until each is let go.
                let groups = std::mem::take(&mut self.witness).into_values().collect();
                tokio::spawn(async move {
                    finish(quorum::witness_leaves(context, groups, node, token).await).await;
                });
            }
            ShardRequest::Join { .. } | ShardRequest::LeaveAndReset { .. } => {
                let Some(old) = self.member.take() else {
                    let result = refuse("A change of shard is under way");
                    tokio::spawn(finish(Completion::plain(token, result)));
                    return;
                };
                tokio::spawn(async move {
                    let completion = match request {
                        ShardRequest::Join {
                            shard, raft_addr, ..
                        } => quorum::join_shard(context, old, shard, raft_addr, token).await,
                        ShardRequest::LeaveAndReset { node, shard } => {
                            quorum::leave_and_reset(context, old, node, shard, token).await
                        }
                        _ => Completion {
                            member: Some(old),
                            ..Completion::plain(token, refuse("Not a change of shard"))
                        },
                    };
                    finish(completion).await;
                });
            }
            ShardRequest::DropSlots(slots) => {
                tokio::spawn(async move {
                    let result = quorum::drop_slots(&executor, &waiters, slots).await;
                    finish(Completion::plain(token, result)).await;
                });
            }
            ShardRequest::RemoveMember(node) => {
                let groups: Vec<Group> = self.groups();
                tokio::spawn(async move {
                    let mut result = Ok(());
                    for group in groups {
                        result = result.and(quorum::remove_member(group, node).await);
                    }
                    finish(Completion::plain(token, result)).await;
                });
            }
            ShardRequest::TakeLeadership { force } => {
                let asked = self
                    .host
                    .as_mut()
                    .is_some_and(|host| host.node.bus.request_failover());
                let group = self.member.as_ref().map(|member| member.group.clone());
                match group.filter(|_| asked || force) {
                    Some(group) => {
                        tokio::spawn(async move {
                            let result = match force {
                                true => quorum::campaign(&group).await,
                                false => quorum::until_leading(&group).await,
                            };
                            finish(Completion::plain(token, result)).await;
                        });
                    }
                    None => {
                        tokio::spawn(finish(Completion::plain(
                            token,
                            refuse("The primary cannot be reached"),
                        )));
                    }
                }
            }
            ShardRequest::TakeSlot { slot, from: None } => {
                let record =
                    quorum::record_of(&ShardRequest::OwnSlots([slot].into_iter().collect()));
                tokio::spawn(async move {
                    let result = match record {
                        Some(Ok(record)) => quorum::commit(&executor, &waiters, record).await,
                        Some(Err(error)) => Err(error),
                        None => refuse("The slot cannot be taken"),
                    };
                    finish(Completion::plain(token, result)).await;
                });
            }
            ShardRequest::TakeSlot { .. } | ShardRequest::GiveSlot { .. } => {
                let migration = self.migration.clone();
                tokio::spawn(async move {
                    let result = match (migration, request) {
                        (
                            Some(it),
                            ShardRequest::TakeSlot {
                                slot,
                                from: Some(from),
                            },
                        ) => {
                            let from = from.to_bytes().map(holdfast_slot_migration::NodeId);
                            match from {
                                Some(from) => it.take_slot(slot, from).await,
                                None => Err("The slot's owner is not known".into()),
                            }
                        }
                        (Some(it), ShardRequest::GiveSlot { slot, .. }) => it.give_slot(slot).await,
                        _ => Err("Slots cannot be moved here".into()),
                    };
                    finish(Completion::plain(
                        token,
                        result.map_err(ShardError::Refused),
                    ))
                    .await;
                });
            }
            // The log alone decides these; see above.
            ShardRequest::OwnSlots(_)
            | ShardRequest::SetMigrating { .. }
            | ShardRequest::SetImporting { .. }
            | ShardRequest::SetStable(_) => {}
        }
    }
}
