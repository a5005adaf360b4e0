//! Replies on their way to the thread that writes them.

use holdfast_engine::Blobs;

/// Bytes, and the long strings that belong between them.
#[derive(Debug, Default)]
pub struct Replies {
    /// The bytes.
    pub buf: Vec<u8>,
    /// The strings.
    pub blobs: Blobs,
    /// Of `buf`, what is written.
    sent: usize,
}

impl Replies {
    /// Bytes, and strings between them.
    pub fn new(buf: Vec<u8>, blobs: Blobs) -> Replies {
        Replies {
            buf,
            blobs,
            sent: 0,
        }
    }

    /// Whether nothing is left to be written.
    pub fn is_empty(&self) -> bool {
        // Behind the last string there are bytes.
        self.sent == self.buf.len()
    }

    /// How many bytes are to be written.
    pub fn len(&self) -> usize {
        self.buf.len() - self.sent + self.blobs.bytes()
    }

    /// What is to be written.
    pub fn parts(&self) -> impl Iterator<Item = &[u8]> {
        self.blobs.parts(&self.buf, self.sent, self.buf.len())
    }

    /// Takes the news that the first `n` bytes of the parts are written.
    pub fn on_written(&mut self, n: usize) {
        self.sent = self.blobs.on_written(self.sent, n);
    }

    /// Forgets what is written.
    pub fn trim(&mut self) {
        self.buf.drain(..self.sent);
        self.blobs.shift(self.sent);
        self.sent = 0;
    }

    /// Adds what is left of others. If some of their first string is written, nothing may be left here.
    pub fn append(&mut self, other: Replies) {
        let mut blobs = other.blobs;
        blobs.shift(other.sent);
        self.blobs.append(self.buf.len(), blobs);
        self.buf.extend_from_slice(&other.buf[other.sent..]);
    }

    /// Empties it, to be used again; a buffer above `keep_bytes` is given back.
    pub fn clear(&mut self, keep_bytes: usize) {
        match self.buf.capacity() > keep_bytes {
            true => self.buf = Vec::new(),
            false => self.buf.clear(),
        }
        self.blobs = Blobs::default();
        self.sent = 0;
    }
}
