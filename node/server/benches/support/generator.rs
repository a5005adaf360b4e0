//! A load generator: many connections on one thread, each sending its next request when the last is answered.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use holdfast_resp::reply::{self, Reply};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

/// What to send, where to, for how long.
pub struct Spec<'a> {
    pub port: u16,
    pub connections: usize,
    /// Before measuring begins.
    pub warm_up: Duration,
    pub duration: Duration,
    /// Appends the request with this number.
    pub request: &'a dyn Fn(&mut Vec<u8>, u64),
    /// Replies to one request (it may be more than one command).
    pub replies: usize,
}

/// What came of it.
pub struct Figures {
    pub requests: u64,
    /// With those of the warm-up: for whoever looks at what the servers used.
    pub sent: u64,
    pub elapsed: Duration,
    /// Sorted.
    pub latencies: Vec<Duration>,
    /// Replies that were errors.
    pub errors: u64,
    pub first_error: Option<String>,
}

impl Figures {
    pub fn per_second(&self) -> f64 {
        self.requests as f64 / self.elapsed.as_secs_f64()
    }
}

struct Connection {
    stream: TcpStream,
    out: Vec<u8>,
    written: usize,
    received: Vec<u8>,
    due: usize,
    /// One of the replies to the request was an error, so it does not count.
    failed: bool,
    sent_at: Instant,
}

impl Connection {
    fn next_request(&mut self, spec: &Spec, number: &mut u64) {
        self.out.clear();
        self.written = 0;
        (spec.request)(&mut self.out, *number);
        *number += 1;
        self.due = spec.replies;
        self.sent_at = Instant::now();
        self.flush();
    }

    fn flush(&mut self) {
        while self.written < self.out.len() {
            match self.stream.write(&self.out[self.written..]) {
                Ok(n) => self.written += n,
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => {
                    return;
                }
                Err(e) => panic!("the server closed a connection: {e}"),
            }
        }
    }
}

/// Runs the load.
///
/// # Panics
/// If the server closes a connection, or does not answer for 30 s.
pub fn run(spec: &Spec) -> Figures {
    let mut poll = Poll::new().expect("epoll");
    let mut events = Events::with_capacity(1024);
    let mut number = 0;
    let mut connections: Vec<Connection> = (0..spec.connections)
        .map(|index| {
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, spec.port));
            // Connected before it is made non-blocking, so that 500 at once do not overflow the backlog.
            let stream = std::net::TcpStream::connect(address).expect("connected");
            stream.set_nodelay(true).expect("no delay");
            stream.set_nonblocking(true).expect("non-blocking");
            let mut stream = TcpStream::from_std(stream);
            poll.registry()
                .register(
                    &mut stream,
                    Token(index),
                    Interest::READABLE | Interest::WRITABLE,
                )
                .expect("registered");
            Connection {
                stream,
                out: Vec::new(),
                written: 0,
                received: Vec::new(),
                due: 0,
                failed: false,
                sent_at: Instant::now(),
            }
        })
        .collect();
    for connection in &mut connections {
        connection.next_request(spec, &mut number);
    }

    let begin = Instant::now() + spec.warm_up;
    let end = begin + spec.duration;
    let mut figures = Figures {
        requests: 0,
        sent: 0,
        elapsed: spec.duration,
        latencies: Vec::new(),
        errors: 0,
        first_error: None,
    };
    let mut chunk = vec![0; 64 * 1024];
    while Instant::now() < end {
        poll.poll(&mut events, Some(Duration::from_secs(30)))
            .expect("polled");
        assert!(!events.is_empty(), "no answer for 30 s");
        for event in &events {
            let connection = &mut connections[event.token().0];
            if event.is_writable() {
                connection.flush();
            }
            loop {
                match connection.stream.read(&mut chunk) {
                    Ok(0) => panic!("the server closed a connection"),
                    Ok(n) => connection.received.extend_from_slice(&chunk[..n]),
                    Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                    Err(e) => panic!("reading: {e}"),
                }
                let mut at = 0;
                while let Some((reply, taken)) =
                    reply::parse(&connection.received[at..]).expect("RESP")
                {
                    at += taken;
                    if let Reply::Error(text) = reply {
                        figures.errors += 1;
                        connection.failed = true;
                        figures
                            .first_error
                            .get_or_insert_with(|| String::from_utf8_lossy(&text).into_owned());
                    }
                    connection.due -= 1;
                    if connection.due == 0 {
                        let now = Instant::now();
                        let failed = std::mem::take(&mut connection.failed);
                        if connection.sent_at >= begin && !failed {
                            figures.requests += 1;
                            figures.latencies.push(now - connection.sent_at);
                        }
                        connection.next_request(spec, &mut number);
                    }
                }
                connection.received.drain(..at);
            }
        }
    }
    figures.sent = number;
    figures.latencies.sort_unstable();
    figures
}
