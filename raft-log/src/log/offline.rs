//! The log of a node that is stopped: looked at, and written to, without openraft.

use std::path::Path;
use std::sync::Arc;

use bytes::BytesMut;

use super::format::{self, Record, State};
use super::identity::{self, Identity};
use super::recover::{self, Opened, Owner};
use crate::disk::{self, Disk};
use crate::error::StartError;
use crate::raft::{LogId, Membership};

/// See the module's description. Nobody else can open the log while this is there.
pub struct Offline {
    opened: Opened,
}

impl Offline {
    /// Opens the log in `dir`, whosever it is. A torn tail is cut, as at a start.
    ///
    /// # Errors
    /// There is none, or it cannot be opened.
    pub async fn open(disk: &Arc<dyn Disk>, dir: &Path) -> Result<Offline, StartError> {
        let path = dir.join(identity::FILE);
        if disk.stat(&path).await?.is_none() {
            return Err(StartError::Identity {
                dir: dir.to_path_buf(),
                what: "no log of a shard is here".into(),
            });
        }
        let text = disk::read_all(&**disk, &path, identity::MAX_LEN).await?;
        let identity = Identity::parse(&text).map_err(|what| StartError::Corrupt {
            file: path,
            offset: 0,
            what: what.into(),
        })?;
        let owner = Owner {
            dir: dir.to_path_buf(),
            shard: identity.shard,
            node: identity.node,
            role: identity.role,
            must_exist: true,
        };
        let opened = recover::open(&**disk, &owner).await?;
        Ok(Offline { opened })
    }

    /// Whose log it is.
    pub fn identity(&self) -> &Identity {
        &self.opened.identity
    }

    /// What it says beside its entries.
    pub fn state(&self) -> &State {
        &self.opened.state
    }

    /// The id of its first entry.
    ///
    /// # Errors
    /// The disk's, and an entry that is damaged.
    pub async fn first(&self) -> std::io::Result<Option<LogId>> {
        match self.opened.index.first() {
            Some(first) => Ok(self.read(first, first).await?.first().map(|e| e.id)),
            None => Ok(None),
        }
    }

    /// The newest membership among its entries.
    ///
    /// # Errors
    /// The disk's, and an entry that is damaged.
    pub async fn membership(&self) -> std::io::Result<Option<Membership>> {
        let Some(first) = self.opened.index.first() else {
            return Ok(None);
        };
        let mut last = self.opened.state.last.map_or(0, |id| id.index);
        loop {
            let Some(run) = self.opened.index.find(last) else {
                return Ok(None);
            };
            let from = run.first.max(first);
            let entries = self.read(from, last).await?;
            let membership = |entry: &crate::raft::Entry| {
                openraft::entry::RaftPayload::get_membership(&entry.payload)
            };
            if let Some(newest) = entries.iter().rev().find_map(membership) {
                return Ok(Some(newest));
            }
            if from == first {
                return Ok(None);
            }
            last = from - 1;
        }
    }

    /// The entries `from..=to`, which are in one run.
    async fn read(&self, from: u64, to: u64) -> std::io::Result<Vec<crate::raft::Entry>> {
        let mut entries = Vec::new();
        let Some(run) = self.opened.index.find(from) else {
            return Ok(entries);
        };
        let Some(segment) = self.opened.segments.get(&run.segment) else {
            return Ok(entries);
        };
        recover::read_run(segment.file.as_ref(), run, from, to, &mut entries)
            .await
            .map_err(|what| {
                let text = format!("{}: {what}", segment.path.display());
                std::io::Error::new(std::io::ErrorKind::InvalidData, text)
            })?;
        Ok(entries)
    }

    /// Writes records behind what is there, durably, and closes the log.
    ///
    /// # Errors
    /// The disk's.
    pub async fn append(self, records: &[Record]) -> std::io::Result<()> {
        let Some(segment) = self.opened.segments.values().next_back() else {
            return Err(std::io::Error::other("the log has no segment"));
        };
        let mut running = self.opened.running;
        let mut buf = BytesMut::new();
        for record in records {
            // Everything up to here is durable: recovery has seen to that.
            running = format::encode(&mut buf, record, segment.len, running);
        }
        segment.file.write_at(segment.len, buf.freeze()).await?;
        segment.file.sync().await
    }
}
