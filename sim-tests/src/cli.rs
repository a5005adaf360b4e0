//! The simulator's command line.

use crate::plan::{Plan, Subject};
use std::io::Read as _;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

const HELP: &str = "\
Usage: cargo sim [OPTION]...

  --seed N           run one seed and say what came of it
  --seeds N          run N seeds, several at a time (default 20)
  --from N           the first of them (default 1)
  --soak TIME        run seeds for so long (90s, 30m, 8h)
  --subject WHAT     log: one replicated log; node: the whole server (default: one seed in three is of the log)
  --jobs N           how many seeds at a time (default: the number of processors)
  --planted          put known mistakes back, one at a time, and count the seeds that catch each
  --plant NAME       put one mistake back
  --history          with --seed: print the history
  --plan             with --seed: print the plan
  --list             name the mistakes that can be put back

A failure prints the line that replays it. The same seed gives the same history, byte for byte.
";

/// Mistakes that can be put back, with the subject that shows each.
pub const PLANTED: &[(&str, Subject)] = &[
    ("ack_before_fsync", Subject::Log),
    ("vote_not_persisted", Subject::Log),
    ("log_cut_too_early", Subject::Log),
    ("read_without_lease", Subject::Log),
    ("reply_before_commit", Subject::Log),
    ("deposed_keeps_memory", Subject::Log),
    ("read_without_lease", Subject::Node),
    ("reply_before_commit", Subject::Node),
    ("deposed_keeps_memory", Subject::Node),
    ("target_adopts_too_early", Subject::Node),
    ("source_keeps_serving", Subject::Node),
];

struct Options {
    seed: Option<u64>,
    seeds: u64,
    from: u64,
    soak: Option<Duration>,
    subject: Option<Subject>,
    jobs: usize,
    planted: bool,
    plant: Option<String>,
    history: bool,
    plan: bool,
}

fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at(
        text.find(|c: char| !c.is_ascii_digit())
            .unwrap_or(text.len()),
    );
    let n: u64 = number.parse().ok()?;
    let seconds = match unit {
        "s" | "" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return None,
    };
    Some(Duration::from_secs(n * seconds))
}

fn subject(text: &str) -> Option<Subject> {
    match text {
        "log" => Some(Subject::Log),
        "node" => Some(Subject::Node),
        _ => None,
    }
}

/// What a seed simulates when nothing else is asked for.
fn subject_of(seed: u64) -> Subject {
    if seed.is_multiple_of(3) {
        Subject::Log
    } else {
        Subject::Node
    }
}

fn parse(args: &[String]) -> Result<Options, String> {
    let mut o = Options {
        seed: None,
        seeds: 20,
        from: 1,
        soak: None,
        subject: None,
        jobs: std::thread::available_parallelism().map_or(1, usize::from),
        planted: false,
        plant: None,
        history: false,
        plan: false,
    };
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value"));
        let number = |text: &String| text.parse().map_err(|_| format!("{text} is no number"));
        match arg.as_str() {
            "--seed" => o.seed = Some(number(value()?)?),
            "--seeds" => o.seeds = number(value()?)?,
            "--from" => o.from = number(value()?)?,
            "--jobs" => o.jobs = (number(value()?)? as usize).max(1),
            "--soak" => {
                let text = value()?;
                o.soak = Some(duration(text).ok_or_else(|| format!("{text} is no time"))?);
            }
            "--subject" => {
                let text = value()?;
                o.subject = Some(subject(text).ok_or_else(|| format!("{text} is no subject"))?);
            }
            "--plant" => o.plant = Some(value()?.clone()),
            "--planted" => o.planted = true,
            "--history" => o.history = true,
            "--plan" => o.plan = true,
            other => return Err(format!("unknown option {other}")),
        }
    }
    Ok(o)
}

/// Runs the program.
pub fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.iter().any(|a| a == "--help" || a == "-h") {
        print!("{HELP}");
        return ExitCode::SUCCESS;
    }
    if args.iter().any(|a| a == "--list") {
        PLANTED
            .iter()
            .for_each(|(name, subject)| println!("{name} ({})", name_of(*subject)));
        return ExitCode::SUCCESS;
    }
    let options = match parse(&args) {
        Ok(options) => options,
        Err(e) => {
            eprintln!("{e}\n\n{HELP}");
            return ExitCode::from(2);
        }
    };
    if options.planted {
        return planted(&options);
    }
    if let Some(seed) = options.seed {
        return one(seed, options.subject.unwrap_or(subject_of(seed)), &options);
    }
    // A soak has no last seed.
    let last = if options.soak.is_some() {
        u64::MAX
    } else {
        options.from.saturating_add(options.seeds)
    };
    let subject = options.subject;
    let runs = (options.from..last).map(move |seed| (seed, subject.unwrap_or(subject_of(seed))));
    many(runs, &options)
}

fn name_of(subject: Subject) -> &'static str {
    match subject {
        Subject::Log => "log",
        Subject::Node => "node",
    }
}

/// One seed in this process.
fn one(seed: u64, subject: Subject, options: &Options) -> ExitCode {
    if let Some(mistake) = &options.plant {
        holdfast_raft_log::planted::plant(mistake);
    }
    if std::env::var_os("RUST_LOG").is_some() {
        let _ = tracing_subscriber::fmt()
            .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
            .with_writer(std::io::stderr)
            .without_time()
            .try_init();
    }
    let plan = Plan::of(seed, subject);
    if options.plan {
        print!("{plan}");
    }
    let report = crate::sim::run::run(plan);
    if options.history {
        print!("{}", report.record.text());
    }
    let (digest, lines) = report.record.digest();
    let verdict = if report.problems.is_empty() {
        "ok"
    } else {
        "FAILED"
    };
    for problem in &report.problems {
        println!("{problem}");
    }
    println!(
        "seed {seed} {} {verdict} digest {digest:016x} lines {lines} answered {} undecided {} simulated {:.1}s wall {:.2}s",
        name_of(subject),
        report.record.acked(),
        report.given_up,
        report.simulated.as_secs_f64(),
        report.wall.as_secs_f64()
    );
    if report.problems.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

struct Running {
    seed: u64,
    subject: Subject,
    child: Child,
    since: Instant,
}

struct Ended {
    seed: u64,
    subject: Subject,
    good: bool,
    output: String,
}

/// Wall time after which one seed is taken to hang.
const PATIENCE: Duration = Duration::from_secs(180);

fn start(seed: u64, subject: Subject, plant: Option<&str>) -> std::io::Result<Running> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--seed", &seed.to_string(), "--subject", name_of(subject)]);
    if let Some(mistake) = plant {
        command.args(["--plant", mistake]);
    }
    let child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .stdin(Stdio::null())
        .spawn()?;
    Ok(Running {
        seed,
        subject,
        child,
        since: Instant::now(),
    })
}

/// Whether the run has ended; kills it when it hangs.
fn ended(run: &mut Running) -> Option<Ended> {
    let status = match run.child.try_wait() {
        Ok(Some(status)) => status.success(),
        Ok(None) if run.since.elapsed() < PATIENCE => return None,
        _ => {
            let _ = run.child.kill();
            let _ = run.child.wait();
            false
        }
    };
    let mut output = String::new();
    if let Some(mut out) = run.child.stdout.take() {
        let _ = out.read_to_string(&mut output);
    }
    if !status && let Some(mut err) = run.child.stderr.take() {
        let _ = err.read_to_string(&mut output);
    }
    Some(Ended {
        seed: run.seed,
        subject: run.subject,
        good: status,
        output,
    })
}

/// Runs all of `runs`, `jobs` at a time, for at most `limit`; `each` is told of every end.
fn drive(
    mut runs: impl Iterator<Item = (u64, Subject)>,
    jobs: usize,
    plant: Option<&str>,
    limit: Option<Duration>,
    mut each: impl FnMut(&Ended),
) {
    let began = Instant::now();
    let mut running: Vec<Running> = Vec::new();
    loop {
        while running.len() < jobs && limit.is_none_or(|l| began.elapsed() < l) {
            let Some((seed, subject)) = runs.next() else {
                break;
            };
            match start(seed, subject, plant) {
                Ok(run) => running.push(run),
                Err(e) => {
                    each(&Ended {
                        seed,
                        subject,
                        good: false,
                        output: format!("cannot start: {e}"),
                    });
                }
            }
        }
        if running.is_empty() {
            return;
        }
        let mut i = 0;
        while i < running.len() {
            match ended(&mut running[i]) {
                Some(end) => {
                    running.swap_remove(i);
                    each(&end);
                }
                None => i += 1,
            }
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn many(runs: impl Iterator<Item = (u64, Subject)>, options: &Options) -> ExitCode {
    let limit = options.soak;
    let began = Instant::now();
    let (mut done, mut simulated) = (0, 0.0);
    let mut failed = Vec::new();
    drive(runs, options.jobs, options.plant.as_deref(), limit, |end| {
        done += 1;
        let line = end
            .output
            .lines()
            .rev()
            .find(|l| l.starts_with("seed "))
            .unwrap_or("");
        simulated += line
            .split("simulated ")
            .nth(1)
            .and_then(|t| t.split('s').next())
            .and_then(|t| t.parse().ok())
            .unwrap_or(0.0);
        if end.good {
            println!("{line}");
        } else {
            print!("{}", end.output);
            println!(
                "replay: cargo sim --seed {} --subject {}",
                end.seed,
                name_of(end.subject)
            );
            failed.push((end.seed, end.subject));
        }
        if done % 20 == 0 {
            let of = if limit.is_some() {
                String::new()
            } else {
                format!(" of {}", options.seeds)
            };
            println!(
                "-- {done}{of} runs, {} failed, {:.0}s",
                failed.len(),
                began.elapsed().as_secs_f64()
            );
        }
    });
    let wall = began.elapsed().as_secs_f64();
    println!(
        "{done} runs, {} failed; {:.1} simulated minutes in {:.1} minutes, {:.1} a minute",
        failed.len(),
        simulated / 60.0,
        wall / 60.0,
        simulated / wall.max(0.001)
    );
    for (seed, subject) in &failed {
        println!(
            "replay: cargo sim --seed {seed} --subject {}",
            name_of(*subject)
        );
    }
    if failed.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Puts each mistake back and counts the seeds that catch it.
fn planted(options: &Options) -> ExitCode {
    let mut missed = 0;
    let wanted = |subject| options.subject.is_none_or(|only| only == subject);
    for (name, subject) in PLANTED.iter().filter(|(_, subject)| wanted(*subject)) {
        let runs = (options.from..options.from + options.seeds).map(|seed| (seed, *subject));
        let mut caught: Vec<u64> = Vec::new();
        drive(runs, options.jobs, Some(name), None, |end| {
            if !end.good {
                caught.push(end.seed);
            }
        });
        let first = caught.iter().min().map_or("-".to_string(), u64::to_string);
        println!(
            "{name:<24} {:<5} caught by {:>3} of {} seeds, first {first}",
            name_of(*subject),
            caught.len(),
            options.seeds
        );
        missed += usize::from(caught.is_empty());
    }
    if missed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
