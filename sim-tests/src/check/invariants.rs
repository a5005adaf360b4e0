//! What must hold at every moment of a run, judged by what each node's executor shows of itself at some instants: equal
//! copies at equal positions, one leaseholder a shard at a time, one server a slot.
//!
//! A sighting is made inside the executor, between two turns, so it shows one instant, and sightings come in the order of
//! time. No rule can blame a right system: each says why.

use std::collections::BTreeMap;

/// A shard's id, or a node's.
pub type Id = [u8; 20];

/// What one executor shows at one instant.
#[derive(Clone, Debug)]
pub struct Sighting {
    /// Which machine.
    pub machine: usize,
    /// Its shard.
    pub shard: Id,
    /// Its node id.
    pub node: Id,
    /// Index of the last log entry applied.
    pub index: u64,
    /// Digest of data and slots, if nothing but what entries up to `index` say is in memory.
    pub digest: Option<u64>,
    /// If it would answer now: its term, and the slots that it serves, one bit each.
    pub serves: Option<(u64, Vec<u8>)>,
}

/// A node that would answer, as last seen.
#[derive(Debug)]
struct Served {
    at: u64,
    machine: usize,
    index: u64,
    slots: Vec<u8>,
}

/// Everything seen so far.
#[derive(Debug, Default)]
pub struct Invariants {
    seen: u64,
    digests: BTreeMap<(Id, u64), (u64, usize)>,
    /// The latest leadership of each shard that was seen with a lease: term and node, and its machine.
    leases: BTreeMap<Id, ((u64, Id), usize)>,
    served: BTreeMap<Id, Served>,
    compared: u64,
}

/// What a sighting came to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Judgement {
    /// Broken promises.
    pub broken: Vec<String>,
    /// Two shards may serve one slot; looking again soon will tell.
    pub look_again: bool,
}

impl Invariants {
    /// How often two copies were compared.
    pub fn compared(&self) -> u64 {
        self.compared
    }

    /// Takes the next sighting.
    pub fn saw(&mut self, now: Sighting) -> Judgement {
        let mut judgement = Judgement::default();
        self.seen += 1;
        self.copies(&now, &mut judgement);
        if let Some((term, slots)) = &now.serves {
            self.leases(&now, *term, &mut judgement);
            self.slots(&now, slots, &mut judgement);
        }
        judgement
    }

    /// The log decides everything that is in a copy.
    fn copies(&mut self, now: &Sighting, judgement: &mut Judgement) {
        let Some(digest) = now.digest else { return };
        let entry = self.digests.entry((now.shard, now.index));
        let (known, by) = *entry.or_insert((digest, now.machine));
        self.compared += u64::from(by != now.machine);
        if known != digest {
            judgement.broken.push(format!(
                "n{} and n{by} hold different data at log entry {}",
                now.machine, now.index
            ));
        }
    }

    /// A later leadership needs a quorum that no longer holds the earlier leader's lease, and grants it none any more.
    fn leases(&mut self, now: &Sighting, term: u64, judgement: &mut Judgement) {
        let of = (term, now.node);
        let (latest, by) = *self.leases.entry(now.shard).or_insert((of, now.machine));
        if of < latest {
            judgement.broken.push(format!(
                "n{} would answer in term {term} after n{by} did in term {}",
                now.machine, latest.0
            ));
        } else {
            self.leases.insert(now.shard, (of, now.machine));
        }
    }

    /// Whoever would answer for a shard has applied all that any other shard was told of its log. Between two sightings of
    /// it with at most one entry in between a slot that it serves in both cannot have gone and come back, so it
    /// served it all the time; nobody else may have been seen to serve it meanwhile.
    fn slots(&mut self, now: &Sighting, slots: &[u8], judgement: &mut Judgement) {
        let before = self.served.get(&now.shard);
        for (_, other) in self.served.iter().filter(|(shard, _)| **shard != now.shard) {
            let common = |i: &usize| slots[*i] & other.slots[*i] != 0;
            let Some(byte) = (0..slots.len()).find(common) else {
                continue;
            };
            judgement.look_again = true;
            let Some(before) = before.filter(|b| b.at < other.at && now.index <= b.index + 1)
            else {
                continue;
            };
            let both = slots[byte] & other.slots[byte] & before.slots[byte];
            if both != 0 {
                judgement.broken.push(format!(
                    "slot {} is served by n{} and by n{} at the same time",
                    byte * 8 + both.trailing_zeros() as usize,
                    now.machine,
                    other.machine
                ));
            }
        }
        let served = Served {
            at: self.seen,
            machine: now.machine,
            index: now.index,
            slots: slots.to_vec(),
        };
        self.served.insert(now.shard, served);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Id = [1; 20];
    const B: Id = [2; 20];

    fn saw(machine: usize, shard: Id, index: u64) -> Sighting {
        Sighting {
            machine,
            shard,
            node: [machine as u8; 20],
            index,
            digest: None,
            serves: None,
        }
    }

    fn serves(machine: usize, shard: Id, index: u64, term: u64, slots: u8) -> Sighting {
        Sighting {
            serves: Some((term, vec![0, slots])),
            ..saw(machine, shard, index)
        }
    }

    fn broken(sightings: Vec<Sighting>) -> Vec<String> {
        let mut all = Invariants::default();
        let each = sightings.into_iter().flat_map(|s| all.saw(s).broken);
        each.collect()
    }

    #[test]
    fn copies_are_equal_at_equal_positions() {
        let at = |machine, shard, index, digest| Sighting {
            digest: Some(digest),
            ..saw(machine, shard, index)
        };
        let good = vec![
            at(0, A, 7, 1),
            at(0, A, 8, 2),
            at(1, B, 8, 3),
            at(2, A, 7, 1),
        ];
        assert!(broken(good).is_empty());
        let bad = broken(vec![at(0, A, 7, 1), at(2, A, 7, 2)]);
        assert_eq!(bad, ["n2 and n0 hold different data at log entry 7"]);
    }

    #[test]
    fn an_earlier_leader_does_not_answer_after_a_later_one() {
        let good = vec![
            serves(0, A, 1, 1, 0),
            serves(1, A, 2, 2, 0),
            serves(3, B, 1, 1, 0),
            serves(0, A, 3, 3, 0),
        ];
        assert!(broken(good).is_empty());
        let bad = broken(vec![serves(1, A, 2, 2, 0), serves(0, A, 1, 1, 0)]);
        assert_eq!(bad, ["n0 would answer in term 1 after n1 did in term 2"]);
        // In one term a second leader can only be the one with the greater id.
        assert!(broken(vec![serves(0, A, 1, 1, 0), serves(1, A, 2, 1, 0)]).is_empty());
        let bad = broken(vec![serves(1, A, 2, 1, 0), serves(0, A, 1, 1, 0)]);
        assert_eq!(bad.len(), 1);
    }

    #[test]
    fn a_slot_is_served_by_one_shard() {
        // It moved between two looks.
        let moved = vec![
            serves(0, A, 10, 1, 0b110),
            serves(1, B, 10, 1, 0b010),
            serves(0, A, 12, 1, 0b100),
        ];
        assert!(broken(moved).is_empty());
        // It may have moved and come back.
        let back = vec![
            serves(0, A, 10, 1, 0b110),
            serves(1, B, 10, 1, 0b010),
            serves(0, A, 12, 1, 0b110),
        ];
        assert!(broken(back).is_empty());
        let mut all = Invariants::default();
        assert!(!all.saw(serves(0, A, 10, 1, 0b110)).look_again);
        assert!(all.saw(serves(1, B, 10, 1, 0b010)).look_again);
        let both = all.saw(serves(0, A, 11, 1, 0b110));
        assert_eq!(
            both.broken,
            ["slot 9 is served by n0 and by n1 at the same time"]
        );
    }
}
