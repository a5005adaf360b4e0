//! A thread that frees what is large, so that the executor need not.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};

use holdfast_engine::{Reaper, Value};

/// Values on their way to the thread; what is beyond, the executor frees in small steps.
const WAITING_MAX: usize = 1024;

/// Hands values to the thread.
pub struct ReaperThread {
    to: SyncSender<Value>,
    pending: Arc<AtomicUsize>,
}

impl std::fmt::Debug for ReaperThread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReaperThread").finish_non_exhaustive()
    }
}

impl ReaperThread {
    /// Starts the thread; it ends when this is dropped. `None` if the system has no thread for us: nothing is lost then.
    pub fn start() -> Option<ReaperThread> {
        let (to, values) = sync_channel::<Value>(WAITING_MAX);
        let pending = Arc::new(AtomicUsize::new(0));
        let left = pending.clone();
        let thread = std::thread::Builder::new().name("holdfast-free".into());
        thread
            .spawn(move || {
                for value in values {
                    drop(value);
                    left.fetch_sub(1, Ordering::Relaxed);
                }
            })
            .ok()?;
        Some(ReaperThread { to, pending })
    }
}

impl Reaper for ReaperThread {
    fn take(&mut self, value: Value) -> Result<(), Value> {
        self.pending.fetch_add(1, Ordering::Relaxed);
        self.to.try_send(value).map_err(|error| {
            self.pending.fetch_sub(1, Ordering::Relaxed);
            match error {
                TrySendError::Full(value) | TrySendError::Disconnected(value) => value,
            }
        })
    }

    fn pending(&self) -> usize {
        self.pending.load(Ordering::Relaxed)
    }
}
