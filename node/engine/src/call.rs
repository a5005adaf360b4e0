//! One execution of one command: what goes in, and what comes out beside the change of the keyspace.

use std::sync::Arc;
use std::time::Duration;

use holdfast_resp::{Proto, write};

use crate::blobs::Blobs;
use crate::effects::Effects;
use crate::events::EventClass;
use crate::rng::Rng;

/// A command's function. Write the reply with the `reply_…` methods of the call and return [`DONE`], or return an
/// error and the engine writes it.
pub type CommandFn = fn(&mut crate::Engine, &mut Call<'_>) -> CmdResult;

/// What a command's function returns.
pub type CmdResult = Result<Outcome, CmdError>;

/// The result of a command that has written its reply.
pub const DONE: CmdResult = Ok(Outcome::Done);

/// How the engine treats keys whose time has passed, and whether there are effects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// An expired key is deleted when met, and the deletion is an effect.
    #[default]
    Primary,
    /// An expired key looks absent but stays until its deletion arrives. Only reads run in this mode.
    Replica,
    /// Effects of a primary are being applied: an expired key is as good as any other.
    Apply,
}

/// A command to execute.
pub struct Call<'a> {
    /// The arguments, the command's name first.
    pub argv: &'a [&'a [u8]],
    /// The selected database.
    pub db: u16,
    /// The slot of all keys of the command, when the caller has computed it already.
    pub slot: Option<u16>,
    /// The protocol of the reply.
    pub proto: Proto,
    /// Unix time in milliseconds.
    pub now_ms: u64,
    /// Whose rules hold for expired keys.
    pub mode: Mode,
    /// Whether a blocking command may ask to wait. Not in transactions and scripts.
    pub may_block: bool,
    /// The source of randomness.
    pub rng: &'a mut Rng,
    /// The reply is appended here.
    pub reply: &'a mut Vec<u8>,
    /// Long strings need not be copied into the reply, but can be put here.
    pub blobs: Option<&'a mut Blobs>,
    /// The effects are added here.
    pub fx: &'a mut Effects,
}

/// What came of a command.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The reply has been written.
    Done,
    /// An error reply has been written. What was changed before (nothing, as a rule) has its effects.
    Failed,
    /// No reply has been written: execute the same command again when one of the keys is reported ready, or answer the
    /// timeout. As a rule nothing has changed; what has (`XREADGROUP` creates its consumer) has its effects.
    Block(Box<Block>),
}

/// What a blocked client waits for.
#[derive(Debug, PartialEq, Eq)]
pub struct Block {
    /// Any of these keys, in the call's database.
    pub keys: Vec<Box<[u8]>>,
    /// How long; `None` for ever.
    pub timeout: Option<Duration>,
    /// What to answer when the time is over.
    pub on_timeout: TimeoutReply,
    /// Arguments to be replaced when the command is executed anew.
    pub replaced: Vec<(usize, Box<[u8]>)>,
    /// What of its keys it is executed anew for.
    pub wakes: Wakes,
}

/// What a blocked command is executed anew for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wakes {
    /// One of its keys has a value of the type that the command is for.
    OnValue,
    /// That, and also when one of its keys is gone or is of another type: the command fails then.
    OnAnyChange,
}

/// The reply of a blocking command that ran out of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeoutReply {
    /// `*-1`
    NullArray,
    /// `$-1`
    Null,
}

impl TimeoutReply {
    /// Writes the reply.
    pub fn write(self, out: &mut Vec<u8>, proto: Proto) {
        match self {
            TimeoutReply::NullArray => write::null_array(out, proto),
            TimeoutReply::Null => write::null(out, proto),
        }
    }
}

/// An error reply: its code word and text, without the leading dash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CmdError {
    /// A fixed text.
    Static(&'static str),
    /// A text with client input in it.
    Text(Box<[u8]>),
}

impl CmdError {
    /// The key holds another type.
    pub const WRONG_TYPE: CmdError =
        CmdError::Static("WRONGTYPE Operation against a key holding the wrong kind of value");
    /// The arguments do not follow the command's syntax.
    pub const SYNTAX: CmdError = CmdError::Static("ERR syntax error");
    /// A value should be a 64-bit integer.
    pub const NOT_INTEGER: CmdError =
        CmdError::Static("ERR value is not an integer or out of range");
    /// A value should be a floating-point number.
    pub const NOT_FLOAT: CmdError = CmdError::Static("ERR value is not a valid float");
    /// A value should not be negative.
    pub const NOT_POSITIVE: CmdError =
        CmdError::Static("ERR value is out of range, must be positive");
    /// The key should exist.
    pub const NO_SUCH_KEY: CmdError = CmdError::Static("ERR no such key");
    /// An index is outside the list.
    pub const INDEX_OUT_OF_RANGE: CmdError = CmdError::Static("ERR index out of range");

    /// A reply would exceed the output buffer limit.
    pub const REPLY_TOO_LONG: CmdError =
        CmdError::Static("ERR reply exceeds the output buffer limit");

    /// An error with a text of its own, code word included.
    pub fn text(text: impl Into<Vec<u8>>) -> CmdError {
        CmdError::Text(text.into().into_boxed_slice())
    }

    /// The wrong number of arguments for the command of this (full) name.
    pub fn wrong_arity(name: &str) -> CmdError {
        CmdError::text(format!(
            "ERR wrong number of arguments for '{name}' command"
        ))
    }

    /// An expiry that is not positive or overflows, for the command of this name.
    pub fn invalid_expire(name: &[u8]) -> CmdError {
        let name = String::from_utf8_lossy(name).to_ascii_lowercase();
        CmdError::text(format!("ERR invalid expire time in '{name}' command"))
    }

    /// The text, code word first.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            CmdError::Static(text) => text.as_bytes(),
            CmdError::Text(text) => text,
        }
    }
}

impl<'a> Call<'a> {
    /// An argument. Arity guarantees the first ones; beyond that look at `argv.len()` or use `argv.get`.
    #[inline]
    pub fn arg(&self, index: usize) -> &'a [u8] {
        self.argv.get(index).copied().unwrap_or_default()
    }

    /// An argument as an integer, or Valkey's error.
    pub fn int_arg(&self, index: usize) -> Result<i64, CmdError> {
        holdfast_resp::parse_i64(self.arg(index)).ok_or(CmdError::NOT_INTEGER)
    }

    /// An argument as a double (`inf` allowed, `nan` not), or Valkey's error.
    pub fn float_arg(&self, index: usize) -> Result<f64, CmdError> {
        crate::number::parse_f64(self.arg(index)).ok_or(CmdError::NOT_FLOAT)
    }

    /// Whether an argument is this word, in any case.
    #[inline]
    pub fn arg_is(&self, index: usize, word: &str) -> bool {
        self.arg(index).eq_ignore_ascii_case(word.as_bytes())
    }

    /// Reports that `key` of the selected database was changed, with so many changes. Call it for every key that
    /// changed: the command is propagated as it was sent unless [`rewrite`](Self::rewrite) replaces it, `WATCH`
    /// and the gate learn of the key. Without a change, call nothing.
    #[inline]
    pub fn modified(&mut self, key: &[u8], changes: u64) {
        self.fx.add_dirty(changes);
        self.fx.touch(self.db, key);
    }

    /// As [`modified`](Self::modified), for what is beside a key's content, as the groups of a stream: a `WATCH` stays whole.
    pub fn modified_within(&mut self, key: &[u8], changes: u64) {
        self.fx.add_dirty(changes);
        self.fx.touch_within(self.db, key);
    }

    /// Reports an event of a key of the selected database to those who listen for keyspace events. Report it where it
    /// happens: the order of reports is the order of the messages.
    #[inline]
    pub fn notify(&mut self, class: EventClass, event: &'static str, key: &[u8]) {
        self.fx.notify(class, event, self.db, key);
    }

    /// Reports that a key of the selected database was deleted.
    #[inline]
    pub fn notify_del(&mut self, key: &[u8]) {
        self.notify(EventClass::GENERIC, "del", key);
    }

    /// Propagates `argv` instead of the command as it was sent. May be called several times; all of them are then
    /// applied as one.
    pub fn rewrite(&mut self, argv: &[&[u8]]) {
        self.fx.explicit = true;
        self.fx.propagate(self.db, argv);
    }

    /// Propagates the command as it was sent, with some arguments replaced.
    pub fn rewrite_args(&mut self, replaced: &[(usize, &[u8])]) {
        self.fx.explicit = true;
        self.fx.propagate_replaced(self.db, self.argv, replaced);
    }

    /// Propagates nothing for this command beyond what was rewritten so far.
    pub fn rewrite_as_nothing(&mut self) {
        self.fx.explicit = true;
    }

    /// Reports that a client blocked on the key may go on. Keys created with a list or sorted set are reported by the engine.
    pub fn signal_ready(&mut self, key: &[u8]) {
        self.fx.signal_ready(self.db, key);
    }

    /// `+OK`
    pub fn reply_ok(&mut self) {
        write::ok(self.reply);
    }

    /// A status.
    pub fn reply_simple(&mut self, text: &str) {
        write::simple(self.reply, text);
    }

    /// An integer.
    #[inline]
    pub fn reply_int(&mut self, value: i64) {
        write::int(self.reply, value);
    }

    /// A length or count.
    #[inline]
    pub fn reply_len(&mut self, value: usize) {
        write::int(self.reply, value as i64);
    }

    /// A string.
    #[inline]
    pub fn reply_bulk(&mut self, bytes: &[u8]) {
        write::bulk(self.reply, bytes);
    }

    /// A string that the keyspace may hold as well; without a copy if the caller can do with that.
    pub(crate) fn reply_shared(&mut self, bytes: Arc<Vec<u8>>) {
        let Some(blobs) = &mut self.blobs else {
            return self.reply_bulk(&bytes);
        };
        write::bulk_len(self.reply, bytes.len());
        blobs.push(self.reply.len(), bytes);
        self.reply.extend_from_slice(b"\r\n");
    }

    /// An integer as a string.
    pub fn reply_bulk_int(&mut self, value: i64) {
        write::bulk_int(self.reply, value);
    }

    /// Null in place of a value.
    pub fn reply_null(&mut self) {
        write::null(self.reply, self.proto);
    }

    /// Null in place of an array.
    pub fn reply_null_array(&mut self) {
        write::null_array(self.reply, self.proto);
    }

    /// The header of an array.
    pub fn reply_array(&mut self, len: usize) {
        write::array(self.reply, len);
    }

    /// The header of a map of so many pairs.
    pub fn reply_map(&mut self, pairs: usize) {
        write::map(self.reply, self.proto, pairs);
    }

    /// The header of a set.
    pub fn reply_set(&mut self, len: usize) {
        write::set(self.reply, self.proto, len);
    }

    /// A double.
    pub fn reply_double(&mut self, value: f64) {
        write::double(self.reply, self.proto, value);
    }
}
