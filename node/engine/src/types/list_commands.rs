//! The commands of lists on one key. Those that move elements between keys or block are in `list_move_commands`.

use super::list_value::End;
use super::packed::PackedBox;
use super::{ListValue, TypeLimits};
use crate::spec::{Acl, Command, CommandSpec, Flags, Group, Key, KeySpec};
use crate::{Call, CmdError, CmdResult, DONE, Engine, EventClass, args};

/// The rows.
pub const COMMANDS: &[Command] = &[
    Command::new(
        CommandSpec {
            name: "lindex",
            arity: 3,
            flags: Flags::READONLY,
            categories: Acl::LIST,
            keys: &[KeySpec::range(Key::RO.and(Key::ACCESS), 1, 0, 1)],
            group: Group::List,
            since: "1.0.0",
            complexity: "O(N) where N is the number of elements to traverse to get to the element at index. This makes asking for the first or the last element of the list O(1).",
            summary: "Returns an element from a list by its index.",
            args: "key:key index:int",
            ..CommandSpec::EMPTY
        },
        lindex,
    ),
    Command::new(
        CommandSpec {
            name: "linsert",
            arity: 5,
            flags: Flags::WRITE.and(Flags::DENYOOM),
            categories: Acl::LIST,
            keys: &[KeySpec::range(Key::RW.and(Key::INSERT), 1, 0, 1)],
            group: Group::List,
            since: "2.2.0",
            complexity: "O(N) where N is the number of elements to traverse before seeing the value pivot. This means that inserting somewhere on the left end on the list (head) can be considered O(1) and inserting somewhere on the right end (tail) is O(N).",
            summary: "Inserts an element before or after another element in a list.",
            args: "key:key (BEFORE | AFTER)<where> pivot element",
            ..CommandSpec::EMPTY
        },
        linsert,
    ),
    Command::new(
        CommandSpec {
            name: "llen",
            arity: 2,
            flags: Flags::READONLY.and(Flags::FAST),
            categories: Acl::LIST,
            keys: &[KeySpec::range(Key::RO, 1, 0, 1)],
            group: Group::List,
            since: "1.0.0",
            complexity: "O(1)",
            summary: "Returns the length of a list.",
            args: "key:key",
            ..CommandSpec::EMPTY
        },
        llen,
    ),
    Command::new(
        CommandSpec {
            name: "lpop",
            arity: -2,
            flags: Flags::WRITE.and(Flags::FAST),
            categories: Acl::LIST,
            keys: &[KeySpec::range(
                Key::RW.and(Key::ACCESS).and(Key::DELETE),
                1,
                0,
                1,
            )],
            group: Group::List,
            since: "1.0.0",
            complexity: "O(N) where N is the number of elements returned",
            summary: "Returns and removes one or more elements from the beginning of a list. Deletes the list if the last element was popped.",
            args: "key:key [count:int@6.2.0]",
            history: &[("6.2.0", "Added the `count` argument.")],
            ..CommandSpec::EMPTY
        },
        lpop,
    ),
    Command::new(
        CommandSpec {
            name: "lpos",
            arity: -3,
            flags: Flags::READONLY,
            categories: Acl::LIST,
            keys: &[KeySpec::range(Key::RO.and(Key::ACCESS), 1, 0, 1)],
            group: Group::List,
            since: "6.0.6",
            complexity: "O(N) where N is the number of elements in the list, for the average case. When searching for elements near the head or the tail of the list, or when the MAXLEN option is provided, the command may run in constant time.",
            summary: "Returns the index of matching elements in a list.",
            args: "key:key element [RANK=rank:int] [COUNT=num-matches:int] [MAXLEN=len:int]",
            ..CommandSpec::EMPTY
        },
        lpos,
    ),
    Command::new(
        CommandSpec {
            name: "lpush",
            arity: -3,
            flags: Flags::WRITE.and(Flags::DENYOOM).and(Flags::FAST),
            categories: Acl::LIST,
            keys: &[KeySpec::range(Key::RW.and(Key::INSERT), 1, 0, 1)],
            group: Group::List,
            since: "1.0.0",
            complexity: "O(1) for each element added, so O(N) to add N elements when the command is called with multiple arguments.",
            summary: "Prepends one or more elements to a list. Creates the key if it doesn't exist.",
            args: "key:key element...",
            history: &[("2.4.0", "Accepts multiple `element` arguments.")],
            ..CommandSpec::EMPTY
        },
        lpush,
    ),
    Command::new(
        CommandSpec {
            name: "lpushx",
            arity: -3,
            flags: Flags::WRITE.and(Flags::DENYOOM).and(Flags::FAST),
            categories: Acl::LIST,
            keys: &[KeySpec::range(Key::RW.and(Key::INSERT), 1, 0, 1)],
            group: Group::List,
            since: "2.2.0",
            complexity: "O(1) for each element added, so O(N) to add N elements when the command is called with multiple arguments.",
            summary: "Prepends one or more elements to a list only when the list exists.",
            args: "key:key element...",
            history: &[("4.0.0", "Accepts multiple `element` arguments.")],
            ..CommandSpec::EMPTY
        },
        lpushx,
    ),
    Command::new(
        CommandSpec {
            name: "lrange",
            arity: 4,
            flags: Flags::READONLY,
            categories: Acl::LIST,
            keys: &[KeySpec::range(Key::RO.and(Key::ACCESS), 1, 0, 1)],
            group: Group::List,
            since: "1.0.0",
            complexity: "O(S+N) where S is the distance of start offset from HEAD for small lists, from nearest end (HEAD or TAIL) for large lists; and N is the number of elements in the specified range.",
            summary: "Returns a range of elements from a list.",
            args: "key:key start:int stop:int",
            ..CommandSpec::EMPTY
        },
        lrange,
    ),
    Command::new(
        CommandSpec {
            name: "lrem",
            arity: 4,
            flags: Flags::WRITE,
            categories: Acl::LIST,
            keys: &[KeySpec::range(Key::RW.and(Key::DELETE), 1, 0, 1)],
            group: Group::List,
            since: "1.0.0",
            complexity: "O(N+M) where N is the length of the list and M is the number of elements removed.",
            summary: "Removes elements from a list. Deletes the list if the last element was removed.",
            args: "key:key count:int element",
            ..CommandSpec::EMPTY
        },
        lrem,
    ),
    Command::new(
        CommandSpec {
            name: "lset",
            arity: 4,
            flags: Flags::WRITE.and(Flags::DENYOOM),
            categories: Acl::LIST,
            keys: &[KeySpec::range(Key::RW.and(Key::UPDATE), 1, 0, 1)],
            group: Group::List,
            since: "1.0.0",
            complexity: "O(N) where N is the length of the list. Setting either the first or the last element of the list is O(1).",
            summary: "Sets the value of an element in a list by its index.",
            args: "key:key index:int element",
            ..CommandSpec::EMPTY
        },
        lset,
    ),
    Command::new(
        CommandSpec {
            name: "ltrim",
            arity: 4,
            flags: Flags::WRITE,
            categories: Acl::LIST,
            keys: &[KeySpec::range(Key::RW.and(Key::DELETE), 1, 0, 1)],
            group: Group::List,
            since: "1.0.0",
            complexity: "O(N) where N is the number of elements to be removed by the operation.",
            summary: "Removes elements from both ends of a list. Deletes the list if all elements were trimmed.",
            args: "key:key start:int stop:int",
            ..CommandSpec::EMPTY
        },
        ltrim,
    ),
    Command::new(
        CommandSpec {
            name: "rpop",
            arity: -2,
            flags: Flags::WRITE.and(Flags::FAST),
            categories: Acl::LIST,
            keys: &[KeySpec::range(
                Key::RW.and(Key::ACCESS).and(Key::DELETE),
                1,
                0,
                1,
            )],
            group: Group::List,
            since: "1.0.0",
            complexity: "O(N) where N is the number of elements returned",
            summary: "Returns and removes one or more elements from the end of a list. Deletes the list if the last element was popped.",
            args: "key:key [count:int@6.2.0]",
            history: &[("6.2.0", "Added the `count` argument.")],
            ..CommandSpec::EMPTY
        },
        rpop,
    ),
    Command::new(
        CommandSpec {
            name: "rpush",
            arity: -3,
            flags: Flags::WRITE.and(Flags::DENYOOM).and(Flags::FAST),
            categories: Acl::LIST,
            keys: &[KeySpec::range(Key::RW.and(Key::INSERT), 1, 0, 1)],
            group: Group::List,
            since: "1.0.0",
            complexity: "O(1) for each element added, so O(N) to add N elements when the command is called with multiple arguments.",
            summary: "Appends one or more elements to a list. Creates the key if it doesn't exist.",
            args: "key:key element...",
            history: &[("2.4.0", "Accepts multiple `element` arguments.")],
            ..CommandSpec::EMPTY
        },
        rpush,
    ),
    Command::new(
        CommandSpec {
            name: "rpushx",
            arity: -3,
            flags: Flags::WRITE.and(Flags::DENYOOM).and(Flags::FAST),
            categories: Acl::LIST,
            keys: &[KeySpec::range(Key::RW.and(Key::INSERT), 1, 0, 1)],
            group: Group::List,
            since: "2.2.0",
            complexity: "O(1) for each element added, so O(N) to add N elements when the command is called with multiple arguments.",
            summary: "Appends one or more elements to a list only when the list exists.",
            args: "key:key element...",
            history: &[("4.0.0", "Accepts multiple `element` arguments.")],
            ..CommandSpec::EMPTY
        },
        rpushx,
    ),
];

fn lpush(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    push(engine, call, End::Left, false)
}

fn rpush(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    push(engine, call, End::Right, false)
}

fn lpushx(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    push(engine, call, End::Left, true)
}

fn rpushx(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    push(engine, call, End::Right, true)
}

fn push(engine: &mut Engine, call: &mut Call<'_>, end: End, existing_only: bool) -> CmdResult {
    let (key, elements) = (call.arg(1), &call.argv[2..]);
    let limits = engine.limits();
    let list = if existing_only {
        match engine.write::<ListValue>(call, key)? {
            Some(list) => list,
            None => {
                call.reply_int(0);
                return DONE;
            }
        }
    } else {
        engine.write_or_create(call, key, ListValue::new)?
    };
    list.prepare(
        elements.iter().map(|e| e.len()).sum(),
        elements.len(),
        &limits,
    );
    for element in elements {
        list.push(end, element, &limits);
    }
    call.reply_len(list.len());
    call.modified(key, elements.len() as u64);
    call.notify(EventClass::LIST, push_event(end), key);
    DONE
}

/// The event of an element pushed at this end.
pub(super) fn push_event(end: End) -> &'static str {
    match end {
        End::Left => "lpush",
        End::Right => "rpush",
    }
}

/// The event of elements popped at this end.
pub(super) fn pop_event(end: End) -> (EventClass, &'static str) {
    let event = match end {
        End::Left => "lpop",
        End::Right => "rpop",
    };
    (EventClass::LIST, event)
}

fn lpop(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    pop(engine, call, End::Left, "lpop")
}

fn rpop(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    pop(engine, call, End::Right, "rpop")
}

fn pop(engine: &mut Engine, call: &mut Call<'_>, end: End, name: &str) -> CmdResult {
    let key = call.arg(1);
    let count = match call.argv.len() {
        2 => None,
        3 => Some(args::count(call, 2)?),
        _ => return Err(CmdError::wrong_arity(name)),
    };
    if engine.look::<ListValue>(call, key)?.is_none() {
        match count {
            None => call.reply_null(),
            Some(_) => call.reply_null_array(),
        }
        return DONE;
    }
    match count {
        None => {
            let element = take(engine, call, key, end)?;
            call.reply_bulk(&element);
        }
        Some(0) => call.reply_array(0),
        Some(n) => {
            take_many(engine, call, key, end, n)?;
        }
    }
    DONE
}

/// Pops one element of a list that is there; the key goes with its last element.
pub(super) fn take(
    engine: &mut Engine,
    call: &mut Call<'_>,
    key: &[u8],
    end: End,
) -> Result<Box<[u8]>, CmdError> {
    let limits = engine.limits();
    let list = engine
        .write::<ListValue>(call, key)?
        .ok_or(CmdError::NO_SUCH_KEY)?;
    let element = list.pop(end).ok_or(CmdError::NO_SUCH_KEY)?;
    list.shrink(&limits);
    let empty = list.is_empty();
    engine.removed_from(call, key, pop_event(end), empty, 1);
    Ok(element)
}

/// Pops up to `n` elements of a list that is there and answers them as an array; how many there were.
pub(super) fn take_many(
    engine: &mut Engine,
    call: &mut Call<'_>,
    key: &[u8],
    end: End,
    n: usize,
) -> Result<usize, CmdError> {
    let limits = engine.limits();
    let list = engine
        .write::<ListValue>(call, key)?
        .ok_or(CmdError::NO_SUCH_KEY)?;
    let len = list.len();
    let n = n.min(len);
    call.reply_array(n);
    let first = match end {
        End::Left => 0,
        End::Right => len.saturating_sub(1),
    };
    for element in list.iter_from(first, end == End::Right).take(n) {
        call.reply_bulk(element.bytes(&mut None));
    }
    list.remove(if end == End::Left { 0 } else { len - n }, n);
    list.shrink(&limits);
    let empty = list.is_empty();
    engine.removed_from(call, key, pop_event(end), empty, n as u64);
    Ok(n)
}

fn llen(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    let list = engine.read::<ListValue>(call, call.arg(1))?;
    call.reply_len(list.map_or(0, ListValue::len));
    DONE
}

fn lrange(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    let (start, stop) = (call.int_arg(2)?, call.int_arg(3)?);
    let Some(list) = engine.read::<ListValue>(call, call.arg(1))? else {
        call.reply_array(0);
        return DONE;
    };
    let range = args::index_range(start, stop, list.len());
    call.reply_array(range.len());
    if !range.is_empty() {
        for element in list.iter_from(range.start, false).take(range.len()) {
            call.reply_bulk(element.bytes(&mut None));
        }
    }
    DONE
}

/// The index that `index` means in a list of `len` elements; negative ones count from the end.
fn absolute(index: i64, len: usize) -> Option<usize> {
    let index = if index < 0 { len as i64 + index } else { index };
    usize::try_from(index).ok().filter(|i| *i < len)
}

fn lindex(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    let Some(list) = engine.read::<ListValue>(call, call.arg(1))? else {
        call.reply_null();
        return DONE;
    };
    let index = call.int_arg(2)?;
    match absolute(index, list.len()).and_then(|i| list.get(i)) {
        Some(element) => call.reply_bulk(element.bytes(&mut None)),
        None => call.reply_null(),
    }
    DONE
}

fn lset(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    let (key, element) = (call.arg(1), call.arg(3));
    let limits = engine.limits();
    let list = engine
        .write::<ListValue>(call, key)?
        .ok_or(CmdError::NO_SUCH_KEY)?;
    let index = absolute(call.int_arg(2)?, list.len()).ok_or(CmdError::INDEX_OUT_OF_RANGE)?;
    list.prepare(element.len(), 1, &limits);
    list.set(index, element, &limits);
    list.shrink(&limits);
    call.modified(key, 1);
    call.notify(EventClass::LIST, "lset", key);
    call.reply_ok();
    DONE
}

fn linsert(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    let (key, pivot, element) = (call.arg(1), call.arg(3), call.arg(4));
    let after = match () {
        () if call.arg_is(2, "AFTER") => true,
        () if call.arg_is(2, "BEFORE") => false,
        () => return Err(CmdError::SYNTAX),
    };
    let limits = engine.limits();
    let Some(list) = engine.look::<ListValue>(call, key)? else {
        call.reply_int(0);
        return DONE;
    };
    let Some(at) = list.iter().position(|e| e.is(pivot)) else {
        call.reply_int(-1);
        return DONE;
    };
    if let Some(list) = engine.write::<ListValue>(call, key)? {
        list.prepare(element.len(), 1, &limits);
        list.insert(at + usize::from(after), element, &limits);
        call.reply_len(list.len());
        call.modified(key, 1);
        call.notify(EventClass::LIST, "linsert", key);
    }
    DONE
}

fn lrem(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    let (key, element) = (call.arg(1), call.arg(3));
    let count = args::negatable_int(call, 2)?;
    let limits = engine.limits();
    let Some(list) = engine.look::<ListValue>(call, key)? else {
        call.reply_int(0);
        return DONE;
    };
    let most = match count {
        0 => usize::MAX,
        n => usize::try_from(n.unsigned_abs()).unwrap_or(usize::MAX),
    };
    // The indexes to remove, the last one first, so that those before stay right.
    let mut found: Vec<usize> = Vec::new();
    let len = list.len();
    let from_tail = count < 0;
    let start = if from_tail { len.saturating_sub(1) } else { 0 };
    for (i, e) in list.iter_from(start, from_tail).enumerate() {
        if e.is(element) {
            found.push(if from_tail { len - 1 - i } else { i });
            if found.len() == most {
                break;
            }
        }
    }
    if !found.is_empty()
        && let Some(list) = engine.write::<ListValue>(call, key)?
    {
        if !from_tail {
            found.reverse();
        }
        remove_indexes(list, &found, &limits);
        list.shrink(&limits);
        let event = (EventClass::LIST, "lrem");
        let empty = list.is_empty();
        engine.removed_from(call, key, event, empty, found.len() as u64);
    }
    call.reply_len(found.len());
    DONE
}

/// Removes the elements at these indexes, which descend. Many of them at once cost one walk, not one each.
fn remove_indexes(list: &mut ListValue, indexes: &[usize], limits: &TypeLimits) {
    const FEW: usize = 16;
    if indexes.len() <= FEW {
        for i in indexes {
            list.remove(*i, 1);
        }
        return;
    }
    let mut doomed = indexes.iter().rev().copied().peekable();
    // In the same form; the caller shrinks it.
    let mut kept = match list {
        ListValue::Pack(_) => ListValue::new(),
        ListValue::Quick(_) => ListValue::Quick(PackedBox::default()),
    };
    for (i, e) in list.iter().enumerate() {
        if doomed.next_if_eq(&i).is_none() {
            let mut buf = None;
            let bytes = e.bytes(&mut buf);
            kept.prepare(bytes.len(), 1, limits);
            kept.push(End::Right, bytes, limits);
        }
    }
    *list = kept;
}

fn ltrim(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    let key = call.arg(1);
    let (start, stop) = (call.int_arg(2)?, call.int_arg(3)?);
    let limits = engine.limits();
    if let Some(list) = engine.write::<ListValue>(call, key)? {
        let len = list.len();
        let range = args::index_range(start, stop, len);
        let removed = len - range.len();
        if removed > 0 {
            list.remove(range.end, len);
            list.remove(0, range.start);
            list.shrink(&limits);
        }
        let event = (EventClass::LIST, "ltrim");
        let empty = list.is_empty();
        if removed > 0 {
            engine.removed_from(call, key, event, empty, removed as u64);
        } else {
            call.notify(event.0, event.1, key);
        }
    }
    call.reply_ok();
    DONE
}

fn lpos(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    let element = call.arg(2);
    let (mut rank, mut count, mut max_len) = (1i64, None, 0usize);
    let mut i = 3;
    while i < call.argv.len() {
        let more = i + 1 < call.argv.len();
        if call.arg_is(i, "RANK") && more {
            rank = args::negatable_int(call, i + 1)?;
            if rank == 0 {
                return Err(CmdError::Static(
                    "ERR RANK can't be zero: use 1 to start from the first match, 2 from the second ... or use negative to start from the end of the list",
                ));
            }
        } else if call.arg_is(i, "COUNT") && more {
            let n = args::int_in(call, i + 1, 0..=i64::MAX, "ERR COUNT can't be negative")?;
            count = Some(usize::try_from(n).unwrap_or(usize::MAX));
        } else if call.arg_is(i, "MAXLEN") && more {
            let n = args::int_in(call, i + 1, 0..=i64::MAX, "ERR MAXLEN can't be negative")?;
            max_len = usize::try_from(n).unwrap_or(usize::MAX);
        } else {
            return Err(CmdError::SYNTAX);
        }
        i += 2;
    }
    let mut found = Vec::new();
    if let Some(list) = engine.read::<ListValue>(call, call.arg(1))? {
        let len = list.len();
        let reverse = rank < 0;
        let most = match count {
            None => 1,
            Some(0) => usize::MAX,
            Some(n) => n,
        };
        let looked_at = if max_len == 0 { len } else { max_len.min(len) };
        let start = if reverse { len.saturating_sub(1) } else { 0 };
        found = list
            .iter_from(start, reverse)
            .take(looked_at)
            .enumerate()
            .filter(|(_, e)| e.is(element))
            .skip(usize::try_from(rank.unsigned_abs() - 1).unwrap_or(usize::MAX))
            .take(most)
            .map(|(i, _)| if reverse { len - 1 - i } else { i })
            .collect();
    }
    match (count, found.first()) {
        (None, Some(at)) => call.reply_len(*at),
        (None, None) => call.reply_null(),
        (Some(_), _) => {
            call.reply_array(found.len());
            for at in found {
                call.reply_len(at);
            }
        }
    }
    DONE
}
