//! A hash's value: a listpack of field, value, field, value … while small, a table of records when large.
//!
//! Only the large form has fields that expire. A field whose time has passed is hidden from clients and stays until its deletion is an
//! effect: methods that look at fields for a client take the time and do not see expired ones; with [`ALL_FIELDS`] for the time they see all.

use super::limits::TypeLimits;
use super::listpack::{Elem, Listpack, MAX_BYTES};
use super::packed::PackedBox;
use super::record_table::{self, Put, RecordTable};
use crate::keyspace::entry::NEVER;
use crate::rng::Rng;

/// In place of the time: a field counts, whether its time has passed or not.
pub const ALL_FIELDS: u64 = 0;

/// In place of a field's expiry: it has none.
pub const NO_EXPIRY: u64 = NEVER;

/// The value of a hash key. Fields are unique.
#[derive(Debug, Clone)]
pub enum HashValue {
    /// Small form: fields and values alternate, in the order in which they came.
    Pack(Listpack),
    /// Large form.
    Table(PackedBox<RecordTable>),
}

/// What becomes of a field's expiry when the field is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldTtl {
    /// It goes.
    Clear,
    /// It stays, unless it has passed.
    Keep,
    /// It becomes this, in Unix milliseconds.
    At(u64),
}

/// What setting a field has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldSet {
    /// The field is new.
    Added,
    /// It was there.
    Replaced,
    /// It was there, but its time had passed: to clients it is new.
    ReplacedExpired,
}

/// A field with its value and expiry ([`NO_EXPIRY`]: none).
pub type Field<'a> = (Elem<'a>, Elem<'a>, u64);

#[inline]
fn is_live(expire_at_ms: u64, now_ms: u64) -> bool {
    expire_at_ms >= now_ms
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
        let mut table = RecordTable::with_capacity(n / 2);
        let mut small = n / 2 <= limits.hash_entries;
        let mut it = lp.iter();
        while let (Some(f), Some(v)) = (it.next(), it.next()) {
            small &= f.byte_len() <= limits.hash_value && v.byte_len() <= limits.hash_value;
            let put = table.put(f.bytes(&mut None), v.bytes(&mut None), NEVER);
            if put != Put::Added {
                return Err("hash listpack with a duplicate field");
            }
        }
        Ok(if small {
            HashValue::Pack(lp)
        } else {
            HashValue::Table(PackedBox::new(table))
        })
    }

    /// Name of the form, as `OBJECT ENCODING` reports it.
    pub fn encoding(&self) -> &'static str {
        match self {
            HashValue::Pack(_) => "listpack",
            HashValue::Table(_) => "hashtable",
        }
    }

    /// Number of fields, those whose time has passed included.
    pub fn len(&self) -> usize {
        match self {
            HashValue::Pack(lp) => lp.len() / 2,
            HashValue::Table(t) => t.len(),
        }
    }

    /// Whether there is no field.
    pub fn is_empty(&self) -> bool {
        match self {
            HashValue::Pack(lp) => lp.is_empty(),
            HashValue::Table(t) => t.is_empty(),
        }
    }

    /// The value of `field`.
    #[inline]
    pub fn get(&self, field: &[u8], now_ms: u64) -> Option<Elem<'_>> {
        match self {
            HashValue::Pack(lp) => {
                let at = lp.find(field, lp.first(), 2)?;
                Some(lp.get(lp.next(at)?))
            }
            HashValue::Table(t) => t
                .get(field)
                .filter(|r| is_live(r.expire_at_ms, now_ms))
                .map(|r| Elem::Str(r.value)),
        }
    }

    /// Whether there is such a field.
    pub fn contains(&self, field: &[u8], now_ms: u64) -> bool {
        self.expiry(field, now_ms).is_some()
    }

    /// When `field` expires ([`NO_EXPIRY`]: never), if there is such a field.
    pub fn expiry(&self, field: &[u8], now_ms: u64) -> Option<u64> {
        match self {
            HashValue::Pack(lp) => lp.find(field, lp.first(), 2).map(|_| NEVER),
            HashValue::Table(t) => t
                .get(field)
                .map(|r| r.expire_at_ms)
                .filter(|at| is_live(*at, now_ms)),
        }
    }

    /// Takes the large form.
    pub fn make_table(&mut self, capacity: usize) {
        if let HashValue::Pack(lp) = self {
            let mut table = RecordTable::with_capacity(capacity.max(lp.len() / 2));
            let mut it = lp.iter();
            while let (Some(f), Some(v)) = (it.next(), it.next()) {
                table.put(f.bytes(&mut None), v.bytes(&mut None), NEVER);
            }
            *self = HashValue::Table(PackedBox::new(table));
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

    /// Sets `field`, without expiry; whether it is new.
    pub fn set(&mut self, field: &[u8], value: &[u8], limits: &TypeLimits) -> bool {
        self.put(field, value, FieldTtl::Clear, ALL_FIELDS, limits) == FieldSet::Added
    }

    /// Sets `field`.
    #[inline]
    pub fn put(
        &mut self,
        field: &[u8],
        value: &[u8],
        ttl: FieldTtl,
        now_ms: u64,
        limits: &TypeLimits,
    ) -> FieldSet {
        if let HashValue::Pack(lp) = self {
            let large = field.len() > limits.hash_value
                || value.len() > limits.hash_value
                || lp.byte_len() + field.len() + value.len() > MAX_BYTES
                || matches!(ttl, FieldTtl::At(_));
            if !large {
                if let Some(at) = lp.find(field, lp.first(), 2) {
                    let at = lp.next(at).expect("a value follows its field");
                    lp.replace(at, value);
                    return FieldSet::Replaced;
                }
                lp.push_pair(field, value);
                if lp.len() / 2 > limits.hash_entries {
                    self.make_table(0);
                }
                return FieldSet::Added;
            }
            self.make_table(0);
        }
        let HashValue::Table(table) = self else {
            unreachable!("a small hash has just been made large");
        };
        let put = table.put_with(field, value, |old| match (ttl, old) {
            (FieldTtl::At(at), _) => at.min(NEVER - 1),
            (FieldTtl::Keep, Some(at)) if is_live(at, now_ms) => at,
            _ => NEVER,
        });
        match put {
            Put::Added => FieldSet::Added,
            Put::Replaced(at) if is_live(at, now_ms) => FieldSet::Replaced,
            Put::Replaced(_) => FieldSet::ReplacedExpired,
        }
    }

    /// Changes when `field`, which must be there, expires ([`NO_EXPIRY`]: never). Takes the large form if it must.
    pub fn set_expiry(&mut self, field: &[u8], expire_at_ms: u64) {
        if expire_at_ms != NEVER {
            self.make_table(0);
        }
        if let HashValue::Table(t) = self {
            t.set_expiry(field, expire_at_ms);
        }
    }

    /// Removes `field`; whether it was there.
    pub fn remove(&mut self, field: &[u8], now_ms: u64) -> bool {
        match self {
            HashValue::Pack(lp) => match lp.find(field, lp.first(), 2) {
                Some(at) => {
                    lp.remove(at, 2);
                    true
                }
                None => false,
            },
            HashValue::Table(t) => {
                let there = now_ms == ALL_FIELDS
                    || t.expiring_len() == 0
                    || t.get(field)
                        .is_some_and(|r| is_live(r.expire_at_ms, now_ms));
                there && t.remove(field).is_some()
            }
        }
    }

    /// Removes fields whose time has passed, about `max` of them, and gives their names.
    pub(crate) fn take_expired(&mut self, now_ms: u64, max: usize) -> Vec<Box<[u8]>> {
        match self {
            HashValue::Pack(_) => Vec::new(),
            HashValue::Table(t) => t.take_expired(now_ms, max),
        }
    }

    /// Removes all fields whose time has passed. How many.
    pub(crate) fn drop_expired(&mut self, now_ms: u64) -> usize {
        let HashValue::Table(t) = self else {
            return 0;
        };
        if t.expiring_len() == 0 {
            return 0;
        }
        let gone: Vec<Box<[u8]>> = t
            .iter()
            .filter(|r| !is_live(r.expire_at_ms, now_ms))
            .map(|r| r.key.into())
            .collect();
        for field in &gone {
            t.remove(field);
        }
        gone.len()
    }

    /// Number of fields that expire, those whose time has passed included.
    pub fn expiring_len(&self) -> usize {
        match self {
            HashValue::Pack(_) => 0,
            HashValue::Table(t) => t.expiring_len(),
        }
    }

    /// The time from which on fields are to be expired; [`NO_EXPIRY`] if none expires.
    pub(crate) fn next_due(&self) -> u64 {
        match self {
            HashValue::Pack(_) => NEVER,
            HashValue::Table(t) => t.next_due(),
        }
    }

    /// The time under which the keyspace has noted that fields expire here; [`NO_EXPIRY`] if it has not.
    pub(crate) fn noted(&self) -> u64 {
        match self {
            HashValue::Pack(_) => NEVER,
            HashValue::Table(t) => t.noted,
        }
    }

    /// Changes what [`noted`](Self::noted) says.
    pub(crate) fn set_noted(&mut self, at_ms: u64) {
        if let HashValue::Table(t) = self {
            t.noted = at_ms;
        }
    }

    /// Whether the keyspace must be told when fields expire here: there are some and it does not know of it, there are none
    /// any more, or the first one expires earlier than it knows.
    #[inline]
    pub(crate) fn wants_note(&self) -> bool {
        match self {
            HashValue::Pack(_) => false,
            HashValue::Table(t) => {
                let due = t.next_due();
                due < t.noted || (due == NEVER && t.noted != NEVER)
            }
        }
    }

    /// The field at `index` of the small form.
    pub(super) fn pack_at(lp: &Listpack, index: usize) -> Option<Field<'_>> {
        let mut it = lp.iter_from(lp.seek(index.checked_mul(2)?));
        Some((it.next()?, it.next()?, NEVER))
    }

    /// A field, each with the same probability.
    pub fn random(&self, rng: &mut Rng) -> Option<Field<'_>> {
        match self {
            HashValue::Pack(lp) => Self::pack_at(lp, rng.index(lp.len() / 2)),
            HashValue::Table(t) => t
                .random(rng)
                .map(|r| (Elem::Str(r.key), Elem::Str(r.value), r.expire_at_ms)),
        }
    }

    /// All fields, those whose time has passed included.
    pub fn iter(&self) -> Iter<'_> {
        match self {
            HashValue::Pack(lp) => Iter::Pack(lp.iter()),
            HashValue::Table(t) => Iter::Table(t.iter()),
        }
    }

    /// The fields whose time has not passed.
    pub fn live(&self, now_ms: u64) -> impl Iterator<Item = (Elem<'_>, Elem<'_>)> {
        self.iter()
            .filter(move |(_, _, at)| is_live(*at, now_ms))
            .map(|(field, value, _)| (field, value))
    }

    /// One step of a scan: reports fields whose time has not passed, returns the next cursor (0: done).
    pub fn scan(
        &self,
        cursor: u64,
        now_ms: u64,
        mut report: impl FnMut(Elem<'_>, Elem<'_>),
    ) -> u64 {
        match self {
            HashValue::Pack(_) => {
                for (f, v, _) in self.iter() {
                    report(f, v);
                }
                0
            }
            HashValue::Table(t) => t.scan(cursor, |r| {
                if is_live(r.expire_at_ms, now_ms) {
                    report(Elem::Str(r.key), Elem::Str(r.value));
                }
            }),
        }
    }

    /// Bytes of memory that the value takes, roughly.
    pub fn memory(&self) -> usize {
        match self {
            HashValue::Pack(lp) => lp.memory(),
            HashValue::Table(t) => t.memory(),
        }
    }

    /// See [`DataType::discard`](crate::value::DataType::discard).
    pub(super) fn discard(&mut self, elements: usize) -> bool {
        match self {
            HashValue::Table(table) => table.discard(elements),
            HashValue::Pack(_) => false,
        }
    }
}

/// Iterator over a hash's fields.
pub enum Iter<'a> {
    /// Over the small form.
    Pack(super::listpack::Iter<'a>),
    /// Over the large form.
    Table(record_table::Iter<'a>),
}

impl<'a> Iterator for Iter<'a> {
    type Item = Field<'a>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Iter::Pack(it) => Some((it.next()?, it.next()?, NEVER)),
            Iter::Table(it) => it
                .next()
                .map(|r| (Elem::Str(r.key), Elem::Str(r.value), r.expire_at_ms)),
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
                    0 => assert_eq!(hash.remove(&field, 0), model.remove(&field).is_some()),
                    _ => assert_eq!(
                        hash.set(&field, &value, &limits),
                        model.insert(field.clone(), value).is_none()
                    ),
                }
                assert_eq!(
                    hash.get(&field, 0).map(|v| v.to_vec()),
                    model.get(&field).cloned()
                );
                assert_eq!(hash.len(), model.len());
            }
            assert_eq!(
                hash.encoding(),
                if range == 15 { "listpack" } else { "hashtable" }
            );
            let got: BTreeMap<_, _> = hash
                .live(0)
                .map(|(f, v)| (f.to_vec(), v.to_vec()))
                .collect();
            assert_eq!(got, model);
            let mut rng = Rng::new(5);
            for _ in 0..hash.len() {
                let (f, v, _) = hash.random(&mut rng).unwrap();
                assert_eq!(model.get(&f.to_vec()), Some(&v.to_vec()));
            }
            let (mut cursor, mut seen) = (0, BTreeMap::new());
            loop {
                cursor = hash.scan(cursor, 0, |f, v| {
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
