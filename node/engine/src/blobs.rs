//! Long strings that are sent without being copied into the replies that contain them.

use std::collections::VecDeque;
use std::sync::Arc;

/// A string that belongs between two bytes of a buffer of replies.
#[derive(Debug, Clone)]
struct Blob {
    /// How many bytes of the buffer come before it.
    at: usize,
    bytes: Arc<Vec<u8>>,
}

/// The strings that belong into a buffer of replies, in order. None is empty, and each is followed by bytes of the buffer: the end of its reply.
///
/// The keyspace and several of these hold the same bytes, which nobody changes while another holds them.
#[derive(Debug, Default)]
pub struct Blobs {
    queue: VecDeque<Blob>,
    /// Bytes of all of them, without what has been written of the first.
    bytes: usize,
    /// What has been written of the first.
    written: usize,
}

impl Blobs {
    /// Adds a string behind the first `at` bytes of the buffer, to which the end of its reply is still to be added.
    pub fn push(&mut self, at: usize, bytes: Arc<Vec<u8>>) {
        debug_assert!(self.queue.back().is_none_or(|last| last.at < at));
        if !bytes.is_empty() {
            self.bytes += bytes.len();
            self.queue.push_back(Blob { at, bytes });
        }
    }

    /// Whether there are none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Bytes that are still to be written, of all of them.
    #[inline]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The same of those behind the first `at` bytes of the buffer.
    #[inline]
    pub fn bytes_since(&self, at: usize) -> usize {
        if self.queue.is_empty() {
            return 0;
        }
        let mut bytes = 0;
        for (i, blob) in self.queue.iter().enumerate().rev() {
            if blob.at < at {
                break;
            }
            bytes += blob.bytes.len();
            if i == 0 {
                bytes -= self.written;
            }
        }
        bytes
    }

    /// The same of those before them.
    pub fn bytes_before(&self, at: usize) -> usize {
        match self.queue.back() {
            None => 0,
            Some(last) if last.at < at => self.bytes,
            Some(_) => self.bytes - self.bytes_since(at),
        }
    }

    /// What is to be written from byte `from` of the buffer up to byte `to`: parts of it, and the strings between them.
    pub fn parts<'a>(
        &'a self,
        buf: &'a [u8],
        from: usize,
        to: usize,
    ) -> impl Iterator<Item = &'a [u8]> {
        let mut at = from;
        let mut skip = self.written;
        let between = self.queue.iter().take_while(move |b| b.at < to);
        let parts = between.flat_map(move |blob| {
            let before = &buf[at..blob.at];
            let text = &blob.bytes[skip..];
            (at, skip) = (blob.at, 0);
            [before, text]
        });
        let end = self.queue.partition_point(|b| b.at < to);
        let last = end.checked_sub(1).map_or(from, |i| self.queue[i].at);
        let rest = &buf[last..to.max(last)];
        parts
            .chain(std::iter::once(rest))
            .filter(|part| !part.is_empty())
    }

    /// Takes the news that `n` bytes of the parts from byte `from` of the buffer on are written. Returns how far that is in the buffer.
    #[inline]
    pub fn on_written(&mut self, from: usize, mut n: usize) -> usize {
        let mut at = from;
        while let Some(first) = self.queue.front() {
            let before = first.at - at;
            if n < before {
                break;
            }
            (at, n) = (first.at, n - before);
            let left = first.bytes.len() - self.written;
            let now = n.min(left);
            (self.bytes, n) = (self.bytes - now, n - now);
            if now < left {
                self.written += now;
                return at;
            }
            self.written = 0;
            self.queue.pop_front();
        }
        at + n
    }

    /// Drops those behind the first `at` bytes of the buffer.
    pub fn truncate(&mut self, at: usize) {
        while self.queue.back().is_some_and(|last| last.at >= at) {
            self.pop_back();
        }
    }

    fn pop_back(&mut self) {
        if let Some(last) = self.queue.pop_back() {
            let written = match self.queue.is_empty() {
                true => std::mem::take(&mut self.written),
                false => 0,
            };
            self.bytes -= last.bytes.len() - written;
        }
    }

    /// The first `n` bytes of the buffer are gone; no string was among them.
    pub fn shift(&mut self, n: usize) {
        for blob in &mut self.queue {
            blob.at -= n;
        }
    }

    /// Takes those out that are behind the first `at` bytes of the buffer, whose positions are counted from there.
    pub fn split_off(&mut self, at: usize) -> Blobs {
        if self.queue.is_empty() {
            return Blobs::default();
        }
        let first = self.queue.partition_point(|b| b.at < at);
        let mut queue = self.queue.split_off(first);
        queue.iter_mut().for_each(|b| b.at -= at);
        let written = match first {
            0 => std::mem::take(&mut self.written),
            _ => 0,
        };
        let all: usize = queue.iter().map(|b| b.bytes.len()).sum();
        let bytes = all - written;
        self.bytes -= bytes;
        Blobs {
            queue,
            bytes,
            written,
        }
    }

    /// Adds others, whose buffer was added behind `at` bytes of this one's. Nothing of them may have been written, unless there are none here.
    pub fn append(&mut self, at: usize, other: Blobs) {
        debug_assert!(other.written == 0 || self.queue.is_empty());
        if self.queue.is_empty() {
            self.written = other.written;
        }
        self.bytes += other.bytes;
        let moved = other.queue.into_iter().map(|b| Blob { at: b.at + at, ..b });
        self.queue.extend(moved);
    }

    /// Gives room back that is not needed.
    pub fn shrink(&mut self) {
        if self.queue.is_empty() {
            self.queue = VecDeque::new();
        }
    }
}
