//! The notes as text, in Prometheus's format 0.0.4.

use super::collect::{CommandNote, Notes, SlotNote};
use std::fmt::Write;

/// Figures of `INFO` that only ever grow, beside those whose names begin with `total_`.
const COUNTERS: &[&str] = &[
    "acl_access_denied_auth",
    "active_defrag_hits",
    "active_defrag_key_hits",
    "active_defrag_key_misses",
    "active_defrag_misses",
    "client_output_buffer_limit_disconnections",
    "client_query_buffer_limit_disconnections",
    "durability_failed_replies",
    "durability_log_appended",
    "durability_log_applied",
    "durability_log_committed",
    "durability_log_flushed",
    "durability_position",
    "durability_durable",
    "eventloop_cycles",
    "eventloop_duration_cmd_sum",
    "eventloop_duration_sum",
    "evicted_clients",
    "evicted_keys",
    "expire_cycle_cpu_milliseconds",
    "expired_fields",
    "expired_keys",
    "keyspace_hits",
    "keyspace_misses",
    "lazyfreed_objects",
    "master_repl_offset",
    "rdb_saves",
    "rejected_connections",
    "sync_full",
    "sync_partial_err",
    "sync_partial_ok",
    "used_active_time_main_thread",
    "used_cpu_sys",
    "used_cpu_sys_main_thread",
    "used_cpu_user",
    "used_cpu_user_main_thread",
];

/// Words of `INFO` that are metrics: 1 if it is this one, else 0.
const WORDS: &[(&str, &str, &str)] = &[
    ("durability_office", "leader", "durability_leading"),
    ("durability_lease", "valid", "durability_lease_valid"),
    ("durability_log_state", "ok", "durability_log_ok"),
    ("rdb_last_bgsave_status", "ok", "rdb_last_bgsave_status_ok"),
];

struct Text(String);

impl Text {
    fn kind(&mut self, name: &str, kind: &str) {
        self.line(format_args!("# TYPE holdfast_{name} {kind}"));
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // Writing to a string does not fail.
        let _ = writeln!(self.0, "{line}");
    }

    fn one(&mut self, name: &str, kind: &str, value: impl std::fmt::Display) {
        self.kind(name, kind);
        self.line(format_args!("holdfast_{name} {value}"));
    }

    /// One metric of all that are listed.
    fn each<T>(
        &mut self,
        (name, kind): (&str, &str),
        label: &str,
        of: &[T],
        value: impl Fn(&T) -> (String, f64),
    ) {
        if of.is_empty() {
            return;
        }
        self.kind(name, kind);
        for item in of {
            let (which, value) = value(item);
            let which = escaped(&which);
            self.line(format_args!(
                "holdfast_{name}{{{label}=\"{which}\"}} {value}"
            ));
        }
    }
}

fn escaped(label: &str) -> String {
    label
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

/// The text.
pub(super) fn render(notes: &Notes) -> String {
    let mut out = Text(String::with_capacity(64 * 1024));
    out.kind("info", "gauge");
    out.line(format_args!(
        "holdfast_info{{version=\"{}\",valkey_version=\"{}\",role=\"{}\"}} 1",
        crate::VERSION,
        crate::COMPATIBLE_VALKEY_VERSION,
        notes.role
    ));
    out.one("uptime_in_seconds", "counter", notes.uptime_s);
    info(&mut out, &notes.info);
    out.each(("errors_total", "counter"), "error", &notes.errors, |e| {
        (e.0.clone(), e.1 as f64)
    });
    let dbs = &notes.databases;
    out.each(("db_keys", "gauge"), "db", dbs, |d| {
        (d.0.to_string(), d.1 as f64)
    });
    out.each(("db_expires", "gauge"), "db", dbs, |d| {
        (d.0.to_string(), d.2 as f64)
    });
    let m = &notes.migrations;
    for (name, value) in [
        ("migration_exports", m.exports as u64),
        ("migration_imports", m.imports as u64),
        ("migration_paused_slots", m.paused_slots as u64),
        ("migration_leaving_slots", m.leaving_slots as u64),
        ("migration_bytes_underway", m.bytes_underway),
        ("migration_bytes_executed", m.bytes_executed),
    ] {
        out.one(name, "gauge", value);
    }
    commands(&mut out, &notes.commands);
    slots(&mut out, &notes.slots);
    out.0
}

/// The figures of `INFO`, under its names.
fn info(out: &mut Text, text: &str) {
    for line in text.lines() {
        let Some((name, value)) = line.split_once(':') else {
            continue;
        };
        if let Some((_, word, metric)) = WORDS.iter().find(|(n, ..)| *n == name) {
            out.one(metric, "gauge", u8::from(value == *word));
        } else if value.parse::<f64>().is_ok_and(f64::is_finite) {
            let grows = name.starts_with("total_") || COUNTERS.contains(&name);
            out.one(name, if grows { "counter" } else { "gauge" }, value);
        }
    }
}

fn commands(out: &mut Text, all: &[CommandNote]) {
    type Figure = fn(&CommandNote) -> f64;
    let figures: [(&str, Figure); 4] = [
        ("command_calls_total", |c| c.calls as f64),
        ("command_rejected_total", |c| c.rejected as f64),
        ("command_failed_total", |c| c.failed as f64),
        ("command_seconds_total", |c| c.ns as f64 / 1e9),
    ];
    for (name, figure) in figures {
        out.each((name, "counter"), "command", all, |c| {
            (c.name.to_string(), figure(c))
        });
    }
    if all.iter().all(|c| c.latency.is_none()) {
        return;
    }
    out.kind("command_duration_seconds", "histogram");
    for c in all {
        let Some((total, rows)) = &c.latency else {
            continue;
        };
        let name = escaped(c.name);
        let metric = "holdfast_command_duration_seconds";
        for (ns, upto) in rows {
            let le = *ns as f64 / 1e9;
            out.line(format_args!(
                "{metric}_bucket{{command=\"{name}\",le=\"{le}\"}} {upto}"
            ));
        }
        out.line(format_args!(
            "{metric}_bucket{{command=\"{name}\",le=\"+Inf\"}} {total}"
        ));
        let seconds = c.ns as f64 / 1e9;
        out.line(format_args!("{metric}_sum{{command=\"{name}\"}} {seconds}"));
        out.line(format_args!("{metric}_count{{command=\"{name}\"}} {total}"));
    }
}

fn slots(out: &mut Text, all: &[SlotNote]) {
    type Figure = fn(&SlotNote) -> f64;
    let figures: [(&str, &str, Figure); 4] = [
        ("slot_keys", "gauge", |s| s.keys as f64),
        ("slot_cpu_seconds_total", "counter", |s| {
            s.traffic.ns as f64 / 1e9
        }),
        ("slot_received_bytes_total", "counter", |s| {
            s.traffic.bytes_in as f64
        }),
        ("slot_sent_bytes_total", "counter", |s| {
            s.traffic.bytes_out as f64
        }),
    ];
    for (name, kind, figure) in figures {
        out.each((name, kind), "slot", all, |s| {
            (s.slot.to_string(), figure(s))
        });
    }
}
