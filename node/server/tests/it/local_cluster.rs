//! `holdfast local-cluster`, as a user runs it.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::cluster::free_port;
use crate::harness::{Client, Router};
use crate::tools;

const PATIENCE: Duration = Duration::from_secs(90);

/// One node of the JSON line.
#[derive(Debug)]
struct Node {
    id: String,
    role: String,
    port: u16,
    pid: u32,
}

struct Running {
    child: Child,
    dir: std::path::PathBuf,
    nodes: Vec<Node>,
}

/// Seven ports in a row, with room for those of the bus and of the log. No other test is given one of them.
fn base_port() -> u16 {
    loop {
        let ports: Vec<u16> = (0..7).map(|_| free_port()).collect();
        if ports.windows(2).all(|pair| pair[1] == pair[0] + 1) {
            return ports[0];
        }
    }
}

fn start(dir: &Path, port: u16, more: &[&str]) -> Running {
    let out = dir.with_extension("out");
    let err = dir.with_extension("err");
    let mut child = Command::new(env!("CARGO_BIN_EXE_holdfast"))
        .args([
            "local-cluster",
            "--json",
            "--port",
            &port.to_string(),
            "--dir",
        ])
        .arg(dir)
        .args(more)
        .stdin(Stdio::null())
        .stdout(File::create(&out).expect("a file"))
        .stderr(File::create(&err).expect("a file"))
        .spawn()
        .expect("started");
    let deadline = Instant::now() + PATIENCE;
    loop {
        let line = std::fs::read_to_string(&out).unwrap_or_default();
        if line.ends_with('\n') {
            assert_eq!(line.lines().count(), 1, "{line}");
            return Running {
                child,
                dir: dir.to_owned(),
                nodes: parse(line.trim()),
            };
        }
        let said = std::fs::read_to_string(&err).unwrap_or_default();
        if let Some(status) = child.try_wait().expect("waitpid") {
            panic!("ended with {status}:\n{said}");
        }
        if Instant::now() > deadline {
            let _ = kill_process(Pid::from_child(&child), Signal::TERM);
            panic!("not ready:\n{said}");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The JSON line, which holds no escapes and no nesting but one list of flat objects.
fn parse(line: &str) -> Vec<Node> {
    let list = line
        .strip_prefix("{\"nodes\":[{")
        .and_then(|l| l.strip_suffix("}]}"))
        .expect("the outer form");
    list.split("},{")
        .map(|object| {
            let get = |name: &str| {
                let (key, value) = object
                    .split(',')
                    .filter_map(|pair| pair.split_once(':'))
                    .find(|(key, _)| key.trim_matches('"') == name)
                    .unwrap_or_else(|| panic!("no {name} in {object}"));
                assert!(key.starts_with('"'));
                value.trim_matches('"').to_owned()
            };
            assert!(!get("shard").is_empty());
            Node {
                id: get("id"),
                role: get("role"),
                port: get("port").parse().expect("a port"),
                pid: get("pid").parse().expect("a process id"),
            }
        })
        .collect()
}

impl Running {
    fn router(&self) -> Router {
        Router::new(
            self.nodes
                .iter()
                .filter(|n| n.role != "witness")
                .map(|n| n.port)
                .collect(),
        )
    }

    /// Ctrl-C.
    fn interrupt(mut self) {
        kill_process(Pid::from_child(&self.child), Signal::INT).expect("SIGINT");
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("waitpid") {
                break status;
            }
            assert!(Instant::now() < deadline, "does not stop");
            std::thread::sleep(Duration::from_millis(20));
        };
        let said = std::fs::read_to_string(self.dir.with_extension("err")).unwrap_or_default();
        assert!(status.success(), "{status}:\n{said}");
        assert!(said.contains("all nodes have stopped"), "{said}");
        self.assert_no_process_left();
    }

    fn assert_no_process_left(&self) {
        let deadline = Instant::now() + Duration::from_secs(10);
        for node in &self.nodes {
            while Client::connect_within(node.port, Duration::from_secs(1)).is_ok() {
                assert!(
                    Instant::now() < deadline,
                    "port {} still answers",
                    node.port
                );
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn forms_survives_a_kill_stops_and_comes_back() {
    let parent = tempfile::tempdir().expect("a temporary folder");
    let dir = parent.path().join("a cluster");
    let port = base_port();
    let running = start(&dir, port, &[]);
    let roles: Vec<&str> = running.nodes.iter().map(|n| n.role.as_str()).collect();
    assert_eq!(
        roles.iter().filter(|r| **r == "primary").count(),
        3,
        "{roles:?}"
    );
    assert_eq!(
        roles.iter().filter(|r| **r == "replica").count(),
        3,
        "{roles:?}"
    );
    assert_eq!(
        roles.iter().filter(|r| **r == "witness").count(),
        1,
        "{roles:?}"
    );
    assert!(running.nodes.iter().all(|n| n.id.len() == 40));

    let mut router = running.router();
    for n in 0..100 {
        router.run(&format!("SET key:{n} {n}"));
    }
    // One of its processes is killed: the cluster goes on, and the process is started again.
    let victim = running
        .nodes
        .iter()
        .find(|n| n.role == "primary")
        .expect("a primary");
    let pid = Pid::from_raw(victim.pid as i32).expect("a process id");
    kill_process(pid, Signal::KILL).expect("SIGKILL");
    for n in 0..100 {
        router.run(&format!("SET key:{n} again-{n}"));
    }
    let deadline = Instant::now() + PATIENCE;
    while Client::connect_within(victim.port, Duration::from_secs(1)).is_err() {
        assert!(Instant::now() < deadline, "it was not started again");
        std::thread::sleep(Duration::from_millis(50));
    }
    running.interrupt();

    let again = start(&dir, port, &[]);
    let mut router = again.router();
    for n in 0..100 {
        let reply = router.run(&format!("GET key:{n}"));
        assert_eq!(reply.as_bytes(), Some(format!("again-{n}").as_bytes()));
    }
    again.interrupt();
}

#[test]
fn its_nodes_do_not_outlive_it() {
    let parent = tempfile::tempdir().expect("a temporary folder");
    let dir = parent.path().join("cluster");
    let mut running = start(&dir, base_port(), &["--shards", "1"]);
    running.child.kill().expect("SIGKILL");
    running.child.wait().expect("waited for");
    running.assert_no_process_left();
}

fn refusal(args: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_holdfast"));
    let (success, output) = tools::run(command.arg("local-cluster").args(args), PATIENCE);
    assert!(!success, "{output}");
    assert!(!output.contains("panicked"), "{output}");
    output
}

#[test]
fn refusals_say_what_to_do() {
    let parent = tempfile::tempdir().expect("a temporary folder");
    let dir = parent.path().join("cluster").display().to_string();
    assert!(refusal(&["--shards", "many"]).contains("--shards"));
    assert!(
        refusal(&["--durability", "async", "--replicas", "1", "--dir", &dir])
            .contains("--replicas")
    );

    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = free_port().to_string();
    let bus =
        std::net::TcpListener::bind(("127.0.0.1", port.parse::<u16>().expect("a port") + 10_000))
            .expect("free");
    let text = refusal(&["--port", &port, "--dir", &dir]);
    assert!(text.contains("choose another --port"), "{text}");
    drop((taken, bus));

    std::fs::create_dir(&dir).expect("made");
    std::fs::write(Path::new(&dir).join("letter.txt"), "dear").expect("written");
    assert!(refusal(&["--dir", &dir]).contains("choose another --dir"));
    let shape = "shards 3\nreplicas 1\nwitnesses 1\nport 7000\ndurability quorum\nformed yes\n";
    std::fs::write(Path::new(&dir).join("local-cluster.conf"), shape).expect("written");
    assert!(refusal(&["--dir", &dir, "--shards", "4"]).contains("--shards 3, not 4"));
}

/// Without a log there is nothing to bring back, and nothing else is said.
#[test]
fn an_async_cluster_comes_back_with_what_was_saved_and_says_so() {
    let parent = tempfile::tempdir().expect("a temporary folder");
    let dir = parent.path().join("cluster");
    let port = base_port();
    let more = ["--durability", "async", "--shards", "2"];
    for kept in ["0", "1"] {
        let running = start(&dir, port, &more);
        assert_eq!(running.nodes.len(), 2);
        let said = std::fs::read_to_string(dir.with_extension("err")).unwrap_or_default();
        assert!(
            said.contains("the same command brings it back, with what was last saved"),
            "{said}"
        );
        let mut router = running.router();
        assert_eq!(
            crate::harness::text(&router.run("EXISTS k")).as_deref(),
            Some(kept)
        );
        router.run("SET k v");
        running.interrupt();
    }
}
