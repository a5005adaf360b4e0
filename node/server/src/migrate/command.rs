//! `MIGRATE`: keys sent to another server and deleted here once it has them, durably.
//!
//! Valkey stops for the time that it takes; here only writes to the slots of the keys wait. A key is deleted only if no
//! write can have come between: when the pause has ended early, because this node lost its office, the keys stay on
//! both sides and the command fails.

use super::exec::PauseId;
use super::peer::{Credentials, connect, read_reply};
use super::sockets::{KEPT_FOR, Sockets};
use crate::executor::{Executor, HeldKind, State};
use crate::journal::JournalPos;
use crate::seam::{DeferredToken, ExecutorHandle, Office};
use crate::tls::Link;
use crate::tls::peer::PeerStream;
use bytes::Bytes;
use holdfast_engine::{Call, Engine, Mode, Outcome, key_slot};
use holdfast_resp::reply::{self, Reply};
use holdfast_resp::{Proto, parse_i64, write};
use holdfast_slot_migration::SlotRanges;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;

/// What the arguments ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Migrate {
    host: String,
    port: u16,
    keys: Vec<Vec<u8>>,
    db: u16,
    timeout: Duration,
    copy: bool,
    replace: bool,
    credentials: Credentials,
}

const SYNTAX: &str = "ERR syntax error";
const NOT_AN_INTEGER: &str = "ERR value is not an integer or out of range";

impl Migrate {
    /// Reads `MIGRATE host port key|"" db timeout [COPY] [REPLACE] [AUTH password | AUTH2 user password] [KEYS key …]`.
    ///
    /// # Errors
    /// Valkey's texts.
    pub fn parse<A: AsRef<[u8]>>(argv: &[A]) -> Result<Migrate, String> {
        let arg = |i: usize| argv.get(i).map(AsRef::as_ref).unwrap_or_default();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let mut it = Migrate {
            host: text(arg(1)),
            port: 0,
            keys: vec![arg(3).to_vec()],
            db: 0,
            timeout: Duration::from_secs(1),
            copy: false,
            replace: false,
            credentials: Credentials::default(),
        };
        let mut at = 6;
        while at < argv.len() {
            let more = argv.len() - 1 - at;
            let word = arg(at).to_ascii_lowercase();
            match word.as_slice() {
                b"copy" => it.copy = true,
                b"replace" => it.replace = true,
                b"auth" if more >= 1 => {
                    it.credentials.password = Some(text(arg(at + 1)));
                    at += 1;
                }
                b"auth2" if more >= 2 => {
                    it.credentials.user = Some(text(arg(at + 1)));
                    it.credentials.password = Some(text(arg(at + 2)));
                    at += 2;
                }
                b"keys" => {
                    if !arg(3).is_empty() {
                        return Err("ERR When using MIGRATE KEYS option, the key argument must be set to the empty string".into());
                    }
                    it.keys = (at + 1..argv.len()).map(|i| arg(i).to_vec()).collect();
                    break;
                }
                _ => return Err(SYNTAX.into()),
            }
            at += 1;
        }
        let timeout_ms = parse_i64(arg(5)).ok_or(NOT_AN_INTEGER)?;
        let db = parse_i64(arg(4)).ok_or(NOT_AN_INTEGER)?;
        // A port or database that cannot be is one that the other side does not have.
        it.port = parse_i64(arg(2))
            .and_then(|n| u16::try_from(n).ok())
            .unwrap_or(0);
        it.db = u16::try_from(db).map_err(|_| NOT_AN_INTEGER)?;
        if timeout_ms > 0 {
            it.timeout = Duration::from_millis(timeout_ms as u64);
        }
        Ok(it)
    }
}

/// A key as it is sent: its remaining time in milliseconds (0 for none) and its payload.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Dumped {
    key: Vec<u8>,
    ttl_ms: i64,
    payload: Vec<u8>,
}

impl Executor {
    /// Executes a command of our own on the engine.
    fn internal(&mut self, db: u16, mode: Mode, argv: &[&[u8]]) -> Option<Reply> {
        let command = Engine::command(argv.first()?)?;
        let mut out = Vec::new();
        let mut call = Call {
            argv,
            db,
            slot: None,
            proto: Proto::Resp2,
            now_ms: self.now.unix_ms(),
            mode,
            may_block: false,
            rng: &mut self.rng,
            reply: &mut out,
            blobs: None,
            fx: &mut self.fx,
        };
        match self.engine.execute(command, &mut call) {
            Outcome::Done | Outcome::Failed => {}
            Outcome::Block(_) => return None,
        }
        reply::parse(&out).ok()?.map(|(reply, _)| reply)
    }

    /// The keys that are here, with writes to their slots waiting from now on.
    fn collect_keys(&mut self, token: DeferredToken, db: u16, keys: &[Vec<u8>]) -> Vec<Dumped> {
        let mut out = Vec::new();
        let mut slots = Vec::new();
        for key in keys {
            let Some(Reply::Bulk(payload)) = self.internal(db, Mode::Replica, &[b"DUMP", key])
            else {
                continue;
            };
            let ttl_ms = match self.internal(db, Mode::Replica, &[b"PTTL", key]) {
                Some(Reply::Int(ttl)) if ttl >= 0 => ttl.max(1),
                _ => 0,
            };
            let slot = key_slot(key);
            if !slots.contains(&(slot, slot)) {
                slots.push((slot, slot));
            }
            out.push(Dumped {
                key: key.clone(),
                ttl_ms,
                payload,
            });
        }
        if let Ok(slots) = SlotRanges::new(&slots) {
            self.pause_slots(PauseId::Command(token), &slots);
        }
        out
    }

    /// Deletes what the other side has, answers, and lets writes go on.
    fn finish_migrate(&mut self, token: DeferredToken, db: u16, gone: &[Vec<u8>], answer: &[u8]) {
        let mut answer = answer.to_vec();
        if !gone.is_empty() {
            if self.is_paused_for(PauseId::Command(token))
                && !matches!(self.office, Office::Follower { .. })
            {
                let mut argv: Vec<&[u8]> = vec![b"DEL"];
                argv.extend(gone.iter().map(Vec::as_slice));
                self.internal(db, Mode::Primary, &argv);
            } else {
                answer.clear();
                write::error(
                    &mut answer,
                    b"ERR The keys were sent, but this node lost its office before it deleted them",
                );
            }
        }
        let wrote = self.fx.bytes().len();
        let needs = JournalPos(self.journal.position().0 + wrote as u64);
        if let Some(c) = self.conns.get_mut(token.conn)
            && matches!(c.state, State::Deferred(seq) if seq == token.seq)
        {
            c.state = State::Ready;
            let kind = if wrote > 0 {
                HeldKind::Write
            } else {
                HeldKind::Free
            };
            self.append_held(token.conn, &answer, needs, kind);
            self.resume(token.conn);
        }
        self.resume_slots(PauseId::Command(token));
    }
}

/// Carries a `MIGRATE` out. `db` is the client's database.
pub async fn run(
    executor: ExecutorHandle,
    sockets: Arc<Sockets>,
    token: DeferredToken,
    argv: Vec<Bytes>,
    db: u16,
    asking: bool,
) {
    let mut answer = Vec::new();
    let mut gone = Vec::new();
    match Migrate::parse(&argv) {
        Err(error) => write::error(&mut answer, error.as_bytes()),
        Ok(command) => {
            let keys = command.keys.clone();
            let dumped = executor
                .run(move |ex| ex.collect_keys(token, db, &keys))
                .await;
            match dumped {
                Err(_) => return,
                Ok(dumped) if dumped.is_empty() => write::simple(&mut answer, "NOKEY"),
                Ok(dumped) => {
                    let (there, error, kept) = send(&command, &dumped, asking, &sockets).await;
                    if let Some(number) = kept {
                        tokio::spawn(expire(executor.clone(), sockets.clone(), number));
                    }
                    if !command.copy {
                        gone = there;
                    }
                    match error {
                        None => write::ok(&mut answer),
                        Some(error) => write::error(&mut answer, error.as_bytes()),
                    }
                }
            }
        }
    }
    let count = sockets.count();
    // If the executor has ended nobody waits.
    let _ = executor
        .run(move |ex| {
            ex.migrate.sockets = count;
            ex.finish_migrate(token, db, &gone, &answer);
        })
        .await;
}

/// Closes a kept connection when its time has passed.
async fn expire(executor: ExecutorHandle, sockets: Arc<Sockets>, number: u64) {
    tokio::time::sleep(KEPT_FOR).await;
    sockets.expire(number);
    let count = sockets.count();
    // As above.
    let _ = executor.run(move |ex| ex.migrate.sockets = count).await;
}

/// What the other side has acknowledged, what went wrong, and the number of the connection if it is kept.
type Sent = (Vec<Vec<u8>>, Option<String>, Option<u64>);

/// Sends the keys.
async fn send(command: &Migrate, dumped: &[Dumped], asking: bool, sockets: &Sockets) -> Sent {
    let (host, port) = (&command.host, command.port);
    if let Some(stream) = sockets.take(host, port) {
        let sent = send_on(stream, command, dumped, asking, sockets).await;
        match sent {
            // The other side may have closed it meanwhile: once more on a new one.
            Err(Broken { heard: false, .. }) => {}
            Err(broken) => return (broken.there, Some(broken.error), None),
            Ok(sent) => return sent,
        }
    }
    let Ok(stream) = connect(host, port, (&sockets.tls, Link::Cluster), command.timeout).await
    else {
        let error = "IOERR error or timeout connecting to the client";
        return (Vec::new(), Some(error.into()), None);
    };
    match send_on(stream, command, dumped, asking, sockets).await {
        Ok(sent) => sent,
        Err(broken) => (broken.there, Some(broken.error), None),
    }
}

/// A connection that broke, or took too long.
struct Broken {
    there: Vec<Vec<u8>>,
    error: String,
    /// The other side has answered something, or may be about to.
    heard: bool,
}

async fn send_on(
    mut stream: PeerStream,
    command: &Migrate,
    dumped: &[Dumped],
    asking: bool,
    sockets: &Sockets,
) -> Result<Sent, Broken> {
    let mut there = Vec::new();
    let mut out = Vec::new();
    let mut before = usize::from(command.credentials.write(&mut out));
    write::command(&mut out, &["SELECT", &command.db.to_string()]);
    before += 1;
    let word: &[u8] = if asking {
        b"RESTORE-ASKING"
    } else {
        b"RESTORE"
    };
    for d in dumped {
        let ttl = d.ttl_ms.to_string();
        let mut argv: Vec<&[u8]> = vec![word, &d.key, ttl.as_bytes(), &d.payload];
        if command.replace {
            argv.push(b"REPLACE");
        }
        write::command(&mut out, &argv);
    }
    let writing = async {
        stream.write_all(&out).await?;
        stream.flush().await
    };
    let written = tokio::time::timeout(command.timeout, writing).await;
    if !matches!(written, Ok(Ok(()))) {
        return Err(Broken {
            there,
            error: "IOERR error or timeout writing to target instance".into(),
            heard: written.is_err(),
        });
    }
    let mut refused: Option<String> = None;
    let mut misplaced = false;
    let mut buf = Vec::new();
    for i in 0..before + dumped.len() {
        let reply = tokio::time::timeout(command.timeout, read_reply(&mut stream, &mut buf)).await;
        match reply {
            Ok(Ok(Reply::Error(error))) => {
                let text = String::from_utf8_lossy(&error).into_owned();
                refused.get_or_insert(format!("ERR Target instance replied with error: {text}"));
                // After a refused AUTH or SELECT nothing that follows goes where it should.
                misplaced |= i < before;
            }
            Ok(Ok(_)) => {
                if let Some(d) = i.checked_sub(before).and_then(|i| dumped.get(i))
                    && !misplaced
                {
                    there.push(d.key.clone());
                }
            }
            Ok(Err(_)) | Err(_) => {
                let error = "IOERR error or timeout reading to target instance";
                return Err(Broken {
                    there,
                    error: refused.unwrap_or_else(|| error.into()),
                    heard: reply.is_err() || i > 0,
                });
            }
        }
    }
    let kept = sockets.keep(&command.host, command.port, stream);
    Ok((there, refused, Some(kept)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, expect: Result<(&[&str], bool, bool), &str>) {
        let argv: Vec<&str> = line
            .split(' ')
            .map(|w| if w == "''" { "" } else { w })
            .collect();
        let got = Migrate::parse(&argv);
        let shown = got.as_ref().map(|m| {
            let keys: Vec<String> = m
                .keys
                .iter()
                .map(|k| String::from_utf8_lossy(k).into_owned())
                .collect();
            (keys, m.copy, m.replace)
        });
        let expect = expect.map(|(k, c, r)| (k.iter().map(|k| k.to_string()).collect(), c, r));
        assert_eq!(shown.map_err(|e| e.as_str()), expect, "{line}");
    }

    #[test]
    fn all_forms_are_read() {
        check("migrate h 1 k 0 5", Ok((&["k"], false, false)));
        check(
            "migrate h 1 '' 0 5 COPY REPLACE KEYS a b",
            Ok((&["a", "b"], true, true)),
        );
        check(
            "migrate h 1 '' 0 5 auth2 u p KEYS copy",
            Ok((&["copy"], false, false)),
        );
        check(
            "migrate h 1 k 0 5 KEYS a",
            Err(
                "ERR When using MIGRATE KEYS option, the key argument must be set to the empty string",
            ),
        );
        check("migrate h 1 k 0 5 AUTH", Err(SYNTAX));
        check("migrate h 1 k 0 5 AUTH2 u", Err(SYNTAX));
        check("migrate h 1 k x 5", Err(NOT_AN_INTEGER));
        check("migrate h 1 k 0 5 what", Err(SYNTAX));
    }
}
