//! SET and GET beside Valkey: one thread each, `durability async`, valkey-benchmark with 50 clients.
//!
//! `cargo bench -p holdfast-server --bench throughput`
//!
//! The two servers take turns, so that both see the same machine; the median of the rounds counts.
//! `ROUNDS` (5) and `REQUESTS` (200000; four times as many at 16 deep) change the length.

mod support;

use std::process::Command;

use support::chart::{self, Series};
use support::harness::{Cluster, NodeRef};
use support::{percentile, process, setting, valkey_server, version};

struct Server {
    name: &'static str,
    node: NodeRef,
}

#[derive(Clone, Copy, Default)]
struct Sample {
    per_second: f64,
    cpu_us: f64,
}

fn main() {
    let rounds = setting("ROUNDS", 5);
    let requests = setting("REQUESTS", 200_000);
    let valkey = valkey_server();
    println!("Holdfast beside {}", version(&valkey));

    let mut cluster = Cluster::in_dir(&support::output_dir());
    let lone = ["cluster-enabled no", "save \"\"", "appendonly no"];
    let servers = [
        Server {
            name: "holdfast",
            node: cluster.add_node(&lone),
        },
        Server {
            name: "valkey",
            node: cluster.add_program(valkey, &lone, false),
        },
    ];
    cluster.start_all();

    let cases = [("SET", 1), ("GET", 1), ("SET", 16), ("GET", 16)];
    let mut groups = Vec::new();
    let mut chart = [Vec::new(), Vec::new()];
    println!(
        "{:<12}{:>14}{:>14}{:>8}{:>16}{:>14}",
        "", "holdfast", "valkey", "ratio", "holdfast CPU", "valkey CPU"
    );
    for (command, depth) in cases {
        let mut samples = [Vec::new(), Vec::new()];
        for _ in 0..rounds {
            for (server, samples) in servers.iter().zip(&mut samples) {
                samples.push(measure(&cluster, server, command, depth, requests));
            }
        }
        let [ours, theirs] = samples.map(|mut s| {
            let mut cpu: Vec<f64> = s.iter().map(|s| s.cpu_us).collect();
            cpu.sort_by(f64::total_cmp);
            s.sort_by(|a, b| a.per_second.total_cmp(&b.per_second));
            Sample {
                per_second: percentile(&s.iter().map(|s| s.per_second).collect::<Vec<_>>(), 50.0),
                cpu_us: percentile(&cpu, 50.0),
            }
        });
        println!(
            "{:<12}{:>12.0}/s{:>12.0}/s{:>8.2}{:>13.2} us{:>11.2} us",
            format!("{command} -P {depth}"),
            ours.per_second,
            theirs.per_second,
            ours.per_second / theirs.per_second,
            ours.cpu_us,
            theirs.cpu_us
        );
        groups.push(format!("{command} -P {depth}"));
        chart[0].push(ours.per_second);
        chart[1].push(theirs.per_second);
    }
    let series: Vec<Series> = servers
        .iter()
        .zip(chart)
        .map(|(server, values)| Series {
            name: server.name.to_owned(),
            values,
        })
        .collect();
    let path = chart::bars(
        "throughput",
        "Requests a second, 50 clients, one thread",
        "1/s",
        &groups,
        &series,
    );
    println!("chart: {}", path.display());
}

fn measure(cluster: &Cluster, server: &Server, command: &str, depth: u64, requests: u64) -> Sample {
    let requests = if depth > 1 { requests * 4 } else { requests };
    let port = cluster.port(server.node).to_string();
    let pid = cluster.pid(server.node);
    let before = process::cpu_time(pid);
    let output = Command::new("valkey-benchmark")
        .args([
            "-p",
            &port,
            "-t",
            &command.to_lowercase(),
            "-c",
            "50",
            "-P",
            &depth.to_string(),
        ])
        .args([
            "-n",
            &requests.to_string(),
            "-r",
            "100000",
            "-d",
            "16",
            "--csv",
        ])
        .output()
        .expect("valkey-benchmark is installed");
    let cpu = process::cpu_time(pid) - before;
    let text = String::from_utf8_lossy(&output.stdout);
    let per_second = text
        .lines()
        .find(|line| line.starts_with(&format!("\"{command}\"")))
        .and_then(|line| line.split(',').nth(1)?.trim_matches('"').parse().ok())
        .unwrap_or_else(|| panic!("valkey-benchmark on {}: {text}", server.name));
    Sample {
        per_second,
        cpu_us: cpu.as_secs_f64() * 1e6 / requests as f64,
    }
}
