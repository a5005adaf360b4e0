//! The commands of sets.

use super::SetValue;
use super::listpack::Elem;
use crate::args::{self, ScanArgs};
use crate::spec::{Acl, Begin, Command, CommandSpec, Find, Flags, Group, Key, KeySpec};
use crate::value::DataType;
use crate::{Call, CmdError, CmdResult, DONE, Engine, EventClass, Ttl};

/// The rows.
pub const COMMANDS: &[Command] = &[
    Command::new(
        CommandSpec {
            name: "sadd",
            arity: -3,
            flags: Flags::WRITE.and(Flags::DENYOOM).and(Flags::FAST),
            categories: Acl::SET,
            keys: &[KeySpec::range(Key::RW.and(Key::INSERT), 1, 0, 1)],
            group: Group::Set,
            since: "1.0.0",
            complexity: "O(1) for each element added, so O(N) to add N elements when the command is called with multiple arguments.",
            summary: "Adds one or more members to a set. Creates the key if it doesn't exist.",
            args: "key:key member...",
            history: &[("2.4.0", "Accepts multiple `member` arguments.")],
            ..CommandSpec::EMPTY
        },
        sadd,
    ),
    Command::new(
        CommandSpec {
            name: "scard",
            arity: 2,
            flags: Flags::READONLY.and(Flags::FAST),
            categories: Acl::SET,
            keys: &[KeySpec::range(Key::RO, 1, 0, 1)],
            group: Group::Set,
            since: "1.0.0",
            complexity: "O(1)",
            summary: "Returns the number of members in a set.",
            args: "key:key",
            ..CommandSpec::EMPTY
        },
        scard,
    ),
    Command::new(
        CommandSpec {
            name: "sdiff",
            arity: -2,
            flags: Flags::READONLY,
            categories: Acl::SET,
            keys: &[KeySpec::range(Key::RO.and(Key::ACCESS), 1, -1, 1)],
            group: Group::Set,
            since: "1.0.0",
            complexity: "O(N) where N is the total number of elements in all given sets.",
            summary: "Returns the difference of multiple sets.",
            args: "key:key...",
            tips: &["nondeterministic_output_order"],
            ..CommandSpec::EMPTY
        },
        sdiff,
    ),
    Command::new(
        CommandSpec {
            name: "sdiffstore",
            arity: -3,
            flags: Flags::WRITE.and(Flags::DENYOOM),
            categories: Acl::SET,
            keys: &[
                KeySpec::range(Key::OW.and(Key::UPDATE), 1, 0, 1),
                KeySpec::range(Key::RO.and(Key::ACCESS), 2, -1, 1),
            ],
            group: Group::Set,
            since: "1.0.0",
            complexity: "O(N) where N is the total number of elements in all given sets.",
            summary: "Stores the difference of multiple sets in a key.",
            args: "destination:key key:key#1...",
            ..CommandSpec::EMPTY
        },
        sdiffstore,
    ),
    Command::new(
        CommandSpec {
            name: "sinter",
            arity: -2,
            flags: Flags::READONLY,
            categories: Acl::SET,
            keys: &[KeySpec::range(Key::RO.and(Key::ACCESS), 1, -1, 1)],
            group: Group::Set,
            since: "1.0.0",
            complexity: "O(N*M) worst case where N is the cardinality of the smallest set and M is the number of sets.",
            summary: "Returns the intersect of multiple sets.",
            args: "key:key...",
            tips: &["nondeterministic_output_order"],
            ..CommandSpec::EMPTY
        },
        sinter,
    ),
    Command::new(
        CommandSpec {
            name: "sintercard",
            arity: -3,
            flags: Flags::READONLY,
            categories: Acl::SET,
            keys: &[KeySpec::new(
                Key::RO.and(Key::ACCESS),
                Begin::Index(1),
                Find::KeyNum {
                    num: 0,
                    first: 1,
                    step: 1,
                },
            )],
            group: Group::Set,
            since: "7.0.0",
            complexity: "O(N*M) worst case where N is the cardinality of the smallest set and M is the number of sets.",
            summary: "Returns the number of members of the intersect of multiple sets.",
            args: "numkeys:int key:key... [LIMIT=limit:int]",
            ..CommandSpec::EMPTY
        },
        sintercard,
    ),
    Command::new(
        CommandSpec {
            name: "sinterstore",
            arity: -3,
            flags: Flags::WRITE.and(Flags::DENYOOM),
            categories: Acl::SET,
            keys: &[
                KeySpec::range(Key::OW.and(Key::UPDATE), 1, 0, 1),
                KeySpec::range(Key::RO.and(Key::ACCESS), 2, -1, 1),
            ],
            group: Group::Set,
            since: "1.0.0",
            complexity: "O(N*M) worst case where N is the cardinality of the smallest set and M is the number of sets.",
            summary: "Stores the intersect of multiple sets in a key.",
            args: "destination:key key:key#1...",
            ..CommandSpec::EMPTY
        },
        sinterstore,
    ),
    Command::new(
        CommandSpec {
            name: "sismember",
            arity: 3,
            flags: Flags::READONLY.and(Flags::FAST),
            categories: Acl::SET,
            keys: &[KeySpec::range(Key::RO, 1, 0, 1)],
            group: Group::Set,
            since: "1.0.0",
            complexity: "O(1)",
            summary: "Determines whether a member belongs to a set.",
            args: "key:key member",
            ..CommandSpec::EMPTY
        },
        sismember,
    ),
    Command::new(
        CommandSpec {
            name: "smembers",
            arity: 2,
            flags: Flags::READONLY,
            categories: Acl::SET,
            keys: &[KeySpec::range(Key::RO.and(Key::ACCESS), 1, 0, 1)],
            group: Group::Set,
            since: "1.0.0",
            complexity: "O(N) where N is the set cardinality.",
            summary: "Returns all members of a set.",
            args: "key:key",
            tips: &["nondeterministic_output_order"],
            ..CommandSpec::EMPTY
        },
        smembers,
    ),
    Command::new(
        CommandSpec {
            name: "smismember",
            arity: -3,
            flags: Flags::READONLY.and(Flags::FAST),
            categories: Acl::SET,
            keys: &[KeySpec::range(Key::RO.and(Key::ACCESS), 1, 0, 1)],
            group: Group::Set,
            since: "6.2.0",
            complexity: "O(N) where N is the number of elements being checked for membership",
            summary: "Determines whether multiple members belong to a set.",
            args: "key:key member...",
            ..CommandSpec::EMPTY
        },
        smismember,
    ),
    Command::new(
        CommandSpec {
            name: "smove",
            arity: 4,
            flags: Flags::WRITE.and(Flags::FAST),
            categories: Acl::SET,
            keys: &[
                KeySpec::range(Key::RW.and(Key::ACCESS).and(Key::DELETE), 1, 0, 1),
                KeySpec::range(Key::RW.and(Key::INSERT), 2, 0, 1),
            ],
            group: Group::Set,
            since: "1.0.0",
            complexity: "O(1)",
            summary: "Moves a member from one set to another.",
            args: "source:key destination:key#1 member",
            ..CommandSpec::EMPTY
        },
        smove,
    ),
    Command::new(
        CommandSpec {
            name: "spop",
            arity: -2,
            flags: Flags::WRITE.and(Flags::FAST),
            categories: Acl::SET,
            keys: &[KeySpec::range(
                Key::RW.and(Key::ACCESS).and(Key::DELETE),
                1,
                0,
                1,
            )],
            group: Group::Set,
            since: "1.0.0",
            complexity: "Without the count argument O(1), otherwise O(N) where N is the value of the passed count.",
            summary: "Returns one or more random members from a set after removing them. Deletes the set if the last member was popped.",
            args: "key:key [count:int@3.2.0]",
            tips: &["nondeterministic_output"],
            history: &[("3.2.0", "Added the `count` argument.")],
            ..CommandSpec::EMPTY
        },
        spop,
    ),
    Command::new(
        CommandSpec {
            name: "srandmember",
            arity: -2,
            flags: Flags::READONLY,
            categories: Acl::SET,
            keys: &[KeySpec::range(Key::RO.and(Key::ACCESS), 1, 0, 1)],
            group: Group::Set,
            since: "1.0.0",
            complexity: "Without the count argument O(1), otherwise O(N) where N is the absolute value of the passed count.",
            summary: "Gets one or multiple random members from a set.",
            args: "key:key [count:int@2.6.0]",
            tips: &["nondeterministic_output"],
            history: &[("2.6.0", "Added the optional `count` argument.")],
            ..CommandSpec::EMPTY
        },
        srandmember,
    ),
    Command::new(
        CommandSpec {
            name: "srem",
            arity: -3,
            flags: Flags::WRITE.and(Flags::FAST),
            categories: Acl::SET,
            keys: &[KeySpec::range(Key::RW.and(Key::DELETE), 1, 0, 1)],
            group: Group::Set,
            since: "1.0.0",
            complexity: "O(N) where N is the number of members to be removed.",
            summary: "Removes one or more members from a set. Deletes the set if the last member was removed.",
            args: "key:key member...",
            history: &[("2.4.0", "Accepts multiple `member` arguments.")],
            ..CommandSpec::EMPTY
        },
        srem,
    ),
    Command::new(
        CommandSpec {
            name: "sscan",
            arity: -3,
            flags: Flags::READONLY,
            categories: Acl::SET,
            keys: &[KeySpec::range(Key::RO.and(Key::ACCESS), 1, 0, 1)],
            group: Group::Set,
            since: "2.8.0",
            complexity: "O(1) for every call. O(N) for a complete iteration, including enough command calls for the cursor to return back to 0. N is the number of elements inside the collection.",
            summary: "Iterates over members of a set.",
            args: "key:key cursor:int [MATCH=pattern:pattern] [COUNT=count:int]",
            tips: &["nondeterministic_output"],
            ..CommandSpec::EMPTY
        },
        sscan,
    ),
    Command::new(
        CommandSpec {
            name: "sunion",
            arity: -2,
            flags: Flags::READONLY,
            categories: Acl::SET,
            keys: &[KeySpec::range(Key::RO.and(Key::ACCESS), 1, -1, 1)],
            group: Group::Set,
            since: "1.0.0",
            complexity: "O(N) where N is the total number of elements in all given sets.",
            summary: "Returns the union of multiple sets.",
            args: "key:key...",
            tips: &["nondeterministic_output_order"],
            ..CommandSpec::EMPTY
        },
        sunion,
    ),
    Command::new(
        CommandSpec {
            name: "sunionstore",
            arity: -3,
            flags: Flags::WRITE.and(Flags::DENYOOM),
            categories: Acl::SET,
            keys: &[
                KeySpec::range(Key::OW.and(Key::UPDATE), 1, 0, 1),
                KeySpec::range(Key::RO.and(Key::ACCESS), 2, -1, 1),
            ],
            group: Group::Set,
            since: "1.0.0",
            complexity: "O(N) where N is the total number of elements in all given sets.",
            summary: "Stores the union of multiple sets in a key.",
            args: "destination:key key:key#1...",
            ..CommandSpec::EMPTY
        },
        sunionstore,
    ),
];

const SREM: (EventClass, &str) = (EventClass::SET, "srem");

fn sadd(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    let (key, members) = (call.arg(1), &call.argv[2..]);
    let limits = engine.limits();
    let set = engine.write_or_create(call, key, || {
        SetValue::new_for(members[0], members.len(), &limits)
    })?;
    set.prepare(members.len(), &limits);
    let added = members.iter().filter(|m| set.insert(m, &limits)).count();
    if added > 0 {
        call.modified(key, added as u64);
        call.notify(EventClass::SET, "sadd", key);
    }
    call.reply_len(added);
    DONE
}

fn srem(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    let key = call.arg(1);
    let Some(set) = engine.write::<SetValue>(call, key)? else {
        call.reply_int(0);
        return DONE;
    };
    let removed = call.argv[2..].iter().filter(|m| set.remove(m)).count();
    if removed > 0 {
        let empty = set.is_empty();
        engine.removed_from(call, key, SREM, empty, removed as u64);
    }
    call.reply_len(removed);
    DONE
}

fn smove(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    let (source, destination, member) = (call.arg(1), call.arg(2), call.arg(3));
    let limits = engine.limits();
    let Some(there) = engine
        .look::<SetValue>(call, source)?
        .map(|s| s.contains(member))
    else {
        call.reply_int(0);
        return DONE;
    };
    engine.look::<SetValue>(call, destination)?;
    if there && source != destination {
        if let Some(set) = engine.write::<SetValue>(call, source)? {
            set.remove(member);
            let empty = set.is_empty();
            engine.removed_from(call, source, SREM, empty, 1);
        }
        let set =
            engine.write_or_create(call, destination, || SetValue::new_for(member, 1, &limits))?;
        if set.insert(member, &limits) {
            call.modified(destination, 1);
            call.notify(EventClass::SET, "sadd", destination);
        }
    }
    call.reply_int(i64::from(there));
    DONE
}

fn sismember(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    let set = engine.read::<SetValue>(call, call.arg(1))?;
    call.reply_int(i64::from(set.is_some_and(|s| s.contains(call.arg(2)))));
    DONE
}

fn smismember(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    let set = engine.read::<SetValue>(call, call.arg(1))?;
    call.reply_array(call.argv.len() - 2);
    for member in &call.argv[2..] {
        call.reply_int(i64::from(set.is_some_and(|s| s.contains(member))));
    }
    DONE
}

fn scard(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    let set = engine.read::<SetValue>(call, call.arg(1))?;
    call.reply_len(set.map_or(0, SetValue::len));
    DONE
}

fn smembers(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    let set = engine.read::<SetValue>(call, call.arg(1))?;
    call.reply_set(set.map_or(0, SetValue::len));
    for member in set.into_iter().flat_map(SetValue::iter) {
        call.reply_bulk(member.bytes(&mut None));
    }
    DONE
}

/// Members named in one effect of `SPOP key count`: more go into further effects of the same unit.
const SREM_BATCH: usize = 1024;

fn spop(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    let key = call.arg(1);
    let count = match call.argv.len() {
        2 => None,
        3 => Some(args::count(call, 2)?),
        _ => return Err(CmdError::SYNTAX),
    };
    let Some(set) = engine.look::<SetValue>(call, key)? else {
        match count {
            None => call.reply_null(),
            Some(_) => call.reply_set(0),
        }
        return DONE;
    };
    let len = set.len();
    let picks = match count {
        None => set.random(call.rng).into_iter().collect(),
        Some(n) => set.sample(call.rng, n),
    };
    let popped: Vec<Box<[u8]>> = picks.iter().map(Elem::to_boxed).collect();
    match count {
        None => call.reply_bulk(popped.first().map_or(&b""[..], |m| m)),
        Some(_) => {
            call.reply_set(popped.len());
            popped.iter().for_each(|m| call.reply_bulk(m));
        }
    }
    if popped.is_empty() {
        return DONE;
    }
    if count.is_some() && popped.len() == len {
        // Taken whole, it has been read.
        engine.touch_key(call, key);
    }
    if popped.len() < len
        && let Some(set) = engine.write::<SetValue>(call, key)?
    {
        for member in &popped {
            set.remove(member);
        }
    }
    let event = (EventClass::SET, "spop");
    engine.removed_from(call, key, event, popped.len() == len, popped.len() as u64);
    // What was drawn, since copies would draw differently.
    if count.is_some() && popped.len() == len {
        let verb = engine.config().server_del();
        call.rewrite(&[verb, key]);
    } else {
        for batch in popped.chunks(SREM_BATCH) {
            let mut argv: Vec<&[u8]> = vec![b"SREM", key];
            argv.extend(batch.iter().map(|m| &**m));
            call.rewrite(&argv);
        }
    }
    DONE
}

fn srandmember(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    let reply_max = engine.config().reply_bytes_max;
    let key = call.arg(1);
    let count = match call.argv.len() {
        2 => None,
        3 => Some(args::draws(call, 2)?),
        _ => return Err(CmdError::SYNTAX),
    };
    let Some(set) = engine.read::<SetValue>(call, key)? else {
        match count {
            None => call.reply_null(),
            Some(_) => call.reply_array(0),
        }
        return DONE;
    };
    let Some((n, repeat)) = count else {
        let member = set.random(call.rng).ok_or(CmdError::NO_SUCH_KEY)?;
        call.reply_bulk(member.bytes(&mut None));
        return DONE;
    };
    if !repeat {
        let picks = set.sample(call.rng, n);
        call.reply_array(picks.len());
        for member in picks {
            call.reply_bulk(member.bytes(&mut None));
        }
        return DONE;
    }
    // A negative count draws with repetition, in random order.
    call.reply_array(n);
    for _ in 0..n {
        if call.reply.len() > reply_max {
            return Err(CmdError::REPLY_TOO_LONG);
        }
        let member = set.random(call.rng).ok_or(CmdError::NO_SUCH_KEY)?;
        call.reply_bulk(member.bytes(&mut None));
    }
    DONE
}

/// The sets of several keys; `None` where there is no key.
fn sets_of<'e>(
    engine: &'e mut Engine,
    call: &mut Call<'_>,
    keys: &[&[u8]],
) -> Result<Vec<Option<&'e SetValue>>, CmdError> {
    for key in keys {
        engine.read::<SetValue>(call, key)?;
    }
    let engine = &*engine;
    keys.iter()
        .map(|key| engine.peek::<SetValue>(call, key))
        .collect()
}

/// Calls `found` with each member that all sets have, until it says no.
fn intersect(sets: &[Option<&SetValue>], mut found: impl FnMut(&[u8]) -> bool) {
    let Some(mut sets) = sets.iter().copied().collect::<Option<Vec<_>>>() else {
        return;
    };
    sets.sort_by_key(|s| s.len());
    let Some((smallest, others)) = sets.split_first() else {
        return;
    };
    for member in smallest.iter() {
        let mut buf = None;
        let member = member.bytes(&mut buf);
        if others.iter().all(|s| s.contains(member)) && !found(member) {
            break;
        }
    }
}

/// How the members of several sets make one.
#[derive(Clone, Copy)]
enum Operation {
    Inter,
    Union,
    Diff,
}

/// The result of an operation on the sets of several keys.
fn combine(
    engine: &mut Engine,
    call: &mut Call<'_>,
    keys: &[&[u8]],
    operation: Operation,
) -> Result<SetValue, CmdError> {
    let limits = engine.limits();
    let sets = sets_of(engine, call, keys)?;
    let mut result = SetValue::new();
    match operation {
        Operation::Inter => intersect(&sets, |member| {
            result.insert(member, &limits);
            true
        }),
        Operation::Union => {
            for member in sets.into_iter().flatten().flat_map(SetValue::iter) {
                result.insert(member.bytes(&mut None), &limits);
            }
        }
        Operation::Diff => {
            let (first, others) = sets.split_first().ok_or(CmdError::SYNTAX)?;
            for member in first.iter().flat_map(|s| s.iter()) {
                let mut buf = None;
                let member = member.bytes(&mut buf);
                if !others.iter().flatten().any(|s| s.contains(member)) {
                    result.insert(member, &limits);
                }
            }
        }
    }
    Ok(result)
}

fn answer(engine: &mut Engine, call: &mut Call<'_>, operation: Operation) -> CmdResult {
    let keys = &call.argv[1..];
    let result = combine(engine, call, keys, operation)?;
    call.reply_set(result.len());
    for member in result.iter() {
        call.reply_bulk(member.bytes(&mut None));
    }
    DONE
}

fn store(engine: &mut Engine, call: &mut Call<'_>, operation: Operation) -> CmdResult {
    let (destination, keys) = (call.arg(1), &call.argv[2..]);
    let result = combine(engine, call, keys, operation)?;
    call.reply_len(result.len());
    if !result.is_empty() {
        engine.set_value(call, destination, result.into_value(), Ttl::Clear);
        call.modified(destination, 1);
        let event = match operation {
            Operation::Inter => "sinterstore",
            Operation::Union => "sunionstore",
            Operation::Diff => "sdiffstore",
        };
        call.notify(EventClass::SET, event, destination);
    } else {
        engine.delete_and_report(call, destination);
    }
    DONE
}

fn sinter(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    answer(engine, call, Operation::Inter)
}

fn sunion(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    answer(engine, call, Operation::Union)
}

fn sdiff(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    answer(engine, call, Operation::Diff)
}

fn sinterstore(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    store(engine, call, Operation::Inter)
}

fn sunionstore(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    store(engine, call, Operation::Union)
}

fn sdiffstore(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    store(engine, call, Operation::Diff)
}

fn sintercard(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    let (keys, limit) = args::intercard(call)?;
    let sets = sets_of(engine, call, keys)?;
    let mut n = 0;
    intersect(&sets, |_| {
        n += 1;
        n != limit
    });
    call.reply_len(n);
    DONE
}

fn sscan(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    let cursor = args::scan_cursor(call, 2)?;
    let Some(set) = engine.read::<SetValue>(call, call.arg(1))? else {
        args::reply_empty_scan(call);
        return DONE;
    };
    let scan = ScanArgs::parse(call, None)?;
    scan.run(call, cursor, |cursor, report| {
        set.scan(cursor, |member| report(member.bytes(&mut None), None))
    });
    DONE
}
