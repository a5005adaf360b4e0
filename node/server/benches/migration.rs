//! Moving 1,000 slots with 1,000,000 keys from one shard to another while clients write to them.
//!
//! `cargo bench -p holdfast-server --bench migration`
//!
//! `KEYS` (1000000) and `WRITERS` (8) change the size. Every acknowledged write is read back in the end.

mod support;

use std::time::{Duration, Instant};

use support::harness::client::encode;
use support::harness::cluster::PATIENCE;
use support::harness::router::slot_of;
use support::harness::{Client, Cluster, Load};
use support::{ms, setting};

const SLOTS: u16 = 1000;
const VALUE: [u8; 100] = [b'v'; 100];

fn main() {
    let keys = setting("KEYS", 1_000_000);
    let writers = setting("WRITERS", 8) as usize;
    let mut cluster = Cluster::in_dir(&support::output_dir());
    let (shards, _) = cluster.add_durable_shards(2);
    let [source, target] = [cluster.primary_of(0), shards[1][0]];
    let tags = tags();

    let begin = Instant::now();
    fill(cluster.port(source), &tags, keys);
    println!(
        "filled {keys} keys in {SLOTS} slots in {:.1} s",
        begin.elapsed().as_secs_f64()
    );

    let prefixes = (0..writers)
        .map(|w| format!("{{{}}}:load", tags[w * 7 % tags.len()]))
        .collect();
    let load = Load::start_each(cluster.data_ports(), prefixes, Duration::ZERO);
    load.wait_for(5000, PATIENCE);
    let id = cluster.id(target);
    let before = load.acknowledged();
    let begin = Instant::now();
    cluster.client(source).ok(&format!(
        "CLUSTER MIGRATESLOTS SLOTSRANGE 0 {} NODE {id}",
        SLOTS - 1
    ));
    let deadline = begin + Duration::from_secs(600);
    while cluster.primary_of(0) != target || cluster.primary_of(SLOTS - 1) != target {
        assert!(Instant::now() < deadline, "not moved within 600 s");
        std::thread::sleep(Duration::from_millis(20));
    }
    let elapsed = begin.elapsed();
    let written = load.acknowledged() - before;
    load.wait_for(5000, PATIENCE);
    let report = load.finish();
    println!(
        "moved in {:.2} s under {:.0} writes/s; the longest that any write waited: {}; {} refused, {} unknown",
        elapsed.as_secs_f64(),
        written as f64 / elapsed.as_secs_f64(),
        ms(report.longest_write()),
        report.refused(),
        report.unknown()
    );
    if let Some(since) = report.longest_write_since() {
        println!(
            "that write began {:.2} s into the move; without any acknowledgement: {}",
            since.saturating_duration_since(begin).as_secs_f64(),
            ms(report.longest_gap())
        );
    }
    let count = report.assert_nothing_lost(&mut cluster.router());
    let left: u64 = cluster
        .client(target)
        .ask("DBSIZE")
        .parse()
        .expect("a number");
    assert!(left >= keys, "only {left} keys on the target");
    println!("{count} acknowledged writes read back, {left} keys on the target");
}

/// A hash tag for each of the slots.
fn tags() -> Vec<String> {
    let mut tags: Vec<Option<String>> = vec![None; usize::from(SLOTS)];
    let mut missing = tags.len();
    for n in 0u64.. {
        if missing == 0 {
            break;
        }
        let tag = format!("t{n}");
        let slot = slot_of(tag.as_bytes());
        if slot < SLOTS && tags[usize::from(slot)].is_none() {
            tags[usize::from(slot)] = Some(tag);
            missing -= 1;
        }
    }
    tags.into_iter().flatten().collect()
}

fn fill(port: u16, tags: &[String], keys: u64) {
    use std::io::Write;
    let mut client = Client::connect(port).expect("connected");
    let mut batch = Vec::new();
    let mut due = 0;
    for n in 0..keys {
        let key = format!("{{{}}}:{n}", tags[(n % tags.len() as u64) as usize]);
        encode(&mut batch, &[b"SET", key.as_bytes(), &VALUE]);
        due += 1;
        if due == 1000 || n + 1 == keys {
            client.stream.write_all(&batch).expect("sent");
            batch.clear();
            for _ in 0..due {
                let reply = client.receive().expect("answered");
                assert!(reply.is_ok(), "{reply:?}");
            }
            due = 0;
        }
    }
}
