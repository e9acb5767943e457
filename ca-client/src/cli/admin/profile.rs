//! `ca profile`.

use anyhow::Result;
use ca_client::api::Call;
use clap::Subcommand;
use pki::name::ProfileName;

use super::Verb;
use super::session::{Paging, Session};
use crate::cli::exit::Exit;
use crate::cli::out::Column;

const COLUMNS: &[Column] = &[
    Column::of("NAME", "name"),
    Column::of("DEFAULT TTL", "default_ttl"),
    Column::of("MAX TTL", "max_ttl"),
    Column::of("KEYS", "keys"),
];

#[derive(Debug, Subcommand)]
pub(crate) enum ProfileVerb {
    /// List the profiles
    #[command(after_help = "Example:\n  ca profile list")]
    List(Paging),
    /// Print a profile
    #[command(after_help = "Example:\n  ca profile show server")]
    Show {
        /// The profile
        profile: ProfileName,
    },
}

impl Verb for ProfileVerb {
    async fn run(self, session: &Session) -> Result<Exit> {
        match self {
            Self::List(paging) => {
                let call = Call::get(&["profiles"]);
                session.list(call, paging, COLUMNS).await
            }
            Self::Show { profile } => {
                session
                    .show(
                        &["profiles", profile.as_str()],
                        &["name", "default_ttl", "max_ttl"],
                    )
                    .await
            }
        }
    }
}
