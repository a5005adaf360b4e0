//! This node's own slots, role and epoch: by command under `durability async`, by the shard's log under `quorum`.

use super::{Bus, flags};
use crate::api::{ShardRole, ShardTruth};
use crate::ids::{NodeId, Now, ShardId};
use crate::slots::SlotSet;
use tracing::info;

/// Why `CLUSTER ADDSLOTS` or `DELSLOTS` cannot be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SlotError {
    /// The slot has an owner.
    Busy(u16),
    /// The slot has none.
    Unassigned(u16),
}

/// Why `CLUSTER SET-CONFIG-EPOCH` cannot be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EpochError {
    /// The node knows others.
    NotAlone,
    /// The node has an epoch.
    NotZero,
}

impl Bus {
    /// Under `durability quorum`: leads its shard, by the log.
    pub(super) fn leads(&self) -> bool {
        self.truth
            .as_ref()
            .is_some_and(|truth| truth.role == ShardRole::Leader)
    }

    /// Under `durability quorum`: what the shard's log says about this node, whenever that has changed.
    ///
    /// A new leader, and one that has gained slots, takes a config epoch above all that are known and tells everybody at
    /// once. Slots that `truth` no longer holds lose their owner, unless [`Bus::hand_over`] named the new one before.
    /// While no leader is known, or only a witness that will hand its office over, this node goes on saying on the bus
    /// what it said before: a witness is nobody's primary there.
    pub fn set_self(&mut self, truth: ShardTruth, now: Now) {
        if self.truth.as_ref() == Some(&truth) {
            return;
        }
        let led = self.leads();
        let me = self.me;
        if truth.role != ShardRole::Witness && self.my().shard != truth.shard {
            self.table.node_mut(me).shard = truth.shard;
            self.save(true);
        }
        match truth.role {
            ShardRole::Leader => {
                self.leader_wanted = None;
                let mut slots = truth.slots.clone();
                for slot in truth.leaving.iter().flat_map(|(leaving, _)| leaving.iter()) {
                    // Still answered for by this shard, unless its new owner has claimed it already.
                    let ours = |owner| owner == me || self.table.node(owner).shard == truth.shard;
                    if self.table.owner(slot).is_none_or(ours) {
                        slots.insert(slot);
                    }
                }
                self.truth = Some(truth);
                self.lead(&slots, led);
            }
            ShardRole::Follower { leader } => {
                self.truth = Some(truth);
                self.leader_wanted = leader.filter(|leader| *leader != self.my().id);
                self.todo.view = true;
                self.follow_wanted_leader(now);
            }
            ShardRole::Witness => self.truth = Some(truth),
        }
    }

    fn lead(&mut self, slots: &SlotSet, led: bool) {
        let me = self.me;
        self.set_primary_role(me);
        self.table.node_mut(me).set(flags::MY_PRIMARY_FAIL, false);
        let mut gone = self.my().slots.clone();
        gone.subtract(slots);
        for slot in gone.iter() {
            self.table.unassign(slot);
        }
        let mut gained = slots.clone();
        gained.subtract(&self.my().slots);
        for slot in gained.iter() {
            self.table.assign(slot, me);
            self.importing.remove(&slot);
            self.not_claimed.remove(slot);
        }
        if gained.is_empty() && gone.is_empty() && led {
            return;
        }
        // A fresh node's first slots need no epoch of their own: collisions of new clusters sort themselves out, and tools
        // give epochs by SET-CONFIG-EPOCH, which wants them to be zero until then.
        let fresh = self.my().config_epoch == 0 && self.table.len() == 1;
        if (!gained.is_empty() || !led) && !fresh {
            self.current_epoch = self.max_epoch().saturating_add(1);
            self.table.node_mut(me).config_epoch = self.current_epoch;
            info!(
                "Leading shard {} with {} slots, configEpoch {}",
                self.my().shard,
                slots.len(),
                self.current_epoch
            );
        }
        self.changed(true);
        self.todo.broadcast = true;
    }

    /// Becomes the replica of the leader that the log names, as soon as the table knows that node.
    pub(super) fn follow_wanted_leader(&mut self, _now: Now) {
        let Some(leader) = self
            .leader_wanted
            .and_then(|leader| self.table.lookup(&leader))
        else {
            return;
        };
        self.leader_wanted = None;
        if self.table.node(leader).is_witness() {
            return;
        }
        let me = self.me;
        if self.my().is_replica() && self.my().replica_of == Some(leader) {
            return;
        }
        // Slots of this shard's go with its leadership; their old owner may be dead, and the leader's own word is on its way.
        let mut moving = self.my().slots.clone();
        if let Some(truth) = &self.truth {
            moving.extend(&truth.slots);
        }
        let shard = self.my().shard;
        for slot in moving.iter() {
            if self
                .table
                .owner(slot)
                .is_some_and(|owner| owner == me || self.table.node(owner).shard == shard)
            {
                self.table.assign(slot, leader);
            }
        }
        // A node cannot follow a replica: the leader is a primary now, whatever the bus has heard of it so far.
        self.set_primary_role(leader);
        let node = self.table.node_mut(me);
        node.replica_of = Some(leader);
        node.set(
            flags::PRIMARY | flags::MIGRATE_TO | flags::MY_PRIMARY_FAIL,
            false,
        );
        node.set(flags::REPLICA, true);
        if let Some(shard) = self.truth.as_ref().map(|truth| truth.shard) {
            self.table.node_mut(leader).shard = shard;
        }
        info!("Following node {}", self.table.node(leader).id);
        self.changed(true);
        self.todo.broadcast = true;
    }

    /// Records that slots now belong to another shard's primary, before [`Bus::set_self`] drops them: clients are
    /// then sent there at once. A node that the table does not know leaves them without an owner.
    pub fn hand_over(&mut self, slots: &SlotSet, to: &NodeId) {
        let target = self.table.lookup(to).filter(|ix| *ix != self.me);
        for slot in slots.iter() {
            match target {
                Some(ix) => self.table.assign(slot, ix),
                None => drop(self.table.unassign(slot)),
            }
            self.migrating.remove(&slot);
            self.not_claimed.remove(slot);
        }
        if let Some(truth) = &mut self.truth {
            truth.slots.subtract(slots);
        }
        self.changed(true);
        self.todo.broadcast = true;
    }

    /// Whether all these slots have no owner.
    pub fn check_unassigned(&self, slots: &SlotSet) -> Result<(), SlotError> {
        match slots.iter().find(|slot| self.table.owner(*slot).is_some()) {
            Some(slot) => Err(SlotError::Busy(slot)),
            None => Ok(()),
        }
    }

    /// Whether all these slots have an owner.
    pub fn check_assigned(&self, slots: &SlotSet) -> Result<(), SlotError> {
        match slots.iter().find(|slot| self.table.owner(*slot).is_none()) {
            Some(slot) => Err(SlotError::Unassigned(slot)),
            None => Ok(()),
        }
    }

    /// Under `durability async`: takes slots that have no owner.
    pub fn add_slots(&mut self, slots: &SlotSet) -> Result<(), SlotError> {
        self.check_unassigned(slots)?;
        for slot in slots.iter() {
            self.table.assign(slot, self.me);
            self.importing.remove(&slot);
        }
        self.changed(true);
        Ok(())
    }

    /// Leaves slots without an owner in this node's view, whoever had them. Under `durability quorum` those
    /// that the shard's log holds are not touched: drop them there.
    pub fn del_slots(&mut self, slots: &SlotSet) {
        for slot in slots.iter() {
            if !self
                .truth
                .as_ref()
                .is_some_and(|truth| truth.slots.contains(slot))
            {
                self.table.unassign(slot);
                self.importing.remove(&slot);
            }
        }
        self.changed(true);
    }

    /// `SETSLOT <slot> NODE <node>` in this node's view; never for a slot that the shard's log holds or another's log decides.
    /// Under `durability async`, a slot that was being imported by this node gets it a new epoch, announced at once.
    pub fn assign_slot(&mut self, slot: u16, node: &NodeId) {
        let Some(ix) = self.table.lookup(node) else {
            return;
        };
        if self
            .truth
            .as_ref()
            .is_some_and(|truth| truth.slots.contains(slot))
            || (self.truth.is_some() && ix == self.me)
        {
            return;
        }
        self.table.assign(slot, ix);
        self.migrating.remove(&slot);
        self.not_claimed.remove(slot);
        if self.importing.contains_key(&slot) && ix == self.me {
            self.importing.remove(&slot);
            self.bump_epoch();
            self.todo.broadcast = true;
        }
        self.changed(true);
    }

    /// `SETSLOT … MIGRATING`: where clients find keys of the slot that are not here. False if the node is not known.
    pub fn set_migrating(&mut self, slot: u16, to: &NodeId) -> bool {
        let Some(ix) = self.table.lookup(to) else {
            return false;
        };
        self.migrating.insert(slot, ix);
        self.save(false);
        true
    }

    /// `SETSLOT … IMPORTING`: serve clients that say `ASKING`. False if the node is not known.
    pub fn set_importing(&mut self, slot: u16, from: &NodeId) -> bool {
        let Some(ix) = self.table.lookup(from) else {
            return false;
        };
        self.importing.insert(slot, ix);
        self.save(false);
        true
    }

    /// `SETSLOT … STABLE`: ends both.
    pub fn set_stable(&mut self, slot: u16) {
        self.migrating.remove(&slot);
        self.importing.remove(&slot);
        self.save(false);
    }

    /// Under `durability quorum`: exactly these slots are open, by the shard's log. Nodes that are not known are left out.
    pub fn set_open_slots(&mut self, migrating: &[(u16, NodeId)], importing: &[(u16, NodeId)]) {
        let known = |open: &[(u16, NodeId)]| {
            let places = open
                .iter()
                .map(|(slot, node)| (*slot, self.table.lookup(node)));
            places.filter_map(|(slot, ix)| Some((slot, ix?))).collect()
        };
        let (migrating, importing) = (known(migrating), known(importing));
        if (&self.migrating, &self.importing) != (&migrating, &importing) {
            self.migrating = migrating;
            self.importing = importing;
            self.save(false);
        }
    }

    /// Takes a new config epoch without asking anybody, unless ours is the greatest already: `CLUSTER BUMPEPOCH`.
    /// Returns our epoch and whether it is new.
    pub fn bump_epoch(&mut self) -> (u64, bool) {
        let mine = self.my().config_epoch;
        if mine != 0 && mine == self.max_epoch() {
            return (mine, false);
        }
        self.current_epoch = self.current_epoch.saturating_add(1);
        self.table.node_mut(self.me).config_epoch = self.current_epoch;
        self.save(true);
        self.todo.broadcast = true;
        (self.current_epoch, true)
    }

    /// `CLUSTER SET-CONFIG-EPOCH`, for a node that is new and alone.
    pub fn set_config_epoch(&mut self, epoch: u64) -> Result<(), EpochError> {
        if self.table.len() > 1 {
            return Err(EpochError::NotAlone);
        }
        if self.my().config_epoch != 0 {
            return Err(EpochError::NotZero);
        }
        self.table.node_mut(self.me).config_epoch = epoch;
        self.current_epoch = self.current_epoch.max(epoch);
        self.changed(false);
        Ok(())
    }

    /// A shard name that nobody has.
    pub fn new_shard_id(&mut self) -> ShardId {
        ShardId::from_bytes(self.rng.bytes20())
    }

    /// A node name that nobody has.
    pub fn new_node_id(&mut self) -> NodeId {
        NodeId::from_bytes(self.rng.bytes20())
    }
}
