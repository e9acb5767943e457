//! `ca-server audit`.

use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::{Args, Subcommand};
use pki::audit::{Entry, Mark};
use pki::time::Timestamp;

use crate::app::audit::{self, Findings};
use crate::app::printable;
use crate::app::status::watermark;
use crate::config::Config;
use crate::store::Store;
use crate::store::model::{AuditCursor, AuditFilter, AuditRow};

#[derive(Debug, Subcommand)]
pub(super) enum AuditCommand {
    /// List what was done and refused, newest first; with --replica one chain from its beginning.
    List(Filter),
    /// Read the whole trail and show that nothing in it was changed, taken out, put in or cut off; exits with 1 where something
    /// was, and names it.
    Verify {
        /// A file of lines that were exported before: each has to be in the trail as it is.
        #[arg(long, value_name = "FILE")]
        against: Option<PathBuf>,
        /// Hold each certificate that lives against its record and its authority's key, too: that takes its time.
        #[arg(long)]
        records: bool,
    },
    /// Write the whole trail as JSON lines, chain by chain; docs/audit.md says how they are verified.
    Export {
        /// The file, which must not be there yet.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
}

#[derive(Debug, Args)]
pub(super) struct Filter {
    /// Of this replica's chain, oldest first.
    #[arg(long)]
    replica: Option<String>,
    /// Of this kind, such as cluster.apply.
    #[arg(long)]
    kind: Option<String>,
    /// By this principal.
    #[arg(long)]
    actor: Option<String>,
    /// At this time or later (RFC 3339).
    #[arg(long)]
    from: Option<Timestamp>,
    /// Before this time (RFC 3339).
    #[arg(long)]
    to: Option<Timestamp>,
    /// At most so many, 500 at most.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=i64::from(AuditFilter::LIMIT_MAX)))]
    limit: u32,
    /// What comes after this one: the replica and position at the beginning of the last line of the page before.
    #[arg(long, value_name = "REPLICA:POSITION")]
    after: Option<String>,
}

/// Entries that are read at a time.
const PAGE: u32 = 500;

pub(super) async fn run(command: AuditCommand, config: &Config) -> Result<()> {
    match command {
        AuditCommand::List(filter) => list(filter, &super::open_store(config).await?).await,
        AuditCommand::Verify { against, records } => {
            verify(config, against.as_deref(), records).await
        }
        AuditCommand::Export { out } => {
            let count = export(&super::open_store(config).await?, &out).await;
            let count = count.with_context(|| out.display().to_string())?;
            say!("{}: {count} entries", out.display());
            Ok(())
        }
    }
}

async fn list(filter: Filter, store: &Store) -> Result<()> {
    let after = match &filter.after {
        Some(text) => Some(cursor(store, text).await?),
        None => None,
    };
    let filter = AuditFilter {
        replica: filter.replica,
        kind: filter.kind,
        actor: filter.actor,
        from: filter.from,
        to: filter.to,
        after,
        limit: filter.limit,
    };
    let rows = store.search_audit(&filter).await?;
    for row in &rows {
        let place = format!("{}:{}", row.replica, row.position);
        let words = format!(
            "{place:<20} {} {:<22} {} from {} by {} {}",
            row.at, row.kind, row.actor, row.remote, row.rule, row.detail
        );
        say!("{}", printable(&words));
    }
    if let Some(last) = rows.last().filter(|_| rows.len() == filter.limit as usize) {
        eprintln!(
            "there may be more: --after {}:{}",
            last.replica, last.position
        );
    }
    Ok(())
}

async fn cursor(store: &Store, text: &str) -> Result<AuditCursor> {
    let parsed = text
        .rsplit_once(':')
        .and_then(|(replica, position)| Some((replica, position.parse().ok()?)));
    let Some((replica, position)) = parsed else {
        bail!("--after is like ca-1:250");
    };
    let rows = store.audit_entries(replica, position, 1).await?;
    let row = rows.iter().find(|row| row.position == position);
    let row = row.with_context(|| format!("--after: there is no entry {text}"))?;
    Ok(AuditCursor::of(row))
}

async fn verify(config: &Config, against: Option<&Path>, records: bool) -> Result<()> {
    let context = super::open_as_it_is(config).await?;
    let remembered = match &config.watermark_file {
        Some(file) => watermark::read(file)?.chains(),
        None => Vec::new(),
    };
    let mut findings = audit::verify(&context, &remembered).await?;
    let compared = match against {
        Some(file) => Some(compare(&context.store, file, &mut findings).await?),
        None => None,
    };
    let records = match records {
        true => Some(audit::verify_records(&context, &mut findings).await?),
        false => None,
    };
    for (replica, entries) in &findings.chains {
        say!("chain {replica}: {entries} entries");
    }
    say!(
        "{} links between chains, {} heads in store.watermark_file",
        findings.links,
        findings.remembered
    );
    if let (Some(count), Some(file)) = (compared, against) {
        say!("{}: {count} entries compared", file.display());
    }
    if let Some(count) = records {
        say!("{count} records of certificates that live");
    }
    for what in &findings.contradictions {
        say!("{}", printable(what));
    }
    for fault in &findings.faults {
        say!("{}", printable(&fault.to_string()));
    }
    if findings.more_faults > 0 {
        say!("and {} more", findings.more_faults);
    }
    if findings.is_whole() {
        say!("the audit trail is whole");
        return Ok(());
    }
    if findings.chains.is_empty() {
        bail!(
            "there is no audit trail: nothing was ever done in this installation, or all of it was deleted"
        );
    }
    bail!("the audit trail is not whole")
}

/// Compares lines that were exported with what the store has.
async fn compare(store: &Store, file: &Path, findings: &mut Findings) -> Result<u64> {
    let name = file.display().to_string();
    let opened = std::fs::File::open(file).with_context(|| name.clone())?;
    let mut page: Vec<AuditRow> = Vec::new();
    let mut count = 0;
    for (n, line) in BufReader::new(opened).lines().enumerate() {
        let line = line.with_context(|| name.clone())?;
        let exported: Entry = serde_json::from_str(&line)
            .with_context(|| format!("{name}, line {}: not an exported entry", n + 1))?;
        if exported.computed_hash() != exported.hash {
            bail!(
                "{name}, line {}: the line itself was changed: its hash is another one",
                n + 1
            );
        }
        let mark = exported.mark();
        if find(&page, &mark).is_none() {
            page = store
                .audit_entries(&mark.replica, mark.position, PAGE)
                .await?;
        }
        let found = find(&page, &mark).map(|row| &row.hash);
        if let Err(fault) = mark.compare(found, &name) {
            findings.add(fault);
        }
        count += 1;
    }
    Ok(count)
}

fn find<'a>(page: &'a [AuditRow], mark: &Mark) -> Option<&'a AuditRow> {
    page.iter()
        .find(|row| row.replica == mark.replica && row.position == mark.position)
}

async fn export(store: &Store, out: &Path) -> Result<u64> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    let mut file = BufWriter::new(options.open(out)?);
    let mut count = 0;
    for replica in store.audit_replicas().await? {
        let mut next = 0;
        loop {
            let page = store.audit_entries(&replica, next, PAGE).await?;
            let Some(last) = page.last() else { break };
            next = last.position + 1;
            for row in &page {
                serde_json::to_writer(&mut file, row)?;
                file.write_all(b"\n")?;
                count += 1;
            }
        }
    }
    file.flush()?;
    file.get_ref().sync_all()?;
    Ok(count)
}
