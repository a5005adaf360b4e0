//! Large arguments on their way are gathered in memory of their own, of just their length, and not among the other bytes of their command. So what is
//! read goes where it stays: the memory of an argument that becomes a string's value is offered to the engine ([`Engine::offer`](holdfast_engine::Engine::offer)), which then keeps it.
//!
//! ```text
//!  query buffer   *3 SET k $1048576 │ what comes behind …          the parser is told to skip what is not there
//!  apart                            └ the argument, CR LF          CR LF goes when it is whole
//! ```

use super::{ConnId, Connection, Executor, QUERY_BYTES_MIN};
use holdfast_engine::Engine;
use holdfast_resp::RequestParser;
use std::sync::Arc;

/// An argument from this length on is gathered apart,
pub(super) const LARGE_ARGUMENT: usize = Engine::OFFER_BYTES_MIN;
/// and read to there without detours while so much is to come. Room is made for more than what has come of it, but no more than this; and then as
/// much again as has come.
const AHEAD_BYTES_MAX: usize = 1024 * 1024;
/// Room as large as the last argument's is made at once for the next one, but not more.
const SPARE_BYTES_MAX: usize = 1024 * 1024;
/// Behind an argument.
const LINE_END: &[u8] = b"\r\n";

/// Whether so much room is enough for so many bytes, and not much more than that.
fn fits(room: usize, bytes: usize) -> bool {
    (bytes..=bytes + bytes / 16).contains(&room)
}

/// A large argument that has come.
#[derive(Debug)]
pub struct LargeArgument {
    /// Which argument of its command it is.
    pub place: usize,
    /// Where in the bytes of its command it would begin if those before it were not apart, either.
    at: usize,
    /// It.
    pub bytes: Arc<Vec<u8>>,
}

impl LargeArgument {
    /// Bytes in which it came.
    pub fn wire_bytes(&self) -> usize {
        self.bytes.len() + LINE_END.len()
    }
}

/// The bytes of a command with its large arguments where they belong.
pub fn put_together(rest: &[u8], large: &[LargeArgument]) -> Vec<u8> {
    let bytes: usize = large.iter().map(LargeArgument::wire_bytes).sum();
    let mut whole = Vec::with_capacity(rest.len() + bytes);
    let mut from = 0;
    for argument in large {
        whole.extend_from_slice(&rest[from..argument.at]);
        whole.extend_from_slice(&argument.bytes);
        whole.extend_from_slice(LINE_END);
        from = argument.at;
    }
    whole.extend_from_slice(&rest[from..]);
    whole
}

/// One that is on its way.
#[derive(Debug)]
struct Coming {
    /// What has come, of it and of the end of line.
    bytes: Vec<u8>,
    len: usize,
}

impl Coming {
    fn missing(&self) -> usize {
        (self.len + LINE_END.len()).saturating_sub(self.bytes.len())
    }

    /// Makes room for what comes next, at least for `least` bytes.
    fn make_room(&mut self, least: usize) {
        let (have, room) = (self.bytes.len(), self.bytes.capacity());
        let rest = self.missing();
        // Not again for each piece.
        if room - have < rest.min(LARGE_ARGUMENT).max(least) {
            let wanted = rest.min(have.max(AHEAD_BYTES_MAX)).max(least);
            self.bytes.reserve_exact(wanted);
        }
    }
}

/// The large arguments of a command that has not come whole.
#[derive(Debug, Default)]
pub struct LargeArguments {
    whole: Vec<LargeArgument>,
    coming: Option<Coming>,
    /// For the next one. Empty.
    spare: Vec<u8>,
    /// One has come since the last look at this.
    used: bool,
}

impl LargeArguments {
    /// Bytes in which they have come so far.
    pub fn wire_bytes(&self) -> usize {
        let whole: usize = self.whole.iter().map(LargeArgument::wire_bytes).sum();
        whole + self.coming_len().unwrap_or(0)
    }

    /// The same of the one that is on its way.
    pub(super) fn coming_len(&self) -> Option<usize> {
        self.coming.as_ref().map(|c| c.bytes.len())
    }

    /// Memory that they take.
    pub fn capacity(&self) -> usize {
        let whole: usize = self.whole.iter().map(|a| a.bytes.capacity()).sum();
        let coming = self.coming.as_ref().map_or(0, |c| c.bytes.capacity());
        whole + coming + self.spare.capacity()
    }

    /// Those that have come.
    pub fn take_whole(&mut self) -> Vec<LargeArgument> {
        std::mem::take(&mut self.whole)
    }

    /// Takes back what [`LargeArguments::take_whole`] has given.
    pub(super) fn put_back(&mut self, whole: Vec<LargeArgument>) {
        self.whole = whole;
    }

    /// Makes room for another one that comes in so many bytes, as the last one did: who has sent one is likely to send more. `old` is the memory of
    /// that one if it is free.
    pub fn make_spare(&mut self, wanted: usize, old: Option<Vec<u8>>) {
        self.used = true;
        if wanted > SPARE_BYTES_MAX || fits(self.spare.capacity(), wanted) {
            return;
        }
        self.spare = match old {
            Some(mut bytes) if fits(bytes.capacity(), wanted) => {
                bytes.clear();
                bytes
            }
            _ => Vec::with_capacity(wanted),
        };
    }

    /// Gives back what has not been needed lately: a client has been silent for long or not.
    pub(super) fn shrink(&mut self, is_silent: bool) {
        if let Some(coming) = self.coming.as_mut().filter(|_| is_silent) {
            coming.bytes.shrink_to_fit();
        }
        if !std::mem::take(&mut self.used) {
            self.spare = Vec::new();
        }
    }
}

/// Length of a query buffer as Valkey would tell it, which keeps nothing in front of a large argument that is on its way.
pub fn told_query_len(
    query: &[u8],
    large: Option<&LargeArguments>,
    parser: &RequestParser,
) -> usize {
    let coming = large.and_then(LargeArguments::coming_len);
    coming.unwrap_or_else(|| match parser.awaited_bulk() {
        Some((at, len)) if len >= LARGE_ARGUMENT => query.len().saturating_sub(at),
        _ => query.len(),
    })
}

/// What has come of a connection and is not executed: the parser, what it has seen, and what lies apart.
#[derive(Debug)]
pub struct Intake<'a> {
    /// It has looked at all of `query` unless that is empty.
    pub parser: &'a mut RequestParser,
    /// The beginning of a command, and what came behind.
    pub query: &'a mut Vec<u8>,
    /// Those of that command.
    pub large: &'a mut Option<Box<LargeArguments>>,
}

impl<'a> Intake<'a> {
    /// Where to read what comes next to, behind what is there, if it is much of a large argument. To be followed by [`Intake::end_if_whole`].
    pub fn room(mut self) -> Option<&'a mut Vec<u8>> {
        if self.query.is_empty() {
            return None;
        }
        self.begin();
        let coming = self.large.as_mut()?.coming.as_mut()?;
        if coming.missing() < LARGE_ARGUMENT {
            return None;
        }
        coming.make_room(1);
        Some(&mut coming.bytes)
    }

    /// A large argument that the parser awaits: where it begins, and its length.
    fn awaits_large(&self) -> Option<(usize, usize)> {
        let awaited = self.parser.awaited_bulk();
        awaited.filter(|(_, len)| *len >= LARGE_ARGUMENT)
    }

    /// Keeps bytes that have come behind the others, if there are any; else they are what the parser has seen last.
    pub fn keep(&mut self, mut data: &[u8]) {
        if self.query.is_empty()
            && let Some((at, _)) = self.awaits_large()
            && at < data.len()
        {
            self.keep_in_query(&data[..at]);
            data = &data[at..];
        }
        if !data.is_empty() && !self.query.is_empty() {
            self.begin();
        }
        if let Some(coming) = self.large.as_mut().and_then(|l| l.coming.as_mut()) {
            let (part, rest) = data.split_at(coming.missing().min(data.len()));
            coming.make_room(part.len());
            coming.bytes.extend_from_slice(part);
            self.end_if_whole();
            data = rest;
        }
        self.keep_in_query(data);
    }

    fn keep_in_query(&mut self, data: &[u8]) {
        if self.query.capacity() == 0 && !data.is_empty() {
            self.query.reserve_exact(data.len().max(QUERY_BYTES_MIN));
        }
        self.query.extend_from_slice(data);
    }

    /// Begins to gather the argument that the parser awaits, if it is a large one, with what there is of it in the query buffer.
    fn begin(&mut self) {
        let Some((at, len)) = self.awaits_large() else {
            return;
        };
        let Some(come) = self.query.get(at..).filter(|come| come.len() < len) else {
            return;
        };
        let large = self.large.get_or_insert_default();
        if large.coming.is_some() {
            return;
        }
        let mut bytes = std::mem::take(&mut large.spare);
        if !fits(bytes.capacity(), len + LINE_END.len()) {
            bytes = Vec::new();
        }
        let mut coming = Coming { bytes, len };
        coming.make_room(come.len());
        coming.bytes.extend_from_slice(come);
        large.coming = Some(coming);
        self.query.truncate(at);
    }

    /// Puts the argument that is on its way to the others if it has come. Whether it has.
    pub fn end_if_whole(&mut self) -> bool {
        let Some(large) = self.large.as_mut() else {
            return false;
        };
        let Some(coming) = large.coming.take_if(|c| c.missing() == 0) else {
            return false;
        };
        let Coming { mut bytes, len } = coming;
        let (at, end) = (self.query.len(), len + LINE_END.len());
        if bytes[len..end] == *LINE_END
            && let Some(place) = self.parser.skip_bulk()
        {
            self.query.extend_from_slice(&bytes[end..]);
            bytes.truncate(len);
            if !fits(bytes.capacity(), len) {
                bytes.shrink_to_fit();
            }
            let bytes = Arc::new(bytes);
            large.whole.push(LargeArgument { place, at, bytes });
        } else {
            // The parser will say what is wrong.
            self.query.append(&mut bytes);
        }
        true
    }

    /// Puts all bytes that have come into the query buffer, for a parser that begins afresh.
    pub fn put_together(&mut self) {
        self.parser.restart();
        let Some(large) = self.large.take() else {
            return;
        };
        if !large.whole.is_empty() {
            *self.query = put_together(self.query, &large.whole);
        }
        if let Some(coming) = large.coming {
            self.query.extend_from_slice(&coming.bytes);
        }
    }
}

impl Connection {
    /// What has come of it.
    pub(super) fn intake(&mut self) -> Intake<'_> {
        Intake {
            parser: &mut self.parser,
            query: &mut self.query,
            large: &mut self.large,
        }
    }

    /// Bytes that have come and wait to be executed.
    pub fn unexecuted_bytes(&self) -> usize {
        self.query.len() + self.large.as_ref().map_or(0, |l| l.wire_bytes())
    }
}

impl Executor {
    /// Where to read the next bytes of a connection to, behind what is there, if much of an argument is still to come. Report them by
    /// [`Executor::on_argument`] then.
    pub fn argument_room(&mut self, id: ConnId) -> Option<&mut Vec<u8>> {
        let c = self.conns.get_mut(id).filter(|c| c.is_ready())?;
        c.intake().room()
    }

    /// So many bytes have come of a large argument.
    pub fn on_argument(&mut self, id: ConnId, n: usize) {
        let mono_ms = self.now.mono_ms();
        let Some(c) = self.conns.get_mut(id) else {
            return;
        };
        c.last_seen_ms = mono_ms;
        c.bytes_in += n as u64;
        self.stats.bytes_in += n as u64;
        self.stats.reads += 1;
        if c.intake().end_if_whole() {
            self.resume(id);
        }
        self.mark_dirty(id);
        self.check_query_limit(id);
    }

    /// Offers the engine the large arguments of the command that comes.
    pub(super) fn offer(&mut self, large: &[LargeArgument]) {
        self.engine.offer(large.iter().map(|a| a.bytes.clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::Test;
    use super::*;
    use crate::executor::{Close, Ending, Parcel};
    use proptest::prelude::*;

    /// Sends bytes in pieces, as a driver does. Returns the replies, and how many pieces went to where an argument is gathered.
    fn send(t: &mut Test, id: ConnId, mut bytes: &[u8], cuts: &[usize]) -> (String, usize) {
        let (mut replies, mut direct) = (String::new(), 0);
        for cut in cuts.iter().cycle() {
            if bytes.is_empty() {
                break;
            }
            let mut n = (*cut).min(bytes.len());
            t.ex.begin_turn(t.now);
            if let Some(room) = t.ex.argument_room(id) {
                n = n.min(room.capacity() - room.len());
                let before = room.capacity();
                room.extend_from_slice(&bytes[..n]);
                assert!(n > 0 && room.capacity() == before);
                t.ex.on_argument(id, n);
                direct += 1;
            } else {
                t.ex.on_bytes(id, &bytes[..n]);
            }
            t.ex.end_turn();
            bytes = &bytes[n..];
            replies += &t.read(id);
        }
        (replies, direct)
    }

    fn command(argv: &[&str]) -> String {
        let args = argv.iter().map(|a| format!("${}\r\n{a}\r\n", a.len()));
        format!("*{}\r\n{}", argv.len(), args.collect::<String>())
    }

    fn set(len: usize) -> String {
        command(&["SET", "k", &"v".repeat(len)])
    }

    fn a_length() -> impl Strategy<Value = usize> {
        prop_oneof![0..100usize, 30_000..40_000usize, Just(2_500_000)]
    }

    /// Where the string is that a reply shares.
    fn shared_at(t: &Test, id: ConnId, len: usize) -> Option<*const u8> {
        let mut parts = t.ex.conns[id].out.ready();
        parts.find(|p| p.len() == len).map(<[u8]>::as_ptr)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn commands_are_the_same_however_they_are_read(
            lens in prop::collection::vec((a_length(), a_length()), 1..6),
            cuts in prop::collection::vec(prop_oneof![1..200usize, Just(65_536), Just(300_000)], 1..9),
            small in any::<bool>(),
        ) {
            let cuts: Vec<usize> = cuts.iter().map(|n| n.max(&2000)).copied().collect();
            let (mut bytes, mut expected) = (String::new(), String::new());
            for (i, (one, other)) in lens.iter().enumerate() {
                let [one, other] = [one, other].map(|len| if small { len % 50_000 } else { *len });
                let [a, b] = ["a", "b"].map(|text| text.repeat(if text == "a" { one } else { other }));
                match i % 4 {
                    0 => bytes += &command(&["MSET", "k", &a, "l", &b]),
                    1 => bytes += &(command(&["SET", "k", &a]) + &command(&["SET", "l", &b])),
                    2 => bytes += &(command(&["MULTI"]) + &command(&["SET", "k", &a]) + &command(&["SETEX", "l", "9", &b]) + "EXEC\r\n"),
                    // A key of this length, too.
                    _ => bytes += &command(&["MSETEX", "3", "k", &a, &b, &a, "l", &b]),
                }
                expected += ["+OK\n", "+OK\n+OK\n", "+OK\n+QUEUED\n+QUEUED\n*2\n+OK\n+OK\n", ":1\n"][i % 4];
                bytes += "STRLEN k\r\nGETRANGE l -3 -1\r\nDBSIZE\r\nPING\r\n";
                let tail = &b[other - other.min(3)..];
                let keys = 2 + usize::from(i % 4 == 3);
                expected += &format!(":{one}\n${}\n{tail}\n:{keys}\n+PONG\n", tail.len());
                if i % 4 == 3 {
                    bytes += &command(&["UNLINK", &b]);
                    expected += ":1\n";
                }
            }
            let mut t = Test::new(false);
            let id = t.connect();
            let (replies, _) = send(&mut t, id, bytes.as_bytes(), &cuts);
            prop_assert_eq!(replies, expected);
            prop_assert_eq!(t.ex.conns[id].unexecuted_bytes(), 0);
        }
    }

    #[test]
    fn large_arguments_are_read_to_where_they_are_gathered() {
        let mut t = Test::new(false);
        let id = t.connect();
        let (replies, direct) = send(&mut t, id, set(1 << 20).as_bytes(), &[65_536]);
        assert_eq!((replies.as_str(), direct), ("+OK\n", 15));
        // No room is kept for another one of this size.
        assert_eq!(t.ex.conns[id].large.as_ref().map_or(0, |l| l.capacity()), 0);
    }

    /// The memory to which an argument was read is the value, and has no room that it does not need.
    #[test]
    fn the_value_is_what_was_gathered() {
        for len in [40_000, 400_000, 1 << 20, 5_000_000] {
            let mut t = Test::new(false);
            let id = t.connect();
            let bytes = set(len) + "GET k\r\n";
            let (begin, end) = bytes.as_bytes().split_at(33_000);
            t.ex.begin_turn(t.now);
            t.ex.on_bytes(id, begin);
            let mut rest = end;
            let mut at = None;
            while let Some(room) = t.ex.argument_room(id) {
                let n = rest.len().min(room.capacity() - room.len());
                room.extend_from_slice(&rest[..n]);
                at = Some(room.as_ptr());
                t.ex.on_argument(id, n);
                rest = &rest[n..];
            }
            // What is nearly all there is not read to there directly.
            assert_eq!(at.is_none(), len == 40_000);
            t.ex.on_bytes(id, rest);
            t.ex.end_turn();
            let value = shared_at(&t, id, len);
            assert!(value.is_some() && (at.is_none() || value == at), "{len}");
            t.read(id);
            t.send(id, "MEMORY USAGE k\n");
            let usage: usize = t.read(id).trim_matches([':', '\n']).parse().unwrap();
            assert!(usage > len && usage < len + 200, "{usage}");
            // It is the key's alone: in place it is changed without a copy.
            t.send(id, "SETRANGE k 0 x\nGET k\n");
            assert_eq!(shared_at(&t, id, len), value);
        }
    }

    /// Room for the next argument is made at once, and given back when none has come for a while.
    #[test]
    fn room_is_kept_for_a_while() {
        let mut t = Test::new(false);
        let id = t.connect();
        let room = |t: &Test| t.ex.conns[id].large.as_ref().map_or(0, |l| l.capacity());
        for _ in 0..3 {
            send(&mut t, id, set(400_000).as_bytes(), &[65_536]);
            assert_eq!(room(&t), 400_002);
        }
        // An argument of another length has its own.
        send(&mut t, id, set(300_000).as_bytes(), &[65_536]);
        assert_eq!(room(&t), 300_002);
        // So has one that nobody keeps.
        let other = command(&["ECHO", &"v".repeat(100_000)]);
        send(&mut t, id, other.as_bytes(), &[65_536]);
        assert_eq!(room(&t), 100_002);
        for _ in 0..40 {
            t.pass(100);
        }
        assert_eq!(room(&t), 0);
        assert!(t.ex.conns[id].large.is_none());
    }

    #[test]
    fn what_was_announced_takes_no_memory() {
        let mut t = Test::new(false);
        let id = t.connect();
        t.send(id, "*3\n$3\nSET\n$1\nk\n$500000000\n");
        assert!(t.ex.conns[id].query_capacity() <= 16 * 1024);
        t.send(id, "v");
        assert!(t.ex.conns[id].query_capacity() <= 17 * 1024 + AHEAD_BYTES_MAX);
        // A silent one keeps only what has come.
        for _ in 0..60 {
            t.pass(100);
        }
        assert!(t.ex.conns[id].query_capacity() <= 1024);
        assert_eq!(t.ex.conns[id].query_len(), 1);
    }

    #[test]
    fn a_wrong_end_of_line_is_an_error() {
        for end in ["x\n", "\rx", "\n\r"] {
            let mut t = Test::new(false);
            let id = t.connect();
            let bytes = set(100_000);
            let bytes = bytes[..bytes.len() - 2].to_owned() + end + "PING\r\n";
            let (replies, _) = send(&mut t, id, bytes.as_bytes(), &[65_536]);
            assert_eq!(replies, "-ERR Protocol error: invalid CRLF in request\n");
            assert_eq!(t.ex.conns[id].close, Close::AfterReplies);
            t.ex.on_bytes(id, set(100_000).as_bytes());
        }
    }

    #[test]
    fn arguments_count_for_the_limit_of_the_query() {
        let mut t = Test::new(false);
        let admin = t.connect();
        t.send(admin, "CONFIG SET client-query-buffer-limit 1048576\n");
        for (argv, closed) in [
            (vec![600_000], false),
            (vec![1_200_000], true),
            (vec![600_000, 600_000], true),
            (vec![600_000, 300_000], false),
        ] {
            let id = t.connect();
            let values: Vec<String> = argv.iter().map(|n| "v".repeat(*n)).collect();
            let mut all = vec!["MSET"];
            for value in &values {
                all.extend(["k", value.as_str()]);
            }
            send(&mut t, id, command(&all).as_bytes(), &[65_536]);
            let close = t.ex.conns[id].close;
            assert_eq!(close == Close::Now, closed, "{argv:?}");
        }
    }

    /// A client that waits sends on: its next command is gathered, and executed in its turn.
    #[test]
    fn a_command_is_gathered_while_another_waits() {
        let mut t = Test::new(false);
        let (id, other) = (t.connect(), t.connect());
        t.send(id, "BLPOP list 0\n");
        let bytes = set(300_000) + &set(200_000) + "STRLEN k\r\n";
        let (replies, direct) = send(&mut t, id, bytes.as_bytes(), &[50_000]);
        assert_eq!((replies.as_str(), direct), ("", 0));
        t.send(other, "LPUSH list x\n");
        t.pass(1);
        assert_eq!(t.read(id), "*2\n$4\nlist\n$1\nx\n+OK\n+OK\n:200000\n");
    }

    /// The engine is not offered what belongs to an earlier command.
    #[test]
    fn what_is_queued_is_copied() {
        let mut t = Test::new(false);
        let id = t.connect();
        let bytes = format!("MULTI\r\n{}EXEC\r\nGET k\r\n", set(100_000));
        let (replies, _) = send(&mut t, id, bytes.as_bytes(), &[65_536]);
        assert!(replies.starts_with("+OK\n+QUEUED\n*1\n+OK\n$100000\nv"));
    }

    /// Bytes that are read beyond an argument are the next command's, and their room is not the value's.
    #[test]
    fn nothing_beyond_an_argument_is_kept_with_it() {
        let mut t = Test::new(false);
        let id = t.connect();
        let bytes = set(100_000) + "STRLEN k\r\nMEMORY USAGE k\r\n";
        let (begin, end) = bytes.as_bytes().split_at(60_000);
        t.ex.begin_turn(t.now);
        t.ex.on_bytes(id, begin);
        let room = t.ex.argument_room(id).expect("much is to come");
        room.reserve_exact(200_000);
        room.extend_from_slice(end);
        t.ex.on_argument(id, end.len());
        t.ex.end_turn();
        let replies = t.read(id);
        let usage = replies.strip_prefix("+OK\n:100000\n:").map(str::trim);
        let usage: usize = usage.unwrap_or(&replies).parse().unwrap();
        assert!(usage < 100_200, "{usage}");
    }

    /// A parcel whose first command has a large argument.
    fn parcel(value: &Arc<Vec<u8>>) -> Parcel {
        let head = format!("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n${}\r\n", value.len());
        let mut parcel = Parcel::default();
        let (at, data) = (head.len(), head + "*2\r\n$6\r\nSTRLEN\r\n$1\r\nk\r\n");
        let table = crate::commands::Table::shared();
        for (spans, end) in [
            ([8..11, 17..18, at..at], at),
            ([at + 8..at + 14, at + 20..at + 21, 0..0], data.len()),
        ] {
            let argv: Vec<&[u8]> = spans.into_iter().map(|s| &data.as_bytes()[s]).collect();
            let argv = if end == at { &argv[..] } else { &argv[..2] };
            parcel.push(data.as_bytes(), argv, table.find(argv), end);
        }
        parcel.bytes = data.into_bytes();
        let bytes = value.clone();
        parcel.large = vec![LargeArgument {
            place: 2,
            at,
            bytes,
        }];
        parcel
    }

    #[test]
    fn parcels_bring_them_along() {
        let value = Arc::new(vec![b'v'; 50_000]);
        let mut t = Test::new(false);
        let (id, other) = (t.connect(), t.connect());
        t.ex.on_requests(id, &mut parcel(&value));
        assert_eq!(t.read(id), "+OK\n:50000\n");
        t.send(id, "GET k\n");
        assert_eq!(shared_at(&t, id, 50_000), Some(value.as_ptr()));
        t.read(id);
        // The client waits.
        t.send(other, "DEL k\nBLPOP list 0\n");
        t.read(other);
        t.ex.on_requests(other, &mut parcel(&value));
        assert_eq!(t.read(other), "");
        t.send(id, "LPUSH list x\n");
        t.pass(1);
        assert!(t.read(other).ends_with("x\n+OK\n:50000\n"));
        // Nothing is executed now.
        t.read(id);
        t.ex.ending = Ending::Stopping;
        t.ex.on_requests(id, &mut parcel(&value));
        t.ex.ending = Ending::Running;
        assert_eq!(t.read(id), "");
        t.ex.resume(id);
        assert_eq!(t.read(id), "+OK\n:50000\n");
    }
}
