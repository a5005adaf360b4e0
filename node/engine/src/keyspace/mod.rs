//! A database: a table of entries for each slot (one table in a standalone engine), and the index of expiries.

pub(crate) mod entry;
pub(crate) mod hash;
pub(crate) mod table;

use std::collections::BTreeSet;

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

/// All keys with an expiry, by time: 16 bytes a key and the tree around them.
///
/// An element is `(time << 14 | slot, hash of the key)`. Two keys of one slot with equal hash and time would share an
/// element; then one of them is deleted late, when it is next looked at.
#[derive(Default)]
pub(crate) struct ExpiryIndex {
    set: BTreeSet<(u64, u64)>,
}

const SLOT_BITS: u32 = 14;
const _: () = assert!(SLOTS == 1 << SLOT_BITS);

impl ExpiryIndex {
    fn element(at_ms: u64, place: Place) -> (u64, u64) {
        // Times beyond the year 37,000 sort together at the end; nobody waits for them.
        (
            at_ms.min(u64::MAX >> SLOT_BITS) << SLOT_BITS | u64::from(place.slot),
            place.hash,
        )
    }

    fn insert(&mut self, at_ms: u64, place: Place) {
        self.set.insert(Self::element(at_ms, place));
    }

    fn remove(&mut self, at_ms: u64, place: Place) {
        self.set.remove(&Self::element(at_ms, place));
    }

    /// The first element at or behind `from`: its time, its place, and where to go on.
    pub fn next(&self, from: (u64, u64)) -> Option<(u64, Place, (u64, u64))> {
        let found = *self.set.range(from..).next()?;
        let place = Place {
            slot: (found.0 & u64::from(SLOTS - 1)) as u16,
            hash: found.1,
        };
        let behind = if found.1 == u64::MAX {
            (found.0 + 1, 0)
        } else {
            (found.0, found.1 + 1)
        };
        Some((found.0 >> SLOT_BITS, place, behind))
    }

    /// Takes up to `count` elements away; to free the index in small steps.
    pub fn pop_some(&mut self, count: usize) -> bool {
        (0..count).all(|_| self.set.pop_first().is_some())
    }

    pub fn len(&self) -> usize {
        self.set.len()
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

    /// Takes the table of one slot out.
    pub fn take_slot(&mut self, slot: u16) -> Option<Table> {
        let table = *self.tables.get_mut(usize::from(slot))?.take()?;
        self.keys -= table.len();
        self.groups[usize::from(slot) / GROUP] -= table.len();
        table.for_each(&mut |entry| {
            if let Some(at) = entry.expiry() {
                self.expiries.remove(
                    at,
                    Place {
                        slot,
                        hash: self.hasher.hash(entry.key()),
                    },
                );
            }
        });
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
