//! The commands of the list type.

use crate::commands::not_yet;
use crate::spec::{Acl, Begin, Command, CommandSpec, Find, Flags, Group, Key, KeySpec};

/// The rows.
pub const COMMANDS: &[Command] = &[
    Command::new(
        CommandSpec {
            name: "blmove",
            arity: 6,
            flags: Flags::WRITE.and(Flags::DENYOOM).and(Flags::BLOCKING),
            categories: Acl::LIST,
            keys: &[
                KeySpec::range(Key::RW.and(Key::ACCESS).and(Key::DELETE), 1, 0, 1),
                KeySpec::range(Key::RW.and(Key::INSERT), 2, 0, 1),
            ],
            group: Group::List,
            since: "6.2.0",
            complexity: "O(1)",
            summary: "Pops an element from a list, pushes it to another list and returns it. Blocks until an element is available otherwise. Deletes the list if the last element was moved.",
            args: "source:key destination:key#1 (LEFT | RIGHT)<wherefrom> (LEFT | RIGHT)<whereto> timeout:double",
            ..CommandSpec::EMPTY
        },
        not_yet,
    ),
    Command::new(
        CommandSpec {
            name: "blmpop",
            arity: -5,
            flags: Flags::WRITE.and(Flags::BLOCKING),
            categories: Acl::LIST,
            keys: &[KeySpec::new(
                Key::RW.and(Key::ACCESS).and(Key::DELETE),
                Begin::Index(2),
                Find::KeyNum {
                    num: 0,
                    first: 1,
                    step: 1,
                },
            )],
            group: Group::List,
            since: "7.0.0",
            complexity: "O(N+M) where N is the number of provided keys and M is the number of elements returned.",
            summary: "Pops the first element from one of multiple lists. Blocks until an element is available otherwise. Deletes the list if the last element was popped.",
            args: "timeout:double numkeys:int key:key... (LEFT | RIGHT)<where> [COUNT=count:int]",
            ..CommandSpec::EMPTY
        },
        not_yet,
    ),
    Command::new(
        CommandSpec {
            name: "blpop",
            arity: -3,
            flags: Flags::WRITE.and(Flags::BLOCKING),
            categories: Acl::LIST,
            keys: &[KeySpec::range(
                Key::RW.and(Key::ACCESS).and(Key::DELETE),
                1,
                -2,
                1,
            )],
            group: Group::List,
            since: "2.0.0",
            complexity: "O(N) where N is the number of provided keys.",
            summary: "Removes and returns the first element in a list. Blocks until an element is available otherwise. Deletes the list if the last element was popped.",
            args: "key:key... timeout:double",
            ..CommandSpec::EMPTY
        },
        not_yet,
    ),
    Command::new(
        CommandSpec {
            name: "brpop",
            arity: -3,
            flags: Flags::WRITE.and(Flags::BLOCKING),
            categories: Acl::LIST,
            keys: &[KeySpec::range(
                Key::RW.and(Key::ACCESS).and(Key::DELETE),
                1,
                -2,
                1,
            )],
            group: Group::List,
            since: "2.0.0",
            complexity: "O(N) where N is the number of provided keys.",
            summary: "Removes and returns the last element in a list. Blocks until an element is available otherwise. Deletes the list if the last element was popped.",
            args: "key:key... timeout:double",
            ..CommandSpec::EMPTY
        },
        not_yet,
    ),
    Command::new(
        CommandSpec {
            name: "brpoplpush",
            arity: 4,
            flags: Flags::WRITE.and(Flags::DENYOOM).and(Flags::BLOCKING),
            categories: Acl::LIST,
            keys: &[
                KeySpec::range(Key::RW.and(Key::ACCESS).and(Key::DELETE), 1, 0, 1),
                KeySpec::range(Key::RW.and(Key::INSERT), 2, 0, 1),
            ],
            group: Group::List,
            since: "2.2.0",
            complexity: "O(1)",
            summary: "Pops an element from a list, pushes it to another list and returns it. Blocks until an element is available otherwise. Deletes the list if the last element was popped.",
            args: "source:key destination:key#1 timeout:double",
            ..CommandSpec::EMPTY
        },
        not_yet,
    ),
    Command::new(
        CommandSpec {
            name: "lindex",
            arity: 3,
            flags: Flags::READONLY,
            categories: Acl::LIST,
            keys: &[KeySpec::range(Key::RO.and(Key::ACCESS), 1, 0, 1)],
            group: Group::List,
            since: "1.0.0",
            complexity: "O(N) where N is the number of elements to traverse to get to the element at index. This makes asking for the first or the last element of the list O(1).",
            summary: "Returns an element from a list by its index.",
            args: "key:key index:int",
            ..CommandSpec::EMPTY
        },
        not_yet,
    ),
    Command::new(
        CommandSpec {
            name: "linsert",
            arity: 5,
            flags: Flags::WRITE.and(Flags::DENYOOM),
            categories: Acl::LIST,
            keys: &[KeySpec::range(Key::RW.and(Key::INSERT), 1, 0, 1)],
            group: Group::List,
            since: "2.2.0",
            complexity: "O(N) where N is the number of elements to traverse before seeing the value pivot. This means that inserting somewhere on the left end on the list (head) can be considered O(1) and inserting somewhere on the right end (tail) is O(N).",
            summary: "Inserts an element before or after another element in a list.",
            args: "key:key (BEFORE | AFTER)<where> pivot element",
            ..CommandSpec::EMPTY
        },
        not_yet,
    ),
    Command::new(
        CommandSpec {
            name: "llen",
            arity: 2,
            flags: Flags::READONLY.and(Flags::FAST),
            categories: Acl::LIST,
            keys: &[KeySpec::range(Key::RO, 1, 0, 1)],
            group: Group::List,
            since: "1.0.0",
            complexity: "O(1)",
            summary: "Returns the length of a list.",
            args: "key:key",
            ..CommandSpec::EMPTY
        },
        not_yet,
    ),
    Command::new(
        CommandSpec {
            name: "lmove",
            arity: 5,
            flags: Flags::WRITE.and(Flags::DENYOOM),
            categories: Acl::LIST,
            keys: &[
                KeySpec::range(Key::RW.and(Key::ACCESS).and(Key::DELETE), 1, 0, 1),
                KeySpec::range(Key::RW.and(Key::INSERT), 2, 0, 1),
            ],
            group: Group::List,
            since: "6.2.0",
            complexity: "O(1)",
            summary: "Returns an element after popping it from one list and pushing it to another. Deletes the list if the last element was moved.",
            args: "source:key destination:key#1 (LEFT | RIGHT)<wherefrom> (LEFT | RIGHT)<whereto>",
            ..CommandSpec::EMPTY
        },
        not_yet,
    ),
    Command::new(
        CommandSpec {
            name: "lmpop",
            arity: -4,
            flags: Flags::WRITE,
            categories: Acl::LIST,
            keys: &[KeySpec::new(
                Key::RW.and(Key::ACCESS).and(Key::DELETE),
                Begin::Index(1),
                Find::KeyNum {
                    num: 0,
                    first: 1,
                    step: 1,
                },
            )],
            group: Group::List,
            since: "7.0.0",
            complexity: "O(N+M) where N is the number of provided keys and M is the number of elements returned.",
            summary: "Returns multiple elements from a list after removing them. Deletes the list if the last element was popped.",
            args: "numkeys:int key:key... (LEFT | RIGHT)<where> [COUNT=count:int]",
            ..CommandSpec::EMPTY
        },
        not_yet,
    ),
    Command::new(
        CommandSpec {
            name: "lpop",
            arity: -2,
            flags: Flags::WRITE.and(Flags::FAST),
            categories: Acl::LIST,
            keys: &[KeySpec::range(
                Key::RW.and(Key::ACCESS).and(Key::DELETE),
                1,
                0,
                1,
            )],
            group: Group::List,
            since: "1.0.0",
            complexity: "O(N) where N is the number of elements returned",
            summary: "Returns and removes one or more elements from the beginning of a list. Deletes the list if the last element was popped.",
            args: "key:key [count:int]",
            ..CommandSpec::EMPTY
        },
        not_yet,
    ),
    Command::new(
        CommandSpec {
            name: "lpos",
            arity: -3,
            flags: Flags::READONLY,
            categories: Acl::LIST,
            keys: &[KeySpec::range(Key::RO.and(Key::ACCESS), 1, 0, 1)],
            group: Group::List,
            since: "6.0.6",
            complexity: "O(N) where N is the number of elements in the list, for the average case. When searching for elements near the head or the tail of the list, or when the MAXLEN option is provided, the command may run in constant time.",
            summary: "Returns the index of matching elements in a list.",
            args: "key:key element [RANK=rank:int] [COUNT=num-matches:int] [MAXLEN=len:int]",
            ..CommandSpec::EMPTY
        },
        not_yet,
    ),
    Command::new(
        CommandSpec {
            name: "lpush",
            arity: -3,
            flags: Flags::WRITE.and(Flags::DENYOOM).and(Flags::FAST),
            categories: Acl::LIST,
            keys: &[KeySpec::range(Key::RW.and(Key::INSERT), 1, 0, 1)],
            group: Group::List,
            since: "1.0.0",
            complexity: "O(1) for each element added, so O(N) to add N elements when the command is called with multiple arguments.",
            summary: "Prepends one or more elements to a list. Creates the key if it doesn't exist.",
            args: "key:key element...",
            ..CommandSpec::EMPTY
        },
        not_yet,
    ),
    Command::new(
        CommandSpec {
            name: "lpushx",
            arity: -3,
            flags: Flags::WRITE.and(Flags::DENYOOM).and(Flags::FAST),
            categories: Acl::LIST,
            keys: &[KeySpec::range(Key::RW.and(Key::INSERT), 1, 0, 1)],
            group: Group::List,
            since: "2.2.0",
            complexity: "O(1) for each element added, so O(N) to add N elements when the command is called with multiple arguments.",
            summary: "Prepends one or more elements to a list only when the list exists.",
            args: "key:key element...",
            ..CommandSpec::EMPTY
        },
        not_yet,
    ),
    Command::new(
        CommandSpec {
            name: "lrange",
            arity: 4,
            flags: Flags::READONLY,
            categories: Acl::LIST,
            keys: &[KeySpec::range(Key::RO.and(Key::ACCESS), 1, 0, 1)],
            group: Group::List,
            since: "1.0.0",
            complexity: "O(S+N) where S is the distance of start offset from HEAD for small lists, from nearest end (HEAD or TAIL) for large lists; and N is the number of elements in the specified range.",
            summary: "Returns a range of elements from a list.",
            args: "key:key start:int stop:int",
            ..CommandSpec::EMPTY
        },
        not_yet,
    ),
    Command::new(
        CommandSpec {
            name: "lrem",
            arity: 4,
            flags: Flags::WRITE,
            categories: Acl::LIST,
            keys: &[KeySpec::range(Key::RW.and(Key::DELETE), 1, 0, 1)],
            group: Group::List,
            since: "1.0.0",
            complexity: "O(N+M) where N is the length of the list and M is the number of elements removed.",
            summary: "Removes elements from a list. Deletes the list if the last element was removed.",
            args: "key:key count:int element",
            ..CommandSpec::EMPTY
        },
        not_yet,
    ),
    Command::new(
        CommandSpec {
            name: "lset",
            arity: 4,
            flags: Flags::WRITE.and(Flags::DENYOOM),
            categories: Acl::LIST,
            keys: &[KeySpec::range(Key::RW.and(Key::UPDATE), 1, 0, 1)],
            group: Group::List,
            since: "1.0.0",
            complexity: "O(N) where N is the length of the list. Setting either the first or the last element of the list is O(1).",
            summary: "Sets the value of an element in a list by its index.",
            args: "key:key index:int element",
            ..CommandSpec::EMPTY
        },
        not_yet,
    ),
    Command::new(
        CommandSpec {
            name: "ltrim",
            arity: 4,
            flags: Flags::WRITE,
            categories: Acl::LIST,
            keys: &[KeySpec::range(Key::RW.and(Key::DELETE), 1, 0, 1)],
            group: Group::List,
            since: "1.0.0",
            complexity: "O(N) where N is the number of elements to be removed by the operation.",
            summary: "Removes elements from both ends of a list. Deletes the list if all elements were trimmed.",
            args: "key:key start:int stop:int",
            ..CommandSpec::EMPTY
        },
        not_yet,
    ),
    Command::new(
        CommandSpec {
            name: "rpop",
            arity: -2,
            flags: Flags::WRITE.and(Flags::FAST),
            categories: Acl::LIST,
            keys: &[KeySpec::range(
                Key::RW.and(Key::ACCESS).and(Key::DELETE),
                1,
                0,
                1,
            )],
            group: Group::List,
            since: "1.0.0",
            complexity: "O(N) where N is the number of elements returned",
            summary: "Returns and removes one or more elements from the end of a list. Deletes the list if the last element was popped.",
            args: "key:key [count:int]",
            ..CommandSpec::EMPTY
        },
        not_yet,
    ),
    Command::new(
        CommandSpec {
            name: "rpoplpush",
            arity: 3,
            flags: Flags::WRITE.and(Flags::DENYOOM),
            categories: Acl::LIST,
            keys: &[
                KeySpec::range(Key::RW.and(Key::ACCESS).and(Key::DELETE), 1, 0, 1),
                KeySpec::range(Key::RW.and(Key::INSERT), 2, 0, 1),
            ],
            group: Group::List,
            since: "1.2.0",
            complexity: "O(1)",
            summary: "Returns the last element of a list after removing and pushing it to another list. Deletes the list if the last element was popped.",
            args: "source:key destination:key#1",
            ..CommandSpec::EMPTY
        },
        not_yet,
    ),
    Command::new(
        CommandSpec {
            name: "rpush",
            arity: -3,
            flags: Flags::WRITE.and(Flags::DENYOOM).and(Flags::FAST),
            categories: Acl::LIST,
            keys: &[KeySpec::range(Key::RW.and(Key::INSERT), 1, 0, 1)],
            group: Group::List,
            since: "1.0.0",
            complexity: "O(1) for each element added, so O(N) to add N elements when the command is called with multiple arguments.",
            summary: "Appends one or more elements to a list. Creates the key if it doesn't exist.",
            args: "key:key element...",
            ..CommandSpec::EMPTY
        },
        not_yet,
    ),
    Command::new(
        CommandSpec {
            name: "rpushx",
            arity: -3,
            flags: Flags::WRITE.and(Flags::DENYOOM).and(Flags::FAST),
            categories: Acl::LIST,
            keys: &[KeySpec::range(Key::RW.and(Key::INSERT), 1, 0, 1)],
            group: Group::List,
            since: "2.2.0",
            complexity: "O(1) for each element added, so O(N) to add N elements when the command is called with multiple arguments.",
            summary: "Appends one or more elements to a list only when the list exists.",
            args: "key:key element...",
            ..CommandSpec::EMPTY
        },
        not_yet,
    ),
];
