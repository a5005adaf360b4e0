//! RDB files in production: a thread for each that is written or read.

use super::{Failure, Framing, LoadRequest, Loaded, LoadedKey, RdbIn, RdbOut, SaveRequest};
use holdfast_engine::AccessNote;
use holdfast_rdb::{Draft, Event, Fault, Packer, RdbError, RdbReader, ReadOptions};
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
const BATCH_KEYS: usize = 64;
const BATCH_BYTES: u64 = 64 << 10;

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
    let progress = read.clone();
    std::thread::Builder::new()
        .name("rdb-load".into())
        .spawn(move || {
            let last = match read_all(&request, file, &to, &progress) {
                Ok(Ok(())) => Loaded::End,
                Ok(Err(failure)) => Loaded::Failed(failure),
                Err(Gone) => return,
            };
            // Nobody may want to know any more.
            let _ = to.send(last);
        })?;
    Ok(Box::new(FileIn { from, read, total }))
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

fn read_all(
    request: &LoadRequest,
    mut file: File,
    to: &SyncSender<Loaded>,
    progress: &AtomicU64,
) -> Outcome {
    let mut reader = RdbReader::with_options(ReadOptions {
        limits: request.limits,
        relaxed: request.relaxed,
        checksum: request.checksum,
        ..ReadOptions::default()
    });
    let mut chunk = vec![0; READ_BYTES];
    let mut batch = Vec::new();
    let mut batch_from = 0;
    let mut keys = 0u64;
    let send = |loaded| to.send(loaded).map_err(|_| Gone);
    let flush = |batch: &mut Vec<LoadedKey>| {
        if batch.is_empty() {
            return Ok(());
        }
        send(Loaded::Keys(std::mem::take(batch)))
    };
    loop {
        let n = match file.read(&mut chunk) {
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Ok(Err(other(format!("Error reading the RDB file: {e}")))),
        };
        if n == 0 {
            flush(&mut batch)?;
            return Ok(reader.end_of_input().map_err(|e| failure(&e)));
        }
        reader.feed(&chunk[..n]);
        loop {
            let event = match reader.poll() {
                Ok(Some(event)) => event,
                Ok(None) => break,
                Err(e) => {
                    flush(&mut batch)?;
                    return Ok(Err(failure(&e)));
                }
            };
            match event {
                Event::Version { .. } => send(Loaded::Accepted)?,
                Event::EmptyKey(key) => {
                    flush(&mut batch)?;
                    send(Loaded::EmptyKey(key))?;
                }
                Event::Function(code) => send(Loaded::Function(code))?,
                Event::Aux { name, value } => send(Loaded::Aux(name, value))?,
                Event::Key {
                    db,
                    key,
                    expire_at_ms,
                    idle_s,
                    frequency,
                    value,
                } => {
                    let frequency = frequency.map(AccessNote::Frequency);
                    batch.push(LoadedKey {
                        db,
                        key,
                        expire_at_ms,
                        access: frequency.or(idle_s.map(AccessNote::IdleSeconds)),
                        value,
                    });
                    keys += 1;
                    if request.key_delay_us != 0 {
                        delay(request.key_delay_us, keys);
                    }
                    if batch.len() >= BATCH_KEYS || reader.offset() - batch_from >= BATCH_BYTES {
                        batch_from = reader.offset();
                        progress.store(batch_from, Ordering::Relaxed);
                        flush(&mut batch)?;
                    }
                }
                Event::End => {
                    flush(&mut batch)?;
                    return Ok(Ok(()));
                }
                _ => {}
            }
        }
    }
}

fn delay(setting: i64, keys: u64) {
    match u64::try_from(setting) {
        Ok(us) => std::thread::sleep(Duration::from_micros(us)),
        Err(_) if keys.is_multiple_of(setting.unsigned_abs()) => {
            std::thread::sleep(Duration::from_micros(1));
        }
        Err(_) => {}
    }
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

    fn progress(&self) -> (u64, u64) {
        (self.read.load(Ordering::Relaxed), self.total)
    }
}

fn gone() -> Loaded {
    Loaded::Failed(other("the reading thread has ended".into()))
}
