//! Large values, given to snapshots in pieces: no step of a snapshot takes longer because a collection is huge.
//!
//! Where iteration meets such an entry it only notes it here. The first of the list is given piece by piece, one in each
//! step, to all snapshots that have not got it; its version stays what it was until the last piece is given. A write that
//! comes to it meanwhile has the rest given first, as it has any other entry given whole.

use std::collections::VecDeque;

use super::Running;
use crate::keyspace::entry::Entry;
use crate::value::ValueRef;

/// Smaller collections, and shorter strings, are given at once.
const ELEMENTS_MAX: usize = 128;
const STRING_BYTES_MAX: usize = 1 << 20;

/// Whether a value is given in pieces.
pub(super) fn is_large(value: ValueRef<'_>) -> bool {
    match value {
        ValueRef::Str(s) => s.len() > STRING_BYTES_MAX,
        other => other.elements() > ELEMENTS_MAX,
    }
}

/// Where an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// In its database.
    Live,
    /// In a flushed table: the flush, and the table's index in it.
    Flushed(u64, usize),
}

/// An entry that is to be given in pieces.
#[derive(Debug)]
pub(super) struct Large {
    pub place: Place,
    /// Lasting number of the database.
    pub db: u16,
    pub slot: u16,
    pub hash: u64,
    pub key: Box<[u8]>,
    /// No snapshot numbered above this is to see it.
    pub latest: u32,
    begun: Option<Begun>,
}

#[derive(Debug)]
struct Begun {
    /// Whoever is numbered up to this has it when it is done.
    upto: u32,
    /// The snapshots that have not got all of it, with the place where each goes on.
    left: Vec<(u32, usize)>,
}

/// What a step came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Given {
    /// There are more pieces.
    Part,
    /// That was the last one.
    All,
}

impl Large {
    pub fn new(place: Place, db: u16, slot: u16, hash: u64, key: &[u8], latest: u32) -> Self {
        Large {
            place,
            db,
            slot,
            hash,
            key: key.into(),
            latest,
            begun: None,
        }
    }

    /// Gives each snapshot that lacks it one piece more.
    pub fn give_piece(&mut self, running: &mut [Running], epoch: u32, entry: &mut Entry) -> Given {
        let (slot, latest) = (self.slot, self.latest.min(epoch));
        let begun = self.begun.get_or_insert_with(|| {
            let version = entry.version(epoch);
            let lacking = running
                .iter()
                .filter(|s| s.number > version && s.number <= latest && s.filter.contains(slot));
            Begun {
                upto: epoch,
                left: lacking.map(|s| (s.number, 0)).collect(),
            }
        });
        let db = self.db;
        begun.left.retain_mut(|(number, from)| {
            // One that was given up meanwhile needs nothing more.
            let Some(snapshot) = running.iter_mut().find(|s| s.number == *number) else {
                return false;
            };
            let db = snapshot.name(db);
            let (key, expiry) = (entry.key(), entry.expiry());
            if *from == 0 {
                snapshot.sink.accessed(entry.access());
            }
            match snapshot
                .sink
                .piece(db, slot, key, expiry, entry.value(), *from)
            {
                Some(next) => {
                    *from = next;
                    true
                }
                None => false,
            }
        });
        if !begun.left.is_empty() {
            return Given::Part;
        }
        entry.set_version(begun.upto);
        Given::All
    }

    /// Whether part of this very entry has been given.
    fn is_begun(&self, db: u16, slot: u16, key: &[u8]) -> bool {
        self.begun.is_some()
            && self.place == Place::Live
            && (self.db, self.slot) == (db, slot)
            && *self.key == *key
    }
}

/// Gives the rest of an entry that is about to change, if part of it has been given.
pub(super) fn finish(
    list: &mut VecDeque<Large>,
    running: &mut [Running],
    epoch: u32,
    db: u16,
    slot: u16,
    entry: &mut Entry,
) {
    let Some(first) = list.front_mut() else {
        return;
    };
    if first.is_begun(db, slot, entry.key()) {
        while first.give_piece(running, epoch, entry) == Given::Part {}
        list.pop_front();
    }
}
