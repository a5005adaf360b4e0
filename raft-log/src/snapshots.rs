//! A group's snapshot files at this node: at most one in use, and those that somebody still reads.
//!
//! `snapshots/current` names the snapshot in use; it is replaced atomically after the snapshot's own
//! file is durable. A file that `current` does not name is left over and removed at start. Layout of
//! `current`: a `SnapshotHeader` of the Raft protocol, then its crc32c in 4 bytes.
//!
//! A witness cuts its log without having a state. To openraft a log may be cut only behind a snapshot,
//! so there a *marker* stands for one: a `current` without file, which never leaves the node and
//! which no node installs.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::{BufMut, Bytes, BytesMut};
use holdfast_proto::Message;
use holdfast_proto::raft::SnapshotHeader;

use crate::disk::{self, Disk};
use crate::error::StartError;
use crate::raft::{
    SnapshotMeta, StoredMembership, log_id_from_wire, log_id_to_wire, membership_from_wire,
    membership_to_wire, opt_log_id,
};
use crate::types::{EntryId, SnapshotInfo};

const CURRENT: &str = "current";
const CURRENT_MAX: u64 = 1 << 20;

/// A snapshot in use. Clones are the same one; its file is removed when the last clone is dropped after
/// a newer one has taken its place.
#[derive(Clone)]
pub struct Stored {
    pub meta: SnapshotMeta,
    pub file: Option<Arc<File>>,
}

/// A snapshot's file.
pub struct File {
    pub path: PathBuf,
    pub len: u64,
    /// The snapshots to tell when nobody uses the file any more.
    home: Arc<Inner>,
    /// A `current` that did not become durable for sure names it: only the next start can tell whether it is needed.
    in_doubt: AtomicBool,
}

impl Drop for File {
    fn drop(&mut self) {
        if !self.in_doubt.load(Ordering::Relaxed) {
            self.home.lock().unused.push(self.path.clone());
        }
    }
}

impl Stored {
    /// What the snapshot is, if it is one and no marker.
    pub fn info(&self) -> Option<SnapshotInfo> {
        let file = self.file.as_ref()?;
        let last = EntryId::from(self.meta.last_log_id.as_ref()?);
        Some(SnapshotInfo {
            last,
            path: file.path.clone(),
            len: file.len,
            keep: crate::types::Keep(Some(file.clone())),
        })
    }

    pub fn index(&self) -> u64 {
        self.meta.last_log_id.map_or(0, |id| id.index)
    }
}

struct Inner {
    state: Mutex<State>,
    /// Held while `current` is being replaced.
    adopting: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    current: Option<Stored>,
    unused: Vec<PathBuf>,
    next: u64,
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// The snapshots of one group. A handle.
#[derive(Clone)]
pub struct Snapshots {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    inner: Arc<Inner>,
}

impl Snapshots {
    /// Finds the snapshot in use, and removes what is left over.
    ///
    /// # Errors
    /// [`StartError::Corrupt`] when `current` or the file that it names is not as it was written.
    pub async fn open(disk: Arc<dyn Disk>, group_dir: &Path) -> Result<Snapshots, StartError> {
        let dir = group_dir.join("snapshots");
        disk.create_dir_all(&dir).await?;
        let inner = Arc::new(Inner {
            state: Mutex::default(),
            adopting: tokio::sync::Mutex::default(),
        });
        let snapshots = Snapshots {
            disk: disk.clone(),
            dir: dir.clone(),
            inner,
        };
        let path = dir.join(CURRENT);
        let corrupt = |file: &Path, what: &str| StartError::Corrupt {
            file: file.to_path_buf(),
            offset: 0,
            what: what.into(),
        };
        let mut named = None;
        if disk.stat(&path).await?.is_some() {
            let data = Bytes::from(disk::read_all(&*disk, &path, CURRENT_MAX).await?);
            let header = parse(&data).map_err(|what| corrupt(&path, &what))?;
            let meta = meta_from_header(&header).map_err(|what| corrupt(&path, &what))?;
            let file = if header.snapshot_id.is_empty() {
                None
            } else {
                let file = dir.join(&header.snapshot_id);
                match disk.stat(&file).await? {
                    Some(entry) if entry.len == header.len => {}
                    Some(_) => return Err(corrupt(&file, "not as long as it was written")),
                    None => return Err(corrupt(&file, "the snapshot is gone")),
                }
                let home = snapshots.inner.clone();
                Some(Arc::new(File {
                    path: file,
                    len: header.len,
                    home,
                    in_doubt: AtomicBool::new(false),
                }))
            };
            named = Some(header.snapshot_id.clone());
            snapshots.inner.lock().current = Some(Stored { meta, file });
        }
        for entry in disk.list(&dir).await? {
            if entry.name != CURRENT && Some(&entry.name) != named.as_ref() && !entry.is_dir {
                disk.remove(&dir.join(&entry.name)).await?;
            }
        }
        Ok(snapshots)
    }

    pub fn disk(&self) -> &Arc<dyn Disk> {
        &self.disk
    }

    /// The snapshot in use.
    pub fn current(&self) -> Option<Stored> {
        self.inner.lock().current.clone()
    }

    /// A path for a new snapshot, which is removed at the next start unless [`Snapshots::adopt`]ed.
    pub fn new_path(&self) -> PathBuf {
        let mut state = self.inner.lock();
        loop {
            let number = state.next;
            state.next += 1;
            let path = self.dir.join(format!("{number:08x}.snapshot"));
            if state
                .current
                .as_ref()
                .and_then(|c| c.file.as_ref())
                .is_none_or(|f| f.path != path)
            {
                return path;
            }
        }
    }

    /// A complete and synced file, not yet in use.
    ///
    /// # Errors
    /// The disk's.
    pub async fn complete(&self, meta: SnapshotMeta, path: PathBuf) -> io::Result<Stored> {
        let len = self.disk.stat(&path).await?.map_or(0, |entry| entry.len);
        self.disk.sync_dir(&self.dir).await?;
        let file = Arc::new(File {
            path,
            len,
            home: self.inner.clone(),
            in_doubt: AtomicBool::new(false),
        });
        Ok(Stored {
            meta,
            file: Some(file),
        })
    }

    /// Puts a snapshot to use, and returns the one in use then: the one there is, if it covers more.
    ///
    /// # Errors
    /// The disk's.
    pub async fn adopt(&self, stored: Stored) -> io::Result<Stored> {
        let _one = self.inner.adopting.lock().await;
        if let Some(current) = self.current()
            && current.meta.last_log_id >= stored.meta.last_log_id
        {
            drop(stored);
            self.clean().await;
            return Ok(current);
        }
        let mut header = header_of(&stored.meta);
        if let Some(file) = &stored.file {
            header.snapshot_id = file
                .path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            header.len = file.len;
        }
        let body = header.encode_to_vec();
        let mut data = BytesMut::from(&body[..]);
        data.put_u32_le(crc32c::crc32c(&body));
        let replaced = disk::replace(&*self.disk, &self.dir.join(CURRENT), data.freeze()).await;
        if let Err(e) = replaced {
            if let Some(file) = &stored.file {
                file.in_doubt.store(true, Ordering::Relaxed);
            }
            return Err(e);
        }
        let old = self.inner.lock().current.replace(stored.clone());
        drop(old);
        self.clean().await;
        Ok(stored)
    }

    /// Removes a file that did not become a snapshot: nobody may call it [`Snapshots::complete`] before.
    pub async fn discard(&self, path: &Path) {
        let _ = self.disk.remove(path).await;
    }

    /// Removes files that nobody uses. One that cannot be removed goes at the next start.
    async fn clean(&self) {
        let unused = std::mem::take(&mut self.inner.lock().unused);
        for path in unused {
            if let Err(e) = self.disk.remove(&path).await {
                tracing::warn!("old snapshot not removed: {e}");
            }
        }
    }
}

fn parse(data: &Bytes) -> Result<SnapshotHeader, String> {
    let body = data.len().checked_sub(4).ok_or("too short")?;
    let crc = u32::from_le_bytes(data[body..].try_into().map_err(|_| "too short")?);
    if crc != crc32c::crc32c(&data[..body]) {
        return Err("checksum does not match".into());
    }
    SnapshotHeader::decode(data.slice(..body)).map_err(|e| e.to_string())
}

/// A header with what `meta` says, the rest empty.
pub fn header_of(meta: &SnapshotMeta) -> SnapshotHeader {
    SnapshotHeader {
        last: meta.last_log_id.as_ref().map(log_id_to_wire),
        membership_id: meta.last_membership.log_id().as_ref().map(log_id_to_wire),
        membership: Some(membership_to_wire(meta.last_membership.membership())),
        ..SnapshotHeader::default()
    }
}

/// What a header says about its snapshot.
///
/// # Errors
/// It is malformed.
pub fn meta_from_header(header: &SnapshotHeader) -> Result<SnapshotMeta, String> {
    let last = header.last.clone().ok_or("covers nothing")?;
    let last = log_id_from_wire(last).map_err(|e| e.to_string())?;
    let id = opt_log_id(header.membership_id.clone()).map_err(|e| e.to_string())?;
    let membership = membership_from_wire(header.membership.clone().unwrap_or_default())
        .map_err(|e| e.to_string())?;
    Ok(SnapshotMeta {
        last_log_id: Some(last),
        last_membership: StoredMembership::new(id, membership),
    })
}

#[cfg(all(test, not(madsim)))]
mod tests {
    use super::*;
    use crate::disk::{MemDisk, OpenMode};
    use crate::ids::NodeId;
    use crate::raft::log_id;

    async fn written(snapshots: &Snapshots, index: u64) -> Stored {
        let path = snapshots.new_path();
        let file = snapshots.disk().open(&path, OpenMode::CreateNew).await;
        let file = file.unwrap();
        file.write_at(0, Bytes::from_static(b"state"))
            .await
            .unwrap();
        file.sync().await.unwrap();
        let meta = SnapshotMeta {
            last_log_id: Some(log_id(1, NodeId::from_bytes([1; 20]), index)),
            ..SnapshotMeta::default()
        };
        snapshots.complete(meta, path).await.unwrap()
    }

    /// Whatever `current` may name after a failure is kept, and what it no longer names is removed.
    #[tokio::test]
    async fn a_file_that_current_may_name_is_kept() {
        let disk = MemDisk::new();
        let dir = Path::new("/group");
        let snapshots = Snapshots::open(Arc::new(disk.clone()), dir).await.unwrap();
        let first = snapshots.adopt(written(&snapshots, 5).await).await.unwrap();
        let second = written(&snapshots, 9).await;
        let doubtful = second.file.as_ref().unwrap().path.clone();
        disk.fail_syncs(true);
        assert!(snapshots.adopt(second).await.is_err());
        disk.fail_syncs(false);
        assert_eq!(snapshots.current().map(|it| it.index()), Some(5));
        let old = first.file.as_ref().unwrap().path.clone();
        drop(first);
        let third = written(&snapshots, 12).await;
        assert_eq!(snapshots.adopt(third).await.unwrap().index(), 12);
        assert!(disk.content(&doubtful).is_some(), "only a start may tell");
        assert!(disk.content(&old).is_none());
        drop(snapshots);
        let snapshots = Snapshots::open(Arc::new(disk.clone()), dir).await.unwrap();
        assert_eq!(snapshots.current().map(|it| it.index()), Some(12));
        assert!(disk.content(&doubtful).is_none(), "it was not the one");
    }
}
