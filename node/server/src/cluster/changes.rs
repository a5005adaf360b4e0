//! CLUSTER commands that change something.

use super::command::{Introduction, Then, error, integer, refusal, text};
use super::{Call, ClusterCtl, Completed, Outcome, ShardControl, ShardRequest};
use bytes::Bytes;
use holdfast_cluster_bus::{
    Bus, EpochError, ForgetError, MeetError, NodeId, NodeView, Now, SLOTS, SlotError, SlotSet,
};
use holdfast_resp::write;
use tracing::info;

/// How long `REPLICATE` waits for a primary that is known, but not yet where its Raft server listens.
const INTRODUCTION_MS: u64 = 5000;
/// From the clients' port to the bus port, unless it is given.
const BUS_PORT_OFFSET: i64 = 10_000;

fn slot_of(arg: &[u8]) -> Option<u16> {
    integer(arg)
        .and_then(|slot| u16::try_from(slot).ok())
        .filter(|slot| *slot < SLOTS)
}

fn lookup(bus: &Bus, name: &[u8]) -> Option<NodeView> {
    NodeId::parse(name).ok().and_then(|id| bus.node(&id))
}

fn done(reply: &mut Vec<u8>) -> Outcome {
    write::ok(reply);
    Outcome::Done
}

fn fail(reply: &mut Vec<u8>, text: impl std::fmt::Display) -> Outcome {
    error(reply, text);
    Outcome::Done
}

impl ClusterCtl {
    pub(super) fn meet(&mut self, bus: &mut Bus, args: &[Bytes], now: Now, reply: &mut Vec<u8>) {
        let [ip, port, rest @ ..] = args else {
            return;
        };
        let in_range = |port: i64| u16::try_from(port).ok().filter(|port| *port != 0);
        let Some(base) = integer(port) else {
            return error(
                reply,
                format_args!("Invalid base port specified: {}", text(port)),
            );
        };
        let Some(port_number) = in_range(base) else {
            return error(reply, "Port number is out of range");
        };
        let bus_port = match rest {
            [] => base + BUS_PORT_OFFSET,
            [bus_port] => match integer(bus_port) {
                Some(bus_port) => bus_port,
                None => {
                    return error(
                        reply,
                        format_args!("Invalid bus port specified: {}", text(bus_port)),
                    );
                }
            },
            _ => {
                return error(
                    reply,
                    "unknown subcommand or wrong number of arguments for 'meet'. Try CLUSTER HELP.",
                );
            }
        };
        let Some(bus_port) = in_range(bus_port) else {
            return error(reply, "Cluster bus port number is out of range");
        };
        match bus.meet(&text(ip), port_number, bus_port, now) {
            Ok(()) => write::ok(reply),
            Err(MeetError::BadAddress) => {
                error(
                    reply,
                    format_args!(
                        "Invalid node address specified: {}:{}",
                        text(ip),
                        text(port)
                    ),
                );
            }
            Err(MeetError::Full) => {
                error(reply, "Too many nodes, or too many handshakes at one time")
            }
        }
    }

    pub(super) fn set_config_epoch(&mut self, bus: &mut Bus, args: &[Bytes], reply: &mut Vec<u8>) {
        let Some(epoch) = args.first().and_then(|arg| integer(arg)) else {
            return error(reply, "value is not an integer or out of range");
        };
        let Ok(epoch) = u64::try_from(epoch) else {
            return error(
                reply,
                format_args!("Invalid config epoch specified: {epoch}"),
            );
        };
        match bus.set_config_epoch(epoch) {
            Ok(()) => write::ok(reply),
            Err(EpochError::NotAlone) => {
                error(
                    reply,
                    "The user can assign a config epoch only when the node does not know any other node.",
                );
            }
            Err(EpochError::NotZero) => error(reply, "Node config epoch is already non-zero"),
        }
    }

    /// `ADDSLOTS`, `DELSLOTS`, `ADDSLOTSRANGE`, `DELSLOTSRANGE`.
    pub(super) fn change_slots(
        &mut self,
        bus: &mut Bus,
        shard: &mut dyn ShardControl,
        name: &str,
        call: &Call<'_>,
        reply: &mut Vec<u8>,
    ) -> Outcome {
        let args = call.argv.get(2..).unwrap_or_default();
        let del = name.starts_with("del");
        let by_range = name.ends_with("range");
        if by_range && args.len() % 2 == 1 {
            return fail(reply, "wrong number of arguments for 'cluster' command");
        }
        let mut slots = SlotSet::new();
        let mut add = |start: u16, end: u16| -> Result<(), String> {
            for slot in start..=end {
                let one: SlotSet = [slot].into_iter().collect();
                let checked = if del {
                    bus.check_assigned(&one)
                } else {
                    bus.check_unassigned(&one)
                };
                match checked {
                    Err(SlotError::Busy(slot)) => {
                        return Err(format!("Slot {slot} is already busy"));
                    }
                    Err(SlotError::Unassigned(slot)) => {
                        return Err(format!("Slot {slot} is already unassigned"));
                    }
                    Ok(()) if !slots.insert(slot) => {
                        return Err(format!("Slot {slot} specified multiple times"));
                    }
                    Ok(()) => {}
                }
            }
            Ok(())
        };
        // Every argument is read before the first slot is looked at, except for ranges, which Valkey takes one by one.
        if !by_range && args.iter().any(|arg| slot_of(arg).is_none()) {
            return fail(reply, "Invalid or out of range slot");
        }
        for pair in args.chunks(if by_range { 2 } else { 1 }) {
            let bounds = (
                pair.first().and_then(|arg| slot_of(arg)),
                pair.last().and_then(|arg| slot_of(arg)),
            );
            let (Some(start), Some(end)) = bounds else {
                return fail(reply, "Invalid or out of range slot");
            };
            if start > end {
                return fail(
                    reply,
                    format_args!("start slot number {start} is greater than end slot number {end}"),
                );
            }
            if let Err(why) = add(start, end) {
                return fail(reply, why);
            }
        }
        if del {
            return self.drop_slots(bus, shard, slots, reply);
        }
        if shard.is_quorum() {
            return self.ask(shard, ShardRequest::OwnSlots(slots), Then::Ok, reply);
        }
        match bus.add_slots(&slots) {
            Ok(()) => done(reply),
            Err(SlotError::Busy(slot) | SlotError::Unassigned(slot)) => {
                fail(reply, format_args!("Slot {slot} is already busy"))
            }
        }
    }

    /// Slots of the own shard are given up in its log; of others, in our view only.
    fn drop_slots(
        &mut self,
        bus: &mut Bus,
        shard: &mut dyn ShardControl,
        slots: SlotSet,
        reply: &mut Vec<u8>,
    ) -> Outcome {
        let mine: SlotSet = slots
            .iter()
            .filter(|slot| bus.slot_owner(*slot) == Some(bus.my_id()))
            .collect();
        if shard.is_quorum() && !mine.is_empty() {
            return self.ask(
                shard,
                ShardRequest::DropSlots(mine),
                Then::DelSlots(slots),
                reply,
            );
        }
        bus.del_slots(&slots);
        done(reply)
    }

    pub(super) fn flush_slots(
        &mut self,
        bus: &mut Bus,
        shard: &mut dyn ShardControl,
        call: &Call<'_>,
        reply: &mut Vec<u8>,
    ) -> Outcome {
        if !call.keyspace_empty {
            return fail(reply, "DB must be empty to perform CLUSTER FLUSHSLOTS.");
        }
        let mine = bus.myself().slots;
        self.drop_slots(bus, shard, mine, reply)
    }

    pub(super) fn setslot(
        &mut self,
        bus: &mut Bus,
        shard: &mut dyn ShardControl,
        call: &Call<'_>,
        reply: &mut Vec<u8>,
    ) -> Outcome {
        let quorum = shard.is_quorum();
        let me = bus.myself();
        if me.replica || (quorum && !shard.is_leader() && !me.witness) {
            return fail(reply, "Please use SETSLOT only with masters.");
        }
        let args = call.argv.get(2..).unwrap_or_default();
        let [slot, action, rest @ ..] = args else {
            return fail(
                reply,
                "Invalid CLUSTER SETSLOT action or number of arguments. Try CLUSTER HELP",
            );
        };
        let Some(slot) = slot_of(slot) else {
            return fail(reply, "Invalid or out of range slot");
        };
        let owner = bus.slot_owner(slot);
        let mine = owner == Some(me.id);
        let action = text(action).to_ascii_lowercase();
        if me.witness {
            // Tools take a witness for a primary without slots, and tell every primary where a slot has gone.
            return match (action.as_str(), rest.first().map(|peer| lookup(bus, peer))) {
                ("stable", _) => done(reply),
                ("node", Some(Some(node))) if !node.replica && !node.myself => {
                    bus.assign_slot(slot, &node.id);
                    done(reply)
                }
                _ => fail(reply, "A witness holds no slots"),
            };
        }
        match (action.as_str(), rest.first()) {
            ("migrating" | "importing", Some(peer)) => {
                let migrating = action == "migrating";
                if migrating && !mine {
                    return fail(reply, format_args!("I'm not the owner of hash slot {slot}"));
                }
                if !migrating && mine {
                    return fail(
                        reply,
                        format_args!("I'm already the owner of hash slot {slot}"),
                    );
                }
                let Some(node) = lookup(bus, peer) else {
                    return fail(
                        reply,
                        format_args!("I don't know about node {}", text(peer)),
                    );
                };
                if node.myself {
                    return fail(reply, "Target node is myself");
                }
                if node.replica {
                    return fail(reply, "Target node is not a master");
                }
                let peer = node.id;
                match (quorum, migrating) {
                    (true, true) => {
                        let request = ShardRequest::SetMigrating { slot, to: peer };
                        return self.ask(shard, request, Then::Migrating(slot, peer), reply);
                    }
                    (true, false) => {
                        let request = ShardRequest::SetImporting { slot, from: peer };
                        return self.ask(shard, request, Then::Importing(slot, peer), reply);
                    }
                    (false, true) => drop(bus.set_migrating(slot, &peer)),
                    (false, false) => drop(bus.set_importing(slot, &peer)),
                }
                done(reply)
            }
            ("stable", _) if quorum => self.ask(
                shard,
                ShardRequest::SetStable(slot),
                Then::Stable(slot),
                reply,
            ),
            ("stable", _) => {
                bus.set_stable(slot);
                done(reply)
            }
            ("node", Some(peer)) => {
                let Some(node) = lookup(bus, peer) else {
                    return fail(reply, format_args!("Unknown node {}", text(peer)));
                };
                if node.replica {
                    return fail(reply, "Target node is not a master");
                }
                if mine && !node.myself && call.keys_in_slot != 0 {
                    let why = "to a different node while I still hold keys for this hash slot.";
                    return fail(reply, format_args!("Can't assign hashslot {slot} {why}"));
                }
                if quorum && node.myself && !mine {
                    return self.ask(
                        shard,
                        ShardRequest::TakeSlot { slot, from: owner },
                        Then::Stable(slot),
                        reply,
                    );
                }
                if quorum && !node.myself && mine {
                    let request = ShardRequest::GiveSlot { slot, to: node.id };
                    return self.ask(shard, request, Then::Given(slot, node.id), reply);
                }
                if quorum && node.myself {
                    return self.ask(
                        shard,
                        ShardRequest::SetStable(slot),
                        Then::Stable(slot),
                        reply,
                    );
                }
                bus.assign_slot(slot, &node.id);
                done(reply)
            }
            _ => fail(
                reply,
                "Invalid CLUSTER SETSLOT action or number of arguments. Try CLUSTER HELP",
            ),
        }
    }

    pub(super) fn forget(
        &mut self,
        bus: &mut Bus,
        shard: &mut dyn ShardControl,
        args: &[Bytes],
        now: Now,
        reply: &mut Vec<u8>,
    ) -> Outcome {
        let name = args.first().map(|arg| &arg[..]).unwrap_or_default();
        let unknown = || format!("Unknown node {}", text(name));
        let Ok(id) = NodeId::parse(name) else {
            return fail(reply, unknown());
        };
        match bus.can_forget(&id, now) {
            Err(ForgetError::Unknown) => return fail(reply, unknown()),
            Err(ForgetError::Myself) => {
                return fail(reply, "I tried hard but I can't forget myself...");
            }
            Err(ForgetError::MyPrimary) => return fail(reply, "Can't forget my master!"),
            Ok(()) => {}
        }
        // Witnesses are members, too, although the bus sees them outside of the shard: the shard knows whether it is one.
        // Also if the bus has forgotten the node by another's word already: that says nothing about the membership.
        if shard.is_quorum() {
            return self.ask(
                shard,
                ShardRequest::RemoveMember(id),
                Then::Forget(id),
                reply,
            );
        }
        match bus.forget(&id, now) {
            Ok(()) => done(reply),
            Err(_) => fail(reply, unknown()),
        }
    }

    pub(super) fn replicate(
        &mut self,
        bus: &mut Bus,
        shard: &mut dyn ShardControl,
        call: &Call<'_>,
        reply: &mut Vec<u8>,
    ) -> Outcome {
        let args = call.argv.get(2..).unwrap_or_default();
        let me = bus.myself();
        let name = match args {
            [no, one] if no.eq_ignore_ascii_case(b"no") && one.eq_ignore_ascii_case(b"one") => {
                if !me.replica {
                    return done(reply);
                }
                let request = ShardRequest::LeaveAndReset {
                    node: me.id,
                    shard: bus.new_shard_id(),
                };
                return self.ask(shard, request, Then::Ok, reply);
            }
            [name] => name,
            _ => {
                let why = "unknown subcommand or wrong number of arguments for 'replicate'. Try CLUSTER HELP.";
                return fail(reply, why);
            }
        };
        let Some(node) = lookup(bus, name) else {
            return fail(reply, format_args!("Unknown node {}", text(name)));
        };
        if node.myself {
            return fail(reply, "Can't replicate myself");
        }
        if node.replica {
            return fail(reply, "I can only replicate a master, not a replica.");
        }
        if !me.replica && !me.witness && (!me.slots.is_empty() || !call.keyspace_empty) {
            return fail(
                reply,
                "To set a master the node must be empty and without assigned slots.",
            );
        }
        if !shard.is_quorum() {
            let why = "CLUSTER REPLICATE needs 'durability quorum': there are no replicas under 'durability async' yet";
            return fail(reply, why);
        }
        if node.witness {
            return fail(
                reply,
                format_args!("Node {} is a witness and leads no shard", node.id),
            );
        }
        if let Some(request) = introduction(&node) {
            return self.ask(shard, request, Then::Ok, reply);
        }
        // Right after a MEET a node is known, but has not told all of itself.
        let token = self.new_token();
        self.introductions.push(Introduction {
            token,
            primary: node.id,
            until_ms: call.now.mono_ms + INTRODUCTION_MS,
        });
        Outcome::Pending(token)
    }

    /// Looks after what waits; to be called with every tick of the bus.
    pub fn on_tick(&mut self, bus: &Bus, shard: &mut dyn ShardControl, now: Now) -> Vec<Completed> {
        let mut completed = Vec::new();
        for waiting in std::mem::take(&mut self.introductions) {
            let Introduction {
                token,
                primary,
                until_ms,
            } = waiting;
            let node = bus.node(&primary);
            let mut reply = Vec::new();
            match node.as_ref().map(introduction) {
                None => error(&mut reply, format_args!("Unknown node {primary}")),
                Some(Some(request)) => match shard.request(token, request) {
                    Ok(()) => {
                        self.pending.insert(token, Then::Ok);
                        continue;
                    }
                    Err(refused) => refusal(&refused, &mut reply),
                },
                Some(None) if now.mono_ms < until_ms => {
                    self.introductions.push(Introduction {
                        token,
                        primary,
                        until_ms,
                    });
                    continue;
                }
                Some(None) => {
                    let why =
                        "is not a Holdfast node under 'durability quorum', or cannot be reached";
                    error(&mut reply, format_args!("Node {primary} {why}"));
                }
            }
            completed.push(Completed { token, reply });
        }
        completed
    }

    pub(super) fn failover(
        &mut self,
        bus: &mut Bus,
        shard: &mut dyn ShardControl,
        args: &[Bytes],
        reply: &mut Vec<u8>,
    ) -> Outcome {
        let (mut force, mut takeover) = (false, false);
        for arg in args {
            if arg.eq_ignore_ascii_case(b"force") {
                force = true;
            } else if arg.eq_ignore_ascii_case(b"takeover") {
                takeover = true;
            } else {
                return fail(reply, "syntax error");
            }
        }
        let me = bus.myself();
        if !me.replica || shard.is_leader() {
            return fail(reply, "You should send CLUSTER FAILOVER to a replica");
        }
        if takeover {
            // It would promote without a majority: an acknowledged write could be lost.
            return fail(
                reply,
                "CLUSTER FAILOVER TAKEOVER is not possible in a shard under 'durability quorum'",
            );
        }
        let Some(primary) = me.primary.and_then(|primary| bus.node(&primary)) else {
            return fail(reply, "I'm a replica but my master is unknown to me");
        };
        if !force && (primary.failed || !primary.connected) {
            return fail(
                reply,
                "Master is down or failed, please use CLUSTER FAILOVER FORCE",
            );
        }
        // Valkey replies when the failover has begun, not when it is over; tools then watch the roles.
        let token = self.new_token();
        match shard.request(token, ShardRequest::TakeLeadership { force }) {
            Ok(()) => {
                info!("Manual failover user request accepted.");
                self.pending.insert(token, Then::Log("Manual failover"));
                done(reply)
            }
            Err(refused) => {
                refusal(&refused, reply);
                Outcome::Done
            }
        }
    }

    pub(super) fn reset(
        &mut self,
        bus: &mut Bus,
        shard: &mut dyn ShardControl,
        call: &Call<'_>,
        reply: &mut Vec<u8>,
    ) -> Outcome {
        let hard = match call.argv.get(2..).unwrap_or_default() {
            [] => false,
            [how] if how.eq_ignore_ascii_case(b"soft") => false,
            [how] if how.eq_ignore_ascii_case(b"hard") => true,
            _ => return fail(reply, "syntax error"),
        };
        if !bus.myself().replica && !call.keyspace_empty {
            return fail(
                reply,
                "CLUSTER RESET can't be called with master nodes containing keys",
            );
        }
        let id = hard.then(|| bus.new_node_id());
        let new_shard = bus.new_shard_id();
        if shard.is_quorum() {
            let request = ShardRequest::LeaveAndReset {
                node: id.unwrap_or(bus.my_id()),
                shard: new_shard,
            };
            return self.ask(shard, request, Then::Reset(id, new_shard), reply);
        }
        bus.reset(id, new_shard, call.now);
        done(reply)
    }
}

/// The request to join a primary's shard, once the primary has told what it takes.
fn introduction(primary: &NodeView) -> Option<ShardRequest> {
    let raft_addr = primary.raft_addr.clone().filter(|_| primary.quorum)?;
    Some(ShardRequest::Join {
        shard: primary.shard,
        primary: primary.id,
        raft_addr,
    })
}
