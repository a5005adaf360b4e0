//! The file that ties a directory to one node, one shard and one log.
//!
//! ```text
//! holdfast-raft-log 1
//! node 40 digits
//! shard 40 digits
//! role data
//! segment 17
//! crc32c 1a2b3c4d
//! ```
//!
//! `segment` is the highest number of a segment that was ever put to use. A directory with this file
//! but without that segment has lost part of its log: it may have voted, and acknowledged, what it
//! no longer knows.

use crate::ids::{NodeId, ShardId};
use crate::sealed;
use crate::types::Role;

/// The name of the file.
pub const FILE: &str = "identity";
/// It is never longer.
pub const MAX_LEN: u64 = 4096;
const TITLE: &str = "holdfast-raft-log 1";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub node: NodeId,
    pub shard: ShardId,
    pub role: Role,
    pub segment: u64,
}

impl Identity {
    pub fn to_text(&self) -> String {
        let role = match self.role {
            Role::Data => "data",
            Role::Witness => "witness",
        };
        let lines = format!(
            "node {}\nshard {}\nrole {role}\nsegment {}\n",
            self.node, self.shard, self.segment
        );
        sealed::seal(TITLE, &lines)
    }

    pub fn parse(text: &[u8]) -> Result<Identity, &'static str> {
        let mut lines = sealed::open(TITLE, text)?;
        let mut field = |name: &str| {
            lines
                .next()
                .and_then(|line| line.strip_prefix(name)?.strip_prefix(' '))
                .ok_or("a field is missing")
        };
        Ok(Identity {
            node: field("node")?.parse().map_err(|_| "bad node id")?,
            shard: field("shard")?.parse().map_err(|_| "bad shard id")?,
            role: match field("role")? {
                "data" => Role::Data,
                "witness" => Role::Witness,
                _ => return Err("bad role"),
            },
            segment: field("segment")?
                .parse()
                .map_err(|_| "bad segment number")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_back_and_any_damage_is_seen() {
        let identity = Identity {
            node: NodeId::from_bytes([1; 20]),
            shard: ShardId::from_bytes([2; 20]),
            role: Role::Witness,
            segment: 17,
        };
        let text = identity.to_text().into_bytes();
        assert_eq!(Identity::parse(&text), Ok(identity));
        for at in 0..text.len() - 1 {
            let mut bad = text.clone();
            bad[at] ^= 1;
            assert!(Identity::parse(&bad).is_err(), "byte {at}");
            assert!(Identity::parse(&text[..at]).is_err(), "cut at {at}");
        }
    }
}
