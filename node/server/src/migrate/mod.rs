//! Slot migration in the server: what drives `holdfast-slot-migration` over real logs, engines and connections.
//!
//! - [`control`]: the jobs of this node, as a task of the control thread; everybody talks to it by a [`control::Migration`].
//! - [`exec`]: what the executor does for them: streams, imports, pauses, proposals.
//! - [`stream`]: the data of a job on its way out; [`link`]: the connection that carries it.
//! - [`peer`]: questions to other shards; [`directory`]: where they are.
//! - [`command`]: `MIGRATE`; [`commands`]: `CLUSTER MIGRATESLOTS` and its kind; [`records`]: slot decisions in the journal.

pub mod command;
pub mod commands;
pub mod control;
pub mod directory;
pub mod exec;
pub mod link;
pub mod peer;
pub mod records;
pub mod sockets;
pub mod stream;
