//! The modelled world: shards with logs, links, a network, clients; and the random choice of what happens next.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use holdfast_slot_migration::{
    Answer, ClaimId, JobId, Limits, LinkMessage, Migrations, NodeId, Now, Request, RequestId,
    ShardId, ShardSlots, SlotRanges, SlotRecord,
};

/// Slots in play; the rest of the 16384 are nobody's.
pub const SLOTS: u16 = 6;

/// A mistake put into the driver, to see that the checks notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mistake {
    /// The target adopts by itself when it is in doubt.
    AdoptInDoubt,
    /// The source answers "aborted" about an undecided job without committing that first.
    AnswerUncommitted,
    /// The source goes on taking writes while the decision is under way.
    NoPause,
    /// The target executes data of a job that it has proposed to abort.
    DataAfterAbort,
    /// A new target primary gives up a staged job without asking.
    AbortInDoubt,
    /// The effects executed during the snapshot are not streamed.
    NoTap,
    /// A hand-off in the older way does not look whether keys are left.
    GiveWithKeys,
}

impl Mistake {
    pub const ALL: [Mistake; 7] = [
        Mistake::AdoptInDoubt,
        Mistake::AnswerUncommitted,
        Mistake::NoPause,
        Mistake::DataAfterAbort,
        Mistake::AbortInDoubt,
        Mistake::NoTap,
        Mistake::GiveWithKeys,
    ];
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    Blank,
    Record(SlotRecord),
    Write { slot: u16, id: u64, client: bool },
    Delete { slot: u16, id: u64 },
}

pub type Data = BTreeMap<u16, BTreeSet<u64>>;

pub struct Shard {
    pub log: Vec<Entry>,
    pub committed: usize,
    pub term: u64,
    /// Whether there is a primary.
    pub up: bool,
    /// As committed.
    pub slots: ShardSlots,
    pub data: Data,
    /// The primary's memory: committed and not yet committed effects.
    pub memory: Data,
    pub migrations: Migrations,
    pub paused: BTreeMap<JobId, SlotRanges>,
    /// Jobs whose effects are streamed.
    pub taps: BTreeSet<JobId>,
    pub snapshots: BTreeMap<JobId, VecDeque<(u16, u64)>>,
    pub streamed: BTreeMap<JobId, u64>,
    pub sent: BTreeMap<JobId, u64>,
    /// Jobs whose link's data is executed, and how much has been.
    pub imports: BTreeMap<JobId, u64>,
    pub gated: BTreeSet<JobId>,
}

pub enum Item {
    Establish,
    Data(u16, u64),
    Message(LinkMessage),
}

pub enum Back {
    Established(Result<(), String>),
    Message(LinkMessage),
}

pub struct Link {
    pub job: JobId,
    pub slots: SlotRanges,
    pub from: usize,
    pub to: usize,
    pub forth: VecDeque<Item>,
    pub back: VecDeque<Back>,
    /// The end has not closed it, and its primary is the one that had it.
    pub from_open: bool,
    pub to_open: bool,
    pub cut: bool,
    /// The target has executed the `ESTABLISH`.
    pub joined: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asker {
    Source(JobId),
    Target(JobId),
    ClaimExport(ClaimId),
    ClaimHandOff(ClaimId),
    ClaimAsk(ClaimId),
}

#[derive(Clone, Debug)]
pub enum Packet {
    Request {
        from: usize,
        term: u64,
        to: usize,
        asker: Asker,
        request: Request,
    },
    Reply {
        to: usize,
        term: u64,
        asker: Asker,
        answer: Result<Answer, String>,
    },
}

#[derive(Clone, Debug, Default)]
pub struct Figures {
    pub hand_offs: u64,
    pub adopted_after_failover: u64,
    pub aborted: u64,
    pub claims_adopted: u64,
    pub acked: u64,
    pub failovers: u64,
}

impl Figures {
    pub fn add(&mut self, other: &Figures) {
        self.hand_offs += other.hand_offs;
        self.adopted_after_failover += other.adopted_after_failover;
        self.aborted += other.aborted;
        self.claims_adopted += other.claims_adopted;
        self.acked += other.acked;
        self.failovers += other.failovers;
    }
}

pub struct World {
    rng: u64,
    pub mistake: Option<Mistake>,
    pub now_ms: u64,
    pub shards: Vec<Shard>,
    pub links: Vec<Link>,
    pub net: Vec<Packet>,
    pub asked: BTreeMap<RequestId, (usize, usize, u64, Asker)>,
    pub acked: BTreeMap<u16, BTreeSet<u64>>,
    pub decided: BTreeSet<JobId>,
    pub broken: Option<String>,
    pub healing: bool,
    pub figures: Figures,
    next_id: u64,
}

pub fn shard_id(i: usize) -> ShardId {
    ShardId([i as u8 + 1; 20])
}

pub fn node_id(i: usize) -> NodeId {
    NodeId([i as u8 + 1; 20])
}

pub fn limits() -> Limits {
    Limits {
        pause_lag_bytes: 3,
        window_bytes: 8,
        backlog_bytes_max: 1000,
        ..Limits::default()
    }
}

impl World {
    pub fn new(seed: u64, mistake: Option<Mistake>) -> World {
        let mut world = World {
            rng: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x1234_5678,
            mistake,
            now_ms: 0,
            shards: Vec::new(),
            links: Vec::new(),
            net: Vec::new(),
            asked: BTreeMap::new(),
            acked: BTreeMap::new(),
            decided: BTreeSet::new(),
            broken: None,
            healing: false,
            figures: Figures::default(),
            next_id: 0,
        };
        let shards = 2 + (seed % 2) as usize;
        for i in 0..shards {
            world.shards.push(Shard {
                log: Vec::new(),
                committed: 0,
                term: 0,
                up: false,
                slots: ShardSlots::new(shard_id(i)),
                data: Data::new(),
                memory: Data::new(),
                migrations: Migrations::new(node_id(i), limits(), 10),
                paused: BTreeMap::new(),
                taps: BTreeSet::new(),
                snapshots: BTreeMap::new(),
                streamed: BTreeMap::new(),
                sent: BTreeMap::new(),
                imports: BTreeMap::new(),
                gated: BTreeSet::new(),
            });
        }
        for slot in 0..SLOTS {
            let slots = SlotRanges::single(slot);
            let owner = usize::from(slot) % shards;
            world.shards[owner]
                .log
                .push(Entry::Record(SlotRecord::Assign { slots }));
        }
        for i in 0..shards {
            world.elect(i);
        }
        world
    }

    pub fn now(&self) -> Now {
        Now {
            mono_ms: self.now_ms,
            unix_s: self.now_ms / 1000,
        }
    }

    fn random(&mut self) -> u64 {
        // SplitMix64.
        self.rng = self.rng.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.rng;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.random() % n.max(1) as u64) as usize
    }

    pub fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    pub fn fresh(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    pub fn fresh_job(&mut self) -> JobId {
        let mut id = [0; 20];
        id[12..].copy_from_slice(&self.fresh().to_be_bytes());
        JobId(id)
    }

    pub fn any_shard(&mut self) -> usize {
        self.below(self.shards.len())
    }

    fn any_slot(&mut self) -> u16 {
        self.below(usize::from(SLOTS)) as u16
    }

    /// Something happens.
    pub fn step(&mut self) {
        let shard = self.any_shard();
        match self.below(100) {
            0..20 => self.commit(shard),
            20..32 => self.client_write(),
            32..52 => self.deliver_on_link(),
            52..60 => self.snapshot_step(shard),
            60..72 => self.deliver_packet(),
            72..80 => {
                self.now_ms += [1, 5, 50, 400][self.below(4)];
                self.tick_all();
            }
            80..83 => self.start_job(shard),
            83..85 => self.deliver_on_link(),
            85..88 => self.open_slot(),
            88..92 => self.move_key(),
            92..94 => self.claim_slot(),
            94 => {
                if self.chance(30) {
                    self.fail_over(shard);
                }
            }
            95 | 96 => {
                if !self.shards[shard].up {
                    self.elect(shard);
                }
            }
            97 => {
                if self.chance(30) {
                    self.cut_link();
                }
            }
            98 if self.chance(20) => {
                // As after FLUSHALL: both sides' jobs fail in the midst of their data.
                let now = self.now();
                self.shards[shard].migrations.on_flushed(now);
                self.drive(shard);
            }
            98 if self.chance(20) => {
                let now = self.now();
                let _ = self.shards[shard].migrations.cancel_all(now);
                self.drive(shard);
            }
            _ => {
                self.now_ms += 3000 * u64::from(self.chance(20));
                self.tick_all();
            }
        }
    }

    /// Faults end; what has been begun must come to an end.
    pub fn heal(&mut self) -> Result<(), String> {
        self.healing = true;
        for round in 0..20_000 {
            for i in 0..self.shards.len() {
                if !self.shards[i].up {
                    self.elect(i);
                }
                self.commit(i);
                self.snapshot_step(i);
            }
            self.deliver_on_link();
            self.deliver_packet();
            if round % 10 == 0 {
                self.now_ms += 100;
                self.tick_all();
                self.finish_open_slots();
            }
            crate::check::always(self)?;
            if self.is_quiet() {
                return Ok(());
            }
        }
        Err(format!("not quiet after healing: {}", self.describe()))
    }

    fn is_quiet(&self) -> bool {
        self.net.is_empty()
            && self.shards.iter().all(|s| {
                s.committed == s.log.len()
                    && s.slots.unfinished().is_empty()
                    && s.slots.all_migrating().next().is_none()
                    && s.slots.all_importing().next().is_none()
                    && s.migrations.poll_timeout().is_none()
            })
    }

    pub fn describe(&self) -> String {
        let mut out = String::new();
        for s in &self.shards {
            out += &format!(
                "\n  shard {} up {} log {}/{} owned {:?} unfinished {:?} migrating {:?} importing {:?} views {:?}",
                s.slots.shard(),
                s.up,
                s.committed,
                s.log.len(),
                s.slots.owned(),
                s.slots.unfinished(),
                s.slots.all_migrating().collect::<Vec<_>>(),
                s.slots.all_importing().collect::<Vec<_>>(),
                s.migrations
                    .views()
                    .iter()
                    .map(|v| (v.state, v.message.clone()))
                    .collect::<Vec<_>>(),
            );
        }
        out
    }

    fn tick_all(&mut self) {
        let now = self.now();
        for i in 0..self.shards.len() {
            if self.shards[i].up {
                self.shards[i].migrations.on_tick(now);
                self.drive(i);
            }
        }
    }

    fn is_paused(&self, shard: usize, slot: u16) -> bool {
        self.shards[shard]
            .paused
            .values()
            .any(|slots| slots.contains(slot))
    }

    /// A client writes to a slot: to its owner, or where `-ASK` sends it.
    fn client_write(&mut self) {
        let slot = self.any_slot();
        let id = self.fresh();
        let shard = self.any_shard();
        let s = &self.shards[shard];
        if !s.up || !s.slots.owns(slot) || self.is_paused(shard, slot) {
            return;
        }
        match s.slots.migrating(slot) {
            None => self.execute(shard, slot, id, true),
            Some(node) => {
                let to = usize::from(node.0[0]) - 1;
                let t = &self.shards[to];
                if t.up && t.slots.importing(slot).is_some() {
                    self.execute(to, slot, id, true);
                }
            }
        }
    }

    fn start_job(&mut self, shard: usize) {
        let target = self.any_shard();
        let (a, b) = (self.any_slot(), self.any_slot());
        let slots = SlotRanges::new(&[(a.min(b), a.max(b))]).unwrap();
        let owned: Vec<(u16, u16)> = slots
            .iter()
            .filter(|&slot| self.shards[shard].slots.owns(slot))
            .map(|slot| (slot, slot))
            .collect();
        let Ok(slots) = SlotRanges::new(&owned) else {
            return;
        };
        let (job, now) = (self.fresh_job(), self.now());
        if self.shards[shard].up {
            let m = &mut self.shards[shard].migrations;
            let _ = m.start(job, slots, shard_id(target), node_id(target), now);
            self.drive(shard);
        }
    }

    /// The older way begins: `SETSLOT … IMPORTING` there, `… MIGRATING` here.
    fn open_slot(&mut self) {
        let (from, to, slot) = (self.any_shard(), self.any_shard(), self.any_slot());
        if from == to || !self.shards[from].up || !self.shards[to].up {
            return;
        }
        if !self.shards[from].slots.owns(slot) || self.is_paused(from, slot) {
            return;
        }
        if self.shards[from].slots.migrating(slot).is_some() {
            return;
        }
        if self.chance(50) {
            let node = node_id(from);
            self.append(to, Entry::Record(SlotRecord::SetImporting { slot, node }));
        } else if self.shards[to].slots.importing(slot) == Some(node_id(from)) {
            let node = node_id(to);
            self.append(from, Entry::Record(SlotRecord::SetMigrating { slot, node }));
        }
    }

    /// A slot that is open between two shards: (slot, from, to).
    fn open_slots(&self) -> Vec<(u16, usize, usize)> {
        let mut out = Vec::new();
        for (from, s) in self.shards.iter().enumerate() {
            for (slot, node) in s.slots.all_migrating() {
                out.push((slot, from, usize::from(node.0[0]) - 1));
            }
        }
        out
    }

    /// `MIGRATE` of one key: deleted here only once the other shard has committed it.
    fn move_key(&mut self) {
        let open = self.open_slots();
        if open.is_empty() {
            return;
        }
        let (slot, from, to) = open[self.below(open.len())];
        if !self.shards[from].up || !self.shards[to].up || self.is_paused(from, slot) {
            return;
        }
        let Some(&id) = self.shards[from]
            .memory
            .get(&slot)
            .and_then(|keys| keys.first())
        else {
            return;
        };
        let there = |data: &Data| data.get(&slot).is_some_and(|keys| keys.contains(&id));
        let t = &self.shards[to];
        if there(&t.data) {
            self.append(from, Entry::Delete { slot, id });
        } else if !there(&t.memory) && t.slots.importing(slot).is_some() {
            self.execute(to, slot, id, true);
        }
    }

    fn claim_slot(&mut self) {
        let open = self.open_slots();
        if open.is_empty() {
            return;
        }
        let (slot, from, to) = open[self.below(open.len())];
        let empty = self.shards[from]
            .memory
            .get(&slot)
            .is_none_or(BTreeSet::is_empty);
        if self.shards[to].up && (empty || self.chance(10)) {
            let now = self.now();
            let m = &mut self.shards[to].migrations;
            let _ = m.claim(SlotRanges::single(slot), shard_id(from), now);
            self.drive(to);
        }
    }

    /// The operator repeats what the older way has left open.
    fn finish_open_slots(&mut self) {
        for (slot, from, to) in self.open_slots() {
            if self.shards[to].slots.importing(slot).is_none() {
                let node = node_id(from);
                self.append(to, Entry::Record(SlotRecord::SetImporting { slot, node }));
            }
            self.move_key();
            let empty = self.shards[from]
                .memory
                .get(&slot)
                .is_none_or(BTreeSet::is_empty);
            if empty {
                self.claim_slot();
            }
        }
        for i in 0..self.shards.len() {
            let importing: Vec<_> = self.shards[i].slots.all_importing().collect();
            for (slot, node) in importing {
                let from = usize::from(node.0[0]) - 1;
                let open = self.shards[from].slots.migrating(slot) == Some(node_id(i));
                let held = self.shards[i]
                    .data
                    .get(&slot)
                    .is_some_and(|keys| !keys.is_empty());
                if !open && !held {
                    self.append(i, Entry::Record(SlotRecord::SetStable { slot }));
                } else if !open && self.shards[from].slots.owns(slot) {
                    let node = node_id(i);
                    self.append(from, Entry::Record(SlotRecord::SetMigrating { slot, node }));
                }
            }
        }
    }
}
