//! `CLUSTER`: answered by the control thread, which knows the bus and the shard.

use super::ServerCommand;
use super::rows::*;
use crate::executor::{ConnId, Executor};

fn cluster(ex: &mut Executor, id: ConnId, argv: &[&[u8]]) {
    if !ex.settings.cluster_enabled {
        return ex.reply_error(id, "ERR This instance has cluster support disabled");
    }
    ex.defer(id, argv);
}

/// The rows of this file.
pub(super) const COMMANDS: &[ServerCommand] = &[Command::new(
    CommandSpec {
        name: "cluster",
        arity: -2,
        flags: flags([
            Flags::NOSCRIPT,
            Flags::LOADING,
            Flags::STALE,
            Flags::NO_MULTI,
        ]),
        group: Group::Cluster,
        since: "3.0.0",
        complexity: "Depends on subcommand.",
        summary: "A container for Cluster commands.",
        ..CommandSpec::EMPTY
    },
    cluster as ServerFn,
)];
