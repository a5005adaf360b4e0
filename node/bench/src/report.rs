//! Figures as tables, as JSON and as charts.

use std::fmt::Write;

use crate::chart::{Axis, Panel, Series, Values};
use crate::compare::{Comparison, Figure, Round, Side, Spread};
use crate::json::{Json, object};
use crate::plan::{Load, Pace, Plan, Until};
use crate::tally::{Kind, Tally};

/// The percentiles of tables.
const PERCENTILES: [(f64, &str); 5] = [
    (50.0, "p50"),
    (90.0, "p90"),
    (99.0, "p99"),
    (99.9, "p99.9"),
    (99.99, "p99.99"),
];

/// A number with commas.
pub fn grouped(value: f64) -> String {
    let digits = format!("{:.0}", value.max(0.0));
    let mut out = String::new();
    for (n, c) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

/// Nanoseconds in the unit that suits them.
pub fn latency(nanos: f64) -> String {
    match nanos {
        n if n < 99_950.0 => format!("{:.1} us", n / 1e3),
        n if n < 999_500.0 => format!("{:.0} us", n / 1e3),
        n if n < 99_995_000.0 => format!("{:.2} ms", n / 1e6),
        n if n < 999_500_000.0 => format!("{:.0} ms", n / 1e6),
        n => format!("{:.2} s", n / 1e9),
    }
}

/// The commands of a plan and their parts.
pub fn mix(plan: &Plan) -> String {
    let commands = &plan.work.commands;
    let sum: u64 = commands.iter().map(|c| c.weight).sum();
    let part = |weight: u64| {
        let percent = weight as f64 * 100.0 / sum.max(1) as f64;
        format!("{} %", (percent * 10.0).round() / 10.0)
    };
    match &commands[..] {
        [one] => one.name.clone(),
        all => {
            let parts: Vec<String> = all
                .iter()
                .map(|c| format!("{} {}", c.name, part(c.weight)))
                .collect();
            parts.join(", ")
        }
    }
}

/// The load in a few words.
pub fn load(load: &Load) -> String {
    let mut text = format!("{} clients", grouped(load.clients as f64));
    if load.pipeline > 1 {
        let _ = write!(text, ", {} deep", load.pipeline);
    }
    if load.threads > 1 {
        let _ = write!(text, ", {} threads", load.threads);
    }
    if let Pace::Open { rate, random } = load.pace {
        let how = if random { " at random moments" } else { "" };
        let _ = write!(text, ", {} a second{how}", grouped(rate));
    }
    if load.idle > 0 {
        let _ = write!(text, ", {} more idle", grouped(load.idle as f64));
    }
    text
}

/// What is done to which server.
pub fn title(side: &Side) -> String {
    format!(
        "{} to {} on {}, {}",
        mix(&side.plan),
        side.identity.name,
        side.plan.target.address,
        load(&side.plan.load)
    )
}

fn row(out: &mut String, name: &str, kind: &Kind, seconds: f64) {
    let per_second = grouped(kind.done as f64 / seconds.max(1e-9));
    let _ = write!(out, "{name:<16}{per_second:>12}");
    let _ = write!(out, "{:>10}", latency(kind.latency.mean()));
    for (percent, _) in PERCENTILES {
        let _ = write!(
            out,
            "{:>10}",
            latency(kind.latency.percentile(percent) as f64)
        );
    }
    let _ = writeln!(out, "{:>10}", latency(kind.latency.max() as f64));
}

/// The final table of one run.
pub fn table(side: &Side, round: &Round) -> String {
    let plan = &side.plan;
    let outcome = &round.outcome;
    let seconds = outcome.elapsed.as_secs_f64();
    let tally = &outcome.tally;
    let mut out = format!(
        "{} on {}: {}; {} commands in {seconds:.2} s\n\n{:<16}{:>12}{:>10}",
        side.identity.name,
        plan.target.address,
        load(&plan.load),
        grouped(tally.done() as f64),
        "",
        "per second",
        "mean"
    );
    for (_, name) in PERCENTILES {
        let _ = write!(out, "{name:>10}");
    }
    let _ = writeln!(out, "{:>10}", "max");
    for (command, kind) in plan.work.commands.iter().zip(&tally.kinds) {
        row(&mut out, &command.name, kind, seconds);
    }
    let total = tally.total();
    if tally.kinds.len() > 1 {
        row(&mut out, "all", &total, seconds);
    }
    if total.service.count() > 0 {
        let service = Kind {
            done: total.done,
            latency: total.service.clone(),
            ..Kind::default()
        };
        row(&mut out, "once sent", &service, seconds);
    }
    out.push('\n');
    out.push_str(&remarks(plan, round, &total));
    out
}

fn remarks(plan: &Plan, round: &Round, total: &Kind) -> String {
    let outcome = &round.outcome;
    let tally = &outcome.tally;
    let seconds = outcome.elapsed.as_secs_f64().max(1e-9);
    let mut out = String::new();
    let mut line = |name: &str, text: String| {
        let _ = writeln!(out, "{name:<16}{text}");
    };
    if let (Some(cpu), Some(us)) = (&round.cpu, round.cpu_us()) {
        let cores = cpu.total().as_secs_f64() / seconds;
        let mut threads: Vec<(String, f64)> = round
            .thread_us()
            .into_iter()
            .filter(|(_, us)| *us >= 0.005)
            .collect();
        threads.sort_by(|a, b| b.1.total_cmp(&a.1));
        let threads: Vec<String> = threads
            .iter()
            .map(|(name, us)| format!("{name} {us:.2}"))
            .collect();
        line(
            "server CPU",
            format!(
                "{us:.2} us a command, {:.0} % of a core ({})",
                cores * 100.0,
                threads.join(", ")
            ),
        );
    }
    line(
        "generator CPU",
        format!("{:.0} % of its threads", outcome.generator_busy * 100.0),
    );
    line(
        "network",
        format!(
            "{:.1} MB/s received, {:.1} MB/s sent",
            tally.bytes_in as f64 / seconds / 1e6,
            tally.bytes_out as f64 / seconds / 1e6
        ),
    );
    let of_all = |n: u64| {
        let percent = n as f64 * 100.0 / total.done.max(1) as f64;
        format!("{} ({percent:.2} %)", grouped(n as f64))
    };
    if total.nils > 0 {
        line("nothing found", of_all(total.nils));
    }
    if tally.redirected > 0 {
        line("redirected", grouped(tally.redirected as f64));
    }
    if total.errors > 0 {
        line("errors", of_all(total.errors));
        for (text, count) in &tally.errors {
            line("", format!("{} x {text}", grouped(*count as f64)));
        }
        if !plan.cluster && tally.errors.iter().any(|(t, _)| t.starts_with("MOVED")) {
            line(
                "",
                "the server is a node of a cluster: use --cluster".to_owned(),
            );
        }
    }
    if tally.unsent > 0 {
        line(
            "not sent",
            format!(
                "{} were due and found no free client; they count in the latencies with the time they had waited",
                grouped(tally.unsent as f64)
            ),
        );
    }
    if tally.unanswered > 0 {
        line("not answered", grouped(tally.unanswered as f64));
    }
    if outcome.generator_busy > 0.95 {
        line(
            "note",
            "the generator was busy all the time and may have set the limit: try more --threads"
                .to_owned(),
        );
    }
    out
}

fn kind_json(name: &str, kind: &Kind, seconds: f64) -> Json {
    let us = |nanos: f64| Json::from((nanos / 10.0).round() / 100.0);
    let mut pairs = vec![
        ("command".to_owned(), Json::from(name)),
        ("count".to_owned(), Json::from(kind.done)),
        (
            "per_second".to_owned(),
            Json::from((kind.done as f64 / seconds.max(1e-9) * 10.0).round() / 10.0),
        ),
        ("errors".to_owned(), Json::from(kind.errors)),
        ("nils".to_owned(), Json::from(kind.nils)),
        ("mean_us".to_owned(), us(kind.latency.mean())),
        ("min_us".to_owned(), us(kind.latency.min() as f64)),
    ];
    for (percent, name) in PERCENTILES {
        let value = kind.latency.percentile(percent) as f64;
        pairs.push((format!("{name}_us"), us(value)));
    }
    pairs.push(("max_us".to_owned(), us(kind.latency.max() as f64)));
    if kind.service.count() > 0 {
        for (percent, name) in PERCENTILES {
            let value = kind.service.percentile(percent) as f64;
            pairs.push((format!("once_sent_{name}_us"), us(value)));
        }
    }
    Json::Object(pairs)
}

/// The figures of one run.
pub fn json(side: &Side, round: &Round) -> Json {
    let Round { outcome, .. } = round;
    let plan = &side.plan;
    let seconds = outcome.elapsed.as_secs_f64();
    let commands = plan.work.commands.iter().zip(&outcome.tally.kinds);
    let series = outcome.series.iter().map(|p| {
        object([
            ("at_s", Json::from((p.at * 1e3).round() / 1e3)),
            ("per_second", Json::from(p.rate.round())),
            ("p50_us", Json::from(p.p50 as f64 / 1e3)),
            ("p99_us", Json::from(p.p99 as f64 / 1e3)),
            ("p99.9_us", Json::from(p.p999 as f64 / 1e3)),
        ])
    });
    let threads = round.thread_us().into_iter().map(|(n, us)| (n, us.into()));
    let errors = outcome.tally.errors.iter();
    object([
        ("server", Json::from(side.identity.name.as_str())),
        (
            "address",
            Json::from(plan.target.address.to_string().as_str()),
        ),
        ("load", load_json(&plan.load)),
        ("elapsed_s", Json::from(seconds)),
        ("total", kind_json("all", &outcome.tally.total(), seconds)),
        (
            "commands",
            Json::List(
                commands
                    .map(|(c, k)| kind_json(&c.name, k, seconds))
                    .collect(),
            ),
        ),
        ("bytes_received", Json::from(outcome.tally.bytes_in)),
        ("bytes_sent", Json::from(outcome.tally.bytes_out)),
        ("redirected", Json::from(outcome.tally.redirected)),
        ("unsent", Json::from(outcome.tally.unsent)),
        ("unanswered", Json::from(outcome.tally.unanswered)),
        (
            "errors",
            Json::Object(errors.map(|(t, n)| (t.clone(), (*n).into())).collect()),
        ),
        ("server_cpu_us", Json::from(round.cpu_us())),
        ("server_cpu_us_by_thread", Json::Object(threads.collect())),
        ("generator_busy", Json::from(outcome.generator_busy)),
        ("series", Json::List(series.collect())),
    ])
}

fn load_json(load: &Load) -> Json {
    let rate = match load.pace {
        Pace::Closed => None,
        Pace::Open { rate, .. } => Some(rate),
    };
    let (time, requests) = match load.until {
        Until::Time(time) => (Some(time.as_secs_f64()), None),
        Until::Requests(requests) => (None, Some(requests)),
    };
    object([
        ("clients", Json::from(load.clients as u64)),
        ("threads", Json::from(load.threads as u64)),
        ("pipeline", Json::from(load.pipeline as u64)),
        ("rate", Json::from(rate)),
        ("time_s", Json::from(time)),
        ("requests", Json::from(requests)),
        ("seed", Json::from(load.seed)),
    ])
}

/// Latency by percentile and throughput and latency over time.
pub fn panels(side: &Side, round: &Round) -> Vec<Panel> {
    let kinds = &round.outcome.tally.kinds;
    let mut lines: Vec<Series> = Vec::new();
    for (command, kind) in side.plan.work.commands.iter().zip(kinds) {
        lines.push(curve(&command.name, kind));
    }
    if lines.len() > 5 {
        lines = vec![curve("all", &round.outcome.tally.total())];
    }
    let series = &round.outcome.series;
    let of = |name: &str, value: fn(&crate::run::Point) -> f64| Series {
        name: name.to_owned(),
        points: series.iter().map(|p| (p.at, value(p))).collect(),
    };
    let title = format!("{}, {}", side.identity.name, load(&side.plan.load));
    vec![
        Panel {
            title: format!("Latency by percentile: {title}"),
            values: Values::Micros,
            axis: Axis::Percentiles,
            series: lines,
            logarithmic: true,
        },
        Panel {
            title: format!("Replies a second: {}", mix(&side.plan)),
            values: Values::Numbers("1/s"),
            axis: Axis::Seconds,
            series: vec![of("", |p| p.rate)],
            logarithmic: false,
        },
        Panel {
            title: "Latency over time".to_owned(),
            values: Values::Micros,
            axis: Axis::Seconds,
            series: vec![
                of("p50", |p| p.p50 as f64 / 1e3),
                of("p99", |p| p.p99 as f64 / 1e3),
                of("p99.9", |p| p.p999 as f64 / 1e3),
            ],
            logarithmic: true,
        },
    ]
}

fn curve(name: &str, kind: &Kind) -> Series {
    let points = kind.latency.curve();
    Series {
        name: name.to_owned(),
        points: points.iter().map(|(p, v)| (*p, *v as f64 / 1e3)).collect(),
    }
}

/// Names for the two sides that differ.
pub fn names(sides: [&Side; 2]) -> [String; 2] {
    let [a, b] = sides.map(|s| s.identity.name.clone());
    if a == b {
        return sides.map(|s| format!("{} {}", s.identity.name, s.plan.target.address));
    }
    [a, b]
}

/// A figure's name, how a value is shown, and the figure.
type Row = (String, fn(f64) -> String, Figure);

/// All figures of a comparison.
fn rows(comparison: &Comparison, commands: &[String]) -> Vec<Row> {
    let micros: fn(f64) -> String = |us| latency(us * 1e3);
    let mut rows: Vec<Row> = Vec::new();
    let mut add = |name: &str, show: fn(f64) -> String, figure: Option<Figure>| {
        rows.extend(figure.map(|f| (name.to_owned(), show, f)));
    };
    add("per second", grouped, comparison.throughput());
    for (percent, name) in [(50.0, "p50"), (99.0, "p99"), (99.9, "p99.9")] {
        add(name, micros, comparison.latency_us(percent));
    }
    add(
        "server CPU",
        |us| format!("{us:.2} us"),
        comparison.cpu_us(),
    );
    if commands.len() > 1 {
        for (number, command) in commands.iter().enumerate() {
            for (percent, name) in [(50.0, "p50"), (99.9, "p99.9")] {
                let of = |round: &Round| {
                    let kind = round.outcome.tally.kinds.get(number)?;
                    Some(kind.latency.percentile(percent) as f64 / 1e3)
                };
                add(&format!("{command} {name}"), micros, comparison.figure(of));
            }
        }
    }
    rows
}

/// The final table of a comparison.
pub fn comparison_table(sides: [&Side; 2], comparison: &Comparison) -> String {
    let plan = &sides[0].plan;
    let names = names(sides);
    let rounds = comparison.rounds[0].len();
    let mut out = format!(
        "{}; {}\n{rounds} rounds in turns: median (least to greatest); ratios are of rounds that followed each other\n\n",
        mix(plan),
        load(&plan.load)
    );
    let _ = writeln!(
        out,
        "{:<14}{:>32}{:>32}{:>24}",
        "", names[0], names[1], "ratio"
    );
    for (name, show, figure) in rows(comparison, &commands(plan)) {
        let cell = |s: &Spread| format!("{} ({} to {})", show(s.median), show(s.min), show(s.max));
        let ratio = figure.ratio;
        let _ = writeln!(
            out,
            "{name:<14}{:>32}{:>32}{:>24}",
            cell(&figure.sides[0]),
            cell(&figure.sides[1]),
            format!("{:.2} ({:.2} to {:.2})", ratio.median, ratio.min, ratio.max)
        );
    }
    out.push('\n');
    for (side, name) in names.iter().enumerate() {
        let threads = comparison.threads_us(side);
        if !threads.is_empty() {
            let _ = writeln!(out, "CPU a command by thread, {name}:");
            for (thread, spread) in threads {
                let _ = writeln!(
                    out,
                    "  {thread:<20}{:.2} us ({:.2} to {:.2})",
                    spread.median, spread.min, spread.max
                );
            }
        }
    }
    for (side, name) in names.iter().enumerate() {
        let tally = comparison.whole(side);
        let (nils, errors) = (tally.total().nils, tally.total().errors);
        if errors > 0 {
            let texts: Vec<String> = tally
                .errors
                .iter()
                .map(|(t, n)| format!("{} x {t}", grouped(*n as f64)))
                .collect();
            let _ = writeln!(out, "errors of {name}: {}", texts.join("; "));
        }
        if nils > 0 {
            let percent = nils as f64 * 100.0 / tally.done().max(1) as f64;
            let _ = writeln!(
                out,
                "{name} found nothing for {percent:.1} % of the commands"
            );
        }
    }
    let busiest = comparison
        .rounds
        .iter()
        .flatten()
        .map(|r| r.outcome.generator_busy)
        .fold(0.0, f64::max);
    let _ = writeln!(
        out,
        "the generator was busy for at most {:.0} % of its threads' time{}",
        busiest * 100.0,
        match busiest > 0.95 {
            true => " and may have set the limit: compare the CPU a command, or try more --threads",
            false => "",
        }
    );
    out
}

fn commands(plan: &Plan) -> Vec<String> {
    plan.work.commands.iter().map(|c| c.name.clone()).collect()
}

/// The figures of a comparison.
pub fn comparison_json(sides: [&Side; 2], comparison: &Comparison) -> Json {
    let spread = |s: &Spread| {
        object([
            ("median", Json::from(s.median)),
            ("min", Json::from(s.min)),
            ("max", Json::from(s.max)),
        ])
    };
    let figures =
        rows(comparison, &commands(&sides[0].plan))
            .into_iter()
            .map(|(name, _, figure)| {
                let unit = if name == "per second" { "1/s" } else { "us" };
                object([
                    ("figure", Json::from(name.as_str())),
                    ("unit", Json::from(unit)),
                    ("a", spread(&figure.sides[0])),
                    ("b", spread(&figure.sides[1])),
                    ("ratio", spread(&figure.ratio)),
                ])
            });
    let threads = |side: usize| {
        let threads = comparison.threads_us(side).into_iter();
        Json::Object(threads.map(|(n, s)| (n, spread(&s))).collect())
    };
    let rounds = |side: usize| {
        let rounds = comparison.rounds[side].iter();
        Json::List(rounds.map(|r| json(sides[side], r)).collect())
    };
    let [a, b] = names(sides);
    object([
        ("a", Json::from(a.as_str())),
        ("b", Json::from(b.as_str())),
        ("load", load_json(&sides[0].plan.load)),
        ("rounds", Json::from(comparison.rounds[0].len() as u64)),
        ("figures", Json::List(figures.collect())),
        ("a_cpu_us_by_thread", threads(0)),
        ("b_cpu_us_by_thread", threads(1)),
        ("a_rounds", rounds(0)),
        ("b_rounds", rounds(1)),
    ])
}

/// Latency by percentile of both, and the throughput of the rounds.
pub fn comparison_panels(sides: [&Side; 2], comparison: &Comparison) -> Vec<Panel> {
    let names = names(sides);
    let tallies: [Tally; 2] = [comparison.whole(0), comparison.whole(1)];
    let lines = names.iter().zip(&tallies);
    let rates = names.iter().enumerate().map(|(side, name)| Series {
        name: name.clone(),
        points: comparison.rounds[side]
            .iter()
            .enumerate()
            .map(|(n, r)| (n as f64, r.outcome.per_second()))
            .collect(),
    });
    let groups = (1..=comparison.rounds[0].len()).map(|n| format!("round {n}"));
    let title = format!("{}, {}", mix(&sides[0].plan), load(&sides[0].plan.load));
    vec![
        Panel {
            title: format!("Latency by percentile: {title}"),
            values: Values::Micros,
            axis: Axis::Percentiles,
            series: lines.map(|(n, t)| curve(n, &t.total())).collect(),
            logarithmic: true,
        },
        Panel {
            title: "Replies a second".to_owned(),
            values: Values::Numbers("1/s"),
            axis: Axis::Groups(groups.collect()),
            series: rates.collect(),
            logarithmic: false,
        },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_for_people() {
        assert_eq!(grouped(1_234_567.4), "1,234,567");
        assert_eq!(grouped(999.0), "999");
        assert_eq!(latency(1_234.0), "1.2 us");
        assert_eq!(latency(234_567.0), "235 us");
        assert_eq!(latency(999_700.0), "1.00 ms");
        assert_eq!(latency(2_340_000_000.0), "2.34 s");
    }
}
