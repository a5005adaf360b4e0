//! The longest step: what a client waits for while a node grows, saves, shrinks, expires and is flushed.
//!
//! A node that stands alone, one of a cluster with all keys in one slot, and Valkey go through the same phases. Beside them a client sends
//! one small command after the other and notes its longest wait; of ours `INFO` tells the longest step of its own, in processor time and by
//! the clock (in which is what others have taken of the processor meanwhile).

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::{Client, Cluster, NodeRef, Pipe, Reply, setting, support, valkey_server};

/// At least so many are written and saved.
const KEYS_A_SECOND: u64 = 150_000;

/// Waits between two commands of the client that measures.
const PAUSE: Duration = Duration::from_micros(500);

struct Subject {
    name: &'static str,
    node: NodeRef,
    tag: &'static str,
    ours: bool,
}

fn int(client: &mut Client, command: &str) -> i64 {
    match client.try_run(command) {
        Ok(Reply::Int(n)) => n,
        other => panic!("{command}: {other:?}"),
    }
}

/// `SET` and `PING` in turns until told to stop; the longest wait.
fn probe(port: u16, tag: &str, stop: &AtomicBool) -> Duration {
    let mut pipe = Pipe::connect(port);
    let mut longest = Duration::ZERO;
    let key = format!("{tag}probe");
    let mut turn = 0u64;
    while !stop.load(Ordering::Relaxed) {
        turn += 1;
        match turn % 2 {
            0 => pipe.push(&[b"PING"]),
            _ => pipe.push(&[b"SET", key.as_bytes(), b"1"]),
        }
        let begin = Instant::now();
        pipe.send();
        pipe.settle();
        longest = longest.max(begin.elapsed());
        std::thread::sleep(PAUSE);
    }
    longest
}

/// Many commands, 200 at a time.
fn all(port: u16, range: std::ops::Range<u64>, mut push: impl FnMut(&mut Pipe, u64)) {
    let mut pipe = Pipe::connect(port);
    for i in range {
        push(&mut pipe, i);
        if pipe.waiting == 200 {
            pipe.send();
            pipe.settle();
        }
    }
    pipe.send();
    pipe.settle();
}

fn until(mut done: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !done() {
        assert!(begin.elapsed() < Duration::from_secs(900), "no end");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Does something while a client measures, and prints how it went.
fn phase(s: &Subject, port: u16, name: &str, work: impl FnOnce()) {
    let mut client = Client::connect(port).expect("a client");
    client.ok("CONFIG RESETSTAT");
    let stop = AtomicBool::new(false);
    let begin = Instant::now();
    let longest = std::thread::scope(|scope| {
        let probe = scope.spawn(|| probe(port, s.tag, &stop));
        work();
        stop.store(true, Ordering::Relaxed);
        probe.join().expect("the client that measures")
    });
    let mut own = |field| match client.info("stats", field) {
        Some(us) if s.ours => format!("{:>6.2} ms", us.parse().unwrap_or(0.0) / 1000.0),
        _ => "-".to_owned(),
    };
    println!(
        "{:<22}{name:<14}{:>8.1} s{:>11}{:>11}{:>11.2} ms",
        s.name,
        begin.elapsed().as_secs_f64(),
        own("longest_background_step_cpu_usec"),
        own("longest_background_step_usec"),
        longest.as_secs_f64() * 1000.0
    );
}

fn phases(s: &Subject, cluster: &Cluster, keys: u64) {
    let port = cluster.port(s.node);
    let mut client = Client::connect(port).expect("a client");
    let key = |i: u64| format!("{}{i:010}", s.tag);
    client.ok("DEBUG SET-ACTIVE-EXPIRE 0");
    // Every other key expires, all at the same time, when all have been written and saved.
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let due = now.expect("a clock") + Duration::from_secs(20 + keys / KEYS_A_SECOND);
    let due = due.as_millis().to_string();
    phase(s, port, "growing", || {
        all(port, 0..keys, |pipe, i| {
            let (key, value) = (key(i), format!("{i:016}x"));
            let (key, value) = (key.as_bytes(), &value.as_bytes()[1..]);
            match i % 2 {
                0 => pipe.push(&[b"SET", key, value]),
                _ => pipe.push(&[b"SET", key, value, b"PXAT", due.as_bytes()]),
            }
        });
    });
    phase(s, port, "saving", || {
        client.run("BGSAVE");
        until(|| {
            client
                .info("persistence", "rdb_bgsave_in_progress")
                .as_deref()
                == Some("0")
        });
    });
    until(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        now.is_ok_and(|now| now.as_millis().to_string() > due)
    });
    phase(s, port, "expiring", || {
        client.ok("DEBUG SET-ACTIVE-EXPIRE 1");
        until(|| int(&mut client, "DBSIZE") <= keys as i64 / 2 + 1);
    });
    phase(s, port, "shrinking", || {
        all(port, 0..keys * 7 / 10, |pipe, i| {
            if i % 2 == 0 {
                pipe.push(&[b"DEL", key(i).as_bytes()]);
            }
        });
    });
    phase(s, port, "flushing", || {
        client.ok("FLUSHALL ASYNC");
        until(|| {
            client
                .info("memory", "lazyfree_pending_objects")
                .as_deref()
                .unwrap_or("0")
                == "0"
        });
    });
}

pub fn stall() {
    let keys = setting("KEYS", 5_000_000);
    println!("\nThe longest step with {keys} keys");
    println!(
        "{:<36}{:>10}{:>11}{:>11}{:>14}",
        "", "took", "own, CPU", "own, clock", "client waits"
    );
    let mut cluster = Cluster::in_dir(&support::output_dir());
    let common = ["save \"\"", "appendonly no", "enable-debug-command yes"];
    let lone = [&common[..], &["cluster-enabled no"]].concat();
    let clustered = [&common[..], &["cluster-enabled yes"]].concat();
    let subjects = [
        Subject {
            name: "holdfast",
            node: cluster.add_node(&lone),
            tag: "key:",
            ours: true,
        },
        Subject {
            name: "holdfast, one slot",
            node: cluster.add_node(&clustered),
            tag: "{t}:",
            ours: true,
        },
        Subject {
            name: "valkey, one slot",
            node: cluster.add_program(valkey_server(), &clustered, false),
            tag: "{t}:",
            ours: false,
        },
    ];
    for s in subjects.iter().filter(|s| super::only(s.name)) {
        cluster.start(s.node);
        if s.name.contains("slot") {
            let mut client = Client::connect(cluster.port(s.node)).expect("a client");
            client.ok("CLUSTER ADDSLOTSRANGE 0 16383");
            until(|| client.ask("CLUSTER INFO").contains("cluster_state:ok"));
        }
        phases(s, &cluster, keys);
        cluster.kill(s.node);
    }
}
