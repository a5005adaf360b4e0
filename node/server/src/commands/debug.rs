//! `DEBUG`: what tests need. Refused unless `enable-debug-command` allows it.

use super::ServerCommand;
use super::rows::*;
use crate::config::parse_memory;
use crate::executor::{ConnId, Executor, REPLY_PEAK_MS};
use crate::persist::load::Reload;
use holdfast_engine::{StrValue, Value};
use holdfast_resp::write;
use std::io::Write as _;
use std::time::Duration;

fn debug(ex: &mut Executor, id: ConnId, argv: &[&[u8]]) {
    let words: Vec<Vec<u8>> = argv[1..].iter().map(|a| a.to_ascii_lowercase()).collect();
    let words: Vec<&[u8]> = words.iter().map(|w| &w[..]).collect();
    match words.as_slice() {
        [b"help"] => super::reply_help(
            ex.out(id),
            "DEBUG",
            &[
                "ASSERT",
                "    End the process as a broken invariant does.",
                "CHANGE-REPL-ID",
                "    Give the replication stream a new ID.",
                "CLIENT-ENFORCE-REPLY-LIST <0|1>",
                "    With 1, no reply is short enough for a client that has not authenticated itself.",
                "CLIENT-EVICTION",
                "    Say how many clients take how much memory (maxmemory-clients).",
                "CONFIG-REWRITE-FORCE-ALL",
                "    Like CONFIG REWRITE, but with all directives.",
                "DICT-RESIZING <0|1>",
                "    Accepted and ignored: tables grow and shrink in small steps.",
                "DIGEST",
                "    Output a hex signature representing the current DB content.",
                "DIGEST-VALUE <key> [<key> ...]",
                "    Output a hex signature of the values of all the specified keys.",
                "ERROR <string>",
                "    Return an error that says <string>.",
                "FORCE-TLS-WRITE-ERROR <0|1>",
                "    With 1, nothing is written to clients that use TLS, as if their sockets were full.",
                "HASHTABLE-CAN-ABORT-SHRINK <0|1>",
                "    Accepted and ignored, as DICT-RESIZING is.",
                "HTSTATS <dbid> [full]",
                "    Output the state of the hash tables of a database.",
                "HTSTATS-KEY <key> [full]",
                "    Output the state of the hash table in the value of <key>.",
                "LISTPACK <key>",
                "    Print on stdout what is known of a value encoded as a listpack.",
                "LOG <message>",
                "    Write <message> to the server log.",
                "OBJECT <key> [fast]",
                "    Show low level info about <key> and associated value.",
                "PANIC",
                "    End the process as a bug would.",
                "PAUSE-AFTER-FORK <0|1>",
                "    Accepted and ignored: nothing is forked.",
                "PAUSE-CRON <0|1>",
                "    Stop periodic cron job processing.",
                "POPULATE <count> [<prefix>] [<size>]",
                "    Create <count> string keys named key:<num>, with values of <size> bytes.",
                "PROTOCOL <type>",
                "    Reply with a test value of the specified type.",
                "QUICKLIST <key> [<0|1>]",
                "    Print on stdout what is known of a value encoded as a quicklist.",
                "QUICKLIST-PACKED-THRESHOLD <size>",
                "    Checked and ignored: elements of any size are packed in one way.",
                "RELOAD [option ...]",
                "    Save the RDB on disk (unless NOSAVE) and reload it back to memory. MERGE: keys",
                "    may be there already; NOFLUSH: what is there stays.",
                "REPLICATE <string>",
                "    Accepted and ignored.",
                "REPLYBUFFER PEAK-RESET-TIME <NEVER|RESET|time>",
                "    For how many milliseconds the longest output of a client counts for the size of its buffer.",
                "REPLYBUFFER RESIZING <0|1>",
                "    Whether clients' output buffers are made smaller.",
                "SEGFAULT",
                "    End the process at once.",
                "SET-ACTIVE-EXPIRE <0|1>",
                "    Setting it to 0 disables expiring keys in the background.",
                "SET-SKIP-CHECKSUM-VALIDATION <0|1>",
                "    With 1, checksums of RDB files and of RESTORE's payloads are not looked at.",
                "SLEEP <seconds>",
                "    Stop the server for <seconds>. Decimals allowed.",
            ],
        ),
        [b"sleep", seconds] => match std::str::from_utf8(seconds)
            .ok()
            .and_then(|s| s.parse::<f64>().ok())
        {
            Some(s) if (0.0..1e6).contains(&s) => {
                ex.sleep(Duration::from_secs_f64(s));
                write::ok(ex.out(id));
            }
            // As Valkey reads what is no number.
            _ => write::ok(ex.out(id)),
        },
        [b"reload", options @ ..] => reload(ex, id, options),
        [b"digest"] => {
            let hex: String = ex
                .engine
                .digest()
                .iter()
                .map(|b| format!("{b:02x}"))
                .collect();
            write::simple(ex.out(id), &hex);
        }
        [b"digest-value", ..] => {
            let db = ex.conns.get(id).map_or(0, |c| c.db);
            write::array(ex.out(id), argv.len() - 2);
            for key in &argv[2..] {
                let digest = ex.engine.digest_value(db, key);
                let hex: String = digest.iter().map(|b| format!("{b:02x}")).collect();
                write::simple(ex.out(id), &hex);
            }
        }
        [b"set-active-expire", n] => {
            ex.active_expire = *n != b"0";
            write::ok(ex.out(id));
        }
        [b"object", _, rest @ ..] => {
            let fast = rest.first() == Some(&&b"fast"[..]);
            let db = ex.conns[id].db;
            let known = ex
                .key_info(db, argv[2])
                .zip(ex.engine.value_info(db, argv[2]));
            match known {
                Some((key, value)) => {
                    // The time of the last access, as many bits of it as Valkey keeps.
                    let accessed_s =
                        (ex.now.unix_ms() / 1000).saturating_sub(u64::from(key.idle_s));
                    let serialized = match fast {
                        true => String::new(),
                        false => format!(" serializedlength:{}", value.serialized_len),
                    };
                    let mut text = format!(
                        "Value at:0x0 refcount:1 encoding:{}{serialized} lru:{} lru_seconds_idle:{}",
                        key.encoding,
                        accessed_s & 0xff_ffff,
                        key.idle_s
                    );
                    if let Some((len, nodes, bytes)) = value.list.filter(|_| !fast) {
                        let average = len as f64 / nodes as f64;
                        let max = ex.config.int("list-max-listpack-size");
                        let compressed = u8::from(ex.config.int("list-compress-depth") != 0);
                        text += &format!(
                            " ql_nodes:{nodes} ql_avg_node:{average:.2} ql_listpack_max:{max} \
                             ql_compressed:{compressed} ql_uncompressed_size:{bytes}"
                        );
                    }
                    write::simple(ex.out(id), &text);
                }
                None => ex.reply_error(id, "ERR no such key"),
            }
        }
        [b"set-skip-checksum-validation", n] => {
            ex.persist.ignore_checksums = *n != b"0";
            ex.apply_config();
            write::ok(ex.out(id));
        }
        [b"populate", count, rest @ ..] if rest.len() <= 2 => {
            let count = holdfast_resp::parse_i64(count).filter(|n| *n >= 0);
            let size = match rest {
                [_, size] => holdfast_resp::parse_i64(size).filter(|n| *n >= 0),
                _ => Some(0),
            };
            let (Some(count), Some(size)) = (count, size) else {
                return ex.reply_error(id, "ERR value is out of range, must be positive");
            };
            let prefix = argv.get(3).copied().unwrap_or(b"key").to_vec();
            populate(ex, id, &prefix, count as u64, size as usize);
            write::ok(ex.out(id));
        }
        [b"htstats", n, ..] => {
            let Some(n) = holdfast_resp::parse_i64(n) else {
                return ex.reply_error(id, NOT_AN_INTEGER);
            };
            match u16::try_from(n)
                .ok()
                .and_then(|db| ex.engine.describe_keyspace(db))
            {
                None => ex.reply_error(id, "ERR Out of range database"),
                Some(text) => {
                    let proto = ex.conns[id].proto;
                    write::verbatim(ex.out(id), proto, b"txt", text.as_bytes());
                }
            }
        }
        [b"htstats-key", _, ..] => {
            let db = ex.conns[id].db;
            match (ex.key_exists(db, argv[2]), ex.engine.describe_table(db, argv[2])) {
                (false, _) => ex.reply_error(id, "ERR no such key"),
                (true, None) => ex.reply_error(
                    id,
                    "ERR The value stored at the specified key is not represented using an hash table",
                ),
                (true, Some(text)) => {
                    let proto = ex.conns[id].proto;
                    write::verbatim(ex.out(id), proto, b"txt", text.as_bytes());
                }
            }
        }
        [b"pause-cron", n] => {
            ex.cron_paused = *n != b"0";
            write::ok(ex.out(id));
        }
        [b"config-rewrite-force-all"] => match ex.config.rewrite(true) {
            Ok(()) => write::ok(ex.out(id)),
            Err(e) => ex.reply_error(id, &format!("ERR CONFIG-REWRITE-FORCE-ALL failed: {e}")),
        },
        [b"client-enforce-reply-list", n] => {
            ex.strangers_get_nothing = *n != b"0";
            write::ok(ex.out(id));
        }
        [b"replybuffer", b"resizing", n] => {
            ex.resizes_replies = *n != b"0";
            write::ok(ex.out(id));
        }
        [b"replybuffer", b"peak-reset-time", time] => {
            ex.reply_peak_ms = match *time {
                b"never" => u64::MAX,
                b"reset" => REPLY_PEAK_MS,
                ms => match holdfast_resp::parse_i64(ms).and_then(|n| u64::try_from(n).ok()) {
                    Some(ms) => ms,
                    None => return ex.reply_error(id, NOT_AN_INTEGER),
                },
            };
            write::ok(ex.out(id));
        }
        [b"force-tls-write-error", n] => match holdfast_resp::parse_i64(n) {
            Some(n @ (0 | 1)) => {
                ex.tls.hold_writes(n == 1);
                ex.tls_writes_go_on = n == 0;
                write::ok(ex.out(id));
            }
            Some(_) => ex.reply_error(id, "ERR Value must be 0 or 1"),
            None => ex.reply_error(id, NOT_AN_INTEGER),
        },
        [b"log", message] => {
            tracing::warn!("DEBUG LOG: {}", String::from_utf8_lossy(message));
            write::ok(ex.out(id));
        }
        [kind @ (b"listpack" | b"quicklist"), _, rest @ ..]
            if rest.is_empty() || (*kind == b"quicklist" && rest.len() == 1) =>
        {
            encoded(ex, id, kind, argv[2]);
        }
        [b"change-repl-id"] => {
            tracing::info!("Changing the replication ID because of DEBUG CHANGE-REPL-ID");
            ex.followers.id = ex.random_id();
            write::ok(ex.out(id));
        }
        [b"client-eviction"] => match ex.config.get("maxmemory-clients") {
            "0" => ex.reply_error(id, "ERR maxmemory-clients is disabled."),
            _ => {
                let text = ex.describe_client_memory();
                let proto = ex.conns[id].proto;
                write::verbatim(ex.out(id), proto, b"txt", text.as_bytes());
            }
        },
        // There is one way of packing elements here, whatever their size.
        [b"quicklist-packed-threshold", size] => {
            const BYTES_MAX: u64 = (4 << 30) - (1 << 20);
            let size = std::str::from_utf8(size).ok().and_then(parse_memory);
            match size.is_some_and(|n| n <= BYTES_MAX) {
                true => write::ok(ex.out(id)),
                false => ex.reply_error(
                    id,
                    "ERR argument must be a memory value bigger than 1 and smaller than 4gb",
                ),
            }
        }
        // What these are about is not here: tables that are resized as a whole, scripts, children of the process.
        [
            b"dict-resizing"
            | b"hashtable-can-abort-shrink"
            | b"set-disable-deny-scripts"
            | b"pause-after-fork",
            _,
        ]
        | [b"replicate", _, ..] => {
            write::ok(ex.out(id));
        }
        [b"panic", ..] => panic!(
            "DEBUG PANIC called at Unix time {}",
            ex.now.unix_ms() / 1000
        ),
        [b"assert", ..] => panic!("DEBUG ASSERT: what was asserted does not hold"),
        [b"segfault", ..] => {
            tracing::error!("DEBUG SEGFAULT: the process ends here");
            std::process::abort();
        }
        [b"protocol", kind] => protocol(ex, id, kind),
        [b"error", _] => {
            let mut line = [b"-", argv[2]].concat();
            line.iter_mut()
                .filter(|c| matches!(**c, b'\r' | b'\n'))
                .for_each(|c| *c = b' ');
            line.extend(b"\r\n");
            ex.reply_raw_error(id, &line);
        }
        _ => {
            let sub = String::from_utf8_lossy(argv[1]).into_owned();
            ex.reply_error(
                id,
                &format!("ERR unknown subcommand or wrong number of arguments for '{sub}'. Try DEBUG HELP."),
            );
        }
    }
}

const NOT_AN_INTEGER: &str = "ERR value is not an integer or out of range";

/// Prints what is known of a value that is encoded in this way.
fn encoded(ex: &mut Executor, id: ConnId, encoding: &[u8], key: &[u8]) {
    let db = ex.conns[id].db;
    let Some(info) = ex.key_info(db, key) else {
        return ex.reply_error(id, "ERR no such key");
    };
    let encoding = String::from_utf8_lossy(encoding).into_owned();
    if info.encoding != encoding {
        return ex.reply_error(id, &format!("ERR Not a {encoding} encoded object."));
    }
    let text = format!(
        "{encoding} {key:?}: {} bytes\n",
        info.value_bytes,
        key = String::from_utf8_lossy(key)
    );
    // Where nothing can be printed, nobody looks.
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
    let mut name = encoding;
    name[..1].make_ascii_uppercase();
    write::simple(ex.out(id), &format!("{name} structure printed on stdout"));
}

/// `count` keys named `prefix:n`; those that are there stay. Values are filled up with zero bytes to `size`, if that is
/// given.
fn populate(ex: &mut Executor, id: ConnId, prefix: &[u8], count: u64, size: usize) {
    let db = ex.conns[id].db;
    for n in 0..count {
        let digits = n.to_string();
        let key = [prefix, b":", digits.as_bytes()].concat();
        if ex.key_exists(db, &key) {
            continue;
        }
        let mut value = [b"value:", digits.as_bytes()].concat();
        if size > 0 {
            value.resize(size, 0);
        }
        ex.engine
            .load_key(db, &key, None, Value::Str(StrValue::new(&value)));
    }
}

fn reload(ex: &mut Executor, id: ConnId, options: &[&[u8]]) {
    let mut how = Reload {
        flush: true,
        merge: false,
    };
    let mut save = true;
    for option in options {
        match *option {
            b"merge" => how.merge = true,
            b"noflush" => how.flush = false,
            b"nosave" => save = false,
            _ => {
                return ex.reply_error(
                    id,
                    "ERR DEBUG RELOAD only supports the MERGE, NOFLUSH and NOSAVE options.",
                );
            }
        }
    }
    if !ex.persist.enabled {
        return ex.reply_error(id, super::persistence::KEPT_BY_LOG);
    }
    ex.cancel_background_save();
    if save && ex.save_now().is_err() {
        return ex.reply_error(id, "ERR");
    }
    match ex.load_now(how) {
        Ok(()) => {
            tracing::info!("DB reloaded by DEBUG RELOAD");
            write::ok(ex.out(id));
        }
        Err(()) => ex.reply_error(
            id,
            "ERR Error trying to load the RDB dump, check server logs.",
        ),
    }
}

fn protocol(ex: &mut Executor, id: ConnId, kind: &[u8]) {
    let proto = ex.conns[id].proto;
    let out = ex.out(id);
    match kind {
        b"string" => write::bulk(out, b"Hello World"),
        b"integer" => write::int(out, 12345),
        b"double" => {
            // What Valkey's clients test with.
            #[expect(clippy::approx_constant)]
            write::double(out, proto, 3.141)
        },
        b"null" => write::null(out, proto),
        b"array" => {
            write::array(out, 3);
            (0..3).for_each(|n| write::int(out, n));
        }
        b"set" => {
            write::set(out, proto, 3);
            (0..3).for_each(|n| write::int(out, n));
        }
        b"map" => {
            write::map(out, proto, 3);
            for n in 0..3 {
                write::int(out, n);
                write::boolean(out, proto, n == 1);
            }
        }
        b"push" if proto == holdfast_resp::Proto::Resp3 => {
            // Messages come behind the reply of the command.
            write::bulk(out, b"Some real reply following the push reply");
            write::push(out, proto, 2);
            write::bulk(out, b"server-cpu-usage");
            write::int(out, 42);
        }
        b"push" => ex.reply_error(id, "ERR RESP2 is not supported by this command"),
        b"verbatim" => write::verbatim(out, proto, b"txt", b"This is a verbatim\nstring"),
        b"true" => write::boolean(out, proto, true),
        b"false" => write::boolean(out, proto, false),
        b"bignum" => write::big_number(out, proto, "1234567999999999999999999999999999999"),
        b"attrib" => {
            if proto == holdfast_resp::Proto::Resp3 {
                write::attribute(out, 1);
                write::bulk(out, b"key-popularity");
                write::array(out, 2);
                write::bulk(out, b"key:123");
                write::int(out, 90);
            }
            write::bulk(out, b"Some real reply following the attribute");
        }
        _ => ex.reply_error(
            id,
            "ERR Wrong protocol type name. Please use one of the following: string|integer|double|bignum|null|array|set|map|attrib|push|verbatim|true|false",
        ),
    }
}

/// The rows of this file.
pub(super) const COMMANDS: &[ServerCommand] = &[Command::new(
    CommandSpec {
        name: "debug",
        arity: -2,
        flags: flags([
            Flags::ADMIN,
            Flags::NOSCRIPT,
            Flags::LOADING,
            Flags::STALE,
            Flags::PROTECTED,
        ]),
        group: Group::Server,
        since: "1.0.0",
        complexity: "Depends on subcommand.",
        summary: "A container for debugging commands.",
        syscmd: true,
        ..CommandSpec::EMPTY
    },
    debug as ServerFn,
)];
