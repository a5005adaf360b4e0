//! `CLUSTER SLOT-STATS`.

use crate::executor::{ConnId, Executor, SlotTraffic};
use holdfast_engine::SLOTS;
use holdfast_resp::{Proto, parse_i64, write};

const BAD_SLOT: &str = "ERR Invalid or out of range slot";
const BAD_LIMIT: &str = "ERR Limit has to lie in between 1 and 16384 (maximum number of slots).";

/// One slot of this node's shard.
struct SlotStats {
    slot: u16,
    keys: u64,
    /// What is counted only when asked for.
    traffic: Option<SlotTraffic>,
}

impl SlotStats {
    fn figures(&self) -> Vec<(&'static str, u64)> {
        let mut figures = vec![("key-count", self.keys)];
        if let Some(t) = self.traffic {
            figures.extend([
                ("cpu-usec", t.ns / 1000),
                ("network-bytes-in", t.bytes_in),
                ("network-bytes-out", t.bytes_out),
            ]);
        }
        figures
    }

    fn write(&self, out: &mut Vec<u8>, proto: Proto) {
        write::array(out, 2);
        write::int(out, i64::from(self.slot));
        let figures = self.figures();
        write::map(out, proto, figures.len());
        for (name, n) in figures {
            write::bulk(out, name.as_bytes());
            write::int(out, n as i64);
        }
    }
}

pub(super) fn slot_stats(ex: &mut Executor, id: ConnId, argv: &[&[u8]]) {
    if !ex.settings.cluster_enabled {
        return ex.reply_error(id, "ERR This instance has cluster support disabled");
    }
    let is = |word: &[u8], name: &str| word.eq_ignore_ascii_case(name.as_bytes());
    let chosen = match argv {
        [_, _, by, first, last] if is(by, "slotsrange") => in_range(ex, first, last),
        [_, _, by, metric, options @ ..] if is(by, "orderby") => ordered(ex, metric, options),
        _ => return super::wrong_arguments(ex, id, argv),
    };
    match chosen {
        Ok(slots) => {
            let c = &mut ex.conns[id];
            write::array(&mut c.out.buf, slots.len());
            for slot in &slots {
                slot.write(&mut c.out.buf, c.proto);
            }
        }
        Err(text) => ex.reply_error(id, &text),
    }
}

/// Those of the slots that this node's shard has.
fn stats_of(ex: &Executor, slots: impl Iterator<Item = u16>) -> Vec<SlotStats> {
    let Some(routing) = &ex.routing else {
        return Vec::new();
    };
    let traffic = ex.observer.slots();
    let ours = |slot: &u16| {
        let owner = routing.owner(*slot);
        owner.is_some_and(|o| o.node == routing.me || routing.primary == Some(o.node))
    };
    slots
        .filter(ours)
        .map(|slot| SlotStats {
            slot,
            keys: ex.engine.slot_count(slot) as u64,
            traffic: traffic.map(|t| t[usize::from(slot)]),
        })
        .collect()
}

fn in_range(ex: &Executor, first: &[u8], last: &[u8]) -> Result<Vec<SlotStats>, String> {
    let slot = |word| {
        let slot = parse_i64(word).and_then(|n| u16::try_from(n).ok());
        slot.filter(|s| *s < SLOTS).ok_or(BAD_SLOT)
    };
    let (first, last) = (slot(first)?, slot(last)?);
    if first > last {
        return Err(format!(
            "ERR Start slot number {first} is greater than end slot number {last}"
        ));
    }
    Ok(stats_of(ex, first..=last))
}

fn ordered(ex: &Executor, metric: &[u8], options: &[&[u8]]) -> Result<Vec<SlotStats>, String> {
    let mut all = stats_of(ex, 0..SLOTS);
    let metrics = SlotStats {
        slot: 0,
        keys: 0,
        traffic: ex.observer.slots().map(|_| SlotTraffic::default()),
    };
    let metric = metrics
        .figures()
        .iter()
        .position(|(name, _)| name.as_bytes().eq_ignore_ascii_case(metric))
        .ok_or("ERR Unrecognized sort metric for ORDERBY.")?;
    let (mut limit, mut descending) = (None, None);
    let mut rest = options;
    loop {
        let again = match rest {
            [] => break,
            [word, n, more @ ..] if word.eq_ignore_ascii_case(b"limit") => {
                rest = more;
                let n = parse_i64(n).filter(|n| (1..=i64::from(SLOTS)).contains(n));
                limit.replace(n.ok_or(BAD_LIMIT)?).is_some()
            }
            [word, more @ ..] if word.eq_ignore_ascii_case(b"asc") => {
                rest = more;
                descending.replace(false).is_some()
            }
            [word, more @ ..] if word.eq_ignore_ascii_case(b"desc") => {
                rest = more;
                descending.replace(true).is_some()
            }
            _ => return Err("ERR syntax error".into()),
        };
        if again {
            return Err("ERR Multiple filters of the same type are disallowed.".into());
        }
    }
    // Equal ones stay in order of their slots.
    all.sort_by_key(|s| {
        let n = s.figures()[metric].1;
        if descending.unwrap_or(true) {
            u64::MAX - n
        } else {
            n
        }
    });
    all.truncate(limit.map_or(usize::from(SLOTS), |n| n as usize));
    Ok(all)
}
