//! A shard's snapshot file into a fresh engine: RDB, with what the shard's log had decided in auxiliary fields.

use super::apply::hide_staged;
use super::replica::Replica;
use crate::journal::JournalPos;
use holdfast_engine::Engine;
use holdfast_raft_log::disk::{Disk, OpenMode};
use holdfast_raft_log::{NodeId, SnapshotInfo};
use holdfast_rdb::{Event, RdbReader};
use holdfast_slot_migration::{ShardId, ShardSlots};
use std::io;

/// Auxiliary field: the shard's slots, in hexadecimal.
pub const AUX_SLOTS: &str = "holdfast-shard-slots";
/// Auxiliary field: the position of the effect stream.
pub const AUX_POSITION: &str = "holdfast-position";

/// Bytes read at a time. Between two reads other tasks of the thread run.
const CHUNK: usize = 256 * 1024;

fn corrupt(info: &SnapshotInfo, offset: u64, what: &str) -> io::Error {
    let file = info.path.display();
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("{file}: corrupt at offset {offset}: {what}"),
    )
}

/// Loads a snapshot into `engine`, which is empty.
///
/// # Errors
/// The file cannot be read, or is corrupt; the error names file and offset.
pub async fn load(
    disk: &dyn Disk,
    info: &SnapshotInfo,
    me: NodeId,
    shard: ShardId,
    mut engine: Engine,
) -> io::Result<(Engine, Replica)> {
    let file = disk.open(&info.path, OpenMode::Read).await?;
    let mut reader = RdbReader::new(engine.limits());
    let mut offset = 0;
    let mut position = None;
    let mut slots = None;
    while !reader.is_finished() {
        let chunk = file.read_at(offset, CHUNK).await?;
        if chunk.is_empty() {
            reader
                .end_of_input()
                .map_err(|e| corrupt(info, e.offset, &e.reason))?;
            break;
        }
        offset += chunk.len() as u64;
        reader.feed(&chunk);
        while let Some(event) = reader
            .poll()
            .map_err(|e| corrupt(info, e.offset, &e.reason))?
        {
            match event {
                Event::Key {
                    db,
                    key,
                    expire_at_ms,
                    value,
                    ..
                } => {
                    let db = u16::try_from(db)
                        .ok()
                        .filter(|db| *db < engine.config().databases)
                        .ok_or_else(|| corrupt(info, reader.offset(), "database out of range"))?;
                    engine.load_key(db, &key, expire_at_ms, value);
                }
                Event::Aux { name, value } if name == AUX_POSITION.as_bytes() => {
                    position = std::str::from_utf8(&value)
                        .ok()
                        .and_then(|v| v.parse().ok());
                }
                Event::Aux { name, value } if name == AUX_SLOTS.as_bytes() => {
                    let bytes = from_hex(&value)
                        .ok_or_else(|| corrupt(info, reader.offset(), "shard slots"))?;
                    let decoded = ShardSlots::decode(&bytes)
                        .map_err(|e| corrupt(info, reader.offset(), &e.to_string()))?;
                    slots = Some(decoded);
                }
                _ => {}
            }
        }
        tokio::task::yield_now().await;
    }
    let position = position.ok_or_else(|| corrupt(info, offset, "no position in it"))?;
    let slots = slots.ok_or_else(|| corrupt(info, offset, "no shard slots in it"))?;
    if slots.shard() != shard {
        return Err(corrupt(
            info,
            offset,
            &format!("it is of shard {}", slots.shard()),
        ));
    }
    let replica = Replica::restored(me, slots, JournalPos(position), Some(info.last));
    drop_foreign(&mut engine, &replica);
    hide_staged(&mut engine, &replica);
    Ok((engine, replica))
}

/// A snapshot's keys are of the instant when it began, its slots of the instant when everything before that was
/// committed: keys of slots that were given up in between are in the file and must go.
fn drop_foreign(engine: &mut Engine, replica: &Replica) {
    if !engine.config().cluster {
        return;
    }
    let slots = replica.slots();
    let hidden = slots.hidden();
    let keeps = |slot: &u16| {
        slots.owns(*slot)
            || hidden.contains(*slot)
            || slots.importing(*slot).is_some()
            || slots
                .claims()
                .values()
                .any(|claim| claim.slots.contains(*slot))
    };
    let foreign = (0..holdfast_slot_migration::SLOTS)
        .filter(|slot| !keeps(slot))
        .collect();
    engine.flush_slots(&foreign);
}

/// Bytes as hexadecimal digits.
pub fn to_hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
            // Writing to a string does not fail.
            let _ = write!(out, "{byte:02x}");
            out
        })
}

fn from_hex(text: &[u8]) -> Option<Vec<u8>> {
    let (pairs, rest) = text.as_chunks::<2>();
    let digit = |c: u8| (c as char).to_digit(16).map(|d| d as u8);
    let byte = |[high, low]: &[u8; 2]| Some(digit(*high)? << 4 | digit(*low)?);
    if rest.is_empty() {
        pairs.iter().map(byte).collect()
    } else {
        None
    }
}
