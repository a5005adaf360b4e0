//! A database: a table of entries for each slot (one table in a standalone engine), and the index of expiries.

pub(crate) mod entry;
pub(crate) mod hash;
pub(crate) mod table;

use std::collections::{BTreeMap, BTreeSet};

use crate::rng::Rng;
use crate::slots::{SLOTS, SlotSet, key_slot};
use entry::{Entry, NEVER};
use hash::KeyHasher;
use table::Table;

/// Where a key is to be looked for: computed once a command, used for every step of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub slot: u16,
    pub hash: u64,
}

/// Slots are counted in groups, so that a slot can be drawn at random by its number of keys in 2 × 128 steps.
const GROUP: usize = 128;

/// One database.
pub(crate) struct Db {
    cluster: bool,
    hasher: KeyHasher,
    /// By slot; grown to all slots when a cluster's database gets its first key.
    tables: Vec<Option<Box<Table>>>,
    /// Keys in each group of slots.
    groups: Vec<usize>,
    keys: usize,
    expiries: ExpiryIndex,
}

/// All keys with an expiry, by time: 16 bytes a key and the trees around them. Each slot has a tree of its own, so that
/// a slot can be taken out without a look at its keys.
///
/// Two keys of one slot with equal hash and time would share an element; then one of them is deleted late, when it is
/// next looked at.
#[derive(Default)]
pub(crate) struct ExpiryIndex {
    slots: BTreeMap<u16, SlotExpiries>,
    /// Time of each slot's first element, and the slot.
    first: BTreeSet<(u64, u16)>,
    len: usize,
}

/// The keys of one slot that have an expiry: its time, and the hash of the key.
#[derive(Default)]
pub(crate) struct SlotExpiries(BTreeSet<(u64, u64)>);

impl SlotExpiries {
    fn earliest(&self) -> Option<u64> {
        self.0.first().map(|(at, _)| *at)
    }

    /// Takes up to `count` elements away; to free it in small steps. Whether there were as many.
    pub fn pop_some(&mut self, count: usize) -> bool {
        (0..count).all(|_| self.0.pop_first().is_some())
    }
}

impl ExpiryIndex {
    fn insert(&mut self, at_ms: u64, place: Place) {
        let slot = self.slots.entry(place.slot).or_default();
        let before = slot.earliest();
        if slot.0.insert((at_ms, place.hash)) {
            self.len += 1;
        }
        if before.is_none_or(|before| at_ms < before) {
            if let Some(before) = before {
                self.first.remove(&(before, place.slot));
            }
            self.first.insert((at_ms, place.slot));
        }
    }

    fn remove(&mut self, at_ms: u64, place: Place) {
        let Some(slot) = self.slots.get_mut(&place.slot) else {
            return;
        };
        if !slot.0.remove(&(at_ms, place.hash)) {
            return;
        }
        self.len -= 1;
        let now = slot.earliest();
        if now.is_none() {
            self.slots.remove(&place.slot);
        }
        if now.is_none_or(|now| at_ms < now) {
            self.first.remove(&(at_ms, place.slot));
            if let Some(now) = now {
                self.first.insert((now, place.slot));
            }
        }
    }

    /// The first element of the first slot at or behind `from`: its time, its place, and where the next slot is.
    pub fn next(&self, from: (u64, u16)) -> Option<(u64, Place, (u64, u16))> {
        let (at, slot) = *self.first.range(from..).next()?;
        let hash = self.slots.get(&slot)?.0.first()?.1;
        Some((at, Place { slot, hash }, (at, slot + 1)))
    }

    /// Takes the elements of one slot out.
    fn take_slot(&mut self, slot: u16) -> Option<SlotExpiries> {
        let taken = self.slots.remove(&slot)?;
        if let Some(at) = taken.earliest() {
            self.first.remove(&(at, slot));
        }
        self.len -= taken.0.len();
        Some(taken)
    }

    /// Takes everything apart; to free it in small steps.
    pub fn into_slots(self) -> impl Iterator<Item = SlotExpiries> {
        self.slots.into_values()
    }

    pub fn len(&self) -> usize {
        self.len
    }
}

impl Db {
    pub fn new(cluster: bool, hasher: KeyHasher) -> Db {
        Db {
            cluster,
            hasher,
            tables: Vec::new(),
            groups: Vec::new(),
            keys: 0,
            expiries: ExpiryIndex::default(),
        }
    }

    /// Number of keys.
    pub fn len(&self) -> usize {
        self.keys
    }

    /// Number of keys with an expiry.
    pub fn expiries_len(&self) -> usize {
        self.expiries.len()
    }

    pub fn expiries(&self) -> &ExpiryIndex {
        &self.expiries
    }

    /// The highest number of tables there may be.
    pub fn tables_len(&self) -> usize {
        self.tables.len()
    }

    pub fn table(&self, slot: usize) -> Option<&Table> {
        self.tables.get(slot)?.as_deref()
    }

    pub fn table_mut(&mut self, slot: usize) -> Option<&mut Table> {
        self.tables.get_mut(slot)?.as_deref_mut()
    }

    #[inline]
    pub fn find(&self, place: Place, key: &[u8]) -> Option<&Entry> {
        self.table(usize::from(place.slot))?
            .find(place.hash, |e| e.key() == key)
    }

    #[inline]
    pub fn find_mut(&mut self, place: Place, key: &[u8]) -> Option<&mut Entry> {
        self.table_mut(usize::from(place.slot))?
            .find_mut(place.hash, |e| e.key() == key)
    }

    /// The key of an element of the index of expiries.
    pub fn find_expiring(&self, place: Place, at_ms: u64) -> Option<&Entry> {
        self.table(usize::from(place.slot))?
            .find(place.hash, |e| e.expire_at_ms() == at_ms)
    }

    /// Adds an entry without expiry, whose key must not be there yet.
    pub fn insert(&mut self, place: Place, entry: Entry) -> &mut Entry {
        let slot = usize::from(place.slot);
        if self.tables.len() <= slot {
            let slots = if self.cluster { usize::from(SLOTS) } else { 1 };
            self.tables.resize_with(slots, || None);
            self.groups = vec![0; slots.div_ceil(GROUP)];
        }
        self.keys += 1;
        self.groups[slot / GROUP] += 1;
        self.tables[slot]
            .get_or_insert_default()
            .insert(place.hash, entry, self.hasher)
    }

    /// Removes a key and its expiry.
    pub fn remove(&mut self, place: Place, key: &[u8]) -> Option<Entry> {
        let slot = usize::from(place.slot);
        let table = self.tables.get_mut(slot)?;
        let entry = table.as_mut()?.remove(place.hash, |e| e.key() == key)?;
        if self.cluster && table.as_ref().is_some_and(|t| t.len() == 0) {
            *table = None;
        }
        self.keys -= 1;
        self.groups[slot / GROUP] -= 1;
        if entry.expire_at_ms() != NEVER {
            self.expiries.remove(entry.expire_at_ms(), place);
        }
        Some(entry)
    }

    /// Changes the expiry of a key; [`NEVER`] takes it away.
    pub fn set_expiry(&mut self, place: Place, key: &[u8], at_ms: u64) {
        let Some(table) = self
            .tables
            .get_mut(usize::from(place.slot))
            .and_then(|t| t.as_mut())
        else {
            return;
        };
        let Some(entry) = table.find_mut(place.hash, |e| e.key() == key) else {
            return;
        };
        let old = entry.expire_at_ms();
        if old == at_ms {
            return;
        }
        entry.set_expire_at_ms(at_ms);
        if old != NEVER {
            self.expiries.remove(old, place);
        }
        if at_ms != NEVER {
            self.expiries.insert(at_ms, place);
        }
    }

    /// Number of keys in the slots of a set.
    pub fn count_in(&self, slots: &SlotSet) -> usize {
        if self.keys == 0 {
            return 0;
        }
        slots
            .iter()
            .filter_map(|slot| self.table(usize::from(slot)))
            .map(Table::len)
            .sum()
    }

    /// An entry of any slot, each with the same probability.
    pub fn random(&self, rng: &mut Rng) -> Option<&Entry> {
        if self.keys == 0 {
            return None;
        }
        let mut nth = rng.index(self.keys);
        let group = self.groups.iter().position(|count| {
            let here = nth < *count;
            nth -= if here { 0 } else { *count };
            here
        })?;
        let tables = self.tables.get(group * GROUP..)?;
        let table = tables.iter().flatten().find(|table| {
            let here = nth < table.len();
            nth -= if here { 0 } else { table.len() };
            here
        })?;
        table.random(rng)
    }

    /// The next slot at or behind `slot` that has keys.
    pub fn next_slot(&self, slot: usize) -> Option<usize> {
        let mut at = slot;
        while at < self.tables.len() {
            if at.is_multiple_of(GROUP) && self.groups.get(at / GROUP) == Some(&0) {
                at += GROUP;
                continue;
            }
            if self.table(at).is_some_and(|t| t.len() > 0) {
                return Some(at);
            }
            at += 1;
        }
        None
    }

    /// Takes everything out, leaving the database empty.
    pub fn take_all(&mut self) -> (Vec<(u16, Table)>, ExpiryIndex) {
        self.groups.fill(0);
        self.keys = 0;
        let tables = std::mem::take(&mut self.tables);
        let tables = tables
            .into_iter()
            .enumerate()
            .filter_map(|(slot, t)| Some((slot as u16, *t?)))
            .collect();
        (tables, std::mem::take(&mut self.expiries))
    }

    /// Takes the table of one slot out, and its index of expiries. However many keys it has, none is looked at.
    pub fn take_slot(&mut self, slot: u16) -> Option<(Table, Option<SlotExpiries>)> {
        let table = *self.tables.get_mut(usize::from(slot))?.take()?;
        self.keys -= table.len();
        self.groups[usize::from(slot) / GROUP] -= table.len();
        Some((table, self.expiries.take_slot(slot)))
    }
}

/// The slot and hash of a key.
#[inline]
pub(crate) fn place(hasher: KeyHasher, cluster: bool, slot: Option<u16>, key: &[u8]) -> Place {
    let slot = if !cluster {
        0
    } else {
        slot.unwrap_or_else(|| key_slot(key))
    };
    Place {
        slot,
        hash: hasher.hash(key),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The index against a plain set of all elements.
    #[test]
    fn expiries_in_order() {
        let mut index = ExpiryIndex::default();
        let mut model: BTreeSet<(u64, u16, u64)> = BTreeSet::new();
        let mut rng = Rng::new(5);
        for step in 0..20_000 {
            let (at, slot, hash) = (
                rng.index(40) as u64,
                rng.index(6) as u16,
                rng.index(8) as u64,
            );
            match rng.index(20) {
                0 => {
                    let taken = index.take_slot(slot).map_or(0, |s| s.0.len());
                    let before = model.len();
                    model.retain(|(_, s, _)| *s != slot);
                    assert_eq!(taken, before - model.len());
                }
                1..12 => {
                    index.insert(at, Place { slot, hash });
                    model.insert((at, slot, hash));
                }
                _ => {
                    index.remove(at, Place { slot, hash });
                    model.remove(&(at, slot, hash));
                }
            }
            assert_eq!(index.len(), model.len(), "step {step}");
            let found = index.next((0, 0)).map(|(at, p, _)| (at, p.slot, p.hash));
            assert_eq!(found, model.first().copied(), "step {step}");
        }
        while let Some((at, place, behind)) = index.next((0, 0)) {
            assert_eq!(model.pop_first(), Some((at, place.slot, place.hash)));
            index.remove(at, place);
            let same = index
                .next((0, 0))
                .is_some_and(|(t, p, _)| (t, p.slot) == (at, place.slot));
            assert!(
                same || index
                    .next(behind)
                    .is_none_or(|(t, p, _)| (t, p.slot) >= (at, place.slot))
            );
        }
        assert!(model.is_empty() && index.first.is_empty() && index.slots.is_empty());
    }
}
