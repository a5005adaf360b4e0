//! `SHUTDOWN`, `ROLE`, `WAIT`, `TIME`, `LASTSAVE`, `LOLWUT`.

use super::ServerCommand;
use super::rows::*;
use crate::executor::{ConnId, CopiesWanted, Executor, ShutdownOptions};
use crate::seam::Office;
use holdfast_engine::number::parse_f64;
use holdfast_resp::{parse_i64, write};

fn shutdown(ex: &mut Executor, id: ConnId, argv: &[&[u8]]) {
    let mut options = ShutdownOptions::default();
    let mut abort = false;
    for word in &argv[1..] {
        match word.to_ascii_lowercase().as_slice() {
            b"nosave" if options.save != Some(true) => options.save = Some(false),
            b"save" if options.save != Some(false) => options.save = Some(true),
            b"now" => options.now = true,
            b"force" => options.force = true,
            b"safe" | b"failover" => {}
            b"abort" if argv.len() == 2 => abort = true,
            _ => return ex.reply_error(id, "ERR syntax error"),
        }
    }
    if abort {
        return match ex.abort_shutdown() {
            true => write::ok(ex.out(id)),
            false => ex.reply_error(id, "ERR No shutdown in progress."),
        };
    }
    if options.save == Some(true) && !ex.persist.enabled {
        return ex.reply_error(id, super::persistence::KEPT_BY_LOG);
    }
    tracing::warn!("User requested shutdown...");
    ex.begin_shutdown(options, Some(id));
}

fn role(ex: &mut Executor, id: ConnId, _: &[&[u8]]) {
    let offset = ex.journal.position().0 as i64;
    let replica = super::info::role_name(ex) == "slave";
    let primary = super::info::primary_endpoint(ex);
    let online: Vec<(String, u16, u64)> = ex
        .followers
        .iter()
        .filter(|(_, f)| f.state() == "online")
        .map(|(id, f)| (super::replication::address(ex, id, f), f.port, f.acked))
        .collect();
    let out = ex.out(id);
    if replica {
        let (host, port) = primary.unwrap_or_default();
        write::array(out, 5);
        write::bulk(out, b"slave");
        write::bulk(out, host.as_bytes());
        write::int(out, i64::from(port));
        write::bulk(
            out,
            if host.is_empty() {
                b"connect"
            } else {
                b"connected"
            },
        );
        write::int(out, offset);
    } else {
        write::array(out, 3);
        write::bulk(out, b"master");
        write::int(out, offset);
        write::array(out, online.len());
        for (address, port, acked) in online {
            write::array(out, 3);
            write::bulk(out, address.as_bytes());
            write::bulk_int(out, i64::from(port));
            write::bulk_int(out, acked as i64);
        }
    }
}

/// Under `durability quorum`: on the disks of how many other voters the client's last write surely is, by what each has
/// acknowledged itself. A witness counts, since it keeps the log on its disk as well. Zero while the write is not committed,
/// and without a quorum, where there are no copies.
fn wait(ex: &mut Executor, id: ConnId, argv: &[&[u8]]) {
    if matches!(ex.office, Office::Follower { .. }) {
        return ex.reply_error(id, "ERR WAIT cannot be used with replica instances. Please also note that writes to replicas are just local and are not propagated.");
    }
    let Some(wanted) = parse_i64(argv[1]) else {
        return ex.reply_error(id, "ERR value is not an integer or out of range");
    };
    let timeout = match parse_i64(argv[2]) {
        Some(t) if t >= 0 => t as u64,
        Some(_) => return ex.reply_error(id, "ERR timeout is negative"),
        None => return ex.reply_error(id, "ERR timeout is not an integer or out of range"),
    };
    let wanted = CopiesWanted {
        count: wanted,
        upto: ex.conns[id].last_write,
        on_disk: false,
    };
    wait_or_answer(ex, id, argv, wanted, timeout);
}

/// Without an append-only file: copies on the disks of other voters are all that it can wait for.
fn waitaof(ex: &mut Executor, id: ConnId, argv: &[&[u8]]) {
    let local = match parse_i64(argv[1]) {
        Some(n @ 0..=1) => n,
        Some(_) => {
            return ex.reply_error(id, "ERR value is out of range, value must between 0 and 1");
        }
        None => return ex.reply_error(id, "ERR value is not an integer or out of range"),
    };
    let count = match parse_i64(argv[2]) {
        Some(n) if n >= 0 => n,
        _ => return ex.reply_error(id, "ERR value is out of range, must be positive"),
    };
    let timeout = match parse_i64(argv[3]) {
        Some(t) if t >= 0 => t as u64,
        Some(_) => return ex.reply_error(id, "ERR timeout is negative"),
        None => return ex.reply_error(id, "ERR timeout is not an integer or out of range"),
    };
    if matches!(ex.office, Office::Follower { .. }) {
        return ex.reply_error(id, "ERR WAITAOF cannot be used with replica instances. Please also note that writes to replicas are just local and are not propagated.");
    }
    if local > 0 {
        return ex.reply_error(
            id,
            "ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled.",
        );
    }
    let wanted = CopiesWanted {
        count,
        upto: ex.conns[id].last_write,
        on_disk: true,
    };
    wait_or_answer(ex, id, argv, wanted, timeout);
}

fn wait_or_answer(
    ex: &mut Executor,
    id: ConnId,
    argv: &[&[u8]],
    wanted: CopiesWanted,
    timeout: u64,
) {
    let (copies, answer) = ex.copies_there(wanted);
    if wanted.count <= copies || ex.conns[id].multi.is_some() || ex.is_executing_transaction() {
        return ex.out(id).extend_from_slice(&answer);
    }
    ex.followers.wants_acks = true;
    // Rounded up: never early by what a millisecond hides.
    let now_ms = ex.now.mono_us.div_ceil(1000);
    let deadline_ms = (timeout > 0).then(|| now_ms.saturating_add(timeout));
    let argv = argv.iter().map(|a| Box::from(*a)).collect();
    ex.wait_for_copies(id, argv, wanted, deadline_ms);
}

fn time(ex: &mut Executor, id: ConnId, _: &[&[u8]]) {
    let us = ex.now.unix_us;
    let out = ex.out(id);
    write::array(out, 2);
    write::bulk_int(out, (us / 1_000_000) as i64);
    write::bulk_int(out, (us % 1_000_000) as i64);
}

fn lastsave(ex: &mut Executor, id: ConnId, _: &[&[u8]]) {
    let at = ex.persist.last_save_s as i64;
    write::int(ex.out(id), at);
}

/// What `LOLWUT` is to show, by its arguments behind the version: columns and rows of a picture, if there is one of that version.
/// Which arguments there are is Valkey's; what they mean to a picture beside its size is not ours.
fn lolwut_size(argv: &[&[u8]]) -> Result<Option<[i64; 2]>, &'static str> {
    const NOT_AN_INTEGER: &str = "ERR value is not an integer or out of range";
    let parse = |n: &&[u8]| parse_i64(n).ok_or(NOT_AN_INTEGER);
    let (version, args) = match argv {
        [_, word, n, args @ ..] if word.eq_ignore_ascii_case(b"version") => {
            ((parse(n)? as u32).to_string(), args)
        }
        [_, args @ ..] => ("9".to_string(), args),
        [] => ("9".to_string(), argv),
    };
    let numbers = match version.as_str() {
        "5" => 3,
        "6" => 2,
        v if v.starts_with('9') => {
            if !matches!(args.len(), 0 | 2 | 4) {
                return Err("ERR Syntax error. Use: LOLWUT [columns rows] [real imaginary]");
            }
            2
        }
        _ => return Ok(None),
    };
    let mut size = [64, 16];
    for (i, arg) in args.iter().take(numbers).enumerate() {
        let n = parse(arg)?;
        if let Some(side) = size.get_mut(i) {
            *side = n;
        }
    }
    if version.starts_with('9') && !args.iter().skip(2).all(|n| parse_f64(n).is_some()) {
        return Err("ERR value is not a valid float");
    }
    Ok(Some([size[0].clamp(1, 160), size[1].clamp(1, 80)]))
}

/// Computer art: a row of cells, and below it the rows that come of it when each cell is to differ from its left neighbour if it or
/// the right one is set.
fn lolwut(ex: &mut Executor, id: ConnId, argv: &[&[u8]]) {
    let size = match lolwut_size(argv) {
        Ok(size) => size,
        Err(text) => return ex.reply_error(id, text),
    };
    let mut text = String::new();
    if let Some([columns, rows]) = size {
        let columns = columns as usize;
        let mut cells: Vec<bool> = (0..columns).map(|_| ex.rng.next_u64() & 1 == 1).collect();
        for _ in 0..rows {
            text.extend(cells.iter().map(|set| if *set { '#' } else { ' ' }));
            text.push('\n');
            let at = |i: usize| cells[i % columns];
            cells = (0..columns)
                .map(|i| at(i + columns - 1) ^ (at(i) | at(i + 1)))
                .collect();
        }
        text.push('\n');
    }
    let (name, version) = match ex.config.yes("extended-redis-compatibility") {
        true => ("Redis", crate::COMPATIBLE_REDIS_VERSION),
        false => ("Valkey", crate::COMPATIBLE_VALKEY_VERSION),
    };
    let holdfast = crate::VERSION;
    text.push_str(&format!("Holdfast {holdfast}, as {name} ver. {version}\n"));
    let c = &mut ex.conns[id];
    write::verbatim(&mut c.out.buf, c.proto, b"txt", text.as_bytes());
}

/// The rows of this file.
pub(super) const COMMANDS: &[ServerCommand] = &[
    Command::new(
        CommandSpec {
            name: "lolwut",
            arity: -1,
            flags: flags([Flags::READONLY, Flags::FAST]),
            group: Group::Server,
            since: "5.0.0",
            summary: "Displays computer art and the server version.",
            args: "[VERSION=version:int]",
            ..CommandSpec::EMPTY
        },
        lolwut as ServerFn,
    ),
    Command::new(
        CommandSpec {
            name: "shutdown",
            arity: -1,
            flags: flags([
                Flags::ADMIN,
                Flags::NOSCRIPT,
                Flags::LOADING,
                Flags::STALE,
                Flags::NO_MULTI,
                Flags::ALLOW_BUSY,
            ]),
            group: Group::Server,
            since: "1.0.0",
            complexity: "O(N) when saving, where N is the total number of keys in all databases when saving data, otherwise O(1)",
            summary: "Synchronously saves the database(s) to disk and shuts down the server.",
            args: "[({[(NOSAVE | SAVE)<save-selector>] [NOW@7.0.0] [FORCE@7.0.0] [SAFE@9.0.0] [FAILOVER@9.0.0]}<save-selector-block> | ABORT@7.0.0)<abort-selector>]",
            history: &[
                ("7.0.0", "Added the `NOW`, `FORCE` and `ABORT` modifiers."),
                ("9.0.0", "Added the `SAFE` and `FAILOVER` modifiers."),
            ],
            ..CommandSpec::EMPTY
        },
        shutdown as ServerFn,
    ),
    Command::new(
        CommandSpec {
            name: "role",
            arity: 1,
            flags: flags([Flags::NOSCRIPT, Flags::LOADING, Flags::STALE, Flags::FAST]),
            categories: acl([Acl::ADMIN, Acl::DANGEROUS]),
            group: Group::Server,
            since: "2.8.12",
            complexity: "O(1)",
            summary: "Returns the replication role.",
            ..CommandSpec::EMPTY
        },
        role as ServerFn,
    ),
    Command::new(
        CommandSpec {
            name: "wait",
            arity: 3,
            flags: Flags::BLOCKING,
            categories: Acl::CONNECTION,
            group: Group::Generic,
            since: "3.0.0",
            complexity: "O(1)",
            summary: "Blocks until the asynchronous replication of all preceding write commands sent by the connection is completed.",
            tips: &["request_policy:all_shards", "response_policy:agg_min"],
            args: "numreplicas:int timeout:int",
            ..CommandSpec::EMPTY
        },
        wait as ServerFn,
    ),
    Command::new(
        CommandSpec {
            name: "waitaof",
            arity: 4,
            flags: Flags::BLOCKING,
            categories: Acl::CONNECTION,
            group: Group::Generic,
            since: "7.2.0",
            complexity: "O(1)",
            summary: "Blocks until all of the preceding write commands sent by the connection are written to the append-only file of the primary and/or replicas.",
            args: "numlocal:int numreplicas:int timeout:int",
            tips: &["request_policy:all_shards", "response_policy:agg_min"],
            ..CommandSpec::EMPTY
        },
        waitaof as ServerFn,
    ),
    Command::new(
        CommandSpec {
            name: "time",
            arity: 1,
            flags: flags([Flags::LOADING, Flags::STALE, Flags::FAST]),
            group: Group::Server,
            since: "2.6.0",
            complexity: "O(1)",
            summary: "Returns the server time.",
            tips: &["nondeterministic_output"],
            ..CommandSpec::EMPTY
        },
        time as ServerFn,
    ),
    Command::new(
        CommandSpec {
            name: "lastsave",
            arity: 1,
            flags: flags([Flags::LOADING, Flags::STALE, Flags::FAST]),
            categories: acl([Acl::ADMIN, Acl::DANGEROUS]),
            group: Group::Server,
            since: "1.0.0",
            complexity: "O(1)",
            summary: "Returns the Unix timestamp of the last successful save to disk.",
            tips: &["nondeterministic_output"],
            ..CommandSpec::EMPTY
        },
        lastsave as ServerFn,
    ),
];
