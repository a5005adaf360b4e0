//! A map ordered by stream id: a row of chunks, each a short row of elements.
//!
//! Streams grow at one end and are trimmed at the other, and so do lists of pending entries: an element is appended to the last
//! chunk, which becomes full, and taken from the first. So chunks are full, where a balanced tree's leaves would be half empty. An
//! element costs its own size and little else; no operation moves more than one chunk of elements and, when chunks come
//! or go in the middle, the row of chunks.

use super::stream_id::StreamId;
use std::collections::VecDeque;

/// Most elements of a chunk.
const FULL: usize = 128;
/// A chunk that has shrunk below this is joined with a neighbour, if both together are not above [`JOINED_MAX`].
const SPARSE: usize = FULL / 4;
const JOINED_MAX: usize = FULL * 3 / 4;

type Chunk<V> = VecDeque<(StreamId, V)>;

/// See the module's documentation.
#[derive(Clone, Debug)]
pub struct IdMap<V> {
    /// None is empty.
    chunks: VecDeque<Chunk<V>>,
    len: usize,
}

/// The place of an element. Valid until the map is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pos {
    chunk: usize,
    at: usize,
}

impl<V> Default for IdMap<V> {
    fn default() -> Self {
        IdMap {
            chunks: VecDeque::new(),
            len: 0,
        }
    }
}

impl<V> IdMap<V> {
    /// A map without elements; it allocates nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes that the map has allocated for its elements, roughly.
    pub fn own_bytes(&self) -> usize {
        self.chunks.capacity() * size_of::<Chunk<V>>()
            + self
                .chunks
                .iter()
                .map(|c| c.capacity() * size_of::<(StreamId, V)>())
                .sum::<usize>()
    }

    /// The chunk in which an id is, or would be, and the place in there: of the first element not below it.
    fn locate(&self, id: StreamId) -> Pos {
        let behind = self
            .chunks
            .partition_point(|c| c.front().is_some_and(|(first, _)| *first <= id));
        let chunk = behind.saturating_sub(1);
        let at = self
            .chunks
            .get(chunk)
            .map_or(0, |c| c.partition_point(|(other, _)| *other < id));
        Pos { chunk, at }
    }

    fn find(&self, id: StreamId) -> Option<Pos> {
        let pos = self.locate(id);
        (self.entry(pos)?.0 == id).then_some(pos)
    }

    #[inline]
    fn entry(&self, pos: Pos) -> Option<&(StreamId, V)> {
        self.chunks.get(pos.chunk)?.get(pos.at)
    }

    /// The element at a place.
    #[inline]
    pub fn at(&self, pos: Pos) -> Option<(StreamId, &V)> {
        self.entry(pos).map(|(id, v)| (*id, v))
    }

    /// The element at a place, to change.
    pub fn at_mut(&mut self, pos: Pos) -> Option<(StreamId, &mut V)> {
        let (id, v) = self.chunks.get_mut(pos.chunk)?.get_mut(pos.at)?;
        Some((*id, v))
    }

    /// The element of an id.
    pub fn get(&self, id: StreamId) -> Option<&V> {
        Some(self.at(self.find(id)?)?.1)
    }

    /// The element of an id, to change.
    pub fn get_mut(&mut self, id: StreamId) -> Option<&mut V> {
        let pos = self.find(id)?;
        Some(self.at_mut(pos)?.1)
    }

    /// Whether there is an element of this id.
    pub fn contains(&self, id: StreamId) -> bool {
        self.find(id).is_some()
    }

    /// The place of the first element not below an id.
    pub fn lower_bound(&self, id: StreamId) -> Option<Pos> {
        let pos = self.locate(id);
        if self.entry(pos).is_some() {
            return Some(pos);
        }
        let pos = Pos {
            chunk: pos.chunk + 1,
            at: 0,
        };
        self.entry(pos).map(|_| pos)
    }

    /// The place of the last element not above an id.
    pub fn floor(&self, id: StreamId) -> Option<Pos> {
        let pos = self.locate(id);
        match self.entry(pos) {
            Some((found, _)) if *found == id => Some(pos),
            _ => self.before(pos),
        }
    }

    /// The place of the first element.
    pub fn first_pos(&self) -> Option<Pos> {
        (self.len > 0).then_some(Pos { chunk: 0, at: 0 })
    }

    /// The place of the last element.
    pub fn last_pos(&self) -> Option<Pos> {
        let chunk = self.chunks.len().checked_sub(1)?;
        let at = self.chunks.get(chunk)?.len().checked_sub(1)?;
        Some(Pos { chunk, at })
    }

    /// The place of the element at an index.
    pub fn nth(&self, index: usize) -> Option<Pos> {
        let mut at = index;
        for (chunk, elements) in self.chunks.iter().enumerate() {
            if at < elements.len() {
                return Some(Pos { chunk, at });
            }
            at -= elements.len();
        }
        None
    }

    /// The place behind.
    pub fn after(&self, pos: Pos) -> Option<Pos> {
        let next = Pos {
            at: pos.at + 1,
            ..pos
        };
        if self.entry(next).is_some() {
            return Some(next);
        }
        let next = Pos {
            chunk: pos.chunk + 1,
            at: 0,
        };
        self.entry(next).map(|_| next)
    }

    /// The place before.
    pub fn before(&self, pos: Pos) -> Option<Pos> {
        if let Some(at) = pos.at.checked_sub(1) {
            return Some(Pos { at, ..pos });
        }
        let chunk = pos.chunk.checked_sub(1)?;
        let at = self.chunks.get(chunk)?.len().checked_sub(1)?;
        Some(Pos { chunk, at })
    }

    /// The first element.
    pub fn first(&self) -> Option<(StreamId, &V)> {
        self.at(self.first_pos()?)
    }

    /// The last element.
    #[inline]
    pub fn last(&self) -> Option<(StreamId, &V)> {
        self.chunks.back()?.back().map(|(id, v)| (*id, v))
    }

    /// The last element, to change.
    #[inline]
    pub fn last_mut(&mut self) -> Option<(StreamId, &mut V)> {
        self.chunks.back_mut()?.back_mut().map(|(id, v)| (*id, v))
    }

    /// The first element, to change.
    pub fn first_mut(&mut self) -> Option<(StreamId, &mut V)> {
        self.chunks.front_mut()?.front_mut().map(|(id, v)| (*id, v))
    }

    /// All elements from a place on; from `None` there are none.
    pub fn iter_from(&self, pos: Option<Pos>) -> impl Iterator<Item = (StreamId, &V)> {
        let mut pos = pos;
        std::iter::from_fn(move || {
            let here = pos?;
            pos = self.after(here);
            self.at(here)
        })
    }

    /// All elements.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (StreamId, &V)> {
        self.chunks.iter().flatten().map(|(id, v)| (*id, v))
    }

    /// Adds an element whose id is above all others.
    pub fn push(&mut self, id: StreamId, value: V) {
        debug_assert!(self.last().is_none_or(|(last, _)| last < id));
        self.len += 1;
        match self.chunks.back_mut() {
            Some(chunk) if chunk.len() < FULL => {
                if chunk.len() == chunk.capacity() {
                    // Not above `FULL`, and by half: most maps are small.
                    let more = (chunk.len() / 2).clamp(1, FULL - chunk.len());
                    chunk.reserve_exact(more);
                }
                chunk.push_back((id, value));
            }
            _ => {
                if self.chunks.is_empty() {
                    self.chunks.reserve_exact(1);
                }
                let mut chunk = Chunk::with_capacity(1);
                chunk.push_back((id, value));
                self.chunks.push_back(chunk);
            }
        }
    }

    /// Adds an element, or replaces that of this id; whether it is new.
    pub fn insert(&mut self, id: StreamId, value: V) -> bool {
        if self.last().is_none_or(|(last, _)| last < id) {
            self.push(id, value);
            return true;
        }
        let mut pos = self.locate(id);
        if let Some((found, old)) = self.at_mut(pos)
            && found == id
        {
            *old = value;
            return false;
        }
        if self.chunks.get(pos.chunk).is_some_and(|c| c.len() >= FULL) {
            let tail = self.chunks[pos.chunk].split_off(FULL / 2);
            self.chunks.insert(pos.chunk + 1, tail);
            if pos.at > FULL / 2 {
                pos = Pos {
                    chunk: pos.chunk + 1,
                    at: pos.at - FULL / 2,
                };
            }
        }
        if let Some(chunk) = self.chunks.get_mut(pos.chunk) {
            chunk.insert(pos.at, (id, value));
            self.len += 1;
        }
        true
    }

    /// Removes the element of an id.
    pub fn remove(&mut self, id: StreamId) -> Option<V> {
        let pos = self.find(id)?;
        self.remove_at(pos)
    }

    /// Removes the element at a place.
    pub fn remove_at(&mut self, pos: Pos) -> Option<V> {
        let chunk = self.chunks.get_mut(pos.chunk)?;
        let (_, value) = chunk.remove(pos.at)?;
        self.len -= 1;
        let left = chunk.len();
        if left == 0 {
            self.chunks.remove(pos.chunk);
        } else if left < SPARSE {
            self.join(pos.chunk);
        }
        Some(value)
    }

    /// Joins a chunk with a neighbour if they fit together. The first chunk is left alone: as a rule it is being emptied.
    fn join(&mut self, chunk: usize) {
        let len = |at: usize| self.chunks.get(at).map(VecDeque::len);
        let (Some(here), true) = (len(chunk), chunk > 0) else {
            return;
        };
        let fits = |other: Option<usize>| other.is_some_and(|n| n + here <= JOINED_MAX);
        let left = if fits(len(chunk - 1)) {
            chunk - 1
        } else if fits(len(chunk + 1)) {
            chunk
        } else {
            return;
        };
        if let Some(mut tail) = self.chunks.remove(left + 1)
            && let Some(head) = self.chunks.get_mut(left)
        {
            head.append(&mut tail);
        }
    }

    /// Removes the first element.
    pub fn pop_first(&mut self) -> Option<(StreamId, V)> {
        let chunk = self.chunks.front_mut()?;
        let first = chunk.pop_front()?;
        self.len -= 1;
        if chunk.is_empty() {
            self.chunks.pop_front();
        }
        Some(first)
    }

    /// Frees up to so many elements. Whether there are more.
    pub fn discard(&mut self, elements: usize) -> bool {
        for _ in 0..elements {
            let Some(chunk) = self.chunks.back_mut() else {
                return false;
            };
            chunk.pop_back();
            self.len = self.len.saturating_sub(1);
            if chunk.is_empty() {
                self.chunks.pop_back();
            }
        }
        self.len > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;
    use std::collections::BTreeMap;

    #[test]
    fn behaves_as_an_ordered_map() {
        let mut rng = Rng::new(3);
        for spread in [40, 400, 4000] {
            let (mut map, mut model) = (IdMap::new(), BTreeMap::new());
            let mut top = 0;
            for step in 0..30_000u32 {
                let id = StreamId::new(rng.below(spread), rng.below(4));
                match rng.index(8) {
                    0 | 1 => assert_eq!(map.insert(id, step), model.insert(id, step).is_none()),
                    2 | 3 => assert_eq!(map.remove(id), model.remove(&id)),
                    4 => assert_eq!(map.pop_first(), model.pop_first()),
                    5 => {
                        top = top.max(spread) + 1;
                        map.insert(StreamId::new(top, 0), step);
                        model.insert(StreamId::new(top, 0), step);
                    }
                    6 => {
                        assert_eq!(map.get(id), model.get(&id));
                        let above = map.iter_from(map.lower_bound(id)).map(|(id, v)| (id, *v));
                        let wanted = model.range(id..).map(|(id, v)| (*id, *v));
                        assert!(above.take(300).eq(wanted.take(300)));
                    }
                    _ => {
                        let below = map.floor(id).and_then(|p| map.at(p)).map(|(id, _)| id);
                        assert_eq!(below, model.range(..=id).next_back().map(|(id, _)| *id));
                    }
                }
                assert_eq!(map.len(), model.len());
                assert!(map.chunks.iter().all(|c| !c.is_empty() && c.len() <= FULL));
            }
            assert!(map.iter().eq(model.iter().map(|(id, v)| (*id, v))));
            let mut back = Vec::new();
            let mut pos = map.last_pos();
            while let Some(p) = pos {
                back.extend(map.at(p).map(|(id, _)| id));
                pos = map.before(p);
            }
            assert!(back.iter().eq(model.keys().rev()));
            while map.discard(100) {}
            assert!(map.is_empty() && map.chunks.is_empty());
        }
    }

    #[test]
    fn is_packed() {
        let mut map = IdMap::new();
        for n in 0..10_000 {
            map.push(StreamId::new(n, 0), ());
        }
        assert!(map.own_bytes() < 10_000 * 18, "{}", map.own_bytes());
        let mut one = IdMap::new();
        one.push(StreamId::MIN, ());
        assert!(one.own_bytes() <= 48, "{}", one.own_bytes());
    }
}
