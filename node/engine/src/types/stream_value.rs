//! A stream's value: its entries, and its consumer groups.

use super::stream_entries::StreamEntries;
use super::stream_group::StreamGroup;
use crate::digest::ValueDigest;
use crate::value::{DataType, Type, data_type_views};

/// The value of a stream key. Unlike other collections it may be empty.
#[derive(Clone, Debug, Default)]
pub struct StreamValue {
    /// The entries.
    pub entries: StreamEntries,
    /// The consumer groups.
    pub groups: StreamGroups,
}

/// The consumer groups of a stream, by name.
#[derive(Clone, Debug, Default)]
pub struct StreamGroups(Vec<(Box<[u8]>, Box<StreamGroup>)>);

impl StreamGroups {
    /// Number of groups.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The groups with their names.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &StreamGroup)> {
        self.0.iter().map(|(name, group)| (&name[..], &**group))
    }

    fn position(&self, name: &[u8]) -> Result<usize, usize> {
        self.0.binary_search_by(|(other, _)| (**other).cmp(name))
    }

    /// The group of that name.
    pub fn get(&self, name: &[u8]) -> Option<&StreamGroup> {
        let at = self.position(name).ok()?;
        self.0.get(at).map(|(_, group)| &**group)
    }

    /// The group of that name, to change.
    pub fn get_mut(&mut self, name: &[u8]) -> Option<&mut StreamGroup> {
        let at = self.position(name).ok()?;
        self.0.get_mut(at).map(|(_, group)| &mut **group)
    }

    /// Adds a group; whether the name was free.
    pub fn insert(&mut self, name: &[u8], group: StreamGroup) -> bool {
        match self.position(name) {
            Ok(_) => false,
            Err(at) => {
                self.0.insert(at, (name.into(), Box::new(group)));
                true
            }
        }
    }

    /// Takes a group out.
    pub fn remove(&mut self, name: &[u8]) -> Option<Box<StreamGroup>> {
        let at = self.position(name).ok()?;
        Some(self.0.remove(at).1)
    }
}

impl StreamValue {
    /// A stream without entries or groups.
    pub fn new() -> Self {
        Self::default()
    }

    /// A stream that has nothing but a group: how a group that is not needed any more is freed in steps.
    pub fn of_group(group: Box<StreamGroup>) -> Self {
        StreamValue {
            entries: StreamEntries::default(),
            groups: StreamGroups(vec![(Box::default(), group)]),
        }
    }

    /// About how many allocations there are to free.
    pub fn weight(&self) -> usize {
        let groups = self.groups.0.iter().map(|(_, g)| g.weight());
        self.entries.nodes_len() + groups.sum::<usize>()
    }

    /// Bytes of memory, roughly.
    pub fn memory(&self) -> usize {
        let groups = self.groups.0.iter();
        size_of::<Self>()
            + self.entries.memory()
            + groups
                .map(|(name, g)| name.len() + g.memory())
                .sum::<usize>()
    }
}

impl DataType for StreamValue {
    const TYPE: Type = Type::Stream;

    fn encoding(&self) -> &'static str {
        "stream"
    }

    fn len(&self) -> usize {
        self.entries.len()
    }

    fn discard(&mut self, elements: usize) -> bool {
        let mut left = elements;
        while let Some((_, group)) = self.groups.0.last_mut() {
            if left == 0 || group.discard(left) {
                return true;
            }
            self.groups.0.pop();
            // How much there was in a small group is not told.
            left = left.saturating_sub(16);
        }
        self.entries.discard(left.max(1))
    }

    /// As in Valkey, groups do not count.
    fn digest(&self, digest: &mut ValueDigest) {
        let (mut name_digits, mut value_digits) = (None, None);
        for entry in self.entries.all() {
            digest.mix(format!("{}.{}", entry.id.ms, entry.id.seq).as_bytes());
            for (name, value) in entry.fields() {
                digest.mix(name.bytes(&mut name_digits));
                digest.mix(value.bytes(&mut value_digits));
            }
        }
    }

    data_type_views!(Stream);
}
