//! A hash table of entries that grows and shrinks one group at a time (linear hashing, W. Litwin 1980).
//!
//! ```text
//!  n = 6 groups, low mask 3:    0   1   2   3   4   5        hash & 7 if that is below 6, otherwise hash & 3
//!                               └───┼───────────┘   │        0 and 1 have been split already, into 0|4 and 1|5;
//!                                   └───────────────┘        the next insertion that needs it splits 2 into 2|6
//!
//!  directory word   where the group is (40 bits) │ entries (12) │ room for entries (12)
//!  group            ┌──────────┬──────────────────┐    tag    8 bits of the hash, not those that choose the group
//!                   │tags × cap│ 5 bytes × cap    │    entry  a reference into the slabs; the first n of both are in use
//!                   └──────────┴──────────────────┘
//! ```
//!
//! - A group has room for just about the entries that it has, two dozen; it is no chain and knows no overflow. With the directory a key
//!   takes less than 7 bytes, whatever the table's size, where buckets of a cache line take 11 to 14.
//! - There is no rehash that an insertion could stumble into, no second table, no peak of memory: an insertion splits
//!   at most one group, a removal merges at most one. Only the list of segments (8 bytes for 1024 groups) is ever moved.
//! - A group is split when there are more than [`FILL_MAX`] entries a group on average, and merged below [`FILL_MIN`].
//! - [`Table::scan`] goes through the low mask's groups in reverse binary order and visits a group together with its
//!   split-off half, so whatever is in the table throughout is reported, however the table grows and shrinks meanwhile.
//! - Keys that expire: a [`DueTree`] knows for each group when its first key does. There is no index of keys.
//!
//! # Soundness
//! A directory word below `groups` with room above 0 owns a piece of the engine's slabs of `cap × 6` bytes, whose first `n` tags and references are
//! initialized; each reference is an owned [`Entry`]. References to entries are handed out bounded by a borrow of the table. The table does not
//! hold its slabs: whoever adds or removes gives them, always the same ones; a table that is dropped drops its values and leaves its
//! memory to the slabs' own end.

use super::due::{DueTree, NEVER};
use super::entry::Entry;
use super::hash::KeyHasher;
#[cfg(test)]
use super::slabs::piece_bytes;
use super::slabs::{self, PIECE_MAX, Ref, Slabs};

/// Groups in a segment of the directory.
const SEGMENT: usize = 1024;

/// Average entries a group above which the table grows.
const FILL_MAX: usize = 24;
/// Average entries a group below which the table shrinks.
const FILL_MIN: usize = 9;
const _: () = assert!(
    FILL_MIN * 2 < FILL_MAX,
    "a split must not be undone by the next removal"
);

/// Groups that are made, and given up, in one step: a small part of a millisecond.
const GROUPS_A_STEP: usize = 32 * SEGMENT;
const MERGES_A_STEP: usize = 1000;

/// A group grows by room for so many entries.
const GROW: usize = 2;
/// A group shrinks when so much of its room is not used.
const SLACK_MAX: usize = 8;

/// Groups looked at with each split and merge, whether they lie alone in a page.
const TIDIED: usize = 8;

/// Bytes of a tag and a reference.
const SLOT: usize = 1 + size_of::<Entry>();
/// Entries that a group has room for at most. With a keyed hash of good quality groups stay below 100.
const GROUP_MAX: usize = PIECE_MAX / SLOT;

const LANES: u64 = 0x0101_0101_0101_0101;

/// A directory word, taken apart.
#[derive(Clone, Copy)]
struct Group {
    at: Ref,
    len: usize,
    cap: usize,
}

impl Group {
    #[inline]
    fn of(word: u64) -> Group {
        Group {
            at: Ref::from_bits(word & ((1 << 40) - 1)),
            len: (word >> 40) as usize & 0xfff,
            cap: (word >> 52) as usize,
        }
    }

    #[inline]
    fn word(self) -> u64 {
        self.at.bits() | (self.len as u64) << 40 | (self.cap as u64) << 52
    }

    /// The tags.
    ///
    /// # Safety
    /// The group must have room for something, and its slabs must live.
    #[inline]
    unsafe fn tags(self) -> *mut u8 {
        // SAFETY: as the caller promises.
        unsafe { self.at.address() }
    }

    /// The references.
    ///
    /// # Safety
    /// As for [`tags`](Self::tags).
    #[inline]
    unsafe fn entries(self) -> *mut Entry {
        // SAFETY: behind `cap` tags; within the piece.
        unsafe { self.at.address().add(self.cap).cast() }
    }
}
const _: () = assert!(GROUP_MAX < 1 << 12 && GROW * size_of::<Entry>() >= size_of::<u64>());

/// Which of the next tags are this one, a bit for each, and how many tags were looked at. Some may not be tags any more, but what lies
/// behind them in the group's piece.
///
/// # Safety
/// `tags` is a tag of a group; `room` bytes from there on are the group's.
#[inline(always)]
unsafe fn equal_tags(tags: *const u8, room: usize, tag: u8) -> (u32, usize) {
    #[cfg(target_arch = "x86_64")]
    if room >= 16 {
        use std::arch::x86_64::{
            __m128i, _mm_cmpeq_epi8, _mm_loadu_si128, _mm_movemask_epi8, _mm_set1_epi8,
        };
        // SAFETY: as the caller promises; every x86-64 processor has these instructions.
        let equal = unsafe {
            let here = _mm_loadu_si128(tags.cast::<__m128i>());
            _mm_movemask_epi8(_mm_cmpeq_epi8(here, _mm_set1_epi8(tag as i8)))
        };
        return (equal as u32, 16);
    }
    debug_assert!(room >= 8);
    const LOW: u64 = 0x7f * LANES;
    // SAFETY: as the caller promises: behind the last tag there are references, which are longer than a word.
    let here = unsafe { tags.cast::<u64>().read_unaligned() };
    let x = here.to_le() ^ (LANES * u64::from(tag));
    // The high bit of each byte that is zero; exact, no carry crosses a byte.
    let equal = !(((x & LOW) + LOW) | x | LOW);
    // The eight bits side by side.
    let equal = (equal >> 7).wrapping_mul(0x0102_0408_1020_4080) >> 56;
    (equal as u32, 8)
}

#[inline]
fn tag_of(hash: u64) -> u8 {
    (hash >> 56) as u8
}

/// See the module's documentation.
pub(crate) struct Table {
    /// The directory: the first segment is as long as there are groups, up to [`SEGMENT`].
    segments: Vec<Vec<u64>>,
    groups: usize,
    /// `groups.next_power_of_two() - 1`
    mask: usize,
    used: usize,
    /// Entries with an expiry.
    volatile: usize,
    due: Option<Box<DueTree>>,
    /// So many entries are on their way, and groups are made with room for their share; 0 when none are.
    expected: usize,
    /// The group from which on [`tidy`](Self::tidy) goes on.
    untidy: usize,
}

impl Default for Table {
    fn default() -> Self {
        Table {
            segments: vec![vec![0]],
            groups: 1,
            mask: 0,
            used: 0,
            volatile: 0,
            due: None,
            expected: 0,
            untidy: 0,
        }
    }
}

impl Table {
    /// Number of entries.
    #[inline]
    pub fn len(&self) -> usize {
        self.used
    }

    /// Number of entries with an expiry.
    pub fn volatile(&self) -> usize {
        self.volatile
    }

    /// About the bytes that the table takes beside its entries, without looking at every group.
    pub fn overhead_bytes(&self) -> usize {
        self.segments
            .iter()
            .map(|s| s.capacity() * 8)
            .sum::<usize>()
            + self.used * SLOT
            + self.groups * GROW / 2 * SLOT
            + self.due.as_ref().map_or(0, |d| d.bytes())
    }

    /// Bytes that the table takes beside its entries: groups, directory, times.
    #[cfg(test)]
    fn own_bytes(&self) -> usize {
        let directory: usize = self.segments.iter().map(|s| s.capacity() * 8).sum();
        let groups: usize = (0..self.groups)
            .map(|index| match self.group(index).cap {
                0 => 0,
                cap => piece_bytes(cap * SLOT),
            })
            .sum();
        directory + groups + self.due.as_ref().map_or(0, |d| d.bytes())
    }

    #[inline]
    fn index(&self, hash: u64) -> usize {
        let at = hash as usize & self.mask;
        if at < self.groups {
            at
        } else {
            at & self.mask >> 1
        }
    }

    #[inline]
    fn group(&self, index: usize) -> Group {
        Group::of(self.segments[index / SEGMENT][index % SEGMENT])
    }

    #[inline]
    fn set_group(&mut self, index: usize, group: Group) {
        self.segments[index / SEGMENT][index % SEGMENT] = group.word();
    }

    /// The place in its group of the entry that has this hash and passes `is`.
    #[inline]
    fn position(
        &self,
        hash: u64,
        is: impl Fn(&Entry) -> bool,
    ) -> Option<(usize, usize, *mut Entry)> {
        let index = self.index(hash);
        let group = self.group(index);
        if group.len == 0 {
            return None;
        }
        let tag = tag_of(hash);
        // SAFETY: the group has `len` tags and references, in `cap` × SLOT bytes.
        unsafe {
            let (tags, entries) = (group.tags(), group.entries());
            let mut at = 0;
            while at < group.len {
                let (mut found, count) = equal_tags(tags.add(at), group.cap * SLOT - at, tag);
                while found != 0 {
                    let slot = at + found.trailing_zeros() as usize;
                    if slot >= group.len {
                        return None;
                    }
                    let entry = entries.add(slot);
                    if is(&*entry) {
                        return Some((index, slot, entry));
                    }
                    found &= found - 1;
                }
                at += count;
            }
        }
        None
    }

    /// Asks the processor to fetch the directory word of a hash: the first of the steps on the way to an entry, each of which
    /// waits for memory if the one before was not asked for early enough.
    #[inline]
    pub fn prefetch_word(&self, hash: u64) {
        let index = self.index(hash);
        slabs::prefetch((&raw const self.segments[index / SEGMENT][index % SEGMENT]).cast());
    }

    /// The second step: tags and references.
    #[inline]
    pub fn prefetch_group(&self, hash: u64) {
        let group = self.group(self.index(hash));
        if group.len > 0 {
            // SAFETY: a group with something in it owns a piece.
            let at = unsafe { group.tags() };
            (0..group.cap * SLOT)
                .step_by(64)
                .for_each(|line| slabs::prefetch(at.wrapping_add(line)));
        }
    }

    /// The third step: the entry that has the hash's tag, which is most probably the one. Returns where it is.
    #[inline]
    pub fn prefetch_entry(&self, hash: u64) -> Option<(usize, usize)> {
        let (index, slot, entry) = self.position(hash, |_| true)?;
        // SAFETY: `position` returned an entry of this table, which is borrowed.
        unsafe { (*entry).prefetch() };
        Some((index, slot))
    }

    /// The last step: what the entry that is there now points to.
    #[inline]
    pub fn prefetch_value(&self, index: usize, slot: usize) {
        if index < self.groups {
            let group = self.group(index);
            if slot < group.len {
                // SAFETY: the first `len` references of a group are entries of this table, which is borrowed.
                unsafe { (*group.entries().add(slot)).prefetch_value() };
            }
        }
    }

    /// The entry that has this hash and passes `is`.
    #[inline]
    pub fn find(&self, hash: u64, is: impl Fn(&Entry) -> bool) -> Option<&Entry> {
        let (_, _, entry) = self.position(hash, is)?;
        // SAFETY: `position` returned an entry of this table; the borrow of the table covers it.
        Some(unsafe { &*entry })
    }

    /// As [`find`](Self::find), to change. Key and hash must stay what they are.
    #[inline]
    pub fn find_mut(&mut self, hash: u64, is: impl Fn(&Entry) -> bool) -> Option<&mut Entry> {
        let (_, _, entry) = self.position(hash, is)?;
        // SAFETY: as above, and the table is borrowed exclusively.
        Some(unsafe { &mut *entry })
    }

    /// Adds an entry whose key must not be in the table yet, and returns it in its place.
    pub fn insert(
        &mut self,
        hash: u64,
        entry: Entry,
        hasher: KeyHasher,
        slabs: &mut Slabs,
    ) -> &mut Entry {
        self.used += 1;
        if self.used > self.groups * FILL_MAX {
            self.split(hasher, slabs);
        }
        let index = self.index(hash);
        let until = entry.expire_at_ms();
        if until != NEVER {
            self.volatile += 1;
            self.due.get_or_insert_default().note(index, until);
        }
        let entry = self.push(index, tag_of(hash), entry, slabs);
        // SAFETY: `push` returned where it has put the entry; the table is borrowed exclusively.
        unsafe { &mut *entry }
    }

    /// Adds an entry to a group.
    fn push(&mut self, index: usize, tag: u8, entry: Entry, slabs: &mut Slabs) -> *mut Entry {
        let mut group = self.group(index);
        if group.len == group.cap {
            let cap = match group.cap {
                0 if self.expected > 0 => self.share(index),
                cap => cap + GROW,
            };
            group = resize(group, cap, slabs);
        }
        // SAFETY: the group has room for one more.
        let place = unsafe {
            group.tags().add(group.len).write(tag);
            let place = group.entries().add(group.len);
            place.write(entry);
            place
        };
        group.len += 1;
        self.set_group(index, group);
        place
    }

    /// Makes a table without entries ready for so many: then it need not be split while they come. To be called until it says that there is
    /// no more to do. What comes may be less, or more; [`settle`](Self::settle) is called at the end.
    pub fn reserve(&mut self, entries: usize) -> bool {
        let groups = entries.div_ceil(FILL_MAX);
        if self.used > 0 || self.groups >= groups {
            return false;
        }
        let upto = groups.min(self.groups + GROUPS_A_STEP);
        while self.groups < upto {
            let in_segment = self.groups % SEGMENT;
            if in_segment == 0 {
                self.segments.push(Vec::with_capacity(SEGMENT));
            }
            let more = (SEGMENT - in_segment).min(upto - self.groups);
            if let Some(segment) = self.segments.last_mut() {
                segment.resize(in_segment + more, 0);
            }
            self.groups += more;
        }
        self.mask = self.groups.next_power_of_two() - 1;
        self.expected = entries;
        self.groups < groups
    }

    /// Nearly the room that a group will need for its share of the entries that are expected; somewhat less, since some get fewer.
    fn share(&self, index: usize) -> usize {
        let (low, split) = self.level();
        let halves = if index < split || index > low { 2 } else { 1 };
        let share = self.expected / (low + 1) / halves;
        (share - share / 4)
            .clamp(1, FILL_MAX * 2)
            .next_multiple_of(GROW)
    }

    /// No more entries are expected. Gives up groups if there are far too many, some with each call. Whether there is more to do.
    pub fn settle(&mut self, slabs: &mut Slabs) -> bool {
        self.expected = 0;
        for _ in 0..MERGES_A_STEP {
            if self.groups == 1 || self.used >= self.groups * FILL_MIN {
                return false;
            }
            self.merge(slabs);
        }
        true
    }

    /// Removes the entry that has this hash and passes `is`.
    pub fn remove(
        &mut self,
        hash: u64,
        is: impl Fn(&Entry) -> bool,
        slabs: &mut Slabs,
    ) -> Option<Entry> {
        let (index, slot, place) = self.position(hash, is)?;
        let mut group = self.group(index);
        group.len -= 1;
        // SAFETY: the last entry takes the place of the removed one, whose ownership goes to the caller.
        let entry = unsafe {
            let entry = place.read();
            group
                .tags()
                .add(slot)
                .write(group.tags().add(group.len).read());
            place.write(group.entries().add(group.len).read());
            entry
        };
        if group.cap - group.len > SLACK_MAX {
            group = resize(group, group.len.next_multiple_of(GROW), slabs);
        }
        self.set_group(index, group);
        self.used -= 1;
        self.volatile -= usize::from(entry.expire_at_ms() != NEVER);
        if self.groups > 1 && self.used < self.groups * FILL_MIN {
            self.merge(slabs);
        }
        Some(entry)
    }

    /// Takes the content out of a group, and gives its memory up.
    fn empty_group(&mut self, index: usize, slabs: &mut Slabs, mut taken: impl FnMut(u8, Entry)) {
        let group = self.group(index);
        self.set_group(
            index,
            Group {
                len: 0,
                cap: 0,
                ..group
            },
        );
        if group.cap == 0 {
            return;
        }
        // SAFETY: the group is forgotten already; each entry goes to the caller once, then the piece is freed.
        unsafe {
            for slot in 0..group.len {
                taken(
                    group.tags().add(slot).read(),
                    group.entries().add(slot).read(),
                );
            }
            slabs.free(group.at, group.cap * SLOT);
        }
    }

    /// Adds a group and moves into it what belongs there.
    fn split(&mut self, hasher: KeyHasher, slabs: &mut Slabs) {
        let new = self.groups;
        if new.is_multiple_of(SEGMENT) && new > 0 {
            self.segments.push(Vec::with_capacity(SEGMENT));
        }
        if let Some(segment) = self.segments.last_mut() {
            segment.push(0);
        }
        self.groups += 1;
        self.mask = self.groups.next_power_of_two() - 1;
        let old = new & self.mask >> 1;
        let mut group = self.group(old);
        if group.cap == 0 {
            return;
        }
        // SAFETY: entries of the group are looked at one after the other; one that moves gives its place to the last.
        unsafe {
            for slot in 0..group.len {
                (*group.entries().add(slot)).prefetch();
            }
            let mut slot = 0;
            while slot < group.len {
                let place = group.entries().add(slot);
                if self.index(hasher.hash((*place).key())) == old {
                    slot += 1;
                    continue;
                }
                let (tag, entry) = (group.tags().add(slot).read(), place.read());
                group.len -= 1;
                group
                    .tags()
                    .add(slot)
                    .write(group.tags().add(group.len).read());
                place.write(group.entries().add(group.len).read());
                self.push(new, tag, entry, slabs);
            }
        }
        group = resize(group, group.len.next_multiple_of(GROW).max(GROW), slabs);
        self.set_group(old, group);
        if let Some(due) = &mut self.due {
            // Which of the two it was does not matter: too early is not wrong.
            let at = due.at(old);
            if at != NEVER {
                due.note(new, at);
            }
        }
        self.tidy(slabs);
    }

    /// As a table grows, the sizes of its groups go up and down in waves, and leave pages behind of which little is in use: what is left there
    /// moves to where there is more. This saves nearly a byte a key.
    fn tidy(&mut self, slabs: &mut Slabs) {
        for _ in 0..TIDIED.min(self.groups) {
            self.untidy = if self.untidy + 1 < self.groups {
                self.untidy + 1
            } else {
                0
            };
            let group = self.group(self.untidy);
            if group.cap > 0 && slabs.is_lonely(group.at) {
                let moved = place_again(group, slabs);
                self.set_group(self.untidy, moved);
            }
        }
    }

    /// Gives up the last group; its content goes back to where it was split off.
    fn merge(&mut self, slabs: &mut Slabs) {
        let last = self.groups - 1;
        let target = last & self.mask >> 1;
        let mut moved = Vec::with_capacity(self.group(last).len);
        self.empty_group(last, slabs, |tag, entry| moved.push((tag, entry)));
        self.groups = last;
        self.mask = self.groups.next_power_of_two() - 1;
        for (tag, entry) in moved {
            self.push(target, tag, entry, slabs);
        }
        if let Some(due) = &mut self.due {
            let at = due.at(last);
            if at != NEVER {
                due.note(target, at);
                due.set(last, NEVER);
            }
        }
        let whole = self.segments.len();
        if let Some(segment) = self.segments.last_mut() {
            segment.pop();
            if whole == 1 && segment.capacity() > 16 && segment.len() * 4 <= segment.capacity() {
                segment.shrink_to(segment.len() * 2);
            }
        }
        if last.is_multiple_of(SEGMENT) && whole > 1 {
            self.segments.pop();
        }
        self.tidy(slabs);
    }

    /// Changes when a key expires, [`NEVER`] being no expiry. Returns what it was; `None` if there is no such key.
    pub fn set_expiry(
        &mut self,
        hash: u64,
        is: impl Fn(&Entry) -> bool,
        at_ms: u64,
        slabs: &mut Slabs,
    ) -> Option<u64> {
        let (index, _, entry) = self.position(hash, is)?;
        // SAFETY: an entry of this table, which is borrowed exclusively.
        let entry = unsafe { &mut *entry };
        let old = entry.expire_at_ms();
        if old == at_ms {
            return Some(old);
        }
        entry.set_expire_at_ms(at_ms, slabs);
        self.volatile -= usize::from(old != NEVER);
        if at_ms != NEVER {
            self.volatile += 1;
            self.due.get_or_insert_default().note(index, at_ms);
        }
        Some(old)
    }

    /// The time at which the first key expires, or an earlier one; [`NEVER`].
    pub fn due(&self) -> u64 {
        self.due.as_ref().map_or(NEVER, |due| due.least())
    }

    /// The first group that is due before `now_ms`.
    pub fn due_group(&self, now_ms: u64) -> Option<usize> {
        self.due.as_ref()?.next_due(0, now_ms)
    }

    /// Number of groups, at least one.
    pub fn groups(&self) -> usize {
        self.groups
    }

    /// Number of entries up to which it does not grow.
    pub fn room(&self) -> usize {
        self.groups * FILL_MAX
    }

    /// Number of entries in a group; 0 if there is no such group.
    pub fn group_len(&self, index: usize) -> usize {
        if index < self.groups {
            self.group(index).len
        } else {
            0
        }
    }

    /// The entries of a group, and nothing if there is no such group.
    pub fn each_in_group(&self, index: usize, see: &mut dyn FnMut(&Entry)) {
        if index < self.groups {
            // SAFETY: `each_raw` reports entries of this table, which is borrowed for as long as the reference lives.
            self.each_raw(index, &mut |entry| see(unsafe { &*entry }));
        }
    }

    /// Sets when a group is next due to the earliest expiry that it has.
    pub fn settle_group(&mut self, index: usize) {
        let mut earliest = NEVER;
        self.each_in_group(index, &mut |entry| {
            earliest = earliest.min(entry.expire_at_ms());
        });
        if let Some(due) = &mut self.due {
            due.set(index, earliest);
            if due.least() == NEVER {
                self.due = None;
            }
        }
    }

    /// A random group that has, or had lately, keys that expire.
    pub fn volatile_group(&self, rng: &mut crate::rng::Rng) -> Option<usize> {
        self.due.as_ref()?.any(rng.index(self.groups))
    }

    fn each_raw(&self, index: usize, see: &mut dyn FnMut(*mut Entry)) {
        let group = self.group(index);
        if group.len == 0 {
            return;
        }
        // SAFETY: the group has that many references.
        unsafe {
            let entries = group.entries();
            for slot in 0..group.len {
                (*entries.add(slot)).prefetch();
            }
            for slot in 0..group.len {
                see(entries.add(slot));
            }
        }
    }

    /// The low mask, and how many of its groups have been split.
    fn level(&self) -> (usize, usize) {
        let low = 1 << self.groups.ilog2();
        (low - 1, self.groups - low)
    }

    fn scan_raw(&self, cursor: u64, see: &mut dyn FnMut(*mut Entry)) -> u64 {
        let (mask, split) = self.level();
        let at = cursor as usize & mask;
        self.each_raw(at, see);
        if at < split {
            self.each_raw(at + mask + 1, see);
        }
        next_cursor(cursor, mask)
    }

    /// Moves what the cursor's group holds, and the group itself, out of pages that are being emptied. Returns the next cursor, as
    /// [`scan`](Self::scan) does, and adds to how many pieces were moved and how many were not.
    pub fn relocate(&mut self, cursor: u64, slabs: &mut Slabs, moved: &mut (u64, u64)) -> u64 {
        let (mask, split) = self.level();
        let at = cursor as usize & mask;
        self.relocate_group(at, slabs, moved);
        if at < split {
            self.relocate_group(at + mask + 1, slabs, moved);
        }
        next_cursor(cursor, mask)
    }

    fn relocate_group(&mut self, index: usize, slabs: &mut Slabs, moved: &mut (u64, u64)) {
        let group = self.group(index);
        if group.cap == 0 {
            return;
        }
        for slot in 0..group.len {
            // SAFETY: a reference in use; the table is borrowed exclusively.
            let entry = unsafe { &mut *group.entries().add(slot) };
            if entry.relocate(slabs) {
                moved.0 += 1;
            } else {
                moved.1 += 1;
            }
        }
        if slabs.is_leaving(group.at) {
            let group = place_again(group, slabs);
            self.set_group(index, group);
        }
    }

    /// Reports the entries of the cursor's group and returns the next cursor; begin with 0, and 0 is the end. An entry that
    /// is in the table from the first call to the last is reported at least once.
    pub fn scan(&self, cursor: u64, see: &mut dyn FnMut(&Entry)) -> u64 {
        // SAFETY: `scan_raw` reports entries of this table; it is borrowed for as long as the reference lives.
        self.scan_raw(cursor, &mut |entry| see(unsafe { &*entry }))
    }

    /// As [`scan`](Self::scan), to change what is not the key.
    pub fn scan_mut(&mut self, cursor: u64, see: &mut dyn FnMut(&mut Entry)) -> u64 {
        // SAFETY: as above; the table is borrowed exclusively and each entry is reported once.
        self.scan_raw(cursor, &mut |entry| see(unsafe { &mut *entry }))
    }

    /// All entries.
    pub fn for_each(&self, see: &mut dyn FnMut(&Entry)) {
        for index in 0..self.groups {
            self.each_in_group(index, see);
        }
    }

    /// An entry, each with the same probability: a random place in a random group, until there is something in it.
    pub fn random(&self, rng: &mut crate::rng::Rng) -> Option<&Entry> {
        /// As long as nearly all groups ever get; entries of a longer one are a little less likely.
        const DRAW: usize = 64;
        if self.used == 0 {
            return None;
        }
        loop {
            let group = self.group(rng.index(self.groups));
            let slot = rng.index(DRAW.max(group.len));
            if slot < group.len {
                // SAFETY: a reference in use; the table is borrowed for as long as the returned one lives.
                return Some(unsafe { &*group.entries().add(slot) });
            }
        }
    }

    /// Gives up the memory of the groups of a table without entries.
    pub fn clear(&mut self, slabs: &mut Slabs) {
        debug_assert_eq!(self.used, 0);
        self.due = None;
        for index in 0..self.groups {
            self.empty_group(index, slabs, |_, _| {});
        }
    }

    /// Takes the entries of the last group and gives the group up: to empty a table in small steps. `false` when there
    /// was nothing left to take.
    pub fn pop_group(
        &mut self,
        slabs: &mut Slabs,
        mut taken: impl FnMut(&mut Slabs, Entry),
    ) -> bool {
        if self.used == 0 {
            if self.settle(slabs) {
                return true;
            }
            self.clear(slabs);
            return false;
        }
        let mut moved = Vec::new();
        self.empty_group(self.groups - 1, slabs, |_, entry| {
            entry.prefetch();
            moved.push(entry);
        });
        for entry in moved {
            self.used -= 1;
            taken(slabs, entry);
        }
        if self.groups > 1 {
            self.merge(slabs);
        }
        true
    }
}

/// The next cursor: the reversed one is incremented, so that the high bits of the mask count first.
fn next_cursor(cursor: u64, mask: usize) -> u64 {
    let next = (cursor | !(mask as u64)).reverse_bits().wrapping_add(1);
    next.reverse_bits()
}

/// Moves a group to other memory of the same size.
fn place_again(group: Group, slabs: &mut Slabs) -> Group {
    let bytes = group.cap * SLOT;
    let at = slabs.alloc(bytes);
    // SAFETY: both are pieces of that size, and different ones; the old one is not used after this.
    unsafe {
        std::ptr::copy_nonoverlapping(group.at.address(), at.address(), bytes);
        slabs.free(group.at, bytes);
    }
    Group { at, ..group }
}

/// Moves a group to memory with room for `cap` entries, at least as many as it has.
fn resize(group: Group, cap: usize, slabs: &mut Slabs) -> Group {
    let Group { at, len, cap: old } = group;
    assert!(
        len <= cap && cap <= GROUP_MAX,
        "{len} keys in one group: the hash of keys is broken"
    );
    if cap == old {
        return group;
    }
    if cap == 0 {
        // SAFETY: the group is empty, and forgets its piece.
        unsafe { slabs.free(at, old * SLOT) };
        return Group { at, len, cap };
    }
    let new = Group {
        at: slabs.alloc(cap * SLOT),
        len,
        cap,
    };
    if old > 0 {
        // SAFETY: both have room for `len`; the old piece is not used after this.
        unsafe {
            std::ptr::copy_nonoverlapping(group.tags(), new.tags(), len);
            std::ptr::copy_nonoverlapping(group.entries(), new.entries(), len);
            slabs.free(at, old * SLOT);
        }
    }
    new
}

impl Drop for Table {
    fn drop(&mut self) {
        if self.used == 0 {
            return;
        }
        for index in 0..self.groups {
            // SAFETY: each entry is seen once, and nobody looks at the table again.
            self.each_raw(index, &mut |entry| unsafe { (*entry).drop_value() });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;
    use std::collections::{BTreeMap, BTreeSet};

    const HASHER: fn() -> KeyHasher = || KeyHasher::new([7, 8]);

    #[test]
    fn equal_tags_are_found_in_pieces_of_any_size() {
        let mut rng = Rng::new(5);
        for _ in 0..20_000 {
            let bytes: Vec<u8> = (0..8 + rng.index(30))
                .map(|_| [0, 1, 0x7f, 0x80, 0x81, 0xff][rng.index(6)])
                .collect();
            let tag = [0, 1, 0x7f, 0x80, 0xff, 9][rng.index(6)];
            // SAFETY: all bytes are there.
            let (found, count) = unsafe { equal_tags(bytes.as_ptr(), bytes.len(), tag) };
            assert!(count == 8 || count == 16 && bytes.len() >= 16);
            let expect = (0..count).filter(|i| bytes[*i] == tag);
            assert_eq!(found, expect.map(|i| 1 << i).sum::<u32>(), "{bytes:?}");
        }
    }

    fn key(n: u64) -> Vec<u8> {
        format!("k{n}").into_bytes()
    }

    fn put(table: &mut Table, n: u64, slabs: &mut Slabs) {
        let key = key(n);
        let entry = Entry::new_int(slabs, &key, n as i64, 0);
        table.insert(HASHER().hash(&key), entry, HASHER(), slabs);
    }

    fn take(table: &mut Table, n: u64, slabs: &mut Slabs) -> bool {
        let key = key(n);
        table
            .remove(HASHER().hash(&key), |e| e.key() == key, slabs)
            .map(|e| e.free(slabs))
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
        let (mut table, slabs) = (Table::default(), &mut Slabs::default());
        let mut model = BTreeSet::new();
        for phase in 0..6 {
            for _ in 0..20_000 {
                let n = rng.below(12_000);
                // Phases of growth and of shrinking take turns.
                if rng.below(10) < if phase % 2 == 0 { 8 } else { 1 } {
                    if model.insert(n) {
                        put(&mut table, n, slabs);
                    }
                } else {
                    assert_eq!(take(&mut table, n, slabs), model.remove(&n));
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
            assert!(take(&mut table, n, slabs));
        }
        table.clear(slabs);
        assert_eq!(
            (
                table.len(),
                table.groups,
                table.segments.len(),
                slabs.live_bytes()
            ),
            (0, 1, 1, 0)
        );
    }

    #[test]
    fn scan_reports_what_stays_whatever_else_happens() {
        for seed in 0..30 {
            let mut rng = Rng::new(seed);
            let (mut table, slabs) = (Table::default(), &mut Slabs::default());
            let start = rng.below(6000);
            for n in 0..start {
                put(&mut table, n, slabs);
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
                            take(&mut table, n, slabs);
                        }
                    } else if next < 40_000 {
                        put(&mut table, next, slabs);
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
        let (mut table, slabs) = (Table::default(), &mut Slabs::default());
        let mut rng = Rng::new(3);
        assert!(table.random(&mut rng).is_none());
        for n in 0..100 {
            put(&mut table, n, slabs);
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
        while table.pop_group(slabs, |slabs, entry| {
            entry.free(slabs);
            gone += 1;
        }) {}
        assert_eq!((gone, table.len(), slabs.live_bytes()), (100, 0, 0));
    }

    /// Every key that expires is in a group that is due by then, whatever the table does; and what is due is found.
    #[test]
    fn no_expiry_is_forgotten() {
        let mut rng = Rng::new(6);
        let (mut table, slabs) = (Table::default(), &mut Slabs::default());
        let mut model: BTreeMap<u64, u64> = BTreeMap::new();
        for phase in 0..4 {
            for _ in 0..6_000 {
                let n = rng.below(9_000);
                let hash = HASHER().hash(&key(n));
                if rng.below(10) < if phase % 2 == 0 { 8 } else { 2 } {
                    if model.contains_key(&n) {
                        continue;
                    }
                    put(&mut table, n, slabs);
                    let at = rng.below(50_000);
                    table.set_expiry(hash, |e| e.key() == key(n), at, slabs);
                    model.insert(n, at);
                } else if model.remove(&n).is_some() {
                    take(&mut table, n, slabs);
                }
            }
            assert!(table.due() <= model.values().copied().min().unwrap_or(NEVER));
            let now = 10_000 * (phase + 1);
            while let Some(group) = table.due_group(now) {
                let mut due = Vec::new();
                table.each_in_group(group, &mut |e| {
                    if e.expire_at_ms() < now {
                        due.push(e.key().to_vec());
                    }
                });
                for k in due {
                    let hash = HASHER().hash(&k);
                    let gone = table.remove(hash, |e| e.key() == k, slabs);
                    gone.into_iter().for_each(|e| e.free(slabs));
                }
                table.settle_group(group);
            }
            model.retain(|_, at| *at >= now);
            let mut left = BTreeMap::new();
            table.for_each(&mut |e| {
                left.insert(e.key().to_vec(), e.expire_at_ms());
            });
            let wanted = model.iter().map(|(n, at)| (key(*n), *at)).collect();
            assert_eq!(left, wanted);
            assert_eq!(table.volatile(), model.len());
        }
    }

    /// Being made ready for any number of keys changes nothing but the room there is, and what was too much is given up.
    #[test]
    fn room_made_beforehand_is_used_or_given_up() {
        for (expected, count) in [(0, 500), (30_000, 30_000), (1_000_000, 2_000), (700, 9_000)] {
            let (mut table, slabs) = (Table::default(), &mut Slabs::default());
            while table.reserve(expected) {}
            let groups = table.groups;
            assert_eq!(groups, expected.div_ceil(FILL_MAX).max(1));
            for n in 0..count as u64 {
                put(&mut table, n, slabs);
            }
            if expected >= count {
                assert_eq!(table.groups, groups, "{expected} were expected");
            }
            while table.settle(slabs) {}
            assert!(table.groups == 1 || table.groups * FILL_MIN <= count);
            assert!((0..count as u64).all(|n| has(&table, n)));
            let mut seen = 0;
            table.for_each(&mut |_| seen += 1);
            assert_eq!(seen, count);
            let tenths = table.own_bytes() * 10 / count;
            assert!(tenths <= 90, "{tenths} tenths of a byte a key of {count}");
            assert!(!table.reserve(usize::MAX), "it is not empty any more");
            for n in 0..count as u64 {
                assert!(take(&mut table, n, slabs));
            }
            table.clear(slabs);
            assert_eq!((table.groups, slabs.live_bytes()), (1, 0));
        }
    }

    /// What the module's documentation says of memory.
    #[test]
    fn a_key_takes_less_than_7_bytes_of_the_table() {
        let (mut table, slabs) = (Table::default(), &mut Slabs::default());
        for count in [10_000, 15_000, 20_000, 33_000, 50_000, 70_000, 100_000] {
            for n in table.len() as u64..count {
                put(&mut table, n, slabs);
            }
            let (about, exactly) = (table.overhead_bytes(), table.own_bytes());
            assert!(about.abs_diff(exactly) * 10 < exactly, "{about}, {exactly}");
            let tenths = exactly * 10 / table.len();
            assert!(
                tenths <= 70,
                "{tenths} tenths of a byte a key with {count} keys"
            );
        }
    }
}
