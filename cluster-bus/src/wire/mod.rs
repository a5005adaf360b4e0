//! The bus protocol's messages, byte for byte as Valkey's `clusterMsg` (`cluster_legacy.h`).
//!
//! All integers are big-endian; times in gossip are Unix seconds; addresses are NUL-padded text.
//!
//! ```text
//!    0  "RCmb"                 signature
//!    4  u32  total length      of this message, header included
//!    8  u16  version           1
//!   10  u16  port              clients' port (the TLS one where the bus is TLS)
//!   12  u16  type              0x8000: light header
//!   14  u16  count             gossip entries
//!   16  u64  current epoch
//!   24  u64  config epoch      of the sender, or of its primary if it is a replica
//!   32  u64  replication offset
//!   40  40B  sender
//!   80  2 KiB slots            of the sender, or of its primary
//! 2128  40B  replica of        zeros for a primary
//! 2168  46B  sender's address  zeros: take it from the socket
//! 2214  u16  extensions        how many
//! 2216  30B  reserved          Holdfast nodes put `HOLDFAST_MARK` here; others send zeros and look away
//! 2246  u16  other port        TLS if `port` is plain, and the other way round
//! 2248  u16  bus port
//! 2250  u16  flags             of the node
//! 2252  u8   state             of the cluster: 0 ok, 1 fail
//! 2253  3B   message flags
//! 2256  …    data              by type; a light message has it at 16
//! ```
//!
//! | type | data |
//! |---|---|
//! | `PING`, `PONG`, `MEET` | `count` gossip entries of 104 bytes, then the extensions |
//! | `FAIL` | the failed node's name |
//! | `PUBLISH`, `PUBLISHSHARD` | u32 channel length, u32 message length, channel, message |
//! | `UPDATE` | u64 config epoch, name, slots: of the node that it is about |
//! | `MODULE` | u64 module, u32 length, u8 type, payload |
//! | `FAILOVER_AUTH_REQUEST`, `FAILOVER_AUTH_ACK`, `MFSTART` | none |
//!
//! An extension is a u32 length (its 8-byte head included, a multiple of 8), a u16 type, two spare bytes and its data.

mod decode;
mod encode;
mod ext;

pub use decode::{Body, DropReason, Gossip, Header, Message, PingBody, decode, frame_len};
pub use encode::{
    GossipOut, HeaderOut, encode_bare, encode_fail, encode_ping, encode_publish,
    encode_publish_light, encode_update,
};
pub use ext::{Extensions, ForgottenNode, HoldfastInfo};

/// What every message begins with.
pub const SIGNATURE: [u8; 4] = *b"RCmb";
/// The protocol's version.
pub const VERSION: u16 = 1;
/// Bytes of a full header, which is the smallest full message.
pub const HEADER_LEN: usize = 2256;
/// Bytes of a light header, which is also what must have come to know a message's length.
pub const LIGHT_HEADER_LEN: usize = 16;
/// Bytes of an address field.
pub const ADDRESS_LEN: usize = 46;
/// Bytes of a gossip entry.
pub const GOSSIP_LEN: usize = 104;
/// The bit of the type field that says that the header is light.
pub const LIGHT: u16 = 0x8000;
/// The largest message with a payload of a user's (`PUBLISH`, `MODULE`): a bulk string of 512 MiB, a channel, the header.
pub const PAYLOAD_MESSAGE_MAX: usize = (512 << 20) + (1 << 20);
/// The largest message of any other type: gossip about 65535 nodes and a mebibyte of extensions fit in.
pub const MESSAGE_MAX: usize = 8 << 20;
/// What Holdfast nodes put at the start of the reserved bytes, so that they know each other: the extensions
/// of our own go to such nodes only, since Valkey would skip them but log a warning for each.
pub const HOLDFAST_MARK: [u8; 8] = *b"Holdfst1";

const _: () = assert!(HEADER_LEN + 65535 * GOSSIP_LEN + (1 << 20) <= MESSAGE_MAX);
const _: () = assert!(80 + crate::slots::BITMAP_LEN == 2128 && 2168 + ADDRESS_LEN == 2214);

/// The types of messages.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u16)]
pub enum MessageType {
    /// "Are you there?", with news.
    Ping = 0,
    /// The answer, or news unasked.
    Pong = 1,
    /// A ping that asks to be added to the cluster.
    Meet = 2,
    /// A majority agrees that a node has failed.
    Fail = 3,
    /// A message for the subscribers of a channel.
    Publish = 4,
    /// A replica asks primaries for their vote.
    FailoverAuthRequest = 5,
    /// The vote.
    FailoverAuthAck = 6,
    /// "What you claim belongs to this node by now."
    Update = 7,
    /// A replica asks its primary to pause its clients for a manual failover.
    MfStart = 8,
    /// A module's message.
    Module = 9,
    /// A message for the subscribers of a shard channel.
    PublishShard = 10,
}

/// How many types there are.
pub const MESSAGE_TYPES: usize = 11;

impl MessageType {
    /// All types, in the order of their numbers.
    pub const ALL: [MessageType; MESSAGE_TYPES] = [
        MessageType::Ping,
        MessageType::Pong,
        MessageType::Meet,
        MessageType::Fail,
        MessageType::Publish,
        MessageType::FailoverAuthRequest,
        MessageType::FailoverAuthAck,
        MessageType::Update,
        MessageType::MfStart,
        MessageType::Module,
        MessageType::PublishShard,
    ];

    /// The type with this number, without the light bit.
    pub fn from_wire(number: u16) -> Option<MessageType> {
        Self::ALL.get(usize::from(number)).copied()
    }

    /// The name in `CLUSTER INFO`'s `cluster_stats_messages_<name>_sent`.
    pub fn name(self) -> &'static str {
        match self {
            MessageType::Ping => "ping",
            MessageType::Pong => "pong",
            MessageType::Meet => "meet",
            MessageType::Fail => "fail",
            MessageType::Publish => "publish",
            MessageType::FailoverAuthRequest => "auth-req",
            MessageType::FailoverAuthAck => "auth-ack",
            MessageType::Update => "update",
            MessageType::MfStart => "mfstart",
            MessageType::Module => "module",
            MessageType::PublishShard => "publishshard",
        }
    }

    fn has_light_form(self) -> bool {
        matches!(
            self,
            MessageType::Publish | MessageType::PublishShard | MessageType::Module
        )
    }
}

/// A node's flags, in headers and gossip.
pub mod flags {
    /// The node is a primary.
    pub const PRIMARY: u16 = 1 << 0;
    /// The node is a replica.
    pub const REPLICA: u16 = 1 << 1;
    /// The speaker cannot reach the node.
    pub const PFAIL: u16 = 1 << 2;
    /// A majority could not reach the node.
    pub const FAIL: u16 = 1 << 3;
    /// The node is the speaker.
    pub const MYSELF: u16 = 1 << 4;
    /// The node's name is not known yet.
    pub const HANDSHAKE: u16 = 1 << 5;
    /// The node's address is not known.
    pub const NOADDR: u16 = 1 << 6;
    /// The node is to be sent a `MEET`.
    pub const MEET: u16 = 1 << 7;
    /// Replicas may move to this primary.
    pub const MIGRATE_TO: u16 = 1 << 8;
    /// The replica never starts a failover.
    pub const NOFAILOVER: u16 = 1 << 9;
    /// The node reads extensions.
    pub const EXTENSIONS: u16 = 1 << 10;
    /// The node reads `PUBLISH` with a light header.
    pub const LIGHT_PUBLISH: u16 = 1 << 11;
    /// The node reads `MODULE` with a light header, and takes more than one `MEET`.
    pub const LIGHT_MODULE: u16 = 1 << 12;
    /// The node's primary has failed, in its own view.
    pub const MY_PRIMARY_FAIL: u16 = 1 << 13;
}

/// The first byte of the message flags.
pub mod mflags {
    /// A primary has paused its clients for a manual failover.
    pub const PAUSED: u8 = 1 << 0;
    /// Vote although the primary is up.
    pub const FORCE_ACK: u8 = 1 << 1;
    /// The sender reads extensions, and may have sent some.
    pub const EXT_DATA: u8 = 1 << 2;
}
