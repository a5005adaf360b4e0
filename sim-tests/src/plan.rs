//! How a seed becomes a run: which faults come when, to whom, and what the network is like.
//!
//! Each seed first draws which *kinds* of fault it knows (swarm testing: a run with everything at once
//! hides what a run with two kinds shows), then their times. The plan is a value: it can be printed, and two
//! processes derive the same one.

use crate::disk::Faults;
use crate::rng::Rng;
use std::fmt;

/// What is simulated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// One replicated log of `raft-log` with a small application on it.
    Log,
    /// The whole server: shards, clients, migrations.
    Node,
}

/// One thing that goes wrong, or that an operator does. Nodes are named by their index.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    /// The machine loses power and is back after `down_us`.
    Crash {
        /// Which node.
        node: usize,
        /// How long it stays away, in µs.
        down_us: u64,
    },
    /// As `Crash`, but at the `changes`-th change of its disk from now on: between a write and its sync.
    CrashAtDisk {
        /// Which node.
        node: usize,
        /// Changes that still happen.
        changes: u64,
        /// How long it stays away, in µs.
        down_us: u64,
    },
    /// The machine and its disk are gone for good. Only one of a run, and never a witness's.
    Lose {
        /// Which node.
        node: usize,
    },
    /// The process is killed and started again; the page cache survives.
    Kill {
        /// Which node.
        node: usize,
        /// How long it stays away, in µs.
        down_us: u64,
    },
    /// The process is stopped (`SIGSTOP`) and continued.
    Pause {
        /// Which node.
        node: usize,
        /// How long, in µs.
        us: u64,
    },
    /// One node hears nobody and is heard by nobody.
    Isolate {
        /// Which node.
        node: usize,
        /// How long, in µs.
        us: u64,
    },
    /// What `from` sends does not reach `to`; the other direction works.
    OneWay {
        /// Sender.
        from: usize,
        /// Receiver.
        to: usize,
        /// How long, in µs.
        us: u64,
    },
    /// The nodes of `side` and the others do not reach each other.
    Partition {
        /// The one side.
        side: Vec<usize>,
        /// How long, in µs.
        us: u64,
    },
    /// Packets take longer and get lost, everywhere.
    BadNetwork {
        /// Probability of a loss.
        loss: f64,
        /// Longest time of one packet, in µs.
        latency_us: u64,
        /// How long, in µs.
        us: u64,
    },
    /// A disk misbehaves.
    Disk {
        /// Which node.
        node: usize,
        /// How.
        faults: Faults,
        /// How long, in µs.
        us: u64,
    },
    /// A node's wall clock jumps.
    ClockJump {
        /// Which node.
        node: usize,
        /// By how much, in ms.
        ms: i64,
    },
    /// An operator asks for a failover of a shard.
    Failover {
        /// Drawn number that chooses the shard.
        which: u64,
    },
    /// Whoever leads a shard hears no other node and is heard by none; its clients still reach it.
    IsolateLeader {
        /// Drawn number that chooses the shard.
        which: u64,
        /// How long, in µs.
        us: u64,
    },
    /// An operator moves slots; in half of the cases the source or the target fails a moment later.
    Migrate {
        /// Drawn number that chooses source, target, slots, and what fails.
        which: u64,
    },
    /// An operator cancels what moves.
    CancelMigrations,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Crash { node, down_us } => write!(f, "crash n{node} for {}ms", down_us / 1000),
            Fault::CrashAtDisk {
                node,
                changes,
                down_us,
            } => {
                write!(
                    f,
                    "crash n{node} after {changes} disk changes for {}ms",
                    down_us / 1000
                )
            }
            Fault::Lose { node } => write!(f, "lose n{node}"),
            Fault::Kill { node, down_us } => write!(f, "kill n{node} for {}ms", down_us / 1000),
            Fault::Pause { node, us } => write!(f, "pause n{node} for {}ms", us / 1000),
            Fault::Isolate { node, us } => write!(f, "isolate n{node} for {}ms", us / 1000),
            Fault::OneWay { from, to, us } => write!(f, "cut n{from}->n{to} for {}ms", us / 1000),
            Fault::Partition { side, us } => write!(f, "partition {side:?} for {}ms", us / 1000),
            Fault::BadNetwork {
                loss,
                latency_us,
                us,
            } => {
                write!(
                    f,
                    "network loss={loss:.3} latency={}ms for {}ms",
                    latency_us / 1000,
                    us / 1000
                )
            }
            Fault::Disk { node, faults, us } => write!(
                f,
                "disk n{node} fsync_error={:.3} capacity={:?} read_only={} stall={:.3}x{}ms for {}ms",
                faults.fsync_error,
                faults.capacity_bytes,
                faults.read_only,
                faults.stall,
                faults.stall_us / 1000,
                us / 1000
            ),
            Fault::ClockJump { node, ms } => write!(f, "clock n{node} by {ms}ms"),
            Fault::Failover { which } => write!(f, "failover {which}"),
            Fault::IsolateLeader { which, us } => {
                write!(f, "isolate leader {which} for {}ms", us / 1000)
            }
            Fault::Migrate { which } => write!(f, "migrate {which}"),
            Fault::CancelMigrations => write!(f, "cancel migrations"),
        }
    }
}

/// What one seed stands for.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The seed.
    pub seed: u64,
    /// What is simulated.
    pub subject: Subject,
    /// How long faults and workload last, in µs; then everything heals.
    pub chaos_us: u64,
    /// Shards of the cluster (1 for [`Subject::Log`]).
    pub shards: usize,
    /// Whether the third voter of each shard is a witness, or a data node.
    pub witness: bool,
    /// Data nodes of each shard.
    pub data_nodes: usize,
    /// Clients.
    pub clients: usize,
    /// Faults by time in µs, sorted.
    pub faults: Vec<(u64, Fault)>,
    /// Wall clock offsets of the nodes, in ms.
    pub skew_ms: Vec<i64>,
    /// µs of a sync, from and to.
    pub sync_us: (u64, u64),
}

impl Plan {
    /// Number of processes in the cluster; witnesses come last, one for all shards.
    pub fn nodes(&self) -> usize {
        self.shards * self.data_nodes + usize::from(self.witness)
    }

    /// The plan of a seed.
    pub fn of(seed: u64, subject: Subject) -> Plan {
        let root = Rng::new(seed);
        let mut rng = root.derive("plan", subject as u64);
        let (shards, witness, data_nodes) = match subject {
            Subject::Log if rng.chance(0.6) => (1, true, 2),
            Subject::Log => (1, false, 3),
            Subject::Node => (2, true, 2),
        };
        let chaos_us = match subject {
            Subject::Log => rng.range(8, 14) * 1_000_000,
            Subject::Node => rng.range(8, 14) * 1_000_000,
        };
        let mut plan = Plan {
            seed,
            subject,
            chaos_us,
            shards,
            witness,
            data_nodes,
            clients: rng.range(3, 5) as usize,
            faults: Vec::new(),
            skew_ms: Vec::new(),
            sync_us: *rng.pick(&[(0, 0), (100, 300), (200, 2_000), (1_000, 8_000)]),
        };
        plan.skew_ms = (0..plan.nodes())
            .map(|_| rng.range(0, 400) as i64 - 200)
            .collect();
        plan.draw_faults(&mut root.derive("faults", subject as u64));
        plan
    }

    fn draw_faults(&mut self, rng: &mut Rng) {
        let kinds: &[u64] = match self.subject {
            Subject::Log => &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 13],
            Subject::Node => &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13],
        };
        let drawn = kinds.iter().filter(|_| rng.chance(0.45));
        let mut known: Vec<u64> = drawn.copied().collect();
        if self.subject == Subject::Node {
            // Moving slots is the part with the fewest years behind it: it is in most of the runs.
            known.extend([11, 11].iter().filter(|_| rng.chance(0.6)));
        }
        if known.is_empty() {
            known.push(*rng.pick(kinds));
        }
        // A crash now and then belongs to every run.
        if rng.chance(0.5) {
            known.push(0);
        }
        let gap_us = rng.range(200, 1_500) * 1000;
        let mut at = 1_000_000;
        while at < self.chaos_us {
            let kind = *rng.pick(&known);
            let fault = self.draw(rng, kind);
            self.faults.push((at, fault));
            at += rng.range(gap_us / 4, gap_us * 2);
        }
        if rng.chance(0.25) {
            self.lose(rng);
        }
        self.faults.sort_by_key(|(at, _)| *at);
    }

    /// A data node is away for a while, long enough to fall behind, and about when it comes back another one of its shard
    /// is lost with its disk: what only that one and the witness have acknowledged must come from the witness now.
    fn lose(&mut self, rng: &mut Rng) {
        let shard = rng.index(self.shards);
        let behind = rng.index(self.data_nodes);
        let gone = (behind + 1 + rng.index(self.data_nodes - 1)) % self.data_nodes;
        // As `Layout::data_nodes` counts them.
        let machine = |n: usize| shard + n * self.shards;
        let at = rng.range(1_000, self.chaos_us / 1000 / 2) * 1000;
        let away_us = rng.range(1_000, 5_000) * 1000;
        let node = machine(behind);
        let away = match rng.below(3) {
            0 => Fault::Crash {
                node,
                down_us: away_us,
            },
            1 => Fault::Pause { node, us: away_us },
            _ => Fault::Isolate { node, us: away_us },
        };
        self.faults.push((at, away));
        let then = at + away_us * rng.range(70, 105) / 100;
        self.faults.push((
            then,
            Fault::Lose {
                node: machine(gone),
            },
        ));
    }

    fn draw(&self, rng: &mut Rng, kind: u64) -> Fault {
        let n = self.nodes();
        let node = rng.index(n);
        let us = rng.range(100, 4_000) * 1000;
        let down_us = rng.range(50, 3_000) * 1000;
        match kind {
            0 => Fault::Crash { node, down_us },
            1 => Fault::CrashAtDisk {
                node,
                changes: rng.below(40),
                down_us,
            },
            2 => Fault::Kill { node, down_us },
            3 => Fault::Pause {
                node,
                us: rng.range(50, 3_000) * 1000,
            },
            4 => Fault::Isolate { node, us },
            5 => Fault::OneWay {
                from: node,
                to: (node + 1 + rng.index(n - 1)) % n,
                us,
            },
            6 => {
                let side: Vec<usize> = (0..n).filter(|_| rng.chance(0.5)).collect();
                Fault::Partition { side, us }
            }
            7 => Fault::BadNetwork {
                loss: rng.below(100) as f64 / 1000.0,
                latency_us: rng.range(2, 60) * 1000,
                us,
            },
            8 => {
                let mut faults = Faults {
                    sync_us: self.sync_us,
                    ..Faults::default()
                };
                match rng.below(3) {
                    0 => faults.fsync_error = 0.2,
                    1 => faults.capacity_bytes = Some(rng.range(0, 200_000)),
                    _ => (faults.stall, faults.stall_us) = (0.05, rng.range(20, 600) * 1000),
                }
                Fault::Disk { node, faults, us }
            }
            9 | 10 => Fault::Failover {
                which: rng.u64() >> 32,
            },
            11 => Fault::Migrate {
                which: rng.u64() >> 16,
            },
            13 => Fault::IsolateLeader {
                which: rng.u64() >> 32,
                us: rng.range(1_000, 4_000) * 1000,
            },
            _ if rng.chance(0.5) => Fault::ClockJump {
                node,
                ms: rng.range(0, 1000) as i64 - 500,
            },
            _ => Fault::CancelMigrations,
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "seed {} subject {:?} shards {} data_nodes {} witness {} clients {} chaos {}s sync {:?}us skew {:?}ms",
            self.seed,
            self.subject,
            self.shards,
            self.data_nodes,
            self.witness,
            self.clients,
            self.chaos_us / 1_000_000,
            self.sync_us,
            self.skew_ms
        )?;
        self.faults
            .iter()
            .try_for_each(|(at, fault)| writeln!(f, "  at {:>6}ms {fault}", at / 1000))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_one_plan_and_seeds_differ() {
        let text = |seed| Plan::of(seed, Subject::Node).to_string();
        assert_eq!(text(7), text(7));
        assert_ne!(text(7), text(8));
    }

    #[test]
    fn every_kind_of_fault_is_drawn_and_names_nodes_that_exist() {
        let mut kinds = std::collections::BTreeSet::new();
        for seed in 0..200 {
            for subject in [Subject::Log, Subject::Node] {
                let plan = Plan::of(seed, subject);
                assert!(!plan.faults.is_empty() && plan.faults.is_sorted_by_key(|f| f.0));
                for (_, fault) in &plan.faults {
                    let word = fault.to_string();
                    kinds.insert(word.split(' ').next().unwrap_or_default().to_string());
                    if let Fault::OneWay { from, to, .. } = fault {
                        assert!(from != to && *from < plan.nodes() && *to < plan.nodes());
                    }
                }
            }
        }
        assert_eq!(kinds.len(), 13, "{kinds:?}");
    }
}
