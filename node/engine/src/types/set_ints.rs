//! The intset: a sorted array of integers, of the least width that holds all of them.
//!
//! The bytes are those of Valkey's intset, so that an RDB file carries them as they lie in memory:
//! `| width in bytes: u32 LE | count: u32 LE | integers, little-endian, ascending |`.

use super::packed::PackedBytes;

/// Bytes of the header.
const HEADER: usize = 8;

/// See the module's documentation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IntSet {
    buf: PackedBytes,
}

impl Default for IntSet {
    fn default() -> Self {
        let mut buf = PackedBytes::default();
        buf.splice(0, 0, &[&[2, 0, 0, 0, 0, 0, 0, 0]]);
        IntSet { buf }
    }
}

fn width_of(v: i64) -> usize {
    if i16::try_from(v).is_ok() {
        2
    } else if i32::try_from(v).is_ok() {
        4
    } else {
        8
    }
}

impl IntSet {
    /// Takes bytes from outside after checking all of them.
    pub fn from_bytes(buf: Vec<u8>) -> Result<Self, &'static str> {
        if buf.len() < HEADER {
            return Err("intset too short");
        }
        let set = IntSet { buf: buf.into() };
        if !matches!(set.buf[..4], [2 | 4 | 8, 0, 0, 0]) {
            return Err("intset of unknown width");
        }
        let count = u32::from_le_bytes([set.buf[4], set.buf[5], set.buf[6], set.buf[7]]) as usize;
        if count
            .checked_mul(set.width())
            .and_then(|n| n.checked_add(HEADER))
            != Some(set.buf.len())
        {
            return Err("intset length mismatch");
        }
        if (1..count).any(|i| set.at(i - 1) >= set.at(i)) {
            return Err("intset not ascending");
        }
        Ok(set)
    }

    /// The intset's bytes, as Valkey stores them.
    pub fn as_bytes(&self) -> &[u8] {
        &self.buf
    }

    /// Bytes of memory that the members take.
    pub fn memory(&self) -> usize {
        self.buf.memory()
    }

    fn width(&self) -> usize {
        usize::from(self.buf[0])
    }

    /// Number of members.
    pub fn len(&self) -> usize {
        (self.buf.len() - HEADER) / self.width()
    }

    /// Whether there is no member.
    pub fn is_empty(&self) -> bool {
        self.buf.len() == HEADER
    }

    /// The member at `index` in ascending order.
    ///
    /// # Panics
    /// When `index` is not below [`IntSet::len`].
    pub fn at(&self, index: usize) -> i64 {
        let w = self.width();
        let raw = &self.buf[HEADER + index * w..][..w];
        let mut le = [if raw[w - 1] & 0x80 != 0 { 0xff } else { 0 }; 8];
        le[..w].copy_from_slice(raw);
        i64::from_le_bytes(le)
    }

    /// The members, ascending.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = i64> + ExactSizeIterator + Clone + '_ {
        (0..self.len()).map(|i| self.at(i))
    }

    fn search(&self, v: i64) -> Result<usize, usize> {
        let (mut lo, mut hi) = (0, self.len());
        while lo < hi {
            let mid = (lo + hi) / 2;
            match self.at(mid).cmp(&v) {
                std::cmp::Ordering::Equal => return Ok(mid),
                std::cmp::Ordering::Less => lo = mid + 1,
                std::cmp::Ordering::Greater => hi = mid,
            }
        }
        Err(lo)
    }

    /// Whether `v` is a member.
    pub fn contains(&self, v: i64) -> bool {
        self.search(v).is_ok()
    }

    fn fix_count(&mut self) {
        let n = self.len() as u32;
        self.buf[4..8].copy_from_slice(&n.to_le_bytes());
    }

    /// Adds `v`; whether it was absent.
    pub fn insert(&mut self, v: i64) -> bool {
        let Err(at) = self.search(v) else {
            return false;
        };
        let w = width_of(v);
        if w > self.width() {
            let mut wider = Vec::with_capacity(self.len() * w);
            for old in self.iter() {
                wider.extend_from_slice(&old.to_le_bytes()[..w]);
            }
            self.buf[0] = w as u8;
            self.buf.splice(HEADER, self.buf.len() - HEADER, &[&wider]);
        }
        let w = self.width();
        self.buf
            .splice(HEADER + at * w, 0, &[&v.to_le_bytes()[..w]]);
        self.fix_count();
        true
    }

    /// Removes `v`; whether it was there.
    pub fn remove(&mut self, v: i64) -> bool {
        let Ok(at) = self.search(v) else {
            return false;
        };
        let w = self.width();
        self.buf.splice(HEADER + at * w, w, &[]);
        self.fix_count();
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn behaves_as_an_ordered_set() {
        let (mut set, mut model, mut seed) = (IntSet::default(), BTreeSet::new(), 5u64);
        for round in 0..5000 {
            seed = seed
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            let bits = if round < 1500 {
                54
            } else if round < 3000 {
                40
            } else {
                0
            };
            let v = (seed as i64) >> bits;
            if seed.is_multiple_of(3) {
                let v = model.iter().next().copied().unwrap_or(v);
                assert_eq!(set.remove(v), model.remove(&v));
            } else {
                assert_eq!(set.insert(v), model.insert(v));
            }
            assert_eq!(set.contains(v), model.contains(&v));
            assert_eq!(set.len(), model.len());
        }
        assert!(set.iter().eq(model.iter().copied()));
        assert_eq!(IntSet::from_bytes(set.as_bytes().to_vec()).unwrap(), set);
    }

    #[test]
    fn golden_bytes_and_bad_bytes() {
        let mut set = IntSet::default();
        set.insert(70000);
        set.insert(-1);
        let want = [
            4, 0, 0, 0, 2, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x70, 0x11, 1, 0,
        ];
        assert_eq!(set.as_bytes(), want);
        for bad in [
            &want[..7],
            &want[..12],
            &[3, 0, 0, 0, 0, 0, 0, 0][..],
            &[2, 0, 0, 0, 2, 0, 0, 0, 1, 0, 1, 0][..],
        ] {
            assert!(IntSet::from_bytes(bad.to_vec()).is_err());
        }
    }
}
