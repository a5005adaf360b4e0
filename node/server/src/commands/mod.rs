//! The table of all commands: the engine's and the server's own, and the server's own functions.
//!
//! A row stands beside its function. Adding a command touches one place.

mod admin;
mod client;
mod client_filter;
mod client_tracking;
mod cluster;
mod command;
mod commandlog;
mod config;
mod connection;
mod debug;
mod info;
mod info_stats;
mod latency;
mod memory;
mod migrate;
mod persistence;
mod pubsub;
mod replication;
mod rows;
mod slot_stats;
mod transactions;

#[cfg(not(madsim))]
pub(crate) use info::{role_name, text as info_text};

use crate::executor::{ConnId, Executor};
use holdfast_engine::{Command, CommandSpec, Engine, NameIndex};
use std::sync::OnceLock;

/// A server command: it writes its reply into the connection's output.
pub type ServerFn = fn(&mut Executor, ConnId, &[&[u8]]);

/// A row of a server command.
pub type ServerCommand = Command<ServerFn>;

/// What a command of the table does.
#[derive(Clone, Copy)]
pub enum Run {
    /// The engine executes it.
    Data(&'static Command),
    /// The server does.
    Server(ServerFn),
}

/// Commands that are not queued by `MULTI`, or are treated apart for other reasons.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Special {
    /// No.
    None,
    /// Executed although a transaction is open: `EXEC`, `DISCARD`, `MULTI`, `WATCH`, `QUIT`, `RESET`.
    NotQueued,
    /// `EXEC` itself: routed by what is queued.
    Exec,
    /// May be used by a RESP2 client with subscriptions.
    Subscriber,
    /// Both.
    SubscriberNotQueued,
}

/// One command or subcommand.
pub struct Entry {
    /// Its index in the table.
    pub id: u16,
    /// As statistics and errors name it: `config|get`.
    pub full_name: String,
    /// Its row.
    pub spec: &'static CommandSpec,
    /// What it does.
    pub run: Run,
    /// Its subcommands.
    pub subs: Vec<u16>,
    /// The container that it belongs to.
    pub parent: Option<u16>,
    /// How transactions and subscriptions treat it.
    pub special: Special,
    /// Where its only key is among the arguments; `None` if it may have several, or has none.
    pub only_key: Option<u8>,
}

/// All commands, found by name.
pub struct Table {
    entries: Vec<Entry>,
    index: NameIndex<u16>,
}

impl Table {
    /// The table without renamed commands, made once a process.
    pub fn shared() -> &'static Table {
        static TABLE: OnceLock<Table> = OnceLock::new();
        TABLE.get_or_init(|| Table::build(&[]).unwrap_or_else(|e| panic!("{e}")))
    }

    /// A table with `rename-command` pairs applied, in order; an empty new name removes the command.
    ///
    /// # Errors
    /// What is wrong with a pair, as Valkey says it.
    pub fn build(renames: &[(String, String)]) -> Result<Table, &'static str> {
        let mut entries = Vec::new();
        for c in Engine::commands() {
            add_data(&mut entries, c, None);
        }
        for c in server_tables().iter().copied().flatten() {
            // What both have, the server does: it may need the engine's part as well.
            if !entries
                .iter()
                .any(|e: &Entry| e.parent.is_none() && e.spec.name == c.spec.name)
            {
                add_server(&mut entries, c, None);
            }
        }
        let mut names: Vec<(&'static str, u16)> = entries
            .iter()
            .filter(|e| e.parent.is_none())
            .map(|e| (e.spec.name, e.id))
            .collect();
        for (old, new) in renames {
            let at = names
                .iter()
                .position(|(n, _)| n.eq_ignore_ascii_case(old))
                .ok_or("No such command in rename-command")?;
            let (_, id) = names.remove(at);
            if !new.is_empty() {
                if names.iter().any(|(n, _)| n.eq_ignore_ascii_case(new)) {
                    return Err("Target command name already exists");
                }
                // At most once a process: the table lives as long as it.
                names.push((Box::leak(new.to_ascii_lowercase().into_boxed_str()), id));
            }
        }
        Ok(Table {
            entries,
            index: NameIndex::new(names),
        })
    }

    /// The command that `argv` means; the container itself if it has no such subcommand.
    #[inline]
    pub fn find(&self, argv: &[&[u8]]) -> Option<&Entry> {
        let entry = &self.entries[usize::from(*self.index.get(argv.first()?)?)];
        if entry.subs.is_empty() {
            return Some(entry);
        }
        Some(
            argv.get(1)
                .and_then(|name| self.sub(entry, name))
                .unwrap_or(entry),
        )
    }

    /// A subcommand by its name.
    pub fn sub(&self, entry: &Entry, name: &[u8]) -> Option<&Entry> {
        entry
            .subs
            .iter()
            .map(|id| &self.entries[usize::from(*id)])
            .find(|e| e.spec.name.as_bytes().eq_ignore_ascii_case(name))
    }

    /// A command by its name alone, or by `container|sub`.
    pub fn by_name(&self, name: &[u8]) -> Option<&Entry> {
        if let Some(bar) = name.iter().position(|b| *b == b'|') {
            let entry = self.entry(*self.index.get(&name[..bar])?);
            return self.sub(entry, &name[bar + 1..]);
        }
        Some(self.entry(*self.index.get(name)?))
    }

    /// A command by its id.
    pub fn entry(&self, id: u16) -> &Entry {
        &self.entries[usize::from(id)]
    }

    /// All commands and subcommands, in order of id.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }
}

fn special(spec: &CommandSpec, parent: Option<u16>) -> Special {
    if parent.is_some() {
        return Special::None;
    }
    match spec.name {
        "exec" => Special::Exec,
        "discard" | "multi" | "watch" => Special::NotQueued,
        "quit" | "reset" => Special::SubscriberNotQueued,
        "ping" | "subscribe" | "unsubscribe" | "psubscribe" | "punsubscribe" | "ssubscribe"
        | "sunsubscribe" => Special::Subscriber,
        _ => Special::None,
    }
}

fn add(entries: &mut Vec<Entry>, spec: &'static CommandSpec, run: Run, parent: Option<u16>) -> u16 {
    let id = entries.len() as u16;
    let full_name = match parent {
        Some(p) => format!("{}|{}", entries[usize::from(p)].full_name, spec.name),
        None => spec.name.to_string(),
    };
    entries.push(Entry {
        id,
        full_name,
        spec,
        run,
        subs: Vec::new(),
        parent,
        special: special(spec, parent),
        only_key: spec.only_key().and_then(|at| u8::try_from(at).ok()),
    });
    if let Some(p) = parent {
        entries[usize::from(p)].subs.push(id);
    }
    id
}

fn add_data(entries: &mut Vec<Entry>, c: &'static Command, parent: Option<u16>) {
    let id = add(entries, &c.spec, Run::Data(c), parent);
    for sub in c.subcommands {
        add_data(entries, sub, Some(id));
    }
}

fn add_server(entries: &mut Vec<Entry>, c: &'static ServerCommand, parent: Option<u16>) {
    let id = add(entries, &c.spec, Run::Server(c.run), parent);
    for sub in c.subcommands {
        add_server(entries, sub, Some(id));
    }
}

fn server_tables() -> &'static [&'static [ServerCommand]] {
    &[
        connection::COMMANDS,
        client::COMMANDS,
        command::COMMANDS,
        config::COMMANDS,
        info::COMMANDS,
        commandlog::COMMANDS,
        latency::COMMANDS,
        admin::COMMANDS,
        memory::COMMANDS,
        persistence::COMMANDS,
        replication::COMMANDS,
        debug::COMMANDS,
        transactions::COMMANDS,
        pubsub::COMMANDS,
        cluster::COMMANDS,
        migrate::COMMANDS,
    ]
}

/// `<CONTAINER> HELP`: what Valkey prints in front of and behind the lines.
pub(crate) fn reply_help(out: &mut Vec<u8>, container: &str, lines: &[&str]) {
    use holdfast_resp::write;
    write::array(out, lines.len() + 3);
    write::simple(
        out,
        &format!("{container} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"),
    );
    for line in lines {
        write::simple(out, line);
    }
    write::simple(out, "HELP");
    write::simple(out, "    Print this help.");
}

/// The error for a subcommand with a number of arguments that its arity allows and it does not.
pub(crate) fn wrong_arguments(ex: &mut Executor, id: ConnId, argv: &[&[u8]]) {
    let sub = String::from_utf8_lossy(argv.get(1).copied().unwrap_or_default()).into_owned();
    let name = String::from_utf8_lossy(argv[0]).to_ascii_uppercase();
    ex.reply_error(
        id,
        &format!(
            "ERR unknown subcommand or wrong number of arguments for '{sub}'. Try {name} HELP."
        ),
    );
}

/// The error for a container's unknown subcommand.
pub(crate) fn unknown_subcommand(ex: &mut Executor, id: ConnId, argv: &[&[u8]]) {
    let sub = String::from_utf8_lossy(argv.get(1).copied().unwrap_or_default()).into_owned();
    let sub: String = sub.chars().take(128).collect();
    let name = String::from_utf8_lossy(argv[0]).to_ascii_uppercase();
    ex.reply_error(
        id,
        &format!("ERR unknown subcommand '{sub}'. Try {name} HELP."),
    );
}
