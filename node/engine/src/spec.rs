//! What is known about a command beside its function: the row of the command table.
//!
//! The table, `COMMAND`, `COMMAND DOCS`, `COMMAND GETKEYS`, ACL categories and routing derive from these rows and
//! from nothing else. The server's own commands (admin, connection, pub/sub, cluster) use the same rows with a
//! function type of theirs: [`Command`] is generic over it.

/// A command's function and its row.
#[derive(Debug)]
pub struct Command<F: 'static = crate::CommandFn> {
    /// The row.
    pub spec: CommandSpec,
    /// The function. For a container (`OBJECT`) it answers when no subcommand matches.
    pub run: F,
    /// Subcommands; their `spec.name` is the subcommand's own part (`encoding`).
    pub subcommands: &'static [Command<F>],
}

impl<F: Copy> Command<F> {
    /// A command without subcommands.
    pub const fn new(spec: CommandSpec, run: F) -> Self {
        Command {
            spec,
            run,
            subcommands: &[],
        }
    }

    /// A container: a command with subcommands.
    pub const fn container(spec: CommandSpec, run: F, subcommands: &'static [Command<F>]) -> Self {
        Command {
            spec,
            run,
            subcommands,
        }
    }

    /// Adds subcommands to a container.
    pub const fn with_subcommands(self, subcommands: &'static [Command<F>]) -> Self {
        Command {
            spec: self.spec,
            run: self.run,
            subcommands,
        }
    }
}

impl<F> Command<F> {
    /// The subcommand of that name, in any case.
    pub fn subcommand(&self, name: &[u8]) -> Option<&'static Command<F>> {
        self.subcommands
            .iter()
            .find(|c| c.spec.name.as_bytes().eq_ignore_ascii_case(name))
    }

    /// The command that `argv` means: the subcommand if there is one of that name, otherwise this one.
    pub fn resolve(&'static self, argv: &[&[u8]]) -> &'static Command<F> {
        if self.subcommands.is_empty() {
            return self;
        }
        argv.get(1)
            .and_then(|name| self.subcommand(name))
            .unwrap_or(self)
    }
}

/// The data of a command's row.
#[derive(Clone, Copy, Debug)]
pub struct CommandSpec {
    /// In lower case.
    pub name: &'static str,
    /// Number of arguments with the command's name; negative: at least that many.
    pub arity: i16,
    /// Behaviour.
    pub flags: Flags,
    /// Explicit ACL categories; those that follow from the flags are added by [`Self::acl_categories`].
    pub categories: Acl,
    /// Where the keys are.
    pub keys: &'static [KeySpec],
    /// The group in the documentation.
    pub group: Group,
    /// The version of Valkey (or Redis) that introduced it.
    pub since: &'static str,
    /// Time complexity, in words.
    pub complexity: &'static str,
    /// One sentence.
    pub summary: &'static str,
    /// The arguments, in the notation of [`crate::docs`].
    pub args: &'static str,
    /// Hints for cluster-aware clients (`request_policy:all_shards` …), in lower case.
    pub tips: &'static [&'static str],
    /// What changed in which version.
    pub history: &'static [(&'static str, &'static str)],
    /// Since when it should not be used any more, and what takes its place.
    pub deprecated: Option<(&'static str, &'static str)>,
    /// Meant for the server's own use and for testing.
    pub syscmd: bool,
    /// Finds the keys where rules cannot: they stand behind options, or what is done with them depends on options.
    pub find_keys: Option<FindKeys>,
}

/// Calls its second argument with the index of each key and what is done with it.
pub type FindKeys = fn(&[&[u8]], &mut dyn FnMut(usize, Key));

impl CommandSpec {
    /// The base of struct-update syntax in rows.
    pub const EMPTY: CommandSpec = CommandSpec {
        name: "",
        arity: -1,
        flags: Flags::NONE,
        categories: Acl::NONE,
        keys: &[],
        group: Group::Generic,
        since: "",
        complexity: "",
        summary: "",
        args: "",
        tips: &[],
        history: &[],
        deprecated: None,
        syscmd: false,
        find_keys: None,
    };

    /// Whether `argc` arguments (with the name) are a possible number.
    #[inline]
    pub const fn arity_ok(&self, argc: usize) -> bool {
        if self.arity >= 0 {
            argc == self.arity as usize
        } else {
            argc >= self.arity.unsigned_abs() as usize
        }
    }

    /// All ACL categories: the explicit ones and those that follow from the flags.
    pub const fn acl_categories(&self) -> Acl {
        let mut all = self.categories;
        let f = self.flags;
        if f.has(Flags::WRITE) {
            all = all.and(Acl::WRITE);
        }
        // Reading without keys is no data access, as in Valkey: scripting and pub/sub rows are excepted there by hand.
        if f.has(Flags::READONLY) && !all.has(Acl::SCRIPTING) {
            all = all.and(Acl::READ);
        }
        if f.has(Flags::ADMIN) {
            all = all.and(Acl::ADMIN).and(Acl::DANGEROUS);
        }
        if f.has(Flags::PUBSUB) {
            all = all.and(Acl::PUBSUB);
        }
        if f.has(Flags::BLOCKING) {
            all = all.and(Acl::BLOCKING);
        }
        all.and(if f.has(Flags::FAST) {
            Acl::FAST
        } else {
            Acl::SLOW
        })
    }
}

macro_rules! bit_set {
    ($(#[$meta:meta])* $name:ident: $repr:ty { $($(#[$doc:meta])* $bit:ident = $text:literal,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
        pub struct $name($repr);

        impl $name {
            /// Nothing set.
            pub const NONE: $name = $name(0);
            bit_set!(@bits $name, $repr, 0; $($(#[$doc])* $bit,)*);

            /// Every single member and its name in lower case, in the order of declaration.
            pub const ALL: &'static [($name, &'static str)] = &[$(($name::$bit, $text),)*];

            /// The union.
            #[must_use]
            pub const fn and(self, other: $name) -> $name {
                $name(self.0 | other.0)
            }

            /// Whether all of `other` is set.
            #[inline]
            pub const fn has(self, other: $name) -> bool {
                self.0 & other.0 == other.0
            }

            /// Whether any of `other` is set.
            #[inline]
            pub const fn has_any(self, other: $name) -> bool {
                self.0 & other.0 != 0
            }

            /// The names of what is set.
            pub fn names(self) -> impl Iterator<Item = &'static str> {
                Self::ALL.iter().filter(move |(bit, _)| self.has(*bit)).map(|(_, name)| *name)
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_set().entries(self.names()).finish()
            }
        }
    };
    (@bits $name:ident, $repr:ty, $n:expr; $(#[$doc:meta])* $bit:ident, $($rest:tt)*) => {
        $(#[$doc])*
        pub const $bit: $name = $name(1 << ($n));
        bit_set!(@bits $name, $repr, ($n) + 1; $($rest)*);
    };
    (@bits $name:ident, $repr:ty, $n:expr;) => {};
}

bit_set! {
    /// How a command behaves, in Valkey's words and in the order in which `COMMAND INFO` lists them.
    Flags: u32 {
        /// May change data.
        WRITE = "write",
        /// Never changes data.
        READONLY = "readonly",
        /// May use more memory: refused above `maxmemory`.
        DENYOOM = "denyoom",
        /// Belongs to a module.
        MODULE = "module",
        /// Administration.
        ADMIN = "admin",
        /// Publishes or subscribes.
        PUBSUB = "pubsub",
        /// Not in scripts.
        NOSCRIPT = "noscript",
        /// May block the client.
        BLOCKING = "blocking",
        /// Allowed while loading.
        LOADING = "loading",
        /// Allowed on a replica whose link is down.
        STALE = "stale",
        /// Not fed to `MONITOR`.
        SKIP_MONITOR = "skip_monitor",
        /// Not logged in the command log.
        SKIP_COMMANDLOG = "skip_commandlog",
        /// Implies `ASKING`.
        ASKING = "asking",
        /// Constant or logarithmic time.
        FAST = "fast",
        /// Allowed before authentication.
        NO_AUTH = "no_auth",
        /// Replicated although it writes no data.
        MAY_REPLICATE = "may_replicate",
        /// Not in `MULTI`.
        NO_MULTI = "no_multi",
        /// The keys cannot all be found from the key specs.
        MOVABLE_KEYS = "movablekeys",
        /// Allowed while a script holds the server.
        ALLOW_BUSY = "allow_busy",
        /// `TYPE`, `OBJECT` …: a read that does not count as an access.
        TOUCHES_ARBITRARY_KEYS = "touches_arbitrary_keys",
        /// No client may send it by itself.
        PROTECTED = "protected",
        /// Only sentinels have it.
        SENTINEL = "sentinel",
        /// Sentinels do not have it.
        ONLY_SENTINEL = "only_sentinel",
        /// Not counted as a mandatory ACL key check.
        NO_MANDATORY_KEYS = "no_mandatory_keys",
        /// Not in an asynchronous loading state.
        NO_ASYNC_LOADING = "no_async_loading",
        /// Names no data at all, e.g. `PING`: not to be held by anything.
        INTERNAL = "internal",
        /// Reads or writes all databases or all keys.
        ALL_DBS = "all_dbs",
    }
}

bit_set! {
    /// ACL categories, in Valkey's order.
    Acl: u32 {
        /// `@keyspace`
        KEYSPACE = "keyspace",
        /// `@read`
        READ = "read",
        /// `@write`
        WRITE = "write",
        /// `@set`
        SET = "set",
        /// `@sortedset`
        SORTEDSET = "sortedset",
        /// `@list`
        LIST = "list",
        /// `@hash`
        HASH = "hash",
        /// `@string`
        STRING = "string",
        /// `@bitmap`
        BITMAP = "bitmap",
        /// `@hyperloglog`
        HYPERLOGLOG = "hyperloglog",
        /// `@geo`
        GEO = "geo",
        /// `@stream`
        STREAM = "stream",
        /// `@pubsub`
        PUBSUB = "pubsub",
        /// `@admin`
        ADMIN = "admin",
        /// `@fast`
        FAST = "fast",
        /// `@slow`
        SLOW = "slow",
        /// `@blocking`
        BLOCKING = "blocking",
        /// `@dangerous`
        DANGEROUS = "dangerous",
        /// `@connection`
        CONNECTION = "connection",
        /// `@transaction`
        TRANSACTION = "transaction",
        /// `@scripting`
        SCRIPTING = "scripting",
    }
}

bit_set! {
    /// What a command does with the keys of one key spec.
    Key: u16 {
        /// Reads only.
        RO = "RO",
        /// Reads and writes.
        RW = "RW",
        /// Overwrites.
        OW = "OW",
        /// Removes.
        RM = "RM",
        /// Returns or copies the value.
        ACCESS = "access",
        /// Updates the value from itself.
        UPDATE = "update",
        /// Adds data.
        INSERT = "insert",
        /// Deletes data.
        DELETE = "delete",
        /// Not a key, but routed as one (a shard channel).
        NOT_KEY = "not_key",
        /// More keys may exist than these specs find.
        INCOMPLETE = "incomplete",
        /// The flags depend on the arguments.
        VARIABLE_FLAGS = "variable_flags",
    }
}

/// The documentation's groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Group {
    Generic,
    String,
    Hash,
    List,
    Set,
    SortedSet,
    Stream,
    Bitmap,
    Geo,
    Hyperloglog,
    PubSub,
    Transactions,
    Scripting,
    Connection,
    Server,
    Cluster,
}

impl Group {
    /// As `COMMAND DOCS` writes it.
    pub const fn name(self) -> &'static str {
        match self {
            Group::Generic => "generic",
            Group::String => "string",
            Group::Hash => "hash",
            Group::List => "list",
            Group::Set => "set",
            Group::SortedSet => "sorted-set",
            Group::Stream => "stream",
            Group::Bitmap => "bitmap",
            Group::Geo => "geo",
            Group::Hyperloglog => "hyperloglog",
            Group::PubSub => "pubsub",
            Group::Transactions => "transactions",
            Group::Scripting => "scripting",
            Group::Connection => "connection",
            Group::Server => "server",
            Group::Cluster => "cluster",
        }
    }
}

/// Where the search for keys begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// At this argument.
    Index(i16),
    /// Behind this word, looked for from argument `from` on (negative: backwards from the end).
    Keyword {
        /// The word, in upper case.
        word: &'static str,
        /// Where to begin looking.
        from: i16,
    },
    /// Not by rule.
    Unknown,
}

/// Which arguments from there on are keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Find {
    /// A range.
    Range {
        /// The last key, relative to the first; negative: counted from the last argument (-1).
        last: i16,
        /// Distance between keys.
        step: i16,
        /// With `last` of -1: only the first 1/limit of the arguments; 0 and 1 mean all.
        limit: i16,
    },
    /// A count, followed by keys.
    KeyNum {
        /// The argument with the count, relative to the begin.
        num: i16,
        /// The first key, relative to the begin.
        first: i16,
        /// Distance between keys.
        step: i16,
    },
    /// Not by rule.
    Unknown,
}

/// One rule that finds keys.
#[derive(Clone, Copy, Debug)]
pub struct KeySpec {
    /// What is done with these keys.
    pub flags: Key,
    /// Where the search begins.
    pub begin: Begin,
    /// Which arguments are keys.
    pub find: Find,
    /// A remark on the flags.
    pub notes: &'static str,
}

impl KeySpec {
    /// A rule.
    pub const fn new(flags: Key, begin: Begin, find: Find) -> Self {
        KeySpec {
            flags,
            begin,
            find,
            notes: "",
        }
    }

    /// The same rule with a remark on its flags.
    pub const fn noted(self, notes: &'static str) -> Self {
        KeySpec { notes, ..self }
    }

    /// The usual rule: from argument `pos`, to `last` relative to it (or from the end), each `step`-th.
    pub const fn range(flags: Key, pos: i16, last: i16, step: i16) -> Self {
        KeySpec {
            flags,
            begin: Begin::Index(pos),
            find: Find::Range {
                last,
                step,
                limit: 0,
            },
            notes: "",
        }
    }

    /// Calls `found` with the index of each key. `Err` when the arguments do not fit the rule.
    pub fn each_key(&self, argv: &[&[u8]], found: &mut dyn FnMut(usize)) -> Result<(), KeysError> {
        let argc = argv.len();
        let begin = match self.begin {
            Begin::Index(at) => usize::try_from(at).map_err(|_| KeysError)?,
            Begin::Keyword { word, from } => match keyword_position(argv, word, from) {
                // A word with nothing behind it names no key; the command will say what is wrong.
                Some(at) if at + 1 < argc => at + 1,
                _ => return Ok(()),
            },
            Begin::Unknown => return Ok(()),
        };
        let (first, last, step) = match self.find {
            Find::Range { last, step, limit } => {
                let last = if last >= 0 {
                    begin + last as usize
                } else if limit <= 1 {
                    argc.checked_sub(last.unsigned_abs() as usize)
                        .ok_or(KeysError)?
                } else {
                    (begin + argc.saturating_sub(begin) / limit as usize)
                        .checked_sub(last.unsigned_abs() as usize)
                        .ok_or(KeysError)?
                };
                (begin, last, step)
            }
            Find::KeyNum { num, first, step } => {
                let text = argv.get(begin + num as usize).ok_or(KeysError)?;
                let count = holdfast_resp::parse_i64(text).ok_or(KeysError)?;
                let count = usize::try_from(count).map_err(|_| KeysError)?;
                if count == 0 {
                    return Ok(());
                }
                let first = begin + first as usize;
                let last = (count - 1)
                    .checked_mul(step.max(1) as usize)
                    .and_then(|n| n.checked_add(first));
                (first, last.ok_or(KeysError)?, step)
            }
            Find::Unknown => return Ok(()),
        };
        let step = step.max(1) as usize;
        if last >= argc || last < first {
            return Err(KeysError);
        }
        (first..=last).step_by(step).for_each(found);
        Ok(())
    }
}

fn keyword_position(argv: &[&[u8]], word: &str, from: i16) -> Option<usize> {
    let is_word = |i: &usize| {
        argv.get(*i)
            .is_some_and(|a| a.eq_ignore_ascii_case(word.as_bytes()))
    };
    if from >= 0 {
        (from as usize..argv.len()).find(is_word)
    } else {
        let start = argv.len().checked_sub(from.unsigned_abs() as usize)?;
        (1..=start).rev().find(is_word)
    }
}

/// The arguments do not fit the command's key rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeysError;

impl CommandSpec {
    /// The index of the first key, if the arguments name one. Cheap: meant for routing.
    #[inline]
    pub fn first_key(&self, argv: &[&[u8]]) -> Option<usize> {
        match self.keys {
            [] => None,
            [_, _, ..] if self.find_keys.is_some() => {
                let mut first = None;
                let _ = self.each_key(argv, &mut |i, _| {
                    first.get_or_insert(i);
                });
                first
            }
            [
                KeySpec {
                    begin: Begin::Index(at),
                    find: Find::Range { .. },
                    ..
                },
                ..,
            ] => {
                let at = *at as usize;
                (at < argv.len()).then_some(at)
            }
            _ => {
                let mut first = None;
                let _ = self.each_key(argv, &mut |i, _| {
                    first.get_or_insert(i);
                });
                first
            }
        }
    }

    /// Calls `found` with the index of each key and what is done with it, in the order of the rules.
    ///
    /// # Errors
    /// The arguments do not fit (too few keys, no number of keys). The command itself will refuse them.
    pub fn each_key(
        &self,
        argv: &[&[u8]],
        found: &mut dyn FnMut(usize, Key),
    ) -> Result<(), KeysError> {
        if let Some(find) = self.find_keys {
            find(argv, found);
            return Ok(());
        }
        for spec in self.keys {
            spec.each_key(argv, &mut |i| found(i, spec.flags))?;
        }
        Ok(())
    }

    /// Where its only key is, if it always has just one, at one place.
    pub fn only_key(&self) -> Option<usize> {
        match self.keys {
            [
                KeySpec {
                    begin: Begin::Index(at),
                    find: Find::Range { last: 0, .. },
                    ..
                },
            ] if self.find_keys.is_none() => usize::try_from(*at).ok(),
            _ => None,
        }
    }

    /// Whether it looks at keys that are not among its arguments.
    pub fn has_unknown_keys(&self) -> bool {
        self.keys.iter().any(|k| k.begin == Begin::Unknown)
    }

    /// Whether the keys are not all in one plain range, so that older clients must ask with `COMMAND GETKEYS`.
    pub fn movable_keys(&self) -> bool {
        self.legacy().1
    }

    /// `COMMAND INFO`'s first key, last key (negative: from the end) and step, as older clients use them.
    pub fn legacy_range(&self) -> (i64, i64, i64) {
        self.legacy().0
    }

    /// The one range that covers as many of the key rules as possible, and whether it misses any.
    fn legacy(&self) -> ((i64, i64, i64), bool) {
        let absolute = |at: i16, last: i16| i64::from(if last >= 0 { at + last } else { last });
        if let [
            KeySpec {
                begin: Begin::Index(at),
                find: Find::Range { last, step, .. },
                flags,
                ..
            },
        ] = self.keys
        {
            return (
                (i64::from(*at), absolute(*at, *last), i64::from(*step)),
                flags.has(Key::INCOMPLETE),
            );
        }
        let mut movable = false;
        let mut range: Option<(i64, i64)> = None;
        for spec in self.keys {
            let KeySpec {
                begin: Begin::Index(at),
                find: Find::Range { last, step: 1, .. },
                flags,
                ..
            } = spec
            else {
                movable = true;
                continue;
            };
            let (at, end) = (i64::from(*at), absolute(*at, *last));
            if range.is_some_and(|(_, last)| last != at - 1) {
                movable = true;
                continue;
            }
            movable |= flags.has(Key::INCOMPLETE);
            range = Some((range.map_or(at, |(first, _)| first), end));
        }
        match range {
            Some((first, last)) => ((first, last, 1), movable),
            None => ((0, 0, 0), movable),
        }
    }
}

/// A map from names in any case to values, fixed once built: how commands are found by the first argument.
#[derive(Debug)]
pub struct NameIndex<V> {
    slots: Vec<Option<Named<V>>>,
}

#[derive(Debug)]
struct Named<V> {
    /// Of a short name of letters only: its bytes. Otherwise 0.
    packed: u64,
    name: &'static str,
    value: V,
}

/// The bytes of a name of up to eight, as if they were small letters.
#[inline]
fn packed(name: &[u8]) -> Option<u64> {
    let len = name.len();
    let word = |at: usize| Some(u32::from_le_bytes(*name.get(at..)?.first_chunk()?));
    let bits = match *name {
        [a] => u64::from(a),
        [a, b] => u64::from(u16::from_le_bytes([a, b])),
        [a, b, c] => u64::from(u32::from_le_bytes([a, b, c, 0])),
        // The first four and the last four, which may be the same in part.
        _ if (4..=8).contains(&len) => {
            u64::from(word(0)?) | u64::from(word(len - 4)?) << (8 * (len - 4))
        }
        _ => return None,
    };
    Some(bits | 0x2020_2020_2020_2020)
}

impl<V> NameIndex<V> {
    /// Builds the index. Names must be in lower case; of equal names the first wins.
    pub fn new(entries: impl IntoIterator<Item = (&'static str, V)>) -> Self {
        let entries: Vec<_> = entries.into_iter().collect();
        let mut slots = Vec::new();
        slots.resize_with((entries.len() * 4).next_power_of_two().max(16), || None);
        let mut index = NameIndex { slots };
        for (name, value) in entries {
            let at = index.position(name.as_bytes());
            let is_plain = name.bytes().all(|b| b.is_ascii_lowercase());
            let packed = packed(name.as_bytes()).filter(|_| is_plain);
            if let Some(slot @ None) = index.slots.get_mut(at) {
                *slot = Some(Named {
                    packed: packed.unwrap_or(0),
                    name,
                    value,
                });
            }
        }
        index
    }

    /// The slot that holds the name, or the free one where it would be.
    #[inline]
    fn position(&self, name: &[u8]) -> usize {
        let mask = self.slots.len() - 1;
        let bits = packed(name);
        let hash = match bits {
            Some(bits) => (bits ^ name.len() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15),
            None => name.iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, b| {
                (hash ^ u64::from(b | 0x20)).wrapping_mul(0x0000_0100_0000_01b3)
            }),
        };
        let mut at = (hash ^ hash >> 32) as usize & mask;
        loop {
            match self.slots.get(at) {
                // A byte that is a small letter with that bit set is this letter.
                Some(Some(found))
                    if Some(found.packed) == bits && found.name.len() == name.len() =>
                {
                    return at;
                }
                Some(Some(found)) if !found.name.as_bytes().eq_ignore_ascii_case(name) => {
                    at = (at + 1) & mask
                }
                _ => return at,
            }
        }
    }

    /// The value of a name, in any case.
    #[inline]
    pub fn get(&self, name: &[u8]) -> Option<&V> {
        let found = self.slots.get(self.position(name))?.as_ref();
        found.map(|found| &found.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_in_any_case_and_nothing_else_is() {
        let names = [
            "g",
            "go",
            "get",
            "sets",
            "mgets",
            "expire",
            "persist",
            "flushall",
            "randomkey",
            "get-x",
            "get_y",
            "a1",
        ];
        let index = NameIndex::new(names.iter().map(|n| (*n, *n)));
        for name in names {
            let mut mixed = name.to_owned().into_bytes();
            mixed[0] = mixed[0].to_ascii_uppercase();
            for text in [
                name.as_bytes(),
                &name.to_ascii_uppercase().into_bytes(),
                &mixed,
            ] {
                assert_eq!(index.get(text), Some(&name));
            }
            for at in 0..name.len() {
                for bit in 0..8 {
                    let mut other = name.to_owned().into_bytes();
                    other[at] ^= 1 << bit;
                    let expect = names
                        .iter()
                        .find(|n| n.as_bytes().eq_ignore_ascii_case(&other));
                    assert_eq!(index.get(&other), expect, "{other:?}");
                }
                let (shorter, longer) = (&name[..at], format!("{name}{}", &name[at..]));
                for other in [shorter, &longer] {
                    let expect = names.iter().find(|n| **n == other);
                    assert_eq!(index.get(other.as_bytes()), expect, "{other}");
                }
            }
        }
    }

    #[test]
    fn the_only_key_is_where_the_rules_find_it() {
        let mut with_one = 0;
        for command in crate::Engine::commands() {
            let Some(at) = command.spec.only_key() else {
                continue;
            };
            with_one += 1;
            let argv = [b"x".as_slice(); 8];
            let mut found = Vec::new();
            command
                .spec
                .each_key(&argv, &mut |i, _| found.push(i))
                .expect("eight arguments are enough");
            assert_eq!(found, [at], "{}", command.spec.name);
        }
        assert!(with_one > 100, "{with_one}");
    }
}
