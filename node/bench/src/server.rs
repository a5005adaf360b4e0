//! What can be told of a server: its name and version, and what the kernel knows of its process, if it runs here.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use holdfast_resp::reply::Reply;

use crate::Failure;
use crate::net::Target;

/// Who a server is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// `holdfast 0.1.0`, `valkey 9.1.2` …
    pub name: String,
    /// Its process, if that runs on this machine.
    pub pid: Option<u32>,
}

impl Identity {
    /// Asks the server.
    ///
    /// # Errors
    /// It cannot be asked.
    pub fn ask(target: &Target) -> Result<Identity, Failure> {
        let reply = target.connect()?.call(&["INFO", "server"])?;
        if let Reply::Error(text) = &reply
            && text.starts_with(b"NOAUTH")
        {
            return Err(Failure::new(format!(
                "{} wants a password (--pass, --user)",
                target.address
            )));
        }
        let text = String::from_utf8_lossy(reply.as_bytes().unwrap_or_default());
        let mut identity = Identity::read(&text);
        if !target.address.is_local() {
            identity.pid = None;
        }
        // In a container a server sees another id of itself than we do.
        let ours = |pid: &u32| fs::metadata(format!("/proc/{pid}/stat")).is_ok();
        identity.pid = identity.pid.filter(ours);
        Ok(identity)
    }

    fn read(info: &str) -> Identity {
        let field = |name: &str| {
            info.lines()
                .find_map(|l| l.strip_prefix(name)?.strip_prefix(':'))
                .map(str::trim)
        };
        let name = [
            ("holdfast", "holdfast_version"),
            ("valkey", "valkey_version"),
            ("redis", "redis_version"),
        ]
        .iter()
        .find_map(|(name, version)| Some(format!("{name} {}", field(version)?)));
        Identity {
            name: name.unwrap_or_else(|| "server".to_owned()),
            pid: field("process_id").and_then(|p| p.parse().ok()),
        }
    }
}

/// Processor time, user and system, of a process or of what it did for a while.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cpu {
    /// Of threads, by their names; threads of one name are added up.
    pub threads: BTreeMap<String, Duration>,
}

impl Cpu {
    /// Up to now. Of threads that have ended nothing is known.
    ///
    /// # Errors
    /// There is no such process, or it may not be looked at.
    pub fn of(pid: u32) -> Result<Cpu, Failure> {
        let failed = |e| Failure::new(format!("looking at process {pid}: {e}"));
        let mut cpu = Cpu::default();
        for task in fs::read_dir(format!("/proc/{pid}/task")).map_err(failed)? {
            let task = task.map_err(failed)?.path();
            // It may just have ended.
            let read = |file: &str| fs::read_to_string(task.join(file)).unwrap_or_default();
            let name = read("comm").trim_end().to_owned();
            let precise = schedstat(&read("schedstat"));
            let used = precise.or_else(|| stat(&read("stat"))).unwrap_or_default();
            *cpu.threads.entry(name).or_default() += used;
        }
        Ok(cpu)
    }

    /// What was used since `before`.
    pub fn since(&self, before: &Cpu) -> Cpu {
        let used = |(name, now): (&String, &Duration)| {
            let then = before.threads.get(name).copied().unwrap_or_default();
            (name.clone(), now.saturating_sub(then))
        };
        Cpu {
            threads: self.threads.iter().map(used).collect(),
        }
    }

    /// Of all threads.
    pub fn total(&self) -> Duration {
        self.threads.values().sum()
    }
}

/// Nanoseconds on a processor, where the kernel counts them.
fn schedstat(text: &str) -> Option<Duration> {
    let nanos: u64 = text.split_ascii_whitespace().next()?.parse().ok()?;
    Some(Duration::from_nanos(nanos))
}

/// From `stat`, in ticks of 10 ms.
fn stat(text: &str) -> Option<Duration> {
    // The name, in parentheses, may hold blanks; utime and stime are the 12th and 13th field behind it.
    let (_, rest) = text.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    // USER_HZ is 100 on every Linux that Rust runs on.
    Some(Duration::from_millis((user + system) * 10))
}

/// Resident memory of a process in bytes.
///
/// # Errors
/// There is no such process, or it may not be looked at.
pub fn resident_bytes(pid: u32) -> Result<u64, Failure> {
    let failed = |e: &dyn std::fmt::Display| Failure::new(format!("looking at process {pid}: {e}"));
    let status = fs::read_to_string(format!("/proc/{pid}/status")).map_err(|e| failed(&e))?;
    let kib = status
        .lines()
        .find_map(|l| l.strip_prefix("VmRSS:"))
        .and_then(|l| l.split_ascii_whitespace().next()?.parse::<u64>().ok());
    kib.map(|kib| kib * 1024)
        .ok_or_else(|| failed(&"it has ended"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_a_server_is() {
        let info = "# Server\r\nredis_version:7.2.4\r\nvalkey_version:9.1.2\r\nprocess_id:4711\r\n";
        let identity = Identity::read(info);
        assert_eq!(
            (identity.name.as_str(), identity.pid),
            ("valkey 9.1.2", Some(4711))
        );
        assert_eq!(Identity::read("").name, "server");
    }

    #[test]
    fn processor_time_by_thread() {
        let before = Cpu::of(std::process::id()).expect("this process");
        let busy = std::thread::Builder::new()
            .name("busy".to_owned())
            .spawn(|| {
                let begin = std::time::Instant::now();
                while begin.elapsed() < Duration::from_millis(60) {
                    std::hint::spin_loop();
                }
                Cpu::of(std::process::id()).expect("this process")
            })
            .expect("a thread");
        let used = busy.join().expect("ended").since(&before);
        let busy = used.threads.get("busy").copied().unwrap_or_default();
        assert!(busy >= Duration::from_millis(5), "{used:?}");
        assert!(used.total() >= busy);
        assert!(Cpu::of(u32::MAX).is_err());
    }

    #[test]
    fn a_name_with_parentheses_and_blanks() {
        let text = "7 (a) b) R 1 1 1 0 -1 4 1 2 3 4 50 25 0 0 20";
        assert_eq!(stat(text), Some(Duration::from_millis(750)));
        assert_eq!(schedstat("1500 2 3"), Some(Duration::from_nanos(1500)));
        assert_eq!(schedstat(""), None);
    }

    #[test]
    fn memory() {
        let bytes = resident_bytes(std::process::id()).expect("this process");
        assert!(bytes > 100 * 1024);
    }
}
