//! Both sides of moving hash slots from one shard to another, as state machines.
//!
//! # What this crate is
//!
//! Sans-I/O: no socket, key, clock, thread or random source. Events and the time go in through
//! `on_…` methods, what to do comes out of `poll_action`, the next moment at which something is due
//! out of `poll_timeout`. After every event, poll actions until there are none.
//!
//! - [`ShardSlots`] is what a shard's log has decided about slots, with [`SlotRecord`] as one entry.
//!   It is replicated state: every member applies every committed record, in log order.
//! - [`SourceJob`] and [`TargetJob`] drive one migration on the primary of either shard. They are
//!   not replicated. When the primary changes they are thrown away, and the new primary brings to
//!   an end what [`ShardSlots::unfinished`] lists (`SourceJob::recover`, `TargetJob::recover`).
//! - [`ClaimJob`] and [`GrantJob`] are target and source of the older way (`SETSLOT … NODE`).
//! - [`Migrations`] holds all of a node's jobs, takes office and loses it, answers other shards.
//!   It is what a driver talks to.
//!
//! # The decision
//!
//! ```text
//! source's log                               target's log
//!   Export(job, slots → target)
//!             ── ESTABLISH ───────────────►    Stage(job, slots)        keys hidden
//!             ── snapshot, then effects ──►    … the data …
//!             ── PAUSED position ─────────►    Staged(job, position)
//!             ◄───────── REQUEST-FAILOVER ──
//!   HandOff(job)   committed: THE DECISION
//!             ── FAILOVER-GRANTED ────────►    Adopt(job)               owner; keys shown
//!             ◄──────────────── ADOPTED ────
//!   Forget(job)
//! ```
//!
//! Until `HandOff` is committed, any failure on either side ends in `Abort` at the source. From
//! then on nothing stops the job: the source tells and the target asks until `Adopt` is committed.
//!
//! # What the driver must keep to
//!
//! 1. *Records take effect when applied from the committed log*, on the primary too; nothing about
//!    slots is executed ahead of its commit. After applying, give the record and the result of
//!    [`ShardSlots::apply`] to the job that it names.
//! 2. *A proposal is in the order of execution.* The executor is the only proposer. `Pause` takes
//!    effect in it at once: no later entry of the log holds an effect on the paused slots until
//!    `Resume` or the hand-off. Neither clients nor expiry write to them.
//! 3. *The snapshot and the tap of effects begin at the same instant*, and both go into one ordered
//!    stream: a key's pre-image, if its snapshot is still due, then the effect that changes it.
//! 4. *With an `Abort` of a staging the data ends.* In the turn in which it is proposed the target's
//!    executor stops executing the link's data; likewise behind `PAUSED`. So the data of a job stands
//!    in the log between `Stage` and `Staged` or `Abort`, and dropping the slots when `Abort` is
//!    applied leaves the same nothing on every member.
//! 5. *One job, one link.* The link is a stream: in order, without gaps, cut at worst. A lost link
//!    is never opened again for the same job.
//! 6. *Answers are committed first.* A question about a job ([`ShardSlots::outcome`]) is answered by
//!    the primary from applied state only, holding a valid lease, once it has applied everything
//!    before its own term; when the job is undecided it proposes `Abort`, waits until that is
//!    applied, and looks again.
//! 7. *After an applied hand-off the source answers `-MOVED` before the target hears of it*, since
//!    `FAILOVER-GRANTED` is an action that follows the application.

mod claim;
mod codec;
mod grant;
mod ids;
mod limits;
mod manager;
mod message;
mod record;
mod slots;
mod source;
mod state;
mod target;
mod view;

pub use claim::{ClaimAction, ClaimJob};
pub use codec::DecodeError;
pub use grant::{GrantAction, GrantJob};
pub use ids::{ID_LEN, ID_TEXT_LEN, JobId, NodeId, ShardId};
pub use limits::{Limits, Now};
pub use manager::{
    Action, Answer, ClaimId, Migrations, Request, RequestId, StartError, followed_views,
};
pub use message::{LinkMessage, encode_command};
pub use record::SlotRecord;
pub use slots::{RangeError, SLOTS, SlotRanges, SlotSet};
pub use source::{SourceAction, SourceJob, SourceState};
pub use state::{
    Applied, Claim, Export, HandedOff, JobOutcome, ShardSlots, SlotError, Staging, Unfinished,
};
pub use target::{TargetAction, TargetJob, TargetState};
pub use view::{Ending, JobView, Operation, Progress};
