//! What the data path needs of the configuration, parsed once.

use super::Config;
use crate::executor::commandlog::LogLimits;
use crate::executor::defrag::DefragLimits;
use holdfast_engine::EventClass;

/// Limits on a client's pending output. Zero means none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OutputLimit {
    /// Above this many bytes the client is closed at once.
    pub hard_bytes: usize,
    /// Above this many bytes for [`OutputLimit::soft_seconds`] the client is closed.
    pub soft_bytes: usize,
    /// How long the soft limit may be exceeded.
    pub soft_seconds: u64,
}

/// What is measured and logged of commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Observed {
    /// `commandlog-…`, for each [`LogKind`](crate::executor::commandlog::LogKind).
    pub logs: [LogLimits; 3],
    /// `latency-monitor-threshold`, in milliseconds; 0 is off.
    pub latency_ms: u64,
    /// `latency-tracking`
    pub tracking: bool,
    /// `cluster-slot-stats-enabled`, in a cluster.
    pub slots: bool,
}

impl Observed {
    fn of(c: &Config) -> Observed {
        let log = |from: &str, len: &str| {
            let limits = LogLimits {
                from: u64::try_from(c.int(from)).ok(),
                len: c.size(len),
            };
            match limits.len {
                0 => LogLimits::default(),
                _ => limits,
            }
        };
        Observed {
            logs: [
                log(
                    "commandlog-execution-slower-than",
                    "commandlog-slow-execution-max-len",
                ),
                log(
                    "commandlog-request-larger-than",
                    "commandlog-large-request-max-len",
                ),
                log(
                    "commandlog-reply-larger-than",
                    "commandlog-large-reply-max-len",
                ),
            ],
            latency_ms: c.size("latency-monitor-threshold") as u64,
            tracking: c.yes("latency-tracking"),
            slots: c.yes("cluster-enabled") && c.yes("cluster-slot-stats-enabled"),
        }
    }
}

/// Typed values of the directives that are looked at while commands run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// `maxclients`
    pub maxclients: usize,
    /// `import-mode`: nothing expires.
    pub import_mode: bool,
    /// `timeout`, in seconds; 0 is never.
    pub timeout_s: u64,
    /// `tcp-keepalive`, in seconds; 0 is off.
    pub tcp_keepalive_s: u64,
    /// `client-query-buffer-limit`
    pub query_buffer_bytes_max: usize,
    /// `proto-max-bulk-len`
    pub bulk_bytes_max: usize,
    /// Limit for clients without subscriptions.
    pub output_normal: OutputLimit,
    /// Limit for clients with subscriptions.
    pub output_pubsub: OutputLimit,
    /// Limit for followers.
    pub output_replica: OutputLimit,
    /// `repl-backlog-size`
    pub backlog_bytes: usize,
    /// `requirepass`; empty means none.
    pub requirepass: Vec<u8>,
    /// `protected-mode`
    pub protected_mode: bool,
    /// `max-new-connections-per-cycle`
    pub accepts_per_turn_max: usize,
    /// `max-new-tls-connections-per-cycle`
    pub tls_accepts_per_turn_max: usize,
    /// `databases`, or `cluster-databases` when clustered.
    pub databases: u16,
    /// `cluster-enabled`
    pub cluster_enabled: bool,
    /// `durability quorum`
    pub quorum: bool,
    /// `durability-timeout`
    pub durability_timeout_ms: u64,
    /// `enable-debug-command`: `no`, `yes` or `local`.
    pub debug_command: Allowed,
    /// `enable-protected-configs`
    pub protected_configs: Allowed,
    /// `hz`, between 1 and 500.
    pub hz: u64,
    /// `active-expire-effort`, 1 to 10.
    pub active_expire_effort: u32,
    /// `min-replicas-to-write`, unless `min-replicas-max-lag` turns it off.
    pub replicas_min: usize,
    /// `min-replicas-max-lag`, in seconds.
    pub replica_lag_max_s: u64,
    /// `tracking-table-max-keys`; 0 is no limit.
    pub tracked_keys_max: usize,
    /// What is measured and logged of commands.
    pub observed: Observed,
    /// `notify-keyspace-events`
    pub events: EventClass,
    /// `maxmemory`, in bytes; 0 is no limit.
    pub memory_bytes_max: u64,
    /// `maxmemory-clients`, in bytes; 0 is no limit.
    pub client_bytes_max: usize,
    /// `activedefrag`, and when and how.
    pub defrag: Option<DefragLimits>,
    /// `maxmemory-eviction-tenacity`, 0 to 100.
    pub eviction_tenacity: u32,
    /// Whether memory is asked for ahead of commands: unless `prefetch-batch-max-size` leaves nothing to be asked for together.
    pub prefetches: bool,
}

/// Below this no client could do anything.
const CLIENT_BYTES_MIN: usize = 128 * 1024;

/// `maxmemory-clients`: bytes, or a part of `maxmemory`.
fn client_bytes_max(c: &Config) -> usize {
    let bytes = match c.get("maxmemory-clients").strip_suffix('%') {
        None => c.size("maxmemory-clients"),
        Some(percent) => c.size("maxmemory") / 100 * percent.parse().unwrap_or(0),
    };
    if bytes == 0 {
        0
    } else {
        bytes.max(CLIENT_BYTES_MIN)
    }
}

/// Who may use something dangerous.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allowed {
    /// Nobody.
    No,
    /// Everybody.
    Yes,
    /// Clients on this machine.
    Local,
}

impl Allowed {
    fn of(word: &str) -> Allowed {
        match word {
            "yes" => Allowed::Yes,
            "local" => Allowed::Local,
            _ => Allowed::No,
        }
    }

    /// Whether a client may, given whether it is on this machine.
    pub fn permits(self, local: bool) -> bool {
        match self {
            Allowed::No => false,
            Allowed::Yes => true,
            Allowed::Local => local,
        }
    }
}

impl Settings {
    /// Derives the settings from the configuration.
    pub fn of(c: &Config) -> Settings {
        let limits: Vec<OutputLimit> = c
            .get("client-output-buffer-limit")
            .split(' ')
            .collect::<Vec<_>>()
            .chunks_exact(4)
            .map(|q| OutputLimit {
                hard_bytes: q[1].parse().unwrap_or(0),
                soft_bytes: q[2].parse().unwrap_or(0),
                soft_seconds: q[3].parse().unwrap_or(0),
            })
            .collect();
        let limit = |i: usize| limits.get(i).copied().unwrap_or_default();
        let cluster_enabled = c.yes("cluster-enabled");
        let databases = if cluster_enabled {
            "cluster-databases"
        } else {
            "databases"
        };
        Settings {
            maxclients: c.size("maxclients"),
            import_mode: c.yes("import-mode"),
            timeout_s: c.size("timeout") as u64,
            tcp_keepalive_s: c.size("tcp-keepalive") as u64,
            query_buffer_bytes_max: c.size("client-query-buffer-limit"),
            bulk_bytes_max: c.size("proto-max-bulk-len"),
            output_normal: limit(0),
            output_pubsub: limit(2),
            output_replica: limit(1),
            backlog_bytes: c.size("repl-backlog-size").max(16 << 10),
            requirepass: c.get("requirepass").as_bytes().to_vec(),
            protected_mode: c.yes("protected-mode"),
            accepts_per_turn_max: c.size("max-new-connections-per-cycle").max(1),
            tls_accepts_per_turn_max: c.size("max-new-tls-connections-per-cycle").max(1),
            databases: u16::try_from(c.int(databases)).unwrap_or(u16::MAX).max(1),
            cluster_enabled,
            quorum: c.get("durability") == "quorum",
            durability_timeout_ms: c.size("durability-timeout") as u64,
            debug_command: Allowed::of(c.get("enable-debug-command")),
            protected_configs: Allowed::of(c.get("enable-protected-configs")),
            hz: (c.size("hz") as u64).clamp(1, 500),
            active_expire_effort: c.size("active-expire-effort").clamp(1, 10) as u32,
            replicas_min: match c.size("min-replicas-max-lag") {
                0 => 0,
                _ => c.size("min-replicas-to-write"),
            },
            replica_lag_max_s: c.size("min-replicas-max-lag") as u64,
            tracked_keys_max: c.size("tracking-table-max-keys"),
            observed: Observed::of(c),
            events: EventClass::parse(c.get("notify-keyspace-events")).unwrap_or_default(),
            memory_bytes_max: c.size("maxmemory") as u64,
            client_bytes_max: client_bytes_max(c),
            defrag: DefragLimits::of(c),
            eviction_tenacity: c.size("maxmemory-eviction-tenacity") as u32,
            prefetches: c.int("prefetch-batch-max-size") > 1,
        }
    }
}
