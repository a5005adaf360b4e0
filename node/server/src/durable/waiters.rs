//! Proposed slot records whose outcome somebody waits for.

use super::apply::AppliedRecord;
use super::replica::RecordId;
use holdfast_slot_migration::{Applied, SlotError};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;

/// Outcomes kept for waiters that have yet to come: a record can be applied before its proposer's task runs again.
const EARLY_MAX: usize = 1024;

/// What became of a record.
pub type Outcome = Result<Applied, SlotError>;

/// The record may or may not take effect: no outcome came in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unknown;

#[derive(Default)]
struct Inner {
    waiting: BTreeMap<RecordId, oneshot::Sender<Outcome>>,
    early: BTreeMap<RecordId, Outcome>,
}

/// A handle; clones are the same. Used by the tasks of the control thread alone.
#[derive(Clone, Default)]
pub struct Waiters(Arc<Mutex<Inner>>);

impl Waiters {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A record was applied.
    pub fn on_applied(&self, applied: &AppliedRecord) {
        let Some(id) = applied.mine else { return };
        let mut inner = self.lock();
        match inner.waiting.remove(&id) {
            // Whoever waited may have given up.
            Some(tx) => drop(tx.send(applied.outcome.clone())),
            None => {
                inner.early.insert(id, applied.outcome.clone());
                if inner.early.len() > EARLY_MAX {
                    inner.early.pop_first();
                }
            }
        }
    }

    /// Waits for the outcome of a record.
    ///
    /// # Errors
    /// [`Unknown`] when none came within `limit`.
    pub async fn outcome(&self, id: RecordId, limit: Duration) -> Result<Outcome, Unknown> {
        let rx = {
            let mut inner = self.lock();
            if let Some(outcome) = inner.early.remove(&id) {
                return Ok(outcome);
            }
            let (tx, rx) = oneshot::channel();
            inner.waiting.insert(id, tx);
            rx
        };
        let result = tokio::time::timeout(limit, rx).await;
        self.lock().waiting.remove(&id);
        match result {
            Ok(Ok(outcome)) => Ok(outcome),
            Ok(Err(_)) | Err(_) => Err(Unknown),
        }
    }
}
