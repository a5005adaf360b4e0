//! `SUBSCRIBE` and `PUBLISH` in all their kinds, and `PUBSUB`.

use super::ServerCommand;
use super::rows::*;
use crate::executor::{ConnId, Executor, Subscriptions};
use crate::seam::ToControl;
use bytes::Bytes;
use holdfast_engine::glob;
use holdfast_resp::write;
use std::collections::{BTreeMap, BTreeSet};

/// Which of a client's three sets of subscriptions.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Channel,
    Pattern,
    Shard,
}

impl Kind {
    fn of(self, subs: &mut Subscriptions) -> &mut BTreeSet<Box<[u8]>> {
        match self {
            Kind::Channel => &mut subs.channels,
            Kind::Pattern => &mut subs.patterns,
            Kind::Shard => &mut subs.shard_channels,
        }
    }

    fn map(self, ex: &mut Executor) -> &mut BTreeMap<Box<[u8]>, BTreeSet<ConnId>> {
        match self {
            Kind::Channel => &mut ex.channels.channels,
            Kind::Pattern => &mut ex.channels.patterns,
            Kind::Shard => &mut ex.channels.shard_channels,
        }
    }

    fn words(self) -> (&'static [u8], &'static [u8]) {
        match self {
            Kind::Channel => (b"subscribe", b"unsubscribe"),
            Kind::Pattern => (b"psubscribe", b"punsubscribe"),
            Kind::Shard => (b"ssubscribe", b"sunsubscribe"),
        }
    }
}

/// The confirmation of one change: the word, the name, and how many subscriptions are left.
fn confirm(ex: &mut Executor, id: ConnId, word: &[u8], name: Option<&[u8]>, kind: Kind) {
    ex.pushed = true;
    let c = &mut ex.conns[id];
    let count = c.subs.as_ref().map_or(0, |s| match kind {
        Kind::Shard => s.shard_channels.len(),
        Kind::Channel | Kind::Pattern => s.count(),
    });
    let out = &mut c.out.buf;
    write::push(out, c.proto, 3);
    write::bulk(out, word);
    match name {
        Some(name) => write::bulk(out, name),
        None => write::null(out, c.proto),
    }
    write::int(out, count as i64);
}

fn add(ex: &mut Executor, id: ConnId, names: &[&[u8]], kind: Kind) {
    for name in names {
        let subs = ex.conns[id].subs.get_or_insert_default();
        if kind.of(subs).insert(Box::from(*name)) {
            kind.map(ex).entry(Box::from(*name)).or_default().insert(id);
        }
        confirm(ex, id, kind.words().0, Some(name), kind);
    }
    ex.update_tracking();
}

fn remove(ex: &mut Executor, id: ConnId, names: &[&[u8]], kind: Kind) {
    let all: Vec<Box<[u8]>>;
    let names: Vec<&[u8]> = if names.is_empty() {
        all = ex.conns[id]
            .subs
            .as_mut()
            .map(|s| kind.of(s).iter().cloned().collect())
            .unwrap_or_default();
        all.iter().map(|n| &n[..]).collect()
    } else {
        names.to_vec()
    };
    if names.is_empty() {
        return confirm(ex, id, kind.words().1, None, kind);
    }
    for name in names {
        let was = ex.conns[id]
            .subs
            .as_mut()
            .is_some_and(|s| kind.of(s).remove(name));
        if was && let Some(set) = kind.map(ex).get_mut(name) {
            set.remove(&id);
            if set.is_empty() {
                kind.map(ex).remove(name);
            }
        }
        confirm(ex, id, kind.words().1, Some(name), kind);
    }
    if ex.conns[id].subs.as_ref().is_some_and(|s| s.is_empty()) {
        ex.conns[id].subs = None;
    }
    ex.update_tracking();
}

fn subscribe(ex: &mut Executor, id: ConnId, argv: &[&[u8]]) {
    add(ex, id, &argv[1..], Kind::Channel);
}

fn psubscribe(ex: &mut Executor, id: ConnId, argv: &[&[u8]]) {
    add(ex, id, &argv[1..], Kind::Pattern);
}

fn ssubscribe(ex: &mut Executor, id: ConnId, argv: &[&[u8]]) {
    add(ex, id, &argv[1..], Kind::Shard);
}

fn unsubscribe(ex: &mut Executor, id: ConnId, argv: &[&[u8]]) {
    remove(ex, id, &argv[1..], Kind::Channel);
}

fn punsubscribe(ex: &mut Executor, id: ConnId, argv: &[&[u8]]) {
    remove(ex, id, &argv[1..], Kind::Pattern);
}

fn sunsubscribe(ex: &mut Executor, id: ConnId, argv: &[&[u8]]) {
    remove(ex, id, &argv[1..], Kind::Shard);
}

fn publish_any(ex: &mut Executor, id: ConnId, argv: &[&[u8]], sharded: bool) {
    let receivers = ex.deliver_published(argv[1], argv[2], sharded);
    if ex.settings.cluster_enabled {
        ex.control.send(ToControl::Publish {
            channel: Bytes::copy_from_slice(argv[1]),
            message: Bytes::copy_from_slice(argv[2]),
            sharded,
        });
    } else if !ex.settings.quorum {
        let db = ex.conns[id].db;
        ex.fx.propagate(db, argv);
    }
    write::int(ex.out(id), receivers as i64);
}

fn publish(ex: &mut Executor, id: ConnId, argv: &[&[u8]]) {
    publish_any(ex, id, argv, false);
}

fn spublish(ex: &mut Executor, id: ConnId, argv: &[&[u8]]) {
    publish_any(ex, id, argv, true);
}

fn list_channels(ex: &mut Executor, id: ConnId, pattern: Option<&&[u8]>, kind: Kind) {
    let names: Vec<Box<[u8]>> = kind
        .map(ex)
        .keys()
        .filter(|n| pattern.is_none_or(|p| glob::matches(p, n)))
        .cloned()
        .collect();
    let out = ex.out(id);
    write::array(out, names.len());
    for name in names {
        write::bulk(out, &name);
    }
}

fn count_subscribers(ex: &mut Executor, id: ConnId, names: &[&[u8]], kind: Kind) {
    let counts: Vec<usize> = names
        .iter()
        .map(|n| kind.map(ex).get(*n).map_or(0, BTreeSet::len))
        .collect();
    let out = ex.out(id);
    // Not a map, in RESP3 either.
    write::array(out, names.len() * 2);
    for (name, count) in names.iter().zip(counts) {
        write::bulk(out, name);
        write::int(out, count as i64);
    }
}

fn pubsub_channels(ex: &mut Executor, id: ConnId, argv: &[&[u8]]) {
    if argv.len() > 3 {
        return super::wrong_arguments(ex, id, argv);
    }
    list_channels(ex, id, argv.get(2), Kind::Channel);
}

fn pubsub_shardchannels(ex: &mut Executor, id: ConnId, argv: &[&[u8]]) {
    if argv.len() > 3 {
        return super::wrong_arguments(ex, id, argv);
    }
    list_channels(ex, id, argv.get(2), Kind::Shard);
}

fn pubsub_numsub(ex: &mut Executor, id: ConnId, argv: &[&[u8]]) {
    count_subscribers(ex, id, &argv[2..], Kind::Channel);
}

fn pubsub_shardnumsub(ex: &mut Executor, id: ConnId, argv: &[&[u8]]) {
    count_subscribers(ex, id, &argv[2..], Kind::Shard);
}

fn pubsub_numpat(ex: &mut Executor, id: ConnId, _: &[&[u8]]) {
    let n = ex.channels.patterns.len();
    write::int(ex.out(id), n as i64);
}

fn pubsub_help(ex: &mut Executor, id: ConnId, _: &[&[u8]]) {
    super::reply_help(
        ex.out(id),
        "PUBSUB",
        &[
            "CHANNELS [<pattern>]",
            "    Return the currently active channels matching a <pattern> (default: '*').",
            "NUMPAT",
            "    Return number of subscriptions to patterns.",
            "NUMSUB [<channel> ...]",
            "    Return the number of subscribers for the specified channels, excluding",
            "    pattern subscriptions(default: no channels).",
            "SHARDCHANNELS [<pattern>]",
            "    Return the currently active shard level channels matching a <pattern> (default: '*').",
            "SHARDNUMSUB [<shardchannel> ...]",
            "    Return the number of subscribers for the specified shard level channel(s)",
        ],
    );
}

/// The rows of this file.
pub(super) const COMMANDS: &[ServerCommand] = &[
    Command::new(
        CommandSpec {
            name: "subscribe",
            arity: -2,
            flags: flags([Flags::PUBSUB, Flags::NOSCRIPT, Flags::LOADING, Flags::STALE]),
            group: Group::PubSub,
            since: "2.0.0",
            complexity: "O(N) where N is the number of channels to subscribe to.",
            summary: "Listens for messages published to channels.",
            args: "channel...",
            ..CommandSpec::EMPTY
        },
        subscribe as ServerFn,
    ),
    Command::new(
        CommandSpec {
            name: "psubscribe",
            arity: -2,
            flags: flags([Flags::PUBSUB, Flags::NOSCRIPT, Flags::LOADING, Flags::STALE]),
            group: Group::PubSub,
            since: "2.0.0",
            complexity: "O(N) where N is the number of patterns to subscribe to.",
            summary: "Listens for messages published to channels that match one or more patterns.",
            args: "pattern:pattern...",
            ..CommandSpec::EMPTY
        },
        psubscribe as ServerFn,
    ),
    Command::new(
        CommandSpec {
            name: "ssubscribe",
            arity: -2,
            flags: flags([Flags::PUBSUB, Flags::NOSCRIPT, Flags::LOADING, Flags::STALE]),
            keys: &[KeySpec::range(Key::NOT_KEY, 1, -1, 1)],
            group: Group::PubSub,
            since: "7.0.0",
            complexity: "O(N) where N is the number of shard channels to subscribe to.",
            summary: "Listens for messages published to shard channels.",
            args: "shardchannel...",
            ..CommandSpec::EMPTY
        },
        ssubscribe as ServerFn,
    ),
    Command::new(
        CommandSpec {
            name: "unsubscribe",
            arity: -1,
            flags: flags([Flags::PUBSUB, Flags::NOSCRIPT, Flags::LOADING, Flags::STALE]),
            group: Group::PubSub,
            since: "2.0.0",
            complexity: "O(N) where N is the number of channels to unsubscribe.",
            summary: "Stops listening to messages posted to channels.",
            args: "[channel...]",
            ..CommandSpec::EMPTY
        },
        unsubscribe as ServerFn,
    ),
    Command::new(
        CommandSpec {
            name: "punsubscribe",
            arity: -1,
            flags: flags([Flags::PUBSUB, Flags::NOSCRIPT, Flags::LOADING, Flags::STALE]),
            group: Group::PubSub,
            since: "2.0.0",
            complexity: "O(N) where N is the number of patterns to unsubscribe.",
            summary: "Stops listening to messages published to channels that match one or more patterns.",
            args: "[pattern:pattern...]",
            ..CommandSpec::EMPTY
        },
        punsubscribe as ServerFn,
    ),
    Command::new(
        CommandSpec {
            name: "sunsubscribe",
            arity: -1,
            flags: flags([Flags::PUBSUB, Flags::NOSCRIPT, Flags::LOADING, Flags::STALE]),
            keys: &[KeySpec::range(Key::NOT_KEY, 1, -1, 1)],
            group: Group::PubSub,
            since: "7.0.0",
            complexity: "O(N) where N is the number of shard channels to unsubscribe.",
            summary: "Stops listening to messages posted to shard channels.",
            args: "[shardchannel...]",
            ..CommandSpec::EMPTY
        },
        sunsubscribe as ServerFn,
    ),
    Command::new(
        CommandSpec {
            name: "publish",
            arity: 3,
            flags: flags([Flags::PUBSUB, Flags::LOADING, Flags::STALE, Flags::FAST, Flags::MAY_REPLICATE]),
            group: Group::PubSub,
            since: "2.0.0",
            complexity: "O(N+M) where N is the number of clients subscribed to the receiving channel and M is the total number of subscribed patterns (by any client).",
            summary: "Posts a message to a channel.",
            args: "channel message",
            ..CommandSpec::EMPTY
        },
        publish as ServerFn,
    ),
    Command::new(
        CommandSpec {
            name: "spublish",
            arity: 3,
            flags: flags([Flags::PUBSUB, Flags::LOADING, Flags::STALE, Flags::FAST, Flags::MAY_REPLICATE]),
            keys: &[KeySpec::range(Key::NOT_KEY, 1, 0, 1)],
            group: Group::PubSub,
            since: "7.0.0",
            complexity: "O(N) where N is the number of clients subscribed to the receiving shard channel.",
            summary: "Posts a message to a shard channel.",
            args: "shardchannel message",
            ..CommandSpec::EMPTY
        },
        spublish as ServerFn,
    ),
    Command::new(
        CommandSpec {
            name: "pubsub",
            arity: -2,
            group: Group::PubSub,
            since: "2.8.0",
            complexity: "Depends on subcommand.",
            summary: "A container for Pub/Sub commands.",
            ..CommandSpec::EMPTY
        },
        CONTAINER as ServerFn,
    )
    .with_subcommands(&[
        Command::new(
            CommandSpec {
                name: "channels",
                arity: -2,
                flags: flags([Flags::PUBSUB, Flags::LOADING, Flags::STALE]),
                group: Group::PubSub,
                since: "2.8.0",
                complexity: "O(N) where N is the number of active channels, and assuming constant time pattern matching (relatively short channels and patterns)",
                summary: "Returns the active channels.",
                args: "[pattern:pattern]",
                ..CommandSpec::EMPTY
            },
            pubsub_channels as ServerFn,
        ),
        Command::new(
            CommandSpec {
                name: "shardchannels",
                arity: -2,
                flags: flags([Flags::PUBSUB, Flags::LOADING, Flags::STALE]),
                group: Group::PubSub,
                since: "7.0.0",
                complexity: "O(N) where N is the number of active shard channels, and assuming constant time pattern matching (relatively short shard channels).",
                summary: "Returns the active shard channels.",
                args: "[pattern:pattern]",
                ..CommandSpec::EMPTY
            },
            pubsub_shardchannels as ServerFn,
        ),
        Command::new(
            CommandSpec {
                name: "numsub",
                arity: -2,
                flags: flags([Flags::PUBSUB, Flags::LOADING, Flags::STALE]),
                group: Group::PubSub,
                since: "2.8.0",
                complexity: "O(N) for the NUMSUB subcommand, where N is the number of requested channels",
                summary: "Returns a count of subscribers to channels.",
                args: "[channel...]",
                ..CommandSpec::EMPTY
            },
            pubsub_numsub as ServerFn,
        ),
        Command::new(
            CommandSpec {
                name: "shardnumsub",
                arity: -2,
                flags: flags([Flags::PUBSUB, Flags::LOADING, Flags::STALE]),
                group: Group::PubSub,
                since: "7.0.0",
                complexity: "O(N) for the SHARDNUMSUB subcommand, where N is the number of requested shard channels",
                summary: "Returns the count of subscribers of shard channels.",
                args: "[shardchannel...]",
                ..CommandSpec::EMPTY
            },
            pubsub_shardnumsub as ServerFn,
        ),
        Command::new(
            CommandSpec {
                name: "numpat",
                arity: 2,
                flags: flags([Flags::PUBSUB, Flags::LOADING, Flags::STALE]),
                group: Group::PubSub,
                since: "2.8.0",
                complexity: "O(1)",
                summary: "Returns a count of unique pattern subscriptions.",
                ..CommandSpec::EMPTY
            },
            pubsub_numpat as ServerFn,
        ),
        Command::new(
            CommandSpec {
                name: "help",
                arity: 2,
                flags: flags([Flags::LOADING, Flags::STALE]),
                group: Group::PubSub,
                since: "6.2.0",
                complexity: "O(1)",
                summary: "Returns helpful text about the different subcommands.",
                ..CommandSpec::EMPTY
            },
            pubsub_help as ServerFn,
        ),
    ]),
];
