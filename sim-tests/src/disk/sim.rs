//! [`DiskCore`] behind the trait that the program knows, with time passing.

use super::core::{CrashReport, DiskCore, Inode};
use crate::rng::Rng;
use bytes::Bytes;
use holdfast_raft_log::disk::{DirEntry, Disk, DiskFile, DiskFuture, DiskLock, OpenMode};
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

/// One node's disk; clones are the same disk. It outlives the node's processes.
#[derive(Clone)]
pub struct SimDisk {
    shared: Arc<Shared>,
}

struct Shared {
    core: Mutex<DiskCore>,
    /// Told when an armed crash is due.
    dead: tokio::sync::Notify,
}

impl SimDisk {
    /// An empty disk whose bad luck is drawn from `rng`.
    pub fn new(rng: Rng) -> SimDisk {
        let shared = Shared {
            core: Mutex::new(DiskCore::new(rng)),
            dead: tokio::sync::Notify::new(),
        };
        SimDisk {
            shared: Arc::new(shared),
        }
    }

    /// The disk itself, to set faults, crash or inspect it. Do not hold it over an await.
    pub fn core(&self) -> MutexGuard<'_, DiskCore> {
        self.shared.core.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// The power fails. The caller has ended the node's tasks.
    pub fn crash(&self) -> CrashReport {
        self.core().crash()
    }

    /// Waits until an armed crash ([`DiskCore::crash_after`]) is due; from then on the disk answers nothing.
    pub async fn died(&self) {
        loop {
            self.shared.dead.notified().await;
            if self.core().is_dead() {
                return;
            }
        }
    }

    /// One operation: some time passes (`sync` ones take longer), then it happens. One that is a change
    /// counts towards an armed crash, and a dead machine's operations never end.
    fn op<'a, T: Send + 'a>(
        &self,
        kind: Kind,
        f: impl FnOnce(&mut DiskCore) -> io::Result<T> + Send + 'a,
    ) -> DiskFuture<'a, T> {
        let disk = self.clone();
        Box::pin(async move {
            disk.wait(kind).await;
            let mut core = disk.core();
            f(&mut core)
        })
    }

    /// How long the operation takes; `None` when the machine is dead.
    fn begin(&self, kind: Kind) -> Option<u64> {
        let mut core = self.core();
        if kind != Kind::Read && core.burn() {
            return None;
        }
        Some(core.latency_us(kind == Kind::Sync))
    }

    async fn wait(&self, kind: Kind) {
        match self.begin(kind) {
            Some(0) => {}
            Some(us) => pass(us).await,
            None => {
                self.shared.dead.notify_one();
                std::future::pending().await
            }
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Read,
    Change,
    Sync,
}

/// Lets simulated time pass; on the host, where only this crate's own tests come, none does.
fn pass(us: u64) -> impl Future<Output = ()> + Send {
    #[cfg(madsim)]
    return madsim::time::sleep(std::time::Duration::from_micros(us));
    #[cfg(not(madsim))]
    {
        let _ = us;
        std::future::ready(())
    }
}

fn dead() -> io::Error {
    io::Error::other("this handle is of a process that has ended")
}

struct SimFile {
    disk: SimDisk,
    inode: Inode,
    generation: u64,
    writable: bool,
    path: PathBuf,
}

impl SimFile {
    fn op<'a, T: Send + 'a>(
        &'a self,
        kind: Kind,
        f: impl FnOnce(&mut DiskCore) -> io::Result<T> + Send + 'a,
    ) -> DiskFuture<'a, T> {
        let done = self.disk.op(kind, move |core| {
            if core.generation() != self.generation {
                return Err(dead());
            }
            if kind == Kind::Change && !self.writable {
                return Err(io::Error::from(io::ErrorKind::PermissionDenied));
            }
            f(core)
        });
        let path = &self.path;
        Box::pin(async move {
            done.await
                .map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", path.display())))
        })
    }
}

impl DiskFile for SimFile {
    fn read_at(&self, offset: u64, len: usize) -> DiskFuture<'_, Vec<u8>> {
        self.op(Kind::Read, move |core| {
            core.read_at(self.inode, offset, len)
        })
    }

    fn write_at(&self, offset: u64, data: Bytes) -> DiskFuture<'_, ()> {
        self.op(Kind::Change, move |core| {
            core.write_at(self.inode, offset, &data)
        })
    }

    fn len(&self) -> DiskFuture<'_, u64> {
        self.op(Kind::Read, move |core| core.len(self.inode))
    }

    fn set_len(&self, len: u64) -> DiskFuture<'_, ()> {
        self.op(Kind::Change, move |core| core.truncate(self.inode, len))
    }

    fn sync(&self) -> DiskFuture<'_, ()> {
        // What it covers is decided when it begins, and that it is durable when it ends.
        let mark = self.disk.core().mark(self.inode);
        self.op(Kind::Sync, move |core| core.sync_to(self.inode, mark?))
    }
}

struct SimLock {
    disk: SimDisk,
    path: PathBuf,
    generation: u64,
}

impl DiskLock for SimLock {}

impl Drop for SimLock {
    fn drop(&mut self) {
        self.disk.core().unlock(&self.path, self.generation);
    }
}

impl Disk for SimDisk {
    fn open<'a>(&'a self, path: &'a Path, mode: OpenMode) -> DiskFuture<'a, Box<dyn DiskFile>> {
        let disk = self.clone();
        let kind = match mode {
            OpenMode::Read | OpenMode::ReadWrite => Kind::Read,
            OpenMode::Create | OpenMode::Truncate | OpenMode::CreateNew => Kind::Change,
        };
        self.op(kind, move |core| {
            let inode = match mode {
                OpenMode::Read | OpenMode::ReadWrite => core.open(path)?,
                OpenMode::Create if core.stat(path).is_some() => core.open(path)?,
                OpenMode::Create | OpenMode::Truncate => core.create(path, false)?,
                OpenMode::CreateNew => core.create(path, true)?,
            };
            let generation = core.generation();
            let writable = mode != OpenMode::Read;
            Ok(Box::new(SimFile {
                disk,
                inode,
                generation,
                writable,
                path: path.to_path_buf(),
            }) as Box<dyn DiskFile>)
        })
    }

    fn rename<'a>(&'a self, from: &'a Path, to: &'a Path) -> DiskFuture<'a, ()> {
        self.op(Kind::Change, move |core| core.rename(from, to))
    }

    fn remove<'a>(&'a self, path: &'a Path) -> DiskFuture<'a, ()> {
        self.op(Kind::Change, move |core| core.remove(path))
    }

    fn remove_dir_all<'a>(&'a self, path: &'a Path) -> DiskFuture<'a, ()> {
        self.op(Kind::Change, move |core| core.remove_dir_all(path))
    }

    fn create_dir_all<'a>(&'a self, path: &'a Path) -> DiskFuture<'a, ()> {
        self.op(Kind::Change, move |core| core.create_dir_all(path))
    }

    fn list<'a>(&'a self, path: &'a Path) -> DiskFuture<'a, Vec<DirEntry>> {
        self.op(Kind::Read, move |core| {
            let names = core.list(path)?;
            let entry = |name: String| {
                let (is_dir, len) = core.stat(&path.join(&name)).unwrap_or((false, 0));
                DirEntry { name, is_dir, len }
            };
            Ok(names.into_iter().map(entry).collect())
        })
    }

    fn stat<'a>(&'a self, path: &'a Path) -> DiskFuture<'a, Option<DirEntry>> {
        self.op(Kind::Read, move |core| {
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            Ok(core
                .stat(path)
                .map(|(is_dir, len)| DirEntry { name, is_dir, len }))
        })
    }

    fn sync_dir<'a>(&'a self, path: &'a Path) -> DiskFuture<'a, ()> {
        self.op(Kind::Sync, move |core| core.sync_dir(path))
    }

    fn lock<'a>(&'a self, path: &'a Path) -> DiskFuture<'a, Box<dyn DiskLock>> {
        let disk = self.clone();
        self.op(Kind::Read, move |core| {
            core.lock(path)?;
            let generation = core.generation();
            Ok(Box::new(SimLock {
                disk,
                path: path.to_path_buf(),
                generation,
            }) as Box<dyn DiskLock>)
        })
    }
}
