//! LZF, as far as RDB strings need it: Marc Lehmann's format of literal runs and back references.
//!
//! ```text
//! 000LLLLL  L+1 literal bytes follow
//! LLLooooo  oooooooo         copy L+2 bytes from `offset`+1 bytes back   (L in 1..=6)
//! 111ooooo  LLLLLLLL  oooooooo   copy L+9 bytes
//! ```

/// Most bytes that one byte of input can stand for: three bytes copy at most 264.
pub(crate) const RATIO_MAX: usize = 88;

/// Makes `out` the `len` bytes that were compressed, or says what is wrong. Never makes more of them than `len`.
pub(crate) fn decompress(input: &[u8], len: usize, out: &mut Vec<u8>) -> Result<(), &'static str> {
    if len > input.len().saturating_mul(RATIO_MAX) {
        return Err("compressed string claims an impossible length");
    }
    out.clear();
    out.reserve_exact(len);
    const SHORT: &str = "compressed string ends early";
    const LONG: &str = "compressed string is longer than it says";
    let mut rest = input;
    while let Some((ctrl, behind)) = rest.split_first() {
        rest = behind;
        let ctrl = usize::from(*ctrl);
        if ctrl < 32 {
            let (literals, behind) = rest.split_at_checked(ctrl + 1).ok_or(SHORT)?;
            if out.len() + literals.len() > len {
                return Err(LONG);
            }
            out.extend_from_slice(literals);
            rest = behind;
            continue;
        }
        let mut byte = || {
            let (byte, behind) = rest.split_first().ok_or(SHORT)?;
            rest = behind;
            Ok::<_, &str>(usize::from(*byte))
        };
        let mut n = (ctrl >> 5) + 2;
        if n == 9 {
            n += byte()?;
        }
        let back = ((ctrl & 31) << 8) + byte()? + 1;
        let from = out
            .len()
            .checked_sub(back)
            .ok_or("compressed string refers before its start")?;
        if out.len() + n > len {
            return Err(LONG);
        }
        if back >= n {
            out.extend_from_within(from..from + n);
        } else {
            for i in from..from + n {
                out.push(out[i]);
            }
        }
    }
    if out.len() != len {
        return Err("compressed string is shorter than it says");
    }
    Ok(())
}

/// How far back a reference may reach.
const BACK_MAX: usize = 1 << 13;
/// Longest reference.
const COPY_MAX: usize = 264;
/// Longest run of literals.
const LITERALS_MAX: usize = 32;
const HASH_BITS: u32 = 14;

/// Compresses strings. Keeps its tables from one string to the next.
pub(crate) struct Compressor {
    /// For each hash of three bytes, where it was last seen, counted over all strings; 0: never.
    seen: Vec<u32>,
    /// The count at the present string's first byte.
    base: u32,
    out: Vec<u8>,
}

impl std::fmt::Debug for Compressor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Compressor")
    }
}

impl Default for Compressor {
    fn default() -> Self {
        Compressor {
            seen: Vec::new(),
            base: 1,
            out: Vec::new(),
        }
    }
}

impl Compressor {
    /// The string in fewer bytes, at least four fewer; `None` where that cannot be had.
    pub fn compress(&mut self, input: &[u8]) -> Option<&[u8]> {
        let most = input.len().checked_sub(4)?;
        let Some(next) = u32::try_from(input.len())
            .ok()
            .and_then(|n| self.base.checked_add(n))
        else {
            if input.len() >= u32::MAX as usize {
                return None;
            }
            self.seen.clear();
            self.base = 1;
            return self.compress(input);
        };
        self.seen.resize(1 << HASH_BITS, 0);
        self.out.clear();
        let base = self.base;
        self.base = next;
        let (mut at, mut literals) = (0, 0);
        while at + 2 < input.len() {
            let three = [input[at], input[at + 1], input[at + 2]];
            let hash = u32::from_le_bytes([three[0], three[1], three[2], 0])
                .wrapping_mul(0x9e37_79b1)
                >> (32 - HASH_BITS);
            let seen = std::mem::replace(&mut self.seen[hash as usize], base + at as u32);
            let from = (seen.wrapping_sub(base)) as usize;
            if seen < base || at - from > BACK_MAX || input[from..from + 3] != three {
                at += 1;
                // What cannot be compressed is given up as soon as that is certain.
                if self.out.len() + (at - literals) > most {
                    return None;
                }
                continue;
            }
            let room = COPY_MAX.min(input.len() - at);
            let same = (3..room)
                .find(|n| input[from + n] != input[at + n])
                .unwrap_or(room);
            self.literals(&input[literals..at]);
            let (back, count) = (at - from - 1, same - 2);
            if count < 7 {
                self.out.push((count << 5 | back >> 8) as u8);
            } else {
                self.out.push((7 << 5 | back >> 8) as u8);
                self.out.push((count - 7) as u8);
            }
            self.out.push(back as u8);
            at += same;
            literals = at;
            if self.out.len() > most {
                return None;
            }
        }
        self.literals(&input[literals..]);
        (self.out.len() <= most).then_some(&self.out[..])
    }

    fn literals(&mut self, bytes: &[u8]) {
        for run in bytes.chunks(LITERALS_MAX) {
            self.out.push((run.len() - 1) as u8);
            self.out.extend_from_slice(run);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unpack(input: &[u8], len: usize) -> Result<Vec<u8>, &'static str> {
        let mut out = vec![1, 2, 3];
        decompress(input, len, &mut out)?;
        Ok(out)
    }

    #[test]
    fn literals_and_references() {
        // 3 literals, then 4 bytes from 3 back, then 10 bytes from 1 back.
        let input = [2, b'a', b'b', b'c', (2 << 5), 2, 7 << 5, 1, 0];
        assert_eq!(unpack(&input, 17).unwrap(), b"abcabcaaaaaaaaaaa");
        assert!(unpack(&input, 16).is_err());
        assert!(unpack(&input, 18).is_err());
        assert!(unpack(&input[..7], 17).is_err());
        assert!(unpack(&[1 << 5, 5], 3).is_err());
        assert!(unpack(&[0], usize::MAX).is_err());
    }

    #[test]
    fn what_is_compressed_comes_back() {
        let mut c = Compressor::default();
        let mut seed = 7u32;
        for round in 0..400usize {
            let len = round * 13 % 3000;
            let letters = 1 + round as u32 % 7;
            let text: Vec<u8> = (0..len)
                .map(|_| {
                    seed = seed.wrapping_mul(1664525).wrapping_add(1013904223);
                    ((seed >> 16) % letters) as u8
                })
                .collect();
            match c.compress(&text) {
                Some(packed) => {
                    assert!(packed.len() + 4 <= text.len());
                    let packed = packed.to_vec();
                    assert_eq!(unpack(&packed, text.len()).unwrap(), text);
                }
                None => assert!(len < 40 || letters > 3, "{len} bytes of {letters}"),
            }
        }
        assert!(c.compress(b"abc").is_none());
        c.base = u32::MAX - 10;
        assert_eq!(c.compress(&[b'a'; 100]).map(<[u8]>::len), Some(5));
    }
}
