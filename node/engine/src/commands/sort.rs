//! `SORT` and `SORT_RO`.

use std::cmp::Ordering;

use super::scan::pattern_slot;
use crate::call::{Call, CmdError, CmdResult, DONE};
use crate::engine::{Engine, Ttl};
use crate::events::EventClass;
use crate::number::parse_f64;
use crate::slots::key_slot;
use crate::spec::{Acl, Begin, Command, CommandSpec, Find, Flags, Group, Key, KeySpec};
use crate::types::ListValue;
use crate::types::list_value::End;
use crate::value::{DataType, ValueRef};

/// The arguments.
#[derive(Default)]
struct Options<'a> {
    desc: bool,
    alpha: bool,
    limit: Option<(i64, i64)>,
    by: Option<&'a [u8]>,
    get: Vec<&'a [u8]>,
    store: Option<&'a [u8]>,
}

fn options<'a>(engine: &Engine, call: &Call<'a>, read_only: bool) -> Result<Options<'a>, CmdError> {
    let cluster = engine.config().cluster;
    // A pattern may only form keys of the slot that the command is routed by.
    let elsewhere =
        |pattern: &[u8]| cluster && pattern_slot(pattern) != Some(key_slot(call.arg(1)));
    let mut found = Options::default();
    let mut i = 2;
    while i < call.argv.len() {
        let left = call.argv.len() - i - 1;
        if call.arg_is(i, "ASC") {
            found.desc = false;
        } else if call.arg_is(i, "DESC") {
            found.desc = true;
        } else if call.arg_is(i, "ALPHA") {
            found.alpha = true;
        } else if call.arg_is(i, "LIMIT") && left >= 2 {
            found.limit = Some((call.int_arg(i + 1)?, call.int_arg(i + 2)?));
            i += 2;
        } else if !read_only && call.arg_is(i, "STORE") && left >= 1 {
            found.store = Some(call.arg(i + 1));
            i += 1;
        } else if call.arg_is(i, "BY") && left >= 1 {
            let by = call.arg(i + 1);
            if by.contains(&b'*') && elsewhere(by) {
                return Err(CmdError::Static(
                    "ERR BY option of SORT denied in Cluster mode when keys formed by the pattern may be in different \
                     slots.",
                ));
            }
            found.by = Some(by);
            i += 1;
        } else if call.arg_is(i, "GET") && left >= 1 {
            let get = call.arg(i + 1);
            if get != b"#" && elsewhere(get) {
                return Err(CmdError::Static(
                    "ERR GET option of SORT denied in Cluster mode when keys formed by the pattern may be in different \
                     slots.",
                ));
            }
            found.get.push(get);
            i += 1;
        } else {
            return Err(CmdError::SYNTAX);
        }
        i += 1;
    }
    Ok(found)
}

/// What a pattern means for an element: `#` the element itself; otherwise the string of the key (or, behind `->`, the field
/// of the hash) whose name has the element in place of the first `*`.
fn by_pattern(
    engine: &mut Engine,
    call: &mut Call<'_>,
    pattern: &[u8],
    element: &[u8],
) -> Option<Vec<u8>> {
    if pattern == b"#" {
        return Some(element.to_vec());
    }
    let star = pattern.iter().position(|b| *b == b'*')?;
    let (prefix, rest) = (pattern.get(..star)?, pattern.get(star + 1..)?);
    let arrow = rest
        .windows(2)
        .position(|w| w == b"->")
        .filter(|at| at + 2 < rest.len());
    let (suffix, field) = match arrow {
        Some(at) => (rest.get(..at)?, rest.get(at + 2..)),
        None => (rest, None),
    };
    let key = [prefix, element, suffix].concat();
    let now = crate::types::hash_commands::fields_now(call);
    match (engine.lookup_read(call, &key)?, field) {
        (ValueRef::Str(s), None) => Some(s.text().to_vec()),
        (ValueRef::Hash(hash), Some(field)) => hash.get(field, now).map(|v| v.to_vec()),
        _ => None,
    }
}

/// A weight. As in Valkey, whose strings end for `strtod` at a zero byte, what is behind one does not count.
fn number(text: &[u8]) -> Option<f64> {
    parse_f64(text.split(|b| *b == 0).next().unwrap_or_default())
}

/// Elements named in one effect of a stored result.
const RPUSH_BATCH: usize = 1024;

fn sort_key(engine: &mut Engine, call: &mut Call<'_>, read_only: bool) -> CmdResult {
    let mut o = options(engine, call, read_only)?;
    let key = call.arg(1);
    let mut is_set = false;
    let mut elements: Vec<Vec<u8>> = match engine.lookup_read(call, key) {
        None => Vec::new(),
        Some(ValueRef::List(v)) => v.iter().map(|e| e.to_vec()).collect(),
        Some(ValueRef::Zset(v)) => v.iter().map(|(e, _)| e.to_vec()).collect(),
        Some(ValueRef::Set(v)) => {
            is_set = true;
            v.iter().map(|e| e.to_vec()).collect()
        }
        Some(ValueRef::Str(_) | ValueRef::Hash(_) | ValueRef::Stream(_)) => {
            return Err(CmdError::WRONG_TYPE);
        }
    };
    let mut sorts = o.by.is_none_or(|by| by.contains(&b'*'));
    if !sorts && is_set && o.store.is_some() {
        // What is stored must not depend on the order inside a set: copies have their own.
        (sorts, o.alpha, o.by) = (true, true, None);
    }
    if sorts {
        elements = sorted(engine, call, elements, &o)?;
    } else if o.desc && !is_set {
        elements.reverse();
    }
    if let Some((offset, count)) = o.limit {
        let start = usize::try_from(offset).unwrap_or(0).min(elements.len());
        let end = match usize::try_from(count) {
            Ok(count) => start.saturating_add(count).min(elements.len()),
            Err(_) => elements.len(),
        };
        elements.truncate(end);
        elements.drain(..start);
    }
    let output: Vec<Option<Vec<u8>>> = if o.get.is_empty() {
        elements.into_iter().map(Some).collect()
    } else {
        let mut output = Vec::with_capacity(elements.len() * o.get.len());
        for element in &elements {
            for pattern in &o.get {
                output.push(by_pattern(engine, call, pattern, element));
            }
        }
        output
    };
    let Some(destination) = o.store else {
        call.reply_array(output.len());
        for value in &output {
            match value {
                Some(value) => call.reply_bulk(value),
                None => call.reply_null(),
            }
        }
        return DONE;
    };
    // Fields whose time has passed are there for copies, which do not look at the clock: they are sent the result.
    let by_field = |pattern: &[u8]| pattern.windows(2).any(|w| w == b"->");
    let exactly = engine.expiring_hashes_len(call.db) > 0
        && o.by.iter().chain(&o.get).any(|pattern| by_field(pattern));
    if output.is_empty() {
        if engine.delete_and_report(call, destination) && exactly {
            call.rewrite(&[b"DEL", destination]);
        }
    } else {
        let limits = engine.limits();
        let mut list = ListValue::new();
        let bytes = output.iter().flatten().map(Vec::len).sum();
        list.prepare(bytes, output.len(), &limits);
        for value in &output {
            list.push(End::Right, value.as_deref().unwrap_or_default(), &limits);
        }
        engine.set_value(call, destination, list.into_value(), Ttl::Clear);
        call.modified(destination, output.len() as u64);
        call.notify(EventClass::LIST, "sortstore", destination);
        if exactly {
            call.rewrite(&[b"DEL", destination]);
            for batch in output.chunks(RPUSH_BATCH) {
                let mut argv: Vec<&[u8]> = vec![b"RPUSH", destination];
                argv.extend(batch.iter().map(|v| v.as_deref().unwrap_or_default()));
                call.rewrite(&argv);
            }
        }
    }
    call.reply_len(output.len());
    DONE
}

/// The elements in the order that is asked for.
fn sorted(
    engine: &mut Engine,
    call: &mut Call<'_>,
    elements: Vec<Vec<u8>>,
    o: &Options<'_>,
) -> Result<Vec<Vec<u8>>, CmdError> {
    let directed = |order: Ordering| if o.desc { order.reverse() } else { order };
    let mut weighed: Vec<(Option<Vec<u8>>, f64, Vec<u8>)> = Vec::with_capacity(elements.len());
    for element in elements {
        let weight = match o.by {
            Some(by) => by_pattern(engine, call, by, &element),
            None => None,
        };
        let mut score = 0.0;
        if !o.alpha {
            let text = if o.by.is_some() {
                weight.as_deref()
            } else {
                Some(&element[..])
            };
            score = text.map_or(Some(0.0), number).ok_or(CmdError::Static(
                "ERR One or more scores can't be converted into double",
            ))?;
        }
        weighed.push((weight, score, element));
    }
    weighed.sort_by(|(weight_a, score_a, a), (weight_b, score_b, b)| {
        directed(match (o.alpha, o.by) {
            // Equal scores: by the elements, so that the order is determined.
            (false, _) => score_a.total_cmp(score_b).then_with(|| a.cmp(b)),
            // A missing weight comes first.
            (true, Some(_)) => weight_a.cmp(weight_b),
            (true, None) => a.cmp(b),
        })
    });
    Ok(weighed.into_iter().map(|(_, _, element)| element).collect())
}

fn sort(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    sort_key(engine, call, false)
}

fn sort_ro(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
    sort_key(engine, call, true)
}

/// `SORT`'s keys: the one to sort, and the last `STORE`.
fn keys(argv: &[&[u8]], found: &mut dyn FnMut(usize, Key)) {
    found(1, Key::RO.and(Key::ACCESS));
    let mut store = None;
    let mut i = 2;
    while let Some(word) = argv.get(i) {
        let is = |text: &str| word.eq_ignore_ascii_case(text.as_bytes());
        i += match () {
            () if is("LIMIT") => 3,
            () if is("GET") || is("BY") => 2,
            () => {
                if is("STORE") && i + 1 < argv.len() {
                    store = Some(i + 1);
                }
                1
            }
        };
    }
    if let Some(store) = store {
        found(store, Key::OW.and(Key::UPDATE));
    }
}

/// `SORT_RO`'s key.
fn ro_keys(_: &[&[u8]], found: &mut dyn FnMut(usize, Key)) {
    found(1, Key::RO.and(Key::ACCESS));
}

const BY_NOTE: &str = "For the optional BY/GET keyword. It is marked 'unknown' because the key names derive from the content of \
                       the key we sort";
const STORE_NOTE: &str = "For the optional STORE keyword. It is marked 'unknown' because the keyword can appear anywhere in the \
                          argument array";

/// The rows.
pub const COMMANDS: &[Command] = &[
    Command::new(
        CommandSpec {
            name: "sort",
            arity: -2,
            flags: Flags::WRITE.and(Flags::DENYOOM),
            categories: Acl::DANGEROUS
                .and(Acl::LIST)
                .and(Acl::SET)
                .and(Acl::SORTEDSET),
            keys: &[
                KeySpec::range(Key::RO.and(Key::ACCESS), 1, 0, 1),
                KeySpec::new(Key::RO.and(Key::ACCESS), Begin::Unknown, Find::Unknown)
                    .noted(BY_NOTE),
                KeySpec::new(Key::OW.and(Key::UPDATE), Begin::Unknown, Find::Unknown)
                    .noted(STORE_NOTE),
            ],
            group: Group::Generic,
            since: "1.0.0",
            complexity: "O(N+M*log(M)) where N is the number of elements in the list or set to sort, and M the number of returned elements. When the elements are not sorted, complexity is O(N).",
            summary: "Sorts the elements in a list, a set, or a sorted set, optionally storing the result.",
            args: "key:key [BY=by-pattern:pattern#1~pattern] [LIMIT={offset:int count:int}<limit>] [GET=get-pattern:pattern#1~pattern...+] [(ASC | DESC)<order>] [ALPHA<sorting>] [STORE=destination:key#2]",
            find_keys: Some(keys),
            ..CommandSpec::EMPTY
        },
        sort,
    ),
    Command::new(
        CommandSpec {
            name: "sort_ro",
            arity: -2,
            flags: Flags::READONLY,
            categories: Acl::DANGEROUS
                .and(Acl::LIST)
                .and(Acl::SET)
                .and(Acl::SORTEDSET),
            keys: &[
                KeySpec::range(Key::RO.and(Key::ACCESS), 1, 0, 1),
                KeySpec::new(Key::RO.and(Key::ACCESS), Begin::Unknown, Find::Unknown)
                    .noted(BY_NOTE),
            ],
            group: Group::Generic,
            since: "7.0.0",
            complexity: "O(N+M*log(M)) where N is the number of elements in the list or set to sort, and M the number of returned elements. When the elements are not sorted, complexity is O(N).",
            summary: "Returns the sorted elements of a list, a set, or a sorted set.",
            args: "key:key [BY=by-pattern:pattern#1~pattern] [LIMIT={offset:int count:int}<limit>] [GET=get-pattern:pattern#1~pattern...+] [(ASC | DESC)<order>] [ALPHA<sorting>]",
            find_keys: Some(ro_keys),
            ..CommandSpec::EMPTY
        },
        sort_ro,
    ),
];
