//! Commands that another thread has read and found the ends of.

use super::large_argument::put_together;
use super::{LargeArgument, Replies};
use crate::commands::Entry;
use std::borrow::Cow;

/// A buffer that has grown beyond this is not kept for the next time.
const KEEP_BYTES: usize = 64 * 1024;

/// A command found in the bytes of a parcel.
#[derive(Clone, Copy)]
pub struct Framed {
    /// Its row, if there is such a command.
    pub entry: Option<&'static Entry>,
    /// Where its arguments end among all.
    args_end: u32,
    /// Where it ends in the bytes.
    pub end: u32,
}

impl std::fmt::Debug for Framed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = self.entry.map(|e| e.full_name.as_str());
        write!(f, "Framed({name:?} up to {})", self.end)
    }
}

/// What has been read of one connection, and, on the way back, the replies.
#[derive(Debug, Default)]
pub struct Parcel {
    /// What has been read: first whole commands, then what was not looked at.
    pub bytes: Vec<u8>,
    /// Arguments of the first command that are not among the bytes.
    pub large: Vec<LargeArgument>,
    /// The commands.
    pub commands: Vec<Framed>,
    /// Their arguments, from where to where.
    spans: Vec<(u32, u32)>,
    /// What is to be written.
    pub replies: Replies,
}

impl Parcel {
    /// Adds a command whose arguments are parts of `data`, and which ends at `end` there.
    pub fn push(&mut self, data: &[u8], argv: &[&[u8]], entry: Option<&'static Entry>, end: usize) {
        for arg in argv {
            let from = (arg.as_ptr() as usize - data.as_ptr() as usize) as u32;
            self.spans.push((from, from + arg.len() as u32));
        }
        self.commands.push(Framed {
            entry,
            args_end: self.spans.len() as u32,
            end: end as u32,
        });
    }

    /// The arguments of a command.
    pub fn argv(&self, i: usize) -> impl Iterator<Item = &[u8]> {
        let begin = match i.checked_sub(1).and_then(|i| self.commands.get(i)) {
            Some(before) => before.args_end as usize,
            None => 0,
        };
        let end = self.commands.get(i).map_or(begin, |c| c.args_end as usize);
        let spans = self.spans.get(begin..end).unwrap_or_default();
        let large: &[LargeArgument] = if i == 0 { &self.large } else { &[] };
        spans.iter().enumerate().map(move |(place, (from, to))| {
            match large.iter().find(|argument| argument.place == place) {
                Some(argument) => &argument.bytes[..],
                None => &self.bytes[*from as usize..*to as usize],
            }
        })
    }

    /// All that has been read.
    pub fn all_bytes(&self) -> Cow<'_, [u8]> {
        match self.large.is_empty() {
            true => Cow::Borrowed(&self.bytes),
            false => Cow::Owned(put_together(&self.bytes, &self.large)),
        }
    }

    /// Empties it, to be used again.
    pub fn clear(&mut self) {
        match self.bytes.capacity() > KEEP_BYTES {
            true => self.bytes = Vec::new(),
            false => self.bytes.clear(),
        }
        self.large.clear();
        self.replies.clear(KEEP_BYTES);
        self.commands.clear();
        self.spans.clear();
    }
}
