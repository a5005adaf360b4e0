//! `metrics-port`, and the dashboard that is drawn from it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::harness::cluster::free_port;
use crate::harness::{Cluster, NodeRef};

/// What the node answers to a request.
fn ask(port: u16, request: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("the port of the metrics");
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .expect("a limit");
    stream.write_all(request.as_bytes()).expect("room");
    let mut answer = String::new();
    // What came before the other side closed is the answer.
    let _ = stream.read_to_string(&mut answer);
    answer
}

/// All samples, by name and labels.
fn scrape(port: u16) -> BTreeMap<String, f64> {
    let answer = ask(port, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(
        head.contains(&format!("Content-Length: {}", body.len())),
        "{head}"
    );
    let mut samples = BTreeMap::new();
    let mut typed = BTreeSet::new();
    for line in body.lines() {
        if let Some(kind) = line.strip_prefix("# TYPE ") {
            let name = kind.split(' ').next().expect("a name").to_owned();
            assert!(typed.insert(name), "two groups: {line}");
            continue;
        }
        let (name, value) = line.rsplit_once(' ').expect("a sample");
        let value = value.parse().unwrap_or_else(|_| panic!("{line}"));
        let base = name.split('{').next().expect("a name");
        let of = ["_bucket", "_sum", "_count"]
            .iter()
            .find_map(|end| base.strip_suffix(end).filter(|b| typed.contains(*b)));
        assert!(typed.contains(of.unwrap_or(base)), "no type: {line}");
        assert!(
            samples.insert(name.to_owned(), value).is_none(),
            "twice: {line}"
        );
    }
    samples
}

/// The metrics that the dashboard names.
fn of_dashboard() -> BTreeSet<String> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/grafana.json");
    let text = std::fs::read_to_string(path).expect("the dashboard");
    let part = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    text.match_indices("holdfast_")
        .map(|(at, _)| text[at..].chars().take_while(|c| part(*c)).collect())
        .collect()
}

fn durable_node() -> (Cluster, NodeRef, u16) {
    let mut cluster = Cluster::new();
    let port = free_port();
    let node = cluster.add_node(&[
        "durability quorum",
        "cluster-slot-stats-enabled yes",
        &format!("metrics-port {port}"),
    ]);
    cluster.start(node);
    cluster.add_slots(node, 0, 16383);
    cluster.wait("the node to serve", |c| {
        c.client(node).run("SET warm 1").is_ok()
    });
    (cluster, node, port)
}

#[test]
fn every_metric_of_the_dashboard_is_there_and_tells_the_truth() {
    let (cluster, node, port) = durable_node();
    let mut client = cluster.client(node);
    client.ok("CONFIG RESETSTAT");
    for n in 0..20 {
        client.ok(&format!("SET {{a}}{n} v"));
    }
    client.ok("SET volatile 1 PX 1000000");
    client.error("LPUSH {a}1 x");
    let samples = scrape(port);
    let names: BTreeSet<&str> = samples
        .keys()
        .map(|name| name.split('{').next().expect("a name"))
        .collect();
    let wanted = of_dashboard();
    let missing: Vec<_> = wanted
        .iter()
        .filter(|n| !names.contains(n.as_str()))
        .collect();
    assert!(
        wanted.len() > 40 && missing.is_empty(),
        "missing: {missing:?}"
    );

    let at = |name: &str| *samples.get(name).unwrap_or_else(|| panic!("no {name}"));
    assert_eq!(at("holdfast_command_calls_total{command=\"set\"}"), 21.0);
    assert_eq!(at("holdfast_command_failed_total{command=\"lpush\"}"), 1.0);
    assert_eq!(at("holdfast_errors_total{error=\"WRONGTYPE\"}"), 1.0);
    assert_eq!(at("holdfast_db_keys{db=\"0\"}"), 22.0);
    assert_eq!(at("holdfast_durability_leading"), 1.0);
    assert!(at("holdfast_durability_durable") > 0.0);
    let histogram = "holdfast_command_duration_seconds";
    assert_eq!(at(&format!("{histogram}_count{{command=\"set\"}}")), 21.0);
    let buckets: Vec<f64> = samples
        .iter()
        .filter(|(name, _)| name.starts_with(&format!("{histogram}_bucket{{command=\"set\"")))
        .map(|(_, n)| *n)
        .collect();
    assert_eq!(buckets.len(), 22);
    assert_eq!(buckets.iter().copied().fold(0.0, f64::max), 21.0);
    let slot = client.ask("CLUSTER KEYSLOT {a}");
    assert_eq!(at(&format!("holdfast_slot_keys{{slot=\"{slot}\"}}")), 20.0);
    assert!(
        at(&format!(
            "holdfast_slot_received_bytes_total{{slot=\"{slot}\"}}"
        )) > 20.0 * 25.0
    );
    // Only slots with something are listed.
    let listed = samples
        .keys()
        .filter(|n| n.starts_with("holdfast_slot_keys"));
    assert_eq!(listed.count(), 3);
}

#[test]
fn other_requests_are_refused_and_silent_ones_harm_nobody() {
    let (cluster, node, port) = durable_node();
    let silent: Vec<TcpStream> = (0..6)
        .map(|_| TcpStream::connect(("127.0.0.1", port)).expect("a connection"))
        .collect();
    for (request, status) in [
        ("GET / HTTP/1.1\r\n\r\n", "404"),
        ("POST /metrics HTTP/1.1\r\n\r\n", "400"),
        ("nonsense\r\n\r\n", "400"),
        ("GET /metrics?x=1 HTTP/1.0\r\n\r\n", "200"),
    ] {
        let answer = ask(port, request);
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{request}: {answer}"
        );
    }
    let long = format!("GET /metrics HTTP/1.1\r\nX: {}\r\n", "x".repeat(9000));
    assert!(!ask(port, &long).contains("200 OK"));
    drop(silent);
    assert_eq!(cluster.client(node).ask("GET warm"), "1");
}
