//! `PING`, `ECHO`, `AUTH`, `HELLO`, `SELECT`, `QUIT`, `RESET`, and the flags that cluster clients set.

use super::ServerCommand;
use super::rows::*;
use crate::executor::{Close, ConnId, DurabilityChoice, Executor, ReplyMode};
use holdfast_resp::{Proto, parse_i64, write};

fn ping(ex: &mut Executor, id: ConnId, argv: &[&[u8]]) {
    if argv.len() > 2 {
        return ex.reply_error(id, "ERR wrong number of arguments for 'ping' command");
    }
    let c = &mut ex.conns[id];
    let subscribed = c.subs.as_ref().is_some_and(|s| !s.is_empty());
    let out = &mut c.out.buf;
    if subscribed && c.proto == Proto::Resp2 {
        write::array(out, 2);
        write::bulk(out, b"pong");
        write::bulk(out, argv.get(1).copied().unwrap_or_default());
    } else if let Some(message) = argv.get(1) {
        write::bulk(out, message);
    } else {
        write::simple(out, "PONG");
    }
}

fn echo(ex: &mut Executor, id: ConnId, argv: &[&[u8]]) {
    write::bulk(ex.out(id), argv[1]);
}

fn select(ex: &mut Executor, id: ConnId, argv: &[&[u8]]) {
    let Some(n) = parse_i64(argv[1]) else {
        return ex.reply_error(id, "ERR value is not an integer or out of range");
    };
    if ex.settings.cluster_enabled && n != 0 && ex.settings.databases == 1 {
        return ex.reply_error(id, "ERR SELECT is not allowed in cluster mode");
    }
    match u16::try_from(n) {
        Ok(db) if db < ex.settings.databases => {
            ex.conns[id].db = db;
            write::ok(ex.out(id));
        }
        _ => ex.reply_error(id, "ERR DB index is out of range"),
    }
}

/// Equal in a time that depends on the lengths only.
fn same_secret(a: &[u8], b: &[u8]) -> bool {
    let mut difference = a.len() ^ b.len();
    for (i, x) in a.iter().enumerate() {
        difference |= usize::from(x ^ b.get(i).copied().unwrap_or(0xff));
    }
    difference == 0
}

const WRONG_PASS: &str = "WRONGPASS invalid username-password pair or user is disabled.";

/// Whether user and password let the client in; without a password set, everybody is `default`.
fn authenticate(ex: &mut Executor, id: ConnId, user: &[u8], password: &[u8]) -> bool {
    let required = &ex.settings.requirepass;
    let ok = user == b"default" && (required.is_empty() || same_secret(password, required));
    if ok {
        ex.conns[id].authenticated = true;
        ex.conns[id].was_authenticated = true;
    } else {
        ex.reply_error(id, WRONG_PASS);
    }
    ok
}

fn auth(ex: &mut Executor, id: ConnId, argv: &[&[u8]]) {
    let ok = match argv {
        [_, password] => {
            if ex.settings.requirepass.is_empty() {
                return ex.reply_error(
                    id,
                    "ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?",
                );
            }
            authenticate(ex, id, b"default", password)
        }
        [_, user, password] => authenticate(ex, id, user, password),
        _ => return ex.reply_error(id, "ERR syntax error"),
    };
    if ok {
        write::ok(ex.out(id));
    }
}

fn hello(ex: &mut Executor, id: ConnId, argv: &[&[u8]]) {
    let mut proto = None;
    let mut name = None;
    let mut credentials = None;
    if let Some(version) = argv.get(1) {
        proto = match parse_i64(version) {
            Some(2) => Some(Proto::Resp2),
            Some(3) => Some(Proto::Resp3),
            Some(_) => return ex.reply_error(id, "NOPROTO unsupported protocol version"),
            None => {
                return ex
                    .reply_error(id, "ERR Protocol version is not an integer or out of range");
            }
        };
    }
    let mut i = 2;
    while i < argv.len() {
        let more = argv.len() - i - 1;
        if argv[i].eq_ignore_ascii_case(b"auth") && more >= 2 {
            credentials = Some((argv[i + 1], argv[i + 2]));
            i += 3;
        } else if argv[i].eq_ignore_ascii_case(b"setname") && more >= 1 {
            if !valid_name(argv[i + 1]) {
                return ex.reply_error(id, NAME_ERROR);
            }
            name = Some(argv[i + 1]);
            i += 2;
        } else {
            let option = String::from_utf8_lossy(argv[i]).into_owned();
            return ex.reply_error(id, &format!("ERR Syntax error in HELLO option '{option}'"));
        }
    }
    if let Some((user, password)) = credentials
        && !authenticate(ex, id, user, password)
    {
        return;
    }
    if !ex.conns[id].authenticated {
        return ex.reply_error(
            id,
            "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and select the RESP protocol version at the same time",
        );
    }
    let cluster = ex.settings.cluster_enabled;
    let zone = ex.config.get("availability-zone").to_string();
    let (server, version) = match ex.config.yes("extended-redis-compatibility") {
        true => ("redis", crate::COMPATIBLE_REDIS_VERSION),
        false => ("valkey", crate::COMPATIBLE_VALKEY_VERSION),
    };
    let role = super::info::role_name(ex);
    let c = &mut ex.conns[id];
    if let Some(name) = name {
        c.name = name.into();
    }
    if let Some(proto) = proto {
        c.proto = proto;
    }
    let (client, proto) = (c.id, c.proto);
    let out = &mut c.out.buf;
    write::map(out, proto, 7 + usize::from(!zone.is_empty()));
    write::bulk(out, b"server");
    write::bulk(out, server.as_bytes());
    write::bulk(out, b"version");
    write::bulk(out, version.as_bytes());
    write::bulk(out, b"proto");
    write::int(out, if proto == Proto::Resp3 { 3 } else { 2 });
    write::bulk(out, b"id");
    write::int(out, client as i64);
    write::bulk(out, b"mode");
    write::bulk(out, if cluster { b"cluster" } else { b"standalone" });
    write::bulk(out, b"role");
    write::bulk(
        out,
        if role == "slave" {
            b"replica"
        } else {
            b"master"
        },
    );
    write::bulk(out, b"modules");
    write::array(out, 0);
    if !zone.is_empty() {
        write::bulk(out, b"availability_zone");
        write::bulk(out, zone.as_bytes());
    }
}

pub(super) const NAME_ERROR: &str =
    "ERR Client names cannot contain spaces, newlines or special characters.";

/// Names are shown in lines of `CLIENT LIST`: printable and without spaces.
pub(super) fn valid_name(name: &[u8]) -> bool {
    name.iter().all(|c| (b'!'..=b'~').contains(c))
}

fn quit(ex: &mut Executor, id: ConnId, _: &[&[u8]]) {
    write::ok(ex.out(id));
    ex.close_client(id, Close::AfterReplies);
}

fn reset(ex: &mut Executor, id: ConnId, _: &[&[u8]]) {
    ex.discard(id);
    ex.stop_monitoring(id);
    ex.drop_subscriptions(id);
    ex.stop_tracking(id);
    let authenticated = ex.settings.requirepass.is_empty();
    let c = &mut ex.conns[id];
    c.db = 0;
    c.proto = Proto::Resp2;
    c.name = Box::default();
    c.asking = false;
    c.readonly = false;
    c.no_evict = false;
    c.no_touch = false;
    c.import_source = false;
    c.reply = ReplyMode::On;
    c.durability = DurabilityChoice::Server;
    c.authenticated = authenticated;
    write::simple(&mut c.out.buf, "RESET");
}

const NO_CLUSTER: &str = "ERR This instance has cluster support disabled";

fn asking(ex: &mut Executor, id: ConnId, _: &[&[u8]]) {
    if !ex.settings.cluster_enabled {
        return ex.reply_error(id, NO_CLUSTER);
    }
    ex.conns[id].asking = true;
    write::ok(ex.out(id));
}

fn readonly(ex: &mut Executor, id: ConnId, _: &[&[u8]]) {
    ex.conns[id].readonly = true;
    write::ok(ex.out(id));
}

fn readwrite(ex: &mut Executor, id: ConnId, _: &[&[u8]]) {
    ex.conns[id].readonly = false;
    write::ok(ex.out(id));
}

/// The rows of this file.
pub(super) const COMMANDS: &[ServerCommand] = &[
    Command::new(
        CommandSpec {
            name: "ping",
            arity: -1,
            flags: Flags::FAST,
            categories: Acl::CONNECTION,
            group: Group::Connection,
            since: "1.0.0",
            complexity: "O(1)",
            summary: "Returns the server's liveliness response.",
            tips: &["request_policy:all_shards", "response_policy:all_succeeded"],
            args: "[message]",
            ..CommandSpec::EMPTY
        },
        ping as ServerFn,
    ),
    Command::new(
        CommandSpec {
            name: "echo",
            arity: 2,
            flags: flags([Flags::LOADING, Flags::STALE, Flags::FAST]),
            categories: Acl::CONNECTION,
            group: Group::Connection,
            since: "1.0.0",
            complexity: "O(1)",
            summary: "Returns the given string.",
            args: "message",
            ..CommandSpec::EMPTY
        },
        echo as ServerFn,
    ),
    Command::new(
        CommandSpec {
            name: "select",
            arity: 2,
            flags: flags([Flags::ALLOW_BUSY, Flags::LOADING, Flags::STALE, Flags::FAST]),
            categories: Acl::CONNECTION,
            group: Group::Connection,
            since: "1.0.0",
            complexity: "O(1)",
            summary: "Changes the selected database.",
            args: "index:int",
            ..CommandSpec::EMPTY
        },
        select as ServerFn,
    ),
    Command::new(
        CommandSpec {
            name: "auth",
            arity: -2,
            flags: flags([
                Flags::NOSCRIPT,
                Flags::LOADING,
                Flags::STALE,
                Flags::FAST,
                Flags::NO_AUTH,
                Flags::ALLOW_BUSY,
            ]),
            categories: Acl::CONNECTION,
            group: Group::Connection,
            since: "1.0.0",
            complexity: "O(N) where N is the number of passwords defined for the user",
            summary: "Authenticates the connection.",
            args: "[username@6.0.0] password",
            history: &[("6.0.0", "Added ACL style (username and password).")],
            ..CommandSpec::EMPTY
        },
        auth as ServerFn,
    ),
    Command::new(
        CommandSpec {
            name: "hello",
            arity: -1,
            flags: flags([
                Flags::NOSCRIPT,
                Flags::LOADING,
                Flags::STALE,
                Flags::FAST,
                Flags::NO_AUTH,
                Flags::ALLOW_BUSY,
            ]),
            categories: Acl::CONNECTION,
            group: Group::Connection,
            since: "6.0.0",
            complexity: "O(1)",
            summary: "Handshakes with the server.",
            args: "[{protover:int [AUTH={username password}<auth>] [SETNAME=clientname]}<arguments>]",
            history: &[
                (
                    "8.1.0",
                    "A new `availability_zone` field is added to the response if the `availability-zone` config is set.",
                ),
                (
                    "6.2.0",
                    "`protover` made optional; when called without arguments the command reports the current connection's context.",
                ),
            ],
            ..CommandSpec::EMPTY
        },
        hello as ServerFn,
    ),
    Command::new(
        CommandSpec {
            name: "quit",
            arity: -1,
            flags: flags([
                Flags::ALLOW_BUSY,
                Flags::NOSCRIPT,
                Flags::LOADING,
                Flags::STALE,
                Flags::FAST,
                Flags::NO_AUTH,
            ]),
            categories: Acl::CONNECTION,
            group: Group::Connection,
            since: "1.0.0",
            complexity: "O(1)",
            summary: "Closes the connection.",
            ..CommandSpec::EMPTY
        },
        quit as ServerFn,
    ),
    Command::new(
        CommandSpec {
            name: "reset",
            arity: 1,
            flags: flags([
                Flags::NOSCRIPT,
                Flags::LOADING,
                Flags::STALE,
                Flags::FAST,
                Flags::NO_AUTH,
                Flags::ALLOW_BUSY,
            ]),
            categories: Acl::CONNECTION,
            group: Group::Connection,
            since: "6.2.0",
            complexity: "O(1)",
            summary: "Resets the connection.",
            ..CommandSpec::EMPTY
        },
        reset as ServerFn,
    ),
    Command::new(
        CommandSpec {
            name: "asking",
            arity: 1,
            flags: Flags::FAST,
            categories: Acl::CONNECTION,
            group: Group::Cluster,
            since: "3.0.0",
            complexity: "O(1)",
            summary: "Signals that a cluster client is following an -ASK redirect.",
            ..CommandSpec::EMPTY
        },
        asking as ServerFn,
    ),
    Command::new(
        CommandSpec {
            name: "readonly",
            arity: 1,
            flags: flags([Flags::FAST, Flags::LOADING, Flags::STALE]),
            categories: Acl::CONNECTION,
            group: Group::Cluster,
            since: "3.0.0",
            complexity: "O(1)",
            summary: "Enables read-only queries for a connection to a Valkey replica node.",
            ..CommandSpec::EMPTY
        },
        readonly as ServerFn,
    ),
    Command::new(
        CommandSpec {
            name: "readwrite",
            arity: 1,
            flags: flags([Flags::FAST, Flags::LOADING, Flags::STALE]),
            categories: Acl::CONNECTION,
            group: Group::Cluster,
            since: "3.0.0",
            complexity: "O(1)",
            summary: "Enables read-write queries for a connection to a Valkey replica node.",
            ..CommandSpec::EMPTY
        },
        readwrite as ServerFn,
    ),
];
