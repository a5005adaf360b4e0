//! `INFO`.

use super::memory::Overview;
use super::rows::*;
use super::{ServerCommand, info_stats};
use crate::executor::{ConnId, Connection, Executor, State};
use crate::routing::MyRole;
use crate::seam::Office;
use holdfast_resp::write;
use std::fmt::Write;

/// What a node calls itself: `master` or `slave`.
pub(crate) fn role_name(ex: &Executor) -> &'static str {
    let replica = ex
        .routing
        .as_ref()
        .is_some_and(|r| r.role == MyRole::Replica);
    let follower = ex.routing.is_some() && matches!(ex.office, Office::Follower { .. });
    if replica || (follower && ex.routing.as_ref().is_some_and(|r| r.primary.is_some())) {
        "slave"
    } else {
        "master"
    }
}

/// Where the primary of this replica is.
pub(super) fn primary_endpoint(ex: &Executor) -> Option<(String, u16)> {
    let routing = ex.routing.as_ref()?;
    let e = routing.endpoint(&routing.primary?)?;
    Some((e.host.clone(), e.port))
}

/// A part of the text.
struct Section {
    name: &'static str,
    title: &'static str,
    /// Which requests have it beside those that name it.
    shown: Shown,
    write: fn(&Executor, &mut String),
}

#[derive(PartialEq)]
enum Shown {
    /// Plain `INFO`, and `INFO all`.
    Always,
    /// `INFO all`
    WithAll,
    /// None.
    WhenNamed,
}

const fn section(
    name: &'static str,
    title: &'static str,
    shown: Shown,
    write: fn(&Executor, &mut String),
) -> Section {
    Section {
        name,
        title,
        shown,
        write,
    }
}

/// The section whose lines only the control thread knows.
const CLUSTER_INFO: &str = "Cluster Info";

/// The sections, in order.
const SECTIONS: &[Section] = &[
    section("server", "Server", Shown::Always, server),
    section("tls", "TLS", Shown::WithAll, tls),
    section("clients", "Clients", Shown::Always, clients),
    section("memory", "Memory", Shown::Always, memory),
    section("persistence", "Persistence", Shown::Always, persistence),
    section("durability", "Durability", Shown::Always, durability),
    section("stats", "Stats", Shown::Always, info_stats::stats),
    section("replication", "Replication", Shown::Always, replication),
    section("cpu", "CPU", Shown::Always, info_stats::cpu),
    section("modules", "Modules", Shown::Always, |_, _| ()),
    section(
        "commandstats",
        "Commandstats",
        Shown::WithAll,
        info_stats::commandstats,
    ),
    section(
        "errorstats",
        "Errorstats",
        Shown::Always,
        info_stats::errorstats,
    ),
    section(
        "latencystats",
        "Latencystats",
        Shown::WithAll,
        info_stats::latencystats,
    ),
    section("cluster", "Cluster", Shown::Always, cluster),
    section("cluster_info", CLUSTER_INFO, Shown::WithAll, |_, _| ()),
    section(
        "scriptingengines",
        "Scripting Engines",
        Shown::WithAll,
        scripting,
    ),
    section("keyspace", "Keyspace", Shown::Always, keyspace),
    section("debug", "Debug", Shown::WhenNamed, info_stats::debug),
];

/// The text of some sections, without the lines of `# Cluster Info`.
pub(crate) fn text(ex: &Executor, wanted: &[String]) -> String {
    parts(ex, wanted).0
}

/// The text of some sections, and where in it the lines of `# Cluster Info` belong, if that is one of them.
fn parts(ex: &Executor, wanted: &[String]) -> (String, Option<usize>) {
    let mut gap = None;
    let all = wanted
        .iter()
        .any(|w| matches!(w.as_str(), "all" | "everything"));
    let default = wanted.is_empty() || wanted.iter().any(|w| w == "default");
    let mut out = String::new();
    for section in SECTIONS {
        let shown = match section.shown {
            Shown::Always => all || default,
            Shown::WithAll => all,
            Shown::WhenNamed => false,
        };
        if shown || wanted.iter().any(|w| w == section.name) {
            if !out.is_empty() {
                out.push_str("\r\n");
            }
            let _ = write!(out, "# {}\r\n", section.title);
            (section.write)(ex, &mut out);
            if section.title == CLUSTER_INFO {
                gap = Some(out.len());
            }
        }
    }
    (out, gap)
}

fn info(ex: &mut Executor, id: ConnId, argv: &[&[u8]]) {
    let wanted: Vec<String> = argv[1..]
        .iter()
        .map(|w| String::from_utf8_lossy(w).to_ascii_lowercase())
        .collect();
    let (text, gap) = parts(ex, &wanted);
    // A transaction cannot wait for another thread.
    if let Some(at) = gap
        && ex.settings.cluster_enabled
        && !ex.is_executing_transaction()
    {
        let (before, behind) = text.split_at(at);
        return ex.defer(id, &[b"info", before.as_bytes(), behind.as_bytes()]);
    }
    let c = &mut ex.conns[id];
    write::verbatim(&mut c.out.buf, c.proto, b"txt", text.as_bytes());
}

/// Writes `name:value` lines.
macro_rules! lines {
    ($out:expr, $($name:literal = $value:expr,)*) => {
        // Writing to a string does not fail.
        $(let _ = write!($out, concat!($name, ":{}\r\n"), $value);)*
    };
}
pub(super) use lines;

fn server(ex: &Executor, out: &mut String) {
    let uptime = (ex.now.mono_us - ex.started().mono_us) / 1_000_000;
    lines!(
        out,
        "redis_version" = crate::COMPATIBLE_REDIS_VERSION,
        "server_name" = "valkey",
        "valkey_version" = crate::COMPATIBLE_VALKEY_VERSION,
        "valkey_release_stage" = "ga",
        "holdfast_version" = crate::VERSION,
        "redis_git_sha1" = "00000000",
        "redis_git_dirty" = 0,
        "redis_build_id" = 0,
    );
    let mode = match ex.settings.cluster_enabled {
        true => "cluster",
        false => "standalone",
    };
    if ex.config.yes("extended-redis-compatibility") {
        lines!(out, "redis_mode" = mode,);
    } else {
        lines!(out, "server_mode" = mode,);
    }
    lines!(
        out,
        "os" = ex.host.machine().0,
        "arch_bits" = usize::BITS,
        "monotonic_clock" = ex.observer.clock(),
        "multiplexing_api" = "epoll",
        // As Valkey says it when another compiler has made it.
        "gcc_version" = "0.0.0",
        "process_id" = std::process::id(),
        "process_supervised" = "no",
        "run_id" = ex.run_id,
        "tcp_port" = match ex.config.get("port") {
            "0" => ex.config.get("tls-port"),
            port => port,
        },
        "server_time_usec" = ex.now.unix_us,
        "uptime_in_seconds" = uptime,
        "uptime_in_days" = uptime / 86400,
        "hz" = ex.settings.hz,
        "configured_hz" = ex.config.get("hz"),
        "clients_hz" = ex.settings.hz,
        "lru_clock" = (ex.now.unix_us / 1_000_000) & 0xff_ffff,
        "executable" = std::env::current_exe()
            .map(|p| p.display().to_string())
            .unwrap_or_default(),
        "config_file" = ex
            .config
            .file()
            .map(|p| p.display().to_string())
            .unwrap_or_default(),
        "io_threads_active" = u8::from(io_threads(ex).iter().any(|t| t.used && t.active)),
        "availability_zone" = ex.config.get("availability-zone"),
    );
    listeners(ex, out);
}

/// The I/O threads, if there are any.
pub(super) fn io_threads(ex: &Executor) -> Vec<crate::executor::IoThreadStats> {
    ex.io_threads
        .as_ref()
        .map_or_else(Vec::new, |stats| stats())
}

/// What clients can connect to.
fn listeners(ex: &Executor, out: &mut String) {
    let mut n = 0;
    let mut listener = |name: &str, binds: &str, port: i64| {
        let _ = write!(out, "listener{n}:name={name}");
        for bind in binds.split(' ').filter(|b| !b.is_empty()) {
            let _ = write!(out, ",bind={bind}");
        }
        if port != 0 {
            let _ = write!(out, ",port={port}");
        }
        out.push_str("\r\n");
        n += 1;
    };
    let (port, path) = (ex.config.int("port"), ex.config.get("unixsocket"));
    if port != 0 {
        listener("tcp", ex.config.get("bind"), port);
    }
    if ex.config.int("tls-port") != 0 {
        listener("tls", ex.config.get("bind"), ex.config.int("tls-port"));
    }
    if !path.is_empty() {
        listener("unix", path, 0);
    }
}

fn scripting(_: &Executor, out: &mut String) {
    lines!(
        out,
        "engines_count" = 0,
        "engines_total_used_memory" = 0,
        "engines_total_memory_overhead" = 0,
    );
}

fn tls(ex: &Executor, out: &mut String) {
    let info = ex.tls.info();
    let now_s = (ex.now.unix_us / 1_000_000) as i64;
    for (name, certificate) in [
        ("server", info.server),
        ("client", info.client),
        ("ca", info.ca),
    ] {
        let (serial, expires) = match certificate {
            Some(c) => (c.serial, (c.expires_s - now_s).max(0)),
            None => ("none".into(), 0),
        };
        // Writing to a string does not fail.
        let _ = write!(
            out,
            "tls_{name}_cert_serial:{serial}\r\ntls_{name}_cert_expires_in_seconds:{expires}\r\n"
        );
    }
}

fn clients(ex: &Executor, out: &mut String) {
    let mut input = 0;
    let mut output = 0;
    let mut pubsub = 0;
    let mut watching = 0;
    for c in ex.conns.iter() {
        input = input.max(c.unexecuted_bytes());
        output = output.max(c.out.pending_bytes());
        pubsub += usize::from(c.is_subscriber());
        watching += usize::from(!c.watched.is_empty());
    }
    let (waiting, keys, on_nokey) = ex.blocked_counts();
    let parked = |c: &&Connection| matches!(c.state, State::Parked(_));
    let blocked = waiting + ex.conns.iter().filter(parked).count();
    let pause = ex.pause();
    lines!(
        out,
        "connected_clients" = ex.conns.len(),
        "cluster_connections" = 0,
        "maxclients" = ex.settings.maxclients,
        "client_recent_max_input_buffer" = input,
        "client_recent_max_output_buffer" = output,
        "blocked_clients" = blocked,
        "tracking_clients" = ex.tracking_figures()[0],
        "pubsub_clients" = pubsub,
        "watching_clients" = watching,
        "clients_in_timeout_table" = waiting,
        "total_watched_keys" = ex.watched_keys(),
        "total_blocking_keys" = keys,
        "total_blocking_keys_on_nokey" = on_nokey,
        "paused_reason" = pause.map_or("none", |_| "client_pause"),
        "paused_actions" = pause.map_or("none", |p| if p.all { "all" } else { "write" }),
        "paused_timeout_milliseconds" =
            pause.map_or(0, |p| p.until_ms.saturating_sub(ex.now.mono_ms())),
        "waiting_for_control" = ex
            .conns
            .iter()
            .filter(|c| matches!(c.state, State::Deferred(_) | State::Parked(_)))
            .count(),
    );
}

fn human(bytes: u64) -> String {
    let units = [
        (1u64 << 40, "T"),
        (1 << 30, "G"),
        (1 << 20, "M"),
        (1 << 10, "K"),
    ];
    match units.iter().find(|(n, _)| bytes >= *n) {
        Some((n, unit)) => format!("{:.2}{unit}", bytes as f64 / *n as f64),
        None => format!("{bytes}B"),
    }
}

fn memory(ex: &Executor, out: &mut String) {
    let m = Overview::of(ex);
    let max = ex.settings.memory_bytes_max;
    let (_, system) = ex.host.machine();
    let unused = m.allocated.saturating_sub(m.used);
    let spread = m.resident as i64 - m.used as i64;
    lines!(
        out,
        "used_memory" = m.used,
        "used_memory_human" = human(m.used),
        "used_memory_rss" = m.resident,
        "used_memory_rss_human" = human(m.resident),
        "used_memory_peak" = m.peak,
        "used_memory_peak_human" = human(m.peak),
        "used_memory_peak_perc" = format!("{:.2}%", m.peak_percent()),
        "used_memory_overhead" = m.overhead,
        "used_memory_startup" = m.startup,
        "used_memory_dataset" = m.dataset(),
        "used_memory_dataset_perc" = format!("{:.2}%", m.dataset_percent()),
        "allocator_allocated" = m.used,
        "allocator_active" = m.allocated,
        "allocator_resident" = m.resident,
        "allocator_muzzy" = 0,
        "total_system_memory" = system,
        "total_system_memory_human" = human(system),
        "used_memory_lua" = 0,
        "used_memory_vm_eval" = 0,
        "used_memory_lua_human" = human(0),
        "used_memory_scripts_eval" = 0,
        "number_of_cached_scripts" = 0,
        "number_of_functions" = 0,
        "number_of_libraries" = 0,
        "used_memory_vm_functions" = 0,
        "used_memory_vm_total" = 0,
        "used_memory_vm_total_human" = human(0),
        "used_memory_functions" = 0,
        "used_memory_scripts" = 0,
        "used_memory_scripts_human" = human(0),
        "maxmemory" = max,
        "maxmemory_human" = human(max),
        "maxmemory_policy" = ex.config.get("maxmemory-policy"),
        "allocator_frag_ratio" = format!("{:.2}", m.allocated as f64 / m.used.max(1) as f64),
        "allocator_frag_bytes" = unused,
        "allocator_rss_ratio" = format!("{:.2}", m.resident as f64 / m.allocated.max(1) as f64),
        "allocator_rss_bytes" = m.resident as i64 - m.allocated as i64,
        "rss_overhead_ratio" = "1.00",
        "rss_overhead_bytes" = 0,
        "mem_fragmentation_ratio" = format!("{:.2}", m.fragmentation()),
        "mem_fragmentation_bytes" = spread,
        "mem_not_counted_for_evict" = 0,
        "mem_replication_backlog" = m.backlog,
        "mem_total_replication_buffers" = m.backlog,
        "mem_replicas_repl_buffer" = 0,
        "mem_clients_slaves" = 0,
        "mem_clients_normal" = m.clients,
        "mem_cluster_links" = 0,
        "mem_cluster_slot_import" = 0,
        "mem_cluster_slot_export" = 0,
        "mem_aof_buffer" = 0,
        "mem_allocator" = "libc",
        "mem_overhead_db_hashtable_rehashing" = 0,
        "active_defrag_running" = ex.defrag.effort,
        "lazyfree_pending_objects" = ex.engine.pending_free(),
        "lazyfreed_objects" = ex.engine.stats().lazy_freed,
    );
}

fn persistence(ex: &Executor, out: &mut String) {
    let p = &ex.persist;
    let now_s = ex.now.unix_us / 1_000_000;
    let saving = p.saving.as_ref();
    let (done, total, early) = saving.map_or((0, 0, 0), |s| {
        (s.keys_done, s.keys_total.max(s.keys_done), s.early_bytes)
    });
    let seconds = |s: Option<u64>| s.map_or(-1, |s| s as i64);
    lines!(
        out,
        "loading" = u8::from(p.loading.is_some()),
        "async_loading" = 0,
        "current_cow_peak" = early,
        "current_cow_size" = early,
        "current_cow_size_age" = 0,
        "current_fork_perc" = format!(
            "{:.2}",
            if total == 0 {
                0.0
            } else {
                done as f64 * 100.0 / total as f64
            }
        ),
        "current_save_keys_processed" = done,
        "current_save_keys_total" = total,
        "rdb_changes_since_last_save" = ex.unsaved_changes(),
        "rdb_bgsave_in_progress" = u8::from(p.saving.is_some()),
        "rdb_last_save_time" = p.last_save_s,
        "rdb_last_bgsave_status" = if p.last_ok { "ok" } else { "err" },
        "rdb_last_bgsave_time_sec" = seconds(p.last_took_s),
        "rdb_current_bgsave_time_sec" = seconds(saving.map(|s| s.running_s(now_s))),
        "rdb_saves" = p.saves,
        "rdb_last_cow_size" = p.last_early_bytes,
        "rdb_last_load_keys_expired" = p.keys_expired,
        "rdb_last_load_keys_loaded" = p.keys_loaded,
        "aof_enabled" = 0,
        "aof_rewrite_in_progress" = 0,
        "aof_rewrite_scheduled" = 0,
        "aof_last_rewrite_time_sec" = -1,
        "aof_current_rewrite_time_sec" = -1,
        "aof_last_bgrewrite_status" = "ok",
        "aof_rewrites" = 0,
        "aof_rewrites_consecutive_failures" = 0,
        "aof_last_write_status" = "ok",
        "aof_last_cow_size" = 0,
        "module_fork_in_progress" = 0,
        "module_fork_last_cow_size" = 0,
        "slot_migration_fork_in_progress" = 0,
    );
    if let Some(loading) = &p.loading {
        let (read, bytes) = loading.progress();
        let elapsed = now_s.saturating_sub(loading.started_s);
        let eta = match elapsed {
            0 => 1,
            s => s * bytes.saturating_sub(read) / (read + 1),
        };
        lines!(
            out,
            "loading_start_time" = loading.started_s,
            "loading_total_bytes" = bytes,
            "loading_rdb_used_mem" = loading.used_mem,
            "loading_loaded_bytes" = read,
            "loading_loaded_perc" = format!("{:.2}", read as f64 * 100.0 / bytes.max(1) as f64),
            "loading_eta_seconds" = eta,
        );
    }
}

fn durability(ex: &Executor, out: &mut String) {
    let (office, term) = match ex.office {
        Office::Standalone => ("none", 0),
        Office::Leader { term } => ("leader", term),
        Office::Follower { term } => ("follower", term),
    };
    lines!(
        out,
        "durability_mode" = if ex.settings.quorum {
            "quorum"
        } else {
            "async"
        },
        "durability_office" = office,
        "durability_term" = term,
        "durability_position" = ex.journal.position(),
        "durability_durable" = ex.journal.durable(),
        "durability_held_replies" = ex.held_replies(),
        "durability_failed_replies" = ex.held_failed,
        "durability_uncommitted_keys" = ex.gate.len(),
        "durability_lease" = if !ex.journal.gates_replies() {
            "none"
        } else if ex.journal.lease_valid() {
            "valid"
        } else {
            "invalid"
        },
    );
    ex.journal.info(out);
}

fn replication(ex: &Executor, out: &mut String) {
    let role = role_name(ex);
    lines!(out, "role" = role,);
    if role == "slave" {
        let (host, port) = primary_endpoint(ex).unwrap_or_default();
        lines!(
            out,
            "master_host" = host,
            "master_port" = port,
            "master_link_status" = if host.is_empty() { "down" } else { "up" },
            "master_last_io_seconds_ago" = 0,
            "master_sync_in_progress" = 0,
            "slave_read_repl_offset" = ex.journal.position(),
            "slave_repl_offset" = ex.journal.position(),
            "slave_priority" = ex.config.get("replica-priority"),
            "slave_read_only" = 1,
            "replica_announced" = 1,
        );
    }
    lines!(out, "connected_slaves" = ex.followers.len(),);
    if ex.settings.replicas_min > 0 {
        lines!(out, "min_slaves_good_slaves" = ex.good_followers(),);
    }
    let now_s = ex.now.unix_us / 1_000_000;
    for (n, (id, f)) in ex.followers.iter().enumerate() {
        let lag = match f.state() {
            "online" => now_s.saturating_sub(f.acked_at_s),
            _ => 0,
        };
        let _ = write!(
            out,
            "slave{n}:ip={},port={},state={},offset={},lag={lag},type=replica\r\n",
            super::replication::address(ex, id, f),
            f.port,
            f.state(),
            f.acked
        );
    }
    let (first, len) = ex.followers.backlog().unwrap_or_default();
    lines!(
        out,
        "replicas_waiting_psync" = 0,
        "master_failover_state" = "no-failover",
        "master_replid" = ex.followers.id,
        "master_replid2" = "0000000000000000000000000000000000000000",
        "master_repl_offset" = ex.journal.position(),
        "second_repl_offset" = -1,
        "repl_backlog_active" = u8::from(ex.followers.is_active()),
        "repl_backlog_size" = ex.config.get("repl-backlog-size"),
        "repl_backlog_first_byte_offset" = first,
        "repl_backlog_histlen" = len,
    );
}

fn cluster(ex: &Executor, out: &mut String) {
    lines!(
        out,
        "cluster_enabled" = u8::from(ex.settings.cluster_enabled),
    );
}

fn keyspace(ex: &Executor, out: &mut String) {
    for db in 0..ex.settings.databases {
        let keys = ex.engine.dbsize(db);
        if keys > 0 {
            let expires = ex.engine.expiries_len(db);
            let _ = write!(
                out,
                "db{db}:keys={keys},expires={expires},avg_ttl=0,keys_with_volatile_items={}\r\n",
                ex.engine.expiring_hashes_len(db)
            );
        }
    }
}

/// The rows of this file.
pub(super) const COMMANDS: &[ServerCommand] = &[Command::new(
    CommandSpec {
        name: "info",
        arity: -1,
        flags: flags([Flags::LOADING, Flags::STALE]),
        categories: Acl::DANGEROUS,
        group: Group::Server,
        since: "1.0.0",
        complexity: "O(1)",
        summary: "Returns information and statistics about the server.",
        tips: &[
            "nondeterministic_output",
            "request_policy:all_shards",
            "response_policy:special",
        ],
        args: "[section...]",
        history: &[(
            "7.0.0",
            "Added support for taking multiple section arguments.",
        )],
        ..CommandSpec::EMPTY
    },
    info as ServerFn,
)];
