//! The commands of consumer groups, but for reading: `XGROUP`, `XACK`, `XPENDING`, `XCLAIM`, `XAUTOCLAIM`.

use super::StreamValue;
use super::stream_group::{Pending, StreamGroup, UNKNOWN_READ};
use super::stream_group_rows as rows;
use super::stream_id::{StreamId, parse, parse_end, parse_start, parse_strict};
use super::stream_reply as reply;
use crate::spec::Command;
use crate::value::DataType;
use crate::{Call, CmdError, CmdResult, DONE, Engine, EventClass, Mode};
use holdfast_resp::{format_i64, write};

/// The rows with their functions.
pub const COMMANDS: &[Command] = &[
    Command::new(rows::XACK, xack),
    Command::new(rows::XAUTOCLAIM, xautoclaim),
    Command::new(rows::XCLAIM, xclaim),
    Command::container(
        rows::XGROUP,
        unknown_subcommand,
        &[
            Command::new(rows::XGROUP_CREATE, create),
            Command::new(rows::XGROUP_CREATECONSUMER, create_consumer),
            Command::new(rows::XGROUP_DELCONSUMER, delete_consumer),
            Command::new(rows::XGROUP_DESTROY, destroy),
            Command::new(rows::XGROUP_HELP, help),
            Command::new(rows::XGROUP_SETID, set_id),
        ],
    ),
    Command::new(rows::XPENDING, xpending),
];

fn unknown_subcommand(_: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    let name = String::from_utf8_lossy(call.arg(1)).into_owned();
    Err(CmdError::text(format!(
        "ERR unknown subcommand '{name}'. Try XGROUP HELP."
    )))
}

fn subcommand_syntax(call: &Call<'_>) -> CmdError {
    super::stream_info_commands::subcommand_syntax(call, "XGROUP")
}

fn help(_: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    const LINES: &[&str] = &[
        "XGROUP <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
        "CREATE <key> <groupname> <id|$> [option]",
        "    Create a new consumer group. Options are:",
        "    * MKSTREAM",
        "      Create the empty stream if it does not exist.",
        "    * ENTRIESREAD entries_read",
        "      Set the group's entries_read counter (internal use).",
        "CREATECONSUMER <key> <groupname> <consumer>",
        "    Create a new consumer in the specified group.",
        "DELCONSUMER <key> <groupname> <consumer>",
        "    Remove the specified consumer.",
        "DESTROY <key> <groupname>",
        "    Remove the specified group.",
        "SETID <key> <groupname> <id|$> [ENTRIESREAD entries_read]",
        "    Set the current group ID and entries_read counter.",
        "HELP",
        "    Print this help.",
    ];
    call.reply_array(LINES.len());
    LINES.iter().for_each(|line| call.reply_simple(line));
    DONE
}

/// The error of a command on a key or group that is not there. What is inserted is as the client sent it.
fn no_group(key: &[u8], group: &[u8], behind: &str) -> CmdError {
    let mut text = b"NOGROUP No such key '".to_vec();
    text.extend_from_slice(key);
    text.extend_from_slice(b"' or consumer group '");
    text.extend_from_slice(group);
    text.push(b'\'');
    text.extend_from_slice(behind.as_bytes());
    CmdError::text(text)
}

/// The same of `XREADGROUP`.
pub(super) fn no_group_to_read(key: &[u8], group: &[u8]) -> CmdError {
    no_group(key, group, " in XREADGROUP with GROUP option")
}

/// The error of `XGROUP` and `XINFO` on a group that is not there.
pub(super) fn no_such_group(key: &[u8], group: &[u8]) -> CmdError {
    let mut text = b"NOGROUP No such consumer group '".to_vec();
    text.extend_from_slice(group);
    text.extend_from_slice(b"' for key name '");
    text.extend_from_slice(key);
    text.push(b'\'');
    CmdError::text(text)
}

const KEY_MUST_EXIST: CmdError = CmdError::Static(
    "ERR The XGROUP subcommand requires the key to exist. Note that for CREATE you may want to use the MKSTREAM option to create an empty stream automatically.",
);

/// The stream of an `XGROUP` subcommand.
fn existing<'e>(
    engine: &'e mut Engine,
    call: &mut Call<'_>,
) -> Result<&'e mut StreamValue, CmdError> {
    let key = call.arg(2);
    engine
        .write::<StreamValue>(call, key)?
        .ok_or(KEY_MUST_EXIST)
}

/// The stream and group of an `XGROUP` subcommand: id of the stream's last entry, and the group.
fn existing_group<'e>(
    engine: &'e mut Engine,
    call: &mut Call<'_>,
) -> Result<(StreamId, &'e mut StreamGroup), CmdError> {
    let (key, name) = (call.arg(2), call.arg(3));
    let stream = existing(engine, call)?;
    let group = stream.groups.get_mut(name);
    let group = group.ok_or_else(|| no_such_group(key, name))?;
    Ok((stream.entries.last_id, group))
}

/// The options of `XGROUP CREATE` and `SETID`: whether to create the stream, and the group's counter.
fn group_options(call: &Call<'_>, creates: bool) -> Result<(bool, i64), CmdError> {
    let (mut make_stream, mut entries_read) = (false, UNKNOWN_READ);
    let mut i = 5;
    while i < call.argv.len() {
        if creates && call.arg_is(i, "MKSTREAM") {
            make_stream = true;
            i += 1;
        } else if call.arg_is(i, "ENTRIESREAD") && i + 1 < call.argv.len() {
            entries_read = call.int_arg(i + 1)?;
            if entries_read < UNKNOWN_READ {
                return Err(CmdError::Static(
                    "ERR value for ENTRIESREAD must be positive or -1",
                ));
            }
            i += 2;
        } else {
            return Err(subcommand_syntax(call));
        }
    }
    Ok((make_stream, entries_read))
}

fn create(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    let (make_stream, entries_read) = group_options(call, true)?;
    let (key, name, id) = (call.arg(2), call.arg(3), call.arg(4));
    let last = engine.write::<StreamValue>(call, key)?;
    let last = last.map(|stream| stream.entries.last_id);
    if last.is_none() && !make_stream {
        return Err(KEY_MUST_EXIST);
    }
    if call.argv.len() > 8 {
        return Err(subcommand_syntax(call));
    }
    let id = match id {
        b"$" => last.unwrap_or(StreamId::MIN),
        id => parse_strict(id)?,
    };
    let stream = engine.write_or_create(call, key, StreamValue::new)?;
    if !stream
        .groups
        .insert(name, StreamGroup::new(id, entries_read))
    {
        return Err(CmdError::Static(
            "BUSYGROUP Consumer Group name already exists",
        ));
    }
    call.notify(EventClass::STREAM, "xgroup-create", key);
    match last {
        None => call.modified(key, 1),
        Some(_) => call.modified_within(key, 1),
    }
    call.reply_ok();
    DONE
}

fn set_id(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    let (_, entries_read) = group_options(call, false)?;
    let (key, id) = (call.arg(2), call.arg(4));
    let (last, group) = existing_group(engine, call)?;
    if !matches!(call.argv.len(), 5 | 7) {
        return Err(subcommand_syntax(call));
    }
    group.last_id = match id {
        b"$" => last,
        id => parse(id, 0)?,
    };
    group.entries_read = entries_read;
    call.notify(EventClass::STREAM, "xgroup-setid", key);
    call.modified_within(key, 1);
    call.reply_ok();
    DONE
}

fn destroy(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    let (key, name) = (call.arg(2), call.arg(3));
    let removed = existing(engine, call)?.groups.remove(name);
    let found = removed.is_some();
    if let Some(group) = removed {
        engine.set_aside(StreamValue::of_group(group).into_value());
        call.notify(EventClass::STREAM, "xgroup-destroy", key);
        call.modified_within(key, 1);
        // Those who wait in this group are to hear that it is gone.
        call.signal_ready(key);
    }
    call.reply_int(i64::from(found));
    DONE
}

fn create_consumer(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    let (key, consumer, now_ms) = (call.arg(2), call.arg(4), call.now_ms as i64);
    let (_, group) = existing_group(engine, call)?;
    let (_, created) = group.find_or_create(consumer, now_ms);
    if created {
        note_consumer_created(call, key);
    }
    call.reply_int(i64::from(created));
    DONE
}

/// What is reported of a new consumer.
pub(super) fn note_consumer_created(call: &mut Call<'_>, key: &[u8]) {
    call.notify(EventClass::STREAM, "xgroup-createconsumer", key);
    call.modified_within(key, 1);
}

fn delete_consumer(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    let (key, consumer) = (call.arg(2), call.arg(4));
    let (_, group) = existing_group(engine, call)?;
    let removed = group.remove_consumer(consumer);
    if removed.is_some() {
        call.notify(EventClass::STREAM, "xgroup-delconsumer", key);
        call.modified_within(key, 1);
    }
    call.reply_len(removed.unwrap_or(0));
    DONE
}

fn xack(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    let (key, name) = (call.arg(1), call.arg(2));
    engine.touch_key(call, key);
    let stream = engine.write::<StreamValue>(call, key)?;
    let Some(group) = stream.and_then(|s| s.groups.get_mut(name)) else {
        call.reply_int(0);
        return DONE;
    };
    let ids = call.argv.get(3..).unwrap_or_default();
    ids.iter().try_for_each(|id| parse_strict(id).map(drop))?;
    let ids = ids.iter().filter_map(|id| parse_strict(id).ok());
    let done = ids.filter(|id| group.acknowledge(*id)).count();
    if done > 0 {
        call.modified_within(key, done as u64);
    }
    call.reply_len(done);
    DONE
}

fn xpending(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    let (key, name) = (call.arg(1), call.arg(2));
    let argc = call.argv.len();
    if argc != 3 && !(6..=9).contains(&argc) {
        return Err(CmdError::SYNTAX);
    }
    let mut range = None;
    if argc >= 6 {
        let (mut at, mut idle) = (3, 0);
        if call.arg_is(3, "IDLE") {
            idle = call.int_arg(4)?;
            if argc < 8 {
                return Err(CmdError::SYNTAX);
            }
            at = 5;
        }
        let count = usize::try_from(call.int_arg(at + 2)?).unwrap_or(0);
        let ids = parse_start(call.arg(at))?..=parse_end(call.arg(at + 1))?;
        range = Some((ids, count, idle, call.argv.get(at + 3).copied()));
    }
    let now_ms = call.now_ms as i64;
    let stream = engine.read::<StreamValue>(call, key)?;
    let group = stream
        .and_then(|s| s.groups.get(name))
        .ok_or_else(|| no_group(key, name, ""))?;
    let Some((ids, count, idle, consumer)) = range else {
        pending_summary(call, group);
        return DONE;
    };
    let own = match consumer {
        None => None,
        Some(name) => match group.find(name).and_then(|c| group.consumer(c)) {
            None => {
                call.reply_array(0);
                return DONE;
            }
            found => found,
        },
    };
    let (start, end) = ids.into_inner();
    let wanted = |(id, pending): &(StreamId, Pending)| {
        *id <= end && (idle == 0 || now_ms.saturating_sub(pending.delivered_ms) >= idle)
    };
    reply::counted(call.reply, 0, |out| {
        let write = |(id, pending): (StreamId, Pending)| {
            write::array(out, 4);
            reply::id(out, id);
            write::bulk(out, group.owner(&pending));
            write::int(out, now_ms.saturating_sub(pending.delivered_ms).max(0));
            write::int(out, pending.deliveries as i64);
        };
        match own {
            None => {
                let all = group.pending();
                all.iter_from(all.lower_bound(start))
                    .take_while(|(id, _)| *id <= end)
                    .map(|(id, p)| (id, *p))
                    .filter(wanted)
                    .take(count)
                    .map(write)
                    .count()
            }
            Some(consumer) => {
                let ids = &consumer.pending;
                ids.iter_from(ids.lower_bound(start))
                    .take_while(|(id, ())| *id <= end)
                    .filter_map(|(id, ())| Some((id, *group.pending().get(id)?)))
                    .filter(wanted)
                    .take(count)
                    .map(write)
                    .count()
            }
        }
    });
    DONE
}

fn pending_summary(call: &mut Call<'_>, group: &StreamGroup) {
    call.reply_array(4);
    let pending = group.pending();
    call.reply_len(pending.len());
    let (Some((first, _)), Some((last, _))) = (pending.first(), pending.last()) else {
        call.reply_null();
        call.reply_null();
        call.reply_null_array();
        return;
    };
    reply::id(call.reply, first);
    reply::id(call.reply, last);
    let busy = || group.consumers().filter(|c| !c.pending.is_empty());
    call.reply_array(busy().count());
    for consumer in busy() {
        call.reply_array(2);
        call.reply_bulk(&consumer.name);
        call.reply_bulk_int(consumer.pending.len() as i64);
    }
}

/// Propagates what became of a pending entry: whoever applies it gets the same entry, or none if the stream has none of this id.
pub(super) fn propagate_claim(
    call: &mut Call<'_>,
    (key, name): (&[u8], &[u8]),
    group: &StreamGroup,
    id: &[u8],
    pending: &Pending,
) {
    if !call.fx.enabled() {
        return;
    }
    call.rewrite(&[
        b"XCLAIM",
        key,
        name,
        group.owner(pending),
        b"0",
        id,
        b"TIME",
        format_i64(pending.delivered_ms).as_bytes(),
        b"RETRYCOUNT",
        format_i64(pending.deliveries as i64).as_bytes(),
        b"FORCE",
        b"JUSTID",
        b"LASTID",
        group.last_id.text().as_ref(),
    ]);
}

/// Propagates how far a group has read.
pub(super) fn propagate_group_id(
    call: &mut Call<'_>,
    (key, name): (&[u8], &[u8]),
    group: &StreamGroup,
) {
    call.rewrite(&[
        b"XGROUP",
        b"SETID",
        key,
        name,
        group.last_id.text().as_ref(),
        b"ENTRIESREAD",
        format_i64(group.entries_read).as_bytes(),
    ]);
}

/// An integer, or an error that names the option.
fn option_int(call: &Call<'_>, index: usize, error: &'static str) -> Result<i64, CmdError> {
    call.int_arg(index).map_err(|_| CmdError::Static(error))
}

/// The options of `XCLAIM`.
#[derive(Default)]
struct Claim {
    force: bool,
    just_id: bool,
    delivered_ms: Option<i64>,
    deliveries: Option<u64>,
    last_id: StreamId,
}

impl Claim {
    fn parse(call: &Call<'_>, from: usize) -> Result<Claim, CmdError> {
        let now_ms = call.now_ms as i64;
        let mut claim = Claim::default();
        let mut i = from;
        while i < call.argv.len() {
            let more = i + 1 < call.argv.len();
            if call.arg_is(i, "FORCE") {
                claim.force = true;
            } else if call.arg_is(i, "JUSTID") {
                claim.just_id = true;
            } else if call.arg_is(i, "IDLE") && more {
                i += 1;
                let idle = option_int(call, i, "ERR Invalid IDLE option argument for XCLAIM")?;
                claim.delivered_ms = Some(now_ms.wrapping_sub(idle));
            } else if call.arg_is(i, "TIME") && more {
                i += 1;
                let time = option_int(call, i, "ERR Invalid TIME option argument for XCLAIM")?;
                claim.delivered_ms = Some(time);
            } else if call.arg_is(i, "RETRYCOUNT") && more {
                i += 1;
                let text = "ERR Invalid RETRYCOUNT option argument for XCLAIM";
                claim.deliveries = u64::try_from(option_int(call, i, text)?).ok();
            } else if call.arg_is(i, "LASTID") && more {
                i += 1;
                claim.last_id = parse_strict(call.arg(i))?;
            } else {
                let mut text = b"ERR Unrecognized XCLAIM option '".to_vec();
                text.extend_from_slice(call.arg(i));
                text.push(b'\'');
                return Err(CmdError::text(text));
            }
            i += 1;
        }
        // A time that cannot be is now. But what is applied was checked where it comes from, by another clock.
        let sane = |at: &i64| *at >= 0 && (*at <= now_ms || call.mode == Mode::Apply);
        claim.delivered_ms = claim.delivered_ms.filter(sane);
        Ok(claim)
    }
}

fn xclaim(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    let (key, name, consumer) = (call.arg(1), call.arg(2), call.arg(3));
    let now_ms = call.now_ms as i64;
    engine.touch_key(call, key);
    let stream = engine.write::<StreamValue>(call, key)?;
    let Some((entries, group)) = stream.and_then(|s| Some((&s.entries, s.groups.get_mut(name)?)))
    else {
        return Err(no_group(key, name, ""));
    };
    let min_idle = option_int(call, 4, "ERR Invalid min-idle-time argument for XCLAIM")?;
    let ids = call.argv.get(5..).unwrap_or_default();
    let ids_len = ids
        .iter()
        .position(|id| parse_strict(id).is_err())
        .unwrap_or(ids.len());
    let ids = ids.get(..ids_len).unwrap_or_default();
    let claim = Claim::parse(call, 5 + ids_len)?;
    call.rewrite_as_nothing();
    let mut moved_on = claim.last_id > group.last_id;
    group.last_id = group.last_id.max(claim.last_id);
    let (owner, created) = group.find_or_create(consumer, now_ms);
    if created {
        note_consumer_created(call, key);
    }
    if let Some(consumer) = group.consumer_mut(owner) {
        consumer.seen_ms = now_ms;
    }
    let header = call.reply.len();
    let mut claimed = 0;
    for id_text in ids {
        let id = parse_strict(id_text)?;
        let before = group.pending().get(id).copied();
        let Some(entry) = entries.get(id) else {
            if let Some(pending) = before {
                propagate_claim(call, (key, name), group, id_text, &pending);
                moved_on = false;
                group.acknowledge(id);
                call.modified_within(key, 1);
            }
            continue;
        };
        let idle = |p: &Pending| now_ms.saturating_sub(p.delivered_ms);
        let mut deliveries = match &before {
            Some(pending) if min_idle > 0 && idle(pending) < min_idle => continue,
            Some(pending) => pending.deliveries,
            None if claim.force => 1,
            None => continue,
        };
        match claim.deliveries {
            Some(n) => deliveries = n,
            None if !claim.just_id => deliveries = deliveries.wrapping_add(1),
            None => {}
        }
        let pending = Pending {
            delivered_ms: claim.delivered_ms.unwrap_or(now_ms),
            deliveries,
            consumer: owner,
        };
        group.assign(id, pending);
        if let Some(consumer) = group.consumer_mut(owner) {
            consumer.active_ms = now_ms;
        }
        if claim.just_id {
            reply::id(call.reply, id);
        } else {
            reply::entry(call.reply, &entry);
        }
        claimed += 1;
        propagate_claim(call, (key, name), group, id_text, &pending);
        moved_on = false;
        call.modified_within(key, 1);
    }
    if moved_on {
        propagate_group_id(call, (key, name), group);
        call.modified_within(key, 1);
    }
    reply::insert_array(call.reply, header, claimed);
    DONE
}

/// How many entries `XAUTOCLAIM` looks at for each that it may claim.
const ATTEMPTS: i64 = 10;

fn xautoclaim(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    let (key, name, consumer) = (call.arg(1), call.arg(2), call.arg(3));
    let now_ms = call.now_ms as i64;
    let min_idle = option_int(call, 4, "ERR Invalid min-idle-time argument for XAUTOCLAIM")?;
    let start = parse_start(call.arg(5))?;
    let (mut count, mut just_id) = (100, false);
    let mut i = 6;
    while i < call.argv.len() {
        if call.arg_is(i, "COUNT") && i + 1 < call.argv.len() {
            i += 1;
            let range = 1..=i64::MAX / 16;
            count = crate::args::int_in(call, i, range, "ERR COUNT must be > 0")?;
        } else if call.arg_is(i, "JUSTID") {
            just_id = true;
        } else {
            return Err(CmdError::SYNTAX);
        }
        i += 1;
    }
    engine.touch_key(call, key);
    let stream = engine.write::<StreamValue>(call, key)?;
    let Some((entries, group)) = stream.and_then(|s| Some((&s.entries, s.groups.get_mut(name)?)))
    else {
        return Err(no_group(key, name, ""));
    };
    call.rewrite_as_nothing();
    let (owner, created) = group.find_or_create(consumer, now_ms);
    if created {
        note_consumer_created(call, key);
    }
    if let Some(consumer) = group.consumer_mut(owner) {
        consumer.seen_ms = now_ms;
    }
    let mut claimed = Vec::new();
    let mut claimed_len = 0;
    let mut deleted = Vec::new();
    let mut attempts = count.saturating_mul(ATTEMPTS);
    let mut cursor = Some(start);
    let next = |group: &StreamGroup, cursor: Option<StreamId>| {
        let pending = group.pending();
        let (id, p) = pending.at(pending.lower_bound(cursor?)?)?;
        Some((id, *p))
    };
    while attempts > 0
        && count > 0
        && let Some((id, mut pending)) = next(group, cursor)
    {
        attempts -= 1;
        cursor = id.next();
        let Some(entry) = entries.get(id) else {
            propagate_claim(call, (key, name), group, id.text().as_ref(), &pending);
            group.acknowledge(id);
            call.modified_within(key, 1);
            deleted.push(id);
            count -= 1;
            continue;
        };
        if min_idle > 0 && now_ms.saturating_sub(pending.delivered_ms) < min_idle {
            continue;
        }
        pending.delivered_ms = now_ms;
        pending.deliveries = pending.deliveries.wrapping_add(u64::from(!just_id));
        pending.consumer = owner;
        group.assign(id, pending);
        if let Some(consumer) = group.consumer_mut(owner) {
            consumer.active_ms = now_ms;
        }
        if just_id {
            reply::id(&mut claimed, id);
        } else {
            reply::entry(&mut claimed, &entry);
        }
        claimed_len += 1;
        count -= 1;
        propagate_claim(call, (key, name), group, id.text().as_ref(), &pending);
        call.modified_within(key, 1);
    }
    let resume = next(group, cursor).map_or(StreamId::MIN, |(id, _)| id);
    call.reply_array(3);
    reply::id(call.reply, resume);
    call.reply_array(claimed_len);
    call.reply.extend_from_slice(&claimed);
    call.reply_array(deleted.len());
    deleted.iter().for_each(|id| reply::id(call.reply, *id));
    DONE
}
