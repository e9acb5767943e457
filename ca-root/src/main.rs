//! `ca-root`, the offline root: plans, shows, signs, writes a transcript. It links no network code.
//!
//! The way of a ceremony: [`run::run`] reads the plan and its files once; [`confirm`] shows in words what will be signed
//! and asks the witnesses and whoever leads; [`hold`] opens the key, in a file or a token, with what [`secret`] and
//! [`gather`] were given, and signs; each file is written once, last the transcript that [`check::verify`] checks later.

mod check;
mod confirm;
mod folder;
mod gather;
mod hold;
mod key;
mod run;
mod secret;
mod signed;
mod template;
mod terminal;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand};
use pki::time::Timestamp;
use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::{
    DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit,
};

/// The offline root of Signet: every use of the root's key is a ceremony with one plan file.
///
/// Exit codes: 0 done, 1 refused or failed, 2 wrong usage.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print a plan to fill in.
    Plan {
        /// The ceremony.
        ceremony: template::Template,
    },
    /// Hold a ceremony: show what the plan says, ask, sign, write.
    Run(run::Arguments),
    /// Print a plan as a script: one page for the people in the room to read, tick off and sign.
    Script {
        /// The plan.
        plan: PathBuf,
    },
    /// Export, import or re-encrypt a key file.
    #[command(subcommand)]
    Key(key::Command),
    /// Check a ceremony afterwards, without the key.
    Verify {
        /// The transcript.
        transcript: PathBuf,
        /// The folder of the plan's files; the transcript's own by default.
        #[arg(long)]
        dir: Option<PathBuf>,
    },
    /// Print a request, certificate, CRL, transcript or share in words; of a share nothing that is secret.
    Show {
        /// The file.
        file: PathBuf,
    },
}

fn main() -> ExitCode {
    // Wrong usage ends here, with exit code 2.
    let arguments = Arguments::parse();
    match no_core_dumps().and_then(|()| dispatch(arguments.command)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nothing is left to tell when standard error is closed.
            let _ = writeln!(
                std::io::stderr(),
                "ca-root: {}",
                printable(&format!("{error:#}"))
            );
            ExitCode::FAILURE
        }
    }
}

fn dispatch(command: Command) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match command {
        Command::Plan { ceremony } => write!(out, "{}", ceremony.text())?,
        Command::Run(arguments) => {
            lock_memory();
            run::run(&arguments, now, &mut out)?;
        }
        Command::Script { plan } => check::script(&plan, &mut out)?,
        Command::Key(command) => {
            lock_memory();
            key::run(&command, &mut out)?;
        }
        Command::Verify { transcript, dir } => {
            check::verify(&transcript, dir.as_deref(), &mut out)?;
        }
        Command::Show { file } => check::show(&file, &mut out)?,
    }
    out.flush()?;
    Ok(())
}

/// The time, the only place where this program reads it.
#[expect(
    clippy::disallowed_methods,
    reason = "programs read the clock in main and pass it on"
)]
fn now() -> Timestamp {
    let since_1970 = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp::from_unix(i64::try_from(since_1970.as_secs()).unwrap_or(i64::MAX))
}

/// The key and the passphrase stand in this process's memory: no core file, and no reading it by our own user.
fn no_core_dumps() -> anyhow::Result<()> {
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    setrlimit(Resource::Core, none).context("core dumps cannot be switched off")?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .context("this process cannot be made unreadable to others")
}

/// Keeps keys and passphrases out of the swap, where the system lets us: with a limit, locking would succeed here and
/// make an allocation fail in the midst of a ceremony.
fn lock_memory() {
    let limit = getrlimit(Resource::Memlock);
    let unlimited = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    let locked = limit.maximum.is_none()
        && setrlimit(Resource::Memlock, unlimited).is_ok()
        && mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE).is_ok();
    if !locked {
        eprintln!(
            "ca-root: warning: memory cannot be locked here (ulimit -l unlimited lets it): turn swap off"
        );
    }
}

/// What a plan or a file put into an error must not steer the terminal.
fn printable(text: &str) -> String {
    text.chars()
        .map(|c| {
            if c.is_control() && c != '\n' {
                '\u{fffd}'
            } else {
                c
            }
        })
        .collect()
}
