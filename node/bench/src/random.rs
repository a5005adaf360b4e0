//! Numbers as good as random, the same for the same seed, and the distributions that keys are drawn from.

/// SplitMix64: one addition and a mix a number.
#[derive(Clone, Debug)]
pub struct Numbers(u64);

impl Numbers {
    /// The sequence of a seed.
    pub fn new(seed: u64) -> Numbers {
        Numbers(seed)
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound` (0 when that is 0).
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.bits()) * u128::from(bound)) >> 64) as u64
    }

    /// A number from 0 to below 1.
    pub fn fraction(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// Which keys are asked for how often.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Distribution {
    /// All alike.
    Uniform,
    /// The n-th key in proportion to 1/n^theta; key 0 is the one asked for most.
    Zipf {
        /// 0 is uniform; caches see some 0.7 to 1.1.
        theta: f64,
    },
    /// One after the other, then from the start again.
    Sequential,
    /// The first keys get most of the commands.
    Hot {
        /// Part of the keys, in percent.
        keys: f64,
        /// Part of the commands, in percent.
        commands: f64,
    },
}

/// Draws the numbers of keys, from 0 to below their count.
#[derive(Clone, Debug)]
pub struct KeyNumbers {
    count: u64,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    Uniform,
    Zipf(Zipf),
    Sequential { next: u64, step: u64 },
    Hot { keys: u64, commands: f64 },
}

impl KeyNumbers {
    /// For one of `threads` threads, which share out a sequence between them.
    pub fn new(distribution: Distribution, count: u64, thread: u64, threads: u64) -> KeyNumbers {
        let count = count.max(1);
        let kind = match distribution {
            Distribution::Uniform => Kind::Uniform,
            Distribution::Zipf { theta } => Kind::Zipf(Zipf::new(count, theta)),
            Distribution::Sequential => Kind::Sequential {
                next: thread % count,
                step: threads.max(1),
            },
            Distribution::Hot { keys, commands } => Kind::Hot {
                keys: ((count as f64 * keys / 100.0).round() as u64).clamp(1, count),
                commands: commands / 100.0,
            },
        };
        KeyNumbers { count, kind }
    }

    /// The next key.
    pub fn draw(&mut self, numbers: &mut Numbers) -> u64 {
        match &mut self.kind {
            Kind::Uniform => numbers.below(self.count),
            Kind::Zipf(zipf) => zipf.draw(numbers) - 1,
            Kind::Sequential { next, step } => {
                let now = *next;
                *next = (now + *step) % self.count;
                now
            }
            Kind::Hot { keys, commands } => {
                let cold = self.count - *keys;
                if cold == 0 || numbers.fraction() < *commands {
                    numbers.below(*keys)
                } else {
                    *keys + numbers.below(cold)
                }
            }
        }
    }
}

/// Zipf's distribution by rejection-inversion (Hörmann and Derflinger, "Rejection-inversion to generate variates from
/// monotone discrete distributions", 1996): no table, whatever the number of keys, and any exponent.
#[derive(Clone, Debug)]
struct Zipf {
    count: f64,
    theta: f64,
    area_first: f64,
    area_last: f64,
    shortcut: f64,
}

impl Zipf {
    fn new(count: u64, theta: f64) -> Zipf {
        let count = count as f64;
        let mut zipf = Zipf {
            count,
            theta,
            area_first: 0.0,
            area_last: 0.0,
            shortcut: 0.0,
        };
        zipf.area_first = zipf.area(1.5) - 1.0;
        zipf.area_last = zipf.area(count + 0.5);
        zipf.shortcut = 2.0 - zipf.area_inverse(zipf.area(2.5) - zipf.height(2.0));
        zipf
    }

    /// From 1 to the count.
    fn draw(&self, numbers: &mut Numbers) -> u64 {
        loop {
            let area = self.area_last + numbers.fraction() * (self.area_first - self.area_last);
            let x = self.area_inverse(area);
            let k = x.round().clamp(1.0, self.count);
            if k - x <= self.shortcut || area >= self.area(k + 0.5) - self.height(k) {
                return k as u64;
            }
        }
    }

    /// x^-theta.
    fn height(&self, x: f64) -> f64 {
        (-self.theta * x.ln()).exp()
    }

    /// Its integral, up to a constant; right for a theta of 1 as well.
    fn area(&self, x: f64) -> f64 {
        let log = x.ln();
        expm1_over((1.0 - self.theta) * log) * log
    }

    fn area_inverse(&self, area: f64) -> f64 {
        let t = (area * (1.0 - self.theta)).max(-1.0);
        (log1p_over(t) * area).exp()
    }
}

/// (e^x - 1) / x
fn expm1_over(x: f64) -> f64 {
    if x.abs() > 1e-8 {
        x.exp_m1() / x
    } else {
        1.0 + x / 2.0
    }
}

/// ln(1 + x) / x
fn log1p_over(x: f64) -> f64 {
    if x.abs() > 1e-8 {
        x.ln_1p() / x
    } else {
        1.0 - x / 2.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(distribution: Distribution, keys: u64, draws: u64) -> Vec<u64> {
        let mut numbers = Numbers::new(1);
        let mut source = KeyNumbers::new(distribution, keys, 0, 1);
        let mut counts = vec![0; keys as usize];
        for _ in 0..draws {
            counts[source.draw(&mut numbers) as usize] += 1;
        }
        counts
    }

    #[test]
    fn zipf_has_its_shape() {
        for theta in [0.5, 0.99, 1.0, 1.3] {
            let (keys, draws) = (1000_u64, 1_000_000);
            let seen = counts(Distribution::Zipf { theta }, keys, draws);
            let norm: f64 = (1..=keys).map(|n| (n as f64).powf(-theta)).sum();
            for rank in [1, 2, 3, 10, 100, 1000_u64] {
                let expected = draws as f64 * (rank as f64).powf(-theta) / norm;
                let found = seen[rank as usize - 1] as f64;
                let error = 5.0 * expected.sqrt();
                assert!(
                    (found - expected).abs() < error,
                    "theta {theta}, rank {rank}: {found} instead of {expected}"
                );
            }
        }
    }

    #[test]
    fn uniform_is_flat() {
        for count in counts(Distribution::Uniform, 100, 1_000_000) {
            assert!((9_500..10_500).contains(&count), "{count}");
        }
    }

    #[test]
    fn zipf_of_zero_is_flat_and_one_key_is_the_only_one() {
        for count in counts(Distribution::Zipf { theta: 0.0 }, 100, 1_000_000) {
            assert!((9_500..10_500).contains(&count), "{count}");
        }
        assert_eq!(counts(Distribution::Zipf { theta: 0.9 }, 1, 10), [10]);
    }

    #[test]
    fn the_hot_set_gets_its_part() {
        let hot = Distribution::Hot {
            keys: 10.0,
            commands: 90.0,
        };
        let seen = counts(hot, 1000, 100_000);
        let first: u64 = seen[..100].iter().sum();
        assert!((89_000..91_000).contains(&first), "{first}");
        assert!(seen[999] > 0, "the others get the rest");
    }

    #[test]
    fn threads_share_a_sequence_out() {
        let mut numbers = Numbers::new(1);
        let mut seen = vec![0; 10];
        for thread in 0..3 {
            let mut source = KeyNumbers::new(Distribution::Sequential, 10, thread, 3);
            let share = 10 / 3 + u64::from(thread < 10 % 3);
            for _ in 0..share {
                seen[source.draw(&mut numbers) as usize] += 1;
            }
        }
        assert_eq!(seen, [1; 10]);
    }
}
