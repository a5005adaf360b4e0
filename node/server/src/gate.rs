//! Which uncommitted position a reply depends on.
//!
//! A write's reply depends on the write itself. A read's depends on the newest uncommitted write of
//! the keys it names; whole-keyspace reads depend on the newest of all. Only used while
//! [`crate::journal::Journal::gates_replies`].

use crate::journal::JournalPos;
use std::collections::{BTreeMap, VecDeque};

type Key = (u16, Box<[u8]>);

/// Uncommitted positions by key. Holds as many entries as there are uncommitted writes of keys, which
/// the journal bounds.
#[derive(Debug, Default)]
pub struct Gate {
    keys: BTreeMap<Key, JournalPos>,
    /// In order of position, for cleaning up as commits come in.
    order: VecDeque<(JournalPos, Key)>,
    /// The newest write that touched every key (`FLUSHALL`).
    all: JournalPos,
    durable: JournalPos,
}

impl Gate {
    /// A key was written by the effects that end at `at`.
    pub fn on_write(&mut self, db: u16, key: &[u8], at: JournalPos) {
        let key: Key = (db, key.into());
        if self.keys.insert(key.clone(), at) != Some(at) {
            self.order.push_back((at, key));
        }
    }

    /// Every key was written by the effects that end at `at`.
    pub fn on_write_all(&mut self, at: JournalPos) {
        self.all = at;
    }

    /// All up to `upto` is committed: what depended on that depends on nothing now.
    pub fn on_durable(&mut self, upto: JournalPos) {
        self.durable = self.durable.max(upto);
        while let Some((at, _)) = self.order.front()
            && *at <= upto
        {
            let Some((at, key)) = self.order.pop_front() else {
                break;
            };
            if self.keys.get(&key) == Some(&at) {
                self.keys.remove(&key);
            }
        }
    }

    /// The position that a read of a key depends on; zero if none.
    pub fn of_key(&self, db: u16, key: &[u8]) -> JournalPos {
        let all = if self.all > self.durable {
            self.all
        } else {
            JournalPos(0)
        };
        if self.keys.is_empty() {
            return all;
        }
        self.keys
            .get(&(db, key.into()))
            .copied()
            .unwrap_or_default()
            .max(all)
    }

    /// Forgets everything: the memory it spoke of is gone.
    pub fn clear(&mut self) {
        *self = Gate {
            durable: self.durable,
            ..Gate::default()
        };
    }

    /// How many keys have uncommitted writes.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether no key has uncommitted writes.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.all <= self.durable
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_depends_on_the_newest_uncommitted_write_of_its_key() {
        let mut g = Gate::default();
        g.on_write(0, b"a", JournalPos(10));
        g.on_write(0, b"b", JournalPos(20));
        g.on_write(0, b"a", JournalPos(30));
        assert_eq!(g.of_key(0, b"a"), JournalPos(30));
        assert_eq!(g.of_key(1, b"a"), JournalPos(0));
        g.on_durable(JournalPos(20));
        assert_eq!(g.of_key(0, b"a"), JournalPos(30));
        assert_eq!(g.of_key(0, b"b"), JournalPos(0));
        g.on_durable(JournalPos(30));
        assert!(g.is_empty());
        g.on_write_all(JournalPos(40));
        assert_eq!(g.of_key(3, b"x"), JournalPos(40));
        g.on_durable(JournalPos(40));
        assert!(g.is_empty());
    }
}
