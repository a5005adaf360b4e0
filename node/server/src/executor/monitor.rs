//! `MONITOR`: who is shown every command that is executed.

use super::commandlog::REDACTED;
use super::observe::secret_arguments;
use super::{ConnId, Executor};
use crate::commands::Entry;
use holdfast_engine::Flags;

impl Executor {
    /// Shows a client every command from now on.
    pub(crate) fn start_monitoring(&mut self, id: ConnId) {
        if let Some(c) = self.conns.get_mut(id)
            && !c.monitor
        {
            c.monitor = true;
            self.observer.monitors.push(id);
            self.observer.update();
        }
    }

    /// Shows a client no commands any more.
    pub(crate) fn stop_monitoring(&mut self, id: ConnId) {
        if let Some(c) = self.conns.get_mut(id)
            && c.monitor
        {
            c.monitor = false;
            self.observer.monitors.retain(|m| *m != id);
            self.observer.update();
        }
    }

    /// Shows a command to those who monitor.
    #[inline]
    pub(super) fn feed_monitors(&mut self, id: ConnId, entry: &Entry, argv: &[&[u8]]) {
        let hidden = Flags::ADMIN.and(Flags::SKIP_MONITOR);
        if !self.observer.monitors.is_empty() && !entry.spec.flags.has_any(hidden) {
            self.feed(id, entry, argv);
        }
    }

    #[cold]
    fn feed(&mut self, id: ConnId, entry: &Entry, argv: &[&[u8]]) {
        let Some(c) = self.conns.get(id) else {
            return;
        };
        let us = self.now.unix_us;
        let mut line = format!(
            "+{}.{:06} [{} {}]",
            us / 1_000_000,
            us % 1_000_000,
            c.db,
            match &c.info.unix_path {
                Some(path) => format!("unix:{path}"),
                None => c.info.peer_name(),
            }
        );
        let secret = secret_arguments(entry, argv);
        for (i, arg) in argv.iter().enumerate() {
            let shown = if secret.contains(&i) { REDACTED } else { arg };
            line.push(' ');
            repr(shown, &mut line);
        }
        line.push_str("\r\n");
        for monitor in self.observer.monitors.clone() {
            // What it executes itself is shown behind the reply.
            self.push_with(monitor, super::pubsub::FREE, |out, _| {
                out.extend_from_slice(line.as_bytes());
            });
        }
    }
}

/// A string in quotes, with what cannot be printed escaped.
fn repr(bytes: &[u8], out: &mut String) {
    out.push('"');
    for b in bytes {
        match b {
            b'\\' | b'"' => {
                out.push('\\');
                out.push(*b as char);
            }
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            0x07 => out.push_str("\\a"),
            0x08 => out.push_str("\\b"),
            0x20..=0x7e => out.push(*b as char),
            _ => out.push_str(&format!("\\x{b:02x}")),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_printed_is_escaped() {
        let mut out = String::new();
        repr(b"a\\\"\n\r\t\x07\x08\x7f\xff z", &mut out);
        assert_eq!(out, r#""a\\\"\n\r\t\a\b\x7f\xff z""#);
    }
}
