//! Configuration: what is wrong is named, with its place.

use std::process::Command;
use std::time::Duration;

use crate::harness::client::Reply;
use crate::harness::cluster::server_program;
use crate::harness::{Cluster, text};
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
fn an_unknown_host_is_named() {
    for bind in ["no-such-host.invalid", "127.0.0.1 -no-such-host.invalid"] {
        let port = crate::harness::cluster::free_port();
        let said = refusal(&format!("port {port}\nbind {bind}\n"));
        for text in [
            format!(
                "Warning: Could not create server TCP listening socket no-such-host.invalid:{port}: "
            ),
            format!("Failed listening on port {port} (tcp), aborting."),
        ] {
            assert!(said.contains(&text), "{bind}: {said}");
        }
        assert!(!said.contains("lookup"), "{said}");
    }
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

/// What `ps` shows of a process.
#[cfg(target_os = "linux")]
fn title_of(pid: u32) -> String {
    let bytes = std::fs::read(format!("/proc/{pid}/cmdline")).expect("a running process");
    let title = String::from_utf8(bytes).expect("text");
    title.trim_end_matches('\0').to_string()
}

#[cfg(target_os = "linux")]
#[test]
fn the_title_of_the_process_says_where_it_listens() {
    let mut cluster = Cluster::new();
    let node = cluster.add_node(&["cluster-enabled no"]);
    // The arguments are shorter than the titles below; what lies behind them is the environment.
    let mut command = cluster.command(node);
    let mut child = command
        .env("LONG", "x".repeat(500))
        .spawn()
        .expect("started");
    let pid = child.id();
    let port = cluster.port(node);
    cluster.wait("the node to answer", |_| {
        crate::harness::Client::connect(port).is_ok()
    });
    let program = server_program().display().to_string();
    assert_eq!(title_of(pid), format!("{program} 127.0.0.1:{port}"));

    let mut client = cluster.client(node);
    let mut set = |template: &str| {
        let args = ["CONFIG", "SET", "proc-title-template", template].map(str::as_bytes);
        match client.try_call(&args).expect("answered") {
            Reply::Error(text) => String::from_utf8_lossy(&text).into_owned(),
            reply => text(&reply).unwrap_or_default(),
        }
    };
    let long = "t".repeat(300);
    let template = format!("{long} {{title}} {{port}} {{tls-port}} {{config-file}}");
    assert_eq!(set(&template), "OK");
    let file = cluster.dir().join(format!("node-{port}.conf"));
    let expect = format!("{long} {program} {port} 0 {}", file.display());
    assert_eq!(title_of(pid), expect);
    assert_eq!(
        set("{nothing}"),
        "ERR CONFIG SET failed (possibly related to argument 'proc-title-template') - \
         template format is invalid or contains unknown variables"
    );
    assert_eq!(title_of(pid), expect);
    assert_eq!(set("{port}"), "OK");
    assert_eq!(title_of(pid), port.to_string());

    let other = crate::harness::cluster::free_port();
    client.ok(&format!("CONFIG SET port {other}"));
    assert_eq!(title_of(pid), other.to_string());
    child.kill().expect("killed");
    child.wait().expect("waited for");
}

#[cfg(target_os = "linux")]
#[test]
fn the_title_stays_if_that_is_wanted() {
    let mut cluster = Cluster::new();
    let node = cluster.add_node(&["set-proc-title no"]);
    cluster.start(node);
    let mut client = cluster.client(node);
    client.ok("CONFIG SET proc-title-template other");
    let title = title_of(cluster.pid(node));
    let file = format!("node-{}.conf", cluster.port(node));
    assert!(title.ends_with(&file), "{title}");
}
