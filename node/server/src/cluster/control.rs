//! What the CLUSTER commands ask of the shard: the seam between the command layer and the Raft group.

use holdfast_cluster_bus::{NodeId, ShardId, SlotSet};

/// Names a request until its completion; made by the command layer, never used twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Token(pub u64);

/// A change of the shard's replicated state that a CLUSTER command asks for.
///
/// All slots and nodes have been checked against the bus's view before; the shard checks them again against its own.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ShardRequest {
    /// The shard takes these slots, which have no owner (`ADDSLOTS`, `ADDSLOTSRANGE`).
    /// Complete when committed. Fails on a node that is not the leader, or if one is owned or staged already.
    OwnSlots(SlotSet),
    /// The shard gives these slots up without a new owner (`DELSLOTS`, `DELSLOTSRANGE`, `FLUSHSLOTS`).
    /// Complete when committed. Slots that it does not own are ignored, as the bus forgets those by itself.
    DropSlots(SlotSet),
    /// `SETSLOT <slot> MIGRATING <node>`: keys that are not here are asked for there. Complete when committed.
    SetMigrating {
        /// The slot, which the shard owns.
        slot: u16,
        /// A primary of another shard.
        to: NodeId,
    },
    /// `SETSLOT <slot> IMPORTING <node>`: clients that say `ASKING` are served. Complete when committed.
    SetImporting {
        /// The slot, which the shard does not own.
        slot: u16,
        /// The primary that owns it.
        from: NodeId,
    },
    /// `SETSLOT <slot> STABLE`: neither of the two. Complete when committed.
    SetStable(u16),
    /// `SETSLOT <slot> NODE <node>` with ourselves as the node, while another shard owns the slot: have the source
    /// shard commit the hand-off (it refuses while it has keys of the slot), then adopt.
    /// Complete when the adoption is committed. If it fails, its error is the reply; nothing has changed, or the tool repeats it.
    TakeSlot {
        /// The slot.
        slot: u16,
        /// The owner according to the bus; `None` if the slot has none.
        from: Option<NodeId>,
    },
    /// `SETSLOT <slot> NODE <node>` for a slot of ours that goes to another shard: commit the hand-off if we hold no key of the slot.
    /// Complete when committed, or at once if it was handed to that node before.
    GiveSlot {
        /// The slot.
        slot: u16,
        /// Its new owner.
        to: NodeId,
    },
    /// `REPLICATE <node>`: give up the own, empty shard and join that node's as a learner, then as a voter; a witness joins it beside those that it has.
    /// Complete when the shard's leader has committed us as a learner (voter, for a witness).
    Join {
        /// The shard.
        shard: ShardId,
        /// The primary named in the command.
        primary: NodeId,
        /// Where its Raft server listens, as `host:port`.
        raft_addr: String,
    },
    /// `FORGET <node>` for a member of this shard: remove it from the group's membership.
    /// Complete when committed, or at once if it is no member. A follower passes it on to the leader.
    RemoveMember(NodeId),
    /// `FAILOVER` on a follower: ask the leader to transfer leadership to us, once we are level.
    /// Complete when we lead, or failed after the failover's time-out.
    TakeLeadership {
        /// `FORCE`: campaign as well, although the leader does not answer. Never without a majority.
        force: bool,
    },
    /// `RESET` and `REPLICATE NO ONE`: leave the group (if others are in it), drop the keyspace and form a new shard of one.
    /// Complete when the new group has a leader; the node's id changes on a hard reset only.
    LeaveAndReset {
        /// The node's id from now on; a new one after a hard reset, since an id that has voted is never used again.
        node: NodeId,
        /// The new shard's name.
        shard: ShardId,
    },
}

/// Why a request was not, or not known to be, carried out. The text is the reply, without the leading `-ERR `.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ShardError {
    /// Nothing has changed.
    #[error("{0}")]
    Refused(String),
    /// This node does not lead its shard. Nothing has changed.
    #[error("Not the leader of this shard")]
    NotLeader,
    /// It may have happened, or may still happen.
    #[error("UNCERTAIN {0}")]
    Uncertain(String),
}

/// How a shard takes requests. Implemented over the Raft group; [`AsyncShard`] is the one without.
///
/// `request` never blocks: it queues the work and returns, and the outcome comes back by
/// [`super::ClusterCtl::complete`] with the same token, in any order, exactly once. An `Err` here is that outcome at once.
pub trait ShardControl {
    /// The shard is under `durability quorum`: its slots and its primary are decided by its log.
    fn is_quorum(&self) -> bool;

    /// Whether this node leads the shard (always, under `durability async`).
    fn is_leader(&self) -> bool;

    /// Starts the work.
    fn request(&mut self, token: Token, request: ShardRequest) -> Result<(), ShardError>;
}

/// A shard under `durability async`: the bus alone keeps its slots, and there are no replicas yet.
#[derive(Clone, Copy, Debug, Default)]
pub struct AsyncShard;

impl ShardControl for AsyncShard {
    fn is_quorum(&self) -> bool {
        false
    }

    fn is_leader(&self) -> bool {
        true
    }

    fn request(&mut self, _: Token, _: ShardRequest) -> Result<(), ShardError> {
        Err(ShardError::Refused(
            "not available under 'durability async'".into(),
        ))
    }
}
