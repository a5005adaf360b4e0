//! The end of the process, in order: followers are given a moment to catch up, and the RDB file is written.

use super::{ConnId, Ending, Executor};
use crate::seam::ToControl;

/// How to end: the options of `SHUTDOWN`, or of the directive for the signal.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ShutdownOptions {
    /// Whether to save whatever `save` says; if nothing is said here, `save` decides.
    pub save: Option<bool>,
    /// Nobody is waited for.
    pub now: bool,
    /// Not even a failed save keeps the process alive.
    pub force: bool,
}

impl ShutdownOptions {
    /// As `shutdown-on-sigterm` has them.
    pub(crate) fn from_directive(words: &str) -> Self {
        let mut options = ShutdownOptions::default();
        for word in words.split_whitespace() {
            match word {
                "save" => options.save = Some(true),
                "nosave" => options.save = Some(false),
                "now" => options.now = true,
                "force" => options.force = true,
                _ => {}
            }
        }
        options
    }
}

/// An end that waits for followers.
#[derive(Debug)]
pub(crate) struct Pending {
    options: ShutdownOptions,
    until_ms: u64,
    /// Who is told when it comes to nothing.
    client: Option<ConnId>,
}

impl Executor {
    /// Begins to end the process: at once if nobody has to be waited for and there is no control thread.
    pub fn begin_shutdown(&mut self, mut options: ShutdownOptions, client: Option<ConnId>) {
        if self.ending != Ending::Running || self.shutdown.is_some() {
            return;
        }
        if self.is_loading() {
            // What is there is half of what is in the file.
            options.save = Some(false);
        }
        let timeout_ms = self.config.size("shutdown-timeout") as u64 * 1000;
        if !options.now && timeout_ms > 0 && !self.followers_are_level() {
            tracing::info!("Waiting for replicas before shutting down.");
            self.followers.wants_acks = true;
            self.shutdown = Some(Pending {
                options,
                until_ms: self.now.mono_ms() + timeout_ms,
                client,
            });
            return;
        }
        self.finish_shutdown(options, client);
    }

    /// Gives up an end that waits. Whether there was one.
    pub(crate) fn abort_shutdown(&mut self) -> bool {
        let pending = self.shutdown.take();
        if let Some(id) = pending.as_ref().and_then(|p| p.client) {
            self.tell_of_shutdown(id);
        }
        pending.is_some()
    }

    /// Ends the process once everybody waited for is there, or the time is over.
    pub(super) fn shutdown_turn(&mut self) {
        let Some(pending) = &self.shutdown else {
            return;
        };
        if self.followers_are_level() || self.now.mono_ms() >= pending.until_ms {
            let (options, client) = (pending.options, pending.client);
            self.shutdown = None;
            self.finish_shutdown(options, client);
        }
    }

    fn tell_of_shutdown(&mut self, id: ConnId) {
        self.reply_error(id, "ERR Errors trying to SHUTDOWN. Check logs.");
        self.mark_dirty(id);
    }

    fn finish_shutdown(&mut self, options: ShutdownOptions, client: Option<ConnId>) {
        if self.persist.enabled {
            self.cancel_background_save();
            let wanted = options.save.unwrap_or(!self.persist.points.is_empty());
            if wanted {
                tracing::info!("Saving the final RDB snapshot before exiting.");
                if self.save_now().is_err() && !options.force {
                    tracing::warn!("Error trying to save the DB, can't exit.");
                    if let Some(id) = client {
                        self.tell_of_shutdown(id);
                    }
                    return;
                }
            }
        }
        if self.control.is_present() {
            self.ending = Ending::Stopping;
            self.control.send(ToControl::Shutdown);
        } else {
            self.ending = Ending::Done;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directives() {
        assert_eq!(
            ShutdownOptions::from_directive("default"),
            ShutdownOptions::default()
        );
        assert_eq!(
            ShutdownOptions::from_directive("nosave now force"),
            ShutdownOptions {
                save: Some(false),
                now: true,
                force: true
            }
        );
    }
}
