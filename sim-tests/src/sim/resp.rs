//! A client's connection to a node, over the simulated network.

use holdfast_resp::reply::{self, Reply};
use holdfast_resp::write;
use madsim::time::timeout;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// One connection; replies come in the order of the commands.
pub struct Conn {
    stream: TcpStream,
    received: Vec<u8>,
}

/// Why there is no reply.
#[derive(Debug)]
pub enum NoReply {
    /// Nothing was sent: the connection could not be made.
    Unsent,
    /// It was sent, and the connection broke or the time was over.
    Sent,
}

impl Conn {
    /// Connects, waiting at most `patience`.
    ///
    /// # Errors
    /// [`NoReply::Unsent`].
    pub async fn open(addr: SocketAddr, patience: Duration) -> Result<Conn, NoReply> {
        match timeout(patience, TcpStream::connect(addr)).await {
            Ok(Ok(stream)) => Ok(Conn {
                stream,
                received: Vec::new(),
            }),
            _ => Err(NoReply::Unsent),
        }
    }

    /// Sends commands in one packet and waits for all replies.
    ///
    /// # Errors
    /// [`NoReply::Sent`]; the connection is of no more use then.
    pub async fn call(
        &mut self,
        commands: &[Vec<String>],
        patience: Duration,
    ) -> Result<Vec<Reply>, NoReply> {
        let mut request = Vec::new();
        commands
            .iter()
            .for_each(|argv| write::command(&mut request, argv));
        let work = async {
            self.stream.write_all(&request).await?;
            self.stream.flush().await?;
            let mut replies = Vec::new();
            while replies.len() < commands.len() {
                replies.push(self.reply().await?);
            }
            Ok::<_, io::Error>(replies)
        };
        match timeout(patience, work).await {
            Ok(Ok(replies)) => Ok(replies),
            _ => Err(NoReply::Sent),
        }
    }

    /// Sends commands and goes away without waiting.
    pub async fn abandon(mut self, commands: &[Vec<String>]) {
        let mut request = Vec::new();
        commands
            .iter()
            .for_each(|argv| write::command(&mut request, argv));
        let _ = self.stream.write_all(&request).await;
        let _ = self.stream.flush().await;
    }

    async fn reply(&mut self) -> io::Result<Reply> {
        loop {
            if let Some((reply, taken)) = reply::parse(&self.received).map_err(io::Error::other)? {
                self.received.drain(..taken);
                return Ok(reply);
            }
            let mut chunk = [0; 16384];
            let n = self.stream.read(&mut chunk).await?;
            if n == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.received.extend_from_slice(&chunk[..n]);
        }
    }
}

/// A command from words.
pub fn argv(words: &[&str]) -> Vec<String> {
    words.iter().map(|w| (*w).to_string()).collect()
}

/// A reply as text, for history lines and for parsing `CLUSTER NODES`.
pub fn text(reply: &Reply) -> String {
    match reply {
        Reply::Error(e) => format!("-{}", String::from_utf8_lossy(e)),
        Reply::Int(n) => n.to_string(),
        Reply::Null => "(nil)".into(),
        other => match other.as_bytes() {
            Some(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            None => format!("{other:?}"),
        },
    }
}
