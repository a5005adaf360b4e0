//! What a group tells and is told: plain values.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;

use crate::ids::{NodeId, ShardId};

/// What a member of the group keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// The state, built from the log: may lead and serve.
    #[default]
    Data,
    /// The log's tail only. It votes, and leads just long enough to bring a data node level.
    Witness,
}

/// A member as the group's own log names it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Member {
    /// Where its Raft server listens, `host:port`.
    pub addr: String,
    /// What it keeps.
    pub role: Role,
}

/// Which entry: an index is given out once per term and leader, and once only among committed ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryId {
    /// Term in which it was proposed.
    pub term: u64,
    /// Leader that proposed it.
    pub leader: NodeId,
    /// Place in the log; the first entry of a group has index 0.
    pub index: u64,
}

/// An entry that a quorum holds durably: every later history contains it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// Place in the log; consecutive.
    pub index: u64,
    /// Term in which it was proposed.
    pub term: u64,
    /// Leader that proposed it.
    pub leader: NodeId,
    /// What was proposed; `None` for an entry of the group's own (start of an office, membership).
    pub payload: Option<Bytes>,
}

impl Committed {
    /// Which entry this is.
    pub fn id(&self) -> EntryId {
        EntryId {
            term: self.term,
            leader: self.leader,
            index: self.index,
        }
    }
}

/// One stretch of time in which this node may propose. A node that loses its office and wins it
/// again has another one, with another id, even if that should be in the same term.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OfficeId {
    /// Raft's term.
    pub term: u64,
    /// Index of the entry that opened the office. All proposals of this office have higher indexes;
    /// everything up to it was applied before the office was announced.
    pub first_index: u64,
}

impl OfficeId {
    /// Whether a committed entry is a proposal of this office, made by `me`.
    pub fn proposed(&self, me: NodeId, entry: &Committed) -> bool {
        entry.term == self.term && entry.leader == me && entry.index > self.first_index
    }
}

/// Whether this node leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Office {
    /// It does, and has applied everything committed before it did.
    Leader(OfficeId),
    /// It does not, or no longer.
    Follower {
        /// Who does, where that is known. It may be a witness, which serves nobody.
        leader: Option<NodeId>,
        /// The newest term this node knows.
        term: u64,
    },
}

/// A snapshot file together with what it covers. The file is kept as long as a clone of this lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotInfo {
    /// The last entry whose effects it contains.
    pub last: EntryId,
    /// Where it is.
    pub path: PathBuf,
    /// Its length in bytes.
    pub len: u64,
    pub(crate) keep: Keep,
}

/// Keeps a snapshot's file from removal.
#[derive(Clone, Default)]
pub(crate) struct Keep(pub(crate) Option<std::sync::Arc<crate::snapshots::File>>);

impl std::fmt::Debug for Keep {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_some() { "kept" } else { "not kept" })
    }
}

impl PartialEq for Keep {
    fn eq(&self, _other: &Keep) -> bool {
        true
    }
}

impl Eq for Keep {}

/// Settings of a group. [`GroupConfig::new`] gives the defaults.
#[derive(Clone, Debug)]
pub struct GroupConfig {
    /// The shard.
    pub shard: ShardId,
    /// This node.
    pub me: NodeId,
    /// What this node keeps.
    pub role: Role,
    /// This node has been a member before, as its owner knows from elsewhere: if the log is not
    /// there, it is lost, and the start fails with [`crate::StartError::Identity`].
    pub must_exist: bool,
    /// Where the other members reach this node's [`crate::RaftServer`], `host:port`.
    pub advertise: String,
    /// Directory of the group's own files; created if need be.
    pub dir: PathBuf,
    /// How often a leader tells the others that it is there. An answer that takes longer than this
    /// does not renew its lease.
    pub heartbeat: Duration,
    /// A follower that has heard no leader for `election_max`, and then for a random time between
    /// these two, stands for election. `election_max` is also the lease that followers grant.
    pub election_min: Duration,
    /// See `election_min`.
    pub election_max: Duration,
    /// How much earlier than the followers' the leader's own lease ends, for clocks that drift.
    pub lease_margin: Duration,
    /// A segment is closed when it is longer than this.
    pub segment_bytes: u64,
    /// When the log's files are longer than this, a snapshot is taken and the log is cut behind it.
    pub log_bytes_max: u64,
    /// After a snapshot, this much of the log before it is kept for followers that are a little
    /// behind. At most half of `log_bytes_max`.
    pub log_bytes_keep: u64,
    /// The newest entries are kept in memory as long as they have fewer bytes than this.
    pub cache_bytes: u64,
    /// Bytes that were proposed but not yet committed; beyond it proposals are refused, which ends
    /// the office. Whoever proposes should slow down long before.
    pub backlog_bytes_max: u64,
}

impl GroupConfig {
    /// The defaults.
    pub fn new(shard: ShardId, me: NodeId, role: Role, advertise: String, dir: PathBuf) -> Self {
        const MIB: u64 = 1 << 20;
        GroupConfig {
            shard,
            me,
            role,
            must_exist: false,
            advertise,
            dir,
            heartbeat: Duration::from_millis(80),
            election_min: Duration::from_millis(200),
            election_max: Duration::from_millis(400),
            lease_margin: Duration::from_millis(60),
            segment_bytes: 64 * MIB,
            log_bytes_max: 1024 * MIB,
            log_bytes_keep: 256 * MIB,
            cache_bytes: match role {
                Role::Data => 64 * MIB,
                Role::Witness => MIB,
            },
            backlog_bytes_max: 1024 * MIB,
        }
    }
}

/// A member in [`GroupStatus`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberStatus {
    /// Its id.
    pub node: NodeId,
    /// Its address and role.
    pub member: Member,
    /// It votes; otherwise it only receives.
    pub voter: bool,
    /// On the leader: the index up to which its log is known to equal ours, durably.
    pub matched: Option<u64>,
}

/// How the group looks from this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupStatus {
    /// This node's role.
    pub role: Role,
    /// Newest term.
    pub term: u64,
    /// Leader, where known.
    pub leader: Option<NodeId>,
    /// Whether this node may propose now.
    pub office: Office,
    /// Everyone, by id.
    pub members: Vec<MemberStatus>,
    /// Index of the last entry in the log, durable or not.
    pub appended: Option<u64>,
    /// Index up to which this node's log is durable.
    pub flushed: Option<u64>,
    /// Index up to which a quorum holds the log, as far as this node knows.
    pub committed: Option<u64>,
    /// Index up to which the [`crate::App`] has applied.
    pub applied: Option<u64>,
    /// Index that the newest snapshot covers.
    pub snapshot: Option<u64>,
    /// Index up to which the log was cut.
    pub purged: Option<u64>,
    /// What is left of the lease; zero without one.
    pub lease_remaining: Duration,
    /// Bytes of the log's files.
    pub log_bytes: u64,
    /// Bytes proposed here and not yet committed.
    pub backlog_bytes: u64,
    /// Why the log waits before it writes on (the disk is full), while it does.
    pub stalled: Option<String>,
    /// Why the group has stopped for good, once it has.
    pub failed: Option<String>,
}

impl GroupStatus {
    /// Everyone who votes, data nodes and witnesses.
    pub fn all_voters(&self) -> impl Iterator<Item = &MemberStatus> {
        self.members.iter().filter(|m| m.voter)
    }

    /// The data nodes that vote.
    pub fn voters(&self) -> impl Iterator<Item = &MemberStatus> {
        self.members
            .iter()
            .filter(|m| m.voter && m.member.role == Role::Data)
    }

    /// The witnesses.
    pub fn witnesses(&self) -> impl Iterator<Item = &MemberStatus> {
        self.members
            .iter()
            .filter(|m| m.member.role == Role::Witness)
    }

    /// Those that only receive.
    pub fn learners(&self) -> impl Iterator<Item = &MemberStatus> {
        self.members.iter().filter(|m| !m.voter)
    }
}
