//! HyperLogLogs: strings that estimate how many different elements were added, in Valkey's format.
//!
//! ```text
//!  0      4   5     8         16
//!  ┌──────┬───┬─────┬─────────┬──────────────┐
//!  │ HYLL │ E │ 0 0 │ estimate│ registers …  │     E: 0 dense, 1 sparse
//!  └──────┴───┴─────┴─────────┴──────────────┘
//!  estimate  little-endian; its highest bit says that the registers have changed since it was made
//!  dense     16384 registers of 6 bits, from the lowest bit of the first byte on
//!  sparse    00nnnnnn            n + 1 registers that are 0
//!            01nnnnnn nnnnnnnn   n + 1 registers that are 0
//!            1vvvvvnn            n + 1 registers that are v + 1
//! ```
//!
//! Strings come from clients and from files, so every function here expects any bytes. The estimate follows Otmar Ertl, "New
//! cardinality estimation algorithms for HyperLogLog sketches", arXiv:1702.01284.

/// Bytes in front of the registers.
pub const HEADER_BYTES: usize = 16;
const MAGIC: &[u8; 4] = b"HYLL";
/// Bits of a hash that choose a register.
const INDEX_BITS: u32 = 14;
/// Number of registers.
pub const REGISTERS: usize = 1 << INDEX_BITS;
/// Bits of a hash that the value of a register is made of.
const VALUE_BITS: u32 = 64 - INDEX_BITS;
const REGISTER_MAX: u8 = 63;
/// Length of a dense one.
pub const DENSE_BYTES: usize = HEADER_BYTES + REGISTERS * 6 / 8;
/// The highest value that a sparse register takes.
const SPARSE_VALUE_MAX: u8 = 32;
/// Longest run of equal values, of zeros in one byte, of zeros in two.
const RUN_MAX: usize = 4;
const ZERO_MAX: usize = 64;
/// The highest bit of the last byte of the estimate.
const STALE: u8 = 0x80;

/// The two forms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// All registers, 6 bits each.
    Dense,
    /// Runs of equal registers.
    Sparse,
}

/// A sparse one whose runs do not make up exactly all registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Corrupt;

/// All registers, a byte each.
pub type Raw = [u8; REGISTERS];

/// The form of a string; `None` if it is no HyperLogLog.
pub fn form(bytes: &[u8]) -> Option<Form> {
    if bytes.len() < HEADER_BYTES || !bytes.starts_with(MAGIC) {
        return None;
    }
    match bytes[4] {
        0 if bytes.len() == DENSE_BYTES => Some(Form::Dense),
        1 => Some(Form::Sparse),
        _ => None,
    }
}

/// One without elements, in the sparse form.
pub fn empty() -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER_BYTES + 2);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&[1, 0, 0, 0]);
    bytes.extend_from_slice(&[0; 8]);
    zeros(&mut bytes, REGISTERS);
    bytes
}

/// The estimate that is kept with the registers, if they have not changed since.
pub fn kept_estimate(bytes: &[u8]) -> Option<u64> {
    let kept: [u8; 8] = bytes.get(8..16)?.try_into().ok()?;
    (kept[7] & STALE == 0).then(|| u64::from_le_bytes(kept))
}

/// Keeps an estimate with the registers.
pub fn keep_estimate(bytes: &mut [u8], estimate: u64) {
    bytes[8..16].copy_from_slice(&estimate.to_le_bytes());
}

/// Notes that the registers have changed.
pub fn forget_estimate(bytes: &mut [u8]) {
    bytes[15] |= STALE;
}

/// MurmurHash64A of Austin Appleby, with the seed that Valkey uses.
fn hash(element: &[u8]) -> u64 {
    const M: u64 = 0xc6a4_a793_5bd1_e995;
    // Valkey passes the length as a 32-bit integer with a sign.
    let len = i64::from(element.len() as i32) as u64;
    let mut h = 0xadc8_3b19 ^ len.wrapping_mul(M);
    let (words, tail) = element.as_chunks::<8>();
    for word in words {
        let mut k = u64::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> 47;
        h = (h ^ k.wrapping_mul(M)).wrapping_mul(M);
    }
    if !tail.is_empty() {
        let mut last = [0; 8];
        last[..tail.len()].copy_from_slice(tail);
        h = (h ^ u64::from_le_bytes(last)).wrapping_mul(M);
    }
    h ^= h >> 47;
    h = h.wrapping_mul(M);
    h ^ h >> 47
}

/// The register that an element belongs to, and the value that it asks for there.
pub fn register_of(element: &[u8]) -> (usize, u8) {
    let hash = hash(element);
    let index = hash as usize & (REGISTERS - 1);
    let rest = hash >> INDEX_BITS | 1 << VALUE_BITS;
    (index, rest.trailing_zeros() as u8 + 1)
}

/// A register of a dense one.
pub fn dense_get(bytes: &[u8], index: usize) -> u8 {
    let (at, shift) = (HEADER_BYTES + index * 6 / 8, index * 6 % 8);
    let low = u16::from(bytes[at]);
    // The last register ends with the last byte.
    let high = u16::from(bytes.get(at + 1).copied().unwrap_or_default());
    ((high << 8 | low) >> shift) as u8 & REGISTER_MAX
}

/// Changes a register of a dense one.
pub fn dense_set(bytes: &mut [u8], index: usize, value: u8) {
    let (at, shift) = (HEADER_BYTES + index * 6 / 8, index * 6 % 8);
    let mask = u16::from(REGISTER_MAX) << shift;
    let bits = u16::from(value) << shift;
    bytes[at] = bytes[at] & !(mask as u8) | bits as u8;
    if let Some(high) = bytes.get_mut(at + 1) {
        *high = *high & !((mask >> 8) as u8) | (bits >> 8) as u8;
    }
}

/// Raises a register of a dense one to a value, if it is lower. Whether it was.
pub fn dense_raise(bytes: &mut [u8], index: usize, value: u8) -> bool {
    let lower = dense_get(bytes, index) < value;
    if lower {
        dense_set(bytes, index, value);
    }
    lower
}

/// A run of equal registers: where the next one begins, the value, and how many.
struct Run {
    next: usize,
    value: u8,
    len: usize,
}

/// The run at a position of a sparse one.
fn run_at(bytes: &[u8], at: usize) -> Option<Run> {
    let first = *bytes.get(at)?;
    let low = usize::from(first & 0x3f);
    let (len, value, size) = match first >> 6 {
        0 => (low + 1, 0, 1),
        1 => {
            let second = usize::from(*bytes.get(at + 1)?);
            ((low << 8 | second) + 1, 0, 2)
        }
        _ => (usize::from(first & 3) + 1, (first >> 2 & 0x1f) + 1, 1),
    };
    Some(Run {
        next: at + size,
        value,
        len,
    })
}

/// Calls `run` with the first register, the length and the value of each run of a sparse one.
///
/// # Errors
/// The runs do not make up exactly all registers. Those before the first that goes too far have been reported.
fn each_run(bytes: &[u8], mut run: impl FnMut(usize, usize, u8)) -> Result<(), Corrupt> {
    let (mut at, mut index) = (HEADER_BYTES, 0);
    while at < bytes.len() {
        let Run { next, value, len } = run_at(bytes, at).ok_or(Corrupt)?;
        if index + len > REGISTERS {
            return Err(Corrupt);
        }
        run(index, len, value);
        index += len;
        at = next;
    }
    if index == REGISTERS {
        Ok(())
    } else {
        Err(Corrupt)
    }
}

/// Whether a sparse one is whole.
pub fn check_sparse(bytes: &[u8]) -> Result<(), Corrupt> {
    each_run(bytes, |_, _, _| {})
}

/// The dense form of a sparse one, its estimate included.
pub fn to_dense(bytes: &[u8]) -> Result<Vec<u8>, Corrupt> {
    let mut dense = vec![0; DENSE_BYTES];
    dense[..HEADER_BYTES].copy_from_slice(bytes.get(..HEADER_BYTES).ok_or(Corrupt)?);
    dense[4] = 0;
    each_run(bytes, |first, len, value| {
        if value > 0 {
            (first..first + len).for_each(|i| dense_set(&mut dense, i, value));
        }
    })?;
    Ok(dense)
}

fn zeros(out: &mut Vec<u8>, len: usize) {
    match len {
        0 => {}
        1..=ZERO_MAX => out.push((len - 1) as u8),
        _ => out.extend_from_slice(&[0x40 | ((len - 1) >> 8) as u8, (len - 1) as u8]),
    }
}

fn values(out: &mut Vec<u8>, value: u8, len: usize) {
    match (value, len) {
        (_, 0) => {}
        (0, _) => zeros(out, len),
        _ => out.push(0x80 | (value - 1) << 2 | (len - 1) as u8),
    }
}

/// Raises a register of a sparse one to a value, if it is lower. Whether it was. The result is dense when the value does not fit
/// into a sparse one, or when that would become longer than `bytes_max`. On an error nothing has changed.
pub fn sparse_raise(
    bytes: &mut Vec<u8>,
    index: usize,
    value: u8,
    bytes_max: usize,
) -> Result<bool, Corrupt> {
    let (mut at, mut first, mut previous) = (HEADER_BYTES, 0, None);
    let run = loop {
        let run = run_at(bytes, at).ok_or(Corrupt)?;
        if index < first + run.len {
            break run;
        }
        previous = Some(at);
        first += run.len;
        at = run.next;
    };
    if run.value >= value {
        return Ok(false);
    }
    // What the run becomes: what was before the register, the register, and what was behind it.
    let mut parts = Vec::with_capacity(5);
    values(&mut parts, run.value, index - first);
    values(&mut parts, value.min(SPARSE_VALUE_MAX), 1);
    values(&mut parts, run.value, first + run.len - 1 - index);
    let new_len = bytes.len() - (run.next - at) + parts.len();
    if value > SPARSE_VALUE_MAX || (new_len > bytes.len() && new_len > bytes_max) {
        let mut dense = to_dense(bytes)?;
        dense_set(&mut dense, index, value);
        forget_estimate(&mut dense);
        *bytes = dense;
        return Ok(true);
    }
    bytes.splice(at..run.next, parts);
    join_runs(bytes, previous.unwrap_or(HEADER_BYTES));
    forget_estimate(bytes);
    Ok(true)
}

/// Joins neighbouring runs of the same value among the five that follow a position: as many as a change can have left behind.
fn join_runs(bytes: &mut Vec<u8>, mut at: usize) {
    for _ in 0..5 {
        let (Some(one), Some(&byte)) = (run_at(bytes, at), bytes.get(at)) else {
            return;
        };
        let other = run_at(bytes, one.next);
        match other.filter(|o| byte >= 0x80 && o.value == one.value) {
            Some(other) if one.len + other.len <= RUN_MAX => {
                bytes[at] = 0x80 | (one.value - 1) << 2 | (one.len + other.len - 1) as u8;
                bytes.remove(at + 1);
            }
            _ => at = one.next,
        }
    }
}

/// Raises each register to that of a HyperLogLog, if it is lower.
pub fn merge(into: &mut Raw, bytes: &[u8], form: Form) -> Result<(), Corrupt> {
    match form {
        Form::Dense => {
            let registers = bytes.get(HEADER_BYTES..).ok_or(Corrupt)?;
            let groups = into.as_chunks_mut::<4>().0;
            for (raw, packed) in groups.iter_mut().zip(registers.as_chunks::<3>().0) {
                let [a, b, c] = *packed;
                let four = [a & 63, a >> 6 | b << 2 & 63, b >> 4 | c << 4 & 63, c >> 2];
                for (raw, value) in raw.iter_mut().zip(four) {
                    *raw = (*raw).max(value);
                }
            }
            Ok(())
        }
        Form::Sparse => each_run(bytes, |first, len, value| {
            if value > 0 {
                into[first..first + len]
                    .iter_mut()
                    .for_each(|raw| *raw = (*raw).max(value));
            }
        }),
    }
}

/// Writes all registers into a dense one.
pub fn dense_fill(bytes: &mut [u8], raw: &Raw) {
    let groups = raw.as_chunks::<4>().0;
    let packed = bytes[HEADER_BYTES..].as_chunks_mut::<3>().0;
    for (packed, [a, b, c, d]) in packed.iter_mut().zip(groups) {
        *packed = [a | b << 6, b >> 2 | c << 4, c >> 4 | d << 2];
    }
}

/// Estimates how many different elements were added, from all registers.
pub fn estimate_raw(raw: &Raw) -> u64 {
    let mut histogram = [0; 64];
    for value in raw {
        histogram[usize::from(value & REGISTER_MAX)] += 1;
    }
    estimate_histogram(&histogram)
}

/// Estimates how many different elements were added.
pub fn estimate(bytes: &[u8], form: Form) -> Result<u64, Corrupt> {
    if form == Form::Dense {
        let mut raw = [0; REGISTERS];
        merge(&mut raw, bytes, form)?;
        return Ok(estimate_raw(&raw));
    }
    let mut histogram = [0; 64];
    each_run(bytes, |_, len, value| {
        histogram[usize::from(value)] += len as u32;
    })?;
    Ok(estimate_histogram(&histogram))
}

fn estimate_histogram(histogram: &[u32; 64]) -> u64 {
    const HALF_BY_LN_2: f64 = 0.721_347_520_444_481_7;
    let m = REGISTERS as f64;
    let full = f64::from(histogram[VALUE_BITS as usize + 1]);
    let mut z = m * tau((m - full) / m);
    for count in histogram[1..=VALUE_BITS as usize].iter().rev() {
        z = (z + f64::from(*count)) * 0.5;
    }
    z += m * sigma(f64::from(histogram[0]) / m);
    (HALF_BY_LN_2 * m * m / z).round() as u64
}

/// σ of Ertl's paper, section 2.4.
fn sigma(mut x: f64) -> f64 {
    if x == 1.0 {
        return f64::INFINITY;
    }
    let (mut y, mut z) = (1.0, x);
    loop {
        x *= x;
        let before = z;
        z += x * y;
        y += y;
        if z == before {
            return z;
        }
    }
}

/// τ of Ertl's paper, section 2.4.
fn tau(mut x: f64) -> f64 {
    if x == 0.0 || x == 1.0 {
        return 0.0;
    }
    let (mut y, mut z) = (1.0, 1.0 - x);
    loop {
        x = x.sqrt();
        let before = z;
        y *= 0.5;
        z -= (1.0 - x) * (1.0 - x) * y;
        if z == before {
            return z / 3.0;
        }
    }
}

/// The runs of a sparse one as `PFDEBUG DECODE` shows them.
pub fn describe(bytes: &[u8]) -> String {
    use std::fmt::Write;
    let mut text = String::new();
    let mut at = HEADER_BYTES;
    while let Some(Run { next, value, len }) = run_at(bytes, at) {
        let space = if text.is_empty() { "" } else { " " };
        // Writing to a string does not fail.
        let _ = match (value, next - at) {
            (0, 1) => write!(text, "{space}z:{len}"),
            (0, _) => write!(text, "{space}Z:{len}"),
            _ => write!(text, "{space}v:{value},{len}"),
        };
        at = next;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;

    fn raw_of(bytes: &[u8]) -> Raw {
        let mut raw = [0; REGISTERS];
        let form = form(bytes).expect("a HyperLogLog");
        merge(&mut raw, bytes, form).expect("not corrupt");
        raw
    }

    #[test]
    fn both_forms_hold_what_plain_registers_hold() {
        let mut rng = Rng::new(1);
        for round in 0..8 {
            let mut sparse = empty();
            let mut dense = to_dense(&sparse).expect("whole");
            let mut model = [0; REGISTERS];
            let range = if round % 2 == 0 { 200 } else { REGISTERS };
            for _ in 0..rng.index(600) {
                let (index, value) = (rng.index(range), 1 + rng.index(32) as u8);
                let lower = model[index] < value;
                let raised = sparse_raise(&mut sparse, index, value, usize::MAX);
                assert_eq!(raised, Ok(lower));
                assert_eq!(dense_raise(&mut dense, index, value), lower);
                model[index] = model[index].max(value);
                assert_eq!(check_sparse(&sparse), Ok(()));
            }
            assert!(raw_of(&sparse) == model && raw_of(&dense) == model);
            assert!(raw_of(&to_dense(&sparse).expect("whole")) == model);
            let mut filled = vec![0; DENSE_BYTES];
            filled[..HEADER_BYTES].copy_from_slice(&dense[..HEADER_BYTES]);
            dense_fill(&mut filled, &model);
            assert!(filled == dense);
            let expect = estimate_raw(&model);
            assert_eq!(estimate(&sparse, Form::Sparse), Ok(expect));
            assert_eq!(estimate(&dense, Form::Dense), Ok(expect));
        }
    }

    #[test]
    fn sparse_runs_stay_short() {
        let mut bytes = empty();
        for i in 0..8 {
            assert_eq!(sparse_raise(&mut bytes, i, 3, 3000), Ok(true));
        }
        assert_eq!(describe(&bytes), "v:3,4 v:3,4 Z:16376");
        assert_eq!(sparse_raise(&mut bytes, 2, 5, 3000), Ok(true));
        assert_eq!(describe(&bytes), "v:3,2 v:5,1 v:3,1 v:3,4 Z:16376");
        assert_eq!(sparse_raise(&mut bytes, 16383, 1, 3000), Ok(true));
        assert_eq!(describe(&bytes), "v:3,2 v:5,1 v:3,1 v:3,4 Z:16375 v:1,1");
        assert_eq!(sparse_raise(&mut bytes, 16300, 33, 3000), Ok(true));
        assert_eq!(form(&bytes), Some(Form::Dense));
        assert_eq!(dense_get(&bytes, 16300), 33);
        assert_eq!(dense_get(&bytes, 16383), 1);
        let mut bytes = empty();
        assert_eq!(sparse_raise(&mut bytes, 100, 1, 20), Ok(true));
        assert_eq!(form(&bytes), Some(Form::Dense), "longer than allowed");
    }

    /// Golden: an element's register, the bytes of a small one, and an estimate, as Valkey has them.
    #[test]
    fn bytes_are_those_of_valkey() {
        let mut bytes = empty();
        for element in [&b"a"[..], b"b", b"hello world"] {
            let (index, value) = register_of(element);
            sparse_raise(&mut bytes, index, value, 3000).expect("whole");
        }
        assert_eq!(bytes.escape_ascii().to_string(), GOLDEN,);
        assert_eq!(estimate(&bytes, Form::Sparse), Ok(3));
    }

    const GOLDEN: &str =
        r"HYLL\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x80d\xb6\x8cL\xee\x84K\xfb\x80BZ";

    #[test]
    fn any_bytes_are_survived() {
        let mut rng = Rng::new(9);
        for _ in 0..3000 {
            let mut bytes = empty();
            for _ in 0..rng.index(40) {
                let (index, value) = register_of(&rng.next_u64().to_le_bytes());
                sparse_raise(&mut bytes, index, value, 3000).expect("whole");
            }
            for _ in 0..1 + rng.index(4) {
                let at = HEADER_BYTES + rng.index(bytes.len() - HEADER_BYTES);
                bytes[at] = rng.next_u64() as u8;
            }
            let whole = check_sparse(&bytes);
            assert_eq!(estimate(&bytes, Form::Sparse).is_ok(), whole.is_ok());
            assert_eq!(to_dense(&bytes).is_ok(), whole.is_ok());
            assert_eq!(merge(&mut [0; REGISTERS], &bytes, Form::Sparse), whole);
            let _ = sparse_raise(&mut bytes, rng.index(REGISTERS), 7, 3000);
            describe(&bytes);
        }
    }
}
