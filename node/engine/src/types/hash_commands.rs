//! The commands of hashes, but for those that are about the expiry of fields.

use std::collections::BTreeSet;

use super::HashValue;
use super::hash_value::{ALL_FIELDS, Field, FieldSet, FieldTtl, NO_EXPIRY};
use super::listpack::Elem;
use crate::args::{self, ScanArgs};
use crate::call::Mode;
use crate::decimal::{self, DecimalError};
use crate::events::EventClass;
use crate::spec::{Acl, Command, CommandSpec, Flags, Group, Key, KeySpec};
use crate::{Call, CmdError, CmdResult, DONE, Engine};
use holdfast_resp::{Proto, format_i64, parse_i64, write};

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

/// In place of the time for the methods of [`HashValue`]: whoever applies effects never looks at the clock.
pub(crate) fn fields_now(call: &Call<'_>) -> u64 {
    match call.mode {
        Mode::Apply => ALL_FIELDS,
        Mode::Primary | Mode::Replica => call.now_ms,
    }
}

/// Has the keyspace list a hash by the time at which its first field is due, if the hash wanted that.
pub(super) fn note_if(engine: &mut Engine, call: &Call<'_>, key: &[u8], wanted: bool) {
    if wanted {
        engine.note_fields(call, key);
    }
}

/// Reports that fields were set whose time had passed: they have expired just before.
pub(super) fn report_overwritten(
    engine: &mut Engine,
    call: &mut Call<'_>,
    key: &[u8],
    expired: usize,
) {
    if expired > 0 {
        engine.stats.expired_fields += expired as u64;
        call.notify(EventClass::HASH, "hexpired", key);
    }
}

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
    let (limits, now) = (engine.limits(), fields_now(call));
    let hash = engine.write_or_create(call, key, HashValue::new)?;
    hash.prepare(pairs.iter().copied(), &limits);
    let (mut created, mut expired) = (0, 0);
    for pair in pairs.chunks_exact(2) {
        let set = hash.put(pair[0], pair[1], FieldTtl::Clear, now, &limits);
        created += usize::from(set != FieldSet::Replaced);
        expired += usize::from(set == FieldSet::ReplacedExpired);
    }
    let wanted = hash.wants_note();
    note_if(engine, call, key, wanted);
    call.modified(key, pairs.len() as u64 / 2);
    report_overwritten(engine, call, key, expired);
    call.notify(EventClass::HASH, "hset", key);
    Ok(created)
}

fn hsetnx(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    let (key, field, value) = (call.arg(1), call.arg(2), call.arg(3));
    let (limits, now) = (engine.limits(), fields_now(call));
    let there = engine
        .look::<HashValue>(call, key)?
        .is_some_and(|hash| hash.contains(field, now));
    if !there {
        let hash = engine.write_or_create(call, key, HashValue::new)?;
        let expires = hash.expiring_len() > 0;
        let set = hash.put(field, value, FieldTtl::Clear, now, &limits);
        let wanted = hash.wants_note();
        note_if(engine, call, key, wanted);
        call.modified(key, 1);
        report_overwritten(
            engine,
            call,
            key,
            usize::from(set == FieldSet::ReplacedExpired),
        );
        call.notify(EventClass::HASH, "hset", key);
        if expires {
            // A copy may still have the field.
            call.rewrite(&[b"HSET", key, field, value]);
        }
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
pub(super) fn reply_field(call: &mut Call<'_>, hash: Option<&HashValue>, field: &[u8]) {
    let now = fields_now(call);
    match hash.and_then(|hash| hash.get(field, now)) {
        Some(value) => call.reply_bulk(value.bytes(&mut None)),
        None => call.reply_null(),
    }
}

/// Number of fields whose time has not passed.
fn live_len(hash: &HashValue, now: u64) -> usize {
    if hash.expiring_len() == 0 {
        hash.len()
    } else {
        hash.live(now).count()
    }
}

fn hgetall(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    let hash = engine.read::<HashValue>(call, call.arg(1))?;
    let now = fields_now(call);
    call.reply_map(hash.map_or(0, |hash| live_len(hash, now)));
    for (field, value) in hash.into_iter().flat_map(|hash| hash.live(now)) {
        call.reply_bulk(field.bytes(&mut None));
        call.reply_bulk(value.bytes(&mut None));
    }
    DONE
}

fn hkeys(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    let hash = engine.read::<HashValue>(call, call.arg(1))?;
    let now = fields_now(call);
    call.reply_array(hash.map_or(0, |hash| live_len(hash, now)));
    for (field, _) in hash.into_iter().flat_map(|hash| hash.live(now)) {
        call.reply_bulk(field.bytes(&mut None));
    }
    DONE
}

fn hvals(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    let hash = engine.read::<HashValue>(call, call.arg(1))?;
    let now = fields_now(call);
    call.reply_array(hash.map_or(0, |hash| live_len(hash, now)));
    for (_, value) in hash.into_iter().flat_map(|hash| hash.live(now)) {
        call.reply_bulk(value.bytes(&mut None));
    }
    DONE
}

fn hlen(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    // Counts fields whose time has passed, as Valkey does.
    let hash = engine.read::<HashValue>(call, call.arg(1))?;
    call.reply_len(hash.map_or(0, HashValue::len));
    DONE
}

fn hexists(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    let hash = engine.read::<HashValue>(call, call.arg(1))?;
    let now = fields_now(call);
    call.reply_int(i64::from(
        hash.is_some_and(|h| h.contains(call.arg(2), now)),
    ));
    DONE
}

fn hstrlen(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    let hash = engine.read::<HashValue>(call, call.arg(1))?;
    let value = hash.and_then(|h| h.get(call.arg(2), fields_now(call)));
    call.reply_len(value.map_or(0, |v| v.byte_len()));
    DONE
}

/// Whether one of these fields is there, but its time has passed: copies, which do not look at the clock, would find it.
pub(super) fn names_expired(hash: &HashValue, fields: &[&[u8]], now: u64) -> bool {
    hash.expiring_len() > 0
        && fields.iter().any(|field| {
            hash.expiry(field, ALL_FIELDS)
                .is_some_and(|expire_at_ms| expire_at_ms < now)
        })
}

/// What is left to do when `HDEL` or `HGETDEL` has removed these fields. `exactly`: copies are told to remove these and no others.
fn report_removed(
    engine: &mut Engine,
    call: &mut Call<'_>,
    key: &[u8],
    removed: &[&[u8]],
    is_empty: bool,
    exactly: bool,
) {
    if removed.is_empty() {
        return;
    }
    if exactly {
        let mut argv: Vec<&[u8]> = vec![b"HDEL", key];
        argv.extend(removed);
        call.rewrite(&argv);
    }
    engine.removed_from(
        call,
        key,
        (EventClass::HASH, "hdel"),
        is_empty,
        removed.len() as u64,
    );
}

fn hdel(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    let (key, fields) = (call.arg(1), &call.argv[2..]);
    let now = fields_now(call);
    let Some(hash) = engine.write::<HashValue>(call, key)? else {
        call.reply_int(0);
        return DONE;
    };
    let exactly = names_expired(hash, fields, now);
    let removed: Vec<&[u8]> = fields
        .iter()
        .copied()
        .filter(|field| hash.remove(field, now))
        .collect();
    let (is_empty, wanted) = (hash.is_empty(), hash.wants_note());
    note_if(engine, call, key, wanted);
    report_removed(engine, call, key, &removed, is_empty, exactly);
    call.reply_len(removed.len());
    DONE
}

fn hgetdel(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    let key = call.arg(1);
    let fields = fields_at(call, 2)?;
    let now = fields_now(call);
    let mut hash = engine.write::<HashValue>(call, key)?;
    let exactly = hash
        .as_deref()
        .is_some_and(|hash| names_expired(hash, fields, now));
    let mut removed: Vec<&[u8]> = Vec::new();
    call.reply_array(fields.len());
    for field in fields {
        reply_field(call, hash.as_deref(), field);
        if hash.as_deref_mut().is_some_and(|h| h.remove(field, now)) {
            removed.push(field);
        }
    }
    let (is_empty, wanted) = hash.map_or((false, false), |h| (h.is_empty(), h.wants_note()));
    note_if(engine, call, key, wanted);
    report_removed(engine, call, key, &removed, is_empty, exactly);
    DONE
}

/// The word `FIELDS` at an index, the number of fields, and so many fields: all that is left.
///
/// # Errors
/// A syntax error unless the word is there; an error of its own when the number is wrong.
pub(super) fn fields_at<'a>(call: &Call<'a>, at: usize) -> Result<&'a [&'a [u8]], CmdError> {
    if !call.arg_is(at, "FIELDS") {
        return Err(CmdError::SYNTAX);
    }
    let fields = call.argv.get(at + 2..).unwrap_or_default();
    match call.int_arg(at + 1)? {
        n if n > 0 && n == fields.len() as i64 => Ok(fields),
        _ => Err(WRONG_NUMFIELDS),
    }
}

/// The number of fields does not fit the arguments.
pub(super) const WRONG_NUMFIELDS: CmdError = CmdError::Static(
    "ERR numfields should be greater than 0 and match the provided number of fields",
);

/// A field that is to get a value computed from the one it has.
struct Old {
    value: Option<Vec<u8>>,
    expire_at_ms: u64,
    /// Whether any field of the hash expires: then copies are sent the result.
    expires: bool,
}

fn read_old(engine: &mut Engine, call: &mut Call<'_>) -> Result<Old, CmdError> {
    let (field, now) = (call.arg(2), fields_now(call));
    let hash = engine.look::<HashValue>(call, call.arg(1))?;
    Ok(Old {
        value: hash.and_then(|h| h.get(field, now)).map(|v| v.to_vec()),
        expire_at_ms: hash
            .filter(|h| h.expiring_len() > 0)
            .and_then(|h| h.expiry(field, now))
            .unwrap_or(NO_EXPIRY),
        expires: hash.is_some_and(|h| h.expiring_len() > 0),
    })
}

/// Sets the field of `HINCRBY` or `HINCRBYFLOAT`; its expiry stays. `always` has copies sent the result in any case.
fn write_new(
    engine: &mut Engine,
    call: &mut Call<'_>,
    old: &Old,
    new: &[u8],
    event: &'static str,
    always: bool,
) -> Result<(), CmdError> {
    let (key, field) = (call.arg(1), call.arg(2));
    let (limits, now) = (engine.limits(), fields_now(call));
    let ttl = match old.expire_at_ms {
        NO_EXPIRY => FieldTtl::Clear,
        at => FieldTtl::At(at),
    };
    let hash = engine.write_or_create(call, key, HashValue::new)?;
    let set = hash.put(field, new, ttl, now, &limits);
    let wanted = hash.wants_note();
    note_if(engine, call, key, wanted);
    call.modified(key, 1);
    report_overwritten(
        engine,
        call,
        key,
        usize::from(set == FieldSet::ReplacedExpired),
    );
    call.notify(EventClass::HASH, event, key);
    if let FieldTtl::At(at) = ttl {
        let at = format_i64(at as i64);
        call.rewrite(&[
            b"HSETEX",
            key,
            b"PXAT",
            at.as_bytes(),
            b"FIELDS",
            b"1",
            field,
            new,
        ]);
    } else if always || old.expires {
        call.rewrite(&[b"HSET", key, field, new]);
    }
    Ok(())
}

fn hincrby(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    let increment = call.int_arg(3)?;
    let old = read_old(engine, call)?;
    let value = match &old.value {
        None => 0,
        Some(text) => {
            parse_i64(text).ok_or(CmdError::Static("ERR hash value is not an integer"))?
        }
    };
    let new = value.checked_add(increment).ok_or(CmdError::Static(
        "ERR increment or decrement would overflow",
    ))?;
    write_new(
        engine,
        call,
        &old,
        format_i64(new).as_bytes(),
        "hincrby",
        false,
    )?;
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
    let increment = call.arg(3);
    decimal::check_increment(increment).map_err(float_error)?;
    let old = read_old(engine, call)?;
    let value = old.value.as_deref().unwrap_or(b"0");
    let new = decimal::add(value, increment).map_err(float_error)?;
    // Copies are sent the sum itself, so that they need not agree on how to add.
    write_new(engine, call, &old, new.as_bytes(), "hincrbyfloat", true)?;
    call.reply_bulk(new.as_bytes());
    DONE
}

/// How often a field whose time has passed is drawn before giving up.
const RANDOM_TRIES: usize = 100;

/// A field whose time has not passed, drawn at random. Gives up where there are hardly any.
fn draw<'h>(hash: &'h HashValue, call: &mut Call<'_>) -> Option<Field<'h>> {
    let now = fields_now(call);
    (0..RANDOM_TRIES)
        .filter_map(|_| hash.random(call.rng))
        .find(|(_, _, expire_at_ms)| *expire_at_ms >= now)
}

/// So many distinct fields, or all if there are fewer.
fn draw_distinct<'h>(hash: &'h HashValue, call: &mut Call<'_>, n: usize) -> Vec<Field<'h>> {
    let now = fields_now(call);
    let live = || hash.iter().filter(|(_, _, at)| *at >= now);
    let size = hash.len();
    if n >= size {
        return live().collect();
    }
    if let HashValue::Pack(lp) = hash {
        let picks = args::distinct_indexes(call, size, n);
        return picks
            .into_iter()
            .filter_map(|index| HashValue::pack_at(lp, index))
            .collect();
    }
    if n > size / 3 {
        // Nearly all: take those that are left over out of the whole.
        let mut all: Vec<Field<'h>> = live().collect();
        for i in 0..n.min(all.len()) {
            let other = i + call.rng.index(all.len() - i);
            all.swap(i, other);
        }
        all.truncate(n);
        return all;
    }
    let mut seen = BTreeSet::new();
    let mut picks = Vec::new();
    for _ in 0..n.saturating_mul(10) {
        if picks.len() == n {
            break;
        }
        let Some(field) = draw(hash, call) else {
            break;
        };
        if let (Elem::Str(name), ..) = field
            && seen.insert(name)
        {
            picks.push(field);
        }
    }
    picks
}

fn hrandfield(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    let reply_max = engine.config().reply_bytes_max;
    let key = call.arg(1);
    if call.argv.len() == 2 {
        let hash = engine.read::<HashValue>(call, key)?;
        match hash.and_then(|hash| draw(hash, call)) {
            None => call.reply_null(),
            Some((field, ..)) => call.reply_bulk(field.bytes(&mut None)),
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
    let flat = with_values && call.proto == Proto::Resp2;
    let mut body = Vec::new();
    let mut add = |(field, value, _): Field<'_>| {
        if with_values && !flat {
            write::array(&mut body, 2);
        }
        write::bulk(&mut body, field.bytes(&mut None));
        if with_values {
            write::bulk(&mut body, value.bytes(&mut None));
        }
        body.len() <= reply_max
    };
    let mut total = 0;
    let fits = if repeat {
        // Drawn with repetition, in random order.
        let mut fits = true;
        while fits && total < n {
            let Some(field) = draw(hash, call) else {
                break;
            };
            fits = add(field);
            total += 1;
        }
        fits
    } else {
        let picks = draw_distinct(hash, call, n);
        total = picks.len();
        picks.into_iter().all(add)
    };
    if !fits {
        return Err(CmdError::REPLY_TOO_LONG);
    }
    call.reply_array(if flat { total * 2 } else { total });
    call.reply.extend_from_slice(&body);
    DONE
}

fn hscan(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    let cursor = args::scan_cursor(call, 2)?;
    let Some(hash) = engine.read::<HashValue>(call, call.arg(1))? else {
        args::reply_empty_scan(call);
        return DONE;
    };
    let scan = ScanArgs::parse(call, Some("NOVALUES"))?;
    let now = fields_now(call);
    scan.run(call, cursor, |cursor, report| {
        hash.scan(cursor, now, |field, value| {
            report(field.bytes(&mut None), Some(value.bytes(&mut None)));
        })
    });
    DONE
}
