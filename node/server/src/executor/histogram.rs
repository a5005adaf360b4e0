//! How long a command has taken, each time: counts in logarithmic buckets, as an HDR histogram of two digits has them.

/// Values below this have a bucket each; above, each power of two has half as many buckets.
const LINEAR: u64 = 256;
const LINEAR_BITS: u32 = LINEAR.trailing_zeros();
const HALF: usize = LINEAR as usize / 2;
/// Longer ones are counted as this long: 68 seconds.
const VALUE_BITS: u32 = 36;
const VALUE_MAX: u64 = (1 << VALUE_BITS) - 1;
const BUCKETS: usize = LINEAR as usize + (VALUE_BITS - LINEAR_BITS) as usize * HALF;

/// Counts of durations in nanoseconds, to within a hundredth.
#[derive(Clone, PartialEq, Eq)]
pub struct Histogram {
    counts: Box<[u64]>,
    total: u64,
}

impl std::fmt::Debug for Histogram {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Histogram")
            .field("total", &self.total)
            .finish_non_exhaustive()
    }
}

impl Default for Histogram {
    fn default() -> Self {
        Histogram {
            counts: vec![0; BUCKETS].into_boxed_slice(),
            total: 0,
        }
    }
}

/// The bucket of a value.
#[inline]
fn bucket(value: u64) -> usize {
    if value < LINEAR {
        return value as usize;
    }
    let value = value.min(VALUE_MAX);
    // How far it must be shifted to have as many bits as the largest value with a bucket of its own.
    let shift = u64::BITS - value.leading_zeros() - LINEAR_BITS;
    shift as usize * HALF + (value >> shift) as usize
}

/// The highest value of a bucket.
fn highest(bucket: usize) -> u64 {
    if bucket < LINEAR as usize {
        return bucket as u64;
    }
    let shift = (bucket / HALF - 1) as u32;
    let lowest = ((bucket % HALF + HALF) as u64) << shift;
    lowest + (1 << shift) - 1
}

impl Histogram {
    /// Counts a duration.
    #[inline]
    pub fn record(&mut self, ns: u64) {
        self.total += 1;
        if let Some(count) = self.counts.get_mut(bucket(ns)) {
            *count += 1;
        }
    }

    /// How many durations have been counted.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The duration that so many percent do not exceed, 0 if there are none.
    pub fn percentile(&self, percent: f64) -> u64 {
        let rank = (self.total as f64 * percent / 100.0 + 0.5) as u64;
        let rank = rank.clamp(1, self.total.max(1));
        let mut upto = 0;
        for (i, count) in self.counts.iter().enumerate() {
            upto += count;
            if upto >= rank {
                return highest(i);
            }
        }
        0
    }

    /// For each power of two from `2^from` on: the highest duration that cannot be told from it, and how many did not exceed that.
    pub fn by_powers(&self, from: u32) -> impl Iterator<Item = (u64, u64)> {
        let mut power = from.min(VALUE_BITS);
        let (mut next, mut upto) = (0, 0);
        std::iter::from_fn(move || {
            if power > VALUE_BITS {
                return None;
            }
            let last = bucket(1 << power);
            upto += self.counts[next..=last].iter().sum::<u64>();
            next = last + 1;
            power += 1;
            Some((highest(last), upto))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_in_a_bucket_that_ends_at_most_a_hundredth_above_it() {
        for shift in 0..VALUE_BITS {
            for value in [1u64 << shift, (1 << shift) + 1, VALUE_MAX >> shift] {
                let index = bucket(value);
                assert!(index < BUCKETS, "{value}");
                assert!(highest(index) >= value, "{value}");
                assert!(index == 0 || highest(index - 1) < value, "{value}");
                assert!(highest(index) - value <= value / 100, "{value}");
            }
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
        assert_eq!(highest(BUCKETS - 1), VALUE_MAX);
    }

    #[test]
    fn percentiles() {
        let mut h = Histogram::default();
        assert_eq!(h.percentile(50.0), 0);
        for value in 1..=100 {
            h.record(value);
        }
        assert_eq!(
            [0.0, 50.0, 99.0, 99.9, 100.0].map(|p| h.percentile(p)),
            [1, 50, 99, 100, 100]
        );
    }

    #[test]
    fn counts_by_powers_of_two() {
        let mut h = Histogram::default();
        for value in [500, 1024, 1500, 40_000] {
            h.record(value);
        }
        let rows = h.by_powers(10).map(|(ns, n)| (ns / 1000, n)).take(7);
        let rows: Vec<(u64, u64)> = rows.collect();
        // The bounds that Valkey's clients see: 1, 2, 4, 8, 16, 33, 66 µs.
        let expect = [(1, 2), (2, 3), (4, 3), (8, 3), (16, 3), (33, 3), (66, 4)];
        assert_eq!(rows, expect);
        h.record(u64::MAX);
        assert_eq!(h.by_powers(10).last().map(|(_, n)| n), Some(5));
    }
}
