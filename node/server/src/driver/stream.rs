//! What bytes of a client come from and go to.

use mio::event::Source;
use mio::net::{TcpStream, UnixStream};
use std::io::{self, Read, Write};
use std::time::Duration;

/// A client's socket, which never blocks.
pub(super) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    /// What an epoll watches.
    pub(super) fn source(&mut self) -> &mut dyn Source {
        match self {
            Stream::Tcp(s) => s,
            Stream::Unix(s) => s,
        }
    }

    /// Reads what is there.
    ///
    /// # Errors
    /// As the system's: `WouldBlock` when nothing is there.
    pub(super) fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(s) => s.read(buf),
            Stream::Unix(s) => s.read(buf),
        }
    }

    /// Writes what there is room for.
    ///
    /// # Errors
    /// As the system's: `WouldBlock` when there is no room.
    pub(super) fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(s) => s.write(buf),
            Stream::Unix(s) => s.write(buf),
        }
    }

    /// Sends at once, and finds out about peers that are gone, after so many seconds without a sign of them; 0 is never.
    pub(super) fn set_options(&self, keepalive_s: u64) {
        let Stream::Tcp(s) = self else {
            return;
        };
        // A connection that refuses an option works without it.
        let _ = s.set_nodelay(true);
        if keepalive_s > 0 {
            let alive = socket2::TcpKeepalive::new()
                .with_time(Duration::from_secs(keepalive_s))
                .with_interval(Duration::from_secs((keepalive_s / 3).max(1)))
                .with_retries(3);
            let _ = socket2::SockRef::from(s).set_tcp_keepalive(&alive);
        }
    }
}
