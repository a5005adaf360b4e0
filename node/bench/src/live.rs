//! What one sees while a load runs: a view that is drawn again and again in a terminal, lines elsewhere.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::report::{grouped, latency};
use crate::run::{Tick, Watcher};
use crate::tally::Tally;

/// How often the view is drawn, and the time of one mark of a sparkline.
const FRAME: Duration = Duration::from_millis(250);
/// How often a line is printed.
const LINE: Duration = Duration::from_secs(1);
/// Marks of a sparkline.
const MARKS: usize = 48;
const BAR: usize = 32;

/// How progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Not at all.
    Quiet,
    /// A line a second.
    Lines,
    /// Drawn in place.
    Terminal,
}

impl Style {
    /// What suits the standard error, where progress goes.
    pub fn suitable() -> Style {
        match std::io::stderr().is_terminal() {
            true => Style::Terminal,
            false => Style::Lines,
        }
    }
}

/// Shows progress, and knows when the user wants to stop.
#[derive(Debug)]
pub struct Live {
    style: Style,
    title: String,
    interrupted: Arc<AtomicBool>,
    /// Since the last frame.
    window: Tally,
    window_took: Duration,
    drawn_lines: usize,
    rates: VecDeque<f64>,
    p50s: VecDeque<f64>,
    p99s: VecDeque<f64>,
    p999s: VecDeque<f64>,
    errors: u64,
    warming_up: bool,
}

impl Live {
    /// In a style; the flag is set when the user interrupts.
    pub fn new(style: Style, interrupted: Arc<AtomicBool>) -> Live {
        Live {
            style,
            title: String::new(),
            interrupted,
            window: Tally::default(),
            window_took: Duration::ZERO,
            drawn_lines: 0,
            rates: VecDeque::new(),
            p50s: VecDeque::new(),
            p99s: VecDeque::new(),
            p999s: VecDeque::new(),
            errors: 0,
            warming_up: false,
        }
    }

    /// Removes the view.
    pub fn clear(&mut self) {
        if self.drawn_lines > 0 {
            eprint!("\x1b[{}A\x1b[J", self.drawn_lines);
            let _ = std::io::stderr().flush();
            self.drawn_lines = 0;
        }
    }

    fn frame(&mut self, tick: &Tick) {
        let seconds = self.window_took.as_secs_f64().max(1e-3);
        let rate = self.window.done() as f64 / seconds;
        let histogram = self.window.total().latency;
        let [p50, p99, p999] = [50.0, 99.0, 99.9].map(|p| histogram.percentile(p) as f64);
        self.errors += self.window.total().errors;
        let warming = if tick.warming_up { "  warming up" } else { "" };
        if self.style == Style::Lines && tick.warming_up {
            eprintln!("{:>6.1} s  warming up", tick.elapsed.as_secs_f64());
            return;
        }
        if self.style == Style::Lines {
            let errors = match self.errors {
                0 => String::new(),
                n => format!("  {} errors", grouped(n as f64)),
            };
            eprintln!(
                "{:>6.1} s {:>12}/s   p50 {:>9}   p99 {:>9}   p99.9 {:>9}{errors}",
                tick.elapsed.as_secs_f64(),
                grouped(rate),
                latency(p50),
                latency(p99),
                latency(p999)
            );
            return;
        }
        if !tick.warming_up {
            for (marks, value) in [
                (&mut self.rates, rate),
                (&mut self.p50s, p50),
                (&mut self.p99s, p99),
                (&mut self.p999s, p999),
            ] {
                marks.push_back(value);
                if marks.len() > MARKS {
                    marks.pop_front();
                }
            }
        }
        let filled = (tick.progress * BAR as f64).round() as usize;
        let mut view = format!(
            "\x1b[1m{}\x1b[0m\n\x1b[36m{}\x1b[2m{}\x1b[0m {:>3.0} %  {:.1} s{warming}\n",
            self.title,
            "█".repeat(filled.min(BAR)),
            "░".repeat(BAR - filled.min(BAR)),
            tick.progress * 100.0,
            tick.elapsed.as_secs_f64()
        );
        for (name, value, marks) in [
            ("replies", format!("{}/s", grouped(rate)), &self.rates),
            ("p50", latency(p50), &self.p50s),
            ("p99", latency(p99), &self.p99s),
            ("p99.9", latency(p999), &self.p999s),
        ] {
            let _ = writeln!(
                view,
                "{name:<8}{value:>14}  \x1b[36m{}\x1b[0m",
                sparkline(marks)
            );
        }
        let mut lines = 6;
        if self.errors > 0 {
            let _ = writeln!(
                view,
                "\x1b[31merrors  {:>14}\x1b[0m",
                grouped(self.errors as f64)
            );
            lines += 1;
        }
        self.clear();
        // What is wider than the terminal is cut off: a line that took two would not be taken back.
        eprint!("\x1b[?7l{view}\x1b[?7h");
        let _ = std::io::stderr().flush();
        self.drawn_lines = lines;
    }
}

impl Watcher for Live {
    fn phase(&mut self, title: &str) {
        self.clear();
        self.title = title.to_owned();
        self.window = Tally::default();
        self.window_took = Duration::ZERO;
        for marks in [
            &mut self.rates,
            &mut self.p50s,
            &mut self.p99s,
            &mut self.p999s,
        ] {
            marks.clear();
        }
        self.errors = 0;
        if self.style == Style::Lines {
            eprintln!("{}", self.title);
        }
    }

    fn on_tick(&mut self, tick: &Tick) {
        if self.style == Style::Quiet {
            return;
        }
        if tick.warming_up != self.warming_up {
            self.warming_up = tick.warming_up;
            self.window.clear();
            self.window_took = Duration::ZERO;
        }
        self.window.add(tick.tally);
        self.window_took += tick.interval;
        let every = match self.style {
            Style::Terminal => FRAME,
            _ => LINE,
        };
        if self.window_took >= every {
            self.frame(tick);
            self.window.clear();
            self.window_took = Duration::ZERO;
        }
    }

    fn is_interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }
}

/// One mark for each value, its height in proportion to the largest.
pub fn sparkline(values: &VecDeque<f64>) -> String {
    const HEIGHTS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let max = values.iter().copied().fold(0.0, f64::max);
    let height = |value: f64| {
        if max <= 0.0 {
            return HEIGHTS[0];
        }
        HEIGHTS[((value / max * 7.0).round() as usize).min(7)]
    };
    values.iter().map(|v| height(*v)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_as_high_as_their_values() {
        let values = VecDeque::from([0.0, 50.0, 100.0]);
        assert_eq!(sparkline(&values), "▁▅█");
        assert_eq!(sparkline(&VecDeque::from([0.0])), "▁");
        assert_eq!(sparkline(&VecDeque::new()), "");
    }
}
