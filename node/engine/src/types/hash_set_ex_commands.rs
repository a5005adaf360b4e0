//! `HGETEX` and `HSETEX`: fields and their expiry in one command.

use super::HashValue;
use super::hash_commands::{
    WRONG_NUMFIELDS, fields_at, fields_now, note_if, reply_field, report_overwritten,
};
use super::hash_expiry_commands::{
    find_fields, instant, persist_field, propagate_fields, report_deleted,
};
use super::hash_value::{ALL_FIELDS, FieldSet, FieldTtl};
use crate::commands::expire::has_passed;
use crate::events::EventClass;
use crate::spec::{Acl, Command, CommandSpec, Flags, Group, Key, KeySpec};
use crate::{Call, CmdError, CmdResult, DONE, Engine};
use holdfast_resp::format_i64;

/// The rows.
pub const COMMANDS: &[Command] = &[
    Command::new(
        CommandSpec {
            name: "hgetex",
            arity: -5,
            flags: Flags::WRITE.and(Flags::FAST),
            categories: Acl::HASH,
            keys: &[KeySpec::range(
                Key::RW.and(Key::ACCESS).and(Key::UPDATE),
                1,
                0,
                1,
            )],
            group: Group::Hash,
            since: "9.0.0",
            complexity: "O(N) where N is the number of specified fields.",
            summary: "Gets the value of one or more fields of a given hash key, and optionally sets their expiration time or time-to-live (TTL).",
            args: "key:key [(EX=seconds:int | PX=milliseconds:int | EXAT=unix-time-seconds:time | PXAT=unix-time-milliseconds:time | PERSIST)<expiration>] FIELDS={numfields:int#0 field...}<fields>",
            ..CommandSpec::EMPTY
        },
        hgetex,
    ),
    Command::new(
        CommandSpec {
            name: "hsetex",
            arity: -6,
            flags: Flags::WRITE.and(Flags::DENYOOM).and(Flags::FAST),
            categories: Acl::HASH,
            keys: &[KeySpec::range(Key::RW.and(Key::INSERT), 1, 0, 1)],
            group: Group::Hash,
            since: "9.0.0",
            complexity: "O(N) where N is the number of specified fields.",
            summary: "Sets the value of one or more fields of a given hash key, and optionally sets their expiration time.",
            args: "key:key [(NX | XX)<key-condition>] [(FNX | FXX)<fields-condition>] [(EX=seconds:int | PX=milliseconds:int | EXAT=unix-time-seconds:time | PXAT=unix-time-milliseconds:time | KEEPTTL)<expiration>] FIELDS={numfields:int#0 {field value}<data>...}<fields>",
            ..CommandSpec::EMPTY
        },
        hsetex,
    ),
];

/// What is to become of the expiry of the fields.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Expiry {
    /// The command says nothing of it.
    Unsaid,
    /// It stays.
    Keep,
    /// It goes.
    Persist,
    /// It is given by the argument of this index.
    Given {
        index: usize,
        seconds: bool,
        absolute: bool,
    },
}

/// What stands before `FIELDS`.
#[derive(Clone, Copy)]
struct Options {
    nx: bool,
    xx: bool,
    fnx: bool,
    fxx: bool,
    expiry: Expiry,
}

/// Reads the options from argument 2 to `end`. `setting`: those of `HSETEX`, else those of `HGETEX`.
fn options(call: &Call<'_>, end: usize, setting: bool) -> Result<Options, CmdError> {
    let mut o = Options {
        nx: false,
        xx: false,
        fnx: false,
        fxx: false,
        expiry: Expiry::Unsaid,
    };
    let mut i = 2;
    while i < end {
        let given = |seconds, absolute| Expiry::Given {
            index: i + 1,
            seconds,
            absolute,
        };
        let timed = i + 1 < end;
        // An option may be repeated, but not go with one of another kind.
        let expiry = match () {
            () if setting && call.arg_is(i, "NX") && !o.xx => {
                o.nx = true;
                None
            }
            () if setting && call.arg_is(i, "XX") && !o.nx => {
                o.xx = true;
                None
            }
            () if setting && call.arg_is(i, "FNX") && !o.fxx => {
                o.fnx = true;
                None
            }
            () if setting && call.arg_is(i, "FXX") && !o.fnx => {
                o.fxx = true;
                None
            }
            () if setting && call.arg_is(i, "KEEPTTL") => Some(Expiry::Keep),
            () if !setting && call.arg_is(i, "PERSIST") => Some(Expiry::Persist),
            () if call.arg_is(i, "EX") && timed => Some(given(true, false)),
            () if call.arg_is(i, "PX") && timed => Some(given(false, false)),
            () if call.arg_is(i, "EXAT") && timed => Some(given(true, true)),
            () if call.arg_is(i, "PXAT") && timed => Some(given(false, true)),
            () => return Err(CmdError::SYNTAX),
        };
        if let Some(new) = expiry {
            let fits = match (o.expiry, new) {
                (Expiry::Unsaid, _) => true,
                (
                    Expiry::Given {
                        seconds: s0,
                        absolute: a0,
                        ..
                    },
                    Expiry::Given {
                        seconds, absolute, ..
                    },
                ) => (s0, a0) == (seconds, absolute),
                (old, new) => old == new,
            };
            if !fits {
                return Err(CmdError::SYNTAX);
            }
            o.expiry = new;
            i += usize::from(matches!(new, Expiry::Given { .. }));
        }
        i += 1;
    }
    Ok(o)
}

impl Expiry {
    /// The instant, if one is given.
    fn instant(self, call: &Call<'_>) -> Result<Option<u64>, CmdError> {
        let Expiry::Given {
            index,
            seconds,
            absolute,
        } = self
        else {
            return Ok(None);
        };
        let base_ms = if absolute { 0 } else { call.now_ms };
        instant(call, index, base_ms, seconds).map(Some)
    }
}

fn hgetex(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    let key = call.arg(1);
    let word = find_fields(call, 2).ok_or(WRONG_NUMFIELDS)?;
    let options = options(call, word, false)?;
    let fields = fields_at(call, word)?;
    if options.expiry == Expiry::Unsaid {
        let hash = engine.read::<HashValue>(call, key)?;
        call.reply_array(fields.len());
        for field in fields {
            reply_field(call, hash, field);
        }
        return DONE;
    }
    // A wrong type is told first.
    let there = engine.read::<HashValue>(call, key)?.is_some();
    let at = options.expiry.instant(call)?;
    let (now, past) = (fields_now(call), at.is_some_and(|at| has_passed(call, at)));
    if !there {
        call.reply_array(fields.len());
        fields.iter().for_each(|_| call.reply_null());
        return DONE;
    }
    let Some(hash) = engine.write::<HashValue>(call, key)? else {
        return Err(CmdError::NO_SUCH_KEY);
    };
    let mut changed: Vec<&[u8]> = Vec::new();
    call.reply_array(fields.len());
    for field in fields {
        reply_field(call, Some(hash), field);
        let done = match at {
            Some(_) if past => hash.remove(field, now),
            Some(at) => {
                let there = hash.contains(field, now);
                if there {
                    hash.set_expiry(field, at);
                }
                there
            }
            None => persist_field(hash, field, now) == 1,
        };
        if done {
            changed.push(field);
        }
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
    if let Some(at) = at {
        let at = format_i64(at as i64);
        propagate_fields(call, &[b"HPEXPIREAT", key, at.as_bytes()], &changed);
        call.notify(EventClass::HASH, "hexpire", key);
    } else {
        propagate_fields(call, &[b"HPERSIST", key], &changed);
        call.notify(EventClass::HASH, "hpersist", key);
    }
    call.modified(key, changed.len() as u64);
    DONE
}

/// The fields and values behind `FIELDS`.
fn pairs_at<'a>(call: &Call<'a>, word: usize) -> Result<&'a [&'a [u8]], CmdError> {
    let pairs = call.argv.get(word + 2..).unwrap_or_default();
    match call.int_arg(word + 1)? {
        n if n > 0 && n.checked_mul(2) == Some(pairs.len() as i64) => Ok(pairs),
        _ => Err(WRONG_NUMFIELDS),
    }
}

fn hsetex(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    let key = call.arg(1);
    let word = find_fields(call, 2).ok_or(WRONG_NUMFIELDS)?;
    let options = options(call, word, true)?;
    let pairs = pairs_at(call, word)?;
    let now = fields_now(call);
    let hash = engine.look::<HashValue>(call, key)?;
    let there = hash.is_some();
    let field_refused = |field: &[u8]| {
        let there = hash.is_some_and(|hash| hash.contains(field, now));
        options.fnx && there || options.fxx && !there
    };
    if options.nx && there || options.xx && !there {
        call.reply_int(0);
        return DONE;
    }
    let at = options.expiry.instant(call)?;
    if (options.fnx || options.fxx) && pairs.chunks_exact(2).any(|pair| field_refused(pair[0])) {
        call.reply_int(0);
        return DONE;
    }
    if at.is_some_and(|at| has_passed(call, at)) {
        delete_in_place(engine, call, pairs, there)?;
        call.reply_int(1);
        return DONE;
    }
    let limits = engine.limits();
    let hash = engine.write_or_create(call, key, HashValue::new)?;
    let ttl = match (at, options.expiry) {
        (Some(at), _) => FieldTtl::At(at),
        (None, Expiry::Keep) => FieldTtl::Keep,
        (None, _) => FieldTtl::Clear,
    };
    let mut expired: Vec<&[u8]> = Vec::new();
    for pair in pairs.chunks_exact(2) {
        if hash.put(pair[0], pair[1], ttl, now, &limits) == FieldSet::ReplacedExpired {
            expired.push(pair[0]);
        }
    }
    let noted = hash.wants_note();
    note_if(engine, call, key, noted);
    report_overwritten(engine, call, key, expired.len());
    propagate_set(call, word, at, options, &expired);
    call.modified(key, pairs.len() as u64 / 2);
    call.notify(EventClass::HASH, "hset", key);
    if at.is_some() {
        call.notify(EventClass::HASH, "hexpire", key);
    }
    call.reply_int(1);
    DONE
}

/// What copies are sent for an `HSETEX`: no condition, and the instant instead of a time from now.
fn propagate_set(
    call: &mut Call<'_>,
    word: usize,
    at: Option<u64>,
    options: Options,
    expired: &[&[u8]],
) {
    if !call.fx.enabled() {
        return;
    }
    if options.expiry == Expiry::Keep && !expired.is_empty() {
        // A copy takes no field for expired, and would keep its time. Not by HDEL: that might delete the key, and with it
        // the key's own expiry.
        propagate_fields(call, &[b"HPERSIST", call.arg(1)], expired);
    }
    let text = at.map(|at| format_i64(at as i64));
    let mut argv: Vec<&[u8]> = vec![b"HSETEX", call.arg(1)];
    if let Some(text) = &text {
        argv.extend([b"PXAT", text.as_bytes()]);
    } else if options.expiry == Expiry::Keep {
        argv.push(b"KEEPTTL");
    }
    argv.extend(&call.argv[word..]);
    call.rewrite(&argv);
}

/// `HSETEX` with a time in the past: the fields are deleted.
fn delete_in_place(
    engine: &mut Engine,
    call: &mut Call<'_>,
    pairs: &[&[u8]],
    there: bool,
) -> Result<(), CmdError> {
    let key = call.arg(1);
    let names = pairs.iter().copied().step_by(2);
    engine.stats.expired_fields += pairs.len() as u64 / 2;
    let mut removed: Vec<&[u8]> = Vec::new();
    let mut is_empty = !there;
    if let Some(hash) = engine.write::<HashValue>(call, key)? {
        removed.extend(names.filter(|field| hash.remove(field, ALL_FIELDS)));
        is_empty = hash.is_empty();
        let noted = hash.wants_note();
        note_if(engine, call, key, noted);
    } else {
        // As if it had been created first.
        call.notify(EventClass::NEW, "new", key);
    }
    if !removed.is_empty() {
        let mut argv: Vec<&[u8]> = vec![b"HDEL", key];
        argv.extend(&removed);
        call.rewrite(&argv);
        call.modified(key, removed.len() as u64);
    }
    for event in ["hset", "hexpire", "hexpired"] {
        call.notify(EventClass::HASH, event, key);
    }
    if is_empty {
        engine.delete(call, key);
        call.notify_del(key);
    }
    Ok(())
}
