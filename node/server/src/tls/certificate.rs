//! What is told of certificates.

use super::CertificateInfo;
use rustls::pki_types::CertificateDer;
use x509_cert::Certificate;
use x509_cert::der::Decode;

/// When a certificate expires, and its serial number as OpenSSL writes it. `None` if it is none.
pub(super) fn info(der: &CertificateDer<'_>) -> Option<CertificateInfo> {
    let certificate = Certificate::from_der(der).ok()?;
    let body = &certificate.tbs_certificate;
    let expires = body.validity.not_after.to_unix_duration().as_secs();
    let mut serial = String::new();
    for byte in body.serial_number.as_bytes() {
        // A leading zero only says that the number is positive.
        if !(serial.is_empty() && *byte == 0) {
            serial.push_str(&format!("{byte:02X}"));
        }
    }
    if serial.is_empty() {
        serial.push('0');
    }
    Some(CertificateInfo {
        expires_s: i64::try_from(expires).ok()?,
        serial,
    })
}

/// Of some certificates, the one that expires first.
pub(super) fn first_to_expire(all: &[CertificateDer<'_>]) -> Option<CertificateInfo> {
    all.iter().filter_map(info).min_by_key(|c| c.expires_s)
}
