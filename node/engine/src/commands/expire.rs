//! Commands that give keys a time to live, and ask for it.

use crate::call::{Call, CmdError, CmdResult, DONE, Mode};
use crate::engine::{Engine, Ttl};
use crate::events::EventClass;
use crate::keyspace::Place;
use crate::spec::{Acl, Command, CommandSpec, Flags, Group, Key, KeySpec};
use holdfast_resp::format_i64;

/// Whether a time given by a client has passed. A copy that applies effects never thinks so: it waits for the deletion.
pub(crate) fn has_passed(call: &Call<'_>, ms: u64) -> bool {
    ms <= call.now_ms && call.mode != Mode::Apply
}

/// Deletes a key that was just given a time in the past, and propagates the deletion in place of the command.
pub(super) fn delete_as_expired(
    engine: &mut Engine,
    call: &mut Call<'_>,
    place: Place,
    key: &[u8],
) {
    engine.remove(call.db, place, key);
    engine.stats.expired_keys += 1;
    let verb = engine.verb_of_expiry();
    call.rewrite(&[verb, key]);
    call.modified(key, 1);
    call.notify(EventClass::EXPIRED, "expired", key);
}

/// What a new time for a key must fulfil.
#[derive(Clone, Copy, Default)]
pub(crate) struct ExpireIf {
    nx: bool,
    xx: bool,
    gt: bool,
    lt: bool,
}

impl ExpireIf {
    /// Whether a time may not replace what there is.
    pub fn refuses(self, current: Option<u64>, at: u64) -> bool {
        self.nx && current.is_some()
            || self.xx && current.is_none()
            || self.gt && current.is_none_or(|now| at <= now)
            || self.lt && current.is_some_and(|now| at >= now)
    }
}

/// The conditions among the arguments from 3 to `end`.
pub(crate) fn expire_options(call: &Call<'_>, end: usize) -> Result<ExpireIf, CmdError> {
    let mut found = ExpireIf::default();
    for i in 3..end {
        let option = match () {
            () if call.arg_is(i, "NX") => &mut found.nx,
            () if call.arg_is(i, "XX") => &mut found.xx,
            () if call.arg_is(i, "GT") => &mut found.gt,
            () if call.arg_is(i, "LT") => &mut found.lt,
            () => {
                let mut text = b"ERR Unsupported option ".to_vec();
                text.extend_from_slice(call.arg(i));
                return Err(CmdError::text(text));
            }
        };
        *option = true;
    }
    if found.nx && (found.xx || found.gt || found.lt) {
        return Err(CmdError::Static(
            "ERR NX and XX, GT or LT options at the same time are not compatible",
        ));
    }
    if found.gt && found.lt {
        return Err(CmdError::Static(
            "ERR GT and LT options at the same time are not compatible",
        ));
    }
    Ok(found)
}

/// `EXPIRE` and its kin. `base_ms` is added to the argument.
fn expire_at(engine: &mut Engine, call: &mut Call<'_>, base_ms: u64, seconds: bool) -> CmdResult {
    let key = call.arg(1);
    let wanted = expire_options(call, call.argv.len())?;
    let value = call.int_arg(2)?;
    let at = if seconds {
        value.checked_mul(1000)
    } else {
        Some(value)
    };
    let at = at
        .and_then(|ms| ms.checked_add(base_ms as i64))
        .ok_or_else(|| CmdError::invalid_expire(call.arg(0)))?;
    let at = at.max(0) as u64;
    let place = engine.place(call, key);
    let Some(current) = engine.live(call, place, key).map(|e| e.expiry()) else {
        call.reply_int(0);
        return DONE;
    };
    let refused = wanted.refuses(current, at);
    if refused {
        call.reply_int(0);
        return DONE;
    }
    if has_passed(call, at) {
        delete_as_expired(engine, call, place, key);
    } else {
        // Secures the value for running snapshots: its expiry is part of it.
        if engine.live_for_change(call, place, key).is_some() {
            engine.set_ttl(call, place, key, Ttl::At(at));
        }
        call.modified(key, 1);
        call.notify(EventClass::GENERIC, "expire", key);
        if call.fx.enabled() {
            let text = format_i64(at as i64);
            let mut argv = call.argv.to_vec();
            if let [name, _, time, ..] = &mut argv[..] {
                if !name.eq_ignore_ascii_case(b"PEXPIREAT") {
                    *name = b"PEXPIREAT";
                }
                *time = text.as_bytes();
            }
            call.rewrite(&argv);
        }
    }
    call.reply_int(1);
    DONE
}

fn expire(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    expire_at(engine, call, call.now_ms, true)
}

fn pexpire(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    expire_at(engine, call, call.now_ms, false)
}

fn expireat(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    expire_at(engine, call, 0, true)
}

fn pexpireat(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    expire_at(engine, call, 0, false)
}

/// What `TTL` and its kin answer of something that expires then.
pub(crate) fn time_left(call: &Call<'_>, at_ms: u64, seconds: bool, absolute: bool) -> i64 {
    let ms = if absolute {
        at_ms
    } else {
        at_ms.saturating_sub(call.now_ms)
    };
    (if seconds {
        ms.saturating_add(500) / 1000
    } else {
        ms
    }) as i64
}

/// `TTL` and its kin.
fn reply_ttl(engine: &mut Engine, call: &mut Call<'_>, seconds: bool, absolute: bool) -> CmdResult {
    let answer = match engine.asked(call, call.arg(1)).map(|e| e.expiry()) {
        None => -2,
        Some(None) => -1,
        Some(Some(at)) => time_left(call, at, seconds, absolute),
    };
    call.reply_int(answer);
    DONE
}

fn ttl(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    reply_ttl(engine, call, true, false)
}

fn pttl(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    reply_ttl(engine, call, false, false)
}

fn expiretime(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    reply_ttl(engine, call, true, true)
}

fn pexpiretime(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    reply_ttl(engine, call, false, true)
}

fn persist(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    let key = call.arg(1);
    let place = engine.place(call, key);
    let expires = engine
        .live_for_change(call, place, key)
        .is_some_and(|e| e.expiry().is_some());
    if expires {
        engine.set_ttl(call, place, key, Ttl::Clear);
        call.modified(key, 1);
        call.notify(EventClass::GENERIC, "persist", key);
    }
    call.reply_int(i64::from(expires));
    DONE
}

/// The rows.
pub const COMMANDS: &[Command] = &[
    Command::new(
        CommandSpec {
            name: "expire",
            arity: -3,
            flags: Flags::WRITE.and(Flags::FAST),
            categories: Acl::KEYSPACE,
            keys: &[KeySpec::range(Key::RW.and(Key::UPDATE), 1, 0, 1)],
            group: Group::Generic,
            since: "1.0.0",
            complexity: "O(1)",
            summary: "Sets the expiration time of a key in seconds.",
            args: "key:key seconds:int [(NX | XX | GT | LT)<condition>@7.0.0]",
            history: &[("7.0.0", "Added options: `NX`, `XX`, `GT` and `LT`.")],
            ..CommandSpec::EMPTY
        },
        expire,
    ),
    Command::new(
        CommandSpec {
            name: "pexpire",
            arity: -3,
            flags: Flags::WRITE.and(Flags::FAST),
            categories: Acl::KEYSPACE,
            keys: &[KeySpec::range(Key::RW.and(Key::UPDATE), 1, 0, 1)],
            group: Group::Generic,
            since: "2.6.0",
            complexity: "O(1)",
            summary: "Sets the expiration time of a key in milliseconds.",
            args: "key:key milliseconds:int [(NX | XX | GT | LT)<condition>@7.0.0]",
            history: &[("7.0.0", "Added options: `NX`, `XX`, `GT` and `LT`.")],
            ..CommandSpec::EMPTY
        },
        pexpire,
    ),
    Command::new(
        CommandSpec {
            name: "expireat",
            arity: -3,
            flags: Flags::WRITE.and(Flags::FAST),
            categories: Acl::KEYSPACE,
            keys: &[KeySpec::range(Key::RW.and(Key::UPDATE), 1, 0, 1)],
            group: Group::Generic,
            since: "1.2.0",
            complexity: "O(1)",
            summary: "Sets the expiration time of a key to a Unix timestamp.",
            args: "key:key unix-time-seconds:time [(NX | XX | GT | LT)<condition>@7.0.0]",
            history: &[("7.0.0", "Added options: `NX`, `XX`, `GT` and `LT`.")],
            ..CommandSpec::EMPTY
        },
        expireat,
    ),
    Command::new(
        CommandSpec {
            name: "pexpireat",
            arity: -3,
            flags: Flags::WRITE.and(Flags::FAST),
            categories: Acl::KEYSPACE,
            keys: &[KeySpec::range(Key::RW.and(Key::UPDATE), 1, 0, 1)],
            group: Group::Generic,
            since: "2.6.0",
            complexity: "O(1)",
            summary: "Sets the expiration time of a key to a Unix milliseconds timestamp.",
            args: "key:key unix-time-milliseconds:time [(NX | XX | GT | LT)<condition>@7.0.0]",
            history: &[("7.0.0", "Added options: `NX`, `XX`, `GT` and `LT`.")],
            ..CommandSpec::EMPTY
        },
        pexpireat,
    ),
    Command::new(
        CommandSpec {
            name: "ttl",
            arity: 2,
            flags: Flags::READONLY.and(Flags::FAST),
            categories: Acl::KEYSPACE,
            keys: &[KeySpec::range(Key::RO.and(Key::ACCESS), 1, 0, 1)],
            group: Group::Generic,
            since: "1.0.0",
            complexity: "O(1)",
            summary: "Returns the expiration time in seconds of a key.",
            args: "key:key",
            tips: &["nondeterministic_output"],
            history: &[("2.8.0", "Added the -2 reply.")],
            ..CommandSpec::EMPTY
        },
        ttl,
    ),
    Command::new(
        CommandSpec {
            name: "pttl",
            arity: 2,
            flags: Flags::READONLY.and(Flags::FAST),
            categories: Acl::KEYSPACE,
            keys: &[KeySpec::range(Key::RO.and(Key::ACCESS), 1, 0, 1)],
            group: Group::Generic,
            since: "2.6.0",
            complexity: "O(1)",
            summary: "Returns the expiration time in milliseconds of a key.",
            args: "key:key",
            tips: &["nondeterministic_output"],
            history: &[("2.8.0", "Added the -2 reply.")],
            ..CommandSpec::EMPTY
        },
        pttl,
    ),
    Command::new(
        CommandSpec {
            name: "expiretime",
            arity: 2,
            flags: Flags::READONLY.and(Flags::FAST),
            categories: Acl::KEYSPACE,
            keys: &[KeySpec::range(Key::RO.and(Key::ACCESS), 1, 0, 1)],
            group: Group::Generic,
            since: "7.0.0",
            complexity: "O(1)",
            summary: "Returns the expiration time of a key as a Unix timestamp.",
            args: "key:key",
            ..CommandSpec::EMPTY
        },
        expiretime,
    ),
    Command::new(
        CommandSpec {
            name: "pexpiretime",
            arity: 2,
            flags: Flags::READONLY.and(Flags::FAST),
            categories: Acl::KEYSPACE,
            keys: &[KeySpec::range(Key::RO.and(Key::ACCESS), 1, 0, 1)],
            group: Group::Generic,
            since: "7.0.0",
            complexity: "O(1)",
            summary: "Returns the expiration time of a key as a Unix milliseconds timestamp.",
            args: "key:key",
            ..CommandSpec::EMPTY
        },
        pexpiretime,
    ),
    Command::new(
        CommandSpec {
            name: "persist",
            arity: 2,
            flags: Flags::WRITE.and(Flags::FAST),
            categories: Acl::KEYSPACE,
            keys: &[KeySpec::range(Key::RW.and(Key::UPDATE), 1, 0, 1)],
            group: Group::Generic,
            since: "2.2.0",
            complexity: "O(1)",
            summary: "Removes the expiration time of a key.",
            args: "key:key",
            ..CommandSpec::EMPTY
        },
        persist,
    ),
];
