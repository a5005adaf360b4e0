//! Connections that belong to I/O threads: the order of replies, large values, waiting clients, and threads that come and go.

use crate::harness::client::{encode, text};
use crate::harness::*;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

fn node_with(threads: u32, more: &[&str]) -> (Cluster, NodeRef) {
    let mut cluster = Cluster::new();
    let directive = format!("io-threads {threads}");
    let mut config = vec!["cluster-enabled no", "save \"\"", &directive];
    config.extend(more);
    let node = cluster.add_node(&config);
    cluster.start(node);
    (cluster, node)
}

/// Numbers from a small generator, the same each time.
fn numbers(mut state: u64) -> impl FnMut(u64) -> u64 {
    move |below| {
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (state >> 33) % below
    }
}

/// A client that sends pipelines of all sizes, in pieces that end anywhere, and knows every reply.
fn talk(port: u16, who: u64, stop: &AtomicBool) -> u64 {
    let mut below = numbers(who + 1);
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("a connection");
    stream
        .set_read_timeout(Some(Duration::from_secs(60)))
        .expect("a socket takes it");
    let (mut count, mut rounds) = (0u64, 0);
    while !stop.load(Ordering::Relaxed) {
        let (mut request, mut expected) = (Vec::new(), Vec::new());
        for _ in 0..=below(40) {
            match below(6) {
                0 => {
                    count += 1;
                    encode(
                        &mut request,
                        &[b"INCR".as_slice(), format!("count:{who}").as_bytes()],
                    );
                    expected.extend(format!(":{count}\r\n").bytes());
                }
                1 => {
                    let len = [1, 100, 20_000, 300_000, 4_000_000][below(5) as usize];
                    let value = vec![b'a' + (count % 26) as u8; len];
                    let key = format!("value:{who}");
                    encode(&mut request, &[b"SET".as_slice(), key.as_bytes(), &value]);
                    encode(&mut request, &[b"GET".as_slice(), key.as_bytes()]);
                    expected.extend(format!("+OK\r\n${len}\r\n").bytes());
                    expected.extend(&value);
                    expected.extend(b"\r\n");
                }
                2 => {
                    // Inline, as by telnet.
                    request.extend(b"PING\r\n");
                    expected.extend(b"+PONG\r\n");
                }
                3 => {
                    encode(&mut request, &[b"NOSUCH"]);
                    expected
                        .extend(b"-ERR unknown command 'NOSUCH', with args beginning with: \r\n");
                }
                4 => {
                    // What comes behind a command that waits is executed behind it.
                    let key = format!("list:{who}");
                    encode(
                        &mut request,
                        &[b"BLPOP".as_slice(), key.as_bytes(), b"0.002"],
                    );
                    expected.extend(b"*-1\r\n");
                }
                _ => {
                    encode(&mut request, &[b"MULTI"]);
                    encode(&mut request, &[b"ECHO".as_slice(), b"x"]);
                    encode(&mut request, &[b"EXEC"]);
                    expected.extend(b"+OK\r\n+QUEUED\r\n*1\r\n$1\r\nx\r\n");
                }
            }
        }
        let mut reading = stream.try_clone().expect("a second handle");
        let reader = std::thread::spawn(move || {
            let mut got = vec![0; expected.len()];
            reading.read_exact(&mut got).expect("all replies");
            if got != expected {
                let at = got.iter().zip(&expected).position(|(a, b)| a != b);
                panic!("client {who}: another reply at {at:?}");
            }
        });
        let mut rest = &request[..];
        while !rest.is_empty() {
            let n = (1 + below(50_000) as usize).min(rest.len());
            stream.write_all(&rest[..n]).expect("it is taken");
            rest = &rest[n..];
        }
        reader.join().expect("the replies are right");
        rounds += 1;
    }
    rounds
}

#[test]
fn replies_stay_in_order_while_threads_come_and_go() {
    let (cluster, node) = node_with(3, &[]);
    let port = cluster.port(node);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..8)
            .map(|who| {
                scope.spawn({
                    let stop = &stop;
                    move || talk(port, who, stop)
                })
            })
            .collect();
        let mut admin = cluster.client(node);
        let begin = Instant::now();
        let mut change = 0;
        while begin.elapsed() < Duration::from_secs(8) && clients.iter().all(|c| !c.is_finished()) {
            let threads = [1, 2, 5, 1, 3, 2][change % 6];
            admin.ok(&format!("CONFIG SET io-threads {threads}"));
            change += 1;
            std::thread::sleep(Duration::from_millis(40));
        }
        stop.store(true, Ordering::Relaxed);
        for client in clients {
            assert!(client.join().expect("a client that was right") > 3);
        }
        assert!(change > 20, "{change} changes");
    });
    let mut admin = cluster.client(node);
    assert!(admin.info("stats", "io_threaded_reads_processed") > Some("0".into()));
    // The last of the others has closed its socket just now.
    let begin = Instant::now();
    while admin.info("clients", "connected_clients") != Some("1".into()) {
        assert!(
            begin.elapsed() < Duration::from_secs(10),
            "somebody is left"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// More than one read takes is waiting for each: nobody may go to sleep over it.
#[test]
fn large_arguments_arrive() {
    let (cluster, node) = node_with(2, &[]);
    let mut client = cluster.client(node);
    let value = vec![b'v'; 8_000_000];
    for i in 0..40 {
        let reply = client.try_call(&[b"SET", b"key", &value]);
        assert_eq!(text(&reply.expect("an answer")), Some("OK".into()), "{i}");
    }
    let reply = client.try_call(&[b"GET", b"key"]).expect("an answer");
    assert_eq!(text(&reply).map(|t| t.len()), Some(value.len()));
}

#[test]
fn idle_threads_sleep() {
    let (cluster, node) = node_with(4, &[]);
    let clients: Vec<_> = (0..20).map(|_| cluster.client(node)).collect();
    let cpu = || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", cluster.pid(node)));
        let stat = stat.expect("it runs");
        let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or("").split(' ').collect();
        let ticks = |i: usize| fields[i].parse::<u64>().expect("a number");
        ticks(11) + ticks(12)
    };
    std::thread::sleep(Duration::from_millis(300));
    let before = cpu();
    std::thread::sleep(Duration::from_secs(2));
    // A hundredth of a second each: a thread that turned in circles would take 200.
    let took = cpu() - before;
    assert!(took < 20, "{took} ticks");
    drop(clients);
}

#[test]
fn what_is_closed_is_closed_for_all() {
    let (cluster, node) = node_with(2, &["client-output-buffer-limit normal 3mb 0 0"]);
    let mut admin = cluster.client(node);
    let mut other = cluster.client(node);
    let id = other.ask("CLIENT ID");
    assert_eq!(admin.ask(&format!("CLIENT KILL ID {id}")), "1");
    assert!(other.try_run("PING").is_err());
    // One that never reads is closed at its limit, with what is on its way to the socket counted.
    admin.ok(&format!("SET big {}", "x".repeat(500_000)));
    let mut never = TcpStream::connect(("127.0.0.1", cluster.port(node))).expect("a connection");
    let mut request = Vec::new();
    (0..100).for_each(|_| encode(&mut request, &[b"GET".as_slice(), b"big"]));
    never.write_all(&request).expect("it is taken");
    let begin = Instant::now();
    while admin.info("stats", "client_output_buffer_limit_disconnections") != Some("1".into()) {
        assert!(
            begin.elapsed() < Duration::from_secs(20),
            "it is still there"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    // What a client sent before it left is executed.
    let mut leaving = TcpStream::connect(("127.0.0.1", cluster.port(node))).expect("a connection");
    let mut request = Vec::new();
    (0..1000).for_each(|_| encode(&mut request, &[b"INCR".as_slice(), b"left"]));
    leaving.write_all(&request).expect("it is taken");
    leaving.shutdown(std::net::Shutdown::Write).expect("it can");
    let begin = Instant::now();
    while admin.ask("INCRBY left 0") != "1000" {
        assert!(
            begin.elapsed() < Duration::from_secs(20),
            "not all executed"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn strangers_and_broken_requests_are_told_so() {
    let (cluster, node) = node_with(2, &[]);
    cluster.client(node).ok("CONFIG SET requirepass secret");
    let port = cluster.port(node);
    let ask = |request: &[u8]| {
        let mut s = TcpStream::connect(("127.0.0.1", port)).expect("a connection");
        s.set_read_timeout(Some(Duration::from_secs(20)))
            .expect("it takes it");
        s.write_all(request).expect("it is taken");
        let mut reply = vec![0; 4096];
        let n = s.read(&mut reply).expect("a reply");
        String::from_utf8_lossy(&reply[..n]).into_owned()
    };
    assert!(ask(b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n").starts_with("-NOAUTH"));
    assert!(ask(b"*2\r\n$3\r\nGET\r\n$1000000\r\n").contains("unauthenticated bulk length"));
    let both = b"*2\r\n$4\r\nAUTH\r\n$6\r\nsecret\r\n*1\r\n$4\r\nPING\r\n";
    assert!(ask(both).starts_with("+OK\r\n"));
    let broken = b"*2\r\n$4\r\nAUTH\r\n$6\r\nsecret\r\n*1\r\n!4\r\nPING\r\n";
    assert!(ask(broken).starts_with("+OK\r\n"));
    let mut s = TcpStream::connect(("127.0.0.1", port)).expect("a connection");
    s.write_all(both).expect("it is taken");
    let mut seven = [0; 12];
    s.read_exact(&mut seven).expect("two replies");
    s.write_all(b"*1\r\n!4\r\nPING\r\n").expect("it is taken");
    let mut rest = String::new();
    s.read_to_string(&mut rest).expect("an error, and the end");
    assert_eq!(rest, "-ERR Protocol error: expected '$', got '!'\r\n");
}

#[test]
fn what_a_thread_has_read_of_a_command_is_seen() {
    let (mut cluster, node) = node_with(2, &[]);
    let mut stream = TcpStream::connect(("127.0.0.1", cluster.port(node))).expect("a connection");
    let mut begun = Vec::new();
    encode(&mut begun, &[b"CLIENT", b"SETNAME", b"reader"]);
    begun.extend(b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$100000\r\n");
    begun.extend([b'x'; 40_000]);
    stream.write_all(&begun).expect("written");
    let mut seen = |what: &str, len: usize, free: usize| {
        cluster.wait(what, |c| {
            let line = c.client(node).ask("CLIENT LIST NAME reader");
            let figure = |name: &str| {
                let word = line.split(' ').find_map(|w| w.strip_prefix(name));
                word.and_then(|n| n.parse::<usize>().ok()).unwrap_or(0)
            };
            figure("qbuf=") >= len && figure("qbuf-free=") >= free
        });
    };
    seen("the bytes to be seen", 40_000, 0);
    // What comes next is read to where the others are.
    stream.write_all(&[b'x'; 10_000]).expect("written");
    seen("the bytes to be seen, and room for more", 50_000, 1);
}

#[test]
fn memory_is_not_asked_for_ahead_when_that_is_off() {
    let (cluster, node) = node_with(2, &["prefetch-batch-max-size 0"]);
    let mut client = cluster.client(node);
    let mut asked_for = || {
        let entries = |client: &mut Client| {
            let n = client.info("stats", "io_threaded_total_prefetch_entries");
            n.and_then(|n| n.parse::<u64>().ok()).expect("a number")
        };
        let before = entries(&mut client);
        let mut stream =
            TcpStream::connect(("127.0.0.1", cluster.port(node))).expect("a connection");
        let mut request = Vec::new();
        for n in 0..8 {
            encode(
                &mut request,
                &[b"GET".as_slice(), format!("k{n}").as_bytes()],
            );
        }
        stream.write_all(&request).expect("written");
        let mut replies = [0; 8 * 5];
        stream.read_exact(&mut replies).expect("read");
        let more = entries(&mut client) - before;
        client.ok("CONFIG SET prefetch-batch-max-size 16");
        more
    };
    assert_eq!(asked_for(), 0);
    assert_eq!(asked_for(), 8);
}
