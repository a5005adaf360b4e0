//! A sorted set's value: a listpack of member, score, member, score … in order while small; members in an arena
//! and a counted tree when large.
//!
//! The order is by score, then by member bytes. Everything that commands ask for by score, by member or by
//! rank comes down to ranks: [`ZsetValue::partition_by_score`] turns a bound into a rank,
//! [`ZsetValue::range`] walks ranks.

use super::limits::TypeLimits;
use super::listpack::{Elem, Listpack, MAX_BYTES};
use super::packed::PackedBox;
use super::zset_members::Members;
use super::zset_tree::{Key, Tree};
use holdfast_resp::format_double;
use std::cmp::Ordering;

/// Records moved with each change while the members are being tidied.
const STEP_MOVES: usize = 2;

/// The large form: members found by hash and by order.
#[derive(Debug, Clone, Default)]
pub struct Ordered {
    members: Members,
    by_score: Tree,
}

/// The value of a sorted set key. Members are unique; no score is NaN.
#[derive(Debug, Clone)]
pub enum ZsetValue {
    /// Small form.
    Pack(Listpack),
    /// Large form.
    Ordered(PackedBox<Ordered>),
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

/// Whether an entry of the order is before a score and member. The member is read only if the scores are equal.
fn is_before(members: &Members, key: &Key, score: f64, member: &[u8]) -> bool {
    let here = key.score;
    here < score || (here == score && members.member(key.id) < member)
}

impl Ordered {
    /// What `DEBUG HTSTATS-KEY` says of the index by member.
    pub fn describe_table(&self) -> String {
        self.members.describe()
    }

    /// How many members come before the one with this id.
    fn rank(&self, id: u32) -> usize {
        let (score, member) = (self.members.score(id), self.members.member(id));
        self.by_score
            .partition_point(|k| is_before(&self.members, k, score, member))
    }

    fn link(&mut self, id: u32) {
        let Ordered { members, by_score } = self;
        let (score, member) = (members.score(id), members.member(id));
        by_score.insert(Key { score, id }, |k| is_before(members, k, score, member));
    }

    /// Adds a member known to be absent.
    fn add(&mut self, member: &[u8], score: f64) {
        let id = self.members.add(member, score);
        self.link(id);
        self.tidy();
    }

    fn update(&mut self, id: u32, score: f64) {
        self.by_score.remove(self.rank(id));
        self.members.set_score(id, score);
        self.link(id);
        self.tidy();
    }

    fn remove(&mut self, member: &[u8]) -> bool {
        let Some(id) = self.members.find(member) else {
            return false;
        };
        self.remove_rank(self.rank(id));
        true
    }

    fn remove_rank(&mut self, rank: usize) {
        let key = self.by_score.remove(rank);
        self.members.remove(key.id);
        if self.by_score.is_empty() {
            *self = Ordered::default();
        }
        self.tidy();
    }

    /// Goes on with tidying the members, if that is under way.
    fn tidy(&mut self) {
        for _ in 0..STEP_MOVES {
            let Some((old, new)) = self.members.next_move() else {
                return;
            };
            let rank = self.rank(old);
            self.by_score.set_id(rank, new);
        }
    }
}

impl Default for ZsetValue {
    fn default() -> Self {
        Self::new()
    }
}

impl ZsetValue {
    /// Frees about `n` allocations of a sorted set that will not be used again. Whether there is more.
    pub fn discard(&mut self, n: usize) -> bool {
        match self {
            ZsetValue::Pack(_) => false,
            ZsetValue::Ordered(set) => {
                // The order lies in leaves of some dozen members.
                set.members.discard(n) || set.by_score.discard(n)
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
            ZsetValue::Ordered(PackedBox::default())
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
            if all.members.find(&member).is_some() {
                return Err("sorted set listpack with a duplicate member");
            }
            sorted &= last.is_none_or(|(s, m)| order((s, &m), (score, &member)) == Ordering::Less);
            all.add(&member, score);
            last = Some((score, member));
        }
        let all = ZsetValue::Ordered(PackedBox::new(all));
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
            ZsetValue::Ordered(o) => o.members.find(member).map(|id| o.members.score(id)),
        }
    }

    fn make_ordered(&mut self) {
        if let ZsetValue::Pack(_) = self {
            let mut all = Ordered::default();
            for (m, s) in self.iter() {
                all.add(m.bytes(&mut None), s);
            }
            *self = ZsetValue::Ordered(PackedBox::new(all));
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
        match o.members.find(member) {
            Some(id) if o.members.score(id) == score => Inserted::Same,
            Some(id) => {
                o.update(id, score);
                Inserted::Updated
            }
            None => {
                o.add(member, score);
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
                let id = o.members.find(member)?;
                Some(o.rank(id))
            }
        }
    }

    /// How many members have a score that `pred` holds for; it must hold for a prefix of the order. No member is read.
    pub fn partition_by_score(&self, pred: impl Fn(f64) -> bool) -> usize {
        match self {
            ZsetValue::Pack(_) => self.iter().take_while(|(_, s)| pred(*s)).count(),
            ZsetValue::Ordered(o) => o.by_score.partition_point(|k| pred(k.score)),
        }
    }

    /// How many members `pred` holds for; it must hold for a prefix of the order.
    pub fn partition_by_member(&self, pred: impl Fn(&[u8]) -> bool) -> usize {
        match self {
            ZsetValue::Pack(_) => self
                .iter()
                .take_while(|(m, _)| pred(m.bytes(&mut None)))
                .count(),
            ZsetValue::Ordered(o) => o.by_score.partition_point(|k| pred(o.members.member(k.id))),
        }
    }

    /// The member and score at `rank`.
    pub fn at_rank(&self, rank: usize) -> Option<(Elem<'_>, f64)> {
        self.range(rank..rank.checked_add(1)?, false).next()
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
            ZsetValue::Ordered(o) => o.members.scan(cursor, |id| {
                report(Elem::Str(o.members.member(id)), o.members.score(id));
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
            ZsetValue::Pack(lp) => lp.memory(),
            ZsetValue::Ordered(o) => o.members.memory() + o.by_score.memory(),
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
                Some((Elem::Str(o.members.member(key.id)), key.score))
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
                        assert_eq!(zset.partition_by_score(|score| score < *s), below);
                    }
                    let (a, b) = (want.len() / 4, want.len() / 2);
                    let back: Vec<_> = zset
                        .range(a..b, true)
                        .map(|(m, s)| (s, m.to_vec()))
                        .collect();
                    assert!(back.iter().eq(want[a..b].iter().rev()));
                    let picked: BTreeMap<_, _> = (0..zset.len())
                        .map(|i| zset.at_rank(i).unwrap())
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
    fn a_member_takes_less_than_in_valkey() {
        let limits = TypeLimits::default();
        for n in [200u32, 1_000, 10_000, 70_000] {
            let mut zset = ZsetValue::new();
            for i in 0..n {
                // All over the order, not one behind the other.
                let score = f64::from(i.wrapping_mul(2_654_435_761) >> 8);
                zset.insert(format!("m:{i:010}").as_bytes(), score, &limits);
            }
            let each = zset.memory() as f64 / f64::from(n);
            assert!(each < 60.0, "{n}: {each} bytes a member");
        }
    }

    #[test]
    fn the_order_follows_members_that_move() {
        let limits = TypeLimits::default();
        let (mut zset, mut model) = (ZsetValue::new(), BTreeMap::new());
        for i in 0..9_000u32 {
            // Equal scores: only the members tell the order.
            let member = format!("{:08}", i.wrapping_mul(2_654_435_761) % 99_999_989).into_bytes();
            zset.insert(&member, f64::from(i % 3), &limits);
            model.insert(member, f64::from(i % 3));
        }
        let members: Vec<Vec<u8>> = model.keys().cloned().collect();
        let full = zset.memory();
        for (i, member) in members.iter().enumerate().filter(|(i, _)| i % 5 != 0) {
            assert!(zset.remove(member));
            model.remove(member);
            if i % 1_000 == 1 {
                let mut want: Vec<_> = model.iter().map(|(m, s)| (*s, m.clone())).collect();
                want.sort_by(|a, b| order((a.0, &a.1), (b.0, &b.1)));
                assert!(zset.iter().map(|(m, s)| (s, m.to_vec())).eq(want.clone()));
                for (rank, (score, member)) in want.iter().enumerate() {
                    assert_eq!(zset.rank(member), Some(rank));
                    assert_eq!(zset.score(member), Some(*score));
                }
            }
        }
        assert!(zset.memory() * 2 < full, "{} of {full}", zset.memory());
    }

    #[test]
    fn freed_in_steps() {
        let limits = TypeLimits::default();
        let mut zset = ZsetValue::new();
        for i in 0..5_000u32 {
            let member = format!("{i:0width$}", width = 10 + i as usize % 2 * 1_000);
            zset.insert(member.as_bytes(), f64::from(i), &limits);
        }
        let mut steps = 0;
        while zset.discard(10) {
            steps += 1;
        }
        // The long members, the chunks, the leaves.
        assert!((255..280).contains(&steps), "{steps}");
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
