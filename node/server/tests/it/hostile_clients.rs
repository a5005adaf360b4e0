//! Clients that send too slowly, read nothing, or are gone without a word: they take no more memory than their limits allow, and
//! their neighbours notice nothing.

use crate::harness::{Client, Cluster, NodeRef};
use std::io::Write;
use std::net::Shutdown;
use std::time::{Duration, Instant};

fn one_node(config: &[&str]) -> (Cluster, NodeRef) {
    let mut cluster = Cluster::new();
    let mut lines = vec!["cluster-enabled no"];
    lines.extend(config);
    let node = cluster.add_node(&lines);
    cluster.start(node);
    (cluster, node)
}

fn number(client: &mut Client, section: &str, field: &str) -> i64 {
    let text = client.info(section, field).expect("a field of INFO");
    text.parse().expect("a number")
}

/// The longest of some commands, which a node that is held up by others would not answer in time.
fn longest_answer(client: &mut Client) -> Duration {
    let times = (0..50).map(|_| {
        let start = Instant::now();
        assert_eq!(client.ask("PING"), "PONG");
        std::thread::sleep(Duration::from_millis(2));
        start.elapsed()
    });
    times.max().unwrap_or_default()
}

/// Waits until something is so.
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(
            start.elapsed() < Duration::from_secs(20),
            "not in time: {what}"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

const MIB: i64 = 1 << 20;
/// Far above what an answer takes on a busy machine, far below what a node takes that serves the hostile first.
const NOTICEABLE: Duration = Duration::from_millis(700);

#[test]
fn announced_arguments_take_no_memory_before_they_come() {
    let (cluster, node) = one_node(&[]);
    let mut neighbour = cluster.client(node);
    let before = number(&mut neighbour, "memory", "used_memory");
    let resident = number(&mut neighbour, "memory", "used_memory_rss");
    let mut slow: Vec<Client> = (0..100).map(|_| cluster.client(node)).collect();
    for client in &mut slow {
        let head = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$500000000\r\n";
        client.stream.write_all(head).expect("the head");
    }
    // A byte now and then.
    for _ in 0..5 {
        for client in &mut slow {
            client.stream.write_all(b"x").expect("a byte");
        }
        assert!(longest_answer(&mut neighbour) < NOTICEABLE);
    }
    // Room is made for a part of what was announced, and not touched.
    let during = number(&mut neighbour, "memory", "used_memory");
    assert!(during - before < 100 * 2 * MIB, "{before} {during}");
    let touched = number(&mut neighbour, "memory", "used_memory_rss");
    assert!(touched - resident < 16 * MIB, "{resident} {touched}");
    // Of one who has fallen silent even that is given back.
    until("room given back", || {
        number(&mut neighbour, "memory", "used_memory") - before < 4 * MIB
    });
}

#[test]
fn who_does_not_read_is_closed_at_its_limit() {
    let (cluster, node) = one_node(&["client-output-buffer-limit normal 4mb 0 0"]);
    let mut neighbour = cluster.client(node);
    neighbour.ok(&format!("SET k {}", "v".repeat(MIB as usize)));
    let before = number(&mut neighbour, "memory", "used_memory");
    let mut deaf: Vec<Client> = (0..20).map(|_| cluster.client(node)).collect();
    for _ in 0..20 {
        for client in &mut deaf {
            // It may be closed already.
            let _ = client.stream.write_all(b"GET k\r\n");
        }
        let now = number(&mut neighbour, "memory", "used_memory");
        // A buffer that grows doubles its room, and takes one reply more than the limit.
        assert!(now - before < 20 * 10 * MIB, "{before} {now}");
    }
    assert!(longest_answer(&mut neighbour) < NOTICEABLE);
    let closed = || {
        number(
            &mut cluster.client(node),
            "stats",
            "client_output_buffer_limit_disconnections",
        )
    };
    until("all are closed", || closed() == 20);
    until("their memory is given back", || {
        number(&mut neighbour, "memory", "used_memory") - before < 8 * MIB
    });
}

#[test]
fn subscribers_that_do_not_read_are_closed_at_their_limit() {
    let (cluster, node) = one_node(&["client-output-buffer-limit pubsub 1mb 0 0"]);
    let mut neighbour = cluster.client(node);
    let before = number(&mut neighbour, "memory", "used_memory");
    let mut deaf: Vec<Client> = (0..20).map(|_| cluster.client(node)).collect();
    for client in &mut deaf {
        client
            .stream
            .write_all(b"SUBSCRIBE c\r\n")
            .expect("a command");
    }
    until("all have subscribed", || {
        number(&mut neighbour, "clients", "pubsub_clients") == 20
    });
    let message = "m".repeat(100_000);
    until("all are closed", || {
        let start = Instant::now();
        let receivers = neighbour.ask(&format!("PUBLISH c {message}"));
        assert!(start.elapsed() < NOTICEABLE);
        receivers == "0"
    });
    until("their memory is given back", || {
        number(&mut neighbour, "memory", "used_memory") - before < 8 * MIB
    });
}

#[test]
fn all_clients_together_stay_below_their_limit() {
    let (cluster, node) = one_node(&["maxmemory-clients 20mb"]);
    let mut neighbour = cluster.client(node);
    neighbour.ok("CLIENT NO-EVICT ON");
    let before = number(&mut neighbour, "memory", "used_memory");
    // Some send much of a command that never ends, others read nothing of large replies.
    neighbour.ok(&format!("SET k {}", "v".repeat(MIB as usize)));
    let mut hostile: Vec<Client> = (0..20).map(|_| cluster.client(node)).collect();
    let part = vec![b'x'; 256 * 1024];
    for round in 0..20 {
        for (n, client) in hostile.iter_mut().enumerate() {
            let bytes: &[u8] = match (n % 2, round) {
                (0, 0) => b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$100000000\r\n",
                (0, _) => &part,
                _ => b"GET k\r\n",
            };
            let _ = client.stream.write_all(bytes);
        }
        let now = number(&mut neighbour, "memory", "used_memory");
        assert!(now - before < 40 * MIB, "{before} {now}");
    }
    assert!(number(&mut neighbour, "stats", "evicted_clients") > 0);
    assert!(longest_answer(&mut neighbour) < NOTICEABLE);
}

#[test]
fn who_has_hung_up_or_fallen_silent_is_forgotten() {
    let (cluster, node) = one_node(&["timeout 2"]);
    let mut neighbour = cluster.client(node);
    neighbour.ok(&format!("SET k {}", "v".repeat(MIB as usize)));
    let count = |c: &mut Client| number(c, "clients", "connected_clients");
    // They say that they send nothing more, and read nothing of what they have asked for.
    let mut half: Vec<Client> = (0..20).map(|_| cluster.client(node)).collect();
    for client in &mut half {
        client
            .stream
            .write_all(b"GET k\r\nGET k\r\nGET k\r\n")
            .expect("commands");
        client.stream.shutdown(Shutdown::Write).expect("to hang up");
    }
    until("those who have hung up are gone", || {
        count(&mut neighbour) == 1
    });
    // They say nothing at all, or the beginning of something.
    let mut silent: Vec<Client> = (0..20).map(|_| cluster.client(node)).collect();
    for client in silent.iter_mut().skip(10) {
        client
            .stream
            .write_all(b"*3\r\n$3\r\nSE")
            .expect("a beginning");
    }
    until("all are there", || count(&mut neighbour) == 21);
    until("the silent are gone", || count(&mut neighbour) == 1);
}
