//! Hash slots: which of the 16384 a key belongs to, and sets of them.

use std::fmt;
use std::sync::OnceLock;

/// Number of hash slots of a cluster.
pub const SLOTS: u16 = 16384;

const CRC16: [u16; 256] = {
    let mut table = [0u16; 256];
    let mut i = 0;
    while i < 256 {
        let mut crc = (i as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000 != 0 {
                crc << 1 ^ 0x1021
            } else {
                crc << 1
            };
            bit += 1;
        }
        table[i] = crc;
        i += 1;
    }
    table
};

/// CRC-16/XMODEM, as the cluster specification defines it for keys.
#[inline]
pub fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, b| {
        crc << 8 ^ CRC16[usize::from((crc >> 8) as u8 ^ b)]
    })
}

/// The slot of a key: of its first non-empty `{tag}`, or of the whole key.
#[inline]
pub fn key_slot(key: &[u8]) -> u16 {
    let tag = key.iter().position(|b| *b == b'{').and_then(|open| {
        let rest = key.get(open + 1..)?;
        let close = rest.iter().position(|b| *b == b'}')?;
        rest.get(..close).filter(|tag| !tag.is_empty())
    });
    crc16(tag.unwrap_or(key)) & (SLOTS - 1)
}

/// The shortest string of digits and letters in a slot, the first one in the order of digits, small and capital letters.
pub fn slot_tag(slot: u16) -> &'static str {
    static TAGS: OnceLock<Vec<String>> = OnceLock::new();
    let tags = TAGS.get_or_init(|| {
        let letters = || (b'0'..=b'9').chain(b'a'..=b'z').chain(b'A'..=b'Z');
        let mut tags = vec![String::new(); usize::from(SLOTS)];
        let mut missing = tags.len();
        let mut shorter: Vec<String> = vec![String::new()];
        while missing > 0 {
            let mut longer = Vec::new();
            'all: for start in &shorter {
                for letter in letters() {
                    let text = format!("{start}{}", char::from(letter));
                    let tag = &mut tags[usize::from(crc16(text.as_bytes()) & (SLOTS - 1))];
                    if tag.is_empty() {
                        tag.clone_from(&text);
                        missing -= 1;
                        if missing == 0 {
                            break 'all;
                        }
                    }
                    longer.push(text);
                }
            }
            shorter = longer;
        }
        tags
    });
    tags.get(usize::from(slot)).map_or("", |tag| tag)
}

/// A set of slots: 2 KiB, whatever its content.
#[derive(Clone, PartialEq, Eq)]
pub struct SlotSet {
    words: Box<[u64; SLOTS as usize / 64]>,
}

impl Default for SlotSet {
    fn default() -> Self {
        SlotSet {
            words: Box::new([0; SLOTS as usize / 64]),
        }
    }
}

impl SlotSet {
    /// The empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// All slots.
    pub fn all() -> Self {
        SlotSet {
            words: Box::new([u64::MAX; SLOTS as usize / 64]),
        }
    }

    /// Whether the slot is in the set.
    #[inline]
    pub fn contains(&self, slot: u16) -> bool {
        self.words
            .get(usize::from(slot / 64))
            .is_some_and(|w| w >> (slot % 64) & 1 == 1)
    }

    /// Adds a slot. Numbers that are no slot are ignored.
    pub fn insert(&mut self, slot: u16) {
        if let Some(word) = self.words.get_mut(usize::from(slot / 64)) {
            *word |= 1 << (slot % 64);
        }
    }

    /// Removes a slot.
    pub fn remove(&mut self, slot: u16) {
        if let Some(word) = self.words.get_mut(usize::from(slot / 64)) {
            *word &= !(1 << (slot % 64));
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|w| *w == 0)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.words.iter().map(|w| w.count_ones() as usize).sum()
    }

    /// The slots in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = u16> + '_ {
        (0..SLOTS).filter(|slot| self.contains(*slot))
    }
}

impl FromIterator<u16> for SlotSet {
    fn from_iter<I: IntoIterator<Item = u16>>(slots: I) -> Self {
        let mut set = SlotSet::new();
        slots.into_iter().for_each(|slot| set.insert(slot));
        set
    }
}

impl fmt::Debug for SlotSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// Which slots a snapshot covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SlotFilter {
    /// The whole keyspace.
    All,
    /// These slots (in a standalone engine every key counts as slot 0).
    Only(SlotSet),
}

impl SlotFilter {
    /// Whether keys of the slot are covered.
    #[inline]
    pub fn contains(&self, slot: u16) -> bool {
        match self {
            SlotFilter::All => true,
            SlotFilter::Only(set) => set.contains(slot),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_as_the_specification_says() {
        assert_eq!(crc16(b"123456789"), 0x31c3);
        for (key, slot) in [
            ("foo", 12182),
            ("{foo}bar", 12182),
            ("a{foo}b{bar}", 12182),
            ("", 0),
            ("somekey", 11058),
        ] {
            assert_eq!(key_slot(key.as_bytes()), slot, "{key}");
        }
        assert_eq!(key_slot(b"foo{}bar"), crc16(b"foo{}bar") & 16383);
        assert_eq!(key_slot(b"foo{bar"), crc16(b"foo{bar") & 16383);
        assert_eq!(key_slot(b"foo{{bar}}zap"), crc16(b"{bar") & 16383);
    }

    #[test]
    fn tags() {
        for (slot, tag) in [
            (0, "06S"),
            (1, "Qi"),
            (2, "5L5"),
            (8192, "8YG"),
            (16000, "he"),
        ] {
            assert_eq!(slot_tag(slot), tag);
        }
        assert!((0..SLOTS).all(|slot| key_slot(slot_tag(slot).as_bytes()) == slot));
    }

    #[test]
    fn sets() {
        let mut set: SlotSet = [0, 63, 64, 16383, 20000].into_iter().collect();
        assert_eq!(set.iter().collect::<Vec<_>>(), [0, 63, 64, 16383]);
        set.remove(63);
        assert_eq!(set.len(), 3);
        assert!(!set.contains(63) && set.contains(64) && !set.contains(20000));
        assert_eq!(SlotSet::all().len(), 16384);
    }
}
