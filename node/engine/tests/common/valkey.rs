//! A real `valkey-server` beside the engine. `VALKEY_SERVER` names another binary than the one in the path.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{show, words};
use holdfast_resp::{reply, write};

/// One server at a time: the free port that one has found must not be found by another before it listens.
static ALONE: Mutex<()> = Mutex::new(());

pub struct Valkey {
    child: Child,
    stream: TcpStream,
    buffer: Vec<u8>,
    _alone: MutexGuard<'static, ()>,
}

impl Drop for Valkey {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Valkey {
    /// Starts one, if there is one to be started.
    pub fn start() -> Option<Valkey> {
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let binary = std::env::var("VALKEY_SERVER").unwrap_or_else(|_| "valkey-server".into());
        let port = TcpListener::bind("127.0.0.1:0")
            .ok()?
            .local_addr()
            .ok()?
            .port();
        let dir = std::env::temp_dir().display().to_string();
        let mut child = Command::new(binary)
            .args([
                "--port",
                &port.to_string(),
                "--bind",
                "127.0.0.1",
                "--save",
                "",
                "--dir",
                &dir,
            ])
            .args(["--enable-debug-command", "yes"])
            .stdout(Stdio::null())
            .spawn()
            .ok()?;
        for _ in 0..100 {
            if let Ok(stream) = TcpStream::connect(("127.0.0.1", port)) {
                return Some(Valkey {
                    child,
                    stream,
                    buffer: Vec::new(),
                    _alone: alone,
                });
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let _ = child.kill();
        let _ = child.wait();
        None
    }

    /// Executes words separated by spaces, as [`super::Node::run`] does.
    pub fn run(&mut self, line: &str) -> String {
        let mut request = Vec::new();
        write::command(&mut request, &words(line));
        self.stream.write_all(&request).expect("write");
        loop {
            if let Some((reply, used)) = reply::parse(&self.buffer).expect("a reply") {
                self.buffer.drain(..used);
                return show(&reply);
            }
            let mut chunk = [0; 16384];
            let n = self.stream.read(&mut chunk).expect("read");
            assert!(n > 0, "valkey-server has closed the connection");
            self.buffer.extend_from_slice(&chunk[..n]);
        }
    }
}
