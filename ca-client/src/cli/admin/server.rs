//! `ca status`, `ca whoami` and `ca clock`.

use anyhow::Result;
use ca_client::api::Call;
use clap::{Args, Subcommand};
use serde_json::json;

use super::Verb;
use super::connection::Connection;
use super::session::Session;
use crate::cli::exit::Exit;
use crate::cli::out::{self, Column, Form, Table};

const BINDINGS: &[Column] = &[
    Column::of("ROLE", "role"),
    Column::of("CLUSTERS (- IS ALL)", "clusters"),
    Column::of("BINDING", "id"),
];

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
        let (value, _) = session.read(&["whoami"]).await?;
        if session.output != Form::Table {
            out::json(&value, session.output)?;
            return Ok(Exit::Done);
        }
        out::say(&out::text(&value["principal"]))?;
        let bindings = value["bindings"].as_array().map(Vec::as_slice);
        match bindings.unwrap_or_default() {
            [] => out::note("it has no role: a security officer gives one with `ca role bind`"),
            bindings => out::put(Table::new(BINDINGS, session.now).rows(bindings).as_bytes())?,
        }
        Ok(Exit::Done)
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
