//! The way of a proposal into openraft.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use openraft::errors::ClientWriteError;
use openraft::raft::ClientWriteResult;
use tokio::sync::Notify;

use crate::raft::{Fence, LeaderId, Types};
use crate::types::OfficeId;

/// One office of this node: what it needs to propose.
pub struct Seat {
    pub id: OfficeId,
    pub leader: LeaderId,
    pub fence: Arc<Fence>,
    /// Number of the next proposal.
    pub next: u64,
    /// Bytes proposed and not yet applied.
    pub backlog: Arc<AtomicU64>,
}

/// A proposal on its way to openraft.
pub struct Pending {
    pub leader: LeaderId,
    pub fence: Arc<Fence>,
    pub number: u64,
    pub data: Bytes,
}

/// Hears whether openraft took a proposal in. That it was committed is seen in the order of the log, by
/// [`crate::App::apply`]; only a refusal matters here: it ends the office.
pub struct Responder {
    refused: Option<(Arc<Fence>, Arc<Notify>)>,
}

impl Responder {
    pub fn new(fence: Arc<Fence>, wake: Arc<Notify>) -> Responder {
        Responder {
            refused: Some((fence, wake)),
        }
    }
}

impl<T: Send + 'static> openraft::raft::responder::Responder<Types, T> for Responder {
    fn on_complete(self, result: T) {
        let Some((fence, wake)) = self.refused else {
            return;
        };
        let result: &dyn Any = &result;
        let refused = match result.downcast_ref::<ClientWriteResult<Types>>() {
            Some(Err(ClientWriteError::ForwardToLeader(_))) => true,
            // It was in the log; the office ended some other way.
            Some(Err(_)) | Some(Ok(_)) | None => false,
        };
        if refused {
            fence.break_off();
            wake.notify_one();
        }
    }
}

/// When this node's lease ends, for any thread: nanoseconds since a base; 0: no lease.
pub struct Lease {
    base: std::time::Instant,
    until: AtomicU64,
}

impl Lease {
    pub fn new() -> Lease {
        Lease {
            base: std::time::Instant::now(),
            until: AtomicU64::new(0),
        }
    }

    fn nanos(&self, at: std::time::Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.base).as_nanos()).unwrap_or(u64::MAX)
    }

    /// The lease ends at `until`, or sooner if it is revoked.
    pub fn grant(&self, until: std::time::Instant) {
        self.until.store(self.nanos(until), Ordering::SeqCst);
    }

    pub fn revoke(&self) {
        self.until.store(0, Ordering::SeqCst);
    }

    pub fn valid(&self, now: std::time::Instant) -> bool {
        self.nanos(now) < self.until.load(Ordering::SeqCst)
    }

    pub fn remaining(&self, now: std::time::Instant) -> std::time::Duration {
        let left = self
            .until
            .load(Ordering::SeqCst)
            .saturating_sub(self.nanos(now));
        std::time::Duration::from_nanos(left)
    }
}
