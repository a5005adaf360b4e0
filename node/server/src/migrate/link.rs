//! A source's link to a target: one connection, carrying the stream one way and messages both ways.

use super::directory::Peer;
use super::peer::{Credentials, connect_to, read_reply};
use holdfast_resp::reply::Reply;
use holdfast_resp::{Limits, Parse, RequestParser};
use holdfast_slot_migration::LinkMessage;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// A target's message is short; whatever is longer is none.
const MESSAGE_BYTES_MAX: usize = 64 * 1024;
/// Pieces of the stream are written together up to this size.
const WRITE_BYTES: usize = 256 * 1024;

/// What a link tells the control thread.
#[derive(Debug)]
pub enum LinkEvent {
    /// The connection is open, authentication begins.
    Authenticating,
    /// It is ready for `ESTABLISH`.
    Connected,
    /// The answer to `ESTABLISH`.
    Established(Result<(), String>),
    /// The target said something.
    Message(LinkMessage),
    /// It could not be opened, or broke.
    Down(String),
}

/// Bytes on their way out. Unbounded as a queue: what bounds it is the job, whose snapshot waits while much is on its
/// way and which ends when writes come faster than the link takes them.
pub type LinkOut = mpsc::UnboundedSender<Vec<u8>>;

/// A running link. Dropping it closes the connection.
#[derive(Debug)]
pub struct Link {
    /// What is put in here is sent, in order. The first thing must be `ESTABLISH`.
    pub out: LinkOut,
    task: JoinHandle<()>,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Link {
    /// Opens a link; `event` is called with what happens to it.
    pub fn open(
        peer: Peer,
        credentials: Credentials,
        connect_limit: Duration,
        event: impl Fn(LinkEvent) + Send + Sync + 'static,
    ) -> Link {
        let (out, rx) = mpsc::unbounded_channel();
        let task = tokio::spawn(async move {
            let reason = match run(&peer, &credentials, connect_limit, rx, &event).await {
                Ok(()) => "connection closed".to_string(),
                Err(reason) => reason,
            };
            event(LinkEvent::Down(reason));
        });
        Link { out, task }
    }
}

async fn run(
    peer: &Peer,
    credentials: &Credentials,
    connect_limit: Duration,
    mut rx: mpsc::UnboundedReceiver<Vec<u8>>,
    event: &(impl Fn(LinkEvent) + Send + Sync),
) -> Result<(), String> {
    let mut stream = connect_to(peer, &credentials.tls, connect_limit).await?;
    let mut buf = Vec::new();
    let mut auth = Vec::new();
    if credentials.write(&mut auth) {
        event(LinkEvent::Authenticating);
        stream.write_all(&auth).await.map_err(|e| e.to_string())?;
        stream.flush().await.map_err(|e| e.to_string())?;
        if let Reply::Error(error) = read_reply(&mut stream, &mut buf).await? {
            return Err(String::from_utf8_lossy(&error).into_owned());
        }
    }
    event(LinkEvent::Connected);
    let establish = rx.recv().await.ok_or("given up")?;
    stream
        .write_all(&establish)
        .await
        .map_err(|e| e.to_string())?;
    stream.flush().await.map_err(|e| e.to_string())?;
    match read_reply(&mut stream, &mut buf).await? {
        Reply::Error(error) => {
            let text = String::from_utf8_lossy(&error).into_owned();
            event(LinkEvent::Established(Err(text)));
            return Ok(());
        }
        _ => event(LinkEvent::Established(Ok(()))),
    }
    let (mut read, mut write) = tokio::io::split(stream);
    let reading = async {
        let limits = Limits {
            bulk_bytes_max: MESSAGE_BYTES_MAX,
            authenticated: true,
        };
        let mut parser = RequestParser::new();
        loop {
            match parser.parse(&buf, &limits) {
                Ok(Parse::Command { consumed }) => {
                    let argv: Vec<&[u8]> = parser.args(&buf).collect();
                    match message(&argv) {
                        Some(message) => event(LinkEvent::Message(message)),
                        None => {
                            return Err::<(), String>(
                                "the target does not keep to the protocol".into(),
                            );
                        }
                    }
                    buf.drain(..consumed);
                }
                Ok(Parse::Empty { consumed }) => drop(buf.drain(..consumed)),
                Ok(Parse::Incomplete { .. }) => {
                    let mut chunk = [0; 4096];
                    match read.read(&mut chunk).await {
                        Ok(0) => return Ok(()),
                        Ok(n) => buf.extend_from_slice(&chunk[..n]),
                        Err(error) => return Err(error.to_string()),
                    }
                }
                Err(error) => return Err(error.to_string()),
            }
        }
    };
    let writing = async {
        while let Some(mut bytes) = rx.recv().await {
            while bytes.len() < WRITE_BYTES
                && let Ok(more) = rx.try_recv()
            {
                bytes.extend_from_slice(&more);
            }
            write.write_all(&bytes).await.map_err(|e| e.to_string())?;
            write.flush().await.map_err(|e| e.to_string())?;
        }
        Ok::<(), String>(())
    };
    tokio::select! {
        biased;
        result = reading => result,
        result = writing => result,
    }
}

/// Reads `CLUSTER SYNCSLOTS …`.
pub fn message(argv: &[&[u8]]) -> Option<LinkMessage> {
    match argv {
        [cluster, syncslots, rest @ ..]
            if cluster.eq_ignore_ascii_case(b"cluster")
                && syncslots.eq_ignore_ascii_case(b"syncslots") =>
        {
            LinkMessage::parse(rest)
        }
        _ => None,
    }
}
