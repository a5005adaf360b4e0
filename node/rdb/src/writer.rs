//! Writing an RDB file, a key at a time.
//!
//! ```text
//! | magic and version | AUX name value … | SELECTDB n | (expiry) type key value … | EOF | CRC-64, LE |
//! ```

use crate::encode;
use crate::format::{Checksum, RdbVersion, op};
use holdfast_engine::ValueRef;

/// Writes an RDB file into a buffer that its owner drains with [`RdbWriter::take`] at any moment.
///
/// The order of calls is the order of the file: auxiliary fields, then keys, then [`RdbWriter::finish`].
pub struct RdbWriter {
    out: Vec<u8>,
    /// Bytes of `out` that the checksum covers.
    summed: usize,
    sum: Checksum,
    db: Option<u32>,
    taken: u64,
    finished: bool,
}

impl RdbWriter {
    /// Begins a file of this version.
    pub fn new(version: RdbVersion) -> Self {
        RdbWriter {
            out: version.magic().to_vec(),
            summed: 0,
            sum: Checksum::new(),
            db: None,
            taken: 0,
            finished: false,
        }
    }

    /// An auxiliary field: a name and a value that readers skip if they do not know the name.
    pub fn aux(&mut self, name: &str, value: &[u8]) {
        self.out.push(op::AUX);
        encode::string(&mut self.out, name.as_bytes());
        encode::string(&mut self.out, value);
    }

    /// The database of the keys that follow. [`RdbWriter::key`] does this by itself where it is missing.
    pub fn select_db(&mut self, db: u32) {
        self.out.push(op::SELECTDB);
        encode::length(&mut self.out, u64::from(db));
        self.db = Some(db);
    }

    /// How many keys, and keys with an expiry, the database has: a hint to the reader.
    pub fn resize_db(&mut self, keys: u64, expires: u64) {
        self.out.push(op::RESIZEDB);
        encode::length(&mut self.out, keys);
        encode::length(&mut self.out, expires);
    }

    /// How many keys, and keys with an expiry, the slot has whose keys follow: a hint to the reader.
    pub fn slot_info(&mut self, slot: u16, keys: u64, expires: u64) {
        self.aux("slot-info", format!("{slot},{keys},{expires},0").as_bytes());
    }

    /// One key, with the unix time in milliseconds at which it expires.
    pub fn key(&mut self, db: u32, key: &[u8], expire_at_ms: Option<u64>, value: ValueRef<'_>) {
        if self.db != Some(db) {
            self.select_db(db);
        }
        if let Some(at) = expire_at_ms {
            self.out.push(op::EXPIRETIME_MS);
            self.out.extend_from_slice(&at.to_le_bytes());
        }
        self.out.push(encode::kind_of(value));
        encode::string(&mut self.out, key);
        encode::value(&mut self.out, value);
    }

    /// Ends the file with its checksum. Nothing may be written afterwards.
    pub fn finish(&mut self) {
        if !self.finished {
            self.finished = true;
            self.out.push(op::EOF);
            self.sum_up();
            let sum = self.sum.value();
            self.out.extend_from_slice(&sum.to_le_bytes());
            self.summed = self.out.len();
        }
    }

    fn sum_up(&mut self) {
        self.sum.update(&self.out[self.summed..]);
        self.summed = self.out.len();
    }

    /// Bytes written but not taken.
    pub fn pending_bytes(&self) -> usize {
        self.out.len()
    }

    /// Bytes written in all, taken or not.
    pub fn total_bytes(&self) -> u64 {
        self.taken + self.out.len() as u64
    }

    /// The bytes written since the last call.
    pub fn take(&mut self) -> Vec<u8> {
        self.sum_up();
        self.summed = 0;
        self.taken += self.out.len() as u64;
        std::mem::take(&mut self.out)
    }
}
