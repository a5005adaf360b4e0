//! TLS for clients, the cluster bus, the shards' logs and what goes out (`MIGRATE`, slot migrations), with rustls.
//!
//! [`Tls`] is a handle on what the configuration says at the moment: whoever accepts or opens a connection asks it, so that
//! new certificates hold for new connections and old connections go on as they are. Made from the configuration as a whole
//! ([`Tls::prepare`]) before a change is accepted; what cannot be made leaves everything as it was.
//!
//! Clients' connections are driven by [`session::Session`], without blocking and without a buffer of their own while they are idle; those between
//! nodes are tasks, and use tokio-rustls ([`peer`]). In the simulator there is no TLS: its network has no eavesdroppers.

pub mod peer;

#[cfg(not(madsim))]
mod certificate;
#[cfg(not(madsim))]
mod ciphers;
#[cfg(not(madsim))]
mod context;
#[cfg(not(madsim))]
mod files;
#[cfg(not(madsim))]
mod reload;
#[cfg(not(madsim))]
pub mod session;
#[cfg(not(madsim))]
mod verify;

#[cfg(madsim)]
mod absent;
#[cfg(madsim)]
pub use absent::{Prepared, Tls};

#[cfg(not(madsim))]
pub use handle::{Prepared, Tls};

use std::time::Duration;

/// A handshake that takes longer is given up.
pub const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);

/// What a connection between nodes is for: each has a directive of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// The cluster bus, and `MIGRATE` (`tls-cluster`).
    Cluster,
    /// A shard's log, and slots on their way (`tls-replication`).
    Replication,
}

/// What `INFO tls` says of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateInfo {
    /// Unix time in seconds at which it expires.
    pub expires_s: i64,
    /// Its serial number, in hexadecimal.
    pub serial: String,
}

/// What `INFO tls` says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsInfo {
    /// `tls-cert-file`.
    pub server: Option<CertificateInfo>,
    /// `tls-client-cert-file`.
    pub client: Option<CertificateInfo>,
    /// Of the certificates of `tls-ca-cert-file` and `tls-ca-cert-dir`, the one that expires first.
    pub ca: Option<CertificateInfo>,
}

#[cfg(not(madsim))]
mod handle {
    use super::context::{Contexts, Problem};
    use super::reload::{Reload, Stamps};
    use super::{Link, TlsInfo};
    use crate::config::Config;
    use rustls::{ClientConfig, ServerConfig};
    use std::fmt;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::{Arc, Mutex, PoisonError, RwLock};

    #[derive(Default)]
    struct State {
        contexts: Option<Arc<Contexts>>,
        /// How the files looked that they were made from.
        stamps: Stamps,
        /// Counts what was put in force.
        generation: u64,
        cluster: bool,
        replication: bool,
    }

    #[derive(Default)]
    pub(super) struct Shared {
        state: RwLock<State>,
        pub(super) reload: Mutex<Reload>,
        /// Writes to clients are held up.
        held: Arc<AtomicBool>,
    }

    /// The configuration of TLS as it is now; clones are the same one.
    #[derive(Clone, Default)]
    pub struct Tls(pub(super) Arc<Shared>);

    impl fmt::Debug for Tls {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("Tls")
        }
    }

    impl State {
        fn replace(&mut self, prepared: Prepared) {
            let generation = self.generation + 1;
            *self = State {
                generation,
                ..prepared.0
            };
        }
    }

    /// What [`Tls::put`] will put in force.
    pub struct Prepared(State);

    impl fmt::Debug for Prepared {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("Prepared")
        }
    }

    impl Tls {
        /// Whether a configuration uses TLS at all.
        pub fn is_wanted(config: &Config) -> bool {
            config.int("tls-port") != 0
                || config.yes("tls-cluster")
                || config.yes("tls-replication")
        }

        /// Reads the files that a configuration names and checks everything. What is not as it should be but does not matter is logged.
        ///
        /// # Errors
        /// The reason, for the log.
        pub fn prepare(config: &Config) -> Result<Prepared, String> {
            let mut state = State {
                cluster: config.yes("tls-cluster"),
                replication: config.yes("tls-replication"),
                ..State::default()
            };
            if Tls::is_wanted(config) {
                // What changes while it is read is to be seen as changed.
                state.stamps = Stamps::of(config);
                let contexts = Contexts::of(config).map_err(|Problem(text)| text)?;
                state.contexts = Some(Arc::new(contexts));
            }
            Ok(Prepared(state))
        }

        /// From now on new connections go by this.
        pub fn put(&self, prepared: Prepared) {
            self.with_mut(|state| state.replace(prepared));
        }

        /// The same, unless something else was put in force meanwhile.
        pub(super) fn put_over(&self, generation: u64, prepared: Prepared) -> bool {
            self.with_mut(|state| {
                let is_same = state.generation == generation;
                if is_same {
                    state.replace(prepared);
                }
                is_same
            })
        }

        /// How the files in force looked, and which generation that is.
        pub(super) fn stamps(&self) -> (Stamps, u64) {
            self.with(|state| (state.stamps.clone(), state.generation))
        }

        fn with<T>(&self, look: impl FnOnce(&State) -> T) -> T {
            look(&self.0.state.read().unwrap_or_else(PoisonError::into_inner))
        }

        fn with_mut<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
            change(&mut self.0.state.write().unwrap_or_else(PoisonError::into_inner))
        }

        /// For clients that connect to `tls-port`. `None` if there is no TLS.
        pub fn for_clients(&self) -> Option<Arc<ServerConfig>> {
            self.with(|s| s.contexts.as_ref().map(|c| c.clients.clone()))
        }

        /// Has the sockets of all clients count as full for what is written, or no more (`DEBUG FORCE-TLS-WRITE-ERROR`).
        pub fn hold_writes(&self, on: bool) {
            self.0.held.store(on, Ordering::Relaxed);
        }

        /// What says whether writes are held up, for a client's connection.
        pub fn held(&self) -> Arc<AtomicBool> {
            self.0.held.clone()
        }

        /// Whether connections of this kind are to be TLS.
        pub fn is_for(&self, link: Link) -> bool {
            self.with(|s| match link {
                Link::Cluster => s.cluster,
                Link::Replication => s.replication,
            })
        }

        /// For other nodes that connect here. `None` if they are to use plain TCP.
        pub(super) fn accepting(&self, link: Link) -> Option<Arc<ServerConfig>> {
            self.is_for(link)
                .then(|| self.with(|s| s.contexts.as_ref().and_then(|c| c.nodes.clone())))?
        }

        /// For connecting to other nodes. `None` if plain TCP is to be used.
        pub(super) fn connecting(&self, link: Link) -> Option<Arc<ClientConfig>> {
            self.is_for(link)
                .then(|| self.with(|s| s.contexts.as_ref().and_then(|c| c.outgoing.clone())))?
        }

        /// What `INFO tls` says.
        pub fn info(&self) -> TlsInfo {
            self.with(|s| {
                s.contexts
                    .as_ref()
                    .map(|c| c.info.clone())
                    .unwrap_or_default()
            })
        }
    }
}
