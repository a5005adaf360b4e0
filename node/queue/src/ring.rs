//! The queue.

use crate::sync::{Arc, AtomicUsize, Ordering, UnsafeCell};
use std::fmt;
use std::mem::MaybeUninit;

/// A place in memory that shares no cache line with another.
#[repr(align(128))]
struct Alone<T>(T);

struct Ring<T> {
    places: Box<[UnsafeCell<MaybeUninit<T>>]>,
    /// How many have been taken, ever. Written by the consumer.
    taken: Alone<AtomicUsize>,
    /// How many have been put in, ever. Written by the producer.
    put: Alone<AtomicUsize>,
}

// SAFETY: a place belongs to the producer until `put` passes it, and to the consumer from then until `taken` does; each writes its
// own counter with `Release` and reads the other's with `Acquire`. What crosses is `T`, which can be sent.
unsafe impl<T: Send> Send for Ring<T> {}
// SAFETY: as above; there is one producer and one consumer, since neither can be cloned and both are used by `&mut`.
unsafe impl<T: Send> Sync for Ring<T> {}

impl<T> Ring<T> {
    #[inline(always)]
    fn place(&self, n: usize) -> &UnsafeCell<MaybeUninit<T>> {
        &self.places[n & (self.places.len() - 1)]
    }
}

impl<T> Drop for Ring<T> {
    fn drop(&mut self) {
        let (mut n, end) = (
            self.taken.0.load(Ordering::Relaxed),
            self.put.0.load(Ordering::Relaxed),
        );
        while n != end {
            // SAFETY: both ends are gone, and what lies between the counters has been put in and not taken.
            self.place(n)
                .with_mut(|p| unsafe { (*p).assume_init_drop() });
            n = n.wrapping_add(1);
        }
    }
}

/// The end where things are put in.
pub struct Producer<T> {
    ring: Arc<Ring<T>>,
    put: usize,
    /// How many had been taken when that was last looked at.
    taken_seen: usize,
}

/// The end where things are taken out, in the same order.
pub struct Consumer<T> {
    ring: Arc<Ring<T>>,
    taken: usize,
    /// How many had been put in when that was last looked at.
    put_seen: usize,
}

/// A queue with room for so many, which is a power of two.
///
/// # Panics
/// `room` is not a power of two.
pub fn ring<T>(room: usize) -> (Producer<T>, Consumer<T>) {
    assert!(room.is_power_of_two(), "{room} is no power of two");
    let ring = Arc::new(Ring {
        places: (0..room)
            .map(|_| UnsafeCell::new(MaybeUninit::uninit()))
            .collect(),
        taken: Alone(AtomicUsize::new(0)),
        put: Alone(AtomicUsize::new(0)),
    });
    let producer = Producer {
        ring: ring.clone(),
        put: 0,
        taken_seen: 0,
    };
    let consumer = Consumer {
        ring,
        taken: 0,
        put_seen: 0,
    };
    (producer, consumer)
}

impl<T> Producer<T> {
    /// Puts something in.
    ///
    /// # Errors
    /// The queue is full; here it is back.
    #[inline]
    pub fn push(&mut self, value: T) -> Result<(), T> {
        if self.room() == 0 {
            return Err(value);
        }
        self.ring.place(self.put).with_mut(|p| {
            // SAFETY: `room` says that the consumer has done with this place.
            unsafe { (*p).write(value) };
        });
        self.put = self.put.wrapping_add(1);
        self.ring.put.0.store(self.put, Ordering::Release);
        Ok(())
    }

    /// For how many more there is room, at least; 0 only if it is full.
    #[inline]
    pub fn room(&mut self) -> usize {
        let places = self.ring.places.len();
        if self.put.wrapping_sub(self.taken_seen) == places {
            self.taken_seen = self.ring.taken.0.load(Ordering::Acquire);
        }
        places - self.put.wrapping_sub(self.taken_seen)
    }
}

impl<T> Consumer<T> {
    /// Takes out what has been in there for longest.
    #[inline]
    pub fn pop(&mut self) -> Option<T> {
        if self.is_empty() {
            return None;
        }
        // SAFETY: `is_empty` has seen, by `Acquire`, that the producer has put something here; it is taken out once, since the
        // counter moves on.
        let value = self
            .ring
            .place(self.taken)
            .with(|p| unsafe { (*p).assume_init_read() });
        self.taken = self.taken.wrapping_add(1);
        self.ring.taken.0.store(self.taken, Ordering::Release);
        Some(value)
    }

    /// Whether nothing is there.
    #[inline]
    pub fn is_empty(&mut self) -> bool {
        if self.taken == self.put_seen {
            self.put_seen = self.ring.put.0.load(Ordering::Acquire);
        }
        self.taken == self.put_seen
    }
}

impl<T> fmt::Debug for Producer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Producer({} put in)", self.put)
    }
}

impl<T> fmt::Debug for Consumer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Consumer({} taken)", self.taken)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn what_is_full_gives_back_and_order_holds() {
        let (mut p, mut c) = ring(4);
        for round in 0..10 {
            for i in 0..4 {
                assert_eq!(p.push(round * 4 + i), Ok(()));
            }
            assert_eq!((p.push(99), p.room()), (Err(99), 0));
            for i in 0..4 {
                assert_eq!(c.pop(), Some(round * 4 + i));
            }
            assert_eq!(c.pop(), None);
        }
    }

    #[test]
    fn what_is_left_is_dropped() {
        let one = std::sync::Arc::new(());
        let (mut p, mut c) = ring(8);
        for _ in 0..6 {
            assert!(p.push(one.clone()).is_ok());
        }
        drop(c.pop());
        assert_eq!(std::sync::Arc::strong_count(&one), 6);
        drop(c);
        assert!(p.push(one.clone()).is_ok());
        drop(p);
        assert_eq!(std::sync::Arc::strong_count(&one), 1);
    }

    #[test]
    fn two_threads() {
        const COUNT: u64 = 300_000;
        let (mut p, mut c) = ring(16);
        let sender = std::thread::spawn(move || {
            for i in 0..COUNT {
                let mut boxed = Box::new(i);
                while let Err(back) = p.push(boxed) {
                    boxed = back;
                    std::thread::yield_now();
                }
            }
        });
        for i in 0..COUNT {
            let got = loop {
                match c.pop() {
                    Some(got) => break got,
                    None => std::thread::yield_now(),
                }
            };
            assert_eq!(*got, i);
        }
        sender.join().expect("it ends");
    }
}
