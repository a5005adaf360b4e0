//! A set's value: an intset while all members are integers, a listpack while small, a table of records when large.

use std::collections::BTreeSet;

use super::limits::TypeLimits;
use super::listpack::{Elem, Listpack, MAX_BYTES, format_int};
use super::packed::PackedBox;
use super::record_table::{self, Put, RecordTable};
use super::set_ints::IntSet;
use crate::args;
use crate::keyspace::entry::NEVER;
use crate::rng::Rng;
use holdfast_resp::parse_i64;

/// Most members of an intset, whatever the configuration says.
const INTS_MAX: usize = 1 << 30;

/// The value of a set key. Members are unique.
#[derive(Debug, Clone)]
pub enum SetValue {
    /// All members are integers.
    Ints(IntSet),
    /// Small form, in the order in which members came.
    Pack(Listpack),
    /// Large form.
    Table(PackedBox<RecordTable>),
}

impl SetValue {
    /// An empty set in the form that suits `member` as the first of about `hint` members.
    pub fn new_for(member: &[u8], hint: usize, limits: &TypeLimits) -> Self {
        if parse_i64(member).is_some() && hint <= limits.set_intset_entries {
            SetValue::Ints(IntSet::default())
        } else if hint <= limits.set_entries {
            SetValue::Pack(Listpack::new())
        } else {
            SetValue::table_of(hint)
        }
    }

    /// An empty set that starts as an intset.
    pub fn new() -> Self {
        SetValue::Ints(IntSet::default())
    }

    fn table_of(capacity: usize) -> Self {
        SetValue::Table(PackedBox::new(RecordTable::with_capacity(capacity)))
    }

    /// A set from an intset that came from outside.
    pub fn from_ints(ints: IntSet, limits: &TypeLimits) -> Self {
        let large = ints.len() > limits.set_intset_entries.min(INTS_MAX);
        let mut set = SetValue::Ints(ints);
        if large {
            set.make_table(0);
        }
        set
    }

    /// A set from a listpack of members that came from outside.
    ///
    /// # Errors
    /// When a member appears twice.
    pub fn from_listpack(lp: Listpack, limits: &TypeLimits) -> Result<Self, &'static str> {
        let mut table = SetValue::table_of(lp.len());
        let mut small = lp.len() <= limits.set_entries;
        for m in lp.iter() {
            small &= m.byte_len() <= limits.set_value;
            if !table.put_in_table(m.bytes(&mut None)) {
                return Err("set listpack with a duplicate member");
            }
        }
        Ok(if small { SetValue::Pack(lp) } else { table })
    }

    /// Name of the form, as `OBJECT ENCODING` reports it.
    pub fn encoding(&self) -> &'static str {
        match self {
            SetValue::Ints(_) => "intset",
            SetValue::Pack(_) => "listpack",
            SetValue::Table(_) => "hashtable",
        }
    }

    /// Number of members.
    pub fn len(&self) -> usize {
        match self {
            SetValue::Ints(s) => s.len(),
            SetValue::Pack(lp) => lp.len(),
            SetValue::Table(t) => t.len(),
        }
    }

    /// Whether there is no member.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether `member` is one.
    pub fn contains(&self, member: &[u8]) -> bool {
        match self {
            SetValue::Ints(s) => parse_i64(member).is_some_and(|v| s.contains(v)),
            SetValue::Pack(lp) => lp.find(member, lp.first(), 1).is_some(),
            SetValue::Table(t) => t.get(member).is_some(),
        }
    }

    /// Takes the large form.
    fn make_table(&mut self, capacity: usize) {
        let mut table = RecordTable::with_capacity(capacity.max(self.len()));
        for m in self.iter() {
            table.put(m.bytes(&mut None), b"", NEVER);
        }
        *self = SetValue::Table(PackedBox::new(table));
    }

    /// Takes the large form now if about `hint` members are to come.
    pub fn prepare(&mut self, hint: usize, limits: &TypeLimits) {
        let large = match self {
            SetValue::Ints(_) => hint > limits.set_intset_entries,
            SetValue::Pack(_) => hint > limits.set_entries,
            SetValue::Table(_) => false,
        };
        if large {
            self.make_table(hint);
        }
    }

    fn put_in_table(&mut self, member: &[u8]) -> bool {
        let SetValue::Table(t) = self else {
            unreachable!("the caller made a table");
        };
        t.put(member, b"", NEVER) == Put::Added
    }

    /// Adds `member`; whether it is new.
    pub fn insert(&mut self, member: &[u8], limits: &TypeLimits) -> bool {
        match self {
            SetValue::Ints(s) => match parse_i64(member) {
                Some(v) => {
                    let added = s.insert(v);
                    if added && s.len() > limits.set_intset_entries.min(INTS_MAX) {
                        self.make_table(0);
                    }
                    added
                }
                None => {
                    let digits = |i: usize| format_int(s.at(i), &mut None).len();
                    let longest = match s.len() {
                        0 => 0,
                        n => digits(0).max(digits(n - 1)),
                    };
                    let small = s.len() < limits.set_entries
                        && member.len() <= limits.set_value
                        && longest <= limits.set_value;
                    if small {
                        let mut lp = Listpack::new();
                        for v in s.iter() {
                            lp.push_back(format_int(v, &mut None));
                        }
                        lp.push_back(member);
                        *self = SetValue::Pack(lp);
                        return true;
                    }
                    self.make_table(0);
                    self.put_in_table(member)
                }
            },
            SetValue::Pack(lp) => {
                if lp.find(member, lp.first(), 1).is_some() {
                    return false;
                }
                if lp.len() < limits.set_entries
                    && member.len() <= limits.set_value
                    && lp.byte_len() + member.len() <= MAX_BYTES
                {
                    lp.push_back(member);
                    return true;
                }
                self.make_table(0);
                self.put_in_table(member)
            }
            SetValue::Table(_) => self.put_in_table(member),
        }
    }

    /// Removes `member`; whether it was there.
    pub fn remove(&mut self, member: &[u8]) -> bool {
        match self {
            SetValue::Ints(s) => parse_i64(member).is_some_and(|v| s.remove(v)),
            SetValue::Pack(lp) => match lp.find(member, lp.first(), 1) {
                Some(at) => {
                    lp.remove(at, 1);
                    true
                }
                None => false,
            },
            SetValue::Table(t) => t.remove(member).is_some(),
        }
    }

    /// The member at `index` of the small forms.
    fn at(&self, index: usize) -> Option<Elem<'_>> {
        match self {
            SetValue::Ints(s) => (index < s.len()).then(|| Elem::Int(s.at(index))),
            SetValue::Pack(lp) => Some(lp.get(lp.seek(index)?)),
            SetValue::Table(_) => None,
        }
    }

    /// A member, each with the same probability.
    pub fn random(&self, rng: &mut Rng) -> Option<Elem<'_>> {
        match self {
            SetValue::Table(t) => t.random(rng).map(|r| Elem::Str(r.key)),
            _ => self.at(rng.index(self.len())),
        }
    }

    /// So many distinct members, or all if there are fewer; in no particular order.
    pub fn sample(&self, rng: &mut Rng, n: usize) -> Vec<Elem<'_>> {
        let len = self.len();
        if n >= len {
            return self.iter().collect();
        }
        let SetValue::Table(t) = self else {
            let picks = args::distinct_below(rng, len, n);
            return picks.into_iter().filter_map(|i| self.at(i)).collect();
        };
        if n > len / 3 {
            // Nearly all: one walk is less than so many draws.
            let mut picks = args::distinct_below(rng, len, n).into_iter().peekable();
            let all = t.iter().enumerate();
            return all
                .filter(|(i, _)| picks.next_if_eq(i).is_some())
                .map(|(_, r)| Elem::Str(r.key))
                .collect();
        }
        let mut seen = BTreeSet::new();
        let mut members = Vec::with_capacity(n);
        while members.len() < n {
            let Some(record) = t.random(rng) else {
                break;
            };
            if seen.insert(record.key) {
                members.push(Elem::Str(record.key));
            }
        }
        members
    }

    /// All members.
    pub fn iter(&self) -> Iter<'_> {
        match self {
            SetValue::Ints(ints) => Iter::Ints(ints, 0),
            SetValue::Pack(lp) => Iter::Pack(lp.iter()),
            SetValue::Table(t) => Iter::Table(t.iter()),
        }
    }

    /// One step of a scan: reports members, returns the next cursor (0: done).
    pub fn scan(&self, cursor: u64, mut report: impl FnMut(Elem<'_>)) -> u64 {
        match self {
            SetValue::Table(t) => t.scan(cursor, |r| report(Elem::Str(r.key))),
            _ => {
                self.iter().for_each(report);
                0
            }
        }
    }

    /// Whether a scan reports everything in one step.
    pub fn scans_at_once(&self) -> bool {
        !matches!(self, SetValue::Table(_))
    }

    /// Becomes an intset if the members allow it; for results that are known to hold integers only.
    pub fn try_ints(&mut self, limits: &TypeLimits) {
        if matches!(self, SetValue::Ints(_)) || self.len() > limits.set_intset_entries.min(INTS_MAX)
        {
            return;
        }
        let mut ints = IntSet::default();
        for m in self.iter() {
            let v = match m {
                Elem::Int(v) => Some(v),
                Elem::Str(s) => parse_i64(s),
            };
            match v {
                Some(v) => ints.insert(v),
                None => return,
            };
        }
        *self = SetValue::Ints(ints);
    }

    /// Becomes a listpack if it is a table within the limits.
    pub fn try_pack(&mut self, limits: &TypeLimits) {
        let SetValue::Table(t) = self else {
            return;
        };
        if t.len() > limits.set_entries || t.iter().any(|r| r.key.len() > limits.set_value) {
            return;
        }
        let mut lp = Listpack::new();
        t.iter().for_each(|r| lp.push_back(r.key));
        *self = SetValue::Pack(lp);
    }

    /// Bytes of memory that the value takes, roughly.
    pub fn memory(&self) -> usize {
        match self {
            SetValue::Ints(s) => s.memory(),
            SetValue::Pack(lp) => lp.memory(),
            SetValue::Table(t) => t.memory(),
        }
    }
}

impl Default for SetValue {
    fn default() -> Self {
        Self::new()
    }
}

/// Iterator over a set's members.
#[derive(Clone)]
pub enum Iter<'a> {
    /// Over integers, from an index on.
    Ints(&'a IntSet, usize),
    /// Over a listpack.
    Pack(super::listpack::Iter<'a>),
    /// Over the large form.
    Table(record_table::Iter<'a>),
}

impl<'a> Iterator for Iter<'a> {
    type Item = Elem<'a>;

    fn next(&mut self) -> Option<Elem<'a>> {
        match self {
            Iter::Ints(ints, i) => {
                let here = (*i < ints.len()).then(|| Elem::Int(ints.at(*i)));
                *i += 1;
                here
            }
            Iter::Pack(it) => it.next(),
            Iter::Table(it) => it.next().map(|r| Elem::Str(r.key)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn behaves_as_a_set_in_all_forms() {
        let limits = TypeLimits {
            set_entries: 30,
            set_intset_entries: 40,
            ..TypeLimits::default()
        };
        let mut seed = 1u64;
        let mut rnd = |n: u64| {
            seed = seed
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            (seed >> 33) % n
        };
        for (range, letters, want) in [
            (35, false, "intset"),
            (70, false, "hashtable"),
            (25, true, "listpack"),
            (90, true, "hashtable"),
        ] {
            let (mut set, mut model) = (SetValue::new(), BTreeSet::new());
            for _ in 0..4000 {
                let n = rnd(range);
                let m = if letters && n % 2 == 0 {
                    format!("m{n}")
                } else {
                    n.to_string()
                }
                .into_bytes();
                if rnd(3) == 0 {
                    assert_eq!(set.remove(&m), model.remove(&m));
                } else {
                    assert_eq!(set.insert(&m, &limits), model.insert(m.clone()));
                }
                assert_eq!(set.contains(&m), model.contains(&m));
                assert_eq!(set.len(), model.len());
            }
            assert_eq!(set.encoding(), want);
            assert_eq!(
                set.iter().map(|m| m.to_vec()).collect::<BTreeSet<_>>(),
                model
            );
            let mut rng = Rng::new(9);
            for n in [0, 1, 3, set.len() / 3 + 1, set.len() - 1, set.len() + 5] {
                let picks: BTreeSet<_> =
                    set.sample(&mut rng, n).iter().map(|m| m.to_vec()).collect();
                assert_eq!(picks.len(), n.min(set.len()));
                assert!(picks.is_subset(&model));
            }
            let (mut cursor, mut seen) = (0, BTreeSet::new());
            loop {
                cursor = set.scan(cursor, |m| {
                    seen.insert(m.to_vec());
                });
                if cursor == 0 {
                    break;
                }
            }
            assert_eq!(seen, model);
        }
    }
}
