//! What `COMMAND INFO` and `COMMAND DOCS` say of a command, from its row.
//!
//! The row's `args` describe the arguments in one line:
//!
//! ```text
//! key:key value [(NX | XX | IFEQ=comparison-value)<condition>] [GET] {score:double member}<data>...
//!
//! name            a string; name:int, name:double, name:key, name:pattern, name:time are other types
//! name:key#1      a key (or pattern) of the second key rule; without #, keys are of the first
//! WORD            a word to be typed as it is, named like itself in lower case; WORD<name> names it otherwise
//! WORD=argument   an argument introduced by a word
//! name~text       shown as this text in a synopsis
//! (a | b)<name>   one of them           {a b}<name>   all of them together
//! […]             optional              …...          several; ...+ with the word repeated each time
//! …@1.2.3         since this version    …!1.2.3       deprecated since          …'text'  a summary of its own
//! ""<name>        a word that does not look like one stands in quotes
//! ```

use holdfast_resp::{Proto, write};

use crate::spec::{Begin, Command, CommandSpec, Find, Flags, KeySpec};

/// One argument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arg {
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: ArgKind,
    /// The word that introduces it, or that it is.
    pub token: Option<String>,
    /// The key rule that it belongs to.
    pub key_spec: Option<i64>,
    /// It may be left out.
    pub optional: bool,
    /// It may come several times.
    pub multiple: bool,
    /// Its word is repeated each time.
    pub multiple_token: bool,
    /// What a synopsis shows in place of the name.
    pub display: Option<String>,
    /// The version that brought it, where that is later than the command.
    pub since: Option<String>,
    /// The version from which it should not be used any more.
    pub deprecated_since: Option<String>,
    /// What it is for.
    pub summary: Option<String>,
}

/// What an argument is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ArgKind {
    /// A value of this type, as `COMMAND DOCS` calls it.
    Value(&'static str),
    /// Just a word.
    Token,
    /// One of several.
    OneOf(Vec<Arg>),
    /// Several together.
    Block(Vec<Arg>),
}

/// Parses the `args` of a row. `None` if they do not follow the notation.
pub fn arguments(text: &str) -> Option<Vec<Arg>> {
    let mut parser = Parser { rest: text };
    let args = parser.sequence()?;
    parser.rest.is_empty().then_some(args)
}

struct Parser<'a> {
    rest: &'a str,
}

impl<'a> Parser<'a> {
    fn skip(&mut self, text: &str) -> bool {
        match self.rest.strip_prefix(text) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn until(&mut self, end: impl Fn(char) -> bool) -> &'a str {
        let at = self.rest.find(end).unwrap_or(self.rest.len());
        let (head, tail) = self.rest.split_at(at);
        self.rest = tail;
        head
    }

    /// Arguments up to a closing bracket or the end.
    fn sequence(&mut self) -> Option<Vec<Arg>> {
        let mut args = Vec::new();
        loop {
            self.skip(" ");
            if self.rest.is_empty() || self.rest.starts_with(['}', ')', '|']) {
                return Some(args);
            }
            args.push(self.item()?);
        }
    }

    fn item(&mut self) -> Option<Arg> {
        if self.skip("[") {
            let arg = self.item()?;
            return self.skip("]").then_some(Arg {
                optional: true,
                ..arg
            });
        }
        let mut arg = self.core()?;
        arg.multiple = self.skip("...");
        arg.multiple_token = arg.multiple && self.skip("+");
        let version = |c: char| !(c.is_ascii_digit() || c == '.');
        if self.skip("@") {
            arg.since = Some(self.until(version).to_string());
        }
        if self.skip("!") {
            arg.deprecated_since = Some(self.until(version).to_string());
        }
        if self.skip("'") {
            // An apostrophe inside is one that a letter follows.
            let end =
                self.rest.match_indices('\'').map(|(at, _)| at).find(|at| {
                    !self.rest[at + 1..].starts_with(|c: char| c.is_ascii_alphabetic())
                })?;
            arg.summary = Some(self.rest[..end].to_string());
            self.rest = &self.rest[end + 1..];
        }
        Some(arg)
    }

    fn name(&mut self) -> Option<String> {
        if !self.skip("<") {
            return None;
        }
        let name = self.until(|c| c == '>').to_string();
        self.skip(">").then_some(name)
    }

    fn core(&mut self) -> Option<Arg> {
        let arg = |name: String, kind| Arg {
            name,
            kind,
            token: None,
            key_spec: None,
            optional: false,
            multiple: false,
            multiple_token: false,
            display: None,
            since: None,
            deprecated_since: None,
            summary: None,
        };
        if self.skip("(") {
            let mut choices = vec![self.item()?];
            while self.skip(" | ") {
                choices.push(self.item()?);
            }
            let closed = self.skip(")");
            let name = self.name()?;
            return closed.then(|| arg(name, ArgKind::OneOf(choices)));
        }
        if self.skip("{") {
            let parts = self.sequence()?;
            let closed = self.skip("}");
            let name = self.name()?;
            return closed.then(|| arg(name, ArgKind::Block(parts)));
        }
        let word = match self.rest.strip_prefix('"').and_then(|r| r.find('"')) {
            Some(len) => {
                let (word, rest) = self.rest.split_at(len + 2);
                self.rest = rest;
                word
            }
            None => self.until(|c| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '*'))),
        };
        if word.is_empty() {
            return None;
        }
        if self.skip("=") {
            let inner = self.core()?;
            return Some(Arg {
                token: Some(word.to_string()),
                ..inner
            });
        }
        if !word.starts_with(|c: char| c.is_ascii_lowercase()) {
            let name = self.name().unwrap_or_else(|| word.to_ascii_lowercase());
            return Some(Arg {
                token: Some(word.to_string()),
                ..arg(name, ArgKind::Token)
            });
        }
        let mut kind = "string";
        if self.skip(":") {
            kind = match self.until(|c| !c.is_ascii_lowercase()) {
                "int" => "integer",
                "double" => "double",
                "key" => "key",
                "pattern" => "pattern",
                "time" => "unix-time",
                _ => return None,
            };
        }
        let mut found = arg(word.to_string(), ArgKind::Value(kind));
        found.key_spec = (kind == "key").then_some(0);
        if self.skip("#") {
            found.key_spec = Some(self.until(|c| !c.is_ascii_digit()).parse().ok()?);
        }
        if self.skip("~") {
            let shown =
                self.until(|c| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | ':')));
            found.display = Some(shown.to_string());
        }
        Some(found)
    }
}

fn text(out: &mut Vec<u8>, key: &str, value: &str) {
    write::bulk(out, key.as_bytes());
    write::bulk(out, value.as_bytes());
}

fn status_set<'a>(out: &mut Vec<u8>, proto: Proto, names: impl Iterator<Item = &'a str>) {
    let names: Vec<_> = names.collect();
    write::set(out, proto, names.len());
    names.iter().for_each(|name| write::simple(out, name));
}

/// The name in full: `container|subcommand` for a subcommand.
pub fn full_name(parent: Option<&CommandSpec>, spec: &CommandSpec) -> String {
    match parent {
        Some(parent) => format!("{}|{}", parent.name, spec.name),
        None => spec.name.to_string(),
    }
}

/// Writes a command as `COMMAND INFO` does.
pub fn write_info<F>(
    out: &mut Vec<u8>,
    proto: Proto,
    parent: Option<&CommandSpec>,
    command: &Command<F>,
) {
    let spec = &command.spec;
    begin_info(
        out,
        proto,
        &full_name(parent, spec),
        spec,
        command.subcommands.len(),
    );
    command
        .subcommands
        .iter()
        .for_each(|sub| write_info(out, proto, Some(spec), sub));
}

/// Writes a command as `COMMAND INFO` does, up to its subcommands: as many have to be written behind it.
pub fn begin_info(
    out: &mut Vec<u8>,
    proto: Proto,
    full_name: &str,
    spec: &CommandSpec,
    subcommands: usize,
) {
    /// Flags that are for ourselves.
    const HIDDEN: Flags = Flags::MAY_REPLICATE
        .and(Flags::SENTINEL)
        .and(Flags::ONLY_SENTINEL)
        .and(Flags::PROTECTED)
        .and(Flags::TOUCHES_ARBITRARY_KEYS)
        .and(Flags::INTERNAL)
        .and(Flags::ALL_DBS);
    write::array(out, 10);
    write::bulk(out, full_name.as_bytes());
    write::int(out, i64::from(spec.arity));
    let flags = if spec.movable_keys() {
        spec.flags.and(Flags::MOVABLE_KEYS)
    } else {
        spec.flags
    };
    let visible = Flags::ALL
        .iter()
        .filter(|(flag, _)| flags.has(*flag) && !HIDDEN.has(*flag));
    status_set(out, proto, visible.map(|(_, name)| *name));
    let (first, last, step) = spec.legacy_range();
    [first, last, step]
        .into_iter()
        .for_each(|n| write::int(out, n));
    let categories: Vec<_> = spec
        .acl_categories()
        .names()
        .map(|name| format!("@{name}"))
        .collect();
    status_set(out, proto, categories.iter().map(String::as_str));
    write::set(out, proto, spec.tips.len());
    spec.tips
        .iter()
        .for_each(|tip| write::bulk(out, tip.as_bytes()));
    write::set(out, proto, spec.keys.len());
    spec.keys
        .iter()
        .for_each(|keys| write_key_spec(out, proto, keys));
    write::array(out, subcommands);
}

fn write_key_spec(out: &mut Vec<u8>, proto: Proto, keys: &KeySpec) {
    let ints = |out: &mut Vec<u8>, kind: &str, fields: &[(&str, i16)]| {
        write::map(out, proto, 2);
        text(out, "type", kind);
        write::bulk(out, b"spec");
        write::map(out, proto, fields.len());
        for (name, value) in fields {
            write::bulk(out, name.as_bytes());
            write::int(out, i64::from(*value));
        }
    };
    write::map(out, proto, 3 + usize::from(!keys.notes.is_empty()));
    if !keys.notes.is_empty() {
        text(out, "notes", keys.notes);
    }
    write::bulk(out, b"flags");
    status_set(out, proto, keys.flags.names());
    write::bulk(out, b"begin_search");
    match keys.begin {
        Begin::Index(at) => ints(out, "index", &[("index", at)]),
        Begin::Keyword { word, from } => {
            write::map(out, proto, 2);
            text(out, "type", "keyword");
            write::bulk(out, b"spec");
            write::map(out, proto, 2);
            text(out, "keyword", word);
            write::bulk(out, b"startfrom");
            write::int(out, i64::from(from));
        }
        Begin::Unknown => ints(out, "unknown", &[]),
    }
    write::bulk(out, b"find_keys");
    match keys.find {
        Find::Range { last, step, limit } => {
            ints(
                out,
                "range",
                &[("lastkey", last), ("keystep", step), ("limit", limit)],
            );
        }
        Find::KeyNum { num, first, step } => {
            ints(
                out,
                "keynum",
                &[("keynumidx", num), ("firstkey", first), ("keystep", step)],
            );
        }
        Find::Unknown => ints(out, "unknown", &[]),
    }
}

/// Writes what `COMMAND DOCS` says of a command: its name, then a map.
pub fn write_docs<F>(
    out: &mut Vec<u8>,
    proto: Proto,
    parent: Option<&CommandSpec>,
    command: &Command<F>,
) {
    let spec = &command.spec;
    begin_docs(
        out,
        proto,
        &full_name(parent, spec),
        spec,
        command.subcommands.len(),
    );
    command
        .subcommands
        .iter()
        .for_each(|sub| write_docs(out, proto, Some(spec), sub));
}

/// Writes what `COMMAND DOCS` says of a command, up to its subcommands: as many have to be written behind it.
pub fn begin_docs(
    out: &mut Vec<u8>,
    proto: Proto,
    full_name: &str,
    spec: &CommandSpec,
    subcommands: usize,
) {
    write::bulk(out, full_name.as_bytes());
    let fields = [
        ("summary", spec.summary),
        ("since", spec.since),
        ("group", spec.group.name()),
        ("complexity", spec.complexity),
    ];
    let present = fields.iter().filter(|(_, value)| !value.is_empty());
    let args = arguments(spec.args).filter(|args| !args.is_empty());
    let doc_flags = [
        ("deprecated", spec.deprecated.is_some()),
        ("syscmd", spec.syscmd),
    ];
    let doc_flags: Vec<_> = doc_flags.iter().filter(|(_, set)| *set).collect();
    let further = [
        args.is_some(),
        subcommands > 0,
        !doc_flags.is_empty(),
        !spec.history.is_empty(),
    ];
    let further =
        further.iter().filter(|x| **x).count() + 2 * usize::from(spec.deprecated.is_some());
    write::map(out, proto, present.clone().count() + further);
    present.for_each(|(name, value)| text(out, name, value));
    if !doc_flags.is_empty() {
        write::bulk(out, b"doc_flags");
        status_set(out, proto, doc_flags.iter().map(|(name, _)| *name));
    }
    if let Some((since, by)) = spec.deprecated {
        text(out, "deprecated_since", since);
        text(out, "replaced_by", by);
    }
    if !spec.history.is_empty() {
        write::bulk(out, b"history");
        write::set(out, proto, spec.history.len());
        for (version, change) in spec.history {
            write::array(out, 2);
            text(out, version, change);
        }
    }
    if let Some(args) = &args {
        write::bulk(out, b"arguments");
        write_args(out, proto, args);
    }
    if subcommands > 0 {
        write::bulk(out, b"subcommands");
        write::map(out, proto, subcommands);
    }
}

fn write_args(out: &mut Vec<u8>, proto: Proto, args: &[Arg]) {
    write::array(out, args.len());
    for arg in args {
        let flags: Vec<_> = [
            ("optional", arg.optional),
            ("multiple", arg.multiple),
            ("multiple_token", arg.multiple_token),
        ]
        .into_iter()
        .filter_map(|(name, set)| set.then_some(name))
        .collect();
        let (kind, parts) = match &arg.kind {
            ArgKind::Value(kind) => (*kind, None),
            ArgKind::Token => ("pure-token", None),
            ArgKind::OneOf(parts) => ("oneof", Some(parts)),
            ArgKind::Block(parts) => ("block", Some(parts)),
        };
        let fields = [
            arg.key_spec.is_some(),
            arg.token.is_some(),
            arg.summary.is_some(),
            arg.since.is_some(),
            arg.deprecated_since.is_some(),
            !flags.is_empty(),
        ]
        .iter()
        .filter(|x| **x)
        .count();
        write::map(out, proto, 3 + fields);
        text(out, "name", &arg.name);
        text(out, "type", kind);
        if parts.is_none() {
            let shown = arg.display.as_ref().unwrap_or(&arg.name);
            text(out, "display_text", shown);
        }
        if let Some(index) = arg.key_spec {
            write::bulk(out, b"key_spec_index");
            write::int(out, index);
        }
        if let Some(token) = &arg.token {
            let bare = token.strip_prefix('"').and_then(|t| t.strip_suffix('"'));
            text(out, "token", bare.unwrap_or(token));
        }
        let more = [
            ("summary", &arg.summary),
            ("since", &arg.since),
            ("deprecated_since", &arg.deprecated_since),
        ];
        for (name, value) in more {
            if let Some(value) = value {
                text(out, name, value);
            }
        }
        if !flags.is_empty() {
            write::bulk(out, b"flags");
            status_set(out, proto, flags.into_iter());
        }
        if let Some(parts) = parts {
            write::bulk(out, b"arguments");
            write_args(out, proto, parts);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Engine;

    /// Writes an argument in the notation again.
    fn unparse(arg: &Arg) -> String {
        let list = |parts: &[Arg], by: &str| parts.iter().map(unparse).collect::<Vec<_>>().join(by);
        let mut s = match &arg.kind {
            ArgKind::Token => {
                let word = arg.token.clone().unwrap_or_default();
                if word.to_ascii_lowercase() == arg.name {
                    word
                } else {
                    format!("{word}<{}>", arg.name)
                }
            }
            ArgKind::OneOf(parts) => format!("({})<{}>", list(parts, " | "), arg.name),
            ArgKind::Block(parts) => format!("{{{}}}<{}>", list(parts, " "), arg.name),
            ArgKind::Value(kind) => {
                let kind = match *kind {
                    "string" => "",
                    "integer" => ":int",
                    "unix-time" => ":time",
                    "key" => ":key",
                    "double" => ":double",
                    _ => ":pattern",
                };
                let index = arg
                    .key_spec
                    .filter(|i| *i > 0 || kind != ":key")
                    .map(|i| format!("#{i}"))
                    .unwrap_or_default();
                let shown = arg.display.as_ref();
                let shown = shown.map(|d| format!("~{d}")).unwrap_or_default();
                format!("{}{kind}{index}{shown}", arg.name)
            }
        };
        if let (Some(token), false) = (&arg.token, arg.kind == ArgKind::Token) {
            s = format!("{token}={s}");
        }
        if arg.multiple {
            s += "...";
        }
        if arg.multiple_token {
            s += "+";
        }
        if let Some(since) = &arg.since {
            s += &format!("@{since}");
        }
        if let Some(since) = &arg.deprecated_since {
            s += &format!("!{since}");
        }
        if let Some(summary) = &arg.summary {
            s += &format!("'{summary}'");
        }
        if arg.optional { format!("[{s}]") } else { s }
    }

    #[test]
    fn every_row_is_whole() {
        fn check(command: &Command) {
            let spec = &command.spec;
            let args =
                arguments(spec.args).unwrap_or_else(|| panic!("{}: {}", spec.name, spec.args));
            assert_eq!(
                args.iter().map(unparse).collect::<Vec<_>>().join(" "),
                spec.args,
                "{}",
                spec.name
            );
            assert!(
                !spec.summary.is_empty() && !spec.since.is_empty() && spec.arity != 0,
                "{}",
                spec.name
            );
            assert!(
                spec.flags.has(Flags::WRITE) != spec.flags.has(Flags::READONLY)
                    || !spec.flags.has(Flags::WRITE)
            );
            assert_eq!(spec.name, spec.name.to_ascii_lowercase());
            command.subcommands.iter().for_each(check);
        }
        Engine::commands().iter().for_each(|c| check(c));
        assert!(Engine::commands().len() > 100);
        let mut names: Vec<_> = Engine::commands().iter().map(|c| c.spec.name).collect();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count, "a name twice");
    }

    fn keys(line: &str) -> Vec<usize> {
        let argv: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        let Some(command) = Engine::command(argv[0]) else {
            panic!("{line}")
        };
        let mut found = Vec::new();
        let result = command
            .resolve(&argv)
            .spec
            .each_key(&argv, &mut |i, _| found.push(i));
        assert_eq!(
            command.resolve(&argv).spec.first_key(&argv),
            found.first().copied(),
            "{line}"
        );
        if result.is_err() { vec![0] } else { found }
    }

    #[test]
    fn keys_are_found() {
        assert_eq!(keys("GET k"), [1]);
        assert_eq!(keys("mset a 1 b 2"), [1, 3]);
        assert_eq!(keys("DEL a b c"), [1, 2, 3]);
        assert_eq!(keys("RENAME a b"), [1, 2]);
        assert_eq!(keys("BLPOP a b 0"), [1, 2]);
        assert_eq!(keys("ZUNION 2 a b WEIGHTS 1 2"), [2, 3]);
        assert_eq!(keys("ZUNIONSTORE d 2 a b"), [1, 3, 4]);
        assert_eq!(keys("SINTERCARD 1 a"), [2]);
        assert_eq!(keys("OBJECT ENCODING k"), [2]);
        assert_eq!(keys("DBSIZE"), []);
    }

    #[test]
    fn older_clients_get_a_range() {
        let legacy = |name: &str| {
            Engine::command(name.as_bytes()).map(|c| (c.spec.legacy_range(), c.spec.movable_keys()))
        };
        assert_eq!(legacy("get"), Some(((1, 1, 1), false)));
        assert_eq!(legacy("mset"), Some(((1, -1, 2), false)));
        assert_eq!(legacy("del"), Some(((1, -1, 1), false)));
        assert_eq!(legacy("rename"), Some(((1, 2, 1), false)));
        assert_eq!(legacy("sdiffstore"), Some(((1, -1, 1), false)));
        assert_eq!(legacy("zunion"), Some(((0, 0, 0), true)));
        assert_eq!(legacy("zunionstore"), Some(((1, 1, 1), true)));
        assert_eq!(legacy("dbsize"), Some(((0, 0, 0), false)));
    }
}
