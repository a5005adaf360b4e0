//! The shape of a local cluster: which nodes, ports, folders and slots, and the file in `--dir` that
//! remembers it for the next run.

use std::fs;
use std::io::{self, Write};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use super::options::{Durability, Options};

/// The file in `--dir` that holds the shape.
pub const SHAPE_FILE: &str = "local-cluster.conf";

const SLOTS: u32 = 16384;

/// Valkey's rule for the port of the cluster bus, which Holdfast keeps.
pub const BUS_PORT_OFFSET: u16 = 10_000;

/// Where a node's log listens for the other voters of its shard, from its client port on.
pub const RAFT_PORT_OFFSET: u16 = 20_000;

/// How many of what, and from which port on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Shards, at least one.
    pub shards: u16,
    /// Data replicas of each shard beside its primary.
    pub replicas: u16,
    /// Witness processes.
    pub witnesses: u16,
    /// Port of the first node.
    pub port: u16,
    /// When a write is acknowledged.
    pub durability: Durability,
}

/// What a node is started as. Who is primary later on is the shard's own business.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The first data node of shard number `shard`, which gets its slots.
    Primary {
        /// Counted from 0.
        shard: u16,
    },
    /// A further data node of shard number `shard`.
    Replica {
        /// Counted from 0.
        shard: u16,
    },
    /// A voter of every shard, without data.
    Witness,
}

/// One node to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodePlan {
    /// What it is started as.
    pub part: Part,
    /// Where it listens for clients (a witness: for `CLUSTER` commands).
    pub port: u16,
    /// Its folder, absolute.
    pub dir: PathBuf,
}

impl NodePlan {
    /// Its configuration file.
    pub fn config_file(&self) -> PathBuf {
        self.dir.join("holdfast.conf")
    }

    /// What it says while it runs.
    pub fn log_file(&self) -> PathBuf {
        self.dir.join("holdfast.log")
    }
}

impl Shape {
    /// The shape that the options ask for where no earlier run has left one.
    ///
    /// # Errors
    /// A sentence for the user, if the options do not go together.
    pub fn from_options(options: &Options) -> Result<Shape, String> {
        let durability = options.durability.unwrap_or(Durability::Quorum);
        let others = match durability {
            Durability::Quorum => 1,
            Durability::Async => 0,
        };
        let shape = Shape {
            shards: options.shards.unwrap_or(3),
            replicas: options.replicas.unwrap_or(others),
            witnesses: options.witnesses.unwrap_or(others),
            port: options.port.unwrap_or(7000),
            durability,
        };
        shape.check()?;
        Ok(shape)
    }

    fn check(&self) -> Result<(), String> {
        if self.durability == Durability::Async && (self.replicas > 0 || self.witnesses > 0) {
            return Err("with --durability async there are no replicas and no witnesses yet: leave out --replicas and \
                        --witnesses, or use --durability quorum"
                .into());
        }
        let last = u32::from(self.port) + self.node_count() - 1 + u32::from(RAFT_PORT_OFFSET);
        if last > u32::from(u16::MAX) {
            return Err(format!(
                "--port {} leaves no room for {} nodes with their bus and log ports",
                self.port,
                self.node_count()
            ));
        }
        Ok(())
    }

    /// Data nodes and witnesses.
    pub fn node_count(&self) -> u32 {
        u32::from(self.shards) * (1 + u32::from(self.replicas)) + u32::from(self.witnesses)
    }

    /// Voters of each shard.
    pub fn voters(&self) -> u16 {
        1 + self.replicas + self.witnesses
    }

    /// The slots of shard number `shard`, shared out as evenly as `valkey-cli --cluster create` does it.
    pub fn slots(&self, shard: u16) -> RangeInclusive<u16> {
        let shards = u32::from(self.shards);
        let at = |i: u32| ((2 * i * SLOTS + shards) / (2 * shards)) as u16;
        at(shard.into())..=at(u32::from(shard) + 1) - 1
    }

    /// All nodes in the order of their ports: first the primaries, then the replicas, then the witnesses.
    pub fn nodes(&self, dir: &Path) -> Vec<NodePlan> {
        let primaries = (0..self.shards).map(|shard| Part::Primary { shard });
        let replicas =
            (0..self.replicas).flat_map(|_| (0..self.shards).map(|shard| Part::Replica { shard }));
        let witnesses = (0..self.witnesses).map(|_| Part::Witness);
        let parts = primaries.chain(replicas).chain(witnesses);
        parts
            .zip(self.port..)
            .map(|(part, port)| NodePlan {
                part,
                port,
                dir: dir.join(format!("node-{port}")),
            })
            .collect()
    }

    /// The configuration file of one node.
    pub fn config(&self, node: &NodePlan) -> String {
        let mut text = String::from(
            "# Written by `holdfast local-cluster`; the syntax is that of valkey.conf.\n\
             bind 127.0.0.1\n",
        );
        let mut directive = |name: &str, value: &str| {
            text.push_str(name);
            text.push(' ');
            text.push_str(value);
            text.push('\n');
        };
        directive("port", &node.port.to_string());
        directive("dir", &quoted(&node.dir.to_string_lossy()));
        directive("cluster-enabled", "yes");
        directive("cluster-config-file", "nodes.conf");
        directive("cluster-node-timeout", "5000");
        directive("raft-port", &(node.port + RAFT_PORT_OFFSET).to_string());
        directive("durability", self.durability.as_str());
        if node.part == Part::Witness {
            directive("witness", "yes");
        }
        text
    }
}

/// A value as valkey.conf wants it, so that folders with blanks in their names work.
fn quoted(value: &str) -> String {
    let mut text = String::from("\"");
    for c in value.chars() {
        if matches!(c, '"' | '\\') {
            text.push('\\');
        }
        text.push(c);
    }
    text.push('"');
    text
}

/// What an earlier run has left in `--dir`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// The shape it had.
    pub shape: Shape,
    /// Whether it was ever ready. If not, it holds no data, and nobody was told of it.
    pub formed: bool,
}

/// Reads what an earlier run has left, `None` if the directory is missing or empty.
///
/// # Errors
/// A sentence for the user: the directory holds something else, or cannot be read.
pub fn read(dir: &Path) -> Result<Option<Found>, String> {
    let file = dir.join(SHAPE_FILE);
    match fs::read_to_string(&file) {
        Ok(text) => parse(&text)
            .map(Some)
            .map_err(|reason| format!("{}: {reason}", file.display())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            match fs::read_dir(dir).map(Iterator::count) {
                Ok(files) if files > 0 => Err(format!(
                    "{} holds files that are not a local cluster's; choose another --dir",
                    dir.display()
                )),
                Ok(_) => Ok(None),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(format!("{}: {error}", dir.display())),
            }
        }
        Err(error) => Err(format!("{}: {error}", file.display())),
    }
}

/// Writes the shape, in one step: a crash leaves the old file or the new one.
///
/// # Errors
/// Those of the file system.
pub fn write(dir: &Path, shape: &Shape, formed: bool) -> io::Result<()> {
    let text = format!(
        "# Written by `holdfast local-cluster`: the shape of the cluster in this folder.\n\
         shards {}\nreplicas {}\nwitnesses {}\nport {}\ndurability {}\nformed {}\n",
        shape.shards,
        shape.replicas,
        shape.witnesses,
        shape.port,
        shape.durability.as_str(),
        if formed { "yes" } else { "no" }
    );
    let temporary = dir.join(format!("{SHAPE_FILE}.new"));
    let mut file = fs::File::create(&temporary)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&temporary, dir.join(SHAPE_FILE))?;
    fs::File::open(dir)?.sync_all()
}

fn parse(text: &str) -> Result<Found, String> {
    let get = |name: &str| {
        text.lines()
            .filter_map(|line| line.trim().split_once(' '))
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value.trim())
            .ok_or_else(|| format!("no line '{name}'"))
    };
    let number = |name: &str| {
        get(name)?
            .parse::<u16>()
            .map_err(|_| format!("the value of '{name}' is not a number"))
    };
    let shape = Shape {
        shards: number("shards")?,
        replicas: number("replicas")?,
        witnesses: number("witnesses")?,
        port: number("port")?,
        durability: Durability::parse(get("durability")?)
            .ok_or("the value of 'durability' is unknown")?,
    };
    if shape.shards == 0 || shape.port == 0 {
        return Err("'shards' and 'port' must not be 0".into());
    }
    shape.check()?;
    Ok(Found {
        shape,
        formed: get("formed")? == "yes",
    })
}

/// The shape to run: what the directory has, if it has one, and otherwise what the options ask for.
///
/// # Errors
/// A sentence for the user, if both speak and disagree.
pub fn settle(found: Option<&Found>, options: &Options) -> Result<Shape, String> {
    let Some(Found { shape, .. }) = found else {
        return Shape::from_options(options);
    };
    let mut differences = Vec::new();
    let mut compare = |name: &str, has: String, wanted: Option<String>| {
        if let Some(wanted) = wanted
            && wanted != has
        {
            differences.push(format!("{name} {has}, not {wanted}"));
        }
    };
    compare(
        "--shards",
        shape.shards.to_string(),
        options.shards.map(|n| n.to_string()),
    );
    compare(
        "--replicas",
        shape.replicas.to_string(),
        options.replicas.map(|n| n.to_string()),
    );
    compare(
        "--witnesses",
        shape.witnesses.to_string(),
        options.witnesses.map(|n| n.to_string()),
    );
    compare(
        "--port",
        shape.port.to_string(),
        options.port.map(|n| n.to_string()),
    );
    compare(
        "--durability",
        shape.durability.as_str().into(),
        options.durability.map(|d| d.as_str().into()),
    );
    if differences.is_empty() {
        return Ok(*shape);
    }
    Err(format!(
        "the cluster in this --dir was made with {}",
        differences.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_slot_has_one_shard() {
        for shards in [1, 2, 3, 5, 7, 100, 256] {
            let shape = Shape {
                shards,
                replicas: 0,
                witnesses: 0,
                port: 7000,
                durability: Durability::Quorum,
            };
            let mut next = 0u32;
            for shard in 0..shards {
                let slots = shape.slots(shard);
                assert_eq!(u32::from(*slots.start()), next);
                next = u32::from(*slots.end()) + 1;
            }
            assert_eq!(next, SLOTS);
        }
    }

    #[test]
    fn ports_follow_each_other() {
        let shape = Shape::from_options(&Options::default()).expect("defaults go together");
        let nodes = shape.nodes(Path::new("/x"));
        let ports: Vec<u16> = nodes.iter().map(|n| n.port).collect();
        assert_eq!(ports, [7000, 7001, 7002, 7003, 7004, 7005, 7006]);
        assert_eq!(nodes[0].part, Part::Primary { shard: 0 });
        assert_eq!(nodes[4].part, Part::Replica { shard: 1 });
        assert_eq!(nodes[6].part, Part::Witness);
    }

    #[test]
    fn the_second_run_takes_the_shape_of_the_first() {
        let dir = std::env::temp_dir().join(format!("holdfast-plan-{}", std::process::id()));
        fs::create_dir_all(&dir).expect("a temporary folder");
        assert_eq!(read(&dir), Ok(None));
        let first = Options {
            shards: Some(2),
            port: Some(7100),
            ..Options::default()
        };
        let shape = Shape::from_options(&first).expect("fits");
        write(&dir, &shape, true).expect("written");
        let found = read(&dir).expect("read back");
        assert_eq!(
            found,
            Some(Found {
                shape,
                formed: true
            })
        );
        assert_eq!(settle(found.as_ref(), &Options::default()), Ok(shape));
        let other = Options {
            shards: Some(3),
            ..Options::default()
        };
        assert_eq!(
            settle(found.as_ref(), &other),
            Err("the cluster in this --dir was made with --shards 2, not 3".into())
        );
        fs::remove_dir_all(&dir).expect("removed");
    }

    #[test]
    fn async_has_no_replicas() {
        let plain = Options {
            durability: Some(Durability::Async),
            ..Options::default()
        };
        assert_eq!(
            Shape::from_options(&plain).map(|s| (s.replicas, s.witnesses)),
            Ok((0, 0))
        );
        let with = Options {
            replicas: Some(1),
            ..plain
        };
        assert!(Shape::from_options(&with).is_err());
    }

    #[test]
    fn a_folder_name_is_quoted() {
        assert_eq!(quoted(r#"/a b/"c"\d"#), r#""/a b/\"c\"\\d""#);
    }
}
