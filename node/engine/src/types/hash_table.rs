//! The hash table under large sorted sets.
//!
//! Entries lie densely in one vector of [chunks](super::chunked) (so that iterating is a walk and a fair random pick is one index),
//! chained into buckets by index:
//!
//! ```text
//! heads:   bucket → index of its first slot + 1, 0 for none
//! slots:   [ hash u32 | next u32 | item ] …          removal moves the last slot into the gap
//! ```
//!
//! Resizing is incremental: a second array of heads is filled by a few buckets with each change, and only
//! heads and links move. [`Table::scan`] walks the buckets by reverse-binary cursor: an element that is
//! there during the whole scan is reported at least once, across any resizing (the scheme is that of
//! Pieter Noordhuis's `dictScan` in Redis). Hashing has a fixed seed: equal histories give equal orders.

use super::chunked::Chunked;

/// Buckets of the smallest table.
const BUCKETS_MIN: usize = 8;
/// Buckets moved with each change while resizing.
const STEP_BUCKETS: usize = 8;
/// Empty buckets looked at with each change while resizing.
const STEP_EMPTY: usize = 64;

const K0: u64 = 0x9e37_79b9_7f4a_7c15;
const K1: u64 = 0xd6e8_feb8_6659_fd93;

fn fold(a: u64, b: u64) -> u64 {
    let m = u128::from(a) * u128::from(b);
    (m as u64) ^ ((m >> 64) as u64)
}

/// Hash of a byte string, the same in every process.
pub fn hash_bytes(s: &[u8]) -> u32 {
    let mut h = K0 ^ (s.len() as u64);
    let mut chunks = s.chunks_exact(16);
    for c in &mut chunks {
        let a = u64::from_le_bytes(c[..8].try_into().expect("eight bytes"));
        let b = u64::from_le_bytes(c[8..].try_into().expect("eight bytes"));
        h = fold(a ^ h, b ^ K1);
    }
    let mut tail = [0u8; 16];
    let rest = chunks.remainder();
    tail[..rest.len()].copy_from_slice(rest);
    let a = u64::from_le_bytes(tail[..8].try_into().expect("eight bytes"));
    let b = u64::from_le_bytes(tail[8..].try_into().expect("eight bytes"));
    h = fold(fold(a ^ h ^ K1, b ^ K0), h ^ K1);
    (h ^ (h >> 32)) as u32
}

#[derive(Debug, Clone)]
struct Slot<E> {
    hash: u32,
    next: u32,
    item: E,
}

/// See the module's documentation. The caller provides hashes and equality.
#[derive(Debug, Clone)]
pub struct Table<E> {
    slots: Chunked<Slot<E>>,
    /// The table, or the old one while resizing.
    heads: Vec<u32>,
    /// The table being filled while resizing; else empty.
    new_heads: Vec<u32>,
    /// While resizing: buckets of `heads` below this are moved.
    moved: usize,
}

impl<E> Default for Table<E> {
    fn default() -> Self {
        Self::with_capacity(0)
    }
}

impl<E> Table<E> {
    /// An empty table with room for `n` entries.
    pub fn with_capacity(n: usize) -> Self {
        Table {
            slots: Chunked::default(),
            heads: vec![0; n.next_power_of_two().max(BUCKETS_MIN)],
            new_heads: Vec::new(),
            moved: 0,
        }
    }

    /// Frees up to `n` entries. The table is then fit for nothing but more of this, and to be dropped. Whether there is more.
    pub fn discard(&mut self, n: usize) -> bool {
        self.slots.truncate(self.slots.len().saturating_sub(n));
        !self.slots.is_empty()
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// What `DEBUG HTSTATS-KEY` says of the table.
    pub fn describe(&self) -> String {
        let mut text = format!(
            "Hash table 0 stats (main hash table):\n table size: {}\n number of entries: {}\n rehashing index: {}\n",
            self.heads.len(),
            self.slots.len(),
            if self.resizing() {
                self.moved as i64
            } else {
                -1
            },
        );
        if self.resizing() {
            text.push_str(&format!(
                "Hash table 1 stats (rehashing target):\n table size: {}\n",
                self.new_heads.len()
            ));
        }
        text
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    fn resizing(&self) -> bool {
        !self.new_heads.is_empty()
    }

    fn chain(&self, head: u32) -> Chain<'_, E> {
        Chain {
            table: self,
            at: head,
        }
    }

    /// Index of the entry with this hash for which `eq` holds.
    pub fn find(&self, hash: u32, eq: impl Fn(&E) -> bool) -> Option<usize> {
        let matching = |head: u32| {
            self.chain(head)
                .find(|&i| self.slots[i].hash == hash && eq(&self.slots[i].item))
        };
        if self.resizing() {
            let b = hash as usize & (self.new_heads.len() - 1);
            if let found @ Some(_) = matching(self.new_heads[b]) {
                return found;
            }
        }
        matching(self.heads[hash as usize & (self.heads.len() - 1)])
    }

    /// Adds an entry that is known to be absent; its index.
    ///
    /// # Panics
    /// With 2³² - 1 entries.
    pub fn insert(&mut self, hash: u32, item: E) -> usize {
        self.step();
        if !self.resizing() && self.slots.len() >= self.heads.len() {
            self.begin_resize(self.heads.len() * 2);
        }
        let at = self.slots.len();
        let link = u32::try_from(at + 1).expect("fewer than 2^32 entries");
        let heads = if self.new_heads.is_empty() {
            &mut self.heads
        } else {
            &mut self.new_heads
        };
        let b = hash as usize & (heads.len() - 1);
        let next = std::mem::replace(&mut heads[b], link);
        self.slots.push(Slot { hash, next, item });
        at
    }

    /// The link (a bucket's head or a slot's `next`) that points at slot `at`, set to `to`.
    fn relink(&mut self, at: usize, to: u32) {
        let link = at as u32 + 1;
        let hash = self.slots[at].hash as usize;
        let heads = [&mut self.new_heads, &mut self.heads];
        for heads in heads {
            if heads.is_empty() {
                continue;
            }
            let b = hash & (heads.len() - 1);
            if heads[b] == link {
                heads[b] = to;
                return;
            }
            let mut p = heads[b];
            while p != 0 {
                let slot = &mut self.slots[p as usize - 1];
                if slot.next == link {
                    slot.next = to;
                    return;
                }
                p = slot.next;
            }
        }
        unreachable!("a slot hangs in its bucket");
    }

    /// Removes the entry at `at`; the last entry takes its index.
    pub fn remove(&mut self, at: usize) -> E {
        let next = self.slots[at].next;
        self.relink(at, next);
        let last = self.slots.len() - 1;
        if at != last {
            self.relink(last, at as u32 + 1);
        }
        let item = self.slots.swap_remove(at).item;
        self.step();
        if !self.resizing()
            && self.heads.len() > BUCKETS_MIN
            && self.slots.len() * 8 < self.heads.len()
        {
            self.begin_resize(self.slots.len().next_power_of_two().max(BUCKETS_MIN));
        }
        item
    }

    fn begin_resize(&mut self, buckets: usize) {
        self.new_heads = vec![0; buckets];
        self.moved = 0;
    }

    /// Moves a few buckets of a running resize.
    fn step(&mut self) {
        if !self.resizing() {
            return;
        }
        let (mut buckets, mut empty) = (STEP_BUCKETS, STEP_EMPTY);
        while self.moved < self.heads.len() && buckets > 0 && empty > 0 {
            let mut p = std::mem::take(&mut self.heads[self.moved]);
            self.moved += 1;
            if p == 0 {
                empty -= 1;
                continue;
            }
            buckets -= 1;
            while p != 0 {
                let slot = &mut self.slots[p as usize - 1];
                let b = slot.hash as usize & (self.new_heads.len() - 1);
                let next = slot.next;
                slot.next = std::mem::replace(&mut self.new_heads[b], p);
                p = next;
            }
        }
        if self.moved == self.heads.len() {
            self.heads = std::mem::take(&mut self.new_heads);
            self.moved = 0;
        }
    }

    /// The entry at `at`.
    pub fn get(&self, at: usize) -> Option<&E> {
        self.slots.get(at).map(|s| &s.item)
    }

    /// The entry at `at`, to be changed without changing its hash.
    pub fn get_mut(&mut self, at: usize) -> Option<&mut E> {
        self.slots.get_mut(at).map(|s| &mut s.item)
    }

    /// All entries, in an order that follows from the table's history alone.
    pub fn iter(&self) -> impl Iterator<Item = &E> + Clone {
        self.slots.iter().map(|s| &s.item)
    }

    /// Reports the entries of the cursor's bucket and returns the next cursor, 0 at the end.
    pub fn scan(&self, cursor: u64, mut report: impl FnMut(&E)) -> u64 {
        let mut emit = |head: u32| {
            for i in self.chain(head) {
                report(&self.slots[i].item);
            }
        };
        let advance = |v: u64, mask: u64| (v | !mask).reverse_bits().wrapping_add(1).reverse_bits();
        let mask = (self.heads.len() - 1) as u64;
        if !self.resizing() {
            emit(self.heads[(cursor & mask) as usize]);
            return advance(cursor, mask);
        }
        let (mut small, mut large) = (&self.heads, &self.new_heads);
        if small.len() > large.len() {
            std::mem::swap(&mut small, &mut large);
        }
        let (m0, m1) = ((small.len() - 1) as u64, (large.len() - 1) as u64);
        let mut v = cursor;
        emit(small[(v & m0) as usize]);
        loop {
            emit(large[(v & m1) as usize]);
            v = advance(v, m1);
            if v & (m0 ^ m1) == 0 {
                return v;
            }
        }
    }

    /// Bytes that the table itself takes, without what its items own.
    pub fn own_bytes(&self) -> usize {
        self.slots.capacity() * size_of::<Slot<E>>() + (self.heads.len() + self.new_heads.len()) * 4
    }
}

struct Chain<'a, E> {
    table: &'a Table<E>,
    at: u32,
}

impl<E> Iterator for Chain<'_, E> {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        let i = self.at.checked_sub(1)? as usize;
        self.at = self.table.slots[i].next;
        Some(i)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn key(n: u32) -> (u32, u32) {
        (hash_bytes(&n.to_le_bytes()), n)
    }

    #[test]
    fn behaves_as_a_set_through_growth_and_shrinking() {
        let mut t = Table::default();
        let mut model = BTreeSet::new();
        let mut seed = 3u64;
        for round in 0..60_000u32 {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(99991);
            let n = (seed >> 40) as u32 % 5000;
            let (h, n) = key(n);
            let found = t.find(h, |&e| e == n);
            assert_eq!(found.is_some(), model.contains(&n));
            // Grow in the first half of the rounds, shrink in the second.
            let add = (seed >> 20) % 10 < if round < 30_000 { 7 } else { 2 };
            match found {
                None if add => {
                    t.insert(h, n);
                    model.insert(n);
                }
                Some(i) if !add => {
                    assert_eq!(t.remove(i), n);
                    model.remove(&n);
                }
                _ => {}
            }
            assert_eq!(t.len(), model.len());
        }
        assert_eq!(t.iter().copied().collect::<BTreeSet<_>>(), model);
    }

    #[test]
    fn a_scan_sees_all_that_stays() {
        for (before, after) in [(10u32, 4000u32), (4000, 10), (1000, 1000)] {
            let mut t = Table::default();
            for n in 0..before.max(10) {
                let (h, n) = key(n);
                t.insert(h, n);
            }
            let (mut seen, mut cursor, mut next) = (BTreeSet::new(), 0, before);
            loop {
                cursor = t.scan(cursor, |&n| {
                    seen.insert(n);
                });
                if cursor == 0 {
                    break;
                }
                // Change the size while the scan is under way; 0..10 stay.
                for _ in 0..40 {
                    if t.len() < after as usize {
                        let (h, n) = key(next);
                        t.insert(h, n);
                        next += 1;
                    } else if t.len() > after as usize && t.len() > 10 {
                        let victim = t.iter().copied().find(|&n| n >= 10).unwrap();
                        let (h, n) = key(victim);
                        let at = t.find(h, |&e| e == n).unwrap();
                        t.remove(at);
                    }
                }
            }
            for n in 0..10 {
                assert!(seen.contains(&n), "{before} {after} {n}");
            }
        }
    }
}
