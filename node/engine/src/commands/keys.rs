//! Commands on keys, whatever they hold.

use super::expire::has_passed;
use crate::call::{Call, CmdError, CmdResult, DONE, Mode};
use crate::engine::{BadPayload, Engine, Ttl};
use crate::events::EventClass;
use crate::evict::AccessNote;
use crate::keyspace::entry::Entry;
use crate::spec::{Acl, Command, CommandSpec, Flags, Group, Key, KeySpec};
use crate::value::Value;
use holdfast_resp::{format_i64, parse_i64, write};

const SAME_OBJECT: CmdError = CmdError::Static("ERR source and destination objects are the same");
const NO_SUCH_DB: CmdError = CmdError::Static("ERR DB index is out of range");

fn del(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    let mut deleted = 0;
    for key in call.argv.iter().skip(1) {
        deleted += i64::from(engine.delete_and_report(call, key));
    }
    call.reply_int(deleted);
    DONE
}

fn exists(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    let count = call
        .argv
        .iter()
        .skip(1)
        .filter(|key| engine.asked(call, key).is_some())
        .count();
    call.reply_len(count);
    DONE
}

fn touch(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    // `CLIENT NO-TOUCH` is not for those who ask for just this.
    let no_touch = engine.set_no_touch(false);
    let count = call
        .argv
        .iter()
        .skip(1)
        .filter(|key| engine.touch_key(call, key))
        .count();
    engine.set_no_touch(no_touch);
    call.reply_len(count);
    DONE
}

fn type_(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    let ty = engine.asked(call, call.arg(1)).map(|e| e.value().ty());
    call.reply_simple(ty.map_or("none", |ty| ty.name()));
    DONE
}

fn rename_key(engine: &mut Engine, call: &mut Call<'_>, absent_only: bool) -> CmdResult {
    let (from, to) = (call.arg(1), call.arg(2));
    let place = engine.place(call, from);
    if engine.live(call, place, from).is_none() {
        return Err(CmdError::NO_SUCH_KEY);
    }
    let free = from != to && !(engine.exists(call, to) && absent_only);
    if free {
        engine.delete(call, to);
        if let Some((value, ttl)) = engine.take(call.db, place, from) {
            engine.set_value(call, to, value, ttl);
        }
        call.fx.touch(call.db, from);
        call.modified(to, 1);
        call.notify(EventClass::GENERIC, "rename_from", from);
        call.notify(EventClass::GENERIC, "rename_to", to);
    }
    if absent_only {
        call.reply_int(i64::from(free));
    } else {
        call.reply_ok();
    }
    DONE
}

fn rename(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    rename_key(engine, call, false)
}

fn renamenx(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    rename_key(engine, call, true)
}

/// An argument that names a database.
fn db_arg(engine: &Engine, call: &Call<'_>, index: usize) -> Result<u16, CmdError> {
    let number = call.int_arg(index)?;
    u16::try_from(number)
        .ok()
        .filter(|db| usize::from(*db) < engine.dbs.len())
        .ok_or(NO_SUCH_DB)
}

/// Runs `f` with another database selected.
fn in_db<R>(call: &mut Call<'_>, db: u16, f: impl FnOnce(&mut Call<'_>) -> R) -> R {
    let own = std::mem::replace(&mut call.db, db);
    let result = f(call);
    call.db = own;
    result
}

fn copy(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    let (from, to) = (call.arg(1), call.arg(2));
    let (mut db, mut replace) = (call.db, false);
    let mut i = 3;
    while i < call.argv.len() {
        if call.arg_is(i, "REPLACE") {
            replace = true;
        } else if call.arg_is(i, "DB") && i + 1 < call.argv.len() {
            db = db_arg(engine, call, i + 1)?;
            i += 1;
        } else {
            return Err(CmdError::SYNTAX);
        }
        i += 1;
    }
    if db == call.db && from == to {
        return Err(SAME_OBJECT);
    }
    if !engine.touch_key(call, from) {
        call.reply_int(0);
        return DONE;
    }
    if in_db(call, db, |call| engine.exists(call, to)) && !replace {
        call.reply_int(0);
        return DONE;
    }
    let ttl = engine.expiry(call, from).map_or(Ttl::Clear, Ttl::At);
    if let Some(value) = engine.peek_value(call, from).map(|v| v.to_value()) {
        in_db(call, db, |call| {
            // A key that is replaced is a new one.
            engine.delete(call, to);
            engine.set_value(call, to, value, ttl);
            call.modified(to, 1);
            call.notify(EventClass::GENERIC, "copy_to", to);
        });
    }
    call.reply_int(1);
    DONE
}

fn move_(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    let key = call.arg(1);
    let db = db_arg(engine, call, 2)?;
    if db == call.db {
        return Err(SAME_OBJECT);
    }
    let place = engine.place(call, key);
    let here = engine.live(call, place, key).is_some();
    if !here || in_db(call, db, |call| engine.exists(call, key)) {
        call.reply_int(0);
        return DONE;
    }
    if let Some((value, ttl)) = engine.take(call.db, place, key) {
        in_db(call, db, |call| {
            engine.set_value(call, key, value, ttl);
            call.fx.touch(db, key);
        });
    }
    call.modified(key, 1);
    call.notify(EventClass::GENERIC, "move_from", key);
    call.fx.notify(EventClass::GENERIC, "move_to", db, key);
    call.reply_int(1);
    DONE
}

fn dbsize(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    let size = engine.dbsize(call.db);
    call.reply_len(size);
    DONE
}

/// How often a key that a client may not see is drawn before giving up.
const RANDOM_TRIES: usize = 100;

fn randomkey(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    let mut expired = None;
    for _ in 0..RANDOM_TRIES {
        let Some(entry) = engine
            .dbs
            .get(usize::from(call.db))
            .and_then(|db| db.random(call.rng))
        else {
            break;
        };
        let key: Box<[u8]> = entry.key().into();
        let place = engine.place(call, &key);
        if engine.is_hidden(place.slot) {
            continue;
        }
        if engine.live(call, place, &key).is_some() {
            call.reply_bulk(&key);
            return DONE;
        }
        expired = Some(key);
    }
    match expired {
        // Where nothing may be deleted it is better to name a key that has expired than to say that there is none.
        Some(key) if call.mode == Mode::Replica => call.reply_bulk(&key),
        _ => call.reply_null(),
    }
    DONE
}

fn flush(engine: &mut Engine, call: &mut Call<'_>, db: Option<u16>) -> CmdResult {
    match call.argv.len() {
        1 => {}
        // Both are the same here: the data is gone at once and its memory freed in small steps.
        2 if call.arg_is(1, "ASYNC") || call.arg_is(1, "SYNC") => {}
        _ => return Err(CmdError::SYNTAX),
    }
    let gone = engine.flush(db);
    call.fx.add_dirty(gone as u64);
    call.fx.touch_all(db);
    // Propagated even if there was nothing: a copy may hold something that this node has expired.
    call.rewrite(call.argv);
    call.reply_ok();
    DONE
}

fn flushdb(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    flush(engine, call, Some(call.db))
}

fn flushall(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    flush(engine, call, None)
}

fn swapdb(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    // Several shards could not do it at once.
    if engine.config().cluster {
        return Err(CmdError::Static(
            "ERR SWAPDB is not allowed in cluster mode",
        ));
    }
    let number = |index, error| match parse_i64(call.arg(index)) {
        Some(n) if i32::try_from(n).is_ok() => Ok(n),
        _ => Err(CmdError::Static(error)),
    };
    let a = number(1, "ERR invalid first DB index")?;
    let b = number(2, "ERR invalid second DB index")?;
    let (Ok(a), Ok(b)) = (u16::try_from(a), u16::try_from(b)) else {
        return Err(NO_SUCH_DB);
    };
    if !engine.swap_databases(a, b) {
        return Err(NO_SUCH_DB);
    }
    if a != b {
        call.fx.touch_all(Some(a));
        call.fx.touch_all(Some(b));
    }
    call.fx.add_dirty(1);
    call.reply_ok();
    DONE
}

fn object(_: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    let name = String::from_utf8_lossy(call.arg(1)).into_owned();
    Err(CmdError::text(format!(
        "ERR unknown subcommand '{name}'. Try OBJECT HELP."
    )))
}

fn object_help(_: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    const LINES: &[&str] = &[
        "OBJECT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
        "ENCODING <key>",
        "    Return the kind of internal representation used in order to store the value",
        "    associated with a <key>.",
        "FREQ <key>",
        "    Return the access frequency index of the <key>. The returned integer is",
        "    proportional to the logarithm of the recent access frequency of the key.",
        "IDLETIME <key>",
        "    Return the idle time of the <key>, that is the approximated number of",
        "    seconds elapsed since the last access to the key.",
        "REFCOUNT <key>",
        "    Return the number of references of the value associated with the specified",
        "    <key>.",
        "HELP",
        "    Print this help.",
    ];
    call.reply_array(LINES.len());
    LINES
        .iter()
        .for_each(|line| write::simple(call.reply, line));
    DONE
}

/// The entry of the key that `OBJECT` is asked about. One that is not there counts as a miss, but is no event.
fn inspected<'e>(engine: &'e mut Engine, call: &mut Call<'_>) -> Option<&'e Entry> {
    let key = call.arg(2);
    if engine.exists(call, key) {
        return engine.asked(call, key);
    }
    engine.stats.keyspace_misses += 1;
    None
}

fn object_encoding(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    match inspected(engine, call).map(|e| e.encoding()) {
        Some(encoding) => call.reply_bulk(encoding.as_bytes()),
        None => call.reply_null(),
    }
    DONE
}

fn object_refcount(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    if inspected(engine, call).is_some() {
        call.reply_int(1);
    } else {
        call.reply_null();
    }
    DONE
}

fn object_idletime(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    let now_ms = call.now_ms;
    let lfu = engine.config().eviction.is_lfu();
    match inspected(engine, call).map(|e| e.idle_s(now_ms)) {
        Some(_) if lfu => Err(CmdError::Static(
            "ERR An LFU maxmemory policy is selected, idle time not tracked. Please note that when switching \
             between policies at runtime LRU and LFU data will take some time to adjust.",
        )),
        Some(idle) => {
            call.reply_int(i64::from(idle));
            DONE
        }
        None => {
            call.reply_null();
            DONE
        }
    }
}

fn object_freq(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    let (how, now_ms) = (engine.config().eviction, call.now_ms);
    if let Some(entry) = inspected(engine, call) {
        if how.is_lfu() {
            let frequency = how.frequency(entry.access(), now_ms);
            call.reply_int(i64::from(frequency));
            return DONE;
        }
        return Err(CmdError::Static(
            "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when \
             switching between policies at runtime LRU and LFU data will take some time to adjust.",
        ));
    }
    call.reply_null();
    DONE
}

fn dump(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    let key = call.arg(1);
    if !engine.touch_key(call, key) {
        call.reply_null();
        return DONE;
    }
    match engine.peek_value(call, key).map(|v| engine.codec.dump(v)) {
        Some(payload) => call.reply_bulk(&payload),
        None => call.reply_null(),
    }
    DONE
}

fn restore(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    let key = call.arg(1);
    let (mut replace, mut absolute) = (false, false);
    let (mut idle_s, mut freq) = (None, None);
    let mut i = 4;
    while i < call.argv.len() {
        let more = i + 1 < call.argv.len();
        if call.arg_is(i, "REPLACE") {
            replace = true;
        } else if call.arg_is(i, "ABSTTL") {
            absolute = true;
        } else if call.arg_is(i, "IDLETIME") && more && freq.is_none() {
            let value = call.int_arg(i + 1)?;
            if value < 0 {
                return Err(CmdError::Static("ERR Invalid IDLETIME value, must be >= 0"));
            }
            idle_s = Some(value as u64);
            i += 1;
        } else if call.arg_is(i, "FREQ") && more && idle_s.is_none() {
            let value = call.int_arg(i + 1)?;
            freq = Some(u8::try_from(value).map_err(|_| {
                CmdError::Static("ERR Invalid FREQ value, must be >= 0 and <= 255")
            })?);
            i += 1;
        } else {
            return Err(CmdError::SYNTAX);
        }
        i += 1;
    }
    if !replace && engine.exists(call, key) {
        return Err(CmdError::Static("BUSYKEY Target key name already exists."));
    }
    let ttl = call.int_arg(2)?;
    if ttl < 0 {
        return Err(CmdError::Static("ERR Invalid TTL value, must be >= 0"));
    }
    let value: Value = engine
        .codec
        .load(call.arg(3))
        .map_err(|error| match error {
            BadPayload::VersionOrChecksum => {
                CmdError::Static("ERR DUMP payload version or checksum are wrong")
            }
            BadPayload::Malformed(_) => CmdError::Static("ERR Bad data format"),
        })?;
    let at = match ttl {
        0 => None,
        ttl if absolute => Some(ttl as u64),
        ttl => Some(
            (ttl as u64)
                .saturating_add(call.now_ms)
                .min(i64::MAX as u64),
        ),
    };
    if at.is_some_and(|at| has_passed(call, at)) {
        if replace && engine.delete_and_report(call, key) {
            let verb = engine.config().server_del();
            call.rewrite(&[verb, key]);
        }
        call.reply_ok();
        return DONE;
    }
    if replace {
        engine.delete(call, key);
    }
    engine.set_value(call, key, value, at.map_or(Ttl::Clear, Ttl::At));
    let note = match (idle_s, freq) {
        (Some(idle_s), _) => Some(AccessNote::IdleSeconds(idle_s)),
        (_, Some(freq)) => Some(AccessNote::Frequency(freq)),
        _ => None,
    };
    if let Some(note) = note {
        engine.set_access(call.db, key, note, call.now_ms);
    }
    call.modified(key, 1);
    call.notify(EventClass::GENERIC, "restore", key);
    if let Some(at) = at.filter(|_| !absolute) {
        let at = format_i64(at as i64);
        let mut argv = call.argv.to_vec();
        if let Some(ttl) = argv.get_mut(2) {
            *ttl = at.as_bytes();
        }
        argv.push(b"ABSTTL");
        call.rewrite(&argv);
    }
    call.reply_ok();
    DONE
}

/// The rows.
pub const COMMANDS: &[Command] = &[
    Command::new(
        CommandSpec {
            name: "del",
            arity: -2,
            flags: Flags::WRITE,
            categories: Acl::KEYSPACE,
            keys: &[KeySpec::range(Key::RM.and(Key::DELETE), 1, -1, 1)],
            group: Group::Generic,
            since: "1.0.0",
            complexity: "O(N) where N is the number of keys that will be removed. When a key to remove holds a value other than a string, the individual complexity for this key is O(M) where M is the number of elements in the list, set, sorted set or hash. Removing a single key that holds a string value is O(1).",
            summary: "Deletes one or more keys.",
            args: "key:key...",
            tips: &["request_policy:multi_shard", "response_policy:agg_sum"],
            ..CommandSpec::EMPTY
        },
        del,
    ),
    Command::new(
        CommandSpec {
            name: "unlink",
            arity: -2,
            flags: Flags::WRITE.and(Flags::FAST),
            categories: Acl::KEYSPACE,
            keys: &[KeySpec::range(Key::RM.and(Key::DELETE), 1, -1, 1)],
            group: Group::Generic,
            since: "4.0.0",
            complexity: "O(1) for each key removed regardless of its size. Then the command does O(N) work in a different thread in order to reclaim memory, where N is the number of allocations the deleted objects where composed of.",
            summary: "Asynchronously deletes one or more keys.",
            args: "key:key...",
            tips: &["request_policy:multi_shard", "response_policy:agg_sum"],
            ..CommandSpec::EMPTY
        },
        del,
    ),
    Command::new(
        CommandSpec {
            name: "exists",
            arity: -2,
            flags: Flags::READONLY.and(Flags::FAST),
            categories: Acl::KEYSPACE,
            keys: &[KeySpec::range(Key::RO, 1, -1, 1)],
            group: Group::Generic,
            since: "1.0.0",
            complexity: "O(N) where N is the number of keys to check.",
            summary: "Determines whether one or more keys exist.",
            args: "key:key...",
            tips: &["request_policy:multi_shard", "response_policy:agg_sum"],
            history: &[("3.0.3", "Accepts multiple `key` arguments.")],
            ..CommandSpec::EMPTY
        },
        exists,
    ),
    Command::new(
        CommandSpec {
            name: "touch",
            arity: -2,
            flags: Flags::READONLY.and(Flags::FAST),
            categories: Acl::KEYSPACE,
            keys: &[KeySpec::range(Key::RO, 1, -1, 1)],
            group: Group::Generic,
            since: "3.2.1",
            complexity: "O(N) where N is the number of keys that will be touched.",
            summary: "Returns the number of existing keys out of those specified after updating the time they were last accessed.",
            args: "key:key...",
            tips: &["request_policy:multi_shard", "response_policy:agg_sum"],
            ..CommandSpec::EMPTY
        },
        touch,
    ),
    Command::new(
        CommandSpec {
            name: "type",
            arity: 2,
            flags: Flags::READONLY.and(Flags::FAST),
            categories: Acl::KEYSPACE,
            keys: &[KeySpec::range(Key::RO, 1, 0, 1)],
            group: Group::Generic,
            since: "1.0.0",
            complexity: "O(1)",
            summary: "Determines the type of value stored at a key.",
            args: "key:key",
            ..CommandSpec::EMPTY
        },
        type_,
    ),
    Command::new(
        CommandSpec {
            name: "rename",
            arity: 3,
            flags: Flags::WRITE,
            categories: Acl::KEYSPACE,
            keys: &[
                KeySpec::range(Key::RW.and(Key::ACCESS).and(Key::DELETE), 1, 0, 1),
                KeySpec::range(Key::OW.and(Key::UPDATE), 2, 0, 1),
            ],
            group: Group::Generic,
            since: "1.0.0",
            complexity: "O(1)",
            summary: "Renames a key and overwrites the destination.",
            args: "key:key newkey:key#1",
            ..CommandSpec::EMPTY
        },
        rename,
    ),
    Command::new(
        CommandSpec {
            name: "renamenx",
            arity: 3,
            flags: Flags::WRITE.and(Flags::FAST),
            categories: Acl::KEYSPACE,
            keys: &[
                KeySpec::range(Key::RW.and(Key::ACCESS).and(Key::DELETE), 1, 0, 1),
                KeySpec::range(Key::OW.and(Key::INSERT), 2, 0, 1),
            ],
            group: Group::Generic,
            since: "1.0.0",
            complexity: "O(1)",
            summary: "Renames a key only when the target key name doesn't exist.",
            args: "key:key newkey:key#1",
            history: &[(
                "3.2.0",
                "The command no longer returns an error when source and destination names are the same.",
            )],
            ..CommandSpec::EMPTY
        },
        renamenx,
    ),
    Command::new(
        CommandSpec {
            name: "copy",
            arity: -3,
            flags: Flags::WRITE.and(Flags::DENYOOM),
            categories: Acl::KEYSPACE,
            keys: &[
                KeySpec::range(Key::RO.and(Key::ACCESS), 1, 0, 1),
                KeySpec::range(Key::OW.and(Key::UPDATE), 2, 0, 1),
            ],
            group: Group::Generic,
            since: "6.2.0",
            complexity: "O(N) worst case for collections, where N is the number of nested items. O(1) for string values.",
            summary: "Copies the value of a key to a new key.",
            args: "source:key destination:key#1 [DB=destination-db:int] [REPLACE]",
            ..CommandSpec::EMPTY
        },
        copy,
    ),
    Command::new(
        CommandSpec {
            name: "move",
            arity: 3,
            flags: Flags::WRITE.and(Flags::FAST),
            categories: Acl::KEYSPACE,
            keys: &[KeySpec::range(
                Key::RW.and(Key::ACCESS).and(Key::UPDATE),
                1,
                0,
                1,
            )],
            group: Group::Generic,
            since: "1.0.0",
            complexity: "O(1)",
            summary: "Moves a key to another database.",
            args: "key:key db:int",
            ..CommandSpec::EMPTY
        },
        move_,
    ),
    Command::new(
        CommandSpec {
            name: "dbsize",
            arity: 1,
            flags: Flags::READONLY.and(Flags::FAST),
            categories: Acl::KEYSPACE,
            group: Group::Server,
            since: "1.0.0",
            complexity: "O(1)",
            summary: "Returns the number of keys in the database.",
            tips: &["request_policy:all_shards", "response_policy:agg_sum"],
            ..CommandSpec::EMPTY
        },
        dbsize,
    ),
    Command::new(
        CommandSpec {
            name: "randomkey",
            arity: 1,
            flags: Flags::READONLY.and(Flags::TOUCHES_ARBITRARY_KEYS),
            categories: Acl::KEYSPACE,
            group: Group::Generic,
            since: "1.0.0",
            complexity: "O(1)",
            summary: "Returns a random key name from the database.",
            tips: &[
                "request_policy:all_shards",
                "response_policy:special",
                "nondeterministic_output",
            ],
            ..CommandSpec::EMPTY
        },
        randomkey,
    ),
    Command::new(
        CommandSpec {
            name: "flushdb",
            arity: -1,
            flags: Flags::WRITE,
            categories: Acl::DANGEROUS.and(Acl::KEYSPACE),
            group: Group::Server,
            since: "1.0.0",
            complexity: "O(N) where N is the number of keys in the selected database",
            summary: "Removes all keys from the current database.",
            args: "[(ASYNC@4.0.0 | SYNC@6.2.0)<flush-type>]",
            tips: &["request_policy:all_shards", "response_policy:all_succeeded"],
            history: &[
                ("4.0.0", "Added the `ASYNC` flushing mode modifier."),
                ("6.2.0", "Added the `SYNC` flushing mode modifier."),
            ],
            ..CommandSpec::EMPTY
        },
        flushdb,
    ),
    Command::new(
        CommandSpec {
            name: "swapdb",
            arity: 3,
            flags: Flags::WRITE.and(Flags::FAST),
            categories: Acl::DANGEROUS.and(Acl::KEYSPACE),
            group: Group::Server,
            since: "4.0.0",
            complexity: "O(N) where N is the count of clients watching or blocking on keys from both databases.",
            summary: "Swaps two databases.",
            args: "index1:int index2:int",
            ..CommandSpec::EMPTY
        },
        swapdb,
    ),
    Command::new(
        CommandSpec {
            name: "flushall",
            arity: -1,
            flags: Flags::WRITE.and(Flags::ALL_DBS),
            categories: Acl::DANGEROUS.and(Acl::KEYSPACE),
            group: Group::Server,
            since: "1.0.0",
            complexity: "O(N) where N is the total number of keys in all databases",
            summary: "Removes all keys from all databases.",
            args: "[(ASYNC@4.0.0 | SYNC@6.2.0)<flush-type>]",
            tips: &["request_policy:all_shards", "response_policy:all_succeeded"],
            history: &[
                ("4.0.0", "Added the `ASYNC` flushing mode modifier."),
                ("6.2.0", "Added the `SYNC` flushing mode modifier."),
            ],
            ..CommandSpec::EMPTY
        },
        flushall,
    ),
    Command::container(
        CommandSpec {
            name: "object",
            arity: -2,
            flags: Flags::NONE,
            categories: Acl::NONE,
            group: Group::Generic,
            since: "2.2.3",
            complexity: "Depends on subcommand.",
            summary: "A container for object introspection commands.",
            ..CommandSpec::EMPTY
        },
        object,
        &[
            Command::new(
                CommandSpec {
                    name: "encoding",
                    arity: 3,
                    flags: Flags::READONLY,
                    categories: Acl::KEYSPACE,
                    keys: &[KeySpec::range(Key::RO, 2, 0, 1)],
                    group: Group::Generic,
                    since: "2.2.3",
                    complexity: "O(1)",
                    summary: "Returns the internal encoding of an object.",
                    args: "key:key",
                    tips: &["nondeterministic_output"],
                    ..CommandSpec::EMPTY
                },
                object_encoding,
            ),
            Command::new(
                CommandSpec {
                    name: "freq",
                    arity: 3,
                    flags: Flags::READONLY,
                    categories: Acl::KEYSPACE,
                    keys: &[KeySpec::range(Key::RO, 2, 0, 1)],
                    group: Group::Generic,
                    since: "4.0.0",
                    complexity: "O(1)",
                    summary: "Returns the logarithmic access frequency counter of an object.",
                    args: "key:key",
                    tips: &["nondeterministic_output"],
                    ..CommandSpec::EMPTY
                },
                object_freq,
            ),
            Command::new(
                CommandSpec {
                    name: "help",
                    arity: 2,
                    flags: Flags::LOADING.and(Flags::STALE),
                    categories: Acl::KEYSPACE,
                    group: Group::Generic,
                    since: "6.2.0",
                    complexity: "O(1)",
                    summary: "Returns helpful text about the different subcommands.",
                    ..CommandSpec::EMPTY
                },
                object_help,
            ),
            Command::new(
                CommandSpec {
                    name: "idletime",
                    arity: 3,
                    flags: Flags::READONLY,
                    categories: Acl::KEYSPACE,
                    keys: &[KeySpec::range(Key::RO, 2, 0, 1)],
                    group: Group::Generic,
                    since: "2.2.3",
                    complexity: "O(1)",
                    summary: "Returns the time since the last access to an object.",
                    args: "key:key",
                    tips: &["nondeterministic_output"],
                    ..CommandSpec::EMPTY
                },
                object_idletime,
            ),
            Command::new(
                CommandSpec {
                    name: "refcount",
                    arity: 3,
                    flags: Flags::READONLY,
                    categories: Acl::KEYSPACE,
                    keys: &[KeySpec::range(Key::RO, 2, 0, 1)],
                    group: Group::Generic,
                    since: "2.2.3",
                    complexity: "O(1)",
                    summary: "Returns the reference count of a value of a key.",
                    args: "key:key",
                    tips: &["nondeterministic_output"],
                    ..CommandSpec::EMPTY
                },
                object_refcount,
            ),
        ],
    ),
    Command::new(
        CommandSpec {
            name: "dump",
            arity: 2,
            flags: Flags::READONLY,
            categories: Acl::KEYSPACE,
            keys: &[KeySpec::range(Key::RO.and(Key::ACCESS), 1, 0, 1)],
            group: Group::Generic,
            since: "2.6.0",
            complexity: "O(1) to access the key and additional O(N*M) to serialize it, where N is the number of objects composing the value and M their average size. For small string values the time complexity is thus O(1)+O(1*M) where M is small, so simply O(1).",
            summary: "Returns a serialized representation of the value stored at a key.",
            args: "key:key",
            tips: &["nondeterministic_output"],
            ..CommandSpec::EMPTY
        },
        dump,
    ),
    Command::new(
        CommandSpec {
            name: "restore",
            arity: -4,
            flags: Flags::WRITE.and(Flags::DENYOOM),
            categories: Acl::DANGEROUS.and(Acl::KEYSPACE),
            keys: &[KeySpec::range(Key::OW.and(Key::UPDATE), 1, 0, 1)],
            group: Group::Generic,
            since: "2.6.0",
            complexity: "O(1) to create the new key and additional O(N*M) to reconstruct the serialized value, where N is the number of objects composing the value and M their average size. For small string values the time complexity is thus O(1)+O(1*M) where M is small, so simply O(1). However for sorted set values the complexity is O(N*M*log(N)) because inserting values into sorted sets is O(log(N)).",
            summary: "Creates a key from the serialized representation of a value.",
            args: "key:key ttl:int serialized-value [REPLACE@3.0.0] [ABSTTL@5.0.0] [IDLETIME=seconds:int@5.0.0] [FREQ=frequency:int@5.0.0]",
            history: &[
                ("3.0.0", "Added the `REPLACE` modifier."),
                ("5.0.0", "Added the `ABSTTL` modifier."),
                ("5.0.0", "Added the `IDLETIME` and `FREQ` options."),
            ],
            ..CommandSpec::EMPTY
        },
        restore,
    ),
    Command::new(
        CommandSpec {
            name: "restore-asking",
            arity: -4,
            flags: Flags::WRITE.and(Flags::DENYOOM).and(Flags::ASKING),
            categories: Acl::DANGEROUS.and(Acl::KEYSPACE),
            keys: &[KeySpec::range(Key::OW.and(Key::UPDATE), 1, 0, 1)],
            group: Group::Server,
            since: "3.0.0",
            complexity: "O(1) to create the new key and additional O(N*M) to reconstruct the serialized value, where N is the number of objects composing the value and M their average size. For small string values the time complexity is thus O(1)+O(1*M) where M is small, so simply O(1). However for sorted set values the complexity is O(N*M*log(N)) because inserting values into sorted sets is O(log(N)).",
            summary: "An internal command for migrating keys in a cluster.",
            args: "key:key ttl:int serialized-value [REPLACE@3.0.0] [ABSTTL@5.0.0] [IDLETIME=seconds:int@5.0.0] [FREQ=frequency:int@5.0.0]",
            history: &[
                ("3.0.0", "Added the `REPLACE` modifier."),
                ("5.0.0", "Added the `ABSTTL` modifier."),
                ("5.0.0", "Added the `IDLETIME` and `FREQ` options."),
            ],
            syscmd: true,
            ..CommandSpec::EMPTY
        },
        restore,
    ),
];
