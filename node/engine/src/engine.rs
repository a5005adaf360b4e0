//! The engine: looking keys up, changing them, executing commands.

use std::sync::OnceLock;

use holdfast_resp::write;

use crate::call::{Call, CmdError, Mode, Outcome};
use crate::keyspace::{Db, Entry};
use crate::spec::{Command, NameIndex};
use crate::types::TypeLimits;
use crate::value::{DataType, Value, ValueRef};

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
    /// Encodings of small values.
    pub limits: TypeLimits,
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
            limits: TypeLimits::default(),
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

/// The keyspace and all data commands.
pub struct Engine {
    pub(crate) config: EngineConfig,
    pub(crate) codec: Box<dyn ValueCodec>,
    pub(crate) dbs: Vec<Db>,
}

impl Engine {
    /// An empty engine.
    pub fn new(config: EngineConfig, codec: Box<dyn ValueCodec>) -> Engine {
        let dbs = (0..config.databases.max(1))
            .map(|_| Db::default())
            .collect();
        Engine { config, codec, dbs }
    }

    /// The configuration.
    pub fn config(&self) -> &EngineConfig {
        &self.config
    }

    /// Changes the configuration. Do not change what is fixed.
    pub fn config_mut(&mut self) -> &mut EngineConfig {
        &mut self.config
    }

    /// The limits of the compact encodings; a copy, so that values can be borrowed from the engine meanwhile.
    pub fn limits(&self) -> TypeLimits {
        self.config.limits
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
        call.fx.begin_unit();
        let result = if command.spec.arity_ok(call.argv.len()) {
            (command.run)(self, call)
        } else {
            Err(CmdError::wrong_arity(command.spec.name))
        };
        let outcome = match result {
            Ok(outcome) => outcome,
            Err(error) => {
                call.reply.truncate(reply_start);
                write::error(call.reply, error.as_bytes());
                Outcome::Failed
            }
        };
        if call.fx.enabled() && call.fx.dirty() != dirty && !call.fx.explicit {
            call.fx.propagate(call.db, call.argv);
        }
        call.fx.end_unit();
        outcome
    }

    fn find(&self, db: u16, key: &[u8]) -> Option<&Entry> {
        self.dbs.get(usize::from(db))?.map.get(key)
    }

    fn find_mut(&mut self, db: u16, key: &[u8]) -> Option<&mut Entry> {
        self.dbs.get_mut(usize::from(db))?.map.get_mut(key)
    }

    /// The entry of a key unless it has expired; deletes it if that is this call's right.
    fn live_mut(&mut self, call: &mut Call<'_>, key: &[u8]) -> Option<&mut Entry> {
        let now_ms = call.now_ms;
        let entry = self.find(call.db, key)?;
        if call.mode != Mode::Apply && entry.expire_at_ms.is_some_and(|at| at <= now_ms) {
            if call.mode == Mode::Primary {
                self.expire_now(call, key);
            }
            return None;
        }
        self.find_mut(call.db, key)
    }

    fn expire_now(&mut self, call: &mut Call<'_>, key: &[u8]) {
        if let Some(db) = self.dbs.get_mut(usize::from(call.db)) {
            db.map.remove(key);
        }
        let verb: &[u8] = if self.config.lazyfree_lazy_expire {
            b"UNLINK"
        } else {
            b"DEL"
        };
        call.fx.propagate(call.db, &[verb, key]);
        call.fx.touch(call.db, key);
    }

    /// The value of a key, to read. Counts as an access; deletes the key if its time has passed.
    pub fn lookup_read(&mut self, call: &mut Call<'_>, key: &[u8]) -> Option<ValueRef<'_>> {
        self.live_mut(call, key).map(|e| e.value())
    }

    /// The value of a key, to read, through a shared borrow: for commands that look at several keys at once.
    /// An expired key is absent (call [`touch_key`](Self::touch_key) on each key first, so that it is deleted and the access
    /// counted).
    pub fn peek_value(&self, call: &Call<'_>, key: &[u8]) -> Option<ValueRef<'_>> {
        let entry = self.find(call.db, key)?;
        if call.mode != Mode::Apply && entry.expire_at_ms.is_some_and(|at| at <= call.now_ms) {
            return None;
        }
        Some(entry.value())
    }

    /// Counts an access to a key and deletes it if its time has passed. Whether it is there.
    pub fn touch_key(&mut self, call: &mut Call<'_>, key: &[u8]) -> bool {
        self.live_mut(call, key).is_some()
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
        match self.live_mut(call, key) {
            None => Ok(None),
            Some(entry) => T::from_mut(entry.value_mut())
                .map(Some)
                .ok_or(CmdError::WRONG_TYPE),
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
        if self.live_mut(call, key).is_none() {
            self.set_value(call, key, empty().into_value(), Ttl::Clear);
        }
        self.write::<T>(call, key)?.ok_or(CmdError::WRONG_TYPE)
    }

    /// Gives a key a new value, of any type, whatever it held. Reports nothing but readiness.
    pub fn set_value(&mut self, call: &mut Call<'_>, key: &[u8], value: Value, ttl: Ttl) {
        let Some(db) = self.dbs.get_mut(usize::from(call.db)) else {
            return;
        };
        if value.ty().unblocks() {
            call.fx.signal_ready(call.db, key);
        }
        let old = db.map.get(key).and_then(|e| e.expire_at_ms);
        let expire_at_ms = match ttl {
            Ttl::Clear => None,
            Ttl::Keep => old,
            Ttl::At(at) => Some(at),
        };
        db.map.insert(
            key.into(),
            Entry {
                expire_at_ms,
                version: 0,
                value,
            },
        );
    }

    /// Deletes a key. Whether it was there (an expired one was not). Reports nothing.
    pub fn delete(&mut self, call: &mut Call<'_>, key: &[u8]) -> bool {
        self.live_mut(call, key).is_some()
            && self
                .dbs
                .get_mut(usize::from(call.db))
                .is_some_and(|db| db.map.remove(key).is_some())
    }
}
