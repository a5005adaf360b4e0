//! Explores two or three shards that move slots among them, a step at a time: any message late, lost or twice, any
//! primary gone at any moment, any suffix of an uncommitted log lost. After every step the promises are checked; at
//! the end everything heals and every slot must be somewhere, with every acknowledged write.
//!
//! One seed is one run. `HOLDFAST_SEEDS=from..to` widens the search; a failure prints its seed.

mod check;
mod driver;
mod world;

use world::{Mistake, World};

/// What a run of one seed came to.
fn run(seed: u64, mistake: Option<Mistake>) -> Result<world::Figures, String> {
    let mut world = World::new(seed, mistake);
    for _ in 0..1500 {
        world.step();
        check::always(&world)?;
    }
    world.heal()?;
    check::healed(&world)?;
    Ok(world.figures)
}

fn seeds() -> std::ops::Range<u64> {
    let parse = |text: String| {
        let (from, to) = text.split_once("..")?;
        Some(from.parse().ok()?..to.parse().ok()?)
    };
    let given = std::env::var("HOLDFAST_SEEDS").ok().and_then(parse);
    given.unwrap_or(0..100)
}

#[test]
fn slots_end_on_one_side_with_every_acknowledged_write() {
    let mut sum = world::Figures::default();
    for seed in seeds() {
        match run(seed, None) {
            Ok(figures) => sum.add(&figures),
            Err(error) => panic!("seed {seed}: {error}"),
        }
    }
    println!("{sum:?}");
    // A search that never gets anywhere proves nothing.
    assert!(
        sum.hand_offs > 0 && sum.adopted_after_failover > 0 && sum.aborted > 0,
        "{sum:?}"
    );
    assert!(
        sum.claims_adopted > 0 && sum.acked > 0 && sum.failovers > 0,
        "{sum:?}"
    );
}

/// Puts each mistake back, and expects the checks to see it within a few hundred seeds. Of 100 seeds each: adopting
/// in doubt is caught in 44, answering before the commit in 3, no pause in 38, data behind an abort in 27, aborting in
/// doubt in 15, no tap in 54, giving with keys left in 26.
#[test]
fn planted_mistakes_are_caught() {
    for mistake in Mistake::ALL {
        let caught = (0..300).find(|&seed| run(seed, Some(mistake)).is_err());
        println!("{mistake:?}: first caught by seed {caught:?}");
        assert!(caught.is_some(), "{mistake:?} was never caught");
    }
}
