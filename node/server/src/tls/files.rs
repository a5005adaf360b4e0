//! Certificates and keys from files.

use super::context::Problem;
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::fs;
use std::path::{Path, PathBuf};

/// Files above this size are no certificates.
const FILE_BYTES_MAX: u64 = 16 << 20;

fn read(path: &Path, what: &str) -> Result<Vec<u8>, Problem> {
    let failed = |e: &dyn std::fmt::Display| {
        Problem(format!("Failed to load {what}: {}: {e}", path.display()))
    };
    let size = fs::metadata(path).map_err(|e| failed(&e))?.len();
    if size > FILE_BYTES_MAX {
        return Err(failed(&"the file is too large"));
    }
    fs::read(path).map_err(|e| failed(&e))
}

/// The certificates of a file, in their order.
pub(super) fn certificates(
    path: &Path,
    what: &str,
) -> Result<Vec<CertificateDer<'static>>, Problem> {
    let bytes = read(path, what)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let failed = |e: String| Problem(format!("Failed to load {what}: {}: {e}", path.display()));
    let found = found.map_err(|e| failed(e.to_string()))?;
    if found.is_empty() {
        return Err(failed("there is no certificate in it".into()));
    }
    Ok(found)
}

/// A private key; with a password, if it is encrypted (PKCS #8).
pub(super) fn key(path: &Path, password: &str) -> Result<PrivateKeyDer<'static>, Problem> {
    let failed = |e: String| {
        Problem(format!(
            "Failed to load private key: {}: {e}",
            path.display()
        ))
    };
    let bytes = read(path, "private key")?;
    let text = String::from_utf8_lossy(&bytes);
    if text.contains("-----BEGIN ENCRYPTED PRIVATE KEY-----") {
        if password.is_empty() {
            return Err(failed("it is encrypted, and no password is given".into()));
        }
        return decrypt(&text, password).map_err(failed);
    }
    if text.contains("Proc-Type: 4,ENCRYPTED") {
        return Err(failed(
            "keys encrypted in OpenSSL's old format are not supported: convert it by 'openssl pkcs8 -topk8'".into(),
        ));
    }
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|e| failed(e.to_string()))
}

fn decrypt(text: &str, password: &str) -> Result<PrivateKeyDer<'static>, String> {
    use pkcs8::der::Decode;
    use pkcs8::der::pem::decode_vec;
    const END: &str = "-----END ENCRYPTED PRIVATE KEY-----";
    let start = text.find("-----BEGIN ENCRYPTED").unwrap_or(0);
    let end = text.find(END).map_or(text.len(), |at| at + END.len());
    // What stands around the key in the file is no business of the decoder's.
    let (_, der) = decode_vec(text[start..end].trim().as_bytes()).map_err(|e| e.to_string())?;
    let sealed = pkcs8::EncryptedPrivateKeyInfo::from_der(&der).map_err(|e| e.to_string())?;
    let opened = sealed
        .decrypt(password.as_bytes())
        .map_err(|e| format!("it cannot be decrypted: {e}"))?;
    PrivateKeyDer::try_from(opened.as_bytes().to_vec()).map_err(|e| e.to_string())
}

/// The certificates that are trusted: those of a file, and of all files of a directory.
pub(super) fn authorities(
    file: Option<PathBuf>,
    dir: Option<PathBuf>,
) -> Result<Vec<CertificateDer<'static>>, Problem> {
    const WHAT: &str = "CA certificate";
    let mut found = Vec::new();
    if let Some(file) = &file {
        found = certificates(file, WHAT)?;
    }
    if let Some(dir) = &dir {
        let failed = |e: std::io::Error| {
            Problem(format!(
                "Failed to configure CA certificate(s) file/directory: {}: {e}",
                dir.display()
            ))
        };
        let mut names = Vec::new();
        for entry in fs::read_dir(dir).map_err(failed)? {
            names.push(entry.map_err(failed)?.path());
        }
        names.sort();
        for name in names.into_iter().filter(|name| name.is_file()) {
            // Other files may lie there, too; OpenSSL looks at them by name only.
            if let Ok(more) = certificates(&name, WHAT) {
                found.extend(more);
            }
        }
    }
    // A directory of OpenSSL's names each certificate twice: by its file and by a link to it.
    found.sort_by(|a, b| a.as_ref().cmp(b.as_ref()));
    found.dedup();
    Ok(found)
}

/// A store of those among the certificates that can be used.
pub(super) fn roots(authorities: &[CertificateDer<'static>]) -> Result<RootCertStore, Problem> {
    let mut roots = RootCertStore::empty();
    let (added, ignored) = roots.add_parsable_certificates(authorities.iter().cloned());
    if added == 0 {
        return Err(Problem(
            "Failed to configure CA certificate(s) file/directory: there is no usable certificate"
                .into(),
        ));
    }
    if ignored > 0 {
        tracing::warn!("{ignored} of the CA certificates cannot be used");
    }
    Ok(roots)
}
