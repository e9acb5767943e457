//! `ca-server records`.

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};
use pki::name::ClusterName;
use pki::serial::Serial;
use pki::time::Timestamp;

use crate::config::Config;
use crate::store::model::{RecordFilter, StoredRecord};

#[derive(Debug, Subcommand)]
pub(super) enum RecordsCommand {
    /// List records, newest first where the store keeps them so.
    List(Filter),
    /// Print a record and its certificate.
    Show {
        /// The serial number, hexadecimal.
        serial: Serial,
    },
}

#[derive(Debug, Args)]
pub(super) struct Filter {
    /// Of this cluster.
    #[arg(long)]
    cluster: Option<ClusterName>,
    /// With this SPIFFE id.
    #[arg(long)]
    spiffe_id: Option<String>,
    /// With this host name.
    #[arg(long, conflicts_with = "spiffe_id")]
    dns: Option<String>,
    /// By this caller.
    #[arg(long)]
    caller: Option<String>,
    /// That expire from this time on (RFC 3339).
    #[arg(long)]
    expires_from: Option<Timestamp>,
    /// That expire before this time (RFC 3339).
    #[arg(long)]
    expires_to: Option<Timestamp>,
    /// At most so many, 500 at most.
    #[arg(long, default_value_t = 50)]
    limit: u32,
}

pub(super) async fn run(command: RecordsCommand, config: &Config) -> Result<()> {
    let store = super::open_store(config).await?;
    match command {
        RecordsCommand::List(filter) => {
            let name = filter
                .spiffe_id
                .map(|id| format!("URI:{id}"))
                .or(filter.dns.map(|name| format!("DNS:{name}")));
            let recent = RecordFilter::recent(super::system_now());
            let filter = RecordFilter {
                cluster: filter.cluster,
                name,
                caller: filter.caller,
                expires_from: filter.expires_from.unwrap_or(recent.expires_from),
                expires_to: filter.expires_to.unwrap_or(recent.expires_to),
                limit: filter.limit,
                ..recent
            };
            let found = store.search(&filter).await?;
            super::print(&found.iter().map(line).collect::<String>())?;
        }
        RecordsCommand::Show { serial } => {
            let stored = store.record(&serial).await?;
            let stored =
                stored.with_context(|| format!("there is no certificate {serial} on record"))?;
            super::print(&show(&stored))?;
        }
    }
    Ok(())
}

fn line(stored: &StoredRecord) -> String {
    let record = &stored.record;
    let names = match record.names.join(",") {
        names if names.is_empty() => "-".to_owned(),
        names => names,
    };
    format!(
        "{} {:<20} {} {} {names} by {}\n",
        record.serial, record.authority, record.issued_at, record.not_after, record.caller
    )
}

fn show(stored: &StoredRecord) -> String {
    let record = &stored.record;
    let asked = match record.asked_ttl {
        Some(seconds) => format!("{seconds} s"),
        None => "no lifetime".to_owned(),
    };
    let revoked = match stored.revoked {
        Some((at, reason)) => format!("{at}, reason {reason}"),
        None => "no".to_owned(),
    };
    let lines = [
        ("serial", record.serial.to_string()),
        (
            "authority",
            format!("{} (log index {})", record.authority, stored.log_index),
        ),
        ("cluster", record.cluster.to_string()),
        (
            "profile",
            format!("{} by rule {}", record.profile, record.rule),
        ),
        ("names", record.names.join(", ")),
        (
            "asked",
            format!("{} for {asked}", record.asked_names.join(", ")),
        ),
        ("issued", record.issued_at.to_string()),
        (
            "valid",
            format!("{} to {}", record.not_before, record.not_after),
        ),
        (
            "caller",
            format!("{} ({})", record.caller, record.caller_kind),
        ),
        (
            "detail",
            record.caller_detail.clone().unwrap_or_else(|| "-".into()),
        ),
        ("key", pki::crypto::hex(&record.key_digest)),
        ("request", pki::crypto::hex(&record.request_digest)),
        ("leaf hash", pki::crypto::hex(&record.leaf_hash)),
        ("request id", record.request_id.clone()),
        ("revoked", revoked),
    ];
    let mut text: String = lines
        .iter()
        .map(|(key, value)| format!("{key:<12} {value}\n"))
        .collect();
    text.push_str(&pki::pem::certificate(&record.der));
    text
}
