//! openraft's types as this crate chooses them, and their forms on the wire.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use holdfast_proto::raft as wire;
use openraft::entry::{RaftEntry, RaftPayload};
use openraft::impls::leader_id_adv;

use crate::ids::NodeId;
use crate::types::{EntryId, Member, Role};

/// openraft's type configuration.
#[derive(Debug, Clone, Copy, Default, Eq, PartialEq, Ord, PartialOrd)]
pub struct Types;

pub type LeaderId = leader_id_adv::LeaderId<u64, NodeId>;
pub type LogId = openraft::LogId<LeaderId>;
pub type Vote = openraft::impls::Vote<LeaderId>;
pub type Membership = openraft::Membership<NodeId, Member>;
pub type StoredMembership = openraft::StoredMembership<LeaderId, NodeId, Member>;
pub type SnapshotMeta = openraft::SnapshotMeta<LeaderId, NodeId, Member>;
pub type Payload = openraft::EntryPayload<Proposal, NodeId, Member>;

impl openraft::RaftTypeConfig for Types {
    type D = Proposal;
    type R = ();
    type NodeId = NodeId;
    type Node = Member;
    type Term = u64;
    type LeaderId = LeaderId;
    type Vote = Vote;
    type Payload = Payload;
    type Entry = Entry;
    type AsyncRuntime = crate::rt::Runtime;
    type Responder<T>
        = crate::propose::Responder
    where
        T: Send + 'static;
    type Batch<T>
        = openraft::impls::InlineBatch<T>
    where
        T: Send + 'static;
    type ErrorSource = openraft::impls::BoxedErrorSource;
}

/// What one office has put into the log.
///
/// openraft refuses a proposal when its lease has run out or while it hands over, and may take the
/// next one. Effects of commands that were executed in one order must not enter the log with a gap.
/// So each proposal carries its number within its office, and where openraft makes the entry, in the order
/// of the log ([`Entry::new`]), one that does not follow its predecessor turns into a blank entry.
#[derive(Debug, Default)]
pub struct Fence {
    next: AtomicU64,
    broken: AtomicBool,
}

impl Fence {
    /// Takes the proposal with this number in, unless one before it is missing.
    fn admit(&self, number: u64) -> bool {
        if self.broken.load(Ordering::Acquire) || self.next.load(Ordering::Acquire) != number {
            self.broken.store(true, Ordering::Release);
            return false;
        }
        self.next.store(number + 1, Ordering::Release);
        true
    }

    /// Ends the office: nothing more of it enters the log.
    pub fn break_off(&self) {
        self.broken.store(true, Ordering::Release);
    }

    /// How many proposals are in the log.
    pub fn admitted(&self) -> u64 {
        self.next.load(Ordering::Acquire)
    }

    /// A proposal was refused: the office is over.
    pub fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Acquire)
    }
}

/// A proposal on its way into the log.
#[derive(Clone)]
pub struct Proposal {
    /// What was proposed.
    pub data: Bytes,
    /// Number within its office; only on the proposer, and only until the entry is made.
    pub fence: Option<(Arc<Fence>, u64)>,
}

impl fmt::Debug for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.data.len())
    }
}

impl fmt::Display for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// An entry of the log.
#[derive(Clone, Debug)]
pub struct Entry {
    pub id: LogId,
    pub payload: Payload,
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.id, self.payload)
    }
}

impl RaftEntry for Entry {
    type CommittedLeaderId = LeaderId;
    type Payload = Payload;

    /// Called by openraft for each entry that this node writes as leader, in the order of the log.
    fn new(id: LogId, payload: Payload) -> Self {
        let payload = match payload {
            Payload::Normal(Proposal {
                data,
                fence: Some((fence, number)),
            }) => {
                if fence.admit(number) {
                    Payload::Normal(Proposal { data, fence: None })
                } else {
                    Payload::Blank
                }
            }
            other => other,
        };
        Entry { id, payload }
    }

    fn log_id_parts(&self) -> (&LeaderId, u64) {
        (&self.id.leader_id, self.id.index)
    }

    fn set_log_id(&mut self, id: LogId) {
        self.id = id;
    }

    fn get_membership(&self) -> Option<Membership> {
        match &self.payload {
            Payload::Membership(membership) => Some(membership.clone()),
            Payload::Blank | Payload::Normal(_) => None,
        }
    }
}

impl Entry {
    /// About how many bytes it takes in memory and on disk.
    pub fn bytes(&self) -> u64 {
        64 + match &self.payload {
            Payload::Normal(proposal) => proposal.data.len() as u64,
            Payload::Membership(_) => 256,
            Payload::Blank => 0,
        }
    }

    /// The proposal, if it is one.
    pub fn data(&self) -> Option<&Bytes> {
        match &self.payload {
            Payload::Normal(proposal) => Some(&proposal.data),
            Payload::Membership(_) | Payload::Blank => None,
        }
    }
}

/// A payload from outside: it was admitted where it was proposed.
pub fn normal(data: Bytes) -> Payload {
    Payload::normal(Proposal { data, fence: None })
}

pub fn log_id(term: u64, node: NodeId, index: u64) -> LogId {
    LogId::new(
        LeaderId {
            term,
            node_id: node,
        },
        index,
    )
}

impl From<&LogId> for EntryId {
    fn from(id: &LogId) -> Self {
        EntryId {
            term: id.leader_id.term,
            leader: id.leader_id.node_id,
            index: id.index,
        }
    }
}

impl From<EntryId> for LogId {
    fn from(id: EntryId) -> Self {
        log_id(id.term, id.leader, id.index)
    }
}

/// A message that no member of ours would send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed message: {0}")]
pub struct Malformed(pub &'static str);

fn node(bytes: &[u8]) -> Result<NodeId, Malformed> {
    NodeId::from_slice(bytes).map_err(|_| Malformed("a node id has 20 bytes"))
}

pub fn id_bytes(node: &NodeId) -> Bytes {
    Bytes::copy_from_slice(node.as_bytes())
}

pub fn log_id_to_wire(id: &LogId) -> wire::LogId {
    wire::LogId {
        term: id.leader_id.term,
        node: id_bytes(&id.leader_id.node_id),
        index: id.index,
    }
}

pub fn log_id_from_wire(id: wire::LogId) -> Result<LogId, Malformed> {
    Ok(log_id(id.term, node(&id.node)?, id.index))
}

pub fn opt_log_id(id: Option<wire::LogId>) -> Result<Option<LogId>, Malformed> {
    id.map(log_id_from_wire).transpose()
}

pub fn vote_to_wire(vote: &Vote) -> wire::Vote {
    wire::Vote {
        term: vote.leader_id.term,
        node: id_bytes(&vote.leader_id.node_id),
        committed: vote.committed,
    }
}

pub fn vote_from_wire(vote: Option<wire::Vote>) -> Result<Vote, Malformed> {
    let vote = vote.ok_or(Malformed("no vote"))?;
    let leader_id = LeaderId {
        term: vote.term,
        node_id: node(&vote.node)?,
    };
    Ok(Vote {
        leader_id,
        committed: vote.committed,
    })
}

pub fn role_to_wire(role: Role) -> wire::Role {
    match role {
        Role::Data => wire::Role::Data,
        Role::Witness => wire::Role::Witness,
    }
}

pub fn role_from_wire(role: i32) -> Result<Role, Malformed> {
    match wire::Role::try_from(role) {
        Ok(wire::Role::Data) => Ok(Role::Data),
        Ok(wire::Role::Witness) => Ok(Role::Witness),
        Err(_) => Err(Malformed("unknown role")),
    }
}

pub fn member_to_wire(id: &NodeId, member: &Member) -> wire::Member {
    wire::Member {
        node: id_bytes(id),
        addr: member.addr.clone(),
        role: role_to_wire(member.role) as i32,
    }
}

pub fn member_from_wire(member: wire::Member) -> Result<(NodeId, Member), Malformed> {
    let role = role_from_wire(member.role)?;
    Ok((
        node(&member.node)?,
        Member {
            addr: member.addr,
            role,
        },
    ))
}

pub fn membership_to_wire(membership: &Membership) -> wire::Membership {
    wire::Membership {
        configs: membership
            .get_joint_config()
            .iter()
            .map(|set| wire::NodeSet {
                nodes: set.iter().map(id_bytes).collect(),
            })
            .collect(),
        members: membership
            .nodes()
            .map(|(id, member)| member_to_wire(id, member))
            .collect(),
    }
}

pub fn membership_from_wire(membership: wire::Membership) -> Result<Membership, Malformed> {
    let mut configs = Vec::new();
    for set in membership.configs {
        let set: Result<BTreeSet<NodeId>, Malformed> =
            set.nodes.iter().map(|id| node(id)).collect();
        configs.push(set?);
    }
    let members: Result<BTreeMap<NodeId, Member>, Malformed> = membership
        .members
        .into_iter()
        .map(member_from_wire)
        .collect();
    let members = members?;
    if configs.iter().flatten().any(|id| !members.contains_key(id)) {
        return Err(Malformed("a voter without an address"));
    }
    if configs.is_empty() && members.is_empty() {
        return Ok(Membership::default());
    }
    Membership::new(configs, members).map_err(|_| Malformed("impossible membership"))
}

pub fn entry_to_wire(entry: &Entry) -> wire::Entry {
    let payload = match &entry.payload {
        Payload::Blank => wire::entry::Payload::Blank(true),
        Payload::Normal(proposal) => wire::entry::Payload::Normal(proposal.data.clone()),
        Payload::Membership(membership) => {
            wire::entry::Payload::Membership(membership_to_wire(membership))
        }
    };
    wire::Entry {
        id: Some(log_id_to_wire(&entry.id)),
        payload: Some(payload),
    }
}

pub fn entry_from_wire(entry: wire::Entry) -> Result<Entry, Malformed> {
    let id = log_id_from_wire(entry.id.ok_or(Malformed("an entry without id"))?)?;
    let payload = match entry.payload.ok_or(Malformed("an entry without payload"))? {
        wire::entry::Payload::Blank(_) => Payload::Blank,
        wire::entry::Payload::Normal(data) => normal(data),
        wire::entry::Payload::Membership(membership) => {
            Payload::Membership(membership_from_wire(membership)?)
        }
    };
    Ok(Entry { id, payload })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_ends_the_office() {
        let fence = Arc::new(Fence::default());
        let me = NodeId::from_bytes([1; 20]);
        let mut index = 0;
        let mut make = |number| {
            index += 1;
            let fence = Some((fence.clone(), number));
            let proposal = Proposal {
                data: Bytes::from_static(b"x"),
                fence,
            };
            Entry::new(log_id(1, me, index), Payload::Normal(proposal))
                .data()
                .is_some()
        };
        assert!(make(0));
        assert!(make(1));
        assert!(!make(3), "2 is missing");
        assert!(!make(2), "never again in this office");
        assert!(!make(4));
    }

    #[test]
    fn wire_and_back() {
        let a = NodeId::from_bytes([1; 20]);
        let b = NodeId::from_bytes([2; 20]);
        let member = |role| Member {
            addr: "h:1".into(),
            role,
        };
        let members = BTreeMap::from([(a, member(Role::Data)), (b, member(Role::Witness))]);
        let membership =
            Membership::new(vec![BTreeSet::from([a]), BTreeSet::from([a, b])], members).unwrap();
        for payload in [
            Payload::Blank,
            normal(Bytes::from_static(b"abc")),
            Payload::Membership(membership.clone()),
        ] {
            let entry = Entry {
                id: log_id(3, b, 9),
                payload,
            };
            let back = entry_from_wire(entry_to_wire(&entry)).unwrap();
            assert_eq!(back.id, entry.id);
            assert_eq!(back.payload.to_string(), entry.payload.to_string());
        }
        let mut wire = membership_to_wire(&membership);
        wire.members.pop();
        assert!(membership_from_wire(wire).is_err());
    }
}
