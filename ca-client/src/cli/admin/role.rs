//! `ca role`: who may do what.

use anyhow::Result;
use ca_client::api::Call;
use clap::{Subcommand, ValueEnum};
use pki::name::ClusterName;
use serde_json::json;

use super::Verb;
use super::session::{Paging, Session};
use crate::cli::exit::Exit;
use crate::cli::out::{self, Column};

const COLUMNS: &[Column] = &[
    Column::of("ID", "id"),
    Column::of("PRINCIPAL", "principal"),
    Column::of("ROLE", "role"),
    Column::of("CLUSTERS (- IS ALL)", "clusters"),
];

/// What a principal may do; each may what the one before may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum RoleName {
    /// Reads
    Viewer,
    /// Runs the clusters
    Operator,
    /// Decides whom everyone trusts
    SecurityOfficer,
}

impl RoleName {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::SecurityOfficer => "security-officer",
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum RoleVerb {
    /// List the role bindings
    #[command(after_help = "Example:\n  ca role list")]
    List(Paging),
    /// Give a principal a role
    #[command(after_help = "\
Examples:
  ca role bind cert:ada operator --cluster central
  ca role bind 'oidc-group:https://idp.example#sre' viewer")]
    Bind {
        /// cert:NAME, oidc:ISSUER#SUBJECT or oidc-group:ISSUER#GROUP
        principal: String,
        /// The role
        #[arg(value_enum)]
        role: RoleName,
        /// In this cluster alone; may be given several times [default: everywhere]
        #[arg(long, value_name = "NAME")]
        cluster: Vec<ClusterName>,
    },
    /// Take a role away
    #[command(after_help = "Example:\n  ca role unbind 7c1e")]
    Unbind {
        /// The binding's id (`ca role list`)
        id: String,
    },
}

impl Verb for RoleVerb {
    async fn run(self, session: &Session) -> Result<Exit> {
        match self {
            Self::List(paging) => {
                let call = Call::get(&["role-bindings"]);
                session.list(call, paging, COLUMNS).await
            }
            Self::Bind {
                principal,
                role,
                cluster,
            } => {
                let clusters = if cluster.is_empty() {
                    json!(null)
                } else {
                    json!(cluster)
                };
                let body =
                    json!({ "principal": principal, "role": role.as_str(), "clusters": clusters });
                let call = Call::post(&["role-bindings"], body);
                session
                    .act(call, |value| {
                        format!(
                            "{} is {} now (binding {})",
                            out::text(&json!(principal)),
                            role.as_str(),
                            out::text(&value["id"])
                        )
                    })
                    .await
            }
            Self::Unbind { id } => {
                let done = format!("binding {} is gone", out::text(&json!(id)));
                session.remove(&["role-bindings", &id], &done).await
            }
        }
    }
}
