//! A disk in memory, for tests: it knows what a power cut would leave of it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;

use super::{DirEntry, Disk, DiskFile, DiskFuture, DiskLock, OpenMode};

/// What a power cut leaves of everything that was not yet synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// Nothing.
    LoseUnsynced,
    /// All of it.
    KeepAll,
    /// Chosen by the seed: any subset of the writes of each file, each whole or torn, and any subset
    /// of the names.
    Torn(u64),
}

/// A file system in memory, shared by its clones.
#[derive(Clone, Default)]
pub struct MemDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    dirs: BTreeSet<PathBuf>,
    names: BTreeMap<PathBuf, u64>,
    durable_names: BTreeMap<PathBuf, u64>,
    inodes: BTreeMap<u64, Inode>,
    next_inode: u64,
    locks: BTreeSet<PathBuf>,
    /// Counts down with every change; at 0 the power is off.
    changes_left: Option<u64>,
    changes: u64,
    syncs: u64,
    fail_syncs: bool,
    capacity: Option<u64>,
    /// Rises at each crash, so that handles from before it are dead.
    generation: u64,
}

#[derive(Default)]
struct Inode {
    current: Vec<u8>,
    synced: Vec<u8>,
    pending: Vec<Pending>,
}

enum Pending {
    Write(u64, Bytes),
    SetLen(u64),
}

impl Pending {
    fn apply(&self, content: &mut Vec<u8>, keep: usize) {
        match self {
            Pending::Write(offset, data) => {
                let start = *offset as usize;
                let data = &data[..keep.min(data.len())];
                if content.len() < start + data.len() {
                    content.resize(start + data.len(), 0);
                }
                content[start..start + data.len()].copy_from_slice(data);
            }
            Pending::SetLen(len) => content.resize(*len as usize, 0),
        }
    }
}

/// SplitMix64: enough to choose what survives.
fn next(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *seed;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

fn not_found(path: &Path) -> io::Error {
    io::Error::new(
        io::ErrorKind::NotFound,
        format!("{}: not found", path.display()),
    )
}

fn power_off() -> io::Error {
    io::Error::other("the power is off")
}

impl State {
    /// Every change of the disk passes here first.
    fn change(&mut self, generation: u64) -> io::Result<()> {
        if generation != self.generation {
            return Err(power_off());
        }
        match &mut self.changes_left {
            Some(0) => return Err(power_off()),
            Some(left) => *left -= 1,
            None => {}
        }
        self.changes += 1;
        Ok(())
    }

    fn used(&self) -> u64 {
        self.names
            .values()
            .filter_map(|id| self.inodes.get(id))
            .map(|inode| inode.current.len() as u64)
            .sum()
    }
}

impl MemDisk {
    /// An empty disk.
    pub fn new() -> Self {
        Self::default()
    }

    fn lock_state(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Cuts the power: open files and locks are dead, and what was not synced survives as `crash`
    /// says. The disk is then in use again.
    pub fn crash(&self, crash: Crash) {
        let mut state = self.lock_state();
        let state = &mut *state;
        state.generation += 1;
        state.changes_left = None;
        state.fail_syncs = false;
        state.locks.clear();
        let mut seed = match crash {
            Crash::Torn(seed) => seed,
            _ => 0,
        };
        for inode in state.inodes.values_mut() {
            let mut content = std::mem::take(&mut inode.synced);
            for op in inode.pending.drain(..) {
                match crash {
                    Crash::LoseUnsynced => {}
                    Crash::KeepAll => op.apply(&mut content, usize::MAX),
                    Crash::Torn(_) => match next(&mut seed) % 3 {
                        0 => {}
                        1 => op.apply(&mut content, usize::MAX),
                        _ => {
                            let len = match &op {
                                Pending::Write(_, data) => data.len() as u64,
                                Pending::SetLen(_) => 0,
                            };
                            op.apply(&mut content, (next(&mut seed) % (len + 1)) as usize);
                        }
                    },
                }
            }
            inode.current = content.clone();
            inode.synced = content;
        }
        let mut names = state.durable_names.clone();
        let touched: BTreeSet<PathBuf> = state
            .names
            .keys()
            .chain(state.durable_names.keys())
            .cloned()
            .collect();
        for path in touched {
            let keep = match crash {
                Crash::LoseUnsynced => false,
                Crash::KeepAll => true,
                Crash::Torn(_) => next(&mut seed).is_multiple_of(2),
            };
            if keep {
                match state.names.get(&path) {
                    Some(id) => names.insert(path, *id),
                    None => names.remove(&path),
                };
            }
        }
        state.durable_names = names.clone();
        state.names = names;
    }

    /// After `n` more changes (writes, syncs, names) every further one fails, as if the power were off.
    pub fn power_off_after(&self, n: u64) {
        self.lock_state().changes_left = Some(n);
    }

    /// How many changes were made so far.
    pub fn changes(&self) -> u64 {
        self.lock_state().changes
    }

    /// How many syncs of files succeeded so far.
    pub fn syncs(&self) -> u64 {
        self.lock_state().syncs
    }

    /// From now on syncs of files fail, or succeed again.
    pub fn fail_syncs(&self, fail: bool) {
        self.lock_state().fail_syncs = fail;
    }

    /// How many bytes all files together may have; writes beyond it fail with `StorageFull`.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.lock_state().capacity = bytes;
    }

    /// A file's content, without opening it.
    pub fn content(&self, path: &Path) -> Option<Vec<u8>> {
        let state = self.lock_state();
        let id = state.names.get(path)?;
        state.inodes.get(id).map(|inode| inode.current.clone())
    }

    /// Overwrites a file behind the program's back, durably.
    pub fn set_content(&self, path: &Path, content: Vec<u8>) {
        let mut state = self.lock_state();
        let id = match state.names.get(path) {
            Some(id) => *id,
            None => {
                let id = state.next_inode;
                state.next_inode += 1;
                state.names.insert(path.to_path_buf(), id);
                state.durable_names.insert(path.to_path_buf(), id);
                id
            }
        };
        let inode = Inode {
            current: content.clone(),
            synced: content,
            pending: Vec::new(),
        };
        state.inodes.insert(id, inode);
    }

    /// The paths of all files.
    pub fn files(&self) -> Vec<PathBuf> {
        self.lock_state().names.keys().cloned().collect()
    }

    fn done<'a, T: Send + 'a>(result: io::Result<T>) -> DiskFuture<'a, T> {
        Box::pin(std::future::ready(result))
    }
}

struct MemFile {
    disk: MemDisk,
    inode: u64,
    generation: u64,
}

impl MemFile {
    fn with<T>(&self, change: bool, f: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
        let mut state = self.disk.lock_state();
        if change {
            state.change(self.generation)?;
        } else if state.generation != self.generation {
            return Err(power_off());
        }
        f(&mut state)
    }
}

impl DiskFile for MemFile {
    fn read_at(&self, offset: u64, len: usize) -> DiskFuture<'_, Vec<u8>> {
        MemDisk::done(self.with(false, |state| {
            let content = &state.inodes.entry(self.inode).or_default().current;
            let start = (offset as usize).min(content.len());
            let end = start.saturating_add(len).min(content.len());
            Ok(content[start..end].to_vec())
        }))
    }

    fn write_at(&self, offset: u64, data: Bytes) -> DiskFuture<'_, ()> {
        MemDisk::done(self.with(true, |state| {
            if let Some(capacity) = state.capacity {
                let old = state.inodes.entry(self.inode).or_default().current.len() as u64;
                let grows = (offset + data.len() as u64).saturating_sub(old);
                if state.used() + grows > capacity {
                    return Err(io::Error::from(io::ErrorKind::StorageFull));
                }
            }
            let inode = state.inodes.entry(self.inode).or_default();
            let op = Pending::Write(offset, data);
            op.apply(&mut inode.current, usize::MAX);
            inode.pending.push(op);
            Ok(())
        }))
    }

    fn len(&self) -> DiskFuture<'_, u64> {
        MemDisk::done(self.with(false, |state| {
            Ok(state.inodes.entry(self.inode).or_default().current.len() as u64)
        }))
    }

    fn set_len(&self, len: u64) -> DiskFuture<'_, ()> {
        MemDisk::done(self.with(true, |state| {
            let inode = state.inodes.entry(self.inode).or_default();
            let op = Pending::SetLen(len);
            op.apply(&mut inode.current, usize::MAX);
            inode.pending.push(op);
            Ok(())
        }))
    }

    fn sync(&self) -> DiskFuture<'_, ()> {
        MemDisk::done(self.with(true, |state| {
            if state.fail_syncs {
                return Err(io::Error::other("sync failed (injected)"));
            }
            state.syncs += 1;
            let inode = state.inodes.entry(self.inode).or_default();
            inode.synced = inode.current.clone();
            inode.pending.clear();
            Ok(())
        }))
    }
}

struct MemLock {
    disk: MemDisk,
    path: PathBuf,
    generation: u64,
}

impl DiskLock for MemLock {}

impl Drop for MemLock {
    fn drop(&mut self) {
        let mut state = self.disk.lock_state();
        if state.generation == self.generation {
            state.locks.remove(&self.path);
        }
    }
}

impl Disk for MemDisk {
    fn open<'a>(&'a self, path: &'a Path, mode: OpenMode) -> DiskFuture<'a, Box<dyn DiskFile>> {
        let mut state = self.lock_state();
        let generation = state.generation;
        let known = state.names.get(path).copied();
        let result = match (mode, known) {
            (OpenMode::Read | OpenMode::ReadWrite | OpenMode::Create, Some(id)) => Ok(id),
            (OpenMode::CreateNew, Some(_)) => Err(io::Error::from(io::ErrorKind::AlreadyExists)),
            (OpenMode::Read | OpenMode::ReadWrite, None) => Err(not_found(path)),
            (OpenMode::Truncate, Some(id)) => state.change(generation).map(|()| {
                let inode = state.inodes.entry(id).or_default();
                inode.current.clear();
                inode.pending.push(Pending::SetLen(0));
                id
            }),
            (OpenMode::Create | OpenMode::Truncate | OpenMode::CreateNew, None) => {
                match path.parent() {
                    Some(dir) if !dir.as_os_str().is_empty() && !state.dirs.contains(dir) => {
                        Err(not_found(dir))
                    }
                    _ => state.change(generation).map(|()| {
                        let id = state.next_inode;
                        state.next_inode += 1;
                        state.names.insert(path.to_path_buf(), id);
                        id
                    }),
                }
            }
        };
        drop(state);
        Self::done(result.map(|inode| {
            Box::new(MemFile {
                disk: self.clone(),
                inode,
                generation,
            }) as Box<dyn DiskFile>
        }))
    }

    fn rename<'a>(&'a self, from: &'a Path, to: &'a Path) -> DiskFuture<'a, ()> {
        let mut state = self.lock_state();
        let generation = state.generation;
        let result = state.change(generation).and_then(|()| {
            let id = state.names.remove(from).ok_or_else(|| not_found(from))?;
            state.names.insert(to.to_path_buf(), id);
            Ok(())
        });
        drop(state);
        Self::done(result)
    }

    fn remove<'a>(&'a self, path: &'a Path) -> DiskFuture<'a, ()> {
        let mut state = self.lock_state();
        let generation = state.generation;
        let result = state
            .change(generation)
            .and_then(|()| match state.names.remove(path) {
                Some(_) => Ok(()),
                None => Err(not_found(path)),
            });
        drop(state);
        Self::done(result)
    }

    fn remove_dir_all<'a>(&'a self, path: &'a Path) -> DiskFuture<'a, ()> {
        let mut state = self.lock_state();
        let generation = state.generation;
        let result = state.change(generation).map(|()| {
            state.names.retain(|name, _| !name.starts_with(path));
            state
                .durable_names
                .retain(|name, _| !name.starts_with(path));
            state.dirs.retain(|dir| !dir.starts_with(path));
        });
        drop(state);
        Self::done(result)
    }

    fn create_dir_all<'a>(&'a self, path: &'a Path) -> DiskFuture<'a, ()> {
        let mut state = self.lock_state();
        let generation = state.generation;
        let result = state.change(generation).map(|()| {
            for dir in path.ancestors() {
                state.dirs.insert(dir.to_path_buf());
            }
        });
        drop(state);
        Self::done(result)
    }

    fn list<'a>(&'a self, path: &'a Path) -> DiskFuture<'a, Vec<DirEntry>> {
        let state = self.lock_state();
        if !state.dirs.contains(path) {
            drop(state);
            return Self::done(Err(not_found(path)));
        }
        let mut entries = Vec::new();
        for (name, id) in &state.names {
            if name.parent() == Some(path) {
                entries.push(DirEntry {
                    name: name
                        .file_name()
                        .unwrap_or_default()
                        .to_string_lossy()
                        .into_owned(),
                    is_dir: false,
                    len: state
                        .inodes
                        .get(id)
                        .map_or(0, |inode| inode.current.len() as u64),
                });
            }
        }
        for dir in &state.dirs {
            if dir.parent() == Some(path) {
                let name = dir
                    .file_name()
                    .unwrap_or_default()
                    .to_string_lossy()
                    .into_owned();
                entries.push(DirEntry {
                    name,
                    is_dir: true,
                    len: 0,
                });
            }
        }
        entries.sort();
        drop(state);
        Self::done(Ok(entries))
    }

    fn stat<'a>(&'a self, path: &'a Path) -> DiskFuture<'a, Option<DirEntry>> {
        let state = self.lock_state();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let found = if let Some(id) = state.names.get(path) {
            let len = state
                .inodes
                .get(id)
                .map_or(0, |inode| inode.current.len() as u64);
            Some(DirEntry {
                name,
                is_dir: false,
                len,
            })
        } else if state.dirs.contains(path) {
            Some(DirEntry {
                name,
                is_dir: true,
                len: 0,
            })
        } else {
            None
        };
        drop(state);
        Self::done(Ok(found))
    }

    fn sync_dir<'a>(&'a self, path: &'a Path) -> DiskFuture<'a, ()> {
        let mut state = self.lock_state();
        let generation = state.generation;
        let result = state.change(generation).map(|()| {
            let now: BTreeMap<PathBuf, u64> = state
                .names
                .iter()
                .filter(|(name, _)| name.parent() == Some(path))
                .map(|(name, id)| (name.clone(), *id))
                .collect();
            state
                .durable_names
                .retain(|name, _| name.parent() != Some(path));
            state.durable_names.extend(now);
        });
        drop(state);
        Self::done(result)
    }

    fn lock<'a>(&'a self, path: &'a Path) -> DiskFuture<'a, Box<dyn DiskLock>> {
        let mut state = self.lock_state();
        let generation = state.generation;
        let fresh = state.locks.insert(path.to_path_buf());
        drop(state);
        Self::done(if fresh {
            Ok(Box::new(MemLock {
                disk: self.clone(),
                path: path.to_path_buf(),
                generation,
            }) as Box<dyn DiskLock>)
        } else {
            Err(io::Error::new(
                io::ErrorKind::WouldBlock,
                format!("{}: locked", path.display()),
            ))
        })
    }
}
