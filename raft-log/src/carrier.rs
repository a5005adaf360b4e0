//! What the connections between members are carried by: TCP, or what the process puts around it.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// A stream of bytes both ways.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// A connection between members.
pub enum Carried {
    /// Plain TCP.
    Tcp(TcpStream),
    /// Something else.
    Other(Box<dyn Duplex>),
}

/// A connection that is being made ready.
pub type Carrying = Pin<Box<dyn Future<Output = io::Result<Carried>> + Send>>;

/// Makes connections of plain ones; asked anew for each, so that what it does may change.
pub trait Carrier: Send + Sync {
    /// Of one that another member has opened.
    fn accept(&self, stream: TcpStream) -> Carrying;

    /// Of one that was opened to another member.
    fn connect(&self, stream: TcpStream) -> Carrying;
}

/// A carrier, if there is one; TCP otherwise. The simulator does without.
pub(crate) type MaybeCarrier = Option<Arc<dyn Carrier>>;

macro_rules! each {
    ($self:expr, $stream:ident => $call:expr) => {
        match $self.get_mut() {
            Carried::Tcp($stream) => {
                let $stream = Pin::new($stream);
                $call
            }
            Carried::Other($stream) => {
                let $stream = Pin::new($stream);
                $call
            }
        }
    };
}

impl AsyncRead for Carried {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        each!(self, s => s.poll_read(cx, buf))
    }
}

impl AsyncWrite for Carried {
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

#[cfg(not(madsim))]
pub(crate) use sockets::{Connector, incoming};

#[cfg(not(madsim))]
mod sockets {
    use super::{Carried, Carrier, MaybeCarrier};
    use futures_util::stream::{self, Stream};
    use hyper_util::rt::TokioIo;
    use std::future::Future;
    use std::io;
    use std::net::SocketAddr;
    use std::pin::Pin;
    use std::sync::Arc;
    use std::task::{Context, Poll};
    use std::time::Duration;
    use tokio::net::{TcpListener, TcpStream};
    use tokio::task::JoinSet;
    use tonic::transport::Uri;
    use tonic::transport::server::Connected;

    /// Connections that are being made ready at a time; more wait to be accepted.
    const HANDSHAKES_MAX: usize = 64;
    /// How long making one ready may take.
    const HANDSHAKE_LIMIT: Duration = Duration::from_secs(5);
    /// A pause after an accept that failed (no more file descriptors, say), so that the loop does not spin.
    const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

    impl Connected for Carried {
        type ConnectInfo = ();

        fn connect_info(&self) {}
    }

    /// Connections that members have opened.
    pub(crate) type Incoming = Pin<Box<dyn Stream<Item = io::Result<Carried>> + Send>>;

    struct Accepting {
        listener: TcpListener,
        carrier: MaybeCarrier,
        handshakes: JoinSet<io::Result<Carried>>,
    }

    /// Listens at once.
    pub(crate) fn incoming(
        addr: SocketAddr,
        carrier: MaybeCarrier,
    ) -> io::Result<(SocketAddr, Incoming)> {
        let listener = std::net::TcpListener::bind(addr)?;
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        let addr = listener.local_addr()?;
        let state = Accepting {
            listener,
            carrier,
            handshakes: JoinSet::new(),
        };
        let all = stream::unfold(state, |mut state| async move {
            let next = state.next().await;
            Some((Ok(next), state))
        });
        Ok((addr, Box::pin(all)))
    }

    impl Accepting {
        /// The next connection that is ready. One that makes no progress holds up no other.
        async fn next(&mut self) -> Carried {
            loop {
                let room = self.handshakes.len() < HANDSHAKES_MAX;
                tokio::select! {
                    Some(done) = self.handshakes.join_next() => {
                        if let Ok(Ok(ready)) = done {
                            return ready;
                        }
                    }
                    accepted = self.listener.accept(), if room => match accepted {
                        Ok((stream, peer)) => {
                            // A connection that refuses the option works without it.
                            let _ = stream.set_nodelay(true);
                            let Some(carrier) = &self.carrier else {
                                return Carried::Tcp(stream);
                            };
                            let carrying = carrier.accept(stream);
                            self.handshakes.spawn(async move {
                                let done = tokio::time::timeout(HANDSHAKE_LIMIT, carrying).await;
                                let done = done.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
                                done.inspect_err(|e| {
                                    tracing::debug!("Error accepting a connection to the Raft port from {peer}: {e}");
                                })
                            });
                        }
                        Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
                    }
                }
            }
        }
    }

    /// Opens connections for tonic.
    #[derive(Clone)]
    pub(crate) struct Connector(pub Arc<dyn Carrier>);

    impl tower_service::Service<Uri> for Connector {
        type Response = TokioIo<Carried>;
        type Error = io::Error;
        type Future = Pin<Box<dyn Future<Output = io::Result<TokioIo<Carried>>> + Send>>;

        fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, uri: Uri) -> Self::Future {
            let carrier = self.0.clone();
            Box::pin(async move {
                let host = uri.host().unwrap_or_default();
                // An IPv6 address stands in brackets there, and nowhere else.
                let host = host.trim_start_matches('[').trim_end_matches(']');
                let port = uri.port_u16().unwrap_or_default();
                let stream = TcpStream::connect((host, port)).await?;
                let _ = stream.set_nodelay(true);
                let ready = carrier.connect(stream).await.inspect_err(|e| {
                    tracing::debug!("Error connecting to the Raft port at {host}:{port}: {e}");
                })?;
                Ok(TokioIo::new(ready))
            })
        }
    }
}
