//! Adding decimal numbers as `INCRBYFLOAT` and `HINCRBYFLOAT` do.
//!
//! Valkey computes in x87 `long double` and prints up to 17 digits behind the point. Decimal arithmetic gives the
//! same text wherever the sum has no more digits than that type holds (0.1 + 0.2 is 0.3), and does so on every machine.
//! What is too large or too fine for it is added as `f64`.

use crate::number::parse_f64;

/// Why a sum was not made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DecimalError {
    /// The first number is none.
    BadValue,
    /// The increment is none.
    BadIncrement,
    /// The increment is infinite.
    InfiniteIncrement,
    /// The sum is infinite or not a number.
    InfiniteSum,
}

/// Digits behind the point that are printed.
const DIGITS: u32 = 17;

/// A number as `mantissa / 10^scale`.
struct Decimal {
    mantissa: i128,
    scale: u32,
}

fn parse(text: &[u8]) -> Option<Decimal> {
    let (negative, mut rest) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    };
    let (mut mantissa, mut scale, mut point) = (0i128, 0i32, false);
    let mut exponent = 0i32;
    while let [c, tail @ ..] = rest {
        match c {
            b'0'..=b'9' => {
                mantissa = mantissa
                    .checked_mul(10)?
                    .checked_add(i128::from(c - b'0'))?;
                if mantissa >= 10i128.pow(36) {
                    return None;
                }
                scale += i32::from(point);
            }
            b'.' if !point => point = true,
            b'e' | b'E' => {
                exponent = std::str::from_utf8(tail).ok()?.parse().ok()?;
                break;
            }
            _ => return None,
        }
        rest = tail;
    }
    let scale = scale.checked_sub(exponent)?;
    if scale < 0 {
        mantissa = mantissa.checked_mul(10i128.checked_pow(scale.unsigned_abs())?)?;
    }
    Some(Decimal {
        mantissa: if negative { -mantissa } else { mantissa },
        scale: u32::try_from(scale).unwrap_or(0),
    })
}

fn add_exactly(a: &[u8], b: &[u8]) -> Option<String> {
    let (a, b) = (parse(a)?, parse(b)?);
    let mut scale = a.scale.max(b.scale);
    let widen = |d: &Decimal| d.mantissa.checked_mul(10i128.checked_pow(scale - d.scale)?);
    let mut sum = widen(&a)?.checked_add(widen(&b)?)?;
    if scale > DIGITS {
        let unit = 10i128.checked_pow(scale - DIGITS)?;
        let half = unit / 2 * sum.signum();
        sum = sum.checked_add(half)? / unit;
        scale = DIGITS;
    }
    let digits = format!(
        "{:0>width$}",
        sum.unsigned_abs(),
        width = scale as usize + 1
    );
    let (whole, fraction) = digits.split_at(digits.len() - scale as usize);
    let fraction = fraction.trim_end_matches('0');
    let sign = if sum < 0 { "-" } else { "" };
    Some(match fraction {
        "" => format!("{sign}{whole}"),
        _ => format!("{sign}{whole}.{fraction}"),
    })
}

/// The sum of two numbers in decimal or scientific notation, printed without exponent.
///
/// # Errors
/// In the order in which Valkey looks for them.
pub fn add(value: &[u8], increment: &[u8]) -> Result<String, DecimalError> {
    let b = parse_f64(increment).ok_or(DecimalError::BadIncrement)?;
    if b.is_infinite() {
        return Err(DecimalError::InfiniteIncrement);
    }
    let a = parse_f64(value).ok_or(DecimalError::BadValue)?;
    let sum = a + b;
    if !sum.is_finite() {
        return Err(DecimalError::InfiniteSum);
    }
    Ok(add_exactly(value, increment).unwrap_or_else(|| {
        let text = format!("{sum:.17}");
        let text = text.trim_end_matches('0').trim_end_matches('.');
        if text == "-0" { "0" } else { text }.to_string()
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums() {
        let check = |a: &str, b: &str, want: &str| {
            assert_eq!(add(a.as_bytes(), b.as_bytes()).unwrap(), want, "{a} + {b}");
        };
        check("10.50", "0.1", "10.6");
        check("10.6", "-5", "5.6");
        check("5.0e3", "2.0e2", "5200");
        check("0.1", "0.2", "0.3");
        check("0", "-0.5", "-0.5");
        check("1", "-1", "0");
        check("-0", "0", "0");
        check("3", "1.5e-3", "3.0015");
        check("1e-18", "0", "0");
        check("6e-18", "0", "0.00000000000000001");
        check("1e300", "0", &format!("{:.0}", 1e300));
        check("17179869184", "1", "17179869185");
        assert_eq!(add(b"x", b"1"), Err(DecimalError::BadValue));
        assert_eq!(add(b"1", b"x"), Err(DecimalError::BadIncrement));
        assert_eq!(add(b"1", b"inf"), Err(DecimalError::InfiniteIncrement));
        assert_eq!(add(b"inf", b"1"), Err(DecimalError::InfiniteSum));
        assert_eq!(add(b"1e308", b"1e308"), Err(DecimalError::InfiniteSum));
    }
}
