//! The three kinds of identity that a migration deals with: jobs, shards, nodes.
//!
//! Each is 20 bytes, shown and sent as 40 lower-case hexadecimal digits, as on Valkey's bus and in
//! `CLUSTER NODES`. They are separate types so that a shard cannot be passed where a node is meant.

use std::fmt;

/// Length of an identity's text form, in bytes.
pub const ID_TEXT_LEN: usize = 40;
/// Length of an identity in memory and in a log record, in bytes.
pub const ID_LEN: usize = 20;
const _: () = assert!(ID_TEXT_LEN == 2 * ID_LEN);

fn decode_hex(text: &[u8]) -> Option<[u8; ID_LEN]> {
    if text.len() != ID_TEXT_LEN {
        return None;
    }
    let digit = |c: u8| match c {
        b'0'..=b'9' => Some(c - b'0'),
        b'a'..=b'f' => Some(c - b'a' + 10),
        b'A'..=b'F' => Some(c - b'A' + 10),
        _ => None,
    };
    let mut out = [0; ID_LEN];
    for (byte, pair) in out.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(out)
}

macro_rules! identity {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; ID_LEN]);

        impl $name {
            /// Reads the 40-digit text form; `None` when it is anything else.
            pub fn parse(text: &[u8]) -> Option<Self> {
                decode_hex(text).map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                for byte in self.0 {
                    write!(f, "{byte:02x}")?;
                }
                Ok(())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }
    };
}

identity! {
    /// One attempt to move slots. Drawn at random by the **source** shard and never used twice: a
    /// second attempt for the same slots is another job. What the protocol may forget rests on this.
    JobId
}
identity! {
    /// A shard, by the shard id of the cluster bus.
    ShardId
}
identity! {
    /// A node, by its name on the cluster bus.
    NodeId
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_is_forty_lower_case_digits() {
        let id = JobId::parse(b"0123456789ABCDEF0123456789abcdef01234567").unwrap();
        assert_eq!(id.to_string(), "0123456789abcdef0123456789abcdef01234567");
        assert_eq!(JobId::parse(b"0123"), None);
        assert_eq!(
            JobId::parse(b"g123456789abcdef0123456789abcdef01234567"),
            None
        );
    }
}
