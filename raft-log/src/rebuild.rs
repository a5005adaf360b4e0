//! A shard whose majority is gone for good, made anew from one survivor: offline, on the survivor's directory.
//!
//! The survivor's log is kept as it is, and a membership of that node alone is written behind it, under a new
//! term: at its next start the node elects itself and commits all that it has. What only the lost voters had is lost; so
//! nothing calls this by itself.
//!
//! The lost members know nothing of it. Should they come back with their old disks, they could be a majority of the
//! old membership, elect a leader, and have it overwrite this log. Their ids are written down beside the log
//! ([`Excluded`]), and nothing that comes from them is taken any more.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use crate::disk::{self, Disk};
use crate::error::StartError;
use crate::ids::{NodeId, ShardId};
use crate::log::{Offline, Record};
use crate::raft::{Entry, LeaderId, LogId, Membership, Payload, Vote};
use crate::sealed;
use crate::snapshots::Snapshots;
use crate::types::{EntryId, Member, Role};

const FILE: &str = "excluded";
const FILE_MAX: u64 = 1 << 20;
const TITLE: &str = "holdfast-excluded 1";

/// What a stopped node's log says of its shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Survivor {
    /// The shard.
    pub shard: ShardId,
    /// The node.
    pub node: NodeId,
    /// What it keeps.
    pub role: Role,
    /// All members, as the node's log says, and whether they vote.
    pub members: Vec<(NodeId, Member, bool)>,
    /// The newest term that the node has voted in, or has an entry of.
    pub term: u64,
    /// Its last entry.
    pub last: Option<EntryId>,
    /// The last entry that it knows to be committed.
    pub committed: Option<EntryId>,
    /// The last entry that its snapshot covers.
    pub snapshot: Option<EntryId>,
}

impl Survivor {
    /// Whether an entry is known to be committed that this log does not hold.
    pub fn lacks_committed(&self) -> bool {
        self.committed.is_some_and(|committed| {
            self.last
                .is_none_or(|last| last.index < committed.index || last.term < committed.term)
        })
    }
}

struct Found {
    survivor: Survivor,
    membership: Membership,
    log: Offline,
    /// The snapshot's last entry.
    covered: Option<LogId>,
}

fn refused(dir: &Path, what: impl Into<String>) -> StartError {
    StartError::Identity {
        dir: dir.to_path_buf(),
        what: what.into(),
    }
}

async fn find(disk: &Arc<dyn Disk>, dir: &Path) -> Result<Found, StartError> {
    let log = Offline::open(disk, dir).await?;
    let snapshots = Snapshots::open(disk.clone(), dir).await?;
    let (covered, stored) = match snapshots.current() {
        Some(stored) => (
            stored.meta.last_log_id,
            Some(stored.meta.last_membership.membership().clone()),
        ),
        None => (None, None),
    };
    let membership = match log.membership().await? {
        Some(newest) => newest,
        None => stored.unwrap_or_default(),
    };
    let identity = log.identity();
    let state = log.state();
    let voters: BTreeSet<NodeId> = membership.voter_ids().collect();
    let last = state.last.max(covered);
    let voted = state.vote.map_or(0, |vote| vote.leader_id.term);
    let survivor = Survivor {
        shard: identity.shard,
        node: identity.node,
        role: identity.role,
        members: membership
            .nodes()
            .map(|(id, member)| (*id, member.clone(), voters.contains(id)))
            .collect(),
        term: voted.max(last.map_or(0, |id| id.leader_id.term)),
        last: last.as_ref().map(EntryId::from),
        committed: state.committed.as_ref().map(EntryId::from),
        snapshot: covered.as_ref().map(EntryId::from),
    };
    Ok(Found {
        survivor,
        membership,
        log,
        covered,
    })
}

/// Says what a stopped node's log holds. `dir` is the group's.
///
/// # Errors
/// There is no log, it is in use, or it is damaged.
pub async fn inspect(disk: &Arc<dyn Disk>, dir: &Path) -> Result<Survivor, StartError> {
    Ok(find(disk, dir).await?.survivor)
}

/// Makes a stopped data node the only voter of its shard, under a new term. What the other voters alone had is lost, and
/// they must never run again with their present disks.
///
/// # Errors
/// As [`inspect`]; the node is a witness, or has never been a member. Nothing has changed then, unless the disk
/// failed.
pub async fn rebuild(disk: &Arc<dyn Disk>, dir: &Path) -> Result<Survivor, StartError> {
    let Found {
        survivor,
        membership,
        log,
        covered,
    } = find(disk, dir).await?;
    let me = survivor.node;
    if survivor.role == Role::Witness {
        return Err(refused(
            dir,
            "a witness holds no data: a shard is rebuilt from a data node",
        ));
    }
    let (Some(last), Some(own)) = (survivor.last, membership.get_node(&me)) else {
        return Err(refused(
            dir,
            "this node has never been a member of the shard",
        ));
    };
    let mut excluded = Excluded::read(&**disk, dir).await?;
    excluded
        .0
        .extend(membership.nodes().map(|(id, _)| *id).filter(|id| *id != me));
    // First: it only matters once the rest is there.
    excluded.write(&**disk, dir).await?;

    let leader = LeaderId {
        term: survivor.term + 1,
        node_id: me,
    };
    let alone = Membership::new(
        vec![BTreeSet::from([me])],
        BTreeMap::from([(me, own.clone())]),
    )
    .map_err(|e| refused(dir, e.to_string()))?;
    let mut records = Vec::new();
    let state = log.state();
    if let Some(covered) = covered
        && state.last < Some(covered)
    {
        // A snapshot was installed, and the crash came before the log was cut behind it.
        records.push(Record::Purge(covered));
    } else if state.committed.is_some() && state.committed_here() != state.committed {
        // What it says is committed it has not got, and nobody else has any more.
        let first = log.first().await?;
        records.extend(state.committed_here().or(first).map(Record::Committed));
    }
    records.push(Record::Vote(Vote {
        leader_id: leader,
        committed: false,
    }));
    records.push(Record::Entry(Entry {
        id: LogId::new(leader, last.index + 1),
        payload: Payload::Membership(alone),
    }));
    log.append(&records).await?;
    Ok(survivor)
}

/// Members that were given up when the shard was rebuilt: they may not take part under these ids any more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Excluded(pub BTreeSet<NodeId>);

impl Excluded {
    /// Reads the list beside a log; most have none.
    ///
    /// # Errors
    /// The disk's, and a damaged list.
    pub async fn read(disk: &dyn Disk, dir: &Path) -> Result<Excluded, StartError> {
        let path = dir.join(FILE);
        if disk.stat(&path).await?.is_none() {
            return Ok(Excluded::default());
        }
        let text = disk::read_all(disk, &path, FILE_MAX).await?;
        parse(&text).map_err(|what| StartError::Corrupt {
            file: path,
            offset: 0,
            what: what.into(),
        })
    }

    async fn write(&self, disk: &dyn Disk, dir: &Path) -> std::io::Result<()> {
        let lines: String = self.0.iter().map(|node| format!("node {node}\n")).collect();
        let text = sealed::seal(TITLE, &lines);
        disk::replace(disk, &dir.join(FILE), Bytes::from(text)).await
    }
}

fn parse(text: &[u8]) -> Result<Excluded, &'static str> {
    let lines = sealed::open(TITLE, text)?;
    let node = |line: &str| line.strip_prefix("node ").and_then(|id| id.parse().ok());
    lines
        .map(|line| node(line).ok_or("not a node's id"))
        .collect::<Result<_, _>>()
        .map(Excluded)
}
