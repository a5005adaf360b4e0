//! `CLIENT TRACKING` and what belongs to it.

use super::ServerCommand;
use super::rows::*;
use crate::executor::{ClientTracking, ConnId, Executor};
use holdfast_resp::{parse_i64, write};
use std::collections::BTreeSet;

const NOT_INTEGER: &str = "ERR value is not an integer or out of range";

/// The connection with this `CLIENT ID`.
fn connection_of(ex: &Executor, client: i64) -> Option<ConnId> {
    let mut all = ex.conns.iter();
    all.find(|c| c.id as i64 == client).map(|c| c.conn)
}

/// What the options after `ON` and `OFF` say, and the prefixes in their order.
fn parse<'a>(
    ex: &Executor,
    options: &[&'a [u8]],
) -> Result<(ClientTracking, Vec<&'a [u8]>), &'static str> {
    let mut wanted = ClientTracking::default();
    let mut bcast = false;
    let mut prefixes = Vec::new();
    let mut options = options.iter();
    while let Some(option) = options.next() {
        match option.to_ascii_lowercase().as_slice() {
            b"redirect" if !options.as_slice().is_empty() => {
                if wanted.redirect.is_some() {
                    return Err("ERR A client can only redirect to a single other client");
                }
                let client = options
                    .next()
                    .and_then(|n| parse_i64(n))
                    .ok_or(NOT_INTEGER)?;
                let other = connection_of(ex, client)
                    .ok_or("ERR The client ID you want redirect to does not exist")?;
                wanted.redirect = Some((client as u64, other));
            }
            b"prefix" if !options.as_slice().is_empty() => prefixes.extend(options.next()),
            b"bcast" => bcast = true,
            b"optin" => wanted.optin = true,
            b"optout" => wanted.optout = true,
            b"noloop" => wanted.noloop = true,
            _ => return Err("ERR syntax error"),
        }
    }
    wanted.prefixes = bcast.then(BTreeSet::new);
    Ok((wanted, prefixes))
}

/// Whether one of them begins with the other: a key could be told twice.
fn overlap(a: &[u8], b: &[u8]) -> bool {
    a.iter().zip(b).all(|(x, y)| x == y)
}

/// Fits the wishes to each other and to what the client tracks already.
fn check(
    before: Option<&ClientTracking>,
    wanted: &ClientTracking,
    prefixes: &[&[u8]],
) -> Result<(), String> {
    if !wanted.is_bcast() && !prefixes.is_empty() {
        return Err("ERR PREFIX option requires BCAST mode to be enabled".into());
    }
    if before.is_some_and(|b| b.is_bcast() != wanted.is_bcast()) {
        return Err("ERR You can't switch BCAST mode on/off before disabling tracking for this client, and then re-enabling it with a different mode.".into());
    }
    if wanted.is_bcast() && (wanted.optin || wanted.optout) {
        return Err("ERR OPTIN and OPTOUT are not compatible with BCAST".into());
    }
    if wanted.optin && wanted.optout {
        return Err("ERR You can't specify both OPTIN mode and OPTOUT mode".into());
    }
    if before.is_some_and(|b| wanted.optin && b.optout || wanted.optout && b.optin) {
        return Err("ERR You can't switch OPTIN/OPTOUT mode before disabling tracking for this client, and then re-enabling it with a different mode.".into());
    }
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    for (i, prefix) in prefixes.iter().enumerate() {
        let mut existing = before
            .and_then(|b| b.prefixes.as_ref())
            .into_iter()
            .flatten();
        if let Some(other) = existing.find(|p| overlap(p, prefix)) {
            return Err(format!(
                "ERR Prefix '{}' overlaps with an existing prefix '{}'. Prefixes for a single client must not overlap.",
                text(prefix),
                text(other)
            ));
        }
        if let Some(other) = prefixes[i + 1..].iter().find(|p| overlap(p, prefix)) {
            return Err(format!(
                "ERR Prefix '{}' overlaps with another provided prefix '{}'. Prefixes for a single client must not overlap.",
                text(prefix),
                text(other)
            ));
        }
    }
    Ok(())
}

fn client_tracking(ex: &mut Executor, id: ConnId, argv: &[&[u8]]) {
    let (mut wanted, prefixes) = match parse(ex, &argv[3..]) {
        Ok(parsed) => parsed,
        Err(text) => return ex.reply_error(id, text),
    };
    if argv[2].eq_ignore_ascii_case(b"on") {
        if let Err(text) = check(ex.conns[id].tracking.as_deref(), &wanted, &prefixes) {
            return ex.reply_error(id, &text);
        }
        if let Some(set) = &mut wanted.prefixes {
            match prefixes.as_slice() {
                // All keys.
                [] => drop(set.insert(Box::default())),
                some => set.extend(some.iter().map(|p| Box::from(*p))),
            }
        }
        ex.start_tracking(id, wanted);
    } else if argv[2].eq_ignore_ascii_case(b"off") {
        ex.stop_tracking(id);
    } else {
        return ex.reply_error(id, "ERR syntax error");
    }
    write::ok(ex.out(id));
}

fn client_caching(ex: &mut Executor, id: ConnId, argv: &[&[u8]]) {
    let Some(tracking) = &mut ex.conns[id].tracking else {
        return ex.reply_error(
            id,
            "ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT mode enabled",
        );
    };
    let error = match argv[2].to_ascii_lowercase().as_slice() {
        b"yes" if tracking.optin => None,
        b"yes" => {
            Some("ERR CLIENT CACHING YES is only valid when tracking is enabled in OPTIN mode.")
        }
        b"no" if tracking.optout => None,
        b"no" => {
            Some("ERR CLIENT CACHING NO is only valid when tracking is enabled in OPTOUT mode.")
        }
        _ => Some("ERR syntax error"),
    };
    if let Some(text) = error {
        return ex.reply_error(id, text);
    }
    tracking.caching = true;
    write::ok(ex.out(id));
}

/// The client that gets the messages, 0 for this one itself, -1 where it does not track.
pub(super) fn redirection(tracking: Option<&ClientTracking>) -> i64 {
    tracking.map_or(-1, |t| t.redirect.map_or(0, |(client, _)| client as i64))
}

fn client_getredir(ex: &mut Executor, id: ConnId, _: &[&[u8]]) {
    let c = &mut ex.conns[id];
    write::int(&mut c.out.buf, redirection(c.tracking.as_deref()));
}

fn client_trackinginfo(ex: &mut Executor, id: ConnId, _: &[&[u8]]) {
    let c = &mut ex.conns[id];
    let (out, tracking) = (&mut c.out.buf, c.tracking.as_deref());
    let words: Vec<&str> = match tracking {
        None => vec!["off"],
        Some(t) => [
            (true, "on"),
            (t.is_bcast(), "bcast"),
            (t.optin, "optin"),
            (t.optin && t.caching, "caching-yes"),
            (t.optout, "optout"),
            (t.optout && t.caching, "caching-no"),
            (t.noloop, "noloop"),
            (t.broken, "broken_redirect"),
        ]
        .into_iter()
        .filter_map(|(is_so, word)| is_so.then_some(word))
        .collect(),
    };
    write::map(out, c.proto, 3);
    write::bulk(out, b"flags");
    write::set(out, c.proto, words.len());
    for word in words {
        write::bulk(out, word.as_bytes());
    }
    write::bulk(out, b"redirect");
    write::int(out, redirection(tracking));
    write::bulk(out, b"prefixes");
    let prefixes = tracking.and_then(|t| t.prefixes.as_ref());
    write::array(out, prefixes.map_or(0, BTreeSet::len));
    for prefix in prefixes.into_iter().flatten() {
        write::bulk(out, prefix);
    }
}

const ANYTIME: Flags = flags([
    Flags::ALLOW_BUSY,
    Flags::NOSCRIPT,
    Flags::LOADING,
    Flags::STALE,
]);

/// A subcommand of `CLIENT` in this file.
const fn row(name: &'static str, arity: i16, flags: Flags, since: &'static str) -> CommandSpec {
    CommandSpec {
        name,
        arity,
        flags,
        categories: Acl::CONNECTION,
        group: Group::Connection,
        since,
        complexity: "O(1)",
        ..CommandSpec::EMPTY
    }
}

pub(super) const TRACKING: ServerCommand = Command::new(
    CommandSpec {
        complexity: "O(1). Some options may introduce additional complexity.",
        summary: "Controls server-assisted client-side caching for the connection.",
        args: "(ON | OFF)<status> [REDIRECT=client-id:int] [PREFIX=prefix...+] [BCAST] [OPTIN] [OPTOUT] [NOLOOP]",
        ..row(
            "tracking",
            -3,
            flags([Flags::NOSCRIPT, Flags::LOADING, Flags::STALE]),
            "6.0.0",
        )
    },
    client_tracking as ServerFn,
);

pub(super) const CACHING: ServerCommand = Command::new(
    CommandSpec {
        summary: "Instructs the server whether to track the keys in the next request.",
        args: "(YES | NO)<mode>",
        ..row("caching", 3, ANYTIME, "6.0.0")
    },
    client_caching as ServerFn,
);

pub(super) const TRACKINGINFO: ServerCommand = Command::new(
    CommandSpec {
        summary: "Returns information about server-assisted client-side caching for the connection.",
        ..row(
            "trackinginfo",
            2,
            flags([Flags::NOSCRIPT, Flags::LOADING, Flags::STALE]),
            "6.2.0",
        )
    },
    client_trackinginfo as ServerFn,
);

pub(super) const GETREDIR: ServerCommand = Command::new(
    CommandSpec {
        summary: "Returns the client ID to which the connection's tracking notifications are redirected.",
        ..row("getredir", 2, ANYTIME, "6.0.0")
    },
    client_getredir as ServerFn,
);
