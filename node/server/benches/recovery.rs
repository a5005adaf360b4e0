//! How fast a node reads its log when it starts, and how much memory a witness takes beside a large data set.
//!
//! `cargo bench -p holdfast-server --bench recovery`
//!
//! `MIB` (1024) is the size of the log to read, and of the data beside the witness.

mod support;

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use support::harness::client::encode;
use support::harness::{Client, Cluster};
use support::{process, setting};

const VALUE_BYTES: usize = 1024;

fn main() {
    let mib = setting("MIB", 1024);
    let mut cluster = Cluster::in_dir(&support::output_dir());
    let lone = cluster.add_node(&["durability quorum", "raft-log-max-bytes 16gb"]);
    cluster.start(lone);
    cluster.add_slots(lone, 0, 16383);
    cluster.wait_well();
    fill(cluster.port(lone), mib);
    cluster.kill(lone);
    let log_bytes = size_of(cluster.node_dir(lone));
    let begin = Instant::now();
    cluster.spawn(lone);
    let port = cluster.port(lone);
    loop {
        let answer = Client::connect_within(port, Duration::from_secs(5))
            .and_then(|mut c| c.try_run("GET key:0"));
        if answer.is_ok_and(|reply| reply.as_bytes().is_some()) {
            break;
        }
        assert!(
            begin.elapsed() < Duration::from_secs(600),
            "not back within 600 s"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
    let elapsed = begin.elapsed().as_secs_f64();
    let gib = log_bytes as f64 / (1u64 << 30) as f64;
    println!(
        "log recovery: {gib:.2} GiB in {elapsed:.2} s, {:.2} s a GiB",
        elapsed / gib
    );
    drop(cluster);

    let mut cluster = Cluster::in_dir(&support::output_dir());
    let [_, _, witness] = cluster.add_durable_shard();
    let primary = cluster.primary_of(0);
    let empty = process::resident_bytes(cluster.pid(witness));
    fill(cluster.port(primary), mib);
    let full = process::resident_bytes(cluster.pid(witness));
    let data = process::resident_bytes(cluster.pid(primary));
    println!(
        "witness memory: {:.1} MiB beside a data node of {:.0} MiB ({:.1} MiB at the beginning)",
        mebi(full),
        mebi(data),
        mebi(empty)
    );
}

fn mebi(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

fn fill(port: u16, mib: u64) {
    let mut client = Client::connect_within(port, Duration::from_secs(60)).expect("connected");
    let value = vec![b'v'; VALUE_BYTES];
    let count = mib * (1 << 20) / VALUE_BYTES as u64;
    let mut batch = Vec::new();
    for from in (0..count).step_by(200) {
        let upto = (from + 200).min(count);
        batch.clear();
        for n in from..upto {
            encode(&mut batch, &[b"SET", format!("key:{n}").as_bytes(), &value]);
        }
        client.stream.write_all(&batch).expect("sent");
        for _ in from..upto {
            let reply = client.receive().expect("answered");
            assert!(reply.is_ok(), "{reply:?}");
        }
    }
}

fn size_of(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).expect("a folder");
    entries
        .map(|entry| {
            let entry = entry.expect("an entry");
            let meta = entry.metadata().expect("its size");
            if meta.is_dir() {
                size_of(&entry.path())
            } else {
                meta.len()
            }
        })
        .sum()
}
