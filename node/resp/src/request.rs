//! The incremental request parser: multibulk and inline commands.

use std::fmt;

use crate::number::parse_i64;

/// The longest inline request, and the longest line that may announce a length (Valkey's
/// `PROTO_INLINE_MAX_SIZE`).
pub const INLINE_MAX_BYTES: usize = 64 * 1024;

/// What a connection may send. The caller passes it with every call, since it changes with authentication and
/// configuration.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The longest argument, in bytes (`proto-max-bulk-len`).
    pub bulk_bytes_max: usize,
    /// Until a client has authenticated it may send ten arguments of 16 KiB, so that strangers cannot fill memory.
    pub authenticated: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            bulk_bytes_max: 512 * 1024 * 1024,
            authenticated: true,
        }
    }
}

/// What the parser made of the bytes so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parse {
    /// No whole command yet. At least `missing` more bytes are needed before calling again can help.
    Incomplete {
        /// A lower bound, at least 1; the exact figure once the length of an argument is known.
        missing: usize,
    },
    /// A command of `consumed` bytes; its arguments are at hand until the next call of [`RequestParser::parse`].
    Command {
        /// Bytes from the start of the buffer that this command took.
        consumed: usize,
    },
    /// `consumed` bytes that are no command (an empty line or an empty array): skip them, answer nothing.
    Empty {
        /// Bytes to skip.
        consumed: usize,
    },
}

/// What is wrong with a request. The connection is to be closed after the error reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProtocolError {
    /// An inline request without end within [`INLINE_MAX_BYTES`].
    InlineTooBig,
    /// The line that announces the number of arguments is too long.
    MultibulkLineTooBig,
    /// The line that announces the length of an argument is too long.
    BulkLineTooBig,
    /// The number of arguments is not a number, or too large.
    MultibulkLength,
    /// The length of an argument is not a number, negative, or above the limit.
    BulkLength,
    /// Too many arguments from a client that has not authenticated.
    UnauthenticatedMultibulk,
    /// Too long an argument from a client that has not authenticated.
    UnauthenticatedBulk,
    /// An argument does not begin with `$` but with this byte.
    ExpectedBulk(u8),
    /// An inline request with an open quote.
    UnbalancedQuotes,
    /// A line or argument that does not end in CR LF.
    Crlf,
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Protocol error: ")?;
        match self {
            ProtocolError::InlineTooBig => f.write_str("too big inline request"),
            ProtocolError::MultibulkLineTooBig => f.write_str("too big mbulk count string"),
            ProtocolError::BulkLineTooBig => f.write_str("too big bulk count string"),
            ProtocolError::MultibulkLength => f.write_str("invalid multibulk length"),
            ProtocolError::BulkLength => f.write_str("invalid bulk length"),
            ProtocolError::UnauthenticatedMultibulk => {
                f.write_str("unauthenticated multibulk length")
            }
            ProtocolError::UnauthenticatedBulk => f.write_str("unauthenticated bulk length"),
            ProtocolError::ExpectedBulk(b) => write!(f, "expected '$', got '{}'", char::from(*b)),
            ProtocolError::UnbalancedQuotes => f.write_str("unbalanced quotes in request"),
            ProtocolError::Crlf => f.write_str("invalid CRLF in request"),
        }
    }
}

impl std::error::Error for ProtocolError {}

/// Room for so many arguments is kept from one command to the next.
const ARGS_KEEP: usize = 1024;

#[derive(Clone, Copy, Debug)]
struct Span {
    start: usize,
    end: usize,
}

/// Finds one command at a time at the start of a buffer.
///
/// Call [`parse`](Self::parse) with the unconsumed bytes. As long as it says `Incomplete`, call it again with
/// the same bytes and more behind them (they may have moved in memory). After `Command` or `Empty` the next
/// call starts at the byte behind the consumed ones. After an error the connection is of no more use.
#[derive(Debug, Default)]
pub struct RequestParser {
    args: Vec<Span>,
    /// Arguments of an inline command, unquoted; `args` points into it while `inline` is set.
    unquoted: Vec<u8>,
    inline: bool,
    /// The last call ended a command: the next one begins afresh.
    finished: bool,
    /// Arguments still to come; 0 before the header has been read.
    remaining: usize,
    /// Length of the argument whose bytes are awaited.
    bulk_len: Option<usize>,
    /// Where the awaited line or argument begins.
    pos: usize,
    /// How far the awaited line has been searched for its end.
    searched: usize,
}

impl RequestParser {
    /// A parser at the start of a connection.
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of arguments of the command just parsed, its name included.
    #[inline]
    pub fn argc(&self) -> usize {
        self.args.len()
    }

    /// An argument of the command just parsed; `buf` is what was given to [`parse`](Self::parse). Empty if there is none.
    #[inline]
    pub fn arg<'a>(&'a self, buf: &'a [u8], index: usize) -> &'a [u8] {
        let source = if self.inline { &self.unquoted[..] } else { buf };
        self.args
            .get(index)
            .and_then(|s| source.get(s.start..s.end))
            .unwrap_or_default()
    }

    /// As [`arg`](Self::arg), borrowed from `buf` alone: for multibulk commands only. Those of inline commands lie in the
    /// parser; here they are empty.
    #[inline]
    pub fn span<'a>(&self, buf: &'a [u8], index: usize) -> &'a [u8] {
        let span = self.args.get(index).filter(|_| !self.inline);
        span.and_then(|s| buf.get(s.start..s.end))
            .unwrap_or_default()
    }

    /// Whether the command just parsed is an inline one, whose arguments lie in the parser.
    #[inline]
    pub fn is_inline(&self) -> bool {
        self.inline
    }

    /// Forgets what it has seen: the next call of [`parse`](Self::parse) begins a command. For callers that have parsed ahead of
    /// what they then could execute.
    pub fn restart(&mut self) {
        self.finished = true;
        self.remaining = 0;
        self.bulk_len = None;
    }

    /// All arguments of the command just parsed, in order.
    #[inline]
    pub fn args<'a>(&'a self, buf: &'a [u8]) -> impl ExactSizeIterator<Item = &'a [u8]> + 'a {
        let source = if self.inline { &self.unquoted[..] } else { buf };
        self.args
            .iter()
            .map(move |s| source.get(s.start..s.end).unwrap_or_default())
    }

    /// The bulk argument whose bytes are being awaited: its offset in the buffer and its length. With it a
    /// caller can make room for all of it at once.
    pub fn awaited_bulk(&self) -> Option<(usize, usize)> {
        self.bulk_len.map(|len| (self.pos, len))
    }

    /// The awaited argument has been gathered elsewhere, with the end of line behind it: in the buffer its bytes are not, and what follows it begins
    /// where it would. Returns which of the command's arguments it is; here it is an empty one. `None` if none is awaited.
    pub fn skip_bulk(&mut self) -> Option<usize> {
        self.bulk_len.take()?;
        let index = self.args.len();
        self.args.push(Span {
            start: self.pos,
            end: self.pos,
        });
        self.searched = self.pos;
        self.remaining -= 1;
        Some(index)
    }

    /// Gives back the room that the last command has taken, unless another one has begun.
    pub fn give_back(&mut self) {
        if self.finished {
            self.args = Vec::new();
            self.unquoted = Vec::new();
        }
    }

    /// Looks for the next command at the start of `buf`.
    #[inline]
    pub fn parse(&mut self, buf: &[u8], limits: &Limits) -> Result<Parse, ProtocolError> {
        if self.finished {
            self.finished = false;
            self.args.clear();
            // One command of very many arguments is no reason to keep room for the next.
            if self.args.capacity() > ARGS_KEEP {
                self.args = Vec::new();
            }
            self.pos = 0;
            self.searched = 0;
        }
        // Arguments are there without any to come if the last one was gathered elsewhere.
        if self.remaining == 0 && self.args.is_empty() {
            match buf.first() {
                None => return Ok(Parse::Incomplete { missing: 1 }),
                Some(b'*') => {}
                Some(_) => return self.parse_inline(buf),
            }
            self.inline = false;
            let Some((len, next)) = self.length_line(buf, ProtocolError::MultibulkLineTooBig)?
            else {
                return Ok(Parse::Incomplete { missing: 1 });
            };
            let len = len
                .filter(|n| *n <= i64::from(i32::MAX))
                .ok_or(ProtocolError::MultibulkLength)?;
            if len > 10 && !limits.authenticated {
                return Err(ProtocolError::UnauthenticatedMultibulk);
            }
            if len <= 0 {
                self.finished = true;
                return Ok(Parse::Empty { consumed: next });
            }
            self.pos = next;
            self.remaining = len as usize;
        }
        while self.remaining > 0 {
            let len = match self.bulk_len {
                Some(len) => len,
                None => {
                    let Some((len, next)) = self.length_line(buf, ProtocolError::BulkLineTooBig)?
                    else {
                        return Ok(Parse::Incomplete { missing: 1 });
                    };
                    match buf.get(self.pos) {
                        Some(b'$') => {}
                        Some(other) => return Err(ProtocolError::ExpectedBulk(*other)),
                        None => return Ok(Parse::Incomplete { missing: 1 }),
                    }
                    let len = len
                        .and_then(|n| usize::try_from(n).ok())
                        .filter(|n| *n <= limits.bulk_bytes_max);
                    let len = len.ok_or(ProtocolError::BulkLength)?;
                    if len > 16384 && !limits.authenticated {
                        return Err(ProtocolError::UnauthenticatedBulk);
                    }
                    self.pos = next;
                    self.bulk_len = Some(len);
                    len
                }
            };
            let end = self.pos + len;
            match buf.get(end..end + 2) {
                Some(b"\r\n") => {}
                Some(_) => return Err(ProtocolError::Crlf),
                None => {
                    return Ok(Parse::Incomplete {
                        missing: end + 2 - buf.len(),
                    });
                }
            }
            self.args.push(Span {
                start: self.pos,
                end,
            });
            self.pos = end + 2;
            self.searched = self.pos;
            self.bulk_len = None;
            self.remaining -= 1;
        }
        self.finished = true;
        Ok(Parse::Command { consumed: self.pos })
    }

    /// Reads the number in the line at `self.pos`, behind its first byte. `Some((number, next))` once the line
    /// is whole; the number is `None` where the text is no integer.
    #[inline]
    fn length_line(
        &mut self,
        buf: &[u8],
        too_big: ProtocolError,
    ) -> Result<Option<(Option<i64>, usize)>, ProtocolError> {
        // The common line has one to three digits.
        let line = buf.get(self.pos..).unwrap_or_default();
        match line {
            [_, a @ b'0'..=b'9', b'\r', b'\n', ..] => {
                return Ok(Some((Some(i64::from(a - b'0')), self.pos + 4)));
            }
            [_, a @ b'1'..=b'9', b @ b'0'..=b'9', b'\r', b'\n', ..] => {
                return Ok(Some((
                    Some(i64::from(a - b'0') * 10 + i64::from(b - b'0')),
                    self.pos + 5,
                )));
            }
            _ => {}
        }
        self.length_line_slow(buf, too_big)
    }

    #[inline(never)]
    fn length_line_slow(
        &mut self,
        buf: &[u8],
        too_big: ProtocolError,
    ) -> Result<Option<(Option<i64>, usize)>, ProtocolError> {
        let from = self.searched.max(self.pos);
        let Some(at) = buf
            .get(from..)
            .and_then(|rest| rest.iter().position(|b| *b == b'\r'))
        else {
            self.searched = buf.len();
            return if buf.len().saturating_sub(self.pos) > INLINE_MAX_BYTES {
                Err(too_big)
            } else {
                Ok(None)
            };
        };
        let end = from + at;
        self.searched = end;
        match buf.get(end + 1) {
            None => Ok(None),
            Some(b'\n') => {
                let number = buf.get(self.pos + 1..end).and_then(parse_i64);
                Ok(Some((number, end + 2)))
            }
            // Valkey looks at the first byte of an argument's line before it minds the line's end.
            Some(_) => match buf.get(self.pos) {
                Some(b'$' | b'*') | None => Err(ProtocolError::Crlf),
                Some(other) => Err(ProtocolError::ExpectedBulk(*other)),
            },
        }
    }

    fn parse_inline(&mut self, buf: &[u8]) -> Result<Parse, ProtocolError> {
        let Some(at) = buf
            .get(self.searched..)
            .and_then(|rest| rest.iter().position(|b| *b == b'\n'))
        else {
            self.searched = buf.len();
            return if buf.len() > INLINE_MAX_BYTES {
                Err(ProtocolError::InlineTooBig)
            } else {
                Ok(Parse::Incomplete { missing: 1 })
            };
        };
        let end = self.searched + at;
        let line = buf.get(..end).unwrap_or_default();
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        self.inline = true;
        self.finished = true;
        self.unquoted.clear();
        split_quoted(line, &mut self.unquoted, &mut self.args)?;
        let consumed = end + 1;
        Ok(if self.args.is_empty() {
            Parse::Empty { consumed }
        } else {
            Parse::Command { consumed }
        })
    }
}

/// Splits a line at white space, with double quotes (and backslash escapes in them) and single quotes, as
/// `valkey-cli` and the inline protocol understand it.
fn split_quoted(line: &[u8], out: &mut Vec<u8>, args: &mut Vec<Span>) -> Result<(), ProtocolError> {
    let is_space = |b: u8| b.is_ascii_whitespace() || b == 0x0b;
    let mut rest = line.iter().copied().peekable();
    loop {
        while rest.next_if(|b| is_space(*b)).is_some() {}
        if rest.peek().is_none_or(|b| *b == 0) {
            return Ok(());
        }
        let start = out.len();
        while let Some(b) = rest.next() {
            match b {
                // Quoted and unquoted parts may follow each other within an argument.
                b'"' | b'\'' => quoted(b, &mut rest, out)?,
                0 => break,
                b if is_space(b) => break,
                b => out.push(b),
            }
        }
        args.push(Span {
            start,
            end: out.len(),
        });
    }
}

fn quoted(
    quote: u8,
    rest: &mut std::iter::Peekable<impl Iterator<Item = u8>>,
    out: &mut Vec<u8>,
) -> Result<(), ProtocolError> {
    loop {
        let b = rest.next().ok_or(ProtocolError::UnbalancedQuotes)?;
        if b == quote {
            return Ok(());
        }
        if b != b'\\' {
            out.push(b);
            continue;
        }
        if quote == b'\'' {
            out.push(if rest.next_if_eq(&b'\'').is_some() {
                b'\''
            } else {
                b'\\'
            });
            continue;
        }
        match rest.next().ok_or(ProtocolError::UnbalancedQuotes)? {
            b'n' => out.push(b'\n'),
            b'r' => out.push(b'\r'),
            b't' => out.push(b'\t'),
            b'b' => out.push(8),
            b'a' => out.push(7),
            b'x' => hex_escape(rest, out),
            other => out.push(other),
        }
    }
}

/// Behind `\x`: two hex digits make a byte, anything else is an `x` and itself.
fn hex_escape(rest: &mut std::iter::Peekable<impl Iterator<Item = u8>>, out: &mut Vec<u8>) {
    let hex = |b: u8| char::from(b).to_digit(16).map(|d| d as u8);
    let Some(high) = rest.next_if(u8::is_ascii_hexdigit) else {
        out.push(b'x');
        return;
    };
    match rest.next_if(u8::is_ascii_hexdigit) {
        Some(low) => out.push(hex(high).unwrap_or(0) << 4 | hex(low).unwrap_or(0)),
        None => out.extend_from_slice(&[b'x', high]),
    }
}
