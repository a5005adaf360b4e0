//! What migrations know of the cluster: which node is where, in which shard, and who owns which slot.

use holdfast_cluster_bus::Bus;
use holdfast_slot_migration::{NodeId, SLOTS, ShardId, SlotRanges};
use std::sync::{Arc, Mutex, PoisonError};

/// A node that serves data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its name.
    pub node: NodeId,
    /// Its shard.
    pub shard: ShardId,
    /// Address.
    pub host: String,
    /// Port for clients.
    pub port: u16,
    /// TLS port for clients; 0 if it has none.
    pub tls_port: u16,
    /// Whether the bus takes it for a primary.
    pub primary: bool,
}

/// The cluster at one moment, as the bus sees it.
#[derive(Clone, Debug, Default)]
pub struct Directory {
    peers: Vec<Peer>,
    /// For each slot, an index into `peers`.
    owners: Vec<Option<u16>>,
    witnesses: Vec<NodeId>,
}

impl Directory {
    /// What the bus says now.
    pub fn of(bus: &Bus) -> Directory {
        let mut out = Directory {
            owners: vec![None; usize::from(SLOTS)],
            ..Directory::default()
        };
        for node in bus.nodes() {
            let (Some(id), Some(shard)) = (node.id.to_bytes(), node.shard.to_bytes()) else {
                continue;
            };
            if node.witness {
                out.witnesses.push(NodeId(id));
                continue;
            }
            if node.handshake {
                continue;
            }
            let index = u16::try_from(out.peers.len()).unwrap_or(u16::MAX);
            for slot in node.slots.iter() {
                if let Some(owner) = out.owners.get_mut(usize::from(slot)) {
                    *owner = Some(index);
                }
            }
            out.peers.push(Peer {
                node: NodeId(id),
                shard: ShardId(shard),
                // A node that has not learned its own address yet is reached where everything local is.
                host: if node.ip.is_empty() {
                    "127.0.0.1".into()
                } else {
                    node.ip
                },
                port: node.port,
                tls_port: node.tls_port,
                primary: !node.replica,
            });
        }
        out
    }

    /// A directory of these peers and owners, for tests and tools.
    pub fn new(peers: Vec<Peer>, owned: &[(SlotRanges, NodeId)]) -> Directory {
        let mut owners = vec![None; usize::from(SLOTS)];
        for (slots, node) in owned {
            let index = peers
                .iter()
                .position(|p| p.node == *node)
                .and_then(|i| u16::try_from(i).ok());
            for slot in slots.iter() {
                if let Some(owner) = owners.get_mut(usize::from(slot)) {
                    *owner = index;
                }
            }
        }
        Directory {
            peers,
            owners,
            witnesses: Vec::new(),
        }
    }

    /// The node of that name.
    pub fn peer(&self, node: NodeId) -> Option<&Peer> {
        self.peers.iter().find(|p| p.node == node)
    }

    /// Whether a node is a witness.
    pub fn is_witness(&self, node: NodeId) -> bool {
        self.witnesses.contains(&node)
    }

    /// The owner of a slot.
    pub fn owner(&self, slot: u16) -> Option<&Peer> {
        let index = (*self.owners.get(usize::from(slot))?)?;
        self.peers.get(usize::from(index))
    }

    /// The nodes of a shard in the order in which to ask them: `first`, then primaries, then the rest.
    pub fn of_shard(&self, shard: ShardId, first: Option<NodeId>) -> Vec<Peer> {
        let mut peers: Vec<Peer> = self
            .peers
            .iter()
            .filter(|p| p.shard == shard)
            .cloned()
            .collect();
        peers.sort_by_key(|p| (!p.primary, Some(p.node) != first, p.node));
        peers
    }
}

/// The newest directory, shared by the tasks of the control thread.
#[derive(Clone, Debug, Default)]
pub struct SharedDirectory(Arc<Mutex<Arc<Directory>>>);

impl SharedDirectory {
    /// Puts a newer one in place.
    pub fn set(&self, directory: Directory) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(directory);
    }

    /// The newest one.
    pub fn get(&self) -> Arc<Directory> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}
