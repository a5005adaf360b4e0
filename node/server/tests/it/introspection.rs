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
