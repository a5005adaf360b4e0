//! Unions, intersections and differences of sorted sets (and sets).

use super::listpack::Elem;
use super::zset_range_commands::store_result;
use super::{SetValue, ZsetValue};
use crate::args;
use crate::spec::{Acl, Begin, Command, CommandSpec, Find, Flags, Group, Key, KeySpec};
use crate::{Call, CmdError, CmdResult, DONE, Engine, ValueRef};
use holdfast_resp::Proto;

/// The rows.
pub const COMMANDS: &[Command] = &[
    Command::new(
        CommandSpec {
            name: "zdiff",
            arity: -3,
            flags: Flags::READONLY,
            categories: Acl::SORTEDSET,
            keys: &[KeySpec::new(
                Key::RO.and(Key::ACCESS),
                Begin::Index(1),
                Find::KeyNum {
                    num: 0,
                    first: 1,
                    step: 1,
                },
            )],
            group: Group::SortedSet,
            since: "6.2.0",
            complexity: "O(L + (N-K)log(N)) worst case where L is the total number of elements in all the sets, N is the size of the first set, and K is the size of the result set.",
            summary: "Returns the difference between multiple sorted sets.",
            args: "numkeys:int key:key... [WITHSCORES]",
            ..CommandSpec::EMPTY
        },
        zdiff,
    ),
    Command::new(
        CommandSpec {
            name: "zdiffstore",
            arity: -4,
            flags: Flags::WRITE.and(Flags::DENYOOM),
            categories: Acl::SORTEDSET,
            keys: &[
                KeySpec::range(Key::OW.and(Key::UPDATE), 1, 0, 1),
                KeySpec::new(
                    Key::RO.and(Key::ACCESS),
                    Begin::Index(2),
                    Find::KeyNum {
                        num: 0,
                        first: 1,
                        step: 1,
                    },
                ),
            ],
            group: Group::SortedSet,
            since: "6.2.0",
            complexity: "O(L + (N-K)log(N)) worst case where L is the total number of elements in all the sets, N is the size of the first set, and K is the size of the result set.",
            summary: "Stores the difference of multiple sorted sets in a key.",
            args: "destination:key numkeys:int key:key#1...",
            ..CommandSpec::EMPTY
        },
        zdiffstore,
    ),
    Command::new(
        CommandSpec {
            name: "zinter",
            arity: -3,
            flags: Flags::READONLY,
            categories: Acl::SORTEDSET,
            keys: &[KeySpec::new(
                Key::RO.and(Key::ACCESS),
                Begin::Index(1),
                Find::KeyNum {
                    num: 0,
                    first: 1,
                    step: 1,
                },
            )],
            group: Group::SortedSet,
            since: "6.2.0",
            complexity: "O(N*K)+O(M*log(M)) worst case with N being the smallest input sorted set, K being the number of input sorted sets and M being the number of elements in the resulting sorted set.",
            summary: "Returns the intersect of multiple sorted sets.",
            args: "numkeys:int key:key... [WEIGHTS=weight:int...] [AGGREGATE=(SUM | MIN | MAX)<aggregate>] [WITHSCORES]",
            ..CommandSpec::EMPTY
        },
        zinter,
    ),
    Command::new(
        CommandSpec {
            name: "zintercard",
            arity: -3,
            flags: Flags::READONLY,
            categories: Acl::SORTEDSET,
            keys: &[KeySpec::new(
                Key::RO.and(Key::ACCESS),
                Begin::Index(1),
                Find::KeyNum {
                    num: 0,
                    first: 1,
                    step: 1,
                },
            )],
            group: Group::SortedSet,
            since: "7.0.0",
            complexity: "O(N*K) worst case with N being the smallest input sorted set, K being the number of input sorted sets.",
            summary: "Returns the number of members of the intersect of multiple sorted sets.",
            args: "numkeys:int key:key... [LIMIT=limit:int]",
            ..CommandSpec::EMPTY
        },
        zintercard,
    ),
    Command::new(
        CommandSpec {
            name: "zinterstore",
            arity: -4,
            flags: Flags::WRITE.and(Flags::DENYOOM),
            categories: Acl::SORTEDSET,
            keys: &[
                KeySpec::range(Key::OW.and(Key::UPDATE), 1, 0, 1),
                KeySpec::new(
                    Key::RO.and(Key::ACCESS),
                    Begin::Index(2),
                    Find::KeyNum {
                        num: 0,
                        first: 1,
                        step: 1,
                    },
                ),
            ],
            group: Group::SortedSet,
            since: "2.0.0",
            complexity: "O(N*K)+O(M*log(M)) worst case with N being the smallest input sorted set, K being the number of input sorted sets and M being the number of elements in the resulting sorted set.",
            summary: "Stores the intersect of multiple sorted sets in a key.",
            args: "destination:key numkeys:int key:key#1... [WEIGHTS=weight:int...] [AGGREGATE=(SUM | MIN | MAX)<aggregate>]",
            ..CommandSpec::EMPTY
        },
        zinterstore,
    ),
    Command::new(
        CommandSpec {
            name: "zunion",
            arity: -3,
            flags: Flags::READONLY,
            categories: Acl::SORTEDSET,
            keys: &[KeySpec::new(
                Key::RO.and(Key::ACCESS),
                Begin::Index(1),
                Find::KeyNum {
                    num: 0,
                    first: 1,
                    step: 1,
                },
            )],
            group: Group::SortedSet,
            since: "6.2.0",
            complexity: "O(N)+O(M*log(M)) with N being the sum of the sizes of the input sorted sets, and M being the number of elements in the resulting sorted set.",
            summary: "Returns the union of multiple sorted sets.",
            args: "numkeys:int key:key... [WEIGHTS=weight:int...] [AGGREGATE=(SUM | MIN | MAX)<aggregate>] [WITHSCORES]",
            ..CommandSpec::EMPTY
        },
        zunion,
    ),
    Command::new(
        CommandSpec {
            name: "zunionstore",
            arity: -4,
            flags: Flags::WRITE.and(Flags::DENYOOM),
            categories: Acl::SORTEDSET,
            keys: &[
                KeySpec::range(Key::OW.and(Key::UPDATE), 1, 0, 1),
                KeySpec::new(
                    Key::RO.and(Key::ACCESS),
                    Begin::Index(2),
                    Find::KeyNum {
                        num: 0,
                        first: 1,
                        step: 1,
                    },
                ),
            ],
            group: Group::SortedSet,
            since: "2.0.0",
            complexity: "O(N)+O(M log(M)) with N being the sum of the sizes of the input sorted sets, and M being the number of elements in the resulting sorted set.",
            summary: "Stores the union of multiple sorted sets in a key.",
            args: "destination:key numkeys:int key:key#1... [WEIGHTS=weight:int...] [AGGREGATE=(SUM | MIN | MAX)<aggregate>]",
            ..CommandSpec::EMPTY
        },
        zunionstore,
    ),
];

/// A key to combine: sorted sets, and sets, whose members count with a score of 1.
#[derive(Clone, Copy)]
enum Source<'a> {
    Zset(&'a ZsetValue),
    Set(&'a SetValue),
}

impl<'a> Source<'a> {
    fn of(value: ValueRef<'a>) -> Result<Self, CmdError> {
        match value {
            ValueRef::Zset(z) => Ok(Source::Zset(z)),
            ValueRef::Set(s) => Ok(Source::Set(s)),
            _ => Err(CmdError::WRONG_TYPE),
        }
    }

    fn len(self) -> usize {
        match self {
            Source::Zset(z) => z.len(),
            Source::Set(s) => s.len(),
        }
    }

    fn score(self, member: &[u8]) -> Option<f64> {
        match self {
            Source::Zset(z) => z.score(member),
            Source::Set(s) => s.contains(member).then_some(1.0),
        }
    }

    fn iter(self) -> Box<dyn Iterator<Item = (Elem<'a>, f64)> + 'a> {
        match self {
            Source::Zset(z) => Box::new(z.iter()),
            Source::Set(s) => Box::new(s.iter().map(|m| (m, 1.0))),
        }
    }
}

/// How the scores of a member in several keys make one.
#[derive(Clone, Copy)]
enum Aggregate {
    Sum,
    Min,
    Max,
}

impl Aggregate {
    fn join(self, a: f64, b: f64) -> f64 {
        match self {
            // Opposite infinities make 0, by convention.
            Aggregate::Sum => not_nan(a + b),
            Aggregate::Min if b < a => b,
            Aggregate::Max if b > a => b,
            Aggregate::Min | Aggregate::Max => a,
        }
    }
}

fn not_nan(score: f64) -> f64 {
    if score.is_nan() { 0.0 } else { score }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Operation {
    Inter,
    Union,
    Diff,
}

/// The arguments from `numkeys` on.
struct Combine<'a> {
    keys: &'a [&'a [u8]],
    weights: Vec<f64>,
    aggregate: Aggregate,
    with_scores: bool,
}

impl<'a> Combine<'a> {
    /// Reads the number of keys at `at`, the keys, and the options behind them.
    fn parse(
        engine: &mut Engine,
        call: &mut Call<'a>,
        at: usize,
        operation: Operation,
        store: bool,
    ) -> Result<Self, CmdError> {
        let keys = keys_of(engine, call, at)?;
        let mut combine = Combine {
            keys,
            weights: vec![1.0; keys.len()],
            aggregate: Aggregate::Sum,
            with_scores: false,
        };
        let mut i = at + 1 + keys.len();
        while i < call.argv.len() {
            let left = call.argv.len() - i;
            if operation != Operation::Diff && left > keys.len() && call.arg_is(i, "WEIGHTS") {
                for (k, weight) in combine.weights.iter_mut().enumerate() {
                    *weight = call
                        .float_arg(i + 1 + k)
                        .map_err(|_| CmdError::Static("ERR weight value is not a float"))?;
                }
                i += keys.len();
            } else if operation != Operation::Diff && left >= 2 && call.arg_is(i, "AGGREGATE") {
                i += 1;
                combine.aggregate = match () {
                    () if call.arg_is(i, "SUM") => Aggregate::Sum,
                    () if call.arg_is(i, "MIN") => Aggregate::Min,
                    () if call.arg_is(i, "MAX") => Aggregate::Max,
                    () => return Err(CmdError::SYNTAX),
                };
            } else if !store && call.arg_is(i, "WITHSCORES") {
                combine.with_scores = true;
            } else {
                return Err(CmdError::SYNTAX);
            }
            i += 1;
        }
        Ok(combine)
    }

    /// The result, in the large form.
    fn run(
        &self,
        engine: &Engine,
        call: &Call<'_>,
        operation: Operation,
    ) -> Result<ZsetValue, CmdError> {
        let limits = engine.limits();
        let mut sources = Vec::new();
        for (key, weight) in self.keys.iter().zip(&self.weights) {
            let source = engine.peek_value(call, key).map(Source::of).transpose()?;
            sources.push((source, *weight));
        }
        let mut result = ZsetValue::new_for(usize::MAX, 0, &limits);
        if operation != Operation::Diff {
            // The order in which scores are summed shows in the last digits: from the smallest set on, as Valkey does.
            sources.sort_by_key(|(s, _)| s.map_or(0, Source::len));
        }
        let Some(((first, weight), others)) = sources.split_first() else {
            return Ok(result);
        };
        match operation {
            Operation::Union => {
                for (source, weight) in &sources {
                    for (member, score) in source.iter().flat_map(|s| s.iter()) {
                        let mut buf = None;
                        let member = member.bytes(&mut buf);
                        let score = not_nan(score * weight);
                        let score = match result.score(member) {
                            Some(old) => self.aggregate.join(old, score),
                            None => score,
                        };
                        result.insert(member, score, &limits);
                    }
                }
            }
            Operation::Inter => {
                for (member, score) in first.iter().flat_map(|s| s.iter()) {
                    let mut buf = None;
                    let member = member.bytes(&mut buf);
                    let joined = others.iter().try_fold(
                        not_nan(score * weight),
                        |joined, (other, weight)| {
                            let score = (*other)?.score(member)?;
                            Some(self.aggregate.join(joined, score * weight))
                        },
                    );
                    if let Some(score) = joined {
                        result.insert(member, score, &limits);
                    }
                }
            }
            Operation::Diff => {
                for (member, score) in first.iter().flat_map(|s| s.iter()) {
                    let mut buf = None;
                    let member = member.bytes(&mut buf);
                    if !others
                        .iter()
                        .any(|(o, _)| o.is_some_and(|o| o.score(member).is_some()))
                    {
                        result.insert(member, score, &limits);
                    }
                }
            }
        }
        Ok(result)
    }
}

/// The keys behind the number at `at`. A wrong type is reported before a wrong option.
fn keys_of<'a>(
    engine: &mut Engine,
    call: &mut Call<'a>,
    at: usize,
) -> Result<&'a [&'a [u8]], CmdError> {
    let n = call.int_arg(at)?;
    if n < 1 {
        let name = String::from_utf8_lossy(call.arg(0)).to_ascii_lowercase();
        return Err(CmdError::text(format!(
            "ERR at least 1 input key is needed for '{name}' command"
        )));
    }
    let end = usize::try_from(n)
        .unwrap_or(usize::MAX)
        .saturating_add(at + 1);
    let keys = call.argv.get(at + 1..end).ok_or(CmdError::SYNTAX)?;
    for key in keys {
        engine.touch_key(call, key);
        engine.peek_value(call, key).map(Source::of).transpose()?;
    }
    Ok(keys)
}

fn answer(engine: &mut Engine, call: &mut Call<'_>, operation: Operation) -> CmdResult {
    let combine = Combine::parse(engine, call, 1, operation, false)?;
    let result = combine.run(engine, call, operation)?;
    let nested = combine.with_scores && call.proto == Proto::Resp3;
    let flat = combine.with_scores && !nested;
    call.reply_array(if flat { result.len() * 2 } else { result.len() });
    for (member, score) in result.iter() {
        if nested {
            call.reply_array(2);
        }
        call.reply_bulk(member.bytes(&mut None));
        if combine.with_scores {
            call.reply_double(score);
        }
    }
    DONE
}

fn store(engine: &mut Engine, call: &mut Call<'_>, operation: Operation) -> CmdResult {
    let combine = Combine::parse(engine, call, 2, operation, true)?;
    let mut result = combine.run(engine, call, operation)?;
    result.fit(&engine.limits());
    let event = match operation {
        Operation::Union => "zunionstore",
        Operation::Inter => "zinterstore",
        Operation::Diff => "zdiffstore",
    };
    store_result(engine, call, result, event)
}

fn zunion(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    answer(engine, call, Operation::Union)
}

fn zinter(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    answer(engine, call, Operation::Inter)
}

fn zdiff(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    answer(engine, call, Operation::Diff)
}

fn zunionstore(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    store(engine, call, Operation::Union)
}

fn zinterstore(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    store(engine, call, Operation::Inter)
}

fn zdiffstore(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    store(engine, call, Operation::Diff)
}

fn zintercard(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    let keys = keys_of(engine, call, 1)?;
    let mut limit = 0;
    let mut i = 2 + keys.len();
    while i < call.argv.len() {
        if !call.arg_is(i, "LIMIT") || i + 1 >= call.argv.len() {
            return Err(CmdError::SYNTAX);
        }
        let n = args::int_in(call, i + 1, 0..=i64::MAX, "ERR LIMIT can't be negative")?;
        limit = usize::try_from(n).unwrap_or(usize::MAX);
        i += 2;
    }
    let mut sources = Vec::new();
    for key in keys {
        sources.push(engine.peek_value(call, key).map(Source::of).transpose()?);
    }
    let mut n = 0;
    if let Some(mut sources) = sources.into_iter().collect::<Option<Vec<_>>>() {
        sources.sort_by_key(|s| s.len());
        if let Some((first, others)) = sources.split_first() {
            for (member, _) in first.iter() {
                let mut buf = None;
                let member = member.bytes(&mut buf);
                n += usize::from(others.iter().all(|o| o.score(member).is_some()));
                if n == limit && limit > 0 {
                    break;
                }
            }
        }
    }
    call.reply_len(n);
    DONE
}
