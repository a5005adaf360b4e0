//! The commands of hashes.

use super::HashValue;
use super::listpack::Elem;
use crate::args::{self, ScanArgs};
use crate::decimal::{self, DecimalError};
use crate::spec::{Acl, Command, CommandSpec, Flags, Group, Key, KeySpec};
use crate::{Call, CmdError, CmdResult, DONE, Engine, EventClass};
use holdfast_resp::{Proto, format_i64, parse_i64};

/// The rows.
pub const COMMANDS: &[Command] = &[
    Command::new(
        CommandSpec {
            name: "hdel",
            arity: -3,
            flags: Flags::WRITE.and(Flags::FAST),
            categories: Acl::HASH,
            keys: &[KeySpec::range(Key::RW.and(Key::DELETE), 1, 0, 1)],
            group: Group::Hash,
            since: "2.0.0",
            complexity: "O(N) where N is the number of fields to be removed.",
            summary: "Deletes one or more fields and their values from a hash. Deletes the hash if no fields remain.",
            args: "key:key field...",
            history: &[("2.4.0", "Accepts multiple `field` arguments.")],
            ..CommandSpec::EMPTY
        },
        hdel,
    ),
    Command::new(
        CommandSpec {
            name: "hexists",
            arity: 3,
            flags: Flags::READONLY.and(Flags::FAST),
            categories: Acl::HASH,
            keys: &[KeySpec::range(Key::RO, 1, 0, 1)],
            group: Group::Hash,
            since: "2.0.0",
            complexity: "O(1)",
            summary: "Determines whether a field exists in a hash.",
            args: "key:key field",
            ..CommandSpec::EMPTY
        },
        hexists,
    ),
    Command::new(
        CommandSpec {
            name: "hget",
            arity: 3,
            flags: Flags::READONLY.and(Flags::FAST),
            categories: Acl::HASH,
            keys: &[KeySpec::range(Key::RO.and(Key::ACCESS), 1, 0, 1)],
            group: Group::Hash,
            since: "2.0.0",
            complexity: "O(1)",
            summary: "Returns the value of a field in a hash.",
            args: "key:key field",
            ..CommandSpec::EMPTY
        },
        hget,
    ),
    Command::new(
        CommandSpec {
            name: "hgetall",
            arity: 2,
            flags: Flags::READONLY,
            categories: Acl::HASH,
            keys: &[KeySpec::range(Key::RO.and(Key::ACCESS), 1, 0, 1)],
            group: Group::Hash,
            since: "2.0.0",
            complexity: "O(N) where N is the size of the hash.",
            summary: "Returns all fields and values in a hash.",
            args: "key:key",
            tips: &["nondeterministic_output_order"],
            ..CommandSpec::EMPTY
        },
        hgetall,
    ),
    Command::new(
        CommandSpec {
            name: "hgetdel",
            arity: -5,
            flags: Flags::WRITE.and(Flags::FAST),
            categories: Acl::HASH,
            keys: &[KeySpec::range(
                Key::RW.and(Key::ACCESS).and(Key::DELETE),
                1,
                0,
                1,
            )],
            group: Group::Hash,
            since: "9.1.0",
            complexity: "O(N) where N is the number of fields to be retrieved and deleted.",
            summary: "Returns the values of one or more fields and deletes them from a hash.",
            args: "key:key FIELDS={numfields:int#0 field...}<fields>",
            ..CommandSpec::EMPTY
        },
        hgetdel,
    ),
    Command::new(
        CommandSpec {
            name: "hincrby",
            arity: 4,
            flags: Flags::WRITE.and(Flags::DENYOOM).and(Flags::FAST),
            categories: Acl::HASH,
            keys: &[KeySpec::range(
                Key::RW.and(Key::ACCESS).and(Key::UPDATE),
                1,
                0,
                1,
            )],
            group: Group::Hash,
            since: "2.0.0",
            complexity: "O(1)",
            summary: "Increments the integer value of a field in a hash by a number. Uses 0 as initial value if the field doesn't exist.",
            args: "key:key field increment:int",
            ..CommandSpec::EMPTY
        },
        hincrby,
    ),
    Command::new(
        CommandSpec {
            name: "hincrbyfloat",
            arity: 4,
            flags: Flags::WRITE.and(Flags::DENYOOM).and(Flags::FAST),
            categories: Acl::HASH,
            keys: &[KeySpec::range(
                Key::RW.and(Key::ACCESS).and(Key::UPDATE),
                1,
                0,
                1,
            )],
            group: Group::Hash,
            since: "2.6.0",
            complexity: "O(1)",
            summary: "Increments the floating point value of a field by a number. Uses 0 as initial value if the field doesn't exist.",
            args: "key:key field increment:double",
            ..CommandSpec::EMPTY
        },
        hincrbyfloat,
    ),
    Command::new(
        CommandSpec {
            name: "hkeys",
            arity: 2,
            flags: Flags::READONLY,
            categories: Acl::HASH,
            keys: &[KeySpec::range(Key::RO.and(Key::ACCESS), 1, 0, 1)],
            group: Group::Hash,
            since: "2.0.0",
            complexity: "O(N) where N is the size of the hash.",
            summary: "Returns all fields in a hash.",
            args: "key:key",
            tips: &["nondeterministic_output_order"],
            ..CommandSpec::EMPTY
        },
        hkeys,
    ),
    Command::new(
        CommandSpec {
            name: "hlen",
            arity: 2,
            flags: Flags::READONLY.and(Flags::FAST),
            categories: Acl::HASH,
            keys: &[KeySpec::range(Key::RO, 1, 0, 1)],
            group: Group::Hash,
            since: "2.0.0",
            complexity: "O(1)",
            summary: "Returns the number of fields in a hash.",
            args: "key:key",
            ..CommandSpec::EMPTY
        },
        hlen,
    ),
    Command::new(
        CommandSpec {
            name: "hmget",
            arity: -3,
            flags: Flags::READONLY.and(Flags::FAST),
            categories: Acl::HASH,
            keys: &[KeySpec::range(Key::RO.and(Key::ACCESS), 1, 0, 1)],
            group: Group::Hash,
            since: "2.0.0",
            complexity: "O(N) where N is the number of fields being requested.",
            summary: "Returns the values of all fields in a hash.",
            args: "key:key field...",
            ..CommandSpec::EMPTY
        },
        hmget,
    ),
    Command::new(
        CommandSpec {
            name: "hmset",
            arity: -4,
            flags: Flags::WRITE.and(Flags::DENYOOM).and(Flags::FAST),
            categories: Acl::HASH,
            keys: &[KeySpec::range(Key::RW.and(Key::UPDATE), 1, 0, 1)],
            group: Group::Hash,
            since: "2.0.0",
            complexity: "O(N) where N is the number of fields being set.",
            summary: "Sets the values of multiple fields.",
            args: "key:key {field value}<data>...",
            ..CommandSpec::EMPTY
        },
        hmset,
    ),
    Command::new(
        CommandSpec {
            name: "hrandfield",
            arity: -2,
            flags: Flags::READONLY,
            categories: Acl::HASH,
            keys: &[KeySpec::range(Key::RO.and(Key::ACCESS), 1, 0, 1)],
            group: Group::Hash,
            since: "6.2.0",
            complexity: "O(N) where N is the number of fields returned",
            summary: "Returns one or more random fields from a hash.",
            args: "key:key [{count:int [WITHVALUES]}<options>]",
            tips: &["nondeterministic_output"],
            ..CommandSpec::EMPTY
        },
        hrandfield,
    ),
    Command::new(
        CommandSpec {
            name: "hscan",
            arity: -3,
            flags: Flags::READONLY,
            categories: Acl::HASH,
            keys: &[KeySpec::range(Key::RO.and(Key::ACCESS), 1, 0, 1)],
            group: Group::Hash,
            since: "2.8.0",
            complexity: "O(1) for every call. O(N) for a complete iteration, including enough command calls for the cursor to return back to 0. N is the number of elements inside the collection.",
            summary: "Iterates over fields and values of a hash.",
            args: "key:key cursor:int [MATCH=pattern:pattern] [COUNT=count:int] [NOVALUES]",
            tips: &["nondeterministic_output"],
            ..CommandSpec::EMPTY
        },
        hscan,
    ),
    Command::new(
        CommandSpec {
            name: "hset",
            arity: -4,
            flags: Flags::WRITE.and(Flags::DENYOOM).and(Flags::FAST),
            categories: Acl::HASH,
            keys: &[KeySpec::range(Key::RW.and(Key::UPDATE), 1, 0, 1)],
            group: Group::Hash,
            since: "2.0.0",
            complexity: "O(1) for each field/value pair added, so O(N) to add N field/value pairs when the command is called with multiple field/value pairs.",
            summary: "Creates or modifies the value of a field in a hash.",
            args: "key:key {field value}<data>...",
            history: &[("4.0.0", "Accepts multiple `field` and `value` arguments.")],
            ..CommandSpec::EMPTY
        },
        hset,
    ),
    Command::new(
        CommandSpec {
            name: "hsetnx",
            arity: 4,
            flags: Flags::WRITE.and(Flags::DENYOOM).and(Flags::FAST),
            categories: Acl::HASH,
            keys: &[KeySpec::range(Key::RW.and(Key::INSERT), 1, 0, 1)],
            group: Group::Hash,
            since: "2.0.0",
            complexity: "O(1)",
            summary: "Sets the value of a field in a hash only when the field doesn't exist.",
            args: "key:key field value",
            ..CommandSpec::EMPTY
        },
        hsetnx,
    ),
    Command::new(
        CommandSpec {
            name: "hstrlen",
            arity: 3,
            flags: Flags::READONLY.and(Flags::FAST),
            categories: Acl::HASH,
            keys: &[KeySpec::range(Key::RO, 1, 0, 1)],
            group: Group::Hash,
            since: "3.2.0",
            complexity: "O(1)",
            summary: "Returns the length of the value of a field.",
            args: "key:key field",
            ..CommandSpec::EMPTY
        },
        hstrlen,
    ),
    Command::new(
        CommandSpec {
            name: "hvals",
            arity: 2,
            flags: Flags::READONLY,
            categories: Acl::HASH,
            keys: &[KeySpec::range(Key::RO.and(Key::ACCESS), 1, 0, 1)],
            group: Group::Hash,
            since: "2.0.0",
            complexity: "O(N) where N is the size of the hash.",
            summary: "Returns all values in a hash.",
            args: "key:key",
            tips: &["nondeterministic_output_order"],
            ..CommandSpec::EMPTY
        },
        hvals,
    ),
];

const HDEL: (EventClass, &str) = (EventClass::HASH, "hdel");

fn hset(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    let created = set_pairs(engine, call, "hset")?;
    call.reply_len(created);
    DONE
}

fn hmset(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    set_pairs(engine, call, "hmset")?;
    call.reply_ok();
    DONE
}

/// Sets the fields of `HSET` and `HMSET`; how many are new.
fn set_pairs(engine: &mut Engine, call: &mut Call<'_>, name: &str) -> Result<usize, CmdError> {
    if !call.argv.len().is_multiple_of(2) {
        return Err(CmdError::wrong_arity(name));
    }
    let (key, pairs) = (call.arg(1), &call.argv[2..]);
    let limits = engine.limits();
    let hash = engine.write_or_create(call, key, HashValue::new)?;
    hash.prepare(pairs.iter().copied(), &limits);
    let created = pairs
        .chunks_exact(2)
        .filter(|pair| hash.set(pair[0], pair[1], &limits))
        .count();
    call.modified(key, pairs.len() as u64 / 2);
    call.notify(EventClass::HASH, "hset", key);
    Ok(created)
}

fn hsetnx(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    let (key, field, value) = (call.arg(1), call.arg(2), call.arg(3));
    let limits = engine.limits();
    let there = engine
        .read::<HashValue>(call, key)?
        .is_some_and(|hash| hash.contains(field));
    if !there {
        let hash = engine.write_or_create(call, key, HashValue::new)?;
        hash.set(field, value, &limits);
        call.modified(key, 1);
        call.notify(EventClass::HASH, "hset", key);
    }
    call.reply_int(i64::from(!there));
    DONE
}

fn hget(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    let hash = engine.read::<HashValue>(call, call.arg(1))?;
    reply_field(call, hash, call.arg(2));
    DONE
}

fn hmget(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    let hash = engine.read::<HashValue>(call, call.arg(1))?;
    call.reply_array(call.argv.len() - 2);
    for field in &call.argv[2..] {
        reply_field(call, hash, field);
    }
    DONE
}

/// Answers a field's value, or null.
fn reply_field(call: &mut Call<'_>, hash: Option<&HashValue>, field: &[u8]) {
    match hash.and_then(|hash| hash.get(field)) {
        Some(value) => call.reply_bulk(value.bytes(&mut None)),
        None => call.reply_null(),
    }
}

fn hgetall(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    let hash = engine.read::<HashValue>(call, call.arg(1))?;
    call.reply_map(hash.map_or(0, HashValue::len));
    for (field, value) in hash.into_iter().flat_map(HashValue::iter) {
        call.reply_bulk(field.bytes(&mut None));
        call.reply_bulk(value.bytes(&mut None));
    }
    DONE
}

fn hkeys(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    let hash = engine.read::<HashValue>(call, call.arg(1))?;
    call.reply_array(hash.map_or(0, HashValue::len));
    for (field, _) in hash.into_iter().flat_map(HashValue::iter) {
        call.reply_bulk(field.bytes(&mut None));
    }
    DONE
}

fn hvals(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    let hash = engine.read::<HashValue>(call, call.arg(1))?;
    call.reply_array(hash.map_or(0, HashValue::len));
    for (_, value) in hash.into_iter().flat_map(HashValue::iter) {
        call.reply_bulk(value.bytes(&mut None));
    }
    DONE
}

fn hlen(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    let hash = engine.read::<HashValue>(call, call.arg(1))?;
    call.reply_len(hash.map_or(0, HashValue::len));
    DONE
}

fn hexists(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    let hash = engine.read::<HashValue>(call, call.arg(1))?;
    call.reply_int(i64::from(hash.is_some_and(|h| h.contains(call.arg(2)))));
    DONE
}

fn hstrlen(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    let hash = engine.read::<HashValue>(call, call.arg(1))?;
    let value = hash.and_then(|h| h.get(call.arg(2)));
    call.reply_len(value.map_or(0, |v| v.byte_len()));
    DONE
}

fn hdel(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    let key = call.arg(1);
    let Some(hash) = engine.write::<HashValue>(call, key)? else {
        call.reply_int(0);
        return DONE;
    };
    let mut removed = 0;
    for field in &call.argv[2..] {
        removed += usize::from(hash.remove(field));
        if hash.is_empty() {
            break;
        }
    }
    if removed > 0 {
        let empty = hash.is_empty();
        engine.removed_from(call, key, HDEL, empty, removed as u64);
    }
    call.reply_len(removed);
    DONE
}

fn hgetdel(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    let key = call.arg(1);
    if !call.arg_is(2, "FIELDS") {
        return Err(CmdError::SYNTAX);
    }
    let fields = &call.argv[4..];
    if call.int_arg(3)? != fields.len() as i64 {
        return Err(CmdError::Static(
            "ERR numfields should be greater than 0 and match the provided number of fields",
        ));
    }
    let mut hash = engine.write::<HashValue>(call, key)?;
    let mut removed = 0;
    call.reply_array(fields.len());
    for field in fields {
        reply_field(call, hash.as_deref(), field);
        removed += u64::from(hash.as_deref_mut().is_some_and(|h| h.remove(field)));
    }
    if removed > 0 {
        let empty = hash.is_some_and(|h| h.is_empty());
        engine.removed_from(call, key, HDEL, empty, removed);
    }
    DONE
}

fn hincrby(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    let (key, field) = (call.arg(1), call.arg(2));
    let increment = call.int_arg(3)?;
    let limits = engine.limits();
    let old = match engine
        .read::<HashValue>(call, key)?
        .and_then(|h| h.get(field))
    {
        None => 0,
        Some(Elem::Int(v)) => v,
        Some(Elem::Str(s)) => {
            parse_i64(s).ok_or(CmdError::Static("ERR hash value is not an integer"))?
        }
    };
    let new = old.checked_add(increment).ok_or(CmdError::Static(
        "ERR increment or decrement would overflow",
    ))?;
    let hash = engine.write_or_create(call, key, HashValue::new)?;
    hash.set(field, format_i64(new).as_bytes(), &limits);
    call.modified(key, 1);
    call.notify(EventClass::HASH, "hincrby", key);
    call.reply_int(new);
    DONE
}

fn float_error(e: DecimalError) -> CmdError {
    match e {
        DecimalError::BadValue => CmdError::Static("ERR hash value is not a float"),
        DecimalError::BadIncrement => CmdError::NOT_FLOAT,
        DecimalError::InfiniteIncrement => CmdError::Static("ERR value is NaN or Infinity"),
        DecimalError::InfiniteSum => {
            CmdError::Static("ERR increment would produce NaN or Infinity")
        }
    }
}

fn hincrbyfloat(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    let (key, field, increment) = (call.arg(1), call.arg(2), call.arg(3));
    decimal::check_increment(increment).map_err(float_error)?;
    let limits = engine.limits();
    let old = engine
        .read::<HashValue>(call, key)?
        .and_then(|h| h.get(field))
        .map_or_else(|| b"0".to_vec(), |v| v.to_vec());
    let new = decimal::add(&old, increment).map_err(float_error)?;
    let hash = engine.write_or_create(call, key, HashValue::new)?;
    hash.set(field, new.as_bytes(), &limits);
    call.modified(key, 1);
    call.notify(EventClass::HASH, "hincrbyfloat", key);
    // The sum itself, so that copies need not agree on how to add.
    call.rewrite(&[b"HSET", key, field, new.as_bytes()]);
    call.reply_bulk(new.as_bytes());
    DONE
}

fn hrandfield(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    let reply_max = engine.config().reply_bytes_max;
    let key = call.arg(1);
    if call.argv.len() == 2 {
        match engine.read::<HashValue>(call, key)? {
            None => call.reply_null(),
            Some(hash) => {
                let (field, _) = hash
                    .at(call.rng.index(hash.len()))
                    .ok_or(CmdError::NO_SUCH_KEY)?;
                call.reply_bulk(field.bytes(&mut None));
            }
        }
        return DONE;
    }
    let (n, repeat) = args::draws(call, 2)?;
    let with_values = match call.argv.len() {
        3 => false,
        4 if call.arg_is(3, "WITHVALUES") => true,
        _ => return Err(CmdError::SYNTAX),
    };
    if with_values && n > i64::MAX as usize / 2 {
        return Err(CmdError::Static("ERR value is out of range"));
    }
    let Some(hash) = engine.read::<HashValue>(call, key)? else {
        call.reply_array(0);
        return DONE;
    };
    // A negative count draws with repetition, in random order.
    let picks = if repeat {
        None
    } else {
        Some(args::distinct_indexes(call, hash.len(), n))
    };
    let total = picks.as_ref().map_or(n, Vec::len);
    let flat = with_values && call.proto == Proto::Resp2;
    call.reply_array(if flat { total * 2 } else { total });
    for i in 0..total {
        if call.reply.len() > reply_max {
            return Err(CmdError::REPLY_TOO_LONG);
        }
        let index = match &picks {
            Some(picks) => picks[i],
            None => call.rng.index(hash.len()),
        };
        let (field, value) = hash.at(index).ok_or(CmdError::NO_SUCH_KEY)?;
        if with_values && !flat {
            call.reply_array(2);
        }
        call.reply_bulk(field.bytes(&mut None));
        if with_values {
            call.reply_bulk(value.bytes(&mut None));
        }
    }
    DONE
}

fn hscan(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    let cursor = args::scan_cursor(call, 2)?;
    let Some(hash) = engine.read::<HashValue>(call, call.arg(1))? else {
        args::reply_empty_scan(call);
        return DONE;
    };
    let scan = ScanArgs::parse(call, Some("NOVALUES"))?;
    scan.run(call, cursor, |cursor, report| {
        hash.scan(cursor, |field, value| {
            report(field.bytes(&mut None), Some(value.bytes(&mut None)));
        })
    });
    DONE
}
