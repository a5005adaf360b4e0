//! The drivers: what moves bytes between sockets and the executor, and knows the time.

#[cfg(not(madsim))]
pub mod mio;
pub mod tokio;

use crate::executor::Now;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Reads the clocks.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    start: Instant,
}

impl Default for Clock {
    fn default() -> Self {
        Clock {
            start: Instant::now(),
        }
    }
}

impl Clock {
    /// The time now. The monotonic part begins at the clock's making.
    pub fn now(&self) -> Now {
        Now {
            // Before 1970 it is always 1970.
            unix_us: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |d| d.as_micros() as u64),
            mono_us: self.start.elapsed().as_micros() as u64,
        }
    }
}
