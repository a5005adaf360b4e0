//! The hashes of a database that have fields with an expiry, by the time at which the first of them is due.
//!
//! A hash remembers under which time it is listed. It may be listed too early (a field that was to expire first has gone): then it is listed
//! anew when that time comes. So most changes of a hash need no change here. Each slot has a set of its own, so that a slot
//! can be taken out without a look at its keys.

use std::collections::{BTreeMap, BTreeSet};

use super::Place;
use super::entry::{Entry, NEVER};
use crate::value::{ValueMut, ValueRef};

/// See the module's documentation.
#[derive(Default)]
pub(crate) struct FieldIndex {
    slots: BTreeMap<u16, SlotFields>,
    /// Time of each slot's first element, and the slot.
    first: BTreeSet<(u64, u16)>,
    len: usize,
}

/// The hashes of one slot: the time, and the hash of the key.
#[derive(Default)]
pub(crate) struct SlotFields(BTreeSet<(u64, u64)>);

impl SlotFields {
    fn earliest(&self) -> Option<u64> {
        self.0.first().map(|(at, _)| *at)
    }

    /// Takes up to `count` elements away; to free it in small steps. Whether there were as many.
    pub fn pop_some(&mut self, count: usize) -> bool {
        (0..count).all(|_| self.0.pop_first().is_some())
    }
}

impl FieldIndex {
    /// Lists a hash. [`NEVER`] lists nothing.
    pub fn insert(&mut self, at_ms: u64, place: Place) {
        if at_ms == NEVER {
            return;
        }
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

    /// Forgets a hash that is listed under this time.
    pub fn remove(&mut self, at_ms: u64, place: Place) {
        if at_ms == NEVER {
            return;
        }
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
    pub fn take_slot(&mut self, slot: u16) -> Option<SlotFields> {
        let taken = self.slots.remove(&slot)?;
        if let Some(at) = taken.earliest() {
            self.first.remove(&(at, slot));
        }
        self.len -= taken.0.len();
        Some(taken)
    }

    /// Takes everything apart; to free it in small steps.
    pub fn into_slots(self) -> impl Iterator<Item = SlotFields> {
        self.slots.into_values()
    }

    /// Number of hashes that have fields with an expiry.
    pub fn len(&self) -> usize {
        self.len
    }
}

/// The time under which an entry's fields are listed; [`NEVER`] if they are not.
#[inline]
pub(crate) fn noted(entry: &Entry) -> u64 {
    match entry.value() {
        ValueRef::Hash(hash) => hash.noted(),
        _ => NEVER,
    }
}

/// Has an entry remember that its fields are listed under the time at which the first is due, which is returned.
#[inline]
pub(crate) fn note(entry: &mut Entry) -> u64 {
    match entry.value_mut() {
        ValueMut::Hash(hash) => {
            let due = hash.next_due();
            hash.set_noted(due);
            due
        }
        _ => NEVER,
    }
}
