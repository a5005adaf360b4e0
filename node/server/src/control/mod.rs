//! The control thread: bus, log, migrations. It is there only where one of them is.
//!
//! One loop owns the bus, this node's groups and whatever is under way; everything that takes longer than a moment is a
//! task whose outcome comes back to the loop as a [`Completion`].

mod names;
mod requests;
mod settings;
mod truth;
mod watchdog;

pub mod member;
pub mod quorum;

use crate::bus::BusStartError;
use crate::cluster::{AsyncShard, ClusterHost, HostEvent, ShardError, Token};
use crate::config::Config;
use crate::durable::app::{MakeEngine, ShardEvent};
use crate::durable::waiters::Waiters;
use crate::migrate;
use crate::migrate::control::{Migration, MigrationContext};
use crate::migrate::directory::{Directory, SharedDirectory};
use crate::seam::{
    ControlInbox, DeferredToken, ExecutorGone, ExecutorHandle, ToControl, ToExecutor,
};
use crate::tls::Tls;
use holdfast_cluster_bus::{NodeId, ShardId, ShardRole, ShardTruth};
use holdfast_engine::Engine;
use holdfast_raft_log as raft;
use holdfast_raft_log::disk::Disk;
use holdfast_raft_log::{Group, Office, RaftServer};
use holdfast_slot_migration::Applied;
use member::{Context, Member, MemberEvent};
use quorum::{Completion, QuorumShard};
use settings::Settings;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tracing::{info, warn};
use truth::{Spoken, Truth};

/// News of groups, and outcomes of tasks, that wait for the loop.
const EVENTS_MAX: usize = 256;
/// How long a stopping primary tries to hand its office over.
const HANDOVER_LIMIT: Duration = Duration::from_secs(2);

/// An outcome whose part in this process is done.
struct Outcome {
    token: Token,
    result: Result<(), ShardError>,
    renamed: bool,
    left: Vec<raft::ShardId>,
}

/// What the control thread is made of.
pub struct Parts {
    /// The node's configuration.
    pub config: Config,
    /// The executor.
    pub executor: ExecutorHandle,
    /// What the executor says.
    pub inbox: ControlInbox,
    /// The node's disk.
    pub disk: Arc<dyn Disk>,
    /// Makes an empty engine.
    pub make_engine: MakeEngine,
    /// Unix time in milliseconds.
    pub now_ms: Arc<dyn Fn() -> u64 + Send + Sync>,
    /// TLS as configured.
    pub tls: Tls,
}

/// Why the control thread ended before it was told to. The process must end with it.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The bus did not start.
    #[error("{0}")]
    Bus(#[from] BusStartError),
    /// A group did not start.
    #[error("{0}")]
    Member(#[from] member::MemberError),
    /// The Raft server did not start.
    #[error("{0}")]
    Raft(#[from] raft::StartError),
    /// The configuration makes no sense.
    #[error("{0}")]
    Config(String),
    /// Files of the node contradict each other, or one is gone that must not be.
    #[error("{0}")]
    Files(String),
    /// `nodes.conf` cannot be written, or another file cannot be read or written.
    #[error("{0}")]
    Disk(#[from] io::Error),
    /// A group has failed.
    #[error("{0}")]
    Failed(String),
    /// The executor has ended.
    #[error("{0}")]
    Executor(#[from] ExecutorGone),
}

/// Whether a configuration needs the control thread from the start. A node that stands alone gets one with its first `MIGRATE`.
pub fn is_needed(config: &Config) -> bool {
    config.yes("cluster-enabled") || config.get("durability") == "quorum"
}

/// Makes engines with the settings of a configuration.
///
/// `hash_seed` is any number; engines of one process may share it.
pub fn engines(config: &Config, hash_seed: [u64; 2]) -> MakeEngine {
    let config = config.clone();
    Arc::new(move || {
        let settings = crate::config::Settings::of(&config);
        let engine = crate::executor::engine_config(&config, &settings, hash_seed);
        let codec = crate::persist::dump_codec(&config, engine.limits);
        Engine::new(engine, Box::new(codec))
    })
}

/// Starts the control thread.
///
/// # Errors
/// The thread cannot be started.
#[cfg(not(madsim))]
pub fn start(parts: Parts) -> io::Result<()> {
    std::thread::Builder::new()
        .name("control".into())
        .spawn(move || {
            let runtime = match tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
            {
                Ok(runtime) => runtime,
                Err(error) => {
                    tracing::error!("The control thread cannot run: {error}");
                    std::process::abort();
                }
            };
            if let Err(error) = runtime.block_on(run(parts)) {
                tracing::error!("{error}");
                eprintln!("{error}");
                std::process::exit(1);
            }
        })?;
    Ok(())
}

/// The control thread's work, as a task. Returns when the process is to end.
///
/// # Errors
/// See [`ControlError`]; the process must end.
pub async fn run(parts: Parts) -> Result<(), ControlError> {
    let executor = parts.executor.clone();
    match Control::start(parts).await?.serve().await {
        Err(ControlError::Executor(ExecutorGone)) => Ok(()),
        Err(error) => Err(error),
        Ok(()) => {
            // If the executor has gone already, so be it.
            let _ = executor.send(ToExecutor::Exit).await;
            Ok(())
        }
    }
}

struct Control {
    /// As it is now.
    config: Config,
    settings: Settings,
    executor: ExecutorHandle,
    inbox: ControlInbox,
    /// The cluster's part, unless this node stands alone.
    host: Option<ClusterHost>,
    /// Under `durability quorum`.
    context: Option<Context>,
    shard: QuorumShard,
    member: Option<Member>,
    office: Office,
    witness: BTreeMap<raft::ShardId, Group>,
    waiters: Waiters,
    /// Slot migrations, on a data node of a cluster.
    migration: Option<Migration>,
    directory: SharedDirectory,
    /// What `MIGRATE` keeps.
    sockets: Arc<migrate::sockets::Sockets>,
    members: mpsc::Receiver<MemberEvent>,
    completions: mpsc::Receiver<Completion>,
    completed: mpsc::Sender<Completion>,
    truth: Truth,
    /// The first answer that is true of the present office.
    truth_of_office: u64,
    /// Outcomes to be answered once the bus knows what has changed with them, and by which answer it does.
    unanswered: Vec<(u64, Outcome)>,
    /// The executor has not answered for so long.
    silence: mpsc::Receiver<Duration>,
    silence_limit: watchdog::Limit,
    disk: Arc<dyn Disk>,
}

fn raft_node(id: &NodeId) -> Option<raft::NodeId> {
    id.to_bytes().map(raft::NodeId::from_bytes)
}

fn raft_shard(id: &ShardId) -> Option<raft::ShardId> {
    id.to_bytes().map(raft::ShardId::from_bytes)
}

impl Control {
    async fn start(parts: Parts) -> Result<Control, ControlError> {
        let Parts {
            config,
            executor,
            inbox,
            disk,
            make_engine,
            now_ms,
            tls,
        } = parts;
        let mut settings = Settings::of(&config).map_err(ControlError::Config)?;
        settings.credentials.tls = tls.clone();
        let (events, members) = mpsc::channel(EVENTS_MAX);
        let (completed, completions) = mpsc::channel(EVENTS_MAX);
        let limit = u64::try_from(config.int("cluster-node-timeout")).unwrap_or(0);
        let silence_limit = watchdog::Limit::new(limit);
        let (silent, silence) = mpsc::channel(1);
        if settings.cluster && settings.quorum && !settings.witness {
            let watched = watchdog::watch(executor.clone(), silence_limit.clone(), silent);
            tokio::spawn(watched);
        }
        let mut control = Control {
            truth: Truth::new(executor.clone()),
            truth_of_office: 0,
            unanswered: Vec::new(),
            silence,
            silence_limit,
            executor: executor.clone(),
            inbox,
            config: config.clone(),
            host: None,
            context: None,
            shard: QuorumShard::default(),
            member: None,
            office: Office::Follower {
                leader: None,
                term: 0,
            },
            witness: BTreeMap::new(),
            waiters: Waiters::default(),
            migration: None,
            directory: SharedDirectory::default(),
            sockets: Arc::new(migrate::sockets::Sockets::new(tls.clone())),
            members,
            completions,
            completed,
            disk: disk.clone(),
            settings,
        };
        let settings = &control.settings;
        let named = names::read(&*disk, &settings.name_file).await?;
        let had_conf = disk.stat(&settings.nodes_conf).await?.is_some();
        let names = if settings.cluster {
            let id = match &named {
                Some(name) if settings.quorum => Some(NodeId::from_bytes(*name.as_bytes())),
                _ => None,
            };
            let raft_addr = if settings.quorum {
                settings.advertise.as_str()
            } else {
                ""
            };
            let host = ClusterHost::start(
                &config,
                disk.clone(),
                executor.clone(),
                raft_addr,
                id,
                tls.clone(),
            )
            .await?;
            let bus = &host.node.bus;
            let names = (raft_node(&bus.my_id()), raft_shard(&bus.my_shard()));
            control.host = Some(host);
            names
        } else {
            let id = named.unwrap_or_else(|| raft::NodeId::from_bytes(rand::random()));
            (Some(id), None)
        };
        if !control.settings.quorum {
            return Ok(control);
        }
        let settings = &control.settings;
        let me = names.0.ok_or_else(|| {
            ControlError::Files(format!(
                "{}: this node's name is not 40 hexadecimal digits",
                settings.nodes_conf.display()
            ))
        })?;
        let server =
            RaftServer::listen_by(settings.raft_listen, Some(Arc::new(tls.clone()))).await?;
        let context = Context {
            me,
            executor,
            disk: disk.clone(),
            raft_dir: settings.raft_dir.clone(),
            advertise: settings.advertise.clone(),
            server,
            make_engine,
            now_ms,
            tune: settings.tune.clone(),
            events,
        };
        control
            .start_groups(context, named, names.1, had_conf)
            .await?;
        Ok(control)
    }

    /// Starts the groups that this node is in; forms its first one if the node is new.
    async fn start_groups(
        &mut self,
        context: Context,
        named: Option<raft::NodeId>,
        shard: Option<raft::ShardId>,
        had_conf: bool,
    ) -> Result<(), ControlError> {
        let settings = &self.settings;
        let known = context.known_shards().await?;
        // A hard reset that was cut short has written `nodes.conf` and the log under the new name, but not this file.
        let renamed = match settings.witness {
            true => known.is_empty(),
            false => shard.is_some_and(|shard| known.contains(&shard)),
        };
        if let Some(name) = named
            && name != context.me
            && !renamed
        {
            return Err(ControlError::Files(format!(
                "{}: it is of node {name}, but {} says that this is node {}",
                settings.name_file.display(),
                settings.nodes_conf.display(),
                context.me
            )));
        }
        if named.is_none() && had_conf {
            return Err(ControlError::Files(format!(
                "{} names node {}, but its log is gone from {}. A node that has lost its log may not vote again under \
                 its old name: remove {} to start as a new node, join it with CLUSTER MEET and CLUSTER REPLICATE, and \
                 CLUSTER FORGET the old one",
                settings.nodes_conf.display(),
                context.me,
                settings.raft_dir.display(),
                settings.nodes_conf.display()
            )));
        }
        if settings.witness {
            names::write(&*context.disk, &settings.name_file, context.me).await?;
            for shard in known {
                info!("Witness of shard {shard}");
                self.witness
                    .insert(shard, context.start_witness(shard, true).await?);
            }
            self.context = Some(context);
            self.tell_bus(Spoken::default());
            return Ok(());
        }
        let shard = match (shard, known.as_slice()) {
            // The log counts: the bus's file says again what was heard, and may be older.
            (_, [only]) if named.is_some() => *only,
            (Some(shard), _) => shard,
            (None, [only]) => *only,
            (None, []) => raft::ShardId::from_bytes(rand::random()),
            (None, _) => {
                return Err(ControlError::Files(format!(
                    "{}: there are several shards' logs in it",
                    settings.raft_dir.display()
                )));
            }
        };
        if named.is_some() && !known.contains(&shard) {
            return Err(ControlError::Files(format!(
                "{}: the log of shard {shard} is gone. A node that has lost its log may not vote again under its old \
                 name: empty its directory to start as a new node, join it with CLUSTER MEET and CLUSTER REPLICATE, and \
                 CLUSTER FORGET the old one",
                context.dir(shard).display()
            )));
        }
        let member = context.start_member(shard, named.is_some()).await?;
        if !member.group.is_initialized() {
            if named.is_none() {
                member
                    .group
                    .initialize()
                    .await
                    .map_err(member::MemberError::from)?;
            } else {
                info!("Shard {shard} has not taken this node in yet; say CLUSTER REPLICATE again");
            }
        }
        // Last, so that a crash before this line leaves a node that may begin anew.
        names::write(&*context.disk, &settings.name_file, context.me).await?;
        self.member = Some(member);
        self.context = Some(context);
        self.start_migrations().await
    }

    /// Slots move between shards of a cluster. Again after the node has taken another name.
    async fn start_migrations(&mut self) -> Result<(), ControlError> {
        let (Some(host), Some(context)) = (&self.host, &self.context) else {
            return Ok(());
        };
        self.directory.set(Directory::of(&host.node.bus));
        let context = MigrationContext {
            me: holdfast_slot_migration::NodeId(*context.me.as_bytes()),
            executor: self.executor.clone(),
            directory: self.directory.clone(),
            credentials: self.settings.credentials.clone(),
            limits: self.settings.migration_limits,
            log_max: self.settings.migration_log_max,
        };
        self.migration = Some(Migration::start(context).await?);
        Ok(())
    }

    async fn serve(mut self) -> Result<(), ControlError> {
        loop {
            self.settle().await?;
            tokio::select! {
                biased;
                event = self.members.recv(), if self.context.is_some() => {
                    if let Some(event) = event {
                        self.on_member(event).await?;
                    }
                }
                completion = self.completions.recv() => {
                    if let Some(completion) = completion {
                        self.on_completion(completion).await?;
                    }
                }
                answer = self.truth.next() => {
                    let (number, spoken) = answer?;
                    self.on_truth(number, spoken).await?;
                }
                Some(silent) = self.silence.recv() => self.on_silence(silent),
                event = next_host_event(&mut self.host) => {
                    if let Some(host) = &mut self.host {
                        match self.settings.quorum {
                            true => host.on_event(event, &mut self.shard).await,
                            false => host.on_event(event, &mut AsyncShard).await,
                        }
                    }
                }
                message = self.inbox.recv() => match message {
                    None => return Ok(()),
                    Some(ToControl::Shutdown) => {
                        self.shut_down().await;
                        return Ok(());
                    }
                    Some(message) => self.on_message(message).await?,
                },
            }
        }
    }

    async fn on_member(&mut self, event: MemberEvent) -> Result<(), ControlError> {
        let office_changed = matches!(event, MemberEvent::Office(..));
        match event {
            MemberEvent::Failed(why) => return Err(ControlError::Failed(why)),
            MemberEvent::Shard(ShardEvent::Record(record)) => {
                self.waiters.on_applied(&record);
                if let (Ok(Applied::Forgotten(_, given)), Some(host)) =
                    (&record.outcome, &mut self.host)
                {
                    let to = NodeId::from_bytes(given.target_node.0);
                    let slots = given.slots.iter().collect();
                    host.node.bus.hand_over(&slots, &to);
                }
            }
            MemberEvent::Shard(ShardEvent::Replaced) => {}
            MemberEvent::Office(shard, office) => {
                if self
                    .member
                    .as_ref()
                    .is_none_or(|member| member.group.shard() != shard)
                {
                    return Ok(());
                }
                match office {
                    Office::Leader(id) => info!("Leading shard {shard} in term {}", id.term),
                    Office::Follower {
                        leader: Some(leader),
                        term,
                    } => {
                        info!("Following {leader} in shard {shard}, term {term}");
                    }
                    Office::Follower { leader: None, .. } => info!("Shard {shard} has no leader"),
                }
                self.office = office;
                self.shard.leads = matches!(office, Office::Leader(_));
            }
        }
        if self.member.is_some() {
            let number = self.truth.ask();
            if office_changed {
                self.truth_of_office = number;
            }
        }
        Ok(())
    }

    /// The executor has said what the shard's log says.
    async fn on_truth(&mut self, number: u64, spoken: Spoken) -> Result<(), ControlError> {
        let (due, waiting): (Vec<_>, Vec<_>) = std::mem::take(&mut self.unanswered)
            .into_iter()
            .partition(|(wanted, _)| *wanted <= number);
        self.unanswered = waiting;
        for (_, outcome) in &due {
            self.answer(outcome);
        }
        // What it said before the office began may be what only an earlier leader's slots were.
        let shard = self.member.as_ref().map(|member| member.group.shard());
        let ours =
            shard.is_some_and(|shard| spoken.shard.and_then(|s| raft_shard(&s)) == Some(shard));
        if ours && number >= self.truth_of_office {
            self.tell_bus(spoken);
        }
        for (_, outcome) in due {
            self.conclude(outcome).await?;
        }
        Ok(())
    }

    /// The executor stands still: whoever can serve shall have the office.
    fn on_silence(&mut self, silent: Duration) {
        let Some(member) = &self.member else { return };
        let Some(next) = member.successor() else {
            return;
        };
        let group = member.group.clone();
        warn!(
            "No command was executed for {} ms: handing shard {} over to {next}",
            silent.as_millis(),
            group.shard()
        );
        tokio::spawn(async move {
            match group.transfer_to(next).await {
                Ok(()) => info!("Handed the shard over to {next}"),
                Err(error) => warn!("The shard was not handed over to {next}: {error}"),
            }
        });
    }

    fn tell_bus(&mut self, spoken: Spoken) {
        let Some(host) = &mut self.host else { return };
        let node = &mut host.node;
        let shard = match &self.member {
            Some(member) => ShardId::from_bytes(*member.group.shard().as_bytes()),
            None => node.bus.my_shard(),
        };
        let role = match self.office {
            _ if self.settings.witness => ShardRole::Witness,
            Office::Leader(_) => ShardRole::Leader,
            Office::Follower { leader, .. } => ShardRole::Follower {
                leader: leader
                    .filter(|id| !self.member.as_ref().is_some_and(|m| m.is_witness(id)))
                    .map(|id| NodeId::from_bytes(*id.as_bytes())),
            },
        };
        let now = node.now();
        let truth = ShardTruth {
            shard,
            role,
            slots: spoken.owned,
            leaving: spoken.leaving,
        };
        node.bus.set_self(truth, now);
        if role != ShardRole::Witness {
            node.bus
                .set_open_slots(&spoken.migrating, &spoken.importing);
        }
    }

    async fn on_message(&mut self, message: ToControl) -> Result<(), ControlError> {
        let message = match message {
            ToControl::Command {
                token,
                argv,
                client,
            } if argv
                .first()
                .is_some_and(|name| name.eq_ignore_ascii_case(b"migrate")) =>
            {
                let executor = self.executor.clone();
                let sockets = self.sockets.clone();
                let asking = self.settings.cluster;
                tokio::spawn(migrate::command::run(
                    executor, sockets, token, argv, client.db, asking,
                ));
                return Ok(());
            }
            other => other,
        };
        let Some(host) = &mut self.host else {
            if let ToControl::Command { token, .. } = message {
                let bytes = b"-ERR This instance has cluster support disabled\r\n".to_vec();
                reply(&self.executor, token, bytes);
            }
            return Ok(());
        };
        match message {
            ToControl::Command {
                token,
                argv,
                client,
            } => match self.settings.quorum {
                _ if Migration::is_ours(&argv) => match &self.migration {
                    Some(migration) => {
                        self.directory.set(Directory::of(&host.node.bus));
                        migration.command(token, argv, client.proto);
                    }
                    None => {
                        let bytes = match self.settings.witness {
                            true => b"-ERR A witness holds no slots\r\n".to_vec(),
                            false => b"-ERR Slot migration needs 'durability quorum'\r\n".to_vec(),
                        };
                        reply(&self.executor, token, bytes);
                    }
                },
                true => host.on_command(token, argv, client, &mut self.shard).await,
                false => host.on_command(token, argv, client, &mut AsyncShard).await,
            },
            ToControl::Publish {
                channel,
                message,
                sharded,
            } => {
                host.node.bus.publish(sharded, &channel, &message);
            }
            ToControl::Config(changed) => {
                for (name, value) in &changed {
                    // The executor has taken it already.
                    let _ = self.config.force(name, value);
                }
                host.on_config(&self.config);
                self.silence_limit
                    .set(host.node.bus.config().node_timeout_ms);
                let settings = &mut self.settings;
                settings.migration_limits = settings::migration_limits(&self.config);
                settings.migration_log_max = settings::migration_log_max(&self.config);
                if let Some(migration) = &self.migration {
                    migration.set_limits(settings.migration_limits, settings.migration_log_max);
                }
            }
            ToControl::Shutdown => {}
        }
        Ok(())
    }

    /// Starts what was asked for, and carries out what the bus wants.
    async fn settle(&mut self) -> Result<(), ControlError> {
        while let Some((token, request)) = self.shard.queue.pop_front() {
            self.begin(token, request);
        }
        if let Some(host) = &mut self.host {
            let file = &self.settings.nodes_conf;
            let changed = host
                .settle()
                .await
                .map_err(|error| BusStartError::Io(file.clone(), error))?;
            if changed && self.migration.is_some() {
                self.directory.set(Directory::of(&host.node.bus));
            }
            if let (Some(member), Some(replica)) = (&self.member, host.take_failover())
                && let Some(replica) = raft_node(&replica)
            {
                let group = member.group.clone();
                tokio::spawn(async move {
                    match group.transfer_to(replica).await {
                        Ok(()) => info!("Handed the shard over to {replica}"),
                        Err(error) => {
                            warn!("The shard was not handed over to {replica}: {error}")
                        }
                    }
                });
            }
        }
        Ok(())
    }

    fn groups(&self) -> Vec<Group> {
        let data = self.member.iter().map(|member| member.group.clone());
        data.chain(self.witness.values().cloned()).collect()
    }

    async fn on_completion(&mut self, completion: Completion) -> Result<(), ControlError> {
        let Completion {
            token,
            result,
            member,
            witness,
            renamed,
            left,
        } = completion;
        let renamed = renamed.is_some_and(|context| {
            self.context = Some(context);
            true
        });
        for group in witness {
            self.witness.insert(group.shard(), group);
        }
        let exchanged = member.is_some();
        if let Some(member) = member {
            self.office = member.group.office().get();
            self.shard.leads = matches!(self.office, Office::Leader(_));
            self.member = Some(member);
        }
        let outcome = Outcome {
            token,
            result,
            renamed,
            left,
        };
        if self.member.is_some() {
            let number = self.truth.ask();
            if exchanged {
                self.truth_of_office = number;
            }
            self.unanswered.push((number, outcome));
            return Ok(());
        }
        self.answer(&outcome);
        if self.settings.witness {
            self.tell_bus(Spoken::default());
        }
        self.conclude(outcome).await
    }

    /// Has the command layer draw the consequences, and answer.
    fn answer(&mut self, outcome: &Outcome) {
        if let Some(host) = &mut self.host {
            host.complete(outcome.token, outcome.result.clone());
        }
    }

    /// Puts on the disk what an outcome has changed in this process.
    async fn conclude(&mut self, outcome: Outcome) -> Result<(), ControlError> {
        let Outcome { renamed, left, .. } = outcome;
        if renamed || !left.is_empty() {
            // In this order: a crash in between leaves a node that starts, in the shard that `nodes.conf` names.
            self.settle().await?;
        }
        let Some(context) = &self.context else {
            return Ok(());
        };
        if renamed {
            names::write(&*self.disk, &self.settings.name_file, context.me).await?;
        }
        for shard in left {
            quorum::remove(context, shard).await;
        }
        if renamed && !self.settings.witness {
            self.start_migrations().await?;
        }
        Ok(())
    }

    /// Hands the office over if there is somebody to take it, so that the shard need not wait for an election.
    async fn shut_down(&mut self) {
        if let Some(member) = self.member.take() {
            if let Some(next) = member.successor() {
                match tokio::time::timeout(HANDOVER_LIMIT, member.group.transfer_to(next)).await {
                    Ok(Ok(())) => info!("Handed the shard over to {next}"),
                    Ok(Err(error)) => warn!("The shard was not handed over: {error}"),
                    Err(_) => warn!("The shard was not handed over in time"),
                }
            }
            member.stop().await;
        }
        for group in std::mem::take(&mut self.witness).into_values() {
            group.stop().await;
        }
        if let Some(host) = &mut self.host
            && let Err(error) = host.node.save_conf().await
        {
            warn!("error saving the cluster node config: {error}");
        }
    }
}

/// The next event of the cluster's part; never, without one.
async fn next_host_event(host: &mut Option<ClusterHost>) -> HostEvent {
    match host {
        Some(host) => host.next_event().await,
        None => std::future::pending().await,
    }
}

/// Answers a command at once. The executor may be busy, and its queue full: the loop must not wait for it.
fn reply(executor: &ExecutorHandle, token: DeferredToken, bytes: Vec<u8>) {
    let executor = executor.clone();
    tokio::spawn(async move {
        // Without an executor there is no client either.
        let _ = executor.send(ToExecutor::Reply { token, bytes }).await;
    });
}
