//! How long a shard takes no writes when its primary is killed: last acknowledged write to the next one.
//!
//! `cargo bench -p holdfast-server --bench failover`
//!
//! `KILLS` (20) changes the length. Every acknowledged write is read back in the end.

mod support;

use std::time::{Duration, Instant};

use support::harness::cluster::PATIENCE;
use support::harness::{Cluster, Load};
use support::{chart, ms, percentile, setting};

fn main() {
    let kills = setting("KILLS", 20);
    let mut cluster = Cluster::in_dir(&support::output_dir());
    let [a, b, _] = cluster.add_durable_shard();
    let mut gaps: Vec<Duration> = Vec::new();
    let mut refused = 0;
    let mut written = 0;
    for kill in 1..=kills {
        let load = Load::start(&cluster, &format!("round{kill}"), 8);
        load.wait_for(2000, PATIENCE);
        let primary = cluster.primary_of(0);
        let at = Instant::now();
        cluster.kill(primary);
        load.wait_for(1000, PATIENCE);
        std::thread::sleep(Duration::from_millis(500));
        let report = load.finish();
        let gap = report.gap_around(at).expect("writes before and after");
        println!("kill {kill:>2}: {}", ms(gap));
        gaps.push(gap);
        cluster.start(primary);
        cluster.wait("both data nodes to be level", |c| {
            c.client(a).ask("DEBUG DIGEST") == c.client(b).ask("DEBUG DIGEST")
        });
        refused += report.refused();
        written += report.assert_nothing_lost(&mut cluster.router());
    }
    let in_order: Vec<f64> = gaps.iter().map(|g| g.as_secs_f64() * 1000.0).collect();
    gaps.sort();
    println!(
        "\n{kills} kills: median {}, maximum {}; {written} acknowledged writes, none lost; {refused} refused",
        ms(percentile(&gaps, 50.0)),
        ms(percentile(&gaps, 100.0)),
    );
    let path = chart::points(
        "failover",
        "Last acknowledged write to the next, kill -9 of the primary",
        "ms",
        &in_order,
    );
    println!("chart: {}", path.display());
}
