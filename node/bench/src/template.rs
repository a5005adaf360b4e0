//! Commands with placeholders, made ready so that a command is some copying and a few digits.
//!
//! | placeholder | is replaced by |
//! |---|---|
//! | `__key__` | the number of a key, drawn from the key distribution; 12 digits |
//! | `__key/N__` | the same with the number divided by N: for things that there are fewer of |
//! | `__again__` | the number that was drawn last |
//! | `__data__` | a value of the size that was asked for |
//! | `__data:SIZE__` | a value of this size (`100`, `1..4k`) |
//! | `__rand:N__` | a number from 0 to below N |
//! | `__rand_int__` | a number from 0 to below the number of keys, all alike; 12 digits |
//! | `__seq__` | a number that never comes twice; 12 digits |
//! | `__ttl__` | seconds, as `--ttl` says |

use std::ops::Range;
use std::sync::Arc;

use crate::random::{KeyNumbers, Numbers};
use crate::sizes::{self, Sizes};

const DIGITS: usize = 12;
/// Values are pieces of one text of this length (and that of the longest value), so that they differ.
const POOL: usize = 64 * 1024;

/// What placeholders mean in one run.
#[derive(Clone, Debug)]
pub struct Meaning {
    /// `__data__`
    pub data: Sizes,
    /// `__ttl__`
    pub ttl: Sizes,
    /// How many keys there are.
    pub keys: u64,
}

#[derive(Clone, Debug, PartialEq)]
enum Piece {
    Text(Vec<u8>),
    Key { divisor: u64 },
    Again,
    Uniform,
    Sequence,
    Below(u64),
    Data(Sizes),
    Ttl,
}

impl Piece {
    /// How many bytes it becomes, if that is always the same.
    fn width(&self) -> Option<usize> {
        match self {
            Piece::Text(text) => Some(text.len()),
            Piece::Key { .. } | Piece::Again | Piece::Uniform | Piece::Sequence => Some(DIGITS),
            Piece::Data(sizes) => sizes.only().map(|n| n as usize),
            Piece::Below(_) | Piece::Ttl => None,
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Step {
    /// What needs no length: text, or a placeholder of fixed width.
    Put(Piece),
    /// An argument whose length is known only when it is made.
    Argument(Vec<Piece>),
    KeyBegins,
    KeyEnds,
}

/// A command, ready to be made many times.
#[derive(Clone, Debug, PartialEq)]
pub struct Template {
    steps: Vec<Step>,
}

/// Splits a command line into words, as a shell does with blanks and quotes.
///
/// # Errors
/// A quote without its end.
pub fn words(line: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match c {
            c if c.is_ascii_whitespace() => words.extend(word.take()),
            '"' | '\'' => {
                let into = word.get_or_insert_default();
                loop {
                    match chars.next() {
                        Some(d) if d == c => break,
                        Some('\\') if c == '"' => into.extend(chars.next()),
                        Some(d) => into.push(d),
                        None => return Err(format!("a {c} without its end in `{line}`")),
                    }
                }
            }
            '\\' => word.get_or_insert_default().extend(chars.next()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Ok(words)
}

impl Template {
    /// Of a command's words. `key` is the number of the word that the command's slot goes by, in a cluster.
    ///
    /// # Errors
    /// A placeholder with something wrong in it.
    pub fn new(
        words: &[String],
        key: Option<usize>,
        meaning: &Meaning,
    ) -> Result<Template, String> {
        let mut steps = vec![Step::Put(Piece::Text(
            format!("*{}\r\n", words.len()).into_bytes(),
        ))];
        for (number, word) in words.iter().enumerate() {
            let pieces = pieces(word, meaning)?;
            let widths: Option<Vec<usize>> = pieces.iter().map(Piece::width).collect();
            let is_key = key == Some(number);
            match widths {
                Some(widths) => {
                    let len: usize = widths.iter().sum();
                    steps.push(Step::Put(Piece::Text(format!("${len}\r\n").into_bytes())));
                    steps.extend(is_key.then_some(Step::KeyBegins));
                    steps.extend(pieces.into_iter().map(Step::Put));
                    steps.extend(is_key.then_some(Step::KeyEnds));
                    steps.push(Step::Put(Piece::Text(b"\r\n".to_vec())));
                }
                None => {
                    steps.extend(is_key.then_some(Step::KeyBegins));
                    steps.push(Step::Argument(pieces));
                    steps.extend(is_key.then_some(Step::KeyEnds));
                }
            }
        }
        // Neighbouring texts become one.
        let mut joined: Vec<Step> = Vec::new();
        for step in steps {
            if let Step::Put(Piece::Text(text)) = &step
                && let Some(Step::Put(Piece::Text(before))) = joined.last_mut()
            {
                before.extend_from_slice(text);
            } else {
                joined.push(step);
            }
        }
        Ok(Template { steps: joined })
    }

    /// The longest value in it.
    pub fn longest_data(&self) -> u64 {
        let longest = |piece: &Piece| match piece {
            Piece::Data(sizes) => sizes.max(),
            _ => 0,
        };
        let of_step = |step: &Step| match step {
            Step::Put(piece) => longest(piece),
            Step::Argument(pieces) => pieces.iter().map(longest).max().unwrap_or(0),
            Step::KeyBegins | Step::KeyEnds => 0,
        };
        self.steps.iter().map(of_step).max().unwrap_or(0)
    }

    /// Appends a command to `out`. Returns where its key lies, if the template knows of one.
    pub fn make(&self, maker: &mut Maker, out: &mut Vec<u8>) -> Option<Range<usize>> {
        let mut key = None;
        let mut argument = None;
        for step in &self.steps {
            match step {
                Step::Put(piece) => maker.put(piece, out),
                Step::Argument(pieces) => {
                    let begin = maker.argument(pieces, out);
                    argument = Some(begin);
                }
                Step::KeyBegins => {
                    argument = None;
                    key = Some(out.len()..out.len());
                }
                Step::KeyEnds => {
                    if let Some(key) = &mut key {
                        match argument {
                            // Without its length and its line end.
                            Some(begin) => *key = begin..out.len() - 2,
                            None => key.end = out.len(),
                        }
                    }
                }
            }
        }
        key
    }
}

/// What a word consists of.
fn pieces(word: &str, meaning: &Meaning) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut text = Vec::new();
    let mut rest = word;
    while !rest.is_empty() {
        let found = rest.strip_prefix("__").and_then(|inner| {
            let (name, behind) = inner.split_once("__")?;
            Some((placeholder(name, meaning)?, behind))
        });
        match found {
            Some((piece, behind)) => {
                if !text.is_empty() {
                    pieces.push(Piece::Text(std::mem::take(&mut text)));
                }
                pieces.push(piece.map_err(|e| format!("{e} in `{word}`"))?);
                rest = behind;
            }
            None => {
                let first = rest.chars().next().map_or(1, char::len_utf8);
                text.extend_from_slice(&rest.as_bytes()[..first]);
                rest = &rest[first..];
            }
        }
    }
    if !text.is_empty() {
        pieces.push(Piece::Text(text));
    }
    Ok(pieces)
}

/// `None` if the name is no placeholder's: then it stays as it is.
fn placeholder(name: &str, meaning: &Meaning) -> Option<Result<Piece, String>> {
    if let Some(divisor) = name.strip_prefix("key/") {
        return Some(positive(divisor).map(|divisor| Piece::Key { divisor }));
    }
    if let Some(bound) = name.strip_prefix("rand:") {
        return Some(positive(bound).map(Piece::Below));
    }
    if let Some(size) = name.strip_prefix("data:") {
        return Some(Sizes::parse(size).map(Piece::Data));
    }
    Some(Ok(match name {
        "key" => Piece::Key { divisor: 1 },
        "again" => Piece::Again,
        "rand_int" => Piece::Uniform,
        "seq" => Piece::Sequence,
        "data" => Piece::Data(meaning.data.clone()),
        "ttl" => Piece::Ttl,
        _ => return None,
    }))
}

fn positive(text: &str) -> Result<u64, String> {
    match sizes::count(text)? {
        0 => Err("a 0".to_owned()),
        n => Ok(n),
    }
}

/// The text that values are cut from.
pub fn pool(longest: u64, seed: u64) -> Arc<[u8]> {
    const LETTERS: &[u8; 64] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_";
    let mut numbers = Numbers::new(seed ^ 0x706f_6f6c);
    let len = POOL + longest as usize;
    let mut text = Vec::with_capacity(len + 8);
    while text.len() < len {
        let bits = numbers.bits();
        text.extend((0..8).map(|i| LETTERS[(bits >> (8 * i) & 63) as usize]));
    }
    text.into()
}

/// What one thread makes commands with.
#[derive(Debug)]
pub struct Maker {
    /// Where what is random comes from.
    pub numbers: Numbers,
    keys: KeyNumbers,
    key_count: u64,
    last_key: u64,
    sequence: u64,
    sequence_step: u64,
    ttl: Sizes,
    pool: Arc<[u8]>,
    scratch: Vec<u8>,
}

impl Maker {
    /// For one of `threads` threads.
    pub fn new(
        numbers: Numbers,
        keys: KeyNumbers,
        meaning: &Meaning,
        pool: Arc<[u8]>,
        thread: u64,
        threads: u64,
    ) -> Maker {
        Maker {
            numbers,
            keys,
            key_count: meaning.keys,
            last_key: 0,
            sequence: thread,
            sequence_step: threads,
            ttl: meaning.ttl.clone(),
            pool,
            scratch: Vec::new(),
        }
    }

    fn put(&mut self, piece: &Piece, out: &mut Vec<u8>) {
        match piece {
            Piece::Text(text) => out.extend_from_slice(text),
            Piece::Key { divisor } => {
                let drawn = self.keys.draw(&mut self.numbers);
                self.last_key = if *divisor == 1 {
                    drawn
                } else {
                    drawn / divisor
                };
                digits(self.last_key, out);
            }
            Piece::Again => digits(self.last_key, out),
            Piece::Uniform => digits(self.numbers.below(self.key_count), out),
            Piece::Sequence => {
                digits(self.sequence, out);
                self.sequence += self.sequence_step;
            }
            Piece::Below(bound) => decimal(self.numbers.below(*bound), out),
            Piece::Ttl => decimal(self.ttl.draw(&mut self.numbers), out),
            Piece::Data(sizes) => {
                let len = match sizes.only() {
                    Some(len) => len,
                    None => sizes.draw(&mut self.numbers),
                };
                self.data(len, out);
            }
        }
    }

    fn data(&mut self, len: u64, out: &mut Vec<u8>) {
        let at = self.numbers.below(POOL as u64) as usize;
        out.extend_from_slice(&self.pool[at..at + len as usize]);
    }

    /// Appends an argument with its length in front; where its content begins.
    fn argument(&mut self, pieces: &[Piece], out: &mut Vec<u8>) -> usize {
        // A value alone, which may be long, is not copied twice.
        if let [Piece::Data(sizes)] = pieces {
            let len = sizes.draw(&mut self.numbers);
            header(len, out);
            let begin = out.len();
            self.data(len, out);
            out.extend_from_slice(b"\r\n");
            return begin;
        }
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        for piece in pieces {
            self.put(piece, &mut scratch);
        }
        header(scratch.len() as u64, out);
        let begin = out.len();
        out.extend_from_slice(&scratch);
        out.extend_from_slice(b"\r\n");
        self.scratch = scratch;
        begin
    }
}

fn header(len: u64, out: &mut Vec<u8>) {
    out.push(b'$');
    decimal(len, out);
    out.extend_from_slice(b"\r\n");
}

fn decimal(mut value: u64, out: &mut Vec<u8>) {
    let mut text = [0; 20];
    let mut at = text.len();
    loop {
        at -= 1;
        text[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&text[at..]);
}

fn digits(mut value: u64, out: &mut Vec<u8>) {
    let mut text = [b'0'; DIGITS];
    for digit in text.iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&text);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Distribution;
    use holdfast_resp::reply::{self, Reply};

    fn meaning(data: &str) -> Meaning {
        Meaning {
            data: Sizes::parse(data).expect("sizes"),
            ttl: Sizes::parse("60..70").expect("times"),
            keys: 1000,
        }
    }

    fn maker(meaning: &Meaning) -> Maker {
        let keys = KeyNumbers::new(Distribution::Sequential, meaning.keys, 7, 10);
        let pool = pool(meaning.data.max().max(4096), 1);
        Maker::new(Numbers::new(5), keys, meaning, pool, 3, 4)
    }

    /// The arguments of what a line makes, and its key.
    fn made(line: &str, data: &str, key: Option<usize>) -> (Vec<String>, Option<String>) {
        let meaning = meaning(data);
        let words = words(line).expect("words");
        let template = Template::new(&words, key, &meaning).expect("a template");
        let mut out = b"before".to_vec();
        let key = template.make(&mut maker(&meaning), &mut out);
        let key = key.map(|k| String::from_utf8(out[k].to_vec()).expect("text"));
        let (reply, taken) = reply::parse(&out[6..]).expect("RESP").expect("a whole");
        assert_eq!(taken, out.len() - 6);
        let Reply::Array(args) = reply else {
            panic!("{reply:?}")
        };
        let text = |r: &Reply| String::from_utf8_lossy(r.as_bytes().expect("bulk")).into_owned();
        (args.iter().map(text).collect(), key)
    }

    #[test]
    fn placeholders_are_replaced() {
        let (args, key) = made("SET key:__key__:x __data__ EX __ttl__", "5", Some(1));
        assert_eq!(args[..2], ["SET", "key:000000000007:x"]);
        assert_eq!(key.as_deref(), Some("key:000000000007:x"));
        assert_eq!((args[2].len(), args[3].as_str()), (5, "EX"));
        assert!((60..=70).contains(&args[4].parse::<u32>().expect("a number")));

        let (args, _) = made("X __key__ __again__ __key__ __key/10__", "1", None);
        assert_eq!(
            args[1..],
            [
                "000000000007",
                "000000000007",
                "000000000017",
                "000000000002"
            ]
        );
        let (args, _) = made("X __seq__ __seq__ a__rand:10__b __rand_int__", "1", None);
        assert_eq!(args[1..3], ["000000000003", "000000000007"]);
        assert_eq!(args[3].len(), 3);
        assert!(args[4].parse::<u32>().expect("a number") < 1000);
        let (args, _) = made("X __data:10..20__ p__data:2..3__q", "1", None);
        assert!((10..=20).contains(&args[1].len()));
        assert!((4..=5).contains(&args[2].len()));
    }

    #[test]
    fn a_key_of_any_width_is_found() {
        let (args, key) = made("GET k__rand:100000__", "1", Some(1));
        assert_eq!(key.as_ref(), Some(&args[1]));
        let (_, key) = made("GET fixed", "1", Some(1));
        assert_eq!(key.as_deref(), Some("fixed"));
        let (args, key) = made("SET __data:1..9__ __data__", "1..5", Some(1));
        assert_eq!(key.as_ref(), Some(&args[1]));
    }

    #[test]
    fn what_is_no_placeholder_stays() {
        let (args, _) = made("ECHO __other__ a_b __ __key_ é__key__", "1", None);
        assert_eq!(
            args[1..],
            ["__other__", "a_b", "__", "__key_", "é000000000007"]
        );
    }

    #[test]
    fn wrong_placeholders_are_named() {
        for wrong in ["__key/0__", "__rand:x__", "__data:5..1__"] {
            let error = Template::new(&[wrong.to_owned()], None, &meaning("1"));
            assert!(error.is_err_and(|e| e.contains(wrong)), "{wrong}");
        }
    }

    #[test]
    fn words_with_quotes() {
        let split = |line| words(line).expect("words");
        assert_eq!(
            split(r#"SET "a b" 'c "d"' e\ f "" "g\"h""#),
            ["SET", "a b", "c \"d\"", "e f", "", "g\"h"]
        );
        assert!(words("SET \"a").is_err());
        assert!(split("  ").is_empty());
    }

    #[test]
    fn values_differ_and_have_their_length() {
        let meaning = meaning("1..100");
        let template = Template::new(&["__data__".to_owned()], None, &meaning).expect("it");
        let mut maker = maker(&meaning);
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..100 {
            let mut out = Vec::new();
            template.make(&mut maker, &mut out);
            assert!(reply::parse(&out).expect("RESP").is_some());
            seen.insert(out);
        }
        assert!(seen.len() > 90);
    }
}
