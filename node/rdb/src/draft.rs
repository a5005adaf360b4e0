//! Encoded values whose long strings are still to be compressed.
//!
//! Compressing and summing up cost more than all the rest of writing RDB. Whoever owns the data only copies it into a
//! [`Draft`]; a [`Packer`], on a thread of its own where that matters, makes the bytes of the file of it.

use crate::encode::push_length;
use crate::format::Checksum;
use crate::lzf::Compressor;

/// Room made beforehand.
const ROOM_MAX: usize = 256 << 10;

/// Strings of up to so many bytes are not worth compressing.
const PLAIN_BYTES_MAX: usize = 20;

/// Bytes of a file, but for the strings that a [`Packer`] may compress: of those it has the content only, without a length.
#[derive(Debug, Default)]
pub struct Draft {
    bytes: Vec<u8>,
    /// Where such strings lie in `bytes`, and how long they are.
    strings: Vec<(usize, usize)>,
    compress: bool,
}

impl Draft {
    /// An empty draft, in which long strings are to be compressed or not.
    pub(crate) fn new(compress: bool) -> Self {
        Draft {
            compress,
            ..Draft::default()
        }
    }

    /// Bytes gathered so far; packed they are hardly more, and mostly less.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether nothing was gathered.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(crate) fn push(&mut self, byte: u8) {
        self.bytes.push(byte);
    }

    pub(crate) fn extend_from_slice(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    pub(crate) fn string(&mut self, s: &[u8]) {
        if self.compress && s.len() > PLAIN_BYTES_MAX {
            self.strings.push((self.bytes.len(), s.len()));
        } else {
            push_length(&mut self.bytes, s.len() as u64);
        }
        self.bytes.extend_from_slice(s);
    }

    /// Appends another draft.
    pub(crate) fn append(&mut self, mut other: Draft) {
        let at = self.bytes.len();
        self.bytes.append(&mut other.bytes);
        let strings = other
            .strings
            .drain(..)
            .map(|(start, len)| (at + start, len));
        self.strings.extend(strings);
    }

    /// Takes what was gathered. There is room for about as much again, so that it need not be moved while it grows.
    pub(crate) fn take(&mut self) -> Draft {
        let next = Draft {
            bytes: Vec::with_capacity(self.bytes.len().min(ROOM_MAX) * 9 / 8),
            strings: Vec::with_capacity(self.strings.len().min(ROOM_MAX) * 9 / 8),
            compress: self.compress,
        };
        std::mem::replace(self, next)
    }
}

/// Makes the bytes of a file of its drafts, in their order, and sums them up.
#[derive(Debug)]
pub struct Packer {
    sum: Option<Checksum>,
    compressor: Compressor,
}

impl Packer {
    /// A packer for one file; without a checksum the file says zero, which readers take for "not checked".
    pub fn new(checksum: bool) -> Self {
        Packer {
            sum: checksum.then(Checksum::new),
            compressor: Compressor::default(),
        }
    }

    /// The bytes of the next draft.
    pub fn pack(&mut self, draft: Draft) -> Vec<u8> {
        let bytes = self.bytes_of(draft);
        if let Some(sum) = &mut self.sum {
            sum.update(&bytes);
        }
        bytes
    }

    fn bytes_of(&mut self, draft: Draft) -> Vec<u8> {
        if draft.strings.is_empty() {
            return draft.bytes;
        }
        let mut out = Vec::with_capacity(draft.bytes.len() + draft.strings.len() * 5);
        let mut at = 0;
        for (start, len) in draft.strings {
            let s = &draft.bytes[start..start + len];
            out.extend_from_slice(&draft.bytes[at..start]);
            match self.compressor.compress(s) {
                Some(packed) => {
                    out.push(0xc3);
                    push_length(&mut out, packed.len() as u64);
                    push_length(&mut out, len as u64);
                    out.extend_from_slice(packed);
                }
                None => {
                    push_length(&mut out, len as u64);
                    out.extend_from_slice(s);
                }
            }
            at = start + len;
        }
        out.extend_from_slice(&draft.bytes[at..]);
        out
    }

    /// The checksum of all so far: the last eight bytes of a file.
    pub fn seal(&self) -> [u8; 8] {
        self.sum.as_ref().map_or(0, Checksum::value).to_le_bytes()
    }
}
