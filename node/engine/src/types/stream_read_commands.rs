//! `XREAD` and `XREADGROUP`: entries of several streams, waiting for them if need be.

use super::StreamValue;
use super::stream_entries::StreamEntries;
use super::stream_group::{Pending, StreamGroup, UNKNOWN_READ};
use super::stream_group_commands::{
    no_group_to_read, note_consumer_created, propagate_claim, propagate_group_id,
};
use super::stream_id::{StreamId, parse_strict};
use super::stream_reply as reply;
use crate::spec::{Acl, Begin, Command, CommandSpec, Find, Flags, Group, Key, KeySpec};
use crate::{Block, Call, CmdError, CmdResult, DONE, Engine, Outcome, TimeoutReply, Wakes};
use holdfast_resp::{Proto, write};
use std::time::Duration;

/// The rows.
pub const COMMANDS: &[Command] = &[
    Command::new(
        CommandSpec {
            name: "xread",
            arity: -4,
            flags: Flags::BLOCKING.and(Flags::READONLY),
            categories: Acl::STREAM,
            keys: &[KeySpec::new(
                Key::RO.and(Key::ACCESS),
                Begin::Keyword {
                    word: "STREAMS",
                    from: 1,
                },
                Find::Range {
                    last: -1,
                    step: 1,
                    limit: 2,
                },
            )],
            group: Group::Stream,
            since: "5.0.0",
            summary: "Returns messages from multiple streams with IDs greater than the ones requested. Blocks until a message is available otherwise.",
            args: "[COUNT=count:int] [BLOCK=milliseconds:int] STREAMS={key:key... id...}<streams>",
            ..CommandSpec::EMPTY
        },
        xread,
    ),
    Command::new(
        CommandSpec {
            name: "xreadgroup",
            arity: -7,
            flags: Flags::BLOCKING.and(Flags::WRITE),
            categories: Acl::STREAM,
            keys: &[KeySpec::new(
                Key::RO.and(Key::ACCESS),
                Begin::Keyword {
                    word: "STREAMS",
                    from: 4,
                },
                Find::Range {
                    last: -1,
                    step: 1,
                    limit: 2,
                },
            )],
            group: Group::Stream,
            since: "5.0.0",
            complexity: "For each stream mentioned: O(M) with M being the number of elements returned. If M is constant (e.g. always asking for the first 10 elements with COUNT), you can consider it O(1). On the other side when XREADGROUP blocks, XADD will pay the O(N) time in order to serve the N clients blocked on the stream getting new data.",
            summary: "Returns new or historical messages from a stream for a consumer in a group. Blocks until a message is available otherwise.",
            args: "GROUP={group consumer}<group-block> [COUNT=count:int] [BLOCK=milliseconds:int] [NOACK] STREAMS={key:key... id...}<streams>",
            ..CommandSpec::EMPTY
        },
        xreadgroup,
    ),
];

/// The arguments of both commands.
struct Read<'a> {
    /// `Some(None)`: wait for ever.
    block: Option<Option<Duration>>,
    count: usize,
    no_ack: bool,
    /// Group and consumer; of `XREADGROUP` only.
    group: Option<(&'a [u8], &'a [u8])>,
    keys: &'a [&'a [u8]],
    ids: &'a [&'a [u8]],
    ids_at: usize,
}

/// `BLOCK`'s time in milliseconds; 0 is for ever.
fn block_time(call: &Call<'_>, index: usize) -> Result<Option<Duration>, CmdError> {
    let ms = call
        .int_arg(index)
        .map_err(|_| CmdError::Static("ERR timeout is not an integer or out of range"))?;
    let ms = u64::try_from(ms).map_err(|_| CmdError::Static("ERR timeout is negative"))?;
    if ms > (i64::MAX as u64).saturating_sub(call.now_ms) {
        return Err(CmdError::Static("ERR timeout is out of range"));
    }
    Ok((ms > 0).then(|| Duration::from_millis(ms)))
}

impl<'a> Read<'a> {
    fn parse(call: &Call<'a>, in_group: bool) -> Result<Self, CmdError> {
        let mut read = Read {
            block: None,
            count: 0,
            no_ack: false,
            group: None,
            keys: &[],
            ids: &[],
            ids_at: 0,
        };
        let argv = call.argv;
        let mut i = 1;
        while i < argv.len() {
            let more = argv.len() - 1 - i;
            if call.arg_is(i, "BLOCK") && more > 0 {
                i += 1;
                read.block = Some(block_time(call, i)?);
            } else if call.arg_is(i, "COUNT") && more > 0 {
                i += 1;
                read.count = usize::try_from(call.int_arg(i)?).unwrap_or(0);
            } else if call.arg_is(i, "STREAMS") && more > 0 {
                let both = argv.get(i + 1..).unwrap_or_default();
                if !both.len().is_multiple_of(2) {
                    let (name, id) = if in_group {
                        ("xreadgroup", '>')
                    } else {
                        ("xread", '$')
                    };
                    return Err(CmdError::text(format!(
                        "ERR Unbalanced '{name}' list of streams: for each stream key an ID or '{id}' must be specified."
                    )));
                }
                (read.keys, read.ids) = both.split_at(both.len() / 2);
                read.ids_at = i + 1 + read.keys.len();
                break;
            } else if call.arg_is(i, "GROUP") && more >= 2 {
                if !in_group {
                    return Err(CmdError::Static(
                        "ERR The GROUP option is only supported by XREADGROUP. You called XREAD instead.",
                    ));
                }
                read.group = Some((call.arg(i + 1), call.arg(i + 2)));
                i += 2;
            } else if call.arg_is(i, "NOACK") {
                if !in_group {
                    return Err(CmdError::Static(
                        "ERR The NOACK option is only supported by XREADGROUP. You called XREAD instead.",
                    ));
                }
                read.no_ack = true;
            } else {
                return Err(CmdError::SYNTAX);
            }
            i += 1;
        }
        if read.keys.is_empty() {
            return Err(CmdError::SYNTAX);
        }
        Ok(read)
    }

    /// Most entries of a stream.
    fn most(&self) -> usize {
        match self.count {
            0 => usize::MAX,
            n => n,
        }
    }

    /// Waits if that is asked for, and otherwise answers that there is nothing.
    fn wait(
        &self,
        call: &mut Call<'_>,
        replaced: Vec<(usize, Box<[u8]>)>,
        wakes: Wakes,
    ) -> CmdResult {
        match self.block {
            Some(timeout) if call.may_block => Ok(Outcome::Block(Box::new(Block {
                keys: self.keys.iter().map(|k| Box::from(*k)).collect(),
                timeout,
                on_timeout: TimeoutReply::NullArray,
                replaced,
                wakes,
            }))),
            _ => {
                call.reply_null_array();
                DONE
            }
        }
    }
}

fn xread(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    let read = Read::parse(call, false)?;
    let mut after = Vec::with_capacity(read.ids.len());
    let mut replaced = Vec::new();
    for (i, (key, id)) in read.keys.iter().zip(read.ids).enumerate() {
        let stream = engine.read::<StreamValue>(call, key)?;
        let entries = stream.map(|s| &s.entries);
        after.push(match *id {
            b"$" => {
                let last = entries.map_or(StreamId::MIN, |e| e.last_id);
                // When executed anew it is still what comes behind the entries of now that is asked for.
                replaced.push((read.ids_at + i, Box::from(last.text().as_ref())));
                last
            }
            b"+" => match entries.filter(|e| !e.is_empty()) {
                Some(entries) => entries
                    .last_id
                    .prev()
                    .ok_or(CmdError::Static("ERR the stream last element ID is 0-0"))?,
                None => StreamId::MIN,
            },
            b">" => {
                return Err(CmdError::Static(
                    "ERR The > ID can be specified only when calling XREADGROUP using the GROUP <group> <consumer> option.",
                ));
            }
            id => parse_strict(id)?,
        });
    }
    // As in Valkey each is looked up once for its type and once to be read, and counts for both.
    for key in read.keys {
        engine.touch_key(call, key);
    }
    let mut served = Served::none(call, read.keys.len());
    for (key, after) in read.keys.iter().zip(after) {
        let entries = engine.peek::<StreamValue>(call, key)?.map(|s| &s.entries);
        let newer = |e: &&StreamEntries| e.last_entry_id().is_some_and(|last| last > after);
        if let Some((entries, from)) = entries.filter(newer).zip(after.next()) {
            served.next(call, key);
            let mut range = entries.range(from, StreamId::MAX);
            reply::counted(call.reply, 1, |out| {
                let mut n = 0;
                while n < read.most()
                    && let Some(entry) = range.next()
                {
                    let read = reply::entry(out, &entry);
                    range.resume_behind(read);
                    n += 1;
                }
                n
            });
        }
    }
    if served.count == 0 {
        return read.wait(call, replaced, Wakes::OnValue);
    }
    served.finish(call);
    DONE
}

/// The streams in a reply: how many there are is known at its end.
struct Served {
    /// Where the reply begins.
    start: usize,
    /// How many its header says.
    said: usize,
    count: usize,
}

impl Served {
    /// No stream yet, of so many at most.
    fn none(call: &Call<'_>, most: usize) -> Served {
        Served {
            start: call.reply.len(),
            said: most,
            count: 0,
        }
    }

    fn header(call: &mut Call<'_>, streams: usize) {
        match call.proto {
            Proto::Resp2 => call.reply_array(streams),
            Proto::Resp3 => call.reply_map(streams),
        }
    }

    /// What stands before a stream's entries.
    fn next(&mut self, call: &mut Call<'_>, key: &[u8]) {
        if self.count == 0 {
            Served::header(call, self.said);
        }
        self.count += 1;
        if call.proto == Proto::Resp2 {
            call.reply_array(2);
        }
        call.reply_bulk(key);
    }

    /// Puts the number of streams that really had something into the header.
    fn finish(self, call: &mut Call<'_>) {
        if self.said != self.count {
            let behind = call.reply.len();
            Served::header(call, self.said);
            let guessed = call.reply.len() - behind;
            call.reply.truncate(behind);
            Served::header(call, self.count);
            let header = call.reply.split_off(behind);
            call.reply.splice(self.start..self.start + guessed, header);
        }
    }
}

/// What `XREADGROUP` is asked for of one stream.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    /// What nobody in the group has got yet.
    New,
    /// What this consumer has got and not acknowledged, behind this id.
    History(StreamId),
}

fn xreadgroup(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    let read = Read::parse(call, true)?;
    let (name, consumer) = read
        .group
        .ok_or(CmdError::Static("ERR Missing GROUP option for XREADGROUP"))?;
    let mut wanted = Vec::with_capacity(read.ids.len());
    for (key, id) in read.keys.iter().zip(read.ids) {
        let stream = engine.read::<StreamValue>(call, key)?;
        if stream.and_then(|s| s.groups.get(name)).is_none() {
            return Err(no_group_to_read(key, name));
        }
        wanted.push(match *id {
            b"$" => return Err(CmdError::Static(DOLLAR)),
            b"+" => return Err(CmdError::Static(PLUS)),
            b">" => Wanted::New,
            id => match parse_strict(id)? {
                StreamId::MAX => Wanted::New,
                id => Wanted::History(id),
            },
        });
    }
    for key in read.keys {
        engine.touch_key(call, key);
    }
    // What is done is propagated in parts of its own.
    call.rewrite_as_nothing();
    let mut served = Served::none(call, read.keys.len());
    for (key, wanted) in read.keys.iter().zip(wanted) {
        let Some(stream) = engine.write::<StreamValue>(call, key)? else {
            continue;
        };
        let Some(group) = stream.groups.get_mut(name) else {
            continue;
        };
        let entries = &stream.entries;
        let now_ms = call.now_ms as i64;
        let (reader, created) = group.find_or_create(consumer, now_ms);
        if created {
            note_consumer_created(call, key);
            if read.no_ack {
                call.rewrite(&[b"XGROUP", b"CREATECONSUMER", key, name, consumer]);
            }
        }
        if let Some(consumer) = group.consumer_mut(reader) {
            consumer.seen_ms = now_ms;
        }
        let serve = match wanted {
            Wanted::New => entries
                .last_entry_id()
                .is_some_and(|last| last > group.last_id),
            Wanted::History(_) => true,
        };
        if !serve {
            continue;
        }
        served.next(call, key);
        match wanted {
            Wanted::New => deliver(call, (key, name), entries, group, reader, &read),
            Wanted::History(after) => {
                // Nothing is behind the greatest id.
                let from = after.next().unwrap_or(StreamId::MAX);
                history(call, entries, group, reader, from, read.most());
            }
        }
        call.modified_within(key, 1);
    }
    if served.count == 0 {
        return read.wait(call, Vec::new(), Wakes::OnAnyChange);
    }
    served.finish(call);
    DONE
}

/// Delivers new entries to a consumer.
fn deliver(
    call: &mut Call<'_>,
    named: (&[u8], &[u8]),
    entries: &StreamEntries,
    group: &mut StreamGroup,
    reader: u32,
    read: &Read<'_>,
) {
    let now_ms = call.now_ms as i64;
    let Some(from) = group.last_id.next() else {
        return call.reply_array(0);
    };
    let header = call.reply.len();
    write::array(call.reply, 1);
    let behind_header = call.reply.len();
    let mut delivered = 0;
    let mut range = entries.range(from, StreamId::MAX);
    while delivered < read.most()
        && let Some(entry) = range.next()
    {
        let id = entry.id;
        let counted = group.entries_read != UNKNOWN_READ
            && group.last_id >= entries.first_id()
            && !entries.has_gaps_from(group.last_id);
        if counted {
            group.entries_read = group.entries_read.wrapping_add(1);
        } else if entries.entries_added > 0 {
            group.entries_read = entries.entries_up_to(id);
        }
        group.last_id = id;
        let fields = reply::entry(call.reply, &entry);
        range.resume_behind(fields);
        delivered += 1;
        if read.no_ack {
            continue;
        }
        let pending = Pending {
            delivered_ms: now_ms,
            deliveries: 1,
            consumer: reader,
        };
        group.assign(id, pending);
        if let Some(consumer) = group.consumer_mut(reader) {
            consumer.active_ms = now_ms;
        }
        propagate_claim(call, named, group, id.text().as_ref(), &pending);
    }
    if delivered > 0 {
        propagate_group_id(call, named, group);
    }
    if delivered != 1 {
        call.reply.drain(header..behind_header);
        reply::insert_array(call.reply, header, delivered);
    }
}

/// Delivers once more what a consumer has not acknowledged. As in Valkey, nothing of this is propagated.
fn history(
    call: &mut Call<'_>,
    entries: &StreamEntries,
    group: &mut StreamGroup,
    reader: u32,
    from: StreamId,
    most: usize,
) {
    let now_ms = call.now_ms as i64;
    let ids: Vec<StreamId> = group.consumer(reader).map_or(Vec::new(), |consumer| {
        let own = &consumer.pending;
        let ids = own.iter_from(own.lower_bound(from)).map(|(id, ())| id);
        ids.take(most).collect()
    });
    call.reply_array(ids.len());
    for id in ids {
        match entries.get(id) {
            Some(entry) => {
                reply::entry(call.reply, &entry);
                if let Some(pending) = group.pending_mut(id) {
                    pending.delivered_ms = now_ms;
                    pending.deliveries = pending.deliveries.wrapping_add(1);
                }
            }
            None => {
                call.reply_array(2);
                reply::id(call.reply, id);
                call.reply_null_array();
            }
        }
    }
}

const DOLLAR: &str = "ERR The $ ID is meaningless in the context of XREADGROUP: you want to read the history of this consumer by specifying a proper ID, or use the > ID to get new messages. The $ ID would just return an empty result set.";
const PLUS: &str = "ERR The + ID is meaningless in the context of XREADGROUP: you want to read the history of this consumer by specifying a proper ID, or use the > ID to get new messages. The + ID would just return an empty result set.";
