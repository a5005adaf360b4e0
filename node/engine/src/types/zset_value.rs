//! A sorted set's value: a listpack of member, score, member, score … in order while small; a hash table
//! over a counted tree when large.
//!
//! The order is by score, then by member bytes. Everything that commands ask for by score, by member or by
//! rank comes down to ranks: [`ZsetValue::partition_point`] turns a bound into a rank,
//! [`ZsetValue::range`] walks ranks.

use super::chunked::Chunked;
use super::hash_table::{Table, hash_bytes};
use super::limits::TypeLimits;
use super::listpack::{Elem, Listpack, MAX_BYTES};
use super::zset_tree::{Key, Tree};
use holdfast_resp::format_double;
use std::cmp::Ordering;

/// The large form: members in a slab, found by hash and by order.
#[derive(Debug, Clone, Default)]
pub struct Ordered {
    slab: Chunked<Entry>,
    /// Unused entries of the slab.
    free: Vec<u32>,
    by_member: Table<u32>,
    by_score: Tree,
}

#[derive(Debug, Clone)]
struct Entry {
    member: Box<[u8]>,
    score: f64,
}

/// The value of a sorted set key. Members are unique; no score is NaN.
#[derive(Debug, Clone)]
pub enum ZsetValue {
    /// Small form.
    Pack(Listpack),
    /// Large form.
    Ordered(Box<Ordered>),
}

/// What [`ZsetValue::insert`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inserted {
    /// The member is new.
    Added,
    /// The member had another score.
    Updated,
    /// The member had this score already.
    Same,
}

/// The score that a listpack element stands for; `None` if it is not a number.
fn score_of(e: Elem<'_>) -> Option<f64> {
    match e {
        Elem::Int(v) => Some(v as f64),
        Elem::Str(s) => std::str::from_utf8(s)
            .ok()?
            .parse()
            .ok()
            .filter(|f: &f64| !f.is_nan())
            .map(kept),
    }
}

/// The score as it is kept: -0 is 0. Valkey does so in its small form only; here, copies of a set that have different
/// forms must hold the same.
fn kept(score: f64) -> f64 {
    if score == 0.0 { 0.0 } else { score }
}

fn order(a: (f64, &[u8]), b: (f64, &[u8])) -> Ordering {
    a.0.partial_cmp(&b.0)
        .unwrap_or(Ordering::Equal)
        .then_with(|| a.1.cmp(b.1))
}

impl Ordered {
    /// What `DEBUG HTSTATS-KEY` says of the index by member.
    pub fn describe_table(&self) -> String {
        self.by_member.describe()
    }

    fn find(&self, member: &[u8]) -> Option<(usize, u32)> {
        let at = self.by_member.find(hash_bytes(member), |&id| {
            *self.slab[id as usize].member == *member
        })?;
        Some((at, *self.by_member.get(at)?))
    }

    /// Ordering of a tree's entry against a score and member.
    fn is_before(&self, key: &Key, score: f64, member: &[u8]) -> bool {
        order(
            (key.score, &self.slab[key.id as usize].member),
            (score, member),
        ) == Ordering::Less
    }

    fn rank(&self, score: f64, member: &[u8]) -> usize {
        self.by_score
            .partition_point(|k| self.is_before(k, score, member))
    }

    fn link(&mut self, id: u32, score: f64) {
        let Ordered { slab, by_score, .. } = self;
        let member = &slab[id as usize].member;
        by_score.insert(Key { score, id }, |k| {
            order((k.score, &slab[k.id as usize].member), (score, member)) == Ordering::Less
        });
    }

    /// Adds a member known to be absent.
    fn add(&mut self, member: Box<[u8]>, score: f64) {
        let hash = hash_bytes(&member);
        let entry = Entry { member, score };
        let id = match self.free.pop() {
            Some(id) => {
                self.slab[id as usize] = entry;
                id
            }
            None => {
                self.slab.push(entry);
                u32::try_from(self.slab.len() - 1).expect("fewer than 2^32 members")
            }
        };
        self.by_member.insert(hash, id);
        self.link(id, score);
    }

    fn update(&mut self, id: u32, score: f64) {
        let old = &self.slab[id as usize];
        let rank = self.rank(old.score, &old.member);
        self.by_score.remove(rank);
        self.slab[id as usize].score = score;
        self.link(id, score);
    }

    fn release(&mut self, id: u32) {
        self.slab[id as usize] = Entry {
            member: Box::default(),
            score: 0.0,
        };
        self.free.push(id);
        if self.by_score.is_empty() {
            *self = Ordered::default();
        }
    }

    fn remove(&mut self, member: &[u8]) -> bool {
        let Some((at, id)) = self.find(member) else {
            return false;
        };
        let rank = self.rank(self.slab[id as usize].score, member);
        self.by_score.remove(rank);
        self.by_member.remove(at);
        self.release(id);
        true
    }

    fn remove_rank(&mut self, rank: usize) {
        let key = self.by_score.remove(rank);
        let member = std::mem::take(&mut self.slab[key.id as usize].member);
        let at = self
            .by_member
            .find(hash_bytes(&member), |&id| id == key.id)
            .expect("a member of the order is in the table");
        self.by_member.remove(at);
        self.release(key.id);
    }
}

impl Default for ZsetValue {
    fn default() -> Self {
        Self::new()
    }
}

impl ZsetValue {
    /// Frees up to `n` members of a sorted set that will not be used again. Whether there is more.
    pub fn discard(&mut self, n: usize) -> bool {
        match self {
            ZsetValue::Pack(_) => false,
            ZsetValue::Ordered(set) => {
                let keep = set.slab.len().saturating_sub(n);
                set.slab.truncate(keep);
                keep > 0
            }
        }
    }

    /// An empty sorted set in the small form.
    pub fn new() -> Self {
        ZsetValue::Pack(Listpack::new())
    }

    /// An empty sorted set in the form that suits `members` members of up to `longest` bytes.
    pub fn new_for(members: usize, longest: usize, limits: &TypeLimits) -> Self {
        if members <= limits.zset_entries && longest <= limits.zset_value {
            Self::new()
        } else {
            ZsetValue::Ordered(Box::default())
        }
    }

    /// A sorted set from a listpack of members and scores that came from outside.
    ///
    /// # Errors
    /// When the count is odd, a score is not a number, or a member appears twice.
    pub fn from_listpack(lp: Listpack, limits: &TypeLimits) -> Result<Self, &'static str> {
        if !lp.len().is_multiple_of(2) {
            return Err("sorted set listpack with an odd number of elements");
        }
        let mut all = Ordered::default();
        let mut small = lp.len() / 2 <= limits.zset_entries;
        let mut sorted = true;
        let mut last: Option<(f64, Box<[u8]>)> = None;
        let mut it = lp.iter();
        while let (Some(m), Some(s)) = (it.next(), it.next()) {
            let score = score_of(s).ok_or("sorted set listpack with a malformed score")?;
            let member = m.to_boxed();
            small &= member.len() <= limits.zset_value;
            if all.find(&member).is_some() {
                return Err("sorted set listpack with a duplicate member");
            }
            sorted &= last.is_none_or(|(s, m)| order((s, &m), (score, &member)) == Ordering::Less);
            last = Some((score, member.clone()));
            all.add(member, score);
        }
        let all = ZsetValue::Ordered(Box::new(all));
        Ok(match (small, sorted) {
            (true, true) => ZsetValue::Pack(lp),
            (true, false) => {
                let mut lp = Listpack::new();
                for (m, s) in all.iter() {
                    lp.push_back(&m.to_vec());
                    lp.push_back(format_double(s).as_bytes());
                }
                ZsetValue::Pack(lp)
            }
            (false, _) => all,
        })
    }

    /// Name of the form, as `OBJECT ENCODING` reports it.
    pub fn encoding(&self) -> &'static str {
        match self {
            ZsetValue::Pack(_) => "listpack",
            ZsetValue::Ordered(_) => "skiplist",
        }
    }

    /// Number of members.
    pub fn len(&self) -> usize {
        match self {
            ZsetValue::Pack(lp) => lp.len() / 2,
            ZsetValue::Ordered(o) => o.by_score.len(),
        }
    }

    /// Whether there is no member.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn pack_score(lp: &Listpack, member_at: usize) -> f64 {
        let at = lp.next(member_at).expect("a score follows its member");
        score_of(lp.get(at)).expect("scores of a sorted set are numbers")
    }

    /// The score of `member`.
    pub fn score(&self, member: &[u8]) -> Option<f64> {
        match self {
            ZsetValue::Pack(lp) => Some(Self::pack_score(lp, lp.find(member, lp.first(), 2)?)),
            ZsetValue::Ordered(o) => o.find(member).map(|(_, id)| o.slab[id as usize].score),
        }
    }

    fn make_ordered(&mut self) {
        if let ZsetValue::Pack(_) = self {
            let mut all = Ordered::default();
            for (m, s) in self.iter() {
                all.add(m.to_boxed(), s);
            }
            *self = ZsetValue::Ordered(Box::new(all));
        }
    }

    /// Takes the large form now if about `members` members are to come.
    pub fn prepare(&mut self, members: usize, longest: usize, limits: &TypeLimits) {
        if members > limits.zset_entries || longest > limits.zset_value {
            self.make_ordered();
        }
    }

    fn pack_insert(lp: &mut Listpack, member: &[u8], score: f64) {
        let mut at = lp.first();
        while let Some(p) = at {
            let here = Self::pack_score(lp, p);
            if here > score || (here == score && lp.get(p).bytes(&mut None) > member) {
                break;
            }
            at = lp.next(p).and_then(|p| lp.next(p));
        }
        let at = at.unwrap_or(lp.end());
        lp.insert_pair(at, member, format_double(score).as_bytes());
    }

    /// Gives `member` this score, adding it if it is absent.
    ///
    /// # Panics
    /// When the score is NaN.
    pub fn insert(&mut self, member: &[u8], score: f64, limits: &TypeLimits) -> Inserted {
        assert!(!score.is_nan(), "scores are numbers");
        let score = kept(score);
        if let ZsetValue::Pack(lp) = self {
            if let Some(at) = lp.find(member, lp.first(), 2) {
                if Self::pack_score(lp, at) == score {
                    return Inserted::Same;
                }
                lp.remove(at, 2);
                Self::pack_insert(lp, member, score);
                return Inserted::Updated;
            }
            if lp.len() / 2 < limits.zset_entries
                && member.len() <= limits.zset_value
                && lp.byte_len() + member.len() <= MAX_BYTES
            {
                Self::pack_insert(lp, member, score);
                return Inserted::Added;
            }
            self.make_ordered();
        }
        let ZsetValue::Ordered(o) = self else {
            unreachable!("just made so");
        };
        match o.find(member) {
            Some((_, id)) if o.slab[id as usize].score == score => Inserted::Same,
            Some((_, id)) => {
                o.update(id, score);
                Inserted::Updated
            }
            None => {
                o.add(member.into(), score);
                Inserted::Added
            }
        }
    }

    /// Removes `member`; whether it was there.
    pub fn remove(&mut self, member: &[u8]) -> bool {
        match self {
            ZsetValue::Pack(lp) => match lp.find(member, lp.first(), 2) {
                Some(at) => {
                    lp.remove(at, 2);
                    true
                }
                None => false,
            },
            ZsetValue::Ordered(o) => o.remove(member),
        }
    }

    /// Removes the members with ranks in `range`, which ends at or below [`ZsetValue::len`].
    pub fn remove_range(&mut self, range: std::ops::Range<usize>) {
        match self {
            ZsetValue::Pack(lp) => lp.remove_at(range.start * 2, range.len() * 2),
            ZsetValue::Ordered(o) => {
                for _ in range.clone() {
                    o.remove_rank(range.start);
                }
            }
        }
    }

    /// How many members come before `member`, which has this `score`.
    pub fn rank(&self, member: &[u8]) -> Option<usize> {
        match self {
            ZsetValue::Pack(lp) => {
                let at = lp.find(member, lp.first(), 2)?;
                let mut it = lp.iter();
                let mut before = 0;
                while it.pos() < at {
                    it.next()?;
                    before += 1;
                }
                Some(before / 2)
            }
            ZsetValue::Ordered(o) => {
                let (_, id) = o.find(member)?;
                Some(o.rank(o.slab[id as usize].score, member))
            }
        }
    }

    /// How many members `pred` holds for; it must hold for a prefix of the order.
    pub fn partition_point(&self, pred: impl Fn(f64, &[u8]) -> bool) -> usize {
        match self {
            ZsetValue::Pack(_) => self
                .iter()
                .take_while(|(m, s)| pred(*s, m.bytes(&mut None)))
                .count(),
            ZsetValue::Ordered(o) => o
                .by_score
                .partition_point(|k| pred(k.score, &o.slab[k.id as usize].member)),
        }
    }

    /// The member and score at `rank`.
    pub fn at_rank(&self, rank: usize) -> Option<(Elem<'_>, f64)> {
        self.range(rank..rank.checked_add(1)?, false).next()
    }

    /// The member at `index` in an arbitrary but fixed order: what a random pick takes.
    pub fn at(&self, index: usize) -> Option<(Elem<'_>, f64)> {
        match self {
            ZsetValue::Pack(_) => self.at_rank(index),
            ZsetValue::Ordered(o) => {
                let e = &o.slab[*o.by_member.get(index)? as usize];
                Some((Elem::Str(&e.member), e.score))
            }
        }
    }

    /// The members with ranks in `range`, in order or in reverse.
    pub fn range(&self, range: std::ops::Range<usize>, reverse: bool) -> Range<'_> {
        let end = range.end.min(self.len());
        let range = range.start.min(end)..end;
        match self {
            ZsetValue::Pack(lp) => {
                let first = if reverse {
                    range.end.wrapping_sub(1)
                } else {
                    range.start
                };
                Range::Pack {
                    lp,
                    at: if range.is_empty() {
                        None
                    } else {
                        lp.seek(first * 2)
                    },
                    left: range.len(),
                    reverse,
                }
            }
            ZsetValue::Ordered(o) => Range::Ordered(o, o.by_score.range(range, reverse)),
        }
    }

    /// All members in order.
    pub fn iter(&self) -> Range<'_> {
        self.range(0..self.len(), false)
    }

    /// One step of a scan: reports members, returns the next cursor (0: done).
    pub fn scan(&self, cursor: u64, mut report: impl FnMut(Elem<'_>, f64)) -> u64 {
        match self {
            ZsetValue::Pack(_) => {
                self.iter().for_each(|(m, s)| report(m, s));
                0
            }
            ZsetValue::Ordered(o) => o.by_member.scan(cursor, |&id| {
                let e = &o.slab[id as usize];
                report(Elem::Str(&e.member), e.score);
            }),
        }
    }

    /// Whether a scan reports everything in one step.
    pub fn scans_at_once(&self) -> bool {
        matches!(self, ZsetValue::Pack(_))
    }

    /// Takes the small form if the limits allow it; for results just built.
    pub fn fit(&mut self, limits: &TypeLimits) {
        let ZsetValue::Ordered(_) = self else {
            return;
        };
        if self.len() > limits.zset_entries
            || self.iter().any(|(m, _)| m.byte_len() > limits.zset_value)
        {
            return;
        }
        let mut lp = Listpack::new();
        for (m, s) in self.iter() {
            lp.push_back(&m.to_vec());
            lp.push_back(format_double(s).as_bytes());
        }
        *self = ZsetValue::Pack(lp);
    }

    /// Bytes of memory that the value takes, roughly.
    pub fn memory(&self) -> usize {
        match self {
            ZsetValue::Pack(lp) => lp.byte_len() + 24,
            ZsetValue::Ordered(o) => {
                let members: usize = o.slab.iter().map(|e| e.member.len() + 8).sum();
                members
                    + o.slab.capacity() * size_of::<Entry>()
                    + o.by_member.own_bytes()
                    + o.by_score.len() * 20
            }
        }
    }
}

/// Iterator over a range of ranks.
#[derive(Clone)]
pub enum Range<'a> {
    /// Over the small form.
    Pack {
        /// The listpack.
        lp: &'a Listpack,
        /// Position of the next member.
        at: Option<usize>,
        /// Members left.
        left: usize,
        /// Direction.
        reverse: bool,
    },
    /// Over the large form.
    Ordered(&'a Ordered, super::zset_tree::Range<'a>),
}

impl<'a> Iterator for Range<'a> {
    type Item = (Elem<'a>, f64);

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Range::Pack {
                lp,
                at,
                left,
                reverse,
            } => {
                *left = left.checked_sub(1)?;
                let p = (*at)?;
                let score_at = lp.next(p)?;
                *at = if *reverse {
                    lp.prev(p).and_then(|p| lp.prev(p))
                } else {
                    lp.next(score_at)
                };
                Some((lp.get(p), score_of(lp.get(score_at))?))
            }
            Range::Ordered(o, keys) => {
                let key = keys.next()?;
                Some((Elem::Str(&o.slab[key.id as usize].member), key.score))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn behaves_as_a_sorted_vector_in_both_forms() {
        let limits = TypeLimits {
            zset_entries: 30,
            ..TypeLimits::default()
        };
        let mut seed = 2u64;
        let mut rnd = |n: u64| {
            seed = seed
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            (seed >> 33) % n
        };
        for range in [25u64, 2000] {
            let (mut zset, mut model) = (ZsetValue::new(), BTreeMap::<Vec<u8>, f64>::new());
            for round in 0..8000 {
                let m = format!("{}", rnd(range)).into_bytes();
                let score = match rnd(20) {
                    0 => f64::INFINITY,
                    1 => f64::NEG_INFINITY,
                    2 => 0.1 + rnd(10) as f64,
                    n => n as f64 - 5.0,
                };
                match rnd(5) {
                    0 => assert_eq!(zset.remove(&m), model.remove(&m).is_some()),
                    _ => {
                        let want = match model.insert(m.clone(), score) {
                            None => Inserted::Added,
                            Some(old) if old == score => Inserted::Same,
                            Some(_) => Inserted::Updated,
                        };
                        assert_eq!(zset.insert(&m, score, &limits), want);
                    }
                }
                assert_eq!(zset.score(&m), model.get(&m).copied());
                assert_eq!(zset.len(), model.len());
                if round % 400 == 0 {
                    let mut want: Vec<(f64, Vec<u8>)> =
                        model.iter().map(|(m, s)| (*s, m.clone())).collect();
                    want.sort_by(|a, b| order((a.0, &a.1), (b.0, &b.1)));
                    let got: Vec<_> = zset.iter().map(|(m, s)| (s, m.to_vec())).collect();
                    assert_eq!(got, want);
                    for (rank, (s, m)) in want.iter().enumerate() {
                        assert_eq!(zset.rank(m), Some(rank));
                        assert_eq!(zset.at_rank(rank).unwrap().1, *s);
                        let below = want.iter().filter(|w| w.0 < *s).count();
                        assert_eq!(zset.partition_point(|score, _| score < *s), below);
                    }
                    let (a, b) = (want.len() / 4, want.len() / 2);
                    let back: Vec<_> = zset
                        .range(a..b, true)
                        .map(|(m, s)| (s, m.to_vec()))
                        .collect();
                    assert!(back.iter().eq(want[a..b].iter().rev()));
                    let picked: BTreeMap<_, _> = (0..zset.len())
                        .map(|i| zset.at(i).unwrap())
                        .map(|(m, s)| (m.to_vec(), s))
                        .collect();
                    assert_eq!(picked, model);
                    if range == 2000 {
                        zset.remove_range(a..a + 3.min(b - a));
                        for (_, m) in &want[a..a + 3.min(b - a)] {
                            model.remove(m);
                        }
                    }
                }
            }
            assert_eq!(
                zset.encoding(),
                if range == 25 { "listpack" } else { "skiplist" }
            );
        }
    }

    #[test]
    fn foreign_listpacks_are_checked() {
        let of = |items: &[&str]| {
            let mut lp = Listpack::new();
            items.iter().for_each(|s| lp.push_back(s.as_bytes()));
            ZsetValue::from_listpack(lp, &TypeLimits::default())
        };
        assert!(of(&["a", "1", "a", "2"]).is_err());
        assert!(of(&["a", "nan"]).is_err());
        assert!(of(&["a", "x"]).is_err());
        assert!(of(&["a"]).is_err());
        let z = of(&["a", "3", "b", "1.5"]).unwrap();
        assert_eq!(z.at_rank(0).unwrap().1, 1.5);
    }
}
