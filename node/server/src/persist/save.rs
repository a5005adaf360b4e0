//! Writing the RDB file: `SAVE`, `BGSAVE`, `save` points.

use super::pace::Pace;
use super::{RdbOut, SaveRequest, delay_us};
use crate::executor::{Executor, Host};
use holdfast_engine::{Engine, SlotFilter, SnapshotId, SnapshotProgress};
use holdfast_rdb::{Draft, RdbSink, RdbVersion, RdbWriter};
use std::collections::VecDeque;

/// Keys of one step: some 10 µs.
const STEP_KEYS: usize = 32;
/// After so many steps a turn looks at the time that they really took, and ends if it was more than [`TURN_US`].
const STEPS_UNSEEN: usize = 4;
/// What a turn may take, in microseconds of processor time: as much as is saved up ([`Pace`]).
const TURN_US: u64 = 300;
/// What one turn gives at most: long strings go in pieces of up to a megabyte, of which the steps before say nothing.
const TURN_BYTES: usize = 512 << 10;
/// A draft is handed over when it has so many bytes.
const DRAFT_BYTES: usize = 128 << 10;
/// With more than this in memory that is not handed over, clients wait.
const PENDING_BYTES_MAX: usize = 64 << 20;
/// How long after a failure the next save by a `save` point is tried.
const RETRY_S: u64 = 5;

/// Whether so much waits to be taken that no snapshot may go on.
pub(super) fn is_full(engine: &Engine) -> bool {
    engine.snapshots_pending() > PENDING_BYTES_MAX
}

/// A save under way.
pub struct Saving {
    id: SnapshotId,
    out: Box<dyn RdbOut>,
    /// Drafts that were not taken yet, in order, and their bytes. Meanwhile only what writes push into the snapshot is added.
    waiting: VecDeque<Draft>,
    waiting_bytes: usize,
    pace: Pace,
    stage: Stage,
    /// Count of changes at the begin.
    changes: u64,
    started_s: u64,
    started_us: u64,
    pub(crate) keys_total: u64,
    pub(crate) keys_done: u64,
    /// Bytes in the sink at the end of the last step; what is more at the next came from writes.
    seen_bytes: usize,
    pub(crate) early_bytes: u64,
    given_bytes: bool,
    /// Why the file cannot be made, found out on the way.
    refused: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Keys are still to be given to the sink.
    Snapshot,
    /// All is with the writer.
    Finishing,
}

impl Saving {
    /// Whether a turn could make progress.
    pub(crate) fn can_step(&self) -> bool {
        self.stage == Stage::Snapshot && self.waiting.is_empty() && self.refused.is_none()
    }

    /// Whether a turn at this time would.
    pub(crate) fn is_due(&self, now_us: u64) -> bool {
        self.can_step() && self.pace.is_ready(now_us)
    }

    /// Goes on: some steps, and what is there is handed over. No more than `allowed` keys in all.
    pub(crate) fn feed(&mut self, engine: &mut Engine, allowed: u64, now_us: u64, host: &dyn Host) {
        let begin_us = host.thread_cpu_us();
        let mut unseen = 0;
        if self.stage == Stage::Snapshot {
            self.cut_draft(engine);
        }
        self.hand_over();
        self.pace.begin_turn(now_us);
        let mut given = 0;
        while self.can_step()
            && self.keys_done < allowed
            && given < TURN_BYTES
            && !is_full(engine)
            && self.pace.take_step()
        {
            let keys =
                STEP_KEYS.min(usize::try_from(allowed - self.keys_done).unwrap_or(STEP_KEYS));
            given += save_step(engine, self, keys);
            self.hand_over();
            // What the steps before have cost does not tell what these do: they may come to memory that is in no cache.
            unseen += 1;
            if unseen == STEPS_UNSEEN {
                unseen = 0;
                if host.thread_cpu_us().saturating_sub(begin_us) > TURN_US {
                    break;
                }
            }
        }
        if self.stage == Stage::Finishing && self.waiting.is_empty() && self.refused.is_none() {
            self.out.finish();
        }
    }

    /// The turn's own work took so long.
    pub(crate) fn learn(&mut self, took_us: u64) {
        self.pace.learn(took_us);
    }

    fn wait(&mut self, draft: Draft) {
        self.waiting_bytes += draft.len();
        self.waiting.push_back(draft);
    }

    fn hand_over(&mut self) {
        while let Some(draft) = self.waiting.pop_front() {
            let bytes = draft.len();
            if let Err(back) = self.out.offer(draft) {
                self.waiting.push_front(back);
                return;
            }
            self.waiting_bytes -= bytes;
        }
    }

    /// What the snapshot has given becomes a draft once it is large enough; a buffer that grew on would have to be moved.
    fn cut_draft(&mut self, engine: &mut Engine) {
        let Some(sink) = engine
            .snapshot_sink(self.id)
            .and_then(|sink| sink.as_any_mut().downcast_mut::<RdbSink>())
        else {
            return;
        };
        self.early_bytes += sink.writer.pending_bytes().saturating_sub(self.seen_bytes) as u64;
        if sink.writer.pending_bytes() >= DRAFT_BYTES {
            let draft = sink.writer.take_draft();
            self.seen_bytes = sink.writer.pending_bytes();
            self.wait(draft);
        } else {
            self.seen_bytes = sink.writer.pending_bytes();
        }
    }

    /// What became of it, once that is known.
    pub(crate) fn outcome(&mut self) -> Option<Result<(), String>> {
        match &self.refused {
            Some(reason) => Some(Err(reason.clone())),
            None => self.out.outcome(),
        }
    }

    /// The next bytes for followers.
    pub(crate) fn take_bytes(&mut self) -> Option<Vec<u8>> {
        let bytes = self.out.take_bytes();
        self.given_bytes |= bytes.is_some();
        bytes
    }

    /// Whether followers have got anything yet.
    pub(crate) fn has_given_bytes(&self) -> bool {
        self.given_bytes
    }

    /// How long it has been running.
    pub(crate) fn running_s(&self, now_s: u64) -> u64 {
        now_s.saturating_sub(self.started_s)
    }
}

impl Executor {
    fn now_s(&self) -> u64 {
        self.now.unix_us / 1_000_000
    }

    fn begin_save(&mut self) -> Result<(), String> {
        self.persist.saves += 1;
        self.persist.last_try_s = self.now_s();
        let path = self.config.path(self.config.get("dbfilename"));
        let request = SaveRequest {
            temporary: self.temporary_rdb(),
            path,
            send: None,
            checksum: self.config.yes("rdbchecksum"),
            incremental_sync: self.config.yes("rdb-save-incremental-fsync"),
        };
        let saving = self.begin_snapshot(request, RdbVersion::V80, false)?;
        self.persist.saving = Some(saving);
        Ok(())
    }

    /// A name for a file until it is whole, another each time.
    pub(crate) fn temporary_rdb(&mut self) -> std::path::PathBuf {
        self.persist.files += 1;
        let name = format!("temp-{}-{}.rdb", std::process::id(), self.persist.files);
        self.config.path(&name)
    }

    /// Begins a snapshot of everything, on its way to a file or to followers.
    ///
    /// # Errors
    /// The host cannot take it.
    pub(crate) fn begin_snapshot(
        &mut self,
        request: SaveRequest,
        version: RdbVersion,
        without_keys: bool,
    ) -> Result<Saving, String> {
        let out = self.host.create_rdb(request).map_err(|e| e.to_string())?;
        let writer = self.begin_rdb(version, without_keys);
        let keys_total = self.all_keys();
        let seen_bytes = writer.pending_bytes();
        let slots = match without_keys {
            true => SlotFilter::Only(Default::default()),
            false => SlotFilter::All,
        };
        let mut sink = RdbSink::of(writer);
        sink.access = Some((self.engine.config().eviction, self.now.unix_ms()));
        let id = self.engine.snapshot_begin(slots, Box::new(sink));
        Ok(Saving {
            id,
            out,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            pace: Pace::new(self.now.mono_us),
            stage: Stage::Snapshot,
            changes: self.fx.dirty(),
            started_s: self.now_s(),
            started_us: self.now.mono_us,
            keys_total,
            keys_done: 0,
            seen_bytes,
            early_bytes: 0,
            given_bytes: false,
            refused: None,
        })
    }

    fn all_keys(&self) -> u64 {
        (0..self.settings.databases)
            .map(|db| self.engine.dbsize(db) as u64)
            .sum()
    }

    /// A file with what stands before its keys.
    pub(crate) fn begin_rdb(&mut self, version: RdbVersion, without_keys: bool) -> RdbWriter {
        let compress = self.config.yes("rdbcompression");
        let mut writer = RdbWriter::with_compression(version, compress);
        let mut number = |name: &str, n: u64| writer.aux(name, n.to_string().as_bytes());
        number("redis-bits", u64::from(usize::BITS));
        number("ctime", self.now.unix_us / 1_000_000);
        number("used-mem", self.host.memory().0);
        number("aof-base", 0);
        writer.aux("valkey-ver", crate::COMPATIBLE_VALKEY_VERSION.as_bytes());
        if self.followers.is_active() {
            writer.aux("repl-stream-db", b"0");
            writer.aux("repl-id", self.followers.id.as_bytes());
            let at = self.journal.position().to_string();
            writer.aux("repl-offset", at.as_bytes());
        }
        for code in &self.persist.functions {
            writer.function(code);
        }
        if without_keys {
            return writer;
        }
        for db in 0..self.settings.databases {
            let keys = self.engine.dbsize(db) as u64;
            if keys > 0 {
                writer.select_db(u32::from(db));
                writer.resize_db(keys, self.engine.expiries_len(db) as u64);
            }
        }
        writer
    }

    /// Goes on with the save: some steps, and what is there is handed over.
    pub(super) fn save_turn(&mut self) {
        let allowed = self.keys_allowed();
        let Some(saving) = &mut self.persist.saving else {
            return;
        };
        saving.feed(&mut self.engine, allowed, self.now.mono_us, &*self.host);
        if let Some(outcome) = saving.out.outcome() {
            self.end_background_save(outcome);
        }
    }

    /// How many keys may have been given by now, with `rdb-key-save-delay` (for tests).
    fn keys_allowed(&self) -> u64 {
        let delay = self.config.int("rdb-key-save-delay");
        let Some(saving) = &self.persist.saving else {
            return 0;
        };
        if delay == 0 {
            return u64::MAX;
        }
        let passed = self.now.mono_us.saturating_sub(saving.started_us);
        match u64::try_from(delay) {
            Ok(us) => passed / us,
            Err(_) => passed.saturating_mul(delay.unsigned_abs()),
        }
    }

    /// Whether so much waits for the disk that clients have to.
    pub(crate) fn is_saving_behind(&mut self) -> bool {
        // A slow follower is closed when its limit is reached; only the disk makes others wait.
        let Some(saving) = &mut self.persist.saving else {
            return false;
        };
        !saving.waiting.is_empty()
            && self
                .engine
                .snapshot_sink(saving.id)
                .map_or(0, |sink| sink.pending_bytes())
                + saving.waiting_bytes
                > PENDING_BYTES_MAX
    }

    /// Writes the file while everything else waits.
    ///
    /// # Errors
    /// What went wrong; it has been logged.
    pub(crate) fn save_now(&mut self) -> Result<(), String> {
        let result = self.begin_save().and_then(|()| {
            let delay = self.config.int("rdb-key-save-delay");
            let Some(saving) = &mut self.persist.saving else {
                return Err("no save".into());
            };
            while saving.stage == Stage::Snapshot {
                let before = saving.keys_done;
                let keys = if delay == 0 { 1024 } else { 1 };
                save_step(&mut self.engine, saving, keys);
                for draft in saving.waiting.drain(..) {
                    saving.out.give(draft);
                }
                saving.waiting_bytes = 0;
                if delay != 0 {
                    let us = delay_us(delay, saving.keys_done - before);
                    self.host.sleep(std::time::Duration::from_micros(us));
                }
            }
            saving.out.finish();
            saving.out.wait()
        });
        let saving = self.persist.saving.take();
        match &result {
            Ok(()) => {
                tracing::info!("DB saved on disk");
                if let Some(saving) = &saving {
                    self.persist.saved_changes = saving.changes;
                }
                self.persist.last_save_s = self.now_s();
                self.persist.last_ok = true;
            }
            Err(e) => tracing::warn!("Error saving DB on disk: {e}"),
        }
        if result.is_err() {
            self.end_snapshot(saving);
        }
        self.update_restrictions();
        result
    }

    /// Gives a snapshot up, if it is not done.
    pub(crate) fn end_snapshot(&mut self, saving: Option<Saving>) {
        if let Some(saving) = saving {
            self.engine.snapshot_abort(saving.id);
        }
    }

    /// Begins a save in the background.
    ///
    /// # Errors
    /// It cannot begin; that has been logged and counts as a failed save.
    pub(crate) fn begin_background_save(&mut self) -> Result<(), ()> {
        self.persist.scheduled = false;
        match self.begin_save() {
            Ok(()) => {
                tracing::info!("Background saving started by pid {}", std::process::id());
                Ok(())
            }
            Err(e) => {
                tracing::warn!("Can't save in background: {e}");
                self.persist.last_ok = false;
                self.update_restrictions();
                Err(())
            }
        }
    }

    /// Whether a background save is running.
    pub(crate) fn is_saving(&self) -> bool {
        self.persist.saving.is_some()
    }

    /// Gives up the running save. Its file is removed.
    pub(crate) fn cancel_background_save(&mut self) {
        if let Some(saving) = self.persist.saving.take() {
            self.persist.last_took_s = Some(saving.running_s(self.now_s()));
            self.persist.last_early_bytes = saving.early_bytes;
            self.engine.snapshot_abort(saving.id);
        }
    }

    fn end_background_save(&mut self, outcome: Result<(), String>) {
        let Some(saving) = self.persist.saving.take() else {
            return;
        };
        // Done already, unless it failed before its end.
        self.engine.snapshot_abort(saving.id);
        let now_s = self.now_s();
        self.persist.last_took_s = Some(saving.running_s(now_s));
        self.persist.last_early_bytes = saving.early_bytes;
        match outcome {
            Ok(()) => {
                tracing::info!("Background saving terminated with success");
                self.persist.saved_changes = saving.changes;
                self.persist.last_save_s = now_s;
                self.persist.last_ok = true;
            }
            Err(e) => {
                tracing::warn!("Background saving error: {e}");
                self.persist.last_ok = false;
            }
        }
        self.update_restrictions();
    }

    /// Begins what is due: a scheduled save, or one by a `save` point.
    pub(crate) fn persistence_cron(&mut self) {
        if !self.persist.enabled || self.is_saving() || self.persist.loading.is_some() {
            return;
        }
        let now_s = self.now_s();
        let changes = self.unsaved_changes();
        let p = &self.persist;
        let may_retry = p.last_ok || now_s.saturating_sub(p.last_try_s) > RETRY_S;
        if p.scheduled && may_retry {
            // A failure has been noted.
            let _ = self.begin_background_save();
            return;
        }
        let due = p.points.iter().find(|(seconds, least)| {
            changes >= *least && now_s.saturating_sub(p.last_save_s) > *seconds && may_retry
        });
        if let Some((seconds, least)) = due {
            tracing::info!("{least} changes in {seconds} seconds. Saving...");
            // A failure has been noted.
            let _ = self.begin_background_save();
        }
    }

    /// `FLUSHALL` was executed: a save of what was there before is worth nothing now. With save points the empty file is written
    /// at once, so that a crash brings nothing back.
    pub(crate) fn persistence_on_flushall(&mut self) {
        if !self.persist.enabled {
            return;
        }
        self.cancel_background_save();
        if !self.persist.points.is_empty() {
            // A failure has been logged; then a save in the background has to do it.
            self.persist.scheduled = self.save_now().is_err();
        }
    }
}

/// Why what has been written is of no use, if so: as in Valkey, a follower that would not understand a key gets no file.
fn refusal(writer: &RdbWriter) -> Option<String> {
    let (db, key) = writer.refused()?;
    let (key, version) = (String::from_utf8_lossy(key), RdbVersion::V11.number());
    Some(format!(
        "Can't store key '{key}' (db {db}) in RDB version {version}"
    ))
}

/// One step of the snapshot. What it gave becomes a draft once it is large enough, or the last. Returns how many bytes it gave.
fn save_step(engine: &mut Engine, saving: &mut Saving, keys: usize) -> usize {
    let before = engine
        .snapshot_sink(saving.id)
        .map_or(0, |sink| sink.pending_bytes());
    saving.early_bytes += before.saturating_sub(saving.seen_bytes) as u64;
    let done = matches!(
        engine.snapshot_step(saving.id, keys),
        SnapshotProgress::Done | SnapshotProgress::Unknown
    );
    if done {
        let sink = engine
            .snapshot_finish(saving.id)
            .and_then(|sink| sink.into_any().downcast::<RdbSink>().ok());
        if let Some(mut sink) = sink {
            saving.keys_done = sink.keys();
            saving.refused = refusal(&sink.writer);
            sink.writer.finish();
            let draft = sink.writer.take_draft();
            saving.wait(draft);
        }
        saving.stage = Stage::Finishing;
        return 0;
    }
    let Some(sink) = engine
        .snapshot_sink(saving.id)
        .and_then(|sink| sink.as_any_mut().downcast_mut::<RdbSink>())
    else {
        return 0;
    };
    saving.keys_done = sink.keys();
    saving.refused = refusal(&sink.writer);
    let given = sink.writer.pending_bytes().saturating_sub(before);
    saving.seen_bytes = sink.writer.pending_bytes();
    saving.cut_draft(engine);
    given
}
