//! A value that many may look at and wait for to change.
//!
//! Like tokio's watch channel, but waiters wake in the order in which they began to wait, so that a
//! simulation's second run equals its first; and reading clones, so nobody can hold the writer up.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Poll, Waker};

struct State<T> {
    value: T,
    version: u64,
    closed: bool,
    next_waiter: u64,
    waiters: VecDeque<(u64, Waker)>,
}

struct Shared<T>(Mutex<State<T>>);

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.0
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// The side that changes the value. Dropping it closes the channel.
pub struct Sender<T>(Arc<Shared<T>>);

/// The side that looks at the value, from any thread.
pub struct Receiver<T> {
    shared: Arc<Shared<T>>,
    seen: u64,
}

/// The sender is gone; the value will not change again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the watched value will not change again")]
pub struct Closed;

/// A new value to watch. The receiver has seen the first value.
pub fn channel<T: Clone>(value: T) -> (Sender<T>, Receiver<T>) {
    let shared = Arc::new(Shared(Mutex::new(State {
        value,
        version: 0,
        closed: false,
        next_waiter: 0,
        waiters: VecDeque::new(),
    })));
    (Sender(shared.clone()), Receiver { shared, seen: 0 })
}

impl<T: Clone> Sender<T> {
    /// Changes the value if `change` says that it did, and wakes whoever waits.
    pub fn send_if(&self, change: impl FnOnce(&mut T) -> bool) -> bool {
        let waiters = {
            let mut state = self.0.lock();
            if !change(&mut state.value) {
                return false;
            }
            state.version += 1;
            std::mem::take(&mut state.waiters)
        };
        for (_, waker) in waiters {
            waker.wake();
        }
        true
    }

    /// Sets the value, and wakes whoever waits if it differs from the last one.
    pub fn set(&self, value: T) -> bool
    where
        T: PartialEq,
    {
        self.send_if(|current| {
            let differs = *current != value;
            *current = value;
            differs
        })
    }

    /// The value now.
    pub fn get(&self) -> T {
        self.0.lock().value.clone()
    }

    /// One more receiver, which has seen the value of now.
    pub fn subscribe(&self) -> Receiver<T> {
        let seen = self.0.lock().version;
        Receiver {
            shared: self.0.clone(),
            seen,
        }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let waiters = {
            let mut state = self.0.lock();
            state.closed = true;
            std::mem::take(&mut state.waiters)
        };
        for (_, waker) in waiters {
            waker.wake();
        }
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        Receiver {
            shared: self.shared.clone(),
            seen: self.seen,
        }
    }
}

impl<T: Clone> Receiver<T> {
    /// The value now.
    pub fn get(&self) -> T {
        self.shared.lock().value.clone()
    }

    /// Waits for a value that this receiver has not seen, and returns the newest.
    /// Cancelling it loses nothing.
    ///
    /// # Errors
    /// [`Closed`] once the sender is gone and its last value was seen.
    pub async fn changed(&mut self) -> Result<T, Closed> {
        let mut waiter = Waiter {
            shared: &self.shared,
            id: None,
        };
        let (value, version) = poll_fn(|cx| {
            let mut state = waiter.shared.lock();
            if state.version != self.seen {
                return Poll::Ready(Ok((state.value.clone(), state.version)));
            }
            if state.closed {
                return Poll::Ready(Err(Closed));
            }
            let queued = waiter
                .id
                .and_then(|id| state.waiters.iter_mut().find(|(other, _)| *other == id));
            match queued {
                Some((_, waker)) => waker.clone_from(cx.waker()),
                None => {
                    let id = state.next_waiter;
                    state.next_waiter += 1;
                    state.waiters.push_back((id, cx.waker().clone()));
                    waiter.id = Some(id);
                }
            }
            Poll::Pending
        })
        .await?;
        drop(waiter);
        self.seen = version;
        Ok(value)
    }

    /// Waits until the value satisfies `wanted`; the present one counts.
    ///
    /// # Errors
    /// [`Closed`] if the sender goes before that.
    pub async fn wait_for(&mut self, mut wanted: impl FnMut(&T) -> bool) -> Result<T, Closed> {
        let (mut value, version) = {
            let state = self.shared.lock();
            (state.value.clone(), state.version)
        };
        self.seen = version;
        while !wanted(&value) {
            value = self.changed().await?;
        }
        Ok(value)
    }
}

struct Waiter<'a, T> {
    shared: &'a Shared<T>,
    id: Option<u64>,
}

impl<T> Drop for Waiter<'_, T> {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.shared.lock().waiters.retain(|(other, _)| *other != id);
        }
    }
}
