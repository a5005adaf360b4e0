//! Changes of the group: joining, leaving, handing over.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use holdfast_proto::raft as wire;
use openraft::ChangeMembers;
use openraft::ServerState;
use openraft::errors::{ClientWriteError, RaftError};
use openraft::raft::VoteRequest;
use tokio::time::{sleep, timeout};

use crate::error::ChangeError;
use crate::group::{Core, Desk};
use crate::ids::NodeId;
use crate::net;
use crate::raft::{LeaderId, Types, Vote, id_bytes, member_to_wire};
use crate::types::{Member, Office, Role};

/// A learner may become a voter when it lacks no more entries than this.
const LEVEL: u64 = 64;
/// One step of a change may take this long.
const STEP: Duration = Duration::from_secs(5);
/// One call of another node for such a step.
const CALL: Duration = Duration::from_secs(8);
/// Between two steps.
const PAUSE: Duration = Duration::from_millis(100);
/// Nobody has answered for this long.
const SILENCE: Duration = Duration::from_secs(30);
/// A change as a whole, on the leader.
const CHANGE: Duration = Duration::from_secs(60);

type WriteError = RaftError<Types, ClientWriteError<Types>>;

impl Core {
    fn leads(&self) -> Result<(), ChangeError> {
        if self.metrics().state == ServerState::Leader {
            return Ok(());
        }
        let (leader, addr) = self.leader_addr();
        Err(ChangeError::NotLeader { leader, addr })
    }

    fn change_error(&self, e: WriteError) -> ChangeError {
        match e {
            RaftError::Fatal(_) => ChangeError::Stopped,
            RaftError::APIError(ClientWriteError::ForwardToLeader(_)) => match self.leads() {
                // It leads without a quorum, or hands over.
                Ok(()) => ChangeError::Busy("no quorum answers".into()),
                Err(e) => e,
            },
            RaftError::APIError(e) => ChangeError::Busy(e.to_string()),
        }
    }

    async fn change(&self, change: ChangeMembers<NodeId, Member>) -> Result<(), ChangeError> {
        // From here on this node may not be the only voter any more.
        self.changing.store(true, Ordering::SeqCst);
        let result = timeout(STEP, self.raft.change_membership(change, false)).await;
        self.changing.store(false, Ordering::SeqCst);
        match result {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(e)) => Err(self.change_error(e)),
            Err(_) => Err(ChangeError::Busy("the change is not committed yet".into())),
        }
    }

    /// One step towards `node` being a voter. True once it is.
    pub async fn step_add(&self, node: NodeId, member: Member) -> Result<bool, ChangeError> {
        if self.excluded.0.contains(&node) {
            return Err(ChangeError::Refused(
                "this member was given up when the shard was rebuilt: empty its directory, so that it joins under a new id".into(),
            ));
        }
        self.leads()?;
        let metrics = self.metrics();
        let membership = metrics.membership_config.membership();
        let settled = metrics.membership_config == metrics.committed_membership_config
            && membership.get_joint_config().len() == 1;
        match membership.get_node(&node) {
            None => {
                if !settled {
                    return Err(ChangeError::Busy("another change is under way".into()));
                }
                let add = self.raft.add_learner(node, member, false);
                match timeout(STEP, add).await {
                    Ok(Ok(_)) => Ok(false),
                    Ok(Err(e)) => Err(self.change_error(e)),
                    Err(_) => Err(ChangeError::Busy("the change is not committed yet".into())),
                }
            }
            Some(known) if known.role != member.role => Err(ChangeError::Refused(
                "a member cannot change its role".into(),
            )),
            Some(known) if known.addr != member.addr => {
                if !settled {
                    return Err(ChangeError::Busy("another change is under way".into()));
                }
                self.change(ChangeMembers::SetNodes([(node, member)].into()))
                    .await?;
                Ok(false)
            }
            Some(_) if membership.voter_ids().any(|voter| voter == node) => Ok(settled),
            Some(_) => {
                if !settled {
                    return Err(ChangeError::Busy("another change is under way".into()));
                }
                let matched = metrics
                    .replication
                    .as_ref()
                    .and_then(|r| r.get(&node).copied().flatten());
                let next = matched.map_or(0, |id| id.index + 1);
                if next + LEVEL < metrics.last_log_index.map_or(0, |last| last + 1) {
                    return Ok(false);
                }
                self.change(ChangeMembers::AddVoterIds(BTreeSet::from([node])))
                    .await?;
                Ok(true)
            }
        }
    }

    /// One step towards `node` being no member. True once it is none.
    pub async fn step_remove(&self, node: NodeId) -> Result<bool, ChangeError> {
        self.leads()?;
        let metrics = self.metrics();
        let membership = metrics.membership_config.membership();
        let settled = metrics.membership_config == metrics.committed_membership_config
            && membership.get_joint_config().len() == 1;
        if membership.get_node(&node).is_none() {
            return Ok(settled);
        }
        if !settled {
            return Err(ChangeError::Busy("another change is under way".into()));
        }
        let voters: Vec<NodeId> = membership.voter_ids().collect();
        if !voters.contains(&node) {
            self.change(ChangeMembers::RemoveNodes(BTreeSet::from([node])))
                .await?;
            return Ok(true);
        }
        let is_data = |id: &NodeId| {
            membership
                .get_node(id)
                .is_some_and(|member| member.role == Role::Data)
        };
        let heir = voters
            .iter()
            .find(|voter| **voter != node && is_data(voter));
        let Some(heir) = heir else {
            return Err(ChangeError::Refused(
                "it is the last data node of the shard".into(),
            ));
        };
        if node == self.config.me {
            self.transfer_to(*heir).await?;
            return Err(ChangeError::Busy(
                "handed over to another node first".into(),
            ));
        }
        self.change(ChangeMembers::RemoveVoters(BTreeSet::from([node])))
            .await?;
        Ok(true)
    }

    /// Repeats a step until it is done.
    pub async fn until_done<F>(&self, mut step: impl FnMut() -> F) -> Result<(), ChangeError>
    where
        F: Future<Output = Result<bool, ChangeError>>,
    {
        let deadline = Instant::now() + CHANGE;
        loop {
            match step().await {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(ChangeError::Busy(_)) if Instant::now() < deadline => {}
                Err(e) => return Err(e),
            }
            if Instant::now() >= deadline {
                return Err(ChangeError::Busy("not done within a minute".into()));
            }
            sleep(PAUSE).await;
        }
    }

    fn any_route(&self) -> wire::Route {
        wire::Route {
            group: Bytes::copy_from_slice(self.config.shard.as_bytes()),
            from: id_bytes(&self.config.me),
            to: Bytes::new(),
        }
    }

    /// Asks whoever answers, until it is done.
    async fn ask<F>(
        &self,
        mut addrs: Vec<String>,
        mut call: impl FnMut(String) -> F,
    ) -> Result<(), ChangeError>
    where
        F: Future<Output = Result<wire::MemberReply, String>>,
    {
        use wire::member_reply::Outcome;
        if addrs.is_empty() {
            return Err(ChangeError::Refused(
                "no address of a member is known".into(),
            ));
        }
        let mut heard = Instant::now();
        let mut turn = 0;
        let mut problem = String::new();
        while !self.stopping.load(Ordering::Relaxed) {
            let addr = addrs[turn % addrs.len()].clone();
            turn += 1;
            match timeout(CALL, call(addr)).await {
                Ok(Ok(reply)) => match reply.outcome() {
                    Outcome::Done => return Ok(()),
                    Outcome::Refused => return Err(ChangeError::Refused(reply.error)),
                    Outcome::InProgress => {
                        heard = Instant::now();
                        // The same one again.
                        turn -= 1;
                    }
                    Outcome::NotLeader | Outcome::Unspecified => {
                        problem = "no leader answers".into();
                        if !reply.leader_addr.is_empty() {
                            let known = addrs.iter().position(|known| *known == reply.leader_addr);
                            turn = known.unwrap_or(addrs.len());
                            if known.is_none() {
                                addrs.push(reply.leader_addr);
                            }
                        }
                    }
                },
                Ok(Err(e)) => problem = e,
                Err(_) => problem = "no answer".into(),
            }
            if heard.elapsed() > SILENCE {
                return Err(ChangeError::Busy(problem));
            }
            sleep(PAUSE).await;
        }
        Err(ChangeError::Stopped)
    }

    pub async fn join(&self, via: &[String]) -> Result<(), ChangeError> {
        let request = wire::JoinRequest {
            route: Some(self.any_route()),
            member: Some(member_to_wire(&self.config.me, &self.self_member())),
        };
        self.ask(via.to_vec(), |addr| {
            let request = request.clone();
            async move {
                let mut client = net::client(&addr, &self.context.carrier)?;
                let reply = client
                    .join(request)
                    .await
                    .map_err(|status| format!("{addr}: {status}"))?;
                Ok(reply.into_inner())
            }
        })
        .await
    }

    pub async fn leave(&self) -> Result<(), ChangeError> {
        let me = self.config.me;
        let membership = self.membership();
        let others: Vec<String> = membership
            .nodes()
            .filter(|(node, _)| **node != me)
            .map(|(_, member)| member.addr.clone())
            .collect();
        // A leader first hands over; a lone node has nobody to leave.
        if self.leads().is_ok() && !others.is_empty() {
            match self.step_remove(me).await {
                Ok(_) | Err(ChangeError::Busy(_) | ChangeError::NotLeader { .. }) => {}
                Err(e) => return Err(e),
            }
        }
        self.ask_removal(me, others).await
    }

    /// Removes a member: here if this node leads, else by asking whoever does.
    pub async fn remove(&self, node: NodeId) -> Result<(), ChangeError> {
        if self.leads().is_ok() {
            match self.until_done(|| self.step_remove(node)).await {
                Err(ChangeError::NotLeader { .. }) => {}
                result => return result,
            }
        }
        let (_, leader) = self.leader_addr();
        let membership = self.membership();
        let mut addrs: Vec<String> = membership
            .nodes()
            .filter(|(id, _)| **id != self.config.me && **id != node)
            .map(|(_, member)| member.addr.clone())
            .collect();
        addrs.sort_by_key(|addr| *addr != leader);
        self.ask_removal(node, addrs).await
    }

    async fn ask_removal(&self, node: NodeId, addrs: Vec<String>) -> Result<(), ChangeError> {
        let request = wire::LeaveRequest {
            route: Some(self.any_route()),
            node: id_bytes(&node),
        };
        self.ask(addrs, |addr| {
            let request = request.clone();
            async move {
                let mut client = net::client(&addr, &self.context.carrier)?;
                let reply = client
                    .leave(request)
                    .await
                    .map_err(|status| format!("{addr}: {status}"))?;
                Ok(reply.into_inner())
            }
        })
        .await
    }

    pub async fn transfer_to(&self, node: NodeId) -> Result<(), ChangeError> {
        self.leads()?;
        let start = self.metrics();
        let reign = start.vote.leader_id;
        if node == self.config.me {
            return Ok(());
        }
        let membership = start.membership_config.membership();
        let voter = membership.voter_ids().any(|voter| voter == node);
        match membership.get_node(&node) {
            Some(member) if voter && member.role == Role::Data => {}
            Some(_) => {
                return Err(ChangeError::Refused(
                    "only a data node that votes can lead".into(),
                ));
            }
            None => return Err(ChangeError::Refused("not a member".into())),
        }
        let lag = || {
            let metrics = self.metrics();
            let matched = metrics
                .replication
                .as_ref()
                .and_then(|r| r.get(&node).copied().flatten());
            let next = matched.map_or(0, |id| id.index + 1);
            metrics
                .last_log_index
                .map_or(0, |last| last + 1)
                .saturating_sub(next)
        };
        let wait = |limit: u64, time: Duration| async move {
            let deadline = Instant::now() + time;
            while lag() > limit {
                if Instant::now() > deadline {
                    return Err(ChangeError::Busy("the successor's log is not level".into()));
                }
                self.leads()?;
                sleep(Duration::from_millis(2)).await;
            }
            Ok(())
        };
        // Nearly level while writes go on; then they stop.
        wait(LEVEL, STEP).await?;
        let fence = {
            let mut desk = Desk::lock(&self.desk);
            if desk.leaving.is_some() {
                return Err(ChangeError::Busy("a transfer is under way".into()));
            }
            desk.leaving = Some(reign);
            let seat = desk.seat.take();
            // Once members have been told to let go, there is no lease: it ends before, for good.
            self.lease.revoke();
            seat
        };
        let term = reign.term;
        self.office.set(Office::Follower { leader: None, term });
        let give_up = |e: ChangeError| {
            // A new office in the same leadership begins with a new entry.
            Desk::lock(&self.desk).leaving = None;
            self.wake.notify_one();
            Err(e)
        };
        if let Some(seat) = &fence {
            // Everything proposed enters the log, in order, before the successor takes over.
            let deadline = Instant::now() + self.config.election_max * 3;
            while self.log_lacks(seat) && !seat.fence.is_broken() {
                if Instant::now() > deadline {
                    seat.fence.break_off();
                    return give_up(ChangeError::Busy("proposals are not taken in".into()));
                }
                sleep(Duration::from_millis(1)).await;
            }
            seat.fence.break_off();
        }
        if let Err(e) = wait(0, self.config.election_max * 3).await {
            return give_up(e);
        }
        if self.raft.trigger().transfer_leader(node).await.is_err() {
            return Err(ChangeError::Stopped);
        }
        let deadline = Instant::now() + self.config.election_max * 4;
        while Instant::now() < deadline {
            let now = self.metrics();
            if now.vote.leader_id != reign
                && now.current_leader.is_some_and(|l| l != self.config.me)
            {
                return Ok(());
            }
            sleep(Duration::from_millis(5)).await;
        }
        // openraft takes no more writes and sends no more heartbeats in this leadership. If the
        // successor has died, nobody may be left to stand: a witness does not. So this node gives its vote
        // for the next term to the successor, unasked, which ends the leadership, and is free to stand
        // for the term after that.
        if self.metrics().vote.leader_id == reign {
            let next = LeaderId {
                term: reign.term + 1,
                node_id: node,
            };
            let vote = Vote {
                leader_id: next,
                committed: false,
            };
            let mut request = VoteRequest::new(vote, self.log.last());
            request.leadership_transfer = true;
            if self.raft.vote(request).await.is_err() {
                return Err(ChangeError::Stopped);
            }
        }
        Err(ChangeError::Busy(
            "the successor has not taken over yet".into(),
        ))
    }

    /// Stands for election again and again until this node leads or somebody new does.
    pub async fn campaign(&self, limit: Duration) -> Result<(), ChangeError> {
        if self.config.role == Role::Witness {
            return Err(ChangeError::Refused("a witness leads no shard".into()));
        }
        if !self.membership().voter_ids().any(|id| id == self.config.me) {
            return Err(ChangeError::Refused("this node does not vote".into()));
        }
        let deadline = Instant::now() + limit;
        let before = self.metrics().vote.leader_id;
        loop {
            let metrics = self.metrics();
            let in_office = matches!(self.office.get(), Office::Leader(_));
            if metrics.state == ServerState::Leader && in_office {
                return Ok(());
            }
            if let Some(other) = metrics
                .current_leader
                .filter(|leader| *leader != self.config.me && metrics.vote.leader_id != before)
            {
                return Err(ChangeError::Refused(format!("{other} was elected")));
            }
            if Instant::now() >= deadline {
                return Err(ChangeError::Busy(
                    "no majority has given this node its vote".into(),
                ));
            }
            // The pre-vote changes nothing as long as a majority is bound to a leader that it hears.
            let may = self.mute_until.is_none_or(|until| Instant::now() >= until);
            let leads = metrics.state == ServerState::Leader;
            if may && !leads && self.raft.trigger().elect(true).await.is_err() {
                return Err(ChangeError::Stopped);
            }
            sleep(self.config.election_min / 4).await;
        }
    }

    /// Whether a proposal of this office has not yet been taken in.
    fn log_lacks(&self, seat: &crate::propose::Seat) -> bool {
        seat.fence.admitted() < seat.next
    }
}
