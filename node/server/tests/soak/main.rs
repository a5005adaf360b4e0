//! Random bytes against the executor with its connections and parsers: commands of all kinds, whole and broken, inline and RESP, in
//! pieces of any length, on connections that come, go, stop reading and switch their protocol; everything follows from one seed.
//!
//! What must hold: nothing panics, what a client is sent is a sequence of well-formed replies, and no query buffer grows beyond its limit.
//!
//! A run of the tests is short. `cargo soak` takes as many bytes as `SOAK_BYTES` says, from `SOAK_SEED` on:
//!
//! ```text
//! SOAK_BYTES=1000000000 cargo soak
//! ```

mod input;
mod world;

use std::time::Instant;
use world::World;

/// Bytes that one world, made of one seed, is sent.
const WORLD_BYTES: u64 = 300_000;

fn from_env(name: &str, default: u64) -> u64 {
    let value = std::env::var(name).ok();
    value.map_or(default, |v| v.parse().expect("a number"))
}

#[test]
fn soak() {
    let bytes = from_env("SOAK_BYTES", 1_500_000);
    let first = from_env("SOAK_SEED", 1);
    let start = Instant::now();
    let (mut sent, mut replies) = (0, 0);
    let mut seed = first;
    let mut said = 0;
    while sent < bytes {
        // The last line says which seed it was that failed.
        if std::env::var_os("SOAK_SEEDS").is_some() {
            println!("seed {seed}");
        }
        let mut world = World::new(seed);
        world.run(WORLD_BYTES.min(bytes - sent));
        sent += world.sent;
        replies += world.replies;
        seed += 1;
        if sent >= said + 50_000_000 {
            said = sent;
            println!(
                "{sent} bytes, seeds {first} to {}, {} s",
                seed - 1,
                start.elapsed().as_secs()
            );
        }
    }
    println!(
        "{sent} bytes, {replies} replies, seeds {first} to {}, {} s",
        seed - 1,
        start.elapsed().as_secs()
    );
    // Most of what is sent is broken, but not all.
    assert!(replies > sent / 1000);
}
