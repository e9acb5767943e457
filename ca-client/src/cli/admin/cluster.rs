//! `ca cluster`.

use std::path::PathBuf;

use anyhow::Result;
use ca_client::api::Call;
use clap::Subcommand;
use pki::name::ClusterName;
use serde_json::Value;

use super::session::{Paging, Session};
use super::{Verb, definition, diff};
use crate::cli::exit::Exit;
use crate::cli::out::{self, Column, Form};

const COLUMNS: &[Column] = &[
    Column::of("NAME", "definition.name"),
    Column::of("TRUST DOMAIN", "definition.trust_domain"),
    Column::of("DEFAULT TTL", "definition.default_ttl"),
    Column::of("MAX TTL", "definition.max_ttl"),
    Column::of("STRICT", "definition.strict"),
    Column::of("ACTIVE AUTHORITY", "active_authority"),
];

const FIRST: &[&str] = &["active_authority", "version", "definition"];

#[derive(Debug, Subcommand)]
pub(crate) enum ClusterVerb {
    /// List the clusters
    #[command(after_help = "Example:\n  ca cluster list")]
    List(Paging),
    /// Print a cluster's definition
    #[command(after_help = "Example:\n  ca cluster show central --output json")]
    Show {
        /// The cluster
        cluster: ClusterName,
    },
    /// Make a cluster from its definition; it fails where there is one of that name
    #[command(after_help = "Example:\n  ca cluster create -f central.toml")]
    Create {
        /// TOML: name, trust_domain, default_ttl, max_ttl, strict, [[token_issuer]], [token_review], [[rule]]
        #[arg(short, long, value_name = "FILE")]
        file: PathBuf,
    },
    /// Make a cluster from its definition, or change it to what the file says; prints what changes
    #[command(after_help = "\
Examples:
  ca cluster apply -f central.toml --dry-run
  ca cluster apply -f central.toml

A jwks_file in it is read beside it, and its keys are pinned. What somebody else changes between reading and writing is not
written over: exit code 5, and the same command again shows the new difference.")]
    Apply {
        /// TOML: name, trust_domain, default_ttl, max_ttl, strict, [[token_issuer]], [token_review], [[rule]]
        #[arg(short, long, value_name = "FILE")]
        file: PathBuf,
        /// Print what would change, and change nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Remove a cluster that has no authority any more
    #[command(after_help = "Example:\n  ca cluster delete old-edge")]
    Delete {
        /// The cluster
        cluster: ClusterName,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

impl Verb for ClusterVerb {
    async fn run(self, session: &Session) -> Result<Exit> {
        match self {
            Self::List(paging) => {
                let call = Call::get(&["clusters"]);
                session.list(call, paging, COLUMNS).await
            }
            Self::Show { cluster } => session.show(&["clusters", cluster.as_str()], FIRST).await,
            Self::Create { file } => create(session, definition::read(&file)?).await,
            Self::Apply { file, dry_run } => {
                apply(session, definition::read(&file)?, dry_run).await
            }
            Self::Delete { cluster, yes } => delete(session, &cluster, yes).await,
        }
    }
}

async fn create(session: &Session, definition: Value) -> Result<Exit> {
    let name = out::text(&definition["name"]);
    let call = Call::post(&["clusters"], definition);
    session
        .act(call, |_| format!("cluster {name} created"))
        .await
}

async fn apply(session: &Session, definition: Value, dry_run: bool) -> Result<Exit> {
    let name = definition["name"].as_str().unwrap_or_default().to_owned();
    let segments = ["clusters", name.as_str()];
    let found = session.read_if_there(&segments).await?;
    let before = found.as_ref().map_or(Value::Null, |(value, _)| {
        definition::normal(&value["definition"])
    });
    let lines = diff::lines(&before, &definition::normal(&definition));
    for line in &lines {
        match session.output {
            Form::Table => out::say(line)?,
            _ => out::note(line),
        }
    }
    match found {
        Some((value, _)) if lines.is_empty() => match session.output {
            Form::Table => out::say(&format!("cluster {name} unchanged"))?,
            form => out::json(&value, form)?,
        },
        _ if dry_run => out::note("nothing was changed (--dry-run)"),
        Some((_, etag)) => {
            let call = Call::put(&segments, &etag, definition);
            return session
                .act(call, |_| format!("cluster {name} changed"))
                .await;
        }
        None => return create(session, definition).await,
    }
    Ok(Exit::Done)
}

async fn delete(session: &Session, cluster: &ClusterName, yes: bool) -> Result<Exit> {
    let segments = ["clusters", cluster.as_str()];
    let (value, etag) = session.read(&segments).await?;
    let authorities = Call::get(&["authorities"]).query("cluster", Some(cluster));
    let authorities = session.collect(authorities).await?;
    out::note(&format!(
        "cluster {cluster}, trust domain {}, with {} authority(ies)",
        out::text(&value["definition"]["trust_domain"]),
        authorities.len()
    ));
    for authority in &authorities {
        out::note(&format!(
            "  {}  {}",
            out::text(&authority["id"]),
            out::text(&authority["state"])
        ));
    }
    out::confirm(&format!("delete cluster {cluster}"), yes)?;
    session
        .act(Call::delete(&segments, &etag), |_| {
            format!("cluster {cluster} deleted")
        })
        .await
}
