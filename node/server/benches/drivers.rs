//! What an event loop costs by itself: a server that answers every command with the same 64 bytes, on `epoll` and on `io_uring`, under the
//! same load. It shows which of the two a driver should use on the machine at hand, and how little a command can cost there at all.
//!
//! `cargo bench -p holdfast-server --bench drivers`
//!
//! On `io_uring` it receives by multishot into provided buffers, sends in batches without completions, and runs the kernel's part of the
//! work only when it waits. `ROUNDS` (5) and `MILLIS` (1000) are the length of a measurement. Needs Linux 6.1 or later.

mod support;

use holdfast_bench::compare::{self, Side};
use holdfast_bench::net::{Address, Target};
use holdfast_bench::plan::{Load, Plan, Until, Work};
use holdfast_bench::run::Unwatched;
use holdfast_bench::server::Identity;
use io_uring::{IoUring, cqueue, opcode, squeue, types};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpListener;
use std::os::fd::AsRawFd;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;
use support::harness::cluster::free_port;
use support::setting;

/// With it this program is one of the servers: `epoll` or `io_uring`, and the port.
const SERVE: &str = "DRIVERS_SERVE";
const NAMES: [&str; 2] = ["epoll", "io_uring"];
const PIPELINE_MAX: usize = 64;

fn main() {
    if let Ok(serve) = std::env::var(SERVE) {
        let (name, port) = serve.split_once(' ').expect("a name and a port");
        let listener = TcpListener::bind(("127.0.0.1", port.parse().expect("a port")));
        let listener = listener.expect("the port is free");
        let end = match name {
            "epoll" => on_epoll(listener),
            _ => on_io_uring(listener),
        };
        panic!("{name}: {end:?}");
    }
    let servers = NAMES.map(Server::start);
    for (clients, pipeline) in [(50, 1), (500, 1), (50, 16), (500, 16)] {
        let mut work = Work {
            keys: 100_000,
            ..Work::default()
        };
        work.add_named("get", 1, false).expect("a name");
        let load = Load {
            clients,
            pipeline,
            until: Until::Time(Duration::from_millis(setting("MILLIS", 1000))),
            warm_up: Duration::from_millis(200),
            ..Load::default()
        };
        let sides = [1, 0].map(|i| servers[i].side(NAMES[i], &load, &work));
        let rounds = setting("ROUNDS", 5) as usize;
        let comparison = compare::compare([&sides[0], &sides[1]], rounds, &mut Unwatched);
        let comparison = comparison.expect("both answer");
        println!("\n{clients} clients, {pipeline} deep: io_uring beside epoll");
        let figures = [
            ("per second", comparison.throughput()),
            ("CPU, us", comparison.cpu_us()),
        ];
        for (name, figure) in figures {
            let figure = figure.expect("every round has it");
            let [a, b] = figure.sides.each_ref().map(|s| s.median);
            let r = figure.ratio;
            println!(
                "{name:<12}{a:>14.3}{b:>14.3}   ratio {:.2} ({:.2} to {:.2})",
                r.median, r.min, r.max
            );
        }
    }
}

/// A process of this program that serves.
struct Server {
    child: Child,
    port: u16,
}

impl Server {
    fn start(name: &str) -> Server {
        let port = free_port();
        let program = std::env::current_exe().expect("this program");
        let child = Command::new(program)
            .env(SERVE, format!("{name} {port}"))
            .spawn()
            .expect("it starts");
        let server = Server { child, port };
        while server.target().connect().is_err() {
            std::thread::sleep(Duration::from_millis(20));
        }
        server
    }

    fn target(&self) -> Target {
        Target::plain(Address::Tcp("127.0.0.1".to_owned(), self.port))
    }

    fn side(&self, name: &str, load: &Load, work: &Work) -> Side {
        Side {
            plan: Plan {
                target: self.target(),
                cluster: false,
                load: load.clone(),
                work: work.clone(),
            },
            identity: Identity {
                name: name.to_owned(),
                pid: Some(self.child.id()),
            },
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // If it has ended before, its own output says why.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// As many replies as there can be at a time.
fn replies() -> (Vec<u8>, usize) {
    let one = format!("$64\r\n{}\r\n", "x".repeat(64));
    (one.repeat(PIPELINE_MAX).into_bytes(), one.len())
}

/// How many commands begin in these bytes; keys and values have no stars.
fn commands_in(bytes: &[u8]) -> usize {
    bytes
        .iter()
        .filter(|b| **b == b'*')
        .count()
        .min(PIPELINE_MAX)
}

fn on_epoll(listener: TcpListener) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let mut listener = mio::net::TcpListener::from_std(listener);
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(1024);
    let listening = poll.registry();
    listening.register(&mut listener, Token(0), Interest::READABLE)?;
    let (replies, reply_bytes) = replies();
    let mut sockets: Vec<Option<TcpStream>> = vec![None];
    let mut buffer = vec![0; 64 * 1024];
    let mut answers = Vec::new();
    loop {
        poll.poll(&mut events, None)?;
        for event in &events {
            let index = event.token().0;
            if index == 0 {
                while let Ok((mut socket, _)) = listener.accept() {
                    socket.set_nodelay(true)?;
                    let token = Token(sockets.len());
                    let both = Interest::READABLE | Interest::WRITABLE;
                    poll.registry().register(&mut socket, token, both)?;
                    sockets.push(Some(socket));
                }
                continue;
            }
            let Some(Some(socket)) = sockets.get_mut(index) else {
                continue;
            };
            if event.is_readable() || event.is_read_closed() {
                match socket.read(&mut buffer) {
                    Ok(0) => sockets[index] = None,
                    Ok(n) => answers.push((index, commands_in(&buffer[..n]))),
                    Err(e) if e.kind() == ErrorKind::WouldBlock => {}
                    Err(_) => sockets[index] = None,
                }
            }
        }
        for (index, count) in answers.drain(..) {
            if let Some(socket) = &mut sockets[index] {
                // Who is gone is seen at the next read; what is on its way fits a socket's buffer.
                let _ = socket.write(&replies[..count * reply_bytes]);
            }
        }
    }
}

fn on_io_uring(listener: TcpListener) -> io::Result<()> {
    const BUFFERS: u16 = 1024;
    const BUFFER_BYTES: usize = 4096;
    const SENT: u64 = 1 << 40;
    const RECEIVED: u64 = 1 << 41;
    let mut ring: IoUring = IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_cqsize(8192)
        .build(4096)?;
    // Both live as long as the process, which the kernel's use of them needs.
    let memory = vec![0u8; usize::from(BUFFERS) * BUFFER_BYTES].leak();
    let ring_bytes = usize::from(BUFFERS) * size_of::<types::BufRingEntry>();
    // SAFETY: new anonymous memory, asked for by nobody else.
    let entries = unsafe {
        let (read_write, private) = (
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_ANONYMOUS | libc::MAP_PRIVATE,
        );
        libc::mmap(std::ptr::null_mut(), ring_bytes, read_write, private, -1, 0)
    };
    if entries == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    let entries = entries.cast::<types::BufRingEntry>();
    // SAFETY: the mapping is of the size that so many entries take, aligned to a page, and never unmapped.
    unsafe {
        ring.submitter()
            .register_buf_ring_with_flags(entries as u64, BUFFERS, 0, 0)?;
    }
    // SAFETY: the kernel reads the tail by itself; it lies within the first entry, and is aligned to two bytes.
    let tail = unsafe { &*types::BufRingEntry::tail(entries).cast::<AtomicU16>() };
    let base = memory.as_mut_ptr();
    let mut given = 0u16;
    let mut give = |buffer: u16| {
        // SAFETY: the place is within the ring, and the kernel does not look at it before the tail has passed it.
        let entry = unsafe { &mut *entries.add(usize::from(given & (BUFFERS - 1))) };
        entry.set_addr(base.wrapping_add(usize::from(buffer) * BUFFER_BYTES) as u64);
        entry.set_len(BUFFER_BYTES as u32);
        entry.set_bid(buffer);
        given = given.wrapping_add(1);
        tail.store(given, Ordering::Release);
    };
    (0..BUFFERS).for_each(&mut give);
    let (replies, reply_bytes) = replies();
    let replies: &'static [u8] = replies.leak();
    let accept = opcode::AcceptMulti::new(types::Fd(listener.as_raw_fd())).build();
    let mut submit = vec![accept];
    loop {
        for entry in submit.drain(..) {
            // SAFETY: buffers of sends and receives live as long as the process.
            while unsafe { ring.submission().push(&entry) }.is_err() {
                ring.submit()?;
            }
        }
        ring.submit_and_wait(1)?;
        for done in ring.completion() {
            let (tag, result) = (done.user_data(), done.result());
            if tag & SENT != 0 {
                continue;
            }
            let accepted = tag & RECEIVED == 0;
            let fd = if accepted { result } else { tag as u32 as i32 };
            if accepted {
                let on: libc::c_int = 1;
                let size = size_of::<libc::c_int>() as libc::socklen_t;
                // SAFETY: the option's value lives through the call.
                unsafe {
                    let value = (&raw const on).cast();
                    libc::setsockopt(fd, libc::IPPROTO_TCP, libc::TCP_NODELAY, value, size);
                }
            } else if let Some(buffer) = cqueue::buffer_select(done.flags()).filter(|_| result > 0)
            {
                let from = usize::from(buffer) * BUFFER_BYTES;
                // SAFETY: the kernel has filled so much of this buffer, and has given it back to us.
                let bytes = unsafe {
                    std::slice::from_raw_parts(base.add(from).cast_const(), result as usize)
                };
                let len = (commands_in(bytes) * reply_bytes) as u32;
                give(buffer);
                let send = opcode::Send::new(types::Fd(fd), replies.as_ptr(), len);
                let send = send.flags(libc::MSG_NOSIGNAL).build().user_data(SENT);
                submit.push(send.flags(squeue::Flags::SKIP_SUCCESS));
            } else if result != -libc::ENOBUFS {
                // SAFETY: it is this loop's, and nothing is asked of it any more.
                unsafe { libc::close(fd) };
                continue;
            }
            if accepted || !cqueue::more(done.flags()) {
                let receive = opcode::RecvMulti::new(types::Fd(fd), 0).build();
                submit.push(receive.user_data(RECEIVED | u64::from(fd as u32)));
            }
        }
    }
}
