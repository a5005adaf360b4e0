//! A shard's replicated log: segments on disk, openraft around them, and the witness.
//!
//! Owns the group's files, the Raft RPC with its server, and one thread a group (under the simulator: a
//! task) that writes and syncs the log. Never knows what an entry means; that is the [`App`]'s.
//!
//! # How to drive it
//!
//! 1. [`RaftServer::listen`] once in the process; [`Group::start`] once for each shard. `start` returns after
//!    [`App::install_snapshot`] was called with this node's newest snapshot, if it has one, and
//!    [`App::apply`] with every entry known to be committed.
//! 2. A fresh shard: [`Group::initialize`] on its first data node, once. Everybody else, witnesses
//!    too: [`Group::join`] with the Raft address of any member; it returns when the node votes. Both
//!    only if [`Group::is_initialized`] says that this node is new.
//! 3. Watch [`Group::office`]. **Leader**: from now on this node may serve, and [`Group::propose`] under
//!    that [`OfficeId`]. Everything committed before was applied before. **Follower**: stop serving at
//!    once; nothing proposed from now on enters the log.
//! 4. Execute first, propose behind. Proposals of one office enter the log in the order of the calls,
//!    without gaps: when one cannot be taken in, none after it is, and the office ends. It may be
//!    followed by another office of this very node in the very same term; its [`OfficeId`] differs.
//! 5. A proposal is durable on a quorum when it comes to [`App::apply`]. Whether an entry is a proposal
//!    of the present office, [`OfficeId::proposed`] tells; the leader has executed those already, and
//!    only notes how far they are committed. Every other entry is to be executed, on
//!    leader and follower alike.
//! 6. A read is answered only if, after it was executed, `lease_valid(Instant::now())` with a fresh clock.
//!    Without a valid lease answer nothing yet: it may be renewed in a moment.
//!
//! ## After losing office
//!
//! What was executed but not committed must not be served from, ever. The order is: the lease ends,
//! then the office is [`Office::Follower`]. The proposals still on their way either come to
//! [`App::apply`] (they were committed, perhaps by the next leader) or never do. If all of them did,
//! the state is good. If an entry arrives that is not the next one of this node's own proposals,
//! while some of these are outstanding, the state has diverged: throw it away and build it again,
//! within `apply` if you like (the log goes on meanwhile):
//!
//! - begin empty, or from [`Group::latest_snapshot`] (the value keeps the file from removal);
//! - then [`Group::read_committed`] from the entry behind it, in pieces, up to the entry that showed it, also where
//!   these are entries of the call at hand; [`ReadError::Purged`] says to begin again with the newest snapshot;
//! - then the rest of the call at hand.
//!
//! A new office of this node opens only after an entry of its own was applied, so by then it is known
//! which of the earlier proposals were committed: all those that were have come.
//!
//! ## Snapshots
//!
//! Taken when the log has more than `log_bytes_max` bytes, on every data node by itself, or after
//! [`Group::request_snapshot`]. See [`App::begin_snapshot`].
//!
//! # What is inside
//!
//! - `log`: the log on disk; its module docs have the layout and the crash arguments.
//! - `raft`: openraft's types; the [fence](OfficeId) that keeps proposals without gaps. `rt`: its runtime.
//! - `sm`, `snapshots`: the state machine towards openraft, snapshot files.
//! - `net`, `server`: both sides of the RPC. Entries go over one stream a member, pipelined;
//!   heartbeats and snapshots have connections of their own.
//! - `rebuild`: what is done to a stopped node's files when a majority is gone for good.
//! - `drive`: offices, leases, snapshots, the witness. `members`: joining, leaving, handing over.
//!
//! # Why a lease is safe
//!
//! A follower that has heard the leader at time *t* grants nobody its vote, and does not stand for election,
//! before *t* + `election_max`. The leader counts from when it *sent* what a quorum acknowledged, which
//! was earlier, and stops `lease_margin` before. Two holes that this would leave are closed here:
//! a restarted node has forgotten what it promised, so it neither votes nor stands for `election_max`
//! after its start; and a leader that hands over, which lets the others off their promise, ends its
//! lease before it tells them.
//!
//! # The witness
//!
//! [`Role::Witness`] keeps the log and no state. It never stands for election by itself. When it has to
//! refuse a vote because the asker lacks entries that it has, it stands, again and again while such a
//! peer is seen; it leads until a data node has the whole log, and hands over. Nobody can propose
//! to it. It cuts its log only up to what every data voter has (the leader tells with each append), or up
//! to a snapshot that a leader gave it to keep because a data node stays away.

pub mod disk;
pub mod planted;

mod acks;
mod app;
mod carrier;
mod drive;
mod error;
mod group;
mod ids;
mod log;
mod members;
mod net;
mod propose;
mod raft;
mod rebuild;
mod rt;
mod sealed;
mod server;
mod sm;
mod snapshots;
mod types;
pub mod watch;

pub use app::{App, NoApp, SnapshotTask};
pub use carrier::{Carried, Carrier, Carrying, Duplex};
pub use error::{ChangeError, ProposeError, ReadError, StartError};
pub use group::Group;
pub use ids::{BadId, NodeId, ShardId};
pub use rebuild::{Survivor, inspect, rebuild};
pub use server::RaftServer;
pub use types::{
    Committed, EntryId, GroupConfig, GroupStatus, Member, MemberStatus, Office, OfficeId, Role,
    SnapshotInfo,
};
