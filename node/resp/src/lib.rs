//! RESP2, RESP3 and inline commands, in and out of byte buffers.
//!
//! - [`RequestParser`] finds the next command in a client's query buffer. It yields the arguments as spans of
//!   that buffer (no copy) and resumes after more bytes have come without looking at the old ones again.
//! - [`mod@write`] appends replies to a `Vec<u8>`.
//! - [`reply`] parses replies, for the connections on which we are the client.
//!
//! The crate owns no socket, and never allocates for an argument whose bytes have not come.

#![forbid(unsafe_code)]

pub mod number;
pub mod reply;
mod request;
pub mod write;

pub use number::{format_double, format_i64, parse_i64};
pub use request::{INLINE_MAX_BYTES, Limits, Parse, ProtocolError, RequestParser};

/// The protocol version that a connection has chosen with `HELLO`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Proto {
    /// RESP2, what a connection speaks before `HELLO 3`.
    #[default]
    Resp2,
    /// RESP3.
    Resp3,
}
