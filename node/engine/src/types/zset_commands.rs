//! The commands of the zset type.

use crate::commands::not_yet;
use crate::spec::{Acl, Begin, Command, CommandSpec, Find, Flags, Group, Key, KeySpec};

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
        not_yet,
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
            ..CommandSpec::EMPTY
        },
        not_yet,
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
            ..CommandSpec::EMPTY
        },
        not_yet,
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
            args: "key:key [(NX | XX)<condition>] [(GT | LT)<comparison>] [CH<change>] [INCR<increment>] {score:double member}<data>...",
            ..CommandSpec::EMPTY
        },
        not_yet,
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
        not_yet,
    ),
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
        not_yet,
    ),
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
        not_yet,
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
        not_yet,
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
        not_yet,
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
        not_yet,
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
        not_yet,
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
        not_yet,
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
        not_yet,
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
        not_yet,
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
        not_yet,
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
        not_yet,
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
        not_yet,
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
        not_yet,
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
            args: "key:key start stop [(BYSCORE | BYLEX)<sortby>] [REV] [LIMIT={offset:int count:int}<limit>] [WITHSCORES]",
            ..CommandSpec::EMPTY
        },
        not_yet,
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
        not_yet,
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
            args: "key:key min:double max:double [WITHSCORES] [LIMIT={offset:int count:int}<limit>]",
            ..CommandSpec::EMPTY
        },
        not_yet,
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
        not_yet,
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
            ..CommandSpec::EMPTY
        },
        not_yet,
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
            ..CommandSpec::EMPTY
        },
        not_yet,
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
        not_yet,
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
        not_yet,
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
        not_yet,
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
        not_yet,
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
        not_yet,
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
            ..CommandSpec::EMPTY
        },
        not_yet,
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
            ..CommandSpec::EMPTY
        },
        not_yet,
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
            ..CommandSpec::EMPTY
        },
        not_yet,
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
        not_yet,
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
        not_yet,
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
        not_yet,
    ),
];
