//! `tls-auto-reload-interval`: what has changed in the configured files is taken over without a command.
//!
//! A thread looks at the files, since a disk may be slow, and makes new contexts if any is another than it was. Files that do not
//! fit together yet (a new certificate whose key is still to come) leave everything as it was, and are looked at again soon.

use super::handle::Tls;
use crate::config::Config;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;

/// So soon files that could not be used are looked at again.
const RETRY_MS: u64 = 1000;

/// The directives that name files.
const FILES: [&str; 5] = [
    "tls-cert-file",
    "tls-key-file",
    "tls-client-cert-file",
    "tls-client-key-file",
    "tls-ca-cert-file",
];

/// By what a file that has changed is told: another file, or another time.
type Stamp = (u64, u64, i64, i64, u64);

fn stamp(meta: &Metadata) -> Stamp {
    let (s, ns) = (meta.mtime(), meta.mtime_nsec());
    (meta.dev(), meta.ino(), s, ns, meta.size())
}

/// How all files of a configuration look.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Stamps(Vec<(PathBuf, Option<Stamp>)>);

impl Stamps {
    pub fn of(config: &Config) -> Stamps {
        let mut stamps = Stamps::default();
        for name in FILES {
            stamps.add(config, name);
        }
        if let Some(dir) = stamps.add(config, "tls-ca-cert-dir")
            && let Ok(entries) = fs::read_dir(dir)
        {
            let mut paths: Vec<PathBuf> = entries.flatten().map(|e| e.path()).collect();
            paths.sort();
            for path in paths {
                stamps.note(path);
            }
        }
        stamps
    }

    fn add(&mut self, config: &Config, name: &str) -> Option<PathBuf> {
        let path = Some(config.get(name)).filter(|p| !p.is_empty())?;
        let path = config.path(path);
        self.note(path.clone());
        Some(path)
    }

    fn note(&mut self, path: PathBuf) {
        let found = fs::metadata::<&Path>(&path).ok();
        self.0.push((path, found.as_ref().map(stamp)));
    }
}

/// When files were looked at.
#[derive(Debug, Default)]
pub(super) struct Reload {
    looked_ms: u64,
    failed: bool,
    is_running: bool,
}

impl Reload {
    /// Whether a look is due; then it counts as begun.
    fn begin(&mut self, now_ms: u64, interval_ms: u64) -> bool {
        let pause_ms = match self.failed {
            true => interval_ms.min(RETRY_MS),
            false => interval_ms,
        };
        if self.is_running || now_ms < self.looked_ms.saturating_add(pause_ms) {
            return false;
        }
        self.looked_ms = now_ms;
        self.is_running = true;
        true
    }
}

impl Tls {
    /// Looks at the files of a configuration that is in force if that is due, without waiting.
    pub fn reload_if_due(&self, config: &Config, now_ms: u64) {
        let interval_ms = config.size("tls-auto-reload-interval") as u64 * 1000;
        if interval_ms == 0
            || !Tls::is_wanted(config)
            || !self.with_reload(|r| r.begin(now_ms, interval_ms))
        {
            return;
        }
        let (tls, config) = (self.clone(), config.clone());
        let looking = std::thread::Builder::new()
            .name("tls-reload".into())
            .spawn(move || {
                let failed = tls.reload(&config).is_err();
                tls.with_reload(|r| (r.failed, r.is_running) = (failed, false));
            });
        if let Err(e) = looking {
            tracing::warn!("Background TLS reload failed: {e}");
            self.with_reload(|r| (r.failed, r.is_running) = (true, false));
        }
    }

    fn with_reload<T>(&self, f: impl FnOnce(&mut Reload) -> T) -> T {
        f(&mut self.0.reload.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes over what has changed. What is wrong is logged.
    fn reload(&self, config: &Config) -> Result<(), ()> {
        let (stamps, generation) = self.stamps();
        if Stamps::of(config) == stamps {
            tracing::debug!("TLS reload skipped: materials unchanged");
            return Ok(());
        }
        tracing::info!("TLS materials changed, reloading in background");
        let prepared = Tls::prepare(config).map_err(|reason| {
            tracing::warn!("Background TLS reload failed: {reason}");
        })?;
        // A `CONFIG SET` in between has read them all itself.
        if self.put_over(generation, prepared) {
            tracing::info!("TLS materials reloaded successfully");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_is_taken_once_an_interval_and_sooner_after_a_failure() {
        let mut r = Reload::default();
        assert!(r.begin(10_000, 5000));
        assert!(!r.begin(99_000, 5000), "one at a time");
        r.is_running = false;
        assert!(!r.begin(14_999, 5000));
        assert!(r.begin(15_000, 5000));
        (r.is_running, r.failed) = (false, true);
        assert!(!r.begin(15_999, 5000));
        assert!(r.begin(16_000, 5000));
    }

    #[test]
    fn every_named_file_counts_and_those_of_the_directory() {
        let dir = tempfile::tempdir().unwrap();
        let (file, more) = (dir.path().join("crt"), dir.path().join("ca"));
        fs::create_dir(&more).unwrap();
        let mut config = Config::default();
        config
            .force("tls-cert-file", &file.to_string_lossy())
            .unwrap();
        config
            .force("tls-ca-cert-dir", &more.to_string_lossy())
            .unwrap();
        let mut seen = vec![Stamps::of(&config)];
        let mut differs = || {
            let now = Stamps::of(&config);
            let new = !seen.contains(&now);
            seen.push(now);
            new
        };
        assert!(!differs());
        fs::write(&file, "1").unwrap();
        assert!(differs());
        fs::write(&file, "22").unwrap();
        assert!(differs());
        fs::write(more.join("a"), "1").unwrap();
        assert!(differs());
        fs::write(more.join("a"), "22").unwrap();
        assert!(differs());
        assert!(!differs());
    }
}
