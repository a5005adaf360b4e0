//! Which node answers for which slot: the table that the control thread publishes and the executor reads.
//!
//! A [`Routing`] never changes. The control thread makes a new one whenever the bus's view changes and hands it
//! over as an `Arc`; the executor keeps the newest and asks it about every command that names a key.
//!
//! In a quorum shard the shard's own log, not this table, says which slots are served here: the executor passes that
//! in as [`Query::owned`], and the table is then only asked where else to send the client.

use holdfast_cluster_bus::{NodeId, SLOTS, SlotSet};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;

/// A slot without an owner, in [`Routing::owners`].
const NO_OWNER: u16 = u16::MAX;

/// Where clients reach a node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Endpoint {
    /// The node.
    pub node: NodeId,
    /// Host as it stands in redirections: an address, a host name, `?`, or empty for "the one you are connected to",
    /// by `cluster-preferred-endpoint-type`.
    pub host: String,
    /// Clients' port.
    pub port: u16,
    /// Clients' TLS port; 0 if it has none.
    pub tls_port: u16,
}

impl Endpoint {
    /// The port for a client by TLS, or for others.
    pub fn port_for(&self, tls: bool) -> u16 {
        if tls { self.tls_port } else { self.port }
    }
}

/// What this node is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MyRole {
    /// Serves the slots that it owns.
    Primary,
    /// Serves reads of its primary's slots to clients that said `READONLY`.
    Replica,
    /// Serves no keys at all.
    Witness,
}

/// An immutable view of the cluster for routing.
#[derive(Clone, Debug)]
pub struct Routing {
    /// Grows with every change; 0 is the table before the bus has spoken.
    pub version: u64,
    /// This node.
    pub me: NodeId,
    /// What this node is.
    pub role: MyRole,
    /// This node's primary, if it is a replica and knows it.
    pub primary: Option<NodeId>,
    /// The nodes of this node's shard, itself included.
    pub shard: BTreeSet<NodeId>,
    /// The cluster's state is ok.
    pub state_ok: bool,
    /// `cluster-allow-reads-when-down`.
    pub reads_when_down: bool,
    /// `cluster-allow-pubsubshard-when-down`.
    pub pubsubshard_when_down: bool,
    /// Slots on their way out by `CLUSTER SETSLOT … MIGRATING`, and where to.
    pub migrating: BTreeMap<u16, Endpoint>,
    /// Slots on their way in by `CLUSTER SETSLOT … IMPORTING`, and where from.
    pub importing: BTreeMap<u16, NodeId>,
    /// Every node that may be named in a redirection.
    endpoints: Vec<Endpoint>,
    /// For every slot, an index into `endpoints`, or `NO_OWNER`.
    owners: Box<[u16]>,
}

/// What the executor asks about a command.
#[derive(Clone, Copy, Debug, Default)]
pub struct Query {
    /// The slot of the command's keys (of all keys of the transaction, for `EXEC`); `None` if it names none.
    pub slot: Option<u16>,
    /// The keys are in more than one slot.
    pub crossslot: bool,
    /// The command (or one queued in the transaction) writes.
    pub write: bool,
    /// The client said `READONLY`.
    pub readonly: bool,
    /// The client said `ASKING` just before, or the command does so by itself (`RESTORE-ASKING`).
    pub asking: bool,
    /// A shard-channel command, or one is queued in the transaction.
    pub shard_pubsub: bool,
    /// The command is `MIGRATE`.
    pub migrate: bool,
    /// Whether the shard's own log says that the slot is served here; `None` under `durability async`.
    pub owned: Option<bool>,
}

/// Which of a command's keys are in this keyspace.
#[derive(Clone, Copy, Debug, Default)]
pub struct KeyPresence {
    /// Keys that exist (not counting expired ones).
    pub existing: usize,
    /// Keys that do not.
    pub missing: usize,
    /// The command names at least two different keys.
    pub several: bool,
}

/// Who is to answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Route<'a> {
    /// This node.
    Here,
    /// `-MOVED`: that node, from now on.
    Moved(u16, &'a Endpoint),
    /// `-ASK`: that node, this once.
    Ask(u16, &'a Endpoint),
    /// `-TRYAGAIN`: the keys are on both sides of a migration.
    TryAgain,
    /// `-CROSSSLOT`.
    CrossSlot,
    /// `-CLUSTERDOWN Hash slot not served`.
    Unbound,
    /// `-CLUSTERDOWN The cluster is down`.
    Down,
    /// `-CLUSTERDOWN The cluster is down and only accepts read commands`.
    DownReadOnly,
}

impl Route<'_> {
    /// Appends the error reply, for a client by TLS or for others. Nothing is written for [`Route::Here`].
    pub fn write_error(&self, tls: bool, reply: &mut Vec<u8>) {
        // Writing to a vector does not fail.
        let _ = match self {
            Route::Here => Ok(()),
            Route::Moved(slot, to) => {
                write!(reply, "-MOVED {slot} {}:{}\r\n", to.host, to.port_for(tls))
            }
            Route::Ask(slot, to) => {
                write!(reply, "-ASK {slot} {}:{}\r\n", to.host, to.port_for(tls))
            }
            Route::TryAgain => write!(
                reply,
                "-TRYAGAIN Multiple keys request during rehashing of slot\r\n"
            ),
            Route::CrossSlot => write!(
                reply,
                "-CROSSSLOT Keys in request don't hash to the same slot\r\n"
            ),
            Route::Unbound => write!(reply, "-CLUSTERDOWN Hash slot not served\r\n"),
            Route::Down => write!(reply, "-CLUSTERDOWN The cluster is down\r\n"),
            Route::DownReadOnly => write!(
                reply,
                "-CLUSTERDOWN The cluster is down and only accepts read commands\r\n"
            ),
        };
    }
}

impl Routing {
    /// The table of a node that knows nothing yet: no slot is served, the cluster is down.
    pub fn empty(me: NodeId) -> Routing {
        Routing::new(me, Vec::new(), std::iter::empty())
    }

    /// A table of these endpoints (at most 65535) and, for each slot that is owned, the place of its owner among them.
    /// The other fields are those of [`Routing::empty`], for the caller to fill in.
    pub fn new(
        me: NodeId,
        endpoints: Vec<Endpoint>,
        owned: impl IntoIterator<Item = (u16, usize)>,
    ) -> Routing {
        let mut owners = vec![NO_OWNER; usize::from(SLOTS)].into_boxed_slice();
        for (slot, endpoint) in owned {
            if let (Some(owner), true) = (
                owners.get_mut(usize::from(slot)),
                endpoint < endpoints.len(),
            ) {
                *owner = u16::try_from(endpoint).unwrap_or(NO_OWNER);
            }
        }
        Routing {
            version: 0,
            me,
            role: MyRole::Primary,
            primary: None,
            shard: BTreeSet::from([me]),
            state_ok: false,
            reads_when_down: false,
            pubsubshard_when_down: true,
            migrating: BTreeMap::new(),
            importing: BTreeMap::new(),
            endpoints,
            owners,
        }
    }

    /// Whether a slot belongs to another shard.
    pub fn is_elsewhere(&self, slot: u16) -> bool {
        self.owner(slot)
            .is_some_and(|owner| !self.shard.contains(&owner.node))
    }

    /// The last slots of the runs of slots that one node owns, in order.
    pub fn run_ends(&self) -> Vec<u16> {
        let ends = self
            .owners
            .windows(2)
            .zip(0..)
            .filter(|(w, _)| w[0] != w[1]);
        ends.map(|(_, slot)| slot).chain([SLOTS - 1]).collect()
    }

    /// The owner of a slot, as far as the bus knows.
    pub fn owner(&self, slot: u16) -> Option<&Endpoint> {
        self.endpoints
            .get(usize::from(*self.owners.get(usize::from(slot))?))
    }

    /// Where clients reach `node`, if it may be named to them.
    pub fn endpoint(&self, node: &NodeId) -> Option<&Endpoint> {
        self.endpoints
            .iter()
            .find(|endpoint| endpoint.node == *node)
    }

    /// Every node that may be named to clients.
    pub fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }

    /// The slots that the table gives to `node`.
    pub fn slots_of(&self, node: &NodeId) -> SlotSet {
        (0..SLOTS)
            .filter(|slot| self.owner(*slot).is_some_and(|owner| owner.node == *node))
            .collect()
    }

    /// Decides who answers a command, in Valkey's order of checks.
    ///
    /// `presence` counts the command's keys and is called only while the slot is migrating or importing.
    pub fn route(&self, query: &Query, presence: impl FnOnce() -> KeyPresence) -> Route<'_> {
        if query.crossslot {
            return Route::CrossSlot;
        }
        let Some(slot) = query.slot else {
            return Route::Here;
        };
        let owner = self.owner(slot);
        let listed_mine = owner.is_some_and(|owner| owner.node == self.me);
        let mine = query.owned.unwrap_or(listed_mine) && self.role == MyRole::Primary;
        if owner.is_none() && !mine {
            return Route::Unbound;
        }
        let primarys = self.role == MyRole::Replica
            && owner.is_some_and(|owner| Some(owner.node) == self.primary);

        // Open slots matter to the primary, and to a replica that serves reads in its stead.
        let looks = self.role == MyRole::Primary || query.readonly;
        let migrating_to = self
            .migrating
            .get(&slot)
            .filter(|_| looks && (mine || primarys));
        let importing = migrating_to.is_none() && looks && self.importing.contains_key(&slot);

        if !self.state_ok {
            if query.shard_pubsub {
                if !self.pubsubshard_when_down {
                    return Route::Down;
                }
            } else if !self.reads_when_down {
                return Route::Down;
            } else if query.write {
                return Route::DownReadOnly;
            }
        }
        if migrating_to.is_some() || importing {
            if query.migrate && self.role == MyRole::Primary {
                return Route::Here;
            }
            // A shard channel has no presence: it is served by the source until the slot has moved.
            let keys = if query.shard_pubsub {
                KeyPresence::default()
            } else {
                presence()
            };
            if let Some(target) = migrating_to
                && keys.missing > 0
            {
                return if keys.existing > 0 {
                    Route::TryAgain
                } else {
                    Route::Ask(slot, target)
                };
            }
            if importing && query.asking {
                return if keys.several && keys.missing > 0 {
                    Route::TryAgain
                } else {
                    Route::Here
                };
            }
        }
        if mine || ((query.readonly || query.shard_pubsub) && !query.write && primarys) {
            return Route::Here;
        }
        match owner {
            Some(owner) if owner.node != self.me => Route::Moved(slot, owner),
            // The shard's log has given the slot away and the bus has not yet heard who has it.
            Some(_) => Route::TryAgain,
            None => Route::Unbound,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u8) -> NodeId {
        NodeId::from_bytes([n; 20])
    }

    fn end(n: u8) -> Endpoint {
        Endpoint {
            node: id(n),
            host: "10.0.0.1".into(),
            port: 7000 + u16::from(n),
            tls_port: 8000 + u16::from(n),
        }
    }

    /// Nodes 1 (me, slots 0–99) and 2 (slots 100–199); the rest is nobody's.
    fn table() -> Routing {
        let owned = (0..100).map(|s| (s, 0)).chain((100..200).map(|s| (s, 1)));
        let mut routing = Routing::new(id(1), vec![end(1), end(2)], owned);
        routing.state_ok = true;
        routing
    }

    fn check(routing: &Routing, query: Query, keys: KeyPresence, expect: &str) {
        let mut reply = Vec::new();
        routing
            .route(&query, || keys)
            .write_error(false, &mut reply);
        assert_eq!(String::from_utf8_lossy(&reply).trim_end(), expect);
    }

    fn slot(n: u16) -> Query {
        Query {
            slot: Some(n),
            ..Query::default()
        }
    }

    const ALL: KeyPresence = KeyPresence {
        existing: 1,
        missing: 0,
        several: false,
    };
    const NONE: KeyPresence = KeyPresence {
        existing: 0,
        missing: 1,
        several: false,
    };
    const SOME: KeyPresence = KeyPresence {
        existing: 1,
        missing: 1,
        several: true,
    };

    #[test]
    fn stable() {
        let mut routing = table();
        check(&routing, Query::default(), NONE, "");
        check(&routing, slot(7), NONE, "");
        check(&routing, slot(150), NONE, "-MOVED 150 10.0.0.1:7002");
        check(
            &routing,
            slot(500),
            NONE,
            "-CLUSTERDOWN Hash slot not served",
        );
        check(
            &routing,
            Query {
                crossslot: true,
                ..slot(7)
            },
            NONE,
            "-CROSSSLOT Keys in request don't hash to the same slot",
        );
        routing.state_ok = false;
        check(&routing, slot(7), NONE, "-CLUSTERDOWN The cluster is down");
        check(
            &routing,
            Query {
                shard_pubsub: true,
                ..slot(7)
            },
            NONE,
            "",
        );
        routing.reads_when_down = true;
        check(&routing, slot(7), NONE, "");
        check(
            &routing,
            Query {
                write: true,
                ..slot(7)
            },
            NONE,
            "-CLUSTERDOWN The cluster is down and only accepts read commands",
        );
    }

    #[test]
    fn open_slots() {
        let mut routing = table();
        routing.migrating.insert(7, end(2));
        routing.importing.insert(150, id(2));
        check(&routing, slot(7), ALL, "");
        check(&routing, slot(7), NONE, "-ASK 7 10.0.0.1:7002");
        check(
            &routing,
            slot(7),
            SOME,
            "-TRYAGAIN Multiple keys request during rehashing of slot",
        );
        check(
            &routing,
            Query {
                migrate: true,
                ..slot(7)
            },
            NONE,
            "",
        );
        check(&routing, slot(150), ALL, "-MOVED 150 10.0.0.1:7002");
        check(
            &routing,
            Query {
                asking: true,
                ..slot(150)
            },
            NONE,
            "",
        );
        check(
            &routing,
            Query {
                asking: true,
                ..slot(150)
            },
            SOME,
            "-TRYAGAIN Multiple keys request during rehashing of slot",
        );
    }

    #[test]
    fn replica_serves_reads_when_asked_to() {
        let mut routing = table();
        routing.role = MyRole::Replica;
        routing.primary = Some(id(2));
        check(&routing, slot(150), ALL, "-MOVED 150 10.0.0.1:7002");
        check(
            &routing,
            Query {
                readonly: true,
                ..slot(150)
            },
            ALL,
            "",
        );
        check(
            &routing,
            Query {
                readonly: true,
                write: true,
                ..slot(150)
            },
            ALL,
            "-MOVED 150 10.0.0.1:7002",
        );
    }

    #[test]
    fn the_shards_log_overrules_the_table() {
        let routing = table();
        check(
            &routing,
            Query {
                owned: Some(false),
                ..slot(7)
            },
            ALL,
            "-TRYAGAIN Multiple keys request during rehashing of slot",
        );
        check(
            &routing,
            Query {
                owned: Some(true),
                ..slot(150)
            },
            ALL,
            "",
        );
        check(
            &routing,
            Query {
                owned: Some(true),
                ..slot(500)
            },
            ALL,
            "",
        );
    }
}
