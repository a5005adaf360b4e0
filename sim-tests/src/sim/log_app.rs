//! A small write-behind store on one replicated log: what the node does, without all that is around it.
//!
//! It executes at once on `speculative`, proposes what it did, and answers when that is committed. What it serves
//! from when it takes office is `committed`, which only [`App::apply`] changes; so what was executed and never
//! committed is forgotten with the office.

use super::world::{Machine, World};
use crate::check::model::{Op, Ret, State};
use crate::codec;
use crate::history::Fnv;
use crate::record::Outcome;
use bytes::Bytes;
use holdfast_raft_log::disk::{Disk, OpenMode};
use holdfast_raft_log::planted::planted;
use holdfast_raft_log::{
    App, Committed, EntryId, Group, NodeId, Office, OfficeId, SnapshotInfo, SnapshotTask,
};
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Instant;
use tokio::sync::{mpsc, oneshot};

/// Objects and what they hold.
pub type States = BTreeMap<u32, State>;

/// What a client sends.
pub struct Request {
    /// On which object.
    pub object: u32,
    /// What.
    pub op: Op,
    /// For the answer; dropped without one when the outcome is open.
    pub reply: oneshot::Sender<Outcome>,
}

/// What a replica has applied; the part that [`App`] and the server share.
#[derive(Clone, Default)]
struct Applied {
    states: States,
    /// The last entry applied.
    last: Option<EntryId>,
    /// Digest over all entries applied, in order.
    chain: u64,
}

/// From the log to the server.
enum Event {
    Apply(Vec<Committed>, oneshot::Sender<()>),
    Install(Box<Applied>, oneshot::Sender<()>),
    Snapshot(oneshot::Sender<Applied>),
}

/// What the group calls.
pub struct LogApp {
    to_server: mpsc::UnboundedSender<Event>,
    disk: Arc<dyn Disk>,
}

/// The server's side of a [`LogApp`].
pub struct Events(mpsc::UnboundedReceiver<Event>);

impl LogApp {
    /// An application that hands everything to the server that holds the other end.
    pub fn new(disk: Arc<dyn Disk>) -> (LogApp, Events) {
        let (tx, rx) = mpsc::unbounded_channel();
        (
            LogApp {
                to_server: tx,
                disk,
            },
            Events(rx),
        )
    }

    async fn ask<T>(&self, make: impl FnOnce(oneshot::Sender<T>) -> Event) -> io::Result<T> {
        let (tx, rx) = oneshot::channel();
        self.to_server
            .send(make(tx))
            .map_err(|_| io::Error::other("the server has ended"))?;
        rx.await
            .map_err(|_| io::Error::other("the server has ended"))
    }
}

impl App for LogApp {
    async fn apply(&mut self, entries: Vec<Committed>) -> io::Result<()> {
        self.ask(|done| Event::Apply(entries, done)).await
    }

    async fn begin_snapshot(&mut self, path: PathBuf) -> io::Result<SnapshotTask> {
        let applied = self.ask(Event::Snapshot).await?;
        let disk = self.disk.clone();
        Ok(Box::pin(async move {
            let last = applied
                .last
                .ok_or_else(|| io::Error::other("nothing to snapshot"))?;
            let text = format!("{}\n{}", applied.chain, codec::put_states(&applied.states));
            let file = disk.open(&path, OpenMode::CreateNew).await?;
            file.write_at(0, Bytes::from(text)).await?;
            file.sync().await?;
            Ok(last)
        }))
    }

    async fn install_snapshot(&mut self, snapshot: SnapshotInfo) -> io::Result<()> {
        let file = self.disk.open(&snapshot.path, OpenMode::Read).await?;
        let bytes = file.read_at(0, snapshot.len as usize).await?;
        let bad = || io::Error::other("not a snapshot");
        let text = String::from_utf8(bytes).map_err(|_| bad())?;
        let (chain, states) = text.split_once('\n').ok_or_else(bad)?;
        let applied = Applied {
            states: codec::get_states(states).ok_or_else(bad)?,
            last: Some(snapshot.last),
            chain: chain.parse().map_err(|_| bad())?,
        };
        self.ask(|done| Event::Install(Box::new(applied), done))
            .await
    }
}

/// What every replica was seen to hold at every index: two that differ are a broken promise.
#[derive(Clone, Default)]
pub struct Ledger(Arc<Mutex<BTreeMap<u64, (u64, usize)>>>);

impl Ledger {
    /// Notes the digest of a replica at an index.
    fn seen(&self, world: &World, node: usize, index: u64, chain: u64) {
        let mut ledger = self.0.lock().unwrap_or_else(|e| e.into_inner());
        let (known, by) = *ledger.entry(index).or_insert((chain, node));
        if known != chain {
            world.record.problem(
                world.now_us(),
                format!(
                    "n{node} applied at index {index} what n{by} did not: the committed logs differ"
                ),
            );
        }
    }

    /// The highest index anybody applied.
    pub fn highest(&self) -> u64 {
        self.0
            .lock()
            .unwrap_or_else(|e| e.into_inner())
            .keys()
            .next_back()
            .copied()
            .unwrap_or(0)
    }
}

struct Waiting {
    /// The proposal that has to commit first.
    proposal: u64,
    ret: Ret,
    reply: oneshot::Sender<Outcome>,
}

/// The one owner of a node's state.
pub struct Server {
    world: World,
    machine: Machine,
    me: NodeId,
    group: Group,
    ledger: Ledger,
    applied: Applied,
    speculative: States,
    office: Option<OfficeId>,
    /// Proposals of this office: made, and committed.
    proposed: u64,
    committed: u64,
    /// The last proposal that touched an object.
    touched: BTreeMap<u32, u64>,
    waiting: VecDeque<Waiting>,
}

/// Requests that one turn takes.
const TURN: usize = 32;

impl Server {
    /// Applies what the log replays while the group starts, then serves until the group ends.
    pub async fn run(
        world: World,
        machine: Machine,
        me: NodeId,
        ledger: Ledger,
        mut events: Events,
        group: impl Future<Output = Option<Group>>,
        mut requests: mpsc::UnboundedReceiver<Request>,
    ) {
        let mut replayed = Applied::default();
        let group = {
            let mut group = std::pin::pin!(group);
            loop {
                tokio::select! {
                    biased;
                    event = events.0.recv() => match event {
                        Some(event) => replay(&world, &machine, &ledger, &mut replayed, event),
                        None => return,
                    },
                    group = &mut group => break group,
                }
            }
        };
        let Some(group) = group else { return };
        let mut office = group.office();
        let mut server = Server {
            world,
            machine,
            me,
            group,
            ledger,
            applied: replayed,
            speculative: States::new(),
            office: None,
            proposed: 0,
            committed: 0,
            touched: BTreeMap::new(),
            waiting: VecDeque::new(),
        };
        server.on_office(office.get());
        loop {
            tokio::select! {
                biased;
                event = events.0.recv() => match event {
                    Some(event) => server.on_event(event),
                    None => return,
                },
                changed = office.changed() => match changed {
                    Ok(office) => server.on_office(office),
                    Err(_) => return,
                },
                request = requests.recv() => {
                    let Some(request) = request else { return };
                    let mut turn = vec![request];
                    while turn.len() < TURN && let Ok(more) = requests.try_recv() {
                        turn.push(more);
                    }
                    server.turn(turn);
                }
            }
        }
    }

    fn on_office(&mut self, office: Office) {
        // Answers that still wait are open now: dropping them says so.
        self.waiting.clear();
        (self.proposed, self.committed) = (0, 0);
        self.touched.clear();
        match office {
            Office::Leader(id) => {
                self.world.note(format_args!(
                    "n{} leads term {} from {}",
                    self.machine.index, id.term, id.first_index
                ));
                if !planted("deposed_keeps_memory") || self.speculative.is_empty() {
                    self.speculative = self.applied.states.clone();
                }
                self.office = Some(id);
            }
            Office::Follower { .. } => self.office = None,
        }
    }

    fn turn(&mut self, turn: Vec<Request>) {
        let Some(office) = self.office else {
            turn.into_iter()
                .for_each(|r| drop(r.reply.send(Outcome::Refused)));
            return;
        };
        let mut payload = String::new();
        let mut answers: Vec<(Ret, Request)> = Vec::new();
        for request in turn {
            let ret = self
                .speculative
                .entry(request.object)
                .or_default()
                .run(&request.op);
            if !request.op.is_read() {
                codec::put_op(&mut payload, request.object, &request.op);
                self.touched.insert(request.object, self.proposed + 1);
            }
            answers.push((ret, request));
        }
        if !payload.is_empty() {
            if self.group.propose(office, Bytes::from(payload)).is_err() {
                // Nothing of this turn has an effect; the memory is wrong now, and the office is over.
                self.office = None;
                answers
                    .into_iter()
                    .for_each(|(_, r)| drop(r.reply.send(Outcome::Refused)));
                return;
            }
            self.proposed += 1;
        }
        let lease = planted("read_without_lease") || self.group.lease_valid(Instant::now());
        for (ret, request) in answers {
            let proposal = self.touched.get(&request.object).copied().unwrap_or(0);
            if request.op.is_read() && !lease {
                let _ = request.reply.send(Outcome::Refused);
            } else if proposal <= self.committed || planted("reply_before_commit") {
                let _ = request.reply.send(Outcome::Done(ret));
            } else {
                self.waiting.push_back(Waiting {
                    proposal,
                    ret,
                    reply: request.reply,
                });
            }
        }
    }

    fn on_event(&mut self, event: Event) {
        if let Event::Apply(entries, _) = &event {
            for entry in entries {
                let ours = self.office.is_some_and(|o| o.proposed(self.me, entry));
                self.committed += u64::from(ours && entry.payload.is_some());
            }
        }
        replay(
            &self.world,
            &self.machine,
            &self.ledger,
            &mut self.applied,
            event,
        );
        let mut rest = VecDeque::new();
        for w in self.waiting.drain(..) {
            if w.proposal <= self.committed {
                let _ = w.reply.send(Outcome::Done(w.ret));
            } else {
                rest.push_back(w);
            }
        }
        self.waiting = rest;
    }
}

fn replay(world: &World, machine: &Machine, ledger: &Ledger, applied: &mut Applied, event: Event) {
    match event {
        Event::Apply(entries, done) => {
            for entry in entries {
                apply(world, machine.index, applied, &entry);
                ledger.seen(world, machine.index, entry.index, applied.chain);
            }
            let _ = done.send(());
        }
        Event::Install(snapshot, done) => {
            *applied = *snapshot;
            if let Some(last) = applied.last {
                world.note(format_args!(
                    "n{} installed a snapshot up to {}",
                    machine.index, last.index
                ));
                ledger.seen(world, machine.index, last.index, applied.chain);
            }
            let _ = done.send(());
        }
        Event::Snapshot(reply) => {
            let _ = reply.send(applied.clone());
        }
    }
}

fn apply(world: &World, node: usize, applied: &mut Applied, entry: &Committed) {
    let expected = applied.last.map_or(0, |l| l.index + 1);
    if entry.index != expected {
        world.record.problem(
            world.now_us(),
            format!(
                "n{node} was given entry {} after {expected} - 1",
                entry.index
            ),
        );
    }
    let mut chain = Fnv::new();
    chain.update(&applied.chain.to_le_bytes());
    chain.update(&entry.index.to_le_bytes());
    chain.update(&entry.term.to_le_bytes());
    if let Some(payload) = &entry.payload {
        chain.update(payload);
        match std::str::from_utf8(payload).ok().and_then(codec::get_ops) {
            Some(ops) => ops.iter().for_each(|(object, op)| {
                applied.states.entry(*object).or_default().run(op);
            }),
            None => world.record.problem(
                world.now_us(),
                format!("n{node} was given garbage at {}", entry.index),
            ),
        }
    }
    applied.chain = chain.finish();
    applied.last = Some(entry.id());
}
