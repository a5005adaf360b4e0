//! The commands of the hash type.

use crate::commands::not_yet;
use crate::spec::{Acl, Begin, Command, CommandSpec, Find, Flags, Group, Key, KeySpec};

/// The rows.
pub const COMMANDS: &[Command] = &[
    Command::new(
        CommandSpec {
            name: "hdel",
            arity: -3,
            flags: Flags::WRITE.and(Flags::FAST),
            categories: Acl::HASH,
            keys: &[KeySpec::range(Key::RW.and(Key::DELETE), 1, 0, 1)],
            group: Group::Hash,
            since: "2.0.0",
            complexity: "O(N) where N is the number of fields to be removed.",
            summary: "Deletes one or more fields and their values from a hash. Deletes the hash if no fields remain.",
            args: "key:key field...",
            ..CommandSpec::EMPTY
        },
        not_yet,
    ),
    Command::new(
        CommandSpec {
            name: "hexists",
            arity: 3,
            flags: Flags::READONLY.and(Flags::FAST),
            categories: Acl::HASH,
            keys: &[KeySpec::range(Key::RO, 1, 0, 1)],
            group: Group::Hash,
            since: "2.0.0",
            complexity: "O(1)",
            summary: "Determines whether a field exists in a hash.",
            args: "key:key field",
            ..CommandSpec::EMPTY
        },
        not_yet,
    ),
    Command::new(
        CommandSpec {
            name: "hget",
            arity: 3,
            flags: Flags::READONLY.and(Flags::FAST),
            categories: Acl::HASH,
            keys: &[KeySpec::range(Key::RO.and(Key::ACCESS), 1, 0, 1)],
            group: Group::Hash,
            since: "2.0.0",
            complexity: "O(1)",
            summary: "Returns the value of a field in a hash.",
            args: "key:key field",
            ..CommandSpec::EMPTY
        },
        not_yet,
    ),
    Command::new(
        CommandSpec {
            name: "hgetall",
            arity: 2,
            flags: Flags::READONLY,
            categories: Acl::HASH,
            keys: &[KeySpec::range(Key::RO.and(Key::ACCESS), 1, 0, 1)],
            group: Group::Hash,
            since: "2.0.0",
            complexity: "O(N) where N is the size of the hash.",
            summary: "Returns all fields and values in a hash.",
            args: "key:key",
            tips: &["nondeterministic_output_order"],
            ..CommandSpec::EMPTY
        },
        not_yet,
    ),
    Command::new(
        CommandSpec {
            name: "hincrby",
            arity: 4,
            flags: Flags::WRITE.and(Flags::DENYOOM).and(Flags::FAST),
            categories: Acl::HASH,
            keys: &[KeySpec::range(
                Key::RW.and(Key::ACCESS).and(Key::UPDATE),
                1,
                0,
                1,
            )],
            group: Group::Hash,
            since: "2.0.0",
            complexity: "O(1)",
            summary: "Increments the integer value of a field in a hash by a number. Uses 0 as initial value if the field doesn't exist.",
            args: "key:key field increment:int",
            ..CommandSpec::EMPTY
        },
        not_yet,
    ),
    Command::new(
        CommandSpec {
            name: "hincrbyfloat",
            arity: 4,
            flags: Flags::WRITE.and(Flags::DENYOOM).and(Flags::FAST),
            categories: Acl::HASH,
            keys: &[KeySpec::range(
                Key::RW.and(Key::ACCESS).and(Key::UPDATE),
                1,
                0,
                1,
            )],
            group: Group::Hash,
            since: "2.6.0",
            complexity: "O(1)",
            summary: "Increments the floating point value of a field by a number. Uses 0 as initial value if the field doesn't exist.",
            args: "key:key field increment:double",
            ..CommandSpec::EMPTY
        },
        not_yet,
    ),
    Command::new(
        CommandSpec {
            name: "hkeys",
            arity: 2,
            flags: Flags::READONLY,
            categories: Acl::HASH,
            keys: &[KeySpec::range(Key::RO.and(Key::ACCESS), 1, 0, 1)],
            group: Group::Hash,
            since: "2.0.0",
            complexity: "O(N) where N is the size of the hash.",
            summary: "Returns all fields in a hash.",
            args: "key:key",
            tips: &["nondeterministic_output_order"],
            ..CommandSpec::EMPTY
        },
        not_yet,
    ),
    Command::new(
        CommandSpec {
            name: "hlen",
            arity: 2,
            flags: Flags::READONLY.and(Flags::FAST),
            categories: Acl::HASH,
            keys: &[KeySpec::range(Key::RO, 1, 0, 1)],
            group: Group::Hash,
            since: "2.0.0",
            complexity: "O(1)",
            summary: "Returns the number of fields in a hash.",
            args: "key:key",
            ..CommandSpec::EMPTY
        },
        not_yet,
    ),
    Command::new(
        CommandSpec {
            name: "hmget",
            arity: -3,
            flags: Flags::READONLY.and(Flags::FAST),
            categories: Acl::HASH,
            keys: &[KeySpec::range(Key::RO.and(Key::ACCESS), 1, 0, 1)],
            group: Group::Hash,
            since: "2.0.0",
            complexity: "O(N) where N is the number of fields being requested.",
            summary: "Returns the values of all fields in a hash.",
            args: "key:key field...",
            ..CommandSpec::EMPTY
        },
        not_yet,
    ),
    Command::new(
        CommandSpec {
            name: "hmset",
            arity: -4,
            flags: Flags::WRITE.and(Flags::DENYOOM).and(Flags::FAST),
            categories: Acl::HASH,
            keys: &[KeySpec::range(Key::RW.and(Key::UPDATE), 1, 0, 1)],
            group: Group::Hash,
            since: "2.0.0",
            complexity: "O(N) where N is the number of fields being set.",
            summary: "Sets the values of multiple fields.",
            args: "key:key {field value}<data>...",
            ..CommandSpec::EMPTY
        },
        not_yet,
    ),
    Command::new(
        CommandSpec {
            name: "hrandfield",
            arity: -2,
            flags: Flags::READONLY,
            categories: Acl::HASH,
            keys: &[KeySpec::range(Key::RO.and(Key::ACCESS), 1, 0, 1)],
            group: Group::Hash,
            since: "6.2.0",
            complexity: "O(N) where N is the number of fields returned",
            summary: "Returns one or more random fields from a hash.",
            args: "key:key [{count:int [WITHVALUES]}<options>]",
            tips: &["nondeterministic_output"],
            ..CommandSpec::EMPTY
        },
        not_yet,
    ),
    Command::new(
        CommandSpec {
            name: "hscan",
            arity: -3,
            flags: Flags::READONLY,
            categories: Acl::HASH,
            keys: &[KeySpec::range(Key::RO.and(Key::ACCESS), 1, 0, 1)],
            group: Group::Hash,
            since: "2.8.0",
            complexity: "O(1) for every call. O(N) for a complete iteration, including enough command calls for the cursor to return back to 0. N is the number of elements inside the collection.",
            summary: "Iterates over fields and values of a hash.",
            args: "key:key cursor:int [MATCH=pattern:pattern] [COUNT=count:int] [NOVALUES]",
            tips: &["nondeterministic_output"],
            ..CommandSpec::EMPTY
        },
        not_yet,
    ),
    Command::new(
        CommandSpec {
            name: "hset",
            arity: -4,
            flags: Flags::WRITE.and(Flags::DENYOOM).and(Flags::FAST),
            categories: Acl::HASH,
            keys: &[KeySpec::range(Key::RW.and(Key::UPDATE), 1, 0, 1)],
            group: Group::Hash,
            since: "2.0.0",
            complexity: "O(1) for each field/value pair added, so O(N) to add N field/value pairs when the command is called with multiple field/value pairs.",
            summary: "Creates or modifies the value of a field in a hash.",
            args: "key:key {field value}<data>...",
            ..CommandSpec::EMPTY
        },
        not_yet,
    ),
    Command::new(
        CommandSpec {
            name: "hsetnx",
            arity: 4,
            flags: Flags::WRITE.and(Flags::DENYOOM).and(Flags::FAST),
            categories: Acl::HASH,
            keys: &[KeySpec::range(Key::RW.and(Key::INSERT), 1, 0, 1)],
            group: Group::Hash,
            since: "2.0.0",
            complexity: "O(1)",
            summary: "Sets the value of a field in a hash only when the field doesn't exist.",
            args: "key:key field value",
            ..CommandSpec::EMPTY
        },
        not_yet,
    ),
    Command::new(
        CommandSpec {
            name: "hstrlen",
            arity: 3,
            flags: Flags::READONLY.and(Flags::FAST),
            categories: Acl::HASH,
            keys: &[KeySpec::range(Key::RO, 1, 0, 1)],
            group: Group::Hash,
            since: "3.2.0",
            complexity: "O(1)",
            summary: "Returns the length of the value of a field.",
            args: "key:key field",
            ..CommandSpec::EMPTY
        },
        not_yet,
    ),
    Command::new(
        CommandSpec {
            name: "hvals",
            arity: 2,
            flags: Flags::READONLY,
            categories: Acl::HASH,
            keys: &[KeySpec::range(Key::RO.and(Key::ACCESS), 1, 0, 1)],
            group: Group::Hash,
            since: "2.0.0",
            complexity: "O(N) where N is the size of the hash.",
            summary: "Returns all values in a hash.",
            args: "key:key",
            tips: &["nondeterministic_output_order"],
            ..CommandSpec::EMPTY
        },
        not_yet,
    ),
];
