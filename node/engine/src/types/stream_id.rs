//! The ids of stream entries: `milliseconds-sequence`, two 64-bit numbers.

use crate::CmdError;

/// The id of an entry. Entries of a stream have ascending ids.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId {
    /// Unix time in milliseconds, as a rule.
    pub ms: u64,
    /// Counts the entries of one millisecond.
    pub seq: u64,
}

/// The longest text of an id: two numbers of 20 digits and a hyphen.
const TEXT_MAX: usize = 41;

/// An id as text.
#[derive(Clone, Copy)]
pub struct IdText {
    bytes: [u8; TEXT_MAX],
    len: u8,
}

impl AsRef<[u8]> for IdText {
    #[inline]
    fn as_ref(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }
}

/// The reply to an argument that is no id.
pub const INVALID_ID: CmdError =
    CmdError::Static("ERR Invalid stream ID specified as stream command argument");

impl StreamId {
    /// `0-0`: no entry has it.
    pub const MIN: StreamId = StreamId { ms: 0, seq: 0 };
    /// The greatest id.
    pub const MAX: StreamId = StreamId {
        ms: u64::MAX,
        seq: u64::MAX,
    };

    /// An id.
    pub const fn new(ms: u64, seq: u64) -> StreamId {
        StreamId { ms, seq }
    }

    /// Whether it is `0-0`.
    pub fn is_zero(self) -> bool {
        self == StreamId::MIN
    }

    /// The next id; `None` behind the greatest.
    pub fn next(self) -> Option<StreamId> {
        match self.seq.checked_add(1) {
            Some(seq) => Some(StreamId { seq, ..self }),
            None => Some(StreamId::new(self.ms.checked_add(1)?, 0)),
        }
    }

    /// The id before; `None` before `0-0`.
    pub fn prev(self) -> Option<StreamId> {
        match self.seq.checked_sub(1) {
            Some(seq) => Some(StreamId { seq, ..self }),
            None => Some(StreamId::new(self.ms.checked_sub(1)?, u64::MAX)),
        }
    }

    /// The distance to an earlier id as a node stores it: both parts by themselves, wrapping.
    pub(super) fn delta(self, from: StreamId) -> (i64, i64) {
        (
            self.ms.wrapping_sub(from.ms) as i64,
            self.seq.wrapping_sub(from.seq) as i64,
        )
    }

    /// The id at such a distance.
    pub(super) fn at_delta(self, (ms, seq): (i64, i64)) -> StreamId {
        StreamId {
            ms: self.ms.wrapping_add(ms as u64),
            seq: self.seq.wrapping_add(seq as u64),
        }
    }

    /// The 16 bytes, the greatest first, by which ids are sorted in files.
    pub fn to_bytes(self) -> [u8; 16] {
        (u128::from(self.ms) << 64 | u128::from(self.seq)).to_be_bytes()
    }

    /// The inverse of [`to_bytes`](Self::to_bytes).
    pub fn from_bytes(bytes: [u8; 16]) -> StreamId {
        let both = u128::from_be_bytes(bytes);
        StreamId::new((both >> 64) as u64, both as u64)
    }

    /// As clients see it.
    #[inline]
    pub fn text(self) -> IdText {
        let mut text = IdText {
            bytes: [0; TEXT_MAX],
            len: 0,
        };
        put_number(&mut text, self.ms);
        put(&mut text, b"-");
        put_number(&mut text, self.seq);
        text
    }
}

#[inline]
fn put(text: &mut IdText, bytes: &[u8]) {
    let start = usize::from(text.len);
    if let Some(to) = text.bytes.get_mut(start..start + bytes.len()) {
        to.copy_from_slice(bytes);
        text.len += bytes.len() as u8;
    }
}

#[inline]
fn put_number(text: &mut IdText, n: u64) {
    match i64::try_from(n) {
        Ok(n) => put(text, holdfast_resp::format_i64(n).as_bytes()),
        Err(_) => put(text, n.to_string().as_bytes()),
    }
}

impl std::fmt::Display for StreamId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.ms, self.seq)
    }
}

/// A number of an id. Besides canonical ones Valkey reads what C's `strtoull` does: blanks, a plus sign and zeros before it.
#[inline]
fn number(text: &[u8]) -> Option<u64> {
    if let Some(n) = holdfast_resp::parse_i64(text) {
        return u64::try_from(n).ok();
    }
    let digits = text.trim_ascii_start();
    let digits = digits.strip_prefix(b"+").unwrap_or(digits);
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Reads `ms` or `ms-seq`; in the former case the sequence is `missing`.
#[inline]
fn plain(text: &[u8], missing: u64) -> Option<StreamId> {
    match text.iter().position(|b| *b == b'-') {
        Some(at) => Some(StreamId::new(
            number(text.get(..at)?)?,
            number(text.get(at + 1..)?)?,
        )),
        None => Some(StreamId::new(number(text)?, missing)),
    }
}

/// Reads an id that must be a proper one; without a sequence, it is 0.
///
/// # Errors
/// [`INVALID_ID`].
pub fn parse_strict(text: &[u8]) -> Result<StreamId, CmdError> {
    plain(text, 0).ok_or(INVALID_ID)
}

/// Reads an id; `-` and `+` are the least and the greatest, and a missing sequence is `missing`.
///
/// # Errors
/// [`INVALID_ID`].
pub fn parse(text: &[u8], missing: u64) -> Result<StreamId, CmdError> {
    match text {
        b"-" => Ok(StreamId::MIN),
        b"+" => Ok(StreamId::MAX),
        _ => plain(text, missing).ok_or(INVALID_ID),
    }
}

/// The id of a new entry as `XADD` is given it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NewId {
    /// `*`: by the clock.
    Auto,
    /// `ms-*`: the next of this millisecond.
    AutoSeq(u64),
    /// Just this one.
    Given(StreamId),
}

/// Reads the id of a new entry, but for `*`.
///
/// # Errors
/// [`INVALID_ID`].
pub fn parse_new(text: &[u8]) -> Result<NewId, CmdError> {
    match text.strip_suffix(b"-*") {
        Some(ms) => number(ms).map(NewId::AutoSeq).ok_or(INVALID_ID),
        None => parse_strict(text).map(NewId::Given),
    }
}

/// The lower end of an interval, inclusive; `(id` is exclusive.
///
/// # Errors
/// [`INVALID_ID`], or that there is no id behind an exclusive one.
pub fn parse_start(text: &[u8]) -> Result<StreamId, CmdError> {
    match text {
        [b'(', id @ ..] if !id.is_empty() => parse_strict(id)?
            .next()
            .ok_or(CmdError::Static("ERR invalid start ID for the interval")),
        _ => parse(text, 0),
    }
}

/// The upper end of an interval, inclusive; `(id` is exclusive.
///
/// # Errors
/// [`INVALID_ID`], or that there is no id before an exclusive one.
pub fn parse_end(text: &[u8]) -> Result<StreamId, CmdError> {
    match text {
        [b'(', id @ ..] if !id.is_empty() => plain(id, u64::MAX)
            .ok_or(INVALID_ID)?
            .prev()
            .ok_or(CmdError::Static("ERR invalid end ID for the interval")),
        _ => parse(text, u64::MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_back() {
        for id in [
            StreamId::MIN,
            StreamId::new(1_526_919_030_474, 55),
            StreamId::new(u64::MAX, 0),
            StreamId::MAX,
        ] {
            assert_eq!(parse_strict(id.text().as_ref()), Ok(id));
            assert_eq!(id.text().as_ref(), id.to_string().as_bytes());
            assert_eq!(StreamId::from_bytes(id.to_bytes()), id);
            assert_eq!(
                StreamId::new(7, 9).at_delta(id.delta(StreamId::new(7, 9))),
                id
            );
        }
    }

    #[test]
    fn forms() {
        let id = StreamId::new;
        assert_eq!(parse(b"5", 7), Ok(id(5, 7)));
        assert_eq!(parse(b"+", 7), Ok(StreamId::MAX));
        assert_eq!(parse_strict(b"007-+3"), Ok(id(7, 3)));
        for bad in [
            "",
            "-",
            "+",
            "5-",
            "-5",
            "5--1",
            "a",
            "5-*",
            "1-2-3",
            "18446744073709551616",
        ] {
            assert_eq!(parse_strict(bad.as_bytes()), Err(INVALID_ID), "{bad}");
        }
        assert_eq!(parse_new(b"5-*"), Ok(NewId::AutoSeq(5)));
        assert_eq!(parse_new(b"5-6"), Ok(NewId::Given(id(5, 6))));
        assert_eq!(parse_new(b"-*"), Err(INVALID_ID));
        assert_eq!(parse_start(b"(5"), Ok(id(5, 1)));
        assert_eq!(parse_end(b"(5"), Ok(id(5, u64::MAX - 1)));
        assert_eq!(parse_end(b"(5-0"), Ok(id(4, u64::MAX)));
        assert!(parse_end(b"(0-0").is_err() && parse_start(b"(-").is_err());
        assert!(parse_start(StreamId::MAX.to_string().as_bytes()).is_ok());
        assert!(parse_start(format!("({}", StreamId::MAX).as_bytes()).is_err());
    }
}
