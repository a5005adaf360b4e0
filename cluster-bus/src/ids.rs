//! Names of nodes, shards, links and slots, as the bus speaks of them.

use std::fmt;

/// How many hash slots a cluster has.
pub const SLOTS: u16 = 16384;

/// Length of a node's or a shard's name on the wire and in `nodes.conf`, in bytes.
pub const NAME_LEN: usize = 40;

/// A name was not forty characters of `0-9a-z`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a node or shard name is 40 characters of 0-9 and a-z")]
pub struct BadName;

/// Valkey accepts every lower-case letter in a name, although it makes hexadecimal ones only.
fn valid_name(raw: &[u8]) -> Option<[u8; NAME_LEN]> {
    let name: [u8; NAME_LEN] = raw.try_into().ok()?;
    name.iter()
        .all(|c| c.is_ascii_digit() || c.is_ascii_lowercase())
        .then_some(name)
}

fn hex_of(bytes: [u8; 20]) -> [u8; NAME_LEN] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut name = [0; NAME_LEN];
    for (pair, byte) in name.chunks_exact_mut(2).zip(bytes) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
    name
}

fn bytes_of(name: &[u8; NAME_LEN]) -> Option<[u8; 20]> {
    let digit = |c: u8| char::from(c).to_digit(16).map(|d| d as u8);
    let mut bytes = [0; 20];
    for (byte, pair) in bytes.iter_mut().zip(name.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; NAME_LEN]);

        impl $name {
            /// Reads a name, which must be forty characters of `0-9a-z`.
            pub fn parse(raw: &[u8]) -> Result<Self, BadName> {
                valid_name(raw).map(Self).ok_or(BadName)
            }

            /// The name made of twenty bytes, in hexadecimal.
            pub fn from_bytes(bytes: [u8; 20]) -> Self {
                Self(hex_of(bytes))
            }

            /// The twenty bytes behind a hexadecimal name; `None` for a foreign name that is not hexadecimal.
            pub fn to_bytes(&self) -> Option<[u8; 20]> {
                bytes_of(&self.0)
            }

            /// The forty characters.
            pub fn as_bytes(&self) -> &[u8; NAME_LEN] {
                &self.0
            }

            /// The forty characters.
            pub fn as_str(&self) -> &str {
                // Names hold ASCII only; see `parse` and `hex_of`.
                std::str::from_utf8(&self.0).unwrap_or("")
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = BadName;
            fn from_str(text: &str) -> Result<Self, BadName> {
                Self::parse(text.as_bytes())
            }
        }
    };
}

name_type! {
    /// A node's name, chosen at its first start and kept in `nodes.conf`.
    NodeId
}
name_type! {
    /// A shard's name, shared by a primary and its replicas. In a quorum shard it is the Raft group's id too.
    ShardId
}

/// One bus connection, named by the bus when it is made and never used again after its end.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct LinkId(pub u64);

/// The two clocks that a step of the bus is told, both in milliseconds.
///
/// Time-outs use `mono_ms` only, so that a jump of the wall clock makes nobody look dead.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Now {
    /// A monotonic clock with any origin.
    pub mono_ms: u64,
    /// The wall clock, since the Unix epoch: for what leaves this node (gossip, `CLUSTER NODES`).
    pub unix_ms: u64,
}

impl Now {
    /// The wall-clock time, in Unix milliseconds, of a past moment of the monotonic clock.
    pub(crate) fn unix_of(&self, mono_ms: u64) -> u64 {
        self.unix_ms
            .saturating_sub(self.mono_ms.saturating_sub(mono_ms))
    }

    /// Milliseconds since a past moment of the monotonic clock.
    pub(crate) fn since(&self, mono_ms: u64) -> u64 {
        self.mono_ms.saturating_sub(mono_ms)
    }
}

/// A small generator (SplitMix64): the bus needs variety, never secrets, and must repeat itself under one seed.
#[derive(Clone, Debug)]
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Rng {
        Rng(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`, which must not be zero.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    pub(crate) fn bytes20(&mut self) -> [u8; 20] {
        let mut bytes = [0; 20];
        for chunk in bytes.chunks_mut(8) {
            let word = self.next().to_le_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let id = NodeId::from_bytes([0xab; 20]);
        assert_eq!(id.as_str(), "ab".repeat(20));
        assert_eq!(id.to_bytes(), Some([0xab; 20]));
        assert!(NodeId::parse(b"short").is_err());
        assert!(NodeId::parse("A".repeat(40).as_bytes()).is_err());
        let foreign = NodeId::parse("z".repeat(40).as_bytes()).unwrap();
        assert_eq!(foreign.to_bytes(), None);
    }
}
