//! What happens by the clock, ten times a second.

use super::{Bus, Ix, flags};
use crate::api::Action;
use crate::ids::Now;
use crate::wire::MessageType;
use tracing::{info, warn};

/// Every so many ticks a node picked at random is pinged: once a second.
const RANDOM_PING_TICKS: u64 = 10;
/// Of so many random nodes, the one whose last pong is oldest is pinged.
const RANDOM_PING_SAMPLE: usize = 5;
/// How often a node that cannot be connected is tried within half a node time-out.
const CONNECTS_PER_HALF_TIMEOUT: u64 = 10;
const TICK_MS: u64 = 100;
/// A handshake gets at least so long.
const HANDSHAKE_TIMEOUT_MIN_MS: u64 = 1000;

impl Bus {
    pub(super) fn handshake_timeout_ms(&self) -> u64 {
        self.cfg.node_timeout_ms.max(HANDSHAKE_TIMEOUT_MIN_MS)
    }

    /// Reconnects, pings, suspects; writes `nodes.conf` if something in it has changed. To be called every 100 ms.
    pub fn on_tick(&mut self, now: Now) {
        self.iteration += 1;
        self.forgotten.retain(|_, until| *until > now.mono_ms);
        self.follow_wanted_leader(now);

        self.suspects = 0;
        let half_timeout = (self.cfg.node_timeout_ms / 2).max(1);
        let mut connects_left =
            self.table.len() as u64 * TICK_MS / half_timeout * CONNECTS_PER_HALF_TIMEOUT;
        for ix in self.table.places() {
            self.tend_link(ix, &mut connects_left, now);
        }
        if self.iteration.is_multiple_of(RANDOM_PING_TICKS) {
            self.ping_a_random_node(now);
        }
        for ix in self.table.places() {
            self.watch(ix, now);
        }
        if self.down.is_some() || !self.safe_to_vote {
            self.todo.state = true;
        }
        if std::mem::take(&mut self.todo.save) {
            let sync = std::mem::take(&mut self.todo.sync);
            let text = self.conf_text(now);
            self.actions.push_front(Action::Persist { text, sync });
        }
    }

    /// Keeps a link of ours to a node, and gives up on handshakes that take too long.
    fn tend_link(&mut self, ix: Ix, connects_left: &mut u64, now: Now) {
        let limit = self.cfg.link_sendbuf_limit;
        let node = self.table.node(ix);
        for link in [node.link, node.inbound].into_iter().flatten() {
            if limit != 0 && self.links.get(&link).is_some_and(|l| l.queued > limit) {
                warn!(
                    "Closing the cluster link of node {}: too much waits to be sent",
                    self.table.node(ix).id
                );
                self.close_link(link, now);
                self.stats.links_over_limit += 1;
            }
        }
        let timeout_ms = self.handshake_timeout_ms();
        let node = self.table.node(ix);
        if node.has(flags::MYSELF | flags::NOADDR) {
            return;
        }
        self.suspects += usize::from(node.has(flags::PFAIL));
        if node.has(flags::HANDSHAKE) && now.since(node.created) > timeout_ms {
            warn!("Clusterbus handshake timeout {}:{}", node.ip, node.bus_port);
            self.remove_node(ix, now);
            return;
        }
        if let Some(link) = node.link {
            // A link to it but none from it, for long: it does not know us. Valkey asks the same way, from 8.1 on.
            if node.is_normal()
                && node.inbound.is_none()
                && now.since(node.inbound_freed) > timeout_ms
                && node.meet_sent.is_none_or(|at| now.since(at) > timeout_ms)
                && node.has(flags::LIGHT_MODULE)
            {
                info!(
                    "Sending MEET packet to node {} because there is no inbound link for it",
                    node.id
                );
                self.table.node_mut(ix).set(flags::MEET, true);
                self.send_ping(link, MessageType::Meet, now);
            }
            return;
        }
        let recently = node.connect_tried.is_some_and(|at| {
            now.since(at) < self.cfg.node_timeout_ms / 2 / CONNECTS_PER_HALF_TIMEOUT
        });
        if node.inbound.is_none() && recently && *connects_left == 0 {
            return;
        }
        *connects_left = connects_left.saturating_sub(1);
        let (host, port) = (node.ip.clone(), node.bus_port);
        let link = self.new_link(Some(ix), now);
        let node = self.table.node_mut(ix);
        node.connect_tried = Some(now.mono_ms);
        node.link = Some(link);
        self.actions.push_back(Action::Connect { link, host, port });
    }

    fn ping_a_random_node(&mut self, now: Now) {
        let places = self.table.places();
        let mut oldest: Option<(Option<u64>, crate::ids::LinkId)> = None;
        for _ in 0..RANDOM_PING_SAMPLE {
            let node = self.table.node(places[self.rng.below(places.len())]);
            let Some(link) = node
                .link
                .filter(|link| self.links.get(link).is_some_and(|l| l.up))
            else {
                continue;
            };
            if node.ping_sent.is_some() || node.has(flags::MYSELF | flags::HANDSHAKE) {
                continue;
            }
            if oldest.is_none_or(|(pong, _)| node.pong_received < pong) {
                oldest = Some((node.pong_received, link));
            }
        }
        if let Some((_, link)) = oldest {
            self.send_ping(link, MessageType::Ping, now);
        }
    }

    /// Pings a node that has not answered for a while, makes its link anew, and suspects it.
    fn watch(&mut self, ix: Ix, now: Now) {
        let timeout_ms = self.cfg.node_timeout_ms;
        let node = self.table.node(ix);
        if node.has(flags::MYSELF | flags::NOADDR | flags::HANDSHAKE) {
            return;
        }
        let silent_ms = now.since(node.data_received);
        let link = node
            .link
            .and_then(|id| self.links.get(&id).map(|link| (id, link.created, link.up)));
        if let (Some((id, created, _)), Some(sent)) = (link, node.ping_sent)
            && now.since(created) > timeout_ms
            && now.since(sent) > timeout_ms / 2
            && silent_ms > timeout_ms / 2
        {
            // Perhaps only the connection is dead. The next tick makes a new one.
            self.close_link(id, now);
        }
        let node = self.table.node(ix);
        let Some(sent) = node.ping_sent else {
            let interval_ms = self.cfg.ping_interval_ms.unwrap_or(timeout_ms / 2);
            if let Some((id, _, true)) = link
                && node
                    .pong_received
                    .is_none_or(|at| now.since(at) > interval_ms)
            {
                self.send_ping(id, MessageType::Ping, now);
            }
            return;
        };
        // Any data proves that it lives: under load a pong may queue behind messages for subscribers.
        if now.since(sent).min(silent_ms) > timeout_ms && !node.has(flags::PFAIL | flags::FAIL) {
            info!("NODE {} possibly failing.", node.id);
            self.table.node_mut(ix).set(flags::PFAIL, true);
            self.todo.state = true;
            self.todo.view = true;
            if self.my().votes() {
                self.mark_failing_if_agreed(ix, now);
            }
        }
    }
}
