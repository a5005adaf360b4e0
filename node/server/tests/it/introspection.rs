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
    let node = cluster.add_node(&["cluster-enabled no", "enable-protected-configs yes"]);
    cluster.start(node);
    let mut client = cluster.client(node);
    for (line, error) in [
        (
            "PUBSUB CHANNELS a b",
            "ERR unknown subcommand or wrong number of arguments for 'CHANNELS'. Try PUBSUB HELP.",
        ),
        ("DEBUG ERROR odd", "odd"),
        (
            "CONFIG SET dir /no/such/folder",
            "ERR CONFIG SET failed (possibly related to argument 'dir') - No such file or directory",
        ),
        (
            "CONFIG SET bind no-such-host.invalid",
            "ERR CONFIG SET failed (possibly related to argument 'bind') - \
             Failed to bind to specified addresses.",
        ),
        (
            "CLUSTER FOO",
            "ERR unknown subcommand 'FOO'. Try CLUSTER HELP.",
        ),
        (
            "CLUSTER INFO",
            "ERR This instance has cluster support disabled",
        ),
        (
            "LOLWUT 1",
            "ERR Syntax error. Use: LOLWUT [columns rows] [real imaginary]",
        ),
        (
            "LOLWUT VERSION",
            "ERR Syntax error. Use: LOLWUT [columns rows] [real imaginary]",
        ),
        ("LOLWUT VERSION 9 1 2 3 x", "ERR value is not a valid float"),
        (
            "LOLWUT VERSION 5 1 2 x",
            "ERR value is not an integer or out of range",
        ),
        (
            "LOLWUT VERSION 6 1 x",
            "ERR value is not an integer or out of range",
        ),
        (
            "CLIENT SETINFO Lib-Name \u{fc}",
            "ERR Lib-Name cannot contain spaces, newlines or special characters.",
        ),
        ("DEBUG LISTPACK nothing", "ERR no such key"),
        (
            "DEBUG CLIENT-EVICTION",
            "ERR maxmemory-clients is disabled.",
        ),
        (
            "DEBUG PROTOCOL push",
            "ERR RESP2 is not supported by this command",
        ),
        (
            "DEBUG HTSTATS x",
            "ERR value is not an integer or out of range",
        ),
        (
            "DEBUG QUICKLIST-PACKED-THRESHOLD 4gb",
            "ERR argument must be a memory value bigger than 1 and smaller than 4gb",
        ),
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
    let unknown = client.run("COMMAND INFO nosuch");
    assert!(matches!(unknown, Reply::Array(all) if matches!(&all[..], [Reply::Null])));
    for line in ["LOLWUT", "LOLWUT 3 2", "LOLWUT VERSION 6 3 2 x"] {
        let text = client.ask(line);
        assert!(text.contains("\n\nHoldfast "), "{line}: {text}");
    }
    assert!(client.ask("LOLWUT 3 2").starts_with(|c| " #".contains(c)));
    assert_eq!(client.ask("LOLWUT 3 2").find('\n'), Some(3));
    assert!(client.ask("LOLWUT VERSION 7 x").starts_with("Holdfast "));
}

#[test]
fn values_and_clients_are_described_to_those_who_debug() {
    let mut cluster = Cluster::new();
    let node = cluster.add_node(&["cluster-enabled no", "maxmemory-clients 100mb"]);
    cluster.start(node);
    let mut client = cluster.client(node);
    client.run("HSET h f v");
    client.ok("SET s v");
    let told = client.ask("DEBUG LISTPACK h");
    assert_eq!(told, "Listpack structure printed on stdout");
    assert!(cluster.log(node).contains("listpack \"h\": "));
    let refused = client.error("DEBUG LISTPACK s");
    assert_eq!(refused, "ERR Not a listpack encoded object.");
    let refused = client.error("DEBUG QUICKLIST h 1");
    assert_eq!(refused, "ERR Not a quicklist encoded object.");
    let text = client.ask("DEBUG CLIENT-EVICTION");
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 19, "{text}");
    assert!(lines[0].starts_with("bucket          0 -      32767: tot-mem: "));
    assert!(lines[0].ends_with(", clients: 1"), "{text}");
    let last = "bucket 4294967296+            : tot-mem:          0, clients: 0";
    assert_eq!(lines[18], last);
    assert!(client.ask("DEBUG OBJECT h").contains(" serializedlength:"));
    assert!(
        !client
            .ask("DEBUG OBJECT h fast")
            .contains(" serializedlength:")
    );
    client.run("HELLO 3");
    let reply = client.ask("DEBUG PROTOCOL push");
    assert_eq!(reply, "Some real reply following the push reply");
    client.receive().expect("the push message behind it");
    let counts = client.run("PUBSUB NUMSUB a b");
    assert!(
        matches!(&counts, Reply::Array(all) if all.len() == 4),
        "{counts:?}"
    );
    client.run("HELLO 2");
    let id = |client: &mut crate::harness::Client| client.info("replication", "master_replid");
    let before = id(&mut client);
    client.ok("DEBUG CHANGE-REPL-ID");
    assert_ne!(id(&mut client), before);
}

/// Who has had a transaction, or watched, has none of so many commands from then on.
#[test]
fn transactions_are_seen_in_the_list_of_clients() {
    let mut cluster = Cluster::new();
    let node = cluster.add_node(&["cluster-enabled no"]);
    cluster.start(node);
    for begin in ["MULTI", "WATCH k"] {
        let mut client = cluster.client(node);
        let multi = |client: &mut crate::harness::Client| {
            let line = client.ask("CLIENT INFO");
            let word = line.split(' ').find_map(|w| w.strip_prefix("multi="));
            word.map(str::to_owned).expect("the field")
        };
        assert_eq!(multi(&mut client), "-1", "{begin}");
        client.ok(begin);
        if begin == "MULTI" {
            client.ok("DISCARD");
        }
        assert_eq!(multi(&mut client), "0", "{begin}");
        assert_eq!(client.ask("RESET"), "RESET");
        assert_eq!(multi(&mut client), "0", "{begin}");
    }
}

#[test]
fn a_process_can_be_made_to_end_as_by_a_bug() {
    let mut cluster = Cluster::new();
    for how in ["PANIC", "ASSERT", "SEGFAULT"] {
        let node = cluster.add_node(&[]);
        cluster.start(node);
        let mut client = cluster.client(node);
        assert!(client.try_run(&format!("DEBUG {how}")).is_err());
        cluster.wait("the log to say so", |cluster| {
            cluster.log(node).contains(&format!("DEBUG {how}"))
        });
    }
}
