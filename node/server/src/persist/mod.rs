//! Persistence of a node under `durability async`: `dump.rdb`, written without a fork and without a stop.
//!
//! The executor takes a snapshot of the engine in steps between its turns ([`save`]) and hands drafts over; compressing, summing
//! up, writing and syncing are done elsewhere, by an [`RdbOut`] that the [`Host`](crate::executor::Host) provides. At the
//! start and for `DEBUG RELOAD` an [`RdbIn`] reads and decodes, and the executor only puts keys in ([`load`]).
//!
//! Under `durability quorum` the shard's log keeps the data, and nothing of this is used.

#[cfg(not(madsim))]
pub mod file;
pub mod load;
mod pace;
pub mod save;

use crate::config::Config;
use crate::executor::Executor;
use holdfast_engine::{
    BadPayload, Command, Engine, LoadBatch, Placer, TypeLimits, Value, ValueCodec, ValueRef,
};
use holdfast_rdb::{Draft, DumpCodec, RdbVersion};
use std::path::PathBuf;
use std::time::Duration;

/// The error for what has to wait until a file is loaded.
pub(crate) const LOADING: &str = "LOADING Holdfast is loading the dataset in memory";

/// A file to be written.
#[derive(Debug, Clone)]
pub struct SaveRequest {
    /// Where it is to be, once it is whole.
    pub path: PathBuf,
    /// Its name until then.
    pub temporary: PathBuf,
    /// Whether it ends with a checksum.
    pub checksum: bool,
    /// Whether it is synced as it grows, so that the end has little left to do.
    pub incremental_sync: bool,
    /// It is for followers: its bytes come back ([`RdbOut::take_bytes`]), and no file stays.
    pub send: Option<Framing>,
}

/// How a follower knows where the file that it is sent ends.
#[derive(Debug, Clone, Copy)]
pub enum Framing {
    /// By its length, in front. It is written to the temporary file first.
    Length,
    /// By these bytes, announced in front and repeated behind.
    Mark([u8; 40]),
}

/// Takes the drafts of a file. Dropped before [`RdbOut::finish`], it leaves nothing behind.
pub trait RdbOut: Send {
    /// Takes a draft, or gives it back while the ones before it are not done.
    ///
    /// # Errors
    /// The draft.
    fn offer(&mut self, draft: Draft) -> Result<(), Draft>;

    /// Takes a draft, waiting for room.
    fn give(&mut self, draft: Draft);

    /// That was all: the file is to be sealed, synced, and given its name.
    fn finish(&mut self);

    /// What became of it, once that is known.
    fn outcome(&mut self) -> Option<Result<(), String>>;

    /// The next bytes of a file that is for followers.
    fn take_bytes(&mut self) -> Option<Vec<u8>> {
        None
    }

    /// Waits until that is known.
    ///
    /// # Errors
    /// What went wrong.
    fn wait(&mut self) -> Result<(), String>;
}

/// A file to be read.
#[derive(Debug, Clone)]
pub struct LoadRequest {
    /// Where it is.
    pub path: PathBuf,
    /// Where keys belong in the engine that they are for.
    pub placer: Placer,
    /// The forms that values take.
    pub limits: TypeLimits,
    /// Whether its checksum is compared.
    pub checksum: bool,
    /// Whether versions that we do not know are tried.
    pub relaxed: bool,
    /// Waits so long behind each key, or, if negative, a microsecond behind so many keys (for tests).
    pub key_delay_us: i64,
}

/// What reading a file gives, in the file's order.
#[derive(Debug)]
pub enum Loaded {
    /// Signature and version are good. Comes first.
    Accepted,
    /// Keys.
    Keys(LoadBatch),
    /// So many keys are to come. No more than the file has room for.
    Expect {
        /// Their database.
        db: u32,
        /// Their slot, if they are all of one.
        slot: Option<u16>,
        /// Their number.
        keys: usize,
    },
    /// An auxiliary field.
    Aux(Vec<u8>, Vec<u8>),
    /// The code of a function library.
    Function(Vec<u8>),
    /// A key that is left out, since its collection has no elements.
    EmptyKey(Vec<u8>),
    /// That was all, and it was right.
    End,
    /// The file is not to be used, or cannot be read.
    Failed(Failure),
}

/// Why a file is not loaded.
#[derive(Debug, Clone, Default)]
pub struct Failure {
    /// What is said to the log.
    pub lines: Vec<String>,
    /// It is damaged, and not just of another kind.
    pub damaged: bool,
}

impl Failure {
    pub(crate) fn log(&self) {
        for line in &self.lines {
            tracing::warn!("{line}");
        }
    }
}

/// A file being read.
pub trait RdbIn: Send {
    /// The next piece, if it is there already.
    fn poll(&mut self) -> Option<Loaded>;

    /// The next piece.
    fn wait(&mut self) -> Loaded;

    /// Takes an emptied batch, to be filled again.
    fn give_back(&mut self, _batch: LoadBatch) {}

    /// Bytes read, and bytes of the file.
    fn progress(&self) -> (u64, u64);
}

/// The state of persistence.
pub struct Persistence {
    /// Whether this node keeps an RDB file at all.
    pub enabled: bool,
    pub(crate) loading: Option<load::Loading>,
    pub(crate) saving: Option<save::Saving>,
    /// `BGSAVE` asked for while it could not begin.
    pub(crate) scheduled: bool,
    /// The count of changes that the last file has.
    pub(crate) saved_changes: u64,
    /// Unix time of the last success and of the last try, in seconds.
    pub(crate) last_save_s: u64,
    pub(crate) last_try_s: u64,
    pub(crate) last_ok: bool,
    /// How long the last background save took.
    pub(crate) last_took_s: Option<u64>,
    /// Saves begun.
    pub(crate) saves: u64,
    /// Bytes that writes made the last background save keep in memory.
    pub(crate) last_early_bytes: u64,
    pub(crate) keys_loaded: u64,
    pub(crate) keys_expired: u64,
    pub(crate) empty_keys: u64,
    /// Hashes that were left out because the time of all their fields had passed.
    pub(crate) hashes_expired: u64,
    /// `DEBUG SET-SKIP-CHECKSUM-VALIDATION`
    pub(crate) ignore_checksums: bool,
    /// `save`: seconds and changes.
    pub(crate) points: Vec<(u64, u64)>,
    /// What commands have to be asked before they run: something is being loaded, or writes are refused.
    pub(crate) restricts: bool,
    pub(crate) flushall: Option<&'static Command>,
    /// Function libraries of the last file read, for the next one written.
    pub(crate) functions: Vec<Vec<u8>>,
    /// Why the process must end.
    pub(crate) fatal: Option<&'static str>,
    files: u64,
}

impl Default for Persistence {
    fn default() -> Self {
        Persistence {
            enabled: false,
            loading: None,
            saving: None,
            scheduled: false,
            saved_changes: 0,
            last_save_s: 0,
            last_try_s: 0,
            last_ok: true,
            last_took_s: None,
            saves: 0,
            last_early_bytes: 0,
            keys_loaded: 0,
            keys_expired: 0,
            empty_keys: 0,
            hashes_expired: 0,
            ignore_checksums: false,
            points: Vec::new(),
            restricts: false,
            flushall: Engine::command(b"flushall"),
            functions: Vec::new(),
            fatal: None,
            files: 0,
        }
    }
}

impl Persistence {
    /// Takes over what the configuration says.
    pub(crate) fn configure(&mut self, config: &Config) {
        let numbers: Vec<u64> = config
            .get("save")
            .split_whitespace()
            .filter_map(|n| n.parse().ok())
            .collect();
        let (pairs, _) = numbers.as_chunks::<2>();
        self.points = pairs.iter().map(|[s, c]| (*s, *c)).collect();
    }

    /// Whether writes are refused because the last background save failed.
    pub(crate) fn refuses_writes(&self, config: &Config) -> bool {
        !self.last_ok && !self.points.is_empty() && config.yes("stop-writes-on-bgsave-error")
    }
}

/// What makes and reads the payloads of `DUMP`.
pub fn dump_codec(config: &Config, limits: TypeLimits) -> LoggedCodec {
    LoggedCodec(DumpCodec {
        limits,
        version: RdbVersion::V80,
        compress: config.yes("rdbcompression"),
        relaxed: config.get("rdb-version-check") == "relaxed",
        ignore_checksum: false,
    })
}

/// A codec that says in the log what is wrong with a payload; the client only learns that something is.
#[derive(Debug, Clone)]
pub struct LoggedCodec(pub DumpCodec);

impl ValueCodec for LoggedCodec {
    fn dump(&self, value: ValueRef<'_>) -> Vec<u8> {
        self.0.encode(value)
    }

    fn load(&self, payload: &[u8]) -> Result<Value, BadPayload> {
        self.0.decode(payload).inspect_err(|e| {
            if let BadPayload::Malformed(reason) = e {
                tracing::warn!("Bad data format in a payload to be restored: {reason}");
            }
        })
    }
}

/// What is due by the clock may be a step of a save: so soon it is looked at again.
pub(crate) const POLL: Duration = Duration::from_millis(1);

/// `rdb-key-save-delay` and `key-load-delay`: microseconds behind each key, or, negative, one behind so many.
pub(crate) fn delay_us(setting: i64, keys: u64) -> u64 {
    match u64::try_from(setting) {
        Ok(us) => us * keys,
        Err(_) => keys / setting.unsigned_abs(),
    }
}

impl Executor {
    /// Why a command may not run now, if persistence forbids it.
    pub(crate) fn persistence_forbids(
        &self,
        loading_ok: bool,
        write: bool,
    ) -> Option<&'static str> {
        if self.persist.loading.is_some() && !loading_ok {
            return Some(LOADING);
        }
        (write && self.persist.refuses_writes(&self.config)).then_some(
            "MISCONF Holdfast is configured to save RDB snapshots, but it's currently unable to persist to disk. \
             Commands that may modify the data set are disabled, because this instance is configured to report errors \
             during writes if RDB snapshotting fails (stop-writes-on-bgsave-error option). \
             Please check the Holdfast logs for details about the RDB error.",
        )
    }

    /// To be called when something changed that [`Executor::persistence_forbids`] looks at.
    pub(crate) fn update_restrictions(&mut self) {
        self.persist.restricts =
            self.persist.loading.is_some() || self.persist.refuses_writes(&self.config);
    }

    /// Changes since the last save.
    pub(crate) fn unsaved_changes(&self) -> u64 {
        self.fx.dirty().saturating_sub(self.persist.saved_changes)
    }

    /// When persistence has something to do without anything arriving, if it has.
    pub(crate) fn persistence_deadline_ms(&self) -> Option<u64> {
        let now = self.now.mono_ms();
        if self.persist.loading.is_some() {
            return Some(now);
        }
        let us = self.now.mono_us;
        let saving = self.persist.saving.as_ref().map(|s| s.is_due(us));
        let transfer = self.followers.transfer.as_ref().map(|t| t.is_due(us));
        match (saving, transfer) {
            (None, None) => None,
            (Some(true), _) | (_, Some(true)) if !save::is_full(&self.engine) => Some(now),
            _ => Some(now + POLL.as_millis() as u64),
        }
    }

    /// What the executor did of its own at the end of a turn took so long, in microseconds of the clock and of the processor.
    pub fn note_own_work(&mut self, took_us: u64, cpu_us: u64) {
        self.stats.note_step(took_us, cpu_us);
        if let Some(saving) = &mut self.persist.saving {
            saving.learn(cpu_us);
        }
        if let Some(transfer) = &mut self.followers.transfer {
            transfer.learn(cpu_us);
        }
    }

    /// The part of a turn's end that is persistence's.
    pub(crate) fn persistence_turn(&mut self) {
        if self.persist.loading.is_some() {
            self.load_step();
        }
        if self.persist.saving.is_some() {
            self.save_turn();
        }
    }
}
