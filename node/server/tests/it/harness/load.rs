//! Writers that remember what was acknowledged to them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant};

use super::cluster::Cluster;
use super::router::{Outcome, Router};

/// Writers at work. Each sets keys of its own, every key once, with a value that says which it is.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
    writers: Vec<JoinHandle<Writer>>,
}

/// What one writer has seen.
#[derive(Debug, Default)]
struct Writer {
    prefix: String,
    number: usize,
    acknowledged: Vec<u64>,
    acks_at: Vec<Instant>,
    longest_write: Duration,
    longest_since: Option<Instant>,
    unknown: u64,
    refused: u64,
    last_refusal: String,
}

/// What the writers have seen.
#[derive(Debug)]
pub struct Report {
    writers: Vec<Writer>,
}

impl Load {
    /// Starts `writers` threads that write as fast as they are answered. `prefix` begins all keys (a hash tag
    /// keeps them in one slot).
    pub fn start(cluster: &Cluster, prefix: &str, writers: usize) -> Load {
        Load::start_each(
            cluster.data_ports(),
            vec![prefix.to_owned(); writers],
            Duration::ZERO,
        )
    }

    /// One writer for each prefix, which pauses for `pause` between two writes.
    pub fn start_each(ports: Vec<u16>, prefixes: Vec<String>, pause: Duration) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let acknowledged = Arc::new(AtomicU64::new(0));
        let writers = prefixes
            .into_iter()
            .enumerate()
            .map(|(number, prefix)| {
                let (stop, acknowledged, ports) =
                    (stop.clone(), acknowledged.clone(), ports.clone());
                std::thread::spawn(move || {
                    write(ports, prefix, number, pause, &stop, &acknowledged)
                })
            })
            .collect();
        Load {
            stop,
            acknowledged,
            writers,
        }
    }

    /// Writes acknowledged so far, by all writers.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// Waits for `more` further acknowledged writes, and returns how long that took.
    ///
    /// # Panics
    /// If it takes longer than `at_most`.
    pub fn wait_for(&self, more: u64, at_most: Duration) -> Duration {
        let begin = Instant::now();
        let goal = self.acknowledged() + more;
        while self.acknowledged() < goal {
            assert!(
                begin.elapsed() < at_most,
                "no {more} acknowledged writes within {at_most:?}"
            );
            sleep(Duration::from_millis(1));
        }
        begin.elapsed()
    }

    /// Stops the writers.
    pub fn finish(self) -> Report {
        self.stop.store(true, Ordering::Relaxed);
        let writers = self
            .writers
            .into_iter()
            .map(|w| w.join().expect("a writer is well"))
            .collect();
        Report { writers }
    }
}

impl Report {
    /// Reads every acknowledged write back; returns how many there were.
    ///
    /// # Panics
    /// If one is missing.
    pub fn assert_nothing_lost(&self, router: &mut Router) -> u64 {
        let mut count = 0;
        for writer in &self.writers {
            for n in &writer.acknowledged {
                let key = key(&writer.prefix, writer.number, *n);
                let reply = router.run(&format!("GET {key}"));
                let expected = value(writer.number, *n);
                assert_eq!(
                    reply.as_bytes(),
                    Some(expected.as_bytes()),
                    "the acknowledged write of {key} is lost (writer {} had {} acknowledged)",
                    writer.number,
                    writer.acknowledged.len()
                );
                count += 1;
            }
        }
        assert!(
            count > 0,
            "nothing was acknowledged; the last refusal: {}",
            self.last_refusal()
        );
        count
    }

    /// The longest time without any acknowledgement, of all writers together.
    pub fn longest_gap(&self) -> Duration {
        let mut times: Vec<Instant> = self
            .writers
            .iter()
            .flat_map(|w| w.acks_at.iter().copied())
            .collect();
        times.sort();
        times
            .windows(2)
            .map(|pair| pair[1] - pair[0])
            .max()
            .unwrap_or_default()
    }

    /// Last acknowledgement before `at`, and the first one after it that was not already on its way then.
    pub fn gap_around(&self, at: Instant) -> Option<Duration> {
        let times = || self.writers.iter().flat_map(|w| w.acks_at.iter().copied());
        // The longest pause that overlaps the two seconds behind `at`.
        let mut near: Vec<Instant> = times()
            .filter(|t| *t + Duration::from_secs(1) > at && *t < at + Duration::from_secs(60))
            .collect();
        near.sort();
        near.windows(2)
            .filter(|pair| pair[1] > at && pair[0] < at + Duration::from_secs(2))
            .map(|pair| pair[1] - pair[0])
            .max()
    }

    /// The longest that any one write waited for its answer, whatever it was.
    pub fn longest_write(&self) -> Duration {
        self.writers
            .iter()
            .map(|w| w.longest_write)
            .max()
            .unwrap_or_default()
    }

    /// When that write began.
    pub fn longest_write_since(&self) -> Option<Instant> {
        self.writers
            .iter()
            .max_by_key(|w| w.longest_write)?
            .longest_since
    }

    pub fn acknowledged(&self) -> usize {
        self.writers.iter().map(|w| w.acknowledged.len()).sum()
    }

    pub fn refused(&self) -> u64 {
        self.writers.iter().map(|w| w.refused).sum()
    }

    pub fn unknown(&self) -> u64 {
        self.writers.iter().map(|w| w.unknown).sum()
    }

    pub fn last_refusal(&self) -> String {
        self.writers
            .iter()
            .map(|w| w.last_refusal.clone())
            .find(|t| !t.is_empty())
            .unwrap_or_default()
    }
}

fn key(prefix: &str, writer: usize, n: u64) -> String {
    format!("{prefix}:{writer}:{n}")
}

fn value(writer: usize, n: u64) -> String {
    format!("value-{writer}-{n}")
}

fn write(
    ports: Vec<u16>,
    prefix: String,
    number: usize,
    pause: Duration,
    stop: &AtomicBool,
    acknowledged: &AtomicU64,
) -> Writer {
    let mut router = Router::new(ports);
    let mut writer = Writer {
        prefix,
        number,
        ..Writer::default()
    };
    for n in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let (key, value) = (key(&writer.prefix, number, n), value(number, n));
        let begin = Instant::now();
        let outcome = router.once(&[b"SET", key.as_bytes(), value.as_bytes()]);
        let end = Instant::now();
        if end - begin > writer.longest_write {
            writer.longest_write = end - begin;
            writer.longest_since = Some(begin);
        }
        match outcome {
            Outcome::Done(reply) => {
                assert!(reply.is_ok(), "SET answered {reply:?}");
                writer.acknowledged.push(n);
                writer.acks_at.push(end);
                acknowledged.fetch_add(1, Ordering::Relaxed);
                if !pause.is_zero() {
                    sleep(pause);
                }
            }
            Outcome::Unknown(text) => {
                writer.unknown += 1;
                writer.last_refusal = text;
                sleep(Duration::from_millis(5));
            }
            Outcome::Refused(text) => {
                writer.refused += 1;
                writer.last_refusal = text;
                sleep(Duration::from_millis(5));
            }
        }
    }
    writer
}
