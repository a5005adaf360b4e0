//! How fast a snapshot goes. The executor gives it half of its time, in small parts, so that clients, and the thread that packs what the snapshot
//! gives, find a processor that is free: on few processors the longest wait of a client is for that, not for a step.
//!
//! Time is measured by whoever drives the executor ([`Pace::learn`]); a step costs what steps have cost lately.

/// Percent of the time that is given.
const SHARE: i64 = 50;
/// As much of it is saved up at most: what one turn takes, once the snapshot had to wait.
const CREDIT_NS_MAX: i64 = 300_000;
/// What a step is thought to cost, at first, at least and at most. The least is what it costs where no memory is in the cache: what comes next may
/// be of that kind.
const STEP_NS: (i64, i64, i64) = (15_000, 10_000, 1_000_000);

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Pace {
    step_ns: i64,
    credit_ns: i64,
    /// Up to when time has been credited.
    at_us: u64,
    /// Steps since the last measurement.
    steps: i64,
}

impl Pace {
    pub fn new(now_us: u64) -> Pace {
        Pace {
            step_ns: STEP_NS.0,
            credit_ns: CREDIT_NS_MAX,
            at_us: now_us,
            steps: 0,
        }
    }

    fn credit_at(&self, now_us: u64) -> i64 {
        let passed = i64::try_from(now_us.saturating_sub(self.at_us)).unwrap_or(i64::MAX);
        let more = passed.saturating_mul(1000 * SHARE / 100);
        self.credit_ns.saturating_add(more).min(CREDIT_NS_MAX)
    }

    /// Whether a step may be made at this time.
    pub fn is_ready(&self, now_us: u64) -> bool {
        self.credit_at(now_us) > 0
    }

    /// A turn begins.
    pub fn begin_turn(&mut self, now_us: u64) {
        self.credit_ns = self.credit_at(now_us);
        self.at_us = self.at_us.max(now_us);
    }

    /// Whether one more step may be made in this turn; it is paid for.
    pub fn take_step(&mut self) -> bool {
        if self.credit_ns <= 0 {
            return false;
        }
        self.credit_ns -= self.step_ns;
        self.steps += 1;
        true
    }

    /// The turn's own work took so long. What was too much, or too little, for its steps is settled.
    pub fn learn(&mut self, took_us: u64) {
        if self.steps == 0 {
            return;
        }
        let took = i64::try_from(took_us)
            .unwrap_or(i64::MAX)
            .saturating_mul(1000);
        self.credit_ns = self.credit_ns + self.steps * self.step_ns - took.min(1_000_000_000);
        let (_, least, most) = STEP_NS;
        let measured = (took / self.steps).clamp(least, most);
        // What has become dearer is believed at once, what has become cheaper little by little.
        self.step_ns = measured.max((3 * self.step_ns + measured) / 4);
        self.steps = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Steps of 1 ms in all, at so many µs each, whoever comes how often: the share is kept, and no turn takes much more than is saved up.
    #[test]
    fn half_of_the_time_is_given() {
        for (cost_us, every_us) in [(8, 50), (8, 1000), (100, 300), (900, 1000), (20, 3000)] {
            let mut pace = Pace::new(0);
            let (mut now, mut worked, mut longest) = (0, 0, 0);
            while now < 2_000_000 {
                pace.begin_turn(now);
                let mut took = 0;
                while pace.take_step() {
                    took += cost_us;
                }
                pace.learn(took);
                worked += took;
                if now > 10_000 {
                    longest = longest.max(took);
                }
                now += took + every_us;
            }
            let percent = worked * 100 / now;
            let reachable = (30_000 / (300 + every_us)).min(50);
            assert!(
                (reachable * 7 / 10..=52).contains(&percent),
                "{cost_us} µs each {every_us} µs: {percent} %"
            );
            assert!(longest <= 300 + 2 * cost_us, "{longest} µs");
        }
    }

    #[test]
    fn a_dear_step_is_paid_back() {
        let mut pace = Pace::new(1_000_000);
        assert!(pace.take_step());
        pace.learn(20_000);
        assert!(!pace.take_step() && !pace.is_ready(1_030_000));
        assert!(pace.is_ready(1_060_000));
        // A clock that goes back gives nothing, and takes nothing.
        pace.begin_turn(5);
        assert!(!pace.is_ready(6) && pace.is_ready(1_060_000));
    }
}
