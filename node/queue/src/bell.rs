//! What wakes a consumer.

use crate::sync::{AtomicBool, Ordering, fence};

/// Tells producers whether the consumer sleeps.
#[derive(Debug)]
pub struct Bell {
    asleep: AtomicBool,
}

impl Default for Bell {
    fn default() -> Self {
        Bell {
            asleep: AtomicBool::new(false),
        }
    }
}

impl Bell {
    /// For the consumer, before it looks at its queues for the last time and then sleeps, if there is nothing in them.
    pub fn lie_down(&self) {
        // A swap, so that it comes behind every swap of a producer that it does not see.
        self.asleep.swap(true, Ordering::AcqRel);
        fence(Ordering::SeqCst);
    }

    /// For the consumer that is awake again, or had no reason to sleep. Somebody may have woken it meanwhile, once.
    pub fn get_up(&self) {
        self.asleep.swap(false, Ordering::AcqRel);
    }

    /// For a producer that has put something in: whether it is the one to wake the consumer. If so it must do that.
    #[must_use]
    pub fn must_wake(&self) -> bool {
        fence(Ordering::SeqCst);
        self.asleep.load(Ordering::Relaxed) && self.asleep.swap(false, Ordering::AcqRel)
    }

    /// Whether the consumer sleeps, or is about to. By the time of the answer it may be otherwise.
    pub fn is_asleep(&self) -> bool {
        self.asleep.load(Ordering::Relaxed)
    }
}
