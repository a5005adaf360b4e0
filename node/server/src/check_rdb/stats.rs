//! How many keys of which type, and how large they are: `check-rdb --stats`.

use super::Format;
use holdfast_engine::ValueRef;
use holdfast_resp::number::format_double;
use std::collections::BTreeMap;
use std::io::{self, Write};

/// The types, as they are shown.
const TYPES: [&str; 7] = ["string", "list", "set", "zset", "hash", "module", "stream"];

/// Numbers of elements, and sizes of one, that percentiles know.
const COUNT_MAX: u64 = 1 << 18;
const SIZE_MAX: u64 = 1 << 21;
/// Up to here a [`Spread`] is exact, and then to so many parts.
const EXACT: u64 = 2048;

const FIELDS: [&str; 18] = [
    "type.name",
    "keys.total",
    "expire_keys.total",
    "already_expired.total",
    "keys.size",
    "keys.value_size",
    "elements.total",
    "elements.size",
    "elements.num.max",
    "elements.num.avg",
    "elements.num.p99",
    "elements.num.p90",
    "elements.num.p50",
    "elements.size.max",
    "elements.size.avg",
    "elements.size.p99",
    "elements.size.p90",
    "elements.size.p50",
];

/// Counts of values, to three significant digits.
#[derive(Default)]
struct Spread {
    counts: BTreeMap<u64, u64>,
    total: u64,
}

impl Spread {
    fn add(&mut self, value: u64, most: u64) {
        if value >= most {
            return;
        }
        let bits = (value / EXACT).checked_ilog2().map_or(0, |n| n + 1);
        *self.counts.entry(value | ((1 << bits) - 1)).or_default() += 1;
        self.total += 1;
    }

    fn percentile(&self, percent: f64) -> u64 {
        let wanted = ((percent / 100.0 * self.total as f64 + 0.5) as u64).max(1);
        let mut seen = 0;
        let mut at = 0;
        for (value, count) in &self.counts {
            at = *value;
            seen += count;
            if seen >= wanted {
                break;
            }
        }
        at
    }
}

#[derive(Default)]
struct OfType {
    keys: u64,
    expires: u64,
    expired: u64,
    key_bytes: u64,
    value_bytes: u64,
    elements: u64,
    elements_max: u64,
    element_bytes_max: u64,
    counts: Spread,
    sizes: Spread,
}

impl OfType {
    fn element(&mut self, bytes: usize) {
        let bytes = bytes as u64;
        self.value_bytes += bytes;
        self.element_bytes_max = self.element_bytes_max.max(bytes);
        self.sizes.add(bytes, SIZE_MAX);
    }

    fn value(&mut self, value: ValueRef<'_>) {
        if let ValueRef::Str(s) = value {
            self.element(s.len());
        } else if let ValueRef::List(l) = value {
            l.iter().for_each(|e| self.element(e.byte_len()));
        } else if let ValueRef::Set(s) = value {
            s.iter().for_each(|e| self.element(e.byte_len()));
        } else if let ValueRef::Zset(z) = value {
            z.iter()
                .for_each(|(e, score)| self.element(e.byte_len() + format_double(score).len()));
        } else if let ValueRef::Hash(h) = value {
            h.iter()
                .for_each(|(f, v, _)| self.element(f.byte_len() + v.byte_len()));
        }
        let elements = value.elements() as u64;
        self.elements += elements;
        self.elements_max = self.elements_max.max(elements);
        self.counts.add(elements, COUNT_MAX);
    }

    fn field(&self, field: &str, kind: &str) -> String {
        let ratio = |sum: u64, of: u64| match of {
            0 => "0.00".to_string(),
            n => format!("{:.2}", sum as f32 / n as f32),
        };
        let percent = |of: &Spread, p: f64| format!("{:.2}", of.percentile(p) as f32);
        match field {
            "type.name" => kind.to_string(),
            "keys.total" => self.keys.to_string(),
            "expire_keys.total" => self.expires.to_string(),
            "already_expired.total" => self.expired.to_string(),
            "keys.size" => self.key_bytes.to_string(),
            "keys.value_size" | "elements.size" => self.value_bytes.to_string(),
            "elements.total" => self.elements.to_string(),
            "elements.num.max" => self.elements_max.to_string(),
            "elements.num.avg" => ratio(self.elements, self.keys),
            "elements.num.p99" => percent(&self.counts, 99.0),
            "elements.num.p90" => percent(&self.counts, 90.0),
            "elements.num.p50" => percent(&self.counts, 50.0),
            "elements.size.max" => self.element_bytes_max.to_string(),
            "elements.size.avg" => ratio(self.value_bytes, self.elements),
            "elements.size.p99" => percent(&self.sizes, 99.0),
            "elements.size.p90" => percent(&self.sizes, 90.0),
            _ => percent(&self.sizes, 50.0),
        }
    }
}

/// Of each database and type.
#[derive(Default)]
pub(super) struct Stats {
    all: BTreeMap<(u32, usize), OfType>,
}

impl Stats {
    /// Counts a key. `lives`: whether its time is still to come, if it expires.
    pub fn add(&mut self, db: u32, key: &[u8], value: ValueRef<'_>, lives: Option<bool>) {
        let name = value.ty().name();
        let kind = TYPES.iter().position(|t| *t == name).unwrap_or(0);
        let of = self.all.entry((db, kind)).or_default();
        of.keys += 1;
        of.key_bytes += key.len() as u64;
        of.expires += u64::from(lives.is_some());
        of.expired += u64::from(lives == Some(false));
        of.value(value);
    }

    /// Prints them, for databases up to `last`.
    pub fn show(&self, format: Format, last: u32, out: &mut dyn Write) -> io::Result<()> {
        let none = OfType::default();
        for db in 0..=last {
            for field in FIELDS {
                match format {
                    Format::Table => write!(out, "{:<30}", format!("db.{db}.{field}"))?,
                    Format::Csv => write!(out, "db.{db}.{field}")?,
                    Format::Info if field == "type.name" => continue,
                    Format::Info => {}
                }
                for (n, kind) in TYPES.iter().enumerate() {
                    let of = self.all.get(&(db, n)).unwrap_or(&none);
                    let text = of.field(field, kind);
                    match format {
                        Format::Table => write!(out, "\t{text:<5}")?,
                        Format::Csv => write!(out, ",{text}")?,
                        Format::Info => {
                            writeln!(out, "[info] db.{db}.type.{kind}.{field}:{text}")?;
                        }
                    }
                }
                if format != Format::Info {
                    writeln!(out)?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_rounded_up_as_valkeys_are() {
        let mut s = Spread::default();
        assert_eq!(s.percentile(50.0), 0);
        s.add(3000, COUNT_MAX);
        assert_eq!(s.percentile(99.0), 3001);
        s.add(5, COUNT_MAX);
        s.add(COUNT_MAX, COUNT_MAX);
        assert_eq!((s.percentile(50.0), s.percentile(90.0)), (5, 3001));
    }
}
