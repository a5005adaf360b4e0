//! The listpack: a run of small strings and integers in one allocation.
//!
//! It is the small form of hashes, sets and sorted sets and the chunk of a list. The bytes are those of
//! Valkey's own listpack, so that an RDB file or a `DUMP` payload carries them as they lie in memory.
//!
//! ```text
//! | total bytes: u32 LE | elements: u16 LE (65535: unknown) | entry … | 0xFF |
//! entry: | encoding and data | backlen: length of the former, 7 bits a byte, read from the end |
//!
//! 0xxxxxxx           integer 0..=127            10xxxxxx …          string of up to 63 bytes
//! 110xxxxx x         integer of 13 bits         1110xxxx x …        string of up to 4095 bytes
//! F1 F2 F3 F4        integer of 16, 24, 32, 64  F0 u32 …            longer string
//! ```
//!
//! Positions are byte offsets. A position is valid until the listpack is changed at or before it.
//! Bytes from outside become a `Listpack` only through [`Listpack::from_bytes`], which checks every entry;
//! all other functions rely on that.

use super::packed::PackedBytes;
use holdfast_resp::number::IntText;
use holdfast_resp::{format_i64, parse_i64};

/// Bytes of the header.
const HEADER: usize = 6;
/// The mark behind the last entry.
const END: u8 = 0xff;
/// The element count that says "count them".
const UNKNOWN: u16 = u16::MAX;

/// The largest listpack that may grow; beyond it a value takes its large form.
pub const MAX_BYTES: usize = 1 << 30;

/// An element as it is stored: canonical integers are kept as integers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Elem<'a> {
    /// A string that is not a canonical 64-bit integer.
    Str(&'a [u8]),
    /// A canonical integer.
    Int(i64),
}

/// Room for the decimal form of an integer.
pub type IntBuf = Option<IntText>;

/// Puts the decimal form of `v` into `buf` and returns it.
pub fn format_int(v: i64, buf: &mut IntBuf) -> &[u8] {
    buf.insert(format_i64(v)).as_bytes()
}

impl<'a> Elem<'a> {
    /// The element as bytes; `buf` holds the digits of an integer.
    pub fn bytes<'b>(&'b self, buf: &'b mut IntBuf) -> &'b [u8] {
        match self {
            Elem::Str(s) => s,
            Elem::Int(v) => format_int(*v, buf),
        }
    }

    /// The element as owned bytes.
    pub fn to_vec(&self) -> Vec<u8> {
        self.bytes(&mut None).to_vec()
    }

    /// The element as a boxed string.
    pub fn to_boxed(&self) -> Box<[u8]> {
        self.bytes(&mut None).into()
    }

    /// Length in bytes of the string that the element stands for.
    pub fn byte_len(&self) -> usize {
        match self {
            Elem::Str(s) => s.len(),
            Elem::Int(v) => format_int(*v, &mut None).len(),
        }
    }

    /// Whether the element is the string `s`.
    pub fn is(&self, s: &[u8]) -> bool {
        match self {
            Elem::Str(own) => *own == s,
            Elem::Int(v) => parse_i64(s) == Some(*v),
        }
    }
}

/// See the module's documentation.
#[derive(Clone, PartialEq, Eq)]
pub struct Listpack {
    buf: PackedBytes,
}

impl std::fmt::Debug for Listpack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl Default for Listpack {
    fn default() -> Self {
        Self::new()
    }
}

/// Bytes that the backlen of an entry of `len` bytes takes.
#[inline]
pub(super) fn backlen_size(len: usize) -> usize {
    match len {
        0..=127 => 1,
        128..=16383 => 2,
        16384..=2097151 => 3,
        2097152..=268435455 => 4,
        _ => 5,
    }
}

/// The backlen of an entry of `len` bytes, in the first so many bytes.
#[inline]
fn backlen(len: usize) -> ([u8; 5], u8) {
    let n = backlen_size(len);
    let mut back = [0; 5];
    for (i, byte) in back[..n].iter_mut().rev().enumerate() {
        let seven = ((len >> (7 * i)) & 127) as u8;
        *byte = if i == n - 1 { seven } else { seven | 128 };
    }
    (back, n as u8)
}

pub(super) fn push_backlen(out: &mut Vec<u8>, len: usize) {
    let (back, n) = backlen(len);
    out.extend_from_slice(&back[..usize::from(n)]);
}

/// An entry in parts, to be copied to where it goes.
struct Entry<'a> {
    head: [u8; 9],
    head_len: u8,
    back_len: u8,
    back: [u8; 5],
    body: &'a [u8],
}

impl<'a> Entry<'a> {
    #[inline]
    fn of(s: &'a [u8]) -> Self {
        let (head, head_len, body) = match parse_i64(s) {
            Some(v) => {
                let (head, len) = int_head(v);
                (head, len, &s[..0])
            }
            None => {
                let mut head = [0; 9];
                let len = match s.len() {
                    n @ 0..=63 => {
                        head[0] = 0x80 | n as u8;
                        1
                    }
                    n @ 64..=4095 => {
                        head[..2].copy_from_slice(&[0xe0 | (n >> 8) as u8, n as u8]);
                        2
                    }
                    n => {
                        head[0] = 0xf0;
                        head[1..5].copy_from_slice(&(n as u32).to_le_bytes());
                        5
                    }
                };
                (head, len, s)
            }
        };
        let (back, back_len) = backlen(usize::from(head_len) + body.len());
        Entry {
            head,
            head_len,
            back_len,
            back,
            body,
        }
    }

    #[inline]
    fn head(&self) -> &[u8] {
        &self.head[..usize::from(self.head_len)]
    }

    /// Encoding, data, backlen.
    #[inline]
    fn parts(&self) -> [&[u8]; 3] {
        [
            self.head(),
            self.body,
            &self.back[..usize::from(self.back_len)],
        ]
    }

    /// Whether these bytes begin with the entry.
    #[inline]
    fn begins(&self, bytes: &[u8]) -> bool {
        bytes
            .strip_prefix(self.head())
            .is_some_and(|rest| rest.starts_with(self.body))
    }
}

/// Appends an entry without its backlen. Equal elements have equal bytes, and none is the beginning of another.
pub(super) fn encode_value(out: &mut Vec<u8>, s: &[u8]) {
    let entry = Entry::of(s);
    out.extend_from_slice(entry.head());
    out.extend_from_slice(entry.body);
}

/// An integer's encoding, in the first so many bytes.
#[inline]
fn int_head(v: i64) -> ([u8; 9], u8) {
    let mut head = [0; 9];
    let kind = if (0..=127).contains(&v) {
        head[0] = v as u8;
        return (head, 1);
    } else if (-4096..=4095).contains(&v) {
        let u = (v & 0x1fff) as u16;
        head[..2].copy_from_slice(&[0xc0 | (u >> 8) as u8, u as u8]);
        return (head, 2);
    } else if i16::try_from(v).is_ok() {
        (0xf1, 3)
    } else if (-8388608..=8388607).contains(&v) {
        (0xf2, 4)
    } else if i32::try_from(v).is_ok() {
        (0xf3, 5)
    } else {
        (0xf4, 9)
    };
    head[0] = kind.0;
    // What is behind the integer's width is not looked at.
    head[1..].copy_from_slice(&v.to_le_bytes());
    (head, kind.1)
}

pub(super) fn encode_int(out: &mut Vec<u8>, v: i64) {
    let (head, len) = int_head(v);
    out.extend_from_slice(&head[..usize::from(len)]);
}

/// Reads the entry at the start of `b`: the element and the length without the backlen.
/// `None` when the bytes are not a whole entry.
#[inline]
pub(super) fn decode(b: &[u8]) -> Option<(Elem<'_>, usize)> {
    let first = *b.first()?;
    let int = |n: usize| -> Option<(Elem<'static>, usize)> {
        let raw = b.get(1..1 + n)?;
        let mut le = [if raw[n - 1] & 0x80 != 0 { 0xff } else { 0 }; 8];
        le[..n].copy_from_slice(raw);
        Some((Elem::Int(i64::from_le_bytes(le)), 1 + n))
    };
    match first {
        0..=0x7f => Some((Elem::Int(i64::from(first)), 1)),
        0x80..=0xbf => {
            let n = usize::from(first & 0x3f);
            Some((Elem::Str(b.get(1..1 + n)?), 1 + n))
        }
        0xc0..=0xdf => {
            let u = (u16::from(first & 0x1f) << 8) | u16::from(*b.get(1)?);
            let v = i64::from(u) - if u & 0x1000 != 0 { 8192 } else { 0 };
            Some((Elem::Int(v), 2))
        }
        0xe0..=0xef => {
            let n = (usize::from(first & 0x0f) << 8) | usize::from(*b.get(1)?);
            Some((Elem::Str(b.get(2..2 + n)?), 2 + n))
        }
        0xf0 => {
            let n = u32::from_le_bytes(b.get(1..5)?.try_into().ok()?) as usize;
            let end = n.checked_add(5)?;
            Some((Elem::Str(b.get(5..end)?), end))
        }
        0xf1 => int(2),
        0xf2 => int(3),
        0xf3 => int(4),
        0xf4 => int(8),
        _ => None,
    }
}

impl Listpack {
    /// An empty listpack.
    pub fn new() -> Self {
        let mut buf = PackedBytes::default();
        buf.splice(0, 0, &[&[7, 0, 0, 0, 0, 0, END]]);
        Listpack { buf }
    }

    /// Takes bytes from outside after checking all of them.
    pub fn from_bytes(buf: Vec<u8>) -> Result<Self, &'static str> {
        if buf.len() < HEADER + 1 || buf.len() > u32::MAX as usize {
            return Err("listpack too short or too long");
        }
        if u32::from_le_bytes([buf[0], buf[1], buf[2], buf[3]]) as usize != buf.len() {
            return Err("listpack length mismatch");
        }
        if buf[buf.len() - 1] != END {
            return Err("listpack without end mark");
        }
        let end = buf.len() - 1;
        let (mut at, mut count, mut canonical) = (HEADER, 0usize, true);
        let (mut back, mut own) = (Vec::with_capacity(5), Vec::new());
        while at < end {
            let (elem, n) = decode(&buf[at..end]).ok_or("listpack entry malformed")?;
            own.clear();
            match elem {
                Elem::Int(v) => encode_int(&mut own, v),
                Elem::Str(s) => encode_value(&mut own, s),
            }
            canonical &= own == buf[at..at + n];
            back.clear();
            push_backlen(&mut back, n);
            at += n;
            if buf[at..end].get(..back.len()) != Some(&back[..]) {
                return Err("listpack entry with wrong backlen");
            }
            at += back.len();
            count += 1;
        }
        let said = u16::from_le_bytes([buf[4], buf[5]]);
        if said != UNKNOWN && usize::from(said) != count {
            return Err("listpack element count mismatch");
        }
        let mut lp = Listpack { buf: buf.into() };
        lp.set_count(count);
        if !canonical {
            // Another writer's choice of encodings; here equal elements have equal bytes.
            let mut own = Listpack::new();
            lp.iter().for_each(|e| own.push_back(e.bytes(&mut None)));
            return Ok(own);
        }
        Ok(lp)
    }

    /// The listpack's bytes, as Valkey stores them.
    pub fn as_bytes(&self) -> &[u8] {
        &self.buf
    }

    /// Size in bytes.
    pub fn byte_len(&self) -> usize {
        self.buf.len()
    }

    /// Number of elements. O(1) below 65535.
    pub fn len(&self) -> usize {
        match u16::from_le_bytes([self.buf[4], self.buf[5]]) {
            UNKNOWN => self.iter().count(),
            n => usize::from(n),
        }
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.buf.len() == HEADER + 1
    }

    /// The position behind the last element: where an append goes.
    pub fn end(&self) -> usize {
        self.buf.len() - 1
    }

    /// Position of the first element.
    pub fn first(&self) -> Option<usize> {
        (!self.is_empty()).then_some(HEADER)
    }

    /// Position of the last element.
    pub fn last(&self) -> Option<usize> {
        self.prev(self.end())
    }

    /// Length of the entry at `at`, backlen included.
    #[inline]
    fn entry_len(&self, at: usize) -> usize {
        match self.buf[at] {
            0..=0x7f => return 2,
            b @ 0x80..=0xbf => return 2 + usize::from(b & 0x3f),
            0xc0..=0xdf => return 3,
            _ => {}
        }
        let (_, n) = decode(&self.buf[at..]).expect("listpack position");
        n + backlen_size(n)
    }

    /// Position of the element behind the one at `at`.
    pub fn next(&self, at: usize) -> Option<usize> {
        let next = at + self.entry_len(at);
        (next < self.end()).then_some(next)
    }

    /// Position of the element before `at`, which may be [`Listpack::end`].
    pub fn prev(&self, at: usize) -> Option<usize> {
        if at <= HEADER {
            return None;
        }
        let (mut len, mut shift, mut p) = (0usize, 0, at);
        loop {
            p -= 1;
            let b = self.buf[p];
            len |= usize::from(b & 127) << shift;
            if b & 128 == 0 {
                break;
            }
            shift += 7;
        }
        Some(p - len)
    }

    /// The element at `at`, and the position of the one behind it, if there is one.
    #[inline]
    pub fn get_and_next(&self, at: usize) -> (Elem<'_>, Option<usize>) {
        let (elem, n) = decode(&self.buf[at..]).expect("listpack position");
        let next = at + n + backlen_size(n);
        (elem, (next < self.end()).then_some(next))
    }

    /// The element at `at`.
    pub fn get(&self, at: usize) -> Elem<'_> {
        decode(&self.buf[at..]).expect("listpack position").0
    }

    /// Position of the element at `index`.
    pub fn seek(&self, index: usize) -> Option<usize> {
        let len = self.len();
        if index >= len {
            return None;
        }
        if index <= len / 2 {
            let mut at = HEADER;
            for _ in 0..index {
                at += self.entry_len(at);
            }
            Some(at)
        } else {
            let mut at = self.end();
            for _ in index..len {
                at = self.prev(at)?;
            }
            Some(at)
        }
    }

    /// Position of the first element equal to `s`, looking at every `stride`-th element from `from` on.
    pub fn find(&self, s: &[u8], from: Option<usize>, stride: usize) -> Option<usize> {
        let needle = Entry::of(s);
        let (mut at, end) = (from?, self.end());
        while at < end {
            if needle.begins(&self.buf[at..]) {
                return Some(at);
            }
            for _ in 0..stride {
                if at >= end {
                    break;
                }
                at += self.entry_len(at);
            }
        }
        None
    }

    fn set_count(&mut self, n: usize) {
        let n = u16::try_from(n).unwrap_or(UNKNOWN);
        self.buf[4..6].copy_from_slice(&n.to_le_bytes());
    }

    /// Corrects the header after a change that added `added` elements. An unknown count stays unknown:
    /// counting with each change would make a run of changes quadratic.
    fn fix_header(&mut self, added: isize) {
        let total = u32::try_from(self.buf.len()).expect("a listpack is below 4 GiB");
        self.buf[..4].copy_from_slice(&total.to_le_bytes());
        match u16::from_le_bytes([self.buf[4], self.buf[5]]) {
            UNKNOWN => {}
            n => self.set_count(usize::from(n).wrapping_add_signed(added)),
        }
    }

    /// Inserts `s` before the position `at` (which may be [`Listpack::end`]); the new element is at `at`.
    pub fn insert(&mut self, at: usize, s: &[u8]) {
        self.buf.splice(at, 0, &Entry::of(s).parts());
        self.fix_header(1);
    }

    /// Appends `a` and `b`.
    pub fn push_pair(&mut self, a: &[u8], b: &[u8]) {
        self.insert_pair(self.end(), a, b);
    }

    /// Inserts `a` and `b` before the position `at` (which may be [`Listpack::end`]); `a` is then at `at`.
    pub fn insert_pair(&mut self, at: usize, a: &[u8], b: &[u8]) {
        let (a, b) = (Entry::of(a), Entry::of(b));
        let ([x, y, z], [u, v, w]) = (a.parts(), b.parts());
        self.buf.splice(at, 0, &[x, y, z, u, v, w]);
        self.fix_header(2);
    }

    /// Appends `s`.
    pub fn push_back(&mut self, s: &[u8]) {
        self.insert(self.end(), s);
    }

    /// Puts `s` before all elements.
    pub fn push_front(&mut self, s: &[u8]) {
        self.insert(HEADER, s);
    }

    /// Replaces the element at `at`; the position stays valid.
    pub fn replace(&mut self, at: usize, s: &[u8]) {
        let old = self.entry_len(at);
        self.buf.splice(at, old, &Entry::of(s).parts());
        self.fix_header(0);
    }

    /// Removes `n` elements from the position `at` on; the element behind them is then at `at`.
    pub fn remove(&mut self, at: usize, n: usize) {
        let (mut end, mut removed) = (at, 0);
        while removed < n && end < self.end() {
            end += self.entry_len(end);
            removed += 1;
        }
        self.buf.splice(at, end - at, &[]);
        self.fix_header(-(removed as isize));
    }

    /// Removes `n` elements from `index` on.
    pub fn remove_at(&mut self, index: usize, n: usize) {
        if n == 0 {
            return;
        }
        if let Some(at) = self.seek(index) {
            self.remove(at, n);
        }
    }

    /// Cuts the elements from the position `at` on into a listpack of their own.
    pub fn split_off(&mut self, at: usize) -> Listpack {
        let count = self.iter_from(Some(at)).count();
        let mut buf = PackedBytes::default();
        buf.splice(0, 0, &[&[0; HEADER], &self.buf[at..]]);
        let mut tail = Listpack { buf };
        tail.fix_header(count as isize);
        self.buf.splice(at, self.end() - at, &[]);
        self.fix_header(-(count as isize));
        tail
    }

    /// Appends all elements of `other`.
    pub fn append(&mut self, other: &Listpack) {
        let elements = &other.buf[HEADER..other.end()];
        self.buf.splice(self.end(), 0, &[elements]);
        self.fix_header(other.len() as isize);
    }

    /// All elements in order.
    pub fn iter(&self) -> Iter<'_> {
        self.iter_from(self.first())
    }

    /// The elements from the position `at` on.
    pub fn iter_from(&self, at: Option<usize>) -> Iter<'_> {
        Iter {
            lp: self,
            at: at.unwrap_or(self.end()),
        }
    }

    /// Bytes of memory that the elements take.
    pub fn memory(&self) -> usize {
        self.buf.memory()
    }

    /// Gives back memory that was kept for growth.
    pub fn shrink_to_fit(&mut self) {
        self.buf.shrink_to_fit();
    }
}

/// Iterator over a listpack's elements.
#[derive(Clone)]
pub struct Iter<'a> {
    lp: &'a Listpack,
    at: usize,
}

impl<'a> Iterator for Iter<'a> {
    type Item = Elem<'a>;

    fn next(&mut self) -> Option<Elem<'a>> {
        if self.at >= self.lp.end() {
            return None;
        }
        let (e, n) = decode(&self.lp.buf[self.at..])?;
        self.at += n + backlen_size(n);
        Some(e)
    }
}

impl<'a> Iter<'a> {
    /// Position of the element that `next` returns next.
    pub fn pos(&self) -> usize {
        self.at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_and_strings_take_their_shortest_form() {
        let mut lp = Listpack::new();
        for s in [
            "0",
            "127",
            "128",
            "-1",
            "4095",
            "-4096",
            "4096",
            "-32768",
            "8388607",
            "-8388608",
            "2147483647",
            "-9223372036854775808",
        ] {
            lp.push_back(s.as_bytes());
            assert!(matches!(lp.get(lp.last().unwrap()), Elem::Int(_)), "{s}");
        }
        for s in [
            "-0",
            "01",
            "+1",
            "",
            " 1",
            "1 ",
            "9223372036854775808",
            "-9223372036854775809",
            "99999999999999999999",
            "-",
        ] {
            lp.push_back(s.as_bytes());
            assert_eq!(lp.get(lp.last().unwrap()), Elem::Str(s.as_bytes()));
        }
        assert_eq!(Listpack::from_bytes(lp.as_bytes().to_vec()).unwrap(), lp);
        assert_eq!(lp.seek(3).map(|p| lp.get(p)), Some(Elem::Int(-1)));
        assert_eq!(
            lp.seek(20).map(|p| lp.get(p)),
            Some(Elem::Str(b"99999999999999999999"))
        );
    }

    /// The bytes that Valkey 8.0 gives for `[1, "abc", -5000, "x" * 70]` (from a `DUMP` of a hash).
    #[test]
    fn golden_bytes() {
        let mut lp = Listpack::new();
        lp.push_back(b"1");
        lp.push_back(b"abc");
        lp.push_back(b"-5000");
        let mut want = vec![0, 0, 0, 0, 3, 0];
        want.extend_from_slice(&[1, 1, 0x83, b'a', b'b', b'c', 4, 0xf1, 0x78, 0xec, 3, 0xff]);
        want[0] = want.len() as u8;
        assert_eq!(lp.as_bytes(), want);
    }

    #[test]
    fn behaves_as_a_vector() {
        let mut seed = 7u64;
        let mut rnd = |n: usize| {
            seed = seed
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            (seed >> 33) as usize % n
        };
        let mut lp = Listpack::new();
        let mut model: Vec<Vec<u8>> = Vec::new();
        for _ in 0..20_000 {
            let s = match rnd(4) {
                0 => rnd(100_000).to_string().into_bytes(),
                1 => vec![b'a' + rnd(26) as u8; rnd(10)],
                2 => vec![b'z'; rnd(200)],
                _ => vec![b'y'; 4090 + rnd(20)],
            };
            let i = rnd(model.len() + 1);
            match rnd(5) {
                0 | 1 if model.len() < 40 => {
                    lp.insert(lp.seek(i).unwrap_or(lp.end()), &s);
                    model.insert(i, s);
                }
                2 if i < model.len() => {
                    lp.replace(lp.seek(i).unwrap(), &s);
                    model[i] = s;
                }
                3 if i < model.len() => {
                    let n = (1 + rnd(3)).min(model.len() - i);
                    lp.remove_at(i, n);
                    model.drain(i..i + n);
                }
                4 if i < model.len() => {
                    let tail = lp.split_off(lp.seek(i).unwrap());
                    assert_eq!(lp.len(), i);
                    Listpack::from_bytes(tail.as_bytes().to_vec()).unwrap();
                    lp.append(&tail);
                }
                _ => {}
            }
            assert_eq!(lp.len(), model.len());
            if let Some(first) = model.first() {
                assert!(lp.find(first, lp.first(), 1) == lp.first());
            }
        }
        assert_eq!(lp.iter().map(|e| e.to_vec()).collect::<Vec<_>>(), model);
        Listpack::from_bytes(lp.as_bytes().to_vec()).unwrap();
    }

    #[test]
    fn foreign_bytes_never_panic() {
        let mut lp = Listpack::new();
        for s in ["a", "5", "-700", "123456789", "hello world"] {
            lp.push_back(s.as_bytes());
        }
        for at in 0..lp.byte_len() {
            for v in 0..=255u8 {
                let mut b = lp.as_bytes().to_vec();
                b[at] = v;
                if let Ok(ok) = Listpack::from_bytes(b) {
                    assert_eq!(ok.iter().count(), ok.len());
                    let mut p = ok.last();
                    while let Some(at) = p {
                        p = ok.prev(at);
                    }
                }
            }
        }
    }
}
