//! The one writer of a log: takes everything that waits, writes it with one call, syncs once, and
//! tells all who waited, in order.
//!
//! # Why no crash loses or invents anything
//!
//! 1. The log on disk only grows: votes, truncations and purges are records among the entries. What a
//!    sequence of records means depends on nothing else, and the records on disk after a crash are
//!    a prefix of those written (`recover` cuts a torn tail). So the state after a crash is one that
//!    the log was in, and contains everything whose sync succeeded.
//! 2. Votes and entries are written in the order in which openraft submitted them, so an entry of a
//!    term is durable only if the vote for it is.
//! 3. A callback runs after the sync of its record, and after all callbacks before it.
//! 4. A new segment is created (content, then name, durably) after the last sync of the one before,
//!    and the identity file names it before anything is written to it beyond its head. If the crash
//!    comes in between, the segment holds its head or part of it, and is taken or dropped; if the
//!    segment that the identity names is missing, the log is.
//! 5. A segment is removed after a purge record for all its entries is durable. The head of the
//!    next one repeats everything else that it said.
//! 6. After a failed sync nothing is known about what was written since the last good one. The writer
//!    stops for good; only a restart goes on, which writes what it finds of the last batch again.
//! 7. A full disk fails the write, before any sync. The same bytes are written to the same place until
//!    there is room; nothing of it was acknowledged.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use openraft::storage::IOFlushed;
use tokio::sync::{mpsc, oneshot};

use super::format::{self, Record, SegmentHead, State};
use super::recover::{self, Opened, Owner};
use super::store::Shared;
use crate::disk::Disk;
use crate::planted::planted;
use crate::raft::{Entry, LogId, Types, Vote};

/// No more than this is written with one sync, if it comes in more than one piece.
const BATCH_BYTES: usize = 1 << 20;
/// How often a write is tried again while the disk is full.
const FULL_RETRY: Duration = Duration::from_millis(200);

/// What the writer is asked to do.
pub enum Command {
    /// Entries, and the number of their place in the cache.
    Append {
        entries: Vec<Entry>,
        seq: u64,
        done: IOFlushed<Types>,
    },
    Vote {
        vote: Vote,
        done: oneshot::Sender<std::io::Result<()>>,
    },
    Truncate {
        after: Option<LogId>,
    },
    Purge {
        upto: LogId,
    },
    /// Answers when everything before it is durable.
    #[cfg_attr(not(test), allow(dead_code))]
    Flush {
        done: oneshot::Sender<()>,
    },
    /// Ends the writer, and answers when the log may be opened again.
    Close {
        done: oneshot::Sender<()>,
    },
}

enum Done {
    Append(IOFlushed<Types>),
    Vote(oneshot::Sender<std::io::Result<()>>),
    Flush(oneshot::Sender<()>),
}

/// Changes of the map of entries, to be made once they are durable.
enum Change {
    Entry { index: u64, start: u64, end: u64 },
    Truncate(Option<LogId>),
    Purge(LogId),
}

/// The writer's state.
pub struct Writer {
    disk: Arc<dyn Disk>,
    owner: Owner,
    shared: Arc<Shared>,
    commands: mpsc::UnboundedReceiver<Command>,
    segment_bytes: u64,
    identity: super::identity::Identity,
    /// As of the last record written.
    state: State,
    running: u32,
    number: u64,
    /// Where the next record goes; everything before it is durable.
    offset: u64,
    closing: Option<oneshot::Sender<()>>,
    _lock: Box<dyn crate::disk::DiskLock>,
}

impl Writer {
    pub fn new(
        disk: Arc<dyn Disk>,
        owner: Owner,
        segment_bytes: u64,
        shared: Arc<Shared>,
        commands: mpsc::UnboundedReceiver<Command>,
        opened: Opened,
    ) -> Writer {
        let (number, offset) = opened
            .segments
            .last_key_value()
            .map_or((0, 0), |(number, segment)| (*number, segment.len));
        Writer {
            disk,
            owner,
            shared,
            commands,
            segment_bytes,
            identity: opened.identity,
            state: opened.state,
            running: opened.running,
            number,
            offset,
            closing: None,
            _lock: opened.lock,
        }
    }

    /// Runs until all senders are gone or the disk fails.
    pub async fn run(mut self) {
        let error = loop {
            let Some(first) = self.commands.recv().await else {
                tracing::debug!(shard = %self.owner.shard, "log writer ends");
                return;
            };
            if let Err(e) = self.batch(first).await {
                break e;
            }
            if let Some(done) = self.closing.take() {
                self.shared.fail("closed".into());
                drop(self);
                let _ = done.send(());
                return;
            }
        };
        tracing::error!(shard = %self.owner.shard, "the log has failed and stops: {error}");
        self.shared.fail(error.to_string());
        // Nobody is told that something was flushed; everybody is told that it was not.
        self.commands.close();
        while let Some(command) = self.commands.recv().await {
            let refuse = || std::io::Error::new(error.kind(), error.to_string());
            match command {
                Command::Append { done, .. } => done.io_completed(Err(refuse())),
                Command::Vote { done, .. } => {
                    let _ = done.send(Err(refuse()));
                }
                Command::Truncate { .. } | Command::Purge { .. } => {}
                Command::Flush { .. } | Command::Close { .. } => {}
            }
        }
    }

    async fn batch(&mut self, first: Command) -> std::io::Result<()> {
        let mut buf = BytesMut::new();
        let mut dones = Vec::new();
        let mut changes = Vec::new();
        let mut flushed_seq = None;
        let mut next = Some(first);
        while let Some(command) = next {
            match command {
                Command::Append { entries, seq, done } => {
                    for entry in entries {
                        let (index, id) = (entry.id.index, entry.id);
                        let start = self.offset + buf.len() as u64;
                        self.put(&mut buf, &Record::Entry(entry));
                        let end = self.offset + buf.len() as u64;
                        changes.push(Change::Entry { index, start, end });
                        self.state.last = Some(id);
                    }
                    flushed_seq = Some(seq);
                    dones.push(Done::Append(done));
                }
                Command::Vote { vote, done } => {
                    if !planted("vote_not_persisted") {
                        self.put(&mut buf, &Record::Vote(vote));
                        self.state.vote = Some(vote);
                    }
                    dones.push(Done::Vote(done));
                }
                Command::Truncate { after } => {
                    self.put(&mut buf, &Record::Truncate(after));
                    self.state.last = after;
                    changes.push(Change::Truncate(after));
                }
                Command::Purge { upto } => {
                    self.put(&mut buf, &Record::Purge(upto));
                    self.state.purged = Some(upto);
                    if self.state.last.is_none_or(|last| last.index <= upto.index) {
                        self.state.last = Some(upto);
                    }
                    changes.push(Change::Purge(upto));
                }
                Command::Flush { done } => dones.push(Done::Flush(done)),
                Command::Close { done } => {
                    self.closing = Some(done);
                    break;
                }
            }
            next = if buf.len() < BATCH_BYTES {
                self.commands.try_recv().ok()
            } else {
                None
            };
        }
        if let Some(id) = self.shared.committed()
            && self.state.committed != Some(id)
            && self.state.has(&id)
            && !(buf.is_empty() && dones.is_empty())
        {
            self.put(&mut buf, &Record::Committed(id));
            self.state.committed = Some(id);
        }
        let result = if buf.is_empty() {
            Ok(())
        } else {
            self.write(buf).await
        };
        if let Err(e) = &result {
            let refuse = || std::io::Error::new(e.kind(), e.to_string());
            // The error must be known before anybody can ask what is flushed.
            self.shared.fail(e.to_string());
            for done in dones {
                match done {
                    Done::Append(done) => done.io_completed(Err(refuse())),
                    Done::Vote(done) => {
                        let _ = done.send(Err(refuse()));
                    }
                    Done::Flush(_) => {}
                }
            }
            return result;
        }
        let purged = self.publish(changes, flushed_seq);
        for done in dones {
            match done {
                Done::Append(done) => done.io_completed(Ok(())),
                Done::Vote(done) => {
                    let _ = done.send(Ok(()));
                }
                Done::Flush(done) => {
                    let _ = done.send(());
                }
            }
        }
        if purged {
            self.remove_segments().await?;
        }
        if self.offset >= self.segment_bytes {
            self.rotate().await?;
        }
        Ok(())
    }

    fn put(&mut self, buf: &mut BytesMut, record: &Record) {
        self.running = format::encode(buf, record, self.offset, self.running);
    }

    /// Writes at the end, and syncs.
    async fn write(&mut self, buf: BytesMut) -> std::io::Result<()> {
        let data = buf.freeze();
        let file = self.shared.segment_file(self.number)?;
        loop {
            match file.write_at(self.offset, data.clone()).await {
                Ok(()) => break,
                Err(e) if is_full(&e) => {
                    self.shared.stall(Some(e.to_string()));
                    pause(FULL_RETRY).await;
                    if self.commands.is_closed() {
                        return Err(e);
                    }
                }
                Err(e) => return Err(e),
            }
        }
        self.shared.stall(None);
        if !planted("ack_before_fsync") {
            file.sync().await?;
        }
        self.offset += data.len() as u64;
        Ok(())
    }

    /// Makes known what is durable. Whether something was purged.
    fn publish(&mut self, changes: Vec<Change>, flushed_seq: Option<u64>) -> bool {
        let mut purged = false;
        let number = self.number;
        let flushed = self.state.last;
        let len = self.offset;
        self.shared.flushed(flushed_seq, flushed, |mem| {
            if let Some(segment) = mem.segments.get_mut(&number) {
                segment.len = len;
            }
            for change in changes {
                match change {
                    Change::Entry { index, start, end } => {
                        mem.index.push(index, number, start, end)
                    }
                    Change::Truncate(after) => {
                        mem.index.truncate_from(after.map_or(0, |id| id.index + 1));
                    }
                    Change::Purge(upto) => {
                        mem.index.purge_upto(upto.index);
                        purged = true;
                    }
                }
            }
        });
        purged
    }

    /// Removes segments that hold no entry any more, oldest first.
    async fn remove_segments(&mut self) -> std::io::Result<()> {
        let gone = self.shared.take_segments_before(self.number);
        let any = !gone.is_empty();
        for path in gone {
            self.disk.remove(&path).await?;
        }
        if any {
            self.disk.sync_dir(&self.owner.dir).await?;
        }
        Ok(())
    }

    /// Closes the segment and begins the next.
    async fn rotate(&mut self) -> std::io::Result<()> {
        let head = SegmentHead {
            shard: self.owner.shard,
            node: self.owner.node,
            number: self.number + 1,
            running: self.running,
            state: self.state.clone(),
        };
        let (segment, running) = loop {
            match recover::create_segment(&*self.disk, &self.owner.dir, &head).await {
                Ok(created) => break created,
                Err(e) if is_full(&e) => {
                    self.shared.stall(Some(e.to_string()));
                    pause(FULL_RETRY).await;
                    if self.commands.is_closed() {
                        return Err(e);
                    }
                }
                Err(e) => return Err(e),
            }
        };
        self.identity.segment = head.number;
        loop {
            match recover::write_identity(&*self.disk, &self.owner.dir, &self.identity).await {
                Ok(()) => break,
                Err(e) if is_full(&e) => {
                    self.shared.stall(Some(e.to_string()));
                    pause(FULL_RETRY).await;
                    if self.commands.is_closed() {
                        return Err(e);
                    }
                }
                Err(e) => return Err(e),
            }
        }
        self.shared.stall(None);
        self.number = head.number;
        self.running = running;
        self.offset = segment.len;
        self.shared.add_segment(self.number, segment);
        Ok(())
    }
}

/// Room may be made; anything else will not get better by waiting.
fn is_full(e: &std::io::Error) -> bool {
    matches!(
        e.kind(),
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded
    )
}

/// Sleeps on the writer's own thread.
#[cfg(not(madsim))]
async fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// Sleeps in the simulation.
#[cfg(madsim)]
async fn pause(time: Duration) {
    madsim::time::sleep(time).await;
}

/// Starts the writer: on a thread of its own, which waits for the disk so that nobody else must.
///
/// # Errors
/// No thread could be made.
#[cfg(not(madsim))]
pub fn spawn(writer: Writer) -> std::io::Result<()> {
    let name = format!("log-{}", &writer.owner.shard.to_string()[..8]);
    std::thread::Builder::new()
        .name(name)
        .spawn(move || block_on(writer.run()))?;
    Ok(())
}

/// Starts the writer as a task of the simulation.
///
/// # Errors
/// None.
#[cfg(madsim)]
pub fn spawn(writer: Writer) -> std::io::Result<()> {
    madsim::task::spawn(writer.run());
    Ok(())
}

#[cfg(not(madsim))]
fn block_on(future: impl Future<Output = ()>) {
    use std::task::{Context, Wake, Waker};

    struct Unpark(std::thread::Thread);

    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = std::pin::pin!(future);
    while future.as_mut().poll(&mut context).is_pending() {
        std::thread::park();
    }
}
