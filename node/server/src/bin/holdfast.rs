//! The `holdfast` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    match args.next() {
        Some(command) if command == "local-cluster" => holdfast_server::local_cluster::run(args),
        _ => {
            eprintln!("usage: holdfast local-cluster [options]");
            ExitCode::from(2)
        }
    }
}
