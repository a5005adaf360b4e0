//! An executor, its clients, and a journal that commits when it likes.

use super::input;
use holdfast_engine::Rng;
use holdfast_rdb::DumpCodec;
use holdfast_resp::reply;
use holdfast_server::config::Config;
use holdfast_server::executor::{AcceptInfo, Close, ConnId, Ending, Executor, Host, Now, Read};
use holdfast_server::journal::{Journal, JournalPos};
use holdfast_server::seam::{ControlOut, Office};
use std::any::Any;
use std::collections::VecDeque;
use std::time::Duration;

const CLIENTS: usize = 6;
/// `client-query-buffer-limit`, and what one read may add to it.
const QUERY_BYTES_MAX: usize = 1024 * 1024;
const READ_BYTES: usize = 64 * 1024;

struct NoHost(u64);

impl Host for NoHost {
    fn sleep(&self, _: Duration) {}

    fn memory(&self) -> (u64, u64) {
        (0, 0)
    }

    fn cpu_seconds(&self) -> (f64, f64) {
        (0.0, 0.0)
    }

    fn seed(&self) -> u64 {
        self.0
    }
}

#[derive(Default)]
struct SomeJournal {
    position: JournalPos,
    durable: JournalPos,
}

impl Journal for SomeJournal {
    fn append(&mut self, effects: &[u8]) -> JournalPos {
        self.position.0 += effects.len() as u64;
        self.position
    }

    fn position(&self) -> JournalPos {
        self.position
    }

    fn durable(&self) -> JournalPos {
        self.durable
    }

    fn in_flight(&self) -> usize {
        usize::from(self.durable < self.position)
    }

    fn on_durable(&mut self, upto: JournalPos) {
        self.durable = self.durable.max(upto);
    }

    fn wants_effects(&self) -> bool {
        true
    }

    fn gates_replies(&self) -> bool {
        true
    }

    fn lease_valid(&self) -> bool {
        true
    }

    fn entry_bytes_max(&self) -> usize {
        1 << 20
    }

    fn as_any(&mut self) -> &mut dyn Any {
        self
    }
}

struct Client {
    conn: ConnId,
    /// What it is about to send.
    sending: VecDeque<u8>,
    /// What it has been sent and is no whole reply yet.
    received: Vec<u8>,
    /// Turns for which it does not read.
    deaf: u64,
}

pub struct World {
    seed: u64,
    rng: Rng,
    ex: Executor,
    now: Now,
    gated: bool,
    clients: Vec<Client>,
    /// What has been read of some connections, and not been given to the executor.
    reads: Vec<Read>,
    read: Vec<u8>,
    pub sent: u64,
    pub replies: u64,
    log: Vec<u8>,
}

impl World {
    pub fn new(seed: u64) -> World {
        let mut rng = Rng::new(seed);
        let mut config = Config::default();
        let mut set = |name, value| config.force(name, value).unwrap();
        set("client-query-buffer-limit", "1048576");
        set("proto-max-bulk-len", "1048576");
        set("durability-timeout", "500");
        set("notify-keyspace-events", "KEA");
        set("tracking-table-max-keys", "10");
        if rng.below(4) == 0 {
            set("requirepass", "secret");
        }
        if rng.below(3) == 0 {
            set(
                "client-output-buffer-limit",
                "normal 50000 20000 1 replica 0 0 0 pubsub 50000 20000 1",
            );
        }
        let now = Now {
            unix_us: 1_700_000_000_000_000,
            mono_us: 0,
        };
        let host = Box::new(NoHost(seed));
        let mut ex = Executor::new(
            config,
            Box::new(DumpCodec::default()),
            ControlOut::default(),
            host,
            now,
        )
        .unwrap();
        let gated = rng.below(3) == 0;
        if gated {
            ex.set_journal(Box::new(SomeJournal::default()));
            ex.on_office(Office::Leader { term: 1 });
        }
        World {
            seed,
            rng,
            ex,
            now,
            gated,
            clients: Vec::new(),
            reads: Vec::new(),
            read: Vec::new(),
            sent: 0,
            replies: 0,
            log: Vec::new(),
        }
    }

    /// Sends so many bytes.
    pub fn run(&mut self, bytes: u64) {
        while self.sent < bytes && self.ex.ending() == Ending::Running {
            self.turn();
        }
    }

    fn turn(&mut self) {
        let passed_us = match self.rng.below(40) {
            0 => 1_500_000,
            1..=5 => 100_000,
            _ => self.rng.below(2_000),
        };
        self.now.unix_us += passed_us;
        self.now.mono_us += passed_us;
        self.ex.begin_turn(self.now);
        if self.clients.len() < CLIENTS {
            let client = Client {
                conn: self
                    .ex
                    .on_accept(AcceptInfo::default())
                    .expect("few clients"),
                sending: VecDeque::new(),
                received: Vec::new(),
                deaf: 0,
            };
            self.clients.push(client);
        }
        for _ in 0..=self.rng.below(6) {
            let i = self.rng.index(self.clients.len());
            self.send(i);
        }
        self.execute();
        if self.gated && self.rng.below(3) == 0 {
            let upto = self.ex.journal.position();
            self.ex.on_durable(upto);
        }
        self.ex.end_turn();
        self.receive();
    }

    fn send(&mut self, i: usize) {
        let client = &mut self.clients[i];
        if !self.ex.takes_input() || !self.ex.wants_bytes(client.conn) {
            return;
        }
        if self.rng.below(3000) == 0 {
            self.ex.on_closed(client.conn);
            return;
        }
        if client.sending.is_empty() {
            let mut bytes = Vec::new();
            input::bytes(&mut self.rng, &mut bytes);
            client.sending.extend(bytes);
        }
        let all = client.sending.len();
        let n = match self.rng.below(8) {
            0 => 1,
            1 | 2 => 1 + self.rng.index(16),
            3 => 1 + self.rng.index(all),
            _ => all,
        };
        let n = n.min(all).min(READ_BYTES);
        let conn = client.conn;
        // What is on its way of a connection is looked at before more of it.
        if self.reads.iter().any(|r| r.conn == conn) || self.rng.below(2) == 0 {
            self.execute();
        }
        let data: Vec<u8> = self.clients[i].sending.drain(..n).collect();
        if let Some(query) = self.ex.argument_room(conn) {
            query.extend_from_slice(&data);
            self.log.clone_from(&data);
            self.ex.on_argument(conn, n);
            self.check_query(conn);
        } else {
            let from = self.read.len();
            self.read.extend_from_slice(&data);
            let to = self.read.len();
            self.reads.push(Read { conn, from, to });
        }
        self.sent += n as u64;
    }

    /// Has what was read of some connections executed.
    fn execute(&mut self) {
        self.log.clone_from(&self.read);
        self.ex.on_reads(&self.reads, &self.read);
        for read in std::mem::take(&mut self.reads) {
            self.check_query(read.conn);
        }
        self.read.clear();
    }

    fn check_query(&self, conn: ConnId) {
        if let Some(c) = self.ex.conns.get(conn) {
            let len = c.unexecuted_bytes();
            let bound = QUERY_BYTES_MAX + READ_BYTES;
            assert!(
                c.close != Close::Open || len <= bound,
                "seed {}: query of {len} bytes",
                self.seed
            );
        }
    }

    /// Does as a driver does with what is to be written; each client takes as much of it as it likes.
    fn receive(&mut self) {
        let mut dirty = Vec::new();
        self.ex.take_dirty(&mut dirty);
        for id in dirty {
            self.ex.check_output_limit(id);
        }
        for i in 0..self.clients.len() {
            let client = &mut self.clients[i];
            if client.deaf > 0 {
                client.deaf -= 1;
                continue;
            }
            if self.rng.below(200) == 0 {
                client.deaf = self.rng.below(50);
            }
            let some = self.rng.below(4) == 0;
            let Some(c) = self.ex.conns.get_mut(client.conn) else {
                continue;
            };
            if c.close == Close::Now {
                continue;
            }
            let ready = c.out.ready().collect::<Vec<_>>().concat();
            let n = match some {
                true => ready.len() / 2,
                false => ready.len(),
            };
            client.received.extend_from_slice(&ready[..n]);
            c.out.on_written(n);
        }
        let mut replies = 0;
        let (seed, log, ex) = (self.seed, &self.log, &mut self.ex);
        for client in &mut self.clients {
            let mut at = 0;
            while at < client.received.len() {
                match reply::parse(&client.received[at..]) {
                    Ok(Some((_, len))) => at += len,
                    Ok(None) => break,
                    Err(_) => {
                        let rest = String::from_utf8_lossy(&client.received[at..]);
                        let rest: String = rest.chars().take(300).collect();
                        let last = String::from_utf8_lossy(log);
                        panic!("seed {seed}: no reply: {rest:?}; the last bytes sent: {last:?}");
                    }
                }
                replies += 1;
            }
            client.received.drain(..at);
            let done = ex.conns.get(client.conn).is_none_or(|c| match c.close {
                Close::Open => false,
                Close::AfterReplies => c.out.is_empty(),
                Close::Now => true,
            });
            if done {
                ex.on_closed(client.conn);
            }
        }
        self.replies += replies;
        self.clients.retain(|c| ex.conns.get(c.conn).is_some());
    }
}
