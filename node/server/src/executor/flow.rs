//! What the executor and an I/O thread both know of one connection.

use super::client_memory::wants_less;
use holdfast_queue::Bell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// What an I/O thread and the executor both look at, of one connection.
#[derive(Debug, Default)]
pub struct Flow {
    /// Bytes written to the socket so far, of those that were handed over.
    written: AtomicU64,
    /// The executor waits for there to be room.
    full: Bell,
    query_len: AtomicUsize,
    query_capacity: AtomicUsize,
    reply_room: AtomicUsize,
    handshaking: AtomicBool,
}

impl Flow {
    /// For the I/O thread: so many more bytes were written. Returns whether the executor waits for that.
    pub fn on_written(&self, n: usize) -> bool {
        let before = self.written.load(Ordering::Relaxed);
        self.written.store(before + n as u64, Ordering::Release);
        self.full.must_wake()
    }

    /// For the I/O thread: what it has of a command.
    pub fn note_query(&self, len: usize, capacity: usize) {
        self.query_len.store(len, Ordering::Relaxed);
        self.query_capacity.store(capacity, Ordering::Relaxed);
    }

    /// For the I/O thread: room in the buffer that it will send back for the next replies.
    pub fn note_reply_room(&self, capacity: usize) {
        self.reply_room.store(capacity, Ordering::Relaxed);
    }

    /// Whether a TLS handshake is under way.
    pub fn is_handshaking(&self) -> bool {
        self.handshaking.load(Ordering::Relaxed)
    }

    /// Says whether a TLS handshake is under way.
    pub fn set_handshaking(&self, on: bool) {
        self.handshaking.store(on, Ordering::Relaxed);
    }

    /// Bytes written so far.
    pub fn written(&self) -> u64 {
        self.written.load(Ordering::Acquire)
    }

    /// For the executor, before it looks at [`Flow::written`] and then waits.
    pub fn wait_for_room(&self) {
        self.full.lie_down();
    }

    /// Length and capacity of the query buffer.
    pub fn query(&self) -> (usize, usize) {
        let len = self.query_len.load(Ordering::Relaxed);
        (len, self.query_capacity.load(Ordering::Relaxed))
    }

    /// Room in the buffer for replies that the I/O thread has.
    pub fn reply_room(&self) -> usize {
        self.reply_room.load(Ordering::Relaxed)
    }
}

/// What an I/O thread is to give back of a connection's buffers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trim {
    /// How long the client has been silent.
    pub idle_ms: u32,
    /// The room that the buffer of replies is to have, if it is to be another one. 0: the client is silent, and nothing is to be kept for the next time.
    pub reply_room: Option<u32>,
}

/// The executor's side of it: whoever writes elsewhere.
#[derive(Debug)]
pub(super) struct Elsewhere {
    pub flow: Arc<Flow>,
    /// Bytes that it has been given.
    pub given: u64,
    /// What it is to be told.
    pub trim: Option<Trim>,
}

impl Elsewhere {
    pub fn new(flow: Arc<Flow>) -> Elsewhere {
        Elsewhere {
            flow,
            given: 0,
            trim: None,
        }
    }

    /// Bytes that it has been given and has not written.
    pub fn in_flight(&self) -> usize {
        self.given.saturating_sub(self.flow.written()) as usize
    }

    /// Looks whether it has more than it needs. `smaller` says which room a buffer of replies should have instead of this one.
    /// Returns whether it is to be told something.
    pub fn look(&mut self, idle_ms: u64, smaller: impl Fn(usize) -> Option<usize>) -> bool {
        let (len, capacity) = self.flow.query();
        let reply_room = smaller(self.flow.reply_room());
        self.trim = (reply_room.is_some() || wants_less(len, capacity, idle_ms)).then(|| Trim {
            idle_ms: u32::try_from(idle_ms).unwrap_or(u32::MAX),
            reply_room: reply_room.map(|n| u32::try_from(n).unwrap_or(u32::MAX)),
        });
        self.trim.is_some()
    }
}
