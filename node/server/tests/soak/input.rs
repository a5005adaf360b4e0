//! What a client sends: commands made of the table's own words, and what is wrong with some of them.

use holdfast_engine::Rng;
use holdfast_server::commands::{Entry, Table};
use std::sync::OnceLock;

/// Commands that stop the world of a test or make it wait for another: they are not meant here.
const LEFT_OUT: &[&str] = &[
    "shutdown", "debug", "failover", "migrate", "psync", "sync", "replconf",
];

/// Names and the words of the arguments of all commands.
struct Words {
    entries: Vec<&'static Entry>,
    options: Vec<&'static str>,
}

fn words() -> &'static Words {
    static WORDS: OnceLock<Words> = OnceLock::new();
    WORDS.get_or_init(|| {
        let table = Table::shared();
        let entries: Vec<&Entry> = table
            .entries()
            .iter()
            .filter(|e| !LEFT_OUT.iter().any(|name| e.full_name.starts_with(name)))
            .collect();
        let is_option = |w: &&str| w.len() > 1 && w.bytes().all(|b| b.is_ascii_uppercase());
        let split = |e: &&'static Entry| e.spec.args.split(|c: char| !c.is_ascii_alphanumeric());
        let mut options: Vec<&str> = entries.iter().flat_map(split).filter(is_option).collect();
        options.sort();
        options.dedup();
        Words { entries, options }
    })
}

/// An argument.
fn arg(rng: &mut Rng, out: &mut Vec<u8>) {
    match rng.below(16) {
        0..=4 => out.extend_from_slice(format!("k{}", rng.below(12)).as_bytes()),
        5..=6 => out.extend_from_slice(rng.below(20).to_string().as_bytes()),
        7 => {
            let n = [i64::MAX, i64::MIN, -1, 1000, 65536, -7, 4096][rng.index(7)];
            out.extend_from_slice(n.to_string().as_bytes());
        }
        8 => {
            let number = [
                "0.5", "-1e3", "nan", "inf", "1e309", "3.0e-2", "(1", "[k", "-", "+", "*", "$", ">",
            ];
            out.extend_from_slice(number[rng.index(number.len())].as_bytes());
        }
        9..=11 => {
            let options = &words().options;
            out.extend_from_slice(options[rng.index(options.len())].as_bytes());
        }
        12 => out.extend_from_slice(format!("{}-{}", rng.below(30), rng.below(4)).as_bytes()),
        13 => (0..rng.below(12)).for_each(|_| out.push(rng.next_u64() as u8)),
        14 => out.resize(rng.below(40) as usize, b'a' + rng.below(26) as u8),
        _ => {
            // Few are large.
            let bits = if rng.below(20) == 0 { 18 } else { 7 };
            let len = 1 << rng.below(bits);
            let fill = rng.next_u64() as u8;
            out.resize(rng.below(len) as usize, fill);
        }
    }
}

/// A command's name and some arguments for it.
fn command(rng: &mut Rng) -> Vec<Vec<u8>> {
    // Those that change what a connection is come often enough to matter.
    const OFTEN: &[&str] = &[
        "HELLO 3",
        "HELLO 2",
        "MULTI",
        "EXEC",
        "RESET",
        "SUBSCRIBE k1 k2",
        "UNSUBSCRIBE",
        "CLIENT TRACKING ON",
        "CLIENT TRACKING ON BCAST",
        "CLIENT TRACKING OFF",
        "CLIENT REPLY OFF",
        "CLIENT REPLY SKIP",
        "CLIENT REPLY ON",
        "AUTH secret",
        "BLPOP k1 k2 0.05",
        "FLUSHALL",
        "MONITOR",
        "CLIENT LIST",
        "QUIT",
        "CLIENT KILL TYPE pubsub",
        "CONFIG SET maxmemory-clients 300000",
        "CONFIG SET maxmemory-clients 0",
    ];
    if rng.below(12) == 0 {
        let line = OFTEN[rng.index(OFTEN.len())];
        return line.split(' ').map(|w| w.as_bytes().to_vec()).collect();
    }
    let entries = &words().entries;
    let entry = entries[rng.index(entries.len())];
    let mut argv: Vec<Vec<u8>> = Vec::new();
    argv.extend(entry.full_name.split('|').map(|w| w.as_bytes().to_vec()));
    let least = usize::from(entry.spec.arity.unsigned_abs());
    let wanted = match rng.below(8) {
        0 => rng.index(6) + 1,
        1 => least,
        _ => least + rng.index(5) * usize::from(entry.spec.arity < 0),
    };
    while argv.len() < wanted {
        let mut a = Vec::new();
        arg(rng, &mut a);
        argv.push(a);
    }
    argv
}

fn encode(rng: &mut Rng, argv: &[Vec<u8>], out: &mut Vec<u8>) {
    let is_plain = |a: &Vec<u8>| !a.is_empty() && a.iter().all(u8::is_ascii_alphanumeric);
    if rng.below(6) == 0 && argv.iter().all(is_plain) {
        out.extend_from_slice(&argv.join(&b' '));
        out.extend_from_slice(if rng.below(2) == 0 { b"\n" } else { b"\r\n" });
        return;
    }
    holdfast_resp::write::command(out, argv);
}

/// Bytes for one connection: a command, often more, sometimes none that anybody would understand.
pub fn bytes(rng: &mut Rng, out: &mut Vec<u8>) {
    let start = out.len();
    for _ in 0..=rng.below(6) {
        let argv = command(rng);
        encode(rng, &argv, out);
    }
    match rng.below(40) {
        // A byte is another, is missing, or comes twice.
        0 | 1 => {
            let at = start + rng.index(out.len() - start);
            out[at] = rng.next_u64() as u8;
        }
        2 => {
            let at = start + rng.index(out.len() - start);
            out.remove(at);
        }
        3 => {
            let at = start + rng.index(out.len() - start);
            out.insert(at, out[at]);
        }
        // It ends too early: what follows becomes part of an argument.
        4 => out.truncate(start + rng.index(out.len() - start)),
        5 => {
            let lines: &[&[u8]] = &[
                b"*-1\r\n",
                b"*0\r\n",
                b"*1048577\r\n",
                b"*2147483648\r\n",
                b"$5\r\nhello\r\n",
                b"*1\r\n$-1\r\n",
                b"*1\r\n$536870913\r\n",
                b"*2\r\n$3\r\nGET\r\n:1\r\n",
                b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$900000\r\n",
                b"\r\n\r\n\n",
                b"GET \"unbalanced\r\n",
                b"SET k \"\\x41\\n\"\r\n",
                b"*\r\n",
                b"*1\r\n$\r\n\r\n",
                b"*1\r\n$4\r\nPINGxx",
                b"POST / HTTP/1.1\r\n",
                b"Host: somewhere\r\n",
                b"\0\0\0\0",
            ];
            out.extend_from_slice(lines[rng.index(lines.len())]);
        }
        6 => (0..rng.below(200)).for_each(|_| out.push(rng.next_u64() as u8)),
        _ => {}
    }
}
