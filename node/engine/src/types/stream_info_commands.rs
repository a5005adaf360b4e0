//! `XINFO`: what is known of a stream, its groups and their consumers.

use super::StreamValue;
use super::stream_entries::StreamEntries;
use super::stream_group::{StreamGroup, UNKNOWN_READ};
use super::stream_group_commands::no_such_group;
use super::stream_id::StreamId;
use super::stream_reply as reply;
use crate::spec::{Acl, Command, CommandSpec, Flags, Group, Key, KeySpec};
use crate::{Call, CmdError, CmdResult, DONE, Engine};
use holdfast_resp::write;

/// The rows.
pub const COMMANDS: &[Command] = &[Command::container(
    CommandSpec {
        name: "xinfo",
        arity: -2,
        group: Group::Stream,
        since: "5.0.0",
        complexity: "Depends on subcommand.",
        summary: "A container for stream introspection commands.",
        ..CommandSpec::EMPTY
    },
    unknown_subcommand,
    &[
        Command::new(
            CommandSpec {
                name: "consumers",
                arity: 4,
                tips: &["nondeterministic_output"],
                args: "key:key group",
                summary: "Returns a list of the consumers in a consumer group.",
                history: &[(
                    "7.2.0",
                    "Added the `inactive` field, and changed the meaning of `idle`.",
                )],
                ..SUBCOMMAND
            },
            consumers,
        ),
        Command::new(
            CommandSpec {
                name: "groups",
                arity: 3,
                args: "key:key",
                summary: "Returns a list of the consumer groups of a stream.",
                history: &[("7.0.0", "Added the `entries-read` and `lag` fields")],
                ..SUBCOMMAND
            },
            groups,
        ),
        Command::new(
            CommandSpec {
                name: "help",
                arity: 2,
                flags: Flags::LOADING.and(Flags::STALE),
                keys: &[],
                summary: "Returns helpful text about the different subcommands.",
                ..SUBCOMMAND
            },
            help,
        ),
        Command::new(
            CommandSpec {
                name: "stream",
                arity: -3,
                args: "key:key [{FULL [COUNT=count:int]}<full-block>]",
                summary: "Returns information about a stream.",
                history: &[
                    ("6.0.0", "Added the `FULL` modifier."),
                    (
                        "7.0.0",
                        "Added the `max-deleted-entry-id`, `entries-added`, `recorded-first-entry-id`, `entries-read` and `lag` fields",
                    ),
                    (
                        "7.2.0",
                        "Added the `active-time` field, and changed the meaning of `seen-time`.",
                    ),
                ],
                ..SUBCOMMAND
            },
            stream,
        ),
    ],
)];

/// What the subcommands have in common.
const SUBCOMMAND: CommandSpec = CommandSpec {
    flags: Flags::READONLY,
    categories: Acl::STREAM,
    keys: &[KeySpec::range(Key::RO.and(Key::ACCESS), 2, 0, 1)],
    group: Group::Stream,
    since: "5.0.0",
    complexity: "O(1)",
    ..CommandSpec::EMPTY
};

fn unknown_subcommand(_: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    let name = String::from_utf8_lossy(call.arg(1)).into_owned();
    Err(CmdError::text(format!(
        "ERR unknown subcommand '{name}'. Try XINFO HELP."
    )))
}

/// The error of arguments that a subcommand does not have.
pub(super) fn subcommand_syntax(call: &Call<'_>, container: &str) -> CmdError {
    let name = call.arg(1);
    let mut text = b"ERR unknown subcommand or wrong number of arguments for '".to_vec();
    text.extend_from_slice(name.get(..128).unwrap_or(name));
    text.extend_from_slice(format!("'. Try {container} HELP.").as_bytes());
    CmdError::text(text)
}

fn help(_: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    const LINES: &[&str] = &[
        "XINFO <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
        "CONSUMERS <key> <groupname>",
        "    Show consumers of <groupname>.",
        "GROUPS <key>",
        "    Show the stream consumer groups.",
        "STREAM <key> [FULL [COUNT <count>]",
        "    Show information about the stream.",
        "HELP",
        "    Print this help.",
    ];
    call.reply_array(LINES.len());
    LINES.iter().for_each(|line| call.reply_simple(line));
    DONE
}

fn existing<'e>(engine: &'e mut Engine, call: &mut Call<'_>) -> Result<&'e StreamValue, CmdError> {
    let key = call.arg(2);
    engine
        .read::<StreamValue>(call, key)?
        .ok_or(CmdError::NO_SUCH_KEY)
}

fn int(call: &mut Call<'_>, name: &str, value: i64) {
    call.reply_bulk(name.as_bytes());
    call.reply_int(value);
}

fn id(call: &mut Call<'_>, name: &str, value: StreamId) {
    call.reply_bulk(name.as_bytes());
    reply::id(call.reply, value);
}

fn text(call: &mut Call<'_>, name: &str, value: &[u8]) {
    call.reply_bulk(name.as_bytes());
    call.reply_bulk(value);
}

fn consumers(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    let (key, name, now_ms) = (call.arg(2), call.arg(3), call.now_ms as i64);
    let group = existing(engine, call)?.groups.get(name);
    let group = group.ok_or_else(|| no_such_group(key, name))?;
    call.reply_array(group.consumers_len());
    for consumer in group.consumers() {
        call.reply_map(4);
        text(call, "name", &consumer.name);
        int(call, "pending", consumer.pending.len() as i64);
        int(call, "idle", now_ms.saturating_sub(consumer.seen_ms).max(0));
        let inactive = match consumer.active_ms {
            -1 => -1,
            at => now_ms.saturating_sub(at),
        };
        int(call, "inactive", inactive);
    }
    DONE
}

fn groups(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    let stream = existing(engine, call)?;
    call.reply_array(stream.groups.len());
    for (name, group) in stream.groups.iter() {
        call.reply_map(6);
        text(call, "name", name);
        int(call, "consumers", group.consumers_len() as i64);
        int(call, "pending", group.pending().len() as i64);
        id(call, "last-delivered-id", group.last_id);
        progress(call, &stream.entries, group);
    }
    DONE
}

/// How many entries a group has read, and how many it has still to read.
fn progress(call: &mut Call<'_>, entries: &StreamEntries, group: &StreamGroup) {
    call.reply_bulk(b"entries-read");
    match group.entries_read {
        UNKNOWN_READ => call.reply_null(),
        n => call.reply_int(n),
    }
    call.reply_bulk(b"lag");
    let added = entries.entries_added as i64;
    let known = group.entries_read != UNKNOWN_READ && !entries.has_gaps_from(group.last_id);
    let read = match () {
        () if entries.entries_added == 0 => 0,
        () if known => group.entries_read,
        () => entries.entries_up_to(group.last_id),
    };
    match read {
        UNKNOWN_READ if !known => call.reply_null(),
        read => call.reply_int(added.wrapping_sub(read)),
    }
}

/// Entries shown by `FULL`, unless a `COUNT` is given.
const FULL_COUNT: i64 = 10;

fn stream(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    let stream = existing(engine, call)?;
    let full = match call.argv.len() {
        3 => None,
        4 if call.arg_is(3, "FULL") => Some(FULL_COUNT),
        6 if call.arg_is(3, "FULL") && call.arg_is(4, "COUNT") => match call.int_arg(5)? {
            ..0 => Some(FULL_COUNT),
            n => Some(n),
        },
        _ => return Err(subcommand_syntax(call, "XINFO")),
    };
    let entries = &stream.entries;
    call.reply_map(if full.is_some() { 9 } else { 10 });
    int(call, "length", entries.len() as i64);
    int(call, "radix-tree-keys", entries.nodes_len() as i64);
    // Where Valkey has a radix tree, which is at least so large, we have none.
    let nodes = entries.nodes_len() + 1;
    int(call, "radix-tree-nodes", nodes as i64);
    id(call, "last-generated-id", entries.last_id);
    id(call, "max-deleted-entry-id", entries.max_deleted_id);
    int(call, "entries-added", entries.entries_added as i64);
    id(call, "recorded-first-entry-id", entries.first_id());
    match full {
        None => {
            int(call, "groups", stream.groups.len() as i64);
            let first = entries.all().next();
            let last = entries.range_back(StreamId::MIN, StreamId::MAX).next();
            for (name, entry) in [("first-entry", first), ("last-entry", last)] {
                call.reply_bulk(name.as_bytes());
                match entry {
                    Some(entry) => drop(reply::entry(call.reply, &entry)),
                    None => call.reply_null(),
                }
            }
        }
        Some(count) => {
            let count = match count {
                0 => usize::MAX,
                n => usize::try_from(n).unwrap_or(usize::MAX),
            };
            call.reply_bulk(b"entries");
            call.reply_array(entries.len().min(count));
            for entry in entries.all().take(count) {
                reply::entry(call.reply, &entry);
            }
            call.reply_bulk(b"groups");
            call.reply_array(stream.groups.len());
            for (name, group) in stream.groups.iter() {
                full_group(call, entries, name, group, count);
            }
        }
    }
    DONE
}

fn full_group(
    call: &mut Call<'_>,
    entries: &StreamEntries,
    name: &[u8],
    group: &StreamGroup,
    count: usize,
) {
    call.reply_map(7);
    text(call, "name", name);
    id(call, "last-delivered-id", group.last_id);
    progress(call, entries, group);
    let pending = group.pending();
    int(call, "pel-count", pending.len() as i64);
    call.reply_bulk(b"pending");
    call.reply_array(pending.len().min(count));
    for (id, p) in pending.iter().take(count) {
        write::array(call.reply, 4);
        reply::id(call.reply, id);
        write::bulk(call.reply, group.owner(p));
        write::int(call.reply, p.delivered_ms);
        write::int(call.reply, p.deliveries as i64);
    }
    call.reply_bulk(b"consumers");
    call.reply_array(group.consumers_len());
    for consumer in group.consumers() {
        call.reply_map(5);
        text(call, "name", &consumer.name);
        int(call, "seen-time", consumer.seen_ms);
        int(call, "active-time", consumer.active_ms);
        int(call, "pel-count", consumer.pending.len() as i64);
        call.reply_bulk(b"pending");
        call.reply_array(consumer.pending.len().min(count));
        for (id, ()) in consumer.pending.iter().take(count) {
            let p = pending.get(id);
            write::array(call.reply, 3);
            reply::id(call.reply, id);
            write::int(call.reply, p.map_or(0, |p| p.delivered_ms));
            write::int(call.reply, p.map_or(0, |p| p.deliveries as i64));
        }
    }
}
