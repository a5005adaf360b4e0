//! A large argument that is on its way: its bytes are read to where the command is gathered.

use super::{ConnId, Connection, Executor};

/// For an argument that is longer than this, room is made for more than what has come of it,
const LARGE_ARGUMENT: usize = 32 * 1024;
/// but no more than this; and then as much again as has come.
pub const AHEAD_BYTES_MAX: usize = 1024 * 1024;

impl Connection {
    /// Makes room in the query buffer for what comes next of a large argument, at least for `least` bytes. Returns how many bytes of it are
    /// still to come, if there is one.
    pub(super) fn make_argument_room(&mut self, least: usize) -> Option<usize> {
        let (at, len) = self.parser.awaited_bulk()?;
        if len < LARGE_ARGUMENT {
            return None;
        }
        let (have, room) = (self.query.len(), self.query.capacity());
        let rest = (at + len + 2).saturating_sub(have);
        let wanted = rest.min(have.max(AHEAD_BYTES_MAX)).max(least);
        // Not for the announcement alone, and not again for each piece.
        if have > 0 && room - have < rest.min(LARGE_ARGUMENT).max(least) {
            self.query.reserve_exact(wanted);
        }
        Some(rest)
    }
}

impl Executor {
    /// Where to read the next bytes of a connection to, behind what is there, if much of an argument is still to come. Report them by
    /// [`Executor::on_argument`] then.
    pub fn argument_room(&mut self, id: ConnId) -> Option<&mut Vec<u8>> {
        let c = self.conns.get_mut(id)?;
        if c.query.is_empty() || !c.is_ready() {
            return None;
        }
        c.make_argument_room(1)
            .filter(|rest| *rest >= LARGE_ARGUMENT)?;
        Some(&mut c.query)
    }

    /// So many bytes have come of a large argument.
    pub fn on_argument(&mut self, id: ConnId, n: usize) {
        let mono_ms = self.now.mono_ms();
        let Some(c) = self.conns.get_mut(id) else {
            return;
        };
        c.last_seen_ms = mono_ms;
        c.bytes_in += n as u64;
        c.query_peak = c.query_peak.max(c.query.len());
        self.stats.bytes_in += n as u64;
        self.stats.reads += 1;
        self.resume(id);
        self.mark_dirty(id);
        self.check_query_limit(id);
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::Test;
    use proptest::prelude::*;

    /// Sends bytes in pieces, as a driver does. Returns the replies, and how many pieces went to where an argument is gathered.
    fn send(t: &mut Test, mut bytes: &[u8], cuts: &[usize]) -> (String, usize) {
        let id = t.connect();
        let (mut replies, mut direct) = (String::new(), 0);
        for cut in cuts.iter().cycle() {
            if bytes.is_empty() {
                break;
            }
            let mut n = (*cut).min(bytes.len());
            t.ex.begin_turn(t.now);
            if let Some(query) = t.ex.argument_room(id) {
                n = n.min(query.capacity() - query.len());
                let before = query.capacity();
                query.extend_from_slice(&bytes[..n]);
                assert!(n > 0 && query.capacity() == before);
                t.ex.on_argument(id, n);
                direct += 1;
            } else {
                t.ex.on_bytes(id, &bytes[..n]);
            }
            t.ex.end_turn();
            bytes = &bytes[n..];
            replies += &t.read(id);
        }
        (replies, direct)
    }

    fn set(len: usize) -> String {
        format!(
            "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n${len}\r\n{}\r\n",
            "v".repeat(len)
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn commands_are_the_same_however_they_are_read(
            lens in prop::collection::vec(prop_oneof![0..100usize, 30_000..40_000usize, Just(2_500_000)], 1..6),
            cuts in prop::collection::vec(prop_oneof![1..200usize, Just(65_536), Just(300_000)], 1..9),
        ) {
            let cuts: Vec<usize> = cuts.iter().map(|n| n.max(&2000)).copied().collect();
            let (mut bytes, mut expected) = (String::new(), String::new());
            for len in &lens {
                bytes += &set(*len);
                bytes += "STRLEN k\r\nPING\r\n";
                expected += &format!("+OK\n:{len}\n+PONG\n");
            }
            let (replies, _) = send(&mut Test::new(false), bytes.as_bytes(), &cuts);
            prop_assert_eq!(replies, expected);
        }
    }

    #[test]
    fn large_arguments_are_read_to_where_they_are_gathered() {
        let (replies, direct) = send(&mut Test::new(false), set(1 << 20).as_bytes(), &[65_536]);
        assert_eq!((replies.as_str(), direct), ("+OK\n", 15));
    }
}
