//! Questions to another node, each on a connection of its own: a command, a reply.

use super::directory::Peer;
use crate::tls::peer::PeerStream;
use crate::tls::{Link, Tls};
use holdfast_resp::{reply::Reply, write};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How long a connection may take to open.
pub const CONNECT_LIMIT: Duration = Duration::from_secs(2);
/// How long an answer may take: it waits for a commit at the other side.
pub const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// The longest answer that is read.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// How nodes authenticate with each other (`primaryuser`, `primaryauth`).
#[derive(Clone, Default)]
pub struct Credentials {
    /// User, if not the default one.
    pub user: Option<String>,
    /// Password; `None` for no authentication.
    pub password: Option<String>,
    /// What their connections are protected by.
    pub tls: Tls,
}

impl PartialEq for Credentials {
    fn eq(&self, other: &Credentials) -> bool {
        (&self.user, &self.password) == (&other.user, &other.password)
    }
}

impl Eq for Credentials {}

impl std::fmt::Debug for Credentials {
    /// Without the password: this ends up in logs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials")
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

impl Credentials {
    /// Appends the `AUTH` command, if one is needed.
    pub fn write(&self, out: &mut Vec<u8>) -> bool {
        let Some(password) = &self.password else {
            return false;
        };
        match &self.user {
            Some(user) => write::command(out, &["AUTH", user, password]),
            None => write::command(out, &["AUTH", password]),
        }
        true
    }
}

/// Opens a connection to a node's clients' port.
///
/// # Errors
/// A text for the user.
pub async fn connect_to(peer: &Peer, tls: &Tls, limit: Duration) -> Result<PeerStream, String> {
    let link = Link::Replication;
    let port = match tls.is_for(link) {
        true => peer.tls_port,
        false => peer.port,
    };
    connect(&peer.host, port, (tls, link), limit).await
}

/// Opens a connection, as connections of its kind are to be.
///
/// # Errors
/// A text for the user.
pub async fn connect(
    host: &str,
    port: u16,
    (tls, link): (&Tls, Link),
    limit: Duration,
) -> Result<PeerStream, String> {
    let stream = match tokio::time::timeout(limit, TcpStream::connect((host, port))).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(error.to_string()),
        Err(_) => return Err("timed out".into()),
    };
    // Small messages wait for nobody; a platform that cannot do it is only slower.
    let _ = stream.set_nodelay(true);
    let handshake = tls.connect(link, stream);
    match tokio::time::timeout(limit, handshake).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(format!("TLS: {error}")),
        Err(_) => Err("timed out".into()),
    }
}

/// Reads one reply. `buf` keeps what follows it.
///
/// # Errors
/// A text for the user.
pub async fn read_reply<S: AsyncReadExt + Unpin>(
    stream: &mut S,
    buf: &mut Vec<u8>,
) -> Result<Reply, String> {
    loop {
        match holdfast_resp::reply::parse(buf) {
            Ok(Some((reply, used))) => {
                buf.drain(..used);
                return Ok(reply);
            }
            Ok(None) if buf.len() > ANSWER_BYTES_MAX => return Err("the answer is too long".into()),
            Ok(None) => {}
            Err(error) => return Err(error.to_string()),
        }
        let mut chunk = [0; 4096];
        match stream.read(&mut chunk).await {
            Ok(0) => return Err("connection closed".into()),
            Ok(n) => buf.extend_from_slice(&chunk[..n]),
            Err(error) => return Err(error.to_string()),
        }
    }
}

/// Sends one command to one node and returns its reply.
///
/// # Errors
/// A text: it could not be asked, or authentication failed.
pub async fn call(
    peer: &Peer,
    credentials: &Credentials,
    argv: &[Vec<u8>],
) -> Result<Reply, String> {
    let mut stream = connect_to(peer, &credentials.tls, CONNECT_LIMIT).await?;
    let talk = async {
        let mut out = Vec::new();
        let authenticates = credentials.write(&mut out);
        write::command(&mut out, argv);
        stream.write_all(&out).await.map_err(|e| e.to_string())?;
        stream.flush().await.map_err(|e| e.to_string())?;
        let mut buf = Vec::new();
        if authenticates && let Reply::Error(error) = read_reply(&mut stream, &mut buf).await? {
            return Err(String::from_utf8_lossy(&error).into_owned());
        }
        read_reply(&mut stream, &mut buf).await
    };
    match tokio::time::timeout(ANSWER_LIMIT, talk).await {
        Ok(result) => result,
        Err(_) => Err("no answer in time".into()),
    }
}

/// Sends one command to the nodes of a shard, one after the other, until one of them, its primary, answers.
///
/// # Errors
/// The last node's error: of those that know no better, and of the primary, which refused.
pub async fn call_shard(
    peers: &[Peer],
    credentials: &Credentials,
    argv: &[Vec<u8>],
) -> Result<Reply, String> {
    let mut last = "the shard has no known node".to_string();
    for peer in peers {
        match call(peer, credentials, argv).await {
            Ok(Reply::Error(error)) => last = String::from_utf8_lossy(&error).into_owned(),
            Ok(reply) => return Ok(reply),
            Err(error) => last = error,
        }
    }
    Err(last)
}
