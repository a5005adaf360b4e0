//! The table of records under large hashes: keys with values and, for some, a time at which they expire.
//!
//! Records lie in [segments](super::record_segment) of some thousand each, told apart by the high bits of the hash. A segment that
//! is full is split in two, two that are nearly empty become one: no step of growing or shrinking touches more than two
//! segments, however large the table is.
//!
//! ```text
//! directory:  the first `bits` bits of the hash → segment         (extendible hashing: Fagin et al., 1979)
//! ```
//!
//! Within a segment records are placed by the next bits of the hash. So there is an order of all records, that of their
//! hashes, which no resizing changes: [`RecordTable::scan`] goes through it, and what is there all the time is reported exactly once.
//!
//! # Records that expire
//! An ordered set has an element of 8 bytes for each: the 64 ms in which it expires (36 bits), and the first 28 bits of its hash, by which the
//! record is found. Two records that share an element are found together.

use std::collections::BTreeSet;

use super::record_segment::{Record, Segment, record_hash};
use crate::keyspace::entry::NEVER;
use crate::rng::Rng;

/// Slots that a step of a scan goes through.
const SCAN_SLOTS: u64 = 8;
/// Low bits of the hash that cursors leave out.
const CURSOR_SHIFT: u32 = 16;
/// The most bits of the hash that segments are told apart by. Records that agree in more stay together.
const BITS_MAX: u32 = 30;

/// Segments are not split beyond so many records for each on average.
const SHARE_MIN: usize = 32;

/// Low bits of a time that the index of expiries leaves out.
const TIME_SHIFT: u32 = 6;
const TIME_MAX: u64 = (1 << 36) - 1;
const INDEX_HASH_BITS: u32 = 28;

/// See the module's documentation.
#[derive(Clone, Debug)]
pub struct RecordTable {
    segments: Vec<Segment>,
    /// Empty while there is only one segment.
    directory: Vec<u32>,
    bits: u32,
    len: usize,
    /// The records that expire.
    expiring: Option<Box<Expiring>>,
    /// The time under which the keyspace knows that records expire here; `NEVER` if it does not.
    pub(crate) noted: u64,
}

#[derive(Clone, Debug, Default)]
struct Expiring {
    index: BTreeSet<u64>,
    len: usize,
}

/// What setting a record has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// It is new.
    Added,
    /// It was there, with this expiry (`u64::MAX`: none).
    Replaced(u64),
}

fn window(at_ms: u64) -> u64 {
    (at_ms >> TIME_SHIFT).min(TIME_MAX)
}

fn element(hash: u64, at_ms: u64) -> u64 {
    window(at_ms) << INDEX_HASH_BITS | hash >> (64 - INDEX_HASH_BITS)
}

/// The time from which on all records of an element have expired.
fn due(element: u64) -> u64 {
    ((element >> INDEX_HASH_BITS) + 1) << TIME_SHIFT
}

impl Default for RecordTable {
    fn default() -> Self {
        Self::with_capacity(0)
    }
}

impl RecordTable {
    /// An empty table with room for so many records, within reason.
    pub fn with_capacity(records: usize) -> Self {
        RecordTable {
            segments: vec![Segment::with_capacity(records)],
            directory: Vec::new(),
            bits: 0,
            len: 0,
            expiring: None,
            noted: NEVER,
        }
    }

    /// Number of records.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no record.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Number of records that expire, expired ones included.
    pub fn expiring_len(&self) -> usize {
        self.expiring.as_ref().map_or(0, |e| e.len)
    }

    /// The time from which on the first records to expire have expired; `u64::MAX` if none does. At most 64 ms late.
    pub fn next_due(&self) -> u64 {
        let first = self.expiring.as_ref().and_then(|e| e.index.first());
        first.map_or(NEVER, |first| due(*first))
    }

    #[inline]
    fn segment_of(&self, hash: u64) -> usize {
        if self.bits == 0 {
            0
        } else {
            self.directory[(hash >> (64 - self.bits)) as usize] as usize
        }
    }

    /// The record of a key.
    #[inline]
    pub fn get(&self, key: &[u8]) -> Option<Record<'_>> {
        let hash = record_hash(key);
        let segment = &self.segments[self.segment_of(hash)];
        segment.find(hash, key).map(|slot| segment.get(slot))
    }

    /// Gives a key a value and an expiry, whatever it had.
    pub fn put(&mut self, key: &[u8], value: &[u8], expire_at_ms: u64) -> Put {
        self.put_with(key, value, |_| expire_at_ms)
    }

    /// As [`put`](Self::put); the expiry is chosen when the old one is known (`None`: the key is new).
    pub fn put_with(
        &mut self,
        key: &[u8],
        value: &[u8],
        expiry: impl FnOnce(Option<u64>) -> u64,
    ) -> Put {
        let hash = record_hash(key);
        let mut at = self.segment_of(hash);
        if let Some(slot) = self.segments[at].find(hash, key) {
            let old = self.segments[at].get(slot).expire_at_ms;
            let new = expiry(Some(old));
            self.segments[at].update(slot, value, new);
            self.reindex(hash, old, new);
            return Put::Replaced(old);
        }
        let new = expiry(None);
        // Records of equal hashes cannot be told apart: the directory must not grow without end for them.
        while self.segments[at].is_full()
            && self.segments[at].depth < BITS_MAX
            && (SHARE_MIN << self.segments[at].depth) <= self.len
        {
            self.split(at);
            at = self.segment_of(hash);
        }
        self.segments[at].insert(hash, key, value, new);
        self.len += 1;
        self.reindex(hash, NEVER, new);
        Put::Added
    }

    /// Changes the expiry of a record; what it was, if there is the record.
    pub fn set_expiry(&mut self, key: &[u8], expire_at_ms: u64) -> Option<u64> {
        let hash = record_hash(key);
        let segment = self.segment_of(hash);
        let segment = &mut self.segments[segment];
        let slot = segment.find(hash, key)?;
        let old = segment.get(slot).expire_at_ms;
        if old != expire_at_ms {
            segment.set_expiry(slot, expire_at_ms);
            self.reindex(hash, old, expire_at_ms);
        }
        Some(old)
    }

    /// Removes a record; its expiry, if it was there.
    pub fn remove(&mut self, key: &[u8]) -> Option<u64> {
        let hash = record_hash(key);
        let at = self.segment_of(hash);
        let segment = &mut self.segments[at];
        let slot = segment.find(hash, key)?;
        let expiry = segment.get(slot).expire_at_ms;
        segment.remove(slot);
        self.len -= 1;
        self.reindex(hash, expiry, NEVER);
        self.merge(at);
        Some(expiry)
    }

    /// Corrects the index of expiries after a record's expiry has changed.
    fn reindex(&mut self, hash: u64, old: u64, new: u64) {
        if old == new {
            return;
        }
        if old != NEVER {
            let gone = element(hash, old);
            // Unless another record shares the element.
            let mut shared = false;
            self.find_expiring(gone, |_| shared = true);
            if let Some(expiring) = &mut self.expiring {
                expiring.len -= 1;
                if !shared {
                    expiring.index.remove(&gone);
                }
            }
        }
        if new != NEVER {
            let expiring = self.expiring.get_or_insert_default();
            expiring.len += 1;
            expiring.index.insert(element(hash, new));
        } else if self.expiring_len() == 0 {
            self.expiring = None;
        }
    }

    /// Reports the keys of the records that an element of the index stands for.
    fn find_expiring(&self, wanted: u64, mut report: impl FnMut(&[u8])) {
        let from = wanted << (64 - INDEX_HASH_BITS);
        let to = from | (u64::MAX >> INDEX_HASH_BITS);
        let mut at = from;
        loop {
            // Segments told apart by more bits than the index has: there may be several.
            let segment = &self.segments[self.segment_of(at)];
            let last = segment.prefix | u64::MAX.checked_shr(segment.depth).unwrap_or(0);
            segment.range(at, to.min(last), |hash, record| {
                if record.expire_at_ms != NEVER && element(hash, record.expire_at_ms) == wanted {
                    report(record.key);
                }
            });
            if last >= to {
                return;
            }
            at = last + 1;
        }
    }

    /// Removes records that have expired, at least `max` of them if there are as many (a few more at most), and gives their keys, in
    /// the order of their times.
    pub fn take_expired(&mut self, now_ms: u64, max: usize) -> Vec<Box<[u8]>> {
        let mut taken: Vec<Box<[u8]>> = Vec::new();
        while taken.len() < max {
            let first = self
                .expiring
                .as_ref()
                .and_then(|e| e.index.first().copied());
            let Some(first) = first.filter(|first| due(*first) <= now_ms) else {
                break;
            };
            let start = taken.len();
            self.find_expiring(first, |key| taken.push(key.into()));
            for key in &taken[start..] {
                self.remove(key);
            }
            if let Some(expiring) = &mut self.expiring {
                expiring.index.remove(&first);
            }
        }
        taken
    }

    fn split(&mut self, at: usize) {
        let high = self.segments[at].split();
        if high.depth > self.bits {
            self.directory = if self.bits == 0 {
                vec![0, 0]
            } else {
                self.directory.iter().flat_map(|s| [*s, *s]).collect()
            };
            self.bits += 1;
        }
        self.segments.push(high);
        self.point_at(self.segments.len() - 1);
    }

    /// Has the directory point to a segment wherever it belongs.
    fn point_at(&mut self, at: usize) {
        let segment = &self.segments[at];
        if self.bits == 0 {
            return;
        }
        let first = (segment.prefix >> (64 - self.bits)) as usize;
        let count = 1 << (self.bits - segment.depth);
        self.directory[first..first + count].fill(at as u32);
    }

    /// Makes one of two siblings that are nearly empty.
    fn merge(&mut self, at: usize) {
        let depth = self.segments[at].depth;
        if depth == 0 {
            return;
        }
        let bit = 1u64 << (64 - depth);
        let sibling = self.segment_of(self.segments[at].prefix ^ bit);
        if !self.segments[at].fits_with(&self.segments[sibling]) {
            return;
        }
        let (keep, gone) = (at.min(sibling), at.max(sibling));
        let mut from = self.segments.swap_remove(gone);
        let kept = &mut self.segments[keep];
        kept.depth -= 1;
        kept.prefix &= !bit;
        kept.absorb(&mut from);
        self.point_at(keep);
        if gone < self.segments.len() {
            self.point_at(gone);
        }
        // Halve the directory while nobody needs its last bit. Looked at only at the shallow end, where this is cheap.
        while self.bits > 0
            && self.segments.len() * 2 <= self.directory.len()
            && self.segments.iter().all(|s| s.depth < self.bits)
        {
            self.bits -= 1;
            self.directory = self.directory.iter().step_by(2).copied().collect();
        }
        if self.bits == 0 {
            self.directory = Vec::new();
        }
    }

    /// All records, in an order that follows from the table's history alone.
    pub fn iter(&self) -> Iter<'_> {
        self.iter_from(0)
    }

    /// The records from a [position](Iter::position) on; 0 is that of the first. The table must not have changed.
    pub fn iter_from(&self, position: usize) -> Iter<'_> {
        Iter {
            table: self,
            segment: position >> 32,
            at: position & u32::MAX as usize,
        }
    }

    /// A record, each with the same probability.
    pub fn random(&self, rng: &mut Rng) -> Option<Record<'_>> {
        if self.len == 0 {
            return None;
        }
        let mut nth = rng.index(self.len);
        let segment = self.segments.iter().find(|s| {
            let here = nth < s.len();
            nth -= if here { 0 } else { s.len() };
            here
        })?;
        // At least an eighth of the slots is in use, but for the smallest segments.
        loop {
            if let found @ Some(_) = segment.at_slot(rng.index(segment.slots_len())) {
                return found;
            }
        }
    }

    /// Reports the records of a few slots from a cursor on and returns the next cursor, 0 at the end.
    pub fn scan(&self, cursor: u64, mut report: impl FnMut(Record<'_>)) -> u64 {
        let from = cursor << CURSOR_SHIFT;
        let segment = &self.segments[self.segment_of(from)];
        let shift = segment.slot_shift().max(CURSOR_SHIFT);
        let last = segment.prefix | u64::MAX.checked_shr(segment.depth).unwrap_or(0);
        // The last hash of the last slot of this step.
        let to = ((from >> shift).saturating_add(SCAN_SLOTS - 1)).min(last >> shift) << shift
            | ((1u64 << shift) - 1);
        segment.range(from, to, |_, record| report(record));
        (to >> CURSOR_SHIFT).wrapping_add(1) & (u64::MAX >> CURSOR_SHIFT)
    }

    /// Frees about so many allocations. The table is then fit for nothing but more of this, and to be dropped. Whether there is more.
    pub fn discard(&mut self, most: usize) -> bool {
        let mut left = most.max(1);
        if let Some(expiring) = &mut self.expiring {
            if !(0..left).all(|_| expiring.index.pop_first().is_some()) {
                self.expiring = None;
            }
            return true;
        }
        while let Some(segment) = self.segments.last_mut() {
            left -= segment.discard(left);
            if left == 0 {
                break;
            }
            self.segments.pop();
            left -= 1;
        }
        !self.segments.is_empty()
    }

    /// What `DEBUG HTSTATS-KEY` says of the table.
    pub fn describe(&self) -> String {
        format!(
            "Hash table 0 stats (main hash table):\n table size: {}\n number of entries: {}\n rehashing index: -1\n",
            self.segments.iter().map(Segment::slots_len).sum::<usize>(),
            self.len,
        )
    }

    /// Bytes that the table takes.
    pub fn memory(&self) -> usize {
        let index = self
            .expiring
            .as_ref()
            .map_or(0, |e| 48 + e.index.len() * 13);
        size_of::<Self>()
            + self.segments.len() * size_of::<Segment>()
            + self.segments.iter().map(Segment::memory).sum::<usize>()
            + self.directory.len() * 4
            + index
    }
}

/// Iterator over a table's records.
#[derive(Clone)]
pub struct Iter<'a> {
    table: &'a RecordTable,
    segment: usize,
    at: usize,
}

impl Iter<'_> {
    /// Where the iterator stands, to go on from there later.
    pub fn position(&self) -> usize {
        self.segment << 32 | self.at
    }
}

impl<'a> Iterator for Iter<'a> {
    type Item = Record<'a>;

    #[inline]
    fn next(&mut self) -> Option<Record<'a>> {
        loop {
            let segment = self.table.segments.get(self.segment)?;
            if let Some((record, next)) = segment.walk(self.at) {
                self.at = next;
                return Some(record);
            }
            self.segment += 1;
            self.at = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::record_segment::INLINE_MAX;
    use std::collections::BTreeMap;

    type Model = BTreeMap<Vec<u8>, (Vec<u8>, u64)>;

    fn content(table: &RecordTable) -> Model {
        table
            .iter()
            .map(|r| (r.key.to_vec(), (r.value.to_vec(), r.expire_at_ms)))
            .collect()
    }

    /// The index of expiries has exactly the elements of the records.
    fn check(table: &RecordTable, model: &Model) {
        assert_eq!(content(table), *model);
        assert_eq!(table.iter().count(), table.len());
        let expiring: Vec<_> = model.iter().filter(|(_, (_, at))| *at != NEVER).collect();
        assert_eq!(table.expiring_len(), expiring.len());
        let wanted: BTreeSet<u64> = expiring
            .iter()
            .map(|(key, (_, at))| element(record_hash(key), *at))
            .collect();
        let index = table.expiring.as_ref().map(|e| e.index.clone());
        assert_eq!(index.unwrap_or_default(), wanted);
        assert!(table.directory.len() <= 2 * table.len().max(SHARE_MIN) / SHARE_MIN);
    }

    #[test]
    fn behaves_as_a_map_through_growth_and_shrinking() {
        let mut rng = Rng::new(11);
        for (keys, rounds, long) in [
            (40, 6_000, 40),
            (30_000, 120_000, 10),
            (3_000, 30_000, 3_000),
        ] {
            let (mut table, mut model) = (RecordTable::default(), Model::new());
            for round in 0..rounds {
                let key = format!("{}", rng.index(keys)).into_bytes();
                let value = vec![rng.index(256) as u8; rng.index(long)];
                let at = if rng.index(3) == 0 {
                    rng.below(5_000)
                } else {
                    NEVER
                };
                // Growing first, then shrinking.
                match rng.index(if round < rounds / 2 { 8 } else { 20 }) {
                    0..5 => {
                        let old = model.insert(key.clone(), (value.clone(), at));
                        let put = table.put(&key, &value, at);
                        let want = old.map_or(Put::Added, |(_, at)| Put::Replaced(at));
                        assert_eq!(put, want);
                    }
                    5 => {
                        let want = model.get_mut(&key).map(|r| std::mem::replace(&mut r.1, at));
                        assert_eq!(table.set_expiry(&key, at), want);
                    }
                    6 if rng.index(200) == 0 => {
                        let now = rng.below(6_000);
                        let max = rng.index(50);
                        let taken = table.take_expired(now, max);
                        for key in &taken {
                            let (_, at) = model.remove(&**key).unwrap();
                            assert!(at < now);
                        }
                        let left = model
                            .values()
                            .filter(|(_, at)| at.saturating_add(64) <= now)
                            .count();
                        assert!(taken.len() >= max || left == 0);
                    }
                    _ => assert_eq!(table.remove(&key), model.remove(&key).map(|r| r.1)),
                }
                let got = table.get(&key).map(|r| (r.value.to_vec(), r.expire_at_ms));
                assert_eq!(got, model.get(&key).cloned());
                assert_eq!(table.len(), model.len());
                if round % (rounds / 30) == 0 {
                    check(&table, &model);
                    check(&table.clone(), &model);
                }
            }
            check(&table, &model);
            for key in model.keys() {
                assert!(table.remove(key).is_some());
            }
            assert_eq!((table.len(), table.segments.len(), table.bits), (0, 1, 0));
            assert!(table.memory() < 1_500, "{}", table.memory());
        }
    }

    #[test]
    fn a_scan_sees_all_that_stays_exactly_once() {
        for (before, after) in [(10u32, 60_000u32), (60_000, 10), (9_000, 9_000)] {
            let mut table = RecordTable::default();
            let key = |n: u32| n.to_be_bytes();
            for n in 0..before.max(10) {
                table.put(&key(n), b"", NEVER);
            }
            let (mut seen, mut cursor, mut next) = (BTreeMap::new(), 0, before.max(10));
            let mut oldest = 10;
            loop {
                cursor = table.scan(cursor, |r| {
                    *seen.entry(r.key.to_vec()).or_insert(0) += 1;
                });
                if cursor == 0 {
                    break;
                }
                for _ in 0..400 {
                    if table.len() < after as usize {
                        table.put(&key(next), b"", NEVER);
                        next += 1;
                    } else if table.len() > after as usize {
                        table.remove(&key(oldest));
                        oldest += 1;
                    }
                }
            }
            for n in 0..10 {
                assert_eq!(seen.get(&key(n)[..]), Some(&1), "{before} {after} {n}");
            }
        }
    }

    #[test]
    fn random_picks_are_fair() {
        let mut table = RecordTable::default();
        for n in 0..9_000u32 {
            table.put(&n.to_be_bytes(), b"", NEVER);
        }
        for n in 50..9_000u32 {
            table.remove(&n.to_be_bytes());
        }
        let (mut rng, mut seen) = (Rng::new(3), BTreeMap::new());
        for _ in 0..50_000 {
            *seen
                .entry(table.random(&mut rng).unwrap().key.to_vec())
                .or_insert(0) += 1;
        }
        assert_eq!(seen.len(), 50);
        assert!(seen.values().all(|n| (800..1_200).contains(n)), "{seen:?}");
    }

    #[test]
    fn a_field_takes_less_than_in_valkey() {
        for n in [600u32, 1_000, 1_700, 2_000, 3_500, 20_000, 100_000] {
            let mut table = RecordTable::default();
            for i in 0..n {
                table.put(format!("field:{i:06}").as_bytes(), &[b'v'; 12], NEVER);
            }
            let each = table.memory() as f64 / f64::from(n);
            assert!(each < 46.0, "{n}: {each} bytes a field");
        }
    }

    #[test]
    fn freed_in_steps() {
        let mut table = RecordTable::default();
        for n in 0..5_000u32 {
            let value = [b'x'; INLINE_MAX + 1];
            table.put(&n.to_be_bytes(), &value, u64::from(n));
        }
        let mut steps = 0;
        while table.discard(100) {
            steps += 1;
        }
        // The index first, then the values.
        assert!((100..110).contains(&steps), "{steps}");
    }
}
