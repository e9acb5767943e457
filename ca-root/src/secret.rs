//! What opens a key: a passphrase or a PIN, from a file, from the terminal or from shares; never from an argument or the
//! environment.

use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use hsm::shares;
use pki::ceremony::{Opened, Person};
use zeroize::Zeroizing;

use crate::gather::{self, From};
use crate::terminal::{Terminal, until};

/// How a key file is opened.
#[derive(Debug, clap::Args)]
pub(crate) struct Opening {
    /// Read the key's passphrase from this file; by default it is asked for on the terminal.
    #[arg(long)]
    pub(crate) passphrase_file: Option<PathBuf>,
    /// A holder's share, in a file. Repeat it for each holder.
    #[arg(long, value_name = "FILE", conflicts_with = "passphrase_file")]
    share: Vec<PathBuf>,
    /// Have shares typed on the terminal, one by one, until there are enough.
    #[arg(long, conflicts_with = "passphrase_file")]
    ask_shares: bool,
}

/// A passphrase or a PIN, and whose shares gave it.
pub(crate) struct Secret {
    pub(crate) bytes: Zeroizing<Vec<u8>>,
    pub(crate) opened: Option<Opened>,
}

impl Opening {
    /// The passphrase of a key file. `root` is the name on the shares, where it is known; `opened_by`, whom a plan names.
    pub(crate) fn passphrase(
        &self,
        root: Option<&str>,
        opened_by: &[Person],
    ) -> anyhow::Result<Secret> {
        if let Some((secret, opened)) = self.shares(root, opened_by)? {
            let bytes = Zeroizing::new(shares::passphrase(&secret).as_bytes().to_vec());
            return Ok(Secret {
                bytes,
                opened: Some(opened),
            });
        }
        if !opened_by.is_empty() {
            bail!("the plan says that shares open the key: give --share or --ask-shares");
        }
        let bytes = passphrase(self.passphrase_file.as_deref(), false)?;
        Ok(Secret {
            bytes,
            opened: None,
        })
    }

    /// The PIN of a token.
    pub(crate) fn pin(
        &self,
        file: Option<&Path>,
        root: Option<&str>,
        opened_by: &[Person],
    ) -> anyhow::Result<Secret> {
        if self.passphrase_file.is_some() {
            bail!("the key is in a token, which has a PIN and no passphrase: give --pin-file");
        }
        if let Some((bytes, opened)) = self.shares(root, opened_by)? {
            return Ok(Secret {
                bytes,
                opened: Some(opened),
            });
        }
        if !opened_by.is_empty() {
            bail!("the plan says that shares open the token: give --share or --ask-shares");
        }
        let bytes = match file {
            Some(path) => from_file(path, "PIN")?,
            None => Terminal::open("--pin-file")?.ask_hidden("PIN of the token: ")?,
        };
        Ok(Secret {
            bytes: without_line_ends(&bytes),
            opened: None,
        })
    }

    fn shares(
        &self,
        root: Option<&str>,
        opened_by: &[Person],
    ) -> anyhow::Result<Option<(Zeroizing<Vec<u8>>, Opened)>> {
        let by_plan = !opened_by.is_empty() && self.passphrase_file.is_none();
        if self.share.is_empty() && !self.ask_shares && !by_plan {
            return Ok(None);
        }
        let from = From {
            files: &self.share,
            // Where files are given, only these; who wants both says so.
            ask: self.ask_shares || self.share.is_empty(),
            root,
            opened_by,
        };
        gather::secret(&from).map(Some)
    }
}

/// A passphrase: from `file`, or else from the terminal, twice when a key is made.
pub(crate) fn passphrase(file: Option<&Path>, twice: bool) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    if let Some(path) = file {
        return from_file(path, "passphrase");
    }
    let mut terminal = Terminal::open("--passphrase-file")?;
    let which = if twice {
        "new passphrase"
    } else {
        "passphrase"
    };
    let first = terminal.ask_hidden(&format!("{which} of the root's key: "))?;
    if twice && *first != *terminal.ask_hidden("the same again: ")? {
        bail!("the two passphrases differ; nothing was signed");
    }
    Ok(first)
}

fn from_file(path: &Path, what: &str) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    let file = File::open(path)
        .with_context(|| format!("the {what} file {} cannot be opened", path.display()))?;
    warn_of_mode(&file, path);
    until(file, None).with_context(|| format!("the {what} file cannot be read"))
}

/// Says so when others may read a secret's file.
pub(crate) fn warn_of_mode(file: &File, path: &Path) {
    let mode = file
        .metadata()
        .map_or(0, |it| it.permissions().mode() & 0o777);
    if mode & 0o077 != 0 {
        eprintln!(
            "ca-root: warning: others may read {} (mode {mode:o}): chmod 600",
            path.display()
        );
    }
}

fn without_line_ends(bytes: &[u8]) -> Zeroizing<Vec<u8>> {
    let end = bytes.iter().rposition(|b| !matches!(b, b'\n' | b'\r'));
    Zeroizing::new(bytes[..end.map_or(0, |i| i + 1)].to_vec())
}
