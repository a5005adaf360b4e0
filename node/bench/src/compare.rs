//! Two servers under the same load, in turns, so that both see the same machine.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::Failure;
use crate::plan::Plan;
use crate::report;
use crate::run::{self, Outcome, Tick, Watcher};
use crate::server::{Cpu, Identity};

/// A server of a comparison.
#[derive(Clone, Debug)]
pub struct Side {
    /// What is done to it.
    pub plan: Plan,
    /// As it is shown.
    pub identity: Identity,
}

/// What one round with one server gave.
#[derive(Clone, Debug)]
pub struct Round {
    /// The load's own figures.
    pub outcome: Outcome,
    /// Processor time of the server in it, if its process is known.
    pub cpu: Option<Cpu>,
}

impl Round {
    /// Microseconds of the server's processor time a command.
    pub fn cpu_us(&self) -> Option<f64> {
        let total = self.cpu.as_ref()?.total();
        Some(self.each(total))
    }

    /// The same by the name of the thread.
    pub fn thread_us(&self) -> BTreeMap<String, f64> {
        let threads = self.cpu.iter().flat_map(|c| &c.threads);
        threads
            .map(|(name, used)| (name.clone(), self.each(*used)))
            .collect()
    }

    fn each(&self, used: Duration) -> f64 {
        used.as_secs_f64() * 1e6 / self.outcome.tally.done().max(1) as f64
    }

    /// A percentile of all commands' latency in microseconds.
    pub fn percentile_us(&self, percent: f64) -> f64 {
        self.outcome.tally.total().latency.percentile(percent) as f64 / 1000.0
    }
}

/// The median of some figures, with the least and the greatest.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Spread {
    /// The middle one, or the mean of the two in the middle.
    pub median: f64,
    /// The least.
    pub min: f64,
    /// The greatest.
    pub max: f64,
}

impl Spread {
    /// Of some figures; zeros if there are none.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Spread {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let at = |n: usize| values.get(n).copied().unwrap_or_default();
        let middle = values.len() / 2;
        let median = if values.len().is_multiple_of(2) {
            (at(middle.saturating_sub(1)) + at(middle)) / 2.0
        } else {
            at(middle)
        };
        Spread {
            median,
            min: at(0),
            max: at(values.len().saturating_sub(1)),
        }
    }
}

/// The rounds of both servers, in their order.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// Who they are.
    pub sides: [Identity; 2],
    /// What they gave.
    pub rounds: [Vec<Round>; 2],
}

/// A figure of both servers and its ratio, the first's to the second's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Figure {
    /// Of each server, over its rounds.
    pub sides: [Spread; 2],
    /// Of rounds that followed each other.
    pub ratio: Spread,
}

impl Comparison {
    /// A figure over all rounds; `None` if a round does not have it.
    pub fn figure(&self, of: impl Fn(&Round) -> Option<f64>) -> Option<Figure> {
        let values =
            |side: usize| -> Option<Vec<f64>> { self.rounds[side].iter().map(&of).collect() };
        let (a, b) = (values(0)?, values(1)?);
        let ratios = a.iter().zip(&b).map(|(a, b)| a / b.max(1e-12));
        Some(Figure {
            ratio: Spread::of(ratios),
            sides: [Spread::of(a.iter().copied()), Spread::of(b.iter().copied())],
        })
    }

    /// Replies a second.
    pub fn throughput(&self) -> Option<Figure> {
        self.figure(|r| Some(r.outcome.per_second()))
    }

    /// Latency in microseconds.
    pub fn latency_us(&self, percent: f64) -> Option<Figure> {
        self.figure(|r| Some(r.percentile_us(percent)))
    }

    /// The server's processor time a command in microseconds.
    pub fn cpu_us(&self) -> Option<Figure> {
        self.figure(Round::cpu_us)
    }

    /// The same of one side by thread, those that did anything worth telling.
    pub fn threads_us(&self, side: usize) -> Vec<(String, Spread)> {
        let rounds: Vec<BTreeMap<String, f64>> =
            self.rounds[side].iter().map(Round::thread_us).collect();
        let mut names: Vec<&String> = rounds.iter().flat_map(BTreeMap::keys).collect();
        names.sort_unstable();
        names.dedup();
        let mut threads: Vec<(String, Spread)> = names
            .into_iter()
            .map(|name| {
                let values = rounds.iter().map(|r| r.get(name).copied().unwrap_or(0.0));
                (name.clone(), Spread::of(values))
            })
            .filter(|(_, spread)| spread.median >= 0.005)
            .collect();
        threads.sort_by(|a, b| b.1.median.total_cmp(&a.1.median));
        threads
    }

    /// All rounds of one side as one.
    pub fn whole(&self, side: usize) -> crate::tally::Tally {
        let mut tally = crate::tally::Tally::default();
        for round in &self.rounds[side] {
            tally.add(&round.outcome.tally);
        }
        tally
    }
}

/// Has the server's processor time looked at when measuring begins and ends.
pub struct Metered<'a> {
    inner: &'a mut dyn Watcher,
    pid: Option<u32>,
    before: Option<Cpu>,
    used: Option<Cpu>,
}

impl<'a> Metered<'a> {
    /// Tells `inner` everything as well.
    pub fn new(inner: &'a mut dyn Watcher, pid: Option<u32>) -> Metered<'a> {
        Metered {
            inner,
            pid,
            before: None,
            used: None,
        }
    }

    /// What the server used.
    pub fn used(self) -> Option<Cpu> {
        self.used
    }
}

impl Watcher for Metered<'_> {
    fn phase(&mut self, title: &str) {
        self.inner.phase(title);
    }

    fn on_begin(&mut self) {
        self.before = self.pid.and_then(|pid| Cpu::of(pid).ok());
        self.inner.on_begin();
    }

    fn on_tick(&mut self, tick: &Tick) {
        self.inner.on_tick(tick);
    }

    fn on_end(&mut self) {
        let now = self.pid.and_then(|pid| Cpu::of(pid).ok());
        self.used = now.zip(self.before.as_ref()).map(|(n, b)| n.since(b));
        self.inner.on_end();
    }

    fn is_interrupted(&self) -> bool {
        self.inner.is_interrupted()
    }
}

/// One run with the server's processor time.
///
/// # Errors
/// As [`run::run`].
pub fn round(plan: &Plan, pid: Option<u32>, watcher: &mut dyn Watcher) -> Result<Round, Failure> {
    let mut metered = Metered::new(watcher, pid);
    let outcome = run::run(plan, &mut metered)?;
    Ok(Round {
        outcome,
        cpu: metered.used(),
    })
}

/// Runs A, B, A, B … `rounds` times each.
///
/// # Errors
/// As [`run::run`].
pub fn compare(
    sides: [&Side; 2],
    rounds: usize,
    watcher: &mut dyn Watcher,
) -> Result<Comparison, Failure> {
    let mut all = [Vec::new(), Vec::new()];
    'rounds: for number in 0..rounds {
        for (side, done) in all.iter_mut().enumerate() {
            let title = report::title(sides[side]);
            watcher.phase(&format!("round {} of {rounds}: {title}", number + 1));
            let mut plan = sides[side].plan.clone();
            // Other keys each time, the same for both.
            plan.load.seed = plan.load.seed.wrapping_add(number as u64);
            let result = round(&plan, sides[side].identity.pid, watcher)?;
            if watcher.is_interrupted() {
                break 'rounds;
            }
            done.push(result);
        }
    }
    let whole = all[0].len().min(all[1].len());
    all.iter_mut().for_each(|side| side.truncate(whole));
    if whole == 0 {
        return Err(Failure::new("interrupted before both servers had a round"));
    }
    Ok(Comparison {
        sides: sides.map(|s| s.identity.clone()),
        rounds: all,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spreads() {
        let spread = Spread::of([3.0, 1.0, 2.0, 10.0]);
        assert_eq!((spread.median, spread.min, spread.max), (2.5, 1.0, 10.0));
        assert_eq!(Spread::of([7.0]).median, 7.0);
        assert_eq!(Spread::of([]), Spread::default());
    }
}
