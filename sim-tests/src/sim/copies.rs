//! Whether the copies of a shard are equal, and where they are not, in which keys.

use super::cluster_client::Clients;
use super::formation::Layout;
use super::resp::{argv, text};
use super::world::World;
use holdfast_resp::reply::Reply;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::net::SocketAddr;

/// Keys that are named when copies differ.
const KEYS_NAMED: usize = 4;
/// Keys of one slot that are looked at.
const KEYS_OF_SLOT: &str = "1000";
/// Commands sent in one packet.
const COMMANDS_AT_ONCE: usize = 2048;
/// Of a value or a list of elements, so much is shown.
const VALUE_SHOWN: usize = 60;
/// Of a reason, so much is shown.
const REASON_SHOWN: usize = 240;
/// The client's number; its connections have said `READONLY`.
const READER: usize = usize::MAX - 1;

/// A copy: its machine, and the digest of each of its keys, or nothing if it does not answer.
type Copy = (usize, BTreeMap<String, String>);

/// Adds a line to `wrong` for each shard whose data nodes do not all have the same digest; with `explain`, the line
/// says how far each node has come and which keys differ.
pub async fn check(
    world: &World,
    clients: &Clients,
    layout: &Layout,
    explain: bool,
    wrong: &mut Vec<String>,
) {
    for shard in 0..world.plan.shards {
        let machines: Vec<usize> = layout
            .data_nodes(shard)
            .filter(|machine| !world.is_lost(*machine))
            .collect();
        let mut digests = BTreeSet::new();
        for machine in &machines {
            match clients
                .tell(layout.addrs[*machine], &["DEBUG", "DIGEST"])
                .await
            {
                Some(digest) => digests.insert(digest),
                None => digests.insert(format!("n{machine} does not answer")),
            };
        }
        if digests.len() == 1 {
            continue;
        }
        let mut line = format!("shard {shard} has copies that differ: {digests:?}");
        if explain {
            for what in differences(clients, layout, &machines).await {
                // Writing to a string does not fail.
                let _ = write!(line, "; {what}");
            }
        }
        wrong.push(line);
    }
}

/// Where the copies on `machines` differ; what is equal in all copies is left out.
async fn differences(clients: &Clients, layout: &Layout, machines: &[usize]) -> Vec<String> {
    let mut out = Vec::new();
    let mut copies: Vec<Copy> = Vec::new();
    for machine in machines {
        let addr = layout.addrs[*machine];
        out.push(format!("n{machine} {}", progress(clients, addr).await));
        if let Some(keys) = keys_of(clients, addr).await {
            copies.push((*machine, keys));
        }
    }
    let names: BTreeSet<&String> = copies.iter().flat_map(|(_, keys)| keys.keys()).collect();
    let differ = |name: &&String| {
        let mut digests = copies.iter().map(|(_, keys)| keys.get(*name));
        let first = digests.next();
        digests.any(|digest| Some(digest) != first)
    };
    let differing: Vec<&String> = names.into_iter().filter(differ).collect();
    for key in differing.iter().take(KEYS_NAMED) {
        let mut line = format!("{key}:");
        for (machine, keys) in &copies {
            let has = match keys.get(*key) {
                Some(_) => describe(clients, layout.addrs[*machine], key).await,
                None => "absent".to_string(),
            };
            let _ = write!(line, " n{machine} {has}");
        }
        out.push(line);
    }
    if differing.len() > KEYS_NAMED {
        let more = differing.len() - KEYS_NAMED;
        out.push(format!("{more} more keys differ"));
    }
    out
}

/// How far a node's log has come.
async fn progress(clients: &Clients, to: SocketAddr) -> String {
    let Some(replies) = ask(clients, to, &[argv(&["INFO", "durability"])]).await else {
        return "does not answer".into();
    };
    let info = replies.first().map(text).unwrap_or_default();
    let wanted = ["log_state", "log_committed", "log_applied", "position"];
    let lines = info
        .lines()
        .filter_map(|l| l.strip_prefix("durability_")?.split_once(':'))
        .filter(|(name, _)| wanted.contains(name));
    let mut out = String::new();
    for (name, value) in lines {
        let value: String = value.chars().take(REASON_SHOWN).collect();
        let _ = write!(out, "{name} {value} ");
    }
    out.trim_end().to_string()
}

/// Sends commands to one node, some at a time; `None` if it did not answer all of them, twice.
async fn ask(clients: &Clients, to: SocketAddr, commands: &[Vec<String>]) -> Option<Vec<Reply>> {
    let mut replies = Vec::new();
    for some in commands.chunks(COMMANDS_AT_ONCE) {
        // Connections break, also without a fault of the plan.
        let answer = match clients.send(READER, to, some).await {
            Ok(answer) => answer,
            Err(_) => clients.send(READER, to, some).await.ok()?,
        };
        replies.extend(answer);
    }
    Some(replies)
}

/// Every key that a node holds, hidden and expired ones too, with the digest of its value.
async fn keys_of(clients: &Clients, to: SocketAddr) -> Option<BTreeMap<String, String>> {
    let every: Vec<_> = (0..16384)
        .map(|slot: u16| {
            let slot = slot.to_string();
            argv(&["CLUSTER", "GETKEYSINSLOT", &slot, KEYS_OF_SLOT])
        })
        .collect();
    let mut keys = Vec::new();
    for reply in ask(clients, to, &every).await? {
        if let Reply::Array(items) = reply {
            keys.extend(items.iter().map(text));
        }
    }
    let each: Vec<_> = keys
        .iter()
        .map(|key| argv(&["DEBUG", "DIGEST-VALUE", key]))
        .collect();
    let digests = ask(clients, to, &each).await?;
    Some(
        keys.into_iter()
            .zip(digests.iter().map(|d| format!("{d:?}")))
            .collect(),
    )
}

/// What a node says of a key: when it expires, and its value.
async fn describe(clients: &Clients, to: SocketAddr, key: &str) -> String {
    let commands = [
        argv(&["READONLY"]),
        argv(&["PEXPIRETIME", key]),
        argv(&["TYPE", key]),
        argv(&["GET", key]),
        argv(&["LRANGE", key, "-5", "-1"]),
    ];
    let Some(replies) = ask(clients, to, &commands).await else {
        return "does not answer".into();
    };
    let [_, expires, kind, string, list] = replies.as_slice() else {
        return "does not answer".into();
    };
    let value = match kind {
        Reply::Simple(name) if name == b"list" => match list {
            Reply::Array(items) => {
                format!("ends in {:?}", items.iter().map(text).collect::<Vec<_>>())
            }
            other => text(other),
        },
        _ => text(string),
    };
    let value: String = value.chars().take(VALUE_SHOWN).collect();
    match expires {
        Reply::Int(-2) | Reply::Error(_) => {
            format!("has it, expired or not served ({})", text(expires))
        }
        Reply::Int(-1) => value,
        at => format!("{value} until {}", text(at)),
    }
}
