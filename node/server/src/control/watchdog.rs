//! Whether the executor still answers. A primary whose executor stands still serves nobody, although its Raft group, on
//! another thread, keeps the office: another node must have it.

use crate::seam::ExecutorHandle;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;

/// How long the executor may be silent, in milliseconds: `cluster-node-timeout`, after which Valkey's bus, too, gives up
/// a primary that does nothing but execute one command.
#[derive(Clone, Debug)]
pub struct Limit(Arc<AtomicU64>);

impl Limit {
    /// A limit that can be changed.
    pub fn new(ms: u64) -> Limit {
        Limit(Arc::new(AtomicU64::new(ms)))
    }

    /// Changes it.
    pub fn set(&self, ms: u64) {
        self.0.store(ms, Ordering::Relaxed);
    }

    /// What it is now.
    pub fn get(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::Relaxed).max(1))
    }
}

/// Asks the executor for a sign of life every now and then. Says so when there was none for as long as the limit, and
/// again each time that much longer. Ends with the executor.
pub async fn watch(executor: ExecutorHandle, limit: Limit, silent: mpsc::Sender<Duration>) {
    loop {
        let mut since = Duration::ZERO;
        let mut answer = std::pin::pin!(executor.run(|_| ()));
        loop {
            let step = limit.get();
            match tokio::time::timeout(step, answer.as_mut()).await {
                Ok(Ok(())) => break,
                Ok(Err(_)) => return,
                Err(_) => {
                    since += step;
                    if silent.send(since).await.is_err() {
                        return;
                    }
                }
            }
        }
        tokio::time::sleep(limit.get() / 4).await;
    }
}
