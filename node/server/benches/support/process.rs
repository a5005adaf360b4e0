//! What the kernel knows about a process.

use std::time::Duration;

/// Processor time used so far, user and system.
pub fn cpu_time(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process runs");
    // The name, in parentheses, may hold blanks; utime and stime are the 12th and 13th field behind it.
    let (_, rest) = stat.rsplit_once(')').expect("a name in parentheses");
    let ticks: u64 = rest
        .split_ascii_whitespace()
        .skip(11)
        .take(2)
        .map(|f| f.parse::<u64>().expect("a number"))
        .sum();
    // USER_HZ is 100 on every Linux that Rust runs on.
    Duration::from_millis(ticks * 10)
}

/// Resident memory in bytes.
pub fn resident_bytes(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the process runs");
    let line = status
        .lines()
        .find_map(|l| l.strip_prefix("VmRSS:"))
        .expect("VmRSS");
    line.split_ascii_whitespace()
        .next()
        .and_then(|kib| kib.parse::<u64>().ok())
        .expect("a number")
        * 1024
}
