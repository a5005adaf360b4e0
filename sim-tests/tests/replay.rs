//! The same seed gives the same history, byte for byte, in another process.
//!
//! Only in simulator builds: `RUSTFLAGS="--cfg madsim" cargo test --target-dir target-sim -p holdfast-sim-tests`.

#![cfg(madsim)]

use std::process::Command;

fn history(seed: u64, subject: &str) -> String {
    let out = Command::new(env!("CARGO_BIN_EXE_sim"))
        .args([
            "--seed",
            &seed.to_string(),
            "--subject",
            subject,
            "--history",
        ])
        .output()
        .expect("the simulator runs");
    let text = String::from_utf8(out.stdout).expect("a history is text");
    // The last line tells the wall time.
    text.rsplit_once("seed ")
        .map_or(text.clone(), |(history, _)| history.to_string())
}

#[test]
fn same_seed_same_history() {
    for subject in ["log", "node"] {
        for seed in [3, 4] {
            let (a, b) = (history(seed, subject), history(seed, subject));
            let differs = a.lines().zip(b.lines()).find(|(a, b)| a != b);
            assert!(a == b, "{subject} seed {seed}: {differs:?}");
            assert!(
                a.lines().count() > 100,
                "{subject} seed {seed}: nothing happened"
            );
        }
        assert_ne!(history(3, subject), history(4, subject));
    }
}
