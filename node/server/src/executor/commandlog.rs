//! The command log: the last commands that took long, came with much or were answered with much.
//!
//! Only what is shown: where it comes from is in [`super::observe`], the commands are in [`crate::commands`].

use std::collections::VecDeque;

/// Arguments of a command that are kept; the last of them says how many there were.
const ARGUMENTS_MAX: usize = 32;
/// Bytes of an argument that are kept.
const ARGUMENT_BYTES_MAX: usize = 128;
/// What is shown in place of what nobody should see.
pub const REDACTED: &[u8] = b"(redacted)";

/// What a log is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogKind {
    /// Microseconds of execution.
    Slow,
    /// Bytes of the request.
    LargeRequest,
    /// Bytes of the reply.
    LargeReply,
}

impl LogKind {
    /// All of them.
    pub const ALL: [LogKind; 3] = [LogKind::Slow, LogKind::LargeRequest, LogKind::LargeReply];

    /// The one of that name.
    pub fn named(name: &[u8]) -> Option<LogKind> {
        let names: [(&[u8], LogKind); 3] = [
            (b"slow", LogKind::Slow),
            (b"large-request", LogKind::LargeRequest),
            (b"large-reply", LogKind::LargeReply),
        ];
        let found = names.iter().find(|(n, _)| n.eq_ignore_ascii_case(name))?;
        Some(found.1)
    }
}

/// What gets into a log, and how much of it is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LogLimits {
    /// The least figure that is logged; `None` if nothing is.
    pub from: Option<u64>,
    /// Entries that are kept.
    pub len: usize,
}

/// One command of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEntry {
    /// Never used again.
    pub id: u64,
    /// When, in seconds since 1970.
    pub at_s: u64,
    /// What the log is about.
    pub value: u64,
    /// The command, shortened.
    pub argv: Vec<Box<[u8]>>,
    /// The client's address.
    pub peer: String,
    /// The client's name.
    pub name: Box<[u8]>,
}

#[derive(Debug, Default)]
struct Log {
    /// The newest first.
    entries: VecDeque<LogEntry>,
    next_id: u64,
}

/// The three logs.
#[derive(Debug, Default)]
pub struct CommandLog {
    logs: [Log; 3],
}

impl CommandLog {
    /// Adds an entry, and drops the oldest if there are too many.
    pub fn push(&mut self, kind: LogKind, limits: LogLimits, entry: LogEntry) {
        let log = &mut self.logs[kind as usize];
        let id = log.next_id;
        log.next_id += 1;
        log.entries.push_front(LogEntry { id, ..entry });
        log.entries.truncate(limits.len);
    }

    /// Entries, the newest first.
    pub fn entries(&self, kind: LogKind) -> impl ExactSizeIterator<Item = &LogEntry> {
        self.logs[kind as usize].entries.iter()
    }

    /// Drops what a log has beyond its limit.
    pub fn shorten(&mut self, kind: LogKind, len: usize) {
        self.logs[kind as usize].entries.truncate(len);
    }

    /// Empties a log.
    pub fn reset(&mut self, kind: LogKind) {
        self.logs[kind as usize].entries.clear();
    }
}

/// A command as it is kept: not all of its arguments, not all of each, and none that is secret.
pub fn shortened(argv: &[&[u8]], secret: &[usize]) -> Vec<Box<[u8]>> {
    let kept = argv.len().min(ARGUMENTS_MAX);
    let mut out: Vec<Box<[u8]>> = Vec::with_capacity(kept);
    for (i, arg) in argv[..kept].iter().enumerate() {
        if i + 1 == kept && argv.len() > kept {
            let more = format!("... ({} more arguments)", argv.len() - kept + 1);
            out.push(more.into_bytes().into());
        } else if secret.contains(&i) {
            out.push(REDACTED.into());
        } else if arg.len() > ARGUMENT_BYTES_MAX {
            let more = format!("... ({} more bytes)", arg.len() - ARGUMENT_BYTES_MAX);
            out.push(
                [&arg[..ARGUMENT_BYTES_MAX], more.as_bytes()]
                    .concat()
                    .into(),
            );
        } else {
            out.push((*arg).into());
        }
    }
    out
}

/// The arguments of a command that nobody else should see: passwords.
pub fn secrets(name: &str, argv: &[&[u8]], is_sensitive: impl Fn(&[u8]) -> bool) -> Vec<usize> {
    let is = |i: usize, word: &str| {
        argv.get(i)
            .is_some_and(|a| a.eq_ignore_ascii_case(word.as_bytes()))
    };
    let mut out = Vec::new();
    match name {
        "auth" => out.extend(1..argv.len().min(3)),
        "hello" => {
            let mut i = 2;
            while i < argv.len() {
                if is(i, "auth") {
                    out.extend([i + 1, i + 2]);
                    i += 2;
                } else if is(i, "setname") {
                    i += 1;
                }
                i += 1;
            }
        }
        "migrate" => {
            let mut i = 6;
            while i < argv.len() && !is(i, "keys") {
                if is(i, "auth") {
                    out.push(i + 1);
                    i += 1;
                } else if is(i, "auth2") {
                    out.extend([i + 1, i + 2]);
                    i += 2;
                }
                i += 1;
            }
        }
        "config|set" => {
            let pairs = (2..argv.len()).step_by(2);
            out.extend(pairs.filter(|i| is_sensitive(argv[*i])).map(|i| i + 1));
        }
        "acl|setuser" | "acl|deluser" => out.extend(2..argv.len()),
        "acl|getuser" => out.push(2),
        _ => {}
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<&[u8]> {
        line.split(' ').map(str::as_bytes).collect()
    }

    fn hidden(name: &str, line: &str) -> String {
        let argv = words(line);
        let secret = secrets(name, &argv, |n| n.eq_ignore_ascii_case(b"requirepass"));
        let kept = shortened(&argv, &secret);
        let kept: Vec<_> = kept.iter().map(|a| String::from_utf8_lossy(a)).collect();
        kept.join(" ")
    }

    #[test]
    fn secrets_are_not_kept() {
        for (name, line, expect) in [
            ("get", "GET auth", "GET auth"),
            ("auth", "AUTH a b", "AUTH (redacted) (redacted)"),
            (
                "hello",
                "HELLO 3 SETNAME auth AUTH a b",
                "HELLO 3 SETNAME auth AUTH (redacted) (redacted)",
            ),
            ("hello", "HELLO 3 AUTH", "HELLO 3 AUTH"),
            (
                "migrate",
                "MIGRATE h p k 0 1 COPY AUTH2 u p KEYS auth x",
                "MIGRATE h p k 0 1 COPY AUTH2 (redacted) (redacted) KEYS auth x",
            ),
            (
                "config|set",
                "CONFIG SET maxmemory 1 RequirePass x",
                "CONFIG SET maxmemory 1 RequirePass (redacted)",
            ),
        ] {
            assert_eq!(hidden(name, line), expect);
        }
    }

    #[test]
    fn long_commands_are_shortened() {
        let many: Vec<String> = (0..40).map(|i| i.to_string()).collect();
        let many: Vec<&[u8]> = many.iter().map(|s| s.as_bytes()).collect();
        let kept = shortened(&many, &[]);
        assert_eq!(kept.len(), 32);
        assert_eq!(&*kept[31], b"... (9 more arguments)");
        let kept = shortened(&[&[b'A'; 129]], &[]);
        assert_eq!(kept[0].len(), 128 + "... (1 more bytes)".len());
        assert_eq!(shortened(&many[..32], &[])[31], Box::from(*b"31"));
    }

    #[test]
    fn a_log_keeps_the_newest() {
        let mut log = CommandLog::default();
        let limits = LogLimits {
            from: Some(0),
            len: 2,
        };
        for value in 0..5 {
            let entry = LogEntry {
                id: 0,
                at_s: 1,
                value,
                argv: Vec::new(),
                peer: String::new(),
                name: Box::default(),
            };
            log.push(LogKind::Slow, limits, entry);
        }
        let ids: Vec<u64> = log.entries(LogKind::Slow).map(|e| e.id).collect();
        assert_eq!(ids, [4, 3]);
        assert_eq!(log.entries(LogKind::LargeReply).len(), 0);
        log.reset(LogKind::Slow);
        assert_eq!(log.entries(LogKind::Slow).len(), 0);
    }
}
