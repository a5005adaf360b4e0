//! When each member was last heard to follow this leadership: what the leader's leases are made of.
//!
//! openraft's own `last_quorum_acked` will not do. In a stream of appends it credits an answer to every request
//! under way that ends at or before the same entry, also to one that was sent after the answered one; a leader
//! that was stopped for seconds and finds an old answer waiting would take itself for confirmed just now.
//! Here each answer counts for the very request that it answers, from the moment before that was sent.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Mutex, MutexGuard};
use std::time::Instant;

use crate::ids::NodeId;
use crate::raft::LeaderId;

/// The answers of all members. Shared by the connections to them.
#[derive(Debug, Default)]
pub struct Acks(Mutex<BTreeMap<NodeId, (LeaderId, Instant)>>);

impl Acks {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<NodeId, (LeaderId, Instant)>> {
        self.0
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// `member` has answered, as a follower, a request of leadership `reign` that was sent at `sent`.
    pub fn note(&self, member: NodeId, reign: LeaderId, sent: Instant) {
        let mut acks = self.lock();
        let known = acks.entry(member).or_insert((reign, sent));
        if known.0 != reign || known.1 < sent {
            *known = (reign, sent);
        }
    }

    /// Since when nobody else can lead: in each of `configs` (two while the membership changes) a majority has
    /// followed `reign` at that moment or later. `me` follows itself at `now`.
    pub fn quorum(
        &self,
        reign: LeaderId,
        me: NodeId,
        now: Instant,
        configs: &[BTreeSet<NodeId>],
    ) -> Option<Instant> {
        let acks = self.lock();
        let since = |voters: &BTreeSet<NodeId>| {
            let mut times: Vec<Instant> = voters
                .iter()
                .filter_map(|voter| match acks.get(voter) {
                    _ if *voter == me => Some(now),
                    Some((of, sent)) if *of == reign => Some(*sent),
                    _ => None,
                })
                .collect();
            times.sort_unstable_by(|a, b| b.cmp(a));
            times.get(voters.len() / 2).copied()
        };
        configs.iter().map(since).min().flatten()
    }
}

/// Requests under way on one stream, oldest first.
#[derive(Debug, Default)]
pub struct UnderWay(Mutex<VecDeque<(LeaderId, Instant)>>);

impl UnderWay {
    fn lock(&self) -> MutexGuard<'_, VecDeque<(LeaderId, Instant)>> {
        self.0
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// A request is about to be sent.
    pub fn sent(&self, reign: LeaderId) {
        self.lock().push_back((reign, Instant::now()));
    }

    /// The next answer has come: which leadership's request it answers, and since when.
    pub fn answered(&self) -> Option<(LeaderId, Instant)> {
        self.lock().pop_front()
    }

    /// Whether requests wait for their answers.
    pub fn any(&self) -> bool {
        !self.lock().is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_majority_of_every_configuration() {
        let id = |n: u8| NodeId::from_bytes([n; 20]);
        let reign = |term| LeaderId {
            term,
            node_id: id(1),
        };
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let acks = Acks::default();
        let three = BTreeSet::from([id(1), id(2), id(3)]);
        let quorum = |acks: &Acks, configs: &[BTreeSet<NodeId>]| {
            acks.quorum(reign(5), id(1), at(100), configs)
        };
        assert_eq!(quorum(&acks, std::slice::from_ref(&three)), None);
        acks.note(id(2), reign(4), at(50));
        assert_eq!(
            quorum(&acks, std::slice::from_ref(&three)),
            None,
            "of another leadership"
        );
        acks.note(id(2), reign(5), at(60));
        acks.note(id(2), reign(5), at(55));
        assert_eq!(quorum(&acks, std::slice::from_ref(&three)), Some(at(60)));
        let other = BTreeSet::from([id(1), id(3)]);
        assert_eq!(quorum(&acks, &[three.clone(), other.clone()]), None);
        acks.note(id(3), reign(5), at(40));
        assert_eq!(quorum(&acks, &[three, other]), Some(at(40)));
        assert_eq!(quorum(&acks, &[]), None);
    }
}
