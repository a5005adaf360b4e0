//! The disk is full.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crate::harness::router::Outcome;
use crate::harness::{Cluster, Load};
use crate::tools;

/// A small file system of its own, unmounted when dropped.
struct SmallDisk {
    path: PathBuf,
}

impl SmallDisk {
    fn mount(mib: u32) -> Result<SmallDisk, String> {
        let path = std::env::temp_dir().join(format!("holdfast-small-{}", std::process::id()));
        std::fs::create_dir_all(&path).map_err(|e| e.to_string())?;
        let size = format!("size={mib}m");
        let (success, output) = tools::run(
            Command::new("mount")
                .args(["-t", "tmpfs", "-o", &size, "tmpfs"])
                .arg(&path),
            Duration::from_secs(10),
        );
        match success {
            true => Ok(SmallDisk { path }),
            false => {
                let _ = std::fs::remove_dir(&path);
                Err(format!(
                    "a small tmpfs cannot be mounted: {}",
                    output.trim()
                ))
            }
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = tools::run(
            Command::new("umount").arg(&self.path),
            Duration::from_secs(10),
        );
        let _ = std::fs::remove_dir(&self.path);
    }
}

/// A shard of one, whose disk fills up: writes are refused with a clear error, nothing acknowledged is lost, and
/// with room again it goes on.
#[test]
fn a_full_disk_refuses_writes_and_loses_nothing() {
    if tools::find("mount").is_none() {
        return tools::skipped("a full disk", "there is no `mount`");
    }
    let disk = match SmallDisk::mount(24) {
        Ok(disk) => disk,
        Err(why) => return tools::skipped("a full disk", &why),
    };
    let mut cluster = Cluster::in_dir(&disk.path);
    // A ballast that can be thrown off later.
    let ballast = disk.path.join("ballast");
    std::fs::write(&ballast, vec![0; 8 << 20]).expect("a ballast of 8 MiB");
    let node = cluster.add_node(&[
        "durability quorum",
        "raft-segment-bytes 1mb",
        "durability-timeout 1000",
    ]);
    cluster.start(node);
    cluster.add_slots(node, 0, 16383);
    cluster.wait_well();
    cluster.router().run("SET first 1");

    let load = Load::start(&cluster, "k", 2);
    let mut router = cluster.router();
    router.patience = Duration::from_secs(5);
    let big = vec![b'x'; 64 * 1024];
    let mut refusal = None;
    for n in 0..2000 {
        match router.once(&[b"SET", format!("big:{}", n % 16).as_bytes(), &big]) {
            Outcome::Done(_) => {}
            other => {
                refusal = Some(other);
                break;
            }
        }
    }
    let report = load.finish();
    let refusal = refusal.expect("24 MiB were never full");
    eprintln!("on a full disk: {refusal:?}");

    std::fs::remove_file(&ballast).expect("removed");
    if cluster.ended(node).is_some() {
        // A log that cannot be trusted any more may end its process, with a word about why.
        let log = cluster.log(node);
        assert!(!log.contains("panicked"), "{log}");
        assert!(
            log.to_lowercase().contains("space") || log.to_lowercase().contains("disk"),
            "{log}"
        );
    }
    cluster.kill(node);
    cluster.start(node);
    cluster.wait_well();
    report.assert_nothing_lost(&mut cluster.router());
    assert!(cluster.router().run("SET after 1").is_ok());
}
