//! A snapshot's sink that writes RDB.

use crate::format::RdbVersion;
use crate::writer::RdbWriter;
use holdfast_engine::{Eviction, SnapshotSink, ValueRef};
use std::any::Any;

/// Encodes the keys of a snapshot; the server drains it between steps.
pub struct RdbSink {
    /// What the keys are written to. Auxiliary fields go in before the first key, [`RdbWriter::finish`] comes last.
    pub writer: RdbWriter,
    /// The policy by which accesses to keys are written, and the time of the file. `None`: they are not.
    pub access: Option<(Eviction, u64)>,
    keys: u64,
}

impl RdbSink {
    /// A sink that begins a file of this version.
    pub fn new(version: RdbVersion) -> Self {
        RdbSink {
            writer: RdbWriter::new(version),
            access: None,
            keys: 0,
        }
    }

    /// A sink that goes on where a writer has begun.
    pub fn of(writer: RdbWriter) -> Self {
        RdbSink {
            writer,
            access: None,
            keys: 0,
        }
    }

    /// Keys written so far.
    pub fn keys(&self) -> u64 {
        self.keys
    }
}

impl SnapshotSink for RdbSink {
    fn key(
        &mut self,
        db: u16,
        _slot: u16,
        key: &[u8],
        expire_at_ms: Option<u64>,
        value: ValueRef<'_>,
    ) {
        self.keys += 1;
        self.writer.key(u32::from(db), key, expire_at_ms, value);
    }

    fn piece(
        &mut self,
        db: u16,
        _slot: u16,
        key: &[u8],
        expire_at_ms: Option<u64>,
        value: ValueRef<'_>,
        from: usize,
    ) -> Option<usize> {
        self.keys += u64::from(from == 0);
        self.writer
            .key_piece(u32::from(db), key, expire_at_ms, value, from)
    }

    fn accessed(&mut self, access: u32) {
        if let Some((policy, now_ms)) = &self.access {
            self.writer.note_access(policy.note(access, *now_ms));
        }
    }

    fn pending_bytes(&self) -> usize {
        self.writer.pending_bytes()
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}
