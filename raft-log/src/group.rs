//! The handle of one group.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use crate::app::App;
use crate::disk::Disk;
use crate::error::{ChangeError, ProposeError, ReadError, StartError};
use crate::ids::{NodeId, ShardId};
use crate::types::{Committed, GroupConfig, GroupStatus, Member, Office, OfficeId, SnapshotInfo};
use crate::watch;

/// The process's Raft server: carries all groups of this process. A handle; clones are the same server.
#[derive(Clone)]
pub struct RaftServer {
    addr: SocketAddr,
}

impl RaftServer {
    /// Listens at `addr`.
    ///
    /// # Errors
    /// [`StartError::Listen`].
    pub async fn listen(addr: SocketAddr) -> Result<RaftServer, StartError> {
        Ok(RaftServer { addr })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The group of a shard, if this process is a member of it.
    pub fn group(&self, _shard: &ShardId) -> Option<Group> {
        None
    }

    /// All groups of this process, by shard id.
    pub fn groups(&self) -> Vec<Group> {
        Vec::new()
    }

    /// Stops listening. Groups should be stopped first.
    pub async fn stop(&self) {}
}

/// One shard's replicated log at this node. A handle, for any thread; clones are the same group.
#[derive(Clone)]
pub struct Group {
    inner: Arc<Inner>,
}

struct Inner {
    config: GroupConfig,
    office: watch::Receiver<Office>,
    committed: watch::Receiver<Option<u64>>,
    flushed: watch::Receiver<Option<u64>>,
    applied: watch::Receiver<Option<u64>>,
}

impl Group {
    /// Opens the log in `config.dir` and takes part in the group: replays what is known to be
    /// committed to `app`, then follows, or stands for election.
    ///
    /// A node that was never in the group does nothing until [`Group::initialize`] or
    /// [`Group::join`]. Runs on the runtime that calls it; on a real machine the disk is used on a
    /// thread of the log's own.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start<A: App>(
        config: GroupConfig,
        disk: Arc<dyn Disk>,
        app: A,
        server: &RaftServer,
    ) -> Result<Group, StartError> {
        let _ = (config, disk, app, server);
        Err(StartError::Raft("not yet built".into()))
    }

    /// The group's shard.
    pub fn shard(&self) -> ShardId {
        self.inner.config.shard
    }

    /// This node.
    pub fn me(&self) -> NodeId {
        self.inner.config.me
    }

    /// Whether this node has ever been a member of the group.
    pub fn is_initialized(&self) -> bool {
        false
    }

    /// Makes this node the only voter of a new group. Once in the life of a shard.
    ///
    /// # Errors
    /// [`ChangeError::Refused`] if the group exists already.
    pub async fn initialize(&self) -> Result<(), ChangeError> {
        Err(ChangeError::Stopped)
    }

    /// Asks the members at `via` (Raft addresses) to take this node in, until it is a voter, with its
    /// log level. Asking again as a member only tells them this node's address.
    ///
    /// # Errors
    /// [`ChangeError`]; [`ChangeError::Busy`] when nobody answers for a while: it may be called again.
    pub async fn join(&self, via: &[String]) -> Result<(), ChangeError> {
        let _ = via;
        Err(ChangeError::Stopped)
    }

    /// Asks the other members to remove this node. It may be stopped then, and its files removed.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub async fn leave(&self) -> Result<(), ChangeError> {
        Err(ChangeError::Stopped)
    }

    /// On the leader: takes a node in, or changes a member's address.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub async fn add_member(&self, node: NodeId, member: Member) -> Result<(), ChangeError> {
        let _ = (node, member);
        Err(ChangeError::Stopped)
    }

    /// On the leader: removes a member. A node that was removed must not come back under its id.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub async fn remove_member(&self, node: NodeId) -> Result<(), ChangeError> {
        let _ = node;
        Err(ChangeError::Stopped)
    }

    /// On the leader: brings `node` level, then hands the office over. Returns when somebody else
    /// leads. Proposals that arrive meanwhile are refused, never lost half way.
    ///
    /// # Errors
    /// [`ChangeError`]; after [`ChangeError::Busy`] this node may lead again, in another office.
    pub async fn transfer_to(&self, node: NodeId) -> Result<(), ChangeError> {
        let _ = node;
        Err(ChangeError::Stopped)
    }

    /// Appends `payload` to the log if `office` still lasts; does not wait. Proposals of one office
    /// enter the log in the order of the calls, and if one does not, none after it does.
    ///
    /// # Errors
    /// See [`ProposeError`]. That a proposal was taken promises nothing: it is in the log when it
    /// comes to [`App::apply`].
    pub fn propose(&self, office: OfficeId, payload: Bytes) -> Result<(), ProposeError> {
        let _ = (office, payload);
        Err(ProposeError::Stopped)
    }

    /// Bytes proposed here and not yet committed.
    pub fn backlog_bytes(&self) -> u64 {
        0
    }

    /// Whether no other node can be leader at `now`, nor have been since this node took office. To be
    /// asked after a read was executed, with a clock read after it. Cheap, and free of locks.
    pub fn lease_valid(&self, now: Instant) -> bool {
        let _ = now;
        false
    }

    /// Whether this node leads.
    pub fn office(&self) -> watch::Receiver<Office> {
        self.inner.office.clone()
    }

    /// Index up to which the log is committed, as far as this node knows.
    pub fn committed(&self) -> watch::Receiver<Option<u64>> {
        self.inner.committed.clone()
    }

    /// Index up to which this node's own log is durable.
    pub fn flushed(&self) -> watch::Receiver<Option<u64>> {
        self.inner.flushed.clone()
    }

    /// Index up to which the [`App`] has applied.
    pub fn applied(&self) -> watch::Receiver<Option<u64>> {
        self.inner.applied.clone()
    }

    /// Everything at once, for people.
    pub fn status(&self) -> GroupStatus {
        unreachable!("a group cannot be started yet")
    }

    /// The newest snapshot of this node, kept from removal as long as the value lives.
    pub fn latest_snapshot(&self) -> Option<SnapshotInfo> {
        None
    }

    /// Committed entries from `from` on, as many as have about `max_bytes` (at least one if there is
    /// any), none beyond what was given to [`App::apply`]. For rebuilding the state.
    ///
    /// # Errors
    /// [`ReadError::Purged`] when `from` was cut.
    pub async fn read_committed(
        &self,
        from: u64,
        max_bytes: u64,
    ) -> Result<Vec<Committed>, ReadError> {
        let _ = (from, max_bytes);
        Err(ReadError::Stopped)
    }

    /// Takes a snapshot and cuts the log behind it. Returns when it has begun.
    ///
    /// # Errors
    /// [`ChangeError::Stopped`].
    pub async fn snapshot(&self) -> Result<(), ChangeError> {
        Err(ChangeError::Stopped)
    }

    /// Stops taking part. Everything that was flushed stays flushed.
    pub async fn stop(&self) {}
}
