//! The installed parts (`tests/parts/install`): where they are, and how a test says that it goes without.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};

/// The repository's root.
#[must_use]
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .map_or_else(PathBuf::new, Path::to_path_buf)
}

/// The part that the variable `name` points to; where there is none, `test` is reported as skipped.
#[must_use]
pub fn part_or_skip(test: &str, name: &str) -> Option<PathBuf> {
    match std::env::var_os(name) {
        Some(path) if !path.is_empty() => Some(path.into()),
        _ => {
            skip(test, &format!("{name} is not set; see tests/parts/install"));
            None
        }
    }
}

/// Says that `test` did not run: to `tests/run` by the file in `SIGNET_SKIPS`, to a person on stderr.
pub fn skip(test: &str, reason: &str) {
    eprintln!("skipped {test}: {reason}");
    let Some(file) = std::env::var_os("SIGNET_SKIPS") else {
        return;
    };
    let line = format!("{test}: {reason}\n");
    // One write in append mode, so that tests in parallel do not mix their lines.
    let written = std::fs::OpenOptions::new()
        .append(true)
        .create(true)
        .open(file)
        .and_then(|mut file| file.write_all(line.as_bytes()));
    if let Err(error) = written {
        eprintln!("the skip is not on record: {error}");
    }
}

/// Runs `command` to its end, whatever its exit status.
///
/// # Errors
/// When it cannot be started.
pub fn output(command: &mut Command) -> Result<Output> {
    command.output().with_context(|| format!("{command:?}"))
}

/// Runs `command` and gives its standard output.
///
/// # Errors
/// When it cannot be started or fails.
pub fn stdout(command: &mut Command) -> Result<Vec<u8>> {
    let output = output(command)?;
    ensure!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(output.stdout)
}
