//! Strings, lists, sets and sorted sets as simply as they can be written: what the engine is compared with.

use std::collections::{BTreeMap, BTreeSet};

/// A value. Scores are counted in halves, so that they compare and add up exactly.
#[derive(Clone, Debug, PartialEq)]
pub enum Held {
    Str(String),
    List(Vec<String>),
    Set(BTreeSet<String>),
    Zset(BTreeMap<String, i64>),
}

/// A key's value, and when it expires.
#[derive(Clone, Debug, PartialEq)]
pub struct Key {
    pub held: Held,
    pub expires_ms: Option<u64>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Model {
    pub keys: BTreeMap<String, Key>,
}

/// The reply to a command on a key of another type.
const WRONG: &str = "error: WRONGTYPE Operation against a key holding the wrong kind of value";

type Answer = Result<String, &'static str>;

/// What a type needs so that commands find or create it.
trait Kind: Sized {
    fn empty() -> Held;
    fn of(held: &mut Held) -> Option<&mut Self>;
}

macro_rules! kind {
    ($variant:ident, $inner:ty) => {
        impl Kind for $inner {
            fn empty() -> Held {
                Held::$variant(Default::default())
            }

            fn of(held: &mut Held) -> Option<&mut Self> {
                match held {
                    Held::$variant(inner) => Some(inner),
                    _ => None,
                }
            }
        }
    };
}

kind!(Str, String);
kind!(List, Vec<String>);
kind!(Set, BTreeSet<String>);
kind!(Zset, BTreeMap<String, i64>);

fn halves(text: &str) -> i64 {
    (text.parse::<f64>().unwrap() * 2.0) as i64
}

fn score(halves: i64) -> String {
    (halves as f64 / 2.0).to_string()
}

fn joined<T: AsRef<str>>(words: impl IntoIterator<Item = T>) -> String {
    let words: Vec<String> = words.into_iter().map(|w| w.as_ref().to_string()).collect();
    words.join(" ")
}

fn flag(on: bool) -> String {
    u8::from(on).to_string()
}

/// A range of indices as clients write it, negative ones from the end.
fn range(len: usize, from: &str, to: &str) -> std::ops::Range<usize> {
    let at = |text: &str| {
        let n: i64 = text.parse().unwrap();
        if n < 0 { n + len as i64 } else { n }
    };
    let from = at(from).max(0) as usize;
    let to = (at(to) + 1).clamp(0, len as i64) as usize;
    from.min(to)..to
}

fn ordered(zset: &BTreeMap<String, i64>) -> Vec<(String, i64)> {
    let mut all: Vec<_> = zset.iter().map(|(m, s)| (m.clone(), *s)).collect();
    all.sort_by(|a, b| (a.1, &a.0).cmp(&(b.1, &b.0)));
    all
}

fn with_scores(all: &[(String, i64)]) -> String {
    joined(all.iter().flat_map(|(m, s)| [m.clone(), score(*s)]))
}

impl Model {
    /// Forgets what has expired.
    pub fn expire(&mut self, now_ms: u64) {
        self.keys
            .retain(|_, key| key.expires_ms.is_none_or(|at| at >= now_ms));
    }

    fn get<T: Kind>(&mut self, key: &str) -> Result<Option<&mut T>, &'static str> {
        match self.keys.get_mut(key) {
            None => Ok(None),
            Some(key) => T::of(&mut key.held).map(Some).ok_or(WRONG),
        }
    }

    fn get_or_new<T: Kind>(&mut self, key: &str) -> Result<&mut T, &'static str> {
        let new = || Key {
            held: T::empty(),
            expires_ms: None,
        };
        let key = self.keys.entry(key.into()).or_insert_with(new);
        T::of(&mut key.held).ok_or(WRONG)
    }

    fn copy_of<T: Kind + Clone + Default>(&mut self, key: &str) -> Result<T, &'static str> {
        Ok(self.get::<T>(key)?.cloned().unwrap_or_default())
    }

    /// A sorted set, or a set as one whose scores are 1.
    fn scored(&mut self, key: &str) -> Result<BTreeMap<String, i64>, &'static str> {
        if let Some(Held::Set(set)) = self.keys.get(key).map(|key| &key.held) {
            return Ok(set.iter().map(|m| (m.clone(), 2)).collect());
        }
        self.copy_of(key)
    }

    /// Puts a value in, without expiry; an empty one is none.
    fn put(&mut self, key: &str, held: Held) {
        let expires_ms = None;
        self.keys.insert(key.into(), Key { held, expires_ms });
        self.drop_empty(key);
    }

    fn drop_empty(&mut self, key: &str) {
        let is_empty = match self.keys.get(key).map(|key| &key.held) {
            None | Some(Held::Str(_)) => false,
            Some(Held::List(v)) => v.is_empty(),
            Some(Held::Set(v)) => v.is_empty(),
            Some(Held::Zset(v)) => v.is_empty(),
        };
        if is_empty {
            self.keys.remove(key);
        }
    }

    /// Executes a command that draws nothing, and gives the reply as the engine should.
    pub fn run(&mut self, line: &str, now_ms: u64) -> String {
        self.expire(now_ms);
        let words: Vec<&str> = line.split(' ').collect();
        let answer = self.execute(words[0], &words[1..], now_ms);
        if words.len() > 1 {
            self.drop_empty(words[1]);
        }
        answer.unwrap_or_else(str::to_string)
    }

    fn execute(&mut self, command: &str, args: &[&str], now_ms: u64) -> Answer {
        let key = args[0];
        let int = |at: usize| args[at].parse::<i64>().unwrap();
        Ok(match command {
            "SET" => {
                let expires_ms = match args.get(2).copied() {
                    Some("KEEPTTL") => self.keys.get(key).and_then(|key| key.expires_ms),
                    Some("PX") => Some(now_ms + int(3) as u64),
                    _ => None,
                };
                let held = Held::Str(args[1].into());
                self.keys.insert(key.into(), Key { held, expires_ms });
                "OK".into()
            }
            "GET" => self.get::<String>(key)?.map_or("nil".into(), |v| v.clone()),
            "GETDEL" => {
                let old = self.get::<String>(key)?.map_or("nil".into(), |v| v.clone());
                self.keys.remove(key);
                old
            }
            "APPEND" => {
                let text = self.get_or_new::<String>(key)?;
                text.push_str(args[1]);
                text.len().to_string()
            }
            "SETRANGE" => {
                let at = int(1) as usize;
                let text = self.get_or_new::<String>(key)?;
                let end = at + args[2].len();
                if text.len() < end {
                    text.push_str(&"\0".repeat(end - text.len()));
                }
                text.replace_range(at..end, args[2]);
                text.len().to_string()
            }
            "GETRANGE" => match self.get::<String>(key)? {
                None => String::new(),
                Some(_) if int(1) < 0 && int(2) < 0 && int(1) > int(2) => String::new(),
                Some(text) => {
                    // An end before the first byte is the first byte.
                    let end = int(2).max(-(text.len() as i64)).to_string();
                    text[range(text.len(), args[1], &end)].to_string()
                }
            },
            "INCRBY" => {
                let text = self.get_or_new::<String>(key)?;
                let old: i64 = match &**text {
                    "" => 0,
                    text => text
                        .parse()
                        .ok()
                        .filter(|n: &i64| n.to_string() == text)
                        .ok_or("error: ERR value is not an integer or out of range")?,
                };
                *text = (old + int(1)).to_string();
                text.clone()
            }
            "DEL" => {
                let there = args.iter().filter(|key| self.keys.remove(**key).is_some());
                there.count().to_string()
            }
            "EXISTS" => flag(self.keys.contains_key(key)),
            "TYPE" => match self.keys.get(key).map(|key| &key.held) {
                None => "none",
                Some(Held::Str(_)) => "string",
                Some(Held::List(_)) => "list",
                Some(Held::Set(_)) => "set",
                Some(Held::Zset(_)) => "zset",
            }
            .into(),
            "RENAME" => {
                let value = self.keys.remove(key).ok_or("error: ERR no such key")?;
                self.keys.insert(args[1].into(), value);
                "OK".into()
            }
            "COPY" => {
                if key == args[1] {
                    return Err("error: ERR source and destination objects are the same");
                }
                let value = self.keys.get(key).cloned();
                let there = value.map(|value| self.keys.insert(args[1].into(), value));
                flag(there.is_some())
            }
            "PEXPIREAT" => {
                let at = int(1) as u64;
                let Some(value) = self.keys.get_mut(key) else {
                    return Ok(flag(false));
                };
                value.expires_ms = Some(at);
                if at <= now_ms {
                    self.keys.remove(key);
                }
                flag(true)
            }
            "PERSIST" => {
                let value = self.keys.get_mut(key);
                flag(value.is_some_and(|value| value.expires_ms.take().is_some()))
            }
            "PEXPIRETIME" => match self.keys.get(key).map(|key| key.expires_ms) {
                None => "-2".into(),
                Some(None) => "-1".into(),
                Some(Some(at)) => at.to_string(),
            },
            _ if command.starts_with('Z') => return self.zset(command, key, args),
            _ if command.starts_with('S') => return self.set(command, key, args),
            _ => return self.list(command, key, args),
        })
    }

    fn list(&mut self, command: &str, key: &str, args: &[&str]) -> Answer {
        let int = |at: usize| args[at].parse::<i64>().unwrap();
        Ok(match command {
            "LPUSH" | "RPUSH" => {
                let list = self.get_or_new::<Vec<String>>(key)?;
                for element in &args[1..] {
                    let at = if command == "LPUSH" { 0 } else { list.len() };
                    list.insert(at, element.to_string());
                }
                list.len().to_string()
            }
            "LPOP" | "RPOP" => {
                let Some(list) = self.get::<Vec<String>>(key)? else {
                    return Ok("nil".into());
                };
                let count = (int(1) as usize).min(list.len());
                if command == "LPOP" {
                    joined(list.drain(..count))
                } else {
                    joined(list.drain(list.len() - count..).rev())
                }
            }
            "LLEN" => self
                .get::<Vec<String>>(key)?
                .map_or(0, |v| v.len())
                .to_string(),
            "LINDEX" => {
                let list = self.copy_of::<Vec<String>>(key)?;
                let at = range(list.len(), args[1], "-1");
                let there = int(1) < list.len() as i64 && int(1) >= -(list.len() as i64);
                let found = list.get(at.start).filter(|_| there);
                found.cloned().unwrap_or("nil".into())
            }
            "LSET" => {
                let list = self.get::<Vec<String>>(key)?;
                let list = list.ok_or("error: ERR no such key")?;
                let len = list.len() as i64;
                if !(-len..len).contains(&int(1)) {
                    return Err("error: ERR index out of range");
                }
                list[int(1).rem_euclid(len) as usize] = args[2].into();
                "OK".into()
            }
            "LINSERT" => {
                let Some(list) = self.get::<Vec<String>>(key)? else {
                    return Ok("0".into());
                };
                let Some(at) = list.iter().position(|e| e == args[2]) else {
                    return Ok("-1".into());
                };
                let behind = usize::from(args[1] == "AFTER");
                list.insert(at + behind, args[3].into());
                list.len().to_string()
            }
            "LREM" => {
                let Some(list) = self.get::<Vec<String>>(key)? else {
                    return Ok("0".into());
                };
                let (before, mut left) = (list.len(), int(1).unsigned_abs());
                if int(1) == 0 {
                    left = u64::MAX;
                }
                let mut keep = |e: &String| {
                    let goes = e == args[2] && left > 0;
                    left -= u64::from(goes);
                    !goes
                };
                if int(1) < 0 {
                    list.reverse();
                    list.retain(&mut keep);
                    list.reverse();
                } else {
                    list.retain(&mut keep);
                }
                (before - list.len()).to_string()
            }
            "LTRIM" => {
                if let Some(list) = self.get::<Vec<String>>(key)? {
                    *list = list[range(list.len(), args[1], args[2])].to_vec();
                }
                "OK".into()
            }
            "LRANGE" => {
                let list = self.copy_of::<Vec<String>>(key)?;
                joined(&list[range(list.len(), args[1], args[2])])
            }
            "LMOVE" => {
                let (to, from_left, to_left) = (args[1], args[2] == "LEFT", args[3] == "LEFT");
                if self.get::<Vec<String>>(key)?.is_none() {
                    return Ok("nil".into());
                }
                self.get::<Vec<String>>(to)?;
                let list = self.get_or_new::<Vec<String>>(key)?;
                let at = if from_left { 0 } else { list.len() - 1 };
                let element = list.remove(at);
                if key != to {
                    self.drop_empty(key);
                }
                let list = self.get_or_new::<Vec<String>>(to)?;
                let at = if to_left { 0 } else { list.len() };
                list.insert(at, element.clone());
                element
            }
            other => panic!("{other}"),
        })
    }

    fn set(&mut self, command: &str, key: &str, args: &[&str]) -> Answer {
        Ok(match command {
            "SADD" => {
                let set = self.get_or_new::<BTreeSet<String>>(key)?;
                let new = args[1..].iter().filter(|m| set.insert(m.to_string()));
                new.count().to_string()
            }
            "SREM" => match self.get::<BTreeSet<String>>(key)? {
                None => "0".into(),
                Some(set) => {
                    let gone = args[1..].iter().filter(|m| set.remove(**m));
                    gone.count().to_string()
                }
            },
            "SISMEMBER" => flag(self.copy_of::<BTreeSet<String>>(key)?.contains(args[1])),
            "SCARD" => self.copy_of::<BTreeSet<String>>(key)?.len().to_string(),
            "SMOVE" => {
                let (to, member) = (args[1], args[2]);
                let there = match self.get::<BTreeSet<String>>(key)? {
                    None => return Ok(flag(false)),
                    Some(set) => set.contains(member),
                };
                self.get::<BTreeSet<String>>(to)?;
                if there && key != to {
                    self.get_or_new::<BTreeSet<String>>(key)?.remove(member);
                    let target = self.get_or_new::<BTreeSet<String>>(to)?;
                    target.insert(member.into());
                }
                flag(there)
            }
            "SINTERSTORE" | "SUNIONSTORE" | "SDIFFSTORE" => {
                let mut sets = Vec::new();
                for source in &args[1..] {
                    sets.push(self.copy_of::<BTreeSet<String>>(source)?);
                }
                let first = sets[0].clone();
                let result = sets[1..].iter().fold(first, |all, set| match command {
                    "SINTERSTORE" => &all & set,
                    "SUNIONSTORE" => &all | set,
                    _ => &all - set,
                });
                let len = result.len();
                self.put(key, Held::Set(result));
                len.to_string()
            }
            other => panic!("{other}"),
        })
    }

    fn zset(&mut self, command: &str, key: &str, args: &[&str]) -> Answer {
        type Zset = BTreeMap<String, i64>;
        let bounds = |from: &str, to: &str| {
            let (from, to) = (halves(from), halves(to));
            move |entry: &&(String, i64)| (from..=to).contains(&entry.1)
        };
        Ok(match command {
            "ZADD" => {
                let options: Vec<&str> = args[1..]
                    .iter()
                    .copied()
                    .take_while(|w| ["NX", "XX", "GT", "LT", "CH"].contains(w))
                    .collect();
                let has = |option| options.contains(&option);
                if has("XX") && self.get::<Zset>(key)?.is_none() {
                    return Ok("0".into());
                }
                let zset = self.get_or_new::<Zset>(key)?;
                let (mut added, mut changed) = (0, 0);
                for pair in args[1 + options.len()..].chunks(2) {
                    let new = halves(pair[0]);
                    let refused =
                        |old: i64| has("NX") || has("GT") && new < old || has("LT") && new > old;
                    match zset.get(pair[1]).copied() {
                        None if !has("XX") => {
                            zset.insert(pair[1].into(), new);
                            added += 1;
                        }
                        Some(old) if old != new && !refused(old) => {
                            zset.insert(pair[1].into(), new);
                            changed += 1;
                        }
                        _ => {}
                    }
                }
                let changed = if has("CH") { changed } else { 0 };
                (added + changed).to_string()
            }
            "ZINCRBY" => {
                let zset = self.get_or_new::<Zset>(key)?;
                let entry = zset.entry(args[2].into()).or_default();
                *entry += halves(args[1]);
                score(*entry)
            }
            "ZREM" => match self.get::<Zset>(key)? {
                None => "0".into(),
                Some(zset) => {
                    let gone = args[1..].iter().filter(|m| zset.remove(**m).is_some());
                    gone.count().to_string()
                }
            },
            "ZCARD" => self.copy_of::<Zset>(key)?.len().to_string(),
            "ZSCORE" => {
                let zset = self.copy_of::<Zset>(key)?;
                zset.get(args[1]).map_or("nil".into(), |s| score(*s))
            }
            "ZRANK" => {
                let all = ordered(&self.copy_of::<Zset>(key)?);
                let at = all.iter().position(|(m, _)| m == args[1]);
                at.map_or("nil".into(), |at| at.to_string())
            }
            "ZRANGE" => {
                let all = ordered(&self.copy_of::<Zset>(key)?);
                with_scores(&all[range(all.len(), args[1], args[2])])
            }
            "ZRANGEBYSCORE" => {
                let all = ordered(&self.copy_of::<Zset>(key)?);
                let found = all.iter().filter(bounds(args[1], args[2]));
                joined(found.map(|(m, _)| m))
            }
            "ZREMRANGEBYRANK" | "ZREMRANGEBYSCORE" => {
                let Some(zset) = self.get::<Zset>(key)? else {
                    return Ok("0".into());
                };
                let all = ordered(zset);
                let gone: Vec<(String, i64)> = if command == "ZREMRANGEBYRANK" {
                    all[range(all.len(), args[1], args[2])].to_vec()
                } else {
                    let found = all.iter().filter(bounds(args[1], args[2]));
                    found.cloned().collect()
                };
                for (member, _) in &gone {
                    zset.remove(member);
                }
                gone.len().to_string()
            }
            "ZPOPMIN" | "ZPOPMAX" => {
                let Some(zset) = self.get::<Zset>(key)? else {
                    return Ok(String::new());
                };
                let mut all = ordered(zset);
                if command == "ZPOPMAX" {
                    all.reverse();
                }
                all.truncate(args[1].parse().unwrap());
                for (member, _) in &all {
                    zset.remove(member);
                }
                with_scores(&all)
            }
            "ZUNIONSTORE" | "ZINTERSTORE" => {
                let (a, b) = (self.scored(args[2])?, self.scored(args[3])?);
                let mut result = Zset::new();
                for (member, s) in a.iter().chain(&b) {
                    if command == "ZUNIONSTORE"
                        || (a.contains_key(member) && b.contains_key(member))
                    {
                        *result.entry(member.clone()).or_default() += s;
                    }
                }
                let len = result.len();
                self.put(key, Held::Zset(result));
                len.to_string()
            }
            "ZRANGESTORE" => {
                let all = ordered(&self.copy_of::<Zset>(args[1])?);
                let part = all[range(all.len(), args[2], args[3])].to_vec();
                let len = part.len();
                self.put(key, Held::Zset(part.into_iter().collect()));
                len.to_string()
            }
            other => panic!("{other}"),
        })
    }
}
