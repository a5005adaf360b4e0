//! What a message does.

use super::{Bus, Ix, flags};
use crate::api::Action;
use crate::ids::{LinkId, Now};
use crate::wire::{Body, DropReason, Header, Message, MessageType, PingBody, decode, mflags};
use bytes::Bytes;
use tracing::{debug, info};

impl Bus {
    /// Takes one whole message, cut out of the stream by [`crate::wire::frame_len`].
    ///
    /// An error says that it was dropped and why; it has been counted. The connection may stay open: a bad message says
    /// nothing about the next one.
    pub fn on_packet(&mut self, link: LinkId, packet: &[u8], now: Now) -> Result<(), DropReason> {
        if !self.links.contains_key(&link) {
            return Ok(());
        }
        let taken = decode(packet).and_then(|message| {
            self.stats
                .count_received(message.body.message_type(), packet.len());
            self.take(link, &message, now)
        });
        if let Err(reason) = taken {
            self.count_dropped(reason);
        }
        taken
    }

    fn take(&mut self, link: LinkId, message: &Message<'_>, now: Now) -> Result<(), DropReason> {
        let Some(header) = &message.header else {
            return self.take_light(link, &message.body, now);
        };
        let sender = self.sender_of(link, header, now);
        if let Some(l) = self.links.get_mut(&link) {
            l.extensions |= header.mflags & mflags::EXT_DATA != 0;
            l.holdfast |= header.holdfast;
        }
        if let Some(ix) = sender {
            self.note_sender(ix, link, header, now);
        }
        match &message.body {
            Body::Ping(body) => self.on_ping(MessageType::Ping, link, sender, header, body, now),
            Body::Pong(body) => self.on_ping(MessageType::Pong, link, sender, header, body, now),
            Body::Meet(body) => self.on_ping(MessageType::Meet, link, sender, header, body, now),
            Body::Fail(failed) => {
                sender.ok_or(DropReason::UnknownSender)?;
                if let Some(ix) = self.table.lookup(failed)
                    && !self.table.node(ix).has(flags::FAIL | flags::MYSELF)
                {
                    info!(
                        "FAIL message received from {} about {failed}",
                        header.sender
                    );
                    self.mark_failing(ix, now);
                }
                Ok(())
            }
            Body::Publish {
                sharded,
                channel,
                message,
            } => {
                sender.ok_or(DropReason::UnknownSender)?;
                self.deliver(*sharded, channel, message);
                Ok(())
            }
            Body::FailoverAuthRequest => {
                let sender = sender.ok_or(DropReason::UnknownSender)?;
                self.consider_vote(sender, header);
                Ok(())
            }
            Body::Update {
                node,
                config_epoch,
                slots,
            } => {
                sender.ok_or(DropReason::UnknownSender)?;
                self.on_update(node, *config_epoch, slots, now);
                Ok(())
            }
            Body::MfStart => {
                sender.ok_or(DropReason::UnknownSender)?;
                // By its own word, which may be newer than what we have heard of it. The shard's log knows whether it is a
                // member.
                if self.leads() && header.replica_of == Some(self.my().id) {
                    info!("Manual failover requested by replica {}", header.sender);
                    self.actions.push_back(Action::FailoverRequested {
                        replica: header.sender,
                    });
                }
                Ok(())
            }
            // We never ask for votes, and have no modules.
            Body::FailoverAuthAck | Body::Module => Ok(()),
        }
    }

    fn take_light(&mut self, link: LinkId, body: &Body<'_>, now: Now) -> Result<(), DropReason> {
        let node = self.links.get(&link).and_then(|l| l.node);
        let Some(ix) = node.filter(|ix| !self.table.node(*ix).has(flags::HANDSHAKE)) else {
            self.close_link(link, now);
            return Err(DropReason::LightFromUnknown);
        };
        self.table.node_mut(ix).data_received = now.mono_ms;
        if let Body::Publish {
            sharded,
            channel,
            message,
        } = body
        {
            self.deliver(*sharded, channel, message);
        }
        Ok(())
    }

    fn deliver(&mut self, sharded: bool, channel: &[u8], message: &[u8]) {
        self.actions.push_back(Action::Publish {
            sharded,
            channel: Bytes::copy_from_slice(channel),
            message: Bytes::copy_from_slice(message),
        });
    }

    /// The node that speaks: the link's, once its name is known; else by the name in the header.
    fn sender_of(&mut self, link_id: LinkId, header: &Header<'_>, now: Now) -> Option<Ix> {
        let link = self.links.get(&link_id)?;
        if let Some(ix) = link.node
            && !self.table.node(ix).has(flags::HANDSHAKE)
        {
            return Some(ix);
        }
        let ix = self.table.lookup(&header.sender)?;
        if link.node.is_none() && ix != self.me {
            self.bind_inbound(ix, link_id, now);
        }
        Some(ix)
    }

    /// Ties an accepted link to its node. An older one of that node is more likely dead than this one.
    fn bind_inbound(&mut self, ix: Ix, link_id: LinkId, now: Now) {
        if let Some(old) = self.table.node(ix).inbound {
            self.close_link(old, now);
        }
        self.table.node_mut(ix).inbound = Some(link_id);
        if let Some(link) = self.links.get_mut(&link_id) {
            link.node = Some(ix);
        }
    }

    /// What every full message tells of its sender.
    fn note_sender(&mut self, ix: Ix, link: LinkId, header: &Header<'_>, now: Now) {
        if ix == self.me {
            return;
        }
        let extensions = self.links.get(&link).is_some_and(|l| l.extensions);
        let node = self.table.node_mut(ix);
        node.data_received = now.mono_ms;
        node.is_holdfast = header.holdfast;
        if extensions {
            node.set(flags::EXTENSIONS, true);
        }
        for flag in [
            flags::LIGHT_PUBLISH,
            flags::LIGHT_MODULE,
            flags::MY_PRIMARY_FAIL,
        ] {
            node.set(flag, header.flags & flag != 0);
        }
        if node.has(flags::HANDSHAKE) {
            return;
        }
        let was_empty = node.offset == 0;
        node.offset = header.offset;
        self.todo.view |= was_empty != (header.offset == 0);
        if header.replica_of.is_none() && header.config_epoch > node.config_epoch {
            node.config_epoch = header.config_epoch;
            self.save(true);
        }
        self.current_epoch = self.current_epoch.max(header.current_epoch);
    }

    fn on_ping(
        &mut self,
        kind: MessageType,
        link: LinkId,
        sender: Option<Ix>,
        header: &Header<'_>,
        body: &PingBody<'_>,
        now: Now,
    ) -> Result<(), DropReason> {
        if kind != MessageType::Pong {
            self.learn_own_address(kind, link);
            if kind == MessageType::Meet {
                self.on_meet(link, sender, header, body, now);
            }
            // Everybody is answered, known or not: a node that has met us learns our name from the answer.
            self.send_ping(link, MessageType::Pong, now);
        }
        if let Some(ix) = sender
            && self.table.node(ix).has(flags::MEET)
        {
            self.table.node_mut(ix).set(flags::MEET, false);
            info!(
                "Successfully completed handshake with {}",
                self.table.node(ix).id
            );
        }
        let Some(l) = self.links.get(&link) else {
            return Ok(());
        };
        let inbound = l.inbound;
        let mut sender = sender;
        if let (false, Some(ix)) = (inbound, l.node) {
            if self.table.node(ix).has(flags::HANDSHAKE) {
                if let Some(known) = sender {
                    // We have met somebody that we know: that one's address is news, this placeholder is not needed.
                    debug!(
                        "Handshake: we already know node {}",
                        self.table.node(known).id
                    );
                    self.update_address(known, link, header, now);
                    self.remove_node(ix, now);
                    return Ok(());
                }
                if !self.table.rename(ix, header.sender) {
                    return Ok(());
                }
                let node = self.table.node_mut(ix);
                node.set(flags::HANDSHAKE, false);
                node.flags |= header.flags & (flags::PRIMARY | flags::REPLICA);
                debug!("Handshake with node {} completed", header.sender);
                self.changed(false);
                // Valkey processes the rest at the next message. So do we; what the handshake itself brought is in.
                sender = None;
            } else if self.table.node(ix).id != header.sender {
                self.on_other_node_there(ix, link, now);
                return Ok(());
            }
        }
        if let Some(ix) = sender {
            let nofailover = header.flags & flags::NOFAILOVER != 0;
            if self.table.node(ix).has(flags::NOFAILOVER) != nofailover && ix != self.me {
                self.table.node_mut(ix).set(flags::NOFAILOVER, nofailover);
                self.save(false);
            }
            if kind == MessageType::Ping && !self.table.node(ix).has(flags::HANDSHAKE) {
                self.update_address(ix, link, header, now);
            }
        }
        if kind == MessageType::Pong && !inbound {
            self.on_pong(link, now);
        }
        if let Some(ix) = sender.filter(|ix| *ix != self.me) {
            self.take_config(ix, header, now);
            self.take_gossip(Some(ix), body, now);
            self.take_extensions(ix, &body.extensions, now);
        } else if sender.is_none() && kind == MessageType::Ping {
            return Err(DropReason::UnknownSender);
        }
        Ok(())
    }

    /// Others reach us under the address that they connected to, so an incoming connection tells us our own.
    fn learn_own_address(&mut self, kind: MessageType, link: LinkId) {
        if !self.cfg.announce_ip.is_empty()
            || (kind != MessageType::Meet && !self.my().ip.is_empty())
        {
            return;
        }
        let Some(local) = self
            .links
            .get(&link)
            .map(|l| l.local_ip.clone())
            .filter(|ip| !ip.is_empty())
        else {
            return;
        };
        let me = self.table.node_mut(self.me);
        if me.ip != local {
            info!("IP address for this node updated to {local}");
            me.ip = local;
            self.save(false);
        }
    }

    fn on_pong(&mut self, link: LinkId, now: Now) {
        let Some(ix) = self.links.get(&link).and_then(|l| l.node) else {
            return;
        };
        let node = self.table.node_mut(ix);
        node.pong_received = Some(now.mono_ms);
        node.ping_sent = None;
        if node.has(flags::PFAIL) {
            node.set(flags::PFAIL, false);
            self.changed(false);
        } else if node.has(flags::FAIL) {
            self.clear_failure(ix, now);
        }
    }

    /// At this address another node answers than the one that we knew: that one was reset, or its machine replaced.
    fn on_other_node_there(&mut self, ix: Ix, link: LinkId, now: Now) {
        let node = self.table.node_mut(ix);
        info!(
            "PONG contains mismatching sender ID. About node {}",
            node.id
        );
        node.set(flags::NOADDR, true);
        node.ip.clear();
        node.port = 0;
        node.tls_port = 0;
        node.bus_port = 0;
        let failed = node.has(flags::FAIL);
        self.close_link(link, now);
        if !failed {
            self.mark_failing(ix, now);
            self.send_fail(ix);
        }
        self.changed(false);
    }

    /// Takes a node's address from a message of its own, if it is news. Our link to it is then made anew.
    fn update_address(&mut self, ix: Ix, link_id: LinkId, header: &Header<'_>, now: Now) {
        if ix == self.me || self.table.node(ix).link == Some(link_id) {
            return;
        }
        let Some(link) = self.links.get(&link_id) else {
            return;
        };
        let ip = if header.address.is_empty() {
            link.peer_ip.as_str()
        } else {
            header.address
        };
        if ip.is_empty() {
            return;
        }
        let ip = ip.to_owned();
        let (port, tls_port) = self.ordered_ports(header.port, header.other_port);
        self.set_address(ix, &ip, port, tls_port, header.bus_port, now);
    }

    pub(super) fn set_address(
        &mut self,
        ix: Ix,
        ip: &str,
        port: u16,
        tls_port: u16,
        bus_port: u16,
        now: Now,
    ) {
        let node = self.table.node_mut(ix);
        if node.ip == ip
            && node.port == port
            && node.tls_port == tls_port
            && node.bus_port == bus_port
        {
            return;
        }
        node.ip = ip.to_owned();
        node.port = port;
        node.tls_port = tls_port;
        node.bus_port = bus_port;
        node.set(flags::NOADDR, false);
        info!("Address updated for node {}, now {ip}:{port}", node.id);
        if let Some(link) = node.link {
            self.close_link(link, now);
        }
        self.changed(false);
    }
}
