//! One client's state: what it has sent, what it is to be sent, and what it has chosen.

use super::large_argument::told_query_len;
use super::output::Output;
use holdfast_engine::Wakes;
use holdfast_resp::{Proto, RequestParser};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

/// Names a connection of this process; the serial tells later users of an index apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId {
    /// Index, reused after close.
    pub index: u32,
    /// How often the index had been used before.
    pub serial: u32,
}

/// What a driver knows of a new connection.
#[derive(Debug, Clone, Default)]
pub struct AcceptInfo {
    /// Where it comes from; `None` for a Unix socket.
    pub peer: Option<SocketAddr>,
    /// The address that it connected to.
    pub local: Option<SocketAddr>,
    /// The file descriptor, for `CLIENT LIST`; -1 where there is none.
    pub fd: i32,
    /// The Unix socket's path, if it is one.
    pub unix_path: Option<String>,
    /// It is TLS.
    pub tls: bool,
}

impl AcceptInfo {
    /// The client's address as it is shown.
    pub fn peer_name(&self) -> String {
        match (self.peer, &self.unix_path) {
            (Some(peer), _) => peer.to_string(),
            (None, Some(path)) => format!("{path}:0"),
            (None, None) => "?:0".into(),
        }
    }

    /// Whether the client is on this machine.
    pub fn is_local(&self) -> bool {
        self.peer.is_none_or(|p| p.ip().is_loopback())
    }
}

/// Whether and when the driver is to close the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Close {
    /// Not.
    Open,
    /// When all its replies are written.
    AfterReplies,
    /// At once.
    Now,
}

/// A command kept to be executed later.
pub type OwnedArgv = Vec<Box<[u8]>>;

/// What the next command of the connection waits for.
#[derive(Debug)]
pub enum State {
    /// Nothing.
    Ready,
    /// One of the keys to get something, or the deadline.
    Blocked(Box<Blocked>),
    /// The control thread's answer with this number.
    Deferred(u64),
    /// The slot of this command to be served again, here or elsewhere.
    Parked(OwnedArgv),
}

/// A client in a blocking command.
#[derive(Debug)]
pub struct Blocked {
    /// The command, executed anew when a key becomes ready.
    pub argv: OwnedArgv,
    /// Its keys, in its order.
    pub keys: Vec<Box<[u8]>>,
    /// Its place among those that wait: they are served in this order.
    pub place: u64,
    /// When it is answered with nothing, by the monotonic clock.
    pub deadline_ms: Option<u64>,
    /// The answer at the deadline, encoded; also says what it is blocked on.
    pub on_timeout: Vec<u8>,
    /// What of its keys it is executed anew for.
    pub wakes: Wakes,
    /// How long it has been executed so far, in nanoseconds.
    pub took_ns: u64,
    /// Bytes in which it came.
    pub request_bytes: usize,
}

/// Commands between `MULTI` and `EXEC`.
#[derive(Debug, Default)]
pub struct Multi {
    /// The commands.
    pub queue: Vec<OwnedArgv>,
    /// One of them was refused: `EXEC` answers `EXECABORT`.
    pub aborted: bool,
    /// Bytes of the queue, for the client's limits.
    pub bytes: usize,
}

/// A connection's subscriptions.
#[derive(Debug, Default)]
pub struct Subscriptions {
    /// `SUBSCRIBE`
    pub channels: BTreeSet<Box<[u8]>>,
    /// `PSUBSCRIBE`
    pub patterns: BTreeSet<Box<[u8]>>,
    /// `SSUBSCRIBE`
    pub shard_channels: BTreeSet<Box<[u8]>>,
}

impl Subscriptions {
    /// What `SUBSCRIBE` and its kind count.
    pub fn count(&self) -> usize {
        self.channels.len() + self.patterns.len()
    }

    /// Whether there are none at all.
    pub fn is_empty(&self) -> bool {
        self.count() == 0 && self.shard_channels.is_empty()
    }
}

/// `CLIENT REPLY`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplyMode {
    /// Every command is answered.
    On,
    /// None is.
    Off,
    /// The next one is not.
    SkipNext,
    /// This one is not.
    Skip,
}

/// `CLIENT DURABILITY`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DurabilityChoice {
    /// The server's.
    Server,
    /// Replies wait for nothing.
    Async,
    /// Replies wait for the quorum.
    Quorum,
}

/// A client.
#[derive(Debug)]
pub struct Connection {
    /// Which connection of the process.
    pub conn: ConnId,
    /// `CLIENT ID`: never reused.
    pub id: u64,
    /// Where it comes from.
    pub info: AcceptInfo,
    /// Bytes received and not yet consumed.
    pub query: Vec<u8>,
    /// Large arguments of the command that begins there, which lie elsewhere.
    pub large: Option<Box<super::LargeArguments>>,
    /// The most bytes that were in there, or passed by it, since the last look at its size.
    pub(super) query_peak: usize,
    /// What its commands take while they are executed, which are not in `query` then.
    pub parcel_bytes: usize,
    /// Finds the next command in them.
    pub parser: RequestParser,
    /// Bytes to be sent.
    pub out: Output,
    /// What it waits for.
    pub state: State,
    /// Whether it is to be closed.
    pub close: Close,
    /// Its protocol version.
    pub proto: Proto,
    /// Its database.
    pub db: u16,
    /// Whether it may do more than authenticate.
    pub authenticated: bool,
    /// Whether it ever was.
    pub was_authenticated: bool,
    /// `CLIENT REPLY`
    pub reply: ReplyMode,
    /// Set by `ASKING` for the next command.
    pub asking: bool,
    /// `READONLY`
    pub readonly: bool,
    /// `CLIENT DURABILITY`
    pub durability: DurabilityChoice,
    /// `CLIENT NO-EVICT`
    pub no_evict: bool,
    /// `CLIENT NO-TOUCH`
    pub no_touch: bool,
    /// `CLIENT IMPORT-SOURCE`
    pub import_source: bool,
    /// `CLIENT CAPA redirect`
    pub capa_redirect: bool,
    /// A slot migration's link to a source: its commands are effects, not requests.
    pub internal: bool,
    /// It is sent the effects, or is about to be.
    pub follows: bool,
    /// `MONITOR`
    pub monitor: bool,
    /// A transaction under way.
    pub multi: Option<Box<Multi>>,
    /// It has begun a transaction or watched a key at some time: Valkey tells of it from then on.
    pub had_multi: bool,
    /// Watched keys, with whether each was there when it was watched.
    pub watched: BTreeMap<(u16, Box<[u8]>), bool>,
    /// A watched key has changed.
    pub watch_broken: bool,
    /// `CLIENT TRACKING`, if it is on.
    pub tracking: Option<Box<super::ClientTracking>>,
    /// Subscriptions, if it has any.
    pub subs: Option<Box<Subscriptions>>,
    /// `CLIENT SETNAME`
    pub name: Box<[u8]>,
    /// `CLIENT SETINFO`
    pub lib: BTreeMap<&'static str, Box<[u8]>>,
    /// When it connected, by the wall clock, in milliseconds.
    pub created_ms: u64,
    /// When it last sent something, by the monotonic clock, in milliseconds.
    pub last_seen_ms: u64,
    /// Since when its output has been above the soft limit.
    pub soft_limit_since_ms: Option<u64>,
    /// The last command, as an id of the command table.
    pub last_command: u16,
    /// Commands executed.
    pub commands: u64,
    /// Bytes received.
    pub bytes_in: u64,
    /// Bytes sent.
    pub bytes_out: u64,
    /// Position behind its last write, for `WAIT`.
    pub last_write: crate::journal::JournalPos,
    /// What it took of memory when it was last looked at, as far as it counts for `maxmemory-clients`.
    pub(super) noted_bytes: usize,
    /// The driver has been told to look at it this turn.
    pub(crate) dirty: bool,
    /// It is in the executor's list of those with held replies.
    pub(super) holding: bool,
}

impl Connection {
    pub(super) fn new(conn: ConnId, id: u64, info: AcceptInfo, unix_ms: u64, mono_ms: u64) -> Self {
        Connection {
            conn,
            id,
            info,
            query: Vec::new(),
            large: None,
            parcel_bytes: 0,
            query_peak: 0,
            parser: RequestParser::new(),
            out: Output::default(),
            state: State::Ready,
            close: Close::Open,
            proto: Proto::Resp2,
            db: 0,
            authenticated: false,
            was_authenticated: false,
            reply: ReplyMode::On,
            asking: false,
            readonly: false,
            durability: DurabilityChoice::Server,
            no_evict: false,
            no_touch: false,
            import_source: false,
            capa_redirect: false,
            internal: false,
            follows: false,
            monitor: false,
            multi: None,
            had_multi: false,
            watched: BTreeMap::new(),
            watch_broken: false,
            tracking: None,
            subs: None,
            name: Box::default(),
            lib: BTreeMap::new(),
            created_ms: unix_ms,
            last_seen_ms: mono_ms,
            soft_limit_since_ms: None,
            last_command: u16::MAX,
            commands: 0,
            bytes_in: 0,
            bytes_out: 0,
            last_write: Default::default(),
            noted_bytes: 0,
            dirty: false,
            holding: false,
        }
    }

    /// Whether its next command may be executed.
    #[inline]
    pub fn is_ready(&self) -> bool {
        matches!(self.state, State::Ready) && self.close == Close::Open && !self.is_full()
    }

    /// Length of the query buffer, or of an I/O thread's.
    pub(crate) fn query_len(&self) -> usize {
        match self.out.elsewhere_query() {
            Some((len, _)) if len > 0 => len,
            _ => told_query_len(&self.query, self.large.as_deref(), &self.parser),
        }
    }

    /// Room in the query buffer, for large arguments, and in the buffer of an I/O thread.
    pub(crate) fn query_free(&self) -> usize {
        let elsewhere = self.out.elsewhere_query();
        let large = self
            .large
            .as_ref()
            .map_or(0, |l| l.capacity() - l.wire_bytes().min(l.capacity()));
        self.query.capacity() - self.query.len()
            + large
            + elsewhere.map_or(0, |(len, capacity)| capacity.saturating_sub(len))
    }

    /// What the query buffer takes.
    pub(crate) fn query_capacity(&self) -> usize {
        let elsewhere = self.out.elsewhere_query().map_or(0, |(_, n)| n);
        let large = self.large.as_ref().map_or(0, |l| l.capacity());
        self.query.capacity() + large + self.parcel_bytes + elsewhere
    }

    /// Bytes of the arguments of a command that waits.
    pub(crate) fn argv_bytes(&self) -> usize {
        let argv = match &self.state {
            State::Blocked(blocked) => &blocked.argv,
            State::Parked(argv) => argv,
            State::Ready | State::Deferred(_) => return 0,
        };
        argv.iter().map(|arg| arg.len()).sum()
    }

    /// Asks for the connection to be closed, no later than `when` says.
    pub fn close_when(&mut self, when: Close) {
        self.close = self.close.max(when);
    }

    /// Whether it has subscriptions that count for its buffer limits.
    pub fn is_subscriber(&self) -> bool {
        self.subs.as_ref().is_some_and(|s| !s.is_empty())
    }
}

/// The connections of the process. Indices are small and reused; a [`ConnId`] of a closed one finds nothing.
#[derive(Debug, Default)]
pub struct Connections {
    slots: Vec<Slot>,
    free: Vec<u32>,
    len: usize,
}

#[derive(Debug)]
struct Slot {
    serial: u32,
    conn: Option<Box<Connection>>,
}

impl Connections {
    /// Adds what `make` makes of the id.
    pub fn insert(&mut self, make: impl FnOnce(ConnId) -> Connection) -> ConnId {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot {
                serial: 0,
                conn: None,
            });
            (self.slots.len() - 1) as u32
        });
        let slot = &mut self.slots[index as usize];
        let id = ConnId {
            index,
            serial: slot.serial,
        };
        slot.conn = Some(Box::new(make(id)));
        self.len += 1;
        id
    }

    /// Removes a connection.
    pub fn remove(&mut self, id: ConnId) -> Option<Box<Connection>> {
        let slot = self
            .slots
            .get_mut(id.index as usize)
            .filter(|s| s.serial == id.serial)?;
        let conn = slot.conn.take()?;
        slot.serial = slot.serial.wrapping_add(1);
        self.free.push(id.index);
        self.len -= 1;
        Some(conn)
    }

    /// A connection, if it is still there.
    #[inline]
    pub fn get(&self, id: ConnId) -> Option<&Connection> {
        self.slots
            .get(id.index as usize)
            .filter(|s| s.serial == id.serial)?
            .conn
            .as_deref()
    }

    /// A connection, if it is still there.
    #[inline]
    pub fn get_mut(&mut self, id: ConnId) -> Option<&mut Connection> {
        self.slots
            .get_mut(id.index as usize)
            .filter(|s| s.serial == id.serial)?
            .conn
            .as_deref_mut()
    }

    /// Those with some indices from this one on, and the index at which to go on: 0 behind the last.
    pub(super) fn some_mut(
        &mut self,
        from: usize,
        count: usize,
    ) -> (impl Iterator<Item = &mut Connection>, usize) {
        let from = from.min(self.slots.len());
        let end = (from + count).min(self.slots.len());
        let next = if end == self.slots.len() { 0 } else { end };
        let some = self.slots[from..end].iter_mut();
        (some.filter_map(|s| s.conn.as_deref_mut()), next)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// All of them, in order of index.
    pub fn iter(&self) -> impl Iterator<Item = &Connection> {
        self.slots.iter().filter_map(|s| s.conn.as_deref())
    }

    /// All of them, in order of index.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Connection> {
        self.slots.iter_mut().filter_map(|s| s.conn.as_deref_mut())
    }
}

/// A connection that is known to be there: it is removed only between commands.
impl std::ops::Index<ConnId> for Connections {
    type Output = Connection;

    #[inline]
    fn index(&self, id: ConnId) -> &Connection {
        match self.get(id) {
            Some(c) => c,
            None => panic!("connection {id:?} was removed while in use"),
        }
    }
}

impl std::ops::IndexMut<ConnId> for Connections {
    #[inline]
    fn index_mut(&mut self, id: ConnId) -> &mut Connection {
        match self.get_mut(id) {
            Some(c) => c,
            None => panic!("connection {id:?} was removed while in use"),
        }
    }
}
