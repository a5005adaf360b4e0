//! What is counted.

use crate::histogram::Histogram;

/// Different errors that are told apart; all others are one.
const ERRORS_MAX: usize = 8;

/// Of one command of the mix.
#[derive(Clone, Debug, Default)]
pub struct Kind {
    /// Answered within the measured time.
    pub done: u64,
    /// Of those, errors.
    pub errors: u64,
    /// Of those, nulls.
    pub nils: u64,
    /// From the time a command was due (in a closed loop: sent) to its reply, in nanoseconds.
    pub latency: Histogram,
    /// From the time it was really sent; open loop only.
    pub service: Histogram,
}

/// Of one thread in one interval, or of all in a whole run.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// By the number of the command.
    pub kinds: Vec<Kind>,
    /// Bytes received in the measured time.
    pub bytes_in: u64,
    /// Bytes sent in the measured time.
    pub bytes_out: u64,
    /// Replies that sent a command elsewhere.
    pub redirected: u64,
    /// Commands that an open loop was due to send, and could not until its end. Their latency is what they had waited by then.
    pub unsent: u64,
    /// Commands without a reply when the run was over.
    pub unanswered: u64,
    /// Texts of errors, with how often their first word came.
    pub errors: Vec<(String, u64)>,
}

impl Tally {
    /// For so many commands.
    pub fn new(kinds: usize) -> Tally {
        Tally {
            kinds: vec![Kind::default(); kinds],
            ..Tally::default()
        }
    }

    /// All commands as one.
    pub fn total(&self) -> Kind {
        let mut total = Kind::default();
        for kind in &self.kinds {
            total.add(kind);
        }
        total
    }

    /// Answered within the measured time.
    pub fn done(&self) -> u64 {
        self.kinds.iter().map(|k| k.done).sum()
    }

    /// Adds what another has counted.
    pub fn add(&mut self, other: &Tally) {
        self.kinds
            .resize_with(self.kinds.len().max(other.kinds.len()), Kind::default);
        for (mine, theirs) in self.kinds.iter_mut().zip(&other.kinds) {
            mine.add(theirs);
        }
        self.bytes_in += other.bytes_in;
        self.bytes_out += other.bytes_out;
        self.redirected += other.redirected;
        self.unsent += other.unsent;
        self.unanswered += other.unanswered;
        for (text, count) in &other.errors {
            self.add_error(text, *count);
        }
    }

    /// Forgets everything, and keeps the memory.
    pub fn clear(&mut self) {
        for kind in &mut self.kinds {
            (kind.done, kind.errors, kind.nils) = (0, 0, 0);
            kind.latency.clear();
            kind.service.clear();
        }
        let kinds = std::mem::take(&mut self.kinds);
        *self = Tally {
            kinds,
            ..Tally::default()
        };
    }

    /// Counts an error by its first word.
    pub fn add_error(&mut self, text: &str, count: u64) {
        let word = |t: &str| t.split(' ').next().unwrap_or_default().to_owned();
        let found = self.errors.iter().position(|(t, _)| word(t) == word(text));
        match found {
            Some(at) => self.errors[at].1 += count,
            None if self.errors.len() < ERRORS_MAX => {
                self.errors.push((text.to_owned(), count));
            }
            None => {
                if let Some(last) = self.errors.last_mut() {
                    last.1 += count;
                }
            }
        }
    }
}

impl Kind {
    fn add(&mut self, other: &Kind) {
        self.done += other.done;
        self.errors += other.errors;
        self.nils += other.nils;
        self.latency.add(&other.latency);
        self.service.add(&other.service);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_told_apart_by_their_first_word() {
        let mut tally = Tally::new(1);
        for text in ["ERR a", "ERR b", "WRONGTYPE c"] {
            tally.add_error(text, 1);
        }
        let mut sum = tally.clone();
        sum.add(&tally);
        assert_eq!(
            sum.errors,
            [("ERR a".to_owned(), 4), ("WRONGTYPE c".to_owned(), 2)]
        );
        for n in 0..100 {
            sum.add_error(&format!("E{n}"), 1);
        }
        assert_eq!(sum.errors.len(), ERRORS_MAX);
        assert_eq!(sum.errors.iter().map(|e| e.1).sum::<u64>(), 106);
    }

    #[test]
    fn cleared_is_as_new() {
        let mut tally = Tally::new(2);
        tally.kinds[1].done = 3;
        tally.kinds[1].latency.record(5);
        tally.bytes_in = 1;
        tally.clear();
        assert_eq!(tally.done(), 0);
        assert_eq!(tally.total().latency.count(), 0);
        assert_eq!((tally.kinds.len(), tally.bytes_in), (2, 0));
    }
}
