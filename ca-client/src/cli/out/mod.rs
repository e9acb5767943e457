//! What is said, and how: tables and documents for people, JSON for programs, progress to standard error.

mod document;
mod progress;
mod table;
mod when;

use std::io::{ErrorKind, IsTerminal, Write};

use anyhow::{Context, Result, bail};
use ca_client::printable::{printable, printable_json};
use clap::ValueEnum;
use serde_json::Value;

pub(super) use document::document;
pub(super) use progress::Progress;
pub(super) use table::{Column, Table, text};
pub(super) use when::annotated;

use super::exit::Usage;

/// How the answer is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Form {
    /// For people
    #[default]
    Table,
    /// For programs: the API's document; a list as one array
    Json,
    /// For programs: a list as one document a line, as they come
    Jsonl,
}

/// Writes to standard output. Whoever reads may have seen enough.
///
/// # Errors
/// When it cannot be written.
pub(super) fn put(text: &[u8]) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        other => other.context("cannot write to standard output"),
    }
}

/// A line on standard output.
///
/// # Errors
/// When it cannot be written.
pub(super) fn say(line: &str) -> Result<()> {
    put(format!("{line}\n").as_bytes())
}

/// A line on standard error, for whoever watches.
pub(super) fn note(line: &str) {
    // Nobody is left to tell when it is closed.
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

/// One document.
///
/// # Errors
/// When it cannot be written.
pub(super) fn json(value: &Value, form: Form) -> Result<()> {
    let text = match form {
        Form::Jsonl => serde_json::to_string(value)?,
        Form::Json | Form::Table => serde_json::to_string_pretty(value)?,
    };
    say(&printable_json(&text))
}

/// Asks before something that cannot be taken back.
///
/// # Errors
/// When the answer is no, and as wrong usage when nobody is there to be asked.
pub(super) fn confirm(what: &str, yes: bool) -> Result<()> {
    if yes {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        return Err(Usage(format!(
            "nothing was changed: to {what} takes a yes, and there is no terminal to ask at; look at what is shown above, then repeat \
             with --yes"
        ))
        .into());
    }
    let mut stderr = std::io::stderr().lock();
    write!(stderr, "{}? [y/N] ", printable(what)).context("cannot ask")?;
    stderr.flush().context("cannot ask")?;
    let mut answer = String::new();
    std::io::stdin()
        .read_line(&mut answer)
        .context("cannot ask")?;
    if !matches!(answer.trim(), "y" | "Y" | "yes") {
        bail!("nothing was changed");
    }
    Ok(())
}
