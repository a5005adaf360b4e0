//! A connection's replies: what may be written, what has been, and what waits for the journal.
//!
//! ```text
//! buf:  [ written | may be written | held reply | held reply | … ]
//!         ..sent     ..free           held[0]      held[1]
//! ```
//! A connection's replies leave in the order of its commands, so that whatever follows a held reply
//! is held with it. Without held replies all of `buf` may be written.
//!
//! Long strings are not copied into `buf`: `blobs` has them and says where they belong, which is always within a reply. Places and lengths in here
//! are those of `buf` alone; what others are told counts the strings, too.

use super::Replies;
use super::flow::{Elsewhere, Flow, Trim};
use crate::journal::JournalPos;
use holdfast_engine::Blobs;
use std::collections::VecDeque;
use std::sync::Arc;

/// Above this many written bytes at its front, a buffer that is not yet empty is moved together, once they are half of it: what is moved
/// is no more than what was written.
const COMPACT_BYTES: usize = 64 * 1024;
/// A buffer that has grown beyond this is given back when it becomes empty.
const KEEP_BYTES: usize = 256 * 1024;

/// A buffer has room for so much at least, as Valkey's have: a reply as most are.
const ROOM_BYTES_MIN: usize = 1024;
/// What Valkey keeps in a buffer of its own for each client; what is beyond it lies in a list there.
pub const FIRST_CHUNK_BYTES: usize = 16 * 1024;

/// How much room a buffer of replies with so much should have instead: all is given back if the client is silent, and otherwise what has
/// not been needed lately, if that is half of it. `None`: it stays as it is.
fn smaller_room(room: usize, peak: usize, is_silent: bool) -> Option<usize> {
    match is_silent {
        true => (room > 0).then_some(0),
        false => {
            let half = room / 2;
            (half >= ROOM_BYTES_MIN && peak < half).then(|| ROOM_BYTES_MIN.max(peak + 1))
        }
    }
}

/// What a held reply reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeldKind {
    /// A write: released once it is committed, by whomever.
    Write,
    /// State: released only while the lease holds.
    Read,
    /// A message about a write: released once that is committed, and dropped if nobody can say whether it was.
    Message,
    /// A message that a key may have changed: released once the write is committed, or when nobody can say whether it was.
    Invalidation,
    /// Neither: waits only for its turn.
    Free,
}

#[derive(Debug)]
struct Held {
    len: usize,
    needs: JournalPos,
    kind: HeldKind,
    since_ms: u64,
}

/// The output of one connection.
#[derive(Debug, Default)]
pub struct Output {
    /// Replies are appended here.
    pub buf: Vec<u8>,
    /// Strings that belong between bytes of `buf`.
    pub blobs: Blobs,
    sent: usize,
    /// End of what may be written; meaningful while `held` is not empty.
    free: usize,
    held: VecDeque<Held>,
    /// The most bytes that were there since the peak was reset.
    peak: usize,
    peak_reset_ms: u64,
    /// Whoever writes elsewhere.
    elsewhere: Option<Elsewhere>,
}

impl Output {
    /// From now on the bytes are written by another thread.
    pub fn write_elsewhere(&mut self, flow: Arc<Flow>) {
        self.elsewhere = Some(Elsewhere::new(flow));
    }

    /// The bytes are written here again. `unwritten` are those that the other thread has given back.
    pub fn write_here(&mut self, mut unwritten: Replies) {
        self.elsewhere = None;
        if unwritten.is_empty() {
            return;
        }
        let free = self.free.saturating_sub(self.sent);
        let blobs = self.blobs.split_off(self.sent);
        let own = Replies::new(self.buf.split_off(self.sent), blobs);
        unwritten.trim();
        self.free = unwritten.buf.len() + free;
        unwritten.append(own);
        (self.buf, self.blobs, self.sent) = (unwritten.buf, unwritten.blobs, 0);
    }

    /// Gives up everything that is still to be written.
    pub fn abandon(&mut self) {
        self.buf = Vec::new();
        self.blobs = Blobs::default();
        self.held.clear();
        (self.sent, self.free) = (0, 0);
    }

    /// Bytes that another thread has been given and has not written.
    pub fn in_flight(&self) -> usize {
        self.elsewhere.as_ref().map_or(0, Elsewhere::in_flight)
    }

    /// Length and capacity of the query buffer of the thread that writes.
    pub(super) fn elsewhere_query(&self) -> Option<(usize, usize)> {
        self.elsewhere.as_ref().map(|e| e.flow.query())
    }

    /// Room for replies, here and with the thread that writes.
    pub(super) fn room(&self) -> usize {
        self.buf.capacity() + self.elsewhere_room()
    }

    /// Room for replies in the larger of the buffers that are used in turn, if another thread writes: the one that is written and the one that is filled.
    pub(crate) fn largest_room(&self) -> usize {
        self.buf.capacity().max(self.elsewhere_room())
    }

    fn elsewhere_room(&self) -> usize {
        self.elsewhere.as_ref().map_or(0, |e| e.flow.reply_room())
    }

    /// What the thread that writes is to give back, if it is to be told so.
    pub fn take_trim(&mut self) -> Option<Trim> {
        self.elsewhere.as_mut().and_then(|e| e.trim.take())
    }

    /// Gives the bytes that may be written to another thread: `into`, which is empty. Returns how many.
    pub fn hand_over(&mut self, into: &mut Replies) -> usize {
        let end = self.ready_end();
        if end == self.sent {
            return 0;
        }
        self.peak = self.peak.max(self.buf.len());
        let n;
        if self.sent == 0 && end == self.buf.len() {
            n = end + self.blobs.bytes();
            std::mem::swap(&mut self.buf, &mut into.buf);
            std::mem::swap(&mut self.blobs, &mut into.blobs);
            self.free = 0;
        } else {
            into.buf.extend_from_slice(&self.buf[self.sent..end]);
            let held = self.blobs.split_off(end);
            let mut blobs = std::mem::take(&mut self.blobs);
            blobs.shift(self.sent);
            n = end - self.sent + blobs.bytes();
            into.blobs.append(0, blobs);
            self.blobs.append(end, held);
            self.sent_up_to(end);
        }
        if let Some(elsewhere) = &mut self.elsewhere {
            elsewhere.given += n as u64;
        }
        n
    }

    /// Makes room for a short reply, where there is none.
    #[inline]
    pub fn make_room(&mut self) {
        if self.buf.capacity() == 0 {
            self.buf.reserve_exact(ROOM_BYTES_MIN);
        }
    }

    /// Uses the buffer of replies that were written for those that follow, if there is none.
    pub fn use_room(&mut self, from: &mut Replies) {
        if self.buf.capacity() == 0 && from.is_empty() {
            std::mem::swap(&mut self.buf, &mut from.buf);
        }
        self.make_room();
    }

    /// Gives room back that has not been needed lately: all of it if the client is silent. `reset_after_ms`: how long a peak
    /// counts.
    pub fn shrink(&mut self, now_ms: u64, reset_after_ms: u64, is_silent: bool) {
        if self.buf.is_empty() {
            if is_silent {
                self.blobs.shrink();
                self.held.shrink_to_fit();
            }
            if let Some(room) = smaller_room(self.buf.capacity(), self.peak, is_silent) {
                self.buf = Vec::with_capacity(room);
            }
        }
        if now_ms.saturating_sub(self.peak_reset_ms) >= reset_after_ms {
            self.peak = self.buf.len();
            self.peak_reset_ms = now_ms;
        }
    }

    /// Has the thread that writes, if it is another one, told to give back what it has not needed lately. `idle_ms`: how long the client has been silent;
    /// `is_silent`: so long that nothing is kept; without `replies` it is about the query buffer alone. Returns whether there is something to be told.
    pub(super) fn shrink_elsewhere(
        &mut self,
        idle_ms: u64,
        is_silent: bool,
        replies: bool,
    ) -> bool {
        let peak = self.peak;
        self.elsewhere.as_mut().is_some_and(|e| {
            e.look(idle_ms, |room| match replies {
                true => smaller_room(room, peak, is_silent),
                false => None,
            })
        })
    }

    /// The most bytes that were there lately.
    pub fn peak(&self) -> usize {
        self.peak
    }

    /// Where in `buf` that ends what may be written now.
    #[inline]
    fn ready_end(&self) -> usize {
        if self.held.is_empty() {
            self.buf.len()
        } else {
            self.free
        }
    }

    /// Whether anything may be written now.
    #[inline]
    pub fn is_ready(&self) -> bool {
        self.sent < self.ready_end()
    }

    /// What may be written now, in parts.
    pub fn ready(&self) -> impl Iterator<Item = &[u8]> {
        self.blobs.parts(&self.buf, self.sent, self.ready_end())
    }

    /// Takes the news that the first `n` bytes of [`Output::ready`] are written.
    pub fn on_written(&mut self, n: usize) {
        let sent = self.blobs.on_written(self.sent, n);
        self.sent_up_to(sent);
    }

    fn sent_up_to(&mut self, sent: usize) {
        self.sent = sent;
        self.peak = self.peak.max(self.buf.len());
        if self.sent == self.buf.len() {
            if self.buf.capacity() > KEEP_BYTES {
                self.buf = Vec::new();
            } else {
                self.buf.clear();
            }
            self.sent = 0;
            self.free = 0;
        } else if self.sent >= COMPACT_BYTES && self.sent >= self.buf.len() / 2 {
            self.buf.drain(..self.sent);
            self.blobs.shift(self.sent);
            self.free = self.free.saturating_sub(self.sent);
            self.sent = 0;
        }
    }

    /// Bytes that are still to be written, held or not.
    pub fn pending_bytes(&self) -> usize {
        self.buf.len() - self.sent + self.blobs.bytes() + self.in_flight()
    }

    /// How many bytes were appended since `buf` was so long.
    #[inline]
    pub fn bytes_since(&self, start: usize) -> usize {
        self.buf.len().saturating_sub(start) + self.blobs.bytes_since(start)
    }

    /// Takes back what was appended since `buf` was so long.
    pub fn truncate(&mut self, start: usize) {
        self.buf.truncate(start);
        self.blobs.truncate(start);
    }

    /// Of these, what counts for limits: without what Valkey keeps in a client's own buffer.
    /// Valkey counts the rest in whole blocks as its allocator makes them.
    pub fn listed_bytes(&self) -> usize {
        const BLOCK_BYTES: usize = 20 * 1024;
        let rest = self.pending_bytes().saturating_sub(FIRST_CHUNK_BYTES);
        rest.div_ceil(BLOCK_BYTES) * BLOCK_BYTES
    }

    /// How many replies are held.
    pub fn held_len(&self) -> usize {
        self.held.len()
    }

    /// Whether nothing is left to be written.
    pub fn is_empty(&self) -> bool {
        self.sent == self.buf.len()
    }

    /// Marks what was appended since `start` as one reply that depends on `needs`.
    pub fn hold(&mut self, start: usize, needs: JournalPos, kind: HeldKind, now_ms: u64) {
        let len = self.buf.len() - start;
        debug_assert!(self.held.len() > 64 || self.is_contiguous(start));
        if len == 0 || (self.held.is_empty() && kind == HeldKind::Free) {
            return;
        }
        match self.held.back_mut() {
            None => self.free = start,
            // Nobody counts these one by one.
            Some(last)
                if matches!(
                    kind,
                    HeldKind::Free | HeldKind::Message | HeldKind::Invalidation
                ) && last.kind == kind
                    && last.needs == needs =>
            {
                last.len += len;
                return;
            }
            Some(_) => {}
        }
        self.held.push_back(Held {
            len,
            needs,
            kind,
            since_ms: now_ms,
        });
    }

    /// Whether what is held ends where the next reply begins: nothing was appended that nobody has marked.
    fn is_contiguous(&self, start: usize) -> bool {
        let held: usize = self.held.iter().map(|h| h.len).sum();
        self.held.is_empty() || self.free + held == start
    }

    /// Releases, in order, what depends on nothing beyond `durable`. `lease` is asked when a read is next, and not again
    /// after it has refused. Returns whether anything may be written that could not be before.
    pub fn release(&mut self, durable: JournalPos, mut lease: impl FnMut() -> bool) -> bool {
        let mut any = false;
        while let Some(first) = self.held.front() {
            if first.needs > durable || (first.kind == HeldKind::Read && !lease()) {
                break;
            }
            self.free += first.len;
            self.held.pop_front();
            any = true;
        }
        any
    }

    /// When the oldest held reply was given, in milliseconds.
    pub fn held_since_ms(&self) -> Option<u64> {
        self.held.front().map(|h| h.since_ms)
    }

    /// Lets invalidations depend on nothing any more: those for which `which` holds, given the position and since when they
    /// have been held.
    pub fn free_invalidations(&mut self, mut which: impl FnMut(JournalPos, u64) -> bool) {
        for held in &mut self.held {
            if held.kind == HeldKind::Invalidation && which(held.needs, held.since_ms) {
                held.kind = HeldKind::Free;
                held.needs = JournalPos(0);
            }
        }
    }

    /// Replaces held replies by errors: those for which `replace` returns one, given the kind, the
    /// position and since when they have been held. They depend on nothing then. Returns how many.
    pub fn replace(
        &mut self,
        mut replace: impl FnMut(HeldKind, JournalPos, u64) -> Option<&'static [u8]>,
    ) -> usize {
        if self.held.is_empty() {
            return 0;
        }
        let tail = self.buf.split_off(self.free);
        let mut blobs = self.blobs.split_off(self.free);
        let mut at = 0;
        let mut count = 0;
        for held in &mut self.held {
            let old = &tail[at..at + held.len];
            at += held.len;
            let behind = blobs.split_off(held.len);
            let own = std::mem::replace(&mut blobs, behind);
            let new = match replace(held.kind, held.needs, held.since_ms) {
                Some(error) => {
                    count += 1;
                    held.kind = HeldKind::Free;
                    held.needs = JournalPos(0);
                    error
                }
                None => {
                    self.blobs.append(self.buf.len(), own);
                    old
                }
            };
            held.len = new.len();
            self.buf.extend_from_slice(new);
        }
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ready(o: &Output) -> Vec<u8> {
        o.ready().collect::<Vec<_>>().concat()
    }

    fn put(o: &mut Output, bytes: &[u8], needs: u64, kind: HeldKind) {
        let start = o.buf.len();
        o.buf.extend_from_slice(bytes);
        o.hold(start, JournalPos(needs), kind, 5);
    }

    #[test]
    fn replies_leave_in_order() {
        let mut o = Output::default();
        put(&mut o, b"a", 0, HeldKind::Free);
        assert_eq!(ready(&o), b"a");
        put(&mut o, b"w", 10, HeldKind::Write);
        put(&mut o, b"r", 0, HeldKind::Read);
        put(&mut o, b"f", 0, HeldKind::Free);
        assert_eq!(ready(&o), b"a");
        o.on_written(1);
        assert!(!o.release(JournalPos(9), || true));
        assert!(o.release(JournalPos(10), || false));
        assert_eq!(ready(&o), b"w");
        o.on_written(1);
        o.release(JournalPos(10), || true);
        assert_eq!(ready(&o), b"rf");
        o.on_written(2);
        assert!(o.is_empty());
    }

    #[test]
    fn room_that_is_not_needed_is_given_back() {
        let mut o = Output::default();
        o.make_room();
        o.buf.resize(40_000, 0);
        o.on_written(40_000);
        o.shrink(1000, 5000, false);
        assert!(o.buf.capacity() >= 40_000);
        o.shrink(7000, 5000, false);
        o.shrink(7100, 5000, false);
        assert_eq!(o.buf.capacity(), ROOM_BYTES_MIN);
        // Not what is still to be written.
        o.buf.resize(40_000, 0);
        o.shrink(20_000, 5000, false);
        o.shrink(20_100, 5000, true);
        assert_eq!(ready(&o).len(), 40_000);
        o.on_written(40_000);
        o.shrink(20_200, 5000, true);
        assert_eq!(o.buf.capacity(), 0);
    }

    #[test]
    fn room_elsewhere_is_given_back() {
        let (mut o, flow) = (Output::default(), Arc::new(Flow::default()));
        o.write_elsewhere(flow.clone());
        assert!(!o.shrink_elsewhere(9000, true, true));
        flow.note_reply_room(40_000);
        assert_eq!((o.largest_room(), o.room()), (40_000, 40_000));
        // It has been needed.
        put(&mut o, &[b'x'; 30_000], 0, HeldKind::Free);
        o.hand_over(&mut Replies::default());
        assert!(!o.shrink_elsewhere(10, false, true));
        o.shrink(9000, 5000, false);
        assert!(!o.shrink_elsewhere(10, false, false));
        assert!(o.shrink_elsewhere(10, false, true));
        let trim = o.take_trim().expect("it is to be told");
        assert_eq!(trim.reply_room, Some(ROOM_BYTES_MIN as u32));
        // A query buffer alone.
        flow.note_reply_room(0);
        flow.note_query(10, 16_384);
        assert!(!o.shrink_elsewhere(2000, false, true));
        assert!(o.shrink_elsewhere(3000, false, true));
        assert_eq!(o.take_trim().and_then(|t| t.reply_room), None);
    }

    #[test]
    fn messages_about_a_lost_write_are_dropped() {
        let mut o = Output::default();
        put(&mut o, b"m1", 10, HeldKind::Message);
        put(&mut o, b"m2", 10, HeldKind::Message);
        put(&mut o, b"m3", 20, HeldKind::Message);
        assert_eq!(o.held_len(), 2);
        assert_eq!(ready(&o), b"");
        let lost = |k, at| (k == HeldKind::Message && at > JournalPos(10)).then_some(&b""[..]);
        o.replace(|k, at, _| lost(k, at));
        assert!(o.release(JournalPos(10), || false));
        assert_eq!(ready(&o), b"m1m2");
        assert_eq!(o.held_len(), 0);
    }

    #[test]
    fn invalidations_of_a_lost_write_leave_behind_its_error() {
        let mut o = Output::default();
        put(&mut o, b"w1", 10, HeldKind::Write);
        put(&mut o, b"i1", 10, HeldKind::Invalidation);
        put(&mut o, b"i2", 20, HeldKind::Invalidation);
        o.release(JournalPos(9), || true);
        assert_eq!(ready(&o), b"");
        o.replace(|k, _, _| (k == HeldKind::Write).then_some(b"-E".as_slice()));
        o.free_invalidations(|at, _| at <= JournalPos(10));
        o.release(JournalPos(9), || true);
        assert_eq!(ready(&o), b"-Ei1");
        o.free_invalidations(|_, since| since == 5);
        o.release(JournalPos(9), || true);
        assert_eq!(ready(&o), b"-Ei1i2");
    }

    #[test]
    fn another_thread_writes() {
        let mut o = Output::default();
        let flow = Arc::new(Flow::default());
        o.write_elsewhere(flow.clone());
        put(&mut o, b"abc", 0, HeldKind::Free);
        put(&mut o, b"w", 10, HeldKind::Write);
        let mut given = Replies::default();
        assert_eq!((o.hand_over(&mut given), &given.buf[..]), (3, &b"abc"[..]));
        assert_eq!((o.in_flight(), o.pending_bytes()), (3, 4));
        given.clear(0);
        assert_eq!(o.hand_over(&mut given), 0);
        assert!(!flow.on_written(2));
        assert_eq!((o.in_flight(), o.pending_bytes()), (1, 2));
        o.release(JournalPos(10), || true);
        assert_eq!((o.hand_over(&mut given), &given.buf[..]), (1, &b"w"[..]));
        assert!(o.is_empty());
        flow.wait_for_room();
        assert!(flow.on_written(1) && !flow.on_written(1));
        assert_eq!((o.in_flight(), o.pending_bytes()), (0, 0));
        // All of a buffer goes without a copy, and what comes back goes in front of what is there.
        put(&mut o, b"whole", 0, HeldKind::Free);
        let address = o.buf.as_ptr();
        given.clear(0);
        assert_eq!(o.hand_over(&mut given), 5);
        assert_eq!((given.buf.as_ptr(), o.buf.len()), (address, 0));
        put(&mut o, b"+", 0, HeldKind::Free);
        put(&mut o, b"h", 20, HeldKind::Write);
        o.write_here(Replies::new(b"ole".to_vec(), Blobs::default()));
        assert_eq!((ready(&o), o.pending_bytes()), (b"ole+".to_vec(), 5));
        o.release(JournalPos(20), || true);
        assert_eq!(ready(&o), b"ole+h");
    }

    #[test]
    fn held_replies_become_errors_in_place() {
        let mut o = Output::default();
        put(&mut o, b"w1", 10, HeldKind::Write);
        put(&mut o, b"read", 10, HeldKind::Read);
        put(&mut o, b"w2", 20, HeldKind::Write);
        let n = o.replace(|k, _, _| (k == HeldKind::Read).then_some(b"-E".as_slice()));
        assert_eq!(n, 1);
        o.release(JournalPos(20), || false);
        assert_eq!(ready(&o), b"w1-Ew2");
    }
}
