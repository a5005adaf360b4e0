//! Glob patterns, as `KEYS`, `SCAN … MATCH`, `PSUBSCRIBE` and `CONFIG GET` use them.

/// Most `*` that are worth following: beyond it a pattern does not match, which bounds the time.
const STARS_MAX: usize = 1000;

/// Whether `text` matches `pattern`: `*`, `?`, `[abc]`, `[^a-c]`, and `\` before a character meant literally.
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    glob(pattern, text, false)
}

/// As [`matches()`] without regard to the case of ASCII letters.
pub fn matches_nocase(pattern: &[u8], text: &[u8]) -> bool {
    glob(pattern, text, true)
}

/// Follows the pattern, going back to the last `*` on a mismatch: no recursion, O(pattern × text).
fn glob(pattern: &[u8], text: &[u8], nocase: bool) -> bool {
    let (mut p, mut t) = (0, 0);
    // Where to go on after a mismatch: behind the last star, and the text it had swallowed up to.
    let mut back: Option<(usize, usize)> = None;
    let mut stars = 0;
    loop {
        if pattern.get(p) == Some(&b'*') {
            while pattern.get(p) == Some(&b'*') {
                p += 1;
            }
            stars += 1;
            if p == pattern.len() {
                return true;
            }
            if stars > STARS_MAX {
                return false;
            }
            back = Some((p, t));
            continue;
        }
        let matched = match (pattern.get(p), text.get(t)) {
            (None, None) => return true,
            (None, Some(_)) => None,
            (Some(_), None) => return false,
            (Some(_), Some(&c)) => one(pattern, p, c, nocase),
        };
        match (matched, &mut back) {
            (Some(next), _) => {
                p = next;
                t += 1;
            }
            (None, Some((star, swallowed))) => {
                *swallowed += 1;
                (p, t) = (*star, *swallowed);
            }
            (None, None) => return false,
        }
    }
}

/// Whether the pattern's element at `p` matches `c`; where the next element begins.
fn one(pattern: &[u8], p: usize, c: u8, nocase: bool) -> Option<usize> {
    let fold = |b: u8| if nocase { b.to_ascii_lowercase() } else { b };
    let c = fold(c);
    match pattern[p] {
        b'?' => Some(p + 1),
        b'[' => {
            let mut at = p + 1;
            let negated = pattern.get(at) == Some(&b'^');
            at += usize::from(negated);
            let mut found = false;
            loop {
                match pattern.get(at) {
                    // An open class ends with the pattern.
                    None => break,
                    Some(b']') => {
                        at += 1;
                        break;
                    }
                    Some(b'\\') if at + 1 < pattern.len() => {
                        found |= fold(pattern[at + 1]) == c;
                        at += 2;
                    }
                    Some(&low) => {
                        if let (Some(b'-'), Some(&high)) =
                            (pattern.get(at + 1), pattern.get(at + 2))
                        {
                            let (low, high) = (fold(low.min(high)), fold(low.max(high)));
                            found |= (low..=high).contains(&c);
                            at += 3;
                        } else {
                            found |= fold(low) == c;
                            at += 1;
                        }
                    }
                }
            }
            (found != negated).then_some(at)
        }
        b'\\' if p + 1 < pattern.len() => (fold(pattern[p + 1]) == c).then_some(p + 2),
        literal => (fold(literal) == c).then_some(p + 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        let check = |pattern: &str, text: &str, want: bool| {
            assert_eq!(
                matches(pattern.as_bytes(), text.as_bytes()),
                want,
                "{pattern} {text}"
            );
        };
        check("", "", true);
        check("", "a", false);
        check("*", "", true);
        check("a*c", "abbbc", true);
        check("a*c", "abbb", false);
        check("*b*d", "aabccd", true);
        check("*bd", "abcbd", true);
        check("h?llo", "hello", true);
        check("h?llo", "hllo", false);
        check("h[ae]llo", "hallo", true);
        check("h[^e]llo", "hello", false);
        check("h[a-c]llo", "hbllo", true);
        check("h[c-a]llo", "hbllo", true);
        check("h[a-c]llo", "hdllo", false);
        check("\\*", "*", true);
        check("\\*", "a", false);
        check("[\\]]", "]", true);
        check("[a", "a", true);
        check("user:*:name", "user:12:name", true);
        check("abc*", "ab", false);
        check("a\\", "a\\", true);
        assert!(matches_nocase(b"MAX*", b"maxmemory"));
        assert!(matches_nocase(b"[A-C]", b"b"));
        assert!(!matches(&b"a*".repeat(2000), &b"a".repeat(50)));
    }
}
