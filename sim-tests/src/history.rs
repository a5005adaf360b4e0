//! What happened in a run: one line an event, in simulated time, and a digest of the lines.
//!
//! ```text
//! 0001203417 c3 call 118 SET r:4 c3-17          time in µs, who, kind, operation number, what
//! 0001207730 c3 ok   118 OK
//! 0001300000 -  fault crash n2 kept=1 lost=4 torn=1 names=0
//! 0002207731 c3 lost 119                        no answer: it may take effect at any later time, or never
//! ```
//!
//! Two runs of a seed must give the same bytes; the digest is how that is compared.

use std::fmt::Write as _;

/// 64-bit FNV-1a: short, and the same everywhere.
#[derive(Clone, Copy, Debug)]
pub struct Fnv(u64);

impl Fnv {
    /// The empty digest.
    pub fn new() -> Fnv {
        Fnv(0xcbf2_9ce4_8422_2325)
    }

    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        for b in bytes {
            self.0 = (self.0 ^ u64::from(*b)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    /// The digest so far.
    pub fn finish(&self) -> u64 {
        self.0
    }
}

impl Default for Fnv {
    fn default() -> Self {
        Fnv::new()
    }
}

/// The lines of one run.
#[derive(Default)]
pub struct History {
    text: String,
    digest: Fnv,
    lines: u64,
}

impl History {
    /// An empty history.
    pub fn new() -> History {
        History::default()
    }

    /// Adds one event at `at_us` microseconds of simulated time by `who` (`-` for the simulator itself).
    pub fn event(&mut self, at_us: u64, who: &str, what: std::fmt::Arguments<'_>) {
        let start = self.text.len();
        // Writing to a String cannot fail.
        let _ = writeln!(self.text, "{at_us:010} {who:<3} {what}");
        self.digest.update(&self.text.as_bytes()[start..]);
        self.lines += 1;
    }

    /// All lines.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Number of lines.
    pub fn lines(&self) -> u64 {
        self.lines
    }

    /// Digest of all lines.
    pub fn digest(&self) -> u64 {
        self.digest.finish()
    }

    /// The last `n` lines, for a failure's report.
    pub fn tail(&self, n: usize) -> String {
        let lines: Vec<&str> = self.text.lines().collect();
        lines[lines.len().saturating_sub(n)..].join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_digest() {
        let mut h = History::new();
        h.event(12, "c1", format_args!("call 1 GET a"));
        h.event(1_200_345, "-", format_args!("fault crash n2"));
        assert_eq!(
            h.text(),
            "0000000012 c1  call 1 GET a\n0001200345 -   fault crash n2\n"
        );
        let mut whole = Fnv::new();
        whole.update(h.text().as_bytes());
        assert_eq!((h.digest(), h.lines()), (whole.finish(), 2));
        assert_eq!(h.tail(1), "0001200345 -   fault crash n2");
    }
}
