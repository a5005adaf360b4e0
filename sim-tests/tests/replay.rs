//! The same seed gives the same history, byte for byte, in another process. Run by `cargo sim-test`, in simulator builds
//! only.

#![cfg(madsim)]

use std::process::Command;
use std::thread;

fn history(seed: u64, subject: &str) -> String {
    let out = Command::new(env!("CARGO_BIN_EXE_sim"))
        .args(["--seed", &seed.to_string(), "--subject", subject])
        .arg("--history")
        .output()
        .expect("the simulator runs");
    let text = String::from_utf8(out.stdout).expect("a history is text");
    // The last thing that the last line tells is the wall time.
    text.rsplit_once(" wall ")
        .map(|(history, _)| history.to_string())
        .expect("a run that ends with a summary")
}

/// The history of a seed, after it was found to be the same in two processes that run side by side.
fn replayed(seed: u64, subject: &'static str) -> String {
    let other = thread::spawn(move || history(seed, subject));
    let (a, b) = (history(seed, subject), other.join().expect("a history"));
    let differs = a.lines().zip(b.lines()).find(|(a, b)| a != b);
    assert!(a == b, "{subject} seed {seed}: {differs:?}");
    let lines = a.lines().count();
    assert!(lines > 100, "{subject} seed {seed}: only {lines} lines");
    a
}

#[test]
fn same_seed_same_history() {
    for subject in ["log", "node"] {
        assert_ne!(replayed(3, subject), replayed(4, subject));
        replayed(5, subject);
    }
}
