//! The executor's side of the I/O threads: which connection belongs to which, and what goes to and fro.

use super::io_thread::{IoThread, Seen, Sleeper};
use super::stream::Stream;
use super::wire::{Framing, FromIo, ToIo, Wire};
use crate::executor::{Close, ConnId, Executor, Flow, IoThreadStats, Parcel};
use holdfast_queue::{Consumer, Producer, ring};
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;

/// Room of a queue in each direction.
const QUEUE_ROOM: usize = 4096;
/// Parcels of one thread that are executed in one turn.
const TURN_PARCELS: usize = 128;
/// With so many bytes of a connection on their way to be written, no more are handed over.
const IN_FLIGHT_MAX: usize = 256 * 1024;
/// After so many messages a sleeping thread is woken, if there are more.
const WAKE_EVERY: usize = 8;

/// A connection of an I/O thread.
#[derive(Debug)]
struct Remote {
    conn: ConnId,
    thread: usize,
    flow: Arc<Flow>,
    /// Its parcel, while it may not be read.
    parcel: Option<Box<Parcel>>,
    /// It has been told to close it; nothing more is sent.
    closing: bool,
    /// It is on its way back from there.
    leaving: bool,
    /// It is in the list of those that may not be read.
    stalled: bool,
}

struct Thread {
    to: Producer<ToIo>,
    from: Consumer<FromIo>,
    seen: Arc<Seen>,
    /// Messages for which there was no room.
    unsent: VecDeque<ToIo>,
    /// Messages since it was woken.
    quiet: usize,
    handle: Option<JoinHandle<()>>,
}

impl Thread {
    fn send(&mut self, message: ToIo) {
        if self.unsent.is_empty() {
            match self.to.push(message) {
                Ok(()) => self.quiet += 1,
                Err(back) => self.unsent.push_back(back),
            }
        } else {
            self.unsent.push_back(message);
        }
        if self.quiet >= WAKE_EVERY {
            self.wake();
        }
    }

    fn wake(&mut self) {
        if self.quiet > 0 {
            self.quiet = 0;
            self.seen.sleeper.wake();
        }
    }
}

/// All of them. The connections themselves are in the driver's table.
pub(super) struct Remotes {
    me: Arc<Sleeper>,
    threads: Vec<Thread>,
    /// How many of them are given connections.
    used: usize,
    next: usize,
    /// By index of the connection.
    conns: Vec<Option<Remote>>,
    /// Connections that may not be read.
    stalled: Vec<ConnId>,
    /// What came in the turn under way.
    batch: Vec<(ConnId, Box<Parcel>)>,
}

/// What else an I/O thread has said.
pub(super) enum Event {
    Closed(ConnId),
    Released(Box<Wire>),
}

impl Remotes {
    pub fn new(me: Arc<Sleeper>) -> Remotes {
        Remotes {
            me,
            threads: Vec::new(),
            used: 0,
            next: 0,
            conns: Vec::new(),
            stalled: Vec::new(),
            batch: Vec::new(),
        }
    }

    /// Whether new connections go to I/O threads.
    pub fn is_used(&self) -> bool {
        self.used > 0
    }

    /// How many threads are given connections.
    pub fn used(&self) -> usize {
        self.used
    }

    /// Whether there are any.
    pub fn exist(&self) -> bool {
        !self.threads.is_empty()
    }

    /// Has so many threads take connections; those that are missing are started. Threads that are not used any more sleep.
    ///
    /// # Errors
    /// The system has no more threads or file descriptors: as many as there are are used.
    pub fn set_used(&mut self, count: usize, framing: Framing) -> io::Result<()> {
        while self.threads.len() < count {
            match self.start(framing) {
                Ok(()) => {}
                Err(e) => {
                    self.used = self.threads.len();
                    return Err(e);
                }
            }
        }
        self.used = count;
        Ok(())
    }

    fn start(&mut self, framing: Framing) -> io::Result<()> {
        let (to_executor, from) = ring(QUEUE_ROOM);
        let (to, from_executor) = ring(QUEUE_ROOM);
        let (thread, seen) = IoThread::new(framing, self.me.clone(), to_executor, from_executor)?;
        let name = format!("io_thd_{}", self.threads.len() + 1);
        let handle = std::thread::Builder::new()
            .name(name)
            .spawn(move || thread.run())?;
        self.threads.push(Thread {
            to,
            from,
            seen,
            unsent: VecDeque::new(),
            quiet: 0,
            handle: Some(handle),
        });
        Ok(())
    }

    /// Tells all threads what clients may send now.
    pub fn set_framing(&mut self, framing: Framing) {
        for t in &self.threads {
            if let Ok(mut shared) = t.seen.framing.write() {
                *shared = framing;
            }
            t.seen.framing_version.fetch_add(1, Ordering::Release);
        }
    }

    /// Gives a connection to a thread.
    pub fn adopt(&mut self, executor: &mut Executor, conn: ConnId, stream: Stream) {
        let thread = self.pick();
        let flow = Arc::new(Flow::default());
        let mut raw = true;
        if let Some(c) = executor.conns.get_mut(conn) {
            c.out.write_elsewhere(flow.clone());
            raw = !(c.authenticated && c.query.is_empty());
        }
        flow.set_handshaking(stream.is_handshaking());
        let index = conn.index as usize;
        if self.conns.len() <= index {
            self.conns.resize_with(index + 1, || None);
        }
        self.conns[index] = Some(Remote {
            conn,
            thread,
            flow: flow.clone(),
            parcel: None,
            closing: false,
            leaving: false,
            stalled: false,
        });
        let wire = Box::new(Wire::new(conn, stream, flow, raw));
        self.threads[thread].send(ToIo::Adopt(wire));
        executor.mark_dirty(conn);
    }

    /// Gives a connection that has come back to another thread.
    pub fn adopt_again(&mut self, executor: &mut Executor, wire: Box<Wire>) {
        let thread = self.pick();
        if let Some(remote) = self.get_mut(wire.conn) {
            (remote.thread, remote.leaving) = (thread, false);
            executor.mark_dirty(wire.conn);
            self.threads[thread].send(ToIo::Adopt(wire));
        }
    }

    fn pick(&mut self) -> usize {
        self.next = (self.next + 1) % self.used.max(1);
        self.next
    }

    /// Asks for connections back: for those of threads that are not used any more, and of the others for as many as would be elsewhere if
    /// they came anew.
    pub fn recall(&mut self) {
        let mut n = 0;
        for remote in self.conns.iter_mut().flatten() {
            n = (n + 1) % self.used.max(1);
            if (self.used == 0 || remote.thread != n) && !remote.closing && !remote.leaving {
                remote.leaving = true;
                self.threads[remote.thread].send(ToIo::Release(remote.conn));
            }
        }
    }

    /// To be called before sleeping. Returns whether there is something to do instead.
    pub fn lie_down(&mut self) -> bool {
        self.me.bell.lie_down();
        self.has_work()
    }

    /// To be called after sleeping.
    pub fn get_up(&mut self) {
        self.me.bell.get_up();
    }

    /// Whether there is something to be executed.
    pub fn has_work(&mut self) -> bool {
        self.threads.iter_mut().any(|t| !t.from.is_empty())
    }

    /// Whether a queue is full that something waits for.
    pub fn is_congested(&self) -> bool {
        self.threads.iter().any(|t| !t.unsent.is_empty())
    }

    /// Executes what has come; what is not about requests goes to `events`.
    pub fn execute(&mut self, executor: &mut Executor, events: &mut Vec<Event>) {
        let mut batch = std::mem::take(&mut self.batch);
        for t in &mut self.threads {
            let full = batch.len() + TURN_PARCELS;
            while batch.len() < full {
                match t.from.pop() {
                    Some(FromIo::Requests(conn, parcel)) => batch.push((conn, parcel)),
                    // What it sent before is in the batch, and executed first.
                    Some(FromIo::Closed(conn)) => events.push(Event::Closed(conn)),
                    Some(FromIo::Look(conn)) => executor.mark_dirty(conn),
                    Some(FromIo::Released(wire)) => events.push(Event::Released(wire)),
                    None => break,
                }
            }
        }
        executor.on_parcels(&mut batch);
        for (conn, mut parcel) in batch.drain(..) {
            // What has become a value is nobody else's from now on.
            parcel.large.clear();
            if let Some(remote) = self.get_mut(conn) {
                remote.parcel = Some(parcel);
                executor.mark_dirty(conn);
            }
        }
        self.batch = batch;
    }

    fn get_mut(&mut self, conn: ConnId) -> Option<&mut Remote> {
        let remote = self.conns.get_mut(conn.index as usize)?.as_mut();
        remote.filter(|r| r.conn == conn)
    }

    /// Whether a connection is one of an I/O thread.
    pub fn has(&self, conn: ConnId) -> bool {
        matches!(self.conns.get(conn.index as usize), Some(Some(r)) if r.conn == conn)
    }

    /// Whether a connection of an I/O thread has not ended its handshake.
    pub fn is_handshaking(&self, conn: ConnId) -> bool {
        matches!(self.conns.get(conn.index as usize), Some(Some(r)) if r.conn == conn && r.flow.is_handshaking())
    }

    /// Forgets a connection.
    pub fn remove(&mut self, conn: ConnId) {
        if self.has(conn) {
            self.conns[conn.index as usize] = None;
        }
    }

    /// Gives what a connection has to be written to its thread, and lets that read on, as far as it may.
    pub fn hand_over(&mut self, executor: &mut Executor, conn: ConnId) {
        let Some(Some(remote)) = self.conns.get_mut(conn.index as usize) else {
            return;
        };
        let Some(c) = executor.conns.get_mut(conn) else {
            return;
        };
        if remote.conn != conn {
            return;
        }
        if c.close == Close::Now {
            // It is gone for everybody; its thread will have closed it before it can get another of the same index.
            if !remote.leaving {
                let thread = &mut self.threads[remote.thread];
                thread.send(ToIo::Close(conn));
            }
            self.conns[conn.index as usize] = None;
            return executor.on_closed(conn);
        }
        if remote.leaving || remote.closing {
            return;
        }
        let thread = &mut self.threads[remote.thread];
        // What there is no room for is said again when the client is looked at next.
        if let Some(trim) = c.out.take_trim()
            && thread.unsent.is_empty()
        {
            thread.send(ToIo::Trim(conn, trim));
        }
        let ready = c.out.is_ready();
        let room = !ready || c.out.in_flight() < IN_FLIGHT_MAX || {
            remote.flow.wait_for_room();
            c.out.in_flight() < IN_FLIGHT_MAX
        };
        let raw = !(c.authenticated && c.query.is_empty());
        let mut own = false;
        let mut parcel = None;
        if remote.parcel.is_some() {
            if executor.wants_bytes(conn) {
                (own, parcel) = (true, remote.parcel.take());
            } else if !remote.stalled {
                remote.stalled = true;
                self.stalled.push(conn);
            }
        }
        let Some(c) = executor.conns.get_mut(conn) else {
            return;
        };
        let mut written = 0;
        let mut vessel = parcel;
        if ready && room {
            let vessel = vessel.get_or_insert_default();
            written = c.out.hand_over(&mut vessel.replies);
            c.bytes_out += written as u64;
        }
        let mut close = Close::Open;
        if c.close == Close::AfterReplies && c.out.is_empty() {
            (close, remote.closing) = (Close::AfterReplies, true);
        }
        if written > 0 {
            executor.stats.bytes_out += written as u64;
            executor.stats.writes += 1;
        }
        if own || written > 0 || remote.closing {
            let parcel = vessel.unwrap_or_default();
            thread.send(ToIo::Replies {
                conn,
                parcel,
                own,
                raw,
                close,
            });
        }
    }

    /// Lets those be read again that may be.
    pub fn revive_stalled(&mut self, executor: &mut Executor) {
        if self.stalled.is_empty() {
            return;
        }
        let conns = &mut self.conns;
        self.stalled.retain(|conn| {
            let Some(Some(remote)) = conns.get_mut(conn.index as usize) else {
                return false;
            };
            if remote.conn != *conn {
                return false;
            }
            let wanted = executor.wants_bytes(*conn);
            if wanted {
                remote.stalled = false;
                executor.mark_dirty(*conn);
            }
            !wanted
                && executor
                    .conns
                    .get(*conn)
                    .is_some_and(|c| c.close == Close::Open)
        });
    }

    /// Sends what there was no room for, and wakes the threads that have got something.
    pub fn end_turn(&mut self) {
        for t in &mut self.threads {
            while let Some(message) = t.unsent.pop_front() {
                match t.to.push(message) {
                    Ok(()) => t.quiet += 1,
                    Err(back) => {
                        t.unsent.push_front(back);
                        break;
                    }
                }
            }
            t.wake();
        }
    }

    /// Has all threads write what they have.
    pub fn write_all(&mut self) {
        self.threads.iter_mut().for_each(|t| t.send(ToIo::Write));
    }

    /// Has all threads write what they have, and end.
    pub fn stop(&mut self) {
        for t in &mut self.threads {
            t.unsent.push_back(ToIo::Stop);
        }
        self.end_turn();
        for t in &mut self.threads {
            // One whose queue is full at the very end is left to the end of the process.
            if t.unsent.is_empty()
                && let Some(handle) = t.handle.take()
            {
                // If it has panicked, the log says so.
                let _ = handle.join();
            }
        }
    }

    /// What `INFO` tells of the threads.
    pub fn stats(&self) -> Box<dyn Fn() -> Vec<IoThreadStats> + Send> {
        let seen: Vec<Arc<Seen>> = self.threads.iter().map(|t| t.seen.clone()).collect();
        let used = self.used;
        Box::new(move || {
            seen.iter()
                .enumerate()
                .map(|(i, s)| s.stats(i < used))
                .collect()
        })
    }
}
