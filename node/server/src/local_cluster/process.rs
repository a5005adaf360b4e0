//! The nodes' processes: started as children that cannot outlive this one, watched, and stopped.

use std::fs::{self, File};
use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

use super::plan::{NodePlan, Shape};

/// A node that runs.
#[derive(Debug)]
pub struct Process {
    child: Child,
}

/// What [`start`] could not do.
#[derive(Debug, thiserror::Error)]
#[error("cannot start the node on port {port}: {reason}")]
pub struct StartError {
    port: u16,
    reason: io::Error,
}

/// Writes the node's configuration file if there is none, and starts the node.
///
/// # Errors
/// [`StartError`], also if this program's own executable has gone.
pub fn start(shape: &Shape, node: &NodePlan) -> Result<Process, StartError> {
    let begin = || {
        fs::create_dir_all(&node.dir)?;
        if !node.config_file().exists() {
            fs::write(node.config_file(), shape.config(node))?;
        }
        let log = File::options()
            .create(true)
            .append(true)
            .open(node.log_file())?;
        let mut command = Command::new(std::env::current_exe()?);
        command
            .arg("server")
            .arg(node.config_file())
            .current_dir(&node.dir)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            // Ctrl-C reaches the whole foreground group; the nodes are told by us, in order.
            .process_group(0);
        die_with_parent(&mut command);
        Ok(Process {
            child: command.spawn()?,
        })
    };
    begin().map_err(|reason| StartError {
        port: node.port,
        reason,
    })
}

/// Has the kernel kill the child when the thread that starts it ends, however that happens.
///
/// That thread must be the main one, which lives as long as the process.
fn die_with_parent(command: &mut Command) {
    let parent = rustix::process::getpid();
    let between_fork_and_exec = move || {
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        // The parent may have died before the line above: then nobody would send the signal any more.
        if rustix::process::getppid() == Some(parent) {
            Ok(())
        } else {
            Err(io::ErrorKind::Other.into())
        }
    };
    // SAFETY: between fork and exec only what is async-signal-safe may be done. The closure makes two system
    // calls (prctl, getppid) and allocates nothing: `io::Error` from an errno or an `ErrorKind` is a plain value.
    unsafe {
        command.pre_exec(between_fork_and_exec);
    }
}

impl Process {
    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    /// Those of `waitpid`.
    pub fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// Asks it to stop.
    fn terminate(&self) {
        // A child that was not waited for keeps its id, so the signal cannot reach another process.
        // An error means that it has ended already, which `stop_all` sees for itself.
        let _ = rustix::process::kill_process(self.id(), Signal::TERM);
    }

    fn id(&self) -> Pid {
        Pid::from_child(&self.child)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !matches!(self.child.try_wait(), Ok(Some(_))) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Asks all to stop, waits for them up to `patience`, and kills those that have not. Returns how many
/// had to be killed.
pub fn stop_all(processes: impl Iterator<Item = Process>, patience: Duration) -> usize {
    let mut left: Vec<Process> = processes.collect();
    for process in &left {
        process.terminate();
    }
    let deadline = Instant::now() + patience;
    loop {
        left.retain_mut(|process| matches!(process.ended(), Ok(None)));
        if left.is_empty() || Instant::now() >= deadline {
            // Dropping kills.
            return left.len();
        }
        sleep(Duration::from_millis(20));
    }
}

/// How a process ended, for the user.
pub fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with exit code {code}"),
        (None, Some(signal)) => format!("was ended by signal {signal}"),
        (None, None) => "ended".into(),
    }
}

/// The last lines that a node wrote, for a message about its failure.
pub fn last_words(node: &NodePlan) -> String {
    let text = fs::read(node.log_file()).unwrap_or_default();
    let text = String::from_utf8_lossy(&text[text.len().saturating_sub(4096)..]);
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(5);
    lines[from..]
        .iter()
        .map(|line| format!("    {line}\n"))
        .collect()
}
