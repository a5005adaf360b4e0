//! Where the server is, and connections to it.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use holdfast_resp::reply::{self, Reply};
use socket2::{Domain, SockAddr, Socket, Type};

use crate::Failure;
use crate::tls::{Tls, TlsStream};

/// How long a connection may take to come about, and a command of ours (not of the load) to be answered.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// Host and port.
    Tcp(String, u16),
    /// The path of a Unix socket.
    Unix(PathBuf),
}

impl Address {
    /// `host:port`, `[::1]:port`, `:port`, a port alone (of this machine), or a path with a `/`.
    ///
    /// # Errors
    /// What is wrong, for the user.
    pub fn parse(text: &str) -> Result<Address, String> {
        if text.contains('/') {
            return Ok(Address::Unix(text.into()));
        }
        let (host, port) = text.rsplit_once(':').unwrap_or(("", text));
        let port = port
            .parse()
            .map_err(|_| format!("`{text}` is no address (host:port, or the path of a socket)"))?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let host = if host.is_empty() { "127.0.0.1" } else { host };
        Ok(Address::Tcp(host.to_owned(), port))
    }

    /// Whether the server must be on this machine.
    pub fn is_local(&self) -> bool {
        match self {
            Address::Unix(_) => true,
            Address::Tcp(host, _) => {
                host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
            }
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Address::Tcp(host, port) => write!(f, "{host}:{port}"),
            Address::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

/// A server, and how one introduces oneself to it.
#[derive(Clone, Debug)]
pub struct Target {
    /// Where it is.
    pub address: Address,
    /// For `AUTH`.
    pub user: Option<String>,
    /// For `AUTH`.
    pub password: Option<String>,
    /// For `SELECT`, if it is not 0.
    pub database: u32,
    /// Whether to speak RESP3.
    pub resp3: bool,
    /// How to secure it, if at all.
    pub tls: Option<Tls>,
}

impl Target {
    /// Without a password, database 0, RESP2.
    pub fn plain(address: Address) -> Target {
        Target {
            address,
            user: None,
            password: None,
            database: 0,
            resp3: false,
            tls: None,
        }
    }

    /// The same, elsewhere.
    pub fn at(&self, address: Address) -> Target {
        Target {
            address,
            ..self.clone()
        }
    }

    /// A connection that has introduced itself.
    ///
    /// # Errors
    /// It does not come about, or the server refuses what it is told.
    pub fn connect(&self) -> Result<Link, Failure> {
        let stream = self
            .open()
            .map_err(|e| Failure::new(format!("connecting to {}: {e}", self.address)))?;
        let mut link = Link {
            stream,
            received: Vec::new(),
        };
        let mut introduce = |args: &[&str]| match link.call(args)? {
            Reply::Error(text) => Err(Failure::new(format!(
                "{} to {}: {}",
                args[0],
                self.address,
                String::from_utf8_lossy(&text)
            ))),
            _ => Ok(()),
        };
        let user = self.user.as_deref();
        match &self.password {
            Some(password) if self.resp3 => {
                introduce(&["HELLO", "3", "AUTH", user.unwrap_or("default"), password])?
            }
            Some(password) => match user {
                Some(user) => introduce(&["AUTH", user, password])?,
                None => introduce(&["AUTH", password])?,
            },
            None if self.resp3 => introduce(&["HELLO", "3"])?,
            None => {}
        }
        if self.database != 0 {
            introduce(&["SELECT", &self.database.to_string()])?;
        }
        Ok(link)
    }

    fn open(&self) -> io::Result<Stream> {
        match &self.address {
            Address::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                Ok(Stream::Unix(stream))
            }
            Address::Tcp(host, port) => {
                let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
                for address in (host.as_str(), *port).to_socket_addrs()? {
                    match tcp(address) {
                        Ok(stream) => {
                            return Ok(match &self.tls {
                                None => Stream::Tcp(stream),
                                Some(tls) => Stream::Tls(Box::new(tls.connect(host, stream)?)),
                            });
                        }
                        Err(error) => last = error,
                    }
                }
                Err(last)
            }
        }
    }
}

/// Which of this machine's own addresses to connect from, once the ports of one are used up.
static SOURCE: AtomicU8 = AtomicU8::new(0);

fn tcp(address: SocketAddr) -> io::Result<TcpStream> {
    loop {
        let source = SOURCE.load(Ordering::Relaxed);
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        if source > 0 && address.ip() == Ipv4Addr::LOCALHOST {
            let from = SocketAddr::from((Ipv4Addr::new(127, 0, 0, 1 + source), 0));
            socket.bind(&from.into())?;
        }
        match socket.connect_timeout(&SockAddr::from(address), PATIENCE) {
            Err(error)
                if error.kind() == io::ErrorKind::AddrNotAvailable
                    && address.ip() == Ipv4Addr::LOCALHOST
                    && source < 100 =>
            {
                let next = source + 1;
                // Another thread may have been here already.
                let _ = SOURCE.compare_exchange(source, next, Ordering::Relaxed, Ordering::Relaxed);
            }
            other => {
                other?;
                let stream: TcpStream = socket.into();
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                return Ok(stream);
            }
        }
    }
}

/// A connection's bytes.
#[derive(Debug)]
pub enum Stream {
    /// Plain TCP.
    Tcp(TcpStream),
    /// A Unix socket.
    Unix(UnixStream),
    /// TLS over TCP.
    Tls(Box<TlsStream>),
}

impl Stream {
    /// Makes reading and writing return instead of waiting.
    ///
    /// # Errors
    /// The system's.
    pub fn set_nonblocking(&mut self) -> io::Result<()> {
        match self {
            Stream::Tcp(stream) => stream.set_nonblocking(true),
            Stream::Unix(stream) => stream.set_nonblocking(true),
            Stream::Tls(stream) => stream.set_nonblocking(),
        }
    }

    /// Whether bytes have been taken that are not yet the system's.
    pub fn wants_write(&self) -> bool {
        matches!(self, Stream::Tls(stream) if stream.wants_write())
    }

    /// Whether to read again after less came than there was room for.
    pub fn may_have_more(&self) -> bool {
        matches!(self, Stream::Tls(_))
    }

    /// Has the system forget the connection when it is closed, so that thousands of them do not keep their ports.
    pub fn forget_on_close(&self) {
        let stream = match self {
            Stream::Tcp(stream) => stream,
            Stream::Tls(stream) => stream.socket(),
            Stream::Unix(_) => return,
        };
        let _ = socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO));
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Stream::Tcp(stream) => stream.as_fd(),
            Stream::Unix(stream) => stream.as_fd(),
            Stream::Tls(stream) => stream.as_fd(),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.read(buf),
            Stream::Unix(stream) => stream.read(buf),
            Stream::Tls(stream) => stream.read(buf),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.write(buf),
            Stream::Unix(stream) => stream.write(buf),
            Stream::Tls(stream) => stream.write(buf),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Stream::Tls(stream) => stream.flush(),
            Stream::Tcp(_) | Stream::Unix(_) => Ok(()),
        }
    }
}

/// A connection on which one command at a time is sent and answered.
#[derive(Debug)]
pub struct Link {
    stream: Stream,
    received: Vec<u8>,
}

impl Link {
    /// Sends a command and waits for its reply, which may be an error of the server's.
    ///
    /// # Errors
    /// The connection's.
    pub fn call<A: AsRef<[u8]>>(&mut self, args: &[A]) -> Result<Reply, Failure> {
        let mut out = Vec::new();
        holdfast_resp::write::command(&mut out, args);
        self.exchange(&out)
            .map_err(|e| Failure::new(format!("the connection failed: {e}")))
    }

    fn exchange(&mut self, out: &[u8]) -> io::Result<Reply> {
        self.stream.write_all(out)?;
        self.stream.flush()?;
        let mut chunk = [0; 16 * 1024];
        loop {
            match reply::parse(&self.received) {
                Err(error) => return Err(io::Error::new(io::ErrorKind::InvalidData, error)),
                Ok(Some((Reply::Push(_), taken))) => {
                    self.received.drain(..taken);
                }
                Ok(Some((reply, taken))) => {
                    self.received.drain(..taken);
                    return Ok(reply);
                }
                Ok(None) => {
                    let n = self.stream.read(&mut chunk)?;
                    if n == 0 {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                    self.received.extend_from_slice(&chunk[..n]);
                }
            }
        }
    }

    /// The connection itself, for whoever drives it from here on.
    pub fn into_stream(self) -> Stream {
        self.stream
    }
}

/// Lets this process have at least this many descriptors open, if the system does.
///
/// # Errors
/// It does not; the text says how many can be had.
pub fn allow_descriptors(wanted: u64) -> Result<(), Failure> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|now| now >= wanted) {
        return Ok(());
    }
    let maximum = limit.maximum;
    let raised = |current, maximum| setrlimit(Resource::Nofile, Rlimit { current, maximum });
    if maximum.is_none_or(|most| most >= wanted) && raised(Some(wanted), maximum).is_ok() {
        return Ok(());
    }
    // The superuser may go beyond.
    if raised(Some(wanted), Some(wanted)).is_ok() {
        return Ok(());
    }
    Err(Failure::new(format!(
        "{wanted} open files are needed and {} allowed: raise the limit (ulimit -Hn)",
        maximum.unwrap_or(wanted)
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let tcp = |host: &str, port| Ok(Address::Tcp(host.to_owned(), port));
        assert_eq!(Address::parse("10.0.0.1:7000"), tcp("10.0.0.1", 7000));
        assert_eq!(Address::parse("[::1]:7000"), tcp("::1", 7000));
        assert_eq!(Address::parse("7000"), tcp("127.0.0.1", 7000));
        assert_eq!(Address::parse(":7000"), tcp("127.0.0.1", 7000));
        assert_eq!(Address::parse("./s"), Ok(Address::Unix("./s".into())));
        assert!(Address::parse("host").is_err());
        assert!(Address::parse("host:70000").is_err());
        assert!(Address::parse("[::1]:1").is_ok_and(|a| a.is_local()));
        assert!(Address::parse("10.0.0.1:1").is_ok_and(|a| !a.is_local()));
    }
}
