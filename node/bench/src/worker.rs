//! One thread of the generator: its clients, their connections, one epoll.
//!
//! A client of a closed loop has a batch of commands on their way, and sends the next when all are answered. In an open loop
//! commands become due by the clock and go to whichever client is free; what finds none free waits, and its waiting
//! counts. In a cluster a client has a connection to each primary, and a command goes where its slot is served.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

use crate::Failure;
use crate::cluster::{self, Redirection, Topology};
use crate::net::{Address, Stream};
use crate::plan::{Pace, Plan, Ready, Until};
use crate::random::{KeyNumbers, Numbers};
use crate::skim::{Outcome, Skimmer};
use crate::tally::Tally;
use crate::template::Maker;

/// How often what was counted is handed over.
pub(crate) const PUBLISH_NANOS: u64 = 100_000_000;
/// How long replies are waited for after the end.
const DRAIN_NANOS: u64 = 5_000_000_000;
/// Without a reply for so long, the run has failed.
const SILENCE_NANOS: u64 = 60_000_000_000;
/// So often is one command sent elsewhere.
const REDIRECTIONS_MAX: u8 = 16;
/// Due commands sent before replies are looked for again.
const DUE_AT_ONCE: usize = 256;
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

/// A command on its way.
struct Waiting {
    /// When it was due, and when it was sent.
    due: u64,
    sent: u64,
    /// Where its bytes begin, counted from the connection's first; in a cluster only.
    at: u64,
    len: u32,
    kind: u16,
    redirections: u8,
    /// The reply is to an `ASKING` of ours, and none to the load.
    asking: bool,
}

struct Connection {
    stream: Stream,
    skimmer: Skimmer,
    waiting: VecDeque<Waiting>,
    out: Vec<u8>,
    written: usize,
    /// Bytes that were in `out` and have been dropped.
    dropped: u64,
    client: u32,
    node: u16,
}

struct Client {
    /// By the number of the node; [`NOWHERE`] where there is none yet.
    connections: Vec<u32>,
    /// Commands on their way.
    due: u32,
}

/// When commands are due, in nanoseconds since the start.
struct Clockwork {
    next: f64,
    gap: f64,
    random: bool,
    /// Clients that may send another.
    free: VecDeque<u32>,
    timer: OwnedFd,
    armed: u64,
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
    clockwork: Option<Clockwork>,
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
                let timer = timerfd_create(
                    TimerfdClockId::Monotonic,
                    TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC,
                )
                .map_err(system)?;
                let data = EventData::new_u64(TIMER);
                epoll::add(&epoll, &timer, data, EventFlags::IN).map_err(system)?;
                Some(Clockwork {
                    // The threads' commands lie between each other's.
                    next: 1e9 / rate * thread as f64,
                    gap: 1e9 / rate * threads as f64,
                    random,
                    free: (0..clients as u32).collect(),
                    timer,
                    armed: u64::MAX,
                })
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
            clockwork,
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
        let target = self.plan.target.at(self.nodes[usize::from(node)].clone());
        let mut stream = target.connect()?.into_stream();
        let number = self.connections.len();
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
        self.connections.push(Connection {
            stream,
            skimmer: Skimmer::default(),
            waiting: VecDeque::new(),
            out: Vec::new(),
            written: 0,
            dropped: 0,
            client: client as u32,
            node,
        });
        let of_client = &mut self.clients[client].connections;
        if of_client.len() <= usize::from(node) {
            of_client.resize(usize::from(node) + 1, NOWHERE);
        }
        of_client[usize::from(node)] = number as u32;
        Ok(number)
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
                if connection.written < connection.out.len() || connection.stream.wants_write() {
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
        while connection.written < connection.out.len() {
            match connection
                .stream
                .write(&connection.out[connection.written..])
            {
                Ok(n) => {
                    connection.written += n;
                    self.tally.bytes_out += if self.measuring { n as u64 } else { 0 };
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(self.closed(number, &e.to_string())),
            }
        }
        match connection.stream.flush() {
            Err(e) if !matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                return Err(self.closed(number, &e.to_string()));
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

    fn closed(&self, number: usize, why: &str) -> Failure {
        let node = usize::from(self.connections[number].node);
        Failure::new(format!("{} closed a connection: {why}", self.nodes[node]))
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
            let read = match self.connections[number].stream.read(buffer) {
                Ok(0) => return Err(self.closed(number, "end of the stream")),
                Ok(n) => n,
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(last),
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                Err(e) => return Err(self.closed(number, &e.to_string())),
            };
            let time = start.elapsed().as_nanos() as u64;
            last = Some(time);
            self.tally.bytes_in += if self.measuring { read as u64 } else { 0 };
            let mut at = 0;
            while let Some(outcome) = self.connections[number]
                .skimmer
                .next(&buffer[..read], &mut at)
                .map_err(|e| Failure::new(e.to_string()))?
            {
                self.on_reply(number, outcome, time)?;
            }
            if read < buffer.len() && !self.connections[number].stream.may_have_more() {
                // The system had no more; what comes later is another event.
                return Ok(last);
            }
        }
    }

    fn on_reply(&mut self, number: usize, outcome: Outcome, time: u64) -> Result<(), Failure> {
        if outcome == Outcome::Push {
            return Ok(());
        }
        let connection = &mut self.connections[number];
        let Some(waiting) = connection.waiting.pop_front() else {
            return Err(Failure::new("the server sent a reply too many"));
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
        self.on_their_way -= 1;
        let due = &mut self.clients[client].due;
        *due -= 1;
        match &mut self.clockwork {
            Some(clockwork) => {
                // A client with room left is among the free ones already.
                if *due + 1 == self.plan.load.pipeline as u32 {
                    clockwork.free.push_back(client as u32);
                }
                Ok(())
            }
            None if *due == 0 => self.next_batch(client, time),
            None => Ok(()),
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
                self.slots[usize::from(slot)] = cluster::number(&mut self.nodes, address.clone());
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

impl Connection {
    /// Notes where the command lies in the output, so that it can be sent again.
    fn push(&mut self, mut waiting: Waiting, bytes: &[u8]) {
        waiting.at = self.dropped + self.out.len() as u64;
        self.out.extend_from_slice(bytes);
        self.waiting.push_back(waiting);
    }

    /// Forgets the output that has been answered, once there is much of it.
    fn drop_answered(&mut self) {
        const MUCH: usize = 64 * 1024;
        let answered = match self.waiting.front() {
            Some(first) => (first.at - self.dropped) as usize,
            None => self.out.len(),
        };
        let answered = answered.min(self.written);
        if answered == self.out.len() || answered >= MUCH {
            self.out.drain(..answered);
            self.written -= answered;
            self.dropped += answered as u64;
        }
    }
}

impl Clockwork {
    fn advance(&mut self, numbers: &mut Numbers) {
        let gaps = if self.random {
            -(1.0 - numbers.fraction()).ln()
        } else {
            1.0
        };
        self.next += self.gap * gaps;
    }

    /// Has the timer ring when the next command is due, if one may then be sent. How long to wait for events:
    /// not at all if it is due already.
    fn arm(&mut self, time: u64, wait: u64) -> rustix::io::Result<u64> {
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

    fn rang(&mut self) {
        let _ = rustix::io::read(&self.timer, &mut [0_u8; 8]);
        self.armed = u64::MAX;
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
