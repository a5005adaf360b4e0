//! The process's Raft server: takes calls for all groups of this process.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures_util::stream::{Stream, StreamExt};
use holdfast_proto::raft as wire;
use holdfast_proto::raft::raft_service_server::{RaftService, RaftServiceServer};
use openraft::Snapshot;
use openraft::raft::{
    AppendEntriesRequest, StreamAppendError, StreamAppendResult, TransferLeaderRequest,
    VoteRequest, VoteResponse,
};
use tokio::sync::oneshot;
use tonic::{Request, Response, Status, Streaming};

#[cfg(not(madsim))]
use crate::carrier::incoming;
use crate::carrier::{Carrier, MaybeCarrier};
use crate::disk::OpenMode;
use crate::error::{ChangeError, StartError};
use crate::group::{Core, Group};
use crate::ids::{NodeId, ShardId};
use crate::log::gap_in;
use crate::net::{MESSAGE_MAX, WINDOW};
use crate::raft::{
    LogId, Malformed, Types, entry_from_wire, id_bytes, log_id_to_wire, member_from_wire,
    membership_to_wire, opt_log_id, role_to_wire, vote_from_wire, vote_to_wire,
};
use crate::snapshots::meta_from_header;

/// How long [`RaftServer::stop`] waits for connections to end.
const STOP_GRACE: Duration = Duration::from_millis(100);

/// The process's Raft server: carries all groups of this process. A handle; clones are the same server.
#[derive(Clone)]
pub struct RaftServer {
    shared: Arc<Shared>,
}

struct Shared {
    addr: SocketAddr,
    groups: Mutex<BTreeMap<ShardId, Arc<Core>>>,
    stop: Mutex<Option<(oneshot::Sender<()>, tokio::task::JoinHandle<()>)>>,
    carrier: MaybeCarrier,
}

impl Shared {
    fn groups(&self) -> MutexGuard<'_, BTreeMap<ShardId, Arc<Core>>> {
        self.groups
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl RaftServer {
    /// Listens at `addr`; with port 0 at any free one, which [`RaftServer::addr`] tells (not in the
    /// simulator).
    ///
    /// # Errors
    /// [`StartError::Listen`].
    pub async fn listen(addr: SocketAddr) -> Result<RaftServer, StartError> {
        RaftServer::listen_by(addr, None).await
    }

    /// As [`RaftServer::listen`], with a carrier for all connections of this process's groups, in both directions (not in
    /// the simulator).
    ///
    /// # Errors
    /// [`StartError::Listen`].
    pub async fn listen_by(
        addr: SocketAddr,
        carrier: Option<Arc<dyn Carrier>>,
    ) -> Result<RaftServer, StartError> {
        // What listens is bound before anything else, so that a port in use is known at once.
        #[cfg(not(madsim))]
        let (addr, incoming) = {
            let failed = |e: std::io::Error| StartError::Listen {
                addr: addr.to_string(),
                error: e.to_string(),
            };
            incoming(addr, carrier.clone()).map_err(failed)?
        };
        let (stop, stopped) = oneshot::channel::<()>();
        let shared = Arc::new(Shared {
            addr,
            groups: Mutex::default(),
            stop: Mutex::default(),
            carrier,
        });
        let service = RaftServiceServer::new(Service {
            shared: shared.clone(),
        })
        .max_decoding_message_size(MESSAGE_MAX)
        .max_encoding_message_size(MESSAGE_MAX);
        let router = tonic::transport::Server::builder()
            .tcp_nodelay(true)
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .add_service(service);
        // Connections are told to go away when it stops; dropping it would leave them served.
        let stopped = async move {
            let _ = stopped.await;
        };
        #[cfg(not(madsim))]
        let serve = router.serve_with_incoming_shutdown(incoming, stopped);
        #[cfg(madsim)]
        let serve = router.serve_with_shutdown(addr, stopped);
        let serving = tokio::task::spawn(async move {
            if let Err(e) = serve.await {
                tracing::error!("the Raft server at {addr} has ended: {e}");
            }
        });
        *shared
            .stop
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner()) = Some((stop, serving));
        Ok(RaftServer { shared })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.shared.addr
    }

    /// The group of a shard, if this process is a member of it.
    pub fn group(&self, shard: &ShardId) -> Option<Group> {
        self.shared
            .groups()
            .get(shard)
            .cloned()
            .map(Group::from_core)
    }

    /// All groups of this process, by shard id.
    pub fn groups(&self) -> Vec<Group> {
        self.shared
            .groups()
            .values()
            .cloned()
            .map(Group::from_core)
            .collect()
    }

    /// Stops listening. Groups should be stopped first.
    pub async fn stop(&self) {
        let stop = self
            .shared
            .stop
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
            .take();
        if let Some((stop, serving)) = stop {
            let _ = stop.send(());
            // It stops listening at once, but ends only with its last connection.
            let _ = tokio::time::timeout(STOP_GRACE, serving).await;
        }
    }

    pub(crate) fn carrier(&self) -> MaybeCarrier {
        self.shared.carrier.clone()
    }

    pub(crate) fn register(&self, core: Arc<Core>) {
        self.shared.groups().insert(core.config.shard, core);
    }

    pub(crate) fn unregister(&self, shard: &ShardId) {
        self.shared.groups().remove(shard);
    }

    pub(crate) fn has(&self, shard: &ShardId) -> bool {
        self.shared.groups().contains_key(shard)
    }
}

struct Service {
    shared: Arc<Shared>,
}

fn bad(e: Malformed) -> Status {
    Status::invalid_argument(e.to_string())
}

fn stopped(e: impl ToString) -> Status {
    Status::unavailable(e.to_string())
}

impl Service {
    /// The group a message is for, and its sender.
    fn route(&self, route: Option<&wire::Route>) -> Result<(Arc<Core>, NodeId), Status> {
        let route = route.ok_or(bad(Malformed("no route")))?;
        let shard = ShardId::from_slice(&route.group)
            .map_err(|_| bad(Malformed("a shard id has 20 bytes")))?;
        let from = NodeId::from_slice(&route.from)
            .map_err(|_| bad(Malformed("a node id has 20 bytes")))?;
        let core = self.shared.groups().get(&shard).cloned();
        let core = core.ok_or_else(|| Status::not_found("not a member of that shard"))?;
        if !route.to.is_empty() && route.to[..] != core.config.me.as_bytes()[..] {
            return Err(Status::not_found("another node lives at this address"));
        }
        Ok((core, from))
    }

    /// As [`Service::route`], for what only a member may say.
    fn member(&self, route: Option<&wire::Route>) -> Result<(Arc<Core>, NodeId), Status> {
        let (core, from) = self.route(route)?;
        if core.excluded.0.contains(&from) {
            return Err(Status::permission_denied(
                "given up when the shard was rebuilt without it",
            ));
        }
        Ok((core, from))
    }
}

fn append_from_wire(
    request: wire::AppendRequest,
) -> Result<AppendEntriesRequest<Types>, Malformed> {
    let mut entries = Vec::with_capacity(request.entries.len());
    for entry in request.entries {
        entries.push(entry_from_wire(entry)?);
    }
    let prev_log_id = opt_log_id(request.prev)?;
    let next = prev_log_id.map_or(0, |prev| prev.index + 1);
    if gap_in(next, &entries).is_some() {
        return Err(Malformed("entries that do not follow one another"));
    }
    Ok(AppendEntriesRequest {
        vote: vote_from_wire(request.vote)?,
        prev_log_id,
        entries,
        leader_commit: opt_log_id(request.leader_commit)?,
    })
}

fn append_reply(result: StreamAppendResult<Types>) -> wire::AppendReply {
    use wire::append_reply::Result as Reply;
    let result = match result {
        Ok(upto) => Reply::Matched(matched(upto.as_ref())),
        Err(StreamAppendError::Conflict(id)) => Reply::Conflict(log_id_to_wire(&id)),
        Err(StreamAppendError::HigherVote(vote)) => Reply::HigherVote(vote_to_wire(&vote)),
    };
    wire::AppendReply {
        result: Some(result),
    }
}

fn matched(upto: Option<&LogId>) -> wire::Matched {
    wire::Matched {
        upto: upto.map(log_id_to_wire),
    }
}

fn vote_request(request: wire::VoteRequest) -> Result<VoteRequest<Types>, Status> {
    let vote = vote_from_wire(request.vote).map_err(bad)?;
    let last = opt_log_id(request.last).map_err(bad)?;
    let mut rpc = VoteRequest::new(vote, last);
    rpc.leadership_transfer = request.leadership_transfer;
    Ok(rpc)
}

fn vote_reply(response: &VoteResponse<Types>) -> wire::VoteReply {
    wire::VoteReply {
        vote: Some(vote_to_wire(&response.vote)),
        granted: response.vote_granted,
        last: response.last_log_id.as_ref().map(log_id_to_wire),
    }
}

fn member_reply(result: Result<bool, ChangeError>) -> wire::MemberReply {
    use wire::member_reply::Outcome;
    let mut reply = wire::MemberReply::default();
    let outcome = match result {
        Ok(true) => Outcome::Done,
        Ok(false) => Outcome::InProgress,
        Err(ChangeError::NotLeader { addr, .. }) => {
            reply.leader_addr = addr;
            Outcome::NotLeader
        }
        Err(ChangeError::Busy(error)) => {
            reply.error = error;
            Outcome::InProgress
        }
        Err(error @ (ChangeError::Refused(_) | ChangeError::Stopped)) => {
            reply.error = error.to_string();
            Outcome::Refused
        }
    };
    reply.outcome = outcome as i32;
    reply
}

type Replies = Pin<Box<dyn Stream<Item = Result<wire::AppendReply, Status>> + Send>>;

#[tonic::async_trait]
impl RaftService for Service {
    type AppendStreamStream = Replies;

    async fn append_stream(
        &self,
        request: Request<Streaming<wire::AppendRequest>>,
    ) -> Result<Response<Replies>, Status> {
        let mut requests = request.into_inner();
        let service = Service {
            shared: self.shared.clone(),
        };
        // The answer's headers go out at once; which group it is, the first request tells, and that may
        // come much later.
        let replies = futures_util::stream::once(async move {
            let first = match requests.message().await {
                Ok(Some(first)) => first,
                Ok(None) => return empty(),
                Err(status) => return failed(status),
            };
            let core = match service.member(first.route.as_ref()) {
                Ok((core, _)) => core,
                Err(status) => return failed(status),
            };
            let all = futures_util::stream::once(std::future::ready(Ok(first))).chain(requests);
            let told = core.clone();
            let rpcs = all.map(move |item: Result<wire::AppendRequest, Status>| {
                let request = item.ok()?;
                told.on_append(&request);
                append_from_wire(request)
                    .inspect_err(|e| told.complain(e))
                    .ok()
            });
            // The stream ends with the first message that is none.
            let rpcs = rpcs
                .take_while(|rpc| std::future::ready(rpc.is_some()))
                .filter_map(std::future::ready);
            let replies = core.raft.stream_append(rpcs).map(|reply| match reply {
                Ok(result) => Ok(append_reply(result)),
                Err(fatal) => Err(stopped(fatal)),
            });
            Box::pin(replies) as Replies
        })
        .flatten();
        Ok(Response::new(Box::pin(replies)))
    }

    async fn append(
        &self,
        request: Request<wire::AppendRequest>,
    ) -> Result<Response<wire::AppendReply>, Status> {
        let request = request.into_inner();
        let (core, _) = self.member(request.route.as_ref())?;
        core.on_append(&request);
        let rpc = append_from_wire(request).map_err(bad)?;
        let prev = rpc.prev_log_id;
        let last = rpc.entries.last().map(|entry| entry.id).or(prev);
        let response = core.raft.append_entries(rpc).await.map_err(stopped)?;
        Ok(Response::new(append_reply(
            response.into_stream_result(prev, last),
        )))
    }

    async fn vote(
        &self,
        request: Request<wire::VoteRequest>,
    ) -> Result<Response<wire::VoteReply>, Status> {
        let request = request.into_inner();
        let (core, from) = self.member(request.route.as_ref())?;
        let rpc = vote_request(request)?;
        core.may_vote(rpc.leadership_transfer)
            .map_err(Status::unavailable)?;
        let last = rpc.last_log_id;
        let response = core.raft.vote(rpc).await.map_err(stopped)?;
        core.on_vote_answered(from, last, &response);
        Ok(Response::new(vote_reply(&response)))
    }

    async fn pre_vote(
        &self,
        request: Request<wire::VoteRequest>,
    ) -> Result<Response<wire::VoteReply>, Status> {
        let request = request.into_inner();
        let (core, from) = self.member(request.route.as_ref())?;
        let rpc = vote_request(request)?;
        core.may_vote(false).map_err(Status::unavailable)?;
        let last = rpc.last_log_id;
        let response = core.raft.pre_vote(rpc).await.map_err(stopped)?;
        core.on_vote_answered(from, last, &response);
        Ok(Response::new(vote_reply(&response)))
    }

    async fn snapshot(
        &self,
        request: Request<Streaming<wire::SnapshotChunk>>,
    ) -> Result<Response<wire::SnapshotReply>, Status> {
        let mut chunks = request.into_inner();
        let first = chunks.message().await?.and_then(|chunk| chunk.part);
        let Some(wire::snapshot_chunk::Part::Header(header)) = first else {
            return Err(bad(Malformed("a snapshot without header")));
        };
        let (core, _) = self.member(header.route.as_ref())?;
        let path = core.snapshots.new_path();
        if let Err(status) = receive(&core, &header, &path, &mut chunks).await {
            core.snapshots.discard(&path).await;
            return Err(status);
        }
        // From here on the file may be in use whatever the answer is.
        install(&core, &header, path).await.map(Response::new)
    }

    async fn transfer_leader(
        &self,
        request: Request<wire::TransferRequest>,
    ) -> Result<Response<wire::TransferReply>, Status> {
        let request = request.into_inner();
        let (core, _) = self.member(request.route.as_ref())?;
        let vote = vote_from_wire(request.from_leader).map_err(bad)?;
        let last = opt_log_id(request.last).map_err(bad)?;
        let to = NodeId::from_slice(&request.successor)
            .map_err(|_| bad(Malformed("a node id has 20 bytes")))?;
        let rpc = TransferLeaderRequest::new(vote, to, last);
        let taken = core
            .raft
            .handle_transfer_leader(rpc)
            .await
            .map_err(stopped)?;
        let refused = taken.err().map(|e| e.to_string()).unwrap_or_default();
        Ok(Response::new(wire::TransferReply { refused }))
    }

    async fn join(
        &self,
        request: Request<wire::JoinRequest>,
    ) -> Result<Response<wire::MemberReply>, Status> {
        let request = request.into_inner();
        let (core, _) = self.route(request.route.as_ref())?;
        let member = request.member.ok_or(bad(Malformed("no member")))?;
        let (node, member) = member_from_wire(member).map_err(bad)?;
        Ok(Response::new(member_reply(
            core.clone().step_add(node, member).await,
        )))
    }

    async fn leave(
        &self,
        request: Request<wire::LeaveRequest>,
    ) -> Result<Response<wire::MemberReply>, Status> {
        let request = request.into_inner();
        let (core, _) = self.route(request.route.as_ref())?;
        let node = NodeId::from_slice(&request.node)
            .map_err(|_| bad(Malformed("a node id has 20 bytes")))?;
        Ok(Response::new(member_reply(core.step_remove(node).await)))
    }

    async fn status(
        &self,
        request: Request<wire::StatusRequest>,
    ) -> Result<Response<wire::StatusReply>, Status> {
        let request = request.into_inner();
        let (core, _) = self.route(request.route.as_ref())?;
        let status = core.status();
        let (leader, leader_addr) = core.leader_addr();
        Ok(Response::new(wire::StatusReply {
            term: status.term,
            leader: leader.as_ref().map(id_bytes).unwrap_or_default(),
            leader_addr,
            membership: Some(membership_to_wire(&core.membership())),
            last_index: status.appended.unwrap_or(0),
            flushed_index: status.flushed.unwrap_or(0),
            committed_index: status.committed.unwrap_or(0),
            applied_index: status.applied.unwrap_or(0),
            snapshot_index: status.snapshot.unwrap_or(0),
            log_bytes: status.log_bytes,
            role: role_to_wire(status.role) as i32,
        }))
    }
}

fn empty() -> Replies {
    Box::pin(futures_util::stream::empty())
}

fn failed(status: Status) -> Replies {
    Box::pin(futures_util::stream::once(std::future::ready(Err(status))))
}

/// Receives a snapshot into `path`, complete and durable.
async fn receive(
    core: &Core,
    header: &wire::SnapshotHeader,
    path: &std::path::Path,
    chunks: &mut Streaming<wire::SnapshotChunk>,
) -> Result<(), Status> {
    use wire::snapshot_chunk::Part;
    let disk = core.snapshots.disk();
    let file = disk
        .open(path, OpenMode::CreateNew)
        .await
        .map_err(stopped)?;
    let mut offset = 0;
    let mut crc = 0;
    loop {
        let part = chunks.message().await?.and_then(|chunk| chunk.part);
        match part {
            Some(Part::Data(data)) => {
                crc = crc32c::crc32c_append(crc, &data);
                let len = data.len() as u64;
                file.write_at(offset, data).await.map_err(stopped)?;
                offset += len;
            }
            Some(Part::Checksum(expected)) => {
                if expected != crc || offset != header.len {
                    return Err(Status::data_loss("the snapshot was damaged on its way"));
                }
                break;
            }
            Some(Part::Header(_)) => return Err(bad(Malformed("a second header"))),
            None => return Err(Status::cancelled("the snapshot ended too early")),
        }
    }
    file.sync().await.map_err(stopped)
}

/// Installs a received snapshot, or keeps it if that is what is asked.
async fn install(
    core: &Core,
    header: &wire::SnapshotHeader,
    path: std::path::PathBuf,
) -> Result<wire::SnapshotReply, Status> {
    let vote = vote_from_wire(header.vote.clone()).map_err(bad)?;
    let meta = meta_from_header(header).map_err(Status::invalid_argument)?;
    let stored = core
        .snapshots
        .complete(meta.clone(), path)
        .await
        .map_err(stopped)?;
    if header.keep_only {
        core.keep_snapshot(stored).await.map_err(stopped)?;
        return Ok(wire::SnapshotReply {
            vote: Some(vote_to_wire(&vote)),
        });
    }
    let snapshot = Snapshot {
        meta,
        snapshot: stored,
    };
    let response = core
        .raft
        .install_full_snapshot(vote, snapshot)
        .await
        .map_err(stopped)?;
    Ok(wire::SnapshotReply {
        vote: Some(vote_to_wire(&response.vote)),
    })
}
