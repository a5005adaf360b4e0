//! How this node calls the other members: one gRPC connection each for entries, heartbeats and
//! snapshots, so that none waits behind another.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, Stream, StreamExt};
use holdfast_proto::raft as wire;
use holdfast_proto::raft::raft_service_client::RaftServiceClient;
use openraft::base::{BoxFuture, BoxStream};
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::RPCOption;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendError,
    StreamAppendResult, TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{OptionalSend, RaftNetworkFactory, RaftNetworkV2, Snapshot};
use tokio::sync::oneshot;
use tokio::time::timeout;
use tonic::transport::{Channel, Endpoint};

use crate::acks::{Acks, UnderWay};
#[cfg(not(madsim))]
use crate::carrier::Connector;
use crate::carrier::MaybeCarrier;
use crate::disk::{Disk, DiskFile, OpenMode};
use crate::ids::{NodeId, ShardId};
use crate::log::LogStore;
use crate::raft::{
    LeaderId, Malformed, Types, Vote, entry_to_wire, id_bytes, log_id_to_wire, opt_log_id,
    vote_from_wire, vote_to_wire,
};
use crate::snapshots::{File, Stored, header_of};
use crate::types::Member;

/// Messages may be as long as a proposal and a little.
pub const MESSAGE_MAX: usize = (1 << 30) + (1 << 20);
/// How much of a snapshot one message carries.
const CHUNK: usize = 256 << 10;
/// HTTP/2 windows: enough for a few batches of entries under way. Each connection to a receiver that is slower than its
/// sender takes as much of its memory, and a witness has one for every shard.
pub const WINDOW: u32 = 1 << 20;
/// How long the news that entries are committed waits for further entries to go with.
const COMMIT_WAIT: Duration = Duration::from_millis(2);
/// A snapshot of which nothing moved for this long is given up.
const SNAPSHOT_STALL: Duration = Duration::from_secs(15);
/// A receiver may take this long to install a snapshot it has received.
const SNAPSHOT_INSTALL: Duration = Duration::from_secs(600);

/// What all connections of a group share.
pub struct Context {
    pub shard: ShardId,
    pub me: NodeId,
    pub disk: Arc<dyn Disk>,
    pub log: LogStore,
    pub election_max: Duration,
    /// Index up to which every data voter has the log, plus one; 0: unknown.
    pub all_data_matched: AtomicU64,
    /// As leader: who follows, and since when that is known.
    pub acks: Acks,
    /// What connections to other members are carried by.
    pub carrier: MaybeCarrier,
}

/// A client for the server at `addr` (`host:port`), connecting when it is first used and again after
/// failures.
///
/// # Errors
/// The address makes no URL.
pub fn client(addr: &str, carrier: &MaybeCarrier) -> Result<RaftServiceClient<Channel>, String> {
    let endpoint = Endpoint::from_shared(format!("http://{addr}"))
        .map_err(|e| format!("{addr}: {e}"))?
        .connect_timeout(Duration::from_secs(1))
        .tcp_nodelay(true)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .http2_keep_alive_interval(Duration::from_secs(2))
        .keep_alive_timeout(Duration::from_secs(3))
        .keep_alive_while_idle(true);
    #[cfg(not(madsim))]
    let channel = match carrier {
        Some(carrier) => endpoint.connect_with_connector_lazy(Connector(carrier.clone())),
        None => endpoint.connect_lazy(),
    };
    #[cfg(madsim)]
    let channel = {
        let _ = carrier;
        endpoint.connect_lazy()
    };
    Ok(RaftServiceClient::new(channel)
        .max_decoding_message_size(MESSAGE_MAX)
        .max_encoding_message_size(MESSAGE_MAX))
}

/// Makes the connections.
pub struct Factory(pub Arc<Context>);

impl Factory {
    fn make(&self, target: NodeId, member: &Member, heartbeat: bool) -> Peer {
        let client = client(&member.addr, &self.0.carrier);
        Peer {
            context: self.0.clone(),
            target,
            client,
            heartbeat,
        }
    }
}

impl RaftNetworkFactory<Types> for Factory {
    type Network = Peer;

    async fn new_client(&mut self, target: NodeId, node: &Member) -> Peer {
        self.make(target, node, false)
    }

    async fn new_heartbeat_client(&mut self, target: NodeId, node: &Member) -> Peer {
        self.make(target, node, true)
    }
}

/// One connection to one member.
pub struct Peer {
    context: Arc<Context>,
    target: NodeId,
    client: Result<RaftServiceClient<Channel>, String>,
    heartbeat: bool,
}

fn unreachable(what: impl ToString) -> Unreachable<Types> {
    Unreachable::from_string(what)
}

fn malformed(e: Malformed) -> RPCError<Types> {
    RPCError::Network(NetworkError::new(&e))
}

impl Peer {
    fn route(&self) -> wire::Route {
        wire::Route {
            group: Bytes::copy_from_slice(self.context.shard.as_bytes()),
            from: id_bytes(&self.context.me),
            to: id_bytes(&self.target),
        }
    }

    fn client(&self) -> Result<RaftServiceClient<Channel>, Unreachable<Types>> {
        self.client.clone().map_err(unreachable)
    }

    async fn within<T>(
        limit: Duration,
        call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    ) -> Result<T, Unreachable<Types>> {
        match timeout(limit, call).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(unreachable(status)),
            Err(_) => Err(unreachable(format!("no answer within {limit:?}"))),
        }
    }

    fn vote_to_wire(&self, rpc: &VoteRequest<Types>) -> wire::VoteRequest {
        wire::VoteRequest {
            route: Some(self.route()),
            vote: Some(vote_to_wire(&rpc.vote)),
            last: rpc.last_log_id.as_ref().map(log_id_to_wire),
            leadership_transfer: rpc.leadership_transfer,
        }
    }

    fn vote_reply(reply: wire::VoteReply) -> Result<VoteResponse<Types>, RPCError<Types>> {
        let vote = vote_from_wire(reply.vote).map_err(malformed)?;
        let last = opt_log_id(reply.last).map_err(malformed)?;
        Ok(VoteResponse::new(vote, last, reply.granted))
    }

    fn limit(&self, option: &RPCOption) -> Duration {
        option.hard_ttl().min(self.context.election_max)
    }
}

fn append_to_wire(
    context: &Context,
    route: wire::Route,
    rpc: AppendEntriesRequest<Types>,
) -> wire::AppendRequest {
    wire::AppendRequest {
        route: Some(route),
        vote: Some(vote_to_wire(&rpc.vote)),
        prev: rpc.prev_log_id.as_ref().map(log_id_to_wire),
        entries: rpc.entries.iter().map(entry_to_wire).collect(),
        leader_commit: rpc.leader_commit.as_ref().map(log_id_to_wire),
        all_data_matched: context.all_data_matched.load(Ordering::Relaxed),
    }
}

/// Lets a request without entries wait for the next one, which then goes in its place.
///
/// After each commit openraft tells it to every follower, in a request of its own if there is nothing else to send
/// just then; while writes come in there will be in a moment, and each request costs both sides as much as an entry
/// does. The first request of a stream is sent at once: it may be there to find out what the follower has. Later ones
/// differ in the commit alone, which the next one carries, too.
fn gather<S>(input: S) -> impl Stream<Item = AppendEntriesRequest<Types>>
where
    S: Stream<Item = AppendEntriesRequest<Types>> + Unpin,
{
    stream::unfold((Some(input), true), |(input, first)| async move {
        let mut input = input?;
        let mut rpc = input.next().await?;
        if first || !rpc.entries.is_empty() {
            return Some((rpc, (Some(input), false)));
        }
        let more = async {
            while rpc.entries.is_empty() {
                match input.next().await {
                    Some(next) => rpc = next,
                    None => return false,
                }
            }
            true
        };
        let open = timeout(COMMIT_WAIT, more).await.unwrap_or(true);
        Some((rpc, (open.then_some(input), false)))
    })
}

fn append_reply(reply: wire::AppendReply) -> Result<StreamAppendResult<Types>, RPCError<Types>> {
    use wire::append_reply::Result as Reply;
    match reply.result.ok_or(malformed(Malformed("an empty reply")))? {
        Reply::Matched(matched) => Ok(Ok(opt_log_id(matched.upto).map_err(malformed)?)),
        Reply::Conflict(id) => {
            let id = opt_log_id(Some(id)).map_err(malformed)?;
            let id = id.ok_or(malformed(Malformed("a conflict without id")))?;
            Ok(Err(StreamAppendError::Conflict(id)))
        }
        Reply::HigherVote(vote) => {
            let vote = vote_from_wire(Some(vote)).map_err(malformed)?;
            Ok(Err(StreamAppendError::HigherVote(vote)))
        }
    }
}

impl Context {
    /// Takes the next answer of a member: it follows, or it has seen another leader.
    fn on_append_reply(&self, from: NodeId, sent: &UnderWay, reply: &StreamAppendResult<Types>) {
        let Some((reign, at)) = sent.answered() else {
            return;
        };
        match reply {
            Ok(_) | Err(StreamAppendError::Conflict(_)) => self.acks.note(from, reign, at),
            Err(StreamAppendError::HigherVote(_)) => {}
        }
    }
}

type Replies<'s> = BoxStream<'s, Result<StreamAppendResult<Types>, RPCError<Types>>>;

impl RaftNetworkV2<Types> for Peer {
    type SnapshotData = Stored;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, RPCError<Types>> {
        let mut client = self.client()?;
        let under_way = UnderWay::default();
        under_way.sent(rpc.vote.leader_id);
        let request = append_to_wire(&self.context, self.route(), rpc);
        let reply = Self::within(option.hard_ttl(), client.append(request)).await?;
        let reply = append_reply(reply)?;
        self.context
            .on_append_reply(self.target, &under_way, &reply);
        Ok(reply.into())
    }

    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        option: RPCOption,
    ) -> BoxFuture<'s, Result<Replies<'s>, RPCError<Types>>>
    where
        S: Stream<Item = AppendEntriesRequest<Types>> + OptionalSend + Unpin + 'static,
    {
        Box::pin(async move {
            let mut client = self.client()?;
            let context = self.context.clone();
            let route = self.route();
            if self.heartbeat {
                let limit = option.hard_ttl();
                let target = self.target;
                let state = (input, client, context, route);
                let replies = stream::unfold(
                    state,
                    move |(mut input, mut client, context, route)| async move {
                        let rpc = input.next().await?;
                        let under_way = UnderWay::default();
                        under_way.sent(rpc.vote.leader_id);
                        let request = append_to_wire(&context, route.clone(), rpc);
                        let reply = match Self::within(limit, client.append(request)).await {
                            Ok(reply) => append_reply(reply),
                            Err(e) => Err(RPCError::Unreachable(e)),
                        };
                        if let Ok(reply) = &reply {
                            context.on_append_reply(target, &under_way, reply);
                        }
                        Some((reply, (input, client, context, route)))
                    },
                );
                return Ok(Box::pin(replies) as Replies<'s>);
            }
            // When openraft drops the replies, the requests must end too: the transport would go on
            // to wait for the next one, and openraft's stream of them is locked while it is waited for.
            let (guard, dropped) = oneshot::channel::<()>();
            let sent = Arc::new(UnderWay::default());
            let counter = sent.clone();
            let (target, listener) = (self.target, self.context.clone());
            let stall = (self.context.election_max * 4).max(Duration::from_secs(1));
            let requests = gather(input)
                .map(move |rpc| {
                    counter.sent(rpc.vote.leader_id);
                    append_to_wire(&context, route.clone(), rpc)
                })
                .take_until(dropped);
            let missed = self.context.log.watch_missed();
            let replies = Self::within(stall, client.append_stream(Box::pin(requests))).await?;
            let state = Some((replies, guard, missed));
            let replies = stream::unfold(state, move |state| {
                let (sent, listener) = (sent.clone(), listener.clone());
                async move {
                    let (mut replies, guard, mut missed) = state?;
                    loop {
                        let under_way = sent.any();
                        let reply = tokio::select! {
                            biased;
                            reply = timeout(stall, replies.message()) => reply,
                            _ = missed.changed() => {
                                let e = unreachable("entries to send have been cut from the log");
                                return Some((Err(RPCError::Unreachable(e)), None));
                            }
                        };
                        return match reply {
                            Ok(Ok(Some(reply))) => {
                                let reply = append_reply(reply);
                                if let Ok(reply) = &reply {
                                    listener.on_append_reply(target, &sent, reply);
                                }
                                Some((reply, Some((replies, guard, missed))))
                            }
                            Ok(Ok(None)) => None,
                            Ok(Err(status)) => {
                                Some((Err(RPCError::Unreachable(unreachable(status))), None))
                            }
                            Err(_) if under_way => {
                                let e = unreachable(format!("no answer for {stall:?}"));
                                Some((Err(RPCError::Unreachable(e)), None))
                            }
                            Err(_) => continue,
                        };
                    }
                }
            });
            Ok(Box::pin(replies) as Replies<'s>)
        })
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        let mut client = self.client()?;
        let call = client.vote(self.vote_to_wire(&rpc));
        Self::vote_reply(Self::within(self.limit(&option), call).await?)
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        let mut client = self.client()?;
        let call = client.pre_vote(self.vote_to_wire(&rpc));
        Self::vote_reply(Self::within(self.limit(&option), call).await?)
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot<LeaderId, NodeId, Member, Stored>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        let stored = snapshot.snapshot;
        let client = self.client()?;
        let mut header = header_of(&stored.meta);
        header.route = Some(self.route());
        header.vote = Some(vote_to_wire(&vote));
        let send = send_snapshot(self.context.disk.clone(), client, header, stored);
        let reply = tokio::select! {
            biased;
            closed = cancel => return Err(closed.into()),
            reply = send => reply.map_err(unreachable)?,
        };
        let vote = vote_from_wire(reply.vote).map_err(|e| NetworkError::new(&e))?;
        Ok(SnapshotResponse::new(vote))
    }

    async fn transfer_leader(
        &mut self,
        req: TransferLeaderRequest<Types>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<Types>, RPCError<Types>> {
        let mut client = self.client()?;
        let request = wire::TransferRequest {
            route: Some(self.route()),
            from_leader: Some(vote_to_wire(req.from_leader())),
            last: req.last_log_id().map(log_id_to_wire),
            successor: id_bytes(req.to_node_id()),
        };
        let call = client.transfer_leader(request);
        let reply = Self::within(self.limit(&option), call).await?;
        match reply.refused.as_str() {
            "" => Ok(Ok(())),
            why => Err(RPCError::Unreachable(unreachable(why))),
        }
    }
}

/// What is left of a snapshot to send.
struct Sending {
    step: Step,
    open: Box<dyn DiskFile>,
    /// Keeps the file from removal.
    file: Arc<File>,
    /// Counts messages; `u64::MAX` once all are out.
    sent: Arc<AtomicU64>,
}

enum Step {
    Header(Box<wire::SnapshotHeader>),
    Data { offset: u64, crc: u32 },
    End,
}

async fn next_chunk(mut sending: Sending) -> Option<(wire::SnapshotChunk, Sending)> {
    use wire::snapshot_chunk::Part;
    let part = match std::mem::replace(&mut sending.step, Step::End) {
        Step::Header(header) => {
            sending.step = Step::Data { offset: 0, crc: 0 };
            Part::Header(*header)
        }
        Step::Data { offset, crc } if offset >= sending.file.len => Part::Checksum(crc),
        Step::Data { offset, crc } => {
            let data = match sending.open.read_at(offset, CHUNK).await {
                Ok(data) if !data.is_empty() => data,
                // The receiver sees a stream without checksum.
                Ok(_) => return None,
                Err(e) => {
                    tracing::warn!("reading a snapshot: {e}");
                    return None;
                }
            };
            let crc = crc32c::crc32c_append(crc, &data);
            sending.step = Step::Data {
                offset: offset + data.len() as u64,
                crc,
            };
            Part::Data(Bytes::from(data))
        }
        Step::End => {
            sending.sent.store(u64::MAX, Ordering::Relaxed);
            return None;
        }
    };
    sending.sent.fetch_add(1, Ordering::Relaxed);
    Some((wire::SnapshotChunk { part: Some(part) }, sending))
}

type Sent = Pin<Box<dyn Future<Output = Result<wire::SnapshotReply, String>> + Send>>;

/// Sends a snapshot's file, and returns the receiver's answer. A marker is never sent: whoever
/// installed it would lose everything.
///
/// # Errors
/// What went wrong.
pub fn send_snapshot(
    disk: Arc<dyn Disk>,
    client: RaftServiceClient<Channel>,
    mut header: wire::SnapshotHeader,
    stored: Stored,
) -> Sent {
    Box::pin(async move {
        let file = stored
            .file
            .clone()
            .ok_or("this witness has no snapshot to give")?;
        header.len = file.len;
        let open = disk
            .open(&file.path, OpenMode::Read)
            .await
            .map_err(|e| e.to_string())?;
        let sent = Arc::new(AtomicU64::new(0));
        let step = Step::Header(Box::new(header));
        let sending = Sending {
            step,
            open,
            file,
            sent: sent.clone(),
        };
        let mut call = call_with(client, chunks_of(sending));
        let mut seen = 0;
        loop {
            let limit = if seen == u64::MAX {
                SNAPSHOT_INSTALL
            } else {
                SNAPSHOT_STALL
            };
            match timeout(limit, &mut call).await {
                Ok(Ok(reply)) => return Ok(reply.into_inner()),
                Ok(Err(status)) => return Err(status.to_string()),
                Err(_) => {
                    let now = sent.load(Ordering::Relaxed);
                    if now == seen {
                        return Err(format!("nothing moved for {limit:?}"));
                    }
                    seen = now;
                }
            }
        }
    })
}

/// A stream with a name: the compiler cannot see through the generated client with a `dyn` one.
struct Chunks(BoxStream<'static, wire::SnapshotChunk>);

impl Stream for Chunks {
    type Item = wire::SnapshotChunk;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_next_unpin(cx)
    }
}
type Call = Pin<
    Box<dyn Future<Output = Result<tonic::Response<wire::SnapshotReply>, tonic::Status>> + Send>,
>;

fn chunks_of(sending: Sending) -> Chunks {
    Chunks(Box::pin(stream::unfold(sending, next_chunk)))
}

fn call_with(mut client: RaftServiceClient<Channel>, chunks: Chunks) -> Call {
    Box::pin(async move { client.snapshot(chunks).await })
}
