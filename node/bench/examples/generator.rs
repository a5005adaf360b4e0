//! `holdfast bench` alone, which builds in seconds: `cargo run --release -p holdfast-bench --example generator -- --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    holdfast_bench::app::main(std::env::args_os().skip(1))
}
