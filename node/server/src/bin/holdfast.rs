//! The `holdfast` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    match args.next() {
        Some(command) if command == "server" => holdfast_server::process::run(args),
        Some(command) if command == "local-cluster" => holdfast_server::local_cluster::run(args),
        Some(command) if command == "--version" || command == "-v" => {
            println!("Holdfast v={}", holdfast_server::VERSION);
            ExitCode::SUCCESS
        }
        _ => {
            eprintln!(
                "usage: holdfast server [file.conf] [--directive value ...]\n       holdfast local-cluster [options]"
            );
            ExitCode::from(2)
        }
    }
}
