//! Clients that follow redirections, as every cluster client does.

use super::resp::{Conn, NoReply, argv, text};
use super::workload::{Kind, Service};
use super::world::World;
use crate::check::model::{Op, Ret};
use crate::record::Outcome;
use crate::rng::Rng;
use holdfast_resp::reply::Reply;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

/// The port that clients use, on every node.
pub const PORT: u16 = 7000;

/// How long a client waits for an answer; longer than `durability-timeout`, so that `-UNCERTAIN` is seen as well.
const PATIENCE: Duration = Duration::from_millis(4_000);

/// All clients of a run; clones share the connections.
#[derive(Clone)]
pub struct Clients {
    world: World,
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    rng: Rng,
    conns: BTreeMap<(usize, SocketAddr), Conn>,
    /// Which node each client takes for an object's owner.
    owner: BTreeMap<(usize, u32), SocketAddr>,
    /// Where to ask once, with `ASKING`.
    ask: BTreeMap<(usize, u32), SocketAddr>,
}

/// What a reply means for the attempt.
enum Meaning {
    Answer,
    Moved(SocketAddr),
    Ask(SocketAddr),
    NotNow,
    Open,
    Strange,
}

impl Clients {
    /// Clients of `world`.
    pub fn new(world: World, rng: Rng) -> Clients {
        let inner = Inner {
            rng,
            conns: BTreeMap::new(),
            owner: BTreeMap::new(),
            ask: BTreeMap::new(),
        };
        Clients {
            world,
            inner: Arc::new(Mutex::new(inner)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn any_node(&self, inner: &mut Inner) -> SocketAddr {
        let data = self.world.plan.shards * self.world.plan.data_nodes;
        SocketAddr::new(self.world.machine(inner.rng.index(data)).ip, PORT)
    }

    /// Some data node.
    pub fn any(&self) -> SocketAddr {
        self.any_node(&mut self.lock())
    }

    /// Sends commands to one node over the client's connection to it, which is made if need be.
    ///
    /// # Errors
    /// [`NoReply`].
    pub async fn send(
        &self,
        client: usize,
        to: SocketAddr,
        commands: &[Vec<String>],
    ) -> Result<Vec<Reply>, NoReply> {
        let known = self.lock().conns.remove(&(client, to));
        let mut conn = match known {
            Some(conn) => conn,
            None => Conn::open(to, Duration::from_millis(800)).await?,
        };
        if self.lock().rng.chance(0.003) {
            // A connection that is reset under way: what was sent may still arrive.
            conn.abandon(commands).await;
            return Err(NoReply::Sent);
        }
        let replies = conn.call(commands, PATIENCE).await?;
        self.lock().conns.insert((client, to), conn);
        Ok(replies)
    }

    /// One command to one node, for operators; the reply as text.
    pub async fn tell(&self, to: SocketAddr, words: &[&str]) -> Option<String> {
        let replies = self.send(usize::MAX, to, &[argv(words)]).await.ok()?;
        replies.first().map(text)
    }

    /// Which node owns the object, as far as the redirections tell.
    pub async fn owner_of(&self, object: u32) -> Option<SocketAddr> {
        let mut at = self.any_node(&mut self.lock());
        for _ in 0..4 {
            let replies = self
                .send(usize::MAX, at, &[argv(&["TYPE", &key(object, 0)])])
                .await
                .ok()?;
            match meaning(replies.first()?) {
                Meaning::Answer => return Some(at),
                Meaning::Moved(to) => at = to,
                _ => return None,
            }
        }
        None
    }
}

/// A key's name; the hash tag puts all keys of an object into one slot.
pub fn key(object: u32, key: u8) -> String {
    format!("{{o{object}}}:{key}")
}

fn words(object: u32, op: &Op) -> Vec<String> {
    let own = |k: &u8| key(object, *k);
    match op {
        Op::Get(k) => argv(&["GET", &own(k)]),
        Op::Set(k, v) => argv(&["SET", &own(k), &v.to_string()]),
        Op::Del(k) => argv(&["DEL", &own(k)]),
        Op::Incr(k) => argv(&["INCR", &own(k)]),
        Op::RPush(k, v) => argv(&["RPUSH", &own(k), &v.to_string()]),
        Op::LRange(k) => argv(&["LRANGE", &own(k), "0", "-1"]),
        Op::Txn(_) => Vec::new(),
    }
}

fn number(reply: &Reply) -> Option<u64> {
    std::str::from_utf8(reply.as_bytes()?).ok()?.parse().ok()
}

/// The reply as the model has it.
fn ret(object: u32, op: &Op, reply: &Reply) -> Option<Ret> {
    Some(match (op, reply) {
        (Op::Get(_), Reply::Null) => Ret::Nil,
        (Op::Get(_), value) if Kind::of(object) == Kind::Counter => {
            Ret::Int(i64::try_from(number(value)?).ok()?)
        }
        (Op::Get(_), value) => Ret::Value(number(value)?),
        (Op::Set(..), reply) if reply.is_ok() => Ret::Ok,
        (Op::Del(_) | Op::Incr(_) | Op::RPush(..), Reply::Int(n)) => Ret::Int(*n),
        (Op::LRange(_), Reply::Array(items)) => {
            Ret::List(items.iter().map(number).collect::<Option<_>>()?)
        }
        (Op::Txn(ops), Reply::Array(items)) if ops.len() == items.len() => {
            let each = ops
                .iter()
                .zip(items)
                .map(|(op, reply)| ret(object, op, reply));
            Ret::Many(each.collect::<Option<_>>()?)
        }
        _ => return None,
    })
}

fn meaning(reply: &Reply) -> Meaning {
    let Reply::Error(error) = reply else {
        return Meaning::Answer;
    };
    let error = String::from_utf8_lossy(error);
    let mut parts = error.split(' ');
    let code = parts.next().unwrap_or_default();
    let address = parts.nth(1).and_then(|a| a.parse().ok());
    match (code, address) {
        ("MOVED", Some(to)) => Meaning::Moved(to),
        ("ASK", Some(to)) => Meaning::Ask(to),
        ("UNCERTAIN", _) => Meaning::Open,
        (
            "TRYAGAIN" | "CLUSTERDOWN" | "LOADING" | "READONLY" | "MISCONF" | "NOREPLICAS"
            | "EXECABORT" | "MOVED",
            _,
        ) => Meaning::NotNow,
        _ => Meaning::Strange,
    }
}

impl Service for Clients {
    async fn attempt(&self, client: usize, object: u32, op: &Op) -> Outcome {
        let (to, asking) = {
            let mut inner = self.lock();
            match inner.ask.remove(&(client, object)) {
                Some(to) => (to, true),
                None => {
                    let any = self.any_node(&mut inner);
                    // Now and then a client has an old map, or none, and asks whomever it finds.
                    if inner.rng.chance(0.02) {
                        inner.owner.remove(&(client, object));
                    }
                    (
                        inner.owner.get(&(client, object)).copied().unwrap_or(any),
                        false,
                    )
                }
            }
        };
        let mut commands = Vec::new();
        if asking {
            commands.push(argv(&["ASKING"]));
        }
        match op {
            Op::Txn(ops) => {
                commands.push(argv(&["MULTI"]));
                commands.extend(ops.iter().map(|op| words(object, op)));
                commands.push(argv(&["EXEC"]));
            }
            op => commands.push(words(object, op)),
        }
        let replies = match self.send(client, to, &commands).await {
            Ok(replies) => replies,
            Err(e) => {
                self.lock().owner.remove(&(client, object));
                return match e {
                    NoReply::Unsent => Outcome::Refused,
                    NoReply::Sent if op.is_read() => Outcome::Refused,
                    NoReply::Sent => Outcome::Unknown,
                };
            }
        };
        // In a transaction the redirection answers a queued command, and EXEC only says that it was aborted.
        let telling = replies
            .iter()
            .find(|r| matches!(meaning(r), Meaning::Moved(_) | Meaning::Ask(_)));
        let Some(last) = replies.last() else {
            return Outcome::Unknown;
        };
        let mut inner = self.lock();
        match meaning(telling.unwrap_or(last)) {
            Meaning::Answer => {
                inner.owner.insert((client, object), to);
                drop(inner);
                match ret(object, op, last) {
                    Some(ret) => Outcome::Done(ret),
                    None => {
                        self.world.record.problem(
                            self.world.now_us(),
                            format!("{op:?} on object {object} was answered {}", text(last)),
                        );
                        Outcome::Unknown
                    }
                }
            }
            Meaning::Moved(to) => {
                inner.owner.insert((client, object), to);
                Outcome::Refused
            }
            Meaning::Ask(to) => {
                inner.ask.insert((client, object), to);
                Outcome::Refused
            }
            Meaning::NotNow => {
                inner.owner.remove(&(client, object));
                Outcome::Refused
            }
            Meaning::Open => Outcome::Unknown,
            Meaning::Strange => {
                inner.owner.remove(&(client, object));
                drop(inner);
                self.world.note(format_args!(
                    "strange answer to {op:?}: {:.120}",
                    text(last)
                ));
                Outcome::Unknown
            }
        }
    }
}
