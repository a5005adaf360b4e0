//! `BITFIELD`: integers of any width inside strings.

use super::bitmap_commands::{offset, to_change};
use super::bits;
use crate::call::{Call, CmdError, CmdResult, DONE};
use crate::engine::Engine;
use crate::events::EventClass;
use crate::spec::{Acl, Command, CommandSpec, Flags, Group, Key, KeySpec};
use holdfast_resp::parse_i64;

/// What is done with a number that does not fit.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Overflow {
    /// The high bits are lost.
    Wrap,
    /// The number next to it that fits is taken.
    Saturate,
    /// Nothing is written, the answer is null.
    Fail,
}

/// The type of a field: `i1` … `i64`, `u1` … `u63`.
#[derive(Clone, Copy)]
struct Encoding {
    signed: bool,
    width: u32,
}

impl Encoding {
    fn parse(text: &[u8]) -> Result<Encoding, CmdError> {
        let (signed, rest) = match text.split_first() {
            Some((b'i', rest)) => (true, rest),
            Some((b'u', rest)) => (false, rest),
            _ => (true, &b""[..]),
        };
        parse_i64(rest)
            .and_then(|n| u32::try_from(n).ok())
            .filter(|n| (1..=if signed { 64 } else { 63 }).contains(n))
            .map(|width| Encoding { signed, width })
            .ok_or(CmdError::Static(
                "ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is.",
            ))
    }

    /// The number that the bits of a field mean.
    fn number(self, raw: u64) -> i64 {
        let unused = 64 - self.width;
        if self.signed {
            (raw << unused) as i64 >> unused
        } else {
            raw as i64
        }
    }

    fn range(self) -> (i128, i128) {
        if self.signed {
            let half = 1i128 << (self.width - 1);
            (-half, half - 1)
        } else {
            (0, (1i128 << self.width) - 1)
        }
    }

    /// The number that `SET` means by its argument.
    fn given(self, value: i64) -> i128 {
        let (_, max) = self.range();
        // Valkey's check for numbers that are too large overflows for very low ones. Copies of its data must do as it does.
        let overflows = self.width < 64 && max - i128::from(value) > i128::from(i64::MAX);
        if !self.signed || overflows {
            i128::from(value as u64)
        } else {
            i128::from(value)
        }
    }

    /// What is to be written for a number; `None` for nothing.
    fn fit(self, number: i128, overflow: Overflow) -> Option<i64> {
        let (min, max) = self.range();
        if (min..=max).contains(&number) {
            return Some(number as i64);
        }
        match overflow {
            Overflow::Wrap => Some(self.number(number as u64 & u64::MAX >> (64 - self.width))),
            Overflow::Saturate => Some(number.clamp(min, max) as i64),
            Overflow::Fail => None,
        }
    }
}

#[derive(Clone, Copy)]
enum Action {
    Get,
    Set(i64),
    Incrby(i64),
}

struct Step {
    action: Action,
    encoding: Encoding,
    bit: u64,
    overflow: Overflow,
}

fn steps(engine: &Engine, call: &Call<'_>) -> Result<Vec<Step>, CmdError> {
    let mut steps = Vec::new();
    let mut overflow = Overflow::Wrap;
    let mut i = 2;
    while i < call.argv.len() {
        let left = call.argv.len() - i - 1;
        if call.arg_is(i, "OVERFLOW") && left >= 1 {
            overflow = match () {
                () if call.arg_is(i + 1, "WRAP") => Overflow::Wrap,
                () if call.arg_is(i + 1, "SAT") => Overflow::Saturate,
                () if call.arg_is(i + 1, "FAIL") => Overflow::Fail,
                () => return Err(CmdError::Static("ERR Invalid OVERFLOW type specified")),
            };
            i += 2;
            continue;
        }
        let word: fn(i64) -> Action = match () {
            () if call.arg_is(i, "GET") && left >= 2 => |_| Action::Get,
            () if call.arg_is(i, "SET") && left >= 3 => Action::Set,
            () if call.arg_is(i, "INCRBY") && left >= 3 => Action::Incrby,
            () => return Err(CmdError::SYNTAX),
        };
        let encoding = Encoding::parse(call.arg(i + 1))?;
        let bit = offset(engine, call, i + 2, Some(encoding.width))?;
        i += 3;
        let mut action = word(0);
        if !matches!(action, Action::Get) {
            action = word(call.int_arg(i)?);
            i += 1;
        }
        steps.push(Step {
            action,
            encoding,
            bit,
            overflow,
        });
    }
    Ok(steps)
}

/// All steps are reads.
fn read(engine: &mut Engine, call: &mut Call<'_>, steps: &[Step]) -> CmdResult {
    let value = engine.read_str(call, call.arg(1))?;
    let text = value.map(|s| s.text());
    let bytes = text.as_deref().unwrap_or_default();
    call.reply_array(steps.len());
    for step in steps {
        let raw = bits::field(bytes, step.bit, step.encoding.width);
        call.reply_int(step.encoding.number(raw));
    }
    DONE
}

fn bitfield(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    let key = call.arg(1);
    let steps = steps(engine, call)?;
    let last = steps
        .iter()
        .filter(|s| !matches!(s.action, Action::Get))
        .map(|s| s.bit + u64::from(s.encoding.width) - 1)
        .max();
    let Some(last) = last else {
        return read(engine, call, &steps);
    };
    let (bytes, grown) = to_change(engine, call, key, last)?;
    call.reply_array(steps.len());
    let mut changes = 0;
    for step in &steps {
        let Encoding { width, .. } = step.encoding;
        let old = step.encoding.number(bits::field(bytes, step.bit, width));
        let (wanted, is_set) = match step.action {
            Action::Get => {
                call.reply_int(old);
                continue;
            }
            Action::Set(value) => (step.encoding.given(value), true),
            Action::Incrby(by) => (i128::from(old) + i128::from(by), false),
        };
        match step.encoding.fit(wanted, step.overflow) {
            None => call.reply_null(),
            Some(new) => {
                bits::set_field(bytes, step.bit, width, new as u64);
                changes += u64::from(grown || new != old);
                call.reply_int(if is_set { old } else { new });
            }
        }
    }
    // A string that has only grown is another one, too.
    let changes = changes.max(u64::from(grown));
    if changes > 0 {
        call.modified(key, changes);
        call.notify(EventClass::STRING, "setbit", key);
    }
    DONE
}

fn bitfield_ro(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    let steps = steps(engine, call)?;
    if steps.iter().any(|s| !matches!(s.action, Action::Get)) {
        return Err(CmdError::Static(
            "ERR BITFIELD_RO only supports the GET subcommand",
        ));
    }
    read(engine, call, &steps)
}

/// `BITFIELD`'s key is only read if all steps are.
fn bitfield_keys(argv: &[&[u8]], found: &mut dyn FnMut(usize, Key)) {
    let mut i = 2;
    while let Some(word) = argv.get(i) {
        let left = argv.len() - i - 1;
        if word.eq_ignore_ascii_case(b"GET") && left >= 2 {
            i += 3;
        } else if word.eq_ignore_ascii_case(b"OVERFLOW") && left >= 1 {
            i += 2;
        } else {
            found(1, Key::RW.and(Key::ACCESS).and(Key::UPDATE));
            return;
        }
    }
    found(1, Key::RO.and(Key::ACCESS));
}

/// The rows.
pub const COMMANDS: &[Command] = &[
    Command::new(
        CommandSpec {
            name: "bitfield",
            arity: -2,
            flags: Flags::WRITE.and(Flags::DENYOOM),
            categories: Acl::BITMAP,
            keys: &[KeySpec::range(
                Key::RW
                    .and(Key::UPDATE)
                    .and(Key::ACCESS)
                    .and(Key::VARIABLE_FLAGS),
                1,
                0,
                1,
            )
            .noted("This command allows both access and modification of the key")],
            group: Group::Bitmap,
            since: "3.2.0",
            complexity: "O(1) for each subcommand specified",
            summary: "Performs arbitrary bitfield integer operations on strings.",
            args: "key:key [(GET={encoding offset:int}<get-block> | {[OVERFLOW=(WRAP | SAT | FAIL)<overflow-block>] (SET={encoding offset:int value:int}<set-block> | INCRBY={encoding offset:int increment:int}<incrby-block>)<write-operation>}<write>)<operation>...]",
            find_keys: Some(bitfield_keys),
            ..CommandSpec::EMPTY
        },
        bitfield,
    ),
    Command::new(
        CommandSpec {
            name: "bitfield_ro",
            arity: -2,
            flags: Flags::READONLY.and(Flags::FAST),
            categories: Acl::BITMAP,
            keys: &[KeySpec::range(Key::RO.and(Key::ACCESS), 1, 0, 1)],
            group: Group::Bitmap,
            since: "6.0.0",
            complexity: "O(1) for each subcommand specified",
            summary: "Performs arbitrary read-only bitfield integer operations on strings.",
            args: "key:key [GET={encoding offset:int}<get-block>...+]",
            ..CommandSpec::EMPTY
        },
        bitfield_ro,
    ),
];
