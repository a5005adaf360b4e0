//! The RDB format, a chunk at a time, and `DUMP` payloads.
//!
//! - [`RdbWriter`] writes a file key by key into a buffer that its owner drains.
//! - [`RdbReader`] is fed bytes in chunks of any size and yields [`Event`]s. It reads versions 1 to 11 (`REDIS`)
//!   and 80 (`VALKEY`) with strings, lists, sets, sorted sets, hashes and streams in all their encodings; what it cannot
//!   read is an [`RdbError`] with offset and reason. No bytes make it panic or take memory out of proportion.
//! - [`DumpCodec`] makes and reads the payloads of `DUMP` and `RESTORE`.
//! - [`RdbSink`] takes an engine's snapshot.
//!
//! The crate touches no file.

#![forbid(unsafe_code)]

mod decode;
mod draft;
mod dump;
mod encode;
mod format;
mod lzf;
mod reader;
mod sink;
mod stream;
mod writer;
mod ziplist;

pub use draft::{Draft, Packer};
pub use dump::DumpCodec;
pub use format::{RdbVersion, crc64};
pub use reader::{BatchSize, Event, Fault, RdbError, RdbReader, ReadOptions, STRING_BYTES_MAX};
pub use sink::RdbSink;
pub use writer::RdbWriter;
