//! What a node says of itself.

use holdfast_resp::reply::Reply;

use crate::harness::Cluster;

/// `INFO` of a single node of a cluster, and what only the control thread knows of it.
#[test]
fn info_has_the_lines_of_cluster_info() {
    let mut cluster = Cluster::new();
    let node = cluster.add_node(&[]);
    cluster.start(node);
    let mut client = cluster.client(node);
    let lines = |text: &str| {
        let section = text.split("# Cluster Info\r\n").nth(1).unwrap_or_default();
        let section = section.split("\r\n\r\n").next().unwrap_or_default();
        let names = section.lines().filter_map(|l| l.split(':').next());
        names.map(str::to_owned).collect::<Vec<_>>()
    };
    let alone = client.ask("INFO cluster_info");
    assert!(
        alone.starts_with("# Cluster Info\r\ncluster_state:"),
        "{alone}"
    );
    let names = lines(&alone);
    assert!(names.contains(&"cluster_known_nodes".into()), "{alone}");
    for all in ["all", "everything"] {
        let text = client.ask(&format!("INFO {all}"));
        assert_eq!(lines(&text), names, "{text}");
        let (before, behind) = text.split_once("# Cluster Info").expect("the section");
        assert!(before.contains("\r\n# Cluster\r\n"), "{before}");
        assert!(
            behind.contains("\r\n\r\n# Scripting Engines\r\n"),
            "{behind}"
        );
    }
    assert!(!client.ask("INFO").contains("Cluster Info"));
    // Replies keep their order, though one comes from another thread.
    client.send(&[b"INFO", b"cluster_info"]).expect("sent");
    client.send(&[b"PING"]).expect("sent");
    let first = client.receive().expect("a reply");
    let text = String::from_utf8_lossy(first.as_bytes().expect("a text")).into_owned();
    assert_eq!(lines(&text), names);
    assert_eq!(
        client.receive().expect("a reply").as_bytes(),
        Some(&b"PONG"[..])
    );
    // A transaction cannot wait for it.
    client.ok("MULTI");
    client.run("INFO cluster_info");
    let Reply::Array(replies) = client.run("EXEC") else {
        panic!("no replies");
    };
    assert_eq!(replies[0].as_bytes(), Some(&b"# Cluster Info\r\n"[..]));
}

/// What is announced is told as long as it is set, and the real figures again afterwards.
#[test]
fn what_is_announced_can_be_changed_and_taken_back() {
    let mut cluster = Cluster::new();
    let node = cluster.add_node(&["cluster-announce-port 7000", "availability-zone here"]);
    cluster.start(node);
    cluster.add_slots(node, 0, 16383);
    let mut client = cluster.client(node);
    let [bus, _] = cluster.inner_ports(node);
    let own = cluster.port(node);
    let mut announced = |settings: &str, address: String, shown: &[(&str, i64)]| {
        client.ok(&format!("CONFIG SET {settings}"));
        let nodes = client.ask("CLUSTER NODES");
        let expected = format!(":{address}");
        assert!(nodes.contains(&expected), "{settings}: {nodes}");
        let shards = format!("{:?}", client.run("CLUSTER SHARDS"));
        for (name, value) in shown {
            let pair = [Reply::Bulk(name.as_bytes().to_vec()), Reply::Int(*value)];
            let pair = format!("{pair:?}");
            let pair = pair.trim_matches(['[', ']']);
            assert!(shards.contains(pair), "{settings}: {shards}");
        }
    };
    let plain = format!("7000@{bus} ");
    announced("timeout 0", plain.clone(), &[("port", 7000)]);
    announced(
        "cluster-announce-tls-port 7001",
        plain.clone(),
        &[("tls-port", 7001)],
    );
    announced(
        "cluster-announce-tls-port 0",
        plain.clone(),
        &[("port", 7000)],
    );
    announced("cluster-announce-bus-port 7777", "7000@7777 ".into(), &[]);
    announced("cluster-announce-bus-port 0", plain, &[]);
    let for_clients = format!("7002@{bus} ");
    announced(
        "cluster-announce-client-port 7002",
        for_clients,
        &[("port", 7002)],
    );
    let real = format!("{own}@{bus} ");
    announced(
        "cluster-announce-port 0 cluster-announce-client-port 0",
        real,
        &[("port", own.into())],
    );
    let slots = format!("{:?}", client.run("CLUSTER SLOTS"));
    let zone = format!("{:?}", Reply::Bulk(b"here".to_vec()));
    assert!(slots.contains(&zone), "{slots}");
}

#[test]
fn odd_arguments_are_answered_as_by_valkey() {
    let mut cluster = Cluster::new();
    let node = cluster.add_node(&["cluster-enabled no", "enable-debug-command yes"]);
    cluster.start(node);
    let mut client = cluster.client(node);
    for (line, error) in [
        (
            "PUBSUB CHANNELS a b",
            "ERR unknown subcommand or wrong number of arguments for 'CHANNELS'. Try PUBSUB HELP.",
        ),
        ("DEBUG ERROR odd", "odd"),
        (
            "CONFIG SET slowlog-max-len -1",
            "ERR CONFIG SET failed (possibly related to argument 'slowlog-max-len') - \
             argument must be between 0 and 9223372036854775807 inclusive",
        ),
        (
            "CONFIG SET cluster-announce-hostname a_b",
            "ERR CONFIG SET failed (possibly related to argument 'cluster-announce-hostname') - \
             Hostnames may only contain alphanumeric characters, hyphens or dots",
        ),
    ] {
        assert_eq!(client.error(line), error, "{line}");
    }
}
