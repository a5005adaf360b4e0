//! Classic mistakes that the simulator puts back, one at a time, to show that it would notice.
//!
//! Only simulator builds (`--cfg madsim`) know them; in every other build [`planted`] is `false` at compile time.

#[cfg(madsim)]
static PLANTED: std::sync::OnceLock<String> = std::sync::OnceLock::new();

/// Puts a mistake back, for the rest of the process's life.
#[cfg(madsim)]
pub fn plant(name: &str) {
    let _ = PLANTED.set(name.to_string());
}

/// Whether the mistake of that name is to be made.
#[cfg(madsim)]
pub fn planted(name: &str) -> bool {
    PLANTED.get().is_some_and(|p| p == name)
}

/// Whether the mistake of that name is to be made: never.
#[cfg(not(madsim))]
#[inline(always)]
pub const fn planted(_name: &str) -> bool {
    false
}
