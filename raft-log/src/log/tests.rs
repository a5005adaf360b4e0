#![cfg(not(madsim))]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use openraft::storage::{IOFlushed, RaftLogStorage};
use openraft::type_config::TypeConfigExt;
use openraft::{RaftLogReader, RaftTypeConfig};

use super::format::State;
use super::*;
use crate::disk::{Crash, Disk, MemDisk};
use crate::error::StartError;
use crate::ids::{NodeId, ShardId};
use crate::raft::{Entry, LeaderId, LogId, Types, Vote, log_id, normal};
use crate::types::Role;

const ME: NodeId = NodeId::from_bytes([1; 20]);

fn owner() -> Owner {
    Owner {
        dir: PathBuf::from("/log"),
        shard: ShardId::from_bytes([7; 20]),
        node: ME,
        role: Role::Data,
        must_exist: false,
    }
}

async fn open(disk: &MemDisk) -> Result<(LogStore, bool), StartError> {
    // The writer of a log that was dropped lets go of the lock a moment later.
    for _ in 0..200 {
        match open_with(disk, owner(), 64).await {
            Err(StartError::InUse { .. }) => {
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            }
            other => return other,
        }
    }
    open_with(disk, owner(), 64).await
}

async fn open_with(
    disk: &MemDisk,
    owner: Owner,
    cache: u64,
) -> Result<(LogStore, bool), StartError> {
    let limits = Limits {
        segment_bytes: 700,
        cache_bytes: cache,
    };
    LogStore::open(Arc::new(disk.clone()), owner, limits).await
}

fn run<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(test)
}

fn entry(term: u64, index: u64) -> Entry {
    let data = format!("{term}:{index}:{}", "x".repeat((index % 7 * 20) as usize));
    Entry {
        id: log_id(term, ME, index),
        payload: normal(Bytes::from(data)),
    }
}

async fn append(log: &mut LogStore, entries: Vec<Entry>) -> bool {
    let (tx, rx) = Types::oneshot();
    log.append(entries, IOFlushed::signal(tx)).await.is_ok() && matches!(rx.await, Ok(Ok(())))
}

fn vote(term: u64) -> Vote {
    Vote {
        leader_id: LeaderId { term, node_id: ME },
        committed: true,
    }
}

/// What a log says, as plain values.
#[derive(Clone, Debug, Default, PartialEq)]
struct Seen {
    vote: Option<u64>,
    purged: Option<LogId>,
    last: Option<LogId>,
    entries: BTreeMap<u64, (u64, Bytes)>,
}

async fn seen(log: &mut LogStore) -> Seen {
    let state = log.get_log_state().await.unwrap();
    let entries = log.try_get_log_entries(..).await.unwrap();
    Seen {
        vote: log
            .read_vote()
            .await
            .unwrap()
            .map(|vote| vote.leader_id.term),
        purged: state.last_purged_log_id,
        last: state.last_log_id,
        entries: entries
            .into_iter()
            .map(|e| (e.id.index, (e.id.leader_id.term, e.data().unwrap().clone())))
            .collect(),
    }
}

#[derive(Clone, Debug)]
enum Op {
    Append(u64, u64),
    Vote(u64),
    Truncate(u64, u64),
    Purge(u64, u64),
}

/// One of everything, over several segments.
fn script() -> Vec<Op> {
    let mut ops = vec![Op::Vote(1)];
    ops.extend((0..8).map(|i| Op::Append(1, i)));
    ops.push(Op::Vote(2));
    ops.push(Op::Truncate(1, 5));
    ops.extend((6..14).map(|i| Op::Append(2, i)));
    ops.push(Op::Purge(1, 4));
    ops.push(Op::Truncate(2, 12));
    ops.push(Op::Vote(3));
    ops.extend((13..18).map(|i| Op::Append(3, i)));
    ops.push(Op::Purge(2, 11));
    // A snapshot far ahead was installed.
    ops.push(Op::Purge(4, 40));
    ops.extend((41..46).map(|i| Op::Append(4, i)));
    ops
}

fn step(seen: &mut Seen, op: &Op) {
    match *op {
        Op::Append(term, index) => {
            let entry = entry(term, index);
            seen.entries
                .insert(index, (term, entry.data().unwrap().clone()));
            seen.last = Some(entry.id);
        }
        Op::Vote(term) => seen.vote = Some(term),
        Op::Truncate(term, index) => {
            seen.entries.retain(|at, _| *at <= index);
            seen.last = Some(log_id(term, ME, index));
        }
        Op::Purge(term, index) => {
            let id = log_id(term, ME, index);
            seen.entries.retain(|at, _| *at > index);
            seen.purged = Some(id);
            if seen.entries.is_empty() {
                seen.last = Some(id);
            }
        }
    }
}

async fn perform(log: &mut LogStore, op: &Op) -> bool {
    match *op {
        Op::Append(term, index) => append(log, vec![entry(term, index)]).await,
        Op::Vote(term) => log.save_vote(&vote(term)).await.is_ok(),
        Op::Truncate(term, index) => log
            .truncate_after(Some(log_id(term, ME, index)))
            .await
            .is_ok(),
        Op::Purge(term, index) => log.purge(log_id(term, ME, index)).await.is_ok(),
    }
}

#[test]
fn what_was_written_is_there_with_and_without_cache() {
    for cache in [0, 300, 1 << 20] {
        run(async {
            let disk = MemDisk::new();
            let (mut log, fresh) = open_with(&disk, owner(), cache).await.unwrap();
            assert!(fresh);
            let mut model = Seen::default();
            for op in script() {
                assert!(perform(&mut log, &op).await, "{op:?}");
                step(&mut model, &op);
                assert_eq!(seen(&mut log).await, model, "after {op:?}");
            }
            log.flush().await;
            assert!(
                disk.files().len() < 6,
                "cut segments are removed: {:?}",
                disk.files()
            );
            let some = log.read(42, 100, 1).await.unwrap();
            assert_eq!(some.len(), 1, "at least one");
            drop(log);
            let (mut log, fresh) = open(&disk).await.unwrap();
            assert!(!fresh);
            assert_eq!(seen(&mut log).await, model);
        });
    }
}

#[test]
fn a_crash_at_any_moment_leaves_a_state_that_was_and_all_that_was_acknowledged() {
    let script = script();
    let total = run(async {
        let disk = MemDisk::new();
        let (mut log, _) = open(&disk).await.unwrap();
        for op in &script {
            assert!(perform(&mut log, op).await);
        }
        log.flush().await;
        disk.changes()
    });
    let mut models = vec![Seen::default()];
    for op in &script {
        let mut next = models.last().unwrap().clone();
        step(&mut next, op);
        models.push(next);
    }
    let mut modes = vec![Crash::LoseUnsynced, Crash::KeepAll];
    modes.extend((0..6).map(Crash::Torn));
    for at in 0..total {
        for mode in &modes {
            run(async {
                let disk = MemDisk::new();
                disk.power_off_after(at);
                let (mut acknowledged, mut issued) = (0, 0);
                if let Ok((mut log, _)) = open(&disk).await {
                    for (number, op) in script.iter().enumerate() {
                        issued = number + 1;
                        if !perform(&mut log, op).await {
                            break;
                        }
                        // Truncations and purges are not waited for; what follows them is.
                        if matches!(op, Op::Append(..) | Op::Vote(_)) {
                            acknowledged = number + 1;
                        }
                    }
                    log.flush().await;
                }
                disk.crash(*mode);
                let (mut log, _) = open(&disk)
                    .await
                    .unwrap_or_else(|e| panic!("{at} {mode:?}: {e}"));
                let found = seen(&mut log).await;
                let fits = (acknowledged..=issued).any(|k| models[k] == found);
                assert!(fits, "{at} {mode:?}: {acknowledged}..={issued} {found:?}");
                // And it goes on from there.
                let next = found.last.map_or(0, |id| id.index + 1);
                assert!(append(&mut log, vec![entry(9, next)]).await);
                drop(log);
                let (mut log, _) = open(&disk).await.unwrap();
                assert_eq!(log.last(), Some(log_id(9, ME, next)));
                let again = seen(&mut log).await;
                assert_eq!(again.entries.len(), found.entries.len() + 1);
            });
        }
    }
}

fn newest_segment(disk: &MemDisk) -> PathBuf {
    disk.files()
        .into_iter()
        .rfind(|path| path.extension().is_some_and(|e| e == "log"))
        .unwrap()
}

#[test]
fn a_torn_tail_is_cut_and_damage_inside_stops_the_start() {
    run(async {
        let disk = MemDisk::new();
        let limits = Limits {
            segment_bytes: 1 << 20,
            cache_bytes: 0,
        };
        let (mut log, _) = LogStore::open(Arc::new(disk.clone()), owner(), limits)
            .await
            .unwrap();
        for i in 0..6 {
            assert!(append(&mut log, vec![entry(1, i)]).await);
        }
        drop(log);
        let path = newest_segment(&disk);
        let whole = disk.content(&path).unwrap();
        // Where each record begins.
        let mut starts = vec![];
        let mut at = 0;
        while at < whole.len() {
            starts.push(at);
            at += format::frame(&whole[at..]).unwrap().len;
        }
        for cut in (starts[1]..whole.len()).step_by(3) {
            disk.set_content(&path, whole[..cut].to_vec());
            let (log, _) = open(&disk).await.unwrap();
            let kept = starts.iter().filter(|start| **start <= cut).count() - 2;
            let expect = kept.checked_sub(1).map(|last| last as u64);
            assert_eq!(log.last().map(|id| id.index), expect, "cut at {cut}");
            drop(log);
        }
        for bit in (0..whole.len() * 8).step_by(5) {
            let mut bad = whole.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            disk.set_content(&path, bad);
            let record = starts.iter().rposition(|start| *start <= bit / 8).unwrap();
            match open(&disk).await {
                Ok((log, _)) => {
                    assert_eq!(record, 6, "bit {bit} of a record that others vouch for");
                    assert_eq!(log.last().map(|id| id.index), Some(4));
                }
                Err(StartError::Corrupt { file, offset, .. }) => {
                    assert_eq!(
                        (file.as_path(), offset),
                        (path.as_path(), starts[record] as u64)
                    );
                    assert!(record < 6);
                }
                Err(e) => panic!("bit {bit}: {e}"),
            }
        }
    });
}

#[test]
fn a_lost_log_does_not_start() {
    run(async {
        let disk = MemDisk::new();
        let (mut log, _) = open(&disk).await.unwrap();
        for i in 0..30 {
            assert!(append(&mut log, vec![entry(1, i)]).await);
        }
        assert!(matches!(
            open_with(&disk, owner(), 0).await,
            Err(StartError::InUse { .. })
        ));
        drop(log);
        let (log, _) = open(&disk).await.unwrap();
        drop(log);
        for wrong in [
            Owner {
                node: NodeId::from_bytes([2; 20]),
                ..owner()
            },
            Owner {
                shard: ShardId::from_bytes([2; 20]),
                ..owner()
            },
            Owner {
                role: Role::Witness,
                ..owner()
            },
        ] {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            let result = open_with(&disk, wrong, 0).await;
            assert!(matches!(result, Err(StartError::Identity { .. })));
        }
        let logs: Vec<PathBuf> = disk
            .files()
            .into_iter()
            .filter(|p| p.extension().is_some_and(|e| e == "log"))
            .collect();
        assert!(logs.len() > 3);
        let content = disk.content(&logs[1]).unwrap();
        disk.remove(&logs[1]).await.unwrap();
        let result = open(&disk).await;
        assert!(matches!(result, Err(StartError::Corrupt { .. })), "a gap");
        disk.set_content(&logs[1], content);
        disk.remove(logs.last().unwrap()).await.unwrap();
        assert!(
            matches!(open(&disk).await, Err(StartError::Identity { .. })),
            "the newest is gone"
        );
        for path in &logs[..logs.len() - 1] {
            disk.remove(path).await.unwrap();
        }
        assert!(
            matches!(open(&disk).await, Err(StartError::Identity { .. })),
            "all are gone"
        );
        disk.remove(Path::new("/log/identity")).await.unwrap();
        let lost = Owner {
            must_exist: true,
            ..owner()
        };
        let error = open_with(&disk, lost, 0).await.err().unwrap();
        assert!(error.to_string().contains("must not vote again"), "{error}");
    });
}

#[test]
fn a_failed_sync_is_final_and_a_full_disk_is_waited_for() {
    run(async {
        let disk = MemDisk::new();
        let (mut log, _) = open(&disk).await.unwrap();
        assert!(append(&mut log, vec![entry(1, 0)]).await);
        disk.set_capacity(Some(0));
        let (tx, rx) = Types::oneshot();
        log.append(vec![entry(1, 1)], IOFlushed::signal(tx))
            .await
            .unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        assert!(log.stalled().is_some());
        disk.set_capacity(None);
        assert!(matches!(rx.await, Ok(Ok(()))));
        assert!(log.stalled().is_none());

        disk.fail_syncs(true);
        assert!(!append(&mut log, vec![entry(1, 2)]).await);
        disk.fail_syncs(false);
        assert!(
            !append(&mut log, vec![entry(1, 3)]).await,
            "never trusted again"
        );
        assert!(log.save_vote(&vote(1)).await.is_err());
        assert!(log.watch_failed().get().is_some());
    });
}

#[test]
fn a_replaced_tail_is_not_read_before_the_truncation_is_durable() {
    run(async {
        let disk = MemDisk::new();
        let (mut log, _) = open_with(&disk, owner(), 0).await.unwrap();
        assert!(append(&mut log, (0..8).map(|i| entry(1, i)).collect()).await);
        log.flush().await;
        // The writer cannot write: everything that follows is in memory alone.
        disk.set_capacity(Some(0));
        log.truncate_after(Some(log_id(1, ME, 5))).await.unwrap();
        let ids = |entries: Vec<Entry>| entries.iter().map(|e| e.id).collect::<Vec<_>>();
        let read = log.read(4, 10, u64::MAX).await.unwrap();
        assert_eq!(ids(read), [log_id(1, ME, 4), log_id(1, ME, 5)]);
        let (tx, rx) = Types::oneshot();
        log.append(vec![entry(2, 6), entry(2, 7)], IOFlushed::signal(tx))
            .await
            .unwrap();
        let replaced = [4, 5, 6, 7].map(|i| log_id(if i < 6 { 1 } else { 2 }, ME, i));
        assert_eq!(ids(log.read(4, 10, u64::MAX).await.unwrap()), replaced);
        disk.set_capacity(None);
        assert!(matches!(rx.await, Ok(Ok(()))));
        assert_eq!(ids(log.read(4, 10, u64::MAX).await.unwrap()), replaced);
    });
}

#[test]
fn only_what_this_log_holds_is_taken_for_committed() {
    let state = |committed: (u64, u64), last: (u64, u64)| State {
        purged: Some(log_id(1, ME, 10)),
        committed: Some(log_id(committed.0, ME, committed.1)),
        last: Some(log_id(last.0, ME, last.1)),
        ..State::default()
    };
    let here = |committed, last| state(committed, last).committed_here();
    assert_eq!(here((2, 20), (2, 25)), Some(log_id(2, ME, 20)));
    assert_eq!(here((2, 20), (3, 25)), Some(log_id(2, ME, 20)));
    assert_eq!(here((2, 20), (2, 15)), Some(log_id(2, ME, 15)));
    // A tail that leader 3 replaced, and a shorter log of an older leader: nothing is known of either.
    assert_eq!(here((3, 20), (2, 25)), Some(log_id(1, ME, 10)));
    assert_eq!(here((3, 20), (2, 15)), Some(log_id(1, ME, 10)));
    assert_eq!(State::default().committed_here(), None);
}

#[test]
fn a_log_has_no_gaps_and_shows_none() {
    run(async {
        let disk = MemDisk::new();
        let (mut log, _) = open(&disk).await.unwrap();
        assert!(append(&mut log, (0..8).map(|i| entry(1, i)).collect()).await);
        assert!(!append(&mut log, vec![entry(1, 9)]).await);
        assert!(!append(&mut log, vec![entry(1, 8), entry(1, 10)]).await);
        assert!(!append(&mut log, vec![entry(1, 7)]).await);
        assert!(append(&mut log, vec![entry(1, 8), entry(1, 9)]).await);
        log.purge(log_id(1, ME, 4)).await.unwrap();
        let limited = log.limited_get_log_entries(3, 8).await.unwrap();
        assert!(limited.is_empty(), "{limited:?}");
        let limited = log.limited_get_log_entries(5, 8).await.unwrap();
        assert_eq!(limited.len(), 3);
    });
}

#[test]
fn what_is_left_of_a_cut_range_is_not_sent() {
    run(async {
        let disk = MemDisk::new();
        let (mut log, _) = open_with(&disk, owner(), 0).await.unwrap();
        assert!(append(&mut log, (0..8).map(|i| entry(1, i)).collect()).await);
        let mut missed = log.watch_missed();
        let sent = log.limited_get_log_entries(3, 8).await.unwrap();
        assert_eq!(sent.len(), 5);
        log.purge(log_id(1, ME, 4)).await.unwrap();
        log.flush().await;
        assert_eq!(missed.get(), 0);
        assert!(log.limited_get_log_entries(3, 8).await.unwrap().is_empty());
        assert_eq!(missed.changed().await, Ok(1));
        let sent = log.limited_get_log_entries(5, 8).await.unwrap();
        assert_eq!(sent[0].id, log_id(1, ME, 5));
        assert_eq!(missed.get(), 1);
    });
}

#[test]
fn many_appends_share_a_sync() {
    run(async {
        let disk = MemDisk::new();
        let limits = Limits {
            segment_bytes: 1 << 20,
            cache_bytes: 0,
        };
        let (mut log, _) = LogStore::open(Arc::new(disk.clone()), owner(), limits)
            .await
            .unwrap();
        let before = disk.syncs();
        let mut waits = Vec::new();
        for i in 0..500 {
            let (tx, rx) = Types::oneshot();
            log.append(vec![entry(1, i)], IOFlushed::signal(tx))
                .await
                .unwrap();
            waits.push(rx);
        }
        for wait in waits {
            assert!(matches!(wait.await, Ok(Ok(()))));
        }
        assert!(
            disk.syncs() - before < 400,
            "{} syncs",
            disk.syncs() - before
        );
    });
}

/// The type that openraft is given is the one meant.
const _: fn() = || {
    fn is_storage<C: RaftTypeConfig, S: RaftLogStorage<C>>() {}
    is_storage::<Types, LogStore>();
};
