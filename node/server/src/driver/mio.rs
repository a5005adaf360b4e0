//! The production driver: one `epoll`, and all executions. Reads and writes are inline, too, unless there are I/O threads (`io-threads`),
//! to which the connections belong then.
//!
//! A turn: wait; accept; read once from every readable connection and execute what came; end the turn; write
//! once to every connection that has something. Readiness is edge-triggered: a connection that was not read empty stays in
//! `unread`, and one that must not be read for now (its commands wait) in `stalled`.

use super::Clock;
use super::io_thread::Sleeper;
use super::listeners::{Listener, listeners};
use super::remote::{Event, Remotes};
use super::stream::Stream;
use super::wire::{Framing, Wire};
use crate::executor::{AcceptInfo, Close, ConnId, Ending, Executor, READS_MAX, Read};
use crate::proc_title::ProcTitle;
use crate::process::thread_cpu_us;
use crate::seam::{ExecutorHandle, ExecutorInbox, Wake, executor_queue};
use crate::tls::HANDSHAKE_LIMIT;
use holdfast_queue::Bell;
use holdfast_resp::Limits;
use mio::{Events, Interest, Poll, Registry, Token, Waker};
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

const WAKER: Token = Token(0);
const FIRST_LISTENER: usize = 1;
const FIRST_CONNECTION: usize = 64;
/// Bytes read from one connection in one turn.
const READ_BYTES: usize = 64 * 1024;
/// Bytes of several connections that are read before the first is looked at, about.
const BUFFER_BYTES: usize = 2 * READ_BYTES;
/// Where what is read of a connection begins: lines of the cache are not shared.
const READ_ALIGN: usize = 64;
const EVENTS_MAX: usize = 1024;
/// Written to one connection in one turn at most, so that one slow reader of a huge reply does not hold up the rest.
const WRITE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Handshakes under way at a time, about; above that the oldest are given up.
const HANDSHAKES_MAX: usize = 1024;
/// When so many are listed, those that have ended are taken out.
const HANDSHAKES_LISTED_MAX: usize = 4 * HANDSHAKES_MAX;
/// How long no connection is accepted after the process ran out of file descriptors.
const ACCEPT_PAUSE_MS: u64 = 100;
/// While I/O threads keep it busy, sockets of its own are looked at once in so many turns.
const TURNS_UNPOLLED_MAX: u32 = 16;

struct Socket {
    stream: Stream,
    conn: ConnId,
    /// It is in `unread` or `stalled`.
    listed: bool,
    /// The peer has closed its side: read on until that is seen.
    peer_closed: bool,
}

/// The driver and what it owns.
pub struct MioDriver {
    poll: Poll,
    executor: Executor,
    inbox: ExecutorInbox,
    clock: Clock,
    listeners: Vec<Listener>,
    sockets: Vec<Option<Socket>>,
    unread: Vec<u32>,
    stalled: Vec<u32>,
    accept_pending: bool,
    accept_not_before_ms: u64,
    buffer: Box<[u8]>,
    /// What is in `buffer`, and has not been looked at.
    reads: Vec<Read>,
    dirty: Vec<ConnId>,
    /// Handshakes under way or ended since, and when they are to be given up.
    handshakes: VecDeque<(u64, ConnId)>,
    remotes: Remotes,
    remote_events: Vec<Event>,
    turns_unpolled: u32,
    title: Option<ProcTitle>,
}

/// An `epoll` and the queue that wakes it, made before the executor is.
pub struct Parts {
    poll: Poll,
    inbox: ExecutorInbox,
    waker: Arc<Waker>,
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Parts")
    }
}

impl std::fmt::Debug for MioDriver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MioDriver")
            .field("executor", &self.executor)
            .finish_non_exhaustive()
    }
}

/// Makes the queue to an executor that a [`MioDriver`] will run.
///
/// # Errors
/// The system has no more file descriptors.
pub fn prepare() -> io::Result<(ExecutorHandle, Parts)> {
    let poll = Poll::new()?;
    let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
    let (handle, inbox) = executor_queue(Wake::Mio(waker.clone()));
    Ok((handle, Parts { poll, inbox, waker }))
}

impl MioDriver {
    /// A driver that listens as the executor's configuration says.
    ///
    /// # Errors
    /// An address cannot be listened on; the text names it.
    pub fn new(parts: Parts, executor: Executor, clock: Clock) -> io::Result<MioDriver> {
        let mut driver = MioDriver {
            poll: parts.poll,
            executor,
            inbox: parts.inbox,
            clock,
            listeners: Vec::new(),
            sockets: Vec::new(),
            unread: Vec::new(),
            stalled: Vec::new(),
            accept_pending: false,
            accept_not_before_ms: 0,
            buffer: vec![0; BUFFER_BYTES].into_boxed_slice(),
            reads: Vec::with_capacity(READS_MAX),
            dirty: Vec::new(),
            handshakes: VecDeque::new(),
            remotes: Remotes::new(Arc::new(Sleeper {
                bell: Bell::default(),
                waker: parts.waker,
            })),
            remote_events: Vec::new(),
            turns_unpolled: 0,
            title: None,
        };
        driver.set_io_threads();
        driver.listen()?;
        // A node of a cluster, as a witness, has its bus.
        if driver.listeners.is_empty() && !driver.executor.settings.cluster_enabled {
            let text = "Configured to not listen anywhere, exiting.";
            return Err(io::Error::other(text));
        }
        Ok(driver)
    }

    /// Has the title of the process say what the configuration says, from now on.
    pub fn set_title(&mut self, title: Option<ProcTitle>) {
        self.title = title;
        self.show_title();
    }

    fn show_title(&mut self) {
        if let Some(title) = &self.title
            && let Err(e) = title.set(&self.executor.config.title(title.program()))
        {
            tracing::debug!("The title of the process stays: {e}");
            self.title = None;
        }
    }

    fn listen(&mut self) -> io::Result<()> {
        let new = listeners(&self.executor.config, &self.executor.tls)?;
        self.listeners = new;
        for (i, listener) in self.listeners.iter_mut().enumerate() {
            let token = Token(FIRST_LISTENER + i);
            let registry = self.poll.registry();
            registry.register(listener.source(), token, Interest::READABLE)?;
        }
        self.accept_pending = true;
        Ok(())
    }

    /// Runs until the executor is done.
    ///
    /// # Errors
    /// `epoll` itself fails.
    pub fn run(mut self) -> io::Result<Executor> {
        let mut events = Events::with_capacity(EVENTS_MAX);
        loop {
            events.clear();
            if self.must_poll() {
                let timeout = self.timeout();
                let polled = self.poll.poll(&mut events, Some(timeout));
                self.remotes.get_up();
                match polled {
                    Ok(()) => {}
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                    Err(e) => return Err(e),
                }
            }
            self.executor.begin_turn(self.clock.now());
            let mut woken = false;
            for event in &events {
                match event.token().0 {
                    0 => woken = true,
                    n if n < FIRST_CONNECTION => self.accept_pending = true,
                    n => {
                        let index = n - FIRST_CONNECTION;
                        if event.is_read_closed()
                            && let Some(Some(s)) = self.sockets.get_mut(index)
                        {
                            s.peer_closed = true;
                        }
                        if event.is_writable()
                            && let Some(Some(s)) = self.sockets.get(index)
                        {
                            let conn = s.conn;
                            if s.stream.wants_write() {
                                self.executor.mark_dirty(conn);
                            }
                            if self
                                .executor
                                .conns
                                .get(conn)
                                .is_some_and(|c| !c.out.is_empty())
                            {
                                self.executor.mark_dirty(conn);
                            }
                        }
                        if event.is_readable() || event.is_read_closed() || event.is_error() {
                            self.want_read(index as u32);
                        }
                    }
                }
            }
            if woken {
                self.inbox.on_woken();
                // No more than were there when we woke: senders cannot keep us from the clients.
                for _ in 0..crate::seam::TO_EXECUTOR_MAX {
                    let Some(message) = self.inbox.try_next() else {
                        break;
                    };
                    self.executor.on_message(message);
                }
            }
            if self.accept_pending && self.executor.now.mono_ms() >= self.accept_not_before_ms {
                self.accept();
            }
            self.read_all();
            self.execute_remote();
            if self.executor.has_work_of_its_own() {
                let (before, cpu_before) = (self.clock.now(), thread_cpu_us());
                self.executor.end_turn();
                let took = self.clock.now().mono_us - before.mono_us;
                let cpu = thread_cpu_us().saturating_sub(cpu_before);
                self.executor.note_own_work(took, cpu);
            } else {
                self.executor.end_turn();
            }
            // First, so that who reads the answer to a change finds it done.
            if !self.executor.config_changed.is_empty() {
                self.on_config_changed();
            }
            if std::mem::take(&mut self.executor.tls_writes_go_on) {
                self.go_on_with_tls_writes();
            }
            self.write_all();
            self.executor.on_turn_over();
            self.end_handshakes();
            self.revive_stalled();
            self.remotes.revive_stalled(&mut self.executor);
            self.remotes.end_turn();
            if self.executor.ending() == Ending::Done {
                self.remotes.stop();
                return Ok(self.executor);
            }
        }
    }

    fn must_poll(&mut self) -> bool {
        let busy = self.executor.takes_input() && self.remotes.has_work();
        self.turns_unpolled = match busy {
            true => (self.turns_unpolled + 1) % TURNS_UNPOLLED_MAX,
            false => 0,
        };
        self.turns_unpolled == 0
    }

    /// How long there is nothing to do. Whoever has something from then on wakes this thread.
    fn timeout(&mut self) -> Duration {
        let come = self.remotes.exist() && self.remotes.lie_down();
        if come && self.executor.takes_input() {
            return Duration::ZERO;
        }
        let timeout = self.timeout_of_own();
        match self.remotes.is_congested() {
            // A queue has room again before long.
            true => timeout.min(Duration::from_millis(1)),
            false => timeout,
        }
    }

    fn timeout_of_own(&self) -> Duration {
        let can_accept = self.accept_pending && self.accept_not_before_ms == 0;
        if self.executor.has_dirty()
            || (!self.unread.is_empty() && self.executor.takes_input())
            || can_accept
        {
            return Duration::ZERO;
        }
        let now = self.clock.now().mono_ms();
        Duration::from_millis(self.executor.next_deadline_ms().saturating_sub(now))
    }

    fn want_read(&mut self, index: u32) {
        if let Some(Some(s)) = self.sockets.get_mut(index as usize)
            && !s.listed
        {
            s.listed = true;
            self.unread.push(index);
        }
    }

    fn accept(&mut self) {
        let mut room = self.executor.settings.accepts_per_turn_max;
        let mut tls_room = self.executor.settings.tls_accepts_per_turn_max;
        self.accept_not_before_ms = 0;
        let mut pending = false;
        for i in 0..self.listeners.len() {
            let tls = matches!(self.listeners[i], Listener::Tls(..));
            loop {
                let room = if tls { &mut tls_room } else { &mut room };
                if *room == 0 {
                    pending = true;
                    break;
                }
                *room -= 1;
                let accepted = self.listeners[i].accept();
                match accepted {
                    Ok((stream, info)) => self.add(stream, info),
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                    Err(e)
                        if matches!(
                            e.kind(),
                            io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted
                        ) => {}
                    Err(e) => {
                        tracing::warn!("Accepting client connection: {e}");
                        self.accept_not_before_ms = self.executor.now.mono_ms() + ACCEPT_PAUSE_MS;
                        return;
                    }
                }
            }
        }
        self.accept_pending = pending;
    }

    fn add(&mut self, mut stream: Stream, info: AcceptInfo) {
        stream.set_options(self.executor.settings.tcp_keepalive_s, info.is_local());
        let conn = match self.executor.on_accept(info) {
            Ok(conn) => conn,
            Err(text) => {
                // If the buffer has no room the stranger learns nothing.
                let _ = stream.write(text);
                return;
            }
        };
        if stream.is_handshaking() {
            let limit = HANDSHAKE_LIMIT.as_millis() as u64;
            self.handshakes
                .push_back((self.executor.now.mono_ms() + limit, conn));
        }
        if self.remotes.is_used() {
            return self.remotes.adopt(&mut self.executor, conn, stream);
        }
        if let Err(e) = self.keep(conn, stream) {
            tracing::warn!("Registering a client connection: {e}");
            self.executor.on_closed(conn);
        }
    }

    /// Makes a connection one of this thread.
    fn keep(&mut self, conn: ConnId, mut stream: Stream) -> io::Result<()> {
        let token = Token(FIRST_CONNECTION + conn.index as usize);
        let both = Interest::READABLE | Interest::WRITABLE;
        self.poll
            .registry()
            .register(stream.source(), token, both)?;
        let index = conn.index as usize;
        if self.sockets.len() <= index {
            self.sockets.resize_with(index + 1, || None);
        }
        self.sockets[index] = Some(Socket {
            stream,
            conn,
            listed: false,
            peer_closed: false,
        });
        Ok(())
    }

    /// Executes what the I/O threads have read.
    fn execute_remote(&mut self) {
        if !self.remotes.exist() || !self.executor.takes_input() {
            return;
        }
        let mut events = std::mem::take(&mut self.remote_events);
        self.remotes.execute(&mut self.executor, &mut events);
        for event in events.drain(..) {
            match event {
                Event::Closed(conn) => {
                    self.remotes.remove(conn);
                    self.executor.on_closed(conn);
                }
                // It was closed while it was on its way.
                Event::Released(wire) if !self.remotes.has(wire.conn) => drop(wire),
                Event::Released(wire) if self.remotes.is_used() => {
                    self.remotes.adopt_again(&mut self.executor, wire);
                }
                Event::Released(wire) => self.take_back(*wire),
            }
        }
        self.remote_events = events;
    }

    /// A connection comes back from an I/O thread.
    fn take_back(&mut self, wire: Wire) {
        let conn = wire.conn;
        self.remotes.remove(conn);
        let (stream, unwritten, query) = wire.into_parts();
        if let Some(c) = self.executor.conns.get_mut(conn) {
            c.out.write_here(unwritten);
        }
        if let Err(e) = self.keep(conn, stream) {
            tracing::warn!("Registering a client connection: {e}");
            return self.executor.on_closed(conn);
        }
        if !query.is_empty() {
            self.executor.on_bytes(conn, &query);
        }
        self.executor.mark_dirty(conn);
        self.want_read(conn.index);
    }

    /// Has as many I/O threads as the configuration says, beside this one.
    fn set_io_threads(&mut self) {
        let count = usize::try_from(self.executor.config.int("io-threads") - 1).unwrap_or(0);
        let before = self.remotes.used();
        if count == before {
            return;
        }
        let framing = self.framing();
        if let Err(e) = self.remotes.set_used(count, framing) {
            tracing::warn!("Can't start I/O threads: {e}");
        }
        self.executor.io_threads = Some(self.remotes.stats());
        self.remotes.recall();
        if !self.remotes.is_used() {
            return;
        }
        for slot in &mut self.sockets {
            if let Some(mut socket) = slot.take() {
                deregister(self.poll.registry(), &mut socket.stream);
                self.remotes
                    .adopt(&mut self.executor, socket.conn, socket.stream);
            }
        }
        self.unread.clear();
        self.stalled.clear();
    }

    /// What clients may send, for those who look at it elsewhere.
    fn framing(&self) -> Framing {
        Framing {
            table: self.executor.table,
            limits: Limits {
                bulk_bytes_max: self.executor.settings.bulk_bytes_max,
                authenticated: true,
            },
            query_bytes_max: self.executor.settings.query_buffer_bytes_max,
        }
    }

    /// Reads from several connections, executes what has come, and so on.
    fn read_all(&mut self) {
        let mut list = std::mem::take(&mut self.unread);
        let mut kept = 0;
        let mut i = 0;
        while i < list.len() {
            let mut at = 0;
            let takes_input = self.executor.takes_input();
            while i < list.len() && self.reads.len() < READS_MAX && at + READ_BYTES <= BUFFER_BYTES
            {
                let index = list[i];
                i += 1;
                if !takes_input || self.read_one(index, &mut at) {
                    list[kept] = index;
                    kept += 1;
                }
            }
            self.executor.on_reads(&self.reads, &self.buffer);
            self.reads.clear();
        }
        list.truncate(kept);
        list.append(&mut self.unread);
        self.unread = list;
    }

    /// Reads once, to where `at` says, and moves that on. Returns whether there may be more, to be read in the next turn.
    fn read_one(&mut self, index: u32, at: &mut usize) -> bool {
        let Some(Some(socket)) = self.sockets.get_mut(index as usize) else {
            return false;
        };
        let conn = socket.conn;
        if !self.executor.wants_bytes(conn) {
            if self
                .executor
                .conns
                .get(conn)
                .is_some_and(|c| c.close == Close::Open)
            {
                self.stalled.push(index);
            } else {
                socket.listed = false;
            }
            return false;
        }
        if let Some(query) = self.executor.argument_room(conn) {
            let (read, room) = socket.stream.read_behind(query);
            return self.on_argument_read(index, read, room);
        }
        let room = &mut self.buffer[*at..*at + READ_BYTES];
        let result = socket.stream.read(room);
        if socket.stream.take_write_ready() {
            self.executor.mark_dirty(conn);
        }
        match result {
            Ok(0) => {
                self.close(index);
                false
            }
            Ok(n) => {
                let more = socket.stream.may_have_more(n, READ_BYTES) || socket.peer_closed;
                socket.listed = more;
                self.reads.push(Read {
                    conn,
                    from: *at,
                    to: *at + n,
                });
                *at = (*at + n).next_multiple_of(READ_ALIGN);
                more
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                socket.listed = false;
                false
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => true,
            Err(e) => {
                tracing::debug!("Reading from client: {e}");
                self.close(index);
                false
            }
        }
    }

    /// Bytes of a large argument were read to where it is gathered, where there was so much room. Returns what [`MioDriver::read_one`] does.
    fn on_argument_read(&mut self, index: u32, read: io::Result<usize>, room: usize) -> bool {
        let Some(Some(socket)) = self.sockets.get_mut(index as usize) else {
            return false;
        };
        let conn = socket.conn;
        if socket.stream.take_write_ready() {
            self.executor.mark_dirty(conn);
        }
        let more = match read {
            Ok(0) => None,
            Ok(n) => {
                let more = socket.stream.may_have_more(n, room) || socket.peer_closed;
                self.executor.on_argument(conn, n);
                Some(more)
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Some(false),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => Some(true),
            Err(e) => {
                tracing::debug!("Reading from client: {e}");
                None
            }
        };
        match more {
            Some(more) => socket.listed = more,
            None => self.close(index),
        }
        more.unwrap_or(false)
    }

    fn revive_stalled(&mut self) {
        if self.stalled.is_empty() {
            return;
        }
        let (executor, sockets) = (&self.executor, &self.sockets);
        let revived = self
            .stalled
            .extract_if(.., |index| match sockets.get(*index as usize) {
                Some(Some(s)) => executor.wants_bytes(s.conn),
                _ => true,
            });
        self.unread.extend(revived);
    }

    fn write_all(&mut self) {
        let mut dirty = std::mem::take(&mut self.dirty);
        self.executor.take_dirty(&mut dirty);
        for id in &dirty {
            self.write_one(*id);
        }
        self.dirty = dirty;
    }

    fn write_one(&mut self, id: ConnId) {
        // A reply above the limit is not sent in part: the connection is closed instead.
        self.executor.check_output_limit(id);
        if self.remotes.has(id) {
            return self.remotes.hand_over(&mut self.executor, id);
        }
        let mut written = 0;
        let mut failed = false;
        if let Some(Some(socket)) = self.sockets.get_mut(id.index as usize)
            && socket.conn == id
            && socket.stream.wants_write()
            && let Err(e) = socket.stream.flush()
        {
            tracing::debug!("Writing to client: {e}");
            failed = true;
        }
        while !failed {
            let Some(Some(socket)) = self.sockets.get_mut(id.index as usize) else {
                return;
            };
            let Some(c) = self.executor.conns.get_mut(id) else {
                return;
            };
            if c.close == Close::Now {
                failed = true;
                break;
            }
            if !c.out.is_ready() {
                break;
            }
            if written >= WRITE_BYTES_MAX {
                // The socket is still writable, so that no event will say so.
                self.executor.mark_dirty(id);
                break;
            }
            match socket.stream.write_parts(c.out.ready()) {
                // A socket never takes nothing; without progress there would be no end here.
                Ok((0, _)) => break,
                Ok((n, full)) => {
                    self.executor.stats.writes += 1;
                    c.out.on_written(n);
                    c.bytes_out += n as u64;
                    self.executor.stats.bytes_out += n as u64;
                    written += n;
                    if full {
                        break;
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => {
                    tracing::debug!("Writing to client: {e}");
                    failed = true;
                    break;
                }
            }
        }
        self.after_write(id, failed);
    }

    /// Writes to clients with TLS what was held up: no event will say that their sockets have room.
    fn go_on_with_tls_writes(&mut self) {
        for socket in self.sockets.iter().flatten() {
            if matches!(socket.stream, Stream::Tls(_)) {
                self.executor.mark_dirty(socket.conn);
            }
        }
        self.remotes.write_all();
    }

    /// Gives up handshakes that take too long, and the oldest when there are too many.
    fn end_handshakes(&mut self) {
        let now = self.executor.now.mono_ms();
        let mut too_many = false;
        if self.handshakes.len() > HANDSHAKES_LISTED_MAX {
            let sockets = &self.sockets;
            let remotes = &self.remotes;
            self.handshakes.retain(|(_, conn)| {
                remotes.is_handshaking(*conn) || matches!(sockets.get(conn.index as usize), Some(Some(s)) if s.conn == *conn && s.stream.is_handshaking())
            });
            too_many = self.handshakes.len() > HANDSHAKES_MAX;
        }
        while let Some((deadline, conn)) = self.handshakes.front().copied() {
            let index = conn.index;
            let remote = self.remotes.is_handshaking(conn);
            let waiting = match self.sockets.get_mut(index as usize) {
                Some(Some(s)) if s.conn == conn && s.stream.is_handshaking() => Some(s),
                _ => None,
            };
            let is_due = now >= deadline || too_many && self.handshakes.len() > HANDSHAKES_MAX;
            if (remote || waiting.is_some()) && !is_due {
                return;
            }
            if let Some(socket) = waiting {
                let reason = match now < deadline {
                    true => "too many TLS handshakes are under way",
                    false => "the TLS handshake took too long",
                };
                socket.stream.log_failure(&reason);
                self.close(index);
            } else if remote {
                if let Some(c) = self.executor.conns.get_mut(conn) {
                    c.close_when(Close::Now);
                }
                self.executor.mark_dirty(conn);
            }
            self.handshakes.pop_front();
        }
    }

    fn after_write(&mut self, id: ConnId, failed: bool) {
        let Some(c) = self.executor.conns.get(id) else {
            return;
        };
        let flushed = match self.sockets.get(id.index as usize) {
            Some(Some(socket)) => !socket.stream.wants_write(),
            _ => true,
        };
        let done = c.close == Close::AfterReplies && c.out.is_empty() && flushed;
        if failed || done {
            self.close(id.index);
        }
    }

    fn close(&mut self, index: u32) {
        if let Some(slot) = self.sockets.get_mut(index as usize)
            && let Some(mut socket) = slot.take()
        {
            deregister(self.poll.registry(), &mut socket.stream);
            self.executor.on_closed(socket.conn);
            self.unread.retain(|i| *i != index);
            self.stalled.retain(|i| *i != index);
        }
    }

    /// Listens as the configuration says now. Whether that can be done was tried before it was accepted.
    fn on_config_changed(&mut self) {
        let changed = std::mem::take(&mut self.executor.config_changed);
        if changed
            .iter()
            .any(|n| matches!(*n, "port" | "bind" | "tls-port"))
        {
            // The old ones must be gone before the same port can be listened on with other addresses.
            self.listeners.clear();
            if let Err(e) = self.listen() {
                tracing::warn!("Failed listening after CONFIG SET: {e}");
            }
        }
        if changed
            .iter()
            .any(|n| matches!(*n, "port" | "bind" | "tls-port" | "proc-title-template"))
        {
            self.show_title();
        }
        if changed
            .iter()
            .any(|n| matches!(*n, "proto-max-bulk-len" | "client-query-buffer-limit"))
        {
            self.remotes.set_framing(self.framing());
        }
        if changed.contains(&"io-threads") {
            self.set_io_threads();
        }
    }
}

fn deregister(registry: &Registry, stream: &mut Stream) {
    // Closing it takes it out of the epoll anyway.
    let _ = registry.deregister(stream.source());
}
