//! What the clients do: registers, counters, append-only lists and transactions, each object in a slot of its own.

use super::world::World;
use crate::check::model::Op;
use crate::record::Outcome;
use crate::rng::Rng;
use madsim::time::sleep;
use std::time::Duration;

/// Something that can be asked to do operations.
pub trait Service: Clone + Send + Sync + 'static {
    /// One attempt of one client at one operation.
    fn attempt(&self, client: usize, object: u32, op: &Op) -> impl Future<Output = Outcome> + Send;
}

/// What kind of object a number stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `SET`, `GET`.
    Register,
    /// `SET`, `GET`, `DEL`.
    Deletable,
    /// `INCR`, `GET`.
    Counter,
    /// `RPUSH`, `LRANGE`.
    List,
    /// `MULTI` of two `SET`s or two `GET`s, `EXEC`.
    Pair,
}

impl Kind {
    /// The kind of an object.
    pub fn of(object: u32) -> Kind {
        match object % 6 {
            0 => Kind::Register,
            1 => Kind::Counter,
            2 | 5 => Kind::List,
            3 => Kind::Pair,
            _ => Kind::Deletable,
        }
    }

    /// The operation that shows everything.
    pub fn read(self) -> Op {
        match self {
            Kind::Register | Kind::Deletable | Kind::Counter => Op::Get(0),
            Kind::List => Op::LRange(0),
            Kind::Pair => Op::Txn(vec![Op::Get(0), Op::Get(1)]),
        }
    }

    /// A change; `value` is written by nobody else.
    pub fn write(self, value: u64) -> Op {
        match self {
            Kind::Register | Kind::Deletable => Op::Set(0, value),
            Kind::Counter => Op::Incr(0),
            Kind::List => Op::RPush(0, value),
            Kind::Pair => Op::Txn(vec![Op::Set(0, value), Op::Set(1, value)]),
        }
    }

    fn draw(self, rng: &mut Rng, value: u64, mood: Mood) -> Op {
        match rng.below(10) {
            _ if mood != Mood::Mixed => self.read(),
            0..=4 => self.read(),
            5 if self == Kind::Deletable => Op::Del(0),
            _ => self.write(value),
        }
    }
}

/// What a client is after for a while. One that only reads stays with a node for as long as that answers, also with one
/// that has lost its office; one that writes now and then would wait there, and go elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mood {
    /// Reads and writes.
    Mixed,
    /// Reads one object, over and over.
    Watches(u32),
}

impl Mood {
    fn draw(rng: &mut Rng, objects: u32) -> Mood {
        match rng.below(4) {
            0 => Mood::Watches(favoured(rng, objects)),
            _ => Mood::Mixed,
        }
    }
}

/// One of the objects; squaring favours the first ones, so that some are contended.
fn favoured(rng: &mut Rng, objects: u32) -> u32 {
    let objects = u64::from(objects);
    (rng.below(objects) * rng.below(objects) / objects) as u32
}

/// How often a refused operation is tried again, with pauses of 5–100 ms.
const TRIES: u32 = 60;

/// Does `op`, again while it is refused, and records it as one operation.
pub async fn perform(
    world: &World,
    service: &impl Service,
    rng: &mut Rng,
    client: usize,
    object: u32,
    op: &Op,
) -> Outcome {
    let id = world.record.call(world.now_us(), client, object, op);
    let mut outcome = Outcome::Refused;
    for attempt in 0..TRIES {
        outcome = service.attempt(client, object, op).await;
        if outcome != Outcome::Refused {
            break;
        }
        let most = (5u64 << attempt.min(5)).min(100);
        sleep(Duration::from_millis(rng.range(1, most))).await;
        if world.chaos_over() && attempt > 5 && client != FINISHER {
            break;
        }
    }
    world.record.done(world.now_us(), client, id, &outcome);
    outcome
}

/// One client, until the chaos is over.
pub async fn client(
    world: World,
    service: impl Service,
    client: usize,
    objects: u32,
    mut rng: Rng,
) {
    let mut n = 0;
    let think_us = *rng.pick(&[6_000, 15_000, 40_000]);
    let mut mood = Mood::draw(&mut rng, objects);
    while !world.chaos_over() {
        n += 1;
        if n % 100 == 0 {
            mood = Mood::draw(&mut rng, objects);
        }
        let object = match mood {
            Mood::Watches(object) => object,
            Mood::Mixed => favoured(&mut rng, objects),
        };
        let value = (client as u64 + 1) * 1_000_000 + n;
        let op = Kind::of(object).draw(&mut rng, value, mood);
        perform(&world, &service, &mut rng, client, object, &op).await;
        sleep(Duration::from_micros(rng.range(think_us / 2, think_us * 2))).await;
    }
}

/// The number of the client that looks at everything when all is healed.
pub const FINISHER: usize = 99;

/// How long after healing every object must be writable and readable again.
const PROGRESS_US: u64 = 30_000_000;

/// After healing: every object takes one more write and is read; who cannot in time has lost its liveness.
pub async fn finish(world: World, service: impl Service, objects: u32, mut rng: Rng) {
    let deadline = world.now_us() + PROGRESS_US;
    for object in 0..objects {
        for (i, op) in [
            Kind::of(object).write(u64::from(object) + 1),
            Kind::of(object).read(),
        ]
        .iter()
        .enumerate()
        {
            loop {
                let outcome = perform(&world, &service, &mut rng, FINISHER, object, op).await;
                // A write without an answer may have happened: it is not tried again.
                if matches!(outcome, Outcome::Done(_)) || (i == 0 && outcome == Outcome::Unknown) {
                    break;
                }
                if world.now_us() > deadline {
                    let late = format!(
                        "no progress: {op:?} of object {object} is not answered {}s after healing",
                        PROGRESS_US / 1_000_000
                    );
                    world.record.problem(world.now_us(), late);
                    return;
                }
            }
        }
    }
}
