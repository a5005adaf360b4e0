//! Groups on loopback, on tokio.
#![cfg(not(madsim))]

mod common;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::*;
use holdfast_raft_log::disk::{Disk, MemDisk};
use holdfast_raft_log::{
    App, ChangeError, Committed, Group, GroupConfig, ProposeError, RaftServer, Role, SnapshotInfo,
    SnapshotTask, StartError,
};

fn free_addr() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
}

fn run(test: impl Future<Output = ()>) {
    let _ = tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_test_writer()
        .try_init();
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(test);
}

struct Cluster {
    disk: MemDisk,
    addrs: Vec<SocketAddr>,
    tune: fn(&mut GroupConfig),
}

const LONG: Duration = Duration::from_secs(30);

impl Cluster {
    fn new(tune: fn(&mut GroupConfig)) -> Cluster {
        let addrs = (0..5).map(|_| free_addr()).collect();
        Cluster {
            disk: MemDisk::new(),
            addrs,
            tune,
        }
    }

    async fn start(&self, n: u8, role: Role) -> Node {
        self.try_start(n, role).await.unwrap()
    }

    async fn try_start(&self, n: u8, role: Role) -> Result<Node, StartError> {
        let addr = self.addrs[n as usize];
        let server = RaftServer::listen(addr).await?;
        let list: Arc<Mutex<List>> = Arc::default();
        let disk: Arc<MemDisk> = Arc::new(self.disk.clone());
        let app = ListApp {
            list: list.clone(),
            disk: disk.clone(),
        };
        let mut config = config(n, role, addr.to_string());
        (self.tune)(&mut config);
        let group = Group::start(config, disk, app, &server).await?;
        Ok(Node {
            group,
            server,
            list,
        })
    }

    fn addr(&self, n: u8) -> String {
        self.addrs[n as usize].to_string()
    }

    async fn three(&self, third: Role) -> [Node; 3] {
        let a = self.start(0, Role::Data).await;
        a.group.initialize().await.unwrap();
        until("a leads", LONG, || a.office().is_some()).await;
        let b = self.start(1, Role::Data).await;
        b.group.join(&[self.addr(0)]).await.unwrap();
        let c = self.start(2, third).await;
        c.group.join(&[self.addr(1)]).await.unwrap();
        [a, b, c]
    }
}

#[test]
fn one_node_alone_writes_restarts_and_goes_on() {
    run(async {
        let cluster = Cluster::new(|_| {});
        let a = cluster.start(0, Role::Data).await;
        assert!(!a.group.is_initialized());
        assert!(!a.group.lease_valid(Instant::now()));
        a.group.initialize().await.unwrap();
        until("a leads", LONG, || a.office().is_some()).await;
        assert!(matches!(
            a.group.initialize().await,
            Err(ChangeError::Refused(_))
        ));
        for i in 0..10 {
            assert!(a.write(&format!("x{i}")).await);
        }
        assert!(a.group.lease_valid(Instant::now()));
        let office = a.office().unwrap();
        let all = a
            .group
            .read_committed(0, a.applied_end(), 1 << 20)
            .await
            .unwrap();
        let own = all.iter().filter(|e| office.proposed(id(0), e)).count();
        assert_eq!(own, 10);
        a.stop().await;
        let a = cluster.start(0, Role::Data).await;
        assert!(a.group.is_initialized());
        until("a leads again", LONG, || a.office().is_some()).await;
        assert_eq!(
            a.items().len(),
            10,
            "all is applied before the office is announced"
        );
        assert!(a.write("y").await);
        a.stop().await;
    });
}

#[test]
fn the_leader_dies_and_another_takes_over_with_everything() {
    run(async {
        let cluster = Cluster::new(|_| {});
        let [a, b, c] = cluster.three(Role::Data).await;
        for i in 0..50 {
            assert!(a.write(&format!("x{i}")).await);
        }
        until("b and c follow", LONG, || {
            b.items().len() == 50 && c.items().len() == 50
        })
        .await;
        assert_eq!(a.group.status().voters().count(), 3);
        let since = Instant::now();
        a.stop().await;
        until("another leads", LONG, || {
            b.office().is_some() || c.office().is_some()
        })
        .await;
        let took = since.elapsed();
        assert!(took < Duration::from_secs(3), "took {took:?}");
        let leader = if b.office().is_some() { &b } else { &c };
        assert!(leader.write("after").await);
        let a = cluster.start(0, Role::Data).await;
        until("a catches up", LONG, || a.items().len() == 51).await;
        assert_eq!(a.items(), leader.items());
        for node in [a, b, c] {
            node.stop().await;
        }
    });
}

/// Does what a rebuild does: reads the entries of the call at hand back from the log. Refuses the text `poison`.
struct Rereader {
    inner: ListApp,
    group: Arc<OnceLock<Group>>,
    reread: Arc<Mutex<usize>>,
}

impl App for Rereader {
    async fn apply(&mut self, entries: Vec<Committed>) -> io::Result<()> {
        if entries
            .iter()
            .any(|e| e.payload.as_deref() == Some(b"poison"))
        {
            return Err(io::Error::other("refused"));
        }
        if let (Some(group), Some(first), Some(last)) =
            (self.group.get(), entries.first(), entries.last())
        {
            let mut next = first.index;
            while next <= last.index {
                let read = group
                    .read_committed(next, last.index + 1, 16)
                    .await
                    .map_err(io::Error::other)?;
                for entry in &read {
                    let given = &entries[(entry.index - first.index) as usize];
                    assert_eq!((entry.id(), &entry.payload), (given.id(), &given.payload));
                    next = entry.index + 1;
                }
                *self.reread.lock().unwrap() += read.len();
                if read.is_empty() {
                    return Err(io::Error::other(format!("entry {next} is missing")));
                }
            }
        }
        self.inner.apply(entries).await
    }

    async fn begin_snapshot(&mut self, path: PathBuf) -> io::Result<SnapshotTask> {
        self.inner.begin_snapshot(path).await
    }

    async fn install_snapshot(&mut self, snapshot: SnapshotInfo) -> io::Result<()> {
        self.inner.install_snapshot(snapshot).await
    }
}

#[test]
fn what_is_being_applied_can_be_read_and_what_cannot_be_applied_ends_the_group() {
    run(async {
        let cluster = Cluster::new(|_| {});
        let addr = cluster.addrs[0];
        let server = RaftServer::listen(addr).await.unwrap();
        let list: Arc<Mutex<List>> = Arc::default();
        let disk: Arc<MemDisk> = Arc::new(cluster.disk.clone());
        let (cell, reread) = (Arc::new(OnceLock::new()), Arc::new(Mutex::new(0)));
        let app = Rereader {
            inner: ListApp {
                list: list.clone(),
                disk: disk.clone(),
            },
            group: cell.clone(),
            reread: reread.clone(),
        };
        let config = config(0, Role::Data, addr.to_string());
        let group = Group::start(config, disk, app, &server).await.unwrap();
        assert!(cell.set(group.clone()).is_ok());
        group.initialize().await.unwrap();
        let node = Node {
            group,
            server,
            list,
        };
        until("it leads", LONG, || node.office().is_some()).await;
        let office = node.office().unwrap();
        for i in 0..100 {
            node.group
                .propose(office, Bytes::from(format!("x{i}")))
                .unwrap();
        }
        until("all applied", LONG, || node.items().len() == 100).await;
        assert!(*reread.lock().unwrap() >= 100);
        assert_eq!(node.group.failed().get(), None);
        node.group
            .propose(office, Bytes::from_static(b"poison"))
            .unwrap();
        until("the group says that it has failed", LONG, || {
            node.group
                .failed()
                .get()
                .is_some_and(|why| why.contains("refused"))
        })
        .await;
        until("the office is over", LONG, || node.office().is_none()).await;
        node.stop().await;
    });
}

#[test]
fn a_campaign_does_not_wait_for_a_timeout_but_for_the_promises_to_a_living_leader() {
    run(async {
        let cluster = Cluster::new(|config| {
            config.election_min = Duration::from_millis(3600);
            config.election_max = Duration::from_secs(4);
        });
        let [a, b, c] = cluster.three(Role::Witness).await;
        assert!(a.write("x").await);
        until("b follows", LONG, || b.items().len() == 1).await;
        let office = a.office();
        let alive = b.group.campaign(Duration::from_secs(1)).await;
        assert!(matches!(alive, Err(ChangeError::Busy(_))), "{alive:?}");
        assert_eq!(a.office(), office, "a living leader was disturbed");
        let witness = c.group.campaign(Duration::from_secs(1)).await;
        assert!(
            matches!(witness, Err(ChangeError::Refused(_))),
            "{witness:?}"
        );
        // All at once, as a process that is killed: nothing is handed over.
        let since = Instant::now();
        a.stop().await;
        assert_eq!(b.group.campaign(LONG).await, Ok(()));
        let took = since.elapsed();
        // By itself it would stand after 7.6 s at the earliest.
        assert!(took < Duration::from_secs(7), "took {took:?}");
        assert!(b.office().is_some() && b.write("y").await);
        for node in [b, c] {
            node.stop().await;
        }
    });
}

#[test]
fn many_proposals_in_flight_keep_their_order() {
    run(async {
        let cluster = Cluster::new(|_| {});
        let [a, b, c] = cluster.three(Role::Witness).await;
        let office = a.office().unwrap();
        let since = Instant::now();
        for i in 0..5000 {
            a.group
                .propose(office, Bytes::from(format!("{i}")))
                .unwrap();
        }
        until("all applied", LONG, || a.items().len() == 5000).await;
        println!("5000 proposals in {:?}", since.elapsed());
        let expect: Vec<String> = (0..5000).map(|i| i.to_string()).collect();
        assert_eq!(a.items(), expect);
        until("b too", LONG, || b.items().len() == 5000).await;
        assert_eq!(b.items(), expect);
        assert!(c.items().is_empty() && c.office().is_none());
        assert_eq!(a.group.backlog_bytes(), 0);
        let big = "z".repeat(8 << 20);
        assert!(a.write(&big).await);
        for node in [a, b, c] {
            node.stop().await;
        }
    });
}

#[test]
fn an_office_is_handed_over_and_members_come_and_go() {
    run(async {
        let cluster = Cluster::new(|_| {});
        let [a, b, c] = cluster.three(Role::Witness).await;
        let office = a.office().unwrap();
        for i in 0..20 {
            a.group
                .propose(office, Bytes::from(format!("{i}")))
                .unwrap();
        }
        assert!(matches!(
            a.group.transfer_to(id(2)).await,
            Err(ChangeError::Refused(_))
        ));
        a.group.transfer_to(id(1)).await.unwrap();
        assert!(!a.group.lease_valid(Instant::now()));
        assert!(a.group.propose(office, Bytes::new()).is_err());
        until("b leads", LONG, || b.office().is_some()).await;
        assert_eq!(b.items().len(), 20, "what was proposed before went along");
        assert!(b.write("b").await);
        let d = cluster.start(3, Role::Data).await;
        d.group.join(&[cluster.addr(0)]).await.unwrap();
        until("d follows", LONG, || d.items().len() == 21).await;
        // A follower passes it on, and has the outcome.
        c.group.remove_member(id(0)).await.unwrap();
        assert_eq!(b.group.status().members.len(), 3);
        a.stop().await;
        assert!(b.write("without a").await);
        b.group.leave().await.unwrap();
        until("d leads", LONG, || d.office().is_some()).await;
        assert!(d.write("without b").await);
        b.stop().await;
        for node in [c, d] {
            node.stop().await;
        }
    });
}

#[test]
fn the_log_is_cut_and_a_newcomer_gets_a_snapshot() {
    run(async {
        let cluster = Cluster::new(|config| {
            config.segment_bytes = 16 << 10;
            config.log_bytes_max = 64 << 10;
            config.log_bytes_keep = 16 << 10;
            config.cache_bytes = 4 << 10;
        });
        let [a, b, c] = cluster.three(Role::Witness).await;
        let office = a.office().unwrap();
        for i in 0..400 {
            a.group
                .propose(office, Bytes::from(format!("{i}:{}", "p".repeat(1000))))
                .unwrap();
            if i % 20 == 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        until("all applied", LONG, || {
            a.items().len() == 400 && b.items().len() == 400
        })
        .await;
        until("a's log is cut", LONG, || {
            a.group.status().log_bytes < 128 << 10
        })
        .await;
        until("c's log is cut", LONG, || {
            c.group.status().log_bytes < 128 << 10
        })
        .await;
        assert!(
            c.group.latest_snapshot().is_none(),
            "a marker is no snapshot"
        );
        assert!(
            a.group
                .read_committed(0, a.applied_end(), 1000)
                .await
                .is_err()
        );
        let d = cluster.start(3, Role::Data).await;
        d.group.join(&[cluster.addr(0)]).await.unwrap();
        until("d follows", LONG, || d.items().len() == 400).await;
        assert_eq!(d.list.lock().unwrap().installed, 1);
        assert_eq!(d.items(), a.items());
        let snapshot = a.group.latest_snapshot().unwrap();
        assert!(
            a.group
                .read_committed(snapshot.last.index + 1, a.applied_end(), 1 << 20)
                .await
                .is_ok()
        );
        b.stop().await;
        let b = cluster.start(1, Role::Data).await;
        until("b is back from its snapshot", LONG, || {
            b.items().len() == 400
        })
        .await;
        c.stop().await;
        let c = cluster.start(2, Role::Witness).await;
        assert!(a.write("end").await);
        until("c goes on", LONG, || {
            c.group.status().applied == a.group.status().applied
        })
        .await;
        for node in [a, b, c, d] {
            node.stop().await;
        }
    });
}

#[test]
fn the_witness_keeps_a_snapshot_for_a_data_node_that_stays_away() {
    run(async {
        let cluster = Cluster::new(|config| {
            config.segment_bytes = 16 << 10;
            config.log_bytes_max = 64 << 10;
            config.log_bytes_keep = 16 << 10;
        });
        let [a, b, c] = cluster.three(Role::Witness).await;
        assert!(a.write("first").await);
        until("b follows", LONG, || b.items().len() == 1).await;
        b.stop().await;
        for i in 0..300 {
            let office = a.office().unwrap();
            a.group
                .propose(office, Bytes::from(format!("{i}:{}", "p".repeat(1000))))
                .unwrap();
            if i % 10 == 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        until("all applied", LONG, || a.items().len() == 301).await;
        until("the witness has a snapshot", LONG, || {
            c.group.latest_snapshot().is_some()
        })
        .await;
        until("and a short log", LONG, || {
            c.group.status().log_bytes < 160 << 10 && c.group.status().purged > Some(100)
        })
        .await;
        let all = a.items();
        a.stop().await;
        let b = cluster.start(1, Role::Data).await;
        until("b leads", LONG, || b.office().is_some()).await;
        assert_eq!(b.items(), all, "snapshot and tail came from the witness");
        assert_eq!(b.list.lock().unwrap().installed, 1);
        assert!(b.write("on").await);
        b.stop().await;
        c.stop().await;
    });
}

#[test]
fn a_refused_proposal_ends_the_office_and_leaves_no_gap() {
    run(async {
        let cluster = Cluster::new(|config| config.backlog_bytes_max = 10_000);
        let [a, b, c] = cluster.three(Role::Witness).await;
        let office = a.office().unwrap();
        let mut taken = 0;
        // Nothing is awaited: nothing is committed meanwhile.
        let refused = loop {
            match a
                .group
                .propose(office, Bytes::from(format!("{taken:0100}")))
            {
                Ok(()) => taken += 1,
                Err(e) => break e,
            }
        };
        assert_eq!(refused, ProposeError::Backlog);
        assert_eq!(taken, 100);
        let again = a.group.propose(office, Bytes::from_static(b"after"));
        assert_eq!(again, Err(ProposeError::NotLeader));
        until("another office", LONG, || {
            a.office().is_some_and(|next| next != office)
        })
        .await;
        let next = a.office().unwrap();
        assert!(next.first_index > office.first_index);
        assert!(a.write("next").await);
        let items = a.items();
        let before: Vec<String> = (0..items.len() - 1).map(|i| format!("{i:0100}")).collect();
        assert_eq!(
            items[..items.len() - 1],
            before,
            "a prefix of what was proposed"
        );
        assert_eq!(items.last().map(String::as_str), Some("next"));
        until("b has the same", LONG, || b.items() == items).await;
        for node in [a, b, c] {
            node.stop().await;
        }
    });
}

#[test]
fn a_shard_is_rebuilt_from_one_voter_whose_log_was_cut() {
    run(async {
        let cluster = Cluster::new(|config| {
            config.segment_bytes = 16 << 10;
            config.log_bytes_max = 64 << 10;
            config.log_bytes_keep = 16 << 10;
        });
        let [a, b, c] = cluster.three(Role::Data).await;
        let office = a.office().unwrap();
        for i in 0..200 {
            let payload = format!("{i}:{}", "p".repeat(1000));
            a.group.propose(office, Bytes::from(payload)).unwrap();
            if i % 20 == 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        until("b has all, and has cut its log", LONG, || {
            b.items().len() == 200 && b.group.status().purged.is_some()
        })
        .await;
        let items = b.items();
        let term = b.group.status().term;
        for node in [a, b, c] {
            node.stop().await;
        }
        let disk: Arc<dyn Disk> = Arc::new(cluster.disk.clone());
        let dir = std::path::Path::new("/node1");
        let found = holdfast_raft_log::inspect(&disk, dir).await.unwrap();
        assert_eq!(found.node, id(1));
        assert_eq!(found.members.len(), 3);
        assert!(found.snapshot.is_some() && !found.lacks_committed());
        holdfast_raft_log::rebuild(&disk, dir).await.unwrap();

        let b = cluster.start(1, Role::Data).await;
        until("b leads alone", LONG, || b.office().is_some()).await;
        assert_eq!(b.items(), items);
        let status = b.group.status();
        assert!(status.term > term && status.members.len() == 1);
        assert!(b.write("after").await);

        // The others are a majority of what they know of. What they elect must not overrule b.
        let a = cluster.start(0, Role::Data).await;
        let c = cluster.start(2, Role::Data).await;
        until("they elect one of themselves", LONG, || {
            a.office().is_some() || c.office().is_some()
        })
        .await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!(b.office().is_some() && b.write("and again").await);
        for node in [&a, &c] {
            let refused = node.group.join(&[cluster.addr(1)]).await;
            assert!(
                matches!(refused, Err(ChangeError::Refused(_))),
                "{refused:?}"
            );
        }
        for node in [a, b, c] {
            node.stop().await;
        }
    });
}
