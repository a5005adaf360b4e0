//! A disk in memory that forgets what was not synced.
//!
//! # What is modelled
//!
//! A file is an inode with two contents: `current`, which every read shows (the page cache), and
//! `durable`, which is what a crash leaves. Between them stand the writes since the last successful sync.
//!
//! ```text
//!   write ──► current            sync ──► pending writes are applied to durable
//!        └──► pending            crash ─► per 512-byte sector: applied, or not (so writes are torn, lost,
//!                                         or leave holes of zeros), then current = durable
//! ```
//!
//! Names are separate from contents, as on a real file system: creating, renaming and removing change
//! the directory as reads show it, and are durable only after [`DiskCore::sync_dir`] of that directory; a
//! crash keeps a prefix of what was not synced (journals keep metadata in order). So a file that was
//! synced and whose directory was not may be gone, and a rename may be there whose content is not.
//!
//! A failed sync behaves as Linux does: some of the pages reached the medium, the others are marked clean
//! without having been written, reads still show them, and the *next* sync succeeds. Who trusts that
//! second sync loses data at the next crash.

use crate::rng::Rng;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

/// The unit that a medium writes whole or not at all, in bytes.
pub const SECTOR: u64 = 512;

/// What goes wrong with a disk. All off by default.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Faults {
    /// Probability that one sync fails, see the module's page.
    pub fsync_error: f64,
    /// Bytes that fit; a write past it stores what fits and then fails with `StorageFull`.
    pub capacity_bytes: Option<u64>,
    /// Every change fails with `ReadOnlyFilesystem`.
    pub read_only: bool,
    /// Microseconds that a sync takes, from and to (drawn evenly).
    pub sync_us: (u64, u64),
    /// Probability that an operation takes `stall_us` more.
    pub stall: f64,
    /// Microseconds of one stall.
    pub stall_us: u64,
}

/// What a crash did to the disk, for the history.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CrashReport {
    /// Unsynced writes that reached the medium whole.
    pub kept: u64,
    /// Unsynced writes of which nothing is left.
    pub lost: u64,
    /// Unsynced writes of which some sectors are left.
    pub torn: u64,
    /// Directory changes undone.
    pub names_undone: u64,
}

/// Counters of one disk, since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskStats {
    /// Bytes written.
    pub written_bytes: u64,
    /// Syncs of files that succeeded.
    pub syncs: u64,
    /// Syncs that were made to fail.
    pub failed_syncs: u64,
}

/// Identifies an open file's content, whatever its name is by now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Inode(u64);

enum Change {
    Write { offset: u64, data: Vec<u8> },
    Truncate(u64),
}

#[derive(Default)]
struct Content {
    current: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Change>,
    /// Changes that were pending once and no longer are: the number of the first of `pending`.
    settled: u64,
}

enum NameChange {
    Link(PathBuf, Inode),
    Unlink(PathBuf),
    Rename(PathBuf, PathBuf),
}

/// See the module's page. All methods take effect at once; who wants time to pass sleeps outside.
pub struct DiskCore {
    rng: Rng,
    next_inode: u64,
    contents: BTreeMap<Inode, Content>,
    names: BTreeMap<PathBuf, Inode>,
    durable_names: BTreeMap<PathBuf, Inode>,
    dirs: BTreeMap<PathBuf, Vec<NameChange>>,
    locks: BTreeMap<PathBuf, u64>,
    /// Counts crashes: handles of an earlier life are refused.
    generation: u64,
    fuse: Option<u64>,
    dead: bool,
    faults: Faults,
    stats: DiskStats,
}

fn not_found(path: &Path) -> io::Error {
    io::Error::new(
        io::ErrorKind::NotFound,
        format!("{}: no such file", path.display()),
    )
}

fn apply(content: &mut Vec<u8>, offset: u64, data: &[u8]) {
    let (start, end) = (offset as usize, offset as usize + data.len());
    if content.len() < end {
        content.resize(end, 0);
    }
    content[start..end].copy_from_slice(data);
}

impl DiskCore {
    /// An empty disk whose bad luck is drawn from `rng`.
    pub fn new(rng: Rng) -> DiskCore {
        DiskCore {
            rng,
            next_inode: 1,
            contents: BTreeMap::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            dirs: BTreeMap::new(),
            locks: BTreeMap::new(),
            generation: 0,
            fuse: None,
            dead: false,
            faults: Faults::default(),
            stats: DiskStats::default(),
        }
    }

    /// The faults in force.
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// Sets the faults from now on.
    pub fn set_faults(&mut self, faults: Faults) {
        self.faults = faults;
    }

    /// Counters.
    pub fn stats(&self) -> DiskStats {
        self.stats
    }

    /// The number of crashes so far; a handle remembers it from when it was made.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Bytes of all files that have a name.
    pub fn used_bytes(&self) -> u64 {
        self.names
            .values()
            .filter_map(|i| self.contents.get(i))
            .map(|c| c.current.len() as u64)
            .sum()
    }

    fn writable(&self) -> io::Result<()> {
        if self.faults.read_only {
            return Err(io::Error::new(
                io::ErrorKind::ReadOnlyFilesystem,
                "read-only file system",
            ));
        }
        Ok(())
    }

    fn parent(path: &Path) -> PathBuf {
        path.parent().map(Path::to_path_buf).unwrap_or_default()
    }

    fn name_change(&mut self, dir: PathBuf, change: NameChange) {
        self.dirs.entry(dir).or_default().push(change);
    }

    fn content(&self, inode: Inode) -> io::Result<&Content> {
        self.contents
            .get(&inode)
            .ok_or_else(|| io::Error::other("stale handle"))
    }

    fn content_mut(&mut self, inode: Inode) -> io::Result<&mut Content> {
        self.contents
            .get_mut(&inode)
            .ok_or_else(|| io::Error::other("stale handle"))
    }

    /// Makes a directory and its parents. Directories are durable at once.
    pub fn create_dir_all(&mut self, path: &Path) -> io::Result<()> {
        if self.dirs.contains_key(path) {
            return Ok(());
        }
        self.writable()?;
        for p in path.ancestors() {
            self.dirs.entry(p.to_path_buf()).or_default();
        }
        Ok(())
    }

    /// Whether a file or directory has this name.
    pub fn exists(&self, path: &Path) -> bool {
        self.names.contains_key(path) || self.dirs.contains_key(path)
    }

    /// Opens a file that exists.
    pub fn open(&self, path: &Path) -> io::Result<Inode> {
        self.names.get(path).copied().ok_or_else(|| not_found(path))
    }

    /// Makes a file; with `fresh` it must not exist yet, otherwise an existing one is emptied.
    pub fn create(&mut self, path: &Path, fresh: bool) -> io::Result<Inode> {
        self.writable()?;
        if let Some(&inode) = self.names.get(path) {
            if fresh {
                return Err(io::Error::new(
                    io::ErrorKind::AlreadyExists,
                    format!("{}: exists", path.display()),
                ));
            }
            self.truncate(inode, 0)?;
            return Ok(inode);
        }
        let dir = Self::parent(path);
        if !self.dirs.contains_key(&dir) {
            return Err(not_found(&dir));
        }
        let inode = Inode(self.next_inode);
        self.next_inode += 1;
        self.contents.insert(inode, Content::default());
        self.names.insert(path.to_path_buf(), inode);
        self.name_change(dir, NameChange::Link(path.to_path_buf(), inode));
        Ok(inode)
    }

    /// Length in bytes.
    pub fn len(&self, inode: Inode) -> io::Result<u64> {
        Ok(self.content(inode)?.current.len() as u64)
    }

    /// Up to `len` bytes from `offset`; fewer at the end of the file.
    pub fn read_at(&self, inode: Inode, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let current = &self.content(inode)?.current;
        let start = (offset as usize).min(current.len());
        let end = start.saturating_add(len).min(current.len());
        Ok(current[start..end].to_vec())
    }

    /// Writes at `offset`, growing the file with zeros when that lies past its end.
    pub fn write_at(&mut self, inode: Inode, offset: u64, data: &[u8]) -> io::Result<()> {
        self.writable()?;
        let mut fits = data.len();
        if let Some(capacity) = self.faults.capacity_bytes {
            let len = self.len(inode)?;
            let growth = (offset + data.len() as u64).saturating_sub(len);
            let room = capacity.saturating_sub(self.used_bytes());
            if growth > room {
                fits = data.len().saturating_sub((growth - room) as usize);
            }
        }
        self.stats.written_bytes += fits as u64;
        let content = self.content_mut(inode)?;
        if fits > 0 {
            apply(&mut content.current, offset, &data[..fits]);
            content.pending.push(Change::Write {
                offset,
                data: data[..fits].to_vec(),
            });
        }
        if fits < data.len() {
            return Err(io::Error::new(
                io::ErrorKind::StorageFull,
                "no space left on device",
            ));
        }
        Ok(())
    }

    /// Writes at the end and returns the offset it went to.
    pub fn append(&mut self, inode: Inode, data: &[u8]) -> io::Result<u64> {
        let at = self.len(inode)?;
        self.write_at(inode, at, data)?;
        Ok(at)
    }

    /// Sets the length; grows with zeros.
    pub fn truncate(&mut self, inode: Inode, len: u64) -> io::Result<()> {
        self.writable()?;
        let content = self.content_mut(inode)?;
        content.current.resize(len as usize, 0);
        content.pending.push(Change::Truncate(len));
        Ok(())
    }

    /// Makes the content durable, or fails, see the module's page.
    pub fn sync(&mut self, inode: Inode) -> io::Result<()> {
        let mark = self.mark(inode)?;
        self.sync_to(inode, mark)
    }

    /// The number of changes made to this content so far: what a sync that begins now has to cover.
    pub fn mark(&self, inode: Inode) -> io::Result<u64> {
        let content = self.content(inode)?;
        Ok(content.settled + content.pending.len() as u64)
    }

    /// Ends a sync that began at `mark`. What was written while it ran is not covered.
    pub fn sync_to(&mut self, inode: Inode, mark: u64) -> io::Result<()> {
        self.writable()?;
        let failed = self.faults.fsync_error > 0.0 && self.rng.chance(self.faults.fsync_error);
        if failed {
            self.stats.failed_syncs += 1;
            self.drop_pending(inode, &mut CrashReport::default());
            return Err(io::Error::other("I/O error on fsync"));
        }
        self.stats.syncs += 1;
        let content = self.content_mut(inode)?;
        let n = (mark.saturating_sub(content.settled) as usize).min(content.pending.len());
        content.settled += n as u64;
        for change in content.pending.drain(..n) {
            match change {
                Change::Write { offset, data } => apply(&mut content.durable, offset, &data),
                Change::Truncate(len) => content.durable.resize(len as usize, 0),
            }
        }
        Ok(())
    }

    /// Makes the names in a directory durable.
    pub fn sync_dir(&mut self, dir: &Path) -> io::Result<()> {
        self.writable()?;
        let Some(changes) = self.dirs.get_mut(dir) else {
            return Err(not_found(dir));
        };
        for change in std::mem::take(changes) {
            apply_name(&mut self.durable_names, change);
        }
        Ok(())
    }

    /// Renames within one directory or between two, replacing what is there.
    pub fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        self.writable()?;
        let inode = self.names.remove(from).ok_or_else(|| not_found(from))?;
        self.names.insert(to.to_path_buf(), inode);
        self.name_change(
            Self::parent(to),
            NameChange::Rename(from.to_path_buf(), to.to_path_buf()),
        );
        Ok(())
    }

    /// Removes a name.
    pub fn remove(&mut self, path: &Path) -> io::Result<()> {
        self.writable()?;
        self.names.remove(path).ok_or_else(|| not_found(path))?;
        self.name_change(Self::parent(path), NameChange::Unlink(path.to_path_buf()));
        Ok(())
    }

    /// Removes a directory with all that is in it, durably.
    pub fn remove_dir_all(&mut self, dir: &Path) -> io::Result<()> {
        self.writable()?;
        self.names.retain(|p, _| !p.starts_with(dir));
        self.durable_names.retain(|p, _| !p.starts_with(dir));
        self.dirs.retain(|p, _| !p.starts_with(dir));
        Ok(())
    }

    /// Whether the name is a directory's, and the file's length; `None` when there is no such name.
    pub fn stat(&self, path: &Path) -> Option<(bool, u64)> {
        if self.dirs.contains_key(path) {
            return Some((true, 0));
        }
        let inode = self.names.get(path)?;
        Some((
            false,
            self.contents
                .get(inode)
                .map_or(0, |c| c.current.len() as u64),
        ))
    }

    /// Arms a crash: the `n`-th change from now on (writes, syncs, names; 0 is the next one) does not happen,
    /// and nothing after it does.
    pub fn crash_after(&mut self, n: u64) {
        self.fuse = Some(n);
    }

    /// Takes an armed crash back.
    pub fn disarm(&mut self) {
        self.fuse = None;
        self.dead = false;
    }

    /// Whether an armed crash has come due.
    pub fn is_dead(&self) -> bool {
        self.dead
    }

    /// Counts one change towards an armed crash; true once the machine is dead.
    pub fn burn(&mut self) -> bool {
        match &mut self.fuse {
            Some(0) => {
                self.dead = true;
                true
            }
            Some(n) => {
                *n -= 1;
                false
            }
            None => false,
        }
    }

    /// Names of the files and directories directly under `dir`, sorted.
    pub fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        if !self.dirs.contains_key(dir) {
            return Err(not_found(dir));
        }
        let mut out: Vec<String> = self
            .names
            .keys()
            .chain(self.dirs.keys())
            .filter(|p| p.parent() == Some(dir))
            .filter_map(|p| p.file_name())
            .map(|n| n.to_string_lossy().into_owned())
            .collect();
        out.sort();
        Ok(out)
    }

    /// Takes the lock of that name for the current life, or fails when it is taken.
    pub fn lock(&mut self, path: &Path) -> io::Result<()> {
        if self.locks.get(path) == Some(&self.generation) {
            return Err(io::Error::new(
                io::ErrorKind::WouldBlock,
                format!("{}: locked", path.display()),
            ));
        }
        self.locks.insert(path.to_path_buf(), self.generation);
        Ok(())
    }

    /// Releases a lock that was taken in life `generation`.
    pub fn unlock(&mut self, path: &Path, generation: u64) {
        if self.locks.get(path) == Some(&generation) {
            self.locks.remove(path);
        }
    }

    /// Microseconds that the next operation takes.
    pub fn latency_us(&mut self, sync: bool) -> u64 {
        let (lo, hi) = self.faults.sync_us;
        let mut us = if sync && hi > 0 {
            self.rng.range(lo, hi)
        } else {
            0
        };
        if self.faults.stall > 0.0 && self.rng.chance(self.faults.stall) {
            us += self.faults.stall_us;
        }
        us
    }

    /// The power fails: what was not synced is kept, lost or torn at random, and locks fall.
    pub fn crash(&mut self) -> CrashReport {
        let mut report = CrashReport::default();
        let inodes: Vec<Inode> = self.contents.keys().copied().collect();
        for inode in inodes {
            self.drop_pending(inode, &mut report);
            if let Some(c) = self.contents.get_mut(&inode) {
                c.current.clone_from(&c.durable);
            }
        }
        let dirs: Vec<PathBuf> = self.dirs.keys().cloned().collect();
        for dir in dirs {
            let changes = self
                .dirs
                .get_mut(&dir)
                .map(std::mem::take)
                .unwrap_or_default();
            let keep = self.rng.index(changes.len() + 1);
            report.names_undone += (changes.len() - keep) as u64;
            for change in changes.into_iter().take(keep) {
                apply_name(&mut self.durable_names, change);
            }
        }
        self.names = self.durable_names.clone();
        self.collect();
        self.generation += 1;
        self.disarm();
        report
    }

    /// The process ends but the machine does not: the page cache survives, locks fall.
    pub fn kill(&mut self) {
        self.generation += 1;
        self.disarm();
    }

    /// The disk is replaced by an empty one.
    pub fn wipe(&mut self) {
        self.contents.clear();
        self.names.clear();
        self.durable_names.clear();
        self.dirs.clear();
        self.generation += 1;
    }

    /// Flips the bits of `mask` in one byte, on the medium and in the cache. False when there is no such byte.
    pub fn corrupt(&mut self, path: &Path, offset: u64, mask: u8) -> bool {
        let Some(c) = self.names.get(path).and_then(|i| self.contents.get_mut(i)) else {
            return false;
        };
        let mut hit = false;
        for content in [&mut c.current, &mut c.durable] {
            if let Some(byte) = content.get_mut(offset as usize) {
                *byte ^= mask;
                hit = true;
            }
        }
        hit
    }

    /// All files with their lengths, sorted by name.
    pub fn files(&self) -> Vec<(PathBuf, u64)> {
        let len = |i: &Inode| self.contents.get(i).map_or(0, |c| c.current.len() as u64);
        self.names
            .iter()
            .map(|(p, i)| (p.clone(), len(i)))
            .collect()
    }

    /// Applies a random subset of the sectors of the pending writes to the medium and forgets the rest.
    fn drop_pending(&mut self, inode: Inode, report: &mut CrashReport) {
        let Some(content) = self.contents.get_mut(&inode) else {
            return;
        };
        let rng = &mut self.rng;
        // Each file of each crash has its own mood: nothing written back, everything, or a mixture.
        let keep = match rng.below(4) {
            0 => 0.0,
            1 => 1.0,
            _ => (rng.below(999) + 1) as f64 / 1000.0,
        };
        let durable = &mut content.durable;
        content.settled += content.pending.len() as u64;
        for change in content.pending.drain(..) {
            match change {
                // A journal keeps the order of a file's sizes; losing a truncation alone would only bring
                // back bytes that a checksum has to cope with anyway, so draw for it as well.
                Change::Truncate(len) => {
                    if rng.chance(keep) {
                        durable.resize(len as usize, 0);
                    }
                }
                Change::Write { offset, data } => {
                    let (mut kept, mut total) = (0, 0);
                    let mut at = 0u64;
                    while at < data.len() as u64 {
                        let sector_end = (offset + at) / SECTOR * SECTOR + SECTOR;
                        let end = (sector_end - offset).min(data.len() as u64);
                        total += 1;
                        if rng.chance(keep) {
                            kept += 1;
                            apply(durable, offset + at, &data[at as usize..end as usize]);
                        }
                        at = end;
                    }
                    match kept {
                        0 => report.lost += 1,
                        k if k == total => report.kept += 1,
                        _ => report.torn += 1,
                    }
                }
            }
        }
    }

    /// Frees contents that no name leads to. Only after a crash: an open handle keeps a removed file alive.
    fn collect(&mut self) {
        let live: std::collections::BTreeSet<Inode> = self.names.values().copied().collect();
        self.contents.retain(|i, _| live.contains(i));
    }
}

fn apply_name(names: &mut BTreeMap<PathBuf, Inode>, change: NameChange) {
    match change {
        NameChange::Link(path, inode) => {
            names.insert(path, inode);
        }
        NameChange::Unlink(path) => {
            names.remove(&path);
        }
        NameChange::Rename(from, to) => {
            if let Some(inode) = names.remove(&from) {
                names.insert(to, inode);
            }
        }
    }
}
