//! Sizes, times and rates as they are given on the command line.

use std::time::Duration;

use crate::random::Numbers;

/// The largest value that is made: what a server takes by default.
pub const SIZE_MAX: u64 = 512 << 20;

/// How long values are: one length, a range, or several of either with weights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// First and last of each, with the sum of the weights so far.
    ranges: Vec<(u64, u64, u64)>,
}

impl Sizes {
    /// Always the same.
    pub fn fixed(bytes: u64) -> Sizes {
        Sizes {
            ranges: vec![(bytes, bytes, 1)],
        }
    }

    /// `64`, `16..1KiB` or `32:80,512..4k:19,1m:1` (sizes with weights).
    ///
    /// # Errors
    /// What is wrong, for the user.
    pub fn parse(text: &str) -> Result<Sizes, String> {
        let mut ranges = Vec::new();
        let mut sum = 0_u64;
        for part in text.split(',') {
            let (range, weight) = match part.split_once(':') {
                Some((range, weight)) => {
                    let weight: u32 = weight
                        .parse()
                        .map_err(|_| format!("`{weight}` is no weight"))?;
                    (range, u64::from(weight))
                }
                None => (part, 1),
            };
            let (first, last) = match range.split_once("..") {
                Some((first, last)) => (bytes(first)?, bytes(last)?),
                None => (bytes(range)?, bytes(range)?),
            };
            if first > last {
                return Err(format!("`{range}` ends before it begins"));
            }
            if last > SIZE_MAX {
                return Err(format!("`{range}` is above 512 MiB"));
            }
            sum += weight;
            ranges.push((first, last, sum));
        }
        if sum == 0 {
            return Err(format!("`{text}` has no weight"));
        }
        Ok(Sizes { ranges })
    }

    /// The length, if there is only one.
    pub fn only(&self) -> Option<u64> {
        let (first, last, _) = *self.ranges.first()?;
        let all_alike = self.ranges.iter().all(|r| (r.0, r.1) == (first, first));
        (all_alike && first == last).then_some(first)
    }

    /// The greatest length.
    pub fn max(&self) -> u64 {
        self.ranges.iter().map(|r| r.1).max().unwrap_or(0)
    }

    /// A length.
    pub fn draw(&self, numbers: &mut Numbers) -> u64 {
        let sum = self.ranges.last().map_or(0, |r| r.2);
        let at = numbers.below(sum);
        let chosen = self.ranges.iter().find(|r| at < r.2);
        chosen.map_or(0, |(first, last, _)| {
            first + numbers.below(last - first + 1)
        })
    }
}

/// A number with an optional suffix: `64`, `10k`, `1.5M`; thousands.
///
/// # Errors
/// What is wrong, for the user.
pub fn count(text: &str) -> Result<u64, String> {
    let plain: String = text.chars().filter(|c| *c != '_').collect();
    let (digits, unit) = split_unit(&plain);
    let factor = match unit {
        "" => 1.0,
        "k" | "K" => 1e3,
        "m" | "M" => 1e6,
        "g" | "G" => 1e9,
        _ => return Err(format!("`{text}` is no number")),
    };
    scaled(digits, factor).ok_or_else(|| format!("`{text}` is no number"))
}

/// A number of bytes: `64`, `4k`, `1MiB`; powers of 1024.
///
/// # Errors
/// What is wrong, for the user.
pub fn bytes(text: &str) -> Result<u64, String> {
    let (digits, unit) = split_unit(text);
    let factor = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "k" | "kb" | "kib" => 1024.0,
        "m" | "mb" | "mib" => 1024.0 * 1024.0,
        "g" | "gb" | "gib" => 1024.0 * 1024.0 * 1024.0,
        _ => return Err(format!("`{text}` is no size")),
    };
    scaled(digits, factor).ok_or_else(|| format!("`{text}` is no size"))
}

/// A time: `10`, `10s`, `500ms`, `2m`, `1h`.
///
/// # Errors
/// What is wrong, for the user.
pub fn duration(text: &str) -> Result<Duration, String> {
    let (digits, unit) = split_unit(text);
    let millis = match unit {
        "" | "s" => 1e3,
        "ms" => 1.0,
        "m" | "min" => 60e3,
        "h" => 3600e3,
        _ => return Err(format!("`{text}` is no time (try 10s, 500ms or 2m)")),
    };
    scaled(digits, millis)
        .map(Duration::from_millis)
        .ok_or_else(|| format!("`{text}` is no time (try 10s, 500ms or 2m)"))
}

fn split_unit(text: &str) -> (&str, &str) {
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    text.split_at(end)
}

fn scaled(digits: &str, factor: f64) -> Option<u64> {
    if factor == 1.0 {
        return digits.parse().ok();
    }
    let value = digits.parse::<f64>().ok()? * factor;
    (value < 1e18).then_some(value.round() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units() {
        assert_eq!(count("10k"), Ok(10_000));
        assert_eq!(count("1.5M"), Ok(1_500_000));
        assert_eq!(count("5_000"), Ok(5_000));
        assert_eq!(bytes("1MiB"), Ok(1 << 20));
        assert_eq!(bytes("4k"), Ok(4096));
        assert_eq!(duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        for wrong in ["", "x", "1x", "-1", "1 k", ".", "9999999999999999999k"] {
            assert!(count(wrong).is_err(), "{wrong}");
            assert!(bytes(wrong).is_err(), "{wrong}");
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn sizes_lie_in_their_ranges_by_their_weights() {
        let sizes = Sizes::parse("10:80,100..200:20").expect("sizes");
        let mut numbers = Numbers::new(1);
        let drawn: Vec<u64> = (0..10_000).map(|_| sizes.draw(&mut numbers)).collect();
        let small = drawn.iter().filter(|s| **s == 10).count();
        assert!((7_800..8_200).contains(&small), "{small}");
        let range = drawn.iter().filter(|s| **s != 10);
        assert!(range.clone().all(|s| (100..=200).contains(s)));
        assert_eq!(range.clone().min(), Some(&100));
        assert_eq!(range.max(), Some(&200));
        assert_eq!((sizes.max(), sizes.only()), (200, None));
        assert_eq!(Sizes::parse("64").expect("a size").only(), Some(64));
        assert_eq!(Sizes::parse("64:1,64:2").expect("a size").only(), Some(64));
    }

    #[test]
    fn wrong_sizes_are_named() {
        for wrong in ["", "a", "5..1", "1:0", "1:x", "600MiB", "1,,2"] {
            assert!(Sizes::parse(wrong).is_err(), "{wrong}");
        }
    }
}
