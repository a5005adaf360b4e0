//! The commands of sorted sets on single members and on either end. Ranges are in `zset_range_commands`, unions and their
//! kin in `zset_store_commands`.

use super::ZsetValue;
use super::zset_value::Inserted;
use crate::args::{self, ScanArgs};
use crate::spec::{Acl, Begin, Command, CommandSpec, Find, Flags, Group, Key, KeySpec};
use crate::{Call, CmdError, CmdResult, DONE, Engine, EventClass, TimeoutReply};
use holdfast_resp::{Proto, format_double, format_i64};

/// The rows.
pub const COMMANDS: &[Command] = &[
    Command::new(
        CommandSpec {
            name: "bzmpop",
            arity: -5,
            flags: Flags::WRITE.and(Flags::BLOCKING),
            categories: Acl::SORTEDSET,
            keys: &[KeySpec::new(
                Key::RW.and(Key::ACCESS).and(Key::DELETE),
                Begin::Index(2),
                Find::KeyNum {
                    num: 0,
                    first: 1,
                    step: 1,
                },
            )],
            group: Group::SortedSet,
            since: "7.0.0",
            complexity: "O(K) + O(M*log(N)) where K is the number of provided keys, N being the number of elements in the sorted set, and M being the number of elements popped.",
            summary: "Removes and returns a member by score from one or more sorted sets. Blocks until a member is available otherwise. Deletes the sorted set if the last element was popped.",
            args: "timeout:double numkeys:int key:key... (MIN | MAX)<where> [COUNT=count:int]",
            ..CommandSpec::EMPTY
        },
        bzmpop,
    ),
    Command::new(
        CommandSpec {
            name: "bzpopmax",
            arity: -3,
            flags: Flags::WRITE.and(Flags::FAST).and(Flags::BLOCKING),
            categories: Acl::SORTEDSET,
            keys: &[KeySpec::range(
                Key::RW.and(Key::ACCESS).and(Key::DELETE),
                1,
                -2,
                1,
            )],
            group: Group::SortedSet,
            since: "5.0.0",
            complexity: "O(log(N)) with N being the number of elements in the sorted set.",
            summary: "Removes and returns the member with the highest score from one or more sorted sets. Blocks until a member is available otherwise. Deletes the sorted set if the last element was popped.",
            args: "key:key... timeout:double",
            history: &[(
                "6.0.0",
                "`timeout` is interpreted as a double instead of an integer.",
            )],
            ..CommandSpec::EMPTY
        },
        bzpopmax,
    ),
    Command::new(
        CommandSpec {
            name: "bzpopmin",
            arity: -3,
            flags: Flags::WRITE.and(Flags::FAST).and(Flags::BLOCKING),
            categories: Acl::SORTEDSET,
            keys: &[KeySpec::range(
                Key::RW.and(Key::ACCESS).and(Key::DELETE),
                1,
                -2,
                1,
            )],
            group: Group::SortedSet,
            since: "5.0.0",
            complexity: "O(log(N)) with N being the number of elements in the sorted set.",
            summary: "Removes and returns the member with the lowest score from one or more sorted sets. Blocks until a member is available otherwise. Deletes the sorted set if the last element was popped.",
            args: "key:key... timeout:double",
            history: &[(
                "6.0.0",
                "`timeout` is interpreted as a double instead of an integer.",
            )],
            ..CommandSpec::EMPTY
        },
        bzpopmin,
    ),
    Command::new(
        CommandSpec {
            name: "zadd",
            arity: -4,
            flags: Flags::WRITE.and(Flags::DENYOOM).and(Flags::FAST),
            categories: Acl::SORTEDSET,
            keys: &[KeySpec::range(Key::RW.and(Key::UPDATE), 1, 0, 1)],
            group: Group::SortedSet,
            since: "1.2.0",
            complexity: "O(log(N)) for each item added, where N is the number of elements in the sorted set.",
            summary: "Adds one or more members to a sorted set, or updates their scores. Creates the key if it doesn't exist.",
            args: "key:key [(NX | XX)<condition>@3.0.2] [(GT | LT)<comparison>@6.2.0] [CH<change>@3.0.2] [INCR<increment>@3.0.2] {score:double member}<data>...",
            history: &[
                ("2.4.0", "Accepts multiple elements."),
                ("3.0.2", "Added the `XX`, `NX`, `CH` and `INCR` options."),
                ("6.2.0", "Added the `GT` and `LT` options."),
            ],
            ..CommandSpec::EMPTY
        },
        zadd,
    ),
    Command::new(
        CommandSpec {
            name: "zcard",
            arity: 2,
            flags: Flags::READONLY.and(Flags::FAST),
            categories: Acl::SORTEDSET,
            keys: &[KeySpec::range(Key::RO, 1, 0, 1)],
            group: Group::SortedSet,
            since: "1.2.0",
            complexity: "O(1)",
            summary: "Returns the number of members in a sorted set.",
            args: "key:key",
            ..CommandSpec::EMPTY
        },
        zcard,
    ),
    Command::new(
        CommandSpec {
            name: "zincrby",
            arity: 4,
            flags: Flags::WRITE.and(Flags::DENYOOM).and(Flags::FAST),
            categories: Acl::SORTEDSET,
            keys: &[KeySpec::range(
                Key::RW.and(Key::ACCESS).and(Key::UPDATE),
                1,
                0,
                1,
            )],
            group: Group::SortedSet,
            since: "1.2.0",
            complexity: "O(log(N)) where N is the number of elements in the sorted set.",
            summary: "Increments the score of a member in a sorted set.",
            args: "key:key increment:int member",
            ..CommandSpec::EMPTY
        },
        zincrby,
    ),
    Command::new(
        CommandSpec {
            name: "zmpop",
            arity: -4,
            flags: Flags::WRITE,
            categories: Acl::SORTEDSET,
            keys: &[KeySpec::new(
                Key::RW.and(Key::ACCESS).and(Key::DELETE),
                Begin::Index(1),
                Find::KeyNum {
                    num: 0,
                    first: 1,
                    step: 1,
                },
            )],
            group: Group::SortedSet,
            since: "7.0.0",
            complexity: "O(K) + O(M*log(N)) where K is the number of provided keys, N being the number of elements in the sorted set, and M being the number of elements popped.",
            summary: "Returns the highest- or lowest-scoring members from one or more sorted sets after removing them. Deletes the sorted set if the last member was popped.",
            args: "numkeys:int key:key... (MIN | MAX)<where> [COUNT=count:int]",
            ..CommandSpec::EMPTY
        },
        zmpop,
    ),
    Command::new(
        CommandSpec {
            name: "zmscore",
            arity: -3,
            flags: Flags::READONLY.and(Flags::FAST),
            categories: Acl::SORTEDSET,
            keys: &[KeySpec::range(Key::RO.and(Key::ACCESS), 1, 0, 1)],
            group: Group::SortedSet,
            since: "6.2.0",
            complexity: "O(N) where N is the number of members being requested.",
            summary: "Returns the score of one or more members in a sorted set.",
            args: "key:key member...",
            ..CommandSpec::EMPTY
        },
        zmscore,
    ),
    Command::new(
        CommandSpec {
            name: "zpopmax",
            arity: -2,
            flags: Flags::WRITE.and(Flags::FAST),
            categories: Acl::SORTEDSET,
            keys: &[KeySpec::range(
                Key::RW.and(Key::ACCESS).and(Key::DELETE),
                1,
                0,
                1,
            )],
            group: Group::SortedSet,
            since: "5.0.0",
            complexity: "O(log(N)*M) with N being the number of elements in the sorted set, and M being the number of elements popped.",
            summary: "Returns the highest-scoring members from a sorted set after removing them. Deletes the sorted set if the last member was popped.",
            args: "key:key [count:int]",
            ..CommandSpec::EMPTY
        },
        zpopmax,
    ),
    Command::new(
        CommandSpec {
            name: "zpopmin",
            arity: -2,
            flags: Flags::WRITE.and(Flags::FAST),
            categories: Acl::SORTEDSET,
            keys: &[KeySpec::range(
                Key::RW.and(Key::ACCESS).and(Key::DELETE),
                1,
                0,
                1,
            )],
            group: Group::SortedSet,
            since: "5.0.0",
            complexity: "O(log(N)*M) with N being the number of elements in the sorted set, and M being the number of elements popped.",
            summary: "Returns the lowest-scoring members from a sorted set after removing them. Deletes the sorted set if the last member was popped.",
            args: "key:key [count:int]",
            ..CommandSpec::EMPTY
        },
        zpopmin,
    ),
    Command::new(
        CommandSpec {
            name: "zrandmember",
            arity: -2,
            flags: Flags::READONLY,
            categories: Acl::SORTEDSET,
            keys: &[KeySpec::range(Key::RO.and(Key::ACCESS), 1, 0, 1)],
            group: Group::SortedSet,
            since: "6.2.0",
            complexity: "O(N) where N is the number of members returned",
            summary: "Returns one or more random members from a sorted set.",
            args: "key:key [{count:int [WITHSCORES]}<options>]",
            tips: &["nondeterministic_output"],
            ..CommandSpec::EMPTY
        },
        zrandmember,
    ),
    Command::new(
        CommandSpec {
            name: "zrank",
            arity: -3,
            flags: Flags::READONLY.and(Flags::FAST),
            categories: Acl::SORTEDSET,
            keys: &[KeySpec::range(Key::RO.and(Key::ACCESS), 1, 0, 1)],
            group: Group::SortedSet,
            since: "2.0.0",
            complexity: "O(log(N))",
            summary: "Returns the index of a member in a sorted set ordered by ascending scores.",
            args: "key:key member [WITHSCORE]",
            history: &[("7.2.0", "Added the optional `WITHSCORE` argument.")],
            ..CommandSpec::EMPTY
        },
        zrank,
    ),
    Command::new(
        CommandSpec {
            name: "zrem",
            arity: -3,
            flags: Flags::WRITE.and(Flags::FAST),
            categories: Acl::SORTEDSET,
            keys: &[KeySpec::range(Key::RW.and(Key::DELETE), 1, 0, 1)],
            group: Group::SortedSet,
            since: "1.2.0",
            complexity: "O(M*log(N)) with N being the number of elements in the sorted set and M the number of elements to be removed.",
            summary: "Removes one or more members from a sorted set. Deletes the sorted set if all members were removed.",
            args: "key:key member...",
            history: &[("2.4.0", "Accepts multiple elements.")],
            ..CommandSpec::EMPTY
        },
        zrem,
    ),
    Command::new(
        CommandSpec {
            name: "zrevrank",
            arity: -3,
            flags: Flags::READONLY.and(Flags::FAST),
            categories: Acl::SORTEDSET,
            keys: &[KeySpec::range(Key::RO.and(Key::ACCESS), 1, 0, 1)],
            group: Group::SortedSet,
            since: "2.0.0",
            complexity: "O(log(N))",
            summary: "Returns the index of a member in a sorted set ordered by descending scores.",
            args: "key:key member [WITHSCORE]",
            history: &[("7.2.0", "Added the optional `WITHSCORE` argument.")],
            ..CommandSpec::EMPTY
        },
        zrevrank,
    ),
    Command::new(
        CommandSpec {
            name: "zscan",
            arity: -3,
            flags: Flags::READONLY,
            categories: Acl::SORTEDSET,
            keys: &[KeySpec::range(Key::RO.and(Key::ACCESS), 1, 0, 1)],
            group: Group::SortedSet,
            since: "2.8.0",
            complexity: "O(1) for every call. O(N) for a complete iteration, including enough command calls for the cursor to return back to 0. N is the number of elements inside the collection.",
            summary: "Iterates over members and scores of a sorted set.",
            args: "key:key cursor:int [MATCH=pattern:pattern] [COUNT=count:int] [NOSCORES]",
            tips: &["nondeterministic_output"],
            history: &[("8.0.0", "Added noscores option.")],
            ..CommandSpec::EMPTY
        },
        zscan,
    ),
    Command::new(
        CommandSpec {
            name: "zscore",
            arity: 3,
            flags: Flags::READONLY.and(Flags::FAST),
            categories: Acl::SORTEDSET,
            keys: &[KeySpec::range(Key::RO.and(Key::ACCESS), 1, 0, 1)],
            group: Group::SortedSet,
            since: "1.2.0",
            complexity: "O(1)",
            summary: "Returns the score of a member in a sorted set.",
            args: "key:key member",
            ..CommandSpec::EMPTY
        },
        zscore,
    ),
];

/// The options of `ZADD`.
#[derive(Clone, Copy, Default)]
struct AddOptions {
    absent_only: bool,
    present_only: bool,
    greater: bool,
    less: bool,
    changed: bool,
    increment: bool,
}

pub(super) fn zadd(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    add(engine, call, AddOptions::default())
}

fn zincrby(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    add(
        engine,
        call,
        AddOptions {
            increment: true,
            ..AddOptions::default()
        },
    )
}

fn add(engine: &mut Engine, call: &mut Call<'_>, mut options: AddOptions) -> CmdResult {
    let key = call.arg(1);
    let mut at = 2;
    while at < call.argv.len() {
        let option = match () {
            () if call.arg_is(at, "NX") => &mut options.absent_only,
            () if call.arg_is(at, "XX") => &mut options.present_only,
            () if call.arg_is(at, "CH") => &mut options.changed,
            () if call.arg_is(at, "INCR") => &mut options.increment,
            () if call.arg_is(at, "GT") => &mut options.greater,
            () if call.arg_is(at, "LT") => &mut options.less,
            () => break,
        };
        *option = true;
        at += 1;
    }
    let o = options;
    let pairs = &call.argv[at..];
    if pairs.is_empty() || !pairs.len().is_multiple_of(2) {
        return Err(CmdError::SYNTAX);
    }
    if o.absent_only && o.present_only {
        return Err(CmdError::Static(
            "ERR XX and NX options at the same time are not compatible",
        ));
    }
    if [o.greater, o.less, o.absent_only]
        .iter()
        .filter(|set| **set)
        .count()
        > 1
    {
        return Err(CmdError::Static(
            "ERR GT, LT, and/or NX options at the same time are not compatible",
        ));
    }
    if o.increment && pairs.len() > 2 {
        return Err(CmdError::Static(
            "ERR INCR option supports a single increment-element pair",
        ));
    }
    let scores = (at..call.argv.len())
        .step_by(2)
        .map(|i| call.float_arg(i))
        .collect::<Result<Vec<f64>, _>>()?;
    let members = pairs.iter().skip(1).step_by(2);
    let longest = members.clone().map(|m| m.len()).max().unwrap_or(0);
    let limits = engine.limits();
    let zset = if o.present_only {
        engine.write::<ZsetValue>(call, key)?
    } else {
        let empty = || ZsetValue::new_for(scores.len(), longest, &limits);
        Some(engine.write_or_create(call, key, empty)?)
    };
    let (mut added, mut updated, mut result) = (0u64, 0u64, None);
    if let Some(zset) = zset {
        zset.prepare(scores.len(), longest, &limits);
        for (member, &given) in members.zip(&scores) {
            let old = zset.score(member);
            let mut score = given;
            match old {
                Some(_) if o.absent_only => continue,
                None if o.present_only => continue,
                Some(old) => {
                    if o.increment {
                        score += old;
                        if score.is_nan() {
                            // Only one pair comes with an increment, so nothing has changed yet.
                            return Err(CmdError::Static(
                                "ERR resulting score is not a number (NaN)",
                            ));
                        }
                    }
                    if (o.less && score >= old) || (o.greater && score <= old) {
                        continue;
                    }
                }
                None => {}
            }
            result = Some(score);
            match zset.insert(member, score, &limits) {
                Inserted::Added => added += 1,
                Inserted::Updated => updated += 1,
                Inserted::Same => {}
            }
        }
    }
    if added + updated > 0 {
        call.modified(key, added + updated);
        let event = if o.increment { "zincr" } else { "zadd" };
        call.notify(EventClass::ZSET, event, key);
    }
    match (o.increment, result) {
        (true, Some(score)) => call.reply_double(score),
        (true, None) => call.reply_null(),
        (false, _) => call.reply_int(if o.changed { added + updated } else { added } as i64),
    }
    DONE
}

fn zrem(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    let key = call.arg(1);
    let Some(zset) = engine.write::<ZsetValue>(call, key)? else {
        call.reply_int(0);
        return DONE;
    };
    let removed = call.argv[2..].iter().filter(|m| zset.remove(m)).count();
    if removed > 0 {
        let event = (EventClass::ZSET, "zrem");
        let empty = zset.is_empty();
        engine.removed_from(call, key, event, empty, removed as u64);
    }
    call.reply_len(removed);
    DONE
}

fn zcard(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    let zset = engine.read::<ZsetValue>(call, call.arg(1))?;
    call.reply_len(zset.map_or(0, ZsetValue::len));
    DONE
}

fn zscore(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    let zset = engine.read::<ZsetValue>(call, call.arg(1))?;
    match zset.and_then(|z| z.score(call.arg(2))) {
        Some(score) => call.reply_double(score),
        None => call.reply_null(),
    }
    DONE
}

fn zmscore(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    let zset = engine.read::<ZsetValue>(call, call.arg(1))?;
    call.reply_array(call.argv.len() - 2);
    for member in &call.argv[2..] {
        match zset.and_then(|z| z.score(member)) {
            Some(score) => call.reply_double(score),
            None => call.reply_null(),
        }
    }
    DONE
}

fn zrank(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    rank(engine, call, "zrank", false)
}

fn zrevrank(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    rank(engine, call, "zrevrank", true)
}

fn rank(engine: &mut Engine, call: &mut Call<'_>, name: &str, reverse: bool) -> CmdResult {
    let with_score = match call.argv.len() {
        3 => false,
        4 if call.arg_is(3, "WITHSCORE") => true,
        4 => return Err(CmdError::SYNTAX),
        _ => return Err(CmdError::wrong_arity(name)),
    };
    let member = call.arg(2);
    let zset = engine.read::<ZsetValue>(call, call.arg(1))?;
    match zset.and_then(|z| Some((z.len(), z.rank(member)?, z.score(member)?))) {
        Some((len, rank, score)) => {
            if with_score {
                call.reply_array(2);
            }
            call.reply_len(if reverse { len - 1 - rank } else { rank });
            if with_score {
                call.reply_double(score);
            }
        }
        None if with_score => call.reply_null_array(),
        None => call.reply_null(),
    }
    DONE
}

/// Which end of the order is popped.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Where {
    Min,
    Max,
}

impl Where {
    fn pop_name(self) -> &'static [u8] {
        match self {
            Where::Min => b"ZPOPMIN",
            Where::Max => b"ZPOPMAX",
        }
    }
}

/// A member and its score.
type Scored = (Box<[u8]>, f64);

/// Pops up to `n` members of a sorted set that is there; the key goes with its last member.
fn take(
    engine: &mut Engine,
    call: &mut Call<'_>,
    key: &[u8],
    end: Where,
    n: usize,
) -> Result<Vec<Scored>, CmdError> {
    let zset = engine
        .write::<ZsetValue>(call, key)?
        .ok_or(CmdError::NO_SUCH_KEY)?;
    let len = zset.len();
    let n = n.min(len);
    let range = match end {
        Where::Min => 0..n,
        Where::Max => len - n..len,
    };
    let popped: Vec<_> = zset
        .range(range.clone(), end == Where::Max)
        .map(|(member, score)| (member.to_boxed(), score))
        .collect();
    zset.remove_range(range);
    if n > 0 {
        let event = match end {
            Where::Min => "zpopmin",
            Where::Max => "zpopmax",
        };
        engine.removed_from(call, key, (EventClass::ZSET, event), n == len, n as u64);
    }
    Ok(popped)
}

fn zpopmin(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    pop(engine, call, Where::Min)
}

fn zpopmax(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    pop(engine, call, Where::Max)
}

fn pop(engine: &mut Engine, call: &mut Call<'_>, end: Where) -> CmdResult {
    let key = call.arg(1);
    let count = match call.argv.len() {
        2 => None,
        3 => Some(args::count(call, 2)?),
        _ => return Err(CmdError::SYNTAX),
    };
    if engine.look::<ZsetValue>(call, key)?.is_none() || count == Some(0) {
        call.reply_array(0);
        return DONE;
    }
    let popped = take(engine, call, key, end, count.unwrap_or(1))?;
    let nested = call.proto == Proto::Resp3 && count.is_some();
    call.reply_array(if nested {
        popped.len()
    } else {
        popped.len() * 2
    });
    reply_pairs(call, &popped, nested);
    DONE
}

fn reply_pairs(call: &mut Call<'_>, pairs: &[Scored], nested: bool) {
    for (member, score) in pairs {
        if nested {
            call.reply_array(2);
        }
        call.reply_bulk(member);
        call.reply_double(*score);
    }
}

/// The first of the keys that holds a sorted set. One of another type before it is an error.
fn first_zset<'k>(
    engine: &mut Engine,
    call: &mut Call<'_>,
    keys: &[&'k [u8]],
) -> Result<Option<&'k [u8]>, CmdError> {
    for key in keys {
        if engine.look::<ZsetValue>(call, key)?.is_some() {
            return Ok(Some(key));
        }
    }
    Ok(None)
}

fn bzpopmin(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    blocking_pop(engine, call, Where::Min)
}

fn bzpopmax(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    blocking_pop(engine, call, Where::Max)
}

fn blocking_pop(engine: &mut Engine, call: &mut Call<'_>, end: Where) -> CmdResult {
    let last = call.argv.len() - 1;
    let keys = &call.argv[1..last];
    let timeout = args::timeout(call, last)?;
    let Some(key) = first_zset(engine, call, keys)? else {
        return args::block(call, keys, timeout, TimeoutReply::NullArray);
    };
    let popped = take(engine, call, key, end, 1)?;
    call.reply_array(1 + popped.len() * 2);
    call.reply_bulk(key);
    reply_pairs(call, &popped, false);
    call.rewrite(&[end.pop_name(), key]);
    DONE
}

fn zmpop(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    pop_many(engine, call, 1, None)
}

fn bzmpop(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    pop_many(engine, call, 2, Some(1))
}

fn pop_many(
    engine: &mut Engine,
    call: &mut Call<'_>,
    keys_at: usize,
    timeout_at: Option<usize>,
) -> CmdResult {
    let (keys, where_at) = args::keys_of(call, keys_at, "ERR numkeys should be greater than 0")?;
    let end = match () {
        () if call.arg_is(where_at, "MIN") => Where::Min,
        () if call.arg_is(where_at, "MAX") => Where::Max,
        () => return Err(CmdError::SYNTAX),
    };
    let count = match call.argv.len() - where_at {
        1 => 1,
        3 if call.arg_is(where_at + 1, "COUNT") => {
            let n = args::int_in(
                call,
                where_at + 2,
                1..=i64::MAX,
                "ERR count should be greater than 0",
            )?;
            usize::try_from(n).unwrap_or(usize::MAX)
        }
        _ => return Err(CmdError::SYNTAX),
    };
    let timeout = timeout_at.map(|i| args::timeout(call, i)).transpose()?;
    match (first_zset(engine, call, keys)?, timeout) {
        (Some(key), _) => {
            let popped = take(engine, call, key, end, count)?;
            call.reply_array(2);
            call.reply_bulk(key);
            call.reply_array(popped.len());
            reply_pairs(call, &popped, true);
            let n = format_i64(popped.len() as i64);
            call.rewrite(&[end.pop_name(), key, n.as_bytes()]);
        }
        (None, None) => call.reply_null_array(),
        (None, Some(timeout)) => return args::block(call, keys, timeout, TimeoutReply::NullArray),
    }
    DONE
}

fn zrandmember(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    let reply_max = engine.config().reply_bytes_max;
    let key = call.arg(1);
    if call.argv.len() == 2 {
        match engine.read::<ZsetValue>(call, key)? {
            None => call.reply_null(),
            Some(zset) => {
                let (member, _) = zset
                    .at_rank(call.rng.index(zset.len()))
                    .ok_or(CmdError::NO_SUCH_KEY)?;
                call.reply_bulk(member.bytes(&mut None));
            }
        }
        return DONE;
    }
    let (n, repeat) = args::draws(call, 2)?;
    let with_scores = match call.argv.len() {
        3 => false,
        4 if call.arg_is(3, "WITHSCORES") => true,
        _ => return Err(CmdError::SYNTAX),
    };
    if with_scores && n > i64::MAX as usize / 2 {
        return Err(CmdError::Static("ERR value is out of range"));
    }
    let Some(zset) = engine.read::<ZsetValue>(call, key)? else {
        call.reply_array(0);
        return DONE;
    };
    // A negative count draws with repetition, in random order.
    let picks = if repeat {
        None
    } else {
        Some(args::distinct_indexes(call, zset.len(), n))
    };
    let total = picks.as_ref().map_or(n, Vec::len);
    let flat = with_scores && call.proto == Proto::Resp2;
    call.reply_array(if flat { total * 2 } else { total });
    for i in 0..total {
        if call.reply.len() > reply_max {
            return Err(CmdError::REPLY_TOO_LONG);
        }
        let index = match &picks {
            Some(picks) => picks[i],
            None => call.rng.index(zset.len()),
        };
        let (member, score) = zset.at_rank(index).ok_or(CmdError::NO_SUCH_KEY)?;
        if with_scores && !flat {
            call.reply_array(2);
        }
        call.reply_bulk(member.bytes(&mut None));
        if with_scores {
            call.reply_double(score);
        }
    }
    DONE
}

fn zscan(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    let cursor = args::scan_cursor(call, 2)?;
    let Some(zset) = engine.read::<ZsetValue>(call, call.arg(1))? else {
        args::reply_empty_scan(call);
        return DONE;
    };
    let scan = ScanArgs::parse(call, Some("NOSCORES"))?;
    let small = zset.scans_at_once();
    scan.run(call, cursor, |cursor, report| {
        zset.scan(cursor, |member, score| {
            // Valkey prints the scores of the two forms differently.
            let score = if small {
                format_double(score)
            } else {
                format_17_digits(score)
            };
            report(member.bytes(&mut None), Some(score.as_bytes()));
        })
    });
    DONE
}

/// A double with 17 significant digits, as C's `%.17g` prints it.
fn format_17_digits(value: f64) -> String {
    if !value.is_finite() {
        return format_double(value);
    }
    let text = format!("{value:.16e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let trim = |s: &str| match s.contains('.') {
        true => s.trim_end_matches('0').trim_end_matches('.').to_string(),
        false => s.to_string(),
    };
    if (-4..17).contains(&exponent) {
        let decimals = usize::try_from(16 - exponent).unwrap_or(0);
        trim(&format!("{value:.decimals$}"))
    } else {
        let sign = if exponent < 0 { '-' } else { '+' };
        format!("{}e{sign}{:02}", trim(mantissa), exponent.unsigned_abs())
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn seventeen_digits_as_c_prints_them() {
        for (value, want) in [
            (2.72, "2.7200000000000002"),
            (2.0, "2"),
            (-0.5, "-0.5"),
            (1e20, "1e+20"),
            (1.5e-7, "1.4999999999999999e-07"),
            (123456789012.0, "123456789012"),
            (0.0001, "0.0001"),
            (f64::INFINITY, "inf"),
        ] {
            assert_eq!(super::format_17_digits(value), want);
        }
    }
}
