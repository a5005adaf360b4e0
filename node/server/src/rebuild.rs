//! `holdfast-server rebuild-shard`: when a majority of a shard's voters is gone for good.

use crate::config::Config;
use holdfast_raft_log::disk::{Disk, StdDisk};
use holdfast_raft_log::{EntryId, Role, ShardId, Survivor};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

const CONFIRMATION: &str = "--accept-data-loss";

const USAGE: &str = "\
Usage: holdfast-server rebuild-shard --dir DIR [--shard ID] [--accept-data-loss]

For a shard under 'durability quorum' that has lost a majority of its voters for good. Turns one data node that is left
into the only voter of its shard, with all the data that it has. The node must be stopped; DIR is its 'dir'.

Without --accept-data-loss it only says what it finds, and changes nothing.
  --dir DIR            the node's directory
  --shard ID           which shard, if the directory has the logs of several
  --accept-data-loss   do it
";

struct Options {
    dir: PathBuf,
    shard: Option<ShardId>,
    confirmed: bool,
}

fn options(args: &[String]) -> Result<Options, String> {
    let (mut dir, mut shard, mut confirmed) = (None, None, false);
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or(format!("{arg}: a value is missing"));
        match arg.as_str() {
            "--dir" => dir = Some(PathBuf::from(value()?)),
            "--shard" => {
                let id = value()?.parse();
                shard = Some(id.map_err(|e| format!("--shard: {e}"))?);
            }
            CONFIRMATION => confirmed = true,
            other => return Err(format!("unknown argument '{other}'")),
        }
    }
    let dir = dir.ok_or("--dir is missing")?;
    Ok(Options {
        dir,
        shard,
        confirmed,
    })
}

/// Runs the command with the arguments behind its name.
pub fn run(args: &[String]) -> ExitCode {
    if args
        .iter()
        .any(|arg| ["-h", "--help"].contains(&arg.as_str()))
    {
        print!("{USAGE}");
        return ExitCode::SUCCESS;
    }
    let options = match options(args) {
        Ok(options) => options,
        Err(error) => {
            eprintln!("{error}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match work(&options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(3),
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// True if the shard was rebuilt; false if that was not asked for.
fn work(options: &Options) -> Result<bool, String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let dir = std::path::absolute(&options.dir).map_err(|e| text(&e))?;
    let raft = dir.join("raft");
    if !raft.is_dir() {
        return Err(format!(
            "{}: no node under 'durability quorum' has its files here",
            dir.display()
        ));
    }
    let mut config = Config::default();
    for (name, value) in [
        ("dir", dir.to_string_lossy()),
        ("durability", "quorum".into()),
    ] {
        config.force(name, &value).map_err(|e| text(&e))?;
    }
    // Held to the end: the node must not be started meanwhile.
    let _lock = crate::process::lock_dir(&config).map_err(|e| text(&e))?;
    let group = raft.join(which(&raft, options.shard)?.to_string());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| text(&e))?;
    let disk: Arc<dyn Disk> = Arc::new(StdDisk::new());
    let found = runtime
        .block_on(holdfast_raft_log::inspect(&disk, &group))
        .map_err(|e| text(&e))?;
    print!("{}", describe(&found));
    if !options.confirmed {
        println!("\nNothing was changed. To rebuild the shard from this node, add {CONFIRMATION}.");
        return Ok(false);
    }
    runtime
        .block_on(holdfast_raft_log::rebuild(&disk, &group))
        .map_err(|e| text(&e))?;
    println!(
        "\nDone: node {} is the only voter of shard {}. Start it; it leads the shard with all the data it has. Then \
         CLUSTER FORGET the lost nodes, and join new ones, with empty directories, by CLUSTER MEET and CLUSTER REPLICATE.",
        found.node, found.shard
    );
    Ok(true)
}

fn which(raft: &Path, wanted: Option<ShardId>) -> Result<ShardId, String> {
    let failed = |error: std::io::Error| format!("{}: {error}", raft.display());
    let mut known = Vec::new();
    for entry in std::fs::read_dir(raft).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        known.extend(name.to_str().and_then(|name| name.parse::<ShardId>().ok()));
    }
    known.sort_unstable();
    match (wanted, known.as_slice()) {
        (Some(shard), all) if all.contains(&shard) => Ok(shard),
        (Some(shard), _) => Err(format!("{}: no log of shard {shard}", raft.display())),
        (None, [only]) => Ok(*only),
        (None, []) => Err(format!("{}: no log of a shard is here", raft.display())),
        (None, several) => {
            let names: Vec<String> = several.iter().map(ToString::to_string).collect();
            Err(format!(
                "{}: logs of several shards are here, say which with --shard: {}",
                raft.display(),
                names.join(", ")
            ))
        }
    }
}

fn describe(found: &Survivor) -> String {
    let entry = |id: Option<EntryId>| match id {
        Some(id) => format!("entry {} of term {}", id.index, id.term),
        None => "nothing".to_owned(),
    };
    let kind = |role: Role| match role {
        Role::Data => "data",
        Role::Witness => "witness",
    };
    let mut out = format!(
        "Shard {}, node {} ({})\n\nMembers, as this node last knew them:\n",
        found.shard,
        found.node,
        kind(found.role)
    );
    for (id, member, voter) in &found.members {
        let votes = if *voter { "votes" } else { "does not vote" };
        let this = if *id == found.node { ", this node" } else { "" };
        out += &format!(
            "  {id}  {}  {}, {votes}{this}\n",
            member.addr,
            kind(member.role)
        );
    }
    out += &format!(
        "\nIts log ends with {}; known to be committed: {}; its snapshot covers: {}; newest term: {}.\n",
        entry(found.last),
        entry(found.committed),
        entry(found.snapshot),
        found.term
    );
    if found.lacks_committed() {
        out += "ACKNOWLEDGED WRITES ARE MISSING HERE: entries are known to be committed that this node has not got.\n";
    }
    out += "
What may be lost: every write behind that last entry that the other voters acknowledged without this node. Nothing here
tells whether there are any. If another data node of this shard is left, look at it with this command first, and
rebuild from the one whose last entry has the higher term, then the higher number.
What this node has and nobody acknowledged will count as written.
The other members above must never run again with their present disks. This node will take nothing from them, but
among themselves they could still go on as this shard, with another history.
";
    out
}
