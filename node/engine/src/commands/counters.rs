//! Strings as numbers: `INCR` and its kin.

use crate::call::{Call, CmdError, CmdResult, DONE};
use crate::decimal::{self, DecimalError};
use crate::engine::{Engine, Ttl};
use crate::events::EventClass;
use crate::evict;
use crate::spec::{Acl, Command, CommandSpec, Flags, Group, Key, KeySpec};
use crate::value::{StrRef, ValueRef};
use holdfast_resp::{format_i64, parse_i64};

fn add_int(engine: &mut Engine, call: &mut Call<'_>, increment: i64) -> CmdResult {
    let key = call.arg(1);
    let place = engine.place(call, key);
    let overflow = CmdError::Static("ERR increment or decrement would overflow");
    let how = engine.config.eviction;
    let sum = match engine.live_for_change(call, place, key) {
        Some(mut entry) => {
            let old = match entry.value() {
                ValueRef::Str(StrRef::Int(value)) => value,
                ValueRef::Str(StrRef::Bytes(bytes)) => {
                    parse_i64(bytes).ok_or(CmdError::NOT_INTEGER)?
                }
                _ => return Err(CmdError::WRONG_TYPE),
            };
            let sum = old.checked_add(increment).ok_or(overflow)?;
            evict::accessed(&how, call, &mut entry);
            entry.set_int(sum);
            sum
        }
        None => {
            let text = format_i64(increment);
            engine.set_string(call, place, key, text.as_bytes(), Ttl::Clear);
            increment
        }
    };
    call.modified(key, 1);
    call.notify(EventClass::STRING, "incrby", key);
    call.reply_int(sum);
    DONE
}

fn incr(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    add_int(engine, call, 1)
}

fn decr(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    add_int(engine, call, -1)
}

fn incrby(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    let by = call.int_arg(2)?;
    add_int(engine, call, by)
}

fn decrby(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    let by = call
        .int_arg(2)?
        .checked_neg()
        .ok_or(CmdError::Static("ERR decrement would overflow"))?;
    add_int(engine, call, by)
}

fn incrbyfloat(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    let key = call.arg(1);
    let place = engine.place(call, key);
    let old = match engine.live(call, place, key) {
        None => None,
        Some(entry) => Some(entry.as_str().ok_or(CmdError::WRONG_TYPE)?.text()),
    };
    let sum =
        decimal::add(old.as_deref().unwrap_or(b"0"), call.arg(2)).map_err(|error| match error {
            DecimalError::BadValue | DecimalError::BadIncrement => CmdError::NOT_FLOAT,
            DecimalError::InfiniteIncrement | DecimalError::InfiniteSum => {
                CmdError::Static("ERR increment would produce NaN or Infinity")
            }
        })?;
    engine.set_string(call, place, key, sum.as_bytes(), Ttl::Keep);
    call.modified(key, 1);
    call.notify(EventClass::STRING, "incrbyfloat", key);
    call.rewrite(&[b"SET", key, sum.as_bytes(), b"KEEPTTL"]);
    call.reply_bulk(sum.as_bytes());
    DONE
}

/// The rows.
pub const COMMANDS: &[Command] = &[
    Command::new(
        CommandSpec {
            name: "decr",
            arity: 2,
            flags: Flags::WRITE.and(Flags::DENYOOM).and(Flags::FAST),
            categories: Acl::STRING,
            keys: &[KeySpec::range(
                Key::RW.and(Key::ACCESS).and(Key::UPDATE),
                1,
                0,
                1,
            )],
            group: Group::String,
            since: "1.0.0",
            complexity: "O(1)",
            summary: "Decrements the integer value of a key by one. Uses 0 as initial value if the key doesn't exist.",
            args: "key:key",
            ..CommandSpec::EMPTY
        },
        decr,
    ),
    Command::new(
        CommandSpec {
            name: "decrby",
            arity: 3,
            flags: Flags::WRITE.and(Flags::DENYOOM).and(Flags::FAST),
            categories: Acl::STRING,
            keys: &[KeySpec::range(
                Key::RW.and(Key::ACCESS).and(Key::UPDATE),
                1,
                0,
                1,
            )],
            group: Group::String,
            since: "1.0.0",
            complexity: "O(1)",
            summary: "Decrements the integer value of a key by a number. Uses 0 as initial value if the key doesn't exist.",
            args: "key:key decrement:int",
            ..CommandSpec::EMPTY
        },
        decrby,
    ),
    Command::new(
        CommandSpec {
            name: "incr",
            arity: 2,
            flags: Flags::WRITE.and(Flags::DENYOOM).and(Flags::FAST),
            categories: Acl::STRING,
            keys: &[KeySpec::range(
                Key::RW.and(Key::ACCESS).and(Key::UPDATE),
                1,
                0,
                1,
            )],
            group: Group::String,
            since: "1.0.0",
            complexity: "O(1)",
            summary: "Increments the integer value of a key by one. Uses 0 as initial value if the key doesn't exist.",
            args: "key:key",
            ..CommandSpec::EMPTY
        },
        incr,
    ),
    Command::new(
        CommandSpec {
            name: "incrby",
            arity: 3,
            flags: Flags::WRITE.and(Flags::DENYOOM).and(Flags::FAST),
            categories: Acl::STRING,
            keys: &[KeySpec::range(
                Key::RW.and(Key::ACCESS).and(Key::UPDATE),
                1,
                0,
                1,
            )],
            group: Group::String,
            since: "1.0.0",
            complexity: "O(1)",
            summary: "Increments the integer value of a key by a number. Uses 0 as initial value if the key doesn't exist.",
            args: "key:key increment:int",
            ..CommandSpec::EMPTY
        },
        incrby,
    ),
    Command::new(
        CommandSpec {
            name: "incrbyfloat",
            arity: 3,
            flags: Flags::WRITE.and(Flags::DENYOOM).and(Flags::FAST),
            categories: Acl::STRING,
            keys: &[KeySpec::range(
                Key::RW.and(Key::ACCESS).and(Key::UPDATE),
                1,
                0,
                1,
            )],
            group: Group::String,
            since: "2.6.0",
            complexity: "O(1)",
            summary: "Increments the floating point value of a key by a number. Uses 0 as initial value if the key doesn't exist.",
            args: "key:key increment:double",
            ..CommandSpec::EMPTY
        },
        incrbyfloat,
    ),
];
