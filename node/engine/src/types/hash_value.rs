//! A hash's value: a listpack of field, value, field, value … while small, a hash table when large.

use super::hash_table::{Table, hash_bytes};
use super::limits::TypeLimits;
use super::listpack::{Elem, Listpack, MAX_BYTES};

/// A field of a large hash.
#[derive(Debug, Clone)]
pub struct Field {
    /// The field's name.
    pub name: Box<[u8]>,
    /// The field's value.
    pub value: Box<[u8]>,
}

/// The value of a hash key. Fields are unique.
#[derive(Debug, Clone)]
pub enum HashValue {
    /// Small form: fields and values alternate, in the order in which they came.
    Pack(Listpack),
    /// Large form.
    Table(Table<Field>),
}

impl Default for HashValue {
    fn default() -> Self {
        Self::new()
    }
}

impl HashValue {
    /// A hash without fields, in the small form.
    pub fn new() -> Self {
        HashValue::Pack(Listpack::new())
    }

    /// A hash from a listpack of fields and values that came from outside.
    ///
    /// # Errors
    /// When the count is odd or a field appears twice.
    pub fn from_listpack(lp: Listpack, limits: &TypeLimits) -> Result<Self, &'static str> {
        let n = lp.len();
        if !n.is_multiple_of(2) {
            return Err("hash listpack with an odd number of elements");
        }
        // A large hash in a listpack would make every access a walk; check for duplicates by building a table.
        let mut table = HashValue::table_of(n / 2);
        let mut small = n / 2 <= limits.hash_entries;
        let mut it = lp.iter();
        while let (Some(f), Some(v)) = (it.next(), it.next()) {
            small &= f.byte_len() <= limits.hash_value && v.byte_len() <= limits.hash_value;
            if !table.put_in_table(f.to_boxed(), v.to_boxed()) {
                return Err("hash listpack with a duplicate field");
            }
        }
        Ok(if small { HashValue::Pack(lp) } else { table })
    }

    fn table_of(capacity: usize) -> Self {
        HashValue::Table(Table::with_capacity(capacity.min(1 << 16)))
    }

    /// Name of the form, as `OBJECT ENCODING` reports it.
    pub fn encoding(&self) -> &'static str {
        match self {
            HashValue::Pack(_) => "listpack",
            HashValue::Table(_) => "hashtable",
        }
    }

    /// Number of fields.
    pub fn len(&self) -> usize {
        match self {
            HashValue::Pack(lp) => lp.len() / 2,
            HashValue::Table(t) => t.len(),
        }
    }

    /// Whether there is no field.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The value of `field`.
    pub fn get(&self, field: &[u8]) -> Option<Elem<'_>> {
        match self {
            HashValue::Pack(lp) => {
                let at = lp.find(field, lp.first(), 2)?;
                Some(lp.get(lp.next(at)?))
            }
            HashValue::Table(t) => {
                let at = t.find(hash_bytes(field), |f| *f.name == *field)?;
                t.get(at).map(|f| Elem::Str(&f.value))
            }
        }
    }

    /// Whether there is such a field.
    pub fn contains(&self, field: &[u8]) -> bool {
        self.get(field).is_some()
    }

    /// Takes the large form.
    fn make_table(&mut self, capacity: usize) {
        if let HashValue::Pack(lp) = self {
            let mut table = Table::with_capacity(capacity.max(lp.len() / 2).min(1 << 16));
            let mut it = lp.iter();
            while let (Some(f), Some(v)) = (it.next(), it.next()) {
                let name = f.to_boxed();
                table.insert(
                    hash_bytes(&name),
                    Field {
                        name,
                        value: v.to_boxed(),
                    },
                );
            }
            *self = HashValue::Table(table);
        }
    }

    /// Takes the large form now if these fields and values, about to be set, ask for it.
    pub fn prepare<'a>(
        &mut self,
        pairs: impl ExactSizeIterator<Item = &'a [u8]>,
        limits: &TypeLimits,
    ) {
        let HashValue::Pack(lp) = self else {
            return;
        };
        let fields = pairs.len() / 2;
        let mut bytes = 0;
        let large = fields > limits.hash_entries
            || pairs.into_iter().any(|s| {
                bytes += s.len();
                s.len() > limits.hash_value
            })
            || lp.byte_len() + bytes > MAX_BYTES;
        if large {
            self.make_table(fields);
        }
    }

    /// Sets `field`; whether it is new.
    pub fn set(&mut self, field: &[u8], value: &[u8], limits: &TypeLimits) -> bool {
        if let HashValue::Pack(lp) = self {
            let large = field.len() > limits.hash_value
                || value.len() > limits.hash_value
                || lp.byte_len() + field.len() + value.len() > MAX_BYTES;
            if !large {
                if let Some(at) = lp.find(field, lp.first(), 2) {
                    let at = lp.next(at).expect("a value follows its field");
                    lp.replace(at, value);
                    return false;
                }
                lp.push_back(field);
                lp.push_back(value);
                if lp.len() / 2 > limits.hash_entries {
                    self.make_table(0);
                }
                return true;
            }
            self.make_table(0);
        }
        self.put_in_table(field.into(), value.into())
    }

    fn put_in_table(&mut self, name: Box<[u8]>, value: Box<[u8]>) -> bool {
        let HashValue::Table(t) = self else {
            unreachable!("the caller made a table");
        };
        let hash = hash_bytes(&name);
        match t.find(hash, |f| f.name == name) {
            Some(at) => {
                t.get_mut(at).expect("just found").value = value;
                false
            }
            None => {
                t.insert(hash, Field { name, value });
                true
            }
        }
    }

    /// Removes `field`; whether it was there.
    pub fn remove(&mut self, field: &[u8]) -> bool {
        match self {
            HashValue::Pack(lp) => match lp.find(field, lp.first(), 2) {
                Some(at) => {
                    lp.remove(at, 2);
                    true
                }
                None => false,
            },
            HashValue::Table(t) => match t.find(hash_bytes(field), |f| *f.name == *field) {
                Some(at) => {
                    t.remove(at);
                    true
                }
                None => false,
            },
        }
    }

    /// The field at `index` in iteration order: what a random pick takes.
    pub fn at(&self, index: usize) -> Option<(Elem<'_>, Elem<'_>)> {
        match self {
            HashValue::Pack(lp) => {
                let mut it = lp.iter_from(lp.seek(index.checked_mul(2)?));
                Some((it.next()?, it.next()?))
            }
            HashValue::Table(t) => t
                .get(index)
                .map(|f| (Elem::Str(&f.name), Elem::Str(&f.value))),
        }
    }

    /// All fields with their values.
    pub fn iter(&self) -> Iter<'_> {
        match self {
            HashValue::Pack(lp) => Iter::Pack(lp.iter()),
            HashValue::Table(t) => Iter::Table(t, 0),
        }
    }

    /// One step of a scan: reports fields, returns the next cursor (0: done).
    pub fn scan(&self, cursor: u64, mut report: impl FnMut(Elem<'_>, Elem<'_>)) -> u64 {
        match self {
            HashValue::Pack(_) => {
                for (f, v) in self.iter() {
                    report(f, v);
                }
                0
            }
            HashValue::Table(t) => {
                t.scan(cursor, |f| report(Elem::Str(&f.name), Elem::Str(&f.value)))
            }
        }
    }

    /// Whether a scan reports everything in one step.
    pub fn scans_at_once(&self) -> bool {
        matches!(self, HashValue::Pack(_))
    }

    /// Bytes of memory that the value takes, roughly.
    pub fn memory(&self) -> usize {
        match self {
            HashValue::Pack(lp) => lp.byte_len() + 24,
            HashValue::Table(t) => {
                t.own_bytes()
                    + t.iter()
                        .map(|f| f.name.len() + f.value.len() + 16)
                        .sum::<usize>()
            }
        }
    }
}

/// Iterator over a hash's fields.
pub enum Iter<'a> {
    /// Over the small form.
    Pack(super::listpack::Iter<'a>),
    /// Over the large form, from an index on.
    Table(&'a Table<Field>, usize),
}

impl<'a> Iterator for Iter<'a> {
    type Item = (Elem<'a>, Elem<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Iter::Pack(it) => Some((it.next()?, it.next()?)),
            Iter::Table(t, i) => {
                let f = t.get(*i)?;
                *i += 1;
                Some((Elem::Str(&f.name), Elem::Str(&f.value)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn behaves_as_a_map_in_both_forms() {
        let limits = TypeLimits {
            hash_entries: 20,
            ..TypeLimits::default()
        };
        let mut seed = 1u64;
        let mut rnd = |n: u64| {
            seed = seed
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            (seed >> 33) % n
        };
        for range in [15u64, 60] {
            let (mut hash, mut model) = (HashValue::new(), BTreeMap::new());
            for _ in 0..5000 {
                let field = format!("{}", rnd(range)).into_bytes();
                let value = vec![b'v'; rnd(64) as usize];
                match rnd(3) {
                    0 => assert_eq!(hash.remove(&field), model.remove(&field).is_some()),
                    _ => assert_eq!(
                        hash.set(&field, &value, &limits),
                        model.insert(field.clone(), value).is_none()
                    ),
                }
                assert_eq!(
                    hash.get(&field).map(|v| v.to_vec()),
                    model.get(&field).cloned()
                );
                assert_eq!(hash.len(), model.len());
            }
            assert_eq!(
                hash.encoding(),
                if range == 15 { "listpack" } else { "hashtable" }
            );
            let got: BTreeMap<_, _> = hash.iter().map(|(f, v)| (f.to_vec(), v.to_vec())).collect();
            assert_eq!(got, model);
            for i in 0..hash.len() {
                let (f, v) = hash.at(i).unwrap();
                assert_eq!(model.get(&f.to_vec()), Some(&v.to_vec()));
            }
            let (mut cursor, mut seen) = (0, BTreeMap::new());
            loop {
                cursor = hash.scan(cursor, |f, v| {
                    seen.insert(f.to_vec(), v.to_vec());
                });
                if cursor == 0 {
                    break;
                }
            }
            assert_eq!(seen, model);
        }
    }

    #[test]
    fn the_form_follows_the_limits() {
        let limits = TypeLimits::default();
        let mut h = HashValue::new();
        h.set(b"f", &[b'x'; 64], &limits);
        assert_eq!(h.encoding(), "listpack");
        h.set(b"f", &[b'x'; 65], &limits);
        assert_eq!(h.encoding(), "hashtable");
    }
}
