//! `MULTI`, `EXEC`, `DISCARD`, `WATCH`, `UNWATCH`.

use super::ServerCommand;
use super::rows::*;
use crate::executor::{ConnId, Executor};
use holdfast_resp::write;

fn multi(ex: &mut Executor, id: ConnId, _: &[&[u8]]) {
    if ex.conns[id].multi.is_some() {
        return ex.reply_error(id, "ERR MULTI calls can not be nested");
    }
    let c = &mut ex.conns[id];
    (c.multi, c.had_multi) = (Some(Box::default()), true);
    write::ok(ex.out(id));
}

fn exec(ex: &mut Executor, id: ConnId, _: &[&[u8]]) {
    ex.exec(id);
}

fn discard(ex: &mut Executor, id: ConnId, _: &[&[u8]]) {
    if ex.conns[id].multi.is_none() {
        return ex.reply_error(id, "ERR DISCARD without MULTI");
    }
    ex.discard(id);
    write::ok(ex.out(id));
}

fn watch(ex: &mut Executor, id: ConnId, argv: &[&[u8]]) {
    if ex.conns[id].multi.is_some() {
        return ex.reply_error(id, "ERR WATCH inside MULTI is not allowed");
    }
    ex.conns[id].had_multi = true;
    // What is broken already cannot become whole.
    if !ex.conns[id].watch_broken {
        for key in &argv[1..] {
            ex.watch(id, key);
        }
    }
    write::ok(ex.out(id));
}

fn unwatch(ex: &mut Executor, id: ConnId, _: &[&[u8]]) {
    ex.unwatch(id);
    write::ok(ex.out(id));
}

/// The rows of this file.
pub(super) const COMMANDS: &[ServerCommand] = &[
    Command::new(
        CommandSpec {
            name: "multi",
            arity: 1,
            flags: flags([
                Flags::NOSCRIPT,
                Flags::LOADING,
                Flags::STALE,
                Flags::FAST,
                Flags::NO_MULTI,
                Flags::ALLOW_BUSY,
            ]),
            categories: Acl::TRANSACTION,
            group: Group::Transactions,
            since: "1.2.0",
            complexity: "O(1)",
            summary: "Starts a transaction.",
            ..CommandSpec::EMPTY
        },
        multi as ServerFn,
    ),
    Command::new(
        CommandSpec {
            name: "exec",
            arity: 1,
            flags: flags([
                Flags::NOSCRIPT,
                Flags::LOADING,
                Flags::STALE,
                Flags::SKIP_COMMANDLOG,
            ]),
            categories: Acl::TRANSACTION,
            group: Group::Transactions,
            since: "1.2.0",
            complexity: "Depends on commands in the transaction",
            summary: "Executes all commands in a transaction.",
            ..CommandSpec::EMPTY
        },
        exec as ServerFn,
    ),
    Command::new(
        CommandSpec {
            name: "discard",
            arity: 1,
            flags: flags([
                Flags::NOSCRIPT,
                Flags::LOADING,
                Flags::STALE,
                Flags::FAST,
                Flags::ALLOW_BUSY,
            ]),
            categories: Acl::TRANSACTION,
            group: Group::Transactions,
            since: "2.0.0",
            complexity: "O(N), when N is the number of queued commands",
            summary: "Discards a transaction.",
            ..CommandSpec::EMPTY
        },
        discard as ServerFn,
    ),
    Command::new(
        CommandSpec {
            name: "watch",
            arity: -2,
            flags: flags([
                Flags::NOSCRIPT,
                Flags::LOADING,
                Flags::STALE,
                Flags::FAST,
                Flags::NO_MULTI,
                Flags::ALLOW_BUSY,
            ]),
            categories: Acl::TRANSACTION,
            keys: &[KeySpec::range(Key::RO, 1, -1, 1)],
            group: Group::Transactions,
            since: "2.2.0",
            complexity: "O(1) for every key.",
            summary: "Monitors changes to keys to determine the execution of a transaction.",
            args: "key:key...",
            ..CommandSpec::EMPTY
        },
        watch as ServerFn,
    ),
    Command::new(
        CommandSpec {
            name: "unwatch",
            arity: 1,
            flags: flags([
                Flags::NOSCRIPT,
                Flags::LOADING,
                Flags::STALE,
                Flags::FAST,
                Flags::ALLOW_BUSY,
            ]),
            categories: Acl::TRANSACTION,
            group: Group::Transactions,
            since: "2.2.0",
            complexity: "O(1)",
            summary: "Forgets about watched keys of a transaction.",
            ..CommandSpec::EMPTY
        },
        unwatch as ServerFn,
    ),
];
