//! The commands of sorted sets on ranges: by rank, by score, by member.

use super::ZsetValue;
use crate::args;
use crate::number::parse_f64;
use crate::spec::{Acl, Command, CommandSpec, Flags, Group, Key, KeySpec};
use crate::value::DataType;
use crate::{Call, CmdError, CmdResult, DONE, Engine, EventClass, Ttl};
use holdfast_resp::Proto;
use std::ops::Range;

/// The rows.
pub const COMMANDS: &[Command] = &[
    Command::new(
        CommandSpec {
            name: "zcount",
            arity: 4,
            flags: Flags::READONLY.and(Flags::FAST),
            categories: Acl::SORTEDSET,
            keys: &[KeySpec::range(Key::RO.and(Key::ACCESS), 1, 0, 1)],
            group: Group::SortedSet,
            since: "2.0.0",
            complexity: "O(log(N)) with N being the number of elements in the sorted set.",
            summary: "Returns the count of members in a sorted set that have scores within a range.",
            args: "key:key min:double max:double",
            ..CommandSpec::EMPTY
        },
        zcount,
    ),
    Command::new(
        CommandSpec {
            name: "zlexcount",
            arity: 4,
            flags: Flags::READONLY.and(Flags::FAST),
            categories: Acl::SORTEDSET,
            keys: &[KeySpec::range(Key::RO.and(Key::ACCESS), 1, 0, 1)],
            group: Group::SortedSet,
            since: "2.8.9",
            complexity: "O(log(N)) with N being the number of elements in the sorted set.",
            summary: "Returns the number of members in a sorted set within a lexicographical range.",
            args: "key:key min max",
            ..CommandSpec::EMPTY
        },
        zlexcount,
    ),
    Command::new(
        CommandSpec {
            name: "zrange",
            arity: -4,
            flags: Flags::READONLY,
            categories: Acl::SORTEDSET,
            keys: &[KeySpec::range(Key::RO.and(Key::ACCESS), 1, 0, 1)],
            group: Group::SortedSet,
            since: "1.2.0",
            complexity: "O(log(N)+M) with N being the number of elements in the sorted set and M the number of elements returned.",
            summary: "Returns members in a sorted set within a range of indexes.",
            args: "key:key start stop [(BYSCORE | BYLEX)<sortby>@6.2.0] [REV@6.2.0] [LIMIT={offset:int count:int}<limit>@6.2.0] [WITHSCORES]",
            history: &[(
                "6.2.0",
                "Added the `REV`, `BYSCORE`, `BYLEX` and `LIMIT` options.",
            )],
            ..CommandSpec::EMPTY
        },
        zrange,
    ),
    Command::new(
        CommandSpec {
            name: "zrangebylex",
            arity: -4,
            flags: Flags::READONLY,
            categories: Acl::SORTEDSET,
            keys: &[KeySpec::range(Key::RO.and(Key::ACCESS), 1, 0, 1)],
            group: Group::SortedSet,
            since: "2.8.9",
            complexity: "O(log(N)+M) with N being the number of elements in the sorted set and M the number of elements being returned. If M is constant (e.g. always asking for the first 10 elements with LIMIT), you can consider it O(log(N)).",
            summary: "Returns members in a sorted set within a lexicographical range.",
            args: "key:key min max [LIMIT={offset:int count:int}<limit>]",
            ..CommandSpec::EMPTY
        },
        zrangebylex,
    ),
    Command::new(
        CommandSpec {
            name: "zrangebyscore",
            arity: -4,
            flags: Flags::READONLY,
            categories: Acl::SORTEDSET,
            keys: &[KeySpec::range(Key::RO.and(Key::ACCESS), 1, 0, 1)],
            group: Group::SortedSet,
            since: "1.0.5",
            complexity: "O(log(N)+M) with N being the number of elements in the sorted set and M the number of elements being returned. If M is constant (e.g. always asking for the first 10 elements with LIMIT), you can consider it O(log(N)).",
            summary: "Returns members in a sorted set within a range of scores.",
            args: "key:key min:double max:double [WITHSCORES@2.0.0] [LIMIT={offset:int count:int}<limit>]",
            history: &[("2.0.0", "Added the `WITHSCORES` modifier.")],
            ..CommandSpec::EMPTY
        },
        zrangebyscore,
    ),
    Command::new(
        CommandSpec {
            name: "zrangestore",
            arity: -5,
            flags: Flags::WRITE.and(Flags::DENYOOM),
            categories: Acl::SORTEDSET,
            keys: &[
                KeySpec::range(Key::OW.and(Key::UPDATE), 1, 0, 1),
                KeySpec::range(Key::RO.and(Key::ACCESS), 2, 0, 1),
            ],
            group: Group::SortedSet,
            since: "6.2.0",
            complexity: "O(log(N)+M) with N being the number of elements in the sorted set and M the number of elements stored into the destination key.",
            summary: "Stores a range of members from sorted set in a key.",
            args: "dst:key src:key#1 min max [(BYSCORE | BYLEX)<sortby>] [REV] [LIMIT={offset:int count:int}<limit>]",
            ..CommandSpec::EMPTY
        },
        zrangestore,
    ),
    Command::new(
        CommandSpec {
            name: "zremrangebylex",
            arity: 4,
            flags: Flags::WRITE,
            categories: Acl::SORTEDSET,
            keys: &[KeySpec::range(Key::RW.and(Key::DELETE), 1, 0, 1)],
            group: Group::SortedSet,
            since: "2.8.9",
            complexity: "O(log(N)+M) with N being the number of elements in the sorted set and M the number of elements removed by the operation.",
            summary: "Removes members in a sorted set within a lexicographical range. Deletes the sorted set if all members were removed.",
            args: "key:key min max",
            ..CommandSpec::EMPTY
        },
        zremrangebylex,
    ),
    Command::new(
        CommandSpec {
            name: "zremrangebyrank",
            arity: 4,
            flags: Flags::WRITE,
            categories: Acl::SORTEDSET,
            keys: &[KeySpec::range(Key::RW.and(Key::DELETE), 1, 0, 1)],
            group: Group::SortedSet,
            since: "2.0.0",
            complexity: "O(log(N)+M) with N being the number of elements in the sorted set and M the number of elements removed by the operation.",
            summary: "Removes members in a sorted set within a range of indexes. Deletes the sorted set if all members were removed.",
            args: "key:key start:int stop:int",
            ..CommandSpec::EMPTY
        },
        zremrangebyrank,
    ),
    Command::new(
        CommandSpec {
            name: "zremrangebyscore",
            arity: 4,
            flags: Flags::WRITE,
            categories: Acl::SORTEDSET,
            keys: &[KeySpec::range(Key::RW.and(Key::DELETE), 1, 0, 1)],
            group: Group::SortedSet,
            since: "1.2.0",
            complexity: "O(log(N)+M) with N being the number of elements in the sorted set and M the number of elements removed by the operation.",
            summary: "Removes members in a sorted set within a range of scores. Deletes the sorted set if all members were removed.",
            args: "key:key min:double max:double",
            ..CommandSpec::EMPTY
        },
        zremrangebyscore,
    ),
    Command::new(
        CommandSpec {
            name: "zrevrange",
            arity: -4,
            flags: Flags::READONLY,
            categories: Acl::SORTEDSET,
            keys: &[KeySpec::range(Key::RO.and(Key::ACCESS), 1, 0, 1)],
            group: Group::SortedSet,
            since: "1.2.0",
            complexity: "O(log(N)+M) with N being the number of elements in the sorted set and M the number of elements returned.",
            summary: "Returns members in a sorted set within a range of indexes in reverse order.",
            args: "key:key start:int stop:int [WITHSCORES]",
            ..CommandSpec::EMPTY
        },
        zrevrange,
    ),
    Command::new(
        CommandSpec {
            name: "zrevrangebylex",
            arity: -4,
            flags: Flags::READONLY,
            categories: Acl::SORTEDSET,
            keys: &[KeySpec::range(Key::RO.and(Key::ACCESS), 1, 0, 1)],
            group: Group::SortedSet,
            since: "2.8.9",
            complexity: "O(log(N)+M) with N being the number of elements in the sorted set and M the number of elements being returned. If M is constant (e.g. always asking for the first 10 elements with LIMIT), you can consider it O(log(N)).",
            summary: "Returns members in a sorted set within a lexicographical range in reverse order.",
            args: "key:key max min [LIMIT={offset:int count:int}<limit>]",
            ..CommandSpec::EMPTY
        },
        zrevrangebylex,
    ),
    Command::new(
        CommandSpec {
            name: "zrevrangebyscore",
            arity: -4,
            flags: Flags::READONLY,
            categories: Acl::SORTEDSET,
            keys: &[KeySpec::range(Key::RO.and(Key::ACCESS), 1, 0, 1)],
            group: Group::SortedSet,
            since: "2.2.0",
            complexity: "O(log(N)+M) with N being the number of elements in the sorted set and M the number of elements being returned. If M is constant (e.g. always asking for the first 10 elements with LIMIT), you can consider it O(log(N)).",
            summary: "Returns members in a sorted set within a range of scores in reverse order.",
            args: "key:key max:double min:double [WITHSCORES] [LIMIT={offset:int count:int}<limit>]",
            history: &[("2.1.6", "`min` and `max` can be exclusive.")],
            ..CommandSpec::EMPTY
        },
        zrevrangebyscore,
    ),
];

/// Scores from a minimum to a maximum, each in or out.
struct ScoreRange {
    min: f64,
    max: f64,
    min_excluded: bool,
    max_excluded: bool,
}

impl ScoreRange {
    fn parse(min: &[u8], max: &[u8]) -> Result<Self, CmdError> {
        let bound = |text: &[u8]| {
            let (excluded, text) = match text {
                [b'(', rest @ ..] => (true, rest),
                _ => (false, text),
            };
            let value = parse_f64(text).ok_or(CmdError::Static("ERR min or max is not a float"))?;
            Ok::<_, CmdError>((value, excluded))
        };
        let (min, min_excluded) = bound(min)?;
        let (max, max_excluded) = bound(max)?;
        Ok(ScoreRange {
            min,
            max,
            min_excluded,
            max_excluded,
        })
    }

    fn ranks(&self, zset: &ZsetValue) -> Range<usize> {
        let start =
            zset.partition_by_score(|s| s < self.min || (self.min_excluded && s == self.min));
        let end =
            zset.partition_by_score(|s| s < self.max || (!self.max_excluded && s == self.max));
        start..end.max(start)
    }
}

/// One end of a range of members.
#[derive(Clone, Copy)]
enum LexBound<'a> {
    /// `-`: before all members.
    Min,
    /// `+`: behind all members.
    Max,
    /// `[member`
    Included(&'a [u8]),
    /// `(member`
    Excluded(&'a [u8]),
}

impl<'a> LexBound<'a> {
    fn parse(text: &'a [u8]) -> Result<Self, CmdError> {
        match text {
            b"-" => Ok(LexBound::Min),
            b"+" => Ok(LexBound::Max),
            [b'[', rest @ ..] => Ok(LexBound::Included(rest)),
            [b'(', rest @ ..] => Ok(LexBound::Excluded(rest)),
            _ => Err(CmdError::Static(
                "ERR min or max not valid string range item",
            )),
        }
    }

    /// Whether the member is before the bound, as the lower end of a range.
    fn is_above(self, member: &[u8]) -> bool {
        match self {
            LexBound::Min => false,
            LexBound::Max => true,
            LexBound::Included(b) => member < b,
            LexBound::Excluded(b) => member <= b,
        }
    }

    /// Whether the member is within the bound, as the upper end of a range.
    fn admits(self, member: &[u8]) -> bool {
        match self {
            LexBound::Min => false,
            LexBound::Max => true,
            LexBound::Included(b) => member <= b,
            LexBound::Excluded(b) => member < b,
        }
    }
}

/// Members from a minimum to a maximum, among members of one score.
///
/// Among members of several scores Valkey leaves open what is in the range. Here it must be the same on every copy, whatever
/// the shape of its tree: from the first member that is not below the range to the next one that is above it.
struct LexRange<'a> {
    min: LexBound<'a>,
    max: LexBound<'a>,
}

impl<'a> LexRange<'a> {
    fn parse(min: &'a [u8], max: &'a [u8]) -> Result<Self, CmdError> {
        Ok(LexRange {
            min: LexBound::parse(min)?,
            max: LexBound::parse(max)?,
        })
    }

    fn ranks(&self, zset: &ZsetValue) -> Range<usize> {
        let score_at = |rank: usize| zset.at_rank(rank).map(|(_, score)| score);
        if score_at(0) == score_at(zset.len().saturating_sub(1)) {
            let start = zset.partition_by_member(|m| self.min.is_above(m));
            let end = zset.partition_by_member(|m| self.max.admits(m));
            return start..end.max(start);
        }
        // Not in the order of the members: only a walk gives the same everywhere.
        let mut members = zset.iter().map(|(member, _)| member).peekable();
        let mut start = 0;
        while members
            .next_if(|m| self.min.is_above(m.bytes(&mut None)))
            .is_some()
        {
            start += 1;
        }
        let len = members
            .take_while(|m| self.max.admits(m.bytes(&mut None)))
            .count();
        start..start + len
    }
}

/// What a range is made of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    Rank,
    Score,
    Lex,
}

/// A range as its arguments say it.
enum Wanted<'a> {
    Rank(i64, i64),
    Score(ScoreRange),
    Lex(LexRange<'a>),
}

impl<'a> Wanted<'a> {
    fn parse(call: &Call<'a>, by: By, min_at: usize, max_at: usize) -> Result<Self, CmdError> {
        Ok(match by {
            By::Rank => Wanted::Rank(call.int_arg(min_at)?, call.int_arg(max_at)?),
            By::Score => Wanted::Score(ScoreRange::parse(call.arg(min_at), call.arg(max_at))?),
            By::Lex => Wanted::Lex(LexRange::parse(call.arg(min_at), call.arg(max_at))?),
        })
    }

    /// The ranks in the range. A range by rank counts from the end if `reverse`.
    fn ranks(&self, zset: &ZsetValue, reverse: bool) -> Range<usize> {
        match self {
            Wanted::Rank(start, stop) => {
                let len = zset.len();
                let range = args::index_range(*start, *stop, len);
                match reverse && !range.is_empty() {
                    true => len - range.end..len - range.start,
                    false => range,
                }
            }
            Wanted::Score(range) => range.ranks(zset),
            Wanted::Lex(range) => range.ranks(zset),
        }
    }
}

fn zcount(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    count(engine, call, By::Score)
}

fn zlexcount(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    count(engine, call, By::Lex)
}

fn count(engine: &mut Engine, call: &mut Call<'_>, by: By) -> CmdResult {
    let wanted = Wanted::parse(call, by, 2, 3)?;
    let zset = engine.read::<ZsetValue>(call, call.arg(1))?;
    call.reply_len(zset.map_or(0, |z| wanted.ranks(z, false).len()));
    DONE
}

fn zremrangebyrank(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    remove(engine, call, By::Rank)
}

fn zremrangebyscore(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    remove(engine, call, By::Score)
}

fn zremrangebylex(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    remove(engine, call, By::Lex)
}

fn remove(engine: &mut Engine, call: &mut Call<'_>, by: By) -> CmdResult {
    let key = call.arg(1);
    let wanted = Wanted::parse(call, by, 2, 3)?;
    let Some(ranks) = engine
        .look::<ZsetValue>(call, key)?
        .map(|z| wanted.ranks(z, false))
    else {
        call.reply_int(0);
        return DONE;
    };
    let removed = ranks.len();
    if removed > 0
        && let Some(zset) = engine.write::<ZsetValue>(call, key)?
    {
        zset.remove_range(ranks);
        let event = match by {
            By::Rank => "zremrangebyrank",
            By::Score => "zremrangebyscore",
            By::Lex => "zremrangebylex",
        };
        let empty = zset.is_empty();
        engine.removed_from(call, key, (EventClass::ZSET, event), empty, removed as u64);
    }
    call.reply_len(removed);
    DONE
}

fn zrange(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    range(engine, call, None, None, false)
}

fn zrangestore(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    range(engine, call, None, None, true)
}

fn zrevrange(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    range(engine, call, Some(By::Rank), Some(true), false)
}

fn zrangebyscore(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    range(engine, call, Some(By::Score), Some(false), false)
}

fn zrevrangebyscore(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    range(engine, call, Some(By::Score), Some(true), false)
}

fn zrangebylex(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    range(engine, call, Some(By::Lex), Some(false), false)
}

fn zrevrangebylex(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    range(engine, call, Some(By::Lex), Some(true), false)
}

/// All forms of `ZRANGE`. What `by` and `reverse` leave open, `BYSCORE`, `BYLEX` and `REV` say. To `store`, the result
/// goes to argument 1 and the key is argument 2.
fn range(
    engine: &mut Engine,
    call: &mut Call<'_>,
    mut by: Option<By>,
    mut reverse: Option<bool>,
    store: bool,
) -> CmdResult {
    let key_at = if store { 2 } else { 1 };
    let (mut with_scores, mut offset, mut limit) = (false, 0i64, -1i64);
    let mut i = key_at + 3;
    while i < call.argv.len() {
        let left = call.argv.len() - i - 1;
        if !store && call.arg_is(i, "WITHSCORES") {
            with_scores = true;
        } else if call.arg_is(i, "LIMIT") && left >= 2 {
            offset = call.int_arg(i + 1)?;
            limit = call.int_arg(i + 2)?;
            i += 2;
        } else if reverse.is_none() && call.arg_is(i, "REV") {
            reverse = Some(true);
        } else if by.is_none() && call.arg_is(i, "BYLEX") {
            by = Some(By::Lex);
        } else if by.is_none() && call.arg_is(i, "BYSCORE") {
            by = Some(By::Score);
        } else {
            return Err(CmdError::SYNTAX);
        }
        i += 1;
    }
    let (by, reverse) = (by.unwrap_or(By::Rank), reverse.unwrap_or(false));
    if limit != -1 && by == By::Rank {
        return Err(CmdError::Static(
            "ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX",
        ));
    }
    if with_scores && by == By::Lex {
        return Err(CmdError::Static(
            "ERR syntax error, WITHSCORES not supported in combination with BYLEX",
        ));
    }
    // In reverse, ranges by score and by member name the maximum first.
    let (min_at, max_at) = match reverse && by != By::Rank {
        true => (key_at + 2, key_at + 1),
        false => (key_at + 1, key_at + 2),
    };
    let wanted = Wanted::parse(call, by, min_at, max_at)?;
    let limits = engine.limits();
    let Some(zset) = engine.read::<ZsetValue>(call, call.arg(key_at))? else {
        if store {
            return store_result(engine, call, ZsetValue::new(), "zrangestore");
        }
        call.reply_array(0);
        return DONE;
    };
    let mut ranks = wanted.ranks(zset, reverse);
    if by != By::Rank {
        ranks = cut(ranks, offset, limit, reverse);
    }
    if store {
        let mut result = ZsetValue::new_for(ranks.len(), 0, &limits);
        for (member, score) in zset.range(ranks, false) {
            result.insert(member.bytes(&mut None), score, &limits);
        }
        return store_result(engine, call, result, "zrangestore");
    }
    let nested = with_scores && call.proto == Proto::Resp3;
    call.reply_array(if with_scores && !nested {
        ranks.len() * 2
    } else {
        ranks.len()
    });
    for (member, score) in zset.range(ranks, reverse) {
        if nested {
            call.reply_array(2);
        }
        call.reply_bulk(member.bytes(&mut None));
        if with_scores {
            call.reply_double(score);
        }
    }
    DONE
}

/// What `LIMIT offset count` leaves of a range; a negative count means all, a negative offset nothing.
fn cut(ranks: Range<usize>, offset: i64, limit: i64, reverse: bool) -> Range<usize> {
    let Ok(offset) = usize::try_from(offset) else {
        return 0..0;
    };
    let offset = offset.min(ranks.len());
    let n = usize::try_from(limit)
        .unwrap_or(usize::MAX)
        .min(ranks.len() - offset);
    if reverse {
        let end = ranks.end - offset;
        end - n..end
    } else {
        let start = ranks.start + offset;
        start..start + n
    }
}

/// Stores a result under argument 1, or deletes that key when there is none, and answers its size.
pub(super) fn store_result(
    engine: &mut Engine,
    call: &mut Call<'_>,
    result: ZsetValue,
    event: &'static str,
) -> CmdResult {
    let destination = call.arg(1);
    call.reply_len(result.len());
    if !result.is_empty() {
        engine.set_value(call, destination, result.into_value(), Ttl::Clear);
        call.modified(destination, 1);
        call.notify(EventClass::ZSET, event, destination);
    } else {
        engine.delete_and_report(call, destination);
    }
    DONE
}
