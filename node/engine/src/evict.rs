//! What is noted of accesses to keys, and which key goes when memory is full.
//!
//! An entry has 24 bits for accesses. By the policy in force they are the second of the last one (LRU and all others), or the minute in 16
//! bits and a logarithmic counter in 8 (LFU): the counter rises with a probability that falls as it grows, and falls by one for each
//! `lfu-decay-time` without access. As in Valkey, nothing is converted when the policy changes; what was noted settles with use.
//!
//! To find a victim, some keys are sampled in each database, and the best of them enter a pool of candidates, which is kept from one
//! time to the next; the best of the pool goes. Samples are neighbours in one group of a table: the hash has thrown them together at random,
//! and they share cache lines.

use crate::call::Call;
use crate::effects::Effects;
use crate::engine::Engine;
use crate::events::EventClass;
use crate::keyspace::entry::{Entry, NEVER};
use crate::keyspace::place;
use crate::rng::Rng;

/// What of a key decides how good a victim it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EvictionRank {
    /// How long ago it was used.
    Lru,
    /// How seldom it is used.
    Lfu,
    /// How soon it expires.
    Ttl,
    /// Nothing.
    Random,
}

/// `maxmemory-policy` and what belongs to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Eviction {
    /// `None` under `noeviction`.
    pub rank: Option<EvictionRank>,
    /// Only keys with an expiry may go (`volatile-…`).
    pub volatile: bool,
    /// `maxmemory-samples`, 1 to 64.
    pub samples: usize,
    /// `lfu-log-factor`
    pub lfu_log_factor: u32,
    /// `lfu-decay-time`, in minutes; 0: never.
    pub lfu_decay_minutes: u16,
    /// `lazyfree-lazy-eviction`: victims are propagated as `UNLINK` instead of `DEL`.
    pub lazy: bool,
}

impl Default for Eviction {
    fn default() -> Self {
        Eviction {
            rank: None,
            volatile: false,
            samples: 5,
            lfu_log_factor: 10,
            lfu_decay_minutes: 1,
            lazy: true,
        }
    }
}

/// What may be known of accesses to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessNote {
    /// Seconds since the last one.
    IdleSeconds(u64),
    /// The LFU counter.
    Frequency(u8),
}

/// The bits that an entry has for accesses.
const ACCESS_MASK: u32 = 0x00ff_ffff;

/// The counter of a new key, so that it is not the first to go.
const LFU_NEW: u8 = 5;

impl Eviction {
    /// The policy of that name, as `maxmemory-policy` has it, with the other members at their defaults.
    pub fn named(policy: &str) -> Option<Eviction> {
        let (volatile, rank) = match policy.split_once('-') {
            Some(("allkeys", rank)) => (false, rank),
            Some(("volatile", rank)) => (true, rank),
            _ if policy == "noeviction" => return Some(Eviction::default()),
            _ => return None,
        };
        let rank = match rank {
            "lru" => EvictionRank::Lru,
            "lfu" => EvictionRank::Lfu,
            "ttl" => EvictionRank::Ttl,
            "random" => EvictionRank::Random,
            _ => return None,
        };
        Some(Eviction {
            rank: Some(rank),
            volatile,
            ..Eviction::default()
        })
    }

    /// Whether accesses are counted, not timed.
    #[inline]
    pub fn is_lfu(&self) -> bool {
        self.rank == Some(EvictionRank::Lfu)
    }

    /// What the bits that an entry has for accesses tell, if the policy orders keys by it. `None` under all others.
    pub fn note(&self, access: u32, now_ms: u64) -> Option<AccessNote> {
        match self.rank {
            Some(EvictionRank::Lru) => {
                let idle = ((now_ms / 1000) as u32).wrapping_sub(access) & ACCESS_MASK;
                // More than half of what there is stands for an access after `now_ms`.
                let idle = if idle > ACCESS_MASK / 2 { 0 } else { idle };
                Some(AccessNote::IdleSeconds(u64::from(idle)))
            }
            Some(EvictionRank::Lfu) => Some(AccessNote::Frequency(self.frequency(access, now_ms))),
            _ => None,
        }
    }

    /// The counter now, decayed, of what an entry has noted.
    pub(crate) fn frequency(&self, access: u32, now_ms: u64) -> u8 {
        let elapsed = minutes(now_ms).wrapping_sub((access >> 8) as u16);
        let periods = elapsed.checked_div(self.lfu_decay_minutes).unwrap_or(0);
        (access as u8).saturating_sub(u8::try_from(periods).unwrap_or(u8::MAX))
    }

    /// How good a victim an entry is; the greater, the better.
    fn score(&self, entry: &Entry, now_ms: u64) -> u64 {
        match self.rank {
            Some(EvictionRank::Lru) => u64::from(entry.idle_s(now_ms)),
            Some(EvictionRank::Lfu) => 255 - u64::from(self.frequency(entry.access(), now_ms)),
            Some(EvictionRank::Ttl) => NEVER - entry.expire_at_ms(),
            Some(EvictionRank::Random) | None => 0,
        }
    }
}

fn minutes(now_ms: u64) -> u16 {
    (now_ms / 60_000) as u16
}

fn counted(frequency: u8, now_ms: u64) -> u32 {
    u32::from(minutes(now_ms)) << 8 | u32::from(frequency)
}

/// Notes an access to a key.
#[inline]
pub(crate) fn accessed(how: &Eviction, call: &mut Call<'_>, entry: &mut Entry) {
    if how.is_lfu() {
        let mut frequency = how.frequency(entry.access(), call.now_ms);
        let above = f64::from(frequency.saturating_sub(LFU_NEW));
        let chance = 1.0 / (above * f64::from(how.lfu_log_factor) + 1.0);
        if frequency < u8::MAX && call.rng.unit() < chance {
            frequency += 1;
        }
        entry.set_access(counted(frequency, call.now_ms));
    } else {
        entry.touch(call.now_ms);
    }
}

/// Notes that a key is new.
#[inline]
pub(crate) fn created(how: &Eviction, now_ms: u64, entry: &mut Entry) {
    if how.is_lfu() {
        entry.set_access(counted(LFU_NEW, now_ms));
    } else {
        entry.touch(now_ms);
    }
}

/// Notes what a file says of accesses to a key, as far as the policy in force wants to know.
#[inline]
pub(crate) fn noted(how: &Eviction, note: Option<AccessNote>, now_ms: u64, entry: &mut Entry) {
    match note {
        Some(AccessNote::IdleSeconds(idle)) if !how.is_lfu() => {
            entry.touch(now_ms.saturating_sub(idle.saturating_mul(1000)));
        }
        Some(AccessNote::Frequency(frequency)) if how.is_lfu() => {
            entry.set_access(counted(frequency, now_ms));
        }
        _ => created(how, now_ms, entry),
    }
}

/// A key that may have to go.
struct Candidate {
    score: u64,
    db: u16,
    slot: u16,
    key: Box<[u8]>,
}

/// The best victims seen so far, the best last.
#[derive(Default)]
pub(crate) struct Pool(Vec<Candidate>);

const POOL_MAX: usize = 16;

/// Samples taken in vain before there is nothing to be had.
const ROUNDS_MAX: usize = 1000;

impl Pool {
    /// Where a candidate of this score belongs; `None` if it is worse than all of a full pool.
    fn place_of(&self, score: u64) -> Option<usize> {
        let at = self.0.partition_point(|c| c.score < score);
        (at > 0 || self.0.len() < POOL_MAX).then_some(at)
    }

    fn add(&mut self, candidate: Candidate) {
        let Some(at) = self.place_of(candidate.score) else {
            return;
        };
        self.0.insert(at, candidate);
        if self.0.len() > POOL_MAX {
            self.0.remove(0);
        }
    }
}

impl Engine {
    /// Sets what is noted of accesses to a key, as a dump or a file tells it; nothing if the policy in force notes something else.
    pub fn set_access(&mut self, db: u16, key: &[u8], note: AccessNote, now_ms: u64) {
        let how = self.config.eviction;
        let place = place(self.hasher, self.config.cluster, None, key);
        let space = self.dbs.get_mut(usize::from(db));
        let Some(entry) = space.and_then(|db| db.find_mut(place, key)) else {
            return;
        };
        noted(&how, Some(note), now_ms, entry);
    }

    /// What a key's entry tells of accesses under the policy in force: for `RESTORE` and files.
    pub fn access_note(&self, db: u16, key: &[u8], now_ms: u64) -> Option<AccessNote> {
        let how = &self.config.eviction;
        let place = place(self.hasher, self.config.cluster, None, key);
        let entry = self.dbs.get(usize::from(db))?.find(place, key)?;
        Some(if how.is_lfu() {
            AccessNote::Frequency(how.frequency(entry.access(), now_ms))
        } else {
            AccessNote::IdleSeconds(u64::from(entry.idle_s(now_ms)))
        })
    }

    /// Deletes the key that the policy would have go first, with its effect. `false` if there is none that may go.
    pub fn evict_one(&mut self, now_ms: u64, rng: &mut Rng, fx: &mut Effects) -> bool {
        let how = self.config.eviction;
        let victim = match how.rank {
            None => None,
            Some(EvictionRank::Random) => self.random_victim(&how, rng),
            Some(_) => self.best_victim(&how, now_ms, rng),
        };
        let Some(Candidate { db, slot, key, .. }) = victim else {
            return false;
        };
        let place = place(self.hasher, self.config.cluster, Some(slot), &key);
        fx.begin_unit();
        self.remove(db, place, &key);
        self.stats.evicted_keys += 1;
        fx.touch(db, &key);
        fx.notify(EventClass::EVICTED, "evicted", db, &key);
        let verb: &[u8] = if how.lazy { b"UNLINK" } else { b"DEL" };
        fx.propagate(db, &[verb, &key]);
        fx.end_unit();
        true
    }

    fn may_go(&self, how: &Eviction, candidate: &Candidate) -> bool {
        let place = place(
            self.hasher,
            self.config.cluster,
            Some(candidate.slot),
            &candidate.key,
        );
        self.dbs
            .get(usize::from(candidate.db))
            .and_then(|db| db.find(place, &candidate.key))
            .is_some_and(|entry| !how.volatile || entry.expire_at_ms() != NEVER)
    }

    fn best_victim(&mut self, how: &Eviction, now_ms: u64, rng: &mut Rng) -> Option<Candidate> {
        // What was in the pool may be gone, and groups that were volatile may not be any more: those are not met twice. Only keys in
        // hidden slots are met again and again.
        for _ in 0..ROUNDS_MAX {
            let mut pool = std::mem::take(&mut self.evictable);
            for db in 0..self.dbs.len() {
                self.sample(how, db as u16, now_ms, rng, &mut pool);
            }
            let mut best = None;
            while let Some(candidate) = pool.0.pop() {
                if self.may_go(how, &candidate) {
                    best = Some(candidate);
                    break;
                }
            }
            self.evictable = pool;
            if best.is_some() {
                return best;
            }
            let any = |db: &crate::keyspace::Db| {
                if how.volatile {
                    db.expiries_len() > 0
                } else {
                    db.len() > 0
                }
            };
            if !self.dbs.iter().any(any) {
                break;
            }
        }
        None
    }

    /// Looks at some keys of a database, of as few groups as have so many.
    fn sample(&mut self, how: &Eviction, db: u16, now_ms: u64, rng: &mut Rng, pool: &mut Pool) {
        let mut seen = 0;
        for _ in 0..how.samples {
            seen += self.sample_group(how, db, now_ms, rng, pool);
            if seen >= how.samples {
                break;
            }
        }
    }

    /// Looks at some keys of one group of a database, and says at how many.
    fn sample_group(
        &mut self,
        how: &Eviction,
        db: u16,
        now_ms: u64,
        rng: &mut Rng,
        pool: &mut Pool,
    ) -> usize {
        let Some(space) = self.dbs.get(usize::from(db)) else {
            return 0;
        };
        let found = if how.volatile {
            space.volatile_group(rng)
        } else {
            space.random_group(rng)
        };
        let Some((slot, group)) = found.filter(|(slot, _)| !self.is_hidden(*slot as u16)) else {
            return 0;
        };
        let Some(table) = space.table(slot) else {
            return 0;
        };
        let skip = if how.volatile {
            // There may be few of them in the group: all count.
            0
        } else {
            rng.index(table.group_len(group).saturating_sub(how.samples) + 1)
        };
        let mut seen = 0;
        table.each_in_group(group, &mut |entry| {
            if how.volatile && entry.expire_at_ms() == NEVER {
                return;
            }
            seen += 1;
            if seen <= skip || seen > skip + how.samples {
                return;
            }
            let score = how.score(entry, now_ms);
            let known = |c: &Candidate| c.db == db && *c.key == *entry.key();
            if pool.place_of(score).is_some() && !pool.0.iter().any(known) {
                pool.add(Candidate {
                    score,
                    db,
                    slot: slot as u16,
                    key: entry.key().into(),
                });
            }
        });
        if how.volatile && seen == 0 {
            // Those that it had are gone: it must not be drawn again.
            if let Some(space) = self.dbs.get_mut(usize::from(db)) {
                space.settle_group(slot, group);
            }
        }
        seen.saturating_sub(skip).min(how.samples)
    }

    fn random_victim(&mut self, how: &Eviction, rng: &mut Rng) -> Option<Candidate> {
        // One database after the other has its turn.
        for _ in 0..self.dbs.len() {
            self.evict_db = (self.evict_db + 1) % self.dbs.len();
            for _ in 0..ROUNDS_MAX {
                let mut pool = Pool::default();
                self.sample(
                    &Eviction { samples: 1, ..*how },
                    self.evict_db as u16,
                    0,
                    rng,
                    &mut pool,
                );
                if let Some(candidate) = pool.0.pop() {
                    return Some(candidate);
                }
                let space = &self.dbs[self.evict_db];
                if space.len() == 0 || how.volatile && space.expiries_len() == 0 {
                    break;
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_by_name() {
        for name in [
            "allkeys-lru",
            "volatile-lru",
            "volatile-ttl",
            "allkeys-random",
            "volatile-lfu",
        ] {
            let policy = Eviction::named(name).expect(name);
            assert_eq!(policy.volatile, name.starts_with("volatile"));
        }
        assert_eq!(Eviction::named("noeviction"), Some(Eviction::default()));
        assert_eq!(Eviction::named("allkeys-mru"), None);
    }

    #[test]
    fn counters_decay_and_rise_ever_more_slowly() {
        let how = Eviction::named("allkeys-lfu").expect("a policy");
        let noted = counted(20, 100 * 60_000);
        assert_eq!(how.frequency(noted, 100 * 60_000), 20);
        assert_eq!(how.frequency(noted, 107 * 60_000), 13);
        assert_eq!(how.frequency(noted, 200 * 60_000), 0);
        let never = Eviction {
            lfu_decay_minutes: 0,
            ..how
        };
        assert_eq!(never.frequency(noted, 200 * 60_000), 20);
    }

    #[test]
    fn notes_are_of_the_policy() {
        let now_ms = 1_700_000_000_000;
        let second = |back: u64| ((now_ms / 1000 - back) as u32) & ACCESS_MASK;
        let lru = Eviction::named("volatile-lru").expect("a policy");
        for back in [0, 5, 1_000_000] {
            let note = lru.note(second(back), now_ms);
            assert_eq!(note, Some(AccessNote::IdleSeconds(back)));
        }
        let later = second(0).wrapping_add(3) & ACCESS_MASK;
        assert_eq!(lru.note(later, now_ms), Some(AccessNote::IdleSeconds(0)));
        let lfu = Eviction::named("allkeys-lfu").expect("a policy");
        let note = lfu.note(counted(77, now_ms), now_ms);
        assert_eq!(note, Some(AccessNote::Frequency(77)));
        let ttl = Eviction::named("volatile-ttl").expect("a policy");
        assert_eq!(ttl.note(7, now_ms), None);
    }

    #[test]
    fn the_pool_keeps_the_best() {
        let mut pool = Pool::default();
        for score in [5, 1, 9, 3, 7, 30, 2].into_iter().chain(10..25) {
            pool.add(Candidate {
                score,
                db: 0,
                slot: 0,
                key: Box::default(),
            });
        }
        let scores: Vec<u64> = pool.0.iter().map(|c| c.score).collect();
        assert_eq!(scores, (10..25).chain([30]).collect::<Vec<_>>());
        assert!(pool.place_of(10).is_none() && pool.place_of(11).is_some());
    }
}
