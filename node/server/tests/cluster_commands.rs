//! The CLUSTER commands' replies, and what they ask of the shard.

use bytes::Bytes;
use holdfast_cluster_bus::{Bus, BusConfig, NodeId, Now, ShardId, ShardRole, ShardTruth, SlotSet};
use holdfast_resp::Proto;
use holdfast_server::cluster::{
    AsyncShard, Call, ClusterCtl, ClusterOptions, EndpointType, Outcome, ShardControl, ShardError,
    ShardRequest, Token, routing_of,
};
use holdfast_server::routing::MyRole;

const NOW: Now = Now {
    mono_ms: 1_000_000,
    unix_ms: 1_700_000_000_000,
};

/// A shard that notes what it is asked.
struct Noted {
    leads: bool,
    asked: Vec<(Token, ShardRequest)>,
}

impl ShardControl for Noted {
    fn is_quorum(&self) -> bool {
        true
    }
    fn is_leader(&self) -> bool {
        self.leads
    }
    fn request(&mut self, token: Token, request: ShardRequest) -> Result<(), ShardError> {
        self.asked.push((token, request));
        Ok(())
    }
}

fn name(n: u8) -> NodeId {
    NodeId::from_bytes([n; 20])
}

fn bus(quorum: bool) -> Bus {
    let cfg = BusConfig {
        quorum,
        announce_ip: "10.0.0.1".into(),
        port: 7000,
        bus_port: 17000,
        ..BusConfig::default()
    };
    Bus::new(cfg, name(1), ShardId::from_bytes([0x51; 20]), 7, NOW)
}

struct Setup {
    bus: Bus,
    ctl: ClusterCtl,
    shard: Box<dyn ShardControl>,
    empty: bool,
    keys: u64,
}

fn setup() -> Setup {
    Setup {
        bus: bus(false),
        ctl: ClusterCtl::default(),
        shard: Box::new(AsyncShard),
        empty: true,
        keys: 0,
    }
}

impl Setup {
    fn run(&mut self, words: &str) -> (Outcome, String) {
        self.run_as(words, Proto::Resp2)
    }

    fn run_as(&mut self, words: &str, proto: Proto) -> (Outcome, String) {
        let argv: Vec<Bytes> = format!("CLUSTER {words}")
            .split(' ')
            .map(|word| Bytes::from(word.to_owned()))
            .collect();
        let call = Call {
            argv: &argv,
            proto,
            keyspace_empty: self.empty,
            keys_in_slot: self.keys,
            tls: false,
            now: NOW,
        };
        let mut reply = Vec::new();
        let outcome = self
            .ctl
            .command(&mut self.bus, &mut *self.shard, &call, &mut reply);
        (outcome, String::from_utf8_lossy(&reply).into_owned())
    }

    #[track_caller]
    fn check(&mut self, words: &str, expect: &str) {
        let (outcome, reply) = self.run(words);
        assert_eq!(
            (outcome, reply.trim_end()),
            (Outcome::Done, expect),
            "{words}"
        );
    }
}

#[test]
fn errors_in_valkeys_words() {
    let mut s = setup();
    let other = name(2);
    for (words, expect) in [
        (
            "NOSUCH",
            "-ERR unknown subcommand 'NOSUCH'. Try CLUSTER HELP.",
        ),
        (
            "MEET 1.2.3.4",
            "-ERR wrong number of arguments for 'cluster|meet' command",
        ),
        (
            "NODES now",
            "-ERR wrong number of arguments for 'cluster|nodes' command",
        ),
        ("MEET 1.2.3.4 x", "-ERR Invalid base port specified: x"),
        ("MEET 1.2.3.4 0", "-ERR Port number is out of range"),
        (
            "MEET 1.2.3.4 60000",
            "-ERR Cluster bus port number is out of range",
        ),
        ("MEET 1.2.3.4 7000 y", "-ERR Invalid bus port specified: y"),
        (
            "MEET nowhere 7000",
            "-ERR Invalid node address specified: nowhere:7000",
        ),
        ("ADDSLOTS 16384", "-ERR Invalid or out of range slot"),
        ("ADDSLOTS 5 5", "-ERR Slot 5 specified multiple times"),
        (
            "ADDSLOTSRANGE 9 5",
            "-ERR start slot number 9 is greater than end slot number 5",
        ),
        (
            "ADDSLOTSRANGE 1 2 3",
            "-ERR wrong number of arguments for 'cluster' command",
        ),
        ("DELSLOTS 5", "-ERR Slot 5 is already unassigned"),
        (
            "SET-CONFIG-EPOCH x",
            "-ERR value is not an integer or out of range",
        ),
        (
            "SET-CONFIG-EPOCH -3",
            "-ERR Invalid config epoch specified: -3",
        ),
        ("FORGET me", "-ERR Unknown node me"),
        ("REPLICAS nobody", "-ERR Unknown node nobody"),
        ("COUNT-FAILURE-REPORTS nobody", "-ERR Unknown node nobody"),
        ("REPLICATE nobody", "-ERR Unknown node nobody"),
        (
            "REPLICATE NO TWO",
            "-ERR unknown subcommand or wrong number of arguments for 'replicate'. Try CLUSTER HELP.",
        ),
        (
            "FAILOVER",
            "-ERR You should send CLUSTER FAILOVER to a replica",
        ),
        ("FAILOVER NOW", "-ERR syntax error"),
        ("RESET QUICKLY", "-ERR syntax error"),
        ("SETSLOT 16384 STABLE", "-ERR Invalid or out of range slot"),
        (
            "SETSLOT 1 MIGRATING x",
            "-ERR I'm not the owner of hash slot 1",
        ),
        ("SETSLOT 1 IMPORTING x", "-ERR I don't know about node x"),
        ("SETSLOT 1 NODE x", "-ERR Unknown node x"),
        (
            "SETSLOT 1 NODE",
            "-ERR Invalid CLUSTER SETSLOT action or number of arguments. Try CLUSTER HELP",
        ),
        (
            "SETSLOT 1 SIDEWAYS x",
            "-ERR Invalid CLUSTER SETSLOT action or number of arguments. Try CLUSTER HELP",
        ),
    ] {
        s.check(words, expect);
    }
    s.check(
        &format!("FORGET {}", name(1)),
        "-ERR I tried hard but I can't forget myself...",
    );
    s.check(
        &format!("REPLICATE {}", name(1)),
        "-ERR Can't replicate myself",
    );
    s.check(
        &format!("FORGET {other}"),
        &format!("-ERR Unknown node {other}"),
    );
    s.empty = false;
    s.check(
        "FLUSHSLOTS",
        "-ERR DB must be empty to perform CLUSTER FLUSHSLOTS.",
    );
    s.check(
        "RESET",
        "-ERR CLUSTER RESET can't be called with master nodes containing keys",
    );
}

#[test]
fn a_node_alone() {
    let mut s = setup();
    s.check("SET-CONFIG-EPOCH 3", "+OK");
    s.check(
        "SET-CONFIG-EPOCH 4",
        "-ERR Node config epoch is already non-zero",
    );
    s.check("BUMPEPOCH", "+STILL 3");
    s.check("ADDSLOTSRANGE 0 10 20 30", "+OK");
    s.check("ADDSLOTS 10", "-ERR Slot 10 is already busy");
    s.check("DELSLOTS 10", "+OK");
    s.check("MYID", &format!("$40\r\n{}", name(1)));
    s.check(
        "MYSHARDID",
        &format!("$40\r\n{}", ShardId::from_bytes([0x51; 20])),
    );
    s.check("MEET 10.0.0.2 7000", "+OK");
    let line = format!(
        "{} 10.0.0.1:7000@17000 myself,master - 0 0 3 connected 0-9 20-30\n",
        name(1)
    );
    let (_, nodes) = s.run("NODES");
    assert!(nodes.contains(&line), "{nodes}");
    assert!(
        nodes.contains("10.0.0.2:7000@17000 handshake - 0 0 0 disconnected\n"),
        "{nodes}"
    );
    let (_, slots) = s.run("SLOTS");
    let node = format!(
        "*4\r\n$8\r\n10.0.0.1\r\n:7000\r\n$40\r\n{}\r\n*0\r\n",
        name(1)
    );
    assert_eq!(
        slots,
        format!("*2\r\n*3\r\n:0\r\n:9\r\n{node}*3\r\n:20\r\n:30\r\n{node}")
    );
    let (_, shards) = s.run("SHARDS");
    assert!(shards.starts_with(
        "*1\r\n*6\r\n$5\r\nslots\r\n*4\r\n:0\r\n:9\r\n:20\r\n:30\r\n$5\r\nnodes\r\n*1\r\n*14\r\n"
    ));
    assert!(
        shards.contains("$4\r\nrole\r\n$6\r\nmaster\r\n")
            && shards.contains("$6\r\nhealth\r\n$6\r\nonline\r\n")
    );
    assert_eq!(
        s.run_as("SHARDS", Proto::Resp3).1.get(..8),
        Some("*1\r\n%3\r\n")
    );
    assert_eq!(s.run("LINKS").1, "*0\r\n");
    assert!(s.run_as("INFO", Proto::Resp3).1.starts_with("="));
    assert!(s.run("HELP").1.contains("+SHARDS\r\n"));
    assert_eq!(s.run("SAVECONFIG").0, Outcome::SaveConf);
    s.check("FLUSHSLOTS", "+OK");
    assert_eq!(s.run("SLOTS").1, "*0\r\n");
    let (_, reset) = s.run("RESET HARD");
    assert_eq!(reset, "+OK\r\n");
    assert_ne!(s.bus.my_id(), name(1));
    assert_eq!(s.bus.node_count(), 1);
}

#[test]
fn endpoints_by_preference() {
    let mut s = setup();
    s.check("ADDSLOTS 0", "+OK");
    s.ctl.options = ClusterOptions {
        endpoint: EndpointType::Hostname,
        ..ClusterOptions::default()
    };
    assert!(s.run("SLOTS").1.contains("$1\r\n?\r\n:7000\r\n"));
    assert!(s.run("SLOTS").1.contains("$2\r\nip\r\n$8\r\n10.0.0.1\r\n"));
    s.ctl.options.endpoint = EndpointType::Unknown;
    assert!(s.run("SLOTS").1.contains("*4\r\n$-1\r\n:7000\r\n"));
    let routing = routing_of(&s.bus, &s.ctl.options);
    assert_eq!(routing.owner(0).map(|owner| owner.host.as_str()), Some(""));
}

/// What a quorum shard is asked for, and what follows on its answer.
#[test]
fn in_a_quorum_shard_the_log_decides() {
    let mut s = setup();
    s.bus = bus(true);
    // Before the log has spoken, nothing is served.
    assert_eq!(routing_of(&s.bus, &s.ctl.options).role, MyRole::Replica);
    let shard = s.bus.my_shard();
    s.bus.set_self(
        ShardTruth {
            shard,
            role: ShardRole::Leader,
            slots: SlotSet::new(),
            leaving: Vec::new(),
        },
        NOW,
    );
    s.shard = Box::new(Noted {
        leads: true,
        asked: Vec::new(),
    });
    let (outcome, reply) = s.run("ADDSLOTSRANGE 0 99");
    let Outcome::Pending(token) = outcome else {
        panic!("the log is asked")
    };
    assert_eq!(reply, "");
    assert!(
        s.bus.myself().slots.is_empty(),
        "not before it is committed"
    );
    let refused = s
        .ctl
        .complete(&mut s.bus, token, Err(ShardError::NotLeader), NOW)
        .expect("a reply");
    assert_eq!(refused.reply, b"-ERR Not the leader of this shard\r\n");
    let Outcome::Pending(token) = s.run("ADDSLOTSRANGE 0 99").0 else {
        panic!("the log is asked")
    };
    let late = ShardError::Uncertain("it may still happen".into());
    let uncertain = s
        .ctl
        .complete(&mut s.bus, token, Err(late), NOW)
        .expect("a reply");
    assert_eq!(uncertain.reply, b"-UNCERTAIN it may still happen\r\n");
    assert!(
        s.ctl.complete(&mut s.bus, token, Ok(()), NOW).is_none(),
        "once"
    );

    let slots = SlotSet::from_ranges([(0, 99)]);
    s.bus.set_self(
        ShardTruth {
            shard,
            role: ShardRole::Leader,
            slots,
            leaving: Vec::new(),
        },
        NOW,
    );
    let routing = routing_of(&s.bus, &s.ctl.options);
    assert_eq!(
        (routing.role, routing.owner(99).map(|o| o.node)),
        (MyRole::Primary, Some(name(1)))
    );
    let Outcome::Pending(token) = s.run("DELSLOTS 5").0 else {
        panic!("the log is asked")
    };
    assert!(s.ctl.complete(&mut s.bus, token, Ok(()), NOW).is_some());
    let Outcome::Pending(_) = s.run("SETSLOT 7 STABLE").0 else {
        panic!("the log is asked")
    };
    s.keys = 3;
    s.check(
        &format!("SETSLOT 7 NODE {}", name(9)),
        &format!("-ERR Unknown node {}", name(9)),
    );
    let Outcome::Pending(token) = s
        .run("SETSLOT 500 NODE 0101010101010101010101010101010101010101")
        .0
    else {
        panic!("the log is asked")
    };
    let done = s
        .ctl
        .complete(&mut s.bus, token, Ok(()), NOW)
        .expect("a reply");
    assert_eq!(done.reply, b"+OK\r\n");
}

/// `valkey-cli --cluster reshard` tells every primary, and a witness looks like one.
#[test]
fn a_witness_takes_note_of_where_slots_go() {
    let mut s = setup();
    let cfg = BusConfig {
        witness: true,
        ..bus(true).config().clone()
    };
    s.bus.reconfigure(cfg);
    s.shard = Box::new(Noted {
        leads: false,
        asked: Vec::new(),
    });
    s.check("SETSLOT 5 STABLE", "+OK");
    let me = name(1);
    s.check(
        &format!("SETSLOT 5 NODE {me}"),
        "-ERR A witness holds no slots",
    );
    s.check(
        &format!("SETSLOT 5 IMPORTING {me}"),
        "-ERR A witness holds no slots",
    );
    s.check("MEET 10.0.0.2 7000", "+OK");
    let other = s
        .bus
        .nodes()
        .into_iter()
        .find(|node| !node.myself)
        .expect("the one met")
        .id;
    s.check(&format!("SETSLOT 5 NODE {other}"), "+OK");
    assert_eq!(s.bus.slot_owner(5), Some(other));
    assert_eq!(routing_of(&s.bus, &s.ctl.options).role, MyRole::Witness);
}

/// A node that the bus has forgotten by another's word is still a member of the shard.
#[test]
fn forget_always_asks_the_shard() {
    let mut s = setup();
    s.bus = bus(true);
    s.shard = Box::new(Noted {
        leads: true,
        asked: Vec::new(),
    });
    s.check("MEET 10.0.0.2 7000", "+OK");
    let other = s
        .bus
        .nodes()
        .into_iter()
        .find(|node| !node.myself)
        .expect("the one met")
        .id;
    s.bus.forget(&other, NOW).expect("it is known");
    let words = format!("FORGET {other}");
    let Outcome::Pending(token) = s.run(&words).0 else {
        panic!("the log is asked")
    };
    let done = s
        .ctl
        .complete(&mut s.bus, token, Ok(()), NOW)
        .expect("a reply");
    assert_eq!(done.reply, b"+OK\r\n");
}
