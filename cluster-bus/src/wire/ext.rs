//! The extensions of `PING`, `PONG` and `MEET`.
//!
//! ```text
//! 0  u32  length   this head included; a multiple of 8
//! 4  u16  type
//! 6  u16  spare
//! 8  …    data     texts end with NUL; zero-padded to a multiple of 8
//! ```
//!
//! Valkey's types are 0 to 8. Ours begin at 0x4846 ("HF"); Valkey (8.0 as well as 9.1) skips a type that it does not
//! know by its length, after a warning in its log. So they are sent to Holdfast nodes only; see [`super::HOLDFAST_MARK`].

use super::DropReason;
use crate::ids::{NAME_LEN, NodeId, ShardId};

const HOSTNAME: u16 = 0;
const HUMAN_NODENAME: u16 = 1;
const FORGOTTEN_NODE: u16 = 2;
const SHARD_ID: u16 = 3;
const CLIENT_IPV4: u16 = 4;
const CLIENT_IPV6: u16 = 5;
const CLIENT_PORT: u16 = 6;
const CLIENT_TLS_PORT: u16 = 7;
const AVAILABILITY_ZONE: u16 = 8;
/// A byte of bits (`WITNESS_BIT`, `QUORUM_BIT`), seven spare ones, then the Raft address as text.
const HOLDFAST_INFO: u16 = 0x4846;

const WITNESS_BIT: u8 = 1;
const QUORUM_BIT: u8 = 2;

/// Longest text that is taken from an extension (a DNS name's 255 bytes, as Valkey's `NET_HOST_STR_LEN`).
const TEXT_MAX: usize = 255;

/// A node that was forgotten, and for how long it is not to be added again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ForgottenNode {
    /// Its name.
    pub node: NodeId,
    /// For how long, in seconds.
    pub ttl_s: u64,
}

/// What Holdfast nodes tell each other beside Valkey's protocol.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct HoldfastInfo {
    /// Where the node's Raft server listens, as `host:port`; empty if it has none.
    pub raft_addr: String,
    /// Votes in shards but keeps no data: no client is ever sent there.
    pub witness: bool,
    /// The node's shard is under `durability quorum`.
    pub quorum: bool,
}

/// All extensions of one message. Absent and empty texts are the same.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Extensions {
    /// The announced host name.
    pub hostname: String,
    /// The announced name for humans.
    pub human_nodename: String,
    /// Nodes that were forgotten.
    pub forgotten: Vec<ForgottenNode>,
    /// The sender's shard.
    pub shard: Option<ShardId>,
    /// The IPv4 address for clients.
    pub client_ipv4: String,
    /// The IPv6 address for clients.
    pub client_ipv6: String,
    /// The port for clients; 0 if none.
    pub client_port: u16,
    /// The TLS port for clients; 0 if none.
    pub client_tls_port: u16,
    /// The availability zone.
    pub availability_zone: String,
    /// What a Holdfast node adds.
    pub holdfast: Option<HoldfastInfo>,
}

fn text_of(data: &[u8]) -> Result<String, DropReason> {
    let text = data.split(|byte| *byte == 0).next().unwrap_or_default();
    // What is stored is written into lines and replies later: no blanks, commas or control bytes.
    if text.len() > TEXT_MAX
        || !text
            .iter()
            .all(|c| c.is_ascii_graphic() && !b",\"'=".contains(c))
    {
        return Err(DropReason::BadExtension);
    }
    Ok(String::from_utf8_lossy(text).into_owned())
}

fn port_of(data: &[u8]) -> Result<u16, DropReason> {
    data.first_chunk()
        .map(|bytes| u16::from_be_bytes(*bytes))
        .ok_or(DropReason::BadExtension)
}

impl Extensions {
    /// Reads `count` extensions; returns them and how many bytes they took.
    pub(super) fn decode(mut data: &[u8], count: u16) -> Result<(Extensions, usize), DropReason> {
        let whole = data.len();
        let mut all = Extensions::default();
        for _ in 0..count {
            let Some((head, _)) = data.split_first_chunk::<8>() else {
                return Err(DropReason::BadExtension);
            };
            let len = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
            let kind = u16::from_be_bytes([head[4], head[5]]);
            if !len.is_multiple_of(8) || len < 8 || len > data.len() {
                return Err(DropReason::BadExtension);
            }
            let (ext, rest) = data.split_at(len);
            all.take(kind, &ext[8..])?;
            data = rest;
        }
        Ok((all, whole - data.len()))
    }

    fn take(&mut self, kind: u16, data: &[u8]) -> Result<(), DropReason> {
        match kind {
            HOSTNAME => self.hostname = text_of(data)?,
            HUMAN_NODENAME => self.human_nodename = text_of(data)?,
            CLIENT_IPV4 => self.client_ipv4 = text_of(data)?,
            CLIENT_IPV6 => self.client_ipv6 = text_of(data)?,
            CLIENT_PORT => self.client_port = port_of(data)?,
            CLIENT_TLS_PORT => self.client_tls_port = port_of(data)?,
            AVAILABILITY_ZONE => self.availability_zone = text_of(data)?,
            FORGOTTEN_NODE => {
                let (name, rest) = data
                    .split_first_chunk::<NAME_LEN>()
                    .ok_or(DropReason::BadExtension)?;
                let ttl = rest.first_chunk::<8>().ok_or(DropReason::BadExtension)?;
                self.forgotten.push(ForgottenNode {
                    node: NodeId::parse(name).map_err(|_| DropReason::BadNodeId)?,
                    ttl_s: u64::from_be_bytes(*ttl),
                });
            }
            SHARD_ID => {
                let name = data
                    .first_chunk::<NAME_LEN>()
                    .ok_or(DropReason::BadExtension)?;
                self.shard = Some(ShardId::parse(name).map_err(|_| DropReason::BadNodeId)?);
            }
            HOLDFAST_INFO => {
                let (bits, address) = data
                    .split_first_chunk::<8>()
                    .ok_or(DropReason::BadExtension)?;
                self.holdfast = Some(HoldfastInfo {
                    raft_addr: text_of(address)?,
                    witness: bits[0] & WITNESS_BIT != 0,
                    quorum: bits[0] & QUORUM_BIT != 0,
                });
            }
            // A type of a later version: skipped by its length, as Valkey does.
            _ => {}
        }
        Ok(())
    }

    /// Appends all extensions in Valkey's order, ours last; returns how many there are.
    pub(super) fn encode(&self, out: &mut Vec<u8>) -> u16 {
        let mut count = 0;
        let mut put = |kind: u16, data: &[u8]| {
            let len = 8 + data.len().div_ceil(8) * 8;
            out.extend_from_slice(&(len as u32).to_be_bytes());
            out.extend_from_slice(&kind.to_be_bytes());
            out.extend_from_slice(&[0; 2]);
            out.extend_from_slice(data);
            out.resize(out.len() + (len - 8 - data.len()), 0);
            count += 1;
        };
        let with_nul = |text: &str| [text.as_bytes(), &[0]].concat();
        for (kind, text) in [
            (HOSTNAME, &self.hostname),
            (HUMAN_NODENAME, &self.human_nodename),
            (CLIENT_IPV4, &self.client_ipv4),
            (CLIENT_IPV6, &self.client_ipv6),
        ] {
            if !text.is_empty() {
                put(kind, &with_nul(text));
            }
        }
        for (kind, port) in [
            (CLIENT_PORT, self.client_port),
            (CLIENT_TLS_PORT, self.client_tls_port),
        ] {
            if port != 0 {
                put(kind, &port.to_be_bytes());
            }
        }
        if !self.availability_zone.is_empty() {
            put(AVAILABILITY_ZONE, &with_nul(&self.availability_zone));
        }
        for forgotten in &self.forgotten {
            put(
                FORGOTTEN_NODE,
                &[
                    &forgotten.node.as_bytes()[..],
                    &forgotten.ttl_s.to_be_bytes(),
                ]
                .concat(),
            );
        }
        if let Some(shard) = &self.shard {
            put(SHARD_ID, shard.as_bytes());
        }
        if let Some(info) = &self.holdfast {
            let bits =
                (u8::from(info.witness) * WITNESS_BIT) | (u8::from(info.quorum) * QUORUM_BIT);
            let head = [bits, 0, 0, 0, 0, 0, 0, 0];
            put(
                HOLDFAST_INFO,
                &[&head[..], &with_nul(&info.raft_addr)].concat(),
            );
        }
        count
    }
}
