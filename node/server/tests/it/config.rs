//! Configuration: what is wrong is named, with its place.

use std::process::Command;
use std::time::Duration;

use crate::harness::Cluster;
use crate::harness::cluster::server_program;
use crate::tools;

/// Starts the server with this configuration file; it must refuse. Returns what it said.
fn refusal(config: &str) -> String {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let file = dir.path().join("node.conf");
    std::fs::write(&file, config).expect("written");
    let (success, output) = tools::run(
        Command::new(server_program())
            .arg(&file)
            .current_dir(dir.path()),
        Duration::from_secs(10),
    );
    assert!(!success, "started with {config:?}:\n{output}");
    assert!(!output.contains("panicked"), "{output}");
    output
}

#[test]
fn an_unknown_directive_is_named_with_its_line() {
    let text = refusal("port 0\n# a comment\nno-such-thing yes\n");
    assert!(
        text.contains("node.conf") && text.contains('3') && text.contains("no-such-thing"),
        "{text}"
    );
}

#[test]
fn a_bad_value_is_named_with_its_line() {
    let text = refusal("port seventy\n");
    assert!(text.contains("port") && text.contains('1'), "{text}");
    let text = refusal("\ndurability maybe\n");
    assert!(text.contains("durability") && text.contains('2'), "{text}");
}

#[test]
fn a_missing_file_is_named() {
    let (success, output) = tools::run(
        Command::new(server_program()).arg("/no/such/file.conf"),
        Duration::from_secs(10),
    );
    assert!(
        !success && output.contains("/no/such/file.conf"),
        "{output}"
    );
}

#[test]
fn a_port_in_use_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("bound").port().to_string();
    let dir = tempfile::tempdir().expect("a temporary folder");
    let (success, output) = tools::run(
        Command::new(server_program())
            .args(["--port", &port, "--bind", "127.0.0.1"])
            .current_dir(dir.path()),
        Duration::from_secs(10),
    );
    assert!(!success && output.contains(&port), "{output}");
}

#[test]
fn to_listen_nowhere_is_refused() {
    for text in ["port 0\n", "port 7000\nbind \"\"\n"] {
        let said = refusal(text);
        assert!(
            said.contains("Configured to not listen anywhere, exiting."),
            "{text:?}: {said}"
        );
    }
}

#[test]
fn directives_on_the_command_line_win() {
    let mut cluster = Cluster::new();
    let node = cluster.add_node(&["maxclients 100"]);
    let mut command = cluster.command(node);
    let mut child = command
        .args(["--maxclients", "200"])
        .spawn()
        .expect("started");
    cluster.wait("the node to answer", |cluster| {
        crate::harness::Client::connect(cluster.port(node)).is_ok()
    });
    let reply = cluster.client(node).run("CONFIG GET maxclients");
    child.kill().expect("killed");
    child.wait().expect("waited for");
    assert!(
        format!("{reply:?}").contains(&format!("{:?}", b"200".to_vec())),
        "{reply:?}"
    );
}

#[test]
fn the_example_file_is_accepted() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let mut cluster = Cluster::new();
    let node = cluster.add_node(&[]);
    let port = cluster.port(node);
    let example = tools::workspace().join("deploy/holdfast.conf");
    let mut child = Command::new(server_program())
        .arg(example)
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--dir"])
        .arg(dir.path())
        .args([
            "--raft-port",
            &(port + 20_000).to_string(),
            "--logfile",
            "",
            "--pidfile",
            "",
        ])
        .spawn()
        .expect("started");
    cluster.wait("the node to answer", |_| {
        crate::harness::Client::connect(port).is_ok()
    });
    let answer = crate::harness::Client::connect(port)
        .expect("connected")
        .ask("PING");
    child.kill().expect("killed");
    child.wait().expect("waited for");
    assert_eq!(answer, "PONG");
}
