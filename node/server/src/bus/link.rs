//! A connection of the bus, as a task.

use super::BusEvent;
use crate::tls::peer::PeerStream;
use crate::tls::{Link, Tls};
use bytes::{Buf, Bytes, BytesMut};
use holdfast_cluster_bus::LinkId;
use holdfast_cluster_bus::wire::{DropReason, frame_len};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tracing::debug;

/// Read at once, at most.
const READ_BYTES: usize = 64 << 10;
/// A pause after an accept that failed (no more file descriptors, say), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The handle of a connection's task. Dropping it closes the connection.
#[derive(Debug)]
pub(super) struct LinkTask {
    to_send: mpsc::UnboundedSender<Bytes>,
    queued: Arc<AtomicU64>,
    task: JoinHandle<()>,
    inbound: bool,
}

impl Drop for LinkTask {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl LinkTask {
    pub fn accepted(
        id: LinkId,
        stream: TcpStream,
        tls: Tls,
        events: mpsc::Sender<BusEvent>,
    ) -> LinkTask {
        LinkTask::spawn(true, |sends, queued| async move {
            let _ = stream.set_nodelay(true);
            let peer = stream.peer_addr();
            let end = match tls.accept(Link::Cluster, stream).await {
                Ok(stream) => serve(id, stream, sends, queued, &events).await,
                Err(error) => {
                    // Valkey says so at this level, too: anybody can connect as often as they like.
                    debug!("Error accepting cluster node connection from {peer:?}: {error}");
                    BusEvent::Closed(id)
                }
            };
            let _ = events.send(end).await;
        })
    }

    pub fn connect(
        id: LinkId,
        (host, port): (String, u16),
        tls: Tls,
        limit: Duration,
        events: mpsc::Sender<BusEvent>,
    ) -> LinkTask {
        LinkTask::spawn(false, move |sends, queued| async move {
            let dial = async {
                let stream = TcpStream::connect((host.as_str(), port)).await?;
                let _ = stream.set_nodelay(true);
                let peer = stream.peer_addr().ok().map(|addr| addr.ip());
                let local = stream.local_addr().ok().map(|addr| addr.ip());
                let stream = tls
                    .connect(Link::Cluster, stream)
                    .await
                    .inspect_err(|error| {
                        debug!("Error connecting to cluster node at {host}:{port}: {error}");
                    })?;
                Ok::<_, io::Error>((stream, peer, local))
            };
            let end = match tokio::time::timeout(limit, dial).await {
                Ok(Ok((stream, peer, local))) => {
                    if events
                        .send(BusEvent::Connected(id, peer, local))
                        .await
                        .is_err()
                    {
                        return;
                    }
                    serve(id, stream, sends, queued, &events).await
                }
                Ok(Err(_)) | Err(_) => BusEvent::Closed(id),
            };
            let _ = events.send(end).await;
        })
    }

    fn spawn<F, R>(inbound: bool, run: F) -> LinkTask
    where
        F: FnOnce(mpsc::UnboundedReceiver<Bytes>, Arc<AtomicU64>) -> R,
        R: Future<Output = ()> + Send + 'static,
    {
        // Unbounded in number, bounded in bytes: by the bus (`cluster-link-sendbuf-limit`) and by the driver.
        let (to_send, sends) = mpsc::unbounded_channel();
        let queued = Arc::new(AtomicU64::new(0));
        let task = tokio::task::spawn(run(sends, queued.clone()));
        LinkTask {
            to_send,
            queued,
            task,
            inbound,
        }
    }

    pub fn send(&self, packet: Bytes) {
        self.queued
            .fetch_add(packet.len() as u64, Ordering::Relaxed);
        // If the task has ended, its last event is on the way.
        let _ = self.to_send.send(packet);
    }

    pub fn queued(&self) -> u64 {
        self.queued.load(Ordering::Relaxed)
    }

    pub fn inbound(&self) -> bool {
        self.inbound
    }
}

/// Reads and writes until the end of the connection; returns the event that reports it.
async fn serve(
    id: LinkId,
    stream: PeerStream,
    sends: mpsc::UnboundedReceiver<Bytes>,
    queued: Arc<AtomicU64>,
    events: &mpsc::Sender<BusEvent>,
) -> BusEvent {
    let (reading, writing) = tokio::io::split(stream);
    tokio::select! {
        biased;
        end = read(id, reading, events) => end,
        _ = write(writing, sends, queued) => BusEvent::Closed(id),
    }
}

async fn read<R: tokio::io::AsyncRead + Unpin>(
    id: LinkId,
    mut from: R,
    events: &mpsc::Sender<BusEvent>,
) -> BusEvent {
    let mut buffer = BytesMut::new();
    loop {
        match take_packet(&mut buffer) {
            Ok(Some(packet)) => {
                if events.send(BusEvent::Packet(id, packet)).await.is_err() {
                    return BusEvent::Closed(id);
                }
                continue;
            }
            Ok(None) => {}
            Err(reason) => return BusEvent::Foreign(id, reason),
        }
        // The buffer grows with what has come, never by what a header promises.
        buffer.reserve(READ_BYTES);
        match from.read_buf(&mut buffer).await {
            Ok(0) | Err(_) => return BusEvent::Closed(id),
            Ok(_) => {}
        }
    }
}

/// Cuts the first message off, if it is whole.
fn take_packet(buffer: &mut BytesMut) -> Result<Option<Bytes>, DropReason> {
    Ok(match frame_len(buffer)? {
        Some(len) if buffer.len() >= len => Some(buffer.split_to(len).freeze()),
        _ => None,
    })
}

async fn write<W: tokio::io::AsyncWrite + Unpin>(
    mut to: W,
    mut sends: mpsc::UnboundedReceiver<Bytes>,
    queued: Arc<AtomicU64>,
) -> io::Result<()> {
    while let Some(mut packet) = sends.recv().await {
        loop {
            let len = packet.len() as u64;
            while packet.has_remaining() {
                to.write_buf(&mut packet).await?;
            }
            queued.fetch_sub(len, Ordering::Relaxed);
            match sends.try_recv() {
                Ok(next) => packet = next,
                Err(_) => break,
            }
        }
        to.flush().await?;
    }
    Ok(())
}

/// Takes connections in until the bus ends.
pub(super) async fn accept(listener: TcpListener, events: mpsc::Sender<BusEvent>) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                if events
                    .send(BusEvent::Accepted(stream, peer.ip()))
                    .await
                    .is_err()
                {
                    return;
                }
            }
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

/// Ticks until the bus ends. A control thread that is late gets one tick, not many.
pub(super) async fn tick(period: Duration, events: mpsc::Sender<BusEvent>) {
    loop {
        tokio::time::sleep(period).await;
        if events.send(BusEvent::Tick).await.is_err() {
            return;
        }
    }
}
