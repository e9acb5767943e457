//! `ca-root`, the offline root: plans, shows, signs, writes a transcript. It links no network code.
//!
//! The way of a ceremony: [`run::run`] reads the plan and its files once, shows in words what will be signed, asks,
//! opens the key, signs, writes each file once, and ends with the transcript that [`check::verify`] checks later.

mod check;
mod folder;
mod passphrase;
mod run;
mod signed;
mod template;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand};
use pki::time::Timestamp;
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

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
    /// Check a ceremony afterwards, without the key.
    Verify {
        /// The transcript.
        transcript: PathBuf,
        /// The folder of the plan's files; the transcript's own by default.
        #[arg(long)]
        dir: Option<PathBuf>,
    },
    /// Print a request, certificate, CRL or transcript in words.
    Show {
        /// The file, PEM.
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
        Command::Run(arguments) => run::run(&arguments, now, &mut out)?,
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
