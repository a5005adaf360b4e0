//! Point-in-time snapshots, taken in small steps between commands: no fork, no second copy of the keyspace.
//!
//! Snapshots are numbered in the order of their begin; the number of the latest is the *epoch*. Each entry carries the epoch at
//! which its value was last secured, its *version*: a snapshot numbered above that has not got the entry yet, and the
//! entry's value is still the one that it is to get.
//!
//! - Before an entry is changed, removed or flushed, and when a snapshot's iteration passes it, it is given to *all*
//!   running snapshots that have not got it, and its version becomes the epoch.
//! - A new entry's version is the epoch: no running snapshot is to see it.
//!
//! So each key that was there at the begin is given exactly once, as it was then. That the iteration meets an entry again, or not at all
//! because it has been removed (and so given) before, does no harm: iteration only has to reach everything that stays.
//! A flush hands the tables over to the snapshots running then, which go through them as well; they are freed when no
//! snapshot needs them.

mod large;

use std::any::Any;
use std::collections::VecDeque;

use crate::keyspace::Db;
use crate::keyspace::entry::Entry;
use crate::keyspace::hash::KeyHasher;
use crate::keyspace::slabs::Slabs;
use crate::keyspace::table::Table;
use crate::slots::SlotFilter;
use crate::value::{Value, ValueRef};
use large::{Given, Large, Place};

/// Receives the keys of a snapshot.
pub trait SnapshotSink: Send {
    /// A key with its value as of the snapshot's begin. Each key comes exactly once, in no particular order. In a
    /// standalone engine `slot` is 0.
    fn key(
        &mut self,
        db: u16,
        slot: u16,
        key: &[u8],
        expire_at_ms: Option<u64>,
        value: ValueRef<'_>,
    );

    /// Part of a key whose value is large: `from` is 0 at first, then what the part before returned, until that is `None`.
    /// Between two parts of one key others may come, whole. Sinks that know no parts take the key whole.
    fn piece(
        &mut self,
        db: u16,
        slot: u16,
        key: &[u8],
        expire_at_ms: Option<u64>,
        value: ValueRef<'_>,
        from: usize,
    ) -> Option<usize> {
        debug_assert_eq!(from, 0);
        self.key(db, slot, key, expire_at_ms, value);
        None
    }

    /// What is noted of accesses to the key that comes next, as [`Eviction::note`](crate::Eviction::note) reads it.
    fn accessed(&mut self, _access: u32) {}

    /// Bytes that the sink holds and that have not been taken away yet, so that the caller can pause.
    fn pending_bytes(&self) -> usize;

    /// To get the concrete sink back after [`Engine::snapshot_finish`](crate::Engine::snapshot_finish).
    fn into_any(self: Box<Self>) -> Box<dyn Any>;

    /// To reach the concrete sink while the snapshot runs.
    fn as_any_mut(&mut self) -> &mut dyn Any;
}

/// Names a running snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SnapshotId(u32);

/// What a step has achieved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnapshotProgress {
    /// There is more to do.
    More,
    /// All keys have been given to the sink: call `snapshot_finish`.
    Done,
    /// There is no such snapshot.
    Unknown,
}

/// What a snapshot still has to go through. Databases are named by the numbers that they had at first.
#[derive(Debug)]
enum Work {
    Live { db: u16, slot: usize, cursor: u64 },
    Flushed { id: u64, table: usize, cursor: u64 },
}

struct Running {
    number: u32,
    filter: SlotFilter,
    sink: Box<dyn SnapshotSink>,
    work: VecDeque<Work>,
    /// The number that each database had when the snapshot began, by its lasting number.
    names: Vec<u16>,
}

/// Tables taken out of a database, which snapshots may still need.
pub(crate) struct Flushed {
    id: u64,
    /// The epoch when they were flushed: the last snapshot that may need them.
    latest: u32,
    db: u16,
    tables: Vec<(u16, Table)>,
}

/// Entries know 16 bits of their version, so none may stay too far behind the epoch. A sweep that stamps what no running snapshot
/// is waiting for begins when so many snapshots have begun since the last one.
const SWEEP_AFTER: u32 = 1 << 12;
/// So far behind the epoch no version may fall: then the sweep is finished at once.
const BEHIND_MAX: u32 = u16::MAX as u32 - 1;

/// A pass over all entries that brings old versions up to `floor`.
struct Sweep {
    floor: u32,
    db: usize,
    slot: usize,
    cursor: u64,
}

/// All running snapshots.
#[derive(Default)]
pub(crate) struct Snapshots {
    epoch: u32,
    /// No entry's version is below this.
    swept: u32,
    sweep: Option<Sweep>,
    running: Vec<Running>,
    flushed: Vec<Flushed>,
    flushed_count: u64,
    /// Large values that iteration has met. Only of the first one parts have been given.
    large: VecDeque<Large>,
    databases: Databases,
}

/// Which database has which number. Each has a lasting number, its first one; `SWAPDB` swaps the numbers that clients use.
#[derive(Default)]
struct Databases(Vec<u16>);

impl Databases {
    /// The lasting number of the database that clients know by this one.
    fn lasting(&self, db: u16) -> u16 {
        self.0.get(usize::from(db)).copied().unwrap_or(db)
    }

    /// The number by which clients know the database of this lasting number.
    fn current(&self, lasting: u16) -> u16 {
        let found = self.0.iter().position(|db| *db == lasting);
        found.map_or(lasting, |db| db as u16)
    }

    fn swap(&mut self, a: u16, b: u16) {
        let len = self.0.len() as u16;
        self.0.extend(len..=a.max(b));
        self.0.swap(usize::from(a), usize::from(b));
    }

    /// The present numbers by lasting number.
    fn names(&self) -> Vec<u16> {
        (0..self.0.len() as u16).map(|n| self.current(n)).collect()
    }
}

/// Slots without keys are skipped without counting as keys, but not for nothing.
const EMPTY_SLOTS_A_KEY: usize = 64;
/// To free an entry with a value of its own allocation counts as so many.
const POINTING: usize = 6;
/// A piece of a large value counts as so many keys.
const KEYS_A_PIECE: isize = 64;

impl Snapshots {
    /// The version of a new entry.
    #[inline]
    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    /// To be called before an entry is changed or removed.
    #[inline]
    pub fn secure(&mut self, db: u16, slot: u16, entry: &mut Entry) {
        if !entry.is_at(self.epoch) {
            let db = self.databases.lasting(db);
            let (running, epoch) = (&mut self.running, self.epoch);
            large::finish(&mut self.large, running, epoch, db, slot, entry);
            give(running, epoch, epoch, db, slot, entry);
        }
    }

    /// Two databases have changed their numbers.
    pub fn swap_databases(&mut self, a: u16, b: u16) {
        self.databases.swap(a, b);
    }

    pub fn begin(
        &mut self,
        filter: SlotFilter,
        sink: Box<dyn SnapshotSink>,
        dbs: &mut [Db],
    ) -> SnapshotId {
        if self.epoch - self.swept >= BEHIND_MAX {
            self.sweep = None;
            while self.sweep_step(usize::MAX, dbs) {}
        }
        assert!(
            self.epoch - self.swept < BEHIND_MAX,
            "a snapshot has been running while {BEHIND_MAX} others began"
        );
        self.epoch += 1;
        let used = dbs.iter().enumerate().filter(|(_, db)| db.len() > 0);
        let work = used
            .map(|(db, _)| Work::Live {
                db: self.databases.lasting(db as u16),
                slot: 0,
                cursor: 0,
            })
            .collect();
        self.running.push(Running {
            number: self.epoch,
            filter,
            sink,
            work,
            names: self.databases.names(),
        });
        SnapshotId(self.epoch)
    }

    /// Goes on with the sweep of versions if one is needed, for about `budget` entries. Whether there is more to do.
    pub fn sweep_step(&mut self, budget: usize, dbs: &mut [Db]) -> bool {
        let oldest = self.running.iter().map(|s| s.number).min();
        let floor = oldest.map_or(self.epoch, |number| number - 1);
        // What has been flushed is not swept: it is freed long before its versions are too old.
        if self.sweep.is_none() && (floor - self.swept < SWEEP_AFTER || !self.flushed.is_empty()) {
            return false;
        }
        let sweep = self.sweep.get_or_insert(Sweep {
            floor,
            db: 0,
            slot: 0,
            cursor: 0,
        });
        let (epoch, floor) = (self.epoch, sweep.floor);
        let mut left = budget;
        while left > 0 {
            let Some(db) = dbs.get_mut(sweep.db) else {
                self.swept = floor;
                self.sweep = None;
                return false;
            };
            let Some(slot) = db.next_slot(sweep.slot) else {
                (sweep.db, sweep.slot, sweep.cursor) = (sweep.db + 1, 0, 0);
                continue;
            };
            if slot != sweep.slot {
                (sweep.slot, sweep.cursor) = (slot, 0);
            }
            if let Some(table) = db.table_mut(slot) {
                sweep.cursor = table.scan_mut(sweep.cursor, &mut |entry| {
                    left = left.saturating_sub(1);
                    if entry.version(epoch) < floor {
                        entry.set_version(floor);
                    }
                });
                sweep.slot += usize::from(sweep.cursor == 0);
            }
            left = left.saturating_sub(1);
        }
        true
    }

    fn position(&self, id: SnapshotId) -> Option<usize> {
        self.running.iter().position(|s| s.number == id.0)
    }

    pub fn sink(&mut self, id: SnapshotId) -> Option<&mut dyn SnapshotSink> {
        let at = self.position(id)?;
        Some(self.running.get_mut(at)?.sink.as_mut())
    }

    /// Bytes in the sink that holds most. A step of one snapshot gives to the others, too.
    pub fn pending_bytes(&self) -> usize {
        let pending = self.running.iter().map(|s| s.sink.pending_bytes());
        pending.max().unwrap_or(0)
    }

    /// Ends a snapshot, whether it is done or not.
    pub fn end(&mut self, id: SnapshotId) -> Option<Box<dyn SnapshotSink>> {
        let at = self.position(id)?;
        let sink = self.running.remove(at).sink;
        if self.running.is_empty() {
            // Nobody wants the rest, and nobody steps any more.
            self.large.clear();
        }
        Some(sink)
    }

    pub fn step(&mut self, id: SnapshotId, budget_keys: usize, dbs: &mut [Db]) -> SnapshotProgress {
        let Some(at) = self.position(id) else {
            return SnapshotProgress::Unknown;
        };
        let mut budget = budget_keys.max(1) as isize;
        let mut skipped = 0;
        let hasher = dbs.first().map(Db::hasher);
        while budget > 0 {
            if !self.large.is_empty() {
                self.large_step(dbs);
                budget -= KEYS_A_PIECE;
                continue;
            }
            let Some(Running { work, filter, .. }) = self.running.get_mut(at) else {
                break;
            };
            let Some(item) = work.front_mut() else {
                return SnapshotProgress::Done;
            };
            match item {
                Work::Live { db, slot, cursor } => {
                    let (db_number, slot_number) = (*db, *slot);
                    let Some(db) = dbs
                        .get_mut(usize::from(self.databases.current(db_number)))
                        .filter(|db| slot_number < db.tables_len())
                    else {
                        work.pop_front();
                        continue;
                    };
                    let covered = filter.contains(slot_number as u16);
                    let Some(table) = db.table_mut(slot_number).filter(|t| covered && t.len() > 0)
                    else {
                        (*slot, *cursor) = (slot_number + 1, 0);
                        skipped += 1;
                        budget -= isize::from(skipped % EMPTY_SLOTS_A_KEY == 0);
                        continue;
                    };
                    let from = *cursor;
                    let (running, epoch) = (&mut self.running, self.epoch);
                    let large = &mut self.large;
                    let slot = slot_number as u16;
                    let next = table.scan_mut(from, &mut |entry| {
                        budget -= 1;
                        if !entry.is_at(epoch) {
                            let place = (Place::Live, db_number, slot);
                            if !defer(large, hasher, u32::MAX, place, entry) {
                                give(running, epoch, epoch, db_number, slot, entry);
                            }
                        }
                    });
                    budget -= 1;
                    if let Some(Work::Live { slot, cursor, .. }) =
                        self.running.get_mut(at).and_then(|s| s.work.front_mut())
                    {
                        *cursor = next;
                        *slot += usize::from(next == 0);
                    }
                }
                Work::Flushed { id, table, cursor } => {
                    let (id, index, from) = (*id, *table, *cursor);
                    let flushed = self.flushed.iter_mut().find(|f| f.id == id);
                    let Some((db, latest, (slot, table))) =
                        flushed.and_then(|f| Some((f.db, f.latest, f.tables.get_mut(index)?)))
                    else {
                        work.pop_front();
                        continue;
                    };
                    let (running, epoch, slot) = (&mut self.running, self.epoch, *slot);
                    let large = &mut self.large;
                    let next = table.scan_mut(from, &mut |entry| {
                        budget -= 1;
                        if !entry.is_at(epoch) {
                            let place = (Place::Flushed(id, index), db, slot);
                            if !defer(large, hasher, latest, place, entry) {
                                give(running, epoch, latest, db, slot, entry);
                            }
                        }
                    });
                    budget -= 1;
                    if let Some(Work::Flushed { table, cursor, .. }) =
                        self.running.get_mut(at).and_then(|s| s.work.front_mut())
                    {
                        *cursor = next;
                        *table += usize::from(next == 0);
                    }
                }
            }
        }
        match self.running.get(at) {
            Some(s) if s.work.is_empty() && self.large.is_empty() => SnapshotProgress::Done,
            _ => SnapshotProgress::More,
        }
    }

    /// Gives a piece of the first large value.
    fn large_step(&mut self, dbs: &mut [Db]) {
        let Some(first) = self.large.front_mut() else {
            return;
        };
        let table = match first.place {
            Place::Live => dbs
                .get_mut(usize::from(self.databases.current(first.db)))
                .and_then(|db| db.table_mut(usize::from(first.slot))),
            Place::Flushed(id, index) => self
                .flushed
                .iter_mut()
                .find(|f| f.id == id)
                .and_then(|f| Some(&mut f.tables.get_mut(index)?.1)),
        };
        let entry = table.and_then(|t| t.find_mut(first.hash, |e| *e.key() == *first.key));
        let given = match entry {
            // Whoever changed or removed it has had it given.
            None => Given::All,
            Some(entry) if entry.is_at(self.epoch) => Given::All,
            Some(entry) => first.give_piece(&mut self.running, self.epoch, entry),
        };
        if given == Given::All {
            self.large.pop_front();
        }
    }

    /// Takes over tables that have been flushed, for as long as a running snapshot needs them.
    pub fn take_flushed(&mut self, db: u16, tables: Vec<(u16, Table)>) {
        self.flushed_count += 1;
        let id = self.flushed_count;
        for snapshot in &mut self.running {
            // First, so that memory is given back early.
            snapshot.work.push_front(Work::Flushed {
                id,
                table: 0,
                cursor: 0,
            });
        }
        let lasting = self.databases.lasting(db);
        for item in &mut self.large {
            if item.place == Place::Live
                && item.db == lasting
                && let Some(index) = tables.iter().position(|(slot, _)| *slot == item.slot)
            {
                item.place = Place::Flushed(id, index);
                item.latest = item.latest.min(self.epoch);
            }
        }
        self.flushed.push(Flushed {
            id,
            latest: self.epoch,
            db: self.databases.lasting(db),
            tables,
        });
    }

    /// Keys of flushed tables that are still to be freed.
    pub fn flushed_keys(&self) -> usize {
        let tables = self.flushed.iter().flat_map(|f| &f.tables);
        tables.map(|(_, table)| table.len()).sum()
    }

    /// Frees flushed tables that no snapshot needs any more: about `budget` entries. Large values are set aside. Whether there is more to free.
    pub fn free_step(&mut self, budget: usize, large: &mut Vec<Value>, slabs: &mut Slabs) -> bool {
        let mut budget = budget.max(1);
        let (running, waiting) = (&self.running, &self.large);
        let needed = |id: u64| {
            let of = |l: &Large| matches!(l.place, Place::Flushed(other, _) if other == id);
            waiting.iter().any(of)
                || running.iter().any(|s| {
                    s.work
                        .iter()
                        .any(|w| matches!(w, Work::Flushed { id: other, .. } if *other == id))
                })
        };
        let Some(at) = self.flushed.iter().position(|f| !needed(f.id)) else {
            return false;
        };
        while budget > 0 {
            let Some(flushed) = self.flushed.get_mut(at) else {
                return false;
            };
            let Some((_, table)) = flushed.tables.last_mut() else {
                self.flushed.remove(at);
                return !self.flushed.is_empty();
            };
            let more = table.pop_group(slabs, |slabs, mut entry| {
                let cost = if entry.is_pointing() { POINTING } else { 1 };
                large.extend(entry.take_if_large());
                entry.free(slabs);
                budget = budget.saturating_sub(cost);
            });
            if !more {
                flushed.tables.pop();
            }
            budget = budget.saturating_sub(1);
        }
        true
    }
}

impl Running {
    /// The number that a database had when the snapshot began, by its lasting number.
    fn name(&self, db: u16) -> u16 {
        self.names.get(usize::from(db)).copied().unwrap_or(db)
    }
}

/// Notes an entry with a large value, to be given in pieces. Whether it is one.
fn defer(
    list: &mut VecDeque<Large>,
    hasher: Option<KeyHasher>,
    latest: u32,
    (place, db, slot): (Place, u16, u16),
    entry: &Entry,
) -> bool {
    let Some(hasher) = hasher.filter(|_| large::is_large(entry.value())) else {
        return false;
    };
    let hash = hasher.hash(entry.key());
    list.push_back(Large::new(place, db, slot, hash, entry.key(), latest));
    true
}

/// Gives an entry to every running snapshot that has not got it, up to number `latest`: what has been flushed is not to
/// be seen by snapshots begun later.
#[inline(never)]
fn give(running: &mut [Running], epoch: u32, latest: u32, db: u16, slot: u16, entry: &mut Entry) {
    let version = entry.version(epoch);
    for snapshot in running
        .iter_mut()
        .filter(|s| s.number > version && s.number <= latest && s.filter.contains(slot))
    {
        let db = snapshot.name(db);
        snapshot.sink.accessed(entry.access());
        snapshot
            .sink
            .key(db, slot, entry.key(), entry.expiry(), entry.value());
    }
    entry.set_version(epoch);
}
