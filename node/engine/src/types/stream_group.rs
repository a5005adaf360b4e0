//! Consumer groups of a stream: what was delivered to whom and is not acknowledged yet.

use super::id_map::IdMap;
use super::stream_id::StreamId;

/// The counter of a group that does not know how many entries it has read.
pub const UNKNOWN_READ: i64 = -1;

/// A consumer's number within its group.
pub type ConsumerId = u32;

/// No consumer has this number.
const NOBODY: ConsumerId = ConsumerId::MAX;

/// An entry that was delivered and not acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pending {
    /// When it was last delivered, in Unix milliseconds.
    pub delivered_ms: i64,
    /// How often it was delivered.
    pub deliveries: u64,
    /// To whom.
    pub consumer: ConsumerId,
}

/// A consumer of a group.
#[derive(Clone, Debug)]
pub struct Consumer {
    /// Its name.
    pub name: Box<[u8]>,
    /// When it last asked for something, in Unix milliseconds.
    pub seen_ms: i64,
    /// When it last got something; -1 for never.
    pub active_ms: i64,
    /// The ids of its pending entries.
    pub pending: IdMap<()>,
}

/// A consumer group.
#[derive(Clone, Debug)]
pub struct StreamGroup {
    /// The last entry that was delivered.
    pub last_id: StreamId,
    /// How many entries of the stream are not behind `last_id`, or [`UNKNOWN_READ`].
    pub entries_read: i64,
    pending: IdMap<Pending>,
    /// By number; the place of a consumer that went is used again.
    consumers: Vec<Option<Box<Consumer>>>,
    /// The numbers, by the consumers' names.
    by_name: Vec<ConsumerId>,
}

impl StreamGroup {
    /// A group without consumers.
    pub fn new(last_id: StreamId, entries_read: i64) -> StreamGroup {
        StreamGroup {
            last_id,
            entries_read,
            pending: IdMap::new(),
            consumers: Vec::new(),
            by_name: Vec::new(),
        }
    }

    /// All pending entries.
    pub fn pending(&self) -> &IdMap<Pending> {
        &self.pending
    }

    /// The pending entry of an id, to change what is known of its delivery.
    pub fn pending_mut(&mut self, id: StreamId) -> Option<&mut Pending> {
        self.pending.get_mut(id)
    }

    /// Number of consumers.
    pub fn consumers_len(&self) -> usize {
        self.by_name.len()
    }

    /// The consumers, by name.
    pub fn consumers(&self) -> impl Iterator<Item = &Consumer> {
        self.by_name.iter().filter_map(|n| self.consumer(*n))
    }

    /// A consumer by its number.
    pub fn consumer(&self, number: ConsumerId) -> Option<&Consumer> {
        self.consumers.get(number as usize)?.as_deref()
    }

    /// A consumer by its number, to change its times.
    pub fn consumer_mut(&mut self, number: ConsumerId) -> Option<&mut Consumer> {
        self.consumers.get_mut(number as usize)?.as_deref_mut()
    }

    /// The name of a pending entry's consumer.
    pub fn owner(&self, pending: &Pending) -> &[u8] {
        self.consumer(pending.consumer)
            .map_or(&b""[..], |c| &c.name)
    }

    fn position(&self, name: &[u8]) -> Result<usize, usize> {
        self.by_name
            .binary_search_by(|n| self.consumer(*n).map_or(&b""[..], |c| &c.name).cmp(name))
    }

    /// The number of the consumer of that name.
    pub fn find(&self, name: &[u8]) -> Option<ConsumerId> {
        let at = self.position(name).ok()?;
        self.by_name.get(at).copied()
    }

    /// The number of the consumer of that name, which is created if there is none; whether it was.
    pub fn find_or_create(&mut self, name: &[u8], now_ms: i64) -> (ConsumerId, bool) {
        let at = match self.position(name) {
            Ok(at) => return (self.by_name[at], false),
            Err(at) => at,
        };
        let consumer = Some(Box::new(Consumer {
            name: name.into(),
            seen_ms: now_ms,
            active_ms: -1,
            pending: IdMap::new(),
        }));
        // While there are as many places as consumers none is free.
        let free = (self.by_name.len() < self.consumers.len())
            .then(|| self.consumers.iter().position(Option::is_none))
            .flatten();
        let number = match free {
            Some(place) => {
                self.consumers[place] = consumer;
                place as ConsumerId
            }
            None => {
                self.consumers.push(consumer);
                (self.consumers.len() - 1) as ConsumerId
            }
        };
        self.by_name.insert(at, number);
        (number, true)
    }

    /// Removes a consumer with all that is pending for it; how many entries that was.
    pub fn remove_consumer(&mut self, name: &[u8]) -> Option<usize> {
        let at = self.position(name).ok()?;
        let number = self.by_name.remove(at);
        let consumer = self.consumers.get_mut(number as usize)?.take()?;
        for (id, ()) in consumer.pending.iter() {
            self.pending.remove(id);
        }
        Some(consumer.pending.len())
    }

    /// Makes an entry pending for a consumer, whosever it was.
    pub fn assign(&mut self, id: StreamId, pending: Pending) {
        let before = self.pending.get_mut(id).map(|p| {
            let before = p.consumer;
            *p = pending;
            before
        });
        match before {
            Some(before) if before == pending.consumer => return,
            Some(before) => {
                if let Some(consumer) = self.consumer_mut(before) {
                    consumer.pending.remove(id);
                }
            }
            None => {
                self.pending.insert(id, pending);
            }
        }
        if let Some(consumer) = self.consumer_mut(pending.consumer) {
            consumer.pending.insert(id, ());
        }
    }

    /// Forgets that an entry is pending. Whether it was.
    pub fn acknowledge(&mut self, id: StreamId) -> bool {
        let Some(pending) = self.pending.remove(id) else {
            return false;
        };
        if let Some(consumer) = self.consumer_mut(pending.consumer) {
            consumer.pending.remove(id);
        }
        true
    }

    /// Adds a pending entry as it comes from a file, which says later whose it is.
    ///
    /// # Errors
    /// When there is one of this id.
    pub fn load_pending(
        &mut self,
        id: StreamId,
        delivered_ms: i64,
        deliveries: u64,
    ) -> Result<(), &'static str> {
        let pending = Pending {
            delivered_ms,
            deliveries,
            consumer: NOBODY,
        };
        if self.pending.contains(id) {
            return Err("stream group with an entry pending twice");
        }
        self.pending.insert(id, pending);
        Ok(())
    }

    /// Adds a consumer as it comes from a file.
    ///
    /// # Errors
    /// When there is one of this name.
    pub fn load_consumer(
        &mut self,
        name: &[u8],
        seen_ms: i64,
        active_ms: i64,
    ) -> Result<ConsumerId, &'static str> {
        let (number, created) = self.find_or_create(name, seen_ms);
        if !created {
            return Err("Duplicate stream consumer detected");
        }
        if let Some(consumer) = self.consumer_mut(number) {
            consumer.active_ms = active_ms;
        }
        Ok(number)
    }

    /// Says whose a pending entry is that came from a file.
    ///
    /// # Errors
    /// When there is no such entry, or it is somebody's already.
    pub fn load_owner(&mut self, id: StreamId, consumer: ConsumerId) -> Result<(), &'static str> {
        let pending = self.pending.get_mut(id);
        let pending =
            pending.ok_or("stream consumer with an entry that its group does not have")?;
        if pending.consumer != NOBODY {
            return Err("Duplicated consumer PEL entry");
        }
        pending.consumer = consumer;
        if let Some(consumer) = self.consumer_mut(consumer) {
            consumer.pending.insert(id, ());
        }
        Ok(())
    }

    /// Whether all pending entries from a file are somebody's.
    ///
    /// # Errors
    /// When one is not.
    pub fn check_owners(&self) -> Result<(), &'static str> {
        match self.pending.iter().all(|(_, p)| p.consumer != NOBODY) {
            true => Ok(()),
            false => Err("stream group with an entry pending for nobody"),
        }
    }

    /// Frees up to so many pending entries and consumers. Whether there are more.
    pub(super) fn discard(&mut self, elements: usize) -> bool {
        self.by_name.clear();
        let mut left = elements;
        while left > 0 && !self.pending.is_empty() {
            let before = self.pending.len();
            self.pending.discard(left);
            left -= before - self.pending.len();
        }
        while left > 0 {
            match self.consumers.last_mut() {
                None => return false,
                Some(None) => {
                    self.consumers.pop();
                    left -= 1;
                }
                Some(Some(consumer)) => {
                    let before = consumer.pending.len();
                    if consumer.pending.discard(left) {
                        return true;
                    }
                    left = left.saturating_sub(before + 1);
                    self.consumers.pop();
                }
            }
        }
        true
    }

    /// About how many allocations and elements there are to free.
    pub(super) fn weight(&self) -> usize {
        1 + self.consumers.len() + self.pending.len() / 16
    }

    /// Bytes of memory, roughly.
    pub fn memory(&self) -> usize {
        let consumers = self.consumers.iter().flatten();
        size_of::<Self>()
            + self.pending.own_bytes()
            + self.consumers.capacity() * 12
            + consumers
                .map(|c| size_of::<Consumer>() + c.name.len() + c.pending.own_bytes())
                .sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;
    use std::collections::BTreeMap;

    #[test]
    fn who_has_what_is_told_alike_from_both_sides() {
        let mut rng = Rng::new(11);
        let mut group = StreamGroup::new(StreamId::MIN, 0);
        let mut model: BTreeMap<StreamId, Vec<u8>> = BTreeMap::new();
        for _ in 0..20_000 {
            let name = vec![b'a' + rng.index(6) as u8];
            let id = StreamId::new(rng.below(300), 0);
            match rng.index(20) {
                0..12 => {
                    let (consumer, created) = group.find_or_create(&name, 5);
                    assert!(!created || !model.values().any(|n| *n == name));
                    group.assign(
                        id,
                        Pending {
                            delivered_ms: 1,
                            deliveries: 1,
                            consumer,
                        },
                    );
                    model.insert(id, name);
                }
                12..19 => assert_eq!(group.acknowledge(id), model.remove(&id).is_some()),
                _ => {
                    let count = model.values().filter(|n| **n == name).count();
                    let there = group.find(&name).is_some();
                    assert_eq!(group.remove_consumer(&name), there.then_some(count));
                    model.retain(|_, n| *n != name);
                }
            }
            assert_eq!(group.pending().len(), model.len());
        }
        let owners = group.pending().iter().map(|(id, p)| (id, group.owner(p)));
        assert!(owners.eq(model.iter().map(|(id, n)| (*id, &n[..]))));
        for consumer in group.consumers() {
            let own = model.iter().filter(|(_, n)| n[..] == *consumer.name);
            assert!(
                consumer
                    .pending
                    .iter()
                    .map(|(id, ())| id)
                    .eq(own.map(|(id, _)| *id))
            );
        }
        let names: Vec<_> = group.consumers().map(|c| c.name.to_vec()).collect();
        assert!(names.is_sorted());
        let mut steps = 0;
        while group.discard(10) {
            steps += 1;
        }
        assert!(steps > 10 && group.pending().is_empty());
    }
}
