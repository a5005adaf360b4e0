//! Judges of histories: a full search for short ones, linear-time oracles for long ones.

pub mod invariants;
pub mod linear;
pub mod model;
pub mod oracle;

#[cfg(test)]
mod tests;
