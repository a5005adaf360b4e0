//! `LATENCY`, and `MONITOR`.

use super::ServerCommand;
use super::rows::*;
use crate::executor::commandlog::LogKind;
use crate::executor::latency::Series;
use crate::executor::{ConnId, Executor, Histogram};
use holdfast_resp::{Proto, write};
use std::fmt::Write;

/// Columns of a graph.
const COLUMNS: usize = 80;
/// Rows of a graph, each of as many steps as there are characters.
const ROWS: usize = 4;
const STEPS: [char; 3] = ['_', 'o', '#'];
/// Buckets of a histogram begin at this power of two of nanoseconds: a microsecond.
const FIRST_POWER: u32 = 10;

fn monitor(ex: &mut Executor, id: ConnId, _: &[&[u8]]) {
    if ex.is_executing_transaction() {
        return ex.reply_error(id, "ERR MONITOR isn't allowed for DENY BLOCKING client");
    }
    if !ex.conns[id].monitor {
        ex.start_monitoring(id);
        write::ok(ex.out(id));
    }
}

fn latency_history(ex: &mut Executor, id: ConnId, argv: &[&[u8]]) {
    let out = &mut ex.conns[id].out.buf;
    let Some((_, series)) = ex.observer.latency.event(argv[2]) else {
        return write::array(out, 0);
    };
    write::array(out, series.samples.len());
    for sample in &series.samples {
        write::array(out, 2);
        write::int(out, sample.at_s as i64);
        write::int(out, sample.ms as i64);
    }
}

fn latency_latest(ex: &mut Executor, id: ConnId, _: &[&[u8]]) {
    let out = &mut ex.conns[id].out.buf;
    let events = ex.observer.latency.events();
    write::array(out, events.len());
    for (name, series) in events {
        let (at_s, ms) = series.samples.back().map_or((0, 0), |s| (s.at_s, s.ms));
        write::array(out, 6);
        write::bulk(out, name.as_bytes());
        for n in [at_s, ms, series.max_ms, series.sum_ms, series.count] {
            write::int(out, n as i64);
        }
    }
}

fn latency_graph(ex: &mut Executor, id: ConnId, argv: &[&[u8]]) {
    let now_s = ex.now.unix_us / 1_000_000;
    let Some((name, series)) = ex.observer.latency.event(argv[2]) else {
        let name = String::from_utf8_lossy(argv[2]).into_owned();
        return ex.reply_error(id, &format!("ERR No samples available for event '{name}'"));
    };
    let text = graph(name, series, now_s);
    let c = &mut ex.conns[id];
    write::verbatim(&mut c.out.buf, c.proto, b"txt", text.as_bytes());
}

/// The samples of an event as columns of characters, with how long ago each was below it.
fn graph(name: &str, series: &Series, now_s: u64) -> String {
    let values = || series.samples.iter().map(|s| s.ms);
    let (low, high) = (values().min().unwrap_or(0), values().max().unwrap_or(0));
    let mut out = format!(
        "{name} - high {high} ms, low {low} ms (all time high {} ms)\n{}\n",
        series.max_ms,
        "-".repeat(COLUMNS)
    );
    let columns: Vec<(usize, String)> = series
        .samples
        .iter()
        .map(|s| {
            let steps = (ROWS * STEPS.len()) as u64;
            let step = (s.ms - low) * steps / (high - low).max(1);
            (
                step.min(steps - 1) as usize,
                age(now_s.saturating_sub(s.at_s)),
            )
        })
        .collect();
    for (n, part) in columns.chunks(COLUMNS).enumerate() {
        if n > 0 {
            out.push('\n');
        }
        for row in (0..ROWS).rev() {
            let below = row * STEPS.len();
            out.extend(part.iter().map(|(step, _)| match step.checked_sub(below) {
                None => ' ',
                Some(above) => STEPS.get(above).copied().unwrap_or('|'),
            }));
            out.push('\n');
        }
        out.push_str(&" ".repeat(part.len()));
        out.push('\n');
        let longest = part.iter().map(|(_, label)| label.len()).max().unwrap_or(0);
        for i in 0..longest {
            out.extend(part.iter().map(|(_, l)| l.chars().nth(i).unwrap_or(' ')));
            out.push('\n');
        }
    }
    out
}

fn age(s: u64) -> String {
    match s {
        0..60 => format!("{s}s"),
        60..3600 => format!("{}m", s / 60),
        3600..86400 => format!("{}h", s / 3600),
        _ => format!("{}d", s / 86400),
    }
}

fn latency_reset(ex: &mut Executor, id: ConnId, argv: &[&[u8]]) {
    let n = ex.observer.latency.reset(&argv[2..]);
    write::int(ex.out(id), n as i64);
}

fn latency_histogram(ex: &mut Executor, id: ConnId, argv: &[&[u8]]) {
    let table = ex.table;
    let mut ids: Vec<u16> = Vec::new();
    if argv.len() == 2 {
        ids.extend(table.entries().iter().map(|e| e.id));
    }
    for name in &argv[2..] {
        if let Some(e) = table.by_name(name) {
            ids.push(e.id);
            ids.extend(&e.subs);
        }
    }
    let found: Vec<(&str, &Histogram)> = ids
        .into_iter()
        .filter_map(|id| {
            let latency = ex.stats.of(id)?.latency.as_deref()?;
            Some((table.entry(id).full_name.as_str(), latency))
        })
        .collect();
    let c = &mut ex.conns[id];
    let (out, proto) = (&mut c.out.buf, c.proto);
    write::map(out, proto, found.len());
    for (name, latency) in found {
        write::bulk(out, name.as_bytes());
        write_histogram(out, proto, latency);
    }
}

/// How many calls took at most so many microseconds, where that is more than took at most half as long.
fn write_histogram(out: &mut Vec<u8>, proto: Proto, latency: &Histogram) {
    let mut before = 0;
    let rows: Vec<(u64, u64)> = latency
        .by_powers(FIRST_POWER)
        .filter(|(_, upto)| std::mem::replace(&mut before, *upto) < *upto)
        .collect();
    write::map(out, proto, 2);
    write::bulk(out, b"calls");
    write::int(out, latency.total() as i64);
    write::bulk(out, b"histogram_usec");
    write::map(out, proto, rows.len());
    for (ns, upto) in rows {
        write::int(out, (ns / 1000) as i64);
        write::int(out, upto as i64);
    }
}

fn latency_doctor(ex: &mut Executor, id: ConnId, _: &[&[u8]]) {
    let text = report(ex);
    let c = &mut ex.conns[id];
    write::verbatim(&mut c.out.buf, c.proto, b"txt", text.as_bytes());
}

/// What the samples say, and what could be done.
fn report(ex: &Executor) -> String {
    let threshold_ms = ex.settings.observed.latency_ms;
    let events = ex.observer.latency.events();
    if events.len() == 0 {
        return match threshold_ms {
            0 => "Latency monitoring is off. \"CONFIG SET latency-monitor-threshold <milliseconds>\" turns it on.\n",
            _ => "No event has taken longer than the threshold since the start, or since LATENCY RESET.\n",
        }
        .into();
    }
    let now_s = ex.now.unix_us / 1_000_000;
    let mut out = String::from("Events that took longer than the threshold:\n\n");
    let mut advice: Vec<String> = Vec::new();
    for (n, (name, series)) in events.enumerate() {
        let a = series.analysis(now_s);
        // Writing to a string does not fail.
        let _ = writeln!(
            out,
            "{}. {name}: {} latency spikes (average {}ms, mean deviation {}ms, period {:.2} sec). Worst all time event {}ms.",
            n + 1,
            a.samples,
            a.mean_ms,
            a.deviation_ms,
            a.period_s as f64 / a.samples.max(1) as f64,
            series.max_ms
        );
        advise(ex, name, threshold_ms, &mut advice);
    }
    out.push_str("\nWhat may help:\n\n");
    advice.dedup();
    for line in advice {
        let _ = writeln!(out, "- {line}");
    }
    out
}

fn advise(ex: &Executor, event: &str, threshold_ms: u64, advice: &mut Vec<String>) {
    match event {
        "command" => {
            let slow_us = ex.settings.observed.logs[LogKind::Slow as usize].from;
            if slow_us.is_none_or(|us| us / 1000 > threshold_ms) {
                advice.push(format!(
                    "The slow log does not show the commands that were noticed here: CONFIG SET slowlog-log-slower-than {}.",
                    threshold_ms * 1000
                ));
            }
            advice.push("Look with SLOWLOG GET for the commands that took so long. Those that go through whole keyspaces or large values have counterparts that go step by step (SCAN, HSCAN, SSCAN, ZSCAN, UNLINK).".into());
        }
        "fast-command" => advice.push("Commands of constant time were slow: the process did not get the processor when it needed it. Compare used_cpu_user and used_cpu_sys with the time passed, and see who else runs on this machine; `valkey-cli --intrinsic-latency 100` measures the machine alone.".into()),
        "expire-cycle" => advice.push("Keys that expire are deleted in short steps. What takes long is to free large values at once: set lazyfree-lazy-expire to yes.".into()),
        "eviction-cycle" => advice.push("Keys are evicted before commands are executed. A lower maxmemory-eviction-tenacity makes the steps shorter, lazyfree-lazy-eviction yes frees large values elsewhere, and a sudden change of maxmemory makes for many evictions.".into()),
        "active-defrag-cycle" => advice.push("A lower active-defrag-cycle-max makes the steps of defragmentation rarer.".into()),
        _ => advice.push(format!("{event}: see the log of the server for that time.")),
    }
}

fn latency_help(ex: &mut Executor, id: ConnId, _: &[&[u8]]) {
    super::reply_help(
        ex.out(id),
        "LATENCY",
        &[
            "DOCTOR",
            "    Return a human readable latency analysis report.",
            "GRAPH <event>",
            "    Return an ASCII latency graph for the <event> class.",
            "HISTORY <event>",
            "    Return time-latency samples for the <event> class.",
            "LATEST",
            "    Return the latest latency samples for all events.",
            "RESET [<event> ...]",
            "    Reset latency data of one or more <event> classes.",
            "    (default: reset all data for all event classes)",
            "HISTOGRAM [COMMAND ...]",
            "    Return a cumulative distribution of latencies in the format of a histogram for the specified command names.",
            "    If no commands are specified then all histograms are replied.",
        ],
    );
}

/// The rows of this file.
pub(super) const COMMANDS: &[ServerCommand] = &[
Command::new(
    CommandSpec {
        name: "monitor",
        arity: 1,
        flags: flags([Flags::ADMIN, Flags::NOSCRIPT, Flags::LOADING, Flags::STALE]),
        group: Group::Server,
        since: "1.0.0",
        summary: "Listens for all requests received by the server in real-time.",
        ..CommandSpec::EMPTY
    },
    monitor as ServerFn,
),
Command::new(
    CommandSpec {
        name: "latency",
        arity: -2,
        group: Group::Server,
        since: "2.8.13",
        complexity: "Depends on subcommand.",
        summary: "A container for latency diagnostics commands.",
        ..CommandSpec::EMPTY
    },
    CONTAINER as ServerFn,
)
.with_subcommands(&[
Command::new(
    CommandSpec {
        name: "doctor",
        arity: 2,
        flags: flags([Flags::ADMIN, Flags::NOSCRIPT, Flags::LOADING, Flags::STALE]),
        group: Group::Server,
        since: "2.8.13",
        complexity: "O(1)",
        summary: "Returns a human-readable latency analysis report.",
        tips: &["nondeterministic_output", "request_policy:all_nodes", "response_policy:special"],
        ..CommandSpec::EMPTY
    },
    latency_doctor as ServerFn,
),
Command::new(
    CommandSpec {
        name: "graph",
        arity: 3,
        flags: flags([Flags::ADMIN, Flags::NOSCRIPT, Flags::LOADING, Flags::STALE]),
        group: Group::Server,
        since: "2.8.13",
        complexity: "O(1)",
        summary: "Returns a latency graph for an event.",
        args: "event",
        tips: &["nondeterministic_output", "request_policy:all_nodes", "response_policy:special"],
        ..CommandSpec::EMPTY
    },
    latency_graph as ServerFn,
),
Command::new(
    CommandSpec {
        name: "help",
        arity: 2,
        flags: flags([Flags::LOADING, Flags::STALE]),
        group: Group::Server,
        since: "2.8.13",
        complexity: "O(1)",
        summary: "Returns helpful text about the different subcommands.",
        ..CommandSpec::EMPTY
    },
    latency_help as ServerFn,
),
Command::new(
    CommandSpec {
        name: "histogram",
        arity: -2,
        flags: flags([Flags::ADMIN, Flags::NOSCRIPT, Flags::LOADING, Flags::STALE]),
        group: Group::Server,
        since: "7.0.0",
        complexity: "O(N) where N is the number of commands with latency information being retrieved.",
        summary: "Returns the cumulative distribution of latencies of a subset or all commands.",
        args: "[command...]",
        tips: &["nondeterministic_output", "request_policy:all_nodes", "response_policy:special"],
        ..CommandSpec::EMPTY
    },
    latency_histogram as ServerFn,
),
Command::new(
    CommandSpec {
        name: "history",
        arity: 3,
        flags: flags([Flags::ADMIN, Flags::NOSCRIPT, Flags::LOADING, Flags::STALE]),
        group: Group::Server,
        since: "2.8.13",
        complexity: "O(1)",
        summary: "Returns timestamp-latency samples for an event.",
        args: "event",
        tips: &["nondeterministic_output", "request_policy:all_nodes", "response_policy:special"],
        ..CommandSpec::EMPTY
    },
    latency_history as ServerFn,
),
Command::new(
    CommandSpec {
        name: "latest",
        arity: 2,
        flags: flags([Flags::ADMIN, Flags::NOSCRIPT, Flags::LOADING, Flags::STALE]),
        group: Group::Server,
        since: "2.8.13",
        complexity: "O(1)",
        summary: "Returns the latest latency samples for all events.",
        tips: &["nondeterministic_output", "request_policy:all_nodes", "response_policy:special"],
        ..CommandSpec::EMPTY
    },
    latency_latest as ServerFn,
),
Command::new(
    CommandSpec {
        name: "reset",
        arity: -2,
        flags: flags([Flags::ADMIN, Flags::NOSCRIPT, Flags::LOADING, Flags::STALE]),
        group: Group::Server,
        since: "2.8.13",
        complexity: "O(1)",
        summary: "Resets the latency data for one or more events.",
        args: "[event...]",
        tips: &["request_policy:all_nodes", "response_policy:agg_sum"],
        ..CommandSpec::EMPTY
    },
    latency_reset as ServerFn,
),
]),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::executor::latency::LatencyMonitor;

    #[test]
    fn a_graph_has_a_column_for_each_sample() {
        let mut m = LatencyMonitor::default();
        for (at_s, ms) in [(1000, 10), (1030, 21), (1060, 15)] {
            m.add("command", at_s, ms);
        }
        let (name, series) = m.event(b"command").unwrap();
        let lines: Vec<String> = graph(name, series, 1065)
            .lines()
            .map(String::from)
            .collect();
        assert_eq!(
            lines[0],
            "command - high 21 ms, low 10 ms (all time high 21 ms)"
        );
        assert_eq!(
            lines[2..],
            [" # ", " | ", " |#", "_||", "   ", "135", "m5s", " s "]
        );
    }
}
