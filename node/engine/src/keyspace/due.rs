//! When the earliest of many things is due: a number for each place, and the least of them found quickly.
//!
//! ```text
//!  top      least of 64 chunks      ┌───────┬───────┐
//!  chunks   1024 places each        │ chunk │ chunk │ …      a chunk without anything due is not there
//!  chunk    32 × least of 32        │▔▔▔▔▔▔▔│      and is no longer than its last place wants
//!           1024 × due              └───────┘
//! ```
//!
//! A place's number may be too early, never too late: whoever comes when it is due looks, and says when to come again. So to note a
//! time is cheap, and to take one back costs nothing. With some 20 keys to a place this takes less than half a byte a key.

/// Nothing is due.
pub(crate) const NEVER: u64 = u64::MAX;

const ROW: usize = 32;
const CHUNK: usize = ROW * ROW;
const TOP: usize = 64;

/// As long as the last place that has ever been due wants: most tables of a cluster's slots have few places.
struct Chunk {
    due: Vec<u64>,
    rows: Vec<u64>,
    least: u64,
}

impl Chunk {
    fn at(&self, in_chunk: usize) -> u64 {
        self.due.get(in_chunk).copied().unwrap_or(NEVER)
    }

    #[cold]
    fn grow(&mut self, places: usize) {
        let places = places.next_power_of_two().min(CHUNK);
        self.due.reserve_exact(places - self.due.len());
        self.due.resize(places, NEVER);
        self.rows.resize(places.div_ceil(ROW), NEVER);
    }
}

/// See the module's documentation. Times are what the caller takes them for; [`NEVER`] is none.
#[derive(Default)]
pub(crate) struct DueTree {
    chunks: Vec<Option<Box<Chunk>>>,
    top: Vec<u64>,
}

fn least(of: &[u64]) -> u64 {
    of.iter().copied().min().unwrap_or(NEVER)
}

impl DueTree {
    /// Makes a place due at this time unless it is due earlier.
    #[inline]
    pub fn note(&mut self, place: usize, at: u64) {
        let chunk = place / CHUNK;
        if self.chunks.len() <= chunk {
            self.chunks.resize_with(chunk + 1, || None);
            self.top.resize(chunk / TOP + 1, NEVER);
        }
        let c = self.chunks[chunk].get_or_insert_with(|| {
            Box::new(Chunk {
                due: Vec::new(),
                rows: Vec::new(),
                least: NEVER,
            })
        });
        let in_chunk = place % CHUNK;
        if c.due.len() <= in_chunk {
            c.grow(in_chunk + 1);
        }
        c.due[in_chunk] = c.due[in_chunk].min(at);
        c.rows[in_chunk / ROW] = c.rows[in_chunk / ROW].min(at);
        c.least = c.least.min(at);
        let top = &mut self.top[chunk / TOP];
        *top = (*top).min(at);
    }

    /// When a place is due.
    pub fn at(&self, place: usize) -> u64 {
        match self.chunks.get(place / CHUNK) {
            Some(Some(c)) => c.at(place % CHUNK),
            _ => NEVER,
        }
    }

    /// Sets when a place is due, be it later than before.
    pub fn set(&mut self, place: usize, at: u64) {
        let chunk = place / CHUNK;
        let before = self.at(place);
        if at <= before {
            if at < before {
                self.note(place, at);
            }
            return;
        }
        let Some(Some(c)) = self.chunks.get_mut(chunk) else {
            return;
        };
        let in_chunk = place % CHUNK;
        // What is set to later than it was has been due before, and has its place.
        c.due[in_chunk] = at;
        let row = in_chunk / ROW;
        let end = c.due.len().min((row + 1) * ROW);
        c.rows[row] = least(&c.due[row * ROW..end]);
        c.least = least(&c.rows);
        if c.least == NEVER {
            self.chunks[chunk] = None;
        }
        let from = chunk / TOP * TOP;
        self.top[chunk / TOP] = self.chunks[from..self.chunks.len().min(from + TOP)]
            .iter()
            .flatten()
            .map(|c| c.least)
            .min()
            .unwrap_or(NEVER);
    }

    /// The time of the earliest.
    pub fn least(&self) -> u64 {
        least(&self.top)
    }

    /// The first place at or behind `from` that is due before `now`.
    pub fn next_due(&self, from: usize, now: u64) -> Option<usize> {
        let mut place = from;
        while place / CHUNK < self.chunks.len() {
            let chunk = place / CHUNK;
            if chunk.is_multiple_of(TOP)
                && place.is_multiple_of(CHUNK)
                && self.top[chunk / TOP] >= now
            {
                place = (chunk + TOP) * CHUNK;
                continue;
            }
            let Some(c) = self.chunks[chunk].as_ref().filter(|c| c.least < now) else {
                place = (chunk + 1) * CHUNK;
                continue;
            };
            let in_chunk = place % CHUNK;
            if in_chunk >= c.due.len() {
                place = (chunk + 1) * CHUNK;
                continue;
            }
            if in_chunk.is_multiple_of(ROW) && c.rows[in_chunk / ROW] >= now {
                place += ROW;
                continue;
            }
            if c.due[in_chunk] < now {
                return Some(place);
            }
            place += 1;
        }
        None
    }

    /// A place that something is noted for: `from`, or the next one behind it, in a circle.
    pub fn any(&self, from: usize) -> Option<usize> {
        self.next_due(from, NEVER)
            .or_else(|| self.next_due(0, NEVER))
    }

    /// Bytes that the tree takes.
    pub fn bytes(&self) -> usize {
        let times = |c: &Chunk| (c.due.len() + c.rows.len()) * size_of::<u64>();
        let chunks = self.chunks.iter().flatten();
        chunks.map(|c| size_of::<Chunk>() + times(c)).sum::<usize>()
            + self.chunks.capacity() * size_of::<usize>()
            + self.top.capacity() * size_of::<u64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;
    use std::collections::BTreeMap;

    /// A cluster has 16,384 tables of a few groups each.
    #[test]
    fn a_few_places_take_little() {
        let mut tree = DueTree::default();
        tree.note(0, 7);
        assert!(tree.bytes() < 150, "{}", tree.bytes());
        for place in 1..CHUNK {
            tree.note(place, 7);
        }
        assert!(tree.bytes() < CHUNK * 9, "{}", tree.bytes());
    }

    #[test]
    fn behaves_as_a_map_of_times() {
        let mut rng = Rng::new(2);
        let mut tree = DueTree::default();
        let mut model: BTreeMap<usize, u64> = BTreeMap::new();
        for step in 0..40_000 {
            let place = match rng.below(3) {
                0 => rng.index(40),
                1 => rng.index(3000),
                _ => rng.index(CHUNK * TOP * 2 + 5),
            };
            let at = rng.below(1000);
            match rng.below(10) {
                0..3 => {
                    tree.note(place, at);
                    let due = model.entry(place).or_insert(NEVER);
                    *due = at.min(*due);
                }
                3..6 => {
                    tree.set(place, at);
                    model.insert(place, at);
                }
                _ => {
                    tree.set(place, NEVER);
                    model.remove(&place);
                    if let Some((place, _)) = model.pop_first() {
                        tree.set(place, NEVER);
                    }
                }
            }
            assert_eq!(tree.at(place), model.get(&place).copied().unwrap_or(NEVER));
            if step % 50 == 0 {
                assert_eq!(tree.least(), model.values().copied().min().unwrap_or(NEVER));
                let (from, now) = (rng.index(3000), rng.below(1000));
                let due = model.range(from..).find(|(_, at)| **at < now);
                assert_eq!(
                    tree.next_due(from, now),
                    due.map(|(p, _)| *p),
                    "step {step}"
                );
                assert_eq!(tree.any(from).is_some(), !model.is_empty());
            }
        }
    }
}
