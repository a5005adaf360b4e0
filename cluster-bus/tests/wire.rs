//! The codec against packets captured from real servers, against itself, and against noise.

use holdfast_cluster_bus::wire::{
    Body, DropReason, Extensions, ForgottenNode, Gossip, HEADER_LEN, Header, HeaderOut,
    HoldfastInfo, MESSAGE_MAX, Message, MessageType, decode, encode_bare, encode_fail, encode_ping,
    encode_publish, encode_publish_light, encode_update, flags, frame_len, mflags,
};
use holdfast_cluster_bus::{NodeId, ShardId, SlotSet};
use proptest::prelude::*;

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

fn id(text: &str) -> NodeId {
    text.parse().unwrap()
}

/// A `PONG` that valkey-server 9.1.2 sent: three nodes, so one gossip entry; host name, human name and shard as extensions.
const VALKEY_9_1: &str = include_str!("golden/pong-valkey-9.1.2.hex");
/// The same of 8.0.1, which sends extensions only where it knows that they are read.
const VALKEY_8_0: &str = include_str!("golden/pong-valkey-8.0.1.hex");

fn header_out<'a>(header: &Header<'a>, slots: &'a SlotSet) -> HeaderOut<'a> {
    HeaderOut {
        sender: header.sender,
        port: header.port,
        other_port: header.other_port,
        bus_port: header.bus_port,
        current_epoch: header.current_epoch,
        config_epoch: header.config_epoch,
        offset: header.offset,
        slots,
        replica_of: header.replica_of,
        address: header.address,
        flags: header.flags,
        state: header.state,
        mflags: header.mflags,
    }
}

/// Our encoding of what was decoded, with the mark that tells Holdfast nodes apart taken out.
fn encoded_again(packet: &[u8], with_extensions: bool) -> Vec<u8> {
    let message = decode(packet).unwrap();
    let header = message.header.unwrap();
    let Body::Pong(body) = message.body else {
        panic!("a pong")
    };
    let slots = SlotSet::from_bitmap(header.slots);
    let extensions = with_extensions.then_some(&body.extensions);
    let out = header_out(&header, &slots);
    let mut again =
        encode_ping(MessageType::Pong, &out, &body.gossip.unwrap(), extensions).to_vec();
    again[2216..2224].fill(0);
    again
}

#[test]
fn a_pong_of_valkey_9_1() {
    let packet = hex(VALKEY_9_1);
    assert_eq!(frame_len(&packet), Ok(Some(packet.len())));
    let Message {
        header: Some(header),
        body: Body::Pong(body),
    } = decode(&packet).unwrap()
    else {
        panic!("a pong with a full header")
    };
    assert_eq!(
        header.sender,
        id("e27ab0642835a025b72c35eda2b207e413d2db80")
    );
    assert_eq!(
        (header.port, header.other_port, header.bus_port),
        (21311, 0, 31311)
    );
    assert_eq!(
        (header.current_epoch, header.config_epoch, header.offset),
        (8, 7, 0)
    );
    assert_eq!(
        SlotSet::from_bitmap(header.slots),
        SlotSet::from_ranges([(0, 0), (100, 200), (16383, 16383)])
    );
    assert_eq!(
        (header.replica_of, header.address, header.state),
        (None, "", 1)
    );
    let abilities = flags::EXTENSIONS | flags::LIGHT_PUBLISH | flags::LIGHT_MODULE;
    assert_eq!(header.flags, flags::PRIMARY | flags::MYSELF | abilities);
    assert_eq!(header.mflags, mflags::EXT_DATA);
    assert!(!header.holdfast);
    let gossip = body.gossip.unwrap();
    assert_eq!(gossip.len(), 1);
    assert_eq!(
        (
            gossip[0].address,
            gossip[0].port + 10_000,
            gossip[0].other_port
        ),
        ("127.0.0.1", gossip[0].bus_port, 0)
    );
    assert_eq!(body.extensions.hostname, "node0.example");
    assert_eq!(body.extensions.human_nodename, "human0");
    assert_eq!(
        body.extensions.shard,
        Some("9c3c213cf25d34042da19ea68e7cd182b05057af".parse().unwrap())
    );
    assert_eq!(encoded_again(&packet, true), packet);
}

#[test]
fn a_pong_of_valkey_8_0() {
    let packet = hex(VALKEY_8_0);
    let message = decode(&packet).unwrap();
    let header = message.header.unwrap();
    assert_eq!(
        header.sender,
        id("15bd5248f44870da6bc295e1a19b5bac11e497e9")
    );
    assert_eq!(encoded_again(&packet, false), packet);
}

fn sample<'a>(slots: &'a SlotSet) -> HeaderOut<'a> {
    HeaderOut {
        sender: NodeId::from_bytes([0x11; 20]),
        port: 7000,
        other_port: 7001,
        bus_port: 17000,
        current_epoch: 5,
        config_epoch: 4,
        offset: 123,
        slots,
        replica_of: Some(NodeId::from_bytes([0x22; 20])),
        address: "10.1.2.3",
        flags: flags::REPLICA | flags::MYSELF,
        state: 0,
        mflags: 0,
    }
}

#[test]
fn layout_of_every_type() {
    let slots = SlotSet::from_ranges([(5, 9)]);
    let from = sample(&slots);
    let other = NodeId::from_bytes([0x33; 20]);
    let fail = encode_fail(&from, &other);
    assert_eq!(
        (fail.len(), &fail[12..14], &fail[2256..]),
        (2296, &[0, 3][..], &other.as_bytes()[..])
    );
    let update = encode_update(&from, &other, 9, &slots);
    assert_eq!((update.len(), &update[12..14]), (2256 + 2096, &[0, 7][..]));
    assert_eq!(update[2256..2264], 9u64.to_be_bytes());
    assert_eq!(update[2264..2304], other.as_bytes()[..]);
    assert_eq!(update[2304..2306], [0b1110_0000, 0b11]);
    let publish = encode_publish(&from, true, b"ch", b"hello");
    assert_eq!(
        (publish.len(), &publish[12..14]),
        (2256 + 8 + 7, &[0, 10][..])
    );
    assert_eq!(publish[2256..], *b"\0\0\0\x02\0\0\0\x05chhello");
    let light = encode_publish_light(false, b"ch", b"hello");
    assert_eq!(
        light[..],
        *b"RCmb\0\0\0\x1f\0\x01\0\0\x80\x04\0\0\0\0\0\x02\0\0\0\x05chhello"
    );
    for kind in [
        MessageType::FailoverAuthRequest,
        MessageType::FailoverAuthAck,
        MessageType::MfStart,
    ] {
        let bare = encode_bare(kind, &from);
        assert_eq!(bare.len(), HEADER_LEN);
        assert_eq!(decode(&bare).unwrap().body.message_type(), kind);
    }
    for (packet, kind) in [
        (&fail, MessageType::Fail),
        (&update, MessageType::Update),
        (&publish, MessageType::PublishShard),
    ] {
        let message = decode(packet).unwrap();
        assert_eq!(message.body.message_type(), kind);
        let header = message.header.unwrap();
        assert_eq!(
            (header.sender, header.replica_of),
            (from.sender, from.replica_of)
        );
        assert!(header.holdfast);
    }
}

#[test]
fn every_extension_comes_back() {
    let slots = SlotSet::new();
    let all = Extensions {
        hostname: "h.example".into(),
        human_nodename: "seven77".into(),
        forgotten: vec![ForgottenNode {
            node: NodeId::from_bytes([7; 20]),
            ttl_s: 60,
        }],
        shard: Some(ShardId::from_bytes([9; 20])),
        client_ipv4: "10.0.0.1".into(),
        client_ipv6: "fd00::1".into(),
        client_port: 6379,
        client_tls_port: 6380,
        availability_zone: "eu-1a".into(),
        holdfast: Some(HoldfastInfo {
            raft_addr: "10.0.0.1:27000".into(),
            witness: true,
            quorum: true,
        }),
    };
    let packet = encode_ping(MessageType::Meet, &sample(&slots), &[], Some(&all));
    let Body::Meet(body) = decode(&packet).unwrap().body else {
        panic!("a meet")
    };
    assert_eq!(body.extensions, all);
    assert_eq!(packet.len() % 8, 0);

    // A type of the future is skipped by its length, as Valkey skips ours.
    let mut packet = encode_ping(MessageType::Ping, &sample(&slots), &[], None).to_vec();
    packet[2214..2216].copy_from_slice(&1u16.to_be_bytes());
    packet.extend_from_slice(&[0, 0, 0, 16, 0x7f, 0xff, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]);
    let len = packet.len() as u32;
    packet[4..8].copy_from_slice(&len.to_be_bytes());
    let Body::Ping(body) = decode(&packet).unwrap().body else {
        panic!("a ping")
    };
    assert_eq!(body.extensions, Extensions::default());
}

#[test]
fn what_is_dropped_and_why() {
    let slots = SlotSet::new();
    let good = encode_ping(MessageType::Ping, &sample(&slots), &[], None).to_vec();
    let broken = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut packet = good.clone();
        change(&mut packet);
        decode(&packet).unwrap_err()
    };
    assert_eq!(broken(&|p| p[0] = b'X'), DropReason::BadSignature);
    assert_eq!(broken(&|p| p[9] = 2), DropReason::BadVersion);
    assert_eq!(broken(&|p| p[13] = 11), DropReason::UnknownType);
    assert_eq!(broken(&|p| p[12] = 0x80), DropReason::UnknownType);
    assert_eq!(broken(&|p| p[4..8].fill(0xff)), DropReason::BadLength);
    assert_eq!(
        broken(&|p| p[4..8].copy_from_slice(&100u32.to_be_bytes())),
        DropReason::BadLength
    );
    assert_eq!(broken(&|p| p.push(0)), DropReason::LengthMismatch);
    assert_eq!(broken(&|p| p[15] = 1), DropReason::LengthMismatch);
    assert_eq!(broken(&|p| p[40] = b'G'), DropReason::BadNodeId);
    assert_eq!(broken(&|p| p[2128] = b' '), DropReason::BadNodeId);
    assert_eq!(broken(&|p| p[2168] = b'\n'), DropReason::BadAddress);
    assert_eq!(broken(&|p| p[2215] = 1), DropReason::BadExtension);
    // A message longer than any can be is refused before it is waited for.
    let mut head = good[..16].to_vec();
    head[4..8].copy_from_slice(&(MESSAGE_MAX as u32 + 1).to_be_bytes());
    assert_eq!(frame_len(&head), Err(DropReason::BadLength));
    assert_eq!(frame_len(b"GET /"), Err(DropReason::BadSignature));
    assert_eq!(frame_len(b"RC"), Ok(None));
}

#[test]
fn gossip_with_a_bad_name_is_dropped_as_a_whole() {
    let slots = SlotSet::new();
    let entry = |n: u8| Gossip {
        node: NodeId::from_bytes([n; 20]),
        ping_sent_s: 0,
        pong_received_s: 1,
        address: "10.0.0.1",
        port: 7000,
        bus_port: 17000,
        flags: flags::PRIMARY,
        other_port: 0,
    };
    let mut packet = encode_ping(
        MessageType::Ping,
        &sample(&slots),
        &[entry(1), entry(2)],
        None,
    )
    .to_vec();
    packet[HEADER_LEN + 104] = 0xff;
    let Body::Ping(body) = decode(&packet).unwrap().body else {
        panic!("a ping")
    };
    assert_eq!(body.gossip, None);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// Noise behind a good beginning, of every type, never panics and is never taken for more than it is.
    #[test]
    fn noise_never_panics(kind in 0u16..16, light: bool, body in proptest::collection::vec(any::<u8>(), 0..600), full: bool) {
        let mut packet = b"RCmb\0\0\0\0\0\x01".to_vec();
        packet.resize(if full { HEADER_LEN } else { 16 }, b'a');
        packet.extend_from_slice(&body);
        let len = packet.len() as u32;
        packet[4..8].copy_from_slice(&len.to_be_bytes());
        packet[12..14].copy_from_slice(&(kind | if light { 0x8000 } else { 0 }).to_be_bytes());
        let _ = decode(&packet);
    }

    /// A captured packet with bytes flipped anywhere never panics.
    #[test]
    fn damage_never_panics(flips in proptest::collection::vec((0usize..2448, any::<u8>()), 1..8), cut in 0usize..2448) {
        let mut packet = hex(VALKEY_9_1);
        for (at, byte) in flips {
            packet[at] = byte;
        }
        let _ = decode(&packet);
        let _ = decode(&packet[..cut]);
        let _ = frame_len(&packet[..cut]);
    }
}
