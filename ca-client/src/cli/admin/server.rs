//! `ca status`, `ca whoami` and `ca clock`.

use anyhow::Result;
use ca_client::api::Call;
use clap::{Args, Subcommand};
use serde_json::json;

use super::Verb;
use super::connection::Connection;
use super::session::Session;
use crate::cli::exit::Exit;

/// Arguments of `ca status`.
#[derive(Debug, Args)]
pub(crate) struct Status {
    #[command(flatten)]
    connection: Connection,
}

impl Status {
    pub(super) async fn run(self) -> Result<Exit> {
        let session = Session::open(&self.connection, crate::cli::now())?;
        let first = ["version", "replica", "clock", "store", "authorities"];
        session.show(&["status"], &first).await
    }
}

/// Arguments of `ca whoami`.
#[derive(Debug, Args)]
pub(crate) struct Whoami {
    #[command(flatten)]
    connection: Connection,
}

impl Whoami {
    pub(super) async fn run(self) -> Result<Exit> {
        let session = Session::open(&self.connection, crate::cli::now())?;
        session.show(&["whoami"], &["principal", "bindings"]).await
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum ClockVerb {
    /// Have the server believe its clock again after a step of more than an hour
    #[command(after_help = "\
Example:
  ca status
  ca clock accept

Compare the clock of the server with another one before you do.")]
    Accept,
}

impl Verb for ClockVerb {
    async fn run(self, session: &Session) -> Result<Exit> {
        let Self::Accept = self;
        let call = Call::post(&["clock", "accept"], json!({}));
        session
            .act(call, |_| "the clock is believed again".to_owned())
            .await
    }
}
