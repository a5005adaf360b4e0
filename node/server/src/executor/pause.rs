//! `CLIENT PAUSE`: commands that wait until it is over.

use super::{ConnId, Executor};
use crate::commands::Entry;
use holdfast_engine::Flags;

/// A pause under way.
#[derive(Debug, Clone, Copy)]
pub struct Pause {
    /// Until then, by the monotonic clock in milliseconds.
    pub until_ms: u64,
    /// All commands wait, not only those that may write.
    pub all: bool,
}

impl Executor {
    /// The pause under way, if any.
    pub(crate) fn pause(&self) -> Option<Pause> {
        self.pause.filter(|p| p.until_ms > self.now.mono_ms())
    }

    /// Begins a pause, or makes the one under way longer or stricter.
    pub(crate) fn begin_pause(&mut self, until_ms: u64, all: bool) {
        let before = self.pause();
        self.pause = Some(Pause {
            until_ms: before.map_or(until_ms, |p| p.until_ms.max(until_ms)),
            all: all || before.is_some_and(|p| p.all),
        });
    }

    /// Ends the pause.
    pub(crate) fn end_pause(&mut self) {
        if self.pause.take().is_some() {
            self.retry_parked();
        }
    }

    /// Ends the pause when its time is over.
    pub(super) fn check_pause(&mut self) {
        if self.pause.is_some() && self.pause().is_none() {
            self.end_pause();
        }
    }

    /// Whether a command has to wait for the end of the pause.
    pub(super) fn is_paused(&self, id: ConnId, entry: &Entry) -> bool {
        let Some(pause) = self.pause() else {
            return false;
        };
        pause.all || self.has_flags(id, entry, Flags::WRITE.and(Flags::MAY_REPLICATE))
    }
}
