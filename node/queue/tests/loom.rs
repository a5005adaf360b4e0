//! Every order in which two threads can meet, within loom's bounds.
#![cfg(loom)]

use holdfast_queue::{Bell, ring};
use loom::sync::atomic::{AtomicBool, Ordering};
use loom::sync::{Arc, Condvar, Mutex};

/// What `epoll` and an eventfd do: a wake-up that comes before the sleep ends it at once.
#[derive(Default)]
struct Eventfd {
    rung: Mutex<bool>,
    changed: Condvar,
}

impl Eventfd {
    fn wake(&self) {
        *self.rung.lock().unwrap() = true;
        self.changed.notify_one();
    }

    fn sleep(&self) {
        let mut rung = self.rung.lock().unwrap();
        while !*rung {
            rung = self.changed.wait(rung).unwrap();
        }
        *rung = false;
    }
}

#[test]
fn all_arrive_in_order() {
    loom::model(|| {
        let (mut p, mut c) = ring(2);
        let sender = loom::thread::spawn(move || {
            for i in 0..3 {
                let mut boxed = Box::new(i);
                while let Err(back) = p.push(boxed) {
                    boxed = back;
                    loom::thread::yield_now();
                }
            }
        });
        for i in 0..3 {
            let got = loop {
                match c.pop() {
                    Some(got) => break got,
                    None => loom::thread::yield_now(),
                }
            };
            assert_eq!(*got, i);
        }
        sender.join().unwrap();
    });
}

/// A consumer that sleeps whenever it finds nothing gets everything: no wake-up is lost (loom would report a deadlock).
#[test]
fn nobody_sleeps_through_what_was_pushed() {
    loom::model(|| {
        let (mut p, mut c) = ring(2);
        let bell = Arc::new((Bell::default(), Eventfd::default()));
        let ringing = bell.clone();
        let sender = loom::thread::spawn(move || {
            for i in 0..2 {
                p.push(i).unwrap();
                if ringing.0.must_wake() {
                    ringing.1.wake();
                }
            }
        });
        let mut got = Vec::new();
        while got.len() < 2 {
            while let Some(n) = c.pop() {
                got.push(n);
            }
            if got.len() < 2 {
                bell.0.lie_down();
                if c.is_empty() {
                    bell.1.sleep();
                }
                bell.0.get_up();
            }
        }
        assert_eq!(got, [0, 1]);
        sender.join().unwrap();
    });
}

/// Two producers, each with its own queue, and one consumer with one bell. Three threads have too many orders for all to be tried:
/// those in which a thread is interrupted thrice at most.
#[test]
fn two_queues_one_bell() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(|| {
        let bell = Arc::new((Bell::default(), Eventfd::default()));
        let mut consumers = Vec::new();
        let mut senders = Vec::new();
        for i in 0..2 {
            let (mut p, c) = ring(1);
            consumers.push(c);
            let ringing = bell.clone();
            senders.push(loom::thread::spawn(move || {
                p.push(i).unwrap();
                if ringing.0.must_wake() {
                    ringing.1.wake();
                }
            }));
        }
        let mut got = 0;
        loop {
            got += consumers.iter_mut().filter_map(|c| c.pop()).count();
            if got == 2 {
                break;
            }
            bell.0.lie_down();
            if consumers.iter_mut().all(|c| c.is_empty()) {
                bell.1.sleep();
            }
            bell.0.get_up();
        }
        senders.into_iter().for_each(|s| s.join().unwrap());
    });
}

/// How a full output tells that it has room again: one side writes what it has done and then looks whether that is waited for,
/// the other says that it waits and then looks what has been done.
#[test]
fn one_of_both_sees_the_other() {
    loom::model(|| {
        let done = Arc::new(AtomicBool::new(false));
        let bell = Arc::new(Bell::default());
        let (d, b) = (done.clone(), bell.clone());
        let writer = loom::thread::spawn(move || {
            d.store(true, Ordering::Release);
            b.must_wake()
        });
        bell.lie_down();
        let seen = done.load(Ordering::Acquire);
        let told = writer.join().unwrap();
        assert!(seen || told);
    });
}
