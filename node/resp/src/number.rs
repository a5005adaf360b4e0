//! Numbers as the protocol writes them: exact integers, and doubles in the shortest form that reads back equal.

const PAIRS: &[u8; 200] = b"0001020304050607080910111213141516171819\
2021222324252627282930313233343536373839\
4041424344454647484950515253545556575859\
6061626364656667686970717273747576777879\
8081828384858687888990919293949596979899";

/// The decimal digits of an integer, without allocation.
#[derive(Clone, Copy)]
pub struct IntText {
    bytes: [u8; 20],
    start: u8,
}

impl IntText {
    /// The text.
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes
            .get(usize::from(self.start)..)
            .unwrap_or_default()
    }
}

impl AsRef<[u8]> for IntText {
    fn as_ref(&self) -> &[u8] {
        self.as_bytes()
    }
}

/// Formats an integer.
#[inline]
pub fn format_i64(value: i64) -> IntText {
    let mut bytes = [0u8; 20];
    let mut at = bytes.len();
    let mut rest = value.unsigned_abs();
    while rest >= 100 {
        let pair = (rest % 100) as usize * 2;
        rest /= 100;
        at -= 2;
        bytes[at] = PAIRS[pair];
        bytes[at + 1] = PAIRS[pair + 1];
    }
    if rest >= 10 {
        let pair = rest as usize * 2;
        at -= 2;
        bytes[at] = PAIRS[pair];
        bytes[at + 1] = PAIRS[pair + 1];
    } else {
        at -= 1;
        bytes[at] = b'0' + rest as u8;
    }
    if value < 0 {
        at -= 1;
        bytes[at] = b'-';
    }
    IntText {
        bytes,
        start: at as u8,
    }
}

/// Parses an integer in its one canonical form: no spaces, no plus sign, no leading zeros, no `-0`.
/// What this accepts prints back to the very same bytes, so a string may be kept as an integer.
#[inline]
pub fn parse_i64(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, text),
    };
    match digits {
        [b'0'] if !negative => return Some(0),
        [b'1'..=b'9', ..] if digits.len() <= 19 => {}
        _ => return None,
    }
    let mut value: u64 = 0;
    for &b in digits {
        let d = b.wrapping_sub(b'0');
        if d > 9 {
            return None;
        }
        // At most 19 digits: below 10^19, which fits.
        value = value * 10 + u64::from(d);
    }
    if negative {
        (value <= 1 << 63).then(|| (value as i64).wrapping_neg())
    } else {
        i64::try_from(value).ok()
    }
}

/// Formats a double as Valkey's `addReplyDouble` and score conversions do: integers plain, everything else in
/// the shortest digits that read back equal, in scientific notation where that is shorter.
pub fn format_double(value: f64) -> String {
    if value.is_nan() {
        return "nan".into();
    }
    if value.is_infinite() {
        return if value > 0.0 { "inf" } else { "-inf" }.into();
    }
    if value == 0.0 {
        return if value.is_sign_negative() { "-0" } else { "0" }.into();
    }
    if value.abs() <= (i64::MAX / 2) as f64 && value.trunc() == value {
        return (value as i64).to_string();
    }
    format_shortest(value)
}

/// Formats a double in the shortest digits that read back equal, integers too: as Valkey's `fpconv_dtoa`.
pub fn format_shortest(value: f64) -> String {
    if !value.is_finite() || value == 0.0 {
        return format_double(value);
    }
    // Rust prints the shortest digits that round-trip; only the layout differs.
    let scientific = format!("{:e}", value.abs());
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let digits: String = mantissa.chars().filter(|c| *c != '.').collect();
    let count = digits.len() as i32;
    let k = exponent - (count - 1);
    let mut out = String::with_capacity(24);
    if value < 0.0 {
        out.push('-');
    }
    let magnitude = exponent.abs();
    if k >= 0 && magnitude < count + 7 {
        out.push_str(&digits);
        out.extend(std::iter::repeat_n('0', k as usize));
    } else if k < 0 && (k > -7 || magnitude < 4) {
        let point = count + k;
        if point <= 0 {
            out.push_str("0.");
            out.extend(std::iter::repeat_n('0', (-point) as usize));
            out.push_str(&digits);
        } else {
            let (whole, fraction) = digits.split_at(point as usize);
            out.push_str(whole);
            out.push('.');
            out.push_str(fraction);
        }
    } else {
        let (first, rest) = digits.split_at(1);
        out.push_str(first);
        if !rest.is_empty() {
            out.push('.');
            out.push_str(rest);
        }
        out.push('e');
        out.push(if exponent < 0 { '-' } else { '+' });
        out.push_str(&magnitude.to_string());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_round_trip() {
        for v in [
            0,
            1,
            -1,
            9,
            10,
            99,
            100,
            101,
            12345,
            i64::MAX,
            i64::MIN,
            -10,
            1_000_000,
        ] {
            let text = format_i64(v);
            assert_eq!(text.as_bytes(), v.to_string().as_bytes());
            assert_eq!(parse_i64(text.as_bytes()), Some(v));
        }
    }

    #[test]
    fn only_canonical_integers_parse() {
        for bad in [
            "",
            "-",
            "-0",
            "00",
            "01",
            "+1",
            " 1",
            "1 ",
            "1a",
            "9223372036854775808",
            "-9223372036854775809",
        ] {
            assert_eq!(parse_i64(bad.as_bytes()), None, "{bad:?}");
        }
        assert_eq!(parse_i64(b"99999999999999999999"), None);
    }

    #[test]
    fn doubles_look_as_in_valkey() {
        for (v, text) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (-17.0, "-17"),
            (1.5, "1.5"),
            (0.1, "0.1"),
            (2.71825, "2.71825"),
            (1e20, "1e+20"),
            (1e21, "1e+21"),
            (1.7976931348623157e308, "1.7976931348623157e+308"),
            (5e-324, "5e-324"),
            (0.000001, "0.000001"),
            (0.0000001, "1e-7"),
            (0.00012345678, "1.2345678e-4"),
            (f64::INFINITY, "inf"),
            (f64::NEG_INFINITY, "-inf"),
            (f64::NAN, "nan"),
        ] {
            assert_eq!(format_double(v), text);
        }
    }
}
