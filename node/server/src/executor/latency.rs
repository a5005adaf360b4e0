//! The latency monitor: for each kind of event, the worst of each second in which one took longer than a threshold.

use std::collections::{BTreeMap, VecDeque};

/// Samples that are kept of an event.
const SAMPLES_MAX: usize = 160;

/// The worst of one second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// When, in seconds since 1970.
    pub at_s: u64,
    /// How long.
    pub ms: u64,
}

/// One kind of event.
#[derive(Debug, Clone, Default)]
pub struct Series {
    /// In order of time.
    pub samples: VecDeque<Sample>,
    /// The longest that there was.
    pub max_ms: u64,
    /// All of them together.
    pub sum_ms: u64,
    /// How many there were.
    pub count: u64,
}

/// What the samples of an event say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Analysis {
    /// How many there are.
    pub samples: u64,
    /// Their mean.
    pub mean_ms: u64,
    /// Their mean distance from the mean.
    pub deviation_ms: u64,
    /// Since the first of them.
    pub period_s: u64,
}

impl Series {
    fn add(&mut self, at_s: u64, ms: u64) {
        self.max_ms = self.max_ms.max(ms);
        self.sum_ms += ms;
        self.count += 1;
        match self.samples.back_mut() {
            Some(last) if last.at_s == at_s => last.ms = last.ms.max(ms),
            _ => self.samples.push_back(Sample { at_s, ms }),
        }
        if self.samples.len() > SAMPLES_MAX {
            self.samples.pop_front();
        }
    }

    /// See [`Analysis`].
    pub fn analysis(&self, now_s: u64) -> Analysis {
        let samples = self.samples.len() as u64;
        let mean = |sum: u64| sum.checked_div(samples).unwrap_or(0);
        let mean_ms = mean(self.samples.iter().map(|s| s.ms).sum());
        let oldest_s = self.samples.iter().map(|s| s.at_s).min().unwrap_or(now_s);
        Analysis {
            samples,
            mean_ms,
            deviation_ms: mean(self.samples.iter().map(|s| s.ms.abs_diff(mean_ms)).sum()),
            period_s: now_s.saturating_sub(oldest_s).max(1),
        }
    }
}

/// The events so far.
#[derive(Debug, Default)]
pub struct LatencyMonitor {
    events: BTreeMap<&'static str, Series>,
}

impl LatencyMonitor {
    /// Adds a sample.
    pub fn add(&mut self, event: &'static str, at_s: u64, ms: u64) {
        self.events.entry(event).or_default().add(at_s, ms);
    }

    /// The events, by name.
    pub fn events(&self) -> impl ExactSizeIterator<Item = (&'static str, &Series)> {
        self.events.iter().map(|(name, s)| (*name, s))
    }

    /// One of them.
    pub fn event(&self, name: &[u8]) -> Option<(&'static str, &Series)> {
        self.events().find(|(n, _)| n.as_bytes() == name)
    }

    /// Forgets those that are named, or all. Returns how many there were.
    pub fn reset(&mut self, names: &[&[u8]]) -> usize {
        let before = self.events.len();
        self.events.retain(|name, _| {
            let named = |n: &&[u8]| n.eq_ignore_ascii_case(name.as_bytes());
            !names.is_empty() && !names.iter().any(named)
        });
        before - self.events.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_each_second_the_worst_is_kept() {
        let mut m = LatencyMonitor::default();
        for (at_s, ms) in [(10, 5), (10, 9), (10, 7), (12, 3)] {
            m.add("command", at_s, ms);
        }
        let (_, s) = m.event(b"command").unwrap();
        let samples: Vec<(u64, u64)> = s.samples.iter().map(|s| (s.at_s, s.ms)).collect();
        assert_eq!(samples, [(10, 9), (12, 3)]);
        assert_eq!((s.max_ms, s.sum_ms, s.count), (9, 24, 4));
        let expect = Analysis {
            samples: 2,
            mean_ms: 6,
            deviation_ms: 3,
            period_s: 10,
        };
        assert_eq!(s.analysis(20), expect);
        for at_s in 100..500 {
            m.add("command", at_s, 1);
        }
        let (_, s) = m.event(b"command").unwrap();
        assert_eq!(s.samples.len(), SAMPLES_MAX);
        assert_eq!(s.samples[0].at_s, 340);
    }

    #[test]
    fn events_are_forgotten_by_name() {
        let mut m = LatencyMonitor::default();
        for event in ["command", "expire-cycle"] {
            m.add(event, 1, 1);
        }
        assert_eq!(m.reset(&[b"nothing"]), 0);
        assert_eq!(m.reset(&[b"COMMAND", b"nothing"]), 1);
        assert_eq!(m.events().len(), 1);
        assert_eq!(m.reset(&[]), 1);
    }
}
