//! Durable writes beside Valkey: SET at 50 and at 500 clients, every write on two disks before it is acknowledged.
//!
//! `cargo bench -p holdfast-server --bench quorum`
//!
//! Holdfast: two data nodes and a witness, `durability quorum`. Valkey: a primary and a replica, both with
//! `appendonly yes` and `appendfsync always`, and after each SET a `WAIT 1` in the same packet. The same load generator,
//! the same disk. `cpu` is what all servers of one side used for a write, the replica and the witness among them. `SECONDS` (10) and `ROUNDS` (3) change the length.

mod support;

use std::time::Duration;

use support::chart::{self, Series};
use support::generator::{self, Figures, Spec};
use support::harness::client::encode;
use support::harness::{Client, Cluster};
use support::process::cpu_time;
use support::{ms, percentile, setting, valkey_server, version};

const VALUE: [u8; 100] = [b'x'; 100];
const KEYS: u64 = 100_000;

fn main() {
    let seconds = setting("SECONDS", 10);
    let rounds = setting("ROUNDS", 3);
    let valkey = valkey_server();
    println!("Holdfast (2 data nodes + witness, durability quorum)");
    println!(
        "beside {} (appendfsync always, replica, WAIT 1)\n",
        version(&valkey)
    );

    let mut ours = Cluster::in_dir(&support::output_dir());
    let [a, b, witness] = ours.add_durable_shard();
    let our_pids = [a, b, witness].map(|node| ours.pid(node));

    let mut theirs = Cluster::in_dir(&support::output_dir());
    let config = [
        "cluster-enabled no",
        "save \"\"",
        "appendonly yes",
        "appendfsync always",
    ];
    let valkey_primary = theirs.add_program(valkey.clone(), &config, false);
    let valkey_replica = theirs.add_program(valkey, &config, false);
    theirs.start_all();
    theirs.client(valkey_replica).ok(&format!(
        "REPLICAOF 127.0.0.1 {}",
        theirs.port(valkey_primary)
    ));
    theirs.wait("the replica to be level", |c| {
        c.client(valkey_replica)
            .info("replication", "master_link_status")
            .as_deref()
            == Some("up")
    });

    let their_pids = [valkey_primary, valkey_replica].map(|node| theirs.pid(node));

    let set = |out: &mut Vec<u8>, n: u64| {
        let key = format!("key:{}", n.wrapping_mul(0x9E37_79B9_7F4A_7C15) % KEYS);
        encode(out, &[b"SET", key.as_bytes(), &VALUE]);
    };
    let set_and_wait = |out: &mut Vec<u8>, n: u64| {
        set(out, n);
        encode(out, &[b"WAIT", b"1", b"0"]);
    };

    println!(
        "{:<10}{:<10}{:>12}{:>12}{:>12}{:>12}{:>12}",
        "clients", "", "writes/s", "p50", "p99", "max", "cpu"
    );
    let mut groups = Vec::new();
    let mut chart = [Vec::new(), Vec::new()];
    for clients in [50, 500] {
        let mut best: [Vec<(Figures, f64)>; 2] = [Vec::new(), Vec::new()];
        for _ in 0..rounds {
            let spec = |port, request, replies| Spec {
                port,
                connections: clients,
                warm_up: Duration::from_secs(1),
                duration: Duration::from_secs(seconds),
                request,
                replies,
            };
            let primary = ours.primary_of(0);
            best[0].push(measured(&our_pids, &spec(ours.port(primary), &set, 1)));
            let port = theirs.port(valkey_primary);
            best[1].push(measured(&their_pids, &spec(port, &set_and_wait, 2)));
        }
        let mut rates = Vec::new();
        for (name, mut figures) in ["holdfast", "valkey"].into_iter().zip(best) {
            figures.sort_by(|(a, _), (b, _)| a.per_second().total_cmp(&b.per_second()));
            let (median, cpu) = &figures[figures.len() / 2];
            println!(
                "{clients:<10}{name:<10}{:>12.0}{:>12}{:>12}{:>12}{cpu:>9.2} us",
                median.per_second(),
                ms(percentile(&median.latencies, 50.0)),
                ms(percentile(&median.latencies, 99.0)),
                ms(percentile(&median.latencies, 100.0)),
            );
            if median.errors > 0 {
                println!(
                    "          {} errors, the first: {:?}",
                    median.errors, median.first_error
                );
            }
            rates.push(median.per_second());
        }
        println!(
            "{clients:<10}{:<10}{:>11.2}x\n",
            "ratio",
            rates[0] / rates[1]
        );
        groups.push(format!("{clients} clients"));
        chart[0].push(rates[0]);
        chart[1].push(rates[1]);
    }
    let [holdfast, valkey] = chart;
    let series = [
        Series {
            name: "holdfast quorum".into(),
            values: holdfast,
        },
        Series {
            name: "valkey fsync always + WAIT 1".into(),
            values: valkey,
        },
    ];
    let path = chart::bars("quorum", "Durable writes a second", "1/s", &groups, &series);
    println!("chart: {}", path.display());
    // Both must still answer, so that a figure is not that of a server on its knees.
    let primary = ours.primary_of(0);
    for port in [ours.port(primary), theirs.port(valkey_primary)] {
        assert_eq!(
            Client::connect(port).expect("connected").ask("PING"),
            "PONG"
        );
    }
}

/// Runs the load; also returns the microseconds of processor time that the servers used for a request.
fn measured(pids: &[u32], spec: &Spec) -> (Figures, f64) {
    let used = || pids.iter().map(|pid| cpu_time(*pid)).sum::<Duration>();
    let before = used();
    let figures = generator::run(spec);
    let cpu = (used() - before).as_secs_f64() * 1e6 / figures.sent.max(1) as f64;
    (figures, cpu)
}
