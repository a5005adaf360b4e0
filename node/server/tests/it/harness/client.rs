//! One connection to one node.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

pub use holdfast_resp::reply::Reply;

/// A blocking connection; every wait is bounded.
#[derive(Debug)]
pub struct Client {
    pub stream: TcpStream,
    received: Vec<u8>,
}

impl Client {
    pub fn connect(port: u16) -> io::Result<Client> {
        Client::connect_within(port, Duration::from_secs(10))
    }

    pub fn connect_within(port: u16, patience: Duration) -> io::Result<Client> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let stream = TcpStream::connect_timeout(&address, patience)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(patience))?;
        Ok(Client {
            stream,
            received: Vec::new(),
        })
    }

    /// Sends a command given as words, and returns its reply, errors included.
    pub fn try_run(&mut self, line: &str) -> io::Result<Reply> {
        let words: Vec<&[u8]> = line.split_ascii_whitespace().map(str::as_bytes).collect();
        self.try_call(&words)
    }

    /// As [`Client::try_run`], of arguments with any bytes.
    pub fn try_call(&mut self, args: &[&[u8]]) -> io::Result<Reply> {
        self.send(args)?;
        self.receive()
    }

    /// A command that must be answered.
    pub fn run(&mut self, line: &str) -> Reply {
        match self.try_run(line) {
            Ok(reply) => reply,
            Err(error) => panic!("{line}: {error}"),
        }
    }

    /// A command that must be answered with text or a number.
    pub fn ask(&mut self, line: &str) -> String {
        let reply = self.run(line);
        text(&reply).unwrap_or_else(|| panic!("{line}: {reply:?}"))
    }

    /// A command that must be answered `+OK`.
    pub fn ok(&mut self, line: &str) {
        let reply = self.run(line);
        assert!(reply.is_ok(), "{line}: {reply:?}");
    }

    /// A command that must be answered with an error; its text.
    pub fn error(&mut self, line: &str) -> String {
        match self.run(line) {
            Reply::Error(text) => String::from_utf8_lossy(&text).into_owned(),
            reply => panic!("{line}: {reply:?} instead of an error"),
        }
    }

    /// One field of `INFO`.
    pub fn info(&mut self, section: &str, field: &str) -> Option<String> {
        let info = self.try_run(&format!("INFO {section}")).ok()?;
        let info = text(&info)?;
        info.lines()
            .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))
            .map(|value| value.trim().to_owned())
    }

    pub fn send(&mut self, args: &[&[u8]]) -> io::Result<()> {
        let mut request = Vec::with_capacity(64);
        encode(&mut request, args);
        self.stream.write_all(&request)
    }

    pub fn receive(&mut self) -> io::Result<Reply> {
        loop {
            match holdfast_resp::reply::parse(&self.received) {
                Ok(Some((reply, taken))) => {
                    self.received.drain(..taken);
                    return Ok(reply);
                }
                Ok(None) => {
                    let mut chunk = [0; 64 * 1024];
                    let read = self.stream.read(&mut chunk)?;
                    if read == 0 {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                    self.received.extend_from_slice(&chunk[..read]);
                }
                Err(error) => return Err(io::Error::other(error)),
            }
        }
    }
}

/// A command in RESP.
pub fn encode(out: &mut Vec<u8>, args: &[&[u8]]) {
    out.extend_from_slice(format!("*{}\r\n", args.len()).as_bytes());
    for arg in args {
        out.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
        out.extend_from_slice(arg);
        out.extend_from_slice(b"\r\n");
    }
}

/// The text of a string or a number.
pub fn text(reply: &Reply) -> Option<String> {
    match reply {
        Reply::Int(n) => Some(n.to_string()),
        reply => reply
            .as_bytes()
            .map(|b| String::from_utf8_lossy(b).into_owned()),
    }
}
