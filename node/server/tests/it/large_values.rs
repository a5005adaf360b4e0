//! Long strings are sent as they lie in the keyspace: whoever changes a key meanwhile changes nothing of what is on its way.

use crate::harness::client::{Reply, encode, text};
use crate::harness::*;
use crate::tls::certificates::{Authority, TlsClient};
use rustls::version::TLS13;
use std::io::{BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const MIB: usize = 1 << 20;
const KEYS: usize = 3;

/// Changes a key again and again; its value is one letter throughout at any time.
fn change(mut client: Client, key: usize, stop: &AtomicBool) {
    let key = format!("key:{key}");
    let mut round = 0u8;
    while !stop.load(Ordering::Relaxed) {
        round += 1;
        let all = |letter: u8| vec![b'a' + letter % 26; MIB];
        let (first, second) = (all(round), all(round.wrapping_mul(7)));
        let commands: [&[&[u8]]; 7] = [
            &[b"SET", key.as_bytes(), &first],
            &[b"APPEND", key.as_bytes(), &first[..1000]],
            &[b"APPEND", key.as_bytes(), &first[..3000]],
            &[
                b"SETRANGE",
                key.as_bytes(),
                b"0",
                &[&second[..], &second[..4000]].concat(),
            ],
            &[b"GETSET", key.as_bytes(), &first],
            &[b"RENAME", key.as_bytes(), key.as_bytes()],
            match round % 2 {
                0 => &[b"DEL", key.as_bytes()],
                _ => &[b"GETDEL", key.as_bytes()],
            },
        ];
        for command in commands {
            let reply = client.try_call(command).expect("an answer");
            assert!(!matches!(reply, Reply::Error(_)), "{reply:?}");
        }
    }
}

fn line(from: &mut impl Read) -> String {
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") {
        let mut byte = [0];
        from.read_exact(&mut byte).expect("a reply");
        line.push(byte[0]);
    }
    String::from_utf8_lossy(&line[..line.len() - 2]).into_owned()
}

/// Reads a string of one letter, or null. Its length.
fn uniform(from: &mut impl Read, pause: Duration) -> usize {
    let head = line(from);
    if head == "_" || head == "$-1" {
        return 0;
    }
    let len: usize = head
        .strip_prefix('$')
        .and_then(|n| n.parse().ok())
        .expect(&head);
    assert!((MIB..=MIB + 4000).contains(&len), "{len}");
    let mut value = vec![0; len + 2];
    for piece in value.chunks_mut(MIB / 4) {
        std::thread::sleep(pause);
        from.read_exact(piece).expect("a reply");
    }
    assert_eq!(&value[len..], b"\r\n");
    assert!(
        value[..len].iter().all(|b| *b == value[0]),
        "a value that is none"
    );
    len
}

/// Reads the keys in all ways, several replies at a time. How many were there.
fn read(stream: impl Read + Write, who: usize, stop: &AtomicBool) -> usize {
    let mut stream = BufReader::new(stream);
    let pause = Duration::from_micros(who as u64 % 3 * 300);
    let mut found = 0;
    if who.is_multiple_of(2) {
        stream
            .get_mut()
            .write_all(b"HELLO 3\r\nPING\r\n")
            .expect("sent");
        while line(&mut stream) != "+PONG" {}
    }
    let mut round = 0;
    while !stop.load(Ordering::Relaxed) {
        round += 1;
        let key = format!("key:{}", round % KEYS);
        let mut request = Vec::new();
        let get: &[&[u8]] = &[b"GET", key.as_bytes()];
        (0..3).for_each(|_| encode(&mut request, get));
        encode(&mut request, &[b"MGET", b"key:0", b"none", key.as_bytes()]);
        encode(&mut request, &[b"MULTI"]);
        encode(&mut request, get);
        encode(&mut request, &[b"STRLEN", key.as_bytes()]);
        encode(&mut request, &[b"EXEC"]);
        request.extend(b"CLIENT REPLY SKIP\r\n");
        encode(&mut request, get);
        encode(&mut request, &[b"CLIENT", b"REPLY", b"OFF"]);
        encode(&mut request, get);
        encode(&mut request, get);
        encode(&mut request, &[b"CLIENT", b"REPLY", b"ON"]);
        encode(&mut request, &[b"GETEX", key.as_bytes()]);
        stream.get_mut().write_all(&request).expect("sent");
        let mut one = |stream: &mut BufReader<_>| {
            let len = uniform(stream, pause);
            found += usize::from(len > 0);
            len
        };
        (0..3).for_each(|_| assert!(one(&mut stream) <= MIB + 4000));
        assert_eq!(line(&mut stream), "*3");
        one(&mut stream);
        assert!(["$-1", "_"].contains(&line(&mut stream).as_str()));
        one(&mut stream);
        for expected in ["+OK", "+QUEUED", "+QUEUED", "*2"] {
            assert_eq!(line(&mut stream), expected);
        }
        let len = one(&mut stream);
        assert_eq!(line(&mut stream), format!(":{len}"));
        assert_eq!(line(&mut stream), "+OK");
        one(&mut stream);
    }
    found
}

/// Some clients read while others change what they read.
fn read_and_change<S: Read + Write>(
    cluster: &Cluster,
    node: NodeRef,
    connect: impl Fn() -> S + Sync,
) {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (stop, connect) = (&stop, &connect);
        let readers: Vec<_> = (0..8)
            .map(|who| scope.spawn(move || read(connect(), who, stop)))
            .collect();
        let writers: Vec<_> = (0..KEYS)
            .map(|key| {
                let client = cluster.client(node);
                scope.spawn(move || change(client, key, stop))
            })
            .collect();
        let begin = Instant::now();
        let mut admin = cluster.client(node);
        while begin.elapsed() < Duration::from_secs(4)
            && !readers.iter().any(|t| t.is_finished())
            && !writers.iter().any(|t| t.is_finished())
        {
            // Snapshots read the same bytes.
            admin.run("BGSAVE");
            std::thread::sleep(Duration::from_millis(100));
        }
        stop.store(true, Ordering::Relaxed);
        let found: usize = readers
            .into_iter()
            .map(|t| t.join().expect("a reader"))
            .sum();
        writers
            .into_iter()
            .for_each(|t| t.join().expect("a writer"));
        assert!(found > 50, "{found} values");
    });
    // All that was sent is let go.
    let mut admin = cluster.client(node);
    admin.ok("FLUSHALL");
    let begin = Instant::now();
    loop {
        let used: usize = admin
            .info("memory", "used_memory")
            .and_then(|n| n.parse().ok())
            .expect("a number");
        if used < 12 * MIB {
            break;
        }
        assert!(begin.elapsed() < Duration::from_secs(10), "{used} bytes");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn node_with(directives: &[&str]) -> (Cluster, NodeRef) {
    let mut cluster = Cluster::new();
    let config = [&["cluster-enabled no", "save \"\""], directives].concat();
    let node = cluster.add_node(&config);
    cluster.start(node);
    (cluster, node)
}

fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).expect("a connection");
    let patience = Some(Duration::from_secs(30));
    stream
        .set_read_timeout(patience)
        .expect("a socket takes it");
    stream
}

#[test]
fn values_are_whole_while_they_change() {
    let (cluster, node) = node_with(&["io-threads 1"]);
    let port = cluster.port(node);
    read_and_change(&cluster, node, || connect(port));
}

#[test]
fn values_are_whole_while_they_change_with_io_threads() {
    let (cluster, node) = node_with(&["io-threads 3"]);
    let port = cluster.port(node);
    read_and_change(&cluster, node, || connect(port));
}

#[test]
fn values_are_whole_while_they_change_under_tls() {
    for threads in [1, 3] {
        let authority = Authority::new();
        let threads = format!("io-threads {threads}");
        let (cluster, node) = crate::tls::one_node(&authority, &[&threads]);
        let config = Arc::new(authority.client(true, &TLS13));
        let port = cluster.tls_port(node);
        read_and_change(&cluster, node, || {
            TlsClient::connect(port, &config).expect("connected").0
        });
    }
}

/// What is sent without a copy counts as all that is sent.
#[test]
fn all_bytes_are_counted() {
    for threads in [1, 2] {
        let (cluster, node) = node_with(&[
            &format!("io-threads {threads}"),
            "commandlog-reply-larger-than 1000000",
        ]);
        let mut admin = cluster.client(node);
        let value = "x".repeat(MIB);
        admin.ok(&format!("SET key {value}"));
        let sent = |admin: &mut Client| -> usize {
            let sent = admin.info("stats", "total_net_output_bytes");
            sent.and_then(|n| n.parse().ok()).expect("a number")
        };
        let mut client = cluster.client(node);
        let before = sent(&mut admin);
        for _ in 0..10 {
            assert_eq!(client.ask("GET key").len(), MIB);
        }
        let between = sent(&mut admin) - before - 10 * (MIB + "$1048576\r\n\r\n".len());
        assert!(between < 20_000, "{between} bytes too many");
        assert_eq!(admin.ask("COMMANDLOG LEN large-reply"), "10");
        // One that does not read has all of it in its output, and is closed at its limit.
        let id = client.ask("CLIENT ID");
        let mut request = Vec::new();
        (0..30).for_each(|_| encode(&mut request, &[b"GET", b"key"]));
        client.stream.write_all(&request).expect("sent");
        let begin = Instant::now();
        let omem = loop {
            let list = admin.ask(&format!("CLIENT LIST ID {id}"));
            let field = |name: &str| -> usize {
                let mut fields = list.split_ascii_whitespace();
                let value = fields.find_map(|f| f.strip_prefix(name)?.strip_prefix('='));
                value.and_then(|v| v.parse().ok()).expect("a number")
            };
            if field("omem") > 15 * MIB {
                assert!(field("tot-mem") >= field("omem"), "{list}");
                break field("omem");
            }
            assert!(begin.elapsed() < Duration::from_secs(10), "{list}");
            std::thread::sleep(Duration::from_millis(10));
        };
        assert!(omem < 31 * MIB, "{omem}");
        let used = admin.info("memory", "used_memory").expect("a number");
        assert!(used.parse::<usize>().is_ok_and(|n| n < 12 * MIB), "{used}");
        let limit = [
            b"CONFIG".as_slice(),
            b"SET",
            b"client-output-buffer-limit",
            b"normal 3000000 0 0",
        ];
        assert!(admin.try_call(&limit).is_ok_and(|reply| reply.is_ok()));
        client.stream.write_all(&request).expect("sent");
        while text(&admin.run(&format!("CLIENT LIST ID {id}"))) != Some(String::new()) {
            assert!(
                begin.elapsed() < Duration::from_secs(10),
                "it is still there"
            );
            std::thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(
            admin.info("stats", "client_output_buffer_limit_disconnections"),
            Some("1".into())
        );
    }
}
