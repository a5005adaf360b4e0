//! Programs that are not part of the project: found, or said to be missing.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The workspace's folder.
pub fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .expect("the workspace is there")
}

/// Where `.ci/tools` puts the Python environment and the Node modules.
pub fn tools_dir() -> PathBuf {
    match std::env::var_os("HOLDFAST_TOOLS") {
        Some(dir) => PathBuf::from(dir),
        None => workspace().join("target/tools"),
    }
}

/// Says that a test is skipped, past the test runner's capturing.
pub fn skipped(what: &str, why: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "SKIPPED {what}: {why}");
}

/// The program, if it is on the path.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|dir| dir.join(program))
        .find(|file| file.is_file())
}

/// Runs a command to its end, at most `patience`; returns whether it succeeded, and all that it wrote.
pub fn run(command: &mut Command, patience: Duration) -> (bool, String) {
    let output = tempfile::tempfile().expect("a temporary file");
    let mut child = command
        .stdin(Stdio::null())
        .stdout(output.try_clone().expect("a second handle"))
        .stderr(output.try_clone().expect("a third handle"))
        .spawn()
        .unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let deadline = Instant::now() + patience;
    let status = loop {
        if let Some(status) = child.try_wait().expect("waitpid") {
            break Some(status);
        }
        if Instant::now() > deadline {
            let _ = child.kill();
            let _ = child.wait();
            break None;
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let mut text = String::new();
    {
        use std::io::{Read, Seek};
        let mut file = output;
        file.rewind().expect("rewound");
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).expect("read");
        text.push_str(&String::from_utf8_lossy(&bytes));
    }
    if status.is_none() {
        text.push_str(&format!("\n(killed after {patience:?})"));
    }
    (status.is_some_and(|s| s.success()), text)
}
