//! The tasks of a group: the office and its leases, the way of proposals into openraft, snapshots and
//! the cutting of the log, and a witness's short reigns.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use openraft::ServerState;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::Fatal;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use crate::group::{Core, Desk, Metrics};
use crate::ids::NodeId;
use crate::net;
use crate::planted::planted;
use crate::propose::{Pending, Responder, Seat};
use crate::raft::{Fence, LeaderId, Proposal, SnapshotMeta, id_bytes};
use crate::snapshots::{Stored, header_of};
use crate::types::{Office, OfficeId, Role};

/// How often things are looked at that no event announces.
const TICK: Duration = Duration::from_millis(20);
/// How often the log's length is looked at.
const LOG_TICK: Duration = Duration::from_millis(250);
/// After a snapshot that failed.
const SNAPSHOT_RETRY: Duration = Duration::from_secs(5);
/// A witness cuts its log when it is longer than this many segments.
const WITNESS_SEGMENTS: u64 = 2;

/// Starts a group's tasks.
pub fn spawn(core: &Arc<Core>, proposals: mpsc::UnboundedReceiver<Pending>) {
    tokio::task::spawn(pump(core.clone(), proposals));
    tokio::task::spawn(office(core.clone()));
    tokio::task::spawn(cut(core.clone()));
    match core.config.role {
        Role::Data => {
            tokio::task::spawn(unmute(core.clone()));
        }
        Role::Witness => {
            tokio::task::spawn(witness(core.clone()));
        }
    }
}

/// Lets a data node stand for election once no promise of an earlier life can be broken by it.
async fn unmute(core: Arc<Core>) {
    if let Some(until) = core.mute_until {
        let me = core.config.me;
        // The only voter has promised nobody anything.
        let others = core.raft.with_raft_state(move |state| {
            state
                .membership_state
                .effective()
                .voter_ids()
                .any(|voter| voter != me)
        });
        if others.await.unwrap_or(true) {
            sleep(until.saturating_duration_since(Instant::now())).await;
        }
    }
    core.raft.runtime_config().elect(true);
}

/// Hands proposals to openraft, in order.
async fn pump(core: Arc<Core>, mut proposals: mpsc::UnboundedReceiver<Pending>) {
    while let Some(pending) = proposals.recv().await {
        // openraft would refuse it without a lease, and the office would end. A slow disk or network
        // is no reason for that: it is held back until the lease is renewed, or the office ends anyhow.
        while !core.writable.valid(Instant::now()) && !pending.fence.is_broken() {
            if core.stopping.load(Ordering::Relaxed) {
                return;
            }
            sleep(Duration::from_millis(2)).await;
        }
        if pending.fence.is_broken() {
            continue;
        }
        let responder = Responder::new(pending.fence.clone(), core.wake.clone());
        let fence = Some((pending.fence, pending.number));
        let write = core
            .raft
            .write(Proposal {
                data: pending.data,
                fence,
            })
            .with_leader(pending.leader)
            .responder(responder);
        if write.await.is_err() {
            return;
        }
    }
}

/// Looks after the office: takes it, renews its leases, and gives it up.
///
/// openraft's metrics change several times with each entry; only what may change the office is looked at as soon
/// as it does, the rest at each tick.
async fn office(core: Arc<Core>) {
    let metrics = core.raft.metrics();
    let mut standing = core.raft.server_metrics();
    let mut applied = core.applied.index.subscribe();
    let mut failed = core.log.watch_failed();
    loop {
        // Whoever has just been elected waits until the entry that opens the office is applied.
        let seated = Desk::lock(&core.desk).seat.is_some();
        tokio::select! {
            biased;
            changed = standing.changed() => {
                if changed.is_err() {
                    note_end(&core, &metrics.borrow_watched());
                    break;
                }
            }
            _ = applied.changed(), if !seated => {}
            _ = failed.changed() => {}
            _ = core.wake.notified() => {}
            _ = sleep(TICK) => {}
        }
        if core.stopping.load(Ordering::Relaxed) {
            break;
        }
        drop(standing.borrow_and_update());
        let now = metrics.borrow_watched().clone();
        note_end(&core, &now);
        look(&core, &now).await;
    }
    close(&core, 0, None);
}

/// Says that the group has failed when openraft has stopped by itself, as it does when an entry cannot be applied: a
/// member that lives on without it would stay behind for good, and nobody would know.
fn note_end(core: &Core, metrics: &Metrics) {
    if let Err(fatal) = &metrics.running_state
        && !matches!(fatal, Fatal::Stopped)
        && !core.stopping.load(Ordering::Relaxed)
    {
        core.log.fail(fatal.to_string());
    }
}

/// Ends the office, if there is one. The lease ends first: nobody reads under an office that is over.
fn close(core: &Core, term: u64, leader: Option<NodeId>) {
    core.lease.revoke();
    if let Some(seat) = Desk::lock(&core.desk).seat.take() {
        seat.fence.break_off();
        tracing::info!(shard = %core.config.shard, term = seat.id.term, "the office is over");
    }
    core.office.set(Office::Follower { leader, term });
}

/// Whether this node leads, and in which leadership.
fn reign(core: &Core, metrics: &Metrics) -> Option<LeaderId> {
    let leader = metrics.vote.leader_id;
    let leads = metrics.state == ServerState::Leader
        && metrics.vote.committed
        && leader.node_id == core.config.me
        && metrics.running_state.is_ok();
    leads.then_some(leader)
}

/// Whether this node is the group's only voter.
fn alone(core: &Core, metrics: &Metrics) -> bool {
    let mut voters = metrics.membership_config.membership().voter_ids();
    voters.next() == Some(core.config.me) && voters.next().is_none()
}

async fn look(core: &Core, metrics: &Metrics) {
    if let Some(committed) = metrics.local_committed {
        core.committed.set(Some(committed.index));
    }
    let leader = metrics
        .current_leader
        .filter(|leader| *leader != core.config.me);
    let term = metrics.current_term;
    let reign = reign(core, metrics).filter(|_| core.log.watch_failed().get().is_none());
    let Some(reign) = reign else {
        core.writable.revoke();
        Desk::lock(&core.desk).leaving = None;
        close(core, term, leader);
        return;
    };
    note_matched(core, metrics);
    renew(core, metrics, reign);
    let (seated, used, leaving) = {
        let desk = Desk::lock(&core.desk);
        let seated = desk
            .seat
            .as_ref()
            .map(|s| (s.leader == reign, s.fence.is_broken()));
        (
            seated,
            desk.used == Some(reign),
            desk.leaving == Some(reign),
        )
    };
    match seated {
        Some((true, false)) => return,
        Some(_) => close(core, term, None),
        None => {}
    }
    if leaving || core.config.role == Role::Witness {
        core.office.set(Office::Follower {
            leader: Some(core.config.me),
            term,
        });
        return;
    }
    let first_index = if used {
        // A proposal was refused in this leadership. Everything of it that did enter the log stands
        // before an entry written now.
        if !core.writable.valid(Instant::now()) {
            return;
        }
        match timeout(core.config.election_max * 2, core.raft.write_blank()).await {
            Ok(Ok(written)) => Some(written.log_id)
                .filter(|id| id.leader_id == reign)
                .map(|id| id.index),
            _ => None,
        }
    } else {
        core.applied.reign_of(reign)
    };
    let Some(first_index) = first_index else {
        return;
    };
    let id = OfficeId {
        term: reign.term,
        first_index,
    };
    let seat = Seat {
        id,
        leader: reign,
        fence: Arc::new(Fence::default()),
        next: 0,
        backlog: Arc::default(),
    };
    {
        let mut desk = Desk::lock(&core.desk);
        desk.seat = Some(seat);
        desk.used = Some(reign);
    }
    tracing::info!(shard = %core.config.shard, term = id.term, first_index, "in office");
    renew(core, metrics, reign);
    core.office.set(Office::Leader(id));
}

/// Renews the leases by what a quorum has acknowledged.
fn renew(core: &Core, metrics: &Metrics, reign: LeaderId) {
    let now = Instant::now();
    let acked = if alone(core, metrics) {
        (!core.changing.load(Ordering::SeqCst)).then_some(now)
    } else {
        let membership = metrics.membership_config.membership();
        let configs = membership.get_joint_config();
        core.context
            .acks
            .quorum(reign, core.config.me, now, configs)
    };
    let Some(acked) = acked else { return };
    let term = core.config.election_max;
    core.writable
        .grant(acked + term - core.config.lease_margin / 4);
    let desk = Desk::lock(&core.desk);
    let seated = desk
        .seat
        .as_ref()
        .is_some_and(|s| s.leader == reign && !s.fence.is_broken());
    // Under the desk's lock: whoever hands over marks it there before the lease is revoked.
    if seated && desk.leaving != Some(reign) {
        core.lease.grant(acked + term - core.config.lease_margin);
    }
}

/// As leader: how far every data voter has the log.
fn note_matched(core: &Core, metrics: &Metrics) {
    let Some(replication) = &metrics.replication else {
        return;
    };
    let membership = metrics.membership_config.membership();
    let mut lowest = u64::MAX;
    for voter in membership.voter_ids() {
        let role = membership
            .get_node(&voter)
            .map_or(Role::Data, |member| member.role);
        if role == Role::Witness {
            continue;
        }
        let matched = if voter == core.config.me {
            core.log.watch_flushed().get()
        } else {
            replication
                .get(&voter)
                .copied()
                .flatten()
                .map(|id| id.index)
        };
        lowest = lowest.min(matched.map_or(0, |index| index + 1));
    }
    if lowest != u64::MAX {
        core.context
            .all_data_matched
            .store(lowest, Ordering::Relaxed);
    }
}

/// A witness stands for election only for a data node that lacks what it has, and leads only until a
/// data node is level.
async fn witness(core: Arc<Core>) {
    let third = core.config.election_max / 3;
    loop {
        if core.stopping.load(Ordering::Relaxed) {
            return;
        }
        let metrics = core.metrics();
        if reign(&core, &metrics).is_some() {
            if let Some(successor) = level_data_node(&metrics) {
                tracing::info!(shard = %core.config.shard, to = %successor, "the witness hands over");
                if core
                    .raft
                    .trigger()
                    .transfer_leader(successor)
                    .await
                    .is_err()
                {
                    return;
                }
                // Either it leads soon, or its timeouts and ours decide.
                sleep(core.config.election_max).await;
            } else {
                // Not on the metrics' next change: when openraft has stopped there is none to wait for.
                sleep(TICK).await;
            }
            continue;
        }
        let seen_behind = {
            let mut behind = core
                .behind
                .lock()
                .unwrap_or_else(|poisoned| poisoned.into_inner());
            let now = Instant::now();
            behind.retain(|_, at| now.duration_since(*at) < core.config.election_max * 3);
            !behind.is_empty()
        };
        let may = core.mute_until.is_none_or(|until| Instant::now() >= until);
        if seen_behind && may && core.raft.trigger().elect(true).await.is_err() {
            return;
        }
        if seen_behind {
            sleep(third).await;
        } else {
            let _ = timeout(core.config.election_max * 4, core.behind_seen.notified()).await;
        }
    }
}

/// A data voter that has everything.
fn level_data_node(metrics: &Metrics) -> Option<NodeId> {
    let membership = metrics.membership_config.membership();
    let replication = metrics.replication.as_ref()?;
    membership.voter_ids().find(|voter| {
        membership
            .get_node(voter)
            .is_some_and(|member| member.role == Role::Data)
            && replication.get(voter).copied().flatten().map(|id| id.index)
                == metrics.last_log_index
    })
}

/// Takes snapshots, and cuts the log behind them.
async fn cut(core: Arc<Core>) {
    let mut not_before = Instant::now();
    loop {
        sleep(LOG_TICK).await;
        if core.stopping.load(Ordering::Relaxed) {
            return;
        }
        let result = match core.config.role {
            Role::Data => {
                let wanted = core.snapshot_wanted.load(Ordering::Relaxed);
                let covered = core.snapshots.current().map_or(0, |stored| stored.index());
                let applied = core.applied.last().map_or(0, |id| id.index);
                let long = core.log.bytes() > core.config.log_bytes_max;
                if (wanted || long) && applied > covered && Instant::now() >= not_before {
                    core.snapshot_wanted.store(false, Ordering::Relaxed);
                    snapshot(&core).await
                } else {
                    cut_data(&core).await
                }
            }
            Role::Witness => cut_witness(&core).await,
        };
        if let Err(e) = result {
            tracing::warn!(shard = %core.config.shard, "no snapshot: {e}");
            not_before = Instant::now() + SNAPSHOT_RETRY;
        }
    }
}

/// Has the App write a snapshot, and puts it to use.
async fn snapshot(core: &Core) -> Result<(), String> {
    let path = core.snapshots.new_path();
    let begin = {
        let path = path.clone();
        core.raft.with_state_machine(move |machine| {
            Box::pin(async move { machine.begin_snapshot(path).await })
        })
    };
    let written = match begin.await.map_err(|e| e.to_string())? {
        Ok(task) => task.await,
        Err(e) => Err(e),
    };
    let last = match written {
        Ok(last) => last,
        Err(e) => {
            core.snapshots.discard(&path).await;
            return Err(e.to_string());
        }
    };
    let applied = core.applied.last();
    if applied.is_none_or(|applied| applied.index < last.index) {
        core.snapshots.discard(&path).await;
        return Err(format!(
            "it covers entry {}, which is not yet applied",
            last.index
        ));
    }
    let last_membership = core.applied.membership_at(last.index).unwrap_or_default();
    let meta = SnapshotMeta {
        last_log_id: Some(last.into()),
        last_membership,
    };
    let stored = core
        .snapshots
        .complete(meta, path)
        .await
        .map_err(|e| e.to_string())?;
    let stored = core
        .snapshots
        .adopt(stored)
        .await
        .map_err(|e| e.to_string())?;
    core.raft
        .trigger()
        .snapshot()
        .await
        .map_err(|e| e.to_string())?;
    core.applied.forget_before(stored.index());
    tracing::info!(shard = %core.config.shard, index = stored.index(), "snapshot taken");
    give_to_witnesses(core, &stored).await;
    cut_data(core).await
}

/// When a data voter stays away, the witnesses must keep all that it lacks; with the snapshot they can
/// cut, too.
async fn give_to_witnesses(core: &Core, stored: &Stored) {
    let metrics = core.metrics();
    if reign(core, &metrics).is_none()
        || core.context.all_data_matched.load(Ordering::Relaxed) > stored.index()
    {
        return;
    }
    let membership = metrics.membership_config.membership();
    for (node, member) in membership
        .nodes()
        .filter(|(_, member)| member.role == Role::Witness)
    {
        let Ok(client) = net::client(&member.addr, &core.context.carrier) else {
            continue;
        };
        let mut header = header_of(&stored.meta);
        header.route = Some(holdfast_proto::raft::Route {
            group: bytes::Bytes::copy_from_slice(core.config.shard.as_bytes()),
            from: id_bytes(&core.config.me),
            to: id_bytes(node),
        });
        header.vote = Some(crate::raft::vote_to_wire(&metrics.vote));
        header.keep_only = true;
        let disk = core.snapshots.disk().clone();
        if let Err(e) = net::send_snapshot(disk, client, header, stored.clone()).await {
            tracing::warn!(witness = %node, "the witness did not take the snapshot: {e}");
        }
    }
}

/// Tells openraft to cut up to `index`, if that is behind the snapshot it knows and news.
async fn purge(core: &Core, index: u64) -> Result<(), String> {
    let known = core.metrics().snapshot.map(|id| id.index);
    let purged = core.log.purged().map(|id| id.index);
    if known < Some(index) || purged >= Some(index) {
        return Ok(());
    }
    core.raft
        .trigger()
        .purge_log(index)
        .await
        .map_err(|e| e.to_string())
}

async fn cut_data(core: &Core) -> Result<(), String> {
    let Some(stored) = core.snapshots.current() else {
        return Ok(());
    };
    let keep = core
        .config
        .log_bytes_keep
        .min(core.config.log_bytes_max / 2);
    match core.log.keep_behind(stored.index(), keep) {
        Some(upto) => purge(core, upto.min(stored.index())).await,
        None => Ok(()),
    }
}

/// Cuts up to what every data voter has, or up to the snapshot that a data node gave.
async fn cut_witness(core: &Core) -> Result<(), String> {
    if core.log.bytes() <= core.config.segment_bytes * WITNESS_SEGMENTS {
        return Ok(());
    }
    let Some(applied) = core.applied.last() else {
        return Ok(());
    };
    let matched = core
        .context
        .all_data_matched
        .load(Ordering::Relaxed)
        .checked_sub(1);
    let matched = if planted("log_cut_too_early") {
        Some(applied.index)
    } else {
        matched
    };
    let covered = core.snapshots.current().map(|stored| stored.index());
    let purged = core.log.purged().map(|id| id.index);
    if let Some(matched) = matched {
        let upto = matched.min(applied.index);
        if Some(upto) > covered && Some(upto) > purged {
            let entries = core
                .log
                .read(upto, upto + 1, 1)
                .await
                .map_err(|e| e.to_string())?;
            let Some(entry) = entries.first().filter(|entry| entry.id.index == upto) else {
                return Ok(());
            };
            let last_membership = core.applied.membership_at(upto).unwrap_or_default();
            let meta = SnapshotMeta {
                last_log_id: Some(entry.id),
                last_membership,
            };
            let marker = Stored { meta, file: None };
            core.snapshots
                .adopt(marker)
                .await
                .map_err(|e| e.to_string())?;
            core.raft
                .trigger()
                .snapshot()
                .await
                .map_err(|e| e.to_string())?;
            core.applied.forget_before(upto);
        }
    }
    match core.snapshots.current() {
        Some(stored) => purge(core, stored.index()).await,
        None => Ok(()),
    }
}
