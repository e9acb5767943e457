//! The passphrase: from a file or from the terminal, never from an argument or the environment.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, bail};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

/// More than any passphrase that is accepted, line ends included.
const MAX_BYTES: usize = 1100;

/// Reads the passphrase: from `file`, or else from the terminal, twice when a key is made.
pub(crate) fn read(file: Option<&Path>, twice: bool) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    if let Some(path) = file {
        let file = File::open(path)
            .with_context(|| format!("the passphrase file {} cannot be opened", path.display()))?;
        let mode = file
            .metadata()
            .map_or(0, |it| it.permissions().mode() & 0o777);
        if mode & 0o077 != 0 {
            eprintln!(
                "ca-root: warning: others may read {} (mode {mode:o}): chmod 600",
                path.display()
            );
        }
        return until(file, None).context("the passphrase file cannot be read");
    }
    let first = ask("passphrase of the root's key: ")?;
    if twice && *first != *ask("the same again: ")? {
        bail!("the two passphrases differ; nothing was signed");
    }
    Ok(first)
}

fn ask(prompt: &str) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    let mut terminal = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/tty")
        .context("there is no terminal to ask for the passphrase: give --passphrase-file")?;
    terminal.write_all(prompt.as_bytes())?;
    let hidden = Hidden::new(&terminal)?;
    let line = until(&terminal, Some(b'\n'));
    drop(hidden);
    terminal.write_all(b"\n")?;
    line.context("the passphrase cannot be read from the terminal")
}

/// A terminal that shows nothing of what is typed until this is dropped.
struct Hidden<'a> {
    terminal: &'a File,
    before: Termios,
}

impl<'a> Hidden<'a> {
    fn new(terminal: &'a File) -> anyhow::Result<Self> {
        let before = tcgetattr(terminal).context("the terminal does not tell its modes")?;
        let mut hidden = before.clone();
        hidden.local_modes.remove(LocalModes::ECHO);
        tcsetattr(terminal, OptionalActions::Flush, &hidden)
            .context("the terminal cannot be told to hide what is typed")?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Hidden<'_> {
    fn drop(&mut self) {
        // A terminal that has gone away needs no restoring.
        let _ = tcsetattr(self.terminal, OptionalActions::Flush, &self.before);
    }
}

/// Reads octet by octet into one buffer that never moves, so that no copy is left behind.
fn until(mut from: impl Read, end: Option<u8>) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_BYTES));
    let mut octet = Zeroizing::new([0; 1]);
    while from.read(octet.as_mut_slice())? == 1 {
        if Some(octet[0]) == end {
            break;
        }
        if bytes.len() == MAX_BYTES {
            bail!("a passphrase has 12 to 1024 bytes");
        }
        bytes.push(octet[0]);
    }
    Ok(bytes)
}
