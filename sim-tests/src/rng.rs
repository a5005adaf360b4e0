//! The simulator's own random source: SplitMix64.
//!
//! Plans, disks and workloads draw from it and never from madsim's generator, so that a change in how
//! tasks are scheduled does not change which faults a seed stands for.

/// A small, fast, seeded generator. Equal seeds give equal sequences, on every platform, for ever.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// A generator for `seed`.
    pub fn new(seed: u64) -> Rng {
        Rng(seed)
    }

    /// An independent generator for one purpose (`"disk"`, `"faults"`), derived from this seed alone.
    pub fn derive(&self, purpose: &str, index: u64) -> Rng {
        let mut h = crate::history::Fnv::new();
        h.update(&self.0.to_le_bytes());
        h.update(purpose.as_bytes());
        h.update(&index.to_le_bytes());
        let mut rng = Rng(h.finish());
        rng.u64();
        rng
    }

    /// The next 64 bits.
    pub fn u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number in `0..n`; 0 for `n` 0.
    pub fn below(&mut self, n: u64) -> u64 {
        if n == 0 {
            return 0;
        }
        ((u128::from(self.u64()) * u128::from(n)) >> 64) as u64
    }

    /// A number in `lo..=hi`.
    pub fn range(&mut self, lo: u64, hi: u64) -> u64 {
        lo + self.below(hi.saturating_sub(lo) + 1)
    }

    /// An index into something of `n` elements.
    pub fn index(&mut self, n: usize) -> usize {
        self.below(n as u64) as usize
    }

    /// True with probability `p`.
    pub fn chance(&mut self, p: f64) -> bool {
        ((self.u64() >> 11) as f64) < p * (1u64 << 53) as f64
    }

    /// One of `items`, which must not be empty.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        let i = self.index(items.len());
        &items[i]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_seed_same_numbers_and_purposes_differ() {
        let (mut a, mut b) = (Rng::new(7), Rng::new(7));
        assert!((0..100).all(|_| a.u64() == b.u64()));
        let root = Rng::new(7);
        assert_ne!(root.derive("disk", 0).u64(), root.derive("disk", 1).u64());
        assert_ne!(root.derive("disk", 0).u64(), root.derive("net", 0).u64());
        let mut r = root.derive("x", 0);
        assert!((0..1000).all(|_| r.below(3) < 3 && (5..=9).contains(&r.range(5, 9))));
    }
}
