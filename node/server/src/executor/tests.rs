//! The executor driven by hand: bytes in, bytes out, the journal's answers when the test says so.

use super::{AcceptInfo, ConnId, Executor, Host, Now};
use crate::config::Config;
use crate::journal::{Journal, JournalPos};
use crate::persist::{RdbOut, SaveRequest};
use crate::seam::{ControlOut, Office};
use holdfast_rdb::DumpCodec;
use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

struct TestHost;

impl Host for TestHost {
    fn sleep(&self, _: Duration) {}

    fn memory(&self) -> (u64, u64) {
        (0, 0)
    }

    fn cpu_seconds(&self) -> (f64, f64) {
        (0.0, 0.0)
    }

    fn seed(&self) -> u64 {
        7
    }
}

/// A host on whose processor so many microseconds pass from one look at its clock to the next. Its files go nowhere.
struct SlowHost {
    look_us: u64,
    passed_us: std::sync::atomic::AtomicU64,
}

impl Host for SlowHost {
    fn sleep(&self, _: Duration) {}

    fn memory(&self) -> (u64, u64) {
        (0, 0)
    }

    fn cpu_seconds(&self) -> (f64, f64) {
        (0.0, 0.0)
    }

    fn thread_cpu_us(&self) -> u64 {
        self.passed_us.fetch_add(self.look_us, Ordering::Relaxed)
    }

    fn create_rdb(&self, _: SaveRequest) -> std::io::Result<Box<dyn RdbOut>> {
        Ok(Box::new(Nowhere))
    }

    fn seed(&self) -> u64 {
        7
    }
}

/// Takes a file and makes nothing of it.
struct Nowhere;

impl RdbOut for Nowhere {
    fn offer(&mut self, _: holdfast_rdb::Draft) -> Result<(), holdfast_rdb::Draft> {
        Ok(())
    }

    fn give(&mut self, _: holdfast_rdb::Draft) {}

    fn finish(&mut self) {}

    fn outcome(&mut self) -> Option<Result<(), String>> {
        None
    }

    fn wait(&mut self) -> Result<(), String> {
        Ok(())
    }
}

/// A journal whose commits and lease the test decides.
#[derive(Default)]
struct ManualJournal {
    position: JournalPos,
    durable: JournalPos,
    lease: Arc<AtomicBool>,
    entries: Vec<Vec<u8>>,
    entry_bytes_max: Option<usize>,
    in_flight: usize,
}

impl Journal for ManualJournal {
    fn append(&mut self, effects: &[u8]) -> JournalPos {
        self.position.0 += effects.len() as u64;
        self.entries.push(effects.to_vec());
        self.position
    }

    fn position(&self) -> JournalPos {
        self.position
    }

    fn durable(&self) -> JournalPos {
        self.durable
    }

    fn in_flight(&self) -> usize {
        self.in_flight
    }

    fn on_durable(&mut self, upto: JournalPos) {
        self.durable = self.durable.max(upto);
    }

    fn wants_effects(&self) -> bool {
        true
    }

    fn gates_replies(&self) -> bool {
        true
    }

    fn lease_valid(&self) -> bool {
        self.lease.load(Ordering::Relaxed)
    }

    fn entry_bytes_max(&self) -> usize {
        self.entry_bytes_max.unwrap_or(usize::MAX)
    }

    fn as_any(&mut self) -> &mut dyn Any {
        self
    }
}

pub(super) struct Test {
    pub ex: Executor,
    pub now: Now,
    lease: Arc<AtomicBool>,
}

impl Test {
    pub fn new(gated: bool) -> Test {
        let mut config = Config::default();
        config.force("durability-timeout", "1000").unwrap();
        let now = Now {
            unix_us: 1_000_000_000,
            mono_us: 0,
        };
        let codec = Box::new(DumpCodec::default());
        let mut ex = Executor::new(
            config,
            codec,
            ControlOut::default(),
            Box::new(TestHost),
            now,
        )
        .unwrap();
        let lease = Arc::new(AtomicBool::new(true));
        if gated {
            ex.set_journal(Box::new(ManualJournal {
                lease: lease.clone(),
                ..Default::default()
            }));
            ex.on_office(Office::Leader { term: 1 });
        }
        Test { ex, now, lease }
    }

    pub fn connect(&mut self) -> ConnId {
        self.ex.on_accept(AcceptInfo::default()).unwrap()
    }

    /// One turn in which these lines arrive.
    pub fn send(&mut self, id: ConnId, lines: &str) {
        self.ex.begin_turn(self.now);
        self.ex.on_bytes(id, lines.replace('\n', "\r\n").as_bytes());
        self.ex.end_turn();
    }

    /// What may be written, as text, with `\n` for line ends.
    pub fn read(&mut self, id: ConnId) -> String {
        let c = &mut self.ex.conns[id];
        let bytes = c.out.ready().collect::<Vec<_>>().concat();
        c.out.on_written(bytes.len());
        String::from_utf8_lossy(&bytes).replace("\r\n", "\n")
    }

    pub fn commit_all(&mut self) {
        let upto = self.ex.journal.position();
        self.ex.on_durable(upto);
    }

    pub fn pass(&mut self, ms: u64) {
        self.now.mono_us += ms * 1000;
        self.now.unix_us += ms * 1000;
        self.ex.begin_turn(self.now);
        self.ex.end_turn();
    }

    fn journal(&mut self) -> &mut ManualJournal {
        self.ex.journal.as_any().downcast_mut().unwrap()
    }

    fn entries(&mut self) -> Vec<String> {
        self.journal()
            .entries
            .drain(..)
            .map(|e| String::from_utf8(e).unwrap())
            .collect()
    }
}

/// While an entry is on its way, effects of several turns become one entry: at the next task of the control thread,
/// or after a moment. Their replies wait for that entry and for no earlier one.
#[test]
fn effects_gather_behind_an_entry_under_way() {
    let mut t = Test::new(true);
    let (a, b) = (t.connect(), t.connect());
    t.pass(10);
    t.send(a, "SET x 1\n");
    assert_eq!(t.entries().len(), 1);
    t.journal().in_flight = 1;
    t.send(b, "SET y 2\n");
    t.send(b, "SET z 3\n");
    assert!(t.entries().is_empty(), "they wait for the first");
    t.commit_all();
    t.ex.end_turn();
    assert_eq!((t.read(a), t.read(b)), ("+OK\n".into(), "".into()));
    t.ex.on_message(crate::seam::ToExecutor::Task(Box::new(|_| {})));
    let entries = t.entries();
    assert!(
        entries.len() == 1 && entries[0].contains('y') && entries[0].contains('z'),
        "{entries:?}"
    );
    t.send(a, "SET x 4\n");
    assert!(t.entries().is_empty());
    assert!(t.ex.next_deadline_ms() <= t.now.mono_ms() + 2);
    t.pass(2);
    assert_eq!(t.entries().len(), 1, "not for longer than a moment");
    t.commit_all();
    t.ex.end_turn();
    assert_eq!(
        (t.read(a), t.read(b)),
        ("+OK\n".into(), "+OK\n+OK\n".into())
    );
}

#[test]
fn async_replies_leave_at_once() {
    let mut t = Test::new(false);
    let a = t.connect();
    t.send(a, "SET k v\nGET k\nPING\n");
    assert_eq!(t.read(a), "+OK\n$1\nv\n+PONG\n");
}

/// Commands are parsed ahead of being executed. What stops a connection in the midst of them (a wait, an inline command, a
/// transaction, more arguments than are parsed ahead, an error) has the rest parsed again, whole or in pieces.
#[test]
fn a_pipeline_is_answered_alike_however_it_arrives() {
    let multibulk = |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        let args = words.iter().map(|w| format!("${}\r\n{w}\r\n", w.len()));
        format!("*{}\r\n{}", words.len(), args.collect::<String>())
    };
    let many = format!("MSET {}", ["k v"; 60].join(" "));
    let lines = [
        "SET a 1",
        "INCR a",
        "BLPOP list 0",
        "INCR a",
        "MULTI",
        "INCR a",
        "EXEC",
        &many,
        "NOSUCH x",
        "GET k",
        "BLPOP list 0",
        "CLIENT REPLY SKIP",
        "INCR a",
        "INCR a",
    ];
    let mut pipeline: String = lines.iter().map(|l| multibulk(l)).collect();
    pipeline += "INCR a\r\n\r\n*0\r\n";
    pipeline += &multibulk("INCR a").repeat(40);
    pipeline += "*1\r\n!4\r\n";
    pipeline += &multibulk("INCR a");
    let run = |cut: usize| {
        let mut t = Test::new(false);
        let (a, b) = (t.connect(), t.connect());
        let (first, second) = pipeline.as_bytes().split_at(cut);
        for part in [first, second] {
            t.ex.begin_turn(t.now);
            t.ex.on_bytes(a, part);
            t.ex.end_turn();
        }
        let before = t.read(a);
        t.send(b, "RPUSH list x\n");
        t.send(b, "RPUSH list y\n");
        (before, t.read(a))
    };
    let expected = run(0);
    assert_eq!(expected.0, "+OK\n:2\n", "it waits for the list");
    let counted: String = (6..=47).map(|n| format!(":{n}\n")).collect();
    let list = |x: &str| format!("*2\n$4\nlist\n$1\n{x}\n");
    assert_eq!(
        expected.1,
        list("x")
            + ":3\n+OK\n+QUEUED\n*1\n:4\n+OK\n"
            + "-ERR unknown command 'NOSUCH', with args beginning with: 'x' \n$1\nv\n"
            + &list("y")
            + &counted
            + "-ERR Protocol error: expected '$', got '!'\n"
    );
    for cut in 1..pipeline.len() {
        assert_eq!(run(cut), expected, "cut at {cut}");
    }
}

/// What several connections have sent is answered as if each had been looked at by itself, in the same order: whatever the ones in
/// front do to those behind them, whose commands have been parsed by then.
#[test]
fn connections_are_answered_alike_together_and_one_by_one() {
    use super::Read;
    let multibulk = |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        let args = words.iter().map(|w| format!("${}\r\n{w}\r\n", w.len()));
        format!("*{}\r\n{}", words.len(), args.collect::<String>())
    };
    let mset = format!("MSET {}", ["k v"; 60].join(" "));
    let mut seed = holdfast_engine::Rng::new(11);
    // Enough keys for their memory to be asked for.
    let fill: String = (0..3000)
        .map(|n| multibulk(&format!("SET fill{n} x")))
        .collect();
    for round in 0..300 {
        const COUNT: usize = 24;
        let mut commands = Vec::new();
        for _ in 0..COUNT {
            let long = seed.index(4) == 0;
            let mut bytes = String::new();
            for _ in 0..1 + seed.index(if long { 70 } else { 3 }) {
                let other = 1 + seed.index(COUNT);
                bytes += &match seed.index(24) {
                    0..8 => multibulk(&format!("INCR k{}", seed.index(9))),
                    8..14 => multibulk(&format!("GET fill{}", seed.index(3000))),
                    14 => multibulk(&format!("CLIENT KILL ID {other}")),
                    15 => multibulk("BLPOP list 0"),
                    16 => multibulk("RPUSH list x"),
                    17 => "INCR inline\r\n".to_owned(),
                    18 => multibulk(&mset),
                    19 => multibulk("SELECT 3"),
                    20 => multibulk("MULTI") + &multibulk("INCR k") + &multibulk("EXEC"),
                    21 => multibulk(&format!("CLIENT UNBLOCK {other}")),
                    22 if seed.index(5) == 0 => multibulk("FLUSHALL"),
                    23 if seed.index(5) == 0 => "*1\r\n!1\r\n".to_owned(),
                    _ => multibulk("HELLO 3"),
                };
            }
            let cut = bytes.len() - seed.index(3) * seed.index(bytes.len() / 2);
            commands.push((bytes, cut));
        }
        let run = |together: bool| {
            let mut t = Test::new(false);
            let ids: Vec<ConnId> = (0..COUNT).map(|_| t.connect()).collect();
            let filler = t.connect();
            t.ex.begin_turn(t.now);
            t.ex.on_bytes(filler, fill.as_bytes());
            t.ex.end_turn();
            for first in [true, false] {
                t.ex.begin_turn(t.now);
                let (mut buffer, mut reads) = (Vec::new(), Vec::new());
                for (id, (bytes, cut)) in ids.iter().zip(&commands) {
                    let (a, b) = bytes.as_bytes().split_at(*cut);
                    let data = if first { a } else { b };
                    if together {
                        let from = buffer.len();
                        buffer.extend_from_slice(data);
                        let to = buffer.len();
                        reads.push(Read {
                            conn: *id,
                            from,
                            to,
                        });
                    } else {
                        t.ex.on_bytes(*id, data);
                    }
                }
                t.ex.on_reads(&reads, &buffer);
                t.ex.end_turn();
            }
            let replies: Vec<(String, super::Close)> = ids
                .iter()
                .map(|id| (t.read(*id), t.ex.conns[*id].close))
                .collect();
            (replies, t.ex.engine.digest())
        };
        assert_eq!(run(true), run(false), "round {round}");
    }
}

/// What was parsed ahead and may not be executed, since many clients that waited are being served, is executed later.
#[test]
fn what_was_parsed_ahead_may_have_to_wait() {
    let mut t = Test::new(false);
    let waiting: Vec<ConnId> = (0..1000).map(|_| t.connect()).collect();
    for id in &waiting {
        t.send(*id, "BLPOP list 0\n");
    }
    let (a, b) = (t.connect(), t.connect());
    let push = format!("RPUSH list{}\r\n", " x".repeat(waiting.len()));
    let (whole, begun) = ("*2\r\n$4\r\nINCR\r\n$1\r\nn\r\n", "*3\r\n$6\r\nINC");
    let buffer = format!("{push}{whole}{begun}");
    let middle = push.len();
    let read = |conn, from, to| super::Read { conn, from, to };
    t.ex.begin_turn(t.now);
    t.ex.on_reads(
        &[read(a, 0, middle), read(b, middle, buffer.len())],
        buffer.as_bytes(),
    );
    t.ex.end_turn();
    assert!(!t.ex.takes_input(), "they are being served");
    assert_eq!(t.read(b), "");
    for _ in 0..1000 {
        t.pass(1);
    }
    t.ex.begin_turn(t.now);
    t.ex.on_bytes(b, b"RBY\r\n$1\r\nn\r\n$1\r\n1\r\n");
    t.ex.end_turn();
    assert_eq!(t.read(b), ":1\n:2\n");
    for id in waiting {
        assert_eq!(t.read(id), "*2\n$4\nlist\n$1\nx\n");
    }
}

/// A command that has just come whole counts for its client's memory, though its bytes are not in the query buffer while it is executed.
#[test]
fn a_command_that_is_executed_counts_for_its_client() {
    for (value, closed) in [(1_000_000, false), (1_500_000, true)] {
        let mut t = Test::new(false);
        let (a, admin) = (t.connect(), t.connect());
        t.send(admin, "CONFIG SET maxmemory-clients 1200000\n");
        let bytes = format!(
            "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n${value}\r\n{}\r\n",
            "v".repeat(value)
        );
        let (first, rest) = bytes.as_bytes().split_at(900_000);
        for part in [first, rest] {
            t.ex.begin_turn(t.now);
            t.ex.on_bytes(a, part);
            t.ex.end_turn();
        }
        assert_eq!(t.ex.conns[a].close == super::Close::Now, closed, "{value}");
        assert_eq!(t.ex.engine.dbsize(0), usize::from(!closed), "{value}");
    }
}

/// What the last file does not have is not acknowledged, though it was read in the same turn.
#[test]
fn nothing_is_executed_behind_the_end() {
    let mut t = Test::new(false);
    let (a, b) = (t.connect(), t.connect());
    let bytes = b"SHUTDOWN NOSAVE\r\nSET k v\r\n*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n";
    let second = bytes.iter().position(|b| *b == b'*').expect("it is there");
    let (first, rest) = (0..second, second..bytes.len());
    let read = |conn, range: std::ops::Range<usize>| super::Read {
        conn,
        from: range.start,
        to: range.end,
    };
    t.ex.begin_turn(t.now);
    t.ex.on_reads(&[read(a, first), read(b, rest)], bytes);
    t.ex.end_turn();
    assert_eq!(t.ex.ending(), super::Ending::Done);
    assert_eq!((t.read(a), t.read(b)), (String::new(), String::new()));
    assert_eq!(t.ex.engine.dbsize(0), 0);
}

#[test]
fn a_write_is_answered_when_it_is_committed() {
    let mut t = Test::new(true);
    let a = t.connect();
    t.send(a, "SET k v\n");
    assert_eq!(t.read(a), "");
    assert_eq!(t.ex.held_replies(), 1);
    t.commit_all();
    assert_eq!(t.read(a), "+OK\n");
}

#[test]
fn a_turn_is_one_entry_whoever_wrote() {
    let mut t = Test::new(true);
    let (a, b) = (t.connect(), t.connect());
    t.ex.begin_turn(t.now);
    t.ex.on_bytes(a, b"SET x 1\r\n");
    t.ex.on_bytes(b, b"SET y 2\r\n");
    t.ex.end_turn();
    let entries = t.entries();
    assert_eq!(entries.len(), 1);
    assert!(entries[0].contains("x") && entries[0].contains("y"));
}

#[test]
fn many_large_writes_of_one_turn_are_several_entries() {
    let mut t = Test::new(true);
    let a = t.connect();
    let value = "v".repeat(3 << 20);
    let set = format!("*3\n$3\nSET\n$1\nk\n${}\n{value}\n", value.len());
    t.send(a, &set.repeat(10));
    let entries: Vec<usize> = t.entries().iter().map(String::len).collect();
    assert_eq!(entries.len(), 4, "{entries:?}");
    assert!(entries.iter().all(|len| *len < 10 << 20), "{entries:?}");
    t.commit_all();
    assert_eq!(t.read(a), "+OK\n".repeat(10));
}

#[test]
fn a_write_that_no_entry_can_hold_is_refused_before_it_is_executed() {
    let mut t = Test::new(true);
    let a = t.connect();
    let journal = t.ex.journal.as_any().downcast_mut::<ManualJournal>();
    journal.unwrap().entry_bytes_max = Some(200);
    let (long, short) = ("v".repeat(200), "v".repeat(60));
    let refusal =
        "-ERR The write is larger than one entry of this shard's log may be\n".to_string();
    t.send(a, &format!("SET k {long}\n"));
    assert_eq!(t.read(a), refusal);
    t.send(a, &format!("GET k{long}\nGET k\n"));
    assert_eq!(t.read(a), "$-1\n$-1\n");
    t.send(a, &format!("MULTI\nSET a {short}\nSET b {short}\nEXEC\n"));
    assert_eq!(
        t.read(a),
        "+OK\n+QUEUED\n+QUEUED\n-EXECABORT Transaction discarded because of: \
         The write is larger than one entry of this shard's log may be\n"
    );
    assert!(t.entries().is_empty());
    t.send(a, &format!("SET k {short}\n"));
    t.commit_all();
    assert_eq!(t.read(a), "+OK\n");
}

#[test]
fn reads_wait_only_for_what_they_show() {
    let mut t = Test::new(true);
    let (a, b) = (t.connect(), t.connect());
    t.send(a, "SET k v\n");
    t.send(b, "GET other\n");
    assert_eq!(t.read(b), "$-1\n");
    t.send(b, "GET k\nPING\n");
    assert_eq!(
        t.read(b),
        "",
        "neither the read nor what follows it may overtake the commit"
    );
    t.send(b, "DBSIZE\n");
    t.commit_all();
    assert_eq!(t.read(b), "$1\nv\n+PONG\n:1\n");
    t.send(b, "DBSIZE\n");
    assert_eq!(t.read(b), ":1\n");
}

#[test]
fn a_transaction_is_answered_as_a_whole() {
    let mut t = Test::new(true);
    let a = t.connect();
    t.send(a, "MULTI\nGET k\nSET k v\nINCR n\n");
    assert_eq!(t.read(a), "+OK\n+QUEUED\n+QUEUED\n+QUEUED\n");
    t.send(a, "EXEC\n");
    assert_eq!(t.read(a), "");
    let entries = t.entries();
    assert!(entries[0].contains("MULTI") && entries[0].contains("EXEC"));
    let b = t.connect();
    t.send(b, "GET n\n");
    assert_eq!(t.read(b), "");
    t.commit_all();
    assert_eq!(t.read(a), "*3\n$-1\n+OK\n:1\n");
    assert_eq!(t.read(b), "$1\n1\n");
}

#[test]
fn without_a_lease_no_read_is_answered() {
    let mut t = Test::new(true);
    let a = t.connect();
    t.lease.store(false, Ordering::Relaxed);
    t.send(a, "GET k\n");
    assert_eq!(t.read(a), "");
    t.send(a, "PING\n");
    assert_eq!(t.read(a), "");
    t.lease.store(true, Ordering::Relaxed);
    t.pass(1);
    assert_eq!(t.read(a), "$-1\n+PONG\n");
}

#[test]
fn losing_office_fails_reads_and_keeps_writes_waiting() {
    let mut t = Test::new(true);
    let (a, b) = (t.connect(), t.connect());
    t.send(a, "SET k v\n");
    t.send(b, "GET k\n");
    t.ex.on_office(Office::Follower { term: 2 });
    assert!(t.read(b).starts_with("-CLUSTERDOWN"));
    assert_eq!(t.read(a), "");
    // The next leader had the entry: the write did happen.
    t.commit_all();
    assert_eq!(t.read(a), "+OK\n");
    t.send(a, "SET k w\n");
    assert!(t.read(a).starts_with("-CLUSTERDOWN"));
}

#[test]
fn a_new_term_never_confirms_an_old_write() {
    let mut t = Test::new(true);
    let a = t.connect();
    t.send(a, "SET k v\n");
    t.ex.on_office(Office::Follower { term: 2 });
    t.ex.on_office(Office::Leader { term: 3 });
    assert!(t.read(a).starts_with("-UNCERTAIN"));
    t.commit_all();
    assert_eq!(t.read(a), "");
}

#[test]
fn a_write_that_is_not_confirmed_in_time_is_uncertain() {
    let mut t = Test::new(true);
    let a = t.connect();
    t.send(a, "SET k v\nGET k\n");
    t.pass(900);
    assert_eq!(t.read(a), "");
    t.pass(200);
    let text = t.read(a);
    assert!(text.starts_with("-UNCERTAIN"), "{text}");
    assert!(
        text.lines().nth(1).unwrap().starts_with("-CLUSTERDOWN"),
        "{text}"
    );
}

#[test]
fn an_expired_key_found_by_a_read_is_a_write() {
    let mut t = Test::new(true);
    let a = t.connect();
    t.ex.active_expire = false;
    t.send(a, "SET k v PX 10\n");
    t.commit_all();
    t.read(a);
    t.entries();
    t.pass(20);
    t.send(a, "GET k\n");
    assert_eq!(t.read(a), "");
    assert_eq!(t.entries().len(), 1);
    t.commit_all();
    assert_eq!(t.read(a), "$-1\n");
}

#[test]
fn a_connection_may_choose_not_to_wait() {
    let mut t = Test::new(true);
    t.ex.settings.quorum = true;
    let a = t.connect();
    t.send(a, "CLIENT DURABILITY async\nSET k v\nGET k\n");
    assert_eq!(t.read(a), "+OK\n+OK\n$1\nv\n");
    t.send(a, "CLIENT DURABILITY quorum\nSET k w\n");
    assert_eq!(t.read(a), "+OK\n");
    t.commit_all();
    assert_eq!(t.read(a), "+OK\n");
}

#[test]
fn blocked_clients_are_served_in_order_and_wait_for_the_commit() {
    let mut t = Test::new(true);
    let (a, b, c) = (t.connect(), t.connect(), t.connect());
    t.send(a, "BLPOP l 0\nPING\n");
    t.send(b, "BLPOP l 0\n");
    t.send(c, "RPUSH l 1 2\n");
    assert_eq!((t.read(a), t.read(b)), (String::new(), String::new()));
    t.commit_all();
    assert_eq!(t.read(c), ":2\n");
    assert_eq!(t.read(a), "*2\n$1\nl\n$1\n1\n+PONG\n");
    assert_eq!(t.read(b), "*2\n$1\nl\n$1\n2\n");
}

#[test]
fn a_blocked_client_is_answered_at_its_deadline() {
    let mut t = Test::new(false);
    let a = t.connect();
    t.send(a, "BLPOP l 0.5\nPING\n");
    assert!(t.ex.next_deadline_ms() <= 500);
    t.pass(499);
    assert_eq!(t.read(a), "");
    t.pass(1);
    assert_eq!(t.read(a), "*-1\n+PONG\n");
}

#[test]
fn watch_sees_other_clients_only_when_they_change_the_key() {
    let mut t = Test::new(false);
    let (a, b) = (t.connect(), t.connect());
    t.send(a, "WATCH k\n");
    t.send(b, "SET other 1\n");
    t.send(a, "MULTI\nSET k 1\nEXEC\n");
    assert_eq!(t.read(a), "+OK\n+OK\n+QUEUED\n*1\n+OK\n");
    t.send(a, "WATCH k\n");
    t.send(b, "SET k 2\n");
    t.send(a, "MULTI\nSET k 3\nEXEC\nGET k\n");
    assert_eq!(t.read(a), "+OK\n+OK\n+QUEUED\n*-1\n$1\n2\n");
}

#[test]
fn published_messages_reach_channels_and_patterns() {
    let mut t = Test::new(false);
    let (a, b) = (t.connect(), t.connect());
    t.send(a, "SUBSCRIBE news\nPSUBSCRIBE n*\n");
    t.read(a);
    t.send(b, "PUBLISH news hi\n");
    assert_eq!(t.read(b), ":2\n");
    assert_eq!(
        t.read(a),
        "*3\n$7\nmessage\n$4\nnews\n$2\nhi\n*4\n$8\npmessage\n$2\nn*\n$4\nnews\n$2\nhi\n"
    );
    t.send(a, "GET k\n");
    assert!(t.read(a).starts_with("-ERR Can't execute 'get'"));
    t.ex.on_closed(a);
    t.send(b, "PUBLISH news hi\n");
    assert_eq!(t.read(b), ":0\n");
}

#[test]
fn bad_input_gets_valkeys_errors() {
    let mut t = Test::new(false);
    let a = t.connect();
    t.send(a, "FOO a b\nGET\nCONFIG nope\nCLIENT\nEXEC\nSELECT 99\n");
    assert_eq!(
        t.read(a),
        "-ERR unknown command 'FOO', with args beginning with: 'a' 'b' \n\
         -ERR wrong number of arguments for 'get' command\n\
         -ERR unknown subcommand 'nope'. Try CONFIG HELP.\n\
         -ERR wrong number of arguments for 'client' command\n\
         -ERR EXEC without MULTI\n\
         -ERR DB index is out of range\n"
    );
    t.send(a, "*1\n$x\n");
    assert_eq!(t.read(a), "-ERR Protocol error: invalid bulk length\n");
    assert_eq!(t.ex.conns[a].close, super::Close::AfterReplies);
}

#[test]
fn strangers_authenticate_first() {
    let mut t = Test::new(false);
    t.ex.config.force("requirepass", "secret").unwrap();
    t.ex.apply_config();
    let a = t.connect();
    t.send(a, "GET k\nAUTH wrong\nAUTH secret\nGET k\n");
    assert_eq!(
        t.read(a),
        "-NOAUTH Authentication required.\n\
         -WRONGPASS invalid username-password pair or user is disabled.\n+OK\n$-1\n"
    );
}

#[test]
fn commands_in_pieces_are_put_together() {
    let mut t = Test::new(false);
    let a = t.connect();
    for byte in b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$5\r\nhello\r\n*2\r\n$3\r\nGET\r\n$1\r\nk\r\n" {
        t.ex.begin_turn(t.now);
        t.ex.on_bytes(a, &[*byte]);
        t.ex.end_turn();
    }
    assert_eq!(t.read(a), "+OK\n$5\nhello\n");
}

/// Keyspace events of a write leave when it is committed, in order with what else the subscriber is sent, and not at all
/// when nobody can say whether it was.
#[test]
fn keyspace_events_wait_for_the_commit() {
    let mut t = Test::new(true);
    let (a, b) = (t.connect(), t.connect());
    t.send(
        b,
        "CONFIG SET notify-keyspace-events Kg$x\nSUBSCRIBE __keyspace@0__:k\n",
    );
    t.read(b);
    let event = |name: &str| {
        format!(
            "*3\n$7\nmessage\n$16\n__keyspace@0__:k\n${}\n{name}\n",
            name.len()
        )
    };
    t.send(a, "SET k v\n");
    t.send(b, "PING\n");
    assert_eq!(t.read(b), "", "not before the write's own reply");
    t.commit_all();
    t.ex.end_turn();
    assert_eq!(t.read(b), event("set") + "*2\n$4\npong\n$0\n\n");
    t.send(a, "MULTI\nSET k w\nDEL k\nEXEC\n");
    assert_eq!(t.read(b), "");
    t.commit_all();
    t.ex.end_turn();
    assert_eq!(t.read(b), event("set") + &event("del"));
    t.send(a, "SET k x PX 10\n");
    t.ex.on_office(Office::Follower { term: 2 });
    t.ex.fail_held_writes();
    t.send(b, "PING\n");
    assert_eq!(t.read(b), "*2\n$4\npong\n$0\n\n");
}

/// A client that hears of its own command gets the reply first.
#[test]
fn messages_do_not_come_in_the_midst_of_a_reply() {
    let mut t = Test::new(false);
    let a = t.connect();
    t.send(
        a,
        "HELLO 3\nCONFIG SET notify-keyspace-events El\nSUBSCRIBE __keyevent@0__:lpush\n",
    );
    t.read(a);
    t.send(a, "MULTI\nLPUSH k v\nLLEN k\nEXEC\n");
    assert_eq!(
        t.read(a),
        "+OK\n+QUEUED\n+QUEUED\n*2\n:1\n:1\n>3\n$7\nmessage\n$20\n__keyevent@0__:lpush\n$1\nk\n"
    );
}

#[test]
fn waiting_clients_take_nothing_during_a_pause() {
    let mut t = Test::new(false);
    let (a, b) = (t.connect(), t.connect());
    t.send(a, "BLPOP k 0\n");
    t.send(
        b,
        "MULTI\nRPUSH k v\nCLIENT PAUSE 100 WRITE\nEXEC\nLLEN k\n",
    );
    assert_eq!(t.read(b), "+OK\n+QUEUED\n+QUEUED\n*2\n:1\n+OK\n:1\n");
    assert_eq!(t.read(a), "");
    t.pass(200);
    t.pass(0);
    assert_eq!(t.read(a), "*2\n$1\nk\n$1\nv\n");
}

/// However many clients one command serves, a turn serves some of them only, and nobody's command comes in between.
#[test]
fn many_waiting_clients_are_served_in_steps() {
    const CLIENTS: usize = 300;
    let mut t = Test::new(false);
    let waiting: Vec<ConnId> = (0..CLIENTS).map(|_| t.connect()).collect();
    for id in &waiting {
        t.send(*id, "BLPOP k 0\n");
    }
    let (a, b) = (t.connect(), t.connect());
    let elements: String = (0..CLIENTS).map(|n| format!(" {n}")).collect();
    t.send(a, &format!("RPUSH k{elements}\nLLEN k\n"));
    assert_eq!(t.read(a), format!(":{CLIENTS}\n"));
    assert_eq!(t.read(waiting[CLIENTS - 1]), "");
    assert!(!t.ex.takes_input() && t.ex.next_deadline_ms() <= t.now.mono_ms());
    t.send(b, "LPOP k\n");
    t.pass(0);
    t.pass(0);
    assert!(t.ex.takes_input());
    for (n, id) in waiting.iter().enumerate() {
        let text = n.to_string();
        let want = format!("*2\n$1\nk\n${}\n{text}\n", text.len());
        assert_eq!(t.read(*id), want);
    }
    assert_eq!(t.read(a), ":0\n");
    assert_eq!(t.read(b), "$-1\n");
}

#[test]
fn a_pause_keeps_commands_for_later() {
    let mut t = Test::new(false);
    let (a, b) = (t.connect(), t.connect());
    t.send(a, "SET k 1\nCLIENT PAUSE 100 WRITE\n");
    t.read(a);
    t.send(b, "GET k\nINCR k\nGET k\n");
    assert_eq!(t.read(b), "$1\n1\n");
    t.pass(50);
    assert_eq!(t.read(b), "");
    t.pass(50);
    assert_eq!(t.read(b), ":2\n$1\n2\n");
    t.send(a, "CLIENT PAUSE 1000\n");
    t.read(a);
    t.send(b, "PING\n");
    assert_eq!(t.read(b), "");
    t.pass(1000);
    assert_eq!(t.read(b), "+PONG\n");
}

/// Who waits in a group is told when there is no such group any more, however the key was lost; a plain reader goes on waiting.
#[test]
fn readers_in_a_group_hear_of_the_end_of_their_stream() {
    for end in [
        "DEL s",
        "SET s 1",
        "FLUSHALL",
        "RENAME s t",
        "XGROUP DESTROY s g",
    ] {
        let mut t = Test::new(false);
        let (a, b, c) = (t.connect(), t.connect(), t.connect());
        t.send(c, "XGROUP CREATE s g $ MKSTREAM\n");
        t.send(a, "XREADGROUP GROUP g x BLOCK 0 STREAMS s >\nPING\n");
        t.send(b, "XREAD BLOCK 0 STREAMS s $\n");
        assert_eq!((t.read(a), t.read(b)), (String::new(), String::new()));
        t.send(c, &format!("{end}\n"));
        let told = t.read(a);
        let error = if end == "SET s 1" {
            "-WRONGTYPE"
        } else {
            "-NOGROUP"
        };
        assert!(
            told.starts_with(error) && told.ends_with("+PONG\n"),
            "{end}: {told}"
        );
        assert_eq!(t.read(b), "", "{end}");
        t.send(c, "DEL s\nXADD s 5-1 f v\n");
        let entry = "*1\n*2\n$1\ns\n*1\n*2\n$3\n5-1\n*2\n$1\nf\n$1\nv\n";
        assert_eq!(t.read(b), entry, "{end}");
    }
}

/// However cheap the steps of a save are thought to be: when they turn out to be dear, the turn ends.
#[test]
fn a_turn_of_a_save_ends_when_steps_take_longer_than_thought() {
    let keys_of_a_turn = |look_us| {
        let mut t = Test::new(false);
        t.ex.host = Box::new(SlowHost {
            look_us,
            passed_us: Default::default(),
        });
        t.ex.persist.enabled = true;
        let id = t.connect();
        let sets: String = (0..5000).map(|i| format!("SET {i} v\n")).collect();
        t.send(id, &sets);
        t.send(id, "BGSAVE\n");
        t.ex.persist.saving.as_ref().unwrap().keys_done
    };
    let (dear, cheap) = (keys_of_a_turn(301), keys_of_a_turn(0));
    assert!(dear > 0 && 2 * dear < cheap, "{dear}, {cheap} keys");
}
