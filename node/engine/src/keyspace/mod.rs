//! A database: a table of entries for each slot (one table in a standalone engine), and when the first key of each expires.

pub(crate) mod due;
pub(crate) mod entry;
pub(crate) mod field_index;
pub(crate) mod hash;
pub(crate) mod slabs;
pub(crate) mod table;

use crate::rng::Rng;
use crate::slots::{SLOTS, SlotSet, key_slot};
use due::DueTree;
use entry::{Entry, NEVER};
use field_index::{FieldIndex, SlotFields};
use hash::KeyHasher;
use slabs::Slabs;
use table::Table;

/// Where a key is to be looked for: computed once a command, used for every step of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub slot: u16,
    pub hash: u64,
}

/// With fewer keys than this the memory is in the cache anyway.
const PREFETCH_MIN: usize = 2048;
/// Keys that are prefetched at once, so that what comes does not drive out what has come.
pub(crate) const PREFETCH_MAX: usize = 64;

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
    /// Keys with an expiry.
    volatile: usize,
    /// By slot, when its first key expires, or earlier.
    due: DueTree,
    /// Hashes that have fields with an expiry.
    fields: FieldIndex,
}

impl Db {
    pub fn new(cluster: bool, hasher: KeyHasher) -> Db {
        Db {
            cluster,
            hasher,
            tables: Vec::new(),
            groups: Vec::new(),
            keys: 0,
            volatile: 0,
            due: DueTree::default(),
            fields: FieldIndex::default(),
        }
    }

    /// Number of keys.
    pub fn len(&self) -> usize {
        self.keys
    }

    /// Number of keys with an expiry.
    pub fn expiries_len(&self) -> usize {
        self.volatile
    }

    /// The first slot at or behind `from` that may have keys whose time has passed.
    pub fn due_slot(&self, from: usize, now_ms: u64) -> Option<usize> {
        self.due.next_due(from, now_ms)
    }

    /// Collects up to `max` keys of a slot whose time has passed, of one group of its table. `None` if there are none left, and the slot is not
    /// due any more.
    pub fn expired_in(&mut self, slot: usize, now_ms: u64, max: usize) -> Option<Vec<Box<[u8]>>> {
        let Some(table) = self.tables.get_mut(slot).and_then(|t| t.as_deref_mut()) else {
            self.due.set(slot, due::NEVER);
            return None;
        };
        while let Some(group) = table.due_group(now_ms) {
            let mut keys = Vec::new();
            table.each_in_group(group, &mut |entry| {
                if entry.expire_at_ms() < now_ms && keys.len() < max {
                    keys.push(entry.key().into());
                }
            });
            if !keys.is_empty() {
                return Some(keys);
            }
            table.settle_group(group);
        }
        self.due.set(slot, table.due());
        None
    }

    /// Looks when a group's first key really expires.
    pub fn settle_group(&mut self, slot: usize, group: usize) {
        if let Some(table) = self.tables.get_mut(slot).and_then(|t| t.as_deref_mut()) {
            table.settle_group(group);
            self.due.set(slot, table.due());
        }
    }

    /// The slot of a random key that has, or had lately, an expiry, and the group of its table.
    pub fn volatile_group(&self, rng: &mut Rng) -> Option<(usize, usize)> {
        let slot = self.due.any(rng.index(self.tables.len()))?;
        let group = self.table(slot)?.volatile_group(rng)?;
        Some((slot, group))
    }

    /// The hashes that have fields with an expiry.
    pub fn fields(&self) -> &FieldIndex {
        &self.fields
    }

    /// As above, to change.
    pub fn fields_mut(&mut self) -> &mut FieldIndex {
        &mut self.fields
    }

    /// The hash that is listed under this time.
    pub fn find_noted(&mut self, place: Place, at_ms: u64) -> Option<&mut Entry> {
        self.table_mut(usize::from(place.slot))?
            .find_mut(place.hash, |e| field_index::noted(e) == at_ms)
    }

    /// Lists a key's fields under the time at which the first of them is due.
    pub fn note_fields(&mut self, place: Place, key: &[u8]) {
        let Some(entry) = self.find_mut(place, key) else {
            return;
        };
        let old = field_index::noted(entry);
        let new = field_index::note(entry);
        if new != old {
            self.fields.remove(old, place);
            self.fields.insert(new, place);
        }
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

    /// The hash function of its keys.
    pub fn hasher(&self) -> KeyHasher {
        self.hasher
    }

    /// Whether the memory of its keys is not in the cache anyway.
    pub fn is_worth_prefetching(&self) -> bool {
        self.keys >= PREFETCH_MIN
    }

    fn tables_of<'a>(&'a self, places: &'a [Place]) -> impl Iterator<Item = (&'a Table, u64)> {
        let of = |place: &Place| Some((self.table(usize::from(place.slot))?, place.hash));
        places.iter().filter_map(of)
    }

    /// Has the memory of the groups fetched that these keys are in.
    pub fn prefetch_groups(&self, places: &[Place]) {
        self.tables_of(places)
            .for_each(|(table, hash)| table.prefetch_word(hash));
        self.tables_of(places)
            .for_each(|(table, hash)| table.prefetch_group(hash));
    }

    /// Has that of their entries fetched, when the groups have come. Says of each where it is.
    pub fn prefetch_entries<'a>(
        &'a self,
        places: &'a [Place],
    ) -> impl Iterator<Item = (u16, usize, usize)> + 'a {
        places.iter().filter_map(|place| {
            let table = self.table(usize::from(place.slot))?;
            let (index, at) = table.prefetch_entry(place.hash)?;
            Some((place.slot, index, at))
        })
    }

    /// Has that of values fetched that lie elsewhere, when the entries have come.
    pub fn prefetch_values(&self, entries: &[(u16, usize, usize)]) {
        for (slot, index, at) in entries {
            if let Some(table) = self.table(usize::from(*slot)) {
                table.prefetch_value(*index, *at);
            }
        }
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

    fn make_tables(&mut self, slot: usize) {
        if self.tables.len() <= slot {
            let slots = if self.cluster { usize::from(SLOTS) } else { 1 };
            self.tables.resize_with(slots, || None);
            self.groups = vec![0; slots.div_ceil(GROUP)];
        }
    }

    /// Makes a slot's table, if it is empty, ready for so many keys. To be called until it says that there is no more to do.
    pub fn reserve(&mut self, slot: usize, keys: usize) -> bool {
        self.make_tables(slot);
        let Some(table) = self.tables.get_mut(slot) else {
            return false;
        };
        table.get_or_insert_default().reserve(keys)
    }

    /// Adds an entry whose key must not be there yet.
    pub fn insert(&mut self, place: Place, mut entry: Entry, slabs: &mut Slabs) -> &mut Entry {
        self.fields.insert(field_index::note(&mut entry), place);
        let slot = usize::from(place.slot);
        self.make_tables(slot);
        self.keys += 1;
        self.groups[slot / GROUP] += 1;
        let until = entry.expire_at_ms();
        if until != NEVER {
            self.volatile += 1;
            self.due.note(slot, until);
        }
        self.tables[slot]
            .get_or_insert_default()
            .insert(place.hash, entry, self.hasher, slabs)
    }

    /// Removes a key and its expiry.
    pub fn remove(&mut self, place: Place, key: &[u8], slabs: &mut Slabs) -> Option<Entry> {
        let slot = usize::from(place.slot);
        let table = self.tables.get_mut(slot)?;
        let is = |e: &Entry| e.key() == key;
        let entry = table.as_mut()?.remove(place.hash, is, slabs)?;
        if self.cluster && table.as_ref().is_some_and(|t| t.len() == 0) {
            if let Some(mut empty) = table.take() {
                empty.clear(slabs);
            }
            self.due.set(slot, due::NEVER);
        }
        self.keys -= 1;
        self.groups[slot / GROUP] -= 1;
        self.volatile -= usize::from(entry.expire_at_ms() != NEVER);
        self.fields.remove(field_index::noted(&entry), place);
        Some(entry)
    }

    /// Changes the expiry of a key; [`NEVER`] takes it away.
    pub fn set_expiry(&mut self, place: Place, key: &[u8], at_ms: u64, slabs: &mut Slabs) {
        let slot = usize::from(place.slot);
        let Some(table) = self.tables.get_mut(slot).and_then(|t| t.as_mut()) else {
            return;
        };
        let Some(old) = table.set_expiry(place.hash, |e| e.key() == key, at_ms, slabs) else {
            return;
        };
        self.volatile -= usize::from(old != NEVER);
        if at_ms != NEVER {
            self.volatile += 1;
            self.due.note(slot, at_ms);
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
        let slot = self.random_slot(rng)?;
        self.table(slot)?.random(rng)
    }

    /// A group of any slot's table: the slot by its number of keys, and one of its groups.
    pub fn random_group(&self, rng: &mut Rng) -> Option<(usize, usize)> {
        let slot = self.random_slot(rng)?;
        let groups = self.table(slot)?.groups();
        Some((slot, rng.index(groups)))
    }

    /// A slot, by its number of keys.
    fn random_slot(&self, rng: &mut Rng) -> Option<usize> {
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
        let in_group = tables.iter().position(|table| {
            let len = table.as_ref().map_or(0, |t| t.len());
            let here = nth < len;
            nth -= if here { 0 } else { len };
            here
        })?;
        Some(group * GROUP + in_group)
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
    pub fn take_all(&mut self) -> Vec<(u16, Table)> {
        self.groups.fill(0);
        self.keys = 0;
        self.volatile = 0;
        self.due = DueTree::default();
        let tables = std::mem::take(&mut self.tables);
        tables
            .into_iter()
            .enumerate()
            .filter_map(|(slot, t)| Some((slot as u16, *t?)))
            .collect()
    }

    /// Takes the list of hashes with fields that expire out, of all slots or of one: what comes with the tables of these slots.
    pub fn take_fields(&mut self, slot: Option<u16>) -> Vec<SlotFields> {
        match slot {
            Some(slot) => self.fields.take_slot(slot).into_iter().collect(),
            None => std::mem::take(&mut self.fields).into_slots().collect(),
        }
    }

    /// Takes the table of one slot out. However many keys it has, none is looked at.
    pub fn take_slot(&mut self, slot: u16) -> Option<Table> {
        let table = *self.tables.get_mut(usize::from(slot))?.take()?;
        self.keys -= table.len();
        self.groups[usize::from(slot) / GROUP] -= table.len();
        self.volatile -= table.volatile();
        self.due.set(usize::from(slot), due::NEVER);
        Some(table)
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
