//! Slot decisions between their two forms: the state machine's and the journal's.

use bytes::Bytes;
use holdfast_proto::journal as pb;
use holdfast_slot_migration::{JobId, NodeId, ShardId, SlotRanges, SlotRecord};
use pb::slot_record::Kind;

/// Why an entry of the log is not a slot decision that this version knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadRecord {
    /// The kind is missing or from a later version.
    #[error("a slot record of unknown kind {0}")]
    Kind(i32),
    /// An id is not 20 bytes long.
    #[error("a slot record with a malformed id")]
    Id,
    /// The slots are out of range, overlap, or are missing.
    #[error("a slot record with malformed slots")]
    Slots,
}

fn ranges(slots: &SlotRanges) -> Vec<pb::SlotRange> {
    let ranges = slots.ranges().iter();
    ranges
        .map(|&(first, last)| pb::SlotRange {
            first: u32::from(first),
            last: u32::from(last),
        })
        .collect()
}

/// The journal's form.
pub fn to_proto(record: &SlotRecord) -> pb::SlotRecord {
    let mut out = pb::SlotRecord::default();
    if let Some(job) = record.job() {
        out.job = bytes(&job.0);
    }
    let mut peer = |shard: Option<&ShardId>, node: Option<&NodeId>| {
        out.peer_shard = shard.map(|s| bytes(&s.0)).unwrap_or_default();
        out.peer_node = node.map(|n| bytes(&n.0)).unwrap_or_default();
    };
    let kind = match record {
        SlotRecord::Assign { slots } => {
            out.slots = ranges(slots);
            Kind::Assign
        }
        SlotRecord::Unassign { slots } => {
            out.slots = ranges(slots);
            Kind::Unassign
        }
        SlotRecord::Export {
            slots,
            target,
            target_node,
            ..
        } => {
            peer(Some(target), Some(target_node));
            out.slots = ranges(slots);
            Kind::Export
        }
        SlotRecord::HandOff { .. } => Kind::HandOff,
        SlotRecord::Stage {
            slots,
            source,
            source_node,
            ..
        } => {
            peer(Some(source), Some(source_node));
            out.slots = ranges(slots);
            Kind::Stage
        }
        SlotRecord::Staged { position, .. } => {
            out.position = *position;
            Kind::Staged
        }
        SlotRecord::Claim { slots, source, .. } => {
            peer(Some(source), None);
            out.slots = ranges(slots);
            Kind::Claim
        }
        SlotRecord::Adopt { .. } => Kind::Adopt,
        SlotRecord::Abort { .. } => Kind::Abort,
        SlotRecord::Forget { .. } => Kind::Forget,
        SlotRecord::SetMigrating { slot, node } => {
            peer(None, Some(node));
            out.slots = one(*slot);
            Kind::SetMigrating
        }
        SlotRecord::SetImporting { slot, node } => {
            peer(None, Some(node));
            out.slots = one(*slot);
            Kind::SetImporting
        }
        SlotRecord::SetStable { slot } => {
            out.slots = one(*slot);
            Kind::SetStable
        }
    };
    out.kind = kind.into();
    out
}

fn bytes(id: &[u8; 20]) -> Bytes {
    Bytes::copy_from_slice(id)
}

fn one(slot: u16) -> Vec<pb::SlotRange> {
    let slot = u32::from(slot);
    vec![pb::SlotRange {
        first: slot,
        last: slot,
    }]
}

fn id(bytes: &[u8]) -> Result<[u8; 20], BadRecord> {
    bytes.try_into().map_err(|_| BadRecord::Id)
}

/// The state machine's form.
pub fn from_proto(record: &pb::SlotRecord) -> Result<SlotRecord, BadRecord> {
    let kind = Kind::try_from(record.kind).map_err(|_| BadRecord::Kind(record.kind))?;
    let job = || id(&record.job).map(JobId);
    let shard = || id(&record.peer_shard).map(ShardId);
    let node = || id(&record.peer_node).map(NodeId);
    let number = |n: u32| u16::try_from(n).map_err(|_| BadRecord::Slots);
    let slots = || {
        let mut ranges = Vec::with_capacity(record.slots.len());
        for range in &record.slots {
            ranges.push((number(range.first)?, number(range.last)?));
        }
        SlotRanges::new(&ranges).map_err(|_| BadRecord::Slots)
    };
    let slot = || match record.slots.as_slice() {
        [range] if range.first == range.last => number(range.first),
        _ => Err(BadRecord::Slots),
    };
    Ok(match kind {
        Kind::Unspecified => return Err(BadRecord::Kind(record.kind)),
        Kind::Assign => SlotRecord::Assign { slots: slots()? },
        Kind::Unassign => SlotRecord::Unassign { slots: slots()? },
        Kind::Export => SlotRecord::Export {
            job: job()?,
            slots: slots()?,
            target: shard()?,
            target_node: node()?,
        },
        Kind::HandOff => SlotRecord::HandOff { job: job()? },
        Kind::Stage => SlotRecord::Stage {
            job: job()?,
            slots: slots()?,
            source: shard()?,
            source_node: node()?,
        },
        Kind::Staged => SlotRecord::Staged {
            job: job()?,
            position: record.position,
        },
        Kind::Claim => SlotRecord::Claim {
            job: job()?,
            slots: slots()?,
            source: shard()?,
        },
        Kind::Adopt => SlotRecord::Adopt { job: job()? },
        Kind::Abort => SlotRecord::Abort { job: job()? },
        Kind::Forget => SlotRecord::Forget { job: job()? },
        Kind::SetMigrating => SlotRecord::SetMigrating {
            slot: slot()?,
            node: node()?,
        },
        Kind::SetImporting => SlotRecord::SetImporting {
            slot: slot()?,
            node: node()?,
        },
        Kind::SetStable => SlotRecord::SetStable { slot: slot()? },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_proto::Message;

    #[test]
    fn every_record_survives_the_journal() {
        let (job, shard, node) = (JobId([1; 20]), ShardId([2; 20]), NodeId([3; 20]));
        let slots = SlotRanges::new(&[(0, 9), (16383, 16383)]).unwrap();
        let all = [
            SlotRecord::Assign {
                slots: slots.clone(),
            },
            SlotRecord::Unassign {
                slots: slots.clone(),
            },
            SlotRecord::Export {
                job,
                slots: slots.clone(),
                target: shard,
                target_node: node,
            },
            SlotRecord::HandOff { job },
            SlotRecord::Stage {
                job,
                slots: slots.clone(),
                source: shard,
                source_node: node,
            },
            SlotRecord::Staged {
                job,
                position: u64::MAX,
            },
            SlotRecord::Claim {
                job,
                slots,
                source: shard,
            },
            SlotRecord::Adopt { job },
            SlotRecord::Abort { job },
            SlotRecord::Forget { job },
            SlotRecord::SetMigrating { slot: 7, node },
            SlotRecord::SetImporting { slot: 7, node },
            SlotRecord::SetStable { slot: 0 },
        ];
        for record in all {
            let bytes = to_proto(&record).encode_to_vec();
            let back = pb::SlotRecord::decode(bytes.as_slice()).unwrap();
            assert_eq!(from_proto(&back), Ok(record));
        }
    }

    #[test]
    fn foreign_bytes_are_refused() {
        let refused = |change: fn(&mut pb::SlotRecord), expect| {
            let mut record = to_proto(&SlotRecord::Adopt {
                job: JobId([1; 20]),
            });
            change(&mut record);
            assert_eq!(from_proto(&record), Err(expect));
        };
        refused(|r| r.kind = 0, BadRecord::Kind(0));
        refused(|r| r.kind = 99, BadRecord::Kind(99));
        refused(|r| r.job = r.job.slice(1..), BadRecord::Id);
        refused(|r| r.kind = Kind::Assign.into(), BadRecord::Slots);
        refused(
            |r| {
                r.kind = Kind::SetStable.into();
                r.slots = vec![pb::SlotRange {
                    first: 70000,
                    last: 70000,
                }];
            },
            BadRecord::Slots,
        );
    }
}
