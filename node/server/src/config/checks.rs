//! What a directive's kind does not say: which strings are refused nevertheless.

use super::title::expand;
use std::net::{Ipv4Addr, Ipv6Addr};

const HOST_BYTES_MAX: usize = 256;
const IP_BYTES_MAX: usize = 46;
const HASH_SEED_BYTES_MAX: usize = 256;
const OOM_SCORES: usize = 3;

/// Judges a value in its canonical form.
///
/// # Errors
/// What is wrong with it, as Valkey says it.
pub(super) fn check(name: &str, value: &str) -> Result<(), String> {
    match name {
        "cluster-config-file" => named(name, value),
        "dbfilename" | "appendfilename" => {
            named(name, value).and_then(|()| local(name, value, "filename"))
        }
        "appenddirname" => named(name, value).and_then(|()| local(name, value, "dirname")),
        "cluster-announce-hostname" => hostname(value),
        "cluster-announce-human-nodename" => plain(
            value,
            "Announced human node name contained invalid character",
        ),
        "cluster-announce-ip" if value.len() >= IP_BYTES_MAX => {
            Err("cluster-announce-ip is too long".into())
        }
        "cluster-announce-ip" => plain(value, "cluster-announce-ip contains invalid character"),
        "cluster-announce-client-ipv4" => require(
            value.is_empty() || value.parse::<Ipv4Addr>().is_ok(),
            "Invalid IPv4 address",
        ),
        "cluster-announce-client-ipv6" => require(
            value.is_empty() || value.parse::<Ipv6Addr>().is_ok(),
            "Invalid IPv6 address",
        ),
        "hash-seed" => require(
            value.len() <= HASH_SEED_BYTES_MAX,
            "hash-seed must be less than or equal to 256 characters",
        ),
        "oom-score-adj-values" => oom_scores(value),
        "proc-title-template" => require(
            is_title_template(value),
            "template format is invalid or contains unknown variables",
        ),
        "shutdown-on-sigint" | "shutdown-on-sigterm" => {
            let has = |word| value.split(' ').any(|w| w == word);
            require(
                !(has("save") && has("nosave")),
                "shutdown options SAVE and NOSAVE can't be used simultaneously",
            )
        }
        _ => Ok(()),
    }
}

fn require(holds: bool, otherwise: &str) -> Result<(), String> {
    holds.then_some(()).ok_or_else(|| otherwise.to_string())
}

fn named(name: &str, value: &str) -> Result<(), String> {
    require(!value.is_empty(), &format!("{name} can't be empty"))
}

fn local(name: &str, value: &str, what: &str) -> Result<(), String> {
    require(
        !value.contains(['/', '\\']),
        &format!("{name} can't be a path, just a {what}"),
    )
}

fn hostname(value: &str) -> Result<(), String> {
    require(
        value.len() < HOST_BYTES_MAX,
        "Hostnames must be less than 256 characters",
    )?;
    require(
        value
            .bytes()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'.')),
        "Hostnames may only contain alphanumeric characters, hyphens or dots",
    )
}

/// Whether nothing in a value has a meaning of its own in `nodes.conf`.
pub fn is_plain(value: &str) -> bool {
    let refused = |c: u8| c <= b',' || c == 0x7f || b";<=>?@[]^{|}~\\".contains(&c);
    !value.bytes().any(refused)
}

fn plain(value: &str, otherwise: &str) -> Result<(), String> {
    require(is_plain(value), otherwise)
}

fn oom_scores(value: &str) -> Result<(), String> {
    let words: Vec<&str> = value.split(' ').collect();
    require(words.len() == OOM_SCORES, "wrong number of arguments")?;
    require(
        words
            .iter()
            .all(|w| w.parse::<i64>().is_ok_and(|n| (-2000..=2000).contains(&n))),
        "Invalid oom-score-adj-values, elements must be between -2000 and 2000.",
    )
}

/// Whether a title comes of it: known variables, and something. Valkey tries it with an empty title.
fn is_title_template(template: &str) -> bool {
    let value = |variable: &str| match variable {
        // What these stand for may be empty.
        "title" | "server-mode" | "unixsocket" => Some(String::new()),
        "listen-addr" | "port" | "tls-port" | "config-file" => Some(variable.to_string()),
        _ => None,
    };
    expand(template, value).is_some_and(|title| !title.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_refused_as_valkey_refuses_them() {
        for (name, value, good) in [
            ("cluster-announce-hostname", "a-b.c", true),
            ("cluster-announce-hostname", "a b", false),
            ("cluster-announce-hostname", "", true),
            ("cluster-announce-human-nodename", "a!", false),
            ("cluster-announce-human-nodename", "node-1", true),
            ("cluster-announce-ip", "1.2.3.4", true),
            ("cluster-announce-ip", "fe80::1", true),
            ("cluster-announce-ip", "1.2.3.4 myself", false),
            ("cluster-announce-client-ipv4", "1.2.3.4", true),
            ("cluster-announce-client-ipv4", "::1", false),
            ("cluster-announce-client-ipv6", "::1", true),
            ("dbfilename", "", false),
            ("dbfilename", "a/b", false),
            ("appendonly", "", true),
            ("oom-score-adj-values", "0 200 800", true),
            ("oom-score-adj-values", "0 200", false),
            ("oom-score-adj-values", "0 200 2001", false),
            ("shutdown-on-sigint", "nosave now", true),
            ("shutdown-on-sigint", "save nosave", false),
        ] {
            assert_eq!(check(name, value).is_ok(), good, "{name} {value:?}");
        }
        let long = "a".repeat(HOST_BYTES_MAX);
        assert!(check("cluster-announce-hostname", &long).is_err());
    }

    #[test]
    fn a_title_has_known_variables_and_is_not_empty() {
        for (template, good) in [
            ("{title} {listen-addr} {server-mode}", true),
            ("TEST", true),
            ("{{", true),
            ("{title}", false),
            ("", false),
            ("  ", false),
            ("{nothing}", false),
            ("a {title", false),
            ("a {", false),
        ] {
            assert_eq!(is_title_template(template), good, "{template:?}");
        }
    }
}
