//! Putting in what a file holds, many keys at a time.
//!
//! Whoever reads the file gathers keys in a [`LoadBatch`], on a thread of its own where that matters: their names and short strings lie in
//! one piece of memory, and where each belongs is computed there. The engine then only has to put them in, and asks
//! for the memory that it will look at some keys ahead: nearly all of the time would else be spent waiting for it.

use crate::engine::Engine;
use crate::evict::{self, AccessNote};
use crate::keyspace::entry::{Entry, INLINE_MAX, NEVER};
use crate::keyspace::hash::KeyHasher;
use crate::keyspace::table::Table;
use crate::keyspace::{Place, place};
use crate::slots::SLOTS;
use crate::value::{StrValue, Value};
use holdfast_resp::parse_i64;

/// Computes where keys belong in an engine; it may be given to another thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placer {
    hasher: KeyHasher,
    cluster: bool,
}

/// What a key holds, on its way.
#[derive(Debug)]
enum Content {
    /// A string of so many bytes, which follow the key's.
    Bytes(u32),
    Int(i64),
    Other(Value),
}

/// A key on its way.
#[derive(Debug)]
struct LoadKey {
    hash: u64,
    at: u32,
    len: u32,
    db: u32,
    slot: u16,
    access: Option<AccessNote>,
    expire_at_ms: u64,
    content: Content,
}

/// Keys on their way into an engine. See the module's documentation.
#[derive(Debug)]
pub struct LoadBatch {
    placer: Placer,
    bytes: Vec<u8>,
    keys: Vec<LoadKey>,
}

/// What is known of a key beside its value.
#[derive(Clone, Copy, Debug)]
pub struct LoadHead<'a> {
    /// Its database. That there is one of this number is found out when it is put in.
    pub db: u32,
    /// Its name.
    pub key: &'a [u8],
    /// Unix time in milliseconds.
    pub expire_at_ms: Option<u64>,
    /// What the file says of accesses to it.
    pub access: Option<AccessNote>,
}

impl LoadBatch {
    /// An empty batch of keys for the engine that the placer is of.
    pub fn new(placer: Placer) -> Self {
        LoadBatch {
            placer,
            bytes: Vec::new(),
            keys: Vec::new(),
        }
    }

    /// Number of keys in it.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether no key is in it.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Takes all out and keeps the memory, unless a very long key has made it large.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(KEPT_BYTES_MAX);
        self.keys.clear();
    }

    /// Adds a key with a string.
    pub fn push_str(&mut self, head: &LoadHead<'_>, value: &[u8]) {
        let content = match parse_i64(value) {
            Some(value) => Content::Int(value),
            None if head.key.len() + value.len() > INLINE_MAX => {
                Content::Other(Value::Str(StrValue::Bytes(value.to_vec())))
            }
            None => Content::Bytes(value.len() as u32),
        };
        let is_inline = matches!(content, Content::Bytes(_));
        self.push_content(head, content);
        if is_inline {
            self.bytes.extend_from_slice(value);
        }
    }

    /// Adds a key with an integer.
    pub fn push_int(&mut self, head: &LoadHead<'_>, value: i64) {
        self.push_content(head, Content::Int(value));
    }

    /// Adds a key with any value.
    pub fn push(&mut self, head: &LoadHead<'_>, value: Value) {
        match value {
            Value::Str(StrValue::Int(value)) => self.push_int(head, value),
            Value::Str(StrValue::Bytes(bytes)) if bytes.len() <= INLINE_MAX => {
                self.push_str(head, &bytes);
            }
            value => self.push_content(head, Content::Other(value)),
        }
    }

    fn push_content(&mut self, head: &LoadHead<'_>, content: Content) {
        let Place { slot, hash } = place(self.placer.hasher, self.placer.cluster, None, head.key);
        let at = u32::try_from(self.bytes.len());
        let len = u32::try_from(head.key.len());
        let (Ok(at), Ok(len)) = (at, len) else {
            unreachable!("a batch of {} bytes", self.bytes.len());
        };
        self.keys.push(LoadKey {
            hash,
            at,
            len,
            db: head.db,
            slot,
            access: head.access,
            expire_at_ms: head.expire_at_ms.map_or(NEVER, |at| at.min(NEVER - 1)),
            content,
        });
        self.bytes.extend_from_slice(head.key);
    }
}

/// How keys are put in.
#[derive(Clone, Copy, Debug)]
pub struct LoadMode {
    /// Keys whose time has passed by now are left out.
    pub now_ms: u64,
    /// A key that is there already is replaced; otherwise it is an error.
    pub merge: bool,
}

/// What became of a batch's keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LoadCounts {
    /// Put in.
    pub loaded: u64,
    /// Left out, because their time has passed.
    pub expired: u64,
    /// Left out, because the time of all their fields has passed.
    pub hashes_expired: u64,
}

/// Why a batch cannot be put in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoadError {
    /// There is no database of this number.
    Database(u32),
    /// The key is there already.
    Duplicate {
        /// Its database.
        db: u16,
        /// Its name.
        key: Vec<u8>,
    },
}

/// Memory that an emptied batch keeps for bytes.
const KEPT_BYTES_MAX: usize = 1 << 20;

/// So many keys ahead the table is asked for what it will need.
const AHEAD: usize = 12;

impl Engine {
    /// Computes where keys belong here.
    pub fn placer(&self) -> Placer {
        Placer {
            hasher: self.hasher,
            cluster: self.config.cluster,
        }
    }

    /// Makes an empty database ready for so many keys; in a cluster a slot of it. To be called until it says that there is no more to do, and
    /// [`load_settle`](Self::load_settle) when all keys are in.
    pub fn load_reserve(&mut self, db: u32, slot: Option<u16>, keys: usize) -> bool {
        let slot = match (slot, self.config.cluster) {
            (Some(slot), true) => slot,
            (None, false) => 0,
            _ => return false,
        };
        match self.dbs.get_mut(db as usize) {
            Some(db) if slot < SLOTS => db.reserve(usize::from(slot), keys),
            _ => false,
        }
    }

    /// All keys are in: gives up, some at a time, what was made ready for keys that have not come. Whether there is more to do.
    pub fn load_settle(&mut self) -> bool {
        self.dbs.iter_mut().any(|db| {
            (0..db.tables_len()).any(|slot| {
                db.table_mut(slot)
                    .is_some_and(|t| t.settle(&mut self.slabs))
            })
        })
    }

    /// Puts a batch's keys in, and clears it. No effects.
    ///
    /// # Errors
    /// A key cannot be put in; those before it have been.
    pub fn load(&mut self, batch: &mut LoadBatch, how: LoadMode) -> Result<LoadCounts, LoadError> {
        let mut counts = LoadCounts::default();
        let result = self.load_all(batch, how, &mut counts);
        batch.clear();
        result.map(|()| counts)
    }

    fn load_all(
        &mut self,
        batch: &mut LoadBatch,
        how: LoadMode,
        counts: &mut LoadCounts,
    ) -> Result<(), LoadError> {
        let LoadBatch {
            placer,
            bytes,
            keys,
        } = batch;
        assert!(*placer == self.placer(), "a batch for another engine");
        for at in 0..keys.len() {
            if let Some((table, hash)) = keys.get(at + 2 * AHEAD).and_then(|k| self.table_of(k)) {
                table.prefetch_word(hash);
            }
            if let Some((table, hash)) = keys.get(at + AHEAD).and_then(|k| self.table_of(k)) {
                table.prefetch_group(hash);
            }
            let item = &mut keys[at];
            if item.expire_at_ms < how.now_ms {
                counts.expired += 1;
                continue;
            }
            if let Content::Other(value) = &mut item.content
                && !value.drop_expired_fields(how.now_ms)
            {
                counts.hashes_expired += 1;
                continue;
            }
            self.load_one(bytes, item, how)?;
            counts.loaded += 1;
        }
        Ok(())
    }

    fn table_of(&self, item: &LoadKey) -> Option<(&Table, u64)> {
        let db = self.dbs.get(item.db as usize)?;
        Some((db.table(usize::from(item.slot))?, item.hash))
    }

    fn load_one(
        &mut self,
        bytes: &[u8],
        item: &mut LoadKey,
        how: LoadMode,
    ) -> Result<(), LoadError> {
        let db = match u16::try_from(item.db) {
            Ok(db) if usize::from(db) < self.dbs.len() => db,
            _ => return Err(LoadError::Database(item.db)),
        };
        let place = Place {
            slot: item.slot,
            hash: item.hash,
        };
        let behind = (item.at + item.len) as usize;
        let key = &bytes[item.at as usize..behind];
        if self.dbs[usize::from(db)].find(place, key).is_some() {
            if !how.merge {
                return Err(LoadError::Duplicate {
                    db,
                    key: key.to_vec(),
                });
            }
            self.remove(db, place, key);
        }
        let (slabs, epoch, until) = (&mut self.slabs, self.snapshots.epoch(), item.expire_at_ms);
        let mut entry = match std::mem::replace(&mut item.content, Content::Int(0)) {
            Content::Bytes(len) => {
                let text = &bytes[behind..behind + len as usize];
                Entry::new_str_until(slabs, key, text, epoch, until)
            }
            Content::Int(value) => Entry::new_int_until(slabs, key, value, epoch, until),
            Content::Other(value) => Entry::new_until(slabs, key, value, epoch, until),
        };
        evict::noted(&self.config.eviction, item.access, how.now_ms, &mut entry);
        self.dbs[usize::from(db)].insert(place, entry, &mut self.slabs);
        Ok(())
    }
}
