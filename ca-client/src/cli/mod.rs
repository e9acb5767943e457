//! The command line: results go to standard output, everything else to standard error.

mod admin;
mod bundle;
mod enroll;
mod exit;
mod generate;
mod inspect;
mod out;
mod renew;

use std::future::Future;
use std::io::{ErrorKind, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use ca_client::{ClientError, Endpoint, ServerAddress, ServerName};
use clap::{Args, Parser, Subcommand, ValueEnum};
use pki::time::Timestamp;
use serde::Serialize;
use tracing_subscriber::filter::LevelFilter;

use exit::Exit;

const NOTES: &str = "\
Tokens are read from files or standard input (-), never from the command line or the environment.
Logs go to standard error; SIGNET_LOG sets what is logged (error, warn, info, debug).";

/// Signet's client: gets certificates, keeps them fresh, says what is in them, and administers a CA.
#[derive(Debug, Parser)]
#[command(name = "ca", version, after_help = format!("{}\n\n{NOTES}", exit::CODES))]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a key, get its certificate for a token, and write key, chain and roots together.
    #[command(after_help = enroll::EXAMPLES)]
    Enroll(enroll::Arguments),
    /// Renew a certificate with itself as the proof: now, or with --watch at half of each one's life.
    #[command(after_help = renew::EXAMPLES)]
    Renew(renew::Arguments),
    /// Print a certificate, a chain, a request or a CRL in words.
    #[command(after_help = inspect::EXAMPLES)]
    Inspect(inspect::Arguments),
    /// Write the roots of a trust domain to a file, once or whenever they change.
    #[command(after_help = bundle::EXAMPLES)]
    Bundle(bundle::Arguments),
    #[command(flatten)]
    Administration(Box<admin::Administration>),
    /// Print a script by which a shell completes our commands
    #[command(after_help = generate::COMPLETIONS)]
    Completions(generate::Completions),
    /// Write the manual, a page for each command
    #[command(after_help = generate::MAN)]
    Man(generate::Manual),
}

/// How a result is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people.
    #[default]
    Text,
    /// For programs: one JSON document.
    Json,
}

/// Where the server is, and who vouches for it.
#[derive(Debug, Args)]
struct Server {
    /// The CA's issuance listener, https://host:port
    #[arg(long, env = "SIGNET_SERVER", value_name = "URL")]
    server: ServerAddress,
    /// PEM file of the roots that vouch for the server
    #[arg(long, env = "SIGNET_ROOTS", value_name = "FILE")]
    roots: PathBuf,
    /// The name in the server's certificate, where it is not the host of --server
    #[arg(long, env = "SIGNET_SERVER_NAME", value_name = "NAME")]
    server_name: Option<ServerName>,
}

impl Server {
    fn endpoint(&self) -> Result<Endpoint> {
        let (server, name) = (self.server.clone(), self.server_name.clone());
        let endpoint = Endpoint::with_roots_of(server, &self.roots, name);
        Ok(endpoint.map_err(ClientError::from)?)
    }
}

/// Runs the command and says how it ended.
pub(crate) fn run(arguments: Arguments) -> ExitCode {
    start_log();
    let result = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the asynchronous runtime did not start")
        .and_then(|runtime| {
            runtime.block_on(async {
                match arguments.command {
                    Command::Enroll(arguments) => enroll::run(arguments).await.map(done),
                    Command::Renew(arguments) => renew::run(arguments).await.map(done),
                    Command::Inspect(arguments) => inspect::run(&arguments).map(done),
                    Command::Bundle(arguments) => bundle::run(arguments).await.map(done),
                    Command::Administration(command) => command.run().await,
                    Command::Completions(arguments) => arguments.run(),
                    Command::Man(arguments) => arguments.run(),
                }
            })
        });
    match result {
        Ok(exit) => exit.into(),
        Err(error) => {
            let (code, text) = exit::report(&error);
            out::note(&text);
            code
        }
    }
}

fn done((): ()) -> Exit {
    Exit::Done
}

fn start_log() {
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    // A level; what is none is the usual one. Empty would be a level too.
    let wanted = std::env::var("SIGNET_LOG").ok().filter(|it| !it.is_empty());
    let level: Option<LevelFilter> = wanted.and_then(|it| it.parse().ok());
    tracing_subscriber::fmt()
        .with_max_level(level.unwrap_or(LevelFilter::INFO))
        .with_writer(std::io::stderr)
        // Files and pipes get no escapes, and nobody who asks for none (no-color.org).
        .with_ansi(std::io::stderr().is_terminal() && !no_color)
        .with_target(false)
        .init();
}

/// Prints a result: as JSON, or as the text that `text` makes.
fn print<T: Serialize>(output: Output, value: &T, text: impl FnOnce() -> String) -> Result<()> {
    let mut document = match output {
        Output::Text => text(),
        Output::Json => serde_json::to_string_pretty(value)?,
    };
    if !document.ends_with('\n') {
        document.push('\n');
    }
    match std::io::stdout().lock().write_all(document.as_bytes()) {
        // Whoever read has seen enough.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        other => other.context("cannot write the result"),
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the program's one reading of the clock"
)]
fn now() -> Timestamp {
    let since_1970 = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp::from_unix(i64::try_from(since_1970.as_secs()).unwrap_or(i64::MAX))
}

/// Is done when somebody ends us: SIGTERM, or ctrl-c.
fn stopped() -> Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping");
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent_and_takes_no_secret() {
        let mut command = Arguments::command();
        command.clone().debug_assert();
        command.build();
        let mut count = 0;
        each(&command, &mut |command| {
            for argument in command.get_arguments() {
                count += 1;
                let name = argument.get_id().as_str();
                let secret = name.contains("token") || name.contains("password");
                assert!(!secret || name.ends_with("_file"), "{name}");
            }
        });
        assert!(count > 300, "{count}");
    }

    fn each(command: &clap::Command, visit: &mut dyn FnMut(&clap::Command)) {
        visit(command);
        for subcommand in command.get_subcommands() {
            each(subcommand, visit);
        }
    }

    #[test]
    fn every_command_has_a_help_with_an_example() {
        let mut command = Arguments::command().term_width(100);
        command.build();
        let mut all = String::new();
        each(&command, &mut |command| {
            let name = command.get_bin_name().unwrap_or("ca");
            if name.starts_with("ca help") || name.contains(" help") {
                return;
            }
            let help = command.clone().term_width(100).render_long_help();
            let help = help.to_string();
            let is_leaf = command.get_subcommands().next().is_none();
            assert!(!is_leaf || help.contains("Example"), "{name}");
            all.push_str(&format!("=== {name} --help\n{}\n", shortened(name, &help)));
        });
        // The file is read by people too: each line without what nobody sees.
        let lines: Vec<&str> = all.lines().map(str::trim_end).collect();
        insta::assert_snapshot!("help", lines.join("\n"));
    }

    #[test]
    fn every_command_of_administration_takes_the_connections_flags() {
        // A global flag is left out without a word where a command has an argument of the same id.
        let mut command = Arguments::command();
        command.build();
        let alone = [
            "enroll",
            "renew",
            "inspect",
            "bundle",
            "context",
            "completions",
            "man",
            "help",
            "admin request",
        ];
        each(&command, &mut |command| {
            let name = command
                .get_bin_name()
                .unwrap_or("ca")
                .trim_start_matches("ca ");
            let is_leaf = command.get_subcommands().next().is_none();
            if !is_leaf || name.contains("help") || alone.iter().any(|word| name.starts_with(word))
            {
                return;
            }
            for flag in [
                "context",
                "url",
                "root",
                "server-name",
                "cert",
                "key",
                "token-file",
                "timeout",
                "output",
            ] {
                let mut longs = command
                    .get_arguments()
                    .filter_map(|argument| argument.get_long());
                assert!(longs.any(|long| long == flag), "{name} --{flag}");
            }
        });
    }

    /// What is the same everywhere stands in the file once, with `ca status`.
    fn shortened(name: &str, help: &str) -> String {
        let marks = ["  -o, --output <FORM>\n", "\nConnection:\n"];
        let mut help = help.to_owned();
        for (mark, end) in marks.into_iter().zip(["  -h, --help", "\nExample"]) {
            if let (Some(from), false) = (help.find(mark), name == "ca status") {
                let rest = &help[from..];
                let length = rest.find(end).unwrap_or(rest.len());
                help.replace_range(from..from + length, &format!("{} …\n", mark.trim_end()));
            }
        }
        help
    }

    #[test]
    fn enrolment_needs_exactly_one_kind_of_token() {
        let parse = |more: &[&str]| {
            let mut words = vec![
                "ca",
                "enroll",
                "--server",
                "https://a",
                "--roots",
                "r",
                "--dir",
                "d",
            ];
            words.extend(more);
            Arguments::try_parse_from(words).map(|_| ())
        };
        assert!(parse(&["--token-file", "t", "--cluster", "c"]).is_ok());
        assert!(parse(&["--enrolment-token-file", "-"]).is_ok());
        assert!(parse(&[]).is_err());
        assert!(parse(&["--token-file", "t"]).is_err());
        assert!(
            parse(&[
                "--token-file",
                "t",
                "--cluster",
                "c",
                "--enrolment-token-file",
                "e"
            ])
            .is_err()
        );
        assert!(parse(&["--enrolment-token-file", "-", "--ttl", "1"]).is_err());
    }
}
