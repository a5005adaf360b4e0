//! Parts of strings: `APPEND`, `GETRANGE`, `SETRANGE`, and what two have in common.

use super::strings::{TOO_LONG, check_len};
use crate::call::{Call, CmdError, CmdResult, DONE};
use crate::engine::{Engine, Ttl};
use crate::events::EventClass;
use crate::spec::{Acl, Command, CommandSpec, Flags, Group, Key, KeySpec};
use crate::value::{StrRef, ValueRef};

fn append(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    let (key, tail) = (call.arg(1), call.arg(2));
    let place = engine.place(call, key);
    let old = engine
        .live(call, place, key)
        .map(|e| e.as_str().map(StrRef::len).ok_or(CmdError::WRONG_TYPE));
    let len = match old.transpose()? {
        None => {
            check_len(engine, call, tail.len())?;
            engine.set_string(call, place, key, tail, Ttl::Clear);
            tail.len()
        }
        Some(old) => {
            check_len(engine, call, old + tail.len())?;
            if let Some(entry) = engine.live_for_change(call, place, key)
                && let Some(room) = entry.str_mut(old + tail.len()).get_mut(old..)
            {
                room.copy_from_slice(tail);
            }
            old + tail.len()
        }
    };
    call.modified(key, 1);
    call.notify(EventClass::STRING, "append", key);
    call.reply_len(len);
    DONE
}

fn strlen(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    let len = engine.read_str(call, call.arg(1))?.map_or(0, StrRef::len);
    call.reply_len(len);
    DONE
}

fn getrange(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    let (start, end) = (call.int_arg(2)?, call.int_arg(3)?);
    let Some(value) = engine.read_str(call, call.arg(1))? else {
        call.reply_bulk(b"");
        return DONE;
    };
    let text = value.text();
    let len = text.len() as i64;
    let both_negative_and_crossed = start < 0 && end < 0 && start > end;
    let from_end = |at: i64| {
        if at < 0 {
            at.saturating_add(len).max(0)
        } else {
            at
        }
    };
    let (start, end) = (from_end(start), from_end(end).min(len - 1));
    if both_negative_and_crossed || start > end {
        call.reply_bulk(b"");
    } else {
        call.reply_bulk(text.get(start as usize..=end as usize).unwrap_or_default());
    }
    DONE
}

fn setrange(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    let (key, value) = (call.arg(1), call.arg(3));
    let offset = usize::try_from(call.int_arg(2)?)
        .map_err(|_| CmdError::Static("ERR offset is out of range"))?;
    let place = engine.place(call, key);
    let old = engine
        .live(call, place, key)
        .map(|e| e.as_str().map(StrRef::len).ok_or(CmdError::WRONG_TYPE));
    let old = old.transpose()?;
    if value.is_empty() {
        call.reply_len(old.unwrap_or(0));
        return DONE;
    }
    let end = offset.checked_add(value.len()).ok_or(TOO_LONG)?;
    check_len(engine, call, end)?;
    if old.is_none() {
        engine.set_string(call, place, key, b"", Ttl::Clear);
    }
    let mut len = end;
    if let Some(entry) = engine.live_for_change(call, place, key) {
        let text = entry.str_mut(end);
        len = text.len();
        if let Some(room) = text.get_mut(offset..end) {
            room.copy_from_slice(value);
        }
    }
    call.modified(key, 1);
    call.notify(EventClass::STRING, "setrange", key);
    call.reply_len(len);
    DONE
}

/// The longest common subsequence of two strings, by the usual table.
fn lcs(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    let strings = CmdError::Static("ERR The specified keys must contain string values");
    let mut text = |i: usize| match engine.lookup_read(call, call.arg(i)) {
        None => Ok(Vec::new()),
        Some(ValueRef::Str(s)) => Ok(s.text().to_vec()),
        Some(_) => Err(strings.clone()),
    };
    // Both are looked up before either is wrong.
    let (a, b) = (text(1), text(2));
    let (a, b) = (a?, b?);
    let (mut indexes, mut length, mut with_len, mut min_len) = (false, false, false, 0);
    let mut i = 3;
    while i < call.argv.len() {
        if call.arg_is(i, "IDX") {
            indexes = true;
        } else if call.arg_is(i, "LEN") {
            length = true;
        } else if call.arg_is(i, "WITHMATCHLEN") {
            with_len = true;
        } else if call.arg_is(i, "MINMATCHLEN") && i + 1 < call.argv.len() {
            min_len = call.int_arg(i + 1)?.max(0) as usize;
            i += 1;
        } else {
            return Err(CmdError::SYNTAX);
        }
        i += 1;
    }
    if indexes && length {
        return Err(CmdError::Static(
            "ERR If you want both the length and indexes, please just use IDX.",
        ));
    }
    let width = b.len() + 1;
    let cells = (a.len() + 1)
        .checked_mul(width)
        .and_then(|n| n.checked_mul(size_of::<u32>()));
    if cells.is_none_or(|bytes| bytes > engine.config().bulk_bytes_max) {
        return Err(CmdError::Static(
            "ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len",
        ));
    }
    let mut table = vec![0u32; (a.len() + 1) * width];
    for (i, x) in a.iter().enumerate() {
        for (j, y) in b.iter().enumerate() {
            table[(i + 1) * width + j + 1] = if x == y {
                table[i * width + j] + 1
            } else {
                table[i * width + j + 1].max(table[(i + 1) * width + j])
            };
        }
    }
    let total = table[a.len() * width + b.len()];
    if length {
        call.reply_int(i64::from(total));
        return DONE;
    }
    // Walk back from the end; a match is a run along the diagonal.
    let (mut i, mut j) = (a.len(), b.len());
    let mut common = Vec::with_capacity(total as usize);
    let mut matches: Vec<(usize, usize, usize)> = Vec::new();
    while i > 0 && j > 0 {
        if a[i - 1] == b[j - 1] {
            i -= 1;
            j -= 1;
            common.push(a[i]);
            match matches.last_mut() {
                Some((x, y, len)) if (*x, *y) == (i + 1, j + 1) => {
                    (*x, *y, *len) = (i, j, *len + 1)
                }
                _ => matches.push((i, j, 1)),
            }
        } else if table[(i - 1) * width + j] > table[i * width + j - 1] {
            i -= 1;
        } else {
            j -= 1;
        }
    }
    if !indexes {
        common.reverse();
        call.reply_bulk(&common);
        return DONE;
    }
    matches.retain(|(_, _, len)| *len >= min_len);
    call.reply_map(2);
    call.reply_bulk(b"matches");
    call.reply_array(matches.len());
    for (x, y, len) in matches {
        call.reply_array(if with_len { 3 } else { 2 });
        for start in [x, y] {
            call.reply_array(2);
            call.reply_len(start);
            call.reply_len(start + len - 1);
        }
        if with_len {
            call.reply_len(len);
        }
    }
    call.reply_bulk(b"len");
    call.reply_int(i64::from(total));
    DONE
}

/// The rows.
pub const COMMANDS: &[Command] = &[
    Command::new(
        CommandSpec {
            name: "append",
            arity: 3,
            flags: Flags::WRITE.and(Flags::DENYOOM).and(Flags::FAST),
            categories: Acl::STRING,
            keys: &[KeySpec::range(Key::RW.and(Key::INSERT), 1, 0, 1)],
            group: Group::String,
            since: "2.0.0",
            complexity: "O(1). The amortized time complexity is O(1) assuming the appended value is small and the already present value is of any size, since the dynamic string library used by the server will double the free space available on every reallocation.",
            summary: "Appends a string to the value of a key. Creates the key if it doesn't exist.",
            args: "key:key value",
            ..CommandSpec::EMPTY
        },
        append,
    ),
    Command::new(
        CommandSpec {
            name: "getrange",
            arity: 4,
            flags: Flags::READONLY,
            categories: Acl::STRING,
            keys: &[KeySpec::range(Key::RO.and(Key::ACCESS), 1, 0, 1)],
            group: Group::String,
            since: "2.4.0",
            complexity: "O(N) where N is the length of the returned string. The complexity is ultimately determined by the returned length, but because creating a substring from an existing string is very cheap, it can be considered O(1) for small strings.",
            summary: "Returns a substring of the string stored at a key.",
            args: "key:key start:int end:int",
            ..CommandSpec::EMPTY
        },
        getrange,
    ),
    Command::new(
        CommandSpec {
            name: "lcs",
            arity: -3,
            flags: Flags::READONLY,
            categories: Acl::STRING,
            keys: &[KeySpec::range(Key::RO.and(Key::ACCESS), 1, 1, 1)],
            group: Group::String,
            since: "7.0.0",
            complexity: "O(N*M) where N and M are the lengths of s1 and s2, respectively",
            summary: "Finds the longest common substring.",
            args: "key1:key key2:key [LEN] [IDX] [MINMATCHLEN=min-match-len:int] [WITHMATCHLEN]",
            ..CommandSpec::EMPTY
        },
        lcs,
    ),
    Command::new(
        CommandSpec {
            name: "setrange",
            arity: 4,
            flags: Flags::WRITE.and(Flags::DENYOOM),
            categories: Acl::STRING,
            keys: &[KeySpec::range(Key::RW.and(Key::UPDATE), 1, 0, 1)],
            group: Group::String,
            since: "2.2.0",
            complexity: "O(1), not counting the time taken to copy the new string in place. Usually, this string is very small so the amortized complexity is O(1). Otherwise, complexity is O(M) with M being the length of the value argument.",
            summary: "Overwrites a part of a string value with another by an offset. Creates the key if it doesn't exist.",
            args: "key:key offset:int value",
            ..CommandSpec::EMPTY
        },
        setrange,
    ),
    Command::new(
        CommandSpec {
            name: "strlen",
            arity: 2,
            flags: Flags::READONLY.and(Flags::FAST),
            categories: Acl::STRING,
            keys: &[KeySpec::range(Key::RO, 1, 0, 1)],
            group: Group::String,
            since: "2.2.0",
            complexity: "O(1)",
            summary: "Returns the length of a string value.",
            args: "key:key",
            ..CommandSpec::EMPTY
        },
        strlen,
    ),
    Command::new(
        CommandSpec {
            name: "substr",
            arity: 4,
            flags: Flags::READONLY,
            categories: Acl::STRING,
            keys: &[KeySpec::range(Key::RO.and(Key::ACCESS), 1, 0, 1)],
            group: Group::String,
            since: "1.0.0",
            complexity: "O(N) where N is the length of the returned string. The complexity is ultimately determined by the returned length, but because creating a substring from an existing string is very cheap, it can be considered O(1) for small strings.",
            summary: "Returns a substring from a string value.",
            args: "key:key start:int end:int",
            ..CommandSpec::EMPTY
        },
        getrange,
    ),
];
