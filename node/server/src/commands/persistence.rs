//! `SAVE`, `BGSAVE`.

use super::ServerCommand;
use super::rows::*;
use crate::executor::{ConnId, Executor};
use holdfast_resp::write;

/// Why there is no RDB file under `durability quorum`.
pub(super) const KEPT_BY_LOG: &str =
    "ERR The log of the shard keeps the data of a node under durability quorum";

fn save(ex: &mut Executor, id: ConnId, _: &[&[u8]]) {
    if !ex.persist.enabled {
        return ex.reply_error(id, KEPT_BY_LOG);
    }
    if ex.is_saving() {
        return ex.reply_error(id, "ERR Background save already in progress");
    }
    match ex.save_now() {
        Ok(()) => write::ok(ex.out(id)),
        Err(_) => ex.reply_error(id, "ERR"),
    }
}

fn bgsave(ex: &mut Executor, id: ConnId, argv: &[&[u8]]) {
    if !ex.persist.enabled {
        return ex.reply_error(id, KEPT_BY_LOG);
    }
    match argv[1..] {
        [] => {}
        [word] if word.eq_ignore_ascii_case(b"schedule") => {}
        [word] if word.eq_ignore_ascii_case(b"cancel") => return cancel(ex, id),
        _ => return ex.reply_error(id, "ERR syntax error"),
    }
    if ex.is_saving() {
        ex.reply_error(id, "ERR Background save already in progress");
    } else if ex.is_executing_transaction() {
        ex.persist.scheduled = true;
        tracing::info!("Background saving scheduled to run after transaction execution");
        write::simple(ex.out(id), "Background saving scheduled");
    } else if ex.begin_background_save().is_ok() {
        write::simple(ex.out(id), "Background saving started");
    } else {
        ex.reply_error(id, "ERR");
    }
}

fn cancel(ex: &mut Executor, id: ConnId) {
    if ex.is_saving() {
        tracing::info!("Background saving will be aborted due to user request");
        ex.cancel_background_save();
        write::simple(ex.out(id), "Background saving cancelled");
    } else if std::mem::take(&mut ex.persist.scheduled) {
        tracing::info!("Scheduled background saving will be cancelled due to user request");
        write::simple(ex.out(id), "Scheduled background saving cancelled");
    } else {
        ex.reply_error(
            id,
            "ERR Background saving is currently not in progress or scheduled",
        );
    }
}

/// The rows of this file.
pub(super) const COMMANDS: &[ServerCommand] = &[
    Command::new(
        CommandSpec {
            name: "save",
            arity: 1,
            flags: flags([
                Flags::NO_ASYNC_LOADING,
                Flags::ADMIN,
                Flags::NOSCRIPT,
                Flags::NO_MULTI,
            ]),
            group: Group::Server,
            since: "1.0.0",
            complexity: "O(N) where N is the total number of keys in all databases",
            summary: "Synchronously saves the database(s) to disk.",
            ..CommandSpec::EMPTY
        },
        save as ServerFn,
    ),
    Command::new(
        CommandSpec {
            name: "bgsave",
            arity: -1,
            flags: flags([Flags::NO_ASYNC_LOADING, Flags::ADMIN, Flags::NOSCRIPT]),
            group: Group::Server,
            since: "1.0.0",
            complexity: "O(1)",
            summary: "Asynchronously saves the database(s) to disk.",
            args: "[(SCHEDULE@3.2.2 | CANCEL@8.1.0)<operation>]",
            history: &[
                ("3.2.2", "Added the `SCHEDULE` option."),
                ("8.1.0", "Added the `CANCEL` option."),
            ],
            ..CommandSpec::EMPTY
        },
        bgsave as ServerFn,
    ),
];
