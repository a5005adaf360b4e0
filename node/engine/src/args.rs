//! Arguments that several commands share: ranges of integers, timeouts, the options of `HSCAN` and its kin.

use std::time::Duration;

use crate::call::{Block, Call, CmdError, CmdResult, DONE, Outcome, TimeoutReply, Wakes};
use crate::glob;
use crate::number::parse_f64;
use crate::rng::Rng;

/// An integer within a range, or this error (whether it is no integer or outside).
pub fn int_in(
    call: &Call<'_>,
    index: usize,
    range: std::ops::RangeInclusive<i64>,
    error: &'static str,
) -> Result<i64, CmdError> {
    match call.int_arg(index) {
        Ok(v) if range.contains(&v) => Ok(v),
        _ => Err(CmdError::Static(error)),
    }
}

/// An integer that is not negative.
pub fn count(call: &Call<'_>, index: usize) -> Result<usize, CmdError> {
    let v = int_in(
        call,
        index,
        0..=i64::MAX,
        "ERR value is out of range, must be positive",
    )?;
    Ok(usize::try_from(v).unwrap_or(usize::MAX))
}

/// An integer whose negation is one, too.
pub fn negatable_int(call: &Call<'_>, index: usize) -> Result<i64, CmdError> {
    match call.int_arg(index)? {
        i64::MIN => Err(CmdError::Static(
            "ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807",
        )),
        v => Ok(v),
    }
}

/// The timeout of a blocking command in seconds; `None` for ever.
pub fn timeout(call: &Call<'_>, index: usize) -> Result<Option<Duration>, CmdError> {
    let text = call.arg(index);
    // Hexadecimal integers are numbers to Valkey here.
    let hex = || {
        let digits = std::str::from_utf8(text).ok()?.strip_prefix("0x")?;
        u64::from_str_radix(digits, 16).ok().map(|v| v as f64)
    };
    let seconds = parse_f64(text).or_else(hex).ok_or(CmdError::Static(
        "ERR timeout is not a float or out of range",
    ))?;
    let ms = (seconds * 1000.0).ceil();
    let latest = (i64::MAX as u64).saturating_sub(call.now_ms);
    if ms > i64::MAX as f64 || ms > latest as f64 {
        return Err(CmdError::Static("ERR timeout is out of range"));
    }
    if ms < 0.0 {
        return Err(CmdError::Static("ERR timeout is negative"));
    }
    Ok((ms > 0.0).then(|| Duration::from_millis(ms as u64)))
}

/// Waits for any of the keys if the call allows it; otherwise answers as if the time were over.
pub fn block(
    call: &mut Call<'_>,
    keys: &[&[u8]],
    timeout: Option<Duration>,
    on_timeout: TimeoutReply,
) -> CmdResult {
    if call.may_block {
        return Ok(Outcome::Block(Box::new(Block {
            keys: keys.iter().map(|k| Box::from(*k)).collect(),
            timeout,
            on_timeout,
            replaced: Vec::new(),
            wakes: Wakes::OnValue,
        })));
    }
    on_timeout.write(call.reply, call.proto);
    DONE
}

/// The arguments `numkeys key …` from `index` on: the keys, and the index behind them.
///
/// # Errors
/// `error` unless the number is an integer of at least 1, a syntax error when there are fewer arguments.
pub fn keys_of<'a>(
    call: &Call<'a>,
    index: usize,
    error: &'static str,
) -> Result<(&'a [&'a [u8]], usize), CmdError> {
    let n = int_in(call, index, 1..=i64::MAX, error)?;
    let end = usize::try_from(n)
        .ok()
        .and_then(|n| n.checked_add(index + 1))
        .ok_or(CmdError::SYNTAX)?;
    let keys = call.argv.get(index + 1..end).ok_or(CmdError::SYNTAX)?;
    Ok((keys, end))
}

/// The options of `HSCAN`, `SSCAN` and `ZSCAN`.
#[derive(Debug)]
pub struct ScanArgs<'a> {
    /// Elements that a step should report.
    pub count: usize,
    /// Only elements that match.
    pub pattern: Option<&'a [u8]>,
    /// Leave values or scores out.
    pub keys_only: bool,
}

/// A cursor.
pub fn scan_cursor(call: &Call<'_>, index: usize) -> Result<u64, CmdError> {
    let text = call.arg(index);
    std::str::from_utf8(text)
        .ok()
        .filter(|t| !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit()))
        .and_then(|t| t.parse().ok())
        .ok_or(CmdError::Static("ERR invalid cursor"))
}

impl<'a> ScanArgs<'a> {
    /// Reads the options from argument 3 on; `keys_only` is the word of that option, if the command has it.
    pub fn parse(call: &Call<'a>, keys_only: Option<&str>) -> Result<Self, CmdError> {
        let mut args = ScanArgs {
            count: 10,
            pattern: None,
            keys_only: false,
        };
        let mut i = 3;
        while i < call.argv.len() {
            let more = i + 1 < call.argv.len();
            if call.arg_is(i, "COUNT") && more {
                let count = call.int_arg(i + 1)?;
                if count < 1 {
                    return Err(CmdError::SYNTAX);
                }
                args.count = usize::try_from(count).unwrap_or(usize::MAX);
                i += 2;
            } else if call.arg_is(i, "MATCH") && more {
                args.pattern = Some(call.arg(i + 1)).filter(|p| *p != b"*");
                i += 2;
            } else if keys_only.is_some_and(|word| call.arg_is(i, word)) {
                args.keys_only = true;
                i += 1;
            } else if call.arg_is(i, "NOVALUES") {
                return Err(CmdError::Static(
                    "ERR NOVALUES option can only be used in HSCAN",
                ));
            } else if call.arg_is(i, "NOSCORES") {
                return Err(CmdError::Static(
                    "ERR NOSCORES option can only be used in ZSCAN",
                ));
            } else {
                return Err(CmdError::SYNTAX);
            }
        }
        Ok(args)
    }

    /// Whether an element is to be reported.
    pub fn wants(&self, element: &[u8]) -> bool {
        self.pattern.is_none_or(|p| glob::matches(p, element))
    }

    /// Runs steps until enough elements were looked at, and writes the reply. `step` scans from a cursor, hands the
    /// parts of each element (one, or two) to its argument, and returns the next cursor.
    pub fn run(
        &self,
        call: &mut Call<'_>,
        mut cursor: u64,
        mut step: impl FnMut(u64, &mut dyn FnMut(&[u8], Option<&[u8]>)) -> u64,
    ) {
        let mut body = Vec::new();
        let mut parts = 0;
        let mut looked_at = 0;
        // A sparse table has many empty buckets: give up after some, the client comes again.
        let mut steps = self.count.saturating_mul(10);
        loop {
            cursor = step(cursor, &mut |element, value| {
                looked_at += 1;
                if !self.wants(element) {
                    return;
                }
                holdfast_resp::write::bulk(&mut body, element);
                parts += 1;
                if let Some(value) = value.filter(|_| !self.keys_only) {
                    holdfast_resp::write::bulk(&mut body, value);
                    parts += 1;
                }
            });
            steps -= 1;
            if cursor == 0 || steps == 0 || looked_at >= self.count {
                break;
            }
        }
        call.reply_array(2);
        call.reply_bulk(cursor.to_string().as_bytes());
        call.reply_array(parts);
        call.reply.extend_from_slice(&body);
    }
}

/// The reply of a scan of a key that is not there.
pub fn reply_empty_scan(call: &mut Call<'_>) {
    call.reply_array(2);
    call.reply_bulk(b"0");
    call.reply_array(0);
}

/// Most draws of one `HRANDFIELD`, `SRANDMEMBER` or `ZRANDMEMBER` with repetition: what a reply can hold at all.
const DRAWS_MAX: usize = 1 << 27;

/// The count of a random pick: how many, and whether with repetition (negative).
pub fn draws(call: &Call<'_>, index: usize) -> Result<(usize, bool), CmdError> {
    let count = negatable_int(call, index)?;
    let n = usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX);
    if count < 0 && n > DRAWS_MAX {
        return Err(match n > usize::MAX / 4 {
            true => CmdError::Static("ERR value is out of range"),
            false => CmdError::REPLY_TOO_LONG,
        });
    }
    Ok((n, count < 0))
}

/// A range of indexes as `LRANGE` and its kin mean it (negative: from the end), cut to `len` elements.
pub fn index_range(start: i64, stop: i64, len: usize) -> std::ops::Range<usize> {
    let n = len as i64;
    let from_end = |i: i64| if i < 0 { n + i } else { i };
    let start = from_end(start).max(0);
    let stop = from_end(stop).min(n - 1);
    if start > stop || start >= n {
        return 0..0;
    }
    start as usize..stop as usize + 1
}

/// `count` distinct indexes below `len` (at most `len` of them), in ascending order, drawn evenly.
pub fn distinct_indexes(call: &mut Call<'_>, len: usize, count: usize) -> Vec<usize> {
    distinct_below(call.rng, len, count)
}

/// As [`distinct_indexes`], from a source of randomness.
pub fn distinct_below(rng: &mut Rng, len: usize, count: usize) -> Vec<usize> {
    if count >= len {
        return (0..len).collect();
    }
    // Floyd's sampling: one draw for each index, no retries.
    let mut chosen = std::collections::BTreeSet::new();
    for top in len - count..len {
        let pick = rng.index(top + 1);
        if !chosen.insert(pick) {
            chosen.insert(top);
        }
    }
    chosen.into_iter().collect()
}

/// The arguments of `SINTERCARD` and `ZINTERCARD`: the keys, and the limit (0 for none).
pub fn intercard<'a>(call: &Call<'a>) -> Result<(&'a [&'a [u8]], usize), CmdError> {
    let n = int_in(
        call,
        1,
        1..=i64::MAX,
        "ERR numkeys should be greater than 0",
    )?;
    let end = usize::try_from(n).unwrap_or(usize::MAX).saturating_add(2);
    let keys = call.argv.get(2..end).ok_or(CmdError::Static(
        "ERR Number of keys can't be greater than number of args",
    ))?;
    let mut limit = 0;
    let mut i = end;
    while i < call.argv.len() {
        if !call.arg_is(i, "LIMIT") || i + 1 >= call.argv.len() {
            return Err(CmdError::SYNTAX);
        }
        let n = int_in(call, i + 1, 0..=i64::MAX, "ERR LIMIT can't be negative")?;
        limit = usize::try_from(n).unwrap_or(usize::MAX);
        i += 2;
    }
    Ok((keys, limit))
}
