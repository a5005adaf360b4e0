//! What the engine does between commands, in small steps: active expiry, freeing what has been flushed, snapshots, and
//! whole slots.

use crate::call::{Call, Mode};
use crate::digest::ValueDigest;
use crate::effects::Effects;
use crate::engine::Engine;
use crate::events::EventClass;
use crate::keyspace::entry::{Entry, FREE_AT_ONCE};
use crate::keyspace::field_index::SlotFields;
use crate::keyspace::table::Table;
use crate::keyspace::{Place, place};
use crate::slots::{SlotFilter, SlotSet};
use crate::snapshot::{SnapshotId, SnapshotProgress, SnapshotSink};
use crate::types::{SetValue, ZsetValue};
use crate::value::{Type, Value, ValueMut, ValueRef};

/// Frees large values elsewhere: on a thread of its own.
pub trait Reaper: Send {
    /// Takes a value to be dropped.
    ///
    /// # Errors
    /// It has too many already: the value comes back, and is freed here in small steps.
    fn take(&mut self, value: Value) -> Result<(), Value>;

    /// Values taken that are not freed yet.
    fn pending(&self) -> usize;
}

/// What has been removed and is still to be freed.
#[derive(Default)]
pub(crate) struct Garbage {
    /// Who takes large values.
    reaper: Option<Box<dyn Reaper>>,
    /// Lists of hashes whose fields expire, of flushed slots.
    fields: Vec<SlotFields>,
    /// Large values.
    pub values: Vec<Value>,
}

/// Pages given back to the system in one step.
const PAGES_AT_ONCE: usize = 8;

/// Large values handed over in one step.
const REAPED_AT_ONCE: usize = 100;

impl Engine {
    /// Whether no database holds a key.
    pub fn is_empty(&self) -> bool {
        self.dbs.iter().all(|space| space.len() == 0)
    }

    /// Deletes keys whose time has passed, at most `budget` of them, and then about as many fields of hashes; each deletion is an
    /// effect of its own. Whether there may be more. Only a primary does this; the others wait for the deletions to arrive.
    pub fn active_expire_step(&mut self, now_ms: u64, budget: usize, fx: &mut Effects) -> bool {
        let more_keys = self.expire_keys_step(now_ms, budget, fx);
        let more_fields = self.expire_fields_step(now_ms, budget, fx);
        more_keys || more_fields
    }

    fn expire_keys_step(&mut self, now_ms: u64, budget: usize, fx: &mut Effects) -> bool {
        let mut budget = budget;
        for db in 0..self.dbs.len() {
            let mut from = self.expiry_resume.get(db).copied().unwrap_or_default();
            while budget > 0 {
                let Some(slot) = self.dbs.get(db).and_then(|d| d.due_slot(from, now_ms)) else {
                    from = 0;
                    break;
                };
                from = slot;
                if self.is_hidden(slot as u16) {
                    from += 1;
                    continue;
                }
                let space = self.dbs.get_mut(db);
                let Some(keys) = space.and_then(|d| d.expired_in(slot, now_ms, budget)) else {
                    from += 1;
                    continue;
                };
                budget -= keys.len();
                for key in keys {
                    let place = place(self.hasher, self.config.cluster, Some(slot as u16), &key);
                    fx.begin_unit();
                    self.expire_now(db as u16, place, &key, fx);
                    fx.end_unit();
                }
            }
            if let Some(resume) = self.expiry_resume.get_mut(db) {
                *resume = from;
            }
        }
        budget == 0
    }

    /// Deletes fields whose time has passed, about `budget` of them, hash by hash. A hash that has lost its last field is deleted.
    fn expire_fields_step(&mut self, now_ms: u64, budget: usize, fx: &mut Effects) -> bool {
        let mut left = budget;
        for db in 0..self.dbs.len() {
            let mut from = (0, 0);
            while left > 0 {
                let due = self.dbs.get(db).and_then(|d| d.fields().next(from));
                let Some((at, place, behind)) = due.filter(|(at, ..)| *at <= now_ms) else {
                    break;
                };
                if self.is_hidden(place.slot) {
                    from = behind;
                    continue;
                }
                let Some(space) = self.dbs.get_mut(db) else {
                    break;
                };
                let Some(entry) = space.find_noted(place, at) else {
                    space.fields_mut().remove(at, place);
                    continue;
                };
                self.snapshots.secure(db as u16, place.slot, entry);
                let key = Box::<[u8]>::from(entry.key());
                let ValueMut::Hash(hash) = entry.value_mut() else {
                    break;
                };
                let gone = hash.take_expired(now_ms, left);
                let is_empty = hash.is_empty();
                space.note_fields(place, &key);
                // The slot's next one may be due at the same time.
                from = from.min((at, place.slot));
                left = left.saturating_sub(gone.len().max(1));
                if !gone.is_empty() {
                    self.report_expired_fields(db as u16, place, &key, &gone, is_empty, fx);
                }
            }
        }
        left == 0
    }

    /// The effects of fields that were deleted because their time had passed.
    fn report_expired_fields(
        &mut self,
        db: u16,
        place: Place,
        key: &[u8],
        gone: &[Box<[u8]>],
        is_empty: bool,
        fx: &mut Effects,
    ) {
        self.stats.expired_fields += gone.len() as u64;
        fx.begin_unit();
        let mut argv: Vec<&[u8]> = vec![b"HDEL", key];
        argv.extend(gone.iter().map(|field| &**field));
        fx.propagate(db, &argv);
        fx.notify(EventClass::EXPIRED, "hexpired", db, key);
        if is_empty {
            self.remove(db, place, key);
            fx.propagate(db, &[self.verb_of_expiry(), key]);
            fx.notify(EventClass::GENERIC, "del", db, key);
        }
        fx.touch(db, key);
        fx.end_unit();
    }

    /// Frees what was flushed and what large values were deleted, about `budget` keys or elements at a time. Whether
    /// there is more.
    pub fn free_step(&mut self, budget: usize) -> bool {
        let more_pages = self.slabs.give_back_some(PAGES_AT_ONCE);
        self.free_garbage(budget) || more_pages
    }

    fn free_garbage(&mut self, budget: usize) -> bool {
        if let Some(reaper) = &mut self.garbage.reaper {
            for _ in 0..budget.min(REAPED_AT_ONCE) {
                let Some(value) = self.garbage.values.pop() else {
                    break;
                };
                if let Err(value) = reaper.take(value) {
                    self.garbage.values.push(value);
                    break;
                }
                self.stats.lazy_freed += 1;
            }
        }
        if let Some(value) = self.garbage.values.last_mut() {
            if !value.discard(budget.max(1)) {
                self.garbage.values.pop();
                self.stats.lazy_freed += 1;
            }
            return true;
        }
        if let Some(fields) = self.garbage.fields.last_mut() {
            if !fields.pop_some(budget.max(1)) {
                self.garbage.fields.pop();
            }
            return true;
        }
        let large = &mut self.garbage.values;
        self.snapshots.free_step(budget, large, &mut self.slabs)
            || !large.is_empty()
            || self.snapshots.sweep_step(budget, &mut self.dbs)
    }

    /// Takes a value that is not needed any more, to be freed in steps.
    pub(crate) fn set_aside(&mut self, value: Value) {
        if value.as_ref().elements() > FREE_AT_ONCE {
            self.garbage.values.push(value);
        }
    }

    /// Has large values freed elsewhere from now on.
    pub fn set_reaper(&mut self, reaper: Box<dyn Reaper>) {
        self.garbage.reaper = Some(reaper);
    }

    /// Values set aside that are still to be freed.
    pub fn pending_free(&self) -> usize {
        let reaper = self.garbage.reaper.as_ref();
        self.garbage.values.len()
            + self.snapshots.flushed_keys()
            + reaper.map_or(0, |reaper| reaper.pending())
    }

    /// Begins a snapshot of the keys in these slots as they are now.
    pub fn snapshot_begin(&mut self, slots: SlotFilter, sink: Box<dyn SnapshotSink>) -> SnapshotId {
        self.snapshots.begin(slots, sink, &mut self.dbs)
    }

    /// Goes on with a snapshot for about `budget_keys` keys.
    pub fn snapshot_step(&mut self, id: SnapshotId, budget_keys: usize) -> SnapshotProgress {
        self.snapshots.step(id, budget_keys, &mut self.dbs)
    }

    /// Bytes that the fullest sink of all running snapshots holds. Each step gives keys to all that have not got them, so
    /// that none should be made while one of them is too full.
    pub fn snapshots_pending(&self) -> usize {
        self.snapshots.pending_bytes()
    }

    /// The sink of a running snapshot.
    pub fn snapshot_sink(&mut self, id: SnapshotId) -> Option<&mut dyn SnapshotSink> {
        self.snapshots.sink(id)
    }

    /// Ends a snapshot that is done, and gives its sink back.
    pub fn snapshot_finish(&mut self, id: SnapshotId) -> Option<Box<dyn SnapshotSink>> {
        self.snapshots.end(id)
    }

    /// Gives a running snapshot up.
    pub fn snapshot_abort(&mut self, id: SnapshotId) -> Option<Box<dyn SnapshotSink>> {
        self.snapshots.end(id)
    }

    /// Puts a key in as it comes from a snapshot, whatever was there. No effects. Databases that do not exist are refused.
    pub fn load_key(
        &mut self,
        db: u16,
        key: &[u8],
        expire_at_ms: Option<u64>,
        value: Value,
    ) -> bool {
        if usize::from(db) >= self.dbs.len() {
            return false;
        }
        let place = place(self.hasher, self.config.cluster, None, key);
        self.remove(db, place, key);
        let entry = Entry::new(&mut self.slabs, key, value, self.snapshots.epoch());
        self.add(db, place, entry);
        if let Some(at) = expire_at_ms {
            self.dbs[usize::from(db)].set_expiry(place, key, at, &mut self.slabs);
        }
        true
    }

    /// Empties one database or all of them, at once for every observer; the memory is freed by [`free_step`](Self::free_step).
    /// No effects. Returns the number of keys that were there.
    pub fn flush(&mut self, db: Option<u16>) -> usize {
        let mut gone = 0;
        for (number, space) in self.dbs.iter_mut().enumerate() {
            if db.is_none_or(|db| usize::from(db) == number) && space.len() > 0 {
                gone += space.len();
                self.snapshots.take_flushed(number as u16, space.take_all());
                self.garbage.fields.extend(space.take_fields(None));
            }
        }
        gone
    }

    /// Lets two databases change their numbers. Whether there are two such databases. No effects.
    pub fn swap_databases(&mut self, a: u16, b: u16) -> bool {
        let (a_at, b_at) = (usize::from(a), usize::from(b));
        if a_at.max(b_at) >= self.dbs.len() {
            return false;
        }
        self.dbs.swap(a_at, b_at);
        self.expiry_resume.swap(a_at, b_at);
        self.snapshots.swap_databases(a, b);
        true
    }

    /// Deletes all keys of these slots, in all databases. No effects: every copy does it when the decision arrives.
    pub fn flush_slots(&mut self, slots: &SlotSet) -> usize {
        let mut gone = 0;
        for (number, space) in self.dbs.iter_mut().enumerate() {
            if space.len() == 0 {
                continue;
            }
            let mut tables = Vec::new();
            for slot in slots.iter() {
                if let Some(table) = space.take_slot(slot) {
                    gone += table.len();
                    tables.push((slot, table));
                    self.garbage.fields.extend(space.take_fields(Some(slot)));
                }
            }
            if !tables.is_empty() {
                self.snapshots.take_flushed(number as u16, tables);
            }
        }
        gone
    }

    /// Hides slots from clients: their keys are in no count, no scan and no sample, and do not expire by themselves. For keys
    /// of a slot that is being moved here and not yet ours. Named keys are the business of routing.
    pub fn set_hidden_slots(&mut self, slots: SlotSet) {
        self.hidden = Some(slots).filter(|s| !s.is_empty());
    }

    /// Number of keys in a slot, over all databases.
    pub fn slot_count(&self, slot: u16) -> usize {
        self.dbs
            .iter()
            .filter_map(|db| db.table(usize::from(slot)))
            .map(|t| t.len())
            .sum()
    }

    /// Number of keys in a slot of one database (`CLUSTER COUNTKEYSINSLOT`).
    pub fn slot_count_in(&self, db: u16, slot: u16) -> usize {
        self.dbs
            .get(usize::from(db))
            .and_then(|db| db.table(usize::from(slot)))
            .map_or(0, |t| t.len())
    }

    /// Up to `count` keys of a slot in one database (`CLUSTER GETKEYSINSLOT`).
    pub fn slot_keys(&self, db: u16, slot: u16, count: usize) -> Vec<Box<[u8]>> {
        let mut keys = Vec::new();
        let Some(table) = self
            .dbs
            .get(usize::from(db))
            .and_then(|db| db.table(usize::from(slot)))
        else {
            return keys;
        };
        let mut cursor = 0;
        while keys.len() < count {
            cursor = table.scan(cursor, &mut |entry| {
                if keys.len() < count {
                    keys.push(entry.key().into());
                }
            });
            if cursor == 0 {
                break;
            }
        }
        keys
    }

    /// The digest of all data, equal on equal copies and equal to Valkey's `DEBUG DIGEST`. Keys whose time has passed and that
    /// have not been deleted yet count: copies at the same position have the same ones.
    pub fn digest(&self) -> [u8; 20] {
        let mut total = ValueDigest::new();
        for (number, db) in self.dbs.iter().enumerate().filter(|(_, db)| db.len() > 0) {
            total.mix(&(number as u32).to_be_bytes());
            for slot in 0..db.tables_len() {
                if let Some(table) = db.table(slot) {
                    table.for_each(&mut |entry| {
                        let mut one = ValueDigest::new();
                        one.mix(entry.key());
                        value_digest(entry, &mut one);
                        total.xor(&one.0);
                    });
                }
            }
        }
        total.0
    }

    /// The digest of one key's value (`DEBUG DIGEST-VALUE`); zeros if it is absent.
    pub fn digest_value(&self, db: u16, key: &[u8]) -> [u8; 20] {
        let mut one = ValueDigest::new();
        let place = place(self.hasher, self.config.cluster, None, key);
        if let Some(entry) = self
            .dbs
            .get(usize::from(db))
            .and_then(|db| db.find(place, key))
        {
            value_digest(entry, &mut one);
        }
        one.0
    }

    /// The type of a key's value, if it is there and its time has not passed. Whether it is what a blocked client waits for.
    pub fn key_type(&self, db: u16, key: &[u8], now_ms: u64) -> Option<Type> {
        let place = place(self.hasher, self.config.cluster, None, key);
        let entry = self.dbs.get(usize::from(db))?.find(place, key)?;
        (entry.expire_at_ms() >= now_ms).then(|| entry.value().ty())
    }

    /// What `DEBUG HTSTATS` says of a database: of all its tables together, as there is one for each slot, and of no second table,
    /// since keys with an expiry are in the same one.
    pub fn describe_keyspace(&self, db: u16) -> Option<String> {
        let db = self.dbs.get(usize::from(db))?;
        let tables = (0..db.tables_len()).filter_map(|slot| db.table(slot));
        let room: usize = tables.map(Table::room).sum();
        Some(format!(
            "[Dictionary HT]\nHash table 0 stats (main hash table):\n table size: {room}\n number of entries: {}\n \
             rehashing index: -1\n[Expires HT]\n",
            db.len()
        ))
    }

    /// What `DEBUG HTSTATS-KEY` says of a key; `None` if its value has no such hash table.
    pub fn describe_table(&self, db: u16, key: &[u8]) -> Option<String> {
        let place = place(self.hasher, self.config.cluster, None, key);
        match self.dbs.get(usize::from(db))?.find(place, key)?.value() {
            ValueRef::Set(SetValue::Table(table)) => Some(table.describe()),
            ValueRef::Zset(ZsetValue::Ordered(ordered)) => Some(ordered.describe_table()),
            _ => None,
        }
    }

    /// What `DEBUG OBJECT` says of a key's value, expired or not. Takes as long as a `DUMP`.
    pub fn value_info(&self, db: u16, key: &[u8]) -> Option<ValueInfo> {
        /// A type in front of the value, version and checksum behind it.
        const FRAME_BYTES: usize = 11;
        let place = place(self.hasher, self.config.cluster, None, key);
        let value = self.dbs.get(usize::from(db))?.find(place, key)?.value();
        let list = match value {
            ValueRef::List(list) => list
                .nodes_and_bytes()
                .map(|(nodes, bytes)| (list.len(), nodes, bytes)),
            _ => None,
        };
        Some(ValueInfo {
            serialized_len: self.codec.dump(value).len().saturating_sub(FRAME_BYTES),
            list,
        })
    }

    /// What `DEBUG OBJECT` and tests want to know of a key.
    pub fn key_info(&self, call: &Call<'_>, key: &[u8]) -> Option<KeyInfo> {
        let place = self.place(call, key);
        let entry = self.dbs.get(usize::from(call.db))?.find(place, key)?;
        if call.mode != Mode::Apply && entry.expire_at_ms() < call.now_ms {
            return None;
        }
        Some(KeyInfo {
            encoding: entry.encoding(),
            expire_at_ms: entry.expiry(),
            idle_s: entry.idle_s(call.now_ms),
            entry_bytes: entry.own_bytes(),
            value_bytes: entry.value().memory(),
        })
    }
}

/// What `DEBUG OBJECT` says of a value beside its [`KeyInfo`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ValueInfo {
    /// Bytes of the value in a snapshot.
    pub serialized_len: usize,
    /// A large list's elements, nodes and bytes in nodes.
    pub list: Option<(usize, usize, usize)>,
}

/// See [`Engine::key_info`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyInfo {
    /// `OBJECT ENCODING`.
    pub encoding: &'static str,
    /// Unix milliseconds.
    pub expire_at_ms: Option<u64>,
    /// Seconds since the last access.
    pub idle_s: u32,
    /// Bytes of the key's entry, without what a collection owns beside it.
    pub entry_bytes: usize,
    /// About the bytes that a collection takes beside the entry.
    pub value_bytes: usize,
}

fn value_digest(entry: &Entry, digest: &mut ValueDigest) {
    let value: ValueRef<'_> = entry.value();
    digest.mix(&value.ty().number().to_be_bytes());
    value.digest(digest);
    if entry.expiry().is_some() {
        digest.xor(b"!!expire!!");
    }
}
