//! Strings as rows of bits. Bit 0 is the most significant one of the first byte, and what lies behind the end is zero.

use std::ops::Range;

/// Sums of bits, one for each word of a block: `Block`s are added like the columns of a sum on paper.
type Block = [u64; 4];

fn words(bytes: &[u8; 32]) -> Block {
    let mut block = [0; 4];
    for (word, bytes) in block.iter_mut().zip(bytes.as_chunks::<8>().0) {
        *word = u64::from_ne_bytes(*bytes);
    }
    block
}

/// Adds two rows of bits to a third, each bit by itself: what remains, and what is carried.
fn carry_save(a: &mut Block, b: Block, c: Block) -> Block {
    let mut carry = [0; 4];
    for i in 0..4 {
        let u = a[i] ^ b[i];
        carry[i] = a[i] & b[i] | u & c[i];
        a[i] = u ^ c[i];
    }
    carry
}

fn ones(block: Block) -> u64 {
    block.iter().map(|w| u64::from(w.count_ones())).sum()
}

/// Number of bits that are set.
///
/// Without a machine instruction for it, counting the bits of a word takes a dozen steps. So eight blocks are first added up bit by bit
/// (Harley and Seal), and only what is carried out of the third place is counted.
pub fn count(bytes: &[u8]) -> u64 {
    let (groups, rest) = bytes.as_chunks::<256>();
    let (mut one, mut two, mut four) = ([0; 4], [0; 4], [0; 4]);
    let mut eights = 0;
    for group in groups {
        let b = group.as_chunks::<32>().0;
        let two_a = carry_save(&mut one, words(&b[0]), words(&b[1]));
        let two_b = carry_save(&mut one, words(&b[2]), words(&b[3]));
        let four_a = carry_save(&mut two, two_a, two_b);
        let two_a = carry_save(&mut one, words(&b[4]), words(&b[5]));
        let two_b = carry_save(&mut one, words(&b[6]), words(&b[7]));
        let four_b = carry_save(&mut two, two_a, two_b);
        eights += ones(carry_save(&mut four, four_a, four_b));
    }
    let (tail, last) = rest.as_chunks::<8>();
    let tail: u64 = tail
        .iter()
        .map(|w| u64::from(u64::from_ne_bytes(*w).count_ones()))
        .sum();
    let last: u64 = last.iter().map(|b| u64::from(b.count_ones())).sum();
    eights * 8 + ones(four) * 4 + ones(two) * 2 + ones(one) + tail + last
}

/// A byte at the edge of a range of bits, with what lies outside of the range cleared. `bits` are within the byte.
fn masked(byte: u8, bits: Range<u64>) -> u8 {
    let from_start = 0xff >> (bits.start & 7);
    let to_end = if bits.end >= 8 {
        0xff
    } else {
        !(0xff >> bits.end)
    };
    byte & from_start & to_end
}

/// Splits a range of bits that lies within `bytes` into a first byte, whole bytes, and a last byte. A range within one byte is
/// a first byte only. Bytes at the edges come with their other bits cleared after `flip`.
fn split(bytes: &[u8], bits: Range<u64>, flip: u8) -> (u8, &[u8], u8) {
    let (first, last) = ((bits.start / 8) as usize, ((bits.end - 1) / 8) as usize);
    let at = |i: usize| bytes.get(i).copied().unwrap_or_default() ^ flip;
    let behind = bits.end - last as u64 * 8;
    if first == last {
        return (masked(at(first), bits.start & 7..behind), &[], 0);
    }
    let whole = bytes.get(first + 1..last).unwrap_or_default();
    (
        masked(at(first), bits.start & 7..8),
        whole,
        masked(at(last), 0..behind),
    )
}

/// Number of bits that are set within a range that lies within `bytes`.
pub fn count_in(bytes: &[u8], bits: Range<u64>) -> u64 {
    if bits.is_empty() {
        return 0;
    }
    let (first, whole, last) = split(bytes, bits, 0);
    u64::from(first.count_ones()) + count(whole) + u64::from(last.count_ones())
}

/// The first bit of that kind within a range that lies within `bytes`.
pub fn find_in(bytes: &[u8], bits: Range<u64>, set: bool) -> Option<u64> {
    if bits.is_empty() {
        return None;
    }
    // With all bits flipped, the first clear one is the first set one.
    let flip = if set { 0 } else { 0xff };
    let start = bits.start & !7;
    let (first, whole, last) = split(bytes, bits, flip);
    if first != 0 {
        return Some(start + u64::from(first.leading_zeros()));
    }
    let skip = [flip; 8];
    let words = whole.as_chunks::<8>().0;
    let at = words.iter().position(|w| *w != skip).unwrap_or(words.len()) * 8;
    let near = whole.get(at..).unwrap_or_default();
    match near.iter().position(|b| *b != flip) {
        Some(i) => {
            let byte = near[i] ^ flip;
            Some(start + 8 + ((at + i) as u64) * 8 + u64::from(byte.leading_zeros()))
        }
        None if last != 0 => {
            Some(start + 8 + whole.len() as u64 * 8 + u64::from(last.leading_zeros()))
        }
        None => None,
    }
}

/// An operation of `BITOP`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Bits that are set in all.
    And,
    /// Bits that are set in any.
    Or,
    /// Bits that are set in an odd number of them.
    Xor,
    /// Bits that are clear in the only one.
    Not,
}

/// So much of the result is made at a time: it stays in the first cache while one source after the other is added.
const STRIPE: usize = 8192;

fn stripe(source: &[u8], i: usize) -> &[u8] {
    let start = (i * STRIPE).min(source.len());
    let end = (start + STRIPE).min(source.len());
    source.get(start..end).unwrap_or_default()
}

/// What an operation makes of some strings: as long as the longest, the shorter ones being zero at their ends.
pub fn combine(op: Op, sources: &[&[u8]]) -> Vec<u8> {
    let len = sources.iter().map(|s| s.len()).max().unwrap_or(0);
    let mut result = vec![0; len];
    let Some((first, others)) = sources.split_first() else {
        return result;
    };
    for (i, out) in result.chunks_mut(STRIPE).enumerate() {
        let from = stripe(first, i);
        out[..from.len()].copy_from_slice(from);
        if op == Op::Not {
            out.iter_mut().for_each(|b| *b = !*b);
        }
        for source in others {
            let from = stripe(source, i);
            let (shared, beyond) = out.split_at_mut(from.len());
            let each = shared.iter_mut().zip(from);
            match op {
                Op::And => {
                    each.for_each(|(a, b)| *a &= b);
                    beyond.fill(0);
                }
                Op::Or => each.for_each(|(a, b)| *a |= b),
                Op::Xor => each.for_each(|(a, b)| *a ^= b),
                Op::Not => {}
            }
        }
    }
    result
}

/// A bit; those behind the end are clear.
pub fn get(bytes: &[u8], bit: u64) -> bool {
    let byte = usize::try_from(bit / 8).ok().and_then(|i| bytes.get(i));
    byte.is_some_and(|b| b & 0x80 >> (bit & 7) != 0)
}

/// Sets or clears a bit, which must lie within the bytes.
pub fn set(bytes: &mut [u8], bit: u64, on: bool) {
    let mask = 0x80 >> (bit & 7);
    let byte = &mut bytes[(bit / 8) as usize];
    if on {
        *byte |= mask;
    } else {
        *byte &= !mask;
    }
}

/// The nine bytes in which a field of up to 64 bits lies, as the high bytes of one number; zeros behind the end.
fn window(bytes: &[u8], bit: u64) -> u128 {
    let mut near = [0; 16];
    let from = usize::try_from(bit / 8).unwrap_or(usize::MAX);
    let there = bytes.get(from..).unwrap_or_default();
    let n = there.len().min(9);
    near[..n].copy_from_slice(&there[..n]);
    u128::from_be_bytes(near)
}

/// The number in `width` (1 … 64) bits from `bit` on, most significant bit first; zeros behind the end.
pub fn field(bytes: &[u8], bit: u64, width: u32) -> u64 {
    (window(bytes, bit) << (bit & 7) >> (128 - width)) as u64
}

/// Writes the low `width` (1 … 64) bits of a number from `bit` on. They must lie within the bytes.
pub fn set_field(bytes: &mut [u8], bit: u64, width: u32, value: u64) {
    let shift = 128 - width - (bit & 7) as u32;
    let mask = (u128::MAX >> (128 - width)) << shift;
    let new = window(bytes, bit) & !mask | u128::from(value) << shift & mask;
    let from = (bit / 8) as usize;
    let n = ((bit & 7) as usize + width as usize).div_ceil(8);
    bytes[from..from + n].copy_from_slice(&new.to_be_bytes()[..n]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;

    /// The bits one by one.
    fn model(bytes: &[u8]) -> Vec<bool> {
        bytes
            .iter()
            .flat_map(|b| (0..8).map(move |i| b >> (7 - i) & 1 == 1))
            .collect()
    }

    fn random(rng: &mut Rng, max: usize) -> Vec<u8> {
        let fill = [0, 0xff, 1][rng.index(3)];
        let mut bytes = vec![fill; rng.index(max + 1)];
        for b in &mut bytes {
            if rng.index(10) < 3 {
                *b = rng.next_u64() as u8;
            }
        }
        bytes
    }

    #[test]
    fn counts_and_positions_are_those_of_plain_bits() {
        let mut rng = Rng::new(1);
        for round in 0..3000 {
            let bytes = random(&mut rng, if round % 10 == 0 { 2000 } else { 40 });
            let bits = model(&bytes);
            assert_eq!(count(&bytes), bits.iter().filter(|b| **b).count() as u64);
            let end = rng.index(bits.len() + 1);
            let start = rng.index(end + 1);
            let range = start as u64..end as u64;
            let part = &bits[start..end];
            assert_eq!(
                count_in(&bytes, range.clone()),
                part.iter().filter(|b| **b).count() as u64
            );
            for set in [false, true] {
                let expect = part
                    .iter()
                    .position(|b| *b == set)
                    .map(|i| (start + i) as u64);
                assert_eq!(
                    find_in(&bytes, range.clone(), set),
                    expect,
                    "{bytes:?} {range:?} {set}"
                );
            }
        }
    }

    #[test]
    fn operations_are_those_of_plain_bits() {
        let mut rng = Rng::new(2);
        for round in 0..300 {
            let max = if round % 10 == 0 { 3 * STRIPE } else { 50 };
            let sources: Vec<_> = (0..1 + rng.index(4))
                .map(|_| random(&mut rng, max))
                .collect();
            let views: Vec<&[u8]> = sources.iter().map(|s| &s[..]).collect();
            let len = views.iter().map(|s| s.len()).max().unwrap_or(0);
            let at = |s: &[u8], i: usize| s.get(i).copied().unwrap_or(0);
            for op in [Op::And, Op::Or, Op::Xor] {
                let expect: Vec<u8> = (0..len)
                    .map(|i| {
                        views
                            .iter()
                            .map(|s| at(s, i))
                            .reduce(|a, b| match op {
                                Op::And => a & b,
                                Op::Or => a | b,
                                _ => a ^ b,
                            })
                            .unwrap_or(0)
                    })
                    .collect();
                assert_eq!(combine(op, &views), expect, "{op:?}");
            }
            let expect: Vec<u8> = views[0].iter().map(|b| !b).collect();
            assert_eq!(combine(Op::Not, &views[..1]), expect);
        }
    }

    #[test]
    fn fields_are_those_of_plain_bits() {
        let mut rng = Rng::new(3);
        for _ in 0..5000 {
            let mut bytes = random(&mut rng, 20);
            let width = 1 + rng.index(64) as u32;
            let bit = rng.below(200);
            let bits = model(&bytes);
            let number = (bit..bit + u64::from(width)).fold(0, |n, i| {
                n << 1 | u64::from(bits.get(i as usize).copied().unwrap_or(false))
            });
            assert_eq!(field(&bytes, bit, width), number, "{bytes:?} {bit} {width}");
            assert_eq!(get(&bytes, bit), bits.get(bit as usize) == Some(&true));
            let end = bit + u64::from(width);
            bytes.resize(bytes.len().max(end.div_ceil(8) as usize), 0);
            let mut expect = model(&bytes);
            let value = rng.next_u64();
            for (n, i) in (bit..end).rev().enumerate() {
                expect[i as usize] = value >> n & 1 == 1;
            }
            set_field(&mut bytes, bit, width, value);
            assert_eq!(model(&bytes), expect, "{bit} {width} {value}");
            let on = rng.index(2) == 1;
            set(&mut bytes, bit, on);
            expect[bit as usize] = on;
            assert_eq!(model(&bytes), expect);
        }
    }
}
