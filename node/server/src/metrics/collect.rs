//! What the executor notes down for the metrics: in steps far below a millisecond each.

use crate::commands::info_text;
use crate::executor::{Executor, Histogram, SlotTraffic};
use crate::migrate::exec::MigrationFigures;
use crate::seam::{ExecutorGone, ExecutorHandle};

/// Commands that are looked at in one step.
const COMMANDS_A_STEP: usize = 64;
/// Slots that are looked at in one step.
const SLOTS_A_STEP: u16 = 2048;
const SLOTS: u16 = 16384;
/// The sections of `INFO` whose figures are metrics, too.
const SECTIONS: [&str; 7] = [
    "clients",
    "memory",
    "persistence",
    "durability",
    "stats",
    "replication",
    "cpu",
];
/// Buckets of the histograms: powers of two of nanoseconds, from a microsecond to a second.
pub(super) const POWERS: std::ops::RangeInclusive<u32> = 10..=30;

/// Everything that the text is made of.
#[derive(Debug, Default)]
pub struct Notes {
    /// `INFO`, some sections.
    pub(super) info: String,
    pub(super) role: &'static str,
    pub(super) uptime_s: u64,
    pub(super) errors: Vec<(String, u64)>,
    /// Keys, and keys that expire, of each database that has any.
    pub(super) databases: Vec<(u16, usize, usize)>,
    pub(super) migrations: MigrationFigures,
    pub(super) commands: Vec<CommandNote>,
    pub(super) slots: Vec<SlotNote>,
}

/// Figures of one command.
#[derive(Debug)]
pub(super) struct CommandNote {
    pub name: &'static str,
    pub calls: u64,
    pub rejected: u64,
    pub failed: u64,
    pub ns: u64,
    /// How many calls were measured, and how many of them took at most so many nanoseconds.
    pub latency: Option<(u64, Vec<(u64, u64)>)>,
}

/// Figures of one slot.
#[derive(Debug)]
pub(super) struct SlotNote {
    pub slot: u16,
    pub keys: usize,
    pub traffic: SlotTraffic,
}

/// Asks the executor for everything.
///
/// # Errors
/// It has ended.
pub async fn collect(executor: &ExecutorHandle) -> Result<Notes, ExecutorGone> {
    let (mut notes, commands) = executor
        .run(|ex| (head(ex), ex.table.entries().len()))
        .await?;
    for from in (0..commands).step_by(COMMANDS_A_STEP) {
        let more = executor.run(move |ex| some_commands(ex, from)).await?;
        notes.commands.extend(more);
    }
    if executor.run(|ex| ex.observer.slots().is_some()).await? {
        for from in (0..SLOTS).step_by(usize::from(SLOTS_A_STEP)) {
            let more = executor.run(move |ex| some_slots(ex, from)).await?;
            notes.slots.extend(more);
        }
    }
    Ok(notes)
}

fn head(ex: &mut Executor) -> Notes {
    let sections: Vec<String> = SECTIONS.iter().map(|s| s.to_string()).collect();
    let errors = ex.stats.errors.iter();
    Notes {
        info: info_text(ex, &sections),
        role: crate::commands::role_name(ex),
        uptime_s: (ex.now.mono_us - ex.started().mono_us) / 1_000_000,
        errors: errors.map(|(code, n)| (code.clone(), *n)).collect(),
        databases: (0..ex.settings.databases)
            .map(|db| (db, ex.engine.dbsize(db), ex.engine.expiries_len(db)))
            .filter(|(_, keys, _)| *keys > 0)
            .collect(),
        migrations: ex.migrate.figures(),
        commands: Vec::new(),
        slots: Vec::new(),
    }
}

fn some_commands(ex: &mut Executor, from: usize) -> Vec<CommandNote> {
    let entries = ex.table.entries().iter().skip(from).take(COMMANDS_A_STEP);
    let noted = entries.filter_map(|e| {
        let s = ex.stats.of(e.id)?;
        (s.calls + s.rejected + s.failed > 0).then(|| CommandNote {
            name: &e.full_name,
            calls: s.calls,
            rejected: s.rejected,
            failed: s.failed,
            ns: s.ns,
            latency: s.latency.as_deref().map(|l| (l.total(), cumulative(l))),
        })
    });
    noted.collect()
}

fn cumulative(latency: &Histogram) -> Vec<(u64, u64)> {
    latency
        .by_powers(*POWERS.start())
        .take(POWERS.count())
        .collect()
}

fn some_slots(ex: &mut Executor, from: u16) -> Vec<SlotNote> {
    let Some(traffic) = ex.observer.slots() else {
        return Vec::new();
    };
    (from..from + SLOTS_A_STEP)
        .map(|slot| SlotNote {
            slot,
            keys: ex.engine.slot_count(slot),
            traffic: traffic[usize::from(slot)],
        })
        .filter(|s| s.keys > 0 || s.traffic != SlotTraffic::default())
        .collect()
}
