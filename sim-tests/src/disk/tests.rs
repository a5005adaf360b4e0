use super::*;
use crate::rng::Rng;
use std::io::ErrorKind;
use std::path::Path;

fn disk(seed: u64) -> DiskCore {
    let mut d = DiskCore::new(Rng::new(seed));
    d.create_dir_all(Path::new("/d")).unwrap();
    d
}

fn text(d: &DiskCore, path: &str) -> Option<Vec<u8>> {
    let inode = d.open(Path::new(path)).ok()?;
    Some(d.read_at(inode, 0, usize::MAX).unwrap())
}

#[test]
fn synced_data_and_names_survive_every_crash() {
    for seed in 0..200 {
        let mut d = disk(seed);
        let f = d.create(Path::new("/d/a"), true).unwrap();
        d.append(f, b"hello").unwrap();
        d.sync(f).unwrap();
        d.sync_dir(Path::new("/d")).unwrap();
        d.append(f, b" unsynced").unwrap();
        d.crash();
        let got = text(&d, "/d/a").unwrap();
        assert!(got.starts_with(b"hello"), "seed {seed}: {got:?}");
    }
}

#[test]
fn unsynced_writes_are_lost_kept_and_torn_over_the_seeds() {
    let mut total = CrashReport::default();
    let mut holes = 0;
    for seed in 0..300 {
        let mut d = disk(seed);
        let f = d.create(Path::new("/d/a"), true).unwrap();
        d.sync_dir(Path::new("/d")).unwrap();
        for _ in 0..4 {
            d.append(f, &[7u8; 1500]).unwrap();
        }
        let r = d.crash();
        total.kept += r.kept;
        total.lost += r.lost;
        total.torn += r.torn;
        let left = text(&d, "/d/a").unwrap();
        holes += u64::from(left.contains(&0) && left.last() == Some(&7));
    }
    assert!(
        total.kept > 50 && total.lost > 50 && total.torn > 50 && holes > 20,
        "{total:?} {holes}"
    );
}

#[test]
fn names_need_their_directory_synced() {
    let (mut gone, mut there) = (0, 0);
    for seed in 0..100 {
        let mut d = disk(seed);
        let f = d.create(Path::new("/d/a.tmp"), true).unwrap();
        d.append(f, b"x").unwrap();
        d.sync(f).unwrap();
        d.sync_dir(Path::new("/d")).unwrap();
        d.rename(Path::new("/d/a.tmp"), Path::new("/d/a")).unwrap();
        assert_eq!(d.list(Path::new("/d")).unwrap(), ["a"]);
        d.crash();
        match (text(&d, "/d/a"), text(&d, "/d/a.tmp")) {
            (Some(x), None) => {
                assert_eq!(x, b"x");
                there += 1;
            }
            (None, Some(_)) => gone += 1,
            other => panic!("{other:?}"),
        }
    }
    assert!(gone > 20 && there > 20);
}

#[test]
fn a_failed_sync_is_followed_by_one_that_lies() {
    let mut lost = 0;
    for seed in 0..100 {
        let mut d = disk(seed);
        let f = d.create(Path::new("/d/a"), true).unwrap();
        d.sync_dir(Path::new("/d")).unwrap();
        d.append(f, b"payload").unwrap();
        d.set_faults(Faults {
            fsync_error: 1.0,
            ..Faults::default()
        });
        assert!(d.sync(f).is_err());
        d.set_faults(Faults::default());
        assert_eq!(text(&d, "/d/a").unwrap(), b"payload");
        // Nothing is pending any more, so the retried sync must not bring the page back.
        let before = d.stats().syncs;
        d.crash();
        assert_eq!(d.stats().syncs, before);
        lost += u64::from(text(&d, "/d/a").unwrap() != b"payload");
    }
    assert!(lost > 20, "{lost}");
}

#[test]
fn full_and_read_only() {
    let mut d = disk(1);
    let f = d.create(Path::new("/d/a"), true).unwrap();
    d.set_faults(Faults {
        capacity_bytes: Some(10),
        ..Faults::default()
    });
    d.append(f, b"12345678").unwrap();
    assert_eq!(
        d.append(f, b"90123").unwrap_err().kind(),
        ErrorKind::StorageFull
    );
    assert_eq!(
        d.len(f).unwrap(),
        10,
        "what fits is written, as a real disk does"
    );
    d.write_at(f, 0, b"overwrite").unwrap();
    d.set_faults(Faults {
        read_only: true,
        ..Faults::default()
    });
    assert_eq!(
        d.append(f, b"x").unwrap_err().kind(),
        ErrorKind::ReadOnlyFilesystem
    );
    assert_eq!(d.sync(f).unwrap_err().kind(), ErrorKind::ReadOnlyFilesystem);
    assert_eq!(d.read_at(f, 0, 4).unwrap(), b"over");
}

#[test]
fn locks_fall_with_the_process_and_handles_outlive_their_name() {
    let mut d = disk(1);
    d.lock(Path::new("/d/lock")).unwrap();
    assert_eq!(
        d.lock(Path::new("/d/lock")).unwrap_err().kind(),
        ErrorKind::WouldBlock
    );
    let f = d.create(Path::new("/d/a"), true).unwrap();
    d.remove(Path::new("/d/a")).unwrap();
    d.sync_dir(Path::new("/d")).unwrap();
    d.append(f, b"still here").unwrap();
    assert_eq!(d.len(f).unwrap(), 10);
    d.crash();
    assert!(d.len(f).is_err());
    d.lock(Path::new("/d/lock")).unwrap();
}

#[test]
fn same_seed_same_crash() {
    let run = || {
        let mut d = disk(9);
        let f = d.create(Path::new("/d/a"), true).unwrap();
        d.sync_dir(Path::new("/d")).unwrap();
        for i in 0..50u8 {
            d.append(f, &[i; 700]).unwrap();
        }
        (d.crash(), text(&d, "/d/a"))
    };
    assert_eq!(run(), run());
}
