//! Client-side caching, driven by hand.

use super::ConnId;
use super::tests::Test;
use crate::seam::Office;

const KEY: &str = "*1\n$1\nk\n";

fn invalidated(keys: &str) -> String {
    format!(">2\n$10\ninvalidate\n{keys}")
}

/// A client that speaks RESP3 and tracks.
fn tracker(t: &mut Test, options: &str) -> ConnId {
    let id = t.connect();
    t.send(id, &format!("HELLO 3\nCLIENT TRACKING ON {options}\n"));
    assert!(t.read(id).ends_with("+OK\n"));
    id
}

fn client_id(t: &mut Test, id: ConnId) -> u64 {
    t.ex.conns[id].id
}

#[test]
fn an_invalidation_leaves_with_its_writes_reply() {
    let mut t = Test::new(true);
    let (writer, a) = (t.connect(), tracker(&mut t, ""));
    let b = tracker(&mut t, "BCAST PREFIX k");
    t.send(a, "GET k\n");
    assert_eq!(t.read(a), "_\n");
    t.send(writer, "SET k 1\n");
    assert_eq!(t.read(writer) + &t.read(a) + &t.read(b), "");
    // What comes behind it waits for it.
    t.send(a, "PING\n");
    assert_eq!(t.read(a), "");
    t.commit_all();
    assert_eq!(t.read(writer), "+OK\n");
    assert_eq!(t.read(a), invalidated(KEY) + "+PONG\n");
    assert_eq!(t.read(b), invalidated(KEY));
    // It has not read the key since.
    t.send(writer, "SET k 2\n");
    t.commit_all();
    assert_eq!(t.read(a), "");
}

#[test]
fn an_invalidation_of_a_lost_write_is_sent_nonetheless() {
    let mut t = Test::new(true);
    let (writer, a) = (t.connect(), tracker(&mut t, ""));
    t.send(a, "GET k\n");
    t.read(a);
    t.send(writer, "SET k 1\n");
    t.ex.begin_turn(t.now);
    t.ex.on_office(Office::Follower { term: 2 });
    t.ex.end_turn();
    assert_eq!(t.read(a), "");
    t.ex.begin_turn(t.now);
    t.ex.fail_held_writes();
    t.ex.end_turn();
    assert!(t.read(writer).starts_with("-UNCERTAIN"));
    assert_eq!(t.read(a), invalidated(KEY));
}

#[test]
fn an_invalidation_that_waits_too_long_is_sent() {
    let mut t = Test::new(true);
    let (writer, a) = (t.connect(), tracker(&mut t, ""));
    t.send(a, "GET k\n");
    t.read(a);
    t.send(writer, "SET k 1\n");
    t.pass(1500);
    assert!(t.read(writer).starts_with("-UNCERTAIN"));
    assert_eq!(t.read(a), invalidated(KEY));
}

#[test]
fn other_memory_invalidates_everything() {
    let mut t = Test::new(true);
    let a = tracker(&mut t, "");
    t.send(a, "GET k\n");
    t.read(a);
    let codec = Box::new(holdfast_rdb::DumpCodec::default());
    let engine = t.ex.empty_engine(codec);
    drop(t.ex.replace_engine(engine));
    assert_eq!(t.read(a), invalidated("_\n"));
    assert_eq!(t.ex.tracking_figures(), [1, 0, 0, 0]);
}

#[test]
fn a_clients_own_invalidation_comes_behind_its_reply() {
    let mut t = Test::new(false);
    let a = tracker(&mut t, "");
    t.send(a, "GET k\nSET k 1\nPING\n");
    assert_eq!(t.read(a), format!("_\n+OK\n{}+PONG\n", invalidated(KEY)));
    // In a transaction: behind all of it. The key is read behind its change, and remembered.
    t.send(a, "GET k\nMULTI\nSET k 2\nGET k\nEXEC\n");
    let replies = "$1\n1\n+OK\n+QUEUED\n+QUEUED\n*2\n+OK\n$1\n2\n";
    assert_eq!(t.read(a), replies.to_string() + &invalidated(KEY));
    let writer = t.connect();
    t.send(writer, "DEL k\n");
    assert_eq!(t.read(a), invalidated(KEY));
}

#[test]
fn nobody_hears_of_his_own_changes_with_noloop() {
    let mut t = Test::new(false);
    let writer = t.connect();
    for options in ["NOLOOP", "BCAST NOLOOP"] {
        let a = tracker(&mut t, options);
        t.send(a, "GET k\nSET k 1\nGET k\n");
        assert_eq!(t.read(a).matches("invalidate").count(), 0, "{options}");
        t.send(writer, "DEL k\n");
        assert_eq!(t.read(a), invalidated(KEY), "{options}");
    }
}

#[test]
fn expiry_invalidates() {
    let mut t = Test::new(false);
    let a = tracker(&mut t, "");
    t.send(a, "SET k 1 PX 50\nGET k\n");
    t.read(a);
    t.pass(200);
    assert_eq!(t.read(a), invalidated(KEY));
}

#[test]
fn messages_are_redirected_and_a_broken_redirection_is_told() {
    let mut t = Test::new(false);
    let (writer, to) = (t.connect(), t.connect());
    t.send(to, "SUBSCRIBE __redis__:invalidate\n");
    t.read(to);
    let client = client_id(&mut t, to);
    let a = tracker(&mut t, &format!("REDIRECT {client}"));
    t.send(a, "GET k\n");
    t.read(a);
    t.send(writer, "SET k 1\n");
    assert_eq!(
        t.read(to),
        format!("*3\n$7\nmessage\n$20\n__redis__:invalidate\n{KEY}")
    );
    t.send(a, "GET k\n");
    t.read(a);
    t.ex.on_closed(to);
    // Another client with the same index is not that one.
    let other = t.connect();
    assert_eq!(other.index, to.index);
    t.send(writer, "SET k 2\n");
    assert_eq!(
        t.read(a),
        format!(">2\n$21\ntracking-redir-broken\n:{client}\n")
    );
    assert_eq!(t.read(other), "");
}

#[test]
fn a_table_that_is_too_full_gives_keys_up() {
    let mut t = Test::new(false);
    let a = tracker(&mut t, "");
    t.send(a, "CONFIG SET tracking-table-max-keys 3\n");
    for n in 0..2000 {
        t.send(a, &format!("GET {n}\n"));
    }
    t.pass(200);
    assert_eq!(t.ex.tracking_figures()[1], 3);
    assert_eq!(t.read(a).matches("invalidate").count(), 1997);
    // When nobody tracks any more, nothing is left.
    t.send(a, "CLIENT TRACKING OFF\n");
    t.pass(200);
    assert_eq!(t.ex.tracking_figures(), [0; 4]);
}

#[test]
fn keys_of_slots_that_leave_are_invalidated() {
    let mut t = Test::new(false);
    let (a, b) = (tracker(&mut t, ""), tracker(&mut t, "BCAST"));
    for n in 0..1500 {
        t.send(a, &format!("GET {n}\n"));
    }
    t.read(a);
    t.ex.begin_turn(t.now);
    t.ex.invalidate_slots(0..8192);
    t.ex.end_turn();
    for _ in 0..5 {
        t.pass(1);
    }
    assert_eq!(t.read(b), invalidated("_\n"));
    let told = t.read(a).matches("invalidate").count();
    let wanted =
        (0..1500).filter(|n: &u32| holdfast_engine::key_slot(n.to_string().as_bytes()) < 8192);
    assert_eq!(told, wanted.count());
    assert!(told > 500 && told < 1000);
}

#[test]
fn optin_and_optout_look_at_the_next_command_only() {
    let mut t = Test::new(false);
    let writer = t.connect();
    let a = tracker(&mut t, "OPTIN");
    t.send(a, "GET k\nCLIENT CACHING YES\nGET l\nGET m\n");
    t.read(a);
    t.send(writer, "MSET k 1 l 1 m 1\n");
    assert_eq!(t.read(a), invalidated("*1\n$1\nl\n"));
    t.send(a, "CLIENT CACHING YES\nMULTI\nGET k\nGET l\nEXEC\nGET m\n");
    t.read(a);
    t.send(writer, "MSET k 1 l 1 m 1\n");
    assert_eq!(t.read(a).matches("invalidate").count(), 2);
    let b = tracker(&mut t, "OPTOUT");
    t.send(b, "GET k\nCLIENT CACHING NO\nGET l\nGET m\n");
    t.read(b);
    t.send(writer, "MSET k 1 l 1 m 1\n");
    let keys = ["k", "m"].map(|k| invalidated(&format!("*1\n$1\n{k}\n")));
    assert_eq!(t.read(b), keys.concat());
}
