//! Measuring: how long each command takes, and who is to hear of it.
//!
//! The clock is read once before the commands of a batch and once behind each: where one ends the next begins. All that is rare
//! (a slow command, a large one, somebody who monitors) is behind one comparison of each figure.

use super::commandlog::{CommandLog, LogEntry, LogKind, secrets, shortened};
use super::latency::LatencyMonitor;
use super::{ConnId, Executor, State};
use crate::commands::Entry;
use crate::config::Observed;
use crate::ticks::Ticks;
use holdfast_engine::{Flags, key_slot};

/// Slots of a cluster.
const SLOTS: usize = 16384;

/// What commands on the keys of a slot have used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SlotTraffic {
    /// Nanoseconds of execution.
    pub ns: u64,
    /// Bytes of requests.
    pub bytes_in: u64,
    /// Bytes of replies.
    pub bytes_out: u64,
}

/// What was measured last, what is worth a note, and the notes.
#[derive(Debug)]
pub struct Observer {
    ticks: Ticks,
    /// When what is under way began.
    at_ns: u64,
    /// Bytes of the request that is being executed.
    pub(super) request_bytes: usize,
    /// Figures from which on a command is looked at more closely.
    slow_ns: u64,
    request_bytes_noted: usize,
    reply_bytes_noted: usize,
    /// Every command is: somebody monitors, or traffic of slots is counted.
    all_noted: bool,
    settings: Observed,
    pub(super) monitors: Vec<ConnId>,
    turn_ns: u64,
    /// The turn did more than to wait.
    commands_at_turn: u64,
    /// `SLOWLOG`, `COMMANDLOG`
    pub log: CommandLog,
    /// `LATENCY`
    pub latency: LatencyMonitor,
    slots: Option<Box<[SlotTraffic]>>,
}

impl Observer {
    pub(super) fn new(ticks: Ticks, settings: &Observed) -> Observer {
        let mut observer = Observer {
            ticks,
            at_ns: 0,
            request_bytes: 0,
            slow_ns: 0,
            request_bytes_noted: 0,
            reply_bytes_noted: 0,
            all_noted: false,
            settings: Observed::default(),
            monitors: Vec::new(),
            turn_ns: 0,
            commands_at_turn: 0,
            log: CommandLog::default(),
            latency: LatencyMonitor::default(),
            slots: None,
        };
        observer.configure(settings);
        observer
    }

    /// Takes over what has changed in the configuration.
    pub(super) fn configure(&mut self, settings: &Observed) {
        self.settings = *settings;
        let from = |kind: LogKind| settings.logs[kind as usize].from;
        let slow_us = [
            from(LogKind::Slow),
            Some(settings.latency_ms.saturating_mul(1000)).filter(|us| *us > 0),
        ];
        let slow_us = slow_us.into_iter().flatten().min();
        self.slow_ns = slow_us.map_or(u64::MAX, |us| us.saturating_mul(1000));
        let bytes = |kind| from(kind).map_or(usize::MAX, |n| n as usize);
        self.request_bytes_noted = bytes(LogKind::LargeRequest);
        self.reply_bytes_noted = bytes(LogKind::LargeReply);
        match (settings.slots, &self.slots) {
            (true, None) => self.slots = Some(vec![SlotTraffic::default(); SLOTS].into()),
            (false, _) => self.slots = None,
            (true, Some(_)) => {}
        }
        self.update();
    }

    pub(super) fn update(&mut self) {
        self.all_noted = !self.monitors.is_empty() || self.slots.is_some();
    }

    /// What the clock is called.
    pub fn clock(&self) -> &'static str {
        self.ticks.name()
    }

    /// The traffic of all slots, if it is counted.
    pub fn slots(&self) -> Option<&[SlotTraffic]> {
        self.slots.as_deref()
    }

    /// Begins to count anew (`CONFIG RESETSTAT`).
    pub fn reset_slots(&mut self) {
        if let Some(slots) = &mut self.slots {
            slots.fill(SlotTraffic::default());
        }
    }

    /// What follows is a command, or something else worth measuring.
    #[inline]
    pub(super) fn start(&mut self) {
        self.at_ns = self.ticks.now();
    }

    /// When what is under way began.
    #[inline]
    pub(super) fn at_ns(&self) -> u64 {
        self.at_ns
    }

    /// Nanoseconds since then; what follows begins now.
    #[inline]
    pub(super) fn lap(&mut self, begin_ns: u64) -> u64 {
        self.at_ns = self.ticks.now();
        self.at_ns.saturating_sub(begin_ns)
    }
}

impl Executor {
    /// A command has been executed, or has made its client wait.
    #[inline]
    pub(super) fn observe(
        &mut self,
        id: ConnId,
        entry: &'static Entry,
        argv: &[&[u8]],
        begin_ns: u64,
        reply_start: usize,
    ) {
        let took_ns = self.observer.lap(begin_ns);
        let Some(c) = self.conns.get_mut(id) else {
            return;
        };
        if let State::Blocked(blocked) = &mut c.state {
            // It is counted when it has its answer.
            blocked.took_ns = took_ns;
            blocked.request_bytes = self.observer.request_bytes;
            return self.feed_monitors(id, entry, argv);
        }
        c.commands += 1;
        let reply_bytes = c.out.buf.len().saturating_sub(reply_start);
        let tracking = self.observer.settings.tracking;
        self.stats.executed(entry.id, took_ns, tracking);
        if !self.is_executing_transaction() {
            self.stats.command_ns += took_ns;
        }
        let o = &self.observer;
        if took_ns >= o.slow_ns
            || o.request_bytes >= o.request_bytes_noted
            || reply_bytes >= o.reply_bytes_noted
            || o.all_noted
        {
            self.note(id, entry, argv, took_ns, reply_bytes);
            self.feed_monitors(id, entry, argv);
        }
    }

    /// A client that had to wait has its answer, in the making of which its command was executed for so long.
    pub(super) fn observe_unblocked(
        &mut self,
        id: ConnId,
        entry: &'static Entry,
        argv: &[&[u8]],
        took_ns: u64,
        request_bytes: usize,
        reply_bytes: usize,
    ) {
        if let Some(c) = self.conns.get_mut(id) {
            c.commands += 1;
        }
        let tracking = self.observer.settings.tracking;
        self.stats.executed(entry.id, took_ns, tracking);
        self.stats.command_ns += took_ns;
        let under_way = std::mem::replace(&mut self.observer.request_bytes, request_bytes);
        self.note(id, entry, argv, took_ns, reply_bytes);
        self.observer.request_bytes = under_way;
    }

    /// Notes what is worth it.
    #[cold]
    fn note(
        &mut self,
        id: ConnId,
        entry: &'static Entry,
        argv: &[&[u8]],
        took_ns: u64,
        reply_bytes: usize,
    ) {
        let flags = entry.spec.flags;
        let request_bytes = match self.is_executing_transaction() {
            true => bytes_on_wire(argv),
            false => self.observer.request_bytes,
        };
        let event = match flags.has(Flags::FAST) {
            true => "fast-command",
            false => "command",
        };
        self.note_latency(event, took_ns);
        if let Some(slots) = &mut self.observer.slots {
            let mut slot = None;
            // Arguments that fit no rule have been refused by the command itself.
            let _ = entry.spec.each_key(argv, &mut |i, _| {
                slot = slot.or_else(|| argv.get(i).map(|key| key_slot(key)));
            });
            if let Some(traffic) = slot.and_then(|s| slots.get_mut(usize::from(s))) {
                traffic.ns += took_ns;
                traffic.bytes_in += request_bytes as u64;
                traffic.bytes_out += reply_bytes as u64;
            }
        }
        if flags.has(Flags::SKIP_COMMANDLOG) {
            return;
        }
        let figures = [took_ns / 1000, request_bytes as u64, reply_bytes as u64];
        for (kind, value) in LogKind::ALL.into_iter().zip(figures) {
            let limits = self.observer.settings.logs[kind as usize];
            if limits.from.is_none() {
                continue;
            }
            if limits.from.is_some_and(|from| value >= from) {
                let c = self.conns.get(id);
                let entry = LogEntry {
                    id: 0,
                    at_s: self.now.unix_us / 1_000_000,
                    value,
                    argv: shortened(argv, &secret_arguments(entry, argv)),
                    peer: c.map(|c| c.info.peer_name()).unwrap_or_default(),
                    name: c.map(|c| c.name.clone()).unwrap_or_default(),
                };
                self.observer.log.push(kind, limits, entry);
            }
            self.observer.log.shorten(kind, limits.len);
        }
    }

    /// An event for the latency monitor, if it took long enough.
    pub(super) fn note_latency(&mut self, event: &'static str, took_ns: u64) {
        let threshold_ms = self.observer.settings.latency_ms;
        let ms = took_ns / 1_000_000;
        if threshold_ms > 0 && ms >= threshold_ms {
            let at_s = self.now.unix_us / 1_000_000;
            self.observer.latency.add(event, at_s, ms);
        }
    }

    /// Does something of the server's own. Returns how many nanoseconds it took.
    pub(super) fn timed(&mut self, f: impl FnOnce(&mut Self)) -> u64 {
        let begin_ns = self.observer.ticks.now();
        f(self);
        self.observer.ticks.now().saturating_sub(begin_ns)
    }

    /// A turn begins.
    pub(super) fn observe_turn(&mut self) {
        self.observer.start();
        self.observer.turn_ns = self.observer.at_ns;
        self.observer.commands_at_turn = self.stats.commands;
    }

    /// The driver has written what the turn has brought, and is about to wait.
    pub fn on_turn_over(&mut self) {
        let took_ns = self.observer.lap(self.observer.turn_ns);
        let commands =
            self.stats.commands - self.observer.commands_at_turn.min(self.stats.commands);
        self.stats.turn_over(took_ns, commands);
    }
}

/// Bytes of a command as clients send it.
pub(super) fn bytes_on_wire(argv: &[&[u8]]) -> usize {
    let digits = |n: usize| n.checked_ilog10().unwrap_or(0) as usize + 1;
    let header = |n: usize| digits(n) + 3;
    header(argv.len())
        + argv
            .iter()
            .map(|a| header(a.len()) + a.len() + 2)
            .sum::<usize>()
}

/// The arguments of a command that nobody else should see.
pub(super) fn secret_arguments(entry: &Entry, argv: &[&[u8]]) -> Vec<usize> {
    secrets(&entry.full_name, argv, crate::config::is_sensitive)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_a_command() {
        let wire = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$10\r\n0123456789\r\n";
        assert_eq!(bytes_on_wire(&[b"SET", b"k", b"0123456789"]), wire.len());
        assert_eq!(bytes_on_wire(&[b""]), b"*1\r\n$0\r\n\r\n".len());
    }
}
