//! Replies, appended to an output buffer.
//!
//! Functions that take a [`Proto`] write what that version of the protocol has; the others are the same in both.

use crate::Proto;
use crate::number::{format_double, format_i64};

const CRLF: &[u8] = b"\r\n";

#[inline]
fn header(out: &mut Vec<u8>, kind: u8, value: i64) {
    if let 0..=9 = value {
        out.extend_from_slice(&[kind, b'0' + value as u8, b'\r', b'\n']);
        return;
    }
    out.push(kind);
    out.extend_from_slice(format_i64(value).as_bytes());
    out.extend_from_slice(CRLF);
}

/// `+text`: a status. The text must not contain CR or LF.
#[inline]
pub fn simple(out: &mut Vec<u8>, text: &str) {
    out.push(b'+');
    out.extend_from_slice(text.as_bytes());
    out.extend_from_slice(CRLF);
}

/// `+OK`.
#[inline]
pub fn ok(out: &mut Vec<u8>) {
    out.extend_from_slice(b"+OK\r\n");
}

/// `-text`: an error with its code word, without the dash, for example `ERR syntax error`.
/// CR and LF in the text become spaces, since client input may be quoted in it.
pub fn error(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'-');
    out.extend(
        text.iter()
            .map(|b| if matches!(b, b'\r' | b'\n') { b' ' } else { *b }),
    );
    out.extend_from_slice(CRLF);
}

/// `:value`.
#[inline]
pub fn int(out: &mut Vec<u8>, value: i64) {
    header(out, b':', value);
}

/// `$len bytes`: a binary-safe string.
#[inline]
pub fn bulk(out: &mut Vec<u8>, bytes: &[u8]) {
    out.reserve(bytes.len() + 24);
    header(out, b'$', bytes.len() as i64);
    out.extend_from_slice(bytes);
    out.extend_from_slice(CRLF);
}

/// The length of a bulk string, whose bytes and end follow.
pub fn bulk_len(out: &mut Vec<u8>, len: usize) {
    header(out, b'$', len as i64);
}

/// An integer as a bulk string.
#[inline]
pub fn bulk_int(out: &mut Vec<u8>, value: i64) {
    bulk(out, format_i64(value).as_bytes());
}

/// Null where a value is expected: `$-1` or `_`.
#[inline]
pub fn null(out: &mut Vec<u8>, proto: Proto) {
    out.extend_from_slice(match proto {
        Proto::Resp2 => b"$-1\r\n",
        Proto::Resp3 => b"_\r\n",
    });
}

/// Null where an array is expected: `*-1` or `_`.
#[inline]
pub fn null_array(out: &mut Vec<u8>, proto: Proto) {
    out.extend_from_slice(match proto {
        Proto::Resp2 => b"*-1\r\n",
        Proto::Resp3 => b"_\r\n",
    });
}

/// The header of an array of `len` elements.
#[inline]
pub fn array(out: &mut Vec<u8>, len: usize) {
    header(out, b'*', len as i64);
}

/// The header of a map of `pairs` pairs; in RESP2 an array of twice as many elements.
#[inline]
pub fn map(out: &mut Vec<u8>, proto: Proto, pairs: usize) {
    match proto {
        Proto::Resp2 => header(out, b'*', pairs as i64 * 2),
        Proto::Resp3 => header(out, b'%', pairs as i64),
    }
}

/// The header of a set; in RESP2 an array.
#[inline]
pub fn set(out: &mut Vec<u8>, proto: Proto, len: usize) {
    header(
        out,
        if proto == Proto::Resp3 { b'~' } else { b'*' },
        len as i64,
    );
}

/// The header of a push message; in RESP2 an array.
#[inline]
pub fn push(out: &mut Vec<u8>, proto: Proto, len: usize) {
    header(
        out,
        if proto == Proto::Resp3 { b'>' } else { b'*' },
        len as i64,
    );
}

/// The header of an attribute of `pairs` pairs (RESP3 only; write nothing of the kind in RESP2).
#[inline]
pub fn attribute(out: &mut Vec<u8>, pairs: usize) {
    header(out, b'|', pairs as i64);
}

/// A double: `,value`, or a bulk string in RESP2.
pub fn double(out: &mut Vec<u8>, proto: Proto, value: f64) {
    let text = format_double(value);
    match proto {
        Proto::Resp2 => bulk(out, text.as_bytes()),
        Proto::Resp3 => {
            out.push(b',');
            out.extend_from_slice(text.as_bytes());
            out.extend_from_slice(CRLF);
        }
    }
}

/// A boolean: `#t`/`#f`, or `:1`/`:0` in RESP2.
#[inline]
pub fn boolean(out: &mut Vec<u8>, proto: Proto, value: bool) {
    out.extend_from_slice(match (proto, value) {
        (Proto::Resp2, true) => b":1\r\n",
        (Proto::Resp2, false) => b":0\r\n",
        (Proto::Resp3, true) => b"#t\r\n",
        (Proto::Resp3, false) => b"#f\r\n",
    });
}

/// A big number in decimal digits: `(digits`, or a bulk string in RESP2.
pub fn big_number(out: &mut Vec<u8>, proto: Proto, digits: &str) {
    match proto {
        Proto::Resp2 => bulk(out, digits.as_bytes()),
        Proto::Resp3 => {
            out.push(b'(');
            out.extend_from_slice(digits.as_bytes());
            out.extend_from_slice(CRLF);
        }
    }
}

/// Text with a three-letter format (`txt`, `mkd`): `=len fmt:text`, or a bulk string in RESP2.
pub fn verbatim(out: &mut Vec<u8>, proto: Proto, format: &[u8; 3], text: &[u8]) {
    match proto {
        Proto::Resp2 => bulk(out, text),
        Proto::Resp3 => {
            header(out, b'=', text.len() as i64 + 4);
            out.extend_from_slice(format);
            out.push(b':');
            out.extend_from_slice(text);
            out.extend_from_slice(CRLF);
        }
    }
}

/// A request: an array of bulk strings. Also the form of effects in the journal.
pub fn command<A: AsRef<[u8]>>(out: &mut Vec<u8>, argv: &[A]) {
    array(out, argv.len());
    for arg in argv {
        bulk(out, arg.as_ref());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(expect: &str, f: impl FnOnce(&mut Vec<u8>)) {
        let mut out = Vec::new();
        f(&mut out);
        assert_eq!(String::from_utf8_lossy(&out), expect);
    }

    #[test]
    fn every_kind_in_both_protocols() {
        use Proto::*;
        check("+OK\r\n", ok);
        check("+PONG\r\n", |o| simple(o, "PONG"));
        check("-ERR a  b\r\n", |o| error(o, b"ERR a\r\nb"));
        check(":-12\r\n", |o| int(o, -12));
        check("$0\r\n\r\n", |o| bulk(o, b""));
        check("$12\r\nhello, world\r\n", |o| bulk(o, b"hello, world"));
        check("$2\r\n42\r\n", |o| bulk_int(o, 42));
        check("$-1\r\n", |o| null(o, Resp2));
        check("_\r\n", |o| null(o, Resp3));
        check("*-1\r\n", |o| null_array(o, Resp2));
        check("_\r\n", |o| null_array(o, Resp3));
        check("*10\r\n", |o| array(o, 10));
        check("*4\r\n", |o| map(o, Resp2, 2));
        check("%2\r\n", |o| map(o, Resp3, 2));
        check("~2\r\n", |o| set(o, Resp3, 2));
        check(">2\r\n", |o| push(o, Resp3, 2));
        check("$3\r\n1.5\r\n", |o| double(o, Resp2, 1.5));
        check(",1.5\r\n", |o| double(o, Resp3, 1.5));
        check(":1\r\n", |o| boolean(o, Resp2, true));
        check("#f\r\n", |o| boolean(o, Resp3, false));
        check("(123\r\n", |o| big_number(o, Resp3, "123"));
        check("=8\r\ntxt:abcd\r\n", |o| {
            verbatim(o, Resp3, b"txt", b"abcd")
        });
        check("$4\r\nabcd\r\n", |o| verbatim(o, Resp2, b"txt", b"abcd"));
        check("*2\r\n$3\r\nGET\r\n$1\r\nk\r\n", |o| {
            command(o, &["GET", "k"])
        });
    }
}
