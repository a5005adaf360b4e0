//! Opening a log: reads every record, cuts a torn tail, stops at anything else that is wrong.
//!
//! # Why a torn tail can be told from damage
//!
//! Records are written in batches, one sync a batch, strictly one after the other: a batch is written
//! only after the sync of the one before. So at a crash every byte before the last batch is durable,
//! and of the last batch any part may be. Each record says how much of its file was durable when it was
//! written. When the record at offset *x* is bad, the file is scanned for any valid record that says that
//! more than *x* was durable: if there is one, *x* was synced, perhaps acknowledged, and is damaged; the
//! start stops. If there is none, *x* lies in the last batch, nothing of which was acknowledged, or
//! the damage hit the very last batch, which no later record vouches for. The file is cut at *x*.
//!
//! Whatever of the last batch is valid is written and synced again before the log is used ([`write_back`]).
//!
//! Only the last segment can have a torn tail: a new segment is created after the last sync of the
//! one before.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};

use super::format::{self, Bad, Frame, Record, SegmentHead, State};
use super::identity::{self, Identity};
use super::index::{Index, Run};
use crate::disk::{self, Disk, DiskFile, DiskLock, OpenMode};
use crate::error::StartError;
use crate::ids::{NodeId, ShardId};
use crate::raft::{Entry, LogId};
use crate::types::Role;

/// How much is read at once.
const CHUNK: usize = 1 << 20;

/// A segment in use.
#[derive(Clone)]
pub struct Segment {
    pub file: Arc<dyn DiskFile>,
    pub path: PathBuf,
    pub len: u64,
}

/// A log as it was found.
pub struct Opened {
    pub state: State,
    pub index: Index,
    pub segments: BTreeMap<u64, Segment>,
    /// Running checksum of the last record.
    pub running: u32,
    pub identity: Identity,
    pub lock: Box<dyn DiskLock>,
    /// It was created just now.
    pub fresh: bool,
}

/// Whose log it must be.
#[derive(Clone, Debug)]
pub struct Owner {
    pub dir: PathBuf,
    pub shard: ShardId,
    pub node: NodeId,
    pub role: Role,
    /// The node has been a member before: a log that is not there is lost, not new.
    pub must_exist: bool,
}

/// The path of a segment.
pub fn segment_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:016x}.log"))
}

fn segment_number(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".log")?;
    if digits.len() != 16 {
        return None;
    }
    u64::from_str_radix(digits, 16).ok()
}

/// Reads records one after the other.
struct Scanner<'a> {
    file: &'a dyn DiskFile,
    len: u64,
    /// Offset of the next record.
    offset: u64,
    buf: BytesMut,
}

enum Next {
    Record(Frame, Bytes),
    End,
    Bad(Bad),
}

impl<'a> Scanner<'a> {
    fn new(file: &'a dyn DiskFile, offset: u64, len: u64) -> Self {
        Scanner {
            file,
            len,
            offset,
            buf: BytesMut::new(),
        }
    }

    /// Has at least `want` bytes in the buffer, or all that the file has.
    async fn fill(&mut self, want: usize) -> std::io::Result<()> {
        while self.buf.len() < want {
            let at = self.offset + self.buf.len() as u64;
            let left = self.len.saturating_sub(at);
            let ask = (want - self.buf.len())
                .max(CHUNK)
                .min(usize::try_from(left).unwrap_or(CHUNK));
            if ask == 0 {
                break;
            }
            let data = self.file.read_at(at, ask).await?;
            if data.is_empty() {
                break;
            }
            self.buf.extend_from_slice(&data);
        }
        Ok(())
    }

    async fn next(&mut self) -> std::io::Result<Next> {
        if self.offset >= self.len {
            return Ok(Next::End);
        }
        self.fill(format::HEADER).await?;
        let len = match format::peek_len(&self.buf) {
            Ok(len) => len,
            Err(bad) => return Ok(Next::Bad(bad)),
        };
        if self.offset + len as u64 > self.len {
            return Ok(Next::Bad(Bad::Short));
        }
        self.fill(len).await?;
        match format::frame(&self.buf) {
            Ok(frame) => {
                let whole = self.buf.split_to(frame.len).freeze();
                self.offset += frame.len as u64;
                let body = whole.slice(frame.body.clone());
                Ok(Next::Record(frame, body))
            }
            Err(bad) => Ok(Next::Bad(bad)),
        }
    }

    /// Whether any valid record behind the bad one says that the bad one was durable.
    async fn vouched_for(&mut self, bad: u64) -> std::io::Result<bool> {
        loop {
            self.fill(format::HEADER).await?;
            if self.buf.len() < format::HEADER {
                return Ok(false);
            }
            if self.offset > bad
                && let Ok(len) = format::peek_len(&self.buf)
                && self.offset + len as u64 <= self.len
            {
                self.fill(len).await?;
                if format::frame(&self.buf).is_ok_and(|frame| frame.synced > bad) {
                    return Ok(true);
                }
            }
            self.buf.advance(format::ALIGN);
            self.offset += format::ALIGN as u64;
        }
    }
}

/// The entries `from..=to` of one run, decoded and added to `out`: for reading a log that is in use.
///
/// # Errors
/// What is wrong, with its offset.
pub async fn read_run(
    file: &dyn DiskFile,
    run: Run,
    from: u64,
    to: u64,
    out: &mut Vec<Entry>,
) -> Result<(), String> {
    let len = (run.end - run.start) as usize;
    let mut buf = Bytes::from(
        file.read_at(run.start, len)
            .await
            .map_err(|e| e.to_string())?,
    );
    let mut next = run.first;
    let mut offset = run.start;
    while next <= run.last.min(to) {
        let damaged = |what: &str| format!("damaged at offset {offset}: {what}");
        let frame = match format::frame(&buf) {
            Ok(frame) => frame,
            Err(Bad::Short) => return Err(damaged("the record is cut short")),
            Err(Bad::Damaged(what)) => return Err(damaged(what)),
        };
        let body = buf.slice(frame.body.clone());
        let record = format::decode(frame.kind, body).map_err(damaged)?;
        if let Record::Entry(entry) = record {
            if entry.id.index != next {
                return Err(damaged("another entry than the one that was written there"));
            }
            if next >= from {
                out.push(entry);
            }
            next += 1;
        }
        buf.advance(frame.len);
        offset += frame.len as u64;
    }
    Ok(())
}

fn identity_error(owner: &Owner, what: impl Into<String>) -> StartError {
    StartError::Identity {
        dir: owner.dir.clone(),
        what: what.into(),
    }
}

/// Opens the log, or creates it.
///
/// # Errors
/// See [`StartError`].
pub async fn open(disk: &dyn Disk, owner: &Owner) -> Result<Opened, StartError> {
    disk.create_dir_all(&owner.dir).await?;
    let lock = match disk.lock(&owner.dir.join("lock")).await {
        Ok(lock) => lock,
        Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {
            return Err(StartError::InUse {
                dir: owner.dir.clone(),
            });
        }
        Err(e) => return Err(e.into()),
    };
    let identity_path = owner.dir.join(identity::FILE);
    let known = match disk.stat(&identity_path).await? {
        None => None,
        Some(_) => {
            let text = disk::read_all(disk, &identity_path, identity::MAX_LEN).await?;
            Some(Identity::parse(&text).map_err(|what| StartError::Corrupt {
                file: identity_path.clone(),
                offset: 0,
                what: what.into(),
            })?)
        }
    };
    let mut numbers = Vec::new();
    for entry in disk.list(&owner.dir).await? {
        if let Some(number) = segment_number(&entry.name) {
            numbers.push(number);
        }
    }
    numbers.sort_unstable();
    match known {
        None => create(disk, owner, &numbers, lock).await,
        Some(identity) => existing(disk, owner, identity, numbers, lock).await,
    }
}

/// A directory without identity: new, or its creation was cut short before anything was promised.
async fn create(
    disk: &dyn Disk,
    owner: &Owner,
    numbers: &[u64],
    lock: Box<dyn DiskLock>,
) -> Result<Opened, StartError> {
    if owner.must_exist {
        let what = format!(
            "the log of node {} is gone. It must not vote again under this id: take a new id, join \
             with it, and have the old one removed",
            owner.node
        );
        return Err(identity_error(owner, what));
    }
    let path = segment_path(&owner.dir, 0);
    match numbers {
        [] => {}
        [0] => {
            // The identity is written right after the first segment's head: only that may be there.
            let file = disk.open(&path, OpenMode::Read).await?;
            let len = file.len().await?;
            let mut scanner = Scanner::new(file.as_ref(), 0, len);
            let mut records = 0;
            while let Next::Record(..) = scanner.next().await? {
                records += 1;
            }
            if records > 1 {
                return Err(identity_error(
                    owner,
                    "has a log, but the file `identity` is gone",
                ));
            }
        }
        _ => {
            return Err(identity_error(
                owner,
                "has a log, but the file `identity` is gone",
            ));
        }
    }
    let head = SegmentHead {
        shard: owner.shard,
        node: owner.node,
        number: 0,
        running: 0,
        state: State::default(),
    };
    let (segment, running) = create_segment(disk, &owner.dir, &head).await?;
    let identity = Identity {
        node: owner.node,
        shard: owner.shard,
        role: owner.role,
        segment: 0,
    };
    write_identity(disk, &owner.dir, &identity).await?;
    Ok(Opened {
        state: State::default(),
        index: Index::default(),
        segments: BTreeMap::from([(0, segment)]),
        running,
        identity,
        lock,
        fresh: true,
    })
}

/// Creates a segment that holds only its head, durably. Returns it with the running checksum.
pub async fn create_segment(
    disk: &dyn Disk,
    dir: &Path,
    head: &SegmentHead,
) -> std::io::Result<(Segment, u32)> {
    let path = segment_path(dir, head.number);
    let file: Arc<dyn DiskFile> = disk.open(&path, OpenMode::Truncate).await?.into();
    let mut buf = BytesMut::new();
    let running = format::encode(&mut buf, &Record::Segment(head.clone()), 0, head.running);
    let len = buf.len() as u64;
    file.write_at(0, buf.freeze()).await?;
    file.sync().await?;
    disk.sync_dir(dir).await?;
    Ok((Segment { file, path, len }, running))
}

/// Makes the last batch durable before anybody counts on it.
///
/// What was read may be in the page cache alone: the process before this one was killed before its sync, or
/// its sync failed, after which the system calls pages clean that it has not written. Only writing them
/// again, and a sync that succeeds, proves anything.
async fn write_back(file: &dyn DiskFile, from: u64, to: u64) -> std::io::Result<()> {
    let len = usize::try_from(to - from).map_err(std::io::Error::other)?;
    let tail = file.read_at(from, len).await?;
    file.write_at(from, Bytes::from(tail)).await?;
    file.sync().await
}

/// Replaces the identity file.
pub async fn write_identity(
    disk: &dyn Disk,
    dir: &Path,
    identity: &Identity,
) -> std::io::Result<()> {
    disk::replace(
        disk,
        &dir.join(identity::FILE),
        Bytes::from(identity.to_text()),
    )
    .await
}

async fn existing(
    disk: &dyn Disk,
    owner: &Owner,
    mut identity: Identity,
    numbers: Vec<u64>,
    lock: Box<dyn DiskLock>,
) -> Result<Opened, StartError> {
    if identity.node != owner.node {
        let what = format!("belongs to node {}, not {}", identity.node, owner.node);
        return Err(identity_error(owner, what));
    }
    if identity.shard != owner.shard {
        let what = format!("belongs to shard {}, not {}", identity.shard, owner.shard);
        return Err(identity_error(owner, what));
    }
    if identity.role != owner.role {
        return Err(identity_error(owner, "belongs to a node of another role"));
    }
    let newest = numbers.last().copied();
    if newest.is_none_or(|newest| newest < identity.segment) {
        let what = format!(
            "part of the log is gone: segment {} was in use, the newest there is {}. Node {} must \
             not vote again under this id: take a new id, join with it, and have the old one removed",
            identity.segment,
            newest.map_or("none".into(), |n| n.to_string()),
            owner.node
        );
        return Err(identity_error(owner, what));
    }
    // Old segments are removed oldest first, but the names of a crashed removal survive in any
    // combination: what counts is the unbroken sequence up to the newest.
    let mut first = numbers.len() - 1;
    while first > 0 && numbers[first - 1] + 1 == numbers[first] {
        first -= 1;
    }
    let mut log = Replay {
        owner,
        state: State::default(),
        index: Index::default(),
        segments: BTreeMap::new(),
        running: 0,
    };
    let wanted = &numbers[first..];
    for (at, number) in wanted.iter().enumerate() {
        let place = Place {
            first: at == 0,
            last: at + 1 == wanted.len(),
            may_be_torn_head: *number > identity.segment,
        };
        log.segment(disk, *number, place).await?;
    }
    log.check_complete()?;
    for number in &numbers[..first] {
        disk.remove(&segment_path(&owner.dir, *number)).await?;
    }
    if let Some(newest) = log.segments.keys().next_back()
        && *newest > identity.segment
    {
        identity.segment = *newest;
        write_identity(disk, &owner.dir, &identity).await?;
    }
    Ok(Opened {
        state: log.state,
        index: log.index,
        segments: log.segments,
        running: log.running,
        identity,
        lock,
        fresh: false,
    })
}

struct Place {
    first: bool,
    last: bool,
    may_be_torn_head: bool,
}

struct Replay<'a> {
    owner: &'a Owner,
    state: State,
    index: Index,
    segments: BTreeMap<u64, Segment>,
    running: u32,
}

impl Replay<'_> {
    async fn segment(
        &mut self,
        disk: &dyn Disk,
        number: u64,
        place: Place,
    ) -> Result<(), StartError> {
        let path = segment_path(&self.owner.dir, number);
        let file: Arc<dyn DiskFile> = disk.open(&path, OpenMode::ReadWrite).await?.into();
        let mut len = file.len().await?;
        let corrupt = |offset: u64, what: &str| StartError::Corrupt {
            file: path.clone(),
            offset,
            what: what.into(),
        };
        let mut scanner = Scanner::new(file.as_ref(), 0, len);
        let mut vouched = 0;
        loop {
            let offset = scanner.offset;
            let next = match scanner.next().await? {
                Next::Record(frame, _)
                    if offset > 0 && frame.running != format::chain(self.running, frame.crc) =>
                {
                    Next::Bad(Bad::Damaged(
                        "a record that does not follow the one before it",
                    ))
                }
                next => next,
            };
            let (frame, body) = match next {
                Next::End if offset == 0 && !(place.last && place.may_be_torn_head) => {
                    return Err(corrupt(0, "empty"));
                }
                Next::End if offset == 0 => {
                    return self.drop_torn_head(disk, &path).await;
                }
                Next::End => break,
                Next::Record(frame, body) => (frame, body),
                Next::Bad(bad) => {
                    let what = match bad {
                        Bad::Short => "the file ends within a record",
                        Bad::Damaged(what) => what,
                    };
                    if !place.last {
                        return Err(corrupt(offset, what));
                    }
                    if scanner.vouched_for(offset).await? {
                        return Err(corrupt(offset, what));
                    }
                    if offset == 0 {
                        if place.may_be_torn_head {
                            return self.drop_torn_head(disk, &path).await;
                        }
                        return Err(corrupt(0, what));
                    }
                    tracing::warn!(
                        file = %path.display(), offset, bytes = len - offset,
                        "cut a torn tail: {what}"
                    );
                    file.set_len(offset).await?;
                    file.sync().await?;
                    len = offset;
                    break;
                }
            };
            let record = format::decode(frame.kind, body).map_err(|what| corrupt(offset, what))?;
            if offset == 0 {
                let Record::Segment(head) = &record else {
                    return Err(corrupt(0, "no segment begins here"));
                };
                self.head(head, number, place.first)
                    .map_err(|what| corrupt(0, what))?;
            }
            if frame.running != format::chain(self.running, frame.crc) {
                return Err(corrupt(
                    offset,
                    "a record that does not follow the one before it",
                ));
            }
            self.running = frame.running;
            vouched = frame.synced.max(vouched);
            if offset > 0 {
                self.apply(record, number, offset, offset + frame.len as u64)
                    .map_err(|what| corrupt(offset, what))?;
            }
        }
        if place.last && len > vouched {
            write_back(file.as_ref(), vouched, len).await?;
        }
        self.segments.insert(number, Segment { file, path, len });
        Ok(())
    }

    /// The crash came while the newest segment was being created; nothing was in it.
    async fn drop_torn_head(&self, disk: &dyn Disk, path: &Path) -> Result<(), StartError> {
        tracing::warn!(file = %path.display(), "removed a segment whose creation was cut short");
        disk.remove(path).await?;
        disk.sync_dir(&self.owner.dir).await?;
        Ok(())
    }

    fn head(&mut self, head: &SegmentHead, number: u64, first: bool) -> Result<(), &'static str> {
        if head.node != self.owner.node || head.shard != self.owner.shard {
            return Err("the segment belongs to another node or shard");
        }
        if head.number != number {
            return Err("the segment has another number than its file");
        }
        if first {
            // The head sums up what the segments before it said, but for their entries: that those
            // were cut, a later record must say (`check_complete`).
            self.state = head.state.clone();
            self.running = head.running;
        } else if head.running != self.running || head.state != self.state {
            return Err("the segment does not follow the one before it");
        }
        Ok(())
    }

    /// Every entry that the log should have is there.
    fn check_complete(&self) -> Result<(), StartError> {
        let first = self
            .state
            .purged
            .as_ref()
            .map_or(0, |purged| purged.index + 1);
        let complete = match &self.state.last {
            Some(last) if last.index >= first => self.index.find(first).is_some(),
            _ => true,
        };
        let lowest = self
            .segments
            .values()
            .next()
            .map(|segment| segment.path.clone());
        match (complete, lowest) {
            (false, Some(file)) => Err(StartError::Corrupt {
                file,
                offset: 0,
                what: format!("the segment before it is missing: no entry {first}"),
            }),
            _ => Ok(()),
        }
    }

    fn apply(
        &mut self,
        record: Record,
        segment: u64,
        start: u64,
        end: u64,
    ) -> Result<(), &'static str> {
        match record {
            Record::Segment(_) => return Err("a segment within a segment"),
            Record::Entry(entry) => {
                let expected = self.state.last.as_ref().map_or(0, |last| last.index + 1);
                if entry.id.index != expected {
                    return Err("an entry with the wrong index");
                }
                if self.state.last.as_ref() >= Some(&entry.id) {
                    return Err("an entry of an older term than the one before it");
                }
                self.index.push(entry.id.index, segment, start, end);
                self.state.last = Some(entry.id);
            }
            Record::Vote(vote) => self.state.vote = Some(vote),
            Record::Committed(id) => self.state.committed = Some(id),
            Record::Truncate(after) => truncate(&mut self.state, &mut self.index, after)?,
            Record::Purge(upto) => purge(&mut self.state, &mut self.index, &upto),
        }
        Ok(())
    }
}

/// Entries behind `after` are gone.
pub fn truncate(
    state: &mut State,
    index: &mut Index,
    after: Option<LogId>,
) -> Result<(), &'static str> {
    if after < state.purged {
        return Err("a truncation of what was cut before");
    }
    index.truncate_from(after.as_ref().map_or(0, |id| id.index + 1));
    state.last = after;
    Ok(())
}

/// Entries up to `upto` are gone.
pub fn purge(state: &mut State, index: &mut Index, upto: &LogId) {
    if state.purged.as_ref() >= Some(upto) {
        return;
    }
    index.purge_upto(upto.index);
    state.purged = Some(*upto);
    if state
        .last
        .as_ref()
        .is_none_or(|last| last.index <= upto.index)
    {
        index.clear();
        state.last = Some(*upto);
    }
}
