//! When fields of hashes expire: `HEXPIRE` and its kin, `HTTL` and its kin, `HPERSIST`.

use super::HashValue;
use super::hash_commands::{WRONG_NUMFIELDS, fields_at, fields_now, names_expired, note_if};
use super::hash_value::NO_EXPIRY;
use crate::commands::expire::{ExpireIf, expire_options, has_passed, time_left};
use crate::events::EventClass;
use crate::spec::{Acl, Command, CommandSpec, Flags, Group, Key, KeySpec};
use crate::{Call, CmdError, CmdResult, DONE, Engine};
use holdfast_resp::format_i64;

/// The answer for a field whose expiry has changed.
const CHANGED: i64 = 1;
/// The answer for a field whose expiry did not fulfil the condition.
const REFUSED: i64 = 0;
/// The answer for a field that has no expiry.
const NONE: i64 = -1;
/// The answer for a field that is not there.
const ABSENT: i64 = -2;
/// The answer for a field that was given a time in the past, and deleted.
const DELETED: i64 = 2;

/// The rows.
pub const COMMANDS: &[Command] = &[
    Command::new(
        CommandSpec {
            name: "hexpire",
            arity: -6,
            flags: Flags::WRITE.and(Flags::FAST),
            categories: Acl::HASH,
            keys: &[KeySpec::range(Key::RW.and(Key::UPDATE), 1, 0, 1)],
            group: Group::Hash,
            since: "9.0.0",
            complexity: "O(N) where N is the number of specified fields.",
            summary: "Sets expiry time on hash fields.",
            args: "key:key seconds:int [(NX | XX | GT | LT)<condition>] FIELDS={numfields:int field...}<fields>",
            ..CommandSpec::EMPTY
        },
        hexpire,
    ),
    Command::new(
        CommandSpec {
            name: "hpexpire",
            arity: -6,
            flags: Flags::WRITE.and(Flags::FAST),
            categories: Acl::HASH,
            keys: &[KeySpec::range(Key::RW.and(Key::UPDATE), 1, 0, 1)],
            group: Group::Hash,
            since: "9.0.0",
            complexity: "O(N) where N is the number of specified fields.",
            summary: "Sets expiry time on hash object.",
            args: "key:key milliseconds:int [(NX | XX | GT | LT)<condition>@9.0.0] FIELDS={numfields:int#0 field...}<fields>",
            ..CommandSpec::EMPTY
        },
        hpexpire,
    ),
    Command::new(
        CommandSpec {
            name: "hexpireat",
            arity: -6,
            flags: Flags::WRITE.and(Flags::FAST),
            categories: Acl::HASH,
            keys: &[KeySpec::range(Key::RW.and(Key::UPDATE), 1, 0, 1)],
            group: Group::Hash,
            since: "9.0.0",
            complexity: "O(N) where N is the number of specified fields.",
            summary: "Sets expiry time on hash fields.",
            args: "key:key unix-time-seconds:int [(NX | XX | GT | LT)<condition>@9.0.0] FIELDS={numfields:int#0 field...}<fields>",
            ..CommandSpec::EMPTY
        },
        hexpireat,
    ),
    Command::new(
        CommandSpec {
            name: "hpexpireat",
            arity: -6,
            flags: Flags::WRITE.and(Flags::FAST),
            categories: Acl::HASH,
            keys: &[KeySpec::range(Key::RW.and(Key::UPDATE), 1, 0, 1)],
            group: Group::Hash,
            since: "9.0.0",
            complexity: "O(N) where N is the number of specified fields.",
            summary: "Sets expiration time on hash field.",
            args: "key:key unix-time-milliseconds:int [(NX | XX | GT | LT)<condition>@9.0.0] FIELDS={numfields:int#0 field...}<fields>",
            ..CommandSpec::EMPTY
        },
        hpexpireat,
    ),
    Command::new(
        CommandSpec {
            name: "httl",
            arity: -5,
            flags: Flags::READONLY.and(Flags::FAST),
            categories: Acl::HASH,
            keys: &[KeySpec::range(Key::RO.and(Key::ACCESS), 1, 0, 1)],
            group: Group::Hash,
            since: "9.0.0",
            complexity: "O(N) where N is the number of specified fields.",
            summary: "Returns the remaining time to live (in seconds) of a hash key's field(s) that have an associated expiration.",
            args: "key:key FIELDS={numfields:int#0 field...}<fields>",
            ..CommandSpec::EMPTY
        },
        httl,
    ),
    Command::new(
        CommandSpec {
            name: "hpttl",
            arity: -5,
            flags: Flags::READONLY.and(Flags::FAST),
            categories: Acl::HASH,
            keys: &[KeySpec::range(Key::RO.and(Key::ACCESS), 1, 0, 1)],
            group: Group::Hash,
            since: "9.0.0",
            complexity: "O(N) where N is the number of specified fields.",
            summary: "Returns the remaining time to live in milliseconds of a hash key's field(s) that have an associated expiration.",
            args: "key:key FIELDS={numfields:int#0 field...}<fields>",
            ..CommandSpec::EMPTY
        },
        hpttl,
    ),
    Command::new(
        CommandSpec {
            name: "hexpiretime",
            arity: -5,
            flags: Flags::READONLY.and(Flags::FAST),
            categories: Acl::HASH,
            keys: &[KeySpec::range(Key::RO.and(Key::ACCESS), 1, 0, 1)],
            group: Group::Hash,
            since: "9.0.0",
            complexity: "O(N) where N is the number of specified fields.",
            summary: "Returns Unix timestamps in seconds since the epoch at which the given key's field(s) will expire.",
            args: "key:key FIELDS={numfields:int#0 field...}<fields>",
            ..CommandSpec::EMPTY
        },
        hexpiretime,
    ),
    Command::new(
        CommandSpec {
            name: "hpexpiretime",
            arity: -5,
            flags: Flags::READONLY.and(Flags::FAST),
            categories: Acl::HASH,
            keys: &[KeySpec::range(Key::RO.and(Key::ACCESS), 1, 0, 1)],
            group: Group::Hash,
            since: "9.0.0",
            complexity: "O(N) where N is the number of specified fields.",
            summary: "Returns the Unix timestamp in milliseconds since Unix epoch at which the given key's field(s) will expire.",
            args: "key:key FIELDS={numfields:int#0 field...}<fields>",
            ..CommandSpec::EMPTY
        },
        hpexpiretime,
    ),
    Command::new(
        CommandSpec {
            name: "hpersist",
            arity: -5,
            flags: Flags::WRITE.and(Flags::FAST),
            categories: Acl::HASH,
            keys: &[KeySpec::range(Key::RW.and(Key::UPDATE), 1, 0, 1)],
            group: Group::Hash,
            since: "9.0.0",
            complexity: "O(N) where N is the number of specified fields.",
            summary: "Remove the existing expiration on a hash key's field(s).",
            args: "key:key FIELDS={numfields:int#0 field...}<fields>",
            ..CommandSpec::EMPTY
        },
        hpersist,
    ),
];

/// A time as clients give it, in Unix milliseconds. `base_ms` is added to it.
///
/// # Errors
/// When it is no integer, negative, or too large.
pub(super) fn instant(
    call: &Call<'_>,
    index: usize,
    base_ms: u64,
    seconds: bool,
) -> Result<u64, CmdError> {
    let value = call.int_arg(index)?;
    let ms = if seconds {
        value.checked_mul(1000)
    } else {
        Some(value)
    };
    ms.filter(|ms| *ms >= 0)
        .and_then(|ms| ms.checked_add(base_ms as i64))
        .map(|ms| ms as u64)
        .ok_or_else(|| CmdError::invalid_expire(call.arg(0)))
}

/// The index of the word `FIELDS`, looked for from `from` on, if something follows it.
pub(super) fn find_fields(call: &Call<'_>, from: usize) -> Option<usize> {
    (from..call.argv.len().saturating_sub(1)).find(|i| call.arg_is(*i, "FIELDS"))
}

/// Has one field expire at a time; what is answered.
fn expire_field(
    hash: &mut HashValue,
    field: &[u8],
    at: u64,
    wanted: ExpireIf,
    past: bool,
    now: u64,
) -> i64 {
    let Some(current) = hash.expiry(field, now) else {
        return ABSENT;
    };
    if wanted.refuses(Some(current).filter(|at| *at != NO_EXPIRY), at) {
        return REFUSED;
    }
    if past {
        hash.remove(field, now);
        return DELETED;
    }
    hash.set_expiry(field, at);
    CHANGED
}

/// `HEXPIRE` and its kin. `base_ms` is added to the argument.
fn expire_at(engine: &mut Engine, call: &mut Call<'_>, base_ms: u64, seconds: bool) -> CmdResult {
    let key = call.arg(1);
    let word = find_fields(call, 3).ok_or(WRONG_NUMFIELDS)?;
    let wanted = expire_options(call, word)?;
    let fields = fields_at(call, word)?;
    let at = instant(call, 2, base_ms, seconds)?;
    let (now, past) = (fields_now(call), has_passed(call, at));
    let Some(hash) = engine.write::<HashValue>(call, key)? else {
        call.reply_array(fields.len());
        fields.iter().for_each(|_| call.reply_int(ABSENT));
        return DONE;
    };
    // Copies do not look at the clock: they are told of no field that is absent here because its time has passed.
    let exactly = names_expired(hash, fields, now);
    let mut changed: Vec<&[u8]> = Vec::new();
    call.reply_array(fields.len());
    for field in fields {
        let answer = expire_field(hash, field, at, wanted, past, now);
        if matches!(answer, CHANGED | DELETED) {
            changed.push(field);
        }
        call.reply_int(answer);
    }
    let (is_empty, noted) = (hash.is_empty(), hash.wants_note());
    note_if(engine, call, key, noted);
    if changed.is_empty() {
        return DONE;
    }
    if past {
        report_deleted(engine, call, key, &changed, is_empty);
        return DONE;
    }
    if call.fx.enabled() {
        let text = format_i64(at as i64);
        if exactly {
            propagate_fields(call, &[b"HPEXPIREAT", key, text.as_bytes()], &changed);
        } else {
            let mut argv = call.argv.to_vec();
            argv[0] = b"HPEXPIREAT";
            argv[2] = text.as_bytes();
            call.rewrite(&argv);
        }
    }
    call.notify(EventClass::HASH, "hexpire", key);
    call.modified(key, changed.len() as u64);
    DONE
}

/// Propagates, in place of the command, one that names these fields behind `FIELDS`.
pub(super) fn propagate_fields(call: &mut Call<'_>, head: &[&[u8]], fields: &[&[u8]]) {
    let count = format_i64(fields.len() as i64);
    let mut argv = head.to_vec();
    argv.extend([b"FIELDS", count.as_bytes()]);
    argv.extend(fields);
    call.rewrite(&argv);
}

/// Reports that fields were deleted because they were given a time in the past.
pub(super) fn report_deleted(
    engine: &mut Engine,
    call: &mut Call<'_>,
    key: &[u8],
    fields: &[&[u8]],
    is_empty: bool,
) {
    engine.stats.expired_fields += fields.len() as u64;
    let mut argv: Vec<&[u8]> = vec![b"HDEL", key];
    argv.extend(fields);
    call.rewrite(&argv);
    engine.removed_from(
        call,
        key,
        (EventClass::HASH, "hexpired"),
        is_empty,
        fields.len() as u64,
    );
}

fn hexpire(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    expire_at(engine, call, call.now_ms, true)
}

fn hpexpire(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    expire_at(engine, call, call.now_ms, false)
}

fn hexpireat(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    expire_at(engine, call, 0, true)
}

fn hpexpireat(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    expire_at(engine, call, 0, false)
}

/// `HTTL` and its kin.
fn reply_ttl(engine: &mut Engine, call: &mut Call<'_>, seconds: bool, absolute: bool) -> CmdResult {
    let fields = match fields_at(call, 2) {
        Err(WRONG_NUMFIELDS) => return Err(CmdError::SYNTAX),
        fields => fields?,
    };
    let now = fields_now(call);
    let hash = engine.read::<HashValue>(call, call.arg(1))?;
    call.reply_array(fields.len());
    for field in fields {
        let answer = match hash.and_then(|hash| hash.expiry(field, now)) {
            None => ABSENT,
            Some(NO_EXPIRY) => NONE,
            Some(at) => time_left(call, at, seconds, absolute),
        };
        call.reply_int(answer);
    }
    DONE
}

fn httl(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    reply_ttl(engine, call, true, false)
}

fn hpttl(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    reply_ttl(engine, call, false, false)
}

fn hexpiretime(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    reply_ttl(engine, call, true, true)
}

fn hpexpiretime(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    reply_ttl(engine, call, false, true)
}

/// Takes the expiry of a field away; what is answered.
pub(super) fn persist_field(hash: &mut HashValue, field: &[u8], now: u64) -> i64 {
    match hash.expiry(field, now) {
        None => ABSENT,
        Some(NO_EXPIRY) => NONE,
        Some(_) => {
            hash.set_expiry(field, NO_EXPIRY);
            CHANGED
        }
    }
}

fn hpersist(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    let key = call.arg(1);
    let fields = fields_at(call, 2)?;
    let now = fields_now(call);
    let mut hash = engine.write::<HashValue>(call, key)?;
    let exactly = hash
        .as_deref()
        .is_some_and(|hash| names_expired(hash, fields, now));
    let mut changed: Vec<&[u8]> = Vec::new();
    call.reply_array(fields.len());
    for field in fields {
        let answer = hash
            .as_deref_mut()
            .map_or(ABSENT, |hash| persist_field(hash, field, now));
        if answer == CHANGED {
            changed.push(field);
        }
        call.reply_int(answer);
    }
    let noted = hash.is_some_and(|hash| hash.wants_note());
    note_if(engine, call, key, noted);
    if !changed.is_empty() {
        if exactly {
            propagate_fields(call, &[b"HPERSIST", key], &changed);
        }
        call.notify(EventClass::HASH, "hpersist", key);
        call.modified(key, changed.len() as u64);
    }
    DONE
}
