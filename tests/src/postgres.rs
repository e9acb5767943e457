//! A real Postgres of one's own: made in a temporary directory, on a Unix socket, gone with the process.
//!
//! The server runs under a shell that waits on a pipe from this process: when the pipe closes, however this process ended,
//! the server is killed and its directory removed.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

/// A running Postgres.
#[derive(Debug)]
pub struct Postgres {
    bin: PathBuf,
    /// `data` is the database's directory, and the socket lies beside it.
    directory: PathBuf,
    settings: Vec<String>,
    user: Option<(u32, u32)>,
    server: Option<Child>,
    databases: AtomicU32,
}

const DEFAULT_BIN: &str = "/usr/lib/postgresql/15/bin";
/// Linux tells CPU time to programs in hundredths of a second, whatever its own clock does.
const MILLISECONDS_PER_TICK: u64 = 10;
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// `$1` is the directory; the rest is the server's command. What was read tells a stop from an end.
const SUPERVISOR: &str = r#"directory=$1; shift
"$@" </dev/null >>"$directory/log" 2>&1 &
server=$!
read -r word
kill -QUIT $server
wait $server
[ "$word" = stop ] || rm -rf "$directory"
"#;

impl Postgres {
    /// The directory of the server's programs, from `SIGNET_PG_BIN` or Debian's; `None` when they are not there.
    #[must_use]
    pub fn binaries() -> Option<PathBuf> {
        let bin = std::env::var_os("SIGNET_PG_BIN").map_or(DEFAULT_BIN.into(), PathBuf::from);
        bin.join("initdb").exists().then_some(bin)
    }

    /// Makes and starts a server for tests: it does not sync to disk.
    ///
    /// # Errors
    /// When the programs are missing or fail.
    pub fn start() -> Result<Self> {
        Self::start_with(&["fsync=off", "full_page_writes=off"])
    }

    /// Makes and starts a server with settings of `postgresql.conf`, such as `fsync=on`, which is the default.
    ///
    /// # Errors
    /// When the programs are missing or fail.
    pub fn start_with(settings: &[&str]) -> Result<Self> {
        Self::start_in(&std::env::temp_dir(), settings)
    }

    /// The same, with its directory below `parent`, such as a disk of its own.
    ///
    /// # Errors
    /// When the programs are missing or fail.
    pub fn start_in(parent: &Path, settings: &[&str]) -> Result<Self> {
        let bin = Self::binaries().context("no Postgres binaries")?;
        let directory = tempfile::Builder::new()
            .prefix("signet-pg-")
            .tempdir_in(parent)?
            .keep();
        let user = unprivileged_user()?;
        if let Some((uid, gid)) = user {
            std::os::unix::fs::chown(&directory, Some(uid), Some(gid))?;
        }
        std::fs::set_permissions(&directory, std::fs::Permissions::from_mode(0o755))?;
        let mut postgres = Self {
            bin,
            directory,
            settings: settings.iter().map(|&s| s.to_owned()).collect(),
            user,
            server: None,
            databases: AtomicU32::new(0),
        };
        let output = postgres
            .command("initdb")
            .args(["--auth=trust", "--username=postgres", "--encoding=UTF8"])
            .args(["--locale=C", "--no-sync", "-D"])
            .arg(postgres.data())
            .output()?;
        ensure!(
            output.status.success(),
            "initdb failed: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        postgres.start_again()?;
        Ok(postgres)
    }

    /// Starts the server again after [`Postgres::stop`], and waits until it answers.
    ///
    /// # Errors
    /// When it does not start within a minute.
    pub fn start_again(&mut self) -> Result<()> {
        ensure!(self.server.is_none(), "the server is running");
        let mut supervisor = Command::new("sh");
        supervisor
            .args(["-c", SUPERVISOR, "supervisor"])
            .arg(&self.directory)
            .arg(self.bin.join("postgres"))
            .arg("-D")
            .arg(self.data())
            .arg("-k")
            .arg(&self.directory)
            .args(["-c", "listen_addresses=", "-c", "max_connections=300"])
            .current_dir(&self.directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        for setting in &self.settings {
            supervisor.args(["-c", setting]);
        }
        if let Some((uid, gid)) = self.user {
            supervisor.uid(uid).gid(gid);
        }
        self.server = Some(supervisor.spawn()?);
        let began = Instant::now();
        while !self.is_ready()? {
            if began.elapsed() > START_TIMEOUT {
                let log = std::fs::read_to_string(self.directory.join("log")).unwrap_or_default();
                bail!("Postgres does not start: {log}");
            }
            std::thread::sleep(Duration::from_millis(30));
        }
        Ok(())
    }

    /// Stops the server as a crash would: connections break, nothing is flushed.
    ///
    /// # Errors
    /// When it is not running or does not end.
    pub fn stop(&mut self) -> Result<()> {
        let mut server = self.server.take().context("the server is not running")?;
        server
            .stdin
            .take()
            .context("no pipe")?
            .write_all(b"stop\n")?;
        server.wait()?;
        Ok(())
    }

    /// Makes an empty database and tells its URL.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn create_database(&self) -> Result<String> {
        let name = format!("test_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        let output = self
            .command("createdb")
            .args(["-U", "postgres", "-h"])
            .arg(&self.directory)
            .arg(&name)
            .output()?;
        ensure!(
            output.status.success(),
            "createdb failed: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(self.url(&name))
    }

    /// The URL of a database of this server.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        let socket = self.directory.display().to_string().replace('/', "%2F");
        format!("postgres://postgres@localhost/{database}?host={socket}")
    }

    /// Where the server's socket lies, for other clients (`psql -h`).
    #[must_use]
    pub fn socket_directory(&self) -> &Path {
        &self.directory
    }

    /// The process id of the server.
    ///
    /// # Errors
    /// When it is not running.
    pub fn pid(&self) -> Result<u32> {
        let text = std::fs::read_to_string(self.data().join("postmaster.pid"))?;
        Ok(text.lines().next().unwrap_or_default().trim().parse()?)
    }

    /// CPU time that the server and its processes, ended ones too, have used since it started.
    ///
    /// # Errors
    /// When it is not running.
    pub fn cpu_time(&self) -> Result<Duration> {
        let server = self.pid()?;
        let ticks: u64 = processes(server)?
            .iter()
            .map(|process| {
                // Its own; and for the server itself its children's that have ended.
                let last = if process.pid == server { 14 } else { 12 };
                (11..=last).map(|i| process.field(i)).sum::<u64>()
            })
            .sum();
        Ok(Duration::from_millis(ticks * MILLISECONDS_PER_TICK))
    }

    /// Stops all its processes where they are, as a machine that hangs: connections stay open and nothing answers.
    ///
    /// # Errors
    /// When it is not running.
    pub fn pause(&self) -> Result<()> {
        self.signal(rustix::process::Signal::STOP)
    }

    /// Lets it go on after [`Postgres::pause`].
    ///
    /// # Errors
    /// When it is not running.
    pub fn resume(&self) -> Result<()> {
        self.signal(rustix::process::Signal::CONT)
    }

    fn signal(&self, signal: rustix::process::Signal) -> Result<()> {
        // The server first: it then starts no other process.
        let server = self.pid()?;
        let mut all = processes(server)?;
        all.sort_by_key(|process| process.pid != server);
        for process in all {
            let pid =
                rustix::process::Pid::from_raw(i32::try_from(process.pid)?).context("pid 0")?;
            rustix::process::kill_process(pid, signal)?;
        }
        Ok(())
    }

    fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    fn is_ready(&self) -> Result<bool> {
        let status = self
            .command("pg_isready")
            .args(["-q", "-U", "postgres", "-d", "postgres", "-h"])
            .arg(&self.directory)
            .status()?;
        Ok(status.success())
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.bin.join(program));
        command.current_dir(&self.directory);
        if let Some((uid, gid)) = self.user {
            command.uid(uid).gid(gid);
        }
        command
    }
}

/// A line of `/proc/…/stat`.
struct Process {
    pid: u32,
    /// What follows the name: state, parent, … as in proc(5).
    fields: Vec<String>,
}

impl Process {
    fn field(&self, i: usize) -> u64 {
        let field = self.fields.get(i).map(|field| field.parse());
        field.and_then(Result::ok).unwrap_or(0)
    }
}

/// A server's process and its children.
fn processes(server: u32) -> Result<Vec<Process>> {
    let mut processes = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let entry = entry?;
        let Ok(pid) = entry.file_name().to_string_lossy().parse() else {
            continue;
        };
        // One that has ended meanwhile is none of them.
        let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else {
            continue;
        };
        let fields = stat.rsplit_once(") ").map_or("", |(_, fields)| fields);
        let fields = fields.split(' ').map(str::to_owned).collect();
        let process = Process { pid, fields };
        if pid == server || process.field(1) == u64::from(server) {
            processes.push(process);
        }
    }
    Ok(processes)
}

impl Drop for Postgres {
    fn drop(&mut self) {
        match self.server.take() {
            Some(mut server) => {
                // One that is paused would not hear that it is to end.
                let _ = self.resume();
                drop(server.stdin.take());
                let _ = server.wait();
            }
            None => {
                let _ = std::fs::remove_dir_all(&self.directory);
            }
        }
    }
}

/// Postgres refuses to run as root: then the user `postgres` does.
fn unprivileged_user() -> Result<Option<(u32, u32)>> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let users = std::fs::read_to_string("/etc/passwd")?;
    let line = users
        .lines()
        .find(|line| line.starts_with("postgres:"))
        .context("Postgres does not run as root, and there is no user postgres")?;
    let mut ids = line.split(':').skip(2).map(str::parse);
    match (ids.next(), ids.next()) {
        (Some(Ok(uid)), Some(Ok(gid))) => Ok(Some((uid, gid))),
        _ => bail!("the user postgres has no ids"),
    }
}
