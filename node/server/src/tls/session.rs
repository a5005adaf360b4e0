//! A client's TLS connection, without blocking: what the drivers read from and write to.
//!
//! Sealed bytes are read into a buffer of the thread's, opened there, and handed on; what is sealed for the client is written from
//! another buffer of the thread's. A connection keeps only what is cut off: the beginning of a record whose rest has not come,
//! or records that the socket has not taken. An idle one keeps nothing but rustls' own state.
//!
//! The handshake goes on within [`TlsStream::read`], and sends its answers there.

use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus};
use rustls::{Error, InvalidMessage, ServerConfig};
use std::cell::RefCell;
use std::io::{self, ErrorKind, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Read from the socket at once, at most: a few records of the largest size.
const READ_BYTES: usize = 80 << 10;
/// Sealed at once: four records of the largest size.
const SEAL_BYTES: usize = 64 << 10;
/// What a record adds to its content, at most; and room for a key update in front of it.
const OVERHEAD_BYTES: usize = 1 << 10;
/// What a handshake may want to send while the client does not read, at most.
const OUTGOING_BYTES_MAX: usize = 256 << 10;

thread_local! {
    static READ: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_BYTES]);
    static SEALED: RefCell<Vec<u8>> = RefCell::new(vec![0; SEAL_BYTES + OVERHEAD_BYTES]);
}

/// A connection with TLS on a socket that does not block.
pub struct TlsStream<S: Read + Write> {
    socket: S,
    tls: UnbufferedServerConnection,
    /// The beginning of a record.
    incoming: Vec<u8>,
    /// Sealed, and not taken by the socket from `sent` on.
    outgoing: Vec<u8>,
    sent: usize,
    /// Opened, and not taken by the reader from `taken` on: only where its buffer was too small.
    opened: Vec<u8>,
    taken: usize,
    /// The socket had no more at the last reading.
    drained: bool,
    /// The client has said that it sends no more.
    peer_closed: bool,
    /// A write came before the handshake had ended.
    write_waits: bool,
    /// It was not TLS, or not to be trusted: rustls is asked nothing more.
    failed: bool,
    /// While this is set, the socket counts as full for what is written.
    held: Arc<AtomicBool>,
}

impl<S: Read + Write> std::fmt::Debug for TlsStream<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TlsStream")
    }
}

fn broken(e: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, e)
}

/// What came of a look at the connection's state.
enum Step {
    /// Go on with the rest of what has come.
    Again,
    /// Nothing more to do with what has come.
    Rest,
}

impl<S: Read + Write> TlsStream<S> {
    /// A connection whose handshake has not begun. While `held` is set, its socket counts as full for what is written.
    ///
    /// # Errors
    /// rustls does not like its configuration.
    pub fn new(
        socket: S,
        config: Arc<ServerConfig>,
        held: Arc<AtomicBool>,
    ) -> Result<TlsStream<S>, Error> {
        Ok(TlsStream {
            socket,
            tls: UnbufferedServerConnection::new(config)?,
            incoming: Vec::new(),
            outgoing: Vec::new(),
            sent: 0,
            opened: Vec::new(),
            taken: 0,
            drained: false,
            peer_closed: false,
            write_waits: false,
            failed: false,
            held,
        })
    }

    /// The socket, to be registered.
    pub fn socket(&mut self) -> &mut S {
        &mut self.socket
    }

    /// Whether the handshake is still under way.
    pub fn is_handshaking(&self) -> bool {
        self.tls.is_handshaking()
    }

    /// Whether there are sealed bytes that the socket has not taken: to be [flushed](TlsStream::flush) when it is writable.
    pub fn wants_write(&self) -> bool {
        self.sent < self.outgoing.len()
    }

    /// Whether another read may give something although the socket will not be reported readable again.
    pub fn may_have_more(&self) -> bool {
        !self.drained || self.taken < self.opened.len()
    }

    /// Whether a write that was put off can go on now; says so once.
    pub fn take_write_ready(&mut self) -> bool {
        !self.is_handshaking() && std::mem::take(&mut self.write_waits)
    }

    /// Reads what the client has sent; 0 is its end. Reads from the socket once, unless nothing for the reader came of it.
    ///
    /// # Errors
    /// `WouldBlock`; what the socket says; `InvalidData`: not TLS, or not to be trusted. An end without notice is `UnexpectedEof`
    /// while the handshake is under way.
    pub fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.failed {
            return Err(ErrorKind::InvalidData.into());
        }
        if self.taken < self.opened.len() {
            return Ok(self.take_opened(buf));
        }
        if buf.is_empty() {
            return Ok(0);
        }
        READ.with_borrow_mut(|bytes| {
            loop {
                if self.peer_closed {
                    self.drained = true;
                    return Ok(0);
                }
                let had = self.incoming.len();
                // What comes out is never longer than what goes in.
                let room = buf.len().clamp(had + 4096, READ_BYTES.max(had + 4096));
                if bytes.len() < room {
                    // Only a handshake with very long certificates needs that.
                    bytes.resize(room, 0);
                }
                bytes[..had].copy_from_slice(&self.incoming);
                let n = match self.socket.read(&mut bytes[had..room]) {
                    Ok(0) if self.is_handshaking() => {
                        return Err(ErrorKind::UnexpectedEof.into());
                    }
                    // Many clients close without notice; what they sent before was whole commands or is dropped as incomplete.
                    Ok(0) => return Ok(0),
                    Ok(n) => n,
                    Err(e) => {
                        self.drained = e.kind() == ErrorKind::WouldBlock;
                        return Err(e);
                    }
                };
                self.drained = n < room - had;
                let got = self.open(&mut bytes[..had + n], buf);
                // The handshake's answers, or the alert that says what was wrong.
                let flushed = self.flush_now();
                let got = got.map_err(broken)?;
                flushed?;
                if got > 0 {
                    return Ok(got);
                }
                if self.drained && !self.peer_closed {
                    return Err(ErrorKind::WouldBlock.into());
                }
            }
        })
    }

    fn take_opened(&mut self, buf: &mut [u8]) -> usize {
        let rest = &self.opened[self.taken..];
        let n = rest.len().min(buf.len());
        buf[..n].copy_from_slice(&rest[..n]);
        self.taken += n;
        if self.taken == self.opened.len() {
            self.opened = Vec::new();
            self.taken = 0;
        }
        n
    }

    /// Opens the records in `bytes`; their contents go into `buf`, and what has no room there into `opened`. Keeps the rest.
    fn open(&mut self, bytes: &mut [u8], buf: &mut [u8]) -> Result<usize, Error> {
        let mut start = 0;
        let mut got = 0;
        let result = loop {
            match self.step(&mut bytes[start..], |content, opened| {
                let n = content.len().min(buf.len() - got);
                buf[got..got + n].copy_from_slice(&content[..n]);
                got += n;
                opened.extend_from_slice(&content[n..]);
            }) {
                (used, Ok(Step::Again)) => start += used,
                (used, Ok(Step::Rest)) => {
                    start += used;
                    break Ok(got);
                }
                (used, Err(e)) => {
                    // Once more, for the alert that is to be sent, unless the client does not speak TLS at all. rustls must see the very bytes that it has seen before: it
                    // remembers where messages lie in them.
                    start += used;
                    if !matches!(e, Error::InvalidMessage(InvalidMessage::InvalidContentType)) {
                        let _ = self.step(&mut bytes[start..], |_, _| {});
                    }
                    self.failed = true;
                    break Err(e);
                }
            }
        };
        let rest = &bytes[start..];
        if rest.is_empty() {
            self.incoming = Vec::new();
        } else {
            self.incoming.clear();
            self.incoming.extend_from_slice(rest);
        }
        result
    }

    /// One look at the connection's state. Returns how much of the front of `bytes` is done with.
    fn step(
        &mut self,
        bytes: &mut [u8],
        mut take: impl FnMut(&[u8], &mut Vec<u8>),
    ) -> (usize, Result<Step, Error>) {
        let UnbufferedStatus { discard, state } = self.tls.process_tls_records(bytes);
        let mut used = discard;
        let step = match state {
            Err(e) => return (used, Err(e)),
            Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                while let Some(record) = traffic.next_record() {
                    match record {
                        Ok(record) => {
                            used += record.discard;
                            take(record.payload, &mut self.opened);
                        }
                        Err(e) => return (used, Err(e)),
                    }
                }
                Step::Again
            }
            Ok(ConnectionState::EncodeTlsData(mut data)) => {
                let at = self.outgoing.len();
                if at - self.sent > OUTGOING_BYTES_MAX {
                    let text = "the client does not read what the handshake sends";
                    return (used, Err(Error::General(text.into())));
                }
                let encoded = match data.encode(&mut self.outgoing[at..]) {
                    Err(EncodeError::InsufficientSize(size)) => {
                        self.outgoing.resize(at + size.required_size, 0);
                        data.encode(&mut self.outgoing[at..])
                    }
                    other => other,
                };
                match encoded {
                    Ok(n) => self.outgoing.truncate(at + n),
                    Err(e) => return (used, Err(Error::General(e.to_string()))),
                }
                Step::Again
            }
            Ok(ConnectionState::TransmitTlsData(data)) => {
                // It is in `outgoing`, from where it will go.
                data.done();
                Step::Again
            }
            Ok(ConnectionState::PeerClosed) => {
                self.peer_closed = true;
                Step::Again
            }
            // Early data is not offered; other states are not known yet.
            Ok(_) => Step::Rest,
        };
        (used, Ok(step))
    }

    /// Seals and writes some of `plain`; returns how much. That is then the connection's to send: see [`wants_write`](TlsStream::wants_write).
    ///
    /// # Errors
    /// `WouldBlock`: nothing was taken, the socket is full or the handshake is under way. What the socket says.
    pub fn write(&mut self, plain: &[u8]) -> io::Result<usize> {
        if self.failed {
            return Err(ErrorKind::BrokenPipe.into());
        }
        if self.is_handshaking() {
            self.write_waits = true;
            return Err(ErrorKind::WouldBlock.into());
        }
        self.flush()?;
        if self.is_held() || self.wants_write() {
            return Err(ErrorKind::WouldBlock.into());
        }
        let plain = &plain[..plain.len().min(SEAL_BYTES)];
        SEALED.with_borrow_mut(|sealed| {
            let len = self.seal(plain, sealed)?;
            let mut written = 0;
            while written < len {
                match self.socket.write(&sealed[written..len]) {
                    Ok(n) => written += n,
                    Err(e) if e.kind() == ErrorKind::Interrupted => {}
                    Err(e) if e.kind() == ErrorKind::WouldBlock => {
                        self.outgoing.extend_from_slice(&sealed[written..len]);
                        break;
                    }
                    Err(e) => return Err(e),
                }
            }
            Ok(plain.len())
        })
    }

    fn seal(&mut self, plain: &[u8], sealed: &mut [u8]) -> io::Result<usize> {
        let mut incoming = std::mem::take(&mut self.incoming);
        let mut len = 0;
        let mut done = 0;
        let result = loop {
            let status = self.tls.process_tls_records(&mut incoming[done..]);
            let discard = status.discard;
            match status.state {
                Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                    done += discard;
                    break match traffic.encrypt(plain, &mut sealed[len..]) {
                        Ok(n) => Ok(len + n),
                        Err(EncryptError::EncryptExhausted) => Err(broken(Error::EncryptError)),
                        Err(e) => Err(io::Error::other(e.to_string())),
                    };
                }
                // An answer to what has come before, which goes first.
                Ok(ConnectionState::EncodeTlsData(mut data)) => {
                    match data.encode(&mut sealed[len..]) {
                        Ok(n) => len += n,
                        Err(e) => break Err(io::Error::other(e.to_string())),
                    }
                }
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                Ok(ConnectionState::PeerClosed) => self.peer_closed = true,
                Ok(_) => break Err(ErrorKind::BrokenPipe.into()),
                Err(e) => break Err(broken(e)),
            }
            done += discard;
        };
        incoming.drain(..done);
        self.incoming = incoming;
        result
    }

    /// Writes what the socket has not taken before.
    ///
    /// # Errors
    /// What the socket says, but for `WouldBlock`.
    pub fn flush(&mut self) -> io::Result<()> {
        match self.is_held() {
            true => Ok(()),
            false => self.flush_now(),
        }
    }

    fn is_held(&self) -> bool {
        self.held.load(Ordering::Relaxed)
    }

    fn flush_now(&mut self) -> io::Result<()> {
        while self.sent < self.outgoing.len() {
            match self.socket.write(&self.outgoing[self.sent..]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(n) => self.sent += n,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(e) => return Err(e),
            }
        }
        if !self.outgoing.is_empty() {
            self.outgoing = Vec::new();
            self.sent = 0;
        }
        Ok(())
    }

    /// Tells the client that nothing more will come, so that it knows that it has all. Only if the socket takes it at once.
    fn notify(&mut self) {
        if self.failed || self.is_handshaking() || self.flush().is_err() || self.wants_write() {
            return;
        }
        let mut alert = [0; 128];
        let mut incoming = std::mem::take(&mut self.incoming);
        let len = match self.tls.process_tls_records(&mut incoming).state {
            Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                traffic.queue_close_notify(&mut alert).unwrap_or_default()
            }
            _ => 0,
        };
        // The connection ends anyway.
        let _ = self.socket.write(&alert[..len]);
    }
}

impl<S: Read + Write> Drop for TlsStream<S> {
    fn drop(&mut self) {
        self.notify();
    }
}

#[cfg(test)]
mod tests;
