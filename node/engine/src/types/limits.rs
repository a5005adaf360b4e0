//! When a collection takes its small form: the `*-max-*` directives.

/// The thresholds between small and large forms, as Valkey's configuration names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TypeLimits {
    /// `hash-max-listpack-entries`: most fields of a listpack hash.
    pub hash_entries: usize,
    /// `hash-max-listpack-value`: longest field or value of a listpack hash, in bytes.
    pub hash_value: usize,
    /// `set-max-intset-entries`: most members of an intset.
    pub set_intset_entries: usize,
    /// `set-max-listpack-entries`: most members of a listpack set.
    pub set_entries: usize,
    /// `set-max-listpack-value`: longest member of a listpack set, in bytes.
    pub set_value: usize,
    /// `zset-max-listpack-entries`: most members of a listpack sorted set.
    pub zset_entries: usize,
    /// `zset-max-listpack-value`: longest member of a listpack sorted set, in bytes.
    pub zset_value: usize,
    /// `list-max-listpack-size`: most elements of a list's node; -1 … -5 mean 4 … 64 KiB instead.
    pub list_size: i32,
    /// `stream-node-max-bytes`: most bytes of a stream's node; 0 for any number.
    pub stream_node_bytes: usize,
    /// `stream-node-max-entries`: most entries of a stream's node; 0 for any number.
    pub stream_node_entries: usize,
}

impl Default for TypeLimits {
    fn default() -> Self {
        TypeLimits {
            hash_entries: 512,
            hash_value: 64,
            set_intset_entries: 512,
            set_entries: 128,
            set_value: 64,
            zset_entries: 128,
            zset_value: 64,
            list_size: -2,
            stream_node_bytes: 4096,
            stream_node_entries: 100,
        }
    }
}
