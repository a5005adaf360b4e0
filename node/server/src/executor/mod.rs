//! The executor: the one owner of the engine and of the clients' state.
//!
//! It does no I/O and reads no clock. A driver tells it what arrived and what time it is, and after each turn
//! ([`Executor::end_turn`]) writes what it finds in the outputs of the connections that it is told to look at:
//!
//! 1. [`Executor::begin_turn`] with the time;
//! 2. any of [`Executor::on_accept`], [`Executor::on_bytes`], [`Executor::on_closed`], [`Executor::on_message`], in any number;
//! 3. [`Executor::end_turn`]: the turn's effects become one journal entry, replies are released;
//! 4. [`Executor::take_dirty`]: connections with something to write, or to be closed.
//!
//! The driver may sleep until [`Executor::next_deadline_ms`].

mod blocking;
mod caching;
mod caching_table;
#[cfg(test)]
mod caching_tests;
mod client_memory;
pub mod commandlog;
mod connection;
mod cron;
pub mod defrag;
mod dispatch;
mod durable;
mod flow;
mod histogram;
mod input;
mod large_argument;
pub mod latency;
mod memory;
mod monitor;
mod observe;
mod output;
#[cfg(test)]
mod output_tests;
mod parcel;
mod pause;
mod pubsub;
mod replies;
mod shutdown;
mod stats;
#[cfg(test)]
mod tests;
mod transactions;
mod turn;

pub use caching::ClientTracking;
pub use client_memory::{QUERY_BYTES_MIN, shrink_large, shrink_query};
pub use connection::{
    AcceptInfo, Blocked, Close, ConnId, Connection, Connections, DurabilityChoice, Multi,
    OwnedArgv, ReplyMode, State, Subscriptions,
};
pub use flow::{Flow, Trim};
pub use histogram::Histogram;
pub use input::{QUERY_KEEP_BYTES, READS_MAX, Read};
pub use large_argument::{Intake, LargeArgument, LargeArguments, told_query_len};
pub use observe::{Observer, SlotTraffic};
pub use output::{FIRST_CHUNK_BYTES, HeldKind, Output};
pub use parcel::{Framed, Parcel};
pub use pubsub::Channels;
use pubsub::SelfPush;
pub use replies::Replies;
pub use shutdown::ShutdownOptions;
pub use stats::{CommandStats, Stats};

use crate::commands::Table;
use crate::config::{Config, Settings};
use crate::durable::exec::ShardSnapshot;
use crate::followers::Followers;
use crate::gate::Gate;
use crate::journal::{AsyncJournal, Journal};
use crate::persist::{LoadRequest, Persistence, RdbIn, RdbOut, SaveRequest};
use crate::routing::Routing;
use crate::seam::{ControlOut, Office};
use crate::ticks::Ticks;
pub(crate) use blocking::CopiesWanted;
use blocking::Waiting;
use dispatch::Depends;
use holdfast_cluster_bus::{NodeId, SlotSet};
use holdfast_engine::types::TypeLimits;
use holdfast_engine::{
    Effects, Engine, EngineConfig, EventClass, Eviction, Reaper, Rng, ValueCodec,
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// The time of a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Now {
    /// By the wall clock, since 1970. May jump.
    pub unix_us: u64,
    /// By the monotonic clock, from any start.
    pub mono_us: u64,
}

impl Now {
    /// Wall clock in milliseconds.
    pub fn unix_ms(self) -> u64 {
        self.unix_us / 1000
    }

    /// Monotonic clock in milliseconds.
    pub fn mono_ms(self) -> u64 {
        self.mono_us / 1000
    }
}

/// What the executor cannot do by itself and asks its driver for. The simulator has its own.
pub trait Host: Send {
    /// Stops the executor for a while (`DEBUG SLEEP`).
    fn sleep(&self, time: Duration);

    /// Bytes of memory that the process uses, and that it has resident.
    fn memory(&self) -> (u64, u64);

    /// Bytes of memory that the process uses, asked for before every command where `maxmemory` is set. 0 where it is not known.
    fn used_memory(&self) -> u64 {
        0
    }

    /// Processor time of the process so far, in the system and in itself, in seconds.
    fn cpu_seconds(&self) -> (f64, f64);

    /// Processor time of the calling thread so far, in microseconds. 0 where work takes no time.
    fn thread_cpu_us(&self) -> u64 {
        0
    }

    /// [`Host::cpu_seconds`] of the executor's own thread.
    fn thread_cpu_seconds(&self) -> (f64, f64) {
        (0.0, 0.0)
    }

    /// The clock by which commands are measured.
    fn ticks(&self) -> Ticks {
        Ticks::Still
    }

    /// The operating system's name, and how many bytes of memory the machine has.
    fn machine(&self) -> (String, u64) {
        (std::env::consts::OS.into(), 0)
    }

    /// Whether the new configuration's addresses can be listened on; if not, the directive at fault and why.
    ///
    /// # Errors
    /// They cannot.
    fn can_listen(&self, _old: &Config, _new: &Config) -> Result<(), (&'static str, &'static str)> {
        Ok(())
    }

    /// Tries whether a directory can be used.
    ///
    /// # Errors
    /// It cannot; the text says why as the system does.
    fn can_use_dir(&self, _path: &std::path::Path) -> Result<(), String> {
        Ok(())
    }

    /// Who frees large values elsewhere than in the executor.
    fn reaper(&self) -> Option<Box<dyn Reaper>> {
        None
    }

    /// Begins an RDB file.
    ///
    /// # Errors
    /// It cannot be begun, or this host keeps none.
    fn create_rdb(&self, _request: SaveRequest) -> io::Result<Box<dyn RdbOut>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Begins to read an RDB file.
    ///
    /// # Errors
    /// It cannot be opened, or this host keeps none.
    fn open_rdb(&self, _request: LoadRequest) -> io::Result<Box<dyn RdbIn>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Prints what is wrong with an RDB file that cannot be loaded.
    fn report_rdb(&self, _path: &std::path::Path) {}

    /// Random numbers that differ from run to run.
    fn seed(&self) -> u64;
}

/// Held replies of one connection beyond which its commands wait.
pub const HELD_PER_CONNECTION_MAX: usize = 16 * 1024;

/// How long the peak of a client's replies counts for the size of its buffer.
pub const REPLY_PEAK_MS: u64 = 5000;

/// While a connection waits, so many bytes of its further commands are read ahead at most.
pub const WAITING_QUERY_BYTES_MAX: usize = 1024 * 1024;

/// Whether the process is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// No.
    Running,
    /// No more commands are executed; the control thread finishes its work.
    Stopping,
    /// The driver is to return.
    Done,
}

/// See the module's description.
pub struct Executor {
    /// The configuration.
    pub config: Config,
    /// What the data path needs of it.
    pub settings: Settings,
    /// TLS as configured.
    pub tls: crate::tls::Tls,
    /// The keyspace.
    pub engine: Engine,
    /// This turn's effects.
    pub fx: Effects,
    /// Randomness for commands.
    pub rng: Rng,
    /// Counters.
    pub stats: Stats,
    /// What is measured of commands and turns, and who watches.
    pub observer: Observer,
    /// All commands.
    pub table: &'static Table,
    /// Who listens to what.
    pub channels: Channels,
    /// The slots that the shard's own log gives to it; `None` where there is no such log.
    pub owned_slots: Option<SlotSet>,
    /// Slots whose writes wait: they are about to be handed over. After a change call [`Executor::retry_parked`].
    pub paused_slots: Option<SlotSet>,
    /// The snapshot of the shard that is being taken.
    pub(crate) snapshot: Option<ShardSnapshot>,
    /// The clients.
    pub conns: Connections,
    /// Where effects go.
    pub journal: Box<dyn Journal>,
    /// What replies depend on, while they are gated.
    pub gate: Gate,
    /// Whether this node may execute for clients.
    pub office: Office,
    /// Who serves which slot; `None` when this node is not part of a cluster.
    pub routing: Option<Arc<Routing>>,
    /// The queue to the control thread.
    pub control: ControlOut,
    /// The RDB file: what is being saved or loaded.
    pub persist: Persistence,
    /// Who is sent the effects.
    pub followers: Followers,
    /// What the driver does for us.
    pub host: Box<dyn Host>,
    /// The I/O threads, as far as there are any.
    pub io_threads: Option<Box<dyn Fn() -> Vec<IoThreadStats> + Send>>,
    /// The time of this turn.
    pub now: Now,
    /// Bytes of memory in use before the first key.
    pub memory_at_start: u64,
    /// The most bytes of memory in use that were seen at the end of a turn, ten times a second.
    pub memory_peak: u64,
    /// 40 hex digits, another at each start.
    pub run_id: String,
    /// Held replies that were answered by an error, since the start.
    pub held_failed: u64,
    /// The journal gates replies.
    gated: bool,
    /// Touched or ready keys, or keyspace events, are being listed.
    tracking: bool,
    depends: Depends,
    executing_transaction: bool,
    /// What the command under way has written are push messages, which are never suppressed.
    pub(crate) pushed: bool,
    /// Whose command is under way.
    executing: Option<ConnId>,
    /// Messages for that client, which may not come in the midst of its reply.
    self_pushes: Vec<SelfPush>,
    /// Where the reply of the command under way begins in its client's output.
    reply_start: usize,
    watchers: BTreeMap<(u16, Box<[u8]>), BTreeSet<ConnId>>,
    /// What clients have in caches of their own.
    caching: caching::Caching,
    /// What all clients take of memory, as noted; only with `maxmemory-clients`.
    clients_bytes: usize,
    waiting: Waiting,
    started: Now,
    /// Directives that `CONFIG SET` has changed; the driver takes what concerns it.
    pub config_changed: Vec<&'static str>,
    /// Writes to TLS clients are not held up any more; the driver, who takes it, goes on with them.
    pub tls_writes_go_on: bool,
    /// Cleared by `DEBUG SET-ACTIVE-EXPIRE 0`.
    pub(crate) active_expire: bool,
    /// Set by `DEBUG PAUSE-CRON 1`.
    pub(crate) cron_paused: bool,
    /// How long the peak of a client's replies counts for the size of its buffer; `DEBUG REPLYBUFFER`.
    pub(crate) reply_peak_ms: u64,
    /// Cleared by `DEBUG REPLYBUFFER RESIZING 0`.
    pub(crate) resizes_replies: bool,
    /// Set by `DEBUG CLIENT-ENFORCE-REPLY-LIST`: any reply counts as more than a stranger may be owed.
    pub(crate) strangers_get_nothing: bool,
    /// Where the next look at some of the clients begins.
    clients_seen: usize,
    expire_more: bool,
    /// Commands executed until the last look at expiry and freeing.
    commands_seen: u64,
    /// Memory is above `maxmemory`, and there were keys to evict still.
    evict_more: bool,
    pub(crate) defrag: defrag::Defrag,
    unblocked: Vec<ConnId>,
    was_congested: bool,
    pub(crate) dirty: Vec<ConnId>,
    holding: Vec<ConnId>,
    parked: Vec<ConnId>,
    /// Those of them that are being tried again.
    retrying: VecDeque<ConnId>,
    /// `CLIENT PAUSE`
    pause: Option<pause::Pause>,
    /// Streams, links and pauses of slot migrations.
    pub migrate: crate::migrate::exec::ExecMigrations,
    ending: Ending,
    shutdown: Option<shutdown::Pending>,
    /// How long the command under way has slept.
    slept_us: u64,
    next_client_id: u64,
    next_deferred: u64,
    next_cron_ms: u64,
    /// When the last journal entry was made.
    entry_at_ms: u64,
    /// The disk is behind with a save, so that clients wait.
    behind: bool,
}

impl Executor {
    /// An executor without clients and keys.
    ///
    /// # Errors
    /// The configuration names commands that do not exist.
    pub fn new(
        config: Config,
        codec: Box<dyn ValueCodec>,
        control: ControlOut,
        host: Box<dyn Host>,
        now: Now,
    ) -> Result<Executor, &'static str> {
        let settings = Settings::of(&config);
        // Under `durability quorum` nothing is served before the shard's log has spoken.
        let office = match settings.quorum {
            true => Office::Follower { term: 0 },
            false => Office::Standalone,
        };
        // Nor by a node of a cluster before the bus has told who owns what.
        let routing = settings
            .cluster_enabled
            .then(|| Arc::new(Routing::empty(NodeId::from_bytes([0; 20]))));
        let table = match config.renames() {
            [] => Table::shared(),
            renames => Box::leak(Box::new(Table::build(renames)?)),
        };
        let mut rng = Rng::new(host.seed());
        let hash_seed = [rng.next_u64(), rng.next_u64()];
        let run_id = random_id(&mut rng);
        let followers = Followers::new(random_id(&mut rng));
        let mut engine = Engine::new(engine_config(&config, &settings, hash_seed), codec);
        if let Some(reaper) = host.reaper() {
            engine.set_reaper(reaper);
        }
        Ok(Executor {
            tls: Default::default(),
            memory_at_start: host.used_memory(),
            memory_peak: 0,
            engine,
            fx: Effects::new(),
            rng,
            stats: Stats::new(table.entries().len()),
            observer: Observer::new(host.ticks(), &settings.observed),
            table,
            persist: {
                let mut persist = Persistence::default();
                persist.configure(&config);
                persist
            },
            channels: Channels::default(),
            owned_slots: None,
            paused_slots: None,
            snapshot: None,
            settings,
            config,
            followers,
            conns: Connections::default(),
            journal: Box::new(AsyncJournal::default()),
            gate: Gate::default(),
            office,
            routing,
            control,
            host,
            now,
            run_id,
            held_failed: 0,
            gated: false,
            tracking: false,
            depends: Depends::default(),
            executing_transaction: false,
            pushed: false,
            executing: None,
            self_pushes: Vec::new(),
            reply_start: 0,
            watchers: BTreeMap::new(),
            caching: Default::default(),
            clients_bytes: 0,
            waiting: Waiting::default(),
            started: now,
            io_threads: None,
            config_changed: Vec::new(),
            tls_writes_go_on: false,
            active_expire: true,
            cron_paused: false,
            reply_peak_ms: REPLY_PEAK_MS,
            resizes_replies: true,
            strangers_get_nothing: false,
            clients_seen: 0,
            expire_more: false,
            commands_seen: 0,
            evict_more: false,
            defrag: Default::default(),
            unblocked: Vec::new(),
            was_congested: false,
            dirty: Vec::new(),
            holding: Vec::new(),
            parked: Vec::new(),
            retrying: VecDeque::new(),
            pause: None,
            migrate: Default::default(),
            ending: Ending::Running,
            shutdown: None,
            slept_us: 0,
            next_client_id: 1,
            next_deferred: 0,
            next_cron_ms: now.mono_ms(),
            entry_at_ms: 0,
            behind: false,
        })
    }

    /// Puts a journal in place, with what it implies for the engine and the replies. Before the first command, or between turns.
    pub fn set_journal(&mut self, journal: Box<dyn Journal>) {
        self.journal = journal;
        self.gated = self.journal.gates_replies();
        self.fx.set_enabled(self.journal.wants_effects());
        self.fx.reset_stream();
        self.update_tracking();
    }

    /// Puts another engine in place: after losing office, or from a snapshot. What was known of the old one's keys is forgotten.
    /// Returns the old one: dropping it may take long.
    pub fn replace_engine(&mut self, engine: Engine) -> Engine {
        let old = std::mem::replace(&mut self.engine, engine);
        if let Some(reaper) = self.host.reaper() {
            self.engine.set_reaper(reaper);
        }
        if let Some(routing) = &self.routing {
            self.engine.set_slot_run_ends(routing.run_ends());
        }
        self.fx.reset_stream();
        self.gate.clear();
        for c in self.conns.iter_mut() {
            c.watch_broken |= !c.watched.is_empty();
        }
        self.invalidate_replaced();
        old
    }

    /// A fresh, empty engine with the present configuration.
    pub fn empty_engine(&mut self, codec: Box<dyn ValueCodec>) -> Engine {
        let seed = self.engine.config().hash_seed;
        Engine::new(engine_config(&self.config, &self.settings, seed), codec)
    }

    /// The process's start.
    pub fn started(&self) -> Now {
        self.started
    }

    /// How many keys are watched.
    pub(crate) fn watched_keys(&self) -> usize {
        self.watchers.len()
    }

    /// Lists touched and ready keys and keyspace events only while somebody asks for them.
    pub(crate) fn update_tracking(&mut self) {
        let touched = self.gated
            || !self.watchers.is_empty()
            || self.waiting.wants_any_change()
            || self.caching.is_active();
        let ready = !self.waiting.is_empty();
        self.fx.set_track_touched(touched);
        self.fx.set_track_ready(ready);
        let heard = !self.channels.channels.is_empty() || !self.channels.patterns.is_empty();
        let to = EventClass::KEYSPACE.and(EventClass::KEYEVENT);
        let events = match self.settings.events {
            wanted if heard && wanted.meets(to) => wanted,
            _ => EventClass::NONE,
        };
        self.fx.set_wanted_events(events);
        self.tracking = touched || ready || events != EventClass::NONE;
    }

    /// Takes over what has changed in the configuration.
    pub(crate) fn apply_config(&mut self) {
        self.settings = Settings::of(&self.config);
        self.persist.configure(&self.config);
        self.observer.configure(&self.settings.observed);
        self.update_restrictions();
        let new = engine_config(&self.config, &self.settings, self.engine.config().hash_seed);
        let mut codec = crate::persist::dump_codec(&self.config, new.limits);
        codec.0.ignore_checksum = self.persist.ignore_checksums;
        self.engine.set_codec(Box::new(codec));
        *self.engine.config_mut() = new;
        if self.settings.client_bytes_max > 0 {
            self.note_memory_of_all();
        }
        self.update_tracking();
    }

    /// Whether the driver is to return.
    pub fn ending(&self) -> Ending {
        self.ending
    }

    /// Whether the driver should read from clients at all: not while messages to the control thread wait.
    pub fn takes_input(&self) -> bool {
        self.ending == Ending::Running
            && !self.control.is_congested()
            && !self.behind
            && !self.is_serving()
    }

    /// 40 hex digits, others each time.
    pub(crate) fn random_id(&mut self) -> String {
        random_id(&mut self.rng)
    }

    /// Ends the process, or begins to.
    pub(crate) fn set_ending(&mut self, ending: Ending) {
        self.ending = ending;
    }

    /// Tells the driver to look at a connection at the end of this turn.
    pub fn mark_dirty(&mut self, id: ConnId) {
        if let Some(c) = self.conns.get_mut(id)
            && !c.dirty
        {
            c.dirty = true;
            self.dirty.push(id);
        }
    }

    /// Whether connections wait to be looked at.
    pub fn has_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// Connections with something to be written, or to be closed. Some may be gone.
    pub fn take_dirty(&mut self, into: &mut Vec<ConnId>) {
        into.clear();
        std::mem::swap(&mut self.dirty, into);
        for id in into.iter() {
            if let Some(c) = self.conns.get_mut(*id) {
                c.dirty = false;
            }
        }
    }
}

/// 40 hex digits.
fn random_id(rng: &mut Rng) -> String {
    (0..5)
        .map(|_| format!("{:08x}", rng.next_u64() as u32))
        .collect()
}

/// What an I/O thread has done so far.
#[derive(Debug, Clone, Copy)]
pub struct IoThreadStats {
    /// It is given connections.
    pub used: bool,
    /// It is awake.
    pub active: bool,
    /// Its processor time, in microseconds.
    pub cpu_us: u64,
    /// How often it read something.
    pub reads: u64,
    /// How often it wrote something.
    pub writes: u64,
}

/// How the engine is set up by the configuration.
pub fn engine_config(c: &Config, settings: &Settings, hash_seed: [u64; 2]) -> EngineConfig {
    EngineConfig {
        cluster: settings.cluster_enabled,
        databases: settings.databases,
        hash_seed,
        bulk_bytes_max: settings.bulk_bytes_max,
        reply_bytes_max: EngineConfig::default().reply_bytes_max,
        shared_bytes_min: shared_bytes_min(c),
        lazyfree_lazy_expire: c.yes("lazyfree-lazy-expire"),
        lazyfree_lazy_user_del: c.yes("lazyfree-lazy-user-del"),
        lazyfree_lazy_server_del: c.yes("lazyfree-lazy-server-del"),
        hll_sparse_bytes_max: c.size("hll-sparse-max-bytes"),
        eviction: Eviction {
            samples: c.size("maxmemory-samples"),
            lfu_log_factor: u32::try_from(c.int("lfu-log-factor")).unwrap_or(10),
            lfu_decay_minutes: u16::try_from(c.int("lfu-decay-time")).unwrap_or(u16::MAX),
            lazy: c.yes("lazyfree-lazy-eviction"),
            ..Eviction::named(c.get("maxmemory-policy")).unwrap_or_default()
        },
        limits: TypeLimits {
            hash_entries: c.size("hash-max-listpack-entries"),
            hash_value: c.size("hash-max-listpack-value"),
            stream_node_bytes: c.size("stream-node-max-bytes"),
            stream_node_entries: c.size("stream-node-max-entries"),
            list_size: i32::try_from(c.int("list-max-listpack-size")).unwrap_or(-2),
            set_intset_entries: c.size("set-max-intset-entries"),
            set_entries: c.size("set-max-listpack-entries"),
            set_value: c.size("set-max-listpack-value"),
            zset_entries: c.size("zset-max-listpack-entries"),
            zset_value: c.size("zset-max-listpack-value"),
        },
    }
}

/// From how many bytes on strings are sent without a copy.
fn shared_bytes_min(c: &Config) -> usize {
    let threads = c.int("io-threads");
    let all_from = c.int("min-io-threads-avoid-copy-reply");
    if all_from > 0 && threads >= all_from {
        return 0;
    }
    let min = match threads {
        1 => c.size("min-string-size-avoid-copy-reply"),
        _ => c.size("min-string-size-avoid-copy-reply-threaded"),
    };
    if min == 0 { usize::MAX } else { min }
}

impl std::fmt::Debug for Executor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Executor")
            .field("clients", &self.conns.len())
            .finish_non_exhaustive()
    }
}
