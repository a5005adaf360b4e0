//! Real client libraries, unchanged, through a failover.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::harness::cluster::PATIENCE;
use crate::harness::{Cluster, Router};
use crate::tools;

const STEADY_SECONDS: &str = "6";

/// Runs a client script; once it says that it is at its steady writes, the primary of slot 0 is killed.
fn through_a_failover(name: &str, mut command: Command) {
    let (mut cluster, ..) = Cluster::durable_shards(2);
    let primary = cluster.primary_of(0);
    let seed = cluster.primary_of(16383);
    let log = cluster.dir().join("client.log");
    let out = File::create(&log).expect("a log file");
    let mut child = command
        .args([&cluster.port(seed).to_string(), STEADY_SECONDS])
        .stdin(Stdio::null())
        .stdout(out.try_clone().expect("a second handle"))
        .stderr(out)
        .spawn()
        .expect("the client starts");
    let said = || std::fs::read_to_string(&log).unwrap_or_default();
    let mut killed = false;
    let deadline = Instant::now() + 2 * PATIENCE;
    let status = loop {
        if let Some(status) = child.try_wait().expect("waitpid") {
            break status;
        }
        if !killed && said().contains("READY") {
            std::thread::sleep(Duration::from_secs(1));
            cluster.kill(primary);
            killed = true;
        }
        if Instant::now() > deadline {
            let _ = child.kill();
            let _ = child.wait();
            panic!("{name} did not come to an end:\n{}", said());
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    assert!(status.success() && killed, "{name}:\n{}", said());
    println!("{}", said());
}

pub fn script(file: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/clients")
        .join(file)
}

pub fn python_with(module: &str) -> Result<PathBuf, String> {
    let python = tools::tools_dir().join("venv/bin/python");
    if !python.is_file() {
        return Err(format!(
            "there is no {} (made by .ci/tools)",
            python.display()
        ));
    }
    let import = format!("import {module}");
    match tools::run(Command::new(&python).args(["-c", &import]), PATIENCE) {
        (true, _) => Ok(python),
        (false, why) => Err(format!("{module} cannot be imported: {}", why.trim())),
    }
}

#[test]
fn redis_py() {
    match python_with("redis") {
        Err(why) => tools::skipped("redis-py", &why),
        Ok(python) => {
            let mut command = Command::new(python);
            command.arg(script("redis_py.py"));
            through_a_failover("redis-py", command);
        }
    }
}

#[test]
fn valkey_glide() {
    match python_with("glide") {
        Err(why) => tools::skipped("valkey-glide", &why),
        Ok(python) => {
            let mut command = Command::new(python);
            command.arg(script("valkey_glide.py"));
            through_a_failover("valkey-glide", command);
        }
    }
}

#[test]
fn ioredis() {
    let modules = tools::tools_dir().join("node_modules");
    let Some(node) = tools::find("node") else {
        return tools::skipped("ioredis", "there is no `node`");
    };
    if !modules.join("ioredis").is_dir() {
        return tools::skipped(
            "ioredis",
            &format!(
                "it is not in {} (put there by .ci/tools)",
                modules.display()
            ),
        );
    }
    let mut command = Command::new(node);
    command.arg(script("ioredis.js")).env("NODE_PATH", modules);
    through_a_failover("ioredis", command);
}

/// redis-rs is a crate, so its client runs in here.
#[test]
fn redis_rs() {
    use redis::Commands;
    let (mut cluster, ..) = Cluster::durable_shards(2);
    let seeds: Vec<String> = cluster
        .data_ports()
        .iter()
        .map(|p| format!("redis://127.0.0.1:{p}/"))
        .collect();
    let client = redis::cluster::ClusterClient::builder(seeds)
        .retries(20)
        .response_timeout(Duration::from_secs(3))
        .build()
        .expect("a client");
    let mut connection = client.get_connection().expect("connected");
    for n in 0..300 {
        let _: () = connection.set(format!("rs:{n}"), n).expect("set");
    }
    let sum: i64 = (0..300)
        .map(|n| connection.get::<_, i64>(format!("rs:{n}")).expect("get"))
        .sum();
    assert_eq!(sum, 299 * 300 / 2);
    let _: i64 = connection.hset("rs:hash", "f", "v").expect("hset");
    assert_eq!(
        connection
            .hget::<_, _, String>("rs:hash", "f")
            .expect("hget"),
        "v"
    );
    let _: i64 = connection.rpush("rs:list", &["a", "b"]).expect("rpush");
    assert_eq!(
        connection
            .lrange::<_, Vec<String>>("rs:list", 0, -1)
            .expect("lrange"),
        ["a", "b"]
    );
    let _: i64 = connection.zadd("rs:zset", "one", 1).expect("zadd");

    let primary = cluster.primary_of(0);
    let mut acknowledged = Vec::new();
    let mut errors = 0;
    let begin = Instant::now();
    let mut before_the_kill = None;
    for n in 0u64.. {
        if before_the_kill.is_some_and(|before| acknowledged.len() >= before + 200) {
            break;
        }
        assert!(
            begin.elapsed() < 2 * PATIENCE,
            "{} acknowledged, {before_the_kill:?} of them before the kill, {errors} errors",
            acknowledged.len()
        );
        if before_the_kill.is_none() && acknowledged.len() >= 200 {
            cluster.kill(primary);
            before_the_kill = Some(acknowledged.len());
        }
        match connection.set::<_, _, String>(format!("rs:steady:{n}"), n) {
            Ok(reply) if reply == "OK" => acknowledged.push(n),
            Ok(other) => panic!("SET answered {other}"),
            Err(_) => {
                errors += 1;
                std::thread::sleep(Duration::from_millis(50));
            }
        }
    }
    let mut router: Router = cluster.router();
    for n in &acknowledged {
        let reply = router.run(&format!("GET rs:steady:{n}"));
        assert_eq!(
            reply.as_bytes(),
            Some(n.to_string().as_bytes()),
            "rs:steady:{n}"
        );
    }
    println!(
        "redis-rs: {} acknowledged, {errors} errors, nothing lost",
        acknowledged.len()
    );
}
