//! `ca completions` and `ca man`: what is made of the command line itself.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::exit::Exit;
use super::out;

pub(super) const COMPLETIONS: &str = "\
Examples:
  ca completions bash > /etc/bash_completion.d/ca
  ca completions zsh > \"${fpath[1]}/_ca\"";

pub(super) const MAN: &str = "\
Example:
  ca man ~/.local/share/man/man1 && man ca-certificate-revoke";

/// Arguments of `ca completions`.
#[derive(Debug, Args)]
pub(crate) struct Completions {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Arguments of `ca man`.
#[derive(Debug, Args)]
pub(crate) struct Manual {
    /// Folder for the pages, one for each command; it is made if it is not there
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

impl Completions {
    pub(super) fn run(&self) -> Result<Exit> {
        let mut script = Vec::new();
        let mut command = super::Arguments::command();
        clap_complete::generate(self.shell, &mut command, "ca", &mut script);
        out::put(&script)?;
        Ok(Exit::Done)
    }
}

impl Manual {
    pub(super) fn run(&self) -> Result<Exit> {
        let shown = || format!("cannot write to {}", self.directory.display());
        std::fs::create_dir_all(&self.directory).with_context(shown)?;
        clap_mangen::generate_to(super::Arguments::command(), &self.directory)
            .with_context(shown)?;
        Ok(Exit::Done)
    }
}
