//! Glob patterns as Valkey matches them: `*`, `?`, `[a-z]`, `[^a]`, `\` for the next character.

/// Whether the whole of `text` matches `pattern`. Takes time proportional to the product of the two lengths at most.
pub fn matches(pattern: &[u8], text: &[u8], ignore_case: bool) -> bool {
    let fold = |c: u8| {
        if ignore_case {
            c.to_ascii_lowercase()
        } else {
            c
        }
    };
    let (mut p, mut t) = (0, 0);
    // Where to go on when a later part does not match: the last star, and how far it reaches.
    let mut retry: Option<(usize, usize)> = None;
    loop {
        if p < pattern.len() && pattern[p] == b'*' {
            retry = Some((p + 1, t));
            p += 1;
            continue;
        }
        if p == pattern.len() && t == text.len() {
            return true;
        }
        let step = match (pattern.get(p), text.get(t)) {
            (Some(_), Some(&c)) => one(&pattern[p..], fold(c), fold),
            _ => None,
        };
        match (step, retry) {
            (Some(used), _) => {
                p += used;
                t += 1;
            }
            (None, Some((after, reach))) if reach < text.len() => {
                retry = Some((after, reach + 1));
                p = after;
                t = reach + 1;
            }
            _ => return false,
        }
    }
}

/// Bytes of the pattern that matched the one character `c`, or `None`.
fn one(pattern: &[u8], c: u8, fold: impl Fn(u8) -> u8) -> Option<usize> {
    match pattern[0] {
        b'?' => Some(1),
        b'[' => {
            let mut i = 1;
            let not = pattern.get(i) == Some(&b'^');
            if not {
                i += 1;
            }
            let mut hit = false;
            loop {
                match (pattern.get(i), pattern.get(i + 1), pattern.get(i + 2)) {
                    (Some(b'\\'), Some(x), _) => {
                        hit |= fold(*x) == c;
                        i += 2;
                    }
                    (Some(b']'), _, _) => {
                        i += 1;
                        break;
                    }
                    // An unclosed class ends with the pattern.
                    (None, _, _) => break,
                    (Some(a), Some(b'-'), Some(b)) => {
                        let (a, b) = (fold(*a), fold(*b));
                        hit |= (a.min(b)..=a.max(b)).contains(&c);
                        i += 3;
                    }
                    (Some(x), _, _) => {
                        hit |= fold(*x) == c;
                        i += 1;
                    }
                }
            }
            (hit != not).then_some(i)
        }
        b'\\' if pattern.len() >= 2 => (fold(pattern[1]) == c).then_some(2),
        x => (fold(x) == c).then_some(1),
    }
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn patterns() {
        let check = |p: &str, t: &str, yes: bool| {
            assert_eq!(matches(p.as_bytes(), t.as_bytes(), false), yes, "{p} {t}");
        };
        check("*", "", true);
        check("h?llo", "hello", true);
        check("h[^e]llo", "hello", false);
        check("h[a-e]llo", "hello", true);
        check("h\\*", "h*", true);
        check("h\\*", "hx", false);
        check("*a*b*c", "xxaxxbxxc", true);
        check("*a*b*c", "xxaxxbxx", false);
        check("a*b", "ab", true);
        check("[abc", "a", true);
        check("", "", true);
        check("", "a", false);
        assert!(matches(b"HeL*", b"hello", true));
        let long = vec![b'a'; 100_000];
        assert!(!matches(b"a*a*a*a*a*b", &long[..2000], false));
    }
}
