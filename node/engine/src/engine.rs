//! The engine: looking keys up, changing them, executing commands.

use std::ptr::NonNull;
use std::sync::{Arc, OnceLock};

use holdfast_resp::write;
use smallvec::SmallVec;

use crate::call::{Call, CmdError, Mode, Outcome};
use crate::events::EventClass;
use crate::evict::{self, Eviction, Pool};
use crate::keyspace::entry::{Entry, EntryMut, NEVER};
use crate::keyspace::field_index;
use crate::keyspace::hash::KeyHasher;
use crate::keyspace::slabs::Slabs;
use crate::keyspace::{Db, Place, place};
use crate::slots::SlotSet;
use crate::snapshot::Snapshots;
use crate::spec::{Command, Flags, NameIndex};
use crate::types::TypeLimits;
use crate::value::{DataType, StrRef, Value, ValueRef};

/// How an engine is set up. `cluster`, `databases` and `hash_seed` are fixed for its life, the rest may be changed with
/// [`Engine::config_mut`].
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// Keys are kept by slot.
    pub cluster: bool,
    /// Number of databases.
    pub databases: u16,
    /// Secret seed of the key hash, so that strangers cannot make keys collide.
    pub hash_seed: [u64; 2],
    /// The longest string (`proto-max-bulk-len`).
    pub bulk_bytes_max: usize,
    /// Expired keys are propagated as `UNLINK` instead of `DEL` (`lazyfree-lazy-expire`).
    pub lazyfree_lazy_expire: bool,
    /// `DEL` frees in the background as `UNLINK` does (`lazyfree-lazy-user-del`).
    pub lazyfree_lazy_user_del: bool,
    /// A key that is deleted because it has become empty is propagated as `UNLINK` instead of `DEL` (`lazyfree-lazy-server-del`).
    pub lazyfree_lazy_server_del: bool,
    /// The longest reply of a command that repeats what it draws (`HRANDFIELD h -1000000000`), in bytes: beyond it
    /// the command fails.
    pub reply_bytes_max: usize,
    /// Strings from so many bytes on are sent without a copy, where that is possible (`min-string-size-avoid-copy-reply`). Those that lie in their
    /// key's entry are copied whatever this says.
    pub shared_bytes_min: usize,
    /// The longest HyperLogLog in the sparse form, its header included (`hll-sparse-max-bytes`).
    pub hll_sparse_bytes_max: usize,
    /// Encodings of small values.
    pub limits: TypeLimits,
    /// Which keys go when memory is full, and how accesses are noted for that.
    pub eviction: Eviction,
}

impl Default for EngineConfig {
    fn default() -> Self {
        EngineConfig {
            cluster: false,
            databases: 16,
            hash_seed: [0x243f_6a88_85a3_08d3, 0x1319_8a2e_0370_7344],
            bulk_bytes_max: 512 * 1024 * 1024,
            lazyfree_lazy_expire: true,
            lazyfree_lazy_user_del: true,
            lazyfree_lazy_server_del: true,
            reply_bytes_max: 1 << 30,
            shared_bytes_min: 16 * 1024,
            hll_sparse_bytes_max: 3000,
            limits: TypeLimits::default(),
            eviction: Eviction::default(),
        }
    }
}

/// Turns values into the payloads of `DUMP` and back. Implemented by `holdfast-rdb`.
pub trait ValueCodec: Send {
    /// The payload of a value, with version and checksum.
    fn dump(&self, value: ValueRef<'_>) -> Vec<u8>;

    /// The value in a payload.
    ///
    /// # Errors
    /// Version or checksum are wrong, or the content is malformed.
    fn load(&self, payload: &[u8]) -> Result<Value, BadPayload>;
}

/// A `DUMP` payload that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BadPayload {
    /// Version or checksum are wrong.
    VersionOrChecksum,
    /// The content is malformed, or of a type that is not known here.
    Malformed(String),
}

/// What happens to a key's expiry when it gets a new value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ttl {
    /// It goes.
    Clear,
    /// It stays.
    Keep,
    /// It becomes this, in Unix milliseconds.
    At(u64),
}

/// What the engine counts, for `INFO`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EngineStats {
    /// Keys deleted because their time had passed.
    pub expired_keys: u64,
    /// Fields of hashes deleted because their time had passed.
    pub expired_fields: u64,
    /// Keys deleted because memory was full.
    pub evicted_keys: u64,
    /// Values, or keys of flushed databases, freed in small steps after they had been removed.
    pub lazy_freed: u64,
    /// Reads that found a key.
    pub keyspace_hits: u64,
    /// Reads that found none.
    pub keyspace_misses: u64,
    /// Pieces of memory that were moved to lie closer.
    pub defrag_moved: u64,
    /// Pieces that were looked at for that, and left where they were.
    pub defrag_left: u64,
}

/// Keys whose memory is being fetched: see [`Engine::prefetch_keys`]. What it knows of them may be outdated when commands have been executed
/// since; then the wrong memory is fetched.
#[derive(Debug, Default)]
pub struct Prefetch {
    db: u16,
    places: SmallVec<[Place; Engine::PREFETCH_MAX]>,
    /// Slot, group, and place in the group.
    entries: SmallVec<[(u16, usize, usize); Engine::PREFETCH_MAX]>,
}

/// The keyspace and all data commands.
pub struct Engine {
    pub(crate) config: EngineConfig,
    pub(crate) codec: Box<dyn ValueCodec>,
    pub(crate) hasher: KeyHasher,
    pub(crate) dbs: Vec<Db>,
    pub(crate) snapshots: Snapshots,
    pub(crate) garbage: crate::maintenance::Garbage,
    /// Slots whose keys no client may see. `None` when there are none.
    pub(crate) hidden: Option<SlotSet>,
    /// The last slots of the runs of slots that one node of the cluster owns, in order.
    pub(crate) slot_run_ends: Vec<u16>,
    /// For each database, the slot where active expiry goes on.
    pub(crate) expiry_resume: Vec<usize>,
    pub(crate) stats: EngineStats,
    /// Keys that may have to go when memory is full.
    pub(crate) evictable: Pool,
    /// Accesses are not noted: see [`set_no_touch`](Self::set_no_touch).
    no_touch: bool,
    /// Memory that is taken over if it becomes a value: see [`offer`](Self::offer).
    offered: Vec<Arc<Vec<u8>>>,
    /// The database that had a key evicted at random last.
    pub(crate) evict_db: usize,
    /// What is being moved together.
    pub(crate) defrag: Option<crate::defrag::Run>,
    /// The memory of all entries: declared last, so that it is dropped last.
    pub(crate) slabs: Slabs,
}

impl EngineConfig {
    /// The command that propagates the deletion of a key by another command.
    pub(crate) fn server_del(&self) -> &'static [u8] {
        if self.lazyfree_lazy_server_del {
            b"UNLINK"
        } else {
            b"DEL"
        }
    }
}

impl Engine {
    /// An empty engine.
    pub fn new(config: EngineConfig, codec: Box<dyn ValueCodec>) -> Engine {
        let hasher = KeyHasher::new(config.hash_seed);
        let count = usize::from(config.databases.max(1));
        Engine {
            hasher,
            dbs: (0..count)
                .map(|_| Db::new(config.cluster, hasher))
                .collect(),
            snapshots: Snapshots::default(),
            garbage: Default::default(),
            hidden: None,
            slot_run_ends: Vec::new(),
            expiry_resume: vec![0; count],
            stats: EngineStats::default(),
            config,
            codec,
            evictable: Pool::default(),
            no_touch: false,
            offered: Vec::new(),
            evict_db: 0,
            defrag: None,
            slabs: Slabs::default(),
        }
    }

    /// The configuration.
    pub fn config(&self) -> &EngineConfig {
        &self.config
    }

    /// Says which slots are the last of runs that one node of the cluster owns, in order: there `CLUSTERSCAN` hands over.
    pub fn set_slot_run_ends(&mut self, ends: Vec<u16>) {
        self.slot_run_ends = ends;
    }

    /// Changes the configuration. Do not change what is fixed.
    pub fn config_mut(&mut self) -> &mut EngineConfig {
        &mut self.config
    }

    /// Has `DUMP` and `RESTORE` use another codec.
    pub fn set_codec(&mut self, codec: Box<dyn ValueCodec>) {
        self.codec = codec;
    }

    /// The limits of the compact encodings; a copy, so that values can be borrowed from the engine meanwhile.
    pub fn limits(&self) -> TypeLimits {
        self.config.limits
    }

    /// Arguments that have memory of their own are offered from so many bytes on.
    pub const OFFER_BYTES_MIN: usize = 32 * 1024;

    /// Offers arguments of the next command that have memory of their own: where all of one becomes a key's string, that memory does, and is not copied.
    /// It should not be much larger than what is in it. Take the offer back with [`withdraw`](Self::withdraw).
    pub fn offer(&mut self, arguments: impl Iterator<Item = Arc<Vec<u8>>>) {
        let large = |text: &Arc<Vec<u8>>| text.len() >= Engine::OFFER_BYTES_MIN;
        self.offered.extend(arguments.filter(large));
    }

    /// The command has been executed: nothing is offered any more.
    pub fn withdraw(&mut self) {
        self.offered.clear();
    }

    /// Whether the commands that follow leave no note of their accesses (`CLIENT NO-TOUCH`).
    /// Returns what was in force.
    pub fn set_no_touch(&mut self, on: bool) -> bool {
        std::mem::replace(&mut self.no_touch, on)
    }

    /// Bytes of memory that entries use: keys, strings, references.
    pub fn entry_bytes(&self) -> usize {
        self.slabs.live_bytes()
    }

    /// About the bytes that the tables of a database take beside its entries.
    pub fn table_bytes(&self, db: u16) -> usize {
        let Some(db) = self.dbs.get(usize::from(db)) else {
            return 0;
        };
        let tables = (0..db.tables_len()).filter_map(|slot| db.table(slot));
        tables.map(|t| t.overhead_bytes()).sum()
    }

    /// Bytes of memory taken for entries that no entry uses now.
    pub fn unused_bytes(&self) -> usize {
        self.slabs.free_bytes()
    }

    /// Gives unused memory back to the allocator (`MEMORY PURGE`).
    pub fn purge_memory(&mut self) {
        self.slabs.purge();
    }

    /// What has been counted since the start or the last reset.
    pub fn stats(&self) -> EngineStats {
        self.stats
    }

    /// `CONFIG RESETSTAT`.
    pub fn reset_stats(&mut self) {
        self.stats = EngineStats::default();
    }

    /// All data commands, in no particular order.
    pub fn commands() -> &'static [&'static Command] {
        static ALL: OnceLock<Vec<&'static Command>> = OnceLock::new();
        ALL.get_or_init(|| crate::commands::TABLES.iter().copied().flatten().collect())
    }

    /// The data command of that name, in any case.
    pub fn command(name: &[u8]) -> Option<&'static Command> {
        static INDEX: OnceLock<NameIndex<&'static Command>> = OnceLock::new();
        INDEX
            .get_or_init(|| NameIndex::new(Engine::commands().iter().map(|c| (c.spec.name, *c))))
            .get(name)
            .copied()
    }

    /// Executes a command. For a container give the container; the subcommand is found here.
    ///
    /// The reply is written to `call.reply`, effects are added to `call.fx`.
    #[inline]
    pub fn execute(&mut self, command: &'static Command, call: &mut Call<'_>) -> Outcome {
        let command = if command.subcommands.is_empty() {
            command
        } else {
            command.resolve(call.argv)
        };
        let reply_start = call.reply.len();
        let dirty = call.fx.dirty();
        call.fx.explicit = false;
        // What `SCAN` and `RANDOMKEY` find expired on their way are keys that nobody has named: each goes by itself.
        let is_unit = !command.spec.flags.has(Flags::TOUCHES_ARBITRARY_KEYS);
        if is_unit {
            call.fx.begin_unit();
        }
        let result = if command.spec.arity_ok(call.argv.len()) {
            (command.run)(self, call)
        } else {
            Err(CmdError::wrong_arity(command.spec.name))
        };
        let outcome = match result {
            Ok(outcome) => outcome,
            Err(error) => {
                call.reply.truncate(reply_start);
                if let Some(blobs) = &mut call.blobs {
                    blobs.truncate(reply_start);
                }
                write::error(call.reply, error.as_bytes());
                Outcome::Failed
            }
        };
        if call.fx.enabled() && call.fx.dirty() != dirty && !call.fx.explicit {
            call.fx.propagate(call.db, call.argv);
        }
        if is_unit {
            call.fx.end_unit();
        }
        outcome
    }

    /// Has the memory of up to [`PREFETCH_MAX`](Self::PREFETCH_MAX) keys of a database fetched, of which commands are about to be executed. Changes nothing.
    ///
    /// This is the first of three steps; each needs what the one before it has asked for. Who has something else to do in between
    /// does not wait for memory: [`prefetch_entries`](Self::prefetch_entries), and then [`prefetch_values`](Self::prefetch_values).
    pub fn prefetch_keys<'a>(&self, db: u16, keys: impl Iterator<Item = &'a [u8]>) -> Prefetch {
        let mut places = SmallVec::new();
        if let Some(known) = self.dbs.get(usize::from(db))
            && known.is_worth_prefetching()
        {
            let place = |key| place(self.hasher, self.config.cluster, None, key);
            places.extend(keys.take(Self::PREFETCH_MAX).map(place));
            known.prefetch_groups(&places);
        }
        Prefetch {
            db,
            places,
            entries: SmallVec::new(),
        }
    }

    /// The second step.
    pub fn prefetch_entries(&self, keys: &mut Prefetch) {
        if let Some(db) = self.dbs.get(usize::from(keys.db)) {
            keys.entries.extend(db.prefetch_entries(&keys.places));
        }
    }

    /// The third step.
    pub fn prefetch_values(&self, keys: &Prefetch) {
        if let Some(db) = self.dbs.get(usize::from(keys.db)) {
            db.prefetch_values(&keys.entries);
        }
    }

    /// Keys that [`prefetch_keys`](Self::prefetch_keys) takes at once.
    pub const PREFETCH_MAX: usize = crate::keyspace::PREFETCH_MAX;

    /// Where a key of the call is to be found.
    #[inline]
    pub(crate) fn place(&self, call: &Call<'_>, key: &[u8]) -> Place {
        place(self.hasher, self.config.cluster, call.slot, key)
    }

    #[inline]
    fn find(&self, db: u16, place: Place, key: &[u8]) -> Option<&Entry> {
        self.dbs.get(usize::from(db))?.find(place, key)
    }

    /// The entry of a key unless its time has passed; then it is deleted, if that is this call's right.
    ///
    /// A pointer instead of a reference, because the borrow checker does not yet accept a reference that is returned on
    /// one branch while the other goes on using `self`. It is valid until the keyspace is next used.
    #[inline]
    fn live_at(&mut self, call: &mut Call<'_>, place: Place, key: &[u8]) -> Option<NonNull<Entry>> {
        let entry = self
            .dbs
            .get_mut(usize::from(call.db))?
            .find_mut(place, key)?;
        if is_live(entry, call) {
            return Some(NonNull::from(entry));
        }
        if call.mode == Mode::Primary {
            self.expire_now(call.db, place, key, call.fx);
        }
        None
    }

    /// The entry that [`live_at`](Self::live_at) has found.
    ///
    /// # Safety
    /// The keyspace (`self.dbs`) must not have been used since.
    #[inline]
    unsafe fn entry_at(&mut self, mut at: NonNull<Entry>) -> &mut Entry {
        // SAFETY: the entry lies in `self.dbs`, which is unchanged as the caller promises, and which stays borrowed
        // for as long as the returned reference lives.
        unsafe { at.as_mut() }
    }

    /// The entry of a key unless its time has passed; then it is deleted, if that is this call's right.
    #[inline]
    pub(crate) fn live(
        &mut self,
        call: &mut Call<'_>,
        place: Place,
        key: &[u8],
    ) -> Option<&mut Entry> {
        let at = self.live_at(call, place, key)?;
        // SAFETY: found just now.
        Some(unsafe { self.entry_at(at) })
    }

    /// As [`live`](Self::live), with the value secured for the running snapshots: it may be changed.
    #[inline]
    pub(crate) fn live_for_change(
        &mut self,
        call: &mut Call<'_>,
        place: Place,
        key: &[u8],
    ) -> Option<EntryMut<'_>> {
        let mut at = self.live_at(call, place, key)?;
        // SAFETY: found just now. Snapshots and slabs are other fields: to secure an entry is no use of `self.dbs`, and the
        // returned reference borrows all of `self`.
        let entry = unsafe { at.as_mut() };
        self.snapshots.secure(call.db, place.slot, entry);
        Some(EntryMut {
            entry,
            slabs: &mut self.slabs,
        })
    }

    /// Deletes a key because its time has passed, with its effect.
    pub(crate) fn expire_now(
        &mut self,
        db: u16,
        place: Place,
        key: &[u8],
        fx: &mut crate::Effects,
    ) {
        self.remove(db, place, key);
        self.stats.expired_keys += 1;
        fx.notify(EventClass::EXPIRED, "expired", db, key);
        fx.propagate(db, &[self.verb_of_expiry(), key]);
        fx.touch(db, key);
    }

    /// The command that copies are sent for a key that has expired.
    pub(crate) fn verb_of_expiry(&self) -> &'static [u8] {
        if self.config.lazyfree_lazy_expire {
            b"UNLINK"
        } else {
            b"DEL"
        }
    }

    /// To be called after fields with an expiry have come or gone: lists the hash by the time at which the first is due.
    pub(crate) fn note_fields(&mut self, call: &Call<'_>, key: &[u8]) {
        let place = self.place(call, key);
        if let Some(db) = self.dbs.get_mut(usize::from(call.db)) {
            db.note_fields(place, key);
        }
    }

    /// Number of hashes in a database that have fields with an expiry, hidden ones included.
    pub fn expiring_hashes_len(&self, db: u16) -> usize {
        let db = self.dbs.get(usize::from(db));
        db.map_or(0, |db| db.fields().len())
    }

    /// Removes a key, expired or not, once the snapshots have it. Its value is freed in small steps if it is large.
    pub(crate) fn remove(&mut self, db: u16, place: Place, key: &[u8]) -> bool {
        let Some(space) = self.dbs.get_mut(usize::from(db)) else {
            return false;
        };
        let Some(mut entry) = space.remove(place, key, &mut self.slabs) else {
            return false;
        };
        self.snapshots.secure(db, place.slot, &mut entry);
        self.garbage.values.extend(entry.take_if_large());
        entry.free(&mut self.slabs);
        true
    }

    /// The value of a key, to read. Counts as an access; deletes the key if its time has passed.
    #[inline]
    pub fn lookup_read(&mut self, call: &mut Call<'_>, key: &[u8]) -> Option<ValueRef<'_>> {
        self.lookup_entry(call, key).map(|entry| entry.value())
    }

    /// As above, of its entry. The value is not to be changed.
    #[inline]
    fn lookup_entry(&mut self, call: &mut Call<'_>, key: &[u8]) -> Option<&mut Entry> {
        let place = self.place(call, key);
        let Some(at) = self.live_at(call, place, key) else {
            self.count_miss(call, key);
            return None;
        };
        self.stats.keyspace_hits += 1;
        let how = self.config.eviction;
        let note = !self.no_touch;
        // SAFETY: found just now; counting is no use of the keyspace.
        let entry = unsafe { self.entry_at(at) };
        if note {
            evict::accessed(&how, call, entry);
        }
        Some(entry)
    }

    /// Replies with the string of a key, without a copy of it if it is long, or null. Whether it is there.
    ///
    /// # Errors
    /// `WRONGTYPE` if it is of another type; nothing is replied then.
    #[inline]
    pub(crate) fn reply_str(&mut self, call: &mut Call<'_>, key: &[u8]) -> Result<bool, CmdError> {
        let bytes_min = match call.blobs {
            Some(_) => self.config.shared_bytes_min,
            None => usize::MAX,
        };
        let Some(entry) = self.lookup_entry(call, key) else {
            call.reply_null();
            return Ok(false);
        };
        match entry.value() {
            ValueRef::Str(StrRef::Int(value)) => call.reply_bulk_int(value),
            ValueRef::Str(StrRef::Bytes(bytes)) if bytes.len() < bytes_min => {
                call.reply_bulk(bytes);
            }
            // Its bytes stay what they are: snapshots need not have it first.
            ValueRef::Str(StrRef::Bytes(_)) => match entry.share(bytes_min) {
                Some(bytes) => call.reply_shared(bytes),
                None => {
                    let text = entry.as_str().map(StrRef::text);
                    call.reply_bulk(text.as_deref().unwrap_or_default());
                }
            },
            _ => return Err(CmdError::WRONG_TYPE),
        }
        Ok(true)
    }

    /// Counts a read that did not find its key.
    fn count_miss(&mut self, call: &mut Call<'_>, key: &[u8]) {
        self.stats.keyspace_misses += 1;
        call.notify(EventClass::KEY_MISS, "keymiss", key);
    }

    /// The entry of a key for a command that asks about the key and not for its value: a hit or a miss, but no access.
    pub(crate) fn asked(&mut self, call: &mut Call<'_>, key: &[u8]) -> Option<&Entry> {
        let place = self.place(call, key);
        let Some(at) = self.live_at(call, place, key) else {
            self.count_miss(call, key);
            return None;
        };
        self.stats.keyspace_hits += 1;
        // SAFETY: found just now; counting is no use of the keyspace.
        Some(unsafe { self.entry_at(at) })
    }

    /// The value of a key, to read, through a shared borrow: for commands that look at several keys at once.
    /// An expired key is absent (call [`touch_key`](Self::touch_key) on each key first, so that it is deleted and the access
    /// counted).
    pub fn peek_value(&self, call: &Call<'_>, key: &[u8]) -> Option<ValueRef<'_>> {
        self.find(call.db, self.place(call, key), key)
            .filter(|entry| is_live(entry, call))
            .map(Entry::value)
    }

    /// Counts an access to a key and deletes it if its time has passed. Whether it is there.
    pub fn touch_key(&mut self, call: &mut Call<'_>, key: &[u8]) -> bool {
        self.lookup_read(call, key).is_some()
    }

    /// Whether a key is there; deletes it if its time has passed. Does not count as an access.
    pub fn exists(&mut self, call: &mut Call<'_>, key: &[u8]) -> bool {
        let place = self.place(call, key);
        self.live(call, place, key).is_some()
    }

    /// The value of a key as a type, to read.
    ///
    /// # Errors
    /// `WRONGTYPE` if it is of another type.
    pub fn read<T: DataType>(
        &mut self,
        call: &mut Call<'_>,
        key: &[u8],
    ) -> Result<Option<&T>, CmdError> {
        match self.lookup_read(call, key) {
            None => Ok(None),
            Some(value) => T::from_ref(value).map(Some).ok_or(CmdError::WRONG_TYPE),
        }
    }

    /// As [`read`](Self::read), for a command that looks before it writes: an access, but neither a hit nor a miss.
    ///
    /// # Errors
    /// `WRONGTYPE` if it is of another type.
    pub fn look<T: DataType>(
        &mut self,
        call: &mut Call<'_>,
        key: &[u8],
    ) -> Result<Option<&T>, CmdError> {
        match self.look_any(call, key) {
            None => Ok(None),
            Some(value) => T::from_ref(value).map(Some).ok_or(CmdError::WRONG_TYPE),
        }
    }

    /// As [`look`](Self::look), for a value of any type.
    pub(crate) fn look_any(&mut self, call: &mut Call<'_>, key: &[u8]) -> Option<ValueRef<'_>> {
        let place = self.place(call, key);
        let at = self.live_at(call, place, key)?;
        let (how, note) = (self.config.eviction, !self.no_touch);
        // SAFETY: found just now.
        let entry = unsafe { self.entry_at(at) };
        if note {
            evict::accessed(&how, call, entry);
        }
        Some(entry.value())
    }

    /// As [`read`](Self::read) through a shared borrow; see [`peek_value`](Self::peek_value).
    ///
    /// # Errors
    /// `WRONGTYPE` if it is of another type.
    pub fn peek<T: DataType>(&self, call: &Call<'_>, key: &[u8]) -> Result<Option<&T>, CmdError> {
        match self.peek_value(call, key) {
            None => Ok(None),
            Some(value) => T::from_ref(value).map(Some).ok_or(CmdError::WRONG_TYPE),
        }
    }

    /// The string of a key, to read.
    ///
    /// # Errors
    /// `WRONGTYPE` if it is of another type.
    #[inline]
    pub fn read_str(
        &mut self,
        call: &mut Call<'_>,
        key: &[u8],
    ) -> Result<Option<StrRef<'_>>, CmdError> {
        match self.lookup_read(call, key) {
            None => Ok(None),
            Some(ValueRef::Str(s)) => Ok(Some(s)),
            Some(_) => Err(CmdError::WRONG_TYPE),
        }
    }

    /// The value of a key as a type, to change in place. Running snapshots get the value as it is now before this
    /// returns. Report the change with `Call::modified`; if the value is empty afterwards, delete the key.
    ///
    /// # Errors
    /// `WRONGTYPE` if it is of another type.
    pub fn write<T: DataType>(
        &mut self,
        call: &mut Call<'_>,
        key: &[u8],
    ) -> Result<Option<&mut T>, CmdError> {
        let place = self.place(call, key);
        let (how, note) = (self.config.eviction, !self.no_touch);
        match self.live_for_change(call, place, key) {
            None => Ok(None),
            Some(EntryMut { entry, .. }) => {
                if note {
                    evict::accessed(&how, call, entry);
                }
                T::from_mut(entry.value_mut())
                    .map(Some)
                    .ok_or(CmdError::WRONG_TYPE)
            }
        }
    }

    /// As [`write`](Self::write), but an absent key is created with `empty()` first: the command must then put something
    /// into it. Keys created with a list or sorted set are reported as ready.
    ///
    /// # Errors
    /// `WRONGTYPE` if it is of another type.
    pub fn write_or_create<T: DataType>(
        &mut self,
        call: &mut Call<'_>,
        key: &[u8],
        empty: impl FnOnce() -> T,
    ) -> Result<&mut T, CmdError> {
        let place = self.place(call, key);
        let (how, note) = (self.config.eviction, !self.no_touch);
        let found = self.live_for_change(call, place, key);
        let entry = match found.map(|e| NonNull::from(e.entry)) {
            Some(at) => {
                // SAFETY: found just now.
                let entry = unsafe { self.entry_at(at) };
                if note {
                    evict::accessed(&how, call, entry);
                }
                entry
            }
            None => self.insert(call, place, key, empty().into_value()),
        };
        T::from_mut(entry.value_mut()).ok_or(CmdError::WRONG_TYPE)
    }

    /// Adds a key that is known to be absent, without expiry. The call's database must exist.
    pub(crate) fn insert(
        &mut self,
        call: &mut Call<'_>,
        place: Place,
        key: &[u8],
        value: Value,
    ) -> &mut Entry {
        if value.ty().unblocks() {
            call.fx.signal_ready(call.db, key);
        }
        let mut entry = Entry::new(&mut self.slabs, key, value, self.snapshots.epoch());
        evict::created(&self.config.eviction, call.now_ms, &mut entry);
        call.notify(EventClass::NEW, "new", key);
        self.add(call.db, place, entry)
    }

    /// Puts an entry in whose key is known to be absent.
    #[inline]
    pub(crate) fn add(&mut self, db: u16, place: Place, entry: Entry) -> &mut Entry {
        let at = usize::from(db).min(self.dbs.len() - 1);
        self.dbs[at].insert(place, entry, &mut self.slabs)
    }

    /// Gives a key a new value, of any type, whatever it held. Reports nothing but readiness.
    pub fn set_value(&mut self, call: &mut Call<'_>, key: &[u8], value: Value, ttl: Ttl) {
        let place = self.place(call, key);
        if value.ty().unblocks() {
            call.fx.signal_ready(call.db, key);
        }
        let (how, note) = (self.config.eviction, !self.no_touch);
        match self.live_for_change(call, place, key) {
            Some(mut entry) => {
                if note {
                    evict::accessed(&how, call, &mut entry);
                }
                let noted = field_index::noted(&entry);
                let old = entry.take_if_large();
                entry.set_value(value);
                let due = field_index::note(&mut entry);
                self.garbage.values.extend(old);
                if let Some(db) = self.dbs.get_mut(usize::from(call.db)) {
                    db.fields_mut().remove(noted, place);
                    db.fields_mut().insert(due, place);
                }
            }
            None => {
                self.insert(call, place, key, value);
            }
        }
        self.set_ttl(call, place, key, ttl);
    }

    /// The offered memory that these bytes are all of.
    #[cold]
    fn offered_at(&self, bytes: &[u8]) -> Option<Arc<Vec<u8>>> {
        let mut offered = self.offered.iter();
        offered.find(|text| std::ptr::eq(&text[..], bytes)).cloned()
    }

    /// Gives a key a string, whatever it held; kept as an integer where that is possible.
    #[inline]
    pub(crate) fn set_string(
        &mut self,
        call: &mut Call<'_>,
        place: Place,
        key: &[u8],
        bytes: &[u8],
        ttl: Ttl,
    ) {
        let int = if bytes.len() <= 20 {
            holdfast_resp::parse_i64(bytes)
        } else {
            None
        };
        let offered = if bytes.len() >= Engine::OFFER_BYTES_MIN {
            self.offered_at(bytes)
        } else {
            None
        };
        let (how, note) = (self.config.eviction, !self.no_touch);
        if let Some(mut entry) = self.live_for_change(call, place, key) {
            if note {
                evict::accessed(&how, call, &mut entry);
            }
            let noted = field_index::noted(&entry);
            let old = entry.take_if_large();
            match (int, offered) {
                (Some(value), _) => entry.set_int(value),
                (None, None) => entry.set_str(bytes),
                (None, Some(text)) => entry.set_shared(text),
            }
            let expires = entry.expire_at_ms() != NEVER;
            if let Some(old) = old {
                self.garbage.values.push(old);
            }
            if expires || ttl != Ttl::Clear {
                self.set_ttl(call, place, key, ttl);
            }
            if let Some(db) = self
                .dbs
                .get_mut(usize::from(call.db))
                .filter(|_| noted != NEVER)
            {
                db.fields_mut().remove(noted, place);
            }
            return;
        }
        let epoch = self.snapshots.epoch();
        let mut entry = match (int, offered) {
            (Some(value), _) => Entry::new_int(&mut self.slabs, key, value, epoch),
            (None, None) => Entry::new_str(&mut self.slabs, key, bytes, epoch),
            (None, Some(text)) => Entry::new_shared(&mut self.slabs, key, text, epoch),
        };
        evict::created(&how, call.now_ms, &mut entry);
        call.notify(EventClass::NEW, "new", key);
        self.add(call.db, place, entry);
        if let Ttl::At(_) = ttl {
            self.set_ttl(call, place, key, ttl);
        }
    }

    /// Changes the expiry of a key that is there. Call it only with the value secured.
    pub(crate) fn set_ttl(&mut self, call: &mut Call<'_>, place: Place, key: &[u8], ttl: Ttl) {
        let at = match ttl {
            Ttl::Keep => return,
            Ttl::Clear => NEVER,
            Ttl::At(at) => at.min(NEVER - 1),
        };
        let db = usize::from(call.db).min(self.dbs.len() - 1);
        self.dbs[db].set_expiry(place, key, at, &mut self.slabs);
    }

    /// Takes the value of a key out, expired or not, with what its expiry was.
    pub(crate) fn take(&mut self, db: u16, place: Place, key: &[u8]) -> Option<(Value, Ttl)> {
        let space = self.dbs.get_mut(usize::from(db))?;
        let mut entry = space.remove(place, key, &mut self.slabs)?;
        self.snapshots.secure(db, place.slot, &mut entry);
        let ttl = entry.expiry().map_or(Ttl::Clear, Ttl::At);
        Some((entry.into_value(&mut self.slabs), ttl))
    }

    /// Deletes a key. Whether it was there (an expired one was not). Reports nothing.
    pub fn delete(&mut self, call: &mut Call<'_>, key: &[u8]) -> bool {
        let place = self.place(call, key);
        self.live(call, place, key).is_some() && self.remove(call.db, place, key)
    }

    /// Reports that elements were taken out of a key's value. If nothing is left, the key is deleted.
    pub(crate) fn removed_from(
        &mut self,
        call: &mut Call<'_>,
        key: &[u8],
        (class, event): (EventClass, &'static str),
        is_empty: bool,
        changes: u64,
    ) {
        call.notify(class, event, key);
        if is_empty {
            self.delete(call, key);
            call.notify_del(key);
        }
        call.modified(key, changes);
    }

    /// Deletes a key that a command would have stored its empty result in. Whether it was there.
    pub(crate) fn delete_and_report(&mut self, call: &mut Call<'_>, key: &[u8]) -> bool {
        let there = self.delete(call, key);
        if there {
            call.modified(key, 1);
            call.notify_del(key);
        }
        there
    }

    /// When a key expires, in Unix milliseconds, if it is there and does. Does not count as an access.
    pub fn expiry(&mut self, call: &mut Call<'_>, key: &[u8]) -> Option<u64> {
        let place = self.place(call, key);
        self.live(call, place, key)?.expiry()
    }

    /// Number of keys of a database that clients may see.
    pub fn dbsize(&self, db: u16) -> usize {
        let Some(db) = self.dbs.get(usize::from(db)) else {
            return 0;
        };
        db.len() - self.hidden.as_ref().map_or(0, |hidden| db.count_in(hidden))
    }

    /// Number of keys of a database with an expiry, hidden ones included.
    pub fn expiries_len(&self, db: u16) -> usize {
        self.dbs.get(usize::from(db)).map_or(0, Db::expiries_len)
    }

    pub(crate) fn is_hidden(&self, slot: u16) -> bool {
        self.hidden
            .as_ref()
            .is_some_and(|hidden| hidden.contains(slot))
    }
}

/// Whether a key is there as far as this call is concerned.
#[inline]
pub(crate) fn is_live(entry: &Entry, call: &Call<'_>) -> bool {
    entry.expire_at_ms() >= call.now_ms || call.mode == Mode::Apply
}
