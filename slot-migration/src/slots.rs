//! Sets of hash slots: as ranges (what users write, what records carry) and as a bitmap (ownership).

use std::fmt;

/// Number of hash slots in a cluster.
pub const SLOTS: u16 = 16384;
const WORDS: usize = SLOTS as usize / 64;

/// A set of slots as sorted, disjoint, maximal inclusive ranges.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct SlotRanges(Vec<(u16, u16)>);

/// Why a list of ranges is not a set of slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RangeError {
    /// No range at all.
    Empty,
    /// A slot number of 16384 or more.
    OutOfRange(u16),
    /// The first slot is greater than the last.
    Backwards(u16, u16),
    /// Two ranges share a slot: the later range, then the earlier one.
    Overlap((u16, u16), (u16, u16)),
}

impl fmt::Display for RangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RangeError::Empty => write!(f, "No slot ranges specified"),
            RangeError::OutOfRange(_) => write!(f, "Invalid or out of range slot"),
            RangeError::Backwards(a, b) => write!(
                f,
                "Start slot number {a} is greater than end slot number {b}."
            ),
            RangeError::Overlap((a, b), (c, d)) => write!(
                f,
                "Slot range {a}-{b} overlaps with previous range {c}-{d}."
            ),
        }
    }
}

impl std::error::Error for RangeError {}

impl SlotRanges {
    /// Checks and normalizes inclusive ranges given in any order.
    pub fn new(ranges: &[(u16, u16)]) -> Result<Self, RangeError> {
        if ranges.is_empty() {
            return Err(RangeError::Empty);
        }
        for (i, &(a, b)) in ranges.iter().enumerate() {
            if a >= SLOTS || b >= SLOTS {
                return Err(RangeError::OutOfRange(a.max(b)));
            }
            if a > b {
                return Err(RangeError::Backwards(a, b));
            }
            if let Some(&earlier) = ranges[..i].iter().find(|&&(c, d)| a <= d && c <= b) {
                return Err(RangeError::Overlap((a, b), earlier));
            }
        }
        let mut sorted = ranges.to_vec();
        sorted.sort_unstable();
        let mut merged: Vec<(u16, u16)> = Vec::with_capacity(sorted.len());
        for (a, b) in sorted {
            match merged.last_mut() {
                Some(last) if last.1 + 1 == a => last.1 = b,
                _ => merged.push((a, b)),
            }
        }
        Ok(Self(merged))
    }

    /// The set of one slot. Panics above 16383: callers have checked the number.
    pub fn single(slot: u16) -> Self {
        assert!(slot < SLOTS, "slot {slot} out of range");
        Self(vec![(slot, slot)])
    }

    /// The ranges, ascending; each includes both of its ends.
    pub fn ranges(&self) -> &[(u16, u16)] {
        &self.0
    }

    /// Whether there is no slot in the set.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Number of slots in the set.
    pub fn len(&self) -> usize {
        self.0
            .iter()
            .map(|&(a, b)| usize::from(b) - usize::from(a) + 1)
            .sum()
    }

    /// Every slot, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u16> + '_ {
        self.0.iter().flat_map(|&(a, b)| a..=b)
    }

    /// Whether the slot is in the set.
    pub fn contains(&self, slot: u16) -> bool {
        let after = self.0.partition_point(|&(a, _)| a <= slot);
        after > 0 && slot <= self.0[after - 1].1
    }

    /// The lowest slot that is in both sets.
    pub fn first_common(&self, other: &SlotRanges) -> Option<u16> {
        let (mut i, mut j) = (0, 0);
        while i < self.0.len() && j < other.0.len() {
            let ((a, b), (c, d)) = (self.0[i], other.0[j]);
            if a <= d && c <= b {
                return Some(a.max(c));
            }
            if b < d { i += 1 } else { j += 1 }
        }
        None
    }
}

impl fmt::Display for SlotRanges {
    /// `0-5 7-7`, as `CLUSTER GETSLOTMIGRATIONS` shows them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (a, b)) in self.0.iter().enumerate() {
            let space = if i == 0 { "" } else { " " };
            write!(f, "{space}{a}-{b}")?;
        }
        Ok(())
    }
}

/// A bitmap of all 16384 slots.
#[derive(Clone, PartialEq, Eq)]
pub struct SlotSet(Box<[u64; WORDS]>);

impl Default for SlotSet {
    fn default() -> Self {
        Self(Box::new([0; WORDS]))
    }
}

impl SlotSet {
    /// Whether the slot is in the set; numbers above 16383 never are.
    pub fn contains(&self, slot: u16) -> bool {
        self.0
            .get(usize::from(slot) / 64)
            .is_some_and(|word| word >> (slot % 64) & 1 == 1)
    }

    /// Adds every slot of `slots`.
    pub fn insert_all(&mut self, slots: &SlotRanges) {
        for slot in slots.iter() {
            self.0[usize::from(slot) / 64] |= 1 << (slot % 64);
        }
    }

    /// Removes every slot of `slots`.
    pub fn remove_all(&mut self, slots: &SlotRanges) {
        for slot in slots.iter() {
            self.0[usize::from(slot) / 64] &= !(1 << (slot % 64));
        }
    }

    /// Number of slots in the set.
    pub fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Whether there is no slot in the set.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|&word| word == 0)
    }

    /// Every slot, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u16> + '_ {
        (0..SLOTS).filter(|&slot| self.contains(slot))
    }

    /// The same set as ranges.
    pub fn to_ranges(&self) -> SlotRanges {
        let mut out: Vec<(u16, u16)> = Vec::new();
        for slot in self.iter() {
            match out.last_mut() {
                Some(last) if last.1 + 1 == slot => last.1 = slot,
                _ => out.push((slot, slot)),
            }
        }
        SlotRanges(out)
    }

    /// The lowest slot of `slots` that is in this set.
    pub fn first_in(&self, slots: &SlotRanges) -> Option<u16> {
        slots.iter().find(|&slot| self.contains(slot))
    }

    /// The lowest slot of `slots` that is **not** in this set.
    pub fn first_missing(&self, slots: &SlotRanges) -> Option<u16> {
        slots.iter().find(|&slot| !self.contains(slot))
    }
}

impl fmt::Debug for SlotSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SlotSet({})", self.to_ranges())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_checked_sorted_and_merged() {
        let set = SlotRanges::new(&[(10, 12), (0, 3), (4, 4)]).unwrap();
        assert_eq!(set.to_string(), "0-4 10-12");
        assert_eq!(set.len(), 8);
        assert!(set.contains(4) && set.contains(12) && !set.contains(5) && !set.contains(13));
        assert_eq!(SlotRanges::new(&[]), Err(RangeError::Empty));
        assert_eq!(
            SlotRanges::new(&[(1, 5), (5, 9)]),
            Err(RangeError::Overlap((5, 9), (1, 5)))
        );
        assert_eq!(
            SlotRanges::new(&[(5, 1)]).unwrap_err().to_string(),
            "Start slot number 5 is greater than end slot number 1."
        );
        assert_eq!(
            SlotRanges::new(&[(0, 16384)]),
            Err(RangeError::OutOfRange(16384))
        );
    }

    #[test]
    fn common_slots_and_bitmaps_agree() {
        let a = SlotRanges::new(&[(0, 63), (100, 200)]).unwrap();
        let b = SlotRanges::new(&[(64, 99), (150, 300)]).unwrap();
        assert_eq!(a.first_common(&b), Some(150));
        let mut set = SlotSet::default();
        set.insert_all(&a);
        assert_eq!(set.to_ranges(), a);
        assert_eq!(set.first_in(&b), Some(150));
        assert_eq!(set.first_missing(&b), Some(64));
        set.remove_all(&a);
        assert!(set.is_empty() && !set.contains(u16::MAX));
    }
}
