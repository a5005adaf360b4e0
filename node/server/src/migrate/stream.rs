//! The data of a job on its way out: the snapshot's keys and the effects since, in one order.
//!
//! Both come from the executor's thread: keys through [`KeySink`], which the engine calls at a snapshot's step or
//! before a write changes a key that is still due, and effects at the end of each turn. So whatever the stream says
//! about a key begins with the key as it was.
//!
//! The stream is commands: `SELECT`, `RESTORE key ttl payload REPLACE ABSTTL`, and effects as they are. Its position
//! counts their bytes and nothing else, so that the target, adding up the commands that it has executed
//! ([`command_len`]), arrives at the same figure.

use holdfast_engine::{Engine, SnapshotSink, ValueRef, key_slot};
use holdfast_rdb::DumpCodec;
use holdfast_resp::{Limits, Parse, RequestParser, format_i64, write};
use holdfast_slot_migration::SlotSet;
use std::any::Any;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bytes of a command in RESP.
pub fn command_len(argv: &[&[u8]]) -> u64 {
    let number = |n: usize| format_i64(n as i64).as_bytes().len() as u64;
    let args: u64 = argv
        .iter()
        .map(|a| 5 + number(a.len()) + a.len() as u64)
        .sum();
    3 + number(argv.len()) + args
}

#[derive(Debug, Default)]
struct Inner {
    bytes: Vec<u8>,
    position: u64,
    keys: u64,
    /// The database that the stream has selected.
    db: Option<u16>,
}

impl Inner {
    fn put(&mut self, db: u16, argv: &[&[u8]]) {
        let before = self.bytes.len();
        if self.db != Some(db) {
            self.db = Some(db);
            write::command(
                &mut self.bytes,
                &[b"SELECT", format_i64(i64::from(db)).as_bytes()],
            );
        }
        write::command(&mut self.bytes, argv);
        self.position += (self.bytes.len() - before) as u64;
    }
}

/// A job's stream. Clones are the same stream; the lock is never contended, as only the executor's thread uses it.
#[derive(Clone, Debug, Default)]
pub struct Stream(Arc<Mutex<Inner>>);

impl Stream {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what has gathered.
    pub fn take(&self) -> Vec<u8> {
        std::mem::take(&mut self.lock().bytes)
    }

    /// Bytes put into the stream since it began.
    pub fn position(&self) -> u64 {
        self.lock().position
    }

    /// Keys of the snapshot put into the stream.
    pub fn keys(&self) -> u64 {
        self.lock().keys
    }

    /// Puts one effect into the stream.
    pub fn effect(&self, db: u16, argv: &[&[u8]]) {
        self.lock().put(db, argv);
    }
}

/// Where the engine gives the keys of a job's snapshot.
#[derive(Debug)]
pub struct KeySink {
    stream: Stream,
    codec: DumpCodec,
}

impl KeySink {
    /// A sink into the stream.
    pub fn new(stream: Stream) -> KeySink {
        KeySink {
            stream,
            codec: DumpCodec::default(),
        }
    }
}

impl SnapshotSink for KeySink {
    fn key(&mut self, db: u16, _: u16, key: &[u8], expire_at_ms: Option<u64>, value: ValueRef<'_>) {
        let payload = self.codec.encode(value);
        let expiry = i64::try_from(expire_at_ms.unwrap_or(0)).unwrap_or(i64::MAX);
        let ttl = format_i64(expiry);
        let mut inner = self.stream.lock();
        inner.keys += 1;
        let argv: [&[u8]; 6] = [
            b"RESTORE",
            key,
            ttl.as_bytes(),
            &payload,
            b"REPLACE",
            b"ABSTTL",
        ];
        inner.put(db, &argv);
    }

    fn pending_bytes(&self) -> usize {
        self.stream.lock().bytes.len()
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }
}

/// What was seen among a turn's effects beside those of slots.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// A database, or all of them, was emptied.
    pub flushed: bool,
}

/// Gives each effect of a turn to the streams that cover its slot. `MULTI` and `EXEC` are left out: nobody sees the
/// keys before all of them are adopted at once.
pub fn tap(effects: &[u8], streams: &[(&SlotSet, &Stream)]) -> Seen {
    let limits = Limits {
        bulk_bytes_max: usize::MAX / 4,
        authenticated: true,
    };
    let mut seen = Seen::default();
    let mut parser = RequestParser::new();
    let (mut at, mut db) = (0, 0u16);
    while let Some(rest) = effects.get(at..)
        && let Ok(Parse::Command { consumed }) = parser.parse(rest, &limits)
    {
        let argv: Vec<&[u8]> = parser.args(rest).collect();
        at += consumed;
        let Some(name) = argv.first() else { continue };
        if name.eq_ignore_ascii_case(b"select") {
            let number = argv.get(1).and_then(|n| holdfast_resp::parse_i64(n));
            db = number.and_then(|n| u16::try_from(n).ok()).unwrap_or(db);
            continue;
        }
        let Some(command) = Engine::command(name) else {
            continue;
        };
        let Some(key) = command.spec.first_key(&argv).and_then(|i| argv.get(i)) else {
            seen.flushed |= name.len() >= 5 && name[..5].eq_ignore_ascii_case(b"flush");
            continue;
        };
        let slot = key_slot(key);
        for (_, stream) in streams.iter().filter(|(slots, _)| slots.contains(slot)) {
            stream.effect(db, &argv);
        }
    }
    seen
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_slot_migration::SlotRanges;

    #[test]
    fn the_tap_takes_the_effects_of_its_slots_and_counts_them() {
        let mut effects = Vec::new();
        for argv in [
            &["SELECT", "3"][..],
            &["MULTI"],
            &["SET", "foo", "1"],
            &["SET", "bar", "2"],
            &["EXEC"],
            &["DEL", "{foo}x"],
        ] {
            write::command(&mut effects, argv);
        }
        let mut slots = SlotSet::default();
        slots.insert_all(&SlotRanges::single(key_slot(b"foo")));
        let stream = Stream::default();
        assert_eq!(tap(&effects, &[(&slots, &stream)]), Seen::default());
        let position = stream.position();
        let mut expect = Vec::new();
        let mut len = 0;
        for argv in [
            &["SELECT", "3"][..],
            &["SET", "foo", "1"],
            &["DEL", "{foo}x"],
        ] {
            write::command(&mut expect, argv);
            let argv: Vec<&[u8]> = argv.iter().map(|a| a.as_bytes()).collect();
            len += command_len(&argv);
        }
        assert_eq!(stream.take(), expect);
        assert_eq!((position, len), (expect.len() as u64, expect.len() as u64));

        let mut effects = Vec::new();
        write::command(&mut effects, &["FLUSHALL"]);
        assert!(tap(&effects, &[(&slots, &stream)]).flushed);
    }
}
