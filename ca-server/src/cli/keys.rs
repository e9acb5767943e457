//! `ca-server keys`.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Subcommand};
use pki::name::KeyUri;

use crate::app::keys;
use crate::app::tokens::Tokens;
use crate::config::{Config, CredentialName, WrappingSource};

#[derive(Debug, Subcommand)]
#[expect(
    clippy::large_enum_variant,
    reason = "a process has one, and moves it a few times"
)]
pub(super) enum KeysCommand {
    /// Tell what the installation's keys rest under, and since when.
    Show,
    /// Put the installation's keys under something else. Authorities and running servers are not touched; what is under
    /// [keys] in every server's configuration is to be changed before its next start.
    Rekey(New),
}

/// What the keys shall rest under.
#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
pub(super) struct New {
    /// A passphrase in a file.
    #[arg(long, value_name = "FILE")]
    new_passphrase_file: Option<PathBuf>,
    /// A systemd credential of this name.
    #[arg(long, value_name = "NAME")]
    new_credential: Option<CredentialName>,
    /// A secret in a token, as in pkcs11:token=ca;object=signet. It is made there if there is none.
    #[arg(long, value_name = "URI")]
    new_token: Option<KeyUri>,
}

impl New {
    /// The one that was given; clap sees to it that there is one.
    fn source(self) -> Option<WrappingSource> {
        let token = || self.new_token.map(WrappingSource::Token);
        let credential = || self.new_credential.map(WrappingSource::Credential);
        self.new_passphrase_file
            .map(WrappingSource::Passphrase)
            .or_else(credential)
            .or_else(token)
    }
}

pub(super) async fn run(command: KeysCommand, config: &Config) -> Result<()> {
    super::lock_memory(config)?;
    let store = super::open_store(config).await?;
    match command {
        KeysCommand::Show => {
            let installation = keys::installation(&store).await?;
            say!(
                "the installation's keys rest under a {} since {}",
                installation.wrapping,
                installation.changed_at
            );
        }
        KeysCommand::Rekey(new) => {
            let Some(new) = new.source() else {
                return Ok(());
            };
            let (now, actor) = (super::system_now(), super::actor());
            let tokens = Tokens::new(&config.tokens, config.keys.require_confined);
            let replica = &config.replica;
            keys::rekey(&store, &config.keys, &tokens, &new, now, &actor, replica).await?;
            say!("the installation's keys rest under: {new}");
            say!("put it into [keys] of every server's configuration before its next start");
        }
    }
    Ok(())
}
