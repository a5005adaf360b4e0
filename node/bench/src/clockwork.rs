//! The clock of an open loop.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

use crate::random::Numbers;

/// When commands are due, in nanoseconds since the start.
pub(crate) struct Clockwork {
    pub next: f64,
    gap: f64,
    random: bool,
    /// Clients that may send another.
    pub free: VecDeque<u32>,
    timer: OwnedFd,
    armed: u64,
}

impl Clockwork {
    /// For one of `threads` threads that together send `rate` commands a second from `clients` clients of this thread.
    pub fn new(
        rate: f64,
        random: bool,
        thread: usize,
        threads: usize,
        clients: u32,
    ) -> rustix::io::Result<Clockwork> {
        Ok(Clockwork {
            // The threads' commands lie between each other's.
            next: 1e9 / rate * thread as f64,
            gap: 1e9 / rate * threads as f64,
            random,
            free: (0..clients).collect(),
            timer: timerfd_create(
                TimerfdClockId::Monotonic,
                TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC,
            )?,
            armed: u64::MAX,
        })
    }

    /// What becomes readable when the next command is due.
    pub fn timer(&self) -> BorrowedFd<'_> {
        self.timer.as_fd()
    }

    /// The next command's time is dealt with.
    pub fn advance(&mut self, numbers: &mut Numbers) {
        let gaps = if self.random {
            -(1.0 - numbers.fraction()).ln()
        } else {
            1.0
        };
        self.next += self.gap * gaps;
    }

    /// Has the timer ring when the next command is due, if one may then be sent. How long to wait for events:
    /// not at all if it is due already.
    pub fn arm(&mut self, time: u64, wait: u64) -> rustix::io::Result<u64> {
        if self.free.is_empty() {
            return Ok(wait);
        }
        let next = self.next as u64;
        if next <= time {
            return Ok(0);
        }
        if next - time < wait && self.armed != next {
            let delay = next - time;
            let value = Itimerspec {
                it_interval: Timespec {
                    tv_sec: 0,
                    tv_nsec: 0,
                },
                it_value: Timespec {
                    tv_sec: (delay / 1_000_000_000) as i64,
                    tv_nsec: (delay % 1_000_000_000) as i64,
                },
            };
            timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &value)?;
            self.armed = next;
        }
        Ok(wait)
    }

    pub fn rang(&mut self) {
        let _ = rustix::io::read(&self.timer, &mut [0_u8; 8]);
        self.armed = u64::MAX;
    }
}
