//! Turns: time comes in, messages come in, effects go to the journal, replies are released.

use super::{Close, ConnId, Ending, Executor, Now, ShutdownOptions, State};
use crate::seam::ToExecutor;
use std::time::Duration;

impl Executor {
    /// The time of what follows.
    pub fn begin_turn(&mut self, now: Now) {
        self.now = now;
        self.observe_turn();
    }

    /// Stops for a while. What follows the command under way sees the later time.
    pub(crate) fn sleep(&mut self, time: Duration) {
        self.host.sleep(time);
        self.slept_us += u64::try_from(time.as_micros()).unwrap_or(u64::MAX / 2);
    }

    /// Puts the clock forward by what the command under way has slept.
    pub(super) fn wake(&mut self) {
        let slept_us = std::mem::take(&mut self.slept_us);
        self.now.unix_us += slept_us;
        self.now.mono_us += slept_us;
    }

    /// Takes a message of the control thread.
    pub fn on_message(&mut self, message: ToExecutor) {
        match message {
            ToExecutor::Routing(table) => {
                self.engine.set_slot_run_ends(table.run_ends());
                self.routing = Some(table);
                self.drop_moved_channels();
                self.retry_parked();
            }
            ToExecutor::Durable { upto } => self.on_durable(upto),
            ToExecutor::Office(office) => self.on_office(office),
            ToExecutor::Reply { token, bytes } => {
                self.on_deferred_reply(token.conn, token.seq, &bytes)
            }
            ToExecutor::Publish {
                channel,
                message,
                sharded,
            } => {
                self.deliver_published(&channel, &message, sharded);
            }
            ToExecutor::Task(task) => {
                // A task may end the office in which the turn so far was executed.
                self.flush_effects();
                task(self);
            }
            ToExecutor::Shutdown => {
                let words = self.config.get("shutdown-on-sigterm");
                self.begin_shutdown(ShutdownOptions::from_directive(words), None);
            }
            ToExecutor::Exit => self.ending = Ending::Done,
        }
    }

    fn on_deferred_reply(&mut self, id: ConnId, seq: u64, bytes: &[u8]) {
        let Some(c) = self.conns.get_mut(id) else {
            return;
        };
        if !matches!(c.state, State::Deferred(waiting) if waiting == seq) {
            return;
        }
        c.state = State::Ready;
        if bytes.first() == Some(&b'-') {
            self.stats.fail(c.last_command, bytes);
        }
        if c.close != Close::Now {
            // Behind replies that are held still.
            self.append_free(id, bytes);
        }
        self.resume(id);
    }
}
