//! What is listened on, as the configuration says.

use super::stream::Stream;
use crate::config::Config;
use crate::executor::AcceptInfo;
use crate::process::system_words;
use crate::tls::Tls;
use crate::tls::session::TlsStream;
use mio::event::Source;
use mio::net::{TcpListener, UnixListener};
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::AsRawFd;

/// A socket that clients connect to.
pub(super) enum Listener {
    Tcp(TcpListener),
    /// On `tls-port`, with what says how.
    Tls(TcpListener, Tls),
    /// With its path.
    Unix(UnixListener, String),
}

impl Listener {
    /// What an epoll watches.
    pub(super) fn source(&mut self) -> &mut dyn Source {
        match self {
            Listener::Tcp(l) | Listener::Tls(l, _) => l,
            Listener::Unix(l, _) => l,
        }
    }

    /// The next client, and what is known of it.
    ///
    /// # Errors
    /// There is none, or accepting it failed.
    pub(super) fn accept(&self) -> io::Result<(Stream, AcceptInfo)> {
        match self {
            Listener::Tcp(l) => {
                let (s, peer) = l.accept()?;
                let info = AcceptInfo {
                    peer: Some(plain(peer)),
                    local: s.local_addr().ok().map(plain),
                    fd: s.as_raw_fd(),
                    unix_path: None,
                    tls: false,
                };
                Ok((Stream::Tcp(s), info))
            }
            Listener::Tls(l, tls) => {
                let (s, peer) = l.accept()?;
                let info = AcceptInfo {
                    peer: Some(plain(peer)),
                    local: s.local_addr().ok().map(plain),
                    fd: s.as_raw_fd(),
                    unix_path: None,
                    tls: true,
                };
                // While TLS is being turned off: the listener is about to go, and the client with it.
                let config = tls.for_clients().ok_or(io::ErrorKind::ConnectionAborted)?;
                let s = TlsStream::new(s, config, tls.held()).map_err(io::Error::other)?;
                Ok((Stream::Tls(Box::new(s)), info))
            }
            Listener::Unix(l, path) => {
                let (s, _) = l.accept()?;
                let info = AcceptInfo {
                    fd: s.as_raw_fd(),
                    unix_path: Some(path.clone()),
                    ..AcceptInfo::default()
                };
                Ok((Stream::Unix(s), info))
            }
        }
    }
}

/// Tries whether a new port or new addresses can be listened on, before they are accepted.
///
/// # Errors
/// The directive at fault, and Valkey's words for it.
pub fn can_listen(old: &Config, new: &Config) -> Result<(), (&'static str, &'static str)> {
    let port = |c: &Config, name: &str| u16::try_from(c.int(name)).unwrap_or(0);
    let addresses = |c: &Config| -> Vec<String> {
        c.get("bind")
            .split(' ')
            .filter(|w| !w.is_empty() && !w.starts_with('-'))
            .map(String::from)
            .collect()
    };
    if old.get("bind") != new.get("bind")
        // Their own port may be in use by ourselves: any other tells whether the address is there.
        && addresses(new).iter().any(|host| listen_tcp(host, 0, 1).is_err())
    {
        return Err(("bind", "Failed to bind to specified addresses."));
    }
    for name in ["port", "tls-port"] {
        let wanted = port(new, name);
        // Those that we listen on ourselves will be free.
        if [0, port(old, "port"), port(old, "tls-port")].contains(&wanted) {
            continue;
        }
        if let Some(e) = addresses(new)
            .iter()
            .find_map(|host| listen_tcp(host, wanted, 1).err())
        {
            tracing::warn!("Could not listen on port {wanted} ({name}): {e}");
            return Err((name, "Unable to listen on this port. Check server logs."));
        }
    }
    Ok(())
}

/// Begins to listen.
///
/// # Errors
/// An address cannot be listened on; the text names it.
pub(super) fn listeners(config: &Config, tls: &Tls) -> io::Result<Vec<Listener>> {
    let mut out = Vec::new();
    let backlog = i32::try_from(config.int("tcp-backlog")).unwrap_or(511);
    for (name, kind) in [("port", "tcp"), ("tls-port", "tls")] {
        let port = u16::try_from(config.int(name)).unwrap_or(0);
        if port == 0 {
            continue;
        }
        let before = out.len();
        for word in config.get("bind").split(' ').filter(|w| !w.is_empty()) {
            // A leading minus: an address that this machine may lack.
            let (optional, host) = match word.strip_prefix('-') {
                Some(rest) => (true, rest),
                None => (false, word),
            };
            match listen_tcp(host, port, backlog) {
                Ok(l) if kind == "tls" => out.push(Listener::Tls(l, tls.clone())),
                Ok(l) => out.push(Listener::Tcp(l)),
                Err(e) if optional && is_absent(&e) => {}
                Err(e) => {
                    let reason = match e.raw_os_error() {
                        Some(_) => format!("bind: {}", system_words(&e)),
                        None => e.to_string(),
                    };
                    let text = format!(
                        "Could not create server TCP listening socket {host}:{port}: {reason}"
                    );
                    tracing::warn!("Warning: {text}");
                    let text = format!("Failed listening on port {port} ({kind}), aborting.");
                    return Err(io::Error::new(e.kind(), text));
                }
            }
        }
        // Without any address, a Unix socket is what is left.
        if out.len() == before && !config.get("bind").is_empty() {
            return Err(io::Error::other(format!(
                "Failed listening on port {port} ({kind}), aborting."
            )));
        }
    }
    let path = config.get("unixsocket");
    if !path.is_empty() {
        let path = config.path(path);
        // One that a dead process left behind would be in the way.
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path)?;
        let group = config.get("unixsocketgroup");
        if !group.is_empty() {
            std::os::unix::fs::chown(&path, None, Some(group_id(group)?))?;
        }
        let perm = u32::from_str_radix(config.get("unixsocketperm"), 8).unwrap_or(0);
        if perm != 0 {
            use std::os::unix::fs::PermissionsExt;
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(perm))?;
        }
        out.push(Listener::Unix(
            listener,
            path.to_string_lossy().into_owned(),
        ));
    }
    Ok(out)
}

/// The number of a group, as `/etc/group` says.
fn group_id(name: &str) -> io::Result<u32> {
    let groups = std::fs::read_to_string("/etc/group")?;
    let found = groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok())?
    });
    found.ok_or_else(|| io::Error::other(format!("Failed to resolve group id for group '{name}'")))
}

/// This machine has no such address, or no such kind of address.
fn is_absent(e: &io::Error) -> bool {
    const EAFNOSUPPORT: i32 = 97;
    matches!(
        e.kind(),
        io::ErrorKind::AddrNotAvailable | io::ErrorKind::Unsupported
    ) || e.raw_os_error() == Some(EAFNOSUPPORT)
}

/// The first address of a host.
fn resolve(name: &str, port: u16) -> io::Result<SocketAddr> {
    // Without what the standard library puts in front of it.
    let unknown = || io::Error::other("Name or service not known");
    match (name, port).to_socket_addrs() {
        Ok(mut all) => all.next().ok_or_else(unknown),
        Err(e) => Err(e
            .to_string()
            .rsplit_once(": ")
            .map_or_else(unknown, |(_, words)| io::Error::other(words.to_string()))),
    }
}

fn listen_tcp(host: &str, port: u16, backlog: i32) -> io::Result<TcpListener> {
    let address: SocketAddr = match host {
        "*" => ([0, 0, 0, 0], port).into(),
        "::*" => ([0u16; 8], port).into(),
        name => resolve(name, port)?,
    };
    let domain = socket2::Domain::for_address(address);
    let socket = socket2::Socket::new(domain, socket2::Type::STREAM, Some(socket2::Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(backlog)?;
    Ok(TcpListener::from_std(socket.into()))
}
/// An IPv4 client of an IPv6 socket is shown as what it is.
fn plain(a: SocketAddr) -> SocketAddr {
    SocketAddr::new(a.ip().to_canonical(), a.port())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn a_unix_socket_has_the_group_that_is_asked_for() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("socket");
        let mut config = Config::default();
        let mut set = |name: &str, value: &str| {
            config.force(name, value).expect("set");
            config.clone()
        };
        set("port", "0");
        set("unixsocket", &path.to_string_lossy());
        let config = set("unixsocketgroup", "no such group");
        let refused = listeners(&config, &Tls::default()).err().expect("refused");
        assert!(refused.to_string().contains("'no such group'"), "{refused}");
        // Root may give a file to any group, others to their own.
        let meta = std::fs::metadata(dir.path()).expect("there");
        let groups = std::fs::read_to_string("/etc/group").expect("read");
        let group = groups.lines().find_map(|line| {
            let (name, gid) = (
                line.split(':').next()?,
                line.split(':').nth(2)?.parse().ok()?,
            );
            let fits = if meta.uid() == 0 {
                gid != 0
            } else {
                gid == meta.gid()
            };
            fits.then(|| (name.to_string(), gid))
        });
        if let Some((name, gid)) = group {
            let config = set("unixsocketgroup", &name);
            listeners(&config, &Tls::default()).expect("listening");
            assert_eq!(std::fs::metadata(&path).expect("there").gid(), gid);
        }
    }
}
