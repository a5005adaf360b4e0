//! [`Output`] and [`Replies`] against plain bytes: whatever is appended, held, replaced, written in part or given to another thread and back.

use super::tests::Test;
use super::{Flow, HeldKind, Output, Replies};
use crate::journal::JournalPos;
use proptest::prelude::*;
use std::collections::VecDeque;
use std::sync::Arc;

const ERROR: &[u8] = b"-LATE\r\n";

/// A long string in a reply: bytes in front of it, and its length.
type Long = (usize, usize);

#[derive(Debug, Clone)]
enum Step {
    /// A reply of these long strings and the bytes behind them; whether it is taken back at once.
    Reply(Vec<Long>, usize, u64, HeldKind, bool),
    /// So many thousandths of what is ready are written.
    Write(usize),
    Release(u64, bool),
    /// Held replies of this kind become errors.
    Replace(HeldKind),
    /// Another thread writes from now on, or no longer.
    Move,
    Shrink,
    Abandon,
}

fn kind() -> impl Strategy<Value = HeldKind> {
    prop_oneof![
        Just(HeldKind::Write),
        Just(HeldKind::Read),
        Just(HeldKind::Message),
        Just(HeldKind::Free),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let short = prop_oneof![9 => 1..40usize, 1 => Just(45_000)];
    let long = (short.clone(), prop_oneof![1..30usize, Just(9000)]);
    let longs = prop::collection::vec(long, 0..4);
    prop_oneof![
        8 => (longs, short, 0..50u64, kind(), prop::bool::weighted(0.1))
            .prop_map(|(l, n, needs, kind, back)| Step::Reply(l, n, needs, kind, back)),
        6 => (0..=1000usize).prop_map(Step::Write),
        3 => (0..60u64, any::<bool>()).prop_map(|(upto, lease)| Step::Release(upto, lease)),
        1 => kind().prop_map(Step::Replace),
        1 => Just(Step::Move),
        1 => Just(Step::Shrink),
        1 => prop::bool::weighted(0.1).prop_map(|b| if b { Step::Abandon } else { Step::Shrink }),
    ]
}

/// What should be there.
#[derive(Default)]
struct Model {
    ready: Vec<u8>,
    held: VecDeque<(Vec<u8>, u64, HeldKind)>,
    /// Given to the other thread and not written.
    away: Vec<u8>,
}

impl Model {
    fn hold(&mut self, all: Vec<u8>, needs: u64, kind: HeldKind) {
        // Nobody counts these one by one.
        let one = matches!(kind, HeldKind::Free | HeldKind::Message);
        match self.held.back_mut() {
            None if kind == HeldKind::Free => self.ready.extend(all),
            Some(last) if one && (last.1, last.2) == (needs, kind) => last.0.extend(all),
            _ => self.held.push_back((all, needs, kind)),
        }
    }

    fn pending(&self) -> usize {
        let held: usize = self.held.iter().map(|h| h.0.len()).sum();
        self.ready.len() + held + self.away.len()
    }
}

/// The thread that writes, if it is not the executor's.
struct Other {
    flow: Arc<Flow>,
    queue: VecDeque<Replies>,
}

impl Other {
    fn take(&mut self, replies: Replies, gather: bool) {
        match self.queue.back_mut() {
            Some(last) if gather => last.append(replies),
            _ => self.queue.push_back(replies),
        }
    }
}

fn bytes<'a>(parts: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    let parts: Vec<&[u8]> = parts.collect();
    assert!(parts.iter().all(|p| !p.is_empty()));
    parts.concat()
}

/// Appends a reply, and returns its bytes.
fn append(o: &mut Output, longs: &[Long], end: usize, mark: u8) -> Vec<u8> {
    let mut all = Vec::new();
    for (before, len) in longs {
        o.buf.resize(o.buf.len() + before, b'.');
        all.resize(all.len() + before, b'.');
        let text = vec![mark; *len];
        all.extend_from_slice(&text);
        o.blobs.push(o.buf.len(), Arc::new(text));
    }
    o.buf.resize(o.buf.len() + end, b'-');
    all.resize(all.len() + end, b'-');
    all
}

fn check(steps: &[Step], gated: bool) {
    let (mut o, mut model, mut other) = (Output::default(), Model::default(), None::<Other>);
    let (mut sent, mut expected) = (Vec::new(), Vec::new());
    for (i, step) in steps.iter().enumerate() {
        match step {
            Step::Reply(longs, end, needs, kind, back) => {
                let start = o.buf.len();
                let all = append(&mut o, longs, *end, b'a' + (i % 26) as u8);
                assert_eq!(o.bytes_since(start), all.len());
                if *back {
                    o.truncate(start);
                } else if gated {
                    o.hold(start, JournalPos(*needs), *kind, 0);
                    model.hold(all, *needs, *kind);
                } else {
                    model.ready.extend(all);
                }
            }
            Step::Write(share) => match &mut other {
                None => {
                    let n = model.ready.len() * share / 1000;
                    sent.extend_from_slice(&bytes(o.ready())[..n]);
                    o.on_written(n);
                    expected.extend(model.ready.drain(..n));
                }
                Some(other) => {
                    if let Some(first) = other.queue.front_mut() {
                        let n = first.len() * share / 1000;
                        sent.extend_from_slice(&bytes(first.parts())[..n]);
                        first.on_written(n);
                        other.flow.on_written(n);
                        expected.extend(model.away.drain(..n));
                        if first.is_empty() {
                            other.queue.pop_front();
                        }
                    }
                }
            },
            Step::Release(upto, lease) => {
                o.release(JournalPos(*upto), || *lease);
                while let Some((_, needs, kind)) = model.held.front()
                    && needs <= upto
                    && (*kind != HeldKind::Read || *lease)
                    && let Some((all, ..)) = model.held.pop_front()
                {
                    model.ready.extend(all);
                }
            }
            Step::Replace(which) => {
                o.replace(|kind, _, _| (kind == *which).then_some(ERROR));
                for held in model.held.iter_mut().filter(|h| h.2 == *which) {
                    *held = (ERROR.to_vec(), 0, HeldKind::Free);
                }
            }
            Step::Move => match other.take() {
                None => {
                    let flow = Arc::new(Flow::default());
                    o.write_elsewhere(flow.clone());
                    let queue = VecDeque::new();
                    other = Some(Other { flow, queue });
                }
                Some(other) => {
                    let mut unwritten = Replies::default();
                    other.queue.into_iter().for_each(|r| unwritten.append(r));
                    o.write_here(unwritten);
                    let ready = std::mem::take(&mut model.ready);
                    model.ready = std::mem::take(&mut model.away);
                    model.ready.extend(ready);
                }
            },
            Step::Shrink => o.shrink(i as u64 * 1000, 2000, i % 2 == 0),
            Step::Abandon => {
                o.abandon();
                model.held.clear();
                model.ready.clear();
            }
        }
        if let Some(other) = &mut other {
            let mut replies = Replies::default();
            let n = o.hand_over(&mut replies);
            assert_eq!((n, replies.len()), (model.ready.len(), n));
            model.away.append(&mut model.ready);
            if n > 0 {
                other.take(replies, i % 3 == 0);
            }
            let all = other.queue.iter().flat_map(|r| bytes(r.parts()));
            assert!(all.eq(model.away.iter().copied()));
        }
        assert!(bytes(o.ready()) == model.ready, "step {i}");
        assert_eq!(o.is_ready(), !model.ready.is_empty());
        assert_eq!(o.pending_bytes(), model.pending());
        assert_eq!(
            o.is_empty(),
            model.held.is_empty() && model.ready.is_empty()
        );
    }
    o.release(JournalPos(1000), || true);
    assert_eq!(bytes(o.ready()).len() + o.in_flight(), model.pending());
    assert!(sent == expected);
}

proptest! {
    #[test]
    fn it_is_as_if_all_were_in_one_buffer(steps in prop::collection::vec(step(), 1..60), gated in any::<bool>()) {
        check(&steps, gated);
    }
}

/// A string is not copied on its way to the socket, and let go as soon as it is written.
#[test]
fn long_strings_are_not_copied() {
    let text = Arc::new(vec![b'x'; 1000]);
    let mut o = Output::default();
    o.buf.extend_from_slice(b"$1000\r\n");
    o.blobs.push(o.buf.len(), text.clone());
    o.buf.extend_from_slice(b"\r\n");
    o.hold(0, JournalPos(5), HeldKind::Read, 0);
    assert!(!o.is_ready());
    o.release(JournalPos(5), || true);
    assert_eq!(o.ready().nth(1).map(<[u8]>::as_ptr), Some(text.as_ptr()));
    o.on_written(500);
    let flow = Arc::new(Flow::default());
    o.write_elsewhere(flow);
    let mut replies = Replies::default();
    assert_eq!(o.hand_over(&mut replies), 509);
    let rest = replies.parts().next().map(<[u8]>::as_ptr);
    assert_eq!(rest, Some(text[493..].as_ptr()));
    replies.on_written(506);
    assert_eq!(Arc::strong_count(&text), 2);
    replies.on_written(1);
    assert_eq!((Arc::strong_count(&text), replies.len()), (1, 2));
}

/// Held replies keep the strings as they were when the command was executed.
#[test]
fn held_strings_do_not_change() {
    let mut t = Test::new(true);
    let id = t.connect();
    let text = "x".repeat(20_000);
    t.send(
        id,
        &format!(
            "SET k {text}\nGET k\nAPPEND k y\nMGET k none k\nSETRANGE k 0 yyy\nDEL k\nGET k\n"
        ),
    );
    assert_eq!(t.read(id), "");
    t.commit_all();
    let expected = format!(
        "+OK\n$20000\n{text}\n:20001\n*3\n$20001\n{text}y\n$-1\n$20001\n{text}y\n:20001\n:1\n$-1\n"
    );
    assert_eq!(t.read(id), expected);
    // An error in place of one, with others in front and behind.
    t.send(id, &format!("SET k {text}\nGET k\n"));
    t.pass(500);
    t.send(id, "GET k\n");
    t.pass(600);
    let late = t.read(id);
    assert_eq!(late.lines().count(), 2, "{late}");
    assert!(late.lines().all(|l| l.starts_with('-')), "{late}");
    t.commit_all();
    assert_eq!(t.read(id), format!("$20000\n{text}\n"));
    assert_eq!(t.ex.conns[id].out.pending_bytes(), 0);
}
