//! The `holdfast` program.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: holdfast_server::memory::Counting = holdfast_server::memory::Counting;

fn main() -> ExitCode {
    let mut args = std::env::args_os();
    let name = args.next().unwrap_or_default();
    if holdfast_server::check_rdb::is_name(&name) {
        return holdfast_server::check_rdb::run(args);
    }
    match args.next() {
        Some(command) if command == "server" => {
            let program = format!("{} server", name.to_string_lossy());
            holdfast_server::process::run(&program, args)
        }
        Some(command) if command == "local-cluster" => holdfast_server::local_cluster::run(args),
        Some(command) if command == "bench" => holdfast_bench::app::main(args),
        Some(command) if command == "check-rdb" => holdfast_server::check_rdb::run(args),
        Some(command) if command == "--version" || command == "-v" => {
            println!("Holdfast v={}", holdfast_server::VERSION);
            ExitCode::SUCCESS
        }
        _ => {
            eprintln!(
                "usage: holdfast server [file.conf] [--directive value ...]\n       holdfast local-cluster [options]\n       holdfast bench [options] [command]\n       holdfast check-rdb <rdb-file-name> [--format table|info|csv] [--stats] [--output <file>]"
            );
            ExitCode::from(2)
        }
    }
}
