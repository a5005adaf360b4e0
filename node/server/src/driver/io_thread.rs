//! An I/O thread: it reads its connections, finds the commands in what has come, and writes replies. It executes nothing.
//!
//! Of each connection at most one parcel is on its way to the executor; until it is back, nothing more is read. When the queue to the
//! executor is full, what has been read stays here, and nothing more is read. Nothing to do means sleeping in `epoll`, without a time-out,
//! after a moment's wait for replies if some are due.

use super::wire::{Framing, FromIo, ToIo, Wire};
use crate::executor::{Close, Flow, IoThreadStats};
use holdfast_queue::{Bell, Consumer, Producer};
use mio::{Events, Interest, Poll, Token, Waker};
use std::io;
use std::sync::Arc;
use std::sync::RwLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const WAKER: Token = Token(usize::MAX);
const EVENTS_MAX: usize = 1024;
/// Bytes read from one connection at a time.
const READ_BYTES: usize = 64 * 1024;
/// Written to one connection before others have their turn.
const WRITE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Messages of the executor that are looked at before sockets are.
const MESSAGES_MAX: usize = 256;
/// After so many parcels the executor is woken, if it sleeps; the others come while it works.
const WAKE_EVERY: usize = 8;

/// How long it stays awake for replies to what it has sent. The executor takes less than a microsecond for most commands: while it is at work, they are
/// there before this thread would be asleep, and the executor need not wake it.
const AWAKE: Duration = Duration::from_micros(5);
/// How long it waits for room in the queue to the executor before it looks again.
const FULL_PAUSE: Duration = Duration::from_millis(1);
/// A buffer of replies that has grown beyond this is not used again.
const KEEP_BYTES: usize = 64 * 1024;

/// What wakes a thread that sleeps in `epoll`.
#[derive(Debug)]
pub(super) struct Sleeper {
    pub bell: Bell,
    pub waker: Arc<Waker>,
}

impl Sleeper {
    /// To be called when something was put into one of its queues.
    pub fn wake(&self) {
        if self.bell.must_wake()
            && let Err(e) = self.waker.wake()
        {
            // It would sleep for ever.
            panic!("a thread cannot be woken: {e}");
        }
    }
}

/// What the executor's side can see of a thread.
#[derive(Debug)]
pub(super) struct Seen {
    pub sleeper: Sleeper,
    /// `pthread_t`, once it runs.
    pub pthread: AtomicU64,
    /// What clients may send; changes with the configuration.
    pub framing: RwLock<Framing>,
    /// Counts changes of `framing`.
    pub framing_version: AtomicU64,
    pub reads: AtomicU64,
    pub writes: AtomicU64,
}

impl Seen {
    pub fn stats(&self, used: bool) -> IoThreadStats {
        IoThreadStats {
            used,
            active: !self.sleeper.bell.is_asleep(),
            cpu_us: match self.pthread.load(Ordering::Acquire) {
                0 => 0,
                pthread => cpu_us_of(pthread as libc::pthread_t),
            },
            reads: self.reads.load(Ordering::Relaxed),
            writes: self.writes.load(Ordering::Relaxed),
        }
    }
}

/// Processor time of a thread that has not ended, in microseconds.
fn cpu_us_of(thread: libc::pthread_t) -> u64 {
    let mut clock = 0;
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the thread runs until the executor has stopped it, which is what asks; both pointers are to places for what is written.
    unsafe {
        if libc::pthread_getcpuclockid(thread, &raw mut clock) == 0 {
            libc::clock_gettime(clock, &raw mut time);
        }
    }
    time.tv_sec as u64 * 1_000_000 + time.tv_nsec as u64 / 1000
}

/// See the module's documentation.
pub(super) struct IoThread {
    poll: Poll,
    seen: Arc<Seen>,
    executor: Arc<Sleeper>,
    to_executor: Producer<FromIo>,
    from_executor: Consumer<ToIo>,
    /// By index of the connection; most are other threads'.
    wires: Vec<Option<Box<Wire>>>,
    /// Those that may have something to be read.
    ready: Vec<u32>,
    /// Those that had too much to be written at once.
    unwritten: Vec<u32>,
    /// Messages for which there was no room. Connections that are in here are not read.
    unsent: Vec<FromIo>,
    /// Parcels since the executor was woken.
    quiet: usize,
    /// Parcels that are about to come back, about.
    expected: usize,
    buffer: Box<[u8]>,
    framing: Framing,
    framing_version: u64,
    stopping: bool,
}

impl IoThread {
    /// Makes one, to be run on a thread of its own.
    ///
    /// # Errors
    /// The system has no more file descriptors.
    pub fn new(
        framing: Framing,
        executor: Arc<Sleeper>,
        to_executor: Producer<FromIo>,
        from_executor: Consumer<ToIo>,
    ) -> io::Result<(IoThread, Arc<Seen>)> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        let bell = Bell::default();
        let seen = Arc::new(Seen {
            sleeper: Sleeper { bell, waker },
            pthread: AtomicU64::new(0),
            framing: RwLock::new(framing),
            framing_version: AtomicU64::new(0),
            reads: AtomicU64::new(0),
            writes: AtomicU64::new(0),
        });
        let thread = IoThread {
            poll,
            seen: seen.clone(),
            executor,
            to_executor,
            from_executor,
            wires: Vec::new(),
            ready: Vec::new(),
            unwritten: Vec::new(),
            unsent: Vec::new(),
            quiet: 0,
            expected: 0,
            buffer: vec![0; READ_BYTES].into_boxed_slice(),
            framing,
            framing_version: 0,
            stopping: false,
        };
        Ok((thread, seen))
    }

    /// Runs until told to stop.
    pub fn run(mut self) {
        // SAFETY: it has no arguments and always succeeds.
        let me = unsafe { libc::pthread_self() };
        self.seen.pthread.store(me as u64, Ordering::Release);
        let mut events = Events::with_capacity(EVENTS_MAX);
        loop {
            let busy = self.turn();
            if self.stopping {
                return;
            }
            if !busy && self.expected > 0 && self.wait_awake() {
                continue;
            }
            let timeout = if busy {
                Some(Duration::ZERO)
            } else {
                self.seen.sleeper.bell.lie_down();
                match (self.from_executor.is_empty(), self.unsent.is_empty()) {
                    (false, _) => Some(Duration::ZERO),
                    (true, false) => Some(FULL_PAUSE),
                    (true, true) => None,
                }
            };
            let polled = self.poll.poll(&mut events, timeout);
            if !busy {
                self.seen.sleeper.bell.get_up();
            }
            match polled {
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => panic!("epoll of an I/O thread: {e}"),
            }
            for event in &events {
                if event.token() == WAKER {
                    continue;
                }
                let index = event.token().0 as u32;
                if event.is_read_closed()
                    && let Some(Some(wire)) = self.wires.get_mut(index as usize)
                {
                    wire.peer_closed = true;
                }
                if event.is_writable() {
                    self.write(index);
                }
                if event.is_readable() || event.is_read_closed() || event.is_error() {
                    self.want_read(index);
                }
            }
        }
    }

    /// Looks for replies for a moment, as long as waking up would take. Returns whether there are some.
    fn wait_awake(&mut self) -> bool {
        let begin = Instant::now();
        while self.from_executor.is_empty() {
            if begin.elapsed() >= AWAKE {
                self.expected = 0;
                return false;
            }
            (0..8).for_each(|_| std::hint::spin_loop());
        }
        true
    }

    /// Does what there is to do. Returns whether there is more.
    fn turn(&mut self) -> bool {
        let version = self.seen.framing_version.load(Ordering::Acquire);
        if version != self.framing_version {
            self.framing_version = version;
            if let Ok(framing) = self.seen.framing.read() {
                self.framing = *framing;
            }
        }
        let mut messages = 0;
        while messages < MESSAGES_MAX {
            let Some(message) = self.from_executor.pop() else {
                break;
            };
            messages += 1;
            self.on_message(message);
        }
        for index in std::mem::take(&mut self.unwritten) {
            self.write(index);
        }
        self.send_unsent();
        self.read_all();
        self.wake_executor();
        messages == MESSAGES_MAX
            || !self.unwritten.is_empty()
            || (!self.ready.is_empty() && self.unsent.is_empty())
            || (!self.unsent.is_empty() && self.to_executor.room() > 0)
    }

    fn wake_executor(&mut self) {
        if self.quiet > 0 {
            self.quiet = 0;
            self.executor.wake();
        }
    }

    fn send(&mut self, message: FromIo) {
        if !self.unsent.is_empty() {
            return self.unsent.push(message);
        }
        match self.to_executor.push(message) {
            Ok(()) => {
                self.quiet += 1;
                if self.quiet == WAKE_EVERY {
                    self.wake_executor();
                }
            }
            Err(back) => self.unsent.push(back),
        }
    }

    fn send_unsent(&mut self) {
        if self.unsent.is_empty() {
            return;
        }
        for message in std::mem::take(&mut self.unsent) {
            self.send(message);
        }
        if !self.unsent.is_empty() {
            // The executor has a whole queue to look at. It does not say when it has: this thread looks again after a pause.
            self.executor.wake();
        }
    }

    fn on_message(&mut self, message: ToIo) {
        match message {
            ToIo::Adopt(wire) => self.adopt(wire),
            ToIo::Replies {
                conn,
                mut parcel,
                own,
                raw,
                close,
            } => {
                let index = conn.index;
                let Some(Some(wire)) = self.wires.get_mut(index as usize) else {
                    return;
                };
                if wire.conn != conn {
                    return;
                }
                wire.close = wire.close.max(close);
                let replies = std::mem::take(&mut parcel.replies);
                let to_write = !replies.is_empty();
                if own {
                    self.expected = self.expected.saturating_sub(1);
                    wire.raw = raw;
                    wire.take_back(parcel);
                }
                match wire.out.back_mut() {
                    _ if !to_write => {}
                    // The client reads slowly: what is small is gathered, or buffers would take more than what is in them.
                    Some(last) if last.buf.len() + replies.buf.len() <= KEEP_BYTES => {
                        last.append(replies);
                    }
                    _ => wire.out.push_back(replies),
                }
                if to_write || close != Close::Open {
                    self.write(index);
                }
                if own {
                    self.list(index);
                }
            }
            ToIo::Trim(conn, trim) => {
                if let Some(Some(wire)) = self.wires.get_mut(conn.index as usize)
                    && wire.conn == conn
                {
                    wire.trim(trim);
                }
            }
            ToIo::Close(conn) => {
                if let Some(slot) = self.wires.get_mut(conn.index as usize)
                    && slot.as_ref().is_some_and(|w| w.conn == conn)
                {
                    // Dropping it closes the socket, which takes it out of the epoll.
                    *slot = None;
                }
            }
            ToIo::Release(conn) => {
                let index = conn.index as usize;
                if let Some(slot) = self.wires.get_mut(index)
                    && slot.as_ref().is_some_and(|w| w.conn == conn)
                    && let Some(mut wire) = slot.take()
                {
                    // Closing it would take it out of the epoll, too.
                    let _ = self.poll.registry().deregister(wire.stream.source());
                    (wire.listed, wire.readable) = (false, true);
                    self.send(FromIo::Released(wire));
                }
            }
            ToIo::Write => self.write_all(),
            ToIo::Stop => {
                self.write_all();
                self.stopping = true;
            }
        }
    }

    fn write_all(&mut self) {
        (0..self.wires.len()).for_each(|index| self.write(index as u32));
    }

    fn adopt(&mut self, mut wire: Box<Wire>) {
        let index = wire.conn.index as usize;
        if self.wires.len() <= index {
            self.wires.resize_with(index + 1, || None);
        }
        let both = Interest::READABLE | Interest::WRITABLE;
        let registered = self
            .poll
            .registry()
            .register(wire.stream.source(), Token(index), both);
        if let Err(e) = registered {
            tracing::warn!("Registering a client connection: {e}");
            return self.send(FromIo::Closed(wire.conn));
        }
        self.wires[index] = Some(wire);
        self.write(index as u32);
        self.want_read(index as u32);
    }

    fn want_read(&mut self, index: u32) {
        if let Some(Some(wire)) = self.wires.get_mut(index as usize) {
            wire.readable = true;
            self.list(index);
        }
    }

    /// Puts a connection into the list of those to be read, if it may be.
    fn list(&mut self, index: u32) {
        if let Some(Some(wire)) = self.wires.get_mut(index as usize)
            && wire.readable
            && wire.parcel.is_some()
            && wire.close == Close::Open
            && !wire.listed
        {
            wire.listed = true;
            self.ready.push(index);
        }
    }

    fn read_all(&mut self) {
        let mut list = std::mem::take(&mut self.ready);
        for (i, index) in list.iter().enumerate() {
            if !self.unsent.is_empty() {
                self.ready.extend_from_slice(&list[i..]);
                return;
            }
            self.read(*index);
        }
        if self.ready.is_empty() {
            list.clear();
            self.ready = list;
        }
    }

    /// Reads once, and sends what was found to the executor.
    fn read(&mut self, index: u32) {
        let Some(Some(wire)) = self.wires.get_mut(index as usize) else {
            return;
        };
        wire.listed = false;
        if wire.parcel.is_none() || wire.close != Close::Open {
            return;
        }
        let (read, room) = wire.read(&mut self.buffer);
        if wire.flow.is_handshaking() && !wire.stream.is_handshaking() {
            wire.flow.set_handshaking(false);
        }
        let write_too = wire.stream.take_write_ready();
        let n = match read {
            Ok((0, _)) => return self.close(index),
            Ok((n, in_buffer)) => {
                wire.readable = wire.stream.may_have_more(n, room) || wire.peer_closed;
                in_buffer
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                wire.readable = false;
                if write_too {
                    self.write(index);
                }
                return;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => return self.list(index),
            Err(e) => {
                tracing::debug!("Reading from client: {e}");
                return self.close(index);
            }
        };
        if wire.frame(&self.buffer[..n], &self.framing)
            && let Some(parcel) = wire.parcel.take()
        {
            let conn = wire.conn;
            self.seen.reads.fetch_add(1, Ordering::Relaxed);
            self.expected += 1;
            self.send(FromIo::Requests(conn, parcel));
        } else {
            let (conn, grown) = (wire.conn, wire.has_grown());
            self.list(index);
            if grown {
                self.send(FromIo::Look(conn));
            }
        }
        if write_too {
            self.write(index);
        }
    }

    fn write(&mut self, index: u32) {
        let Some(Some(wire)) = self.wires.get_mut(index as usize) else {
            return;
        };
        if wire.stream.wants_write()
            && let Err(e) = wire.stream.flush()
        {
            tracing::debug!("Writing to client: {e}");
            return self.close(index);
        }
        let mut written = 0;
        while let Some(replies) = wire.out.front_mut() {
            if replies.is_empty() {
                if let Some(replies) = wire.out.pop_front() {
                    // It goes back for the next ones.
                    wire.keep_replies(replies, KEEP_BYTES);
                }
                continue;
            }
            if written >= WRITE_BYTES_MAX {
                self.unwritten.push(index);
                break;
            }
            match wire.stream.write_parts(replies.parts()) {
                // A socket never takes nothing; without progress there would be no end here.
                Ok((0, _)) => break,
                Ok((n, full)) => {
                    replies.on_written(n);
                    written += n;
                    if full {
                        break;
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => {
                    tracing::debug!("Writing to client: {e}");
                    return self.close(index);
                }
            }
        }
        if written > 0 {
            self.seen.writes.fetch_add(1, Ordering::Relaxed);
            if Flow::on_written(&wire.flow, written) {
                let conn = wire.conn;
                self.send(FromIo::Look(conn));
            }
        }
        if let Some(Some(wire)) = self.wires.get(index as usize)
            && wire.close == Close::AfterReplies
            && wire.out.is_empty()
            && !wire.stream.wants_write()
        {
            self.close(index);
        }
    }

    fn close(&mut self, index: u32) {
        if let Some(slot) = self.wires.get_mut(index as usize)
            && let Some(wire) = slot.take()
        {
            let conn = wire.conn;
            // Dropping it closes the socket, which takes it out of the epoll.
            drop(wire);
            self.send(FromIo::Closed(conn));
        }
    }
}
