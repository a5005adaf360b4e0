//! `holdfast-server`: from the command line to a running executor, and back.

use crate::config::Config;
use crate::driver::Clock;
use crate::driver::mio::{MioDriver, prepare};
use crate::executor::{Executor, Host};
use crate::logging;
use crate::persist::{LoadRequest, RdbIn, RdbOut, SaveRequest};
use crate::proc_title::ProcTitle;
use crate::seam::{ControlInbox, ControlOut, ExecutorHandle, ToExecutor};
use crate::ticks::Ticks;
use crate::tls::Tls;
use holdfast_engine::Reaper;
use holdfast_raft_log::disk::StdDisk;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

const USAGE: &str = "\
Usage: holdfast-server [/path/to/valkey.conf] [--directive value ...]
       holdfast-server -v or --version
       holdfast-server -h or --help
       holdfast-server rebuild-shard --help (when a majority of a shard is gone for good)

Examples:
       holdfast-server (run the server with default conf)
       holdfast-server /etc/holdfast/6379.conf
       holdfast-server --port 7777
       holdfast-server /etc/holdfast.conf --loglevel verbose --durability quorum
";

/// Runs the server with the arguments behind the program's name, until it is told to stop. `program` is how it was started.
pub fn run(program: &str, args: impl Iterator<Item = OsString>) -> ExitCode {
    let args: Vec<String> = args.map(|a| a.to_string_lossy().into_owned()).collect();
    match args.first().map(String::as_str) {
        Some("-v" | "--version") => {
            println!("Holdfast server v={} bits={}", crate::VERSION, usize::BITS);
            return ExitCode::SUCCESS;
        }
        Some("-h" | "--help") => {
            print!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Some("rebuild-shard") => return crate::rebuild::run(&args[1..]),
        _ => {}
    }
    let config = match Config::from_args(&args) {
        Ok(c) => c,
        Err(e) => {
            eprintln!("{e}");
            return ExitCode::FAILURE;
        }
    };
    let logfile = Some(config.get("logfile"))
        .filter(|f| !f.is_empty())
        .map(|f| config.path(f));
    if let Err(e) = logging::init(logfile.as_deref(), config.get("loglevel")) {
        eprintln!("Can't open the log file: {e}");
        return ExitCode::FAILURE;
    }
    logging::abort_on_panic();
    match start(config, program) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            tracing::error!("{e}");
            eprintln!("{e}");
            ExitCode::FAILURE
        }
    }
}

/// Allows as many open files as clients may connect, and some for ourselves; with fewer, fewer clients.
fn raise_file_limit(config: &mut Config) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    /// Files that are not clients: logs, segments, links to peers.
    const OWN_FILES: u64 = 256;
    let clients = config.size("maxclients") as u64;
    let wanted = clients + OWN_FILES;
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|now| now >= wanted) {
        return;
    }
    let maximum = limit.maximum.map_or(wanted, |max| max.max(wanted));
    let raised = [maximum, limit.maximum.unwrap_or(wanted)]
        .into_iter()
        .find(|max| {
            let current = wanted.min(*max);
            let new = Rlimit {
                current: Some(current),
                maximum: limit.maximum.map(|_| *max),
            };
            setrlimit(Resource::Nofile, new).is_ok()
        });
    let files = raised.map_or(limit.current.unwrap_or(wanted), |max| wanted.min(max));
    if files < wanted {
        let possible = files.saturating_sub(OWN_FILES).max(1);
        tracing::warn!(
            "You requested maxclients of {clients} requiring at least {wanted} max file descriptors; \
             only {files} are possible. maxclients has been reduced to {possible}."
        );
        // A number within the directive's range.
        let _ = config.force("maxclients", &possible.to_string());
    }
}

/// Has the allocator give large blocks back to the system as soon as they are free, from the first thread on.
///
/// A witness holds little at any moment, but every entry passes through it. glibc keeps what it has freed, in a pool a
/// thread, and takes ever larger blocks from there: 41 MiB for three shards
/// under bulk writes, where it now uses 24. (mimalloc, once tried here, kept 95.)
fn return_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        const BYTES: libc::c_int = 128 << 10;
        // SAFETY: no pointers are involved; an option that glibc does not take leaves things as they were.
        unsafe {
            libc::mallopt(libc::M_ARENA_MAX, 1);
            libc::mallopt(libc::M_MMAP_THRESHOLD, BYTES);
            libc::mallopt(libc::M_TRIM_THRESHOLD, BYTES);
        }
    }
}

/// Has the kernel give us no huge pages (`disable-thp`): with them, memory comes and goes in pieces of 2 MiB, most of which may not be used.
fn refuse_huge_pages() {
    #[cfg(target_os = "linux")]
    // SAFETY: no pointers are involved; a kernel that does not know it leaves things as they were.
    unsafe {
        libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0);
    }
}

/// Processor time of the calling thread so far, in microseconds.
pub(crate) fn thread_cpu_us() -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the pointer is to a place for the time. A clock that is not there leaves zeros.
    unsafe {
        libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time);
    }
    time.tv_sec as u64 * 1_000_000 + time.tv_nsec as u64 / 1000
}

/// The processor's time stamp counter.
#[cfg(target_arch = "x86_64")]
#[inline]
pub(crate) fn time_stamp() -> u64 {
    // SAFETY: every processor of this kind has the instruction, and it touches no memory.
    unsafe { std::arch::x86_64::_rdtsc() }
}

/// Processor time of the process or of the calling thread, in the system and in itself, in seconds.
fn cpu_seconds(whose: libc::c_int) -> (f64, f64) {
    // SAFETY: zeros are a value of this plain structure, and the pointer is to it. Failing leaves them.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(whose, &raw mut usage);
        usage
    };
    let seconds = |t: libc::timeval| t.tv_sec as f64 + t.tv_usec as f64 / 1e6;
    (seconds(usage.ru_stime), seconds(usage.ru_utime))
}

fn start(mut config: Config, program: &str) -> io::Result<()> {
    // Before the first thread is started.
    let title = proc_title(&config, program);
    tracing::info!(
        "Holdfast version={}, bits={}, PID: {}, just started",
        crate::VERSION,
        usize::BITS,
        std::process::id()
    );
    match config.file() {
        Some(_) => tracing::info!("Configuration loaded"),
        None => tracing::warn!("Warning: no config file specified, using the default config."),
    }
    for warning in config.warnings() {
        tracing::warn!("{warning}");
    }
    raise_file_limit(&mut config);
    if config.yes("disable-thp") {
        refuse_huge_pages();
    }
    if config.yes("witness") {
        return_memory();
    }
    std::fs::create_dir_all(config.dir()).map_err(|e| {
        io::Error::new(
            e.kind(),
            format!("Can't create dir '{}': {e}", config.dir().display()),
        )
    })?;
    // Held until the process ends, however it ends.
    let _lock = lock_dir(&config)?;
    let pidfile = PidFile::create(&config);
    let tls = Tls::default();
    let prepared = Tls::prepare(&config).map_err(|reason| {
        tracing::warn!("{reason}");
        io::Error::other("Failed to configure TLS. Check logs for more info.")
    })?;
    tls.put(prepared);
    let clock = Clock::default();
    let (handle, parts) = prepare()?;
    let (spare, spare_tls) = (handle.clone(), tls.clone());
    // A server by itself needs one for `MIGRATE` only.
    let mut control = ControlOut::to_be_started(Box::new(move |config, inbox| {
        start_control(config, spare, inbox, [0; 2], clock, spare_tls)
    }));
    let mut control_inbox = None;
    if crate::control::is_needed(&config) {
        let (out, inbox) = crate::seam::control_queue();
        control = out;
        control_inbox = Some(inbox);
    }
    let mut executor = executor(config.clone(), control, clock)?;
    executor.tls = tls.clone();
    if config.get("durability") != "quorum" && !config.yes("witness") {
        executor.begin_persistence().map_err(io::Error::other)?;
    }
    let loading = executor.is_loading();
    let hash_seed = executor.engine.config().hash_seed;
    let mut driver = MioDriver::new(parts, executor, clock)?;
    driver.set_title(title);
    crate::metrics::start(&config, handle.clone())?;
    if let Some(inbox) = control_inbox {
        start_control(&config, handle.clone(), inbox, hash_seed, clock, tls)?;
    }
    watch_signals(handle)?;
    tracing::info!("Server initialized");
    if !loading {
        tracing::info!("Ready to accept connections tcp");
    }
    let executor = driver.run()?;
    if let Some(reason) = executor.fatal() {
        // The reason is to be the last that the log says.
        pidfile.remove_quietly();
        return Err(io::Error::other(reason));
    }
    drop(pidfile);
    tracing::warn!("Holdfast is now ready to exit, bye bye...");
    Ok(())
}

/// Where the process's title can be shown, if `set-proc-title` wants that.
fn proc_title(config: &Config, program: &str) -> Option<ProcTitle> {
    if !config.yes("set-proc-title") {
        return None;
    }
    ProcTitle::new(program)
        .inspect_err(|e| tracing::debug!("The title of the process stays: {e}"))
        .ok()
}

fn start_control(
    config: &Config,
    executor: ExecutorHandle,
    inbox: ControlInbox,
    hash_seed: [u64; 2],
    clock: Clock,
    tls: Tls,
) -> io::Result<()> {
    crate::control::start(crate::control::Parts {
        make_engine: crate::control::engines(config, hash_seed),
        config: config.clone(),
        executor,
        inbox,
        disk: Arc::new(StdDisk::new()),
        now_ms: Arc::new(move || clock.now().unix_ms()),
        tls,
    })
}

/// An executor for production.
///
/// # Errors
/// The configuration names commands that do not exist.
pub fn executor(config: Config, control: ControlOut, clock: Clock) -> io::Result<Executor> {
    let settings = crate::config::Settings::of(&config);
    let limits = crate::executor::engine_config(&config, &settings, [0; 2]).limits;
    let codec = Box::new(crate::persist::dump_codec(&config, limits));
    Executor::new(config, codec, control, Box::new(StdHost), clock.now()).map_err(io::Error::other)
}

/// What the system says of an error, without its number.
pub(crate) fn system_words(e: &io::Error) -> String {
    let text = e.to_string();
    let words = text.split(" (os error ").next();
    words.unwrap_or(&text).to_string()
}

/// Only what keeps something on disk needs its directory to itself.
pub(crate) fn lock_dir(config: &Config) -> io::Result<Option<File>> {
    if !config.yes("cluster-enabled") && config.get("durability") != "quorum" {
        return Ok(None);
    }
    let path = config.path("holdfast.lock");
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)?;
    match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(_) => Err(io::Error::other(format!(
            "The directory '{}' is in use by another server process ('{}' is locked).",
            config.dir().display(),
            path.display()
        ))),
    }
}

struct PidFile(Option<PathBuf>);

impl PidFile {
    fn create(config: &Config) -> PidFile {
        let name = config.get("pidfile");
        if name.is_empty() {
            return PidFile(None);
        }
        let path = config.path(name);
        match std::fs::write(&path, format!("{}\n", std::process::id())) {
            Ok(()) => PidFile(Some(path)),
            Err(e) => {
                tracing::warn!("Failed to write PID file '{}': {e}", path.display());
                PidFile(None)
            }
        }
    }
}

impl PidFile {
    fn remove_quietly(mut self) {
        if let Some(path) = self.0.take() {
            // It may be gone already.
            let _ = std::fs::remove_file(path);
        }
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            tracing::info!("Removing the pid file.");
            // It may be gone already.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// SIGINT and SIGTERM end the process in order; a second one at once.
fn watch_signals(handle: ExecutorHandle) -> io::Result<()> {
    use signal_hook::consts::{SIGINT, SIGTERM};
    let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM])?;
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            for (n, signal) in signals.forever().enumerate() {
                let name = if signal == SIGINT {
                    "SIGINT"
                } else {
                    "SIGTERM"
                };
                if n > 0 {
                    tracing::warn!("You insist... exiting now.");
                    std::process::exit(1);
                }
                tracing::warn!("Received {name} scheduling shutdown...");
                let mut message = ToExecutor::Shutdown;
                while let Err(back) = handle.try_send(message) {
                    message = back;
                    std::thread::sleep(Duration::from_millis(10));
                }
            }
        })?;
    Ok(())
}

/// What production does for the executor.
#[derive(Debug, Clone, Copy)]
pub struct StdHost;

impl Host for StdHost {
    fn sleep(&self, time: Duration) {
        std::thread::sleep(time);
    }

    fn memory(&self) -> (u64, u64) {
        let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
        let mut pages = text.split(' ').filter_map(|w| w.parse::<u64>().ok());
        let page = rustix::param::page_size() as u64;
        let resident = pages.nth(1).unwrap_or(0) * page;
        (self.used_memory(), resident)
    }

    fn reaper(&self) -> Option<Box<dyn Reaper>> {
        Some(Box::new(crate::reaper::ReaperThread::start()?))
    }

    fn used_memory(&self) -> u64 {
        crate::memory::used() as u64
    }

    fn thread_cpu_us(&self) -> u64 {
        thread_cpu_us()
    }

    fn cpu_seconds(&self) -> (f64, f64) {
        cpu_seconds(libc::RUSAGE_SELF)
    }

    fn thread_cpu_seconds(&self) -> (f64, f64) {
        cpu_seconds(libc::RUSAGE_THREAD)
    }

    fn machine(&self) -> (String, u64) {
        let name = rustix::system::uname();
        let words = [name.sysname(), name.release(), name.machine()];
        let words = words.map(|w| w.to_string_lossy().into_owned());
        // Where it fails, the figure is a wrong one in a report.
        let pages = rustix::system::sysinfo();
        let bytes = pages.totalram as u64 * u64::from(pages.mem_unit);
        (words.join(" "), bytes)
    }

    fn ticks(&self) -> Ticks {
        Ticks::new()
    }

    fn can_listen(&self, old: &Config, new: &Config) -> Result<(), (&'static str, &'static str)> {
        crate::driver::listeners::can_listen(old, new)
    }

    fn can_use_dir(&self, path: &std::path::Path) -> Result<(), String> {
        // With what is behind it, so that it has to be a directory that may be entered.
        match std::fs::metadata(path.join(".")) {
            Ok(_) => Ok(()),
            Err(e) => Err(system_words(&e)),
        }
    }

    fn create_rdb(&self, request: SaveRequest) -> io::Result<Box<dyn RdbOut>> {
        crate::persist::file::create(request)
    }

    fn open_rdb(&self, request: LoadRequest) -> io::Result<Box<dyn RdbIn>> {
        crate::persist::file::open(request)
    }

    fn report_rdb(&self, path: &std::path::Path) {
        // Where nothing can be printed, the log has said enough.
        let _ = crate::check_rdb::report(path, &mut io::stdout().lock());
    }

    fn seed(&self) -> u64 {
        rand::random()
    }
}
