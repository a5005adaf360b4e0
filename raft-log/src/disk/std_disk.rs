//! The disk of a real machine.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::{DirEntry, Disk, DiskFile, DiskFuture, DiskLock, OpenMode};

/// The machine's file system.
///
/// On a tokio runtime every call is handed to the runtime's pool of blocking threads, so that the
/// runtime stays responsive. On any other thread, such as the log thread, whose job it is to wait for the
/// disk, the call is made in place.
#[derive(Clone, Copy, Debug, Default)]
pub struct StdDisk;

impl StdDisk {
    /// The machine's file system.
    pub fn new() -> Self {
        StdDisk
    }
}

fn run<'a, T, F>(f: F) -> DiskFuture<'a, T>
where
    T: Send + 'static,
    F: FnOnce() -> io::Result<T> + Send + 'static,
{
    Box::pin(async move {
        if tokio::runtime::Handle::try_current().is_err() {
            return f();
        }
        match tokio::task::spawn_blocking(f).await {
            Ok(result) => result,
            Err(join) => Err(io::Error::other(join)),
        }
    })
}

/// Puts the path into the error: the operating system's text names no file.
fn at<T>(path: &Path, result: io::Result<T>) -> io::Result<T> {
    result.map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", path.display())))
}

struct StdFile {
    file: Arc<File>,
    path: Arc<PathBuf>,
}

impl StdFile {
    fn run<'a, T, F>(&self, f: F) -> DiskFuture<'a, T>
    where
        T: Send + 'static,
        F: FnOnce(&File) -> io::Result<T> + Send + 'static,
    {
        let (file, path) = (self.file.clone(), self.path.clone());
        run(move || at(&path, f(&file)))
    }
}

impl DiskFile for StdFile {
    fn read_at(&self, offset: u64, len: usize) -> DiskFuture<'_, Vec<u8>> {
        self.run(move |file| {
            let mut buf = vec![0; len];
            let mut done = 0;
            while done < len {
                match file.read_at(&mut buf[done..], offset + done as u64) {
                    Ok(0) => break,
                    Ok(n) => done += n,
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                    Err(e) => return Err(e),
                }
            }
            buf.truncate(done);
            Ok(buf)
        })
    }

    fn write_at(&self, offset: u64, data: Bytes) -> DiskFuture<'_, ()> {
        self.run(move |file| file.write_all_at(&data, offset))
    }

    fn len(&self) -> DiskFuture<'_, u64> {
        self.run(|file| Ok(file.metadata()?.len()))
    }

    fn set_len(&self, len: u64) -> DiskFuture<'_, ()> {
        self.run(move |file| file.set_len(len))
    }

    fn sync(&self) -> DiskFuture<'_, ()> {
        self.run(|file| file.sync_data())
    }
}

/// The lock lives as long as the open file.
struct StdLock {
    _file: File,
}

impl DiskLock for StdLock {}

fn entry(name: String, meta: &std::fs::Metadata) -> DirEntry {
    DirEntry {
        name,
        is_dir: meta.is_dir(),
        len: if meta.is_dir() { 0 } else { meta.len() },
    }
}

impl Disk for StdDisk {
    fn open<'a>(&'a self, path: &'a Path, mode: OpenMode) -> DiskFuture<'a, Box<dyn DiskFile>> {
        let path = path.to_path_buf();
        run(move || {
            let mut options = OpenOptions::new();
            options.read(true);
            match mode {
                OpenMode::Read => &mut options,
                OpenMode::ReadWrite => options.write(true),
                OpenMode::Create => options.write(true).create(true).truncate(false),
                OpenMode::Truncate => options.write(true).create(true).truncate(true),
                OpenMode::CreateNew => options.write(true).create_new(true),
            };
            let file = Arc::new(at(&path, options.open(&path))?);
            Ok(Box::new(StdFile {
                file,
                path: Arc::new(path),
            }) as Box<dyn DiskFile>)
        })
    }

    fn rename<'a>(&'a self, from: &'a Path, to: &'a Path) -> DiskFuture<'a, ()> {
        let (from, to) = (from.to_path_buf(), to.to_path_buf());
        run(move || at(&to, std::fs::rename(&from, &to)))
    }

    fn remove<'a>(&'a self, path: &'a Path) -> DiskFuture<'a, ()> {
        let path = path.to_path_buf();
        run(move || at(&path, std::fs::remove_file(&path)))
    }

    fn remove_dir_all<'a>(&'a self, path: &'a Path) -> DiskFuture<'a, ()> {
        let path = path.to_path_buf();
        run(move || match std::fs::remove_dir_all(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            other => at(&path, other),
        })
    }

    fn create_dir_all<'a>(&'a self, path: &'a Path) -> DiskFuture<'a, ()> {
        let path = path.to_path_buf();
        run(move || {
            at(&path, std::fs::create_dir_all(&path))?;
            // Each name on the way must be durable in its parent.
            for dir in path.ancestors().skip(1) {
                let dir = if dir.as_os_str().is_empty() {
                    Path::new(".")
                } else {
                    dir
                };
                match File::open(dir) {
                    Ok(handle) => at(dir, handle.sync_all())?,
                    // A directory far up that we may not even read was not created by us.
                    Err(_) => break,
                }
            }
            Ok(())
        })
    }

    fn list<'a>(&'a self, path: &'a Path) -> DiskFuture<'a, Vec<DirEntry>> {
        let path = path.to_path_buf();
        run(move || {
            let mut entries = Vec::new();
            for item in at(&path, std::fs::read_dir(&path))? {
                let item = at(&path, item)?;
                let Ok(name) = item.file_name().into_string() else {
                    continue;
                };
                match item.metadata() {
                    Ok(meta) => entries.push(entry(name, &meta)),
                    // Removed since the directory was read.
                    Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                    Err(e) => return at(&path, Err(e)),
                }
            }
            entries.sort();
            Ok(entries)
        })
    }

    fn stat<'a>(&'a self, path: &'a Path) -> DiskFuture<'a, Option<DirEntry>> {
        let path = path.to_path_buf();
        run(move || match std::fs::metadata(&path) {
            Ok(meta) => {
                let name = path
                    .file_name()
                    .unwrap_or_default()
                    .to_string_lossy()
                    .into_owned();
                Ok(Some(entry(name, &meta)))
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => at(&path, Err(e)),
        })
    }

    fn sync_dir<'a>(&'a self, path: &'a Path) -> DiskFuture<'a, ()> {
        let path = path.to_path_buf();
        run(move || {
            let dir = if path.as_os_str().is_empty() {
                Path::new(".")
            } else {
                &path
            };
            at(dir, File::open(dir).and_then(|f| f.sync_all()))
        })
    }

    fn lock<'a>(&'a self, path: &'a Path) -> DiskFuture<'a, Box<dyn DiskLock>> {
        let path = path.to_path_buf();
        run(move || {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false);
            let file = at(&path, options.open(&path))?;
            match file.try_lock() {
                Ok(()) => Ok(Box::new(StdLock { _file: file }) as Box<dyn DiskLock>),
                Err(std::fs::TryLockError::WouldBlock) => Err(io::Error::new(
                    io::ErrorKind::WouldBlock,
                    format!("{}: locked by another process", path.display()),
                )),
                Err(std::fs::TryLockError::Error(e)) => at(&path, Err(e)),
            }
        })
    }
}
