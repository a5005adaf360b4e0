//! The log as openraft sees it: appended entries are readable at once, durable when the writer says so.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use futures_util::stream::{self, Stream};
use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use openraft::{OptionalSend, RaftLogReader};
use tokio::sync::{mpsc, oneshot};

use super::format::State;
use super::index::{Index, Run};
use super::recover::{self, Opened, Owner, Segment};
use super::writer::{self, Command, Writer};
use crate::disk::{Disk, DiskFile};
use crate::error::StartError;
use crate::raft::{Entry, LogId, Types, Vote};
use crate::watch;

/// About how many bytes of entries are read, and sent, at once.
const READ_BYTES: u64 = 512 << 10;

/// What the store and the writer share.
pub struct Shared {
    mem: Mutex<Mem>,
    flushed: watch::Sender<Option<u64>>,
    failed: watch::Sender<Option<String>>,
    /// How often entries were asked for that had been cut.
    missed: watch::Sender<u64>,
    cache_bytes_max: u64,
}

/// The log in memory.
pub struct Mem {
    state: State,
    cache: VecDeque<Cached>,
    cache_bytes: u64,
    next_seq: u64,
    flushed_seq: Option<u64>,
    /// Of durable entries only.
    pub index: Index,
    pub segments: BTreeMap<u64, Segment>,
    failed: Option<String>,
    stalled: Option<String>,
}

struct Cached {
    /// Of the append that brought it.
    seq: u64,
    entry: Entry,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Mem> {
        self.mem
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// The last committed id that openraft told.
    pub fn committed(&self) -> Option<LogId> {
        self.lock().state.committed
    }

    /// The log is of no more use.
    pub fn fail(&self, what: String) {
        self.lock().failed.get_or_insert(what.clone());
        self.failed.send_if(|failed| {
            let first = failed.is_none();
            failed.get_or_insert(what);
            first
        });
    }

    /// Writing waits, or goes on.
    pub fn stall(&self, what: Option<String>) {
        let mut mem = self.lock();
        if mem.stalled != what {
            match &what {
                Some(what) => tracing::error!("the log waits for room: {what}"),
                None => tracing::info!("the log goes on"),
            }
            mem.stalled = what;
        }
    }

    pub fn segment_file(&self, number: u64) -> io::Result<Arc<dyn DiskFile>> {
        self.lock()
            .segments
            .get(&number)
            .map(|segment| segment.file.clone())
            .ok_or_else(|| io::Error::other("no such segment"))
    }

    pub fn add_segment(&self, number: u64, segment: Segment) {
        self.lock().segments.insert(number, segment);
    }

    /// Forgets segments before `current` that hold no entries, and returns their paths.
    pub fn take_segments_before(&self, current: u64) -> Vec<PathBuf> {
        let mut mem = self.lock();
        let keep = mem.index.first_segment().unwrap_or(current).min(current);
        let kept = mem.segments.split_off(&keep);
        let gone = std::mem::replace(&mut mem.segments, kept);
        gone.into_values().map(|segment| segment.path).collect()
    }

    /// A batch is durable.
    pub fn flushed(&self, seq: Option<u64>, last: Option<LogId>, change: impl FnOnce(&mut Mem)) {
        {
            let mut mem = self.lock();
            change(&mut mem);
            mem.flushed_seq = mem.flushed_seq.max(seq);
            mem.evict(self.cache_bytes_max);
        }
        self.flushed.set(last.map(|id| id.index));
    }
}

impl Mem {
    /// Drops durable entries from the cache's old end until it fits.
    fn evict(&mut self, max: u64) {
        while self.cache_bytes > max
            && let Some(front) = self.cache.front()
            && Some(front.seq) <= self.flushed_seq
        {
            self.cache_bytes -= front.entry.bytes();
            self.cache.pop_front();
        }
    }

    fn push(&mut self, seq: u64, entry: Entry) {
        self.cache_bytes += entry.bytes();
        self.state.last = Some(entry.id);
        self.cache.push_back(Cached { seq, entry });
    }

    fn cache_first(&self) -> Option<u64> {
        self.cache.front().map(|cached| cached.entry.id.index)
    }
}

/// The log of one group at this node. A handle; clones are the same log.
#[derive(Clone)]
pub struct LogStore {
    shared: Arc<Shared>,
    commands: mpsc::UnboundedSender<Command>,
}

/// Sizes of a log.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub segment_bytes: u64,
    pub cache_bytes: u64,
}

/// A piece of a range that is to be read.
enum Piece {
    Disk {
        file: Arc<dyn DiskFile>,
        path: PathBuf,
        run: Run,
        from: u64,
        to: u64,
    },
    Cached(Vec<Entry>),
}

impl LogStore {
    /// Opens the log of `owner`, creating it if it is new, and starts its writer. Also says whether it is
    /// new.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn open(
        disk: Arc<dyn Disk>,
        owner: Owner,
        limits: Limits,
    ) -> Result<(LogStore, bool), StartError> {
        let mut opened: Opened = recover::open(&*disk, &owner).await?;
        let fresh = opened.fresh;
        let (flushed, _) = watch::channel(opened.state.last.map(|id| id.index));
        let (failed, _) = watch::channel(None);
        let (missed, _) = watch::channel(0);
        let shared = Arc::new(Shared {
            mem: Mutex::new(Mem {
                state: opened.state.clone(),
                cache: VecDeque::new(),
                cache_bytes: 0,
                next_seq: 0,
                flushed_seq: None,
                index: std::mem::take(&mut opened.index),
                segments: opened.segments.clone(),
                failed: None,
                stalled: None,
            }),
            flushed,
            failed,
            missed,
            cache_bytes_max: limits.cache_bytes,
        });
        let (commands, receiver) = mpsc::unbounded_channel();
        let writer = Writer::new(
            disk,
            owner,
            limits.segment_bytes,
            shared.clone(),
            receiver,
            opened,
        );
        writer::spawn(writer)?;
        Ok((LogStore { shared, commands }, fresh))
    }

    /// Index up to which the log is durable.
    pub fn watch_flushed(&self) -> watch::Receiver<Option<u64>> {
        self.shared.flushed.subscribe()
    }

    /// Why the log is of no more use, once it is not.
    pub fn watch_failed(&self) -> watch::Receiver<Option<String>> {
        self.shared.failed.subscribe()
    }

    /// Changes whenever entries to send were asked for that have been cut.
    pub fn watch_missed(&self) -> watch::Receiver<u64> {
        self.shared.missed.subscribe()
    }

    /// Declares the log to be of no more use.
    pub fn fail(&self, what: String) {
        self.shared.fail(what);
    }

    /// Why writing waits, while it does.
    pub fn stalled(&self) -> Option<String> {
        self.shared.lock().stalled.clone()
    }

    /// The last entry.
    pub fn last(&self) -> Option<LogId> {
        self.shared.lock().state.last
    }

    /// The last entry that was cut.
    pub fn purged(&self) -> Option<LogId> {
        self.shared.lock().state.purged
    }

    /// Bytes of all segments.
    pub fn bytes(&self) -> u64 {
        self.shared
            .lock()
            .segments
            .values()
            .map(|segment| segment.len)
            .sum()
    }

    /// The highest index such that about `bytes` of durable log stand between it and `upto`.
    pub fn keep_behind(&self, upto: u64, bytes: u64) -> Option<u64> {
        self.shared.lock().index.keep_behind(upto, bytes)
    }

    /// Waits until everything appended so far is durable, or the log has failed.
    #[cfg(test)]
    pub async fn flush(&self) {
        let (done, wait) = oneshot::channel();
        if self.commands.send(Command::Flush { done }).is_ok() {
            let _ = wait.await;
        }
    }

    /// Ends the writer once it has written everything so far; the log can be opened again then.
    pub async fn close(&self) {
        let (done, wait) = oneshot::channel();
        if self.commands.send(Command::Close { done }).is_ok() {
            let _ = wait.await;
        }
    }

    fn check(&self) -> io::Result<()> {
        match &self.shared.lock().failed {
            Some(what) => Err(io::Error::other(format!("the log has failed: {what}"))),
            None => Ok(()),
        }
    }

    fn send(&self, command: Command) -> io::Result<()> {
        self.commands
            .send(command)
            .map_err(|_| io::Error::other("the log's writer is gone"))
    }

    /// Entries `from..to` as far as the log has them, at most about `max_bytes` but at least one.
    ///
    /// # Errors
    /// The disk's, or damage, with file and offset.
    pub async fn read(&self, from: u64, to: u64, max_bytes: u64) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for piece in self.plan(from, to, max_bytes)? {
            match piece {
                Piece::Cached(cached) => entries.extend(cached),
                Piece::Disk {
                    file,
                    path,
                    run,
                    from,
                    to,
                } => {
                    recover::read_run(&*file, run, from, to, &mut entries)
                        .await
                        .map_err(|what| io::Error::other(format!("{}: {what}", path.display())))?;
                }
            }
        }
        let mut bytes = 0;
        let mut keep = 0;
        for entry in &entries {
            bytes += entry.bytes();
            if keep > 0 && bytes > max_bytes {
                break;
            }
            keep += 1;
        }
        entries.truncate(keep);
        Ok(entries)
    }

    /// Where the entries are, as of one instant.
    fn plan(&self, from: u64, to: u64, max_bytes: u64) -> io::Result<Vec<Piece>> {
        let mem = self.shared.lock();
        let next = |id: Option<LogId>| id.map_or(0, |id| id.index + 1);
        let mut at = from.max(next(mem.state.purged));
        let end = to.min(next(mem.state.last));
        let cache_first = mem.cache_first();
        let mut pieces = Vec::new();
        let mut bytes = 0;
        while at < end && bytes < max_bytes {
            if let Some(first) = cache_first
                && at >= first
            {
                let mut cached = Vec::new();
                let skip = usize::try_from(at - first).unwrap_or(usize::MAX);
                for item in mem.cache.iter().skip(skip) {
                    if item.entry.id.index >= end || bytes >= max_bytes {
                        break;
                    }
                    bytes += item.entry.bytes();
                    cached.push(item.entry.clone());
                }
                pieces.push(Piece::Cached(cached));
                break;
            }
            let found = mem
                .index
                .find(at)
                .and_then(|run| Some((run, mem.segments.get(&run.segment)?)));
            let Some((run, segment)) = found else {
                return Err(io::Error::other(format!(
                    "entry {at} is missing in the log"
                )));
            };
            // The index learns of a truncation when it is durable. Until then a run may go on with entries that
            // were replaced; what replaced them is in the cache, which holds everything that is not durable.
            let to = run
                .last
                .min(end - 1)
                .min(cache_first.map_or(u64::MAX, |first| first - 1));
            bytes += (run.end - run.start).saturating_mul(to - at + 1) / (run.last - run.first + 1);
            pieces.push(Piece::Disk {
                file: segment.file.clone(),
                path: segment.path.clone(),
                run,
                from: at,
                to,
            });
            at = to + 1;
        }
        Ok(pieces)
    }
}

/// The first index at which `entries` do not go on one by one from `next`.
pub fn gap_in(next: u64, entries: &[Entry]) -> Option<u64> {
    let mut at = next..;
    entries
        .iter()
        .map(|entry| entry.id.index)
        .find(|index| at.next() != Some(*index))
}

fn bounds(range: &impl RangeBounds<u64>) -> (u64, u64) {
    let from = match range.start_bound() {
        Bound::Included(from) => *from,
        Bound::Excluded(from) => from.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let to = match range.end_bound() {
        Bound::Included(to) => to.saturating_add(1),
        Bound::Excluded(to) => *to,
        Bound::Unbounded => u64::MAX,
    };
    (from, to)
}

impl RaftLogReader<Types> for LogStore {
    /// Piece by piece, so that replaying a long log does not load it whole.
    async fn entries_stream<RB>(
        &mut self,
        range: RB,
    ) -> impl Stream<Item = Result<Entry, io::Error>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let (from, to) = bounds(&range);
        let store = self.clone();
        let pieces = stream::unfold((store, from), move |(store, at)| async move {
            if at >= to {
                return None;
            }
            let chunk = match store.read(at, to, READ_BYTES).await {
                Ok(chunk) => chunk,
                Err(e) => return Some((vec![Err(e)], (store, to))),
            };
            let next = chunk.last()?.id.index + 1;
            Some((chunk.into_iter().map(Ok).collect(), (store, next)))
        });
        Box::pin(futures_util::StreamExt::flat_map(pieces, stream::iter))
    }

    async fn try_get_log_entries<RB>(&mut self, range: RB) -> Result<Vec<Entry>, io::Error>
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let (from, to) = bounds(&range);
        self.read(from, to, u64::MAX).await
    }

    /// Nothing when entry `start` is no longer there: openraft goes on to ask for a follower whose entries were cut
    /// while a snapshot is on its way to it, and would send what comes after the gap as if there were none.
    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<Entry>, io::Error> {
        let entries = self.read(start, end, READ_BYTES).await?;
        if entries.first().is_some_and(|entry| entry.id.index != start) {
            // openraft takes nothing for a heartbeat and asks again; the stream that wanted them must end
            // (`crate::net`) before it looks at what the member needs.
            self.shared.missed.send_if(|missed| {
                *missed += 1;
                true
            });
            return Ok(Vec::new());
        }
        Ok(entries)
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.shared.lock().state.vote)
    }
}

impl RaftLogStorage<Types> for LogStore {
    type LogReader = LogStore;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, io::Error> {
        let mem = self.shared.lock();
        Ok(LogState {
            last_purged_log_id: mem.state.purged,
            last_log_id: mem.state.last,
        })
    }

    async fn get_log_reader(&mut self) -> LogStore {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        self.check()?;
        let (done, wait) = oneshot::channel();
        self.send(Command::Vote { vote: *vote, done })?;
        wait.await
            .map_err(|_| io::Error::other("the log's writer is gone"))??;
        self.shared.lock().state.vote = Some(*vote);
        Ok(())
    }

    /// Written with the next batch: it only spares a restarted node some waiting.
    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        self.shared.lock().state.committed = committed;
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        Ok(self.shared.lock().state.committed_here())
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        self.check()?;
        let entries: Vec<Entry> = entries.into_iter().collect();
        let seq = {
            let mut mem = self.shared.lock();
            let next = mem.state.last.map_or(0, |last| last.index + 1);
            if let Some(gap) = gap_in(next, &entries) {
                // Whatever asked for it, a log with a gap is none.
                return Err(io::Error::other(format!(
                    "entry {gap} cannot follow: the log ends before {next}"
                )));
            }
            let seq = mem.next_seq;
            mem.next_seq += 1;
            for entry in &entries {
                mem.push(seq, entry.clone());
            }
            seq
        };
        self.send(Command::Append {
            entries,
            seq,
            done: callback,
        })
    }

    /// Not waited for: the record stands before those of whatever is appended next.
    async fn truncate_after(&mut self, after: Option<LogId>) -> Result<(), io::Error> {
        self.check()?;
        {
            let mut mem = self.shared.lock();
            while let Some(back) = mem.cache.back()
                && Some(back.entry.id.index) > after.map(|id| id.index)
            {
                mem.cache_bytes -= back.entry.bytes();
                mem.cache.pop_back();
            }
            mem.state.last = after;
        }
        self.send(Command::Truncate { after })
    }

    /// Not waited for: entries that are still there after a crash do no harm.
    async fn purge(&mut self, upto: LogId) -> Result<(), io::Error> {
        self.check()?;
        {
            let mut mem = self.shared.lock();
            while let Some(front) = mem.cache.front()
                && front.entry.id.index <= upto.index
            {
                mem.cache_bytes -= front.entry.bytes();
                mem.cache.pop_front();
            }
            if mem.state.purged >= Some(upto) {
                return Ok(());
            }
            mem.state.purged = Some(upto);
            if mem.state.last.is_none_or(|last| last.index <= upto.index) {
                mem.cache.clear();
                mem.cache_bytes = 0;
                mem.state.last = Some(upto);
            }
        }
        self.send(Command::Purge { upto })
    }
}
