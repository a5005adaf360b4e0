//! What executing commands did: the bytes for the journal and the replicas, and what the server must know of it.
//!
//! Effects are commands in RESP, the very bytes that a replica is sent: a `SELECT` where the database changes, and
//! `MULTI`/`EXEC` around whatever must be applied as one. Applied in order they lead any copy to the same state.

use holdfast_resp::write;

use crate::events::{EventClass, EventList};

/// A buffer that one command has made larger than this is not kept.
const KEEP_BYTES: usize = 1 << 20;

/// Collects the effects of a turn of the executor. The server owns one, passes it to every call, and takes what has
/// gathered at the end of the turn.
#[derive(Debug, Default)]
pub struct Effects {
    bytes: Vec<u8>,
    enabled: bool,
    /// The database that the stream has selected; survives turns, since the stream goes on.
    selected_db: Option<u16>,
    dirty: u64,
    depth: u32,
    unit_start: Option<usize>,
    unit_ops: u32,
    pub(crate) explicit: bool,
    track_touched: bool,
    touched: KeyList,
    touched_within: KeyList,
    track_ready: bool,
    ready: KeyList,
    flushed: Vec<Option<u16>>,
    wanted_events: EventClass,
    events: EventList,
}

/// Keys of databases, stored back to back: a list that costs no allocation an element.
#[derive(Debug, Default)]
pub struct KeyList {
    bytes: Vec<u8>,
    /// Database, and the end of the key in `bytes`.
    ends: Vec<(u16, usize)>,
}

impl KeyList {
    /// Adds a key.
    pub fn push(&mut self, db: u16, key: &[u8]) {
        self.bytes.extend_from_slice(key);
        self.ends.push((db, self.bytes.len()));
    }

    /// The keys in the order of their addition; the same key may come several times.
    pub fn iter(&self) -> impl Iterator<Item = (u16, &[u8])> {
        let starts = std::iter::once(0).chain(self.ends.iter().map(|(_, end)| *end));
        self.ends
            .iter()
            .zip(starts)
            .map(|((db, end), start)| (*db, &self.bytes[start..*end]))
    }

    /// The keys behind the first `n`.
    pub fn iter_from(&self, n: usize) -> impl Iterator<Item = (u16, &[u8])> {
        let ends = self.ends.get(n..).unwrap_or_default();
        let first = n.checked_sub(1).and_then(|i| self.ends.get(i));
        let mut start = first.map_or(0, |(_, end)| *end);
        ends.iter().map(move |(db, end)| {
            let key = &self.bytes[start..*end];
            start = *end;
            (*db, key)
        })
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }
}

/// How much has been listed, to be gone through from there on ([`Effects::touched_since`]).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EffectMarks {
    touched: usize,
    flushed: usize,
}

impl Effects {
    /// A collector that gathers nothing yet but the count of changes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether effects are encoded. Without journal and replicas they need not be.
    pub fn set_enabled(&mut self, enabled: bool) {
        self.enabled = enabled;
    }

    /// Whether effects are encoded.
    pub fn enabled(&self) -> bool {
        self.enabled
    }

    /// Whether changed keys are listed: for `WATCH` and for holding replies.
    pub fn set_track_touched(&mut self, on: bool) {
        self.track_touched = on;
    }

    /// Whether keys that may unblock a client are listed.
    pub fn set_track_ready(&mut self, on: bool) {
        self.track_ready = on;
    }

    /// Which keyspace events are listed.
    pub fn set_wanted_events(&mut self, classes: EventClass) {
        self.wanted_events = classes;
    }

    /// See [`set_wanted_events`](Self::set_wanted_events).
    pub fn wanted_events(&self) -> EventClass {
        self.wanted_events
    }

    /// Whether there are keyspace events that nobody has taken.
    #[inline]
    pub fn has_events(&self) -> bool {
        !self.events.is_empty()
    }

    /// Takes the keyspace events.
    pub fn take_events(&mut self) -> EventList {
        std::mem::take(&mut self.events)
    }

    /// Reports a keyspace event. Commands use `Call::notify`.
    #[inline]
    pub fn notify(&mut self, class: EventClass, event: &'static str, db: u16, key: &[u8]) {
        if self.wanted_events.meets(class) {
            self.events.push(db, event, key);
        }
    }

    /// The encoded effects since the last [`clear_turn`](Self::clear_turn).
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Takes the encoded effects, leaving an empty buffer.
    pub fn take_bytes(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }

    /// Number of changes since the start, as `rdb_changes_since_last_save` counts them.
    pub fn dirty(&self) -> u64 {
        self.dirty
    }

    /// Counts changes. Commands use `Call::modified`.
    pub fn add_dirty(&mut self, changes: u64) {
        self.dirty += changes;
    }

    /// Keys changed since the last [`clear_touched`](Self::clear_touched), if tracked. After a flush of a whole database see
    /// also [`flushed`](Self::flushed).
    pub fn touched(&self) -> &KeyList {
        &self.touched
    }

    /// Keys whose content is what it was, though what lies beside it is not: replies depend on them, `WATCH` does not.
    pub fn touched_within(&self) -> &KeyList {
        &self.touched_within
    }

    /// Keys that got a value that a blocked client may wait for.
    pub fn ready(&self) -> &KeyList {
        &self.ready
    }

    /// Databases flushed or exchanged as a whole, `None` for all of them, if touched or ready keys are tracked.
    pub fn flushed(&self) -> &[Option<u16>] {
        &self.flushed
    }

    /// How much has been touched and flushed.
    pub fn marks(&self) -> EffectMarks {
        EffectMarks {
            touched: self.touched.ends.len(),
            flushed: self.flushed.len(),
        }
    }

    /// [`touched`](Self::touched) from there on.
    pub fn touched_since(&self, marks: EffectMarks) -> impl Iterator<Item = (u16, &[u8])> {
        self.touched.iter_from(marks.touched)
    }

    /// Whether anything was flushed from there on.
    pub fn flushed_since(&self, marks: EffectMarks) -> bool {
        self.flushed.len() > marks.flushed
    }

    /// Forgets the touched keys and the flushes: after the server has looked at them, for example after each command.
    pub fn clear_touched(&mut self) {
        self.touched.clear();
        self.touched_within.clear();
        self.flushed.clear();
    }

    /// Forgets the ready keys.
    pub fn clear_ready(&mut self) {
        self.ready.clear();
    }

    /// Takes the ready keys.
    pub fn take_ready(&mut self) -> KeyList {
        std::mem::take(&mut self.ready)
    }

    /// The end of a turn: the bytes have been journaled. The stream's selected database stays.
    pub fn clear_turn(&mut self) {
        debug_assert_eq!(self.depth, 0, "a turn ended inside a transaction");
        self.bytes.clear();
        if self.bytes.capacity() > KEEP_BYTES {
            self.bytes = Vec::new();
        }
    }

    /// The stream begins anew (a new replica attaches, a new journal): the next effect selects its database again.
    pub fn reset_stream(&mut self) {
        self.selected_db = None;
    }

    /// Opens a unit: all effects until the matching [`end_unit`](Self::end_unit) are applied as one. When more than one
    /// comes together, they are wrapped in `MULTI` and `EXEC`. Units nest; the outermost counts. The engine opens one
    /// for each command, the server one for each transaction or script.
    #[inline]
    pub fn begin_unit(&mut self) {
        if self.depth == 0 {
            self.unit_start = None;
            self.unit_ops = 0;
        }
        self.depth += 1;
    }

    /// Closes a unit.
    #[inline]
    pub fn end_unit(&mut self) {
        self.depth = self.depth.saturating_sub(1);
        if self.depth == 0
            && self.unit_ops > 1
            && let Some(start) = self.unit_start.take()
        {
            self.bytes.splice(start..start, *b"*1\r\n$5\r\nMULTI\r\n");
            write::command(&mut self.bytes, &["EXEC"]);
        }
    }

    /// Appends one effect.
    pub fn propagate(&mut self, db: u16, argv: &[&[u8]]) {
        self.propagate_replaced(db, argv, &[]);
    }

    /// Appends one effect, with some of these arguments replaced.
    pub fn propagate_replaced(&mut self, db: u16, argv: &[&[u8]], replaced: &[(usize, &[u8])]) {
        if !self.enabled {
            return;
        }
        // As in Valkey, a unit's `SELECT` stands behind its `MULTI`.
        if self.unit_start.is_none() {
            self.unit_start = Some(self.bytes.len());
        }
        if self.selected_db != Some(db) {
            self.selected_db = Some(db);
            let text = holdfast_resp::format_i64(i64::from(db));
            write::command(&mut self.bytes, &[b"SELECT", text.as_bytes()]);
        }
        self.unit_ops += 1;
        if replaced.is_empty() {
            return write::command(&mut self.bytes, argv);
        }
        write::array(&mut self.bytes, argv.len());
        for (i, arg) in argv.iter().enumerate() {
            let other = replaced.iter().find(|(at, _)| *at == i);
            write::bulk(&mut self.bytes, other.map_or(*arg, |(_, other)| other));
        }
    }

    /// Appends a command of the stream itself, which belongs to no database and to no unit: `PING`, `REPLCONF GETACK`. Only
    /// between units.
    pub fn propagate_bare(&mut self, argv: &[&[u8]]) {
        if self.enabled {
            write::command(&mut self.bytes, argv);
        }
    }

    pub(crate) fn touch(&mut self, db: u16, key: &[u8]) {
        if self.track_touched {
            self.touched.push(db, key);
        }
    }

    pub(crate) fn touch_within(&mut self, db: u16, key: &[u8]) {
        if self.track_touched {
            self.touched_within.push(db, key);
        }
    }

    /// Everything was replaced beneath the clients (a reload): whoever watches learns it.
    pub fn note_flush_all(&mut self) {
        self.touch_all(None);
    }

    pub(crate) fn touch_all(&mut self, db: Option<u16>) {
        if self.track_touched || self.track_ready {
            self.flushed.push(db);
        }
    }

    /// Reports a key that a blocked client may wait for. Commands use `Call::signal_ready`.
    pub fn signal_ready(&mut self, db: u16, key: &[u8]) {
        if self.track_ready {
            self.ready.push(db, key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_effect_is_bare_and_several_are_wrapped() {
        let mut fx = Effects::new();
        fx.set_enabled(true);
        fx.begin_unit();
        fx.propagate(0, &[b"DEL", b"a"]);
        fx.end_unit();
        assert_eq!(
            fx.take_bytes(),
            b"*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n*2\r\n$3\r\nDEL\r\n$1\r\na\r\n"
        );
        fx.begin_unit();
        fx.begin_unit();
        fx.propagate(0, &[b"DEL", b"a"]);
        fx.end_unit();
        fx.propagate(0, &[b"DEL", b"b"]);
        fx.end_unit();
        assert_eq!(
            fx.take_bytes(),
            b"*1\r\n$5\r\nMULTI\r\n*2\r\n$3\r\nDEL\r\n$1\r\na\r\n*2\r\n$3\r\nDEL\r\n$1\r\nb\r\n*1\r\n$4\r\nEXEC\r\n"
        );
    }

    #[test]
    fn key_list() {
        let mut keys = KeyList::default();
        keys.push(1, b"ab");
        keys.push(0, b"");
        keys.push(2, b"c");
        let all: Vec<_> = keys.iter().collect();
        assert_eq!(all, [(1, &b"ab"[..]), (0, b""), (2, b"c")]);
        for n in 0..5 {
            let rest: Vec<_> = keys.iter_from(n).collect();
            assert_eq!(rest, all[n.min(3)..]);
        }
    }
}
