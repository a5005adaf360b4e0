//! The handle of one group, and what its tasks share.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use bytes::Bytes;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::raft::VoteResponse;
use openraft::{Config, RaftMetrics, SnapshotPolicy, StepDownPolicy};
use tokio::sync::{Notify, mpsc};

use crate::app::App;
use crate::disk::Disk;
use crate::drive;
use crate::error::{ChangeError, ProposeError, ReadError, StartError};
use crate::ids::{NodeId, ShardId};
use crate::log::{Limits, LogStore, Owner};
use crate::net::{Context, Factory};
use crate::propose::{Lease, Pending, Seat};
use crate::raft::{LeaderId, LogId, Malformed, Membership, Types};
use crate::rebuild::Excluded;
use crate::server::RaftServer;
use crate::sm::{Applied, StateMachine};
use crate::snapshots::{Snapshots, Stored};
use crate::types::{
    Committed, GroupConfig, GroupStatus, Member, MemberStatus, Office, OfficeId, Role, SnapshotInfo,
};
use crate::watch;

/// A longer proposal does not fit into a record of the log, with what stands around it.
const PROPOSAL_MAX: u64 = (1 << 30) - 4096;

pub(crate) type Raft = openraft::Raft<Types, StateMachine>;
pub(crate) type Metrics = RaftMetrics<Types>;

/// What the tasks, the server and the handles of one group share.
pub(crate) struct Core {
    pub config: GroupConfig,
    pub raft: Raft,
    pub log: LogStore,
    pub applied: Arc<Applied>,
    pub snapshots: Snapshots,
    pub context: Arc<Context>,
    pub office: watch::Sender<Office>,
    pub committed: watch::Sender<Option<u64>>,
    pub desk: Arc<Mutex<Desk>>,
    pub pump: mpsc::UnboundedSender<Pending>,
    /// Wakes the task that looks after the office.
    pub wake: Arc<Notify>,
    /// For reads: shorter than the followers'.
    pub lease: Lease,
    /// While it lasts, openraft takes proposals.
    pub writable: Lease,
    /// The only voter may trust itself, but not while that changes.
    pub changing: AtomicBool,
    /// Peers whose vote was refused because they lack entries that this node has, and when.
    pub behind: Mutex<BTreeMap<NodeId, Instant>>,
    pub behind_seen: Notify,
    pub snapshot_wanted: AtomicBool,
    pub stopping: AtomicBool,
    /// A voter that was stopped may have promised a leader not to vote for a while: until then it
    /// neither votes nor stands.
    pub mute_until: Option<Instant>,
    pub server: RaftServer,
    /// Members that were given up for good: nothing that they send is taken.
    pub excluded: Excluded,
    complained: Mutex<Option<Instant>>,
}

/// Where proposals are handed in.
#[derive(Default)]
pub(crate) struct Desk {
    pub seat: Option<Seat>,
    /// The leadership of which a seat was already taken: a new seat needs a new entry to begin with.
    pub used: Option<LeaderId>,
    /// The leadership that is being handed over.
    pub leaving: Option<LeaderId>,
}

impl Desk {
    pub fn lock(desk: &Mutex<Desk>) -> MutexGuard<'_, Desk> {
        desk.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// One shard's replicated log at this node. A handle, for any thread; clones are the same group.
#[derive(Clone)]
pub struct Group {
    core: Arc<Core>,
}

fn config(config: &GroupConfig) -> Result<Config, StartError> {
    let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    if config.lease_margin * 2 > config.election_max {
        return Err(StartError::Config(
            "the lease margin is over half the election timeout".into(),
        ));
    }
    let raft = Config {
        cluster_name: config.shard.to_string(),
        heartbeat_interval: ms(config.heartbeat),
        election_timeout_min: ms(config.election_min),
        election_timeout_max: ms(config.election_max),
        enable_pre_vote: Some(true),
        enable_leader_restore: Some(false),
        // Switched on once it is safe; never for a witness.
        enable_elect: false,
        quorum_loss_probe_interval: Some(ms(config.election_max) * 2),
        removed_leader_step_down: StepDownPolicy::Never,
        broadcast_submitted_on_append: Some(true),
        snapshot_policy: SnapshotPolicy::Never,
        // The log is cut by `drive`, in bytes.
        max_in_snapshot_log_to_keep: u64::MAX / 2,
        max_payload_entries: 4096,
        replication_lag_threshold: 4096,
        install_snapshot_timeout: 600_000,
        backoff: "20ms 40ms 80ms ...200ms".into(),
        ..Config::default()
    };
    raft.validate()
        .map_err(|e| StartError::Config(e.to_string()))
}

impl Group {
    /// Opens the log in `config.dir` and takes part in the group: gives what is known to be committed
    /// to `app`, then follows, or stands for election.
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
        if server.has(&config.shard) {
            return Err(StartError::InUse {
                dir: config.dir.clone(),
            });
        }
        let raft_config = Arc::new(self::config(&config)?);
        let owner = Owner {
            dir: config.dir.clone(),
            shard: config.shard,
            node: config.me,
            role: config.role,
            must_exist: config.must_exist,
        };
        let limits = Limits {
            segment_bytes: config.segment_bytes,
            cache_bytes: config.cache_bytes,
        };
        let (log, fresh) = LogStore::open(disk.clone(), owner, limits).await?;
        let snapshots = Snapshots::open(disk.clone(), &config.dir).await?;
        let excluded = Excluded::read(&*disk, &config.dir).await?;
        let applied = Applied::new();
        let context = Arc::new(Context {
            carrier: server.carrier(),
            shard: config.shard,
            me: config.me,
            disk,
            log: log.clone(),
            election_max: config.election_max,
            all_data_matched: AtomicU64::new(0),
            acks: crate::acks::Acks::default(),
        });
        let desk: Arc<Mutex<Desk>> = Arc::default();
        let counter = desk.clone();
        let on_applied = Box::new(move |leader: LeaderId, index: u64, len: u64| {
            if let Some(seat) = &Desk::lock(&counter).seat
                && seat.leader == leader
                && index > seat.id.first_index
            {
                seat.backlog.fetch_sub(len, Ordering::Relaxed);
            }
        });
        let machine = StateMachine::new(
            Box::new(app),
            config.role,
            applied.clone(),
            snapshots.clone(),
            on_applied,
        );
        let raft = Raft::new(
            config.me,
            raft_config,
            Factory(context.clone()),
            log.clone(),
            machine,
        )
        .await
        .map_err(|e| StartError::Raft(e.to_string()))?;
        let (office, _) = watch::channel(Office::Follower {
            leader: None,
            term: 0,
        });
        let (committed, _) = watch::channel(None);
        let (pump, proposals) = mpsc::unbounded_channel();
        let core = Arc::new(Core {
            raft,
            log,
            applied,
            snapshots,
            context,
            office,
            committed,
            desk,
            pump,
            wake: Arc::new(Notify::new()),
            lease: Lease::new(),
            writable: Lease::new(),
            changing: AtomicBool::new(false),
            behind: Mutex::default(),
            behind_seen: Notify::new(),
            snapshot_wanted: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            mute_until: (!fresh).then(|| Instant::now() + config.election_max),
            server: server.clone(),
            excluded,
            complained: Mutex::default(),
            config,
        });
        drive::spawn(&core, proposals);
        server.register(core.clone());
        Ok(Group { core })
    }

    pub(crate) fn from_core(core: Arc<Core>) -> Group {
        Group { core }
    }

    /// The group's shard.
    pub fn shard(&self) -> ShardId {
        self.core.config.shard
    }

    /// This node.
    pub fn me(&self) -> NodeId {
        self.core.config.me
    }

    /// How long a member is bound by a promise to the leader that it hears (`GroupConfig::election_max`).
    pub fn election_timeout(&self) -> Duration {
        self.core.config.election_max
    }

    /// What this node keeps.
    pub fn role(&self) -> Role {
        self.core.config.role
    }

    /// Whether this node has ever been told of the group's members.
    pub fn is_initialized(&self) -> bool {
        self.core.log.last().is_some()
    }

    /// Makes this node the only voter of a new group. Once in the life of a shard.
    ///
    /// # Errors
    /// [`ChangeError::Refused`] if the group exists already, or this is a witness.
    pub async fn initialize(&self) -> Result<(), ChangeError> {
        let core = &self.core;
        if core.config.role == Role::Witness {
            return Err(ChangeError::Refused(
                "a witness cannot begin a shard".into(),
            ));
        }
        let me = BTreeMap::from([(core.config.me, core.self_member())]);
        match core.raft.initialize(me).await {
            Ok(()) => Ok(()),
            Err(openraft::errors::RaftError::APIError(e)) => {
                Err(ChangeError::Refused(e.to_string()))
            }
            Err(openraft::errors::RaftError::Fatal(_)) => Err(ChangeError::Stopped),
        }
    }

    /// Asks the members at `via` (Raft addresses) to take this node in, until it is a voter, with its
    /// log level. Asking again as a member only tells them this node's address.
    ///
    /// # Errors
    /// [`ChangeError`]; [`ChangeError::Busy`] when nobody answers for a while: it may be called again.
    pub async fn join(&self, via: &[String]) -> Result<(), ChangeError> {
        self.core.join(via).await
    }

    /// Asks the other members to remove this node. It may be stopped then, and its files removed.
    ///
    /// # Errors
    /// [`ChangeError`]; [`ChangeError::Busy`] when nobody answers for a while: it may be called again.
    pub async fn leave(&self) -> Result<(), ChangeError> {
        self.core.leave().await
    }

    /// On the leader: takes a node in, until it is a voter, or changes a member's address.
    ///
    /// # Errors
    /// [`ChangeError`]; [`ChangeError::Busy`] when it takes longer than a minute.
    pub async fn add_member(&self, node: NodeId, member: Member) -> Result<(), ChangeError> {
        self.core
            .until_done(|| self.core.step_add(node, member.clone()))
            .await
    }

    /// Removes a member, on whichever member it is asked: it is passed on to the leader. Returns once that is
    /// committed. Under the same id it may come back with its log, or with none if that went after this.
    ///
    /// # Errors
    /// [`ChangeError`]; [`ChangeError::Busy`] when no leader answers for a while: it may be called again.
    pub async fn remove_member(&self, node: NodeId) -> Result<(), ChangeError> {
        self.core.remove(node).await
    }

    /// On the leader: waits until `node` is level, then hands the office over. Returns when somebody
    /// else leads. What was proposed before is committed first; what is proposed meanwhile is refused.
    ///
    /// # Errors
    /// [`ChangeError`]; after [`ChangeError::Busy`] this node may lead again, in another office.
    pub async fn transfer_to(&self, node: NodeId) -> Result<(), ChangeError> {
        self.core.transfer_to(node).await
    }

    /// Stands for election at once, without asking the present leader and without waiting for the time after
    /// which a follower stands by itself; again and again until this node leads, at most for `limit`. It
    /// wins with a majority only, and only once a majority is not bound by a promise to a living leader.
    ///
    /// # Errors
    /// [`ChangeError::Refused`] if somebody else is elected or this node may not lead,
    /// [`ChangeError::Busy`] after `limit`; it may still come to lead then.
    pub async fn campaign(&self, limit: Duration) -> Result<(), ChangeError> {
        self.core.campaign(limit).await
    }

    /// Appends `payload` to the log if `office` still lasts; does not wait. Proposals of one office
    /// enter the log in the order of the calls, and if one does not, none after it does.
    ///
    /// # Errors
    /// See [`ProposeError`]. That a proposal was taken promises nothing: it is in the log when it
    /// comes to [`App::apply`].
    pub fn propose(&self, office: OfficeId, payload: Bytes) -> Result<(), ProposeError> {
        let core = &self.core;
        let mut desk = Desk::lock(&core.desk);
        let seat = desk
            .seat
            .as_mut()
            .filter(|seat| seat.id == office && !seat.fence.is_broken());
        let seat = seat.ok_or(ProposeError::NotLeader)?;
        let len = payload.len() as u64;
        let waiting = seat.backlog.load(Ordering::Relaxed).saturating_add(len);
        if waiting > core.config.backlog_bytes_max || len > PROPOSAL_MAX {
            seat.fence.break_off();
            core.wake.notify_one();
            return Err(ProposeError::Backlog);
        }
        seat.backlog.fetch_add(len, Ordering::Relaxed);
        let number = seat.next;
        seat.next += 1;
        let pending = Pending {
            leader: seat.leader,
            fence: seat.fence.clone(),
            number,
            data: payload,
        };
        // Within the lock: the order of the numbers is the order of the queue.
        core.pump.send(pending).map_err(|_| ProposeError::Stopped)
    }

    /// On the leader: how many other voters are known to hold the entry on their disks, witnesses among them. Zero on
    /// others.
    pub fn copies(&self, index: u64) -> usize {
        let metrics = self.core.raft.metrics();
        let metrics = metrics.borrow_watched();
        let Some(replication) = &metrics.replication else {
            return 0;
        };
        let holds = |voter: &NodeId| {
            let matched = replication.get(voter).copied().flatten();
            *voter != self.core.config.me && matched.is_some_and(|id| id.index >= index)
        };
        let membership = metrics.membership_config.membership();
        membership.voter_ids().filter(holds).count()
    }

    /// Bytes proposed here and not yet applied.
    pub fn backlog_bytes(&self) -> u64 {
        let desk = Desk::lock(&self.core.desk);
        desk.seat
            .as_ref()
            .map_or(0, |seat| seat.backlog.load(Ordering::Relaxed))
    }

    /// Whether no other node can be leader at `now`, nor have been since this node took office. To be
    /// asked after a read was executed, with a clock read after it. Cheap, and free of locks.
    ///
    /// The lease is what a quorum has promised, counted from when it was asked, shortened by
    /// `lease_margin`. It holds as long as no member's clock runs faster than this one's by the ratio
    /// of the two, and this machine is not suspended (a clock that stops in the meantime would not notice).
    pub fn lease_valid(&self, now: Instant) -> bool {
        self.core.lease.valid(now)
    }

    /// Whether this node leads.
    pub fn office(&self) -> watch::Receiver<Office> {
        self.core.office.subscribe()
    }

    /// Index up to which the log is committed, as far as this node knows.
    pub fn committed(&self) -> watch::Receiver<Option<u64>> {
        self.core.committed.subscribe()
    }

    /// Index up to which this node's own log is durable.
    pub fn flushed(&self) -> watch::Receiver<Option<u64>> {
        self.core.log.watch_flushed()
    }

    /// Index up to which the [`App`] has applied.
    pub fn applied(&self) -> watch::Receiver<Option<u64>> {
        self.core.applied.index.subscribe()
    }

    /// Why the group has stopped for good, once it has: its disk failed, or an entry could not be applied.
    pub fn failed(&self) -> watch::Receiver<Option<String>> {
        self.core.log.watch_failed()
    }

    /// Everything at once, for people.
    pub fn status(&self) -> GroupStatus {
        self.core.status()
    }

    /// The newest snapshot of this node, kept from removal as long as the value lives.
    pub fn latest_snapshot(&self) -> Option<SnapshotInfo> {
        self.core
            .snapshots
            .current()
            .and_then(|stored| stored.info())
    }

    /// Committed entries from `from` on and below `end`, as many as have about `max_bytes` (at least one if there is
    /// any). For rebuilding the state: everything below `end` must have been given to [`App::apply`], be it in the call
    /// that has not returned yet.
    ///
    /// # Errors
    /// [`ReadError::Purged`] when `from` was cut.
    pub async fn read_committed(
        &self,
        from: u64,
        end: u64,
        max_bytes: u64,
    ) -> Result<Vec<Committed>, ReadError> {
        let core = &self.core;
        let read = core.log.read(from, end, max_bytes).await;
        // Looked at after the read: what was cut meanwhile would be missing at the front.
        if let Some(purged) = core.log.purged()
            && purged.index >= from
        {
            return Err(ReadError::Purged { upto: purged.index });
        }
        let committed = |entry: crate::raft::Entry| Committed {
            index: entry.id.index,
            term: entry.id.leader_id.term,
            leader: entry.id.leader_id.node_id,
            payload: entry.data().cloned(),
        };
        Ok(read?.into_iter().map(committed).collect())
    }

    /// Takes a snapshot soon, and cuts the log behind it.
    pub fn request_snapshot(&self) {
        self.core.snapshot_wanted.store(true, Ordering::Relaxed);
    }

    /// Stops taking part. Everything that was flushed stays flushed.
    pub async fn stop(&self) {
        self.core.stop().await;
    }

    /// Whether [`Group::stop`] was called: what fails from then on is no failure.
    pub fn is_stopping(&self) -> bool {
        self.core.stopping.load(Ordering::Relaxed)
    }
}

impl Core {
    pub fn self_member(&self) -> Member {
        Member {
            addr: self.config.advertise.clone(),
            role: self.config.role,
        }
    }

    pub fn metrics(&self) -> Metrics {
        self.raft.metrics().borrow_watched().clone()
    }

    /// The members, as the newest membership entry in the log says, committed or not.
    pub fn membership(&self) -> Membership {
        self.raft
            .metrics()
            .borrow_watched()
            .membership_config
            .membership()
            .clone()
    }

    /// Who leads, and where: empty where unknown.
    pub fn leader_addr(&self) -> (Option<NodeId>, String) {
        let metrics = self.metrics();
        let leader = metrics.current_leader;
        let addr = leader
            .and_then(|leader| {
                metrics
                    .membership_config
                    .membership()
                    .get_node(&leader)
                    .cloned()
            })
            .map(|member| member.addr)
            .unwrap_or_default();
        (leader, addr)
    }

    pub fn status(&self) -> GroupStatus {
        let metrics = self.metrics();
        let membership = metrics.membership_config.membership();
        let voters: Vec<NodeId> = membership.voter_ids().collect();
        let matched = |node: &NodeId| {
            let replication = metrics.replication.as_ref()?;
            if *node == self.config.me {
                return self.log.watch_flushed().get();
            }
            replication.get(node).copied().flatten().map(|id| id.index)
        };
        let index = |id: Option<LogId>| id.map(|id| id.index);
        let failed = match (&metrics.running_state, self.log.watch_failed().get()) {
            (_, Some(what)) => Some(what),
            (Err(fatal), None) => Some(fatal.to_string()),
            (Ok(()), None) => None,
        };
        GroupStatus {
            role: self.config.role,
            term: metrics.current_term,
            leader: metrics.current_leader,
            office: self.office.get(),
            members: membership
                .nodes()
                .map(|(node, member)| MemberStatus {
                    node: *node,
                    member: member.clone(),
                    voter: voters.contains(node),
                    matched: matched(node),
                })
                .collect(),
            appended: metrics.last_log_index,
            flushed: self.log.watch_flushed().get(),
            committed: index(metrics.local_committed),
            applied: index(self.applied.last()),
            snapshot: index(self.snapshots.current().and_then(|s| s.meta.last_log_id)),
            purged: index(self.log.purged()),
            lease_remaining: self.lease.remaining(Instant::now()),
            log_bytes: self.log.bytes(),
            backlog_bytes: {
                let desk = Desk::lock(&self.desk);
                desk.seat
                    .as_ref()
                    .map_or(0, |seat| seat.backlog.load(Ordering::Relaxed))
            },
            stalled: self.log.stalled(),
            failed,
        }
    }

    /// A leader's append or heartbeat has come.
    pub fn on_append(&self, request: &holdfast_proto::raft::AppendRequest) {
        if request.all_data_matched > 0 {
            self.context
                .all_data_matched
                .store(request.all_data_matched, Ordering::Relaxed);
        }
    }

    /// Whether this node may answer a request for its vote yet.
    pub fn may_vote(&self, transfer: bool) -> Result<(), &'static str> {
        match self.mute_until {
            Some(until) if !transfer && Instant::now() < until => {
                Err("started a moment ago: may have promised a leader not to vote")
            }
            _ => Ok(()),
        }
    }

    /// A vote was asked for and answered: a witness takes note of those that it had to refuse because
    /// they lack entries that it has.
    pub fn on_vote_answered(
        &self,
        from: NodeId,
        last: Option<LogId>,
        answer: &VoteResponse<Types>,
    ) {
        if self.config.role == Role::Witness && !answer.vote_granted && last < answer.last_log_id {
            let mut behind = self
                .behind
                .lock()
                .unwrap_or_else(|poisoned| poisoned.into_inner());
            if behind.len() < 64 {
                behind.insert(from, Instant::now());
            }
            drop(behind);
            self.behind_seen.notify_one();
        }
    }

    /// Something malformed came: said once a minute.
    pub fn complain(&self, what: &Malformed) {
        let mut complained = self
            .complained
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        let now = Instant::now();
        if complained.is_none_or(|last| now.duration_since(last) > Duration::from_secs(60)) {
            tracing::warn!(shard = %self.config.shard, "dropped a Raft message: {what}");
            *complained = Some(now);
        }
    }

    /// Keeps a snapshot that a leader gave, so that the log can be cut though a data node stays away.
    pub async fn keep_snapshot(&self, stored: Stored) -> io::Result<()> {
        let index = stored.index();
        if self.config.role != Role::Witness {
            return Err(io::Error::other(
                "only a witness keeps a snapshot without installing it",
            ));
        }
        if self
            .applied
            .last()
            .is_none_or(|applied| applied.index < index)
        {
            return Err(io::Error::other(
                "the snapshot covers more than this node has committed",
            ));
        }
        self.snapshots.adopt(stored).await?;
        self.raft
            .trigger()
            .snapshot()
            .await
            .map_err(io::Error::other)?;
        Ok(())
    }

    pub async fn stop(&self) {
        if self.stopping.swap(true, Ordering::SeqCst) {
            return;
        }
        self.lease.revoke();
        self.server.unregister(&self.config.shard);
        if let Some(seat) = Desk::lock(&self.desk).seat.take() {
            seat.fence.break_off();
        }
        self.wake.notify_one();
        self.behind_seen.notify_one();
        if let Err(e) = self.raft.shutdown().await {
            tracing::warn!("raft did not shut down: {e}");
        }
        self.log.close().await;
    }
}
