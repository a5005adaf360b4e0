//! Everything that Holdfast does with files goes through the two traits of this module.
//!
//! In production the implementation is [`StdDisk`]; the simulator brings one of its own that loses
//! unsynced writes, tears writes, fills up, fails fsyncs and is slow. Code that touches files takes
//! an `Arc<dyn Disk>` and never names `std::fs` or `tokio::fs`.
//!
//! # What a caller may assume of a disk, and what not
//!
//! - A byte that was written is on the medium only after [`DiskFile::sync`] of that file returned
//!   `Ok`. Until then a crash may keep all, some or none of it, in any order.
//! - A new, renamed or removed name is on the medium only after [`Disk::sync_dir`] of its directory
//!   returned `Ok`. A rename itself is atomic: after a crash the name means the old or the new file.
//! - When `sync` fails, the state of everything written since the last good `sync` is unknown, and
//!   calling `sync` again proves nothing. The caller must not trust that file's pages any more.
//!
//! Every method is asynchronous so that the simulator can let time pass in it.

use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;

use bytes::Bytes;

mod mem;
#[cfg(not(madsim))]
mod std_disk;

pub use mem::{Crash, MemDisk};
#[cfg(not(madsim))]
pub use std_disk::StdDisk;

/// What a method of [`Disk`] or [`DiskFile`] returns.
pub type DiskFuture<'a, T> = Pin<Box<dyn Future<Output = io::Result<T>> + Send + 'a>>;

/// How [`Disk::open`] opens a file. Every mode but [`OpenMode::Read`] permits reading and writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// An existing file, to read only.
    Read,
    /// An existing file, to read and write.
    ReadWrite,
    /// The file as it is, or a new, empty one.
    Create,
    /// An empty file: an existing one loses its content.
    Truncate,
    /// A file that must not exist yet (`AlreadyExists` if it does).
    CreateNew,
}

/// One name in a directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DirEntry {
    /// The name inside its directory. Names that are no UTF-8 are left out of listings.
    pub name: String,
    /// A directory, not a file.
    pub is_dir: bool,
    /// Length of the file in bytes; 0 for a directory.
    pub len: u64,
}

/// An open file.
#[expect(
    clippy::len_without_is_empty,
    reason = "the length is asked of the disk; nobody asks whether a file is empty"
)]
pub trait DiskFile: Send + Sync {
    /// Reads at most `len` bytes at `offset`; fewer only where the file ends.
    fn read_at(&self, offset: u64, len: usize) -> DiskFuture<'_, Vec<u8>>;

    /// Writes all of `data` at `offset`, extending the file as needed. Not durable before
    /// [`DiskFile::sync`]. After an error, any part of `data` may have been written.
    fn write_at(&self, offset: u64, data: Bytes) -> DiskFuture<'_, ()>;

    /// The file's length in bytes.
    fn len(&self) -> DiskFuture<'_, u64>;

    /// Cuts the file, or extends it with zeros. Durable after [`DiskFile::sync`].
    fn set_len(&self, len: u64) -> DiskFuture<'_, ()>;

    /// Makes everything written so far durable, with the file's length (`fdatasync`).
    fn sync(&self) -> DiskFuture<'_, ()>;
}

/// Holds an exclusive lock on a file; dropping it, or the end of the process, releases it.
pub trait DiskLock: Send + Sync {}

/// A file system. Paths are as the operating system sees them.
pub trait Disk: Send + Sync + 'static {
    /// Opens a file.
    fn open<'a>(&'a self, path: &'a Path, mode: OpenMode) -> DiskFuture<'a, Box<dyn DiskFile>>;

    /// Renames a file, replacing `to` atomically. Durable after [`Disk::sync_dir`].
    fn rename<'a>(&'a self, from: &'a Path, to: &'a Path) -> DiskFuture<'a, ()>;

    /// Removes a file. Durable after [`Disk::sync_dir`].
    fn remove<'a>(&'a self, path: &'a Path) -> DiskFuture<'a, ()>;

    /// Removes a directory and everything in it; one that does not exist is no error.
    fn remove_dir_all<'a>(&'a self, path: &'a Path) -> DiskFuture<'a, ()>;

    /// Creates a directory with its parents; one that exists is no error. Durable when it returns.
    fn create_dir_all<'a>(&'a self, path: &'a Path) -> DiskFuture<'a, ()>;

    /// What is in a directory, sorted by name.
    fn list<'a>(&'a self, path: &'a Path) -> DiskFuture<'a, Vec<DirEntry>>;

    /// Whether the name exists, and what it is. `name` of the result is the path's last part.
    fn stat<'a>(&'a self, path: &'a Path) -> DiskFuture<'a, Option<DirEntry>>;

    /// Makes the names in a directory durable.
    fn sync_dir<'a>(&'a self, path: &'a Path) -> DiskFuture<'a, ()>;

    /// Takes an exclusive lock on `path`, creating the file if need be. `WouldBlock` when another
    /// process, or another holder in this one, has it.
    fn lock<'a>(&'a self, path: &'a Path) -> DiskFuture<'a, Box<dyn DiskLock>>;
}

/// Reads a whole file.
///
/// # Errors
/// Those of the disk; `FileTooLarge` when it is longer than `max` bytes.
pub async fn read_all(disk: &dyn Disk, path: &Path, max: u64) -> io::Result<Vec<u8>> {
    let file = disk.open(path, OpenMode::Read).await?;
    let len = file.len().await?;
    if len > max {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!(
                "{} has {len} bytes, more than the {max} expected",
                path.display()
            ),
        ));
    }
    let len = usize::try_from(len).map_err(io::Error::other)?;
    file.read_at(0, len).await
}

/// Replaces a small file so that after a crash it has either its old content or all of `data`.
///
/// The order is what makes it so: the content of the temporary file (`<path>.tmp`) is durable before
/// the rename can be, and the rename is durable before this returns.
///
/// # Errors
/// Those of the disk. After an error the old or the new content is there.
pub async fn replace(disk: &dyn Disk, path: &Path, data: Bytes) -> io::Result<()> {
    let tmp = with_suffix(path, ".tmp");
    let file = disk.open(&tmp, OpenMode::Truncate).await?;
    file.write_at(0, data).await?;
    file.sync().await?;
    drop(file);
    disk.rename(&tmp, path).await?;
    match path.parent() {
        Some(dir) => disk.sync_dir(dir).await,
        None => Ok(()),
    }
}

/// `path` with `suffix` behind its last part.
pub fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}
