//! valkey-cli and valkey-benchmark, unchanged.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::harness::{Cluster, Load, NodeRef};
use crate::tools;

const PATIENCE: Duration = Duration::from_secs(240);

fn cli() -> Option<PathBuf> {
    let found = tools::find("valkey-cli");
    if found.is_none() {
        tools::skipped("valkey-cli", "it is not installed (package valkey-tools)");
    }
    found
}

/// Runs valkey-cli; it must succeed. Returns what it wrote.
fn valkey_cli(cli: &Path, args: &[&str]) -> String {
    let (success, output) = tools::run(Command::new(cli).args(args), PATIENCE);
    assert!(success, "valkey-cli {}:\n{output}", args.join(" "));
    output
}

fn address(cluster: &Cluster, node: NodeRef) -> String {
    format!("127.0.0.1:{}", cluster.port(node))
}

#[test]
fn a_cluster_made_and_changed_by_valkey_cli() {
    let Some(cli) = cli() else { return };
    let mut cluster = Cluster::new();
    let nodes: Vec<NodeRef> = (0..3)
        .map(|_| cluster.add_node(&["durability quorum"]))
        .collect();
    cluster.start_all();
    let addresses: Vec<String> = nodes.iter().map(|n| address(&cluster, *n)).collect();

    let mut create = vec!["--cluster", "create"];
    create.extend(addresses.iter().map(String::as_str));
    create.extend(["--cluster-replicas", "0", "--cluster-yes"]);
    let output = valkey_cli(&cli, &create);
    assert!(output.contains("All 16384 slots covered"), "{output}");
    cluster.wait_well();
    wait_checked(&mut cluster, &cli, nodes[0]);
    let output = valkey_cli(&cli, &["--cluster", "info", &addresses[0]]);
    assert!(
        output.contains("3 primaries") || output.contains("3 masters"),
        "{output}"
    );

    let load = Load::start(&cluster, "cli", 2);
    load.wait_for(1000, PATIENCE);

    // A fourth shard, empty; then some slots by hand; then a small share of all.
    let fourth = cluster.add_node(&["durability quorum"]);
    cluster.start(fourth);
    let new = address(&cluster, fourth);
    valkey_cli(&cli, &["--cluster", "add-node", &new, &addresses[0]]);
    cluster.wait_acquainted();
    wait_checked(&mut cluster, &cli, nodes[0]);
    let (from, to) = (cluster.id(nodes[0]), cluster.id(fourth));
    let reshard = [
        "--cluster",
        "reshard",
        &addresses[0],
        "--cluster-from",
        &from,
        "--cluster-to",
        &to,
    ];
    valkey_cli(
        &cli,
        &[&reshard[..], &["--cluster-slots", "20", "--cluster-yes"]].concat(),
    );
    wait_checked(&mut cluster, &cli, fourth);
    valkey_cli(
        &cli,
        &[
            "--cluster",
            "rebalance",
            &addresses[0],
            "--cluster-weight",
            &format!("{to}=0.01"),
        ],
    );
    wait_checked(&mut cluster, &cli, fourth);
    load.wait_for(500, PATIENCE);

    // And away again: all its slots to the first, then the node itself.
    let slots = cluster.client(fourth).ask("CLUSTER NODES");
    let own: u32 = slots
        .lines()
        .filter(|l| l.contains("myself"))
        .flat_map(|l| l.split_ascii_whitespace().skip(8))
        .map(|r| {
            let (a, b) = r.split_once('-').unwrap_or((r, r));
            b.parse::<u32>().unwrap_or(0) + 1 - a.parse::<u32>().unwrap_or(0)
        })
        .sum();
    let own = own.to_string();
    let reshard = [
        "--cluster",
        "reshard",
        &addresses[0],
        "--cluster-from",
        &to,
        "--cluster-to",
        &from,
    ];
    valkey_cli(
        &cli,
        &[&reshard[..], &["--cluster-slots", &own, "--cluster-yes"]].concat(),
    );
    wait_checked(&mut cluster, &cli, nodes[0]);
    load.wait_for(500, PATIENCE);
    let report = load.finish();
    valkey_cli(&cli, &["--cluster", "del-node", &addresses[0], &to]);
    cluster.kill(fourth);
    report.assert_nothing_lost(&mut crate::harness::Router::new(
        nodes.iter().map(|n| cluster.port(*n)).collect(),
    ));
}

/// The nodes need a moment to agree after each change.
fn wait_checked(cluster: &mut Cluster, cli: &Path, node: NodeRef) {
    let address = address(cluster, node);
    cluster.wait("valkey-cli --cluster check to be content", |_| {
        let (success, output) = tools::run(
            Command::new(cli).args(["--cluster", "check", &address]),
            PATIENCE,
        );
        success && output.contains("All 16384 slots covered") && !output.contains("[ERR]")
    });
}

#[test]
fn following_redirections_with_dash_c() {
    let Some(cli) = cli() else { return };
    let (mut cluster, ..) = Cluster::durable_shards(2);
    let node = cluster.primary_of(0);
    let port = cluster.port(node).to_string();
    for (key, value) in [("a", "1"), ("b", "2"), ("c", "3"), ("d", "4")] {
        assert_eq!(
            valkey_cli(&cli, &["-c", "-p", &port, "set", key, value]).trim(),
            "OK"
        );
        assert_eq!(
            valkey_cli(&cli, &["-c", "-p", &port, "get", key]).trim(),
            value
        );
    }
    let moved = (0..64).map(|n| {
        let (_, output) = tools::run(
            Command::new(&cli).args(["-p", &port, "get", &format!("key{n}")]),
            PATIENCE,
        );
        output
    });
    assert!(
        moved.into_iter().any(|o| o.starts_with("MOVED ")),
        "no key was elsewhere"
    );
}

#[test]
fn valkey_benchmark_runs_through() {
    let Some(benchmark) = tools::find("valkey-benchmark") else {
        return tools::skipped(
            "valkey-benchmark",
            "it is not installed (package valkey-tools)",
        );
    };
    let mut cluster = Cluster::new();
    let node = cluster.add_node(&["cluster-enabled no"]);
    cluster.start(node);
    let port = cluster.port(node).to_string();
    let tests =
        "ping,set,get,incr,lpush,rpush,lpop,rpop,sadd,hset,spop,zadd,zpopmin,lrange_100,mset";
    let args = [
        "-p", &port, "-q", "-n", "5000", "-c", "50", "-P", "4", "-t", tests,
    ];
    let (success, output) = tools::run(Command::new(benchmark).args(args), PATIENCE);
    assert!(success && !output.contains("rror"), "{output}");
    assert!(output.contains("MSET"), "{output}");
}
