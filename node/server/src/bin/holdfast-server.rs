//! The `holdfast-server` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    holdfast_server::process::run(std::env::args_os().skip(1))
}
