//! The commands of streams that add, remove and read entries without consumer groups or waiting.

use super::StreamValue;
use super::stream_entries::{Trim, TrimBy, entry_fits};
use super::stream_id::{NewId, StreamId, parse_end, parse_new, parse_start, parse_strict};
use super::stream_reply as reply;
use crate::spec::{Acl, Command, CommandSpec, Flags, Group, Key, KeySpec};
use crate::{Call, CmdError, CmdResult, DONE, Engine, EventClass, Mode, TypeLimits};
use holdfast_resp::format_i64;

/// The rows.
pub const COMMANDS: &[Command] = &[
    Command::new(
        CommandSpec {
            name: "xadd",
            arity: -5,
            flags: Flags::WRITE.and(Flags::DENYOOM).and(Flags::FAST),
            categories: Acl::STREAM,
            keys: &[KeySpec::range(Key::RW.and(Key::UPDATE), 1, 0, 1)
                .noted("UPDATE instead of INSERT because of the optional trimming feature")],
            group: Group::Stream,
            since: "5.0.0",
            complexity: "O(1) when adding a new entry, O(N) when trimming where N being the number of entries evicted.",
            summary: "Appends a new message to a stream. Creates the key if it doesn't exist.",
            args: "key:key [NOMKSTREAM@6.2.0] [{(MAXLEN | MINID@6.2.0)<strategy> [(\"=\"<equal> | \"~\"<approximately>)<operator>] threshold [LIMIT=count:int@6.2.0]}<trim>] (\"*\"<auto-id> | id)<id-selector> {field value}<data>...",
            tips: &["nondeterministic_output"],
            history: &[
                (
                    "6.2.0",
                    "Added the `NOMKSTREAM` option, `MINID` trimming strategy and the `LIMIT` option.",
                ),
                ("7.0.0", "Added support for the `<ms>-*` explicit ID form."),
            ],
            ..CommandSpec::EMPTY
        },
        xadd,
    ),
    Command::new(
        CommandSpec {
            name: "xdel",
            arity: -3,
            flags: Flags::WRITE.and(Flags::FAST),
            categories: Acl::STREAM,
            keys: &[KeySpec::range(Key::RW.and(Key::DELETE), 1, 0, 1)],
            group: Group::Stream,
            since: "5.0.0",
            complexity: "O(1) for each single item to delete in the stream, regardless of the stream size.",
            summary: "Returns the number of messages after removing them from a stream.",
            args: "key:key id...",
            ..CommandSpec::EMPTY
        },
        xdel,
    ),
    Command::new(
        CommandSpec {
            name: "xlen",
            arity: 2,
            flags: Flags::READONLY.and(Flags::FAST),
            categories: Acl::STREAM,
            keys: &[KeySpec::range(Key::RO, 1, 0, 1)],
            group: Group::Stream,
            since: "5.0.0",
            complexity: "O(1)",
            summary: "Returns the number of messages in a stream.",
            args: "key:key",
            ..CommandSpec::EMPTY
        },
        xlen,
    ),
    Command::new(
        CommandSpec {
            name: "xrange",
            arity: -4,
            flags: Flags::READONLY,
            categories: Acl::STREAM,
            keys: &[KeySpec::range(Key::RO.and(Key::ACCESS), 1, 0, 1)],
            group: Group::Stream,
            since: "5.0.0",
            complexity: "O(N) with N being the number of elements being returned. If N is constant (e.g. always asking for the first 10 elements with COUNT), you can consider it O(1).",
            summary: "Returns the messages from a stream within a range of IDs.",
            args: "key:key start end [COUNT=count:int]",
            history: &[("6.2.0", "Added exclusive ranges.")],
            ..CommandSpec::EMPTY
        },
        xrange,
    ),
    Command::new(
        CommandSpec {
            name: "xrevrange",
            arity: -4,
            flags: Flags::READONLY,
            categories: Acl::STREAM,
            keys: &[KeySpec::range(Key::RO.and(Key::ACCESS), 1, 0, 1)],
            group: Group::Stream,
            since: "5.0.0",
            complexity: "O(N) with N being the number of elements returned. If N is constant (e.g. always asking for the first 10 elements with COUNT), you can consider it O(1).",
            summary: "Returns the messages from a stream within a range of IDs in reverse order.",
            args: "key:key end start [COUNT=count:int]",
            history: &[("6.2.0", "Added exclusive ranges.")],
            ..CommandSpec::EMPTY
        },
        xrevrange,
    ),
    Command::new(
        CommandSpec {
            name: "xsetid",
            arity: -3,
            flags: Flags::WRITE.and(Flags::DENYOOM).and(Flags::FAST),
            categories: Acl::STREAM,
            keys: &[KeySpec::range(Key::RW.and(Key::UPDATE), 1, 0, 1)],
            group: Group::Stream,
            since: "5.0.0",
            complexity: "O(1)",
            summary: "An internal command for replicating stream values.",
            args: "key:key last-id [ENTRIESADDED=entries-added:int@7.0.0] [MAXDELETEDID=max-deleted-id@7.0.0]",
            history: &[(
                "7.0.0",
                "Added the `entries_added` and `max_deleted_entry_id` arguments.",
            )],
            ..CommandSpec::EMPTY
        },
        xsetid,
    ),
    Command::new(
        CommandSpec {
            name: "xtrim",
            arity: -4,
            flags: Flags::WRITE,
            categories: Acl::STREAM,
            keys: &[KeySpec::range(Key::RW.and(Key::DELETE), 1, 0, 1)],
            group: Group::Stream,
            since: "5.0.0",
            complexity: "O(N), with N being the number of evicted entries. Constant times are very small however, since entries are organized in macro nodes containing multiple entries that can be released with a single deallocation.",
            summary: "Deletes messages from the beginning of a stream.",
            args: "key:key {(MAXLEN | MINID@6.2.0)<strategy> [(\"=\"<equal> | \"~\"<approximately>)<operator>] threshold [LIMIT=count:int@6.2.0]}<trim>",
            tips: &["nondeterministic_output"],
            history: &[(
                "6.2.0",
                "Added the `MINID` trimming strategy and the `LIMIT` option.",
            )],
            ..CommandSpec::EMPTY
        },
        xtrim,
    ),
];

/// The options that `XADD` and `XTRIM` share.
struct AddOrTrim {
    trim: Option<Trim>,
    /// Where the count or id to trim by is.
    threshold_at: usize,
    create: bool,
    /// The new entry's id and where it is; of `XADD` only.
    id: NewId,
    id_at: usize,
}

impl AddOrTrim {
    fn parse(call: &Call<'_>, adds: bool, limits: &TypeLimits) -> Result<Self, CmdError> {
        let mut parsed = AddOrTrim {
            trim: None,
            threshold_at: 0,
            create: true,
            id: NewId::Auto,
            id_at: call.argv.len(),
        };
        let mut limit = None;
        let mut i = 2;
        while i < call.argv.len() {
            let more = call.argv.len() - 1 - i;
            if adds && call.arg(i) == b"*" {
                parsed.id_at = i;
                break;
            } else if more > 0 && (call.arg_is(i, "MAXLEN") || call.arg_is(i, "MINID")) {
                if parsed.trim.is_some() {
                    return Err(CmdError::Static(
                        "ERR syntax error, MAXLEN and MINID options at the same time are not compatible",
                    ));
                }
                let by_length = call.arg_is(i, "MAXLEN");
                let operator = more >= 2 && matches!(call.arg(i + 1), b"~" | b"=");
                let approximately = operator && call.arg(i + 1) == b"~";
                i += 1 + usize::from(operator);
                let by =
                    if by_length {
                        let most = call.int_arg(i)?;
                        TrimBy::Length(u64::try_from(most).map_err(|_| {
                            CmdError::Static("ERR The MAXLEN argument must be >= 0.")
                        })?)
                    } else {
                        TrimBy::Id(parse_strict(call.arg(i))?)
                    };
                parsed.threshold_at = i;
                parsed.trim = Some(Trim {
                    by,
                    approximately,
                    limit: 0,
                });
            } else if more > 0 && call.arg_is(i, "LIMIT") {
                i += 1;
                let most = call.int_arg(i)?;
                limit = Some(
                    u64::try_from(most)
                        .map_err(|_| CmdError::Static("ERR The LIMIT argument must be >= 0."))?,
                );
            } else if adds && call.arg_is(i, "NOMKSTREAM") {
                parsed.create = false;
            } else if adds {
                parsed.id = parse_new(call.arg(i))?;
                parsed.id_at = i;
                break;
            } else {
                return Err(CmdError::SYNTAX);
            }
            i += 1;
        }
        let Some(trim) = &mut parsed.trim else {
            return match limit {
                Some(1..) => Err(CmdError::Static(
                    "ERR syntax error, LIMIT cannot be used without specifying a trimming strategy",
                )),
                _ if !adds => Err(CmdError::Static(
                    "ERR syntax error, XTRIM must be called with a trimming strategy",
                )),
                _ => Ok(parsed),
            };
        };
        // What is applied was exact, or has been made so: a limit has had its effect then.
        if call.mode != Mode::Apply {
            trim.limit = match (trim.approximately, limit) {
                (false, Some(_)) => {
                    return Err(CmdError::Static(
                        "ERR syntax error, LIMIT cannot be used without the special ~ option",
                    ));
                }
                (false, None) => 0,
                (true, Some(limit)) => limit,
                // A hundred nodes, so that the command stays quick.
                (true, None) => match limits.stream_node_entries as u64 {
                    0 => 10_000,
                    n => n.saturating_mul(100).min(1_000_000),
                },
            };
        }
        Ok(parsed)
    }
}

/// What an approximate trimming has left, so that it can be propagated as an exact one.
fn exact_threshold(stream: &StreamValue, by: TrimBy) -> Box<[u8]> {
    let entries = &stream.entries;
    match by {
        TrimBy::Length(_) => format_i64(entries.len() as i64).as_bytes().into(),
        TrimBy::Id(_) => entries.first_stored_id().text().as_ref().into(),
    }
}

const ID_TOO_SMALL: CmdError = CmdError::Static(
    "ERR The ID specified in XADD is equal or smaller than the target stream top item",
);

/// The id of a new entry behind `last`.
fn next_id(new: NewId, last: StreamId, now_ms: u64) -> Result<StreamId, CmdError> {
    if last == StreamId::MAX {
        return Err(CmdError::Static(
            "ERR The stream has exhausted the last possible ID, unable to add more items",
        ));
    }
    let id = match new {
        NewId::Auto if now_ms > last.ms => StreamId::new(now_ms, 0),
        NewId::Auto => last.next().ok_or(ID_TOO_SMALL)?,
        NewId::AutoSeq(ms) if ms == last.ms => {
            StreamId::new(ms, last.seq.checked_add(1).ok_or(ID_TOO_SMALL)?)
        }
        NewId::AutoSeq(ms) => StreamId::new(ms, 0),
        NewId::Given(id) => id,
    };
    if id <= last {
        return Err(ID_TOO_SMALL);
    }
    Ok(id)
}

fn xadd(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    let limits = engine.limits();
    let args = AddOrTrim::parse(call, true, &limits)?;
    let pairs = call.argv.get(args.id_at + 1..).unwrap_or_default();
    if pairs.is_empty() || !pairs.len().is_multiple_of(2) {
        return Err(CmdError::wrong_arity("xadd"));
    }
    if args.id == NewId::Given(StreamId::MIN) {
        return Err(CmdError::Static(
            "ERR The ID specified in XADD must be greater than 0-0",
        ));
    }
    let key = call.arg(1);
    if !args.create && engine.write::<StreamValue>(call, key)?.is_none() {
        call.reply_null();
        return DONE;
    }
    if !entry_fits(pairs) {
        return Err(CmdError::Static("ERR Elements are too large to be stored"));
    }
    let stream = engine.write_or_create(call, key, StreamValue::new)?;
    // A stream that has just been created takes any id.
    let id = next_id(args.id, stream.entries.last_id, call.now_ms)?;
    stream.entries.append(id, pairs, &limits);
    let trimmed = args.trim.map_or(0, |trim| stream.entries.trim(&trim));
    let approximate = args.trim.filter(|trim| trim.approximately);
    let threshold = approximate
        .filter(|_| call.fx.enabled())
        .map(|trim| exact_threshold(stream, trim.by));
    call.notify(EventClass::STREAM, "xadd", key);
    if trimmed > 0 {
        call.notify(EventClass::STREAM, "xtrim", key);
    }
    let text = id.text();
    call.reply_bulk(text.as_ref());
    call.modified(key, 1);
    call.signal_ready(key);
    // What was sent stays as it was sent, where it says all.
    let own_id = match args.id {
        NewId::Given(_) => call.arg(args.id_at),
        NewId::Auto | NewId::AutoSeq(_) => text.as_ref(),
    };
    match &threshold {
        Some(threshold) => call.rewrite_args(&[
            (args.threshold_at - 1, b"="),
            (args.threshold_at, threshold),
            (args.id_at, own_id),
        ]),
        None => call.rewrite_args(&[(args.id_at, own_id)]),
    }
    DONE
}

fn xtrim(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    let limits = engine.limits();
    let args = AddOrTrim::parse(call, false, &limits)?;
    let key = call.arg(1);
    let (Some(stream), Some(trim)) = (engine.write::<StreamValue>(call, key)?, args.trim) else {
        call.reply_int(0);
        return DONE;
    };
    let gone = stream.entries.trim(&trim);
    let threshold = trim.approximately.then(|| exact_threshold(stream, trim.by));
    if gone > 0 {
        call.notify(EventClass::STREAM, "xtrim", key);
        call.modified(key, gone);
        if let Some(threshold) = &threshold {
            call.rewrite_args(&[
                (args.threshold_at - 1, b"="),
                (args.threshold_at, threshold),
            ]);
        }
    }
    call.reply_int(gone as i64);
    DONE
}

fn xlen(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    let stream = engine.read::<StreamValue>(call, call.arg(1))?;
    call.reply_len(stream.map_or(0, |s| s.entries.len()));
    DONE
}

fn xrange(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    range(engine, call, false)
}

fn xrevrange(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    range(engine, call, true)
}

fn range(engine: &mut Engine, call: &mut Call<'_>, back: bool) -> CmdResult {
    let (start_at, end_at) = if back { (3, 2) } else { (2, 3) };
    let start = parse_start(call.arg(start_at))?;
    let end = parse_end(call.arg(end_at))?;
    let mut count = usize::MAX;
    let mut i = 4;
    while i < call.argv.len() {
        if !call.arg_is(i, "COUNT") || i + 1 >= call.argv.len() {
            return Err(CmdError::SYNTAX);
        }
        count = usize::try_from(call.int_arg(i + 1)?).unwrap_or(0);
        i += 2;
    }
    let Some(stream) = engine.read::<StreamValue>(call, call.arg(1))? else {
        call.reply_array(0);
        return DONE;
    };
    if count == 0 {
        call.reply_null_array();
        return DONE;
    }
    let entries = &stream.entries;
    let whole = start <= entries.first_id() && entries.last_id <= end;
    let guess = match whole || count < usize::MAX {
        true => entries.len().min(count),
        false => 0,
    };
    reply::counted(call.reply, guess, |out| {
        let mut n = 0;
        if back {
            for entry in entries.range_back(start, end).take(count) {
                reply::entry(out, &entry);
                n += 1;
            }
        } else {
            let mut range = entries.range(start, end);
            while n < count
                && let Some(entry) = range.next()
            {
                let read = reply::entry(out, &entry);
                range.resume_behind(read);
                n += 1;
            }
        }
        n
    });
    DONE
}

fn xdel(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    let key = call.arg(1);
    let Some(stream) = engine.write::<StreamValue>(call, key)? else {
        call.reply_int(0);
        return DONE;
    };
    let ids = call.argv.get(2..).unwrap_or_default();
    ids.iter().try_for_each(|id| parse_strict(id).map(drop))?;
    let ids = ids.iter().filter_map(|id| parse_strict(id).ok());
    let deleted = ids.filter(|id| stream.entries.delete(*id)).count();
    if deleted > 0 {
        call.notify(EventClass::STREAM, "xdel", key);
        call.modified(key, deleted as u64);
    }
    call.reply_len(deleted);
    DONE
}

fn xsetid(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    let (key, id) = (call.arg(1), parse_strict(call.arg(2))?);
    let (mut added, mut max_deleted) = (None, StreamId::MIN);
    let mut i = 3;
    while i < call.argv.len() {
        let more = i + 1 < call.argv.len();
        if call.arg_is(i, "ENTRIESADDED") && more {
            let n = u64::try_from(call.int_arg(i + 1)?);
            added = Some(n.map_err(|_| CmdError::Static("ERR entries_added must be positive"))?);
        } else if call.arg_is(i, "MAXDELETEDID") && more {
            max_deleted = parse_strict(call.arg(i + 1))?;
            if id < max_deleted {
                return Err(CmdError::Static(
                    "ERR The ID specified in XSETID is smaller than the provided max_deleted_entry_id",
                ));
            }
        } else {
            return Err(CmdError::SYNTAX);
        }
        i += 2;
    }
    let stream = engine.write::<StreamValue>(call, key)?;
    let entries = &mut stream.ok_or(CmdError::NO_SUCH_KEY)?.entries;
    if id < entries.max_deleted_id {
        return Err(CmdError::Static(
            "ERR The ID specified in XSETID is smaller than current max_deleted_entry_id",
        ));
    }
    if let Some(last) = entries.last_entry_id() {
        if id < last {
            return Err(CmdError::Static(
                "ERR The ID specified in XSETID is smaller than the target stream top item",
            ));
        }
        if added.is_some_and(|n| n < entries.len() as u64) {
            return Err(CmdError::Static(
                "ERR The entries_added specified in XSETID is smaller than the target stream length",
            ));
        }
    }
    entries.last_id = id;
    entries.entries_added = added.unwrap_or(entries.entries_added);
    if !max_deleted.is_zero() {
        entries.max_deleted_id = max_deleted;
    }
    call.notify(EventClass::STREAM, "xsetid", key);
    call.modified_within(key, 1);
    call.reply_ok();
    DONE
}
