//! `CLIENT`.

use super::ServerCommand;
use super::client_filter::Filter;
use super::client_tracking::{self, redirection};
use super::connection::{NAME_ERROR, valid_name};
use super::rows::*;
use crate::executor::{
    Close, ConnId, Connection, DurabilityChoice, Executor, FIRST_CHUNK_BYTES, ReplyMode, State,
};
use holdfast_resp::{Proto, parse_i64, write};
use std::fmt::Write;
use std::net::SocketAddr;

fn client_id(ex: &mut Executor, id: ConnId, _: &[&[u8]]) {
    let n = ex.conns[id].id;
    write::int(ex.out(id), n as i64);
}

fn client_getname(ex: &mut Executor, id: ConnId, _: &[&[u8]]) {
    let c = &mut ex.conns[id];
    if c.name.is_empty() {
        write::null(&mut c.out.buf, c.proto);
    } else {
        write::bulk(&mut c.out.buf, &c.name);
    }
}

fn client_setname(ex: &mut Executor, id: ConnId, argv: &[&[u8]]) {
    if !valid_name(argv[2]) {
        return ex.reply_error(id, NAME_ERROR);
    }
    ex.conns[id].name = argv[2].into();
    write::ok(ex.out(id));
}

fn client_setinfo(ex: &mut Executor, id: ConnId, argv: &[&[u8]]) {
    let option = match argv[2].to_ascii_lowercase().as_slice() {
        b"lib-name" => "lib-name",
        b"lib-ver" => "lib-ver",
        _ => {
            let option = String::from_utf8_lossy(argv[2]).into_owned();
            return ex.reply_error(id, &format!("ERR Unrecognized option '{option}'"));
        }
    };
    if !valid_name(argv[3]) {
        let option = String::from_utf8_lossy(argv[2]).into_owned();
        return ex.reply_error(
            id,
            &format!("ERR {option} cannot contain spaces, newlines or special characters."),
        );
    }
    ex.conns[id].lib.insert(option, argv[3].into());
    write::ok(ex.out(id));
}

pub(super) fn kind_of(c: &Connection) -> &'static str {
    if c.follows {
        "replica"
    } else if c.is_subscriber() {
        "pubsub"
    } else {
        "normal"
    }
}

/// The letters of a client's state.
pub(super) fn flags_of(c: &Connection) -> String {
    let mut flags = String::new();
    if c.follows {
        flags.push('S');
    }
    if c.monitor {
        flags.push('O');
    }
    if c.is_subscriber() {
        flags.push('P');
    }
    if c.multi.is_some() {
        flags.push('x');
    }
    if matches!(
        c.state,
        State::Blocked(_) | State::Deferred(_) | State::Parked(_)
    ) {
        flags.push('b');
    }
    if let Some(tracking) = &c.tracking {
        flags.push('t');
        if tracking.broken {
            flags.push('R');
        }
        if tracking.is_bcast() {
            flags.push('B');
        }
    }
    if c.watch_broken {
        flags.push('d');
    }
    match c.close {
        Close::Open => {}
        Close::AfterReplies => flags.push('c'),
        Close::Now => flags.push('A'),
    }
    if c.readonly {
        flags.push('r');
    }
    if c.no_evict {
        flags.push('e');
    }
    if c.no_touch {
        flags.push('T');
    }
    if c.import_source {
        flags.push('I');
    }
    if c.info.unix_path.is_some() {
        flags.push('U');
    }
    if flags.is_empty() {
        flags.push('N');
    }
    flags
}

/// One of a connection's two addresses, as `CLIENT LIST` shows it.
pub(super) fn address_of(c: &Connection, address: Option<SocketAddr>) -> String {
    match (address, &c.info.unix_path) {
        (Some(a), _) => a.to_string(),
        (None, Some(path)) => format!("{path}:0"),
        (None, None) => "?:0".into(),
    }
}

/// One line of `CLIENT LIST`.
fn describe(ex: &Executor, c: &Connection, me: ConnId, argv: &[&[u8]]) -> String {
    let argv_bytes = match c.conn == me {
        true => argv.iter().map(|arg| arg.len()).sum(),
        false => c.argv_bytes(),
    };
    // What Valkey keeps in a buffer and what it keeps in a list lie together here.
    let (first, listed) = match c.conn == me {
        true => (0, 0),
        false => {
            let listed = c.out.listed_bytes();
            (c.out.pending_bytes().min(FIRST_CHUNK_BYTES), listed)
        }
    };
    // The sum has whole blocks, too.
    let total = c.memory() + (first + listed).saturating_sub(c.out.pending_bytes());
    let events = if first == 0 { "r" } else { "rw" };
    let flags = flags_of(c);
    let (subs, psubs, ssubs) = c.subs.as_ref().map_or((0, 0, 0), |s| {
        (s.channels.len(), s.patterns.len(), s.shard_channels.len())
    });
    let address = |a| address_of(c, a);
    let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
    let lib = |k: &str| c.lib.get(k).map(|v| text(v)).unwrap_or_default();
    let cmd = match c.last_command {
        u16::MAX => "NULL".to_string(),
        n => ex.table.entry(n).full_name.clone(),
    };
    let multi_mem = c.multi.as_ref().map_or(0, |m| m.bytes);
    let mut s = String::with_capacity(400);
    // Writing to a string does not fail.
    let _ = write!(
        s,
        "id={} addr={} laddr={} fd={} name={} age={} idle={} flags={flags} capa={} db={} sub={subs} psub={psubs} ssub={ssubs} multi={} watch={} qbuf={} qbuf-free={} argv-mem={argv_bytes} multi-mem={multi_mem} rbs={} rbp={} obl={first} oll={} omem={listed} tot-mem={} events={events} cmd={cmd} user=default redir={} resp={} lib-name={} lib-ver={} tot-net-in={} tot-net-out={} tot-cmds={}",
        c.id,
        address(c.info.peer),
        address(c.info.local),
        c.info.fd,
        text(&c.name),
        ex.now.unix_ms().saturating_sub(c.created_ms) / 1000,
        ex.now.mono_ms().saturating_sub(c.last_seen_ms) / 1000,
        if c.capa_redirect { "r" } else { "" },
        c.db,
        match &c.multi {
            Some(m) => m.queue.len() as i64,
            None if c.had_multi => 0,
            None => -1,
        },
        c.watched.len(),
        c.query_len(),
        c.query_free(),
        c.out.largest_room().min(FIRST_CHUNK_BYTES),
        c.out.peak().min(FIRST_CHUNK_BYTES),
        listed.div_ceil(FIRST_CHUNK_BYTES),
        total,
        redirection(c.tracking.as_deref()),
        if c.proto == Proto::Resp3 { 3 } else { 2 },
        lib("lib-name"),
        lib("lib-ver"),
        c.bytes_in,
        c.bytes_out,
        c.commands,
    );
    s
}

fn client_info(ex: &mut Executor, id: ConnId, argv: &[&[u8]]) {
    let mut line = describe(ex, &ex.conns[id], id, argv);
    line.push('\n');
    let c = &mut ex.conns[id];
    write::verbatim(&mut c.out.buf, c.proto, b"txt", line.as_bytes());
}

fn client_list(ex: &mut Executor, id: ConnId, argv: &[&[u8]]) {
    if argv.len() == 3 {
        return ex.reply_error(id, "ERR syntax error");
    }
    let filter = match Filter::parse(ex, &argv[2..]) {
        Ok(f) => f,
        Err(text) => return ex.reply_error(id, &text),
    };
    let mut lines: Vec<(u64, String)> = ex
        .conns
        .iter()
        // Who has been killed is gone, though his socket may still be open.
        .filter(|c| filter.selects(ex, c) && c.close != Close::Now)
        .filter(|c| !(filter.skip_me == Some(true) && c.conn == id))
        .map(|c| (c.id, describe(ex, c, id, argv)))
        .collect();
    lines.sort();
    let text: String = lines.into_iter().map(|(_, l)| l + "\n").collect();
    let c = &mut ex.conns[id];
    write::verbatim(&mut c.out.buf, c.proto, b"txt", text.as_bytes());
}

fn kill_all(ex: &mut Executor, id: ConnId, filter: &Filter, skip_me: bool) -> i64 {
    let doomed: Vec<ConnId> = ex
        .conns
        .iter()
        .filter(|c| filter.selects(ex, c) && !(skip_me && c.conn == id) && c.close != Close::Now)
        .map(|c| c.conn)
        .collect();
    for other in &doomed {
        // The client that kills itself still gets its answer.
        ex.close_client(
            *other,
            if *other == id {
                Close::AfterReplies
            } else {
                Close::Now
            },
        );
    }
    doomed.len() as i64
}

fn client_kill(ex: &mut Executor, id: ConnId, argv: &[&[u8]]) {
    if let [_, _, addr] = argv {
        let filter = Filter::of_address(addr);
        if kill_all(ex, id, &filter, false) == 0 {
            return ex.reply_error(id, "ERR No such client");
        }
        return write::ok(ex.out(id));
    }
    match Filter::parse(ex, &argv[2..]) {
        Ok(filter) => {
            let n = kill_all(ex, id, &filter, filter.skip_me.unwrap_or(true));
            write::int(ex.out(id), n);
        }
        Err(text) => ex.reply_error(id, &text),
    }
}

/// `on` or `off`.
fn switch(ex: &mut Executor, id: ConnId, word: &[u8]) -> Option<bool> {
    match word.to_ascii_lowercase().as_slice() {
        b"on" => Some(true),
        b"off" => Some(false),
        _ => {
            ex.reply_error(id, "ERR syntax error");
            None
        }
    }
}

fn client_no_evict(ex: &mut Executor, id: ConnId, argv: &[&[u8]]) {
    if let Some(on) = switch(ex, id, argv[2]) {
        ex.conns[id].no_evict = on;
        write::ok(ex.out(id));
    }
}

fn client_no_touch(ex: &mut Executor, id: ConnId, argv: &[&[u8]]) {
    if let Some(on) = switch(ex, id, argv[2]) {
        ex.conns[id].no_touch = on;
        write::ok(ex.out(id));
    }
}

fn client_import_source(ex: &mut Executor, id: ConnId, argv: &[&[u8]]) {
    if !ex.settings.import_mode && !argv[2].eq_ignore_ascii_case(b"off") {
        return ex.reply_error(id, "ERR Server is not in import mode");
    }
    if let Some(on) = switch(ex, id, argv[2]) {
        ex.conns[id].import_source = on;
        write::ok(ex.out(id));
    }
}

fn client_reply(ex: &mut Executor, id: ConnId, argv: &[&[u8]]) {
    match argv[2].to_ascii_lowercase().as_slice() {
        b"on" => {
            ex.conns[id].reply = ReplyMode::On;
            write::ok(ex.out(id));
        }
        b"off" => ex.conns[id].reply = ReplyMode::Off,
        b"skip" => {
            let c = &mut ex.conns[id];
            if c.reply != ReplyMode::Off {
                c.reply = ReplyMode::SkipNext;
            }
        }
        _ => ex.reply_error(id, "ERR syntax error"),
    }
}

fn client_durability(ex: &mut Executor, id: ConnId, argv: &[&[u8]]) {
    let choice = match argv[2].to_ascii_lowercase().as_slice() {
        b"async" => DurabilityChoice::Async,
        b"quorum" if ex.settings.quorum => DurabilityChoice::Quorum,
        b"quorum" => {
            return ex.reply_error(
                id,
                "ERR this server runs with 'durability async': there is no quorum to wait for",
            );
        }
        _ => return ex.reply_error(id, "ERR syntax error"),
    };
    ex.conns[id].durability = choice;
    write::ok(ex.out(id));
}

fn client_unblock(ex: &mut Executor, id: ConnId, argv: &[&[u8]]) {
    let error = match argv.get(3).map(|w| w.to_ascii_lowercase()) {
        None => false,
        Some(w) if w == b"timeout" => false,
        Some(w) if w == b"error" => true,
        Some(_) => {
            return ex.reply_error(id, "ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR");
        }
    };
    let Some(n) = parse_i64(argv[2]) else {
        return ex.reply_error(id, "ERR value is not an integer or out of range");
    };
    let target = ex.conns.iter().find(|c| c.id as i64 == n).map(|c| c.conn);
    let done = target.is_some_and(|t| {
        if error {
            ex.unblock_with(t, b"-UNBLOCKED client unblocked via CLIENT UNBLOCK\r\n")
        } else {
            ex.unblock_as_timeout(t)
        }
    });
    write::int(ex.out(id), i64::from(done));
}

fn client_pause(ex: &mut Executor, id: ConnId, argv: &[&[u8]]) {
    let all = match argv.get(3).map(|w| w.to_ascii_lowercase()) {
        None => true,
        Some(w) if w == b"all" => true,
        Some(w) if w == b"write" => false,
        Some(_) => return ex.reply_error(id, "ERR CLIENT PAUSE mode must be WRITE or ALL"),
    };
    let Some(ms) = parse_i64(argv[2]) else {
        return ex.reply_error(id, "ERR timeout is not an integer or out of range");
    };
    let Ok(ms) = u64::try_from(ms) else {
        return ex.reply_error(id, "ERR timeout is negative");
    };
    if ms > i64::MAX as u64 - ex.now.unix_ms() {
        return ex.reply_error(id, "ERR timeout is out of range");
    }
    ex.begin_pause(ex.now.mono_ms().saturating_add(ms), all);
    write::ok(ex.out(id));
}

fn client_unpause(ex: &mut Executor, id: ConnId, _: &[&[u8]]) {
    ex.end_pause();
    write::ok(ex.out(id));
}

fn client_capa(ex: &mut Executor, id: ConnId, argv: &[&[u8]]) {
    // Capabilities that we do not know are to be ignored.
    ex.conns[id].capa_redirect |= argv[2..]
        .iter()
        .any(|w| w.eq_ignore_ascii_case(b"redirect"));
    write::ok(ex.out(id));
}

fn client_help(ex: &mut Executor, id: ConnId, _: &[&[u8]]) {
    super::reply_help(
        ex.out(id),
        "CLIENT",
        &[
            "CACHING (YES|NO)",
            "    Enable/disable tracking of the keys for next command in OPTIN/OPTOUT modes.",
            "CAPA <option> [options...]",
            "    The client says what it can do. REDIRECT: it follows redirections without a cluster, too.",
            "DURABILITY (ASYNC|QUORUM)",
            "    Choose whether this connection's replies wait for the quorum.",
            "GETREDIR",
            "    Return the client ID we are redirecting to when tracking is enabled.",
            "GETNAME",
            "    Return the name of the current connection.",
            "ID",
            "    Return the ID of the current connection.",
            "INFO",
            "    Return information about the current client connection.",
            "KILL <ip:port>",
            "    Kill connection made from <ip:port>.",
            "KILL <option> <value> [<option> <value> [...]]",
            "    Kill connections. Options are: ADDR, LADDR, TYPE, USER, NAME, LIB-NAME, LIB-VER, DB, IP,",
            "    FLAGS, CAPA, IDLE, SKIPME, ID, MAXAGE; most of them with NOT- in front mean the others.",
            "LIST [options ...]",
            "    Return information about client connections. Options are those of KILL.",
            "UNPAUSE",
            "    Stop the current client pause, resuming traffic.",
            "PAUSE <timeout> [WRITE|ALL]",
            "    Suspend all, or just write, clients for <timeout> milliseconds.",
            "REPLY (ON|OFF|SKIP)",
            "    Control the replies sent to the current connection.",
            "SETNAME <name>",
            "    Assign the name <name> to the current connection.",
            "SETINFO <option> <value>",
            "    Set client meta attr. Options are: LIB-NAME, LIB-VER.",
            "UNBLOCK <clientid> [TIMEOUT|ERROR]",
            "    Unblock the specified blocked client.",
            "TRACKING (ON|OFF) [REDIRECT <id>] [BCAST] [PREFIX <prefix> [...]]",
            "         [OPTIN] [OPTOUT] [NOLOOP]",
            "    Control server assisted client side caching.",
            "TRACKINGINFO",
            "    Report tracking status for the current connection.",
            "NO-EVICT (ON|OFF)",
            "    Protect current client connection from eviction.",
            "NO-TOUCH (ON|OFF)",
            "    Will not touch LRU/LFU stats when this mode is on.",
            "IMPORT-SOURCE (ON|OFF)",
            "    With import-mode: say that this connection brings in another server's data, and sees expired keys.",
        ],
    );
}

/// The rows of this file.
pub(super) const COMMANDS: &[ServerCommand] = &[
    Command::new(
        CommandSpec {
            name: "client",
            arity: -2,
            group: Group::Connection,
            since: "2.4.0",
            complexity: "Depends on subcommand.",
            summary: "A container for client connection commands.",
            ..CommandSpec::EMPTY
        },
        CONTAINER as ServerFn,
    )
    .with_subcommands(&[
        Command::new(
            CommandSpec {
                name: "id",
                arity: 2,
                flags: flags([Flags::ALLOW_BUSY, Flags::NOSCRIPT, Flags::LOADING, Flags::STALE]),
                categories: Acl::CONNECTION,
                group: Group::Connection,
                since: "5.0.0",
                complexity: "O(1)",
                summary: "Returns the unique client ID of the connection.",
                ..CommandSpec::EMPTY
            },
            client_id as ServerFn,
        ),
        Command::new(
            CommandSpec {
                name: "getname",
                arity: 2,
                flags: flags([Flags::ALLOW_BUSY, Flags::NOSCRIPT, Flags::LOADING, Flags::STALE]),
                categories: Acl::CONNECTION,
                group: Group::Connection,
                since: "2.6.9",
                complexity: "O(1)",
                summary: "Returns the name of the connection.",
                ..CommandSpec::EMPTY
            },
            client_getname as ServerFn,
        ),
        Command::new(
            CommandSpec {
                name: "setname",
                arity: 3,
                flags: flags([Flags::ALLOW_BUSY, Flags::NOSCRIPT, Flags::LOADING, Flags::STALE]),
                categories: Acl::CONNECTION,
                group: Group::Connection,
                since: "2.6.9",
                complexity: "O(1)",
                summary: "Sets the connection name.",
                tips: &["request_policy:all_nodes", "response_policy:all_succeeded"],
                args: "connection-name",
                ..CommandSpec::EMPTY
            },
            client_setname as ServerFn,
        ),
        Command::new(
            CommandSpec {
                name: "setinfo",
                arity: 4,
                flags: flags([Flags::ALLOW_BUSY, Flags::NOSCRIPT, Flags::LOADING, Flags::STALE]),
                categories: Acl::CONNECTION,
                group: Group::Connection,
                since: "7.2.0",
                complexity: "O(1)",
                summary: "Sets information specific to the client or connection.",
                tips: &["request_policy:all_nodes", "response_policy:all_succeeded"],
                args: "(LIB-NAME=libname | LIB-VER=libver)<attr>",
                ..CommandSpec::EMPTY
            },
            client_setinfo as ServerFn,
        ),
        Command::new(
            CommandSpec {
                name: "info",
                arity: 2,
                flags: flags([Flags::NOSCRIPT, Flags::LOADING, Flags::STALE]),
                categories: Acl::CONNECTION,
                group: Group::Connection,
                since: "6.2.0",
                complexity: "O(1)",
                summary: "Returns information about the connection.",
                tips: &["nondeterministic_output"],
                ..CommandSpec::EMPTY
            },
            client_info as ServerFn,
        ),
        Command::new(
            CommandSpec {
                name: "list",
                arity: -2,
                flags: flags([Flags::ADMIN, Flags::NOSCRIPT, Flags::LOADING, Flags::STALE]),
                categories: Acl::CONNECTION,
                group: Group::Connection,
                since: "2.4.0",
                complexity: "O(N) where N is the number of client connections",
                summary: "Lists open connections.",
                tips: &["nondeterministic_output"],
                args: "[TYPE=(NORMAL | MASTER | REPLICA | PUBSUB)<client-type>@5.0.0] [ID=client-id:int...@6.2.0] [USER=username@8.1.0] [ADDR=addr~ip:port@8.1.0] [LADDR=laddr~ip:port@8.1.0] [SKIPME=(YES | NO)<skipme>@8.1.0] [MAXAGE=maxage:int@8.1.0] [NAME=name@9.0.0] [IDLE=idle:int@9.0.0] [FLAGS=flags@9.0.0] [LIB-NAME=lib-name@9.0.0] [LIB-VER=lib-ver@9.0.0] [DB=db:int@9.0.0] [CAPA=capa@9.0.0] [IP=ip@9.0.0] [NOT-TYPE=(NORMAL | MASTER | REPLICA | PUBSUB)<not-client-type>@9.0.0] [NOT-ID=not-client-id:int...@9.0.0] [NOT-USER=not-username@9.0.0] [NOT-ADDR=not-addr~ip:port@9.0.0] [NOT-LADDR=not-laddr~ip:port@9.0.0] [NOT-NAME=not-name@9.0.0] [NOT-FLAGS=not-flags@9.0.0] [NOT-LIB-NAME=not-lib-name@9.0.0] [NOT-LIB-VER=not-lib-ver@9.0.0] [NOT-DB=not-db:int@9.0.0] [NOT-CAPA=not-capa@9.0.0] [NOT-IP=not-ip@9.0.0]",
                history: &[("2.8.12", "Added unique client `id` field."), ("5.0.0", "Added optional `TYPE` filter."), ("6.0.0", "Added `user` field."), ("6.2.0", "Added `argv-mem`, `tot-mem`, `laddr` and `redir` fields and the optional `ID` filter."), ("7.0.0", "Added `resp`, `multi-mem`, `rbs` and `rbp` fields."), ("7.0.3", "Added `ssub` field."), ("8.0.0", "Replaced `master` `TYPE` with `primary`. `master` still supported for backward compatibility."), ("8.1.0", "Added filters USER, ADDR, LADDR, SKIPME, and MAXAGE."), ("9.0.0", "Added filters NAME, IDLE, FLAGS, LIB-NAME, LIB-VER, DB, CAPA, and IP. And negative filters NOT-ID, NOT-TYPE, NOT-ADDR, NOT-LADDR, NOT-USER, NOT-FLAGS, NOT-NAME, NOT-LIB-NAME, NOT-LIB-VER, NOT-DB, NOT-CAPA, NOT-IP.")],
                ..CommandSpec::EMPTY
            },
            client_list as ServerFn,
        ),
        Command::new(
            CommandSpec {
                name: "kill",
                arity: -3,
                flags: flags([Flags::ADMIN, Flags::NOSCRIPT, Flags::LOADING, Flags::STALE]),
                categories: Acl::CONNECTION,
                group: Group::Connection,
                since: "2.4.0",
                complexity: "O(N) where N is the number of client connections",
                summary: "Terminates open connections.",
                args: "(old-format~ip:port!2.8.12 | ([ID=client-id:int...@2.8.12] | [TYPE=(NORMAL | MASTER@3.2.0 | PRIMARY@8.0.0 | SLAVE | REPLICA@5.0.0 | PUBSUB)<client-type>@2.8.12] | [USER=username] | [ADDR=addr~ip:port] | [LADDR=laddr~ip:port@6.2.0] | [SKIPME=(YES | NO)<skipme>] | [MAXAGE=maxage:int@8.0.0] | [NAME=name@9.0.0] | [IDLE=idle:int@9.0.0] | [FLAGS=flags@9.0.0] | [LIB-NAME=lib-name@9.0.0] | [LIB-VER=lib-ver@9.0.0] | [DB=db:int@9.0.0] | [CAPA=capa@9.0.0] | [IP=ip@9.0.0] | [NOT-TYPE=(NORMAL | MASTER | PRIMARY | SLAVE | REPLICA | PUBSUB)<not-client-type>@9.0.0] | [NOT-ID=not-client-id:int...@9.0.0] | [NOT-USER=not-username@9.0.0] | [NOT-ADDR=not-addr~ip:port@9.0.0] | [NOT-LADDR=not-laddr~ip:port@9.0.0] | [NOT-NAME=not-name@9.0.0] | [NOT-FLAGS=not-flags@9.0.0] | [NOT-LIB-NAME=not-lib-name@9.0.0] | [NOT-LIB-VER=not-lib-ver@9.0.0] | [NOT-DB=not-db:int@9.0.0] | [NOT-CAPA=not-capa@9.0.0] | [NOT-IP=not-ip@9.0.0])<new-format>...)<filter>",
                history: &[("2.8.12", "Added new filter format."), ("2.8.12", "`ID` option."), ("3.2.0", "Added `master` type in for `TYPE` option."), ("5.0.0", "Replaced `slave` `TYPE` with `replica`. `slave` still supported for backward compatibility."), ("6.2.0", "`LADDR` option."), ("8.0.0", "`MAXAGE` option."), ("8.0.0", "Replaced `master` `TYPE` with `primary`. `master` still supported for backward compatibility."), ("8.1.0", "`ID` option accepts multiple IDs."), ("9.0.0", "Added filters NAME, IDLE, FLAGS, LIB-NAME, LIB-VER, DB, CAPA, and IP. And negative filters NOT-ID, NOT-TYPE, NOT-ADDR, NOT-LADDR, NOT-USER, NOT-FLAGS, NOT-NAME, NOT-LIB-NAME, NOT-LIB-VER, NOT-DB, NOT-CAPA, NOT-IP.")],
                ..CommandSpec::EMPTY
            },
            client_kill as ServerFn,
        ),
        Command::new(
            CommandSpec {
                name: "no-evict",
                arity: 3,
                flags: flags([Flags::ALLOW_BUSY, Flags::ADMIN, Flags::NOSCRIPT, Flags::LOADING, Flags::STALE]),
                categories: Acl::CONNECTION,
                group: Group::Connection,
                since: "7.0.0",
                complexity: "O(1)",
                summary: "Sets the client eviction mode of the connection.",
                args: "(ON | OFF)<enabled>",
                ..CommandSpec::EMPTY
            },
            client_no_evict as ServerFn,
        ),
        Command::new(
            CommandSpec {
                name: "no-touch",
                arity: 3,
                flags: flags([Flags::ALLOW_BUSY, Flags::NOSCRIPT, Flags::LOADING, Flags::STALE]),
                categories: Acl::CONNECTION,
                group: Group::Connection,
                since: "7.2.0",
                complexity: "O(1)",
                summary: "Controls whether commands sent by the client affect the LRU/LFU of accessed keys.",
                args: "(ON | OFF)<enabled>",
                ..CommandSpec::EMPTY
            },
            client_no_touch as ServerFn,
        ),
Command::new(CommandSpec {
name: "import-source",
arity: 3,
flags: flags([Flags::NOSCRIPT, Flags::LOADING, Flags::STALE]),
categories: Acl::CONNECTION,
group: Group::Connection,
since: "8.1.0",
complexity: "O(1)",
summary: "Marks this client as an import source when the server is in import mode.",
args: "(ON | OFF)<enabled>",
..CommandSpec::EMPTY
}, client_import_source as ServerFn),
        Command::new(
            CommandSpec {
                name: "reply",
                arity: 3,
                flags: flags([Flags::ALLOW_BUSY, Flags::NOSCRIPT, Flags::NO_MULTI, Flags::LOADING, Flags::STALE]),
                categories: Acl::CONNECTION,
                group: Group::Connection,
                since: "3.2.0",
                complexity: "O(1)",
                summary: "Instructs the server whether to reply to commands.",
                args: "(ON | OFF | SKIP)<action>",
                ..CommandSpec::EMPTY
            },
            client_reply as ServerFn,
        ),
        Command::new(
            CommandSpec {
                name: "durability",
                arity: 3,
                flags: flags([Flags::NOSCRIPT, Flags::LOADING, Flags::STALE]),
                categories: Acl::CONNECTION,
                group: Group::Connection,
                since: "9.1.0",
                complexity: "O(1)",
                summary: "Chooses whether this connection's replies wait for the quorum.",
                ..CommandSpec::EMPTY
            },
            client_durability as ServerFn,
        ),
        Command::new(
            CommandSpec {
                name: "unblock",
                arity: -3,
                flags: flags([Flags::ADMIN, Flags::NOSCRIPT, Flags::LOADING, Flags::STALE]),
                categories: Acl::CONNECTION,
                group: Group::Connection,
                since: "5.0.0",
                complexity: "O(log N) where N is the number of client connections",
                summary: "Unblocks a client blocked by a blocking command from a different connection.",
                args: "client-id:int [(TIMEOUT | ERROR)<unblock-type>]",
                ..CommandSpec::EMPTY
            },
            client_unblock as ServerFn,
        ),
        Command::new(
            CommandSpec {
                name: "pause",
                arity: -3,
                flags: flags([Flags::ADMIN, Flags::NOSCRIPT, Flags::LOADING, Flags::STALE]),
                categories: Acl::CONNECTION,
                group: Group::Connection,
                since: "3.0.0",
                complexity: "O(1)",
                summary: "Suspends commands processing.",
                args: "timeout:int [(WRITE | ALL)<mode>@6.2.0]",
                history: &[(
                    "6.2.0",
                    "`CLIENT PAUSE WRITE` mode added along with the `mode` option.",
                )],
                ..CommandSpec::EMPTY
            },
            client_pause as ServerFn,
        ),
        Command::new(
            CommandSpec {
                name: "unpause",
                arity: 2,
                flags: flags([Flags::ADMIN, Flags::NOSCRIPT, Flags::LOADING, Flags::STALE]),
                categories: Acl::CONNECTION,
                group: Group::Connection,
                since: "6.2.0",
                complexity: "O(N) Where N is the number of paused clients",
                summary: "Resumes processing commands from paused clients.",
                ..CommandSpec::EMPTY
            },
            client_unpause as ServerFn,
        ),
        client_tracking::TRACKING,
        client_tracking::CACHING,
        client_tracking::TRACKINGINFO,
        client_tracking::GETREDIR,
        Command::new(
            CommandSpec {
                name: "capa",
                arity: -3,
                flags: flags([Flags::ALLOW_BUSY, Flags::NOSCRIPT, Flags::LOADING, Flags::STALE]),
                categories: Acl::CONNECTION,
                group: Group::Connection,
                since: "8.0.0",
                complexity: "O(1)",
                summary: "A client claims its capability.",
                args: "capability...",
                ..CommandSpec::EMPTY
            },
            client_capa as ServerFn,
        ),
        Command::new(
            CommandSpec {
                name: "help",
                arity: 2,
                flags: flags([Flags::LOADING, Flags::STALE]),
                categories: Acl::CONNECTION,
                group: Group::Connection,
                since: "5.0.0",
                complexity: "O(1)",
                summary: "Returns helpful text about the different subcommands.",
                ..CommandSpec::EMPTY
            },
            client_help as ServerFn,
        ),
    ]),
];
