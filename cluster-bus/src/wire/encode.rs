//! Messages to bytes.

use super::*;
use crate::ids::{NAME_LEN, NodeId};
use crate::slots::SlotSet;
use bytes::Bytes;

/// What a full header is made of.
#[derive(Clone, Debug)]
pub struct HeaderOut<'a> {
    /// Who speaks.
    pub sender: NodeId,
    /// Clients' port (the TLS one where the bus is TLS).
    pub port: u16,
    /// The other of plain and TLS; 0 if none.
    pub other_port: u16,
    /// Bus port.
    pub bus_port: u16,
    /// The greatest epoch seen.
    pub current_epoch: u64,
    /// The config epoch of the sender, or of its primary.
    pub config_epoch: u64,
    /// Replication offset, in bytes.
    pub offset: u64,
    /// Slots of the sender, or of its primary.
    pub slots: &'a SlotSet,
    /// The sender's primary, if it is a replica.
    pub replica_of: Option<NodeId>,
    /// The announced address; empty to let the receiver take the socket's.
    pub address: &'a str,
    /// The sender's flags.
    pub flags: u16,
    /// The cluster's state: 0 ok, 1 fail.
    pub state: u8,
    /// Message flags.
    pub mflags: u8,
}

/// What a gossip entry is made of.
pub type GossipOut<'a> = super::Gossip<'a>;

fn put_address(out: &mut Vec<u8>, address: &str) {
    let end = out.len() + ADDRESS_LEN;
    out.extend(address.bytes().take(ADDRESS_LEN - 1));
    out.resize(end, 0);
}

fn header(kind: MessageType, from: &HeaderOut<'_>, count: u16, mflags: u8, room: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER_LEN + room);
    out.extend_from_slice(&SIGNATURE);
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&VERSION.to_be_bytes());
    out.extend_from_slice(&from.port.to_be_bytes());
    out.extend_from_slice(&(kind as u16).to_be_bytes());
    out.extend_from_slice(&count.to_be_bytes());
    out.extend_from_slice(&from.current_epoch.to_be_bytes());
    out.extend_from_slice(&from.config_epoch.to_be_bytes());
    out.extend_from_slice(&from.offset.to_be_bytes());
    out.extend_from_slice(from.sender.as_bytes());
    from.slots.write_bitmap(&mut out);
    match &from.replica_of {
        Some(primary) => out.extend_from_slice(primary.as_bytes()),
        None => out.extend_from_slice(&[0; NAME_LEN]),
    }
    put_address(&mut out, from.address);
    out.extend_from_slice(&[0; 2]);
    out.extend_from_slice(&HOLDFAST_MARK);
    out.extend_from_slice(&[0; 22]);
    out.extend_from_slice(&from.other_port.to_be_bytes());
    out.extend_from_slice(&from.bus_port.to_be_bytes());
    out.extend_from_slice(&from.flags.to_be_bytes());
    out.push(from.state);
    out.extend_from_slice(&[from.mflags | mflags, 0, 0]);
    debug_assert_eq!(out.len(), HEADER_LEN);
    out
}

fn finish(mut out: Vec<u8>) -> Bytes {
    let len = (out.len() as u32).to_be_bytes();
    out[4..8].copy_from_slice(&len);
    out.into()
}

/// A `PING`, `PONG` or `MEET`. Without `extensions` it still says that we read them.
pub fn encode_ping(
    kind: MessageType,
    from: &HeaderOut<'_>,
    gossip: &[GossipOut<'_>],
    extensions: Option<&Extensions>,
) -> Bytes {
    let gossip = &gossip[..gossip.len().min(usize::from(u16::MAX) - 1)];
    let mut out = header(
        kind,
        from,
        gossip.len() as u16,
        mflags::EXT_DATA,
        gossip.len() * GOSSIP_LEN + 512,
    );
    for entry in gossip {
        out.extend_from_slice(entry.node.as_bytes());
        out.extend_from_slice(&entry.ping_sent_s.to_be_bytes());
        out.extend_from_slice(&entry.pong_received_s.to_be_bytes());
        put_address(&mut out, entry.address);
        out.extend_from_slice(&entry.port.to_be_bytes());
        out.extend_from_slice(&entry.bus_port.to_be_bytes());
        out.extend_from_slice(&entry.flags.to_be_bytes());
        out.extend_from_slice(&entry.other_port.to_be_bytes());
        out.extend_from_slice(&[0; 2]);
    }
    if let Some(extensions) = extensions {
        let count = extensions.encode(&mut out);
        out[2214..2216].copy_from_slice(&count.to_be_bytes());
    }
    finish(out)
}

/// A `FAIL`.
pub fn encode_fail(from: &HeaderOut<'_>, failed: &NodeId) -> Bytes {
    let mut out = header(MessageType::Fail, from, 0, 0, NAME_LEN);
    out.extend_from_slice(failed.as_bytes());
    finish(out)
}

/// An `UPDATE` about `node`.
pub fn encode_update(
    from: &HeaderOut<'_>,
    node: &NodeId,
    config_epoch: u64,
    slots: &SlotSet,
) -> Bytes {
    let mut out = header(
        MessageType::Update,
        from,
        0,
        0,
        8 + NAME_LEN + crate::slots::BITMAP_LEN,
    );
    out.extend_from_slice(&config_epoch.to_be_bytes());
    out.extend_from_slice(node.as_bytes());
    slots.write_bitmap(&mut out);
    finish(out)
}

/// A message without data: `FAILOVER_AUTH_REQUEST`, `FAILOVER_AUTH_ACK`, `MFSTART`.
pub fn encode_bare(kind: MessageType, from: &HeaderOut<'_>) -> Bytes {
    finish(header(kind, from, 0, 0, 0))
}

fn put_publish(out: &mut Vec<u8>, channel: &[u8], message: &[u8]) {
    out.extend_from_slice(&(channel.len() as u32).to_be_bytes());
    out.extend_from_slice(&(message.len() as u32).to_be_bytes());
    out.extend_from_slice(channel);
    out.extend_from_slice(message);
}

/// A `PUBLISH` or `PUBLISHSHARD` with a full header.
pub fn encode_publish(
    from: &HeaderOut<'_>,
    sharded: bool,
    channel: &[u8],
    message: &[u8],
) -> Bytes {
    let kind = if sharded {
        MessageType::PublishShard
    } else {
        MessageType::Publish
    };
    let mut out = header(kind, from, 0, 0, 8 + channel.len() + message.len());
    put_publish(&mut out, channel, message);
    finish(out)
}

/// A `PUBLISH` or `PUBLISHSHARD` with a light header.
pub fn encode_publish_light(sharded: bool, channel: &[u8], message: &[u8]) -> Bytes {
    let kind = if sharded {
        MessageType::PublishShard
    } else {
        MessageType::Publish
    };
    let mut out = Vec::with_capacity(LIGHT_HEADER_LEN + 8 + channel.len() + message.len());
    out.extend_from_slice(&SIGNATURE);
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&VERSION.to_be_bytes());
    out.extend_from_slice(&[0; 2]);
    out.extend_from_slice(&(kind as u16 | LIGHT).to_be_bytes());
    out.extend_from_slice(&[0; 2]);
    put_publish(&mut out, channel, message);
    finish(out)
}
