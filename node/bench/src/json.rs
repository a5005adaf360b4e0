//! JSON, written: all that a report needs of it.

use std::fmt::Write;

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub enum Json {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A whole number.
    Int(u64),
    /// Any other; `null` if it is none.
    Number(f64),
    /// Text.
    Text(String),
    /// A list.
    List(Vec<Json>),
    /// An object, in this order.
    Object(Vec<(String, Json)>),
}

/// An object of pairs of name and value.
pub fn object<const N: usize>(pairs: [(&str, Json); N]) -> Json {
    Json::Object(pairs.map(|(n, v)| (n.to_owned(), v)).into())
}

impl From<u64> for Json {
    fn from(value: u64) -> Json {
        Json::Int(value)
    }
}

impl From<f64> for Json {
    fn from(value: f64) -> Json {
        Json::Number(value)
    }
}

impl From<&str> for Json {
    fn from(value: &str) -> Json {
        Json::Text(value.to_owned())
    }
}

impl<T: Into<Json>> From<Option<T>> for Json {
    fn from(value: Option<T>) -> Json {
        value.map_or(Json::Null, Into::into)
    }
}

impl Json {
    /// As text, two blanks deeper each level; lists of simple values stay on a line.
    pub fn to_text(&self) -> String {
        let mut out = String::new();
        self.write(&mut out, 0);
        out.push('\n');
        out
    }

    fn is_simple(&self) -> bool {
        match self {
            Json::List(all) => all.is_empty(),
            Json::Object(all) => {
                all.len() <= 6
                    && all
                        .iter()
                        .all(|(_, v)| !matches!(v, Json::List(_) | Json::Object(_)))
            }
            _ => true,
        }
    }

    fn write(&self, out: &mut String, depth: usize) {
        match self {
            Json::Null => out.push_str("null"),
            Json::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            Json::Int(value) => {
                let _ = write!(out, "{value}");
            }
            Json::Number(value) if value.is_finite() => {
                let rounded = (value * 1e6).round() / 1e6;
                let _ = write!(out, "{rounded}");
            }
            Json::Number(_) => out.push_str("null"),
            Json::Text(text) => string(text, out),
            Json::List(all) => {
                let items = all.iter().map(|v| (None, v));
                enclosed(['[', ']'], self.is_simple(), items, out, depth);
            }
            Json::Object(all) => {
                let items = all.iter().map(|(n, v)| (Some(n.as_str()), v));
                enclosed(['{', '}'], self.is_simple(), items, out, depth);
            }
        }
    }
}

fn enclosed<'a>(
    [open, close]: [char; 2],
    one_line: bool,
    items: impl Iterator<Item = (Option<&'a str>, &'a Json)>,
    out: &mut String,
    depth: usize,
) {
    let line = |out: &mut String, depth: usize| {
        out.push('\n');
        out.extend(std::iter::repeat_n("  ", depth));
    };
    out.push(open);
    let mut any = false;
    for (name, value) in items {
        if any {
            out.push(',');
        }
        match one_line {
            true if any => out.push(' '),
            true => {}
            false => line(out, depth + 1),
        }
        any = true;
        if let Some(name) = name {
            string(name, out);
            out.push_str(": ");
        }
        value.write(out, depth + 1);
    }
    if any && !one_line {
        line(out, depth);
    }
    out.push(close);
}

fn string(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if u32::from(c) < 0x20 => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text() {
        let value = object([
            ("a \"b\"\n", Json::from(1_u64)),
            ("list", Json::List(vec![Json::from(0.5), Json::Null])),
            ("empty", Json::List(vec![])),
            (
                "inner",
                object([("x", Json::from(f64::NAN)), ("y", Json::from("é\\"))]),
            ),
        ]);
        let expected = "{\n  \"a \\\"b\\\"\\u000a\": 1,\n  \"list\": [\n    0.5,\n    null\n  ],\n  \"empty\": [],\n  \"inner\": {\"x\": null, \"y\": \"é\\\\\"}\n}\n";
        assert_eq!(value.to_text(), expected);
    }
}
