//! Records: how the log looks on disk.
//!
//! A segment file is a sequence of records, each at a multiple of 8:
//!
//! ```text
//!  0        4        8                16   17   20       24       28       32
//!  +--------+--------+----------------+----+----+--------+--------+--------+------ ... +-----+
//!  | magic  | length | synced         |kind| 0  | crc    | running| 0      | body      | 0.. |
//!  +--------+--------+----------------+----+----+--------+--------+--------+------ ... +-----+
//! ```
//!
//! All numbers are little-endian. `length` is the body's, before padding. `synced` is how much of
//! this file was durable when the record was written. `crc` is crc32c of bytes 0..20 and the body,
//! so that a record can be judged alone. `running` is crc32c of the previous record's `running` and this
//! one's `crc`, from the first segment on: it binds every record to its place.
//!
//! Bodies (an *id* is term 8, node 20, index 8 bytes; `?` is one byte 0 or 1, then the value if 1):
//!
//! | kind | body |
//! |---|---|
//! | 1 segment | version 4, shard 20, node 20, number 8, running 4, vote `?`, purged id `?`, committed id `?`, last id `?` |
//! | 2 entry | id, 0 blank / 1 normal / 2 membership, then the payload |
//! | 3 vote | term 8, node 20, committed 1 |
//! | 4 committed | id |
//! | 5 truncate | id `?`: entries behind it are gone |
//! | 6 purge | id: entries up to it are gone |

use bytes::{BufMut, Bytes, BytesMut};
use holdfast_proto::Message;

use crate::ids::{NodeId, ShardId};
use crate::raft::{
    Entry, LeaderId, LogId, Payload, Vote, log_id, membership_from_wire, membership_to_wire, normal,
};

/// The format's version, in each segment's first record.
pub const VERSION: u32 = 1;
const MAGIC: u32 = u32::from_le_bytes(*b"HfL1");
/// Bytes before the body.
pub const HEADER: usize = 32;
/// Records begin at multiples of this.
pub const ALIGN: usize = 8;
/// No body is longer: a proposal is at most about this long.
pub const BODY_MAX: usize = 1 << 30;
const _: () =
    assert!(HEADER.is_multiple_of(ALIGN) && BODY_MAX < u32::MAX as usize - HEADER - ALIGN);

/// What a segment begins with: enough to forget all segments before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentHead {
    pub shard: ShardId,
    pub node: NodeId,
    pub number: u64,
    /// Running checksum of the last record of the segment before.
    pub running: u32,
    pub state: State,
}

/// Everything the log knows beside its entries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    pub vote: Option<Vote>,
    /// The last entry that was cut off at the front.
    pub purged: Option<LogId>,
    pub committed: Option<LogId>,
    /// The last entry, or `purged` if there is none.
    pub last: Option<LogId>,
}

impl State {
    /// Whether the log holds the committed entry `id`: the leader of the last entry is `id`'s or a later one, so that
    /// its log holds all that was committed before it, and this log is the front part of that.
    pub fn has(&self, id: &LogId) -> bool {
        self.last
            .is_some_and(|last| last.index >= id.index && last.leader_id >= id.leader_id)
    }

    /// The last entry of this log that is known to be committed. A crash may have left a log that is shorter than
    /// what was committed, on a quorum, or that still ends with entries which were replaced.
    pub fn committed_here(&self) -> Option<LogId> {
        match (self.committed, self.last) {
            (Some(committed), Some(_)) if self.has(&committed) => Some(committed),
            (Some(committed), Some(last)) if last.leader_id == committed.leader_id => Some(last),
            _ => self.purged,
        }
    }
}

/// One record's content.
#[derive(Clone, Debug)]
pub enum Record {
    Segment(SegmentHead),
    Entry(Entry),
    Vote(Vote),
    Committed(LogId),
    Truncate(Option<LogId>),
    Purge(LogId),
}

/// Why a record could not be read at some place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bad {
    /// The file ends before the record does, or where it should begin.
    Short,
    /// It is no record, or a damaged one.
    Damaged(&'static str),
}

/// A record that stands alone as valid, and where it stands in the chain.
#[derive(Debug)]
pub struct Frame {
    /// How much of the file was durable when this was written.
    pub synced: u64,
    pub kind: u8,
    pub crc: u32,
    pub running: u32,
    /// Offset and length of the body within the buffer.
    pub body: std::ops::Range<usize>,
    /// Bytes up to the next record.
    pub len: usize,
}

/// The running checksum after a record.
pub fn chain(running: u32, crc: u32) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&running.to_le_bytes()), &crc.to_le_bytes())
}

/// Bytes that a record with this body takes.
pub fn padded(body: usize) -> usize {
    (HEADER + body).next_multiple_of(ALIGN)
}

/// How long the record at the start of `buf` is, if `buf` holds its header and that is plausible.
pub fn peek_len(buf: &[u8]) -> Result<usize, Bad> {
    let header = buf.get(..HEADER).ok_or(Bad::Short)?;
    if u32_at(header, 0) != MAGIC {
        return Err(Bad::Damaged("no record begins here"));
    }
    let body = u32_at(header, 4) as usize;
    if body > BODY_MAX {
        return Err(Bad::Damaged("impossible length"));
    }
    Ok(padded(body))
}

fn u32_at(buf: &[u8], at: usize) -> u32 {
    let mut bytes = [0; 4];
    bytes.copy_from_slice(&buf[at..at + 4]);
    u32::from_le_bytes(bytes)
}

fn u64_at(buf: &[u8], at: usize) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&buf[at..at + 8]);
    u64::from_le_bytes(bytes)
}

/// Checks the record at the start of `buf`, alone.
pub fn frame(buf: &[u8]) -> Result<Frame, Bad> {
    let len = peek_len(buf)?;
    let whole = buf.get(..len).ok_or(Bad::Short)?;
    let body = HEADER..HEADER + u32_at(whole, 4) as usize;
    let crc = crc32c::crc32c_append(crc32c::crc32c(&whole[..20]), &whole[body.clone()]);
    if crc != u32_at(whole, 20) {
        return Err(Bad::Damaged("checksum does not match"));
    }
    if whole[17..20] != [0; 3]
        || whole[28..32] != [0; 4]
        || whole[body.end..].iter().any(|b| *b != 0)
    {
        return Err(Bad::Damaged("padding is not zero"));
    }
    Ok(Frame {
        synced: u64_at(whole, 8),
        kind: whole[16],
        crc,
        running: u32_at(whole, 24),
        body,
        len,
    })
}

/// Appends a record to `buf`; returns the new running checksum.
pub fn encode(buf: &mut BytesMut, record: &Record, synced: u64, running: u32) -> u32 {
    let start = buf.len();
    buf.put_u32_le(MAGIC);
    buf.put_u32_le(0);
    buf.put_u64_le(synced);
    buf.put_u8(kind(record));
    buf.put_bytes(0, 15);
    put_body(buf, record);
    let body_len = buf.len() - start - HEADER;
    assert!(body_len <= BODY_MAX, "a record of {body_len} bytes");
    buf[start + 4..start + 8].copy_from_slice(&(body_len as u32).to_le_bytes());
    let crc = crc32c::crc32c_append(
        crc32c::crc32c(&buf[start..start + 20]),
        &buf[start + HEADER..],
    );
    let running = chain(running, crc);
    buf[start + 20..start + 24].copy_from_slice(&crc.to_le_bytes());
    buf[start + 24..start + 28].copy_from_slice(&running.to_le_bytes());
    buf.put_bytes(0, padded(body_len) - HEADER - body_len);
    running
}

fn kind(record: &Record) -> u8 {
    match record {
        Record::Segment(_) => 1,
        Record::Entry(_) => 2,
        Record::Vote(_) => 3,
        Record::Committed(_) => 4,
        Record::Truncate(_) => 5,
        Record::Purge(_) => 6,
    }
}

fn put_id(buf: &mut BytesMut, id: &LogId) {
    buf.put_u64_le(id.leader_id.term);
    buf.put_slice(id.leader_id.node_id.as_bytes());
    buf.put_u64_le(id.index);
}

fn put_opt_id(buf: &mut BytesMut, id: &Option<LogId>) {
    buf.put_u8(u8::from(id.is_some()));
    if let Some(id) = id {
        put_id(buf, id);
    }
}

fn put_vote(buf: &mut BytesMut, vote: &Vote) {
    buf.put_u64_le(vote.leader_id.term);
    buf.put_slice(vote.leader_id.node_id.as_bytes());
    buf.put_u8(u8::from(vote.committed));
}

fn put_body(buf: &mut BytesMut, record: &Record) {
    match record {
        Record::Segment(head) => {
            buf.put_u32_le(VERSION);
            buf.put_slice(head.shard.as_bytes());
            buf.put_slice(head.node.as_bytes());
            buf.put_u64_le(head.number);
            buf.put_u32_le(head.running);
            buf.put_u8(u8::from(head.state.vote.is_some()));
            if let Some(vote) = &head.state.vote {
                put_vote(buf, vote);
            }
            put_opt_id(buf, &head.state.purged);
            put_opt_id(buf, &head.state.committed);
            put_opt_id(buf, &head.state.last);
        }
        Record::Entry(entry) => {
            put_id(buf, &entry.id);
            match &entry.payload {
                Payload::Blank => buf.put_u8(0),
                Payload::Normal(proposal) => {
                    buf.put_u8(1);
                    buf.put_slice(&proposal.data);
                }
                Payload::Membership(membership) => {
                    buf.put_u8(2);
                    buf.put_slice(&membership_to_wire(membership).encode_to_vec());
                }
            }
        }
        Record::Vote(vote) => put_vote(buf, vote),
        Record::Committed(id) | Record::Purge(id) => put_id(buf, id),
        Record::Truncate(id) => put_opt_id(buf, id),
    }
}

/// Takes values off the front of a body.
struct Body(Bytes);

const SHORT: &str = "the body ends too early";

impl Body {
    fn take(&mut self, len: usize) -> Result<Bytes, &'static str> {
        if self.0.len() < len {
            return Err(SHORT);
        }
        Ok(self.0.split_to(len))
    }

    fn u8(&mut self) -> Result<u8, &'static str> {
        Ok(self.take(1)?[0])
    }

    fn u32(&mut self) -> Result<u32, &'static str> {
        Ok(u32_at(&self.take(4)?, 0))
    }

    fn u64(&mut self) -> Result<u64, &'static str> {
        Ok(u64_at(&self.take(8)?, 0))
    }

    fn flag(&mut self) -> Result<bool, &'static str> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err("a flag that is neither 0 nor 1"),
        }
    }

    fn node(&mut self) -> Result<NodeId, &'static str> {
        NodeId::from_slice(&self.take(20)?).map_err(|_| SHORT)
    }

    fn id(&mut self) -> Result<LogId, &'static str> {
        let term = self.u64()?;
        let node = self.node()?;
        Ok(log_id(term, node, self.u64()?))
    }

    fn opt_id(&mut self) -> Result<Option<LogId>, &'static str> {
        if self.flag()? {
            Ok(Some(self.id()?))
        } else {
            Ok(None)
        }
    }

    fn vote(&mut self) -> Result<Vote, &'static str> {
        let term = self.u64()?;
        let node_id = self.node()?;
        Ok(Vote {
            leader_id: LeaderId { term, node_id },
            committed: self.flag()?,
        })
    }
}

/// Reads a body whose frame was checked. Bytes of a payload are shared with `body`, not copied.
pub fn decode(kind: u8, body: Bytes) -> Result<Record, &'static str> {
    let mut body = Body(body);
    let record = match kind {
        1 => {
            if body.u32()? != VERSION {
                return Err("a version of the log's format that this program does not know");
            }
            let shard = ShardId::from_slice(&body.take(20)?).map_err(|_| SHORT)?;
            let node = body.node()?;
            let number = body.u64()?;
            let running = body.u32()?;
            let vote = if body.flag()? {
                Some(body.vote()?)
            } else {
                None
            };
            let state = State {
                vote,
                purged: body.opt_id()?,
                committed: body.opt_id()?,
                last: body.opt_id()?,
            };
            Record::Segment(SegmentHead {
                shard,
                node,
                number,
                running,
                state,
            })
        }
        2 => {
            let id = body.id()?;
            let kind = body.u8()?;
            let rest = std::mem::take(&mut body.0);
            let payload = match kind {
                0 if rest.is_empty() => Payload::Blank,
                1 => normal(rest),
                2 => {
                    let wire = holdfast_proto::raft::Membership::decode(rest)
                        .map_err(|_| "a membership that does not parse")?;
                    Payload::Membership(
                        membership_from_wire(wire).map_err(|malformed| malformed.0)?,
                    )
                }
                _ => return Err("an entry of unknown kind"),
            };
            Record::Entry(Entry { id, payload })
        }
        3 => Record::Vote(body.vote()?),
        4 => Record::Committed(body.id()?),
        5 => Record::Truncate(body.opt_id()?),
        6 => Record::Purge(body.id()?),
        _ => return Err("a record of unknown kind"),
    };
    if !body.0.is_empty() {
        return Err("the body is too long");
    }
    Ok(record)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(data: &'static [u8]) -> Record {
        let id = log_id(7, NodeId::from_bytes([9; 20]), 5);
        Record::Entry(Entry {
            id,
            payload: normal(Bytes::from_static(data)),
        })
    }

    #[test]
    fn golden_bytes() {
        let mut buf = BytesMut::new();
        let running = encode(&mut buf, &entry(b"hello"), 4096, 0);
        let hex: String = buf.iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(buf.len() % ALIGN, 0);
        assert_eq!(
            &hex[..40],
            concat!("48664c31", "2a000000", "0010000000000000", "02", "000000")
        );
        assert_eq!(&hex[64..80], "0700000000000000");
        assert_eq!(&hex[80..120], "09".repeat(20));
        assert_eq!(
            &hex[120..148],
            concat!("0500000000000000", "01", "68656c6c6f")
        );
        assert_eq!(running, u32_at(&buf, 24));
        assert_eq!(running, chain(0, u32_at(&buf, 20)));
    }

    proptest! {
        #[test]
        fn any_flipped_bit_is_seen(data in proptest::collection::vec(any::<u8>(), 0..64), bit in any::<usize>()) {
            let mut buf = BytesMut::new();
            let id = log_id(7, NodeId::from_bytes([9; 20]), 5);
            let record = Record::Entry(Entry { id, payload: normal(Bytes::from(data)) });
            let running = encode(&mut buf, &record, 64, 1);
            let whole = frame(&buf).unwrap();
            prop_assert_eq!(whole.running, running);
            let bit = bit % (buf.len() * 8);
            buf[bit / 8] ^= 1 << (bit % 8);
            // Alone, or by its place in the chain.
            match frame(&buf) {
                Err(_) => {}
                Ok(frame) => prop_assert_ne!(frame.running, chain(1, frame.crc)),
            }
        }

        #[test]
        fn any_truncation_is_seen(cut in 0usize..80) {
            let mut buf = BytesMut::new();
            encode(&mut buf, &entry(b"hello"), 64, 1);
            let cut = cut.min(buf.len() - 1);
            prop_assert_eq!(frame(&buf[..cut]).unwrap_err(), Bad::Short);
        }

        #[test]
        fn nothing_makes_decoding_panic(kind in 0u8..9, body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(kind, Bytes::from(body));
        }
    }
}
