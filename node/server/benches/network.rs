//! The network path beside Valkey: throughput, processor time a command, latencies, memory a connection.
//!
//! `cargo bench -p holdfast-server --bench network`
//!
//! The load is `holdfast bench`'s, as a library; the servers take turns, each stopped (`SIGSTOP`) while it is the other's, since threads that look for
//! work without sleeping take a core from whoever is measured. Figures are medians over rounds with their least and greatest.
//! `PART` chooses `mix` (one thread, GET and SET), `threads` (io-threads 2, by thread), `connections` (10,000 idle, 10,000 active),
//! `big` (values of 1 MiB), `tls`; several with commas. `ROUNDS` (5) and `MILLIS` (2000) are the length of a measurement, `CONNECTIONS` (10000)
//! their number. Set `HOLDFAST_VALKEY` to compare with another valkey-server than the one on the path, and `HOLDFAST_VALKEY_TLS` if that one
//! was built without TLS.
//! Prints tables, and writes `network.svg`: all ratios.

mod support;

use std::path::PathBuf;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use holdfast_bench::chart::{self, Axis, Panel, Series, Values};
use holdfast_bench::compare::{self, Comparison, Figure, Side, Spread};
use holdfast_bench::net::{self, Address, Link, Target};
use holdfast_bench::plan::{Load, Plan, Until, Work};
use holdfast_bench::report::{grouped, latency};
use holdfast_bench::run::{self, Unwatched, Watcher};
use holdfast_bench::server::{self, Cpu, Identity};
use holdfast_bench::sizes::Sizes;
use holdfast_bench::tls::{Tls, TlsOptions};
use rustix::process::{Pid, Signal, kill_process};
use support::harness::cluster::free_port;
use support::harness::{Cluster, NodeRef};
use support::{setting, valkey_server, version};

fn main() {
    let part = std::env::var("PART").unwrap_or_default();
    let wanted = |name: &str| part.is_empty() || part.split(',').any(|p| p == name);
    println!("Holdfast beside {}", version(&valkey_server()));
    let mut ratios = Ratios::default();
    if wanted("mix") {
        mix(&mut ratios);
    }
    if wanted("threads") {
        threads(&mut ratios);
    }
    if wanted("connections") {
        connections(&mut ratios);
    }
    if wanted("big") {
        big(&mut ratios);
    }
    if wanted("tls") {
        tls(&mut ratios);
    }
    ratios.draw();
}

/// A fresh pair of servers, ours first.
struct Pair {
    cluster: Cluster,
    nodes: [NodeRef; 2],
    targets: [Target; 2],
}

impl Pair {
    fn start(config: &[&str]) -> Pair {
        let mut cluster = Cluster::in_dir(&support::output_dir());
        let mut lines = vec!["cluster-enabled no", "save \"\"", "appendonly no"];
        lines.extend_from_slice(config);
        let ours = cluster.add_node(&lines);
        let theirs = cluster.add_program(valkey_server(), &lines, false);
        cluster.start_all();
        let nodes = [ours, theirs];
        Pair {
            targets: nodes.map(|node| local(cluster.port(node))),
            cluster,
            nodes,
        }
    }

    /// Both with TLS; `None` where Valkey has none.
    fn start_with_tls() -> Option<Pair> {
        let valkey = std::env::var_os("HOLDFAST_VALKEY_TLS").map(PathBuf::from);
        let valkey = valkey.unwrap_or_else(valkey_server);
        // It ends either way: with TLS, because there is no certificate.
        let tls_port = free_port().to_string();
        let check = ["--port", "0", "--tls-port", &tls_port];
        let output = Command::new(&valkey).args(check).output().ok()?;
        if String::from_utf8_lossy(&output.stdout).contains("connection type tls") {
            return None;
        }
        let mut cluster = Cluster::in_dir(&support::output_dir());
        let [certificate, key] = ["cert.pem", "key.pem"].map(|f| cluster.dir().join(f));
        let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]);
        let made = made.expect("a certificate");
        std::fs::write(&certificate, made.cert.pem()).expect("written");
        std::fs::write(&key, made.signing_key.serialize_pem()).expect("written");
        let tls = Tls::new(&TlsOptions {
            insecure: true,
            ..TlsOptions::default()
        });
        let tls = tls.expect("TLS");
        let ports = [(); 2].map(|()| free_port());
        let [ours, theirs] = ports.map(|port| {
            [
                "cluster-enabled no".to_owned(),
                "save \"\"".to_owned(),
                "appendonly no".to_owned(),
                format!("tls-port {port}"),
                format!("tls-cert-file {}", certificate.display()),
                format!("tls-key-file {}", key.display()),
                format!("tls-ca-cert-file {}", certificate.display()),
                "tls-auth-clients no".to_owned(),
            ]
        });
        let ours = cluster.add_node(&ours.each_ref().map(String::as_str));
        let theirs = cluster.add_program(valkey, &theirs.each_ref().map(String::as_str), false);
        cluster.start_all();
        Some(Pair {
            cluster,
            nodes: [ours, theirs],
            targets: ports.map(|port| Target {
                tls: Some(tls.clone()),
                ..local(port)
            }),
        })
    }

    fn pid(&self, side: usize) -> u32 {
        self.cluster.pid(self.nodes[side])
    }

    /// Fills both, and loads them in turns.
    fn compare(&self, load: &Load, work: &Work, fill: bool) -> Comparison {
        let sides = [0, 1].map(|side| Side {
            plan: Plan {
                target: self.targets[side].clone(),
                cluster: false,
                load: load.clone(),
                work: work.clone(),
            },
            identity: Identity {
                name: NAMES[side].to_owned(),
                pid: Some(self.pid(side)),
            },
        });
        for side in sides.iter().filter(|_| fill) {
            run::preload(&side.plan, &mut Unwatched).expect("keys are filled");
        }
        let rounds = setting("ROUNDS", 5) as usize;
        let mut turns = Turns::new(self);
        compare::compare([&sides[0], &sides[1]], rounds, &mut turns).expect("both servers answer")
    }
}

/// Lets one server of a pair run at a time, beginning with the first.
struct Turns {
    pids: [Pid; 2],
    next: usize,
}

impl Turns {
    fn new(pair: &Pair) -> Turns {
        let pid = |side| Pid::from_raw(pair.pid(side) as i32).expect("a process");
        Turns {
            pids: [pid(0), pid(1)],
            next: 0,
        }
    }

    fn send(&self, side: usize, signal: Signal) {
        kill_process(self.pids[side], signal).expect("it is our child, and runs");
    }

    fn give_to(&mut self, side: usize) {
        self.send(1 - side, Signal::STOP);
        self.send(side, Signal::CONT);
        self.next = 1 - side;
    }
}

impl Watcher for Turns {
    fn phase(&mut self, _: &str) {
        self.give_to(self.next);
    }
}

impl Drop for Turns {
    fn drop(&mut self) {
        (0..2).for_each(|side| self.send(side, Signal::CONT));
    }
}

fn local(port: u16) -> Target {
    Target::plain(Address::Tcp("127.0.0.1".to_owned(), port))
}

const NAMES: [&str; 2] = ["holdfast", "valkey"];

fn work(mix: &[(&str, u64)], value_bytes: u64, keys: u64) -> Work {
    let mut work = Work {
        keys,
        data: Sizes::fixed(value_bytes),
        ..Work::default()
    };
    for (name, weight) in mix {
        work.add_named(name, *weight, false).expect("a name");
    }
    work
}

fn load(clients: usize, pipeline: usize) -> Load {
    Load {
        clients,
        pipeline,
        until: Until::Time(Duration::from_millis(setting("MILLIS", 2000))),
        warm_up: Duration::from_millis(300),
        ..Load::default()
    }
}

/// A figure's name, how it is shown, and the figure.
type Row<'a> = (&'a str, &'a dyn Fn(f64) -> String, Option<Figure>);

/// What the chart shows.
#[derive(Default)]
struct Ratios {
    names: Vec<String>,
    throughput: Vec<f64>,
    cpu: Vec<f64>,
    p999: Vec<f64>,
}

impl Ratios {
    /// Prints a case's rows and keeps its ratios.
    fn add(&mut self, name: &str, comparison: &Comparison) {
        println!("\n{name}");
        println!("{:<12}{:>34}{:>34}{:>22}", "", NAMES[0], NAMES[1], "ratio");
        let micros = |us: f64| latency(us * 1000.0);
        let rows: [Row; 6] = [
            ("per second", &grouped, comparison.throughput()),
            ("CPU", &|us| format!("{us:.3} us"), comparison.cpu_us()),
            ("p50", &micros, comparison.latency_us(50.0)),
            ("p99", &micros, comparison.latency_us(99.0)),
            ("p99.9", &micros, comparison.latency_us(99.9)),
            (
                "generator",
                &percent,
                comparison.figure(|r| Some(r.outcome.generator_busy)),
            ),
        ];
        for (name, show, figure) in rows {
            let figure = figure.expect("every round has it");
            let cell =
                |s: &Spread| format!("{} ({}..{})", show(s.median), show(s.min), show(s.max));
            let r = figure.ratio;
            println!(
                "{name:<12}{:>34}{:>34}{:>22}",
                cell(&figure.sides[0]),
                cell(&figure.sides[1]),
                format!("{:.2} ({:.2}..{:.2})", r.median, r.min, r.max)
            );
        }
        for (side, name) in NAMES.iter().enumerate() {
            let threads: Vec<String> = comparison
                .threads_us(side)
                .iter()
                .map(|(thread, s)| format!("{thread} {:.3}", s.median))
                .collect();
            println!("{name}, CPU by thread: {} us", threads.join(", "));
            let tally = comparison.whole(side);
            assert!(tally.errors.is_empty(), "{name}: {:?}", tally.errors);
        }
        let ratio = |figure: Option<Figure>| figure.map_or(0.0, |f| f.ratio.median);
        self.names.push(name.to_owned());
        self.throughput.push(ratio(comparison.throughput()));
        self.cpu.push(ratio(comparison.cpu_us()));
        self.p999.push(ratio(comparison.latency_us(99.9)));
    }

    fn draw(&self) {
        if self.names.is_empty() {
            return;
        }
        let series = |name: &str, values: &[f64]| Series {
            name: name.to_owned(),
            points: values
                .iter()
                .enumerate()
                .map(|(n, v)| (n as f64, *v))
                .collect(),
        };
        // The charts below each other have room for a few names each.
        let panels: Vec<Panel> = (0..self.names.len())
            .step_by(4)
            .map(|from| {
                let to = (from + 4).min(self.names.len());
                Panel {
                    title: "Holdfast beside Valkey: ratios".to_owned(),
                    values: Values::Numbers(""),
                    axis: Axis::Groups(self.names[from..to].to_vec()),
                    series: vec![
                        series("replies a second", &self.throughput[from..to]),
                        series("server CPU a command", &self.cpu[from..to]),
                        series("p99.9", &self.p999[from..to]),
                    ],
                    logarithmic: false,
                }
            })
            .collect();
        let path = support::output_dir().join("network.svg");
        std::fs::write(&path, chart::draw(&panels)).expect("written");
        println!("\nchart: {}", path.display());
    }
}

fn percent(part: f64) -> String {
    format!("{:.0} %", part * 100.0)
}

fn mix(ratios: &mut Ratios) {
    let pair = Pair::start(&[]);
    let work = work(&[("get", 80), ("set", 20)], 64, 100_000);
    for (number, (clients, deep)) in [(50, 1), (500, 1), (50, 16), (500, 16)]
        .into_iter()
        .enumerate()
    {
        let comparison = pair.compare(&load(clients, deep), &work, number == 0);
        ratios.add(
            &format!("GET/SET, {clients} clients, {deep} deep"),
            &comparison,
        );
    }
}

fn threads(ratios: &mut Ratios) {
    let pair = Pair::start(&["io-threads 2"]);
    let get = work(&[("get", 1)], 64, 100_000);
    for (number, (clients, deep)) in [(50, 1), (50, 16), (500, 16)].into_iter().enumerate() {
        let comparison = pair.compare(&load(clients, deep), &get, number == 0);
        let name = format!("io-threads 2: GET, {clients} clients, {deep} deep");
        ratios.add(&name, &comparison);
    }
    let seconds = 5;
    println!(
        "\nio-threads 2: processor time in {seconds} s with 1,000 open connections that do nothing"
    );
    let mut turns = Turns::new(&pair);
    for (side, name) in NAMES.iter().enumerate() {
        turns.give_to(side);
        let open = open(&pair.targets[side], 1000);
        sleep(Duration::from_secs(1));
        let before = Cpu::of(pair.pid(side)).expect("it runs");
        sleep(Duration::from_secs(seconds));
        let used = Cpu::of(pair.pid(side)).expect("it runs").since(&before);
        println!(
            "{name:<12}{:.2} % of a core",
            used.total().as_secs_f64() * 100.0 / seconds as f64
        );
        drop(open);
    }
}

fn open(target: &Target, count: u64) -> Vec<Link> {
    net::allow_descriptors(count + 100).expect("descriptors");
    let connect = |_| target.connect().expect("a connection");
    (0..count).map(connect).collect()
}

fn connections(ratios: &mut Ratios) {
    let count = setting("CONNECTIONS", 10_000);
    // The servers have it from us.
    net::allow_descriptors(count + 1000).expect("descriptors");
    let limit = format!("maxclients {}", count + 200);
    let pair = Pair::start(&[&limit, "tcp-backlog 4096"]);
    println!("\n{count} idle connections: resident memory of each");
    let mut each = Vec::new();
    for (side, name) in NAMES.iter().enumerate() {
        let resident = || server::resident_bytes(pair.pid(side)).expect("it runs") as f64;
        let before = resident();
        let mut open = open(&pair.targets[side], count);
        let silent = (resident() - before) / count as f64;
        // Each has had one command, as clients that pool their connections have.
        for link in &mut open {
            link.call(&["PING"]).expect("an answer");
        }
        let used = (resident() - before) / count as f64;
        println!("{name:<12}{silent:.0} B, {used:.0} B after a PING");
        each.push([silent, used]);
    }
    println!(
        "{:<12}{:.2}, {:.2}",
        "ratio",
        each[0][0] / each[1][0],
        each[0][1] / each[1][1]
    );
    let work = work(&[("get", 80), ("set", 20)], 64, 100_000);
    let comparison = pair.compare(&load(count as usize, 1), &work, true);
    ratios.add(&format!("GET/SET, {count} clients"), &comparison);
}

fn big(ratios: &mut Ratios) {
    let pair = Pair::start(&[]);
    for command in ["get", "set"] {
        let work = work(&[(command, 1)], 1 << 20, 200);
        for clients in [1, 50] {
            let comparison =
                pair.compare(&load(clients, 1), &work, (command, clients) == ("get", 1));
            let name = format!("{} of 1 MiB, {clients} clients", command.to_uppercase());
            ratios.add(&name, &comparison);
        }
    }
}

fn tls(ratios: &mut Ratios) {
    let Some(pair) = Pair::start_with_tls() else {
        println!(
            "\ntls: SKIPPED, this valkey-server was built without it (see HOLDFAST_VALKEY_TLS)"
        );
        return;
    };
    let work = work(&[("get", 80), ("set", 20)], 64, 100_000);
    for (number, (clients, deep)) in [(50, 1), (50, 16)].into_iter().enumerate() {
        let comparison = pair.compare(&load(clients, deep), &work, number == 0);
        ratios.add(
            &format!("TLS: GET/SET, {clients} clients, {deep} deep"),
            &comparison,
        );
    }
}
