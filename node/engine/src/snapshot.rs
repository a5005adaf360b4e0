//! Point-in-time snapshots, taken in small steps between commands.

use std::any::Any;

use crate::value::ValueRef;

/// Receives the keys of a snapshot.
pub trait SnapshotSink: Send {
    /// A key with its value as of the snapshot's begin. Each key comes exactly once, in no particular order. In a
    /// standalone engine `slot` is 0.
    fn key(
        &mut self,
        db: u16,
        slot: u16,
        key: &[u8],
        expire_at_ms: Option<u64>,
        value: ValueRef<'_>,
    );

    /// Bytes that the sink holds and that have not been taken away yet, so that the caller can pause.
    fn pending_bytes(&self) -> usize;

    /// To get the concrete sink back from [`Engine::snapshot_finish`](crate::Engine).
    fn into_any(self: Box<Self>) -> Box<dyn Any>;

    /// To reach the concrete sink while the snapshot runs.
    fn as_any_mut(&mut self) -> &mut dyn Any;
}
