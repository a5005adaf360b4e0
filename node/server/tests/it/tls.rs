//! TLS: for clients, and between nodes.

pub mod certificates;

use crate::harness::{Cluster, NodeRef};
use crate::{clients, tools};
use certificates::{Authority, TlsClient, certificate};
use rustls::HandshakeKind;
use rustls::version::{TLS12, TLS13};
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A node by itself that listens on both ports.
pub fn one_node(authority: &Authority, more: &[&str]) -> (Cluster, NodeRef) {
    let (mut cluster, node) = one_node_to_be_started(authority, more);
    cluster.start(node);
    (cluster, node)
}

fn one_node_to_be_started(authority: &Authority, more: &[&str]) -> (Cluster, NodeRef) {
    let mut lines = authority.directives();
    lines.push("cluster-enabled no".into());
    lines.push("save \"\"".into());
    lines.push("loglevel verbose".into());
    lines.push("tls-port {tls-port}".into());
    lines.extend(more.iter().map(|l| (*l).to_owned()));
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let mut cluster = Cluster::new();
    let node = cluster.add_node(&lines);
    (cluster, node)
}

#[test]
fn clients_speak_tls() {
    clients_speak_tls_with(&["io-threads 1"]);
}

#[test]
fn clients_speak_tls_with_io_threads() {
    clients_speak_tls_with(&["io-threads 3"]);
}

/// A session goes on where it was when its connection moves from thread to thread.
#[test]
fn io_threads_come_and_go_under_tls() {
    let authority = Authority::new();
    let (cluster, node) = one_node(&authority, &["io-threads 2"]);
    let config = Arc::new(authority.client(true, &TLS13));
    let mut client = TlsClient::connect(cluster.tls_port(node), &config).expect("connected");
    let value = "0123456789abcdef".repeat(20_000);
    let set = format!(
        "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n${}\r\n{value}\r\n",
        value.len()
    );
    for threads in [1, 4, 2, 3, 1, 2, 5, 1] {
        let change = format!("CONFIG SET io-threads {threads}\r\nGET k\r\n{set}GET k\r\n");
        client.0.write_all(set.as_bytes()).expect("sent");
        client.0.write_all(change.as_bytes()).expect("sent");
        for reply in ["+OK", "+OK", &value, "+OK", &value] {
            assert_eq!(client.reply().expect("a reply"), reply);
        }
    }
}

fn clients_speak_tls_with(directives: &[&str]) {
    let authority = Authority::new();
    let (cluster, node) = one_node(&authority, directives);
    let port = cluster.tls_port(node);
    for version in [&TLS13, &TLS12] {
        let config = Arc::new(authority.client(true, version));
        let mut client = TlsClient::connect(port, &config).expect("connected");
        assert_eq!(client.version(), Some(version.version));
        assert_eq!(client.ask("PING").expect("a reply"), "+PONG");
        // Larger than all buffers on the way, in both directions.
        let value = "0123456789abcdef".repeat(200_000);
        let set = format!(
            "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n${}\r\n{value}\r\n",
            value.len()
        );
        client.0.write_all(set.as_bytes()).expect("sent");
        assert_eq!(client.reply().expect("a reply"), "+OK");
        assert_eq!(client.ask("GET k").expect("a reply"), value);
        // A reply that waits for a slow reader.
        let many = "GET k\r\n".repeat(10);
        client.0.write_all(many.as_bytes()).expect("sent");
        std::thread::sleep(Duration::from_millis(300));
        for _ in 0..10 {
            assert_eq!(client.reply().expect("a reply").len(), value.len());
        }
        // Many commands in one record, and one command in many.
        client
            .0
            .write_all("INCR n\r\n".repeat(1000).as_bytes())
            .expect("sent");
        for _ in 0..1000 {
            client.reply().expect("a reply");
        }
        for byte in b"ECHO hello\r\n" {
            client.0.write_all(&[*byte]).expect("sent");
        }
        assert_eq!(client.reply().expect("a reply"), "hello");
        // The end is told, so that the client knows that nothing was cut off.
        assert_eq!(client.ask("QUIT").expect("a reply"), "+OK");
        let mut rest = Vec::new();
        let end = client.0.read_to_end(&mut rest);
        assert!(matches!(end, Ok(0)), "{end:?} {rest:?}");
    }
    let mut plain = cluster.client(node);
    let info = plain.ask("INFO tls");
    for field in ["server", "ca"] {
        assert!(
            !info.contains(&format!("tls_{field}_cert_serial:none")),
            "{info}"
        );
    }
    assert!(info.contains("tls_client_cert_serial:none"), "{info}");
}

#[test]
fn writes_can_be_held_up() {
    writes_can_be_held_up_with("io-threads 1");
}

#[test]
fn writes_of_io_threads_can_be_held_up() {
    writes_can_be_held_up_with("io-threads 2");
}

fn writes_can_be_held_up_with(threads: &str) {
    let authority = Authority::new();
    let (mut cluster, node) = one_node(&authority, &[threads]);
    let config = Arc::new(authority.client(true, &TLS13));
    let mut client = TlsClient::connect(cluster.tls_port(node), &config).expect("connected");
    client.ask("CLIENT SETNAME held").expect("a reply");
    let mut plain = cluster.client(node);
    let value = "0123456789abcdef".repeat(100_000);
    plain.ok("SET small 1");
    let set = [&b"SET"[..], b"large", value.as_bytes()];
    assert!(plain.try_call(&set).is_ok_and(|reply| reply.is_ok()));
    let error = plain.error("DEBUG FORCE-TLS-WRITE-ERROR 2");
    assert_eq!(error, "ERR Value must be 0 or 1");

    plain.ok("DEBUG FORCE-TLS-WRITE-ERROR 1");
    for (commands, bytes) in [("GET small\r\n", 0), ("GET large\r\nQUIT\r\n", 1_500_000)] {
        client.0.write_all(commands.as_bytes()).expect("sent");
        cluster.wait("the command to be executed", |_| {
            let list = plain.ask("CLIENT LIST");
            let line = list.lines().find(|l| l.contains(" name=held "));
            let field = |name: &str| {
                let word = line?.split(' ').find_map(|w| w.strip_prefix(name));
                word?.strip_prefix('=').map(str::to_owned)
            };
            let omem = field("omem").and_then(|n| n.parse::<u64>().ok());
            omem.is_some_and(|omem| omem >= bytes)
        });
    }
    let timeout = Duration::from_millis(300);
    client.0.sock.set_read_timeout(Some(timeout)).expect("set");
    let nothing = client.0.read(&mut [0; 1]);
    assert!(
        nothing
            .as_ref()
            .is_err_and(|e| e.kind() == ErrorKind::WouldBlock),
        "{nothing:?}"
    );
    plain.ok("DEBUG FORCE-TLS-WRITE-ERROR 0");
    let timeout = Duration::from_secs(20);
    client.0.sock.set_read_timeout(Some(timeout)).expect("set");
    for reply in ["1", &value, "+OK"] {
        assert_eq!(client.reply().expect("a reply"), reply);
    }
    let end = client.0.read(&mut [0; 1]);
    assert!(matches!(end, Ok(0)), "{end:?}");
}

#[test]
fn a_client_that_trickles_its_bytes_is_understood() {
    let authority = Authority::new();
    let (cluster, node) = one_node(&authority, &[]);
    let config = Arc::new(authority.client(true, &TLS13));
    let name = rustls::pki_types::ServerName::try_from("localhost").expect("a name");
    let mut tls = rustls::ClientConnection::new(config, name).expect("a client");
    let mut socket =
        TcpStream::connect((Ipv4Addr::LOCALHOST, cluster.tls_port(node))).expect("connected");
    socket.set_nodelay(true).expect("set");
    tls.writer().write_all(b"PING\r\n").expect("taken");
    let mut reply = Vec::new();
    while reply.len() < 7 {
        while tls.wants_write() {
            let mut sealed = Vec::new();
            tls.write_tls(&mut sealed).expect("written");
            for byte in sealed {
                socket.write_all(&[byte]).expect("sent");
            }
        }
        tls.read_tls(&mut socket).expect("read");
        tls.process_new_packets().expect("understood");
        let mut bytes = [0; 64];
        match tls.reader().read(&mut bytes) {
            Ok(n) => reply.extend_from_slice(&bytes[..n]),
            Err(e) => assert_eq!(e.kind(), ErrorKind::WouldBlock),
        }
    }
    assert_eq!(reply, b"+PONG\r\n");
}

/// Waits until the log of a node has a line with all these words.
fn wait_logged(cluster: &mut Cluster, node: NodeRef, words: &[&str]) {
    cluster.wait(&format!("a line with {words:?} in the log"), |cluster| {
        let log = cluster.log(node);
        log.lines().any(|l| words.iter().all(|w| l.contains(w)))
    });
}

#[test]
fn who_speaks_no_tls_is_sent_away_and_named() {
    let authority = Authority::new();
    let (mut cluster, node) = one_node(&authority, &[]);
    let port = cluster.tls_port(node);
    let mut socket = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("connected");
    socket
        .set_read_timeout(Some(Duration::from_secs(10)))
        .expect("set");
    socket.write_all(b"PING\r\nPING\r\n").expect("sent");
    let mut answer = Vec::new();
    // An end or a reset, and no alert: that would be read as a reply.
    let _ = socket.read_to_end(&mut answer);
    assert!(answer.is_empty(), "{answer:?}");
    let me = socket.local_addr().expect("an address").to_string();
    wait_logged(
        &mut cluster,
        node,
        &["Error accepting a client connection", &me],
    );
    // One that leaves in the midst of its handshake.
    let mut socket = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("connected");
    socket.write_all(&[0x16, 0x03, 0x01]).expect("sent");
    let me = socket.local_addr().expect("an address").to_string();
    drop(socket);
    wait_logged(
        &mut cluster,
        node,
        &["Error accepting a client connection", &me],
    );
    assert_eq!(cluster.client(node).ask("PING"), "PONG");
}

#[test]
fn half_a_handshake_is_given_up() {
    let authority = Authority::new();
    let (mut cluster, node) = one_node(&authority, &[]);
    let port = cluster.tls_port(node);
    let since = Instant::now();
    let mut sockets: Vec<TcpStream> = (0..20)
        .map(|_| TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("connected"))
        .collect();
    let config = Arc::new(authority.client(true, &TLS13));
    let mut idle = TlsClient::connect(port, &config).expect("connected");
    for socket in &mut sockets {
        socket
            .set_read_timeout(Some(Duration::from_secs(40)))
            .expect("set");
        let _ = socket.write_all(&[0x16, 0x03]);
        let mut bytes = [0; 64];
        let end = socket.read(&mut bytes);
        assert!(
            !matches!(&end, Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)),
            "{end:?}"
        );
    }
    assert!(since.elapsed() > Duration::from_secs(5));
    wait_logged(&mut cluster, node, &["the TLS handshake took too long"]);
    assert_eq!(idle.ask("PING").expect("a reply"), "+PONG");
}

#[test]
fn certificates_of_clients_are_asked_for_as_configured() {
    let authority = Authority::new();
    let stranger = Authority::new();
    let (cluster, node) = one_node(&authority, &[]);
    let port = cluster.tls_port(node);
    let mut plain = cluster.client(node);
    let ping = |config: rustls::ClientConfig| {
        TlsClient::connect(port, &Arc::new(config)).and_then(|mut c| c.ask("PING"))
    };
    let known = || authority.client(true, &TLS13);
    let unknown = || {
        // Trusts the server's authority, and shows a certificate of another.
        std::fs::copy(stranger.path("client.crt"), authority.path("other.crt")).expect("copied");
        let key = rustls::pki_types::PrivateKeyDer::from_pem_file(stranger.path("client.key"));
        let mut roots = rustls::RootCertStore::empty();
        roots
            .add(certificate(&authority.path("ca.crt")))
            .expect("added");
        rustls::ClientConfig::builder_with_provider(Arc::new(
            rustls::crypto::ring::default_provider(),
        ))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_client_auth_cert(
            vec![certificate(&stranger.path("client.crt"))],
            key.expect("a key"),
        )
        .expect("a certificate")
    };
    use rustls::pki_types::pem::PemObject;
    assert_eq!(ping(known()).expect("a reply"), "+PONG");
    assert!(ping(authority.client(false, &TLS13)).is_err());
    assert!(ping(authority.client(false, &TLS12)).is_err());
    assert!(ping(unknown()).is_err());
    plain.ok("CONFIG SET tls-auth-clients optional");
    assert_eq!(ping(known()).expect("a reply"), "+PONG");
    assert_eq!(
        ping(authority.client(false, &TLS13)).expect("a reply"),
        "+PONG"
    );
    assert!(ping(unknown()).is_err());
    plain.ok("CONFIG SET tls-auth-clients no");
    assert_eq!(
        ping(authority.client(false, &TLS12)).expect("a reply"),
        "+PONG"
    );
}

#[test]
fn new_certificates_are_taken_at_run_time() {
    let authority = Authority::new();
    let (cluster, node) = one_node(&authority, &["tls-auth-clients no"]);
    let port = cluster.tls_port(node);
    let config = Arc::new(authority.client(false, &TLS13));
    let shown = || {
        let client = TlsClient::connect(port, &config).expect("connected");
        client.0.conn.peer_certificates().expect("certificates")[0].clone()
    };
    let mut old = TlsClient::connect(port, &config).expect("connected");
    let first = certificate(&authority.path("node.crt"));
    assert_eq!(shown(), first);
    let mut plain = cluster.client(node);
    // A bad file leaves everything as it was.
    let bad = authority.path("bad.crt");
    std::fs::write(&bad, "no certificate").expect("written");
    let refused = plain.error(&format!("CONFIG SET tls-cert-file {}", bad.display()));
    assert_eq!(
        refused,
        "ERR CONFIG SET failed (possibly related to argument 'tls-cert-file') - Unable to update TLS configuration. \
         Check server logs."
    );
    let refused = plain.error("CONFIG SET tls-ciphers RC4-MD5");
    assert!(
        refused.contains("Unable to update TLS configuration"),
        "{refused}"
    );
    // A key that is not the certificate's.
    let other = authority.path("client.key");
    let refused = plain.error(&format!("CONFIG SET tls-key-file {}", other.display()));
    assert!(
        refused.contains("Unable to update TLS configuration"),
        "{refused}"
    );
    assert_eq!(shown(), first);
    // The same names, other contents.
    authority.sign("node");
    let same = authority.path("node.crt");
    plain.ok(&format!("CONFIG SET tls-cert-file {}", same.display()));
    let second = certificate(&same);
    assert_ne!(first, second);
    assert_eq!(shown(), second);
    // Who was there before stays.
    assert_eq!(old.ask("PING").expect("a reply"), "+PONG");
    // Another port, and none.
    plain.ok("CONFIG SET tls-port 0");
    assert!(TlsClient::connect(port, &config).is_err());
    assert!(
        plain
            .ask("INFO tls")
            .contains("tls_server_cert_serial:none")
    );
    plain.ok(&format!("CONFIG SET tls-port {port}"));
    assert_eq!(shown(), second);
    assert_eq!(old.ask("PING").expect("a reply"), "+PONG");
}

#[test]
fn changed_files_are_taken_without_a_command() {
    let authority = Authority::new();
    let (mut cluster, node) = one_node(&authority, &["tls-auth-clients no"]);
    let port = cluster.tls_port(node);
    let config = Arc::new(authority.client(false, &TLS13));
    let shown = || {
        let client = TlsClient::connect(port, &config).expect("connected");
        client.0.conn.peer_certificates().expect("certificates")[0].clone()
    };
    let mut plain = cluster.client(node);
    plain.ok("CONFIG SET loglevel debug tls-auto-reload-interval 1");
    cluster.wait("a look at the files", |c| {
        c.log(node)
            .contains("TLS reload skipped: materials unchanged")
    });
    // A certificate without its key changes nothing.
    let first = shown();
    authority.sign("next");
    let put = |kind: &str| {
        let file = |name: &str| authority.path(&format!("{name}.{kind}"));
        std::fs::copy(file("next"), file("node")).expect("copied");
    };
    put("crt");
    cluster.wait("a failed look", |c| {
        c.log(node).contains("Background TLS reload failed")
    });
    assert_eq!(shown(), first);
    put("key");
    cluster.wait("the new certificate", |_| shown() != first);
    assert_eq!(shown(), certificate(&authority.path("node.crt")));
    cluster.wait("the end of it", |c| {
        c.log(node).contains("TLS materials reloaded successfully")
    });
}

#[test]
fn sessions_are_resumed_unless_that_is_turned_off() {
    let authority = Authority::new();
    let (cluster, node) = one_node(&authority, &[]);
    let port = cluster.tls_port(node);
    for version in [&TLS13, &TLS12] {
        let config = Arc::new(authority.client(true, version));
        let kind = || {
            let mut client = TlsClient::connect(port, &config).expect("connected");
            assert_eq!(client.ask("PING").expect("a reply"), "+PONG");
            client.0.conn.handshake_kind().expect("known")
        };
        assert_ne!(kind(), HandshakeKind::Resumed);
        assert_eq!(kind(), HandshakeKind::Resumed);
        cluster.client(node).ok("CONFIG SET tls-session-caching no");
        kind();
        assert_ne!(kind(), HandshakeKind::Resumed);
        cluster
            .client(node)
            .ok("CONFIG SET tls-session-caching yes");
    }
}

#[test]
fn an_encrypted_key_needs_its_password() {
    let authority = Authority::new();
    let (cluster, node) = one_node(&authority, &[]);
    let (key, sealed) = (authority.path("node.key"), authority.path("sealed.key"));
    let Some(openssl) = tools::find("openssl") else {
        return tools::skipped("an encrypted key", "no openssl");
    };
    let done = Command::new(openssl)
        .args([
            "pkcs8",
            "-topk8",
            "-v2",
            "aes-256-cbc",
            "-passout",
            "pass:1234",
        ])
        .arg("-in")
        .arg(&key)
        .arg("-out")
        .arg(&sealed)
        .status();
    assert!(done.is_ok_and(|status| status.success()));
    let mut plain = cluster.client(node);
    let set = format!("CONFIG SET tls-key-file {}", sealed.display());
    assert!(plain.error(&set).contains("Unable to update TLS"));
    plain.ok("CONFIG SET tls-key-file-pass 12345");
    assert!(plain.error(&set).contains("Unable to update TLS"));
    plain.ok("CONFIG SET tls-key-file-pass 1234");
    plain.ok(&set);
    let config = Arc::new(authority.client(true, &TLS13));
    let mut client = TlsClient::connect(cluster.tls_port(node), &config).expect("connected");
    assert_eq!(client.ask("PING").expect("a reply"), "+PONG");
}

#[test]
fn the_command_line_client_speaks_tls() {
    let authority = Authority::new();
    let (mut cluster, node) = one_node_to_be_started(&authority, &["port 0"]);
    cluster.spawn(node);
    let config = Arc::new(authority.client(true, &TLS13));
    let port = cluster.tls_port(node);
    cluster.wait("the node to answer", |_| {
        TlsClient::connect(port, &config).is_ok_and(|mut c| c.ask("PING").is_ok())
    });
    let Some(cli) = tools::find("valkey-cli") else {
        return tools::skipped("valkey-cli --tls", "no valkey-cli");
    };
    let mut command = Command::new(cli);
    command
        .args(["-p", &port.to_string(), "--tls", "--cert"])
        .arg(authority.path("client.crt"))
        .arg("--key")
        .arg(authority.path("client.key"))
        .arg("--cacert")
        .arg(authority.path("ca.crt"))
        .args(["SET", "k", "v"]);
    let (_, text) = tools::run(&mut command, Duration::from_secs(20));
    if text.contains("Unrecognized option") {
        return tools::skipped("valkey-cli --tls", "it was built without TLS");
    }
    assert_eq!(text.trim(), "OK");
}

/// Bus, log and moving slots between nodes that speak nothing but TLS to each other.
#[test]
fn durable_shards_speak_tls_to_each_other() {
    let authority = Authority::new();
    let mut cluster = Cluster::new();
    for line in authority.directives() {
        cluster = cluster.common(&line);
    }
    for line in [
        "tls-port {tls-port}",
        "cluster-port {bus-port}",
        "tls-cluster yes",
        "tls-replication yes",
    ] {
        cluster = cluster.common(line);
    }
    let (shards, witness) = cluster.add_durable_shards(2);
    let mut router = cluster.router();
    for i in 0..100 {
        router.run(&format!("SET k{i} {i}"));
    }
    // Each of the inner ports wants a certificate, and sends away who has none.
    let known = Arc::new(authority.client(true, &TLS13));
    let unknown = Arc::new(authority.client(false, &TLS13));
    for port in cluster.inner_ports(witness) {
        assert!(TlsClient::connect(port, &known).is_ok(), "{port}");
        let refused = TlsClient::connect(port, &unknown).and_then(|mut c| c.reply());
        assert!(refused.is_err(), "{port}");
        let mut plain = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("connected");
        plain
            .set_read_timeout(Some(Duration::from_secs(10)))
            .expect("set");
        plain.write_all(&[0; 64]).expect("sent");
        let mut bytes = Vec::new();
        // An alert or a reset.
        let _ = plain.read_to_end(&mut bytes);
        assert!(bytes.len() < 64, "{bytes:?}");
    }
    // A client is told the ports of its kind.
    let [first, _] = shards[0];
    let mut client = TlsClient::connect(cluster.tls_port(first), &known).expect("connected");
    let nodes = client.ask("CLUSTER NODES").expect("a reply");
    let plain_nodes = cluster.client(first).ask("CLUSTER NODES");
    for node in cluster.nodes() {
        let (port, tls_port) = (cluster.port(node), cluster.tls_port(node));
        assert!(nodes.contains(&format!("127.0.0.1:{tls_port}@")), "{nodes}");
        assert!(
            plain_nodes.contains(&format!("127.0.0.1:{port}@")),
            "{plain_nodes}"
        );
    }
    // One of the two has the key, and the other says where it is.
    let moved: Vec<String> = shards
        .iter()
        .filter_map(|[primary, _]| {
            let mut client = TlsClient::connect(cluster.tls_port(*primary), &known).ok()?;
            let reply = client.ask("GET k1").ok()?;
            reply.starts_with("-MOVED").then_some(reply)
        })
        .collect();
    let tls_ports: Vec<u16> = cluster.nodes().map(|n| cluster.tls_port(n)).collect();
    assert_eq!(moved.len(), 1);
    assert!(
        tls_ports
            .iter()
            .any(|port| moved[0].ends_with(&format!(":{port}"))),
        "{moved:?}"
    );
    // Slots move by TLS, too.
    let [target, _] = shards[1];
    let id = cluster.client(target).ask("CLUSTER MYID");
    cluster
        .client(first)
        .ok(&format!("CLUSTER MIGRATESLOTS SLOTSRANGE 0 99 NODE {id}"));
    cluster.wait("the slots to move", |cluster| {
        let slots = cluster.client(target).ask("CLUSTER NODES");
        slots
            .lines()
            .any(|l| l.contains("myself") && l.contains(" 0-99 "))
    });
    // The shard lives on without its primary.
    cluster.kill(first);
    let mut router = cluster.router();
    for i in 0..100 {
        let reply = router.run(&format!("GET k{i}"));
        assert_eq!(reply.as_bytes(), Some(i.to_string().as_bytes()), "k{i}");
    }
}

#[test]
fn redis_py_speaks_tls() {
    let authority = Authority::new();
    let (cluster, node) = one_node(&authority, &[]);
    let python = match clients::python_with("redis") {
        Ok(python) => python,
        Err(why) => return tools::skipped("redis-py by TLS", &why),
    };
    let mut command = Command::new(python);
    command
        .arg(clients::script("redis_py_tls.py"))
        .arg(cluster.tls_port(node).to_string())
        .args(["ca.crt", "client.crt", "client.key"].map(|file| authority.path(file)));
    let (well, text) = tools::run(&mut command, Duration::from_secs(60));
    assert!(well && text.trim() == "fine", "{text}");
}
