//! The `holdfast-server` program.

use holdfast_server::{check_rdb, process};
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args = std::env::args_os();
    match args.next() {
        Some(name) if check_rdb::is_name(&name) => check_rdb::run(args),
        _ => process::run(args),
    }
}
