//! The members of a large sorted set: records in an arena, found by hash.
//!
//! ```text
//! heads:   bucket → id of its first record, 0 for none
//! chunks:  record …                                      an id is where its record lies, in units of four bytes
//!
//! record:  | next in bucket: u32 LE | score: f64 LE | head: varint of member length << 1 | hole | member |
//!          | …                                      | head with a length of INLINE_MAX + 1      | index into `large`: u32 LE |
//! ```
//!
//! A removed record leaves a hole, which the next record of its size takes. When holes are a quarter of the arena, the records that
//! remain move to new chunks, a few with each change ([`Members::next_move`]): ids change then, and the caller is told.
//!
//! Resizing the table is incremental as well: a second array of heads is filled by a few buckets with each change.
//! [`Members::scan`] walks the buckets by reverse-binary cursor: a member that is there during the whole scan is reported at least
//! once, across any resizing (the scheme is that of Pieter Noordhuis's `dictScan` in Redis). Hashing has a fixed seed.

use super::chunked::Chunked;
use super::record_segment::record_hash;

/// Bytes of a unit, and of a chunk.
const UNIT: usize = 4;
const CHUNK: usize = UNIT << UNIT_BITS;
/// Low bits of an id that name the unit within its chunk. The others are the chunk's number, from 1.
const UNIT_BITS: u32 = 12;
const CHUNKS_MAX: usize = (1 << (32 - UNIT_BITS)) - 1;
/// Longer members lie in allocations of their own.
const INLINE_MAX: usize = 512;
const NEXT: usize = 0;
const SCORE: usize = 4;
const HEAD: usize = 12;
/// Units of holes that are always allowed.
const DEAD_SLACK: usize = 512;
/// Holes that one call of [`Members::next_move`] goes past at most.
const STEP_HOLES: usize = 64;

/// Buckets of the smallest table.
const BUCKETS_MIN: usize = 8;
/// Buckets moved with each change while resizing.
const STEP_BUCKETS: usize = 8;
/// Empty buckets looked at with each change while resizing.
const STEP_EMPTY: usize = 64;

/// See the module's documentation.
#[derive(Debug, Clone)]
pub struct Members {
    /// Each grows to `CHUNK` bytes at most.
    chunks: Vec<Vec<u8>>,
    /// Numbers of empty chunks that are not being filled.
    free_chunks: Vec<u32>,
    /// Number of the chunk that records are appended to; 0 for none.
    filling: usize,
    /// By size in units: the first hole, 0 for none. Holes of a size are chained by `next`.
    holes: Vec<u32>,
    /// Units of all chunks, and of holes.
    used: usize,
    dead: usize,
    /// The chunks with indices from `moving.start` to `moving.end` are being emptied; of the first, what is below `moved_to` is done.
    moving: std::ops::Range<usize>,
    moved_to: usize,
    large: Chunked<Box<[u8]>>,
    free_large: Vec<u32>,
    large_bytes: usize,
    len: usize,
    /// The table, or the old one while resizing.
    heads: Vec<u32>,
    /// The table being filled while resizing; else empty.
    new_heads: Vec<u32>,
    /// While resizing: buckets of `heads` below this are moved.
    rehashed: usize,
}

impl Default for Members {
    fn default() -> Self {
        Members {
            chunks: Vec::new(),
            free_chunks: Vec::new(),
            filling: 0,
            holes: Vec::new(),
            used: 0,
            dead: 0,
            moving: 0..0,
            moved_to: 0,
            large: Chunked::default(),
            free_large: Vec::new(),
            large_bytes: 0,
            len: 0,
            heads: vec![0; BUCKETS_MIN],
            new_heads: Vec::new(),
            rehashed: 0,
        }
    }
}

#[inline]
fn hash(member: &[u8]) -> usize {
    record_hash(member) as usize
}

/// The length that a record's head names, and where its payload begins.
#[inline]
fn payload(record: &[u8]) -> (usize, usize) {
    let first = usize::from(record[HEAD]);
    if first < 0x80 {
        (first >> 1, HEAD + 1)
    } else {
        let n = first & 0x7f | usize::from(record[HEAD + 1]) << 7;
        (n >> 1, HEAD + 2)
    }
}

/// Units that a record takes.
#[inline]
fn units(len: usize, from: usize) -> usize {
    let payload = if len > INLINE_MAX { 4 } else { len };
    (from + payload).div_ceil(UNIT)
}

#[inline]
fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(*bytes[at..].first_chunk().expect("four bytes"))
}

impl Members {
    /// Number of members.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no member.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// What `DEBUG HTSTATS-KEY` says of the table.
    pub fn describe(&self) -> String {
        let mut text = format!(
            "Hash table 0 stats (main hash table):\n table size: {}\n number of entries: {}\n rehashing index: {}\n",
            self.heads.len(),
            self.len,
            if self.resizing() {
                self.rehashed as i64
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

    #[inline]
    fn record(&self, id: u32) -> &[u8] {
        let at = (id & ((1 << UNIT_BITS) - 1)) as usize * UNIT;
        &self.chunks[(id >> UNIT_BITS) as usize - 1][at..]
    }

    #[inline]
    fn record_mut(&mut self, id: u32) -> &mut [u8] {
        let at = (id & ((1 << UNIT_BITS) - 1)) as usize * UNIT;
        &mut self.chunks[(id >> UNIT_BITS) as usize - 1][at..]
    }

    #[inline]
    fn next(&self, id: u32) -> u32 {
        u32_at(self.record(id), NEXT)
    }

    fn set_next(&mut self, id: u32, to: u32) {
        self.record_mut(id)[NEXT..NEXT + 4].copy_from_slice(&to.to_le_bytes());
    }

    /// The member with this id.
    #[inline]
    pub fn member(&self, id: u32) -> &[u8] {
        let record = self.record(id);
        let (len, from) = payload(record);
        if len > INLINE_MAX {
            &self.large[u32_at(record, from) as usize]
        } else {
            &record[from..from + len]
        }
    }

    /// The score of the member with this id.
    #[inline]
    pub fn score(&self, id: u32) -> f64 {
        f64::from_le_bytes(*self.record(id)[SCORE..].first_chunk().expect("eight bytes"))
    }

    /// Changes the score of the member with this id.
    pub fn set_score(&mut self, id: u32, score: f64) {
        self.record_mut(id)[SCORE..SCORE + 8].copy_from_slice(&score.to_le_bytes());
    }

    fn resizing(&self) -> bool {
        !self.new_heads.is_empty()
    }

    fn find_from(&self, mut id: u32, member: &[u8]) -> Option<u32> {
        while id != 0 {
            if self.member(id) == member {
                return Some(id);
            }
            id = self.next(id);
        }
        None
    }

    /// The id of a member.
    pub fn find(&self, member: &[u8]) -> Option<u32> {
        let hash = hash(member);
        if self.resizing() {
            let head = self.new_heads[hash & (self.new_heads.len() - 1)];
            if let found @ Some(_) = self.find_from(head, member) {
                return found;
            }
        }
        self.find_from(self.heads[hash & (self.heads.len() - 1)], member)
    }

    /// Adds a member that is known to be absent; its id.
    ///
    /// # Panics
    /// With 16 GiB of members.
    pub fn add(&mut self, member: &[u8], score: f64) -> u32 {
        self.rehash_step();
        if !self.resizing() && self.len >= self.heads.len() {
            self.begin_resize(self.heads.len() * 2);
        }
        // Long enough for the longest record's head and payload.
        let mut bytes = [0u8; HEAD + 2 + INLINE_MAX + UNIT];
        bytes[SCORE..SCORE + 8].copy_from_slice(&score.to_le_bytes());
        let len = member.len().min(INLINE_MAX + 1);
        let from = if len < 64 {
            bytes[HEAD] = (len << 1) as u8;
            HEAD + 1
        } else {
            bytes[HEAD] = (len << 1) as u8 | 0x80;
            bytes[HEAD + 1] = (len >> 6) as u8;
            HEAD + 2
        };
        if len > INLINE_MAX {
            let index = self.add_large(member.into());
            bytes[from..from + 4].copy_from_slice(&index.to_le_bytes());
        } else {
            bytes[from..from + len].copy_from_slice(member);
        }
        let heads = if self.new_heads.is_empty() {
            &self.heads
        } else {
            &self.new_heads
        };
        let bucket = hash(member) & (heads.len() - 1);
        bytes[NEXT..NEXT + 4].copy_from_slice(&heads[bucket].to_le_bytes());
        let id = self.place(&bytes[..units(len, from) * UNIT]);
        if self.new_heads.is_empty() {
            self.heads[bucket] = id;
        } else {
            self.new_heads[bucket] = id;
        }
        self.len += 1;
        id
    }

    fn add_large(&mut self, member: Box<[u8]>) -> u32 {
        self.large_bytes += member.len();
        if let Some(index) = self.free_large.pop() {
            self.large[index as usize] = member;
            return index;
        }
        self.large.push(member);
        u32::try_from(self.large.len() - 1).expect("fewer than 2^32 members")
    }

    /// Finds a place for a record; its id.
    fn place(&mut self, record: &[u8]) -> u32 {
        let size = record.len() / UNIT;
        if let Some(&hole) = self.holes.get(size)
            && hole != 0
        {
            self.holes[size] = self.next(hole);
            self.record_mut(hole)[..record.len()].copy_from_slice(record);
            self.dead -= size;
            return hole;
        }
        if self.filling == 0 || self.chunks[self.filling - 1].len() + record.len() > CHUNK {
            self.filling = match self.free_chunks.pop() {
                Some(chunk) => chunk as usize,
                None => {
                    assert!(self.chunks.len() < CHUNKS_MAX, "fewer bytes of members");
                    self.chunks.push(Vec::new());
                    self.chunks.len()
                }
            };
        }
        let chunk = &mut self.chunks[self.filling - 1];
        let at = chunk.len();
        if chunk.capacity() < at + record.len() {
            // Little by little, so that small sets leave little unused.
            let room = (at / 4).max(256).max(record.len()).min(CHUNK - at);
            chunk.reserve_exact(room);
        }
        chunk.extend_from_slice(record);
        self.used += size;
        (self.filling as u32) << UNIT_BITS | (at / UNIT) as u32
    }

    /// The link (a bucket's head or a record's `next`) that names `id`, set to `to`.
    fn relink(&mut self, hash: usize, id: u32, to: u32) {
        for old in [false, true] {
            let heads = if old {
                &mut self.heads
            } else {
                &mut self.new_heads
            };
            if heads.is_empty() {
                continue;
            }
            let bucket = hash & (heads.len() - 1);
            let mut at = heads[bucket];
            if at == id {
                heads[bucket] = to;
                return;
            }
            while at != 0 {
                let next = self.next(at);
                if next == id {
                    self.set_next(at, to);
                    return;
                }
                at = next;
            }
        }
        unreachable!("a record hangs in its bucket");
    }

    /// Removes the member with this id.
    pub fn remove(&mut self, id: u32) {
        self.relink(hash(self.member(id)), id, self.next(id));
        let record = self.record_mut(id);
        let (len, from) = payload(record);
        record[HEAD] |= 1;
        if len > INLINE_MAX {
            let index = u32_at(record, from);
            let member = std::mem::take(&mut self.large[index as usize]);
            self.large_bytes -= member.len();
            self.free_large.push(index);
        }
        let size = units(len, from);
        self.dead += size;
        if !self.moving.contains(&((id >> UNIT_BITS) as usize - 1)) {
            if self.holes.len() <= size {
                self.holes.resize(size + 1, 0);
            }
            self.set_next(id, self.holes[size]);
            self.holes[size] = id;
        }
        self.len -= 1;
        self.rehash_step();
        if !self.resizing() && self.heads.len() > BUCKETS_MIN && self.len * 8 < self.heads.len() {
            self.begin_resize(self.len.next_power_of_two().max(BUCKETS_MIN));
        }
        if self.moving.is_empty() && self.dead * 4 > self.used + DEAD_SLACK {
            self.moving = 0..self.chunks.len();
            self.moved_to = 0;
            // Nothing is placed where records move away from.
            self.filling = 0;
            self.holes = Vec::new();
            self.free_chunks = Vec::new();
        }
    }

    /// While the arena is being tidied: moves one record, and tells its old and new id. The old one can be read until the next call.
    pub fn next_move(&mut self) -> Option<(u32, u32)> {
        for _ in 0..STEP_HOLES {
            if self.moving.is_empty() {
                return None;
            }
            let number = self.moving.start + 1;
            if self.moved_to * UNIT >= self.chunks[number - 1].len() {
                let emptied = std::mem::take(&mut self.chunks[number - 1]);
                self.used -= emptied.len() / UNIT;
                self.free_chunks.push(number as u32);
                self.moving.start += 1;
                self.moved_to = 0;
                continue;
            }
            let id = (number as u32) << UNIT_BITS | self.moved_to as u32;
            let record = self.record(id);
            let (len, from) = payload(record);
            let size = units(len, from);
            let hole = record[HEAD] & 1 != 0;
            self.moved_to += size;
            if hole {
                self.dead -= size;
                continue;
            }
            let mut copy = [0u8; HEAD + 2 + INLINE_MAX + UNIT];
            copy[..size * UNIT].copy_from_slice(&self.record(id)[..size * UNIT]);
            let new = self.place(&copy[..size * UNIT]);
            self.relink(hash(self.member(id)), id, new);
            return Some((id, new));
        }
        None
    }

    fn begin_resize(&mut self, buckets: usize) {
        self.new_heads = vec![0; buckets];
        self.rehashed = 0;
    }

    /// Moves a few buckets of a running resize.
    fn rehash_step(&mut self) {
        if !self.resizing() {
            return;
        }
        let (mut buckets, mut empty) = (STEP_BUCKETS, STEP_EMPTY);
        while self.rehashed < self.heads.len() && buckets > 0 && empty > 0 {
            let mut id = std::mem::take(&mut self.heads[self.rehashed]);
            self.rehashed += 1;
            if id == 0 {
                empty -= 1;
                continue;
            }
            buckets -= 1;
            while id != 0 {
                let bucket = hash(self.member(id)) & (self.new_heads.len() - 1);
                let next = self.next(id);
                self.set_next(id, self.new_heads[bucket]);
                self.new_heads[bucket] = id;
                id = next;
            }
        }
        if self.rehashed == self.heads.len() {
            self.heads = std::mem::take(&mut self.new_heads);
            self.rehashed = 0;
        }
    }

    /// Reports the ids of the cursor's bucket and returns the next cursor, 0 at the end.
    pub fn scan(&self, cursor: u64, mut report: impl FnMut(u32)) -> u64 {
        let mut emit = |mut id: u32| {
            while id != 0 {
                report(id);
                id = self.next(id);
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

    /// Frees up to `n` allocations. What is left is then fit for nothing but more of this, and to be dropped. Whether there is more.
    pub fn discard(&mut self, n: usize) -> bool {
        if !self.large.is_empty() {
            self.large.truncate(self.large.len().saturating_sub(n));
            return true;
        }
        self.chunks.truncate(self.chunks.len().saturating_sub(n));
        !self.chunks.is_empty()
    }

    /// Bytes that the members take.
    pub fn memory(&self) -> usize {
        let chunks: usize = self.chunks.iter().map(|c| c.capacity() + 24).sum();
        let tables = self.heads.len() + self.new_heads.len() + self.holes.len();
        size_of::<Self>()
            + chunks
            + tables * 4
            + self.large_bytes
            + self.large.capacity() * size_of::<Box<[u8]>>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;
    use std::collections::{BTreeMap, BTreeSet};

    /// What the chunks hold, and that the counts are right.
    fn check(members: &Members, model: &BTreeMap<Vec<u8>, (u32, f64)>) {
        assert_eq!(members.len(), model.len());
        let (mut seen, mut live, mut dead) = (BTreeSet::new(), 0, 0);
        for (at, chunk) in members.chunks.iter().enumerate() {
            let done = if at == members.moving.start && !members.moving.is_empty() {
                members.moved_to
            } else {
                0
            };
            let mut unit = done;
            while unit * UNIT < chunk.len() {
                let id = (at as u32 + 1) << UNIT_BITS | unit as u32;
                let record = members.record(id);
                let (len, from) = payload(record);
                let size = units(len, from);
                if record[HEAD] & 1 == 0 {
                    assert!(seen.insert(id));
                    live += size;
                } else {
                    dead += size;
                }
                unit += size;
            }
            live += done;
        }
        assert_eq!((members.dead, members.used), (dead, live + dead));
        assert_eq!(seen, model.values().map(|(id, _)| *id).collect());
        for (member, (id, score)) in model {
            assert_eq!(members.find(member), Some(*id));
            assert_eq!(
                (members.member(*id), members.score(*id)),
                (&**member, *score)
            );
        }
        let large: usize = model.keys().map(|m| m.len()).filter(|n| *n > 512).sum();
        assert_eq!(members.large_bytes, large);
    }

    #[test]
    fn behaves_as_a_map_through_growth_and_shrinking() {
        let mut rng = Rng::new(5);
        for (keys, rounds, long) in [(20_000, 120_000, 20), (2_000, 40_000, 700)] {
            let mut members = Members::default();
            let mut model: BTreeMap<Vec<u8>, (u32, f64)> = BTreeMap::new();
            let mut moves = 0;
            for round in 0..rounds {
                let n = rng.index(keys);
                // Lengths differ, and not all the time the same.
                let mut member = format!("{n}").into_bytes();
                member.resize(member.len() + (n * 7 + round / 30_000) % long, b'x');
                let score = rng.index(100) as f64;
                let add = rng.index(10) < if round < rounds / 2 { 7 } else { 3 };
                if !add
                    && round % 8 != 0
                    && let Some((other, _)) = model.range(member.clone()..).next()
                {
                    member = other.clone();
                }
                match model.get(&member).copied() {
                    None if add => {
                        assert_eq!(members.find(&member), None);
                        let id = members.add(&member, score);
                        model.insert(member, (id, score));
                    }
                    Some((id, _)) if add => {
                        members.set_score(id, score);
                        model.insert(member, (id, score));
                    }
                    Some((id, _)) => {
                        members.remove(id);
                        model.remove(&member);
                    }
                    None => assert_eq!(members.find(&member), None),
                }
                if let Some((old, new)) = members.next_move() {
                    moves += 1;
                    assert_eq!(members.member(old), members.member(new));
                    let member = members.member(new).to_vec();
                    let known = model.get_mut(&member).unwrap();
                    assert_eq!(known.0, old);
                    known.0 = new;
                }
                if round % (rounds / 40) == 0 {
                    check(&members, &model);
                }
            }
            check(&members, &model);
            assert!(moves > 100, "{moves}");
            for (member, _) in std::mem::take(&mut model) {
                members.remove(members.find(&member).unwrap());
                for _ in 0..2 {
                    members.next_move();
                }
            }
            while members.next_move().is_some() || !members.moving.is_empty() {}
            assert!(members.used * UNIT < 2 * DEAD_SLACK * UNIT + CHUNK);
            assert!(members.memory() < 40_000, "{}", members.memory());
        }
    }

    #[test]
    fn a_scan_sees_all_that_stays() {
        for (before, after) in [(10u32, 4000u32), (4000, 10), (1000, 1000)] {
            let mut members = Members::default();
            for n in 0..before.max(10) {
                members.add(&n.to_le_bytes(), 0.0);
            }
            let (mut seen, mut cursor, mut next, mut oldest) =
                (BTreeSet::new(), 0, before.max(10), 10u32);
            loop {
                cursor = members.scan(cursor, |id| {
                    seen.insert(members.member(id).to_vec());
                });
                if cursor == 0 {
                    break;
                }
                // Change the size while the scan is under way; 0..10 stay.
                for _ in 0..40 {
                    if members.len() < after as usize {
                        members.add(&next.to_le_bytes(), 0.0);
                        next += 1;
                    } else if members.len() > after as usize && members.len() > 10 {
                        members.remove(members.find(&oldest.to_le_bytes()).unwrap());
                        oldest += 1;
                    }
                    members.next_move();
                }
            }
            for n in 0..10u32 {
                assert!(seen.contains(&n.to_le_bytes()[..]), "{before} {after} {n}");
            }
        }
    }
}
