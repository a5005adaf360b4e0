//! Replies, as a client reads them: used on connections where we are the client, and by tests.

use crate::number::parse_i64;

/// How deep replies may be nested; deeper ones are refused instead of exhausting the stack.
const DEPTH_MAX: usize = 32;

/// One reply.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// `+`
    Simple(Vec<u8>),
    /// `-`, with its code word.
    Error(Vec<u8>),
    /// `:`
    Int(i64),
    /// `$`
    Bulk(Vec<u8>),
    /// `$-1`, `*-1` or `_`
    Null,
    /// `*`
    Array(Vec<Reply>),
    /// `%`, as pairs
    Map(Vec<(Reply, Reply)>),
    /// `~`
    Set(Vec<Reply>),
    /// `>`
    Push(Vec<Reply>),
    /// `,`
    Double(f64),
    /// `#`
    Bool(bool),
    /// `(`
    BigNumber(Vec<u8>),
    /// `=`: the format and the text.
    Verbatim(Vec<u8>, Vec<u8>),
}

impl Reply {
    /// The bytes of a string reply of any kind.
    pub fn as_bytes(&self) -> Option<&[u8]> {
        match self {
            Reply::Simple(b) | Reply::Bulk(b) | Reply::BigNumber(b) | Reply::Verbatim(_, b) => {
                Some(b)
            }
            _ => None,
        }
    }

    /// Whether this is `+OK`.
    pub fn is_ok(&self) -> bool {
        matches!(self, Reply::Simple(s) if s == b"OK")
    }
}

/// What cannot be a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidReply;

impl std::fmt::Display for InvalidReply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("not a RESP reply")
    }
}

impl std::error::Error for InvalidReply {}

/// Parses one reply at the start of `buf`: the reply and the bytes it took, or `None` when more bytes are needed.
/// Nothing is kept between calls. Attributes are skipped.
///
/// # Errors
/// The bytes are no reply, or one nested too deep.
pub fn parse(buf: &[u8]) -> Result<Option<(Reply, usize)>, InvalidReply> {
    let mut at = 0;
    match value(buf, &mut at, 0) {
        Ok(reply) => Ok(Some((reply, at))),
        Err(Stop::More) => Ok(None),
        Err(Stop::Invalid) => Err(InvalidReply),
    }
}

enum Stop {
    More,
    Invalid,
}

fn line<'a>(buf: &'a [u8], at: &mut usize) -> Result<&'a [u8], Stop> {
    let rest = buf.get(*at..).unwrap_or_default();
    let end = rest
        .windows(2)
        .position(|w| w == b"\r\n")
        .ok_or(Stop::More)?;
    *at += end + 2;
    rest.get(..end).ok_or(Stop::Invalid)
}

fn bytes<'a>(buf: &'a [u8], at: &mut usize, len: i64) -> Result<&'a [u8], Stop> {
    let len = usize::try_from(len).map_err(|_| Stop::Invalid)?;
    let end = at.checked_add(len).ok_or(Stop::Invalid)?;
    match buf.get(end..end.saturating_add(2)) {
        None => Err(Stop::More),
        Some(b"\r\n") => {
            let found = buf.get(*at..end).ok_or(Stop::Invalid)?;
            *at = end + 2;
            Ok(found)
        }
        Some(_) => Err(Stop::Invalid),
    }
}

fn values(buf: &[u8], at: &mut usize, count: i64, depth: usize) -> Result<Vec<Reply>, Stop> {
    // Grows as elements come, never by an announced length.
    let mut out = Vec::new();
    for _ in 0..count {
        out.push(value(buf, at, depth + 1)?);
    }
    Ok(out)
}

fn value(buf: &[u8], at: &mut usize, depth: usize) -> Result<Reply, Stop> {
    if depth > DEPTH_MAX {
        return Err(Stop::Invalid);
    }
    let text = line(buf, at)?;
    let (&kind, text) = text.split_first().ok_or(Stop::Invalid)?;
    let number = || parse_i64(text).ok_or(Stop::Invalid);
    Ok(match kind {
        b'+' => Reply::Simple(text.to_vec()),
        b'-' => Reply::Error(text.to_vec()),
        b':' => Reply::Int(number()?),
        b'_' => Reply::Null,
        b'(' => Reply::BigNumber(text.to_vec()),
        b'#' => match text {
            b"t" => Reply::Bool(true),
            b"f" => Reply::Bool(false),
            _ => return Err(Stop::Invalid),
        },
        b',' => {
            let text = std::str::from_utf8(text).map_err(|_| Stop::Invalid)?;
            Reply::Double(text.parse().map_err(|_| Stop::Invalid)?)
        }
        b'$' | b'=' | b'!' => match number()? {
            -1 => Reply::Null,
            len => {
                let data = bytes(buf, at, len)?;
                match kind {
                    b'$' => Reply::Bulk(data.to_vec()),
                    b'!' => Reply::Error(data.to_vec()),
                    _ => match data.split_at_checked(4) {
                        Some((format, text)) if format.ends_with(b":") => {
                            Reply::Verbatim(format[..3].to_vec(), text.to_vec())
                        }
                        _ => return Err(Stop::Invalid),
                    },
                }
            }
        },
        b'*' | b'~' | b'>' => match number()? {
            -1 => Reply::Null,
            count if count < 0 => return Err(Stop::Invalid),
            count => {
                let items = values(buf, at, count, depth)?;
                match kind {
                    b'*' => Reply::Array(items),
                    b'~' => Reply::Set(items),
                    _ => Reply::Push(items),
                }
            }
        },
        b'%' | b'|' => {
            let count = number()?;
            if count < 0 {
                return Err(Stop::Invalid);
            }
            let mut pairs = Vec::new();
            for _ in 0..count {
                pairs.push((value(buf, at, depth + 1)?, value(buf, at, depth + 1)?));
            }
            if kind == b'|' {
                return value(buf, at, depth + 1);
            }
            Reply::Map(pairs)
        }
        _ => return Err(Stop::Invalid),
    })
}
