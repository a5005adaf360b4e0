//! A connection as an I/O thread has it, and what that thread and the executor tell each other.
//!
//! Such a connection has one [`Parcel`]. It goes to the executor with what has been read, and comes back, with the replies,
//! when more may be read: so the commands of a connection stay in order, and no more than one buffer of each is on the way.

use super::stream::Stream;
use crate::commands::Table;
use crate::executor::{
    Close, ConnId, Flow, Intake, LargeArgument, LargeArguments, Parcel, QUERY_BYTES_MIN,
    QUERY_KEEP_BYTES, Replies, Trim, shrink_large, shrink_query, told_query_len,
};
use holdfast_resp::{Limits, Parse, RequestParser};
use smallvec::SmallVec;
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

/// What I/O threads tell the executor.
#[derive(Debug)]
pub enum FromIo {
    /// Something was read.
    Requests(ConnId, Box<Parcel>),
    /// The peer is gone, or the connection was closed as told.
    Closed(ConnId),
    /// The connection is to be looked at: more may be handed over to be written, which was waited for, or it takes more memory.
    Look(ConnId),
    /// The connection that was asked for.
    Released(Box<Wire>),
}

/// What the executor tells an I/O thread.
#[derive(Debug)]
pub enum ToIo {
    /// Take over a connection.
    Adopt(Box<Wire>),
    /// Write the replies.
    Replies {
        /// The connection.
        conn: ConnId,
        /// With the replies.
        parcel: Box<Parcel>,
        /// The parcel is the connection's own: read on.
        own: bool,
        /// What is read is not to be looked at, since what came before has not been executed.
        raw: bool,
        /// Whether and when it is to be closed.
        close: Close,
    },
    /// Give back what a connection's buffers have not needed lately.
    Trim(ConnId, Trim),
    /// Close a connection. Nothing more is said of it.
    Close(ConnId),
    /// Give a connection up.
    Release(ConnId),
    /// Write what there is.
    Write,
    /// Write what there is, and end.
    Stop,
}

/// A connection, as an I/O thread has it.
pub struct Wire {
    /// Which.
    pub conn: ConnId,
    pub(super) stream: Stream,
    pub(super) flow: Arc<Flow>,
    /// The beginning of a command.
    pub(super) query: Vec<u8>,
    /// The most bytes that were in there, or passed by it, since the last look at its size.
    query_peak: usize,
    /// The parcel has taken the query buffer along.
    lent_query: bool,
    /// Large arguments of it, which lie elsewhere.
    pub(super) large: Option<Box<LargeArguments>>,
    pub(super) parser: RequestParser,
    /// What that took when the executor was last told.
    pub(super) told_bytes: usize,
    /// Its own, while nothing of it waits for the executor.
    pub(super) parcel: Option<Box<Parcel>>,
    pub(super) raw: bool,
    /// What is to be written.
    pub(super) out: VecDeque<Replies>,
    pub(super) close: Close,
    /// There may be something to be read.
    pub(super) readable: bool,
    /// The peer has closed its side: read on until that is seen.
    pub(super) peer_closed: bool,
    /// It is in the list of those to be read.
    pub(super) listed: bool,
}

impl std::fmt::Debug for Wire {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Wire({:?})", self.conn)
    }
}

/// What is known of all connections when their bytes are looked at.
#[derive(Clone, Copy)]
pub struct Framing {
    /// All commands.
    pub table: &'static Table,
    /// What clients may send.
    pub limits: Limits,
    /// `client-query-buffer-limit`
    pub query_bytes_max: usize,
}

impl std::fmt::Debug for Framing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Framing({:?})", self.limits)
    }
}

impl Wire {
    /// A new one, of which nothing has been read, or only what the executor has.
    pub(super) fn new(conn: ConnId, stream: Stream, flow: Arc<Flow>, raw: bool) -> Wire {
        Wire {
            conn,
            stream,
            flow,
            query: Vec::new(),
            query_peak: 0,
            lent_query: false,
            large: None,
            parser: RequestParser::new(),
            told_bytes: 0,
            parcel: Some(Box::default()),
            raw,
            out: VecDeque::new(),
            close: Close::Open,
            readable: true,
            peer_closed: false,
            listed: false,
        }
    }

    /// The socket, what is still to be written, and what has been read and not sent.
    pub(super) fn into_parts(mut self) -> (Stream, Replies, Vec<u8>) {
        self.intake().put_together();
        let mut unwritten = Replies::default();
        self.out.into_iter().for_each(|some| unwritten.append(some));
        (self.stream, unwritten, self.query)
    }

    fn intake(&mut self) -> Intake<'_> {
        Intake {
            parser: &mut self.parser,
            query: &mut self.query,
            large: &mut self.large,
        }
    }

    /// Looks at what was read. Returns whether the parcel has something for the executor.
    ///
    /// `fresh` are bytes behind those that are there; they are empty if what was read has been put there.
    pub(super) fn frame(&mut self, fresh: &[u8], framing: &Framing) -> bool {
        let Some(mut parcel) = self.parcel.take() else {
            return false;
        };
        parcel.clear();
        self.frame_into(&mut parcel, fresh, framing);
        self.note_query();
        let any = !parcel.bytes.is_empty();
        self.parcel = Some(parcel);
        any
    }

    fn frame_into(&mut self, parcel: &mut Parcel, fresh: &[u8], framing: &Framing) {
        if self.raw {
            self.intake().put_together();
            parcel.bytes.append(&mut self.query);
            parcel.bytes.extend_from_slice(fresh);
            return;
        }
        let in_query = !self.query.is_empty();
        if in_query {
            self.intake().keep(fresh);
        }
        let data: &[u8] = if in_query { &self.query } else { fresh };
        let mut at = 0;
        // Only what fits the spans is looked at; the executor can do it, too.
        let mut whole = data.len() > u32::MAX as usize;
        let mut argv: SmallVec<[&[u8]; 16]> = SmallVec::new();
        while !whole && at < data.len() {
            let rest = &data[at..];
            match self.parser.parse(rest, &framing.limits) {
                Ok(Parse::Command { consumed }) if !self.parser.is_inline() => {
                    argv.clear();
                    argv.extend((0..self.parser.argc()).map(|i| self.parser.span(rest, i)));
                    at += consumed;
                    parcel.push(data, &argv, framing.table.find(&argv), at);
                }
                Ok(Parse::Incomplete { .. }) => break,
                // Whatever it is, the executor's parser will say.
                _ => whole = true,
            }
        }
        // They are the first command's, and not all of them have come while that has not.
        let large = self.large.as_mut().filter(|_| in_query);
        let apart = large.as_ref().map_or(0, |large| large.wire_bytes());
        whole |= data.len() - at + if at == 0 { apart } else { 0 } > framing.query_bytes_max;
        if let Some(large) = large.filter(|_| at > 0) {
            parcel.large = large.take_whole();
            let last = parcel.large.last().map_or(0, LargeArgument::wire_bytes);
            large.make_spare(last, None);
        }
        self.query_peak = self.query_peak.max(data.len());
        drop(argv);
        let mut end = at;
        if whole {
            self.intake().put_together();
            end = self.query.len().max(fresh.len() * usize::from(!in_query));
        }
        if !in_query {
            parcel.bytes.extend_from_slice(&fresh[..end]);
            self.intake().keep(&fresh[end..]);
        } else if end > 0 && end < QUERY_BYTES_MIN {
            // The buffer stays, for the next one that does not come in one piece.
            parcel.bytes.extend_from_slice(&self.query[..end]);
            self.query.drain(..end);
        } else if end > 0 {
            let mut rest = Vec::new();
            if end < self.query.len() {
                rest.reserve_exact((self.query.len() - end).max(QUERY_BYTES_MIN));
                rest.extend_from_slice(&self.query[end..]);
                self.query.truncate(end);
            }
            std::mem::swap(&mut parcel.bytes, &mut self.query);
            self.query = rest;
            self.lent_query = true;
        }
    }

    fn note_query(&self) {
        let len = told_query_len(&self.query, self.large.as_deref(), &self.parser);
        self.flow.note_query(len, self.gathered_capacity());
    }

    /// Takes the parcel back.
    pub(super) fn take_back(&mut self, mut parcel: Box<Parcel>) {
        if std::mem::take(&mut self.lent_query)
            && self.query.is_empty()
            && parcel.bytes.capacity() <= QUERY_KEEP_BYTES
        {
            parcel.bytes.clear();
            std::mem::swap(&mut parcel.bytes, &mut self.query);
            self.note_query();
        }
        parcel.clear();
        self.parcel = Some(parcel);
        self.note_reply_room();
    }

    /// Keeps a buffer that has been written for the next replies, if it has more room than the one that is there.
    pub(super) fn keep_replies(&mut self, mut replies: Replies, keep_bytes: usize) {
        if let Some(parcel) = &mut self.parcel
            && parcel.replies.buf.capacity() < replies.buf.capacity()
            && replies.buf.capacity() <= keep_bytes
        {
            replies.clear(keep_bytes);
            parcel.replies = replies;
            self.note_reply_room();
        }
    }

    fn note_reply_room(&self) {
        if let Some(parcel) = &self.parcel {
            self.flow.note_reply_room(parcel.replies.buf.capacity());
        }
    }

    /// Gives back what the buffers have not needed lately.
    pub(super) fn trim(&mut self, trim: Trim) {
        let awaited = self.parser.awaited_bulk();
        let idle_ms = u64::from(trim.idle_ms);
        shrink_query(&mut self.query, &mut self.query_peak, awaited, idle_ms);
        shrink_large(&mut self.large, idle_ms);
        self.note_query();
        // While it is with the executor, it is used.
        let (Some(room), Some(parcel)) = (trim.reply_room, &mut self.parcel) else {
            return;
        };
        if room == 0 {
            **parcel = Parcel::default();
            self.parser.give_back();
        } else {
            parcel.replies.buf = Vec::with_capacity(room as usize);
        }
        self.note_reply_room();
    }

    /// The memory that the beginning of a command takes.
    fn gathered_capacity(&self) -> usize {
        let large = self.large.as_ref().map_or(0, |l| l.capacity());
        self.query.capacity() + large
    }

    /// Whether the executor is to be told that the beginning of a command takes more memory.
    pub(super) fn has_grown(&mut self) -> bool {
        const LARGE: usize = 32 * 1024;
        let now = self.gathered_capacity();
        let grown = now >= LARGE && now > self.told_bytes;
        self.told_bytes = now;
        grown
    }

    /// Reads what is there: a large argument to where it is gathered, anything else to `buffer`. Returns how many bytes came, and how many of them are in the
    /// buffer; and how much there was room for.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> (io::Result<(usize, usize)>, usize) {
        let intake = Intake {
            parser: &mut self.parser,
            query: &mut self.query,
            large: &mut self.large,
        };
        let room = if self.raw { None } else { intake.room() };
        match room {
            Some(room) => {
                let (read, room) = self.stream.read_behind(room);
                self.intake().end_if_whole();
                (read.map(|n| (n, 0)), room)
            }
            None => {
                let read = self.stream.read(buffer);
                (read.map(|n| (n, n)), buffer.len())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn framing() -> Framing {
        Framing {
            table: Table::shared(),
            limits: Limits::default(),
            query_bytes_max: 1 << 20,
        }
    }

    fn wire() -> Wire {
        let (socket, _) = mio::net::UnixStream::pair().expect("a pair of sockets");
        let index = ConnId {
            index: 0,
            serial: 0,
        };
        Wire::new(index, Stream::Unix(socket), Arc::default(), false)
    }

    fn command(argv: &[Vec<u8>]) -> Vec<u8> {
        let mut out = format!("*{}\r\n", argv.len()).into_bytes();
        for arg in argv {
            out.extend(format!("${}\r\n", arg.len()).bytes());
            out.extend(arg);
            out.extend(b"\r\n");
        }
        out
    }

    proptest! {
        /// However the bytes are cut, the same commands come out, with nothing lost and nothing twice.
        #[test]
        fn all_commands_are_found(
            commands in prop::collection::vec(
                prop::collection::vec(prop::collection::vec(any::<u8>(), 0..90), 1..5), 1..30),
            cuts in prop::collection::vec(1usize..200, 1..40),
            direct in any::<bool>(),
        ) {
            let all: Vec<u8> = commands.iter().flat_map(|c| command(c)).collect();
            let (mut w, framing) = (wire(), framing());
            let (mut rest, mut found, mut bytes, mut turn) = (&all[..], Vec::<Vec<Vec<u8>>>::new(), Vec::<u8>::new(), 0);
            while !rest.is_empty() {
                let (now, later) = rest.split_at(cuts[turn % cuts.len()].min(rest.len()));
                (rest, turn) = (later, turn + 1);
                let sent = if direct && !w.query.is_empty() {
                    w.query.extend_from_slice(now);
                    w.frame(&[], &framing)
                } else {
                    w.frame(now, &framing)
                };
                let parcel = w.parcel.as_mut().expect("it is here");
                if sent {
                    for i in 0..parcel.commands.len() {
                        found.push(parcel.argv(i).map(<[u8]>::to_vec).collect::<Vec<_>>());
                    }
                    bytes.extend(&parcel.bytes);
                }
            }
            prop_assert!(w.query.is_empty());
            prop_assert_eq!(found, commands);
            prop_assert_eq!(bytes, all);
        }

        /// Whatever else comes reaches the executor whole and in order.
        #[test]
        fn no_byte_is_lost(
            pieces in prop::collection::vec(prop_oneof![
                prop::collection::vec(any::<u8>(), 1..60),
                Just(b"*1\r\n$4\r\nPING\r\n".to_vec()),
                Just(b"PING\r\n".to_vec()),
                Just(b"*2\r\n$3\r\nGET\r\n$1".to_vec()),
                Just(b"*0\r\n".to_vec()),
            ], 1..30),
            raw in prop::collection::vec(any::<bool>(), 30),
        ) {
            let (mut w, framing) = (wire(), framing());
            let mut bytes = Vec::<u8>::new();
            for (piece, raw) in pieces.iter().zip(raw) {
                w.raw = raw;
                if w.frame(piece, &framing) {
                    let parcel = w.parcel.as_ref().expect("it is here");
                    for (i, command) in parcel.commands.iter().enumerate() {
                        prop_assert!(command.end as usize <= parcel.bytes.len());
                        prop_assert!(parcel.argv(i).count() > 0);
                    }
                    bytes.extend(&parcel.bytes);
                }
            }
            bytes.extend(&w.query);
            prop_assert_eq!(bytes, pieces.concat());
        }
    }

    fn idle(ms: u32, reply_room: Option<u32>) -> Trim {
        Trim {
            idle_ms: ms,
            reply_room,
        }
    }

    #[test]
    fn a_query_buffer_stays_until_it_is_not_needed() {
        let (mut w, framing) = (wire(), framing());
        assert!(w.frame(b"*1\r\n$4\r\nPING\r\n", &framing));
        assert_eq!(w.flow.query(), (0, 0));
        assert!(!w.frame(b"*1\r\n$4\r\nPI", &framing));
        assert_eq!(w.flow.query(), (10, QUERY_BYTES_MIN));
        assert!(w.frame(b"NG\r\n", &framing));
        assert_eq!(w.flow.query(), (0, QUERY_BYTES_MIN));
        w.trim(idle(1000, None));
        assert_eq!(w.flow.query(), (0, QUERY_BYTES_MIN));
        w.trim(idle(3000, None));
        assert_eq!(w.flow.query(), (0, 0));
    }

    #[test]
    fn what_is_in_front_of_a_large_argument_is_not_told_of() {
        let (mut w, framing) = (wire(), framing());
        assert!(!w.frame(b"*2\r\n$4\r\nECHO\r\n$100000\r\nabc", &framing));
        assert_eq!(w.flow.query().0, 3);
        assert!(!w.frame(b"def", &framing));
        assert_eq!(w.flow.query().0, 6);
    }

    #[test]
    fn a_large_query_buffer_comes_back_with_the_parcel() {
        let (mut w, framing) = (wire(), framing());
        let all = command(&vec![vec![b'x'; 10_000]; 10]);
        let (first, second) = all.split_at(60_000);
        assert!(!w.frame(first, &framing));
        assert!(w.frame(second, &framing));
        let parcel = w.parcel.take().expect("it has a command");
        let was = (parcel.bytes.as_ptr(), parcel.bytes.capacity());
        assert!(was.1 >= all.len());
        w.take_back(parcel);
        assert_eq!((w.query.as_ptr(), w.flow.query().1), was);
        // What is used is small now.
        assert!(w.frame(b"*1\r\n$4\r\nPING\r\n", &framing));
        w.trim(idle(10, None));
        assert!(w.frame(b"*1\r\n$4\r\nPING\r\n", &framing));
        w.trim(idle(10, None));
        assert!(w.flow.query().1 < 1000);
    }

    #[test]
    fn there_is_room_for_another_large_argument() {
        let (mut w, framing) = (wire(), framing());
        let all = command(&[b"ECHO".to_vec(), vec![b'x'; 100_000]]);
        let (first, second) = all.split_at(60_000);
        for _ in 0..2 {
            assert!(!w.frame(first, &framing));
            assert!(w.frame(second, &framing));
            assert_eq!(w.flow.query(), (0, QUERY_BYTES_MIN + 100_002));
        }
        w.trim(idle(10, None));
        assert_eq!(w.flow.query(), (0, QUERY_BYTES_MIN + 100_002));
        w.trim(idle(10, None));
        assert_eq!(w.flow.query(), (0, QUERY_BYTES_MIN));
    }

    #[test]
    fn a_silent_client_keeps_nothing() {
        let (mut w, framing) = (wire(), framing());
        assert!(w.frame(b"*1\r\n$4\r\nPING\r\n", &framing));
        w.keep_replies(
            Replies::new(Vec::with_capacity(40_000), Default::default()),
            65_536,
        );
        assert_eq!(w.flow.reply_room(), 40_000);
        w.trim(idle(10, Some(2000)));
        assert_eq!(w.flow.reply_room(), 2000);
        w.trim(idle(5000, Some(0)));
        let parcel = w.parcel.as_ref().expect("it is here");
        let left = parcel.bytes.capacity() + parcel.commands.capacity();
        assert_eq!((w.flow.reply_room(), left), (0, 0));
    }
    /// Gives a wire bytes as they come from a socket, to where it wants them. Returns whether the parcel has something.
    fn come(w: &mut Wire, bytes: &mut &[u8], most: usize, framing: &Framing) -> bool {
        let n = most.min(bytes.len());
        let Some(room) = w.intake().room() else {
            let (now, later) = bytes.split_at(n);
            *bytes = later;
            return w.frame(now, framing);
        };
        let (now, later) = bytes.split_at(n.min(room.capacity() - room.len()));
        room.extend_from_slice(now);
        *bytes = later;
        w.intake().end_if_whole();
        w.frame(&[], framing)
    }

    fn large_commands() -> impl Strategy<Value = Vec<Vec<Vec<u8>>>> {
        let len = prop_oneof![0..90usize, 32_000..33_000usize, 70_000..200_000usize];
        let argument = (len, any::<u8>()).prop_map(|(len, byte)| vec![byte; len]);
        prop::collection::vec(prop::collection::vec(argument, 1..5), 1..6)
    }

    fn some_cuts() -> impl Strategy<Value = Vec<usize>> {
        prop::collection::vec(prop_oneof![1000..2000usize, 30_000..70_000usize], 1..20)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// Large arguments are gathered apart and are parts of their commands all the same.
        #[test]
        fn large_arguments_are_found(commands in large_commands(), cuts in some_cuts()) {
            let all: Vec<u8> = commands.iter().flat_map(|c| command(c)).collect();
            let (mut w, framing) = (wire(), framing());
            let (mut rest, mut found, mut bytes) = (&all[..], Vec::<Vec<Vec<u8>>>::new(), Vec::<u8>::new());
            let (mut turns, mut apart) = (cuts.iter().cycle(), 0);
            while !rest.is_empty() {
                let sent = come(&mut w, &mut rest, *turns.next().expect("endless"), &framing);
                let parcel = w.parcel.as_mut().expect("it is here");
                if sent {
                    for i in 0..parcel.commands.len() {
                        found.push(parcel.argv(i).map(<[u8]>::to_vec).collect::<Vec<_>>());
                    }
                    bytes.extend(&parcel.all_bytes()[..]);
                    apart += parcel.large.len();
                }
            }
            let longest = cuts.iter().max().copied().unwrap_or_default();
            let larger = commands.iter().flatten().filter(|a| a.len() > longest.max(32 * 1024)).count();
            prop_assert!(apart >= larger, "{} of {}", apart, larger);
            prop_assert!(w.query.is_empty());
            prop_assert_eq!(w.flow.query().0, 0);
            prop_assert!(w.large.as_ref().is_none_or(|large| large.wire_bytes() == 0));
            prop_assert!(found == commands && bytes == all);
        }

        /// Nothing of them is lost when nobody looks at what has come, or it is too much, or the connection is given up.
        #[test]
        fn no_byte_of_large_arguments_is_lost(
            commands in large_commands(),
            cuts in some_cuts(),
            raw in prop::collection::vec(0..8u8, 30),
            limit in prop_oneof![Just(1usize << 20), Just(50_000)],
            left in 0..300_000usize,
            wrong in any::<bool>(),
        ) {
            let mut all: Vec<u8> = commands.iter().flat_map(|c| command(c)).collect();
            if wrong {
                let at = all.len() - 1;
                all[at] = b'x';
            }
            let (mut w, mut framing) = (wire(), framing());
            framing.query_bytes_max = limit;
            let (mut rest, mut bytes) = (&all[..], Vec::<u8>::new());
            for (cut, raw) in cuts.iter().cycle().zip(raw.iter().cycle()) {
                if rest.len() < left || rest.is_empty() {
                    break;
                }
                // A wire that is raw reads to the buffer.
                w.raw = *raw == 0;
                let sent = match w.raw {
                    true => {
                        let (now, later) = rest.split_at((*cut).min(rest.len()));
                        rest = later;
                        w.frame(now, &framing)
                    }
                    false => come(&mut w, &mut rest, *cut, &framing),
                };
                if sent {
                    bytes.extend(&w.parcel.as_ref().expect("it is here").all_bytes()[..]);
                }
            }
            bytes.extend(w.into_parts().2);
            bytes.extend(rest);
            prop_assert!(bytes == all);
        }
    }
}
