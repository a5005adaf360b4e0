//! Which clients may have which keys in a cache of their own: the tables behind `CLIENT TRACKING`.
//!
//! Both are ordered by key, so that whatever goes through them does so in the same order on every run. A client is its [`ConnId`],
//! which no later client has: those that are gone are left in the table until their key changes or its list grows.

use super::ConnId;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

type Key = Box<[u8]>;

/// From this length on a key's list is cleared of clients that are gone whenever it has doubled.
const PRUNED_FROM: usize = 8;

/// Clients of one key. Most keys have one.
#[derive(Debug)]
enum Holders {
    One(ConnId),
    /// In order. The box keeps the table's entries small.
    #[expect(clippy::box_collection)]
    Many(Box<Vec<ConnId>>),
}

const _: () = assert!(size_of::<Holders>() <= 16);

#[cfg(test)]
impl Holders {
    fn as_slice(&self) -> &[ConnId] {
        match self {
            Holders::One(id) => std::slice::from_ref(id),
            Holders::Many(ids) => ids,
        }
    }
}

/// Keys that clients have read, and who has.
#[derive(Debug, Default)]
pub(super) struct KeyTable {
    keys: BTreeMap<Key, Holders>,
    items: usize,
    /// Where the search for a key to be given up goes on.
    hand: Key,
    /// Tables that were emptied as a whole, and are freed in steps.
    discarded: Vec<BTreeMap<Key, Holders>>,
}

impl KeyTable {
    /// How many keys there are.
    pub fn keys(&self) -> usize {
        self.keys.len()
    }

    /// How many pairs of key and client.
    pub fn items(&self) -> usize {
        self.items
    }

    /// A client has read a key. `is_alive` says of others whether they still count.
    pub fn remember(&mut self, key: &[u8], id: ConnId, is_alive: impl Fn(ConnId) -> bool) {
        let Some(holders) = self.keys.get_mut(key) else {
            self.keys.insert(key.into(), Holders::One(id));
            self.items += 1;
            return;
        };
        match holders {
            Holders::One(other) if *other == id => {}
            Holders::One(other) => {
                let mut both = vec![*other, id];
                both.sort_unstable();
                *holders = Holders::Many(Box::new(both));
                self.items += 1;
            }
            Holders::Many(ids) => {
                if let Err(at) = ids.binary_search(&id) {
                    ids.insert(at, id);
                    self.items += 1;
                    let len = ids.len();
                    if len >= PRUNED_FROM && len.is_power_of_two() {
                        ids.retain(|other| is_alive(*other));
                        self.items -= len - ids.len();
                    }
                }
            }
        }
    }

    /// Forgets a key, and returns whose it was.
    pub fn take(&mut self, key: &[u8]) -> Option<Vec<ConnId>> {
        let holders = self.keys.remove(key)?;
        let ids = match holders {
            Holders::One(id) => vec![id],
            Holders::Many(ids) => *ids,
        };
        self.items -= ids.len();
        Some(ids)
    }

    /// A key to be given up so that there is room: each has its turn.
    pub fn next_victim(&mut self) -> Option<Key> {
        let behind = (Bound::Excluded(&self.hand[..]), Bound::Unbounded);
        let key = match self.keys.range::<[u8], _>(behind).next() {
            Some((key, _)) => key.clone(),
            None => self.keys.keys().next()?.clone(),
        };
        self.hand.clone_from(&key);
        Some(key)
    }

    /// The first of so many keys behind `after` for which `wanted` holds, those for which it does being listed; and the last one
    /// looked at, unless there are no more.
    pub fn search(
        &self,
        after: Option<&[u8]>,
        count: usize,
        wanted: impl Fn(&[u8]) -> bool,
    ) -> (Vec<Key>, Option<Key>) {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut keys = self.keys.range::<[u8], _>((from, Bound::Unbounded));
        let mut found = Vec::new();
        let mut last = None;
        for _ in 0..count {
            let Some((key, _)) = keys.next() else {
                return (found, None);
            };
            if wanted(key) {
                found.push(key.clone());
            }
            last = Some(key);
        }
        (found, last.cloned())
    }

    /// Forgets all keys. Their memory is given back by [`KeyTable::free_step`].
    pub fn clear(&mut self) {
        if !self.keys.is_empty() {
            self.discarded.push(std::mem::take(&mut self.keys));
        }
        self.items = 0;
    }

    /// Frees so many keys of what was forgotten as a whole. Whether there is more.
    pub fn free_step(&mut self, count: usize) -> bool {
        for _ in 0..count {
            let Some(table) = self.discarded.last_mut() else {
                return false;
            };
            if table.pop_first().is_none() {
                self.discarded.pop();
            }
        }
        !self.discarded.is_empty()
    }

    /// Whether it agrees with itself.
    #[cfg(test)]
    fn check(&self) {
        let items: usize = self.keys.values().map(|h| h.as_slice().len()).sum();
        assert_eq!(items, self.items);
        for holders in self.keys.values() {
            assert!(holders.as_slice().is_sorted());
        }
    }
}

/// Keys, each with the client that was the last to change it, if it was one.
pub(super) type Changed = BTreeMap<Key, Option<ConnId>>;

/// A prefix, who wants to hear of its keys, and which of them have changed since it was told.
#[derive(Debug, Default)]
pub(super) struct Prefix {
    /// Who is to be told.
    pub clients: BTreeSet<ConnId>,
    /// The keys.
    pub changed: Changed,
}

/// The prefixes of clients in broadcasting mode.
#[derive(Debug, Default)]
pub(super) struct PrefixTable {
    prefixes: BTreeMap<Key, Prefix>,
    /// Those with changed keys.
    pending: BTreeSet<Key>,
}

impl PrefixTable {
    /// How many prefixes there are.
    pub fn len(&self) -> usize {
        self.prefixes.len()
    }

    /// Whether a message is to be sent.
    pub fn is_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// A client wants to hear of a prefix.
    pub fn add(&mut self, prefix: &[u8], id: ConnId) {
        let entry = self.prefixes.entry(prefix.into()).or_default();
        entry.clients.insert(id);
    }

    /// It does not any more.
    pub fn remove(&mut self, prefix: &[u8], id: ConnId) {
        if let Some(entry) = self.prefixes.get_mut(prefix) {
            entry.clients.remove(&id);
            if entry.clients.is_empty() {
                self.prefixes.remove(prefix);
                self.pending.remove(prefix);
            }
        }
    }

    /// A key has changed. Only those prefixes are looked at that the search for the key comes by.
    pub fn on_change(&mut self, key: &[u8], by: Option<ConnId>) {
        let mut upto = key;
        loop {
            let at_most = (Bound::Unbounded, Bound::Included(upto));
            let Some((prefix, entry)) = self.prefixes.range_mut::<[u8], _>(at_most).next_back()
            else {
                return;
            };
            if upto.starts_with(prefix) {
                if entry.changed.insert(key.into(), by).is_none() && entry.changed.len() == 1 {
                    self.pending.insert(prefix.clone());
                }
                // The next one is shorter.
                match prefix.len().checked_sub(1) {
                    Some(len) => upto = &key[..len],
                    None => return,
                }
            } else {
                // What is a prefix of the key and lies before this one is one of what both have in common.
                let common = prefix.iter().zip(upto).take_while(|(a, b)| a == b).count();
                upto = &key[..common];
            }
        }
    }

    /// Takes what has changed: for each prefix, who is to be told of which keys.
    pub fn take_changes(&mut self) -> Vec<(Vec<ConnId>, Changed)> {
        let mut changes = Vec::new();
        for prefix in std::mem::take(&mut self.pending) {
            if let Some(entry) = self.prefixes.get_mut(&prefix) {
                let clients = entry.clients.iter().copied().collect();
                changes.push((clients, std::mem::take(&mut entry.changed)));
            }
        }
        changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_engine::Rng;

    fn id(index: u32) -> ConnId {
        ConnId { index, serial: 0 }
    }

    #[test]
    fn a_key_is_told_to_each_of_its_clients_once() {
        let mut t = KeyTable::default();
        for n in [3, 1, 2, 1, 3] {
            t.remember(b"k", id(n), |_| true);
            t.check();
        }
        t.remember(b"l", id(1), |_| true);
        assert_eq!((t.keys(), t.items()), (2, 4));
        assert_eq!(t.take(b"k"), Some(vec![id(1), id(2), id(3)]));
        assert_eq!(t.take(b"k"), None);
        assert_eq!((t.keys(), t.items()), (1, 1));
    }

    #[test]
    fn a_long_list_loses_clients_that_are_gone() {
        let mut t = KeyTable::default();
        for n in 0..1000 {
            t.remember(b"k", id(n), |other| other.index + 3 > n);
            t.check();
            assert!(t.items() < 2 * PRUNED_FROM);
        }
    }

    #[test]
    fn every_key_has_its_turn_to_be_given_up() {
        let mut t = KeyTable::default();
        for key in [b"a", b"b", b"c"] {
            t.remember(key, id(0), |_| true);
        }
        let turns: Vec<u8> = (0..4).map(|_| t.next_victim().unwrap()[0]).collect();
        assert_eq!(turns, b"abca");
        t.clear();
        assert_eq!(t.next_victim(), None);
        assert_eq!(t.items(), 0);
        assert!(t.free_step(2));
        assert!(!t.free_step(10));
    }

    #[test]
    fn a_search_goes_on_where_it_ended() {
        let mut t = KeyTable::default();
        for n in 0..10u8 {
            t.remember(&[n], id(0), |_| true);
        }
        let mut at = None;
        let mut all = Vec::new();
        loop {
            let (found, last) = t.search(at.as_deref(), 3, |key| key[0] % 2 == 0);
            all.extend(found);
            at = last;
            if at.is_none() {
                break;
            }
        }
        let even: Vec<Key> = (0..5u8).map(|n| Box::from([2 * n])).collect();
        assert_eq!(all, even);
    }

    /// Beside looking at every prefix.
    #[test]
    fn a_changed_key_finds_all_its_prefixes() {
        let mut rng = Rng::new(5);
        for _ in 0..2000 {
            let mut t = PrefixTable::default();
            let mut word = |len: u64| -> Vec<u8> {
                (0..rng.below(len))
                    .map(|_| b"ab"[rng.below(2) as usize])
                    .collect()
            };
            let prefixes: BTreeSet<Vec<u8>> = (0..8).map(|_| word(5)).collect();
            for (n, prefix) in prefixes.iter().enumerate() {
                t.add(prefix, id(n as u32));
            }
            let key = word(7);
            t.on_change(&key, None);
            t.on_change(&key, Some(id(1)));
            let mut told: Vec<u32> = Vec::new();
            for (clients, keys) in t.take_changes() {
                told.extend(clients.iter().map(|c| c.index));
                assert_eq!(keys.len(), 1);
                assert_eq!(keys.get(&key[..]), Some(&Some(id(1))));
            }
            told.sort();
            let wanted: Vec<u32> = (0..)
                .zip(&prefixes)
                .filter(|(_, p)| key.starts_with(p))
                .map(|(n, _)| n)
                .collect();
            assert_eq!(told, wanted, "{key:?} {prefixes:?}");
            assert!(!t.is_pending());
        }
    }
}
