//! What the benchmarks share: the harness of the tests, a load generator, figures and charts.

#![allow(
    dead_code,
    reason = "compiled into each benchmark, none of which uses all of it"
)]

#[path = "../../tests/it/harness/mod.rs"]
pub mod harness;

pub mod chart;
pub mod generator;
pub mod process;

use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where charts, and the nodes' folders while they run, are put: on the disk of the workspace, since a
/// temporary folder may be in memory.
pub fn output_dir() -> PathBuf {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/bench");
    std::fs::create_dir_all(&dir).expect("a folder for the output");
    dir.canonicalize().expect("just made")
}

/// The Valkey to compare with: `HOLDFAST_VALKEY`, or `valkey-server` from the path.
pub fn valkey_server() -> PathBuf {
    std::env::var_os("HOLDFAST_VALKEY")
        .map_or_else(|| PathBuf::from("valkey-server"), PathBuf::from)
}

/// The program's own words about its version.
pub fn version(program: &Path) -> String {
    let output = std::process::Command::new(program)
        .arg("--version")
        .output();
    match output {
        Ok(output) => String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        Err(error) => {
            eprintln!(
                "{} cannot be run: {error}; install valkey-server or set HOLDFAST_VALKEY",
                program.display()
            );
            std::process::exit(1);
        }
    }
}

/// A number from the environment, for runs that are shorter or longer than the default.
pub fn setting(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|_| panic!("{name} is not a number: {text}")),
        Err(_) => default,
    }
}

/// The value below which `percent` of the sorted values lie.
pub fn percentile<T: Copy + Default>(sorted: &[T], percent: f64) -> T {
    let last = sorted.len().saturating_sub(1);
    let index = (last as f64 * percent / 100.0).round() as usize;
    sorted.get(index).copied().unwrap_or_default()
}

/// Milliseconds with two digits.
pub fn ms(duration: Duration) -> String {
    format!("{:.2} ms", duration.as_secs_f64() * 1000.0)
}
