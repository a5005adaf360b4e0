//! `metrics-port`: what Prometheus asks for.
//!
//! A thread of its own serves a few connections at a time. For each answer it asks the executor, which takes notes in short
//! steps ([`collect`]) and does nothing else: the text is made here ([`text`]).

pub mod collect;
mod text;

use crate::config::Config;
use crate::seam::ExecutorHandle;
use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

/// Connections that are served at a time; further ones are closed.
const CONNECTIONS_MAX: usize = 8;
/// Bytes of a request.
const REQUEST_BYTES_MAX: usize = 8 * 1024;
/// From accepting a connection until its request is there, and from then on until the answer is written.
const PATIENCE: Duration = Duration::from_secs(10);

/// Begins to listen, if the configuration says so.
///
/// # Errors
/// An address cannot be listened on, or no thread be started.
pub fn start(config: &Config, executor: ExecutorHandle) -> io::Result<()> {
    let listeners = listen(config)?;
    if listeners.is_empty() {
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    std::thread::Builder::new()
        .name("metrics".into())
        .spawn(move || runtime.block_on(serve(listeners, executor)))?;
    Ok(())
}

fn listen(config: &Config) -> io::Result<Vec<TcpListener>> {
    let port = u16::try_from(config.int("metrics-port")).unwrap_or(0);
    let mut out = Vec::new();
    let words = config.get("metrics-bind").split(' ');
    for word in words.filter(|w| port != 0 && !w.is_empty()) {
        // A leading minus: an address that this machine may lack.
        let (optional, host) = match word.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, word),
        };
        let address = match host {
            "*" => "0.0.0.0",
            "::*" => "::",
            host => host,
        };
        match TcpListener::bind((address, port)) {
            Ok(listener) => {
                listener.set_nonblocking(true)?;
                out.push(listener);
            }
            Err(_) if optional => {}
            Err(e) => {
                let text = format!("Could not listen for metrics on {host}:{port}: {e}");
                return Err(io::Error::new(e.kind(), text));
            }
        }
    }
    Ok(out)
}

async fn serve(listeners: Vec<TcpListener>, executor: ExecutorHandle) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut tasks = Vec::new();
    for listener in listeners {
        let listener = match tokio::net::TcpListener::from_std(listener) {
            Ok(listener) => listener,
            Err(e) => {
                tracing::warn!("Listening for metrics: {e}");
                continue;
            }
        };
        tasks.push(tokio::spawn(accept(
            listener,
            executor.clone(),
            room.clone(),
        )));
    }
    for task in tasks {
        // They end with the process.
        let _ = task.await;
    }
}

async fn accept(listener: tokio::net::TcpListener, executor: ExecutorHandle, room: Arc<Semaphore>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let Ok(permit) = room.clone().try_acquire_owned() else {
                    continue;
                };
                let executor = executor.clone();
                tokio::spawn(async move {
                    // Whoever is slow or gone has to come again.
                    let _ = answer(stream, executor).await;
                    drop(permit);
                });
            }
            Err(e) => {
                tracing::warn!("Accepting a connection for metrics: {e}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn answer(mut stream: TcpStream, executor: ExecutorHandle) -> io::Result<()> {
    let path = tokio::time::timeout(PATIENCE, request(&mut stream)).await??;
    let (status, body) = match path.as_deref() {
        Some("/metrics") => {
            match tokio::time::timeout(PATIENCE, collect::collect(&executor)).await {
                Ok(Ok(notes)) => ("200 OK", text::render(&notes)),
                Ok(Err(_)) | Err(_) => ("503 Service Unavailable", "busy\n".to_string()),
            }
        }
        Some(_) => ("404 Not Found", "There is /metrics.\n".to_string()),
        None => ("400 Bad Request", "GET /metrics\n".to_string()),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let write = async {
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(body.as_bytes()).await?;
        stream.shutdown().await
    };
    tokio::time::timeout(PATIENCE, write).await?
}

/// Reads a request, and returns the path that it gets; `None` if it is none.
async fn request(stream: &mut TcpStream) -> io::Result<Option<String>> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 1024];
    while !bytes.windows(4).any(|w| w == b"\r\n\r\n") {
        let n = stream.read(&mut chunk).await?;
        if n == 0 || bytes.len() + n > REQUEST_BYTES_MAX {
            return Ok(None);
        }
        bytes.extend_from_slice(&chunk[..n]);
    }
    let head = String::from_utf8_lossy(&bytes);
    let mut words = head.split_whitespace();
    if words.next() != Some("GET") {
        return Ok(None);
    }
    let path = words.next().unwrap_or_default();
    Ok(Some(path.split('?').next().unwrap_or_default().to_string()))
}
