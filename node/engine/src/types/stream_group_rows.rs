//! The rows of the commands of consumer groups, apart from their functions for length only.

use crate::spec::{Acl, CommandSpec, Flags, Group, Key, KeySpec};

pub(super) const XACK: CommandSpec = CommandSpec {
    name: "xack",
    arity: -4,
    flags: Flags::WRITE.and(Flags::FAST),
    categories: Acl::STREAM,
    keys: &[KeySpec::range(Key::RW.and(Key::UPDATE), 1, 0, 1)],
    group: Group::Stream,
    since: "5.0.0",
    complexity: "O(1) for each message ID processed.",
    summary: "Returns the number of messages that were successfully acknowledged by the consumer group member of a stream.",
    args: "key:key group id...",
    ..CommandSpec::EMPTY
};

pub(super) const XAUTOCLAIM: CommandSpec = CommandSpec {
    name: "xautoclaim",
    arity: -6,
    flags: Flags::WRITE.and(Flags::FAST),
    categories: Acl::STREAM,
    keys: &[KeySpec::range(Key::RW.and(Key::DELETE), 1, 0, 1)],
    group: Group::Stream,
    since: "6.2.0",
    complexity: "O(1) if COUNT is small.",
    summary: "Changes, or acquires, ownership of messages in a consumer group, as if the messages were delivered to a consumer group member.",
    args: "key:key group consumer min-idle-time start [COUNT=count:int] [JUSTID]",
    tips: &["nondeterministic_output"],
    history: &[(
        "7.0.0",
        "Added an element to the reply array, containing deleted entries the command cleared from the PEL",
    )],
    ..CommandSpec::EMPTY
};

pub(super) const XCLAIM: CommandSpec = CommandSpec {
    name: "xclaim",
    arity: -6,
    flags: Flags::WRITE.and(Flags::FAST),
    categories: Acl::STREAM,
    keys: &[KeySpec::range(Key::RW.and(Key::UPDATE), 1, 0, 1)],
    group: Group::Stream,
    since: "5.0.0",
    complexity: "O(log N) with N being the number of messages in the PEL of the consumer group.",
    summary: "Changes, or acquires, ownership of a message in a consumer group, as if the message was delivered to a consumer group member.",
    args: "key:key group consumer min-idle-time id... [IDLE=ms:int] [TIME=unix-time-milliseconds:time] [RETRYCOUNT=count:int] [FORCE] [JUSTID] [LASTID=lastid]",
    tips: &["nondeterministic_output"],
    ..CommandSpec::EMPTY
};

pub(super) const XGROUP: CommandSpec = CommandSpec {
    name: "xgroup",
    arity: -2,
    group: Group::Stream,
    since: "5.0.0",
    complexity: "Depends on subcommand.",
    summary: "A container for consumer groups commands.",
    ..CommandSpec::EMPTY
};

pub(super) const XGROUP_CREATE: CommandSpec = CommandSpec {
    name: "create",
    arity: -5,
    flags: Flags::WRITE.and(Flags::DENYOOM),
    categories: Acl::STREAM,
    keys: &[KeySpec::range(Key::RW.and(Key::INSERT), 2, 0, 1)],
    group: Group::Stream,
    since: "5.0.0",
    complexity: "O(1)",
    summary: "Creates a consumer group.",
    args: "key:key group (id | \"$\"<new-id>)<id-selector> [MKSTREAM] [ENTRIESREAD=entriesread:int~entries-read]",
    history: &[("7.0.0", "Added the `entries_read` named argument.")],
    ..CommandSpec::EMPTY
};

pub(super) const XGROUP_CREATECONSUMER: CommandSpec = CommandSpec {
    name: "createconsumer",
    arity: 5,
    flags: Flags::WRITE.and(Flags::DENYOOM),
    categories: Acl::STREAM,
    keys: &[KeySpec::range(Key::RW.and(Key::INSERT), 2, 0, 1)],
    group: Group::Stream,
    since: "6.2.0",
    complexity: "O(1)",
    summary: "Creates a consumer in a consumer group.",
    args: "key:key group consumer",
    ..CommandSpec::EMPTY
};

pub(super) const XGROUP_DELCONSUMER: CommandSpec = CommandSpec {
    name: "delconsumer",
    arity: 5,
    flags: Flags::WRITE,
    categories: Acl::STREAM,
    keys: &[KeySpec::range(Key::RW.and(Key::DELETE), 2, 0, 1)],
    group: Group::Stream,
    since: "5.0.0",
    complexity: "O(1)",
    summary: "Deletes a consumer from a consumer group.",
    args: "key:key group consumer",
    ..CommandSpec::EMPTY
};

pub(super) const XGROUP_DESTROY: CommandSpec = CommandSpec {
    name: "destroy",
    arity: 4,
    flags: Flags::WRITE,
    categories: Acl::STREAM,
    keys: &[KeySpec::range(Key::RW.and(Key::DELETE), 2, 0, 1)],
    group: Group::Stream,
    since: "5.0.0",
    complexity: "O(N) where N is the number of entries in the group's pending entries list (PEL).",
    summary: "Destroys a consumer group.",
    args: "key:key group",
    ..CommandSpec::EMPTY
};

pub(super) const XGROUP_HELP: CommandSpec = CommandSpec {
    name: "help",
    arity: 2,
    flags: Flags::LOADING.and(Flags::STALE),
    categories: Acl::STREAM,
    group: Group::Stream,
    since: "5.0.0",
    complexity: "O(1)",
    summary: "Returns helpful text about the different subcommands.",
    ..CommandSpec::EMPTY
};

pub(super) const XGROUP_SETID: CommandSpec = CommandSpec {
    name: "setid",
    arity: -5,
    flags: Flags::WRITE,
    categories: Acl::STREAM,
    keys: &[KeySpec::range(Key::RW.and(Key::UPDATE), 2, 0, 1)],
    group: Group::Stream,
    since: "5.0.0",
    complexity: "O(1)",
    summary: "Sets the last-delivered ID of a consumer group.",
    args: "key:key group (id | \"$\"<new-id>)<id-selector> [ENTRIESREAD=entriesread:int~entries-read]",
    history: &[("7.0.0", "Added the optional `entries_read` argument.")],
    ..CommandSpec::EMPTY
};

pub(super) const XPENDING: CommandSpec = CommandSpec {
    name: "xpending",
    arity: -3,
    flags: Flags::READONLY,
    categories: Acl::STREAM,
    keys: &[KeySpec::range(Key::RO.and(Key::ACCESS), 1, 0, 1)],
    group: Group::Stream,
    since: "5.0.0",
    complexity: "O(N) with N being the number of elements returned, so asking for a small fixed number of entries per call is O(1). O(M), where M is the total number of entries scanned when used with the IDLE filter. When the command returns just the summary and the list of consumers is small, it runs in O(1) time; otherwise, an additional O(N) time for iterating every consumer.",
    summary: "Returns the information and entries from a stream consumer group's pending entries list.",
    args: "key:key group [{[IDLE=min-idle-time:int@6.2.0] start end count:int [consumer]}<filters>]",
    tips: &["nondeterministic_output"],
    history: &[(
        "6.2.0",
        "Added the `IDLE` option and exclusive range intervals.",
    )],
    ..CommandSpec::EMPTY
};
