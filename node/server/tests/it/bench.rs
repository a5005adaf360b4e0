//! `holdfast bench` as users run it.

use std::collections::BTreeMap;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use crate::harness::cluster::free_port;
use crate::harness::router::slot_of;
use crate::harness::{Cluster, NodeRef};

fn bench(args: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_holdfast"));
    command
        .arg("bench")
        .args(args.split(' ').filter(|a| !a.is_empty()))
        .stdin(Stdio::null());
    command
}

fn output(args: &str) -> Output {
    bench(args).output().expect("the program runs")
}

/// Runs it with JSON out; it must succeed.
fn figures(args: &str) -> Json {
    let output = output(&format!("{args} --json -q"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "bench {args}: {errors}");
    Json::read(&String::from_utf8_lossy(&output.stdout))
}

/// A lone server.
fn lone(config: &[&str]) -> (Cluster, NodeRef) {
    let mut cluster = Cluster::new();
    let mut lines = vec!["cluster-enabled no", "save \"\""];
    lines.extend_from_slice(config);
    let node = cluster.add_node(&lines);
    cluster.start_all();
    (cluster, node)
}

/// How often the server ran a command.
fn calls(cluster: &Cluster, node: NodeRef, command: &str) -> u64 {
    let mut client = cluster.client(node);
    let line = client.info("commandstats", &format!("cmdstat_{command}"));
    let calls = line.and_then(|l| {
        let calls = l.strip_prefix("calls=")?.split(',').next()?;
        calls.parse().ok()
    });
    calls.unwrap_or(0)
}

#[test]
fn exactly_the_commands_that_were_asked_for() {
    let (cluster, node) = lone(&[]);
    let port = cluster.port(node);
    let value = figures(&format!(
        "-p {port} -n 5003 -c 7 --threads 3 -P 4 -r 400 --preload --mix get=3,set=1,hgetall=1 -d 10..20 --seed 5"
    ));
    assert_eq!(value.at("total.count").number(), 5003.0);
    let by_name: BTreeMap<String, f64> = value
        .at("commands")
        .list()
        .iter()
        .map(|c| (c.at("command").text(), c.at("count").number()))
        .collect();
    let (get, set, hgetall) = (by_name["GET"], by_name["SET"], by_name["HGETALL"]);
    assert_eq!(get + set + hgetall, 5003.0);
    assert!((2700.0..3300.0).contains(&get), "{get}");
    assert_eq!(calls(&cluster, node, "get") as f64, get);
    assert_eq!(calls(&cluster, node, "set") as f64, set + 400.0);
    assert_eq!(calls(&cluster, node, "hset"), 40);
    // Everything that is looked for is there.
    assert_eq!(value.at("total.nils").number(), 0.0);
    assert_eq!(value.at("total.errors").number(), 0.0);
    assert_eq!(cluster.client(node).ask("DBSIZE"), "440");
    let length = cluster.client(node).ask("STRLEN key:000000000399");
    assert!((10..=20).contains(&length.parse::<u32>().expect("a number")));
    assert!(value.at("server_cpu_us").number() > 0.0);
}

#[test]
fn every_named_command_is_accepted() {
    let (cluster, node) = lone(&[]);
    let port = cluster.port(node);
    for more in ["", "-3 --db 3 --ttl 100..200"] {
        let values = figures(&format!(
            "-p {port} -t all -n 300 -c 3 -r 200 --preload {more}"
        ));
        assert_eq!(values.list().len(), 18);
        for value in values.list() {
            let errors = value.at("errors");
            assert_eq!(errors, &Json::Object(BTreeMap::new()), "{value:?}");
            assert_eq!(value.at("total.count").number(), 300.0);
        }
    }
    let mut client = cluster.client(node);
    client.ok("SELECT 3");
    let ttl: i64 = client.ask("TTL key:000000000001").parse().expect("seconds");
    assert!((50..=4000).contains(&ttl), "{ttl}");
}

#[test]
fn a_stalled_server_counts_with_all_that_waited() {
    let (cluster, node) = lone(&[]);
    let port = cluster.port(node);
    let child = bench(&format!(
        "-p {port} --rate 1000 --time 2s --warm-up 0s -c 4 --json -q PING"
    ))
    .stdout(Stdio::piped())
    .spawn()
    .expect("the program runs");
    std::thread::sleep(Duration::from_millis(600));
    cluster.pause(node, true);
    std::thread::sleep(Duration::from_millis(800));
    cluster.pause(node, false);
    let output = child.wait_with_output().expect("it ends");
    let value = Json::read(&String::from_utf8_lossy(&output.stdout));
    // For 0.8 of 2 seconds commands were due and could not be answered: the 90th percentile has waited for long, though
    // only four commands were on their way while it lasted.
    let p90 = value.at("total.p90_us").number();
    let sent = value.at("total.once_sent_p90_us").number();
    assert!(p90 > 200_000.0, "{p90}");
    assert!(sent < 100_000.0, "{sent}");
    assert!(value.at("total.once_sent_p99.99_us").number() > 500_000.0);
    let all = value.at("total.count").number() + value.at("unsent").number();
    assert!((1990.0..=2001.0).contains(&all), "{value:?}");
}

#[test]
fn keys_go_where_their_slots_are_also_when_those_move() {
    let (mut cluster, shards, _) = Cluster::durable_shards(2);
    let port = cluster.port(shards[0][0]);
    let slot = slot_of(b"key:000000000001");
    let source = cluster.primary_of(slot);
    let target = shards.iter().map(|s| s[0]).find(|n| *n != source);
    let target = target.expect("another shard");
    let child = bench(&format!(
        "-p {port} --cluster --mix get=1,set=1,mset=1 -r 100 -c 4 -P 2 --preload --time 90s --warm-up 0s --json -q"
    ))
    .stdout(Stdio::piped())
    .spawn()
    .expect("the program runs");
    std::thread::sleep(Duration::from_millis(1500));
    let id = cluster.id(target);
    cluster.client(source).ok(&format!(
        "CLUSTER MIGRATESLOTS SLOTSRANGE {slot} {slot} NODE {id}"
    ));
    cluster.wait("the slot to be on the target", |cluster| {
        cluster.primary_of(slot) == target
    });
    let output = interrupted(child);
    assert!(output.status.success());
    let value = Json::read(&String::from_utf8_lossy(&output.stdout));
    assert_eq!(value.at("total.errors").number(), 0.0, "{value:?}");
    assert_eq!(value.at("total.nils").number(), 0.0);
    // Each thread is told of the slot's new place, and remembers it.
    let redirected = value.at("redirected").number();
    assert!((1.0..=8.0).contains(&redirected), "{value:?}");
    let keys: u64 = shards
        .iter()
        .map(|s| cluster.client(s[0]).ask("DBSIZE"))
        .map(|n| n.parse::<u64>().expect("a number"))
        .sum();
    assert_eq!(keys, 200);

    // Without --cluster, the user is told what is wrong.
    let lone = output_text(&format!("-p {port} -q -n 100 -r 100 --mix get"));
    assert!(lone.contains("use --cluster"), "{lone}");
}

/// What it says when the user ends it, a second from now.
fn interrupted(child: Child) -> Output {
    std::thread::sleep(Duration::from_secs(1));
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("a signal");
    child.wait_with_output().expect("it ends")
}

fn output_text(args: &str) -> String {
    let output = output(args);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn two_servers_in_turns() {
    let (mut cluster, first) = lone(&[]);
    let second = cluster.add_node(&["cluster-enabled no", "save \"\""]);
    cluster.start(second);
    let (a, b) = (cluster.port(first), cluster.port(second));
    let svg = cluster.dir().join("chart.svg");
    let args = format!(
        "-p {a} --compare 127.0.0.1:{b} --rounds 3 --time 200ms --warm-up 50ms --preload -r 100 -P 4"
    );
    let value = figures(&format!("{args} --svg {}", svg.display()));
    assert_eq!(value.at("rounds").number(), 3.0);
    let figures: BTreeMap<String, &Json> = value
        .at("figures")
        .list()
        .iter()
        .map(|f| (f.at("figure").text(), f))
        .collect();
    for name in ["per second", "p50", "p99", "p99.9", "server CPU", "GET p50"] {
        let figure = figures[name];
        let [least, median, greatest] =
            ["ratio.min", "ratio.median", "ratio.max"].map(|p| figure.at(p).number());
        assert!(
            0.0 < least && least <= median && median <= greatest,
            "{figure:?}"
        );
        assert!(figure.at("a.median").number() > 0.0);
    }
    let chart = std::fs::read_to_string(svg).expect("a chart");
    assert!(chart.starts_with("<svg") && chart.matches("<path").count() == 2);
    // Both were filled, and both were asked.
    for node in [first, second] {
        assert!(calls(&cluster, node, "get") > 100);
        assert_eq!(cluster.client(node).ask("DBSIZE"), "100");
    }
    let table = output_text(&args);
    for part in [
        "per second",
        "server CPU",
        "ratio",
        "CPU a command by thread",
    ] {
        assert!(table.contains(part), "{part}: {table}");
    }
    assert!(table.contains("round 3 of 3"), "{table}");
}

#[test]
fn a_unix_socket_and_a_closed_port() {
    let mut cluster = Cluster::new();
    let path = cluster.dir().join("s");
    let line = format!("unixsocket {}", path.display());
    let node = cluster.add_node(&["cluster-enabled no", &line]);
    cluster.start(node);
    let text = output_text(&format!("-s {} -n 500 -q PING", path.display()));
    assert!(text.contains("500 commands in"), "{text}");
    assert!(text.contains("server CPU"), "{text}");

    cluster.kill(node);
    let refused = output(&format!("-p {} -q", cluster.port(node)));
    assert_eq!(refused.status.code(), Some(1));
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(text.contains("connecting to 127.0.0.1:"), "{text}");
    assert_eq!(output("--nonsense").status.code(), Some(2));
    let help = output("--help");
    assert!(String::from_utf8_lossy(&help.stdout).contains("zrangebyscore"));
}

#[test]
fn connections_come_back_if_they_are_asked_to() {
    let (mut cluster, node) = lone(&[]);
    let port = cluster.port(node);
    let start = |more: &str| {
        bench(&format!(
            "-p {port} --time 90s --warm-up 0s -c 6 -P 2 -r 100 --json -q {more}"
        ))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program runs")
    };
    let (ends, comes_back) = (start(""), start("--reconnect"));
    std::thread::sleep(Duration::from_millis(1000));
    cluster.kill(node);
    cluster.start(node);
    let ended = ends.wait_with_output().expect("it ends");
    let text = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(!ended.status.success() && text.contains("closed"), "{text}");
    // All are connected again by then, and nothing is lost any more.
    std::thread::sleep(Duration::from_millis(1500));
    let output = interrupted(comes_back);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{text}");
    let value = Json::read(&String::from_utf8_lossy(&output.stdout));
    // Two commands of each of six clients were on their way, at most; and so many again whenever the listening socket
    // of a process that is ending took them.
    let errors = value.at("total.errors").number();
    assert!((1.0..=120.0).contains(&errors), "{value:?}");
    assert!(value.at("total.max_us").number() > 10_000.0);
    // Who is interrupted does not wait for what is on its way.
    assert!(value.at("unanswered").number() <= 12.0, "{value:?}");
    let series = value.at("series").list().iter().rev().take(10);
    let last: f64 = series.map(|p| p.at("per_second").number()).sum();
    assert!(last > 0.0, "{value:?}");
}

#[test]
fn the_load_follows_a_failover() {
    let (mut cluster, nodes) = Cluster::one_durable_shard();
    let port = cluster.port(nodes[0]);
    let child = bench(&format!(
        "-p {port} --cluster --reconnect --time 90s --warm-up 0s -c 4 -r 100 --json -q"
    ))
    .stdout(Stdio::piped())
    .spawn()
    .expect("the program runs");
    std::thread::sleep(Duration::from_millis(1000));
    cluster.kill(nodes[0]);
    cluster.wait("the other node to be primary", |cluster| {
        let role = cluster.client(nodes[1]).info("replication", "role");
        role.as_deref() == Some("master")
    });
    cluster.wait("the load to have come there", |cluster| {
        let calls = cluster.client(nodes[1]).info("commandstats", "cmdstat_get");
        let calls = calls.as_deref().and_then(|c| c.split(['=', ',']).nth(1));
        calls.is_some_and(|n| n.parse().is_ok_and(|n: u64| n > 100))
    });
    // The last second of the series is to have some of them.
    std::thread::sleep(Duration::from_millis(1500));
    let output = interrupted(child);
    assert!(output.status.success());
    let value = Json::read(&String::from_utf8_lossy(&output.stdout));
    let series = value.at("series").list().iter().rev().take(10);
    let last: f64 = series.map(|p| p.at("per_second").number()).sum();
    assert!(last > 0.0, "{value:?}");
    assert!(value.at("redirected").number() > 0.0);
}

#[test]
fn tls_with_values_of_any_size() {
    let mut cluster = Cluster::new();
    let [certificate, key] = ["cert.pem", "key.pem"].map(|f| cluster.dir().join(f));
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]);
    let made = made.expect("a certificate");
    std::fs::write(&certificate, made.cert.pem()).expect("written");
    std::fs::write(&key, made.signing_key.serialize_pem()).expect("written");
    let port = free_port();
    let node = cluster.add_node(&[
        "cluster-enabled no",
        "tls-auth-clients no",
        &format!("tls-port {port}"),
        &format!("tls-cert-file {}", certificate.display()),
        &format!("tls-key-file {}", key.display()),
        &format!("tls-ca-cert-file {}", certificate.display()),
    ]);
    cluster.start(node);
    let trust = format!("-p {port} --tls --cacert {}", certificate.display());
    for (data, more) in [("64", "-P 32"), ("1..300k", "-P 3")] {
        let value = figures(&format!(
            "{trust} -n 2000 -c 5 -r 50 -d {data} {more} --preload"
        ));
        assert_eq!(value.at("total.count").number(), 2000.0);
        assert_eq!(value.at("total.errors").number(), 0.0);
        assert_eq!(value.at("total.nils").number(), 0.0);
    }
    assert!(calls(&cluster, node, "get") > 2500);

    let stranger = output_text(&format!("{trust} --sni example.org -n 1 -q PING"));
    assert!(stranger.contains("certificate"), "{stranger}");
    let anyone = output_text(&format!("-p {port} --tls --insecure -n 50 -q PING"));
    assert!(anyone.contains("50 commands in"), "{anyone}");
}

/// JSON, as far as reports have it.
#[derive(Clone, Debug, PartialEq)]
enum Json {
    Null,
    Bool(bool),
    Number(f64),
    Text(String),
    List(Vec<Json>),
    Object(BTreeMap<String, Json>),
}

impl Json {
    fn read(text: &str) -> Json {
        let mut rest = text;
        let value = Json::value(&mut rest).unwrap_or_else(|| panic!("no JSON: {text}"));
        assert_eq!(rest.trim(), "", "behind the JSON");
        value
    }

    fn take<'a>(rest: &mut &'a str, token: &str) -> Option<&'a str> {
        let after = rest.trim_start().strip_prefix(token)?;
        *rest = after;
        Some(after)
    }

    fn value(rest: &mut &str) -> Option<Json> {
        if Json::take(rest, "{").is_some() {
            let mut pairs = BTreeMap::new();
            while Json::take(rest, "}").is_none() {
                if !pairs.is_empty() {
                    Json::take(rest, ",")?;
                }
                let name = Json::string(rest)?;
                Json::take(rest, ":")?;
                pairs.insert(name, Json::value(rest)?);
            }
            return Some(Json::Object(pairs));
        }
        if Json::take(rest, "[").is_some() {
            let mut all = Vec::new();
            while Json::take(rest, "]").is_none() {
                if !all.is_empty() {
                    Json::take(rest, ",")?;
                }
                all.push(Json::value(rest)?);
            }
            return Some(Json::List(all));
        }
        for (token, value) in [
            ("null", Json::Null),
            ("true", Json::Bool(true)),
            ("false", Json::Bool(false)),
        ] {
            if Json::take(rest, token).is_some() {
                return Some(value);
            }
        }
        if rest.trim_start().starts_with('"') {
            return Json::string(rest).map(Json::Text);
        }
        let text = rest.trim_start();
        let end = text.find(|c: char| !"+-.eE".contains(c) && !c.is_ascii_digit());
        let (number, after) = text.split_at(end.unwrap_or(text.len()));
        *rest = after;
        number.parse().ok().map(Json::Number)
    }

    fn string(rest: &mut &str) -> Option<String> {
        let inner = Json::take(rest, "\"")?;
        let mut out = String::new();
        let mut chars = inner.char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    *rest = &inner[at + 1..];
                    return Some(out);
                }
                '\\' => out.push(chars.next()?.1),
                c => out.push(c),
            }
        }
        None
    }

    /// What names with dots between them lead to; a name may hold a dot itself.
    fn at(&self, path: &str) -> &Json {
        let Json::Object(pairs) = self else {
            panic!("{path}: {self:?}")
        };
        if let Some(value) = pairs.get(path) {
            return value;
        }
        let (name, rest) = path.split_once('.').unwrap_or_else(|| panic!("no {path}"));
        pairs
            .get(name)
            .unwrap_or_else(|| panic!("no {name}"))
            .at(rest)
    }

    fn number(&self) -> f64 {
        match self {
            Json::Number(value) => *value,
            other => panic!("{other:?} is no number"),
        }
    }

    fn text(&self) -> String {
        match self {
            Json::Text(value) => value.clone(),
            other => panic!("{other:?} is no text"),
        }
    }

    fn list(&self) -> &[Json] {
        match self {
            Json::List(all) => all,
            other => panic!("{other:?} is no list"),
        }
    }
}
