//! The state that a group replicates, as the group sees it.

use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;

use crate::types::{Committed, EntryId, SnapshotInfo};

/// Writes a snapshot beside everything else that goes on; resolves to the last entry that it covers.
pub type SnapshotTask = Pin<Box<dyn Future<Output = io::Result<EntryId>> + Send>>;

/// The replicated state. Its methods are called one at a time, in order, each after the last one's
/// future has resolved. An error that they return stops the group, as a failed disk does.
pub trait App: Send + 'static {
    /// Committed entries, consecutive and in order; the first follows the last one of the previous
    /// call or the last snapshot installed. Resolves when they are part of the state.
    fn apply(&mut self, entries: Vec<Committed>) -> impl Future<Output = io::Result<()>> + Send;

    /// Begins a snapshot; the task returned writes it to `path` (a new file) through the [`Disk`] and
    /// syncs it, while further entries are applied.
    ///
    /// The snapshot is of one instant. If the state is ahead of what is committed then, the task
    /// waits until that is committed. The entry that it resolves to is the last one contained, and
    /// must have been given to [`App::apply`] by then.
    ///
    /// [`Disk`]: crate::disk::Disk
    fn begin_snapshot(
        &mut self,
        path: PathBuf,
    ) -> impl Future<Output = io::Result<SnapshotTask>> + Send;

    /// Replaces the whole state by the snapshot's. Called at start with the newest snapshot of this
    /// node, and when a leader sends one because its log was cut.
    fn install_snapshot(
        &mut self,
        snapshot: SnapshotInfo,
    ) -> impl Future<Output = io::Result<()>> + Send;
}

/// No state: for a witness.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoApp;

impl App for NoApp {
    async fn apply(&mut self, _entries: Vec<Committed>) -> io::Result<()> {
        Ok(())
    }

    async fn begin_snapshot(&mut self, path: PathBuf) -> io::Result<SnapshotTask> {
        Err(io::Error::other(format!(
            "{}: a witness has no state to snapshot",
            path.display()
        )))
    }

    async fn install_snapshot(&mut self, _snapshot: SnapshotInfo) -> io::Result<()> {
        Ok(())
    }
}

type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = io::Result<T>> + Send + 'a>>;

/// [`App`] without its type.
pub(crate) trait DynApp: Send + 'static {
    fn apply(&mut self, entries: Vec<Committed>) -> BoxFuture<'_, ()>;
    fn begin_snapshot<'a>(&'a mut self, path: &'a Path) -> BoxFuture<'a, SnapshotTask>;
    fn install_snapshot(&mut self, snapshot: SnapshotInfo) -> BoxFuture<'_, ()>;
}

impl<A: App> DynApp for A {
    fn apply(&mut self, entries: Vec<Committed>) -> BoxFuture<'_, ()> {
        Box::pin(App::apply(self, entries))
    }

    fn begin_snapshot<'a>(&'a mut self, path: &'a Path) -> BoxFuture<'a, SnapshotTask> {
        Box::pin(App::begin_snapshot(self, path.to_path_buf()))
    }

    fn install_snapshot(&mut self, snapshot: SnapshotInfo) -> BoxFuture<'_, ()> {
        Box::pin(App::install_snapshot(self, snapshot))
    }
}
