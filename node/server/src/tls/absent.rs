//! No TLS: what the simulator has in its place.

use super::TlsInfo;

/// Says no to every question.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tls;

/// Nothing.
#[derive(Debug)]
pub struct Prepared;

impl Tls {
    /// Nothing to read.
    ///
    /// # Errors
    /// None.
    pub fn prepare(_config: &crate::config::Config) -> Result<Prepared, String> {
        Ok(Prepared)
    }

    /// Nothing to do.
    pub fn put(&self, _prepared: Prepared) {}

    /// Nothing to look at.
    pub fn reload_if_due(&self, _config: &crate::config::Config, _now_ms: u64) {}

    /// Nothing to hold up.
    pub fn hold_writes(&self, _on: bool) {}

    /// No.
    pub fn is_for(&self, _link: super::Link) -> bool {
        false
    }

    /// Nothing to tell.
    pub fn info(&self) -> TlsInfo {
        TlsInfo::default()
    }
}
