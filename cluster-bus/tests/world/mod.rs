//! Some buses, a network without delays between them, and one clock.

use holdfast_cluster_bus::{
    Action, Bus, BusConfig, LinkId, NodeId, NodesConf, Now, ShardId, SlotSet,
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

pub struct World {
    pub now: Now,
    pub buses: Vec<Bus>,
    /// Nodes whose process does not run.
    pub dead: BTreeSet<usize>,
    /// Pairs that cannot reach each other; the smaller first.
    pub cut: BTreeSet<(usize, usize)>,
    /// The other end of a connection's end.
    ends: BTreeMap<(usize, LinkId), (usize, LinkId)>,
    /// What each node has written last.
    pub disks: Vec<String>,
    pub lost: Vec<(usize, SlotSet)>,
    pub published: Vec<(usize, Vec<u8>)>,
    pub failovers: Vec<(usize, NodeId)>,
    /// Every action, in order, if a test wants them.
    pub log: Option<Vec<String>>,
    packets: VecDeque<(usize, LinkId, bytes::Bytes)>,
}

pub fn config(n: usize) -> BusConfig {
    BusConfig {
        node_timeout_ms: 2000,
        port: 7000 + n as u16,
        bus_port: 17000 + n as u16,
        ..BusConfig::default()
    }
}

pub fn name(n: usize) -> NodeId {
    NodeId::from_bytes([n as u8 + 1; 20])
}

pub fn shard(n: usize) -> ShardId {
    ShardId::from_bytes([n as u8 + 0x81; 20])
}

impl World {
    pub fn new(nodes: usize, cfg: impl Fn(usize) -> BusConfig) -> World {
        let now = Now {
            mono_ms: 1_000_000,
            unix_ms: 1_700_000_000_000,
        };
        World {
            now,
            buses: (0..nodes)
                .map(|n| Bus::new(cfg(n), name(n), shard(n), n as u64 * 77, now))
                .collect(),
            dead: BTreeSet::new(),
            cut: BTreeSet::new(),
            ends: BTreeMap::new(),
            disks: vec![String::new(); nodes],
            lost: Vec::new(),
            published: Vec::new(),
            failovers: Vec::new(),
            log: None,
            packets: VecDeque::new(),
        }
    }

    /// A cluster of primaries that share the slots evenly, already settled.
    pub fn settled(nodes: usize, cfg: impl Fn(usize) -> BusConfig) -> World {
        let mut world = World::new(nodes, cfg);
        for n in 0..nodes {
            let per = 16384 / nodes;
            let end = if n + 1 == nodes {
                16383
            } else {
                (n + 1) * per - 1
            };
            world.buses[n]
                .add_slots(&SlotSet::from_ranges([((n * per) as u16, end as u16)]))
                .unwrap();
        }
        world.meet_all();
        world.run(8000);
        for bus in &world.buses {
            assert!(bus.is_ok(), "{}", bus.describe_all(false, world.now));
        }
        world
    }

    pub fn meet_all(&mut self) {
        for n in 1..self.buses.len() {
            let now = self.now;
            self.buses[0]
                .meet("127.0.0.1", 7000 + n as u16, 17000 + n as u16, now)
                .unwrap();
        }
    }

    fn reachable(&self, a: usize, b: usize) -> bool {
        !self.dead.contains(&a)
            && !self.dead.contains(&b)
            && !self.cut.contains(&(a.min(b), a.max(b)))
    }

    /// Lets so many milliseconds pass.
    pub fn run(&mut self, ms: u64) {
        for _ in 0..ms / 100 {
            self.now.mono_ms += 100;
            self.now.unix_ms += 100;
            for n in 0..self.buses.len() {
                if !self.dead.contains(&n) {
                    self.buses[n].on_tick(self.now);
                }
            }
            self.settle();
        }
    }

    /// Carries everything out that has no time of its own to wait for.
    pub fn settle(&mut self) {
        for n in 0..self.buses.len() {
            self.carry_out(n);
        }
        while let Some((n, link, packet)) = self.packets.pop_front() {
            if let Some((to, end)) = self.ends.get(&(n, link)).copied()
                && self.reachable(n, to)
            {
                let now = self.now;
                // A message from a node that is not known yet is dropped, and that is no fault.
                let _ = self.buses[to].on_packet(end, &packet, now);
                self.carry_out(to);
            }
        }
    }

    fn carry_out(&mut self, n: usize) {
        if self.dead.contains(&n) {
            return;
        }
        while let Some(action) = self.buses[n].poll_action(self.now) {
            if let Some(log) = &mut self.log {
                log.push(format!("{n} {action:?}"));
            }
            match action {
                Action::Connect { link, port, .. } => {
                    let to = usize::from(port) - 17000;
                    let now = self.now;
                    if self.reachable(n, to) {
                        let end = self.buses[to].on_accepted("127.0.0.1", "127.0.0.1", now);
                        self.ends.insert((n, link), (to, end));
                        self.ends.insert((to, end), (n, link));
                        self.buses[n].on_connected(link, "127.0.0.1", "127.0.0.1", now);
                    } else if self.dead.contains(&to) {
                        self.buses[n].on_disconnected(link, now);
                    }
                }
                Action::Send { link, packet } => self.packets.push_back((n, link, packet)),
                Action::Close { link } => self.hang_up(n, link),
                Action::Persist { text, .. } => self.disks[n] = text,
                Action::ViewChanged => {}
                Action::FailoverRequested { replica } => self.failovers.push((n, replica)),
                Action::Publish { message, .. } => self.published.push((n, message.to_vec())),
                Action::SlotsLost { slots } => self.lost.push((n, slots)),
            }
        }
    }

    fn hang_up(&mut self, n: usize, link: LinkId) {
        if let Some((to, end)) = self.ends.remove(&(n, link)) {
            self.ends.remove(&(to, end));
            let now = self.now;
            self.buses[to].on_disconnected(end, now);
        }
    }

    pub fn kill(&mut self, n: usize) {
        self.dead.insert(n);
        let links: Vec<_> = self
            .ends
            .keys()
            .filter(|(node, _)| *node == n)
            .copied()
            .collect();
        for (node, link) in links {
            self.hang_up(node, link);
        }
    }

    /// Starts a killed node again from what it has written.
    pub fn restart(&mut self, n: usize) {
        let conf = NodesConf::parse(&self.disks[n]).unwrap();
        let cfg = self.buses[n].config().clone();
        self.buses[n] = Bus::restore(cfg, &conf, self.now.mono_ms, self.now);
        self.dead.remove(&n);
    }

    /// Whom node `n` takes for the owner of a slot.
    pub fn owner(&self, n: usize, slot: u16) -> Option<usize> {
        let id = self.buses[n].slot_owner(slot)?;
        (0..self.buses.len()).find(|other| name(*other) == id)
    }

    /// All living nodes agree on this owner.
    pub fn agreed(&self, slot: u16, owner: usize) {
        for n in (0..self.buses.len()).filter(|n| !self.dead.contains(n)) {
            assert_eq!(
                self.owner(n, slot),
                Some(owner),
                "node {n}:\n{}",
                self.buses[n].describe_all(false, self.now)
            );
        }
    }
}
