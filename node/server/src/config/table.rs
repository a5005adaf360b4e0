//! Every directive of Valkey 9.1 and our own, one row each.
//!
//! A row says what the directive is called, what it takes, what it is by default and whether this
//! server acts on it. What is known but not acted on is accepted, and said once in the log.

/// What values a directive takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `yes` or `no`.
    Bool,
    /// Any string, possibly empty.
    Str,
    /// One of the names.
    Enum(&'static [&'static str]),
    /// Some of the names, separated by spaces.
    Flags(&'static [&'static str]),
    /// An integer in a range, both ends included.
    Int {
        /// Lowest value.
        min: i64,
        /// Highest value.
        max: i64,
    },
    /// An octal number up to `max`.
    Octal {
        /// Highest value.
        max: i64,
    },
    /// A number of bytes, possibly with a unit (`1k` is 1000, `1kb` is 1024).
    Memory {
        /// Lowest value, in bytes.
        min: i64,
        /// Highest value, in bytes.
        max: i64,
    },
    /// A number of bytes, or a percentage of `maxmemory`.
    MemoryOrPercent,
    /// Any number of words.
    Words,
    /// Pairs of seconds and changes.
    Save,
    /// `<class> <hard> <soft> <seconds>`, repeated.
    OutputLimits,
    /// Letters of classes of keyspace events.
    EventClasses,
}

/// One directive.
#[derive(Debug, Clone, Copy)]
pub struct Directive {
    /// Its name, in lower case.
    pub name: &'static str,
    /// Another name for it; empty if there is none.
    pub alias: &'static str,
    /// What it takes.
    pub kind: Kind,
    /// Its value when nobody sets it.
    pub default: &'static str,
    /// Bits of [`IMMUTABLE`] and its neighbours.
    pub flags: u8,
    /// Whether this server acts on it; if not, setting it is accepted with a warning.
    pub acts: bool,
}

/// No flag.
pub const NONE: u8 = 0;
/// Set at the start only.
pub const IMMUTABLE: u8 = 1;
/// Never shown in logs.
pub const SENSITIVE: u8 = 2;
/// `CONFIG GET` shows it only when asked for by its full name.
pub const HIDDEN: u8 = 4;
/// `CONFIG SET` of it needs `enable-protected-configs`.
pub const PROTECTED: u8 = 8;
/// Takes several words.
pub const MULTI: u8 = 16;

const fn acts(
    name: &'static str,
    alias: &'static str,
    kind: Kind,
    default: &'static str,
    flags: u8,
) -> Directive {
    Directive {
        name,
        alias,
        kind,
        default,
        flags,
        acts: true,
    }
}

const fn known(
    name: &'static str,
    alias: &'static str,
    kind: Kind,
    default: &'static str,
    flags: u8,
) -> Directive {
    Directive {
        name,
        alias,
        kind,
        default,
        flags,
        acts: false,
    }
}

/// Directives that old configuration files still hold and that have no meaning any more.
pub const DEPRECATED: &[&str] = &[
    "list-max-ziplist-entries",
    "list-max-ziplist-value",
    "lua-replicate-commands",
    "io-threads-do-reads",
    "dynamic-hz",
    "events-per-io-thread",
    "sanitize-dump-payload",
];

/// The directives, sorted by name.
pub const DIRECTIVES: &[Directive] = &[
    known(
        "acl-pubsub-default",
        "",
        Kind::Enum(&["allchannels", "resetchannels"]),
        "resetchannels",
        NONE,
    ),
    known("aclfile", "", Kind::Str, "", IMMUTABLE),
    known(
        "acllog-max-len",
        "",
        Kind::Int {
            min: 0,
            max: i64::MAX,
        },
        "128",
        NONE,
    ),
    known(
        "active-defrag-cycle-max",
        "",
        Kind::Int { min: 1, max: 99 },
        "25",
        NONE,
    ),
    known(
        "active-defrag-cycle-min",
        "",
        Kind::Int { min: 1, max: 99 },
        "1",
        NONE,
    ),
    known(
        "active-defrag-cycle-us",
        "",
        Kind::Int {
            min: 0,
            max: 100000,
        },
        "500",
        NONE,
    ),
    known(
        "active-defrag-ignore-bytes",
        "",
        Kind::Memory {
            min: 1,
            max: i64::MAX,
        },
        "104857600",
        NONE,
    ),
    known(
        "active-defrag-max-scan-fields",
        "",
        Kind::Int {
            min: 1,
            max: i64::MAX,
        },
        "1000",
        NONE,
    ),
    known(
        "active-defrag-threshold-lower",
        "",
        Kind::Int { min: 0, max: 1000 },
        "10",
        NONE,
    ),
    known(
        "active-defrag-threshold-upper",
        "",
        Kind::Int { min: 0, max: 1000 },
        "100",
        NONE,
    ),
    acts(
        "active-expire-effort",
        "",
        Kind::Int { min: 1, max: 10 },
        "1",
        NONE,
    ),
    known("activedefrag", "", Kind::Bool, "no", NONE),
    known("activerehashing", "", Kind::Bool, "yes", NONE),
    known("always-show-logo", "", Kind::Bool, "no", IMMUTABLE),
    known("aof-disable-auto-gc", "", Kind::Bool, "no", HIDDEN),
    known("aof-load-truncated", "", Kind::Bool, "yes", NONE),
    known(
        "aof-rewrite-cpulist",
        "aof_rewrite_cpulist",
        Kind::Str,
        "",
        IMMUTABLE,
    ),
    known("aof-rewrite-incremental-fsync", "", Kind::Bool, "yes", NONE),
    known("aof-timestamp-enabled", "", Kind::Bool, "no", NONE),
    known("aof-use-rdb-preamble", "", Kind::Bool, "yes", NONE),
    known("appenddirname", "", Kind::Str, "appendonlydir", IMMUTABLE),
    known("appendfilename", "", Kind::Str, "appendonly.aof", IMMUTABLE),
    known(
        "appendfsync",
        "",
        Kind::Enum(&["everysec", "always", "no"]),
        "everysec",
        NONE,
    ),
    known("appendonly", "", Kind::Bool, "no", NONE),
    known(
        "auto-aof-rewrite-min-size",
        "",
        Kind::Memory {
            min: 0,
            max: i64::MAX,
        },
        "67108864",
        NONE,
    ),
    known(
        "auto-aof-rewrite-percentage",
        "",
        Kind::Int {
            min: 0,
            max: 2147483647,
        },
        "100",
        NONE,
    ),
    acts("availability-zone", "", Kind::Str, "", NONE),
    known("bgsave-cpulist", "bgsave_cpulist", Kind::Str, "", IMMUTABLE),
    acts("bind", "", Kind::Words, "* -::*", MULTI),
    known("bind-source-addr", "", Kind::Str, "", NONE),
    known("bio-cpulist", "bio_cpulist", Kind::Str, "", IMMUTABLE),
    known(
        "busy-reply-threshold",
        "lua-time-limit",
        Kind::Int {
            min: 0,
            max: i64::MAX,
        },
        "5000",
        NONE,
    ),
    acts(
        "client-output-buffer-limit",
        "",
        Kind::OutputLimits,
        "normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60",
        MULTI,
    ),
    acts(
        "client-query-buffer-limit",
        "",
        Kind::Memory {
            min: 1048576,
            max: i64::MAX,
        },
        "1073741824",
        NONE,
    ),
    acts(
        "cluster-allow-pubsubshard-when-down",
        "",
        Kind::Bool,
        "yes",
        NONE,
    ),
    acts("cluster-allow-reads-when-down", "", Kind::Bool, "no", NONE),
    known(
        "cluster-allow-replica-migration",
        "",
        Kind::Bool,
        "yes",
        NONE,
    ),
    acts(
        "cluster-announce-bus-port",
        "",
        Kind::Int { min: 0, max: 65535 },
        "0",
        NONE,
    ),
    known("cluster-announce-client-ipv4", "", Kind::Str, "", NONE),
    known("cluster-announce-client-ipv6", "", Kind::Str, "", NONE),
    known(
        "cluster-announce-client-port",
        "",
        Kind::Int { min: 0, max: 65535 },
        "0",
        NONE,
    ),
    known(
        "cluster-announce-client-tls-port",
        "",
        Kind::Int { min: 0, max: 65535 },
        "0",
        NONE,
    ),
    acts("cluster-announce-hostname", "", Kind::Str, "", NONE),
    acts("cluster-announce-human-nodename", "", Kind::Str, "", NONE),
    acts("cluster-announce-ip", "", Kind::Str, "", NONE),
    acts(
        "cluster-announce-port",
        "",
        Kind::Int { min: 0, max: 65535 },
        "0",
        NONE,
    ),
    known(
        "cluster-announce-tls-port",
        "",
        Kind::Int { min: 0, max: 65535 },
        "0",
        NONE,
    ),
    acts(
        "cluster-blacklist-ttl",
        "",
        Kind::Int {
            min: 0,
            max: i64::MAX,
        },
        "60",
        NONE,
    ),
    acts(
        "cluster-config-file",
        "",
        Kind::Str,
        "nodes.conf",
        IMMUTABLE,
    ),
    known(
        "cluster-config-save-behavior",
        "",
        Kind::Enum(&["sync", "best-effort"]),
        "sync",
        NONE,
    ),
    acts(
        "cluster-databases",
        "",
        Kind::Int {
            min: 1,
            max: 2147483647,
        },
        "1",
        IMMUTABLE,
    ),
    acts("cluster-enabled", "", Kind::Bool, "no", IMMUTABLE),
    acts(
        "cluster-link-sendbuf-limit",
        "",
        Kind::Memory {
            min: 0,
            max: i64::MAX,
        },
        "0",
        NONE,
    ),
    acts(
        "cluster-manual-failover-timeout",
        "",
        Kind::Int {
            min: 1,
            max: 2147483647,
        },
        "5000",
        NONE,
    ),
    known(
        "cluster-message-gossip-perc",
        "",
        Kind::Int { min: 1, max: 100 },
        "10",
        HIDDEN,
    ),
    known(
        "cluster-migration-barrier",
        "",
        Kind::Int {
            min: 0,
            max: 2147483647,
        },
        "1",
        NONE,
    ),
    acts(
        "cluster-node-timeout",
        "",
        Kind::Int {
            min: 0,
            max: i64::MAX,
        },
        "15000",
        NONE,
    ),
    known(
        "cluster-ping-interval",
        "",
        Kind::Int {
            min: 0,
            max: i64::MAX,
        },
        "0",
        HIDDEN,
    ),
    acts(
        "cluster-port",
        "",
        Kind::Int { min: 0, max: 65535 },
        "0",
        IMMUTABLE,
    ),
    acts(
        "cluster-preferred-endpoint-type",
        "",
        Kind::Enum(&["ip", "hostname", "unknown-endpoint"]),
        "ip",
        NONE,
    ),
    acts(
        "cluster-replica-no-failover",
        "cluster-slave-no-failover",
        Kind::Bool,
        "no",
        NONE,
    ),
    known(
        "cluster-replica-validity-factor",
        "cluster-slave-validity-factor",
        Kind::Int {
            min: 0,
            max: 2147483647,
        },
        "10",
        NONE,
    ),
    acts("cluster-require-full-coverage", "", Kind::Bool, "yes", NONE),
    acts(
        "cluster-slot-migration-log-max-len",
        "",
        Kind::Int {
            min: 0,
            max: i64::MAX,
        },
        "1000",
        NONE,
    ),
    known("cluster-slot-stats-enabled", "", Kind::Bool, "no", NONE),
    known(
        "commandlog-execution-slower-than",
        "slowlog-log-slower-than",
        Kind::Int {
            min: -1,
            max: i64::MAX,
        },
        "10000",
        NONE,
    ),
    known(
        "commandlog-large-reply-max-len",
        "",
        Kind::Int {
            min: 0,
            max: i64::MAX,
        },
        "128",
        NONE,
    ),
    known(
        "commandlog-large-request-max-len",
        "",
        Kind::Int {
            min: 0,
            max: i64::MAX,
        },
        "128",
        NONE,
    ),
    known(
        "commandlog-reply-larger-than",
        "",
        Kind::Int {
            min: -1,
            max: i64::MAX,
        },
        "1048576",
        NONE,
    ),
    known(
        "commandlog-request-larger-than",
        "",
        Kind::Int {
            min: -1,
            max: i64::MAX,
        },
        "1048576",
        NONE,
    ),
    known(
        "commandlog-slow-execution-max-len",
        "slowlog-max-len",
        Kind::Int {
            min: 0,
            max: i64::MAX,
        },
        "128",
        NONE,
    ),
    known("crash-log-enabled", "", Kind::Bool, "yes", NONE),
    known("crash-memcheck-enabled", "", Kind::Bool, "yes", NONE),
    known("daemonize", "", Kind::Bool, "no", IMMUTABLE),
    acts(
        "databases",
        "",
        Kind::Int {
            min: 1,
            max: 2147483647,
        },
        "16",
        IMMUTABLE,
    ),
    acts("dbfilename", "", Kind::Str, "dump.rdb", PROTECTED),
    known("debug-context", "", Kind::Str, "", HIDDEN),
    acts("dir", "", Kind::Str, "", PROTECTED),
    acts("disable-thp", "", Kind::Bool, "yes", IMMUTABLE),
    known(
        "dual-channel-replication-enabled",
        "",
        Kind::Bool,
        "no",
        NONE,
    ),
    acts(
        "durability",
        "",
        Kind::Enum(&["async", "quorum"]),
        "async",
        IMMUTABLE,
    ),
    acts(
        "durability-timeout",
        "",
        Kind::Int {
            min: 1,
            max: 3600000,
        },
        "5000",
        NONE,
    ),
    known(
        "enable-debug-assert",
        "",
        Kind::Bool,
        "no",
        IMMUTABLE | HIDDEN,
    ),
    acts(
        "enable-debug-command",
        "",
        Kind::Enum(&["no", "yes", "local"]),
        "no",
        IMMUTABLE,
    ),
    known(
        "enable-module-command",
        "",
        Kind::Enum(&["no", "yes", "local"]),
        "no",
        IMMUTABLE,
    ),
    acts(
        "enable-protected-configs",
        "",
        Kind::Enum(&["no", "yes", "local"]),
        "no",
        IMMUTABLE,
    ),
    acts("extended-redis-compatibility", "", Kind::Bool, "no", NONE),
    acts(
        "hash-max-listpack-entries",
        "hash-max-ziplist-entries",
        Kind::Int {
            min: 0,
            max: i64::MAX,
        },
        "512",
        NONE,
    ),
    acts(
        "hash-max-listpack-value",
        "hash-max-ziplist-value",
        Kind::Memory {
            min: 0,
            max: i64::MAX,
        },
        "64",
        NONE,
    ),
    known("hash-seed", "", Kind::Str, "", IMMUTABLE),
    known("hide-user-data-from-log", "", Kind::Bool, "yes", NONE),
    acts(
        "hll-sparse-max-bytes",
        "",
        Kind::Memory {
            min: 0,
            max: i64::MAX,
        },
        "3000",
        NONE,
    ),
    acts(
        "hz",
        "",
        Kind::Int {
            min: 0,
            max: 2147483647,
        },
        "10",
        NONE,
    ),
    known("ignore-warnings", "", Kind::Str, "", NONE),
    acts("import-mode", "", Kind::Bool, "no", NONE),
    known("io-threads", "", Kind::Int { min: 1, max: 256 }, "1", NONE),
    known("io-threads-always-active", "", Kind::Bool, "no", HIDDEN),
    known("jemalloc-bg-thread", "", Kind::Bool, "yes", NONE),
    acts(
        "key-load-delay",
        "",
        Kind::Int {
            min: -2147483648,
            max: 2147483647,
        },
        "0",
        HIDDEN,
    ),
    known(
        "latency-monitor-threshold",
        "",
        Kind::Int {
            min: 0,
            max: i64::MAX,
        },
        "0",
        NONE,
    ),
    known("latency-tracking", "", Kind::Bool, "yes", NONE),
    known(
        "latency-tracking-info-percentiles",
        "",
        Kind::Words,
        "50 99 99.9",
        MULTI,
    ),
    acts("lazyfree-lazy-eviction", "", Kind::Bool, "yes", NONE),
    acts("lazyfree-lazy-expire", "", Kind::Bool, "yes", NONE),
    acts("lazyfree-lazy-server-del", "", Kind::Bool, "yes", NONE),
    acts("lazyfree-lazy-user-del", "", Kind::Bool, "yes", NONE),
    acts("lazyfree-lazy-user-flush", "", Kind::Bool, "yes", NONE),
    acts(
        "lfu-decay-time",
        "",
        Kind::Int {
            min: 0,
            max: 2147483647,
        },
        "1",
        NONE,
    ),
    acts(
        "lfu-log-factor",
        "",
        Kind::Int {
            min: 0,
            max: 2147483647,
        },
        "10",
        NONE,
    ),
    known(
        "list-compress-depth",
        "",
        Kind::Int {
            min: 0,
            max: 2147483647,
        },
        "0",
        NONE,
    ),
    acts(
        "list-max-listpack-size",
        "list-max-ziplist-size",
        Kind::Int {
            min: -2147483648,
            max: 2147483647,
        },
        "-2",
        NONE,
    ),
    known(
        "loading-process-events-interval-bytes",
        "",
        Kind::Int {
            min: 1024,
            max: 2147483647,
        },
        "2097152",
        HIDDEN,
    ),
    known("locale-collate", "", Kind::Str, "", NONE),
    known(
        "log-format",
        "",
        Kind::Enum(&["legacy", "logfmt", "json"]),
        "legacy",
        NONE,
    ),
    known(
        "log-timestamp-format",
        "",
        Kind::Enum(&["legacy", "iso8601", "milliseconds"]),
        "legacy",
        NONE,
    ),
    acts("logfile", "", Kind::Str, "", IMMUTABLE),
    acts(
        "loglevel",
        "",
        Kind::Enum(&["debug", "verbose", "notice", "warning", "nothing"]),
        "notice",
        NONE,
    ),
    known(
        "lua-enable-insecure-api",
        "lua-enable-deprecated-api",
        Kind::Bool,
        "no",
        HIDDEN | PROTECTED,
    ),
    acts(
        "max-new-connections-per-cycle",
        "",
        Kind::Int { min: 1, max: 1000 },
        "10",
        NONE,
    ),
    known(
        "max-new-tls-connections-per-cycle",
        "",
        Kind::Int { min: 1, max: 1000 },
        "1",
        NONE,
    ),
    acts(
        "maxclients",
        "",
        Kind::Int {
            min: 1,
            max: 4294967295,
        },
        "10000",
        NONE,
    ),
    acts(
        "maxmemory",
        "",
        Kind::Memory {
            min: 0,
            max: i64::MAX,
        },
        "0",
        NONE,
    ),
    acts("maxmemory-clients", "", Kind::MemoryOrPercent, "0", NONE),
    acts(
        "maxmemory-eviction-tenacity",
        "",
        Kind::Int { min: 0, max: 100 },
        "10",
        NONE,
    ),
    acts(
        "maxmemory-policy",
        "",
        Kind::Enum(&[
            "volatile-lru",
            "volatile-lfu",
            "volatile-random",
            "volatile-ttl",
            "allkeys-lru",
            "allkeys-lfu",
            "allkeys-random",
            "noeviction",
        ]),
        "noeviction",
        NONE,
    ),
    acts(
        "maxmemory-samples",
        "",
        Kind::Int { min: 1, max: 64 },
        "5",
        NONE,
    ),
    known(
        "min-io-threads-avoid-copy-reply",
        "",
        Kind::Int {
            min: 0,
            max: 2147483647,
        },
        "7",
        HIDDEN,
    ),
    acts(
        "min-replicas-max-lag",
        "min-slaves-max-lag",
        Kind::Int {
            min: 0,
            max: 2147483647,
        },
        "10",
        NONE,
    ),
    acts(
        "min-replicas-to-write",
        "min-slaves-to-write",
        Kind::Int {
            min: 0,
            max: 2147483647,
        },
        "0",
        NONE,
    ),
    known(
        "min-string-size-avoid-copy-reply",
        "",
        Kind::Int {
            min: 0,
            max: 2147483647,
        },
        "16384",
        HIDDEN,
    ),
    known(
        "min-string-size-avoid-copy-reply-threaded",
        "",
        Kind::Int {
            min: 0,
            max: 2147483647,
        },
        "65536",
        HIDDEN,
    ),
    known("mptcp", "", Kind::Bool, "no", IMMUTABLE),
    known("no-appendfsync-on-rewrite", "", Kind::Bool, "no", NONE),
    acts("notify-keyspace-events", "", Kind::EventClasses, "", NONE),
    known(
        "oom-score-adj",
        "",
        Kind::Enum(&["no", "yes", "relative", "absolute"]),
        "no",
        NONE,
    ),
    known("oom-score-adj-values", "", Kind::Words, "0 200 800", MULTI),
    acts("pidfile", "", Kind::Str, "", IMMUTABLE),
    acts("port", "", Kind::Int { min: 0, max: 65535 }, "6379", NONE),
    known(
        "prefetch-batch-max-size",
        "",
        Kind::Int { min: 0, max: 128 },
        "16",
        NONE,
    ),
    known("primaryauth", "masterauth", Kind::Str, "", SENSITIVE),
    known("primaryuser", "masteruser", Kind::Str, "", SENSITIVE),
    known(
        "proc-title-template",
        "",
        Kind::Str,
        "{title} {listen-addr} {server-mode}",
        NONE,
    ),
    known(
        "propagation-error-behavior",
        "",
        Kind::Enum(&["ignore", "panic", "panic-on-replicas"]),
        "ignore",
        NONE,
    ),
    acts("protected-mode", "", Kind::Bool, "yes", NONE),
    acts(
        "proto-max-bulk-len",
        "",
        Kind::Memory {
            min: 1048576,
            max: i64::MAX,
        },
        "536870912",
        NONE,
    ),
    acts("raft-announce-ip", "", Kind::Str, "", IMMUTABLE),
    acts(
        "raft-announce-port",
        "",
        Kind::Int { min: 0, max: 65535 },
        "0",
        IMMUTABLE,
    ),
    acts(
        "raft-election-timeout",
        "",
        Kind::Int {
            min: 50,
            max: 60000,
        },
        "500",
        IMMUTABLE,
    ),
    acts(
        "raft-log-max-bytes",
        "",
        Kind::Memory {
            // The simulator's logs are small, to be cut often.
            min: if cfg!(madsim) { 16384 } else { 1048576 },
            max: i64::MAX,
        },
        "1073741824",
        NONE,
    ),
    acts(
        "raft-port",
        "",
        Kind::Int { min: 0, max: 65535 },
        "0",
        IMMUTABLE,
    ),
    acts(
        "raft-segment-bytes",
        "",
        Kind::Memory {
            min: if cfg!(madsim) { 4096 } else { 65536 },
            max: 4294967296,
        },
        "67108864",
        IMMUTABLE,
    ),
    known("rdb-del-sync-files", "", Kind::Bool, "no", NONE),
    acts(
        "rdb-key-save-delay",
        "",
        Kind::Int {
            min: -2147483648,
            max: 2147483647,
        },
        "0",
        HIDDEN,
    ),
    acts("rdb-save-incremental-fsync", "", Kind::Bool, "yes", NONE),
    acts(
        "rdb-version-check",
        "",
        Kind::Enum(&["strict", "relaxed"]),
        "strict",
        NONE,
    ),
    acts("rdbchecksum", "", Kind::Bool, "yes", IMMUTABLE),
    acts("rdbcompression", "", Kind::Bool, "yes", NONE),
    known("rdma-bind", "", Kind::Words, "", MULTI),
    known(
        "rdma-completion-vector",
        "",
        Kind::Int { min: -1, max: 1024 },
        "-1",
        IMMUTABLE,
    ),
    known("rdma-port", "", Kind::Int { min: 0, max: 65535 }, "0", NONE),
    known(
        "rdma-rx-size",
        "",
        Kind::Int {
            min: 65536,
            max: 16777216,
        },
        "1048576",
        IMMUTABLE,
    ),
    acts(
        "repl-backlog-size",
        "",
        Kind::Memory {
            min: 1,
            max: i64::MAX,
        },
        "10485760",
        NONE,
    ),
    acts(
        "repl-backlog-ttl",
        "",
        Kind::Int {
            min: 0,
            max: i64::MAX,
        },
        "3600",
        NONE,
    ),
    known("repl-disable-tcp-nodelay", "", Kind::Bool, "no", NONE),
    known(
        "repl-diskless-load",
        "",
        Kind::Enum(&["disabled", "on-empty-db", "swapdb", "flush-before-load"]),
        "disabled",
        NONE,
    ),
    known("repl-diskless-sync", "", Kind::Bool, "yes", NONE),
    known(
        "repl-diskless-sync-delay",
        "",
        Kind::Int {
            min: 0,
            max: 2147483647,
        },
        "5",
        NONE,
    ),
    known(
        "repl-diskless-sync-max-replicas",
        "",
        Kind::Int {
            min: 0,
            max: 2147483647,
        },
        "0",
        NONE,
    ),
    known("repl-mptcp", "", Kind::Bool, "no", IMMUTABLE),
    acts(
        "repl-ping-replica-period",
        "repl-ping-slave-period",
        Kind::Int {
            min: 1,
            max: 2147483647,
        },
        "10",
        NONE,
    ),
    acts(
        "repl-timeout",
        "",
        Kind::Int {
            min: 1,
            max: 2147483647,
        },
        "60",
        NONE,
    ),
    known(
        "replica-announce-ip",
        "slave-announce-ip",
        Kind::Str,
        "",
        NONE,
    ),
    known(
        "replica-announce-port",
        "slave-announce-port",
        Kind::Int { min: 0, max: 65535 },
        "0",
        NONE,
    ),
    known("replica-announced", "", Kind::Bool, "yes", NONE),
    known(
        "replica-ignore-disk-write-errors",
        "",
        Kind::Bool,
        "no",
        NONE,
    ),
    known(
        "replica-ignore-maxmemory",
        "slave-ignore-maxmemory",
        Kind::Bool,
        "yes",
        NONE,
    ),
    known(
        "replica-lazy-flush",
        "slave-lazy-flush",
        Kind::Bool,
        "yes",
        NONE,
    ),
    known(
        "replica-priority",
        "slave-priority",
        Kind::Int {
            min: 0,
            max: 2147483647,
        },
        "100",
        NONE,
    ),
    known(
        "replica-read-only",
        "slave-read-only",
        Kind::Bool,
        "yes",
        NONE,
    ),
    known(
        "replica-serve-stale-data",
        "slave-serve-stale-data",
        Kind::Bool,
        "yes",
        NONE,
    ),
    known("replicaof", "slaveof", Kind::Words, "", IMMUTABLE | MULTI),
    acts("requirepass", "", Kind::Str, "", SENSITIVE),
    acts("save", "", Kind::Save, "3600 1 300 100 60 10000", MULTI),
    known("server-cpulist", "server_cpulist", Kind::Str, "", IMMUTABLE),
    acts(
        "set-max-intset-entries",
        "",
        Kind::Int {
            min: 0,
            max: i64::MAX,
        },
        "512",
        NONE,
    ),
    acts(
        "set-max-listpack-entries",
        "",
        Kind::Int {
            min: 0,
            max: i64::MAX,
        },
        "128",
        NONE,
    ),
    acts(
        "set-max-listpack-value",
        "",
        Kind::Int {
            min: 0,
            max: i64::MAX,
        },
        "64",
        NONE,
    ),
    known("set-proc-title", "", Kind::Bool, "yes", IMMUTABLE),
    known(
        "shutdown-on-sigint",
        "",
        Kind::Flags(&[
            "default", "save", "nosave", "now", "force", "safe", "failover",
        ]),
        "default",
        MULTI,
    ),
    acts(
        "shutdown-on-sigterm",
        "",
        Kind::Flags(&[
            "default", "save", "nosave", "now", "force", "safe", "failover",
        ]),
        "default",
        MULTI,
    ),
    acts(
        "shutdown-timeout",
        "",
        Kind::Int {
            min: 0,
            max: 2147483647,
        },
        "10",
        NONE,
    ),
    known(
        "slot-migration-max-failover-repl-bytes",
        "",
        Kind::Memory {
            min: -1,
            max: i64::MAX,
        },
        "0",
        NONE,
    ),
    known(
        "socket-mark-id",
        "",
        Kind::Int {
            min: 0,
            max: 4294967295,
        },
        "0",
        IMMUTABLE,
    ),
    acts("stop-writes-on-bgsave-error", "", Kind::Bool, "yes", NONE),
    known(
        "stream-node-max-bytes",
        "",
        Kind::Memory {
            min: 0,
            max: i64::MAX,
        },
        "4096",
        NONE,
    ),
    known(
        "stream-node-max-entries",
        "",
        Kind::Int {
            min: 0,
            max: i64::MAX,
        },
        "100",
        NONE,
    ),
    known(
        "supervised",
        "",
        Kind::Enum(&["upstart", "systemd", "auto", "no"]),
        "no",
        IMMUTABLE,
    ),
    known("syslog-enabled", "", Kind::Bool, "no", IMMUTABLE),
    known(
        "syslog-facility",
        "",
        Kind::Enum(&[
            "user", "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7",
        ]),
        "local0",
        IMMUTABLE,
    ),
    known("syslog-ident", "", Kind::Str, "valkey", IMMUTABLE),
    acts(
        "tcp-backlog",
        "",
        Kind::Int {
            min: 0,
            max: 2147483647,
        },
        "511",
        IMMUTABLE,
    ),
    acts(
        "tcp-keepalive",
        "",
        Kind::Int {
            min: 0,
            max: 2147483647,
        },
        "300",
        NONE,
    ),
    acts(
        "timeout",
        "",
        Kind::Int {
            min: 0,
            max: 2147483647,
        },
        "0",
        NONE,
    ),
    known(
        "tls-auth-clients",
        "",
        Kind::Enum(&["no", "yes", "optional"]),
        "yes",
        NONE,
    ),
    known(
        "tls-auth-clients-user",
        "",
        Kind::Enum(&["CN", "URI", "off"]),
        "off",
        NONE,
    ),
    known(
        "tls-auto-reload-interval",
        "",
        Kind::Int {
            min: 0,
            max: 2147483647,
        },
        "0",
        NONE,
    ),
    known("tls-ca-cert-dir", "", Kind::Str, "", NONE),
    known("tls-ca-cert-file", "", Kind::Str, "", NONE),
    known("tls-cert-file", "", Kind::Str, "", NONE),
    known("tls-ciphers", "", Kind::Str, "", NONE),
    known("tls-ciphersuites", "", Kind::Str, "", NONE),
    known("tls-client-cert-file", "", Kind::Str, "", NONE),
    known("tls-client-key-file", "", Kind::Str, "", NONE),
    known("tls-client-key-file-pass", "", Kind::Str, "", SENSITIVE),
    known("tls-cluster", "", Kind::Bool, "no", NONE),
    known("tls-dh-params-file", "", Kind::Str, "", NONE),
    known("tls-key-file", "", Kind::Str, "", NONE),
    known("tls-key-file-pass", "", Kind::Str, "", SENSITIVE),
    known("tls-port", "", Kind::Int { min: 0, max: 65535 }, "0", NONE),
    known("tls-prefer-server-ciphers", "", Kind::Bool, "no", NONE),
    known("tls-protocols", "", Kind::Str, "", NONE),
    known("tls-replication", "", Kind::Bool, "no", NONE),
    known(
        "tls-session-cache-size",
        "",
        Kind::Int {
            min: 0,
            max: 2147483647,
        },
        "20480",
        NONE,
    ),
    known(
        "tls-session-cache-timeout",
        "",
        Kind::Int {
            min: 0,
            max: 2147483647,
        },
        "300",
        NONE,
    ),
    known("tls-session-caching", "", Kind::Bool, "yes", NONE),
    known(
        "tracking-table-max-keys",
        "",
        Kind::Int {
            min: 0,
            max: i64::MAX,
        },
        "1000000",
        NONE,
    ),
    acts("unixsocket", "", Kind::Str, "", IMMUTABLE),
    known("unixsocketgroup", "", Kind::Str, "", IMMUTABLE),
    acts(
        "unixsocketperm",
        "",
        Kind::Octal { max: 511 },
        "0",
        IMMUTABLE,
    ),
    known("use-exit-on-panic", "", Kind::Bool, "no", HIDDEN),
    known(
        "watchdog-period",
        "",
        Kind::Int {
            min: 0,
            max: 2147483647,
        },
        "0",
        HIDDEN,
    ),
    acts("witness", "", Kind::Bool, "no", IMMUTABLE),
    acts(
        "zset-max-listpack-entries",
        "zset-max-ziplist-entries",
        Kind::Int {
            min: 0,
            max: i64::MAX,
        },
        "128",
        NONE,
    ),
    acts(
        "zset-max-listpack-value",
        "zset-max-ziplist-value",
        Kind::Memory {
            min: 0,
            max: i64::MAX,
        },
        "64",
        NONE,
    ),
];
