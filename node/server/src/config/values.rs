//! What a directive's words mean: checking them and bringing them into one canonical form.

use super::table::{Directive, Kind};
use holdfast_engine::EventClass;
use std::fmt;

/// Splits a line into words as Valkey does: blanks separate, double quotes allow `\n`, `\r`, `\t`,
/// `\b`, `\a` and `\xHH`, single quotes allow `\'` only; quoted
/// and unquoted parts may follow each other within a word. `None` means unbalanced quotes.
pub fn split_args(line: &str) -> Option<Vec<String>> {
    let raw = split_bytes(line.as_bytes())?;
    Some(
        raw.into_iter()
            .map(|w| String::from_utf8_lossy(&w).into_owned())
            .collect(),
    )
}

/// [`split_args`] for bytes that need not be text.
pub fn split_bytes(b: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut out = Vec::new();
    let mut i = 0;
    loop {
        while i < b.len() && is_space(b[i]) {
            i += 1;
        }
        if i >= b.len() {
            return Some(out);
        }
        let mut word = Vec::new();
        loop {
            match b.get(i) {
                None => break,
                Some(c) if is_space(*c) => break,
                Some(b'"') => i = double_quoted(b, i + 1, &mut word)?,
                Some(b'\'') => i = single_quoted(b, i + 1, &mut word)?,
                Some(c) => {
                    word.push(*c);
                    i += 1;
                }
            }
        }
        out.push(word);
    }
}

fn is_space(c: u8) -> bool {
    matches!(c, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c | 0)
}

fn double_quoted(b: &[u8], mut i: usize, word: &mut Vec<u8>) -> Option<usize> {
    loop {
        match (b.get(i)?, b.get(i + 1)) {
            (b'\\', Some(b'x')) if hex(b.get(i + 2)).is_some() && hex(b.get(i + 3)).is_some() => {
                word.push(hex(b.get(i + 2))? * 16 + hex(b.get(i + 3))?);
                i += 4;
            }
            (b'\\', Some(c)) => {
                word.push(match c {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 8,
                    b'a' => 7,
                    other => *other,
                });
                i += 2;
            }
            (b'"', _) => return Some(i + 1),
            (c, _) => {
                word.push(*c);
                i += 1;
            }
        }
    }
}

fn single_quoted(b: &[u8], mut i: usize, word: &mut Vec<u8>) -> Option<usize> {
    loop {
        match (b.get(i)?, b.get(i + 1)) {
            (b'\\', Some(b'\'')) => {
                word.push(b'\'');
                i += 2;
            }
            (b'\'', _) => return Some(i + 1),
            (c, _) => {
                word.push(*c);
                i += 1;
            }
        }
    }
}

fn hex(c: Option<&u8>) -> Option<u8> {
    (*c? as char).to_digit(16).map(|d| d as u8)
}

/// A string in the form in which [`split_args`] reads it back.
pub fn quote(s: &str) -> String {
    let mut out = String::with_capacity(s.len() + 2);
    out.push('"');
    for &c in s.as_bytes() {
        match c {
            b'"' | b'\\' => {
                out.push('\\');
                out.push(c as char);
            }
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            0x20..=0x7e => out.push(c as char),
            _ => out.push_str(&format!("\\x{c:02x}")),
        }
    }
    out.push('"');
    out
}

/// Bytes meant by `512`, `1k` (1000), `1kb` (1024), … `1gb`; without digits, none, as in Valkey. `None` if it is none of these or
/// too large.
pub fn parse_memory(s: &str) -> Option<u64> {
    let digits = s.len() - s.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (n, unit) = s.split_at(digits);
    let mul: u64 = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" => 1000,
        "kb" => 1 << 10,
        "m" => 1_000_000,
        "mb" => 1 << 20,
        "g" => 1_000_000_000,
        "gb" => 1 << 30,
        _ => return None,
    };
    match n {
        "" => Some(0),
        n => n.parse::<u64>().ok()?.checked_mul(mul),
    }
}

fn parse_int(s: &str) -> Option<i64> {
    let canonical =
        !s.starts_with('+') && (s == "0" || !s.trim_start_matches('-').starts_with('0'));
    if canonical { s.parse().ok() } else { None }
}

fn in_range<T: PartialOrd + fmt::Display>(v: T, min: T, max: T) -> Result<T, String> {
    if v < min || v > max {
        Err(format!(
            "argument must be between {min} and {max} inclusive"
        ))
    } else {
        Ok(v)
    }
}

fn one_of(names: &[&str], word: &str) -> Result<String, String> {
    names
        .iter()
        .find(|n| n.eq_ignore_ascii_case(word))
        .map(|n| n.to_string())
        .ok_or_else(|| {
            format!(
                "argument(s) must be one of the following: {}",
                names.join(", ")
            )
        })
}

/// What is above is taken for this.
const HZ_MAX: i64 = 500;

/// The classes of `client-output-buffer-limit`, in the order in which they are shown.
pub const OUTPUT_CLASSES: [&str; 3] = ["normal", "slave", "pubsub"];

/// Brings the words given for a directive into the form in which it is kept; `old` is its value so far
/// (an output buffer limit of one class leaves the others as they are).
///
/// # Errors
/// What is wrong with the words, as Valkey says it.
pub fn canonical(d: &Directive, words: &[&str], old: &str) -> Result<String, String> {
    let value = by_kind(d, words, old)?;
    super::checks::check(d.name, &value)?;
    Ok(value)
}

fn by_kind(d: &Directive, words: &[&str], old: &str) -> Result<String, String> {
    let single = || -> Result<&str, String> {
        match words {
            [one] => Ok(one),
            _ => Err("wrong number of arguments".into()),
        }
    };
    match d.kind {
        Kind::Bool => match single()?.to_ascii_lowercase().as_str() {
            "yes" => Ok("yes".into()),
            "no" => Ok("no".into()),
            _ => Err("argument must be 'yes' or 'no'".into()),
        },
        Kind::Str => Ok(single()?.to_string()),
        Kind::Enum(names) => one_of(names, single()?),
        Kind::Flags(names) => {
            let mut out = Vec::new();
            for w in words {
                let w = one_of(names, w)?;
                if !out.contains(&w) {
                    out.push(w);
                }
            }
            if out.is_empty() {
                return one_of(names, "");
            }
            out.sort_by_key(|w| names.iter().position(|n| n == w));
            Ok(out.join(" "))
        }
        Kind::Int { min, max } => {
            let v = parse_int(single()?)
                .ok_or_else(|| "argument couldn't be parsed into an integer".to_string())?;
            let v = in_range(v, min, max)?;
            Ok(match d.name {
                "hz" => v.clamp(1, HZ_MAX),
                _ => v,
            }
            .to_string())
        }
        Kind::Octal { max } => {
            let v = i64::from_str_radix(single()?, 8)
                .map_err(|_| "argument couldn't be parsed as an octal number".to_string())?;
            if v < 0 || v > max {
                return Err(format!("argument must be between 0 and {max:o} inclusive"));
            }
            Ok(format!("{v:o}"))
        }
        Kind::Memory { min, max } => {
            let w = single()?;
            let v = if min < 0 && w.starts_with('-') {
                parse_int(w).map(i128::from)
            } else {
                parse_memory(w).map(i128::from)
            };
            let v = v.ok_or_else(|| "argument must be a memory value".to_string())?;
            Ok(in_range(v, min.into(), max.into())?.to_string())
        }
        Kind::MemoryOrPercent => {
            let w = single()?;
            let neither = || "argument must be a memory or percent value".to_string();
            let too_much = || "percentage argument must be less or equal to 100".to_string();
            if let Some(p) = w.strip_suffix('%') {
                let p = parse_int(p).filter(|p| *p >= 0).ok_or_else(neither)?;
                return if p > 100 {
                    Err(too_much())
                } else {
                    Ok(format!("{p}%"))
                };
            }
            // Valkey takes what does not fit into its signed number for a percentage.
            let v = i64::try_from(parse_memory(w).ok_or_else(neither)?).map_err(|_| too_much())?;
            Ok(v.to_string())
        }
        Kind::Words if d.name == "replicaof" && words != [""] => match words {
            [no, one] if no.eq_ignore_ascii_case("no") && one.eq_ignore_ascii_case("one") => {
                Ok(String::new())
            }
            [_, port] if port.parse::<u16>().is_err() => Err("Invalid primary port".into()),
            [_, _] => Ok(words.join(" ")),
            _ => Err("wrong number of arguments".into()),
        },
        Kind::Words => {
            if d.name == "bind" && words.len() > 16 {
                return Err("Too many bind addresses specified.".into());
            }
            if words.len() == 1 && words[0].is_empty() {
                return Ok(String::new());
            }
            Ok(words.join(" "))
        }
        Kind::Save => save(words),
        Kind::Percentiles => percentiles(words),
        Kind::OutputLimits => output_limits(words, old),
        Kind::EventClasses => EventClass::parse(single()?)
            .map(|classes| classes.spelled_out())
            .ok_or_else(|| "Invalid event class character. Use 'Ag$lshzxeKEtmdn'.".into()),
    }
}

fn percentiles(words: &[&str]) -> Result<String, String> {
    if matches!(words, [] | [""]) {
        return Ok(String::new());
    }
    let mut out = Vec::new();
    for word in words {
        let percent: f64 = word
            .parse()
            .map_err(|_| "Invalid latency-tracking-info-percentiles parameters")?;
        if !(0.0..=100.0).contains(&percent) {
            return Err(
                "latency-tracking-info-percentiles parameters should sit between [0.0,100.0]"
                    .into(),
            );
        }
        let text = format!("{percent:.6}");
        out.push(text.trim_end_matches('0').trim_end_matches('.').to_string());
    }
    Ok(out.join(" "))
}

fn save(words: &[&str]) -> Result<String, String> {
    if matches!(words, [] | [""]) {
        return Ok(String::new());
    }
    if !words.len().is_multiple_of(2) {
        return Err("Invalid save parameters".into());
    }
    for pair in words.chunks_exact(2) {
        let ok = pair[0].parse::<i64>().is_ok_and(|s| s >= 1)
            && pair[1].parse::<i64>().is_ok_and(|c| c >= 0);
        if !ok {
            return Err("Invalid save parameters".into());
        }
    }
    Ok(words.join(" "))
}

fn output_limits(words: &[&str], old: &str) -> Result<String, String> {
    if words.is_empty() || !words.len().is_multiple_of(4) {
        return Err("Wrong number of arguments in buffer limit configuration.".into());
    }
    let mut limits: Vec<[String; 3]> = vec![Default::default(); 3];
    for (i, quad) in old
        .split(' ')
        .collect::<Vec<_>>()
        .chunks_exact(4)
        .enumerate()
        .take(3)
    {
        limits[i] = [quad[1].into(), quad[2].into(), quad[3].into()];
    }
    for quad in words.chunks_exact(4) {
        let class = match quad[0].to_ascii_lowercase().as_str() {
            "normal" => 0,
            "slave" | "replica" => 1,
            "pubsub" => 2,
            _ => {
                return Err("Invalid client class specified in buffer limit configuration.".into());
            }
        };
        let seconds = quad[3].parse::<i64>().ok().filter(|s| *s >= 0);
        match (parse_memory(quad[1]), parse_memory(quad[2]), seconds) {
            (Some(h), Some(s), Some(t)) => {
                limits[class] = [h.to_string(), s.to_string(), t.to_string()];
            }
            _ => {
                return Err(
                    "Error in hard, soft or soft_seconds setting in buffer limit configuration."
                        .into(),
                );
            }
        }
    }
    let shown: Vec<String> = OUTPUT_CLASSES
        .iter()
        .zip(&limits)
        .map(|(c, l)| format!("{c} {} {} {}", l[0], l[1], l[2]))
        .collect();
    Ok(shown.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_split_as_valkey_splits_them() {
        let check = |line: &str, expect: Option<&[&str]>| {
            let got = split_args(line);
            assert_eq!(
                got.as_deref()
                    .map(|v| v.iter().map(|s| s.as_str()).collect::<Vec<_>>()),
                expect.map(|e| e.to_vec()),
                "{line}"
            );
        };
        check("a  b\tc", Some(&["a", "b", "c"]));
        check(r#"save """#, Some(&["save", ""]));
        check(r#"a "x y\n\x41" 'it\'s'"#, Some(&["a", "x y\nA", "it's"]));
        check(r#"a "open"#, None);
        check(r#"a "x"y"#, Some(&["a", "xy"]));
        check("", Some(&[]));
    }

    #[test]
    fn quoting_is_undone_by_splitting() {
        let s = "a b\"\\\n\x01ü";
        assert_eq!(split_args(&quote(s)).unwrap(), vec![s.to_string()]);
    }

    #[test]
    fn memory_units() {
        assert_eq!(parse_memory("1k"), Some(1000));
        assert_eq!(parse_memory("1KB"), Some(1024));
        assert_eq!(parse_memory("2gb"), Some(2 << 30));
        assert_eq!(parse_memory("99999999999gb"), None);
        assert_eq!(parse_memory("1x"), None);
        assert_eq!(parse_memory(""), Some(0));
        assert_eq!(parse_memory("18446744073709551615"), Some(u64::MAX));
        assert_eq!(parse_memory("18446744073709551616"), None);
        assert_eq!(parse_memory("-1"), None);
    }
}
