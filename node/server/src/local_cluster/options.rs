//! The command line of `holdfast local-cluster`.

use std::ffi::OsString;
use std::path::PathBuf;

/// What `holdfast local-cluster --help` prints.
pub const USAGE: &str = "\
Usage: holdfast local-cluster [options]

Starts a whole cluster on this machine, one process a node, and keeps it running until Ctrl-C.
A second run on the same --dir brings the same cluster back, under 'durability quorum' with its data.

  --shards N          shards, each with its share of the 16384 slots          (default 3)
  --replicas N        data replicas of each shard beside its primary          (default 1)
  --witnesses N       witness processes; each one serves all shards           (default 1)
  --port N            port of the first node; the others follow               (default 7000)
  --dir PATH          one folder a node is made in here                       (default ./local-cluster)
  --durability MODE   quorum: an acknowledged write is on a majority's disks  (default quorum)
                      async: acknowledged at once; no replicas, no witnesses, and on
                      disk is what was last saved: a node that is killed loses the rest
  --json              once ready, print the nodes as one line of JSON
  --no-restart        leave a node that ended alone; otherwise it is started again after 3 s
  --help              this text
";

/// When a write is acknowledged, as the `durability` directive has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// At once.
    Async,
    /// When it is on the disks of a majority of the shard's voters.
    Quorum,
}

impl Durability {
    /// The directive's value.
    pub fn as_str(self) -> &'static str {
        match self {
            Durability::Async => "async",
            Durability::Quorum => "quorum",
        }
    }

    /// Reads the directive's value.
    pub fn parse(text: &str) -> Option<Durability> {
        match text {
            "async" => Some(Durability::Async),
            "quorum" => Some(Durability::Quorum),
            _ => None,
        }
    }
}

/// The options as given: `None` where the user said nothing, so that a second run can take the
/// value from the directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// `--shards`
    pub shards: Option<u16>,
    /// `--replicas`
    pub replicas: Option<u16>,
    /// `--witnesses`
    pub witnesses: Option<u16>,
    /// `--port`
    pub port: Option<u16>,
    /// `--dir`
    pub dir: Option<PathBuf>,
    /// `--durability`
    pub durability: Option<Durability>,
    /// `--json`
    pub json: bool,
    /// `--no-restart`
    pub no_restart: bool,
}

/// What the command line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Run a cluster.
    Run(Options),
    /// Print [`USAGE`].
    Help,
}

/// Reads the arguments behind `local-cluster`. Both `--port 7000` and `--port=7000` are understood.
///
/// # Errors
/// A sentence for the user that names the argument at fault.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Request, String> {
    let mut options = Options::default();
    let mut args = args.into_iter();
    while let Some(arg) = args.next() {
        let arg = text(arg)?;
        let (name, inline) = match arg.split_once('=') {
            Some((name, value)) if name.starts_with("--") => {
                (name.to_owned(), Some(value.to_owned()))
            }
            _ => (arg, None),
        };
        let mut value = |what: &str| match inline.clone() {
            Some(value) => Ok(value),
            None => match args.next() {
                Some(value) => text(value),
                None => Err(format!("{name} needs {what}")),
            },
        };
        match name.as_str() {
            "--shards" => options.shards = Some(number(&name, &value("a number")?, 1, 256)?),
            "--replicas" => options.replicas = Some(number(&name, &value("a number")?, 0, 6)?),
            "--witnesses" => options.witnesses = Some(number(&name, &value("a number")?, 0, 5)?),
            "--port" => options.port = Some(number(&name, &value("a port")?, 1, 45_535)?),
            "--dir" => options.dir = Some(PathBuf::from(value("a path")?)),
            "--durability" => {
                let mode = value("async or quorum")?;
                options.durability = Some(
                    Durability::parse(&mode)
                        .ok_or_else(|| format!("--durability is async or quorum, not '{mode}'"))?,
                );
            }
            "--json" | "--no-restart" | "--help" | "-h" if inline.is_some() => {
                return Err(format!("{name} takes no value"));
            }
            "--json" => options.json = true,
            "--no-restart" => options.no_restart = true,
            "--help" | "-h" => return Ok(Request::Help),
            _ => return Err(format!("unknown option '{name}'")),
        }
    }
    Ok(Request::Run(options))
}

fn text(arg: OsString) -> Result<String, String> {
    arg.into_string()
        .map_err(|arg| format!("'{}' is not valid UTF-8", arg.to_string_lossy()))
}

fn number(name: &str, text: &str, min: u16, max: u16) -> Result<u16, String> {
    match text.parse::<u16>() {
        Ok(n) if (min..=max).contains(&n) => Ok(n),
        _ => Err(format!(
            "{name} is a number from {min} to {max}, not '{text}'"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str) -> Result<Request, String> {
        parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn both_spellings_of_a_value() {
        let want = Request::Run(Options {
            port: Some(7100),
            shards: Some(1),
            ..Options::default()
        });
        assert_eq!(check("--port 7100 --shards=1"), Ok(want));
    }

    #[test]
    fn errors_name_the_argument() {
        assert_eq!(check("--port"), Err("--port needs a port".into()));
        assert_eq!(
            check("--port 70000"),
            Err("--port is a number from 1 to 45535, not '70000'".into())
        );
        assert_eq!(
            check("--shards 0"),
            Err("--shards is a number from 1 to 256, not '0'".into())
        );
        assert_eq!(
            check("--durability maybe"),
            Err("--durability is async or quorum, not 'maybe'".into())
        );
        assert_eq!(check("--json=yes"), Err("--json takes no value".into()));
        assert_eq!(check("--speed 9"), Err("unknown option '--speed'".into()));
    }
}
