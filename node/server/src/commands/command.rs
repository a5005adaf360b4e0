//! `COMMAND`: what this server can do, derived from the rows.

use super::rows::*;
use super::{Entry, ServerCommand};
use crate::executor::{ConnId, Executor};
use holdfast_engine::docs;
use holdfast_engine::{Find, glob};
use holdfast_resp::{Proto, write};

fn command(ex: &mut Executor, id: ConnId, _: &[&[u8]]) {
    let table = ex.table;
    let proto = ex.conns[id].proto;
    let top: Vec<&Entry> = table
        .entries()
        .iter()
        .filter(|e| e.parent.is_none())
        .collect();
    let out = ex.out(id);
    write::array(out, top.len());
    for e in top {
        describe(out, proto, table, e);
    }
}

fn describe(out: &mut Vec<u8>, proto: Proto, table: &super::Table, e: &Entry) {
    docs::begin_info(out, proto, &e.full_name, e.spec, e.subs.len());
    for sub in &e.subs {
        describe(out, proto, table, table.entry(*sub));
    }
}

fn command_count(ex: &mut Executor, id: ConnId, _: &[&[u8]]) {
    let n = ex
        .table
        .entries()
        .iter()
        .filter(|e| e.parent.is_none())
        .count();
    write::int(ex.out(id), n as i64);
}

fn command_info(ex: &mut Executor, id: ConnId, argv: &[&[u8]]) {
    if argv.len() == 2 {
        return command(ex, id, argv);
    }
    let table = ex.table;
    let proto = ex.conns[id].proto;
    let out = ex.out(id);
    write::array(out, argv.len() - 2);
    for name in &argv[2..] {
        match table.by_name(name) {
            Some(e) => describe(out, proto, table, e),
            None => write::null(out, proto),
        }
    }
}

fn command_docs(ex: &mut Executor, id: ConnId, argv: &[&[u8]]) {
    let table = ex.table;
    let proto = ex.conns[id].proto;
    let chosen: Vec<&Entry> = if argv.len() == 2 {
        table
            .entries()
            .iter()
            .filter(|e| e.parent.is_none())
            .collect()
    } else {
        argv[2..].iter().filter_map(|n| table.by_name(n)).collect()
    };
    let out = ex.out(id);
    write::map(out, proto, chosen.len());
    for e in chosen {
        document(out, proto, table, e);
    }
}

fn document(out: &mut Vec<u8>, proto: Proto, table: &super::Table, e: &Entry) {
    docs::begin_docs(out, proto, &e.full_name, e.spec, e.subs.len());
    for sub in &e.subs {
        document(out, proto, table, table.entry(*sub));
    }
}

fn command_list(ex: &mut Executor, id: ConnId, argv: &[&[u8]]) {
    let table = ex.table;
    let keep: Box<dyn Fn(&Entry) -> bool> = match argv[2..] {
        [] => Box::new(|_| true),
        [by, kind, value] if by.eq_ignore_ascii_case(b"filterby") => {
            let value = String::from_utf8_lossy(value).to_ascii_lowercase();
            if kind.eq_ignore_ascii_case(b"aclcat") {
                Box::new(move |e| e.spec.acl_categories().names().any(|c| c == value))
            } else if kind.eq_ignore_ascii_case(b"pattern") {
                Box::new(move |e| glob::matches_nocase(value.as_bytes(), e.full_name.as_bytes()))
            } else if kind.eq_ignore_ascii_case(b"module") {
                Box::new(|_| false)
            } else {
                return ex.reply_error(id, "ERR syntax error");
            }
        }
        _ => return ex.reply_error(id, "ERR syntax error"),
    };
    let names: Vec<&str> = table
        .entries()
        .iter()
        .filter(|e| keep(e))
        .map(|e| e.full_name.as_str())
        .collect();
    let out = ex.out(id);
    write::array(out, names.len());
    names.iter().for_each(|n| write::bulk(out, n.as_bytes()));
}

/// The command that `COMMAND GETKEYS` is asked about, or the error.
fn asked<'t>(ex: &Executor, argv: &[&[u8]]) -> Result<&'t Entry, &'static str> {
    let Some(e) = ex.table.find(argv) else {
        return Err("ERR Invalid command specified");
    };
    if !e.subs.is_empty() && argv.len() > 1 {
        return Err("ERR Invalid command specified");
    }
    if e.spec.keys.iter().all(|k| k.flags.has(Key::NOT_KEY)) {
        return Err("ERR The command has no key arguments");
    }
    if !e.spec.arity_ok(argv.len()) {
        return Err("ERR Invalid number of arguments specified for command");
    }
    Ok(e)
}

/// Whether a rule finds keys, if it is one that counts them.
fn counts_some(rule: &KeySpec, argv: &[&[u8]]) -> bool {
    let mut some = !matches!(rule.find, Find::KeyNum { .. });
    let found = rule.each_key(argv, &mut |_| some = true);
    found.is_ok() && some
}

fn keys_of(ex: &mut Executor, id: ConnId, argv: &[&[u8]]) -> Option<Vec<(usize, Key)>> {
    let found = asked(ex, argv).and_then(|e| {
        let mut keys = Vec::new();
        match e.spec.each_key(argv, &mut |i, flags| keys.push((i, flags))) {
            // Whoever has sources must name one.
            Ok(()) if !keys.is_empty() && e.spec.keys.iter().all(|k| counts_some(k, argv)) => {
                Ok(keys)
            }
            _ => Err("ERR Invalid arguments specified for command"),
        }
    });
    match found {
        Ok(keys) => Some(keys),
        Err(text) => {
            ex.reply_error(id, text);
            None
        }
    }
}

fn command_getkeys(ex: &mut Executor, id: ConnId, argv: &[&[u8]]) {
    let argv = &argv[2..];
    if let Some(keys) = keys_of(ex, id, argv) {
        let out = ex.out(id);
        write::array(out, keys.len());
        keys.iter().for_each(|(i, _)| write::bulk(out, argv[*i]));
    }
}

fn command_getkeysandflags(ex: &mut Executor, id: ConnId, argv: &[&[u8]]) {
    let argv = &argv[2..];
    if let Some(keys) = keys_of(ex, id, argv) {
        let proto = ex.conns[id].proto;
        let out = ex.out(id);
        write::array(out, keys.len());
        for (i, flags) in keys {
            write::array(out, 2);
            write::bulk(out, argv[i]);
            let about_rules = Key::VARIABLE_FLAGS.and(Key::INCOMPLETE);
            let names: Vec<&str> = flags
                .names()
                .filter(|name| about_rules.names().all(|other| other != *name))
                .collect();
            write::set(out, proto, names.len());
            names.iter().for_each(|n| write::simple(out, n));
        }
    }
}

fn command_help(ex: &mut Executor, id: ConnId, _: &[&[u8]]) {
    super::reply_help(
        ex.out(id),
        "COMMAND",
        &[
            "(no subcommand)",
            "    Return details about all commands.",
            "COUNT",
            "    Return the total number of commands in this server.",
            "LIST",
            "    Return a list of all commands in this server.",
            "INFO [<command-name> ...]",
            "    Return details about multiple commands.",
            "    If no command names are given, documentation details for all",
            "    commands are returned.",
            "DOCS [<command-name> ...]",
            "    Return documentation details about multiple commands.",
            "    If no command names are given, documentation details for all",
            "    commands are returned.",
            "GETKEYS <full-command>",
            "    Return the keys from a full command.",
            "GETKEYSANDFLAGS <full-command>",
            "    Return the keys and the access flags from a full command.",
        ],
    );
}

/// The rows of this file.
pub(super) const COMMANDS: &[ServerCommand] = &[Command::new(
    CommandSpec {
        name: "command",
        arity: -1,
        flags: flags([Flags::LOADING, Flags::STALE]),
        categories: Acl::CONNECTION,
        group: Group::Server,
        since: "2.8.13",
        complexity: "O(N) where N is the total number of commands",
        summary: "Returns detailed information about all commands.",
        tips: &["nondeterministic_output_order"],
        ..CommandSpec::EMPTY
    },
    command as ServerFn,
)
.with_subcommands(&[
    Command::new(
        CommandSpec {
            name: "count",
            arity: 2,
            flags: flags([Flags::LOADING, Flags::STALE]),
            categories: Acl::CONNECTION,
            group: Group::Server,
            since: "2.8.13",
            complexity: "O(1)",
            summary: "Returns a count of commands.",
            ..CommandSpec::EMPTY
        },
        command_count as ServerFn,
    ),
    Command::new(
        CommandSpec {
            name: "info",
            arity: -2,
            flags: flags([Flags::LOADING, Flags::STALE]),
            categories: Acl::CONNECTION,
            group: Group::Server,
            since: "2.8.13",
            complexity: "O(N) where N is the number of commands to look up",
            summary: "Returns information about one, multiple or all commands.",
            tips: &["nondeterministic_output_order"],
            args: "[command-name...]",
            history: &[("7.0.0", "Allowed to be called with no argument to get info on all commands.")],
            ..CommandSpec::EMPTY
        },
        command_info as ServerFn,
    ),
    Command::new(
        CommandSpec {
            name: "docs",
            arity: -2,
            flags: flags([Flags::LOADING, Flags::STALE]),
            categories: Acl::CONNECTION,
            group: Group::Server,
            since: "7.0.0",
            complexity: "O(N) where N is the number of commands to look up",
            summary: "Returns documentary information about one, multiple or all commands.",
            tips: &["nondeterministic_output_order"],
            args: "[command-name...]",
            ..CommandSpec::EMPTY
        },
        command_docs as ServerFn,
    ),
    Command::new(
        CommandSpec {
            name: "list",
            arity: -2,
            flags: flags([Flags::LOADING, Flags::STALE]),
            categories: Acl::CONNECTION,
            group: Group::Server,
            since: "7.0.0",
            complexity: "O(N) where N is the total number of commands",
            summary: "Returns a list of command names.",
            tips: &["nondeterministic_output_order"],
            args: "[FILTERBY=(MODULE=module-name | ACLCAT=category | PATTERN=pattern:pattern)<filterby>]",
            ..CommandSpec::EMPTY
        },
        command_list as ServerFn,
    ),
    Command::new(
        CommandSpec {
            name: "getkeys",
            arity: -3,
            flags: flags([Flags::LOADING, Flags::STALE]),
            categories: Acl::CONNECTION,
            group: Group::Server,
            since: "2.8.13",
            complexity: "O(N) where N is the number of arguments to the command",
            summary: "Extracts the key names from an arbitrary command.",
            args: "command [arg...]",
            ..CommandSpec::EMPTY
        },
        command_getkeys as ServerFn,
    ),
    Command::new(
        CommandSpec {
            name: "getkeysandflags",
            arity: -3,
            flags: flags([Flags::LOADING, Flags::STALE]),
            categories: Acl::CONNECTION,
            group: Group::Server,
            since: "7.0.0",
            complexity: "O(N) where N is the number of arguments to the command",
            summary: "Extracts the key names and access flags for an arbitrary command.",
            args: "command [arg...]",
            ..CommandSpec::EMPTY
        },
        command_getkeysandflags as ServerFn,
    ),
    Command::new(
        CommandSpec {
            name: "help",
            arity: 2,
            flags: flags([Flags::LOADING, Flags::STALE]),
            categories: Acl::CONNECTION,
            group: Group::Server,
            since: "5.0.0",
            complexity: "O(1)",
            summary: "Returns helpful text about the different subcommands.",
            ..CommandSpec::EMPTY
        },
        command_help as ServerFn,
    ),
])];
