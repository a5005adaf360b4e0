//! Writing an RDB file, a key at a time.
//!
//! ```text
//! | magic and version | AUX name value … | SELECTDB n | (expiry) type key value … | EOF | CRC-64, LE |
//! ```

use crate::draft::{Draft, Packer};
use crate::encode;
use crate::format::{RdbVersion, kind, op};
use holdfast_engine::{AccessNote, ValueRef};

/// Writes an RDB file into a buffer that its owner drains with [`RdbWriter::take`] at any moment.
///
/// The order of calls is the order of the file: auxiliary fields, then keys, then [`RdbWriter::finish`].
/// Whoever packs on another thread takes drafts ([`RdbWriter::take_draft`]) instead, and seals the file itself.
pub struct RdbWriter {
    out: Draft,
    /// Keys that came while one was half written; they follow it.
    aside: Draft,
    /// A key is half written.
    open: bool,
    packer: Packer,
    version: RdbVersion,
    refused: Option<(u32, Vec<u8>)>,
    db: Option<u32>,
    /// Of the next key.
    access: Option<AccessNote>,
    taken: u64,
    finished: bool,
    sealed: bool,
}

impl RdbWriter {
    /// Begins a file of this version.
    pub fn new(version: RdbVersion) -> Self {
        Self::with_compression(version, false)
    }

    /// [`RdbWriter::new`], with long strings compressed or not.
    pub fn with_compression(version: RdbVersion, compress: bool) -> Self {
        let mut out = Draft::new(compress);
        out.extend_from_slice(version.magic());
        RdbWriter {
            out,
            aside: Draft::new(compress),
            open: false,
            packer: Packer::new(true),
            version,
            refused: None,
            db: None,
            access: None,
            taken: 0,
            finished: false,
            sealed: false,
        }
    }

    /// An auxiliary field: a name and a value that readers skip if they do not know the name.
    pub fn aux(&mut self, name: &str, value: &[u8]) {
        self.out.push(op::AUX);
        encode::string(&mut self.out, name.as_bytes());
        encode::string(&mut self.out, value);
    }

    /// The code of a function library.
    pub fn function(&mut self, code: &[u8]) {
        self.out.push(op::FUNCTION2);
        self.out.string(code);
    }

    /// The database of the keys that follow. [`RdbWriter::key`] does this by itself where it is missing.
    pub fn select_db(&mut self, db: u32) {
        let out = self.target();
        out.push(op::SELECTDB);
        encode::length(out, u64::from(db));
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
        self.begin_key(db, key, expire_at_ms, value);
        encode::value(self.target(), value);
    }

    /// What is known of accesses to the key that is begun next.
    pub fn note_access(&mut self, note: Option<AccessNote>) {
        self.access = note;
    }

    /// Where whole keys go.
    fn target(&mut self) -> &mut Draft {
        match self.open {
            true => &mut self.aside,
            false => &mut self.out,
        }
    }

    /// Part of a key: `from` is 0 at first, then what the part before returned, until that is `None`. The value
    /// must be the same for all of them. Meanwhile other keys may be written whole.
    pub fn key_piece(
        &mut self,
        db: u32,
        key: &[u8],
        expire_at_ms: Option<u64>,
        value: ValueRef<'_>,
        from: usize,
    ) -> Option<usize> {
        if from == 0 {
            self.begin_key(db, key, expire_at_ms, value);
        }
        let next = encode::piece(&mut self.out, value, from);
        self.open = next.is_some();
        if !self.open {
            let aside = self.aside.take();
            self.out.append(aside);
        }
        next
    }

    fn begin_key(&mut self, db: u32, key: &[u8], expire_at_ms: Option<u64>, value: ValueRef<'_>) {
        if self.db != Some(db) {
            self.select_db(db);
        }
        let out = self.target();
        if let Some(at) = expire_at_ms {
            out.push(op::EXPIRETIME_MS);
            out.extend_from_slice(&at.to_le_bytes());
        }
        match self.access.take() {
            Some(AccessNote::IdleSeconds(seconds)) => {
                let out = self.target();
                out.push(op::IDLE);
                encode::length(out, seconds);
            }
            Some(AccessNote::Frequency(frequency)) => {
                let out = self.target();
                out.push(op::FREQ);
                out.push(frequency);
            }
            None => {}
        }
        let kind = encode::kind_of(value);
        if kind == kind::HASH_2 && self.version == RdbVersion::V11 {
            self.refused.get_or_insert_with(|| (db, key.to_vec()));
        }
        let out = self.target();
        out.push(kind);
        encode::string(out, key);
    }

    /// The first key, with its database, that this version has no form for: whoever reads the file would not understand it.
    pub fn refused(&self) -> Option<(u32, &[u8])> {
        self.refused.as_ref().map(|(db, key)| (*db, &key[..]))
    }

    /// Ends the file. Nothing may be written afterwards.
    pub fn finish(&mut self) {
        if !self.finished {
            self.finished = true;
            self.out.push(op::EOF);
        }
    }

    /// Bytes written but not taken.
    pub fn pending_bytes(&self) -> usize {
        self.out.len() + self.aside.len()
    }

    /// Bytes written in all, taken or not, before compression.
    pub fn total_bytes(&self) -> u64 {
        self.taken + self.out.len() as u64
    }

    /// The bytes written since the last call; behind [`RdbWriter::finish`] they end with the checksum.
    pub fn take(&mut self) -> Vec<u8> {
        let draft = self.take_draft();
        let mut bytes = self.packer.pack(draft);
        if self.finished && !self.sealed {
            self.sealed = true;
            self.taken += 8;
            bytes.extend_from_slice(&self.packer.seal());
        }
        bytes
    }

    /// What was written since the last call, still to be packed.
    pub fn take_draft(&mut self) -> Draft {
        self.taken += self.out.len() as u64;
        self.out.take()
    }
}
