//! What the rows of the server's commands are written with.

pub(super) use super::ServerFn;
pub(super) use holdfast_engine::{Acl, Command, CommandSpec, Flags, Group, Key, KeySpec};

/// A union of flags.
pub(super) const fn flags<const N: usize>(of: [Flags; N]) -> Flags {
    let mut all = Flags::NONE;
    let mut i = 0;
    while i < N {
        all = all.and(of[i]);
        i += 1;
    }
    all
}

/// A union of categories.
pub(super) const fn acl<const N: usize>(of: [Acl; N]) -> Acl {
    let mut all = Acl::NONE;
    let mut i = 0;
    while i < N {
        all = all.and(of[i]);
        i += 1;
    }
    all
}

/// The function of a container: its subcommands are found before it is called.
pub(super) const CONTAINER: ServerFn = super::unknown_subcommand;
