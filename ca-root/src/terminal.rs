//! The terminal, whatever standard input and output are: questions with hidden answers, and texts for one pair of eyes.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};

use anyhow::{Context, bail};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

/// More than any passphrase that is accepted, line ends included.
const MAX_BYTES: usize = 1100;
/// Clears the screen and what it scrolled away.
const CLEAR: &[u8] = b"\x1b[2J\x1b[3J\x1b[H";

/// The controlling terminal.
pub(crate) struct Terminal(File);

impl Terminal {
    /// Opens it; `else_give` is the flag that does without one.
    pub(crate) fn open(else_give: &str) -> anyhow::Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/tty")
            .with_context(|| format!("there is no terminal to ask on: give {else_give}"))?;
        Ok(Self(file))
    }

    /// Shows a text as it is.
    pub(crate) fn say(&mut self, text: &str) -> anyhow::Result<()> {
        self.0.write_all(text.as_bytes())?;
        Ok(())
    }

    /// Asks; the answer is seen.
    pub(crate) fn ask(&mut self, prompt: &str) -> anyhow::Result<String> {
        self.say(prompt)?;
        let line = until(&self.0, Some(b'\n')).context("the terminal cannot be read")?;
        let text = std::str::from_utf8(&line).context("what was typed is not UTF-8")?;
        Ok(text.trim().to_owned())
    }

    /// Asks; the answer is not seen.
    pub(crate) fn ask_hidden(&mut self, prompt: &str) -> anyhow::Result<Zeroizing<Vec<u8>>> {
        // Hidden before it is asked for: who types fast is not seen either.
        let hidden = Hidden::new(&self.0)?;
        (&self.0).write_all(prompt.as_bytes())?;
        let line = until(&self.0, Some(b'\n'));
        drop(hidden);
        self.say("\n")?;
        line.context("the terminal cannot be read")
    }

    /// Shows a secret on an empty screen until the one whom it is for has copied it, and empties the screen again.
    pub(crate) fn show_alone(&mut self, before: &str, secret: &str) -> anyhow::Result<()> {
        self.0.write_all(CLEAR)?;
        self.ask(&format!("{before}, and nobody else looks: press Enter "))?;
        self.0.write_all(CLEAR)?;
        self.say(secret)?;
        let answer = self.ask("\ncopied, and compared line by line: press Enter ");
        self.0.write_all(CLEAR)?;
        answer.map(|_| ())
    }
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
pub(crate) fn until(mut from: impl Read, end: Option<u8>) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_BYTES));
    let mut octet = Zeroizing::new([0; 1]);
    while from.read(octet.as_mut_slice())? == 1 {
        if Some(octet[0]) == end {
            break;
        }
        if bytes.len() == MAX_BYTES {
            bail!("it is longer than any passphrase or PIN: a passphrase has 12 to 1024 bytes");
        }
        bytes.push(octet[0]);
    }
    Ok(bytes)
}
