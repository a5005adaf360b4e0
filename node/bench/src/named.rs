//! The commands that can be asked for by name, and what has to be there before they are.

/// A command that has a name.
#[derive(Clone, Copy, Debug)]
pub struct Named {
    /// As it is given on the command line.
    pub name: &'static str,
    /// `{p}` is the prefix of all keys.
    pub line: &'static str,
    /// The same where all keys of a command must be of one slot, if that is another.
    pub in_one_slot: Option<&'static str>,
    /// What makes what the command finds, for one key.
    pub prepare: Option<Preparation>,
    /// In a few words.
    pub about: &'static str,
}

/// Fills the keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preparation {
    /// Is run once for each number of a key.
    pub line: &'static str,
    /// There are so many fewer of them than keys.
    pub divisor: u64,
    /// How often `{n}` in the part of the line in brackets is repeated, counting from 0.
    pub repeat: u64,
}

const STRINGS: Option<Preparation> = Some(Preparation {
    line: "SET {p}__key__ __data__",
    divisor: 1,
    repeat: 0,
});
const MULTI: Option<Preparation> = Some(Preparation {
    line: "MSET [{p}{__key__}:{n} __data__]",
    divisor: 10,
    repeat: 10,
});
const HASHES: Option<Preparation> = Some(Preparation {
    line: "HSET {p}hash:__key__ [field:{n} __data__]",
    divisor: 10,
    repeat: 10,
});
const LISTS: Option<Preparation> = Some(Preparation {
    line: "RPUSH {p}list:__key__ [__data:12__]",
    divisor: 10,
    repeat: 100,
});
const ZSETS: Option<Preparation> = Some(Preparation {
    line: "ZADD {p}zset:__key__ [__rand:1000__ member:{n}]",
    divisor: 10,
    repeat: 200,
});
const SETS: Option<Preparation> = Some(Preparation {
    line: "SADD {p}set:__key__ [member:{n}]",
    divisor: 10,
    repeat: 100,
});

const fn row(
    name: &'static str,
    line: &'static str,
    prepare: Option<Preparation>,
    about: &'static str,
) -> Named {
    Named {
        name,
        line,
        in_one_slot: None,
        prepare,
        about,
    }
}

/// All of them.
pub const NAMED: &[Named] = &[
    row("get", "GET {p}__key__", STRINGS, "a string"),
    row(
        "set",
        "SET {p}__key__ __data__",
        STRINGS,
        "a string, with EX if --ttl is given",
    ),
    row("incr", "INCR {p}count:__key__", None, "a counter"),
    row(
        "mset",
        "MSET {p}__key__ __data__ {p}__key__ __data__ {p}__key__ __data__ {p}__key__ __data__ {p}__key__ __data__ {p}__key__ __data__ {p}__key__ __data__ {p}__key__ __data__ {p}__key__ __data__ {p}__key__ __data__",
        STRINGS,
        "10 strings",
    )
    .one_slot("MSET {p}{__key/10__}:0 __data__ {p}{__again__}:1 __data__ {p}{__again__}:2 __data__ {p}{__again__}:3 __data__ {p}{__again__}:4 __data__ {p}{__again__}:5 __data__ {p}{__again__}:6 __data__ {p}{__again__}:7 __data__ {p}{__again__}:8 __data__ {p}{__again__}:9 __data__"),
    row(
        "mget",
        "MGET {p}__key__ {p}__key__ {p}__key__ {p}__key__ {p}__key__ {p}__key__ {p}__key__ {p}__key__ {p}__key__ {p}__key__",
        STRINGS,
        "10 strings",
    )
    .one_slot("MGET {p}{__key/10__}:0 {p}{__again__}:1 {p}{__again__}:2 {p}{__again__}:3 {p}{__again__}:4 {p}{__again__}:5 {p}{__again__}:6 {p}{__again__}:7 {p}{__again__}:8 {p}{__again__}:9"),
    row(
        "hset",
        "HSET {p}hash:__key/10__ field:__rand:10__ __data__",
        HASHES,
        "one of 10 fields",
    ),
    row(
        "hget",
        "HGET {p}hash:__key/10__ field:__rand:10__",
        HASHES,
        "one of 10 fields",
    ),
    row("hgetall", "HGETALL {p}hash:__key/10__", HASHES, "10 fields"),
    row(
        "lpush",
        "LPUSH {p}list:__key/10__ __data:12__",
        LISTS,
        "one element, on lists of 100 and more",
    ),
    row(
        "lrange",
        "LRANGE {p}list:__key/10__ 0 99",
        LISTS,
        "100 elements",
    ),
    row(
        "sadd",
        "SADD {p}set:__key/10__ member:__rand:500__",
        SETS,
        "one of 500 members",
    ),
    row(
        "zadd",
        "ZADD {p}zset:__key/10__ __rand:1000__ member:__rand:200__",
        ZSETS,
        "one of 200 members",
    ),
    row(
        "zrange",
        "ZRANGE {p}zset:__key/10__ 50 59",
        ZSETS,
        "10 of 200 members by rank",
    ),
    row(
        "zrangebyscore",
        "ZRANGEBYSCORE {p}zset:__key/10__ __rand:900__ +inf LIMIT 0 10",
        ZSETS,
        "10 of 200 members by score",
    ),
    row(
        "xadd",
        "XADD {p}stream:__key/100__ * sensor temperature value 21.5",
        None,
        "an entry of two fields",
    ),
    row("scan", "SCAN __rand:65536__", STRINGS, "10 keys from anywhere"),
    row("expire", "EXPIRE {p}__key__ __ttl__", STRINGS, "a string"),
    row("ping", "PING", None, "no key at all"),
];

impl Named {
    const fn one_slot(mut self, line: &'static str) -> Named {
        self.in_one_slot = Some(line);
        self
    }

    /// The one with this name, in upper or lower case.
    pub fn find(name: &str) -> Option<&'static Named> {
        NAMED.iter().find(|n| n.name.eq_ignore_ascii_case(name))
    }

    /// The line with the prefix put in, for a cluster or one node.
    pub fn line(&self, prefix: &str, cluster: bool) -> String {
        let line = match self.in_one_slot {
            Some(line) if cluster => line,
            _ => self.line,
        };
        line.replace("{p}", prefix)
    }

    /// What fills its keys, for a cluster or one node.
    pub fn preparation(&self, cluster: bool) -> Option<Preparation> {
        match self.in_one_slot {
            Some(_) if cluster => MULTI,
            _ => self.prepare,
        }
    }
}

impl Preparation {
    /// The line with the prefix put in and the repetition written out.
    pub fn line(&self, prefix: &str) -> String {
        let mut out = String::new();
        match self.line.split_once('[') {
            None => out.push_str(self.line),
            Some((before, repeated)) => {
                out.push_str(before);
                let repeated = repeated.trim_end_matches(']');
                for n in 0..self.repeat {
                    let one = repeated.replace("{n}", &n.to_string());
                    // A number is drawn for the first only.
                    let one = match n {
                        0 => one,
                        _ => one.replace("__key__", "__again__"),
                    };
                    out.push_str(&one);
                    out.push(' ');
                }
            }
        }
        out.trim_end().replace("{p}", prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_and_lines_have_the_prefix() {
        let get = Named::find("GET").expect("get");
        assert_eq!(get.line("a:", false), "GET a:__key__");
        assert!(Named::find("getx").is_none());
        for named in NAMED {
            for cluster in [false, true] {
                let line = named.line("key:", cluster);
                assert!(!line.contains("{p}"), "{line}");
                let first = line.split(' ').next().unwrap_or_default();
                assert_eq!(first.to_lowercase(), named.name);
            }
        }
    }

    #[test]
    fn preparations_are_written_out() {
        let line = |name: &str, cluster| {
            let named = Named::find(name).expect("a name");
            named
                .preparation(cluster)
                .expect("a preparation")
                .line("k:")
        };
        assert_eq!(line("get", true), "SET k:__key__ __data__");
        assert!(line("hget", false).starts_with("HSET k:hash:__key__ field:0 __data__ field:1 "));
        assert!(line("hget", false).ends_with(" field:9 __data__"));
        let multi = line("mset", true);
        assert!(
            multi.starts_with("MSET k:{__key__}:0 __data__ k:{__again__}:1 "),
            "{multi}"
        );
        assert_eq!(line("lrange", false).split(' ').count(), 102);
    }
}
