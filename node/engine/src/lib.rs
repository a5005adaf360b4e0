//! Keyspace, data types and every data command of Holdfast.
//!
//! The engine does no I/O and owns no clock, thread or random source: time and randomness come in with each
//! [`Call`]. Given the same commands, times and random numbers it gives the same replies, effects and digest.
//!
//! # How to write a command
//!
//! A command is a function of type [`CommandFn`] and a row ([`spec::CommandSpec`]) in the `COMMANDS` table of its file.
//! The engine has checked the arity before it calls the function.
//!
//! ```ignore
//! fn hset(engine: &mut Engine, call: &mut Call<'_>) -> CmdResult {
//!     if call.argv.len() % 2 != 0 {
//!         return Err(CmdError::wrong_arity("hset"));
//!     }
//!     let key = call.arg(1);                       // borrows from the request, not from the call
//!     let limits = engine.limits();
//!     let hash = engine.write_or_create(call, key, HashValue::default)?;   // WRONGTYPE by `?`
//!     let mut created = 0;
//!     for pair in call.argv[2..].chunks_exact(2) {
//!         created += i64::from(hash.set(pair[0], pair[1], &limits));
//!     }
//!     call.modified(key, call.argv.len() as u64 / 2 - 1);   // dirty count, WATCH, gate; propagated as sent
//!     call.reply_int(created);
//!     DONE
//! }
//! ```
//!
//! - Reading: [`Engine::read`] for one key. For several at once first [`Engine::touch_key`] on each (lazy expiry), then
//!   [`Engine::peek`], which borrows the engine shared.
//! - Writing: [`Engine::write`] (present keys only) or [`Engine::write_or_create`]. Check all arguments before creating
//!   a key. When the value has become empty: [`Engine::delete`]. A whole new value: [`Engine::set_value`].
//! - Each changed key is reported with [`Call::modified`]. If anything was, the command is propagated as it was sent. Where
//!   that would not be deterministic or not minimal, [`Call::rewrite`] propagates something else instead: `SPOP` →
//!   `SREM`, `BLPOP` → `LPOP`, `INCRBYFLOAT` → `SET … KEEPTTL`, relative times → absolute ones. Propagate just what Valkey does.
//! - Keyspace events: [`Call::notify`] where something happens to a key, as Valkey names it; `new`, `expired` and `keymiss` come from the
//!   engine.
//! - Errors: return `Err(CmdError::…)`; what has been written of the reply is taken back. An error after a change must
//!   not happen.
//! - Blocking: when nothing is there and `call.may_block`, return `Ok(Outcome::Block(…))` having changed and written nothing. The
//!   command is executed anew when a key is ready. If `may_block` is not set, answer the timeout's reply at once.
//! - Randomness only from `call.rng`, time only from `call.now_ms`. Never iterate anything whose order is not determined.

#![allow(
    clippy::needless_update,
    reason = "all rows of the command table end alike"
)]

mod apply;
pub mod args;
mod blobs;
pub mod call;
pub mod commands;
pub mod decimal;
mod defrag;
pub mod digest;
pub mod docs;
pub mod effects;
mod engine;
pub mod events;
mod evict;
pub mod glob;
mod keyspace;
mod load;
mod maintenance;
pub mod number;
pub mod rng;
pub mod sha1;
pub mod slots;
pub mod snapshot;
pub mod spec;
pub mod types;
pub mod value;

pub use apply::{ApplyError, ApplyState};
pub use blobs::Blobs;
pub use call::{
    Block, Call, CmdError, CmdResult, CommandFn, DONE, Mode, Outcome, TimeoutReply, Wakes,
};
pub use effects::{EffectMarks, Effects, KeyList};
pub use engine::{BadPayload, Engine, EngineConfig, EngineStats, Prefetch, Ttl, ValueCodec};
pub use events::{EventClass, EventList};
pub use evict::{AccessNote, Eviction, EvictionRank};
pub use load::{LoadBatch, LoadCounts, LoadError, LoadHead, LoadMode, Placer};
pub use maintenance::{KeyInfo, Reaper, ValueInfo};
pub use rng::Rng;
pub use slots::{SLOTS, SlotFilter, SlotSet, key_slot};
pub use snapshot::{SnapshotId, SnapshotProgress, SnapshotSink};
pub use spec::{
    Acl, Begin, Command, CommandSpec, Find, Flags, Group, Key, KeySpec, KeysError, NameIndex,
};
pub use types::TypeLimits;
pub use value::{DataType, StrRef, StrValue, Type, Value, ValueMut, ValueRef};
