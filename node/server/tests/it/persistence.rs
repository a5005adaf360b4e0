//! A node under `durability async`: what it keeps in its RDB file, and what it sends to those that follow.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::harness::{Client, Cluster, NodeRef};

fn alone(config: &[&str]) -> (Cluster, NodeRef) {
    let mut cluster = Cluster::new();
    let lines = [&["cluster-enabled no"], config].concat();
    let node = cluster.add_node(&lines);
    cluster.start(node);
    (cluster, node)
}

fn fill(client: &mut Client) {
    for n in 0..300 {
        client.run(&format!("SET key{n} value{n}"));
        client.run(&format!("RPUSH list {n}"));
        client.run(&format!("HSET hash f{n} {n}"));
        client.run(&format!("ZADD zset {n} m{n}"));
        client.run(&format!("SADD set m{n}"));
    }
    client.run("SET volatile 1 PX 1000000");
}

#[test]
fn what_was_saved_is_there_after_a_kill() {
    let (mut cluster, node) = alone(&["save \"\""]);
    let mut client = cluster.client(node);
    fill(&mut client);
    let digest = client.ask("DEBUG DIGEST");
    assert_eq!(client.ask("BGSAVE"), "Background saving started");
    client.run("SET later 1");
    cluster.wait("the save to end", |c| {
        c.client(node).info("persistence", "rdb_bgsave_in_progress") == Some("0".into())
    });
    let mut client = cluster.client(node);
    let unsaved = client.info("persistence", "rdb_changes_since_last_save");
    assert_eq!(unsaved, Some("1".into()));
    cluster.kill(node);
    cluster.start(node);
    let mut client = cluster.client(node);
    assert_eq!(client.ask("DEBUG DIGEST"), digest);
    assert!(client.ask("PTTL volatile").parse::<i64>().unwrap() > 0);
    client.ok("DEBUG RELOAD");
    assert_eq!(client.ask("DEBUG DIGEST"), digest);
    // Without save points the end saves nothing.
    client.run("SET lost 1");
    assert!(cluster.stop(node).success());
    cluster.start(node);
    assert_eq!(cluster.client(node).ask("EXISTS lost"), "0");
}

#[test]
fn with_save_points_the_end_saves() {
    let (mut cluster, node) = alone(&["save 3600 1", "enable-protected-configs yes"]);
    cluster.client(node).ok("SET k v");
    assert!(cluster.stop(node).success());
    cluster.start(node);
    let mut client = cluster.client(node);
    assert_eq!(client.ask("GET k"), "v");
    // A save that fails is told, keeps the process alive, and has writes refused.
    let refused = client.error("CONFIG SET dbfilename x/dump.rdb");
    assert!(refused.ends_with("can't be a path, just a filename"));
    std::fs::create_dir_all(cluster.node_dir(node).join("taken/by")).unwrap();
    client.ok("CONFIG SET dbfilename taken");
    assert_eq!(client.error("SAVE"), "ERR");
    client.run("BGSAVE");
    cluster.wait("the save to fail", |c| {
        c.client(node).info("persistence", "rdb_last_bgsave_status") == Some("err".into())
    });
    let mut client = cluster.client(node);
    assert!(client.error("SET k w").starts_with("MISCONF "));
    assert_eq!(client.ask("GET k"), "v");
    client.ok("CONFIG SET stop-writes-on-bgsave-error no");
    client.ok("SET k w");
    assert_eq!(
        client.error("SHUTDOWN SAVE"),
        "ERR Errors trying to SHUTDOWN. Check logs."
    );
    client.ok("CONFIG SET dbfilename dump.rdb");
    assert!(cluster.stop(node).success());
}

#[test]
fn with_save_points_flushall_writes_the_empty_file_at_once() {
    let (mut cluster, node) = alone(&["save 3600 1"]);
    let mut client = cluster.client(node);
    let unsaved = |client: &mut Client| client.info("persistence", "rdb_changes_since_last_save");
    client.ok("SET k v");
    client.ok("SAVE");
    client.ok("SET l w");
    client.ok("FLUSHALL");
    assert_eq!(unsaved(&mut client), Some("0".into()));
    for line in ["MULTI", "SET a 1", "FLUSHALL", "SET b 2", "EXEC"] {
        client.run(line);
    }
    assert_eq!(unsaved(&mut client), Some("1".into()));
    cluster.kill(node);
    cluster.start(node);
    let mut client = cluster.client(node);
    assert_eq!(client.ask("DBSIZE"), "0");
    let set = client.try_call(&[b"CONFIG", b"SET", b"save", b""]);
    assert!(set.expect("a reply").is_ok());
    client.ok("SET k v");
    client.ok("FLUSHALL");
    assert_ne!(unsaved(&mut client), Some("0".into()));
}

#[test]
fn a_damaged_file_ends_the_start_with_the_offset() {
    let (mut cluster, node) = alone(&[]);
    cluster.client(node).ok("SET k 0123456789");
    cluster.client(node).ok("SAVE");
    cluster.kill(node);
    let file = cluster.node_dir(node).join("dump.rdb");
    let mut bytes = std::fs::read(&file).unwrap();
    let at = bytes.len() - 12;
    bytes[at] ^= 0x40;
    std::fs::write(&file, bytes).unwrap();
    cluster.spawn(node);
    cluster.wait("the process to end", |c| c.ended(node).is_some());
    let log = cluster.log(node);
    assert!(log.contains("RDB CRC error at offset"), "{log}");
    assert!(log.contains("Fatal error loading the DB"), "{log}");
}

struct Follower(TcpStream);

impl Follower {
    fn send(&mut self, line: &str) {
        self.0.write_all(format!("{line}\r\n").as_bytes()).unwrap();
    }

    fn line(&mut self) -> String {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            let mut byte = [0];
            self.0.read_exact(&mut byte).unwrap();
            // Empty lines say that the other side is alive.
            if !(line.is_empty() && byte == *b"\n") {
                line.push(byte[0]);
            }
        }
        line.truncate(line.len() - 2);
        String::from_utf8(line).unwrap()
    }

    fn expect(&mut self, stream: &[u8]) {
        let mut got = vec![0; stream.len()];
        self.0.read_exact(&mut got).unwrap();
        assert_eq!(
            String::from_utf8_lossy(&got),
            String::from_utf8_lossy(stream)
        );
    }
}

#[test]
fn a_follower_gets_a_file_and_then_the_effects() {
    let (cluster, node) = alone(&["save \"\"", "repl-ping-replica-period 3600"]);
    let mut client = cluster.client(node);
    client.ok("SET before 1");
    let connect = || {
        let stream = TcpStream::connect(("127.0.0.1", cluster.port(node))).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        Follower(stream)
    };
    let mut f = connect();
    f.send("REPLCONF listening-port 1234 capa psync2");
    assert_eq!(f.line(), "+OK");
    f.send("PSYNC ? -1");
    let line = f.line();
    let [word, id, offset] = line.split(' ').collect::<Vec<_>>()[..] else {
        panic!("{line}")
    };
    assert_eq!((word, offset), ("+FULLRESYNC", "0"));
    let length: usize = f.line().strip_prefix('$').unwrap().parse().unwrap();
    let mut file = vec![0; length];
    f.0.read_exact(&mut file).unwrap();
    assert!(file.starts_with(b"VALKEY080"), "{file:?}");
    f.expect(b"*1\r\n$4\r\nPING\r\n");
    client.run("INCR n");
    f.expect(b"*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n*2\r\n$4\r\nINCR\r\n$1\r\nn\r\n");
    client.run("MULTI");
    client.run("SPOP none");
    client.run("SET a 1");
    client.run("SET b 2 EX 0x");
    client.run("DEL before");
    client.run("EXEC");
    let unit = b"*1\r\n$5\r\nMULTI\r\n*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\n1\r\n*2\r\n$3\r\nDEL\r\n$6\r\nbefore\r\n*1\r\n$4\r\nEXEC\r\n";
    f.expect(unit);
    let before: u64 = client
        .info("replication", "master_repl_offset")
        .unwrap()
        .parse()
        .unwrap();
    f.send(&format!("REPLCONF ACK {before}"));
    assert_eq!(client.ask("WAIT 1 5000"), "1");
    assert_eq!(client.info("replication", "connected_slaves").unwrap(), "1");
    drop(f);
    client.ok("SET while away");
    let mut f = connect();
    f.send("REPLCONF capa psync2");
    assert_eq!(f.line(), "+OK");
    f.send(&format!("PSYNC {id} {}", before + 1));
    assert_eq!(f.line(), format!("+CONTINUE {id}"));
    f.expect(b"*3\r\n$3\r\nSET\r\n$5\r\nwhile\r\n$4\r\naway\r\n");
}
