//! A set's value: an intset while all members are integers, a listpack while small, a hash table when large.

use super::hash_table::{Table, hash_bytes};
use super::limits::TypeLimits;
use super::listpack::{Elem, Listpack, MAX_BYTES, format_int};
use super::set_ints::IntSet;
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
    Table(Table<Box<[u8]>>),
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
        SetValue::Table(Table::with_capacity(capacity.min(1 << 16)))
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
            if !table.put_in_table(m.to_boxed()) {
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
            SetValue::Table(t) => t.find(hash_bytes(member), |m| **m == *member).is_some(),
        }
    }

    /// Takes the large form.
    fn make_table(&mut self, capacity: usize) {
        let mut table = Table::with_capacity(capacity.max(self.len()).min(1 << 16));
        for m in self.iter() {
            let m = m.to_boxed();
            table.insert(hash_bytes(&m), m);
        }
        *self = SetValue::Table(table);
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

    fn put_in_table(&mut self, member: Box<[u8]>) -> bool {
        let SetValue::Table(t) = self else {
            unreachable!("the caller made a table");
        };
        let hash = hash_bytes(&member);
        if t.find(hash, |m| *m == member).is_some() {
            return false;
        }
        t.insert(hash, member);
        true
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
                    self.put_in_table(member.into())
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
                self.put_in_table(member.into())
            }
            SetValue::Table(_) => self.put_in_table(member.into()),
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
            SetValue::Table(t) => match t.find(hash_bytes(member), |m| **m == *member) {
                Some(at) => {
                    t.remove(at);
                    true
                }
                None => false,
            },
        }
    }

    /// The member at `index` in iteration order: what a random pick takes.
    pub fn at(&self, index: usize) -> Option<Elem<'_>> {
        match self {
            SetValue::Ints(s) => (index < s.len()).then(|| Elem::Int(s.at(index))),
            SetValue::Pack(lp) => Some(lp.get(lp.seek(index)?)),
            SetValue::Table(t) => t.get(index).map(|m| Elem::Str(m)),
        }
    }

    /// All members.
    pub fn iter(&self) -> Iter<'_> {
        match self {
            SetValue::Pack(lp) => Iter::Pack(lp.iter()),
            _ => Iter::Indexed(self, 0),
        }
    }

    /// One step of a scan: reports members, returns the next cursor (0: done).
    pub fn scan(&self, cursor: u64, mut report: impl FnMut(Elem<'_>)) -> u64 {
        match self {
            SetValue::Table(t) => t.scan(cursor, |m| report(Elem::Str(m))),
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
        if t.len() > limits.set_entries || t.iter().any(|m| m.len() > limits.set_value) {
            return;
        }
        let mut lp = Listpack::new();
        t.iter().for_each(|m| lp.push_back(m));
        *self = SetValue::Pack(lp);
    }

    /// Bytes of memory that the value takes, roughly.
    pub fn memory(&self) -> usize {
        match self {
            SetValue::Ints(s) => s.as_bytes().len() + 24,
            SetValue::Pack(lp) => lp.byte_len() + 24,
            SetValue::Table(t) => t.own_bytes() + t.iter().map(|m| m.len() + 8).sum::<usize>(),
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
    /// Over a listpack.
    Pack(super::listpack::Iter<'a>),
    /// Over the other forms, from an index on.
    Indexed(&'a SetValue, usize),
}

impl<'a> Iterator for Iter<'a> {
    type Item = Elem<'a>;

    fn next(&mut self) -> Option<Elem<'a>> {
        match self {
            Iter::Pack(it) => it.next(),
            Iter::Indexed(set, i) => {
                let m = set.at(*i)?;
                *i += 1;
                Some(m)
            }
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
