//! The byte form of [`ShardSlots`] in a snapshot.
//!
//! ```text
//! u8 version = 1 | 20 B shard | slots owned
//! u32 n, n × { 20 B job | slots | 20 B target | 20 B target node }                      exports
//! u32 n, n × { 20 B job | slots | 20 B target | 20 B target node }                      handed off
//! u32 n, n × { 20 B job | slots | 20 B source | 20 B source node | u8 staged? | u64 }   stagings
//! u32 n, n × { 20 B job | slots | 20 B source }                                         claims
//! u32 n, n × { u16 slot | 20 B node }                                                   migrating
//! u32 n, n × { u16 slot | 20 B node }                                                   importing
//!
//! slots: u16 n, n × { u16 first | u16 last }         all integers little-endian
//! ```
//!
//! Keys are in ascending order, so that equal states have equal bytes. Integrity is the file's
//! matter; what is checked here is that the bytes are a legal state.

use std::collections::BTreeMap;
use std::fmt;

use crate::{Claim, Export, HandedOff, JobId, NodeId, ShardId, ShardSlots, SlotRanges, Staging};

const VERSION: u8 = 1;

/// Why bytes are not a [`ShardSlots`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// They end in the middle.
    Truncated,
    /// More follows.
    TrailingBytes(usize),
    /// Written by a version that this one does not know.
    Version(u8),
    /// A set of slots is out of range or not in normal form.
    BadSlots,
    /// A key appears twice or out of order.
    BadOrder,
    /// Jobs or ownership contradict each other.
    Contradiction,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DecodeError::Truncated => write!(f, "slot state ends in the middle"),
            DecodeError::TrailingBytes(n) => write!(f, "{n} bytes behind the slot state"),
            DecodeError::Version(v) => write!(f, "slot state of unknown version {v}"),
            DecodeError::BadSlots => write!(f, "slot state with an illegal set of slots"),
            DecodeError::BadOrder => write!(f, "slot state with keys out of order"),
            DecodeError::Contradiction => write!(f, "slot state contradicts itself"),
        }
    }
}

impl std::error::Error for DecodeError {}

fn put_slots(slots: &SlotRanges, out: &mut Vec<u8>) {
    // At most 8192 disjoint, non-adjacent ranges exist.
    out.extend_from_slice(&(slots.ranges().len() as u16).to_le_bytes());
    for &(first, last) in slots.ranges() {
        out.extend_from_slice(&first.to_le_bytes());
        out.extend_from_slice(&last.to_le_bytes());
    }
}

fn put_count(count: usize, out: &mut Vec<u8>) {
    // Every map is keyed by disjoint slots, see `state`: at most 16384 entries.
    out.extend_from_slice(&(count as u32).to_le_bytes());
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (head, tail) = self
            .0
            .split_first_chunk::<N>()
            .ok_or(DecodeError::Truncated)?;
        self.0 = tail;
        Ok(*head)
    }

    fn u16(&mut self) -> Result<u16, DecodeError> {
        self.take().map(u16::from_le_bytes)
    }

    fn slots(&mut self) -> Result<SlotRanges, DecodeError> {
        let count = self.u16()?;
        let mut ranges = Vec::new();
        for _ in 0..count {
            ranges.push((self.u16()?, self.u16()?));
        }
        if ranges.is_empty() {
            return Ok(SlotRanges::default());
        }
        let slots = SlotRanges::new(&ranges).map_err(|_| DecodeError::BadSlots)?;
        if slots.ranges() == ranges {
            Ok(slots)
        } else {
            Err(DecodeError::BadSlots)
        }
    }

    fn map<K: Ord, V>(
        &mut self,
        mut entry: impl FnMut(&mut Self) -> Result<(K, V), DecodeError>,
    ) -> Result<BTreeMap<K, V>, DecodeError> {
        let count = self.take().map(u32::from_le_bytes)?;
        let mut map = BTreeMap::new();
        for _ in 0..count {
            let (key, value) = entry(self)?;
            if map.last_key_value().is_some_and(|(last, _)| *last >= key) {
                return Err(DecodeError::BadOrder);
            }
            map.insert(key, value);
        }
        Ok(map)
    }
}

impl ShardSlots {
    /// The state as bytes, for a snapshot.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        out.extend_from_slice(&self.me.0);
        put_slots(&self.owned.to_ranges(), &mut out);
        put_count(self.exports.len(), &mut out);
        for (job, export) in &self.exports {
            out.extend_from_slice(&job.0);
            put_slots(&export.slots, &mut out);
            out.extend_from_slice(&export.target.0);
            out.extend_from_slice(&export.target_node.0);
        }
        put_count(self.handed_off.len(), &mut out);
        for (job, handed_off) in &self.handed_off {
            out.extend_from_slice(&job.0);
            put_slots(&handed_off.slots, &mut out);
            out.extend_from_slice(&handed_off.target.0);
            out.extend_from_slice(&handed_off.target_node.0);
        }
        put_count(self.stagings.len(), &mut out);
        for (job, staging) in &self.stagings {
            out.extend_from_slice(&job.0);
            put_slots(&staging.slots, &mut out);
            out.extend_from_slice(&staging.source.0);
            out.extend_from_slice(&staging.source_node.0);
            out.push(u8::from(staging.staged.is_some()));
            out.extend_from_slice(&staging.staged.unwrap_or(0).to_le_bytes());
        }
        put_count(self.claims.len(), &mut out);
        for (job, claim) in &self.claims {
            out.extend_from_slice(&job.0);
            put_slots(&claim.slots, &mut out);
            out.extend_from_slice(&claim.source.0);
        }
        for marks in [&self.migrating, &self.importing] {
            put_count(marks.len(), &mut out);
            for (slot, node) in marks {
                out.extend_from_slice(&slot.to_le_bytes());
                out.extend_from_slice(&node.0);
            }
        }
        out
    }

    /// Reads what [`ShardSlots::encode`] wrote.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader(bytes);
        let [version] = r.take()?;
        if version != VERSION {
            return Err(DecodeError::Version(version));
        }
        let mut it = ShardSlots::new(ShardId(r.take()?));
        it.owned.insert_all(&r.slots()?);
        it.exports = r.map(|r| {
            let job = JobId(r.take()?);
            let slots = r.slots()?;
            let (target, target_node) = (ShardId(r.take()?), NodeId(r.take()?));
            Ok((
                job,
                Export {
                    slots,
                    target,
                    target_node,
                },
            ))
        })?;
        it.handed_off = r.map(|r| {
            let job = JobId(r.take()?);
            let slots = r.slots()?;
            let (target, target_node) = (ShardId(r.take()?), NodeId(r.take()?));
            Ok((
                job,
                HandedOff {
                    slots,
                    target,
                    target_node,
                },
            ))
        })?;
        it.stagings = r.map(|r| {
            let job = JobId(r.take()?);
            let slots = r.slots()?;
            let (source, source_node) = (ShardId(r.take()?), NodeId(r.take()?));
            let [is_staged] = r.take()?;
            let position = r.take().map(u64::from_le_bytes)?;
            let staged = (is_staged != 0).then_some(position);
            Ok((
                job,
                Staging {
                    slots,
                    source,
                    source_node,
                    staged,
                },
            ))
        })?;
        it.claims = r.map(|r| {
            let job = JobId(r.take()?);
            let slots = r.slots()?;
            let source = ShardId(r.take()?);
            Ok((job, Claim { slots, source }))
        })?;
        it.migrating = r.map(|r| Ok((r.u16()?, NodeId(r.take()?))))?;
        it.importing = r.map(|r| Ok((r.u16()?, NodeId(r.take()?))))?;
        if !r.0.is_empty() {
            return Err(DecodeError::TrailingBytes(r.0.len()));
        }
        if it.contradicts_itself() {
            return Err(DecodeError::Contradiction);
        }
        Ok(it)
    }

    /// Whether a job's slots are on the wrong side of ownership, or two jobs share one.
    fn contradicts_itself(&self) -> bool {
        let mut moving = crate::SlotSet::default();
        let mut gone = crate::SlotSet::default();
        let wrong_export = self.exports.values().any(|e| {
            let wrong =
                self.owned.first_missing(&e.slots).is_some() || moving.first_in(&e.slots).is_some();
            moving.insert_all(&e.slots);
            wrong
        });
        let wrong_hand_off = self.handed_off.values().any(|h| {
            let wrong =
                self.owned.first_in(&h.slots).is_some() || gone.first_in(&h.slots).is_some();
            gone.insert_all(&h.slots);
            wrong
        });
        let stagings = self.stagings.values().map(|s| &s.slots);
        let wrong_import = stagings
            .chain(self.claims.values().map(|c| &c.slots))
            .any(|slots| {
                let wrong =
                    self.owned.first_in(slots).is_some() || moving.first_in(slots).is_some();
                moving.insert_all(slots);
                wrong
            });
        let wrong_mark = self.migrating.keys().any(|&s| !self.owns(s))
            || self
                .importing
                .keys()
                .any(|&s| s >= crate::SLOTS || self.owns(s));
        wrong_export || wrong_hand_off || wrong_import || wrong_mark
    }
}
