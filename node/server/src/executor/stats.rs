//! Counters that `INFO` shows. Cheap to keep: plain additions on the executor's thread.

use std::collections::BTreeMap;

/// Different error codes that are counted apart; further ones are counted together.
const ERROR_KINDS_MAX: usize = 128;

/// Counters of one command.
#[derive(Debug, Clone, Copy, Default)]
pub struct CommandStats {
    /// Executions.
    pub calls: u64,
    /// Refused before execution.
    pub rejected: u64,
    /// Answered with an error.
    pub failed: u64,
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
    per_command: Vec<CommandStats>,
    sample: Sample,
}

/// For `instantaneous_ops_per_sec` and its kind: the figures at the last sample, and the rates since.
#[derive(Debug, Default, Clone, Copy)]
struct Sample {
    at_ms: u64,
    commands: u64,
    bytes_in: u64,
    bytes_out: u64,
    rates: [u64; 3],
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

    /// A command is executed.
    #[inline]
    pub fn call(&mut self, id: u16) {
        self.commands += 1;
        if let Some(c) = self.per_command.get_mut(usize::from(id)) {
            c.calls += 1;
        }
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
        if let Some(n) = self.errors.get_mut(code) {
            *n += 1;
        } else if self.errors.len() < ERROR_KINDS_MAX {
            self.errors.insert(code.to_string(), 1);
        }
    }

    /// Counters of a command.
    pub fn of(&self, id: u16) -> CommandStats {
        self.per_command
            .get(usize::from(id))
            .copied()
            .unwrap_or_default()
    }

    /// Takes a sample, some times a second.
    pub fn sample(&mut self, now_ms: u64) {
        let s = self.sample;
        let passed = now_ms.saturating_sub(s.at_ms);
        if passed < 100 {
            return;
        }
        let rate = |new: u64, old: u64| new.saturating_sub(old) * 1000 / passed;
        self.sample = Sample {
            at_ms: now_ms,
            commands: self.commands,
            bytes_in: self.bytes_in,
            bytes_out: self.bytes_out,
            rates: [
                rate(self.commands, s.commands),
                rate(self.bytes_in, s.bytes_in),
                rate(self.bytes_out, s.bytes_out),
            ],
        };
    }

    /// Commands, bytes in and bytes out, a second.
    pub fn rates(&self) -> [u64; 3] {
        self.sample.rates
    }
}
