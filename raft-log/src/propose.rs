//! The way of a proposal into openraft.

use crate::raft::Types;

/// What openraft tells about the fate of a client's write. Nothing here waits for it: commitment is
/// seen in the order of the log, by [`crate::App::apply`], and refusal by the [`crate::raft::Fence`].
pub struct Responder;

impl<T: Send + 'static> openraft::raft::responder::Responder<Types, T> for Responder {
    fn on_complete(self, _result: T) {}
}
