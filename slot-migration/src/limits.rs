//! Times and sizes that bound a job.

/// The time at an event: both clocks, so that a step of the wall clock moves nothing but figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Now {
    /// Milliseconds on a clock that only goes forward. All deadlines are counted on it.
    pub mono_ms: u64,
    /// Seconds since 1970, for `CLUSTER GETSLOTMIGRATIONS`.
    pub unix_s: u64,
}

/// Limits of one job. [`Limits::default`] is what a server without directives uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// For connecting, authenticating and establishing, each.
    pub handshake_timeout_ms: u64,
    /// Without any word from the other side the job fails (`repl-timeout`).
    pub silence_timeout_ms: u64,
    /// How often a side says `ACK` when it has nothing else to say.
    pub ack_interval_ms: u64,
    /// The longest that writes wait before the hand-off is proposed; then the job is aborted
    /// (`cluster-manual-failover-timeout`).
    pub pause_timeout_ms: u64,
    /// Writes are paused once no more than this is on its way to the target
    /// (`slot-migration-max-failover-repl-bytes`).
    pub pause_lag_bytes: u64,
    /// After this long above [`Limits::pause_lag_bytes`] the threshold doubles each second, so that
    /// constant writes cannot put the pause off for ever.
    pub pause_patience_ms: u64,
    /// The threshold never grows above this.
    pub pause_lag_bytes_max: u64,
    /// The snapshot makes no step while more than this is on its way to the target.
    pub window_bytes: u64,
    /// When more than this is on its way, writes come faster than the link takes them: the job
    /// fails.
    pub backlog_bytes_max: u64,
    /// First wait before asking or telling the other shard again; doubles up to
    /// [`Limits::retry_max_ms`].
    pub retry_min_ms: u64,
    /// Longest wait before asking or telling the other shard again.
    pub retry_max_ms: u64,
    /// How long a handed-off job waits for `ADOPTED` on its link before it tells the target shard
    /// by another connection.
    pub adopt_wait_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        let limits = Self {
            handshake_timeout_ms: 5_000,
            silence_timeout_ms: 60_000,
            ack_interval_ms: 1_000,
            pause_timeout_ms: 5_000,
            pause_lag_bytes: 256 << 10,
            pause_patience_ms: 5_000,
            pause_lag_bytes_max: 64 << 20,
            window_bytes: 4 << 20,
            backlog_bytes_max: 256 << 20,
            retry_min_ms: 50,
            retry_max_ms: 2_000,
            adopt_wait_ms: 1_000,
        };
        assert!(limits.pause_lag_bytes <= limits.pause_lag_bytes_max);
        assert!(limits.pause_lag_bytes_max < limits.backlog_bytes_max);
        assert!(limits.window_bytes < limits.backlog_bytes_max);
        limits
    }
}

/// A growing wait between attempts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backoff {
    next_ms: u64,
    max_ms: u64,
}

impl Backoff {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            next_ms: limits.retry_min_ms.max(1),
            max_ms: limits.retry_max_ms.max(1),
        }
    }

    /// The wait before the next attempt, in milliseconds.
    pub(crate) fn step(&mut self) -> u64 {
        let wait = self.next_ms.min(self.max_ms);
        self.next_ms = wait.saturating_mul(2);
        wait
    }
}
