//! The filters of `CLIENT LIST` and `CLIENT KILL`.

use super::client::{address_of, flags_of, kind_of};
use crate::executor::{Connection, Executor};
use holdfast_resp::parse_i64;
use std::collections::BTreeSet;

/// One condition.
enum Condition {
    Ids(BTreeSet<u64>),
    Kind(&'static str),
    User,
    Addr(Vec<u8>),
    Laddr(Vec<u8>),
    Ip(Vec<u8>),
    Name(Vec<u8>),
    LibName(Vec<u8>),
    LibVer(Vec<u8>),
    Flags(String),
    /// Letters of capabilities; there is one, `r`.
    Capa(Vec<u8>),
    MaxAge(u64),
    Idle(u64),
    Db(u16),
}

/// Which clients are meant: those for which all conditions hold, or, for the second half of the pair, do not.
#[derive(Default)]
pub(super) struct Filter {
    conditions: Vec<(Condition, bool)>,
    /// Whether the client that asks is left out.
    pub skip_me: Option<bool>,
}

const SYNTAX: &str = "ERR syntax error";

fn kind_by_name(word: &[u8]) -> Option<&'static str> {
    match word.to_ascii_lowercase().as_slice() {
        b"normal" => Some("normal"),
        b"pubsub" => Some("pubsub"),
        b"replica" | b"slave" => Some("replica"),
        b"primary" | b"master" => Some("primary"),
        _ => None,
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A whole number above zero, for the option `what`.
fn positive(word: &[u8], what: &str) -> Result<u64, String> {
    let n =
        parse_i64(word).ok_or_else(|| format!("ERR {what} is not an integer or out of range"))?;
    above_zero(n, what)
}

fn above_zero(n: i64, what: &str) -> Result<u64, String> {
    u64::try_from(n)
        .ok()
        .filter(|n| *n > 0)
        .ok_or_else(|| format!("ERR {what} should be greater than 0"))
}

impl Filter {
    /// The clients from this address.
    pub fn of_address(address: &[u8]) -> Filter {
        Filter {
            conditions: vec![(Condition::Addr(address.to_vec()), true)],
            skip_me: None,
        }
    }

    /// Reads `ID n… TYPE t …`, each possibly with `NOT-` in front.
    pub fn parse(ex: &Executor, args: &[&[u8]]) -> Result<Filter, String> {
        let mut f = Filter::default();
        let mut args = args.iter().peekable();
        while let Some(option) = args.next() {
            let option = option.to_ascii_lowercase();
            let (word, holds) = match option.strip_prefix(b"not-") {
                Some(rest) if !matches!(rest, b"skipme" | b"maxage" | b"idle") => (rest, false),
                _ => (option.as_slice(), true),
            };
            if word == b"id" {
                let mut ids = BTreeSet::new();
                while let Some(n) = args.peek().and_then(|a| parse_i64(a)) {
                    ids.insert(above_zero(n, "client-id")?);
                    args.next();
                }
                f.add(Condition::Ids(ids), holds);
                continue;
            }
            let value = args.next().ok_or(SYNTAX)?;
            let condition = match word {
                b"type" => {
                    let kind = kind_by_name(value);
                    let unknown = || format!("ERR Unknown client type '{}'", text(value));
                    Condition::Kind(kind.ok_or_else(unknown)?)
                }
                b"user" if *value == b"default" => Condition::User,
                b"user" => return Err(format!("ERR No such user '{}'", text(value))),
                b"addr" => Condition::Addr(value.to_vec()),
                b"laddr" => Condition::Laddr(value.to_vec()),
                b"ip" => Condition::Ip(value.to_vec()),
                b"name" => Condition::Name(value.to_vec()),
                b"lib-name" => Condition::LibName(value.to_vec()),
                b"lib-ver" => Condition::LibVer(value.to_vec()),
                b"capa" if value.iter().all(|c| *c == b'r') => Condition::Capa(value.to_vec()),
                b"capa" => return Err(unknown("capa", "NOT-CAPA", holds, value)),
                b"flags" if value.iter().all(|c| b"OSMPxbtRBdcuAUreTIiEN".contains(c)) => {
                    Condition::Flags(text(value))
                }
                b"flags" => return Err(unknown("flags", "NOT-FLAGS", holds, value)),
                b"skipme" => {
                    f.skip_me = Some(match value.to_ascii_lowercase().as_slice() {
                        b"yes" => true,
                        b"no" => false,
                        _ => return Err(SYNTAX.into()),
                    });
                    continue;
                }
                b"maxage" => Condition::MaxAge(positive(value, "maxage")?),
                b"idle" => Condition::Idle(positive(value, "idle")?),
                b"db" => Condition::Db(database(ex, value, holds)?),
                _ => return Err(SYNTAX.into()),
            };
            f.add(condition, holds);
        }
        Ok(f)
    }

    /// Ids add up; of every other kind the last counts.
    fn add(&mut self, condition: Condition, holds: bool) {
        let kind = std::mem::discriminant(&condition);
        let mut same = self.conditions.iter_mut();
        let same = same.find(|(c, h)| *h == holds && std::mem::discriminant(c) == kind);
        match (same, condition) {
            (Some((Condition::Ids(earlier), _)), Condition::Ids(ids)) => earlier.extend(ids),
            (Some((earlier, _)), condition) => *earlier = condition,
            (None, condition) => self.conditions.push((condition, holds)),
        }
    }

    pub fn selects(&self, ex: &Executor, c: &Connection) -> bool {
        self.conditions
            .iter()
            .all(|(condition, holds)| condition.is_met(ex, c) == *holds)
    }
}

fn unknown(what: &str, negated: &str, holds: bool, value: &[u8]) -> String {
    let filter = match holds {
        true => "provided",
        false => negated,
    };
    let value = text(value);
    format!("ERR Unknown {what} found in the {filter} filter: {value}")
}

fn database(ex: &Executor, word: &[u8], holds: bool) -> Result<u16, String> {
    let what = match holds {
        true => "DB",
        false => "NOT-DB",
    };
    let n = parse_i64(word)
        .filter(|n| i32::try_from(*n).is_ok())
        .ok_or_else(|| format!("ERR {what} is not an integer or out of range"))?;
    let last = ex.settings.databases - 1;
    u16::try_from(n)
        .ok()
        .filter(|n| *n <= last)
        .ok_or_else(|| format!("ERR {what} number should be between 0 and {last}"))
}

impl Condition {
    fn is_met(&self, ex: &Executor, c: &Connection) -> bool {
        let set_to = |have: &[u8], want: &[u8]| !have.is_empty() && have == want;
        let lib = |which: &str| c.lib.get(which).map_or(&[][..], |v| v);
        match self {
            Condition::Ids(ids) => ids.contains(&c.id),
            Condition::Kind(kind) => *kind == kind_of(c),
            Condition::User => true,
            Condition::Addr(a) => address_of(c, c.info.peer).as_bytes() == &a[..],
            Condition::Laddr(a) => address_of(c, c.info.local).as_bytes() == &a[..],
            Condition::Ip(ip) => c
                .info
                .peer
                .is_some_and(|p| p.ip().to_string().as_bytes() == &ip[..]),
            Condition::Name(name) => set_to(&c.name, name),
            Condition::LibName(name) => set_to(lib("lib-name"), name),
            Condition::LibVer(version) => set_to(lib("lib-ver"), version),
            Condition::Flags(wanted) => {
                let flags = flags_of(c);
                wanted.chars().all(|f| flags.contains(f))
            }
            Condition::Capa(wanted) => wanted.is_empty() || c.capa_redirect,
            Condition::MaxAge(s) => ex.now.unix_ms().saturating_sub(c.created_ms) / 1000 >= *s,
            Condition::Idle(s) => ex.now.mono_ms().saturating_sub(c.last_seen_ms) / 1000 >= *s,
            Condition::Db(db) => *db == c.db,
        }
    }
}
