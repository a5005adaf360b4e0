//! `SCAN` and `KEYS`: walking through all keys of a database.
//!
//! A cursor holds the table's cursor in its high bits and, in a cluster, the slot in its low 14 bits, as in Valkey.

use crate::args;
use crate::call::{Call, CmdError, CmdResult, DONE, Mode};
use crate::engine::{Engine, is_live};
use crate::glob;
use crate::slots::{SLOTS, crc16};
use crate::spec::{Acl, Command, CommandSpec, Flags, Group};
use crate::value::Type;
use holdfast_resp::write;
use std::ops::RangeInclusive;

const SLOT_BITS: u32 = SLOTS.trailing_zeros();

/// The one slot that a pattern without wildcards in its hash tag (or anywhere) can match.
pub(super) fn pattern_slot(pattern: &[u8]) -> Option<u16> {
    let mut open = None;
    for (i, b) in pattern.iter().enumerate() {
        match (b, open) {
            (b'*' | b'?' | b'[' | b'\\', _) => return None,
            (b'{', None) => open = Some(Some(i)),
            (b'}', Some(Some(start))) if i == start + 1 => open = Some(None),
            (b'}', Some(Some(start))) => {
                let tag = pattern.get(start + 1..i).unwrap_or_default();
                return Some(crc16(tag) % SLOTS);
            }
            _ => {}
        }
    }
    Some(crc16(pattern) % SLOTS)
}

fn type_named(name: &[u8]) -> Option<Type> {
    [
        Type::Str,
        Type::List,
        Type::Set,
        Type::Zset,
        Type::Hash,
        Type::Stream,
    ]
    .into_iter()
    .find(|t| t.name().as_bytes().eq_ignore_ascii_case(name))
}

/// What `SCAN` and `CLUSTERSCAN` are asked for.
pub(super) struct ScanOptions<'a> {
    count: u64,
    pattern: Option<&'a [u8]>,
    ty: Option<Type>,
    /// `SLOT`, of `CLUSTERSCAN`.
    pub slot: Option<u16>,
}

impl<'a> ScanOptions<'a> {
    /// Reads the options from argument 2 on.
    pub fn parse(call: &Call<'a>, with_slot: bool) -> Result<Self, CmdError> {
        let mut options = ScanOptions {
            count: 10,
            pattern: None,
            ty: None,
            slot: None,
        };
        let mut i = 2;
        while i < call.argv.len() {
            let more = i + 1 < call.argv.len();
            if call.arg_is(i, "COUNT") && more {
                options.count = u64::try_from(call.int_arg(i + 1)?)
                    .ok()
                    .filter(|n| *n > 0)
                    .ok_or(CmdError::SYNTAX)?;
            } else if call.arg_is(i, "MATCH") && more {
                options.pattern = Some(call.arg(i + 1)).filter(|p| *p != b"*");
            } else if call.arg_is(i, "TYPE") && more {
                let unknown = || {
                    let name = String::from_utf8_lossy(call.arg(i + 1)).into_owned();
                    CmdError::text(format!("ERR unknown type name '{name}'"))
                };
                options.ty = Some(type_named(call.arg(i + 1)).ok_or_else(unknown)?);
            } else if call.arg_is(i, "NOVALUES") {
                return Err(CmdError::Static(
                    "ERR NOVALUES option can only be used in HSCAN",
                ));
            } else if call.arg_is(i, "NOSCORES") {
                return Err(CmdError::Static(
                    "ERR NOSCORES option can only be used in ZSCAN",
                ));
            } else if with_slot && call.arg_is(i, "SLOT") && more {
                if options.slot.is_some() {
                    return Err(CmdError::Static(
                        "ERR SLOT option can only be specified once",
                    ));
                }
                let slot = holdfast_resp::parse_i64(call.arg(i + 1))
                    .and_then(|n| u16::try_from(n).ok())
                    .filter(|slot| *slot < SLOTS)
                    .ok_or(CmdError::Static("ERR Invalid or out of range slot"))?;
                options.slot = Some(slot);
            } else {
                return Err(CmdError::SYNTAX);
            }
            i += 2;
        }
        Ok(options)
    }

    /// The one slot that the pattern can match, if there is one.
    pub fn pattern_slot(&self) -> Option<u16> {
        self.pattern.and_then(pattern_slot)
    }
}

fn scan(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    let cursor = args::scan_cursor(call, 1)?;
    let options = ScanOptions::parse(call, false)?;
    let only = options.pattern_slot().filter(|_| engine.config().cluster);
    let slots = only.map_or(0..=SLOTS - 1, |slot| slot..=slot);
    let found = walk(engine, call, cursor, slots, &options);
    call.reply_array(2);
    call.reply_bulk(found.cursor.to_string().as_bytes());
    found.reply_keys(call);
    DONE
}

/// What a step of a scan has found.
pub(super) struct Found {
    /// 0 at the end.
    pub cursor: u64,
    keys: Vec<u8>,
    key_count: usize,
}

impl Found {
    /// The keys as an array.
    pub fn reply_keys(&self, call: &mut Call<'_>) {
        call.reply_array(self.key_count);
        call.reply.extend_from_slice(&self.keys);
    }
}

/// One step through the keys of these slots (all of a standalone engine's are in one table).
pub(super) fn walk(
    engine: &mut Engine,
    call: &mut Call<'_>,
    mut cursor: u64,
    slots: RangeInclusive<u16>,
    options: &ScanOptions<'_>,
) -> Found {
    let cluster = engine.config().cluster;
    let (first, last) = (usize::from(*slots.start()), usize::from(*slots.end()));
    let mut keys = Vec::new();
    let mut key_count = 0;
    let mut expired: Vec<Box<[u8]>> = Vec::new();
    let mut looked_at = 0u64;
    let mut steps = options.count.saturating_mul(10);
    while let Some(db) = engine.dbs.get(usize::from(call.db)) {
        let (mut slot, mut at) = if cluster {
            (cursor as usize % usize::from(SLOTS), cursor >> SLOT_BITS)
        } else {
            (0, cursor)
        };
        if slot > last {
            cursor = 0;
            break;
        }
        if slot < first {
            (slot, at) = (first, 0);
        }
        let mut next = 0;
        if let Some(table) = db.table(slot).filter(|_| !engine.is_hidden(slot as u16)) {
            next = table.scan(at, &mut |entry| {
                looked_at += 1;
                let key = entry.key();
                if options.ty.is_some_and(|ty| entry.value().ty() != ty)
                    || options.pattern.is_some_and(|p| !glob::matches(p, key))
                {
                    return;
                }
                if is_live(entry, call) {
                    write::bulk(&mut keys, key);
                    key_count += 1;
                } else {
                    expired.push(key.into());
                }
            });
        }
        if !cluster {
            cursor = next;
        } else if next != 0 {
            cursor = next << SLOT_BITS | slot as u64;
        } else {
            let next_slot = db.next_slot(slot + 1).filter(|slot| *slot <= last);
            cursor = next_slot.map_or(0, |slot| slot as u64);
        }
        if cursor == 0 || looked_at >= options.count || steps == 0 {
            break;
        }
        steps -= 1;
    }
    if call.mode == Mode::Primary {
        for key in expired {
            let place = engine.place(call, &key);
            engine.expire_now(call.db, place, &key, call.fx);
        }
    }
    Found {
        cursor,
        keys,
        key_count,
    }
}

fn keys(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    let pattern = call.arg(1);
    let all = pattern == b"*";
    let only_slot = Some(pattern)
        .filter(|_| engine.config().cluster && !all)
        .and_then(pattern_slot);
    let mut found = Vec::new();
    let mut count = 0;
    if let Some(db) = engine.dbs.get(usize::from(call.db)) {
        let slots = match only_slot {
            Some(slot) => usize::from(slot)..usize::from(slot) + 1,
            None => 0..db.tables_len(),
        };
        for table in slots
            .filter(|slot| !engine.is_hidden(*slot as u16))
            .filter_map(|slot| db.table(slot))
        {
            table.for_each(&mut |entry| {
                if (all || glob::matches(pattern, entry.key())) && is_live(entry, call) {
                    write::bulk(&mut found, entry.key());
                    count += 1;
                }
            });
        }
    }
    call.reply_array(count);
    call.reply.extend_from_slice(&found);
    DONE
}

/// The rows.
pub const COMMANDS: &[Command] = &[
    Command::new(
        CommandSpec {
            name: "scan",
            arity: -2,
            flags: Flags::READONLY.and(Flags::TOUCHES_ARBITRARY_KEYS),
            categories: Acl::KEYSPACE,
            group: Group::Generic,
            since: "2.8.0",
            complexity: "O(1) for every call. O(N) for a complete iteration, including enough command calls for the cursor to return back to 0. N is the number of elements inside the collection.",
            summary: "Iterates over the key names in the database.",
            args: "cursor:int [MATCH=pattern:pattern] [COUNT=count:int] [TYPE=type@6.0.0]",
            tips: &[
                "nondeterministic_output",
                "request_policy:special",
                "response_policy:special",
            ],
            history: &[("6.0.0", "Added the `TYPE` subcommand.")],
            ..CommandSpec::EMPTY
        },
        scan,
    ),
    Command::new(
        CommandSpec {
            name: "keys",
            arity: 2,
            flags: Flags::READONLY,
            categories: Acl::DANGEROUS.and(Acl::KEYSPACE),
            group: Group::Generic,
            since: "1.0.0",
            complexity: "O(N) with N being the number of keys in the database, under the assumption that the key names in the database and the given pattern have limited length.",
            summary: "Returns all key names that match a pattern.",
            args: "pattern:pattern",
            tips: &["request_policy:all_shards", "nondeterministic_output_order"],
            ..CommandSpec::EMPTY
        },
        keys,
    ),
];
