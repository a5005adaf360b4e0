//! The drivers: what moves bytes between sockets and the executor, and knows the time.

#[cfg(not(madsim))]
mod io_thread;
#[cfg(not(madsim))]
pub mod listeners;
#[cfg(not(madsim))]
pub mod mio;
#[cfg(not(madsim))]
mod remote;
#[cfg(not(madsim))]
mod stream;
pub mod tokio;
#[cfg(not(madsim))]
mod wire;

use crate::executor::Now;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Reads the clocks.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    start: Instant,
    /// How far the wall clock is off, in ms: the simulator's nodes do not agree about the time.
    #[cfg(madsim)]
    skew_ms: Option<&'static std::sync::atomic::AtomicI64>,
}

impl Default for Clock {
    fn default() -> Self {
        Clock {
            start: Instant::now(),
            #[cfg(madsim)]
            skew_ms: None,
        }
    }
}

impl Clock {
    /// A clock whose wall time is off by so many milliseconds at any moment.
    #[cfg(madsim)]
    pub fn skewed(skew_ms: &'static std::sync::atomic::AtomicI64) -> Clock {
        Clock {
            skew_ms: Some(skew_ms),
            ..Clock::default()
        }
    }

    /// Microseconds since 1970. Before 1970 it is always 1970.
    fn unix_us(&self) -> u64 {
        let us = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |d| d.as_micros() as u64);
        #[cfg(madsim)]
        if let Some(skew_ms) = self.skew_ms {
            let ms = skew_ms.load(std::sync::atomic::Ordering::Relaxed);
            return us.saturating_add_signed(ms * 1000);
        }
        us
    }

    /// The time now. The monotonic part begins at the clock's making.
    pub fn now(&self) -> Now {
        Now {
            unix_us: self.unix_us(),
            mono_us: self.start.elapsed().as_micros() as u64,
        }
    }
}
