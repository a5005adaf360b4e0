//! Names of nodes and shards: 20 bytes, written as 40 hexadecimal digits, as on the cluster bus.

use std::fmt;
use std::str::FromStr;

/// A text is not 40 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an id is 40 hexadecimal digits")]
pub struct BadId;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name([u8; 20]);

        impl $name {
            /// From the 20 bytes.
            pub const fn from_bytes(bytes: [u8; 20]) -> Self {
                $name(bytes)
            }

            /// The 20 bytes.
            pub const fn as_bytes(&self) -> &[u8; 20] {
                &self.0
            }

            /// From a slice that must have 20 bytes.
            ///
            /// # Errors
            /// [`BadId`] if it has not.
            pub fn from_slice(bytes: &[u8]) -> Result<Self, BadId> {
                bytes.try_into().map($name).map_err(|_| BadId)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        impl FromStr for $name {
            type Err = BadId;

            fn from_str(text: &str) -> Result<Self, BadId> {
                parse(text.as_bytes()).map($name)
            }
        }
    };
}

id! {
    /// A node's id: lives and dies with the node's vote and log.
    NodeId
}
id! {
    /// A shard's id, which is its Raft group's id.
    ShardId
}

fn parse(text: &[u8]) -> Result<[u8; 20], BadId> {
    let (pairs, rest) = text.as_chunks::<2>();
    if pairs.len() != 20 || !rest.is_empty() {
        return Err(BadId);
    }
    let digit = |c: u8| (c as char).to_digit(16).map(|d| d as u8).ok_or(BadId);
    let mut id = [0; 20];
    for (byte, [high, low]) in id.iter_mut().zip(pairs) {
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Ok(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_back() {
        let text = "00010203040506070809abcdefABCDEF10111213";
        let id: NodeId = text.parse().unwrap();
        assert_eq!(id.to_string(), text.to_lowercase());
        assert_eq!(id.as_bytes()[10], 0xab);
        for bad in [
            "",
            "0001",
            &text[1..],
            &format!("{text}0"),
            &text.replace('a', "g"),
        ] {
            assert_eq!(bad.parse::<ShardId>(), Err(BadId), "{bad}");
        }
    }
}
