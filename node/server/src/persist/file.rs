//! RDB files in production: a thread for each that is written or read.

use super::{Failure, Framing, LoadRequest, Loaded, RdbIn, RdbOut, SaveRequest};
use holdfast_engine::LoadBatch;
use holdfast_rdb::{BatchSize, Draft, Event, Fault, Packer, RdbError, RdbReader, ReadOptions};
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, TrySendError, sync_channel};
use std::time::Duration;

/// Drafts that may wait for the writing thread, and batches for the executor.
const QUEUE: usize = 8;
/// With `rdb-save-incremental-fsync` so much is written between two syncs.
const SYNC_BYTES: usize = 4 << 20;
/// Bytes read at a time.
const READ_BYTES: usize = 256 << 10;
/// A batch has at most so many keys, and is handed over when it has come from so many bytes.
const BATCH: BatchSize = BatchSize {
    keys: 512,
    bytes: 64 << 10,
};
/// A key takes so many bytes of a file at least: type, two lengths, and most have a name.
const KEY_BYTES_MIN: u64 = 4;

enum Message {
    Draft(Draft),
    Finish,
}

struct FileOut {
    /// Gone once all is given.
    to: Option<SyncSender<Message>>,
    from: Receiver<Result<(), String>>,
    /// What followers are to be sent.
    bytes: Option<Receiver<Vec<u8>>>,
    finishing: bool,
    outcome: Option<Result<(), String>>,
}

/// Begins a file.
///
/// # Errors
/// There is no thread to be had.
pub fn create(request: SaveRequest) -> io::Result<Box<dyn RdbOut>> {
    let (to, drafts) = sync_channel(QUEUE);
    let (say, from) = sync_channel(1);
    let (send, bytes) = sync_channel(QUEUE);
    let is_sent = request.send.is_some();
    std::thread::Builder::new()
        .name("rdb-save".into())
        .spawn(move || {
            let result = match request.send {
                None => write(&request, &drafts),
                Some(framing) => transmit(&request, framing, &drafts, &send),
            };
            if !matches!(result, Ok(true)) || request.send.is_some() {
                // It may not be there at all.
                let _ = std::fs::remove_file(&request.temporary);
            }
            // Whoever began it may have given it up.
            let _ = say.send(result.map(|_| ()).map_err(|e| e.to_string()));
        })?;
    Ok(Box::new(FileOut {
        to: Some(to),
        from,
        bytes: is_sent.then_some(bytes),
        finishing: false,
        outcome: None,
    }))
}

/// Writes what comes. Whether the file is whole; if not, it was given up.
fn write(request: &SaveRequest, drafts: &Receiver<Message>) -> io::Result<bool> {
    let mut file = File::create(&request.temporary)?;
    let mut packer = Packer::new(request.checksum);
    let mut unsynced = 0;
    loop {
        match drafts.recv() {
            Ok(Message::Draft(draft)) => {
                let bytes = packer.pack(draft);
                file.write_all(&bytes)?;
                unsynced += bytes.len();
                if request.incremental_sync && unsynced >= SYNC_BYTES {
                    file.sync_data()?;
                    unsynced = 0;
                }
            }
            Ok(Message::Finish) => break,
            Err(_) => return Ok(false),
        }
    }
    file.write_all(&packer.seal())?;
    file.sync_all()?;
    std::fs::rename(&request.temporary, &request.path)?;
    let dir = request.path.parent().unwrap_or_else(|| Path::new("."));
    File::open(dir)?.sync_all()?;
    Ok(true)
}

/// Makes the bytes that followers are sent. Whether that was all; if not, it was given up.
fn transmit(
    request: &SaveRequest,
    framing: Framing,
    drafts: &Receiver<Message>,
    to: &SyncSender<Vec<u8>>,
) -> io::Result<bool> {
    let mut packer = Packer::new(request.checksum);
    let mark = match framing {
        Framing::Mark(mark) => mark,
        Framing::Length => {
            let whole = SaveRequest {
                send: None,
                ..request.clone()
            };
            if !write(&whole, drafts)? {
                return Ok(false);
            }
            let mut file = File::open(&request.path)?;
            // Nobody else is to see it, and it goes with the process.
            std::fs::remove_file(&request.path)?;
            let len = file.metadata()?.len();
            if to.send(format!("${len}\r\n").into_bytes()).is_err() {
                return Ok(false);
            }
            loop {
                let mut chunk = vec![0; READ_BYTES];
                let n = file.read(&mut chunk)?;
                chunk.truncate(n);
                if n == 0 {
                    return Ok(true);
                }
                if to.send(chunk).is_err() {
                    return Ok(false);
                }
            }
        }
    };
    let head = [b"$EOF:", &mark[..], b"\r\n"].concat();
    if to.send(head).is_err() {
        return Ok(false);
    }
    loop {
        let bytes = match drafts.recv() {
            Ok(Message::Draft(draft)) => packer.pack(draft),
            Ok(Message::Finish) => break,
            Err(_) => return Ok(false),
        };
        if to.send(bytes).is_err() {
            return Ok(false);
        }
    }
    Ok(to.send([&packer.seal()[..], &mark].concat()).is_ok())
}

impl FileOut {
    /// The thread has gone, which it does only behind its word.
    fn take_outcome(&mut self) {
        self.to = None;
        if self.outcome.is_none() {
            let gone = || Err("the writing thread has ended".into());
            self.outcome = Some(self.from.recv().unwrap_or_else(|_| gone()));
        }
    }
}

impl RdbOut for FileOut {
    fn offer(&mut self, draft: Draft) -> Result<(), Draft> {
        let Some(to) = &self.to else {
            // It has failed: what comes is of no use any more.
            return Ok(());
        };
        match to.try_send(Message::Draft(draft)) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(Message::Draft(draft))) => Err(draft),
            Err(_) => {
                self.take_outcome();
                Ok(())
            }
        }
    }

    fn give(&mut self, draft: Draft) {
        if let Some(to) = &self.to
            && to.send(Message::Draft(draft)).is_err()
        {
            self.take_outcome();
        }
    }

    fn finish(&mut self) {
        if self.finishing {
            return;
        }
        if let Some(to) = &self.to {
            match to.try_send(Message::Finish) {
                Ok(()) => self.finishing = true,
                // Again with the next turn.
                Err(TrySendError::Full(_)) => {}
                Err(TrySendError::Disconnected(_)) => self.take_outcome(),
            }
        }
    }

    fn outcome(&mut self) -> Option<Result<(), String>> {
        if self.outcome.is_none() {
            match self.from.try_recv() {
                Ok(outcome) => self.outcome = Some(outcome),
                Err(TryRecvError::Empty) => {}
                Err(TryRecvError::Disconnected) => self.take_outcome(),
            }
        }
        self.outcome.take()
    }

    fn take_bytes(&mut self) -> Option<Vec<u8>> {
        self.bytes.as_ref()?.try_recv().ok()
    }

    fn wait(&mut self) -> Result<(), String> {
        if !self.finishing
            && let Some(to) = self.to.take()
        {
            // If it has ended, it has said why.
            let _ = to.send(Message::Finish);
        }
        self.take_outcome();
        self.outcome.take().unwrap_or(Ok(()))
    }
}

struct FileIn {
    from: Receiver<Loaded>,
    /// Emptied batches.
    back: SyncSender<LoadBatch>,
    read: Arc<AtomicU64>,
    total: u64,
}

/// Begins to read a file.
///
/// # Errors
/// It cannot be opened.
pub fn open(request: LoadRequest) -> io::Result<Box<dyn RdbIn>> {
    let file = File::open(&request.path)?;
    let total = file.metadata()?.len();
    let read = Arc::new(AtomicU64::new(0));
    let (to, from) = sync_channel(QUEUE);
    let (back, emptied) = sync_channel(QUEUE);
    let reading = Reading {
        request,
        to,
        emptied,
        progress: read.clone(),
        total,
    };
    std::thread::Builder::new()
        .name("rdb-load".into())
        .spawn(move || {
            let last = match reading.read_all(file) {
                Ok(Ok(())) => Loaded::End,
                Ok(Err(failure)) => Loaded::Failed(failure),
                Err(Gone) => return,
            };
            // Nobody may want to know any more.
            let _ = reading.send(last);
        })?;
    Ok(Box::new(FileIn {
        from,
        back,
        read,
        total,
    }))
}

/// The other side has given the file up.
struct Gone;

fn failure(e: &RdbError) -> Failure {
    Failure {
        lines: e.log_lines(),
        damaged: matches!(e.fault, Fault::Checksum | Fault::Short | Fault::Malformed),
    }
}

fn other(line: String) -> Failure {
    Failure {
        lines: vec![line],
        damaged: false,
    }
}

type Outcome = Result<Result<(), Failure>, Gone>;

/// What the reading thread has.
struct Reading {
    request: LoadRequest,
    to: SyncSender<Loaded>,
    emptied: Receiver<LoadBatch>,
    progress: Arc<AtomicU64>,
    total: u64,
}

impl Reading {
    fn send(&self, loaded: Loaded) -> Result<(), Gone> {
        self.to.send(loaded).map_err(|_| Gone)
    }

    /// Hands a batch over and puts an empty one in its place.
    fn hand_over(&self, batch: &mut LoadBatch) -> Result<(), Gone> {
        if batch.is_empty() {
            return Ok(());
        }
        let next = self
            .emptied
            .try_recv()
            .unwrap_or_else(|_| LoadBatch::new(self.request.placer));
        self.send(Loaded::Keys(std::mem::replace(batch, next)))
    }

    fn read_all(&self, mut file: File) -> Outcome {
        let request = &self.request;
        let mut reader = RdbReader::with_options(ReadOptions {
            limits: request.limits,
            relaxed: request.relaxed,
            checksum: request.checksum,
            ..ReadOptions::default()
        });
        let mut size = BATCH;
        if request.key_delay_us != 0 {
            let keys = request.key_delay_us.min(-1).unsigned_abs();
            size.keys = size.keys.min(usize::try_from(keys).unwrap_or(usize::MAX));
        }
        let mut chunk = vec![0; READ_BYTES];
        let mut batch = LoadBatch::new(request.placer);
        let mut db = 0;
        loop {
            let n = match file.read(&mut chunk) {
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Ok(Err(other(format!("Error reading the RDB file: {e}")))),
            };
            if n == 0 {
                self.hand_over(&mut batch)?;
                return Ok(reader.end_of_input().map_err(|e| failure(&e)));
            }
            reader.feed(&chunk[..n]);
            loop {
                let event = match reader.poll_batch(&mut batch, size) {
                    Ok(Some(event)) => event,
                    Ok(None) => break,
                    Err(e) => {
                        self.hand_over(&mut batch)?;
                        return Ok(Err(failure(&e)));
                    }
                };
                self.hand_over(&mut batch)?;
                match event {
                    Event::Batch => {
                        self.progress.store(reader.offset(), Ordering::Relaxed);
                        if request.key_delay_us != 0 {
                            delay(request.key_delay_us);
                        }
                    }
                    Event::Version { .. } => self.send(Loaded::Accepted)?,
                    Event::EmptyKey(key) => self.send(Loaded::EmptyKey(key))?,
                    Event::Function(code) => self.send(Loaded::Function(code))?,
                    Event::Aux { name, value } => self.send(Loaded::Aux(name, value))?,
                    Event::SelectDb(number) => db = number,
                    Event::ResizeDb { keys, .. } => self.expect(db, None, keys)?,
                    Event::SlotInfo { slot, keys, .. } => {
                        if let Ok(slot) = u16::try_from(slot) {
                            self.expect(db, Some(slot), keys)?;
                        }
                    }
                    Event::End => return Ok(Ok(())),
                    _ => {}
                }
            }
        }
    }

    /// Passes a hint on; it is not to be trusted.
    fn expect(&self, db: u32, slot: Option<u16>, keys: u64) -> Result<(), Gone> {
        let keys = usize::try_from(keys.min(self.total / KEY_BYTES_MIN)).unwrap_or(0);
        self.send(Loaded::Expect { db, slot, keys })
    }
}

/// Waits behind a batch, which has one key, or as many as the setting says.
fn delay(setting: i64) {
    let us = u64::try_from(setting).unwrap_or(1);
    std::thread::sleep(Duration::from_micros(us));
}

impl RdbIn for FileIn {
    fn poll(&mut self) -> Option<Loaded> {
        match self.from.try_recv() {
            Ok(loaded) => Some(loaded),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => Some(gone()),
        }
    }

    fn wait(&mut self) -> Loaded {
        self.from.recv().unwrap_or_else(|_| gone())
    }

    fn give_back(&mut self, batch: LoadBatch) {
        // One that nobody has room for is freed.
        let _ = self.back.try_send(batch);
    }

    fn progress(&self) -> (u64, u64) {
        (self.read.load(Ordering::Relaxed), self.total)
    }
}

fn gone() -> Loaded {
    Loaded::Failed(other("the reading thread has ended".into()))
}
