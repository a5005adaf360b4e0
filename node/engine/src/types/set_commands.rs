//! The commands of the set type.

use crate::commands::not_yet;
use crate::spec::{Acl, Begin, Command, CommandSpec, Find, Flags, Group, Key, KeySpec};

/// The rows.
pub const COMMANDS: &[Command] = &[
    Command::new(
        CommandSpec {
            name: "sadd",
            arity: -3,
            flags: Flags::WRITE.and(Flags::DENYOOM).and(Flags::FAST),
            categories: Acl::SET,
            keys: &[KeySpec::range(Key::RW.and(Key::INSERT), 1, 0, 1)],
            group: Group::Set,
            since: "1.0.0",
            complexity: "O(1) for each element added, so O(N) to add N elements when the command is called with multiple arguments.",
            summary: "Adds one or more members to a set. Creates the key if it doesn't exist.",
            args: "key:key member...",
            ..CommandSpec::EMPTY
        },
        not_yet,
    ),
    Command::new(
        CommandSpec {
            name: "scard",
            arity: 2,
            flags: Flags::READONLY.and(Flags::FAST),
            categories: Acl::SET,
            keys: &[KeySpec::range(Key::RO, 1, 0, 1)],
            group: Group::Set,
            since: "1.0.0",
            complexity: "O(1)",
            summary: "Returns the number of members in a set.",
            args: "key:key",
            ..CommandSpec::EMPTY
        },
        not_yet,
    ),
    Command::new(
        CommandSpec {
            name: "sdiff",
            arity: -2,
            flags: Flags::READONLY,
            categories: Acl::SET,
            keys: &[KeySpec::range(Key::RO.and(Key::ACCESS), 1, -1, 1)],
            group: Group::Set,
            since: "1.0.0",
            complexity: "O(N) where N is the total number of elements in all given sets.",
            summary: "Returns the difference of multiple sets.",
            args: "key:key...",
            tips: &["nondeterministic_output_order"],
            ..CommandSpec::EMPTY
        },
        not_yet,
    ),
    Command::new(
        CommandSpec {
            name: "sdiffstore",
            arity: -3,
            flags: Flags::WRITE.and(Flags::DENYOOM),
            categories: Acl::SET,
            keys: &[
                KeySpec::range(Key::OW.and(Key::UPDATE), 1, 0, 1),
                KeySpec::range(Key::RO.and(Key::ACCESS), 2, -1, 1),
            ],
            group: Group::Set,
            since: "1.0.0",
            complexity: "O(N) where N is the total number of elements in all given sets.",
            summary: "Stores the difference of multiple sets in a key.",
            args: "destination:key key:key#1...",
            ..CommandSpec::EMPTY
        },
        not_yet,
    ),
    Command::new(
        CommandSpec {
            name: "sinter",
            arity: -2,
            flags: Flags::READONLY,
            categories: Acl::SET,
            keys: &[KeySpec::range(Key::RO.and(Key::ACCESS), 1, -1, 1)],
            group: Group::Set,
            since: "1.0.0",
            complexity: "O(N*M) worst case where N is the cardinality of the smallest set and M is the number of sets.",
            summary: "Returns the intersect of multiple sets.",
            args: "key:key...",
            tips: &["nondeterministic_output_order"],
            ..CommandSpec::EMPTY
        },
        not_yet,
    ),
    Command::new(
        CommandSpec {
            name: "sintercard",
            arity: -3,
            flags: Flags::READONLY,
            categories: Acl::SET,
            keys: &[KeySpec::new(
                Key::RO.and(Key::ACCESS),
                Begin::Index(1),
                Find::KeyNum {
                    num: 0,
                    first: 1,
                    step: 1,
                },
            )],
            group: Group::Set,
            since: "7.0.0",
            complexity: "O(N*M) worst case where N is the cardinality of the smallest set and M is the number of sets.",
            summary: "Returns the number of members of the intersect of multiple sets.",
            args: "numkeys:int key:key... [LIMIT=limit:int]",
            ..CommandSpec::EMPTY
        },
        not_yet,
    ),
    Command::new(
        CommandSpec {
            name: "sinterstore",
            arity: -3,
            flags: Flags::WRITE.and(Flags::DENYOOM),
            categories: Acl::SET,
            keys: &[
                KeySpec::range(Key::OW.and(Key::UPDATE), 1, 0, 1),
                KeySpec::range(Key::RO.and(Key::ACCESS), 2, -1, 1),
            ],
            group: Group::Set,
            since: "1.0.0",
            complexity: "O(N*M) worst case where N is the cardinality of the smallest set and M is the number of sets.",
            summary: "Stores the intersect of multiple sets in a key.",
            args: "destination:key key:key#1...",
            ..CommandSpec::EMPTY
        },
        not_yet,
    ),
    Command::new(
        CommandSpec {
            name: "sismember",
            arity: 3,
            flags: Flags::READONLY.and(Flags::FAST),
            categories: Acl::SET,
            keys: &[KeySpec::range(Key::RO, 1, 0, 1)],
            group: Group::Set,
            since: "1.0.0",
            complexity: "O(1)",
            summary: "Determines whether a member belongs to a set.",
            args: "key:key member",
            ..CommandSpec::EMPTY
        },
        not_yet,
    ),
    Command::new(
        CommandSpec {
            name: "smembers",
            arity: 2,
            flags: Flags::READONLY,
            categories: Acl::SET,
            keys: &[KeySpec::range(Key::RO.and(Key::ACCESS), 1, 0, 1)],
            group: Group::Set,
            since: "1.0.0",
            complexity: "O(N) where N is the set cardinality.",
            summary: "Returns all members of a set.",
            args: "key:key",
            tips: &["nondeterministic_output_order"],
            ..CommandSpec::EMPTY
        },
        not_yet,
    ),
    Command::new(
        CommandSpec {
            name: "smismember",
            arity: -3,
            flags: Flags::READONLY.and(Flags::FAST),
            categories: Acl::SET,
            keys: &[KeySpec::range(Key::RO.and(Key::ACCESS), 1, 0, 1)],
            group: Group::Set,
            since: "6.2.0",
            complexity: "O(N) where N is the number of elements being checked for membership",
            summary: "Determines whether multiple members belong to a set.",
            args: "key:key member...",
            ..CommandSpec::EMPTY
        },
        not_yet,
    ),
    Command::new(
        CommandSpec {
            name: "smove",
            arity: 4,
            flags: Flags::WRITE.and(Flags::FAST),
            categories: Acl::SET,
            keys: &[
                KeySpec::range(Key::RW.and(Key::ACCESS).and(Key::DELETE), 1, 0, 1),
                KeySpec::range(Key::RW.and(Key::INSERT), 2, 0, 1),
            ],
            group: Group::Set,
            since: "1.0.0",
            complexity: "O(1)",
            summary: "Moves a member from one set to another.",
            args: "source:key destination:key#1 member",
            ..CommandSpec::EMPTY
        },
        not_yet,
    ),
    Command::new(
        CommandSpec {
            name: "spop",
            arity: -2,
            flags: Flags::WRITE.and(Flags::FAST),
            categories: Acl::SET,
            keys: &[KeySpec::range(
                Key::RW.and(Key::ACCESS).and(Key::DELETE),
                1,
                0,
                1,
            )],
            group: Group::Set,
            since: "1.0.0",
            complexity: "Without the count argument O(1), otherwise O(N) where N is the value of the passed count.",
            summary: "Returns one or more random members from a set after removing them. Deletes the set if the last member was popped.",
            args: "key:key [count:int]",
            tips: &["nondeterministic_output"],
            ..CommandSpec::EMPTY
        },
        not_yet,
    ),
    Command::new(
        CommandSpec {
            name: "srandmember",
            arity: -2,
            flags: Flags::READONLY,
            categories: Acl::SET,
            keys: &[KeySpec::range(Key::RO.and(Key::ACCESS), 1, 0, 1)],
            group: Group::Set,
            since: "1.0.0",
            complexity: "Without the count argument O(1), otherwise O(N) where N is the absolute value of the passed count.",
            summary: "Gets one or multiple random members from a set.",
            args: "key:key [count:int]",
            tips: &["nondeterministic_output"],
            ..CommandSpec::EMPTY
        },
        not_yet,
    ),
    Command::new(
        CommandSpec {
            name: "srem",
            arity: -3,
            flags: Flags::WRITE.and(Flags::FAST),
            categories: Acl::SET,
            keys: &[KeySpec::range(Key::RW.and(Key::DELETE), 1, 0, 1)],
            group: Group::Set,
            since: "1.0.0",
            complexity: "O(N) where N is the number of members to be removed.",
            summary: "Removes one or more members from a set. Deletes the set if the last member was removed.",
            args: "key:key member...",
            ..CommandSpec::EMPTY
        },
        not_yet,
    ),
    Command::new(
        CommandSpec {
            name: "sscan",
            arity: -3,
            flags: Flags::READONLY,
            categories: Acl::SET,
            keys: &[KeySpec::range(Key::RO.and(Key::ACCESS), 1, 0, 1)],
            group: Group::Set,
            since: "2.8.0",
            complexity: "O(1) for every call. O(N) for a complete iteration, including enough command calls for the cursor to return back to 0. N is the number of elements inside the collection.",
            summary: "Iterates over members of a set.",
            args: "key:key cursor:int [MATCH=pattern:pattern] [COUNT=count:int]",
            tips: &["nondeterministic_output"],
            ..CommandSpec::EMPTY
        },
        not_yet,
    ),
    Command::new(
        CommandSpec {
            name: "sunion",
            arity: -2,
            flags: Flags::READONLY,
            categories: Acl::SET,
            keys: &[KeySpec::range(Key::RO.and(Key::ACCESS), 1, -1, 1)],
            group: Group::Set,
            since: "1.0.0",
            complexity: "O(N) where N is the total number of elements in all given sets.",
            summary: "Returns the union of multiple sets.",
            args: "key:key...",
            tips: &["nondeterministic_output_order"],
            ..CommandSpec::EMPTY
        },
        not_yet,
    ),
    Command::new(
        CommandSpec {
            name: "sunionstore",
            arity: -3,
            flags: Flags::WRITE.and(Flags::DENYOOM),
            categories: Acl::SET,
            keys: &[
                KeySpec::range(Key::OW.and(Key::UPDATE), 1, 0, 1),
                KeySpec::range(Key::RO.and(Key::ACCESS), 2, -1, 1),
            ],
            group: Group::Set,
            since: "1.0.0",
            complexity: "O(N) where N is the total number of elements in all given sets.",
            summary: "Stores the union of multiple sets in a key.",
            args: "destination:key key:key#1...",
            ..CommandSpec::EMPTY
        },
        not_yet,
    ),
];
