//! `ca proposal`: what waits for a second person.

use anyhow::{Result, bail};
use ca_client::api::Call;
use clap::Subcommand;
use serde_json::json;

use super::Verb;
use super::session::{Paging, Session};
use crate::cli::exit::Exit;
use crate::cli::out::{self, Column, Form};

const COLUMNS: &[Column] = &[
    Column::of("ID", "id"),
    Column::of("STATE", "state"),
    Column::of("KIND", "kind"),
    Column::of("CLUSTER", "cluster"),
    Column::of("BY", "created_by"),
    Column::time("UNTIL", "expires_at"),
];

/// What people see first of a proposal.
pub(super) const FIRST: &[&str] = &[
    "id",
    "state",
    "kind",
    "cluster",
    "created_by",
    "expires_at",
    "changes",
];

#[derive(Debug, Subcommand)]
pub(crate) enum ProposalVerb {
    /// List the proposals
    #[command(after_help = "Example:\n  ca proposal list")]
    List(Paging),
    /// Print a proposal: what would be done, exactly
    #[command(after_help = "Example:\n  ca proposal show 5d0a")]
    Show {
        /// Its id
        id: String,
    },
    /// Agree, as the second person: it is carried out
    #[command(after_help = "Example:\n  ca proposal show 5d0a && ca proposal approve 5d0a")]
    Approve {
        /// Its id
        id: String,
    },
    /// Disagree: it is not carried out
    #[command(after_help = "Example:\n  ca proposal reject 5d0a")]
    Reject {
        /// Its id
        id: String,
    },
    /// Take back what you have proposed
    #[command(after_help = "Example:\n  ca proposal withdraw 5d0a")]
    Withdraw {
        /// Its id
        id: String,
    },
}

impl Verb for ProposalVerb {
    async fn run(self, session: &Session) -> Result<Exit> {
        let (id, verb, done) = match self {
            Self::List(paging) => {
                let call = Call::get(&["proposals"]);
                return session.list(call, paging, COLUMNS).await;
            }
            Self::Show { id } => return session.show(&["proposals", &id], FIRST).await,
            Self::Approve { id } => (id, "approve", "approved"),
            Self::Reject { id } => (id, "reject", "rejected"),
            Self::Withdraw { id } => (id, "withdraw", "withdrawn"),
        };
        let call = Call::post(&["proposals", &id, verb], json!({}));
        let value = session.send(&call).await?.json()?;
        match session.output {
            Form::Table => out::say(&format!(
                "proposal {} ({}) {done}: it is {}",
                out::text(&json!(id)),
                out::text(&value["kind"]),
                out::text(&value["state"])
            ))?,
            form => out::json(&value, form)?,
        }
        // Agreed, and then it could not be done: what it was to change has changed meanwhile.
        if value["state"] == json!("failed") {
            bail!("it was not carried out: {}", out::text(&value["outcome"]));
        }
        Ok(Exit::Done)
    }
}
