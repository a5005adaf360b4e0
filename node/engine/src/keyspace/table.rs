//! A hash table of entries that grows and shrinks one bucket at a time (linear hashing, W. Litwin 1980).
//!
//! ```text
//!  n = 6 buckets, low mask 3:   0   1   2   3   4   5        hash & 7 if that is below 6, otherwise hash & 3
//!                               └───┼───────────┘   │        0 and 1 have been split already, into 0|4 and 1|5;
//!                                   └───────────────┘        the next insertion that needs it splits 2 into 2|6
//!
//!  bucket (64 bytes, one cache line)
//!  ┌──────┬───┬───────┬───────┬─────┬───────┐    tag    0: free; otherwise 0x80 and the top 7 bits of the hash
//!  │tags×7│ c │ slot0 │ slot1 │  …  │ slot6 │    c      1: slot6 is no entry but the next bucket of a chain
//!  └──────┴───┴───────┴───────┴─────┴───────┘
//! ```
//!
//! - There is no rehash that an insertion could stumble into, no second table, no peak of memory: an insertion splits
//!   at most one bucket, a removal merges at most one. Only the directory of segments (8 bytes for 1024 buckets) is ever moved.
//! - A bucket is split when there are more than [`FILL_MAX`] entries a bucket on average, and merged below [`FILL_MIN`].
//! - [`Table::scan`] goes through the low mask's buckets in reverse binary order and visits a bucket together with its
//!   split-off half, so whatever is in the table throughout is reported, however the table grows and shrinks meanwhile.
//!
//! # Soundness
//! `slots[i]` is an owned entry (`Entry::into_raw`) exactly if `tags[i] != 0`. If `chained` is 1, `tags[6]` is 0 and
//! `slots[6]` owns a bucket from `Box::into_raw`; otherwise it is not looked at. Buckets lie in segments that the table owns: the first
//! has room for `first_cap` buckets, each further one for [`SEGMENT`]; buckets below `buckets` are initialized (zero bytes are
//! an empty bucket). References into a bucket are handed out bounded by a borrow of the table.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ptr::{self, NonNull};

use super::entry::Entry;
use super::hash::KeyHasher;

const SLOTS: usize = 7;

/// Buckets in a segment: 64 KiB.
const SEGMENT: usize = 1024;

/// Average entries a bucket above which the table grows, in hundredths.
const FILL_MAX: usize = 460;
/// Average entries a bucket below which the table shrinks, in hundredths.
const FILL_MIN: usize = 150;
const _: () = assert!(
    FILL_MIN * 2 < FILL_MAX,
    "a split must not be undone by the next removal"
);

const LANES: u64 = 0x0101_0101_0101_0101;
/// The tag bytes of the eight; the highest is `chained`.
const TAGS: u64 = 0x00ff_ffff_ffff_ffff;

#[repr(C, align(64))]
struct Bucket {
    tags: [u8; SLOTS],
    chained: u8,
    slots: [*mut (); SLOTS],
}
const _: () = assert!(size_of::<Bucket>() == 64 && size_of::<Entry>() == 8);

impl Bucket {
    const EMPTY: Bucket = Bucket {
        tags: [0; SLOTS],
        chained: 0,
        slots: [ptr::null_mut(); SLOTS],
    };

    #[inline]
    fn word(&self) -> u64 {
        let [a, b, c, d, e, f, g] = self.tags;
        u64::from_le_bytes([a, b, c, d, e, f, g, self.chained])
    }

    /// A word whose byte i has its high bit set exactly where tag i equals `tag`.
    #[inline]
    fn matches(&self, tag: u8) -> u64 {
        const LOW: u64 = 0x7f * LANES;
        let x = self.word() ^ (LANES * u64::from(tag));
        // Exact: no carry crosses a byte.
        let zero = !(((x & LOW) + LOW) | x | LOW);
        zero & TAGS
    }

    #[inline]
    fn free_slot(&self) -> Option<usize> {
        let usable = if self.chained == 1 { SLOTS - 1 } else { SLOTS };
        self.tags.iter().take(usable).position(|t| *t == 0)
    }

    fn count(&self) -> usize {
        self.tags.iter().filter(|t| **t != 0).count()
    }

    #[inline]
    fn child(&self) -> *mut Bucket {
        if self.chained == 1 {
            self.slots[SLOTS - 1].cast()
        } else {
            ptr::null_mut()
        }
    }
}

#[inline]
fn tag_of(hash: u64) -> u8 {
    0x80 | (hash >> 57) as u8
}

/// See the module's documentation.
pub(crate) struct Table {
    segments: Vec<NonNull<Bucket>>,
    first_cap: usize,
    buckets: usize,
    /// `buckets.next_power_of_two() - 1`
    mask: usize,
    used: usize,
}

// SAFETY: the table owns its buckets and entries, and entries are Send and Sync.
unsafe impl Send for Table {}
// SAFETY: as above; shared access only reads.
unsafe impl Sync for Table {}

fn segment_layout(buckets: usize) -> Layout {
    match Layout::array::<Bucket>(buckets) {
        Ok(layout) => layout,
        Err(_) => unreachable!("segment of {buckets} buckets"),
    }
}

fn new_segment(buckets: usize) -> NonNull<Bucket> {
    let layout = segment_layout(buckets);
    // SAFETY: never of size zero; zero bytes are empty buckets.
    let memory = unsafe { alloc_zeroed(layout) };
    NonNull::new(memory.cast()).unwrap_or_else(|| handle_alloc_error(layout))
}

impl Default for Table {
    fn default() -> Self {
        Table {
            segments: vec![new_segment(1)],
            first_cap: 1,
            buckets: 1,
            mask: 0,
            used: 0,
        }
    }
}

impl Table {
    /// Number of entries.
    #[inline]
    pub fn len(&self) -> usize {
        self.used
    }

    #[inline]
    fn index(&self, hash: u64) -> usize {
        let at = hash as usize & self.mask;
        if at < self.buckets {
            at
        } else {
            at & self.mask >> 1
        }
    }

    #[inline]
    fn bucket(&self, index: usize) -> *mut Bucket {
        debug_assert!(index < self.buckets);
        // SAFETY: an index below `buckets` has its segment in the directory and lies within it.
        unsafe {
            self.segments
                .get_unchecked(index / SEGMENT)
                .as_ptr()
                .add(index % SEGMENT)
        }
    }

    /// The place of the entry that has this hash and passes `is`, and the bucket of it.
    #[inline]
    fn position(&self, hash: u64, is: impl Fn(&Entry) -> bool) -> Option<(*mut Bucket, usize)> {
        let tag = tag_of(hash);
        let mut at = self.bucket(self.index(hash));
        loop {
            // SAFETY: a bucket of this table or of a chain in it; no exclusive reference exists.
            let bucket = unsafe { &*at };
            let mut found = bucket.matches(tag);
            while found != 0 {
                let slot = found.trailing_zeros() as usize / 8;
                // SAFETY: the tag is not zero, so the slot holds an entry. `Entry` is a transparent pointer.
                let entry = unsafe { &*bucket.slots.as_ptr().add(slot).cast::<Entry>() };
                if is(entry) {
                    return Some((at, slot));
                }
                found &= found - 1;
            }
            at = bucket.child();
            if at.is_null() {
                return None;
            }
        }
    }

    /// The entry that has this hash and passes `is`.
    #[inline]
    pub fn find(&self, hash: u64, is: impl Fn(&Entry) -> bool) -> Option<&Entry> {
        let (bucket, slot) = self.position(hash, is)?;
        // SAFETY: `position` returned an occupied slot; the borrow of the table covers it.
        Some(unsafe { &*(*bucket).slots.as_ptr().add(slot).cast::<Entry>() })
    }

    /// As [`find`](Self::find), to change. Key and hash must stay what they are.
    #[inline]
    pub fn find_mut(&mut self, hash: u64, is: impl Fn(&Entry) -> bool) -> Option<&mut Entry> {
        let (bucket, slot) = self.position(hash, is)?;
        // SAFETY: as above, and the table is borrowed exclusively.
        Some(unsafe { &mut *(*bucket).slots.as_mut_ptr().add(slot).cast::<Entry>() })
    }

    /// Adds an entry whose key must not be in the table yet, and returns it in its place.
    pub fn insert(&mut self, hash: u64, entry: Entry, hasher: KeyHasher) -> &mut Entry {
        self.used += 1;
        if self.used * 100 > self.buckets * FILL_MAX {
            self.split(hasher);
        }
        let index = self.index(hash);
        let slot = self.place(index, tag_of(hash), entry);
        // SAFETY: `place` returned the slot that it filled; the table is borrowed exclusively.
        unsafe { &mut *slot }
    }

    fn place(&mut self, index: usize, tag: u8, entry: Entry) -> *mut Entry {
        let mut at = self.bucket(index);
        loop {
            // SAFETY: a bucket of this table, which is borrowed exclusively.
            let bucket = unsafe { &mut *at };
            if let Some(slot) = bucket.free_slot() {
                bucket.tags[slot] = tag;
                bucket.slots[slot] = entry.into_raw();
                return (&raw mut bucket.slots[slot]).cast();
            }
            if bucket.chained == 0 {
                // The last slot's entry moves into a new bucket, to whom the slot then points.
                let mut child = Box::new(Bucket::EMPTY);
                child.tags[0] = bucket.tags[SLOTS - 1];
                child.slots[0] = bucket.slots[SLOTS - 1];
                bucket.tags[SLOTS - 1] = 0;
                bucket.slots[SLOTS - 1] = Box::into_raw(child).cast();
                bucket.chained = 1;
            }
            at = bucket.child();
        }
    }

    /// Removes the entry that has this hash and passes `is`.
    pub fn remove(&mut self, hash: u64, is: impl Fn(&Entry) -> bool) -> Option<Entry> {
        let (bucket, slot) = self.position(hash, is)?;
        // SAFETY: an occupied slot of a table that is borrowed exclusively; clearing the tag gives up its ownership.
        let entry = unsafe {
            let bucket = &mut *bucket;
            bucket.tags[slot] = 0;
            ptr::read(bucket.slots.as_ptr().add(slot).cast::<Entry>())
        };
        self.used -= 1;
        self.fill_hole(self.index(hash));
        if self.buckets > 1 && self.used * 100 < self.buckets * FILL_MIN {
            self.merge();
        }
        Some(entry)
    }

    /// After a removal: moves the last entry of the chain into a free slot nearer to its head, and gives up a chained
    /// bucket that has become empty.
    fn fill_hole(&mut self, index: usize) {
        let head = self.bucket(index);
        // SAFETY: buckets of a chain of this table, which is borrowed exclusively; one reference at a time.
        unsafe {
            if (*head).chained == 0 {
                return;
            }
            let mut parent = head;
            let mut last = (*head).child();
            while (*last).chained == 1 {
                parent = last;
                last = (*last).child();
            }
            let mut hole = head;
            while hole != last {
                if let Some(free) = (*hole).free_slot() {
                    if let Some(from) = (*last).tags.iter().rposition(|t| *t != 0) {
                        (*hole).tags[free] = (*last).tags[from];
                        (*hole).slots[free] = (*last).slots[from];
                        (*last).tags[from] = 0;
                    }
                    break;
                }
                hole = (*hole).child();
            }
            if (*last).count() == 0 {
                drop(Box::from_raw(last));
                (*parent).chained = 0;
                (*parent).slots[SLOTS - 1] = ptr::null_mut();
            }
        }
    }

    /// Takes the content out of a bucket and its chain, leaving it empty.
    fn empty_bucket(&mut self, index: usize) -> Vec<(u8, Entry)> {
        let mut out = Vec::with_capacity(SLOTS * 2);
        let head = self.bucket(index);
        // SAFETY: the bucket is replaced by an empty one, so its entries and its chain are ours.
        unsafe {
            let mut bucket = ptr::replace(head, Bucket::EMPTY);
            loop {
                for (slot, tag) in bucket.tags.iter().enumerate() {
                    if *tag != 0 {
                        out.push((
                            *tag,
                            ptr::read(bucket.slots.as_ptr().add(slot).cast::<Entry>()),
                        ));
                    }
                }
                let child = bucket.child();
                if child.is_null() {
                    return out;
                }
                bucket = *Box::from_raw(child);
            }
        }
    }

    /// Adds a bucket and moves into it what belongs there.
    fn split(&mut self, hasher: KeyHasher) {
        let new = self.buckets;
        if new < SEGMENT {
            if new == self.first_cap {
                self.resize_first(self.first_cap * 2);
            }
        } else if new.is_multiple_of(SEGMENT) {
            self.segments.push(new_segment(SEGMENT));
        }
        self.buckets += 1;
        self.mask = self.buckets.next_power_of_two() - 1;
        let old = new & self.mask >> 1;
        // Usually some two or three of five move: take them all out and put them where they now belong.
        for (tag, entry) in self.empty_bucket(old) {
            let index = self.index(hasher.hash(entry.key()));
            self.place(index, tag, entry);
        }
    }

    /// Gives up the last bucket; its content goes back to where it was split off.
    fn merge(&mut self) {
        let last = self.buckets - 1;
        let moved = self.empty_bucket(last);
        let target = last & self.mask >> 1;
        self.buckets = last;
        self.mask = self.buckets.next_power_of_two() - 1;
        for (tag, entry) in moved {
            self.place(target, tag, entry);
        }
        if last >= SEGMENT {
            if last.is_multiple_of(SEGMENT)
                && let Some(segment) = self.segments.pop()
            {
                // SAFETY: the segment's buckets are all beyond `buckets` and empty.
                unsafe { dealloc(segment.as_ptr().cast(), segment_layout(SEGMENT)) };
            }
        } else if last * 4 <= self.first_cap {
            self.resize_first(self.first_cap / 2);
        }
    }

    /// Moves the first segment (the only one at that time) to one of another size. At most 64 KiB.
    fn resize_first(&mut self, cap: usize) {
        debug_assert!(self.segments.len() == 1 && self.buckets <= cap && cap <= SEGMENT);
        let new = new_segment(cap);
        if let Some(first) = self.segments.first_mut() {
            let old = std::mem::replace(first, new);
            // SAFETY: both segments have room for `buckets` buckets; the old one is not used after the move.
            unsafe {
                ptr::copy_nonoverlapping(old.as_ptr(), new.as_ptr(), self.buckets);
                dealloc(old.as_ptr().cast(), segment_layout(self.first_cap));
            }
            self.first_cap = cap;
        }
    }

    fn each_in_bucket(&self, index: usize, see: &mut dyn FnMut(*mut Entry)) {
        let mut at = self.bucket(index);
        while !at.is_null() {
            // SAFETY: a bucket of a chain of this table.
            let (tags, slots, child) = unsafe {
                (
                    (*at).tags,
                    (&raw mut (*at).slots).cast::<Entry>(),
                    (*at).child(),
                )
            };
            for (slot, tag) in tags.iter().enumerate() {
                if *tag != 0 {
                    // SAFETY: within the bucket's slots.
                    see(unsafe { slots.add(slot) });
                }
            }
            at = child;
        }
    }

    /// The low mask, and how many of its buckets have been split.
    fn level(&self) -> (usize, usize) {
        let low = 1 << self.buckets.ilog2();
        (low - 1, self.buckets - low)
    }

    fn scan_raw(&self, cursor: u64, see: &mut dyn FnMut(*mut Entry)) -> u64 {
        let (mask, split) = self.level();
        let at = cursor as usize & mask;
        self.each_in_bucket(at, see);
        if at < split {
            self.each_in_bucket(at + mask + 1, see);
        }
        // Increment the reversed cursor: the high bits of the mask count first.
        let next = (cursor | !(mask as u64)).reverse_bits().wrapping_add(1);
        next.reverse_bits()
    }

    /// Reports the entries of the cursor's bucket and returns the next cursor; begin with 0, and 0 is the end. An entry that
    /// is in the table from the first call to the last is reported at least once.
    pub fn scan(&self, cursor: u64, see: &mut dyn FnMut(&Entry)) -> u64 {
        // SAFETY: `scan_raw` reports occupied slots; the table is borrowed for as long as the reference lives.
        self.scan_raw(cursor, &mut |entry| see(unsafe { &*entry }))
    }

    /// As [`scan`](Self::scan), to change what is not the key.
    pub fn scan_mut(&mut self, cursor: u64, see: &mut dyn FnMut(&mut Entry)) -> u64 {
        // SAFETY: as above; the table is borrowed exclusively and each slot is reported once.
        self.scan_raw(cursor, &mut |entry| see(unsafe { &mut *entry }))
    }

    /// All entries.
    pub fn for_each(&self, see: &mut dyn FnMut(&Entry)) {
        for index in 0..self.buckets {
            // SAFETY: as in `scan`.
            self.each_in_bucket(index, &mut |entry| see(unsafe { &*entry }));
        }
    }

    /// An entry, each with the same probability: a random slot of a random bucket, until there is something in it.
    pub fn random(&self, rng: &mut crate::rng::Rng) -> Option<&Entry> {
        /// Entries of a bucket and one chained; of longer chains (very rare) each is a little less likely.
        const DRAW: usize = SLOTS * 2 - 1;
        if self.used == 0 {
            return None;
        }
        loop {
            let mut entries: [*mut Entry; DRAW] = [ptr::null_mut(); DRAW];
            let mut count = 0;
            let index = rng.index(self.buckets);
            self.each_in_bucket(index, &mut |entry| {
                if let Some(place) = entries.get_mut(count) {
                    *place = entry;
                } else if let Some(place) = entries.get_mut(rng.index(count + 1)) {
                    *place = entry;
                }
                count += 1;
            });
            let entry = entries[rng.index(DRAW)];
            if !entry.is_null() {
                // SAFETY: reported by `each_in_bucket`; the table is borrowed for as long as the reference lives.
                return Some(unsafe { &*entry });
            }
        }
    }

    /// Takes the entries of the last bucket and gives the bucket up: to empty a table in small steps. `false` when there
    /// was nothing left to take.
    pub fn pop_bucket(&mut self, mut taken: impl FnMut(Entry)) -> bool {
        if self.used == 0 {
            return false;
        }
        for (_, entry) in self.empty_bucket(self.buckets - 1) {
            self.used -= 1;
            taken(entry);
        }
        if self.buckets > 1 {
            self.merge();
        }
        true
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        for index in 0..self.buckets {
            drop(self.empty_bucket(index));
        }
        for (i, segment) in self.segments.iter().enumerate() {
            let buckets = if i == 0 { self.first_cap } else { SEGMENT };
            // SAFETY: allocated with this layout; all buckets are empty and nobody refers to them.
            unsafe { dealloc(segment.as_ptr().cast(), segment_layout(buckets)) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;
    use std::collections::{BTreeMap, BTreeSet};

    const HASHER: fn() -> KeyHasher = || KeyHasher::new([7, 8]);

    fn key(n: u64) -> Vec<u8> {
        format!("k{n}").into_bytes()
    }

    fn put(table: &mut Table, n: u64) {
        let key = key(n);
        table.insert(
            HASHER().hash(&key),
            Entry::new_int(&key, n as i64, 0),
            HASHER(),
        );
    }

    fn take(table: &mut Table, n: u64) -> bool {
        let key = key(n);
        table
            .remove(HASHER().hash(&key), |e| e.key() == key)
            .is_some()
    }

    fn has(table: &Table, n: u64) -> bool {
        let key = key(n);
        table
            .find(HASHER().hash(&key), |e| e.key() == key)
            .is_some()
    }

    #[test]
    fn behaves_as_a_map_while_growing_and_shrinking() {
        let mut rng = Rng::new(1);
        let mut table = Table::default();
        let mut model = BTreeSet::new();
        for phase in 0..6 {
            for _ in 0..20_000 {
                let n = rng.below(12_000);
                // Phases of growth and of shrinking take turns.
                if rng.below(10) < if phase % 2 == 0 { 8 } else { 1 } {
                    if model.insert(n) {
                        put(&mut table, n);
                    }
                } else {
                    assert_eq!(take(&mut table, n), model.remove(&n));
                }
                assert_eq!(table.len(), model.len());
            }
            for n in 0..12_000 {
                assert_eq!(has(&table, n), model.contains(&n), "{n}");
            }
            let mut seen = BTreeSet::new();
            table.for_each(&mut |e| assert!(seen.insert(e.key().to_vec())));
            assert_eq!(seen, model.iter().map(|n| key(*n)).collect());
        }
        for n in std::mem::take(&mut model) {
            assert!(take(&mut table, n));
        }
        assert_eq!(
            (table.len(), table.buckets, table.segments.len()),
            (0, 1, 1)
        );
    }

    #[test]
    fn scan_reports_what_stays_whatever_else_happens() {
        for seed in 0..30 {
            let mut rng = Rng::new(seed);
            let mut table = Table::default();
            let start = rng.below(6000);
            for n in 0..start {
                put(&mut table, n);
            }
            let mut stays: BTreeSet<u64> = (0..start).collect();
            let mut seen = BTreeMap::new();
            let (mut cursor, mut next) = (0, start);
            let growing = seed % 3;
            loop {
                cursor = table.scan(cursor, &mut |e| {
                    *seen.entry(e.key().to_vec()).or_insert(0) += 1
                });
                if cursor == 0 {
                    break;
                }
                for _ in 0..rng.below(40) {
                    let remove = match growing {
                        0 => false,
                        1 => true,
                        _ => rng.below(2) == 0,
                    };
                    if remove {
                        let n = rng.below(start.max(1));
                        if stays.remove(&n) {
                            take(&mut table, n);
                        }
                    } else if next < 40_000 {
                        put(&mut table, next);
                        next += 1;
                    }
                }
            }
            for n in stays {
                assert!(
                    seen.contains_key(&key(n)),
                    "seed {seed}: {n} was not reported"
                );
            }
        }
    }

    #[test]
    fn random_is_fair_and_emptying_in_steps_ends() {
        let mut table = Table::default();
        let mut rng = Rng::new(3);
        assert!(table.random(&mut rng).is_none());
        for n in 0..100 {
            put(&mut table, n);
        }
        let mut hits: BTreeMap<Vec<u8>, u32> = BTreeMap::new();
        for _ in 0..100_000 {
            if let Some(e) = table.random(&mut rng) {
                *hits.entry(e.key().to_vec()).or_default() += 1;
            }
        }
        assert_eq!(hits.len(), 100);
        assert!(hits.values().all(|n| (800..1200).contains(n)), "{hits:?}");
        let mut gone = 0;
        while table.pop_bucket(|_| gone += 1) {}
        assert_eq!((gone, table.len()), (100, 0));
    }
}
