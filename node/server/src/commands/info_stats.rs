//! The sections of `INFO` about what the server has done, and how long it took.

use super::info::lines;
use crate::executor::Executor;
use std::fmt::Write;

pub(super) fn stats(ex: &Executor, out: &mut String) {
    let s = &ex.stats;
    let e = ex.engine.stats();
    let rates = s.rates();
    let threads = super::info::io_threads(ex);
    let defragging_ms = ex.defragging_ms();
    lines!(
        out,
        "total_connections_received" = s.connections,
        "total_commands_processed" = s.commands,
        "instantaneous_ops_per_sec" = rates.commands,
        "total_net_input_bytes" = s.bytes_in,
        "total_net_output_bytes" = s.bytes_out,
        "total_net_repl_input_bytes" = 0,
        "total_net_repl_output_bytes" = ex.followers.sent_bytes,
        "total_net_cluster_slot_import_bytes" = 0,
        "total_net_cluster_slot_export_bytes" = 0,
        "instantaneous_input_kbps" = format!("{:.2}", rates.bytes_in as f64 / 1024.0),
        "instantaneous_output_kbps" = format!("{:.2}", rates.bytes_out as f64 / 1024.0),
        "instantaneous_input_repl_kbps" = "0.00",
        "instantaneous_output_repl_kbps" = "0.00",
        "rejected_connections" = s.rejected_connections,
        "sync_full" = ex.followers.full,
        "sync_partial_ok" = ex.followers.partial,
        "sync_partial_err" = ex.followers.refused,
        "expired_keys" = e.expired_keys,
        "expired_fields" = e.expired_fields,
        "expired_stale_perc" = "0.00",
        "expired_keys_with_volatile_items_stale_perc" = "0.00",
        "expired_time_cap_reached_count" = 0,
        "expire_cycle_cpu_milliseconds" = s.expire_ns / 1_000_000,
        "evicted_keys" = e.evicted_keys,
        "evicted_clients" = s.evicted_clients,
        "evicted_scripts" = 0,
        "total_eviction_exceeded_time" = 0,
        "current_eviction_exceeded_time" = 0,
        "keyspace_hits" = e.keyspace_hits,
        "keyspace_misses" = e.keyspace_misses,
        "pubsub_channels" = ex.channels.channels.len(),
        "pubsub_patterns" = ex.channels.patterns.len(),
        "pubsubshard_channels" = ex.channels.shard_channels.len(),
        "latest_fork_usec" = 0,
        "total_forks" = 0,
        "migrate_cached_sockets" = ex.migrate.sockets,
        "slave_expires_tracked_keys" = 0,
        "active_defrag_hits" = e.defrag_moved,
        "active_defrag_misses" = e.defrag_left,
        "active_defrag_key_hits" = e.defrag_moved,
        "active_defrag_key_misses" = e.defrag_left,
        "total_active_defrag_time" = ex.defrag.total_ms + defragging_ms,
        "current_active_defrag_time" = defragging_ms,
        "tracking_total_keys" = ex.tracking_figures()[1],
        "tracking_total_items" = ex.tracking_figures()[2],
        "tracking_total_prefixes" = ex.tracking_figures()[3],
        "unexpected_error_replies" = 0,
        "total_error_replies" = s.error_replies,
        "dump_payload_sanitizations" = 0,
        "total_reads_processed" = s.reads,
        "total_writes_processed" = s.writes,
        "io_threaded_reads_processed" = threads.iter().map(|t| t.reads).sum::<u64>(),
        "io_threaded_writes_processed" = threads.iter().map(|t| t.writes).sum::<u64>(),
        "io_threaded_freed_objects" = 0,
        "io_threaded_accept_processed" = 0,
        "io_threaded_poll_processed" = 0,
        "io_threaded_total_prefetch_batches" = s.prefetch_batches,
        "io_threaded_total_prefetch_entries" = s.prefetch_entries,
        "client_query_buffer_limit_disconnections" = s.query_limit_disconnections,
        "client_output_buffer_limit_disconnections" = s.output_limit_disconnections,
        "reply_buffer_shrinks" = 0,
        "reply_buffer_expands" = 0,
        "eventloop_cycles" = s.turns,
        "eventloop_duration_sum" = s.turn_ns / 1000,
        "eventloop_duration_cmd_sum" = s.command_ns / 1000,
        "instantaneous_eventloop_cycles_per_sec" = rates.turns,
        "instantaneous_eventloop_duration_usec" = rates.turn_us,
        "acl_access_denied_auth" = s.auth_denied,
        "acl_access_denied_cmd" = 0,
        "acl_access_denied_key" = 0,
        "acl_access_denied_channel" = 0,
        "acl_access_denied_tls_cert" = 0,
        "acl_access_denied_db" = 0,
        "longest_background_step_usec" = s.longest_step_us,
        "longest_background_step_cpu_usec" = s.longest_step_cpu_us,
    );
}

pub(super) fn cpu(ex: &Executor, out: &mut String) {
    let (system, user) = ex.host.cpu_seconds();
    let (own_system, own_user) = ex.host.thread_cpu_seconds();
    lines!(
        out,
        "used_cpu_sys" = format!("{system:.6}"),
        "used_cpu_user" = format!("{user:.6}"),
        "used_cpu_sys_children" = "0.000000",
        "used_cpu_user_children" = "0.000000",
        "used_cpu_sys_main_thread" = format!("{own_system:.6}"),
        "used_cpu_user_main_thread" = format!("{own_user:.6}"),
        "used_active_time_main_thread" = format!("{:.6}", ex.stats.turn_ns as f64 / 1e9),
    );
    let threads = super::info::io_threads(ex);
    for (i, t) in threads.iter().enumerate().filter(|(_, t)| t.used) {
        let (s, us) = (t.cpu_us / 1_000_000, t.cpu_us % 1_000_000);
        let i = i + 1;
        let _ = write!(out, "used_active_time_io_thread_{i}:{s}.{us:06}\r\n");
    }
}

/// A name without what has a meaning in these lines.
fn safe(name: &str) -> String {
    name.replace(['#', ':', '\n', '\r'], "_")
}

pub(super) fn commandstats(ex: &Executor, out: &mut String) {
    for e in ex.table.entries() {
        let Some(s) = ex.stats.of(e.id) else { continue };
        if s.calls + s.rejected + s.failed > 0 {
            let us = s.ns / 1000;
            let _ = write!(
                out,
                "cmdstat_{}:calls={},usec={us},usec_per_call={:.2},rejected_calls={},failed_calls={}\r\n",
                e.full_name,
                s.calls,
                s.ns as f64 / 1000.0 / s.calls.max(1) as f64,
                s.rejected,
                s.failed
            );
        }
    }
}

pub(super) fn errorstats(ex: &Executor, out: &mut String) {
    for (code, n) in &ex.stats.errors {
        let _ = write!(out, "errorstat_{}:count={n}\r\n", safe(code));
    }
}

pub(super) fn latencystats(ex: &Executor, out: &mut String) {
    if !ex.settings.observed.tracking {
        return;
    }
    let percentiles = ex.config.get("latency-tracking-info-percentiles");
    let percentiles: Vec<(&str, f64)> = percentiles
        .split(' ')
        .filter_map(|p| Some((p, p.parse().ok()?)))
        .collect();
    for e in ex.table.entries() {
        let Some(latency) = ex.stats.of(e.id).and_then(|s| s.latency.as_ref()) else {
            continue;
        };
        let shown: Vec<String> = percentiles
            .iter()
            .map(|(name, p)| format!("p{name}={:.3}", latency.percentile(*p) as f64 / 1000.0))
            .collect();
        let _ = write!(
            out,
            "latency_percentiles_usec_{}:{}\r\n",
            e.full_name,
            shown.join(",")
        );
    }
}

pub(super) fn debug(ex: &Executor, out: &mut String) {
    let s = &ex.stats;
    lines!(
        out,
        "eventloop_duration_aof_sum" = 0,
        "eventloop_duration_cron_sum" = s.cron_ns / 1000,
        "eventloop_duration_max" = s.turn_ns_max / 1000,
        "eventloop_cmd_per_cycle_max" = s.turn_commands_max,
        "io_threaded_reads_pending" = 0,
        "io_threaded_writes_pending" = 0,
    );
}
