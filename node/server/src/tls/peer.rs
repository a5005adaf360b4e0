//! Connections between nodes, as tasks use them: TCP, or TLS on it.

#[cfg(not(madsim))]
use super::HANDSHAKE_LIMIT;
use super::{Link, Tls};
use holdfast_raft_log::{Carried, Carrier, Carrying};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// A connection to or from another node.
#[derive(Debug)]
pub enum PeerStream {
    /// Plain TCP.
    Tcp(TcpStream),
    /// TLS on TCP.
    #[cfg(not(madsim))]
    Tls(Box<tokio_rustls::TlsStream<TcpStream>>),
}

impl From<TcpStream> for PeerStream {
    fn from(stream: TcpStream) -> PeerStream {
        PeerStream::Tcp(stream)
    }
}

#[cfg(not(madsim))]
impl Tls {
    /// Does the handshake with a node that has connected here, if connections of this kind are TLS.
    ///
    /// # Errors
    /// The handshake failed, or took too long.
    pub async fn accept(&self, link: Link, stream: TcpStream) -> io::Result<PeerStream> {
        if !self.is_for(link) {
            return Ok(PeerStream::Tcp(stream));
        }
        let config = self.accepting(link).ok_or_else(not_configured)?;
        let acceptor = tokio_rustls::TlsAcceptor::from(config);
        let stream = within_limit(acceptor.accept(stream)).await?;
        Ok(PeerStream::Tls(Box::new(stream.into())))
    }

    /// Does the handshake with a node that we have connected to, if connections of this kind are TLS.
    ///
    /// # Errors
    /// The handshake failed, or took too long.
    pub async fn connect(&self, link: Link, stream: TcpStream) -> io::Result<PeerStream> {
        if !self.is_for(link) {
            return Ok(PeerStream::Tcp(stream));
        }
        let config = self.connecting(link).ok_or_else(not_configured)?;
        let name = rustls::pki_types::ServerName::from(stream.peer_addr()?.ip());
        let connector = tokio_rustls::TlsConnector::from(config);
        let stream = within_limit(connector.connect(name, stream)).await?;
        Ok(PeerStream::Tls(Box::new(stream.into())))
    }
}

#[cfg(not(madsim))]
fn not_configured() -> io::Error {
    io::Error::other("TLS between nodes is not configured")
}

#[cfg(not(madsim))]
async fn within_limit<T>(handshake: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    match tokio::time::timeout(HANDSHAKE_LIMIT, handshake).await {
        Ok(result) => result,
        Err(_) => Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "the TLS handshake took too long",
        )),
    }
}

#[cfg(madsim)]
impl Tls {
    /// Plain TCP.
    ///
    /// # Errors
    /// None.
    pub async fn accept(&self, _link: Link, stream: TcpStream) -> io::Result<PeerStream> {
        Ok(PeerStream::Tcp(stream))
    }

    /// Plain TCP.
    ///
    /// # Errors
    /// None.
    pub async fn connect(&self, _link: Link, stream: TcpStream) -> io::Result<PeerStream> {
        Ok(PeerStream::Tcp(stream))
    }
}

impl Carrier for Tls {
    fn accept(&self, stream: TcpStream) -> Carrying {
        let tls = self.clone();
        Box::pin(async move { Ok(carried(tls.accept(Link::Replication, stream).await?)) })
    }

    fn connect(&self, stream: TcpStream) -> Carrying {
        let tls = self.clone();
        Box::pin(async move { Ok(carried(tls.connect(Link::Replication, stream).await?)) })
    }
}

fn carried(stream: PeerStream) -> Carried {
    match stream {
        PeerStream::Tcp(stream) => Carried::Tcp(stream),
        #[cfg(not(madsim))]
        PeerStream::Tls(stream) => Carried::Other(stream),
    }
}

macro_rules! each {
    ($self:expr, $stream:ident => $call:expr) => {
        match $self.get_mut() {
            PeerStream::Tcp($stream) => {
                let $stream = Pin::new($stream);
                $call
            }
            #[cfg(not(madsim))]
            PeerStream::Tls($stream) => {
                let $stream = Pin::new($stream.as_mut());
                $call
            }
        }
    };
}

impl AsyncRead for PeerStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        each!(self, s => s.poll_read(cx, buf))
    }
}

impl AsyncWrite for PeerStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        each!(self, s => s.poll_write(cx, buf))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, s => s.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, s => s.poll_shutdown(cx))
    }
}
