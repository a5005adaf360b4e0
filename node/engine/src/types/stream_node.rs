//! A node of a stream: some entries packed into one allocation, delta-coded against the node's first entry.
//!
//! Elements are coded as in a listpack, but without their lengths behind them: those are only behind whole entries, for walks
//! backwards. Files get Valkey's stream listpack made of it, and how long that is is kept, since it decides when a node is full.
//!
//! ```text
//! first:  | number of fields | field … |
//! then:   | flags u8 | ms - first ms | seq - first seq | number of fields | field | value | … | length |    for each entry
//!         | flags u8 | ms - first ms | seq - first seq | value … | length |             if it has the first one's fields
//! flags:  1 deleted, 2 the first one's fields
//! length: bytes of the entry before it, 7 bits a byte, read from the end
//! ```
//!
//! A deleted entry stays until its node goes, as in Valkey: which nodes there are decides what `MAXLEN ~` removes.
//!
//! Positions are offsets of elements. What comes from outside becomes a node through [`Node::from_listpack`] only, which
//! checks all that the rest relies on.

use super::listpack::{
    Elem, Listpack, backlen_size, decode, encode_int, encode_value, push_backlen,
};
use super::stream_id::StreamId;
use holdfast_resp::parse_i64;

const DELETED: u8 = 1;
const SAME_FIELDS: u8 = 2;

/// Bytes of a listpack's head and end mark.
const FRAME: usize = 7;

/// Free room that an append leaves at most for the next ones.
const ROOM_MAX: usize = 1024;

/// See the module's documentation. The id of the first entry is the node's key in the stream.
#[derive(Clone, Debug)]
pub struct Node {
    buf: Vec<u8>,
    live: u32,
    deleted: u32,
    /// Elements of the listpack behind the counts of entries, and their bytes.
    elements: u32,
    packed: u32,
    /// Where the entries begin.
    entries_at: u32,
    /// No entry before this position is live. So trimming entry by entry does not pass over the trimmed ones each time.
    head: u32,
}

/// An entry inside a node.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// Its id.
    pub id: StreamId,
    node: &'a Node,
    /// Where its flags are.
    at: usize,
    /// Where what follows the fixed part is.
    body: usize,
    fields: usize,
    flags: u8,
}

/// Iterator over the fields and values of an entry.
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    buf: &'a [u8],
    /// Where the entry begins.
    start: usize,
    /// Where the next name is, if names come from the first entry.
    names_at: Option<usize>,
    at: usize,
    left: usize,
}

#[inline]
fn elem(buf: &[u8], at: usize) -> (Elem<'_>, usize) {
    let (elem, n) = decode(&buf[at..]).expect("a node's element");
    (elem, at + n)
}

#[inline]
fn int(buf: &[u8], at: usize) -> (i64, usize) {
    if let [v @ 0..=0x7f, ..] = buf[at..] {
        return (i64::from(v), at + 1);
    }
    match elem(buf, at) {
        (Elem::Int(v), next) => (v, next),
        (Elem::Str(_), next) => (0, next),
    }
}

/// The position behind an element.
#[inline]
fn skip(buf: &[u8], at: usize) -> usize {
    match buf[at] {
        0..=0x7f => at + 1,
        b @ 0x80..=0xbf => at + 1 + usize::from(b & 0x3f),
        0xc0..=0xdf => at + 2,
        _ => elem(buf, at).1,
    }
}

/// The position of the entry before.
#[inline]
fn skip_back(buf: &[u8], at: usize) -> usize {
    let (mut len, mut shift, mut p) = (0, 0, at);
    loop {
        p -= 1;
        len |= usize::from(buf[p] & 127) << shift;
        if buf[p] & 128 == 0 {
            return p - len;
        }
        shift += 7;
    }
}

/// Appends an integer as an element of a listpack.
fn push_int(out: &mut Vec<u8>, v: i64) {
    let start = out.len();
    encode_int(out, v);
    let n = out.len() - start;
    push_backlen(out, n);
}

/// Appends elements without their lengths, and counts what they take in a listpack.
struct Writer<'a> {
    buf: &'a mut Vec<u8>,
    packed: usize,
}

impl Writer<'_> {
    #[inline]
    fn int(&mut self, v: i64) {
        if let 0..=127 = v {
            self.buf.push(v as u8);
            self.packed += 2;
            return;
        }
        self.counted(|buf| encode_int(buf, v));
    }

    #[inline]
    fn value(&mut self, s: &[u8]) {
        self.counted(|buf| encode_value(buf, s));
    }

    #[inline]
    fn counted(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.buf.len();
        write(self.buf);
        let n = self.buf.len() - start;
        self.packed += n + backlen_size(n);
    }
}

/// Bytes of an integer that is not negative, as an element.
fn int_bytes(v: u32) -> usize {
    match v {
        0..=127 => 2,
        128..=4095 => 3,
        4096..=32_767 => 4,
        32_768..=8_388_607 => 5,
        8_388_608..=0x7fff_ffff => 6,
        _ => 10,
    }
}

impl Node {
    /// A node whose entries will be coded against one with these fields.
    pub(super) fn new(pairs: &[&[u8]]) -> Node {
        let fields = pairs.len() / 2;
        let mut buf = Vec::new();
        let bytes: usize = pairs.iter().map(|s| s.len() + 5).sum();
        buf.reserve_exact(bytes + 20);
        let mut out = Writer {
            buf: &mut buf,
            packed: int_bytes(0),
        };
        out.int(fields as i64);
        for pair in pairs.chunks_exact(2) {
            out.value(pair[0]);
        }
        Node {
            live: 0,
            deleted: 0,
            elements: fields as u32 + 2,
            packed: out.packed as u32,
            entries_at: buf.len() as u32,
            head: buf.len() as u32,
            buf,
        }
    }

    /// Number of entries that are not deleted.
    pub fn live(&self) -> usize {
        self.live as usize
    }

    /// Number of entries, deleted ones included.
    pub fn total(&self) -> usize {
        self.live as usize + self.deleted as usize
    }

    /// Bytes of the listpack.
    pub fn byte_len(&self) -> usize {
        FRAME + int_bytes(self.live) + int_bytes(self.deleted) + self.packed as usize
    }

    /// Bytes allocated.
    pub fn own_bytes(&self) -> usize {
        self.buf.capacity()
    }

    /// Appends an entry of fields and values in turn. `first` is the id of the node's first entry.
    pub(super) fn append(&mut self, first: StreamId, id: StreamId, pairs: &[&[u8]]) {
        let fields = pairs.len() / 2;
        let same = self.has_fields(pairs);
        let bytes: usize = pairs.iter().map(|s| s.len() + 5).sum();
        let need = bytes + 32;
        if self.buf.capacity() - self.buf.len() < need {
            let ahead = (self.buf.len() / 2).min(ROOM_MAX);
            self.buf.reserve_exact(need.max(ahead));
        }
        let start = self.buf.len();
        let (ms, seq) = id.delta(first);
        let mut elements = fields + 3;
        let mut out = Writer {
            buf: &mut self.buf,
            packed: 0,
        };
        out.int(if same { SAME_FIELDS.into() } else { 0 });
        out.int(ms);
        out.int(seq);
        if same {
            for pair in pairs.chunks_exact(2) {
                out.value(pair[1]);
            }
        } else {
            elements += fields + 1;
            out.int(fields as i64);
            for s in pairs {
                out.value(s);
            }
        }
        self.packed += (out.packed + int_bytes(elements as u32)) as u32;
        self.elements += elements as u32 + 1;
        self.live += 1;
        let n = self.buf.len() - start;
        push_backlen(&mut self.buf, n);
    }

    /// Whether the first entry has these fields.
    fn has_fields(&self, pairs: &[&[u8]]) -> bool {
        let (fields, mut at) = int(&self.buf, 0);
        if fields as usize != pairs.len() / 2 {
            return false;
        }
        for pair in pairs.chunks_exact(2) {
            let (name, next) = elem(&self.buf, at);
            let equal = match name {
                Elem::Str(own) => own == pair[0],
                Elem::Int(own) => parse_i64(pair[0]) == Some(own),
            };
            if !equal {
                return false;
            }
            at = next;
        }
        true
    }

    /// No more entries will come.
    pub(super) fn seal(&mut self) {
        self.buf.shrink_to_fit();
    }

    /// The entry at a position.
    #[inline]
    pub(super) fn entry(&self, first: StreamId, at: usize) -> Entry<'_> {
        let flags = self.buf[at];
        let (ms, next) = int(&self.buf, at + 1);
        let (seq, next) = int(&self.buf, next);
        let (fields, body) = if flags & SAME_FIELDS != 0 {
            (int(&self.buf, 0).0, next)
        } else {
            int(&self.buf, next)
        };
        Entry {
            id: first.at_delta((ms, seq)),
            node: self,
            at,
            body,
            fields: fields as usize,
            flags,
        }
    }

    /// The position of the first entry that may be live.
    #[inline]
    pub(super) fn head(&self) -> usize {
        self.head as usize
    }

    /// The position behind the last entry.
    #[inline]
    pub(super) fn end(&self) -> usize {
        self.buf.len()
    }

    /// The position of the entry before one, down to `floor`.
    #[inline]
    fn before(&self, at: usize, floor: usize) -> Option<usize> {
        (at > floor).then(|| skip_back(&self.buf, at))
    }

    /// The last entry before a position that may be live.
    #[inline]
    pub(super) fn entry_before(&self, first: StreamId, at: usize) -> Option<Entry<'_>> {
        self.before(at, self.head()).map(|at| self.entry(first, at))
    }

    /// The id of the last entry, deleted or not.
    pub(super) fn last_id(&self, first: StreamId) -> StreamId {
        match self.before(self.end(), self.entries_at as usize) {
            Some(at) => self.entry(first, at).id,
            None => first,
        }
    }

    /// The id of the first entry, deleted or not.
    pub(super) fn first_id(&self, first: StreamId) -> StreamId {
        match self.entries_at as usize {
            at if at < self.end() => self.entry(first, at).id,
            _ => first,
        }
    }

    /// The position of the first entry that is not below `from` and may be live. `last` is about the id of the node's last entry: from
    /// which end to look.
    pub(super) fn seek(&self, first: StreamId, from: StreamId, last: StreamId) -> usize {
        if from <= first {
            return self.head();
        }
        let span = |id: StreamId| match id.ms.saturating_sub(first.ms) {
            0 => (0, id.seq.saturating_sub(first.seq)),
            ms => (ms, 0),
        };
        let (wanted, all) = (span(from), span(last));
        if wanted >= (all.0 / 2, all.1 / 2) {
            let mut at = self.end();
            while let Some(entry) = self.entry_before(first, at)
                && entry.id >= from
            {
                at = entry.at;
            }
            return at;
        }
        let mut at = self.head();
        while at < self.end() {
            let entry = self.entry(first, at);
            if entry.id >= from {
                break;
            }
            at = entry.end();
        }
        at
    }

    /// Marks the entry at a position, which must not be deleted, as deleted.
    pub(super) fn delete(&mut self, first: StreamId, at: usize) {
        self.buf[at] |= DELETED;
        self.live -= 1;
        self.deleted += 1;
        if at == self.head() {
            self.advance_head(first);
        }
    }

    fn advance_head(&mut self, first: StreamId) {
        let mut at = self.head();
        while at < self.end() {
            let entry = self.entry(first, at);
            if !entry.is_deleted() {
                break;
            }
            at = entry.end();
        }
        self.head = at as u32;
    }

    /// Deletes entries from the first one on until `stop`, which is asked before each. How many were deleted.
    pub(super) fn trim(
        &mut self,
        first: StreamId,
        mut stop: impl FnMut(StreamId, usize) -> bool,
    ) -> usize {
        let mut gone = 0;
        let mut at = self.head();
        while at < self.end() {
            let entry = self.entry(first, at);
            if stop(entry.id, gone) {
                break;
            }
            let (deleted, end) = (entry.is_deleted(), entry.end());
            if !deleted {
                self.buf[at] |= DELETED;
                self.live -= 1;
                self.deleted += 1;
                gone += 1;
            }
            at = end;
        }
        self.head = at as u32;
        self.advance_head(first);
        gone
    }

    /// Appends the listpack, as files have it.
    pub fn write_listpack(&self, out: &mut Vec<u8>) {
        let elements = u16::try_from(self.elements + 2).unwrap_or(u16::MAX);
        out.extend_from_slice(&(self.byte_len() as u32).to_le_bytes());
        out.extend_from_slice(&elements.to_le_bytes());
        push_int(out, i64::from(self.live));
        push_int(out, i64::from(self.deleted));
        let copy = |out: &mut Vec<u8>, from: usize, elements: usize| {
            let mut at = from;
            for _ in 0..elements {
                let next = skip(&self.buf, at);
                out.extend_from_slice(&self.buf[at..next]);
                push_backlen(out, next - at);
                at = next;
            }
            at
        };
        let names = int(&self.buf, 0).0 as usize;
        let mut next = copy(out, 0, 1 + names);
        push_int(out, 0);
        while next < self.buf.len() {
            let start = next;
            let same = self.buf[start] & SAME_FIELDS != 0;
            let head = copy(out, start, 3);
            let elements = match same {
                true => names,
                false => 1 + 2 * int(&self.buf, head).0 as usize,
            };
            let end = copy(out, head, elements);
            push_int(out, elements as i64 + 3);
            next = end + backlen_size(end - start);
        }
        out.push(0xff);
    }

    /// A node from a listpack that came from outside, whose first entry's id is said to be `first`.
    ///
    /// # Errors
    /// When it is no listpack, or its elements are not those of a node.
    pub fn from_listpack(first: StreamId, bytes: Vec<u8>) -> Result<Node, &'static str> {
        let lp = Listpack::from_bytes(bytes)?;
        let elements = lp.len();
        let mut it = lp.iter();
        let mut number = move || match it.next() {
            Some(Elem::Int(v)) => Ok(v),
            _ => Err("stream node without its counts"),
        };
        let (live, deleted) = (number()?, number()?);
        let counts = u32::try_from(live).ok().zip(u32::try_from(deleted).ok());
        let (live, deleted) = counts.ok_or("stream node with negative counts")?;
        let start = 6 + int_bytes(live) + int_bytes(deleted);
        let bytes = lp.as_bytes();
        let mut check = Check {
            bytes: &bytes[start..bytes.len() - 1],
            at: 0,
            buf: Vec::with_capacity(bytes.len()),
        };
        let fields = check.count()?;
        (0..fields).try_for_each(|_| check.skip())?;
        let entries_at = check.buf.len();
        if check.int()? != 0 {
            return Err("stream node without the mark behind its fields");
        }
        check.buf.truncate(entries_at);
        let (mut found, mut found_deleted) = (0u32, 0u32);
        let mut previous = None;
        while check.at < check.bytes.len() {
            let start = check.buf.len();
            let flags = check.int()?;
            let delta = (check.int()?, check.int()?);
            let names = match flags {
                0 | 1 => check.count()?,
                2 | 3 => 0,
                _ => return Err("stream entry with unknown flags"),
            };
            let own = if flags & 2 == 0 { names } else { fields };
            (0..names + own).try_for_each(|_| check.skip())?;
            let elements = 3 + own + if flags & 2 == 0 { names + 1 } else { 0 };
            let end = check.buf.len();
            if check.int()? != elements as i64 {
                return Err("stream entry with a wrong number of elements");
            }
            check.buf.truncate(end);
            push_backlen(&mut check.buf, end - start);
            let id = first.at_delta(delta);
            if id < first || previous.is_some_and(|p| id <= p) {
                return Err("stream entries out of order");
            }
            previous = Some(id);
            *if flags & 1 == 0 {
                &mut found
            } else {
                &mut found_deleted
            } += 1;
        }
        if (found, found_deleted) != (live, deleted) {
            return Err("stream node with wrong counts of entries");
        }
        if found + found_deleted == 0 {
            return Err("stream node without entries");
        }
        let packed = check.bytes.len() as u32;
        let mut buf = check.buf;
        buf.shrink_to_fit();
        let mut node = Node {
            buf,
            live: 0,
            deleted: 0,
            elements: (elements - 2) as u32,
            packed,
            entries_at: entries_at as u32,
            head: 0,
        };
        (node.live, node.deleted, node.head) = (live, deleted, node.entries_at);
        node.advance_head(first);
        Ok(node)
    }
}

/// Reads elements that have been checked one by one, but not whether they are the right ones, and keeps them without their lengths.
struct Check<'a> {
    bytes: &'a [u8],
    at: usize,
    buf: Vec<u8>,
}

impl<'a> Check<'a> {
    fn next(&mut self) -> Result<Elem<'a>, &'static str> {
        let rest = self.bytes.get(self.at..).filter(|rest| !rest.is_empty());
        let (elem, n) = rest
            .and_then(decode)
            .ok_or("stream node that ends within an entry")?;
        self.buf
            .extend_from_slice(&self.bytes[self.at..self.at + n]);
        self.at += n + backlen_size(n);
        Ok(elem)
    }

    fn skip(&mut self) -> Result<(), &'static str> {
        self.next().map(drop)
    }

    fn int(&mut self) -> Result<i64, &'static str> {
        match self.next()? {
            Elem::Int(v) => Ok(v),
            Elem::Str(_) => Err("stream node with a string where a number belongs"),
        }
    }

    /// A number of elements that are to follow.
    fn count(&mut self) -> Result<usize, &'static str> {
        usize::try_from(self.int()?)
            .ok()
            .filter(|n| *n <= self.bytes.len())
            .ok_or("stream entry with an impossible number of fields")
    }
}

impl<'a> Entry<'a> {
    /// Whether it has been deleted.
    #[inline]
    pub fn is_deleted(&self) -> bool {
        self.flags & DELETED != 0
    }

    /// Number of fields.
    pub fn len(&self) -> usize {
        self.fields
    }

    /// Whether there are no fields. Valkey makes no such entries.
    pub fn is_empty(&self) -> bool {
        self.fields == 0
    }

    /// Where it begins.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// Where the next one begins.
    pub(super) fn end(&self) -> usize {
        self.fields().end()
    }

    /// Its fields and values.
    #[inline]
    pub fn fields(&self) -> Fields<'a> {
        let buf = &self.node.buf;
        Fields {
            buf,
            start: self.at,
            names_at: (self.flags & SAME_FIELDS != 0).then(|| int(buf, 0).1),
            at: self.body,
            left: self.fields,
        }
    }
}

impl Fields<'_> {
    /// Where the next entry begins.
    #[inline]
    pub(super) fn end(&self) -> usize {
        let each = if self.names_at.is_some() { 1 } else { 2 };
        let mut at = self.at;
        for _ in 0..self.left * each {
            at = skip(self.buf, at);
        }
        at + backlen_size(at - self.start)
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = (Elem<'a>, Elem<'a>);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            return None;
        }
        self.left -= 1;
        let name = match &mut self.names_at {
            Some(names_at) => {
                let (name, next) = elem(self.buf, *names_at);
                *names_at = next;
                name
            }
            None => {
                let (name, next) = elem(self.buf, self.at);
                self.at = next;
                name
            }
        };
        let (value, next) = elem(self.buf, self.at);
        self.at = next;
        Some((name, value))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Fields<'_> {}
