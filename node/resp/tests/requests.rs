//! The request parser: whatever way the bytes arrive, the commands are the same; and no bytes make it panic.

use holdfast_resp::{INLINE_MAX_BYTES, Limits, Parse, RequestParser, reply, write};

/// All commands in the input, or the error that ends it. `pieces` says how many bytes arrive at a time.
fn commands(
    input: &[u8],
    limits: &Limits,
    mut pieces: impl FnMut() -> usize,
) -> (Vec<Vec<Vec<u8>>>, Option<String>) {
    let mut parser = RequestParser::new();
    let mut found = Vec::new();
    let (mut start, mut arrived) = (0, 0);
    loop {
        // A copy, so that looking beyond what has arrived would be noticed.
        let buffer = input[start..arrived].to_vec();
        match parser.parse(&buffer, limits) {
            Ok(Parse::Command { consumed }) => {
                let args: Vec<_> = parser.args(&buffer).map(<[u8]>::to_vec).collect();
                assert_eq!(args.len(), parser.argc());
                for (i, arg) in args.iter().enumerate() {
                    assert_eq!(parser.arg(&buffer, i), arg);
                }
                found.push(args);
                assert!(consumed > 0);
                start += consumed;
            }
            Ok(Parse::Empty { consumed }) => {
                assert!(consumed > 0);
                start += consumed;
            }
            Ok(Parse::Incomplete { missing }) => {
                assert!(missing > 0);
                if arrived == input.len() {
                    return (found, None);
                }
                arrived = (arrived + pieces().max(1)).min(input.len());
            }
            Err(error) => return (found, Some(error.to_string())),
        }
    }
}

/// The same where some arguments are gathered apart from the other bytes, whenever the parser awaits one of them and `apart` says so.
fn commands_apart(
    input: &[u8],
    limits: &Limits,
    mut pieces: impl FnMut() -> usize,
    mut apart: impl FnMut() -> bool,
) -> (Vec<Vec<Vec<u8>>>, Option<String>) {
    let mut parser = RequestParser::new();
    let (mut found, mut buffer) = (Vec::new(), Vec::new());
    let mut large = Vec::<(usize, Vec<u8>)>::new();
    let mut arrived = 0;
    loop {
        match parser.parse(&buffer, limits) {
            Ok(Parse::Command { consumed }) => {
                let mut args: Vec<_> = parser.args(&buffer).map(<[u8]>::to_vec).collect();
                for (place, arg) in large.drain(..) {
                    assert!(args[place].is_empty());
                    args[place] = arg;
                }
                found.push(args);
                buffer.drain(..consumed);
            }
            Ok(Parse::Empty { consumed }) => drop(buffer.drain(..consumed)),
            Ok(Parse::Incomplete { .. }) => {
                if let Some((at, len)) = parser.awaited_bulk()
                    && let rest = &input[arrived - (buffer.len() - at)..]
                    && let Some((arg, b"\r\n")) = rest
                        .get(..len + 2)
                        .and_then(|all| all.split_at_checked(len))
                    && apart()
                {
                    arrived = arrived - (buffer.len() - at) + len + 2;
                    buffer.truncate(at);
                    large.push((parser.skip_bulk().expect("it is awaited"), arg.to_vec()));
                    continue;
                }
                if arrived == input.len() {
                    return (found, None);
                }
                let to = (arrived + pieces().max(1)).min(input.len());
                buffer.extend_from_slice(&input[arrived..to]);
                arrived = to;
            }
            Err(error) => return (found, Some(error.to_string())),
        }
    }
}

fn check(input: &[u8], expect: &[&[&str]], error: Option<&str>) {
    let limits = Limits::default();
    let expect: Vec<Vec<Vec<u8>>> = expect
        .iter()
        .map(|argv| argv.iter().map(|a| a.as_bytes().to_vec()).collect())
        .collect();
    for size in [usize::MAX, 1, 2, 3, 7, 100] {
        let (found, failed) = commands(input, &limits, || size);
        assert_eq!(
            found,
            expect,
            "{} in pieces of {size}",
            input.escape_ascii()
        );
        assert_eq!(
            failed.as_deref(),
            error,
            "{} in pieces of {size}",
            input.escape_ascii()
        );
    }
}

#[test]
fn multibulk() {
    check(b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n", &[&["GET", "k"]], None);
    check(
        b"*1\r\n$4\r\nPING\r\n*1\r\n$4\r\nPING\r\n",
        &[&["PING"], &["PING"]],
        None,
    );
    check(b"*1\r\n$0\r\n\r\n", &[&[""]], None);
    check(b"*0\r\n*-1\r\n*-5\r\n*1\r\n$1\r\nx\r\n", &[&["x"]], None);
    check(
        b"*2\r\n$12\r\nhello\r\nworld\r\n$1\r\nx\r\n",
        &[&["hello\r\nworld", "x"]],
        None,
    );
    let many = vec!["a"; 1000];
    let mut bytes = Vec::new();
    write::command(&mut bytes, &many);
    check(&bytes, &[&many], None);
}

#[test]
fn inline() {
    check(b"PING\r\n", &[&["PING"]], None);
    check(b"\r\n\n  \r\nPING\n", &[&["PING"]], None);
    check(
        b"set  k   \"a b\\n\\x41\\xzz\" 'it\\'s' \"\"\r\n",
        &[&["set", "k", "a b\nAxzz", "it's", ""]],
        None,
    );
    check(b"a\"b\"\r\n", &[&["ab"]], None);
    check(
        b"x\r\n*1\r\n$1\r\ny\r\nz\r\n",
        &[&["x"], &["y"], &["z"]],
        None,
    );
    check(b"\"a\"b'c'd\r\n", &[&["abcd"]], None);
    for bad in ["\"a\r\n", "'a\r\n", "\"a\\\r\n"] {
        check(
            bad.as_bytes(),
            &[],
            Some("Protocol error: unbalanced quotes in request"),
        );
    }
}

#[test]
fn malformed_requests_get_valkeys_errors() {
    check(
        b"*x\r\n",
        &[],
        Some("Protocol error: invalid multibulk length"),
    );
    check(
        b"*2147483648\r\n",
        &[],
        Some("Protocol error: invalid multibulk length"),
    );
    check(
        b"*03\r\n",
        &[],
        Some("Protocol error: invalid multibulk length"),
    );
    check(
        b"*1\r\nx\r\n",
        &[],
        Some("Protocol error: expected '$', got 'x'"),
    );
    check(
        b"*1\r\n$-1\r\n",
        &[],
        Some("Protocol error: invalid bulk length"),
    );
    check(
        b"*1\r\n$x\r\n",
        &[],
        Some("Protocol error: invalid bulk length"),
    );
    check(
        b"*1\r\n$536870913\r\n",
        &[],
        Some("Protocol error: invalid bulk length"),
    );
    check(
        b"*1\r\n$99999999999999999999\r\n",
        &[],
        Some("Protocol error: invalid bulk length"),
    );
    check(
        b"*1\r\n$1\r\nabc",
        &[],
        Some("Protocol error: invalid CRLF in request"),
    );
    check(
        b"*1\rx",
        &[],
        Some("Protocol error: invalid CRLF in request"),
    );
    check(
        b"*1\r\n$1\rx",
        &[],
        Some("Protocol error: invalid CRLF in request"),
    );
    check(
        &[b"*1".to_vec(), vec![b'1'; INLINE_MAX_BYTES]].concat(),
        &[],
        Some("Protocol error: too big mbulk count string"),
    );
    check(
        &[b"*1\r\n$".to_vec(), vec![b'1'; INLINE_MAX_BYTES]].concat(),
        &[],
        Some("Protocol error: too big bulk count string"),
    );
    check(
        &vec![b'a'; INLINE_MAX_BYTES + 1],
        &[],
        Some("Protocol error: too big inline request"),
    );
}

#[test]
fn strangers_are_kept_short() {
    let limits = Limits {
        authenticated: false,
        ..Limits::default()
    };
    let error = |input: &[u8]| commands(input, &limits, || 1000).1;
    assert_eq!(
        error(b"*11\r\n").as_deref(),
        Some("Protocol error: unauthenticated multibulk length")
    );
    assert_eq!(
        error(b"*1\r\n$16385\r\n").as_deref(),
        Some("Protocol error: unauthenticated bulk length")
    );
    assert_eq!(error(b"*10\r\n$16384\r\n"), None);
}

#[test]
fn a_large_argument_is_announced() {
    let mut parser = RequestParser::new();
    let head = b"*2\r\n$3\r\nSET\r\n$1000\r\n";
    assert_eq!(
        parser.parse(head, &Limits::default()),
        Ok(Parse::Incomplete { missing: 1002 })
    );
    assert_eq!(parser.awaited_bulk(), Some((head.len(), 1000)));
}

/// xorshift: enough to make bytes.
#[derive(Clone)]
struct Noise(u64);

impl Noise {
    fn next(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }
}

#[test]
fn noise_never_panics_and_splitting_changes_nothing() {
    let mut noise = Noise(0x9e37_79b9);
    let pieces: [&[u8]; 14] = [
        b"*",
        b"$",
        b"\r\n",
        b"\r",
        b"\n",
        b"1",
        b"0",
        b"-1",
        b"3",
        b"GET",
        b" ",
        b"\"",
        b"*2\r\n$1\r\na\r\n$2\r\nbc\r\n",
        b"'",
    ];
    for _ in 0..30_000 {
        let mut input = Vec::new();
        for _ in 0..noise.next(14) {
            match noise.next(20) {
                0 => input.push(noise.next(256) as u8),
                n => input.extend_from_slice(pieces[n as usize % pieces.len()]),
            }
        }
        let limits = Limits {
            bulk_bytes_max: 100,
            authenticated: noise.next(2) == 0,
        };
        let whole = commands(&input, &limits, || usize::MAX);
        let single = commands(&input, &limits, || 1);
        let mixed = commands(&input, &limits, || 1 + noise.next(5) as usize);
        assert_eq!(whole, single, "{}", input.escape_ascii());
        assert_eq!(whole, mixed, "{}", input.escape_ascii());
        let mut sizes = noise.clone();
        let size = || 1 + sizes.next(5) as usize;
        let apart = commands_apart(&input, &limits, size, || noise.next(2) == 0);
        assert_eq!(whole, apart, "{}", input.escape_ascii());
        // The same bytes as a reply: any outcome but a panic.
        let _ = reply::parse(&input);
    }
}

#[test]
fn replies_come_back() {
    use holdfast_resp::reply::Reply;
    let one = |bytes: &[u8]| {
        for end in 0..bytes.len() {
            assert_eq!(
                reply::parse(&bytes[..end]),
                Ok(None),
                "{}",
                bytes[..end].escape_ascii()
            );
        }
        match reply::parse(bytes) {
            Ok(Some((reply, used))) if used == bytes.len() => reply,
            other => panic!("{}: {other:?}", bytes.escape_ascii()),
        }
    };
    assert!(one(b"+OK\r\n").is_ok());
    assert_eq!(one(b"-ERR x\r\n"), Reply::Error(b"ERR x".to_vec()));
    assert_eq!(
        one(b"*2\r\n:1\r\n$1\r\na\r\n"),
        Reply::Array(vec![Reply::Int(1), Reply::Bulk(b"a".to_vec())])
    );
    assert_eq!(
        one(b"%1\r\n+a\r\n#t\r\n"),
        Reply::Map(vec![(Reply::Simple(b"a".to_vec()), Reply::Bool(true))])
    );
    assert_eq!(
        one(b"=6\r\ntxt:ab\r\n"),
        Reply::Verbatim(b"txt".to_vec(), b"ab".to_vec())
    );
    assert_eq!(one(b"|1\r\n+a\r\n:1\r\n:2\r\n"), Reply::Int(2));
    assert_eq!(one(b",1.5\r\n"), Reply::Double(1.5));
    assert_eq!(one(b"*-1\r\n"), Reply::Null);
    let deep = b"*1\r\n".repeat(1000);
    assert!(reply::parse(&deep).is_err());
}
