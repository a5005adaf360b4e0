//! Configuration in `valkey.conf` syntax: read from a file and from arguments, shown and changed by
//! `CONFIG`, written back by `CONFIG REWRITE`.
//!
//! [`Config`] holds every directive as a checked, canonical string. What the data path needs of it is
//! derived once into [`Settings`], so that no command parses a string.

mod checks;
mod rewrite;
mod settings;
mod table;
mod title;
mod values;

pub use checks::is_plain;
pub use settings::{Allowed, Observed, OutputLimit, Settings};
pub use table::{DIRECTIVES, Directive, HIDDEN, IMMUTABLE, Kind, MULTI, OWN, PROTECTED, SENSITIVE};
pub use values::{parse_memory, quote, split_args, split_bytes};

use holdfast_engine::EventClass;
use std::fmt;
use std::path::{Path, PathBuf};

/// How deep `include` may nest.
const INCLUDE_DEPTH_MAX: usize = 16;

/// Why the configuration was refused: where, and the reason in Valkey's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The file, or `None` for the command line.
    pub file: Option<PathBuf>,
    /// Line in the file, from 1; 0 when no line is at fault.
    pub line: usize,
    /// The line itself.
    pub text: String,
    /// The reason.
    pub reason: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let version = env!("CARGO_PKG_VERSION");
        writeln!(f, "\n*** FATAL CONFIG FILE ERROR (Version {version}) ***")?;
        match (&self.file, self.line) {
            (Some(file), 0) => writeln!(f, "Reading the configuration file '{}'", file.display())?,
            (Some(file), n) => {
                writeln!(
                    f,
                    "Reading the configuration file '{}', at line {n}",
                    file.display()
                )?;
                writeln!(f, ">>> '{}'", self.text)?;
            }
            (None, _) => {
                writeln!(f, "Reading the arguments of the command line")?;
                writeln!(f, ">>> '{}'", self.text)?;
            }
        }
        write!(f, "{}", self.reason)
    }
}

impl std::error::Error for ConfigError {}

/// Why `CONFIG SET` was refused; its display is the error reply without the leading `-`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SetError {
    /// No such directive.
    Unknown(String),
    /// The value of this directive was refused.
    Refused {
        /// As the client wrote its name.
        name: String,
        /// The reason.
        reason: String,
    },
}

impl fmt::Display for SetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SetError::Unknown(n) => {
                write!(
                    f,
                    "ERR Unknown option or number of arguments for CONFIG SET - '{n}'"
                )
            }
            SetError::Refused { name, reason } => {
                write!(
                    f,
                    "ERR CONFIG SET failed (possibly related to argument '{name}') - {reason}"
                )
            }
        }
    }
}

/// The values of all directives.
#[derive(Debug, Clone)]
pub struct Config {
    values: Vec<String>,
    /// Which directives a file, an argument or `CONFIG SET` has set.
    given: Vec<bool>,
    file: Option<PathBuf>,
    renames: Vec<(String, String)>,
    warnings: Vec<String>,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            values: DIRECTIVES.iter().map(|d| d.default.to_string()).collect(),
            given: vec![false; DIRECTIVES.len()],
            file: None,
            renames: Vec::new(),
            warnings: Vec::new(),
        }
    }
}

/// The arguments of the command line as lines of a configuration file: each that begins with two dashes where a name may stand
/// begins a line. It may hold values, too; else what follows it is a value, whatever it begins with.
fn options_as_lines<S: AsRef<str>>(args: &[S]) -> String {
    let mut out = String::new();
    let mut name_may_stand = true;
    for (i, arg) in args.iter().enumerate() {
        let arg = arg.as_ref();
        let option = arg.strip_prefix("--").filter(|_| name_may_stand);
        let Some(option) = option else {
            out.push_str(&quote(arg));
            out.push(' ');
            name_may_stand = true;
            continue;
        };
        if !out.is_empty() {
            out.push('\n');
        }
        out.push_str(option);
        out.push(' ');
        name_may_stand = split_args(option).is_none_or(|words| words.len() != 1);
        // No save points at all need no value.
        let next = args.get(i + 1).map(AsRef::as_ref);
        if option.eq_ignore_ascii_case("save") && next.is_none_or(|n| n.starts_with("--")) {
            out.push_str("\"\"");
            name_may_stand = true;
        }
    }
    out
}

/// Whether the value of a directive is a secret.
pub fn is_sensitive(name: &[u8]) -> bool {
    let id = std::str::from_utf8(name).ok().and_then(lookup);
    id.is_some_and(|id| DIRECTIVES[id].flags & SENSITIVE != 0)
}

/// The directive of a name or alias, whatever its case.
pub fn lookup(name: &str) -> Option<usize> {
    let exact = DIRECTIVES.binary_search_by(|d| {
        d.name
            .bytes()
            .cmp(name.bytes().map(|b| b.to_ascii_lowercase()))
    });
    exact.ok().or_else(|| {
        DIRECTIVES
            .iter()
            .position(|d| !d.alias.is_empty() && d.alias.eq_ignore_ascii_case(name))
    })
}

/// The one of a directive's two names that is meant.
fn spelling(id: usize, name: &str) -> &'static str {
    let d = &DIRECTIVES[id];
    match d.alias.eq_ignore_ascii_case(name) {
        true => d.alias,
        false => d.name,
    }
}

impl Config {
    /// Reads `[file] [--directive value …]`, the arguments of the command line without the program's
    /// name. Later settings win over earlier ones, arguments over the file.
    ///
    /// # Errors
    /// The first line or argument that is refused.
    pub fn from_args<S: AsRef<str>>(args: &[S]) -> Result<Config, ConfigError> {
        let mut config = Config::default();
        let mut rest = args;
        if let Some(first) = args.first().map(AsRef::as_ref)
            && !first.starts_with("--")
        {
            config.load_file(Path::new(first), 0)?;
            let path = Path::new(first);
            config.file = Some(std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf()));
            rest = &args[1..];
        }
        for line in options_as_lines(rest).lines() {
            let line = line.trim();
            let fail = |reason: String| ConfigError {
                file: None,
                line: 0,
                text: line.to_string(),
                reason,
            };
            let words = split_args(line)
                .ok_or_else(|| fail("Unbalanced quotes in configuration line".into()))?;
            if !words.is_empty() {
                config.directive(&words, 0).map_err(fail)?;
            }
        }
        config.check()?;
        Ok(config)
    }

    fn load_file(&mut self, path: &Path, depth: usize) -> Result<(), ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|e| ConfigError {
            file: Some(path.to_path_buf()),
            line: 0,
            text: String::new(),
            reason: format!(
                "Fatal error, can't open config file '{}': {e}",
                path.display()
            ),
        })?;
        for (i, line) in text.split('\n').enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let fail = |reason: String| ConfigError {
                file: Some(path.to_path_buf()),
                line: i + 1,
                text: line.to_string(),
                reason,
            };
            let words = split_args(line)
                .ok_or_else(|| fail("Unbalanced quotes in configuration line".into()))?;
            if words.is_empty() {
                continue;
            }
            if words[0].eq_ignore_ascii_case("include") && words.len() == 2 {
                self.include(&words[1], depth + 1).map_err(|e| match e {
                    Ok(nested) => nested,
                    Err(reason) => fail(reason),
                })?;
                continue;
            }
            self.directive(&words, i + 1).map_err(fail)?;
        }
        Ok(())
    }

    /// Without a wildcard the file must exist; with one, whatever matches is read, in order of name.
    fn include(&mut self, pattern: &str, depth: usize) -> Result<(), Result<ConfigError, String>> {
        if depth > INCLUDE_DEPTH_MAX {
            return Err(Err("Too many nested includes".into()));
        }
        if !pattern.contains(['*', '?', '[']) {
            return self.load_file(Path::new(pattern), depth).map_err(Ok);
        }
        let path = Path::new(pattern);
        let dir = match path.parent() {
            Some(d) if !d.as_os_str().is_empty() => d,
            _ => Path::new("."),
        };
        let glob = path
            .file_name()
            .map(|n| n.to_string_lossy().into_owned())
            .unwrap_or_default();
        let Ok(entries) = std::fs::read_dir(dir) else {
            return Ok(());
        };
        let mut files: Vec<PathBuf> = entries
            .filter_map(|e| e.ok())
            .filter(|e| {
                holdfast_engine::glob::matches(glob.as_bytes(), e.file_name().as_encoded_bytes())
            })
            .map(|e| e.path())
            .collect();
        files.sort();
        for file in files {
            self.load_file(&file, depth).map_err(Ok)?;
        }
        Ok(())
    }

    fn directive(&mut self, words: &[String], line: usize) -> Result<(), String> {
        let name = words[0].to_ascii_lowercase();
        let Some(id) = lookup(&name) else {
            if table::DEPRECATED.contains(&name.as_str()) && words.len() == 2 {
                return Ok(());
            }
            return self.other_directive(&name, words);
        };
        let d = &DIRECTIVES[id];
        let mut values: Vec<&str> = words[1..].iter().map(String::as_str).collect();
        let split;
        if d.flags & MULTI != 0 && values.len() == 1 && !values[0].is_empty() {
            split = split_args(values[0]).ok_or("Unbalanced quotes in configuration line")?;
            values = split.iter().map(String::as_str).collect();
        }
        if d.flags & MULTI == 0 && values.len() != 1 {
            return Err("wrong number of arguments".into());
        }
        let mut value = values::canonical(d, &values, &self.values[id])?;
        // `save` lines and arguments add up; the first of them replaces the default.
        if d.kind == Kind::Save && self.given[id] && !value.is_empty() {
            value = format!("{} {value}", self.values[id]).trim().to_string();
        }
        if !d.acts && value != d.default && !matches!(value.as_str(), "" | "no" | "0") {
            let place = if line == 0 {
                String::new()
            } else {
                format!(" (line {line})")
            };
            self.warnings.push(format!(
                "The directive '{}'{place} is accepted but not acted on by this version.",
                d.name
            ));
        }
        self.values[id] = value;
        self.given[id] = true;
        Ok(())
    }

    fn other_directive(&mut self, name: &str, words: &[String]) -> Result<(), String> {
        match (name, words.len()) {
            ("rename-command", 3) => {
                self.renames.push((words[1].clone(), words[2].clone()));
                Ok(())
            }
            // To ignore these would leave users or modules out without a word.
            ("user", 2..) => Err("ACL users are not supported by this version".into()),
            ("loadmodule", 2..) => Err("modules are not supported".into()),
            _ => Err("Bad directive or wrong number of arguments".into()),
        }
    }

    /// What can only be judged when all is read.
    fn check(&self) -> Result<(), ConfigError> {
        let fail = |reason: &str| {
            Err(ConfigError {
                file: self.file.clone(),
                line: 0,
                text: String::new(),
                reason: reason.to_string(),
            })
        };
        if self.yes("cluster-enabled") && !self.get("replicaof").is_empty() {
            return fail("replicaof directive not allowed in cluster mode");
        }
        if !self.get("replicaof").is_empty() {
            return fail("replicaof is not supported by this version");
        }
        if self.yes("daemonize") {
            return fail(
                "daemonize is not supported: let systemd, a container or the shell run the server in the background",
            );
        }
        if self.yes("witness") && !self.yes("cluster-enabled") {
            return fail("witness yes needs cluster-enabled yes");
        }
        Ok(())
    }

    /// The value of a directive of [`DIRECTIVES`].
    ///
    /// # Panics
    /// If there is no such directive: a mistake in this program.
    pub fn get(&self, name: &str) -> &str {
        match lookup(name) {
            Some(id) => &self.values[id],
            None => panic!("no directive '{name}'"),
        }
    }

    /// Whether a directive is `yes`.
    pub fn yes(&self, name: &str) -> bool {
        self.get(name) == "yes"
    }

    /// A directive that is a number.
    pub fn int(&self, name: &str) -> i64 {
        self.get(name).parse().unwrap_or(0)
    }

    /// A number that cannot be negative, or a number of bytes.
    pub fn size(&self, name: &str) -> usize {
        self.get(name).parse().unwrap_or(0)
    }

    /// Sets one directive without asking whether it may change at run time. For starting nodes from code.
    ///
    /// # Errors
    /// Why the value was refused.
    pub fn force(&mut self, name: &str, value: &str) -> Result<(), String> {
        if let Some(id) = lookup(name) {
            // What was given before is replaced, `save` points as well.
            self.given[id] = false;
        }
        self.directive(&[name.to_string(), value.to_string()], 0)
    }

    /// `CONFIG SET`: all of it or nothing. Returns the names of what was set.
    ///
    /// # Errors
    /// The first pair that is refused.
    pub fn set_all(
        &mut self,
        pairs: &[(&str, &str)],
        allow_protected: bool,
    ) -> Result<Vec<&'static str>, SetError> {
        // A directive may be named twice if once by its other name: then the last counts, as in Valkey.
        let mut seen: Vec<&'static str> = Vec::with_capacity(pairs.len());
        let mut ids: Vec<usize> = Vec::with_capacity(pairs.len());
        for (name, value) in pairs {
            let refused = |reason: &str| SetError::Refused {
                name: name.to_string(),
                reason: reason.to_string(),
            };
            let id = lookup(name).ok_or_else(|| SetError::Unknown(name.to_string()))?;
            let flags = DIRECTIVES[id].flags;
            let changes = flags & OWN == 0 || *value != self.values[id];
            if flags & IMMUTABLE != 0 && changes {
                return Err(refused("can't set immutable config"));
            }
            if flags & PROTECTED != 0 && !allow_protected {
                return Err(refused("can't set protected config"));
            }
            let spelled = spelling(id, name);
            if seen.contains(&spelled) {
                return Err(refused("duplicate parameter"));
            }
            seen.push(spelled);
            ids.push(id);
        }
        let mut new = Vec::with_capacity(pairs.len());
        for (((_, value), id), spelled) in pairs.iter().zip(&ids).zip(&seen) {
            let d = &DIRECTIVES[*id];
            let refused = |reason: String| SetError::Refused {
                name: spelled.to_string(),
                reason,
            };
            let words: Vec<&str> = if d.flags & MULTI != 0 {
                value.split(' ').collect()
            } else {
                vec![value]
            };
            new.push(values::canonical(d, &words, &self.values[*id]).map_err(refused)?);
        }
        for (id, value) in ids.iter().zip(new) {
            self.values[*id] = value;
            self.given[*id] = true;
        }
        Ok(ids.into_iter().map(|id| DIRECTIVES[id].name).collect())
    }

    /// A value as `CONFIG GET` shows it.
    fn shown(&self, id: usize) -> String {
        let value = &self.values[id];
        match (&DIRECTIVES[id].kind, EventClass::parse(value)) {
            (Kind::EventClasses, Some(classes)) => classes.to_string(),
            _ => value.clone(),
        }
    }

    /// `CONFIG GET`: names and values that match any of the patterns, sorted by name.
    pub fn matching(&self, patterns: &[&[u8]]) -> Vec<(String, String)> {
        let mut found = std::collections::BTreeMap::new();
        for pattern in patterns {
            if !pattern.iter().any(|c| b"[*?".contains(c)) {
                let name = String::from_utf8_lossy(pattern).to_ascii_lowercase();
                if let Some(id) = lookup(&name) {
                    found.insert(name, self.shown(id));
                }
                continue;
            }
            for (id, d) in DIRECTIVES
                .iter()
                .enumerate()
                .filter(|(_, d)| d.flags & HIDDEN == 0)
            {
                for name in [d.name, d.alias] {
                    if !name.is_empty()
                        && holdfast_engine::glob::matches_nocase(pattern, name.as_bytes())
                    {
                        found.insert(name.to_string(), self.shown(id));
                    }
                }
            }
        }
        found.into_iter().collect()
    }

    /// The file that the configuration was read from, if any; absolute.
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// `rename-command` pairs, in order.
    pub fn renames(&self) -> &[(String, String)] {
        &self.renames
    }

    /// What should be said in the log once logging works.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The directory that relative paths are meant from. The process does not change its own.
    pub fn dir(&self) -> PathBuf {
        let dir = self.get("dir");
        let path = Path::new(if dir.is_empty() { "." } else { dir });
        std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf())
    }

    /// A path of the configuration, taken from [`Config::dir`] if it is relative.
    pub fn path(&self, relative: &str) -> PathBuf {
        self.dir().join(relative)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> tempfile::NamedTempFile {
        let f = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(f.path(), text).unwrap();
        f
    }

    #[test]
    fn table_is_sorted_and_its_defaults_are_valid() {
        for pair in DIRECTIVES.windows(2) {
            assert!(
                pair[0].name < pair[1].name,
                "{} {}",
                pair[0].name,
                pair[1].name
            );
        }
        for d in DIRECTIVES {
            let words: Vec<&str> = if d.flags & MULTI != 0 {
                d.default.split(' ').collect()
            } else {
                vec![d.default]
            };
            assert_eq!(
                values::canonical(d, &words, d.default).as_deref(),
                Ok(d.default),
                "{}",
                d.name
            );
        }
    }

    #[test]
    fn arguments_win_over_the_file() {
        let f = file("# a comment\nport 7000\nbind 127.0.0.1 ::1\nsave 1 2\nsave 3 4\n");
        let path = f.path().to_str().unwrap();
        let c = Config::from_args(&[path, "--port", "7001", "--save", "", "--appendonly", "no"])
            .unwrap();
        assert_eq!(c.int("port"), 7001);
        assert_eq!(c.get("bind"), "127.0.0.1 ::1");
        assert_eq!(c.get("save"), "");
        let c = Config::from_args(&[path]).unwrap();
        assert_eq!(c.get("save"), "1 2 3 4");
        let c = Config::from_args(&[path, "--save", "5 6"]).expect("more points");
        assert_eq!(c.get("save"), "1 2 3 4 5 6");
    }

    #[test]
    fn options_and_their_values_are_told_apart_as_valkey_does() {
        for (args, expect) in [
            (
                &["--port", "1", "--bind", "a", "b"][..],
                "port \"1\" \nbind \"a\" \"b\" ",
            ),
            (&["--port 1", "--bind a"], "port 1 \nbind a "),
            (
                &["--logfile", "--x", "--port", "1"],
                "logfile \"--x\" \nport \"1\" ",
            ),
            (&["--save", "--port", "1"], "save \"\"\nport \"1\" "),
            (&["--port", "1", "--save"], "port \"1\" \nsave \"\""),
            (
                &["port", "1", "--bind", "a"],
                "\"port\" \"1\" \nbind \"a\" ",
            ),
        ] {
            assert_eq!(options_as_lines(args), expect, "{args:?}");
        }
        let e = Config::from_args(&["--port", "1", "2"]).unwrap_err();
        assert_eq!(e.text, "port \"1\" \"2\"");
        let c = Config::from_args(&["--shutdown-on-sigterm", "nosave", "force", "now"]);
        assert_eq!(c.unwrap().get("shutdown-on-sigterm"), "nosave now force");
    }

    #[test]
    fn an_unknown_directive_is_reported_with_its_line() {
        let f = file("port 7000\n\nbogus 1\n");
        let e = Config::from_args(&[f.path().to_str().unwrap()]).unwrap_err();
        assert_eq!((e.line, e.text.as_str()), (3, "bogus 1"));
        assert_eq!(e.reason, "Bad directive or wrong number of arguments");
        assert!(e.to_string().contains(f.path().to_str().unwrap()));
        let e = Config::from_args(&["--port", "x"]).unwrap_err();
        assert_eq!(e.reason, "argument couldn't be parsed into an integer");
    }

    #[test]
    fn bytes_may_take_all_of_64_bits_where_valkey_lets_them() {
        let mut c = Config::default();
        let highest = u64::MAX.to_string();
        for name in ["maxmemory", "cluster-link-sendbuf-limit"] {
            c.set_all(&[(name, &highest)], false).expect("set");
            assert_eq!(c.get(name), highest);
        }
        assert_eq!(Settings::of(&c).memory_bytes_max, u64::MAX);
        assert!(
            c.rewritten("", false)
                .contains(&format!("maxmemory {highest}\n"))
        );
        let refused = |c: &mut Config, name: &str, value: &str| {
            let e = c.set_all(&[(name, value)], true).unwrap_err().to_string();
            e.split_once(" - ").expect("a reason").1.to_string()
        };
        assert_eq!(
            refused(&mut c, "proto-max-bulk-len", &highest),
            "argument must be between 1048576 and 9223372036854775807 inclusive"
        );
        assert_eq!(
            refused(&mut c, "slot-migration-max-failover-repl-bytes", "-2"),
            "argument must be between -1 and 9223372036854775807 inclusive"
        );
        assert_eq!(
            refused(&mut c, "maxmemory-clients", "9223372036854775808"),
            "percentage argument must be less or equal to 100"
        );
        assert_eq!(
            refused(&mut c, "maxmemory-clients", "-5%"),
            "argument must be a memory or percent value"
        );
        c.set_all(&[("hz", "1000"), ("maxmemory", "")], false)
            .expect("set");
        assert_eq!((c.get("hz"), c.get("maxmemory")), ("500", "0"));
    }

    #[test]
    fn known_but_idle_directives_warn_once_set() {
        let c = Config::from_args(&["--replica-priority", "7"]).unwrap();
        assert_eq!(c.warnings().len(), 1);
    }

    #[test]
    fn config_set_is_all_or_nothing() {
        let mut c = Config::default();
        let e = c
            .set_all(&[("timeout", "5"), ("maxclients", "zero")], false)
            .unwrap_err();
        assert_eq!(
            e.to_string(),
            "ERR CONFIG SET failed (possibly related to argument 'maxclients') - argument couldn't be parsed into an integer"
        );
        assert_eq!(c.get("timeout"), "0");
        assert!(c.set_all(&[("databases", "4")], false).is_err());
        let e = c.set_all(&[("slowlog-max-len", "-1")], false).unwrap_err();
        assert!(e.to_string().contains("'slowlog-max-len'"), "{e}");
        let twice = [("slowlog-max-len", "1"), ("SLOWLOG-max-len", "2")];
        assert!(c.set_all(&twice, false).is_err());
        let by_both = [
            ("slowlog-max-len", "1"),
            ("commandlog-slow-execution-max-len", "2"),
        ];
        assert!(c.set_all(&by_both, false).is_ok());
        assert_eq!(c.get("slowlog-max-len"), "2");
        c.set_all(&[("client-output-buffer-limit", "pubsub 1mb 0 0")], false)
            .unwrap();
        assert_eq!(
            c.get("client-output-buffer-limit"),
            "normal 0 0 0 slave 268435456 67108864 60 pubsub 1048576 0 0"
        );
    }
}
