//! `ca proposal`: what waits for a second person.

use anyhow::{Result, bail};
use ca_client::api::Call;
use clap::Subcommand;
use serde_json::{Value, json};

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
const FIRST: &[&str] = &["id", "state", "kind", "cluster", "created_by", "expires_at"];

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
            Self::Show { id } => {
                let (value, _) = session.read(&["proposals", &id]).await?;
                print(session, &value)?;
                return Ok(Exit::Done);
            }
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

/// Prints a proposal, what it changes last: that is what somebody agrees to.
pub(super) fn print(session: &Session, proposal: &Value) -> Result<()> {
    if session.output != Form::Table {
        return out::json(proposal, session.output);
    }
    let mut rest = proposal.clone();
    let changes = rest.as_object_mut().and_then(|map| map.remove("changes"));
    session.print(&rest, FIRST)?;
    out::put(changes_text(changes.as_ref()).as_bytes())
}

fn changes_text(changes: Option<&Value>) -> String {
    let mut text = String::new();
    for change in changes.and_then(Value::as_array).into_iter().flatten() {
        text.push_str(&format!("\n{}\n", out::text(&change["what"])));
        for (mark, key) in [("-", "before"), ("+", "after")] {
            // A text of several lines stays one.
            if let Some(value) = change[key].as_str() {
                for line in value.lines() {
                    text.push_str(&format!("{mark} {}\n", out::text(&json!(line))));
                }
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_is_told_as_it_was_and_as_it_will_be() {
        let changes = json!([
            { "what": "authority a", "before": "active", "after": "revoked" },
            { "what": "role of cert:x", "before": null, "after": "operator\u{1b}" },
        ]);
        assert_eq!(
            changes_text(Some(&changes)),
            "\nauthority a\n- active\n+ revoked\n\nrole of cert:x\n+ operator\\u{1b}\n"
        );
    }
}
