//! The hash of keys: a folded-multiply hash in the manner of wyhash, keyed by two secret words.
//!
//! It is fast for short keys, and without the seed nobody can choose keys that meet in one bucket on purpose. Same
//! seed, same hash: nothing here depends on the process or the machine.

const K: [u64; 3] = [
    0xa076_1d64_78bd_642f,
    0xe703_7ed1_a0b4_28db,
    0x8ebc_6af0_9c88_c6e3,
];

/// The keyed hash function of an engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KeyHasher {
    seed: [u64; 2],
}

#[inline]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

#[inline]
fn word(bytes: &[u8; 8]) -> u64 {
    u64::from_le_bytes(*bytes)
}

#[inline]
fn half(bytes: &[u8; 4]) -> u64 {
    u64::from(u32::from_le_bytes(*bytes))
}

impl KeyHasher {
    pub fn new(seed: [u64; 2]) -> Self {
        // A zero factor would swallow everything multiplied with it.
        KeyHasher {
            seed: [
                fold(seed[0] ^ K[0], K[1]) | 1,
                fold(seed[1] ^ K[1], K[2]) | 1 << 63,
            ],
        }
    }

    #[inline]
    pub fn hash(&self, key: &[u8]) -> u64 {
        let [s0, s1] = self.seed;
        let len = key.len() as u64;
        let mut state = s0;
        let mut rest = key;
        while let Some((block, tail)) = rest.split_first_chunk::<16>()
            && !tail.is_empty()
        {
            let (a, b) = block.split_at(8);
            if let (Some(a), Some(b)) = (a.first_chunk(), b.first_chunk()) {
                state = fold(word(a) ^ K[1] ^ s1, word(b) ^ state);
            }
            rest = tail;
        }
        // At most 16 bytes are left: two words that overlap where there are fewer.
        let (a, b) = if let (Some(a), Some(b)) = (rest.first_chunk::<8>(), rest.last_chunk::<8>()) {
            (word(a), word(b))
        } else if let (Some(a), Some(b)) = (rest.first_chunk::<4>(), rest.last_chunk::<4>()) {
            (half(a), half(b))
        } else {
            match *rest {
                [] => (0, 0),
                [x] => (u64::from(x), 0x100),
                [x, y] => (u64::from(x) | u64::from(y) << 8, 0x200),
                [x, y, z, ..] => (u64::from(x) | u64::from(y) << 8 | u64::from(z) << 16, 0x300),
            }
        };
        let mixed = fold(a ^ K[1] ^ s1, b ^ state);
        fold(mixed ^ K[0] ^ len, s1 ^ K[2] ^ state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn spreads_short_keys_and_depends_on_the_seed() {
        let hasher = KeyHasher::new([1, 2]);
        let other = KeyHasher::new([1, 3]);
        let keys: Vec<Vec<u8>> = (0..40)
            .map(|n| vec![b'x'; n])
            .chain((0..10_000).map(|n| format!("key:{n}").into_bytes()))
            .collect();
        let hashes: BTreeSet<u64> = keys.iter().map(|k| hasher.hash(k)).collect();
        assert_eq!(hashes.len(), keys.len());
        assert!(keys.iter().all(|k| hasher.hash(k) != other.hash(k)));
        let mut low = [0u32; 64];
        let mut high = [0u32; 64];
        for k in &keys {
            low[(hasher.hash(k) & 63) as usize] += 1;
            high[(hasher.hash(k) >> 58) as usize] += 1;
        }
        assert!(
            low.iter().chain(&high).all(|n| (90..230).contains(n)),
            "{low:?} {high:?}"
        );
    }
}
