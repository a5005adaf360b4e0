//! Reading the RDB file: at the start in steps between turns, and for `DEBUG RELOAD` at once.

use super::{LoadRequest, Loaded, RdbIn};
use crate::executor::{Ending, Executor};
use holdfast_engine::{LoadBatch, LoadError, LoadMode};

/// Batches of keys put in by one turn: some 100 µs.
const BATCHES_A_TURN: usize = 2;

/// So many keys without elements are named in the log.
const EMPTY_KEYS_LOGGED: u64 = 10;

/// A file being loaded.
pub struct Loading {
    input: Box<dyn RdbIn>,
    pub(crate) started_s: u64,
    started_us: u64,
    pub(crate) used_mem: u64,
    stage: Stage,
}

/// What the next step does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// It takes what has been read.
    Reading,
    /// It makes a database ready for so many keys.
    Expecting(u32, Option<u16>, usize),
    /// It gives up what was made ready for nothing.
    Settling,
}

impl Loading {
    /// Bytes read, and bytes of the file.
    pub(crate) fn progress(&self) -> (u64, u64) {
        self.input.progress()
    }
}

/// How to load: `DEBUG RELOAD`'s options.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reload {
    /// What is there goes first, once the file's signature and version are known to be good.
    pub flush: bool,
    /// Keys may be there already.
    pub merge: bool,
}

impl Executor {
    fn load_request(&self) -> LoadRequest {
        LoadRequest {
            path: self.config.path(self.config.get("dbfilename")),
            placer: self.engine.placer(),
            limits: self.engine.limits(),
            checksum: self.config.yes("rdbchecksum") && !self.persist.ignore_checksums,
            relaxed: self.config.get("rdb-version-check") == "relaxed",
            key_delay_us: self.config.int("key-load-delay"),
        }
    }

    /// Switches persistence on, and begins to load the file if there is one. Before the first turn.
    ///
    /// # Errors
    /// There is a file, and it cannot be opened.
    pub fn begin_persistence(&mut self) -> Result<(), String> {
        self.persist.enabled = true;
        self.persist.last_save_s = self.now.unix_us / 1_000_000;
        let request = self.load_request();
        match self.host.open_rdb(request) {
            Ok(input) => {
                self.persist.loading = Some(Loading {
                    input,
                    started_s: self.now.unix_us / 1_000_000,
                    started_us: self.now.mono_us,
                    used_mem: 0,
                    stage: Stage::Reading,
                });
                self.update_restrictions();
                Ok(())
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(e) => Err(format!(
                "Fatal error: can't open the RDB file for reading: {e}"
            )),
        }
    }

    /// Whether a file is being loaded.
    pub fn is_loading(&self) -> bool {
        self.persist.loading.is_some()
    }

    /// Why the process ended by itself, if it was an error.
    pub fn fatal(&self) -> Option<&'static str> {
        self.persist.fatal
    }

    pub(super) fn load_step(&mut self) {
        for _ in 0..BATCHES_A_TURN {
            let Some(loading) = &mut self.persist.loading else {
                return;
            };
            match loading.stage {
                Stage::Reading => {}
                Stage::Expecting(db, slot, keys) => {
                    if !self.engine.load_reserve(db, slot, keys) {
                        loading.stage = Stage::Reading;
                    }
                    continue;
                }
                Stage::Settling if self.engine.load_settle() => continue,
                Stage::Settling => return self.end_loading(true),
            }
            let Some(loaded) = loading.input.poll() else {
                // The reader is behind: it is given a moment.
                self.host.sleep(std::time::Duration::from_micros(50));
                return;
            };
            match loaded {
                Loaded::Accepted => {}
                Loaded::Function(code) => self.persist.functions.push(code),
                Loaded::EmptyKey(key) => self.skip_empty(&key),
                Loaded::Aux(name, value) => {
                    let used_mem = log_aux(&name, &value, self.now.unix_us / 1_000_000);
                    if let (Some(loading), Some(bytes)) = (&mut self.persist.loading, used_mem) {
                        loading.used_mem = bytes;
                    }
                }
                Loaded::Keys(mut batch) => {
                    if let Err(e) = self.put_keys(&mut batch, false) {
                        tracing::error!("{e}");
                        return self.end_loading(false);
                    }
                    if let Some(loading) = &mut self.persist.loading {
                        loading.input.give_back(batch);
                    }
                }
                Loaded::Expect { db, slot, keys } => {
                    loading.stage = Stage::Expecting(db, slot, keys);
                }
                Loaded::End => loading.stage = Stage::Settling,
                Loaded::Failed(failure) => {
                    failure.log();
                    if failure.damaged {
                        self.host.report_rdb(&self.load_request().path);
                        tracing::warn!("Terminating server after rdb file reading failure.");
                    }
                    return self.end_loading(false);
                }
            }
        }
    }

    fn end_loading(&mut self, well: bool) {
        let Some(loading) = self.persist.loading.take() else {
            return;
        };
        if !well {
            self.persist.fatal = Some("Fatal error loading the DB, check server logs. Exiting.");
            self.set_ending(Ending::Done);
            return;
        }
        self.log_loaded();
        let us = self.now.mono_us.saturating_sub(loading.started_us);
        tracing::info!("DB loaded from disk: {:.3} seconds", us as f64 / 1e6);
        tracing::info!("Ready to accept connections tcp");
        self.update_restrictions();
    }

    fn log_loaded(&self) {
        let p = &self.persist;
        let empty = match p.empty_keys {
            0 => String::new(),
            n => format!(" empty keys skipped: {n},"),
        };
        tracing::info!(
            "Done loading RDB, keys loaded: {}, keys expired: {},{empty} all fields expired hashes: {}.",
            p.keys_loaded,
            p.keys_expired,
            p.hashes_expired
        );
    }

    /// Old versions have left such keys behind.
    fn skip_empty(&mut self, key: &[u8]) {
        self.persist.empty_keys += 1;
        if self.persist.empty_keys <= EMPTY_KEYS_LOGGED {
            tracing::info!("skipping empty key: {}", String::from_utf8_lossy(key));
        }
    }

    /// Puts keys in. One whose time has passed is left out, as on any primary.
    fn put_keys(&mut self, batch: &mut LoadBatch, merge: bool) -> Result<(), String> {
        let now_ms = self.now.unix_ms();
        let counts = self.engine.load(batch, LoadMode { now_ms, merge });
        let counts = counts.map_err(|e| match e {
            LoadError::Database(_) => format!(
                "FATAL: Data file was created with a server configured to handle more than {} databases. Exiting",
                self.settings.databases
            ),
            LoadError::Duplicate { db, key } => format!(
                "RDB has duplicated key '{}' in DB {db}",
                String::from_utf8_lossy(&key)
            ),
        })?;
        self.persist.keys_loaded += counts.loaded;
        self.persist.keys_expired += counts.expired;
        self.persist.hashes_expired += counts.hashes_expired;
        Ok(())
    }

    /// Loads the file while everything else waits.
    ///
    /// # Errors
    /// It cannot be loaded, or not whole; what is wrong has been logged.
    pub(crate) fn load_now(&mut self, reload: Reload) -> Result<(), ()> {
        let mut input = match self.host.open_rdb(self.load_request()) {
            Ok(input) => input,
            Err(e) => {
                tracing::warn!("Can't open the RDB file for reading: {e}");
                return Err(());
            }
        };
        (self.persist.keys_loaded, self.persist.keys_expired) = (0, 0);
        self.persist.empty_keys = 0;
        self.persist.hashes_expired = 0;
        loop {
            match input.wait() {
                Loaded::Accepted => {
                    if reload.flush {
                        tracing::info!("RDB signature and version check passed. Flushing old data");
                        self.engine.flush(None);
                        self.fx.note_flush_all();
                        self.persist.functions.clear();
                    }
                }
                Loaded::EmptyKey(key) => self.skip_empty(&key),
                Loaded::Function(code) => {
                    if !self.persist.functions.contains(&code) {
                        self.persist.functions.push(code);
                    }
                }
                Loaded::Aux(name, value) => {
                    log_aux(&name, &value, self.now.unix_us / 1_000_000);
                }
                Loaded::Keys(mut batch) => {
                    if let Err(e) = self.put_keys(&mut batch, reload.merge) {
                        tracing::error!("{e}");
                        return Err(());
                    }
                    input.give_back(batch);
                }
                Loaded::Expect { db, slot, keys } => {
                    while self.engine.load_reserve(db, slot, keys) {}
                }
                Loaded::End => {
                    while self.engine.load_settle() {}
                    self.log_loaded();
                    return Ok(());
                }
                Loaded::Failed(failure) => {
                    failure.log();
                    return Err(());
                }
            }
        }
    }
}

/// Says in the log what an auxiliary field tells. Returns the memory that the writer used, if it says that.
fn log_aux(name: &[u8], value: &[u8], now_s: u64) -> Option<u64> {
    let text = String::from_utf8_lossy(value);
    let number: Option<u64> = text.parse().ok();
    match name.to_ascii_lowercase().as_slice() {
        [b'%', ..] => tracing::info!("RDB '{}': {text}", String::from_utf8_lossy(name)),
        b"redis-ver" => tracing::info!("Loading RDB produced by Redis version {text}"),
        b"valkey-ver" => tracing::info!("Loading RDB produced by Valkey version {text}"),
        b"ctime" => tracing::info!(
            "RDB age {} seconds",
            now_s.saturating_sub(number.unwrap_or(now_s))
        ),
        b"used-mem" => {
            let bytes = number.unwrap_or(0);
            tracing::info!(
                "RDB memory usage when created {:.2} Mb",
                bytes as f64 / (1 << 20) as f64
            );
            return Some(bytes);
        }
        _ => {}
    }
    None
}
