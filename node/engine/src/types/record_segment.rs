//! One part of a [`RecordTable`](super::record_table::RecordTable): some thousand records in one buffer, and where each lies.
//!
//! ```text
//! tags:   8 bits of each slot's hash, 0 for a free slot        probed linearly from the slot that the hash's high bits name
//! slots:  offset of the slot's record in `data`
//! data:   record …
//!
//! record: | head: varint of key length << 3 | flags | (expiry u64 LE) | value length: varint | key | value |
//!         | head: flags only                        | (expiry u64 LE) | index into `large`: u32 LE         |   a large one
//! flags:  1 removed    2 has an expiry    4 lies in an allocation of its own
//! ```
//!
//! A field and a value of 12 bytes each take 26 bytes and a slot of 5. Removed records are squeezed out when they are a quarter of
//! the buffer. Every operation is bounded by the segment's size, which the table keeps to some hundred KiB.

use crate::keyspace::entry::NEVER;

/// Slots of the smallest segment.
const SLOTS_MIN: usize = 8;
/// Slots of the largest segment.
const SLOTS_MAX: usize = 4096;
/// Beyond so many bytes of records a segment is to be split.
const DATA_MAX: usize = 256 * 1024;
/// Records whose key and value exceed this lie in allocations of their own.
pub(super) const INLINE_MAX: usize = 1024;
/// A buffer may have so many bytes of removed records beyond a quarter of its length.
const DEAD_SLACK: usize = 128;

const REMOVED: u8 = 1;
const EXPIRES: u8 = 2;
const LARGE: u8 = 4;
const FLAG_BITS: u32 = 3;

const K: [u64; 3] = [
    0x9e37_79b9_7f4a_7c15,
    0xd6e8_feb8_6659_fd93,
    0xa076_1d64_78bd_642f,
];

#[inline]
fn fold(a: u64, b: u64) -> u64 {
    let m = u128::from(a) * u128::from(b);
    m as u64 ^ (m >> 64) as u64
}

/// Hash of a record's key, the same in every process: equal histories give equal orders.
#[inline]
pub fn record_hash(key: &[u8]) -> u64 {
    let mut h = K[0] ^ key.len() as u64;
    let mut rest = key;
    while let Some((block, tail)) = rest.split_first_chunk::<16>() {
        let (a, b) = block.split_at(8);
        h = fold(word(a) ^ h, word(b) ^ K[1]).wrapping_add(K[2]);
        rest = tail;
    }
    // Fewer than 16 bytes are left: two words that overlap where there are fewer than that.
    let (a, b) = match rest.len() {
        8.. => (word(rest), word(&rest[rest.len() - 8..])),
        4.. => (half(rest), half(&rest[rest.len() - 4..])),
        1.. => (
            u64::from(rest[0]) << 8 | u64::from(rest[rest.len() / 2]),
            u64::from(rest[rest.len() - 1]),
        ),
        0 => (0, 0),
    };
    fold(fold(a ^ h ^ K[1], b ^ K[0]), h ^ K[2])
}

#[inline]
fn word(bytes: &[u8]) -> u64 {
    bytes.first_chunk().map_or(0, |b| u64::from_le_bytes(*b))
}

#[inline]
fn half(bytes: &[u8]) -> u64 {
    bytes
        .first_chunk()
        .map_or(0, |b| u64::from(u32::from_le_bytes(*b)))
}

/// A record, to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Its key: a hash's field, a set's member.
    pub key: &'a [u8],
    /// Its value; a set's members have none.
    pub value: &'a [u8],
    /// When it expires, in Unix milliseconds; `u64::MAX`: never.
    pub expire_at_ms: u64,
}

/// A record in an allocation of its own.
#[derive(Clone, Debug)]
struct Large {
    /// Offset in `data` of the record that points here.
    at: u32,
    key_len: u32,
    /// Key and value.
    bytes: Box<[u8]>,
}

/// Where the parts of a record lie.
#[derive(Clone, Copy)]
struct Layout {
    flags: u8,
    /// Behind the head: the expiry, if there is one.
    fields: usize,
    key: usize,
    key_len: usize,
    value_len: usize,
    end: usize,
}

/// See the module's documentation.
#[derive(Clone, Debug)]
pub(super) struct Segment {
    tags: Box<[u8]>,
    slots: Box<[u32]>,
    data: Vec<u8>,
    large: Vec<Large>,
    /// Bytes of removed records in `data`.
    dead: u32,
    count: u32,
    /// How many high bits of the hash all records here have in common: those of `prefix`.
    pub depth: u32,
    /// The smallest hash that belongs here.
    pub prefix: u64,
}

#[inline]
fn tag(hash: u64) -> u8 {
    (hash as u8).max(1)
}

#[inline]
fn varint(data: &[u8], mut at: usize) -> (usize, usize) {
    let first = data[at];
    at += 1;
    if first < 0x80 {
        return (usize::from(first), at);
    }
    let mut n = usize::from(first & 0x7f);
    let mut shift = 7;
    loop {
        let b = data[at];
        at += 1;
        n |= usize::from(b & 0x7f) << shift;
        if b < 0x80 {
            return (n, at);
        }
        shift += 7;
    }
}

fn push_varint(data: &mut Vec<u8>, mut n: usize) {
    while n >= 0x80 {
        data.push(n as u8 | 0x80);
        n >>= 7;
    }
    data.push(n as u8);
}

impl Segment {
    pub fn new(depth: u32, prefix: u64) -> Self {
        Segment {
            tags: vec![0; SLOTS_MIN].into(),
            slots: vec![0; SLOTS_MIN].into(),
            data: Vec::new(),
            large: Vec::new(),
            dead: 0,
            count: 0,
            depth,
            prefix,
        }
    }

    /// A segment with room for so many records, as far as one may have.
    pub fn with_capacity(records: usize) -> Self {
        let mut segment = Segment::new(0, 0);
        let slots = slots_for(records.min(SLOTS_MAX / 2));
        segment.tags = vec![0; slots].into();
        segment.slots = vec![0; slots].into();
        segment
    }

    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// Bits of the hash that tell one slot from the next: the width of a slot is two to this power.
    #[inline]
    pub fn slot_shift(&self) -> u32 {
        64 - self.depth - self.tags.len().trailing_zeros()
    }

    #[inline]
    fn home(&self, hash: u64) -> usize {
        (hash >> self.slot_shift()) as usize & (self.tags.len() - 1)
    }

    #[inline]
    fn layout(&self, at: usize) -> Layout {
        let (head, mut next) = varint(&self.data, at);
        let flags = head as u8 & ((1 << FLAG_BITS) - 1);
        let fields = next;
        if flags & EXPIRES != 0 {
            next += 8;
        }
        if flags & LARGE != 0 {
            return Layout {
                flags,
                fields,
                key: next,
                key_len: 0,
                value_len: 0,
                end: next + 4,
            };
        }
        let (value_len, key) = varint(&self.data, next);
        let key_len = head >> FLAG_BITS;
        Layout {
            flags,
            fields,
            key,
            key_len,
            value_len,
            end: key + key_len + value_len,
        }
    }

    #[inline]
    fn large_index(&self, l: &Layout) -> usize {
        half(&self.data[l.key..]) as usize
    }

    #[inline]
    fn record_of(&self, l: &Layout) -> Record<'_> {
        let expire_at_ms = if l.flags & EXPIRES != 0 {
            word(&self.data[l.fields..])
        } else {
            NEVER
        };
        let (key, value) = if l.flags & LARGE != 0 {
            let large = &self.large[self.large_index(l)];
            large.bytes.split_at(large.key_len as usize)
        } else {
            self.data[l.key..l.end].split_at(l.key_len)
        };
        Record {
            key,
            value,
            expire_at_ms,
        }
    }

    /// The slot of a key.
    #[inline]
    pub fn find(&self, hash: u64, key: &[u8]) -> Option<usize> {
        let mask = self.tags.len() - 1;
        let wanted = tag(hash);
        let mut slot = self.home(hash);
        loop {
            match self.tags[slot] {
                0 => return None,
                t if t == wanted && self.get(slot).key == key => return Some(slot),
                _ => slot = (slot + 1) & mask,
            }
        }
    }

    /// The record of a slot in use.
    #[inline]
    pub fn get(&self, slot: usize) -> Record<'_> {
        self.record_of(&self.layout(self.slots[slot] as usize))
    }

    /// The record of a slot, if it is in use; for drawing at random.
    pub fn at_slot(&self, slot: usize) -> Option<Record<'_>> {
        (self.tags[slot] != 0).then(|| self.get(slot))
    }

    pub fn slots_len(&self) -> usize {
        self.tags.len()
    }

    /// The first record at or behind an offset that is a record's or the end, and the offset behind it.
    pub fn walk(&self, mut at: usize) -> Option<(Record<'_>, usize)> {
        while at < self.data.len() {
            let l = self.layout(at);
            if l.flags & REMOVED == 0 {
                return Some((self.record_of(&l), l.end));
            }
            at = l.end;
        }
        None
    }

    /// Reports the records whose hash is in `[from, to]`, with their hashes. `from` must belong here.
    pub fn range(&self, from: u64, to: u64, mut report: impl FnMut(u64, Record<'_>)) {
        let mask = self.tags.len() - 1;
        let first = self.home(from);
        // All whose home is in the range lie between it and the first free slot behind it.
        let span = ((to >> self.slot_shift()) - (from >> self.slot_shift())) as usize;
        for i in 0..self.tags.len() {
            let slot = (first + i) & mask;
            if self.tags[slot] == 0 {
                if i >= span {
                    break;
                }
                continue;
            }
            let record = self.get(slot);
            let hash = record_hash(record.key);
            if (from..=to).contains(&hash) {
                report(hash, record);
            }
        }
    }

    /// Whether the segment should be split before it takes another record.
    pub fn is_full(&self) -> bool {
        (self.count as usize + 1) * 8 > SLOTS_MAX * 7
            || self.data.len() - self.dead as usize > DATA_MAX
    }

    /// Whether a segment and its sibling together would make one that is far from full.
    pub fn fits_with(&self, other: &Segment) -> bool {
        self.depth == other.depth
            && (self.count + other.count) as usize <= SLOTS_MAX / 8
            && self.data.len() + other.data.len() <= DATA_MAX / 4
    }

    /// Adds a record whose key is not here yet.
    pub fn insert(&mut self, hash: u64, key: &[u8], value: &[u8], expire_at_ms: u64) {
        if (self.count as usize + 1) * 8 > self.tags.len() * 7 {
            self.rebuild(self.tags.len() * 2);
        }
        let at = self.append(key, value, expire_at_ms);
        self.count += 1;
        self.link(hash, at);
    }

    fn link(&mut self, hash: u64, at: u32) {
        let mask = self.tags.len() - 1;
        let mut slot = self.home(hash);
        while self.tags[slot] != 0 {
            slot = (slot + 1) & mask;
        }
        self.tags[slot] = tag(hash);
        self.slots[slot] = at;
    }

    /// Room for so many more bytes. Grows by an eighth, so that little lies idle.
    fn reserve(&mut self, more: usize) {
        let len = self.data.len();
        if self.data.capacity() - len < more {
            let grown = (len + more).max(len + len / 8 + 32);
            self.data.reserve_exact(grown.next_multiple_of(16) - len);
        }
    }

    fn append(&mut self, key: &[u8], value: &[u8], expire_at_ms: u64) -> u32 {
        let at = u32::try_from(self.data.len()).expect("a segment is below 4 GiB");
        let expires = expire_at_ms != NEVER;
        let flags = if expires { EXPIRES } else { 0 };
        let large = key.len() + value.len() > INLINE_MAX || self.data.len() > u32::MAX as usize / 2;
        if large {
            self.reserve(16);
            self.data.push(flags | LARGE);
        } else {
            self.reserve(key.len() + value.len() + 16);
            push_varint(&mut self.data, key.len() << FLAG_BITS | usize::from(flags));
        }
        if expires {
            self.data.extend_from_slice(&expire_at_ms.to_le_bytes());
        }
        if large {
            let index = self.large.len() as u32;
            self.data.extend_from_slice(&index.to_le_bytes());
            let mut bytes = Vec::with_capacity(key.len() + value.len());
            bytes.extend_from_slice(key);
            bytes.extend_from_slice(value);
            self.large.push(Large {
                at,
                key_len: u32::try_from(key.len()).expect("a key is below 4 GiB"),
                bytes: bytes.into(),
            });
        } else {
            push_varint(&mut self.data, value.len());
            self.data.extend_from_slice(key);
            self.data.extend_from_slice(value);
        }
        at
    }

    /// Marks a record as removed.
    fn bury(&mut self, at: usize) {
        let l = self.layout(at);
        if l.flags & LARGE != 0 {
            let index = self.large_index(&l);
            self.large.swap_remove(index);
            if let Some(moved) = self.large.get(index) {
                let link = self.layout(moved.at as usize).key;
                self.data[link..link + 4].copy_from_slice(&(index as u32).to_le_bytes());
            }
            if self.large.len() * 4 < self.large.capacity() {
                self.large.shrink_to(self.large.len() * 2);
            }
        }
        self.data[at] |= REMOVED;
        self.dead += (l.end - at) as u32;
    }

    /// Gives the record in a slot another value and expiry.
    pub fn update(&mut self, slot: usize, value: &[u8], expire_at_ms: u64) {
        let at = self.slots[slot] as usize;
        let l = self.layout(at);
        let expires = expire_at_ms != NEVER;
        let same_shape = expires == (l.flags & EXPIRES != 0);
        if same_shape && l.flags & LARGE == 0 && l.value_len == value.len() {
            self.data[l.end - value.len()..l.end].copy_from_slice(value);
            if expires {
                self.data[l.fields..l.fields + 8].copy_from_slice(&expire_at_ms.to_le_bytes());
            }
            return;
        }
        let key = self.record_of(&l).key.to_vec();
        self.bury(at);
        if self.wasteful() {
            // The slot must not point to what is squeezed out.
            let hash = record_hash(&key);
            self.unlink(slot);
            self.count -= 1;
            self.rebuild(self.tags.len());
            self.insert(hash, &key, value, expire_at_ms);
        } else {
            self.slots[slot] = self.append(&key, value, expire_at_ms);
        }
    }

    /// Changes the expiry of the record in a slot.
    pub fn set_expiry(&mut self, slot: usize, expire_at_ms: u64) {
        let l = self.layout(self.slots[slot] as usize);
        if expire_at_ms != NEVER && l.flags & EXPIRES != 0 {
            self.data[l.fields..l.fields + 8].copy_from_slice(&expire_at_ms.to_le_bytes());
            return;
        }
        let value = self.record_of(&l).value.to_vec();
        self.update(slot, &value, expire_at_ms);
    }

    fn wasteful(&self) -> bool {
        self.dead as usize > self.data.len() / 4 + DEAD_SLACK
    }

    /// Frees a slot; those behind it that belong before it move up.
    fn unlink(&mut self, slot: usize) {
        let mask = self.tags.len() - 1;
        let mut hole = slot;
        let mut next = (slot + 1) & mask;
        while self.tags[next] != 0 {
            let home = self.home(record_hash(self.get(next).key));
            if (next.wrapping_sub(home) & mask) >= (next.wrapping_sub(hole) & mask) {
                self.tags[hole] = self.tags[next];
                self.slots[hole] = self.slots[next];
                hole = next;
            }
            next = (next + 1) & mask;
        }
        self.tags[hole] = 0;
    }

    /// Removes the record in a slot.
    pub fn remove(&mut self, slot: usize) {
        let at = self.slots[slot] as usize;
        self.unlink(slot);
        self.bury(at);
        self.count -= 1;
        let sparse = self.tags.len() > SLOTS_MIN && (self.count as usize) * 8 < self.tags.len();
        if sparse {
            self.rebuild(slots_for(self.count as usize));
        } else if self.wasteful() {
            self.rebuild(self.tags.len());
        }
    }

    /// Squeezes removed records out and links all anew.
    fn rebuild(&mut self, slots: usize) {
        if self.dead > 0 {
            let live = self.data.len() - self.dead as usize;
            let room = live + if self.count > 0 { live / 8 + 32 } else { 0 };
            let mut data = Vec::with_capacity(room.next_multiple_of(16));
            let mut at = 0;
            while at < self.data.len() {
                let l = self.layout(at);
                if l.flags & REMOVED == 0 {
                    if l.flags & LARGE != 0 {
                        let index = self.large_index(&l);
                        self.large[index].at = data.len() as u32;
                    }
                    data.extend_from_slice(&self.data[at..l.end]);
                }
                at = l.end;
            }
            self.data = data;
            self.dead = 0;
        }
        if self.tags.len() == slots {
            self.tags.fill(0);
        } else {
            self.tags = vec![0; slots].into();
            self.slots = vec![0; slots].into();
        }
        let mut at = 0;
        while at < self.data.len() {
            let l = self.layout(at);
            let hash = record_hash(self.record_of(&l).key);
            self.link(hash, at as u32);
            at = l.end;
        }
    }

    /// Moves all records of `from` here. To be called when `depth` and `prefix` cover both.
    pub fn absorb(&mut self, from: &mut Segment) {
        let mut at = 0;
        while at < from.data.len() {
            let l = from.layout(at);
            if l.flags & REMOVED == 0 {
                let to = self.data.len() as u32;
                self.reserve(l.end - at);
                self.data.extend_from_slice(&from.data[at..l.end]);
                if l.flags & LARGE != 0 {
                    let large = &mut from.large[half(&from.data[l.key..]) as usize];
                    let link = to as usize + (l.key - at);
                    let index = self.large.len() as u32;
                    self.data[link..link + 4].copy_from_slice(&index.to_le_bytes());
                    self.large.push(Large {
                        at: to,
                        key_len: large.key_len,
                        bytes: std::mem::take(&mut large.bytes),
                    });
                }
                self.count += 1;
            }
            at = l.end;
        }
        self.rebuild(slots_for(self.count as usize));
    }

    /// Splits by the first bit that tells the records apart: the upper half is returned. The lower stays.
    pub fn split(&mut self) -> Segment {
        let bit = 1u64 << (63 - self.depth);
        let mut halves = [
            Segment::new(self.depth + 1, self.prefix),
            Segment::new(self.depth + 1, self.prefix | bit),
        ];
        // Room first, so that each half is built once.
        let (mut bytes, mut counts) = ([0usize; 2], [0usize; 2]);
        let mut at = 0;
        while at < self.data.len() {
            let l = self.layout(at);
            if l.flags & REMOVED == 0 {
                let side = usize::from(record_hash(self.record_of(&l).key) & bit != 0);
                bytes[side] += l.end - at;
                counts[side] += 1;
            }
            at = l.end;
        }
        for (side, half) in halves.iter_mut().enumerate() {
            half.reserve(bytes[side] + bytes[side] / 8 + 32);
            let slots = slots_for(counts[side]);
            half.tags = vec![0; slots].into();
            half.slots = vec![0; slots].into();
        }
        let mut at = 0;
        while at < self.data.len() {
            let l = self.layout(at);
            if l.flags & REMOVED == 0 {
                let hash = record_hash(self.record_of(&l).key);
                let half = &mut halves[usize::from(hash & bit != 0)];
                let to = half.data.len() as u32;
                half.data.extend_from_slice(&self.data[at..l.end]);
                if l.flags & LARGE != 0 {
                    let index = self.large_index(&l);
                    let link = to as usize + (l.key - at);
                    let new_index = half.large.len() as u32;
                    half.data[link..link + 4].copy_from_slice(&new_index.to_le_bytes());
                    half.large.push(Large {
                        at: to,
                        key_len: self.large[index].key_len,
                        bytes: std::mem::take(&mut self.large[index].bytes),
                    });
                }
                half.count += 1;
                half.link(hash, to);
            }
            at = l.end;
        }
        let [low, high] = halves;
        *self = low;
        high
    }

    /// Frees up to so many allocations of large records; how many. The segment is then fit for nothing but more of this, and to be
    /// dropped.
    pub fn discard(&mut self, most: usize) -> usize {
        let freed = most.min(self.large.len());
        self.large.truncate(self.large.len() - freed);
        freed
    }

    /// Bytes that the segment owns, without the room for more records and what removed ones still take: a copy has less of that.
    pub fn memory(&self) -> usize {
        self.tags.len() * 5 + self.data.len() - self.dead as usize
            + self.large.len() * size_of::<Large>()
            + self.large.iter().map(|l| l.bytes.len()).sum::<usize>()
    }
}

/// Slots for so many records, with room for as many again until they are too full.
fn slots_for(records: usize) -> usize {
    let mut slots = SLOTS_MIN;
    while records * 8 > slots * 7 {
        slots *= 2;
    }
    slots
}
