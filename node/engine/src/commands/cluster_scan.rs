//! `CLUSTERSCAN`: a scan of a whole cluster, whose cursor says where it goes on.
//!
//! ```text
//! cursor:  <fingerprint>-{<tag>}-<local cursor>
//! ```
//! The tag is of the slot to go on with, so that the command is routed to that slot's owner. The fingerprint names
//! the process whose local cursor it is; another one begins the slot anew.

use super::scan::{ScanOptions, walk};
use crate::call::{Call, CmdError, CmdResult, DONE};
use crate::engine::Engine;
use crate::slots::{SLOTS, key_slot, slot_tag};
use crate::spec::{Acl, Command, CommandSpec, Flags, Group, Key, KeySpec};

const INVALID: CmdError = CmdError::Static("ERR Invalid cursor");

/// Six characters, each of six bits, from `0` on.
fn fingerprint(engine: &Engine) -> String {
    // Of the hash function, since a local cursor means nothing under another one. Never zero, which is no process's.
    let hash = (engine.hasher.hash(b"fingerprint") as u32).max(1);
    (0..6)
        .rev()
        .map(|i| char::from(b'0' + (hash >> (6 * i) & 63) as u8))
        .collect()
}

fn cursor_at(slot: u16) -> String {
    format!("0-{{{}}}-0", slot_tag(slot))
}

/// The slot and the local cursor.
fn parse(engine: &Engine, text: &[u8]) -> Option<(u16, u64)> {
    let mut parts = text.splitn(3, |b| *b == b'-');
    let (print, tag, local) = (parts.next()?, parts.next()?, parts.next()?);
    let digits = !local.is_empty() && local.iter().all(u8::is_ascii_digit);
    let local: u64 = std::str::from_utf8(local)
        .ok()
        .filter(|_| digits)?
        .parse()
        .ok()?;
    let ours = print == fingerprint(engine).as_bytes();
    Some((key_slot(tag), if ours { local } else { 0 }))
}

/// The last slot of the run, from `slot` on, that one node owns.
fn run_end(engine: &Engine, slot: u16) -> u16 {
    let ends = &engine.slot_run_ends;
    let end = ends.partition_point(|end| *end < slot);
    ends.get(end).copied().unwrap_or(SLOTS - 1)
}

fn reply_cursor(call: &mut Call<'_>, cursor: &str) -> CmdResult {
    call.reply_array(2);
    call.reply_bulk(cursor.as_bytes());
    call.reply_array(0);
    DONE
}

fn cluster_scan(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    if !engine.config().cluster {
        return Err(CmdError::Static(
            "ERR This instance has cluster support disabled",
        ));
    }
    let options = ScanOptions::parse(call, true)?;
    let matched = options.pattern_slot();
    let nothing = matches!((options.slot, matched), (Some(a), Some(b)) if a != b);
    if call.arg(1) == b"0" {
        let slot = options.slot.or(matched).unwrap_or(0);
        let cursor = if nothing { "0".into() } else { cursor_at(slot) };
        return reply_cursor(call, &cursor);
    }
    let (slot, local) = parse(engine, call.arg(1)).ok_or(INVALID)?;
    if options.slot.is_some_and(|wanted| wanted != slot) {
        return Err(CmdError::Static(
            "ERR Cursor slot mismatch with SLOT argument",
        ));
    }
    if let Some(matched) = matched.filter(|m| *m != slot) {
        // On to the only slot that can match, but not back.
        let cursor = if !nothing && matched > slot {
            cursor_at(matched)
        } else {
            "0".into()
        };
        return reply_cursor(call, &cursor);
    }
    let one = options.slot.is_some() || matched.is_some();
    let last = if one { slot } else { run_end(engine, slot) };
    let found = walk(engine, call, local, slot..=last, &options);
    let cursor = match found.cursor {
        0 if !one && last + 1 < SLOTS => cursor_at(last + 1),
        0 => "0".into(),
        local => {
            let slot = (local % u64::from(SLOTS)) as u16;
            format!("{}-{{{}}}-{local}", fingerprint(engine), slot_tag(slot))
        }
    };
    call.reply_array(2);
    call.reply_bulk(cursor.as_bytes());
    found.reply_keys(call);
    DONE
}

/// The row.
pub const COMMANDS: &[Command] = &[Command::new(
    CommandSpec {
        name: "clusterscan",
        arity: -2,
        flags: Flags::READONLY.and(Flags::TOUCHES_ARBITRARY_KEYS),
        categories: Acl::KEYSPACE,
        keys: &[KeySpec::range(Key::NOT_KEY, 1, 0, 1)],
        group: Group::Cluster,
        since: "9.1.0",
        complexity: "O(N) where N is the number of elements returned.",
        summary: "Iterates over the keys in the cluster.",
        args: "cursor [MATCH=match-pattern:pattern] [COUNT=count:int] [TYPE=type] [SLOT=slot:int]",
        tips: &[
            "nondeterministic_output",
            "request_policy:special",
            "response_policy:special",
        ],
        ..CommandSpec::EMPTY
    },
    cluster_scan,
)];
