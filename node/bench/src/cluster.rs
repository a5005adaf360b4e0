//! Which node serves which slot.

use std::sync::Arc;

use holdfast_resp::reply::Reply;

use crate::Failure;
use crate::net::{Address, Target};

/// Slots of a cluster.
pub const SLOTS: usize = 16384;

const CRC: crc::Crc<u16> = crc::Crc::<u16>::new(&crc::CRC_16_XMODEM);

/// The slot of a key: of the part in braces, if there is one.
pub fn slot_of(key: &[u8]) -> u16 {
    let tag = key
        .iter()
        .position(|b| *b == b'{')
        .and_then(|open| {
            let rest = &key[open + 1..];
            let close = rest.iter().position(|b| *b == b'}')?;
            (close > 0).then(|| &rest[..close])
        })
        .unwrap_or(key);
    CRC.checksum(tag) % SLOTS as u16
}

/// The primaries and their slots.
#[derive(Clone, Debug)]
pub struct Topology {
    /// Nodes, by the numbers that [`Topology::slots`] has.
    pub nodes: Vec<Address>,
    /// For each slot the number of its node; `u16::MAX` if nobody serves it.
    pub slots: Arc<[u16]>,
    /// Other members, whom to ask when a primary has gone.
    pub replicas: Vec<Address>,
}

impl Topology {
    /// Asks a node.
    ///
    /// # Errors
    /// It cannot be asked, or is in no cluster.
    pub fn ask(target: &Target) -> Result<Topology, Failure> {
        let reply = target.connect()?.call(&["CLUSTER", "SLOTS"])?;
        let topology = Topology::read(&reply, &target.address)?;
        if topology.nodes.is_empty() {
            return Err(Failure::new(format!(
                "no slot of the cluster at {} is served",
                target.address
            )));
        }
        Ok(topology)
    }

    /// From what `CLUSTER SLOTS` answered at `asked`.
    fn read(reply: &Reply, asked: &Address) -> Result<Topology, Failure> {
        let wrong = || Failure::new("the reply to CLUSTER SLOTS makes no sense");
        let ranges = match reply {
            Reply::Array(ranges) => ranges,
            Reply::Error(text) => {
                return Err(Failure::new(format!(
                    "CLUSTER SLOTS: {}",
                    String::from_utf8_lossy(text)
                )));
            }
            _ => return Err(wrong()),
        };
        let (mut nodes, mut replicas) = (Vec::new(), Vec::new());
        let mut slots = vec![u16::MAX; SLOTS];
        for range in ranges {
            let Reply::Array(range) = range else {
                return Err(wrong());
            };
            let [
                Reply::Int(first),
                Reply::Int(last),
                Reply::Array(primary),
                ..,
            ] = &range[..]
            else {
                return Err(wrong());
            };
            let address = |member: &[Reply]| match member {
                [host, Reply::Int(port), ..] => {
                    let host = host.as_bytes().unwrap_or_default();
                    let port = u16::try_from(*port).ok()?;
                    Some(address_of(host, port, asked))
                }
                _ => None,
            };
            let node = number(&mut nodes, address(primary).ok_or_else(wrong)?);
            for member in &range[3..] {
                if let Reply::Array(member) = member {
                    let replica = address(member).ok_or_else(wrong)?;
                    number(&mut replicas, replica);
                }
            }
            let (first, last) = (*first as usize, *last as usize);
            let range = slots.get_mut(first..=last).ok_or_else(wrong)?;
            range.fill(node);
        }
        Ok(Topology {
            nodes,
            slots: slots.into(),
            replicas,
        })
    }
}

/// A node that does not know its own address means the one that it was asked at.
fn address_of(host: &[u8], port: u16, asked: &Address) -> Address {
    let host = match std::str::from_utf8(host) {
        Ok(host) if !host.is_empty() && host != "?" => host.to_owned(),
        _ => match asked {
            Address::Tcp(host, _) => host.clone(),
            Address::Unix(_) => "127.0.0.1".to_owned(),
        },
    };
    Address::Tcp(host, port)
}

/// The number of a node, which is added if it is not known.
pub fn number(nodes: &mut Vec<Address>, node: Address) -> u16 {
    let known = nodes.iter().position(|n| *n == node);
    known.unwrap_or_else(|| {
        nodes.push(node);
        nodes.len() - 1
    }) as u16
}

/// A node's word that a command is to go elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Redirection {
    /// This and all further commands of the slot.
    Moved(u16, Address),
    /// This command only, with `ASKING` before it.
    Ask(Address),
}

impl Redirection {
    /// Reads the text of an error; `None` if it is another. An address without a host is that of `asked`.
    pub fn parse(text: &[u8], asked: &Address) -> Option<Redirection> {
        let text = std::str::from_utf8(text).ok()?;
        let mut words = text.split(' ');
        let kind = words.next()?;
        if kind != "MOVED" && kind != "ASK" {
            return None;
        }
        let slot: u16 = words.next()?.parse().ok()?;
        let (host, port) = words.next()?.rsplit_once(':')?;
        let node = address_of(host.as_bytes(), port.parse().ok()?, asked);
        if usize::from(slot) >= SLOTS {
            return None;
        }
        Some(match kind {
            "MOVED" => Redirection::Moved(slot, node),
            _ => Redirection::Ask(node),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_of_keys() {
        // From the cluster specification, and hash tags by its rules.
        assert_eq!(slot_of(b"123456789"), 0x31c3);
        assert_eq!(slot_of(b"foo"), 12182);
        assert_eq!(slot_of(b"a{foo}b"), 12182);
        assert_eq!(slot_of(b"{foo}{bar}"), 12182);
        assert_eq!(slot_of(b"{}foo"), slot_of_plain(b"{}foo"));
        assert_eq!(slot_of(b"{foo"), slot_of_plain(b"{foo"));
    }

    fn slot_of_plain(key: &[u8]) -> u16 {
        CRC.checksum(key) % 16384
    }

    #[test]
    fn redirections() {
        let here = Address::Tcp("10.0.0.9".into(), 1);
        let to = |host: &str, port| Address::Tcp(host.to_owned(), port);
        let parse = |text: &str| Redirection::parse(text.as_bytes(), &here);
        assert_eq!(
            parse("MOVED 7 10.0.0.1:6379"),
            Some(Redirection::Moved(7, to("10.0.0.1", 6379)))
        );
        assert_eq!(
            parse("ASK 7 :6379"),
            Some(Redirection::Ask(to("10.0.0.9", 6379)))
        );
        assert_eq!(
            parse("MOVED 7 ::1:6379"),
            Some(Redirection::Moved(7, to("::1", 6379)))
        );
        for other in [
            "ERR x",
            "MOVED",
            "MOVED 16384 a:1",
            "MOVED x a:1",
            "ASK 1 a",
        ] {
            assert_eq!(parse(other), None, "{other}");
        }
    }

    #[test]
    fn the_reply_to_cluster_slots() {
        let node = |host: &str, port| {
            Reply::Array(vec![
                Reply::Bulk(host.as_bytes().to_vec()),
                Reply::Int(port),
            ])
        };
        let range =
            |first, last, node| Reply::Array(vec![Reply::Int(first), Reply::Int(last), node]);
        let here = Address::Tcp("h".into(), 1);
        let reply = Reply::Array(vec![
            range(0, 99, node("10.0.0.1", 7000)),
            range(100, 199, node("", 7001)),
            Reply::Array(vec![
                Reply::Int(300),
                Reply::Int(300),
                node("10.0.0.1", 7000),
                node("10.0.0.2", 7002),
            ]),
        ]);
        let topology = Topology::read(&reply, &here).expect("a topology");
        assert_eq!(
            topology.nodes,
            [
                Address::Tcp("10.0.0.1".into(), 7000),
                Address::Tcp("h".into(), 7001)
            ]
        );
        assert_eq!(topology.replicas, [Address::Tcp("10.0.0.2".into(), 7002)]);
        let at = |slot: usize| topology.slots[slot];
        assert_eq!((at(0), at(199), at(200), at(300)), (0, 1, u16::MAX, 0));
        let beyond = Reply::Array(vec![range(0, 16384, node("a", 1))]);
        assert!(Topology::read(&beyond, &here).is_err());
        assert!(Topology::read(&Reply::Error(b"ERR no cluster".to_vec()), &here).is_err());
    }
}
