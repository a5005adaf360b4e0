//! The commands of lists that move elements between keys, look at several keys, or block.

use super::ListValue;
use super::list_commands::{pop_event, push_event, take, take_many};
use super::list_value::End;
use crate::spec::{Acl, Begin, Command, CommandSpec, Find, Flags, Group, Key, KeySpec};
use crate::{Call, CmdError, CmdResult, DONE, Engine, EventClass, TimeoutReply, args};
use holdfast_resp::format_i64;
use std::time::Duration;

/// The rows.
pub const COMMANDS: &[Command] = &[
    Command::new(
        CommandSpec {
            name: "blmove",
            arity: 6,
            flags: Flags::WRITE.and(Flags::DENYOOM).and(Flags::BLOCKING),
            categories: Acl::LIST,
            keys: &[
                KeySpec::range(Key::RW.and(Key::ACCESS).and(Key::DELETE), 1, 0, 1),
                KeySpec::range(Key::RW.and(Key::INSERT), 2, 0, 1),
            ],
            group: Group::List,
            since: "6.2.0",
            complexity: "O(1)",
            summary: "Pops an element from a list, pushes it to another list and returns it. Blocks until an element is available otherwise. Deletes the list if the last element was moved.",
            args: "source:key destination:key#1 (LEFT | RIGHT)<wherefrom> (LEFT | RIGHT)<whereto> timeout:double",
            ..CommandSpec::EMPTY
        },
        blmove,
    ),
    Command::new(
        CommandSpec {
            name: "blmpop",
            arity: -5,
            flags: Flags::WRITE.and(Flags::BLOCKING),
            categories: Acl::LIST,
            keys: &[KeySpec::new(
                Key::RW.and(Key::ACCESS).and(Key::DELETE),
                Begin::Index(2),
                Find::KeyNum {
                    num: 0,
                    first: 1,
                    step: 1,
                },
            )],
            group: Group::List,
            since: "7.0.0",
            complexity: "O(N+M) where N is the number of provided keys and M is the number of elements returned.",
            summary: "Pops the first element from one of multiple lists. Blocks until an element is available otherwise. Deletes the list if the last element was popped.",
            args: "timeout:double numkeys:int key:key... (LEFT | RIGHT)<where> [COUNT=count:int]",
            ..CommandSpec::EMPTY
        },
        blmpop,
    ),
    Command::new(
        CommandSpec {
            name: "blpop",
            arity: -3,
            flags: Flags::WRITE.and(Flags::BLOCKING),
            categories: Acl::LIST,
            keys: &[KeySpec::range(
                Key::RW.and(Key::ACCESS).and(Key::DELETE),
                1,
                -2,
                1,
            )],
            group: Group::List,
            since: "2.0.0",
            complexity: "O(N) where N is the number of provided keys.",
            summary: "Removes and returns the first element in a list. Blocks until an element is available otherwise. Deletes the list if the last element was popped.",
            args: "key:key... timeout:double",
            history: &[(
                "6.0.0",
                "`timeout` is interpreted as a double instead of an integer.",
            )],
            ..CommandSpec::EMPTY
        },
        blpop,
    ),
    Command::new(
        CommandSpec {
            name: "brpop",
            arity: -3,
            flags: Flags::WRITE.and(Flags::BLOCKING),
            categories: Acl::LIST,
            keys: &[KeySpec::range(
                Key::RW.and(Key::ACCESS).and(Key::DELETE),
                1,
                -2,
                1,
            )],
            group: Group::List,
            since: "2.0.0",
            complexity: "O(N) where N is the number of provided keys.",
            summary: "Removes and returns the last element in a list. Blocks until an element is available otherwise. Deletes the list if the last element was popped.",
            args: "key:key... timeout:double",
            history: &[(
                "6.0.0",
                "`timeout` is interpreted as a double instead of an integer.",
            )],
            ..CommandSpec::EMPTY
        },
        brpop,
    ),
    Command::new(
        CommandSpec {
            name: "brpoplpush",
            arity: 4,
            flags: Flags::WRITE.and(Flags::DENYOOM).and(Flags::BLOCKING),
            categories: Acl::LIST,
            keys: &[
                KeySpec::range(Key::RW.and(Key::ACCESS).and(Key::DELETE), 1, 0, 1),
                KeySpec::range(Key::RW.and(Key::INSERT), 2, 0, 1),
            ],
            group: Group::List,
            since: "2.2.0",
            complexity: "O(1)",
            summary: "Pops an element from a list, pushes it to another list and returns it. Blocks until an element is available otherwise. Deletes the list if the last element was popped.",
            args: "source:key destination:key#1 timeout:double",
            history: &[(
                "6.0.0",
                "`timeout` is interpreted as a double instead of an integer.",
            )],
            ..CommandSpec::EMPTY
        },
        brpoplpush,
    ),
    Command::new(
        CommandSpec {
            name: "lmove",
            arity: 5,
            flags: Flags::WRITE.and(Flags::DENYOOM),
            categories: Acl::LIST,
            keys: &[
                KeySpec::range(Key::RW.and(Key::ACCESS).and(Key::DELETE), 1, 0, 1),
                KeySpec::range(Key::RW.and(Key::INSERT), 2, 0, 1),
            ],
            group: Group::List,
            since: "6.2.0",
            complexity: "O(1)",
            summary: "Returns an element after popping it from one list and pushing it to another. Deletes the list if the last element was moved.",
            args: "source:key destination:key#1 (LEFT | RIGHT)<wherefrom> (LEFT | RIGHT)<whereto>",
            ..CommandSpec::EMPTY
        },
        lmove,
    ),
    Command::new(
        CommandSpec {
            name: "lmpop",
            arity: -4,
            flags: Flags::WRITE,
            categories: Acl::LIST,
            keys: &[KeySpec::new(
                Key::RW.and(Key::ACCESS).and(Key::DELETE),
                Begin::Index(1),
                Find::KeyNum {
                    num: 0,
                    first: 1,
                    step: 1,
                },
            )],
            group: Group::List,
            since: "7.0.0",
            complexity: "O(N+M) where N is the number of provided keys and M is the number of elements returned.",
            summary: "Returns multiple elements from a list after removing them. Deletes the list if the last element was popped.",
            args: "numkeys:int key:key... (LEFT | RIGHT)<where> [COUNT=count:int]",
            ..CommandSpec::EMPTY
        },
        lmpop,
    ),
    Command::new(
        CommandSpec {
            name: "rpoplpush",
            arity: 3,
            flags: Flags::WRITE.and(Flags::DENYOOM),
            categories: Acl::LIST,
            keys: &[
                KeySpec::range(Key::RW.and(Key::ACCESS).and(Key::DELETE), 1, 0, 1),
                KeySpec::range(Key::RW.and(Key::INSERT), 2, 0, 1),
            ],
            group: Group::List,
            since: "1.2.0",
            complexity: "O(1)",
            summary: "Returns the last element of a list after removing and pushing it to another list. Deletes the list if the last element was popped.",
            args: "source:key destination:key#1",
            ..CommandSpec::EMPTY
        },
        rpoplpush,
    ),
];

/// The argument `LEFT` or `RIGHT`.
fn end_arg(call: &Call<'_>, index: usize) -> Result<End, CmdError> {
    if call.arg_is(index, "LEFT") {
        Ok(End::Left)
    } else if call.arg_is(index, "RIGHT") {
        Ok(End::Right)
    } else {
        Err(CmdError::SYNTAX)
    }
}

fn lmove(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    let (from, to) = (end_arg(call, 3)?, end_arg(call, 4)?);
    move_element(engine, call, from, to)
}

fn rpoplpush(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    move_element(engine, call, End::Right, End::Left)
}

fn move_element(engine: &mut Engine, call: &mut Call<'_>, from: End, to: End) -> CmdResult {
    let (source, destination) = (call.arg(1), call.arg(2));
    let limits = engine.limits();
    let Some(list) = engine.look::<ListValue>(call, source)? else {
        call.reply_null();
        return DONE;
    };
    let last = list.len().saturating_sub(1);
    let (at, backwards) = match from {
        End::Left => (0, false),
        End::Right => (last, true),
    };
    let element = list.iter_from(at, backwards).next();
    let element = element.ok_or(CmdError::NO_SUCH_KEY)?.to_boxed();
    if source == destination {
        if let Some(list) = engine.write::<ListValue>(call, source)? {
            list.pop(from);
            list.prepare(element.len(), 1, &limits);
            list.push(to, &element, &limits);
            list.shrink(&limits);
        }
        call.notify(EventClass::LIST, push_event(to), destination);
        let (class, event) = pop_event(from);
        call.notify(class, event, source);
        call.modified(source, 1);
    } else {
        // Pushed first, as listeners hear of it first.
        let list = engine.write_or_create(call, destination, ListValue::new)?;
        list.prepare(element.len(), 1, &limits);
        list.push(to, &element, &limits);
        call.notify(EventClass::LIST, push_event(to), destination);
        // Counted once, with the pop; the destination is named for WATCH and the gate.
        call.modified(destination, 0);
        take(engine, call, source, from)?;
    }
    call.reply_bulk(&element);
    DONE
}

fn blmove(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    let (from, to) = (end_arg(call, 3)?, end_arg(call, 4)?);
    let timeout = args::timeout(call, 5)?;
    if let Some(wait) = wait_for_source(engine, call, timeout)? {
        return wait;
    }
    let result = move_element(engine, call, from, to);
    if result.is_ok() {
        call.rewrite(&[b"LMOVE", call.arg(1), call.arg(2), call.arg(3), call.arg(4)]);
    }
    result
}

fn brpoplpush(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    let timeout = args::timeout(call, 3)?;
    if let Some(wait) = wait_for_source(engine, call, timeout)? {
        return wait;
    }
    let result = move_element(engine, call, End::Right, End::Left);
    if result.is_ok() {
        call.rewrite(&[b"RPOPLPUSH", call.arg(1), call.arg(2)]);
    }
    result
}

/// What `BLMOVE` and `BRPOPLPUSH` return while there is no source.
fn wait_for_source(
    engine: &mut Engine,
    call: &mut Call<'_>,
    timeout: Option<Duration>,
) -> Result<Option<CmdResult>, CmdError> {
    let source = call.arg(1);
    Ok(match engine.look::<ListValue>(call, source)? {
        Some(_) => None,
        None => Some(args::block(call, &[source], timeout, TimeoutReply::Null)),
    })
}

fn blpop(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    blocking_pop(engine, call, End::Left)
}

fn brpop(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    blocking_pop(engine, call, End::Right)
}

fn blocking_pop(engine: &mut Engine, call: &mut Call<'_>, end: End) -> CmdResult {
    let last = call.argv.len() - 1;
    let keys = &call.argv[1..last];
    let timeout = args::timeout(call, last)?;
    let Some(key) = first_list(engine, call, keys)? else {
        return args::block(call, keys, timeout, TimeoutReply::NullArray);
    };
    let element = take(engine, call, key, end)?;
    call.reply_array(2);
    call.reply_bulk(key);
    call.reply_bulk(&element);
    call.rewrite(&[pop_name(end), key]);
    DONE
}

fn pop_name(end: End) -> &'static [u8] {
    match end {
        End::Left => b"LPOP",
        End::Right => b"RPOP",
    }
}

/// The first of the keys that holds a list. One of another type before it is an error.
fn first_list<'k>(
    engine: &mut Engine,
    call: &mut Call<'_>,
    keys: &[&'k [u8]],
) -> Result<Option<&'k [u8]>, CmdError> {
    for key in keys {
        if engine.look::<ListValue>(call, key)?.is_some() {
            return Ok(Some(key));
        }
    }
    Ok(None)
}

fn lmpop(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    pop_many(engine, call, 1, None)
}

fn blmpop(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    pop_many(engine, call, 2, Some(1))
}

fn pop_many(
    engine: &mut Engine,
    call: &mut Call<'_>,
    keys_at: usize,
    timeout_at: Option<usize>,
) -> CmdResult {
    let (keys, where_at) = args::keys_of(call, keys_at, "ERR numkeys should be greater than 0")?;
    if where_at >= call.argv.len() {
        return Err(CmdError::SYNTAX);
    }
    let end = end_arg(call, where_at)?;
    let count = match call.argv.len() - where_at {
        1 => 1,
        3 if call.arg_is(where_at + 1, "COUNT") => {
            let n = args::int_in(
                call,
                where_at + 2,
                1..=i64::MAX,
                "ERR count should be greater than 0",
            )?;
            usize::try_from(n).unwrap_or(usize::MAX)
        }
        _ => return Err(CmdError::SYNTAX),
    };
    let timeout = timeout_at.map(|i| args::timeout(call, i)).transpose()?;
    match (first_list(engine, call, keys)?, timeout) {
        (Some(key), _) => {
            call.reply_array(2);
            call.reply_bulk(key);
            let n = take_many(engine, call, key, end, count)?;
            call.rewrite(&[pop_name(end), key, format_i64(n as i64).as_bytes()]);
        }
        (None, None) => call.reply_null_array(),
        (None, Some(timeout)) => return args::block(call, keys, timeout, TimeoutReply::NullArray),
    }
    DONE
}
