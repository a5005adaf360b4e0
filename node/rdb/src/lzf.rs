//! LZF, as far as RDB strings need it: Marc Lehmann's format of literal runs and back references.
//!
//! ```text
//! 000LLLLL  L+1 literal bytes follow
//! LLLooooo  oooooooo         copy L+2 bytes from `offset`+1 bytes back   (L in 1..=6)
//! 111ooooo  LLLLLLLL  oooooooo   copy L+9 bytes
//! ```

/// Most bytes that one byte of input can stand for: three bytes copy at most 264.
pub(crate) const RATIO_MAX: usize = 88;

/// Restores `len` bytes, or says what is wrong. Never gives back more than `len`.
pub(crate) fn decompress(input: &[u8], len: usize) -> Result<Vec<u8>, &'static str> {
    if len > input.len().saturating_mul(RATIO_MAX) {
        return Err("compressed string claims an impossible length");
    }
    let mut out = Vec::with_capacity(len);
    let mut rest = input.iter();
    let mut byte = |what| rest.next().map(|b| usize::from(*b)).ok_or(what);
    const SHORT: &str = "compressed string ends early";
    let mut literals = 0;
    loop {
        if literals > 0 {
            out.push(byte(SHORT)? as u8);
            literals -= 1;
        } else {
            let Ok(ctrl) = byte("") else {
                break;
            };
            if ctrl < 32 {
                literals = ctrl + 1;
            } else {
                let mut n = ctrl >> 5;
                if n == 7 {
                    n += byte(SHORT)?;
                }
                let back = ((ctrl & 31) << 8) + byte(SHORT)? + 1;
                let from = out
                    .len()
                    .checked_sub(back)
                    .ok_or("compressed string refers before its start")?;
                if out.len() + n + 2 > len {
                    return Err("compressed string is longer than it says");
                }
                for i in from..from + n + 2 {
                    out.push(out[i]);
                }
            }
        }
        if out.len() > len {
            return Err("compressed string is longer than it says");
        }
    }
    if out.len() != len {
        return Err("compressed string is shorter than it says");
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_and_references() {
        // 3 literals, then 4 bytes from 3 back, then 10 bytes from 1 back.
        let input = [2, b'a', b'b', b'c', (2 << 5), 2, 7 << 5, 1, 0];
        assert_eq!(decompress(&input, 17).unwrap(), b"abcabcaaaaaaaaaaa");
        assert!(decompress(&input, 16).is_err());
        assert!(decompress(&input, 18).is_err());
        assert!(decompress(&input[..7], 17).is_err());
        assert!(decompress(&[1 << 5, 5], 3).is_err());
        assert!(decompress(&[0], usize::MAX).is_err());
    }
}
