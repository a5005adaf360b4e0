//! `tls-protocols`, `tls-ciphers` and `tls-ciphersuites`: OpenSSL's names, as far as rustls has what they name.
//!
//! rustls has the suites of TLS 1.2 and 1.3 that give forward secrecy and authenticate what they encrypt, and no others.

use super::context::Problem;
use rustls::{CipherSuite, SupportedCipherSuite, SupportedProtocolVersion, version};

/// The protocol versions that are spoken.
pub(super) fn protocols(text: &str) -> Result<Vec<&'static SupportedProtocolVersion>, Problem> {
    if text.trim().is_empty() {
        return Ok(vec![&version::TLS13, &version::TLS12]);
    }
    let mut found = Vec::new();
    for word in text.split(' ').filter(|w| !w.is_empty()) {
        match word.to_ascii_lowercase().as_str() {
            "tlsv1.3" => found.push(&version::TLS13),
            "tlsv1.2" => found.push(&version::TLS12),
            "tlsv1" | "tlsv1.1" => {
                tracing::warn!("tls-protocols: {word} is not safe any more and is not spoken");
            }
            _ => {
                return Err(Problem(
                    "Invalid tls-protocols specified. Use a combination of 'TLSv1.2' and 'TLSv1.3'."
                        .into(),
                ));
            }
        }
    }
    if found.is_empty() {
        return Err(Problem(format!(
            "tls-protocols '{text}': only TLSv1.2 and TLSv1.3 are spoken"
        )));
    }
    Ok(found)
}

/// A suite of TLS 1.2: its name for OpenSSL, and the groups of suites that OpenSSL counts it among.
const TLS12: &[(CipherSuite, &str, &[&str])] = &[
    (
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        "ECDHE-ECDSA-AES256-GCM-SHA384",
        &["aECDSA", "ECDSA", "AES", "AES256", "AESGCM", "SHA384"],
    ),
    (
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
        "ECDHE-RSA-AES256-GCM-SHA384",
        &["aRSA", "AES", "AES256", "AESGCM", "SHA384"],
    ),
    (
        CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
        "ECDHE-ECDSA-CHACHA20-POLY1305",
        &["aECDSA", "ECDSA", "CHACHA20", "SHA256"],
    ),
    (
        CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
        "ECDHE-RSA-CHACHA20-POLY1305",
        &["aRSA", "CHACHA20", "SHA256"],
    ),
    (
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        "ECDHE-ECDSA-AES128-GCM-SHA256",
        &["aECDSA", "ECDSA", "AES", "AES128", "AESGCM", "SHA256"],
    ),
    (
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
        "ECDHE-RSA-AES128-GCM-SHA256",
        &["aRSA", "AES", "AES128", "AESGCM", "SHA256"],
    ),
];

/// Groups that all of them are in.
const COMMON: &[&str] = &[
    "ALL", "DEFAULT", "HIGH", "ECDHE", "EECDH", "kECDHE", "kEECDH", "TLSv1.2",
];

type Row = &'static (CipherSuite, &'static str, &'static [&'static str]);

/// Whether a suite is meant by an expression like `ECDHE+AESGCM`, or by its name.
fn is_meant((suite, name, groups): Row, word: &str) -> bool {
    word.eq_ignore_ascii_case(name)
        || suite
            .as_str()
            .is_some_and(|iana| word.eq_ignore_ascii_case(iana))
        || word
            .split('+')
            .all(|group| groups.contains(&group) || COMMON.contains(&group))
}

/// The suites of TLS 1.2 that an OpenSSL cipher list chooses, in its order.
fn tls12(text: &str) -> Result<Vec<CipherSuite>, Problem> {
    let mut chosen: Vec<Row> = Vec::new();
    let mut banned: Vec<Row> = Vec::new();
    for word in text.split([':', ',', ' ']).filter(|w| !w.is_empty()) {
        // `@STRENGTH` and `@SECLEVEL` are about suites that are not there.
        if word.starts_with('@') {
            continue;
        }
        let (sign, name) = match word.as_bytes()[0] {
            sign @ (b'!' | b'-' | b'+') => (sign, &word[1..]),
            _ => (b'=', word),
        };
        let meant: Vec<Row> = TLS12.iter().filter(|row| is_meant(row, name)).collect();
        if meant.is_empty() && sign == b'=' {
            tracing::warn!("tls-ciphers: '{name}' is not supported and is left out");
        }
        for row in meant {
            let at = chosen.iter().position(|c| c.0 == row.0);
            match (sign, at) {
                (b'!', _) => {
                    banned.push(row);
                    chosen.retain(|c| c.0 != row.0);
                }
                (b'-', _) => chosen.retain(|c| c.0 != row.0),
                (b'+', Some(at)) => {
                    let row = chosen.remove(at);
                    chosen.push(row);
                }
                (b'=', None) if !banned.iter().any(|b| b.0 == row.0) => chosen.push(row),
                _ => {}
            }
        }
    }
    if chosen.is_empty() {
        let names: Vec<&str> = TLS12.iter().map(|row| row.1).collect();
        return Err(Problem(format!(
            "Failed to configure ciphers: {text}: none is supported; those that are: {}",
            names.join(", ")
        )));
    }
    Ok(chosen.into_iter().map(|row| row.0).collect())
}

/// The suites of TLS 1.3 that are named.
fn tls13(text: &str, supported: &[SupportedCipherSuite]) -> Result<Vec<CipherSuite>, Problem> {
    let name_of = |suite: &SupportedCipherSuite| {
        // rustls calls them TLS13_…, everybody else TLS_….
        let name = suite.suite().as_str().unwrap_or_default();
        name.replacen("TLS13_", "TLS_", 1)
    };
    let mut chosen = Vec::new();
    for word in text.split(':').filter(|w| !w.is_empty()) {
        let found = supported
            .iter()
            .filter(|s| s.tls13().is_some())
            .find(|s| name_of(s).eq_ignore_ascii_case(word));
        match found {
            Some(suite) => chosen.push(suite.suite()),
            None => {
                let names: Vec<String> = supported
                    .iter()
                    .filter(|s| s.tls13().is_some())
                    .map(name_of)
                    .collect();
                return Err(Problem(format!(
                    "Failed to configure ciphersuites: {text}: '{word}' is not supported; those that are: {}",
                    names.join(", ")
                )));
            }
        }
    }
    Ok(chosen)
}

/// The suites to use, the preferred one first. Empty texts choose the provider's own.
pub(super) fn suites(
    ciphers: &str,
    ciphersuites: &str,
    supported: &[SupportedCipherSuite],
) -> Result<Vec<SupportedCipherSuite>, Problem> {
    let of = |names: Vec<CipherSuite>| -> Vec<SupportedCipherSuite> {
        names
            .iter()
            .filter_map(|name| supported.iter().find(|s| s.suite() == *name))
            .copied()
            .collect()
    };
    let mut out = match ciphersuites {
        "" => supported
            .iter()
            .filter(|s| s.tls13().is_some())
            .copied()
            .collect(),
        text => of(tls13(text, supported)?),
    };
    out.extend(match ciphers {
        "" => supported
            .iter()
            .filter(|s| s.tls13().is_none())
            .copied()
            .collect(),
        text => of(tls12(text)?),
    });
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Vec<&'static str> {
        let chosen = tls12(text).unwrap_or_default();
        chosen
            .iter()
            .filter_map(|c| TLS12.iter().find(|row| row.0 == *c))
            .map(|row| row.1)
            .collect()
    }

    #[test]
    fn openssl_lists_choose_suites() {
        assert_eq!(names("DEFAULT").len(), TLS12.len());
        assert_eq!(
            names("ECDHE-RSA-AES128-GCM-SHA256:AES128-SHA256"),
            ["ECDHE-RSA-AES128-GCM-SHA256"]
        );
        assert_eq!(
            names("ECDHE+AESGCM:!AES128:@SECLEVEL=2"),
            [
                "ECDHE-ECDSA-AES256-GCM-SHA384",
                "ECDHE-RSA-AES256-GCM-SHA384"
            ]
        );
        assert_eq!(
            names("HIGH:-AES:+aECDSA"),
            [
                "ECDHE-RSA-CHACHA20-POLY1305",
                "ECDHE-ECDSA-CHACHA20-POLY1305"
            ]
        );
        // What was removed by `-` may come again, what was removed by `!` may not.
        assert_eq!(
            names("ALL:-ALL:CHACHA20+aRSA"),
            ["ECDHE-RSA-CHACHA20-POLY1305"]
        );
        assert_eq!(names("!AES:ALL").len(), 2);
    }

    #[test]
    fn a_list_without_a_supported_suite_is_refused() {
        let Problem(text) = tls12("AES128-SHA256").unwrap_err();
        assert!(text.contains("ECDHE-RSA-AES128-GCM-SHA256"), "{text}");
    }

    #[test]
    fn protocols_are_those_that_are_safe() {
        assert_eq!(protocols("").unwrap().len(), 2);
        assert_eq!(protocols("TLSv1.1 tlsv1.2").unwrap(), [&version::TLS12]);
        assert!(protocols("TLSv1").is_err());
        assert!(protocols("SSLv3").is_err());
    }
}
