//! Commands on HyperLogLogs.

use super::hll::{self, Corrupt, DENSE_BYTES, Form, REGISTERS};
use crate::call::{Call, CmdError, CmdResult, DONE, Mode};
use crate::engine::{Engine, Ttl};
use crate::events::EventClass;
use crate::evict;
use crate::spec::{Acl, Command, CommandSpec, Flags, Group, Key, KeySpec};
use crate::value::{StrText, ValueRef};
use holdfast_resp::write;

const NOT_HLL: CmdError =
    CmdError::Static("WRONGTYPE Key is not a valid HyperLogLog string value.");

impl From<Corrupt> for CmdError {
    fn from(_: Corrupt) -> CmdError {
        CmdError::Static("INVALIDOBJ Corrupted HLL object detected")
    }
}

/// The HyperLogLog of a key, to read.
fn read<'e>(
    engine: &'e mut Engine,
    call: &mut Call<'_>,
    key: &[u8],
) -> Result<Option<(StrText<'e>, Form)>, CmdError> {
    of_value(engine.lookup_read(call, key))
}

/// As above, for a command that looks before it writes.
fn look<'e>(
    engine: &'e mut Engine,
    call: &mut Call<'_>,
    key: &[u8],
) -> Result<Option<(StrText<'e>, Form)>, CmdError> {
    of_value(engine.look_any(call, key))
}

fn of_value(value: Option<ValueRef<'_>>) -> Result<Option<(StrText<'_>, Form)>, CmdError> {
    let text = match value {
        None => return Ok(None),
        Some(ValueRef::Str(s)) => s.text(),
        Some(_) => return Err(CmdError::WRONG_TYPE),
    };
    let form = hll::form(&text).ok_or(NOT_HLL)?;
    Ok(Some((text, form)))
}

/// Gives a key the bytes of a HyperLogLog; it keeps its expiry.
fn store(engine: &mut Engine, call: &mut Call<'_>, key: &[u8], bytes: &[u8]) {
    let place = engine.place(call, key);
    engine.set_string(call, place, key, bytes, Ttl::Keep);
    change(engine, call, key, |_| {});
}

/// Changes the bytes of a string in place.
fn change(engine: &mut Engine, call: &mut Call<'_>, key: &[u8], f: impl FnOnce(&mut [u8])) {
    let place = engine.place(call, key);
    let how = engine.config.eviction;
    if let Some(mut entry) = engine.live_for_change(call, place, key) {
        evict::accessed(&how, call, &mut entry);
        f(entry.str_mut(0));
    }
}

fn pfadd(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    let key = call.arg(1);
    let elements = call.argv.get(2..).unwrap_or_default();
    let registers = elements.iter().map(|e| hll::register_of(e));
    let bytes_max = engine.config().hll_sparse_bytes_max;
    let updated = match look(engine, call, key)? {
        Some((text, Form::Dense)) => {
            let mut raised: Vec<_> = registers
                .filter(|(i, value)| hll::dense_get(&text, *i) < *value)
                .collect();
            let mut updated = 0;
            if !raised.is_empty() {
                change(engine, call, key, |bytes| {
                    // Two elements may want the same register.
                    raised.retain(|(i, value)| hll::dense_raise(bytes, *i, *value));
                    hll::forget_estimate(bytes);
                    updated = raised.len();
                });
            }
            updated
        }
        sparse => {
            let (mut bytes, mut updated) = match sparse {
                Some((text, _)) => {
                    hll::check_sparse(&text)?;
                    (text.to_vec(), 0)
                }
                None => (hll::empty(), 1),
            };
            for (i, value) in registers {
                let raised = if hll::form(&bytes) == Some(Form::Sparse) {
                    hll::sparse_raise(&mut bytes, i, value, bytes_max)?
                } else {
                    hll::dense_raise(&mut bytes, i, value)
                };
                updated += usize::from(raised);
            }
            if updated > 0 {
                hll::forget_estimate(&mut bytes);
                store(engine, call, key, &bytes);
            }
            updated
        }
    };
    if updated > 0 {
        call.modified(key, updated as u64);
        call.notify(EventClass::STRING, "pfadd", key);
    }
    call.reply_int(i64::from(updated > 0));
    DONE
}

/// Merges all keys. Whether one of them is dense.
fn merged(
    engine: &mut Engine,
    call: &mut Call<'_>,
    keys: &[&[u8]],
) -> Result<(Box<hll::Raw>, bool), CmdError> {
    let mut raw = Box::new([0; REGISTERS]);
    let mut dense = false;
    for key in keys {
        if let Some((text, form)) = read(engine, call, key)? {
            hll::merge(&mut raw, &text, form)?;
            dense |= form == Form::Dense;
        }
    }
    Ok((raw, dense))
}

fn pfcount(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    if call.argv.len() > 2 {
        let keys = call.argv.get(1..).unwrap_or_default();
        let (raw, _) = merged(engine, call, keys)?;
        call.reply_int(hll::estimate_raw(&raw) as i64);
        return DONE;
    }
    let key = call.arg(1);
    let Some((text, form)) = read(engine, call, key)? else {
        call.reply_int(0);
        return DONE;
    };
    let estimate = match hll::kept_estimate(&text) {
        Some(kept) => kept,
        None => {
            let estimate = hll::estimate(&text, form)?;
            // The estimate is kept with the registers, and a copy is told so: the string is another one now. A replica itself
            // changes nothing.
            if call.mode != Mode::Replica {
                change(engine, call, key, |bytes| {
                    hll::keep_estimate(bytes, estimate)
                });
                call.modified(key, 1);
            }
            estimate
        }
    };
    call.reply_int(estimate as i64);
    DONE
}

fn pfmerge(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    let key = call.arg(1);
    let bytes_max = engine.config().hll_sparse_bytes_max;
    let keys = call.argv.get(1..).unwrap_or_default();
    let (raw, dense) = merged(engine, call, keys)?;
    let mut bytes = match look(engine, call, key)? {
        Some((text, _)) => text.to_vec(),
        None => hll::empty(),
    };
    if dense && hll::form(&bytes) == Some(Form::Sparse) {
        bytes = hll::to_dense(&bytes)?;
    }
    for (i, value) in raw.iter().enumerate().filter(|(_, v)| **v > 0) {
        // A sparse one may become too long on the way.
        if hll::form(&bytes) == Some(Form::Dense) {
            hll::dense_fill(&mut bytes, &raw);
            break;
        }
        hll::sparse_raise(&mut bytes, i, *value, bytes_max)?;
    }
    hll::forget_estimate(&mut bytes);
    store(engine, call, key, &bytes);
    call.modified(key, 1);
    call.notify(EventClass::STRING, "pfadd", key);
    call.reply_ok();
    DONE
}

/// Makes the HyperLogLog of a key dense. Whether it was not.
fn make_dense(engine: &mut Engine, call: &mut Call<'_>, key: &[u8]) -> Result<bool, CmdError> {
    let dense = match read(engine, call, key)? {
        Some((text, Form::Sparse)) => hll::to_dense(&text)?,
        _ => return Ok(false),
    };
    store(engine, call, key, &dense);
    call.modified(key, 1);
    Ok(true)
}

fn pfdebug(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    let key = call.arg(2);
    if call.arg_is(1, "SIMD") {
        if !call.arg_is(2, "ON") && !call.arg_is(2, "OFF") {
            return Err(CmdError::Static("ERR Argument must be ON or OFF"));
        }
        // There is but one way to do it here.
        call.reply_simple("disabled");
        return DONE;
    }
    let (text, form) =
        read(engine, call, key)?.ok_or(CmdError::Static("ERR The specified key does not exist"))?;
    if call.arg_is(1, "GETREG") {
        make_dense(engine, call, key)?;
        let (raw, _) = merged(engine, call, &[key])?;
        call.reply_array(raw.len());
        raw.iter().for_each(|v| call.reply_int(i64::from(*v)));
    } else if call.arg_is(1, "DECODE") {
        if form != Form::Sparse {
            return Err(CmdError::Static("ERR HLL encoding is not sparse"));
        }
        hll::check_sparse(&text)?;
        write::bulk(call.reply, hll::describe(&text).as_bytes());
    } else if call.arg_is(1, "ENCODING") {
        call.reply_simple(match form {
            Form::Dense => "dense",
            Form::Sparse => "sparse",
        });
    } else if call.arg_is(1, "TODENSE") {
        let changed = make_dense(engine, call, key)?;
        call.reply_int(i64::from(changed));
    } else {
        let name = String::from_utf8_lossy(call.arg(1)).into_owned();
        return Err(CmdError::text(format!(
            "ERR Unknown PFDEBUG subcommand '{name}'"
        )));
    }
    DONE
}

/// Elements that the self-test adds.
const SELF_TEST_ELEMENTS: u64 = 100_000;

/// Registers hold what is put into them, both forms agree, and estimates are about right.
fn pfselftest(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    let failed = |what: &str| Err(CmdError::text(format!("ERR TESTFAILED {what}")));
    let mut dense = hll::to_dense(&hll::empty())?;
    for _ in 0..10 {
        let expect: Vec<u8> = (0..REGISTERS).map(|_| call.rng.index(64) as u8).collect();
        for (i, value) in expect.iter().enumerate() {
            hll::dense_set(&mut dense, i, *value);
        }
        let differs = |(i, value): (usize, &u8)| hll::dense_get(&dense, i) != *value;
        if expect.iter().enumerate().any(differs) || dense.len() != DENSE_BYTES {
            return failed("a register does not hold its value");
        }
    }
    dense = hll::to_dense(&hll::empty())?;
    let bytes_max = engine.config().hll_sparse_bytes_max;
    let mut other = hll::empty();
    let seed = call.rng.next_u64();
    let mut checkpoint = 1;
    for n in 1..=SELF_TEST_ELEMENTS {
        let (i, value) = hll::register_of(&(n ^ seed).to_le_bytes());
        hll::dense_raise(&mut dense, i, value);
        match hll::form(&other) {
            Some(Form::Sparse) => hll::sparse_raise(&mut other, i, value, bytes_max)?,
            _ => hll::dense_raise(&mut other, i, value),
        };
        if n < checkpoint {
            continue;
        }
        let form = hll::form(&other).ok_or(NOT_HLL)?;
        if form != Form::Sparse && n < bytes_max as u64 / 2 {
            return failed("sparse encoding not used");
        }
        let estimate = hll::estimate(&dense, Form::Dense)?;
        if estimate != hll::estimate(&other, form)? {
            return failed("dense/sparse disagree");
        }
        // Six standard errors; few elements may collide.
        let allowed = (1.04 / (REGISTERS as f64).sqrt() * 6.0 * n as f64).ceil() as u64;
        if estimate.abs_diff(n) > allowed.max(1) {
            return failed(&format!("Too big error. card:{n} estimate:{estimate}"));
        }
        checkpoint *= 10;
    }
    call.reply_ok();
    DONE
}

/// The rows.
pub const COMMANDS: &[Command] = &[
Command::new(CommandSpec {
name: "pfadd",
arity: -2,
flags: Flags::WRITE.and(Flags::DENYOOM).and(Flags::FAST),
categories: Acl::HYPERLOGLOG,
keys: &[KeySpec::range(Key::RW.and(Key::INSERT), 1, 0, 1)],
group: Group::Hyperloglog,
since: "2.8.9",
complexity: "O(1) to add every element.",
summary: "Adds elements to a HyperLogLog key. Creates the key if it doesn't exist.",
args: "key:key [element...]",
..CommandSpec::EMPTY
}, pfadd),
Command::new(CommandSpec {
name: "pfcount",
arity: -2,
flags: Flags::READONLY.and(Flags::MAY_REPLICATE),
categories: Acl::HYPERLOGLOG,
keys: &[KeySpec::range(Key::RW.and(Key::ACCESS), 1, -1, 1).noted("RW because it may change the internal representation of the key, and propagate to replicas")],
group: Group::Hyperloglog,
since: "2.8.9",
complexity: "O(1) with a very small average constant time when called with a single key. O(N) with N being the number of keys, and much bigger constant times, when called with multiple keys.",
summary: "Returns the approximated cardinality of the set(s) observed by the HyperLogLog key(s).",
args: "key:key...",
..CommandSpec::EMPTY
}, pfcount),
Command::new(CommandSpec {
name: "pfmerge",
arity: -2,
flags: Flags::WRITE.and(Flags::DENYOOM),
categories: Acl::HYPERLOGLOG,
keys: &[KeySpec::range(Key::RW.and(Key::ACCESS).and(Key::INSERT), 1, 0, 1), KeySpec::range(Key::RO.and(Key::ACCESS), 2, -1, 1)],
group: Group::Hyperloglog,
since: "2.8.9",
complexity: "O(N) to merge N HyperLogLogs, but with high constant times.",
summary: "Merges one or more HyperLogLog values into a single key.",
args: "destkey:key [sourcekey:key#1...]",
..CommandSpec::EMPTY
}, pfmerge),
Command::new(CommandSpec {
name: "pfdebug",
arity: 3,
flags: Flags::WRITE.and(Flags::DENYOOM).and(Flags::ADMIN),
categories: Acl::HYPERLOGLOG,
keys: &[KeySpec::range(Key::RW.and(Key::ACCESS), 2, 0, 1)],
group: Group::Hyperloglog,
since: "2.8.9",
complexity: "N/A",
summary: "Internal commands for debugging HyperLogLog values.",
args: "subcommand key:key",
syscmd: true,
..CommandSpec::EMPTY
}, pfdebug),
Command::new(CommandSpec {
name: "pfselftest",
arity: 1,
flags: Flags::ADMIN,
categories: Acl::HYPERLOGLOG,
group: Group::Hyperloglog,
since: "2.8.9",
complexity: "N/A",
summary: "An internal command for testing HyperLogLog values.",
syscmd: true,
..CommandSpec::EMPTY
}, pfselftest),
];
