//! Streams, in all three versions of their encoding.
//!
//! ```text
//! | nodes | (first id: 16 bytes as a string, listpack as a string) … | length | last id |
//! | first id | greatest deleted id | entries added |                                           from version 2 on
//! | groups | (name | last id | entries read, from version 2 on
//!          | pending | (id: 16 bytes | time | deliveries) …
//!          | consumers | (name | seen | active, from version 3 on | pending | (id: 16 bytes) …) …) … |
//! ```
//!
//! Numbers are lengths, but for times: Unix milliseconds in 8 bytes.

use crate::decode::{Input, Stop, broken};
use crate::draft::Draft;
use crate::encode::{PIECE_BYTES, PIECE_ELEMENTS, length, string};
use crate::format::kind;
use holdfast_engine::types::StreamValue;
use holdfast_engine::types::stream_entries::StreamCounters;
use holdfast_engine::types::stream_group::{ConsumerId, StreamGroup};
use holdfast_engine::types::stream_id::StreamId;
use holdfast_engine::types::stream_node::Node;

fn put_id(out: &mut Draft, id: StreamId) {
    length(out, id.ms);
    length(out, id.seq);
}

/// Goes through the parts of a stream behind its nodes, which are numbered so that writing can stop and go on at each.
struct Parts<'a> {
    out: &'a mut Draft,
    start: usize,
    /// The part to begin with.
    from: usize,
    /// The next part.
    number: usize,
}

/// Writing goes on with this part later.
struct Pause(usize);

impl Parts<'_> {
    fn part(&mut self, write: impl FnOnce(&mut Draft)) -> Result<(), Pause> {
        if self.number >= self.from {
            if self.out.len() - self.start > PIECE_BYTES {
                return Err(Pause(self.number));
            }
            write(self.out);
        }
        self.number += 1;
        Ok(())
    }

    /// Parts of [`PIECE_ELEMENTS`] elements each.
    fn elements(
        &mut self,
        len: usize,
        mut write: impl FnMut(&mut Draft, usize),
    ) -> Result<(), Pause> {
        (0..len)
            .step_by(PIECE_ELEMENTS)
            .try_for_each(|first| self.part(|out| write(out, first)))
    }
}

/// Appends the part of a stream that begins at `from`; see `encode::piece`.
pub(crate) fn piece(out: &mut Draft, stream: &StreamValue, from: usize) -> Option<usize> {
    let nodes = stream.entries.nodes_len();
    if from == 0 {
        length(out, nodes as u64);
    }
    let start = out.len();
    let mut listpack = Vec::new();
    for (n, (first, node)) in (from..).zip(stream.entries.nodes_from(from)) {
        if out.len() - start > PIECE_BYTES {
            return Some(n);
        }
        out.string(&first.to_bytes());
        listpack.clear();
        node.write_listpack(&mut listpack);
        out.string(&listpack);
    }
    let mut parts = Parts {
        out,
        start,
        from,
        number: nodes,
    };
    behind_nodes(&mut parts, stream).err().map(|Pause(at)| at)
}

fn behind_nodes(parts: &mut Parts<'_>, stream: &StreamValue) -> Result<(), Pause> {
    let counters = stream.entries.counters();
    parts.part(|out| {
        length(out, counters.len);
        put_id(out, counters.last_id);
        put_id(out, counters.first_id.unwrap_or_default());
        put_id(out, counters.max_deleted_id);
        length(out, counters.entries_added);
        length(out, stream.groups.len() as u64);
    })?;
    for (name, group) in stream.groups.iter() {
        let pending = group.pending();
        parts.part(|out| {
            string(out, name);
            put_id(out, group.last_id);
            length(out, group.entries_read as u64);
            length(out, pending.len() as u64);
        })?;
        parts.elements(pending.len(), |out, first| {
            let some = pending.iter_from(pending.nth(first));
            for (id, p) in some.take(PIECE_ELEMENTS) {
                out.extend_from_slice(&id.to_bytes());
                out.extend_from_slice(&p.delivered_ms.to_le_bytes());
                length(out, p.deliveries);
            }
        })?;
        parts.part(|out| length(out, group.consumers_len() as u64))?;
        for consumer in group.consumers() {
            let own = &consumer.pending;
            parts.part(|out| {
                string(out, &consumer.name);
                out.extend_from_slice(&consumer.seen_ms.to_le_bytes());
                out.extend_from_slice(&consumer.active_ms.to_le_bytes());
                length(out, own.len() as u64);
            })?;
            parts.elements(own.len(), |out, first| {
                for (id, ()) in own.iter_from(own.nth(first)).take(PIECE_ELEMENTS) {
                    out.extend_from_slice(&id.to_bytes());
                }
            })?;
        }
    }
    Ok(())
}

/// What comes next.
enum Stage {
    Nodes { left: u64 },
    Counters,
    Groups { left: u64 },
}

/// A group being decoded.
struct GroupDecoder {
    name: Vec<u8>,
    group: StreamGroup,
    pending_left: u64,
    consumers_left: Option<u64>,
    /// The consumer whose pending entries come, and how many.
    consumer: (ConsumerId, u64),
}

/// A stream being decoded.
pub(crate) struct StreamDecoder {
    version: u8,
    stage: Stage,
    group: Option<Box<GroupDecoder>>,
    stream: StreamValue,
}

fn id(input: &mut Input<'_>) -> Result<StreamId, Stop> {
    Ok(StreamId::new(input.length()?, input.length()?))
}

fn raw_id(input: &mut Input<'_>) -> Result<StreamId, Stop> {
    Ok(StreamId::from_bytes(input.array()?))
}

fn time(input: &mut Input<'_>) -> Result<i64, Stop> {
    Ok(input.u64_le()? as i64)
}

impl StreamDecoder {
    /// Begins a stream of this kind, whose number of nodes has been read.
    pub fn new(kind: u8, nodes: u64) -> Self {
        StreamDecoder {
            version: match kind {
                kind::STREAM_LISTPACKS => 1,
                kind::STREAM_LISTPACKS_2 => 2,
                _ => 3,
            },
            stage: match nodes {
                0 => Stage::Counters,
                left => Stage::Nodes { left },
            },
            group: None,
            stream: StreamValue::new(),
        }
    }

    /// Decodes one piece more; the stream when it is whole.
    pub fn step(&mut self, input: &mut Input<'_>) -> Result<Option<StreamValue>, Stop> {
        if let Some(mut decoder) = self.group.take() {
            let step = decoder.step(self.version, input);
            if !matches!(step, Ok(true)) {
                self.group = Some(decoder);
                return step.map(|_| None);
            }
            let GroupDecoder { name, group, .. } = *decoder;
            group.check_owners()?;
            if !self.stream.groups.insert(&name, group) {
                return Err("stream with two groups of one name".into());
            }
            return Ok(self.finish_if_whole());
        }
        match &mut self.stage {
            Stage::Nodes { left } => {
                let key = input.string()?;
                let first = <[u8; 16]>::try_from(key)
                    .map_err(|_| "stream node whose key is not the size of an id")?;
                let first = StreamId::from_bytes(first);
                let node = Node::from_listpack(first, input.string()?);
                let node = node.map_err(broken("Stream listpack"))?;
                self.stream.entries.load_node(first, node)?;
                *left -= 1;
                if *left == 0 {
                    self.stage = Stage::Counters;
                }
                Ok(None)
            }
            Stage::Counters => {
                let mut counters = StreamCounters {
                    len: input.length()?,
                    last_id: id(input)?,
                    ..StreamCounters::default()
                };
                counters.entries_added = counters.len;
                if self.version >= 2 {
                    counters.first_id = Some(id(input)?);
                    counters.max_deleted_id = id(input)?;
                    counters.entries_added = input.length()?;
                }
                let left = input.length()?;
                self.stream.entries.load_counters(&counters)?;
                self.stage = Stage::Groups { left };
                Ok(self.finish_if_whole())
            }
            Stage::Groups { left } => {
                let name = input.string()?;
                let last_id = id(input)?;
                let entries_read = match self.version {
                    1 => self.stream.entries.entries_up_to(last_id),
                    _ => input.length()? as i64,
                };
                let pending_left = input.length()?;
                *left -= 1;
                self.group = Some(Box::new(GroupDecoder {
                    name,
                    group: StreamGroup::new(last_id, entries_read),
                    pending_left,
                    consumers_left: None,
                    consumer: (0, 0),
                }));
                Ok(None)
            }
        }
    }

    fn finish_if_whole(&mut self) -> Option<StreamValue> {
        matches!(self.stage, Stage::Groups { left: 0 }).then(|| std::mem::take(&mut self.stream))
    }
}

impl GroupDecoder {
    /// Decodes one piece more. Whether the group is whole.
    fn step(&mut self, version: u8, input: &mut Input<'_>) -> Result<bool, Stop> {
        if self.pending_left > 0 {
            let (id, delivered_ms) = (raw_id(input)?, time(input)?);
            let deliveries = input.length()?;
            self.group.load_pending(id, delivered_ms, deliveries)?;
            self.pending_left -= 1;
            return Ok(false);
        }
        let Some(consumers_left) = &mut self.consumers_left else {
            let left = input.length()?;
            self.consumers_left = Some(left);
            return Ok(left == 0);
        };
        let (consumer, own_left) = &mut self.consumer;
        if *own_left > 0 {
            let id = raw_id(input)?;
            self.group.load_owner(id, *consumer)?;
            *own_left -= 1;
        } else {
            let name = input.string()?;
            let seen_ms = time(input)?;
            let active_ms = if version >= 3 { time(input)? } else { seen_ms };
            let left = input.length()?;
            let number = self.group.load_consumer(&name, seen_ms, active_ms)?;
            self.consumer = (number, left);
            *consumers_left -= 1;
        }
        Ok(*consumers_left == 0 && self.consumer.1 == 0)
    }
}
