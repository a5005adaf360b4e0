//! Finds the ends of replies without making anything of them.
//!
//! A reply may come in any number of pieces; nothing of it is kept but where in it we are, and the text of an error.
//! Nesting needs no stack: of an aggregate only the number of values that are still to come counts.

/// What kind of reply has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Any value.
    Value,
    /// A null of any kind.
    Nil,
    /// An error; its text is [`Skimmer::error_text`].
    Error,
    /// Not a reply, but a push message.
    Push,
}

/// So much of an error is kept.
const ERROR_TEXT_MAX: usize = 256;

/// The bytes are not RESP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the server's reply is not RESP")]
pub struct NotResp;

#[derive(Clone, Copy, Debug)]
enum At {
    /// A type byte comes next.
    Type,
    /// In the number that follows a type with one.
    Number { kind: u8, negative: bool },
    /// In the text of a line, until it ends.
    Line { keep: bool },
    /// In the content of a string; with its line end, so many bytes are left.
    Bulk { left: u64, keep: bool },
}

/// The state of one connection's replies.
#[derive(Debug)]
pub struct Skimmer {
    at: At,
    number: u64,
    /// Values to come until the reply ends.
    pending: u64,
    /// Nothing has gone before but attributes that have ended: what comes is the reply itself.
    top: bool,
    /// In the attribute of a reply that is still to come.
    attribute: bool,
    outcome: Outcome,
    error: Vec<u8>,
}

impl Default for Skimmer {
    fn default() -> Self {
        Skimmer {
            at: At::Type,
            number: 0,
            pending: 1,
            top: true,
            attribute: false,
            outcome: Outcome::Value,
            error: Vec::new(),
        }
    }
}

impl Skimmer {
    /// The text of the error that ended last, at most its first 256 bytes, without the `-`.
    pub fn error_text(&self) -> &[u8] {
        &self.error
    }

    /// Goes on from `bytes[*at]` until a reply ends (`Some`) or the bytes do (`None`).
    ///
    /// # Errors
    /// [`NotResp`]; nothing further can be had from the connection.
    pub fn next(&mut self, bytes: &[u8], at: &mut usize) -> Result<Option<Outcome>, NotResp> {
        while let Some(&byte) = bytes.get(*at) {
            match self.at {
                At::Type => {
                    *at += 1;
                    self.begin(byte)?;
                }
                At::Number { kind, negative } => {
                    *at += 1;
                    match byte {
                        b'0'..=b'9' => {
                            let digit = u64::from(byte - b'0');
                            self.number = self
                                .number
                                .checked_mul(10)
                                .and_then(|n| n.checked_add(digit))
                                .ok_or(NotResp)?;
                        }
                        b'-' => {
                            self.at = At::Number {
                                kind,
                                negative: true,
                            }
                        }
                        b'\r' => {}
                        b'\n' => {
                            if let Some(outcome) = self.numbered(kind, negative)? {
                                return Ok(Some(outcome));
                            }
                        }
                        _ => return Err(NotResp),
                    }
                }
                At::Line { keep } => {
                    let rest = &bytes[*at..];
                    let end = rest.iter().position(|b| *b == b'\n');
                    let text = &rest[..end.unwrap_or(rest.len())];
                    if keep {
                        let room = ERROR_TEXT_MAX - self.error.len();
                        let text = text.strip_suffix(b"\r").unwrap_or(text);
                        self.error.extend_from_slice(&text[..text.len().min(room)]);
                    }
                    match end {
                        Some(end) => {
                            *at += end + 1;
                            if let Some(outcome) = self.ended() {
                                return Ok(Some(outcome));
                            }
                        }
                        None => *at = bytes.len(),
                    }
                }
                At::Bulk { left, keep } => {
                    let rest = &bytes[*at..];
                    let taken = (rest.len() as u64).min(left);
                    if keep {
                        let text = taken.min(left.saturating_sub(2)) as usize;
                        let room = ERROR_TEXT_MAX - self.error.len();
                        self.error.extend_from_slice(&rest[..text.min(room)]);
                    }
                    *at += taken as usize;
                    if taken == left {
                        if let Some(outcome) = self.ended() {
                            return Ok(Some(outcome));
                        }
                    } else {
                        self.at = At::Bulk {
                            left: left - taken,
                            keep,
                        };
                    }
                }
            }
        }
        Ok(None)
    }

    /// Whether the bytes end between two replies.
    pub fn between_replies(&self) -> bool {
        matches!(self.at, At::Type) && self.pending == 1
    }

    fn begin(&mut self, kind: u8) -> Result<(), NotResp> {
        if self.attribute && self.pending == 1 {
            (self.attribute, self.top) = (false, true);
        }
        if self.top {
            match kind {
                b'-' | b'!' => {
                    self.outcome = Outcome::Error;
                    self.error.clear();
                }
                b'_' => self.outcome = Outcome::Nil,
                b'>' => self.outcome = Outcome::Push,
                _ => {}
            }
        }
        self.number = 0;
        self.at = match kind {
            b'+' | b':' | b',' | b'#' | b'(' | b'_' => At::Line { keep: false },
            b'-' => At::Line { keep: self.top },
            b'$' | b'=' | b'!' | b'*' | b'%' | b'~' | b'|' | b'>' => At::Number {
                kind,
                negative: false,
            },
            _ => return Err(NotResp),
        };
        Ok(())
    }

    /// The number behind a type has been read.
    fn numbered(&mut self, kind: u8, negative: bool) -> Result<Option<Outcome>, NotResp> {
        if negative {
            if self.number != 1 || !matches!(kind, b'$' | b'*') {
                return Err(NotResp);
            }
            if self.top {
                self.outcome = Outcome::Nil;
            }
            return Ok(self.ended());
        }
        let more = match kind {
            b'$' | b'=' | b'!' => {
                self.at = At::Bulk {
                    left: self.number.checked_add(2).ok_or(NotResp)?,
                    keep: kind == b'!' && self.top,
                };
                return Ok(None);
            }
            b'%' | b'|' => self.number.checked_mul(2).ok_or(NotResp)?,
            _ => self.number,
        };
        self.pending = self.pending.checked_add(more).ok_or(NotResp)?;
        if kind == b'|' {
            // What it is about comes behind it.
            if self.top {
                (self.attribute, self.top) = (true, false);
            }
            self.at = At::Type;
            return Ok(None);
        }
        self.top = false;
        Ok(self.ended())
    }

    fn ended(&mut self) -> Option<Outcome> {
        self.at = At::Type;
        self.pending -= 1;
        if self.pending > 0 {
            return None;
        }
        (self.pending, self.top, self.attribute) = (1, true, false);
        Some(std::mem::replace(&mut self.outcome, Outcome::Value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_resp::reply::{self, Reply};
    use holdfast_resp::{Proto, write};
    use proptest::prelude::*;

    /// Replies as the server's own encoder writes them, with what they are.
    #[derive(Clone, Debug)]
    enum Made {
        Simple(String),
        Error(String),
        Int(i64),
        Bulk(Vec<u8>),
        Null(Proto),
        NullArray,
        Double(i32),
        Bool(bool),
        Verbatim(String),
        BlobError(String),
        Array(Vec<Made>),
        Map(Vec<(Made, Made)>),
        Set(Vec<Made>),
        WithAttribute(Vec<(Made, Made)>, Box<Made>),
    }

    fn encode(out: &mut Vec<u8>, made: &Made) {
        let proto = Proto::Resp3;
        match made {
            Made::Simple(text) => write::simple(out, text),
            Made::Error(text) => write::error(out, text.as_bytes()),
            Made::Int(n) => write::int(out, *n),
            Made::Bulk(bytes) => write::bulk(out, bytes),
            Made::Null(proto) => write::null(out, *proto),
            Made::NullArray => write::null_array(out, Proto::Resp2),
            Made::Double(n) => write::double(out, proto, f64::from(*n) / 7.0),
            Made::Bool(b) => write::boolean(out, proto, *b),
            Made::Verbatim(text) => write::verbatim(out, proto, b"txt", text.as_bytes()),
            Made::BlobError(text) => {
                out.extend_from_slice(format!("!{}\r\n{text}\r\n", text.len()).as_bytes());
            }
            Made::Array(all) => {
                write::array(out, all.len());
                all.iter().for_each(|m| encode(out, m));
            }
            Made::Map(all) => {
                write::map(out, proto, all.len());
                for (key, value) in all {
                    encode(out, key);
                    encode(out, value);
                }
            }
            Made::Set(all) => {
                write::set(out, proto, all.len());
                all.iter().for_each(|m| encode(out, m));
            }
            Made::WithAttribute(pairs, made) => {
                write::attribute(out, pairs.len());
                for (key, value) in pairs {
                    encode(out, key);
                    encode(out, value);
                }
                encode(out, made);
            }
        }
    }

    fn made() -> impl Strategy<Value = Made> {
        let leaf = prop_oneof![
            "[ -~]{0,20}".prop_map(Made::Simple),
            "[A-Z]{3,6} [ -~]{0,20}".prop_map(Made::Error),
            any::<i64>().prop_map(Made::Int),
            proptest::collection::vec(any::<u8>(), 0..300).prop_map(Made::Bulk),
            prop_oneof![Just(Proto::Resp2), Just(Proto::Resp3)].prop_map(Made::Null),
            Just(Made::NullArray),
            any::<i32>().prop_map(Made::Double),
            any::<bool>().prop_map(Made::Bool),
            "[ -~\r\n]{0,20}".prop_map(Made::Verbatim),
            "[A-Z]{3,6} [ -~]{0,20}".prop_map(Made::BlobError),
        ];
        leaf.prop_recursive(4, 40, 6, |inner| {
            let pair = (inner.clone(), inner.clone());
            let pairs = proptest::collection::vec(pair, 0..4);
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..6).prop_map(Made::Array),
                proptest::collection::vec(inner.clone(), 0..6).prop_map(Made::Set),
                pairs.clone().prop_map(Made::Map),
                (pairs, inner).prop_map(|(p, m)| Made::WithAttribute(p, Box::new(m))),
            ]
        })
    }

    /// What the parser that makes values of the same bytes says: where each reply ends, and what it was.
    fn parsed(bytes: &[u8]) -> Vec<(usize, Outcome)> {
        let (mut at, mut ends) = (0, Vec::new());
        while let Some((reply, taken)) = reply::parse(&bytes[at..]).expect("our own encoding") {
            at += taken;
            let outcome = match reply {
                Reply::Null => Outcome::Nil,
                Reply::Error(_) => Outcome::Error,
                Reply::Push(_) => Outcome::Push,
                _ => Outcome::Value,
            };
            ends.push((at, outcome));
        }
        ends
    }

    fn skimmed(pieces: &[&[u8]]) -> Vec<(usize, Outcome)> {
        let (mut skimmer, mut ends, mut before) = (Skimmer::default(), Vec::new(), 0);
        for piece in pieces {
            let mut at = 0;
            while let Some(outcome) = skimmer.next(piece, &mut at).expect("our own encoding") {
                ends.push((before + at, outcome));
            }
            assert_eq!(at, piece.len());
            before += at;
        }
        assert!(skimmer.between_replies());
        ends
    }

    proptest! {
        #[test]
        fn ends_are_where_the_parser_finds_them(
            all in proptest::collection::vec(made(), 0..6),
            cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..8),
        ) {
            let mut bytes = Vec::new();
            all.iter().for_each(|m| encode(&mut bytes, m));
            let expected = parsed(&bytes);
            prop_assert_eq!(&skimmed(&[&bytes]), &expected);

            let mut cuts: Vec<usize> = cuts.iter().map(|c| c.index(bytes.len() + 1)).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|w| &bytes[w[0]..w[1]]).collect();
            prop_assert_eq!(&skimmed(&pieces), &expected);
            let single: Vec<&[u8]> = bytes.chunks(1).collect();
            prop_assert_eq!(&skimmed(&single), &expected);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let (mut skimmer, mut at) = (Skimmer::default(), 0);
            while let Ok(Some(_)) = skimmer.next(&bytes, &mut at) {}
        }
    }

    #[test]
    fn the_text_of_an_error_is_kept() {
        let bytes = b"*1\r\n-INNER\r\n-MOVED 7 10.0.0.1:6379\r\n!5\r\nERR x\r\n";
        let (mut skimmer, mut at) = (Skimmer::default(), 0);
        assert_eq!(skimmer.next(bytes, &mut at), Ok(Some(Outcome::Value)));
        assert_eq!(skimmer.next(bytes, &mut at), Ok(Some(Outcome::Error)));
        assert_eq!(skimmer.error_text(), b"MOVED 7 10.0.0.1:6379");
        assert_eq!(skimmer.next(bytes, &mut at), Ok(Some(Outcome::Error)));
        assert_eq!(skimmer.error_text(), b"ERR x");
        let long = [b"-".as_slice(), &[b'x'; 1000], b"\r\n"].concat();
        let mut at = 0;
        for piece in [&long[..400], &long[400..]] {
            at = 0;
            skimmer.next(piece, &mut at).expect("an error");
        }
        assert_eq!((skimmer.error_text().len(), at), (ERROR_TEXT_MAX, 603));
    }

    #[test]
    fn a_push_is_no_reply() {
        let bytes = b">2\r\n$10\r\ninvalidate\r\n*1\r\n+k\r\n+OK\r\n";
        let (mut skimmer, mut at) = (Skimmer::default(), 0);
        assert_eq!(skimmer.next(bytes, &mut at), Ok(Some(Outcome::Push)));
        assert_eq!(skimmer.next(bytes, &mut at), Ok(Some(Outcome::Value)));
        assert_eq!(skimmer.next(bytes, &mut at), Ok(None));
    }
}
