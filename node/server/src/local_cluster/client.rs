//! A small blocking client: one connection, one command at a time, every wait bounded.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use holdfast_resp::reply::{self, Reply};

/// Longest reply taken from a node, in bytes. `CLUSTER NODES` of 1,000 nodes is some 200 KiB.
const REPLY_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Why a command has no reply.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// The connection failed, or the wait was over; what the system says.
    #[error("{0}")]
    Io(String),
    /// The node answered with an error.
    #[error("{0}")]
    Refused(String),
    /// The node sent something else than was asked for.
    #[error("an answer that makes no sense: {0}")]
    Garbled(String),
}

impl From<io::Error> for ClientError {
    fn from(error: io::Error) -> ClientError {
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                ClientError::Io("no answer in time".into())
            }
            _ => ClientError::Io(error.to_string()),
        }
    }
}

/// A connection to one node on this machine.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    /// What has come and is not yet a whole reply.
    received: Vec<u8>,
}

impl Client {
    /// Connects to `port` on the loopback address; `patience` bounds this and each later wait.
    ///
    /// # Errors
    /// [`ClientError::Io`]
    pub fn connect(port: u16, patience: Duration) -> Result<Client, ClientError> {
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

    /// Sends one command and waits for its reply.
    ///
    /// # Errors
    /// Any [`ClientError`]; after one other than [`ClientError::Refused`] the connection is of no more use.
    pub fn call(&mut self, args: &[&str]) -> Result<Reply, ClientError> {
        let mut request = format!("*{}\r\n", args.len());
        for arg in args {
            request.push_str(&format!("${}\r\n{arg}\r\n", arg.len()));
        }
        self.stream.write_all(request.as_bytes())?;
        loop {
            match reply::parse(&self.received) {
                Ok(Some((reply, taken))) => {
                    self.received.drain(..taken);
                    return match reply {
                        Reply::Error(text) => Err(ClientError::Refused(lossy(&text))),
                        reply => Ok(reply),
                    };
                }
                Ok(None) if self.received.len() < REPLY_BYTES_MAX => {
                    let mut chunk = [0; 16 * 1024];
                    let read = self.stream.read(&mut chunk)?;
                    if read == 0 {
                        return Err(ClientError::Io("the connection was closed".into()));
                    }
                    self.received.extend_from_slice(&chunk[..read]);
                }
                Ok(None) => return Err(ClientError::Garbled("a reply without an end".into())),
                Err(error) => return Err(ClientError::Garbled(error.to_string())),
            }
        }
    }

    /// As [`Client::call`], for commands that answer with a string.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn text(&mut self, args: &[&str]) -> Result<String, ClientError> {
        let reply = self.call(args)?;
        match reply.as_bytes() {
            Some(text) => Ok(lossy(text)),
            None => Err(ClientError::Garbled(format!("{reply:?}"))),
        }
    }
}

fn lossy(text: &[u8]) -> String {
    String::from_utf8_lossy(text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn answer(reply: &'static str) -> Result<String, ClientError> {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let node = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a client");
            let mut request = [0; 14];
            stream.read_exact(&mut request).expect("a request");
            assert_eq!(&request, b"*1\r\n$4\r\nPING\r\n");
            stream.write_all(reply.as_bytes()).expect("sent");
        });
        let client = Client::connect(port, Duration::from_secs(5));
        let got = client.and_then(|mut client| client.text(&["PING"]));
        node.join().expect("the node is well");
        got
    }

    #[test]
    fn answers_of_each_kind() {
        assert_eq!(answer("+PONG\r\n"), Ok("PONG".into()));
        assert_eq!(answer("$5\r\na\r\nbc\r\n"), Ok("a\r\nbc".into()));
        let refused = ClientError::Refused("ERR no".into());
        assert_eq!(answer("-ERR no\r\n"), Err(refused));
    }

    #[test]
    fn nonsense_is_an_error() {
        assert!(matches!(answer("hello\r\n"), Err(ClientError::Garbled(_))));
        assert!(matches!(answer(":1\r\n"), Err(ClientError::Garbled(_))));
        assert!(matches!(answer("$5\r\nab"), Err(ClientError::Io(_))));
    }
}
