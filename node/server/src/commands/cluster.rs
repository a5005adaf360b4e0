//! `CLUSTER`: what the keyspace can tell is answered here; the rest by the control thread, which knows the bus and the shard.

use super::ServerCommand;
use super::rows::*;
use crate::executor::{ConnId, Executor};
use holdfast_engine::{SLOTS, key_slot};
use holdfast_resp::{parse_i64, write};

fn enabled(ex: &mut Executor, id: ConnId) -> bool {
    if !ex.settings.cluster_enabled {
        ex.reply_error(id, "ERR This instance has cluster support disabled");
    }
    ex.settings.cluster_enabled
}

/// Subcommands of other versions, or of ours that have no row: the control thread, if there is one, knows what to say.
fn without_row(ex: &mut Executor, id: ConnId, argv: &[&[u8]]) {
    match ex.settings.cluster_enabled {
        true => cluster(ex, id, argv),
        false => super::unknown_subcommand(ex, id, argv),
    }
}

/// What the control thread answers.
fn cluster(ex: &mut Executor, id: ConnId, argv: &[&[u8]]) {
    if !enabled(ex, id) {
        return;
    }
    if ex.is_executing_transaction() {
        return ex.reply_error(
            id,
            "ERR this CLUSTER subcommand is not allowed inside a transaction",
        );
    }
    ex.defer(id, argv);
}

const NOT_AN_INTEGER: &str = "ERR value is not an integer or out of range";

fn slot_of(number: i64) -> Option<u16> {
    u16::try_from(number).ok().filter(|slot| *slot < SLOTS)
}

fn cluster_keyslot(ex: &mut Executor, id: ConnId, argv: &[&[u8]]) {
    if enabled(ex, id) {
        write::int(ex.out(id), i64::from(key_slot(argv[2])));
    }
}

fn cluster_countkeysinslot(ex: &mut Executor, id: ConnId, argv: &[&[u8]]) {
    if !enabled(ex, id) {
        return;
    }
    let Some(slot) = parse_i64(argv[2]) else {
        return ex.reply_error(id, NOT_AN_INTEGER);
    };
    let Some(slot) = slot_of(slot) else {
        return ex.reply_error(id, "ERR Invalid slot");
    };
    let count = ex.engine.slot_count_in(ex.conns[id].db, slot);
    write::int(ex.out(id), count as i64);
}

fn cluster_getkeysinslot(ex: &mut Executor, id: ConnId, argv: &[&[u8]]) {
    if !enabled(ex, id) {
        return;
    }
    let (Some(slot), Some(count)) = (parse_i64(argv[2]), parse_i64(argv[3])) else {
        return ex.reply_error(id, NOT_AN_INTEGER);
    };
    let (Some(slot), Ok(count)) = (slot_of(slot), usize::try_from(count)) else {
        return ex.reply_error(id, "ERR Invalid slot or number of keys");
    };
    let keys = ex.engine.slot_keys(ex.conns[id].db, slot, count);
    write::array(ex.out(id), keys.len());
    for key in keys {
        write::bulk(ex.out(id), &key);
    }
}

/// The rows of this file.
pub(super) const COMMANDS: &[ServerCommand] = &[
    Command::new(
        CommandSpec {
            name: "cluster",
            arity: -2,
            flags: flags([Flags::NOSCRIPT, Flags::LOADING, Flags::STALE, Flags::NO_MULTI]),
            group: Group::Cluster,
            since: "3.0.0",
            complexity: "Depends on subcommand.",
            summary: "A container for Cluster commands.",
            ..CommandSpec::EMPTY
        },
        without_row as ServerFn,
    )
    .with_subcommands(&[
        Command::new(
            CommandSpec {
                name: "keyslot",
                arity: 3,
                flags: Flags::STALE,
                group: Group::Cluster,
                since: "3.0.0",
                complexity: "O(N) where N is the number of bytes in the key",
                summary: "Returns the hash slot for a key.",
                args: "key",
                ..CommandSpec::EMPTY
            },
            cluster_keyslot as ServerFn,
        ),
Command::new(
    CommandSpec {
        name: "slot-stats",
        arity: -4,
        flags: flags([Flags::STALE, Flags::LOADING]),
        group: Group::Cluster,
        since: "8.0.0",
        complexity: "O(N) where N is the total number of slots based on arguments. O(N*log(N)) with ORDERBY subcommand.",
        summary: "Return an array of slot usage statistics for slots assigned to the current node.",
        args: "(SLOTSRANGE={start-slot:int end-slot:int}<slotsrange> | ORDERBY={metric [LIMIT=limit:int] [(ASC | DESC)<order>]}<orderby>)<filter>",
        tips: &["nondeterministic_output", "request_policy:all_shards"],
        ..CommandSpec::EMPTY
    },
    super::slot_stats::slot_stats as ServerFn,
),
        Command::new(
            CommandSpec {
                name: "countkeysinslot",
                arity: 3,
                flags: Flags::STALE,
                group: Group::Cluster,
                since: "3.0.0",
                complexity: "O(1)",
                summary: "Returns the number of keys in a hash slot.",
                args: "slot:int",
                ..CommandSpec::EMPTY
            },
            cluster_countkeysinslot as ServerFn,
        ),
        Command::new(
            CommandSpec {
                name: "getkeysinslot",
                arity: 4,
                flags: Flags::STALE,
                group: Group::Cluster,
                since: "3.0.0",
                complexity: "O(N) where N is the number of requested keys",
                summary: "Returns the key names in a hash slot.",
                tips: &["nondeterministic_output"],
                args: "slot:int count:int",
                ..CommandSpec::EMPTY
            },
            cluster_getkeysinslot as ServerFn,
        ),
        Command::new(
            CommandSpec {
                name: "addslots",
                arity: -3,
                flags: flags([Flags::NO_ASYNC_LOADING, Flags::ADMIN, Flags::STALE]),
                group: Group::Cluster,
                since: "3.0.0",
                complexity: "O(N) where N is the total number of hash slot arguments",
                summary: "Assigns new hash slots to a node.",
                args: "slot:int...",
                ..CommandSpec::EMPTY
            },
            cluster as ServerFn,
        ),
        Command::new(
            CommandSpec {
                name: "addslotsrange",
                arity: -4,
                flags: flags([Flags::NO_ASYNC_LOADING, Flags::ADMIN, Flags::STALE]),
                group: Group::Cluster,
                since: "7.0.0",
                complexity: "O(N) where N is the total number of the slots between the start slot and end slot arguments.",
                summary: "Assigns new hash slot ranges to a node.",
                args: "{start-slot:int end-slot:int}<range>...",
                ..CommandSpec::EMPTY
            },
            cluster as ServerFn,
        ),
        Command::new(
            CommandSpec {
                name: "bumpepoch",
                arity: 2,
                flags: flags([Flags::NO_ASYNC_LOADING, Flags::ADMIN, Flags::STALE]),
                group: Group::Cluster,
                since: "3.0.0",
                complexity: "O(1)",
                summary: "Advances the cluster config epoch.",
                tips: &["nondeterministic_output"],
                ..CommandSpec::EMPTY
            },
            cluster as ServerFn,
        ),
        Command::new(
            CommandSpec {
                name: "cancelslotmigrations",
                arity: 2,
                flags: flags([Flags::NO_ASYNC_LOADING, Flags::ADMIN, Flags::STALE, Flags::ALL_DBS]),
                group: Group::Cluster,
                since: "9.0.0",
                complexity: "O(N), where N is the number of slot migration operations being cancelled.",
                summary: "Cancel all current ongoing slot migration operations.",
                ..CommandSpec::EMPTY
            },
            cluster as ServerFn,
        ),
        Command::new(
            CommandSpec {
                name: "count-failure-reports",
                arity: 3,
                flags: flags([Flags::ADMIN, Flags::STALE]),
                group: Group::Cluster,
                since: "3.0.0",
                complexity: "O(N) where N is the number of failure reports",
                summary: "Returns the number of active failure reports for a node. No new reports are created once the node is marked as failed.",
                tips: &["nondeterministic_output"],
                args: "node-id",
                history: &[("9.0.0", "Ignore additional failure reports for a node which has been marked as failed.")],
                ..CommandSpec::EMPTY
            },
            cluster as ServerFn,
        ),
        Command::new(
            CommandSpec {
                name: "delslots",
                arity: -3,
                flags: flags([Flags::NO_ASYNC_LOADING, Flags::ADMIN, Flags::STALE]),
                group: Group::Cluster,
                since: "3.0.0",
                complexity: "O(N) where N is the total number of hash slot arguments",
                summary: "Sets hash slots as unbound for a node.",
                args: "slot:int...",
                ..CommandSpec::EMPTY
            },
            cluster as ServerFn,
        ),
        Command::new(
            CommandSpec {
                name: "delslotsrange",
                arity: -4,
                flags: flags([Flags::NO_ASYNC_LOADING, Flags::ADMIN, Flags::STALE]),
                group: Group::Cluster,
                since: "7.0.0",
                complexity: "O(N) where N is the total number of the slots between the start slot and end slot arguments.",
                summary: "Sets hash slot ranges as unbound for a node.",
                args: "{start-slot:int end-slot:int}<range>...",
                ..CommandSpec::EMPTY
            },
            cluster as ServerFn,
        ),
        Command::new(
            CommandSpec {
                name: "failover",
                arity: -2,
                flags: flags([Flags::NO_ASYNC_LOADING, Flags::ADMIN, Flags::STALE]),
                group: Group::Cluster,
                since: "3.0.0",
                complexity: "O(1)",
                summary: "Forces a replica to perform a manual failover of its primary.",
                args: "[(FORCE | TAKEOVER)<options>]",
                ..CommandSpec::EMPTY
            },
            cluster as ServerFn,
        ),
        Command::new(
            CommandSpec {
                name: "flushslots",
                arity: 2,
                flags: flags([Flags::NO_ASYNC_LOADING, Flags::ADMIN, Flags::STALE]),
                group: Group::Cluster,
                since: "3.0.0",
                complexity: "O(1)",
                summary: "Deletes all slots information from a node.",
                ..CommandSpec::EMPTY
            },
            cluster as ServerFn,
        ),
        Command::new(
            CommandSpec {
                name: "forget",
                arity: 3,
                flags: flags([Flags::NO_ASYNC_LOADING, Flags::ADMIN, Flags::STALE]),
                group: Group::Cluster,
                since: "3.0.0",
                complexity: "O(1)",
                summary: "Removes a node from the nodes table.",
                args: "node-id",
                ..CommandSpec::EMPTY
            },
            cluster as ServerFn,
        ),
        Command::new(
            CommandSpec {
                name: "getslotmigrations",
                arity: 2,
                flags: flags([Flags::NO_ASYNC_LOADING, Flags::ADMIN, Flags::STALE]),
                group: Group::Cluster,
                since: "9.0.0",
                complexity: "O(N), where N is the number of active slot import and export jobs.",
                summary: "Gets the status of ongoing and recently finished slot import and export operations.",
                ..CommandSpec::EMPTY
            },
            cluster as ServerFn,
        ),
        Command::new(
            CommandSpec {
                name: "help",
                arity: 2,
                flags: flags([Flags::LOADING, Flags::STALE]),
                group: Group::Cluster,
                since: "5.0.0",
                complexity: "O(1)",
                summary: "Returns helpful text about the different subcommands.",
                ..CommandSpec::EMPTY
            },
            cluster as ServerFn,
        ),
        Command::new(
            CommandSpec {
                name: "info",
                arity: 2,
                flags: flags([Flags::LOADING, Flags::STALE]),
                group: Group::Cluster,
                since: "3.0.0",
                complexity: "O(1)",
                summary: "Returns information about the state of a node.",
                tips: &["nondeterministic_output"],
                ..CommandSpec::EMPTY
            },
            cluster as ServerFn,
        ),
        Command::new(
            CommandSpec {
                name: "links",
                arity: 2,
                flags: Flags::STALE,
                group: Group::Cluster,
                since: "7.0.0",
                complexity: "O(N) where N is the total number of Cluster nodes",
                summary: "Returns a list of all TCP links to and from peer nodes.",
                tips: &["nondeterministic_output"],
                ..CommandSpec::EMPTY
            },
            cluster as ServerFn,
        ),
        Command::new(
            CommandSpec {
                name: "meet",
                arity: -4,
                flags: flags([Flags::NO_ASYNC_LOADING, Flags::ADMIN, Flags::STALE]),
                group: Group::Cluster,
                since: "3.0.0",
                complexity: "O(1)",
                summary: "Forces a node to handshake with another node.",
                args: "ip port:int [cluster-bus-port:int@4.0.0]",
                history: &[("4.0.0", "Added the optional `cluster_bus_port` argument.")],
                ..CommandSpec::EMPTY
            },
            cluster as ServerFn,
        ),
        Command::new(
            CommandSpec {
                name: "migrateslots",
                arity: -4,
                flags: flags([Flags::NO_ASYNC_LOADING, Flags::ADMIN, Flags::STALE, Flags::ALL_DBS]),
                group: Group::Cluster,
                since: "9.0.0",
                complexity: "O(N) where N is the total number of the slots between all start slot and end slot arguments.",
                summary: "Migrate the given slots from this node to the specified nodes.",
                args: "{SLOTSRANGE<slotsrange-token> {start-slot:int end-slot:int}<range>... NODE<node-token> node-id}<migration-group>...",
                ..CommandSpec::EMPTY
            },
            cluster as ServerFn,
        ),
        Command::new(
            CommandSpec {
                name: "myid",
                arity: 2,
                flags: flags([Flags::LOADING, Flags::STALE]),
                group: Group::Cluster,
                since: "3.0.0",
                complexity: "O(1)",
                summary: "Returns the ID of a node.",
                ..CommandSpec::EMPTY
            },
            cluster as ServerFn,
        ),
        Command::new(
            CommandSpec {
                name: "myshardid",
                arity: 2,
                flags: flags([Flags::LOADING, Flags::STALE]),
                group: Group::Cluster,
                since: "7.2.0",
                complexity: "O(1)",
                summary: "Returns the shard ID of a node.",
                tips: &["nondeterministic_output"],
                ..CommandSpec::EMPTY
            },
            cluster as ServerFn,
        ),
        Command::new(
            CommandSpec {
                name: "nodes",
                arity: 2,
                flags: flags([Flags::LOADING, Flags::STALE]),
                group: Group::Cluster,
                since: "3.0.0",
                complexity: "O(N) where N is the total number of Cluster nodes",
                summary: "Returns the cluster configuration for a node.",
                tips: &["nondeterministic_output"],
                ..CommandSpec::EMPTY
            },
            cluster as ServerFn,
        ),
        Command::new(
            CommandSpec {
                name: "replicas",
                arity: 3,
                flags: flags([Flags::ADMIN, Flags::STALE]),
                group: Group::Cluster,
                since: "5.0.0",
                complexity: "O(N) where N is the number of replicas.",
                summary: "Lists the replica nodes of a primary node.",
                tips: &["nondeterministic_output"],
                args: "node-id",
                ..CommandSpec::EMPTY
            },
            cluster as ServerFn,
        ),
        Command::new(
            CommandSpec {
                name: "replicate",
                arity: -3,
                flags: flags([Flags::NO_ASYNC_LOADING, Flags::ADMIN, Flags::STALE]),
                group: Group::Cluster,
                since: "3.0.0",
                complexity: "O(1)",
                summary: "Configures a node as replica of a primary node or detaches a replica from its primary.",
                args: "(node-id | {NO ONE}<no-one>@9.0.0)<args>",
                history: &[("9.0.0", "Added support of 'NO ONE' arg instead of <node-id> resulting into detaching replica from primary node.")],
                ..CommandSpec::EMPTY
            },
            cluster as ServerFn,
        ),
        Command::new(
            CommandSpec {
                name: "reset",
                arity: -2,
                flags: flags([Flags::ADMIN, Flags::STALE, Flags::NOSCRIPT]),
                group: Group::Cluster,
                since: "3.0.0",
                complexity: "O(N) where N is the number of known nodes. The command may execute a FLUSHALL as a side effect.",
                summary: "Resets a node.",
                args: "[(HARD | SOFT)<reset-type>]",
                ..CommandSpec::EMPTY
            },
            cluster as ServerFn,
        ),
        Command::new(
            CommandSpec {
                name: "saveconfig",
                arity: 2,
                flags: flags([Flags::NO_ASYNC_LOADING, Flags::ADMIN, Flags::STALE]),
                group: Group::Cluster,
                since: "3.0.0",
                complexity: "O(1)",
                summary: "Forces a node to save the cluster configuration to disk.",
                ..CommandSpec::EMPTY
            },
            cluster as ServerFn,
        ),
        Command::new(
            CommandSpec {
                name: "set-config-epoch",
                arity: 3,
                flags: flags([Flags::NO_ASYNC_LOADING, Flags::ADMIN, Flags::STALE]),
                group: Group::Cluster,
                since: "3.0.0",
                complexity: "O(1)",
                summary: "Sets the configuration epoch for a new node.",
                args: "config-epoch:int",
                ..CommandSpec::EMPTY
            },
            cluster as ServerFn,
        ),
        Command::new(
            CommandSpec {
                name: "setslot",
                arity: -4,
                flags: flags([Flags::NO_ASYNC_LOADING, Flags::ADMIN, Flags::STALE, Flags::MAY_REPLICATE]),
                group: Group::Cluster,
                since: "3.0.0",
                complexity: "O(1)",
                summary: "Binds a hash slot to a node.",
                args: "slot:int (IMPORTING=importing~node-id | MIGRATING=migrating~node-id | NODE=node~node-id | STABLE)<subcommand> [TIMEOUT=timeout:int@8.0.0]",
                history: &[("8.0.0", "Added the `TIMEOUT` option.")],
                ..CommandSpec::EMPTY
            },
            cluster as ServerFn,
        ),
        Command::new(
            CommandSpec {
                name: "shards",
                arity: 2,
                flags: flags([Flags::LOADING, Flags::STALE]),
                group: Group::Cluster,
                since: "7.0.0",
                complexity: "O(N) where N is the total number of cluster nodes",
                summary: "Returns the mapping of cluster slots to shards.",
                tips: &["nondeterministic_output"],
                history: &[("9.1.0", "Added shard level `id` field and node level `availability-zone` field.")],
                ..CommandSpec::EMPTY
            },
            cluster as ServerFn,
        ),
        Command::new(
            CommandSpec {
                name: "slaves",
                arity: 3,
                flags: flags([Flags::ADMIN, Flags::STALE]),
                group: Group::Cluster,
                since: "3.0.0",
                complexity: "O(N) where N is the number of replicas.",
                summary: "Lists the replica nodes of a primary node.",
                tips: &["nondeterministic_output"],
                args: "node-id",
                deprecated: Some(("5.0.0", "`CLUSTER REPLICAS`")),
                ..CommandSpec::EMPTY
            },
            cluster as ServerFn,
        ),
        Command::new(
            CommandSpec {
                name: "slots",
                arity: 2,
                flags: flags([Flags::LOADING, Flags::STALE]),
                group: Group::Cluster,
                since: "3.0.0",
                complexity: "O(N) where N is the total number of Cluster nodes",
                summary: "Returns the mapping of cluster slots to nodes.",
                tips: &["nondeterministic_output"],
                history: &[("4.0.0", "Added node IDs."), ("7.0.0", "Added additional networking metadata field."), ("9.1.0", "Added `availability-zone` field inside the networking metadata.")],
                ..CommandSpec::EMPTY
            },
            cluster as ServerFn,
        ),
    ]),
];
