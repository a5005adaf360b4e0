//! Roles, slots and epochs that others claim; votes.

use super::{Bus, Ix, flags};
use crate::api::{Action, ShardRole};
use crate::ids::{NodeId, Now, SLOTS};
use crate::slots::{BITMAP_LEN, SlotSet};
use crate::wire::{Header, mflags};
use tracing::{info, warn};

/// Under `durability quorum`: so often at most is our claim raised above a foreign one.
const RECLAIM_INTERVAL_MS: u64 = 500;

impl Bus {
    /// Takes the role, slots and epoch that a known node states of itself.
    pub(super) fn take_config(&mut self, sender: Ix, header: &Header<'_>, now: Now) {
        let was_replica = self.table.node(sender).is_replica();
        match &header.replica_of {
            None => {
                if was_replica {
                    self.set_primary_role(sender);
                }
                if was_replica || !self.table.node(sender).slots.equals_bitmap(header.slots) {
                    self.take_claim(sender, header.config_epoch, header.slots, now);
                    self.correct(sender, header);
                }
            }
            Some(primary) => {
                if !self.take_replica_role(sender, primary, header.config_epoch) {
                    return;
                }
            }
        }
        let (me, other) = (self.my(), self.table.node(sender));
        if me.is_primary()
            && other.is_primary()
            && !other.is_witness()
            && header.config_epoch == me.config_epoch
            && other.config_epoch == me.config_epoch
            && other.id > me.id
        {
            // Two primaries under one epoch, as in any new cluster: the one with the smaller name moves on.
            self.current_epoch = self.current_epoch.saturating_add(1);
            self.table.node_mut(self.me).config_epoch = self.current_epoch;
            info!(
                "configEpoch collision with node {}. configEpoch set to {}",
                header.sender, self.current_epoch
            );
            self.save(true);
            self.todo.broadcast = true;
        }
    }

    pub(super) fn set_primary_role(&mut self, ix: Ix) {
        let node = self.table.node_mut(ix);
        if node.is_primary() {
            return;
        }
        info!(
            "Reconfiguring node {} as primary for shard {}",
            node.id, node.shard
        );
        if node.replica_of.take().is_some() && !node.has(flags::MYSELF) {
            node.set(flags::MIGRATE_TO, true);
        }
        node.set(flags::REPLICA, false);
        node.set(flags::PRIMARY, true);
        self.changed(false);
    }

    /// `sender` says that it is a replica of `primary`. False if the message is older than what we know.
    fn take_replica_role(&mut self, sender: Ix, primary: &NodeId, claimed_epoch: u64) -> bool {
        let primary = self.table.lookup(primary).filter(|ix| *ix != sender);
        if self.table.node(sender).is_primary() {
            let same_shard =
                primary.filter(|p| self.table.node(*p).shard == self.table.node(sender).shard);
            if let Some(primary) = same_shard {
                if self.table.epoch(sender).max(self.table.epoch(primary)) > claimed_epoch {
                    info!("Ignore stale message from {}", self.table.node(sender).id);
                    return false;
                }
                if self.table.node(primary).is_replica() && primary != self.me {
                    // A failover in their shard, of which the new primary itself has not told us yet.
                    self.move_slots(sender, primary);
                    self.set_primary_role(primary);
                    self.table.node_mut(primary).config_epoch = claimed_epoch;
                }
            } else {
                let slots = self.table.node(sender).slots.clone();
                for slot in slots.iter() {
                    self.table.unassign(slot);
                }
            }
            let node = self.table.node_mut(sender);
            node.set(flags::PRIMARY | flags::MIGRATE_TO, false);
            node.set(flags::REPLICA, true);
            self.changed(true);
        }
        if let Some(primary) = primary
            && self.table.node(sender).replica_of != Some(primary)
        {
            info!(
                "Node {} is now a replica of node {}",
                self.table.node(sender).id,
                self.table.node(primary).id
            );
            self.table.node_mut(sender).replica_of = Some(primary);
            let shard = self.table.node(primary).shard;
            self.set_shard(sender, shard);
            self.changed(false);
        }
        true
    }

    fn move_slots(&mut self, from: Ix, to: Ix) {
        let slots = self.table.node(from).slots.clone();
        for slot in slots.iter() {
            self.table.assign(slot, to);
        }
        for peer in self
            .migrating
            .values_mut()
            .chain(self.importing.values_mut())
        {
            if *peer == from {
                *peer = to;
            }
        }
    }

    /// Whether the own shard's log holds `slot`, so that no epoch heard on the bus may move it to a node outside of the shard.
    /// A witness holds none: it guards the logs of several shards, and speaks for no one.
    fn is_held(&self, slot: u16) -> bool {
        self.truth
            .as_ref()
            .is_some_and(|truth| truth.role != ShardRole::Witness && truth.slots.contains(slot))
    }

    /// Whether our shard's log has handed `slot` to the shard of `node`: then its claim counts, whatever its epoch.
    fn is_handed_to(&self, slot: u16, node: Ix) -> bool {
        let to = self.truth.as_ref().and_then(|truth| truth.leaves_to(slot));
        to == Some(self.table.node(node).shard)
    }

    /// A primary claims slots under an epoch. The greater epoch wins, but never against our own shard's log.
    fn take_claim(&mut self, claimant: Ix, epoch: u64, claimed: &[u8; BITMAP_LEN], now: Now) {
        if claimant == self.me {
            return;
        }
        let claimed = SlotSet::from_bitmap(claimed);
        let leads = self.leads();
        let same_shard = self.table.node(claimant).shard == self.my().shard;
        let mut lost = SlotSet::new();
        let mut contested = false;
        let mut moved = false;
        for slot in 0..SLOTS {
            let owner = self.table.owner(slot);
            if !claimed.contains(slot) {
                if owner == Some(claimant) {
                    // Left with its old owner for now, who will redirect; but not spread as that one's any more.
                    self.not_claimed.insert(slot);
                }
                self.follow_migration(slot, claimant, epoch);
                continue;
            }
            if owner == Some(claimant) {
                self.not_claimed.remove(slot);
                continue;
            }
            let wins = owner.is_none_or(|owner| self.table.node(owner).config_epoch < epoch)
                || self.is_handed_to(slot, claimant);
            if self.is_held(slot) && (leads || !same_shard) {
                contested |= owner == Some(self.me) && self.my().config_epoch <= epoch;
                continue;
            }
            if !wins {
                continue;
            }
            if owner == Some(self.me) {
                lost.insert(slot);
            }
            if !owner.is_some_and(|owner| {
                self.table.node(owner).shard == self.table.node(claimant).shard
            }) {
                self.migrating.remove(&slot);
            }
            if let Some(source) = self.importing.get(&slot).copied()
                && source != claimant
            {
                if self.table.node(source).shard == self.table.node(claimant).shard {
                    self.importing.insert(slot, claimant);
                } else {
                    self.importing.remove(&slot);
                }
            }
            self.table.assign(slot, claimant);
            self.not_claimed.remove(slot);
            moved = true;
        }
        if moved {
            self.changed(true);
        }
        if !lost.is_empty() && !self.cfg.quorum {
            warn!(
                "{} slot(s) of this node went to {}",
                lost.len(),
                self.table.node(claimant).id
            );
            self.actions.push_back(Action::SlotsLost { slots: lost });
        }
        if contested && leads {
            self.reclaim(epoch, now);
        }
    }

    /// A failover in the shard that a slot migrates to, or comes from, changes whom it migrates to, or ends the import.
    fn follow_migration(&mut self, slot: u16, claimant: Ix, epoch: u64) {
        if let Some(target) = self.migrating.get(&slot).copied()
            && target != claimant
        {
            let node = self.table.node(target);
            if (node.config_epoch < epoch || node.is_replica())
                && node.shard == self.table.node(claimant).shard
            {
                self.migrating.insert(slot, claimant);
                self.save(true);
            }
        }
        if self.truth.is_none()
            && self.my().is_primary()
            && self.importing.get(&slot) == Some(&claimant)
        {
            // The source gave the slot up and it was coming to us: it is ours.
            self.importing.remove(&slot);
            if self.table.owner(slot) != Some(self.me) {
                self.table.assign(slot, self.me);
                self.bump_epoch();
            }
            self.changed(true);
        }
    }

    /// Leading a quorum shard, raises our epoch above one under which our slots are claimed elsewhere, and says so.
    ///
    /// Not more than twice a second: should a deposed leader, for the moment until it learns of it, do the same,
    /// the two do not outbid each other without end.
    pub(super) fn reclaim(&mut self, above: u64, now: Now) {
        if self
            .reclaimed_at
            .is_some_and(|at| now.since(at) < RECLAIM_INTERVAL_MS)
        {
            return;
        }
        self.reclaimed_at = Some(now.mono_ms);
        self.current_epoch = self.current_epoch.max(above).saturating_add(1);
        self.table.node_mut(self.me).config_epoch = self.current_epoch;
        info!(
            "Our slots were claimed under epoch {above}; configEpoch set to {}",
            self.current_epoch
        );
        self.save(true);
        self.todo.broadcast = true;
    }

    /// Tells a primary that a slot which it claims belongs to another under a greater epoch.
    fn correct(&mut self, claimant: Ix, header: &Header<'_>) {
        let newer = SlotSet::from_bitmap(header.slots)
            .iter()
            .filter_map(|slot| self.table.owner(slot))
            .find(|owner| {
                *owner != claimant && self.table.node(*owner).config_epoch > header.config_epoch
            });
        if let Some(owner) = newer {
            self.send_update(claimant, owner);
        }
    }

    /// `UPDATE`: what we claim, or how we see `node`, is out of date.
    pub(super) fn on_update(
        &mut self,
        node: &NodeId,
        epoch: u64,
        slots: &[u8; BITMAP_LEN],
        now: Now,
    ) {
        let Some(ix) = self.table.lookup(node).filter(|ix| *ix != self.me) else {
            return;
        };
        if self.leads() && epoch >= self.my().config_epoch {
            // Others hold our claim for the older one, and the shard's log may say otherwise. What it is about cannot always be
            // seen: slots that `node` itself has stopped claiming are not in the message. But if only such are in dispute
            // that our log has handed off, there is nothing to fight for.
            let claimed = SlotSet::from_bitmap(slots);
            let held = self
                .truth
                .as_ref()
                .is_some_and(|truth| truth.slots.intersects(&claimed));
            let leaving = self.truth.iter().flat_map(|truth| &truth.leaving);
            let given = !held
                && leaving
                    .into_iter()
                    .any(|(slots, _)| slots.intersects(&claimed));
            if !given {
                self.reclaim(epoch, now);
            }
        }
        if self.table.node(ix).config_epoch >= epoch {
            return;
        }
        info!("Processing UPDATE message about node {node}, new configEpoch {epoch}");
        self.set_primary_role(ix);
        self.table.node_mut(ix).config_epoch = epoch;
        self.save(true);
        self.take_claim(ix, epoch, slots, now);
    }

    /// Votes for a replica that wants to follow its failed primary, by Valkey's rules: once an epoch, only as a primary
    /// with slots, only if no slot that it claims belongs to somebody newer. Never against our own shard's log.
    pub(super) fn consider_vote(&mut self, candidate: Ix, header: &Header<'_>) {
        if !self.my().votes() || !self.safe_to_vote {
            return;
        }
        let node = self.table.node(candidate);
        let deny = |why: &str| info!("Failover auth denied to {}: {why}", node.id);
        if header.current_epoch < self.current_epoch {
            return deny("its epoch is old");
        }
        if self.last_vote_epoch == self.current_epoch {
            return deny("already voted in this epoch");
        }
        let Some(primary) = node.replica_of.filter(|_| node.is_replica()) else {
            return deny("it is no replica of a known primary");
        };
        if !self.table.node(primary).has(flags::FAIL) && header.mflags & mflags::FORCE_ACK == 0 {
            return deny("its primary is up");
        }
        let claimed = SlotSet::from_bitmap(header.slots);
        if self
            .truth
            .as_ref()
            .is_some_and(|truth| truth.slots.intersects(&claimed))
        {
            return deny("it claims slots of this shard");
        }
        let newer = claimed
            .iter()
            .filter_map(|slot| self.table.owner(slot))
            .find(|owner| self.table.node(*owner).config_epoch > header.config_epoch);
        if let Some(owner) = newer {
            deny("a slot that it claims belongs to a newer primary");
            self.send_update(candidate, owner);
            return;
        }
        self.last_vote_epoch = self.current_epoch;
        info!(
            "Failover auth granted to {} for epoch {}",
            node.id, self.current_epoch
        );
        // On disk before it leaves: a restart must not vote again in this epoch. See `Bus::settle`.
        self.save(true);
        self.send_vote(candidate);
    }
}
