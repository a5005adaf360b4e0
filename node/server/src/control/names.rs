//! The name that this node's logs were written under: a file beside them, so that neither outlives the other unnoticed.

use bytes::Bytes;
use holdfast_raft_log::NodeId;
use holdfast_raft_log::disk::{self, Disk};
use std::io;
use std::path::Path;

/// The longest file that is read.
const FILE_MAX: u64 = 256;

/// Reads the file, if it is there.
///
/// # Errors
/// Disk errors, and a file that holds something else.
pub async fn read(disk: &dyn Disk, path: &Path) -> io::Result<Option<NodeId>> {
    if disk.stat(path).await?.is_none() {
        return Ok(None);
    }
    let bytes = disk::read_all(disk, path, FILE_MAX).await?;
    let text = String::from_utf8_lossy(&bytes);
    text.trim().parse().map(Some).map_err(|_| {
        let text = format!(
            "{}: not the name of a node: '{}'",
            path.display(),
            text.trim()
        );
        io::Error::new(io::ErrorKind::InvalidData, text)
    })
}

/// Writes the file if it does not hold this name.
///
/// # Errors
/// Disk errors.
pub async fn write(disk: &dyn Disk, path: &Path, name: NodeId) -> io::Result<()> {
    if read(disk, path).await? == Some(name) {
        return Ok(());
    }
    if let Some(dir) = path.parent() {
        disk.create_dir_all(dir).await?;
    }
    disk::replace(disk, path, Bytes::from(format!("{name}\n"))).await
}
