//! `holdfast check-rdb FILE`: whether an RDB file is whole, and what is in it. Output and exit status are those of
//! `valkey-check-rdb`, under whose name the program can be called, too.

mod stats;

use holdfast_rdb::{Event, Fault, RdbError, RdbReader, ReadOptions};
use stats::Stats;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

/// Bytes read at a time.
const READ_BYTES: usize = 256 << 10;
/// The newest version that is ours; those between 12 and 79 are others'.
const NEWEST: u32 = 80;
const FOREIGN: std::ops::RangeInclusive<u32> = 12..=79;

/// The names under which the program is this command.
const NAMES: [&str; 2] = ["valkey-check-rdb", "redis-check-rdb"];

/// What the values of each type are called.
const KINDS: [&str; 23] = [
    "string",
    "list-linked",
    "set-hashtable",
    "zset-v1",
    "hash-hashtable",
    "zset-v2",
    "module-pre-release",
    "module-value",
    "",
    "hash-zipmap",
    "list-ziplist",
    "set-intset",
    "zset-ziplist",
    "hash-ziplist",
    "quicklist",
    "stream",
    "hash-listpack",
    "zset-listpack",
    "quicklist-v2",
    "stream-v2",
    "set-listpack",
    "stream-v3",
    "hash-volatile-items",
];

/// How statistics are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Table,
    Info,
    Csv,
}

/// Whether the program was called under one of the command's names.
pub fn is_name(program: &std::ffi::OsStr) -> bool {
    let name = Path::new(program).file_name().unwrap_or(program);
    let name = name.to_string_lossy();
    NAMES.iter().any(|n| name.contains(n))
}

/// Runs the command with the arguments behind its name.
pub fn run(args: impl Iterator<Item = std::ffi::OsString>) -> ExitCode {
    let args: Vec<String> = args.map(|a| a.to_string_lossy().into_owned()).collect();
    let mut out = io::stdout().lock();
    let Some(options) = Options::parse(&args) else {
        eprintln!(
            "Usage: {} <rdb-file-name> [--format table|info|csv] [--stats] [--output <file>]",
            NAMES[0]
        );
        return ExitCode::FAILURE;
    };
    if options.version {
        println!("valkey-check-rdb {}", crate::COMPATIBLE_VALKEY_VERSION);
        return ExitCode::SUCCESS;
    }
    match check(&options, &mut out) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(e) => {
            eprintln!("{e}");
            ExitCode::FAILURE
        }
    }
}

/// Checks a file and prints what is found. Whether it is sound.
///
/// # Errors
/// Nothing can be printed.
pub fn report(path: &Path, out: &mut dyn Write) -> io::Result<bool> {
    let options = Options {
        file: path.to_path_buf(),
        ..Options::default()
    };
    check(&options, out)
}

struct Options {
    file: PathBuf,
    stats: bool,
    format: Format,
    output: Option<PathBuf>,
    version: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            file: PathBuf::new(),
            stats: false,
            format: Format::Table,
            output: None,
            version: false,
        }
    }
}

impl Options {
    fn parse(args: &[String]) -> Option<Options> {
        let (file, rest) = args.split_first()?;
        let mut options = Options {
            file: file.into(),
            version: file == "-v" || file == "--version",
            ..Options::default()
        };
        let mut rest = rest.iter();
        while let Some(word) = rest.next() {
            match word.as_str() {
                "--stats" => options.stats = true,
                "--output" => options.output = Some(rest.next()?.into()),
                "--format" => {
                    options.format = match rest.next()?.as_str() {
                        "table" => Format::Table,
                        "csv" => Format::Csv,
                        "info" => Format::Info,
                        _ => return None,
                    }
                }
                _ => return None,
            }
        }
        Some(options)
    }
}

/// What is known of the file so far.
#[derive(Default)]
struct Seen {
    keys: u64,
    expires: u64,
    expired: u64,
    functions: u64,
    scripts: u64,
    db: u32,
    databases: u32,
    stats: Stats,
}

fn check(options: &Options, out: &mut dyn Write) -> io::Result<bool> {
    writeln!(
        out,
        "[offset 0] Checking RDB file {}",
        options.file.display()
    )?;
    let mut seen = Seen::default();
    let mut reader = RdbReader::with_options(ReadOptions {
        relaxed: true,
        skip_modules: true,
        ..ReadOptions::default()
    });
    let result = match File::open(&options.file) {
        Ok(file) => read(options, file, &mut reader, &mut seen, out)?,
        Err(_) => Err(None),
    };
    let at = reader.offset();
    let code = u8::from(result.is_err());
    if let Err(Some(error)) = &result {
        describe(error, &reader, out)?;
        seen.show(options, out)?;
    }
    writeln!(
        out,
        "[offset {at}] Check RDB returned error code {code} (0 means success)"
    )?;
    if result.is_ok() {
        let version = reader.version();
        if FOREIGN.contains(&version) || version > NEWEST {
            writeln!(
                out,
                "[offset {at}] \\o/ RDB looks OK, but loading requires config 'rdb-version-check relaxed'"
            )?;
        } else {
            writeln!(out, "[offset {at}] \\o/ RDB looks OK! \\o/")?;
        }
        seen.show(options, out)?;
    }
    Ok(result.is_ok())
}

/// Reads the file to its end. The inner error is what is wrong with it, if that is not just that it cannot be read.
fn read(
    options: &Options,
    mut file: File,
    reader: &mut RdbReader,
    seen: &mut Seen,
    out: &mut dyn Write,
) -> io::Result<Result<(), Option<RdbError>>> {
    let now_ms = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_millis() as u64);
    let mut chunk = vec![0; READ_BYTES];
    loop {
        let n = match file.read(&mut chunk) {
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => return Ok(Err(None)),
        };
        if n == 0 {
            return Ok(reader.end_of_input().map_err(Some));
        }
        reader.feed(&chunk[..n]);
        loop {
            let event = match reader.poll() {
                Ok(Some(event)) => event,
                Ok(None) => break,
                Err(e) => return Ok(Err(Some(e))),
            };
            let at = reader.offset();
            match event {
                Event::Version { version, .. } if FOREIGN.contains(&version) => {
                    writeln!(out, "[offset {at}] Foreign RDB version {version} detected")?;
                }
                Event::Version { version, .. } if version > NEWEST => {
                    writeln!(out, "[offset {at}] Future RDB version {version} detected")?;
                }
                Event::Aux { name, value } => {
                    seen.scripts += u64::from(name.eq_ignore_ascii_case(b"lua"));
                    writeln!(
                        out,
                        "[offset {at}] AUX FIELD {} = '{}'",
                        String::from_utf8_lossy(&name),
                        String::from_utf8_lossy(&value)
                    )?;
                }
                Event::SelectDb(db) => {
                    seen.db = db;
                    seen.databases = seen.databases.max(db);
                    writeln!(out, "[offset {at}] Selecting DB ID {db}")?;
                }
                Event::Function(_) => seen.functions += 1,
                Event::Module(name) => writeln!(out, "[offset {at}] MODULE DATA of: {name}")?,
                Event::Key {
                    key,
                    expire_at_ms,
                    value,
                    ..
                } => {
                    seen.keys += 1;
                    let expired = expire_at_ms.is_some_and(|at| at < now_ms);
                    seen.expires += u64::from(expire_at_ms.is_some());
                    seen.expired += u64::from(expired);
                    if options.stats {
                        let lives = expire_at_ms.map(|_| !expired);
                        seen.stats.add(seen.db, &key, value.as_ref(), lives);
                    }
                }
                Event::EmptyKey(_) => seen.keys += 1,
                Event::End => {
                    match reader.stored_checksum() {
                        None => {}
                        Some(0) => writeln!(
                            out,
                            "[offset {at}] RDB file was saved with checksum disabled: no check performed."
                        )?,
                        Some(_) => writeln!(out, "[offset {at}] Checksum OK")?,
                    }
                    return Ok(Ok(()));
                }
                _ => {}
            }
        }
    }
}

fn describe(error: &RdbError, reader: &RdbReader, out: &mut dyn Write) -> io::Result<()> {
    let (skip, text) = match error.fault {
        Fault::Signature => (9, "Wrong signature trying to load DB from file".to_string()),
        Fault::Version(_) => (9, error.reason.clone()),
        Fault::UnknownType(kind, version) if FOREIGN.contains(&version) => (
            1,
            format!("Unknown object type {kind} in RDB file with foreign version {version}"),
        ),
        Fault::UnknownType(kind, version) if version > NEWEST => (
            1,
            format!("Unknown object type {kind} in RDB file with future version {version}"),
        ),
        Fault::UnknownType(kind, _) => (1, format!("Invalid object type: {kind}")),
        Fault::Checksum => (8, "RDB CRC error".to_string()),
        Fault::Short => (0, "Unexpected EOF reading RDB file".to_string()),
        Fault::Malformed => (0, error.reason.clone()),
    };
    writeln!(out, "--- RDB ERROR DETECTED ---")?;
    writeln!(out, "[offset {}] {text}", error.offset + skip)?;
    writeln!(out, "[additional info] While doing: {}", reader.doing())?;
    if let Some((key, kind)) = reader.key() {
        let key = String::from_utf8_lossy(key);
        writeln!(out, "[additional info] Reading key '{key}'")?;
        let name = KINDS.get(usize::from(kind)).unwrap_or(&"unknown");
        writeln!(out, "[additional info] Reading type {kind} ({name})")?;
    }
    Ok(())
}

impl Seen {
    fn show(&self, options: &Options, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "[info] {} keys read", self.keys)?;
        writeln!(out, "[info] {} expires", self.expires)?;
        writeln!(out, "[info] {} already expired", self.expired)?;
        writeln!(out, "[info] {} functions", self.functions)?;
        if self.scripts > 0 {
            writeln!(out, "[info] {} lua scripts read", self.scripts)?;
        }
        if !options.stats {
            return Ok(());
        }
        match &options.output {
            None => self.stats.show(options.format, self.databases, out),
            Some(path) => {
                let mut file = File::create(path).map_err(|e| {
                    let text = format!("Cannot open output file: '{}': {e}", path.display());
                    io::Error::new(e.kind(), text)
                })?;
                self.stats.show(options.format, self.databases, &mut file)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_engine::{StrRef, ValueRef};
    use holdfast_rdb::{RdbVersion, RdbWriter};

    fn checked(bytes: &[u8], stats: bool) -> (bool, String) {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("x.rdb");
        std::fs::write(&file, bytes).unwrap();
        let options = Options {
            file,
            stats,
            format: Format::Info,
            ..Options::default()
        };
        let mut out = Vec::new();
        let sound = check(&options, &mut out).unwrap();
        (sound, String::from_utf8(out).unwrap())
    }

    #[test]
    fn says_what_is_there_and_what_is_wrong() {
        let mut w = RdbWriter::new(RdbVersion::V80);
        w.aux("redis-bits", b"64");
        w.key(3, b"key", Some(5), ValueRef::Str(StrRef::Bytes(b"value")));
        w.finish();
        let good = w.take();
        let (sound, text) = checked(&good, true);
        assert!(sound, "{text}");
        for line in [
            "AUX FIELD redis-bits = '64'",
            "Selecting DB ID 3",
            "Checksum OK",
            "\\o/ RDB looks OK! \\o/",
            "[info] 1 already expired",
            "[info] db.3.type.string.keys.value_size:5",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
        let mut bad = good.clone();
        let end = bad.len() - 1;
        bad[end] ^= 1;
        let (sound, text) = checked(&bad, false);
        assert!(!sound && text.contains("RDB CRC error"), "{text}");
        let (sound, text) = checked(&good[..end - 12], false);
        assert!(!sound && text.contains("Reading key 'key'"), "{text}");
        assert!(text.contains("Reading type 0 (string)"), "{text}");
    }

    #[test]
    fn is_called_by_its_names() {
        assert!(is_name("/usr/bin/redis-check-rdb".as_ref()));
        assert!(!is_name("/x/valkey-check-rdb/holdfast".as_ref()));
    }
}
