//! Which subcommand it is, and who takes it.

use super::{ShardControl, ShardError, ShardRequest, Token, help, replies};
use bytes::Bytes;
use holdfast_cluster_bus::{Bus, NodeId, Now, ShardId, SlotSet};
use holdfast_resp::{Proto, write};
use std::collections::BTreeMap;

/// `cluster-preferred-endpoint-type`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum EndpointType {
    /// `ip`.
    #[default]
    Ip,
    /// `hostname`; nodes without one are shown as `?`.
    Hostname,
    /// `unknown-endpoint`: clients use the address that they are connected to.
    Unknown,
}

/// Settings that what clients are told depends on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ClusterOptions {
    /// `cluster-preferred-endpoint-type`.
    pub endpoint: EndpointType,
    /// `cluster-allow-reads-when-down`.
    pub reads_when_down: bool,
    /// `cluster-allow-pubsubshard-when-down`.
    pub pubsubshard_when_down: bool,
}

impl Default for ClusterOptions {
    fn default() -> Self {
        ClusterOptions {
            endpoint: EndpointType::Ip,
            reads_when_down: false,
            pubsubshard_when_down: true,
        }
    }
}

/// A forwarded command, with what the executor knows.
#[derive(Clone, Debug)]
pub struct Call<'a> {
    /// `CLUSTER`, the subcommand, its arguments.
    pub argv: &'a [Bytes],
    /// The client's protocol.
    pub proto: Proto,
    /// No database holds a key: for `FLUSHSLOTS`, `REPLICATE`, `RESET`.
    pub keyspace_empty: bool,
    /// Keys in the slot that `SETSLOT` names ([`ClusterCtl::setslot_slot`]), over all databases; 0 otherwise.
    pub keys_in_slot: u64,
    /// The client uses TLS.
    pub tls: bool,
    /// The clocks.
    pub now: Now,
}

/// What became of a command.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The reply is written.
    Done,
    /// The reply comes from [`ClusterCtl::complete`] or [`ClusterCtl::on_tick`], under this token. The client waits.
    Pending(Token),
    /// Write `nodes.conf` now ([`crate::bus::BusNode::save_conf`]) and reply with [`ClusterCtl::saved`].
    SaveConf,
}

/// A reply that was waited for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Completed {
    /// Whose.
    pub token: Token,
    /// The encoded reply.
    pub reply: Vec<u8>,
}

/// What to do when the shard has answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Then {
    /// Reply OK; the shard's news comes by `Bus::set_self`.
    Ok,
    /// Nobody waits for it.
    Log(&'static str),
    /// Forget the node.
    Forget(NodeId),
    /// Start anew on the bus.
    Reset(Option<NodeId>, ShardId),
    /// Slots of other nodes are dropped from our view.
    DelSlots(SlotSet),
    /// Slots open, for our view.
    Migrating(u16, NodeId),
    /// As before.
    Importing(u16, NodeId),
    /// As before.
    Stable(u16),
    /// We have given the slot to this node.
    Given(u16, NodeId),
}

/// A `REPLICATE` that waits for the primary to tell where its Raft server is.
#[derive(Clone, Debug)]
pub(super) struct Introduction {
    pub token: Token,
    pub primary: NodeId,
    pub until_ms: u64,
}

/// The CLUSTER commands' state: what is pending.
#[derive(Debug, Default)]
pub struct ClusterCtl {
    /// Settings; may be changed at any time.
    pub options: ClusterOptions,
    last_token: u64,
    pub(super) pending: BTreeMap<Token, Then>,
    pub(super) introductions: Vec<Introduction>,
}

/// Subcommands and their arity as in Valkey's tables: the number of words, or if negative the least number.
const ARITIES: [(&str, i64); 28] = [
    ("addslots", -3),
    ("addslotsrange", -4),
    ("bumpepoch", 2),
    ("count-failure-reports", 3),
    ("delslots", -3),
    ("delslotsrange", -4),
    ("failover", -2),
    ("flushslots", 2),
    ("forget", 3),
    ("help", 2),
    ("info", 2),
    ("links", 2),
    ("meet", -4),
    ("myid", 2),
    ("myshardid", 2),
    ("nodes", 2),
    ("replicas", 3),
    ("replicate", -3),
    ("reset", -2),
    ("saveconfig", 2),
    ("set-config-epoch", 3),
    ("setslot", -4),
    ("shards", 2),
    ("slaves", 3),
    ("slots", 2),
    // Answered by the executor; listed so that a wrong number of words is told in the same way.
    ("keyslot", 3),
    ("countkeysinslot", 3),
    ("getkeysinslot", 4),
];

pub(super) fn error(reply: &mut Vec<u8>, text: impl std::fmt::Display) {
    write::error(reply, format!("ERR {text}").as_bytes());
}

/// An integer as Valkey's `string2ll` takes it: no blanks, no plus sign, no leading zeros.
pub(super) fn integer(arg: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(arg).ok()?;
    let value: i64 = text.parse().ok()?;
    (value.to_string() == text).then_some(value)
}

pub(super) fn text(arg: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(arg)
}

impl ClusterCtl {
    /// Nothing pending.
    pub fn new(options: ClusterOptions) -> ClusterCtl {
        ClusterCtl {
            options,
            ..ClusterCtl::default()
        }
    }

    pub(super) fn new_token(&mut self) -> Token {
        self.last_token += 1;
        Token(self.last_token)
    }

    /// The slot that a `SETSLOT` names, if it names one: whose keys the executor is to count for [`Call::keys_in_slot`].
    pub fn setslot_slot(argv: &[Bytes]) -> Option<u16> {
        let (subcommand, slot) = (argv.get(1)?, argv.get(2)?);
        let slot = u16::try_from(integer(slot)?).ok()?;
        (subcommand.eq_ignore_ascii_case(b"setslot") && slot < holdfast_cluster_bus::SLOTS)
            .then_some(slot)
    }

    /// Runs a CLUSTER command.
    pub fn command(
        &mut self,
        bus: &mut Bus,
        shard: &mut dyn ShardControl,
        call: &Call<'_>,
        reply: &mut Vec<u8>,
    ) -> Outcome {
        let Some(name) = call.argv.get(1) else {
            write::error(
                reply,
                b"ERR wrong number of arguments for 'cluster' command",
            );
            return Outcome::Done;
        };
        let name = text(name).to_ascii_lowercase();
        let words = call.argv.len() as i64;
        match ARITIES.iter().find(|(known, _)| *known == name) {
            None => {
                let shown: String = text(&call.argv[1]).chars().take(128).collect();
                error(
                    reply,
                    format_args!("unknown subcommand '{shown}'. Try CLUSTER HELP."),
                );
                return Outcome::Done;
            }
            Some((_, arity)) if (*arity >= 0 && words != *arity) || words < -arity => {
                error(
                    reply,
                    format_args!("wrong number of arguments for 'cluster|{name}' command"),
                );
                return Outcome::Done;
            }
            Some(_) => {}
        }
        let args = call.argv.get(2..).unwrap_or_default();
        match name.as_str() {
            "help" => help::reply(reply),
            "nodes" => write::verbatim(
                reply,
                call.proto,
                b"txt",
                bus.describe_all(call.tls, call.now).as_bytes(),
            ),
            "info" => write::verbatim(reply, call.proto, b"txt", bus.info().as_bytes()),
            "myid" => write::bulk(reply, bus.my_id().as_bytes()),
            "myshardid" => write::bulk(reply, bus.my_shard().as_bytes()),
            "slots" => replies::slots(bus, &self.options, call.tls, call.proto, reply),
            "shards" => replies::shards(bus, &self.options, call.proto, reply),
            "links" => replies::links(bus, call.proto, reply),
            "replicas" | "slaves" => replies::replicas(bus, args, call.tls, call.now, reply),
            "count-failure-reports" => replies::count_failure_reports(bus, args, call.now, reply),
            "saveconfig" => return Outcome::SaveConf,
            "meet" => self.meet(bus, args, call.now, reply),
            "bumpepoch" => {
                let (epoch, new) = bus.bump_epoch();
                write::simple(
                    reply,
                    &format!("{} {epoch}", if new { "BUMPED" } else { "STILL" }),
                );
            }
            "set-config-epoch" => self.set_config_epoch(bus, args, reply),
            "addslots" | "delslots" | "addslotsrange" | "delslotsrange" => {
                return self.change_slots(bus, shard, &name, call, reply);
            }
            "flushslots" => return self.flush_slots(bus, shard, call, reply),
            "setslot" => return self.setslot(bus, shard, call, reply),
            "forget" => return self.forget(bus, shard, args, call.now, reply),
            "replicate" => return self.replicate(bus, shard, call, reply),
            "failover" => return self.failover(bus, shard, args, reply),
            "reset" => return self.reset(bus, shard, call, reply),
            // The executor's own; it does not forward them.
            _ => error(
                reply,
                format_args!("unknown subcommand '{name}'. Try CLUSTER HELP."),
            ),
        }
        Outcome::Done
    }

    /// The reply to `SAVECONFIG`.
    pub fn saved(result: std::io::Result<()>, reply: &mut Vec<u8>) {
        match result {
            Ok(()) => write::ok(reply),
            Err(cause) => error(
                reply,
                format_args!("error saving the cluster node config: {cause}"),
            ),
        }
    }

    /// Asks the shard; what follows on its answer is `then`.
    pub(super) fn ask(
        &mut self,
        shard: &mut dyn ShardControl,
        request: ShardRequest,
        then: Then,
        reply: &mut Vec<u8>,
    ) -> Outcome {
        let token = self.new_token();
        match shard.request(token, request) {
            Ok(()) => {
                self.pending.insert(token, then);
                Outcome::Pending(token)
            }
            Err(refused) => {
                refusal(&refused, reply);
                Outcome::Done
            }
        }
    }

    /// The shard has answered a request. Returns the reply, if a client waits for it.
    pub fn complete(
        &mut self,
        bus: &mut Bus,
        token: Token,
        result: Result<(), ShardError>,
        now: Now,
    ) -> Option<Completed> {
        let then = self.pending.remove(&token)?;
        let mut reply = Vec::new();
        if let Then::Log(what) = then {
            match result {
                Ok(()) => tracing::info!("{what} succeeded"),
                Err(cause) => tracing::warn!("{what} failed: {cause}"),
            }
            return None;
        }
        match result {
            Err(cause) => refusal(&cause, &mut reply),
            Ok(()) => {
                match then {
                    Then::Ok | Then::Log(_) => {}
                    // It may be gone by now, which is what was asked for.
                    Then::Forget(node) => drop(bus.forget(&node, now)),
                    Then::Reset(id, shard) => bus.reset(id, shard, now),
                    Then::DelSlots(slots) => bus.del_slots(&slots),
                    Then::Migrating(slot, to) => drop(bus.set_migrating(slot, &to)),
                    Then::Importing(slot, from) => drop(bus.set_importing(slot, &from)),
                    Then::Stable(slot) => bus.set_stable(slot),
                    Then::Given(slot, to) => bus.hand_over(&[slot].into_iter().collect(), &to),
                }
                write::ok(&mut reply);
            }
        }
        Some(Completed { token, reply })
    }
}

pub(super) fn refusal(cause: &ShardError, reply: &mut Vec<u8>) {
    match cause {
        // The error has a code of its own: a client must not take it for a refusal.
        ShardError::Uncertain(_) => write::error(reply, cause.to_string().as_bytes()),
        ShardError::Refused(_) | ShardError::NotLeader => error(reply, cause),
    }
}
