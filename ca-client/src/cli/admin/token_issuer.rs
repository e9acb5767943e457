//! `ca token-issuer`: whose service-account tokens a cluster believes.

use std::path::PathBuf;

use anyhow::Result;
use ca_client::api::Call;
use clap::Subcommand;
use pki::name::ClusterName;
use pki::time::Ttl;
use serde_json::{Map, json};

use super::session::{Paging, Session};
use super::{Verb, definition};
use crate::cli::exit::Exit;
use crate::cli::out::Column;

const COLUMNS: &[Column] = &[
    Column::of("ISSUER", "issuer"),
    Column::of("AUDIENCES", "audiences"),
    Column::of("MAX LIFETIME", "max_token_lifetime"),
    Column::of("POD ONLY", "require_pod"),
];

#[derive(Debug, Subcommand)]
pub(crate) enum TokenIssuerVerb {
    /// List a cluster's token issuers
    #[command(after_help = "Example:\n  ca token-issuer list central")]
    List {
        /// The cluster
        cluster: ClusterName,
        #[command(flatten)]
        paging: Paging,
    },
    /// Believe an issuer's tokens, or change what is believed; its keys are pinned
    #[command(after_help = "\
Example:
  kubectl get --raw /openid/v1/jwks > jwks.json
  ca token-issuer set central https://kubernetes.default.svc.cluster.local --jwks jwks.json")]
    Set {
        /// The cluster
        cluster: ClusterName,
        /// The `iss` of its tokens, byte for byte
        issuer: String,
        /// Its keys, as the API server's /openid/v1/jwks answers them
        #[arg(long, value_name = "FILE")]
        jwks: PathBuf,
        /// Whom a token must be for; may be given several times [default: istio-ca]
        #[arg(long, value_name = "NAME")]
        audience: Vec<String>,
        /// The longest that a token may have been made to live [default: 24h]
        #[arg(long, value_name = "TTL")]
        max_lifetime: Option<Ttl>,
        /// Take only tokens that are bound to a pod
        #[arg(long)]
        require_pod: bool,
    },
    /// Believe an issuer's tokens no more
    #[command(after_help = "Example:\n  ca token-issuer remove central https://old.example")]
    Remove {
        /// The cluster
        cluster: ClusterName,
        /// The `iss` of its tokens
        issuer: String,
    },
}

impl Verb for TokenIssuerVerb {
    async fn run(self, session: &Session) -> Result<Exit> {
        match self {
            Self::List { cluster, paging } => {
                let call = Call::get(&["clusters", cluster.as_str(), "token-issuers"]);
                session.list(call, paging, COLUMNS).await
            }
            Self::Set {
                cluster,
                issuer,
                jwks,
                audience,
                max_lifetime,
                require_pod,
            } => {
                let mut body = Map::new();
                let mut put = |key: &str, value| body.insert(key.to_owned(), value);
                put("issuer", json!(issuer));
                put("jwks", definition::read_jwks(&jwks)?);
                put("require_pod", json!(require_pod));
                if !audience.is_empty() {
                    put("audiences", json!(audience));
                }
                if let Some(ttl) = max_lifetime {
                    put("max_token_lifetime", json!(ttl));
                }
                let etag = version(session, &cluster).await?;
                let segments = ["clusters", cluster.as_str(), "token-issuers"];
                let call = Call::put(&segments, &etag, body.into());
                session
                    .act(call, |_| {
                        format!("cluster {cluster} believes tokens of {issuer}")
                    })
                    .await
            }
            Self::Remove { cluster, issuer } => {
                let etag = version(session, &cluster).await?;
                let segments = ["clusters", cluster.as_str(), "token-issuers"];
                let call = Call::delete(&segments, &etag).query("issuer", Some(&issuer));
                session
                    .act(call, |_| {
                        format!("cluster {cluster} believes tokens of {issuer} no more")
                    })
                    .await
            }
        }
    }
}

/// Issuers are parts of their cluster's definition, and have its version.
async fn version(session: &Session, cluster: &ClusterName) -> Result<String> {
    let (_, etag) = session.read(&["clusters", cluster.as_str()]).await?;
    Ok(etag)
}
