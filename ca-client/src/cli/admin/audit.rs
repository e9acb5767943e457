//! `ca audit`.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use ca_client::api::Call;
use ca_client::printable::printable_json;
use clap::{Args, Subcommand};
use pki::time::Timestamp;
use serde_json::{Value, json};

use super::Verb;
use super::files::NewFile;
use super::session::{Paging, Session};
use crate::cli::exit::Exit;
use crate::cli::out::{self, Column, Progress};

const COLUMNS: &[Column] = &[
    Column::of("REPLICA", "replica"),
    Column::of("POSITION", "position"),
    Column::of("AT", "at"),
    Column::of("KIND", "kind"),
    Column::of("ACTOR", "actor"),
    Column::of("FROM", "remote"),
    Column::of("BY RULE", "rule"),
    Column::of("DETAIL", "detail"),
];

#[derive(Debug, Subcommand)]
pub(crate) enum AuditVerb {
    /// List what was done and refused, newest first; of one replica oldest first
    #[command(after_help = "\
Examples:
  ca audit list --kind certificate.revoke --from 2026-11-01T00:00:00Z
  ca audit list --replica ca-1 --all --output jsonl")]
    List(Box<Filter>),
    /// Write the whole trail, each replica's chain from its first entry, and the heads last, one JSON document a line
    #[command(after_help = "\
Example:
  ca audit export --out audit-2026-11-28.jsonl
  ca audit verify --file audit-2026-11-28.jsonl")]
    Export {
        /// File to write, which must not be there yet [default: standard output]
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
}

/// Which entries are listed.
#[derive(Debug, Args)]
pub(crate) struct Filter {
    /// Of this replica's chain
    #[arg(long, value_name = "NAME")]
    replica: Option<String>,
    /// Of this kind, like cluster.apply or certificate.revoke
    #[arg(long, value_name = "KIND")]
    kind: Option<String>,
    /// By this principal
    #[arg(long, value_name = "WHO")]
    actor: Option<String>,
    /// At this time or later (RFC 3339)
    #[arg(long, value_name = "TIME")]
    from: Option<Timestamp>,
    /// Before this time (RFC 3339)
    #[arg(long, value_name = "TIME")]
    to: Option<Timestamp>,
    #[command(flatten)]
    paging: Paging,
}

impl Verb for AuditVerb {
    async fn run(self, session: &Session) -> Result<Exit> {
        match self {
            Self::List(filter) => {
                let call = Call::get(&["audit"])
                    .query("replica", filter.replica)
                    .query("kind", filter.kind)
                    .query("actor", filter.actor)
                    .query("from", filter.from)
                    .query("to", filter.to);
                session.list(call, filter.paging, COLUMNS).await
            }
            Self::Export { out } => export(session, out).await,
        }
    }
}

/// The heads that the server knows, one for each replica.
async fn heads(session: &Session) -> Result<Vec<Value>> {
    let (mut value, _) = session.read(&["audit", "heads"]).await?;
    match value.get_mut("heads").map(Value::take) {
        Some(Value::Array(heads)) => Ok(heads),
        _ => bail!("the server's answer has no heads"),
    }
}

async fn export(session: &Session, out_file: Option<PathBuf>) -> Result<Exit> {
    let place = out_file
        .as_deref()
        .map(|path| NewFile::create(path, 0o600))
        .transpose()?;
    // Taken first: what comes meanwhile is behind them, and nothing that they name is missing.
    let heads = heads(session).await?;
    let mut lines = Lines::new(place);
    let mut progress = Progress::new("entries exported");
    for head in &heads {
        let replica = head["replica"].as_str().unwrap_or_default();
        let last = head["position"].as_u64();
        let call = Call::get(&["audit"]).query("replica", Some(replica));
        let mut pages = session.client.pages(call, None);
        while let Some(mut items) = pages.next().await? {
            let came = items.len();
            items.retain(|entry| entry["position"].as_u64() <= last);
            lines.put(&items)?;
            progress.add(items.len());
            if items.len() < came {
                break;
            }
        }
    }
    drop(progress);
    let heads: Vec<Value> = heads
        .into_iter()
        .map(|head| json!({ "head": head }))
        .collect();
    lines.put(&heads)?;
    lines.end()?;
    Ok(Exit::Done)
}

/// Lines of JSON, to a file or to standard output.
struct Lines {
    place: Option<NewFile>,
}

impl Lines {
    fn new(place: Option<NewFile>) -> Self {
        Self { place }
    }

    fn put(&mut self, items: &[Value]) -> Result<()> {
        let mut text = Vec::new();
        for item in items {
            let line = serde_json::to_string(item).context("cannot write an entry")?;
            writeln!(text, "{}", printable_json(&line)).context("cannot write an entry")?;
        }
        match &mut self.place {
            Some(place) => place.append(&text),
            None => out::put(&text),
        }
    }

    fn end(self) -> Result<()> {
        match self.place {
            Some(place) => place.write(&[]),
            None => Ok(()),
        }
    }
}
