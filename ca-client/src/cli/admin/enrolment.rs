//! `ca enrolment`.

use anyhow::Result;
use ca_client::api::Call;
use clap::Subcommand;
use pki::name::{ClusterName, ProfileName, SpiffePattern};
use pki::time::Ttl;
use serde_json::json;

use super::Verb;
use super::session::{Paging, Session};
use crate::cli::exit::Exit;
use crate::cli::out::{self, Column, Form};

const COLUMNS: &[Column] = &[
    Column::of("ID", "id"),
    Column::of("CLUSTER", "cluster"),
    Column::of("SPIFFE ID", "spiffe_id"),
    Column::of("PROFILE", "profile"),
    Column::of("STATE", "state"),
    Column::time("UNTIL", "expires_at"),
];

#[derive(Debug, Subcommand)]
pub(crate) enum EnrolmentVerb {
    /// List enrolment tokens (never the tokens themselves)
    #[command(after_help = "Example:\n  ca enrolment list --cluster central")]
    List {
        /// Of this cluster
        #[arg(long, value_name = "NAME")]
        cluster: Option<ClusterName>,
        #[command(flatten)]
        paging: Paging,
    },
    /// Print an enrolment
    #[command(after_help = "Example:\n  ca enrolment show 3f2a91")]
    Show {
        /// Its id
        id: String,
    },
    /// Make a token for one certificate; it is printed once, on standard output alone
    #[command(after_help = "\
Example:
  ca enrolment create central --spiffe-id spiffe://example.mesh/edge/gateway-7 > gateway-7.token")]
    Create {
        /// The cluster
        cluster: ClusterName,
        /// The identity, or a pattern with * for one segment and a last ** for any: spiffe://td/edge/*
        #[arg(long, value_name = "PATTERN")]
        spiffe_id: SpiffePattern,
        /// The profile it is for
        #[arg(long, default_value = "workload", value_name = "NAME")]
        profile: ProfileName,
        /// How long it may wait for its use, 90d at most
        #[arg(long, default_value = "1h", value_name = "TTL")]
        ttl: Ttl,
    },
    /// Make a token useless
    #[command(after_help = "Example:\n  ca enrolment revoke 3f2a91")]
    Revoke {
        /// Its id
        id: String,
    },
}

impl Verb for EnrolmentVerb {
    async fn run(self, session: &Session) -> Result<Exit> {
        match self {
            Self::List { cluster, paging } => {
                let call = Call::get(&["enrolments"]).query("cluster", cluster);
                session.list(call, paging, COLUMNS).await
            }
            Self::Show { id } => {
                let first = [
                    "id",
                    "cluster",
                    "spiffe_id",
                    "profile",
                    "state",
                    "expires_at",
                ];
                session.show(&["enrolments", &id], &first).await
            }
            Self::Create {
                cluster,
                spiffe_id,
                profile,
                ttl,
            } => {
                let body = json!({
                    "cluster": cluster,
                    "spiffe_id": spiffe_id.to_string(),
                    "profile": profile,
                    "ttl": ttl,
                });
                let answer = session.send(&Call::post(&["enrolments"], body)).await?;
                let value = answer.json()?;
                if answer.is_proposal() {
                    return session.waits(&value);
                }
                if session.output != Form::Table {
                    out::json(&value, session.output)?;
                    return Ok(Exit::Done);
                }
                out::note(&format!(
                    "enrolment {} for {spiffe_id} until {}",
                    out::text(&value["enrolment"]["id"]),
                    out::annotated(&out::text(&value["enrolment"]["expires_at"]), session.now)
                ));
                out::say(&out::text(&value["token"]))?;
                Ok(Exit::Done)
            }
            Self::Revoke { id } => {
                let done = format!("enrolment {} revoked", out::text(&json!(id)));
                session.remove(&["enrolments", &id], &done).await
            }
        }
    }
}
