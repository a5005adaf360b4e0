//! `SYNC`, `PSYNC`, `REPLCONF`, `REPLICAOF`: what followers say to a node under `durability async`.

use super::ServerCommand;
use super::rows::*;
use crate::executor::{ConnId, Executor};
use crate::followers::Follower;
use crate::seam::Office;
use holdfast_resp::{parse_i64, write};

/// Longest `REPLCONF ip-address`.
const ADDRESS_BYTES_MAX: usize = 255;

/// Where a follower can be reached.
pub(super) fn address(ex: &Executor, id: ConnId, f: &Follower) -> String {
    f.address.clone().unwrap_or_else(|| {
        ex.conns
            .get(id)
            .and_then(|c| c.info.peer)
            .map_or_else(|| "?".into(), |peer| peer.ip().to_string())
    })
}

fn sync(ex: &mut Executor, id: ConnId, argv: &[&[u8]]) {
    if ex.is_follower(id) {
        return;
    }
    if ex.office != Office::Standalone || ex.settings.quorum {
        return ex.reply_error(
            id,
            "NOMASTERLINK The replicas of a shard under durability quorum read its log",
        );
    }
    if !ex.conns[id].out.is_empty() {
        return ex.reply_error(id, "ERR SYNC and PSYNC are invalid with pending output");
    }
    let f = ex.followers.handshake(id);
    if f.without_keys && !f.takes_eof_mark {
        return ex.reply_error(id, "ERR Filtered replica requires EOF capability");
    }
    let asked = match argv {
        [_, name, offset, ..] => match parse_i64(offset) {
            Some(offset) => Some((*name, offset)),
            None => return ex.reply_error(id, "ERR value is not an integer or out of range"),
        },
        _ => None,
    };
    tracing::info!(
        "Replica {:?} asks for synchronization",
        ex.conns[id].info.peer
    );
    ex.follow(id, asked);
}

/// `9.1.2` as one number that can be compared.
fn version(text: &[u8]) -> Option<u32> {
    let text = std::str::from_utf8(text).ok()?;
    let mut parts = text.split('.').map(|p| p.parse::<u8>().ok());
    let mut next = || parts.next().flatten().map(u32::from);
    let n = next()? << 16 | next()? << 8 | next()?;
    parts.next().is_none().then_some(n)
}

fn replconf(ex: &mut Executor, id: ConnId, argv: &[&[u8]]) {
    if argv.len().is_multiple_of(2) {
        return ex.reply_error(id, "ERR syntax error");
    }
    let (pairs, _) = argv[1..].as_chunks::<2>();
    let not_a_number = "ERR value is not an integer or out of range";
    for [option, value] in pairs {
        let number = parse_i64(value);
        let f = ex.followers.handshake(id);
        match option.to_ascii_lowercase().as_slice() {
            b"listening-port" => match number.and_then(|n| u16::try_from(n).ok()) {
                Some(port) => f.port = port,
                None => return ex.reply_error(id, not_a_number),
            },
            b"ip-address" if value.len() < ADDRESS_BYTES_MAX => {
                f.address = Some(String::from_utf8_lossy(value).into_owned());
            }
            b"ip-address" => {
                let text = format!(
                    "ERR REPLCONF ip-address provided by replica instance is too long: {} bytes",
                    value.len()
                );
                return ex.reply_error(id, &text);
            }
            b"capa" => match value.to_ascii_lowercase().as_slice() {
                b"eof" => f.takes_eof_mark = true,
                b"psync2" => f.takes_new_id = true,
                _ => {}
            },
            b"ack" => {
                // Never answered.
                if let Some(offset) = number.and_then(|n| u64::try_from(n).ok()) {
                    ex.on_follower_ack(id, offset);
                }
                return;
            }
            b"getack" => return,
            b"rdb-only" => match number {
                Some(n @ (0 | 1)) => f.rdb_only = n == 1,
                _ => {
                    return ex
                        .reply_error(id, "ERR value is out of range, value must between 0 and 1");
                }
            },
            b"rdb-filter-only" => {
                let words = value.split(|b| *b == b' ').filter(|w| !w.is_empty());
                let other = words
                    .into_iter()
                    .find(|w| !w.eq_ignore_ascii_case(b"functions"));
                if let Some(other) = other {
                    let text = format!(
                        "ERR Unsupported rdb-filter-only option: {}",
                        String::from_utf8_lossy(other)
                    );
                    return ex.reply_error(id, &text);
                }
                f.without_keys = true;
            }
            b"version" => match version(value) {
                Some(v) => f.version = v,
                None => {
                    let text = format!(
                        "ERR Unrecognized version format: {}",
                        String::from_utf8_lossy(value)
                    );
                    return ex.reply_error(id, &text);
                }
            },
            b"rdb-channel" | b"set-cluster-node-id" => {}
            _ => {
                let text = format!(
                    "ERR Unrecognized REPLCONF option: {}",
                    String::from_utf8_lossy(option)
                );
                return ex.reply_error(id, &text);
            }
        }
    }
    write::ok(ex.out(id));
}

fn replicaof(ex: &mut Executor, id: ConnId, argv: &[&[u8]]) {
    if ex.settings.cluster_enabled {
        return ex.reply_error(id, "ERR REPLICAOF not allowed in cluster mode.");
    }
    if argv[1].eq_ignore_ascii_case(b"no") && argv[2].eq_ignore_ascii_case(b"one") {
        // It is a primary already.
        return write::ok(ex.out(id));
    }
    ex.reply_error(
        id,
        "ERR Replicas under durability async are not supported by this version",
    );
}

/// The rows of this file.
pub(super) const COMMANDS: &[ServerCommand] = &[
    Command::new(
        CommandSpec {
            name: "sync",
            arity: 1,
            flags: flags([
                Flags::NO_ASYNC_LOADING,
                Flags::ADMIN,
                Flags::NO_MULTI,
                Flags::NOSCRIPT,
            ]),
            group: Group::Server,
            since: "1.0.0",
            summary: "An internal command used in replication.",
            ..CommandSpec::EMPTY
        },
        sync as ServerFn,
    ),
    Command::new(
        CommandSpec {
            name: "psync",
            arity: -3,
            flags: flags([
                Flags::NO_ASYNC_LOADING,
                Flags::ADMIN,
                Flags::NO_MULTI,
                Flags::NOSCRIPT,
            ]),
            group: Group::Server,
            since: "2.8.0",
            summary: "An internal command used in replication.",
            args: "replicationid offset:int",
            ..CommandSpec::EMPTY
        },
        sync as ServerFn,
    ),
    Command::new(
        CommandSpec {
            name: "replconf",
            arity: -1,
            flags: flags([
                Flags::ADMIN,
                Flags::NOSCRIPT,
                Flags::LOADING,
                Flags::STALE,
                Flags::ALLOW_BUSY,
            ]),
            group: Group::Server,
            since: "3.0.0",
            complexity: "O(1)",
            summary: "An internal command for configuring the replication stream.",
            syscmd: true,
            ..CommandSpec::EMPTY
        },
        replconf as ServerFn,
    ),
    Command::new(
        CommandSpec {
            name: "replicaof",
            arity: 3,
            flags: flags([
                Flags::NO_ASYNC_LOADING,
                Flags::ADMIN,
                Flags::NOSCRIPT,
                Flags::STALE,
            ]),
            group: Group::Server,
            since: "5.0.0",
            complexity: "O(1)",
            summary: "Configures a server as replica of another, or promotes it to a primary.",
            args: "({host port:int}<host-port> | {NO ONE}<no-one>)<args>",
            ..CommandSpec::EMPTY
        },
        replicaof as ServerFn,
    ),
    Command::new(
        CommandSpec {
            name: "slaveof",
            arity: 3,
            flags: flags([
                Flags::NO_ASYNC_LOADING,
                Flags::ADMIN,
                Flags::NOSCRIPT,
                Flags::STALE,
            ]),
            group: Group::Server,
            since: "1.0.0",
            complexity: "O(1)",
            summary: "Sets a server as a replica of another, or promotes it to being a primary.",
            deprecated: Some(("5.0.0", "`REPLICAOF`")),
            args: "({host port:int}<host-port> | {NO ONE}<no-one>)<args>",
            ..CommandSpec::EMPTY
        },
        replicaof as ServerFn,
    ),
];
