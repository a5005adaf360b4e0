//! Followers of a node under `durability async`: connections that are sent an RDB file and then the effects, by Valkey's
//! replication protocol.
//!
//! What they are sent is the bytes that [`Executor::flush_effects`] hands to the journal; their count is the
//! replication offset. The last ones are kept in a [`Backlog`], so that a follower that was away for a moment goes on
//! where it was. Without followers and backlog no effects are encoded at all.

mod backlog;
mod transfer;

pub(crate) use transfer::Transfer;

use crate::executor::{Close, ConnId, Executor, ReplyMode};
use crate::journal::{AsyncJournal, JournalPos};
use backlog::Backlog;
use std::collections::BTreeMap;

/// How far a follower is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// It has only said who it is so far.
    Handshake,
    /// The file is still to be begun.
    Waiting,
    /// The file is under way; the stream goes on behind this offset.
    Receiving(u64),
    /// It has the file, and is to say so before the stream goes on.
    Ending(u64),
    /// It gets the stream.
    Online,
}

/// A connection that follows, or is about to.
#[derive(Debug, Clone)]
pub(crate) struct Follower {
    pub stage: Stage,
    /// What it has acknowledged, and when, in seconds.
    pub acked: u64,
    pub acked_at_s: u64,
    /// `REPLCONF listening-port`, `ip-address`
    pub port: u16,
    pub address: Option<String>,
    /// `REPLCONF capa`
    pub takes_eof_mark: bool,
    pub takes_new_id: bool,
    /// `REPLCONF version`, as `major << 16 | minor << 8 | patch`.
    pub version: u32,
    /// `REPLCONF rdb-only`: nothing is sent behind the file.
    pub rdb_only: bool,
    /// `REPLCONF rdb-filter-only`: the file has no keys.
    pub without_keys: bool,
    /// It came by `SYNC` and acknowledges nothing.
    pub silent: bool,
}

impl Follower {
    fn new() -> Self {
        Follower {
            stage: Stage::Handshake,
            acked: 0,
            acked_at_s: 0,
            port: 0,
            address: None,
            takes_eof_mark: false,
            takes_new_id: false,
            version: 0,
            rdb_only: false,
            without_keys: false,
            silent: false,
        }
    }

    /// Where its stream begins that it is not sent yet.
    fn kept_from(&self) -> Option<u64> {
        match self.stage {
            Stage::Receiving(from) | Stage::Ending(from) => Some(from),
            Stage::Handshake | Stage::Waiting | Stage::Online => None,
        }
    }

    /// The word for its stage, as `INFO` has it.
    pub fn state(&self) -> &'static str {
        match self.stage {
            Stage::Handshake | Stage::Waiting => "wait_bgsave",
            Stage::Receiving(_) | Stage::Ending(_) => "send_bulk",
            Stage::Online => "online",
        }
    }
}

/// All followers, and the stream.
pub struct Followers {
    all: BTreeMap<ConnId, Follower>,
    backlog: Option<Backlog>,
    /// Names the stream.
    pub(crate) id: String,
    pub(crate) transfer: Option<Transfer>,
    /// Somebody waits for acknowledgements (`WAIT`).
    pub(crate) wants_acks: bool,
    pinged_at_ms: u64,
    none_since_ms: u64,
    pub(crate) full: u64,
    pub(crate) partial: u64,
    pub(crate) refused: u64,
    pub(crate) sent_bytes: u64,
}

impl Followers {
    /// Begins to count anew.
    pub(crate) fn reset_stats(&mut self) {
        self.full = 0;
        self.partial = 0;
        self.refused = 0;
        self.sent_bytes = 0;
    }

    /// Nobody follows yet; the stream has this name.
    pub(crate) fn new(id: String) -> Self {
        Followers {
            all: BTreeMap::new(),
            backlog: None,
            id,
            transfer: None,
            wants_acks: false,
            pinged_at_ms: 0,
            none_since_ms: 0,
            full: 0,
            partial: 0,
            refused: 0,
            sent_bytes: 0,
        }
    }

    /// Those that follow, in order of their connections.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (ConnId, &Follower)> {
        self.all
            .iter()
            .filter(|(_, f)| f.stage != Stage::Handshake)
            .map(|(id, f)| (*id, f))
    }

    pub(crate) fn len(&self) -> usize {
        self.iter().count()
    }

    /// Whether effects are kept and sent.
    pub(crate) fn is_active(&self) -> bool {
        self.backlog.is_some()
    }

    /// What is known of a connection that has used `REPLCONF`.
    pub(crate) fn handshake(&mut self, id: ConnId) -> &mut Follower {
        self.all.entry(id).or_insert_with(Follower::new)
    }

    /// A connection, if it follows.
    pub(crate) fn get_mut(&mut self, id: ConnId) -> Option<&mut Follower> {
        self.all
            .get_mut(&id)
            .filter(|f| f.stage != Stage::Handshake)
    }

    /// First offset kept, counted from 1 as the protocol does, and how many bytes.
    pub(crate) fn backlog(&self) -> Option<(u64, usize)> {
        let b = self.backlog.as_ref()?;
        Some((b.start() + 1, b.len()))
    }
}

impl Executor {
    /// Whether a connection follows.
    pub(crate) fn is_follower(&self, id: ConnId) -> bool {
        self.followers
            .all
            .get(&id)
            .is_some_and(|f| f.stage != Stage::Handshake)
    }

    /// `SYNC` and `PSYNC`: `asked` is the stream's name and the offset of the next byte, counted from 1.
    pub(crate) fn follow(&mut self, id: ConnId, asked: Option<(&[u8], i64)>) {
        self.flush_effects();
        let now_s = self.now.unix_us / 1_000_000;
        if let Some((name, offset)) = asked {
            if self.goes_on(id, name, offset) {
                return;
            }
            self.followers.refused += u64::from(!name.starts_with(b"?"));
        }
        self.followers.full += 1;
        let follower = self.followers.handshake(id);
        follower.stage = Stage::Waiting;
        follower.silent = asked.is_none();
        follower.acked_at_s = now_s;
        self.begin_stream();
        if let Some(c) = self.conns.get_mut(id) {
            c.reply = ReplyMode::Off;
            c.follows = true;
        }
    }

    /// Sends a follower what it has missed, if that is still there.
    fn goes_on(&mut self, id: ConnId, name: &[u8], offset: i64) -> bool {
        let wanted = u64::try_from(offset).ok().and_then(|n| n.checked_sub(1));
        let (Some(from), Some(backlog)) = (wanted, &self.followers.backlog) else {
            return false;
        };
        if !name.eq_ignore_ascii_case(self.followers.id.as_bytes())
            || from < backlog.start()
            || from > backlog.end()
        {
            tracing::info!(
                "Partial resynchronization not accepted: the replica asked for '{}' from {offset}, \
                 and there is '{}' from {} to {}",
                String::from_utf8_lossy(name),
                self.followers.id,
                backlog.start() + 1,
                backlog.end()
            );
            return false;
        }
        let Some(c) = self.conns.get_mut(id) else {
            return true;
        };
        let line = match self.followers.all.get(&id) {
            Some(f) if f.takes_new_id => format!("+CONTINUE {}\r\n", self.followers.id),
            _ => "+CONTINUE\r\n".into(),
        };
        c.out.buf.extend_from_slice(line.as_bytes());
        backlog.copy(from, &mut c.out.buf);
        tracing::info!(
            "Partial resynchronization request accepted. Sending {} bytes of backlog starting from offset {offset}.",
            backlog.end() - from
        );
        self.followers.partial += 1;
        let now_s = self.now.unix_us / 1_000_000;
        let follower = self.followers.handshake(id);
        follower.stage = Stage::Online;
        follower.acked_at_s = now_s;
        // Its line stands already.
        self.suppress_replies(id);
        true
    }

    /// What the connection's commands say from now on is not sent; what is in its buffer is.
    fn suppress_replies(&mut self, id: ConnId) {
        self.pushed = true;
        if let Some(c) = self.conns.get_mut(id) {
            c.reply = ReplyMode::Off;
            c.follows = true;
        }
        self.mark_dirty(id);
    }

    /// Has effects encoded and kept from now on.
    fn begin_stream(&mut self) {
        if self.followers.backlog.is_some() {
            return;
        }
        let Some(journal) = self.journal.as_any().downcast_mut::<AsyncJournal>() else {
            return;
        };
        journal.set_wants_effects(true);
        let position = self.journal.position();
        self.fx.set_enabled(true);
        self.fx.reset_stream();
        self.followers.backlog = Some(Backlog::new(position.0));
        // A new stream needs a new name: whoever knew the old one knows nothing of this.
        self.followers.id = self.random_id();
        self.followers.pinged_at_ms = self.now.mono_ms();
        tracing::info!(
            "Replication backlog created, my new replication ID is '{}'",
            self.followers.id
        );
    }

    fn end_stream(&mut self) {
        self.flush_effects();
        if let Some(journal) = self.journal.as_any().downcast_mut::<AsyncJournal>() {
            journal.set_wants_effects(false);
            self.fx.set_enabled(false);
        }
        self.followers.backlog = None;
    }

    /// Effects have got this far, and are sent.
    pub(crate) fn feed_followers(&mut self, end: JournalPos) {
        let Some(backlog) = &mut self.followers.backlog else {
            return;
        };
        let bytes = self.fx.bytes();
        backlog.push(bytes);
        debug_assert_eq!(backlog.end(), end.0);
        let needed = self
            .followers
            .all
            .values()
            .filter_map(Follower::kept_from)
            .min();
        backlog.trim(self.settings.backlog_bytes, needed);
        for (id, f) in &self.followers.all {
            if f.stage == Stage::Online
                && let Some(c) = self.conns.get_mut(*id)
            {
                c.out.buf.extend_from_slice(bytes);
                self.followers.sent_bytes += bytes.len() as u64;
                if !c.dirty {
                    c.dirty = true;
                    self.dirty.push(*id);
                }
            }
        }
    }

    /// Puts something of ours into the stream.
    fn append_to_stream(&mut self, argv: &[&[u8]]) {
        self.fx.propagate_bare(argv);
        self.flush_effects();
    }

    /// The part of a turn's end that is the followers'.
    pub(crate) fn followers_turn(&mut self) {
        if std::mem::take(&mut self.followers.wants_acks) && self.followers.len() > 0 {
            self.append_to_stream(&[b"REPLCONF", b"GETACK", b"*"]);
        }
        if self.followers.transfer.is_none()
            && self
                .followers
                .all
                .values()
                .any(|f| f.stage == Stage::Waiting)
        {
            self.begin_transfer();
        }
        if self.followers.transfer.is_some() {
            self.transfer_turn();
        }
    }

    /// Sends the follower the stream from `from` on.
    fn put_online(&mut self, id: ConnId, from: u64) {
        let now_s = self.now.unix_us / 1_000_000;
        let (Some(follower), Some(backlog)) =
            (self.followers.all.get_mut(&id), &self.followers.backlog)
        else {
            return;
        };
        if follower.rdb_only {
            return self.close_client(id, Close::AfterReplies);
        }
        follower.stage = Stage::Online;
        follower.acked_at_s = now_s;
        // The command under way may be its own, whose reply is not sent.
        self.pushed = true;
        if let Some(c) = self.conns.get_mut(id) {
            backlog.copy(from, &mut c.out.buf);
        }
        self.mark_dirty(id);
        tracing::info!("Synchronization with replica succeeded");
        if self.journal.position().0 == 0 {
            // An offset of zero says that nothing was ever written.
            self.append_to_stream(&[b"PING"]);
        }
    }

    /// `REPLCONF ACK`.
    pub(crate) fn on_follower_ack(&mut self, id: ConnId, offset: u64) {
        let now_s = self.now.unix_us / 1_000_000;
        let Some(follower) = self.followers.get_mut(id) else {
            return;
        };
        follower.acked = follower.acked.max(offset);
        follower.acked_at_s = now_s;
        if let Stage::Ending(from) = follower.stage {
            self.put_online(id, from);
        }
        self.tell_acks();
    }

    /// Whether every follower that gets the stream has all of it.
    pub(crate) fn followers_are_level(&self) -> bool {
        let end = self.journal.position().0;
        let mut online = self.followers.all.values();
        online.all(|f| f.stage != Stage::Online || f.silent || f.acked >= end)
    }

    /// `WAIT` counts by the journal.
    fn tell_acks(&mut self) {
        let acks = self
            .followers
            .all
            .values()
            .filter(|f| f.stage == Stage::Online)
            .map(|f| f.acked)
            .collect();
        if let Some(journal) = self.journal.as_any().downcast_mut::<AsyncJournal>() {
            journal.set_acks(acks);
        }
    }

    /// The connection is gone.
    pub(crate) fn forget_follower(&mut self, id: ConnId) {
        if self.followers.all.remove(&id).is_some() {
            self.tell_acks();
            if self.followers.len() == 0 {
                self.followers.none_since_ms = self.now.mono_ms();
            }
        }
    }

    /// Whether fewer followers are near than `min-replicas-to-write` asks for.
    pub(crate) fn lacks_followers(&self) -> bool {
        self.good_followers() < self.settings.replicas_min
    }

    /// How many followers are near enough to count for `min-replicas-to-write`.
    pub(crate) fn good_followers(&self) -> usize {
        let now_s = self.now.unix_us / 1_000_000;
        let near = |f: &&Follower| {
            f.stage == Stage::Online
                && now_s.saturating_sub(f.acked_at_s) <= self.settings.replica_lag_max_s
        };
        self.followers.all.values().filter(near).count()
    }

    /// What is due some times a second.
    pub(crate) fn followers_cron(&mut self) {
        if !self.followers.is_active() {
            return;
        }
        let now = self.now.mono_ms();
        if self.followers.len() == 0 {
            let ttl_ms = self.config.size("repl-backlog-ttl") as u64 * 1000;
            if ttl_ms > 0 && now.saturating_sub(self.followers.none_since_ms) > ttl_ms {
                tracing::info!("Replication backlog freed without connected replicas.");
                self.end_stream();
            }
            return;
        }
        let period_ms = self.config.size("repl-ping-replica-period") as u64 * 1000;
        if now.saturating_sub(self.followers.pinged_at_ms) >= period_ms {
            self.followers.pinged_at_ms = now;
            self.append_to_stream(&[b"PING"]);
        }
        let now_s = self.now.unix_us / 1_000_000;
        let timeout_s = self.config.size("repl-timeout") as u64;
        let limit = self.settings.output_replica.hard_bytes as u64;
        let end = self.journal.position().0;
        let mut doomed = Vec::new();
        for (id, f) in &self.followers.all {
            let late = f.stage == Stage::Online
                && !f.silent
                && now_s.saturating_sub(f.acked_at_s) > timeout_s;
            // The stream is kept for it alone.
            let behind = f
                .kept_from()
                .is_some_and(|from| limit > 0 && end - from > limit);
            if late || behind {
                doomed.push((*id, behind));
            }
        }
        for (id, behind) in doomed {
            if behind {
                self.stats.output_limit_disconnections += 1;
                tracing::warn!("Closing a replica: too much waits for it");
            } else {
                tracing::warn!("Disconnecting timedout replica");
            }
            self.close_client(id, Close::Now);
        }
    }
}
