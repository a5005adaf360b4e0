//! Counters that `INFO` shows. Cheap to keep: plain additions on the executor's thread.

use super::Histogram;
use std::collections::BTreeMap;

/// Different error codes that are counted apart; further ones that a script makes up are counted together.
const ERROR_KINDS_MAX: usize = 128;
const ERROR_OVERFLOW: &str = "ERRORSTATS_OVERFLOW";

/// Counters of one command.
#[derive(Debug, Clone, Default)]
pub struct CommandStats {
    /// Executions.
    pub calls: u64,
    /// Refused before execution.
    pub rejected: u64,
    /// Answered with an error.
    pub failed: u64,
    /// Nanoseconds of execution.
    pub ns: u64,
    /// How long each execution took, since the first that was to be tracked.
    pub latency: Option<Box<Histogram>>,
}

/// Counters of the process, since its start or `CONFIG RESETSTAT`.
#[derive(Debug, Default)]
pub struct Stats {
    /// Commands executed.
    pub commands: u64,
    /// Connections accepted.
    pub connections: u64,
    /// Connections refused.
    pub rejected_connections: u64,
    /// Bytes received.
    pub bytes_in: u64,
    /// Bytes sent.
    pub bytes_out: u64,
    /// The longest end of a turn in which there was something to do that no client had asked for, in microseconds of
    /// wall-clock time: expiry, eviction, freeing, a snapshot.
    pub longest_step_us: u64,
    /// The same in processor time: without what others have taken of the processor meanwhile.
    pub longest_step_cpu_us: u64,
    /// Commands that do not exist.
    pub unknown_commands: u64,
    /// Clients closed for too much input.
    pub query_limit_disconnections: u64,
    /// Clients closed for too much output.
    pub output_limit_disconnections: u64,
    /// Clients closed because all together took too much memory.
    pub evicted_clients: u64,
    /// Error replies by their code.
    pub errors: BTreeMap<String, u64>,
    /// Error replies.
    pub error_replies: u64,
    /// Turns of the executor.
    pub turns: u64,
    /// Nanoseconds of turns, from waking up to waiting again.
    pub turn_ns: u64,
    /// The longest turn, in nanoseconds.
    pub turn_ns_max: u64,
    /// The most commands that one turn has executed.
    pub turn_commands_max: u64,
    /// Nanoseconds of commands.
    pub command_ns: u64,
    /// Nanoseconds of what is done some times a second.
    pub cron_ns: u64,
    /// Nanoseconds of deleting keys whose time has passed.
    pub expire_ns: u64,
    /// How often the memory of several clients' keys was fetched together.
    pub prefetch_batches: u64,
    /// Those keys.
    pub prefetch_entries: u64,
    /// Reads from clients that brought something.
    pub reads: u64,
    /// Writes to clients.
    pub writes: u64,
    /// Refused passwords.
    pub auth_denied: u64,
    per_command: Vec<CommandStats>,
    sample: Sample,
}

/// For `instantaneous_ops_per_sec` and its kind: the figures at the last sample, and the rates since.
#[derive(Debug, Default, Clone, Copy)]
struct Sample {
    at_ms: u64,
    counters: [u64; 5],
    rates: Rates,
}

/// What has come and gone a second lately.
#[derive(Debug, Default, Clone, Copy)]
pub struct Rates {
    /// Commands.
    pub commands: u64,
    /// Bytes received.
    pub bytes_in: u64,
    /// Bytes sent.
    pub bytes_out: u64,
    /// Turns.
    pub turns: u64,
    /// How long one turn has taken, in microseconds.
    pub turn_us: u64,
}

impl Stats {
    /// Counters for so many commands.
    pub fn new(commands: usize) -> Stats {
        Stats {
            per_command: vec![CommandStats::default(); commands],
            ..Stats::default()
        }
    }

    /// Starts anew.
    pub fn reset(&mut self) {
        *self = Stats {
            sample: Sample {
                at_ms: self.sample.at_ms,
                ..Sample::default()
            },
            ..Stats::new(self.per_command.len())
        };
    }

    /// The end of a turn with work of the server's own took so long.
    pub fn note_step(&mut self, took_us: u64, cpu_us: u64) {
        self.longest_step_us = self.longest_step_us.max(took_us);
        self.longest_step_cpu_us = self.longest_step_cpu_us.max(cpu_us);
    }

    /// A command has been executed.
    #[inline]
    pub fn executed(&mut self, id: u16, took_ns: u64, tracking: bool) {
        self.commands += 1;
        if let Some(c) = self.per_command.get_mut(usize::from(id)) {
            c.calls += 1;
            c.ns += took_ns;
            if tracking {
                c.latency.get_or_insert_default().record(took_ns);
            }
        }
    }

    /// A turn has ended that took so long, in which so many commands were executed.
    pub fn turn_over(&mut self, took_ns: u64, commands: u64) {
        self.turn_ns += took_ns;
        self.turn_ns_max = self.turn_ns_max.max(took_ns);
        self.turn_commands_max = self.turn_commands_max.max(commands);
    }

    /// A command was refused before execution.
    pub fn reject(&mut self, id: u16) {
        if let Some(c) = self.per_command.get_mut(usize::from(id)) {
            c.rejected += 1;
        }
    }

    /// A command has answered with this error.
    pub fn fail(&mut self, id: u16, encoded: &[u8]) {
        self.fail_quietly(id);
        self.note_error(encoded);
    }

    /// An error reply, as it is sent.
    pub fn note_error(&mut self, encoded: &[u8]) {
        let text = String::from_utf8_lossy(encoded.get(..64).unwrap_or(encoded));
        let code = text.trim_start_matches('-');
        self.count_error(code.split([' ', '\r']).next().unwrap_or_default());
    }

    /// A command has answered with an error that has been counted.
    pub fn fail_quietly(&mut self, id: u16) {
        if let Some(c) = self.per_command.get_mut(usize::from(id)) {
            c.failed += 1;
        }
    }

    /// An error reply with this code.
    pub fn count_error(&mut self, code: &str) {
        self.error_replies += 1;
        match self.errors.get_mut(code) {
            Some(n) => *n += 1,
            None => {
                self.errors.insert(code.to_string(), 1);
            }
        }
    }

    /// [`Stats::count_error`] for a code that a client has made up, of which there may be any number.
    pub fn count_custom_error(&mut self, code: &str) {
        let known = self.errors.len() < ERROR_KINDS_MAX || self.errors.contains_key(code);
        self.count_error(if known { code } else { ERROR_OVERFLOW });
    }

    /// Counters of a command.
    pub fn of(&self, id: u16) -> Option<&CommandStats> {
        self.per_command.get(usize::from(id))
    }

    /// Takes a sample, some times a second.
    pub fn sample(&mut self, now_ms: u64) {
        let s = self.sample;
        let passed = now_ms.saturating_sub(s.at_ms);
        if passed < 100 {
            return;
        }
        let counters = [
            self.commands,
            self.bytes_in,
            self.bytes_out,
            self.turns,
            self.turn_ns,
        ];
        let since = |i: usize| counters[i].saturating_sub(s.counters[i]);
        let rate = |i: usize| since(i) * 1000 / passed;
        self.sample = Sample {
            at_ms: now_ms,
            counters,
            rates: Rates {
                commands: rate(0),
                bytes_in: rate(1),
                bytes_out: rate(2),
                turns: rate(3),
                turn_us: (since(4) / 1000).checked_div(since(3)).unwrap_or(0),
            },
        };
    }

    /// What has come and gone a second lately.
    pub fn rates(&self) -> Rates {
        self.sample.rates
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_that_are_made_up_are_counted_together_when_there_are_many() {
        let mut stats = Stats::new(1);
        for code in 0..1100 {
            stats.count_custom_error(&code.to_string());
        }
        assert_eq!(stats.errors[ERROR_OVERFLOW], 972);
        stats.count_custom_error("1");
        stats.count_error("ERR");
        assert_eq!((stats.errors["1"], stats.errors["ERR"]), (2, 1));
        assert_eq!(stats.errors[ERROR_OVERFLOW], 972);
        assert_eq!(stats.error_replies, 1102);
    }

    #[test]
    fn rates_are_those_since_the_last_sample() {
        let mut stats = Stats::new(1);
        stats.sample(1000);
        for _ in 0..50 {
            stats.executed(0, 100, true);
        }
        stats.turns = 10;
        stats.turn_over(2_000_000, 50);
        stats.sample(1050);
        assert_eq!(stats.rates().commands, 0, "too soon");
        stats.sample(1500);
        let rates = stats.rates();
        assert_eq!((rates.commands, rates.turns, rates.turn_us), (100, 20, 200));
        let c = stats.of(0).unwrap();
        assert_eq!((c.calls, c.ns), (50, 5000));
        assert_eq!(c.latency.as_ref().unwrap().total(), 50);
        stats.reset();
        assert!(stats.of(0).unwrap().latency.is_none());
    }
}
