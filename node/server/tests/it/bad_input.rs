//! What no sane client sends: Valkey's own errors, and neighbours that notice nothing.

use std::io::{Read, Write};
use std::time::Duration;

use crate::harness::{Client, Cluster, NodeRef};

fn one_node() -> (Cluster, NodeRef) {
    let mut cluster = Cluster::new();
    let node = cluster.add_node(&["cluster-enabled no"]);
    cluster.start(node);
    (cluster, node)
}

/// Sends bytes on a new connection, and returns what comes back until the node closes it or falls silent.
fn answer(client: &mut Client, bytes: &[u8]) -> (String, bool) {
    client
        .stream
        .set_read_timeout(Some(Duration::from_millis(700)))
        .expect("a timeout");
    let _ = client.stream.write_all(bytes);
    let mut answer = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        match client.stream.read(&mut chunk) {
            Ok(0) => return (String::from_utf8_lossy(&answer).into_owned(), true),
            Ok(n) => answer.extend_from_slice(&chunk[..n]),
            Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset => {
                return (String::from_utf8_lossy(&answer).into_owned(), true);
            }
            Err(_) => return (String::from_utf8_lossy(&answer).into_owned(), false),
        }
    }
}

#[test]
fn malformed_requests_get_valkeys_errors() {
    let (cluster, node) = one_node();
    let mut neighbour = cluster.client(node);
    neighbour.ok("SET k v");
    let cases: [(&[u8], &str, bool); 11] = [
        (
            b"*1\r\n$4\r\nNOPE\r\n",
            "-ERR unknown command 'NOPE', with args beginning with: \r\n",
            false,
        ),
        (
            b"*1\r\n$3\r\nGET\r\n",
            "-ERR wrong number of arguments for 'get' command\r\n",
            false,
        ),
        (
            b"*2147483648\r\n",
            "-ERR Protocol error: invalid multibulk length\r\n",
            true,
        ),
        (
            b"*x\r\n",
            "-ERR Protocol error: invalid multibulk length\r\n",
            true,
        ),
        (
            b"*2\r\n$3\r\nGET\r\n!1\r\n",
            "-ERR Protocol error: expected '$', got '!'\r\n",
            true,
        ),
        (
            b"*2\r\n$3\r\nGET\r\n$-2\r\n",
            "-ERR Protocol error: invalid bulk length\r\n",
            true,
        ),
        (
            b"*2\r\n$3\r\nGET\r\n$99999999999\r\n",
            "-ERR Protocol error: invalid bulk length\r\n",
            true,
        ),
        (
            b"set \"k\r\n",
            "-ERR Protocol error: unbalanced quotes in request\r\n",
            true,
        ),
        (b"\r\n\r\nPING\r\n", "+PONG\r\n", false),
        (b"*0\r\n*-1\r\nPING\r\n", "+PONG\r\n", false),
        (
            b"*2\r\n$4\r\nPING\r\n$2\r\n\xff\xfe\r\n",
            "$2\r\n\u{fffd}\u{fffd}\r\n",
            false,
        ),
    ];
    for (bytes, expected, closes) in cases {
        let got = answer(&mut cluster.client(node), bytes);
        assert_eq!(
            got,
            (expected.to_owned(), closes),
            "{:?}",
            String::from_utf8_lossy(bytes)
        );
        assert_eq!(neighbour.ask("GET k"), "v");
    }
}

#[test]
fn an_endless_line_is_cut_off() {
    let (cluster, node) = one_node();
    let (text, closed) = answer(&mut cluster.client(node), &vec![b'a'; 70 * 1024]);
    assert_eq!(
        (text.as_str(), closed),
        ("-ERR Protocol error: too big inline request\r\n", true)
    );
}

#[test]
fn http_is_not_spoken() {
    let (cluster, node) = one_node();
    for request in ["POST / HTTP/1.1\r\n\r\n", "Host: localhost\r\n\r\n"] {
        let (_, closed) = answer(&mut cluster.client(node), request.as_bytes());
        assert!(closed, "{request:?} was not cut off");
    }
    assert_eq!(cluster.client(node).ask("PING"), "PONG");
}

/// Random bytes, on the client port, the bus port and the log port: the node lives on.
#[test]
fn noise_on_every_port_is_survived() {
    let (mut cluster, [primary, ..]) = Cluster::one_durable_shard();
    let mut client = cluster.client(primary);
    client.ok("SET k v");
    let mut state = 0x9E37_79B9_7F4A_7C15u64;
    for round in 0..60 {
        let noise: Vec<u8> = (0..2000)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state as u8
            })
            .collect();
        let begin: &[u8] = match round % 4 {
            0 => b"",
            1 => b"*3\r\n$3\r\nSET\r\n",
            2 => b"RCmb\0\0\x08\0\0\x01",
            _ => b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        };
        for offset in [0, 10_000, 20_000] {
            let Ok(other) = Client::connect(cluster.port(primary) + offset) else {
                continue;
            };
            let _ = (&other.stream).write_all(&[begin, &noise].concat());
        }
    }
    assert_eq!(client.ask("GET k"), "v");
    client.ok("SET k w");
    cluster.wait_well();
    for node in cluster.nodes() {
        assert!(
            !cluster.log(node).contains("panicked"),
            "{}",
            cluster.log(node)
        );
    }
}
