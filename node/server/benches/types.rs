//! The data types beside Valkey: memory a key or element, processor time a command, and what a snapshot costs.
//!
//! `cargo bench -p holdfast-server --bench types`
//!
//! Prints tables and writes `types-memory.svg` and `types-speed.svg`. Set `HOLDFAST_VALKEY` to compare with another valkey-server than the
//! one on the path. `PART` chooses `memory`, `speed`, `snapshot` or `stall`; `KEYS` (5000000) is the size of the large data sets, `ONLY` a part of the
//! names of data sets or commands, `ROUNDS` (3) and `REQUESTS` (400000) the length of a measurement of speed.

#[path = "types/stall.rs"]
mod stall;
mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use holdfast_resp::reply::Reply;
use support::chart::{self, Series};
use support::harness::client::encode;
use support::harness::{Client, Cluster, NodeRef};
use support::{percentile, process, setting, valkey_server, version};

fn main() {
    let part = std::env::var("PART").unwrap_or_default();
    let wanted = |name: &str| part.is_empty() || part == name;
    println!("Holdfast beside {}", version(&valkey_server()));
    if wanted("memory") {
        memory();
    }
    if wanted("speed") {
        speed();
    }
    if wanted("snapshot") {
        snapshot();
    }
    if wanted("stall") {
        stall::stall();
    }
}

fn only(name: &str) -> bool {
    std::env::var("ONLY").map_or(true, |only| name.contains(&only))
}

/// A fresh pair of servers, ours first.
fn pair() -> (Cluster, [NodeRef; 2]) {
    let mut cluster = Cluster::in_dir(&support::output_dir());
    let lone = ["cluster-enabled no", "save \"\"", "appendonly no"];
    let ours = cluster.add_node(&lone);
    let theirs = cluster.add_program(valkey_server(), &lone, false);
    (cluster, [ours, theirs])
}

/// A small generator of numbers that are as good as random, the same in every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((u128::from(self.0) * u128::from(bound)) >> 64) as u64
    }
}

/// A connection that sends many commands before it reads the replies.
struct Pipe {
    stream: TcpStream,
    out: Vec<u8>,
    waiting: usize,
    seen: Vec<u8>,
}

/// Where a reply that begins at `at` ends; `None` if it is not all there.
fn reply_end(bytes: &[u8], at: usize) -> Option<usize> {
    let line = at + bytes.get(at..)?.windows(2).position(|w| w == b"\r\n")?;
    let kind = *bytes.get(at)?;
    let number = || {
        std::str::from_utf8(bytes.get(at + 1..line)?)
            .ok()?
            .parse::<i64>()
            .ok()
    };
    match kind {
        b'$' => match number()? {
            ..0 => Some(line + 2),
            n => Some(line + 2 + n as usize + 2).filter(|end| *end <= bytes.len()),
        },
        b'*' => (0..number()?.max(0)).try_fold(line + 2, |at, _| reply_end(bytes, at)),
        b'-' => panic!("{}", String::from_utf8_lossy(&bytes[at..line])),
        _ => Some(line + 2),
    }
}

impl Pipe {
    fn connect(port: u16) -> Pipe {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("the server listens");
        stream.set_nodelay(true).expect("a socket");
        Pipe {
            stream,
            out: Vec::new(),
            waiting: 0,
            seen: Vec::new(),
        }
    }

    fn push(&mut self, args: &[&[u8]]) {
        encode(&mut self.out, args);
        self.waiting += 1;
    }

    fn send(&mut self) {
        self.stream.write_all(&self.out).expect("the server reads");
        self.out.clear();
    }

    /// Reads all replies that are due.
    fn settle(&mut self) {
        let mut buf = [0; 64 * 1024];
        while self.waiting > 0 {
            let n = self.stream.read(&mut buf).expect("the server answers");
            assert!(n > 0, "the server has closed the connection");
            self.seen.extend_from_slice(&buf[..n]);
            let mut at = 0;
            while self.waiting > 0
                && let Some(end) = reply_end(&self.seen, at)
            {
                at = end;
                self.waiting -= 1;
            }
            self.seen.drain(..at);
        }
    }
}

/// Adds the `i`-th command.
type Make = fn(&mut Pipe, u64);

/// What memory is measured with.
struct DataSet {
    name: &'static str,
    /// Number of commands that fill it, for five million keys.
    commands: u64,
    /// Things that one command adds, which the memory is divided by.
    things: u64,
    make: Make,
}

fn key(i: u64) -> String {
    format!("key:{i:012}")
}

/// Twelve bytes that no encoding takes for a number.
fn word(i: u64) -> String {
    format!("w{:011}", i.wrapping_mul(2_654_435_761) % 100_000_000_000)
}

fn text(i: u64, bytes: usize) -> Vec<u8> {
    let mut numbers = Numbers(i.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    (0..bytes).map(|_| b'a' + numbers.below(26) as u8).collect()
}

fn group(pipe: &mut Pipe, verb: &str, key: &str, args: impl Iterator<Item = String>) {
    let all: Vec<String> = [verb.to_owned(), key.to_owned()]
        .into_iter()
        .chain(args)
        .collect();
    pipe.push(&all.iter().map(|a| a.as_bytes()).collect::<Vec<_>>());
}

const DATA_SETS: &[DataSet] = &[
    DataSet {
        name: "string 32 B",
        commands: 5_000_000,
        things: 1,
        make: |p, i| p.push(&[b"SET", key(i).as_bytes(), &text(i, 32)]),
    },
    DataSet {
        name: "string 32 B, TTL",
        commands: 5_000_000,
        things: 1,
        make: |p, i| {
            let ttl = (100_000 + i % 50_000).to_string();
            p.push(&[
                b"SET",
                key(i).as_bytes(),
                &text(i, 32),
                b"EX",
                ttl.as_bytes(),
            ]);
        },
    },
    DataSet {
        name: "string integer",
        commands: 5_000_000,
        things: 1,
        make: |p, i| p.push(&[b"SET", key(i).as_bytes(), (i * 7919).to_string().as_bytes()]),
    },
    DataSet {
        name: "string 200 B",
        commands: 5_000_000,
        things: 1,
        make: |p, i| p.push(&[b"SET", key(i).as_bytes(), &text(i, 200)]),
    },
    DataSet {
        name: "hash of 10",
        commands: 500_000,
        things: 1,
        make: |p, i| {
            let fields = (0..10).flat_map(|f| [word(f), word(i * 10 + f)]);
            group(p, "HSET", &key(i), fields);
        },
    },
    DataSet {
        name: "hash of 1,000, a field",
        commands: 30_000,
        things: 100,
        make: |p, i| {
            let first = i % 10 * 100;
            let fields = (first..first + 100).flat_map(|f| [word(f), word(i * 100 + f)]);
            group(p, "HSET", &key(i / 10), fields);
        },
    },
    DataSet {
        name: "set of 100 integers",
        commands: 100_000,
        things: 1,
        make: |p, i| {
            group(
                p,
                "SADD",
                &key(i),
                (0..100).map(|m| (m * 1_000 + i).to_string()),
            )
        },
    },
    DataSet {
        name: "set of 100 strings",
        commands: 50_000,
        things: 1,
        make: |p, i| group(p, "SADD", &key(i), (0..100).map(|m| word(i * 100 + m))),
    },
    DataSet {
        name: "set of 1,000 strings, a member",
        commands: 30_000,
        things: 100,
        make: |p, i| group(p, "SADD", &key(i / 10), (0..100).map(|m| word(i * 100 + m))),
    },
    DataSet {
        name: "sorted set of 100",
        commands: 50_000,
        things: 1,
        make: |p, i| {
            let pairs = (0..100).flat_map(|m| [(m * 31 + i).to_string(), word(i * 100 + m)]);
            group(p, "ZADD", &key(i), pairs);
        },
    },
    DataSet {
        name: "sorted set of 100,000, a member",
        commands: 30_000,
        things: 100,
        make: |p, i| {
            let pairs = (0..100).flat_map(|m| {
                let n = i * 100 + m;
                [
                    (n.wrapping_mul(2_654_435_761) % 1_000_003).to_string(),
                    word(n),
                ]
            });
            group(p, "ZADD", &key(i / 1000), pairs);
        },
    },
    DataSet {
        name: "list of 100",
        commands: 100_000,
        things: 1,
        make: |p, i| group(p, "RPUSH", &key(i), (0..100).map(|m| word(i * 100 + m))),
    },
    DataSet {
        name: "stream of 1,000, an entry",
        commands: 2_000_000,
        things: 1,
        make: |p, i| {
            let id = format!("{}-{}", 1_700_000_000_000 + i / 3, i % 3);
            group(
                p,
                "XADD",
                &key(i / 1000),
                [
                    id,
                    "sensor".into(),
                    word(i),
                    "value".into(),
                    (i % 977).to_string(),
                ]
                .into_iter(),
            );
        },
    },
];

fn fill(port: u16, set: &DataSet, commands: u64) {
    let mut pipe = Pipe::connect(port);
    for i in 0..commands {
        (set.make)(&mut pipe, i);
        if pipe.waiting == 200 {
            pipe.send();
            pipe.settle();
        }
    }
    pipe.send();
    pipe.settle();
}

fn memory() {
    let keys = setting("KEYS", 5_000_000);
    println!(
        "\nMemory, resident bytes\n{:<34}{:>10}{:>10}{:>8}",
        "", "holdfast", "valkey", "ratio"
    );
    let mut names = Vec::new();
    let mut bytes = [Vec::new(), Vec::new()];
    for set in DATA_SETS.iter().filter(|s| only(s.name)) {
        let commands = set.commands * keys / 5_000_000;
        let (mut cluster, nodes) = pair();
        let mut each = Vec::new();
        for node in nodes {
            cluster.start(node);
            let before = process::resident_bytes(cluster.pid(node));
            fill(cluster.port(node), set, commands);
            let after = process::resident_bytes(cluster.pid(node));
            each.push((after - before) as f64 / (commands * set.things) as f64);
            cluster.kill(node);
        }
        println!(
            "{:<34}{:>10.1}{:>10.1}{:>8.2}",
            set.name,
            each[0],
            each[1],
            each[0] / each[1]
        );
        names.push(set.name.to_owned());
        bytes[0].push(each[0] / each[1]);
        bytes[1].push(1.0);
    }
    report("types-memory", "Memory, Valkey's being 1", &names, bytes);
}

fn report(name: &str, title: &str, groups: &[String], [ours, theirs]: [Vec<f64>; 2]) {
    let series = [("holdfast", ours), ("valkey", theirs)].map(|(name, values)| Series {
        name: name.to_owned(),
        values,
    });
    let path = chart::bars(name, title, "", groups, &series);
    println!("chart: {}", path.display());
}

/// What speed is measured with: commands that prepare, and the command.
struct Case {
    name: &'static str,
    prepare: &'static [(u64, Make)],
    make: fn(&mut Pipe, &mut Numbers),
}

const SPREAD: u64 = 100_000;
const COLLECTIONS: u64 = 10_000;

const STRINGS: (u64, Make) = (SPREAD, |p, i| {
    p.push(&[b"SET", key(i).as_bytes(), &text(i, 64)])
});
const HASHES: (u64, Make) = (COLLECTIONS, |p, i| {
    group(
        p,
        "HSET",
        &format!("h{i}"),
        (0..10).flat_map(|f| [word(f), word(i + f)]),
    );
});
const LISTS: (u64, Make) = (COLLECTIONS, |p, i| {
    group(p, "RPUSH", &format!("l{i}"), (0..100).map(|m| word(i + m)));
});
const ZSETS: (u64, Make) = (COLLECTIONS, |p, i| {
    group(
        p,
        "ZADD",
        &format!("z{i}"),
        (0..200).flat_map(|m| [(m * 5).to_string(), word(m)]),
    );
});

fn numbered(letter: char, n: &mut Numbers, of: u64) -> String {
    format!("{letter}{}", n.below(of))
}

const CASES: &[Case] = &[
    Case {
        name: "GET",
        prepare: &[STRINGS],
        make: |p, n| p.push(&[b"GET", key(n.below(SPREAD)).as_bytes()]),
    },
    Case {
        name: "SET",
        prepare: &[STRINGS],
        make: |p, n| p.push(&[b"SET", key(n.below(SPREAD)).as_bytes(), &[b'x'; 64]]),
    },
    Case {
        name: "INCR",
        prepare: &[],
        make: |p, n| p.push(&[b"INCR", numbered('i', n, SPREAD).as_bytes()]),
    },
    Case {
        name: "HSET",
        prepare: &[HASHES],
        make: |p, n| {
            let (key, field) = (numbered('h', n, COLLECTIONS), word(n.below(10)));
            p.push(&[b"HSET", key.as_bytes(), field.as_bytes(), b"another value"]);
        },
    },
    Case {
        name: "HGET",
        prepare: &[HASHES],
        make: |p, n| {
            let (key, field) = (numbered('h', n, COLLECTIONS), word(n.below(10)));
            p.push(&[b"HGET", key.as_bytes(), field.as_bytes()]);
        },
    },
    Case {
        name: "HGETALL 10",
        prepare: &[HASHES],
        make: |p, n| p.push(&[b"HGETALL", numbered('h', n, COLLECTIONS).as_bytes()]),
    },
    Case {
        name: "LPUSH",
        prepare: &[LISTS],
        make: |p, n| {
            p.push(&[
                b"LPUSH",
                numbered('l', n, COLLECTIONS).as_bytes(),
                b"an element",
            ])
        },
    },
    Case {
        name: "LRANGE 100",
        prepare: &[LISTS],
        make: |p, n| {
            p.push(&[
                b"LRANGE",
                numbered('l', n, COLLECTIONS).as_bytes(),
                b"0",
                b"99",
            ])
        },
    },
    Case {
        name: "SADD",
        prepare: &[],
        make: |p, n| {
            let (key, member) = (numbered('s', n, COLLECTIONS), word(n.below(500)));
            p.push(&[b"SADD", key.as_bytes(), member.as_bytes()]);
        },
    },
    Case {
        name: "ZADD",
        prepare: &[ZSETS],
        make: |p, n| {
            let (key, score) = (numbered('z', n, COLLECTIONS), n.below(1000).to_string());
            p.push(&[
                b"ZADD",
                key.as_bytes(),
                score.as_bytes(),
                word(n.below(200)).as_bytes(),
            ]);
        },
    },
    Case {
        name: "ZRANGE 10",
        prepare: &[ZSETS],
        make: |p, n| {
            p.push(&[
                b"ZRANGE",
                numbered('z', n, COLLECTIONS).as_bytes(),
                b"50",
                b"59",
            ])
        },
    },
    Case {
        name: "ZRANGEBYSCORE 10",
        prepare: &[ZSETS],
        make: |p, n| {
            let from = n.below(900);
            let (from, to) = (from.to_string(), (from + 49).to_string());
            let key = numbered('z', n, COLLECTIONS);
            p.push(&[
                b"ZRANGEBYSCORE",
                key.as_bytes(),
                from.as_bytes(),
                to.as_bytes(),
            ]);
        },
    },
    Case {
        name: "XADD",
        prepare: &[],
        make: |p, n| {
            let key = numbered('x', n, 1000);
            p.push(&[
                b"XADD",
                key.as_bytes(),
                b"*",
                b"sensor",
                b"temperature",
                b"value",
                b"21.5",
            ]);
        },
    },
    Case {
        name: "MSET 10",
        prepare: &[STRINGS],
        make: |p, n| {
            let keys: Vec<String> = (0..10).map(|_| key(n.below(SPREAD))).collect();
            let mut args: Vec<&[u8]> = vec![b"MSET"];
            for key in &keys {
                args.extend([key.as_bytes(), &[b'y'; 64]]);
            }
            p.push(&args);
        },
    },
    Case {
        name: "SCAN",
        prepare: &[STRINGS],
        make: |p, n| p.push(&[b"SCAN", n.below(1 << 16).to_string().as_bytes()]),
    },
    Case {
        name: "EXPIRE",
        prepare: &[STRINGS],
        make: |p, n| {
            let (key, ttl) = (key(n.below(SPREAD)), (10_000 + n.below(1000)).to_string());
            p.push(&[b"EXPIRE", key.as_bytes(), ttl.as_bytes()]);
        },
    },
];

/// Processor time of the server for each command, in microseconds: 50 clients, 16 commands at a time.
fn measure(cluster: &Cluster, node: NodeRef, case: &Case, requests: u64, seed: u64) -> f64 {
    const CLIENTS: u64 = 50;
    const DEPTH: u64 = 16;
    let mut pipes: Vec<Pipe> = (0..CLIENTS)
        .map(|_| Pipe::connect(cluster.port(node)))
        .collect();
    let mut numbers = Numbers(seed);
    let rounds = (requests / CLIENTS / DEPTH).max(1);
    let before = process::cpu_time(cluster.pid(node));
    for _ in 0..rounds {
        for pipe in &mut pipes {
            (0..DEPTH).for_each(|_| (case.make)(pipe, &mut numbers));
            pipe.send();
        }
        pipes.iter_mut().for_each(Pipe::settle);
    }
    let used = process::cpu_time(cluster.pid(node)) - before;
    used.as_secs_f64() * 1e6 / (rounds * CLIENTS * DEPTH) as f64
}

fn speed() {
    let (rounds, requests) = (setting("ROUNDS", 3), setting("REQUESTS", 400_000));
    println!(
        "\nSpeed, server CPU a command\n{:<34}{:>10}{:>10}{:>8}",
        "", "holdfast", "valkey", "ratio"
    );
    let mut names = Vec::new();
    let mut times = [Vec::new(), Vec::new()];
    let (mut cluster, nodes) = pair();
    cluster.start_all();
    for case in CASES.iter().filter(|c| only(c.name)) {
        for node in nodes {
            let port = cluster.port(node);
            Client::connect(port).expect("a client").ok("FLUSHALL");
            for (commands, make) in case.prepare {
                let set = DataSet {
                    name: "",
                    commands: *commands,
                    things: 1,
                    make: *make,
                };
                fill(port, &set, *commands);
            }
        }
        let mut samples = [Vec::new(), Vec::new()];
        for round in 0..rounds {
            for (node, samples) in nodes.iter().zip(&mut samples) {
                samples.push(measure(&cluster, *node, case, requests, round + 1));
            }
        }
        let [ours, theirs] = samples.map(|mut s| {
            s.sort_by(f64::total_cmp);
            percentile(&s, 50.0)
        });
        println!(
            "{:<34}{ours:>7.2} us{theirs:>7.2} us{:>8.2}",
            case.name,
            ours / theirs
        );
        names.push(case.name.to_owned());
        times[0].push(ours / theirs);
        times[1].push(1.0);
    }
    report(
        "types-speed",
        "Server CPU a command, Valkey's being 1",
        &names,
        times,
    );
}

/// Memory of a process and its children, without what they share being counted twice.
fn proportional_bytes(pid: u32) -> u64 {
    let children = format!("/proc/{pid}/task/{pid}/children");
    let children = std::fs::read_to_string(children).unwrap_or_default();
    let all = children
        .split_ascii_whitespace()
        .filter_map(|c| c.parse().ok())
        .chain([pid]);
    all.filter_map(|pid: u32| {
        let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
        let line = rollup.lines().find_map(|l| l.strip_prefix("Pss:"))?;
        line.split_ascii_whitespace().next()?.parse::<u64>().ok()
    })
    .sum::<u64>()
        * 1024
}

/// Writes at a fixed rate until told to stop; latencies from when each was due, in microseconds.
fn writes(port: u16, keys: u64, per_ms: u64, stop: &std::sync::atomic::AtomicBool) -> Vec<u64> {
    let mut pipe = Pipe::connect(port);
    let mut numbers = Numbers(77);
    let mut latencies = Vec::new();
    let begin = Instant::now();
    let mut tick = 0;
    while !stop.load(std::sync::atomic::Ordering::Relaxed) {
        tick += 1;
        let due = begin + Duration::from_millis(tick);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        for _ in 0..per_ms {
            pipe.push(&[b"SET", key(numbers.below(keys)).as_bytes(), &[b'n'; 32]]);
        }
        pipe.send();
        pipe.settle();
        latencies.push(due.elapsed().as_micros() as u64);
    }
    latencies
}

/// Has a node save under 50,000 writes a second, looking at it from time to time. How long that took, and the writes' latencies in order.
fn save_under_writes(
    client: &mut Client,
    port: u16,
    keys: u64,
    look: &mut dyn FnMut(),
) -> (Duration, Vec<u64>) {
    let stop = std::sync::atomic::AtomicBool::new(false);
    let (took, mut latencies) = std::thread::scope(|scope| {
        let writer = scope.spawn(|| writes(port, keys, 50, &stop));
        std::thread::sleep(Duration::from_millis(300));
        let begin = Instant::now();
        client.run("BGSAVE");
        loop {
            look();
            let running = client.info("persistence", "rdb_bgsave_in_progress");
            if running.as_deref() == Some("0") {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let took = begin.elapsed();
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        (took, writer.join().expect("the writer"))
    });
    latencies.sort_unstable();
    (took, latencies)
}

fn snapshot() {
    let keys = setting("KEYS", 5_000_000);
    println!("\nA snapshot of {keys} keys under 50,000 writes a second");
    let mut cluster = Cluster::in_dir(&support::output_dir());
    let lone = ["cluster-enabled no", "save \"\"", "appendonly no"];
    let nodes = [
        ("holdfast", cluster.add_node(&lone)),
        ("valkey", cluster.add_program(valkey_server(), &lone, false)),
    ];
    for (name, node) in nodes {
        cluster.start(node);
        let port = cluster.port(node);
        fill(port, &DATA_SETS[0], keys);
        let pid = cluster.pid(node);
        let mut client = Client::connect(port).expect("a client");
        // To look at a process's memory stops it for milliseconds: that is another save's.
        let (took, latencies) = save_under_writes(&mut client, port, keys, &mut || {});
        let before = proportional_bytes(pid);
        let mut peak = 0;
        save_under_writes(&mut client, port, keys, &mut || {
            peak = peak.max(proportional_bytes(pid));
        });
        let file: PathBuf = cluster.node_dir(node).join("dump.rdb");
        let size = std::fs::metadata(&file).map_or(0, |m| m.len());
        cluster.kill(node);
        let begin = Instant::now();
        cluster.start(node);
        let mut client = Client::connect(port).expect("a client");
        while !matches!(client.try_run("DBSIZE"), Ok(Reply::Int(n)) if n == keys as i64) {
            assert!(
                begin.elapsed() < Duration::from_secs(300),
                "{name} does not load"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        println!(
            "{name:<10} {:>6.2} s, file {:.1} MiB, extra memory {:.1} % of {:.0} MiB, writes p99.9 {:.2} ms, longest \
             {:.2} ms, loading {:.2} s",
            took.as_secs_f64(),
            size as f64 / 1048576.0,
            peak.saturating_sub(before) as f64 * 100.0 / before as f64,
            before as f64 / 1048576.0,
            percentile(&latencies, 99.9) as f64 / 1000.0,
            *latencies.last().unwrap_or(&0) as f64 / 1000.0,
            begin.elapsed().as_secs_f64(),
        );
        cluster.kill(node);
    }
}
