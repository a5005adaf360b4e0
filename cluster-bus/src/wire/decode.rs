//! Bytes to messages. No input makes this panic or allocate more than a small multiple of its own length.

use super::*;
use crate::ids::{NAME_LEN, NodeId};
use crate::slots::BITMAP_LEN;

/// Why a message was dropped; counted, and logged at most once a minute by the driver.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, thiserror::Error)]
pub enum DropReason {
    /// Does not begin with "RCmb": not this protocol. The connection is closed.
    #[error("bad signature")]
    BadSignature,
    /// The total length is smaller than a header or larger than any message. The connection is closed.
    #[error("bad length")]
    BadLength,
    /// Not version 1.
    #[error("unknown protocol version")]
    BadVersion,
    /// A type that does not exist, or not with a light header.
    #[error("unknown message type")]
    UnknownType,
    /// The parts do not add up to the total length.
    #[error("length does not match content")]
    LengthMismatch,
    /// An extension is cut, not padded, or holds what no extension may.
    #[error("bad extension")]
    BadExtension,
    /// A name is not forty characters of `0-9a-z`.
    #[error("bad node name")]
    BadNodeId,
    /// An address is not the text of one.
    #[error("bad address")]
    BadAddress,
    /// A light message on a link whose node is not known: it has no sender.
    #[error("light message from an unknown node")]
    LightFromUnknown,
    /// A well-formed message that only known nodes may send. Common while nodes join or after a reset.
    #[error("sender is not a known node")]
    UnknownSender,
}

impl DropReason {
    /// All reasons, in the order of [`DropReason::index`].
    pub const ALL: [DropReason; 10] = [
        DropReason::BadSignature,
        DropReason::BadLength,
        DropReason::BadVersion,
        DropReason::UnknownType,
        DropReason::LengthMismatch,
        DropReason::BadExtension,
        DropReason::BadNodeId,
        DropReason::BadAddress,
        DropReason::LightFromUnknown,
        DropReason::UnknownSender,
    ];

    /// The reason's place in a table of counters.
    pub fn index(self) -> usize {
        self as usize
    }
}

/// A full header, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header<'a> {
    /// Who speaks.
    pub sender: NodeId,
    /// Clients' port (the TLS one where the bus is TLS).
    pub port: u16,
    /// The other of plain and TLS; 0 if none.
    pub other_port: u16,
    /// Bus port.
    pub bus_port: u16,
    /// The greatest epoch that the sender has seen.
    pub current_epoch: u64,
    /// The config epoch of the sender, or of its primary.
    pub config_epoch: u64,
    /// Replication offset, in bytes.
    pub offset: u64,
    /// Slots of the sender, or of its primary.
    pub slots: &'a [u8; BITMAP_LEN],
    /// The sender's primary, if it is a replica.
    pub replica_of: Option<NodeId>,
    /// The announced address; empty: take the socket's.
    pub address: &'a str,
    /// The sender's flags; see [`super::flags`].
    pub flags: u16,
    /// The cluster's state as the sender sees it: 0 ok, 1 fail.
    pub state: u8,
    /// Message flags; see [`super::mflags`].
    pub mflags: u8,
    /// The sender is a Holdfast node.
    pub holdfast: bool,
}

/// A gossip entry: what the sender knows of a third node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gossip<'a> {
    /// The node.
    pub node: NodeId,
    /// When the sender's pending ping was sent, in Unix seconds; 0 if none is pending.
    pub ping_sent_s: u32,
    /// When the sender had its last pong, in Unix seconds.
    pub pong_received_s: u32,
    /// The node's address.
    pub address: &'a str,
    /// Clients' port (the TLS one where the bus is TLS).
    pub port: u16,
    /// Bus port.
    pub bus_port: u16,
    /// The node's flags, as the sender sees them.
    pub flags: u16,
    /// The other of plain and TLS; 0 if none.
    pub other_port: u16,
}

/// The data of a `PING`, `PONG` or `MEET`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PingBody<'a> {
    /// The entries; `None` if one of them has a name that is none, which makes all of them untrustworthy.
    pub gossip: Option<Vec<Gossip<'a>>>,
    /// The extensions.
    pub extensions: Extensions,
}

/// A message's data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body<'a> {
    /// `PING`.
    Ping(PingBody<'a>),
    /// `PONG`.
    Pong(PingBody<'a>),
    /// `MEET`.
    Meet(PingBody<'a>),
    /// `FAIL`: this node has failed.
    Fail(NodeId),
    /// `PUBLISH` and `PUBLISHSHARD`.
    Publish {
        /// A shard channel.
        sharded: bool,
        /// The channel.
        channel: &'a [u8],
        /// The message.
        message: &'a [u8],
    },
    /// `FAILOVER_AUTH_REQUEST`.
    FailoverAuthRequest,
    /// `FAILOVER_AUTH_ACK`.
    FailoverAuthAck,
    /// `UPDATE`: a node's claim, told by another.
    Update {
        /// The claimant.
        node: NodeId,
        /// Its config epoch.
        config_epoch: u64,
        /// Its slots.
        slots: &'a [u8; BITMAP_LEN],
    },
    /// `MFSTART`.
    MfStart,
    /// `MODULE`; we have no modules, so the payload is not kept.
    Module,
}

impl Body<'_> {
    /// The message's type.
    pub fn message_type(&self) -> MessageType {
        match self {
            Body::Ping(_) => MessageType::Ping,
            Body::Pong(_) => MessageType::Pong,
            Body::Meet(_) => MessageType::Meet,
            Body::Fail(_) => MessageType::Fail,
            Body::Publish { sharded: false, .. } => MessageType::Publish,
            Body::Publish { sharded: true, .. } => MessageType::PublishShard,
            Body::FailoverAuthRequest => MessageType::FailoverAuthRequest,
            Body::FailoverAuthAck => MessageType::FailoverAuthAck,
            Body::Update { .. } => MessageType::Update,
            Body::MfStart => MessageType::MfStart,
            Body::Module => MessageType::Module,
        }
    }
}

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// The header; `None` if it is light, so that the link alone says who speaks.
    pub header: Option<Header<'a>>,
    /// The data.
    pub body: Body<'a>,
}

fn u16_at(data: &[u8], at: usize) -> Result<u16, DropReason> {
    data.get(at..at + 2)
        .and_then(|b| b.first_chunk())
        .map(|b| u16::from_be_bytes(*b))
        .ok_or(DropReason::LengthMismatch)
}

fn u32_at(data: &[u8], at: usize) -> Result<u32, DropReason> {
    data.get(at..at + 4)
        .and_then(|b| b.first_chunk())
        .map(|b| u32::from_be_bytes(*b))
        .ok_or(DropReason::LengthMismatch)
}

fn u64_at(data: &[u8], at: usize) -> Result<u64, DropReason> {
    data.get(at..at + 8)
        .and_then(|b| b.first_chunk())
        .map(|b| u64::from_be_bytes(*b))
        .ok_or(DropReason::LengthMismatch)
}

fn chunk_at<const N: usize>(data: &[u8], at: usize) -> Result<&[u8; N], DropReason> {
    data.get(at..)
        .and_then(|b| b.first_chunk())
        .ok_or(DropReason::LengthMismatch)
}

fn id_at(data: &[u8], at: usize) -> Result<NodeId, DropReason> {
    NodeId::parse(chunk_at::<NAME_LEN>(data, at)?).map_err(|_| DropReason::BadNodeId)
}

fn address_at(data: &[u8], at: usize) -> Result<&str, DropReason> {
    let field: &[u8; ADDRESS_LEN] = chunk_at(data, at)?;
    let text = field.split(|byte| *byte == 0).next().unwrap_or_default();
    let fits = |c: &u8| c.is_ascii_alphanumeric() || b".:-_%".contains(c);
    if text.len() == ADDRESS_LEN || !text.iter().all(fits) {
        return Err(DropReason::BadAddress);
    }
    std::str::from_utf8(text).map_err(|_| DropReason::BadAddress)
}

/// The length of the message that begins with `data`, in bytes; `None` while fewer than 16 bytes are there.
///
/// An error means that this is not the protocol, or that the place of the next message cannot be known: close the connection.
pub fn frame_len(data: &[u8]) -> Result<Option<usize>, DropReason> {
    let head = &data[..data.len().min(SIGNATURE.len())];
    if *head != SIGNATURE[..head.len()] {
        return Err(DropReason::BadSignature);
    }
    if data.len() < LIGHT_HEADER_LEN {
        return Ok(None);
    }
    let len = u32_at(data, 4)? as usize;
    let kind = u16_at(data, 12)?;
    let min = if kind & LIGHT != 0 {
        LIGHT_HEADER_LEN
    } else {
        HEADER_LEN
    };
    let max = match MessageType::from_wire(kind & !LIGHT) {
        Some(kind) if kind.has_light_form() => PAYLOAD_MESSAGE_MAX,
        _ => MESSAGE_MAX,
    };
    if len < min || len > max {
        Err(DropReason::BadLength)
    } else {
        Ok(Some(len))
    }
}

/// Reads one whole message, whose length is [`frame_len`].
pub fn decode(packet: &[u8]) -> Result<Message<'_>, DropReason> {
    match frame_len(packet)? {
        Some(len) if len == packet.len() => {}
        _ => return Err(DropReason::LengthMismatch),
    }
    if u16_at(packet, 8)? != VERSION {
        return Err(DropReason::BadVersion);
    }
    let number = u16_at(packet, 12)?;
    let kind = MessageType::from_wire(number & !LIGHT).ok_or(DropReason::UnknownType)?;
    if number & LIGHT != 0 {
        if !kind.has_light_form() {
            return Err(DropReason::UnknownType);
        }
        let body = decode_body(kind, packet, LIGHT_HEADER_LEN)?;
        return Ok(Message { header: None, body });
    }
    let header = decode_header(packet)?;
    let body = decode_body(kind, packet, HEADER_LEN)?;
    Ok(Message {
        header: Some(header),
        body,
    })
}

fn decode_header(packet: &[u8]) -> Result<Header<'_>, DropReason> {
    let replica_of: &[u8; NAME_LEN] = chunk_at(packet, 2128)?;
    let replica_of = if *replica_of == [0; NAME_LEN] {
        None
    } else {
        Some(id_at(packet, 2128)?)
    };
    Ok(Header {
        sender: id_at(packet, 40)?,
        port: u16_at(packet, 10)?,
        other_port: u16_at(packet, 2246)?,
        bus_port: u16_at(packet, 2248)?,
        current_epoch: u64_at(packet, 16)?,
        config_epoch: u64_at(packet, 24)?,
        offset: u64_at(packet, 32)?,
        slots: chunk_at(packet, 80)?,
        replica_of,
        address: address_at(packet, 2168)?,
        flags: u16_at(packet, 2250)?,
        state: *packet.get(2252).ok_or(DropReason::LengthMismatch)?,
        mflags: *packet.get(2253).ok_or(DropReason::LengthMismatch)?,
        holdfast: chunk_at::<8>(packet, 2216)? == &HOLDFAST_MARK,
    })
}

fn decode_body(kind: MessageType, packet: &[u8], at: usize) -> Result<Body<'_>, DropReason> {
    let data = packet.get(at..).ok_or(DropReason::LengthMismatch)?;
    let exactly = |len: usize| {
        if data.len() == len {
            Ok(())
        } else {
            Err(DropReason::LengthMismatch)
        }
    };
    Ok(match kind {
        MessageType::Ping => Body::Ping(decode_ping(packet, data)?),
        MessageType::Pong => Body::Pong(decode_ping(packet, data)?),
        MessageType::Meet => Body::Meet(decode_ping(packet, data)?),
        MessageType::Fail => {
            exactly(NAME_LEN)?;
            Body::Fail(id_at(data, 0)?)
        }
        MessageType::Publish | MessageType::PublishShard => {
            let channel_len = u32_at(data, 0)? as usize;
            let message_len = u32_at(data, 4)? as usize;
            let (_, rest) = data.split_at(8);
            let (channel, message) = rest
                .split_at_checked(channel_len)
                .ok_or(DropReason::LengthMismatch)?;
            if message.len() != message_len {
                return Err(DropReason::LengthMismatch);
            }
            Body::Publish {
                sharded: kind == MessageType::PublishShard,
                channel,
                message,
            }
        }
        MessageType::FailoverAuthRequest => {
            exactly(0)?;
            Body::FailoverAuthRequest
        }
        MessageType::FailoverAuthAck => {
            exactly(0)?;
            Body::FailoverAuthAck
        }
        MessageType::MfStart => {
            exactly(0)?;
            Body::MfStart
        }
        MessageType::Update => {
            exactly(8 + NAME_LEN + BITMAP_LEN)?;
            Body::Update {
                config_epoch: u64_at(data, 0)?,
                node: id_at(data, 8)?,
                slots: chunk_at(data, 48)?,
            }
        }
        MessageType::Module => {
            let len = u32_at(data, 8)? as usize;
            if data.len() < 13 || data.len() - 13 != len {
                return Err(DropReason::LengthMismatch);
            }
            Body::Module
        }
    })
}

fn decode_ping<'a>(packet: &'a [u8], data: &'a [u8]) -> Result<PingBody<'a>, DropReason> {
    let count = usize::from(u16_at(packet, 14)?);
    let (entries, rest) = data
        .split_at_checked(count * GOSSIP_LEN)
        .ok_or(DropReason::LengthMismatch)?;
    let (extensions, used) = if packet.get(2253).is_some_and(|m| m & mflags::EXT_DATA != 0) {
        Extensions::decode(rest, u16_at(packet, 2214)?)?
    } else {
        Default::default()
    };
    if used != rest.len() {
        return Err(DropReason::LengthMismatch);
    }
    let gossip: Result<Vec<_>, DropReason> = entries
        .chunks_exact(GOSSIP_LEN)
        .map(decode_gossip)
        .collect();
    Ok(PingBody {
        gossip: gossip.ok(),
        extensions,
    })
}

fn decode_gossip(entry: &[u8]) -> Result<Gossip<'_>, DropReason> {
    Ok(Gossip {
        node: id_at(entry, 0)?,
        ping_sent_s: u32_at(entry, 40)?,
        pong_received_s: u32_at(entry, 44)?,
        address: address_at(entry, 48)?,
        port: u16_at(entry, 94)?,
        bus_port: u16_at(entry, 96)?,
        flags: u16_at(entry, 98)?,
        other_port: u16_at(entry, 100)?,
    })
}
