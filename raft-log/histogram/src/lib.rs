//! Histograms for openraft's statistics, in place of the crate of this name on crates.io.
//!
//! That one makes the lookup tables of all its sixteen resolutions as soon as the first histogram is made: 27 MiB in
//! every process that has a Raft group, most of what a witness may use in all. openraft uses one resolution, whose
//! buckets are a few shifts away. This crate has what openraft calls, and nothing else; the workspace's `Cargo.toml`
//! puts it in the other's place.

use std::fmt;

/// Leading bits of a value that tell its bucket, the first of which is set.
const WIDTH: u32 = 3;
/// Buckets for each power of two.
const GROUP: usize = 1 << (WIDTH - 1);
/// Buckets for all values.
const BUCKETS: usize = GROUP * (66 - WIDTH as usize);

/// Counts of values in logarithmic buckets; exact below 8, and to an eighth above.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histogram<T = ()> {
    counts: Vec<u64>,
    total: u64,
    _slots: std::marker::PhantomData<T>,
}

impl<T> Default for Histogram<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Histogram<T> {
    /// An empty one.
    pub fn new() -> Self {
        Histogram {
            counts: vec![0; BUCKETS],
            total: 0,
            _slots: std::marker::PhantomData,
        }
    }

    /// Counts a value.
    pub fn record(&mut self, value: u64) {
        self.record_n(value, 1);
    }

    /// Counts a value `count` times.
    pub fn record_n(&mut self, value: u64, count: u64) {
        self.counts[bucket(value)] += count;
        self.total += count;
    }

    /// The usual percentiles.
    pub fn percentile_stats(&self) -> PercentileStats {
        PercentileStats {
            samples: self.total,
            p0_1: self.percentile(0.001),
            p1: self.percentile(0.01),
            p5: self.percentile(0.05),
            p10: self.percentile(0.10),
            p50: self.percentile(0.50),
            p90: self.percentile(0.90),
            p99: self.percentile(0.99),
            p99_9: self.percentile(0.999),
        }
    }

    /// The lowest value of the bucket in which the value of this rank is; 0 without values.
    fn percentile(&self, part: f64) -> u64 {
        let rank = ((self.total as f64 * part).ceil() as u64).max(1);
        let mut below = 0;
        for (index, count) in self.counts.iter().enumerate() {
            below += count;
            if below >= rank {
                return lowest(index);
            }
        }
        0
    }
}

/// The bucket of a value: its number of bits, and the bits behind the first.
fn bucket(value: u64) -> usize {
    if value < GROUP as u64 {
        return value as usize;
    }
    let group = u64::BITS - value.leading_zeros() - WIDTH;
    let offset = (value >> group) as usize & (GROUP - 1);
    GROUP + group as usize * GROUP + offset
}

/// The lowest value of a bucket.
fn lowest(bucket: usize) -> u64 {
    if bucket < GROUP {
        return bucket as u64;
    }
    let group = bucket / GROUP - 1;
    ((GROUP + bucket % GROUP) as u64) << group
}

/// Percentiles of a [`Histogram`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is what its name says")]
pub struct PercentileStats {
    /// How many values there were.
    pub samples: u64,
    pub p0_1: u64,
    pub p1: u64,
    pub p5: u64,
    pub p10: u64,
    pub p50: u64,
    pub p90: u64,
    pub p99: u64,
    pub p99_9: u64,
}

impl fmt::Display for PercentileStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "[samples: {}, P50: {}, P90: {}, P99: {}, P99.9: {}]",
            self.samples, self.p50, self.p90, self.p99, self.p99_9
        )
    }
}

/// Several histograms by name, as lines of text.
#[derive(Clone, Debug, Default)]
pub struct AsciiChart<T = ()> {
    series: Vec<(String, Histogram<T>)>,
}

impl<T> AsciiChart<T> {
    /// An empty one.
    pub fn new() -> Self {
        AsciiChart { series: Vec::new() }
    }

    /// One histogram more.
    #[must_use]
    pub fn add(mut self, name: &str, histogram: Histogram<T>) -> Self {
        self.series.push((name.to_owned(), histogram));
        self
    }

    /// The text.
    pub fn detailed(&self) -> &Self {
        self
    }
}

impl<T> fmt::Display for AsciiChart<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, histogram) in &self.series {
            writeln!(f, "{name}: {}", histogram.percentile_stats())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_in_the_bucket_that_begins_at_or_below_it() {
        for shift in 0..64 {
            for value in [1u64 << shift, (1 << shift) + 1, u64::MAX >> shift] {
                let index = bucket(value);
                assert!(index < BUCKETS, "{value}");
                assert!(lowest(index) <= value, "{value}");
                assert!(index + 1 == BUCKETS || lowest(index + 1) > value, "{value}");
                assert!(value - lowest(index) <= value / 4, "{value}");
            }
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn percentiles() {
        let mut histogram = Histogram::<()>::new();
        assert_eq!(histogram.percentile_stats().p50, 0);
        for value in 0..=100 {
            histogram.record(value.min(7));
        }
        let stats = histogram.percentile_stats();
        assert_eq!((stats.samples, stats.p1, stats.p5), (101, 1, 5));
        assert_eq!((stats.p50, stats.p99_9), (7, 7));
    }
}
