//! Ziplists and zipmaps: the small encodings of RDB versions before 10, read only.
//!
//! ```text
//! ziplist: | bytes u32 | tail offset u32 | count u16 | entry … | 0xFF |
//! entry:   | previous entry's length: u8, or 0xFE u32 | encoding | data |
//! ```

use holdfast_engine::types::listpack::Listpack;

/// Turns a ziplist into a listpack, checking every entry.
pub(crate) fn to_listpack(b: &[u8]) -> Result<Listpack, &'static str> {
    const BAD: &str = "malformed ziplist";
    let word = |at: usize| -> Option<usize> {
        let raw: [u8; 4] = b.get(at..at + 4)?.try_into().ok()?;
        Some(u32::from_le_bytes(raw) as usize)
    };
    if b.len() < 11 || word(0) != Some(b.len()) || b[b.len() - 1] != 0xff {
        return Err(BAD);
    }
    let end = b.len() - 1;
    let said = u16::from_le_bytes([b[8], b[9]]);
    let tail = word(4).ok_or(BAD)?;
    let mut lp = Listpack::new();
    let (mut at, mut count, mut previous) = (10usize, 0usize, 0usize);
    let mut last = None;
    while at < end {
        let start = at;
        last = Some(start);
        let before = match b[at] {
            0xfe => {
                at += 5;
                word(at - 4).ok_or(BAD)?
            }
            0xff => return Err(BAD),
            n => {
                at += 1;
                usize::from(n)
            }
        };
        if before != previous {
            return Err("ziplist entry with a wrong previous length");
        }
        let encoding = *b.get(at).ok_or(BAD)?;
        at += 1;
        let int = |at: usize, n: usize| -> Result<i64, &'static str> {
            let raw = b.get(at..at + n).ok_or(BAD)?;
            let mut le = [if raw[n - 1] & 0x80 != 0 { 0xff } else { 0 }; 8];
            le[..n].copy_from_slice(raw);
            Ok(i64::from_le_bytes(le))
        };
        let len = match encoding >> 6 {
            0 => Some(usize::from(encoding & 0x3f)),
            1 => {
                let low = *b.get(at).ok_or(BAD)?;
                at += 1;
                Some((usize::from(encoding & 0x3f) << 8) | usize::from(low))
            }
            2 => {
                let raw: [u8; 4] = b.get(at..at + 4).ok_or(BAD)?.try_into().map_err(|_| BAD)?;
                at += 4;
                Some(u32::from_be_bytes(raw) as usize)
            }
            _ => None,
        };
        match len {
            Some(len) => {
                let s = at
                    .checked_add(len)
                    .and_then(|e| b[..end].get(at..e))
                    .ok_or(BAD)?;
                lp.push_back(s);
                at += len;
            }
            None => {
                let (v, n) = match encoding {
                    0xc0 => (int(at, 2)?, 2),
                    0xd0 => (int(at, 4)?, 4),
                    0xe0 => (int(at, 8)?, 8),
                    0xf0 => (int(at, 3)?, 3),
                    0xfe => (int(at, 1)?, 1),
                    0xf1..=0xfd => (i64::from(encoding & 0x0f) - 1, 0),
                    _ => return Err("ziplist entry of unknown encoding"),
                };
                at += n;
                lp.push_back(v.to_string().as_bytes());
            }
        }
        if at > end {
            return Err(BAD);
        }
        previous = at - start;
        count += 1;
    }
    if tail > end || last.is_some_and(|last| last != tail) {
        return Err("ziplist with a wrong tail offset");
    }
    if said != u16::MAX && usize::from(said) != count {
        return Err("ziplist element count mismatch");
    }
    Ok(lp)
}

/// Turns a zipmap (hashes of Redis before 2.6) into a listpack of fields and values.
///
/// `| count u8 | length, field, length, free u8, value, free bytes … | 0xFF |`, a length being one byte
/// below 254, or 254 and a u32.
pub(crate) fn zipmap_to_listpack(b: &[u8]) -> Result<Listpack, &'static str> {
    const BAD: &str = "malformed zipmap";
    let mut lp = Listpack::new();
    let mut at = 1usize;
    let length = |at: &mut usize| -> Result<Option<usize>, &'static str> {
        let first = *b.get(*at).ok_or(BAD)?;
        *at += 1;
        match first {
            255 => Ok(None),
            254 => {
                let raw: [u8; 4] = b
                    .get(*at..*at + 4)
                    .ok_or(BAD)?
                    .try_into()
                    .map_err(|_| BAD)?;
                *at += 4;
                match u32::from_le_bytes(raw) as usize {
                    // Readers that take a length for one of a single byte where it could be would go astray.
                    n if n < 254 => Err("zipmap length longer than it need be"),
                    n => Ok(Some(n)),
                }
            }
            n => Ok(Some(usize::from(n))),
        }
    };
    while let Some(n) = length(&mut at)? {
        lp.push_back(b.get(at..at.saturating_add(n)).ok_or(BAD)?);
        at += n;
        let n = length(&mut at)?.ok_or(BAD)?;
        let free = usize::from(*b.get(at).ok_or(BAD)?);
        at += 1;
        lp.push_back(b.get(at..at.saturating_add(n)).ok_or(BAD)?);
        at = at.saturating_add(n).saturating_add(free);
    }
    if at != b.len() {
        return Err(BAD);
    }
    let count = lp.len() / 2;
    // 254 says that there are more than the byte can tell.
    if count == 0 || (b[0] < 254 && usize::from(b[0]) != count) {
        return Err("zipmap element count mismatch");
    }
    Ok(lp)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_all_encodings() {
        // "2", "5", then -1 (8 bit), 1000 (16 bit), "hello": laid out by hand from the format's description.
        let mut b = vec![0, 0, 0, 0, 0, 0, 0, 0, 5, 0];
        b.extend_from_slice(&[0, 0xf3]);
        b.extend_from_slice(&[2, 0xf6]);
        b.extend_from_slice(&[2, 0xfe, 0xff]);
        b.extend_from_slice(&[3, 0xc0, 0xe8, 0x03]);
        b.extend_from_slice(&[4, 5, b'h', b'e', b'l', b'l', b'o']);
        b.push(0xff);
        b[0] = b.len() as u8;
        b[4] = b.len() as u8 - 8;
        let lp = to_listpack(&b).unwrap();
        let got: Vec<_> = lp
            .iter()
            .map(|e| String::from_utf8(e.to_vec()).unwrap())
            .collect();
        assert_eq!(got, ["2", "5", "-1", "1000", "hello"]);
        for at in 0..b.len() {
            for v in 0..=255 {
                let mut bad = b.clone();
                bad[at] = v;
                let _ = to_listpack(&bad);
                let _ = to_listpack(&bad[..at]);
            }
        }
    }

    #[test]
    fn reads_zipmaps() {
        let b = [2, 1, b'a', 2, 1, b'x', b'y', 0, 1, b'b', 0, 0, 0xff];
        let lp = zipmap_to_listpack(&b).unwrap();
        let got: Vec<_> = lp
            .iter()
            .map(|e| String::from_utf8(e.to_vec()).unwrap())
            .collect();
        assert_eq!(got, ["a", "xy", "b", ""]);
        for n in 0..b.len() {
            assert!(zipmap_to_listpack(&b[..n]).is_err());
        }
    }
}
