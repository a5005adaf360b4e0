//! Sets of hash slots.

use crate::ids::SLOTS;
use std::fmt;

const WORDS: usize = SLOTS as usize / 64;

/// Bytes of a slot bitmap on the wire.
pub const BITMAP_LEN: usize = SLOTS as usize / 8;

/// A set of hash slots, as a bitmap.
///
/// On the wire slot `s` is bit `s & 7` of byte `s / 8`, which is bit `s & 63` of little-endian word `s / 64`.
#[derive(Clone, PartialEq, Eq)]
pub struct SlotSet {
    words: Box<[u64; WORDS]>,
}

impl Default for SlotSet {
    fn default() -> Self {
        Self::new()
    }
}

impl SlotSet {
    /// The empty set.
    pub fn new() -> SlotSet {
        SlotSet {
            words: Box::new([0; WORDS]),
        }
    }

    /// All 16384 slots.
    pub fn full() -> SlotSet {
        SlotSet {
            words: Box::new([u64::MAX; WORDS]),
        }
    }

    /// The set behind a bitmap as it stands on the wire.
    pub fn from_bitmap(bitmap: &[u8; BITMAP_LEN]) -> SlotSet {
        let mut set = SlotSet::new();
        for (word, bytes) in set.words.iter_mut().zip(bitmap.chunks_exact(8)) {
            *word = u64::from_le_bytes(bytes.try_into().unwrap_or_default());
        }
        set
    }

    /// Appends the bitmap as it stands on the wire.
    pub fn write_bitmap(&self, out: &mut Vec<u8>) {
        for word in self.words.iter() {
            out.extend_from_slice(&word.to_le_bytes());
        }
    }

    /// Whether a wire bitmap holds the same slots, without making a set of it.
    pub fn equals_bitmap(&self, bitmap: &[u8; BITMAP_LEN]) -> bool {
        self.words
            .iter()
            .zip(bitmap.chunks_exact(8))
            .all(|(word, bytes)| word.to_le_bytes() == bytes)
    }

    /// Whether `slot` is in the set. Numbers from 16384 on never are.
    pub fn contains(&self, slot: u16) -> bool {
        self.words
            .get(usize::from(slot / 64))
            .is_some_and(|word| word >> (slot & 63) & 1 == 1)
    }

    /// Adds `slot`; true if it was not there. Numbers from 16384 on are ignored.
    pub fn insert(&mut self, slot: u16) -> bool {
        let bit = 1 << (slot & 63);
        match self.words.get_mut(usize::from(slot / 64)) {
            Some(word) if *word & bit == 0 => {
                *word |= bit;
                true
            }
            _ => false,
        }
    }

    /// Takes `slot` out; true if it was there.
    pub fn remove(&mut self, slot: u16) -> bool {
        let bit = 1 << (slot & 63);
        match self.words.get_mut(usize::from(slot / 64)) {
            Some(word) if *word & bit != 0 => {
                *word &= !bit;
                true
            }
            _ => false,
        }
    }

    /// How many slots the set holds.
    pub fn len(&self) -> usize {
        self.words
            .iter()
            .map(|word| word.count_ones() as usize)
            .sum()
    }

    /// Whether the set holds no slot.
    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }

    /// Takes out every slot that `other` holds.
    pub fn subtract(&mut self, other: &SlotSet) {
        for (word, other) in self.words.iter_mut().zip(other.words.iter()) {
            *word &= !other;
        }
    }

    /// Adds every slot that `other` holds.
    pub fn extend(&mut self, other: &SlotSet) {
        for (word, other) in self.words.iter_mut().zip(other.words.iter()) {
            *word |= other;
        }
    }

    /// Whether the two sets share a slot.
    pub fn intersects(&self, other: &SlotSet) -> bool {
        self.words
            .iter()
            .zip(other.words.iter())
            .any(|(a, b)| a & b != 0)
    }

    /// The slots, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u16> + '_ {
        self.words.iter().enumerate().flat_map(|(index, word)| {
            let mut word = *word;
            std::iter::from_fn(move || {
                let bit = word.trailing_zeros();
                word &= word.wrapping_sub(1);
                (bit < 64).then(|| (index * 64) as u16 + bit as u16)
            })
        })
    }

    /// The maximal runs of consecutive slots, ascending, both ends included.
    pub fn ranges(&self) -> impl Iterator<Item = (u16, u16)> + '_ {
        let mut slots = self.iter().peekable();
        std::iter::from_fn(move || {
            let start = slots.next()?;
            let mut end = start;
            while slots.next_if_eq(&(end + 1)).is_some() {
                end += 1;
            }
            Some((start, end))
        })
    }

    /// The set of the slots in these ranges, both ends included.
    pub fn from_ranges(ranges: impl IntoIterator<Item = (u16, u16)>) -> SlotSet {
        let mut set = SlotSet::new();
        for (start, end) in ranges {
            for slot in start..=end.min(SLOTS - 1) {
                set.insert(slot);
            }
        }
        set
    }
}

impl FromIterator<u16> for SlotSet {
    fn from_iter<I: IntoIterator<Item = u16>>(slots: I) -> SlotSet {
        let mut set = SlotSet::new();
        for slot in slots {
            set.insert(slot);
        }
        set
    }
}

impl fmt::Debug for SlotSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.ranges()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_and_bitmap() {
        let set = SlotSet::from_ranges([(0, 0), (62, 130), (16383, 16383)]);
        assert_eq!(
            set.ranges().collect::<Vec<_>>(),
            [(0, 0), (62, 130), (16383, 16383)]
        );
        assert_eq!(set.len(), 71);
        let mut bitmap = Vec::new();
        set.write_bitmap(&mut bitmap);
        assert_eq!(bitmap[0], 1);
        assert_eq!(bitmap[2047], 0x80);
        let bitmap: [u8; BITMAP_LEN] = bitmap.try_into().unwrap();
        assert!(set.equals_bitmap(&bitmap));
        assert_eq!(SlotSet::from_bitmap(&bitmap), set);
        assert_eq!(SlotSet::full().ranges().collect::<Vec<_>>(), [(0, 16383)]);
        assert!(!set.contains(16384) && !set.clone().insert(16384));
    }

    #[test]
    fn algebra() {
        let mut a = SlotSet::from_ranges([(0, 10)]);
        let b = SlotSet::from_ranges([(5, 20)]);
        assert!(a.intersects(&b));
        a.subtract(&b);
        assert_eq!(a, SlotSet::from_ranges([(0, 4)]));
        a.extend(&b);
        assert_eq!(a, SlotSet::from_ranges([(0, 20)]));
    }
}
