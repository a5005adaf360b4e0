//! `CLUSTER`: what is about keys is answered here, the rest by the control thread, which knows the bus and the shard.

use super::ServerCommand;
use super::rows::*;
use crate::executor::{ConnId, Executor};
use holdfast_engine::{SLOTS, key_slot};
use holdfast_resp::{parse_i64, write};

fn cluster(ex: &mut Executor, id: ConnId, argv: &[&[u8]]) {
    if !ex.settings.cluster_enabled {
        return ex.reply_error(id, "ERR This instance has cluster support disabled");
    }
    match (argv[1].to_ascii_lowercase().as_slice(), &argv[2..]) {
        (b"keyslot", [key]) => write::int(ex.out(id), i64::from(key_slot(key))),
        (b"countkeysinslot", [slot]) => count_keys_in_slot(ex, id, slot),
        (b"getkeysinslot", [slot, count]) => get_keys_in_slot(ex, id, slot, count),
        _ => ex.defer(id, argv),
    }
}

const NOT_AN_INTEGER: &str = "ERR value is not an integer or out of range";

fn slot_of(number: i64) -> Option<u16> {
    u16::try_from(number).ok().filter(|slot| *slot < SLOTS)
}

fn count_keys_in_slot(ex: &mut Executor, id: ConnId, slot: &[u8]) {
    let Some(slot) = parse_i64(slot) else {
        return ex.reply_error(id, NOT_AN_INTEGER);
    };
    let Some(slot) = slot_of(slot) else {
        return ex.reply_error(id, "ERR Invalid slot");
    };
    let count = ex.engine.slot_count_in(ex.conns[id].db, slot);
    write::int(ex.out(id), count as i64);
}

fn get_keys_in_slot(ex: &mut Executor, id: ConnId, slot: &[u8], count: &[u8]) {
    let (Some(slot), Some(count)) = (parse_i64(slot), parse_i64(count)) else {
        return ex.reply_error(id, NOT_AN_INTEGER);
    };
    let (Some(slot), Ok(count)) = (slot_of(slot), usize::try_from(count)) else {
        return ex.reply_error(id, "ERR Invalid slot or number of keys");
    };
    let keys = ex.engine.slot_keys(ex.conns[id].db, slot, count);
    write::array(ex.out(id), keys.len());
    for key in keys {
        write::bulk(ex.out(id), &key);
    }
}

/// The rows of this file.
pub(super) const COMMANDS: &[ServerCommand] = &[Command::new(
    CommandSpec {
        name: "cluster",
        arity: -2,
        flags: flags([
            Flags::NOSCRIPT,
            Flags::LOADING,
            Flags::STALE,
            Flags::NO_MULTI,
        ]),
        group: Group::Cluster,
        since: "3.0.0",
        complexity: "Depends on subcommand.",
        summary: "A container for Cluster commands.",
        ..CommandSpec::EMPTY
    },
    cluster as ServerFn,
)];
