//! What bytes of a client come from and go to.
//!
//! TCP sockets are read and written without the C library, whose functions see to the cancellation of threads first.

use crate::tls::session::TlsStream;
use mio::event::Source;
use mio::net::{TcpStream, UnixStream};
use rustix::buffer::spare_capacity;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use std::cell::RefCell;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

/// Read of TLS at once, at most.
const OPENED_BYTES: usize = 64 << 10;
/// Parts that are written at once, at most.
const PARTS_MAX: usize = 64;
/// What is no longer than this is written as one part: to copy it into memory that is at hand costs less than the system spends on parts that
/// lie apart. Measured with strings of 16 to 256 KiB.
const TOGETHER_BYTES_MAX: usize = 128 << 10;

thread_local! {
    static TOGETHER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Writes the first of these parts, with what follows if it is short: each write makes a record of its own.
fn write_sealed(tls: &mut TlsStream<TcpStream>, parts: &[IoSlice<'_>]) -> io::Result<usize> {
    const SHORT: usize = 16 << 10;
    const ENOUGH: usize = 64 << 10;
    match parts.first() {
        Some(first) if first.len() >= SHORT => tls.write(first),
        _ => TOGETHER.with_borrow_mut(|bytes| {
            bytes.clear();
            for part in parts {
                let room = ENOUGH - bytes.len();
                bytes.extend_from_slice(&part[..part.len().min(room)]);
            }
            tls.write(bytes)
        }),
    }
}

/// A client's socket, which never blocks.
pub(super) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
    /// Its handshake goes on within [`Stream::read`]. Boxed: it is larger than the others by far.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    /// What an epoll watches.
    pub(super) fn source(&mut self) -> &mut dyn Source {
        match self {
            Stream::Tcp(s) => s,
            Stream::Unix(s) => s,
            Stream::Tls(s) => s.socket(),
        }
    }

    /// Reads what is there. Afterwards ask [`Stream::may_have_more`] and [`Stream::take_write_ready`].
    ///
    /// # Errors
    /// As the system's: `WouldBlock` when nothing is there.
    pub(super) fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(s) => Ok(recv(&*s, buf, RecvFlags::empty())?.0),
            Stream::Unix(s) => s.read(buf),
            Stream::Tls(s) => {
                let accepting = s.is_handshaking();
                let result = s.read(buf);
                if accepting
                    && let Err(e) = &result
                    && !matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
                {
                    self.log_failure(e);
                }
                result
            }
        }
    }

    /// Reads what is there to behind the bytes of a buffer, into room that it has, and says how much room that was. Otherwise as
    /// [`Stream::read`].
    ///
    /// # Errors
    /// As [`Stream::read`].
    pub(super) fn read_behind(&mut self, buf: &mut Vec<u8>) -> (io::Result<usize>, usize) {
        let have = buf.len();
        let room = buf.capacity() - have;
        let read = match self {
            Stream::Tcp(s) => recv(&*s, spare_capacity(buf), RecvFlags::empty()).map(|(n, _)| n),
            Stream::Unix(s) => rustix::io::read(&*s, spare_capacity(buf)),
            Stream::Tls(_) => {
                let room = room.min(OPENED_BYTES);
                buf.resize(have + room, 0);
                let read = self.read(&mut buf[have..]);
                buf.truncate(have + read.as_ref().map_or(0, |n| *n));
                return (read, room);
            }
        };
        (read.map_err(io::Error::from), room)
    }

    /// Writes what there is room for.
    ///
    /// # Errors
    /// As the system's: `WouldBlock` when there is no room.
    pub(super) fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(s) => Ok(send(&*s, buf, SendFlags::NOSIGNAL)?),
            Stream::Unix(s) => s.write(buf),
            Stream::Tls(s) => s.write(buf),
        }
    }

    /// Writes of these parts what there is room for. Beside how much that was: whether there was no room for more, so that an event will say when
    /// there is.
    ///
    /// # Errors
    /// As [`Stream::write`].
    pub(super) fn write_parts<'a>(
        &mut self,
        mut parts: impl Iterator<Item = &'a [u8]>,
    ) -> io::Result<(usize, bool)> {
        let first = parts.next().unwrap_or_default();
        let Some(second) = parts.next() else {
            let n = self.write(first)?;
            return Ok((n, n < first.len() && !self.seals()));
        };
        let mut slices = [IoSlice::new(&[]); PARTS_MAX];
        let mut count = 0;
        let mut offered = 0;
        for part in [first, second].into_iter().chain(parts).take(PARTS_MAX) {
            slices[count] = IoSlice::new(part);
            count += 1;
            offered += part.len();
        }
        let slices = &slices[..count];
        if offered <= TOGETHER_BYTES_MAX {
            return TOGETHER.with_borrow_mut(|bytes| {
                bytes.clear();
                slices.iter().for_each(|part| bytes.extend_from_slice(part));
                let n = self.write(bytes)?;
                Ok((n, n < offered && !self.seals()))
            });
        }
        let n = match self {
            Stream::Tcp(s) => s.write_vectored(slices)?,
            Stream::Unix(s) => s.write_vectored(slices)?,
            Stream::Tls(s) => return Ok((write_sealed(s, slices)?, false)),
        };
        Ok((n, n < offered))
    }

    /// Whether less than all is written although the socket may have room.
    fn seals(&self) -> bool {
        matches!(self, Stream::Tls(_))
    }

    /// Whether another read may give something although no event will say so: `n` bytes came when there was room for `room`.
    pub(super) fn may_have_more(&self, n: usize, room: usize) -> bool {
        match self {
            Stream::Tcp(_) | Stream::Unix(_) => n == room,
            Stream::Tls(s) => s.may_have_more(),
        }
    }

    /// Whether something is to be [flushed](Stream::flush) when the socket is writable, beside what the connection has in its output.
    pub(super) fn wants_write(&self) -> bool {
        match self {
            Stream::Tcp(_) | Stream::Unix(_) => false,
            Stream::Tls(s) => s.wants_write(),
        }
    }

    /// Writes what was taken before and the socket had no room for.
    ///
    /// # Errors
    /// As the system's, but never `WouldBlock`.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        match self {
            Stream::Tcp(_) | Stream::Unix(_) => Ok(()),
            Stream::Tls(s) => s.flush(),
        }
    }

    /// Whether a write that had to wait for the end of the handshake can go on now, although no event will say so. Says it once.
    pub(super) fn take_write_ready(&mut self) -> bool {
        match self {
            Stream::Tcp(_) | Stream::Unix(_) => false,
            Stream::Tls(s) => s.take_write_ready(),
        }
    }

    /// Whether the client has yet to show that it knows how to speak to us, and may not take long about it.
    pub(super) fn is_handshaking(&self) -> bool {
        match self {
            Stream::Tcp(_) | Stream::Unix(_) => false,
            Stream::Tls(s) => s.is_handshaking(),
        }
    }

    /// Logs why a handshake has failed.
    pub(super) fn log_failure(&mut self, reason: &dyn std::fmt::Display) {
        if let Stream::Tls(s) = self {
            let text = |a: io::Result<SocketAddr>| a.map_or("?".into(), |a| a.to_string());
            let (peer, local) = (text(s.socket().peer_addr()), text(s.socket().local_addr()));
            tracing::debug!(
                "Error accepting a client connection: {reason} (addr={peer} laddr={local})"
            );
        }
    }

    /// Sends at once, and finds out about peers that are gone, after so many seconds without a sign of them; 0 is never.
    pub(super) fn set_options(&mut self, keepalive_s: u64, is_local: bool) {
        let s = match self {
            Stream::Tcp(s) => s,
            Stream::Tls(s) => s.socket(),
            Stream::Unix(_) => return,
        };
        // A connection that refuses an option works without it.
        let _ = s.set_nodelay(true);
        if is_local {
            // Nothing is congested on the way to this machine itself. Elsewhere what the system has been told to use is right; here its models
            // of the network and its timers for pacing take processor time, at each packet.
            let _ = socket2::SockRef::from(&*s).set_tcp_congestion(b"reno");
        }
        if keepalive_s > 0 {
            let alive = socket2::TcpKeepalive::new()
                .with_time(Duration::from_secs(keepalive_s))
                .with_interval(Duration::from_secs((keepalive_s / 3).max(1)))
                .with_retries(3);
            let _ = socket2::SockRef::from(&*s).set_tcp_keepalive(&alive);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_connections_of_this_machine_do_without_models_of_the_network() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let congestion = |is_local: Option<bool>| {
            let socket = std::net::TcpStream::connect(address).expect("a connection");
            let mut stream = Stream::Tcp(TcpStream::from_std(socket));
            is_local
                .into_iter()
                .for_each(|is_local| stream.set_options(0, is_local));
            let Stream::Tcp(socket) = stream else {
                panic!("it is TCP");
            };
            let name = socket2::SockRef::from(&socket).tcp_congestion();
            let name = String::from_utf8(name.expect("a name")).expect("text");
            name.trim_end_matches('\0').to_string()
        };
        assert_eq!(congestion(Some(true)), "reno");
        assert_eq!(congestion(Some(false)), congestion(None));
    }
}
