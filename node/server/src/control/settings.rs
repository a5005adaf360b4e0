//! What the control thread takes from the configuration.

use crate::config::Config;
use crate::migrate::peer::Credentials;
use holdfast_raft_log::GroupConfig;
use holdfast_slot_migration::Limits;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// The Raft port lies so far above the clients' port unless `raft-port` says otherwise.
const RAFT_PORT_OFFSET: u32 = 20_000;

/// See the module's description.
pub struct Settings {
    /// `cluster-enabled`.
    pub cluster: bool,
    /// `durability quorum`.
    pub quorum: bool,
    /// `witness`.
    pub witness: bool,
    /// `cluster-config-file`.
    pub nodes_conf: PathBuf,
    /// Directory of the groups' directories.
    pub raft_dir: PathBuf,
    /// The file with the name that the logs were written under.
    pub name_file: PathBuf,
    /// Where the Raft server listens.
    pub raft_listen: SocketAddr,
    /// Where others reach it.
    pub advertise: String,
    /// Puts the configuration's figures into a group's settings.
    pub tune: Arc<dyn Fn(&mut GroupConfig) + Send + Sync>,
    /// How nodes authenticate with each other's clients' ports.
    pub credentials: Credentials,
    /// Limits of slot migrations.
    pub migration_limits: Limits,
    /// Finished slot migrations that are shown.
    pub migration_log_max: usize,
}

/// Limits of slot migrations. A figure for `slot-migration-max-failover-repl-bytes` below the built-in one counts as
/// that: with none at all, constant writes would put the end off for ever.
pub fn migration_limits(config: &Config) -> Limits {
    let default = Limits::default();
    let lag = config.int("slot-migration-max-failover-repl-bytes");
    Limits {
        pause_timeout_ms: milliseconds(config, "cluster-manual-failover-timeout").max(1),
        silence_timeout_ms: milliseconds(config, "repl-timeout").max(1) * 1000,
        pause_lag_bytes: match u64::try_from(lag) {
            Ok(lag) => lag.clamp(default.pause_lag_bytes, default.pause_lag_bytes_max),
            Err(_) => default.pause_lag_bytes_max,
        },
        ..default
    }
}

/// How many finished slot migrations are shown.
pub fn migration_log_max(config: &Config) -> usize {
    config.size("cluster-slot-migration-log-max-len")
}

fn port(config: &Config, name: &str) -> u16 {
    // The configuration has checked the range.
    u16::try_from(config.int(name)).unwrap_or(0)
}

fn derived(config: &Config, name: &str, offset: u32) -> Result<u16, String> {
    match port(config, name) {
        0 => {
            let base = u32::from(crate::cluster::base_port(config));
            u16::try_from(base + offset).map_err(|_| {
                format!("port {base} leaves no room for a port {offset} above it: set '{name}'")
            })
        }
        given => Ok(given),
    }
}

fn milliseconds(config: &Config, name: &str) -> u64 {
    u64::try_from(config.int(name)).unwrap_or(0)
}

impl Settings {
    /// Reads the configuration.
    ///
    /// # Errors
    /// Directives that contradict each other, in words.
    pub fn of(config: &Config) -> Result<Settings, String> {
        let cluster = config.yes("cluster-enabled");
        let quorum = config.get("durability") == "quorum";
        let witness = config.yes("witness");
        if witness && !(cluster && quorum) {
            return Err("'witness yes' needs 'cluster-enabled yes' and 'durability quorum'".into());
        }
        let bind: Vec<String> = config
            .get("bind")
            .split_whitespace()
            .map(str::to_owned)
            .collect();
        let raft_port = derived(config, "raft-port", RAFT_PORT_OFFSET);
        let raft_port = if quorum { raft_port? } else { 0 };
        let concrete = bind.iter().find_map(|address| {
            address
                .trim_start_matches('-')
                .parse::<IpAddr>()
                .ok()
                .filter(|ip| !ip.is_unspecified())
        });
        let announced = [
            config.get("raft-announce-ip"),
            config.get("cluster-announce-ip"),
        ]
        .into_iter()
        .find(|host| !host.is_empty());
        let host = match announced {
            Some(host) => host.to_owned(),
            None => concrete
                .unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
                .to_string(),
        };
        let announced_port = match port(config, "raft-announce-port") {
            0 => raft_port,
            given => given,
        };
        let advertise = match host.parse::<IpAddr>() {
            Ok(ip) => SocketAddr::new(ip, announced_port).to_string(),
            Err(_) => format!("{host}:{announced_port}"),
        };
        let listen_ip = match bind.len() {
            1 => concrete.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
            _ => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        };
        let election = Duration::from_millis(milliseconds(config, "raft-election-timeout"));
        let segment = config.size("raft-segment-bytes") as u64;
        let log_max = config.size("raft-log-max-bytes") as u64;
        let tune = move |group: &mut GroupConfig| {
            group.election_max = election;
            group.election_min = election / 2;
            // An answer that takes longer than this renews no lease: as long as a few of them fit.
            group.heartbeat = (election / 5).max(Duration::from_millis(10));
            group.lease_margin = election / 6;
            group.segment_bytes = segment;
            group.log_bytes_max = log_max;
            group.log_bytes_keep = (log_max / 4).min(group.log_bytes_keep);
        };
        let text = |name: &str| Some(config.get(name).to_owned()).filter(|text| !text.is_empty());
        let credentials = Credentials {
            user: text("primaryuser"),
            password: text("primaryauth"),
            ..Credentials::default()
        };
        let raft_dir = config.path("raft");
        Ok(Settings {
            cluster,
            quorum,
            witness,
            nodes_conf: config.path(config.get("cluster-config-file")),
            name_file: raft_dir.join("node"),
            raft_dir,
            raft_listen: SocketAddr::new(listen_ip, raft_port),
            advertise,
            tune: Arc::new(tune),
            credentials,
            migration_limits: migration_limits(config),
            migration_log_max: migration_log_max(config),
        })
    }
}
