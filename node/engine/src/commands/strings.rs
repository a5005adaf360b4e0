//! Commands on strings.

use super::expire::{delete_as_expired, has_passed};
use crate::call::{Call, CmdError, CmdResult, DONE, Mode};
use crate::engine::{Engine, Ttl};
use crate::events::EventClass;
use crate::keyspace::entry::STR_BYTES_MAX;
use crate::spec::{Acl, Begin, Command, CommandSpec, Find, Flags, Group, Key, KeySpec};
use crate::value::ValueRef;
use holdfast_resp::{format_i64, parse_i64};

pub(super) const TOO_LONG: CmdError =
    CmdError::Static("ERR string exceeds maximum allowed size (proto-max-bulk-len)");

/// Which of the extended options a command takes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Family {
    Set,
    Get,
    Mset,
}

/// A key's existence or value that an option asks for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Condition<'a> {
    Always,
    Absent,
    Present,
    Equal(&'a [u8]),
}

/// What an option says of the expiry.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Expiry {
    None,
    Keep,
    Persist,
    At {
        ms: u64,
        /// Given as `PXAT`: the command can be propagated as it is.
        pxat: bool,
        /// Given as an absolute time.
        absolute: bool,
    },
}

struct Options<'a> {
    condition: Condition<'a>,
    expiry: Expiry,
    get: bool,
    /// The argument with the word of the expiry.
    expiry_index: usize,
}

/// Parses the options of `SET`, `GETEX` and `MSETEX` from argument `start` on.
fn options<'a>(call: &Call<'a>, start: usize, family: Family) -> Result<Options<'a>, CmdError> {
    let mut found = Options {
        condition: Condition::Always,
        expiry: Expiry::None,
        get: false,
        expiry_index: 0,
    };
    let mut time: Option<(&[u8], bool, bool)> = None;
    let sets = family != Family::Get;
    let mut i = start;
    while i < call.argv.len() {
        let next = call.argv.get(i + 1).copied();
        let free = found.expiry == Expiry::None && time.is_none();
        if sets
            && call.arg_is(i, "NX")
            && matches!(found.condition, Condition::Always | Condition::Absent)
        {
            found.condition = Condition::Absent;
        } else if sets
            && call.arg_is(i, "XX")
            && matches!(found.condition, Condition::Always | Condition::Present)
        {
            found.condition = Condition::Present;
        } else if family == Family::Set && call.arg_is(i, "GET") {
            found.get = true;
        } else if sets && call.arg_is(i, "KEEPTTL") && time.is_none() {
            found.expiry = Expiry::Keep;
        } else if family == Family::Get && call.arg_is(i, "PERSIST") && time.is_none() {
            found.expiry = Expiry::Persist;
        } else if let Some(next) = next {
            if family == Family::Set
                && call.arg_is(i, "IFEQ")
                && found.condition == Condition::Always
            {
                found.condition = Condition::Equal(next);
            } else {
                let (seconds, absolute) = match () {
                    () if call.arg_is(i, "EX") => (true, false),
                    () if call.arg_is(i, "PX") => (false, false),
                    () if call.arg_is(i, "EXAT") => (true, true),
                    () if call.arg_is(i, "PXAT") => (false, true),
                    () => return Err(CmdError::SYNTAX),
                };
                // The same word may come twice, and then the last counts; different words exclude each other.
                if !free && time.is_none_or(|(_, s, a)| (s, a) != (seconds, absolute)) {
                    return Err(CmdError::SYNTAX);
                }
                time = Some((next, seconds, absolute));
                found.expiry_index = i;
            }
            i += 1;
        } else {
            return Err(CmdError::SYNTAX);
        }
        i += 1;
    }
    if let Some((text, seconds, absolute)) = time {
        let ms = expire_time(call, text, seconds, absolute)?;
        found.expiry = Expiry::At {
            ms,
            pxat: !seconds && absolute,
            absolute,
        };
    }
    Ok(found)
}

/// The time that an expiry argument means, in Unix milliseconds.
fn expire_time(
    call: &Call<'_>,
    text: &[u8],
    seconds: bool,
    absolute: bool,
) -> Result<u64, CmdError> {
    let value = parse_i64(text).ok_or(CmdError::NOT_INTEGER)?;
    let ms = if seconds {
        value.checked_mul(1000)
    } else {
        Some(value)
    };
    let ms = ms.filter(|ms| *ms > 0);
    let ms = if absolute {
        ms
    } else {
        ms.and_then(|ms| ms.checked_add(call.now_ms as i64))
    };
    ms.filter(|ms| *ms > 0)
        .map(|ms| ms as u64)
        .ok_or_else(|| CmdError::invalid_expire(call.arg(0)))
}

pub(super) fn check_len(engine: &Engine, call: &Call<'_>, len: usize) -> Result<(), CmdError> {
    let max = if call.mode == Mode::Apply {
        STR_BYTES_MAX
    } else {
        engine.config().bulk_bytes_max.min(STR_BYTES_MAX)
    };
    if len > max { Err(TOO_LONG) } else { Ok(()) }
}

fn get(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    engine.reply_str(call, call.arg(1))?;
    DONE
}

fn set(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    let (key, value) = (call.arg(1), call.arg(2));
    if call.argv.len() == 3 {
        // The plain form, by far the most frequent.
        if value.len() > STR_BYTES_MAX {
            return Err(TOO_LONG);
        }
        let place = engine.place(call, key);
        engine.set_string(call, place, key, value, Ttl::Clear);
        call.modified(key, 1);
        call.notify(EventClass::STRING, "set", key);
        call.reply_ok();
        return DONE;
    }
    let options = options(call, 3, Family::Set)?;
    set_with(engine, call, key, value, options, SetReply::Set)
}

/// What `SET` and its older forms answer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum SetReply {
    /// OK, or null.
    Set,
    /// 1, or 0.
    Setnx,
}

fn set_with(
    engine: &mut Engine,
    call: &mut Call<'_>,
    key: &[u8],
    value: &[u8],
    options: Options<'_>,
    reply: SetReply,
) -> CmdResult {
    if value.len() > STR_BYTES_MAX {
        return Err(TOO_LONG);
    }
    let place = engine.place(call, key);
    if options.get {
        engine.reply_str(call, key)?;
    }
    let existing = engine.live(call, place, key);
    let found = existing.is_some();
    let holds = match options.condition {
        Condition::Always => true,
        Condition::Absent => !found,
        Condition::Present => found,
        Condition::Equal(text) => match existing.map(|e| e.value()) {
            None => false,
            Some(ValueRef::Str(s)) => *s.text() == *text,
            Some(_) => return Err(CmdError::WRONG_TYPE),
        },
    };
    if !holds {
        if !options.get {
            match reply {
                SetReply::Set => call.reply_null(),
                SetReply::Setnx => call.reply_int(0),
            }
        }
        return DONE;
    }
    let ttl = match options.expiry {
        Expiry::None | Expiry::Persist => Ttl::Clear,
        Expiry::Keep => Ttl::Keep,
        Expiry::At { ms, .. } if has_passed(call, ms) => {
            if found {
                delete_as_expired(engine, call, place, key);
            }
            if !options.get {
                call.reply_ok();
            }
            return DONE;
        }
        Expiry::At { ms, .. } => Ttl::At(ms),
    };
    engine.set_string(call, place, key, value, ttl);
    call.modified(key, 1);
    call.notify(EventClass::STRING, "set", key);
    if let Expiry::At { ms, pxat, .. } = options.expiry {
        call.notify(EventClass::GENERIC, "expire", key);
        if !pxat {
            call.rewrite(&[
                b"SET",
                key,
                value,
                b"PXAT",
                format_i64(ms as i64).as_bytes(),
            ]);
        }
    } else if options.get && call.fx.enabled() {
        let is_get = |(i, a): &(usize, &&[u8])| *i >= 3 && a.eq_ignore_ascii_case(b"GET");
        let argv: Vec<&[u8]> = call
            .argv
            .iter()
            .enumerate()
            .filter(|x| !is_get(x))
            .map(|(_, a)| *a)
            .collect();
        call.rewrite(&argv);
    }
    if !options.get {
        match reply {
            SetReply::Set => call.reply_ok(),
            SetReply::Setnx => call.reply_int(1),
        }
    }
    DONE
}

fn setnx(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    let options = Options {
        condition: Condition::Absent,
        expiry: Expiry::None,
        get: false,
        expiry_index: 0,
    };
    set_with(
        engine,
        call,
        call.arg(1),
        call.arg(2),
        options,
        SetReply::Setnx,
    )
}

fn set_expiring(engine: &mut Engine, call: &mut Call<'_>, seconds: bool) -> CmdResult {
    let ms = expire_time(call, call.arg(2), seconds, false)?;
    let expiry = Expiry::At {
        ms,
        pxat: false,
        absolute: false,
    };
    let options = Options {
        condition: Condition::Always,
        expiry,
        get: false,
        expiry_index: 0,
    };
    set_with(
        engine,
        call,
        call.arg(1),
        call.arg(3),
        options,
        SetReply::Set,
    )
}

fn setex(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    set_expiring(engine, call, true)
}

fn psetex(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    set_expiring(engine, call, false)
}

fn getset(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    let (key, value) = (call.arg(1), call.arg(2));
    check_len(engine, call, value.len())?;
    engine.reply_str(call, key)?;
    let place = engine.place(call, key);
    engine.set_string(call, place, key, value, Ttl::Clear);
    call.modified(key, 1);
    call.notify(EventClass::STRING, "set", key);
    call.rewrite(&[b"SET", key, value]);
    DONE
}

fn getdel(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    let key = call.arg(1);
    if engine.reply_str(call, key)? && engine.delete_and_report(call, key) {
        call.rewrite(&[b"DEL", key]);
    }
    DONE
}

fn getex(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    let key = call.arg(1);
    let options = options(call, 2, Family::Get)?;
    if !engine.reply_str(call, key)? {
        return DONE;
    }
    let place = engine.place(call, key);
    match options.expiry {
        Expiry::At { ms, absolute, .. } if absolute && has_passed(call, ms) => {
            delete_as_expired(engine, call, place, key);
        }
        Expiry::At { ms, .. } => {
            if engine.live_for_change(call, place, key).is_some() {
                engine.set_ttl(call, place, key, Ttl::At(ms));
            }
            call.modified(key, 1);
            call.notify(EventClass::GENERIC, "expire", key);
            call.rewrite(&[b"PEXPIREAT", key, format_i64(ms as i64).as_bytes()]);
        }
        Expiry::Persist => {
            if engine
                .live_for_change(call, place, key)
                .is_some_and(|e| e.expiry().is_some())
            {
                engine.set_ttl(call, place, key, Ttl::Clear);
                call.modified(key, 1);
                call.notify(EventClass::GENERIC, "persist", key);
                call.rewrite(&[b"PERSIST", key]);
            }
        }
        Expiry::None | Expiry::Keep => {}
    }
    DONE
}

fn delifeq(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    let key = call.arg(1);
    let equal = match engine.look_any(call, key) {
        None => false,
        Some(ValueRef::Str(s)) => *s.text() == *call.argv[2],
        Some(_) => return Err(CmdError::WRONG_TYPE),
    };
    if equal && engine.delete_and_report(call, key) {
        call.rewrite(&[b"DEL", key]);
    }
    call.reply_int(i64::from(equal));
    DONE
}

fn mget(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    call.reply_array(call.argv.len() - 1);
    for key in call.argv.iter().skip(1) {
        if engine.reply_str(call, key).is_err() {
            call.reply_null();
        }
    }
    DONE
}

fn mset_pairs(engine: &mut Engine, call: &mut Call<'_>, absent_only: bool) -> CmdResult {
    if call.argv.len().is_multiple_of(2) {
        return Err(CmdError::wrong_arity(if absent_only {
            "msetnx"
        } else {
            "mset"
        }));
    }
    let pairs = call.argv.get(1..).unwrap_or_default();
    if pairs.iter().any(|a| a.len() > STR_BYTES_MAX) {
        return Err(TOO_LONG);
    }
    if absent_only && pairs.iter().step_by(2).any(|key| engine.exists(call, key)) {
        call.reply_int(0);
        return DONE;
    }
    for pair in pairs.as_chunks::<2>().0 {
        let [key, value] = pair;
        let place = engine.place(call, key);
        engine.set_string(call, place, key, value, Ttl::Clear);
        call.modified(key, 1);
        call.notify(EventClass::STRING, "set", key);
    }
    if absent_only {
        call.reply_int(1);
    } else {
        call.reply_ok();
    }
    DONE
}

fn mset(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    mset_pairs(engine, call, false)
}

fn msetnx(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    mset_pairs(engine, call, true)
}

fn msetex(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    let bad_count = CmdError::Static("ERR invalid numkeys value or out of range");
    let count = parse_i64(call.arg(1))
        .filter(|n| (1..=i64::from(i32::MAX)).contains(n))
        .ok_or(bad_count)? as usize;
    let pairs = call.argv.get(2..2 + count * 2).ok_or(CmdError::SYNTAX)?;
    let options = options(call, 2 + count * 2, Family::Mset)?;
    if pairs.iter().any(|a| a.len() > STR_BYTES_MAX) {
        return Err(TOO_LONG);
    }
    if options.condition != Condition::Always {
        let wanted = options.condition == Condition::Present;
        for key in pairs.iter().step_by(2) {
            if engine.exists(call, key) != wanted {
                call.reply_int(0);
                return DONE;
            }
        }
    }
    let ttl = match options.expiry {
        Expiry::None | Expiry::Persist => Ttl::Clear,
        Expiry::Keep => Ttl::Keep,
        Expiry::At { ms, .. } => Ttl::At(ms),
    };
    for [key, value] in pairs.as_chunks::<2>().0 {
        let place = engine.place(call, key);
        engine.set_string(call, place, key, value, ttl);
        call.modified(key, 1);
        call.notify(EventClass::STRING, "set", key);
        if matches!(ttl, Ttl::At(_)) {
            call.notify(EventClass::GENERIC, "expire", key);
        }
    }
    if let Expiry::At {
        ms, pxat: false, ..
    } = options.expiry
    {
        let text = format_i64(ms as i64);
        let mut argv = call.argv.to_vec();
        if let Some([word, time]) = argv.get_mut(options.expiry_index..options.expiry_index + 2) {
            *word = b"PXAT";
            *time = text.as_bytes();
        }
        call.rewrite(&argv);
    }
    call.reply_int(1);
    DONE
}

/// `SET`'s key is read, too, if `GET` is among the options.
fn set_keys(argv: &[&[u8]], found: &mut dyn FnMut(usize, Key)) {
    let options = argv.get(3..).unwrap_or_default();
    let gets = options.iter().any(|a| a.eq_ignore_ascii_case(b"GET"));
    let flags = if gets {
        Key::RW.and(Key::ACCESS).and(Key::UPDATE)
    } else {
        Key::OW.and(Key::UPDATE)
    };
    found(1, flags);
}

/// The rows.
pub const COMMANDS: &[Command] = &[
    Command::new(
        CommandSpec {
            name: "delifeq",
            arity: 3,
            flags: Flags::FAST.and(Flags::WRITE),
            categories: Acl::STRING,
            keys: &[KeySpec::range(Key::RM.and(Key::DELETE), 1, 0, 1)],
            group: Group::String,
            since: "9.0.0",
            complexity: "O(1)",
            summary: "Delete key if value matches string.",
            args: "key:key value",
            ..CommandSpec::EMPTY
        },
        delifeq,
    ),
    Command::new(
        CommandSpec {
            name: "get",
            arity: 2,
            flags: Flags::READONLY.and(Flags::FAST),
            categories: Acl::STRING,
            keys: &[KeySpec::range(Key::RO.and(Key::ACCESS), 1, 0, 1)],
            group: Group::String,
            since: "1.0.0",
            complexity: "O(1)",
            summary: "Returns the string value of a key.",
            args: "key:key",
            ..CommandSpec::EMPTY
        },
        get,
    ),
    Command::new(
        CommandSpec {
            name: "getdel",
            arity: 2,
            flags: Flags::WRITE.and(Flags::FAST),
            categories: Acl::STRING,
            keys: &[KeySpec::range(
                Key::RW.and(Key::ACCESS).and(Key::DELETE),
                1,
                0,
                1,
            )],
            group: Group::String,
            since: "6.2.0",
            complexity: "O(1)",
            summary: "Returns the string value of a key after deleting the key.",
            args: "key:key",
            ..CommandSpec::EMPTY
        },
        getdel,
    ),
    Command::new(
        CommandSpec {
            name: "getex",
            arity: -2,
            flags: Flags::WRITE.and(Flags::FAST),
            categories: Acl::STRING,
            keys: &[
                KeySpec::range(Key::RW.and(Key::ACCESS).and(Key::UPDATE), 1, 0, 1)
                    .noted("RW and UPDATE because it changes the TTL"),
            ],
            group: Group::String,
            since: "6.2.0",
            complexity: "O(1)",
            summary: "Returns the string value of a key after setting its expiration time.",
            args: "key:key [(EX=seconds:int | PX=milliseconds:int | EXAT=unix-time-seconds:time | PXAT=unix-time-milliseconds:time | PERSIST)<expiration>]",
            ..CommandSpec::EMPTY
        },
        getex,
    ),
    Command::new(
        CommandSpec {
            name: "getset",
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
            summary: "Returns the previous string value of a key after setting it to a new value.",
            args: "key:key value",
            ..CommandSpec::EMPTY
        },
        getset,
    ),
    Command::new(
        CommandSpec {
            name: "mget",
            arity: -2,
            flags: Flags::READONLY.and(Flags::FAST),
            categories: Acl::STRING,
            keys: &[KeySpec::range(Key::RO.and(Key::ACCESS), 1, -1, 1)],
            group: Group::String,
            since: "1.0.0",
            complexity: "O(N) where N is the number of keys to retrieve.",
            summary: "Atomically returns the string values of one or more keys.",
            args: "key:key...",
            tips: &["request_policy:multi_shard"],
            ..CommandSpec::EMPTY
        },
        mget,
    ),
    Command::new(
        CommandSpec {
            name: "mset",
            arity: -3,
            flags: Flags::WRITE.and(Flags::DENYOOM),
            categories: Acl::STRING,
            keys: &[KeySpec::range(Key::OW.and(Key::UPDATE), 1, -1, 2)],
            group: Group::String,
            since: "1.0.1",
            complexity: "O(N) where N is the number of keys to set.",
            summary: "Atomically creates or modifies the string values of one or more keys.",
            args: "{key:key value}<data>...",
            tips: &[
                "request_policy:multi_shard",
                "response_policy:all_succeeded",
            ],
            ..CommandSpec::EMPTY
        },
        mset,
    ),
    Command::new(
        CommandSpec {
            name: "msetex",
            arity: -4,
            flags: Flags::WRITE.and(Flags::DENYOOM),
            categories: Acl::STRING,
            keys: &[KeySpec::new(
                Key::OW.and(Key::UPDATE),
                Begin::Index(1),
                Find::KeyNum {
                    num: 0,
                    first: 1,
                    step: 2,
                },
            )],
            group: Group::String,
            since: "9.1.0",
            complexity: "O(N) where N is the number of keys to set.",
            summary: "Atomically creates or modifies the string values of one or more keys, and optionally set their expiration.",
            args: "numkeys:int {key:key value}<data>... [(NX | XX)<condition>] [(EX=seconds:int | PX=milliseconds:int | EXAT=unix-time-seconds:time | PXAT=unix-time-milliseconds:time | KEEPTTL)<expiration>]",
            tips: &[
                "request_policy:multi_shard",
                "response_policy:all_succeeded",
            ],
            ..CommandSpec::EMPTY
        },
        msetex,
    ),
    Command::new(
        CommandSpec {
            name: "msetnx",
            arity: -3,
            flags: Flags::WRITE.and(Flags::DENYOOM),
            categories: Acl::STRING,
            keys: &[KeySpec::range(Key::OW.and(Key::INSERT), 1, -1, 2)],
            group: Group::String,
            since: "1.0.1",
            complexity: "O(N) where N is the number of keys to set.",
            summary: "Atomically modifies the string values of one or more keys only when all keys don't exist.",
            args: "{key:key value}<data>...",
            ..CommandSpec::EMPTY
        },
        msetnx,
    ),
    Command::new(
        CommandSpec {
            name: "psetex",
            arity: 4,
            flags: Flags::WRITE.and(Flags::DENYOOM),
            categories: Acl::STRING,
            keys: &[KeySpec::range(Key::OW.and(Key::UPDATE), 1, 0, 1)],
            group: Group::String,
            since: "2.6.0",
            complexity: "O(1)",
            summary: "Sets both string value and expiration time in milliseconds of a key. The key is created if it doesn't exist.",
            args: "key:key milliseconds:int value",
            ..CommandSpec::EMPTY
        },
        psetex,
    ),
    Command::new(
        CommandSpec {
            name: "set",
            arity: -3,
            flags: Flags::WRITE.and(Flags::DENYOOM),
            categories: Acl::STRING,
            keys: &[KeySpec::range(
                Key::RW
                    .and(Key::ACCESS)
                    .and(Key::UPDATE)
                    .and(Key::VARIABLE_FLAGS),
                1,
                0,
                1,
            )
            .noted("RW and ACCESS due to the optional `GET` argument")],
            group: Group::String,
            since: "1.0.0",
            complexity: "O(1)",
            summary: "Sets the string value of a key, ignoring its type. The key is created if it doesn't exist.",
            args: "key:key value [(NX@2.6.12 | XX@2.6.12 | IFEQ=comparison-value@8.1.0'Sets the key's value only if the current value matches the specified comparison value.')<condition>] [GET@6.2.0] [(EX=seconds:int@2.6.12 | PX=milliseconds:int@2.6.12 | EXAT=unix-time-seconds:time@6.2.0 | PXAT=unix-time-milliseconds:time@6.2.0 | KEEPTTL@6.0.0)<expiration>]",
            history: &[
                ("2.6.12", "Added the `EX`, `PX`, `NX` and `XX` options."),
                ("6.0.0", "Added the `KEEPTTL` option."),
                ("6.2.0", "Added the `GET`, `EXAT` and `PXAT` option."),
                (
                    "7.0.0",
                    "Allowed the `NX` and `GET` options to be used together.",
                ),
                ("8.1.0", "Added the `IFEQ` option."),
            ],
            find_keys: Some(set_keys),
            ..CommandSpec::EMPTY
        },
        set,
    ),
    Command::new(
        CommandSpec {
            name: "setex",
            arity: 4,
            flags: Flags::WRITE.and(Flags::DENYOOM),
            categories: Acl::STRING,
            keys: &[KeySpec::range(Key::OW.and(Key::UPDATE), 1, 0, 1)],
            group: Group::String,
            since: "2.0.0",
            complexity: "O(1)",
            summary: "Sets the string value and expiration time of a key. Creates the key if it doesn't exist.",
            args: "key:key seconds:int value",
            ..CommandSpec::EMPTY
        },
        setex,
    ),
    Command::new(
        CommandSpec {
            name: "setnx",
            arity: 3,
            flags: Flags::WRITE.and(Flags::DENYOOM).and(Flags::FAST),
            categories: Acl::STRING,
            keys: &[KeySpec::range(Key::OW.and(Key::INSERT), 1, 0, 1)],
            group: Group::String,
            since: "1.0.0",
            complexity: "O(1)",
            summary: "Sets the string value of a key only when the key doesn't exist.",
            args: "key:key value",
            ..CommandSpec::EMPTY
        },
        setnx,
    ),
];
