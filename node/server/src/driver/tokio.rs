//! The portable driver: the executor is one task, each connection another. The simulator runs this one.
//!
//! Connection tasks pass bytes to the executor's task over one bounded queue and are handed one piece of output at a
//! time; the next follows when they report it written, so that a slow reader's output stays in its [`crate::executor::Output`].

use super::Clock;
use crate::executor::{AcceptInfo, Close, ConnId, Ending, Executor};
use crate::seam::ExecutorInbox;
use std::collections::BTreeMap;
use std::io;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};

/// Events of connections that may wait for the executor.
const EVENTS_MAX: usize = 1024;
/// Events taken in one turn.
const TURN_EVENTS_MAX: usize = 256;
/// Bytes read, or handed out to be written, at once.
const PIECE_BYTES: usize = 64 * 1024;

enum Event {
    Accepted {
        info: AcceptInfo,
        out: mpsc::Sender<Piece>,
        id: oneshot::Sender<Result<ConnId, Vec<u8>>>,
    },
    Bytes(ConnId, Vec<u8>),
    Written(ConnId),
    Closed(ConnId),
}

/// Something to be written, and whether the connection ends behind it.
struct Piece {
    bytes: Vec<u8>,
    close: bool,
}

/// What the executor's task knows of a connection's task.
struct Peer {
    out: mpsc::Sender<Piece>,
    /// A piece is on its way.
    busy: bool,
}

/// Runs an executor and its listener until the executor is done, and gives the executor back.
///
/// # Errors
/// None at present; accepting goes on after errors.
pub async fn run(
    mut executor: Executor,
    mut inbox: ExecutorInbox,
    listener: TcpListener,
    clock: Clock,
) -> io::Result<Executor> {
    let (tx, mut rx) = mpsc::channel::<Event>(EVENTS_MAX);
    let acceptor = tokio::spawn(accept(listener, tx));
    let mut peers: BTreeMap<ConnId, Peer> = BTreeMap::new();
    let mut dirty = Vec::new();
    let mut inbox_open = true;
    loop {
        let wait = executor
            .next_deadline_ms()
            .saturating_sub(clock.now().mono_ms());
        let takes_input = executor.takes_input();
        let mut event = None;
        let mut message = None;
        tokio::select! {
            biased;
            m = inbox.next(), if inbox_open => {
                inbox_open = m.is_some();
                message = m;
            }
            e = rx.recv(), if takes_input => event = e,
            () = tokio::time::sleep(Duration::from_millis(wait)) => {}
        }
        executor.begin_turn(clock.now());
        let mut left = TURN_EVENTS_MAX;
        while let Some(m) = message.take() {
            executor.on_message(m);
            left -= 1;
            if left > 0 {
                message = inbox.try_next();
            }
        }
        let mut left = TURN_EVENTS_MAX;
        while let Some(e) = event.take() {
            on_event(&mut executor, &mut peers, e);
            left -= 1;
            if left > 0 && executor.takes_input() {
                event = rx.try_recv().ok();
            }
        }
        executor.end_turn();
        executor.take_dirty(&mut dirty);
        for id in &dirty {
            hand_out(&mut executor, &mut peers, *id);
        }
        executor.on_turn_over();
        executor.config_changed.clear();
        if executor.ending() == Ending::Done {
            acceptor.abort();
            return Ok(executor);
        }
    }
}

fn on_event(executor: &mut Executor, peers: &mut BTreeMap<ConnId, Peer>, event: Event) {
    match event {
        Event::Accepted { info, out, id } => match executor.on_accept(info) {
            Ok(conn) => {
                peers.insert(conn, Peer { out, busy: false });
                if id.send(Ok(conn)).is_err() {
                    peers.remove(&conn);
                    executor.on_closed(conn);
                }
            }
            Err(text) => {
                // If its task has gone nobody wants to know.
                let _ = id.send(Err(text.to_vec()));
            }
        },
        Event::Bytes(conn, bytes) => executor.on_bytes(conn, &bytes),
        Event::Written(conn) => {
            if let Some(peer) = peers.get_mut(&conn) {
                peer.busy = false;
            }
            executor.mark_dirty(conn);
        }
        Event::Closed(conn) => {
            peers.remove(&conn);
            executor.on_closed(conn);
        }
    }
}

fn hand_out(executor: &mut Executor, peers: &mut BTreeMap<ConnId, Peer>, id: ConnId) {
    let Some(peer) = peers.get_mut(&id) else {
        return;
    };
    executor.check_output_limit(id);
    let Some(c) = executor.conns.get_mut(id) else {
        return;
    };
    if c.close == Close::Now {
        // Dropping the sender ends the task.
        peers.remove(&id);
        return executor.on_closed(id);
    }
    if peer.busy {
        return;
    }
    let mut bytes = Vec::new();
    for part in c.out.ready() {
        let room = PIECE_BYTES - bytes.len();
        bytes.extend_from_slice(&part[..part.len().min(room)]);
    }
    let n = bytes.len();
    c.out.on_written(n);
    c.bytes_out += n as u64;
    let close = c.close == Close::AfterReplies && c.out.is_empty();
    executor.stats.bytes_out += n as u64;
    executor.stats.writes += u64::from(n > 0);
    if n == 0 && !close {
        return;
    }
    // There is room: a piece is on its way only while `busy`.
    peer.busy = peer.out.try_send(Piece { bytes, close }).is_ok();
}

async fn accept(listener: TcpListener, events: mpsc::Sender<Event>) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                let info = AcceptInfo {
                    peer: Some(peer),
                    local: stream.local_addr().ok(),
                    fd: -1,
                    unix_path: None,
                    tls: false,
                };
                tokio::spawn(serve(stream, info, events.clone()));
            }
            Err(e) => {
                tracing::warn!("Accepting client connection: {e}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        if events.is_closed() {
            return;
        }
    }
}

async fn serve(mut stream: TcpStream, info: AcceptInfo, events: mpsc::Sender<Event>) {
    // A connection that refuses the option works without it.
    let _ = stream.set_nodelay(true);
    let (out, mut pieces) = mpsc::channel::<Piece>(1);
    let (tx, rx) = oneshot::channel();
    if events
        .send(Event::Accepted { info, out, id: tx })
        .await
        .is_err()
    {
        return;
    }
    let id = match rx.await {
        Ok(Ok(id)) => id,
        Ok(Err(text)) => {
            let _ = stream.write_all(&text).await;
            let _ = stream.flush().await;
            return;
        }
        Err(_) => return,
    };
    let mut buffer = vec![0; PIECE_BYTES];
    loop {
        tokio::select! {
            biased;
            piece = pieces.recv() => {
                let Some(piece) = piece else { return };
                let written = async {
                    stream.write_all(&piece.bytes).await?;
                    stream.flush().await
                };
                if written.await.is_err() || piece.close {
                    break;
                }
                if events.send(Event::Written(id)).await.is_err() {
                    return;
                }
            }
            read = stream.read(&mut buffer) => match read {
                Ok(n) if n > 0 => {
                    let bytes = buffer[..n].to_vec();
                    if events.send(Event::Bytes(id, bytes)).await.is_err() {
                        return;
                    }
                }
                Ok(_) | Err(_) => break,
            }
        }
    }
    // If the executor has ended there is nobody to tell.
    let _ = events.send(Event::Closed(id)).await;
}
