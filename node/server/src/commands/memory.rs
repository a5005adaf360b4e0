//! `MEMORY`.

use super::ServerCommand;
use super::rows::*;
use crate::executor::{ConnId, Executor};
use holdfast_resp::{Proto, parse_i64, write};

fn usage(ex: &mut Executor, id: ConnId, argv: &[&[u8]]) {
    match argv[3..] {
        [] => {}
        [word, n] if word.eq_ignore_ascii_case(b"samples") => match parse_i64(n) {
            Some(0..) => {}
            Some(_) => return ex.reply_error(id, "ERR syntax error"),
            None => return ex.reply_error(id, "ERR value is not an integer or out of range"),
        },
        _ => return ex.reply_error(id, "ERR syntax error"),
    }
    let db = ex.conns[id].db;
    match ex.key_info(db, argv[2]) {
        Some(info) => {
            let bytes = info.entry_bytes + info.value_bytes;
            write::int(ex.out(id), bytes as i64);
        }
        None => {
            let proto = ex.conns[id].proto;
            write::null(ex.out(id), proto);
        }
    }
}

/// What is known of the process's memory, in bytes.
pub(super) struct Overview {
    pub used: u64,
    pub peak: u64,
    /// In use when the server had started.
    pub startup: u64,
    pub resident: u64,
    /// Given out by the allocator, entries that are not in use now included.
    pub allocated: u64,
    pub clients: u64,
    pub backlog: u64,
    /// What the keyspace's tables take beside their entries.
    pub tables: u64,
    /// Tables, clients, backlog and what the empty server took.
    pub overhead: u64,
    pub keys: u64,
}

impl Overview {
    pub fn of(ex: &Executor) -> Overview {
        let resident = ex.host.memory().1;
        let used = ex.used_memory();
        let allocated = used + ex.engine.unused_bytes() as u64;
        let clients = ex.conns.iter().map(|c| c.memory()).sum::<usize>() as u64;
        let startup = ex.memory_at_start.min(used);
        let databases = 0..ex.engine.config().databases;
        let tables: usize = databases.clone().map(|db| ex.engine.table_bytes(db)).sum();
        let backlog = ex.backlog_bytes();
        Overview {
            used,
            peak: ex.memory_peak.max(used),
            startup,
            resident,
            allocated,
            clients,
            backlog,
            tables: tables as u64,
            overhead: (startup + clients + backlog + tables as u64).min(used),
            keys: databases.map(|db| ex.engine.dbsize(db) as u64).sum(),
        }
    }

    pub fn dataset(&self) -> u64 {
        self.used - self.overhead
    }

    pub fn dataset_percent(&self) -> f64 {
        let net = self.used.saturating_sub(self.startup).max(1);
        self.dataset() as f64 * 100.0 / net as f64
    }

    pub fn fragmentation(&self) -> f64 {
        self.resident as f64 / self.used.max(1) as f64
    }

    pub fn peak_percent(&self) -> f64 {
        self.used as f64 * 100.0 / self.peak.max(1) as f64
    }
}

/// A pair of the reply of `MEMORY STATS`.
enum Figure {
    Int(u64),
    Ratio(f64),
    /// A database's tables: of keys, of expiries.
    Database(usize, usize),
}

fn stats(ex: &mut Executor, id: ConnId, _: &[&[u8]]) {
    use Figure::{Int, Ratio};
    let m = Overview::of(ex);
    let mut figures = vec![
        ("peak.allocated".to_owned(), Int(m.peak)),
        ("total.allocated".into(), Int(m.used)),
        ("startup.allocated".into(), Int(m.startup)),
        ("replication.backlog".into(), Int(m.backlog)),
        ("replicas.repl.buffer".into(), Int(0)),
        ("clients.slaves".into(), Int(0)),
        ("clients.normal".into(), Int(m.clients)),
        ("cluster.links".into(), Int(0)),
        ("cluster.slot_import".into(), Int(0)),
        ("cluster.slot_export".into(), Int(0)),
        ("aof.buffer".into(), Int(0)),
        ("lua.caches".into(), Int(0)),
        ("functions.caches".into(), Int(0)),
    ];
    for db in 0..ex.engine.config().databases {
        // A database that has had keys has a table.
        let bytes = ex.engine.table_bytes(db);
        if bytes > 0 {
            figures.push((format!("db.{db}"), Figure::Database(bytes, 0)));
        }
    }
    let per_key = m.used.saturating_sub(m.startup).checked_div(m.keys);
    let spread = m.resident.saturating_sub(m.used);
    let unused = m.allocated.saturating_sub(m.used);
    figures.extend([
        ("overhead.db.hashtable.lut".to_owned(), Int(m.tables)),
        ("overhead.db.hashtable.rehashing".into(), Int(0)),
        ("overhead.total".into(), Int(m.overhead)),
        ("db.dict.rehashing.count".into(), Int(0)),
        ("keys.count".into(), Int(m.keys)),
        ("keys.bytes-per-key".into(), Int(per_key.unwrap_or(0))),
        ("dataset.bytes".into(), Int(m.dataset())),
        ("dataset.percentage".into(), Ratio(m.dataset_percent())),
        ("peak.percentage".into(), Ratio(m.peak_percent())),
        ("allocator.allocated".into(), Int(m.used)),
        ("allocator.active".into(), Int(m.allocated)),
        ("allocator.resident".into(), Int(m.resident)),
        ("allocator.muzzy".into(), Int(0)),
        (
            "allocator-fragmentation.ratio".into(),
            Ratio(m.allocated as f64 / m.used.max(1) as f64),
        ),
        ("allocator-fragmentation.bytes".into(), Int(unused)),
        (
            "allocator-rss.ratio".into(),
            Ratio(m.resident as f64 / m.allocated.max(1) as f64),
        ),
        (
            "allocator-rss.bytes".into(),
            Int(m.resident.saturating_sub(m.allocated)),
        ),
        ("rss-overhead.ratio".into(), Ratio(1.0)),
        ("rss-overhead.bytes".into(), Int(0)),
        ("fragmentation".into(), Ratio(m.fragmentation())),
        ("fragmentation.bytes".into(), Int(spread)),
    ]);
    let proto = ex.conns[id].proto;
    let out = ex.out(id);
    write::map(out, proto, figures.len());
    for (name, figure) in figures {
        write::bulk(out, name.as_bytes());
        match figure {
            Int(n) => write::int(out, n as i64),
            Ratio(r) => write::double(out, proto, r),
            Figure::Database(keys, expiries) => {
                write::map(out, proto, 2);
                write::bulk(out, b"overhead.hashtable.main");
                write::int(out, keys as i64);
                write::bulk(out, b"overhead.hashtable.expires");
                write::int(out, expiries as i64);
            }
        }
    }
}

/// With less in use than this there is nothing to diagnose.
const DOCTOR_BYTES_MIN: u64 = 5 * 1024 * 1024;
/// Output and query buffers of a client above this, on average, are worth a word.
const CLIENT_BYTES_MANY: u64 = 200 * 1024;

fn doctor(ex: &mut Executor, id: ConnId, _: &[&[u8]]) {
    let m = Overview::of(ex);
    let mut text = String::new();
    if m.used < DOCTOR_BYTES_MIN {
        text = "Hi Sam, this instance is empty or is using very little memory, so there is nothing to \
                diagnose. Come back when it holds some data.\n"
            .into();
    } else {
        if m.peak * 2 > m.used * 3 {
            text += " * Peak memory: this instance has used more than 150% of what it uses now. What was freed may \
                     stay resident for a while; MEMORY PURGE asks for it to be given back.\n\n";
        }
        if m.fragmentation() > 1.4 && m.resident - m.used > 10 << 20 {
            text += " * High resident memory: the process has over 1.4 times as much memory resident as it \
                     uses. After a peak that is to be expected; otherwise values of ever changing sizes may have left \
                     pages with little in them.\n\n";
        }
        if m.allocated as f64 > m.used as f64 * 1.1 && m.allocated - m.used > 10 << 20 {
            text += " * High allocator fragmentation: over a tenth of what is kept for entries holds none. \
                     activedefrag yes moves them together.\n\n";
        }
        if m.resident as f64 > m.allocated as f64 * 1.1 && m.resident - m.allocated > 10 << 20 {
            text += " * High allocator RSS overhead: over a tenth of the resident memory is not given out. It is what \
                     was freed and has not gone back to the system; MEMORY PURGE asks for that.\n\n";
        }
        if m.clients > ex.conns.len() as u64 * CLIENT_BYTES_MANY {
            text += " * Big client buffers: clients have more than 200K of buffers on average. CLIENT LIST tells \
                     whose, and whether they read too slowly or ask for too much at once.\n\n";
        }
        text = if text.is_empty() {
            "Hi Sam, I can't find any memory issue in your instance. I can only account for what occurs on this \
             base.\n"
                .into()
        } else {
            format!("Sam, I detected a few issues in this instance's memory:\n\n{text}")
        };
    }
    let proto = ex.conns[id].proto;
    write::verbatim(ex.out(id), proto, b"txt", text.as_bytes());
}

fn purge(ex: &mut Executor, id: ConnId, _: &[&[u8]]) {
    ex.engine.purge_memory();
    write::ok(ex.out(id));
}

fn malloc_stats(ex: &mut Executor, id: ConnId, _: &[&[u8]]) {
    let m = Overview::of(ex);
    let text = format!(
        "allocated: {}\nin use: {}\nin entries: {}\nfor entries, not in use: {}\nresident: {}\n",
        m.allocated,
        m.used,
        ex.engine.entry_bytes(),
        ex.engine.unused_bytes(),
        m.resident,
    );
    let proto: Proto = ex.conns[id].proto;
    write::verbatim(ex.out(id), proto, b"txt", text.as_bytes());
}

fn help(ex: &mut Executor, id: ConnId, _: &[&[u8]]) {
    super::reply_help(
        ex.out(id),
        "MEMORY",
        &[
            "DOCTOR",
            "    Return memory problems reports.",
            "MALLOC-STATS",
            "    Return internal statistics report from the memory allocator.",
            "PURGE",
            "    Attempt to purge dirty pages for reclamation by the allocator.",
            "STATS",
            "    Return information about the memory usage of the server.",
            "USAGE <key> [SAMPLES <count>]",
            "    Return memory in bytes used by <key> and its value. Nested values are",
            "    sampled up to <count> times (default: 5, 0 means sample all).",
        ],
    );
}

const fn sub(
    name: &'static str,
    flags: Flags,
    complexity: &'static str,
    summary: &'static str,
) -> CommandSpec {
    CommandSpec {
        name,
        arity: 2,
        flags,
        group: Group::Server,
        since: "4.0.0",
        complexity,
        summary,
        ..CommandSpec::EMPTY
    }
}

const SLOW: &str = "Depends on how much memory is allocated, could be slow";
const EACH_SHARD: &[&str] = &[
    "nondeterministic_output",
    "request_policy:all_shards",
    "response_policy:special",
];

/// The rows of this file.
pub(super) const COMMANDS: &[ServerCommand] = &[Command::new(
    CommandSpec {
        name: "memory",
        arity: -2,
        group: Group::Server,
        since: "4.0.0",
        complexity: "Depends on subcommand.",
        summary: "A container for memory diagnostics commands.",
        ..CommandSpec::EMPTY
    },
    CONTAINER as ServerFn,
)
.with_subcommands(&[
    Command::new(
        CommandSpec {
            tips: EACH_SHARD,
            ..sub(
                "doctor",
                Flags::NONE,
                "O(1)",
                "Outputs a memory problems report.",
            )
        },
        doctor as ServerFn,
    ),
    Command::new(
        CommandSpec {
            tips: EACH_SHARD,
            ..sub(
                "malloc-stats",
                Flags::LOADING,
                SLOW,
                "Returns the allocator statistics.",
            )
        },
        malloc_stats as ServerFn,
    ),
    Command::new(
        CommandSpec {
            tips: &["request_policy:all_shards", "response_policy:all_succeeded"],
            ..sub(
                "purge",
                Flags::LOADING,
                SLOW,
                "Asks the allocator to release memory.",
            )
        },
        purge as ServerFn,
    ),
    Command::new(
        CommandSpec {
            tips: EACH_SHARD,
            ..sub(
                "stats",
                Flags::NONE,
                "O(1)",
                "Returns details about memory usage.",
            )
        },
        stats as ServerFn,
    ),
    Command::new(
        CommandSpec {
            name: "usage",
            arity: -3,
            flags: Flags::READONLY,
            keys: &[KeySpec::range(Key::RO, 2, 0, 1)],
            group: Group::Server,
            since: "4.0.0",
            complexity: "O(N) where N is the number of samples.",
            summary: "Estimates the memory usage of a key.",
            args: "key:key [SAMPLES=count:int]",
            ..CommandSpec::EMPTY
        },
        usage as ServerFn,
    ),
    Command::new(
        sub(
            "help",
            flags([Flags::LOADING, Flags::STALE]),
            "O(1)",
            "Returns helpful text about the different subcommands.",
        ),
        help as ServerFn,
    ),
])];
