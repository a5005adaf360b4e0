//! Adding numbers as `INCRBYFLOAT` and `HINCRBYFLOAT` do.
//!
//! Valkey computes in the 80-bit format of the x87 (a significand of 64 bits) and prints 17 digits behind the point. To give
//! the same text on every machine, the same is done here in integers: parse to the nearest such number, add, round to
//! the nearest (ties to even), print exactly.

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
const DIGITS: usize = 17;
/// Longest text that is looked at: bounds the time. Valkey takes up to 5 KiB.
const TEXT_MAX: usize = 1024;
/// Largest decimal exponent of the format; beyond it numbers overflow or vanish.
const EXPONENT_MAX: i64 = 4932;

/// A natural number, 32 bits a limb, the least first, without leading zeros.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Natural(Vec<u32>);

impl Natural {
    fn from_u64(v: u64) -> Self {
        let mut n = Natural(vec![v as u32, (v >> 32) as u32]);
        n.trim();
        n
    }

    fn trim(&mut self) {
        while self.0.last() == Some(&0) {
            self.0.pop();
        }
    }

    fn is_zero(&self) -> bool {
        self.0.is_empty()
    }

    fn bits(&self) -> u64 {
        match self.0.last() {
            Some(top) => self.0.len() as u64 * 32 - u64::from(top.leading_zeros()),
            None => 0,
        }
    }

    /// `self × factor + more`
    fn mul_add(&mut self, factor: u32, more: u32) {
        let mut carry = u64::from(more);
        for limb in &mut self.0 {
            carry += u64::from(*limb) * u64::from(factor);
            *limb = carry as u32;
            carry >>= 32;
        }
        if carry > 0 {
            self.0.push(carry as u32);
        }
        self.trim();
    }

    fn times_power_of_ten(mut self, mut n: u32) -> Self {
        while n > 0 {
            let step = n.min(9);
            self.mul_add(10u32.pow(step), 0);
            n -= step;
        }
        self
    }

    /// Divides by `divisor`, giving the remainder.
    fn div_rem(&mut self, divisor: u32) -> u32 {
        let mut rest = 0u64;
        for limb in self.0.iter_mut().rev() {
            rest = rest << 32 | u64::from(*limb);
            *limb = (rest / u64::from(divisor)) as u32;
            rest %= u64::from(divisor);
        }
        self.trim();
        rest as u32
    }

    fn shl(&self, n: u64) -> Self {
        let mut out = vec![0u32; (n / 32) as usize];
        let by = (n % 32) as u32;
        let mut carry = 0u64;
        for limb in &self.0 {
            carry |= u64::from(*limb) << by;
            out.push(carry as u32);
            carry >>= 32;
        }
        out.push(carry as u32);
        let mut out = Natural(out);
        out.trim();
        out
    }

    /// `self / 2^n`, rounded to the nearest, ties to even. `sticky`: a little more than `self` is meant.
    fn shr_rounded(&self, n: u64, sticky: bool) -> Self {
        if n == 0 {
            return self.clone();
        }
        let bit = |i: u64| {
            self.0
                .get((i / 32) as usize)
                .is_some_and(|l| l >> (i % 32) & 1 == 1)
        };
        let half = bit(n - 1);
        let below = sticky || (0..n - 1).any(bit);
        let mut out = Natural(self.0.iter().skip((n / 32) as usize).copied().collect());
        let by = (n % 32) as u32;
        if by > 0 {
            for i in 0..out.0.len() {
                let high = out.0.get(i + 1).copied().unwrap_or(0);
                out.0[i] = out.0[i] >> by | high << (32 - by);
            }
        }
        out.trim();
        let odd = out.0.first().is_some_and(|l| l & 1 == 1);
        if half && (below || odd) {
            if out.is_zero() {
                out.0.push(0);
            }
            out.mul_add(1, 1);
        }
        out
    }

    fn at_least(&self, other: &Natural) -> bool {
        match self.0.len().cmp(&other.0.len()) {
            std::cmp::Ordering::Equal => self.0.iter().rev().ge(other.0.iter().rev()),
            unequal => unequal.is_gt(),
        }
    }

    /// `self - other`, which is not larger.
    fn minus(&mut self, other: &Natural) {
        let mut borrow = 0i64;
        for (i, limb) in self.0.iter_mut().enumerate() {
            let v = i64::from(*limb) - i64::from(other.0.get(i).copied().unwrap_or(0)) + borrow;
            *limb = v as u32;
            borrow = v >> 32;
        }
        self.trim();
    }

    fn plus(&mut self, other: &Natural) {
        let len = self.0.len().max(other.0.len()) + 1;
        self.0.resize(len, 0);
        let mut carry = 0u64;
        for (i, limb) in self.0.iter_mut().enumerate() {
            carry += u64::from(*limb) + u64::from(other.0.get(i).copied().unwrap_or(0));
            *limb = carry as u32;
            carry >>= 32;
        }
        self.trim();
    }

    fn digits(mut self) -> String {
        let mut parts = Vec::new();
        while !self.is_zero() {
            parts.push(self.div_rem(1_000_000_000));
        }
        let mut text = parts.pop().unwrap_or(0).to_string();
        for part in parts.iter().rev() {
            text.push_str(&format!("{part:09}"));
        }
        text
    }
}

/// A number of the format: `±significand × 2^exponent`, the significand of at most 64 bits.
#[derive(Clone, Debug)]
enum Extended {
    Finite {
        negative: bool,
        significand: Natural,
        exponent: i64,
    },
    Infinite {
        negative: bool,
    },
}

impl Extended {
    /// The nearest number to `n × 2^exponent`, or a little more if `sticky`.
    fn round(negative: bool, n: Natural, exponent: i64, sticky: bool) -> Self {
        let excess = n.bits().saturating_sub(64);
        let significand = n.shr_rounded(excess, sticky);
        let exponent = exponent + excess as i64;
        // Rounding up may have made 65 bits, which are then a power of two: as exact as 64.
        if significand.bits() as i64 + exponent > 16384 {
            return Extended::Infinite { negative };
        }
        Extended::Finite {
            negative,
            significand,
            exponent,
        }
    }

    fn parse(text: &[u8]) -> Option<Self> {
        if text.len() > TEXT_MAX {
            return None;
        }
        let (negative, mut rest) = match text {
            [b'-', rest @ ..] => (true, rest),
            [b'+', rest @ ..] => (false, rest),
            _ => (false, text),
        };
        if rest.eq_ignore_ascii_case(b"inf") || rest.eq_ignore_ascii_case(b"infinity") {
            return Some(Extended::Infinite { negative });
        }
        let mut n = Natural(Vec::new());
        let (mut scale, mut point, mut any) = (0i64, false, false);
        let mut power = 0i64;
        while let [c, tail @ ..] = rest {
            match c {
                b'0'..=b'9' => {
                    if n.is_zero() && *c != b'0' {
                        n.0.push(0);
                    }
                    n.mul_add(10, u32::from(c - b'0'));
                    scale += i64::from(point);
                    any = true;
                }
                b'.' if !point => point = true,
                b'e' | b'E' if any => {
                    power = std::str::from_utf8(tail).ok()?.parse().ok()?;
                    break;
                }
                _ => return None,
            }
            rest = tail;
        }
        if !any {
            return None;
        }
        if n.is_zero() {
            return Some(Extended::round(negative, n, 0, false));
        }
        let power = power.checked_sub(scale)?;
        if power.abs() > EXPONENT_MAX + TEXT_MAX as i64 {
            return None;
        }
        let tens = u32::try_from(power.abs()).ok()?;
        if power >= 0 {
            let parsed = Extended::round(negative, n.times_power_of_ten(tens), 0, false);
            return matches!(parsed, Extended::Finite { .. }).then_some(parsed);
        }
        // A quotient of 65 or 66 bits, and whether it leaves a remainder.
        let divisor = Natural::from_u64(1).times_power_of_ten(tens);
        let shift = (divisor.bits() + 66).saturating_sub(n.bits());
        let mut rest = n.shl(shift);
        let mut quotient = Natural(Vec::new());
        let mut at = rest.bits() - divisor.bits();
        let mut aligned = divisor.shl(at);
        loop {
            if quotient.is_zero() {
                quotient.0.push(0);
            }
            let fits = rest.at_least(&aligned);
            if fits {
                rest.minus(&aligned);
            }
            quotient.mul_add(2, u32::from(fits));
            if at == 0 {
                break;
            }
            at -= 1;
            aligned = divisor.shl(at);
        }
        Some(Extended::round(
            negative,
            quotient,
            -(shift as i64),
            !rest.is_zero(),
        ))
    }

    fn plus(self, other: Extended) -> Extended {
        use Extended::{Finite, Infinite};
        let (mut a, mut b) = match (self, other) {
            (
                Finite {
                    negative: an,
                    significand: a,
                    exponent: ae,
                },
                Finite {
                    negative: bn,
                    significand: b,
                    exponent: be,
                },
            ) => ((an, a, ae), (bn, b, be)),
            (Infinite { negative }, _) | (_, Infinite { negative }) => {
                return Infinite { negative };
            }
        };
        if a.1.is_zero() {
            return Extended::round(b.0, b.1, b.2, false);
        }
        if b.1.is_zero() {
            return Extended::round(a.0, a.1, a.2, false);
        }
        let exponent = a.2.min(b.2);
        a.1 = a.1.shl(a.2.abs_diff(exponent));
        b.1 = b.1.shl(b.2.abs_diff(exponent));
        if a.0 == b.0 {
            a.1.plus(&b.1);
        } else {
            if !a.1.at_least(&b.1) {
                std::mem::swap(&mut a, &mut b);
            }
            a.1.minus(&b.1);
        }
        Extended::round(a.0, a.1, exponent, false)
    }

    fn print(self) -> Option<String> {
        let Extended::Finite {
            negative,
            significand,
            exponent,
        } = self
        else {
            return None;
        };
        let by = exponent.unsigned_abs();
        let text = if exponent >= 0 {
            significand.shl(by).digits()
        } else {
            let scaled = significand.times_power_of_ten(DIGITS as u32);
            let digits = format!(
                "{:0>width$}",
                scaled.shr_rounded(by, false).digits(),
                width = DIGITS + 1
            );
            let (whole, fraction) = digits.split_at(digits.len() - DIGITS);
            let fraction = fraction.trim_end_matches('0');
            match fraction {
                "" => whole.to_string(),
                _ => format!("{whole}.{fraction}"),
            }
        };
        Some(match negative && text != "0" {
            true => format!("-{text}"),
            false => text,
        })
    }
}

/// Whether a text is a finite number to add.
///
/// # Errors
/// [`DecimalError::BadIncrement`] or [`DecimalError::InfiniteIncrement`].
pub fn check_increment(increment: &[u8]) -> Result<(), DecimalError> {
    match Extended::parse(increment) {
        None => Err(DecimalError::BadIncrement),
        Some(Extended::Infinite { .. }) => Err(DecimalError::InfiniteIncrement),
        Some(Extended::Finite { .. }) => Ok(()),
    }
}

/// The sum of two numbers in decimal or scientific notation, printed without exponent.
///
/// # Errors
/// See [`DecimalError`]; the increment is looked at first.
pub fn add(value: &[u8], increment: &[u8]) -> Result<String, DecimalError> {
    check_increment(increment)?;
    let b = Extended::parse(increment).ok_or(DecimalError::BadIncrement)?;
    let a = Extended::parse(value).ok_or(DecimalError::BadValue)?;
    a.plus(b).print().ok_or(DecimalError::InfiniteSum)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The sums are what `valkey-server` 8.0.1 answers on x86-64.
    #[test]
    fn sums() {
        let check = |a: &str, b: &str, want: &str| {
            assert_eq!(add(a.as_bytes(), b.as_bytes()).unwrap(), want, "{a} + {b}");
        };
        check("10.50", "0.1", "10.6");
        check("10.6", "-5", "5.6");
        check("5.0e3", "2.0e2", "5200");
        check("0.1", "0.2", "0.3");
        check("0.1", "0.7", "0.8");
        check("0", "-0.5", "-0.5");
        check("1", "-1", "0");
        check("-0", "0", "0");
        check("3", "1.5e-3", "3.0015");
        check("1e-18", "0", "0");
        check("5e-18", "0", "0");
        check("1.1e-17", "0", "0.00000000000000001");
        check("1e-10", "1e-12", "0.000000000101");
        check("17179869184", "1", "17179869185");
        check("123456.78", "0.01", "123456.78999999999999915");
        check(
            "12345678901234.5",
            "3.1",
            "12345678901237.60000038146972656",
        );
        check("3.0e3", "200.1", "3200.10000000000000009");
        check("99999999999999999999", "-2", "100000000000000000000");
        check("1e18", "0.5", "1000000000000000000.5");
        check("12345.678", "-12345.677", "0.00100000000000033");
        check(
            "1e300",
            "1",
            "1000000000000000000008997324079559193870523944273290747938260082321265646596180935755849152083750497190350372508614274835903592556184672983913096260520748646287327135641843653294084255107606016789726652932370030551382947620994540294772781889620606179267611627097410650567187386105690089424915104006144",
        );
        assert_eq!(add(b"x", b"1"), Err(DecimalError::BadValue));
        assert_eq!(add(b"1", b"x"), Err(DecimalError::BadIncrement));
        assert_eq!(add(b"1", b""), Err(DecimalError::BadIncrement));
        assert_eq!(add(b"1", b"1e"), Err(DecimalError::BadIncrement));
        assert_eq!(add(b"1", b"."), Err(DecimalError::BadIncrement));
        assert_eq!(add(b"1", b"inf"), Err(DecimalError::InfiniteIncrement));
        assert_eq!(add(b"inf", b"1"), Err(DecimalError::InfiniteSum));
        assert_eq!(add(b"1e99999", b"1"), Err(DecimalError::BadValue));
        assert_eq!(
            add(b"1.1e4932", b"1.1e4932"),
            Err(DecimalError::InfiniteSum)
        );
    }
}
