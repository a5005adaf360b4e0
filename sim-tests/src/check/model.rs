//! What a slot's worth of keys does, sequentially: the specification that histories are held against.

use std::sync::Arc;

/// One key's number within its object; an object's keys share a slot, and operations never cross objects.
pub type Key = u8;

/// One command, or a transaction of several.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    /// `GET`.
    Get(Key),
    /// `SET` to a value; every value is written at most once in a history.
    Set(Key, u64),
    /// `DEL`.
    Del(Key),
    /// `INCR`.
    Incr(Key),
    /// `RPUSH` of one value; every value is pushed at most once in a history.
    RPush(Key, u64),
    /// `LRANGE key 0 -1`.
    LRange(Key),
    /// `MULTI`, these, `EXEC`.
    Txn(Vec<Op>),
}

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Ret {
    /// `+OK`.
    Ok,
    /// Null: no such key.
    Nil,
    /// An integer.
    Int(i64),
    /// A value that was set.
    Value(u64),
    /// All elements of a list.
    List(Vec<u64>),
    /// A transaction's replies.
    Many(Vec<Ret>),
}

/// One operation of one client, with when it was asked and when it was answered.
#[derive(Clone, Debug)]
pub struct Operation {
    /// Its number in the history.
    pub id: u64,
    /// Which object (slot's worth of keys) it is on.
    pub object: u32,
    /// When it was sent, in µs.
    pub call_us: u64,
    /// When its answer came; `None`: no answer, so it may take effect at any time after the call, or never.
    pub ret_us: Option<u64>,
    /// What was asked.
    pub op: Op,
    /// The answer, `None` exactly when `ret_us` is.
    pub ret: Option<Ret>,
}

/// What a key holds.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Val {
    /// A value that was set.
    Set(u64),
    /// A counter.
    Count(i64),
    /// A list.
    List(Arc<Vec<u64>>),
}

/// What an object holds: key → value, sorted by key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct State(Vec<(Key, Val)>);

impl State {
    fn get(&self, key: Key) -> Option<&Val> {
        self.0.iter().find(|(k, _)| *k == key).map(|(_, v)| v)
    }

    /// All keys with their values.
    pub fn entries(&self) -> impl Iterator<Item = (Key, &Val)> {
        self.0.iter().map(|(k, v)| (*k, v))
    }

    /// Sets a key, whatever it held.
    pub fn insert(&mut self, key: Key, val: Val) {
        self.put(key, Some(val));
    }

    fn put(&mut self, key: Key, val: Option<Val>) {
        self.0.retain(|(k, _)| *k != key);
        if let Some(val) = val {
            let at = self.0.partition_point(|(k, _)| *k < key);
            self.0.insert(at, (key, val));
        }
    }

    /// Does `op` and returns its answer.
    pub fn run(&mut self, op: &Op) -> Ret {
        match op {
            Op::Get(k) => match self.get(*k) {
                None => Ret::Nil,
                Some(Val::Set(v)) => Ret::Value(*v),
                Some(Val::Count(n)) => Ret::Int(*n),
                Some(Val::List(_)) => Ret::Nil,
            },
            Op::Set(k, v) => {
                self.put(*k, Some(Val::Set(*v)));
                Ret::Ok
            }
            Op::Del(k) => {
                let was = self.get(*k).is_some();
                self.put(*k, None);
                Ret::Int(i64::from(was))
            }
            Op::Incr(k) => {
                let n = match self.get(*k) {
                    Some(Val::Count(n)) => n + 1,
                    _ => 1,
                };
                self.put(*k, Some(Val::Count(n)));
                Ret::Int(n)
            }
            Op::RPush(k, v) => {
                let mut list = match self.get(*k) {
                    Some(Val::List(l)) => l.as_ref().clone(),
                    _ => Vec::new(),
                };
                list.push(*v);
                let len = list.len() as i64;
                self.put(*k, Some(Val::List(Arc::new(list))));
                Ret::Int(len)
            }
            Op::LRange(k) => match self.get(*k) {
                Some(Val::List(l)) => Ret::List(l.as_ref().clone()),
                _ => Ret::List(Vec::new()),
            },
            Op::Txn(ops) => Ret::Many(ops.iter().map(|op| self.run(op)).collect()),
        }
    }
}

impl Op {
    /// Whether it changes nothing.
    pub fn is_read(&self) -> bool {
        match self {
            Op::Get(_) | Op::LRange(_) => true,
            Op::Set(..) | Op::Del(_) | Op::Incr(_) | Op::RPush(..) => false,
            Op::Txn(ops) => ops.iter().all(Op::is_read),
        }
    }

    /// Calls `f` for this operation, or for each one of a transaction.
    pub fn each(&self, f: &mut impl FnMut(&Op)) {
        match self {
            Op::Txn(ops) => ops.iter().for_each(|op| op.each(f)),
            single => f(single),
        }
    }
}

impl Ret {
    /// Calls `f` for every written value that this answer shows.
    pub fn each_value(&self, f: &mut impl FnMut(u64)) {
        match self {
            Ret::Value(v) => f(*v),
            Ret::List(l) => l.iter().for_each(|v| f(*v)),
            Ret::Many(m) => m.iter().for_each(|r| r.each_value(f)),
            Ret::Ok | Ret::Nil | Ret::Int(_) => {}
        }
    }
}
