//! A replicated list of texts, and a cluster of them.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use holdfast_raft_log::disk::{Disk, OpenMode, read_all};
use holdfast_raft_log::{
    App, Committed, EntryId, Group, GroupConfig, NodeId, Office, OfficeId, RaftServer, Role,
    ShardId, SnapshotInfo, SnapshotTask,
};

pub const SHARD: ShardId = ShardId::from_bytes([5; 20]);

#[derive(Clone, Default, Debug, PartialEq)]
pub struct List {
    pub items: Vec<String>,
    pub last: Option<EntryId>,
    pub installed: usize,
}

#[derive(Clone)]
pub struct ListApp {
    pub list: Arc<Mutex<List>>,
    pub disk: Arc<dyn Disk>,
}

impl App for ListApp {
    async fn apply(&mut self, entries: Vec<Committed>) -> io::Result<()> {
        let mut list = self.list.lock().unwrap();
        for entry in entries {
            if let Some(last) = list.last {
                assert_eq!(entry.index, last.index + 1, "consecutive");
            }
            list.last = Some(entry.id());
            if let Some(payload) = entry.payload {
                list.items
                    .push(String::from_utf8(payload.to_vec()).unwrap());
            }
        }
        Ok(())
    }

    async fn begin_snapshot(&mut self, path: PathBuf) -> io::Result<SnapshotTask> {
        let list = self.list.lock().unwrap().clone();
        let disk = self.disk.clone();
        Ok(Box::pin(async move {
            let file = disk.open(&path, OpenMode::Truncate).await?;
            file.write_at(0, Bytes::from(list.items.join("\n"))).await?;
            file.sync().await?;
            list.last.ok_or_else(|| io::Error::other("empty"))
        }))
    }

    async fn install_snapshot(&mut self, snapshot: SnapshotInfo) -> io::Result<()> {
        let text = read_all(&*self.disk, &snapshot.path, 1 << 30).await?;
        let text = String::from_utf8(text).unwrap();
        let mut list = self.list.lock().unwrap();
        list.items = text
            .split('\n')
            .filter(|s| !s.is_empty())
            .map(str::to_owned)
            .collect();
        list.last = Some(snapshot.last);
        list.installed += 1;
        Ok(())
    }
}

pub fn id(n: u8) -> NodeId {
    NodeId::from_bytes([n; 20])
}

pub fn config(n: u8, role: Role, advertise: String) -> GroupConfig {
    GroupConfig::new(
        SHARD,
        id(n),
        role,
        advertise,
        PathBuf::from(format!("/node{n}")),
    )
}

pub struct Node {
    pub group: Group,
    pub server: RaftServer,
    pub list: Arc<Mutex<List>>,
}

impl Node {
    pub fn items(&self) -> Vec<String> {
        self.list.lock().unwrap().items.clone()
    }

    /// Behind the last entry applied.
    pub fn applied_end(&self) -> u64 {
        self.group.status().applied.map_or(0, |index| index + 1)
    }

    pub fn office(&self) -> Option<OfficeId> {
        match self.group.office().get() {
            Office::Leader(id) => Some(id),
            Office::Follower { .. } => None,
        }
    }

    /// Proposes, and waits until it is applied here.
    pub async fn write(&self, text: &str) -> bool {
        let Some(office) = self.office() else {
            return false;
        };
        if self
            .group
            .propose(office, Bytes::from(text.to_owned()))
            .is_err()
        {
            return false;
        }
        for _ in 0..2000 {
            if self
                .list
                .lock()
                .unwrap()
                .items
                .iter()
                .any(|item| item == text)
            {
                return true;
            }
            if self.office() != Some(office) {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        false
    }

    pub async fn stop(self) {
        self.group.stop().await;
        self.server.stop().await;
    }
}

/// Waits until it is so.
pub async fn until(what: &str, limit: Duration, mut is: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + limit;
    while !is() {
        assert!(std::time::Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
