//! The clock by which commands are measured: nanoseconds since some moment, read once for each command.
//!
//! Where the processor's time stamp counter runs evenly it is read itself, which takes half of what asking the system does. The
//! simulator has no such clock: there, commands take no time.

/// A clock.
#[derive(Debug, Clone, Copy, Default)]
pub enum Ticks {
    /// It stands still.
    #[default]
    Still,
    /// The system's.
    #[cfg(not(madsim))]
    System(std::time::Instant),
    /// It goes on by 100 with each look.
    #[cfg(test)]
    Looks(&'static std::sync::atomic::AtomicU64),
    /// The processor's counter: where it began, and the nanoseconds of one tick in 2^32nds.
    #[cfg(all(not(madsim), target_arch = "x86_64"))]
    Counter(u64, u64),
}

impl Ticks {
    /// The best that this machine has. Takes two milliseconds.
    #[cfg(not(madsim))]
    pub fn new() -> Ticks {
        #[cfg(target_arch = "x86_64")]
        if let Some(ticks) = counter() {
            return ticks;
        }
        Ticks::System(std::time::Instant::now())
    }

    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Ticks::Still => "none",
            #[cfg(test)]
            Ticks::Looks(_) => "looks",
            #[cfg(not(madsim))]
            Ticks::System(_) => "POSIX clock_gettime",
            #[cfg(all(not(madsim), target_arch = "x86_64"))]
            Ticks::Counter(..) => "X86 TSC",
        }
    }

    /// Nanoseconds since the clock was made.
    #[inline]
    pub fn now(self) -> u64 {
        match self {
            Ticks::Still => 0,
            #[cfg(test)]
            Ticks::Looks(n) => n.fetch_add(100, std::sync::atomic::Ordering::Relaxed),
            #[cfg(not(madsim))]
            Ticks::System(start) => start.elapsed().as_nanos() as u64,
            #[cfg(all(not(madsim), target_arch = "x86_64"))]
            Ticks::Counter(start, scale) => {
                let ticks = crate::process::time_stamp().saturating_sub(start);
                ((u128::from(ticks) * u128::from(scale)) >> 32) as u64
            }
        }
    }
}

/// The processor's counter, if it neither stops nor changes its pace.
#[cfg(all(not(madsim), target_arch = "x86_64"))]
fn counter() -> Option<Ticks> {
    use crate::process::time_stamp;
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let flags = text.lines().find(|l| l.starts_with("flags"))?;
    let has = |flag: &str| flags.split_whitespace().any(|f| f == flag);
    if !has("constant_tsc") || !has("nonstop_tsc") {
        return None;
    }
    let (from, start) = (std::time::Instant::now(), time_stamp());
    std::thread::sleep(std::time::Duration::from_millis(2));
    let (ns, ticks) = (from.elapsed().as_nanos() as u64, time_stamp() - start);
    // Between 100 MHz and 100 GHz: anything else is no such counter.
    let plausible = ticks > ns / 10 && ticks < ns.saturating_mul(100);
    plausible.then(|| Ticks::Counter(start, (ns << 32) / ticks))
}

#[cfg(all(test, not(madsim)))]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    #[test]
    fn it_goes_as_the_system_s_clock_does() {
        let ticks = Ticks::new();
        let (start, from) = (Instant::now(), ticks.now());
        std::thread::sleep(Duration::from_millis(30));
        let ours = ticks.now() - from;
        let system = start.elapsed().as_nanos() as u64;
        assert!(ours >= 30_000_000 * 99 / 100, "{ours}");
        assert!(ours <= system + system / 100, "{ours} {system}");
    }
}
