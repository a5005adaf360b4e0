//! The log: `tracing` events in Valkey's format and levels.
//!
//! | `tracing` | Valkey | mark |
//! |---|---|---|
//! | `TRACE` | debug | `.` |
//! | `DEBUG` | verbose | `-` |
//! | `INFO` | notice | `*` |
//! | `WARN`, `ERROR` | warning | `#` |

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::subscriber::Interest;
use tracing::{Event, Level, Metadata, Subscriber, span};

/// The lowest level that is written, as a number of [`rank`].
static LEVEL: AtomicU8 = AtomicU8::new(2);

fn rank(level: &Level) -> u8 {
    match *level {
        Level::TRACE => 0,
        Level::DEBUG => 1,
        Level::INFO => 2,
        Level::WARN | Level::ERROR => 3,
    }
}

/// Sets the level by its name in `loglevel`.
pub fn set_level(name: &str) {
    let n = match name {
        "debug" => 0,
        "verbose" => 1,
        "warning" => 3,
        "nothing" => 4,
        _ => 2,
    };
    if LEVEL.swap(n, Ordering::Relaxed) != n {
        // Each place that logs has asked once whether to, and remembers the answer.
        tracing::callsite::rebuild_interest_cache();
    }
}

/// Whether an event of this kind is written at `lowest`, a number of [`rank`].
fn is_written(metadata: &Metadata<'_>, lowest: u8) -> bool {
    let level = rank(metadata.level());
    if level < lowest {
        return false;
    }
    // Other crates warn at every attempt to reach a node that is down; what matters of it we say ourselves.
    metadata.target().starts_with("holdfast") || (level >= 3 && lowest < 2)
}

/// Writes the log of the whole process from now on: to the file, or to standard output if there is none.
///
/// # Errors
/// The file cannot be opened.
pub fn init(logfile: Option<&Path>, level: &str) -> std::io::Result<()> {
    set_level(level);
    let file = match logfile {
        Some(path) => Some(
            std::fs::OpenOptions::new()
                .append(true)
                .create(true)
                .open(path)?,
        ),
        None => None,
    };
    // A test may have installed one before; the first stays.
    let _ = tracing::subscriber::set_global_default(Log {
        file: file.map(Mutex::new),
    });
    Ok(())
}

struct Log {
    file: Option<Mutex<std::fs::File>>,
}

/// Gathers an event's message, and its other fields behind it.
#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        // Writing to a string does not fail.
        let _ = if field.name() == "message" {
            write!(self.message, "{value:?}")
        } else {
            write!(self.fields, " {}={value:?}", field.name())
        };
    }
}

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        is_written(metadata, LEVEL.load(Ordering::Relaxed))
    }

    /// Asked again whenever the level changes. The crates under us have hundreds of places that would log on the way of
    /// one write: the answer is kept there, so that each costs one comparison.
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.enabled(metadata) {
            Interest::always()
        } else {
            Interest::never()
        }
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(match LEVEL.load(Ordering::Relaxed) {
            0 => LevelFilter::TRACE,
            1 => LevelFilter::DEBUG,
            2 => LevelFilter::INFO,
            3 => LevelFilter::WARN,
            _ => LevelFilter::OFF,
        })
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut text = Text::default();
        event.record(&mut text);
        let mark = [".", "-", "*", "#"][usize::from(rank(event.metadata().level())).min(3)];
        let unix_ms = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |d| d.as_millis() as u64);
        let line = format!(
            "{}:M {} {mark} {}{}\n",
            std::process::id(),
            timestamp(unix_ms),
            text.message,
            text.fields
        );
        // A log that cannot be written must not stop the server.
        let _ = match &self.file {
            Some(file) => match file.lock() {
                Ok(mut f) => f.write_all(line.as_bytes()),
                Err(_) => Ok(()),
            },
            None => std::io::stdout().lock().write_all(line.as_bytes()),
        };
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

/// `20 Nov 2026 21:31:56.123`, in UTC.
pub fn timestamp(unix_ms: u64) -> String {
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let seconds = unix_ms / 1000;
    // Howard Hinnant's `civil_from_days`, for days since 1970.
    let z = seconds / 86400 + 719_468;
    let era = z / 146_097;
    let doe = z % 146_097;
    let yoe = (doe - doe / 1460 + doe / 36524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let day = doy - (153 * mp + 2) / 5 + 1;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    let year = yoe + era * 400 + u64::from(month <= 2);
    let name = MONTHS[(month as usize - 1).min(11)];
    let t = seconds % 86400;
    format!(
        "{day:02} {name} {year} {:02}:{:02}:{:02}.{:03}",
        t / 3600,
        t / 60 % 60,
        t % 60,
        unix_ms % 1000
    )
}

/// Makes a panic end the process with a line in the log: state that a broken invariant has touched is not served.
pub fn abort_on_panic() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        tracing::error!("=== HOLDFAST BUG: the process ends here: {info}");
        before(info);
        std::process::abort();
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each place that logs remembers whether to: a change of the level must reach it, and back.
    #[test]
    fn the_level_changes_at_any_time() {
        let logs = || tracing::enabled!(Level::DEBUG);
        let foreign = || tracing::enabled!(target: "openraft", Level::INFO);
        tracing::subscriber::with_default(Log { file: None }, || {
            set_level("notice");
            assert!(!logs() && !foreign());
            set_level("verbose");
            assert!(logs() && !foreign());
            set_level("notice");
            assert!(!logs());
        });
    }

    #[test]
    fn dates() {
        assert_eq!(super::timestamp(0), "01 Jan 1970 00:00:00.000");
        assert_eq!(
            super::timestamp(1_795_210_316_123),
            "20 Nov 2026 21:31:56.123"
        );
        assert_eq!(
            super::timestamp(1_709_164_800_000),
            "29 Feb 2024 00:00:00.000"
        );
    }
}
