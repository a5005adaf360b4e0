//! `COMMANDLOG` and `SLOWLOG`.

use super::ServerCommand;
use super::rows::*;
use crate::executor::commandlog::LogKind;
use crate::executor::{ConnId, Executor};
use holdfast_resp::{parse_i64, write};

const BAD_COUNT: &str = "ERR count should be greater than or equal to -1";
/// Entries that `SLOWLOG GET` shows when it is not said how many.
const SHOWN: i64 = 10;

fn kind_of(ex: &mut Executor, id: ConnId, name: &[u8]) -> Option<LogKind> {
    let kind = LogKind::named(name);
    if kind.is_none() {
        let text = "ERR type should be one of the following: slow, large-request, large-reply";
        ex.reply_error(id, text);
    }
    kind
}

fn count_of(ex: &mut Executor, id: ConnId, word: &[u8]) -> Option<i64> {
    let count = parse_i64(word).filter(|n| *n >= -1);
    if count.is_none() {
        ex.reply_error(id, BAD_COUNT);
    }
    count
}

fn show(ex: &mut Executor, id: ConnId, kind: LogKind, count: i64) {
    let entries = ex.observer.log.entries(kind);
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    let count = count.min(entries.len());
    let out = &mut ex.conns[id].out.buf;
    write::array(out, count);
    for entry in entries.take(count) {
        write::array(out, 6);
        write::int(out, entry.id as i64);
        write::int(out, entry.at_s as i64);
        write::int(out, entry.value as i64);
        write::array(out, entry.argv.len());
        entry.argv.iter().for_each(|arg| write::bulk(out, arg));
        write::bulk(out, entry.peer.as_bytes());
        write::bulk(out, &entry.name);
    }
}

fn show_len(ex: &mut Executor, id: ConnId, kind: LogKind) {
    let len = ex.observer.log.entries(kind).len();
    write::int(ex.out(id), len as i64);
}

fn slowlog_get(ex: &mut Executor, id: ConnId, argv: &[&[u8]]) {
    let count = match argv {
        [_, _] => Some(SHOWN),
        [_, _, count] => count_of(ex, id, count),
        _ => return super::wrong_arguments(ex, id, argv),
    };
    if let Some(count) = count {
        show(ex, id, LogKind::Slow, count);
    }
}

fn slowlog_len(ex: &mut Executor, id: ConnId, _: &[&[u8]]) {
    show_len(ex, id, LogKind::Slow);
}

fn slowlog_reset(ex: &mut Executor, id: ConnId, _: &[&[u8]]) {
    ex.observer.log.reset(LogKind::Slow);
    write::ok(ex.out(id));
}

fn slowlog_help(ex: &mut Executor, id: ConnId, _: &[&[u8]]) {
    super::reply_help(
        ex.out(id),
        "SLOWLOG",
        &[
            "GET [<count>]",
            "    Return top <count> entries from the slowlog (default: 10, -1 mean all).",
            "    Entries are made of:",
            "    id, timestamp, time in microseconds, arguments array, client IP and port,",
            "    client name",
            "LEN",
            "    Return the length of the slowlog.",
            "RESET",
            "    Reset the slowlog.",
        ],
    );
}

fn commandlog_get(ex: &mut Executor, id: ConnId, argv: &[&[u8]]) {
    let Some(count) = count_of(ex, id, argv[2]) else {
        return;
    };
    if let Some(kind) = kind_of(ex, id, argv[3]) {
        show(ex, id, kind, count);
    }
}

fn commandlog_len(ex: &mut Executor, id: ConnId, argv: &[&[u8]]) {
    if let Some(kind) = kind_of(ex, id, argv[2]) {
        show_len(ex, id, kind);
    }
}

fn commandlog_reset(ex: &mut Executor, id: ConnId, argv: &[&[u8]]) {
    if let Some(kind) = kind_of(ex, id, argv[2]) {
        ex.observer.log.reset(kind);
        write::ok(ex.out(id));
    }
}

fn commandlog_help(ex: &mut Executor, id: ConnId, _: &[&[u8]]) {
    super::reply_help(
        ex.out(id),
        "COMMANDLOG",
        &[
            "GET <count> <type>",
            "    Return top <count> entries of the specified <type> from the commandlog (-1 mean all).",
            "    Entries are made of:",
            "    id, timestamp,",
            "        time in microseconds for type of slow,",
            "        or size in bytes for type of large-request,",
            "        or size in bytes for type of large-reply",
            "    arguments array, client IP and port,",
            "    client name",
            "LEN <type>",
            "    Return the length of the specified type of commandlog.",
            "RESET <type>",
            "    Reset the specified type of commandlog.",
        ],
    );
}

/// The rows of this file.
pub(super) const COMMANDS: &[ServerCommand] = &[
    Command::new(
        CommandSpec {
            name: "slowlog",
            arity: -2,
            group: Group::Server,
            since: "2.2.12",
            complexity: "Depends on subcommand.",
            summary: "A container for slow log commands.",
            ..CommandSpec::EMPTY
        },
        CONTAINER as ServerFn,
    )
    .with_subcommands(&[
        Command::new(
            CommandSpec {
                name: "get",
                arity: -2,
                flags: flags([Flags::ADMIN, Flags::LOADING, Flags::STALE]),
                group: Group::Server,
                since: "2.2.12",
                complexity: "O(N) where N is the number of entries returned",
                summary: "Returns the slow log's entries.",
                args: "[count:int]",
                tips: &["request_policy:all_nodes", "nondeterministic_output"],
                history: &[(
                    "4.0.0",
                    "Added client IP address, port and name to the reply.",
                )],
                ..CommandSpec::EMPTY
            },
            slowlog_get as ServerFn,
        ),
        Command::new(
            CommandSpec {
                name: "len",
                arity: 2,
                flags: flags([Flags::ADMIN, Flags::LOADING, Flags::STALE]),
                group: Group::Server,
                since: "2.2.12",
                complexity: "O(1)",
                summary: "Returns the number of entries in the slow log.",
                tips: &[
                    "request_policy:all_nodes",
                    "response_policy:agg_sum",
                    "nondeterministic_output",
                ],
                ..CommandSpec::EMPTY
            },
            slowlog_len as ServerFn,
        ),
        Command::new(
            CommandSpec {
                name: "reset",
                arity: 2,
                flags: flags([Flags::ADMIN, Flags::LOADING, Flags::STALE]),
                group: Group::Server,
                since: "2.2.12",
                complexity: "O(N) where N is the number of entries in the slowlog",
                summary: "Clears all entries from the slow log.",
                tips: &["request_policy:all_nodes", "response_policy:all_succeeded"],
                ..CommandSpec::EMPTY
            },
            slowlog_reset as ServerFn,
        ),
        Command::new(
            CommandSpec {
                name: "help",
                arity: 2,
                flags: flags([Flags::LOADING, Flags::STALE]),
                group: Group::Server,
                since: "6.2.0",
                complexity: "O(1)",
                summary: "Shows helpful text about the different subcommands.",
                ..CommandSpec::EMPTY
            },
            slowlog_help as ServerFn,
        ),
    ]),
    Command::new(
        CommandSpec {
            name: "commandlog",
            arity: -2,
            group: Group::Server,
            since: "8.1.0",
            complexity: "Depends on subcommand.",
            summary: "A container for command log commands.",
            ..CommandSpec::EMPTY
        },
        CONTAINER as ServerFn,
    )
    .with_subcommands(&[
        Command::new(
            CommandSpec {
                name: "get",
                arity: 4,
                flags: flags([Flags::ADMIN, Flags::LOADING, Flags::STALE]),
                group: Group::Server,
                since: "8.1.0",
                complexity: "O(N) where N is the number of entries returned",
                summary: "Returns the specified command log's entries.",
                args: "count:int (SLOW | LARGE-REQUEST | LARGE-REPLY)<type>",
                tips: &["request_policy:all_nodes", "nondeterministic_output"],
                ..CommandSpec::EMPTY
            },
            commandlog_get as ServerFn,
        ),
        Command::new(
            CommandSpec {
                name: "len",
                arity: 3,
                flags: flags([Flags::ADMIN, Flags::LOADING, Flags::STALE]),
                group: Group::Server,
                since: "8.1.0",
                complexity: "O(1)",
                summary: "Returns the number of entries in the specified type of command log.",
                args: "(SLOW | LARGE-REQUEST | LARGE-REPLY)<type>",
                tips: &[
                    "request_policy:all_nodes",
                    "response_policy:agg_sum",
                    "nondeterministic_output",
                ],
                ..CommandSpec::EMPTY
            },
            commandlog_len as ServerFn,
        ),
        Command::new(
            CommandSpec {
                name: "reset",
                arity: 3,
                flags: flags([Flags::ADMIN, Flags::LOADING, Flags::STALE]),
                group: Group::Server,
                since: "8.1.0",
                complexity: "O(N) where N is the number of entries in the commandlog",
                summary: "Clears all entries from the specified type of command log.",
                args: "(SLOW | LARGE-REQUEST | LARGE-REPLY)<type>",
                tips: &["request_policy:all_nodes", "response_policy:all_succeeded"],
                ..CommandSpec::EMPTY
            },
            commandlog_reset as ServerFn,
        ),
        Command::new(
            CommandSpec {
                name: "help",
                arity: 2,
                flags: flags([Flags::LOADING, Flags::STALE]),
                group: Group::Server,
                since: "8.1.0",
                complexity: "O(1)",
                summary: "Shows helpful text about the different subcommands.",
                ..CommandSpec::EMPTY
            },
            commandlog_help as ServerFn,
        ),
    ]),
];
