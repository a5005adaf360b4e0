//! A bounded queue from one thread to another, without locks, and the bell that wakes whoever waits for several of them.
//!
//! A [`Ring`] has one [`Producer`] and one [`Consumer`]; nothing in it is allocated after its making. A full one gives back what
//! is pushed: what happens then is the producer's to say.
//!
//! A [`Bell`] belongs to one consumer, who sleeps somewhere else than on a queue (in `epoll`). Ringing it costs one load while
//! the consumer is awake. Both sides look at the queue and at the bell, in opposite order, with a full fence in between, so
//! that either the consumer sees what was pushed or the producer sees that the consumer sleeps.
//!
//! Tested with loom: `cargo loom`.

mod bell;
mod ring;

pub use bell::Bell;
pub use ring::{Consumer, Producer, ring};

#[cfg(loom)]
pub(crate) mod sync {
    pub use loom::cell::UnsafeCell;
    pub use loom::sync::Arc;
    pub use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
}

#[cfg(not(loom))]
pub(crate) mod sync {
    pub use std::sync::Arc;
    pub use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};

    /// What loom's has, for nothing.
    #[derive(Debug)]
    pub struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

    impl<T> UnsafeCell<T> {
        pub fn new(value: T) -> Self {
            UnsafeCell(std::cell::UnsafeCell::new(value))
        }

        #[inline(always)]
        pub fn with<R>(&self, f: impl FnOnce(*const T) -> R) -> R {
            f(self.0.get())
        }

        #[inline(always)]
        pub fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
            f(self.0.get())
        }
    }
}
