//! What the executor and the control thread say to each other, over bounded queues.
//!
//! The executor never waits: when the queue to the control thread is full, messages stay with it, and
//! it takes no more commands from clients until they are gone ([`ControlOut::is_congested`]). The control thread
//! waits asynchronously for room in the executor's queue ([`ExecutorHandle::send`]).

use crate::config::Config;
use crate::executor::{ConnId, Executor};
use crate::journal::JournalPos;
use crate::routing::Routing;
use bytes::Bytes;
use holdfast_resp::Proto;
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::mpsc;

/// Messages that may wait for the executor.
pub const TO_EXECUTOR_MAX: usize = 1024;
/// Messages that may wait for the control thread.
pub const TO_CONTROL_MAX: usize = 4096;

/// A client that waits for an answer which the control thread will give.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeferredToken {
    /// The connection.
    pub conn: ConnId,
    /// Which of its deferred commands.
    pub seq: u64,
}

/// Whether this node may execute for clients, under `durability quorum`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Office {
    /// No quorum is involved: this node serves what it owns.
    Standalone,
    /// The leader of its shard in this term, with all earlier entries applied.
    Leader {
        /// The term.
        term: u64,
    },
    /// Another node leads, or none: replicated writes come by [`ToExecutor::Task`].
    Follower {
        /// The newest term seen.
        term: u64,
    },
}

/// A function run on the executor, between turns. It can answer by a channel that it owns.
pub type Task = Box<dyn FnOnce(&mut Executor) + Send>;

/// What the executor is told.
pub enum ToExecutor {
    /// The routing table has changed.
    Routing(Arc<Routing>),
    /// The journal is durable up to here.
    Durable {
        /// The position.
        upto: JournalPos,
    },
    /// The office was gained, lost or confirmed.
    Office(Office),
    /// The answer to a [`ToControl::Command`].
    Reply {
        /// Which client.
        token: DeferredToken,
        /// The encoded reply.
        bytes: Vec<u8>,
    },
    /// A message published on another node.
    Publish {
        /// The channel.
        channel: Bytes,
        /// The message.
        message: Bytes,
        /// `SPUBLISH` rather than `PUBLISH`.
        sharded: bool,
    },
    /// Anything else that needs the engine: applying entries, snapshots, migrations.
    Task(Task),
    /// The process was asked to stop (a signal).
    Shutdown,
    /// The control thread has done what it must before the process ends.
    Exit,
}

impl fmt::Debug for ToExecutor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ToExecutor::Routing(_) => "Routing",
            ToExecutor::Durable { .. } => "Durable",
            ToExecutor::Office(_) => "Office",
            ToExecutor::Reply { .. } => "Reply",
            ToExecutor::Publish { .. } => "Publish",
            ToExecutor::Task(_) => "Task",
            ToExecutor::Shutdown => "Shutdown",
            ToExecutor::Exit => "Exit",
        })
    }
}

/// What a command that the control thread answers may want to know of its client.
#[derive(Debug, Clone)]
pub struct ClientInfo {
    /// `CLIENT ID`
    pub id: u64,
    /// Its protocol version.
    pub proto: Proto,
    /// Its selected database.
    pub db: u16,
    /// Where it connects from, if it is a network connection.
    pub peer: Option<SocketAddr>,
    /// No database holds a key.
    pub keyspace_empty: bool,
    /// Keys of the slot that `CLUSTER SETSLOT` names, over all databases; 0 for other commands.
    pub keys_in_slot: u64,
    /// The address that it connected to: what redirections name when a node does not know its own.
    pub local: Option<SocketAddr>,
    /// It uses TLS, and is told of nodes' TLS ports.
    pub tls: bool,
}

/// What the control thread is told.
#[derive(Debug)]
pub enum ToControl {
    /// A command that needs the bus, the log or a migration; answered by [`ToExecutor::Reply`].
    Command {
        /// To be given back.
        token: DeferredToken,
        /// The arguments, the command's name first.
        argv: Vec<Bytes>,
        /// The client.
        client: ClientInfo,
    },
    /// A message was published here: other nodes are to hear of it.
    Publish {
        /// The channel.
        channel: Bytes,
        /// The message.
        message: Bytes,
        /// `SPUBLISH` rather than `PUBLISH`.
        sharded: bool,
    },
    /// Directives that `CONFIG SET` changed, with their new values.
    Config(Vec<(&'static str, String)>),
    /// The process is to end: finish what must be finished, then send [`ToExecutor::Exit`].
    Shutdown,
}

/// How a sleeping executor learns that its queue has something.
#[derive(Clone)]
pub enum Wake {
    /// It waits on the queue itself.
    Channel,
    /// It waits in `epoll`.
    Mio(Arc<mio::Waker>),
}

/// The control thread's end of the executor's queue.
#[derive(Clone)]
pub struct ExecutorHandle {
    tx: mpsc::Sender<ToExecutor>,
    wake: Wake,
    /// A wake-up is under way that the executor has not seen yet.
    woken: Arc<AtomicBool>,
}

impl fmt::Debug for ExecutorHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ExecutorHandle")
    }
}

/// The executor has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExecutorGone;

impl fmt::Display for ExecutorGone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the executor has ended")
    }
}

impl std::error::Error for ExecutorGone {}

impl ExecutorHandle {
    /// Sends a message, waiting for room if there is none.
    ///
    /// # Errors
    /// The executor has ended.
    pub async fn send(&self, message: ToExecutor) -> Result<(), ExecutorGone> {
        self.tx.send(message).await.map_err(|_| ExecutorGone)?;
        self.wake();
        Ok(())
    }

    /// Sends a message if there is room, and gives it back otherwise.
    ///
    /// # Errors
    /// The message, when the queue is full or the executor has ended.
    pub fn try_send(&self, message: ToExecutor) -> Result<(), ToExecutor> {
        self.tx.try_send(message).map_err(|e| match e {
            mpsc::error::TrySendError::Full(m) | mpsc::error::TrySendError::Closed(m) => m,
        })?;
        self.wake();
        Ok(())
    }

    /// Runs a function on the executor and returns what it returns.
    ///
    /// # Errors
    /// The executor has ended.
    pub async fn run<T: Send + 'static>(
        &self,
        f: impl FnOnce(&mut Executor) -> T + Send + 'static,
    ) -> Result<T, ExecutorGone> {
        let (tx, rx) = tokio::sync::oneshot::channel();
        let task: Task = Box::new(move |executor| {
            // Whoever asked may have gone; then nobody wants the answer.
            let _ = tx.send(f(executor));
        });
        self.send(ToExecutor::Task(task)).await?;
        rx.await.map_err(|_| ExecutorGone)
    }

    fn wake(&self) {
        if let Wake::Mio(waker) = &self.wake
            && !self.woken.swap(true, Ordering::AcqRel)
        {
            // It fails only if the executor's epoll is gone, and then nobody needs waking.
            let _ = waker.wake();
        }
    }
}

/// The executor's end of its queue.
pub struct ExecutorInbox {
    rx: mpsc::Receiver<ToExecutor>,
    woken: Arc<AtomicBool>,
}

impl fmt::Debug for ExecutorInbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ExecutorInbox")
    }
}

impl ExecutorInbox {
    /// To be called before the queue is emptied: whoever sends from here on wakes again.
    pub fn on_woken(&mut self) {
        self.woken.store(false, Ordering::Release);
    }

    /// The next message, if one is there.
    pub fn try_next(&mut self) -> Option<ToExecutor> {
        self.rx.try_recv().ok()
    }

    /// The next message; `None` once every handle is gone.
    pub async fn next(&mut self) -> Option<ToExecutor> {
        self.rx.recv().await
    }
}

/// A queue to an executor that is woken by `wake`.
pub fn executor_queue(wake: Wake) -> (ExecutorHandle, ExecutorInbox) {
    let (tx, rx) = mpsc::channel(TO_EXECUTOR_MAX);
    let woken = Arc::new(AtomicBool::new(false));
    (
        ExecutorHandle {
            tx,
            wake,
            woken: woken.clone(),
        },
        ExecutorInbox { rx, woken },
    )
}

/// The control thread's end of its queue.
pub type ControlInbox = mpsc::Receiver<ToControl>;

/// A queue to the control thread.
pub fn control_queue() -> (ControlOut, ControlInbox) {
    let (tx, rx) = mpsc::channel(TO_CONTROL_MAX);
    (
        ControlOut {
            tx: Some(tx),
            ..ControlOut::default()
        },
        rx,
    )
}

/// Starts a control thread, with the configuration as it is then.
pub type StartControl = Box<dyn FnOnce(&Config, ControlInbox) -> io::Result<()> + Send>;

/// The executor's end of the queue to the control thread.
#[derive(Default)]
pub struct ControlOut {
    tx: Option<mpsc::Sender<ToControl>>,
    waiting: VecDeque<ToControl>,
    /// How to start one where there is none yet.
    start: Option<StartControl>,
}

impl fmt::Debug for ControlOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ControlOut")
            .field("present", &self.is_present())
            .field("waiting", &self.waiting)
            .finish_non_exhaustive()
    }
}

impl ControlOut {
    /// Whether there is a control thread at all.
    pub fn is_present(&self) -> bool {
        self.tx.is_some()
    }

    /// No control thread yet; it is started when first needed.
    pub fn to_be_started(start: StartControl) -> ControlOut {
        ControlOut {
            start: Some(start),
            ..ControlOut::default()
        }
    }

    /// Starts the control thread if there is none. Whether there is one now.
    pub fn ensure(&mut self, config: &Config) -> bool {
        if let (None, Some(start)) = (&self.tx, self.start.take()) {
            let (out, inbox) = control_queue();
            match start(config, inbox) {
                Ok(()) => self.tx = out.tx,
                Err(error) => tracing::warn!("The control thread does not start: {error}"),
            }
        }
        self.is_present()
    }

    /// Sends a message, or keeps it until there is room. Dropped only when there is no control thread.
    pub fn send(&mut self, message: ToControl) {
        let Some(tx) = &self.tx else { return };
        if !self.waiting.is_empty() {
            self.waiting.push_back(message);
            return;
        }
        match tx.try_send(message) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(m)) => self.waiting.push_back(m),
            Err(mpsc::error::TrySendError::Closed(_)) => self.tx = None,
        }
    }

    /// Tries again what had to wait. Returns whether nothing waits any more.
    pub fn retry(&mut self) -> bool {
        while let Some(message) = self.waiting.pop_front() {
            let Some(tx) = &self.tx else {
                self.waiting.clear();
                return true;
            };
            match tx.try_send(message) {
                Ok(()) => {}
                Err(mpsc::error::TrySendError::Full(m)) => {
                    self.waiting.push_front(m);
                    return false;
                }
                Err(mpsc::error::TrySendError::Closed(_)) => self.tx = None,
            }
        }
        true
    }

    /// Whether messages wait: no more commands are to be executed then.
    pub fn is_congested(&self) -> bool {
        !self.waiting.is_empty()
    }
}
