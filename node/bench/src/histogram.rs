//! Latencies in buckets whose width is a small part of their value, in the manner of HdrHistogram.
//!
//! ```text
//! value            0 … 511        512 … 1023      1024 … 2047      …
//! bucket width     1              2               4                …
//! ```
//!
//! So a value is told to 0.4 %, recording is a shift and an addition, and histograms of threads and intervals can be added up.

/// Each power of two is divided into this many (as a power of two) buckets.
const SUB_BITS: u32 = 8;
/// Longer is counted as this long: 73 minutes in nanoseconds.
const VALUE_MAX: u64 = (1 << 42) - 1;
const BUCKETS: usize = index(VALUE_MAX) + 1;

const fn index(value: u64) -> usize {
    let width_bits = (63 - (value | 1).leading_zeros()).saturating_sub(SUB_BITS);
    ((width_bits as usize) << SUB_BITS) + (value >> width_bits) as usize
}

/// The largest value that is counted at `index`.
const fn highest(index: usize) -> u64 {
    let width_bits = (index >> SUB_BITS).saturating_sub(1);
    let mantissa = (index - (width_bits << SUB_BITS)) as u64;
    ((mantissa + 1) << width_bits) - 1
}

/// How often which latency was seen, in nanoseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    /// Empty until the first value comes.
    counts: Vec<u64>,
    total: u64,
    sum: u128,
    min: u64,
    max: u64,
}

impl Histogram {
    /// Counts one value.
    pub fn record(&mut self, nanos: u64) {
        self.record_many(nanos, 1);
    }

    /// Counts a value `count` times.
    pub fn record_many(&mut self, nanos: u64, count: u64) {
        if count == 0 {
            return;
        }
        if self.counts.is_empty() {
            self.counts = vec![0; BUCKETS];
        }
        let nanos = nanos.min(VALUE_MAX);
        self.counts[index(nanos)] += count;
        self.min = if self.total == 0 {
            nanos
        } else {
            self.min.min(nanos)
        };
        self.max = self.max.max(nanos);
        self.total += count;
        self.sum += u128::from(nanos) * u128::from(count);
    }

    /// Adds what another has counted.
    pub fn add(&mut self, other: &Histogram) {
        if other.total == 0 {
            return;
        }
        if self.total == 0 {
            self.clone_from(other);
            return;
        }
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine += theirs;
        }
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
        self.total += other.total;
        self.sum += other.sum;
    }

    /// Forgets everything, and keeps the memory.
    pub fn clear(&mut self) {
        if self.total > 0 {
            self.counts.fill(0);
        }
        (self.total, self.sum, self.min, self.max) = (0, 0, 0, 0);
    }

    /// How many values were counted.
    pub fn count(&self) -> u64 {
        self.total
    }

    /// The largest; 0 when there is none.
    pub fn max(&self) -> u64 {
        self.max
    }

    /// The smallest; 0 when there is none.
    pub fn min(&self) -> u64 {
        self.min
    }

    /// The mean; 0 when there is none.
    pub fn mean(&self) -> f64 {
        if self.total == 0 {
            return 0.0;
        }
        self.sum as f64 / self.total as f64
    }

    /// The value that `percent` of all are not above, told to 0.4 %; 0 when there is none.
    pub fn percentile(&self, percent: f64) -> u64 {
        let wanted = (self.total as f64 * percent / 100.0).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted.min(self.total) && seen > 0 {
                return highest(index).clamp(self.min, self.max);
            }
        }
        0
    }

    /// The curve of latency by percentile: pairs of percent and value, ten for each halving of what lies above, as long as
    /// there are values above.
    pub fn curve(&self) -> Vec<(f64, u64)> {
        let mut points = Vec::new();
        if self.total == 0 {
            return points;
        }
        let mut above = 1.0_f64;
        while above * self.total as f64 >= 0.5 {
            let percent = 100.0 * (1.0 - above);
            points.push((percent, self.percentile(percent)));
            above *= 0.5_f64.powf(0.1);
        }
        points.push((100.0 - 50.0 / self.total as f64, self.max));
        points
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Numbers;

    #[test]
    fn buckets_follow_each_other_without_a_gap() {
        for i in 1..BUCKETS {
            assert_eq!(index(highest(i - 1) + 1), i);
            assert_eq!(index(highest(i)), i);
        }
        assert_eq!(highest(BUCKETS - 1), VALUE_MAX);
    }

    #[test]
    fn percentiles_are_told_to_half_a_percent() {
        let mut numbers = Numbers::new(3);
        let mut histogram = Histogram::default();
        let mut values: Vec<u64> = (0..20_000)
            .map(|_| {
                let bits = numbers.below(36);
                numbers.below(1 << bits) + 1
            })
            .collect();
        values.iter().for_each(|v| histogram.record(*v));
        values.sort_unstable();
        for percent in [0.0, 1.0, 25.0, 50.0, 90.0, 99.0, 99.9, 99.99, 100.0] {
            let rank = (values.len() as f64 * percent / 100.0).ceil().max(1.0) as usize;
            let exact = values[rank - 1] as f64;
            let told = histogram.percentile(percent) as f64;
            assert!(
                (told - exact).abs() <= exact * 0.004 + 0.5,
                "{percent}: {told} instead of {exact}"
            );
        }
        assert_eq!(histogram.percentile(100.0), values[values.len() - 1]);
        assert_eq!(histogram.count(), 20_000);
    }

    #[test]
    fn parts_add_up_to_the_whole() {
        let mut numbers = Numbers::new(4);
        let mut whole = Histogram::default();
        let mut parts = [Histogram::default(), Histogram::default()];
        for n in 0..5000 {
            let value = numbers.below(1_000_000);
            whole.record(value);
            parts[n % 2].record(value);
        }
        let [mut sum, other] = parts;
        sum.add(&other);
        assert_eq!(sum, whole);
        sum.clear();
        assert_eq!(sum.count(), 0);
        sum.record(7);
        assert_eq!((sum.min(), sum.max(), sum.percentile(50.0)), (7, 7, 7));
    }

    #[test]
    fn nothing_recorded_is_nothing_told() {
        let histogram = Histogram::default();
        assert_eq!((histogram.percentile(99.0), histogram.max()), (0, 0));
        assert!(histogram.curve().is_empty());
        assert_eq!(histogram.mean(), 0.0);
    }

    #[test]
    fn too_long_is_counted_as_the_longest() {
        let mut histogram = Histogram::default();
        histogram.record(u64::MAX);
        assert_eq!(histogram.max(), VALUE_MAX);
    }

    #[test]
    fn the_curve_rises_to_the_maximum() {
        let mut histogram = Histogram::default();
        (1..=1000).for_each(|v| histogram.record(v * 1000));
        let curve = histogram.curve();
        assert!(curve.is_sorted());
        assert_eq!(curve.last().map(|p| p.1), Some(1_000_000));
        assert!(curve.len() > 80);
    }
}
