//! `activedefrag`: while too much of the memory that has been taken for entries is not used, the engine moves together what lies apart, in
//! steps that take about the part of the time that the configuration allows.

use super::Executor;
use crate::config::Config;

/// About how long a step takes: a quarter of a millisecond.
const STEPS_A_MS: u64 = 4;

/// When to begin, and how much effort to make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DefragLimits {
    /// `active-defrag-ignore-bytes`
    ignore_bytes: usize,
    /// `active-defrag-threshold-lower` and `-upper`: unused bytes in percent of those in use.
    threshold: (usize, usize),
    /// `active-defrag-cycle-min` and `-max`: percent of the time.
    cycle: (usize, usize),
}

impl DefragLimits {
    /// What the configuration says; `None` without `activedefrag`.
    pub fn of(c: &Config) -> Option<DefragLimits> {
        c.yes("activedefrag").then(|| DefragLimits {
            ignore_bytes: c.size("active-defrag-ignore-bytes"),
            threshold: (
                c.size("active-defrag-threshold-lower"),
                c.size("active-defrag-threshold-upper"),
            ),
            cycle: (
                c.size("active-defrag-cycle-min"),
                c.size("active-defrag-cycle-max"),
            ),
        })
    }

    /// Percent of the time to be spent, by how much is not used.
    fn effort(&self, unused_percent: usize) -> u64 {
        let (lower, upper) = self.threshold;
        let (least, most) = self.cycle;
        let over = unused_percent.saturating_sub(lower);
        let range = upper.saturating_sub(lower).max(1);
        let effort = least + most.saturating_sub(least) * over.min(range) / range;
        effort.clamp(1, 99) as u64
    }
}

/// A run under way, and what there was of them.
#[derive(Debug, Default)]
pub(crate) struct Defrag {
    /// Percent of the time; 0 while nothing is done.
    pub effort: u64,
    /// Milliseconds of the runs before this one.
    pub total_ms: u64,
    pub since_ms: u64,
    next_ms: u64,
    /// Unused bytes when the run began.
    unused_before: usize,
    /// There has been a run that gave little back: none begins before more than this is unused.
    resigned_at: usize,
}

impl Executor {
    /// Begins a run when one is due, and says how much effort is to be made.
    pub(super) fn defrag_cron(&mut self) {
        let Some(limits) = self.settings.defrag else {
            self.engine.defrag_end();
            self.defrag.resigned_at = 0;
            return;
        };
        let unused = self.engine.unused_bytes();
        let percent = unused * 100 / self.engine.entry_bytes().max(1);
        let now = self.now.mono_ms();
        if !self.engine.is_defragging() {
            if unused <= limits.ignore_bytes.max(self.defrag.resigned_at)
                || percent <= limits.threshold.0
            {
                return;
            }
            self.engine.defrag_begin();
            self.defrag.since_ms = now;
            self.defrag.next_ms = now;
            self.defrag.unused_before = unused;
        }
        self.defrag.effort = limits.effort(percent);
    }

    /// For how long the run under way has been.
    pub(crate) fn defragging_ms(&self) -> u64 {
        match self.defrag.effort {
            0 => 0,
            _ => self.now.mono_ms().saturating_sub(self.defrag.since_ms),
        }
    }

    /// When the next step is due.
    pub(super) fn defrag_deadline_ms(&self) -> Option<u64> {
        (self.defrag.effort > 0).then_some(self.defrag.next_ms)
    }

    /// Makes a step of a run, if it is time.
    pub(super) fn defrag_turn(&mut self) {
        let now = self.now.mono_ms();
        let effort = self.defrag.effort;
        if effort == 0 || now < self.defrag.next_ms {
            return;
        }
        // No turn takes much of a millisecond: above 75 % nothing more is done.
        let steps = 1 + effort.min(75) / 26;
        let mut more = false;
        let took_ns = self.timed(|ex| more = (0..steps).all(|_| ex.engine.defrag_step()));
        self.note_latency("active-defrag-cycle", took_ns);
        if more {
            let wait = steps * (100 - effort) / (effort * STEPS_A_MS);
            self.defrag.next_ms = now + wait.max(1);
            return;
        }
        self.defrag.effort = 0;
        self.defrag.total_ms += now - self.defrag.since_ms;
        let unused = self.engine.unused_bytes();
        let gained = self.defrag.unused_before.saturating_sub(unused);
        self.defrag.resigned_at = if gained < unused / 10 {
            unused + unused / 10
        } else {
            0
        };
    }
}
