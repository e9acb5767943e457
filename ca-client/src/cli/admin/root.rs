//! `ca root`: the roots that everyone of a trust domain believes in.

use anyhow::{Result, bail};
use ca_client::api::Call;
use clap::Subcommand;
use pki::certificate::Certificate;
use pki::name::TrustDomain;
use serde_json::{Value, json};

use super::Verb;
use super::authority::digest;
use super::session::Session;
use crate::cli::exit::Exit;
use crate::cli::out::{self, Column, Form, Table};

const COLUMNS: &[Column] = &[
    Column::of("TRUST DOMAIN", "trust_domain"),
    Column::of("SEQUENCE", "sequence"),
    Column::of("ROOT (SHA-256)", "sha256"),
    Column::of("SUBJECT", "subject"),
    Column::time("UNTIL", "not_after"),
];

#[derive(Debug, Subcommand)]
pub(crate) enum RootVerb {
    /// List the roots, bundle by bundle; with --output json the bundles
    #[command(after_help = "Example:\n  ca root list --trust-domain example.mesh")]
    List {
        /// Of this trust domain alone
        #[arg(long, value_name = "NAME")]
        trust_domain: Option<TrustDomain>,
    },
    /// Have nobody of a trust domain believe in a root any more
    #[command(after_help = "\
Example:
  ca root remove example.mesh 5f3c…

What was issued under it, and not under another root, fails at once everywhere.")]
    Remove {
        /// The trust domain
        trust_domain: TrustDomain,
        /// The SHA-256 of the root (of its DER)
        #[arg(value_name = "SHA256", value_parser = digest)]
        sha256: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

impl Verb for RootVerb {
    async fn run(self, session: &Session) -> Result<Exit> {
        match self {
            Self::List { trust_domain } => list(session, trust_domain).await,
            Self::Remove {
                trust_domain,
                sha256,
                yes,
            } => remove(session, &trust_domain, &sha256, yes).await,
        }
    }
}

async fn list(session: &Session, trust_domain: Option<TrustDomain>) -> Result<Exit> {
    let bundles = match &trust_domain {
        Some(name) => vec![session.read(&["bundles", name.as_str()]).await?.0],
        None => session.collect(Call::get(&["bundles"])).await?,
    };
    match session.output {
        Form::Table => {
            let rows: Vec<Value> = bundles.iter().flat_map(roots).collect();
            out::put(Table::new(COLUMNS, session.now).rows(&rows).as_bytes())?;
        }
        Form::Json => out::json(&Value::Array(bundles), Form::Json)?,
        Form::Jsonl => {
            for bundle in &bundles {
                out::json(bundle, Form::Jsonl)?;
            }
        }
    }
    Ok(Exit::Done)
}

/// A row for each root of a bundle.
fn roots(bundle: &Value) -> Vec<Value> {
    let roots = bundle["roots"].as_array().map(Vec::as_slice);
    let row = |root: &Value| {
        let mut row = match root {
            Value::Object(_) => root.clone(),
            // PEM alone: what the table shows is read from it.
            _ => described(root.as_str().unwrap_or_default()),
        };
        for key in ["trust_domain", "sequence"] {
            row[key] = bundle[key].clone();
        }
        row
    };
    roots.unwrap_or_default().iter().map(row).collect()
}

fn described(pem: &str) -> Value {
    match Certificate::parse_pem(pem.as_bytes()).as_deref() {
        Ok([root, ..]) => json!({
            "sha256": pki::crypto::hex(&root.digest()),
            "subject": pki::describe::name(root.subject()),
            "not_after": root.not_after().to_string(),
        }),
        _ => json!({}),
    }
}

async fn remove(
    session: &Session,
    trust_domain: &TrustDomain,
    root: &str,
    yes: bool,
) -> Result<Exit> {
    let (bundle, etag) = session.read(&["bundles", trust_domain.as_str()]).await?;
    let all = roots(&bundle);
    let Some(row) = all.iter().find(|row| row["sha256"] == json!(root)) else {
        bail!(
            "no root of {trust_domain} has the SHA-256 {root}: see `ca root list --trust-domain {trust_domain}`"
        );
    };
    out::note(&format!(
        "remove {} (until {}) from the {} root(s) of {trust_domain}",
        out::text(&row["subject"]),
        out::text(&row["not_after"]),
        all.len()
    ));
    out::confirm(&format!("remove root {root} from {trust_domain}"), yes)?;
    let segments = ["bundles", trust_domain.as_str(), "roots", root];
    session
        .act(Call::delete(&segments, &etag), |_| {
            format!("root {root} removed from {trust_domain}")
        })
        .await
}
