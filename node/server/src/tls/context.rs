//! From directives and files to what rustls needs.

use super::{TlsInfo, certificate, ciphers, files, verify};
use crate::config::Config;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, StoresServerSessions, WebPkiClientVerifier};
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};
use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Why TLS cannot be had as configured, for the log.
#[derive(Debug)]
pub(super) struct Problem(pub String);

impl Problem {
    fn of(what: &str) -> impl FnOnce(rustls::Error) -> Problem {
        move |e| Problem(format!("{what}: {e}"))
    }
}

/// Everything that new connections need.
pub(super) struct Contexts {
    pub clients: Arc<ServerConfig>,
    /// For nodes that connect here: they must show a certificate. `None` if no authority is configured.
    pub nodes: Option<Arc<ServerConfig>>,
    /// For connecting to nodes. `None` if no authority is configured.
    pub outgoing: Option<Arc<ClientConfig>>,
    pub info: TlsInfo,
}

/// Who proves with what who it is.
struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

fn path(config: &Config, name: &str) -> Option<PathBuf> {
    Some(config.get(name))
        .filter(|p| !p.is_empty())
        .map(|p| config.path(p))
}

fn identity(config: &Config, cert: &str, key: &str, pass: &str) -> Result<Identity, Problem> {
    let missing = |name: &str| Problem(format!("No {name} configured!"));
    let cert = path(config, cert).ok_or_else(|| missing(cert))?;
    let key = path(config, key).ok_or_else(|| missing(key))?;
    Ok(Identity {
        chain: files::certificates(&cert, "certificate")?,
        key: files::key(&key, config.get(pass))?,
    })
}

/// What is asked of whoever connects.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ask {
    Nothing,
    /// A certificate that is shown must be good.
    Optional,
    Certificate,
}

/// What all contexts have in common.
struct Base<'a> {
    config: &'a Config,
    provider: Arc<CryptoProvider>,
    protocols: Vec<&'static SupportedProtocolVersion>,
    roots: Option<Arc<RootCertStore>>,
}

impl Base<'_> {
    fn server(&self, identity: &Identity, ask: Ask) -> Result<Arc<ServerConfig>, Problem> {
        let builder = ServerConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&self.protocols)
            .map_err(Problem::of("Failed to configure protocols and ciphers"))?;
        let builder = match (&self.roots, ask) {
            (Some(roots), Ask::Optional | Ask::Certificate) => {
                let mut verifier = WebPkiClientVerifier::builder_with_provider(
                    roots.clone(),
                    self.provider.clone(),
                );
                if ask == Ask::Optional {
                    verifier = verifier.allow_unauthenticated();
                }
                let verifier = verifier.build().map_err(|e| {
                    Problem(format!(
                        "Failed to configure CA certificate(s) file/directory: {e}"
                    ))
                })?;
                builder.with_client_cert_verifier(verifier)
            }
            _ => builder.with_no_client_auth(),
        };
        let mut server = builder
            .with_single_cert(identity.chain.clone(), identity.key.clone_key())
            .map_err(Problem::of("Failed to load certificate or private key"))?;
        server.ignore_client_order = self.config.yes("tls-prefer-server-ciphers");
        if self.config.yes("tls-session-caching") {
            // One a connection is what a client needs to resume; it is kept until it is used or too old.
            server.send_tls13_tickets = 1;
            let timeout = self.config.size("tls-session-cache-timeout") as u64;
            server.session_storage = Arc::new(Sessions {
                sessions_max: match self.config.size("tls-session-cache-size") {
                    0 => SESSIONS_MAX,
                    n => n.min(SESSIONS_MAX),
                },
                timeout: Duration::from_secs(timeout),
                kept: Mutex::default(),
            });
        } else {
            server.send_tls13_tickets = 0;
            server.session_storage = Arc::new(NoServerSessionStorage {});
        }
        Ok(Arc::new(server))
    }

    fn outgoing(
        &self,
        identity: &Identity,
        roots: &Arc<RootCertStore>,
    ) -> Result<Arc<ClientConfig>, Problem> {
        let verifier = verify::AnyName::new(roots.clone(), &self.provider);
        let mut client = ClientConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&self.protocols)
            .map_err(Problem::of("Failed to configure protocols and ciphers"))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_auth_cert(identity.chain.clone(), identity.key.clone_key())
            .map_err(Problem::of("Failed to load certificate or private key"))?;
        client.enable_sni = false;
        Ok(Arc::new(client))
    }
}

impl Contexts {
    /// Reads the files and builds everything.
    pub fn of(config: &Config) -> Result<Contexts, Problem> {
        let server = identity(config, "tls-cert-file", "tls-key-file", "tls-key-file-pass")?;
        let (file, dir) = (
            path(config, "tls-ca-cert-file"),
            path(config, "tls-ca-cert-dir"),
        );
        let ask = match config.get("tls-auth-clients") {
            "no" => Ask::Nothing,
            "optional" => Ask::Optional,
            _ => Ask::Certificate,
        };
        let needs_roots =
            ask != Ask::Nothing || config.yes("tls-cluster") || config.yes("tls-replication");
        if needs_roots && file.is_none() && dir.is_none() {
            return Err(Problem(
                "Either tls-ca-cert-file or tls-ca-cert-dir must be specified when tls-cluster, tls-replication or \
                 tls-auth-clients are enabled!"
                    .into(),
            ));
        }
        if !config.get("tls-dh-params-file").is_empty() {
            tracing::warn!(
                "tls-dh-params-file is ignored: keys are exchanged on elliptic curves only"
            );
        }
        let mut provider = rustls::crypto::ring::default_provider();
        provider.cipher_suites = ciphers::suites(
            config.get("tls-ciphers"),
            config.get("tls-ciphersuites"),
            &provider.cipher_suites,
        )?;
        let has_roots = file.is_some() || dir.is_some();
        let authorities = files::authorities(file, dir)?;
        let roots = match has_roots {
            true => Some(Arc::new(files::roots(&authorities)?)),
            false => None,
        };
        let base = Base {
            config,
            provider: Arc::new(provider),
            protocols: ciphers::protocols(config.get("tls-protocols"))?,
            roots,
        };
        let mut info = TlsInfo {
            server: server.chain.first().and_then(certificate::info),
            client: None,
            ca: certificate::first_to_expire(&authorities),
        };
        let given = |name: &str| !config.get(name).is_empty();
        let client = if given("tls-client-cert-file") && given("tls-client-key-file") {
            let client = identity(
                config,
                "tls-client-cert-file",
                "tls-client-key-file",
                "tls-client-key-file-pass",
            )?;
            info.client = client.chain.first().and_then(certificate::info);
            Some(client)
        } else {
            None
        };
        let (nodes, outgoing) = match &base.roots {
            Some(roots) => (
                Some(base.server(&server, Ask::Certificate)?),
                Some(base.outgoing(client.as_ref().unwrap_or(&server), roots)?),
            ),
            None => (None, None),
        };
        Ok(Contexts {
            clients: base.server(&server, ask)?,
            nodes,
            outgoing,
            info,
        })
    }
}

/// Sessions are kept up to this number, whatever `tls-session-cache-size` says: some KiB each, with clients' certificates.
const SESSIONS_MAX: usize = 100_000;

/// Sessions that clients may resume: `tls-session-cache-size` of them, for `tls-session-cache-timeout` seconds.
#[derive(Debug)]
struct Sessions {
    sessions_max: usize,
    timeout: Duration,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    sessions: BTreeMap<Vec<u8>, (Instant, Vec<u8>)>,
    /// In the order in which they came; those that are gone meanwhile are skipped.
    order: VecDeque<(Instant, Vec<u8>)>,
}

impl Sessions {
    fn with<T>(&self, f: impl FnOnce(&mut Kept) -> T) -> T {
        f(&mut self.kept.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn is_fresh(&self, since: Instant) -> bool {
        since.elapsed() <= self.timeout
    }
}

impl StoresServerSessions for Sessions {
    fn put(&self, key: Vec<u8>, value: Vec<u8>) -> bool {
        let now = Instant::now();
        self.with(|kept| {
            kept.order.push_back((now, key.clone()));
            kept.sessions.insert(key, (now, value));
            // Bounded also when sessions are taken as fast as they come.
            while let Some((since, _)) = kept.order.front() {
                if kept.order.len() <= self.sessions_max && self.is_fresh(*since) {
                    break;
                }
                let Some((since, key)) = kept.order.pop_front() else {
                    break;
                };
                if kept.sessions.get(&key).is_some_and(|(at, _)| *at == since) {
                    kept.sessions.remove(&key);
                }
            }
        });
        true
    }

    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        let found = self.with(|kept| kept.sessions.get(key).cloned());
        found
            .filter(|(since, _)| self.is_fresh(*since))
            .map(|(_, value)| value)
    }

    fn take(&self, key: &[u8]) -> Option<Vec<u8>> {
        let found = self.with(|kept| kept.sessions.remove(key));
        found
            .filter(|(since, _)| self.is_fresh(*since))
            .map(|(_, value)| value)
    }

    fn can_cache(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sessions(sessions_max: usize, timeout: Duration) -> Sessions {
        Sessions {
            sessions_max,
            timeout,
            kept: Mutex::default(),
        }
    }

    #[test]
    fn sessions_are_bounded_in_number() {
        let sessions = sessions(3, Duration::from_secs(60));
        for n in 0..10u8 {
            assert!(sessions.put(vec![n], vec![n]));
        }
        assert_eq!(sessions.get(&[6]), None);
        assert_eq!(sessions.get(&[7]), Some(vec![7]));
        assert_eq!(sessions.take(&[9]), Some(vec![9]));
        assert_eq!(sessions.take(&[9]), None);
        sessions.with(|kept| {
            assert_eq!(kept.order.len(), 3);
            assert_eq!(kept.sessions.len(), 2);
        });
    }

    #[test]
    fn sessions_are_forgotten_after_their_time() {
        let sessions = sessions(3, Duration::ZERO);
        sessions.put(vec![1], vec![1]);
        std::thread::sleep(Duration::from_millis(2));
        assert_eq!(sessions.get(&[1]), None);
        sessions.put(vec![2], vec![2]);
        assert!(sessions.with(|kept| kept.sessions.len()) <= 1);
    }
}
