//! What one entry of the shard's log holds: a turn's effects, or one decision about slots.
//!
//! The bytes are those of `JournalEntry` in `proto/proto/journal.proto`.

use crate::migrate::records::{BadRecord, from_proto, to_proto};
use bytes::Bytes;
use holdfast_proto::Message;
use holdfast_proto::journal::{self as pb, journal_entry};
use holdfast_slot_migration::SlotRecord;

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Position of the effect stream in front of it.
    pub start: u64,
    /// What it says.
    pub body: Body,
}

/// What an entry says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// Commands in RESP; they advance the position by their length.
    Effects(Bytes),
    /// A change of the shard's slots; it does not advance the position.
    Record(SlotRecord),
}

/// Why bytes are not an entry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// Not the message that it should be.
    #[error("not a journal entry: {0}")]
    Encoding(String),
    /// Neither effects nor a slot record.
    #[error("a journal entry of an unknown kind")]
    UnknownKind,
    /// A slot record that makes no sense.
    #[error("{0}")]
    Record(#[from] BadRecord),
}

impl Entry {
    /// The entry as bytes.
    pub fn encode(&self) -> Bytes {
        let body = match &self.body {
            Body::Effects(effects) => journal_entry::Body::Effects(effects.clone()),
            Body::Record(record) => journal_entry::Body::Slots(to_proto(record)),
        };
        pb::JournalEntry {
            start_pos: self.start,
            body: Some(body),
        }
        .encode_to_vec()
        .into()
    }

    /// Reads an entry.
    ///
    /// # Errors
    /// The bytes are none.
    pub fn decode(bytes: Bytes) -> Result<Entry, EntryError> {
        let entry =
            pb::JournalEntry::decode(bytes).map_err(|e| EntryError::Encoding(e.to_string()))?;
        let body = match entry.body {
            Some(journal_entry::Body::Effects(effects)) => Body::Effects(effects),
            Some(journal_entry::Body::Slots(record)) => Body::Record(from_proto(&record)?),
            None => return Err(EntryError::UnknownKind),
        };
        Ok(Entry {
            start: entry.start_pos,
            body,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_come_back() {
        let job = holdfast_slot_migration::JobId([1; 20]);
        for body in [
            Body::Effects(Bytes::from_static(b"*1\r\n$4\r\nPING\r\n")),
            Body::Record(SlotRecord::HandOff { job }),
        ] {
            let entry = Entry {
                start: 1 << 40,
                body,
            };
            assert_eq!(Entry::decode(entry.encode()), Ok(entry));
        }
    }

    #[test]
    fn bad_bytes_are_errors() {
        assert!(matches!(
            Entry::decode(Bytes::from_static(b"\xff\xff")),
            Err(EntryError::Encoding(_))
        ));
        assert_eq!(Entry::decode(Bytes::new()), Err(EntryError::UnknownKind));
        let body = Some(journal_entry::Body::Slots(pb::SlotRecord::default()));
        let bytes = pb::JournalEntry { start_pos: 0, body }.encode_to_vec();
        assert!(matches!(
            Entry::decode(bytes.into()),
            Err(EntryError::Record(_))
        ));
    }
}
