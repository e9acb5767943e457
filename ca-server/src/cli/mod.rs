//! The command line: serving, and administration of the store until the REST API carries it.

/// A line on standard output.
macro_rules! say {
    ($($words:tt)*) => {
        $crate::cli::line(format_args!($($words)*))
    };
}

mod admin;
mod audit;
mod authority;
mod backup;
mod cluster;
mod crl;
mod enrolment;
mod keys;
mod records;
mod revocation;
mod server;

use std::io::{IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use clap::{Parser, Subcommand};
use pki::crl::Reason;
use pki::crypto;
use secrecy::ExposeSecret;

use crate::app::status::watermark;
use crate::app::tokens::Tokens;
use crate::app::{Actor, Context};
use crate::clock::{ClockGuard, SystemClock};
use crate::config::{Config, Faults};
use crate::entropy::{self, SystemEntropy};
use crate::store::{Store, StoreUrl};
use crate::tasks;
use revocation::{Act, Which};

/// Signet's online certificate authority.
#[derive(Debug, Parser)]
#[command(name = "ca-server", version, about, after_help = EXAMPLES)]
struct Cli {
    /// The configuration file.
    #[arg(
        long,
        global = true,
        default_value = "/etc/signet/ca-server.toml",
        env = "SIGNET_CONFIG"
    )]
    config: PathBuf,
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "A new cluster, from its definition to its first certificate:
  ca-server cluster apply central.toml
  ca-server authority request central --out central-1.csr.pem
  (carry the request to the offline root, sign it there, carry the chain back)
  ca-server authority import central-1 central-1.chain.pem
  ca-server serve

Environment: SIGNET__SECTION__KEY overrides a key of the configuration, as in SIGNET__LISTENERS__ISSUE=0.0.0.0:8443.
Exit codes: 0 done, 1 refused or failed, 2 wrong usage.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve: issue certificates until stopped.
    Serve,
    /// Look at the configuration.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Bring the store's schema up to date (SQLite does so by itself).
    Migrate,
    /// Administrators: their certificates and roles.
    #[command(subcommand)]
    Admin(admin::AdminCommand),
    /// Write the whole store into one encrypted file, while servers run.
    Backup(backup::BackupArguments),
    /// Fill an empty store from a backup. Numbers go on from ahead of any that was given out since.
    Restore(backup::Existing),
    /// Clusters: what they are and allow.
    #[command(subcommand)]
    Cluster(cluster::ClusterCommand),
    /// Authorities: request, import, publish, activate.
    #[command(subcommand)]
    Authority(authority::AuthorityCommand),
    /// What the authorities' keys in the store are protected by.
    #[command(subcommand)]
    Keys(keys::KeysCommand),
    /// Enrolment tokens, for what has no identity yet.
    #[command(subcommand)]
    Enrolment(enrolment::EnrolmentCommand),
    /// Issued certificates.
    #[command(subcommand)]
    Records(records::RecordsCommand),
    /// Revoke certificates: for good, and told to everyone within a second.
    Revoke {
        #[command(flatten)]
        which: Which,
        /// Why (RFC 5280 §5.3.1): unspecified, keyCompromise, affiliationChanged, superseded, cessationOfOperation or
        /// privilegeWithdrawn.
        #[arg(long, value_parser = revocation::reason, required_unless_present = "dry_run")]
        reason: Option<Reason>,
    },
    /// Put certificates on hold: revoked, until it is lifted.
    Hold {
        #[command(flatten)]
        which: Which,
    },
    /// Lift holds.
    Lift {
        #[command(flatten)]
        which: Which,
    },
    /// CRLs: the authorities', and those that come from offline CAs.
    #[command(subcommand)]
    Crl(crl::CrlCommand),
    /// The audit trail: who did what, and what was refused.
    #[command(subcommand)]
    Audit(audit::AuditCommand),
    /// The store.
    #[command(subcommand)]
    Store(StoreCommand),
    /// The clock.
    #[command(subcommand)]
    Clock(ClockCommand),
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// List every fault with its key's path.
    Check,
    /// Print what is in force, secrets masked.
    Show,
}

#[derive(Debug, Subcommand)]
enum StoreCommand {
    /// Take a store that has gone back (a restored backup) as it is, where store.watermark_file remembers more.
    Accept {
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Debug, Subcommand)]
enum ClockCommand {
    /// Believe the clock again after a step of more than an hour.
    Accept,
}

/// Runs the program.
#[must_use]
pub fn run() -> ExitCode {
    harden();
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error.into()),
    };
    match runtime.block_on(dispatch(cli)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

fn fail(error: &anyhow::Error) -> ExitCode {
    // A list of faults has lines of its own; nothing else gets to the terminal as it came.
    let words = error.to_string();
    let listed = error.downcast_ref::<Faults>().is_some();
    if listed {
        let lines = words.lines().map(crate::app::printable);
        eprintln!("ca-server: {}", lines.collect::<Vec<_>>().join("\n"));
    } else {
        eprintln!("ca-server: {}", crate::app::chain(error.as_ref()));
    }
    ExitCode::FAILURE
}

/// No core dump, no debugger of the same user, private files: what holds keys does not leave its memory lying around.
/// Where the system refuses, the server runs all the same.
fn harden() {
    use rustix::process::{Resource, Rlimit, setrlimit};
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    let _ = setrlimit(Resource::Core, none);
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
}

async fn dispatch(cli: Cli) -> Result<()> {
    let config = Config::load(&cli.config).map_err(anyhow::Error::from);
    match cli.command {
        Command::Config(ConfigCommand::Check) => {
            let faults = config?.file_faults();
            if !faults.is_empty() {
                return Err(Faults(faults).into());
            }
            say!("{}: no faults", cli.config.display());
        }
        Command::Config(ConfigCommand::Show) => print(&config?.describe())?,
        Command::Migrate => {
            let url = StoreUrl::parse(config?.store_url.expose_secret())?;
            let applied = Store::migrate(&url, system_now())
                .await
                .context("migrate")?;
            for name in &applied {
                say!("applied {name}");
            }
            if applied.is_empty() {
                say!("the schema is up to date");
            }
        }
        Command::Backup(arguments) => backup::run(arguments, config).await?,
        Command::Restore(existing) => backup::restore(&existing, &config?).await?,
        Command::Serve => server::serve(config?, &cli.config).await?,
        Command::Admin(command) => admin::run(command, &config?).await?,
        Command::Cluster(command) => cluster::run(command, &config?).await?,
        Command::Authority(command) => authority::run(command, &config?).await?,
        Command::Keys(command) => keys::run(command, &config?).await?,
        Command::Enrolment(command) => enrolment::run(command, &config?).await?,
        Command::Records(command) => records::run(command, &config?).await?,
        Command::Revoke { which, reason } => {
            revocation::run(Act::Revoke(reason), which, &config?).await?;
        }
        Command::Hold { which } => revocation::run(Act::Hold, which, &config?).await?,
        Command::Lift { which } => revocation::run(Act::Lift, which, &config?).await?,
        Command::Audit(command) => audit::run(command, &config?).await?,
        Command::Crl(command) => crl::run(command, &config?).await?,
        Command::Clock(ClockCommand::Accept) => accept_clock(&config?).await?,
        Command::Store(StoreCommand::Accept { yes }) => accept_store(&config?, yes).await?,
    }
    Ok(())
}

fn system_now() -> pki::time::Timestamp {
    use crate::clock::Clock;
    SystemClock.now()
}

async fn open_store(config: &Config) -> Result<Store> {
    Ok(Store::open(&StoreUrl::parse(config.store_url.expose_secret())?).await?)
}

/// Opens what administration needs, the key-encryption key included.
///
/// # Errors
/// When the store does not open, or the passphrase is another one.
pub async fn open(config: &Config) -> Result<Context> {
    let context = open_as_it_is(config).await?;
    if let Err(error) = crate::app::audit::begin(&context).await {
        tracing::warn!(error = %error.detail(), "the audit trail does not begin");
    }
    Ok(context)
}

/// The same, without a word in the trail.
async fn open_as_it_is(config: &Config) -> Result<Context> {
    lock_memory(config)?;
    let store = open_store(config).await?;
    let tokens = Tokens::new(&config.tokens, config.keys.require_confined);
    let key = crate::app::keys::unlock(&store, &config.keys, &tokens, system_now()).await?;
    store.audit_as(crate::app::keys::auditor(config.replica.clone(), &key)?);
    let context = Context {
        clock: Arc::new(ClockGuard::new(Arc::new(SystemClock))),
        entropy: Arc::new(SystemEntropy::default()),
        key_encryption_key: key,
        tokens: Arc::new(tokens),
        settings: config.status.clone(),
        instance: crypto::hex(&entropy::draw::<8>(&SystemEntropy::default())?),
        store,
    };
    tasks::compare_clock(&context).await?;
    Ok(context)
}

/// Keeps everything that this process has and will have in memory out of swap, where `keys.lock_memory` says so.
///
/// # Errors
/// When the system does not allow so much: a key that may be swapped out is what the operator did not want.
fn lock_memory(config: &Config) -> Result<()> {
    use rustix::mm::MlockAllFlags;
    if !config.keys.lock_memory {
        return Ok(());
    }
    rustix::mm::mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE).context(
        "keys.lock_memory: the system does not let this process lock its memory; give it \
         LimitMEMLOCK=infinity in its systemd unit (elsewhere ulimit -l unlimited), or CAP_IPC_LOCK",
    )
}

/// Who acts on the command line: the operating system's user.
fn actor() -> Actor {
    let user = std::env::var("SUDO_USER").or_else(|_| std::env::var("USER"));
    let user = user.unwrap_or_else(|_| rustix::process::getuid().as_raw().to_string());
    // A name for this command among others in the trail; without randomness it goes without one.
    let id = entropy::draw::<8>(&SystemEntropy::default());
    let id = id.map(|id| crypto::hex(&id)).unwrap_or_default();
    Actor::local(format!("cli:{user}")).in_call(id)
}

async fn accept_store(config: &Config, yes: bool) -> Result<()> {
    let Some(file) = &config.watermark_file else {
        bail!(
            "store.watermark_file is not set: a server that is started again takes the store as it is"
        );
    };
    let context = open(config).await?;
    let store = &context.store;
    let positions = store.status_positions().await?;
    for position in &positions {
        say!(
            "{:<24} {} log entries",
            position.authority,
            position.log_size
        );
    }
    say!(
        "what was issued and revoked after these stays unknown: such a certificate counts as good where it is on record, and as unknown where it is not"
    );
    if !yes && !confirm("take the store as it is")? {
        bail!("nothing was changed");
    }
    watermark::accept(file, &positions, &store.audit_heads().await?)?;
    let now = system_now();
    let sizes: serde_json::Map<_, _> = positions
        .iter()
        .map(|position| (position.authority.to_string(), position.log_size.into()))
        .collect();
    let detail = serde_json::json!({ "logs": sizes });
    let audit = [actor().did(now, "store.accept", &detail)];
    store.append_audit(&audit).await?;
    say!("accepted: start the server again");
    Ok(())
}

async fn accept_clock(config: &Config) -> Result<()> {
    let now = crate::app::clock::accept(&open(config).await?, &actor()).await?;
    say!("accepted: it is {now}; running servers take it up within seconds");
    Ok(())
}

/// Asks a person.
///
/// # Errors
/// When there is nobody to ask.
fn confirm(what: &str) -> Result<bool> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        bail!("there is nobody to ask: say --yes to {what}");
    }
    print!("{what}? Type yes: ");
    std::io::stdout().flush()?;
    let mut answer = String::new();
    stdin.read_line(&mut answer)?;
    Ok(answer.trim() == "yes")
}

/// Who pipes into `head` has seen enough. Whatever else keeps a line from being written has to be heard of: it may be the only
/// one with a token in it.
fn line(words: std::fmt::Arguments<'_>) {
    match writeln!(std::io::stdout(), "{words}") {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            eprintln!("ca-server: standard output cannot be written: {error}");
            std::process::exit(1);
        }
        _ => {}
    }
}

/// Prints to a reader who may have seen enough (`| head`).
fn print(text: &str) -> Result<()> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
}

/// Writes a file that is not there yet; others may read it.
fn write_new(path: &Path, bytes: &[u8]) -> Result<()> {
    NewFile::create(path)?.write(bytes)
}

/// A file that was not there, made before there is anything to write; it goes again when nothing is.
struct NewFile<'a> {
    path: &'a Path,
    file: std::fs::File,
    written: bool,
}

impl<'a> NewFile<'a> {
    /// It is never one that is there: nothing is overwritten.
    fn create(path: &'a Path) -> Result<Self> {
        let mut options = std::fs::OpenOptions::new();
        let file = options
            .write(true)
            .create_new(true)
            .mode(0o644)
            .open(path)
            .with_context(|| format!("{} cannot be made", path.display()))?;
        Ok(Self {
            path,
            file,
            written: false,
        })
    }

    fn write(mut self, bytes: &[u8]) -> Result<()> {
        let written = self
            .file
            .write_all(bytes)
            .and_then(|()| self.file.sync_all());
        self.written = written.is_ok();
        written.with_context(|| self.path.display().to_string())
    }
}

impl Drop for NewFile<'_> {
    fn drop(&mut self) {
        if !self.written {
            let _ = std::fs::remove_file(self.path);
        }
    }
}
