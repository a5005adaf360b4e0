//! The title of the process, which is what `ps` and `/proc/<pid>/cmdline` show instead of the arguments.
//!
//! Linux keeps no title of its own: it shows what lies where the arguments were put when the program was started, and goes on into the
//! environment, which lies behind them, if the last byte of the arguments is not zero.
//!
//! ```text
//! arg_start                      arg_end = env_start                 env_end
//! | server \0 --port \0 7777 \0 | HOME=/ \0 PATH=/bin \0 ...         |      before
//! | a title \0 \0 ... \0 \0 '.' | \0 \0 ...                          |      a short one
//! | a title that is too long for| the arguments \0 \0 ...            |      a long one
//! ```
//!
//! So the title is written there, through `/proc/self/mem`. Nobody may read the old contents then. Arguments are copied by `std::env::args`, which
//! must not be asked again. Each variable of the environment is set to what it is, before there is a second thread: the C library
//! makes a copy for that, and keeps to it. What it keeps pointing at is its name of the program, for messages; that becomes the title, and ends
//! with a zero still.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;

/// Where a title can be put, and who it is of.
#[derive(Debug)]
pub struct ProcTitle {
    program: String,
    place: Place,
}

/// Addresses in the process's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    start: u64,
    /// How long the arguments were, with the zero at their end.
    args: usize,
    /// How long they were with the environment, if that can be used.
    room: usize,
}

/// How many threads there are, and the places of arguments and environment, by `/proc/self/stat`.
fn parse_stat(stat: &str) -> Option<(u64, [u64; 4])> {
    // The name of the program may hold anything, parentheses too. What follows it is counted from 3, as in proc(5).
    let (_, rest) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let field = |n: usize| fields.get(n - 3)?.parse::<u64>().ok();
    let [arg_start, arg_end, env_start, env_end] = [48, 49, 50, 51].map(field);
    Some((field(20)?, [arg_start?, arg_end?, env_start?, env_end?]))
}

impl Place {
    fn new([arg_start, arg_end, env_start, env_end]: [u64; 4], uses_env: bool) -> Option<Place> {
        let len = |to: u64| usize::try_from(to.checked_sub(arg_start)?).ok();
        let args = len(arg_end).filter(|n| arg_start != 0 && *n > 0)?;
        let room = match uses_env && env_start == arg_end {
            true => len(env_end).filter(|n| *n >= args)?,
            false => args,
        };
        Some(Place {
            start: arg_start,
            args,
            room,
        })
    }

    /// What has to lie there for a title to be shown: as much of it as there is room for, and zeros.
    fn contents(&self, title: &str) -> Vec<u8> {
        let mut bytes = vec![0; self.room];
        let len = title.len().min(self.room - 1);
        bytes[..len].copy_from_slice(&title.as_bytes()[..len]);
        // Without it, all the zeros up to there would be shown as well.
        if len < self.args - 1 {
            bytes[self.args - 1] = b'.';
        }
        bytes
    }
}

/// Has the C library make copies of all variables of the environment. Returns whether it has.
fn copy_environment() -> bool {
    let all: Vec<_> = std::env::vars_os().collect();
    let can_be_set = |name: &OsStr| !name.is_empty() && !name.as_bytes().contains(&b'=');
    if !all.iter().all(|(name, _)| can_be_set(name)) {
        return false;
    }
    // Of two of the same name the first counts.
    for (name, value) in all.iter().rev() {
        // SAFETY: the caller has seen that no other thread is there that could look at the environment.
        unsafe {
            std::env::remove_var(name);
            std::env::set_var(name, value);
        }
    }
    true
}

impl ProcTitle {
    /// To be called while the process has one thread only, and has its arguments. `program` is how it was started.
    ///
    /// # Errors
    /// The system does not say where the arguments are, or there are other threads.
    pub fn new(program: &str) -> io::Result<ProcTitle> {
        let stat = std::fs::read_to_string("/proc/self/stat")?;
        let unknown = || io::Error::other("/proc/self/stat has not what is needed");
        let (threads, addresses) = parse_stat(&stat).ok_or_else(unknown)?;
        if threads != 1 {
            return Err(io::Error::other("there are other threads already"));
        }
        let uses_env = copy_environment();
        Ok(ProcTitle {
            program: program.to_string(),
            place: Place::new(addresses, uses_env).ok_or_else(unknown)?,
        })
    }

    /// How the process was started.
    pub fn program(&self) -> &str {
        &self.program
    }

    /// Shows a title from now on.
    ///
    /// # Errors
    /// The system does not let the process write there.
    pub fn set(&self, title: &str) -> io::Result<()> {
        let memory = File::options().write(true).open("/proc/self/mem")?;
        // Nothing of the program lies there any more; see the module's documentation.
        memory.write_all_at(&self.place.contents(title), self.place.start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: Place = Place {
        start: 100,
        args: 6,
        room: 10,
    };

    #[test]
    fn places_are_found_behind_any_name() {
        let mut stat = "7 (a) b) (c) S".to_string();
        (4..=52).for_each(|n| stat += &format!(" {}", n * 10));
        assert_eq!(parse_stat(&stat), Some((200, [480, 490, 500, 510])));
        assert_eq!(parse_stat("7 (a) S 1 2 3"), None);
        assert_eq!(parse_stat(""), None);
    }

    #[test]
    fn the_environment_is_used_if_it_lies_behind_the_arguments() {
        let room = |addresses, uses_env| Place::new(addresses, uses_env).map(|p| p.room);
        assert_eq!(Place::new([100, 106, 106, 110], true), Some(PLACE));
        assert_eq!(room([100, 106, 106, 110], false), Some(6));
        assert_eq!(room([100, 106, 107, 110], true), Some(6));
        assert_eq!(room([0, 0, 0, 0], true), None);
        assert_eq!(room([100, 100, 100, 110], true), None);
        assert_eq!(room([100, 106, 106, 102], true), None);
    }

    #[test]
    fn a_title_is_shown_without_what_is_behind_it() {
        for (title, expect) in [
            ("abc", b"abc\0\0.\0\0\0\0"),
            ("abcd", b"abcd\0.\0\0\0\0"),
            ("abcde", b"abcde\0\0\0\0\0"),
            ("abcdef", b"abcdef\0\0\0\0"),
            ("abcdefghi", b"abcdefghi\0"),
            ("abcdefghijk", b"abcdefghi\0"),
        ] {
            assert_eq!(PLACE.contents(title), expect, "{title}");
        }
    }

    #[test]
    fn other_threads_are_seen() {
        let (to, from) = std::sync::mpsc::channel::<()>();
        let other = std::thread::spawn(move || from.recv());
        let refused = ProcTitle::new("x").map(|_| ()).expect_err("two threads");
        assert!(refused.to_string().contains("other threads"), "{refused}");
        drop(to);
        assert!(other.join().expect("ended").is_err());
    }
}
