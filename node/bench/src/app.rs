//! The command: options in, figures out.

use std::ffi::OsString;
use std::io::{ErrorKind, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::Failure;
use crate::chart::{self, Panel};
use crate::compare::{self, Side};
use crate::json::Json;
use crate::live::{Live, Style};
use crate::net::Target;
use crate::options::{self, Options, Request, Sink};
use crate::plan::Plan;
use crate::report;
use crate::run::{self, Watcher as _};
use crate::server::Identity;

/// Runs `holdfast bench` with the arguments behind it.
///
/// The exit code is 0 after a run (also one that the user interrupted), 1 after a failure and 2 for a wrong command line.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let options = match options::parse(args) {
        Ok(Request::Run(options)) => options,
        Ok(Request::Help) => {
            print!("{}", options::usage());
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("holdfast bench: {error}");
            return ExitCode::from(2);
        }
    };
    match execute(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("holdfast bench: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn execute(options: &Options) -> Result<(), Failure> {
    let interrupted = Arc::new(AtomicBool::new(false));
    // The first asks for what was measured so far, the second ends the program.
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register_conditional_default(signal, Arc::clone(&interrupted))
            .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&interrupted)))
            .map_err(|e| Failure::new(format!("signals: {e}")))?;
    }
    let style = match options.quiet {
        true => Style::Quiet,
        false => Style::suitable(),
    };
    let mut live = Live::new(style, Arc::clone(&interrupted));
    let outcome = match &options.compare {
        Some(second) => compare_all(options, second, &mut live),
        None => run_all(options, &mut live),
    };
    live.clear();
    let (values, panels) = outcome?;
    if let Some(sink) = &options.json {
        let value = match <[Json; 1]>::try_from(values) {
            Ok([one]) => one,
            Err(several) => Json::List(several),
        };
        let text = value.to_text();
        match sink {
            Sink::Output => put(&text)?,
            Sink::File(path) => write(path, &text)?,
        }
    }
    if let Some(path) = &options.svg {
        write(path, &chart::draw(&panels))?;
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    std::fs::write(path, text).map_err(|e| Failure::new(format!("{}: {e}", path.display())))
}

/// Tables go to the output, unless JSON does.
fn say(options: &Options, text: &str) -> Result<(), Failure> {
    match options.json {
        Some(Sink::Output) => Ok(()),
        _ => put(&format!("{text}\n")),
    }
}

/// Whoever reads the output may have had enough of it.
fn put(text: &str) -> Result<(), Failure> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(e) if e.kind() != ErrorKind::BrokenPipe => {
            Err(Failure::new(format!("the output: {e}")))
        }
        _ => Ok(()),
    }
}

fn side(plan: Plan, pid: Option<u32>) -> Result<Side, Failure> {
    let mut identity = Identity::ask(&plan.target)?;
    if let Some(pid) = pid {
        crate::server::Cpu::of(pid)?;
        identity.pid = Some(pid);
    }
    Ok(Side { plan, identity })
}

fn preload(options: &Options, side: &Side, live: &mut Live) -> Result<(), Failure> {
    if !options.preload {
        return Ok(());
    }
    live.phase(&format!(
        "filling {} on {}",
        side.identity.name, side.plan.target.address
    ));
    match &options.preload_with {
        Some(words) => {
            let (work, count) = side.plan.work.filling(words.clone(), 1);
            run::fill(&side.plan, work, count, live)?;
        }
        None => {
            run::preload(&side.plan, live)?;
        }
    }
    Ok(())
}

type Figures = (Vec<Json>, Vec<Panel>);

fn run_all(options: &Options, live: &mut Live) -> Result<Figures, Failure> {
    let (mut values, mut panels) = (Vec::new(), Vec::new());
    for plan in &options.plans {
        let side = side(plan.clone(), options.pids.first().copied())?;
        preload(options, &side, live)?;
        if live.is_interrupted() {
            break;
        }
        live.phase(&report::title(&side));
        let round = compare::round(&side.plan, side.identity.pid, live)?;
        live.clear();
        say(options, &report::table(&side, &round))?;
        values.push(report::json(&side, &round));
        panels.extend(report::panels(&side, &round));
    }
    Ok((values, panels))
}

fn compare_all(options: &Options, second: &Target, live: &mut Live) -> Result<Figures, Failure> {
    let (mut values, mut panels) = (Vec::new(), Vec::new());
    for plan in &options.plans {
        let other = Plan {
            target: second.clone(),
            ..plan.clone()
        };
        let a = side(plan.clone(), options.pids.first().copied())?;
        let b = side(other, options.pids.get(1).copied())?;
        for side in [&a, &b] {
            preload(options, side, live)?;
        }
        if live.is_interrupted() {
            break;
        }
        let comparison = compare::compare([&a, &b], options.rounds, live)?;
        live.clear();
        say(options, &report::comparison_table([&a, &b], &comparison))?;
        values.push(report::comparison_json([&a, &b], &comparison));
        panels.extend(report::comparison_panels([&a, &b], &comparison));
    }
    Ok((values, panels))
}
