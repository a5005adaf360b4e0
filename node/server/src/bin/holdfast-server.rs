//! The `holdfast-server` program.

use holdfast_server::{check_rdb, process};
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: holdfast_server::memory::Counting = holdfast_server::memory::Counting;

fn main() -> ExitCode {
    let mut args = std::env::args_os();
    match args.next() {
        Some(name) if check_rdb::is_name(&name) => check_rdb::run(args),
        name => process::run(&name.unwrap_or_default().to_string_lossy(), args),
    }
}
