//! One thread of the generator: its clients, their connections, one epoll.
//!
//! A client of a closed loop has a batch of commands on their way, and sends the next when all are answered. In an open loop
//! commands become due by the clock and go to whichever client is free; what finds none free waits, and its waiting
//! counts. In a cluster a client has a connection to each primary, and a command goes where its slot is served.

use std::io::{self, ErrorKind, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::time::Timespec;

use crate::Failure;
use crate::clockwork::Clockwork;
use crate::cluster::{self, Redirection, Topology};
use crate::connection::{Connection, Waiting};
use crate::net::Address;
use crate::plan::{Pace, Plan, Ready, Until};
use crate::random::{KeyNumbers, Numbers};
use crate::skim::Outcome;
use crate::tally::Tally;
use crate::template::Maker;

/// How often what was counted is handed over.
pub(crate) const PUBLISH_NANOS: u64 = 100_000_000;
/// How long replies are waited for after the end.
const DRAIN_NANOS: u64 = 5_000_000_000;
/// Without a reply for so long, the run has failed.
const SILENCE_NANOS: u64 = 60_000_000_000;
/// So often is one command sent elsewhere.
const REDIRECTIONS_MAX: u8 = 64;
/// Due commands sent before replies are looked for again.
const DUE_AT_ONCE: usize = 256;
/// How often a broken connection is tried again, and for how long.
const RETRY_NANOS: u64 = 100_000_000;
const RETRIES_MAX: u32 = 300;
const EVENTS: usize = 512;
const READ_BYTES: usize = 256 * 1024;
const TIMER: u64 = u64::MAX;
const NOWHERE: u32 = u32::MAX;

/// What the threads of a run and whoever started them share.
pub(crate) struct Shared {
    /// Set when all connections stand: the clock runs from here.
    pub start: OnceLock<Instant>,
    pub stop: AtomicBool,
    /// By thread.
    pub tallies: Vec<Mutex<Tally>>,
    pub failure: Mutex<Option<Failure>>,
    /// Time of the last reply, since the start.
    pub last_reply: AtomicU64,
    /// Processor time of the generator's threads while measuring.
    pub busy_nanos: AtomicU64,
}

struct Client {
    /// By the number of the node; [`NOWHERE`] where there is none yet.
    connections: Vec<u32>,
    /// Commands on their way.
    due: u32,
}

/// A connection that is to come back.
struct Broken {
    number: usize,
    retry_at: u64,
    tries: u32,
}

pub(crate) struct Worker<'a> {
    plan: &'a Plan,
    ready: &'a Ready,
    shared: &'a Shared,
    thread: usize,
    epoll: OwnedFd,
    connections: Vec<Connection>,
    clients: Vec<Client>,
    nodes: Vec<Address>,
    slots: Vec<u16>,
    replicas: Vec<Address>,
    clockwork: Option<Clockwork>,
    broken: Vec<Broken>,
    maker: Maker,
    tally: Tally,
    /// Commands that may still be sent, of those that are counted.
    left: u64,
    on_their_way: u64,
    begin: u64,
    end: u64,
    /// Whether the measured time has begun, and not ended, when it was last looked at.
    measuring: bool,
    scratch: Vec<u8>,
}

/// How many of `all` fall to one of `threads`.
pub(crate) fn share(all: u64, thread: usize, threads: usize) -> u64 {
    let (thread, threads) = (thread as u64, threads as u64);
    all / threads + u64::from(thread < all % threads)
}

impl<'a> Worker<'a> {
    /// With all connections made.
    pub fn new(
        plan: &'a Plan,
        ready: &'a Ready,
        shared: &'a Shared,
        topology: Option<&Topology>,
        thread: usize,
    ) -> Result<Worker<'a>, Failure> {
        let load = &plan.load;
        let threads = load.threads;
        let system = |e: rustix::io::Errno| Failure::new(format!("epoll: {e}"));
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(system)?;
        let begin = load.warm_up.as_nanos() as u64;
        let (end, left) = match load.until {
            Until::Time(time) => (begin + time.as_nanos() as u64, u64::MAX),
            Until::Requests(all) => (u64::MAX, share(all, thread, threads)),
        };
        let clients = share(load.clients as u64, thread, threads);
        let clockwork = match load.pace {
            Pace::Closed => None,
            Pace::Open { rate, random } => {
                let clockwork = Clockwork::new(rate, random, thread, threads, clients as u32)
                    .map_err(system)?;
                let data = EventData::new_u64(TIMER);
                epoll::add(&epoll, clockwork.timer(), data, EventFlags::IN).map_err(system)?;
                Some(clockwork)
            }
        };
        let seed = load.seed ^ (thread as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let keys = KeyNumbers::new(
            plan.work.distribution,
            plan.work.keys,
            thread as u64,
            threads as u64,
        );
        let maker = Maker::new(
            Numbers::new(seed),
            keys,
            &ready.meaning,
            ready.pool.clone(),
            thread as u64,
            threads as u64,
        );
        let mut worker = Worker {
            plan,
            ready,
            shared,
            thread,
            epoll,
            connections: Vec::new(),
            clients: Vec::new(),
            nodes: topology.map_or_else(|| vec![plan.target.address.clone()], |t| t.nodes.clone()),
            slots: topology.map_or_else(Vec::new, |t| t.slots.to_vec()),
            replicas: topology.map_or_else(Vec::new, |t| t.replicas.clone()),
            clockwork,
            broken: Vec::new(),
            maker,
            tally: Tally::new(ready.templates.len()),
            left,
            on_their_way: 0,
            begin,
            end,
            measuring: false,
            scratch: Vec::new(),
        };
        for client in 0..clients as usize {
            worker.clients.push(Client {
                connections: vec![NOWHERE; worker.nodes.len()],
                due: 0,
            });
            for node in 0..worker.nodes.len() {
                worker.connect(client, node as u16)?;
            }
        }
        Ok(worker)
    }

    fn connect(&mut self, client: usize, node: u16) -> Result<usize, Failure> {
        let number = self.connections.len();
        self.connections.push(Connection::new(client as u32, node));
        let of_client = &mut self.clients[client].connections;
        if of_client.len() <= usize::from(node) {
            of_client.resize(usize::from(node) + 1, NOWHERE);
        }
        of_client[usize::from(node)] = number as u32;
        match self.open(number) {
            Ok(()) => {}
            // Before the load begins, a server that cannot be reached is a mistake in any case.
            Err(failure) if !self.plan.load.reconnect || self.shared.start.get().is_none() => {
                return Err(failure);
            }
            Err(_) => self.broken.push(Broken {
                number,
                retry_at: 0,
                tries: 0,
            }),
        }
        Ok(number)
    }

    fn open(&mut self, number: usize) -> Result<(), Failure> {
        let node = usize::from(self.connections[number].node);
        let target = self.plan.target.at(self.nodes[node].clone());
        let mut stream = target.connect()?.into_stream();
        let failed = |e: io::Error| Failure::new(format!("a connection: {e}"));
        stream.set_nonblocking().map_err(failed)?;
        if self.plan.load.clients > 1000 {
            stream.forget_on_close();
        }
        epoll::add(
            &self.epoll,
            &stream,
            EventData::new_u64(number as u64),
            EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET,
        )
        .map_err(|e| failed(e.into()))?;
        self.connections[number].stream = Some(stream);
        Ok(())
    }

    /// The connection has ended. What was on its way is lost, whether or not the server has done it.
    fn lose(&mut self, number: usize, why: &str) -> Result<(), Failure> {
        let connection = &mut self.connections[number];
        let node = &self.nodes[usize::from(connection.node)];
        let text = format!("{node} closed a connection: {why}");
        if !self.plan.load.reconnect {
            return Err(Failure::new(text));
        }
        let client = connection.client as usize;
        let lost = connection.break_off();
        self.broken.push(Broken {
            number,
            retry_at: 0,
            tries: 0,
        });
        for waiting in lost.into_iter().filter(|w| !w.asking) {
            if waiting.due >= self.begin {
                self.tally.add_error(&format!("LOST {text}"), 1);
                self.tally.kinds[usize::from(waiting.kind)].errors += 1;
            }
            self.settle(client);
        }
        Ok(())
    }

    /// Opens what was broken again. In a cluster, what waits for a node that stays away goes to another one, which
    /// says who has its slots now.
    fn mend(&mut self, time: u64) -> Result<(), Failure> {
        let due: Vec<Broken> = self.broken.extract_if(.., |b| b.retry_at <= time).collect();
        if due.is_empty() {
            return Ok(());
        }
        for mut broken in due {
            match self.open(broken.number) {
                Ok(()) => self.flush(broken.number)?,
                Err(failure) if broken.tries >= RETRIES_MAX => return Err(failure),
                Err(_) => {
                    self.send_elsewhere(broken.number)?;
                    broken.tries += 1;
                    broken.retry_at = time + RETRY_NANOS;
                    self.broken.push(broken);
                }
            }
        }
        // Clients that lost all they had on their way begin anew.
        if self.clockwork.is_none() {
            for client in 0..self.clients.len() {
                if self.clients[client].due == 0 {
                    self.next_batch(client, time)?;
                }
            }
        }
        Ok(())
    }

    fn send_elsewhere(&mut self, number: usize) -> Result<(), Failure> {
        if self.slots.is_empty() || self.connections[number].waiting.is_empty() {
            return Ok(());
        }
        let client = self.connections[number].client as usize;
        let alive = |worker: &Worker| {
            let mut connections = worker.clients[client].connections.iter();
            connections.find_map(|n| {
                let connection = worker.connections.get(*n as usize)?;
                connection.stream.as_ref().map(|_| *n as usize)
            })
        };
        let mut other = alive(self);
        for replica in self.replicas.clone() {
            if other.is_none() {
                let node = cluster::number(&mut self.nodes, replica);
                self.connection_to(client, node)?;
                other = alive(self);
            }
        }
        let Some(other) = other else {
            return Ok(());
        };
        let from = &mut self.connections[number];
        let waiting = std::mem::take(&mut from.waiting);
        let out = std::mem::take(&mut from.out);
        let dropped = std::mem::take(&mut from.dropped);
        from.written = 0;
        for one in waiting.into_iter().filter(|w| !w.asking) {
            let at = (one.at - dropped) as usize;
            let len = one.len as usize;
            self.connections[other].push(one, &out[at..at + len]);
        }
        self.flush(other)
    }

    /// Drives the load to its end.
    pub fn run(mut self) -> Result<(), Failure> {
        let start = *self.shared.start.wait();
        let now = |start: Instant| start.elapsed().as_nanos() as u64;
        let mut events = vec![MaybeUninit::<epoll::Event>::uninit(); EVENTS];
        let mut buffer = vec![0; READ_BYTES];
        // At even distances from the beginning of the measured time.
        let mut publish_at = match self.begin % PUBLISH_NANOS {
            0 => PUBLISH_NANOS,
            rest => rest,
        };
        let mut last_progress = 0;
        let mut busy_from = None;

        if self.clockwork.is_none() {
            for client in 0..self.clients.len() {
                self.next_batch(client, now(start))?;
            }
        }
        loop {
            let time = now(start);
            self.measuring = (self.begin..self.end).contains(&time);
            if busy_from.is_none() && time >= self.begin {
                busy_from = Some(thread_time());
            }
            if time >= publish_at {
                self.publish();
                publish_at += (time - publish_at) / PUBLISH_NANOS * PUBLISH_NANOS + PUBLISH_NANOS;
            }
            if !self.broken.is_empty() {
                self.mend(time)?;
            }
            let over = self.is_over(time);
            if over {
                self.give_up_unsent(time);
                let enough = time >= self.end.saturating_add(DRAIN_NANOS);
                if self.on_their_way == 0 || enough || self.shared.stop.load(Ordering::Relaxed) {
                    break;
                }
            } else if self.clockwork.is_some() {
                self.send_due(time)?;
            }
            if time.saturating_sub(last_progress) > SILENCE_NANOS && self.on_their_way > 0 {
                return Err(Failure::new("no reply for 60 s"));
            }

            let wait_until = publish_at.min(if over { u64::MAX } else { self.end });
            let mut wait = wait_until.saturating_sub(time);
            if !over && let Some(clockwork) = &mut self.clockwork {
                wait = clockwork
                    .arm(time, wait)
                    .map_err(|e| Failure::new(format!("a timer: {e}")))?;
            }
            let timeout = Timespec {
                tv_sec: 0,
                tv_nsec: wait.min(PUBLISH_NANOS) as i64,
            };
            let (ready, _) = match epoll::wait(&self.epoll, &mut events[..], Some(&timeout)) {
                Ok(ready) => ready,
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(Failure::new(format!("epoll: {error}"))),
            };
            for event in ready {
                let number = event.data.u64();
                if number == TIMER {
                    if let Some(clockwork) = &mut self.clockwork {
                        clockwork.rang();
                    }
                    continue;
                }
                let number = number as usize;
                let connection = &self.connections[number];
                let Some(stream) = &connection.stream else {
                    continue;
                };
                if connection.written < connection.out.len() || stream.wants_write() {
                    self.flush(number)?;
                }
                let flags = event.flags;
                if flags.intersects(!EventFlags::OUT)
                    && let Some(time) = self.receive(number, &mut buffer, start)?
                {
                    last_progress = time;
                }
            }
        }
        if let Some(from) = busy_from {
            let busy = thread_time().saturating_sub(from);
            let busy_nanos = &self.shared.busy_nanos;
            busy_nanos.fetch_add(busy.as_nanos() as u64, Ordering::Relaxed);
        }
        self.shared
            .last_reply
            .fetch_max(last_progress, Ordering::Relaxed);
        self.tally.unanswered += self.on_their_way;
        self.publish();
        Ok(())
    }

    fn is_over(&self, time: u64) -> bool {
        time >= self.end || self.left == 0 || self.shared.stop.load(Ordering::Relaxed)
    }

    fn publish(&mut self) {
        let mut shared = self.shared.tallies[self.thread]
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        shared.add(&self.tally);
        self.tally.clear();
    }

    /// What was due and never sent counts with the time that it had waited: leaving it out would make an
    /// overloaded server look fast.
    fn give_up_unsent(&mut self, time: u64) {
        let Some(clockwork) = &mut self.clockwork else {
            return;
        };
        let end = time.min(self.end) as f64;
        while self.left > 0 && clockwork.next < end {
            let due = clockwork.next as u64;
            clockwork.advance(&mut self.maker.numbers);
            if due >= self.begin {
                let kind = choose(self.ready, &mut self.maker.numbers);
                self.tally.unsent += 1;
                self.tally.kinds[usize::from(kind)]
                    .latency
                    .record(time - due);
            }
        }
    }

    /// A command more that counts, if there is one.
    fn may_send(&mut self, time: u64) -> bool {
        if time < self.begin {
            return true;
        }
        if self.left == 0 {
            return false;
        }
        self.left -= u64::from(self.left != u64::MAX);
        true
    }

    fn next_batch(&mut self, client: usize, time: u64) -> Result<(), Failure> {
        if self.is_over(time) {
            return Ok(());
        }
        let mut sent = false;
        for _ in 0..self.plan.load.pipeline {
            if !self.may_send(time) {
                break;
            }
            self.put(client, time, time)?;
            sent = true;
        }
        if sent {
            self.flush_client(client)?;
        }
        Ok(())
    }

    fn send_due(&mut self, time: u64) -> Result<(), Failure> {
        let pipeline = self.plan.load.pipeline as u32;
        for _ in 0..DUE_AT_ONCE {
            let Some(clockwork) = &mut self.clockwork else {
                return Ok(());
            };
            let due = clockwork.next as u64;
            if due > time || due >= self.end {
                return Ok(());
            }
            let Some(client) = clockwork.free.pop_front() else {
                return Ok(());
            };
            clockwork.advance(&mut self.maker.numbers);
            if !self.may_send(due) {
                return Ok(());
            }
            self.put(client as usize, due, time)?;
            self.flush_client(client as usize)?;
            if self.clients[client as usize].due < pipeline
                && let Some(clockwork) = &mut self.clockwork
            {
                clockwork.free.push_back(client);
            }
        }
        Ok(())
    }

    /// Makes a command and puts it into the output of the connection that it belongs to.
    fn put(&mut self, client: usize, due: u64, sent: u64) -> Result<(), Failure> {
        let kind = choose(self.ready, &mut self.maker.numbers);
        let template = &self.ready.templates[usize::from(kind)];
        let mut waiting = Waiting {
            due,
            sent,
            at: 0,
            len: 0,
            kind,
            redirections: 0,
            asking: false,
        };
        self.clients[client].due += 1;
        self.on_their_way += 1;
        if self.slots.is_empty() {
            let number = self.clients[client].connections[0] as usize;
            let connection = &mut self.connections[number];
            template.make(&mut self.maker, &mut connection.out);
            connection.waiting.push_back(waiting);
            return Ok(());
        }
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        let key = template.make(&mut self.maker, &mut scratch);
        let node = match key {
            Some(key) => self.slots[usize::from(cluster::slot_of(&scratch[key]))],
            None => self.maker.numbers.below(self.nodes.len() as u64) as u16,
        };
        // A slot that nobody serves: any node says so.
        let node = if node == u16::MAX { 0 } else { node };
        waiting.len = scratch.len() as u32;
        let number = self.connection_to(client, node)?;
        self.connections[number].push(waiting, &scratch);
        self.scratch = scratch;
        Ok(())
    }

    fn connection_to(&mut self, client: usize, node: u16) -> Result<usize, Failure> {
        match self.clients[client].connections.get(usize::from(node)) {
            Some(&number) if number != NOWHERE => Ok(number as usize),
            _ => self.connect(client, node),
        }
    }

    fn flush_client(&mut self, client: usize) -> Result<(), Failure> {
        for node in 0..self.clients[client].connections.len() {
            let number = self.clients[client].connections[node];
            if number != NOWHERE {
                self.flush(number as usize)?;
            }
        }
        Ok(())
    }

    fn flush(&mut self, number: usize) -> Result<(), Failure> {
        let connection = &mut self.connections[number];
        let Some(stream) = &mut connection.stream else {
            return Ok(());
        };
        while connection.written < connection.out.len() {
            match stream.write(&connection.out[connection.written..]) {
                Ok(n) => {
                    connection.written += n;
                    self.tally.bytes_out += if self.measuring { n as u64 } else { 0 };
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return self.lose(number, &e.to_string()),
            }
        }
        match stream.flush() {
            Err(e) if !matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                return self.lose(number, &e.to_string());
            }
            _ => {}
        }
        // In a cluster a command may have to be sent again.
        if self.slots.is_empty() {
            connection.out.clear();
            connection.written = 0;
        }
        Ok(())
    }

    /// Reads what is there; when that was, if anything was.
    fn receive(
        &mut self,
        number: usize,
        buffer: &mut [u8],
        start: Instant,
    ) -> Result<Option<u64>, Failure> {
        let mut last = None;
        loop {
            // A reply may have led to a write that found the connection broken.
            let Some(stream) = &mut self.connections[number].stream else {
                return Ok(last);
            };
            let more = stream.may_have_more();
            let ended = match stream.read(buffer) {
                Ok(0) => "end of the stream".to_owned(),
                Ok(n) => {
                    last = Some(self.skim(number, &buffer[..n], start)?);
                    if n < buffer.len() && !more {
                        // The system had no more; what comes later is another event.
                        return Ok(last);
                    }
                    continue;
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(last),
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                Err(e) => e.to_string(),
            };
            self.lose(number, &ended)?;
            return Ok(last);
        }
    }

    /// Looks for the replies in what has come. When that was.
    fn skim(&mut self, number: usize, bytes: &[u8], start: Instant) -> Result<u64, Failure> {
        let time = start.elapsed().as_nanos() as u64;
        self.tally.bytes_in += if self.measuring {
            bytes.len() as u64
        } else {
            0
        };
        let mut at = 0;
        while let Some(outcome) = self.connections[number]
            .skimmer
            .next(bytes, &mut at)
            .map_err(|e| Failure::new(e.to_string()))?
        {
            self.on_reply(number, outcome, time)?;
            if self.connections[number].stream.is_none() {
                break;
            }
        }
        Ok(time)
    }

    fn on_reply(&mut self, number: usize, outcome: Outcome, time: u64) -> Result<(), Failure> {
        if outcome == Outcome::Push {
            return Ok(());
        }
        let connection = &mut self.connections[number];
        let Some(waiting) = connection.waiting.pop_front() else {
            let text = match outcome {
                Outcome::Error => String::from_utf8_lossy(connection.skimmer.error_text()),
                _ => "a reply to nothing".into(),
            };
            return Err(Failure::new(format!("the server says: {text}")));
        };
        if waiting.asking {
            return Ok(());
        }
        let client = connection.client as usize;
        if outcome == Outcome::Error {
            if !self.slots.is_empty()
                && waiting.redirections < REDIRECTIONS_MAX
                && let Some(redirection) = Redirection::parse(
                    connection.skimmer.error_text(),
                    &self.nodes[usize::from(connection.node)],
                )
            {
                return self.redirect(number, waiting, redirection);
            }
            let text = String::from_utf8_lossy(connection.skimmer.error_text()).into_owned();
            if waiting.due >= self.begin {
                self.tally.add_error(&text, 1);
            }
        }
        if !self.slots.is_empty() {
            connection.drop_answered();
        }
        let kind = &mut self.tally.kinds[usize::from(waiting.kind)];
        if waiting.due >= self.begin {
            kind.latency.record(time - waiting.due);
            if self.clockwork.is_some() {
                kind.service.record(time - waiting.sent);
            }
        }
        let counts = match self.plan.load.until {
            Until::Time(_) => (self.begin..self.end).contains(&time),
            Until::Requests(_) => waiting.due >= self.begin,
        };
        if counts {
            kind.done += 1;
            kind.errors += u64::from(outcome == Outcome::Error);
            kind.nils += u64::from(outcome == Outcome::Nil);
        }
        self.settle(client);
        match self.clients[client].due == 0 && self.clockwork.is_none() {
            true => self.next_batch(client, time),
            false => Ok(()),
        }
    }

    /// One command of a client is no longer on its way.
    fn settle(&mut self, client: usize) {
        self.on_their_way -= 1;
        let due = &mut self.clients[client].due;
        *due -= 1;
        // A client with room left is among the free ones already.
        if *due + 1 == self.plan.load.pipeline as u32
            && let Some(clockwork) = &mut self.clockwork
        {
            clockwork.free.push_back(client as u32);
        }
    }

    fn redirect(
        &mut self,
        number: usize,
        mut waiting: Waiting,
        redirection: Redirection,
    ) -> Result<(), Failure> {
        self.tally.redirected += 1;
        waiting.redirections += 1;
        let from = &mut self.connections[number];
        let client = from.client as usize;
        let at = (waiting.at - from.dropped) as usize;
        let bytes = from.out[at..at + waiting.len as usize].to_vec();
        from.drop_answered();
        let (address, asking) = match redirection {
            Redirection::Moved(slot, address) => {
                let slot = usize::from(slot);
                let node = cluster::number(&mut self.nodes, address.clone());
                let before = std::mem::replace(&mut self.slots[slot], node);
                // Whoever stands in for a node that has gone has all that was its.
                let connections = &self.connections;
                let gone = |b: &Broken| connections[b.number].node == before;
                if before != node && self.broken.iter().any(gone) {
                    let of_it = self.slots.iter_mut().filter(|s| **s == before);
                    of_it.for_each(|s| *s = node);
                }
                (address, false)
            }
            Redirection::Ask(address) => (address, true),
        };
        let node = cluster::number(&mut self.nodes, address);
        let number = self.connection_to(client, node)?;
        let to = &mut self.connections[number];
        if asking {
            let ask = b"*1\r\n$6\r\nASKING\r\n";
            let first = Waiting {
                len: ask.len() as u32,
                asking: true,
                ..waiting
            };
            to.push(first, ask);
        }
        to.push(waiting, &bytes);
        self.flush(number)
    }
}

fn choose(ready: &Ready, numbers: &mut Numbers) -> u16 {
    let [_, .., sum] = ready.weights[..] else {
        return 0;
    };
    let at = numbers.below(sum);
    ready.weights.partition_point(|upto| *upto <= at) as u16
}

/// Processor time of this thread.
fn thread_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
