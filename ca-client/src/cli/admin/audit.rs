//! `ca audit`.

use std::io::{BufRead, BufReader, ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use ca_client::api::Call;
use ca_client::contexts::{self, ContextName};
use ca_client::printable::{printable, printable_json};
use clap::{Args, Subcommand};
use pki::audit::{Entry, Mark};
use pki::time::Timestamp;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::Verb;
use super::files::NewFile;
use super::session::{Paging, Session};
use super::trail::{Trail, Verified};
use crate::cli::exit::Exit;
use crate::cli::out::{self, Column, Form, Progress};

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
    /// Verify the whole trail: every hash, every chain's end, what chains say of each other, and what this machine remembers
    #[command(after_help = "\
Examples:
  ca audit verify
  ca audit verify --file audit-2026-11-28.jsonl

The heads that were seen are remembered in $XDG_STATE_HOME/signet/CONTEXT/audit-heads.json (else ~/.local/state): a chain that is
shorter by the next time, or another one, is a fault. Exit code 8: there are faults, each with its replica and position. A file
is compared with nothing but itself.")]
    Verify {
        /// Verify what `ca audit export` has written, without a CA; - is standard input
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
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
            Self::Verify { .. } => verify(session).await,
        }
    }

    fn alone(&self, output: Form) -> Option<Result<Exit>> {
        match self {
            Self::Verify { file: Some(file) } => Some(verify_file(file, output)),
            _ => None,
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

async fn verify(session: &Session) -> Result<Exit> {
    // A server is known by its context; without one by its address.
    let address = session.client.endpoint().authority();
    let name = session
        .context
        .as_ref()
        .map_or(address, ContextName::as_str);
    let path = contexts::state_directory(name)?.join("audit-heads.json");
    let remembered = remembered(&path)?;
    let heads = heads(session).await?;
    let mut trail = Trail::default();
    let mut progress = Progress::new("entries verified");
    for head in &heads {
        let sealed = head["sealed"] != json!(false);
        let head = mark(head)?;
        let call = Call::get(&["audit"]).query("replica", Some(&head.replica));
        let mut pages = session.client.pages(call, None);
        'chain: while let Some(items) = pages.next().await? {
            progress.add(items.len());
            for item in &items {
                let entry = entry(item)?;
                // It has come since the heads were asked for.
                if entry.position > head.position {
                    break 'chain;
                }
                trail.take(&entry);
            }
        }
        trail.head(head, sealed);
    }
    drop(progress);
    let verified = trail.end(&remembered);
    let marks = serde_json::to_vec_pretty(&verified.to_remember(remembered))?;
    contexts::save_state(&path, &marks)?;
    report(&verified, session.output)
}

fn verify_file(path: &Path, output: Form) -> Result<Exit> {
    let reader: Box<dyn BufRead> = if path == Path::new("-") {
        Box::new(std::io::stdin().lock())
    } else {
        let file = std::fs::File::open(path);
        Box::new(BufReader::new(
            file.with_context(|| format!("cannot read {}", path.display()))?,
        ))
    };
    let mut trail = Trail::default();
    let mut progress = Progress::new("entries verified");
    for (i, line) in reader.lines().enumerate() {
        let place = || format!("{}, line {}", path.display(), i + 1);
        let line = line.with_context(place)?;
        if line.trim().is_empty() {
            continue;
        }
        let value: Value = serde_json::from_str(&line).with_context(place)?;
        match value.get("head") {
            Some(head) => trail.head(
                mark(head).with_context(place)?,
                head["sealed"] != json!(false),
            ),
            None => trail.take(&entry(&value).with_context(place)?),
        }
        progress.add(1);
    }
    drop(progress);
    report(&trail.end(&[]), output)
}

/// An entry of the API, whatever else the server says of it.
fn entry(value: &Value) -> Result<Entry> {
    const KEYS: [&str; 11] = [
        "replica",
        "position",
        "at",
        "kind",
        "actor",
        "remote",
        "rule",
        "request_id",
        "detail",
        "previous",
        "hash",
    ];
    only(value, &KEYS).context("an entry of the audit trail does not read")
}

fn mark(value: &Value) -> Result<Mark> {
    only(value, &["replica", "position", "hash"]).context("a head of the audit trail does not read")
}

fn only<T: DeserializeOwned>(value: &Value, keys: &[&str]) -> Result<T> {
    let map = value.as_object().context("it is no object")?;
    let known = map.iter().filter(|(key, _)| keys.contains(&key.as_str()));
    let known: Map<String, Value> = known
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    Ok(serde_json::from_value(Value::Object(known))?)
}

fn remembered(path: &Path) -> Result<Vec<Mark>> {
    match std::fs::read(path) {
        Ok(text) => serde_json::from_slice(&text).with_context(|| {
            format!(
                "{} does not read; it says how far the trail had come: keep a copy before you remove it",
                path.display()
            )
        }),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

fn report(verified: &Verified, output: Form) -> Result<Exit> {
    if output == Form::Table {
        for fault in &verified.faults {
            out::say(&printable(&fault.to_string()))?;
        }
        for (replica, entries, head) in &verified.chains {
            let head = match head {
                Some(head) => format!(
                    "position {}, {}",
                    head.position,
                    pki::crypto::hex(&head.hash)
                ),
                None => "-".to_owned(),
            };
            out::say(&format!(
                "{}: {entries} entries, head {head}",
                printable(replica)
            ))?;
        }
        out::say(&match verified.faults.len() {
            0 => "no fault".to_owned(),
            count => format!("{count} fault(s)"),
        })?;
    } else {
        out::json(&verified.document(), output)?;
    }
    if verified.faults.is_empty() {
        return Ok(Exit::Done);
    }
    out::note(
        "what to do: keep a copy of the database and of its backups as they are, and compare them with an export that was kept elsewhere",
    );
    Ok(Exit::Faults)
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
