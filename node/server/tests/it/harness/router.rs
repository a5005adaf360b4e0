//! A small cluster client: follows redirections, and says truthfully what is known about each write.

use std::collections::BTreeMap;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::client::{Client, Reply};

/// What is known about a command.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// It was answered, and not with an error.
    Done(Reply),
    /// It may or may not have taken effect: the connection broke, or `-UNCERTAIN`.
    Unknown(String),
    /// It was refused, so it has no effect.
    Refused(String),
}

/// A client of the whole cluster. Not for many threads: each has its own.
#[derive(Debug)]
pub struct Router {
    seeds: Vec<u16>,
    slots: BTreeMap<u16, u16>,
    clients: BTreeMap<u16, Client>,
    next_seed: usize,
    /// Bounds the wait for one answer.
    pub patience: Duration,
}

const REDIRECTIONS_MAX: usize = 8;

impl Router {
    pub fn new(seeds: Vec<u16>) -> Router {
        assert!(!seeds.is_empty());
        Router {
            seeds,
            slots: BTreeMap::new(),
            clients: BTreeMap::new(),
            next_seed: 0,
            patience: Duration::from_secs(10),
        }
    }

    /// Sends a command whose key is its second word, once; redirections are followed, failures are not retried.
    pub fn once(&mut self, args: &[&[u8]]) -> Outcome {
        let slot = slot_of(args.get(1).copied().unwrap_or_default());
        let mut asking = None;
        for _ in 0..REDIRECTIONS_MAX {
            let port = match asking.or_else(|| self.slots.get(&slot).copied()) {
                Some(port) => port,
                None => {
                    self.next_seed += 1;
                    self.seeds[self.next_seed % self.seeds.len()]
                }
            };
            if !self.clients.contains_key(&port) {
                match Client::connect_within(port, Duration::from_secs(2)) {
                    Ok(client) => {
                        client
                            .stream
                            .set_read_timeout(Some(self.patience))
                            .expect("a timeout that is not zero");
                        self.clients.insert(port, client);
                    }
                    Err(error) => {
                        self.forget(port);
                        return Outcome::Refused(format!("connecting to port {port}: {error}"));
                    }
                }
            }
            let client = self.clients.get_mut(&port).expect("just connected");
            if asking.take().is_some()
                && let Err(error) = client.try_run("ASKING")
            {
                self.forget(port);
                return Outcome::Refused(format!("ASKING on port {port}: {error}"));
            }
            match client.try_call(args) {
                Ok(Reply::Error(text)) => {
                    let text = String::from_utf8_lossy(&text).into_owned();
                    let mut words = text.split(' ');
                    match (words.next(), words.nth(1).and_then(port_of)) {
                        (Some("MOVED"), Some(to)) => {
                            self.slots.insert(slot, to);
                        }
                        (Some("ASK"), Some(to)) => asking = Some(to),
                        (Some("UNCERTAIN"), _) => {
                            self.slots.remove(&slot);
                            return Outcome::Unknown(text);
                        }
                        _ => {
                            self.slots.remove(&slot);
                            return Outcome::Refused(text);
                        }
                    }
                }
                Ok(reply) => {
                    self.slots.insert(slot, port);
                    return Outcome::Done(reply);
                }
                Err(error) => {
                    self.forget(port);
                    return Outcome::Unknown(format!("port {port}: {error}"));
                }
            }
        }
        self.slots.remove(&slot);
        Outcome::Refused("redirected too often".into())
    }

    /// Sends an idempotent command until it is answered, at most 30 s.
    pub fn run(&mut self, line: &str) -> Reply {
        let args: Vec<&[u8]> = line.split_ascii_whitespace().map(str::as_bytes).collect();
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            match self.once(&args) {
                Outcome::Done(reply) => return reply,
                other if Instant::now() > deadline => panic!("{line}: {other:?}"),
                _ => sleep(Duration::from_millis(20)),
            }
        }
    }

    fn forget(&mut self, port: u16) {
        self.clients.remove(&port);
        self.slots.retain(|_, p| *p != port);
    }
}

fn port_of(address: &str) -> Option<u16> {
    address.rsplit_once(':')?.1.parse().ok()
}

/// The slot of a key: CRC16 (XMODEM) of its hash tag, or of all of it.
pub fn slot_of(key: &[u8]) -> u16 {
    let tag = key.iter().position(|b| *b == b'{').and_then(|open| {
        let rest = &key[open + 1..];
        let len = rest.iter().position(|b| *b == b'}')?;
        (len > 0).then(|| &rest[..len])
    });
    let mut crc = 0u16;
    for byte in tag.unwrap_or(key) {
        crc ^= u16::from(*byte) << 8;
        for _ in 0..8 {
            crc = if crc & 0x8000 == 0 {
                crc << 1
            } else {
                (crc << 1) ^ 0x1021
            };
        }
    }
    crc % 16384
}
