//! The commands of slot migration, from arguments to requests and from jobs to replies.

use super::directory::Directory;
use holdfast_resp::{Proto, parse_i64, write};
use holdfast_slot_migration::{
    ID_TEXT_LEN, JobId, JobView, NodeId, Request, SLOTS, ShardId, SlotRanges,
};

/// A command's error, with its code word.
pub type CommandError = String;

const SYNTAX: &str = "ERR syntax error";

/// One group of `CLUSTER MIGRATESLOTS`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Move {
    /// What to move.
    pub slots: SlotRanges,
    /// Where to.
    pub target_node: NodeId,
    /// Its shard.
    pub target: ShardId,
}

fn slot(arg: &[u8]) -> Result<u16, CommandError> {
    parse_i64(arg)
        .and_then(|n| u16::try_from(n).ok())
        .filter(|&n| n < SLOTS)
        .ok_or_else(|| "ERR Invalid or out of range slot".to_string())
}

/// Reads pairs of slots up to the first argument that is no number. Returns how many arguments that were.
fn ranges(argv: &[&[u8]]) -> Result<(SlotRanges, usize), CommandError> {
    let mut ranges = Vec::new();
    let mut at = 0;
    while let Some(first) = argv.get(at)
        && parse_i64(first).is_some()
    {
        let first = slot(first)?;
        let last = argv
            .get(at + 1)
            .ok_or("ERR No end slot for final slot range")?;
        ranges.push((first, slot(last)?));
        at += 2;
    }
    let slots = SlotRanges::new(&ranges).map_err(|error| format!("ERR {error}"))?;
    Ok((slots, at))
}

/// The node that owns all of the slots, as the bus sees it.
fn owner_of(slots: &SlotRanges, directory: &Directory) -> Result<NodeId, CommandError> {
    let mut owner = None;
    for slot in slots.iter() {
        let Some(peer) = directory.owner(slot) else {
            return Err(format!("ERR Slot {slot} has no node served."));
        };
        if *owner.get_or_insert(peer.node) != peer.node {
            return Err("ERR Requested slots span multiple shards".into());
        }
    }
    owner.ok_or_else(|| "ERR No slot ranges specified".into())
}

/// `CLUSTER MIGRATESLOTS SLOTSRANGE a b [a b …] NODE id [SLOTSRANGE … NODE …]`, from the third argument on.
///
/// # Errors
/// Valkey's texts.
pub fn migrate_slots(
    args: &[&[u8]],
    me: NodeId,
    owned: impl Fn(u16) -> bool,
    directory: &Directory,
) -> Result<Vec<Move>, CommandError> {
    let mut moves: Vec<Move> = Vec::new();
    let mut at = 0;
    while let Some(word) = args.get(at) {
        if !word.eq_ignore_ascii_case(b"slotsrange") {
            return Err(SYNTAX.into());
        }
        at += 1;
        let (slots, used) = ranges(&args[at..])?;
        at += used;
        if !slots.iter().all(&owned) {
            owner_of(&slots, directory)?;
            return Err("ERR Slots are not served by this node.".into());
        }
        if moves.iter().any(|m| m.slots.first_common(&slots).is_some()) {
            return Err("ERR Slot ranges in migrations overlap".into());
        }
        let (Some(word), Some(name)) = (args.get(at), args.get(at + 1)) else {
            return Err(SYNTAX.into());
        };
        if !word.eq_ignore_ascii_case(b"node") {
            return Err(SYNTAX.into());
        }
        at += 2;
        let text = String::from_utf8_lossy(name);
        if name.len() != ID_TEXT_LEN {
            return Err(format!("ERR Invalid node name: {text}"));
        }
        let Some(target_node) = NodeId::parse(name) else {
            return Err(format!("ERR Unknown node name: {text}"));
        };
        if target_node == me {
            return Err("ERR Target node can not be this node.".into());
        }
        if directory.is_witness(target_node) {
            return Err("ERR Target node is a witness: it keeps no data".into());
        }
        let Some(peer) = directory.peer(target_node) else {
            return Err(format!("ERR Unknown node name: {text}"));
        };
        moves.push(Move {
            slots,
            target_node,
            target: peer.shard,
        });
    }
    if moves.is_empty() {
        Err(SYNTAX.into())
    } else {
        Ok(moves)
    }
}

/// `ESTABLISH` as its source sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Establish {
    /// The job.
    pub job: JobId,
    /// Its slots.
    pub slots: SlotRanges,
    /// The node that opened the link.
    pub source_node: NodeId,
    /// Its shard.
    pub source: ShardId,
}

/// `CLUSTER SYNCSLOTS ESTABLISH …`, from the fourth argument on; in any order.
///
/// # Errors
/// Valkey's texts.
pub fn establish(
    args: &[&[u8]],
    me: NodeId,
    directory: &Directory,
) -> Result<Establish, CommandError> {
    let (mut source, mut name, mut slots) = (None, None, None);
    let mut at = 0;
    while let Some(word) = args.get(at) {
        let value = args.get(at + 1).copied();
        if word.eq_ignore_ascii_case(b"source") && source.is_none() {
            let value = value.filter(|v| v.len() == ID_TEXT_LEN).ok_or(SYNTAX)?;
            let peer = NodeId::parse(value).and_then(|node| directory.peer(node));
            let peer = peer.ok_or("ERR Target node does not know the source node")?;
            if peer.node == me {
                return Err("ERR Source node is target node itself".into());
            }
            source = Some((peer.node, peer.shard));
            at += 2;
        } else if word.eq_ignore_ascii_case(b"name") && name.is_none() {
            name = Some(value.and_then(JobId::parse).ok_or(SYNTAX)?);
            at += 2;
        } else if word.eq_ignore_ascii_case(b"slotsrange") && slots.is_none() {
            let (parsed, used) = ranges(&args[at + 1..])?;
            slots = Some(parsed);
            at += 1 + used;
        } else {
            return Err(SYNTAX.into());
        }
    }
    let (Some((source_node, source)), Some(job), Some(slots)) = (source, name, slots) else {
        return Err(SYNTAX.into());
    };
    Ok(Establish {
        job,
        slots,
        source_node,
        source,
    })
}

/// A question of another shard's primary: `CLUSTER SYNCSLOTS`, from the third argument on. Ours alone; Valkey has no
/// such thing. The shard that is asked is named, since an answer of another one would be believed.
///
/// ```text
/// OUTCOME NAME <job> SHARD <asked>                          +HANDED-OFF or +ABORTED
/// HANDED-OFF NAME <job> SHARD <asked>                       +OK
/// EXPORT SHARD <asked> TO <shard> NODE <node> SLOTSRANGE …  +<job>
/// HAND-OFF NAME <job> SHARD <asked>                         +OK
/// ```
///
/// `None` when it is something else.
pub fn request(args: &[&[u8]]) -> Option<Result<(ShardId, Request), CommandError>> {
    let (word, rest) = args.split_first()?;
    let word = word.to_ascii_uppercase();
    let job = || match rest {
        [name, job, shard, asked]
            if name.eq_ignore_ascii_case(b"name") && shard.eq_ignore_ascii_case(b"shard") =>
        {
            Some((JobId::parse(job)?, ShardId::parse(asked)?))
        }
        _ => None,
    };
    let parsed = match word.as_slice() {
        b"OUTCOME" => job().map(|(job, shard)| (shard, Request::Outcome(job))),
        b"HANDED-OFF" => job().map(|(job, shard)| (shard, Request::HandedOff(job))),
        b"HAND-OFF" => job().map(|(job, shard)| (shard, Request::HandOff(job))),
        b"EXPORT" => match rest {
            [w1, asked, w2, target, w3, node, w4, slots @ ..]
                if w1.eq_ignore_ascii_case(b"shard")
                    && w2.eq_ignore_ascii_case(b"to")
                    && w3.eq_ignore_ascii_case(b"node")
                    && w4.eq_ignore_ascii_case(b"slotsrange") =>
            {
                match (
                    ShardId::parse(asked),
                    ShardId::parse(target),
                    NodeId::parse(node),
                    ranges(slots),
                ) {
                    (Some(shard), Some(target), Some(target_node), Ok((slots, used)))
                        if used == slots_len(rest) =>
                    {
                        Some((
                            shard,
                            Request::Export {
                                slots,
                                target,
                                target_node,
                            },
                        ))
                    }
                    _ => None,
                }
            }
            _ => None,
        },
        _ => return None,
    };
    Some(parsed.ok_or_else(|| SYNTAX.into()))
}

fn slots_len(rest: &[&[u8]]) -> usize {
    rest.len().saturating_sub(7)
}

/// The arguments of a question, as [`request`] reads them.
pub fn request_argv(asked: ShardId, request: &Request) -> Vec<Vec<u8>> {
    let mut argv = vec!["CLUSTER".to_string(), "SYNCSLOTS".into()];
    let named = |word: &str, job: &JobId| {
        vec![
            word.to_string(),
            "NAME".into(),
            job.to_string(),
            "SHARD".into(),
            asked.to_string(),
        ]
    };
    argv.extend(match request {
        Request::Outcome(job) => named("OUTCOME", job),
        Request::HandedOff(job) => named("HANDED-OFF", job),
        Request::HandOff(job) => named("HAND-OFF", job),
        Request::Export {
            slots,
            target,
            target_node,
        } => {
            let mut words: Vec<String> = vec![
                "EXPORT".into(),
                "SHARD".into(),
                asked.to_string(),
                "TO".into(),
            ];
            words.extend([target.to_string(), "NODE".into(), target_node.to_string()]);
            words.push("SLOTSRANGE".into());
            words.extend(
                slots
                    .ranges()
                    .iter()
                    .flat_map(|(a, b)| [a.to_string(), b.to_string()]),
            );
            words
        }
    });
    argv.into_iter().map(String::into_bytes).collect()
}

/// The arguments of `ESTABLISH`.
pub fn establish_argv(job: JobId, source: NodeId, slots: &SlotRanges) -> Vec<Vec<u8>> {
    let mut argv: Vec<String> = ["CLUSTER", "SYNCSLOTS", "ESTABLISH", "SOURCE"]
        .map(String::from)
        .into();
    argv.extend([
        source.to_string(),
        "NAME".into(),
        job.to_string(),
        "SLOTSRANGE".into(),
    ]);
    argv.extend(
        slots
            .ranges()
            .iter()
            .flat_map(|(a, b)| [a.to_string(), b.to_string()]),
    );
    argv.into_iter().map(String::into_bytes).collect()
}

/// The reply to `CLUSTER GETSLOTMIGRATIONS`.
pub fn write_views(views: &[JobView], proto: Proto, out: &mut Vec<u8>) {
    write::array(out, views.len());
    for view in views {
        write::map(out, proto, if view.nodes.is_some() { 12 } else { 10 });
        let mut text = |name: &str, value: &str| {
            write::bulk(out, name.as_bytes());
            write::bulk(out, value.as_bytes());
        };
        text("name", &view.job.to_string());
        text("operation", view.operation.as_str());
        text("slot_ranges", &view.slots.to_string());
        if let Some((target, source)) = view.nodes {
            text("target_node", &target.to_string());
            text("source_node", &source.to_string());
        }
        let int = |out: &mut Vec<u8>, name: &str, value: u64| {
            write::bulk(out, name.as_bytes());
            write::int(out, i64::try_from(value).unwrap_or(i64::MAX));
        };
        int(out, "create_time", view.create_time);
        int(out, "last_update_time", view.last_update_time);
        int(out, "last_ack_time", view.last_ack_time);
        let mut text = |name: &str, value: &str| {
            write::bulk(out, name.as_bytes());
            write::bulk(out, value.as_bytes());
        };
        text("state", view.state);
        text("message", &view.message);
        // Snapshots here copy nothing when they are written over.
        int(out, "cow_size", 0);
        int(out, "remaining_repl_size", view.remaining_bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::super::directory::Peer;
    use super::*;

    fn node(n: u8) -> NodeId {
        NodeId([n; 20])
    }

    fn directory() -> Directory {
        let peer = |n: u8| Peer {
            node: node(n),
            shard: ShardId([n + 10; 20]),
            host: "h".into(),
            port: 1,
            tls_port: 0,
            primary: true,
        };
        let owned = [
            (SlotRanges::new(&[(0, 99)]).unwrap(), node(1)),
            (SlotRanges::new(&[(100, 199)]).unwrap(), node(2)),
        ];
        Directory::new(vec![peer(1), peer(2)], &owned)
    }

    fn split(line: &str) -> Vec<Vec<u8>> {
        line.split(' ').map(|w| w.as_bytes().to_vec()).collect()
    }

    #[test]
    fn migrate_slots_speaks_as_valkey_does() {
        let two = node(2);
        let check = |line: &str, expect: Result<&[&str], &str>| {
            let line = line
                .replace("TWO", &two.to_string())
                .replace("ONE", &node(1).to_string());
            let owned = split(&line);
            let args: Vec<&[u8]> = owned.iter().map(|a| &a[..]).collect();
            let got = migrate_slots(&args, node(1), |slot| slot < 100, &directory());
            let got = got.map(|moves| {
                moves
                    .iter()
                    .map(|m| m.slots.to_string())
                    .collect::<Vec<_>>()
            });
            let expect = expect.map(|s| s.iter().map(|s| s.to_string()).collect::<Vec<_>>());
            assert_eq!(got, expect.map_err(|e| format!("ERR {e}")), "{line}");
        };
        check("SLOTSRANGE 0 5 9 9 NODE TWO", Ok(&["0-5 9-9"]));
        check(
            "slotsrange 0 5 node TWO slotsrange 7 7 node TWO",
            Ok(&["0-5", "7-7"]),
        );
        check(
            "SLOTSRANGE 0 5 NODE TWO SLOTSRANGE 5 7 NODE TWO",
            Err("Slot ranges in migrations overlap"),
        );
        check(
            "SLOTSRANGE 5 0 NODE TWO",
            Err("Start slot number 5 is greater than end slot number 0."),
        );
        check("SLOTSRANGE 0 NODE TWO", Err("Invalid or out of range slot"));
        check(
            "SLOTSRANGE 0 16384 NODE TWO",
            Err("Invalid or out of range slot"),
        );
        check("SLOTSRANGE 0 1 5", Err("No end slot for final slot range"));
        check("SLOTSRANGE NODE TWO", Err("No slot ranges specified"));
        check("SLOTSRANGE 0 5", Err("syntax error"));
        check("SLOTSRANGE 0 5 NODE abc", Err("Invalid node name: abc"));
        check(
            "SLOTSRANGE 0 5 NODE ONE",
            Err("Target node can not be this node."),
        );
        check(
            "SLOTSRANGE 100 105 NODE TWO",
            Err("Slots are not served by this node."),
        );
        check(
            "SLOTSRANGE 99 100 NODE TWO",
            Err("Requested slots span multiple shards"),
        );
        check(
            "SLOTSRANGE 200 200 NODE TWO",
            Err("Slot 200 has no node served."),
        );
        let nobody = "0".repeat(40);
        check(
            &format!("SLOTSRANGE 0 5 NODE {nobody}"),
            Err(&format!("Unknown node name: {nobody}")),
        );
    }

    #[test]
    fn requests_and_establish_come_back() {
        let (job, asked, shard) = (JobId([1; 20]), ShardId([2; 20]), ShardId([3; 20]));
        let slots = SlotRanges::new(&[(1, 2), (9, 9)]).unwrap();
        for r in [
            Request::Outcome(job),
            Request::HandedOff(job),
            Request::HandOff(job),
            Request::Export {
                slots: slots.clone(),
                target: shard,
                target_node: node(1),
            },
        ] {
            let argv = request_argv(asked, &r);
            let args: Vec<&[u8]> = argv[2..].iter().map(|a| &a[..]).collect();
            assert_eq!(request(&args), Some(Ok((asked, r))));
        }
        assert_eq!(request(&[b"ACK"]), None);
        assert_eq!(request(&[b"OUTCOME", b"x"]), Some(Err(SYNTAX.into())));
        let argv = establish_argv(job, node(1), &slots);
        let args: Vec<&[u8]> = argv[3..].iter().map(|a| &a[..]).collect();
        let got = establish(&args, node(2), &directory()).unwrap();
        assert_eq!(
            (got.job, got.slots, got.source),
            (job, slots, ShardId([11; 20]))
        );
    }
}
