//! What the two ends of a link say to each other beside the data: `CLUSTER SYNCSLOTS …`.
//!
//! The words are Valkey 9's. Where ours carry more (a position), it stands behind the word, where
//! Valkey does not look. `ADOPTED` is ours: Valkey learns of the new owner from the bus alone.
//!
//! ```text
//! source → target   ESTABLISH SOURCE <node> NAME <job> SLOTSRANGE a b …   answered +OK or -ERR
//!                   ACK [<position sent>]
//!                   SELECT / RESTORE … / any effect                      the data, no answers
//!                   SNAPSHOT-EOF
//!                   PAUSED [<position>]                                  end of the data
//!                   FAILOVER-GRANTED                                     handed off, committed
//! target → source   ACK [<position executed>]
//!                   REQUEST-PAUSE                                        snapshot executed
//!                   REQUEST-FAILOVER                                     staged, committed
//!                   ADOPTED                                              adopted, committed
//! ```

/// A message without data, in either direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkMessage {
    /// Alive; with how far the sender has executed (target) or sent (source) the stream, in bytes.
    Ack(Option<u64>),
    /// All keys of the snapshot have been sent.
    SnapshotEof,
    /// The target has executed the snapshot and is ready for the end.
    RequestPause,
    /// Nothing follows the stream's byte `position`: writes wait at the source.
    Paused(Option<u64>),
    /// The target's log holds all of it: the source may decide.
    RequestFailover,
    /// The source has decided, durably.
    FailoverGranted,
    /// The target has adopted, durably.
    Adopted,
}

impl LinkMessage {
    /// The words behind `CLUSTER SYNCSLOTS`.
    pub fn words(&self) -> (&'static str, Option<u64>) {
        match *self {
            LinkMessage::Ack(position) => ("ACK", position),
            LinkMessage::SnapshotEof => ("SNAPSHOT-EOF", None),
            LinkMessage::RequestPause => ("REQUEST-PAUSE", None),
            LinkMessage::Paused(position) => ("PAUSED", position),
            LinkMessage::RequestFailover => ("REQUEST-FAILOVER", None),
            LinkMessage::FailoverGranted => ("FAILOVER-GRANTED", None),
            LinkMessage::Adopted => ("ADOPTED", None),
        }
    }

    /// Appends the message as a RESP command.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let (word, position) = self.words();
        let position = position.map(|p| p.to_string());
        let argv: &[&str] = match &position {
            Some(p) => &["CLUSTER", "SYNCSLOTS", word, p],
            None => &["CLUSTER", "SYNCSLOTS", word],
        };
        encode_command(argv, out);
    }

    /// Reads the arguments behind `CLUSTER SYNCSLOTS`; `None` for anything that is not a message.
    pub fn parse(args: &[&[u8]]) -> Option<LinkMessage> {
        let (word, rest) = args.split_first()?;
        let position = match rest.first() {
            None => None,
            Some(digits) => Some(std::str::from_utf8(digits).ok()?.parse().ok()?),
        };
        let word = word.to_ascii_uppercase();
        Some(match word.as_slice() {
            b"ACK" => LinkMessage::Ack(position),
            b"SNAPSHOT-EOF" => LinkMessage::SnapshotEof,
            b"REQUEST-PAUSE" => LinkMessage::RequestPause,
            b"PAUSED" => LinkMessage::Paused(position),
            b"REQUEST-FAILOVER" => LinkMessage::RequestFailover,
            b"FAILOVER-GRANTED" => LinkMessage::FailoverGranted,
            b"ADOPTED" => LinkMessage::Adopted,
            _ => return None,
        })
    }
}

/// Appends `argv` as a RESP array of bulk strings.
pub fn encode_command<A: AsRef<[u8]>>(argv: &[A], out: &mut Vec<u8>) {
    out.extend_from_slice(format!("*{}\r\n", argv.len()).as_bytes());
    for arg in argv {
        let arg = arg.as_ref();
        out.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
        out.extend_from_slice(arg);
        out.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_valkeys_commands() {
        let mut out = Vec::new();
        LinkMessage::Paused(Some(77)).encode(&mut out);
        assert_eq!(
            String::from_utf8_lossy(&out),
            "*4\r\n$7\r\nCLUSTER\r\n$9\r\nSYNCSLOTS\r\n$6\r\nPAUSED\r\n$2\r\n77\r\n"
        );
        let check = |args: &[&str], expect: Option<LinkMessage>| {
            let args: Vec<&[u8]> = args.iter().map(|a| a.as_bytes()).collect();
            assert_eq!(LinkMessage::parse(&args), expect, "{args:?}");
        };
        check(&["paused", "77"], Some(LinkMessage::Paused(Some(77))));
        check(&["ACK"], Some(LinkMessage::Ack(None)));
        check(&["ACK", "x"], None);
        check(&["establish"], None);
        check(&[], None);
    }
}
