//! `ca-server cluster`.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Subcommand;
use pki::name::ClusterName;

use crate::app::cluster::{ClusterDefinition, apply};
use crate::config::Config;

#[derive(Debug, Subcommand)]
pub(super) enum ClusterCommand {
    /// Create a cluster from its definition, or change it.
    Apply {
        /// TOML: name, trust_domain, default_ttl, max_ttl, strict, [[token_issuer]], [token_review], [[rule]].
        file: PathBuf,
    },
    /// List clusters.
    List,
    /// Print a cluster's definition.
    Show {
        /// Its id.
        cluster: ClusterName,
    },
}

pub(super) async fn run(command: ClusterCommand, config: &Config) -> Result<()> {
    match command {
        ClusterCommand::Apply { file } => {
            let definition = read(&file)?;
            let context = super::open(config).await?;
            let done = apply(&context, &definition, &super::actor()).await?;
            say!("cluster {} {done}", definition.name);
        }
        ClusterCommand::List => {
            for row in super::open_store(config).await?.clusters().await? {
                say!("{:<24} {}", row.name, row.trust_domain);
            }
        }
        ClusterCommand::Show { cluster } => {
            let store = super::open_store(config).await?;
            let row = store.cluster(&cluster).await?;
            let row = row.with_context(|| format!("there is no cluster {cluster}"))?;
            let definition: ClusterDefinition = serde_json::from_str(&row.definition)?;
            say!("{}", toml::to_string(&definition)?);
        }
    }
    Ok(())
}

/// Reads a definition; a `jwks_file` in it is read here, beside it, and its keys are pinned.
fn read(file: &Path) -> Result<ClusterDefinition> {
    let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let mut table: toml::Table = text.parse().with_context(|| file.display().to_string())?;
    let issuers = table
        .get_mut("token_issuer")
        .and_then(toml::Value::as_array_mut);
    for issuer in issuers
        .into_iter()
        .flatten()
        .filter_map(toml::Value::as_table_mut)
    {
        let Some(name) = issuer.remove("jwks_file") else {
            continue;
        };
        let name = name
            .as_str()
            .context("token_issuer.jwks_file: expected a file's name")?;
        let path = file.parent().unwrap_or(Path::new(".")).join(name);
        let json = std::fs::read(&path)
            .with_context(|| format!("token_issuer.jwks_file: {}", path.display()))?;
        let value: serde_json::Value = serde_json::from_slice(&json)
            .with_context(|| format!("token_issuer.jwks_file: {}", path.display()))?;
        issuer.insert("jwks".to_owned(), toml::Value::try_from(value)?);
    }
    toml::Value::Table(table)
        .try_into()
        .with_context(|| file.display().to_string())
}
