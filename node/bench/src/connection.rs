//! A connection of the load: what is to be sent, and what is awaited.

use std::collections::VecDeque;

use crate::net::Stream;
use crate::skim::Skimmer;

/// A command on its way.
pub(crate) struct Waiting {
    /// When it was due, and when it was sent.
    pub due: u64,
    pub sent: u64,
    /// Where its bytes begin, counted from the connection's first; in a cluster only.
    pub at: u64,
    pub len: u32,
    pub kind: u16,
    pub redirections: u8,
    /// The reply is to an `ASKING` of ours, and none to the load.
    pub asking: bool,
}

pub(crate) struct Connection {
    /// `None` while it is broken: what is to be sent waits.
    pub stream: Option<Stream>,
    pub skimmer: Skimmer,
    pub waiting: VecDeque<Waiting>,
    pub out: Vec<u8>,
    pub written: usize,
    /// Bytes that were in `out` and have been dropped.
    pub dropped: u64,
    pub client: u32,
    pub node: u16,
}

impl Connection {
    /// Of a client to a node, broken until it is given a stream.
    pub fn new(client: u32, node: u16) -> Connection {
        Connection {
            stream: None,
            skimmer: Skimmer::default(),
            waiting: VecDeque::new(),
            out: Vec::new(),
            written: 0,
            dropped: 0,
            client,
            node,
        }
    }

    /// Without a stream, and with nothing to send; what was on its way.
    pub fn break_off(&mut self) -> VecDeque<Waiting> {
        let broken = Connection::new(self.client, self.node);
        std::mem::replace(self, broken).waiting
    }

    /// Notes where the command lies in the output, so that it can be sent again.
    pub fn push(&mut self, mut waiting: Waiting, bytes: &[u8]) {
        waiting.at = self.dropped + self.out.len() as u64;
        self.out.extend_from_slice(bytes);
        self.waiting.push_back(waiting);
    }

    /// Forgets the output that has been answered, once there is much of it.
    pub fn drop_answered(&mut self) {
        const MUCH: usize = 64 * 1024;
        let answered = match self.waiting.front() {
            Some(first) => (first.at - self.dropped) as usize,
            None => self.out.len(),
        };
        let answered = answered.min(self.written);
        if answered == self.out.len() || answered >= MUCH {
            self.out.drain(..answered);
            self.written -= answered;
            self.dropped += answered as u64;
        }
    }
}
