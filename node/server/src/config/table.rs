//! Every directive of Valkey 9.1 and our own, one row each.
//!
//! A row says what the directive is called, what it takes, what it is by default and whether this
//! server acts on it. What is known but not acted on is accepted, and said once in the log.

use Kind::{
    Bool, Enum, EventClasses, Flags, MemoryOrPercent, Octal, OutputLimits, Percentiles, Save, Str,
    Words,
};

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
        max: u64,
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
    /// Any number of percentages.
    Percentiles,
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
/// Valkey has none of that name, so that tools which set everything to what it is do not know that it is [`IMMUTABLE`].
pub const OWN: u8 = 32;

const MAX: i64 = i64::MAX;
/// The highest number of bytes where Valkey keeps it in a signed number.
const BYTES: u64 = i64::MAX as u64;
// The simulator's logs are small, to be cut often.
const RAFT_LOG_MIN: i64 = if cfg!(madsim) { 16384 } else { 1048576 };
const RAFT_SEGMENT_MIN: i64 = if cfg!(madsim) { 4096 } else { 65536 };

const fn int(min: i64, max: i64) -> Kind {
    Kind::Int { min, max }
}

const fn memory(min: i64, max: u64) -> Kind {
    Kind::Memory { min, max }
}

/// Rows of the table: whether this server `acts` on a directive or it is only `known`, its name `or` another, what it takes, its
/// default, and its flags if it has any.
macro_rules! directives {
    ($($acts:ident $name:literal $(or $alias:literal)? : $kind:expr => $default:expr $(, $flags:expr)?;)*) => {
        &[$(Directive {
            name: $name,
            alias: concat!($($alias)?),
            kind: $kind,
            default: $default,
            flags: NONE $(| $flags)?,
            acts: directives!(@ $acts),
        }),*]
    };
    (@ acts) => { true };
    (@ known) => { false };
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
pub const DIRECTIVES: &[Directive] = directives! {
    known "acl-pubsub-default": Enum(&["allchannels", "resetchannels"]) => "resetchannels";
    known "aclfile": Str => "", IMMUTABLE;
    known "acllog-max-len": int(0, MAX) => "128";
    acts  "active-defrag-cycle-max": int(1, 99) => "25";
    acts  "active-defrag-cycle-min": int(1, 99) => "1";
    known "active-defrag-cycle-us": int(0, 100000) => "500";
    acts  "active-defrag-ignore-bytes": memory(1, BYTES) => "104857600";
    known "active-defrag-max-scan-fields": int(1, MAX) => "1000";
    acts  "active-defrag-threshold-lower": int(0, 1000) => "10";
    acts  "active-defrag-threshold-upper": int(0, 1000) => "100";
    acts  "active-expire-effort": int(1, 10) => "1";
    acts  "activedefrag": Bool => "no";
    known "activerehashing": Bool => "yes";
    known "always-show-logo": Bool => "no", IMMUTABLE;
    known "aof-disable-auto-gc": Bool => "no", HIDDEN;
    known "aof-load-truncated": Bool => "yes";
    known "aof-rewrite-cpulist" or "aof_rewrite_cpulist": Str => "", IMMUTABLE;
    known "aof-rewrite-incremental-fsync": Bool => "yes";
    known "aof-timestamp-enabled": Bool => "no";
    known "aof-use-rdb-preamble": Bool => "yes";
    known "appenddirname": Str => "appendonlydir", IMMUTABLE;
    known "appendfilename": Str => "appendonly.aof", IMMUTABLE;
    known "appendfsync": Enum(&["everysec", "always", "no"]) => "everysec";
    known "appendonly": Bool => "no";
    known "auto-aof-rewrite-min-size": memory(0, BYTES) => "67108864";
    known "auto-aof-rewrite-percentage": int(0, 2147483647) => "100";
    acts  "availability-zone": Str => "";
    known "bgsave-cpulist" or "bgsave_cpulist": Str => "", IMMUTABLE;
    acts  "bind": Words => "* -::*", MULTI;
    known "bind-source-addr": Str => "";
    known "bio-cpulist" or "bio_cpulist": Str => "", IMMUTABLE;
    known "busy-reply-threshold" or "lua-time-limit": int(0, MAX) => "5000";
    acts  "client-output-buffer-limit": OutputLimits => "normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60", MULTI;
    acts  "client-query-buffer-limit": memory(1048576, BYTES) => "1073741824";
    acts  "cluster-allow-pubsubshard-when-down": Bool => "yes";
    acts  "cluster-allow-reads-when-down": Bool => "no";
    known "cluster-allow-replica-migration": Bool => "yes";
    acts  "cluster-announce-bus-port": int(0, 65535) => "0";
    acts  "cluster-announce-client-ipv4": Str => "";
    acts  "cluster-announce-client-ipv6": Str => "";
    acts  "cluster-announce-client-port": int(0, 65535) => "0";
    acts  "cluster-announce-client-tls-port": int(0, 65535) => "0";
    acts  "cluster-announce-hostname": Str => "";
    acts  "cluster-announce-human-nodename": Str => "";
    acts  "cluster-announce-ip": Str => "";
    acts  "cluster-announce-port": int(0, 65535) => "0";
    acts  "cluster-announce-tls-port": int(0, 65535) => "0";
    acts  "cluster-blacklist-ttl": int(0, MAX) => "60";
    acts  "cluster-config-file": Str => "nodes.conf", IMMUTABLE;
    known "cluster-config-save-behavior": Enum(&["sync", "best-effort"]) => "sync";
    acts  "cluster-databases": int(1, 2147483647) => "1", IMMUTABLE;
    acts  "cluster-enabled": Bool => "no", IMMUTABLE;
    acts  "cluster-link-sendbuf-limit": memory(0, u64::MAX) => "0";
    acts  "cluster-manual-failover-timeout": int(1, 2147483647) => "5000";
    acts  "cluster-message-gossip-perc": int(1, 100) => "10", HIDDEN;
    known "cluster-migration-barrier": int(0, 2147483647) => "1";
    acts  "cluster-node-timeout": int(0, MAX) => "15000";
    acts  "cluster-ping-interval": int(0, MAX) => "0", HIDDEN;
    acts  "cluster-port": int(0, 65535) => "0", IMMUTABLE;
    acts  "cluster-preferred-endpoint-type": Enum(&["ip", "hostname", "unknown-endpoint"]) => "ip";
    acts  "cluster-replica-no-failover" or "cluster-slave-no-failover": Bool => "no";
    known "cluster-replica-validity-factor" or "cluster-slave-validity-factor": int(0, 2147483647) => "10";
    acts  "cluster-require-full-coverage": Bool => "yes";
    acts  "cluster-slot-migration-log-max-len": int(0, MAX) => "1000";
    acts  "cluster-slot-stats-enabled": Bool => "no";
    acts  "commandlog-execution-slower-than" or "slowlog-log-slower-than": int(-1, MAX) => "10000";
    acts  "commandlog-large-reply-max-len": int(0, MAX) => "128";
    acts  "commandlog-large-request-max-len": int(0, MAX) => "128";
    acts  "commandlog-reply-larger-than": int(-1, MAX) => "1048576";
    acts  "commandlog-request-larger-than": int(-1, MAX) => "1048576";
    acts  "commandlog-slow-execution-max-len" or "slowlog-max-len": int(0, MAX) => "128";
    known "crash-log-enabled": Bool => "yes";
    known "crash-memcheck-enabled": Bool => "yes";
    known "daemonize": Bool => "no", IMMUTABLE;
    acts  "databases": int(1, 2147483647) => "16", IMMUTABLE;
    acts  "dbfilename": Str => "dump.rdb", PROTECTED;
    known "debug-context": Str => "", HIDDEN;
    acts  "dir": Str => "", PROTECTED;
    acts  "disable-thp": Bool => "yes", IMMUTABLE;
    known "dual-channel-replication-enabled": Bool => "no";
    acts  "durability": Enum(&["async", "quorum"]) => "async", IMMUTABLE | OWN;
    acts  "durability-timeout": int(1, 3600000) => "5000";
    known "enable-debug-assert": Bool => "no", IMMUTABLE | HIDDEN;
    acts  "enable-debug-command": Enum(&["no", "yes", "local"]) => "no", IMMUTABLE;
    known "enable-module-command": Enum(&["no", "yes", "local"]) => "no", IMMUTABLE;
    acts  "enable-protected-configs": Enum(&["no", "yes", "local"]) => "no", IMMUTABLE;
    acts  "extended-redis-compatibility": Bool => "no";
    acts  "hash-max-listpack-entries" or "hash-max-ziplist-entries": int(0, MAX) => "512";
    acts  "hash-max-listpack-value" or "hash-max-ziplist-value": memory(0, BYTES) => "64";
    known "hash-seed": Str => "", IMMUTABLE;
    known "hide-user-data-from-log": Bool => "yes";
    acts  "hll-sparse-max-bytes": memory(0, BYTES) => "3000";
    acts  "hz": int(0, 2147483647) => "10";
    known "ignore-warnings": Str => "";
    acts  "import-mode": Bool => "no";
    acts  "io-threads": int(1, 256) => "1";
    known "io-threads-always-active": Bool => "no", HIDDEN;
    known "jemalloc-bg-thread": Bool => "yes";
    acts  "key-load-delay": int(-2147483648, 2147483647) => "0", HIDDEN;
    acts  "latency-monitor-threshold": int(0, MAX) => "0";
    acts  "latency-tracking": Bool => "yes";
    acts  "latency-tracking-info-percentiles": Percentiles => "50 99 99.9", MULTI;
    acts  "lazyfree-lazy-eviction": Bool => "yes";
    acts  "lazyfree-lazy-expire": Bool => "yes";
    acts  "lazyfree-lazy-server-del": Bool => "yes";
    acts  "lazyfree-lazy-user-del": Bool => "yes";
    acts  "lazyfree-lazy-user-flush": Bool => "yes";
    acts  "lfu-decay-time": int(0, 2147483647) => "1";
    acts  "lfu-log-factor": int(0, 2147483647) => "10";
    known "list-compress-depth": int(0, 2147483647) => "0";
    acts  "list-max-listpack-size" or "list-max-ziplist-size": int(-2147483648, 2147483647) => "-2";
    known "loading-process-events-interval-bytes": int(1024, 2147483647) => "2097152", HIDDEN;
    known "locale-collate": Str => "";
    known "log-format": Enum(&["legacy", "logfmt", "json"]) => "legacy";
    known "log-timestamp-format": Enum(&["legacy", "iso8601", "milliseconds"]) => "legacy";
    acts  "logfile": Str => "", IMMUTABLE;
    acts  "loglevel": Enum(&["debug", "verbose", "notice", "warning", "nothing"]) => "notice";
    known "lua-enable-insecure-api" or "lua-enable-deprecated-api": Bool => "no", HIDDEN | PROTECTED;
    acts  "max-new-connections-per-cycle": int(1, 1000) => "10";
    acts  "max-new-tls-connections-per-cycle": int(1, 1000) => "1";
    acts  "maxclients": int(1, 4294967295) => "10000";
    acts  "maxmemory": memory(0, u64::MAX) => "0";
    acts  "maxmemory-clients": MemoryOrPercent => "0";
    acts  "maxmemory-eviction-tenacity": int(0, 100) => "10";
    acts  "maxmemory-policy": Enum(&["volatile-lru", "volatile-lfu", "volatile-random", "volatile-ttl", "allkeys-lru", "allkeys-lfu", "allkeys-random", "noeviction"]) => "noeviction";
    acts  "maxmemory-samples": int(1, 64) => "5";
    acts  "metrics-bind": Words => "127.0.0.1 -::1", MULTI | IMMUTABLE | OWN;
    acts  "metrics-port": int(0, 65535) => "0", IMMUTABLE | OWN;
    acts  "min-io-threads-avoid-copy-reply": int(0, 2147483647) => "7", HIDDEN;
    acts  "min-replicas-max-lag" or "min-slaves-max-lag": int(0, 2147483647) => "10";
    acts  "min-replicas-to-write" or "min-slaves-to-write": int(0, 2147483647) => "0";
    acts  "min-string-size-avoid-copy-reply": int(0, 2147483647) => "16384", HIDDEN;
    acts  "min-string-size-avoid-copy-reply-threaded": int(0, 2147483647) => "65536", HIDDEN;
    known "mptcp": Bool => "no", IMMUTABLE;
    known "no-appendfsync-on-rewrite": Bool => "no";
    acts  "notify-keyspace-events": EventClasses => "";
    known "oom-score-adj": Enum(&["no", "yes", "relative", "absolute"]) => "no";
    known "oom-score-adj-values": Words => "0 200 800", MULTI;
    acts  "pidfile": Str => "", IMMUTABLE;
    acts  "port": int(0, 65535) => "6379";
    acts  "prefetch-batch-max-size": int(0, 128) => "16";
    known "primaryauth" or "masterauth": Str => "", SENSITIVE;
    known "primaryuser" or "masteruser": Str => "", SENSITIVE;
    acts  "proc-title-template": Str => "{title} {listen-addr} {server-mode}";
    known "propagation-error-behavior": Enum(&["ignore", "panic", "panic-on-replicas"]) => "ignore";
    acts  "protected-mode": Bool => "yes";
    acts  "proto-max-bulk-len": memory(1048576, BYTES) => "536870912";
    acts  "raft-announce-ip": Str => "", IMMUTABLE | OWN;
    acts  "raft-announce-port": int(0, 65535) => "0", IMMUTABLE | OWN;
    acts  "raft-election-timeout": int(50, 60000) => "500", IMMUTABLE | OWN;
    acts  "raft-log-max-bytes": memory(RAFT_LOG_MIN, BYTES) => "1073741824";
    acts  "raft-port": int(0, 65535) => "0", IMMUTABLE | OWN;
    acts  "raft-segment-bytes": memory(RAFT_SEGMENT_MIN, 4294967296) => "67108864", IMMUTABLE | OWN;
    known "rdb-del-sync-files": Bool => "no";
    acts  "rdb-key-save-delay": int(-2147483648, 2147483647) => "0", HIDDEN;
    acts  "rdb-save-incremental-fsync": Bool => "yes";
    acts  "rdb-version-check": Enum(&["strict", "relaxed"]) => "strict";
    acts  "rdbchecksum": Bool => "yes", IMMUTABLE;
    acts  "rdbcompression": Bool => "yes";
    known "rdma-bind": Words => "", MULTI;
    known "rdma-completion-vector": int(-1, 1024) => "-1", IMMUTABLE;
    known "rdma-port": int(0, 65535) => "0";
    known "rdma-rx-size": int(65536, 16777216) => "1048576", IMMUTABLE;
    acts  "repl-backlog-size": memory(1, BYTES) => "10485760";
    acts  "repl-backlog-ttl": int(0, MAX) => "3600";
    known "repl-disable-tcp-nodelay": Bool => "no";
    known "repl-diskless-load": Enum(&["disabled", "on-empty-db", "swapdb", "flush-before-load"]) => "disabled";
    known "repl-diskless-sync": Bool => "yes";
    known "repl-diskless-sync-delay": int(0, 2147483647) => "5";
    known "repl-diskless-sync-max-replicas": int(0, 2147483647) => "0";
    known "repl-mptcp": Bool => "no", IMMUTABLE;
    acts  "repl-ping-replica-period" or "repl-ping-slave-period": int(1, 2147483647) => "10";
    acts  "repl-timeout": int(1, 2147483647) => "60";
    known "replica-announce-ip" or "slave-announce-ip": Str => "";
    known "replica-announce-port" or "slave-announce-port": int(0, 65535) => "0";
    known "replica-announced": Bool => "yes";
    known "replica-ignore-disk-write-errors": Bool => "no";
    known "replica-ignore-maxmemory" or "slave-ignore-maxmemory": Bool => "yes";
    known "replica-lazy-flush" or "slave-lazy-flush": Bool => "yes";
    known "replica-priority" or "slave-priority": int(0, 2147483647) => "100";
    known "replica-read-only" or "slave-read-only": Bool => "yes";
    known "replica-serve-stale-data" or "slave-serve-stale-data": Bool => "yes";
    known "replicaof" or "slaveof": Words => "", IMMUTABLE | MULTI;
    acts  "requirepass": Str => "", SENSITIVE;
    acts  "save": Save => "3600 1 300 100 60 10000", MULTI;
    known "server-cpulist" or "server_cpulist": Str => "", IMMUTABLE;
    acts  "set-max-intset-entries": int(0, MAX) => "512";
    acts  "set-max-listpack-entries": int(0, MAX) => "128";
    acts  "set-max-listpack-value": int(0, MAX) => "64";
    acts  "set-proc-title": Bool => "yes", IMMUTABLE;
    known "shutdown-on-sigint": Flags(&["default", "save", "nosave", "now", "force", "safe", "failover"]) => "default", MULTI;
    acts  "shutdown-on-sigterm": Flags(&["default", "save", "nosave", "now", "force", "safe", "failover"]) => "default", MULTI;
    acts  "shutdown-timeout": int(0, 2147483647) => "10";
    known "slot-migration-max-failover-repl-bytes": memory(-1, BYTES) => "0";
    known "socket-mark-id": int(0, 4294967295) => "0", IMMUTABLE;
    acts  "stop-writes-on-bgsave-error": Bool => "yes";
    acts  "stream-node-max-bytes": memory(0, BYTES) => "4096";
    acts  "stream-node-max-entries": int(0, MAX) => "100";
    known "supervised": Enum(&["upstart", "systemd", "auto", "no"]) => "no", IMMUTABLE;
    known "syslog-enabled": Bool => "no", IMMUTABLE;
    known "syslog-facility": Enum(&["user", "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7"]) => "local0", IMMUTABLE;
    known "syslog-ident": Str => "valkey", IMMUTABLE;
    acts  "tcp-backlog": int(0, 2147483647) => "511", IMMUTABLE;
    acts  "tcp-keepalive": int(0, 2147483647) => "300";
    acts  "timeout": int(0, 2147483647) => "0";
    acts  "tls-auth-clients": Enum(&["no", "yes", "optional"]) => "yes";
    known "tls-auth-clients-user": Enum(&["CN", "URI", "off"]) => "off";
    acts  "tls-auto-reload-interval": int(0, 2147483647) => "0";
    acts  "tls-ca-cert-dir": Str => "";
    acts  "tls-ca-cert-file": Str => "";
    acts  "tls-cert-file": Str => "";
    acts  "tls-ciphers": Str => "";
    acts  "tls-ciphersuites": Str => "";
    acts  "tls-client-cert-file": Str => "";
    acts  "tls-client-key-file": Str => "";
    acts  "tls-client-key-file-pass": Str => "", SENSITIVE;
    acts  "tls-cluster": Bool => "no";
    acts  "tls-dh-params-file": Str => "";
    acts  "tls-key-file": Str => "";
    acts  "tls-key-file-pass": Str => "", SENSITIVE;
    acts  "tls-port": int(0, 65535) => "0";
    acts  "tls-prefer-server-ciphers": Bool => "no";
    acts  "tls-protocols": Str => "";
    acts  "tls-replication": Bool => "no";
    acts  "tls-session-cache-size": int(0, 2147483647) => "20480";
    acts  "tls-session-cache-timeout": int(0, 2147483647) => "300";
    acts  "tls-session-caching": Bool => "yes";
    acts  "tracking-table-max-keys": int(0, MAX) => "1000000";
    acts  "unixsocket": Str => "", IMMUTABLE;
    acts  "unixsocketgroup": Str => "", IMMUTABLE;
    acts  "unixsocketperm": Octal { max: 511 } => "0", IMMUTABLE;
    known "use-exit-on-panic": Bool => "no", HIDDEN;
    known "watchdog-period": int(0, 2147483647) => "0", HIDDEN;
    acts  "witness": Bool => "no", IMMUTABLE | OWN;
    acts  "zset-max-listpack-entries" or "zset-max-ziplist-entries": int(0, MAX) => "128";
    acts  "zset-max-listpack-value" or "zset-max-ziplist-value": memory(0, BYTES) => "64";
};
