//! What the running nodes say about the cluster, and how it is drawn.

use super::client::{Client, ClientError};
use super::plan::{NodePlan, Part};

/// What a node is at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Takes writes for its shard.
    Primary,
    /// A copy of a primary.
    Replica,
    /// Votes, and holds no data.
    Witness,
}

impl Role {
    /// As the JSON line has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Primary => "primary",
            Role::Replica => "replica",
            Role::Witness => "witness",
        }
    }
}

/// One line of `CLUSTER NODES`, as far as it matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeLine {
    /// 40 hexadecimal digits.
    pub id: String,
    /// `myself`, `master`, `slave`, `fail?` and so on.
    pub flags: Vec<String>,
    /// Id of its primary, if it is a replica.
    pub primary: Option<String>,
    /// Whether the link to it stands (a node's link to itself always does).
    pub connected: bool,
    /// First and last of each range of slots; ranges on the move are left out.
    pub slots: Vec<(u16, u16)>,
}

impl NodeLine {
    fn parse(line: &str) -> Option<NodeLine> {
        let mut fields = line.split_ascii_whitespace();
        let id = fields.next()?.to_owned();
        let _address = fields.next()?;
        let flags = fields.next()?.split(',').map(str::to_owned).collect();
        let primary = fields.next().filter(|id| *id != "-").map(str::to_owned);
        let connected = fields.nth(3)? == "connected";
        let slots = fields
            .filter_map(|range| {
                let (first, last) = range.split_once('-').unwrap_or((range, range));
                Some((first.parse().ok()?, last.parse().ok()?))
            })
            .collect();
        Some(NodeLine {
            id,
            flags,
            primary,
            connected,
            slots,
        })
    }

    /// Whether the node has this flag.
    pub fn has(&self, flag: &str) -> bool {
        self.flags.iter().any(|f| f == flag)
    }

    /// Whether the node that was asked sees this one well.
    pub fn is_well(&self) -> bool {
        let ill = ["fail", "fail?", "handshake", "noaddr"];
        !ill.iter().any(|flag| self.has(flag)) && (self.connected || self.has("myself"))
    }
}

/// All nodes that `client`'s node knows.
///
/// # Errors
/// [`ClientError`]
pub fn nodes(client: &mut Client) -> Result<Vec<NodeLine>, ClientError> {
    let text = client.text(&["CLUSTER", "NODES"])?;
    Ok(text.lines().filter_map(NodeLine::parse).collect())
}

/// The value of one line `field:value` of an `INFO`-like text.
pub fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines()
        .find_map(|line| line.trim_end().strip_prefix(name)?.strip_prefix(':'))
}

/// A node as it is reported to the user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// 40 hexadecimal digits.
    pub id: String,
    /// What it is at the moment.
    pub role: Role,
    /// The id of its shard; a witness serves all and has none.
    pub shard: Option<String>,
    /// Where it listens.
    pub port: u16,
    /// Its process.
    pub pid: u32,
    /// Its slots, if it is a primary.
    pub slots: Vec<(u16, u16)>,
}

/// Asks one node what it is.
///
/// # Errors
/// [`ClientError`]
pub fn member(client: &mut Client, plan: &NodePlan, pid: u32) -> Result<Member, ClientError> {
    let all = nodes(client)?;
    let Some(own) = all.into_iter().find(|node| node.has("myself")) else {
        return Err(ClientError::Garbled(
            "CLUSTER NODES without the node itself".into(),
        ));
    };
    let role = match plan.part {
        Part::Witness => Role::Witness,
        _ if own.has("master") => Role::Primary,
        _ => Role::Replica,
    };
    let shard = match role {
        Role::Witness => None,
        Role::Primary | Role::Replica => Some(client.text(&["CLUSTER", "MYSHARDID"])?),
    };
    Ok(Member {
        id: own.id,
        role,
        shard,
        port: plan.port,
        pid,
        slots: own.slots,
    })
}

/// `{"nodes":[…]}` on one line.
pub fn json(members: &[Member]) -> String {
    let nodes: Vec<String> = members
        .iter()
        .map(|m| {
            // Ids are hexadecimal, roles are words: nothing here needs escaping.
            let shard = m
                .shard
                .as_ref()
                .map_or("null".to_owned(), |id| format!("\"{id}\""));
            format!(
                r#"{{"id":"{}","role":"{}","shard":{shard},"port":{},"pid":{}}}"#,
                m.id,
                m.role.as_str(),
                m.port,
                m.pid
            )
        })
        .collect();
    format!("{{\"nodes\":[{}]}}", nodes.join(","))
}

/// Cells of the map in a row; each stands for 256 slots.
const CELLS: u16 = 64;

/// The slot map: a bar a shard, and who serves it.
pub fn draw(members: &[Member]) -> String {
    let mut text = String::new();
    let mut primaries: Vec<&Member> = members.iter().filter(|m| m.role == Role::Primary).collect();
    primaries.sort_by_key(|m| m.slots.first().copied());
    text.push_str(&format!(
        "  slots    0{:>15}{:>16}{:>16}{:>16}\n",
        4096, 8192, 12288, 16383
    ));
    text.push_str(&format!(
        "           ├{0}┼{0}┼{0}┼{0}┤\n",
        "─".repeat(usize::from(CELLS) / 4 - 1)
    ));
    for (number, primary) in primaries.iter().enumerate() {
        let owns = |slot: u16| {
            primary
                .slots
                .iter()
                .any(|(first, last)| (*first..=*last).contains(&slot))
        };
        let per_cell = 16384 / CELLS;
        let bar: String = (0..CELLS)
            .map(|cell| {
                let owned = (0..per_cell).filter(|i| owns(cell * per_cell + i)).count();
                match owned {
                    0 => '·',
                    n if n == usize::from(per_cell) => '█',
                    _ => '▒',
                }
            })
            .collect();
        text.push_str(&format!("  shard {:<3}{bar}\n", number + 1));
    }
    text.push('\n');
    for (number, primary) in primaries.iter().enumerate() {
        let ranges: Vec<String> = primary
            .slots
            .iter()
            .map(|(first, last)| {
                if first == last {
                    first.to_string()
                } else {
                    format!("{first}-{last}")
                }
            })
            .collect();
        let replicas: Vec<String> = members
            .iter()
            .filter(|m| m.role == Role::Replica && m.shard == primary.shard)
            .map(|m| m.port.to_string())
            .collect();
        text.push_str(&format!(
            "  shard {:<3}primary {}",
            number + 1,
            primary.port
        ));
        if !replicas.is_empty() {
            text.push_str(&format!("   replica {}", replicas.join(", ")));
        }
        text.push_str(&format!("   slots {}\n", ranges.join(" ")));
    }
    let witnesses: Vec<String> = members
        .iter()
        .filter(|m| m.role == Role::Witness)
        .map(|m| m.port.to_string())
        .collect();
    if !witnesses.is_empty() {
        text.push_str(&format!(
            "  witness  {}   votes in every shard, holds no data\n",
            witnesses.join(", ")
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_cluster_nodes() {
        let line = "07c3 127.0.0.1:7000@17000,,shard-id=ab myself,master - 0 1426238317239 2 connected 0-99 105 [93->-ef]";
        let node = NodeLine::parse(line).expect("a node");
        assert_eq!(node.id, "07c3");
        assert!(node.has("myself") && node.has("master") && node.is_well());
        assert_eq!(node.primary, None);
        assert_eq!(node.slots, [(0, 99), (105, 105)]);
        let line = "e7d1 127.0.0.1:7001@17001 slave,fail? 07c3 0 1426238316232 2 connected";
        let node = NodeLine::parse(line).expect("a node");
        assert_eq!(node.primary.as_deref(), Some("07c3"));
        assert!(!node.is_well());
        assert_eq!(NodeLine::parse("too short"), None);
    }

    fn member(id: &str, role: Role, port: u16, slots: &[(u16, u16)]) -> Member {
        let shard = (role != Role::Witness).then(|| "5a".to_owned());
        Member {
            id: id.into(),
            role,
            shard,
            port,
            pid: 42,
            slots: slots.to_vec(),
        }
    }

    #[test]
    fn the_json_line() {
        let members = [
            member("ab", Role::Primary, 7000, &[(0, 16383)]),
            member("cd", Role::Witness, 7002, &[]),
        ];
        assert_eq!(
            json(&members),
            r#"{"nodes":[{"id":"ab","role":"primary","shard":"5a","port":7000,"pid":42},{"id":"cd","role":"witness","shard":null,"port":7002,"pid":42}]}"#
        );
    }

    #[test]
    fn the_map_shows_who_owns_what() {
        let members = [
            member("ab", Role::Primary, 7000, &[(0, 8191), (16383, 16383)]),
            member("cd", Role::Replica, 7001, &[]),
            member("ef", Role::Witness, 7002, &[]),
        ];
        let map = draw(&members);
        let bar = format!("  shard 1  {}{}▒\n", "█".repeat(32), "·".repeat(31));
        assert!(map.contains(&bar), "{map}");
        assert!(
            map.contains("  shard 1  primary 7000   replica 7001   slots 0-8191 16383\n"),
            "{map}"
        );
        assert!(map.contains("  witness  7002 "), "{map}");
    }

    #[test]
    fn info_fields() {
        let text = "# Durability\r\nmode:quorum\r\nmode_x:1\r\n";
        assert_eq!(field(text, "mode"), Some("quorum"));
        assert_eq!(field(text, "mod"), None);
    }
}
