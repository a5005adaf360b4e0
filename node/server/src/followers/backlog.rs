//! The last bytes of the stream.

use std::collections::VecDeque;

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Backlog {
    bytes: VecDeque<u8>,
    end: u64,
}

impl Backlog {
    /// Empty, at this position of the stream.
    pub fn new(at: u64) -> Self {
        Backlog {
            bytes: VecDeque::new(),
            end: at,
        }
    }

    /// The position of the first byte that is there.
    pub fn start(&self) -> u64 {
        self.end - self.bytes.len() as u64
    }

    /// The position behind the last one.
    pub fn end(&self) -> u64 {
        self.end
    }

    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes);
        self.end += bytes.len() as u64;
    }

    /// Keeps no more than the last `most` bytes, but all from `needed` on.
    pub fn trim(&mut self, most: usize, needed: Option<u64>) {
        let from = self.end.saturating_sub(most as u64);
        let from = needed.map_or(from, |needed| from.min(needed));
        if from > self.start() {
            self.bytes.drain(..(from - self.start()) as usize);
        }
    }

    /// Appends all from this position on, which is there.
    pub fn copy(&self, from: u64, out: &mut Vec<u8>) {
        let mut skip = (from - self.start()) as usize;
        let (a, b) = self.bytes.as_slices();
        for part in [a, b] {
            let at = skip.min(part.len());
            out.extend_from_slice(&part[at..]);
            skip -= at;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_what_is_needed() {
        let mut b = Backlog::new(100);
        b.push(b"abcdef");
        assert_eq!((b.start(), b.end(), b.len()), (100, 106, 6));
        b.trim(3, Some(101));
        assert_eq!(b.start(), 101);
        b.trim(3, None);
        assert_eq!(b.start(), 103);
        b.push(b"ghi");
        let mut out = Vec::new();
        b.copy(104, &mut out);
        assert_eq!(out, b"efghi");
        out.clear();
        b.copy(109, &mut out);
        assert!(out.is_empty());
    }
}
