//! The entries of a stream: nodes of packed entries by the id of their first one, and what is known of the whole.

use super::id_map::{IdMap, Pos};
use super::limits::TypeLimits;
use super::stream_group::UNKNOWN_READ;
use super::stream_id::StreamId;
use super::stream_node::{Entry, Fields, Node};

/// The largest node, and the largest entry, in bytes.
const NODE_BYTES_MAX: usize = 1 << 30;

/// The entries of a stream, and its counters.
#[derive(Clone, Debug, Default)]
pub struct StreamEntries {
    nodes: IdMap<Node>,
    len: u64,
    /// The first entry; `0-0` if there is none.
    first_id: StreamId,
    /// The greatest id that an entry ever had: the next one's is above it.
    pub last_id: StreamId,
    /// The greatest id that was deleted from the middle.
    pub max_deleted_id: StreamId,
    /// How many entries were ever added.
    pub entries_added: u64,
}

/// What to trim a stream by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrimBy {
    /// Leave so many entries.
    Length(u64),
    /// Leave entries from this id on.
    Id(StreamId),
}

/// How to trim a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trim {
    /// Down to where.
    pub by: TrimBy,
    /// Remove whole nodes only.
    pub approximately: bool,
    /// Most entries to remove; 0 for any number.
    pub limit: u64,
}

/// What is known of a stream beside its nodes and groups, as files have it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamCounters {
    /// Number of entries.
    pub len: u64,
    /// See [`StreamEntries::last_id`].
    pub last_id: StreamId,
    /// The first entry; `None` to look it up.
    pub first_id: Option<StreamId>,
    /// See [`StreamEntries::max_deleted_id`].
    pub max_deleted_id: StreamId,
    /// See [`StreamEntries::entries_added`].
    pub entries_added: u64,
}

impl StreamEntries {
    /// A stream without entries.
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The first entry's id; `0-0` if there is none.
    pub fn first_id(&self) -> StreamId {
        self.first_id
    }

    /// The nodes, each with the id of its first entry.
    pub fn nodes(&self) -> impl Iterator<Item = (StreamId, &Node)> {
        self.nodes.iter()
    }

    /// The nodes from an index on.
    pub fn nodes_from(&self, index: usize) -> impl Iterator<Item = (StreamId, &Node)> {
        self.nodes.iter_from(self.nodes.nth(index))
    }

    /// Number of nodes.
    pub fn nodes_len(&self) -> usize {
        self.nodes.len()
    }

    /// Adds an entry of fields and values in turn. Its id must be above `last_id`, and its bytes no more than [`entry_fits`] lets pass.
    pub fn append(&mut self, id: StreamId, pairs: &[&[u8]], limits: &TypeLimits) {
        debug_assert!(id > self.last_id);
        let bytes: usize = pairs.iter().map(|s| s.len()).sum();
        let most = match limits.stream_node_bytes {
            0 => NODE_BYTES_MAX,
            n => n.min(NODE_BYTES_MAX),
        };
        let entries = limits.stream_node_entries;
        match self.nodes.last_mut() {
            Some((first, node))
                if node.byte_len() + bytes < most && (entries == 0 || node.total() < entries) =>
            {
                node.append(first, id, pairs);
            }
            last => {
                if let Some((_, node)) = last {
                    node.seal();
                }
                let mut node = Node::new(pairs);
                node.append(id, id, pairs);
                self.nodes.push(id, node);
            }
        }
        self.len += 1;
        self.entries_added = self.entries_added.wrapping_add(1);
        self.last_id = id;
        if self.len == 1 {
            self.first_id = id;
        }
    }

    /// The entries from `start` to `end`, both included.
    pub fn range(&self, start: StreamId, end: StreamId) -> Range<'_> {
        let pos = self.nodes.floor(start).or_else(|| self.nodes.first_pos());
        let mut range = Range {
            stream: self,
            pos,
            at: 0,
            open: None,
            start,
            end,
        };
        if let Some((pos, (first, node))) = pos.zip(pos.and_then(|p| self.nodes.at(p))) {
            range.at = node.seek(first, start, self.last_of(pos));
        }
        range
    }

    /// All entries.
    pub fn all(&self) -> Range<'_> {
        self.range(StreamId::MIN, StreamId::MAX)
    }

    /// The entries from `end` down to `start`, both included.
    pub fn range_back(&self, start: StreamId, end: StreamId) -> RangeBack<'_> {
        let pos = self.nodes.floor(end);
        RangeBack {
            stream: self,
            pos,
            at: pos
                .and_then(|p| self.nodes.at(p))
                .map_or(0, |(_, n)| n.end()),
            start,
            end,
        }
    }

    /// About the last id of a node: not below it, and below what comes behind.
    fn last_of(&self, pos: Pos) -> StreamId {
        match self.nodes.after(pos).and_then(|p| self.nodes.at(p)) {
            Some((id, _)) => id,
            None => self.last_id,
        }
    }

    /// The entry of an id.
    pub fn get(&self, id: StreamId) -> Option<Entry<'_>> {
        self.range(id, id).next()
    }

    /// The id of the last entry that is there.
    pub fn last_entry_id(&self) -> Option<StreamId> {
        let mut back = self.range_back(StreamId::MIN, StreamId::MAX);
        back.next().map(|e| e.id)
    }

    /// The id of the first entry of the first node, deleted or not; the greatest id if there is no node.
    pub fn first_stored_id(&self) -> StreamId {
        self.nodes
            .first()
            .map_or(StreamId::MAX, |(first, node)| node.first_id(first))
    }

    fn find_first_id(&self) -> StreamId {
        self.all().next().map_or(StreamId::MIN, |e| e.id)
    }

    /// Deletes an entry. Whether it was there.
    pub fn delete(&mut self, id: StreamId) -> bool {
        let Some(pos) = self.nodes.floor(id) else {
            return false;
        };
        let last = self.last_of(pos);
        let Some((first, node)) = self.nodes.at_mut(pos) else {
            return false;
        };
        let at = node.seek(first, id, last);
        if at >= node.end() {
            return false;
        }
        let entry = node.entry(first, at);
        if entry.id != id || entry.is_deleted() {
            return false;
        }
        if node.live() == 1 {
            self.nodes.remove_at(pos);
        } else {
            node.delete(first, at);
        }
        self.len -= 1;
        self.max_deleted_id = self.max_deleted_id.max(id);
        if self.len == 0 {
            self.first_id = StreamId::MIN;
        } else if self.first_id == id {
            self.first_id = self.find_first_id();
        }
        true
    }

    /// Removes the oldest entries. How many.
    pub fn trim(&mut self, trim: &Trim) -> u64 {
        let mut gone = 0;
        while let Some((first, node)) = self.nodes.first_mut() {
            let live = node.live() as u64;
            let whole = match trim.by {
                TrimBy::Length(most) if self.len <= most => break,
                TrimBy::Length(most) => self.len - live >= most,
                TrimBy::Id(id) => node.last_id(first) < id,
            };
            if trim.limit > 0 && gone + live > trim.limit {
                break;
            }
            if whole {
                self.nodes.pop_first();
                self.len -= live;
                gone += live;
                continue;
            }
            if !trim.approximately {
                let len = self.len;
                let here = node.trim(first, |id, gone| match trim.by {
                    TrimBy::Length(most) => len - gone as u64 <= most,
                    TrimBy::Id(from) => id >= from,
                }) as u64;
                self.len -= here;
                gone += here;
            }
            break;
        }
        if self.len == 0 {
            self.first_id = StreamId::MIN;
        } else if gone > 0 {
            self.first_id = self.find_first_id();
        }
        gone
    }

    /// Whether an entry was deleted from the middle at or behind an id, so that counting on from there would be wrong.
    pub fn has_gaps_from(&self, start: StreamId) -> bool {
        self.len > 0 && !self.max_deleted_id.is_zero() && start <= self.max_deleted_id
    }

    /// How many of all entries ever added are not behind an id, where that can be told; [`UNKNOWN_READ`] otherwise.
    pub fn entries_up_to(&self, id: StreamId) -> i64 {
        let added = self.entries_added as i64;
        if self.entries_added == 0 {
            return 0;
        }
        if self.len == 0 && id <= self.last_id {
            return added;
        }
        if !id.is_zero() && id < self.max_deleted_id {
            return UNKNOWN_READ;
        }
        match id.cmp(&self.last_id) {
            std::cmp::Ordering::Equal => return added,
            std::cmp::Ordering::Greater => return UNKNOWN_READ,
            std::cmp::Ordering::Less => {}
        }
        if self.max_deleted_id.is_zero() || self.max_deleted_id < self.first_id {
            let before_first = added.wrapping_sub(self.len as i64);
            match id.cmp(&self.first_id) {
                std::cmp::Ordering::Less => return before_first,
                std::cmp::Ordering::Equal => return before_first.wrapping_add(1),
                std::cmp::Ordering::Greater => {}
            }
        }
        UNKNOWN_READ
    }

    /// The counters, for a file.
    pub fn counters(&self) -> StreamCounters {
        StreamCounters {
            len: self.len,
            last_id: self.last_id,
            first_id: Some(self.first_id),
            max_deleted_id: self.max_deleted_id,
            entries_added: self.entries_added,
        }
    }

    /// Adds a node that came from outside.
    ///
    /// # Errors
    /// When it is not behind the nodes that are there.
    pub fn load_node(&mut self, first: StreamId, node: Node) -> Result<(), &'static str> {
        if let Some((before, last)) = self.nodes.last()
            && last.last_id(before) >= first
        {
            return Err("stream nodes out of order");
        }
        self.len += node.live() as u64;
        self.last_id = node.last_id(first);
        self.nodes.push(first, node);
        Ok(())
    }

    /// Sets the counters as they came from outside, behind all nodes.
    ///
    /// # Errors
    /// When they contradict the entries.
    pub fn load_counters(&mut self, counters: &StreamCounters) -> Result<(), &'static str> {
        if counters.len != self.len {
            return Err("stream length that is not the number of its entries");
        }
        let last = self.last_entry_id().unwrap_or_default();
        if counters.last_id < last {
            return Err("stream with a last id before its last entry");
        }
        self.last_id = counters.last_id;
        self.max_deleted_id = counters.max_deleted_id;
        self.entries_added = counters.entries_added;
        // It follows from the entries, so what is said of it is not needed.
        self.first_id = self.find_first_id();
        Ok(())
    }

    /// Frees up to so many nodes. Whether there are more.
    pub(super) fn discard(&mut self, nodes: usize) -> bool {
        self.nodes.discard(nodes)
    }

    /// Bytes of memory, roughly.
    pub fn memory(&self) -> usize {
        let nodes = self.nodes.iter().map(|(_, n)| n.own_bytes());
        self.nodes.own_bytes() + nodes.sum::<usize>()
    }
}

/// Whether an entry of these fields and values can be stored at all.
pub fn entry_fits(pairs: &[&[u8]]) -> bool {
    pairs.iter().map(|s| s.len()).sum::<usize>() <= NODE_BYTES_MAX
}

/// Iterator over entries in ascending order. Deleted ones are passed over.
#[derive(Clone, Debug)]
pub struct Range<'a> {
    stream: &'a StreamEntries,
    pos: Option<Pos>,
    at: usize,
    /// The fields of the entry last returned, as far as the caller has told: the next one is behind them.
    open: Option<Fields<'a>>,
    start: StreamId,
    end: StreamId,
}

impl<'a> Range<'a> {
    /// Says that the fields of the entry last returned have been read up to here, so that they need not be passed over again.
    #[inline]
    pub fn resume_behind(&mut self, fields: Fields<'a>) {
        self.open = Some(fields);
    }
}

impl<'a> Iterator for Range<'a> {
    type Item = Entry<'a>;

    #[inline]
    fn next(&mut self) -> Option<Entry<'a>> {
        if let Some(fields) = self.open.take() {
            self.at = fields.end();
        }
        loop {
            let pos = self.pos?;
            let (first, node) = self.stream.nodes.at(pos)?;
            while self.at < node.end() {
                let entry = node.entry(first, self.at);
                if entry.id > self.end {
                    self.pos = None;
                    return None;
                }
                if entry.is_deleted() || entry.id < self.start {
                    self.at = entry.end();
                    continue;
                }
                self.open = Some(entry.fields());
                return Some(entry);
            }
            self.pos = self.stream.nodes.after(pos);
            if let Some((_, next)) = self.pos.and_then(|p| self.stream.nodes.at(p)) {
                self.at = next.head();
            }
        }
    }
}

/// Iterator over entries in descending order. Deleted ones are passed over.
#[derive(Clone, Debug)]
pub struct RangeBack<'a> {
    stream: &'a StreamEntries,
    pos: Option<Pos>,
    /// Behind the next entry to be looked at.
    at: usize,
    start: StreamId,
    end: StreamId,
}

impl<'a> Iterator for RangeBack<'a> {
    type Item = Entry<'a>;

    fn next(&mut self) -> Option<Entry<'a>> {
        loop {
            let pos = self.pos?;
            let (first, node) = self.stream.nodes.at(pos)?;
            while let Some(entry) = node.entry_before(first, self.at) {
                self.at = entry.at();
                if entry.id < self.start {
                    self.pos = None;
                    return None;
                }
                if !entry.is_deleted() && entry.id <= self.end {
                    return Some(entry);
                }
            }
            self.pos = self.stream.nodes.before(pos);
            if let Some((_, next)) = self.pos.and_then(|p| self.stream.nodes.at(p)) {
                self.at = next.end();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;
    use std::collections::BTreeMap;

    type Model = BTreeMap<StreamId, Vec<Vec<u8>>>;

    fn shown(entry: Entry<'_>) -> (StreamId, Vec<Vec<u8>>) {
        let pairs = entry.fields().flat_map(|(f, v)| [f.to_vec(), v.to_vec()]);
        (entry.id, pairs.collect())
    }

    fn check(entries: &StreamEntries, model: &Model, rng: &mut Rng) {
        let top = entries.last_id.ms + 3;
        let ids = [0, 1].map(|_| StreamId::new(rng.below(top), rng.below(3)));
        let (start, end) = (ids[0].min(ids[1]), ids[0].max(ids[1]));
        let wanted = || model.range(start..=end).map(|(id, p)| (*id, p.clone()));
        assert!(entries.range(start, end).map(shown).eq(wanted()));
        assert!(entries.range_back(start, end).map(shown).eq(wanted().rev()));
        assert_eq!(
            entries.get(start).map(shown).map(|e| e.1),
            model.get(&start).cloned()
        );
        assert_eq!(entries.len(), model.len());
        let first = model.keys().next().copied().unwrap_or_default();
        assert_eq!(entries.first_id(), first);
        assert_eq!(entries.last_entry_id(), model.keys().next_back().copied());
    }

    /// The same stream out of the listpacks that a file would have.
    fn reloaded(entries: &StreamEntries) -> StreamEntries {
        let mut copy = StreamEntries::default();
        for (first, node) in entries.nodes() {
            let mut bytes = Vec::new();
            node.write_listpack(&mut bytes);
            assert_eq!(bytes.len(), node.byte_len());
            copy.load_node(first, Node::from_listpack(first, bytes).unwrap())
                .unwrap();
        }
        copy.load_counters(&entries.counters()).unwrap();
        copy
    }

    #[test]
    fn behaves_as_an_ordered_map_of_entries() {
        let mut rng = Rng::new(1);
        for (bytes, count) in [(4096, 100), (120, 0), (0, 7), (4096, 1)] {
            let limits = TypeLimits {
                stream_node_bytes: bytes,
                stream_node_entries: count,
                ..TypeLimits::default()
            };
            let (mut entries, mut model) = (StreamEntries::default(), Model::new());
            for step in 0..4000 {
                match rng.index(40) {
                    0..22 => {
                        let mut id = entries.last_id;
                        match rng.index(3) {
                            0 => id = id.next().unwrap(),
                            _ => id = StreamId::new(id.ms + 1 + rng.below(3), rng.below(3)),
                        }
                        let fields = [
                            "f",
                            "g",
                            "12",
                            "a longer field of many bytes, more than 63 of them altogether, yes",
                        ];
                        let pairs: Vec<Vec<u8>> = (0..1 + rng.index(2))
                            .flat_map(|_| {
                                let field = fields[rng.index(12).min(3) % 4].as_bytes().to_vec();
                                [field, vec![b'0' + rng.index(10) as u8; rng.index(30)]]
                            })
                            .collect();
                        let argv: Vec<&[u8]> = pairs.iter().map(|p| &p[..]).collect();
                        entries.append(id, &argv, &limits);
                        model.insert(id, pairs);
                    }
                    22..36 => {
                        let id = StreamId::new(rng.below(entries.last_id.ms + 1), rng.below(3));
                        let near = model.range(id..).next().map_or(id, |(id, _)| *id);
                        assert_eq!(entries.delete(near), model.remove(&near).is_some());
                    }
                    36 if step % 4 == 0 => {
                        let most = rng.below(model.len() as u64 * 2 + 1);
                        let approximately = rng.index(2) == 0;
                        let limit = [0, 10, 1000][rng.index(3)] * u64::from(approximately);
                        let trim = Trim {
                            by: TrimBy::Length(most),
                            approximately,
                            limit,
                        };
                        let gone = entries.trim(&trim);
                        let too_many = (model.len() as u64).saturating_sub(most);
                        assert!(gone <= too_many && (approximately || gone == too_many));
                        assert!(limit == 0 || gone <= limit);
                        (0..gone).for_each(|_| drop(model.pop_first()));
                    }
                    37 if step % 4 == 0 => {
                        let from = StreamId::new(rng.below(entries.last_id.ms + 2), 1);
                        let trim = Trim {
                            by: TrimBy::Id(from),
                            approximately: false,
                            limit: 0,
                        };
                        let kept = model.split_off(&from);
                        assert_eq!(entries.trim(&trim), model.len() as u64);
                        model = kept;
                    }
                    38 if step % 16 == 0 => entries = reloaded(&entries),
                    _ => {}
                }
                check(&entries, &model, &mut rng);
            }
            assert!(entries.all().map(shown).eq(model.into_iter()));
        }
    }

    /// The bytes that Valkey 9.1 gives for these two entries, from a `DUMP`.
    #[test]
    fn golden_bytes() {
        let mut entries = StreamEntries::default();
        let limits = TypeLimits::default();
        entries.append(StreamId::new(1000, 5), &[b"f", b"12"], &limits);
        entries.append(StreamId::new(1300, 1), &[b"g", b"xyz"], &limits);
        entries.delete(StreamId::new(1000, 5));
        let mut bytes = Vec::new();
        entries
            .nodes()
            .for_each(|(_, n)| n.write_listpack(&mut bytes));
        let wanted = [
            &[48, 0, 0, 0, 17, 0][..],
            &[1, 1, 1, 1, 1, 1, 0x81, b'f', 2, 0, 1],
            &[3, 1, 0, 1, 0, 1, 12, 1, 4, 1],
            &[
                0, 1, 0xc1, 0x2c, 2, 0xdf, 0xfc, 2, 1, 1, 0x81, b'g', 2, 0x83, b'x', b'y', b'z', 4,
                6, 1,
            ],
            &[0xff],
        ];
        assert_eq!(bytes, wanted.concat());
    }

    #[test]
    fn small_entries_are_packed() {
        let mut entries = StreamEntries::default();
        let limits = TypeLimits::default();
        for n in 0..1000 {
            let id = StreamId::new(1_700_000_000_000 + n * 3, 0);
            entries.append(id, &[b"field", b"value:123"], &limits);
        }
        assert!(entries.memory() < 25 * 1000, "{}", entries.memory());
    }
}
