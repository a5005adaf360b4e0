//! What must hold.

use holdfast_slot_migration::ShardSlots;

use crate::world::{Entry, SLOTS, World};

/// After every step.
pub fn always(world: &World) -> Result<(), String> {
    if let Some(broken) = &world.broken {
        return Err(broken.clone());
    }
    for slot in 0..SLOTS {
        let owners: Vec<usize> = (0..world.shards.len())
            .filter(|&i| world.shards[i].slots.owns(slot))
            .collect();
        if owners.len() > 1 {
            return Err(format!(
                "slot {slot} is owned by {owners:?}{}",
                world.describe()
            ));
        }
        let Some(acked) = world.acked.get(&slot) else {
            continue;
        };
        for id in acked {
            let held = |i: usize| {
                world.shards[i]
                    .data
                    .get(&slot)
                    .is_some_and(|d| d.contains(id))
            };
            let found = match owners.first() {
                // An open slot (the older way) is on both sides; what has been moved is asked for there.
                Some(&owner) => {
                    held(owner)
                        || (0..world.shards.len())
                            .any(|i| held(i) && world.shards[i].slots.importing(slot).is_some())
                }
                None => (0..world.shards.len()).any(|i| {
                    let s = &world.shards[i].slots;
                    let staged = s
                        .stagings()
                        .values()
                        .any(|j| j.staged.is_some() && j.slots.contains(slot));
                    let claimed = s.claims().values().any(|c| c.slots.contains(slot));
                    held(i) && (staged || claimed)
                }),
            };
            if !found {
                return Err(format!(
                    "acknowledged write {id} of slot {slot} is gone (owner {:?}){}",
                    owners.first(),
                    world.describe()
                ));
            }
        }
    }
    for s in &world.shards {
        let hidden = s.slots.hidden();
        if let Some(slot) = (0..SLOTS).find(|&slot| hidden.contains(slot) && s.slots.owns(slot)) {
            return Err(format!("slot {slot} is both staged and owned"));
        }
        if s.up && s.committed == s.log.len() {
            let clean = |data: &crate::world::Data| {
                data.iter()
                    .filter(|(_, d)| !d.is_empty())
                    .map(|(k, d)| (*k, d.clone()))
                    .collect::<Vec<_>>()
            };
            if clean(&s.memory) != clean(&s.data) {
                return Err(format!(
                    "shard {}: the primary's memory is not its log's",
                    s.slots.shard()
                ));
            }
        }
    }
    Ok(())
}

/// Once everything has come to an end.
pub fn healed(world: &World) -> Result<(), String> {
    for slot in 0..SLOTS {
        let owners = world.shards.iter().filter(|s| s.slots.owns(slot)).count();
        if owners != 1 {
            return Err(format!(
                "slot {slot} has {owners} owners in the end{}",
                world.describe()
            ));
        }
        for s in &world.shards {
            let keys = s.data.get(&slot).map_or(0, |d| d.len());
            if keys > 0 && !s.slots.owns(slot) {
                return Err(format!(
                    "{keys} keys of slot {slot} are left at {}",
                    s.slots.shard()
                ));
            }
        }
    }
    for s in &world.shards {
        let mut again = ShardSlots::new(s.slots.shard());
        for entry in &s.log {
            if let Entry::Record(record) = entry {
                let _ = again.apply(record);
                let copy = ShardSlots::decode(&again.encode()).map_err(|e| e.to_string())?;
                if copy != again {
                    return Err("a snapshot of the slots is not the slots".into());
                }
            }
        }
        if again != s.slots {
            return Err("replaying the log leads elsewhere".into());
        }
    }
    Ok(())
}
