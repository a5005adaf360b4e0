//! Where on disk an entry is: a sparse map, bounded by the log's length, not its number of entries.

use std::collections::VecDeque;

/// A run begins anew at least this often.
pub const RUN_BYTES: u64 = 64 * 1024;

/// Entries that stand behind each other in one segment, perhaps with other records between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Index of the first entry.
    pub first: u64,
    /// Index of the last entry.
    pub last: u64,
    /// Number of the segment.
    pub segment: u64,
    /// Offset of the first entry's record.
    pub start: u64,
    /// Offset behind the last entry's record, or behind one of its entries that was truncated.
    pub end: u64,
    /// Not to be extended.
    closed: bool,
}

/// All runs, consecutive in their indexes.
#[derive(Debug, Default)]
pub struct Index {
    runs: VecDeque<Run>,
}

impl Index {
    /// An entry was written at `start..end`. Its index follows the last one's.
    pub fn push(&mut self, index: u64, segment: u64, start: u64, end: u64) {
        if let Some(run) = self.runs.back_mut() {
            debug_assert_eq!(run.last + 1, index);
            if !run.closed && run.segment == segment && end - run.start <= RUN_BYTES {
                run.last = index;
                run.end = end;
                return;
            }
        }
        self.runs.push_back(Run {
            first: index,
            last: index,
            segment,
            start,
            end,
            closed: false,
        });
    }

    /// Entries from `index` on are gone. The last run is closed: between it and what is written next
    /// stand the records of the entries that are gone.
    pub fn truncate_from(&mut self, index: u64) {
        while self.runs.back().is_some_and(|run| run.first >= index) {
            self.runs.pop_back();
        }
        if let Some(run) = self.runs.back_mut() {
            run.last = run.last.min(index.saturating_sub(1));
            run.closed = true;
        }
    }

    /// Entries up to `index` are gone.
    pub fn purge_upto(&mut self, index: u64) {
        while self.runs.front().is_some_and(|run| run.last <= index) {
            self.runs.pop_front();
        }
    }

    /// Nothing is left.
    pub fn clear(&mut self) {
        self.runs.clear();
    }

    /// The run that holds an entry.
    pub fn find(&self, index: u64) -> Option<Run> {
        let at = self.runs.partition_point(|run| run.last < index);
        self.runs.get(at).filter(|run| run.first <= index).copied()
    }

    /// Index of the first entry on disk.
    pub fn first(&self) -> Option<u64> {
        self.runs.front().map(|run| run.first)
    }

    /// Number of the segment that holds the first entry.
    pub fn first_segment(&self) -> Option<u64> {
        self.runs.front().map(|run| run.segment)
    }

    /// The highest index such that the entries behind it take about `bytes`, if there are that many.
    pub fn keep_behind(&self, upto: u64, bytes: u64) -> Option<u64> {
        let mut sum = 0;
        for run in self.runs.iter().rev().skip_while(|run| run.first > upto) {
            sum += run.end - run.start;
            if sum > bytes {
                return Some(run.last.min(upto));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_split_and_survive_truncation() {
        let mut index = Index::default();
        for i in 0..10 {
            index.push(i, 0, i * 100, i * 100 + 100);
        }
        assert_eq!(index.find(9).unwrap().first, 0);
        index.truncate_from(7);
        assert_eq!(index.find(7), None);
        assert_eq!(index.find(6).unwrap().last, 6);
        index.push(7, 0, 1100, 1200);
        let run = index.find(7).unwrap();
        assert_eq!(
            (run.first, run.start),
            (7, 1100),
            "the stale records are not crossed"
        );
        index.truncate_from(7);
        index.push(7, 0, 1300, 1400);
        assert_eq!(
            index.find(7).unwrap().start,
            1300,
            "nor when a whole run went"
        );
        assert_eq!(index.find(6).unwrap().last, 6);
        index.push(8, 0, 1400, 1400 + RUN_BYTES);
        assert_eq!(index.find(8).unwrap().first, 8);
        index.push(9, 1, 64, 128);
        assert_eq!(index.find(9).unwrap().segment, 1);
        index.purge_upto(7);
        assert_eq!(index.first(), Some(8));
        index.truncate_from(8);
        assert_eq!(index.first(), None);
    }
}
