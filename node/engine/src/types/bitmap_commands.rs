//! Commands on single bits of strings, and on all of them at once.

use super::bits::{self, Op};
use crate::call::{Call, CmdError, CmdResult, DONE, Mode};
use crate::engine::{Engine, Ttl};
use crate::events::EventClass;
use crate::evict;
use crate::keyspace::entry::STR_BYTES_MAX;
use crate::spec::{Acl, Command, CommandSpec, Flags, Group, Key, KeySpec};
use crate::value::{StrRef, StrValue, Value, ValueRef};
use holdfast_resp::parse_i64;
use std::ops::Range;

const BAD_OFFSET: CmdError = CmdError::Static("ERR bit offset is not an integer or out of range");
const BAD_BIT: CmdError = CmdError::Static("ERR bit is not an integer or out of range");

/// The offset of a bit. With a width, `#n` means the n-th field of that width.
pub(super) fn offset(
    engine: &Engine,
    call: &Call<'_>,
    index: usize,
    width: Option<u32>,
) -> Result<u64, CmdError> {
    let text = call.arg(index);
    let (text, factor) = match (text.strip_prefix(b"#"), width) {
        (Some(rest), Some(width)) => (rest, i64::from(width)),
        _ => (text, 1),
    };
    let bytes_max = if call.mode == Mode::Apply {
        STR_BYTES_MAX
    } else {
        engine.config().bulk_bytes_max.min(STR_BYTES_MAX)
    };
    parse_i64(text)
        .and_then(|n| n.checked_mul(factor))
        .and_then(|bit| u64::try_from(bit).ok())
        .filter(|bit| bit / 8 < bytes_max as u64)
        .ok_or(BAD_OFFSET)
}

/// The bytes of a key's string to change in place, as many at least as hold the bits up to `last_bit`, and whether there are more than
/// before. A key that is not there is made.
pub(super) fn to_change<'e>(
    engine: &'e mut Engine,
    call: &mut Call<'_>,
    key: &[u8],
    last_bit: u64,
) -> Result<(&'e mut [u8], bool), CmdError> {
    let len = usize::try_from(last_bit / 8 + 1).unwrap_or(usize::MAX);
    if len > STR_BYTES_MAX {
        return Err(BAD_OFFSET);
    }
    let place = engine.place(call, key);
    let old = engine
        .live(call, place, key)
        .map(|e| e.as_str().map(StrRef::len).ok_or(CmdError::WRONG_TYPE))
        .transpose()?;
    if old.is_none() {
        engine.set_string(call, place, key, b"", Ttl::Clear);
    }
    let how = engine.config.eviction;
    let mut entry = engine
        .live_for_change(call, place, key)
        .ok_or(CmdError::NO_SUCH_KEY)?;
    evict::accessed(&how, call, &mut entry);
    Ok((entry.str_mut(len), old.is_none_or(|old| old < len)))
}

fn setbit(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    let key = call.arg(1);
    let bit = offset(engine, call, 2, None)?;
    let on = match call.arg(3) {
        b"0" => false,
        b"1" => true,
        _ => return Err(BAD_BIT),
    };
    let (bytes, grown) = to_change(engine, call, key, bit)?;
    let old = bits::get(bytes, bit);
    if grown || old != on {
        bits::set(bytes, bit, on);
        call.modified(key, 1);
        call.notify(EventClass::STRING, "setbit", key);
    }
    call.reply_int(i64::from(old));
    DONE
}

fn getbit(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    let bit = offset(engine, call, 2, None)?;
    let value = engine.read_str(call, call.arg(1))?;
    let on = value.is_some_and(|s| bits::get(&s.text(), bit));
    call.reply_int(i64::from(on));
    DONE
}

/// What `BITCOUNT` and `BITPOS` say of where to look.
struct Span {
    start: i64,
    end: Option<i64>,
    in_bits: bool,
}

impl Span {
    /// Parses `start [end [BYTE | BIT]]` from argument `index` on, if there is any.
    fn parse(call: &Call<'_>, index: usize) -> Result<Option<Span>, CmdError> {
        let count = call.argv.len() - index;
        if count == 0 {
            return Ok(None);
        }
        let start = call.int_arg(index)?;
        let in_bits = match count {
            1 | 2 => false,
            3 if call.arg_is(index + 2, "BIT") => true,
            3 if call.arg_is(index + 2, "BYTE") => false,
            _ => return Err(CmdError::SYNTAX),
        };
        let end = match count {
            1 => None,
            _ => Some(call.int_arg(index + 1)?),
        };
        Ok(Some(Span {
            start,
            end,
            in_bits,
        }))
    }

    /// The bits of a string of `len` bytes that are meant; negative numbers count from the end.
    fn bits(&self, len: usize) -> Range<u64> {
        let (total, unit) = if self.in_bits {
            (len as i64 * 8, 1)
        } else {
            (len as i64, 8)
        };
        let from_end = |at: i64| {
            if at < 0 {
                at.saturating_add(total).max(0)
            } else {
                at
            }
        };
        let start = from_end(self.start);
        let end = from_end(self.end.unwrap_or(-1)).min(total - 1);
        if start > end {
            return 0..0;
        }
        start as u64 * unit..(end as u64 + 1) * unit
    }

    /// Both ends are counted from the string's end, and the first lies behind the second.
    fn is_crossed(&self) -> bool {
        self.start < 0 && self.end.is_some_and(|end| end < 0 && self.start > end)
    }
}

fn bitcount(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    let span = Span::parse(call, 2)?;
    let value = engine.read_str(call, call.arg(1))?;
    let count = match (value, span) {
        (None, _) => 0,
        (Some(s), None) => bits::count(&s.text()),
        (Some(_), Some(span)) if span.is_crossed() => 0,
        (Some(s), Some(span)) => {
            let text = s.text();
            bits::count_in(&text, span.bits(text.len()))
        }
    };
    call.reply_int(count as i64);
    DONE
}

fn bitpos(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    let set = match call.int_arg(2)? {
        0 => false,
        1 => true,
        _ => {
            return Err(CmdError::Static("ERR The bit argument must be 1 or 0."));
        }
    };
    let span = Span::parse(call, 3)?;
    let Some(value) = engine.read_str(call, call.arg(1))? else {
        // Nothing but clear bits, without an end.
        call.reply_int(if set { -1 } else { 0 });
        return DONE;
    };
    let text = value.text();
    let range = match &span {
        Some(span) => span.bits(text.len()),
        None => 0..text.len() as u64 * 8,
    };
    let open = span.is_none_or(|s| s.end.is_none());
    let at = match bits::find_in(&text, range.clone(), set) {
        Some(at) => at as i64,
        // Behind the end all bits are clear; an end that was asked for is one.
        None if !set && open && !range.is_empty() => range.end as i64,
        None => -1,
    };
    call.reply_int(at);
    DONE
}

fn bitop(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    let op = match () {
        () if call.arg_is(1, "AND") => Op::And,
        () if call.arg_is(1, "OR") => Op::Or,
        () if call.arg_is(1, "XOR") => Op::Xor,
        () if call.arg_is(1, "NOT") => Op::Not,
        () => return Err(CmdError::SYNTAX),
    };
    let (destination, keys) = (call.arg(2), call.argv.get(3..).unwrap_or_default());
    if op == Op::Not && keys.len() != 1 {
        return Err(CmdError::Static(
            "ERR BITOP NOT must be called with a single source key.",
        ));
    }
    for key in keys {
        engine.read_str(call, key)?;
    }
    let mut texts = Vec::with_capacity(keys.len());
    for key in keys {
        texts.push(match engine.peek_value(call, key) {
            None => StrRef::Bytes(b"").text(),
            Some(ValueRef::Str(s)) => s.text(),
            Some(_) => return Err(CmdError::WRONG_TYPE),
        });
    }
    let views: Vec<&[u8]> = texts.iter().map(|t| &**t).collect();
    let result = bits::combine(op, &views);
    let len = result.len();
    if len > 0 {
        let value = Value::Str(StrValue::Bytes(result));
        engine.set_value(call, destination, value, Ttl::Clear);
        call.modified(destination, 1);
        call.notify(EventClass::STRING, "set", destination);
    } else {
        engine.delete_and_report(call, destination);
    }
    call.reply_len(len);
    DONE
}

/// The rows.
pub const COMMANDS: &[Command] = &[
    Command::new(
        CommandSpec {
            name: "setbit",
            arity: 4,
            flags: Flags::WRITE.and(Flags::DENYOOM),
            categories: Acl::BITMAP,
            keys: &[KeySpec::range(
                Key::RW.and(Key::ACCESS).and(Key::UPDATE),
                1,
                0,
                1,
            )],
            group: Group::Bitmap,
            since: "2.2.0",
            complexity: "O(1)",
            summary: "Sets or clears the bit at offset of the string value. Creates the key if it doesn't exist.",
            args: "key:key offset:int value:int",
            ..CommandSpec::EMPTY
        },
        setbit,
    ),
    Command::new(
        CommandSpec {
            name: "getbit",
            arity: 3,
            flags: Flags::READONLY.and(Flags::FAST),
            categories: Acl::BITMAP,
            keys: &[KeySpec::range(Key::RO.and(Key::ACCESS), 1, 0, 1)],
            group: Group::Bitmap,
            since: "2.2.0",
            complexity: "O(1)",
            summary: "Returns a bit value by offset.",
            args: "key:key offset:int",
            ..CommandSpec::EMPTY
        },
        getbit,
    ),
    Command::new(
        CommandSpec {
            name: "bitcount",
            arity: -2,
            flags: Flags::READONLY,
            categories: Acl::BITMAP,
            keys: &[KeySpec::range(Key::RO.and(Key::ACCESS), 1, 0, 1)],
            group: Group::Bitmap,
            since: "2.6.0",
            complexity: "O(N)",
            summary: "Counts the number of set bits (population counting) in a string.",
            args: "key:key [{start:int [{end:int [(BYTE | BIT)<unit>@7.0.0]}<end-unit-block>]}<range>]",
            history: &[
                ("7.0.0", "Added the `BYTE|BIT` option."),
                (
                    "8.0.0",
                    "`end` made optional; when called without argument the command reports the last BYTE.",
                ),
            ],
            ..CommandSpec::EMPTY
        },
        bitcount,
    ),
    Command::new(
        CommandSpec {
            name: "bitpos",
            arity: -3,
            flags: Flags::READONLY,
            categories: Acl::BITMAP,
            keys: &[KeySpec::range(Key::RO.and(Key::ACCESS), 1, 0, 1)],
            group: Group::Bitmap,
            since: "2.8.7",
            complexity: "O(N)",
            summary: "Finds the first set (1) or clear (0) bit in a string.",
            args: "key:key bit:int [{start:int [{end:int [(BYTE | BIT)<unit>@7.0.0]}<end-unit-block>]}<range>]",
            history: &[("7.0.0", "Added the `BYTE|BIT` option.")],
            ..CommandSpec::EMPTY
        },
        bitpos,
    ),
    Command::new(
        CommandSpec {
            name: "bitop",
            arity: -4,
            flags: Flags::WRITE.and(Flags::DENYOOM),
            categories: Acl::BITMAP,
            keys: &[
                KeySpec::range(Key::OW.and(Key::UPDATE), 2, 0, 1),
                KeySpec::range(Key::RO.and(Key::ACCESS), 3, -1, 1),
            ],
            group: Group::Bitmap,
            since: "2.6.0",
            complexity: "O(N)",
            summary: "Performs bitwise operations on multiple strings, and stores the result.",
            args: "(AND | OR | XOR | NOT)<operation> destkey:key key:key#1...",
            ..CommandSpec::EMPTY
        },
        bitop,
    ),
];
