//! `CONFIG`.

use super::ServerCommand;
use super::rows::*;
use crate::config::SetError;
use crate::executor::{ConnId, Executor};
use crate::persist::LOADING;
use crate::seam::ToControl;
use crate::tls::Tls;
use holdfast_resp::write;

fn config_get(ex: &mut Executor, id: ConnId, argv: &[&[u8]]) {
    let mut found = ex.config.matching(&argv[2..]);
    for (name, value) in &mut found {
        if name == "dir" {
            *value = ex.config.dir().to_string_lossy().into_owned();
        }
    }
    let c = &mut ex.conns[id];
    write::map(&mut c.out.buf, c.proto, found.len());
    for (name, value) in found {
        write::bulk(&mut c.out.buf, name.as_bytes());
        write::bulk(&mut c.out.buf, value.as_bytes());
    }
}

fn config_set(ex: &mut Executor, id: ConnId, argv: &[&[u8]]) {
    if !argv.len().is_multiple_of(2) {
        return ex.reply_error(id, "ERR syntax error");
    }
    let words: Vec<String> = argv[2..]
        .iter()
        .map(|a| String::from_utf8_lossy(a).into_owned())
        .collect();
    let pairs: Vec<(&str, &str)> = words
        .chunks_exact(2)
        .map(|p| (p[0].as_str(), p[1].as_str()))
        .collect();
    // What a file that is being read depends on.
    let fixed = |name: &str| matches!(name, "dir" | "appendonly" | "repl-diskless-load");
    if ex.is_loading()
        && pairs
            .iter()
            .any(|(name, _)| fixed(&name.to_ascii_lowercase()))
    {
        return ex.reply_error(id, LOADING);
    }
    let local = ex.conns[id].info.is_local();
    let protected = ex.settings.protected_configs.permits(local);
    let mut new = ex.config.clone();
    let set = new.set_all(&pairs, protected).and_then(|names| {
        match ex.host.can_listen(&ex.config, &new) {
            Ok(()) => Ok(names),
            Err((name, reason)) => Err(SetError::Refused {
                name: name.to_string(),
                reason: reason.to_string(),
            }),
        }
    });
    let set = set.and_then(|names| match names.iter().find(|name| **name == "dir") {
        Some(name) => match ex.host.can_use_dir(&new.dir()) {
            Ok(()) => Ok(names),
            Err(reason) => Err(SetError::Refused {
                name: name.to_string(),
                reason,
            }),
        },
        None => Ok(names),
    });
    // Last, since it takes effect at once.
    let set = set.and_then(|names| {
        // Also when nothing is changed: that is how new certificates in the same files are taken.
        if let Some(name) = names.iter().find(|name| name.starts_with("tls-")) {
            match Tls::prepare(&new) {
                Ok(prepared) => ex.tls.put(prepared),
                Err(reason) => {
                    tracing::warn!("{reason}");
                    return Err(SetError::Refused {
                        name: name.to_string(),
                        reason: "Unable to update TLS configuration. Check server logs.".into(),
                    });
                }
            }
        }
        Ok(names)
    });
    match set {
        Ok(names) => {
            ex.config = new;
            ex.apply_config();
            crate::logging::set_level(ex.config.get("loglevel"));
            let changed: Vec<(&'static str, String)> = names
                .into_iter()
                .map(|n| (n, ex.config.get(n).to_string()))
                .collect();
            ex.config_changed.extend(changed.iter().map(|(n, _)| *n));
            ex.control.send(ToControl::Config(changed));
            write::ok(ex.out(id));
        }
        Err(e) => ex.reply_error(id, &e.to_string()),
    }
}

fn config_resetstat(ex: &mut Executor, id: ConnId, _: &[&[u8]]) {
    ex.engine.reset_stats();
    ex.stats.reset();
    ex.observer.reset_slots();
    ex.followers.reset_stats();
    write::ok(ex.out(id));
}

fn config_rewrite(ex: &mut Executor, id: ConnId, _: &[&[u8]]) {
    if ex.config.file().is_none() {
        return ex.reply_error(id, "ERR The server is running without a config file");
    }
    match ex.config.rewrite(false) {
        Ok(()) => {
            tracing::info!("CONFIG REWRITE executed with success.");
            write::ok(ex.out(id));
        }
        Err(e) => {
            tracing::warn!("CONFIG REWRITE failed: {e}");
            ex.reply_error(id, &format!("ERR Rewriting config file: {e}"));
        }
    }
}

fn config_help(ex: &mut Executor, id: ConnId, _: &[&[u8]]) {
    super::reply_help(
        ex.out(id),
        "CONFIG",
        &[
            "GET <pattern>",
            "    Return parameters matching the glob-like <pattern> and their values.",
            "SET <directive> <value>",
            "    Set the configuration <directive> to <value>.",
            "RESETSTAT",
            "    Reset statistics reported by the INFO command.",
            "REWRITE",
            "    Rewrite the configuration file.",
        ],
    );
}

/// The rows of this file.
pub(super) const COMMANDS: &[ServerCommand] = &[Command::new(
    CommandSpec {
        name: "config",
        arity: -2,
        group: Group::Server,
        since: "2.0.0",
        complexity: "Depends on subcommand.",
        summary: "A container for server configuration commands.",
        ..CommandSpec::EMPTY
    },
    CONTAINER as ServerFn,
)
.with_subcommands(&[
    Command::new(
        CommandSpec {
            name: "get",
            arity: -3,
            flags: flags([Flags::ADMIN, Flags::NOSCRIPT, Flags::LOADING, Flags::STALE]),
            group: Group::Server,
            since: "2.0.0",
            complexity: "O(N) when N is the number of configuration parameters provided",
            summary: "Returns the effective values of configuration parameters.",
            args: "parameter...",
            history: &[(
                "7.0.0",
                "Added the ability to pass multiple pattern parameters in one call",
            )],
            ..CommandSpec::EMPTY
        },
        config_get as ServerFn,
    ),
    Command::new(
        CommandSpec {
            name: "set",
            arity: -4,
            flags: flags([Flags::ADMIN, Flags::NOSCRIPT, Flags::LOADING, Flags::STALE]),
            group: Group::Server,
            since: "2.0.0",
            complexity: "O(N) when N is the number of configuration parameters provided",
            summary: "Sets configuration parameters in-flight.",
            tips: &["request_policy:all_nodes", "response_policy:all_succeeded"],
            args: "{parameter value}<data>...",
            history: &[(
                "7.0.0",
                "Added the ability to set multiple parameters in one call.",
            )],
            ..CommandSpec::EMPTY
        },
        config_set as ServerFn,
    ),
    Command::new(
        CommandSpec {
            name: "resetstat",
            arity: 2,
            flags: flags([Flags::ADMIN, Flags::NOSCRIPT, Flags::LOADING, Flags::STALE]),
            group: Group::Server,
            since: "2.0.0",
            complexity: "O(1)",
            summary: "Resets the server's statistics.",
            tips: &["request_policy:all_nodes", "response_policy:all_succeeded"],
            ..CommandSpec::EMPTY
        },
        config_resetstat as ServerFn,
    ),
    Command::new(
        CommandSpec {
            name: "rewrite",
            arity: 2,
            flags: flags([Flags::ADMIN, Flags::NOSCRIPT, Flags::LOADING, Flags::STALE]),
            group: Group::Server,
            since: "2.8.0",
            complexity: "O(1)",
            summary: "Persists the effective configuration to file.",
            tips: &["request_policy:all_nodes", "response_policy:all_succeeded"],
            ..CommandSpec::EMPTY
        },
        config_rewrite as ServerFn,
    ),
    Command::new(
        CommandSpec {
            name: "help",
            arity: 2,
            flags: flags([Flags::LOADING, Flags::STALE]),
            group: Group::Server,
            since: "5.0.0",
            complexity: "O(1)",
            summary: "Returns helpful text about the different subcommands.",
            ..CommandSpec::EMPTY
        },
        config_help as ServerFn,
    ),
])];
