//! Our own programs as real processes, and what they say.

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::time::{Duration, Instant};

/// How long a program may take to say what is waited for: a busy machine is slow, and a hang is a failure.
const PATIENCE: Duration = Duration::from_secs(60);

/// The path of one of our programs, of the same build profile as this test, built when it is not there yet.
pub fn program(name: &str) -> PathBuf {
    static BUILT: OnceLock<()> = OnceLock::new();
    let packages = ["-p", "ca-server", "-p", "ca-root", "-p", "ca-client"];
    BUILT.get_or_init(|| build(&packages));
    profile_directory().join(name)
}

/// The path of the try-out, built as its user builds it: alone, so with no more of the server's features than it asks for.
pub fn try_out() -> PathBuf {
    static BUILT: OnceLock<()> = OnceLock::new();
    BUILT.get_or_init(|| build(&["-p", "demo"]));
    profile_directory().join("demo")
}

/// Under `cargo test`, other packages' programs are not built for us.
fn build(packages: &[&str]) {
    let mut build = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    build.args(["build", "--quiet", "--locked"]).args(packages);
    if profile_directory().ends_with("release") {
        build.arg("--release");
    }
    build.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    outside_cargo(&mut build);
    let status = build.status().expect("cargo runs");
    assert!(status.success(), "the programs do not build");
}

/// Takes away what cargo told this test of its own package. The build script of ring takes such a change for news: each cargo
/// that is started with it would build most of the workspace again, and so would the next one without it.
pub fn outside_cargo(command: &mut Command) -> &mut Command {
    let ours = |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(ours) {
            command.env_remove(name);
        }
    }
    command
}

/// `target/<profile>`: this test runs from `target/<profile>/deps`.
fn profile_directory() -> PathBuf {
    let exe = std::env::current_exe().expect("a running test has a path");
    let directory = exe.parent().expect("it lies in a directory");
    if directory.ends_with("deps") {
        directory
            .parent()
            .expect("deps lies in a directory")
            .to_owned()
    } else {
        directory.to_owned()
    }
}

/// Runs a program to its end; its output is in the panic when it fails.
pub fn run(command: &mut Command) -> String {
    let output = output(command);
    assert!(
        output.status.success(),
        "{command:?} failed:\n{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("our programs print UTF-8")
}

/// Runs a program to its end, whatever that is.
pub fn output(command: &mut Command) -> Output {
    command
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

/// What a process has written to stderr so far; waiting for a line is waiting for the event itself.
#[derive(Clone, Default)]
pub struct Log(Arc<(Mutex<Vec<String>>, Condvar)>);

impl Log {
    fn push(&self, line: String) {
        self.0.0.lock().expect("no reader panics").push(line);
        self.0.1.notify_all();
    }

    /// Every line so far.
    pub fn lines(&self) -> Vec<String> {
        self.0.0.lock().expect("no writer panics").clone()
    }

    /// Lines so far that contain `text`.
    pub fn count(&self, text: &str) -> usize {
        self.lines()
            .iter()
            .filter(|line| line.contains(text))
            .count()
    }

    /// Waits for a line that contains every one of `texts`.
    pub fn wait_for(&self, texts: &[&str]) -> String {
        let until = Instant::now() + PATIENCE;
        let (lines, arrived) = &*self.0;
        let mut lines = lines.lock().expect("no writer panics");
        loop {
            let found = lines
                .iter()
                .find(|line| texts.iter().all(|text| line.contains(text)));
            if let Some(line) = found {
                return line.clone();
            }
            let left = until.saturating_duration_since(Instant::now());
            assert!(
                !left.is_zero(),
                "no line with {texts:?} in:\n{}",
                lines.join("\n")
            );
            lines = arrived
                .wait_timeout(lines, left)
                .expect("no writer panics")
                .0;
        }
    }
}

/// A process of ours; dropping it kills it.
pub struct Process {
    child: Child,
    log: Log,
}

impl Process {
    /// Starts it; its stderr goes to the log.
    pub fn start(command: &mut Command) -> Self {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let stderr = child.stderr.take().expect("stderr is piped");
        let log = Log::default();
        let writer = log.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                writer.push(line);
            }
        });
        Self { child, log }
    }

    /// What it has said.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Kills it without warning and waits until it is gone.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Asks it to stop (SIGTERM) and waits for its end; true when that was a success.
    pub fn terminate(&mut self) -> bool {
        self.signal(rustix::process::Signal::TERM);
        self.child.wait().is_ok_and(|status| status.success())
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let id = i32::try_from(self.child.id()).expect("process ids are small");
        let pid = rustix::process::Pid::from_raw(id).expect("process ids are positive");
        let _ = rustix::process::kill_process(pid, signal);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// CPU time, user and system, that a process has used so far.
pub fn cpu_time(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    let ticks: u64 = [11, 12]
        .iter()
        .filter_map(|i| fields.get(*i)?.parse::<u64>().ok())
        .sum();
    Duration::from_millis(ticks * 1000 / 100)
}

/// Resident memory of a process in bytes.
pub fn resident_bytes(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let fields: HashMap<&str, &str> = status
        .lines()
        .filter_map(|line| line.split_once(':'))
        .collect();
    let kib = fields
        .get("VmRSS")
        .and_then(|value| value.trim().strip_suffix(" kB"))
        .unwrap_or("0");
    kib.trim().parse::<u64>().unwrap_or(0) * 1024
}

/// Reads a file, and says which when it cannot.
pub fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
