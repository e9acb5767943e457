//! `ca-server enrolment`.

use anyhow::{Result, bail};
use clap::Subcommand;
use pki::name::{ClusterName, ProfileName, SpiffePattern};
use pki::time::Ttl;

use crate::app::enrolment;
use crate::config::Config;

#[derive(Debug, Subcommand)]
pub(super) enum EnrolmentCommand {
    /// Make a token for one certificate; it is printed once, on stdout alone.
    Create {
        /// The cluster.
        cluster: ClusterName,
        /// The identity, or a pattern with `*` for one segment and a last `**` for any: spiffe://td/edge/*
        #[arg(long)]
        spiffe_id: SpiffePattern,
        /// The profile it is for.
        #[arg(long, default_value = "workload")]
        profile: ProfileName,
        /// How long it may wait for its use, 90d at most.
        #[arg(long, default_value = "1h")]
        ttl: Ttl,
    },
    /// List tokens (never the tokens themselves).
    List,
    /// Make a token useless.
    Revoke {
        /// The token's id.
        id: String,
    },
}

pub(super) async fn run(command: EnrolmentCommand, config: &Config) -> Result<()> {
    match command {
        EnrolmentCommand::Create {
            cluster,
            spiffe_id,
            profile,
            ttl,
        } => {
            let context = super::open(config).await?;
            let new =
                enrolment::create(&context, &cluster, spiffe_id, profile, ttl, &super::actor())
                    .await?;
            eprintln!(
                "enrolment {} for {} until {}",
                new.row.id, new.row.pattern, new.row.expires_at
            );
            say!("{}", new.token);
        }
        EnrolmentCommand::List => {
            for row in super::open_store(config).await?.enrolments().await? {
                let state = match (row.revoked_at, row.consumed_at) {
                    (Some(at), _) => format!("revoked {at}"),
                    (None, Some(at)) => format!("used {at}"),
                    (None, None) => format!("until {}", row.expires_at),
                };
                say!(
                    "{:<14} {:<16} {:<48} {state}",
                    row.id,
                    row.cluster,
                    row.pattern
                );
            }
        }
        EnrolmentCommand::Revoke { id } => {
            let context = super::open(config).await?;
            if !enrolment::revoke(&context, &id, &super::actor()).await? {
                bail!(
                    "nothing was revoked: there is no enrolment {id}, or it is revoked already (`ca-server enrolment list`)"
                );
            }
            say!("enrolment {id} revoked");
        }
    }
    Ok(())
}
