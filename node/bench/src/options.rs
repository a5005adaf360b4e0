//! The command line of `holdfast bench`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use crate::net::{Address, Target};
use crate::plan::{Load, Pace, Plan, Until, Work};
use crate::random::Distribution;
use crate::sizes::{self, Sizes};
use crate::template;
use crate::tls::{Tls, TlsOptions};

/// What `holdfast bench --help` prints.
pub const USAGE: &str = "\
Usage: holdfast bench [options] [COMMAND [ARG ...]]

Loads a server that speaks RESP, and tells how fast it answers. Without a command or --mix: GET and SET, 80 to 20.

  holdfast bench -p 7000 --preload --mix get=80,set=20 -c 50 -P 16 --time 10s
  holdfast bench --rate 50k --keys 1M --distribution zipf:0.99 SET key:__key__ __data__ EX 600
  holdfast bench -p 7000 --compare 127.0.0.1:6379 --rounds 5

Server
  -h, --host HOST         (default 127.0.0.1)
  -p, --port PORT         (default 6379)
  -s, --socket PATH       a Unix socket
  -a, --pass PASSWORD     and --user NAME; the variable HOLDFAST_BENCH_PASSWORD serves as well
      --db N              database (default 0)
  -3, --resp3             speak RESP3
      --tls               with --cacert FILE or --insecure; --cert FILE and --key FILE if the
                          server wants a certificate; --sni NAME if its own has another name
      --cluster           a node of a cluster: every command goes to the primary of its slot

Load
  -c, --clients N         connections that send commands, to each primary (default 50)
      --threads N         threads of the generator (default 1)
  -P, --pipeline N        commands of a connection on their way at once (default 1)
      --time TIME         how long to measure (default 10s)
  -n, --requests N        measure exactly so many commands instead
      --warm-up TIME      load before measuring (default 1s; 0 with -n, 200ms with --compare)
      --rate N            open loop: N commands a second, whether or not the server keeps up;
                          latency counts from when a command was due
      --poisson           let them be due at random moments, as from independent users
      --idle N            connections beside those that send nothing
      --reconnect         open connections that break again instead of ending; what was on its
                          way counts as errors

Commands (one without quotes comes behind all options)
      --mix A=N,B=N       commands by name with weights (see below)
  -t, --tests A,B,C       one after the other instead; `all` for every one of them
      --command LINE      a command line with placeholders; may be repeated
      --ratio N:N         the weights of several --command
  -r, --keys N            how many keys (default 100k)
      --prefix TEXT       what named commands' keys begin with (default key:)
      --distribution D    uniform, zipf:THETA, sequential, or hot:KEYS:COMMANDS in percent (hot:10:90)
  -d, --data SIZE         length of values: 64, 16..1k, or with weights 32:80,4k:20 (default 64)
      --ttl SECONDS       set it with strings: 60, or 60..600
      --preload           fill what the named commands look for first
      --preload-with LINE run this once for each key first (implies --preload)
      --seed N            another seed, other keys and values (default 1)

Placeholders
  __key__ number of a key, 12 digits   __key/N__ divided by N   __again__ the one drawn last
  __data__ a value   __data:SIZE__ of another size   __rand:N__ a number below N
  __rand_int__ any key, 12 digits   __seq__ never twice   __ttl__ seconds

Comparing
      --compare ADDRESS   a second server (host:port or path): both are loaded in turns, A B A B
      --rounds N          turns of each (default 5; --time then is 2s each)
      --pid PID[,PID]     process of the server (and of the second), where it cannot be asked

Output
      --json [FILE]       all figures as JSON, to the output if there is no FILE
      --svg FILE          charts: latency by percentile, throughput by time
  -q, --quiet             no progress
      --help              this text

Names for --mix and --tests
  ";

/// What the command line asks for.
#[derive(Clone, Debug)]
pub enum Request {
    /// Run.
    Run(Box<Options>),
    /// Print the usage.
    Help,
}

/// Where figures go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sink {
    /// The standard output.
    Output,
    /// A file.
    File(PathBuf),
}

/// The options, checked.
#[derive(Clone, Debug)]
pub struct Options {
    /// One for each test, one after the other; a mix is one.
    pub plans: Vec<Plan>,
    /// The second server.
    pub compare: Option<Target>,
    /// Of a comparison.
    pub rounds: usize,
    /// Given by the user.
    pub pids: Vec<u32>,
    /// Whether to fill keys first.
    pub preload: bool,
    /// What with, if not with what the named commands need.
    pub preload_with: Option<Vec<String>>,
    /// `--json`
    pub json: Option<Sink>,
    /// `--svg`
    pub svg: Option<PathBuf>,
    /// `--quiet`
    pub quiet: bool,
}

/// [`USAGE`] with the names.
pub fn usage() -> String {
    let names: Vec<&str> = crate::named::NAMED.iter().map(|n| n.name).collect();
    format!("{USAGE}{}\n", names.join(", "))
}

#[derive(Default)]
struct Raw {
    host: Option<String>,
    port: Option<u16>,
    socket: Option<PathBuf>,
    user: Option<String>,
    password: Option<String>,
    database: u32,
    resp3: bool,
    secure: bool,
    tls: TlsOptions,
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
    cluster: bool,
    time: Option<Duration>,
    requests: Option<u64>,
    warm_up: Option<Duration>,
    rate: Option<f64>,
    poisson: bool,
    mix: Option<String>,
    tests: Option<String>,
    lines: Vec<String>,
    ratio: Option<String>,
    words: Vec<String>,
}

/// Reads the arguments behind `bench`. Both `--port 7000` and `--port=7000` are understood, and `-c50`.
///
/// # Errors
/// A sentence for the user that names what is wrong.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Request, String> {
    let mut args = args
        .into_iter()
        .map(|a| {
            a.into_string()
                .map_err(|a| format!("{a:?} is not valid text"))
        })
        .collect::<Result<Vec<String>, String>>()?
        .into_iter()
        .peekable();
    let mut raw = Raw::default();
    let mut load = Load::default();
    let mut work = Work::default();
    let mut options = Options {
        plans: Vec::new(),
        compare: None,
        rounds: 5,
        pids: Vec::new(),
        preload: false,
        preload_with: None,
        json: None,
        svg: None,
        quiet: false,
    };
    let mut compare = None;
    while let Some(arg) = args.next() {
        if !arg.starts_with('-') && arg.contains(' ') && raw.words.is_empty() {
            // A whole line, as one writes it in quotes.
            raw.words = template::words(&arg)?;
            continue;
        }
        if !arg.starts_with('-') || arg == "-" {
            // The command, to the end.
            raw.words.push(arg);
            raw.words.extend(args.by_ref());
            break;
        }
        let (name, inline) = split(&arg);
        let mut value = || match inline {
            Some(value) => Ok(value.to_owned()),
            None => args
                .next()
                .ok_or_else(|| format!("{name} needs a value (see --help)")),
        };
        let of = |e: String| format!("{name}: {e}");
        match name {
            "--help" => return Ok(Request::Help),
            "-h" | "--host" => raw.host = Some(value()?),
            "-p" | "--port" => {
                let text = value()?;
                raw.port = Some(
                    text.parse()
                        .map_err(|_| of(format!("`{text}` is no port")))?,
                );
            }
            "-s" | "--socket" => raw.socket = Some(value()?.into()),
            "--user" => raw.user = Some(value()?),
            "-a" | "--pass" => raw.password = Some(value()?),
            "--db" => raw.database = small(&value()?).map_err(of)? as u32,
            "-3" | "--resp3" => raw.resp3 = true,
            "--tls" => raw.secure = true,
            "--cacert" => raw.tls.ca = Some(value()?.into()),
            "--cert" => raw.cert = Some(value()?.into()),
            "--key" => raw.key = Some(value()?.into()),
            "--sni" => raw.tls.name = Some(value()?),
            "--insecure" => raw.tls.insecure = true,
            "--cluster" => raw.cluster = true,
            "-c" | "--clients" => load.clients = small(&value()?).map_err(of)?,
            "--threads" => load.threads = small(&value()?).map_err(of)?,
            "-P" | "--pipeline" => load.pipeline = small(&value()?).map_err(of)?,
            "--time" => raw.time = Some(sizes::duration(&value()?).map_err(of)?),
            "-n" | "--requests" => raw.requests = Some(sizes::count(&value()?).map_err(of)?),
            "--warm-up" => raw.warm_up = Some(sizes::duration(&value()?).map_err(of)?),
            "--rate" => raw.rate = Some(sizes::count(&value()?).map_err(of)? as f64),
            "--poisson" => raw.poisson = true,
            "--idle" => load.idle = sizes::count(&value()?).map_err(of)? as usize,
            "--reconnect" => load.reconnect = true,
            "--mix" => raw.mix = Some(value()?),
            "-t" | "--tests" => raw.tests = Some(value()?),
            "--command" => raw.lines.push(value()?),
            "--ratio" => raw.ratio = Some(value()?),
            "-r" | "--keys" => work.keys = sizes::count(&value()?).map_err(of)?,
            "--prefix" => work.prefix = value()?,
            "--distribution" => work.distribution = distribution(&value()?).map_err(of)?,
            "-d" | "--data" => work.data = Sizes::parse(&value()?).map_err(of)?,
            "--ttl" => work.ttl = Some(Sizes::parse(&value()?).map_err(of)?),
            "--preload" => options.preload = true,
            "--preload-with" => {
                options.preload = true;
                options.preload_with = Some(template::words(&value()?).map_err(of)?);
            }
            "--seed" => load.seed = sizes::count(&value()?).map_err(of)?,
            "--compare" => compare = Some(Address::parse(&value()?).map_err(of)?),
            "--rounds" => options.rounds = small(&value()?).map_err(of)?,
            "--pid" => {
                for pid in value()?.split(',') {
                    let pid = pid.parse();
                    options
                        .pids
                        .push(pid.map_err(|_| of("no process id".to_owned()))?);
                }
            }
            "--json" => {
                // Its value may be left out: what looks like another option, or nothing, is none.
                let file = inline.map(str::to_owned).or_else(|| {
                    args.next_if(|next| next == "-" || next.to_lowercase().ends_with(".json"))
                });
                options.json = Some(match file {
                    Some(file) if file != "-" => Sink::File(file.into()),
                    _ => Sink::Output,
                });
            }
            "--svg" => options.svg = Some(value()?.into()),
            "-q" | "--quiet" => options.quiet = true,
            _ => return Err(format!("no option is called `{name}` (see --help)")),
        }
    }
    check(raw, load, work, compare, options)
}

/// `--name=value`, or `-cvalue` of the options with one letter.
fn split(arg: &str) -> (&str, Option<&str>) {
    if arg.starts_with("--") {
        return match arg.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (arg, None),
        };
    }
    match arg.char_indices().nth(2) {
        Some((at, _)) => (&arg[..at], Some(&arg[at..])),
        None => (arg, None),
    }
}

fn small(text: &str) -> Result<usize, String> {
    let number = sizes::count(text)?;
    if number > 1_000_000 {
        return Err(format!("`{text}` is too much"));
    }
    Ok(number as usize)
}

fn distribution(text: &str) -> Result<Distribution, String> {
    let (name, rest) = text.split_once(':').unwrap_or((text, ""));
    let number = |text: &str, most: f64| match text.parse::<f64>() {
        Ok(value) if value >= 0.0 && value <= most => Ok(value),
        _ => Err(format!("`{text}` is not from 0 to {most}")),
    };
    match name {
        "uniform" => Ok(Distribution::Uniform),
        "sequential" => Ok(Distribution::Sequential),
        "zipf" if rest.is_empty() => Ok(Distribution::Zipf { theta: 0.99 }),
        "zipf" => Ok(Distribution::Zipf {
            theta: number(rest, 10.0)?,
        }),
        "hot" => {
            let rest = if rest.is_empty() { "10:90" } else { rest };
            let (keys, commands) = rest
                .split_once(':')
                .ok_or("hot:KEYS:COMMANDS, in percent")?;
            Ok(Distribution::Hot {
                keys: number(keys, 100.0)?,
                commands: number(commands, 100.0)?,
            })
        }
        _ => Err(format!(
            "no distribution is called `{text}`; there are uniform, zipf:THETA, sequential and hot:KEYS:COMMANDS"
        )),
    }
}

fn check(
    mut raw: Raw,
    mut load: Load,
    work: Work,
    compare: Option<Address>,
    mut options: Options,
) -> Result<Request, String> {
    if raw.socket.is_some() && (raw.host.is_some() || raw.port.is_some()) {
        return Err("--socket and --host or --port name two servers".to_owned());
    }
    if raw.socket.is_some() && raw.cluster {
        return Err("a cluster's nodes cannot be reached by --socket".to_owned());
    }
    raw.tls.own = match (raw.cert.take(), raw.key.take()) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (None, None) => None,
        _ => return Err("--cert and --key belong together".to_owned()),
    };
    if !raw.secure && raw.tls != TlsOptions::default() {
        return Err("--cacert, --cert, --sni and --insecure need --tls".to_owned());
    }
    if raw.secure && raw.socket.is_some() {
        return Err("TLS does not go through a Unix socket".to_owned());
    }
    let address = match raw.socket {
        Some(path) => Address::Unix(path),
        None => Address::Tcp(
            raw.host.unwrap_or_else(|| "127.0.0.1".to_owned()),
            raw.port.unwrap_or(6379),
        ),
    };
    for (name, value) in [
        ("--clients", load.clients),
        ("--threads", load.threads),
        ("--pipeline", load.pipeline),
        ("--rounds", options.rounds),
        ("--keys", work.keys.min(1) as usize),
    ] {
        if value == 0 {
            return Err(format!("{name} must be at least 1"));
        }
    }
    if raw.rate == Some(0.0) {
        return Err("--rate must be at least 1".to_owned());
    }
    if load.threads > 1024 || load.pipeline > 100_000 {
        return Err("so many threads, or so deep a pipeline, are of no use".to_owned());
    }
    if raw.poisson && raw.rate.is_none() {
        return Err("--poisson needs a --rate".to_owned());
    }
    if raw.time.is_some() && raw.requests.is_some() {
        return Err("--time and --requests are two ends".to_owned());
    }
    if raw.time == Some(Duration::ZERO) || raw.requests == Some(0) {
        return Err("there is nothing to measure in no time".to_owned());
    }
    load.pace = match raw.rate {
        Some(rate) => Pace::Open {
            rate,
            random: raw.poisson,
        },
        None => Pace::Closed,
    };
    let default_time = Duration::from_secs(if compare.is_some() { 2 } else { 10 });
    load.until = match raw.requests {
        Some(requests) => Until::Requests(requests),
        None => Until::Time(raw.time.unwrap_or(default_time)),
    };
    load.warm_up = raw.warm_up.unwrap_or(match load.until {
        Until::Requests(_) => Duration::ZERO,
        Until::Time(_) if compare.is_some() => Duration::from_millis(200),
        Until::Time(_) => Duration::from_secs(1),
    });
    let target = Target {
        address,
        user: raw.user,
        password: raw
            .password
            .or_else(|| std::env::var("HOLDFAST_BENCH_PASSWORD").ok()),
        database: raw.database,
        resp3: raw.resp3,
        tls: match raw.secure {
            true => Some(Tls::new(&raw.tls)?),
            false => None,
        },
    };

    let sources = [
        raw.mix.is_some(),
        raw.tests.is_some(),
        !raw.lines.is_empty(),
        !raw.words.is_empty(),
    ];
    if sources.iter().filter(|s| **s).count() > 1 {
        return Err("one of --mix, --tests, --command and a command is enough".to_owned());
    }
    if raw.ratio.is_some() && raw.lines.len() < 2 {
        return Err("--ratio weighs several --command".to_owned());
    }
    let by_hand = !raw.lines.is_empty() || !raw.words.is_empty();
    let cluster = raw.cluster;
    let mut works = Vec::new();
    if let Some(tests) = raw.tests {
        let names: Vec<&str> = match tests.as_str() {
            "all" => crate::named::NAMED.iter().map(|n| n.name).collect(),
            tests => tests.split(',').map(str::trim).collect(),
        };
        for name in names {
            let mut one = work.clone();
            one.add_named(name, 1, cluster)?;
            works.push(one);
        }
    } else {
        let mut one = work;
        if !raw.lines.is_empty() {
            let weights = weights(raw.ratio.as_deref(), raw.lines.len())?;
            for (line, weight) in raw.lines.iter().zip(weights) {
                one.add_words(template::words(line)?, weight)?;
            }
        } else if !raw.words.is_empty() {
            one.add_words(raw.words, 1)?;
        } else {
            let mix = raw.mix.as_deref().unwrap_or("get=80,set=20");
            for part in mix.split(',') {
                let (name, weight) = part.split_once('=').unwrap_or((part, "1"));
                let weight = sizes::count(weight).map_err(|e| format!("--mix: {e}"))?;
                one.add_named(name.trim(), weight, cluster)?;
            }
        }
        works.push(one);
    }
    if options.preload && options.preload_with.is_none() && by_hand {
        return Err("--preload knows what named commands need only; see --preload-with".to_owned());
    }
    options.plans = works
        .into_iter()
        .map(|work| Plan {
            target: target.clone(),
            cluster,
            load: load.clone(),
            work,
        })
        .collect();
    options.compare = compare.map(|address| target.at(address));
    let most = 1 + usize::from(options.compare.is_some());
    if options.pids.len() > most {
        return Err("--pid: there are more processes than servers".to_owned());
    }
    Ok(Request::Run(Box::new(options)))
}

fn weights(ratio: Option<&str>, lines: usize) -> Result<Vec<u64>, String> {
    let Some(ratio) = ratio else {
        return Ok(vec![1; lines]);
    };
    let weights: Vec<u64> = ratio
        .split(':')
        .map(sizes::count)
        .collect::<Result<_, _>>()
        .map_err(|e| format!("--ratio: {e}"))?;
    if weights.len() != lines {
        return Err(format!(
            "--ratio has {} weights for {lines} commands",
            weights.len()
        ));
    }
    Ok(weights)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(line: &str) -> Options {
        match read(line) {
            Ok(Request::Run(options)) => *options,
            other => panic!("{line}: {other:?}"),
        }
    }

    fn read(line: &str) -> Result<Request, String> {
        parse(
            template::words(line)
                .expect("words")
                .iter()
                .map(OsString::from),
        )
    }

    #[test]
    fn defaults() {
        let options = run("");
        let [plan] = &options.plans[..] else {
            panic!("{options:?}")
        };
        assert_eq!(plan.target.address, Address::Tcp("127.0.0.1".into(), 6379));
        assert_eq!(plan.load.until, Until::Time(Duration::from_secs(10)));
        let mix: Vec<(&str, u64)> = plan
            .work
            .commands
            .iter()
            .map(|c| (c.name.as_str(), c.weight))
            .collect();
        assert_eq!(mix, [("GET", 80), ("SET", 20)]);
    }

    #[test]
    fn options_in_all_their_forms() {
        let options = run(
            "-p7000 -h localhost -c 5 -P16 --threads=2 -n 1k -r 1M -d 1k..2k --ttl 5 --rate 10k --poisson \
             --distribution zipf:0.8 --json --svg a.svg -q --seed 9 -3 --db 2 SET a:__key__ __data__ EX __ttl__",
        );
        let plan = &options.plans[0];
        assert_eq!(plan.target.address, Address::Tcp("localhost".into(), 7000));
        assert_eq!((plan.load.clients, plan.load.pipeline), (5, 16));
        assert_eq!((plan.load.threads, plan.load.seed), (2, 9));
        assert_eq!(plan.load.until, Until::Requests(1000));
        assert_eq!(plan.load.warm_up, Duration::ZERO);
        assert_eq!(
            plan.load.pace,
            Pace::Open {
                rate: 10_000.0,
                random: true
            }
        );
        assert_eq!(plan.work.distribution, Distribution::Zipf { theta: 0.8 });
        assert_eq!(plan.work.data.max(), 2048);
        assert_eq!(plan.work.commands[0].words.len(), 5);
        assert_eq!(options.json, Some(Sink::Output));
        assert_eq!(options.svg, Some("a.svg".into()));
        assert!(options.quiet && plan.target.resp3 && plan.target.database == 2);

        let quoted = run("'SET a b' -n 5");
        assert_eq!(quoted.plans[0].load.until, Until::Requests(5));
        assert_eq!(quoted.plans[0].work.commands[0].words, ["SET", "a", "b"]);
        let json = run("--json out.json PING");
        assert_eq!(json.json, Some(Sink::File("out.json".into())));
        let tests = run("-t get,set,lpush");
        assert_eq!(tests.plans.len(), 3);
        let weighed = run("--command 'GET a' --command 'SET a b' --ratio 9:1");
        assert_eq!(weighed.plans[0].work.commands[0].weight, 9);
        let compared = run("--compare :7001 --rounds 3 --pid 1,2");
        assert_eq!(
            compared.plans[0].load.until,
            Until::Time(Duration::from_secs(2))
        );
        assert!(compared.compare.is_some() && compared.pids == [1, 2]);
        assert_eq!(
            distribution("hot:1:50"),
            Ok(Distribution::Hot {
                keys: 1.0,
                commands: 50.0
            })
        );
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (line, part) in [
            ("--nothing", "`--nothing`"),
            ("-p", "-p needs"),
            ("-p x", "no port"),
            ("-c 0", "--clients"),
            ("-r 0", "--keys"),
            ("--mix foo=1", "`foo`"),
            ("--mix get=x", "--mix"),
            ("--mix get=1 PING", "enough"),
            ("--time 5s -n 5", "two ends"),
            ("--distribution normal", "`normal`"),
            ("--distribution zipf:-1", "from 0"),
            ("--distribution hot:101:5", "from 0"),
            ("--ratio 1:2 --command PING", "several"),
            ("--ratio 1 --command PING --command PING", "1 weights for 2"),
            ("--poisson", "--rate"),
            ("--rate 0", "--rate"),
            ("-s /s -p 1", "two servers"),
            ("--preload PING", "--preload-with"),
            ("--pid 1,2", "more processes"),
            ("--time 0", "no time"),
            ("--tls", "--cacert"),
            ("--tls --cacert /nothing", "/nothing"),
            ("--tls --insecure --cert a", "together"),
            ("--insecure", "--tls"),
            ("--tls --insecure -s /s", "Unix"),
            ("'SET \"a'", "end"),
            ("-d 600m", "512 MiB"),
        ] {
            match read(line) {
                Err(error) => assert!(error.contains(part), "{line}: {error}"),
                Ok(_) => panic!("{line} was accepted"),
            }
        }
        assert!(matches!(read("--help"), Ok(Request::Help)));
    }
}
