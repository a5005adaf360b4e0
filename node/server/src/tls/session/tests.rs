//! Both ends in one thread, on sockets that are two buffers.

use super::*;
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use std::collections::VecDeque;

/// A socket whose other end is the test. Reading gives no more than `piece` bytes, writing takes no more than `room`.
struct Pipe {
    incoming: VecDeque<u8>,
    outgoing: Vec<u8>,
    piece: usize,
    room: usize,
    ended: bool,
}

impl Read for Pipe {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = buf.len().min(self.piece);
        match self.incoming.read(&mut buf[..n])? {
            0 if !self.ended && n > 0 => Err(ErrorKind::WouldBlock.into()),
            n => Ok(n),
        }
    }
}

impl Write for Pipe {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let n = buf.len().min(self.room.saturating_sub(self.outgoing.len()));
        if n == 0 && !buf.is_empty() {
            return Err(ErrorKind::WouldBlock.into());
        }
        self.outgoing.extend_from_slice(&buf[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Pair {
    server: TlsStream<Pipe>,
    client: ClientConnection,
    /// What the server has read.
    read: Vec<u8>,
    end: Option<io::Error>,
}

struct Configs(Arc<ServerConfig>, Arc<ClientConfig>);

impl Configs {
    fn new(version: &'static rustls::SupportedProtocolVersion) -> Configs {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let own = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
        let key = PrivateKeyDer::try_from(own.signing_key.serialize_der()).unwrap();
        let server = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[version])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![own.cert.der().clone()], key)
            .unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(own.cert.der().clone()).unwrap();
        let client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Configs(Arc::new(server), Arc::new(client))
    }

    fn pair(&self, piece: usize, room: usize) -> Pair {
        let pipe = Pipe {
            incoming: VecDeque::new(),
            outgoing: Vec::new(),
            piece,
            room,
            ended: false,
        };
        let name = ServerName::try_from("localhost").unwrap();
        Pair {
            server: TlsStream::new(pipe, self.0.clone(), Arc::default()).unwrap(),
            client: ClientConnection::new(self.1.clone(), name).unwrap(),
            read: Vec::new(),
            end: None,
        }
    }
}

impl Pair {
    /// What the client has to send goes to the server's socket; `change` may spoil it.
    fn client_sends(&mut self, mut change: impl FnMut(&mut Vec<u8>)) {
        let mut sealed = Vec::new();
        while self.client.wants_write() {
            self.client.write_tls(&mut sealed).unwrap();
        }
        change(&mut sealed);
        self.server.socket.incoming.extend(sealed);
    }

    /// The server reads into a buffer of that size until nothing is left.
    fn server_reads(&mut self, room: usize) {
        let mut buf = vec![0; room];
        for _ in 0..1_000_000 {
            match self.server.read(&mut buf) {
                Ok(0) => {
                    self.end = Some(ErrorKind::UnexpectedEof.into());
                    return;
                }
                Ok(n) => {
                    self.read.extend_from_slice(&buf[..n]);
                    // As an epoll does: an edge for what is new only.
                    if !self.server.may_have_more() && self.server.socket.incoming.is_empty() {
                        return;
                    }
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => {
                    if self.server.socket.incoming.is_empty() {
                        return;
                    }
                }
                Err(e) => {
                    self.end = Some(e);
                    return;
                }
            }
        }
        panic!("reading has no end");
    }

    fn client_reads(&mut self) -> Vec<u8> {
        let sealed = std::mem::take(&mut self.server.socket.outgoing);
        let mut rest = &sealed[..];
        let mut plain = Vec::new();
        while !rest.is_empty() {
            self.client.read_tls(&mut rest).unwrap();
            self.client.process_new_packets().unwrap();
            // Nothing there is an error, too.
            let _ = self.client.reader().read_to_end(&mut plain);
        }
        plain
    }

    fn shake_hands(&mut self, room: usize) {
        while self.client.is_handshaking() || self.server.is_handshaking() {
            self.client_sends(|_| {});
            self.server_reads(room);
            assert!(self.end.is_none(), "{:?}", self.end);
            self.server.flush().unwrap();
            self.client_reads();
        }
    }
}

const VERSIONS: [&rustls::SupportedProtocolVersion; 2] =
    [&rustls::version::TLS13, &rustls::version::TLS12];

#[test]
fn bytes_arrive_whatever_the_sizes_of_pieces_and_buffers() {
    for version in VERSIONS {
        let configs = Configs::new(version);
        let sent: Vec<u8> = (0..100_000u32).map(|n| (n % 251) as u8).collect();
        for (piece, room) in [
            (1 << 20, 1 << 16),
            (1, 1 << 16),
            (1000, 16),
            (17_000, 20_000),
        ] {
            let mut pair = configs.pair(piece, usize::MAX);
            pair.shake_hands(room);
            for part in sent.chunks(33_333) {
                pair.client.writer().write_all(part).unwrap();
                pair.client_sends(|_| {});
                pair.server_reads(room);
            }
            assert!(pair.read == sent, "{piece} {room}");
            // Nothing is kept while it is idle.
            let s = &pair.server;
            assert_eq!(
                (
                    s.incoming.capacity(),
                    s.outgoing.capacity(),
                    s.opened.capacity()
                ),
                (0, 0, 0)
            );
        }
    }
}

#[test]
fn what_the_socket_does_not_take_is_kept_and_goes_first() {
    for version in VERSIONS {
        let mut pair = Configs::new(version).pair(1 << 20, usize::MAX);
        pair.shake_hands(1 << 16);
        let sent: Vec<u8> = (0..300_000u32).map(|n| (n % 241) as u8).collect();
        let (mut at, mut got) = (0, Vec::new());
        while got.len() < sent.len() {
            pair.server.socket.room = 7_000;
            match pair.server.write(&sent[at..]) {
                Ok(n) => at += n,
                Err(e) => assert_eq!(e.kind(), ErrorKind::WouldBlock),
            }
            // What is kept is bounded.
            assert!(pair.server.outgoing.len() <= SEAL_BYTES + OVERHEAD_BYTES);
            assert!(at == sent.len() || pair.server.wants_write());
            let plain = pair.client_reads();
            got.extend(plain);
            pair.server.socket.room = 5_000;
            pair.server.flush().unwrap();
            got.extend(pair.client_reads());
        }
        assert!(got == sent);
        assert!(!pair.server.wants_write());
    }
}

#[test]
fn a_write_before_the_handshakes_end_waits_for_it() {
    let mut pair = Configs::new(&rustls::version::TLS13).pair(1 << 20, usize::MAX);
    let refused = pair.server.write(b"early").unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::WouldBlock);
    assert!(!pair.server.take_write_ready());
    pair.shake_hands(1 << 16);
    assert!(pair.server.take_write_ready());
    assert!(!pair.server.take_write_ready());
    assert_eq!(pair.server.write(b"now").unwrap(), 3);
    assert_eq!(pair.client_reads(), b"now");
}

#[test]
fn what_is_held_up_is_written_later() {
    let mut pair = Configs::new(&rustls::version::TLS13).pair(1 << 20, usize::MAX);
    let held = pair.server.held.clone();
    held.store(true, Ordering::Relaxed);
    // Handshakes and reading go on.
    pair.shake_hands(1 << 16);
    pair.client.writer().write_all(b"words").unwrap();
    pair.client_sends(|_| {});
    pair.server_reads(1 << 16);
    assert_eq!(pair.read, b"words");
    let refused = pair.server.write(b"late").unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::WouldBlock);
    held.store(false, Ordering::Relaxed);
    pair.server.socket.room = 10;
    assert_eq!(pair.server.write(b"late").unwrap(), 4);
    held.store(true, Ordering::Relaxed);
    pair.server.socket.room = usize::MAX;
    pair.server.flush().unwrap();
    assert!(pair.server.wants_write());
    held.store(false, Ordering::Relaxed);
    pair.server.flush().unwrap();
    assert_eq!(pair.client_reads(), b"late");
}

#[test]
fn new_keys_are_taken_and_answered() {
    let mut pair = Configs::new(&rustls::version::TLS13).pair(1 << 20, usize::MAX);
    pair.shake_hands(1 << 16);
    for _ in 0..3 {
        pair.client.refresh_traffic_keys().unwrap();
        pair.client.writer().write_all(b"hello ").unwrap();
        pair.client_sends(|_| {});
        pair.server_reads(1 << 16);
        assert_eq!(pair.server.write(b"fine").unwrap(), 4);
        assert_eq!(pair.client_reads(), b"fine");
    }
    assert_eq!(pair.read, b"hello hello hello ");
}

#[test]
fn the_ends_notice_each_other_closing() {
    let mut pair = Configs::new(&rustls::version::TLS13).pair(1 << 20, usize::MAX);
    pair.shake_hands(1 << 16);
    pair.client.writer().write_all(b"last").unwrap();
    pair.client.send_close_notify();
    pair.client_sends(|_| {});
    pair.server_reads(1 << 16);
    assert_eq!(pair.read, b"last");
    assert_eq!(pair.server.read(&mut [0; 10]).unwrap(), 0);
    // Cut off without notice.
    let mut pair = Configs::new(&rustls::version::TLS13).pair(1 << 20, usize::MAX);
    pair.server.socket.ended = true;
    let cut = pair.server.read(&mut [0; 10]).unwrap_err();
    assert_eq!(cut.kind(), ErrorKind::UnexpectedEof);
}

/// Whatever comes, and however it is cut: an error at most. A panic would end the process.
#[test]
fn spoilt_bytes_are_errors() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below.max(1) as u64) as usize
    };
    let configs = VERSIONS.map(Configs::new);
    let mut errors = 0;
    for round in 0..600 {
        let piece = [1, 7, 500, 1 << 20][random(4)];
        let mut pair = configs[round % 2].pair(piece, usize::MAX);
        let room = [10, 5_000, 1 << 16][random(3)];
        // Which flight is spoilt: the first, the second, or what comes after the handshake.
        let spoilt = random(3);
        for flight in 0..4 {
            if flight > 1 {
                // The handshake may have failed.
                let _ = pair.client.writer().write_all(b"some words");
            }
            pair.client_sends(|bytes| {
                if flight != spoilt || bytes.is_empty() {
                    return;
                }
                match random(4) {
                    0 => {
                        let at = random(bytes.len());
                        bytes[at] ^= 1 << random(8);
                    }
                    1 => bytes.truncate(random(bytes.len())),
                    2 => {
                        let at = random(bytes.len());
                        let byte = random(256) as u8;
                        bytes.insert(at, byte);
                    }
                    _ => {
                        let again = bytes.clone();
                        bytes.extend(again);
                    }
                }
            });
            pair.server_reads(room);
            let _ = pair.server.write(b"words");
            let _ = pair.server.flush();
            if pair.end.is_some() {
                errors += 1;
                // Asked again, it stays what it is.
                assert!(pair.server.read(&mut [0; 100]).is_err());
                break;
            }
            let sealed = std::mem::take(&mut pair.server.socket.outgoing);
            let mut rest = &sealed[..];
            while !rest.is_empty() && pair.client.read_tls(&mut rest).is_ok() {
                if pair.client.process_new_packets().is_err() {
                    break;
                }
            }
        }
    }
    assert!(errors > 200, "{errors}");
}
