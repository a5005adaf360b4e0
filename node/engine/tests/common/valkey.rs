//! A real `valkey-server` beside the engine. `VALKEY_SERVER` names another binary than the one in the path.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use holdfast_resp::reply::{self, Reply};
use holdfast_resp::write;

/// One server at a time: the free port that one has found must not be found by another before it listens.
static ALONE: Mutex<()> = Mutex::new(());

/// A server, ended when dropped.
pub struct Valkey {
    child: Child,
    port: u16,
    pub link: Link,
    _alone: MutexGuard<'static, ()>,
}

impl Drop for Valkey {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Valkey {
    /// Starts one with these options, which win over ours; it saves nothing by itself and knows `DEBUG`. Where there is none to be
    /// started, it says that the test is skipped.
    pub fn start(options: &[(&str, &str)]) -> Option<Valkey> {
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let binary = std::env::var("VALKEY_SERVER").unwrap_or_else(|_| "valkey-server".into());
        let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = free.local_addr().expect("its number").port();
        drop(free);
        let (dir, number) = (std::env::temp_dir(), port.to_string());
        let dir = dir.to_string_lossy();
        let ours = [
            ("port", &*number),
            ("bind", "127.0.0.1"),
            ("save", ""),
            ("enable-debug-command", "yes"),
            ("dir", &dir),
        ];
        let child = Command::new(binary)
            .args(
                ours.iter()
                    .chain(options)
                    .flat_map(|(name, value)| [format!("--{name}"), value.to_string()]),
            )
            .stdout(Stdio::null())
            .spawn();
        let Ok(child) = child else {
            eprintln!("SKIPPED: there is no valkey-server to compare with");
            return None;
        };
        let mut child = child;
        for _ in 0..200 {
            if let Some(link) = Link::to(port) {
                return Some(Valkey {
                    child,
                    port,
                    link,
                    _alone: alone,
                });
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let _ = child.kill();
        let _ = child.wait();
        panic!("valkey-server does not answer");
    }

    /// Another connection.
    pub fn connect(&self) -> Link {
        Link::to(self.port).expect("valkey-server answers")
    }

    /// Whether it is of this version or a newer one.
    pub fn is_at_least(&mut self, major: u32, minor: u32) -> bool {
        let info = self.call(&["INFO", "server"]);
        let info = String::from_utf8_lossy(info.as_bytes().unwrap_or_default()).into_owned();
        let version = info.lines().find_map(|l| l.strip_prefix("valkey_version:"));
        let mut parts = version.unwrap_or("0").split('.').map(|n| n.parse::<u32>());
        let mut part = || parts.next().and_then(Result::ok).unwrap_or(0);
        (part(), part()) >= (major, minor)
    }

    /// Executes a command.
    pub fn call<A: AsRef<[u8]>>(&mut self, argv: &[A]) -> Reply {
        self.link.call(argv)
    }
}

/// A connection.
pub struct Link {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Link {
    /// Connects to a server that is there and has loaded what it has to.
    fn to(port: u16) -> Option<Link> {
        let stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
        let limit = Some(Duration::from_secs(20));
        stream.set_read_timeout(limit).expect("a time limit");
        let mut link = Link {
            stream,
            buffer: Vec::new(),
        };
        (link.call(&["PING"]) == Reply::Simple("PONG".into())).then_some(link)
    }

    /// Executes a command.
    pub fn call<A: AsRef<[u8]>>(&mut self, argv: &[A]) -> Reply {
        let mut request = Vec::new();
        write::command(&mut request, argv);
        self.send(&request);
        self.read()
    }

    /// Sends bytes.
    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("write");
    }

    /// The next reply.
    pub fn read(&mut self) -> Reply {
        loop {
            if let Some((reply, used)) = reply::parse(&self.buffer).expect("a reply") {
                self.buffer.drain(..used);
                return reply;
            }
            self.read_more();
        }
    }

    fn read_more(&mut self) {
        let mut chunk = [0; 65536];
        let n = self.stream.read(&mut chunk).expect("read");
        assert!(n > 0, "valkey-server has closed the connection");
        self.buffer.extend_from_slice(&chunk[..n]);
    }

    /// Becomes a replica: what is read from now on are effects.
    pub fn follow(&mut self) {
        self.send(b"SYNC\r\n");
        loop {
            // It sends empty lines while the file is being made.
            while self.buffer.first() == Some(&b'\n') {
                self.buffer.remove(0);
            }
            if let Some(end) = self.buffer.iter().position(|b| *b == b'\n') {
                let line = String::from_utf8_lossy(&self.buffer[1..end]).into_owned();
                let len: usize = line.trim().parse().expect("the length of a file");
                while self.buffer.len() < end + 1 + len {
                    self.read_more();
                }
                self.buffer.drain(..end + 1 + len);
                return;
            }
            self.read_more();
        }
    }
}
