//! Keys that expire: written once each with a time to live, looked at until they are gone.

use super::cluster_client::Clients;
use super::resp::{NoReply, argv};
use super::world::World;
use crate::check::oracle::{self, Expiring};
use crate::rng::Rng;
use holdfast_resp::reply::Reply;
use madsim::time::sleep;
use std::time::Duration;

/// Farthest that two nodes' clocks are apart: skew of the plan and some jumps, in µs.
const SKEW_US: u64 = 1_500_000;

/// The client's number in the history.
pub const CLIENT: usize = 90;

/// Writes and reads expiring keys until the chaos is over.
pub async fn client(world: World, clients: Clients, mut rng: Rng) {
    let mut n = 0;
    while !world.chaos_over() {
        n += 1;
        let key = format!("{{o{}}}:e{n}", rng.below(6));
        let ttl_ms = rng.range(200, 4_000);
        let call_us = world.now_us();
        let words = argv(&["SET", &key, "1", "PX", &ttl_ms.to_string()]);
        let set = routed(&clients, &mut rng, &words, false).await;
        let ret_us = matches!(&set, Some(reply) if reply.is_ok()).then(|| world.now_us());
        world.note_of(
            CLIENT,
            format_args!("expiring {key} PX {ttl_ms}: {}", ret_us.is_some()),
        );
        let w = Expiring {
            call_us,
            ret_us,
            ttl_us: ttl_ms * 1000,
        };
        let mut gone = false;
        for _ in 0..rng.range(2, 8) {
            sleep(Duration::from_millis(rng.range(50, 1_500))).await;
            let asked = world.now_us();
            let Some(reply) = routed(&clients, &mut rng, &argv(&["GET", &key]), true).await else {
                continue;
            };
            let present = match reply {
                Reply::Null => false,
                Reply::Bulk(_) => true,
                _ => continue,
            };
            world.note_of(CLIENT, format_args!("look {key}: {present}"));
            let judged = oracle::expiry(&w, asked, world.now_us(), present, SKEW_US);
            let returned = present && gone && ret_us.is_some();
            gone |= !present;
            if let Err(broken) = judged {
                world
                    .record
                    .problem(world.now_us(), format!("{key}: {broken}"));
            }
            if returned {
                world
                    .record
                    .problem(world.now_us(), format!("{key} was gone and came back"));
            }
        }
    }
}

/// Follows redirections for a while; a write is sent again only where it was refused.
async fn routed(clients: &Clients, rng: &mut Rng, words: &[String], read: bool) -> Option<Reply> {
    let mut to = clients.any();
    for _ in 0..20 {
        match clients.send(CLIENT, to, &[words.to_vec()]).await {
            Ok(replies) => match replies.into_iter().next()? {
                Reply::Error(e) => {
                    let e = String::from_utf8_lossy(&e).into_owned();
                    if e.starts_with("UNCERTAIN") {
                        return None;
                    }
                    to = match e
                        .strip_prefix("MOVED ")
                        .and_then(|m| m.split(' ').nth(1))
                        .and_then(|a| a.parse().ok())
                    {
                        Some(to) => to,
                        None => clients.any(),
                    };
                }
                reply => return Some(reply),
            },
            Err(NoReply::Sent) if !read => return None,
            Err(_) => to = clients.any(),
        }
        sleep(Duration::from_millis(rng.range(5, 60))).await;
    }
    None
}
