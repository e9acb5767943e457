//! Key files outside of ceremonies: nothing is signed here, a key changes its wrapping.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Subcommand;
use hsm::{Signer, SoftwareSigner, key_file};
use pki::ceremony::{digest_words, name_words};
use pki::certificate::Certificate;

use crate::folder::{self, FOR_OWNER};
use crate::secret::{Opening, passphrase};

/// What is done with a key file.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Write a copy of a key for another program, under a passphrase of its own: PKCS#8, PBES2 with scrypt and AES-256.
    Export(Move),
    /// Take a key over from another program's file, as `openssl pkcs8 -topk8 -v2 aes-256-cbc -scrypt` writes it.
    Import(Move),
    /// Put a key file under another passphrase, in its place. Copies of it, and shares, keep opening the old file.
    ChangePassphrase(Change),
}

/// From one file to another.
#[derive(Debug, clap::Args)]
pub(crate) struct Move {
    /// The file that is read.
    from: PathBuf,
    /// The file that is written; it must not exist.
    #[arg(long)]
    out: PathBuf,
    #[command(flatten)]
    open: Open,
}

/// In place.
#[derive(Debug, clap::Args)]
pub(crate) struct Change {
    /// The key file.
    key: PathBuf,
    #[command(flatten)]
    open: Open,
}

#[derive(Debug, clap::Args)]
struct Open {
    #[command(flatten)]
    opening: Opening,
    /// The root's certificate: the key has to be its key, and typed shares have to be of it.
    #[arg(long)]
    certificate: Option<PathBuf>,
    /// Read the new passphrase from this file; by default it is asked for on the terminal.
    #[arg(long)]
    new_passphrase_file: Option<PathBuf>,
}

/// Does it.
pub(crate) fn run(command: &Command, out: &mut dyn Write) -> anyhow::Result<()> {
    match command {
        Command::Export(it) | Command::Import(it) => {
            if folder::exists(&it.out) {
                let out = it.out.display();
                bail!("{out}: exists already, and nothing is overwritten");
            }
            let (signer, text) = it.open.reencrypt(&it.from)?;
            folder::write_new(&it.out, text.as_bytes(), FOR_OWNER)?;
            tell(&signer, &it.out, out)
        }
        Command::ChangePassphrase(it) => {
            let (signer, text) = it.open.reencrypt(&it.key)?;
            folder::replace(&it.key, text.as_bytes(), FOR_OWNER)?;
            tell(&signer, &it.key, out)
        }
    }
}

fn tell(signer: &SoftwareSigner, written: &Path, out: &mut dyn Write) -> anyhow::Result<()> {
    let key = signer.public_key();
    writeln!(
        out,
        "wrote {}, a {} key",
        written.display(),
        key.algorithm()
    )?;
    writeln!(out, "  its SHA-256 {}", digest_words(&key.digest()))?;
    Ok(())
}

impl Open {
    fn reencrypt(&self, path: &Path) -> anyhow::Result<(SoftwareSigner, String)> {
        let shown = path.display();
        let text = folder::read_existing(path)?;
        let root = self.root()?;
        let name = root.as_ref().map(|root| name_words(root.subject()));
        let old = self.opening.passphrase(name.as_deref(), &[])?;
        // Told before a new passphrase is thought of.
        let signer = key_file::decrypt(&text, &old.bytes).with_context(|| format!("{shown}"))?;
        if let Some(root) = root
            && root.public_key()? != *signer.public_key()
        {
            bail!("{shown} is not the key of the certificate; nothing was written");
        }
        let new = passphrase(self.new_passphrase_file.as_deref(), true)?;
        key_file::reencrypt(&text, &old.bytes, &new).context("nothing was written")
    }

    fn root(&self) -> anyhow::Result<Option<Certificate>> {
        let Some(path) = &self.certificate else {
            return Ok(None);
        };
        let found = Certificate::parse_pem(&folder::read_existing(path)?)
            .with_context(|| format!("{}", path.display()))?;
        let found = found.into_iter().next();
        Ok(Some(found.with_context(|| {
            format!("{}: no certificate", path.display())
        })?))
    }
}
