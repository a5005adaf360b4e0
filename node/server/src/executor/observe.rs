//! Measuring: how long each command takes, and who is to hear of it.
//!
//! The clock is read before the commands of a batch and behind each: where one ends the next begins. Small commands of constant
//! time are measured some at a time, since reading the clock takes a tenth of what they do, and each is taken to have used an equal
//! part; not where somebody wants to know what took less than a millisecond. All that is rare (a slow command, a large one, somebody
//! who monitors) is behind one comparison of each figure.

use super::commandlog::{CommandLog, LogEntry, LogKind, secrets, shortened};
use super::latency::LatencyMonitor;
use super::{ConnId, Executor, State};
use crate::commands::Entry;
use crate::config::Observed;
use crate::ticks::Ticks;
use holdfast_engine::{Flags, key_slot};
use smallvec::SmallVec;

/// Slots of a cluster.
const SLOTS: usize = 16384;

/// Commands that are measured together, at most.
const GROUP_MAX: usize = 8;
/// A request or a reply of so many bytes is not small.
const SMALL_BYTES: usize = 4096;
/// With a threshold below this each command is measured by itself.
const GROUPED_FROM_NS: u64 = 1_000_000;

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
    /// More commands of the same batch may follow.
    in_batch: bool,
    /// Commands since `at_ns`, by their ids.
    group: SmallVec<[u16; GROUP_MAX]>,
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
            in_batch: false,
            group: SmallVec::new(),
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

    /// Commands of a batch follow.
    #[inline]
    pub(super) fn start_batch(&mut self) {
        self.in_batch = self.slow_ns >= GROUPED_FROM_NS && !self.all_noted;
        self.start();
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
    /// A command is about to be executed. Returns whether it may be measured together with others.
    #[inline]
    pub(super) fn observe_next(&mut self, entry: &Entry) -> bool {
        let flags = entry.spec.flags;
        let grouped = self.observer.in_batch
            && flags.has(Flags::FAST)
            && !flags.has(Flags::BLOCKING)
            && !self.is_executing_transaction();
        if !grouped {
            self.settle_group();
        }
        grouped
    }

    /// A command has been executed that may be measured together with others.
    #[inline]
    pub(super) fn observe_grouped(
        &mut self,
        id: ConnId,
        entry: &'static Entry,
        argv: &[&[u8]],
        reply_start: usize,
    ) {
        let Some(c) = self.conns.get_mut(id) else {
            return;
        };
        c.commands += 1;
        let reply_bytes = c.out.bytes_since(reply_start);
        self.observer.group.push(entry.id);
        let large = reply_bytes.max(self.observer.request_bytes) >= SMALL_BYTES;
        if large || self.observer.group.len() == GROUP_MAX {
            let took_ns = self.settle_group();
            if large || took_ns >= self.observer.slow_ns {
                self.note(id, entry, argv, took_ns, reply_bytes);
            }
        } else if self.observer.request_bytes >= self.observer.request_bytes_noted
            || reply_bytes >= self.observer.reply_bytes_noted
        {
            self.note(id, entry, argv, 0, reply_bytes);
        }
    }

    /// Measures what has been executed since the clock was read last. Returns how long it took.
    #[inline]
    pub(super) fn settle_group(&mut self) -> u64 {
        if self.observer.group.is_empty() {
            return 0;
        }
        let took_ns = self.observer.lap(self.observer.at_ns);
        let tracking = self.observer.settings.tracking;
        let each_ns = took_ns / self.observer.group.len() as u64;
        for id in self.observer.group.drain(..) {
            self.stats.executed(id, each_ns, tracking);
        }
        self.stats.command_ns += took_ns;
        took_ns
    }

    /// The commands of a batch have been executed.
    #[inline]
    pub(super) fn end_batch(&mut self) {
        let took_ns = self.settle_group();
        self.observer.in_batch = false;
        if took_ns >= self.observer.slow_ns {
            self.note_latency("fast-command", took_ns);
        }
    }

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
        let reply_bytes = c.out.bytes_since(reply_start);
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
    use super::super::Parcel;
    use super::super::tests::Test;
    use super::*;
    use holdfast_resp::{Limits, Parse, RequestParser};
    use std::sync::atomic::{AtomicU64, Ordering};

    /// An executor whose clock goes on with each look, and how often it was looked at.
    fn looked_at() -> (Test, &'static AtomicU64) {
        let looks: &'static AtomicU64 = Box::leak(Box::default());
        let mut t = Test::new(false);
        t.ex.observer.ticks = Ticks::Looks(looks);
        (t, looks)
    }

    fn wire(lines: &[&str]) -> Vec<u8> {
        let mut out = String::new();
        for line in lines {
            let words: Vec<&str> = line.split(' ').collect();
            out += &format!("*{}\r\n", words.len());
            words
                .iter()
                .for_each(|w| out += &format!("${}\r\n{w}\r\n", w.len()));
        }
        out.into_bytes()
    }

    fn figures(t: &Test, name: &str) -> (u64, u64) {
        let entry = t.ex.table.by_name(name.as_bytes()).unwrap();
        let s = t.ex.stats.of(entry.id).unwrap();
        assert_eq!(s.latency.as_ref().map_or(0, |l| l.total()), s.calls);
        (s.calls, s.ns)
    }

    #[test]
    fn small_commands_of_a_pipeline_are_measured_together() {
        let (mut t, looks) = looked_at();
        let id = t.connect();
        let begin = looks.load(Ordering::Relaxed);
        t.ex.on_bytes(id, &wire(&["GET k"; 16]));
        assert_eq!((looks.load(Ordering::Relaxed) - begin) / 100, 3);
        // Parts of a nanosecond are lost.
        assert_eq!(figures(&t, "get"), (16, 2 * 8 * 12));
        assert_eq!((t.ex.stats.commands, t.ex.stats.command_ns), (16, 200));

        // Others are measured by themselves, and what was before them is measured first.
        t.ex.on_bytes(
            id,
            &wire(&["GET k", "GET k", "CONFIG RESETSTAT", "GET k", "KEYS x"]),
        );
        assert_eq!(figures(&t, "get"), (1, 100));
        assert_eq!(figures(&t, "keys"), (1, 100));
        assert_eq!(figures(&t, "config|resetstat"), (1, 100));

        // So are all where less than a millisecond is of interest, and what a transaction does.
        t.ex.on_bytes(id, &wire(&["MULTI", "SET a b", "SET a b", "EXEC"]));
        assert_eq!(figures(&t, "set"), (2, 200));
        assert_eq!(figures(&t, "exec"), (1, 300));
        t.send(
            id,
            "CONFIG SET slowlog-log-slower-than 0\nCONFIG RESETSTAT\n",
        );
        t.ex.on_bytes(id, &wire(&["GET k"; 3]));
        assert_eq!(figures(&t, "get"), (3, 300));
    }

    /// These commands as an I/O thread sends them.
    fn parcel(t: &Test, lines: &[&str]) -> Parcel {
        let (data, mut parcel, mut at) = (wire(lines), Parcel::default(), 0);
        let mut parser = RequestParser::new();
        while at < data.len() {
            let rest = &data[at..];
            let Ok(Parse::Command { consumed }) = parser.parse(rest, &Limits::default()) else {
                panic!("no command at {at}");
            };
            let argv: Vec<&[u8]> = parser.args(rest).collect();
            at += consumed;
            parcel.push(&data, &argv, t.ex.table.find(&argv), at);
        }
        parcel.bytes = data;
        parcel
    }

    #[test]
    fn commands_of_io_threads_are_measured_alike() {
        let (mut t, looks) = looked_at();
        let id = t.connect();
        let send = |t: &mut Test, lines: &[&str]| {
            // Time in which nothing happens.
            looks.fetch_add(5000, Ordering::Relaxed);
            let mut parcel = parcel(t, lines);
            t.ex.on_requests(id, &mut parcel);
        };
        send(&mut t, &["GET k"; 16]);
        assert_eq!(figures(&t, "get"), (16, 2 * 8 * 12));
        send(&mut t, &["GET k"]);
        assert_eq!(figures(&t, "get"), (17, 2 * 8 * 12 + 100));
        send(&mut t, &["KEYS x"]);
        assert_eq!(figures(&t, "keys"), (1, 100));

        send(&mut t, &["CONFIG SET commandlog-request-larger-than 100"]);
        let long = format!("SET k {}", "v".repeat(100));
        send(&mut t, &["GET k", &long, "GET k"]);
        send(&mut t, &["GET k"]);
        let log = t.ex.observer.log.entries(LogKind::LargeRequest);
        let log: Vec<u64> = log.map(|e| e.value).collect();
        assert_eq!(log, [wire(&[&long]).len() as u64]);
    }

    #[test]
    fn a_command_that_waits_is_counted_and_logged_when_it_has_its_answer() {
        let (mut t, _) = looked_at();
        let (a, b) = (t.connect(), t.connect());
        t.send(a, "CONFIG SET slowlog-log-slower-than 0\n");
        t.ex.on_bytes(b, &wire(&["BLPOP l 0"]));
        assert_eq!(figures(&t, "blpop"), (0, 0));
        assert_eq!(t.ex.conns[b].commands, 0);
        t.send(a, "LPUSH l x\n");
        assert_eq!(figures(&t, "blpop"), (1, 200));
        assert_eq!(t.ex.conns[b].commands, 1);
        let log: Vec<&[u8]> =
            t.ex.observer
                .log
                .entries(LogKind::Slow)
                .map(|e| &*e.argv[0])
                .collect();
        assert_eq!(log[..2], [&b"BLPOP"[..], b"LPUSH"]);
    }

    #[test]
    fn monitors_see_every_command_once_and_no_password() {
        let (mut t, _) = looked_at();
        let (a, m) = (t.connect(), t.connect());
        t.send(m, "MONITOR\n");
        t.send(
            a,
            "SET k v\nAUTH secret\nMULTI\nGET k\nEXEC\nCONFIG GET port\nnone\n",
        );
        t.send(a, "BLPOP l 0\n");
        let seen = t.read(m);
        let seen: Vec<&str> = seen
            .lines()
            .map(|l| l.split_once("] ").map_or(l, |(_, command)| command))
            .collect();
        let expect = [
            "+OK",
            "\"SET\" \"k\" \"v\"",
            "\"AUTH\" \"(redacted)\"",
            "\"MULTI\"",
            "\"GET\" \"k\"",
            "\"EXEC\"",
            "\"BLPOP\" \"l\" \"0\"",
        ];
        assert_eq!(seen, expect);
        t.send(m, "RESET\n");
        assert_eq!(t.read(m).lines().last(), Some("+RESET"));
        t.send(a, "LPUSH l 1\nGET k\n");
        assert_eq!(t.read(m), "");
    }

    #[test]
    fn bytes_of_a_command() {
        let wire = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$10\r\n0123456789\r\n";
        assert_eq!(bytes_on_wire(&[b"SET", b"k", b"0123456789"]), wire.len());
        assert_eq!(bytes_on_wire(&[b""]), b"*1\r\n$0\r\n\r\n".len());
    }
}
